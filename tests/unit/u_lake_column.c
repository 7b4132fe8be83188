/* Lake types and the cells that become theirs: every kind of the change model, whole columns, rows
 * picked out, arrays, text forms, and each value that a lake cannot say. */
#include <stdlib.h>
#include <string.h>

#include "sinks/parquet/lake_type.h"
#include "tests/unit/kit.h"
#include "tests/unit/u_sink_rows.h"

static const char *lake_name(const char *type_name, bool as_text) {
    struct type type;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    CHECK(type_from_name(type_name, &type) == 0);
    struct lake_type lake = lake_type_of(&type, as_text);
    if (lake.kind == LAKE_LIST) {
        struct lake_type element = { lake.element, 0, lake.precision, lake.scale };
        buf_puts(&out, "list ");
        lake_type_put_name(&out, &element);
    } else {
        lake_type_put_name(&out, &lake);
        struct lake_type back;
        EXPECT_EQ_INT(lake_type_from_name(buf_cstr(&out), &back), 0);
        EXPECT_TRUE(lake_type_equal(&lake, &back));
    }
    const char *name = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return name;
}

TEST(lake_types_of_the_change_model) {
    static const char *const pairs[][2] = {
        { "bool", "boolean" },
        { "int8", "int" },
        { "int16", "int" },
        { "int32", "int" },
        { "int64", "long" },
        { "uint8", "int" },
        { "uint16", "int" },
        { "uint32", "long" },
        { "uint64", "decimal(20,0)" },
        { "float32", "float" },
        { "float64", "double" },
        { "decimal(15,2)", "decimal(15,2)" },
        { "decimal(38,38)", "decimal(38,38)" },
        { "decimal(39,2)", "string" },
        { "decimal(3,5)", "string" },
        { "decimal(5,-2)", "string" },
        { "numeric", "string" },
        { "text", "string" },
        { "bytes", "binary" },
        { "date", "date" },
        { "time", "time" },
        { "timetz", "string" },
        { "timestamp", "timestamp" },
        { "timestamptz", "timestamptz" },
        { "interval", "string" },
        { "uuid", "uuid" },
        { "json", "string" },
        { "enum", "string" },
        { "set", "string" },
        { "bit", "string" },
        { "year", "int" },
        { "geometry", "binary" },
        { "other", "string" },
        { "array<int32>", "list int" },
        { "array<timestamptz>", "list timestamptz" },
        { "array<interval>", "list string" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        EXPECT_EQ_STR(lake_name(pairs[i][0], false), pairs[i][1]);
        EXPECT_EQ_STR(lake_name(pairs[i][0], true), "string");
    }
}

TEST(lake_names_that_are_none) {
    static const char *const bad[] = {
        "decimal(39,0)", "decimal(0,0)", "decimal(5,6)",
        "decimal(5)",    "decimal(5,2",  "decimal(5,2)x",
        "decimal(-5,2)", "Long",         "",
        "list",          "fixed[3]",     "decimal(99999999999999999999,2)"
    };
    struct lake_type out;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        EXPECT_EQ_INT(lake_type_from_name(bad[i], &out), -1);
    }
    EXPECT_EQ_INT(lake_type_from_name("decimal(9, 2)", &out), 0);
    EXPECT_TRUE(out.kind == LAKE_DECIMAL && out.precision == 9 && out.scale == 2);
}

TEST(lake_types_widen_as_iceberg_allows) {
    struct lake_type i = { .kind = LAKE_INT };
    struct lake_type l = { .kind = LAKE_LONG };
    struct lake_type f = { .kind = LAKE_FLOAT };
    struct lake_type d = { .kind = LAKE_DOUBLE };
    struct lake_type d92 = { LAKE_DECIMAL, 0, 9, 2 };
    struct lake_type d102 = { LAKE_DECIMAL, 0, 10, 2 };
    struct lake_type d103 = { LAKE_DECIMAL, 0, 10, 3 };
    struct lake_type li = { LAKE_LIST, LAKE_INT, 0, 0 };
    struct lake_type ll = { LAKE_LIST, LAKE_LONG, 0, 0 };
    EXPECT_TRUE(lake_type_widens(&i, &l) && lake_type_widens(&f, &d) &&
                lake_type_widens(&d92, &d102));
    EXPECT_TRUE(lake_type_widens(&li, &ll));
    EXPECT_TRUE(!lake_type_widens(&l, &i) && !lake_type_widens(&i, &d) &&
                !lake_type_widens(&i, &i));
    EXPECT_TRUE(!lake_type_widens(&d102, &d92) && !lake_type_widens(&d92, &d103) &&
                !lake_type_widens(&li, &l));
}

