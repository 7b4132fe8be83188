/* The iceberg sink: the commit side. A commit writes every changed table's next snapshot beside
 * what there is, syncs it, and makes all of it visible with the position in one transaction of the
 * embedded catalog.
 *
 *   recover  open catalog.db -> claim: epoch + 1 -> position of before; version hints written again
 *   commit   snapshots of all tables (ice_prepare.c) -> folders synced -> one SQLite transaction:
 * epoch still ours? position still `from`? every table still where it was? -> hints, garbage
 *   unknown  an error at COMMIT itself: the catalog is opened again, and the job's row says what
 * became of it
 *
 * Why an older instance cannot commit: its epoch is not the row's. Why a foreign commit is not
 * overwritten: a table's row must still name the metadata that the commit was made upon, else
 * COMMIT_CONFLICT, and the job begins again from the last commit. Threads: as cdc/sink.h says;
 * writers are ice_writer.c's. Never deletes a file that a commit of unknown outcome names, nor one
 * that any snapshot left names. */
#include "sinks/iceberg/iceberg.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/escape.h"
#include "cdc/base/map.h"
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_table.h"
#include "sinks/iceberg/ice_writer.h"

enum { WRITERS = 2, BUSY_PAUSE_US = 20 * 1000, BUSY_TRIES = 500 };

static const struct opt_spec iceberg_opts[] = {
    { .key = "freshness",
      .type = OPT_DURATION,
      .fallback = "10s",
      .min = 1000 * 1000,
      .max = INT64_C(3600) * 1000 * 1000,
      .doc = "time between two commits while rows arrive" },
    { .key = "format",
      .type = OPT_CHOICE,
      .fallback = "v2",
      .choices = "v2|v3",
      .doc = "Iceberg format of tables that are made: v2 is read by every engine, v3 has deletion "
             "vectors" },
    { .key = "partition",
      .type = OPT_TEXT,
      .doc = "partition of tables that are made, where they have the columns: "
             "day(created_at),bucket(16,id)" },
    { .key = "compression",
      .type = OPT_CHOICE,
      .fallback = "zstd",
      .choices = "zstd|snappy|lz4|none",
      .doc = "codec of data files" },
    { .key = "encoding",
      .type = OPT_CHOICE,
      .fallback = "modern",
      .choices = "modern|compatible",
      .doc = "compatible: dictionary and plain only, for readers older than 2025" },
    { .key = "history",
      .type = OPT_DURATION,
      .fallback = "1h",
      .min = 60 * 1000 * 1000,
      .max = INT64_C(365) * 24 * 3600 * 1000 * 1000,
      .doc = "how long snapshots stay readable; 2,000 of a table at most" },
    { .key = "text",
      .type = OPT_TEXT,
      .doc = "columns stored as strings whatever their type: a,public.t.b (for values that Iceberg "
             "has no form for)" },
    { .key = "columns",
      .type = OPT_TEXT,
      .doc =
          "columns besides the source's: op, ts, position (of the change that wrote the row), in "
          "any choice: op,ts" },
    { .key = "deletes",
      .type = OPT_CHOICE,
      .fallback = "hard",
      .choices = "hard|soft",
      .doc = "soft: a deleted row stays, with _tailrace_deleted true, until its key comes back" },
    { .key = "truncate",
      .type = OPT_CHOICE,
      .fallback = "apply",
      .choices = "apply|ignore",
      .doc = "ignore: rows that the source truncates stay until their keys come back" },
    { .key = "on_type_change",
      .type = OPT_CHOICE,
      .fallback = "stop",
      .choices = "stop|new_column",
      .doc = "when a column's type changes as Iceberg forbids: stop, or keep the old column under "
             "another name" },
    { .key = NULL },
};

struct iceberg {
    struct sink base;
    struct env *env;
    char *folder, *job;
    struct store *store;
    struct ice_catalog *catalog; /* NULL: closed, or its state is in doubt */
    uint64_t epoch;
    struct map *tables; /* label -> struct ice_table, as of the last commit */
    struct ice_writer_config writer;
    struct parquet_options parquet;
    int format_version;
    int64_t history_ms;
    char *text_columns; /* ",a,b," ; NULL */
    char *commit_id;    /* of the commit in doubt, or the last one */
    struct buf garbage; /* URLs to be removed once the commit stands */
};

