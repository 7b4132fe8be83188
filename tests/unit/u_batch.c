/* Batches against a plain model of their rows: building, aborting, copying, selecting, sealing, the
 * disk form, and damage to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "cdc/batch.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

enum { COLUMNS = 7 };

static struct schema *wide_schema(void) {
    static const struct type types[COLUMNS] = {
        { .kind = TYPE_INT64 },     { .kind = TYPE_TEXT }, { .kind = TYPE_INT16 },
        { .kind = TYPE_BYTES },     { .kind = TYPE_UUID }, { .kind = TYPE_BOOL },
        { TYPE_DECIMAL, 0, 60, 2 },
    };
    static const char *const names[COLUMNS] = { "a", "b", "c", "d", "e", "f", "g" };
    struct schema *schema = schema_new(9, "public", "wide", COLUMNS);
    for (uint16_t i = 0; i < COLUMNS; i++) {
        schema->columns[i].name = names[i];
        schema->columns[i].type = types[i];
    }
    schema->columns[0].key_pos = 0;
    schema_finish(schema);
    return schema;
}

/* What a cell must be, made from the number of its row: no second copy of the rows is kept. */
enum state { VALUE, NOTHING, NOT_CARRIED };
struct expected {
    enum state state;
    size_t len;
    uint8_t bytes[600];
};

static struct expected expected_cell(uint64_t seed, uint32_t row, uint16_t col, size_t width,
                                     bool log) {
    struct expected e = { .state = VALUE, .len = width };
    uint64_t random = seed * 1000003 + row * 131 + col;
    uint64_t dice = next_random(&random) % 8;
    if (col != 0 && col != 5 && (dice == 0 || (dice == 1 && log))) {
        e.state = dice == 0 ? NOTHING : NOT_CARRIED;
        e.len = 0;
        return e;
    }
    if (width == 0) {
        e.len = next_random(&random) % (row % 17 == 0 ? sizeof e.bytes : 12);
    }
    for (size_t i = 0; i < e.len; i++) {
        e.bytes[i] = (uint8_t)next_random(&random);
    }
    return e;
}

static void build_cell(struct batch *batch, uint16_t col, const struct expected *e) {
    if (e->state == NOTHING) {
        batch_put_null(batch, col);
    } else if (e->state == NOT_CARRIED) {
        batch_put_absent(batch, col);
    } else if (batch->columns[col].width) {
        memcpy(batch_fixed(batch, col), e->bytes, e->len);
    } else {
        batch_put_var(batch, col, e->bytes, e->len);
    }
}

static enum row_kind kind_of(uint32_t row) { return (enum row_kind)(row % 4); }

static void fill(struct batch *batch, uint64_t seed, uint32_t rows, const struct txlist *txs) {
    for (uint32_t row = 0; row < rows; row++) {
        if (row % 5 == 3) { /* a row that is begun, and thrown away */
            for (uint16_t col = 0; col < COLUMNS; col += 2) {
                struct expected e =
                    expected_cell(seed + 1, row, col, batch->columns[col].width, txs != NULL);
                build_cell(batch, col, &e);
            }
            batch_row_abort(batch);
        }
        for (int i = COLUMNS - 1; i >= 0; i--) { /* in any order */
            struct expected e =
                expected_cell(seed, row, (uint16_t)i, batch->columns[i].width, txs != NULL);
            build_cell(batch, (uint16_t)i, &e);
        }
        batch_row_done(batch, kind_of(row), row % 3, row * 7);
    }
}

static struct batch *build(struct schema *schema, uint64_t seed, uint32_t rows, uint32_t rows_cap,
                           struct txlist *txs) {
    struct batch *batch = batch_new(schema, rows_cap, txs);
    fill(batch, seed, rows, txs);
    return batch;
}

