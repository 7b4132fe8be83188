/* The lake read back. See lake.h; the foreign writer is lake_foreign.c's. */
#include "tests/sim/lake.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "sinks/iceberg/ice_default.h"
#include "sinks/iceberg/ice_live.h"
#include "sinks/iceberg/ice_object.h"
#include "tests/sim/lake_impl.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/sqldisk.h"

enum { ROWS_MAX = 512 };

/* A table as it was read back last. */
struct seen {
    char name[32];
    char *location;
    struct map *named; /* paths that its snapshots name */
};
/* Rows by key; of a keyless table one after the other. */
struct read_rows {
    bool keyless;
    unsigned times[DB_KEYS], count;
    struct event_row at[ROWS_MAX];
};
struct lake lake;
static struct seen seen[DB_TABLES];
static struct map *manifests; /* path of a list or manifest -> struct map of the paths in it */

static void unlinked(const char *path);

void lake_init(struct db *db, struct disk *disk) {
    lake = (struct lake){ .db = db, .disk = disk, .files = disk_files(disk, 0) };
    lake.store = store_of_folder(lake.files, SIM_LAKE_DIR);
    manifests = map_new();
    sqldisk_init(disk);
    disk_on_unlink(disk, unlinked);
}

/* ---- the catalog ---- */

sqlite3 *lake_open_catalog(void) {
    sqlite3 *db = NULL;
    if (!disk_look(lake.disk, SIM_LAKE_DIR "/catalog.db")) {
        return NULL;
    }
    int rc = sqlite3_open_v2(SIM_LAKE_DIR "/catalog.db", &db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

static char *text_at(sqlite3_stmt *s, int i) {
    const unsigned char *text = sqlite3_column_text(s, i);
    return text ? xstrdup((const char *)text) : NULL;
}

static bool read_catalog(sqlite3 *db, struct lake_state *out) {
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_prepare_v2(
            db, "SELECT epoch, seq, position, commit_id FROM tailrace_jobs WHERE job = 'sim'", -1,
            &s, NULL);
    }
    if (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        out->epoch = (uint64_t)sqlite3_column_int64(s, 0);
        out->seq = (uint64_t)sqlite3_column_int64(s, 1);
        out->position = text_at(s, 2);
        out->commit_id = text_at(s, 3);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_finalize(s);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_prepare_v2(db, "SELECT table_name, metadata_location FROM iceberg_tables", -1,
                                &s, NULL);
    }
    while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        CHECK(out->count < DB_TABLES);
        struct lake_name *n = &out->tables[out->count++];
        snprintf(n->name, sizeof n->name, "%s", (const char *)sqlite3_column_text(s, 0));
        n->location = text_at(s, 1);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_finalize(s);
    }
    return rc == SQLITE_OK;
}

bool lake_look(struct lake_state *out) {
    *out = (struct lake_state){ 0 };
    sqldisk_quiet(true);
    sqlite3 *db = lake_open_catalog();
    bool got = db && read_catalog(db, out);
    int problem = db ? sqlite3_errcode(db) : SQLITE_OK;
    sqlite3_close_v2(db);
    sqldisk_quiet(false);
    if (!got) {
        lake_state_release(out);
        if (problem == SQLITE_CORRUPT || problem == SQLITE_NOTADB) {
            sim_fail("durable", "the catalog is damaged");
        }
    }
    return got;
}

void lake_state_release(struct lake_state *s) {
    for (unsigned i = 0; i < s->count; i++) {
        free(s->tables[i].location);
    }
    free(s->position);
    free(s->commit_id);
    *s = (struct lake_state){ 0 };
}

/* ---- what is named ---- */

static const char *path_of(const char *url) {
    if (strncmp(url, "file://", 7) != 0) {
        sim_fail("lake", "a file is called \"%s\"", url);
    }
    return url + 7;
}

static void name_one(struct map *named, const char *url) {
    const char *path = path_of(url);
    map_set(named, path, strlen(path), named);
}