static struct iceberg *iceberg_of(struct sink *s) {
    return (struct iceberg *)s; /* base is its first member */
}

static int bad_address(const char *why, struct err *err) {
    err_set(err, ERR_FATAL, "iceberg_address", "iceberg: %s", why);
    err_cure(err, "iceberg:///absolute/folder");
    return err_exit(err, EXIT_USAGE);
}

/* Named alone, or with its table. */
static bool is_text_column(void *arg, const char *table, const char *column) {
    const struct iceberg *x = arg;
    if (!x->text_columns) {
        return false;
    }
    char *alone = xasprintf(",%s,", column);
    char *full = xasprintf(",%s.%s,", table, column);
    bool found = strstr(x->text_columns, alone) || strstr(x->text_columns, full);
    free(full);
    free(alone);
    return found;
}

static enum parquet_codec codec_of(const char *name) {
    return strcmp(name, "zstd") == 0     ? PARQUET_ZSTD
           : strcmp(name, "snappy") == 0 ? PARQUET_SNAPPY
           : strcmp(name, "lz4") == 0    ? PARQUET_LZ4_RAW
                                         : PARQUET_NONE;
}

/* "op,ts,position" */
static int take_columns(const char *text, unsigned *extras, struct err *err) {
    static const struct {
        const char *name;
        enum ice_extra bit;
    } names[] = { { "op", ICE_EXTRA_OP },
                  { "ts", ICE_EXTRA_TS },
                  { "position", ICE_EXTRA_POSITION } };
    for (const char *at = text; at && *at;) {
        size_t len = strcspn(at, ",");
        unsigned bit = 0;
        for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
            if (strlen(names[i].name) == len && memcmp(names[i].name, at, len) == 0) {
                bit = names[i].bit;
            }
        }
        if (!bit) {
            err_set(err, ERR_FATAL, "option_value",
                    "iceberg: columns=%s: there is no such column as \"%.*s\"", text, (int)len, at);
            err_cure(err, "op, ts and position, with commas between them");
            return err_exit(err, EXIT_USAGE);
        }
        *extras |= bit;
        at += len + (at[len] == ',');
    }
    return 0;
}

static void take_options(struct iceberg *x, const struct opts *o) {
    const char *codec = opts_text(o, "compression");
    x->parquet = (struct parquet_options){
        .codec = codec_of(codec),
        .level = strcmp(codec, "zstd") == 0 ? 1 : 0,
        .profile =
            strcmp(opts_text(o, "encoding"), "modern") == 0 ? PARQUET_MODERN : PARQUET_COMPATIBLE,
    };
    x->format_version = strcmp(opts_text(o, "format"), "v3") == 0 ? 3 : 2;
    x->history_ms = opts_int(o, "history") / 1000;
    const char *text = opts_text(o, "text");
    x->text_columns = text ? xasprintf(",%s,", text) : NULL;
    uint64_t memory = x->env->memory_bytes;
    x->writer = (struct ice_writer_config){
        .env = x->env,
        .ops = &iceberg_ops,
        .folder = x->folder,
        .writers = WRITERS,
        .stage = { .env = x->env,
                   .store = x->store,
                   .job = x->job,
                   .index_bytes = memory / 8 / WRITERS,
                   .parquet = x->parquet,
                   .file_bytes = UINT64_C(512) << 20,
                   .open_bytes_max = memory / 4 / WRITERS,
                   .open_files_max = 64,
                   .rules = { .text = is_text_column,
                              .arg = x,
                              .new_column =
                                  strcmp(opts_text(o, "on_type_change"), "new_column") == 0 },
                   .soft_deletes = strcmp(opts_text(o, "deletes"), "soft") == 0,
                   .ignore_truncate = strcmp(opts_text(o, "truncate"), "ignore") == 0,
                   .partition = opts_text(o, "partition"),
                   .format_version = x->format_version },
    };
    if (x->writer.stage.soft_deletes) {
        x->writer.stage.rules.extras |= ICE_EXTRA_DELETED;
    }
    x->writer.stage.parquet.group_bytes = memory / 8 / WRITERS;
}

