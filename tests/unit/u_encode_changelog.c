/* Changelog lines: every op, every type, order across batches, long values, errors. */
#include <inttypes.h>

#include "sinks/encode/changelog_json.h"
#include "tests/unit/u_sink_rows.h"

struct encoded {
    struct changelog_json *e;
    struct buf text;
    size_t largest; /* bytes of one call */
    int fail_after; /* calls; -1 = never */
};

static int collect(void *arg, const void *bytes, size_t len, struct err *err) {
    struct encoded *x = arg;
    if (x->fail_after == 0) {
        return err_set(err, ERR_RETRY, "disk_full", "write: no space");
    }
    x->fail_after -= x->fail_after > 0;
    x->largest = len > x->largest ? len : x->largest;
    buf_put(&x->text, bytes, len);
    return 0;
}

static void encoded_init(struct encoded *x) {
    *x = (struct encoded){ .fail_after = -1 };
    buf_init(&x->text, SIZE_MAX);
    x->e = changelog_json_new(rows_put_logpos, collect, x);
}

static void encoded_release(struct encoded *x) {
    changelog_json_free(x->e);
    buf_release(&x->text);
}

/* What one more item adds. */
static const char *encode(struct encoded *x, const struct stage_item *item) {
    struct err err = ERR_INIT;
    buf_clear(&x->text);
    if (changelog_json_put(x->e, item, &err) || changelog_json_flush(x->e, &err)) {
        return kit_text("%s: %s", err.code, err.text);
    }
    return buf_cstr(&x->text);
}

static const char *encode_batch(struct encoded *x, struct batch *b) {
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    const char *text = encode(x, &item);
    batch_unref(b);
    return text;
}

#define SCHEMA_T                                                                                   \
    "{\"schema\":{\"table\":\"public.t\",\"version\":1,\"columns\":[{\"name\":\"id\",\"type\":"    \
    "\"int64\",\"nullable\":false,\"key\":true},{\"name\":\"body\",\"type\":\"text\","             \
    "\"nullable\":true,\"key\":false}]}}\n"
#define HEAD(op) "{\"op\":\"" op "\",\"table\":\"public.t\",\"key\":"
#define TAIL(id, n, ts, lsn, gen)                                                                  \
    ",\"tx\":{\"id\":" id ",\"n\":" n "},\"ts\":\"" ts "\",\"source\":{\"lsn\":\"" lsn             \
    "\",\"snapshot\":false,\"gen\":" gen "}}\n"

static struct schema *table_t(void) { return rows_schema(7, "t", 1, "id:int64:k;body:text"); }

static struct batch *log_batch(struct schema *s, struct txlist *txs) {
    struct batch *b = batch_new(s, 64, txs);
    b->generation = 1;
    return b;
}

TEST(changelog_lines_of_every_op) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = table_t();
    struct txlist *txs = rows_txs(2);
    struct batch *b = log_batch(s, txs);
    rows_add(b, ROW_INSERT, 0, 0, 1, "a");
    rows_add(b, ROW_UPDATE_AFTER, 0, 1, 1, NULL);
    rows_add(b, ROW_UPDATE_BEFORE, 0, 2, 1, "-");
    rows_add(b, ROW_UPDATE_AFTER, 0, 2, 2, "b");
    rows_add(b, ROW_UPDATE_AFTER, 1, 0, 2, "-");
    rows_add(b, ROW_DELETE, 1, 1, 2, "-");
    rows_add(b, ROW_TRUNCATE, 1, 2, 0, NULL);
    EXPECT_EQ_STR(
        encode_batch(&x, b),
        SCHEMA_T HEAD("c") "{\"id\":1},\"before\":null,\"after\":{\"id\":1,\"body\":\"a\"}" TAIL(
            "100", "0", "2000-01-01T00:00:00Z", "0/1000", "1")
            HEAD("u") "{\"id\":1},\"before\":null,\"after\":{\"id\":1,\"body\":null}" TAIL(
                "100", "1", "2000-01-01T00:00:00Z", "0/1000", "1")
                HEAD("u") "{\"id\":2},\"before\":{\"id\":1},\"after\":{\"id\":2,\"body\":"
                          "\"b\"}" TAIL("100", "2", "2000-01-01T00:00:00Z", "0/1000", "1") HEAD(
                              "u") "{\"id\":2},\"before\":null,\"after\":{\"id\":2},\"unchanged\":["
                                   "\"body\"]" TAIL("101", "0", "2000-01-01T00:00:01Z", "0/1010",
                                                    "1")
                                       HEAD("d") "{\"id\":2},\"before\":{\"id\":2},\"after\":"
                                                 "null" TAIL("101", "1", "2000-01-01T00:00:01Z",
                                                             "0/1010", "1")
                                                     HEAD("t") "{},\"before\":null,\"after\":"
                                                               "null" TAIL("101", "2",
                                                                           "2000-01-01T00:00:01Z",
                                                                           "0/1010", "1"));
    EXPECT_EQ_U64(changelog_json_rows(x.e), 6); /* an update is one line */
    txlist_unref(txs);
    schema_unref(s);
    encoded_release(&x);
}

