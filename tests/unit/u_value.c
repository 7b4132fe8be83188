/* Text of values: decimals against arithmetic on strings, floats against the C library's reader,
 * dates against counting. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/value.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static struct type decimal_type(int precision, int scale) {
    return (struct type){ TYPE_DECIMAL, 0, (uint16_t)precision, (int16_t)scale };
}

static const char *decimal_text(const struct type *type, const uint8_t *cell) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    value_put_decimal(&out, type, cell);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

/* The canonical text of `s` in decimal(precision,scale), or "refused". */
static const char *decimal_via_cell(int precision, int scale, const char *s) {
    struct type type = decimal_type(precision, scale);
    uint8_t *cell =
        malloc(type_width(&type)); /* of its exact size, so that a longer write is seen */
    const char *text =
        value_decimal_from_text(&type, s, strlen(s), cell) ? "refused" : decimal_text(&type, cell);
    free(cell);
    return text;
}

TEST(decimal_text_has_exactly_its_scale) {
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "12.3"), "12.30");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "0"), "0.00");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "-0.00"), "0.00");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "-0.01"), "-0.01");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "+7.1000"), "7.10");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, "0007"), "7.00");
    EXPECT_EQ_STR(decimal_via_cell(15, 2, ".5"), "0.50");
    EXPECT_EQ_STR(decimal_via_cell(18, 18, "0.123456789012345678"), "0.123456789012345678");
    EXPECT_EQ_STR(decimal_via_cell(18, 0, "-999999999999999999"), "-999999999999999999");
    EXPECT_EQ_STR(decimal_via_cell(3, 5, "0.00123"), "0.00123");
    EXPECT_EQ_STR(decimal_via_cell(3, 25, "0.0000000000000000000000123"),
                  "0.0000000000000000000000123");
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "12300"), "12300");
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "0"), "0");
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "-99900.0"), "-99900");
    EXPECT_EQ_STR(decimal_via_cell(38, 10, "1234567890123456789012345678.0123456789"),
                  "1234567890123456789012345678.0123456789");
    EXPECT_EQ_STR(decimal_via_cell(38, 0, "10000000000000000000"), "10000000000000000000");
    EXPECT_EQ_STR(
        decimal_via_cell(
            76, 0, "9999999999999999999999999999999999999999999999999999999999999999999999999999"),
        "9999999999999999999999999999999999999999999999999999999999999999999999999999");
    EXPECT_EQ_STR(
        decimal_via_cell(
            76, 0, "-9999999999999999999999999999999999999999999999999999999999999999999999999999"),
        "-9999999999999999999999999999999999999999999999999999999999999999999999999999");
}

TEST(decimal_text_that_is_no_number_or_does_not_fit_is_refused) {
    static const char *const wrong[] = { "",    "-",    "+",     ".",      "-.",        "1.2.3",
                                         "1e5", " 1",   "1 ",    "1,5",    "0x10",      "--1",
                                         "+-1", "nan",  "NaN ",  "inf",    "+Infinity", "1-",
                                         "12a", "1000", "0.001", "999.995" };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        EXPECT_EQ_STR(decimal_via_cell(5, 2, wrong[i]), "refused");
    }
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "12345"), "refused");
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "100000"), "refused");
    EXPECT_EQ_STR(decimal_via_cell(3, -2, "1"), "refused");
    EXPECT_EQ_STR(decimal_via_cell(3, 5, "0.01"), "refused");
    EXPECT_EQ_STR(decimal_via_cell(18, 0, "1000000000000000000"), "refused");
    EXPECT_EQ_STR(decimal_via_cell(38, 0, "100000000000000000000000000000000000000"), "refused");
    EXPECT_EQ_STR(
        decimal_via_cell(
            76, 0, "10000000000000000000000000000000000000000000000000000000000000000000000000000"),
        "refused");
}

TEST(decimal_nan_and_infinities_are_the_reserved_cells) {
    for (int precision = 18; precision <= 76; precision += 1) {
        EXPECT_EQ_STR(decimal_via_cell(precision, 2, "NaN"), "NaN");
        EXPECT_EQ_STR(decimal_via_cell(precision, 2, "Infinity"), "Infinity");
        EXPECT_EQ_STR(decimal_via_cell(precision, 2, "-Infinity"), "-Infinity");
    }
    for (int precision = 18; precision <= 72; precision += 18) {
        struct type type = decimal_type(precision, 0);
        size_t width = type_width(&type);
        uint8_t cell[32];
        uint8_t want[32] = { 0 };
        want[width - 1] = 0x80;
        EXPECT_EQ_INT(value_decimal_from_text(&type, "NaN", 3, cell), 0);
        EXPECT_EQ_MEM(cell, width, want, width);
        want[0] = 1;
        EXPECT_EQ_INT(value_decimal_from_text(&type, "-Infinity", 9, cell), 0);
        EXPECT_EQ_MEM(cell, width, want, width);
        memset(want, 0xFF, width);
        want[width - 1] = 0x7F;
        EXPECT_EQ_INT(value_decimal_from_text(&type, "Infinity", 8, cell), 0);
        EXPECT_EQ_MEM(cell, width, want, width);
    }
}

