/* The real files behind files.h: system calls, each of them interrupted and short ones continued,
 * each failure named after the call and the path. Decides nothing: what a missing or an existing
 * name means is the caller's business.
 * Thread: any; a struct file has one owner. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cdc/base/files.h"

struct os_file {
    struct file base;
    int fd;
    uint64_t end; /* where the next write goes */
    char path[];
};

enum { CREATE_MODE = 0640 };

/* Maps errno; other is the second name of a rename, or NULL. Returns -1 like err_set, which is
 * FILES_FAILED too. */
static int failed_pair(struct err *err, const char *call, const char *path, const char *other,
                       int number) {
    bool full = number == ENOSPC || number == EDQUOT;
    err_set(err, full ? ERR_RETRY : ERR_FATAL,
            full            ? "disk_full"
            : number == EIO ? "io_error"
                            : "file_error",
            "%s \"%s\"%s%s%s: %s", call, path, other ? " to \"" : "", other ? other : "",
            other ? "\"" : "", strerror(number));
    if (full) {
        return err_cure(err, "free space, see: df -h \"%s\"", path);
    }
    if (number == EACCES || number == EPERM || number == EROFS) {
        return err_cure(err, "give this user the right to it, see: namei -l \"%s\"", path);
    }
    if (number == ENOTDIR || number == EEXIST) {
        return err_cure(err, "a folder is needed there, see: namei -l \"%s\"", path);
    }
    return -1;
}

static int failed(struct err *err, const char *call, const char *path, int number) {
    return failed_pair(err, call, path, NULL, number);
}

static bool is_absent(const char *path) {
    struct stat st;
    return lstat(path, &st) != 0 && errno == ENOENT;
}

static const struct files_ops os_ops;

static struct os_file *file_of(struct file *file) {
    CHECK(file->ops == &os_ops);
    return (struct os_file *)file; /* base is its first member */
}

static int open_fd(const char *path, int flags) {
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, CREATE_MODE);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static struct file *file_new(const char *path, int fd, uint64_t end) {
    size_t len = strlen(path) + 1;
    struct os_file *file = xmalloc(sizeof *file + len);
    *file = (struct os_file){ .base.ops = &os_ops, .fd = fd, .end = end };
    memcpy(file->path, path, len);
    return &file->base;
}

static int make_dir(const char *path, unsigned mode, struct err *err) {
    struct stat st;
    if (mkdir(path, (mode_t)mode) == 0) {
        return 0;
    }
    int number = errno;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return 0; /* also where mkdir of an existing mount point answers EROFS or EACCES */
        }
        number = ENOTDIR;
    }
    return failed(err, "mkdir", path, number);
}

static enum files_result os_mkdirs(struct files *f TR_UNUSED, const char *path, unsigned mode,
                                   struct err *err) {
    char *prefix = xstrdup(path);
    int result = 0;
    for (char *at = prefix; result == 0 && *at; at++) {
        if (*at == '/' && at > prefix && at[-1] != '/') {
            *at = '\0';
            result = make_dir(prefix, mode, err);
            *at = '/';
        }
    }
    free(prefix);
    return result == 0 && make_dir(path, mode, err) == 0 ? FILES_OK : FILES_FAILED;
}

static enum files_result os_create_excl(struct files *f TR_UNUSED, const char *path,
                                        struct file **out, struct err *err) {
    int fd = open_fd(path, O_CREAT | O_EXCL | O_WRONLY);
    if (fd < 0 && errno == EEXIST) {
        return FILES_EXISTS;
    }
    if (fd < 0) {
        return failed(err, "create", path, errno);
    }
    *out = file_new(path, fd, 0);
    return FILES_OK;
}

static enum files_result os_open_read(struct files *f TR_UNUSED, const char *path,
                                      struct file **out, struct err *err) {
    int fd = open_fd(path, O_RDONLY);
    if (fd < 0) {
        return errno == ENOENT ? FILES_ABSENT : (enum files_result)failed(err, "open", path, errno);
    }
    *out = file_new(path, fd, 0);
    return FILES_OK;
}

