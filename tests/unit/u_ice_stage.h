/* A stage over a folder, the commits of its table, and a plain model of what the table must hold.
 * Rows go through the stage, the real preparation of snapshots and our own reader; the model is an
 * array. For u_ice_stage*.c. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sinks/iceberg/ice_stage_internal.h"
#include "sinks/iceberg/ice_table.h"
#include "tests/unit/u_sink_rows.h"

enum { LAKE_KEYS = 300, LAKE_CELLS = 4, LAKE_TEXT = 24 };
/* A cell as text; "~" = null. Cells: grp, body, note, extra. */
struct lake_row {
    bool live;
    int64_t id;
    char cells[LAKE_CELLS][LAKE_TEXT];
};
static const char *const LAKE_NAMES[LAKE_CELLS] = { "grp", "body", "note", "extra" };

struct lake {
    struct env env;
    struct store *store;
    struct ice_tools *tools;
    struct ice_stage_config config;
    struct ice_stage *stage;
    struct ice_table *table; /* of the commit side */
    char *location;          /* committed; NULL = none */
    const char *folder;
    struct schema *schema; /* of rows from here on */
    struct buf garbage;
    uint64_t seed, tx, seq;
    uint32_t sorted, unsorted; /* files that were sealed, marked as such or not */
    struct lake_row now[LAKE_KEYS], committed[LAKE_KEYS];
};

static inline uint64_t lake_draw(struct lake *l, uint64_t below) {
    l->seed ^= l->seed << 13;
    l->seed ^= l->seed >> 7;
    l->seed ^= l->seed << 17;
    return (l->seed >> 11) % below;
}

static inline int lake_locate(void *arg, const char *space, const char *name, char **location,
                              struct err *err) {
    struct lake *l = arg;
    (void)space;
    (void)name;
    (void)err;
    *location = l->location ? xstrdup(l->location) : NULL;
    return 0;
}

/* In memory where there is such a place: syncing would be all the time that these tests take. */
static inline const char *lake_folder(void) {
    bool memory = !getenv("TMPDIR") && access("/dev/shm", W_OK) == 0;
    if (memory) {
        setenv("TMPDIR", "/dev/shm", 1);
    }
    const char *folder = kit_temp_dir();
    if (memory) {
        unsetenv("TMPDIR");
    }
    return folder;
}

static inline void lake_init(struct lake *l, const char *spec, uint64_t seed) {
    memset(l, 0, sizeof *l);
    l->folder = lake_folder();
    l->env = (struct env){ .files = files_os() };
    l->store = store_of_folder(l->env.files, kit_text("%s/lake", l->folder));
    l->tools = ice_tools_new(8 << 20);
    l->seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    buf_init(&l->garbage, SIZE_MAX);
    l->schema = rows_schema(7, "t", 1, spec);
    l->config = (struct ice_stage_config){
        .env = &l->env,
        .store = l->store,
        .tools = l->tools,
        .job = "job",
        .epoch = 1,
        .put_logpos = rows_put_logpos,
        .locate = lake_locate,
        .locate_arg = l,
        .index_dir = kit_text("%s/index", l->folder),
        .index_bytes = 8 << 20,
        .parquet = { .codec = PARQUET_NONE, .page_bytes = 512 },
        .file_bytes = 1 << 20,
        .open_bytes_max = 1 << 20,
        .open_files_max = 3,
        .format_version = 2,
    };
}

static inline struct ice_table *lake_table(struct lake *l) {
    struct ice_table *t = ice_table_new("public", "t");
    if (l->location) {
        struct err err = ERR_INIT;
        struct buf bytes;
        t->loaded = xstrdup(l->location);
        t->location = xstrdup(l->location);
        buf_init(&bytes, SIZE_MAX);
        if (ice_object_get(l->store, l->location, &bytes, &err) ||
            ice_metadata_parse(bytes.data, bytes.len, &t->metadata, &err)) {
            fprintf(stderr, "# %s\n", err.text);
            abort();
        }
        t->has_metadata = true;
        buf_release(&bytes);
    }
    return t;
}

