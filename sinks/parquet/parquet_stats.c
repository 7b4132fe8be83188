/* Ranges and bounds. See parquet_stats.h. */
#include "sinks/parquet/parquet_stats.h"

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
    size_t both = a_len < b_len ? a_len : b_len;
    int c = both > 0 ? memcmp(a, b, both) : 0;
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

#define COMPARE_AS(type)                                                                           \
    {                                                                                              \
        type x, y;                                                                                 \
        memcpy(&x, a, sizeof x);                                                                   \
        memcpy(&y, b, sizeof y);                                                                   \
        return (x > y) - (x < y);                                                                  \
    }

int order_compare(enum parquet_order order, const uint8_t *a, size_t a_len, const uint8_t *b,
                  size_t b_len) {
    switch (order) {
    case ORDER_I32:
        COMPARE_AS(int32_t)
    case ORDER_I64:
        COMPARE_AS(int64_t)
    case ORDER_F32:
        COMPARE_AS(float)
    case ORDER_F64:
        COMPARE_AS(double)
    case ORDER_SIGNED:
        if ((a[0] ^ b[0]) & 0x80) {
            return a[0] & 0x80 ? -1 : 1;
        }
        return compare_bytes(a, a_len, b, b_len);
    default:
        return compare_bytes(a, a_len, b, b_len);
    }
}

static bool is_nan(enum parquet_order order, const uint8_t *p) {
    if (order == ORDER_F32) {
        float v;
        memcpy(&v, p, sizeof v);
        return v != v;
    }
    if (order == ORDER_F64) {
        double v;
        memcpy(&v, p, sizeof v);
        return v != v;
    }
    return false;
}

void range_value(struct parquet_range *r, enum parquet_order order, const uint8_t *p, size_t len) {
    if (is_nan(order, p)) {
        return;
    }
    if (!r->any || order_compare(order, p, len, r->min, r->min_len) < 0) {
        r->min = p;
        r->min_len = len;
    }
    if (!r->any || order_compare(order, p, len, r->max, r->max_len) > 0) {
        r->max = p;
        r->max_len = len;
    }
    r->any = true;
}

static void range_own(struct parquet_range *r, enum parquet_order order, const void *min,
                      const void *max, size_t width) {
    uint8_t both[2][8];
    memcpy(both[0], min, width);
    memcpy(both[1], max, width);
    if (!r->any || order_compare(order, both[0], width, r->min, r->min_len) < 0) {
        memcpy(r->own[0], both[0], width);
        r->min = r->own[0];
        r->min_len = width;
    }
    if (!r->any || order_compare(order, both[1], width, r->max, r->max_len) > 0) {
        memcpy(r->own[1], both[1], width);
        r->max = r->own[1];
        r->max_len = width;
    }
    r->any = true;
}

/* The loops have no branch that depends on a value. NaN compares false, so it never enters; what
 * stays at the ends of the order had no number at all. */
#define RANGE_OF(type, order, least, most)                                                         \
    {                                                                                              \
        type min = (most);                                                                         \
        type max = (least);                                                                        \
        bool found = false;                                                                        \
        for (uint32_t i = 0; i < n; i++) {                                                         \
            type v;                                                                                \
            memcpy(&v, values + i * sizeof v, sizeof v);                                           \
            found |= v == v;                                                                       \
            min = v < min ? v : min;                                                               \
            max = v > max ? v : max;                                                               \
        }                                                                                          \
        if (found) {                                                                               \
            range_own(r, order, &min, &max, sizeof min);                                           \
        }                                                                                          \
        break;                                                                                     \
    }