/* ---- columns of one batch, a column at a time ---- */

static struct batch *batch_of(const char *type, uint32_t rows) {
    struct schema *schema = rows_schema(1, "t", 1, kit_text("c:%s", type));
    struct batch *b = batch_new(schema, rows + 1, NULL);
    schema_unref(schema);
    return b;
}
static void add_fixed(struct batch *b, const void *cell) {
    memcpy(batch_fixed(b, 0), cell, b->columns[0].width);
    batch_row_done(b, ROW_INSERT, 0, 0);
}
static void add_bytes(struct batch *b, const void *p, size_t len) {
    batch_put_var(b, 0, p, len);
    batch_row_done(b, ROW_INSERT, 0, 0);
}
static void add_null(struct batch *b) {
    batch_put_null(b, 0);
    batch_row_done(b, ROW_INSERT, 0, 0);
}

static int convert(struct lake_scratch *s, const struct batch *b, const uint32_t *rows,
                   uint32_t count, struct lake_type to, struct lake_column *out, struct err *err) {
    err_clear(err);
    return lake_column_of(s, b, 0, rows, count, &to, out, err);
}

static bool cell_is_null(const struct lake_column *c, uint32_t row) {
    return c->valid && !bit_get(c->valid, row);
}
static const char *text_at(const struct lake_column *c, uint32_t row) {
    if (cell_is_null(c, row)) {
        return "null";
    }
    return kit_text("%.*s", (int)(c->offsets[row + 1] - c->offsets[row]),
                    c->data + c->offsets[row]);
}
static int64_t number_at(const struct lake_column *c, uint32_t row) {
    int64_t wide = 0;
    int32_t narrow = 0;
    if (c->width == 4) {
        memcpy(&narrow, c->data + row * 4, 4);
        return narrow;
    }
    memcpy(&wide, c->data + (size_t)row * c->width, 8);
    return wide;
}

static void expect_number(const char *type, const void *cell, struct lake_type to, uint32_t width,
                          int64_t want) {
    struct lake_scratch *s = lake_scratch_new();
    struct batch *b = batch_of(type, 3);
    struct lake_column out;
    struct err err = ERR_INIT;
    add_null(b);
    add_fixed(b, cell);
    add_fixed(b, cell);
    const uint32_t picked[] = { 2, 0 };
    if (EXPECT_EQ_INT(convert(s, b, NULL, 3, to, &out, &err), 0)) {
        EXPECT_TRUE(out.rows == 3 && out.width == width && cell_is_null(&out, 0));
        EXPECT_EQ_INT(number_at(&out, 2), want);
    }
    if (EXPECT_EQ_INT(convert(s, b, picked, 2, to, &out, &err), 0)) {
        EXPECT_TRUE(out.rows == 2 && cell_is_null(&out, 1) && !cell_is_null(&out, 0));
        EXPECT_EQ_INT(number_at(&out, 0), want);
    }
    batch_unref(b);
    lake_scratch_free(s);
}

TEST(lake_cells_of_numbers_and_times) {
    static const struct lake_type i = { .kind = LAKE_INT };
    static const struct lake_type l = { .kind = LAKE_LONG };
    const int8_t i8 = -7;
    const uint8_t u8 = 200;
    const int16_t i16 = -30000;
    const uint16_t u16 = 65535;
    const int32_t i32 = INT32_MIN;
    const uint32_t u32 = UINT32_MAX;
    const int64_t i64 = INT64_MIN;
    const uint64_t u64 = UINT64_MAX;
    expect_number("int8", &i8, i, 4, -7);
    expect_number("int8", &i8, l, 8, -7);
    expect_number("uint8", &u8, i, 4, 200);
    expect_number("uint8", &u8, l, 8, 200);
    expect_number("int16", &i16, i, 4, -30000);
    expect_number("int16", &i16, l, 8, -30000);
    expect_number("year", &i16, i, 4, -30000);
    expect_number("uint16", &u16, i, 4, 65535);
    expect_number("uint16", &u16, l, 8, 65535);
    expect_number("int32", &i32, i, 4, INT32_MIN);
    expect_number("int32", &i32, l, 8, INT32_MIN);
    expect_number("uint32", &u32, l, 8, UINT32_MAX);
    expect_number("int64", &i64, l, 8, INT64_MIN);
    expect_number("uint64", &u64, (struct lake_type){ LAKE_DECIMAL, 0, 20, 0 }, 16,
                  -1); /* low half */
    const int64_t d15 = -1230;
    expect_number("decimal(15,2)", &d15, (struct lake_type){ LAKE_DECIMAL, 0, 15, 2 }, 8, -1230);
    expect_number("decimal(15,2)", &d15, (struct lake_type){ LAKE_DECIMAL, 0, 30, 2 }, 16, -1230);
    const int32_t date = 8766; /* 2024-01-01 */
    expect_number("date", &date, (struct lake_type){ .kind = LAKE_DATE }, 4, 19723);
    const int64_t us = -1;
    expect_number("timestamp", &us, (struct lake_type){ .kind = LAKE_TIMESTAMP }, 8,
                  INT64_C(946684799999999));
    expect_number("timestamptz", &us, (struct lake_type){ .kind = LAKE_TIMESTAMPTZ }, 8,
                  INT64_C(946684799999999));
    const int64_t midnight = INT64_C(86399999999);
    expect_number("time", &midnight, (struct lake_type){ .kind = LAKE_TIME }, 8, midnight);
}

