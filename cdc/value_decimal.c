/* Decimals between cells, text and PostgreSQL's base-10000 digits. All is integer arithmetic: 64
 * bits where the precision allows it (the hot case), then 128, then four limbs. A number fits its
 * type exactly if its digits, counted before any arithmetic, are not more than the precision: so
 * nothing below can overflow. Pure. Thread: any. */
#include "cdc/value.h"

#include "cdc/base/digits.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "cells are little-endian and written in place here"
#endif

enum { LIMBS = 4, LIMB_DIGITS = 19, TEXT_DIGITS_MAX = 5 * LIMB_DIGITS };

static const uint64_t pow10_table[20] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

/* An unsigned number of `count` limbs, lowest first. */
struct big {
    uint64_t limb[LIMBS];
    unsigned count; /* 1, 2 or 4 */
};

static inline void big_multiply_add(struct big *b, uint64_t factor, uint64_t add) {
    if (b->count == 1) {
        b->limb[0] = b->limb[0] * factor + add;
        return;
    }
    uint64_t carry = add;
    for (unsigned i = 0; i < b->count; i++) {
        unsigned __int128 product = (unsigned __int128)b->limb[i] * factor + carry;
        b->limb[i] = (uint64_t)product;
        carry = (uint64_t)(product >> 64);
    }
}

static uint64_t big_divide(struct big *b, uint64_t divisor) {
    uint64_t rest = 0;
    for (unsigned i = b->count; i-- > 0;) {
        unsigned __int128 part = (unsigned __int128)rest << 64 | b->limb[i];
        b->limb[i] = (uint64_t)(part / divisor);
        rest = (uint64_t)(part % divisor);
    }
    return rest;
}

static bool big_is_zero(const struct big *b) {
    uint64_t any = 0;
    for (unsigned i = 0; i < b->count; i++) {
        any |= b->limb[i];
    }
    return any == 0;
}

static inline void big_negate(struct big *b) {
    uint64_t carry = 1;
    for (unsigned i = 0; i < b->count; i++) {
        b->limb[i] = ~b->limb[i] + carry;
        carry = carry && b->limb[i] == 0;
    }
}

static inline void big_store(struct big *b, bool negative, uint8_t *cell) {
    if (negative) {
        big_negate(b);
    }
    if (LIKELY(b->count == 1)) {
        memcpy(cell, b->limb, 8); /* a constant size: one store */
    } else {
        memcpy(cell, b->limb, b->count * sizeof b->limb[0]);
    }
}

static inline unsigned limbs_of(const struct type *type) {
    return type->precision <= 18 ? 1 : type->precision <= 38 ? 2 : LIMBS;
}

/* The reserved cells: low limbs all zero and the top bit alone (lowest), that plus 1, and the
 * complement of the lowest (highest). */
enum special { SPECIAL_NONE, SPECIAL_NAN, SPECIAL_MINUS_INFINITY, SPECIAL_INFINITY };

static void store_special(enum special special, unsigned count, uint8_t *cell) {
    struct big b = { .count = count };
    b.limb[count - 1] = UINT64_C(1) << 63;
    if (special == SPECIAL_MINUS_INFINITY) {
        b.limb[0] += 1;
    } else if (special == SPECIAL_INFINITY) {
        for (unsigned i = 0; i < count; i++) {
            b.limb[i] = ~b.limb[i];
        }
    }
    big_store(&b, false, cell);
}

static enum special special_of(const struct big *b) {
    uint64_t top = UINT64_C(1) << 63;
    uint64_t first = b->limb[0] ^ (b->count == 1 ? top : 0);
    bool zeros = b->count == 1 || b->limb[b->count - 1] == top;
    bool ones = b->count == 1 || b->limb[b->count - 1] == ~top;
    for (unsigned i = 1; i + 1 < b->count; i++) {
        zeros = zeros && b->limb[i] == 0;
        ones = ones && b->limb[i] == UINT64_MAX;
    }
    if (zeros && first <= 1) {
        return first == 0 ? SPECIAL_NAN : SPECIAL_MINUS_INFINITY;
    }
    return ones && first == UINT64_MAX ? SPECIAL_INFINITY : SPECIAL_NONE;
}

static void put_zeros(struct buf *out, size_t count) {
    int failed = buf_reserve(out, count);
    CHECK(!failed);
    memset(out->data + out->len, '0', count);
    out->len += count;
}