void range_fixed(struct parquet_range *r, enum parquet_order order, uint32_t width,
                 const uint8_t *values, uint32_t n) {
    switch (order) {
    case ORDER_I32:
        RANGE_OF(int32_t, ORDER_I32, INT32_MIN, INT32_MAX)
    case ORDER_I64:
        RANGE_OF(int64_t, ORDER_I64, INT64_MIN, INT64_MAX)
    case ORDER_F32:
        RANGE_OF(float, ORDER_F32, -__builtin_inff(), __builtin_inff())
    case ORDER_F64:
        RANGE_OF(double, ORDER_F64, -__builtin_inf(), __builtin_inf())
    case ORDER_BOOL:
        RANGE_OF(uint8_t, ORDER_BOOL, 0, UINT8_MAX)
    default:
        for (uint32_t i = 0; i < n; i++) {
            range_value(r, order, values + (size_t)i * width, width);
        }
        break;
    }
}

/* The first eight bytes as a number that orders as they do; shorter texts as if zeros followed. */
static inline uint64_t prefix_of(const uint8_t *p, size_t len) {
    uint64_t v = 0;
    if (LIKELY(len >= 8)) {
        memcpy(&v, p, 8);
    } else {
        for (size_t i = 0; i < len; i++) {
            v |= (uint64_t)p[i] << (8 * i);
        }
    }
    return __builtin_bswap64(v);
}

void range_bytes(struct parquet_range *r, const uint8_t *data, const uint32_t *offsets,
                 uint32_t n) {
    uint32_t i = 0;
    if (!r->any && n > 0) {
        range_value(r, ORDER_BYTES, data + offsets[0], offsets[1] - offsets[0]);
        i = 1;
    }
    uint64_t least = r->any ? prefix_of(r->min, r->min_len) : 0;
    uint64_t most = r->any ? prefix_of(r->max, r->max_len) : 0;
    for (; i < n; i++) {
        const uint8_t *p = data + offsets[i];
        size_t len = offsets[i + 1] - offsets[i];
        uint64_t prefix = prefix_of(p, len);
        if (LIKELY(prefix > least && prefix < most)) {
            continue;
        }
        range_value(r, ORDER_BYTES, p, len);
        least = prefix < least ? prefix : least;
        most = prefix > most ? prefix : most;
    }
}

uint32_t count_nan(enum parquet_order order, const uint8_t *values, uint32_t n) {
    uint32_t count = 0;
    size_t width = order == ORDER_F32 ? 4 : 8;
    if (order == ORDER_F32 || order == ORDER_F64) {
        for (uint32_t i = 0; i < n; i++) {
            count += is_nan(order, values + i * width);
        }
    }
    return count;
}

void bounds_init(struct parquet_bounds *b) {
    *b = (struct parquet_bounds){ 0 };
    buf_init(&b->min, SIZE_MAX);
    buf_init(&b->max, SIZE_MAX);
}

void bounds_release(struct parquet_bounds *b) {
    buf_release(&b->min);
    buf_release(&b->max);
    b->any = false;
}

void bounds_clear(struct parquet_bounds *b) { b->any = false; }

static void keep(struct buf *to, bool *cut, const uint8_t *p, size_t len, size_t whole) {
    buf_clear(to);
    buf_put(to, p, len);
    *cut = whole > len;
}

/* Values are compared as they are kept: cutting keeps their order. Of two that are alike once cut,
 * a whole one is the lesser. */
void bounds_take(struct parquet_bounds *b, enum parquet_order order,
                 const struct parquet_range *r) {
    if (!r->any) {
        return;
    }
    size_t min_len = r->min_len < BOUND_BYTES_MAX ? r->min_len : BOUND_BYTES_MAX;
    size_t max_len = r->max_len < BOUND_BYTES_MAX ? r->max_len : BOUND_BYTES_MAX;
    int c = b->any ? order_compare(order, r->min, min_len, (uint8_t *)b->min.data, b->min.len) : -1;
    if (c < 0 || (c == 0 && b->min_cut)) {
        keep(&b->min, &b->min_cut, r->min, min_len, r->min_len);
    }
    c = b->any ? order_compare(order, r->max, max_len, (uint8_t *)b->max.data, b->max.len) : 1;
    if (c > 0 || (c == 0 && r->max_len > max_len)) {
        keep(&b->max, &b->max_cut, r->max, max_len, r->max_len);
    }
    b->any = true;
}

