/* Bounds of values: what they become when they are cut, and that they hold. */
#include <stdlib.h>
#include <string.h>

#include "sinks/parquet/parquet_stats.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void expect_upper(enum parquet_order order, const char *value, size_t len, bool cut,
                         size_t max, const char *want) {
    struct buf out;
    bool exact;
    buf_init(&out, SIZE_MAX);
    int result = bound_put_upper(&out, order, (const uint8_t *)value, len, cut, max, &exact);
    EXPECT_EQ_INT(result, want ? 0 : -1);
    EXPECT_EQ_STR(result ? NULL : buf_cstr(&out), want);
    EXPECT_TRUE(result || exact == (len <= max && !cut));
    buf_release(&out);
}

static void expect_lower(enum parquet_order order, const char *value, bool cut, size_t max,
                         const char *want) {
    struct buf out;
    bool exact;
    buf_init(&out, SIZE_MAX);
    bound_put_lower(&out, order, (const uint8_t *)value, strlen(value), cut, max, &exact);
    EXPECT_EQ_STR(buf_cstr(&out), want);
    EXPECT_TRUE(exact == (strlen(value) <= max && !cut));
    buf_release(&out);
}

TEST(bounds_of_text_are_cut_between_code_points) {
    expect_lower(ORDER_TEXT, "abcdef", false, 4, "abcd");
    expect_lower(ORDER_TEXT, "abcd", false, 4, "abcd");
    expect_lower(ORDER_TEXT, "abc\xc3\xa9", false, 4, "abc");
    expect_lower(ORDER_TEXT, "\xe2\x82\xac\xe2\x82\xac", false, 4, "\xe2\x82\xac");
    expect_lower(ORDER_TEXT, "a\xf0\x9f\x98\x80z", false, 4, "a");
    expect_lower(ORDER_TEXT, "ab\xf0\x9f", true, 4, "ab"); /* had been cut before */
    expect_lower(ORDER_BYTES, "abc\xc3\xa9", false, 4, "abc\xc3");
    expect_upper(ORDER_TEXT, "abcdef", 6, false, 4, "abce");
    expect_upper(ORDER_TEXT, "abcd", 4, false, 4, "abcd");
    expect_upper(ORDER_TEXT, "abcd", 4, true, 4, "abce");
    expect_upper(ORDER_TEXT, "abc\x7fz", 5, false, 4, "abc\xc2\x80"); /* a byte longer */
    expect_upper(ORDER_TEXT, "\xed\x9f\xbfxx", 5, false, 3,
                 "\xee\x80\x80"); /* over the surrogates */
    expect_upper(ORDER_TEXT, "a\xf4\x8f\xbf\xbfxx", 7, false, 5, "b");
    expect_upper(ORDER_TEXT, "\xf4\x8f\xbf\xbf\xf4\x8f\xbf\xbf", 8, false, 4, NULL);
    expect_upper(ORDER_TEXT, "\xf0\x9f\x98\x80", 4, true, 3, NULL); /* not one whole code point */
}

TEST(bounds_of_bytes_are_raised_in_the_last_byte_that_can) {
    expect_upper(ORDER_BYTES, "abcdef", 6, false, 4, "abce");
    expect_upper(ORDER_BYTES, "ab\xff\xffzz", 6, false, 4, "ac");
    expect_upper(ORDER_BYTES, "\xff\xff\xff\xffz", 5, false, 4, NULL);
    expect_upper(ORDER_BYTES, "\xff\xff", 2, false, 4, "\xff\xff");
}

static void put_double(struct parquet_range *r, const double *values, uint32_t n) {
    range_fixed(r, ORDER_F64, 8, (const uint8_t *)values, n);
}

TEST(ranges_of_floats_leave_nan_out_and_sign_zeros) {
    double nan = __builtin_nan("");
    double inf = __builtin_inf();
    const double mixed[] = { nan, 0.0, nan, -0.0, nan };
    const double nothing[] = { nan, nan };
    const double ends[] = { nan, inf, nan };
    struct parquet_range r = { 0 };
    put_double(&r, nothing, 2);
    EXPECT_TRUE(!r.any);
    EXPECT_EQ_INT(count_nan(ORDER_F64, (const uint8_t *)mixed, 5), 3);
    put_double(&r, mixed, 5);
    struct buf out;
    bool exact;
    double both[2];
    buf_init(&out, SIZE_MAX);
    EXPECT_TRUE(r.any);
    bound_put_lower(&out, ORDER_F64, r.min, 8, false, 64, &exact);
    EXPECT_EQ_INT(bound_put_upper(&out, ORDER_F64, r.max, 8, false, 64, &exact), 0);
    memcpy(both, out.data, 16);
    EXPECT_TRUE(both[0] == 0 && __builtin_signbit(both[0]) && both[1] == 0 &&
                !__builtin_signbit(both[1]));
    struct parquet_range high = { 0 };
    put_double(&high, ends, 3);
    memcpy(&both[0], high.min, 8);
    EXPECT_TRUE(high.any && both[0] == inf);
    const float f[] = { 2.5f, -1.5f };
    struct parquet_range small = { 0 };
    range_fixed(&small, ORDER_F32, 4, (const uint8_t *)f, 2);
    EXPECT_EQ_MEM(small.min, small.min_len, &f[1], 4);
    EXPECT_EQ_MEM(small.max, small.max_len, &f[0], 4);
    buf_release(&out);
}

