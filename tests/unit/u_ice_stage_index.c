/* The life of a stage's key index: stored when the stage is closed, found, followed, built again;
 * what it says is compared with the table's own rows. */
#include <unistd.h>

#include "tests/unit/u_ice_stage.h"

static void begin(struct lake *l, uint64_t seed, uint64_t hash_mask) {
    lake_init(l, "id:int64:k;body:text", seed);
    l->config.hash_mask = hash_mask;
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        l->now[k].id = l->committed[k].id = 5000 + k;
        for (int c = 0; c < LAKE_CELLS; c++) {
            snprintf(l->now[k].cells[c], LAKE_TEXT, "~");
            snprintf(l->committed[k].cells[c], LAKE_TEXT, "~");
        }
    }
}

static void put_model_row(struct batch *b, const struct lake_row *row) {
    if (b->schema->columns[0].type.kind == TYPE_INT32) {
        put_i32(b, 0, (int32_t)row->id);
    } else {
        put_i64(b, 0, row->id);
    }
    put_str(b, 1, row->cells[1]);
    batch_row_done(b, ROW_INSERT, 0, 0);
}

/* Rows of keys from..to are there with new texts, or are taken out. */
static bool put_keys(struct lake *l, uint32_t from, uint32_t to, bool again, bool remove) {
    struct batch *b = batch_new(l->schema, to - from, NULL);
    for (uint32_t k = from; k < to; k++) {
        l->now[k].live = !remove;
        snprintf(l->now[k].cells[1], LAKE_TEXT, "b%llu", (unsigned long long)lake_draw(l, 100000));
        put_model_row(b, &l->now[k]);
    }
    b->again = again;
    batch_seal(b);
    bool held =
        lake_item(l, &(struct stage_item){
                         .kind = remove ? STAGE_REMOVE : STAGE_ROWS, .batches = &b, .count = 1 });
    batch_unref(b);
    return held;
}

static bool check(struct lake *l) { return lake_check(l) && lake_check_index(l); }

/* Two hundred keys, some of them changed, in three commits. */
static bool fill(struct lake *l) {
    return lake_start(l) && put_keys(l, 0, 200, false, false) && lake_commit(l) &&
           put_keys(l, 50, 60, true, false) && lake_commit(l) && put_keys(l, 70, 90, true, true) &&
           lake_commit(l) && check(l);
}

TEST(ice_stage_index_is_found_after_a_clean_end) {
    struct lake l;
    begin(&l, 1, 0);
    if (fill(&l) && lake_start(&l)) {
        EXPECT_EQ_U64(l.stage->changes, 0);
        check(&l);
        bool held = put_keys(&l, 55, 75, true, false) && lake_commit(&l);
        EXPECT_TRUE(held && check(&l));
    }
    lake_release(&l);
}

TEST(ice_stage_index_of_a_commit_that_never_was_is_built_again) {
    struct lake l;
    begin(&l, 2, 0);
    if (fill(&l) && put_keys(&l, 0, 40, true, false) && lake_seal(&l, true) && lake_start(&l)) {
        EXPECT_EQ_U64(l.stage->changes, 180);
        check(&l);
    }
    lake_release(&l);
}

/* What a state that was stored costs nobody a rebuild, whether its commit came about or not. */
TEST(ice_stage_index_before_a_commit_that_never_was_is_followed) {
    struct lake l;
    begin(&l, 19, 0);
    if (fill(&l) && lake_start(&l) && put_keys(&l, 0, 40, true, false) && lake_commit(&l) &&
        put_keys(&l, 40, 45, true, false) && lake_seal(&l, true) && lake_start(&l)) {
        EXPECT_EQ_U64(l.stage->changes, 40);
        check(&l);
    }
    lake_release(&l);
}

/* kill -9: nothing is stored when the stage goes. */
static bool kill_and_start(struct lake *l) {
    l->stage->sealed_snapshot = 0;
    return lake_start(l);
}

static bool seal_stored(struct lake *l, bool lost, bool stored) {
    l->stage->changes += stored ? 1 << 20 : 0;
    return lake_seal(l, lost);
}

