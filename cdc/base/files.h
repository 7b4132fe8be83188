/* Files, as a table of functions so that faults are injected by wrapping it and the simulator puts
 * a memory disk behind it. All file input and output of the product goes through a struct files.
 *
 * Errors: -1 with err filled, text `open "/path": No such file or directory`; kind FATAL, code
 * "file_error", except ENOSPC/EDQUOT (code "disk_full", RETRY) and EIO (code "io_error", FATAL). A
 * failed write takes back what it had written, so RETRY is true; where it cannot, and for sync
 * (what was lost can never be synced again), "disk_full" is a REWIND: stage the file anew. The two
 * answers that callers act on are not errors but results: FILES_EXISTS and FILES_ABSENT.
 * Thread: any; a struct file has one owner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/buf.h"
#include "cdc/base/err.h"

struct file;
struct files;

enum files_result {
    FILES_FAILED = -1, /* err says why; after rename/link the outcome is unknown */
    FILES_OK = 0,
    FILES_EXISTS = 1, /* create_excl, rename_new: the name is taken */
    FILES_ABSENT = 2, /* open_read, unlink, list, rename_new, rename_over (source): no such name */
};

/* With parents; an existing folder is OK. */
typedef enum files_result (*files_mkdirs_fn)(struct files *f, const char *path, unsigned mode,
                                             struct err *err);
/* O_CREAT|O_EXCL|O_WRONLY|O_CLOEXEC, 0640. */
typedef enum files_result (*files_create_excl_fn)(struct files *f, const char *path,
                                                  struct file **out, struct err *err);
typedef enum files_result (*files_open_read_fn)(struct files *f, const char *path,
                                                struct file **out, struct err *err);
/* Creates, takes an exclusive lock without waiting; EXISTS = somebody else holds it. */
typedef enum files_result (*files_open_lock_fn)(struct files *f, const char *path,
                                                struct file **out, struct err *err);
/* All of it, appended. */
typedef int (*file_write_fn)(struct file *file, const void *p, size_t n, struct err *err);
/* got < n only at the end. */
typedef int (*file_read_at_fn)(struct file *file, uint64_t off, void *p, size_t n, size_t *got,
                               struct err *err);
typedef int (*file_sync_fn)(struct file *file, struct err *err);
typedef int (*file_size_fn)(struct file *file, uint64_t *out, struct err *err);
typedef void (*file_close_fn)(struct file *file);
/* Never replaces: renameat2(RENAME_NOREPLACE), else link, then unlink. */
typedef enum files_result (*files_rename_new_fn)(struct files *f, const char *from, const char *to,
                                                 struct err *err);
typedef enum files_result (*files_rename_over_fn)(struct files *f, const char *from, const char *to,
                                                  struct err *err);
typedef enum files_result (*files_unlink_fn)(struct files *f, const char *path, struct err *err);
typedef int (*files_sync_dir_fn)(struct files *f, const char *path, struct err *err);
/* Names in a folder, sorted bytewise, each followed by '\0', without . and .. ; out is cleared
 * first. ABSENT if there is no folder; more than out's max: FATAL, code "list_too_long". */
typedef enum files_result (*files_list_fn)(struct files *f, const char *path, struct buf *out,
                                           struct err *err);
/* May names be made in this folder? Reads only. OK, ABSENT without it, FAILED with the reason. */
typedef enum files_result (*files_may_write_fn)(struct files *f, const char *path, struct err *err);
typedef int (*files_free_bytes_fn)(struct files *f, const char *path, uint64_t *free_out,
                                   uint64_t *total_out, struct err *err);
/* The first n bytes (1 to the file's size) to read in memory; they outlive the struct file and the
 * name. The file must not change any more: beyond its end, or where the disk fails, a read ends the
 * process (SIGBUS). */
typedef int (*file_map_fn)(struct file *file, size_t n, const void **out, struct err *err);
typedef void (*files_unmap_fn)(struct files *f, const void *p, size_t n);

struct files_ops {
    files_mkdirs_fn mkdirs;
    files_create_excl_fn create_excl;
    files_open_read_fn open_read;
    files_open_lock_fn open_lock;
    file_write_fn write;
    file_read_at_fn read_at;
    file_sync_fn sync;
    file_size_fn size;
    file_close_fn close;
    files_rename_new_fn rename_new;
    files_rename_over_fn rename_over;
    files_unlink_fn unlink;
    files_sync_dir_fn sync_dir;
    files_list_fn list;
    files_may_write_fn may_write;
    files_free_bytes_fn free_bytes;
    file_map_fn map;
    files_unmap_fn unmap;
};
/* First members of every implementation's own structs. */
struct files {
    const struct files_ops *ops;
};
struct file {
    const struct files_ops *ops;
};

