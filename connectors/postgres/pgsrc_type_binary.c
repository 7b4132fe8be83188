/* Cells from PostgreSQL's binary form. Every length is checked against the bytes there are; a value
 * that the server could not have sent is malformed, never adjusted. Pure; thread: any. */
#include <math.h>

#include "cdc/value.h"
#include "connectors/postgres/pgsrc_plan.h"

enum {
    NUMERIC_HEADER_BYTES = 8,
    NUMERIC_POSITIVE = 0,
    NUMERIC_NEGATIVE = 0x4000,
    NUMERIC_NAN = 0xc000
};
enum { NUMERIC_INFINITY = 0xd000, NUMERIC_MINUS_INFINITY = 0xf000, NUMERIC_DSCALE_MAX = 0x3fff };
enum { ZONE_SECONDS_MAX = 16 * 3600 - 1 };

/* numeric_send: u16 digits, i16 weight, u16 sign, u16 display scale, then base-10000 digits. */
struct numeric {
    unsigned count;
    int weight;
    unsigned sign;
    unsigned dscale;
    const uint8_t *digits;
};

static int numeric_open(struct numeric *n, const uint8_t *p, size_t len) {
    if (len < NUMERIC_HEADER_BYTES) {
        return -1;
    }
    n->count = pgsrc_be16(p);
    n->weight = (int16_t)pgsrc_be16(p + 2);
    n->sign = pgsrc_be16(p + 4);
    n->dscale = pgsrc_be16(p + 6);
    n->digits = p + NUMERIC_HEADER_BYTES;
    if (len != NUMERIC_HEADER_BYTES + 2 * (size_t)n->count || n->dscale > NUMERIC_DSCALE_MAX) {
        return -1;
    }
    for (unsigned i = 0; i < n->count; i++) {
        if (pgsrc_be16(n->digits + 2 * (size_t)i) > 9999) {
            return -1;
        }
    }
    return 0;
}

static const char *numeric_special(unsigned sign) {
    switch (sign) {
    case NUMERIC_NAN:
        return "NaN";
    case NUMERIC_INFINITY:
        return "Infinity";
    case NUMERIC_MINUS_INFINITY:
        return "-Infinity";
    default:
        return NULL;
    }
}

static int decimal_cell(const struct type *type, const uint8_t *p, size_t len, uint8_t *out) {
    struct numeric n;
    if (numeric_open(&n, p, len) != 0) {
        return -1;
    }
    const char *special = numeric_special(n.sign);
    if (special) {
        return value_decimal_from_text(type, special, strlen(special), out);
    }
    if (n.sign != NUMERIC_POSITIVE && n.sign != NUMERIC_NEGATIVE) {
        return -1;
    }
    return value_decimal_from_base10000(type, n.sign == NUMERIC_NEGATIVE, n.weight, n.digits,
                                        n.count, out);
}

static size_t numeric_text_bound(const uint8_t *p, size_t len) {
    struct numeric n;
    if (numeric_open(&n, p, len) != 0) {
        return SIZE_MAX;
    }
    size_t groups = n.weight >= 0 ? (size_t)n.weight + 1 : 1;
    return 16 + 4 * groups + n.dscale;
}

static unsigned numeric_group(const struct numeric *n, int at) {
    return at >= 0 && (unsigned)at < n->count ? pgsrc_be16(n->digits + 2 * (size_t)at) : 0;
}

static uint8_t *put_group(uint8_t *out, unsigned group) {
    out[0] = (uint8_t)('0' + group / 1000);
    out[1] = (uint8_t)('0' + group / 100 % 10);
    out[2] = (uint8_t)('0' + group / 10 % 10);
    out[3] = (uint8_t)('0' + group % 10);
    return out + 4;
}

/* The text that numeric_out writes. */
static int numeric_text(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    struct numeric n;
    if (numeric_open(&n, p, len) != 0) {
        return -1;
    }
    const char *special = numeric_special(n.sign);
    if (special) {
        *used = strlen(special);
        memcpy(out, special, *used);
        return 0;
    }
    if (n.sign != NUMERIC_POSITIVE && n.sign != NUMERIC_NEGATIVE) {
        return -1;
    }
    uint8_t *at = out;
    if (n.sign == NUMERIC_NEGATIVE) {
        *at++ = '-';
    }
    uint8_t *first = at;
    for (int i = 0; i <= n.weight; i++) {
        at = put_group(at, numeric_group(&n, i));
    }
    if (at == first) {
        *at++ = '0';
    }
    unsigned zeros = 0;
    while (zeros < 3 && first + zeros + 1 < at && first[zeros] == '0') {
        zeros++;
    }
    memmove(first, first + zeros, (size_t)(at - first) - zeros);
    at -= zeros;
    if (n.dscale > 0) {
        *at++ = '.';
        uint8_t *fraction = at;
        for (int i = n.weight + 1; at < fraction + n.dscale; i++) {
            at = put_group(at, numeric_group(&n, i));
        }
        at = fraction + n.dscale;
    }
    *used = (size_t)(at - out);
    return 0;
}

static int char_cell(uint8_t c, uint8_t *out, size_t *used) {
    if (c == 0) {
        *used = 0;
    } else if (c < 0x80) {
        out[0] = c;
        *used = 1;
    } else {
        out[0] = '\\';
        out[1] = (uint8_t)('0' + (c >> 6));
        out[2] = (uint8_t)('0' + ((c >> 3) & 7));
        out[3] = (uint8_t)('0' + (c & 7));
        *used = 4;
    }
    return 0;
}