/* A run begins: whatever was staged and not committed is gone. */
static inline bool lake_open(struct lake *l) {
    struct err err = ERR_INIT;
    ice_stage_close(l->stage);
    l->stage = NULL;
    ice_table_free(l->table);
    l->table = lake_table(l);
    memcpy(l->now, l->committed, sizeof l->now);
    if (ice_stage_open(&l->config, l->schema, l->location, &l->stage, &err)) {
        fprintf(stderr, "# open: %s\n", err.text);
        return EXPECT_EQ_STR(err.text, "");
    }
    return true;
}
/* ... and its index is there. */
static inline bool lake_start(struct lake *l) {
    struct err err = ERR_INIT;
    if (!lake_open(l)) {
        return false;
    }
    int failed = l->stage->key_count > 0 ? ice_stage_need_index(l->stage, &err) : 0;
    return EXPECT_EQ_STR(failed ? err.text : "", "");
}

static inline void lake_release(struct lake *l) {
    ice_stage_close(l->stage);
    ice_table_free(l->table);
    ice_tools_free(l->tools);
    store_free(l->store);
    schema_unref(l->schema);
    buf_release(&l->garbage);
    free(l->location);
}

static inline bool lake_item(struct lake *l, const struct stage_item *item) {
    struct err err = ERR_INIT;
    int failed = ice_stage_item(l->stage, item, &err);
    return EXPECT_EQ_STR(failed ? err.text : "", "");
}

/* ---- files that say they are sorted ---- */

static inline void lake_put_cell(char *out, size_t n, const struct lake_column *c, uint32_t row) {
    if (c->valid && !bit_get(c->valid, row)) {
        snprintf(out, n, "~");
        return;
    }
    int64_t v = 0;
    switch (c->type.kind) {
    case LAKE_INT: {
        int32_t narrow;
        memcpy(&narrow, c->data + row * 4, 4);
        snprintf(out, n, "%d", narrow);
        return;
    }
    case LAKE_LONG:
    case LAKE_TIMESTAMPTZ:
        memcpy(&v, c->data + row * 8, 8);
        snprintf(out, n, "%lld", (long long)v);
        return;
    case LAKE_BOOL:
        snprintf(out, n, "%s", c->data[row] ? "true" : "false");
        return;
    case LAKE_STRING:
        snprintf(out, n, "%.*s", (int)(c->offsets[row + 1] - c->offsets[row]),
                 c->data + c->offsets[row]);
        return;
    default:
        CHECK(!"a type that the tests have");
    }
}

/* Cells of one column as text, LAKE_TEXT each; *number: they are. */
static inline char *lake_texts(struct parquet_reader *r, const char *name, bool *number) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    int at = parquet_reader_find(r, 0, name);
    CHECK(at >= 0);
    uint64_t rows = parquet_reader_rows(r);
    char *out = xcalloc(rows + 1, LAKE_TEXT);
    int failed = parquet_cursor_open(r, (uint32_t)at, &c, &err);
    *number = parquet_reader_field(r, (uint32_t)at)->type.kind != LAKE_STRING;
    for (uint64_t row = 0; !failed && row < rows;) {
        struct lake_column piece;
        failed = parquet_cursor_next(c, 1000, &piece, &err);
        for (uint32_t i = 0; !failed && i < piece.rows; i++) {
            lake_put_cell(out + LAKE_TEXT * row++, LAKE_TEXT, &piece, i);
        }
    }
    CHECK(!failed);
    parquet_cursor_close(c);
    return out;
}

/* Negative where a comes before b, by one column of sort=. */
static inline int lake_place(const char *a, const char *b, bool number, bool descending,
                             bool nulls_last) {
    bool null_a = strcmp(a, "~") == 0, null_b = strcmp(b, "~") == 0;
    if (null_a || null_b) {
        int first = (int)null_b - (int)null_a;
        return nulls_last ? -first : first;
    }
    int64_t x = atoll(a), y = atoll(b);
    int order = number ? (x > y) - (x < y) : strcmp(a, b);
    return descending ? -order : order;
}

