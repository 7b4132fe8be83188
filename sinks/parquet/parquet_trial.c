/* When a column chunk keeps its dictionary. It starts with one and is judged when its first page
 * with enough values ends: what dictionary and indexes cost against the same values without. Where
 * that does not pay yet, but values come from a set that is nearly seen (half a page ago most were
 * known already), what a whole row group would cost decides. A dictionary that pays is judged again
 * at each page's end, and left when it is large or the page cost too much. Pure. */
#include <math.h>

#include "sinks/parquet/parquet_chunk.h"
#include "sinks/parquet/parquet_pack.h"

enum {
    TRIAL_VALUES = 2048, /* seen first: 19 in 20 of them different = no dictionary */
    JUDGED_VALUES = 256, /* fewer say nothing about the pages to come */
    DICT_BYTES_MAX = 1 << 20,
    DICT_COUNT_MAX = 1 << 16,
    PAUSE_GROUPS = 7, /* after a trial that failed */
    GROUP_PAGES = 40, /* pages a dictionary is thought to serve */
};

static size_t plain_bytes(const struct parquet_chunk *c) {
    return c->shape.width ? (size_t)c->page_present * c->shape.width : c->page_text;
}

/* Fixed values, a width each so that a copy is a load and a store. */
static void rebuild_fixed(struct parquet_chunk *c, const uint32_t *index) {
    size_t width = c->shape.width;
    const uint8_t *entries = (const uint8_t *)c->dict.values.data;
    uint8_t *to = chunk_values_room(c, plain_bytes(c));
    for (uint32_t i = 0; i < c->index_count; i++) {
        if (width == 8) {
            memcpy(to + (size_t)i * 8, entries + (size_t)index[i] * 8, 8);
        } else if (width == 4) {
            memcpy(to + (size_t)i * 4, entries + (size_t)index[i] * 4, 4);
        } else {
            memcpy(to + i * width, entries + index[i] * width, width);
        }
    }
    c->values.len += plain_bytes(c);
}

static void rebuild_texts(struct parquet_chunk *c, const uint32_t *index) {
    bool apart = c->shape.base != ENCODING_PLAIN;
    uint8_t *to = chunk_values_room(c, plain_bytes(c));
    const uint8_t *start = to;
    for (uint32_t i = 0; i < c->index_count; i++) {
        size_t len;
        const uint8_t *p = parquet_dict_value(&c->dict, index[i], &len);
        uint32_t size = (uint32_t)len;
        if (apart) {
            buf_put(&c->lengths, &size, 4);
        } else {
            memcpy(to, &size, 4);
            to += 4;
        }
        memcpy(to, p, len);
        to += len;
    }
    c->values.len += (size_t)(to - start);
}

/* Puts the open page's values where they would be without a dictionary. */
static void rebuild(struct parquet_chunk *c) {
    const uint32_t *index = (const uint32_t *)(const void *)c->indices.data;
    CHECK(c->index_count == c->page_present);
    if (c->shape.width) {
        rebuild_fixed(c, index);
    } else {
        rebuild_texts(c, index);
    }
}

/* Leaves the dictionary before any page needs it; its values become the page's. */
static void leave(struct parquet_chunk *c, bool again) {
    if (c->values.len == 0 && c->index_count > 0) {
        rebuild(c);
    }
    if (c->shape.width == 0) {
        struct parquet_range r = { 0 };
        for (uint32_t i = 0; i < c->dict.count; i++) { /* every entry came in this page */
            size_t len;
            const uint8_t *p = parquet_dict_value(&c->dict, i, &len);
            range_value(&r, c->shape.order, p, len);
        }
        bounds_take(&c->page_bounds, c->shape.order, &r);
    }
    c->index_count = 0;
    buf_clear(&c->indices);
    if (again) {
        parquet_dict_clear(&c->dict);
        return;
    }
    parquet_dict_release(&c->dict);
    c->dict_state = DICT_LEFT;
    c->dict_pause = PAUSE_GROUPS;
}

