/* Position-delete files: what is written for one data file is read back for it and for no other;
 * files of several data files, as other writers make them; files that are none. */
#include "sinks/iceberg/ice_position_deletes.h"
#include "tests/unit/u_parquet_file.h"

static const char mine[] = "file:///lake/shop/orders/data/mine.parquet";
static const char theirs[] = "file:///lake/shop/orders/data/other.parquet";

static int read_deletes(struct buf *file, const char *data_file, struct ice_bitmap *into,
                        struct err *err) {
    struct parquet_reader *r = NULL;
    int rc = made_open(file, 1 << 24, &r, err);
    if (rc == 0) {
        rc = ice_position_deletes_read(r, data_file, into, err);
    }
    parquet_reader_close(r);
    return rc;
}

static bool same_positions(const struct ice_bitmap *a, const struct ice_bitmap *b) {
    uint64_t pos[512];
    uint64_t at = 0;
    uint32_t n;
    if (ice_bitmap_count(a) != ice_bitmap_count(b)) {
        return false;
    }
    while ((n = ice_bitmap_next(a, &at, pos, 512)) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            if (!ice_bitmap_has(b, pos[i])) {
                return false;
            }
        }
    }
    return true;
}

static void round_trip(const struct ice_bitmap *b, enum parquet_codec codec) {
    struct buf file;
    struct err err = ERR_INIT;
    struct parquet_info info = { 0 };
    struct parquet_options options = { .codec = codec,
                                       .level = codec == PARQUET_ZSTD ? 1 : 0,
                                       .profile = PARQUET_MODERN };
    buf_init(&file, SIZE_MAX);
    struct parquet_output output = { .write = made_write, .arg = &file };
    EXPECT_EQ_INT(ice_position_deletes_write(b, mine, &options, output, &info, &err), 0);
    EXPECT_EQ_U64(info.rows, ice_bitmap_count(b));
    EXPECT_EQ_U64(info.bytes, file.len);
    parquet_info_release(&info);

    struct ice_bitmap *back = ice_bitmap_new();
    struct ice_bitmap *other = ice_bitmap_new();
    EXPECT_EQ_INT(read_deletes(&file, mine, back, &err), 0);
    EXPECT_EQ_INT(read_deletes(&file, theirs, other, &err), 0);
    EXPECT_EQ_STR(err.text, "");
    EXPECT_TRUE(same_positions(b, back));
    EXPECT_EQ_U64(ice_bitmap_count(other), 0);
    ice_bitmap_free(back);
    ice_bitmap_free(other);
    buf_release(&file);
}

TEST(position_deletes_are_read_back_as_they_were_written) {
    static const uint32_t counts[] = { 0, 1, 8191, 8192, 8193, 45000 };
    for (uint32_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        struct ice_bitmap *b = ice_bitmap_new();
        uint64_t seed = k + 1;
        while (ice_bitmap_count(b) < counts[k]) {
            /* Some close together, some far away, some beyond 32 bits. */
            uint64_t random = made_random(&seed);
            ice_bitmap_add(b, random % 3 == 0 ? random >> 30 : random % 100000);
        }
        round_trip(b, k % 2 ? PARQUET_ZSTD : PARQUET_NONE);
        ice_bitmap_free(b);
    }
}

/* A file of rows (path, position), paths in turns or one after another, nulls where said. */
struct rows {
    const char *const *paths;
    const int64_t *positions;
    const uint8_t *valid; /* of positions */
    uint32_t rows;
    enum lake_kind position_kind;
    const char *position_name;
    int32_t path_id, position_id;
    uint32_t page_bytes;
};

static void foreign_file(struct buf *file, const struct rows *x) {
    struct buf paths;
    uint32_t *offsets = xcalloc(x->rows + 1u, sizeof *offsets);
    buf_init(&paths, SIZE_MAX);
    for (uint32_t i = 0; i < x->rows; i++) {
        buf_puts(&paths, x->paths[i]);
        offsets[i + 1] = (uint32_t)paths.len;
    }
    const struct parquet_field fields[2] = {
        { .name = "file_path", .type = { .kind = LAKE_STRING }, .field_id = x->path_id },
        { .name = x->position_name,
          .type = { .kind = x->position_kind },
          .field_id = x->position_id },
    };
    struct lake_column columns[2] = {
        { .type = fields[0].type,
          .rows = x->rows,
          .data = (const uint8_t *)paths.data,
          .offsets = offsets },
        { .type = fields[1].type,
          .rows = x->rows,
          .width = 8,
          .valid = x->valid,
          .data = (const uint8_t *)x->positions },
    };
    struct parquet_options options = { .codec = PARQUET_SNAPPY, .page_bytes = x->page_bytes };
    made_file(file, fields, columns, 2, &options);
    buf_release(&paths);
    free(offsets);
}

enum { MANY = 3000 };

