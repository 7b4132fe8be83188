/* The parquet sink: the commit side. What is committed stands in the files of a ledger
 * (sinks/objects/ledger.c: compare-and-set, claim, doubt); here the files with the rows get their
 * visible names.
 *
 *   recover  settle the newest commit: names for its files -> claim -> remove staged files of older
 *            epochs
 *   commit   (rows are whole, synced, in their folders under staged names) -> commit file with both
 *            names of each -> published -> renames, never replacing -> folders synced -> COMMITTED
 *
 * Why both names are exact: a rename is done by whoever finds the commit standing and the file not
 * yet visible: us, or the next instance before its claim, or both at once; the second finds it
 * done. The next commit begins only after all names stand, so only the newest commit can lack some.
 * Why nobody removes what a newer instance stages: staged names say the epoch, and only older ones
 * go. A rename that fails after the commit stands is an unknown outcome, and resolve tries again.
 *
 * Thread: the commit task; pqlog_writer.c shares nothing with it but parts. Never reads rows back,
 * never deletes what a commit names. */
#include "sinks/changelog_parquet/pqlog.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/map.h"
#include "sinks/changelog_parquet/pqlog_writer.h"
#include "sinks/objects/ledger.h"
#include "sinks/parquet/parquet_choice.h"

enum { FILES_OPEN_MAX = 64 };

struct pqlog {
    struct sink base;
    struct env *env;
    char *dir, *commits;
    char *job, *prefix;
    char *text; /* of text=; NULL */
    struct store *store;
    struct ledger *ledger;
    struct parquet_options parquet;
    int (*put_logpos)(struct buf *out, struct logpos pos);
};

static const struct opt_spec pqlog_opts[] = {
    { .key = "freshness",
      .type = OPT_DURATION,
      .fallback = "10s",
      .min = 100 * 1000,
      .max = INT64_C(3600) * 1000 * 1000,
      .doc = "time between two commits while rows arrive" },
    PARQUET_CHOICE_OPTIONS,
    { .key = "prefix",
      .type = OPT_TEXT,
      .fallback = "_",
      .doc = "how the names of the columns begin that describe a change: _op, _order, ..." },
    { .key = "text",
      .type = OPT_TEXT,
      .doc = "columns stored as strings whatever their type: a,public.t.b (for values that Parquet "
             "has no form for)" },
    { .key = NULL },
};

static struct pqlog *pqlog_of(struct sink *s) {
    return (struct pqlog *)s; /* base is its first member */
}

static int pqlog_point(struct failpoints *fp, enum ledger_point point, struct err *err) {
    switch (point) {
    case LEDGER_BEFORE_FSYNC:
        return FAILPOINT(fp, "parquet.before_fsync", err);
    case LEDGER_BEFORE_RENAME:
        return FAILPOINT(fp, "parquet.before_rename", err);
    case LEDGER_AFTER_RENAME:
        return FAILPOINT(fp, "parquet.after_rename", err);
    case LEDGER_AFTER_DIR_SYNC:
        return FAILPOINT(fp, "parquet.after_dir_sync", err);
    case LEDGER_BEFORE_CLAIM:
        return FAILPOINT(fp, "parquet.before_claim", err);
    case LEDGER_AFTER_CLAIM:
        return FAILPOINT(fp, "parquet.after_claim", err);
    case LEDGER_BEFORE_SCHEMA:
        return FAILPOINT(fp, "parquet.before_schema", err);
    case LEDGER_AFTER_SCHEMA:
        return FAILPOINT(fp, "parquet.after_schema", err);
    case LEDGER_BEFORE_IDLE:
        return FAILPOINT(fp, "parquet.before_idle", err);
    case LEDGER_AFTER_IDLE:
        return FAILPOINT(fp, "parquet.after_idle", err);
    }
    CHECK(!"a point that does not exist");
    return -1;
}

/* ---- names for a commit's files ---- */

static int file_gone(const char *path, struct err *err) {
    err_set(err, ERR_FATAL, "parquet_moved", "\"%s\" is gone: the newest commit names it", path);
    err_cure(err, "put it back; or start the job anew: tailrace drop, then an empty folder");
    return err_exit(err, EXIT_LINEAGE);
}

