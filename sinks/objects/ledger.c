/* The commit side of a ledger. One file a commit; the rename of a staged file to the next number,
 * which never replaces, is the compare-and-set that makes rows and position visible.
 *
 *   recover  fsync DIR, read the newest file's last line, settle it
 *            -> claim: an empty file under the next number -> fsync DIR
 *            -> a position stored since we looked is made ours -> what is left over goes
 *
 *   commit   (apply_schema: _schema staged, fsync, rename, fsync DIR)
 *            commit line -> fsync -> rename -> fsync DIR
 *
 *   idle     nobody has committed since? -> staged, fsync, rename over _idle.<epoch>
 *            -> fsync DIR -> still nobody?
 *
 * Why an older instance cannot commit: it renames to number n+1, which the newer one's claim took;
 * a staged file it still had is gone or its name is taken, and both mean fenced. Its idle file
 * counts only if it was there before the claim, whose maker looks once more.
 *
 * The number of a file is the ledger's own count; commits of a position only do not raise it.
 * Thread: the commit task; writers share nothing with it but staged files. Never opens a
 * staged file again, never writes to a visible one, never deletes what an unknown outcome may have
 * made visible. */
#include "sinks/objects/ledger.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "sinks/objects/store.h"

enum { CLAIM_TRIES = 16, DIR_MODE = 0750 };

enum doubt { DOUBT_NONE, DOUBT_FILE, DOUBT_IDLE };

struct ledger {
    struct ledger_config config;
    struct env *env;
    struct ledger_place place; /* its dir is owned */
    struct ledger_line
        last;          /* what the folder says; epoch 0 = not recovered. last.job is always set */
    char *next_schema; /* name written by apply_schema for the next commit; NULL = none */
    bool fenced;
    struct ledger_staged *own; /* of a commit without rows: kept while its outcome is unknown */
    enum doubt doubt;
    uint64_t doubt_size;
    uint32_t doubt_crc;
    struct ledger_line doubtful; /* the commit line in doubt */
};

static int bad_address(const char *scheme, const char *why, struct err *err) {
    struct ledger_place place = { .scheme = scheme };
    err_set(err, ERR_FATAL, ledger_code(&place, "address").text, "%s: %s", scheme, why);
    err_cure(err, "%s:///absolute/folder", scheme);
    return err_exit(err, EXIT_USAGE);
}

char *ledger_address(const struct sink_address *addr, const char *scheme, struct err *err) {
    if ((addr->hosts && *addr->hosts) || addr->user || addr->secret) {
        bad_address(scheme, "a folder has no host: write three slashes", err);
        return NULL;
    }
    if (!addr->path || addr->path[0] != '/') {
        bad_address(scheme, "the folder must be an absolute path", err);
        return NULL;
    }
    size_t len = strlen(addr->path);
    while (len > 0 && addr->path[len - 1] == '/') {
        len--;
    }
    if (len == 0) {
        bad_address(scheme, "the root folder cannot hold a job", err);
        return NULL;
    }
    return xstrndup(addr->path, len);
}

struct ledger *ledger_new(const struct ledger_config *config) {
    struct ledger *l = xcalloc(1, sizeof *l);
    l->config = *config;
    l->env = config->env;
    l->place = (struct ledger_place){ .files = config->env->files,
                                      .dir = xstrdup(config->dir),
                                      .scheme = config->scheme };
    l->last.job = xstrdup(config->job);
    return l;
}

const struct ledger_place *ledger_place(const struct ledger *l) { return &l->place; }
uint64_t ledger_epoch(const struct ledger *l) { return l->last.epoch; }
uint64_t ledger_seq(const struct ledger *l) { return l->last.seq; }

static int at_point(struct ledger *l, enum ledger_point point, struct err *err) {
    return UNLIKELY(l->env->failpoints != NULL) ? l->config.point(l->env->failpoints, point, err)
                                                : 0;
}

static void forget_doubt(struct ledger *l) {
    l->doubt = DOUBT_NONE;
    ledger_line_release(&l->doubtful);
}

void ledger_free(struct ledger *l) {
    forget_doubt(l);
    ledger_staged_free(l->own, true);
    ledger_line_release(&l->last);
    free(l->next_schema);
    free((char *)l->place.dir);
    free(l);
}