/* Digits of the unscaled number (without zeros in front, "0" for zero) with the point put in. */
static void put_scaled(struct buf *out, const char *digits, size_t count, int scale) {
    if (scale <= 0) {
        buf_put(out, digits, count);
        put_zeros(out, digits[0] == '0' ? 0 : (size_t)-scale);
        return;
    }
    size_t fraction = (size_t)scale;
    if (count > fraction) {
        buf_put(out, digits, count - fraction);
        buf_putc(out, '.');
        buf_put(out, digits + count - fraction, fraction);
    } else {
        buf_put(out, "0.", 2);
        put_zeros(out, fraction - count);
        buf_put(out, digits, count);
    }
}

/* Scale 0 to 18 of a number of one limb: one reservation, no function in between. */
static void put_small(struct buf *out, bool negative, uint64_t v, unsigned scale) {
    char text[40];
    char *end = text + sizeof text;
    char *begin = digits_before(end, v);
    while (end - begin <= (ptrdiff_t)scale) {
        *--begin = '0';
    }
    if (negative) {
        *--begin = '-';
    }
    int failed = buf_reserve(out, sizeof text + 1);
    CHECK(!failed);
    char *to = out->data + out->len;
    size_t len = (size_t)(end - begin);
    if (scale > 0) {
        size_t whole = len - scale;
        memcpy(to, begin, whole);
        to[whole] = '.';
        memcpy(to + whole + 1, begin + whole, scale);
        len++;
    } else {
        memcpy(to, begin, len);
    }
    out->len += len;
}

void value_put_decimal(struct buf *out, const struct type *type, const uint8_t *cell) {
    struct big b = { .count = limbs_of(type) };
    memcpy(b.limb, cell, b.count * sizeof b.limb[0]);
    switch (special_of(&b)) {
    case SPECIAL_NAN:
        buf_puts(out, "NaN");
        return;
    case SPECIAL_MINUS_INFINITY:
        buf_puts(out, "-Infinity");
        return;
    case SPECIAL_INFINITY:
        buf_puts(out, "Infinity");
        return;
    default:
        break;
    }
    bool negative = b.limb[b.count - 1] >> 63;
    if (negative) {
        big_negate(&b);
    }
    if (b.count == 1 && type->scale >= 0 && type->scale <= 18) {
        put_small(out, negative, b.limb[0], (unsigned)type->scale);
        return;
    }
    char digits[TEXT_DIGITS_MAX];
    char *end = digits + sizeof digits;
    char *begin = end;
    for (;;) {
        uint64_t rest = big_divide(&b, pow10_table[LIMB_DIGITS]);
        char *chunk_end = begin;
        begin = digits_before(chunk_end, rest);
        if (big_is_zero(&b)) {
            break;
        }
        while (chunk_end - begin < LIMB_DIGITS) {
            *--begin = '0';
        }
    }
    if (negative) {
        buf_putc(out, '-');
    }
    put_scaled(out, begin, (size_t)(end - begin), type->scale);
}

static enum special special_from_text(const char *s, size_t len) {
    if (len == 3 && memcmp(s, "NaN", 3) == 0) {
        return SPECIAL_NAN;
    }
    if (len == 8 && memcmp(s, "Infinity", 8) == 0) {
        return SPECIAL_INFINITY;
    }
    return len == 9 && memcmp(s, "-Infinity", 9) == 0 ? SPECIAL_MINUS_INFINITY : SPECIAL_NONE;
}

/* Digits with at most one point among them, somewhere. */
struct decimal_text {
    const char *s;
    size_t whole, fraction; /* digits before and after the point */
};

static char text_digit(const struct decimal_text *t, size_t i) {
    return t->s[i < t->whole ? i : i + 1];
}

static int decimal_text_scan(const char *s, size_t len, struct decimal_text *out) {
    size_t point = len;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' && point == len) {
            point = i;
        } else if (s[i] < '0' || s[i] > '9') {
            return -1;
        }
    }
    *out = (struct decimal_text){ s, point, point < len ? len - point - 1 : 0 };
    return out->whole + out->fraction > 0 ? 0 : -1;
}

