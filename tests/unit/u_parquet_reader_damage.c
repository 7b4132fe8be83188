/* What the Parquet reader says of files that are cut, bent or larger than it may hold, and its
 * small decoders against the writer's encoders. Files of others: tests/golden; anything at all:
 * fuzz. */
#include "sinks/parquet/parquet_delta.h"
#include "sinks/parquet/parquet_levels.h"
#include "sinks/parquet/parquet_pack.h"
#include "sinks/parquet/parquet_unpack.h"
#include "sinks/parquet/thrift_put.h"
#include "sinks/parquet/thrift_take.h"
#include "tests/unit/u_parquet_file.h"

enum { ROWS = 500, FIELDS = 3 };

static void small_file(struct buf *file, enum parquet_codec codec) {
    static const struct parquet_field fields[FIELDS] = {
        { .name = "id", .type = { .kind = LAKE_LONG }, .field_id = 1, .required = true },
        { .name = "name", .type = { .kind = LAKE_STRING }, .field_id = 2 },
        { .name = "marks", .type = { .kind = LAKE_LIST, .element = LAKE_INT }, .field_id = 3 },
    };
    static const char *const extra[] = { "owner", "somebody", NULL };
    struct parquet_options options = { .codec = codec,
                                       .profile = PARQUET_MODERN,
                                       .page_bytes = 800,
                                       .group_rows = 200,
                                       .extra = extra };
    struct made_column made[FIELDS];
    struct lake_column columns[FIELDS];
    for (uint32_t i = 0; i < FIELDS; i++) {
        made_init(&made[i], fields[i].type, ROWS, fields[i].required ? 0 : 15, i == 0, i + 3);
        columns[i] = made[i].column;
    }
    made_file(file, fields, columns, FIELDS, &options);
    for (uint32_t i = 0; i < FIELDS; i++) {
        made_release(&made[i]);
    }
}

/* All rows of all fields, front to back. -1: err says why not. */
static int read_file(struct buf *file, size_t bytes_max, struct err *err) {
    struct parquet_reader *r = NULL;
    if (made_open(file, bytes_max, &r, err)) {
        return -1;
    }
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < parquet_reader_field_count(r); i++) {
        struct parquet_cursor *c = NULL;
        struct lake_column piece = { .rows = 1 };
        rc = parquet_cursor_open(r, i, &c, err);
        while (rc == 0 && piece.rows > 0) {
            rc = parquet_cursor_next(c, 100, &piece, err);
        }
        parquet_cursor_close(c);
    }
    parquet_reader_close(r);
    return rc;
}

