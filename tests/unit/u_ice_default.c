/* Defaults of fields: to JSON and back, cell by cell, and what is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_default.h"
#include "tests/unit/kit.h"

/* A column of the source with this cell in old rows, told as the lake has it. False: it cannot be.
 */
static bool tell(struct type type, const void *cell, uint32_t len, struct buf *out) {
    struct lake_type lake = lake_type_of(&type, false);
    struct column_def c = { .name = "c",
                            .type = type,
                            .source_type = "",
                            .key_pos = -1,
                            .missing = cell,
                            .missing_len = len };
    buf_clear(out);
    return ice_default_of_column(out, &c, &lake);
}

/* It is told as `json`, and that is the same cell again. */
static void expect_told(struct type type, const void *cell, uint32_t len, const char *json) {
    struct buf out, again;
    struct err err = ERR_INIT;
    struct ice_default d;
    buf_init(&out, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    EXPECT_TRUE(tell(type, cell, len, &out));
    EXPECT_EQ_STR(buf_cstr(&out), json);
    struct ice_field f = { .name = "c",
                           .type = lake_type_of(&type, false),
                           .initial_default = buf_cstr(&out) };
    if (EXPECT_EQ_INT(ice_default_init(&d, &f, &err), 0)) {
        EXPECT_TRUE(d.there && d.column.rows == 1);
        EXPECT_TRUE(ice_default_put(&again, &d.column, 0));
        EXPECT_EQ_STR(buf_cstr(&again), json);
        struct lake_builder b;
        struct lake_column column;
        lake_builder_init(&b);
        lake_builder_begin(&b, &f.type);
        ice_default_add(&d, &b);
        ice_default_add(&d, &b);
        lake_builder_column(&b, &column);
        buf_clear(&again);
        EXPECT_TRUE(column.rows == 2 && !column.valid && ice_default_put(&again, &column, 1));
        EXPECT_EQ_STR(buf_cstr(&again), json);
        lake_builder_release(&b);
    }
    ice_default_release(&d);
    buf_release(&out);
    buf_release(&again);
}

#define TOLD(kind_, ctype, value, json)                                                            \
    do {                                                                                           \
        ctype cell_ = (value);                                                                     \
        expect_told((struct type){ .kind = (kind_) }, &cell_, sizeof cell_, (json));               \
    } while (0)

#define DAY INT64_C(86400000000)
#define DAYS_1970 (-10957) /* of the source's days, which begin in 2000 */

TEST(ice_default_numbers) {
    TOLD(TYPE_BOOL, uint8_t, 1, "true");
    TOLD(TYPE_BOOL, uint8_t, 0, "false");
    TOLD(TYPE_INT16, int16_t, -7, "-7");
    TOLD(TYPE_INT32, int32_t, INT32_MIN, "-2147483648");
    TOLD(TYPE_INT64, int64_t, INT64_MIN, "-9223372036854775808");
    TOLD(TYPE_UINT32, uint32_t, UINT32_MAX, "4294967295");
    TOLD(TYPE_FLOAT32, float, 0.1f, "0.1");
    TOLD(TYPE_FLOAT32, float, 5, "5.0");
    TOLD(TYPE_FLOAT64, double, -0.0, "-0.0");
    TOLD(TYPE_FLOAT64, double, 0.1, "0.1");
    int64_t cents = -1230;
    struct type decimal = { .kind = TYPE_DECIMAL, .precision = 10, .scale = 2 };
    expect_told(decimal, &cents, sizeof cents, "\"-12.30\"");
}

TEST(ice_default_times) {
    TOLD(TYPE_DATE, int32_t, DAYS_1970 - 1, "\"1969-12-31\"");
    TOLD(TYPE_DATE, int32_t, 2921939, "\"9999-12-31\"");
    TOLD(TYPE_TIME, int64_t, DAY - 1, "\"23:59:59.999999\"");
    TOLD(TYPE_TIMESTAMP, int64_t, DAYS_1970 * DAY - 1, "\"1969-12-31T23:59:59.999999\"");
    TOLD(TYPE_TIMESTAMPTZ, int64_t, 6, "\"2000-01-01T00:00:00.000006+00:00\"");
}

TEST(ice_default_texts_and_bytes) {
    struct type text = { .kind = TYPE_TEXT }, bytes = { .kind = TYPE_BYTES };
    expect_told(text, "", 0, "\"\"");
    expect_told(text, "a \"b\" \\ \n\xc3\xa9", 11, "\"a \\\"b\\\" \\\\ \\n\xc3\xa9\"");
    expect_told(bytes, "\x00\xff", 2, "\"00ff\"");
    uint8_t uuid[16] = { 0, 0x11, 0x22, 0x33, 0x44 };
    expect_told((struct type){ .kind = TYPE_UUID }, uuid, 16,
                "\"00112233-4400-0000-0000-000000000000\"");
}

TEST(ice_default_what_cannot_be_told) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    double nan = NAN;
    int32_t far = 2921940;
    char *long_text = xmalloc(ICE_DEFAULT_BYTES_MAX + 1);
    memset(long_text, 'x', ICE_DEFAULT_BYTES_MAX + 1);
    struct type text = { .kind = TYPE_TEXT };
    EXPECT_TRUE(!tell((struct type){ .kind = TYPE_FLOAT64 }, &nan, sizeof nan, &out));
    EXPECT_TRUE(!tell((struct type){ .kind = TYPE_DATE }, &far, sizeof far, &out));
    EXPECT_TRUE(!tell(text, "\xff", 1, &out));
    EXPECT_TRUE(!tell(text, long_text, ICE_DEFAULT_BYTES_MAX + 1, &out));
    EXPECT_TRUE(tell(text, long_text, ICE_DEFAULT_BYTES_MAX, &out));
    EXPECT_EQ_INT(out.len, ICE_DEFAULT_BYTES_MAX + 2);
    free(long_text);
    buf_release(&out);
}