static int iceberg_open(const struct sink_address *addr, struct env *env, struct sink **out,
                        struct err *err) {
    if ((addr->hosts && *addr->hosts) || addr->user || addr->secret) {
        return bad_address("a folder has no host: write three slashes", err);
    }
    if (!addr->path || addr->path[0] != '/' || strspn(addr->path, "/") == strlen(addr->path)) {
        return bad_address("the warehouse is the absolute path of a folder", err);
    }
    if (strpbrk(addr->path, "#?%")) {
        return bad_address("readers take # ? % in a path for parts of a URL: choose another folder",
                           err);
    }
    unsigned extras = 0;
    if (take_columns(opts_text(addr->opts, "columns"), &extras, err)) {
        return -1;
    }
    struct iceberg *x = xcalloc(1, sizeof *x);
    x->base.ops = &iceberg_ops;
    x->env = env;
    size_t len = strlen(addr->path);
    while (len > 1 && addr->path[len - 1] == '/') {
        len--;
    }
    x->folder = xstrndup(addr->path, len);
    x->job = xstrdup(addr->job);
    x->store = store_of_folder(env->files, x->folder);
    x->tables = map_new();
    buf_init(&x->garbage, SIZE_MAX);
    take_options(x, addr->opts);
    x->writer.stage.put_logpos = addr->put_logpos;
    x->writer.stage.rules.extras |= extras;
    *out = &x->base;
    return 0;
}

static void table_free(void *t) { ice_table_free(t); }

static void iceberg_close(struct sink *s) {
    struct iceberg *x = iceberg_of(s);
    map_free(x->tables, table_free);
    ice_catalog_close(x->catalog);
    store_free(x->store);
    buf_release(&x->garbage);
    free(x->folder);
    free(x->job);
    free(x->text_columns);
    free(x->commit_id);
    free(x);
}

/* The array of schemas as the job's row has it. */
static int take_schemas(const char *json, struct sink_state *out, struct err *err) {
    json_error_t why;
    json_t *array = json ? json_loads(json, 0, &why) : NULL;
    if (!json) {
        return 0;
    }
    if (!json_is_array(array)) {
        json_decref(array);
        err_set(err, ERR_FATAL, "catalog_damaged",
                "catalog.db: the job's schemas are no JSON array");
        return err_cure(err, "bring catalog.db back from a backup");
    }
    size_t n = json_array_size(array);
    out->schemas = xcalloc(n + 1, sizeof(*out->schemas));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char *one = json_dumps(json_array_get(array, i), JSON_COMPACT | JSON_ENSURE_ASCII * 0);
        struct schema *schema = one ? schema_from_json(one, strlen(one), err) : NULL;
        free(one);
        if (!schema) {
            rc = -1;
        } else {
            out->schemas[out->schema_count++] = schema;
        }
    }
    json_decref(array);
    return rc;
}

static int state_of(const struct ice_job_row *row, struct sink_state *out, struct err *err) {
    *out = (struct sink_state){ .knows = !row->exists     ? TARGET_NOTHING
                                         : !row->position ? TARGET_CLAIM
                                                          : TARGET_POSITION,
                                .epoch = row->epoch,
                                .seq = row->seq };
    if (take_schemas(row->schemas, out, err)) {
        sink_state_release(out);
        return -1;
    }
    out->position = row->position ? xstrdup(row->position) : NULL;
    return 0;
}

static int iceberg_peek(struct sink *s, struct sink_state *out, struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct ice_catalog *catalog = NULL;
    *out = (struct sink_state){ .knows = TARGET_NOTHING };
    enum files_result opened = ice_catalog_open(x->env->files, x->folder, false, &catalog, err);
    if (opened != FILES_OK) {
        return opened == FILES_ABSENT ? 0 : -1;
    }
    struct ice_job_row row = { 0 };
    int rc = ice_catalog_job(catalog, x->job, &row, err);
    if (rc == 0) {
        rc = state_of(&row, out, err);
        ice_job_row_release(&row);
    }
    ice_catalog_close(catalog);
    return rc;
}