/* There is no staged file: then it has its name already. */
static int check_named(struct files *files, const struct pqlog_entry *e, const char *path,
                       struct err *err) {
    struct file *file = NULL;
    uint64_t size = 0;
    enum files_result opened = files_open_read(files, path, &file, err);
    if (opened != FILES_OK) {
        return opened == FILES_ABSENT ? file_gone(path, err) : -1;
    }
    int failed = file_size(file, &size, err);
    file_close(file);
    if (!failed && size != e->bytes) {
        err_set(err, ERR_FATAL, "parquet_damaged",
                "\"%s\" has %" PRIu64 " bytes, the newest commit says %" PRIu64, path, size,
                e->bytes);
        failed = err_cure(err, "restore the file from a copy");
    }
    return failed;
}

/* Both names are there. The same bytes: a rename as link + unlink was cut in between. */
static int drop_staged(struct files *files, const struct pqlog_entry *e, const char *staged,
                       const char *path, struct err *err) {
    uint64_t size = 0;
    uint32_t crc = 0;
    enum files_result read = ledger_checksum(files, path, &size, &crc, err);
    if (read != FILES_OK) {
        return read == FILES_ABSENT ? file_gone(path, err) : -1;
    }
    if (size != e->bytes || crc != e->crc) {
        err_set(err, ERR_FATAL, "parquet_taken",
                "\"%s\" has the name of a file of the newest commit, and other bytes", path);
        return err_cure(err, "move it out of the folder, and start the job again");
    }
    return files_unlink(files, staged, err) == FILES_FAILED ? -1 : 0;
}

static int name_file(struct pqlog *p, const struct pqlog_entry *e, struct err *err) {
    struct files *files = p->env->files;
    char *staged = xasprintf("%s/%s/%s", p->dir, e->folder, e->staged);
    char *path = xasprintf("%s/%s/%s", p->dir, e->folder, e->name);
    int failed = -1;
    switch (files_rename_new(files, staged, path, err)) {
    case FILES_OK:
        failed = 0;
        break;
    case FILES_ABSENT:
        failed = check_named(files, e, path, err);
        break;
    case FILES_EXISTS:
        failed = drop_staged(files, e, staged, path, err);
        break;
    case FILES_FAILED:
        break;
    }
    free(staged);
    free(path);
    return failed;
}

static int sync_folder(struct pqlog *p, const char *folder, struct err *err) {
    char *path = xasprintf("%s/%s", p->dir, folder);
    int failed = files_sync_dir(p->env->files, path, err);
    free(path);
    return failed;
}

/* All files of a commit that stands get their names, for good. May be done again. */
static int name_files(struct pqlog *p, const struct pqlog_entries *files, struct err *err) {
    struct failpoints *fp = p->env->failpoints;
    if (files->count == 0) {
        return 0;
    }
    if (FAILPOINT(fp, "parquet.before_naming", err)) {
        return -1;
    }
    for (uint32_t i = 0; i < files->count; i++) {
        if (name_file(p, &files->at[i], err) || FAILPOINT(fp, "parquet.after_name", err)) {
            return -1;
        }
    }
    struct map *synced = map_new();
    int failed = 0;
    for (uint32_t i = 0; i < files->count && !failed; i++) {
        const char *folder = files->at[i].folder;
        if (!map_set(synced, folder, strlen(folder), synced)) {
            failed = sync_folder(p, folder, err);
        }
    }
    map_free(synced, NULL);
    return failed ? -1 : FAILPOINT(fp, "parquet.after_naming", err);
}

/* What an older instance may have left of the newest commit. */
static int settle(void *arg, const struct ledger_line *newest, struct err *err) {
    struct pqlog *p = arg;
    struct pqlog_entries files = { 0 };
    struct buf text;
    buf_init(&text, UINT32_MAX);
    char *path = ledger_data_path(p->commits, newest->seq);
    int failed = -1;
    enum files_result read = ledger_read_whole(ledger_place(p->ledger), path, &text, err);
    if (read == FILES_ABSENT) {
        err_set(err, ERR_REWIND, "parquet_moved", "\"%s\" was moved away while it was read", path);
    } else if (read == FILES_OK && pqlog_entries_take(text.data, text.len, &files)) {
        err_set(err, ERR_FATAL, "parquet_damaged", "\"%s\" names a file that cannot be ours", path);
        err_cure(err, "restore the file from a copy");
    } else if (read == FILES_OK) {
        failed = name_files(p, &files, err);
    }
    pqlog_entries_release(&files);
    buf_release(&text);
    free(path);
    return failed;
}

/* ---- the door ---- */

