/* The memory disk. See disk.h. Folders are implied by mkdirs; a name's operations since the last
 * sync of its folder are a list that a power loss cuts. */
#include "tests/sim/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "tests/sim/sched.h"

enum { PATH_MAX_SIM = 400, SECTOR = 512 };

/* Files are appended to, but for those of disk_write_at: they have an image of what is synced. */
struct inode {
    struct buf data;
    size_t synced;      /* bytes that survive a power loss */
    bool doomed;        /* a sync failed: what was not synced before never will be */
    unsigned locked_by; /* group + 1 */
    bool has_image;
    struct buf image, lost; /* lost: as it was when a sync failed; empty = none did */
};
/* One change of a name since the last sync of its folder. */
struct change {
    char *dir, *from, *to; /* either may be NULL: create has no from, unlink no to */
    struct inode *inode;
};
struct disk {
    struct map *live, *durable; /* path -> struct inode */
    struct change *changes;
    unsigned change_count, change_cap;
    char **dirs;
    bool *dir_durable;
    unsigned dir_count;
    void (*on_unlink)(const char *path);
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

static struct inode *find(const struct map *names, const char *path) {
    return map_get(names, path, strlen(path));
}
static void put_name(struct map *names, const char *path, struct inode *inode) {
    map_set(names, path, strlen(path), inode);
}
static void remove_name(struct map *names, const char *path) {
    map_remove(names, path, strlen(path));
}
/* In creation order; paths are not terminated in the map. */
static bool next_name(const struct map *names, size_t *at, char *path, size_t max,
                      struct inode **inode) {
    const void *key;
    void *value;
    size_t len;
    if (!map_next(names, at, &key, &len, &value)) {
        return false;
    }
    CHECK(len < max);
    memcpy(path, key, len);
    path[len] = '\0';
    *inode = value;
    return true;
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
    d->live = map_new();
    d->durable = map_new();
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
        remove_name(d->live, from);
    }
    if (to) {
        put_name(d->live, to, inode);
    }
}