/* Row `row` of the batch is row `number` of the model. */
static bool expect_row(const struct batch *batch, uint32_t row, uint64_t seed, uint32_t number) {
    bool log = batch->kinds != NULL;
    bool good = EXPECT_EQ_INT(row_kind_of(batch, row), log ? kind_of(number) : ROW_INSERT);
    if (log) {
        good = EXPECT_EQ_INT(batch->tx[row], number % 3) &&
               EXPECT_EQ_INT(batch->n[row], number * 7) && good;
    }
    for (uint16_t col = 0; col < COLUMNS; col++) {
        const struct column *c = &batch->columns[col];
        struct expected e = expected_cell(seed, number, col, c->width, log);
        good = EXPECT_EQ_INT(cell_null(c, row), e.state != VALUE) &&
               EXPECT_EQ_INT(cell_absent(c, row), e.state == NOT_CARRIED) && good;
        size_t len;
        const uint8_t *bytes = cell_bytes(c, row, &len);
        if (e.state == VALUE) {
            good = EXPECT_EQ_MEM(bytes, len, e.bytes, e.len) && good;
        } else if (c->width) { /* never what lay in memory before */
            uint8_t zeros[32] = { 0 };
            good = EXPECT_EQ_MEM(bytes, len, zeros, c->width) && good;
        } else {
            good = EXPECT_EQ_INT(len, 0) && good;
        }
    }
    return good;
}

static struct txlist *three_transactions(void) {
    struct txlist *txs = txlist_new();
    for (uint64_t i = 0; i < 3; i++) {
        struct tx tx = { .id = 700 + i };
        txlist_add(txs, &tx);
    }
    return txs;
}

TEST(batch_holds_what_was_put_before_and_after_sealing) {
    static const uint32_t sizes[][2] = { { 0, 1 },      { 1, 1 },       { 1, 8192 },
                                         { 3, 10 },     { 10, 10 },     { 63, 64 },
                                         { 100, 5000 }, { 1000, 1000 }, { 1500, 8192 } };
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (int log = 0; log < 2; log++) {
            struct batch *batch = build(schema, i, sizes[i][0], sizes[i][1], log ? txs : NULL);
            for (int sealed = 0; sealed < 2; sealed++) {
                EXPECT_EQ_INT(batch->rows, sizes[i][0]);
                EXPECT_EQ_INT(batch->txs == txs, log);
                for (uint32_t row = 0; row < batch->rows; row++) {
                    if (!expect_row(batch, row, i, row)) {
                        break;
                    }
                }
                if (!sealed) {
                    size_t before = batch_memory(batch);
                    batch_seal(batch);
                    EXPECT_TRUE(batch->sealed && batch->bytes == batch_memory(batch) &&
                                batch->bytes <= before);
                }
            }
            batch_unref(batch);
        }
    }
    txlist_unref(txs);
    schema_unref(schema);
}

TEST(batch_that_came_out_small_gives_its_room_back_when_sealed) {
    struct schema *schema = wide_schema();
    struct batch *batch = build(schema, 1, 10, BATCH_ROWS_MAX, NULL);
    EXPECT_TRUE(batch_memory(batch) > 400000);
    batch_seal(batch);
    EXPECT_TRUE(batch_memory(batch) < 16384);
    batch_unref(batch);
    schema_unref(schema);
}

TEST(batch_without_null_or_absent_cells_has_no_bitmaps) {
    struct schema *schema = wide_schema();
    struct batch *batch = batch_new(schema, 2, NULL);
    for (uint16_t col = 0; col < COLUMNS; col++) {
        EXPECT_TRUE(!batch->columns[col].valid && !batch->columns[col].absent);
    }
    batch_unref(batch);
    schema_unref(schema);
}