TEST(changelog_snapshot_generation_and_removal_have_no_transaction) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = table_t();
    struct batch *b = batch_new(s, 4, NULL);
    b->generation = 1;
    b->joined = (struct logpos){ 0, 77 };
    rows_add(b, ROW_INSERT, 0, 0, 5, "x");
    EXPECT_EQ_STR(
        encode_batch(&x, b),
        SCHEMA_T HEAD(
            "r") "{\"id\":5},\"before\":null,\"after\":{\"id\":5,\"body\":\"x\"},\"tx\":null,"
                 "\"ts\":null,\"source\":{\"lsn\":\"0/77\",\"snapshot\":\"first\",\"gen\":1}}\n");

    struct stage_item generation = {
        .kind = STAGE_GENERATION, .schema = s, .generation = 2, .at = { 0, 80 }
    };
    EXPECT_EQ_STR(encode(&x, &generation),
                  HEAD("t") "{},\"before\":null,\"after\":null,\"tx\":null,\"ts\":null,\"source\":{"
                            "\"lsn\":\"0/80\",\"snapshot\":\"backfill\",\"gen\":2}}\n");

    b = batch_new(s, 4, NULL);
    b->generation = 2;
    b->backfill = true;
    b->joined = (struct logpos){ 0, 90 };
    rows_add(b, ROW_INSERT, 0, 0, 5, "x");
    EXPECT_EQ_STR(encode_batch(&x, b),
                  HEAD("r") "{\"id\":5},\"before\":null,\"after\":{\"id\":5,\"body\":\"x\"},\"tx\":"
                            "null,\"ts\":null,\"source\":{\"lsn\":\"0/"
                            "90\",\"snapshot\":\"backfill\",\"gen\":2}}\n");

    struct txlist *txs = rows_txs(1);
    b = batch_new(s, 4,
                  txs); /* of the log, so that cells may be absent; the line says nothing of it */
    b->generation = 1;
    rows_add(b, ROW_DELETE, 0, 0, 6, "-");
    txlist_unref(txs);
    batch_seal(b);
    struct stage_item remove = { .kind = STAGE_REMOVE, .batches = &b, .count = 1, .at = { 0, 95 } };
    EXPECT_EQ_STR(encode(&x, &remove),
                  HEAD("d") "{\"id\":6},\"before\":null,\"after\":null,\"tx\":null,\"ts\":null,"
                            "\"source\":{\"lsn\":\"0/95\",\"snapshot\":\"first\",\"gen\":1}}\n");
    batch_unref(b);

    changelog_json_begin(
        x.e); /* the next file shows the schema again, before a line without rows too */
    EXPECT_EQ_STR(
        encode(&x, &generation),
        SCHEMA_T HEAD("t") "{},\"before\":null,\"after\":null,\"tx\":null,\"ts\":null,\"source\":{"
                           "\"lsn\":\"0/80\",\"snapshot\":\"backfill\",\"gen\":2}}\n");
    EXPECT_EQ_U64(changelog_json_rows(x.e), 1);
    schema_unref(s);
    encoded_release(&x);
}