TEST(position_deletes_of_several_data_files_are_told_apart) {
    const char *paths[MANY];
    int64_t positions[MANY];
    /* By ids, and without any: by names. */
    for (int ids = 0; ids < 2; ids++) {
        struct buf file;
        struct err err = ERR_INIT;
        struct ice_bitmap *want = ice_bitmap_new();
        struct ice_bitmap *got = ice_bitmap_new();
        for (uint32_t i = 0; i < MANY; i++) {
            paths[i] = i % 3 == 0 ? mine : i % 3 == 1 ? theirs : "file:///lake";
            positions[i] = (int64_t)i * 5;
            if (i % 3 == 0) {
                ice_bitmap_add(want, (uint64_t)positions[i]);
            }
        }
        /* Small pages: those of paths and of positions end at different rows. */
        foreign_file(&file, &(struct rows){ .paths = paths,
                                            .positions = positions,
                                            .rows = MANY,
                                            .position_kind = LAKE_LONG,
                                            .position_name = "pos",
                                            .path_id = ids ? ICE_FIELD_FILE_PATH : 0,
                                            .position_id = ids ? ICE_FIELD_POS : 0,
                                            .page_bytes = 1000 });
        ice_bitmap_add(got, 1); /* what was there stays */
        ice_bitmap_add(want, 1);
        EXPECT_EQ_INT(read_deletes(&file, mine, got, &err), 0);
        EXPECT_EQ_STR(err.text, "");
        EXPECT_TRUE(same_positions(want, got));
        ice_bitmap_free(want);
        ice_bitmap_free(got);
        buf_release(&file);
    }
}

static void refuse(const struct rows *x, const char *why) {
    struct buf file;
    struct err err = ERR_INIT;
    struct ice_bitmap *b = ice_bitmap_new();
    foreign_file(&file, x);
    EXPECT_EQ_INT(read_deletes(&file, mine, b, &err), -1);
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_EQ_STR(err.code, "deletes_damaged");
    if (!EXPECT_TRUE(strstr(err.text, why) != NULL)) {
        EXPECT_EQ_STR(err.text, why);
    }
    ice_bitmap_free(b);
    buf_release(&file);
}

TEST(position_deletes_that_are_none_are_refused) {
    const char *paths[4] = { theirs, theirs, mine, mine };
    int64_t positions[4] = { -5, 1, 2, 3 };
    const uint8_t valid[1] = { 0x0B };
    const struct rows good = { .paths = paths,
                               .positions = positions,
                               .rows = 4,
                               .position_kind = LAKE_LONG,
                               .position_name = "pos",
                               .path_id = ICE_FIELD_FILE_PATH,
                               .position_id = ICE_FIELD_POS };
    struct rows x = good;
    x.valid = valid;
    refuse(&x, "null");
    x = good;
    x.position_kind = LAKE_TIMESTAMP;
    refuse(&x, "\"pos\"");
    x = good;
    x.position_name = "position";
    x.position_id = 7;
    refuse(&x, "\"pos\"");

    /* Below zero: only of the file that is asked for. */
    struct buf file;
    struct err err = ERR_INIT;
    struct ice_bitmap *b = ice_bitmap_new();
    foreign_file(&file, &good);
    EXPECT_EQ_INT(read_deletes(&file, mine, b, &err), 0);
    EXPECT_EQ_U64(ice_bitmap_count(b), 2);
    ice_bitmap_free(b);
    buf_release(&file);
    x = good;
    positions[3] = -1;
    refuse(&x, "position -1");
}

TEST(position_deletes_with_bent_bytes_are_refused_or_within_their_rows) {
    struct buf file;
    struct ice_bitmap *b = ice_bitmap_new();
    struct err none = ERR_INIT;
    struct parquet_info info = { 0 };
    struct parquet_options options = { .profile = PARQUET_MODERN };
    for (uint64_t i = 0; i < 50; i++) {
        ice_bitmap_add(b, i * i);
    }
    buf_init(&file, SIZE_MAX);
    struct parquet_output output = { .write = made_write, .arg = &file };
    EXPECT_EQ_INT(ice_position_deletes_write(b, mine, &options, output, &info, &none), 0);
    parquet_info_release(&info);
    for (size_t i = 0; i < file.len; i++) {
        struct err err = ERR_INIT;
        struct ice_bitmap *back = ice_bitmap_new();
        file.data[i] = (char)(file.data[i] ^ 0x40);
        if (read_deletes(&file, mine, back, &err)) {
            EXPECT_EQ_INT(err.kind, ERR_FATAL);
        } else {
            EXPECT_TRUE(ice_bitmap_count(back) <= 50);
        }
        file.data[i] = (char)(file.data[i] ^ 0x40);
        ice_bitmap_free(back);
    }
    ice_bitmap_free(b);
    buf_release(&file);
}