/* Fills a sink_state from a commit line. */
static int state_of(struct ledger *l, const struct ledger_line *c, struct sink_state *out,
                    struct err *err) {
    *out = (struct sink_state){ .knows = c->position ? TARGET_POSITION : TARGET_CLAIM,
                                .epoch = c->epoch,
                                .seq = c->seq };
    if (c->schema &&
        ledger_read_schemas(&l->place, c->schema, &out->schemas, &out->schema_count, err)) {
        return -1;
    }
    out->position = c->position ? xstrdup(c->position) : NULL;
    return 0;
}

/* The newest commit and what it needs; out is empty without one. A _schema file that is gone went
 * with a newer commit, or is missing: another look tells. */
static int look(struct ledger *l, struct ledger_line *newest, bool *found, struct sink_state *out,
                struct err *err) {
    uint64_t seq_before = 0;
    for (int tries = 0;; tries++) {
        *out = (struct sink_state){ .knows = TARGET_NOTHING };
        if (ledger_read(&l->place, l->last.job, newest, found, err)) {
            return -1;
        }
        if (!*found || state_of(l, newest, out, err) == 0) {
            return 0;
        }
        uint64_t seq = newest->seq;
        ledger_line_release(newest);
        if (strcmp(err->code, ledger_code(&l->place, "schema_missing").text) != 0 ||
            seq == seq_before || tries == CLAIM_TRIES) {
            return -1;
        }
        seq_before = seq;
        err_clear(err);
    }
}

int ledger_peek(struct ledger *l, struct sink_state *out, struct err *err) {
    struct ledger_line newest;
    bool found = false;
    int failed = look(l, &newest, &found, out, err);
    if (!failed) {
        ledger_line_release(&newest);
    }
    return failed;
}

/* A folder that this user may not use is a finding, like a missing GRANT. What else fails says what
 * it is itself: a damaged file, another job, a disk. */
