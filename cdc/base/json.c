/* Writing JSON. Strings are on the hot path of every text sink: runs of bytes that need nothing are
 * found 16 at a time (SSE2) or 8 at a time, valid UTF-8 stays inside a run, and a run is copied at
 * once. Pure. Thread: any. */
#include "cdc/base/json.h"

#include "cdc/base/escape.h"

/* A byte that ends a plain run: a control character, a quote, a backslash, or the first of several
 * (>= 0x80). */
static inline bool is_special(uint8_t c) { return c < 0x20 || c == '"' || c == '\\' || c >= 0x80; }

/* How many of the bytes of [s, end) are plain, whole blocks only: the caller looks at the rest byte
 * by byte. */
static inline size_t plain_blocks8(const uint8_t *s, const uint8_t *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    const uint8_t *at = s;
    while (end - at >= 8) {
        uint64_t v;
        memcpy(&v, at, 8);
        uint64_t quote = v ^ (ones * '"');
        uint64_t slash = v ^ (ones * '\\');
        /* A top bit is set where a byte is below the subtrahend (borrows only ever add further
         * hits), or >= 0x80. */
        if (((v - ones * 0x20) | (quote - ones) | (slash - ones) | v) & tops) {
            break;
        }
        at += 8;
    }
    return (size_t)(at - s);
}

#if defined(__SSE2__)
#include <emmintrin.h>

static inline size_t plain_run(const uint8_t *s, const uint8_t *end) {
    const uint8_t *at = s;
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(0x20);
    while (end - at >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Signed comparison: bytes >= 0x80 are negative, so they count as below a space too. */
        __m128i hit =
            _mm_or_si128(_mm_cmplt_epi8(v, space),
                         _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
        int mask = _mm_movemask_epi8(hit);
        if (mask != 0) {
            return (size_t)(at - s) + (size_t)__builtin_ctz((unsigned)mask);
        }
        at += 16;
    }
    at += plain_blocks8(at, end);
    while (at < end && !is_special(*at)) {
        at++;
    }
    return (size_t)(at - s);
}
#else
static inline size_t plain_run(const uint8_t *s, const uint8_t *end) {
    const uint8_t *at = s + plain_blocks8(s, end);
    while (at < end && !is_special(*at)) {
        at++;
    }
    return (size_t)(at - s);
}
#endif

/* utf8_length, with the two-byte characters of most alphabets at hand. */
static inline int character_length(const uint8_t *s, const uint8_t *end) {
    if (end - s >= 2 && s[0] >= 0xC2 && s[0] < 0xE0 && (s[1] & 0xC0) == 0x80) {
        return 2;
    }
    return utf8_length(s, end);
}

static void put_escape(struct buf *out, uint8_t c) {
    static const char hex[] = "0123456789abcdef";
    char unit[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
    size_t n = 2;
    switch (c) {
    case '"':
    case '\\':
        unit[1] = (char)c;
        break;
    case '\b':
        unit[1] = 'b';
        break;
    case '\f':
        unit[1] = 'f';
        break;
    case '\n':
        unit[1] = 'n';
        break;
    case '\r':
        unit[1] = 'r';
        break;
    case '\t':
        unit[1] = 't';
        break;
    default:
        n = 6;
        break;
    }
    buf_put(out, unit, n);
}

int json_put_string(struct buf *out, const char *s, size_t len) {
    static const char replacement[] = "\xEF\xBF\xBD";
    const uint8_t *at = (const uint8_t *)s;
    const uint8_t *end = at + len;
    const uint8_t *run = at; /* [run, at) is clean and not yet copied */
    int result = 0;
    CHECK(len < SIZE_MAX / 2);
    int failed = buf_reserve(out, len + 2);
    CHECK(!failed);
    buf_putc(out, '"');
    for (;;) {
        at += plain_run(at, end);
        int invalid = 0;
        while (at < end && *at >= 0x80 && invalid == 0) {
            int n = character_length(at, end);
            invalid = n < 0 ? -n : 0;
            at += n > 0 ? n : 0;
        }
        if (at < end && invalid == 0 && !is_special(*at)) {
            continue;
        }
        buf_put(out, run, (size_t)(at - run));
        if (at == end) {
            break;
        }
        if (invalid > 0) {
            buf_put(out, replacement, 3);
            at += invalid;
            result = -1;
        } else {
            put_escape(out, *at++);
        }
        run = at;
    }
    buf_putc(out, '"');
    return result;
}

void json_put_cstr(struct buf *out, const char *s) {
    int invalid = json_put_string(out, s, strlen(s));
    (void)invalid; /* such a string comes from us or is for people; U+FFFD stands where it was wrong
                    */
}

void json_put_base64(struct buf *out, const void *p, size_t len) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = p;
    CHECK(len < SIZE_MAX / 4);
    int failed = buf_reserve(out, (len + 2) / 3 * 4 + 2);
    CHECK(!failed);
    char *to = out->data + out->len;
    *to++ = '"';
    size_t left = len;
    for (; left >= 3; left -= 3, at += 3, to += 4) {
        uint32_t v = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
        to[0] = letters[v >> 18];
        to[1] = letters[v >> 12 & 63];
        to[2] = letters[v >> 6 & 63];
        to[3] = letters[v & 63];
    }
    if (left > 0) {
        uint32_t v = (uint32_t)at[0] << 16 | (left > 1 ? (uint32_t)at[1] << 8 : 0);
        to[0] = letters[v >> 18];
        to[1] = letters[v >> 12 & 63];
        to[2] = left > 1 ? letters[v >> 6 & 63] : '=';
        to[3] = '=';
        to += 4;
    }
    *to++ = '"';
    out->len = (size_t)(to - out->data);
}
