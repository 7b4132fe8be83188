/* The embedded catalog: its schema, claims, compare-and-set, what is left after each refusal, busy,
 * and faults of the file system by a wrapped SQLite VFS. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sinks/iceberg/ice_catalog.h"
#include "tests/unit/kit.h"

static struct ice_catalog *open_in(const char *dir) {
    struct ice_catalog *c = NULL;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, true, &c, &err), FILES_OK);
    EXPECT_EQ_STR(err.text, "");
    return c;
}

static bool never(void *arg) {
    (void)arg;
    CHECK(!"nothing is locked here");
    return true;
}

/* One commit of table s.t and the job j. */
static enum commit_outcome commit(struct ice_catalog *c, uint64_t epoch, const char *from,
                                  const char *to, const char *table_from, const char *table_to,
                                  struct err *err) {
    struct ice_catalog_change change = {
        .space = "s", .name = "t", .from = table_from, .to = table_to
    };
    struct ice_catalog_commit req = { .job = "j",
                                      .epoch = epoch,
                                      .seq = 1,
                                      .from = from,
                                      .to = to,
                                      .schemas = NULL,
                                      .commit_id = "c",
                                      .changes = &change,
                                      .change_count = table_to != NULL };
    uint32_t conflict;
    *err = ERR_INIT;
    return ice_catalog_commit(c, &req, &conflict, never, NULL, err);
}

static const char *position_of(struct ice_catalog *c) {
    struct ice_job_row row;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_job(c, "j", &row, &err), 0);
    const char *text = row.position ? kit_text("%s", row.position) : NULL;
    ice_job_row_release(&row);
    return text;
}

static const char *location_of(struct ice_catalog *c) {
    char *location;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_table(c, "s", "t", &location, &err), 0);
    const char *text = location ? kit_text("%s", location) : NULL;
    free(location);
    return text;
}

static uint64_t claim(struct ice_catalog *c) {
    struct ice_job_row row;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_claim(c, "j", &row, &err), 0);
    uint64_t epoch = row.epoch;
    ice_job_row_release(&row);
    return epoch;
}

static sqlite3 *raw(const char *dir) {
    sqlite3 *db;
    CHECK(sqlite3_open(kit_text("%s/catalog.db", dir), &db) == SQLITE_OK);
    return db;
}

static void run(sqlite3 *db, const char *sql) {
    char *why = NULL;
    sqlite3_exec(db, sql, NULL, NULL, &why);
    EXPECT_EQ_STR(why, NULL);
    sqlite3_free(why);
}

static const char *ask(sqlite3 *db, const char *sql) {
    sqlite3_stmt *s;
    CHECK(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
    const char *text = sqlite3_step(s) == SQLITE_ROW && sqlite3_column_text(s, 0)
                           ? kit_text("%s", (const char *)sqlite3_column_text(s, 0))
                           : NULL;
    sqlite3_finalize(s);
    return text;
}

TEST(ice_catalog_is_absent_where_nothing_made_it) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, false, &c, &err), FILES_ABSENT);
    EXPECT_EQ_INT(ice_catalog_open(files_os(), kit_text("%s/no", dir), false, &c, &err),
                  FILES_ABSENT);
    EXPECT_TRUE(access(kit_text("%s/catalog.db", dir), F_OK) != 0); /* looking made nothing */
    sqlite3 *db = raw(dir);
    run(db, "PRAGMA user_version = 0; VACUUM");
    sqlite3_close(db);
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, false, &c, &err),
                  FILES_ABSENT); /* empty: a creation cut off */
    ice_catalog_close(open_in(dir));
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, false, &c, &err), FILES_OK);
    ice_catalog_close(c);
    EXPECT_EQ_INT(ice_catalog_open(files_os(), kit_text("%s/no", dir), true, &c, &err),
                  FILES_FAILED);
}

TEST(ice_catalog_has_the_tables_that_pyiceberg_makes) {
    const char *dir = kit_temp_dir();
    ice_catalog_close(open_in(dir));
    sqlite3 *db = raw(dir);
    EXPECT_EQ_STR(ask(db, "SELECT sql FROM sqlite_master WHERE name = 'iceberg_tables'"),
                  "CREATE TABLE iceberg_tables (\n\tcatalog_name VARCHAR(255) NOT NULL, "
                  "\n\ttable_namespace VARCHAR(255) NOT NULL, \n"
                  "\ttable_name VARCHAR(255) NOT NULL, \n\tmetadata_location VARCHAR(1000), \n"
                  "\tprevious_metadata_location VARCHAR(1000), \n\ticeberg_type VARCHAR(5), \n"
                  "\tPRIMARY KEY (catalog_name, table_namespace, table_name)\n)");
    EXPECT_EQ_STR(ask(db, "PRAGMA journal_mode"), "delete");
    EXPECT_EQ_STR(ask(db, "PRAGMA user_version"), "0");
    sqlite3_close(db);
}

