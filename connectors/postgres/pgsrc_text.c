/* Cells from PostgreSQL's text form, with the session settings that the connector pins: DateStyle
 * ISO, IntervalStyle postgres, extra_float_digits 3, bytea_output hex, TimeZone UTC. The cells are
 * byte for byte those of the binary form. Only what the server writes is read: no blanks, no
 * alternative spellings. Numbers and plain types here; times and arrays beside. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cdc/value.h"
#include "connectors/postgres/pgsrc_plan.h"

enum { FLOAT_TEXT_MAX = 64, UINT64_DIGITS_MAX = 20 };

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static bool is_word(const uint8_t *p, size_t len, const char *word) {
    return len == strlen(word) && memcmp(p, word, len) == 0;
}

static int hex_value(uint8_t c) {
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Digits only, at most max. */
static int parse_u64(const uint8_t *p, size_t len, uint64_t max, uint64_t *out) {
    if (len == 0 || len > UINT64_DIGITS_MAX) {
        return -1;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(p[i]) || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(p[i] - '0'), &v)) {
            return -1;
        }
    }
    *out = v;
    return v <= max ? 0 : -1;
}

/* A signed integer of `width` bytes, little-endian into out. */
static int int_cell(const uint8_t *p, size_t len, unsigned width, uint8_t *out) {
    bool negative = len > 0 && p[0] == '-';
    uint64_t max = (UINT64_C(1) << (8 * width - 1)) - 1;
    uint64_t v;
    if (parse_u64(p + negative, len - negative, max + negative, &v) != 0) {
        return -1;
    }
    v = negative ? 0 - v : v;
    memcpy(out, &v, width);
    return 0;
}

/* The text of a float, ended by a NUL for the C library, which reads it correctly rounded. */
static int float_text(const uint8_t *p, size_t len, char *text) {
    if (len == 0 || len >= FLOAT_TEXT_MAX) {
        return -1;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(p[i]) && p[i] != '-' && p[i] != '+' && p[i] != '.' && p[i] != 'e') {
            return -1;
        }
    }
    memcpy(text, p, len);
    text[len] = '\0';
    return 0;
}

static bool float_special(const uint8_t *p, size_t len, double *out) {
    if (is_word(p, len, "NaN")) {
        *out = (double)NAN;
    } else if (is_word(p, len, "Infinity")) {
        *out = (double)INFINITY;
    } else if (is_word(p, len, "-Infinity")) {
        *out = -(double)INFINITY;
    } else {
        return false;
    }
    return true;
}

static int float64_cell(const uint8_t *p, size_t len, uint8_t *out) {
    double v;
    if (!float_special(p, len, &v)) {
        char text[FLOAT_TEXT_MAX];
        char *end;
        if (float_text(p, len, text) != 0) {
            return -1;
        }
        v = strtod(text, &end);
        if (*end != '\0' || isinf(v)) {
            return -1;
        }
    }
    uint64_t nan = UINT64_C(0x7ff8000000000000);
    memcpy(out, isnan(v) ? (const void *)&nan : (const void *)&v, 8);
    return 0;
}

static int float32_cell(const uint8_t *p, size_t len, uint8_t *out) {
    double special;
    float v;
    if (float_special(p, len, &special)) {
        v = (float)special;
    } else {
        char text[FLOAT_TEXT_MAX];
        char *end;
        if (float_text(p, len, text) != 0) {
            return -1;
        }
        v = strtof(text, &end);
        if (*end != '\0' || isinf(v)) {
            return -1;
        }
    }
    uint32_t nan = UINT32_C(0x7fc00000);
    memcpy(out, isnan(v) ? (const void *)&nan : (const void *)&v, 4);
    return 0;
}

/* numeric_out writes -digits.digits without exponent, or a special word. */
static int numeric_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    bool special =
        is_word(p, len, "NaN") || is_word(p, len, "Infinity") || is_word(p, len, "-Infinity");
    size_t i = len > 0 && p[0] == '-';
    size_t whole = i;
    while (!special && i < len && is_digit(p[i])) {
        i++;
    }
    if (!special && i == whole) {
        return -1;
    }
    if (!special && i < len) {
        size_t point = i++;
        while (i < len && is_digit(p[i])) {
            i++;
        }
        if (p[point] != '.' || i == point + 1 || i != len) {
            return -1;
        }
    }
    memmove(out, p, len);
    *used = len;
    return 0;
}

static int hex_bytes(const uint8_t *p, size_t len, uint8_t *out) {
    if (len % 2 != 0) {
        return -1;
    }
    for (size_t i = 0; i < len; i += 2) {
        int hi = hex_value(p[i]);
        int lo = hex_value(p[i + 1]);
        if (hi < 0 || lo < 0) {
            return -1;
        }
        out[i / 2] = (uint8_t)(hi << 4 | lo);
    }
    return 0;
}

static int bytes_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    if (len < 2 || p[0] != '\\' || p[1] != 'x') {
        return -1;
    }
    *used = (len - 2) / 2;
    return hex_bytes(p + 2, len - 2, out);
}

/* 8-4-4-4-12 */
static int uuid_cell(const uint8_t *p, size_t len, uint8_t *out) {
    static const uint8_t group_bytes[] = { 4, 2, 2, 2, 6 };
    if (len != 36) {
        return -1;
    }
    for (size_t g = 0; g < ARRAY_COUNT(group_bytes); g++) {
        if (hex_bytes(p, 2 * (size_t)group_bytes[g], out) != 0) {
            return -1;
        }
        p += 2 * (size_t)group_bytes[g];
        out += group_bytes[g];
        if (g + 1 < ARRAY_COUNT(group_bytes) && *p++ != '-') {
            return -1;
        }
    }
    return 0;
}