/* A warehouse that this user may not use is a finding, like a missing GRANT. What else fails says
 * what it is itself. */
static int iceberg_examine(struct sink *s, struct source_findings *out, struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct sink_state state = { 0 };
    int failed = iceberg_peek(s, &state, err);
    if (failed == 0) {
        sink_state_release(&state);
        failed = store_folder_may_write(x->env->files, x->folder, err);
    }
    if (failed) {
        if (strcmp(err->code, "file_error") != 0 || out->count == ARRAY_COUNT(out->at)) {
            return -1;
        }
        struct source_finding *f = &out->at[out->count++];
        *f = (struct source_finding){ .fatal = true };
        escape_append(f->what, sizeof f->what, err->text, strlen(err->text));
        escape_append(f->cure, sizeof f->cure, err->cure, strlen(err->cure));
        err_clear(err);
    }
    return 0;
}

/* What was known of tables is void: another instance, or an unfinished commit, may have changed
 * them. */
static void forget_tables(struct iceberg *x) {
    map_clear(x->tables, table_free);
    buf_clear(&x->garbage);
}

/* The warehouse's own name must last, too: its parent must sync; folders above that may be beyond
 * our rights. */
static int keep_folder(struct iceberg *x, struct err *err) {
    char *path = xstrdup(x->folder);
    int rc = 0;
    bool first = true;
    for (char *slash = strrchr(path, '/'); slash && rc == 0; slash = strrchr(path, '/')) {
        struct err ignored = ERR_INIT;
        slash[slash == path ? 1 : 0] = '\0';
        int failed = files_sync_dir(x->env->files, path, first ? err : &ignored);
        rc = first && failed ? -1 : 0;
        first = false;
        if (slash == path) {
            break;
        }
    }
    free(path);
    return rc;
}

static int reopen(struct iceberg *x, struct err *err) {
    ice_catalog_close(x->catalog);
    x->catalog = NULL;
    if (files_mkdirs(x->env->files, x->folder, 0750, err) == FILES_FAILED || keep_folder(x, err)) {
        return -1;
    }
    return ice_catalog_open(x->env->files, x->folder, true, &x->catalog, err) == FILES_OK ? 0 : -1;
}

/* For readers that open a table by its folder: the name of the present metadata file. A hint that
 * cannot be written is old, which costs such readers freshness and nothing else. */
static void write_hint(struct iceberg *x, const char *space, const char *name,
                       const char *location) {
    static const char ending[] = ".metadata.json";
    const char *file = strrchr(location, '/') ? strrchr(location, '/') + 1 : location;
    size_t len = strlen(file);
    if (len < sizeof ending || strcmp(file + len - (sizeof ending - 1), ending) != 0) {
        return; /* not ours: compressed metadata has no hint */
    }
    len -= sizeof ending - 1;
    struct err err = ERR_INIT;
    struct buf now;
    char *key = xasprintf("%s/%s/metadata/version-hint.text", space, name);
    buf_init(&now, 4096);
    enum files_result got = store_get(x->store, key, &now, &err);
    err_clear(&err);
    if ((got != FILES_OK || now.len != len || memcmp(now.data, file, len) != 0) &&
        store_replace(x->store, key, file, len, &err)) {
        log_warn(x->env->log, "commit", "hint_left", "%s", err.text);
    }
    buf_release(&now);
    free(key);
}

static void write_hint_again(void *arg, const char *space, const char *name, const char *location) {
    struct iceberg *x = arg;
    if (store_key_of(x->store, location)) {
        write_hint(x, space, name, location);
    }
}

static int iceberg_recover(struct sink *s, struct sink_state *out, struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct ice_job_row row = { 0 };
    forget_tables(x);
    if (reopen(x, err) || FAILPOINT(x->env->failpoints, "iceberg.before_claim", err) ||
        ice_catalog_claim(x->catalog, x->job, &row, err)) {
        return -1;
    }
    x->epoch = row.epoch;
    x->writer.stage.epoch = row.epoch;
    int rc = FAILPOINT(x->env->failpoints, "iceberg.after_claim", err) ||
                     ice_catalog_each(x->catalog, write_hint_again, x, err)
                 ? -1
                 : state_of(&row, out, err);
    if (rc == 0 && row.epoch == 1) {
        out->knows = TARGET_NOTHING; /* before the claim there was none of this job */
    }
    ice_job_row_release(&row);
    return rc;
}

