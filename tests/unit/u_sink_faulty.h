/* A door of real files whose n-th call fails: before or after it had its effect, once or for good
 * (a crash). For one test file. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/files.h"

/* Files with faults: the n-th counted call fails, before or after it had its effect. */
struct faulty {
    struct files base;
    int calls;   /* counted so far */
    int fail_at; /* this call fails; 0 = none */
    bool after;  /* ... after it was done: the answer is lost */
    enum err_kind kind;
    char failed[24]; /* name of the call that failed */
    bool dead;       /* a crash: every further call fails and does nothing */
    bool crash;      /* failing means dying */
};
struct faulty_file {
    struct file base;
    struct file *under;
    struct faulty *f;
};

static bool faulty_before(struct faulty *f, const char *call, struct err *err) {
    f->calls++;
    bool hit = f->calls == f->fail_at;
    if (hit) {
        snprintf(f->failed, sizeof f->failed, "%s", call);
    }
    if (f->dead || (hit && !f->after)) {
        f->dead = f->dead || (hit && f->crash);
        err_set(err, f->kind, "planted", "%s: planted failure", call);
        return true;
    }
    return false;
}
static bool faulty_after(struct faulty *f, const char *call, struct err *err) {
    if (f->calls == f->fail_at && f->after && !f->dead) {
        f->dead = f->crash;
        err_set(err, f->kind, "planted", "%s: planted failure after its effect", call);
        return true;
    }
    return false;
}
static struct faulty *faulty_of(struct files *f) { return (struct faulty *)f; }
static struct faulty_file *faulty_file_of(struct file *x) { return (struct faulty_file *)x; }

#define PATH_CALL(name, params, args)                                                              \
    static enum files_result faulty_##name params {                                                \
        struct faulty *x = faulty_of(f);                                                           \
        if (faulty_before(x, #name, err)) {                                                        \
            return FILES_FAILED;                                                                   \
        }                                                                                          \
        enum files_result result = files_os()->ops->name args;                                     \
        return faulty_after(x, #name, err) ? FILES_FAILED : result;                                \
    }
PATH_CALL(mkdirs, (struct files * f, const char *p, unsigned mode, struct err *err),
          (files_os(), p, mode, err))
PATH_CALL(rename_new, (struct files * f, const char *a, const char *b, struct err *err),
          (files_os(), a, b, err))
PATH_CALL(rename_over, (struct files * f, const char *a, const char *b, struct err *err),
          (files_os(), a, b, err))
PATH_CALL(may_write, (struct files * f, const char *p, struct err *err), (files_os(), p, err))
PATH_CALL(unlink, (struct files * f, const char *p, struct err *err), (files_os(), p, err))
PATH_CALL(list, (struct files * f, const char *p, struct buf *out, struct err *err),
          (files_os(), p, out, err))

static const struct files_ops faulty_ops;
static enum files_result wrap_file(struct faulty *x, enum files_result result, struct file *under,
                                   struct file **out) {
    if (result == FILES_OK) {
        struct faulty_file *file = xcalloc(1, sizeof *file);
        *file = (struct faulty_file){ .base.ops = &faulty_ops, .under = under, .f = x };
        *out = &file->base;
    }
    return result;
}
static enum files_result faulty_create_excl(struct files *f, const char *p, struct file **out,
                                            struct err *err) {
    struct faulty *x = faulty_of(f);
    struct file *under = NULL;
    if (faulty_before(x, "create_excl", err)) {
        return FILES_FAILED;
    }
    enum files_result result = files_create_excl(files_os(), p, &under, err);
    if (faulty_after(x, "create_excl", err)) {
        file_close(under);
        return FILES_FAILED;
    }
    return wrap_file(x, result, under, out);
}
static enum files_result faulty_open_read(struct files *f, const char *p, struct file **out,
                                          struct err *err) {
    struct faulty *x = faulty_of(f);
    struct file *under = NULL;
    if (faulty_before(x, "open_read", err)) {
        return FILES_FAILED;
    }
    enum files_result result = files_open_read(files_os(), p, &under, err);
    return wrap_file(x, result, under, out);
}
static enum files_result faulty_open_lock(struct files *f, const char *p, struct file **out,
                                          struct err *err) {
    (void)f;
    return files_open_lock(files_os(), p, out, err);
}
static int faulty_write(struct file *file, const void *p, size_t n, struct err *err) {
    struct faulty_file *x = faulty_file_of(file);
    bool failing = x->f->calls + 1 == x->f->fail_at && x->f->after;
    if (faulty_before(x->f, "write", err)) {
        return -1;
    }
    if (failing) { /* a torn write: what a fatal error may leave; a full disk takes it back */
        if (x->f->kind != ERR_RETRY && file_write(x->under, p, n / 2, err)) {
            return -1;
        }
        return faulty_after(x->f, "write", err) ? -1 : 0;
    }
    return file_write(x->under, p, n, err);
}
static int faulty_read_at(struct file *file, uint64_t off, void *p, size_t n, size_t *got,
                          struct err *err) {
    struct faulty_file *x = faulty_file_of(file);
    return faulty_before(x->f, "read_at", err) ? -1 : file_read_at(x->under, off, p, n, got, err);
}
static int faulty_sync(struct file *file, struct err *err) {
    struct faulty_file *x = faulty_file_of(file);
    return faulty_before(x->f, "sync", err) || file_sync(x->under, err) ||
                   faulty_after(x->f, "sync", err)
               ? -1
               : 0;
}
static int faulty_size(struct file *file, uint64_t *out, struct err *err) {
    struct faulty_file *x = faulty_file_of(file);
    return faulty_before(x->f, "size", err) ? -1 : file_size(x->under, out, err);
}
static void faulty_close(struct file *file) {
    file_close(faulty_file_of(file)->under);
    free(file);
}
static int faulty_sync_dir(struct files *f, const char *p, struct err *err) {
    struct faulty *x = faulty_of(f);
    return faulty_before(x, "sync_dir", err) || files_sync_dir(files_os(), p, err) ||
                   faulty_after(x, "sync_dir", err)
               ? -1
               : 0;
}
static int faulty_free_bytes(struct files *f, const char *p, uint64_t *a, uint64_t *b,
                             struct err *err) {
    (void)f;
    return files_free_bytes(files_os(), p, a, b, err);
}
static int faulty_map(struct file *file, size_t n, const void **out, struct err *err) {
    struct faulty_file *x = faulty_file_of(file);
    return faulty_before(x->f, "map", err) ? -1 : file_map(x->under, n, out, err);
}
static void faulty_unmap(struct files *f, const void *p, size_t n) {
    (void)f;
    files_unmap(files_os(), p, n);
}
static const struct files_ops faulty_ops = {
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