static void name_all(struct map *named, const struct map *of) {
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(of, &at, &key, &len, NULL);) {
        map_set(named, key, len, named);
    }
}

static int name_entry(void *named, const struct ice_entry *e, struct err *err) {
    (void)err;
    if (e->status != ICE_DELETED) {
        name_one(named, e->file.path);
    }
    return 0;
}

static TR_NORETURN void unreadable(const char *what, const struct err *err) {
    sim_fail("durable", "%s cannot be read: %s", what, err->text);
}

static const struct map *in_manifest(const struct ice_metadata *m,
                                     const struct ice_manifest_file *f) {
    struct map *found = map_get(manifests, f->path, strlen(f->path));
    struct err err = ERR_INIT;
    if (!found) {
        struct arena arena;
        struct buf bytes;
        arena_init(&arena);
        buf_init(&bytes, SIZE_MAX);
        found = map_new();
        if (ice_object_get(lake.store, f->path, &bytes, &err) ||
            ice_manifest_read(bytes.data, bytes.len, f, ice_metadata_spec(m, f->spec_id), &arena,
                              name_entry, found, &err)) {
            unreadable(f->path, &err);
        }
        buf_release(&bytes);
        arena_release(&arena);
        map_set(manifests, f->path, strlen(f->path), found);
    }
    return found;
}

/* All that a manifest list leads to. */
static const struct map *in_list(const struct ice_metadata *m, const char *url) {
    struct map *found = map_get(manifests, url, strlen(url));
    struct err err = ERR_INIT;
    if (!found) {
        struct arena arena;
        struct buf bytes;
        struct ice_manifest_file *files;
        uint32_t count;
        arena_init(&arena);
        buf_init(&bytes, SIZE_MAX);
        found = map_new();
        if (ice_object_get(lake.store, url, &bytes, &err) ||
            ice_list_read(bytes.data, bytes.len, &arena, &files, &count, &err)) {
            unreadable(url, &err);
        }
        for (uint32_t i = 0; i < count; i++) {
            name_one(found, files[i].path);
            name_all(found, in_manifest(m, &files[i]));
        }
        buf_release(&bytes);
        arena_release(&arena);
        map_set(manifests, url, strlen(url), found);
    }
    return found;
}

static struct map *name_table(const struct ice_metadata *m, const char *location) {
    struct map *named = map_new();
    size_t i;
    json_t *entry;
    name_one(named, location);
    for (uint32_t s = 0; s < m->snapshot_count; s++) {
        name_one(named, m->snapshots[s].manifest_list);
        name_all(named, in_list(m, m->snapshots[s].manifest_list));
    }
    json_array_foreach(m->metadata_log, i, entry) {
        name_one(named, json_string_value(json_object_get(entry, "metadata-file")));
    }
    return named;
}

static void check_named(const struct seen *t, const struct map *named) {
    const void *key;
    size_t len;
    char path[400];
    for (size_t at = 0; map_next(named, &at, &key, &len, NULL);) {
        CHECK(len < sizeof path);
        memcpy(path, key, len);
        path[len] = '\0';
        bool known = t->named && map_get(t->named, key, len);
        if (!disk_look(lake.disk, path)) {
            sim_fail("durable", "%s names %s, which is not there", t->name, path);
        }
        if (!known && !disk_is_durable(lake.disk, path)) {
            sim_fail("durable", "%s names %s, which a power loss would take", t->name, path);
        }
    }
}

static void load_metadata(const char *location, struct ice_metadata *out) {
    struct err err = ERR_INIT;
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    if (ice_object_get(lake.store, location, &bytes, &err) ||
        ice_metadata_parse(bytes.data, bytes.len, out, &err)) {
        unreadable(location, &err);
    }
    buf_release(&bytes);
}