struct files *files_os(void); /* the real ones; in cdc/base/os */

/* ---- as callers go through it: what is asked and what is answered is checked ---- */

/* What else than OK and FAILED a function may answer. */
enum files_answers { FILES_ONLY_OK = 0, FILES_MAYBE_EXISTS = 1, FILES_MAYBE_ABSENT = 2 };
static inline enum files_result files_after_call(enum files_result result, unsigned maybe,
                                                 const struct err *err) {
    CHECK(result != FILES_EXISTS || (maybe & FILES_MAYBE_EXISTS));
    CHECK(result != FILES_ABSENT || (maybe & FILES_MAYBE_ABSENT));
    err_after_call(result == FILES_FAILED ? -1 : 0, err);
    return result;
}

static inline TR_MUST_CHECK enum files_result files_mkdirs(struct files *f, const char *path,
                                                           unsigned mode, struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->mkdirs(f, path, mode, err), FILES_ONLY_OK, err);
}
static inline TR_MUST_CHECK enum files_result
files_create_excl(struct files *f, const char *path, struct file **out, struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->create_excl(f, path, out, err), FILES_MAYBE_EXISTS, err);
}
static inline TR_MUST_CHECK enum files_result files_open_read(struct files *f, const char *path,
                                                              struct file **out, struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->open_read(f, path, out, err), FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK enum files_result files_open_lock(struct files *f, const char *path,
                                                              struct file **out, struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->open_lock(f, path, out, err), FILES_MAYBE_EXISTS, err);
}
static inline TR_MUST_CHECK int file_write(struct file *x, const void *p, size_t n,
                                           struct err *err) {
    CHECK(p || n == 0);
    return err_after_call(x->ops->write(x, p, n, err), err);
}
static inline TR_MUST_CHECK int file_read_at(struct file *x, uint64_t off, void *p, size_t n,
                                             size_t *got, struct err *err) {
    CHECK(p || n == 0);
    int rc = err_after_call(x->ops->read_at(x, off, p, n, got, err), err);
    CHECK(rc || *got <= n);
    return rc;
}
static inline TR_MUST_CHECK int file_sync(struct file *x, struct err *err) {
    return err_after_call(x->ops->sync(x, err), err);
}
static inline TR_MUST_CHECK int file_size(struct file *x, uint64_t *out, struct err *err) {
    return err_after_call(x->ops->size(x, out, err), err);
}
static inline void file_close(struct file *x) {
    if (x) {
        x->ops->close(x);
    }
}
static inline TR_MUST_CHECK enum files_result files_rename_new(struct files *f, const char *from,
                                                               const char *to, struct err *err) {
    CHECK(from && to);
    return files_after_call(f->ops->rename_new(f, from, to, err),
                            FILES_MAYBE_EXISTS | (unsigned)FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK enum files_result files_rename_over(struct files *f, const char *from,
                                                                const char *to, struct err *err) {
    CHECK(from && to);
    return files_after_call(f->ops->rename_over(f, from, to, err), FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK enum files_result files_unlink(struct files *f, const char *path,
                                                           struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->unlink(f, path, err), FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK int files_sync_dir(struct files *f, const char *path, struct err *err) {
    CHECK(path);
    return err_after_call(f->ops->sync_dir(f, path, err), err);
}
static inline TR_MUST_CHECK enum files_result files_list(struct files *f, const char *path,
                                                         struct buf *out, struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->list(f, path, out, err), FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK int file_map(struct file *file, size_t n, const void **out,
                                         struct err *err) {
    CHECK(n > 0);
    return err_after_call(file->ops->map(file, n, out, err), err);
}
static inline void files_unmap(struct files *f, const void *p, size_t n) {
    if (p) {
        f->ops->unmap(f, p, n);
    }
}
static inline TR_MUST_CHECK enum files_result files_may_write(struct files *f, const char *path,
                                                              struct err *err) {
    CHECK(path);
    return files_after_call(f->ops->may_write(f, path, err), FILES_MAYBE_ABSENT, err);
}
static inline TR_MUST_CHECK int files_free_bytes(struct files *f, const char *path,
                                                 uint64_t *free_out, uint64_t *total_out,
                                                 struct err *err) {
    CHECK(path);
    return err_after_call(f->ops->free_bytes(f, path, free_out, total_out, err), err);
}
