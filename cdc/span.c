/* Sets of key ranges; see span.h. Linear in the number of ranges, which is at most the sections of
 * a table. */
#include "cdc/span.h"

#include <stdlib.h>

#include "cdc/key.h"

#define BOUND_BYTES_MAX (1u << 20)

static int bytes_cmp(const struct buf *a, const struct buf *b) {
    return key_cmp(a->data, a->len, b->data, b->len);
}

int span_cmp_lo(const struct buf *a, const struct buf *b) {
    return bytes_cmp(a, b); /* the empty string sorts first by itself */
}

int span_cmp_hi(const struct buf *a, const struct buf *b) {
    if (a->len == 0 || b->len == 0) {
        return (a->len == 0) - (b->len == 0);
    }
    return bytes_cmp(a, b);
}

/* Order of an upper bound against a lower bound: is hi <= lo, that is, does nothing lie between? */
static bool ends_before(const struct buf *hi, const struct buf *lo) {
    return hi->len != 0 && bytes_cmp(hi, lo) <= 0;
}

bool span_holds(const struct buf *lo, const struct buf *hi, const void *key, size_t len) {
    return key_cmp(lo->data, lo->len, key, len) <= 0 &&
           (hi->len == 0 || key_cmp(key, len, hi->data, hi->len) < 0);
}

void span_copy_bound(struct buf *dst, const struct buf *src) {
    buf_init(dst, BOUND_BYTES_MAX);
    buf_put(dst, src->data, src->len);
}

void spans_init(struct spans *s) { *s = (struct spans){ 0 }; }

void spans_clear(struct spans *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        buf_release(&s->at[i].lo);
        buf_release(&s->at[i].hi);
    }
    s->count = 0;
}

void spans_release(struct spans *s) {
    spans_clear(s);
    free(s->at);
    *s = (struct spans){ 0 };
}

static void insert_at(struct spans *s, uint32_t at, const struct buf *lo, const struct buf *hi) {
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 4;
        s->at = xrealloc(s->at, s->cap * sizeof(*s->at));
    }
    memmove(s->at + at + 1, s->at + at, (s->count - at) * sizeof(*s->at));
    span_copy_bound(&s->at[at].lo, lo);
    span_copy_bound(&s->at[at].hi, hi);
    s->count++;
}

static void erase_at(struct spans *s, uint32_t at) {
    buf_release(&s->at[at].lo);
    buf_release(&s->at[at].hi);
    memmove(s->at + at, s->at + at + 1, (s->count - at - 1) * sizeof(*s->at));
    s->count--;
}

void spans_add(struct spans *s, const struct buf *lo, const struct buf *hi) {
    struct buf new_lo, new_hi;
    span_copy_bound(&new_lo, lo);
    span_copy_bound(&new_hi, hi);
    uint32_t i = 0;
    while (i < s->count) {
        struct span *x = &s->at[i];
        bool x_before = x->hi.len != 0 && bytes_cmp(&x->hi, &new_lo) < 0;
        bool x_after = new_hi.len != 0 && bytes_cmp(&new_hi, &x->lo) < 0;
        if (x_before) {
            i++;
            continue;
        }
        if (x_after) {
            break;
        }
        if (span_cmp_lo(&x->lo, &new_lo) < 0) { /* touching or overlapping: swallow it */
            buf_clear(&new_lo);
            buf_put(&new_lo, x->lo.data, x->lo.len);
        }
        if (span_cmp_hi(&x->hi, &new_hi) > 0) {
            buf_clear(&new_hi);
            buf_put(&new_hi, x->hi.data, x->hi.len);
        }
        erase_at(s, i);
    }
    insert_at(s, i, &new_lo, &new_hi);
    buf_release(&new_lo);
    buf_release(&new_hi);
}

void spans_add_apart(struct spans *s, const struct buf *lo, const struct buf *hi) {
    uint32_t i = 0;
    while (i < s->count && span_cmp_lo(&s->at[i].lo, lo) < 0) {
        i++;
    }
    insert_at(s, i, lo, hi);
}

void spans_remove(struct spans *s, const struct buf *lo, const struct buf *hi) {
    for (uint32_t i = 0; i < s->count;) {
        struct span *x = &s->at[i];
        if (ends_before(&x->hi, lo) || ends_before(hi, &x->lo)) {
            i++;
            continue;
        }
        struct buf x_lo, x_hi;
        span_copy_bound(&x_lo, &x->lo);
        span_copy_bound(&x_hi, &x->hi);
        erase_at(s, i);
        if (span_cmp_lo(&x_lo, lo) < 0) {
            insert_at(s, i++, &x_lo, lo);
        }
        if (span_cmp_hi(hi, &x_hi) < 0) {
            insert_at(s, i++, hi, &x_hi);
        }
        buf_release(&x_lo);
        buf_release(&x_hi);
    }
}

void spans_copy(struct spans *dst, const struct spans *src) {
    spans_clear(dst);
    for (uint32_t i = 0; i < src->count; i++) {
        insert_at(dst, i, &src->at[i].lo, &src->at[i].hi);
    }
}

const struct span *spans_find(const struct spans *s, const void *key, size_t len) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (span_holds(&s->at[i].lo, &s->at[i].hi, key, len)) {
            return &s->at[i];
        }
    }
    return NULL;
}

bool spans_all(const struct spans *s) {
    return s->count == 1 && s->at[0].lo.len == 0 && s->at[0].hi.len == 0;
}

void spans_take_first(struct spans *s, struct buf *lo, struct buf *hi) {
    CHECK(s->count > 0);
    span_copy_bound(lo, &s->at[0].lo);
    span_copy_bound(hi, &s->at[0].hi);
    erase_at(s, 0);
}