static struct seen *seen_of(const char *name) {
    unsigned i = 0;
    while (i < DB_TABLES && *seen[i].name && strcmp(seen[i].name, name) != 0) {
        i++;
    }
    CHECK(i < DB_TABLES);
    snprintf(seen[i].name, sizeof seen[i].name, "%s", name);
    return &seen[i];
}

/* The location before is the one that this metadata says it follows. */
static void check_log(const struct seen *t, const struct ice_metadata *m) {
    size_t i;
    json_t *entry;
    bool found = !t->location;
    json_array_foreach(m->metadata_log, i, entry) {
        const char *file = json_string_value(json_object_get(entry, "metadata-file"));
        found = found || (file && strcmp(file, t->location) == 0);
    }
    if (!found) {
        sim_fail("foreign", "%s does not follow %s any more", t->name, t->location);
    }
}

/* The table is what its metadata says from now on. */
static void follow(struct seen *t, const struct lake_name *n, const struct ice_metadata *m) {
    struct map *named = name_table(m, n->location);
    check_log(t, m);
    check_named(t, named);
    map_free(t->named, NULL);
    free(t->location);
    t->named = named;
    t->location = xstrdup(n->location);
}

void lake_follow(const char *name, const char *location) {
    struct lake_name n = { .location = (char *)(uintptr_t)location };
    struct ice_metadata m;
    load_metadata(location, &m);
    follow(seen_of(name), &n, &m);
    ice_metadata_release(&m);
}

/* Before a name goes. */
static void unlinked(const char *path) {
    struct lake_state now;
    struct seen *t = seen;
    while (t < seen + DB_TABLES && !(t->named && map_get(t->named, path, strlen(path)))) {
        t++;
    }
    if (t == seen + DB_TABLES || !lake_look(&now)) {
        return;
    }
    for (unsigned i = 0; i < now.count; i++) {
        if (strcmp(now.tables[i].name, t->name) == 0 &&
            strcmp(now.tables[i].location, t->location) != 0) {
            struct ice_metadata m;
            load_metadata(now.tables[i].location, &m);
            follow(t, &now.tables[i], &m);
            ice_metadata_release(&m);
        }
    }
    if (map_get(t->named, path, strlen(path))) {
        sim_fail("garbage", "%s still names %s, which is removed", t->name, path);
    }
    lake_state_release(&now);
}

/* ---- rows ---- */

static void put_cell(struct event_row *row, unsigned c, const struct lake_column *col, uint32_t i) {
    if (col->valid && !bit_get(col->valid, i)) {
        row->state[c] = EVENT_NULL;
        return;
    }
    row->state[c] = EVENT_VALUE;
    if (col->width == 0) {
        row->v[c] = event_number((const char *)col->data + col->offsets[i],
                                 col->offsets[i + 1] - col->offsets[i]);
    } else {
        CHECK(col->width == sizeof row->v[c]);
        memcpy(&row->v[c], col->data + (size_t)i * col->width, sizeof row->v[c]);
    }
}

/* ... where the file has none. */
static int fill_field(const struct ice_field *f, unsigned c, struct event_row *rows, uint64_t count,
                      struct err *err) {
    struct ice_default d;
    if (ice_default_init(&d, f, err)) {
        return -1;
    }
    for (uint64_t i = 0; d.there && i < count; i++) {
        put_cell(&rows[i], c, &d.column, 0);
    }
    ice_default_release(&d);
    return 0;
}