TEST(batch_is_full_at_rows_cap_or_beyond_the_byte_goal) {
    struct schema *schema = wide_schema();
    static uint8_t large[BATCH_BYTES_GOAL / 4];
    struct batch *batch = batch_new(schema, 100, NULL);
    uint32_t rows = 0;
    while (!batch_full(batch) && rows < 50) {
        for (uint16_t col = 0; col < COLUMNS; col++) {
            if (batch->columns[col].width) {
                memset(batch_fixed(batch, col), 0, batch->columns[col].width);
            } else {
                batch_put_var(batch, col, large, col == 1 ? sizeof large : 1);
            }
        }
        batch_row_done(batch, ROW_INSERT, 0, 0);
        rows++;
    }
    EXPECT_EQ_INT(rows, 4); /* 4 x goal/4 and the small cells are above it */
    batch_unref(batch);
    batch = build(schema, 3, 7, 8, NULL);
    EXPECT_TRUE(!batch_full(batch));
    batch_unref(batch);
    batch = build(schema, 3, 8, 8, NULL);
    EXPECT_TRUE(batch_full(batch));
    batch_unref(batch);
    schema_unref(schema);
}

TEST(batch_with_the_room_of_the_last_one_does_not_move_its_cells) {
    enum { ROWS = 4096 };
    struct schema *schema = wide_schema();
    struct batch *first = build(schema, 5, ROWS, ROWS, NULL);
    uint32_t room[COLUMNS];
    batch_learn_room(first, room);
    for (uint16_t col = 0; col < COLUMNS; col++) {
        const struct column *c = &first->columns[col];
        uint32_t used = c->width ? 0 : c->offsets[ROWS];
        EXPECT_EQ_INT(room[col], used + used / 8);
    }
    struct batch *second = batch_new(schema, ROWS, NULL);
    batch_reserve(second, room);
    const uint8_t *data[COLUMNS];
    for (uint16_t col = 0; col < COLUMNS; col++) {
        data[col] = second->columns[col].data;
    }
    fill(second, 5, ROWS, NULL);
    EXPECT_TRUE(batch_memory(second) <= batch_memory(first));
    batch_seal(second);
    EXPECT_EQ_INT(second->bytes, batch_memory(second));
    for (uint16_t col = 0; col < COLUMNS; col++) {
        EXPECT_TRUE(second->columns[col].data == data[col]);
    }
    for (uint32_t row = 0; row < ROWS && expect_row(second, row, 5, row); row++) {}
    batch_unref(first);
    batch_unref(second);
    schema_unref(schema);
}

TEST(batch_that_ended_with_a_huge_row_says_nothing_of_the_next) {
    struct schema *schema = wide_schema();
    size_t huge = 2 * BATCH_BYTES_GOAL + 1;
    uint8_t *bytes = xcalloc(1, huge);
    for (int each = 0; each < 2; each++) { /* in one column; then as the sum of two */
        struct batch *batch = batch_new(schema, 8, NULL);
        for (uint16_t col = 0; col < COLUMNS; col++) {
            if (batch->columns[col].width) {
                memset(batch_fixed(batch, col), 0, batch->columns[col].width);
            } else {
                batch_put_var(batch, col, bytes, each ? huge / 2 + 1 : col == 1 ? huge : 1);
            }
        }
        batch_row_done(batch, ROW_INSERT, 0, 0);
        uint32_t room[COLUMNS], none[COLUMNS] = { 0 };
        batch_learn_room(batch, room);
        EXPECT_EQ_MEM(room, sizeof room, none, sizeof none);
        batch_unref(batch);
    }
    free(bytes);
    schema_unref(schema);
}

