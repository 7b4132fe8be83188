/* An instance of a job on a lake, called as the engine calls it, and what a stranger does to that
 * lake: reads its rows, looks which files it names, writes metadata of his own. For
 * u_ice_commit*.c.
 */
#pragma once
#include <dirent.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "sinks/iceberg/ice_expire.h"
#include "sinks/iceberg/iceberg_internal.h"
#include "tests/unit/u_ice_stage.h"
#include "tests/unit/u_sink_faulty.h"

/* As kit_text, without its limit: of these the last few hundred live. */
static inline const char *lake_text(const char *fmt, ...) {
    static char *ring[512];
    static size_t at;
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    at = (at + 1) % ARRAY_COUNT(ring);
    free(ring[at]);
    ring[at] = text;
    return text;
}

struct life {
    struct faulty files;
    struct log log;
    struct env env;
    struct opts *opts;
    struct sink *sink;
    struct sink_writer *writer;
    struct sink_state state;
    char *position;
    struct schema *schema;
    uint64_t seq;
    const char *dir; /* the lake */
    const char *inconsistent;
    bool told; /* this run's first commit is done */
    /* The commit at hand. */
    struct sink_part *part;
    char *to;
    struct commit_request req;
    bool doubtful;
};

static inline void life_init(struct life *x, const char *dir, const char *options) {
    static int lives;
    struct err err = ERR_INIT;
    *x = (struct life){ .files = { .base.ops = &faulty_ops, .kind = ERR_FATAL },
                        .log = { .fd = -1, .job = "job" },
                        .dir = dir };
    x->env = (struct env){ .log = &x->log,
                           .files = &x->files.base,
                           .memory_bytes = 64 << 20,
                           .state_dir = lake_text("%s.state%d", dir, lives++) };
    x->opts = opts_new(iceberg_ops.opts);
    char *all = xstrdup(options);
    char *rest = all;
    for (char *one; (one = strsep(&rest, ";")) != NULL && *one;) {
        char *key = strsep(&one, "=");
        CHECK(one && opts_set(x->opts, key, one, &err) == 0);
    }
    free(all);
    struct sink_address addr = { .scheme = "iceberg",
                                 .path = dir,
                                 .job = "job",
                                 .opts = x->opts,
                                 .put_logpos = rows_put_logpos };
    int failed = iceberg_ops.open(&addr, &x->env, &x->sink, &err);
    CHECK(!failed);
    x->schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
}

static inline void life_drop_part(struct life *x, bool keep) {
    if (x->part) {
        iceberg_ops.part_free(x->part, keep || x->doubtful);
    }
    x->part = NULL;
    x->doubtful = false;
    free(x->to);
    x->to = NULL;
}

static inline void life_end_run(struct life *x) {
    life_drop_part(x, false);
    if (x->writer) {
        iceberg_ops.writer_close(x->writer);
        x->writer = NULL;
    }
    sink_state_release(&x->state);
    free(x->position);
    x->position = NULL;
}

static inline void life_release(struct life *x) {
    life_end_run(x);
    iceberg_ops.close(x->sink);
    opts_free(x->opts);
    schema_unref(x->schema);
}

static inline int life_start(struct life *x, struct err *err) {
    life_end_run(x);
    if (iceberg_ops.recover(x->sink, &x->state, err) ||
        iceberg_ops.writer_open(x->sink, 0, &x->writer, err)) {
        return -1;
    }
    x->seq = x->state.seq + 1;
    x->position = x->state.position ? xstrdup(x->state.position) : NULL;
    x->told = false;
    return 0;
}

/* Changes: "+1 -2 =3" insert, delete, update of a key, each a transaction; "!" a new generation. */
static inline int life_stage(struct life *x, const char *changes, struct err *err) {
    struct txlist *txs = rows_txs(100);
    struct batch *b = NULL;
    uint32_t n = 0;
    int rc = 0;
    for (const char *p = changes; *p && rc == 0; p += strcspn(p, " "), p += *p == ' ') {
        if (*p == '!') {
            struct stage_item item = { .kind = STAGE_GENERATION,
                                       .schema = x->schema,
                                       .generation = 2 };
            rc = iceberg_ops.writer_stage(x->writer, &item, err);
            continue;
        }
        b = b ? b : batch_new(x->schema, 100, txs);
        b->generation = 1;
        enum row_kind kind = *p == '+' ? ROW_INSERT : *p == '-' ? ROW_DELETE : ROW_UPDATE_AFTER;
        rows_add(b, kind, n, 0, atoll(p + 1), *p == '=' ? "new" : "old");
        n++;
    }
    if (b) {
        batch_seal(b);
        struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
        rc = rc ? rc : iceberg_ops.writer_stage(x->writer, &item, err);
        batch_unref(b);
    }
    txlist_unref(txs);
    return rc;
}

