/* Escapes for people's eyes, and the one UTF-8 validator of the project (json.c uses it as well).
 * Pure: bytes in, bytes out; never allocates by itself. Thread: any. */
#include "cdc/base/escape.h"

static bool is_continuation(const uint8_t *s, const uint8_t *end) {
    return s < end && (*s & 0xC0) == 0x80;
}

/* Bounds of the second byte by the first one: the Unicode standard, table 3-7. */
int utf8_length(const uint8_t *s, const uint8_t *end) {
    uint8_t lead = s[0];
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return -1;
    }
    int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (s + 1 >= end || s[1] < low || s[1] > high) {
        return -1;
    }
    for (int i = 2; i < length; i++) {
        if (!is_continuation(s + i, end)) {
            return -i;
        }
    }
    return length;
}

/* Writes the next character of [*at, end) into unit, escaped where needed; returns its length (1 to
 * 4). */
static size_t escape_next(const uint8_t **at, const uint8_t *end, char unit[4]) {
    static const char hex[] = "0123456789abcdef";
    const uint8_t *s = *at;
    int length = utf8_length(s, end);
    bool control = s[0] < 0x20 || s[0] == 0x7F || (length == 2 && s[0] == 0xC2 && s[1] < 0xA0);
    if (length > 0 && !control) {
        memcpy(unit, s, (size_t)length);
        *at += length;
        return (size_t)length;
    }
    /* One byte at a time: the second byte of a C1 control is then invalid by itself and is escaped
     * too. */
    *at += 1;
    unit[0] = '\\';
    if (s[0] == '\n' || s[0] == '\r' || s[0] == '\t') {
        unit[1] = s[0] == '\n' ? 'n' : s[0] == '\r' ? 'r' : 't';
        return 2;
    }
    unit[1] = 'x';
    unit[2] = hex[s[0] >> 4];
    unit[3] = hex[s[0] & 15];
    return 4;
}

void escape_put(struct buf *out, const char *s, size_t len) {
    const uint8_t *at = (const uint8_t *)s;
    const uint8_t *end = at + len;
    char unit[4];
    while (at < end) {
        size_t n = escape_next(&at, end, unit);
        buf_put(out, unit, n);
    }
}

void escape_append(char *out, size_t cap, const char *s, size_t len) {
    CHECK(cap >= 4);
    size_t used = strlen(out);
    CHECK(used < cap);
    /* `cut` is the last place, at a character's end, where the dots still fit. */
    size_t cut = used <= cap - 4 ? used : cap - 4;
    const uint8_t *at = (const uint8_t *)s;
    const uint8_t *end = at + len;
    char unit[4];
    while (at < end) {
        size_t n = escape_next(&at, end, unit);
        if (used + n >= cap) {
            memcpy(out + cut, "...", 4);
            return;
        }
        memcpy(out + used, unit, n);
        used += n;
        out[used] = '\0';
        if (used <= cap - 4) {
            cut = used;
        }
    }
}
