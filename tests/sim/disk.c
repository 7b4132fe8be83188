/* The memory disk. See disk.h. Folders are implied by mkdirs; a name's operations since the last
 * sync of its folder are a list that a power loss cuts. */
#include "tests/sim/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sched.h"

struct inode {
    struct buf data;
    size_t synced;      /* bytes that survive a power loss */
    bool doomed;        /* a sync failed: what was not synced before never will be */
    unsigned locked_by; /* group + 1 */
};
struct name {
    char *path;
    struct inode *inode;
};
/* One change of a name since the last sync of its folder. */
struct change {
    char *dir, *from, *to; /* either may be NULL: create has no from, unlink no to */
    struct inode *inode;
};
struct names {
    struct name *at;
    unsigned count, cap;
};
struct disk {
    struct names live, durable;
    struct change *changes;
    unsigned change_count, change_cap;
    char **dirs;
    bool *dir_durable;
    unsigned dir_count;
};
struct disk_files {
    struct files base;
    struct disk *disk;
    unsigned group;
};
struct disk_file {
    struct file base;
    struct disk_files *files;
    struct inode *inode;
    bool locks;
    char *path;
};

static const struct files_ops disk_ops;

static struct name *find(const struct names *n, const char *path) {
    for (unsigned i = 0; i < n->count; i++) {
        if (strcmp(n->at[i].path, path) == 0) {
            return &n->at[i];
        }
    }
    return NULL;
}

static void put_name(struct names *n, const char *path, struct inode *inode) {
    struct name *there = find(n, path);
    if (there) {
        there->inode = inode;
        return;
    }
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 16;
        n->at = xrealloc(n->at, n->cap * sizeof *n->at);
    }
    n->at[n->count++] = (struct name){ xstrdup(path), inode };
}

static void remove_name(struct names *n, const char *path) {
    struct name *there = find(n, path);
    if (there) {
        unsigned i = (unsigned)(there - n->at);
        free(there->path);
        memmove(there, there + 1, (n->count - i - 1) * sizeof *there);
        n->count--;
    }
}