TEST(ice_catalog_commits_tables_and_position_at_once) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c = open_in(dir);
    struct err err;
    EXPECT_EQ_STR(position_of(c), NULL);
    uint64_t epoch = claim(c);
    EXPECT_EQ_INT(epoch, 1);
    EXPECT_EQ_INT(commit(c, epoch, NULL, "p1", NULL, "m1", &err), COMMITTED);
    EXPECT_EQ_INT(commit(c, epoch, "p1", "p2", "m1", "m2", &err), COMMITTED);
    EXPECT_EQ_INT(commit(c, epoch, "p2", "p3", NULL, NULL, &err),
                  COMMITTED); /* the position only */
    ice_catalog_close(c);
    c = open_in(dir);
    EXPECT_EQ_STR(position_of(c), "p3");
    EXPECT_EQ_STR(location_of(c), "m2");
    EXPECT_EQ_INT(claim(c), 2);
    EXPECT_EQ_STR(position_of(c), "p3");
    ice_catalog_close(c);
    sqlite3 *db = raw(dir);
    EXPECT_EQ_STR(ask(db, "SELECT group_concat(catalog_name || table_namespace || table_name || "
                          "previous_metadata_location || iceberg_type)"
                          " FROM iceberg_tables"),
                  "tailracestm1TABLE");
    EXPECT_EQ_STR(ask(db, "SELECT catalog_name || namespace || property_key || property_value FROM "
                          "iceberg_namespace_properties"),
                  "tailracesexiststrue");
    sqlite3_close(db);
}

TEST(ice_catalog_refuses_what_does_not_follow_and_leaves_nothing_of_it) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c = open_in(dir);
    struct err err;
    uint64_t epoch = claim(c);
    EXPECT_EQ_INT(commit(c, epoch, NULL, "p1", NULL, "m1", &err), COMMITTED);
    EXPECT_EQ_INT(commit(c, epoch, NULL, "p2", "m1", "m2", &err),
                  COMMIT_CONFLICT); /* another position */
    EXPECT_EQ_INT(commit(c, epoch, "p1", "p2", "m0", "m2", &err),
                  COMMIT_CONFLICT); /* a foreign commit */
    EXPECT_EQ_INT(commit(c, epoch, "p1", "p2", NULL, "m2", &err),
                  COMMIT_CONFLICT); /* the table is there */
    EXPECT_EQ_INT(commit(c, epoch + 1, "p1", "p2", "m1", "m2", &err),
                  COMMIT_CONFLICT); /* the file was put back */
    struct ice_catalog_change changes[] = {
        { .space = "s", .name = "new", .to = "n1" },
        { .space = "s", .name = "t", .from = "m0", .to = "m2" },
    };
    struct ice_catalog_commit req = { .job = "j",
                                      .epoch = epoch,
                                      .seq = 2,
                                      .from = "p1",
                                      .to = "p2",
                                      .commit_id = "c",
                                      .changes = changes,
                                      .change_count = 2 };
    uint32_t conflict;
    EXPECT_EQ_INT(ice_catalog_commit(c, &req, &conflict, never, NULL, &err), COMMIT_CONFLICT);
    EXPECT_EQ_INT(conflict, 1);
    char *location;
    EXPECT_EQ_INT(ice_catalog_table(c, "s", "new", &location, &err), 0);
    EXPECT_EQ_STR(location, NULL); /* the first change went with the second */
    claim(c);
    EXPECT_EQ_INT(commit(c, epoch, "p1", "p2", "m1", "m2", &err), COMMIT_FENCED);
    EXPECT_EQ_STR(position_of(c), "p1");
    EXPECT_EQ_STR(location_of(c), "m1");
    EXPECT_EQ_INT(commit(c, epoch + 1, "p1", "p2", "m1", "m2", &err), COMMITTED);
    ice_catalog_close(c);
    sqlite3 *db = raw(dir);
    run(db, "DELETE FROM tailrace_jobs");
    sqlite3_close(db);
    c = open_in(dir);
    EXPECT_EQ_INT(commit(c, epoch + 1, "p2", "p3", "m2", "m3", &err), COMMIT_CONFLICT);
    ice_catalog_close(c);
}