TEST(changelog_keyless_rows_have_an_empty_key) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = rows_schema(9, "t", 3, "a:int32");
    struct txlist *txs = rows_txs(1);
    struct batch *b = log_batch(s, txs);
    put_i32(b, 0, -4);
    batch_row_done(b, ROW_DELETE, 0, 0);
    put_i32(b, 0, 8);
    batch_row_done(b, ROW_UPDATE_BEFORE, 0, 1); /* its after-row never came: the row left */
    EXPECT_EQ_STR(encode_batch(&x, b),
                  "{\"schema\":{\"table\":\"public.t\",\"version\":3,\"columns\":[{\"name\":\"a\","
                  "\"type\":\"int32\",\"nullable\":true,\"key\":false}]}}\n" HEAD(
                      "d") "{},\"before\":{\"a\":-4},\"after\":null" TAIL("100", "0",
                                                                          "2000-01-01T00:00:00Z",
                                                                          "0/1000", "1")
                      HEAD("d") "{},\"before\":{\"a\":8},\"after\":null" TAIL(
                          "100", "1", "2000-01-01T00:00:00Z", "0/1000", "1"));
    txlist_unref(txs);
    schema_unref(s);
    encoded_release(&x);
}

TEST(changelog_key_not_carried_comes_from_the_before_row_or_fails) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = rows_schema(9, "t", 1, "k:text:k;v:int32");
    struct txlist *txs = rows_txs(1);
    struct batch *b = log_batch(s, txs);
    put_str(b, 0, "key");
    put_i32(b, 1, 1);
    batch_row_done(b, ROW_UPDATE_BEFORE, 0, 0);
    batch_put_absent(b, 0);
    put_i32(b, 1, 2);
    batch_row_done(b, ROW_UPDATE_AFTER, 0, 0);
    const char *text = encode_batch(&x, b);
    EXPECT_TRUE(strstr(text, "\"key\":{\"k\":\"key\"},\"before\":{\"k\":\"key\",\"v\":1},\"after\":"
                             "{\"v\":2},\"unchanged\":[\"k\"],") != NULL);
    b = log_batch(s, txs);
    batch_put_absent(b, 0);
    put_i32(b, 1, 2);
    batch_row_done(b, ROW_UPDATE_AFTER, 0, 0);
    EXPECT_EQ_STR(
        encode_batch(&x, b),
        "key_not_carried: table \"public.t\": a change without the value of key column \"k\"");
    txlist_unref(txs);
    schema_unref(s);
    encoded_release(&x);
}

TEST(changelog_merges_tables_by_transaction_and_ordinal) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s[3] = { rows_schema(1, "a", 1, "id:int64:k;body:text"),
                            rows_schema(2, "b", 1, "id:int64:k;body:text"),
                            rows_schema(1, "a", 2, "id:int64:k;body:text;c:int32") };
    struct txlist *txs = rows_txs(3);
    struct batch *b[4];
    b[0] = log_batch(s[0], txs);
    b[1] = log_batch(s[1], txs);
    b[2] = log_batch(s[0], txs);
    b[3] = log_batch(s[2], txs);
    rows_add(b[0], ROW_INSERT, 0, 0, 1, "");
    rows_add(b[0], ROW_INSERT, 0, 2, 2, "");
    rows_add(b[0], ROW_UPDATE_BEFORE, 1, 1, 3, "");
    rows_add(b[2], ROW_UPDATE_AFTER, 1, 1, 4,
             ""); /* the builder's batch was full between the two */
    rows_add(b[1], ROW_INSERT, 0, 1, 5, "");
    rows_add(b[1], ROW_INSERT, 1, 0, 6, "");
    rows_add(b[1], ROW_INSERT, 2, 1, 7, "");
    put_i32(b[3], 2, 0);
    rows_add(b[3], ROW_INSERT, 2, 0, 8, "");
    for (int i = 0; i < 4; i++) {
        batch_seal(b[i]);
    }
    struct stage_item item = { .kind = STAGE_ROWS, .batches = b, .count = 4 };
    const char *text = encode(&x, &item);
    static const char *const want[] = { "\"version\":1",
                                        "\"key\":{\"id\":1}",
                                        "\"table\":\"public.b\",\"version\":1",
                                        "\"key\":{\"id\":5}",
                                        "\"key\":{\"id\":2}",
                                        "\"key\":{\"id\":6}",
                                        "\"key\":{\"id\":4},\"before\":{\"id\":3,",
                                        "\"table\":\"public.a\",\"version\":2",
                                        "\"key\":{\"id\":8}",
                                        "\"key\":{\"id\":7}" };
    const char *at = text;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *line = strchr(at, '\n');
        const char *hit = strstr(at, want[i]);
        EXPECT_TRUE(line && hit && hit < line);
        at = line ? line + 1 : at;
    }
    EXPECT_EQ_STR(at, "");
    for (int i = 0; i < 4; i++) {
        batch_unref(b[i]);
    }
    for (int i = 0; i < 3; i++) {
        schema_unref(s[i]);
    }
    txlist_unref(txs);
    encoded_release(&x);
}