/* A field's cells of the whole file. */
static int read_field(struct parquet_reader *r, const struct ice_field *f, struct event_row *rows,
                      struct err *err) {
    int at = parquet_reader_find(r, f->id, NULL);
    unsigned c = event_column(f->name);
    struct parquet_cursor *cursor = NULL;
    struct lake_column piece;
    if (at < 0) {
        return fill_field(f, c, rows, parquet_reader_rows(r), err); /* older than the column */
    }
    if (parquet_cursor_open(r, (uint32_t)at, &cursor, err)) {
        return -1;
    }
    int rc = 0;
    uint64_t row = 0;
    while ((rc = parquet_cursor_next(cursor, 1024, &piece, err)) == 0 && piece.rows) {
        for (uint32_t i = 0; i < piece.rows; i++) {
            put_cell(&rows[row + i], c, &piece, i);
        }
        row += piece.rows;
    }
    parquet_cursor_close(cursor);
    if (rc == 0 && row != parquet_reader_rows(r)) {
        sim_fail("lake", "column \"%s\" has %llu rows of %llu", f->name, (unsigned long long)row,
                 (unsigned long long)parquet_reader_rows(r));
    }
    return rc;
}

static void add_row(struct read_rows *out, const struct event_row *row, const char *file) {
    unsigned at = out->count++;
    if (!out->keyless) {
        if (row->state[0] != EVENT_VALUE || (unsigned)row->v[0] >= DB_KEYS) {
            sim_fail("lake", "a row of %s has no key", file);
        }
        at = (unsigned)row->v[0];
        out->times[at]++;
    }
    CHECK(at < ROWS_MAX);
    out->at[at] = *row;
}

static int read_data_file(const struct ice_live *live, const struct ice_live_file *f,
                          const struct ice_schema *schema, struct read_rows *out, struct err *err) {
    struct ice_parquet p;
    struct ice_bitmap *dead = ice_bitmap_new();
    if (ice_live_dead_rows(live, lake.store, f, dead, err) ||
        ice_parquet_open(&p, lake.store, f->path, err)) {
        return -1;
    }
    uint64_t count = parquet_reader_rows(p.reader);
    struct event_row *rows = xcalloc(count + 1, sizeof *rows);
    int rc = count == f->rows ? 0
                              : err_set(err, ERR_FATAL, "rows", "it has %llu rows, not %llu",
                                        (unsigned long long)count, (unsigned long long)f->rows);
    for (uint32_t i = 0; rc == 0 && i < schema->field_count; i++) {
        rc = read_field(p.reader, &schema->fields[i], rows, err);
    }
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        if (!ice_bitmap_has(dead, i)) {
            add_row(out, &rows[i], f->path);
        }
    }
    free(rows);
    ice_bitmap_free(dead);
    ice_parquet_close(&p);
    return rc;
}

/* The first column that differs, or DB_COLUMNS. Of columns that the source dropped the lake has no
 * values any more. */
static unsigned differing(const struct event_row *want, const struct event_row *have,
                          const bool *has) {
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        bool value = want->state[c] == EVENT_VALUE;
        if (has[c] &&
            (value != (have->state[c] == EVENT_VALUE) || (value && want->v[c] != have->v[c]))) {
            return c;
        }
    }
    return DB_COLUMNS;
}

static void compare_keyed(const char *label, const struct read_rows *rows, const bool *has) {
    for (unsigned k = 0; k < lake.db->keys; k++) {
        struct event_row want;
        const struct event_row *have = &rows->at[k];
        bool there = oracle_row(label, k, &want);
        if (rows->times[k] != there) {
            sim_fail("lake", "%s key %u lives %u times, not %u", label, k, rows->times[k], there);
        }
        unsigned c = there ? differing(&want, have, has) : DB_COLUMNS;
        if (c < DB_COLUMNS) {
            sim_fail("lake", "%s key %u column %u: %d %d, not %d %d", label, k, c, have->state[c],
                     have->v[c], want.state[c], want.v[c]);
        }
    }
}

static void compare_bags(const char *label, const struct read_rows *rows, const bool *has) {
    const struct event_row *want;
    unsigned count = oracle_bag(label, &want), left = rows->count;
    bool used[ROWS_MAX] = { false };
    for (unsigned i = 0; i < count; i++) {
        unsigned k = 0;
        while (k < rows->count &&
               (used[k] || differing(&want[i], &rows->at[k], has) < DB_COLUMNS)) {
            k++;
        }
        if (k == rows->count) {
            sim_fail("lake", "%s lacks a row (%d %d)", label, want[i].v[0], want[i].v[1]);
        }
        used[k] = true;
        left--;
    }
    if (left) {
        sim_fail("lake", "%s has %u rows, not %u", label, rows->count, count);
    }
}