/* Each row of the file is at its place, by config.sort, whose words are names with desc, asc, nulls
 * first and nulls last behind them. */
static inline bool lake_is_sorted(struct lake *l, const char *path) {
    struct err err = ERR_INIT;
    struct ice_parquet p;
    int failed = ice_parquet_open(&p, l->store, path, &err);
    CHECK(!failed);
    uint64_t rows = parquet_reader_rows(p.reader);
    uint8_t *later =
        xcalloc(rows + 1, 1); /* a column before says that the row is behind the last */
    char *words = xstrdup(l->config.sort), *rest = words;
    bool held = true;
    for (char *word; held && (word = strsep(&rest, ",")) != NULL;) {
        bool descending = strstr(word, " desc") != NULL, number;
        bool last = strstr(word, "nulls last") || (descending && !strstr(word, "nulls first"));
        char *name = xstrndup(word, strcspn(word, " "));
        char *texts = lake_texts(p.reader, name, &number);
        for (uint64_t r = 1; held && r < rows; r++) {
            int place = lake_place(texts + LAKE_TEXT * (r - 1), texts + LAKE_TEXT * r, number,
                                   descending, last);
            held = later[r] || place <= 0;
            later[r] = later[r] || place < 0;
        }
        free(texts);
        free(name);
    }
    free(words);
    free(later);
    ice_parquet_close(&p);
    return EXPECT_TRUE(held);
}

/* Files of a seal: those that are marked are sorted. */
static inline bool lake_look_at_files(struct lake *l, const struct ice_part_table *part) {
    bool held = true;
    for (uint32_t i = 0; held && i < part->added_count; i++) {
        bool marked = part->added[i].sort_order_id >= 0;
        l->sorted += marked;
        l->unsorted += !marked;
        held = !marked || lake_is_sorted(l, part->added[i].path);
    }
    return held;
}

/* Seals; `lost`: the commit does not come about. */
static inline bool lake_seal(struct lake *l, bool lost) {
    struct err err = ERR_INIT;
    struct ice_part *part = xcalloc(1, sizeof *part);
    struct store_folders folders = { 0 };
    struct buf made;
    buf_init(&made, SIZE_MAX);
    part->store = l->store;
    part->tables = xcalloc(1, sizeof *part->tables);
    if (ice_stage_seal(l->stage, &part->folders, &part->tables[0], &err)) {
        ice_part_free(part, true);
        return EXPECT_EQ_STR(err.text, "");
    }
    part->table_count = 1;
    if (!lake_look_at_files(l, &part->tables[0])) {
        ice_part_free(part, true);
        return false;
    }
    if (lost) {
        ice_part_free(part, true);
        return true;
    }
    struct ice_commit_context context = { .env = &l->env,
                                          .store = l->store,
                                          .job = "job",
                                          .epoch = 1,
                                          .seq = ++l->seq,
                                          .commit_id = "c",
                                          .format_version = l->config.format_version,
                                          .parquet = l->config.parquet,
                                          .history_ms = 3600 * 1000,
                                          .folders = &folders,
                                          .made = &made,
                                          .garbage = &l->garbage };
    enum commit_outcome outcome =
        ice_table_prepare(l->table, &context, &part->tables[0], true, &err);
    ice_table_settle(l->table, outcome == COMMITTED, "c");
    ice_part_free(part, outcome != COMMITTED);
    store_folders_release(&folders);
    buf_release(&made);
    buf_clear(&l->garbage);
    if (!EXPECT_EQ_STR(outcome == COMMIT_FAILED ? err.text : "", "") ||
        !EXPECT_EQ_INT(outcome, COMMITTED)) {
        return false;
    }
    free(l->location);
    l->location = xstrdup(l->table->location);
    memcpy(l->committed, l->now, sizeof l->now);
    return true;
}
static inline bool lake_commit(struct lake *l) { return lake_seal(l, false); }

/* ---- what the table holds ---- */

