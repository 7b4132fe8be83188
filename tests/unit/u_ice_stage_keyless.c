/* Tables without a key against a plain list of rows: a delete or an update takes out exactly one
 * row equal to the before-row, however many are equal and wherever they lie. */
#include "tests/unit/u_ice_stage.h"

enum { ROWS_MAX = 4000 };
struct pile_row {
    int32_t a;
    int32_t b; /* -1 = null */
};
struct pile {
    struct pile_row now[ROWS_MAX], committed[ROWS_MAX];
    uint32_t count, committed_count;
};

static struct pile_row draw_row(struct lake *l) {
    return (struct pile_row){ (int32_t)lake_draw(l, 12), (int32_t)lake_draw(l, 4) - 1 };
}

static void put_text(struct batch *batch, int32_t b) {
    char text[24];
    snprintf(text, sizeof text, "text %d", b);
    put_str(batch, 1, text);
}

static void put_pile_row(struct batch *batch, enum row_kind kind, uint32_t n, struct pile_row row,
                         bool absent) {
    put_i32(batch, 0, row.a);
    if (absent) {
        batch_put_absent(batch, 1);
    } else if (row.b < 0) {
        batch_put_null(batch, 1);
    } else {
        put_text(batch, row.b);
    }
    batch_row_done(batch, kind, 0, n);
}

static bool stage_batches(struct lake *l, struct batch **batches, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        batch_seal(batches[i]);
    }
    bool held = lake_item(
        l, &(struct stage_item){ .kind = STAGE_ROWS, .batches = batches, .count = count });
    for (uint32_t i = 0; i < count; i++) {
        batch_unref(batches[i]);
    }
    return held;
}

static bool append(struct lake *l, struct pile *p, uint32_t count) {
    struct batch *b = batch_new(l->schema, count, NULL);
    for (uint32_t i = 0; i < count; i++) {
        p->now[p->count] = draw_row(l);
        put_pile_row(b, ROW_INSERT, 0, p->now[p->count++], false);
    }
    return stage_batches(l, &b, 1);
}

/* Random changes, in batches that are cut anywhere. deletes: one in so many. */
static bool change(struct lake *l, struct pile *p, uint32_t count, uint64_t deletes) {
    struct txlist *txs = rows_txs(1);
    struct batch *batches[64];
    uint32_t made = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (made == 0 || (made < 60 && lake_draw(l, 10) == 0)) {
            batches[made++] = batch_new(l->schema, 1000, txs);
        }
        struct batch *b = batches[made - 1];
        uint64_t what = p->count && deletes ? lake_draw(l, deletes) : 2;
        uint32_t at = p->count ? (uint32_t)lake_draw(l, p->count) : 0;
        if (what == 0) {
            put_pile_row(b, ROW_DELETE, i, p->now[at], false);
            p->now[at] = p->now[--p->count];
        } else if (what == 1) {
            put_pile_row(b, ROW_UPDATE_BEFORE, i, p->now[at], false);
            bool absent = lake_draw(l, 2);
            int32_t kept = p->now[at].b;
            p->now[at] = draw_row(l);
            if (absent) {
                p->now[at].b = kept;
            }
            if (made < 60 && lake_draw(l, 10) == 0) {
                b = batches[made++] = batch_new(l->schema, 1000, txs);
            }
            put_pile_row(b, ROW_UPDATE_AFTER, i, p->now[at], absent);
        } else {
            p->now[p->count] = draw_row(l);
            put_pile_row(b, ROW_INSERT, i, p->now[p->count++], false);
        }
    }
    bool held = stage_batches(l, batches, made);
    txlist_unref(txs);
    return held;
}

static bool check(struct lake *l, const struct pile *p) {
    struct lake_lines got;
    struct lake_line *want = xcalloc(p->committed_count + 1, sizeof *want);
    lake_read(l, &got);
    for (uint32_t i = 0; i < p->committed_count; i++) {
        struct pile_row row = p->committed[i];
        snprintf(want[i].text, sizeof want[i].text, row.b < 0 ? "%d|~|" : "%d|text %d|", row.a,
                 row.b);
    }
    qsort(want, p->committed_count, sizeof *want, lake_by_text);
    bool same = EXPECT_EQ_INT(got.count, p->committed_count);
    for (uint32_t i = 0; same && i < got.count; i++) {
        same = EXPECT_EQ_STR(got.at[i].text, want[i].text);
    }
    free(want);
    free(got.at);
    return same;
}

