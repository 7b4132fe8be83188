/* The jsonl sink: the commit side. One file a commit; the rename of a staged file to the next
 * number, which never replaces, is the compare-and-set that makes rows and position visible.
 *
 *   recover  fsync DIR -> list, read the newest file's last line -> claim: an empty file under the
 *            next number -> fsync DIR -> only now remove staged files that are not ours
 *   commit   (apply_schema: _schema staged, fsync, rename, fsync DIR)
 *            commit line -> fsync -> rename -> fsync DIR
 *   idle     nobody has committed since? -> staged, fsync, rename over _idle.<epoch> -> fsync DIR
 *            -> still nobody?
 *
 * Why an older instance cannot commit: it renames to number n+1, which the newer one's claim took;
 * a staged file it still had is gone or its name is taken, and both mean fenced. Its idle file
 * carries its own epoch, which no longer is that of the newest file, so that file does not count.
 *
 * The number of a file is this sink's own count; commits of a position only do not raise it.
 * Thread: the commit task; writers (jsonl_writer.c) share nothing with it but parts. Never opens a
 * staged file again, never writes to a visible one, never deletes what an unknown outcome may have
 * made visible. */
#include "sinks/jsonl/jsonl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "sinks/jsonl/jsonl_folder.h"
#include "sinks/jsonl/jsonl_writer.h"

enum { CLAIM_TRIES = 16, DIR_MODE = 0750 };

enum doubt { DOUBT_NONE, DOUBT_FILE, DOUBT_IDLE };

struct jsonl {
    struct sink base;
    struct env *env;
    char *dir;
    int (*put_logpos)(struct buf *out, struct logpos pos);
    struct jsonl_commit
        last;          /* what the folder says; epoch 0 = not recovered. last.job is always set */
    char *next_schema; /* name written by apply_schema for the next commit; NULL = none */
    bool fenced;
    struct jsonl_staged *own; /* of a commit without rows: kept while its outcome is unknown */
    enum doubt doubt;
    uint64_t doubt_size;
    uint32_t doubt_crc;
    struct jsonl_commit doubtful; /* the commit line in doubt */
};

static const struct opt_spec jsonl_opts[] = {
    { .key = "freshness",
      .type = OPT_DURATION,
      .fallback = "1s",
      .min = 10 * 1000,
      .max = INT64_C(3600) * 1000 * 1000,
      .doc = "time between two commits while rows arrive" },
    { .key = NULL },
};

static struct jsonl *jsonl_of(struct sink *s) {
    return (struct jsonl *)s; /* base is its first member */
}
static int bad_address(const char *why, struct err *err) {
    err_set(err, ERR_FATAL, "jsonl_address", "jsonl: %s", why);
    err_cure(err, "jsonl:///absolute/folder");
    return err_exit(err, EXIT_USAGE);
}

static int jsonl_open(const struct sink_address *addr, struct env *env, struct sink **out,
                      struct err *err) {
    if ((addr->hosts && *addr->hosts) || addr->user || addr->secret) {
        return bad_address("a folder has no host: write three slashes", err);
    }
    if (!addr->path || addr->path[0] != '/') {
        return bad_address("the folder must be an absolute path", err);
    }
    size_t len = strlen(addr->path);
    while (len > 0 && addr->path[len - 1] == '/') {
        len--;
    }
    if (len == 0) {
        return bad_address("the root folder cannot hold a job", err);
    }
    struct jsonl *j = xcalloc(1, sizeof *j);
    j->base.ops = &jsonl_ops;
    j->env = env;
    j->dir = xstrndup(addr->path, len);
    j->last.job = xstrdup(addr->job);
    j->put_logpos = addr->put_logpos;
    *out = &j->base;
    return 0;
}

static void forget_doubt(struct jsonl *j) {
    j->doubt = DOUBT_NONE;
    jsonl_commit_release(&j->doubtful);
}