struct lake_line {
    char text[160];
    char path[240];
    uint64_t pos;
    int64_t id; /* of the first column */
};
struct lake_lines {
    struct lake_line *at;
    uint32_t count;
};

/* Adds the cells of one field to the lines from `first` on. */
static inline void lake_read_field(struct lake *l, struct parquet_reader *r,
                                   const struct ice_field *f, struct lake_line *lines,
                                   uint64_t rows) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    int at = parquet_reader_find(r, f->id, NULL);
    (void)l;
    int failed = at >= 0 ? parquet_cursor_open(r, (uint32_t)at, &c, &err) : 0;
    CHECK(!failed);
    for (uint64_t row = 0; row < rows;) {
        struct lake_column piece = { .rows = 1 };
        if (c) {
            failed = parquet_cursor_next(c, 1000, &piece, &err);
            CHECK(!failed && piece.rows > 0);
        }
        for (uint32_t i = 0; i < piece.rows; i++, row++) {
            char cell[64] = "~";
            if (c) {
                lake_put_cell(cell, sizeof cell, &piece, i);
            }
            size_t len = strlen(lines[row].text);
            if (strcmp(f->name, "id") == 0) {
                lines[row].id = atoll(cell);
            }
            snprintf(lines[row].text + len, sizeof lines[row].text - len, "%s|", cell);
        }
    }
    parquet_cursor_close(c);
}

static inline int lake_by_text(const void *a, const void *b) {
    return strcmp(((const struct lake_line *)a)->text, ((const struct lake_line *)b)->text);
}

/* All live rows, sorted. */
static inline void lake_read(struct lake *l, struct lake_lines *out) {
    struct err err = ERR_INIT;
    struct ice_table *t = lake_table(l);
    const struct ice_snapshot *now =
        ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id);
    const struct ice_schema *schema =
        ice_metadata_schema(&t->metadata, t->metadata.current_schema_id);
    struct ice_live live;
    *out = (struct lake_lines){ 0 };
    ice_live_init(&live);
    int failed = ice_live_load(&live, l->store, &t->metadata, now, &err);
    CHECK(!failed);
    void *value;
    for (size_t at = 0; map_next(live.files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *f = value;
        struct ice_bitmap *dead = ice_bitmap_new();
        struct ice_parquet p;
        failed = ice_live_dead_rows(&live, l->store, f, dead, &err) ||
                 ice_parquet_open(&p, l->store, f->path, &err);
        CHECK(!failed);
        struct lake_line *lines = xcalloc(f->rows + 1, sizeof *lines);
        for (uint32_t i = 0; i < schema->field_count; i++) {
            lake_read_field(l, p.reader, &schema->fields[i], lines, f->rows);
        }
        out->at = xrealloc(out->at, (out->count + f->rows + 1) * sizeof *out->at);
        for (uint64_t r = 0; r < f->rows; r++) {
            if (!ice_bitmap_has(dead, r)) {
                lines[r].pos = r;
                snprintf(lines[r].path, sizeof lines[r].path, "%s", f->path);
                out->at[out->count++] = lines[r];
            }
        }
        free(lines);
        ice_parquet_close(&p);
        ice_bitmap_free(dead);
    }
    if (out->count) {
        qsort(out->at, out->count, sizeof *out->at, lake_by_text);
    }
    ice_live_release(&live);
    ice_table_free(t);
}

/* The model's rows as the table's present schema has them, sorted. */
static inline void lake_expected(struct lake *l, struct lake_lines *out) {
    struct ice_table *t = lake_table(l);
    const struct ice_schema *schema =
        ice_metadata_schema(&t->metadata, t->metadata.current_schema_id);
    out->at = xcalloc(LAKE_KEYS, sizeof *out->at);
    out->count = 0;
    for (uint32_t k = 0; k < LAKE_KEYS; k++) {
        if (!l->committed[k].live) {
            continue;
        }
        struct lake_line *line = &out->at[out->count++];
        line->id = l->committed[k].id;
        for (uint32_t i = 0; i < schema->field_count; i++) {
            size_t len = strlen(line->text);
            char *to = line->text + len;
            size_t room = sizeof line->text - len;
            if (strcmp(schema->fields[i].name, "id") == 0) {
                snprintf(to, room, "%lld|", (long long)line->id);
                continue;
            }
            for (int c = 0; c < LAKE_CELLS; c++) {
                if (strcmp(schema->fields[i].name, LAKE_NAMES[c]) == 0) {
                    snprintf(to, room, "%s|", l->committed[k].cells[c]);
                }
            }
        }
    }
    qsort(out->at, out->count, sizeof *out->at, lake_by_text);
    ice_table_free(t);
}

