/* A stage's changes against a model: random inserts, updates, key changes, deletes, truncates,
 * holes, rows read again and schema changes, in items of several batches, with crashes; cells that
 * the log leaves out; keys of which many share a hash. */
#include "tests/unit/u_ice_stage.h"

/* ---- random items ---- */

enum { MAX_BATCHES = 64 };
struct item {
    struct batch *batches[MAX_BATCHES];
    uint32_t count;
    struct txlist *txs;
    uint32_t tx, n;
};

static void cut_batch(struct item *it) {
    if (it->count && !it->batches[it->count - 1]->sealed) {
        batch_seal(it->batches[it->count - 1]);
    }
}

/* The batch that the next row goes to. */
static struct batch *open_batch(struct lake *l, struct item *it) {
    struct batch *last = it->count ? it->batches[it->count - 1] : NULL;
    bool cut = !last || last->sealed || last->schema != l->schema || last->rows == last->rows_cap ||
               (it->count < MAX_BATCHES - 8 && lake_draw(l, 12) == 0);
    if (cut) {
        cut_batch(it);
        CHECK(it->count < MAX_BATCHES);
        it->batches[it->count++] = batch_new(l->schema, 512, it->txs);
    }
    return it->batches[it->count - 1];
}

enum cells { ALL_CELLS, KEY_ALONE, NO_NOTE };

static void put_cell(struct batch *b, uint16_t col, const char *text) {
    const struct column_def *def = &b->schema->columns[col];
    if (strcmp(text, "~") == 0) {
        batch_put_null(b, col);
    } else if (def->type.kind == TYPE_INT32) {
        put_i32(b, col, atoi(text));
    } else if (def->type.kind == TYPE_INT64) {
        put_i64(b, col, atoll(text));
    } else {
        put_str(b, col, text);
    }
}

static void put_row(struct lake *l, struct item *it, enum row_kind kind, const struct lake_row *row,
                    enum cells cells) {
    struct batch *b = open_batch(l, it);
    for (uint16_t c = 0; c < b->schema->column_count; c++) {
        const char *name = b->schema->columns[c].name;
        if (strcmp(name, "id") == 0) {
            put_i64(b, c, row->id);
            continue;
        }
        for (int i = 0; i < LAKE_CELLS; i++) {
            if (strcmp(name, LAKE_NAMES[i]) == 0) {
                bool absent = cells == KEY_ALONE || (cells == NO_NOTE && i == 2);
                if (absent) {
                    batch_put_absent(b, c);
                } else {
                    put_cell(b, c, row->cells[i]);
                }
            }
        }
    }
    batch_row_done(b, kind, it->tx, it->n);
}

static void draw_cells(struct lake *l, struct lake_row *row) {
    for (int i = 0; i < LAKE_CELLS; i++) {
        const char *name = LAKE_NAMES[i];
        if (schema_column(l->schema, name) < 0 || lake_draw(l, 6) == 0) {
            snprintf(row->cells[i], LAKE_TEXT, "~");
        } else if (i == 0 || i == 3) {
            snprintf(row->cells[i], LAKE_TEXT, "%d", (int)lake_draw(l, 5));
        } else {
            snprintf(row->cells[i], LAKE_TEXT, "%s%llu", name,
                     (unsigned long long)lake_draw(l, 1000));
        }
    }
}

static void one_update(struct lake *l, struct item *it, struct lake_row *row) {
    struct lake_row before = *row;
    enum cells cells = lake_draw(l, 2) ? ALL_CELLS : NO_NOTE;
    draw_cells(l, row);
    if (cells == NO_NOTE) {
        snprintf(row->cells[2], LAKE_TEXT, "%s", before.cells[2]);
    }
    if (lake_draw(l, 2)) {
        put_row(l, it, ROW_UPDATE_BEFORE, &before, lake_draw(l, 2) ? KEY_ALONE : ALL_CELLS);
    }
    put_row(l, it, ROW_UPDATE_AFTER, row, cells);
}