/* Unscaled digits without zeros in front -> the text they must have. Arithmetic on strings only. */
static void want_text(char *out, bool negative, const char *digits, int scale) {
    bool zero = strcmp(digits, "0") == 0;
    char *to = out;
    size_t count = strlen(digits);
    if (negative && !zero) {
        *to++ = '-';
    }
    if (scale <= 0) {
        to += sprintf(to, "%s", digits);
        for (int i = 0; i < -scale && !zero; i++) {
            *to++ = '0';
        }
        *to = '\0';
        return;
    }
    char padded[400];
    size_t pad = count <= (size_t)scale ? (size_t)scale + 1 - count : 0;
    memset(padded, '0', pad);
    strcpy(padded + pad, digits);
    size_t whole = strlen(padded) - (size_t)scale;
    sprintf(to, "%.*s.%s", (int)whole, padded, padded + whole);
}

/* Base-10000 digits of a decimal text, as PostgreSQL makes them: aligned at the point. */
static unsigned base10000_from_text(const char *text, uint8_t *out, int *weight) {
    char padded[1200];
    const char *point = strchr(text, '.');
    size_t whole = point ? (size_t)(point - text) : strlen(text);
    size_t fraction = point ? strlen(point + 1) : 0;
    size_t front = (4 - whole % 4) % 4;
    size_t at = 0;
    for (size_t i = 0; i < front; i++) {
        padded[at++] = '0';
    }
    memcpy(padded + at, text, whole);
    at += whole;
    memcpy(padded + at, point ? point + 1 : "", fraction);
    at += fraction;
    while (at % 4 != 0) {
        padded[at++] = '0';
    }
    for (size_t i = 0; i < at / 4; i++) {
        unsigned group = 0;
        for (size_t j = 0; j < 4; j++) {
            group = group * 10 + (unsigned)(padded[i * 4 + j] - '0');
        }
        out[2 * i] = (uint8_t)(group >> 8);
        out[2 * i + 1] = (uint8_t)group;
    }
    *weight = (int)((front + whole) / 4) - 1;
    return (unsigned)(at / 4);
}

