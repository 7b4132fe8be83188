/* The Parquet reader against files of our own writer: every lake type, encoding and codec, nulls,
 * lists, pages and groups of all sizes; whole columns and rows in any order. */
#include <stdio.h>

#include "tests/unit/u_parquet_file.h"

static const struct lake_type types[] = {
    { .kind = LAKE_BOOL },
    { .kind = LAKE_INT },
    { .kind = LAKE_LONG },
    { .kind = LAKE_FLOAT },
    { .kind = LAKE_DOUBLE },
    { .kind = LAKE_DECIMAL, .precision = 7, .scale = 2 },
    { .kind = LAKE_DECIMAL, .precision = 15, .scale = 2 },
    { .kind = LAKE_DECIMAL, .precision = 18, .scale = 0 },
    { .kind = LAKE_DECIMAL, .precision = 20, .scale = 5 },
    { .kind = LAKE_DECIMAL, .precision = 38, .scale = 9 },
    { .kind = LAKE_DATE },
    { .kind = LAKE_TIME },
    { .kind = LAKE_TIMESTAMP },
    { .kind = LAKE_TIMESTAMPTZ },
    { .kind = LAKE_STRING },
    { .kind = LAKE_BINARY },
    { .kind = LAKE_UUID },
    { .kind = LAKE_LIST, .element = LAKE_BOOL },
    { .kind = LAKE_LIST, .element = LAKE_LONG },
    { .kind = LAKE_LIST, .element = LAKE_STRING },
    { .kind = LAKE_LIST, .element = LAKE_DECIMAL, .precision = 25, .scale = 3 },
    { .kind = LAKE_LIST, .element = LAKE_UUID },
};
enum { TYPES = sizeof types / sizeof types[0] };

static void read_all(struct parquet_reader *r, uint32_t field, const struct lake_column *want,
                     uint32_t piece_rows, const char *what) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    if (!EXPECT_EQ_INT(parquet_cursor_open(r, field, &c, &err), 0)) {
        return;
    }
    uint64_t row = 0;
    for (;;) {
        struct lake_column piece;
        if (!EXPECT_EQ_INT(parquet_cursor_next(c, piece_rows, &piece, &err), 0)) {
            EXPECT_EQ_STR(err.text, what);
            break;
        }
        if (piece.rows == 0) {
            break;
        }
        uint32_t wrong = made_difference(&piece, want, row);
        if (!EXPECT_TRUE(piece.rows <= piece_rows) || !EXPECT_EQ_U64(wrong, UINT32_MAX)) {
            EXPECT_EQ_STR(what, "");
            break;
        }
        row += piece.rows;
    }
    EXPECT_EQ_U64(row, want->rows);
    parquet_cursor_close(c);
}

static bool read_at(struct parquet_cursor *c, uint64_t row, uint32_t rows,
                    const struct lake_column *want, const char *what) {
    struct err err = ERR_INIT;
    struct lake_column piece = { 0 };
    if (!EXPECT_EQ_INT(parquet_cursor_seek(c, row, &err), 0) ||
        !EXPECT_EQ_INT(parquet_cursor_next(c, rows, &piece, &err), 0)) {
        EXPECT_EQ_STR(err.text, what);
        return false;
    }
    return EXPECT_EQ_INT(piece.rows > 0, row < want->rows) &&
           EXPECT_EQ_U64(made_difference(&piece, want, row), UINT32_MAX);
}

/* Rows at random, then around every border that a file may have. */
static void seek_around(struct parquet_reader *r, uint32_t field, const struct lake_column *want,
                        uint32_t border, uint64_t seed, const char *what) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    if (!EXPECT_EQ_INT(parquet_cursor_open(r, field, &c, &err), 0)) {
        return;
    }
    seed = seed * 2 + 1;
    for (int i = 0; i < 60; i++) {
        uint64_t row = made_random(&seed) % (want->rows + 3u);
        if (!read_at(c, row, 1 + (uint32_t)(i % 3) * 700, want, what)) {
            parquet_cursor_close(c);
            return;
        }
    }
    for (uint64_t at = 0; at <= want->rows; at += border) {
        for (uint64_t row = at > 0 ? at - 1 : 0; row <= at + 1; row++) {
            if (!read_at(c, row, 1, want, what)) {
                parquet_cursor_close(c);
                return;
            }
        }
    }
    parquet_cursor_close(c);
}

struct round {
    enum parquet_codec codec;
    enum parquet_profile profile;
    uint32_t rows, page_bytes, group_rows;
    unsigned nulls_percent;
    uint64_t distinct; /* 0 = all, 1 = ascending */
};

