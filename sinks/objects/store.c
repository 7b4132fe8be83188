/* A warehouse in a local folder. See store.h. */
#include "sinks/objects/store.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "cdc/base/err.h"

enum { DIR_MODE = 0750, BUFFER_BYTES = 256 * 1024 };

struct store {
    struct files *files;
    char *root; /* without a slash at its end */
    size_t root_len;
};
struct store_upload {
    struct store *store;
    char *key, *path;
    struct file *file;
    struct buf buffered;
    uint64_t size;
};
struct store_object {
    char *path;
    struct file *file;
    uint64_t size;
};

struct store *store_of_folder(struct files *files, const char *root) {
    CHECK(root[0] == '/');
    size_t len = strlen(root);
    while (len > 1 && root[len - 1] == '/') {
        len--;
    }
    struct store *s = xcalloc(1, sizeof *s);
    s->files = files;
    s->root = xstrndup(root, len);
    s->root_len = len;
    return s;
}

void store_free(struct store *s) {
    if (s) {
        free(s->root);
        free(s);
    }
}

static char *path_of(const struct store *s, const char *key) {
    return xasprintf("%s/%s", s->root, key);
}

int store_folder_may_write(struct files *files, const char *folder, struct err *err) {
    char *path = xstrdup(folder);
    enum files_result may = files_may_write(files, path, err);
    for (char *slash; may == FILES_ABSENT && path[1] && (slash = strrchr(path, '/')) != NULL;) {
        slash[slash == path ? 1 : 0] = '\0';
        may = files_may_write(files, path, err);
    }
    free(path);
    return may == FILES_FAILED ? -1 : 0;
}

int store_folder_keep(struct files *files, const char *folder, struct err *err) {
    char *path = xstrdup(folder);
    int rc = 0;
    for (char *slash = strrchr(path, '/'); slash && rc == 0; slash = strrchr(path, '/')) {
        slash[slash == path ? 1 : 0] = '\0';
        rc = files_sync_dir(files, path, err);
        if (rc && strcmp(err->code, "file_error") == 0) {
            err_clear(err); /* not ours to open; a disk that fails is another matter */
            rc = 0;
        }
        if (slash == path) {
            break;
        }
    }
    free(path);
    return rc;
}

void store_put_url(struct buf *out, const struct store *s, const char *key) {
    buf_putf(out, "file://%s/%s", s->root, key);
}

const char *store_key_of(const struct store *s, const char *url) {
    if (strncmp(url, "file:", 5) != 0) {
        return NULL;
    }
    const char *path = url + 5;
    if (strncmp(path, "///", 3) == 0) {
        path += 2;
    }
    if (strncmp(path, s->root, s->root_len) != 0 || path[s->root_len] != '/') {
        return NULL;
    }
    return path + s->root_len + 1;
}

void store_folders_release(struct store_folders *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        free(f->at[i]);
    }
    free(f->at);
    *f = (struct store_folders){ 0 };
}

static void folders_add(struct store_folders *f, const char *key, size_t len) {
    for (uint32_t i = 0; i < f->count; i++) {
        if (strlen(f->at[i]) == len && memcmp(f->at[i], key, len) == 0) {
            return;
        }
    }
    f->at = xrealloc(f->at, (f->count + 1) * sizeof *f->at);
    f->at[f->count++] = xstrndup(key, len);
}

/* The folder that key lies in and all above it: any of them may be new. */
static void folders_add_above(struct store_folders *f, const char *key) {
    for (size_t len = strlen(key); len > 0; len--) {
        if (key[len - 1] == '/') {
            folders_add(f, key, len - 1);
        }
    }
    folders_add(f, "", 0);
}

void store_folders_merge(struct store_folders *into, const struct store_folders *from) {
    for (uint32_t i = 0; i < from->count; i++) {
        folders_add(into, from->at[i], strlen(from->at[i]));
    }
}