static void jsonl_close(struct sink *s) {
    struct jsonl *j = jsonl_of(s);
    forget_doubt(j);
    jsonl_staged_free(j->own, true);
    jsonl_commit_release(&j->last);
    free(j->next_schema);
    free(j->dir);
    free(j);
}

/* Fills a sink_state from a commit line. */
static int state_of(struct jsonl *j, const struct jsonl_commit *c, struct sink_state *out,
                    struct err *err) {
    *out = (struct sink_state){ .knows = c->position ? TARGET_POSITION : TARGET_CLAIM,
                                .epoch = c->epoch,
                                .seq = c->seq };
    if (c->schema && jsonl_read_schemas(j->env->files, j->dir, c->schema, &out->schemas,
                                        &out->schema_count, err)) {
        return -1;
    }
    out->position = c->position ? xstrdup(c->position) : NULL;
    return 0;
}

/* The newest commit and what it needs; out is empty without one. A _schema file that is gone went
 * with a newer commit, or is missing: another look tells. */
static int look(struct jsonl *j, struct jsonl_commit *newest, bool *found, struct sink_state *out,
                struct err *err) {
    uint64_t seq_before = 0;
    for (int tries = 0;; tries++) {
        *out = (struct sink_state){ .knows = TARGET_NOTHING };
        if (jsonl_read(j->env->files, j->dir, j->last.job, newest, found, err)) {
            return -1;
        }
        if (!*found || state_of(j, newest, out, err) == 0) {
            return 0;
        }
        uint64_t seq = newest->seq;
        jsonl_commit_release(newest);
        if (strcmp(err->code, "jsonl_schema_missing") != 0 || seq == seq_before ||
            tries == CLAIM_TRIES) {
            return -1;
        }
        seq_before = seq;
        err_clear(err);
    }
}

static int jsonl_peek(struct sink *s, struct sink_state *out, struct err *err) {
    struct jsonl *j = jsonl_of(s);
    struct jsonl_commit newest;
    bool found = false;
    int failed = look(j, &newest, &found, out, err);
    if (!failed) {
        jsonl_commit_release(&newest);
    }
    return failed;
}

/* Can the folder be written, or be made in the nearest one that exists? */
static int may_write(struct jsonl *j, struct err *err) {
    char *path = xstrdup(j->dir);
    enum files_result may = files_may_write(j->env->files, path, err);
    for (char *slash; may == FILES_ABSENT && path[1] && (slash = strrchr(path, '/')) != NULL;) {
        slash[slash == path ? 1 : 0] = '\0';
        may = files_may_write(j->env->files, path, err);
    }
    free(path);
    return may == FILES_FAILED ? -1 : 0;
}

/* A folder that this user may not use is a finding, like a missing GRANT. What else fails says what
 * it is itself: a damaged file, another job, a disk. */
static int jsonl_examine(struct sink *s, struct source_findings *out, struct err *err) {
    struct sink_state state;
    int failed = jsonl_peek(s, &state, err);
    if (!failed) {
        sink_state_release(&state);
        failed = may_write(jsonl_of(s), err);
    }
    if (!failed) {
        return 0;
    }
    if (strcmp(err->code, "file_error") != 0) {
        return -1;
    }
    struct source_finding *f = &out->at[out->count++];
    *f = (struct source_finding){ .fatal = true };
    escape_append(f->what, sizeof f->what, err->text, strlen(err->text));
    escape_append(f->cure, sizeof f->cure, err->cure, strlen(err->cure));
    err_clear(err);
    return 0;
}

static int fenced_error(struct jsonl *j, struct err *err) {
    j->fenced = true;
    err_set(err, ERR_FATAL, "fenced",
            "folder \"%s\": a newer instance of job \"%s\" has taken over", j->dir, j->last.job);
    err_cure(err, "nothing: the newer instance goes on; `tailrace status` shows it on its machine");
    return err_exit(err, EXIT_FENCED);
}

/* What we staged is gone, its name is taken, or the newest file is not ours: why? A newer instance
 * has a higher number. Where the highest is lower than ours the newest file was moved away, and
 * where it is ours only the staged file was, by whom nobody can say. */