/* The JSON of one cell. */
static const char *cell(const char *type, const void *bytes, size_t len) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = rows_schema(1, "t", 1, kit_text("c:%s", type));
    struct batch *b = batch_new(s, 1, NULL);
    b->generation = 1;
    if (b->columns[0].width) {
        put_fixed(b, 0, bytes, len);
    } else {
        batch_put_var(b, 0, bytes, len);
    }
    batch_row_done(b, ROW_INSERT, 0, 0);
    const char *text = encode_batch(&x, b);
    const char *from = strstr(text, "\"after\":{\"c\":");
    const char *to = strstr(text, "},\"tx\":null");
    const char *result =
        from && to ? kit_text("%.*s", (int)(to - from - 13), from + 13) : kit_text("%s", text);
    schema_unref(s);
    encoded_release(&x);
    return result;
}
#define CELL(type, ctype, value) cell(type, &(ctype){ value }, sizeof(ctype))

TEST(changelog_numbers) {
    EXPECT_EQ_STR(CELL("bool", uint8_t, 1), "true");
    EXPECT_EQ_STR(CELL("bool", uint8_t, 0), "false");
    EXPECT_EQ_STR(CELL("int8", int8_t, -128), "-128");
    EXPECT_EQ_STR(CELL("int16", int16_t, -32768), "-32768");
    EXPECT_EQ_STR(CELL("int32", int32_t, INT32_MIN), "-2147483648");
    EXPECT_EQ_STR(CELL("int64", int64_t, INT64_MIN), "-9223372036854775808");
    EXPECT_EQ_STR(CELL("uint8", uint8_t, 255), "255");
    EXPECT_EQ_STR(CELL("uint16", uint16_t, 65535), "65535");
    EXPECT_EQ_STR(CELL("uint32", uint32_t, UINT32_MAX), "4294967295");
    EXPECT_EQ_STR(CELL("uint64", uint64_t, UINT64_MAX), "18446744073709551615");
    EXPECT_EQ_STR(CELL("year", int16_t, 2026), "2026");
    EXPECT_EQ_STR(CELL("float64", double, 0.1), "0.1");
    EXPECT_EQ_STR(CELL("float64", double, __builtin_nan("")), "\"NaN\"");
    EXPECT_EQ_STR(CELL("float64", double, -__builtin_inf()), "\"-Infinity\"");
    EXPECT_EQ_STR(CELL("float32", float, 0.1f), "0.1");
    EXPECT_EQ_STR(CELL("float32", float, __builtin_inff()), "\"Infinity\"");
    EXPECT_EQ_STR(CELL("decimal(10,2)", int64_t, 1230), "\"12.30\"");
    EXPECT_EQ_STR(CELL("decimal(10,2)", int64_t, INT64_MIN), "\"NaN\"");
    EXPECT_EQ_STR(CELL("decimal(10,2)", int64_t, INT64_MAX), "\"Infinity\"");
    EXPECT_EQ_STR(cell("numeric", "-0.00", 5), "\"-0.00\"");
    EXPECT_EQ_STR(cell("numeric", "NaN", 3), "\"NaN\"");
}