static size_t point_bytes(uint8_t lead) {
    return lead < 0x80 ? 1 : (lead & 0xE0) == 0xC0 ? 2 : (lead & 0xF0) == 0xE0 ? 3 : 4;
}

/* The longest prefix of at most max bytes that ends between code points. */
static size_t cut_text(const uint8_t *p, size_t len, size_t max) {
    size_t n = len < max ? len : max;
    size_t start = n;
    while (start > 0 && n - start < 3 && (p[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start > 0 && start - 1 + point_bytes(p[start - 1]) > n) {
        return start - 1;
    }
    return n;
}

static void put_zero(struct buf *out, enum parquet_order order, const uint8_t *p, size_t len,
                     bool negative) {
    double d = 1;
    float f = 1;
    if (order == ORDER_F64) {
        memcpy(&d, p, sizeof d);
    } else if (order == ORDER_F32) {
        memcpy(&f, p, sizeof f);
    }
    if (d == 0) {
        d = negative ? -0.0 : 0.0;
        buf_put(out, &d, sizeof d);
    } else if (f == 0) {
        f = negative ? -0.0f : 0.0f;
        buf_put(out, &f, sizeof f);
    } else {
        buf_put(out, p, len);
    }
}

void bound_put_lower(struct buf *out, enum parquet_order order, const uint8_t *p, size_t len,
                     bool cut, size_t bytes_max, bool *exact) {
    if (order < ORDER_BYTES) {
        *exact = true;
        put_zero(out, order, p, len, true);
        return;
    }
    size_t n = len < bytes_max ? len : bytes_max;
    if (order == ORDER_TEXT && (n < len || cut)) {
        n = cut_text(p, len, bytes_max);
    }
    *exact = n == len && !cut;
    buf_put(out, p, n);
}

/* The next code point of a text's last one at p[*n - 1], with surrogates passed over; -1: there is
 * none. */
static int raise_last(const uint8_t *p, size_t *n, uint8_t *to, size_t *to_len) {
    size_t start = *n - 1;
    while (start > 0 && (p[start] & 0xC0) == 0x80) {
        start--;
    }
    size_t len = *n - start;
    *n = start;
    if ((p[start] & 0xC0) == 0x80 || point_bytes(p[start]) != len) {
        return -1; /* no UTF-8 */
    }
    uint32_t point = len == 1 ? p[start] : p[start] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        point = point << 6 | (p[start + i] & 0x3F);
    }
    point = point == 0xD7FF ? 0xE000 : point + 1;
    if (point > 0x10FFFF) {
        return -1;
    }
    size_t want = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = want - 1; i > 0; i--) {
        to[i] = (uint8_t)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    static const uint8_t lead[5] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    to[0] = (uint8_t)(lead[want] | point);
    *to_len = want;
    return 0;
}

/* The least text above all that begin with p[0..n), or -1. */
static int put_raised_text(struct buf *out, const uint8_t *p, size_t n) {
    uint8_t last[4];
    size_t last_len;
    while (n > 0) {
        if (raise_last(p, &n, last, &last_len) == 0) {
            buf_put(out, p, n);
            buf_put(out, last, last_len);
            return 0;
        }
    }
    return -1;
}

static int put_raised(struct buf *out, const uint8_t *p, size_t n) {
    while (n > 0 && p[n - 1] == 0xFF) {
        n--;
    }
    if (n == 0) {
        return -1;
    }
    buf_put(out, p, n - 1);
    buf_putc(out, (char)(p[n - 1] + 1));
    return 0;
}

int bound_put_upper(struct buf *out, enum parquet_order order, const uint8_t *p, size_t len,
                    bool cut, size_t bytes_max, bool *exact) {
    *exact = true;
    if (order < ORDER_BYTES) {
        put_zero(out, order, p, len, false);
        return 0;
    }
    if (len <= bytes_max && !cut) {
        buf_put(out, p, len);
        return 0;
    }
    *exact = false;
    if (order == ORDER_BYTES) {
        return put_raised(out, p, len < bytes_max ? len : bytes_max);
    }
    return put_raised_text(out, p, cut_text(p, len, bytes_max));
}