static int lost_error(struct jsonl *j, struct err *err) {
    uint64_t seq = 0;
    bool exists = false;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    err_clear(err);
    int failed = jsonl_list(j->env->files, j->dir, &names, &seq, &exists, err);
    buf_release(&names);
    err_clear(err);
    if (failed || seq > j->last.seq) {
        return fenced_error(j, err);
    }
    j->fenced = true;
    if (seq < j->last.seq) {
        return jsonl_moved(j->dir, j->last.seq, err);
    }
    err_set(err, ERR_FATAL, "fenced",
            "folder \"%s\": the file that was being written was removed, by a newer instance of "
            "job \"%s\" or by hand",
            j->dir, j->last.job);
    err_cure(err, "leave names that begin with . or _ alone, and start the job again");
    return err_exit(err, EXIT_FENCED);
}

/* --- one staged file to its visible name --- */

enum published { PUBLISH_FAILED = -1, PUBLISHED = 0, PUBLISH_TAKEN, PUBLISH_UNKNOWN };

enum whose { WHOSE_FAILED = -1, WHOSE_OURS, WHOSE_OTHERS, WHOSE_NOBODYS };

/* Is the visible file of a commit the one we staged? Same epoch means same instance; size and
 * checksum mean the same bytes. */
static enum whose whose_file(struct jsonl *j, const char *path, const struct jsonl_commit *c,
                             uint64_t size, uint32_t crc, struct err *err) {
    struct jsonl_commit found;
    enum files_result read = jsonl_read_commit(j->env->files, path, &found, err);
    if (read != FILES_OK) {
        return read == FILES_ABSENT ? WHOSE_NOBODYS : WHOSE_FAILED;
    }
    bool same = found.epoch == c->epoch && found.seq == c->seq && strcmp(found.job, c->job) == 0;
    jsonl_commit_release(&found);
    if (!same) {
        return WHOSE_OTHERS;
    }
    uint64_t found_size = 0;
    uint32_t found_crc = 0;
    read = jsonl_checksum(j->env->files, path, &found_size, &found_crc, err);
    if (read != FILES_OK) {
        return read == FILES_ABSENT ? WHOSE_NOBODYS : WHOSE_FAILED;
    }
    return found_size == size && found_crc == crc ? WHOSE_OURS : WHOSE_OTHERS;
}

/* The commit line ends a staged file, which is then synced. Once only: a retry finds it done. */
static int finish_staged(struct jsonl *j, struct jsonl_staged *staged, const struct jsonl_commit *c,
                         struct err *err) {
    const char *to = c->position ? c->position : "null";
    if (staged->to) {
        CHECK(strcmp(staged->to, to) ==
              0); /* the same file is tried again only with the same position */
        return 0;
    }
    struct buf line;
    buf_init(&line, SIZE_MAX);
    jsonl_commit_put(&line, c);
    int failed = jsonl_staged_write(staged, line.data, line.len, err);
    buf_release(&line);
    if (failed) {
        return -1; /* RETRY is true: the file took the line back */
    }
    staged->to = xstrdup(to);
    if (FAILPOINT(j->env->failpoints, "jsonl.before_fsync", err) || file_sync(staged->file, err)) {
        if (err->kind == ERR_RETRY) {
            err->kind = ERR_REWIND; /* a failed sync is never tried again on the same file */
        }
        return -1;
    }
    return 0;
}

/* Renames a finished staged file to its number. TAKEN: another instance was first. known: a file
 * with the same bytes is ours; not so of claims, which two instances write alike. */