TEST(decimal_text_cell_and_base10000_agree_with_arithmetic_on_strings) {
    uint64_t random = 20260102;
    for (int round = 0; round < 60000; round++) {
        int precision = 1 + (int)(next_random(&random) % DECIMAL_PRECISION_MAX);
        int scale = (int)(next_random(&random) % 100) - 12;
        if (round % 3 == 0) {
            scale = (int)(next_random(&random) % (unsigned)(precision + 1));
        }
        int count = 1 + (int)(next_random(&random) % (unsigned)precision);
        char digits[100];
        for (int i = 0; i < count; i++) {
            bool sparse = round % 5 == 0;
            digits[i] =
                (char)('0' + (sparse && next_random(&random) % 3 ? 0 : next_random(&random) % 10));
        }
        if (digits[0] == '0') {
            digits[0] = '1';
        }
        digits[count] = '\0';
        if (round % 97 == 0) {
            strcpy(digits, "0");
        }
        bool negative = next_random(&random) % 2;
        char want[400];
        want_text(want, negative, digits, scale);
        struct type type = decimal_type(precision, scale);
        size_t width = type_width(&type);
        uint8_t cell[32];
        uint8_t binary[32];
        if (!EXPECT_EQ_INT(value_decimal_from_text(&type, want, strlen(want), cell), 0)) {
            return;
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        value_put_decimal(&out, &type, cell);
        bool same = EXPECT_EQ_STR(buf_cstr(&out), want);
        buf_release(&out);
        uint8_t groups[600];
        int weight;
        const char *magnitude = want + (want[0] == '-');
        unsigned group_count = base10000_from_text(magnitude, groups, &weight);
        if (!same ||
            !EXPECT_EQ_INT(value_decimal_from_base10000(&type, want[0] == '-', weight, groups,
                                                        group_count, binary),
                           0) ||
            !EXPECT_EQ_MEM(binary, width, cell, width)) {
            return;
        }
        /* One more digit in front does not fit; nor does one behind that is not zero. */
        char longer[120];
        memset(longer, '0', sizeof longer);
        sprintf(longer, "1%0*d%s", precision - (int)strlen(digits), 0, digits);
        if ((int)strlen(digits) == precision) {
            sprintf(longer, "1%s", digits);
        }
        char wrong[500];
        want_text(wrong, false, longer, scale);
        EXPECT_EQ_INT(value_decimal_from_text(&type, wrong, strlen(wrong), cell), -1);
        group_count = base10000_from_text(wrong, groups, &weight);
        EXPECT_EQ_INT(
            value_decimal_from_base10000(&type, false, weight, groups, group_count, binary), -1);
        if (scale >= 0) {
            sprintf(wrong, "%s%s7", magnitude, scale == 0 ? "." : "");
            EXPECT_EQ_INT(value_decimal_from_text(&type, wrong, strlen(wrong), cell), -1);
            group_count = base10000_from_text(wrong, groups, &weight);
            EXPECT_EQ_INT(
                value_decimal_from_base10000(&type, false, weight, groups, group_count, binary),
                -1);
        }
    }
}

TEST(decimal_base10000_refuses_damaged_groups_and_takes_extremes) {
    struct type type = decimal_type(15, 2);
    uint8_t cell[32];
    const uint8_t damaged[] = { 0, 12, 0x27, 0x10 }; /* 12 and 10000 */
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, false, 0, damaged, 2, cell), -1);
    const uint8_t damaged_first[] = { 0xFF, 0xFF, 0, 100 };
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, false, 0, damaged_first, 2, cell), -1);
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, true, 0, NULL, 0, cell), 0);
    EXPECT_EQ_STR(decimal_text(&type, cell), "0.00");
    const uint8_t one[] = { 0, 1 };
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, false, 32767, one, 1, cell), -1);
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, false, -32768, one, 1, cell), -1);
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, false, INT32_MAX, one, 1, cell), -1);
    const uint8_t price[] = { 0, 12, 0x0B, 0xB8, 0, 0 }; /* 12 3000 0000 */
    EXPECT_EQ_INT(value_decimal_from_base10000(&type, true, 0, price, 3, cell), 0);
    EXPECT_EQ_STR(decimal_text(&type, cell), "-12.30");
    uint8_t many[2 * 300];
    memset(many, 0xFF, sizeof many);
    struct type widest = decimal_type(76, 10);
    for (unsigned count = 1; count <= 300; count++) {
        EXPECT_EQ_INT(
            value_decimal_from_base10000(&widest, false, (int)(count % 21), many, count, cell), -1);
    }
}

static const char *double_text(double v) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    value_put_float64(&out, v);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

static const char *float_text(float v) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    value_put_float32(&out, v);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

TEST(float_text_is_postgresqls) {
    EXPECT_EQ_STR(double_text(0), "0");
    EXPECT_EQ_STR(double_text(-0.0), "-0");
    EXPECT_EQ_STR(double_text(NAN), "NaN");
    EXPECT_EQ_STR(double_text(INFINITY), "Infinity");
    EXPECT_EQ_STR(double_text(-INFINITY), "-Infinity");
    EXPECT_EQ_STR(double_text(0.1), "0.1");
    EXPECT_EQ_STR(double_text(-12.34), "-12.34");
    EXPECT_EQ_STR(double_text(100000), "100000");
    EXPECT_EQ_STR(double_text(1e20), "1e+20");
    EXPECT_EQ_STR(double_text(1e-5), "1e-05");
    EXPECT_EQ_STR(double_text(0.0001), "0.0001");
    EXPECT_EQ_STR(double_text(123456789012345), "123456789012345");
    EXPECT_EQ_STR(double_text(1e15), "1e+15");
    EXPECT_EQ_STR(double_text(1234567890123456), "1.234567890123456e+15");
    EXPECT_EQ_STR(double_text(0.1 + 0.2), "0.30000000000000004");
    EXPECT_EQ_STR(double_text(1.0 / 3), "0.3333333333333333");
    EXPECT_EQ_STR(double_text(5e-324), "5e-324");
    EXPECT_EQ_STR(double_text(DBL_MIN), "2.2250738585072014e-308");
    EXPECT_EQ_STR(double_text(DBL_MAX), "1.7976931348623157e+308");
    EXPECT_EQ_STR(double_text(ldexp(1, -44)),
                  "5.684341886080802e-14"); /* %.16g says ...801, which is another double */
    EXPECT_EQ_STR(double_text(9007199254740992), "9.007199254740992e+15");
    EXPECT_EQ_STR(double_text(1e23),
                  "9.999999999999999e+22"); /* 1e+23 is the middle between two doubles */
    EXPECT_EQ_STR(double_text(1e22), "1e+22");
    EXPECT_EQ_STR(double_text(9.5e-7), "9.5e-07");
    EXPECT_EQ_STR(float_text(0.1f), "0.1");
    EXPECT_EQ_STR(float_text(16777216), "1.6777216e+07");
    EXPECT_EQ_STR(float_text(123456.0f), "123456");
    EXPECT_EQ_STR(float_text(1234567.0f), "1.234567e+06");
    EXPECT_EQ_STR(float_text(123456792.0f), "1.2345679e+08");
    EXPECT_EQ_STR(float_text(0.3f), "0.3");
    EXPECT_EQ_STR(float_text(1.0f / 3), "0.33333334");
    EXPECT_EQ_STR(float_text(1e-45f), "1e-45");
    EXPECT_EQ_STR(float_text(FLT_MAX), "3.4028235e+38");
    EXPECT_EQ_STR(float_text(FLT_MIN), "1.1754944e-38");
    EXPECT_EQ_STR(float_text(3.14159f), "3.14159");
    EXPECT_EQ_STR(float_text(1e6f), "1e+06");
    EXPECT_EQ_STR(float_text(NAN), "NaN");
    EXPECT_EQ_STR(float_text(-0.0f), "-0");
}