/* The value is refused, but not where its cell is not asked for, and the message says where it is.
 */
static void expect_refused(const char *type, const void *cell, size_t len, struct lake_type to) {
    struct lake_scratch *s = lake_scratch_new();
    struct batch *b = batch_of(type, 2);
    struct lake_column out;
    struct err err = ERR_INIT;
    add_null(b);
    if (b->columns[0].width) {
        add_fixed(b, cell);
    } else {
        add_bytes(b, cell, len);
    }
    EXPECT_EQ_INT(convert(s, b, NULL, 2, to, &out, &err), -1);
    EXPECT_EQ_STR(err.code, "lake_value");
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_TRUE(strstr(err.text, "public.t") && strstr(err.text, "\"c\"") && err.cure[0] != '\0');
    const uint32_t first = 0;
    EXPECT_EQ_INT(convert(s, b, &first, 1, to, &out, &err), 0);
    EXPECT_EQ_INT(convert(s, b, NULL, 1, to, &out, &err), 0);
    batch_unref(b);
    lake_scratch_free(s);
}

TEST(lake_refuses_what_it_cannot_say) {
    static const struct lake_type stamp = { .kind = LAKE_TIMESTAMP };
    static const struct lake_type date = { .kind = LAKE_DATE };
    static const struct lake_type time_of_day = { .kind = LAKE_TIME };
    const int64_t times[] = { INT64_MIN, INT64_MAX, INT64_MAX - INT64_C(946684799999999) };
    const int32_t dates[] = { INT32_MIN, INT32_MAX, INT32_MAX - 10956 };
    for (int i = 0; i < 3; i++) {
        expect_refused("timestamp", &times[i], 8, stamp);
        expect_refused("timestamptz", &times[i], 8, (struct lake_type){ .kind = LAKE_TIMESTAMPTZ });
        expect_refused("date", &dates[i], 4, date);
        const int64_t special[] = { INT64_MIN, INT64_MIN + 1, INT64_MAX };
        expect_refused("decimal(18,3)", &special[i], 8,
                       (struct lake_type){ LAKE_DECIMAL, 0, 18, 3 });
        const uint64_t wide[][2] = { { 0, UINT64_C(1) << 63 },
                                     { 1, UINT64_C(1) << 63 },
                                     { UINT64_MAX, INT64_MAX } };
        expect_refused("decimal(38,3)", wide[i], 16, (struct lake_type){ LAKE_DECIMAL, 0, 38, 3 });
    }
    const int64_t day = INT64_C(86400000000);
    const int64_t before = -1;
    expect_refused("time", &day, 8, time_of_day);
    expect_refused("time", &before, 8, time_of_day);
    expect_refused("text", "abc\xff", 4, (struct lake_type){ .kind = LAKE_STRING });
    expect_refused("text", "\xed\xa0\x80", 3, (struct lake_type){ .kind = LAKE_STRING });
    expect_refused("geometry", "\x01\0\0\0xyz", 7, (struct lake_type){ .kind = LAKE_BINARY });
    static const uint32_t square[] = { 2, 1, 1, 1, 1, UINT32_MAX };
    static const uint32_t from_zero[] = { 1, 1, 0, UINT32_MAX };
    expect_refused("array<int32>", square, sizeof square,
                   (struct lake_type){ LAKE_LIST, LAKE_INT, 0, 0 });
    expect_refused("array<int32>", from_zero, sizeof from_zero,
                   (struct lake_type){ LAKE_LIST, LAKE_INT, 0, 0 });
}

