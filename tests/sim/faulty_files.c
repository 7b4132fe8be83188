/* Files with faults: no space, input/output errors, torn writes, renames and syncs whose outcome
 * is unknown. See faulty.h; contract: cdc/base/files.h. Below it stands the memory disk, which
 * alone knows what a failed sync costs. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fault.h"
#include "tests/sim/faulty.h"
#include "tests/sim/sched.h"

#define DISK (FAULT_FULL | (unsigned)FAULT_IO)

struct faulty_files {
    struct files base;
    struct files *inner;
};
struct faulty_file {
    struct file base;
    struct file *inner;
    bool spool; /* of a spill file: it knows its bytes by their hash */
};
static bool left[SIM_GROUPS];

bool faulty_files_left(unsigned group) { return left[group]; }

static struct files *inner(struct files *f) { return ((struct faulty_files *)f)->inner; }
static struct file *inner_file(struct file *f) { return ((struct faulty_file *)f)->inner; }

static int enter(struct fault *f, const char *call, unsigned before, unsigned after,
                 struct err *err) {
    return fault_enter(f, FAULT_FILE, call, before, after, err);
}

/* A result that is an answer (EXISTS, ABSENT) stands; OK may turn into an error. */
static enum files_result leave(struct fault *f, enum files_result result, struct err *err) {
    return (enum files_result)fault_leave(f, (int)result, err);
}

static enum files_result faulty_mkdirs(struct files *d, const char *path, unsigned mode,
                                       struct err *err) {
    struct fault f;
    return enter(&f, "mkdirs", DISK, FAULT_IO, err)
               ? FILES_FAILED
               : leave(&f, files_mkdirs(inner(d), path, mode, err), err);
}