TEST(batch_select_keeps_the_rows_whose_bits_are_set) {
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    uint64_t random = 4;
    for (int round = 0; round < 60; round++) {
        uint32_t rows = 1 + (uint32_t)(next_random(&random) % 400);
        struct batch *batch = build(schema, (uint64_t)round, rows, rows, round % 2 ? txs : NULL);
        batch->generation = 4;
        batch->backfill = true;
        batch->joined = (struct logpos){ 1, 2 };
        batch_seal(batch);
        uint8_t *keep = calloc(1, (rows + 7) / 8); /* of exactly its size */
        unsigned density = (unsigned)(round % 4);
        uint32_t kept = 0;
        for (uint32_t row = 0; row < (rows + 7) / 8 * 8;
             row++) { /* bits beyond the rows mean nothing */
            bool set = density == 0   ? row % 64 < 40
                       : density == 1 ? next_random(&random) % 2
                       : density == 2 ? row / 50 % 2 == 1
                                      : true;
            if (set || row >= rows) {
                bit_set(keep, row);
                kept += row < rows;
            }
        }
        struct batch *chosen = batch_select(batch, keep);
        if (kept == 0) {
            EXPECT_TRUE(chosen == NULL);
        } else if (EXPECT_TRUE(chosen != NULL) && EXPECT_EQ_INT(chosen->rows, kept)) {
            EXPECT_TRUE(chosen->sealed && chosen->backfill && chosen->generation == 4 &&
                        chosen->joined.offset == 2);
            uint32_t at = 0;
            for (uint32_t row = 0; row < rows; row++) {
                if (bit_get(keep, row) && !expect_row(chosen, at++, (uint64_t)round, row)) {
                    break;
                }
            }
        }
        batch_unref(chosen);
        memset(keep, 0, (rows + 7) / 8);
        EXPECT_TRUE(batch_select(batch, keep) == NULL);
        free(keep);
        batch_unref(batch);
    }
    txlist_unref(txs);
    schema_unref(schema);
}

TEST(batch_rows_are_copied_with_their_cell_states) {
    struct schema *schema = wide_schema();
    struct schema *newer = schema_with_version(schema, 2);
    struct txlist *txs = three_transactions();
    struct batch *from = build(schema, 8, 90, 90, txs);
    batch_seal(from);
    struct batch *to = batch_new(newer, 45, txs);
    for (uint32_t row = 0; row < 90; row += 2) {
        batch_put_row(to, from, row, kind_of(row), row % 3, row * 7);
    }
    for (uint32_t row = 0; row < 45; row++) {
        if (!expect_row(to, row, 8, row * 2)) {
            break;
        }
    }
    batch_adopt_schema(to, schema);
    EXPECT_TRUE(to->schema == schema);
    batch_unref(from);
    batch_unref(to);
    txlist_unref(txs);
    schema_unref(newer);
    schema_unref(schema);
}

TEST(batch_rows_are_copied_within_one_batch_while_its_cells_move) {
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    struct batch *from = build(schema, 8, 90, 90, txs);
    batch_seal(from);
    struct batch *to = batch_new(schema, 4096, txs);
    for (uint32_t row = 0; row < 4096; row++) {
        batch_put_row(to, row < 90 ? from : to, row < 90 ? row : row - 90, kind_of(row % 90),
                      row % 90 % 3, row % 90 * 7);
    }
    for (uint32_t row = 0; row < 4096; row++) {
        if (!expect_row(to, row, 8, row % 90)) {
            break;
        }
    }
    batch_unref(from);
    batch_unref(to);
    txlist_unref(txs);
    schema_unref(schema);
}

TEST(batch_disk_form_comes_back_whole) {
    static const uint32_t sizes[] = { 0, 1, 7, 8, 9, 300, 2000 };
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (int log = 0; log < 2; log++) {
            struct batch *batch = build(schema, i, sizes[i], sizes[i] + 1, log ? txs : NULL);
            batch->generation = 3;
            batch->backfill = i % 2;
            batch->joined = (struct logpos){ 5, 6 };
            batch_seal(batch);
            struct buf disk;
            buf_init(&disk, SIZE_MAX);
            buf_puts(&disk, "odd"); /* the form begins anywhere */
            batch_encode(&disk, batch);
            struct err err = ERR_INIT;
            struct batch *back =
                batch_decode(disk.data + 3, disk.len - 3, schema, log ? txs : NULL, &err);
            if (EXPECT_TRUE(back != NULL) && EXPECT_EQ_INT(back->rows, sizes[i])) {
                EXPECT_TRUE(back->sealed && back->generation == 3 && back->backfill == (i % 2) &&
                            back->joined.segment == 5);
                EXPECT_TRUE(back->txs == (log ? txs : NULL));
                for (uint32_t row = 0; row < back->rows && expect_row(back, row, i, row); row++) {}
            }
            EXPECT_TRUE(batch_decode(disk.data + 3, disk.len - 3, schema, log ? NULL : txs, &err) ==
                        NULL);
            batch_unref(back);
            batch_unref(batch);
            buf_release(&disk);
        }
    }
    txlist_unref(txs);
    schema_unref(schema);
}