TEST(ice_stage_index_is_never_built_again_whenever_the_process_is_killed) {
    struct lake l;
    uint64_t most = 0;
    begin(&l, 20, 0);
    bool held = fill(&l) && lake_start(&l);
    for (int round = 0; round < 80 && held; round++) {
        for (uint64_t commits = lake_draw(&l, 4); commits > 0 && held; commits--) {
            uint32_t k = (uint32_t)lake_draw(&l, 60);
            held = put_keys(&l, k, k + 3, true, false) &&
                   seal_stored(&l, false, lake_draw(&l, 2) == 0);
        }
        /* Seals whose commits have not come about: also when one is stored, and more follow. */
        uint32_t lost = (uint32_t)lake_draw(&l, 4);
        for (uint32_t i = 0; i < lost && held; i++) {
            held = put_keys(&l, 100 + 3 * i, 103 + 3 * i, true, false) &&
                   seal_stored(&l, true, lake_draw(&l, 2) == 0);
        }
        held = held && kill_and_start(&l);
        most = held && l.stage->changes > most ? l.stage->changes : most;
        held = held && check(&l);
    }
    EXPECT_TRUE(held && most < 60); /* of 180 rows, three a commit */
    lake_release(&l);
}

TEST(ice_stage_index_with_unsealed_changes_is_not_stored) {
    struct lake l;
    begin(&l, 3, 0);
    if (fill(&l) && lake_start(&l) && put_keys(&l, 0, 40, true, false) && lake_start(&l)) {
        EXPECT_EQ_U64(l.stage->changes, 0); /* as of the last clean end */
        check(&l);
    }
    lake_release(&l);
}

/* Another index, as another machine has it, while ours waits. */
static bool elsewhere(struct lake *l, bool (*work)(struct lake *l)) {
    const char *mine = l->config.index_dir;
    ice_stage_close(l->stage);
    l->stage = NULL;
    l->config.index_dir = kit_text("%s/elsewhere", l->folder);
    bool held = lake_start(l) && work(l);
    ice_stage_close(l->stage);
    l->stage = NULL;
    l->config.index_dir = mine;
    return held;
}

static bool work_changes(struct lake *l) {
    return put_keys(l, 40, 55, true, false) && lake_commit(l) &&
           put_keys(l, 200, 250, false, false) && put_keys(l, 100, 120, true, true) &&
           lake_commit(l) && put_keys(l, 110, 115, true, false) && lake_commit(l);
}

static bool work_void(struct lake *l) {
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        l->now[k].live = false;
    }
    return lake_item(l, &(struct stage_item){ .kind = STAGE_GENERATION, .schema = l->schema }) &&
           put_keys(l, 10, 20, false, false) && lake_commit(l);
}

static void followed(uint64_t seed, uint64_t hash_mask, bool (*work)(struct lake *l),
                     uint64_t added) {
    struct lake l;
    begin(&l, seed, hash_mask);
    if (fill(&l) && elsewhere(&l, work) && lake_start(&l)) {
        EXPECT_EQ_U64(l.stage->changes, added);
        bool held = check(&l) && put_keys(&l, 30, 130, true, false) && lake_commit(&l) && check(&l);
        EXPECT_TRUE(held);
    }
    lake_release(&l);
}

TEST(ice_stage_index_follows_later_commits) { followed(4, 0, work_changes, 15 + 50 + 5); }
TEST(ice_stage_index_of_equal_hashes_follows_later_commits) {
    followed(5, 0x7, work_changes, 15 + 50 + 5);
}
TEST(ice_stage_index_follows_a_new_generation) { followed(6, 0, work_void, 10); }

/* Every data file of the table, and its index, are lost. */
static bool lose_files(struct lake *l) {
    struct err err = ERR_INIT;
    struct ice_live live;
    void *value;
    ice_live_init(&live);
    int failed = ice_live_load(
        &live, l->store, &l->table->metadata,
        ice_metadata_snapshot(&l->table->metadata, l->table->metadata.current_snapshot_id), &err);
    for (size_t at = 0; !failed && map_next(live.files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *f = value;
        failed = store_remove(l->store, store_key_of(l->store, f->path), &err);
    }
    ice_live_release(&live);
    l->config.index_dir = kit_text("%s/fresh", l->folder);
    return EXPECT_EQ_STR(failed ? err.text : "", "");
}

TEST(ice_stage_a_new_generation_needs_no_file_of_the_old_one) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 17, 0);
    if (fill(&l) && lose_files(&l) && lake_open(&l)) {
        EXPECT_TRUE(ice_stage_need_index(l.stage, &err) != 0);
        EXPECT_EQ_STR(err.code, "object_missing");
        bool held = lake_open(&l) && work_void(&l) && check(&l) &&
                    put_keys(&l, 0, 30, true, false) && lake_commit(&l) && check(&l) &&
                    lake_start(&l) && check(&l);
        EXPECT_TRUE(held);
    }
    lake_release(&l);
}

