/* The product's jsonl sink on the memory disk, watched: after each commit the oracles read the
 * folder's new files as a reader would. See sinks.h. What was seen once must stay as it is. The
 * parquet sink as well: its commit files are of the same form, with names of files for rows, which
 * sinks_parquet.c reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/changelog_parquet/pqlog.h"
#include "sinks/jsonl/jsonl.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/sinks_impl.h"

#define FILES_MAX 4096u

struct wrapped {
    struct sink base;
    struct sink *inner;
    struct opts *opts; /* of parquet; else NULL */
    unsigned group;
};
struct wrapped_writer {
    struct sink_writer base;
    struct sink_writer *inner;
};
static struct {
    struct db *db;
    struct disk *disk;
    uint64_t seen; /* number of the last file that was read */
    size_t sizes[FILES_MAX];
} folder;

void jsonl_target_init(struct db *db, struct disk *disk) {
    folder.db = db;
    folder.disk = disk;
}

static bool is_parquet(void) { return sim_target.kind == SINK_PARQUET; }
static const struct sink_ops *ops(void) { return is_parquet() ? &pqlog_ops : &jsonl_ops; }
static struct sink *inner(struct sink *s) { return ((struct wrapped *)s)->inner; }

static const struct buf *look(const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s%s", SIM_JSONL_DIR, is_parquet() ? "_commits/" : "", name);
    return disk_look(folder.disk, path);
}

static const struct buf *data_file(uint64_t seq) {
    char name[64];
    snprintf(name, sizeof name, "%016llu.jsonl", (unsigned long long)seq);
    return look(name);
}

/* All schemas of the file that a commit line names. */
static uint32_t read_schemas(const char *name, struct schema **out) {
    const struct buf *file = name ? look(name) : NULL;
    json_error_t problem;
    if (!name) {
        return 0;
    }
    json_t *root = file ? json_loadb(file->data, file->len, 0, &problem) : NULL;
    json_t *tables = json_object_get(root, "tables"), *table;
    size_t i;
    if (!json_is_array(tables)) {
        sim_fail("durable", "the schema file %s is missing or damaged", name);
    }
    json_array_foreach(tables, i, table) {
        struct err err = ERR_INIT;
        char *text = json_dumps(table, JSON_COMPACT);
        CHECK(i < DB_TABLES + 4);
        out[i] = schema_from_json(text, strlen(text), &err);
        if (!out[i]) {
            sim_fail("durable", "a schema of %s cannot be read: %s", name, err.text);
        }
        free(text);
    }
    json_decref(root);
    return (uint32_t)i;
}

static void read_commit(json_t *commit, uint64_t seq, const struct events *events) {
    uint64_t epoch = (uint64_t)json_integer_value(json_object_get(commit, "epoch"));
    json_t *position = json_object_get(commit, "position"),
           *labels = json_object_get(commit, "inconsistent"), *label;
    struct schema *schemas[DB_TABLES + 4] = { 0 };
    const char *names[DB_TABLES + 4];
    struct oracle_commit c = { .inconsistent = names,
                               .schemas = schemas,
                               .epoch = epoch,
                               .seq = seq,
                               .group = oracle_claimer(epoch),
                               .events = events };
    size_t i;
    json_array_foreach(labels, i, label) {
        names[c.inconsistent_count++] = json_string_value(label);
    }
    if ((uint64_t)json_integer_value(json_object_get(commit, "seq")) != seq) {
        sim_fail("seq", "file %llu says it is another", (unsigned long long)seq);
    }
    char *text = json_dumps(position, JSON_COMPACT);
    c.position = text;
    c.schema_count = read_schemas(json_string_value(json_object_get(commit, "schema")), schemas);
    oracle_committed(&c);
    for (i = 0; i < c.schema_count; i++) {
        schema_unref(schemas[i]);
    }
    free(text);
}

static void read_file(uint64_t seq, const struct buf *file, unsigned group) {
    struct events events = { 0 };
    json_t *commit = NULL;
    for (const char *at = file->data, *end = file->data + file->len; at < end;) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        json_error_t problem;
        json_t *line = nl && !commit ? json_loadb(at, (size_t)(nl - at), 0, &problem) : NULL;
        if (!line) {
            sim_fail("line", "file %llu is damaged at %zu of %zu", (unsigned long long)seq,
                     (size_t)(at - file->data), file->len);
        }
        if (!events_of_line(folder.db, line, &events)) {
            commit = json_incref(json_object_get(line, "commit"));
        }
        json_decref(line);
        at = nl + 1;
    }
    uint64_t epoch = (uint64_t)json_integer_value(json_object_get(commit, "epoch"));
    if (!commit) {
        sim_fail("line", "file %llu has no commit line", (unsigned long long)seq);
    }
    if (is_parquet()) {
        parquet_events(seq, file, &events);
    }
    if (!oracle_claimer(epoch)) {
        if (events.count) {
            sim_fail("epoch", "file %llu claims epoch %llu and has rows", (unsigned long long)seq,
                     (unsigned long long)epoch);
        }
        oracle_claimed(epoch, seq, group);
    } else {
        read_commit(commit, seq, &events);
    }
    json_decref(commit);
    events_clear(&events);
}