static int make_folder(struct store *s, const char *path, struct err *err) {
    char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    enum files_result made = files_mkdirs(s->files, folder, DIR_MODE, err);
    free(folder);
    return made == FILES_FAILED ? -1 : 0;
}

/* The folder is made only where it was missing: the usual case costs one call. */
static int create(struct store *s, const char *path, struct file **out, struct err *err) {
    for (int tries = 0;; tries++) {
        enum files_result made = files_create_excl(s->files, path, out, err);
        if (made == FILES_OK) {
            return 0;
        }
        if (made == FILES_EXISTS) {
            return err_set(err, ERR_FATAL, "object_exists", "\"%s\" exists already", path);
        }
        if (tries > 0) {
            return -1;
        }
        err_clear(err); /* perhaps the folder is missing: if not, the second try says the same */
        if (make_folder(s, path, err)) {
            return -1;
        }
    }
}

int store_create(struct store *s, const char *key, struct store_upload **out, struct err *err) {
    char *path = path_of(s, key);
    struct file *file = NULL;
    if (create(s, path, &file, err)) {
        free(path);
        return -1;
    }
    struct store_upload *u = xcalloc(1, sizeof *u);
    u->store = s;
    u->key = xstrdup(key);
    u->path = path;
    u->file = file;
    buf_init(&u->buffered, SIZE_MAX);
    *out = u;
    return 0;
}

static int write_out(struct store_upload *u, const void *p, size_t n, struct err *err) {
    return n ? file_write(u->file, p, n, err) : 0;
}

int store_write(struct store_upload *u, const void *p, size_t n, struct err *err) {
    u->size += n;
    if (u->buffered.len + n <= BUFFER_BYTES) {
        buf_put(&u->buffered, p, n);
        return 0;
    }
    if (write_out(u, u->buffered.data, u->buffered.len, err)) {
        return -1;
    }
    buf_clear(&u->buffered);
    if (n <= BUFFER_BYTES) {
        buf_put(&u->buffered, p, n);
        return 0;
    }
    return write_out(u, p, n, err);
}

static void upload_free(struct store_upload *u, bool remove) {
    struct err err = ERR_INIT;
    file_close(u->file);
    if (remove && files_unlink(u->store->files, u->path, &err) == FILES_FAILED) {
        err_clear(&err); /* nothing refers to it: an orphan, which costs room only */
    }
    buf_release(&u->buffered);
    free(u->key);
    free(u->path);
    free(u);
}

int store_finish(struct store_upload *u, struct store_folders *folders, uint64_t *size,
                 struct err *err) {
    int rc = write_out(u, u->buffered.data, u->buffered.len, err);
    if (rc == 0) {
        rc = file_sync(u->file, err);
    }
    if (rc == 0) {
        folders_add_above(folders, u->key);
        if (size) {
            *size = u->size;
        }
    }
    upload_free(u, rc != 0);
    return rc;
}

void store_abort(struct store_upload *u) {
    if (u) {
        upload_free(u, true);
    }
}

int store_put(struct store *s, const char *key, const void *p, size_t n,
              struct store_folders *folders, struct err *err) {
    struct store_upload *u = NULL;
    if (store_create(s, key, &u, err)) {
        return -1;
    }
    if (store_write(u, p, n, err)) {
        store_abort(u);
        return -1;
    }
    return store_finish(u, folders, NULL, err);
}

int store_settle(struct store *s, struct store_folders *folders, struct err *err) {
    for (uint32_t i = 0; i < folders->count; i++) {
        char *path = *folders->at[i] ? path_of(s, folders->at[i]) : xstrdup(s->root);
        int rc = files_sync_dir(s->files, path, err);
        free(path);
        if (rc) {
            err->kind = err->kind == ERR_RETRY ? ERR_REWIND : err->kind;
            return -1;
        }
    }
    store_folders_release(folders);
    return 0;
}