static void settle(struct disk *d, const struct change *c, bool happens) {
    if (happens && c->from) {
        remove_name(d->durable, c->from);
    }
    if (happens && c->to) {
        put_name(d->durable, c->to, c->inode);
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
    void *value;
    for (size_t at = 0; map_next(d->live, &at, NULL, NULL, &value);) {
        struct inode *inode = value;
        inode->locked_by = inode->locked_by == group + 1 ? 0 : inode->locked_by;
    }
}

static size_t sector_end(size_t at, const struct buf *a) {
    size_t end = at + SECTOR;
    return end < a->len ? end : a->len;
}
static bool same_sector(const struct buf *a, const struct buf *b, size_t at) {
    size_t end = sector_end(at, a);
    return end == sector_end(at, b) && memcmp(a->data + at, b->data + at, end - at) == 0;
}
static void copy_buf(struct buf *to, const struct buf *from) {
    buf_clear(to);
    buf_put(to, from->data, from->len);
}

/* Of what was written since the last sync any sectors may have arrived. */
static void survive_image(struct inode *n, const struct inode *old) {
    static const char zeros[SECTOR];
    const struct buf *size = sim_below(STREAM_DISK, 2) ? &old->data : &old->image;
    for (size_t at = 0; at < size->len; at += SECTOR) {
        size_t end = sector_end(at, size);
        bool arrived = sim_below(STREAM_DISK, 2) && old->lost.len == 0;
        if (arrived && old->data.len >= end) {
            buf_put(&n->data, old->data.data + at, end - at);
        } else if (old->image.len >= end) {
            buf_put(&n->data, old->image.data + at, end - at);
        } else {
            buf_put(&n->data, zeros, end - at); /* the length arrived, the bytes did not */
        }
    }
    n->has_image = true;
    copy_buf(&n->image, &n->data);
}

static struct inode *inode_new(void) {
    struct inode *n = xcalloc(1, sizeof *n);
    buf_init(&n->data, SIZE_MAX);
    buf_init(&n->image, SIZE_MAX);
    buf_init(&n->lost, SIZE_MAX);
    return n;
}

static struct inode *survivor(const struct inode *old) {
    struct inode *n = inode_new();
    size_t len = old->synced;
    if (old->has_image) {
        survive_image(n, old);
        return n;
    }
    if (!old->doomed && old->data.len > len) {
        len += sim_below(STREAM_DISK, (unsigned)(old->data.len - len) + 1);
    }
    buf_put(&n->data, old->data.data, len);
    if (len > old->synced && sim_below(STREAM_DISK, 3) == 0) {
        memset(n->data.data + old->synced, 0,
               len - old->synced); /* the length arrived, the bytes did not */
    }
    n->synced = len;
    return n;
}

/* A folder is left if it is durable, and those above it are. Those come first in the list. */
static void survive_dirs(struct disk *d) {
    unsigned left = 0;
    for (unsigned i = 0; i < d->dir_count; i++) {
        char *above = dir_of(d->dirs[i]);
        unsigned k = 0;
        while (k < left && strcmp(d->dirs[k], above) != 0) {
            k++;
        }
        if (i == 0 || (d->dir_durable[i] && k < left)) {
            d->dirs[left] = d->dirs[i];
            d->dir_durable[left++] = true;
        }
        free(above);
    }
    d->dir_count = left;
}

void disk_power_lost(struct disk *d) {
    char path[PATH_MAX_SIM];
    struct inode *inode;
    settle_dir(d, NULL, true);
    for (size_t at = 0; next_name(d->durable, &at, path, sizeof path, &inode);) {
        char *dir = dir_of(path);
        int i = find_dir(d, dir);
        CHECK(i >= 0);
        d->dir_durable[i] = d->dir_durable[i] || sim_below(STREAM_DISK, 2) == 0;
        free(dir);
    }
    survive_dirs(d);
    struct map *kept = map_new();
    d->live = map_new();
    for (size_t at = 0; next_name(d->durable, &at, path, sizeof path, &inode);) {
        char *dir = dir_of(path);
        if (find_dir(d, dir) >= 0) {
            struct inode *left = survivor(inode);
            put_name(kept, path, left);
            put_name(d->live, path, left);
        }
        free(dir);
    }
    d->durable = kept;
}

const struct buf *disk_look(struct disk *disk, const char *path) {
    struct inode *n = find(disk->live, path);
    return n ? &n->data : NULL;
}

bool disk_is_durable(struct disk *disk, const char *path) {
    struct inode *n = find(disk->live, path);
    if (!n || find(disk->durable, path) != n || n->synced != n->data.len) {
        return false;
    }
    char *dir = dir_of(path);
    bool durable = true;
    while (durable && strcmp(dir, "/") != 0) {
        int i = find_dir(disk, dir);
        char *above = dir_of(dir);
        durable = i >= 0 && disk->dir_durable[i];
        free(dir);
        dir = above;
    }
    free(dir);
    return durable;
}

static bool is_in(const char *path, const char *dir, size_t len) {
    return strncmp(path, dir, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
}

const char *disk_name(struct disk *disk, const char *dir, unsigned n) {
    static char path[PATH_MAX_SIM];
    struct inode *inode;
    size_t len = strlen(dir);
    for (size_t at = 0; next_name(disk->live, &at, path, sizeof path, &inode);) {
        if (is_in(path, dir, len) && n-- == 0) {
            return path + len + 1;
        }
    }
    return NULL;
}

unsigned disk_forget(struct disk *disk, const char *dir) {
    char path[PATH_MAX_SIM];
    struct inode *inode;
    size_t len = strlen(dir);
    unsigned count = 0;
    for (size_t at = 0; next_name(disk->live, &at, path, sizeof path, &inode);) {
        if (strncmp(path, dir, len) == 0 && path[len] == '/') {
            remove_name(disk->live, path); /* of the one just given: allowed */
            remove_name(disk->durable, path);
            count++;
        }
    }
    return count;
}

void disk_on_unlink(struct disk *disk, void (*hook)(const char *path)) { disk->on_unlink = hook; }

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
    struct inode *inode = inode_new();
    record(d, path, NULL, path, inode);
    return inode;
}

static enum files_result disk_create_excl(struct files *base, const char *path, struct file **out,
                                          struct err *err) {
    struct disk_files *f = files_of(base);
    if (no_folder(f->disk, path, err)) {
        return FILES_FAILED;
    }
    if (find(f->disk->live, path)) {
        return FILES_EXISTS;
    }
    *out = file_new(f, create(f->disk, path), path);
    return FILES_OK;
}

static enum files_result disk_open_read(struct files *base, const char *path, struct file **out,
                                        struct err *err) {
    struct disk_files *f = files_of(base);
    (void)err;
    struct inode *n = find(f->disk->live, path);
    if (!n) {
        return FILES_ABSENT;
    }
    *out = file_new(f, n, path);
    return FILES_OK;
}

static enum files_result disk_open_lock(struct files *base, const char *path, struct file **out,
                                        struct err *err) {
    struct disk_files *f = files_of(base);
    if (no_folder(f->disk, path, err)) {
        return FILES_FAILED;
    }
    struct inode *n = find(f->disk->live, path);
    struct inode *inode = n ? n : create(f->disk, path);
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

/* Sectors that a failed sync lost arrive only once they are written again, otherwise. */
static void sync_image(struct inode *n) {
    struct buf now;
    buf_init(&now, SIZE_MAX);
    for (size_t at = 0; at < n->data.len; at += SECTOR) {
        bool lost = n->lost.len > at && n->image.len > at && same_sector(&n->lost, &n->data, at) &&
                    sector_end(at, &n->image) == sector_end(at, &n->data);
        const struct buf *from = lost ? &n->image : &n->data;
        buf_put(&now, from->data + at, sector_end(at, &n->data) - at);
    }
    copy_buf(&n->image, &now);
    buf_release(&now);
}

static int disk_sync(struct file *base, struct err *err) {
    struct disk_file *file = file_of(base);
    (void)err;
    struct inode *n = file->inode;
    if (n->has_image) {
        sync_image(n);
    } else if (!n->doomed) {
        n->synced = n->data.len;
    }
    return 0;
}

void disk_sync_failed(struct file *file) {
    struct inode *n = file_of(file)->inode;
    n->doomed = true;
    copy_buf(&n->lost, &n->data);
}

static void have_image(struct inode *n) {
    if (!n->has_image) {
        n->has_image = true;
        buf_put(&n->image, n->data.data, n->synced);
    }
}

void disk_write_at(struct file *base, uint64_t off, const void *p, size_t n) {
    struct inode *inode = file_of(base)->inode;
    have_image(inode);
    if (inode->data.len < off + n) {
        size_t more = (size_t)(off + n) - inode->data.len;
        int full = buf_reserve(&inode->data, more);
        CHECK(full == 0);
        memset(inode->data.data + inode->data.len, 0, more);
        inode->data.len += more;
    }
    memcpy(inode->data.data + off, p, n);
    /* Written again after a failed sync, a sector is to be synced again, also with the same bytes.
     */
    for (size_t i = 0; inode->doomed && i < n && off + i < inode->lost.len; i++) {
        inode->lost.data[off + i] = (char)~inode->data.data[off + i];
    }
}

void disk_truncate(struct file *base, uint64_t size) {
    struct inode *inode = file_of(base)->inode;
    have_image(inode);
    CHECK(size <= inode->data.len);
    inode->data.len = (size_t)size;
}

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
    struct inode *source = find(d->live, from);
    if (!source) {
        return FILES_ABSENT;
    }
    if (!over && find(d->live, to)) {
        return FILES_EXISTS;
    }
    record(d, to, from, to, source);
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
    struct inode *n = find(d->live, path);
    if (!n) {
        return FILES_ABSENT;
    }
    if (d->on_unlink) {
        d->on_unlink(path);
    }
    record(d, path, path, NULL, n);
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
    char **names = xcalloc(map_count(d->live) + d->dir_count + 1, sizeof *names), one[PATH_MAX_SIM];
    unsigned count = 0;
    struct inode *inode;
    size_t len = strlen(path);
    for (size_t at = 0; next_name(d->live, &at, one, sizeof one, &inode);) {
        if (is_in(one, path, len)) {
            names[count++] = xstrdup(one + len + 1);
        }
    }
    for (unsigned i = 0; i < d->dir_count; i++) {
        if (is_in(d->dirs[i], path, len)) {
            names[count++] = xstrdup(d->dirs[i] + len + 1);
        }
    }
    qsort(names, count, sizeof *names, compare_names);
    for (unsigned i = 0; i < count; i++) {
        buf_put(out, names[i], strlen(names[i]) + 1);
        free(names[i]);
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