TEST(changelog_times) {
    EXPECT_EQ_STR(CELL("date", int32_t, 9498), "\"2026-01-02\"");
    EXPECT_EQ_STR(CELL("date", int32_t, INT32_MAX), "\"infinity\"");
    EXPECT_EQ_STR(CELL("time", int64_t, INT64_C(86400000000)), "\"24:00:00\"");
    EXPECT_EQ_STR(CELL("timestamp", int64_t, INT64_C(1500000)), "\"2000-01-01T00:00:01.5\"");
    EXPECT_EQ_STR(CELL("timestamptz", int64_t, INT64_C(1500000)), "\"2000-01-01T00:00:01.5Z\"");
    EXPECT_EQ_STR(CELL("timestamptz", int64_t, INT64_MIN), "\"-infinity\"");
    struct {
        int64_t us;
        int32_t a, b;
    } cells[2] = { { 5025000000, 19800, 0 }, { -1, 2, -3 } };
    EXPECT_EQ_STR(cell("timetz", &cells[0], 16), "\"01:23:45+05:30\"");
    EXPECT_EQ_STR(cell("interval", &cells[1], 16), "{\"months\":-3,\"days\":2,\"us\":-1}");
}

TEST(changelog_texts_and_bytes) {
    EXPECT_EQ_STR(cell("text", "a\"\n\xc3\xa9\x01", 6), "\"a\\\"\\n\xc3\xa9\\u0001\"");
    EXPECT_EQ_STR(cell("json", "{\"a\": 1e400, \"a\": 2}", 20),
                  "\"{\\\"a\\\": 1e400, \\\"a\\\": 2}\"");
    EXPECT_EQ_STR(cell("enum", "ok", 2), "\"ok\"");
    EXPECT_EQ_STR(cell("other", "[1,2)", 5), "\"[1,2)\"");
    EXPECT_EQ_STR(cell("bytes", "", 0), "\"\"");
    EXPECT_EQ_STR(cell("bytes", "\0\xff!", 3), "\"AP8h\"");
    EXPECT_EQ_STR(cell("bit", "\x05\0\0\0\x50", 5), "\"01010\"");
    EXPECT_EQ_STR(cell("bit", "\0\0\0\0", 4), "\"\"");
    EXPECT_EQ_STR(cell("geometry", "\xe6\x10\0\0\1\2\3", 7), "{\"srid\":4326,\"wkb\":\"AQID\"}");
    EXPECT_EQ_STR(
        cell("uuid", "\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00", 16),
        "\"123e4567-e89b-12d3-a456-426614174000\"");
    const char *error = cell("text", "a\xff", 2);
    EXPECT_TRUE(strstr(error, "text_not_utf8: table \"public.t\" column \"c\": ") == error);
}

#define U32(a)                                                                                     \
    (char)((a)&255), (char)((a) >> 8 & 255), (char)((a) >> 16 & 255), (char)((a) >> 24 & 255)
#define IMAGE(type, ...)                                                                           \
    cell(type, (const char[]){ __VA_ARGS__ }, sizeof((const char[]){ __VA_ARGS__ }))