int value_decimal_from_text(const struct type *type, const char *s, size_t len, uint8_t *cell) {
    struct big b = { .count = limbs_of(type) };
    enum special special = special_from_text(s, len);
    if (special != SPECIAL_NONE) {
        store_special(special, b.count, cell);
        return 0;
    }
    bool negative = len > 0 && s[0] == '-';
    size_t sign = len > 0 && (s[0] == '-' || s[0] == '+');
    struct decimal_text t;
    if (len > PTRDIFF_MAX / 2 || decimal_text_scan(s + sign, len - sign, &t)) {
        return -1;
    }
    size_t count = t.whole + t.fraction;
    ptrdiff_t append =
        (ptrdiff_t)type->scale - (ptrdiff_t)t.fraction; /* zeros to add, or digits to drop */
    size_t kept = append >= 0 ? count : (size_t)-append >= count ? 0 : count - (size_t)-append;
    for (size_t i = kept; i < count; i++) {
        if (text_digit(&t, i) != '0') {
            return -1;
        }
    }
    size_t first = 0;
    while (first < kept && text_digit(&t, first) == '0') {
        first++;
    }
    size_t zeros = append > 0 && first < kept ? (size_t)append : 0;
    if (kept - first + zeros > type->precision) {
        return -1;
    }
    while (first < kept) {
        uint64_t chunk = 0;
        size_t n = kept - first < 18 ? kept - first : 18;
        for (size_t i = 0; i < n; i++) {
            chunk = chunk * 10 + (uint64_t)(text_digit(&t, first + i) - '0');
        }
        big_multiply_add(&b, pow10_table[n], chunk);
        first += n;
    }
    while (zeros > 0) {
        size_t n = zeros < 18 ? zeros : 18;
        big_multiply_add(&b, pow10_table[n], 0);
        zeros -= n;
    }
    big_store(&b, negative, cell);
    return 0;
}

static inline unsigned group_at(const uint8_t *digits_be, unsigned i) {
    return (unsigned)digits_be[2 * i] << 8 | digits_be[2 * i + 1];
}

static inline unsigned group_digits(unsigned group) {
    return 1u + (group >= 10) + (group >= 100) + (group >= 1000);
}

int value_decimal_from_base10000(const struct type *type, bool negative, int weight,
                                 const uint8_t *digits_be, unsigned count, uint8_t *cell) {
    static const unsigned small_pow10[5] = { 1, 10, 100, 1000, 10000 };
    struct big b = { .count = limbs_of(type) };
    while (count > 0 && group_at(digits_be, 0) == 0) {
        digits_be += 2;
        count--;
        weight--;
    }
    while (count > 0 && group_at(digits_be, count - 1) == 0) {
        count--;
    }
    if (count == 0) {
        big_store(&b, false, cell);
        return 0;
    }
    /* The unscaled number is the groups as one integer, times 10 to the shift. */
    int64_t shift = 4 * ((int64_t)weight - (int64_t)count + 1) + type->scale;
    if (4 * (int64_t)(count - 1) + group_digits(group_at(digits_be, 0)) + shift > type->precision ||
        shift <= -4) {
        return -1;
    }
    unsigned drop = shift < 0 ? (unsigned)-shift : 0;
    unsigned last = group_at(digits_be, count - 1);
    unsigned wrong = last > 9999;
    switch (drop) { /* divisions by constants */
    case 0:
        break;
    case 1:
        wrong |= last % 10;
        last /= 10;
        break;
    case 2:
        wrong |= last % 100;
        last /= 100;
        break;
    default:
        wrong |= last % 1000;
        last /= 1000;
        break;
    }
    if (LIKELY(b.count == 1)) { /* the hot case: the same steps as below, in one register */
        uint64_t v = 0;
        for (unsigned i = 0; i + 1 < count; i++) {
            unsigned group = group_at(digits_be, i);
            wrong |= group > 9999;
            v = v * 10000 + group;
        }
        v = (v * small_pow10[4 - drop] + last) *
            pow10_table[shift > 0 ? shift : 0]; /* shift < precision <= 18 */
        v = negative ? 0 - v : v;
        memcpy(cell, &v, sizeof v);
        return UNLIKELY(wrong) ? -1 : 0;
    }
    for (unsigned i = 0; i + 1 < count; i++) {
        unsigned group = group_at(digits_be, i);
        wrong |= group > 9999;
        big_multiply_add(&b, 10000, group);
    }
    if (UNLIKELY(wrong)) {
        return -1;
    }
    big_multiply_add(&b, small_pow10[4 - drop], last);
    while (shift > 0) {
        unsigned n = shift < 18 ? (unsigned)shift : 18;
        big_multiply_add(&b, pow10_table[n], 0);
        shift -= n;
    }
    big_store(&b, negative, cell);
    return 0;
}
