/* Growing byte buffer with a maximum, and a reader over bytes that cannot overrun.
 * Every buffer fed from outside has a maximum: an append beyond it returns -1 and leaves the buffer
 * as it was. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cdc/base/check.h"

struct buf {
    char *data; /* not NUL-terminated unless buf_cstr was called last */
    size_t len;
    size_t cap; /* the block behind data has cap + 1 bytes, so that buf_cstr needs no room */
    size_t max; /* bytes; SIZE_MAX for buffers that only we fill */
};

void buf_init(struct buf *buf, size_t max);
void buf_release(struct buf *buf);
static inline void buf_clear(struct buf *buf) { buf->len = 0; }
/* Room for `more` further bytes: 0, or -1 beyond max. */
int buf_reserve_slow(struct buf *buf, size_t more) TR_MUST_CHECK;
static inline TR_MUST_CHECK int buf_reserve(struct buf *buf, size_t more) {
    return LIKELY(buf->cap - buf->len >= more) ? 0 : buf_reserve_slow(buf, more);
}
int buf_add(struct buf *buf, const void *bytes, size_t len) TR_MUST_CHECK;
/* The put_ forms are for buffers without a limit of their own: going beyond max aborts. */
void buf_put(struct buf *buf, const void *bytes, size_t len);
void buf_puts(struct buf *buf, const char *s);
void buf_putc(struct buf *buf, char c);
void buf_putf(struct buf *buf, const char *fmt, ...) TR_PRINTF(2, 3);
void buf_put_u64(struct buf *buf, uint64_t v); /* decimal */
void buf_put_i64(struct buf *buf, int64_t v);  /* decimal */
const char *buf_cstr(struct buf *buf);         /* appends a NUL that is not counted in len */

/* A reader over bytes that somebody else owns. take_ functions advance and return 0, or -1 when too
 * short. */
struct view {
    const uint8_t *at;
    const uint8_t *end;
};
static inline struct view view_of(const void *p, size_t n) {
    return (struct view){ (const uint8_t *)p, (const uint8_t *)p + n };
}
static inline size_t view_left(const struct view *v) { return (size_t)(v->end - v->at); }
static inline TR_MUST_CHECK int take_u8(struct view *v, uint8_t *out) {
    if (UNLIKELY(view_left(v) < 1)) {
        return -1;
    }
    *out = *v->at++;
    return 0;
}
static inline TR_MUST_CHECK int take_u16be(struct view *v, uint16_t *out) {
    if (UNLIKELY(view_left(v) < 2)) {
        return -1;
    }
    uint16_t x;
    memcpy(&x, v->at, 2);
    *out = __builtin_bswap16(x);
    v->at += 2;
    return 0;
}
static inline TR_MUST_CHECK int take_u32be(struct view *v, uint32_t *out) {
    if (UNLIKELY(view_left(v) < 4)) {
        return -1;
    }
    uint32_t x;
    memcpy(&x, v->at, 4);
    *out = __builtin_bswap32(x);
    v->at += 4;
    return 0;
}
static inline TR_MUST_CHECK int take_u64be(struct view *v, uint64_t *out) {
    if (UNLIKELY(view_left(v) < 8)) {
        return -1;
    }
    uint64_t x;
    memcpy(&x, v->at, 8);
    *out = __builtin_bswap64(x);
    v->at += 8;
    return 0;
}
static inline TR_MUST_CHECK int take_bytes(struct view *v, size_t n, const uint8_t **out) {
    if (UNLIKELY(view_left(v) < n)) {
        return -1;
    }
    *out = v->at;
    v->at += n;
    return 0;
}
/* A NUL-terminated string inside the view. */
static inline TR_MUST_CHECK int take_cstr(struct view *v, const char **out) {
    const uint8_t *nul = view_left(v) ? memchr(v->at, 0, view_left(v)) : NULL;
    if (!nul) {
        return -1;
    }
    *out = (const char *)v->at;
    v->at = nul + 1;
    return 0;
}