static void one_move(struct lake *l, struct item *it, struct lake_row *from, struct lake_row *to) {
    enum cells cells = lake_draw(l, 2) ? ALL_CELLS : NO_NOTE;
    draw_cells(l, to);
    if (cells == NO_NOTE) {
        memmove(to->cells[2], from->cells[2], LAKE_TEXT);
    }
    put_row(l, it, ROW_UPDATE_BEFORE, from, KEY_ALONE);
    put_row(l, it, ROW_UPDATE_AFTER, to, cells);
    from->live = false;
    to->live = true;
}

/* One change of the model, as the log tells it. */
static void one_change(struct lake *l, struct item *it, unsigned truncates) {
    struct lake_row *row = &l->now[lake_draw(l, LAKE_KEYS)];
    struct lake_row *other = &l->now[lake_draw(l, LAKE_KEYS)];
    it->n++;
    if (lake_draw(l, 10) == 0 && it->tx + 1 < it->txs->count) {
        it->tx++;
        it->n = 0;
    }
    if (truncates && lake_draw(l, truncates) == 0) {
        struct batch *b = open_batch(l, it);
        for (uint16_t c = 0; c < b->schema->column_count; c++) {
            batch_put_null(b, c);
        }
        batch_row_done(b, ROW_TRUNCATE, it->tx, it->n);
        for (uint32_t k = 0; k < LAKE_KEYS; k++) {
            l->now[k].live = false;
        }
    } else if (!row->live) {
        draw_cells(l, row);
        row->live = true;
        put_row(l, it, ROW_INSERT, row, ALL_CELLS);
    } else if (!other->live && lake_draw(l, 2)) {
        one_move(l, it, row, other);
    } else if (lake_draw(l, 3) == 0) {
        put_row(l, it, ROW_DELETE, row, lake_draw(l, 2) ? KEY_ALONE : ALL_CELLS);
        row->live = false;
    } else {
        one_update(l, it, row);
    }
}

static void item_begin(struct item *it, bool log) {
    *it = (struct item){ .txs = log ? rows_txs(40) : NULL };
}

static bool item_stage(struct lake *l, struct item *it, enum stage_kind kind) {
    bool held = true;
    cut_batch(it);
    if (it->txs && it->count) {
        held = lake_item(
            l, &(struct stage_item){ .kind = kind, .batches = it->batches, .count = it->count });
    }
    for (uint32_t i = 0; !it->txs && held && i < it->count; i++) {
        held = lake_item(
            l, &(struct stage_item){ .kind = kind, .batches = &it->batches[i], .count = 1 });
    }
    for (uint32_t i = 0; i < it->count; i++) {
        batch_unref(it->batches[i]);
    }
    if (it->txs) {
        txlist_unref(it->txs);
    }
    return held;
}

/* The source's table changes; cells of columns that go are gone. */
static void alter(struct lake *l, unsigned version) {
    static const char *const SPECS[] = {
        "id:int64:k;grp:int32;body:text;note:text",
        "id:int64:k;grp:int64;body:text;note:text;extra:int64",
        "note:text;id:int64:k;grp:int64;extra:int64",
        "id:int64:k;note:text;grp:int64;body:text;extra:int64",
    };
    schema_unref(l->schema);
    l->schema = rows_schema(7, "t", version + 1, SPECS[version]);
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        for (int c = 0; c < LAKE_CELLS; c++) {
            if (schema_column(l->schema, LAKE_NAMES[c]) < 0) {
                snprintf(l->now[k].cells[c], LAKE_TEXT, "~");
            }
        }
    }
}

static bool changes(struct lake *l, uint32_t count, unsigned truncates) {
    struct item it;
    item_begin(&it, true);
    for (uint32_t i = 0; i < count; i++) {
        one_change(l, &it, truncates);
    }
    return item_stage(l, &it, STAGE_ROWS);
}