static void take_options(struct pqlog *p, const struct opts *o) {
    const char *text = opts_text(o, "text");
    p->parquet = parquet_chosen(o);
    p->parquet.group_bytes = p->env->memory_bytes / 8;
    p->prefix = xstrdup(opts_text(o, "prefix"));
    p->text = text ? xstrdup(text) : NULL;
}

static int bad_prefix(const char *prefix, struct err *err) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t len = strlen(prefix);
    if (len >= 1 && len <= 20 && strspn(prefix, good) == len) {
        return 0;
    }
    err_set(err, ERR_FATAL, "option_value", "prefix=%s: not 1 to 20 letters, digits and _", prefix);
    err_cure(err, "?prefix=_tailrace_");
    return err_exit(err, EXIT_USAGE);
}

static int pqlog_open(const struct sink_address *addr, struct env *env, struct sink **out,
                      struct err *err) {
    char *dir = ledger_address(addr, pqlog_ops.name, err);
    if (!dir) {
        return -1;
    }
    if (bad_prefix(opts_text(addr->opts, "prefix"), err)) {
        free(dir);
        return -1;
    }
    struct pqlog *p = xcalloc(1, sizeof *p);
    p->base.ops = &pqlog_ops;
    p->env = env;
    p->dir = dir;
    p->commits = xasprintf("%s/_commits", dir);
    p->job = xstrdup(addr->job);
    p->put_logpos = addr->put_logpos;
    p->store = store_of_folder(env->files, dir);
    take_options(p, addr->opts);
    p->ledger = ledger_new(&(struct ledger_config){ .scheme = pqlog_ops.name,
                                                    .point = pqlog_point,
                                                    .settle = settle,
                                                    .arg = p,
                                                    .env = env,
                                                    .dir = p->commits,
                                                    .job = addr->job });
    *out = &p->base;
    return 0;
}

static void pqlog_close(struct sink *s) {
    struct pqlog *p = pqlog_of(s);
    ledger_free(p->ledger);
    store_free(p->store);
    free(p->dir);
    free(p->commits);
    free(p->job);
    free(p->prefix);
    free(p->text);
    free(p);
}

static int pqlog_peek(struct sink *s, struct sink_state *out, struct err *err) {
    return ledger_peek(pqlog_of(s)->ledger, out, err);
}
static int pqlog_examine(struct sink *s, struct source_findings *out, struct err *err) {
    return ledger_examine(pqlog_of(s)->ledger, out, err);
}

/* Staged files of older instances in one folder; what cannot be looked at stays: no reader sees it.
 */
static void remove_staged(struct pqlog *p, const char *folder) {
    struct files *files = p->env->files;
    struct err err = ERR_INIT;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    enum files_result listed = files_list(files, folder, &names, &err);
    for (size_t at = 0; listed == FILES_OK && at < names.len; at += strlen(names.data + at) + 1) {
        uint64_t epoch;
        if (!pqlog_is_staged_name(names.data + at, &epoch) || epoch >= ledger_epoch(p->ledger)) {
            continue;
        }
        char *path = xasprintf("%s/%s", folder, names.data + at);
        struct err why = ERR_INIT;
        if (files_unlink(files, path, &why) == FILES_FAILED && p->env->log) {
            log_warn(p->env->log, "commit", "staged_left", "%s", why.text);
        }
        free(path);
    }
    if (listed == FILES_FAILED && p->env->log) {
        log_warn(p->env->log, "commit", "staged_left", "%s", err.text);
    }
    buf_release(&names);
}

static int remove_foreign(struct pqlog *p, struct err *err) {
    struct buf names;
    buf_init(&names, SIZE_MAX);
    enum files_result listed = files_list(p->env->files, p->dir, &names, err);
    for (size_t at = 0; listed == FILES_OK && at < names.len; at += strlen(names.data + at) + 1) {
        const char *name = names.data + at;
        if (name[0] != '_' && name[0] != '.' && strchr(name, '.')) {
            char *folder = xasprintf("%s/%s", p->dir, name);
            remove_staged(p, folder);
            free(folder);
        }
    }
    buf_release(&names);
    return listed == FILES_FAILED ? -1 : 0;
}

static int pqlog_recover(struct sink *s, struct sink_state *out, struct err *err) {
    struct pqlog *p = pqlog_of(s);
    struct ledger_place root = { .files = p->env->files, .dir = p->dir, .scheme = pqlog_ops.name };
    if (ledger_make_folder(&root, err) || ledger_recover(p->ledger, out, err)) {
        return -1;
    }
    if (remove_foreign(p, err)) {
        sink_state_release(out);
        return -1;
    }
    return 0;
}