/* ... and nothing is committed after it for a while: the rows that come later find it empty. */
TEST(ice_stage_a_new_generation_is_committed_alone) {
    struct lake l;
    begin(&l, 18, 0);
    if (fill(&l) && lose_files(&l) && lake_open(&l)) {
        for (uint32_t k = 0; k < LAKE_KEYS; k++) {
            l.now[k].live = false;
        }
        struct stage_item item = { .kind = STAGE_GENERATION, .schema = l.schema };
        bool held = lake_item(&l, &item) && lake_commit(&l) && !l.stage->index &&
                    put_keys(&l, 0, 30, false, false) && lake_commit(&l) && check(&l);
        EXPECT_TRUE(held);
    }
    lake_release(&l);
}

TEST(ice_stage_index_that_is_damaged_is_built_again) {
    struct lake l;
    begin(&l, 7, 0);
    if (fill(&l)) {
        ice_stage_close(l.stage);
        l.stage = NULL;
        struct buf names;
        struct err err = ERR_INIT;
        buf_init(&names, SIZE_MAX);
        enum files_result listed = files_list(files_os(), l.config.index_dir, &names, &err);
        CHECK(listed == FILES_OK);
        for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
            EXPECT_EQ_INT(truncate(kit_text("%s/%s", l.config.index_dir, names.data + at), 100), 0);
        }
        buf_release(&names);
        if (lake_start(&l)) {
            EXPECT_EQ_U64(l.stage->changes, 180);
            check(&l);
        }
    }
    lake_release(&l);
}

/* One bit of one file of the stored index is another. */
static void flip(const char *path, uint64_t at) {
    FILE *file = fopen(path, "r+b");
    CHECK(file && fseek(file, (long)at, SEEK_SET) == 0);
    int byte = fgetc(file);
    CHECK(byte != EOF && fseek(file, (long)at, SEEK_SET) == 0);
    CHECK(fputc(byte ^ 1 << at % 8, file) != EOF && fclose(file) == 0);
}

static uint64_t size_of(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    fclose(file);
    return (uint64_t)size;
}

/* Files of the index as they are, in a fresh list; freed by the caller. */
static struct buf index_files(const struct lake *l) {
    struct buf names;
    struct err err = ERR_INIT;
    buf_init(&names, SIZE_MAX);
    CHECK(files_list(files_os(), l->config.index_dir, &names, &err) == FILES_OK);
    return names;
}

/* All keys are asked for; what fails is the index's damage, as the writer takes it. */
static bool touch_all(struct lake *l, bool *damaged) {
    struct err err = ERR_INIT;
    struct batch *b = batch_new(l->schema, 200, NULL);
    for (uint32_t k = 0; k < 200; k++) {
        snprintf(l->now[k].cells[1], LAKE_TEXT, "b%llu", (unsigned long long)lake_draw(l, 100000));
        l->now[k].live = true;
        put_model_row(b, &l->now[k]);
    }
    b->again = true;
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    *damaged = ice_stage_item(l->stage, &item, &err) != 0;
    batch_unref(b);
    ice_stage_void_index(&l->config, &err);
    return !*damaged || EXPECT_EQ_STR(err.code, "index_damaged");
}

TEST(ice_stage_index_of_which_any_bit_is_flipped_does_no_harm) {
    struct lake l;
    unsigned noticed_late = 0, tried = 0;
    begin(&l, 21, 0);
    bool held = fill(&l);
    for (uint32_t i = 0; i < 90 && held; i++) {
        ice_stage_close(l.stage); /* stores it */
        l.stage = NULL;
        struct buf names = index_files(&l);
        size_t at = 0;
        for (uint32_t skip = i % 3; skip > 0; skip--) { /* the next file, if there is one */
            size_t next = at + strlen(names.data + at) + 1;
            at = next < names.len ? next : 0;
        }
        const char *path = kit_text("%s/%s", l.config.index_dir, names.data + at);
        uint64_t size = size_of(path);
        bool at_end = i % 2;
        uint64_t where = lake_draw(&l, at_end && size > 300 ? 300 : size);
        flip(path, at_end ? size - 1 - where : where);
        buf_release(&names);
        tried++;
        bool damaged = false;
        held = lake_start(&l) && touch_all(&l, &damaged);
        if (held && damaged) {
            noticed_late++;
            held = lake_start(&l) && EXPECT_TRUE(l.stage->changes >= 180) &&
                   touch_all(&l, &damaged) && EXPECT_TRUE(!damaged);
        }
        held = held && lake_commit(&l) && check(&l);
    }
    EXPECT_TRUE(held && tried == 90 && noticed_late > 0);
    lake_release(&l);
}