static enum published publish(struct jsonl *j, struct jsonl_staged *staged,
                              const struct jsonl_commit *c, bool known, struct err *err) {
    struct files *files = j->env->files;
    char *path = jsonl_data_path(j->dir, c->seq);
    enum published result = PUBLISH_UNKNOWN;
    enum files_result renamed = FILES_OK;
    if (FAILPOINT(j->env->failpoints, "jsonl.before_rename", err)) {
        result = PUBLISH_FAILED;
        goto done;
    }
    renamed = files_rename_new(files, staged->path, path, err);
    if (renamed == FILES_FAILED) {
        goto done;
    }
    if (renamed != FILES_OK) {
        enum whose whose =
            known ? whose_file(j, path, c, staged->size, staged->crc, err) : WHOSE_OTHERS;
        if (whose == WHOSE_FAILED) {
            goto done;
        }
        if (whose != WHOSE_OURS) {
            result = PUBLISH_TAKEN;
            goto done;
        }
    }
    if (FAILPOINT(j->env->failpoints, "jsonl.after_rename", err) ||
        files_sync_dir(files, j->dir, err) ||
        FAILPOINT(j->env->failpoints, "jsonl.after_dir_sync", err)) {
        goto done;
    }
    result = PUBLISHED;
done:
    staged->doubt = result == PUBLISH_UNKNOWN || (staged->doubt && result != PUBLISHED);
    if (result == PUBLISHED && renamed == FILES_EXISTS) {
        struct err ignored = ERR_INIT; /* link + unlink that was cut in between: the second name;
                                          the next claim removes it too */
        enum files_result gone = files_unlink(files, staged->path, &ignored);
        (void)gone;
    }
    free(path);
    return result;
}

/* --- recover --- */

static int make_folder(struct jsonl *j, struct err *err) {
    struct files *files = j->env->files;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq;
    bool exists;
    int failed = jsonl_list(files, j->dir, &names, &seq, &exists, err);
    buf_release(&names);
    if (failed || exists) {
        return failed;
    }
    if (files_mkdirs(files, j->dir, DIR_MODE, err) != FILES_OK) {
        return -1;
    }
    /* The new folder's own name must last as well. The parent must sync; those above it may be
     * beyond our rights. */
    char *parent = xstrdup(j->dir);
    bool first = true;
    for (char *slash = strrchr(parent, '/'); slash && !failed; slash = strrchr(parent, '/')) {
        slash[slash == parent ? 1 : 0] = '\0';
        struct err ignored = ERR_INIT;
        int synced = files_sync_dir(files, parent, first ? err : &ignored);
        failed = first && synced;
        first = false;
        if (slash == parent) {
            break;
        }
    }
    free(parent);
    return failed;
}

/* One try to claim: 0 = ours now (j->last is the claim), 1 = somebody committed in between, -1 =
 * error. */
static int claim_once(struct jsonl *j, const struct jsonl_commit *newest, struct err *err) {
    struct jsonl_commit claim;
    jsonl_commit_copy(&claim, newest);
    claim.epoch++;
    claim.seq++;
    claim.rows = 0;
    int result = -1;
    struct jsonl_staged *staged = jsonl_staged_new(j->env, j->dir, claim.seq, err);
    enum published published = PUBLISH_FAILED;
    if (staged && !finish_staged(j, staged, &claim, err) &&
        !FAILPOINT(j->env->failpoints, "jsonl.before_claim", err)) {
        published = publish(j, staged, &claim, false, err);
    }
    if (published == PUBLISHED) {
        jsonl_commit_release(&j->last);
        j->last = claim;
        claim = (struct jsonl_commit){ 0 };
        result = FAILPOINT(j->env->failpoints, "jsonl.after_claim", err);
    } else if (published == PUBLISH_TAKEN) {
        result = 1;
    } else if (published == PUBLISH_UNKNOWN && err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND; /* recover begins anew and sees what became of it */
    }
    jsonl_staged_free(staged, published != PUBLISHED);
    jsonl_commit_release(&claim);
    return result;
}

/* After the claim stands: staged files are all foreign or dead, and so are idle files of older
 * epochs and _schema files that the claim does not name. */
