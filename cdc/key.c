/* Keys as bytes whose memcmp order is the source's order. Called for each row of the log whose
 * table still has ranges to join, so fixed-width cells are one load, a few operations and one
 * append. Pure. Thread: any. */
#include "cdc/key.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "cells are little-endian and read in place here"
#endif

/* How a cell becomes bytes. */
enum form {
    FORM_BOOL,
    FORM_SIGNED,
    FORM_UNSIGNED,
    FORM_DECIMAL,
    FORM_FLOAT,
    FORM_RAW,    /* fixed bytes as they lie */
    FORM_FIELDS, /* TIMETZ, INTERVAL: i64 and two i32 */
    FORM_ESCAPED,
    FORM_NUMERIC,
};

static enum form form_of(enum type_kind kind) {
    switch (kind) {
    case TYPE_BOOL:
        return FORM_BOOL;
    case TYPE_INT8:
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_INT64:
    case TYPE_DATE:
    case TYPE_TIME:
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
    case TYPE_YEAR:
        return FORM_SIGNED;
    case TYPE_UINT8:
    case TYPE_UINT16:
    case TYPE_UINT32:
    case TYPE_UINT64:
        return FORM_UNSIGNED;
    case TYPE_DECIMAL:
        return FORM_DECIMAL;
    case TYPE_FLOAT32:
    case TYPE_FLOAT64:
        return FORM_FLOAT;
    case TYPE_UUID:
        return FORM_RAW;
    case TYPE_TIMETZ:
    case TYPE_INTERVAL:
        return FORM_FIELDS;
    case TYPE_NUMERIC:
        return FORM_NUMERIC;
    default:
        return FORM_ESCAPED;
    }
}

/* 1, 2, 4 or 8 bytes of a little-endian cell as an unsigned number, and back. */
static uint64_t load(const uint8_t *cell, size_t width) {
    uint64_t v = 0;
    memcpy(&v, cell, width);
    return v;
}

static void put_big_endian(struct buf *out, uint64_t v, size_t width) {
    v = __builtin_bswap64(v << (64 - 8 * width));
    buf_put(out, &v, width);
}

static uint64_t sign_bit(size_t width) { return UINT64_C(1) << (8 * width - 1); }

static uint64_t low_bits(size_t width) { return UINT64_MAX >> (64 - 8 * width); }

/* IEEE 754 order: negative numbers have all bits flipped, others the sign bit. */
static uint64_t float_order(uint64_t v, size_t width) {
    uint64_t sign = sign_bit(width);
    uint64_t infinity = width == 8 ? UINT64_C(0x7FF) << 52 : UINT64_C(0xFF) << 23;
    if ((v & ~sign) > infinity) {
        return low_bits(width); /* NaN */
    }
    if (v == sign) {
        v = 0; /* -0 */
    }
    return v & sign ? ~v & low_bits(width) : v | sign;
}

static uint64_t float_from_order(uint64_t v, size_t width) {
    uint64_t sign = sign_bit(width);
    if (v == low_bits(width)) {
        return width == 8 ? UINT64_C(0x7FF8) << 48 : UINT64_C(0x7FC0) << 16;
    }
    return v & sign ? v & ~sign : ~v & low_bits(width);
}

/* The integer of a cell of any width less one, sign bit flipped, highest byte first; and back. */
static void decimal_put(struct buf *out, const uint8_t *cell, size_t width) {
    uint8_t bytes[32];
    unsigned borrow = 1;
    for (size_t i = 0; i < width; i++) {
        unsigned v = cell[i] - borrow;
        bytes[width - 1 - i] = (uint8_t)v;
        borrow = (v >> 8) & 1;
    }
    bytes[0] ^= 0x80;
    buf_put(out, bytes, width);
}

static void decimal_take(const uint8_t *key, size_t width, uint8_t *cell) {
    unsigned carry = 1;
    for (size_t i = 0; i < width; i++) {
        unsigned v = (uint8_t)(key[width - 1 - i] ^ (i == width - 1 ? 0x80 : 0)) + carry;
        cell[i] = (uint8_t)v;
        carry = v >> 8;
    }
}

static void put_escaped(struct buf *out, const uint8_t *bytes, size_t len) {
    static const char terminator[2] = { 0, 0 };
    static const char zero[2] = { 0, (char)0xFF };
    const uint8_t *end = bytes + len;
    while (bytes < end) {
        const uint8_t *nul = memchr(bytes, 0, (size_t)(end - bytes));
        buf_put(out, bytes, (size_t)((nul ? nul : end) - bytes));
        if (!nul) {
            break;
        }
        buf_put(out, zero, 2);
        bytes = nul + 1;
    }
    buf_put(out, terminator, 2);
}

/* Without zeros at the end of the fraction, and one zero: equal numbers, equal bytes. */
static void put_numeric(struct buf *out, const uint8_t *text, size_t len) {
    if (memchr(text, '.', len)) {
        while (len > 0 && text[len - 1] == '0') {
            len--;
        }
        if (len > 0 && text[len - 1] == '.') {
            len--;
        }
    }
    if (len == 2 && text[0] == '-' && text[1] == '0') {
        text++;
        len--;
    }
    put_escaped(out, text, len);
}