static void round_trip(const struct round *x) {
    struct made_column made[TYPES];
    struct lake_column columns[TYPES];
    struct parquet_field fields[TYPES];
    char names[TYPES][16];
    for (uint32_t i = 0; i < TYPES; i++) {
        made_init(&made[i], types[i], x->rows, x->nulls_percent, x->distinct, i + 7);
        columns[i] = made[i].column;
        snprintf(names[i], sizeof names[i], "column_%u", i);
        fields[i] = (struct parquet_field){ .name = names[i],
                                            .type = types[i],
                                            .field_id = (int32_t)(100 + i),
                                            .element_id = (int32_t)(200 + i),
                                            .required = x->nulls_percent == 0 };
    }
    struct parquet_options options = { .codec = x->codec,
                                       .level = x->codec == PARQUET_ZSTD ? 1 : 0,
                                       .profile = x->profile,
                                       .page_bytes = x->page_bytes,
                                       .group_rows = x->group_rows };
    struct buf file;
    made_file(&file, fields, columns, TYPES, &options);
    struct err err = ERR_INIT;
    struct parquet_reader *r = NULL;
    if (EXPECT_EQ_INT(made_open(&file, 1 << 28, &r, &err), 0)) {
        EXPECT_EQ_U64(parquet_reader_rows(r), x->rows);
        EXPECT_EQ_U64(parquet_reader_field_count(r), TYPES);
        for (uint32_t i = 0; i < TYPES; i++) {
            const struct parquet_read_field *f = parquet_reader_field(r, i);
            char what[128];
            snprintf(what, sizeof what, "type %u, codec %d, profile %d, page %u, distinct %u", i,
                     x->codec, x->profile, x->page_bytes, (unsigned)x->distinct);
            EXPECT_EQ_STR(f->name, fields[i].name);
            EXPECT_EQ_INT(f->field_id, fields[i].field_id);
            EXPECT_EQ_INT(f->required, fields[i].required);
            EXPECT_TRUE(lake_type_equal(&f->type, &types[i]));
            EXPECT_EQ_INT(parquet_reader_find(r, 100 + (int32_t)i, NULL), i);
            EXPECT_EQ_INT(parquet_reader_find(r, 0, fields[i].name), i);
            read_all(r, i, &columns[i], 8192, what);
            read_all(r, i, &columns[i], 33, what);
            seek_around(r, i, &columns[i], x->group_rows ? x->group_rows : 20000, i + 1, what);
        }
    } else {
        EXPECT_EQ_STR(err.text, "");
    }
    parquet_reader_close(r);
    buf_release(&file);
    for (uint32_t i = 0; i < TYPES; i++) {
        made_release(&made[i]);
    }
}

TEST(parquet_reader_gives_back_what_was_written) {
    static const enum parquet_codec codecs[] = { PARQUET_NONE, PARQUET_SNAPPY, PARQUET_ZSTD,
                                                 PARQUET_LZ4_RAW };
    for (int codec = 0; codec < 4; codec++) {
        for (int profile = PARQUET_COMPATIBLE; profile <= PARQUET_MODERN; profile++) {
            for (uint64_t distinct = 0; distinct < 3; distinct++) {
                round_trip(&(struct round){ .codec = codecs[codec],
                                            .profile = (enum parquet_profile)profile,
                                            .rows = 5000,
                                            .page_bytes = 3000,
                                            .group_rows = 1777,
                                            .nulls_percent = (unsigned)(distinct * 20),
                                            .distinct = distinct == 2 ? 40 : distinct });
            }
        }
    }
}

TEST(parquet_reader_reads_pages_of_usual_size) {
    round_trip(&(struct round){ .codec = PARQUET_ZSTD,
                                .profile = PARQUET_MODERN,
                                .rows = 45000,
                                .nulls_percent = 10,
                                .distinct = 0 });
    round_trip(&(struct round){
        .codec = PARQUET_ZSTD, .profile = PARQUET_MODERN, .rows = 45000, .distinct = 3000 });
}

TEST(parquet_reader_reads_columns_of_nulls_only) {
    round_trip(&(struct round){ .codec = PARQUET_ZSTD,
                                .profile = PARQUET_MODERN,
                                .rows = 3000,
                                .group_rows = 1000,
                                .nulls_percent = 100 });
}

TEST(parquet_reader_reads_a_file_without_rows) {
    round_trip(&(struct round){ .codec = PARQUET_ZSTD, .profile = PARQUET_MODERN, .rows = 0 });
}