TEST(ice_catalog_keeps_schemas_until_they_change) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c = open_in(dir);
    struct err err = ERR_INIT;
    uint32_t conflict;
    uint64_t epoch = claim(c);
    struct ice_catalog_commit req = { .job = "j",
                                      .epoch = epoch,
                                      .seq = UINT64_C(1) << 40,
                                      .to = "p1",
                                      .schemas = "[1]",
                                      .commit_id = "a" };
    EXPECT_EQ_INT(ice_catalog_commit(c, &req, &conflict, never, NULL, &err), COMMITTED);
    req.from = "p1";
    req.to = "p2";
    req.schemas = NULL;
    req.commit_id = "b";
    EXPECT_EQ_INT(ice_catalog_commit(c, &req, &conflict, never, NULL, &err), COMMITTED);
    struct ice_job_row row;
    EXPECT_EQ_INT(ice_catalog_job(c, "j", &row, &err), 0);
    EXPECT_EQ_STR(row.schemas, "[1]");
    EXPECT_EQ_STR(row.commit_id, "b");
    EXPECT_EQ_U64(row.seq, UINT64_C(1) << 40);
    ice_job_row_release(&row);
    ice_catalog_close(c);
}

TEST(ice_catalog_takes_over_those_of_java) {
    const char *dir = kit_temp_dir();
    sqlite3 *db = raw(dir);
    run(db, "CREATE TABLE iceberg_tables(catalog_name VARCHAR(255) NOT NULL, table_namespace "
            "VARCHAR(255) NOT NULL,"
            "table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), "
            "previous_metadata_location VARCHAR(1000),"
            "PRIMARY KEY (catalog_name, table_namespace, table_name));"
            "INSERT INTO iceberg_tables VALUES ('tailrace', 's', 't', 'm1', NULL)");
    sqlite3_close(db);
    struct ice_catalog *c;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, false, &c, &err), FILES_OK);
    EXPECT_EQ_STR(location_of(c), "m1");
    EXPECT_EQ_STR(position_of(c), NULL);
    ice_catalog_close(c);
    c = open_in(dir);
    EXPECT_EQ_INT(commit(c, claim(c), NULL, "p1", "m1", "m2", &err),
                  COMMITTED); /* iceberg_type is null */
    ice_catalog_close(c);
}

struct locker {
    sqlite3 *db;
    const char *undo; /* NULL = never */
    int asked;
};

static bool wait_for(void *arg) {
    struct locker *l = arg;
    l->asked++;
    if (l->asked == 3 && l->undo) {
        run(l->db, l->undo);
    }
    return l->asked == 5;
}

TEST(ice_catalog_waits_at_begin_and_at_commit_until_told_to_stop) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c = open_in(dir);
    struct err err = ERR_INIT;
    uint32_t conflict;
    uint64_t epoch = claim(c);
    sqlite3 *db = raw(dir);
    const char *const locks[] = { "BEGIN IMMEDIATE",
                                  "BEGIN; SELECT * FROM tailrace_jobs" }; /* at BEGIN; at COMMIT */
    const char *from = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(locks); i++) {
        struct locker l = { .db = db };
        struct ice_catalog_commit req = { .job = "j",
                                          .epoch = epoch,
                                          .seq = 1,
                                          .from = from,
                                          .to = i ? "p2" : "p1",
                                          .commit_id = "c" };
        run(db, locks[i]);
        EXPECT_EQ_INT(ice_catalog_commit(c, &req, &conflict, wait_for, &l, &err), COMMIT_FAILED);
        EXPECT_EQ_INT(l.asked, 5);
        EXPECT_EQ_STR(err.code, "catalog_busy");
        EXPECT_EQ_INT(err.kind, ERR_RETRY);
        run(db, "ROLLBACK");
        EXPECT_EQ_STR(position_of(c), from);
        l = (struct locker){ .db = db, .undo = "ROLLBACK" };
        run(db, locks[i]);
        EXPECT_EQ_INT(ice_catalog_commit(c, &req, &conflict, wait_for, &l, &err), COMMITTED);
        EXPECT_EQ_INT(l.asked, 3);
        EXPECT_EQ_STR(position_of(c), req.to);
        from = req.to;
    }
    run(db, "BEGIN EXCLUSIVE");
    struct ice_job_row row;
    EXPECT_EQ_INT(ice_catalog_job(c, "j", &row, &err), -1);
    EXPECT_EQ_STR(err.code, "catalog_busy");
    EXPECT_EQ_INT(ice_catalog_claim(c, "j", &row, &err), -1);
    EXPECT_EQ_STR(err.code, "catalog_busy");
    struct ice_catalog *second;
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, true, &second, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.code, "catalog_busy");
    run(db, "ROLLBACK");
    run(db, "BEGIN; SELECT count(*) FROM iceberg_tables"); /* somebody reads */
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, true, &second, &err), FILES_OK);
    ice_catalog_close(second);
    run(db, "ROLLBACK");
    EXPECT_EQ_INT(claim(c), epoch + 1);
    sqlite3_close(db);
    ice_catalog_close(c);
}

