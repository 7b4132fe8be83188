/* The iceberg sink's commits. A commit writes every changed table's next snapshot beside what there
 * is, syncs it, and makes all of it visible with the position in one transaction of the embedded
 * catalog.
 *
 *   recover  open catalog.db -> claim: epoch + 1 -> position of before
 *            -> hints and garbage of a commit that was not tidied up
 *
 *   commit   snapshots of all tables (ice_prepare.c) -> folders synced
 *            -> one SQLite transaction: epoch still ours? position still `from`?
 *               every table still where it was?
 *            -> hints, garbage
 *
 *   failed   what was written is removed, tables are as before: the same parts may come again
 *
 *   unknown  an error at COMMIT itself: the catalog is opened again, and the job's row says what
 *            became of it; until then nothing is removed
 *
 * Why an older instance cannot commit: its epoch is not the row's. Why a foreign commit is not
 * overwritten: a table's row must still name the metadata that the commit was made upon, else
 * COMMIT_CONFLICT, and the job begins again from the last commit. Thread: the commit task; recover:
 * the supervisor. Never deletes a file that a commit of unknown outcome names, nor one that any
 * snapshot left names. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/iceberg_internal.h"

enum { BUSY_PAUSE_US = 20 * 1000, BUSY_TRIES = 500 };

static void table_free(void *t) { ice_table_free(t); }

static void forget_inconsistent(struct iceberg *x) {
    for (uint32_t i = 0; i < x->inconsistent_count; i++) {
        free(x->inconsistent[i]);
    }
    free(x->inconsistent);
    x->inconsistent = NULL;
    x->inconsistent_count = 0;
    x->knows_inconsistent = false;
}

void iceberg_forget(struct iceberg *x) {
    map_clear(x->tables, table_free);
    forget_inconsistent(x);
    free(x->pending);
    x->pending = NULL;
    x->pending_count = 0;
    buf_clear(&x->made);
    buf_clear(&x->garbage);
}

/* ---- tables ---- */

static struct buf table_key(const char *space, const char *name) {
    struct buf key;
    buf_init(&key, SIZE_MAX);
    buf_put(&key, space, strlen(space) + 1);
    buf_put(&key, name, strlen(name));
    return key;
}

static void add_table(struct iceberg *x, struct ice_table *t) {
    struct buf key = table_key(t->space, t->name);
    map_set(x->tables, key.data, key.len, t);
    buf_release(&key);
}

static int table_of(struct iceberg *x, const char *space, const char *name, struct ice_table **out,
                    struct err *err) {
    struct buf key = table_key(space, name);
    *out = map_get(x->tables, key.data, key.len);
    buf_release(&key);
    if (*out) {
        return 0;
    }
    struct ice_table *t = ice_table_new(space, name);
    if (ice_table_look(t, x->catalog, err)) {
        ice_table_free(t);
        return -1;
    }
    add_table(x, t);
    *out = t;
    return 0;
}

/* Parsed metadata of many tables would be much memory: the oldest of the map's give theirs up,
 * those of the commit at hand last. */
static void bound_memory(struct iceberg *x) {
    size_t held = 0;
    void *value;
    for (size_t at = 0; map_next(x->tables, &at, NULL, NULL, &value);) {
        held += ((struct ice_table *)value)->bytes;
    }
    for (int round = 0; round < 2; round++) {
        for (size_t at = 0;
             held > x->metadata_bytes && map_next(x->tables, &at, NULL, NULL, &value);) {
            struct ice_table *t = value;
            if (round > 0 || t->used != x->commits) {
                held -= t->bytes;
                ice_table_forget(t);
            }
        }
    }
}

/* ---- hints and garbage ---- */

/* For readers that open a table by its folder: the name of the present metadata file. A hint that
 * cannot be written is old, which costs such readers freshness, and keeps what it names. */
static bool write_hint(struct iceberg *x, const char *space, const char *name,
                       const char *location) {
    static const char ending[] = ".metadata.json";
    const char *file = strrchr(location, '/') ? strrchr(location, '/') + 1 : location;
    size_t len = strlen(file);
    if (len < sizeof ending || strcmp(file + len - (sizeof ending - 1), ending) != 0) {
        return true; /* not ours: compressed metadata has no hint */
    }
    len -= sizeof ending - 1;
    struct err err = ERR_INIT;
    struct buf now;
    char *key = xasprintf("%s/%s/metadata/version-hint.text", space, name);
    bool written = true;
    buf_init(&now, 4096);
    enum files_result got = store_get(x->store, key, &now, &err);
    err_clear(&err);
    if ((got != FILES_OK || now.len != len || memcmp(now.data, file, len) != 0) &&
        store_replace(x->store, key, file, len, &err)) {
        log_warn(x->env->log, "commit", "hint_left", "%s", err.text);
        written = false;
    }
    buf_release(&now);
    free(key);
    return written;
}