/* Rows that nobody has to look for: of keys that never were. */
static bool append(struct lake *l) {
    struct item it;
    item_begin(&it, false);
    for (uint32_t k = 0; k < LAKE_KEYS / 2; k++) {
        draw_cells(l, &l->now[k]);
        l->now[k].live = true;
        put_row(l, &it, ROW_INSERT, &l->now[k], ALL_CELLS);
    }
    return item_stage(l, &it, STAGE_ROWS);
}

/* Rows read again, or taken out. */
static bool again(struct lake *l, bool remove) {
    struct item it;
    item_begin(&it, false);
    for (uint32_t i = 0; i < 20; i++) {
        struct lake_row *row = &l->now[lake_draw(l, LAKE_KEYS)];
        draw_cells(l, row);
        row->live = !remove;
        put_row(l, &it, ROW_INSERT, row, ALL_CELLS);
        it.batches[it.count - 1]->again = true;
    }
    return item_stage(l, &it, remove ? STAGE_REMOVE : STAGE_ROWS);
}

static void begin(struct lake *l, uint64_t seed) {
    lake_init(l, "id:int64:k;grp:int32;body:text;note:text", seed);
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        l->now[k].id = l->committed[k].id = 1000 + k;
    }
}

/* One step of a history: a few items and a commit, or a crash. */
static bool step(struct lake *l, unsigned *version, bool *appended) {
    if (!*appended && !append(l)) {
        return false;
    }
    *appended = true;
    for (uint64_t items = 1 + lake_draw(l, 4); items > 0; items--) {
        uint64_t what = lake_draw(l, 20);
        bool held = what == 0   ? again(l, false)
                    : what == 1 ? again(l, true)
                                : changes(l, (uint32_t)lake_draw(l, 150), 400);
        if (!held) {
            return false;
        }
        if (what == 2) {
            struct stage_item void_item = { .kind = STAGE_GENERATION, .schema = l->schema };
            for (uint32_t k = 0; k < LAKE_KEYS; k++) {
                l->now[k].live = false;
            }
            if (!lake_item(l, &void_item)) {
                return false;
            }
        }
    }
    if (*version < 3 && lake_draw(l, 4) == 0) { /* in the middle of an item */
        struct item it;
        item_begin(&it, true);
        for (uint32_t i = 0; i < 30; i++) {
            one_change(l, &it, 0);
        }
        alter(l, ++*version);
        for (uint32_t i = 0; i < 30; i++) {
            one_change(l, &it, 0);
        }
        if (!item_stage(l, &it, STAGE_ROWS)) {
            return false;
        }
    }
    return true;
}

static const char *sorted_by; /* of the histories that follow; NULL */

/* open_bytes 0: as lake_init has it. */
static void history(uint64_t seed, const char *partition, uint64_t hash_mask, int format,
                    uint64_t open_bytes) {
    struct lake l;
    unsigned version = 0, committed_version = 0;
    bool appended = false, committed_appended = false;
    begin(&l, seed);
    l.config.open_bytes_max = open_bytes ? open_bytes : l.config.open_bytes_max;
    l.config.partition = partition;
    l.config.sort = sorted_by;
    l.config.hash_mask = hash_mask;
    l.config.format_version = format;
    bool held = lake_start(&l);
    for (int i = 0; held && i < 14; i++) {
        held = step(&l, &version, &appended);
        uint64_t end = held ? lake_draw(&l, 6) : 6;
        if (end <= 1) { /* a crash, before the seal or after it */
            held = end == 0 || lake_seal(&l, true);
            version = committed_version;
            appended = committed_appended;
            alter(&l, version); /* of the model as it is rolled back */
            held = held && lake_start(&l);
        } else if (held) {
            held = lake_commit(&l) && lake_check(&l) && lake_check_index(&l);
            committed_version = version;
            committed_appended = appended;
            if (end == 2) {
                held = held && lake_start(&l) && lake_check_index(&l);
            }
        }
    }
    if (sorted_by) {
        EXPECT_TRUE(l.sorted > 0);
        EXPECT_TRUE(strstr(sorted_by, "body") || l.unsorted == 0); /* that column goes */
    } else {
        EXPECT_EQ_INT(l.sorted, 0);
    }
    if (!held) {
        fprintf(stderr, "# seed %llu\n", (unsigned long long)seed);
    }
    lake_release(&l);
}