TEST(changelog_arrays) {
    EXPECT_EQ_STR(IMAGE("array<int32>", U32(0)), "[]");
    EXPECT_EQ_STR(
        IMAGE("array<int32>", U32(1), U32(3), U32(1), U32(4), U32(7), U32(-1), U32(4), U32(9)),
        "[7,null,9]");
    EXPECT_EQ_STR(IMAGE("array<text>", U32(2), U32(2), U32(1), U32(2), U32(1), U32(1), 'a', U32(0),
                        U32(1), 'c', U32(-1)),
                  "[[\"a\",\"\"],[\"c\",null]]");
    EXPECT_EQ_STR(IMAGE("array<text>", U32(1), U32(2), U32(-1), U32(1), 'a', U32(1), 'b'),
                  "{\"lower\":[-1],\"values\":[\"a\",\"b\"]}");
    EXPECT_EQ_STR(IMAGE("array<numeric>", U32(3), U32(1), U32(1), U32(1), U32(1), U32(2), U32(1),
                        U32(3), '1', '.', '0', U32(1), '2'),
                  "[[[\"1.0\",\"2\"]]]");
    /* Damage is an error, not a crash. */
    EXPECT_TRUE(
        strstr(IMAGE("array<text>", U32(1), U32(2), U32(1), U32(1), 'a'), "array_malformed"));
    EXPECT_TRUE(
        strstr(IMAGE("array<text>", U32(1), U32(1), U32(1), U32(9), 'a'), "array_malformed"));
    EXPECT_TRUE(strstr(IMAGE("array<text>", U32(7)), "array_malformed"));
    EXPECT_TRUE(strstr(IMAGE("array<text>", U32(1), U32(0), U32(1)), "array_malformed"));
    EXPECT_TRUE(
        strstr(IMAGE("array<text>", U32(1), U32(1), U32(1), U32(1), 'a', 'b'), "array_malformed"));
}

/* A value of 3 MiB must arrive whole and in pieces. `made`: what each unit becomes. */
static void long_value(const char *type, const char *unit, size_t unit_len, const char *made,
                       size_t units, const char *before, const char *after) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = rows_schema(1, "t", 1, kit_text("c:%s", type));
    struct batch *b = batch_new(s, 1, NULL);
    b->generation = 1;
    uint8_t *to = batch_var_space(b, 0, units * unit_len);
    for (size_t i = 0; i < units; i++) {
        memcpy(to + i * unit_len, unit, unit_len);
    }
    batch_row_done(b, ROW_INSERT, 0, 0);
    const char *text = encode_batch(&x, b);
    const char *at = strstr(text, before);
    if (EXPECT_TRUE(at != NULL)) {
        at += strlen(before);
        size_t wrong = 0;
        for (size_t i = 0; i < units; i++) {
            wrong += strncmp(at + i * strlen(made), made, strlen(made)) != 0;
        }
        EXPECT_EQ_U64(wrong, 0);
        EXPECT_TRUE(strncmp(at + units * strlen(made), after, strlen(after)) == 0);
    }
    EXPECT_TRUE(x.largest <= OUT_BYTES);
    schema_unref(s);
    encoded_release(&x);
}

TEST(changelog_long_values_pass_a_bounded_buffer) {
    long_value("text", "\x01", 1, "\\u0001", 600000, "{\"c\":\"", "\"},\"tx\"");
    long_value("text", "a\xe2\x82\xac", 4, "a\xe2\x82\xac", 800000, "{\"c\":\"", "\"},\"tx\"");
    long_value("text", "\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80", 20001, "{\"c\":\"", "\"},\"tx\"");
    long_value("bytes", "abc", 3, "YWJj", 1000000, "{\"c\":\"", "\"},\"tx\"");
}

TEST(changelog_many_rows_around_the_buffers_end) {
    struct encoded x;
    encoded_init(&x);
    struct schema *s = table_t();
    struct txlist *txs = rows_txs(1);
    char filler[200];
    memset(filler, 'f', sizeof filler);
    size_t lines = 0;
    for (int round = 0; round < 4; round++) {
        struct batch *b = batch_new(s, 2000, txs);
        b->generation = 1;
        for (uint32_t i = 0; i < 2000; i++) {
            filler[i % 199] = '\0';
            rows_add(b, ROW_INSERT, 0, i, i, filler);
            filler[i % 199] = 'f';
        }
        const char *text = encode_batch(&x, b);
        for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
            lines++;
        }
    }
    EXPECT_EQ_U64(lines, 8001);
    EXPECT_EQ_U64(changelog_json_rows(x.e), 8000);
    EXPECT_TRUE(x.largest <= OUT_BYTES);
    x.fail_after = 0;
    struct batch *b = batch_new(s, 1, txs);
    rows_add(b, ROW_INSERT, 0, 0, 1, "x");
    EXPECT_EQ_STR(encode_batch(&x, b), "disk_full: write: no space");
    txlist_unref(txs);
    schema_unref(s);
    encoded_release(&x);
}