static int pqlog_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    return ledger_apply_schema(pqlog_of(s)->ledger, next, err);
}

/* The part that has rows; a folder has one writer. */
static struct pqlog_part *part_of_request(const struct commit_request *req) {
    CHECK(req->part_count <= 1);
    return req->part_count ? pqlog_part_of(req->parts[0]) : NULL;
}

/* The lines that name the part's files, in a staged commit file. Written once: a retry finds it. */
static int stage_commit(struct pqlog *p, struct pqlog_part *part, struct err *err) {
    uint64_t seq = ledger_seq(p->ledger) + 1;
    if (part->staged) {
        return 0;
    }
    struct ledger_staged *staged = ledger_staged_new(p->env, ledger_place(p->ledger), seq, err);
    if (!staged) {
        return -1;
    }
    struct buf lines;
    buf_init(&lines, SIZE_MAX);
    pqlog_entries_name(&part->files, seq);
    for (uint32_t i = 0; i < part->files.count; i++) {
        pqlog_entry_put(&lines, &part->files.at[i]);
    }
    int failed = ledger_staged_write(staged, lines.data, lines.len, err);
    buf_release(&lines);
    if (failed) {
        ledger_staged_free(staged, true);
        return -1;
    }
    part->staged = staged;
    return 0;
}

/* The commit stands. Its files get their names before anybody is told. */
static int stands(struct pqlog *p, struct pqlog_part *part, struct err *err) {
    if (!part) {
        return 0;
    }
    part->stands = true;
    return name_files(p, &part->files, err);
}

static enum commit_outcome pqlog_commit(struct sink *s, const struct commit_request *req,
                                        struct err *err) {
    struct pqlog *p = pqlog_of(s);
    struct pqlog_part *part = part_of_request(req);
    if (part && stage_commit(p, part, err)) {
        return COMMIT_FAILED;
    }
    enum commit_outcome outcome =
        ledger_commit(p->ledger, req, part ? part->staged : NULL, part ? part->rows : 0, err);
    if (outcome == COMMITTED && stands(p, part, err)) {
        return COMMIT_UNKNOWN;
    }
    return outcome;
}

static enum resolve_outcome pqlog_resolve(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    struct pqlog *p = pqlog_of(s);
    struct pqlog_part *part = part_of_request(req);
    enum resolve_outcome outcome =
        part && part->stands ? RESOLVED_COMMITTED : ledger_resolve(p->ledger, req, err);
    if (outcome == RESOLVED_COMMITTED && stands(p, part, err)) {
        return err->kind == ERR_RETRY ? RESOLVE_UNKNOWN : RESOLVE_FAILED;
    }
    return outcome;
}

static int pqlog_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                             struct err *err) {
    struct pqlog *p = pqlog_of(s);
    CHECK(number == 0 && ledger_epoch(p->ledger) > 0);
    struct pqlog_writer_config config = {
        .env = p->env,
        .dir = p->dir,
        .file = { .store = p->store,
                  .job = p->job,
                  .prefix = p->prefix,
                  .text = p->text,
                  .parquet = p->parquet },
        .put_logpos = p->put_logpos,
        .epoch = ledger_epoch(p->ledger),
        .open_bytes_max = p->env->memory_bytes / 4,
        .file_bytes = UINT64_C(512) << 20,
        .files_max = FILES_OPEN_MAX,
    };
    return pqlog_writer_new(&config, &pqlog_ops, out, err);
}

const struct sink_ops pqlog_ops = {
    .name = "parquet",
    .opts = pqlog_opts,
    .owns_position = true,
    .stages = true,
    .writers_max = 1,
    .freshness_us = 10 * 1000 * 1000,
    .open = pqlog_open,
    .close = pqlog_close,
    .examine = pqlog_examine,
    .peek = pqlog_peek,
    .recover = pqlog_recover,
    .apply_schema = pqlog_apply_schema,
    .commit = pqlog_commit,
    .resolve = pqlog_resolve,
    .writer_open = pqlog_writer_open,
    .writer_stage = pqlog_writer_stage,
    .writer_seal = pqlog_writer_seal,
    .writer_close = pqlog_writer_close,
    .part_free = pqlog_part_free,
    .summary = sink_sums_up_nothing,
    .describe = sink_describes_nothing,
};