TEST(ice_catalog_says_what_is_wrong_with_its_file) {
    const char *dir = kit_temp_dir();
    struct ice_catalog *c;
    struct err err = ERR_INIT;
    FILE *f = fopen(kit_text("%s/catalog.db", dir), "w");
    fputs("this is no database, and it is longer than a header of one hundred bytes, so that "
          "SQLite looks at it and says so.",
          f);
    fclose(f);
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, true, &c, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.code, "catalog_damaged");
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_TRUE(err.cure[0] != 0);
    unlink(kit_text("%s/catalog.db", dir));
    mkdir(kit_text("%s/catalog.db", dir), 0700);
    EXPECT_EQ_INT(ice_catalog_open(files_os(), dir, true, &c, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.code, "catalog_unreachable");
}

/* ---- faults: a VFS that fails the nth call of a kind ---- */

enum fault {
    FAULT_WRITE_FULL,
    FAULT_WRITE_IO,
    FAULT_SYNC,
    FAULT_DELETE_BEFORE,
    FAULT_DELETE_AFTER,
    FAULT_COUNT
};
static struct {
    sqlite3_vfs vfs, *real;
    sqlite3_io_methods methods;
    enum fault kind;
    int countdown; /* 0 = off */
} faulty;

/* The real file behind ours. */
struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real;
};
static sqlite3_file *real_of(sqlite3_file *f) { return ((struct faulty_file *)(void *)f)->real; }

static bool strikes(enum fault kind) {
    return faulty.countdown > 0 && faulty.kind == kind && --faulty.countdown == 0;
}