void trial_give_up(struct parquet_chunk *c, struct chunk_scratch *s) {
    chunk_page_close(c, s, false);
    if (c->dict_state == DICT_TRIAL) {
        parquet_dict_release(&c->dict);
    }
    c->dict_state = DICT_LEFT;
}

void trial_after_slice(struct parquet_chunk *c) {
    if (c->dict_state != DICT_TRIAL || c->index_count < TRIAL_VALUES) {
        return;
    }
    if ((uint64_t)c->dict.count * 20 > (uint64_t)c->index_count * 19) {
        leave(c, false);
        return;
    }
    if (c->dict_half_of == 0 && c->index_count >= PAGE_ROWS_MAX / 4) {
        c->dict_half = c->dict.count;
        c->dict_half_of = c->index_count;
    }
}

static double index_bytes(double values, double entries) {
    return values * (entries > 1 ? ceil(log2(entries)) : 1) / 8;
}

/* Distinct values among n drawn from a set of size. */
static double drawn(double size, double n) { return size * (1 - exp(-n / size)); }

/* Would a whole row group's pages like this one pay? */
static bool pays_later(const struct parquet_chunk *c, double alternative) {
    double n = c->index_count;
    double seen = c->dict.count;
    if (seen > n * 0.75 || c->dict_half_of == 0 || c->dict_half_of * 5 > c->index_count * 4) {
        return false;
    }
    double low = seen;
    double high = seen * 100;
    for (int i = 0; i < 50; i++) {
        double middle = (low + high) / 2;
        *(drawn(middle, n) < seen ? &low : &high) = middle;
    }
    if (c->dict_half < 0.9 * drawn(high, c->dict_half_of)) {
        return false; /* new values keep coming */
    }
    double pages = GROUP_PAGES;
    double entries = drawn(high, n * pages);
    double bytes = entries * (double)c->dict.values.len / seen;
    return entries < DICT_COUNT_MAX && bytes < DICT_BYTES_MAX &&
           bytes + index_bytes(n * pages, entries) < 0.985 * alternative * pages;
}

/* The trial page. Its values are rebuilt only where they have to be encoded to know. */
static bool keep_after_trial(struct parquet_chunk *c, struct chunk_scratch *s, bool last) {
    double plain = (double)plain_bytes(c);
    double alternative = plain;
    if (c->shape.base != ENCODING_PLAIN) {
        rebuild(c);
        buf_clear(&s->encoded);
        enum parquet_encoding encoding = page_encode_base(c, &s->encoded);
        if (encoding == ENCODING_DELTA_LENGTH_BYTE_ARRAY) {
            alternative = (double)(s->encoded.len + chunk_values_len(c));
        } else if (encoding != ENCODING_PLAIN) {
            alternative = (double)s->encoded.len;
        }
    }
    c->base_ratio = plain > 0 ? alternative / plain : 1;
    double cost = (double)c->dict.values.len + index_bytes(c->index_count, c->dict.count);
    if (cost < alternative || (!last && pays_later(c, alternative))) {
        buf_clear(&c->values);
        buf_clear(&c->lengths);
        return true;
    }
    return false;
}

bool trial_at_page_end(struct parquet_chunk *c, struct chunk_scratch *s, bool last) {
    if (c->dict_state == DICT_LEFT || c->page_present == 0) {
        return c->dict_state != DICT_LEFT && c->dict.count > 0;
    }
    if (c->dict_state == DICT_TRIAL) {
        if (!keep_after_trial(c, s, last)) {
            leave(c, c->page_present < JUDGED_VALUES && !last);
            return false;
        }
        c->dict_state = DICT_KEPT;
        return true;
    }
    double added = (double)(c->dict.values.len - c->dict_bytes_before);
    double cost = added + index_bytes(c->index_count, c->dict.count);
    if (c->dict.values.len > DICT_BYTES_MAX || c->dict.count > DICT_COUNT_MAX ||
        cost > 1.3 * c->base_ratio * (double)plain_bytes(c)) {
        c->dict_state = DICT_LEFT; /* from the next page on */
    }
    return true;
}