static int remove_foreign(struct jsonl *j, struct err *err) {
    struct files *files = j->env->files;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq;
    bool exists;
    int failed = jsonl_list(files, j->dir, &names, &seq, &exists, err);
    for (size_t at = 0; !failed && at < names.len; at += strlen(names.data + at) + 1) {
        const char *name = names.data + at;
        bool schema =
            jsonl_is_schema_name(name) && (!j->last.schema || strcmp(name, j->last.schema) != 0);
        if (!schema && !jsonl_is_staged_name(name) && strncmp(name, "_idle.", 6) != 0) {
            continue;
        }
        char *path = xasprintf("%s/%s", j->dir, name);
        struct err why = ERR_INIT;
        if (files_unlink(files, path, &why) == FILES_FAILED && j->env->log) {
            log_warn(j->env->log, "commit", "staged_left", "%s",
                     why.text); /* invisible to readers and never trusted */
        }
        free(path);
    }
    buf_release(&names);
    return failed;
}

/* What an earlier run of this object left in memory. */
static void start_over(struct jsonl *j) {
    forget_doubt(j);
    jsonl_staged_free(j->own, true);
    j->own = NULL;
    free(j->next_schema);
    j->next_schema = NULL;
    j->fenced = false;
    j->last.epoch = 0;
}

static int jsonl_recover(struct sink *s, struct sink_state *out, struct err *err) {
    struct jsonl *j = jsonl_of(s);
    start_over(j);
    if (make_folder(j, err)) {
        return -1;
    }
    int claimed = 1;
    bool first = false;
    for (int i = 0; i < CLAIM_TRIES && claimed == 1; i++) {
        struct jsonl_commit newest;
        bool found = false;
        /* What the newest commit needs is read before anything is claimed: a folder that cannot go
         * on stays as it is. */
        if (files_sync_dir(j->env->files, j->dir, err) || look(j, &newest, &found, out, err)) {
            return -1;
        }
        if (!found) {
            newest = (struct jsonl_commit){ .job = xstrdup(j->last.job) };
        }
        first = !found;
        claimed = claim_once(j, &newest, err);
        jsonl_commit_release(&newest);
        if (claimed != 0) {
            sink_state_release(out);
        }
        if (claimed < 0) {
            return -1;
        }
    }
    if (claimed == 1) {
        return err_set(
            err, ERR_REWIND, "jsonl_busy",
            "folder \"%s\": another instance committed during each of %d tries to take over",
            j->dir, CLAIM_TRIES);
    }
    out->knows = first ? TARGET_NOTHING : out->knows; /* before this claim */
    out->epoch = j->last.epoch;
    out->seq = j->last.seq;
    if (remove_foreign(j, err)) {
        sink_state_release(out);
        return -1;
    }
    return 0;
}

/* --- commit --- */

static int write_schemas(struct jsonl *j, struct jsonl_staged *staged, uint64_t seq,
                         const struct commit_request *next, struct err *err) {
    enum { FLUSH_AT = 256 << 10 };
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, "{\"job\":");
    json_put_cstr(&text, j->last.job);
    buf_putf(&text, ",\"epoch\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"tables\":[", j->last.epoch, seq);
    int failed = 0;
    for (uint32_t i = 0; i < next->schema_count && !failed; i++) {
        buf_puts(&text, i > 0 ? ",\n" : "\n");
        schema_put_json(&text, next->schemas[i]);
        if (text.len >= FLUSH_AT) {
            failed = jsonl_staged_write(staged, text.data, text.len, err);
            buf_clear(&text);
        }
    }
    buf_puts(&text, "]}\n");
    failed = failed || jsonl_staged_write(staged, text.data, text.len, err);
    buf_release(&text);
    return failed ? -1 : 0;
}