TEST(lake_takes_the_last_values_that_fit) {
    const int64_t last = INT64_MAX - INT64_C(946684800000000);
    const int64_t first = INT64_MIN + 1;
    const int32_t last_day = INT32_MAX - 10957;
    const int32_t first_day = INT32_MIN + 1;
    expect_number("timestamp", &last, (struct lake_type){ .kind = LAKE_TIMESTAMP }, 8, INT64_MAX);
    expect_number("timestamp", &first, (struct lake_type){ .kind = LAKE_TIMESTAMP }, 8,
                  INT64_MIN + 1 + INT64_C(946684800000000));
    expect_number("date", &last_day, (struct lake_type){ .kind = LAKE_DATE }, 4, INT32_MAX);
    expect_number("date", &first_day, (struct lake_type){ .kind = LAKE_DATE }, 4,
                  INT32_MIN + 1 + 10957);
}

static void expect_text(const char *type, const void *cell, size_t len, const char *want) {
    struct lake_scratch *s = lake_scratch_new();
    struct batch *b = batch_of(type, 3);
    struct lake_column out;
    struct err err = ERR_INIT;
    for (int i = 0; i < 2; i++) {
        if (b->columns[0].width) {
            add_fixed(b, cell);
        } else {
            add_bytes(b, cell, len);
        }
        if (i == 0) {
            add_null(b);
        }
    }
    const uint32_t picked[] = { 1, 2 };
    struct lake_type string = { .kind = LAKE_STRING };
    if (EXPECT_EQ_INT(convert(s, b, NULL, 3, string, &out, &err), 0)) {
        EXPECT_EQ_STR(text_at(&out, 0), want);
        EXPECT_TRUE(cell_is_null(&out, 1) && out.offsets[1] == out.offsets[2]);
        EXPECT_EQ_STR(text_at(&out, 2), want);
    }
    if (EXPECT_EQ_INT(convert(s, b, picked, 2, string, &out, &err), 0)) {
        EXPECT_EQ_STR(text_at(&out, 0), "null");
        EXPECT_EQ_STR(text_at(&out, 1), want);
    }
    batch_unref(b);
    lake_scratch_free(s);
}

TEST(lake_cells_as_text) {
    const uint8_t yes = 1;
    const int64_t d = -1230;
    const uint64_t u64 = UINT64_MAX;
    const double nan = __builtin_nan("");
    const double half = -0.5;
    const int64_t us = 1;
    const int64_t never = INT64_MAX;
    const int32_t date = -1;
    uint8_t timetz[16] = { 0 };
    const int32_t east = 3600;
    memcpy(timetz + 8, &east, 4);
    uint8_t interval[16] = { 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0 };
    static const uint8_t bits[] = { 5, 0, 0, 0, 0x58 };
    static const uint32_t array[] = { 1, 3, 1, 4, 7, UINT32_MAX, 4, 9 };
    static const uint32_t lower[] = { 1, 1, 0, 4, 7 };
    expect_text("bool", &yes, 1, "true");
    expect_text("decimal(15,2)", &d, 8, "-12.30");
    expect_text("uint64", &u64, 8, "18446744073709551615");
    expect_text("float64", &nan, 8, "NaN");
    expect_text("float64", &half, 8, "-0.5");
    expect_text("timestamptz", &us, 8, "2000-01-01T00:00:00.000001Z");
    expect_text("timestamp", &never, 8, "infinity");
    expect_text("date", &date, 4, "1999-12-31");
    expect_text("timetz", timetz, 16, "00:00:00+01:00");
    expect_text("interval", interval, 16, "{\"months\":1,\"days\":2,\"us\":3}");
    expect_text("bit", bits, sizeof bits, "01011");
    expect_text("bytes", "\xff\x01", 2, "/wE=");
    expect_text("uuid", "0123456789abcdef", 16, "30313233-3435-3637-3839-616263646566");
    expect_text("text", "gr\xc3\xbc\xc3\x9f\x65 \"a\\b\"", 13, "gr\xc3\xbc\xc3\x9f\x65 \"a\\b\"");
    expect_text("json", "{\"a\":1}", 7, "{\"a\":1}");
    expect_text("numeric", "1e5", 3, "1e5");
    expect_text("array<int32>", array, sizeof array, "[7,null,9]");
    expect_text("array<int32>", lower, sizeof lower, "{\"lower\":[0],\"values\":[7]}");
    expect_text("geometry", "\0\0\0\0\x01\x02", 6, "{\"srid\":0,\"wkb\":\"AQI=\"}");
}