/* bit_send: i32 bits, then whole bytes. Bits beyond the last are zero at the server. */
static int bit_cell(const uint8_t *p, size_t len, uint8_t *out, size_t *used) {
    if (len < 4) {
        return -1;
    }
    uint32_t bits = pgsrc_be32(p);
    if (len - 4 != ((size_t)bits + 7) / 8) {
        return -1;
    }
    if (bits % 8 != 0 && (p[len - 1] & (0xff >> (bits % 8))) != 0) {
        return -1;
    }
    memcpy(out, &bits, 4);
    memcpy(out + 4, p + 4, len - 4);
    *used = len;
    return 0;
}

static void float32_cell(uint32_t bits, uint8_t *out) {
    float v;
    memcpy(&v, &bits, 4);
    if (isnan(v)) {
        bits = UINT32_C(0x7fc00000); /* the one that the text form gives */
    }
    memcpy(out, &bits, 4);
}

static void float64_cell(uint64_t bits, uint8_t *out) {
    double v;
    memcpy(&v, &bits, 8);
    if (isnan(v)) {
        bits = UINT64_C(0x7ff8000000000000);
    }
    memcpy(out, &bits, 8);
}

static int timetz_cell(const uint8_t *p, uint8_t *out) {
    uint64_t us = pgsrc_be64(p);
    int32_t west = (int32_t)pgsrc_be32(p + 8);
    if (west < -ZONE_SECONDS_MAX || west > ZONE_SECONDS_MAX) {
        return -1;
    }
    int32_t east = -west;
    memcpy(out, &us, 8);
    memcpy(out + 8, &east, 4);
    memset(out + 12, 0, 4);
    return 0;
}

static void put16(uint8_t *out, uint16_t v) { memcpy(out, &v, 2); }
static void put32(uint8_t *out, uint32_t v) { memcpy(out, &v, 4); }
static void put64(uint8_t *out, uint64_t v) { memcpy(out, &v, 8); }

size_t pgsrc_scalar_binary_bound(const struct pgsrc_step *step, const uint8_t *p, size_t len) {
    if (step->wire_bytes && len != step->wire_bytes) {
        return SIZE_MAX;
    }
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_NUMERIC:
        return numeric_text_bound(p, len);
    case DECODE_RAW:
    case DECODE_BYTES:
    case DECODE_BIT:
    case DECODE_VERSIONED:
        return len;
    case DECODE_DECIMAL:
        return step->width;
    case DECODE_TEXT_ONLY:
    case DECODE_MISMATCH:
    case DECODE_ARRAY:
        return SIZE_MAX;
    default:
        return step->width ? step->width : 64;
    }
}

/* Long because it is a table: one line for each kind of value. The bound was asked before, so fixed
 * lengths are right. */
int pgsrc_scalar_binary(const struct pgsrc_step *step, const uint8_t *p, size_t len, uint8_t *out,
                        size_t *used) {
    *used = step->width;
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_RAW:
    case DECODE_BYTES:
        memcpy(out, p, len);
        *used = len;
        return 0;
    case DECODE_VERSIONED:
        if (len < 1 || p[0] != 1) {
            return -1;
        }
        memcpy(out, p + 1, len - 1);
        *used = len - 1;
        return 0;
    case DECODE_CHAR:
        return char_cell(p[0], out, used);
    case DECODE_BOOL:
        *out = p[0];
        return p[0] <= 1 ? 0 : -1;
    case DECODE_INT16:
        put16(out, pgsrc_be16(p));
        return 0;
    case DECODE_INT32:
    case DECODE_UINT32:
    case DECODE_DATE:
        put32(out, pgsrc_be32(p));
        return 0;
    case DECODE_INT64:
    case DECODE_TIME:
    case DECODE_TIMESTAMP:
    case DECODE_TIMESTAMPTZ:
        put64(out, pgsrc_be64(p));
        return 0;
    case DECODE_FLOAT32:
        float32_cell(pgsrc_be32(p), out);
        return 0;
    case DECODE_FLOAT64:
        float64_cell(pgsrc_be64(p), out);
        return 0;
    case DECODE_DECIMAL:
        return decimal_cell(&step->type, p, len, out);
    case DECODE_NUMERIC:
        return numeric_text(p, len, out, used);
    case DECODE_TIMETZ:
        return timetz_cell(p, out);
    case DECODE_INTERVAL:
        put64(out, pgsrc_be64(p));
        put32(out + 8, pgsrc_be32(p + 8));
        put32(out + 12, pgsrc_be32(p + 12));
        return 0;
    case DECODE_UUID:
        memcpy(out, p, 16);
        return 0;
    case DECODE_BIT:
        return bit_cell(p, len, out, used);
    case DECODE_XID:
    case DECODE_XID8:
    case DECODE_LSN:
    case DECODE_TID:
    case DECODE_INET:
    case DECODE_MACADDR:
    case DECODE_MACADDR8:
        return pgsrc_other_binary((enum pgsrc_decode)step->decode, p, len, out, used);
    case DECODE_ARRAY:
    case DECODE_TEXT_ONLY:
    case DECODE_MISMATCH:
        return -1;
    }
    return -1;
}