/* What cannot be removed is tried again after the next commit. */
static void remove_garbage(struct iceberg *x) {
    struct buf left;
    buf_init(&left, SIZE_MAX);
    for (size_t at = 0; at < x->garbage.len; at += strlen(x->garbage.data + at) + 1) {
        const char *url = x->garbage.data + at;
        const char *key = store_key_of(x->store, url);
        struct err err = ERR_INIT;
        if (key && store_remove(x->store, key, &err)) {
            log_warn(x->env->log, "commit", "garbage_left", "%s", err.text);
            buf_put(&left, url, strlen(url) + 1);
        }
    }
    buf_release(&x->garbage);
    x->garbage = left;
}

/* ---- recover ---- */

static int reopen(struct iceberg *x, struct err *err) {
    ice_catalog_close(x->catalog);
    x->catalog = NULL;
    if (files_mkdirs(x->env->files, x->folder, 0750, err) == FILES_FAILED ||
        store_folder_keep(x->env->files, x->folder, err)) {
        return -1;
    }
    return ice_catalog_open(x->env->files, x->folder, true, &x->catalog, err) == FILES_OK ? 0 : -1;
}

static void take_owned(void *arg, const struct ice_owned_row *row) {
    add_table(arg, ice_table_of_row(row));
}

/* What the last commit's instance may not have come to do. */
static int tidy_again(struct iceberg *x, struct err *err) {
    char *urls = NULL;
    if (ice_catalog_owned(x->catalog, x->job, take_owned, x, err) ||
        ice_catalog_garbage(x->catalog, x->job, &urls, err)) {
        return -1;
    }
    bool hinted = true;
    void *value;
    for (size_t at = 0; map_next(x->tables, &at, NULL, NULL, &value);) {
        const struct ice_table *t = value;
        if (t->location && store_key_of(x->store, t->location)) {
            hinted = write_hint(x, t->space, t->name, t->location) && hinted;
        }
    }
    for (const char *p = urls; p && *p;) {
        size_t n = strcspn(p, "\n");
        buf_put(&x->garbage, p, n);
        buf_putc(&x->garbage, '\0');
        p += n + (p[n] == '\n');
    }
    free(urls);
    if (hinted) {
        remove_garbage(x);
    }
    return 0;
}

int iceberg_recover(struct sink *s, struct sink_state *out, struct err *err) {
    struct iceberg *x = (struct iceberg *)s;
    struct ice_job_row row = { 0 };
    iceberg_forget(x);
    if (reopen(x, err) || FAILPOINT(x->env->failpoints, "iceberg.before_claim", err) ||
        ice_catalog_claim(x->catalog, x->job, &row, err)) {
        return -1;
    }
    x->epoch = row.epoch;
    x->writer.stage.epoch = row.epoch;
    int rc = FAILPOINT(x->env->failpoints, "iceberg.after_claim", err) || tidy_again(x, err)
                 ? -1
                 : iceberg_state_of(&row, out, err);
    if (rc == 0 && row.epoch == 1) {
        out->knows = TARGET_NOTHING; /* before the claim there was none of this job */
    }
    ice_job_row_release(&row);
    return rc;
}

/* ---- commit ---- */

struct committing {
    struct iceberg *x;
    const struct commit_request *req;
    struct ice_commit_context context;
    struct store_folders folders;
};

static int by_label(const void *key, const void *at) {
    return strcmp(key, *(const char *const *)at);
}

static bool is_inconsistent(const struct commit_request *req, const char *label) {
    return req->inconsistent_count > 0 && bsearch(label, req->inconsistent, req->inconsistent_count,
                                                  sizeof *req->inconsistent, by_label) != NULL;
}

static enum commit_outcome prepare_table(struct committing *c, struct ice_table *t,
                                         const char *label, struct ice_part_table *part,
                                         struct err *err) {
    struct iceberg *x = c->x;
    x->pending = xrealloc(x->pending, (x->pending_count + 1) * sizeof(struct ice_table *));
    x->pending[x->pending_count++] = t;
    t->used = x->commits;
    enum commit_outcome outcome =
        ice_table_prepare(t, &c->context, part, !is_inconsistent(c->req, label), err);
    if (outcome == COMMITTED && !t->next) {
        x->pending_count--;
    }
    if (outcome == COMMIT_FAILED && strcmp(err->code, "index_damaged") == 0) {
        ice_writer_void_index(x->env, label);
    }
    return outcome;
}