static char *dir_of(const char *path) {
    const char *slash = strrchr(path, '/');
    CHECK(slash);
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

static int find_dir(const struct disk *d, const char *path) {
    for (unsigned i = 0; i < d->dir_count; i++) {
        if (strcmp(d->dirs[i], path) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void add_dir(struct disk *d, const char *path) {
    if (find_dir(d, path) >= 0) {
        return;
    }
    d->dirs = xrealloc(d->dirs, (d->dir_count + 1) * sizeof *d->dirs);
    d->dir_durable = xrealloc(d->dir_durable, (d->dir_count + 1) * sizeof *d->dir_durable);
    d->dirs[d->dir_count] = xstrdup(path);
    d->dir_durable[d->dir_count++] = strcmp(path, "/") == 0;
}

struct disk *disk_new(void) {
    struct disk *d = xcalloc(1, sizeof *d);
    add_dir(d, "/");
    return d;
}

struct files *disk_files(struct disk *disk, unsigned group) {
    struct disk_files *f = xcalloc(1, sizeof *f);
    *f = (struct disk_files){ .base.ops = &disk_ops, .disk = disk, .group = group };
    return &f->base;
}

static void record(struct disk *d, const char *dir_path, const char *from, const char *to,
                   struct inode *inode) {
    if (d->change_count == d->change_cap) {
        d->change_cap = d->change_cap ? d->change_cap * 2 : 32;
        d->changes = xrealloc(d->changes, d->change_cap * sizeof *d->changes);
    }
    d->changes[d->change_count++] = (struct change){ dir_of(dir_path), from ? xstrdup(from) : NULL,
                                                     to ? xstrdup(to) : NULL, inode };
    if (from) {
        remove_name(&d->live, from);
    }
    if (to) {
        put_name(&d->live, to, inode);
    }
}

static void settle(struct disk *d, const struct change *c, bool happens) {
    if (happens && c->from) {
        remove_name(&d->durable, c->from);
    }
    if (happens && c->to) {
        put_name(&d->durable, c->to, c->inode);
    }
}

/* All changes of one folder (NULL: of all) become durable, or with keep_some a random part of them.
 */
static void settle_dir(struct disk *d, const char *dir, bool keep_some) {
    unsigned left = 0;
    bool prefix = sim_below(STREAM_DISK, 3) != 0, cut = false;
    for (unsigned i = 0; i < d->change_count; i++) {
        struct change *c = &d->changes[i];
        if (dir && strcmp(dir, c->dir) != 0) {
            d->changes[left++] = *c;
            continue;
        }
        bool kept = !keep_some || (sim_below(STREAM_DISK, 2) == 0 && !(prefix && cut));
        cut = cut || !kept;
        settle(d, c, kept);
        free(c->dir);
        free(c->from);
        free(c->to);
    }
    d->change_count = left;
}

void disk_process_died(struct disk *d, unsigned group) {
    for (unsigned i = 0; i < d->live.count; i++) {
        if (d->live.at[i].inode->locked_by == group + 1) {
            d->live.at[i].inode->locked_by = 0;
        }
    }
}

static struct inode *survivor(const struct inode *old) {
    struct inode *n = xcalloc(1, sizeof *n);
    size_t len = old->synced;
    if (!old->doomed && old->data.len > len) {
        len += sim_below(STREAM_DISK, (unsigned)(old->data.len - len) + 1);
    }
    buf_init(&n->data, SIZE_MAX);
    buf_put(&n->data, old->data.data, len);
    if (len > old->synced && sim_below(STREAM_DISK, 3) == 0) {
        memset(n->data.data + old->synced, 0,
               len - old->synced); /* the length arrived, the bytes did not */
    }
    n->synced = len;
    return n;
}

void disk_power_lost(struct disk *d) {
    settle_dir(d, NULL, true);
    for (unsigned i = 0; i < d->durable.count; i++) {
        char *dir = dir_of(d->durable.at[i].path);
        int at = find_dir(d, dir);
        CHECK(at >= 0);
        d->dir_durable[at] = d->dir_durable[at] || sim_below(STREAM_DISK, 2) == 0;
        free(dir);
    }
    struct names kept = { 0 };
    for (unsigned i = 0; i < d->durable.count; i++) {
        char *dir = dir_of(d->durable.at[i].path);
        if (d->dir_durable[find_dir(d, dir)]) {
            put_name(&kept, d->durable.at[i].path, survivor(d->durable.at[i].inode));
        }
        free(dir);
    }
    d->live = (struct names){ 0 };
    d->durable = kept;
    for (unsigned i = 0; i < kept.count; i++) {
        put_name(&d->live, kept.at[i].path, kept.at[i].inode);
    }
    unsigned left = 0;
    for (unsigned i = 0; i < d->dir_count; i++) {
        if (d->dir_durable[i]) {
            d->dirs[left] = d->dirs[i];
            d->dir_durable[left++] = true;
        }
    }
    d->dir_count = left;
}

const struct buf *disk_look(struct disk *disk, const char *path) {
    struct name *n = find(&disk->live, path);
    return n ? &n->inode->data : NULL;
}

const char *disk_name(struct disk *disk, const char *dir, unsigned n) {
    size_t len = strlen(dir);
    for (unsigned i = 0; i < disk->live.count; i++) {
        const char *path = disk->live.at[i].path;
        if (strncmp(path, dir, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/') &&
            n-- == 0) {
            return path + len + 1;
        }
    }
    return NULL;
}

/* ---- the table of functions ---- */

static struct disk_files *files_of(struct files *f) { return (struct disk_files *)f; }
static struct disk_file *file_of(struct file *f) { return (struct disk_file *)f; }

static enum files_result disk_mkdirs(struct files *f, const char *path, unsigned mode,
                                     struct err *err) {
    (void)mode, (void)err;
    char *copy = xstrdup(path);
    for (char *at = copy + 1; *at; at++) {
        if (*at == '/') {
            *at = '\0';
            add_dir(files_of(f)->disk, copy);
            *at = '/';
        }
    }
    add_dir(files_of(f)->disk, copy);
    free(copy);
    return FILES_OK;
}

static struct file *file_new(struct disk_files *f, struct inode *inode, const char *path) {
    struct disk_file *file = xcalloc(1, sizeof *file);
    *file = (struct disk_file){
        .base.ops = &disk_ops, .files = f, .inode = inode, .path = xstrdup(path)
    };
    return &file->base;
}

static int no_folder(struct disk *d, const char *path, struct err *err) {
    char *dir = dir_of(path);
    bool missing = find_dir(d, dir) < 0;
    free(dir);
    return missing ? err_set(err, ERR_FATAL, "file_error", "create \"%s\": no such folder", path)
                   : 0;
}

static struct inode *create(struct disk *d, const char *path) {
    struct inode *inode = xcalloc(1, sizeof *inode);
    buf_init(&inode->data, SIZE_MAX);
    record(d, path, NULL, path, inode);
    return inode;
}

static enum files_result disk_create_excl(struct files *base, const char *path, struct file **out,
                                          struct err *err) {
    struct disk_files *f = files_of(base);
    if (no_folder(f->disk, path, err)) {
        return FILES_FAILED;
    }
    if (find(&f->disk->live, path)) {
        return FILES_EXISTS;
    }
    *out = file_new(f, create(f->disk, path), path);
    return FILES_OK;
}

static enum files_result disk_open_read(struct files *base, const char *path, struct file **out,
                                        struct err *err) {
    struct disk_files *f = files_of(base);
    (void)err;
    struct name *n = find(&f->disk->live, path);
    if (!n) {
        return FILES_ABSENT;
    }
    *out = file_new(f, n->inode, path);
    return FILES_OK;
}

static enum files_result disk_open_lock(struct files *base, const char *path, struct file **out,
                                        struct err *err) {
    struct disk_files *f = files_of(base);
    if (no_folder(f->disk, path, err)) {
        return FILES_FAILED;
    }
    struct name *n = find(&f->disk->live, path);
    struct inode *inode = n ? n->inode : create(f->disk, path);
    if (inode->locked_by) {
        return FILES_EXISTS;
    }
    inode->locked_by = f->group + 1;
    struct file *file = file_new(f, inode, path);
    file_of(file)->locks = true;
    *out = file;
    return FILES_OK;
}

static int disk_write(struct file *base, const void *p, size_t n, struct err *err) {
    struct disk_file *file = file_of(base);
    (void)err;
    buf_put(&file->inode->data, p, n);
    return 0;
}

static int disk_read_at(struct file *base, uint64_t off, void *p, size_t n, size_t *got,
                        struct err *err) {
    struct disk_file *file = file_of(base);
    (void)err;
    size_t len = file->inode->data.len;
    *got = off >= len ? 0 : len - off < n ? (size_t)(len - off) : n;
    if (*got) {
        memcpy(p, file->inode->data.data + off, *got);
    }
    return 0;
}

static int disk_sync(struct file *base, struct err *err) {
    struct disk_file *file = file_of(base);
    (void)err;
    if (!file->inode->doomed) {
        file->inode->synced = file->inode->data.len;
    }
    return 0;
}

void disk_sync_failed(struct file *file) { file_of(file)->inode->doomed = true; }

static int disk_size(struct file *base, uint64_t *out, struct err *err) {
    (void)err;
    *out = file_of(base)->inode->data.len;
    return 0;
}

static void disk_close(struct file *base) {
    struct disk_file *file = file_of(base);
    if (file->locks) {
        file->inode->locked_by = 0;
    }
    free(file->path);
    free(file);
}

static enum files_result rename_to(struct files *base, const char *from, const char *to,
                                   bool over) {
    struct disk *d = files_of(base)->disk;
    struct name *source = find(&d->live, from);
    if (!source) {
        return FILES_ABSENT;
    }
    if (!over && find(&d->live, to)) {
        return FILES_EXISTS;
    }
    record(d, to, from, to, source->inode);
    return FILES_OK;
}

static enum files_result disk_rename_new(struct files *f, const char *from, const char *to,
                                         struct err *err) {
    (void)err;
    return rename_to(f, from, to, false);
}
static enum files_result disk_rename_over(struct files *f, const char *from, const char *to,
                                          struct err *err) {
    (void)err;
    return rename_to(f, from, to, true);
}

static enum files_result disk_unlink(struct files *base, const char *path, struct err *err) {
    struct disk *d = files_of(base)->disk;
    (void)err;
    struct name *n = find(&d->live, path);
    if (!n) {
        return FILES_ABSENT;
    }
    record(d, path, path, NULL, n->inode);
    return FILES_OK;
}

static int disk_sync_dir(struct files *base, const char *path, struct err *err) {
    struct disk *d = files_of(base)->disk;
    if (find_dir(d, path) < 0) {
        return err_set(err, ERR_FATAL, "file_error", "open \"%s\": no such folder", path);
    }
    settle_dir(d, path, false);
    for (unsigned i = 0; i < d->dir_count; i++) {
        char *parent = dir_of(d->dirs[i]);
        d->dir_durable[i] = d->dir_durable[i] || strcmp(parent, path) == 0;
        free(parent);
    }
    return 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum files_result disk_list(struct files *base, const char *path, struct buf *out,
                                   struct err *err) {
    struct disk *d = files_of(base)->disk;
    buf_clear(out);
    (void)err;
    if (find_dir(d, path) < 0) {
        return FILES_ABSENT;
    }
    const char **names = xcalloc(d->live.count + 1, sizeof *names);
    unsigned count = 0;
    while ((names[count] = disk_name(d, path, count)) != NULL) {
        count++;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (unsigned i = 0; i < count; i++) {
        buf_put(out, names[i], strlen(names[i]) + 1);
    }
    free(names);
    return FILES_OK;
}

static enum files_result disk_may_write(struct files *base, const char *path, struct err *err) {
    (void)err;
    return find_dir(files_of(base)->disk, path) < 0 ? FILES_ABSENT : FILES_OK;
}

static int disk_free_bytes(struct files *f, const char *path, uint64_t *free_out,
                           uint64_t *total_out, struct err *err) {
    (void)f, (void)path, (void)err;
    *free_out = *total_out = UINT64_C(1) << 40;
    return 0;
}

/* A copy: the inode's bytes may move when somebody else writes. */
static int disk_map(struct file *base, size_t n, const void **out, struct err *err) {
    const struct buf *data = &file_of(base)->inode->data;
    (void)err;
    CHECK(n > 0 && n <= data->len);
    void *copy = xmalloc(n);
    memcpy(copy, data->data, n);
    *out = copy;
    return 0;
}

static void disk_unmap(struct files *f, const void *p, size_t n) {
    (void)f, (void)n;
    free((void *)(uintptr_t)p);
}

static const struct files_ops disk_ops = {
    .mkdirs = disk_mkdirs,
    .create_excl = disk_create_excl,
    .open_read = disk_open_read,
    .open_lock = disk_open_lock,
    .write = disk_write,
    .read_at = disk_read_at,
    .sync = disk_sync,
    .size = disk_size,
    .close = disk_close,
    .rename_new = disk_rename_new,
    .rename_over = disk_rename_over,
    .unlink = disk_unlink,
    .sync_dir = disk_sync_dir,
    .list = disk_list,
    .may_write = disk_may_write,
    .free_bytes = disk_free_bytes,
    .map = disk_map,
    .unmap = disk_unmap,
};