void key_put_cell(struct buf *out, const struct type *type, const uint8_t *bytes, size_t len) {
    enum form form = form_of(type->kind);
    size_t width = type_width(type);
    CHECK(width == 0 || len == width);
    switch (form) {
    case FORM_BOOL:
    case FORM_UNSIGNED:
        put_big_endian(out, load(bytes, width), width);
        break;
    case FORM_SIGNED:
        put_big_endian(out, load(bytes, width) ^ sign_bit(width), width);
        break;
    case FORM_FLOAT:
        put_big_endian(out, float_order(load(bytes, width), width), width);
        break;
    case FORM_DECIMAL:
        if (width == 8) {
            put_big_endian(out, (load(bytes, 8) - 1) ^ sign_bit(8), 8);
        } else {
            decimal_put(out, bytes, width);
        }
        break;
    case FORM_RAW:
        buf_put(out, bytes, width);
        break;
    case FORM_FIELDS:
        put_big_endian(out, load(bytes, 8) ^ sign_bit(8), 8);
        put_big_endian(out, load(bytes + 8, 4) ^ sign_bit(4), 4);
        put_big_endian(out, load(bytes + 12, 4) ^ sign_bit(4), 4);
        break;
    case FORM_NUMERIC:
        put_numeric(out, bytes, len);
        break;
    default:
        put_escaped(out, bytes, len);
        break;
    }
}

int key_put(struct buf *out, const struct batch *batch, uint32_t row) {
    const struct schema *schema = batch->schema;
    size_t begin = out->len;
    for (uint16_t i = 0; i < schema->key_count; i++) {
        uint16_t col = schema->key[i];
        const struct column *c = &batch->columns[col];
        if (cell_null(c, row)) {
            out->len = begin;
            return -1;
        }
        size_t len;
        const uint8_t *bytes = cell_bytes(c, row, &len);
        key_put_cell(out, &schema->columns[col].type, bytes, len);
    }
    return 0;
}

/* The bytes up to the terminator, without it. -1 if there is none or an escape is wrong. `out` may
 * be NULL to walk over it. */
static int take_escaped(struct view *in, struct buf *out) {
    const uint8_t *at = in->at;
    while (at < in->end) {
        const uint8_t *nul = memchr(at, 0, (size_t)(in->end - at));
        if (!nul || in->end - nul < 2) {
            return -1;
        }
        if (out && buf_add(out, at, (size_t)(nul - at))) {
            return -1;
        }
        at = nul + 2;
        if (nul[1] == 0) {
            in->at = at;
            return 0;
        }
        if (nul[1] != 0xFF || (out && buf_add(out, nul, 1))) {
            return -1;
        }
    }
    return -1;
}

static uint64_t load_big_endian(const uint8_t *p, size_t width) {
    uint64_t v = 0;
    memcpy(&v, p, width);
    return __builtin_bswap64(v) >> (64 - 8 * width);
}

int key_take_cell(struct view *in, const struct type *type, struct buf *out) {
    struct view rest = *in;
    size_t begin = out->len;
    if (!type_orderable(type)) {
        return -1;
    }
    enum form form = form_of(type->kind);
    size_t width = type_width(type);
    const uint8_t *key;
    uint8_t cell[32];
    if (form == FORM_ESCAPED) {
        if (take_escaped(&rest, out)) {
            out->len = begin;
            return -1;
        }
        *in = rest;
        return 0;
    }
    if (take_bytes(&rest, width, &key)) {
        return -1;
    }
    uint64_t v = width <= 8 ? load_big_endian(key, width) : 0;
    switch (form) {
    case FORM_SIGNED:
        v ^= sign_bit(width);
        break;
    case FORM_FLOAT:
        v = float_from_order(v, width);
        break;
    case FORM_BOOL:
        if (v > 1) {
            return -1;
        }
        break;
    default:
        break;
    }
    if (form == FORM_DECIMAL) {
        decimal_take(key, width, cell);
    } else if (form == FORM_RAW) {
        memcpy(cell, key, width);
    } else {
        memcpy(cell, &v, width);
    }
    if (buf_add(out, cell, width)) {
        return -1;
    }
    *in = rest;
    return 0;
}

/* How much of an escaped cell (its terminator included) a bound needs to lie above lo, which shares
 * the first `shared` bytes with it: cut behind the first byte that differs, at a whole character.
 */
static size_t cell_prefix(const uint8_t *cell, size_t len, size_t shared, bool text) {
    size_t end = 0;
    while (end <= shared && end < len - 2) {
        end += cell[end] == 0 ? 2 : 1; /* 00 FF is one byte of the value */
    }
    while (text && end < len - 2 && (cell[end] & 0xC0) == 0x80) {
        end++;
    }
    return end;
}

void key_separator(struct buf *out, const struct schema *schema, const void *lo, size_t lo_len,
                   const void *hi, size_t hi_len) {
    struct view in = view_of(hi, hi_len);
    for (uint16_t i = 0; i < schema->key_count; i++) {
        const struct type *type = &schema->columns[schema->key[i]].type;
        const uint8_t *skipped, *cell = in.at;
        enum form form = form_of(type->kind);
        bool variable = form == FORM_ESCAPED || form == FORM_NUMERIC;
        if (variable ? take_escaped(&in, NULL) : take_bytes(&in, type_width(type), &skipped)) {
            break;
        }
        size_t len = hi_len - view_left(&in), before = (size_t)(cell - (const uint8_t *)hi);
        if (key_cmp(hi, len, lo, lo_len) <= 0) {
            continue;
        }
        bool cuts = type->kind == TYPE_TEXT || type->kind == TYPE_BYTES;
        size_t shared = before;
        while (cuts && shared < lo_len &&
               ((const uint8_t *)lo)[shared] == ((const uint8_t *)hi)[shared]) {
            shared++;
        }
        size_t keep =
            cuts ? cell_prefix(cell, len - before, shared - before, type->kind == TYPE_TEXT)
                 : len - before;
        buf_put(out, hi, before + keep);
        if (cuts) {
            buf_put(out, "\0\0", 2);
        }
        return;
    }
    buf_put(out, hi, hi_len);
}