static int f_close(sqlite3_file *f) {
    int rc = real_of(f)->pMethods->xClose(real_of(f));
    sqlite3_free(real_of(f));
    return rc;
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    if (strikes(FAULT_WRITE_FULL)) {
        return SQLITE_FULL;
    }
    if (strikes(FAULT_WRITE_IO)) {
        return SQLITE_IOERR_WRITE;
    }
    return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 n) {
    return real_of(f)->pMethods->xTruncate(real_of(f), n);
}
static int f_sync(sqlite3_file *f, int flags) {
    return strikes(FAULT_SYNC) ? SQLITE_IOERR_FSYNC
                               : real_of(f)->pMethods->xSync(real_of(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *n) {
    return real_of(f)->pMethods->xFileSize(real_of(f), n);
}
static int f_lock(sqlite3_file *f, int l) { return real_of(f)->pMethods->xLock(real_of(f), l); }
static int f_unlock(sqlite3_file *f, int l) { return real_of(f)->pMethods->xUnlock(real_of(f), l); }
static int f_reserved(sqlite3_file *f, int *out) {
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg) {
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int f_sector(sqlite3_file *f) { return real_of(f)->pMethods->xSectorSize(real_of(f)); }
static int f_traits(sqlite3_file *f) {
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    struct faulty_file *file = (struct faulty_file *)(void *)f;
    (void)v;
    file->real = sqlite3_malloc(faulty.real->szOsFile);
    memset(file->real, 0, (size_t)faulty.real->szOsFile);
    int rc = faulty.real->xOpen(faulty.real, name, file->real, flags, out);
    file->base.pMethods = rc == SQLITE_OK ? &faulty.methods : NULL;
    if (rc != SQLITE_OK) {
        sqlite3_free(file->real);
    }
    return rc;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync) {
    (void)v;
    if (strikes(FAULT_DELETE_BEFORE)) {
        return SQLITE_IOERR_DELETE;
    }
    int rc = faulty.real->xDelete(faulty.real, name, sync);
    return strikes(FAULT_DELETE_AFTER) ? SQLITE_IOERR_DIR_FSYNC
                                       : rc; /* gone, but nobody knows for how long */
}

static void faults_on(void) {
    faulty.real = sqlite3_vfs_find(NULL);
    faulty.vfs = *faulty.real;
    faulty.vfs.zName = "faulty";
    faulty.vfs.szOsFile = sizeof(struct faulty_file);
    faulty.vfs.xOpen = v_open;
    faulty.vfs.xDelete = v_delete;
    faulty.methods = (sqlite3_io_methods){ .iVersion = 1,
                                           .xClose = f_close,
                                           .xRead = f_read,
                                           .xWrite = f_write,
                                           .xTruncate = f_truncate,
                                           .xSync = f_sync,
                                           .xFileSize = f_size,
                                           .xLock = f_lock,
                                           .xUnlock = f_unlock,
                                           .xCheckReservedLock = f_reserved,
                                           .xFileControl = f_control,
                                           .xSectorSize = f_sector,
                                           .xDeviceCharacteristics = f_traits };
    sqlite3_vfs_register(&faulty.vfs, 1);
}

static void faults_off(void) {
    sqlite3_vfs_unregister(&faulty.vfs);
    sqlite3_vfs_register(faulty.real, 1);
    faulty.countdown = 0;
}

TEST(ice_catalog_commit_under_faults_says_only_what_is_true) {
    bool seen[FAULT_COUNT][3] = { { false } }; /* COMMITTED, FAILED, UNKNOWN */
    faults_on();
    for (enum fault kind = 0; kind < FAULT_COUNT; kind++) {
        for (int nth = 1; nth <= 12; nth++) {
            const char *dir = kit_text("%s/%d-%d", kit_temp_dir(), (int)kind, nth);
            mkdir(dir, 0700);
            struct ice_catalog *c = open_in(dir);
            struct err err;
            uint64_t epoch = claim(c);
            EXPECT_EQ_INT(commit(c, epoch, NULL, "p1", NULL, "m1", &err), COMMITTED);
            faulty.kind = kind;
            faulty.countdown = nth;
            enum commit_outcome got = commit(c, epoch, "p1", "p2", "m1", "m2", &err);
            bool struck = faulty.countdown == 0;
            faulty.countdown = 0;
            if (got == COMMIT_UNKNOWN) {
                EXPECT_TRUE(err.kind == ERR_REWIND);
                struct ice_job_row row;
                EXPECT_EQ_INT(ice_catalog_job(c, "j", &row, &err), -1); /* only close is left */
                EXPECT_EQ_INT(commit(c, epoch, "p1", "p2", "m1", "m2", &err), COMMIT_FAILED);
            }
            if (got == COMMIT_FAILED) {
                EXPECT_EQ_STR(err.code, kind == FAULT_WRITE_FULL ? "disk_full" : "catalog_io");
            }
            ice_catalog_close(c);
            c = open_in(dir); /* rolls a hot journal back */
            const char *position = position_of(c);
            const char *location = location_of(c);
            bool whole = strcmp(position, "p2") == 0;
            EXPECT_EQ_STR(location, whole ? "m2" : "m1"); /* both or none */
            EXPECT_TRUE(got == COMMITTED       ? whole
                        : got == COMMIT_FAILED ? !whole
                                               : got == COMMIT_UNKNOWN);
            EXPECT_TRUE(struck || got == COMMITTED);
            seen[kind][got == COMMITTED ? 0 : got == COMMIT_FAILED ? 1 : 2] = true;
            EXPECT_EQ_INT(commit(c, epoch, position, "p3", location, "m3", &err),
                          COMMITTED); /* and on */
            ice_catalog_close(c);
        }
    }
    faults_off();
    EXPECT_TRUE(seen[FAULT_WRITE_FULL][1] &&
                !seen[FAULT_WRITE_FULL][2]); /* a full disk is never in doubt */
    EXPECT_TRUE(seen[FAULT_WRITE_IO][2] && seen[FAULT_SYNC][2]);
    EXPECT_TRUE(seen[FAULT_DELETE_BEFORE][2] && seen[FAULT_DELETE_AFTER][2]);
}