/* The table is the model. */
static inline bool lake_check(struct lake *l) {
    struct lake_lines got, want;
    bool same = true;
    lake_read(l, &got);
    lake_expected(l, &want);
    for (uint32_t i = 0; same && i < got.count && i < want.count; i++) {
        same = EXPECT_EQ_STR(got.at[i].text, want.at[i].text);
    }
    same = same && EXPECT_EQ_INT(got.count, want.count);
    free(got.at);
    free(want.at);
    return same;
}

/* ---- the index against the table ---- */

/* Where the stage's index says that key lives. */
static inline uint64_t lake_find(struct lake *l, int64_t id) {
    struct ice_stage *st = l->stage;
    struct err err = ERR_INIT;
    struct batch *b = batch_new(st->source, 1, NULL);
    struct buf key;
    uint64_t loc;
    for (uint16_t c = 0; c < st->source->column_count; c++) {
        if (strcmp(st->source->columns[c].name, "id") == 0) {
            put_i64(b, c, id);
        } else {
            batch_put_null(b, c);
        }
    }
    batch_row_done(b, ROW_INSERT, 0, 0);
    batch_seal(b);
    buf_init(&key, SIZE_MAX);
    uint32_t row = 0;
    int failed = ice_stage_convert_keys(st, b, &row, 1, &err);
    CHECK(!failed);
    ice_key_put(&key, st->key_columns, st->key_forms, st->key_count, 0);
    uint64_t hash = ice_key_hash(key.data, key.len, st->hash_mask);
    failed = key_index_find(st->index, &hash, 1, &loc, &err);
    if (!failed && loc == KEY_LOC_ASK) {
        failed = key_index_find_key(st->index, hash, key.data, key.len, &loc, &err);
    } else if (!failed && loc != KEY_LOC_NONE) { /* perhaps another key's */
        struct buf there;
        buf_init(&there, SIZE_MAX);
        failed = ice_stage_read_key(st, loc, &there, &err);
        if (!failed && (there.len != key.len || memcmp(there.data, key.data, key.len) != 0)) {
            loc = KEY_LOC_NONE;
        }
        buf_release(&there);
    }
    EXPECT_EQ_STR(failed ? err.text : "", "");
    buf_release(&key);
    batch_unref(b);
    return failed ? KEY_LOC_NONE : loc;
}

/* The index knows exactly the table's rows. Only when all that was staged is committed. */
static inline bool lake_check_index(struct lake *l) {
    struct lake_lines rows;
    bool same = true;
    lake_read(l, &rows);
    for (uint32_t k = 0; same && k < LAKE_KEYS; k++) {
        const struct lake_line *line = NULL;
        for (uint32_t i = 0; i < rows.count && !line; i++) {
            line = rows.at[i].id == l->now[k].id && l->now[k].live ? &rows.at[i] : NULL;
        }
        uint64_t loc = lake_find(l, l->now[k].id);
        if (!line) {
            same = EXPECT_EQ_U64(loc, KEY_LOC_NONE);
        } else if ((same = EXPECT_TRUE(loc != KEY_LOC_NONE))) {
            same = EXPECT_EQ_STR(key_index_path(l->stage->index, KEY_LOC_FILE(loc)), line->path) &&
                   EXPECT_EQ_U64(KEY_LOC_POS(loc), line->pos);
        }
    }
    free(rows.at);
    return same;
}