TEST(ranges_of_decimals_in_bytes_are_signed) {
    static const uint8_t values[] = { 0x00, 0x05, 0xFF, 0xFE, 0x7F, 0x00, 0x80, 0x01 };
    struct parquet_range r = { 0 };
    range_fixed(&r, ORDER_SIGNED, 2, values, 4);
    EXPECT_EQ_MEM(r.min, r.min_len, "\x80\x01", 2);
    EXPECT_EQ_MEM(r.max, r.max_len, "\x7f\x00", 2);
}

/* Short random texts of few letters, so that prefixes are shared: the fast way finds what comparing
 * all finds. */
TEST(ranges_of_texts_are_those_of_a_plain_comparison) {
    uint64_t random = 11;
    bool good = true;
    for (int round = 0; round < 3000; round++) {
        uint8_t data[400];
        uint32_t offsets[21] = { 0 };
        uint32_t n = 1 + (uint32_t)(next_random(&random) % 20);
        uint32_t least = 0;
        uint32_t most = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t len = (uint32_t)(next_random(&random) % (round % 2 ? 3 : 20));
            for (uint32_t b = 0; b < len; b++) {
                data[offsets[i] + b] = next_random(&random) % 9 ? 0 : (uint8_t)next_random(&random);
            }
            offsets[i + 1] = offsets[i] + len;
            const uint8_t *p = data + offsets[i];
            if (order_compare(ORDER_BYTES, p, len, data + offsets[least],
                              offsets[least + 1] - offsets[least]) < 0) {
                least = i;
            }
            if (order_compare(ORDER_BYTES, p, len, data + offsets[most],
                              offsets[most + 1] - offsets[most]) > 0) {
                most = i;
            }
        }
        struct parquet_range r = { 0 };
        uint32_t half = n / 2;
        range_bytes(&r, data, offsets, half);
        range_bytes(&r, data, offsets + half, n - half);
        good &= r.min_len == offsets[least + 1] - offsets[least] &&
                memcmp(r.min, data + offsets[least], r.min_len) == 0;
        good &= r.max_len == offsets[most + 1] - offsets[most] &&
                memcmp(r.max, data + offsets[most], r.max_len) == 0;
    }
    EXPECT_TRUE(good);
}

TEST(bounds_of_a_file_keep_four_kibibytes_and_still_hold) {
    static uint8_t a[5000], b[5000];
    memset(a, 'm', sizeof a);
    memset(b, 'm', sizeof b);
    b[4500] = 'z';
    struct parquet_bounds bounds;
    bounds_init(&bounds);
    struct parquet_range whole = {
        .any = true, .min = a, .max = a, .min_len = 4096, .max_len = 4096
    };
    struct parquet_range longer = {
        .any = true, .min = b, .max = b, .min_len = 5000, .max_len = 5000
    };
    bounds_take(&bounds, ORDER_TEXT, &longer);
    EXPECT_TRUE(bounds.min_cut && bounds.max_cut && bounds.max.len == BOUND_BYTES_MAX);
    bounds_take(&bounds, ORDER_TEXT, &whole); /* the same 4096 bytes, whole: the lesser one */
    EXPECT_TRUE(!bounds.min_cut && bounds.max_cut);
    bounds_clear(&bounds);
    bounds_take(&bounds, ORDER_TEXT, &whole);
    EXPECT_TRUE(!bounds.min_cut && !bounds.max_cut);
    bounds_take(&bounds, ORDER_TEXT, &longer);
    EXPECT_TRUE(!bounds.min_cut && bounds.max_cut);
    struct buf out;
    bool exact;
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_INT(bound_put_upper(&out, ORDER_TEXT, (uint8_t *)bounds.max.data, bounds.max.len,
                                  bounds.max_cut, BOUND_BYTES_MAX, &exact),
                  0);
    EXPECT_TRUE(!exact && out.len == 4096 && out.data[4095] == 'n');
    buf_release(&out);
    bounds_release(&bounds);
}