/* Staged under a name of its own: a half-written one is never seen. */
static int stage_replacement(struct store *s, const char *key, const void *p, size_t n,
                             char **staged, struct err *err) {
    uint64_t random;
    rng_bytes(&random, sizeof random);
    *staged = xasprintf("%s/%s.%016" PRIx64 ".tmp", s->root, key, random);
    struct file *file = NULL;
    if (create(s, *staged, &file, err)) {
        return -1;
    }
    int rc = file_write(file, p, n, err) || file_sync(file, err) ? -1 : 0;
    file_close(file);
    return rc;
}

int store_replace(struct store *s, const char *key, const void *p, size_t n, struct err *err) {
    char *path = path_of(s, key);
    char *staged = NULL;
    struct store_folders folders = { 0 };
    int rc = stage_replacement(s, key, p, n, &staged, err);
    if (rc == 0 && files_rename_over(s->files, staged, path, err) != FILES_OK) {
        rc = -1;
    }
    if (rc) {
        struct err ignored = ERR_INIT; /* the first error is the one that matters */
        if (files_unlink(s->files, staged, &ignored) == FILES_FAILED) {
            err_clear(&ignored);
        }
    } else {
        folders_add_above(&folders, key);
        rc = store_settle(s, &folders, err);
    }
    store_folders_release(&folders);
    free(staged);
    free(path);
    return rc;
}

enum files_result store_open_object(struct store *s, const char *key, struct store_object **out,
                                    struct err *err) {
    char *path = path_of(s, key);
    struct file *file = NULL;
    uint64_t size = 0;
    enum files_result opened = files_open_read(s->files, path, &file, err);
    if (opened == FILES_OK && file_size(file, &size, err)) {
        file_close(file);
        opened = FILES_FAILED;
    }
    if (opened != FILES_OK) {
        free(path);
        return opened;
    }
    struct store_object *o = xcalloc(1, sizeof *o);
    *o = (struct store_object){ .path = path, .file = file, .size = size };
    *out = o;
    return FILES_OK;
}

int store_read_at(struct store_object *o, uint64_t off, void *p, size_t n, struct err *err) {
    size_t got = 0;
    if (file_read_at(o->file, off, p, n, &got, err)) {
        return -1;
    }
    if (got < n) {
        err_set(err, ERR_FATAL, "object_short",
                "\"%s\" ends at %" PRIu64 ": %zu bytes at %" PRIu64 " were expected", o->path,
                o->size, n, off);
        return err_cure(err, "%s", STORE_CURE_LOST);
    }
    return 0;
}

uint64_t store_object_size(const struct store_object *o) { return o->size; }

const char *store_object_name(const struct store_object *o) { return o->path; }

void store_close_object(struct store_object *o) {
    if (o) {
        file_close(o->file);
        free(o->path);
        free(o);
    }
}

enum files_result store_get(struct store *s, const char *key, struct buf *out, struct err *err) {
    struct store_object *o = NULL;
    enum files_result opened = store_open_object(s, key, &o, err);
    if (opened != FILES_OK) {
        return opened;
    }
    enum files_result rc = FILES_OK;
    buf_clear(out);
    if (o->size > out->max || buf_reserve(out, o->size)) {
        err_set(err, ERR_FATAL, "object_too_long",
                "\"%s\" has %" PRIu64 " bytes, at most %zu are read", o->path, o->size, out->max);
        rc = FILES_FAILED;
    } else if (store_read_at(o, 0, out->data, o->size, err)) {
        rc = FILES_FAILED;
    } else {
        out->len = o->size;
    }
    store_close_object(o);
    return rc;
}

int store_remove(struct store *s, const char *key, struct err *err) {
    char *path = path_of(s, key);
    enum files_result gone = files_unlink(s->files, path, err);
    free(path);
    return gone == FILES_FAILED ? -1 : 0;
}

enum files_result store_list(struct store *s, const char *folder, struct buf *out,
                             struct err *err) {
    char *path = path_of(s, folder);
    enum files_result rc = files_list(s->files, path, out, err);
    free(path);
    return rc;
}
