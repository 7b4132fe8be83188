/* The Parquet writer as its callers meet it: a small file byte for byte, what it refuses, an output
 * that fails at each write, bounded memory, its account of what it wrote. What other readers see in
 * its files is tests/lake/check_parquet.py's work. */
#include <stdlib.h>
#include <string.h>

#include "sinks/parquet/parquet_writer.h"
#include "tests/unit/kit.h"

struct sink {
    struct buf bytes;
    uint64_t total;
    uint32_t writes, fail_at; /* fail_at: number of the write that fails, from 1; 0 = none */
    bool drop;
};
static int sink_write(void *arg, const void *p, size_t n, struct err *err) {
    struct sink *s = arg;
    if (++s->writes == s->fail_at) {
        return err_set(err, ERR_RETRY, "disk_full", "no room");
    }
    s->total += n;
    if (!s->drop) {
        buf_put(&s->bytes, p, n);
    }
    return 0;
}
static struct parquet_output output_to(struct sink *s) {
    buf_init(&s->bytes, SIZE_MAX);
    return (struct parquet_output){ sink_write, s };
}

static struct lake_column longs(const int64_t *v, uint32_t rows, const uint8_t *valid) {
    return (struct lake_column){ .type = { .kind = LAKE_LONG },
                                 .rows = rows,
                                 .width = 8,
                                 .valid = valid,
                                 .data = (const uint8_t *)v };
}
static struct lake_column texts(const char *data, const uint32_t *offsets, uint32_t rows) {
    return (struct lake_column){ .type = { .kind = LAKE_STRING },
                                 .rows = rows,
                                 .data = (const uint8_t *)data,
                                 .offsets = offsets };
}

static const struct parquet_field pair[] = {
    { .name = "id", .type = { .kind = LAKE_LONG }, .field_id = 1, .required = true },
    { .name = "t", .type = { .kind = LAKE_STRING }, .field_id = 2 },
};

TEST(parquet_file_of_two_columns_byte_for_byte) {
    static const int64_t ids[] = { 1, 2, 258 };
    static const uint32_t offsets[] = { 0, 1, 1, 3 };
    static const uint8_t valid[] = { 5 };
    struct sink s = { 0 };
    struct err err = ERR_INIT;
    struct parquet_options options = { .codec = PARQUET_NONE, .profile = PARQUET_COMPATIBLE };
    struct parquet_writer *w = parquet_writer_new(pair, 2, &options, output_to(&s));
    struct lake_column columns[] = { longs(ids, 3, NULL), texts("abc", offsets, 3) };
    columns[1].valid = valid;
    struct parquet_info info;
    EXPECT_EQ_INT(parquet_writer_add(w, columns, 3, &err), 0);
    EXPECT_EQ_INT(parquet_writer_finish(w, &info, &err), 0);
    static const uint8_t want[] = {
        'P',
        'A',
        'R',
        '1',
        /* page header: data, 24 bytes, 24 stored; 3 values, PLAIN, levels RLE */
        0x15,
        0x00,
        0x15,
        0x30,
        0x15,
        0x30,
        0x2C,
        0x15,
        0x06,
        0x15,
        0x00,
        0x15,
        0x06,
        0x15,
        0x06,
        0x00,
        0x00,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        2,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        /* 17 bytes: levels 1 0 1 (one packed group), "a", "bc" */
        0x15,
        0x00,
        0x15,
        0x22,
        0x15,
        0x22,
        0x2C,
        0x15,
        0x06,
        0x15,
        0x00,
        0x15,
        0x06,
        0x15,
        0x06,
        0x00,
        0x00,
        2,
        0,
        0,
        0,
        3,
        5,
        1,
        0,
        0,
        0,
        'a',
        2,
        0,
        0,
        0,
        'b',
        'c',
        /* column index of id: no null page, least, greatest, ascending, no nulls */
        0x19,
        0x11,
        2,
        0x19,
        0x18,
        8,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x19,
        0x18,
        8,
        2,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0x15,
        2,
        0x19,
        0x16,
        0,
        0,
        0x19,
        0x11,
        2,
        0x19,
        0x18,
        1,
        'a',
        0x19,
        0x18,
        2,
        'b',
        'c',
        0x15,
        2,
        0x19,
        0x16,
        2,
        0,
        /* offset index: at 4, 41 bytes, row 0; then at 45, 34 bytes, and 3 bytes of text */
        0x19,
        0x1C,
        0x16,
        8,
        0x15,
        82,
        0x16,
        0,
        0,
        0,
        0x19,
        0x1C,
        0x16,
        90,
        0x15,
        68,
        0x16,
        0,
        0,
        0x19,
        0x16,
        6,
        0,
    };
    if (EXPECT_TRUE(s.bytes.len > sizeof want)) {
        EXPECT_EQ_MEM(s.bytes.data, sizeof want, want, sizeof want);
        EXPECT_EQ_MEM(s.bytes.data + s.bytes.len - 4, 4, "PAR1", 4);
    }
    EXPECT_EQ_U64(info.bytes, s.bytes.len);
    EXPECT_TRUE(info.rows == 3 && info.group_count == 1 && info.group_offsets[0] == 4);
    EXPECT_TRUE(info.columns[0].bytes == 41 && info.columns[1].bytes == 34);
    EXPECT_TRUE(info.columns[1].values == 3 && info.columns[1].nulls == 1);
    EXPECT_EQ_MEM(info.columns[1].lower, info.columns[1].lower_len, "a", 1);
    EXPECT_EQ_MEM(info.columns[1].upper, info.columns[1].upper_len, "bc", 2);
    parquet_info_release(&info);
    parquet_writer_free(w);
    buf_release(&s.bytes);
}