TEST(parquet_reader_says_what_it_refuses_and_of_which_file) {
    struct buf file;
    struct err err = ERR_INIT;
    small_file(&file, PARQUET_NONE);
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), 0);

    EXPECT_EQ_INT(read_file(&file, 64, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_unsupported");
    EXPECT_TRUE(strstr(err.text, "\"made.parquet\"") && strstr(err.text, "footer"));

    err_clear(&err);
    file.data[file.len - 1] = 'E';
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_unsupported");
    EXPECT_TRUE(strstr(err.text, "encrypted") != NULL);

    err_clear(&err);
    file.data[file.len - 1] = 'X';
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_damaged");

    err_clear(&err);
    file.data[file.len - 1] = '1';
    memset(file.data + 4, 0xFF, 40); /* the first page's header */
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_damaged");
    EXPECT_TRUE(strstr(err.text, "column \"id\"") != NULL);

    err_clear(&err);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    file.len = 11;
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_damaged");
    buf_release(&file);
}

TEST(parquet_reader_keeps_pages_within_what_it_may_hold) {
    struct buf file;
    struct err err = ERR_INIT;
    struct made_column made;
    struct parquet_field field = { .name = "text", .type = { .kind = LAKE_STRING } };
    struct parquet_options options = { .codec = PARQUET_ZSTD, .level = 1 };
    made_init(&made, field.type, 20000, 0, 0, 5);
    made_file(&file, &field, &made.column, 1, &options);
    EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), 0);
    EXPECT_EQ_INT(read_file(&file, 4096, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_unsupported");
    EXPECT_TRUE(strstr(err.text, "more than 4096") != NULL);
    made_release(&made);
    buf_release(&file);
}

TEST(parquet_reader_survives_every_byte_being_another_and_every_cut) {
    static const enum parquet_codec codecs[] = { PARQUET_NONE, PARQUET_SNAPPY };
    for (int k = 0; k < 2; k++) {
        struct buf file;
        small_file(&file, codecs[k]);
        for (size_t i = 0; i < file.len; i++) {
            struct err err = ERR_INIT;
            char was = file.data[i];
            file.data[i] = (char)(was ^ (1 << i % 8));
            if (read_file(&file, 1 << 20, &err)) {
                EXPECT_EQ_INT(err.kind, ERR_FATAL);
                EXPECT_TRUE(strcmp(err.code, "parquet_damaged") == 0 ||
                            strcmp(err.code, "parquet_unsupported") == 0);
            }
            file.data[i] = was;
        }
        size_t whole = file.len;
        for (file.len = 0; file.len < whole; file.len += 7) {
            struct err err = ERR_INIT;
            EXPECT_EQ_INT(read_file(&file, 1 << 20, &err), -1);
        }
        buf_release(&file);
    }
}

TEST(parquet_reader_finds_fields_and_extra_keys) {
    struct buf file;
    struct err err = ERR_INIT;
    struct parquet_reader *r = NULL;
    small_file(&file, PARQUET_NONE);
    if (EXPECT_EQ_INT(made_open(&file, 1 << 20, &r, &err), 0)) {
        EXPECT_EQ_STR(parquet_reader_extra(r, "owner"), "somebody");
        EXPECT_TRUE(parquet_reader_extra(r, "nobody") == NULL);
        EXPECT_EQ_INT(parquet_reader_find(r, 2, NULL), 1);
        EXPECT_EQ_INT(parquet_reader_find(r, 0, "marks"), 2);
        /* Fields with another id are not meant, whatever their name. */
        EXPECT_EQ_INT(parquet_reader_find(r, 9, "marks"), -1);
        EXPECT_EQ_INT(parquet_reader_find(r, 0, "none"), -1);
        EXPECT_EQ_U64(parquet_reader_groups(r), 3);
        EXPECT_EQ_U64(parquet_reader_group_rows(r, 2), 100);
    }
    parquet_reader_close(r);
    buf_release(&file);
}

TEST(parquet_reader_gives_long_texts_in_several_pieces) {
    enum { TEXTS = 300, LEN = 200000 };
    uint8_t *data = xmalloc((size_t)TEXTS * LEN);
    uint32_t *offsets = xcalloc(TEXTS + 1, sizeof *offsets);
    uint8_t valid[TEXTS / 8 + 1];
    uint32_t at = 0;
    memset(valid, 0xFF, sizeof valid);
    for (uint32_t i = 0; i < TEXTS; i++) {
        if (i % 7 == 3) {
            valid[i / 8] &= (uint8_t) ~(1u << i % 8);
        } else {
            memset(data + at, (int)('a' + i / 150), LEN);
            at += LEN;
        }
        offsets[i + 1] = at;
    }
    struct lake_column column = { .type = { .kind = LAKE_STRING },
                                  .rows = TEXTS,
                                  .valid = valid,
                                  .data = data,
                                  .offsets = offsets };
    struct parquet_field field = { .name = "text", .type = column.type };
    for (int profile = PARQUET_COMPATIBLE; profile <= PARQUET_MODERN; profile++) {
        struct parquet_options options = { .codec = PARQUET_ZSTD,
                                           .level = 1,
                                           .profile = (enum parquet_profile)profile,
                                           .page_bytes = 100 << 20 };
        struct buf file;
        struct err err = ERR_INIT;
        struct parquet_reader *r = NULL;
        struct parquet_cursor *c = NULL;
        made_file(&file, &field, &column, 1, &options);
        uint64_t row = 0;
        uint32_t pieces = 0;
        struct lake_column piece = { .rows = 1 };
        if (EXPECT_EQ_INT(made_open(&file, 1 << 28, &r, &err), 0) &&
            EXPECT_EQ_INT(parquet_cursor_open(r, 0, &c, &err), 0)) {
            while (piece.rows > 0 &&
                   EXPECT_EQ_INT(parquet_cursor_next(c, TEXTS, &piece, &err), 0)) {
                EXPECT_EQ_U64(made_difference(&piece, &column, row), UINT32_MAX);
                EXPECT_TRUE(piece.rows == 0 || piece.offsets[piece.rows] <= 16 << 20);
                row += piece.rows;
                pieces++;
            }
        }
        EXPECT_EQ_U64(row, TEXTS);
        EXPECT_TRUE(pieces >= 4);
        parquet_cursor_close(c);
        parquet_reader_close(r);
        buf_release(&file);
    }
    free(data);
    free(offsets);
}

TEST(parquet_unpack_undoes_packing_of_every_width) {
    uint64_t seed = 99;
    for (unsigned width = 0; width <= 64; width++) {
        uint64_t v[32], back[32];
        uint8_t bytes[32 * 8 + UNPACK_SLACK] = { 0 };
        for (int i = 0; i < 32; i++) {
            v[i] = width ? made_random(&seed) >> (64 - width) : 0;
        }
        pack_32_wide(v, width, bytes);
        memset(bytes + 4 * (size_t)width, 0xFF, UNPACK_SLACK);
        unpack_32_wide(bytes, width, back);
        EXPECT_EQ_MEM(back, sizeof back, v, sizeof v);
        if (width <= 32) {
            uint32_t narrow[32];
            unpack_32(bytes, width, narrow);
            for (int i = 0; i < 32; i++) {
                EXPECT_EQ_U64(narrow[i], v[i]);
            }
        }
    }
}

TEST(parquet_levels_are_taken_as_they_were_put) {
    enum { COUNT = 3000 };
    uint64_t seed = 4;
    for (unsigned width = 1; width <= 20; width += 3) {
        uint32_t v[COUNT + 32], back[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            bool run = i / 200 % 2;
            v[i] = run && i > 0 ? v[i - 1] : (uint32_t)made_random(&seed) & ((1u << width) - 1);
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        levels_put(&out, v, COUNT, width);
        size_t len = out.len;
        EXPECT_EQ_INT(buf_reserve(&out, UNPACK_SLACK), 0);
        const uint8_t *p = (const uint8_t *)out.data;
        for (uint32_t step = 1; step < 900; step = step * 3 + 1) {
            struct levels_take l;
            EXPECT_EQ_INT(levels_take_begin(&l, p, p + len, width), 0);
            for (uint32_t i = 0; i < COUNT;) {
                uint32_t n = step < COUNT - i ? step : COUNT - i;
                EXPECT_EQ_INT(levels_take(&l, back, n), 0);
                EXPECT_EQ_MEM(back, n * sizeof *v, v + i, n * sizeof *v);
                i += n;
                n = step * 2 < COUNT - i ? step * 2 : COUNT - i;
                EXPECT_EQ_INT(levels_take_skip(&l, n), 0);
                i += n;
            }
            EXPECT_EQ_INT(levels_take(&l, back, 32), -1);
        }
        buf_release(&out);
    }
}

TEST(parquet_deltas_are_taken_as_they_were_put_and_end_where_they_end) {
    enum { COUNT = 1000 };
    int64_t v[COUNT];
    uint64_t back[COUNT];
    uint64_t seed = 8;
    for (uint32_t count = 0; count <= COUNT; count += count < 70 ? 1 : 93) {
        for (uint32_t i = 0; i < count; i++) {
            v[i] = i % 3 ? (int64_t)made_random(&seed) : (int64_t)(seed >> 50);
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        delta_put_i64(&out, v, count);
        size_t len = out.len;
        EXPECT_EQ_INT(buf_reserve(&out, UNPACK_SLACK + 8), 0);
        const uint8_t *p = (const uint8_t *)out.data;
        struct delta_take d;
        EXPECT_EQ_INT(delta_take_begin(&d, p, p + len), 0);
        EXPECT_TRUE(delta_take_end(&d) == p + len);
        uint32_t skip = count / 3;
        EXPECT_EQ_INT(delta_take_skip(&d, skip), 0);
        EXPECT_TRUE(delta_take_end(&d) == p + len);
        EXPECT_EQ_INT(delta_take_64(&d, back, count - skip), 0);
        EXPECT_EQ_MEM(back, (count - skip) * sizeof *v, v + skip, (count - skip) * sizeof *v);
        EXPECT_EQ_INT(delta_take_64(&d, back, 1), -1);
        if (count > 1) { /* cut off */
            EXPECT_EQ_INT(delta_take_begin(&d, p, p + len - 1), 0);
            EXPECT_EQ_INT(delta_take_64(&d, back, count), -1);
        }
        buf_release(&out);
    }
}

TEST(thrift_skips_what_it_does_not_know) {
    struct buf out;
    struct thrift_put put;
    buf_init(&out, SIZE_MAX);
    thrift_put_init(&put, &out);
    thrift_put_bool(&put, 1, true);
    thrift_put_struct(&put, 2);
    thrift_put_list(&put, 3, THRIFT_STRUCT, 2);
    for (int i = 0; i < 2; i++) {
        thrift_put_struct(&put, 0);
        thrift_put_binary(&put, 1, "abc", 3);
        thrift_put_struct_end(&put);
    }
    thrift_put_struct_end(&put);
    thrift_put_list(&put, 4, THRIFT_TRUE, 20);
    for (int i = 0; i < 20; i++) {
        thrift_put_element_bool(&put, i % 2);
    }
    thrift_put_i64(&put, 300, INT64_MIN);
    thrift_put_end(&put);
    for (size_t len = 0; len <= out.len; len++) {
        struct thrift_take t;
        enum thrift_type type;
        int16_t id = 0;
        int64_t last = 0;
        thrift_take_init(&t, out.data, len);
        while (thrift_take_field(&t, &id, &type)) {
            if (id == 300) {
                last = thrift_take_i64(&t, type);
            } else {
                thrift_take_skip(&t, type);
            }
        }
        EXPECT_EQ_INT(t.bad, len < out.len);
        EXPECT_TRUE(t.bad || (last == INT64_MIN && t.at == t.end));
    }
    buf_release(&out);
    uint8_t deep[1000]; /* lists of one list of one list ... */
    memset(deep, 0x10 | THRIFT_LIST, sizeof deep);
    struct thrift_take t;
    thrift_take_init(&t, deep, sizeof deep);
    thrift_take_skip(&t, THRIFT_LIST);
    EXPECT_TRUE(t.bad);
}