static int jsonl_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    struct jsonl *j = jsonl_of(s);
    CHECK(j->last.epoch > 0 && next->epoch == j->last.epoch);
    if (j->fenced) {
        return fenced_error(j, err);
    }
    uint64_t seq = j->last.seq + 1;
    char *name = jsonl_schema_name(seq, j->last.epoch);
    char *path = xasprintf("%s/%s", j->dir, name);
    struct jsonl_staged *staged = jsonl_staged_new(j->env, j->dir, seq, err);
    int failed = !staged || write_schemas(j, staged, seq, next, err) ||
                 file_sync(staged->file, err) ||
                 FAILPOINT(j->env->failpoints, "jsonl.before_schema", err);
    enum files_result renamed = FILES_FAILED;
    if (!failed) {
        /* The name carries our epoch: what it may replace is our own earlier try for the same
         * commit. */
        renamed = files_rename_over(j->env->files, staged->path, path, err);
        failed = renamed == FILES_ABSENT ? lost_error(j, err) : renamed != FILES_OK;
    }
    failed = failed || files_sync_dir(j->env->files, j->dir, err) ||
             FAILPOINT(j->env->failpoints, "jsonl.after_schema", err);
    jsonl_staged_free(staged, renamed != FILES_OK);
    free(path);
    if (failed) {
        free(name);
        return -1;
    }
    free(j->next_schema);
    j->next_schema = name;
    return 0;
}

static char *labels_json(const struct commit_request *req) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    buf_putc(&out, '[');
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        if (i > 0) {
            buf_putc(&out, ',');
        }
        json_put_cstr(&out, req->inconsistent[i]);
    }
    buf_putc(&out, ']');
    char *text = xstrdup(buf_cstr(&out));
    buf_release(&out);
    return text;
}