static int iceberg_apply_schema(struct sink *s TR_UNUSED,
                                const struct commit_request *next TR_UNUSED,
                                struct err *err TR_UNUSED) {
    return 0; /* schemas travel with the parts, and become visible with the rows */
}

/* --- commit --- */

struct committing {
    struct iceberg *x;
    const struct commit_request *req;
    struct ice_commit_context context;
    struct store_folders folders;
    struct ice_catalog_change *changes;
    char **froms, **tos; /* owned */
    struct ice_table **changed;
    uint32_t count;
};

static bool is_inconsistent(const struct commit_request *req, const char *label) {
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        if (strcmp(req->inconsistent[i], label) == 0) {
            return true;
        }
    }
    return false;
}

static int table_of(struct iceberg *x, const char *label, const char *space, const char *name,
                    struct ice_table **out, struct err *err) {
    *out = map_get(x->tables, label, strlen(label));
    if (*out) {
        return 0;
    }
    if (ice_table_open(x->catalog, x->store, x->job, space, name, out, err)) {
        return -1;
    }
    map_set(x->tables, label, strlen(label), *out);
    return 0;
}

static enum commit_outcome prepare_table(struct committing *c, const char *label, const char *space,
                                         const char *name, struct ice_part_table *part,
                                         struct err *err) {
    struct ice_table *t = NULL;
    if (table_of(c->x, label, space, name, &t, err)) {
        return COMMIT_FAILED;
    }
    char *from = t->location ? xstrdup(t->location) : NULL;
    char *to = NULL;
    bool consistent = !is_inconsistent(c->req, label);
    enum commit_outcome outcome = ice_table_prepare(t, &c->context, part, consistent, &to, err);
    if (outcome != COMMITTED) {
        free(from);
        return outcome;
    }
    uint32_t n = c->count + 1;
    c->changes = xrealloc(c->changes, n * sizeof *c->changes);
    c->froms = xrealloc(c->froms, n * sizeof *c->froms);
    c->tos = xrealloc(c->tos, n * sizeof *c->tos);
    c->changed = xrealloc(c->changed, n * sizeof *c->changed);
    c->froms[c->count] = from;
    c->tos[c->count] = to;
    c->changed[c->count] = t;
    c->changes[c->count++] =
        (struct ice_catalog_change){ .space = t->space, .name = t->name, .from = from, .to = to };
    return COMMITTED;
}

/* Tables that had rows or changes, writer by writer. A table belongs to one writer. */
static enum commit_outcome prepare_parts(struct committing *c, struct err *err) {
    for (uint32_t i = 0; i < c->req->part_count; i++) {
        struct ice_part *part = (struct ice_part *)c->req->parts[i];
        if (!part) {
            continue;
        }
        store_folders_merge(&c->folders, &part->folders);
        for (uint32_t t = 0; t < part->table_count; t++) {
            struct ice_part_table *p = &part->tables[t];
            enum commit_outcome outcome = prepare_table(c, p->label, p->space, p->name, p, err);
            if (outcome != COMMITTED) {
                return outcome;
            }
        }
    }
    return COMMITTED;
}

static bool is_changed(const struct committing *c, const struct schema *schema) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (strcmp(c->changed[i]->space, schema->space) == 0 &&
            strcmp(c->changed[i]->name, schema->name) == 0) {
            return true;
        }
    }
    return false;
}

/* A part without rows, for a table that has none and does not exist yet. */
static int empty_part(struct iceberg *x, const struct schema *schema, struct ice_part_table *out,
                      struct err *err) {
    uint64_t random;
    rng_bytes(&random, sizeof random);
    *out = (struct ice_part_table){ .snapshot_id = (int64_t)(random >> 1 | 1), .schema_count = 1 };
    arena_init(&out->arena);
    out->schemas = xcalloc(1, sizeof *out->schemas);
    const char *partition = x->writer.stage.partition;
    if (ice_schema_first(&out->schemas[0], schema, &x->writer.stage.rules, &out->last_column_id,
                         err)) {
        free(out->schemas);
        out->schemas = NULL;
        return -1;
    }
    return ice_spec_parse(partition ? partition : "", &out->schemas[0], false, &out->spec, err);
}