static bool reads(const char *type, const char *json) {
    struct ice_field f = { .name = "c", .initial_default = json };
    struct ice_default d;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(lake_type_from_name(type, &f.type), 0);
    bool good = ice_default_init(&d, &f, &err) == 0;
    EXPECT_TRUE(good || strcmp(err.code, "iceberg_schema") == 0);
    ice_default_release(&d);
    err_clear(&err);
    return good;
}

TEST(ice_default_of_others) {
    EXPECT_TRUE(reads("timestamp", "\"2026-01-02T03:04\""));
    EXPECT_TRUE(reads("timestamptz", "\"2026-01-02T03:04:05.5Z\""));
    EXPECT_TRUE(reads("binary", "\"00FF\"") && reads("double", "5") && reads("float", "1e3"));
    static const char *const wrong[][2] = {
        { "int", "2147483648" },
        { "int", "\"1\"" },
        { "int", "1.5" },
        { "boolean", "1" },
        { "float", "1e39" },
        { "decimal(4,2)", "\"1.234\"" },
        { "decimal(4,2)", "\"NaN\"" },
        { "decimal(4,2)", "123.45" },
        { "date", "\"2026-13-01\"" },
        { "date", "\"2026-01-02x\"" },
        { "time", "\"24:00:00\"" },
        { "time", "\"01:02:03.\"" },
        { "timestamp", "\"2026-01-02 03:04:05\"" },
        { "timestamptz", "\"2026-01-02T03:04:05\"" },
        { "timestamptz", "\"2026-01-02T03:04:05+01:00\"" },
        { "uuid", "\"0011\"" },
        { "uuid", "\"00112233-4400-0000-0000-0000000000001\"" },
        { "binary", "\"0\"" },
        { "binary", "\"0g\"" },
        { "string", "5" },
        { "string", "nothing" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        EXPECT_EQ_STR(reads(wrong[i][0], wrong[i][1]) ? wrong[i][1] : "", "");
    }
}