static enum files_result os_open_lock(struct files *f TR_UNUSED, const char *path,
                                      struct file **out, struct err *err) {
    int fd = open_fd(path, O_RDWR | O_CREAT);
    if (fd < 0) {
        return failed(err, "open", path, errno);
    }
    int result;
    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    struct stat st;
    if (result == 0 && fstat(fd, &st) == 0) {
        *out = file_new(path, fd, (uint64_t)st.st_size);
        return FILES_OK;
    }
    int number = errno;
    close(fd);
    return number == EWOULDBLOCK ? FILES_EXISTS
                                 : (enum files_result)failed(err, "lock", path, number);
}

/* Takes back what the write had put there, so that the file is as it was; where that fails a retry
 * would write it twice. */
static int write_failed(struct os_file *file, int number, struct err *err) {
    failed(err, "write", file->path, number);
    if (ftruncate(file->fd, (off_t)file->end) != 0 && err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND;
    }
    return -1;
}

static int os_write(struct file *base, const void *p, size_t n, struct err *err) {
    struct os_file *file = file_of(base);
    const char *bytes = p;
    size_t done = 0;
    while (done < n) {
        ssize_t got = pwrite(file->fd, bytes + done, n - done, (off_t)(file->end + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return write_failed(file, got < 0 ? errno : ENOSPC, err);
        }
        done += (size_t)got;
    }
    file->end += n;
    return 0;
}

static int os_read_at(struct file *base, uint64_t off, void *p, size_t n, size_t *got,
                      struct err *err) {
    struct os_file *file = file_of(base);
    char *bytes = p;
    size_t done = 0;
    while (done < n) {
        ssize_t part = pread(file->fd, bytes + done, n - done, (off_t)(off + done));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return failed(err, "read", file->path, errno);
        }
        if (part == 0) {
            break;
        }
        done += (size_t)part;
    }
    *got = done;
    return 0;
}

/* After a failed fsync the kernel may call lost pages clean, so that a second one succeeds for
 * nothing: never a RETRY. */
static int sync_failed(const char *path, int number, struct err *err) {
    failed(err, "fsync", path, number);
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND;
    }
    return -1;
}

static int fsync_fd(int fd) {
    int result;
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result;
}

static int os_sync(struct file *base, struct err *err) {
    struct os_file *file = file_of(base);
    return fsync_fd(file->fd) == 0 ? 0 : sync_failed(file->path, errno, err);
}

static int os_size(struct file *base, uint64_t *out, struct err *err) {
    struct os_file *file = file_of(base);
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return failed(err, "stat", file->path, errno);
    }
    *out = (uint64_t)st.st_size;
    return 0;
}

static void os_close(struct file *base) {
    struct os_file *file = file_of(base);
    close(file->fd); /* what must be on disk was synced before; Linux closes even when it answers
                        EINTR */
    free(file);
}

/* For file systems without RENAME_NOREPLACE. Between the two calls the file has both names, which
 * readers must bear. */
static enum files_result link_unlink(const char *from, const char *to, struct err *err) {
    if (link(from, to) != 0) {
        int number = errno;
        if (number == EEXIST) {
            return FILES_EXISTS;
        }
        if (number == ENOENT && is_absent(from)) {
            return FILES_ABSENT;
        }
        return failed_pair(err, "link", from, to, number);
    }
    if (unlink(from) != 0 && errno != ENOENT) {
        return failed(err, "unlink", from, errno);
    }
    return FILES_OK;
}

static enum files_result os_rename_new(struct files *f TR_UNUSED, const char *from, const char *to,
                                       struct err *err) {
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return FILES_OK;
    }
    int number = errno;
    if (number == EINVAL || number == ENOSYS) {
        return link_unlink(from, to, err);
    }
    if (number == EEXIST) {
        return FILES_EXISTS;
    }
    if (number == ENOENT && is_absent(from)) {
        return FILES_ABSENT;
    }
    return failed_pair(err, "rename", from, to, number);
}

static enum files_result os_rename_over(struct files *f TR_UNUSED, const char *from, const char *to,
                                        struct err *err) {
    if (rename(from, to) == 0) {
        return FILES_OK;
    }
    int number = errno;
    if (number == ENOENT && is_absent(from)) {
        return FILES_ABSENT;
    }
    return failed_pair(err, "rename", from, to, number);
}

static enum files_result os_unlink(struct files *f TR_UNUSED, const char *path, struct err *err) {
    if (unlink(path) == 0) {
        return FILES_OK;
    }
    return errno == ENOENT ? FILES_ABSENT : (enum files_result)failed(err, "unlink", path, errno);
}