static bool is_keyless(const char *name) {
    bool keyless = false;
    for (unsigned i = 0; i < lake.db->table_count; i++) {
        keyless = keyless || (strcmp(lake.db->tables[i].name, name) == 0 &&
                              lake.db->tables[i].kind == DB_KEYLESS);
    }
    return keyless;
}

static void read_table(const char *name, const struct ice_metadata *m) {
    static struct read_rows rows;
    char label[48];
    bool has[DB_COLUMNS] = { false };
    const struct ice_snapshot *now = ice_metadata_snapshot(m, m->current_snapshot_id);
    const struct ice_schema *schema = ice_metadata_schema(m, m->current_schema_id);
    struct err err = ERR_INIT;
    struct ice_live live;
    void *f;
    rows = (struct read_rows){ .keyless = is_keyless(name) };
    ice_live_init(&live);
    int rc = ice_live_load(&live, lake.store, m, now, &err);
    for (size_t at = 0; rc == 0 && map_next(live.files, &at, NULL, NULL, &f);) {
        rc = read_data_file(&live, f, schema, &rows, &err);
    }
    if (rc) {
        unreadable(name, &err);
    }
    ice_live_release(&live);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        has[event_column(schema->fields[i].name)] = true;
    }
    snprintf(label, sizeof label, "public.%s", name);
    (rows.keyless ? compare_bags : compare_keyed)(label, &rows, has);
}

static bool is_said(const struct request *r, const char *name, bool *consistent) {
    bool listed = false;
    *consistent = true;
    for (uint32_t i = 0; i < r->schema_count; i++) {
        listed = listed || strcmp(r->schemas[i]->name, name) == 0;
    }
    for (uint32_t i = 0; i < r->label_count; i++) {
        *consistent = *consistent && strcmp(r->labels[i] + strlen("public."), name) != 0;
    }
    return listed;
}

/* What the snapshot says of itself, if it is one of this commit. */
static void check_summary(const struct request *r, const char *name, const char *commit_id,
                          const struct ice_metadata *m) {
    const struct ice_snapshot *now = ice_metadata_snapshot(m, m->current_snapshot_id);
    bool consistent, listed = is_said(r, name, &consistent);
    const char *id =
        now ? json_string_value(json_object_get(now->summary, "tailrace.commit")) : NULL;
    if (!id || strcmp(id, commit_id) != 0) {
        return;
    }
    const char *said = json_string_value(json_object_get(now->summary, "tailrace.consistent")),
               *position = json_string_value(json_object_get(now->summary, "tailrace.position"));
    if (listed && (!said || strcmp(said, consistent ? "true" : "false") != 0)) {
        sim_fail("lake", "%s says consistent=%s", name, said ? said : "nothing");
    }
    if (!position || strcmp(position, r->to) != 0) {
        sim_fail("lake", "%s says it is at %s", name, position ? position : "no position");
    }
}

void lake_verify(const struct request *r) {
    struct lake_state now;
    if (!lake_look(&now)) {
        return;
    }
    if (now.seq == r->seq && now.position && strcmp(now.position, r->to) == 0) {
        for (unsigned i = 0; i < now.count; i++) {
            struct seen *t = seen_of(now.tables[i].name);
            struct ice_metadata m;
            if (t->location && strcmp(t->location, now.tables[i].location) == 0) {
                continue;
            }
            load_metadata(now.tables[i].location, &m);
            follow(t, &now.tables[i], &m);
            read_table(t->name, &m);
            check_summary(r, t->name, now.commit_id, &m);
            ice_metadata_release(&m);
        }
    }
    lake_state_release(&now);
}
