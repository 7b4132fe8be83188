/* Growing byte buffers with a maximum. The block behind `data` is always one byte longer than
 * `cap`, so that buf_cstr never needs room. Growth doubles, up to the maximum. One owner, no thread
 * safety. */
#include "cdc/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/digits.h"

enum { CAP_FIRST = 64 };

void buf_init(struct buf *buf, size_t max) { *buf = (struct buf){ .max = max }; }

void buf_release(struct buf *buf) {
    free(buf->data);
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
}

int buf_reserve_slow(struct buf *buf, size_t more) {
    size_t max = buf->max < PTRDIFF_MAX ? buf->max : PTRDIFF_MAX - 1;
    CHECK(buf->len <= buf->cap && buf->cap <= max);
    if (more > max - buf->len) {
        return -1;
    }
    size_t need = buf->len + more;
    if (need <= buf->cap) {
        return 0;
    }
    size_t cap = buf->cap <= max / 2 ? buf->cap * 2 : max;
    if (cap < CAP_FIRST) {
        cap = CAP_FIRST;
    }
    if (cap < need) {
        cap = need;
    }
    if (cap > max) {
        cap = max;
    }
    buf->data = xrealloc(buf->data, cap + 1);
    buf->cap = cap;
    return 0;
}

int buf_add(struct buf *buf, const void *bytes, size_t len) {
    if (buf_reserve(buf, len)) {
        return -1;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, bytes, len);
        buf->len += len;
    }
    return 0;
}

static void must_reserve(struct buf *buf, size_t more) {
    int failed = buf_reserve(buf, more);
    CHECK(!failed);
}

void buf_put(struct buf *buf, const void *bytes, size_t len) {
    if (len > 0) {
        must_reserve(buf, len);
        memcpy(buf->data + buf->len, bytes, len);
        buf->len += len;
    }
}

void buf_puts(struct buf *buf, const char *s) { buf_put(buf, s, strlen(s)); }

void buf_putc(struct buf *buf, char c) {
    must_reserve(buf, 1);
    buf->data[buf->len++] = c;
}

void buf_putf(struct buf *buf, const char *fmt, ...) {
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    must_reserve(buf, (size_t)n);
    if (n > 0) { /* the NUL falls on the spare byte */
        vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    buf->len += (size_t)n;
}

const char two_digits[201] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

void buf_put_u64(struct buf *buf, uint64_t v) {
    char text[20];
    char *end = text + sizeof text;
    char *begin = digits_before(end, v);
    buf_put(buf, begin, (size_t)(end - begin));
}

void buf_put_i64(struct buf *buf, int64_t v) {
    char text[20];
    char *end = text + sizeof text;
    char *begin = digits_before(end, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
    if (v < 0) {
        *--begin = '-';
    }
    buf_put(buf, begin, (size_t)(end - begin));
}

const char *buf_cstr(struct buf *buf) {
    if (!buf->data) {
        buf->data = xmalloc(1);
    }
    buf->data[buf->len] = '\0';
    return buf->data;
}
