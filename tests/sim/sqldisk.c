/* The VFS over the memory disk. See sqldisk.h. */
#include "tests/sim/sqldisk.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "tests/sim/fault.h"
#include "tests/sim/sched.h"

#define NAME_MAX_SQL 300
#define UNIX_EPOCH_JULIAN_MS INT64_C(210866760000000)

struct handle {
    sqlite3_file base;
    struct file *file;
    struct files *files;
    char path[NAME_MAX_SQL];
    int lock; /* SQLITE_LOCK_... */
    unsigned group;
    bool name_too; /* a new journal: its first sync makes its name durable, as unix has it */
    struct handle *next;
};
static struct disk *disk;
static struct handle *handles; /* all that are open, of living processes */
static bool quiet;

void sqldisk_quiet(bool on) { quiet = on; }

/* SQLITE_OK, or how the call fails before its effect. */
static int enter(struct fault *f, const char *call, unsigned kinds, int failed) {
    struct err err = ERR_INIT;
    *f = (struct fault){ 0 };
    if (quiet || fault_enter(f, FAULT_FILE, call, kinds, FAULT_IO, &err) == 0) {
        return SQLITE_OK;
    }
    return f->kind == FAULT_FULL ? SQLITE_FULL : failed;
}
static int leave(struct fault *f, int rc, int failed) {
    struct err err = ERR_INIT;
    return !quiet && fault_leave(f, rc == SQLITE_OK ? 0 : -1, &err) && rc == SQLITE_OK ? failed
                                                                                       : rc;
}

/* ---- files ---- */

static struct handle *handle_of(sqlite3_file *f) { return (struct handle *)f; }

static void forget(struct handle *h) {
    struct handle **at = &handles;
    while (*at && *at != h) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = h->next;
    }
}