static int significant_digits(const char *text) {
    int count = 0;
    int zeros = 0;
    for (const char *p = text; *p && *p != 'e'; p++) {
        if (*p == '-' || *p == '.') {
            continue;
        }
        if (*p == '0') {
            zeros += count > 0;
        } else {
            count += zeros + 1;
            zeros = 0;
        }
    }
    return count;
}

/* Does the nearest decimal of so many digits read back as v? */
static bool digits_suffice(double v, int count, bool narrow) {
    char text[40];
    snprintf(text, sizeof text, "%.*e", count - 1, v);
    return narrow ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v;
}

TEST(float_text_reads_back_and_is_short) {
    uint64_t random = 7;
    for (int round = 0; round < 40000; round++) {
        double v;
        uint64_t bits = next_random(&random);
        if (round % 4 == 0) {
            memcpy(&v, &bits, sizeof v);
        } else if (round % 4 == 1) {
            v = (double)(bits % 100000000) /
                (double)(uint64_t[]){ 1, 10, 100, 1000, 10000 }[bits >> 60 & 3];
        } else if (round % 4 == 2) {
            v = (double)(bits >> 11) * 0x1p-53 * 1000;
        } else {
            v = ldexp(1, (int)(bits % 2000) - 1050);
        }
        if (isnan(v) || isinf(v)) {
            continue;
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        value_put_float64(&out, v);
        const char *text = buf_cstr(&out);
        bool good = EXPECT_TRUE(strtod(text, NULL) == v);
        int digits = significant_digits(text);
        good = good && (digits <= 15 ? (digits < 2 || v == 0 || fabs(v) < DBL_MIN ||
                                        !digits_suffice(v, digits - 1, false))
                                     : EXPECT_TRUE(digits <= 17) && !digits_suffice(v, 15, false));
        EXPECT_EQ_STR(good ? "" : text, "");
        buf_clear(&out);
        float narrow = round % 4 == 0 ? (float)fmod(v, 1e30) : (float)v;
        if (isinf(narrow) || narrow == 0) {
            buf_release(&out);
            continue;
        }
        value_put_float32(&out, narrow);
        text = buf_cstr(&out);
        good = EXPECT_TRUE(strtof(text, NULL) == narrow);
        digits = significant_digits(text);
        good = good && digits <= 9 &&
               (digits < 2 || fabsf(narrow) < FLT_MIN ||
                !digits_suffice(narrow, digits - 1, true) || digits > 7);
        EXPECT_EQ_STR(good ? "" : text, "");
        buf_release(&out);
    }
}

static const char *put_text(void (*put)(struct buf *, int64_t), int64_t v) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    put(&out, v);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}
static void put_date(struct buf *out, int64_t v) { value_put_date(out, (int32_t)v); }
static void put_stamp(struct buf *out, int64_t v) { value_put_timestamp(out, v, false); }
static void put_stamp_utc(struct buf *out, int64_t v) { value_put_timestamp(out, v, true); }