static bool commit(struct lake *l, struct pile *p) {
    memcpy(p->committed, p->now, sizeof p->now);
    p->committed_count = p->count;
    return lake_commit(l) && check(l, p);
}

static bool restart(struct lake *l, struct pile *p) {
    memcpy(p->now, p->committed, sizeof p->now);
    p->count = p->committed_count;
    return lake_start(l);
}

static void history(uint64_t seed, uint64_t hash_mask, const char *sort, uint64_t open_bytes) {
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", seed);
    l.config.hash_mask = hash_mask;
    l.config.sort = sort;
    l.config.open_bytes_max = open_bytes ? open_bytes : l.config.open_bytes_max;
    bool held = restart(&l, p) && append(&l, p, 300) && commit(&l, p);
    held = held && change(&l, p, 20, 0); /* a file that is open when the first row goes */
    for (int i = 0; held && i < 12; i++) {
        held = change(&l, p, 1 + (uint32_t)lake_draw(&l, 60), 3 + lake_draw(&l, 3));
        switch (held ? lake_draw(&l, 6) : 9) {
        case 0:
            held = restart(&l, p);
            break;
        case 1:
            held = lake_seal(&l, true) && restart(&l, p);
            break;
        case 2:
            held = commit(&l, p) && restart(&l, p);
            break;
        case 3:
            p->count = 0;
            held = lake_item(
                       &l, &(struct stage_item){ .kind = STAGE_GENERATION, .schema = l.schema }) &&
                   append(&l, p, 50) && commit(&l, p);
            break;
        case 9:
            break;
        default:
            held = commit(&l, p);
        }
    }
    if (!held) {
        fprintf(stderr, "# seed %llu\n", (unsigned long long)seed);
    }
    free(p);
    lake_release(&l);
}

TEST(ice_stage_keyless_histories_end_at_the_models_multiset) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        history(seed, 0, NULL, 0);
    }
}
TEST(ice_stage_keyless_images_of_one_hash_are_told_apart) {
    for (uint64_t seed = 51; seed <= 56; seed++) {
        history(seed, 0x3, NULL, 0);
    }
}
TEST(ice_stage_keyless_files_are_sorted_and_rows_stay_known) {
    for (uint64_t seed = 71; seed <= 86; seed++) {
        history(seed, seed % 3 ? 0 : 0x3, seed % 2 ? "b,a desc" : "a", seed % 4 ? 1 << 9 : 0);
    }
}

TEST(ice_stage_keyless_appends_need_no_index) {
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", 3);
    bool held = restart(&l, p) && append(&l, p, 100) && commit(&l, p) && change(&l, p, 50, 0) &&
                commit(&l, p);
    EXPECT_TRUE(held && !l.stage->index);
    held = held && change(&l, p, 50, 2) && commit(&l, p);
    EXPECT_TRUE(held && l.stage->index);
    free(p);
    lake_release(&l);
}

TEST(ice_stage_keyless_rows_stay_known_when_columns_come_and_go) {
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", 4);
    bool held = restart(&l, p) && append(&l, p, 100) && commit(&l, p) && change(&l, p, 30, 3) &&
                commit(&l, p);
    schema_unref(l.schema);
    l.schema = rows_schema(7, "t", 2, "a:int64;b:text;c:int32");
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(l.schema, 1, txs);
    put_i64(b, 0, p->now[0].a);
    if (p->now[0].b < 0) {
        batch_put_null(b, 1);
    } else {
        put_text(b, p->now[0].b);
    }
    batch_put_null(b, 2);
    batch_row_done(b, ROW_DELETE, 0, 0);
    held = held && stage_batches(&l, &b, 1) && lake_commit(&l);
    struct lake_lines lines;
    lake_read(&l, &lines);
    EXPECT_TRUE(held);
    EXPECT_EQ_INT(lines.count, p->count - 1);
    free(lines.at);

    /* A column that goes makes rows equal: any one of them may go. */
    schema_unref(l.schema);
    l.schema = rows_schema(7, "t", 3, "a:int64;c:int32");
    b = batch_new(l.schema, 1, txs);
    put_i64(b, 0, p->now[1].a);
    batch_put_null(b, 1);
    batch_row_done(b, ROW_DELETE, 0, 0);
    EXPECT_TRUE(held && stage_batches(&l, &b, 1) && lake_commit(&l));
    lake_read(&l, &lines);
    EXPECT_EQ_INT(lines.count, p->count - 2);
    free(lines.at);
    txlist_unref(txs);
    free(p);
    lake_release(&l);
}

