/* The iceberg sink's door: its options, what it finds in a warehouse, and which file does the rest.
 * Writers are ice_writer.c's, recover, commit and resolve ice_commit.c's. Threads: as cdc/sink.h
 * says. Never writes anything itself. */
#include "sinks/iceberg/iceberg.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"
#include "sinks/iceberg/ice_plan.h"
#include "sinks/iceberg/iceberg_internal.h"
#include "sinks/parquet/parquet_choice.h"

/* Parsed metadata is about ten times its file's bytes. */
enum {
    WRITERS = 2,
    METADATA_SHARE = 10 * 16,
    OPEN_FILE_BYTES = 2 << 20,
    OPEN_FILES_MIN = 4,
    OPEN_FILES_MAX = 256,
};

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
    { .key = "sort",
      .type = OPT_TEXT,
      .doc = "order of the rows in each file of tables that are made, where they have the columns: "
             "created_at,id+desc+nulls+last" },
    PARQUET_CHOICE_OPTIONS,
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
      .choices = "stop|new_column|resnapshot",
      .doc = "when a column's type changes as Iceberg forbids: stop, keep the old column under "
             "another name, or read the table again" },
    { .key = NULL },
};

static struct iceberg *iceberg_of(struct sink *s) {
    return (struct iceberg *)s; /* base is its first member */
}

static int bad_address(const char *why, struct err *err) {
    err_set(err, ERR_FATAL, "iceberg_address", "iceberg: %s", why);
    err_cure(err, "iceberg:///absolute/folder");
    return err_exit(err, EXIT_USAGE);
}

static bool is_text_column(void *arg, const char *table, const char *column) {
    const struct iceberg *x = arg;
    return parquet_text_chosen(x->text_columns, table, column);
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

static enum ice_type_change type_change_of(const char *choice) {
    return strcmp(choice, "new_column") == 0   ? ICE_TYPE_NEW_COLUMN
           : strcmp(choice, "resnapshot") == 0 ? ICE_TYPE_RESNAPSHOT
                                               : ICE_TYPE_STOP;
}

/* Each open file holds pages of all its columns: fewer would make row groups and pages small. Rows
 * of partitions beyond them are held as they are. */
static uint32_t open_files_max(uint64_t bytes) {
    uint64_t files = bytes / OPEN_FILE_BYTES;
    return files < OPEN_FILES_MIN   ? OPEN_FILES_MIN
           : files > OPEN_FILES_MAX ? OPEN_FILES_MAX
                                    : (uint32_t)files;
}

static void take_options(struct iceberg *x, const struct opts *o) {
    x->parquet = parquet_chosen(o);
    x->format_version = strcmp(opts_text(o, "format"), "v3") == 0 ? 3 : 2;
    x->history_ms = opts_int(o, "history") / 1000;
    const char *text = opts_text(o, "text");
    x->text_columns = text ? xstrdup(text) : NULL;
    uint64_t memory = x->env->memory_bytes;
    x->metadata_bytes = memory / METADATA_SHARE;
    x->writer = (struct ice_writer_config){
        .env = x->env,
        .ops = &iceberg_ops,
        .folder = x->folder,
        .writers = WRITERS,
        .stage = { .env = x->env,
                   .store = x->store,
                   .job = x->job,
                   .index_bytes = memory / 8 / WRITERS,
                   .history_ms = x->history_ms,
                   .parquet = x->parquet,
                   .file_bytes = UINT64_C(512) << 20,
                   .open_bytes_max = memory / 4 / WRITERS,
                   .open_files_max = open_files_max(memory / 4 / WRITERS),
                   .rules = { .text = is_text_column,
                              .arg = x,
                              .on_type_change = type_change_of(opts_text(o, "on_type_change")),
                              .defaults = x->format_version >= 3 },
                   .soft_deletes = strcmp(opts_text(o, "deletes"), "soft") == 0,
                   .ignore_truncate = strcmp(opts_text(o, "truncate"), "ignore") == 0,
                   .partition = opts_text(o, "partition"),
                   .sort = opts_text(o, "sort"),
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
    const char *sort = opts_text(addr->opts, "sort");
    if (take_columns(opts_text(addr->opts, "columns"), &extras, err) ||
        (sort && ice_order_check(sort, err))) {
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
    buf_init(&x->made, SIZE_MAX);
    buf_init(&x->garbage, SIZE_MAX);
    take_options(x, addr->opts);
    x->writer.stage.put_logpos = addr->put_logpos;
    x->writer.stage.rules.extras |= extras;
    *out = &x->base;
    return 0;
}

static void iceberg_close(struct sink *s) {
    struct iceberg *x = iceberg_of(s);
    iceberg_forget(x);
    map_free(x->tables, NULL);
    ice_catalog_close(x->catalog);
    store_free(x->store);
    buf_release(&x->made);
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

int iceberg_state_of(const struct ice_job_row *row, struct sink_state *out, struct err *err) {
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
        rc = iceberg_state_of(&row, out, err);
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

static int iceberg_describe(struct sink *s, const struct source_catalogue *tables,
                            struct sink_description *out, struct err *err) {
    struct iceberg *x = iceberg_of(s);
    struct ice_catalog *catalog = NULL;
    if (ice_catalog_open(x->env->files, x->folder, false, &catalog, err) == FILES_FAILED) {
        return -1;
    }
    struct ice_plan_request req = { .job = x->job,
                                    .folder = x->folder,
                                    .format_version = x->format_version,
                                    .rules = &x->writer.stage.rules,
                                    .partition = x->writer.stage.partition,
                                    .sort = x->writer.stage.sort,
                                    .store = x->store,
                                    .catalog = catalog };
    int rc = ice_plan_describe(&req, tables, out, err);
    ice_catalog_close(catalog);
    return rc;
}

static int iceberg_apply_schema(struct sink *s TR_UNUSED,
                                const struct commit_request *next TR_UNUSED,
                                struct err *err TR_UNUSED) {
    return 0; /* schemas travel with the parts, and become visible with the rows */
}

static bool iceberg_needs_anew(const struct sink *s, const struct schema *before,
                               const struct schema *after) {
    const struct iceberg *x = (const struct iceberg *)s;
    return ice_schema_needs_anew(before, after, &x->writer.stage.rules);
}

static bool iceberg_takes_missing(const struct sink *s, const struct schema *schema,
                                  uint16_t column) {
    const struct iceberg *x = (const struct iceberg *)s;
    return ice_schema_takes_missing(schema, column, &x->writer.stage.rules);
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
    .describe = iceberg_describe,
    .peek = iceberg_peek,
    .recover = iceberg_recover,
    .apply_schema = iceberg_apply_schema,
    .needs_anew = iceberg_needs_anew,
    .takes_missing = iceberg_takes_missing,
    .commit = iceberg_commit,
    .resolve = iceberg_resolve,
    .summary = sink_sums_up_nothing,
    .writer_open = writer_open,
    .writer_close = ice_writer_close,
    .writer_stage = ice_writer_stage,
    .writer_seal = ice_writer_seal,
    .part_free = ice_writer_part_free,
};