TEST(civil_dates_follow_the_calendar_day_by_day) {
    static const unsigned month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int64_t year = -801;
    unsigned month = 1;
    unsigned day = 1;
    int32_t days = (int32_t)value_days_from_civil(year, month, day);
    while (year < 2402) {
        int32_t got_year;
        unsigned got_month;
        unsigned got_day;
        value_civil_from_days(days, &got_year, &got_month, &got_day);
        if (!EXPECT_TRUE(got_year == year && got_month == month && got_day == day) ||
            !EXPECT_EQ_INT(value_days_from_civil(year, month, day), days)) {
            return;
        }
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        days++;
        if (++day > month_days[month - 1] + (month == 2 && leap)) {
            day = 1;
            if (++month > 12) {
                month = 1;
                year++;
            }
        }
    }
    EXPECT_EQ_INT(value_days_from_civil(2000, 1, 1), 0);
    EXPECT_EQ_INT(value_days_from_civil(1970, 1, 1), -10957);
}

TEST(dates_and_timestamps_are_iso_8601_with_astronomical_years) {
    EXPECT_EQ_STR(put_text(put_date, 0), "2000-01-01");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(-43, 3, 15)), "-0043-03-15");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(0, 2, 29)), "0000-02-29");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(9999, 12, 31)), "9999-12-31");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(10000, 1, 1)), "+10000-01-01");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(5874897, 12, 31)), "+5874897-12-31");
    EXPECT_EQ_STR(put_text(put_date, value_days_from_civil(-4713, 11, 24)), "-4713-11-24");
    EXPECT_EQ_STR(put_text(put_date, INT32_MIN), "-infinity");
    EXPECT_EQ_STR(put_text(put_date, INT32_MAX), "infinity");
    EXPECT_EQ_STR(put_text(put_stamp, 0), "2000-01-01T00:00:00");
    EXPECT_EQ_STR(put_text(put_stamp, -1), "1999-12-31T23:59:59.999999");
    EXPECT_EQ_STR(put_text(put_stamp_utc, 678000), "2000-01-01T00:00:00.678Z");
    EXPECT_EQ_STR(put_text(put_stamp_utc, 86400000000 * 365 + 10), "2000-12-31T00:00:00.00001Z");
    EXPECT_EQ_STR(put_text(put_stamp, INT64_MIN), "-infinity");
    EXPECT_EQ_STR(put_text(put_stamp_utc, INT64_MAX), "infinity");
    EXPECT_EQ_STR(
        put_text(put_stamp, (value_days_from_civil(294276, 12, 31) + 1) * 86400000000 - 1),
        "+294276-12-31T23:59:59.999999");
    EXPECT_EQ_STR(put_text(put_stamp, INT64_MIN + 1), "-290278-12-22T19:59:05.224193");
}

TEST(times_go_beyond_a_day_and_below_zero) {
    EXPECT_EQ_STR(put_text(value_put_time, 0), "00:00:00");
    EXPECT_EQ_STR(put_text(value_put_time, 14706789000), "04:05:06.789");
    EXPECT_EQ_STR(put_text(value_put_time, 86400000000), "24:00:00");
    EXPECT_EQ_STR(put_text(value_put_time, -3020399000000), "-838:59:59");
    EXPECT_EQ_STR(put_text(value_put_time, 1), "00:00:00.000001");
    EXPECT_EQ_STR(put_text(value_put_time, INT64_MIN), "-2562047788:00:54.775808");
    struct buf out;
    buf_init(&out, SIZE_MAX);
    value_put_timetz(&out, 14706000000, 19800);
    buf_putc(&out, ' ');
    value_put_timetz(&out, 0, 0);
    buf_putc(&out, ' ');
    value_put_timetz(&out, 1500000, -57599);
    EXPECT_EQ_STR(buf_cstr(&out), "04:05:06+05:30 00:00:00+00:00 00:00:01.5-15:59:59");
    buf_release(&out);
}

TEST(uuids_and_bits_are_written_digit_by_digit) {
    static const uint8_t uuid[16] = { 0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3,
                                      0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xff };
    static const uint8_t bits[] = { 10, 0, 0, 0, 0x5A, 0x80 };
    static const uint8_t none[] = { 0, 0, 0, 0 };
    struct buf out;
    buf_init(&out, SIZE_MAX);
    value_put_uuid(&out, uuid);
    buf_putc(&out, ' ');
    value_put_bits(&out, bits, sizeof bits);
    value_put_bits(&out, none, sizeof none);
    EXPECT_EQ_STR(buf_cstr(&out), "123e4567-e89b-12d3-a456-4266141740ff 0101101010");
    buf_release(&out);
}