TEST(lake_lists_of_arrays) {
    static const uint32_t three[] = { 1, 3, 1, 4, 7, UINT32_MAX, 4, (uint32_t)-9 };
    static const uint32_t none[] = { 0 };
    static const uint32_t one[] = { 1, 1, 1, 4, 5 };
    struct lake_scratch *s = lake_scratch_new();
    struct batch *b = batch_of("array<int32>", 4);
    struct lake_column out;
    struct err err = ERR_INIT;
    struct lake_type list = { LAKE_LIST, LAKE_INT, 0, 0 };
    add_bytes(b, three, sizeof three);
    add_null(b);
    add_bytes(b, none, sizeof none);
    add_bytes(b, one, sizeof one);
    if (EXPECT_EQ_INT(convert(s, b, NULL, 4, list, &out, &err), 0)) {
        static const uint32_t offsets[] = { 0, 3, 3, 3, 4 };
        EXPECT_EQ_MEM(out.offsets, sizeof offsets, offsets, sizeof offsets);
        EXPECT_TRUE(cell_is_null(&out, 1) && !cell_is_null(&out, 2) && out.elements->rows == 4);
        EXPECT_TRUE(cell_is_null(out.elements, 1));
        EXPECT_EQ_INT(number_at(out.elements, 0), 7);
        EXPECT_EQ_INT(number_at(out.elements, 2), -9);
        EXPECT_EQ_INT(number_at(out.elements, 3), 5);
    }
    const uint32_t picked[] = { 3, 1 };
    if (EXPECT_EQ_INT(convert(s, b, picked, 2, list, &out, &err), 0)) {
        EXPECT_TRUE(out.offsets[1] == 1 && out.offsets[2] == 1 && out.elements->rows == 1);
        EXPECT_EQ_INT(number_at(out.elements, 0), 5);
    }
    batch_unref(b);
    struct batch *texts = batch_of("array<text>", 1);
    static const char two[] = "\x01\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0hi\0\0\0\0";
    add_bytes(texts, two, sizeof two - 1);
    list.element = LAKE_STRING;
    if (EXPECT_EQ_INT(convert(s, texts, NULL, 1, list, &out, &err), 0)) {
        EXPECT_EQ_STR(text_at(out.elements, 0), "hi");
        EXPECT_EQ_STR(text_at(out.elements, 1), "");
    }
    batch_unref(texts);
    lake_scratch_free(s);
}

TEST(lake_lists_check_array_images) {
    static const uint32_t narrow[] = { 1, 1, 1, 2, 7 };
    static const uint32_t cut[] = { 1, 2, 1, 4, 7 };
    struct lake_scratch *s = lake_scratch_new();
    struct lake_column out;
    struct err err = ERR_INIT;
    struct lake_type list = { LAKE_LIST, LAKE_INT, 0, 0 };
    for (int i = 0; i < 2; i++) {
        struct batch *b = batch_of("array<int32>", 1);
        add_bytes(b, i ? cut : narrow, i ? sizeof cut : 18);
        EXPECT_EQ_INT(convert(s, b, NULL, 1, list, &out, &err), -1);
        EXPECT_EQ_STR(err.code, "array_malformed");
        batch_unref(b);
    }
    lake_scratch_free(s);
}

TEST(lake_cells_that_agree_are_borrowed) {
    struct lake_scratch *s = lake_scratch_new();
    struct lake_column out;
    struct err err = ERR_INIT;
    struct batch *b = batch_of("int64", 1);
    const int64_t v = 5;
    add_fixed(b, &v);
    EXPECT_EQ_INT(convert(s, b, NULL, 1, (struct lake_type){ .kind = LAKE_LONG }, &out, &err), 0);
    EXPECT_TRUE(out.data == b->columns[0].data);
    batch_unref(b);
    struct batch *t = batch_of("text", 1);
    add_bytes(t, "x", 1);
    EXPECT_EQ_INT(convert(s, t, NULL, 1, (struct lake_type){ .kind = LAKE_STRING }, &out, &err), 0);
    EXPECT_TRUE(out.data == t->columns[0].data && out.offsets == t->columns[0].offsets);
    batch_unref(t);
    lake_scratch_free(s);
}

static void convert_absent(void *arg) {
    struct lake_scratch *s = lake_scratch_new();
    struct batch *b = batch_of("text", 1);
    struct lake_column out;
    struct err err = ERR_INIT;
    (void)arg;
    batch_put_absent(b, 0);
    batch_row_done(b, ROW_INSERT, 0, 0);
    convert(s, b, NULL, 1, (struct lake_type){ .kind = LAKE_STRING }, &out, &err);
}

TEST(lake_cells_that_are_not_carried_abort) { EXPECT_TRUE(kit_child(convert_absent, NULL) != 0); }