int ledger_examine(struct ledger *l, struct source_findings *out, struct err *err) {
    struct sink_state state;
    int failed = ledger_peek(l, &state, err);
    if (!failed) {
        sink_state_release(&state);
        failed = store_folder_may_write(l->env->files, l->place.dir, err);
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

static int fenced_error(struct ledger *l, struct err *err) {
    l->fenced = true;
    err_set(err, ERR_FATAL, "fenced",
            "folder \"%s\": a newer instance of job \"%s\" has taken over", l->place.dir,
            l->last.job);
    err_cure(err, "nothing: the newer instance goes on; `tailrace status` shows it on its machine");
    return err_exit(err, EXIT_FENCED);
}

/* What we staged is gone, its name is taken, or the newest file is not ours: why? A newer instance
 * has a higher number. Where the highest is lower than ours the newest file was moved away, and
 * where it is ours only the staged file was, by whom nobody can say. */
static int lost_error(struct ledger *l, struct err *err) {
    uint64_t seq = 0;
    bool exists = false;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    err_clear(err);
    int failed = ledger_list(&l->place, &names, &seq, &exists, err);
    buf_release(&names);
    err_clear(err);
    if (failed || seq > l->last.seq) {
        return fenced_error(l, err);
    }
    l->fenced = true;
    if (seq < l->last.seq) {
        return ledger_moved(&l->place, l->last.seq, err);
    }
    err_set(err, ERR_FATAL, "fenced",
            "folder \"%s\": the file that was being written was removed, by a newer instance of "
            "job \"%s\" or by hand",
            l->place.dir, l->last.job);
    err_cure(err, "leave names that begin with . or _ alone, and start the job again");
    return err_exit(err, EXIT_FENCED);
}

/* --- one staged file to its visible name --- */

enum published { PUBLISH_FAILED = -1, PUBLISHED = 0, PUBLISH_TAKEN, PUBLISH_UNKNOWN };

enum whose { WHOSE_FAILED = -1, WHOSE_OURS, WHOSE_OTHERS, WHOSE_NOBODYS };

/* Is the visible file of a commit the one we staged? Same epoch means same instance; size and
 * checksum mean the same bytes. */
static enum whose whose_file(struct ledger *l, const char *path, const struct ledger_line *c,
                             uint64_t size, uint32_t crc, struct err *err) {
    struct ledger_line found;
    enum files_result read = ledger_read_line(&l->place, path, &found, err);
    if (read != FILES_OK) {
        return read == FILES_ABSENT ? WHOSE_NOBODYS : WHOSE_FAILED;
    }
    bool same = found.epoch == c->epoch && found.seq == c->seq && strcmp(found.job, c->job) == 0;
    ledger_line_release(&found);
    if (!same) {
        return WHOSE_OTHERS;
    }
    uint64_t found_size = 0;
    uint32_t found_crc = 0;
    read = ledger_checksum(l->env->files, path, &found_size, &found_crc, err);
    if (read != FILES_OK) {
        return read == FILES_ABSENT ? WHOSE_NOBODYS : WHOSE_FAILED;
    }
    return found_size == size && found_crc == crc ? WHOSE_OURS : WHOSE_OTHERS;
}

/* The commit line ends a staged file, which is then synced. Once only: a retry finds it done. */
static int finish_staged(struct ledger *l, struct ledger_staged *staged,
                         const struct ledger_line *c, struct err *err) {
    const char *to = c->position ? c->position : "null";
    if (staged->to) {
        CHECK(strcmp(staged->to, to) ==
              0); /* the same file is tried again only with the same position */
        return 0;
    }
    struct buf line;
    buf_init(&line, SIZE_MAX);
    ledger_line_put(&line, c);
    int failed = ledger_staged_write(staged, line.data, line.len, err);
    buf_release(&line);
    if (failed) {
        return -1; /* RETRY is true: the file took the line back */
    }
    staged->to = xstrdup(to);
    if (at_point(l, LEDGER_BEFORE_FSYNC, err) || file_sync(staged->file, err)) {
        if (err->kind == ERR_RETRY) {
            err->kind = ERR_REWIND; /* a failed sync is never tried again on the same file */
        }
        return -1;
    }
    return 0;
}

/* Renames a finished staged file to its number. TAKEN: another instance was first. known: a file
 * with the same bytes is ours; not so of claims, which two instances write alike. */
static enum published publish(struct ledger *l, struct ledger_staged *staged,
                              const struct ledger_line *c, bool known, struct err *err) {
    struct files *files = l->env->files;
    char *path = ledger_data_path(l->place.dir, c->seq);
    enum published result = PUBLISH_UNKNOWN;
    enum files_result renamed = FILES_OK;
    if (at_point(l, LEDGER_BEFORE_RENAME, err)) {
        result = PUBLISH_FAILED;
        goto done;
    }
    renamed = files_rename_new(files, staged->path, path, err);
    if (renamed == FILES_FAILED) {
        goto done;
    }
    if (renamed != FILES_OK) {
        enum whose whose =
            known ? whose_file(l, path, c, staged->size, staged->crc, err) : WHOSE_OTHERS;
        if (whose == WHOSE_FAILED) {
            goto done;
        }
        if (whose != WHOSE_OURS) {
            result = PUBLISH_TAKEN;
            goto done;
        }
    }
    if (at_point(l, LEDGER_AFTER_RENAME, err) || files_sync_dir(files, l->place.dir, err) ||
        at_point(l, LEDGER_AFTER_DIR_SYNC, err)) {
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

int ledger_make_folder(const struct ledger_place *place, struct err *err) {
    struct files *files = place->files;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq;
    bool exists;
    int failed = ledger_list(place, &names, &seq, &exists, err);
    buf_release(&names);
    if (failed || (!exists && files_mkdirs(files, place->dir, DIR_MODE, err) != FILES_OK)) {
        return -1;
    }
    /* Also of one that was there: an instance may have died between making it and this. */
    return store_folder_keep(files, place->dir, err);
}

/* One try to claim: 0 = ours now (l->last is the claim), 1 = somebody committed in between, -1 =
 * error. */
static int claim_once(struct ledger *l, const struct ledger_line *newest, struct err *err) {
    struct ledger_line claim;
    ledger_line_copy(&claim, newest);
    claim.epoch++;
    claim.seq++;
    claim.rows = 0;
    int result = -1;
    struct ledger_staged *staged = ledger_staged_new(l->env, &l->place, claim.seq, err);
    enum published published = PUBLISH_FAILED;
    if (staged && !finish_staged(l, staged, &claim, err) &&
        !at_point(l, LEDGER_BEFORE_CLAIM, err)) {
        published = publish(l, staged, &claim, false, err);
    }
    if (published == PUBLISHED) {
        ledger_line_release(&l->last);
        l->last = claim;
        claim = (struct ledger_line){ 0 };
        result = at_point(l, LEDGER_AFTER_CLAIM, err);
    } else if (published == PUBLISH_TAKEN) {
        result = 1;
    } else if (published == PUBLISH_UNKNOWN && err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND; /* recover begins anew and sees what became of it */
    }
    ledger_staged_free(staged, published != PUBLISHED);
    ledger_line_release(&claim);
    return result;
}

/* Numbers up to our claim's are taken: what was staged for them is dead, and so are _schema files
 * that the claim does not name, and idle files of older epochs. Higher ones are of an instance
 * newer than us, if we are slow. */
static bool is_left_over(const struct ledger *l, const char *name) {
    if (ledger_is_schema_name(name)) {
        return strtoull(name + sizeof "_schema." - 1, NULL, 10) <= l->last.seq &&
               (!l->last.schema || strcmp(name, l->last.schema) != 0);
    }
    if (ledger_is_staged_name(name)) {
        return strtoull(name + 1, NULL, 10) <= l->last.seq;
    }
    return strncmp(name, "_idle.", 6) == 0 &&
           strtoull(name + sizeof "_idle." - 1, NULL, 10) < l->last.epoch;
}

/* After the claim stands. */
static int remove_foreign(struct ledger *l, struct err *err) {
    struct files *files = l->env->files;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq;
    bool exists;
    int failed = ledger_list(&l->place, &names, &seq, &exists, err);
    for (size_t at = 0; !failed && at < names.len; at += strlen(names.data + at) + 1) {
        const char *name = names.data + at;
        if (!is_left_over(l, name)) {
            continue;
        }
        char *path = xasprintf("%s/%s", l->place.dir, name);
        struct err why = ERR_INIT;
        if (files_unlink(files, path, &why) == FILES_FAILED && l->env->log) {
            log_warn(l->env->log, "commit", "staged_left", "%s",
                     why.text); /* invisible to readers and never trusted */
        }
        free(path);
    }
    buf_release(&names);
    return failed;
}

/* What an earlier run of this object left in memory. */
static void start_over(struct ledger *l) {
    forget_doubt(l);
    ledger_staged_free(l->own, true);
    l->own = NULL;
    free(l->next_schema);
    l->next_schema = NULL;
    l->fenced = false;
    l->last.epoch = 0;
}

/* The instance before may have stored a position between our look and our claim. It is taken over
 * and stored as ours, before its own file goes. */
static int take_late_idle(struct ledger *l, struct sink_state *out, struct err *err) {
    struct ledger_line now;
    bool found = false;
    if (ledger_read(&l->place, l->last.job, &now, &found, err)) {
        return -1;
    }
    bool ours = found && now.epoch == l->last.epoch && now.seq == l->last.seq;
    bool late =
        ours && now.position && (!l->last.position || strcmp(now.position, l->last.position) != 0);
    int failed = 0;
    if (late) {
        struct ledger_staged *staged = ledger_staged_new(l->env, &l->place, now.seq, err);
        char *path = ledger_idle_path(l->place.dir, now.epoch);
        bool renamed = staged && !finish_staged(l, staged, &now, err) &&
                       files_rename_over(l->env->files, staged->path, path, err) == FILES_OK;
        failed = !renamed || files_sync_dir(l->env->files, l->place.dir, err) ? -1 : 0;
        ledger_staged_free(staged, !renamed);
        free(path);
        if (!failed) {
            free(out->position);
            out->position = xstrdup(now.position);
            out->knows = TARGET_POSITION;
            char *before = l->last.position;
            l->last.position = now.position;
            now.position = before;
        }
    }
    ledger_line_release(&now);
    return failed;
}

int ledger_recover(struct ledger *l, struct sink_state *out, struct err *err) {
    start_over(l);
    if (ledger_make_folder(&l->place, err)) {
        return -1;
    }
    int claimed = 1;
    bool first = false;
    for (int i = 0; i < CLAIM_TRIES && claimed == 1; i++) {
        struct ledger_line newest;
        bool found = false;
        /* What the newest commit needs is read before anything is claimed: a folder that cannot go
         * on stays as it is. */
        if (files_sync_dir(l->env->files, l->place.dir, err) ||
            look(l, &newest, &found, out, err)) {
            return -1;
        }
        if (found && l->config.settle && l->config.settle(l->config.arg, &newest, err)) {
            ledger_line_release(&newest);
            sink_state_release(out);
            return -1;
        }
        if (!found) {
            newest = (struct ledger_line){ .job = xstrdup(l->last.job) };
        }
        first = !found;
        claimed = claim_once(l, &newest, err);
        ledger_line_release(&newest);
        if (claimed != 0) {
            sink_state_release(out);
        }
        if (claimed < 0) {
            return -1;
        }
    }
    if (claimed == 1) {
        return err_set(
            err, ERR_REWIND, ledger_code(&l->place, "busy").text,
            "folder \"%s\": another instance committed during each of %d tries to take over",
            l->place.dir, CLAIM_TRIES);
    }
    out->knows = first ? TARGET_NOTHING : out->knows; /* before this claim */
    out->epoch = l->last.epoch;
    out->seq = l->last.seq;
    if (take_late_idle(l, out, err) || remove_foreign(l, err)) {
        sink_state_release(out);
        return -1;
    }
    return 0;
}

/* --- commit --- */

static int write_schemas(struct ledger *l, struct ledger_staged *staged, uint64_t seq,
                         const struct commit_request *next, struct err *err) {
    enum { FLUSH_AT = 256 << 10 };
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, "{\"job\":");
    json_put_cstr(&text, l->last.job);
    buf_putf(&text, ",\"epoch\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"tables\":[", l->last.epoch, seq);
    int failed = 0;
    for (uint32_t i = 0; i < next->schema_count && !failed; i++) {
        buf_puts(&text, i > 0 ? ",\n" : "\n");
        schema_put_json(&text, next->schemas[i]);
        if (text.len >= FLUSH_AT) {
            failed = ledger_staged_write(staged, text.data, text.len, err);
            buf_clear(&text);
        }
    }
    buf_puts(&text, "]}\n");
    failed = failed || ledger_staged_write(staged, text.data, text.len, err);
    buf_release(&text);
    return failed ? -1 : 0;
}

int ledger_apply_schema(struct ledger *l, const struct commit_request *next, struct err *err) {
    CHECK(l->last.epoch > 0 && next->epoch == l->last.epoch);
    if (l->fenced) {
        return fenced_error(l, err);
    }
    uint64_t seq = l->last.seq + 1;
    char *name = ledger_schema_name(seq, l->last.epoch);
    char *path = xasprintf("%s/%s", l->place.dir, name);
    struct ledger_staged *staged = ledger_staged_new(l->env, &l->place, seq, err);
    int failed = !staged || write_schemas(l, staged, seq, next, err) ||
                 file_sync(staged->file, err) || at_point(l, LEDGER_BEFORE_SCHEMA, err);
    enum files_result renamed = FILES_FAILED;
    if (!failed) {
        /* The name carries our epoch: what it may replace is our own earlier try for the same
         * commit. */
        renamed = files_rename_over(l->env->files, staged->path, path, err);
        failed = renamed == FILES_ABSENT ? lost_error(l, err) : renamed != FILES_OK;
    }
    failed = failed || files_sync_dir(l->env->files, l->place.dir, err) ||
             at_point(l, LEDGER_AFTER_SCHEMA, err);
    ledger_staged_free(staged, renamed != FILES_OK);
    free(path);
    if (failed) {
        free(name);
        return -1;
    }
    free(l->next_schema);
    l->next_schema = name;
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

/* The commit line of a request. seq: of the file it stands in or speaks for. */
static struct ledger_line line_of(struct ledger *l, const struct commit_request *req, uint64_t seq,
                                  uint64_t rows, const char *schema) {
    return (struct ledger_line){
        .job = xstrdup(l->last.job),
        .epoch = l->last.epoch,
        .seq = seq,
        .rows = rows,
        .schema = schema ? xstrdup(schema) : NULL,
        .position = req->to ? xstrdup(req->to) : NULL,
        .inconsistent = labels_json(req),
    };
}

/* Nothing is recovered from a _schema file but the one that the newest commit names: the one before
 * goes, once that commit stands. What a crash leaves goes at the next claim. */
static void remove_schema(struct ledger *l, const char *name) {
    char *path = xasprintf("%s/%s", l->place.dir, name);
    struct err why = ERR_INIT;
    if (files_unlink(l->env->files, path, &why) == FILES_FAILED && l->env->log) {
        log_warn(l->env->log, "commit", "schema_left", "%s", why.text);
    }
    free(path);
}

/* The line stands: it is what the folder says now. */
static enum commit_outcome committed(struct ledger *l, struct ledger_line *take_line) {
    if (l->last.schema && strcmp(l->last.schema, take_line->schema) != 0) {
        remove_schema(l, l->last.schema);
    }
    if (take_line->seq > l->last.seq) {
        free(l->next_schema);
        l->next_schema = NULL;
        ledger_staged_free(l->own, false);
        l->own = NULL;
    }
    ledger_line_release(&l->last);
    l->last = *take_line;
    *take_line = (struct ledger_line){ 0 };
    return COMMITTED;
}

static enum commit_outcome unknown(struct ledger *l, enum doubt doubt,
                                   struct ledger_line *take_line, uint64_t size, uint32_t crc) {
    l->doubt = doubt;
    l->doubt_size = size;
    l->doubt_crc = crc;
    ledger_line_release(&l->doubtful);
    l->doubtful = *take_line;
    *take_line = (struct ledger_line){ 0 };
    return COMMIT_UNKNOWN;
}

static enum commit_outcome commit_file(struct ledger *l, const struct commit_request *req,
                                       struct ledger_staged *staged, uint64_t rows,
                                       struct err *err) {
    uint64_t seq = l->last.seq + 1;
    CHECK(!req->schemas_changed || l->next_schema);
    struct ledger_line line =
        line_of(l, req, seq, rows, l->next_schema ? l->next_schema : l->last.schema);
    enum commit_outcome outcome = COMMIT_FAILED;
    staged = staged ? staged : l->own;
    if (!staged) {
        staged = l->own = ledger_staged_new(l->env, &l->place, seq, err);
    }
    if (staged && !finish_staged(l, staged, &line, err)) {
        switch (publish(l, staged, &line, true, err)) {
        case PUBLISHED:
            outcome = committed(l, &line);
            break;
        case PUBLISH_TAKEN:
            lost_error(l, err);
            outcome = COMMIT_FENCED;
            break;
        case PUBLISH_UNKNOWN:
            outcome = unknown(l, DOUBT_FILE, &line, staged->size, staged->crc);
            break;
        case PUBLISH_FAILED:
            break;
        }
    }
    if (outcome == COMMIT_FAILED || outcome == COMMIT_FENCED) {
        ledger_staged_free(l->own, true); /* one in doubt keeps its name */
        l->own = NULL;
    }
    ledger_line_release(&line);
    return outcome;
}

/* Has nobody committed after us? 1 = somebody has, -1 = error. */
static int superseded(struct ledger *l, struct err *err) {
    struct buf names;
    buf_init(&names, SIZE_MAX);
    uint64_t seq = 0;
    bool exists;
    int failed = ledger_list(&l->place, &names, &seq, &exists, err);
    buf_release(&names);
    return failed ? -1 : seq != l->last.seq;
}

static enum commit_outcome idle_fenced(struct ledger *l, struct err *err) {
    lost_error(l, err);
    return COMMIT_FENCED;
}

/* A commit of nothing but the position. */
static enum commit_outcome commit_idle(struct ledger *l, const struct commit_request *req,
                                       struct err *err) {
    int newer = superseded(l, err);
    if (newer) {
        return newer > 0 ? idle_fenced(l, err) : COMMIT_FAILED;
    }
    struct ledger_line line = line_of(l, req, l->last.seq, 0, l->last.schema);
    char *path = ledger_idle_path(l->place.dir, line.epoch);
    enum commit_outcome outcome = COMMIT_FAILED;
    bool renamed_ok = false;
    struct ledger_staged *staged = ledger_staged_new(l->env, &l->place, line.seq, err);
    if (staged && !finish_staged(l, staged, &line, err) && !at_point(l, LEDGER_BEFORE_IDLE, err)) {
        enum files_result renamed = files_rename_over(l->env->files, staged->path, path, err);
        renamed_ok = renamed == FILES_OK;
        if (renamed == FILES_ABSENT) {
            outcome = idle_fenced(l, err);
        } else if (!renamed_ok || files_sync_dir(l->env->files, l->place.dir, err) ||
                   at_point(l, LEDGER_AFTER_IDLE, err) || (newer = superseded(l, err)) < 0) {
            staged->doubt = true;
            outcome = unknown(l, DOUBT_IDLE, &line, staged->size, staged->crc);
        } else {
            outcome = newer > 0 ? idle_fenced(l, err) : committed(l, &line);
        }
    }
    ledger_staged_free(staged, !renamed_ok);
    free(path);
    ledger_line_release(&line);
    return outcome;
}

enum commit_outcome ledger_commit(struct ledger *l, const struct commit_request *req,
                                  struct ledger_staged *staged, uint64_t rows, struct err *err) {
    CHECK(l->last.epoch > 0 && req->epoch == l->last.epoch && l->doubt == DOUBT_NONE);
    CHECK(!req->to || strlen(req->to) <= LEDGER_POSITION_MAX);
    if (l->fenced) {
        fenced_error(l, err);
        return COMMIT_FENCED;
    }
    if (!same_position(req->from, l->last.position)) {
        err_set(err, ERR_REWIND, ledger_code(&l->place, "conflict").text,
                "folder \"%s\" stands at another position than the commit begins at", l->place.dir);
        return COMMIT_CONFLICT;
    }
    if (req->position_only && !staged && !req->schemas_changed && !l->own) {
        return commit_idle(l, req, err);
    }
    return commit_file(l, req, staged, rows, err);
}

/* --- resolve --- */

static enum resolve_outcome resolve_whose(struct ledger *l, enum whose whose, struct err *err) {
    struct ledger_line line = { 0 };
    switch (whose) {
    case WHOSE_OURS:
        ledger_line_copy(&line, &l->doubtful);
        forget_doubt(l);
        committed(l, &line);
        return RESOLVED_COMMITTED;
    case WHOSE_OTHERS:
        lost_error(l, err);
        forget_doubt(l);
        return RESOLVED_NOT_COMMITTED;
    case WHOSE_NOBODYS:
        forget_doubt(l);
        return RESOLVED_NOT_COMMITTED;
    case WHOSE_FAILED:
        break;
    }
    return err->kind == ERR_FATAL ? RESOLVE_FAILED : RESOLVE_UNKNOWN;
}

enum resolve_outcome ledger_resolve(struct ledger *l, const struct commit_request *req,
                                    struct err *err) {
    CHECK(req->epoch == l->last.epoch);
    if (l->doubt == DOUBT_NONE) { /* asked again, or nothing was in doubt */
        return same_position(req->to, l->last.position) ? RESOLVED_COMMITTED
                                                        : RESOLVED_NOT_COMMITTED;
    }
    CHECK(same_position(req->to, l->doubtful.position));
    if (files_sync_dir(l->env->files, l->place.dir, err)) {
        return resolve_whose(l, WHOSE_FAILED, err);
    }
    bool idle = l->doubt == DOUBT_IDLE;
    char *path = idle ? ledger_idle_path(l->place.dir, l->doubtful.epoch)
                      : ledger_data_path(l->place.dir, l->doubtful.seq);
    enum whose whose = whose_file(l, path, &l->doubtful, l->doubt_size, l->doubt_crc, err);
    free(path);
    if (idle && whose == WHOSE_OTHERS) {
        whose = WHOSE_NOBODYS; /* our own earlier position: the name carries our epoch */
    }
    if (idle && whose != WHOSE_FAILED) {
        int newer = superseded(l, err);
        whose = newer == 0 ? whose : newer > 0 ? WHOSE_OTHERS : WHOSE_FAILED;
    }
    return resolve_whose(l, whose, err);
}