static void empty_part_release(struct ice_part_table *p) {
    if (p->schemas) {
        ice_schema_release(&p->schemas[0]);
        free(p->schemas);
    }
    ice_spec_release(&p->spec);
    arena_release(&p->arena);
}

/* Tables of which only the state changed: consistent now, or not any more; or that are to exist,
 * empty. */
static enum commit_outcome prepare_others(struct committing *c, struct err *err) {
    for (uint32_t i = 0; i < c->req->schema_count; i++) {
        const struct schema *schema = c->req->schemas[i];
        struct ice_table *t = NULL;
        if (is_changed(c, schema)) {
            continue;
        }
        if (table_of(c->x, schema->label, schema->space, schema->name, &t, err)) {
            return COMMIT_FAILED;
        }
        bool consistent = !is_inconsistent(c->req, schema->label);
        if (t->location ? t->consistent == consistent : !consistent) {
            continue;
        }
        struct ice_part_table empty = { 0 };
        if (!t->location && empty_part(c->x, schema, &empty, err)) {
            empty_part_release(&empty);
            return COMMIT_FAILED;
        }
        enum commit_outcome outcome = prepare_table(c, schema->label, schema->space, schema->name,
                                                    t->location ? NULL : &empty, err);
        empty_part_release(&empty);
        if (outcome != COMMITTED) {
            return outcome;
        }
    }
    return COMMITTED;
}

static bool busy_wait(void *arg) {
    int *tries = arg;
    clock_sleep_until_us(clock_mono_us() + BUSY_PAUSE_US);
    return ++*tries > BUSY_TRIES;
}

static void put_schemas(struct buf *out, const struct commit_request *req) {
    buf_putc(out, '[');
    for (uint32_t i = 0; i < req->schema_count; i++) {
        if (i) {
            buf_putc(out, ',');
        }
        schema_put_json(out, req->schemas[i]);
    }
    buf_putc(out, ']');
}

static enum commit_outcome commit_catalog(struct committing *c, struct err *err) {
    const struct commit_request *req = c->req;
    struct buf schemas;
    uint32_t conflict = 0;
    int tries = 0;
    buf_init(&schemas, SIZE_MAX);
    put_schemas(&schemas, req);
    struct ice_catalog_commit commit = { .job = c->x->job,
                                         .epoch = req->epoch,
                                         .seq = req->seq,
                                         .from = req->from,
                                         .to = req->to,
                                         .schemas =
                                             req->schemas_changed ? buf_cstr(&schemas) : NULL,
                                         .commit_id = c->x->commit_id,
                                         .changes = c->changes,
                                         .change_count = c->count };
    enum commit_outcome outcome =
        ice_catalog_commit(c->x->catalog, &commit, &conflict, busy_wait, &tries, err);
    buf_release(&schemas);
    return outcome;
}

/* After the commit: what is left to do may fail without harm. */
static void tidy_up(struct committing *c) {
    struct iceberg *x = c->x;
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < c->count; i++) {
        write_hint(x, c->changes[i].space, c->changes[i].name, c->changes[i].to);
    }
    for (size_t at = 0; at < x->garbage.len; at += strlen(x->garbage.data + at) + 1) {
        const char *key = store_key_of(x->store, x->garbage.data + at);
        if (key && store_remove(x->store, key, &err)) {
            log_warn(x->env->log, "commit", "garbage_left", "%s", err.text);
            err_clear(&err);
        }
    }
    buf_clear(&x->garbage);
}

static void committing_release(struct committing *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->froms[i]);
        free(c->tos[i]);
    }
    free(c->froms);
    free(c->tos);
    free(c->changes);
    free(c->changed);
    store_folders_release(&c->folders);
}

static enum commit_outcome fenced(struct iceberg *x, struct err *err) {
    err_set(err, ERR_FATAL, "fenced",
            "warehouse \"%s\": a newer instance of job \"%s\" has taken over", x->folder, x->job);
    err_cure(err, "nothing: the newer instance goes on; `tailrace status` shows it on its machine");
    err_exit(err, EXIT_FENCED);
    return COMMIT_FENCED;
}