TEST(ice_stage_random_histories_end_at_the_models_rows) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
        history(seed, NULL, 0, seed % 2 ? 2 : 3, 0);
    }
}
TEST(ice_stage_rows_move_between_partitions) {
    for (uint64_t seed = 101; seed <= 108; seed++) {
        history(seed, "grp", 0, 2, 0);
    }
}
TEST(ice_stage_keys_of_one_hash_are_told_apart) {
    for (uint64_t seed = 201; seed <= 208; seed++) {
        history(seed, NULL, seed % 2 ? 0x3f : 0x3, 2, 0);
    }
}
TEST(ice_stage_rows_of_many_partitions_are_held_and_spilled) {
    for (uint64_t seed = 301; seed <= 308; seed++) {
        history(seed, "bucket(40,id)", seed % 2 ? 0 : 0x3f, 2, 1 << 12);
    }
}

/* Data files that the committed table has. */
static uint32_t count_files(struct lake *l) {
    struct err err = ERR_INIT;
    struct ice_table *t = lake_table(l);
    struct ice_live live;
    ice_live_init(&live);
    int failed =
        ice_live_load(&live, l->store, &t->metadata,
                      ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id), &err);
    CHECK(!failed);
    uint32_t count = (uint32_t)map_count(live.files);
    ice_live_release(&live);
    ice_table_free(t);
    return count;
}

/* One commit of many items, whose updates leave out cells of rows of the same commit. */
static void one_long_commit(const char *partition, uint64_t open_bytes, uint32_t files_max) {
    struct lake l;
    begin(&l, 7);
    l.config.partition = partition;
    l.config.open_bytes_max = open_bytes;
    bool held = lake_start(&l) && append(&l) && lake_commit(&l);
    uint32_t before = held ? count_files(&l) : 0;
    for (int i = 0; held && i < 60; i++) {
        held = changes(&l, 40, 0);
    }
    if (held && lake_commit(&l) && lake_check(&l) && lake_check_index(&l)) {
        EXPECT_TRUE(count_files(&l) - before <= files_max);
        struct err err = ERR_INIT; /* what was spilled is gone */
        struct file *file = NULL;
        EXPECT_EQ_INT(
            files_open_read(l.env.files, kit_text("%s.rows", l.config.index_dir), &file, &err),
            FILES_ABSENT);
    }
    lake_release(&l);
}

TEST(ice_stage_cells_left_out_of_rows_of_one_commit_end_one_file_at_most) {
    one_long_commit(NULL, 1 << 20, 2);
    one_long_commit(NULL, 1 << 12, 2);
}
TEST(ice_stage_a_commit_makes_few_files_a_partition) {
    one_long_commit("bucket(40,id)", 1 << 20, 40 + 3);
    one_long_commit("bucket(40,id)", 1 << 12, 40 + 3);
}

/* 1 << 9: whatever is held is spilled, a sorted run has some rows, and files end within a commit.
 */
TEST(ice_stage_files_are_sorted_and_rows_stay_known) {
    static const char *const orders[] = { "grp desc,note,id", "body,grp desc nulls first",
                                          "note desc nulls first" };
    static const char *const partitions[] = { NULL, "bucket(40,id)", "grp" };
    for (uint64_t seed = 401; seed <= 424; seed++) {
        sorted_by = orders[seed % 3];
        history(seed, partitions[seed / 3 % 3], seed % 4 ? 0 : 0x3f, seed % 2 ? 2 : 3,
                seed % 5 < 3 ? 1 << (6 + 3 * (seed % 5)) : 0);
    }
    sorted_by = NULL;
}