static bool same_position(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The part that has rows; a folder has one writer. */
static struct jsonl_part *part_of_request(const struct commit_request *req) {
    struct jsonl_part *found = NULL;
    for (uint32_t i = 0; i < req->part_count; i++) {
        if (req->parts[i]) {
            CHECK(!found);
            found = jsonl_part_of(req->parts[i]);
        }
    }
    return found;
}

/* The commit line of a request. seq: of the file it stands in or speaks for. */
static struct jsonl_commit line_of(struct jsonl *j, const struct commit_request *req, uint64_t seq,
                                   uint64_t rows, const char *schema) {
    return (struct jsonl_commit){
        .job = xstrdup(j->last.job),
        .epoch = j->last.epoch,
        .seq = seq,
        .rows = rows,
        .schema = schema ? xstrdup(schema) : NULL,
        .position = req->to ? xstrdup(req->to) : NULL,
        .inconsistent = labels_json(req),
    };
}

/* Nothing is recovered from a _schema file but the one that the newest commit names: the one before
 * goes, once that commit stands. What a crash leaves goes at the next claim. */
static void remove_schema(struct jsonl *j, const char *name) {
    char *path = xasprintf("%s/%s", j->dir, name);
    struct err why = ERR_INIT;
    if (files_unlink(j->env->files, path, &why) == FILES_FAILED && j->env->log) {
        log_warn(j->env->log, "commit", "schema_left", "%s", why.text);
    }
    free(path);
}

/* The line stands: it is what the folder says now. */
static enum commit_outcome committed(struct jsonl *j, struct jsonl_commit *take_line) {
    if (j->last.schema && strcmp(j->last.schema, take_line->schema) != 0) {
        remove_schema(j, j->last.schema);
    }
    if (take_line->seq > j->last.seq) {
        free(j->next_schema);
        j->next_schema = NULL;
        jsonl_staged_free(j->own, false);
        j->own = NULL;
    }
    jsonl_commit_release(&j->last);
    j->last = *take_line;
    *take_line = (struct jsonl_commit){ 0 };
    return COMMITTED;
}

static enum commit_outcome unknown(struct jsonl *j, enum doubt doubt,
                                   struct jsonl_commit *take_line, uint64_t size, uint32_t crc) {
    j->doubt = doubt;
    j->doubt_size = size;
    j->doubt_crc = crc;
    jsonl_commit_release(&j->doubtful);
    j->doubtful = *take_line;
    *take_line = (struct jsonl_commit){ 0 };
    return COMMIT_UNKNOWN;
}

static enum commit_outcome commit_file(struct jsonl *j, const struct commit_request *req,
                                       struct jsonl_part *part, struct err *err) {
    uint64_t seq = j->last.seq + 1;
    CHECK(!req->schemas_changed || j->next_schema);
    struct jsonl_commit line = line_of(j, req, seq, part ? part->rows : 0,
                                       j->next_schema ? j->next_schema : j->last.schema);
    enum commit_outcome outcome = COMMIT_FAILED;
    struct jsonl_staged *staged = part ? part->staged : j->own;
    if (!staged) {
        staged = j->own = jsonl_staged_new(j->env, j->dir, seq, err);
    }
    if (staged && !finish_staged(j, staged, &line, err)) {
        switch (publish(j, staged, &line, true, err)) {
        case PUBLISHED:
            outcome = committed(j, &line);
            break;
        case PUBLISH_TAKEN:
            lost_error(j, err);
            outcome = COMMIT_FENCED;
            break;
        case PUBLISH_UNKNOWN:
            outcome = unknown(j, DOUBT_FILE, &line, staged->size, staged->crc);
            break;
        case PUBLISH_FAILED:
            break;
        }
    }
    if (outcome == COMMIT_FAILED || outcome == COMMIT_FENCED) {
        jsonl_staged_free(j->own, true); /* one in doubt keeps its name */
        j->own = NULL;
    }
    jsonl_commit_release(&line);
    return outcome;
}

/* Has nobody committed after us? 1 = somebody has, -1 = error. */
static int superseded(struct jsonl *j, struct err *err) {
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq = 0;
    bool exists;
    int failed = jsonl_list(j->env->files, j->dir, &names, &seq, &exists, err);
    buf_release(&names);
    return failed ? -1 : seq != j->last.seq;
}

static enum commit_outcome idle_fenced(struct jsonl *j, struct err *err) {
    lost_error(j, err);
    return COMMIT_FENCED;
}

/* A commit of nothing but the position. */
static enum commit_outcome commit_idle(struct jsonl *j, const struct commit_request *req,
                                       struct err *err) {
    int newer = superseded(j, err);
    if (newer) {
        return newer > 0 ? idle_fenced(j, err) : COMMIT_FAILED;
    }
    struct jsonl_commit line = line_of(j, req, j->last.seq, 0, j->last.schema);
    char *path = jsonl_idle_path(j->dir, line.epoch);
    enum commit_outcome outcome = COMMIT_FAILED;
    bool renamed_ok = false;
    struct jsonl_staged *staged = jsonl_staged_new(j->env, j->dir, line.seq, err);
    if (staged && !finish_staged(j, staged, &line, err) &&
        !FAILPOINT(j->env->failpoints, "jsonl.before_idle", err)) {
        enum files_result renamed = files_rename_over(j->env->files, staged->path, path, err);
        renamed_ok = renamed == FILES_OK;
        if (renamed == FILES_ABSENT) {
            outcome = idle_fenced(j, err);
        } else if (!renamed_ok || files_sync_dir(j->env->files, j->dir, err) ||
                   FAILPOINT(j->env->failpoints, "jsonl.after_idle", err) ||
                   (newer = superseded(j, err)) < 0) {
            staged->doubt = true;
            outcome = unknown(j, DOUBT_IDLE, &line, staged->size, staged->crc);
        } else {
            outcome = newer > 0 ? idle_fenced(j, err) : committed(j, &line);
        }
    }
    jsonl_staged_free(staged, !renamed_ok);
    free(path);
    jsonl_commit_release(&line);
    return outcome;
}

static enum commit_outcome jsonl_commit(struct sink *s, const struct commit_request *req,
                                        struct err *err) {
    struct jsonl *j = jsonl_of(s);
    CHECK(j->last.epoch > 0 && req->epoch == j->last.epoch && j->doubt == DOUBT_NONE);
    CHECK(!req->to || strlen(req->to) <= JSONL_POSITION_MAX);
    if (j->fenced) {
        fenced_error(j, err);
        return COMMIT_FENCED;
    }
    if (!same_position(req->from, j->last.position)) {
        err_set(err, ERR_REWIND, "jsonl_conflict",
                "folder \"%s\" stands at another position than the commit begins at", j->dir);
        return COMMIT_CONFLICT;
    }
    struct jsonl_part *part = part_of_request(req);
    if (req->position_only && !part && !req->schemas_changed && !j->own) {
        return commit_idle(j, req, err);
    }
    return commit_file(j, req, part, err);
}

/* --- resolve --- */

static enum resolve_outcome resolve_whose(struct jsonl *j, enum whose whose, struct err *err) {
    struct jsonl_commit line = { 0 };
    switch (whose) {
    case WHOSE_OURS:
        jsonl_commit_copy(&line, &j->doubtful);
        forget_doubt(j);
        committed(j, &line);
        return RESOLVED_COMMITTED;
    case WHOSE_OTHERS:
        lost_error(j, err);
        forget_doubt(j);
        return RESOLVED_NOT_COMMITTED;
    case WHOSE_NOBODYS:
        forget_doubt(j);
        return RESOLVED_NOT_COMMITTED;
    case WHOSE_FAILED:
        break;
    }
    return err->kind == ERR_FATAL ? RESOLVE_FAILED : RESOLVE_UNKNOWN;
}

static enum resolve_outcome jsonl_resolve(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    struct jsonl *j = jsonl_of(s);
    CHECK(req->epoch == j->last.epoch);
    if (j->doubt == DOUBT_NONE) { /* asked again, or nothing was in doubt */
        return same_position(req->to, j->last.position) ? RESOLVED_COMMITTED
                                                        : RESOLVED_NOT_COMMITTED;
    }
    CHECK(same_position(req->to, j->doubtful.position));
    if (files_sync_dir(j->env->files, j->dir, err)) {
        return resolve_whose(j, WHOSE_FAILED, err);
    }
    bool idle = j->doubt == DOUBT_IDLE;
    char *path = idle ? jsonl_idle_path(j->dir, j->doubtful.epoch)
                      : jsonl_data_path(j->dir, j->doubtful.seq);
    enum whose whose = whose_file(j, path, &j->doubtful, j->doubt_size, j->doubt_crc, err);
    free(path);
    if (idle && whose == WHOSE_OTHERS) {
        whose = WHOSE_NOBODYS; /* our own earlier position: the name carries our epoch */
    }
    if (idle && whose != WHOSE_FAILED) {
        int newer = superseded(j, err);
        whose = newer == 0 ? whose : newer > 0 ? WHOSE_OTHERS : WHOSE_FAILED;
    }
    return resolve_whose(j, whose, err);
}

static int jsonl_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                             struct err *err) {
    struct jsonl *j = jsonl_of(s);
    (void)err;
    CHECK(number == 0 && j->last.epoch > 0);
    struct jsonl_writer_config config = {
        .env = j->env, .dir = j->dir, .put_logpos = j->put_logpos, .seq = j->last.seq + 1
    };
    jsonl_writer_new(&config, &jsonl_ops, out);
    return 0;
}

static int jsonl_summary(struct sink *s, struct buf *out, struct err *err) {
    (void)s;
    (void)out;
    (void)err;
    return 0;
}

const struct sink_ops jsonl_ops = {
    .name = "jsonl",
    .opts = jsonl_opts,
    .owns_position = true,
    .stages = true,
    .writers_max = 1,
    .freshness_us = 1000000,
    .open = jsonl_open,
    .close = jsonl_close,
    .examine = jsonl_examine,
    .peek = jsonl_peek,
    .recover = jsonl_recover,
    .apply_schema = jsonl_apply_schema,
    .commit = jsonl_commit,
    .resolve = jsonl_resolve,
    .writer_open = jsonl_writer_open,
    .writer_stage = jsonl_writer_stage,
    .writer_seal = jsonl_writer_seal,
    .writer_close = jsonl_writer_close,
    .part_free = jsonl_part_free,
    .summary = jsonl_summary,
};
