/* PostgreSQL's text forms, as its output functions give them. */
#include "cdc/base/err.h"
#include "cdc/value.h"
#include "sinks/encode/server_text.h"
#include "tests/unit/kit.h"

static const char *text_of(const char *type_name, const void *cell, size_t len) {
    struct type type;
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    const char *result = "no such type";
    if (type_from_name(type_name, &type) == 0) {
        result = server_text_put(&out, &type, cell, len, &err) ? kit_text("%s", err.code)
                                                               : kit_text("%s", buf_cstr(&out));
    }
    buf_release(&out);
    return result;
}
#define TEXT(type, ctype, value) text_of(type, &(ctype){ value }, sizeof(ctype))

TEST(server_text_floats) {
    EXPECT_EQ_STR(TEXT("float64", double, 0.1), "0.1");
    EXPECT_EQ_STR(TEXT("float64", double, 100), "100");
    EXPECT_EQ_STR(TEXT("float64", double, -1234.5), "-1234.5");
    EXPECT_EQ_STR(TEXT("float64", double, 1e14), "100000000000000");
    EXPECT_EQ_STR(TEXT("float64", double, 1e15), "1e+15");
    EXPECT_EQ_STR(TEXT("float64", double, 123456789012345678.0), "1.2345678901234568e+17");
    EXPECT_EQ_STR(TEXT("float64", double, 0.0001), "0.0001");
    EXPECT_EQ_STR(TEXT("float64", double, 0.00001234), "1.234e-05");
    EXPECT_EQ_STR(TEXT("float64", double, 5e-324), "5e-324");
    EXPECT_EQ_STR(TEXT("float64", double, 1.7976931348623157e308), "1.7976931348623157e+308");
    EXPECT_EQ_STR(TEXT("float64", double, 0), "0");
    EXPECT_EQ_STR(TEXT("float64", double, -0.0), "-0");
    EXPECT_EQ_STR(TEXT("float64", double, __builtin_nan("")), "NaN");
    EXPECT_EQ_STR(TEXT("float64", double, -__builtin_inf()), "-Infinity");
    EXPECT_EQ_STR(TEXT("float32", float, 0.1f), "0.1");
    EXPECT_EQ_STR(TEXT("float32", float, 100000.f), "100000");
    EXPECT_EQ_STR(TEXT("float32", float, 1000000.f), "1e+06");
    EXPECT_EQ_STR(TEXT("float32", float, 16777216.f), "1.6777216e+07");
    EXPECT_EQ_STR(TEXT("float32", float, __builtin_inff()), "Infinity");
}

TEST(server_text_times) {
    EXPECT_EQ_STR(TEXT("date", int32_t, 9498), "2026-01-02");
    EXPECT_EQ_STR(TEXT("date", int32_t, -746117), "0044-03-15 BC");
    EXPECT_EQ_STR(TEXT("date", int32_t, INT32_MIN), "-infinity");
    EXPECT_EQ_STR(TEXT("time", int64_t, INT64_C(86400000000)), "24:00:00");
    EXPECT_EQ_STR(TEXT("time", int64_t, INT64_C(14706789000)), "04:05:06.789");
    EXPECT_EQ_STR(TEXT("timestamp", int64_t, -1), "1999-12-31 23:59:59.999999");
    EXPECT_EQ_STR(TEXT("timestamptz", int64_t, 1500000), "2000-01-01 00:00:01.5+00");
    EXPECT_EQ_STR(TEXT("timestamptz", int64_t, INT64_C(-746117) * 86400 * 1000000),
                  "0044-03-15 00:00:00+00 BC");
    EXPECT_EQ_STR(TEXT("timestamp", int64_t, INT64_MAX), "infinity");
    struct {
        int64_t us;
        int32_t a, b;
    } c[] = { { 5025000000, 19800, 0 },
              { 5025000000, -7200, 0 },
              { 14706789000, 3, 14 },
              { 0, 0, 0 },
              { 3600000000, -1, 0 },
              { -1500000, 0, -13 },
              { 0, 1, -1 } };
    EXPECT_EQ_STR(text_of("timetz", &c[0], 16), "01:23:45+05:30");
    EXPECT_EQ_STR(text_of("timetz", &c[1], 16), "01:23:45-02");
    EXPECT_EQ_STR(text_of("interval", &c[2], 16), "1 year 2 mons 3 days 04:05:06.789");
    EXPECT_EQ_STR(text_of("interval", &c[3], 16), "00:00:00");
    EXPECT_EQ_STR(text_of("interval", &c[4], 16), "-1 days +01:00:00");
    EXPECT_EQ_STR(text_of("interval", &c[5], 16), "-1 years -1 mons -00:00:01.5");
    EXPECT_EQ_STR(text_of("interval", &c[6], 16), "-1 mons +1 day");
}

#define U32(a)                                                                                     \
    (char)((a)&255), (char)((a) >> 8 & 255), (char)((a) >> 16 & 255), (char)((a) >> 24 & 255)
#define IMAGE(type, ...)                                                                           \
    text_of(type, (const char[]){ __VA_ARGS__ }, sizeof((const char[]){ __VA_ARGS__ }))

TEST(server_text_others) {
    EXPECT_EQ_STR(TEXT("bool", uint8_t, 1), "true");
    EXPECT_EQ_STR(TEXT("int16", int16_t, -5), "-5");
    EXPECT_EQ_STR(TEXT("uint64", uint64_t, UINT64_MAX), "18446744073709551615");
    EXPECT_EQ_STR(TEXT("decimal(10,2)", int64_t, -5), "-0.05");
    EXPECT_EQ_STR(text_of("bytes", "\x00\xab", 2), "\\x00ab");
    EXPECT_EQ_STR(text_of("bit", "\x03\0\0\0\xa0", 5), "101");
    EXPECT_EQ_STR(text_of("json", "{}", 2), "{}");
    EXPECT_EQ_STR(IMAGE("array<int32>", U32(0)), "{}");
    EXPECT_EQ_STR(IMAGE("array<bool>", U32(1), U32(2), U32(1), U32(1), 1, U32(1), 0), "{t,f}");
    EXPECT_EQ_STR(IMAGE("array<text>", U32(1), U32(5), U32(1), U32(1), 'a', U32(0), U32(4), 'n',
                        'u', 'L', 'l', U32(-1), U32(2), '"', '\\'),
                  "{a,\"\",\"nuLl\",NULL,\"\\\"\\\\\"}");
    EXPECT_EQ_STR(
        IMAGE("array<text>", U32(2), U32(1), U32(0), U32(2), U32(1), U32(1), 'a', U32(2), 'b', ' '),
        "[0:0][1:2]={{a,\"b \"}}");
    EXPECT_EQ_STR(IMAGE("array<text>", U32(1), U32(1), U32(1), U32(5), 'a'), "array_malformed");
}