TEST(ice_stage_index_that_gives_a_dead_row_is_built_again) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 16, 0);
    if (fill(&l) && lake_start(&l)) {
        uint64_t loc = lake_find(&l, 5000);
        EXPECT_EQ_INT(ice_stage_mark_dead(l.stage, loc, &err), 0);
        EXPECT_TRUE(ice_stage_mark_dead(l.stage, loc, &err) != 0);
        EXPECT_EQ_STR(err.code, "index_damaged");
        if (lake_start(&l)) {
            EXPECT_EQ_U64(l.stage->changes, 180);
            check(&l);
        }
    }
    lake_release(&l);
}

TEST(ice_stage_keys_survive_a_wider_type) {
    struct lake l;
    lake_init(&l, "id:int32:k;body:text", 8);
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        l.now[k].id = l.committed[k].id = (int64_t)k - 100;
        snprintf(l.now[k].cells[1], LAKE_TEXT, "~");
    }
    bool held = lake_start(&l) && put_keys(&l, 0, 200, false, false) && lake_commit(&l);
    schema_unref(l.schema);
    l.schema = rows_schema(7, "t", 2, "id:int64:k;body:text");
    held = held && put_keys(&l, 50, 80, true, false) && lake_commit(&l) && check(&l);
    held =
        held && lake_start(&l) && put_keys(&l, 70, 90, true, true) && lake_commit(&l) && check(&l);
    EXPECT_TRUE(held);
    lake_release(&l);
}

TEST(ice_stage_index_forgets_files_that_left_the_table) {
    struct lake l;
    size_t at = 0;
    uint32_t number, paths = 0;
    const char *path;
    begin(&l, 15, 0);
    l.config.partition = "body";
    bool held = lake_start(&l);
    for (int i = 0; held && i < 30; i++) { /* a file a row, all of them void with the next commit */
        held = put_keys(&l, 0, 40, true, false) && lake_commit(&l);
    }
    EXPECT_TRUE(held && check(&l));
    while (held && key_index_next_path(l.stage->index, &at, &number, &path)) {
        paths++;
    }
    EXPECT_TRUE(paths < 30 * 40 / 2);
    lake_release(&l);
}

/* ---- what the log must not say ---- */

static void stage_one(struct lake *l, enum row_kind kind, int64_t id, const char *body,
                      struct err *err) {
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(l->schema, 1, txs);
    rows_add(b, kind, 0, 0, id, body);
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    int failed = ice_stage_item(l->stage, &item, err);
    EXPECT_EQ_INT(failed != 0, err->code[0] != 0);
    batch_unref(b);
    txlist_unref(txs);
}

TEST(ice_stage_an_insert_of_a_live_key_stops) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 9, 0);
    if (fill(&l)) {
        stage_one(&l, ROW_INSERT, 5000 + 10, "twice", &err);
        EXPECT_EQ_STR(err.code, "insert_of_live_key");
    }
    lake_release(&l);
}

TEST(ice_stage_a_cell_of_a_row_that_is_gone_stops) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 10, 0);
    if (fill(&l)) {
        stage_one(&l, ROW_UPDATE_AFTER, 5000 + 75, "-", &err);
        EXPECT_EQ_STR(err.code, "row_absent");
    }
    lake_release(&l);
}

TEST(ice_stage_deletes_and_updates_of_absent_keys_are_exact) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 11, 0);
    if (fill(&l)) {
        stage_one(&l, ROW_DELETE, 5000 + 75, NULL, &err);
        stage_one(&l, ROW_UPDATE_AFTER, 5000 + 76, "new", &err);
        l.now[76].live = true;
        snprintf(l.now[76].cells[1], LAKE_TEXT, "new");
        EXPECT_EQ_STR(err.text, "");
        EXPECT_TRUE(lake_commit(&l) && check(&l));
    }
    lake_release(&l);
}

