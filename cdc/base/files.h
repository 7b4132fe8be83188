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

struct files_ops {
    /* With parents; an existing folder is OK. */
    enum files_result (*mkdirs)(struct files *f, const char *path, unsigned mode, struct err *err);
    /* O_CREAT|O_EXCL|O_WRONLY|O_CLOEXEC, 0640. */
    enum files_result (*create_excl)(struct files *f, const char *path, struct file **out,
                                     struct err *err);
    enum files_result (*open_read)(struct files *f, const char *path, struct file **out,
                                   struct err *err);
    /* Creates, takes an exclusive lock without waiting; EXISTS = somebody else holds it. */
    enum files_result (*open_lock)(struct files *f, const char *path, struct file **out,
                                   struct err *err);
    /* All of it, appended. */
    int (*write)(struct file *file, const void *p, size_t n, struct err *err);
    /* got < n only at the end. */
    int (*read_at)(struct file *file, uint64_t off, void *p, size_t n, size_t *got,
                   struct err *err);
    int (*sync)(struct file *file, struct err *err);
    int (*size)(struct file *file, uint64_t *out, struct err *err);
    void (*close)(struct file *file);
    /* Never replaces: renameat2(RENAME_NOREPLACE), else link, then unlink. */
    enum files_result (*rename_new)(struct files *f, const char *from, const char *to,
                                    struct err *err);
    enum files_result (*rename_over)(struct files *f, const char *from, const char *to,
                                     struct err *err);
    enum files_result (*unlink)(struct files *f, const char *path, struct err *err);
    int (*sync_dir)(struct files *f, const char *path, struct err *err);
    /* Names in a folder, sorted bytewise, each followed by '\0', without . and .. ; out is cleared
     * first. ABSENT if there is no folder; more than out's max: FATAL, code "list_too_long". */
    enum files_result (*list)(struct files *f, const char *path, struct buf *out, struct err *err);
    int (*free_bytes)(struct files *f, const char *path, uint64_t *free_out, uint64_t *total_out,
                      struct err *err);
    /* The first n bytes (1 to the file's size) to read in memory; they outlive the struct file and
     * the name. The file must not change any more: beyond its end, or where the disk fails, a read
     * ends the process (SIGBUS). */
    int (*map)(struct file *file, size_t n, const void **out, struct err *err);
    void (*unmap)(struct files *f, const void *p, size_t n);
};
/* First members of every implementation's own structs. */
struct files {
    const struct files_ops *ops;
};
struct file {
    const struct files_ops *ops;
};

struct files *files_os(void); /* the real ones; in cdc/base/os */

static inline TR_MUST_CHECK enum files_result files_mkdirs(struct files *f, const char *p,
                                                           unsigned m, struct err *e) {
    return f->ops->mkdirs(f, p, m, e);
}
static inline TR_MUST_CHECK enum files_result files_create_excl(struct files *f, const char *p,
                                                                struct file **o, struct err *e) {
    return f->ops->create_excl(f, p, o, e);
}
static inline TR_MUST_CHECK enum files_result files_open_read(struct files *f, const char *p,
                                                              struct file **o, struct err *e) {
    return f->ops->open_read(f, p, o, e);
}
static inline TR_MUST_CHECK enum files_result files_open_lock(struct files *f, const char *p,
                                                              struct file **o, struct err *e) {
    return f->ops->open_lock(f, p, o, e);
}
static inline TR_MUST_CHECK int file_write(struct file *x, const void *p, size_t n, struct err *e) {
    return x->ops->write(x, p, n, e);
}
static inline TR_MUST_CHECK int file_read_at(struct file *x, uint64_t o, void *p, size_t n,
                                             size_t *g, struct err *e) {
    return x->ops->read_at(x, o, p, n, g, e);
}
static inline TR_MUST_CHECK int file_sync(struct file *x, struct err *e) {
    return x->ops->sync(x, e);
}
static inline TR_MUST_CHECK int file_size(struct file *x, uint64_t *o, struct err *e) {
    return x->ops->size(x, o, e);
}
static inline void file_close(struct file *x) {
    if (x) {
        x->ops->close(x);
    }
}
static inline TR_MUST_CHECK enum files_result files_rename_new(struct files *f, const char *a,
                                                               const char *b, struct err *e) {
    return f->ops->rename_new(f, a, b, e);
}
static inline TR_MUST_CHECK enum files_result files_rename_over(struct files *f, const char *a,
                                                                const char *b, struct err *e) {
    return f->ops->rename_over(f, a, b, e);
}
static inline TR_MUST_CHECK enum files_result files_unlink(struct files *f, const char *p,
                                                           struct err *e) {
    return f->ops->unlink(f, p, e);
}
static inline TR_MUST_CHECK int files_sync_dir(struct files *f, const char *p, struct err *e) {
    return f->ops->sync_dir(f, p, e);
}
static inline TR_MUST_CHECK enum files_result files_list(struct files *f, const char *p,
                                                         struct buf *o, struct err *e) {
    return f->ops->list(f, p, o, e);
}
static inline TR_MUST_CHECK int file_map(struct file *x, size_t n, const void **o, struct err *e) {
    return x->ops->map(x, n, o, e);
}
static inline void files_unmap(struct files *f, const void *p, size_t n) {
    if (p) {
        f->ops->unmap(f, p, n);
    }
}
static inline TR_MUST_CHECK int files_free_bytes(struct files *f, const char *p, uint64_t *a,
                                                 uint64_t *t, struct err *e) {
    return f->ops->free_bytes(f, p, a, t, e);
}