static void expect_code(struct lake *l, enum row_kind kind, int32_t a, const char *text,
                        const char *code) {
    struct err err = ERR_INIT;
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(l->schema, 1, txs);
    put_i32(b, 0, a);
    if (text) {
        put_str(b, 1, text);
    } else {
        batch_put_absent(b, 1);
    }
    batch_row_done(b, kind, 0, 0);
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    EXPECT_TRUE(ice_stage_item(l->stage, &item, &err) != 0);
    EXPECT_EQ_STR(err.code, code);
    batch_unref(b);
    txlist_unref(txs);
}

TEST(ice_stage_keyless_changes_without_an_image_stop) {
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", 5);
    if (restart(&l, p) && append(&l, p, 10) && commit(&l, p)) {
        expect_code(&l, ROW_DELETE, 1, NULL, "keyless_change");
        EXPECT_TRUE(restart(&l, p));
        expect_code(&l, ROW_UPDATE_AFTER, 1, "x", "keyless_change");
        EXPECT_TRUE(restart(&l, p));
        expect_code(&l, ROW_DELETE, 1, "no such text", "row_absent");
    }
    free(p);
    lake_release(&l);
}

TEST(ice_stage_keyless_soft_deletes_stay_marked) {
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", 6);
    l.config.soft_deletes = true;
    l.config.rules.extras = ICE_EXTRA_DELETED;
    bool held = restart(&l, p);
    for (int round = 0; held && round < 3; round++) {
        struct txlist *txs = rows_txs(1);
        struct batch *b = batch_new(l.schema, 8, txs);
        struct pile_row row = { 1, 1 };
        put_pile_row(b, ROW_INSERT, 0, row, false);
        put_pile_row(b, ROW_INSERT, 1, row, false);
        put_pile_row(b, ROW_DELETE, 2, row, false);
        held = stage_batches(&l, &b, 1) && lake_commit(&l) && restart(&l, p);
        txlist_unref(txs);
    }
    struct lake_lines lines;
    uint32_t marked = 0;
    lake_read(&l, &lines);
    for (uint32_t i = 0; i < lines.count; i++) {
        marked += strcmp(lines.at[i].text, "1|text 1|true|") == 0;
    }
    EXPECT_EQ_INT(lines.count, 6);
    EXPECT_EQ_INT(marked, 3);
    free(lines.at);
    free(p);
    lake_release(&l);
}

static uint32_t rows_of(struct lake *l) {
    struct lake_lines lines;
    lake_read(l, &lines);
    free(lines.at);
    return lines.count;
}

/* Chains of thousands of links, of which a file's pieces move a part each; rows that went while the
 * file was held are in none. */
TEST(ice_stage_keyless_equal_rows_of_a_sorted_file_stay_known) {
    enum { BATCHES = 3, EACH = 7000, GONE = 500 };
    struct lake l;
    struct pile *p = xcalloc(1, sizeof *p);
    lake_init(&l, "a:int32;b:text", 9);
    l.config.sort = "a desc";
    bool held = restart(&l, p) && append(&l, p, 10) && change(&l, p, 10, 2) && commit(&l, p);
    EXPECT_TRUE(l.stage->index != NULL);
    uint32_t before = held ? rows_of(&l) : 0;
    struct pile_row row = { 77, 1 }, other = { 78, 1 };
    for (int commits = 0; held && commits < 2; commits++) {
        for (int i = 0; held && i < BATCHES; i++) {
            struct batch *b = batch_new(l.schema, EACH, NULL);
            for (uint32_t r = 0; r < EACH; r++) {
                put_pile_row(b, ROW_INSERT, 0, r % 2 ? row : other, false);
            }
            held = stage_batches(&l, &b, 1);
        }
        for (int again = 0; held && again < 2; again++) { /* of the same commit, then of another */
            struct txlist *txs = rows_txs(1);
            struct batch *b = batch_new(l.schema, GONE, txs);
            for (uint32_t r = 0; r < GONE; r++) {
                put_pile_row(b, ROW_DELETE, r, r % 2 ? row : other, false);
            }
            held = stage_batches(&l, &b, 1) && lake_commit(&l);
            txlist_unref(txs);
            before += again ? -(uint32_t)GONE : BATCHES * EACH - (uint32_t)GONE;
            EXPECT_EQ_INT(rows_of(&l), before);
        }
    }
    EXPECT_TRUE(held && l.sorted > 2 && l.unsorted == 0);
    free(p);
    lake_release(&l);
}