/* Where nobody has written to the table in this run, a foreign commit may have come between the
 * commit side's look and the writer's. */
static int look_again(struct iceberg *x, struct ice_table *t, const struct ice_part_table *part,
                      struct err *err) {
    bool same = part->base ? t->location && strcmp(part->base, t->location) == 0 : !t->location;
    return t->written || same || t->empty.len > 0 ? 0 : ice_table_look(t, x->catalog, err);
}

/* Tables that had rows or changes, writer by writer. A table belongs to one writer. */
static enum commit_outcome prepare_parts(struct committing *c, struct err *err) {
    for (uint32_t i = 0; i < c->req->part_count; i++) {
        struct ice_part *part = (struct ice_part *)c->req->parts[i];
        if (!part) {
            continue;
        }
        store_folders_merge(&c->folders, &part->folders);
        for (uint32_t k = 0; k < part->table_count; k++) {
            struct ice_part_table *p = &part->tables[k];
            struct ice_table *t = NULL;
            if (table_of(c->x, p->space, p->name, &t, err) || look_again(c->x, t, p, err)) {
                return COMMIT_FAILED;
            }
            enum commit_outcome outcome = prepare_table(c, t, p->label, p, err);
            if (outcome != COMMITTED) {
                return outcome;
            }
        }
    }
    return COMMITTED;
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

/* Only its state changed: consistent now, or not any more; or it is to exist, empty. */
static enum commit_outcome prepare_other(struct committing *c, const struct schema *schema,
                                         struct err *err) {
    struct iceberg *x = c->x;
    struct ice_table *t = NULL;
    bool consistent = !is_inconsistent(c->req, schema->label);
    if (table_of(x, schema->space, schema->name, &t, err) ||
        (!t->uuid && !t->next && ice_table_read(t, x->store, x->job, err))) {
        return COMMIT_FAILED;
    }
    bool as_before = t->location ? t->consistent == consistent : !consistent;
    if (t->next || as_before) {
        return COMMITTED;
    }
    struct ice_part_table empty = { 0 };
    bool is_new = !t->location && !t->uuid;
    enum commit_outcome outcome = COMMIT_FAILED;
    if (!is_new || empty_part(x, schema, &empty, err) == 0) {
        outcome = prepare_table(c, t, schema->label, is_new ? &empty : NULL, err);
    }
    empty_part_release(&empty);
    return outcome;
}

static bool same_inconsistent(const struct iceberg *x, const struct commit_request *req) {
    if (!x->knows_inconsistent || x->inconsistent_count != req->inconsistent_count) {
        return false;
    }
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        if (strcmp(x->inconsistent[i], req->inconsistent[i]) != 0) {
            return false;
        }
    }
    return true;
}

static void note_inconsistent(struct iceberg *x, const struct commit_request *req) {
    if (same_inconsistent(x, req)) {
        return;
    }
    forget_inconsistent(x);
    x->inconsistent = xcalloc(req->inconsistent_count + 1, sizeof *x->inconsistent);
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        x->inconsistent[i] = xstrdup(req->inconsistent[i]);
    }
    x->inconsistent_count = req->inconsistent_count;
    x->knows_inconsistent = true;
}