static int bit_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    if (len > UINT32_MAX) {
        return -1;
    }
    uint32_t bits = (uint32_t)len;
    memcpy(out, &bits, 4);
    *used = 4 + (len + 7) / 8;
    for (size_t i = 0; i < len; i += 8) {
        unsigned byte = 0;
        for (size_t b = 0; b < 8 && i + b < len; b++) {
            if (p[i + b] != '0' && p[i + b] != '1') {
                return -1;
            }
            byte |= (unsigned)(p[i + b] - '0') << (7 - b);
        }
        out[4 + i / 8] = (uint8_t)byte;
    }
    return 0;
}

/* "char": servers before 16 write a byte beyond ASCII as it is, later ones as \ooo; the cell holds
 * the latter. */
static int char_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    if (len == 1 && p[0] >= 0x80) {
        uint8_t c = p[0];
        const uint8_t octal[4] = { '\\', (uint8_t)('0' + (c >> 6)), (uint8_t)('0' + ((c >> 3) & 7)),
                                   (uint8_t)('0' + (c & 7)) };
        memcpy(out, octal, 4);
        *used = 4;
        return 0;
    }
    if (len > 1 && (len != 4 || p[0] != '\\')) {
        return -1;
    }
    memmove(out, p, len);
    *used = len;
    return 0;
}

/* X/X in hex: written again, because servers differ in leading zeros. */
static int lsn_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    uint64_t lsn = 0;
    size_t digits = 0;
    int slashes = 0;
    for (size_t i = 0; i < len; i++) {
        int h = hex_value(p[i]);
        if (p[i] == '/' && digits > 0) {
            slashes++;
            lsn <<= 32;
            digits = 0;
            continue;
        }
        if (h < 0 || ++digits > 8) {
            return -1;
        }
        lsn = (lsn & UINT64_C(0xffffffff00000000)) | ((lsn << 4 | (uint64_t)h) & UINT32_MAX);
    }
    if (slashes != 1 || digits == 0) {
        return -1;
    }
    *used = pgsrc_put_lsn(lsn, out);
    return 0;
}

static int time_cell(const struct pgsrc_step *step, const uint8_t *p, size_t len, uint8_t *out) {
    int64_t us = 0;
    int32_t a = 0;
    int32_t b = 0;
    int status = -1;
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_DATE:
        status = pgsrc_text_date(p, len, &a);
        memcpy(out, &a, 4);
        return status;
    case DECODE_TIME:
        status = pgsrc_text_time(p, len, &us);
        break;
    case DECODE_TIMETZ:
        status = pgsrc_text_timetz(p, len, &us, &a);
        break;
    case DECODE_TIMESTAMP:
        status = pgsrc_text_timestamp(p, len, false, &us);
        break;
    case DECODE_TIMESTAMPTZ:
        status = pgsrc_text_timestamp(p, len, true, &us);
        break;
    case DECODE_INTERVAL:
        status = pgsrc_text_interval(p, len, &us, &a, &b);
        break;
    default:
        break;
    }
    memcpy(out, &us, 8);
    if (step->width == 16) {
        memcpy(out + 8, &a, 4);
        memcpy(out + 12, &b, 4);
    }
    return status;
}

size_t pgsrc_scalar_text_bound(const struct pgsrc_step *step, size_t len) {
    if (step->decode == DECODE_ARRAY || step->decode == DECODE_MISMATCH ||
        len > PGSRC_VALUE_BYTES_MAX) {
        return SIZE_MAX;
    }
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_RAW:
    case DECODE_VERSIONED:
    case DECODE_NUMERIC:
    case DECODE_TEXT_ONLY:
        return len;
    case DECODE_BYTES:
        return len / 2;
    case DECODE_BIT:
        return 4 + (len + 7) / 8;
    default:
        return step->width ? step->width : len + 32;
    }
}

int pgsrc_scalar_text(const struct pgsrc_step *step, const uint8_t *p, size_t len, uint8_t *out,
                      size_t *used) {
    *used = step->width;
    uint64_t u;
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_BOOL:
        *out = len == 1 && p[0] == 't';
        return len == 1 && (p[0] == 't' || p[0] == 'f') ? 0 : -1;
    case DECODE_INT16:
        return int_cell(p, len, 2, out);
    case DECODE_INT32:
        return int_cell(p, len, 4, out);
    case DECODE_INT64:
        return int_cell(p, len, 8, out);
    case DECODE_UINT32:
        if (parse_u64(p, len, UINT32_MAX, &u) != 0) {
            return -1;
        }
        memcpy(out, &u, 4);
        return 0;
    case DECODE_FLOAT32:
        return float32_cell(p, len, out);
    case DECODE_FLOAT64:
        return float64_cell(p, len, out);
    case DECODE_DECIMAL:
        return value_decimal_from_text(&step->type, (const char *)p, len, out);
    case DECODE_NUMERIC:
        return numeric_cell(p, len, out, used);
    case DECODE_BYTES:
        return bytes_cell(p, len, out, used);
    case DECODE_DATE:
    case DECODE_TIME:
    case DECODE_TIMETZ:
    case DECODE_TIMESTAMP:
    case DECODE_TIMESTAMPTZ:
    case DECODE_INTERVAL:
        return time_cell(step, p, len, out);
    case DECODE_UUID:
        return uuid_cell(p, len, out);
    case DECODE_BIT:
        return bit_cell(p, len, out, used);
    case DECODE_CHAR:
        return char_cell(p, len, out, used);
    case DECODE_LSN:
        return lsn_cell(p, len, out, used);
    case DECODE_ARRAY:
    case DECODE_MISMATCH:
        return -1;
    default: /* the text is the cell */
        memmove(out, p, len);
        *used = len;
        return 0;
    }
}