/* The three ways to open: an error after the effect leaves the file, but nothing open. */
static enum files_result opened(struct fault *f, enum files_result result, struct file **file,
                                struct file **out, struct err *err) {
    if (result != FILES_OK) {
        return result;
    }
    if (leave(f, FILES_OK, err) != FILES_OK) {
        file_close(*file);
        return FILES_FAILED;
    }
    struct faulty_file *made = xcalloc(1, sizeof *made);
    *made = (struct faulty_file){ .base.ops = &faulty_files_ops, .inner = *file };
    *out = &made->base;
    return FILES_OK;
}
static enum files_result faulty_create_excl(struct files *d, const char *path, struct file **out,
                                            struct err *err) {
    struct fault f;
    struct file *file = NULL;
    enum files_result result =
        enter(&f, "create", DISK, FAULT_IO, err)
            ? FILES_FAILED
            : opened(&f, files_create_excl(inner(d), path, &file, err), &file, out, err);
    left[sched_group()] = left[sched_group()] || (result == FILES_FAILED && f.after);
    return result;
}
static enum files_result of_spool(const char *path, enum files_result result, struct file **out) {
    size_t len = strlen(path);
    if (result == FILES_OK) {
        ((struct faulty_file *)*out)->spool = len > 6 && strcmp(path + len - 6, ".spool") == 0;
    }
    return result;
}
static enum files_result faulty_open_read(struct files *d, const char *path, struct file **out,
                                          struct err *err) {
    struct fault f;
    struct file *file = NULL;
    return enter(&f, "open", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : of_spool(path,
                          opened(&f, files_open_read(inner(d), path, &file, err), &file, out, err),
                          out);
}
static enum files_result faulty_open_lock(struct files *d, const char *path, struct file **out,
                                          struct err *err) {
    struct fault f;
    struct file *file = NULL;
    return enter(&f, "lock", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : opened(&f, files_open_lock(inner(d), path, &file, err), &file, out, err);
}

static int faulty_write(struct file *file, const void *p, size_t n, struct err *err) {
    struct fault f;
    if (!enter(&f, "write", DISK | FAULT_STUCK, 0, err)) {
        return fault_leave(&f, file_write(inner_file(file), p, n, err), err);
    }
    if (f.kind != FAULT_FULL && n > 1) { /* torn: a part is written and stays */
        struct err ignored = ERR_INIT;
        if (file_write(inner_file(file), p, sim_below(STREAM_FAULT, (unsigned)n), &ignored)) {
            err_clear(&ignored); /* then less of it */
        }
    }
    return -1;
}
static int faulty_read_at(struct file *file, uint64_t off, void *p, size_t n, size_t *got,
                          struct err *err) {
    struct fault f;
    unsigned rot = ((struct faulty_file *)file)->spool ? FAULT_ROT : 0;
    if (enter(&f, "read", FAULT_IO, FAULT_IO | rot, err)) {
        return -1;
    }
    int rc = fault_leave(&f, file_read_at(inner_file(file), off, p, n, got, err), err);
    if (rc == 0 && f.kind == FAULT_ROT && *got) {
        ((char *)p)[sim_below(STREAM_FAULT, (unsigned)*got)] ^= 1;
    }
    return rc;
}
static int faulty_sync(struct file *file, struct err *err) {
    struct fault f;
    if (enter(&f, "fsync", FAULT_STUCK | (unsigned)FAULT_IO, FAULT_IO, err)) {
        disk_sync_failed(inner_file(file));
        return -1;
    }
    return fault_leave(&f, file_sync(inner_file(file), err), err);
}
static int faulty_size(struct file *file, uint64_t *out, struct err *err) {
    struct fault f;
    return enter(&f, "stat", FAULT_IO, FAULT_IO, err)
               ? -1
               : fault_leave(&f, file_size(inner_file(file), out, err), err);
}
static void faulty_close(struct file *file) {
    fault_lost(FAULT_FILE, "file_close", false);
    file_close(inner_file(file));
    free(file);
}

static enum files_result faulty_rename_new(struct files *d, const char *from, const char *to,
                                           struct err *err) {
    struct fault f;
    fault_moment(MOMENT_RENAME);
    return enter(&f, "rename_new", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : leave(&f, files_rename_new(inner(d), from, to, err), err);
}
static enum files_result faulty_rename_over(struct files *d, const char *from, const char *to,
                                            struct err *err) {
    struct fault f;
    fault_moment(MOMENT_RENAME);
    return enter(&f, "rename_over", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : leave(&f, files_rename_over(inner(d), from, to, err), err);
}
static enum files_result faulty_unlink(struct files *d, const char *path, struct err *err) {
    struct fault f;
    fault_moment(MOMENT_UNLINK);
    enum files_result result = enter(&f, "unlink", FAULT_IO, FAULT_IO, err)
                                   ? FILES_FAILED
                                   : leave(&f, files_unlink(inner(d), path, err), err);
    left[sched_group()] = left[sched_group()] || result == FILES_FAILED;
    return result;
}
static int faulty_sync_dir(struct files *d, const char *path, struct err *err) {
    struct fault f;
    return enter(&f, "fsync_dir", FAULT_IO, FAULT_IO, err)
               ? -1
               : fault_leave(&f, files_sync_dir(inner(d), path, err), err);
}
static enum files_result faulty_list(struct files *d, const char *path, struct buf *out,
                                     struct err *err) {
    struct fault f;
    buf_clear(out);
    return enter(&f, "list", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : leave(&f, files_list(inner(d), path, out, err), err);
}
static enum files_result faulty_may_write(struct files *d, const char *path, struct err *err) {
    struct fault f;
    return enter(&f, "may_write", FAULT_IO, FAULT_IO, err)
               ? FILES_FAILED
               : leave(&f, files_may_write(inner(d), path, err), err);
}
static int faulty_free_bytes(struct files *d, const char *path, uint64_t *free_out,
                             uint64_t *total_out, struct err *err) {
    struct fault f;
    return enter(&f, "free_bytes", FAULT_IO, FAULT_IO, err)
               ? -1
               : fault_leave(&f, files_free_bytes(inner(d), path, free_out, total_out, err), err);
}

static int faulty_map(struct file *file, size_t n, const void **out, struct err *err) {
    struct fault f;
    return enter(&f, "map", FAULT_IO, 0, err)
               ? -1
               : fault_leave(&f, file_map(inner_file(file), n, out, err), err);
}
static void faulty_unmap(struct files *d, const void *p, size_t n) { files_unmap(inner(d), p, n); }

const struct files_ops faulty_files_ops = {
    .mkdirs = faulty_mkdirs,
    .create_excl = faulty_create_excl,
    .open_read = faulty_open_read,
    .open_lock = faulty_open_lock,
    .write = faulty_write,
    .read_at = faulty_read_at,
    .sync = faulty_sync,
    .size = faulty_size,
    .close = faulty_close,
    .rename_new = faulty_rename_new,
    .rename_over = faulty_rename_over,
    .unlink = faulty_unlink,
    .sync_dir = faulty_sync_dir,
    .list = faulty_list,
    .may_write = faulty_may_write,
    .free_bytes = faulty_free_bytes,
    .map = faulty_map,
    .unmap = faulty_unmap,
};

struct files *faulty_files(struct disk *disk, unsigned group) {
    struct faulty_files *f = xcalloc(1, sizeof *f);
    *f = (struct faulty_files){ .base.ops = &faulty_files_ops, .inner = disk_files(disk, group) };
    return &f->base;
}

/* ---- do the tables have every function? ---- */

typedef void function(void);

static unsigned missing(const void *table, size_t from, size_t size) {
    unsigned n = 0;
    for (size_t at = from; at < size; at += sizeof(function *)) {
        function *f;
        memcpy(&f, (const char *)table + at, sizeof f);
        n += !f;
    }
    return n;
}

unsigned faulty_missing(void) {
    unsigned n =
        missing(&faulty_source_ops, offsetof(struct source_ops, open), sizeof faulty_source_ops);
    n += missing(&faulty_files_ops, 0, sizeof faulty_files_ops);
    for (unsigned kind = 0; kind < SINK_KINDS; kind++) {
        const struct sink_ops *ops = faulty_sink_ops((enum sink_kind)kind);
        n += missing(ops, offsetof(struct sink_ops, open), sizeof *ops);
    }
    return n;
}