/* Decodes from a copy of exactly its size. Whatever comes back is walked over and freed. */
static bool decodes(const uint8_t *bytes, size_t len, struct schema *schema, struct txlist *txs) {
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    struct err err = ERR_INIT;
    struct batch *batch = batch_decode(copy, len, schema, txs, &err);
    free(copy);
    if (!batch) {
        EXPECT_EQ_STR(err.code, "spool_damaged");
        return false;
    }
    uint8_t *all = malloc(BATCH_ROWS_MAX / 8);
    memset(all, 0xFF, BATCH_ROWS_MAX / 8);
    batch_unref(batch_select(batch, all)); /* reads every cell */
    free(all);
    for (uint32_t i = 0; i < batch->rows; i++) {
        EXPECT_TRUE(!batch->tx || batch->tx[i] < txs->count);
    }
    batch_unref(batch);
    return true;
}

TEST(batch_disk_form_with_any_damage_is_refused) {
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    struct batch *batch = build(schema, 2, 40, 40, txs);
    struct buf disk;
    buf_init(&disk, SIZE_MAX);
    batch_encode(&disk, batch);
    uint8_t *bytes = (uint8_t *)disk.data;
    EXPECT_TRUE(decodes(bytes, disk.len, schema, txs));
    for (size_t i = 0; i < disk.len; i++) {
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        EXPECT_TRUE(!decodes(bytes, disk.len, schema, txs));
        bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
    for (size_t len = 0; len < disk.len; len += 1 + len / 50) {
        EXPECT_TRUE(!decodes(bytes, len, schema, txs));
    }
    batch_unref(batch);
    buf_release(&disk);
    txlist_unref(txs);
    schema_unref(schema);
}

TEST(batch_disk_form_damaged_under_a_fitting_hash_is_refused_or_harmless) {
    struct schema *schema = wide_schema();
    struct txlist *txs = three_transactions();
    struct batch *batch = build(schema, 2, 40, 40, txs);
    struct buf disk;
    buf_init(&disk, SIZE_MAX);
    batch_encode(&disk, batch);
    uint8_t *damaged = malloc(disk.len);
    uint64_t random = 12;
    int refused = 0;
    for (int round = 0; round < 12000; round++) {
        size_t len = round % 3 ? disk.len : 8 + next_random(&random) % (disk.len - 8);
        memcpy(damaged, disk.data, disk.len);
        for (uint64_t flips = round % 3 ? 1 + next_random(&random) % 3 : 0; flips > 0; flips--) {
            damaged[8 + next_random(&random) % (len - 8)] ^=
                (uint8_t)(1u << next_random(&random) % 8);
        }
        uint64_t hash = hash_bytes(damaged + 8, len - 8, 1);
        memcpy(damaged, &hash, sizeof hash);
        bool taken = decodes(damaged, len, schema, txs);
        refused += !taken;
        EXPECT_TRUE(!taken || len == disk.len); /* a cut form never passes */
    }
    EXPECT_TRUE(refused > 4000);
    free(damaged);
    batch_unref(batch);
    buf_release(&disk);
    txlist_unref(txs);
    schema_unref(schema);
}