void sqldisk_process_died(unsigned group) {
    for (struct handle **at = &handles; *at;) {
        if ((*at)->group == group) {
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

static int sql_close(sqlite3_file *f) {
    struct handle *h = handle_of(f);
    forget(h);
    file_close(h->file);
    h->base.pMethods = NULL;
    return SQLITE_OK;
}

static int sql_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off) {
    struct fault fault;
    struct err err = ERR_INIT;
    size_t got = 0;
    int rc = enter(&fault, "sql_read", FAULT_IO, SQLITE_IOERR_READ);
    if (rc != SQLITE_OK) {
        return rc;
    }
    int failed = file_read_at(handle_of(f)->file, (uint64_t)off, p, (size_t)n, &got, &err);
    CHECK(failed == 0);
    if (got < (size_t)n) {
        memset((char *)p + got, 0, (size_t)n - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    return leave(&fault, SQLITE_OK, SQLITE_IOERR_READ);
}

/* A write that fails may have written a part. */
static int sql_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off) {
    struct fault fault;
    int rc = enter(&fault, "sql_write", FAULT_IO | (unsigned)FAULT_FULL, SQLITE_IOERR_WRITE);
    size_t len = rc == SQLITE_OK ? (size_t)n : sim_below(STREAM_FAULT, (unsigned)n);
    if (len) {
        disk_write_at(handle_of(f)->file, (uint64_t)off, p, len);
    }
    return rc == SQLITE_OK ? leave(&fault, SQLITE_OK, SQLITE_IOERR_WRITE) : rc;
}

static int sql_truncate(sqlite3_file *f, sqlite3_int64 size) {
    struct fault fault;
    int rc = enter(&fault, "sql_truncate", FAULT_IO, SQLITE_IOERR_TRUNCATE);
    if (rc == SQLITE_OK) {
        disk_truncate(handle_of(f)->file, (uint64_t)size);
        rc = leave(&fault, SQLITE_OK, SQLITE_IOERR_TRUNCATE);
    }
    return rc;
}

static void sync_dir_of(struct files *files, const char *path) {
    struct err err = ERR_INIT;
    char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    int failed = files_sync_dir(files, dir, &err);
    CHECK(failed == 0);
    free(dir);
}

static int sql_sync(sqlite3_file *f, int flags) {
    struct fault fault;
    struct err err = ERR_INIT;
    (void)flags;
    int rc = enter(&fault, "sql_sync", FAULT_IO | (unsigned)FAULT_FULL, SQLITE_IOERR_FSYNC);
    if (rc != SQLITE_OK) {
        disk_sync_failed(handle_of(f)->file);
        return rc;
    }
    struct handle *h = handle_of(f);
    int failed = file_sync(h->file, &err);
    CHECK(failed == 0);
    if (h->name_too) {
        sync_dir_of(h->files, h->path);
        h->name_too = false;
    }
    return leave(&fault, SQLITE_OK, SQLITE_IOERR_FSYNC);
}

static int sql_size(sqlite3_file *f, sqlite3_int64 *out) {
    struct err err = ERR_INIT;
    uint64_t size = 0;
    int failed = file_size(handle_of(f)->file, &size, &err);
    CHECK(failed == 0);
    *out = (sqlite3_int64)size;
    return SQLITE_OK;
}

/* ---- locks ---- */

/* The highest that somebody else has; and whether anybody else has any. */
static int others(const struct handle *h, bool *any) {
    int highest = SQLITE_LOCK_NONE;
    *any = false;
    for (const struct handle *o = handles; o; o = o->next) {
        if (o != h && strcmp(o->path, h->path) == 0) {
            *any = *any || o->lock > SQLITE_LOCK_NONE;
            highest = o->lock > highest ? o->lock : highest;
        }
    }
    return highest;
}

static int sql_lock(sqlite3_file *f, int level) {
    struct handle *h = handle_of(f);
    struct fault fault;
    bool any;
    if (!quiet && level == SQLITE_LOCK_RESERVED) {
        fault_moment(MOMENT_RENAME); /* a transaction that writes begins */
    }
    int rc = enter(&fault, "sql_lock", FAULT_IO, SQLITE_IOERR_LOCK);
    if (rc != SQLITE_OK || h->lock >= level) {
        return rc;
    }
    int highest = others(h, &any);
    if (highest >= SQLITE_LOCK_PENDING ||
        (level >= SQLITE_LOCK_RESERVED && highest >= SQLITE_LOCK_RESERVED)) {
        return SQLITE_BUSY;
    }
    if (level == SQLITE_LOCK_EXCLUSIVE && any) {
        h->lock = SQLITE_LOCK_PENDING; /* no new readers: its turn comes */
        return SQLITE_BUSY;
    }
    h->lock = level;
    return SQLITE_OK;
}
static int sql_unlock(sqlite3_file *f, int level) {
    struct handle *h = handle_of(f);
    h->lock = level < h->lock ? level : h->lock;
    return SQLITE_OK;
}
static int sql_check_reserved(sqlite3_file *f, int *out) {
    bool any;
    *out = handle_of(f)->lock >= SQLITE_LOCK_RESERVED ||
           others(handle_of(f), &any) >= SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
}
static int sql_control(sqlite3_file *f, int op, void *arg) {
    (void)f, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}
static int sql_sector(sqlite3_file *f) {
    (void)f;
    return 512;
}
static int sql_characteristics(sqlite3_file *f) {
    (void)f;
    return 0;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = sql_close,
    .xRead = sql_read,
    .xWrite = sql_write,
    .xTruncate = sql_truncate,
    .xSync = sql_sync,
    .xFileSize = sql_size,
    .xLock = sql_lock,
    .xUnlock = sql_unlock,
    .xCheckReservedLock = sql_check_reserved,
    .xFileControl = sql_control,
    .xSectorSize = sql_sector,
    .xDeviceCharacteristics = sql_characteristics,
};

/* ---- names ---- */

static int sql_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out) {
    struct handle *h = handle_of(f);
    struct fault fault;
    struct err err = ERR_INIT;
    (void)vfs;
    CHECK(path && strlen(path) < sizeof h->path);
    *h = (struct handle){ .group = quiet ? 0 : sched_group(), .files = disk_files(disk, 0) };
    memcpy(h->path, path, strlen(path) + 1);
    if (enter(&fault, "sql_open", FAULT_IO, SQLITE_CANTOPEN) != SQLITE_OK) {
        return SQLITE_CANTOPEN;
    }
    enum files_result got = files_open_read(h->files, path, &h->file, &err);
    if (got == FILES_ABSENT && flags & SQLITE_OPEN_CREATE) {
        got = files_create_excl(h->files, path, &h->file, &err);
    }
    if (got != FILES_OK) {
        return SQLITE_CANTOPEN;
    }
    h->name_too = flags & SQLITE_OPEN_CREATE && flags & SQLITE_OPEN_MAIN_JOURNAL;
    h->base.pMethods = &methods;
    h->next = handles;
    handles = h;
    if (out) {
        *out = flags;
    }
    return SQLITE_OK;
}

static int sql_delete(sqlite3_vfs *vfs, const char *path, int sync_dir) {
    struct fault fault;
    struct err err = ERR_INIT;
    struct files *files = disk_files(disk, 0);
    (void)vfs;
    int rc = enter(&fault, "sql_delete", FAULT_IO, SQLITE_IOERR_DELETE);
    if (rc != SQLITE_OK) {
        return rc;
    }
    if (files_unlink(files, path, &err) == FILES_ABSENT) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    if (!quiet) {
        fault_moment(MOMENT_UNLINK); /* it has committed */
    }
    rc = leave(&fault, SQLITE_OK, SQLITE_IOERR_DELETE);
    if (rc == SQLITE_OK && sync_dir) {
        rc = enter(&fault, "sql_sync_dir", FAULT_IO, SQLITE_IOERR_DIR_FSYNC);
    }
    if (rc == SQLITE_OK && sync_dir) {
        sync_dir_of(files, path);
        rc = leave(&fault, SQLITE_OK, SQLITE_IOERR_DIR_FSYNC);
    }
    return rc;
}

static int sql_access(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
    (void)vfs, (void)flags;
    const struct buf *there = disk_look(disk, path);
    *out = there && (flags != SQLITE_ACCESS_EXISTS || there->len > 0); /* as unix has it */
    return SQLITE_OK;
}
static int sql_full_path(sqlite3_vfs *vfs, const char *path, int max, char *out) {
    (void)vfs;
    sqlite3_snprintf(max, out, "%s", path);
    return SQLITE_OK;
}
static int sql_random(sqlite3_vfs *vfs, int n, char *out) {
    (void)vfs;
    for (int i = 0; i < n; i++) {
        out[i] = (char)sim_random(STREAM_DISK);
    }
    return n;
}
static int sql_sleep(sqlite3_vfs *vfs, int us) {
    (void)vfs;
    return us;
}
static int sql_time(sqlite3_vfs *vfs, sqlite3_int64 *out) {
    (void)vfs;
    *out = UNIX_EPOCH_JULIAN_MS + clock_wall_us() / 1000;
    return SQLITE_OK;
}
static int sql_time_old(sqlite3_vfs *vfs, double *out) {
    sqlite3_int64 ms = 0;
    sql_time(vfs, &ms);
    *out = (double)ms / 86400000.0;
    return SQLITE_OK;
}
static int sql_last_error(sqlite3_vfs *vfs, int n, char *out) {
    (void)vfs, (void)n, (void)out;
    return 0;
}

void sqldisk_init(struct disk *d) {
    static sqlite3_vfs vfs = { .iVersion = 2,
                               .szOsFile = sizeof(struct handle),
                               .mxPathname = NAME_MAX_SQL - 1,
                               .zName = "memory-disk",
                               .xOpen = sql_open,
                               .xDelete = sql_delete,
                               .xAccess = sql_access,
                               .xFullPathname = sql_full_path,
                               .xRandomness = sql_random,
                               .xSleep = sql_sleep,
                               .xCurrentTime = sql_time_old,
                               .xCurrentTimeInt64 = sql_time,
                               .xGetLastError = sql_last_error };
    disk = d;
    int rc = sqlite3_vfs_register(&vfs, 1);
    CHECK(rc == SQLITE_OK);
}