static int os_sync_dir(struct files *f TR_UNUSED, const char *path, struct err *err) {
    int fd = open_fd(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return failed(err, "open", path, errno);
    }
    int result = fsync_fd(fd) == 0 ? 0 : sync_failed(path, errno, err);
    close(fd);
    return result;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the count names that stand in out, each followed by a NUL. */
static void sort_names(struct buf *out, size_t count) {
    char *copy = xmalloc(out->len);
    char **names = xcalloc(count, sizeof *names);
    memcpy(copy, out->data, out->len);
    char *at = copy;
    for (size_t i = 0; i < count; i++) {
        names[i] = at;
        at += strlen(at) + 1;
    }
    CHECK(at == copy + out->len);
    qsort(names, count, sizeof *names, compare_names);
    size_t len = out->len;
    buf_clear(out);
    for (size_t i = 0; i < count; i++) {
        buf_put(out, names[i], strlen(names[i]) + 1);
    }
    CHECK(out->len == len);
    free(names);
    free(copy);
}

/* All names of an open folder into out; 0, or -1 with err. */
static int read_names(DIR *dir, const char *path, struct buf *out, size_t *count, struct err *err) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            return errno == 0 ? 0 : failed(err, "list", path, errno);
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            continue;
        }
        if (buf_add(out, name, strlen(name) + 1)) {
            return err_set(err, ERR_FATAL, "list_too_long",
                           "list \"%s\": its names are more than %zu bytes", path, out->max);
        }
        ++*count;
    }
}

static enum files_result os_list(struct files *f TR_UNUSED, const char *path, struct buf *out,
                                 struct err *err) {
    buf_clear(out);
    DIR *dir = opendir(path);
    if (!dir) {
        return errno == ENOENT ? FILES_ABSENT : (enum files_result)failed(err, "list", path, errno);
    }
    size_t count = 0;
    int result = read_names(dir, path, out, &count, err);
    closedir(dir);
    if (result) {
        return FILES_FAILED;
    }
    if (count > 1) {
        sort_names(out, count);
    }
    return FILES_OK;
}

static enum files_result os_may_write(struct files *f TR_UNUSED, const char *path,
                                      struct err *err) {
    struct stat st;
    int number = 0;
    if (stat(path, &st) != 0) {
        number = errno;
    } else if (!S_ISDIR(st.st_mode)) {
        number = ENOTDIR;
    } else if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) != 0) {
        number = errno;
    }
    return number == 0        ? FILES_OK
           : number == ENOENT ? FILES_ABSENT
                              : (enum files_result)failed(err, "write into", path, number);
}

static int os_free_bytes(struct files *f TR_UNUSED, const char *path, uint64_t *free_out,
                         uint64_t *total_out, struct err *err) {
    struct statvfs fs;
    if (statvfs(path, &fs) != 0) {
        return failed(err, "statvfs", path, errno);
    }
    *free_out = (uint64_t)fs.f_bavail * fs.f_frsize;
    *total_out = (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

static int os_map(struct file *base, size_t n, const void **out, struct err *err) {
    struct os_file *file = file_of(base);
    CHECK(n > 0);
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, file->fd, 0);
    if (p == MAP_FAILED) {
        return failed(err, "map", file->path, errno);
    }
    *out = p;
    return 0;
}

static void os_unmap(struct files *f TR_UNUSED, const void *p, size_t n) {
    int result = munmap((void *)(uintptr_t)p, n);
    CHECK(result == 0);
}

static const struct files_ops os_ops = {
    .mkdirs = os_mkdirs,
    .create_excl = os_create_excl,
    .open_read = os_open_read,
    .open_lock = os_open_lock,
    .write = os_write,
    .read_at = os_read_at,
    .sync = os_sync,
    .size = os_size,
    .close = os_close,
    .rename_new = os_rename_new,
    .rename_over = os_rename_over,
    .unlink = os_unlink,
    .sync_dir = os_sync_dir,
    .list = os_list,
    .may_write = os_may_write,
    .free_bytes = os_free_bytes,
    .map = os_map,
    .unmap = os_unmap,
};

struct files *files_os(void) {
    static struct files os = { &os_ops };
    return &os;
}