/* A request of what is staged, with position {"at":at}. */
static inline int life_request(struct life *x, int at, struct err *err) {
    x->to = xasprintf("{\"at\":%d}", at);
    if (iceberg_ops.writer_seal(x->writer, x->seq, &x->part, err)) {
        return -1;
    }
    x->req = (struct commit_request){ .epoch = x->state.epoch,
                                      .seq = x->seq++,
                                      .from = x->position,
                                      .to = x->to,
                                      .parts = &x->part,
                                      .part_count = 1,
                                      .inconsistent = &x->inconsistent,
                                      .inconsistent_count = x->inconsistent ? 1 : 0,
                                      .schemas = &x->schema,
                                      .schema_count = 1,
                                      .schemas_changed = !x->told };
    return 0;
}

static inline enum commit_outcome life_try(struct life *x, struct err *err) {
    enum commit_outcome outcome = iceberg_ops.commit(x->sink, &x->req, err);
    x->doubtful = x->doubtful || outcome == COMMIT_UNKNOWN;
    if (outcome == COMMIT_UNKNOWN) {
        err_clear(err);
        enum resolve_outcome resolved = iceberg_ops.resolve(x->sink, &x->req, err);
        outcome = resolved == RESOLVED_COMMITTED ? COMMITTED : COMMIT_UNKNOWN;
    }
    if (outcome == COMMITTED) {
        free(x->position);
        x->position = xstrdup(x->to);
        life_drop_part(x, true);
        x->told = true;
    }
    return outcome;
}

static inline enum commit_outcome life_commit(struct life *x, int at, const char *changes,
                                              struct err *err) {
    if (life_stage(x, changes, err) || life_request(x, at, err)) {
        life_drop_part(x, false);
        return COMMIT_FAILED;
    }
    return life_try(x, err);
}

/* Commits that must come about. */
static inline bool life_do(struct life *x, int at, const char *changes) {
    struct err err = ERR_INIT;
    enum commit_outcome outcome = life_commit(x, at, changes, &err);
    return EXPECT_EQ_STR(outcome == COMMIT_FAILED ? err.text : "", "") &&
           EXPECT_EQ_INT(outcome, COMMITTED);
}

static inline bool life_begin(struct life *x, const char *dir, const char *options) {
    struct err err = ERR_INIT;
    life_init(x, dir, options);
    int failed = life_start(x, &err);
    return EXPECT_EQ_STR(failed ? err.text : "", "");
}

/* ---- the stranger ---- */