/* Reads what is new, and that the old is still there. True if there was a new file. */
static bool read_folder(unsigned group) {
    bool any = false;
    for (uint64_t seq = 1; seq <= folder.seen; seq++) {
        const struct buf *file = data_file(seq);
        if (!file || file->len != folder.sizes[seq]) {
            sim_fail("durable", "file %llu, once committed, is %s", (unsigned long long)seq,
                     file ? "another" : "gone");
        }
    }
    for (const struct buf *file; (file = data_file(folder.seen + 1)) != NULL; any = true) {
        folder.seen++;
        CHECK(folder.seen < FILES_MAX);
        folder.sizes[folder.seen] = file->len;
        read_file(folder.seen, file, group);
    }
    if (is_parquet()) {
        parquet_check_named(folder.seen);
    }
    return any;
}

static int wrapped_open(const struct sink_address *a, struct env *env, struct sink **out,
                        struct err *err) {
    struct sink_address address = *a;
    address.path = SIM_JSONL_DIR;
    struct wrapped *w = xcalloc(1, sizeof *w);
    *w = (struct wrapped){ .base.ops = &sim_jsonl_ops, .group = sched_group() };
    w->opts = is_parquet() ? opts_new(pqlog_ops.opts) : NULL;
    address.opts = w->opts;
    if (ops()->open(&address, env, &w->inner, err)) {
        opts_free(w->opts);
        free(w);
        return -1;
    }
    *out = &w->base;
    return 0;
}
static void wrapped_close(struct sink *s) {
    ops()->close(inner(s));
    opts_free(((struct wrapped *)s)->opts);
    free(s);
}
static int wrapped_examine(struct sink *s, struct source_findings *out, struct err *err) {
    return ops()->examine(inner(s), out, err);
}
static int wrapped_peek(struct sink *s, struct sink_state *out, struct err *err) {
    return ops()->peek(inner(s), out, err);
}
static int wrapped_recover(struct sink *s, struct sink_state *out, struct err *err) {
    if (ops()->recover(inner(s), out, err)) {
        return -1;
    }
    unsigned group = ((struct wrapped *)s)->group;
    read_folder(group);
    if (out->epoch == oracle_epoch()) { /* nobody has taken over meanwhile */
        oracle_recovered(out->position);
    }
    return 0;
}
static int wrapped_apply_schema(struct sink *s, const struct commit_request *next,
                                struct err *err) {
    return ops()->apply_schema(inner(s), next, err);
}

/* A position that was stored just before a newer claim, and answered after it: the claim's maker
 * must have it. */
static bool taken_over(struct sink *s, const struct commit_request *req) {
    struct err err = ERR_INIT;
    struct sink_state state;
    if (ops()->peek(inner(s), &state, &err)) {
        return false;
    }
    bool same = state.position && strcmp(state.position, req->to) == 0;
    sink_state_release(&state);
    return same;
}

static void stands(struct sink *s, const struct commit_request *req) {
    static const struct events none;
    unsigned group = ((struct wrapped *)s)->group;
    if (!read_folder(group) && req->position_only) {
        uint64_t epoch = req->epoch;
        if (epoch != oracle_epoch() && taken_over(s, req)) {
            epoch = oracle_epoch();
        }
        oracle_committed(&(struct oracle_commit){ .position = req->to,
                                                  .inconsistent = req->inconsistent,
                                                  .inconsistent_count = req->inconsistent_count,
                                                  .epoch = epoch,
                                                  .seq = oracle_seq(),
                                                  .group = oracle_claimer(epoch),
                                                  .events = &none });
    }
}

static enum commit_outcome wrapped_commit(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    enum commit_outcome outcome = ops()->commit(inner(s), req, err);
    if (outcome == COMMITTED) {
        stands(s, req);
    }
    return outcome;
}
static enum resolve_outcome wrapped_resolve(struct sink *s, const struct commit_request *req,
                                            struct err *err) {
    enum resolve_outcome outcome = ops()->resolve(inner(s), req, err);
    if (outcome == RESOLVED_COMMITTED) {
        stands(s, req);
    }
    return outcome;
}

static int wrapped_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                               struct err *err) {
    struct wrapped_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = &sim_jsonl_ops;
    if (ops()->writer_open(inner(s), number, &w->inner, err)) {
        free(w);
        return -1;
    }
    *out = &w->base;
    return 0;
}
static struct sink_writer *inner_writer(struct sink_writer *w) {
    return ((struct wrapped_writer *)w)->inner;
}
static int wrapped_stage(struct sink_writer *w, const struct stage_item *item, struct err *err) {
    return ops()->writer_stage(inner_writer(w), item, err);
}
static int wrapped_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out,
                        struct err *err) {
    return ops()->writer_seal(inner_writer(w), seq, out, err);
}
static void wrapped_writer_close(struct sink_writer *w) {
    ops()->writer_close(inner_writer(w));
    free(w);
}
static void wrapped_part_free(struct sink_part *part, bool committed) {
    ops()->part_free(part, committed);
}
static int wrapped_summary(struct sink *s, struct buf *out, struct err *err) {
    return ops()->summary(inner(s), out, err);
}

const struct sink_ops sim_jsonl_ops = {
    .name = "jsonl",
    .owns_position = true,
    .stages = true,
    .writers_max = 1,
    .freshness_us = 1000000,
    .open = wrapped_open,
    .close = wrapped_close,
    .examine = wrapped_examine,
    .peek = wrapped_peek,
    .recover = wrapped_recover,
    .apply_schema = wrapped_apply_schema,
    .commit = wrapped_commit,
    .resolve = wrapped_resolve,
    .writer_open = wrapped_writer_open,
    .writer_stage = wrapped_stage,
    .writer_seal = wrapped_seal,
    .writer_close = wrapped_writer_close,
    .part_free = wrapped_part_free,
    .summary = wrapped_summary,
    .describe = sink_describes_nothing,
};