/* ---- columns besides the source's ---- */

static bool has_line(struct lake *l, const char *text) {
    struct lake_lines lines;
    bool found = false;
    lake_read(l, &lines);
    for (uint32_t i = 0; i < lines.count; i++) {
        found = found || strcmp(lines.at[i].text, text) == 0;
    }
    for (uint32_t i = 0; !found && i < lines.count; i++) {
        fprintf(stderr, "# %s\n", lines.at[i].text);
    }
    free(lines.at);
    return found;
}

static uint32_t line_count(struct lake *l) {
    struct lake_lines lines;
    lake_read(l, &lines);
    free(lines.at);
    return lines.count;
}

TEST(ice_stage_extra_columns_say_what_wrote_the_row) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 12, 0);
    l.config.rules.extras = ICE_EXTRA_OP | ICE_EXTRA_TS | ICE_EXTRA_POSITION;
    if (lake_start(&l) && put_keys(&l, 0, 1, false, false)) {
        stage_one(&l, ROW_INSERT, 1, "one", &err);
        stage_one(&l, ROW_INSERT, 2, "two", &err);
        stage_one(&l, ROW_UPDATE_AFTER, 2, "three", &err);
        EXPECT_EQ_STR(err.text, "");
        if (lake_commit(&l)) {
            EXPECT_EQ_INT(line_count(&l), 3);
            EXPECT_TRUE(has_line(&l, kit_text("5000|%s|r|~|0/0|", l.now[0].cells[1])));
            EXPECT_TRUE(has_line(&l, "1|one|c|946684800000000|0/1000|"));
            EXPECT_TRUE(has_line(&l, "2|three|u|946684800000000|0/1000|"));
        }
    }
    lake_release(&l);
}

TEST(ice_stage_soft_deletes_leave_the_row_until_its_key_comes_back) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 13, 0);
    l.config.soft_deletes = true;
    l.config.rules.extras = ICE_EXTRA_DELETED;
    if (lake_start(&l)) {
        stage_one(&l, ROW_INSERT, 1, "one", &err);
        stage_one(&l, ROW_INSERT, 2, "two", &err);
        stage_one(&l, ROW_DELETE, 2, "-", &err);
        stage_one(&l, ROW_DELETE, 3, "-", &err); /* was never there */
        EXPECT_EQ_STR(err.text, "");
        if (lake_commit(&l) && lake_start(&l)) {
            EXPECT_EQ_INT(line_count(&l), 2);
            EXPECT_TRUE(has_line(&l, "1|one|false|"));
            EXPECT_TRUE(has_line(&l, "2|two|true|"));
        }
        stage_one(&l, ROW_DELETE, 1, "-", &err);
        stage_one(&l, ROW_INSERT, 2, "again", &err);
        EXPECT_EQ_STR(err.text, "");
        if (lake_commit(&l)) {
            EXPECT_EQ_INT(line_count(&l), 2);
            EXPECT_TRUE(has_line(&l, "1|one|true|"));
            EXPECT_TRUE(has_line(&l, "2|again|false|"));
        }
        stage_one(&l, ROW_INSERT, 2, "twice", &err);
        EXPECT_EQ_STR(err.code, "insert_of_live_key");
    }
    lake_release(&l);
}

TEST(ice_stage_truncates_can_be_passed_over) {
    struct lake l;
    struct err err = ERR_INIT;
    begin(&l, 14, 0);
    l.config.ignore_truncate = true;
    if (lake_start(&l)) {
        stage_one(&l, ROW_INSERT, 1, "one", &err);
        stage_one(&l, ROW_INSERT, 2, "two", &err);
        stage_one(&l, ROW_TRUNCATE, 0, NULL, &err);
        stage_one(&l, ROW_INSERT, 2, "back", &err);
        EXPECT_EQ_STR(err.text, "");
        if (lake_commit(&l)) {
            EXPECT_EQ_INT(line_count(&l), 2);
            EXPECT_TRUE(has_line(&l, "1|one|"));
            EXPECT_TRUE(has_line(&l, "2|back|"));
        }
    }
    lake_release(&l);
}