/* First column of the first row; NULL = none. Lives until the test ends. */
static inline const char *lake_ask(const char *dir, const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *s = NULL;
    const char *text = NULL;
    int rc = sqlite3_open(lake_text("%s/catalog.db", dir), &db);
    CHECK(rc == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
    if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_text(s, 0)) {
        text = lake_text("%s", (const char *)sqlite3_column_text(s, 0));
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return text;
}
static inline const char *lake_location(const char *dir) {
    return lake_ask(dir, "SELECT metadata_location FROM iceberg_tables WHERE table_name = 't'");
}
static inline const char *lake_path(const char *url) { return strchr(url + 5, '/') + 2; }

static inline json_t *lake_metadata(const char *dir) {
    json_t *m = json_load_file(lake_path(lake_location(dir)), 0, NULL);
    CHECK(m);
    return m;
}

/* Metadata of another writer takes the place of the present. */
static inline void lake_put_metadata(const char *dir, json_t *m) {
    static int number;
    json_array_append_new(json_object_get(m, "metadata-log"),
                          json_pack("{s:O,s:s}", "timestamp-ms",
                                    json_object_get(m, "last-updated-ms"), "metadata-file",
                                    lake_location(dir)));
    const char *url =
        lake_text("file://%s/public/t/metadata/foreign-%d.metadata.json", dir, number++);
    int failed = json_dump_file(m, lake_path(url), 0);
    CHECK(!failed);
    json_decref(m);
    lake_ask(dir, lake_text("UPDATE iceberg_tables SET metadata_location = '%s'", url));
}

struct stranger {
    struct lake lake;
    struct map *named; /* paths that any retained snapshot, or the metadata's log, names */
    struct ice_metadata m;
    uint32_t missing, manifests, snapshots;
};

static inline void stranger_names(struct stranger *s, const char *url) {
    struct stat st;
    const char *path = lake_path(url);
    map_set(s->named, path, strlen(path), s);
    if (stat(path, &st) != 0) {
        fprintf(stderr, "# missing: %s\n", path);
        s->missing++;
    }
}

static inline void stranger_reads(struct stranger *s, const struct ice_snapshot *snapshot) {
    struct err err = ERR_INIT;
    struct ice_live live;
    void *value;
    ice_live_init(&live);
    stranger_names(s, snapshot->manifest_list);
    if (ice_live_load(&live, s->lake.store, &s->m, snapshot, &err)) {
        fprintf(stderr, "# %s\n", err.text);
        s->missing++;
    }
    for (uint32_t i = 0; i < live.manifest_count; i++) {
        stranger_names(s, live.manifests[i].path);
    }
    for (size_t at = 0; map_next(live.files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *f = value;
        stranger_names(s, f->path);
        if (f->dead) {
            stranger_names(s, f->dead->entry.file.path);
        }
    }
    s->manifests = live.manifest_count;
    ice_live_release(&live);
}

static inline void stranger_open(struct stranger *s, const char *dir) {
    struct err err = ERR_INIT;
    struct buf bytes;
    memset(s, 0, sizeof *s);
    s->named = map_new();
    s->lake.env.files = files_os();
    s->lake.store = store_of_folder(files_os(), dir);
    s->lake.location = xstrdup(lake_location(dir));
    buf_init(&bytes, SIZE_MAX);
    int failed = ice_object_get(s->lake.store, s->lake.location, &bytes, &err) ||
                 ice_metadata_parse(bytes.data, bytes.len, &s->m, &err);
    CHECK(!failed);
    buf_release(&bytes);
    stranger_names(s, s->lake.location);
    for (size_t i = 0; i < json_array_size(s->m.metadata_log); i++) {
        stranger_names(s, json_string_value(json_object_get(json_array_get(s->m.metadata_log, i),
                                                            "metadata-file")));
    }
    for (uint32_t i = 0; i < s->m.snapshot_count; i++) {
        stranger_reads(s, &s->m.snapshots[i]);
    }
    s->snapshots = s->m.snapshot_count;
}

static inline void stranger_close(struct stranger *s) {
    ice_metadata_release(&s->m);
    store_free(s->lake.store);
    free(s->lake.location);
    map_free(s->named, NULL);
}

static inline uint32_t count_unnamed(const struct stranger *s, const char *folder) {
    uint32_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "version-hint.text") == 0) {
            continue;
        }
        char *path = xasprintf("%s/%s", folder, e->d_name);
        if (e->d_type == DT_DIR) {
            n += count_unnamed(s, path);
        } else if (!map_get(s->named, path, strlen(path))) {
            n++;
        }
        free(path);
    }
    closedir(d);
    return n;
}

/* Live rows "1old 2new ", by text; every file that a retained snapshot names is there. */
static inline const char *lake_rows(const char *dir) {
    if (!lake_location(dir)) {
        return "";
    }
    struct stranger s;
    struct lake_lines rows;
    struct buf text;
    stranger_open(&s, dir);
    EXPECT_EQ_INT(s.missing, 0);
    lake_read(&s.lake, &rows);
    buf_init(&text, SIZE_MAX);
    for (uint32_t i = 0; i < rows.count; i++) {
        buf_putf(&text, "%.*s%.3s ", (int)strcspn(rows.at[i].text, "|"), rows.at[i].text,
                 strchr(rows.at[i].text, '|') + 1);
    }
    free(rows.at);
    stranger_close(&s);
    const char *copy = lake_text("%s", buf_cstr(&text));
    buf_release(&text);
    return copy;
}

/* Files on disk that nothing names. */
static inline uint32_t lake_orphans(const char *dir) {
    struct stranger s;
    stranger_open(&s, dir);
    uint32_t n = count_unnamed(&s, lake_text("%s/public/t", dir));
    stranger_close(&s);
    return n;
}
static inline const char *lake_position(const char *dir) {
    return lake_ask(dir, "SELECT position FROM tailrace_jobs WHERE job = 'job'");
}