TEST(parquet_decimal_bounds_are_short_and_big_endian) {
    static const struct {
        uint8_t precision;
        int64_t least, greatest;
        const char *lower, *upper;
        size_t lower_len, upper_len;
    } cases[] = {
        { 9, -1, 127, "\xFF", "\x7F", 1, 1 },
        { 9, -129, 128, "\xFF\x7F", "\x00\x80", 2, 2 },
        { 18, -32768, 0, "\x80\x00", "\x00", 2, 1 },
        { 38, -256, 65536, "\xFF\x00", "\x01\x00\x00", 2, 3 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct sink s = { 0 };
        struct err err = ERR_INIT;
        struct lake_type type = { LAKE_DECIMAL, 0, cases[i].precision, 2 };
        struct parquet_field field = { .name = "d", .type = type };
        struct parquet_options options = { .codec = PARQUET_NONE };
        struct parquet_writer *w = parquet_writer_new(&field, 1, &options, output_to(&s));
        __int128 wide[2] = { cases[i].greatest, cases[i].least };
        int64_t narrow[2] = { cases[i].greatest, cases[i].least };
        bool is_wide = cases[i].precision > 18;
        struct lake_column column = { .type = type,
                                      .rows = 2,
                                      .width = is_wide ? 16 : 8,
                                      .data = is_wide ? (uint8_t *)wide : (uint8_t *)narrow };
        struct parquet_info info;
        EXPECT_EQ_INT(parquet_writer_add(w, &column, 2, &err), 0);
        EXPECT_EQ_INT(parquet_writer_finish(w, &info, &err), 0);
        const struct parquet_column_info *c = &info.columns[0];
        EXPECT_TRUE(c->has_bounds);
        EXPECT_EQ_MEM(c->lower, c->lower_len, cases[i].lower, cases[i].lower_len);
        EXPECT_EQ_MEM(c->upper, c->upper_len, cases[i].upper, cases[i].upper_len);
        parquet_info_release(&info);
        parquet_writer_free(w);
        buf_release(&s.bytes);
    }
}

TEST(parquet_refuses_null_in_a_required_column) {
    static const int64_t ids[] = { 1, 2, 3 };
    static const uint8_t valid[] = { 0xFB }; /* bit 2: null */
    struct sink s = { 0 };
    struct err err = ERR_INIT;
    struct parquet_options options = { .codec = PARQUET_NONE };
    struct parquet_writer *w = parquet_writer_new(pair, 1, &options, output_to(&s));
    struct lake_column column = longs(ids, 3, valid);
    EXPECT_EQ_INT(parquet_writer_add(w, &column, 2, &err), 0);
    EXPECT_EQ_INT(parquet_writer_add(w, &column, 3, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_null");
    EXPECT_TRUE(strstr(err.text, "\"id\"") != NULL);
    parquet_writer_free(w);
    buf_release(&s.bytes);
}

TEST(parquet_refuses_a_value_that_no_page_can_hold) {
    static const uint32_t offsets[] = { 0, 0x70000000 };
    struct sink s = { 0 };
    struct err err = ERR_INIT;
    struct parquet_options options = { .codec = PARQUET_SNAPPY };
    struct parquet_writer *w = parquet_writer_new(pair + 1, 1, &options, output_to(&s));
    struct lake_column column = texts("never read", offsets, 1);
    EXPECT_EQ_INT(parquet_writer_add(w, &column, 1, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_cell_large");
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    parquet_writer_free(w);
    buf_release(&s.bytes);
}

/* A few thousand rows in several row groups, with a dictionary, a bloom filter and indexes. */
static int write_some(struct sink *s, struct parquet_info *info, struct err *err) {
    enum { ROWS = 3000 };
    static int64_t ids[ROWS];
    static uint32_t offsets[ROWS + 1];
    static char data[ROWS * 2];
    struct parquet_field fields[2] = { pair[0], pair[1] };
    fields[0].bloom = true;
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = (int64_t)i * 3;
        memcpy(data + (size_t)i * 2, i % 3 ? "no" : "ye", 2);
        offsets[i + 1] = offsets[i] + 2;
    }
    struct parquet_options options = { .codec = PARQUET_LZ4_RAW,
                                       .profile = PARQUET_MODERN,
                                       .group_rows = 1100 };
    struct parquet_writer *w = parquet_writer_new(fields, 2, &options, output_to(s));
    struct lake_column columns[] = { longs(ids, ROWS, NULL), texts(data, offsets, ROWS) };
    int result =
        parquet_writer_add(w, columns, ROWS, err) || parquet_writer_finish(w, info, err) ? -1 : 0;
    parquet_writer_free(w);
    return result;
}

TEST(parquet_writer_passes_on_a_failure_of_each_write) {
    struct sink whole = { 0 };
    struct parquet_info info;
    struct err err = ERR_INIT;
    if (!EXPECT_EQ_INT(write_some(&whole, &info, &err), 0)) {
        return;
    }
    EXPECT_EQ_INT(info.group_count, 3);
    parquet_info_release(&info);
    EXPECT_TRUE(whole.writes > 12);
    for (uint32_t i = 1; i <= whole.writes; i++) {
        struct sink s = { .fail_at = i };
        err_clear(&err);
        EXPECT_EQ_INT(write_some(&s, &info, &err), -1);
        EXPECT_EQ_STR(err.code, "disk_full");
        EXPECT_EQ_INT(s.writes, i); /* nothing is written after it */
        EXPECT_EQ_MEM(s.bytes.data, s.bytes.len, whole.bytes.data, s.bytes.len);
        buf_release(&s.bytes);
    }
    buf_release(&whole.bytes);
}

TEST(parquet_writer_holds_a_row_group_and_no_more) {
    enum { ROWS = 8192, ADDS = 150 };
    static int64_t ids[ROWS];
    static uint32_t offsets[ROWS + 1];
    static char data[ROWS * 40];
    uint64_t random = 12;
    struct sink s = { .drop = true };
    struct err err = ERR_INIT;
    struct parquet_options options = { .codec = PARQUET_ZSTD, .level = 1, .group_bytes = 4 << 20 };
    struct parquet_writer *w = parquet_writer_new(pair, 2, &options, output_to(&s));
    size_t most = 0;
    uint64_t before = 0;
    for (int add = 0; add < ADDS; add++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            ids[i] = (int64_t)random;
            memcpy(data + (size_t)i * 40, &random, 8);
            offsets[i + 1] = (i + 1) * 40;
        }
        struct lake_column columns[] = { longs(ids, ROWS, NULL), texts(data, offsets, ROWS) };
        EXPECT_EQ_INT(parquet_writer_add(w, columns, ROWS, &err), 0);
        size_t held = parquet_writer_memory(w);
        most = held > most ? held : most;
        EXPECT_TRUE(parquet_writer_bytes(w) >= before); /* an estimate, of what is there */
        before = s.total;
    }
    EXPECT_TRUE(most > 4 << 20);
    EXPECT_TRUE(most < 12 << 20);
    EXPECT_EQ_U64(parquet_writer_rows(w), (uint64_t)ROWS * ADDS);
    EXPECT_EQ_INT(parquet_writer_flush(w, &err), 0);
    EXPECT_TRUE(parquet_writer_memory(w) < 256 << 10);
    EXPECT_EQ_U64(parquet_writer_bytes(w), s.total);
    struct parquet_info info;
    EXPECT_EQ_INT(parquet_writer_finish(w, &info, &err), 0);
    EXPECT_EQ_U64(info.bytes, s.total);
    EXPECT_TRUE(info.group_count >= 5 && info.group_offsets[0] == 4);
    for (uint32_t i = 1; i < info.group_count; i++) {
        EXPECT_TRUE(info.group_offsets[i] > info.group_offsets[i - 1]);
    }
    parquet_info_release(&info);
    parquet_writer_free(w);
    buf_release(&s.bytes);
}