/* All other tables, where there may be anything to do for one. */
static enum commit_outcome prepare_others(struct committing *c, struct err *err) {
    if (!c->req->schemas_changed && same_inconsistent(c->x, c->req)) {
        return COMMITTED;
    }
    for (uint32_t i = 0; i < c->req->schema_count; i++) {
        enum commit_outcome outcome = prepare_other(c, c->req->schemas[i], err);
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

/* A URL a line, so that whoever recovers can remove them. */
static void put_garbage(struct buf *out, const struct buf *garbage) {
    for (size_t at = 0; at < garbage->len; at += strlen(garbage->data + at) + 1) {
        const char *url = garbage->data + at;
        if (!strchr(url, '\n')) { /* such a one is left if we do not come to remove it */
            buf_put(out, url, strlen(url));
            buf_putc(out, '\n');
        }
    }
}

static enum commit_outcome commit_catalog(struct committing *c, struct err *err) {
    const struct commit_request *req = c->req;
    struct iceberg *x = c->x;
    struct buf schemas, garbage;
    uint32_t conflict = 0;
    int tries = 0;
    struct ice_catalog_change *changes = xcalloc(x->pending_count + 1, sizeof *changes);
    for (uint32_t i = 0; i < x->pending_count; i++) {
        const struct ice_table *t = x->pending[i];
        changes[i] = (struct ice_catalog_change){ .space = t->space,
                                                  .name = t->name,
                                                  .from = t->location,
                                                  .to = t->next,
                                                  .uuid = t->metadata.uuid,
                                                  .consistent = t->next_consistent };
    }
    buf_init(&schemas, SIZE_MAX);
    buf_init(&garbage, SIZE_MAX);
    if (req->schemas_changed) {
        put_schemas(&schemas, req);
    }
    put_garbage(&garbage, &x->garbage);
    struct ice_catalog_commit commit = {
        .job = x->job,
        .epoch = req->epoch,
        .seq = req->seq,
        .from = req->from,
        .to = req->to,
        .schemas = req->schemas_changed ? buf_cstr(&schemas) : NULL,
        .commit_id = x->commit_id,
        .garbage = garbage.len > 0 ? buf_cstr(&garbage) : NULL,
        .changes = changes,
        .change_count = x->pending_count,
    };
    enum commit_outcome outcome =
        ice_catalog_commit(x->catalog, &commit, &conflict, busy_wait, &tries, err);
    buf_release(&schemas);
    buf_release(&garbage);
    free(changes);
    return outcome;
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

/* ---- what became of it ---- */

static void end_pending(struct iceberg *x, bool committed) {
    for (uint32_t i = 0; i < x->pending_count; i++) {
        ice_table_settle(x->pending[i], committed, x->commit_id);
    }
    bound_memory(x);
    free(x->pending);
    x->pending = NULL;
    x->pending_count = 0;
    buf_clear(&x->made);
}

/* What is left to do may fail without harm. */
static void committed(struct iceberg *x, const struct commit_request *req) {
    bool hinted = true;
    for (uint32_t i = 0; i < x->pending_count; i++) {
        const struct ice_table *t = x->pending[i];
        hinted = write_hint(x, t->space, t->name, t->next) && hinted;
    }
    if (hinted) {
        remove_garbage(x);
    }
    if (!req->position_only) {
        note_inconsistent(x, req);
    }
    end_pending(x, true);
}

/* Surely not committed. kept: garbage of earlier commits that is still there. */
static void not_committed(struct iceberg *x, size_t kept) {
    for (size_t at = 0; at < x->made.len; at += strlen(x->made.data + at) + 1) {
        struct err ignored = ERR_INIT; /* nothing names it: an orphan costs room only */
        const char *key = store_key_of(x->store, x->made.data + at);
        if (key && store_remove(x->store, key, &ignored)) {
            err_clear(&ignored);
        }
    }
    x->garbage.len = kept;
    end_pending(x, false);
}

static enum commit_outcome fenced(struct iceberg *x, struct err *err) {
    err_set(err, ERR_FATAL, "fenced",
            "warehouse \"%s\": a newer instance of job \"%s\" has taken over", x->folder, x->job);
    err_cure(err, "nothing: the newer instance goes on; `tailrace status` shows it on its machine");
    err_exit(err, EXIT_FENCED);
    return COMMIT_FENCED;
}

enum commit_outcome iceberg_commit(struct sink *s, const struct commit_request *req,
                                   struct err *err) {
    struct iceberg *x = (struct iceberg *)s;
    struct committing c = { .x = x, .req = req };
    size_t kept = x->garbage.len;
    x->commits++;
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
                                             .made = &x->made,
                                             .garbage = &x->garbage };
    enum commit_outcome outcome = run_commit(&c, err);
    store_folders_release(&c.folders);
    if (outcome == COMMITTED) {
        committed(x, req);
    } else if (outcome != COMMIT_UNKNOWN) {
        not_committed(x, kept);
    }
    if (outcome == COMMIT_FENCED) {
        fenced(x, err);
    }
    return outcome;
}

enum resolve_outcome iceberg_resolve(struct sink *s, const struct commit_request *req,
                                     struct err *err) {
    struct iceberg *x = (struct iceberg *)s;
    struct ice_job_row row = { 0 };
    if (reopen(x, err) || ice_catalog_job(x->catalog, x->job, &row, err)) {
        return err->kind == ERR_FATAL ? RESOLVE_FAILED : RESOLVE_UNKNOWN;
    }
    bool ours = row.epoch == req->epoch && row.seq == req->seq && row.position &&
                strcmp(row.position, req->to) == 0;
    bool newer = row.epoch > req->epoch;
    ice_job_row_release(&row);
    if (newer) { /* it found out what became of the commit, too */
        fenced(x, err);
        return RESOLVE_FAILED;
    }
    if (ours) {
        committed(x, req);
        return RESOLVED_COMMITTED;
    }
    /* Its files stay: they cost room only. So may garbage that only it knew of. */
    buf_clear(&x->garbage);
    end_pending(x, false);
    return RESOLVED_NOT_COMMITTED;
}