static enum commit_outcome run_commit(struct committing *c, struct err *err) {
    struct iceberg *x = c->x;
    enum commit_outcome outcome = COMMITTED;
    if (!c->req->position_only) {
        outcome = prepare_parts(c, err);
        if (outcome == COMMITTED) {
            outcome = prepare_others(c, err);
        }
    }
    if (outcome == COMMITTED && (FAILPOINT(x->env->failpoints, "iceberg.before_settle", err) ||
                                 store_settle(x->store, &c->folders, err) ||
                                 FAILPOINT(x->env->failpoints, "iceberg.before_commit", err))) {
        outcome = COMMIT_FAILED;
    }
    if (outcome == COMMITTED) {
        outcome = commit_catalog(c, err);
    }
    if (outcome == COMMITTED && FAILPOINT(x->env->failpoints, "iceberg.after_commit", err)) {
        outcome = COMMIT_UNKNOWN;
    }
    return outcome;
}

static enum commit_outcome iceberg_commit(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct committing c = { .x = x, .req = req };
    free(x->commit_id);
    x->commit_id = xasprintf("%s-%" PRIu64 "-%" PRIu64, x->job, req->epoch, req->seq);
    c.context = (struct ice_commit_context){ .env = x->env,
                                             .store = x->store,
                                             .job = x->job,
                                             .epoch = req->epoch,
                                             .seq = req->seq,
                                             .commit_id = x->commit_id,
                                             .position = req->to,
                                             .format_version = x->format_version,
                                             .parquet = x->parquet,
                                             .history_ms = x->history_ms,
                                             .folders = &c.folders,
                                             .garbage = &x->garbage };
    enum commit_outcome outcome = run_commit(&c, err);
    if (outcome == COMMITTED) {
        tidy_up(&c);
    } else if (outcome == COMMIT_FENCED) {
        fenced(x, err);
    }
    if (outcome != COMMITTED) {
        forget_tables(x); /* they were changed in place */
    }
    if (outcome == COMMIT_FAILED && err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND; /* the parts' tables were taken apart */
    }
    committing_release(&c);
    return outcome;
}

static enum resolve_outcome iceberg_resolve(struct sink *s, const struct commit_request *req,
                                            struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct ice_job_row row = { 0 };
    if (reopen(x, err) || ice_catalog_job(x->catalog, x->job, &row, err)) {
        return RESOLVE_UNKNOWN;
    }
    enum resolve_outcome outcome = row.epoch == req->epoch && row.seq == req->seq
                                       ? RESOLVED_COMMITTED
                                       : RESOLVED_NOT_COMMITTED;
    bool newer = row.epoch > req->epoch;
    ice_job_row_release(&row);
    if (newer) {
        fenced(x, err);
        return RESOLVE_FAILED;
    }
    return outcome;
}

static int iceberg_summary(struct sink *s TR_UNUSED, struct buf *out TR_UNUSED,
                           struct err *err TR_UNUSED) {
    return 0;
}

static int writer_open(struct sink *s, uint32_t number, struct sink_writer **out, struct err *err) {
    return ice_writer_open(&iceberg_of(s)->writer, number, out, err);
}

const struct sink_ops iceberg_ops = {
    .name = "iceberg",
    .opts = iceberg_opts,
    .owns_position = true,
    .stages = true,
    .writers_max = WRITERS,
    .freshness_us = INT64_C(10) * 1000 * 1000,
    .snapshot_bytes = UINT64_C(1) << 30,
    .open = iceberg_open,
    .close = iceberg_close,
    .examine = iceberg_examine,
    .peek = iceberg_peek,
    .recover = iceberg_recover,
    .apply_schema = iceberg_apply_schema,
    .commit = iceberg_commit,
    .resolve = iceberg_resolve,
    .summary = iceberg_summary,
    .writer_open = writer_open,
    .writer_close = ice_writer_close,
    .writer_stage = ice_writer_stage,
    .writer_seal = ice_writer_seal,
    .part_free = ice_writer_part_free,
};
