/* See ice_catalog.h. Every write is one transaction that begins with BEGIN IMMEDIATE, so that what
 * it reads cannot change before it writes.
 *
 *   commit: BEGIN IMMEDIATE (busy: stop()?) -> job row: epoch, position -> each table: location
 *           -> job row -> COMMIT (busy: the same again)
 *           -> OK = COMMITTED | FULL = rolled back | another error = UNKNOWN, connection of no use
 *
 * Why a busy COMMIT is not in doubt: SQLite gets its exclusive lock before it writes a byte of the
 * database. Why a full disk is not: the journal is whole and synced before the database is written,
 * and taking the journal away is the commit; until then ROLLBACK (or the next opener) restores it.
 */
#include "sinks/iceberg/ice_catalog.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define CATALOG_NAME "tailrace"

struct ice_catalog {
    sqlite3 *db;
    char *path;
    bool has_jobs; /* the table of jobs is there */
    bool broken;   /* an error that SQLite may not have recovered from: only close is left */
};

/* As PyIceberg 0.12 creates them. */
static const char catalog_tables[] = "CREATE TABLE IF NOT EXISTS iceberg_tables (\n"
                                     "\tcatalog_name VARCHAR(255) NOT NULL, \n"
                                     "\ttable_namespace VARCHAR(255) NOT NULL, \n"
                                     "\ttable_name VARCHAR(255) NOT NULL, \n"
                                     "\tmetadata_location VARCHAR(1000), \n"
                                     "\tprevious_metadata_location VARCHAR(1000), \n"
                                     "\ticeberg_type VARCHAR(5), \n"
                                     "\tPRIMARY KEY (catalog_name, table_namespace, table_name)\n"
                                     ");\n"
                                     "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\n"
                                     "\tcatalog_name VARCHAR(255) NOT NULL, \n"
                                     "\tnamespace VARCHAR(255) NOT NULL, \n"
                                     "\tproperty_key VARCHAR(255) NOT NULL, \n"
                                     "\tproperty_value VARCHAR(1000) NOT NULL, \n"
                                     "\tPRIMARY KEY (catalog_name, namespace, property_key)\n"
                                     ");\n"
                                     "CREATE TABLE IF NOT EXISTS tailrace_jobs (\n"
                                     "\tjob TEXT NOT NULL PRIMARY KEY, \n"
                                     "\tepoch INTEGER NOT NULL, \n"
                                     "\tseq INTEGER NOT NULL, \n"
                                     "\tposition TEXT, \n"
                                     "\tschemas TEXT, \n"
                                     "\tcommit_id TEXT\n"
                                     ");\n"
                                     "CREATE TABLE IF NOT EXISTS tailrace_tables (\n"
                                     "\tjob TEXT NOT NULL, \n"
                                     "\ttable_namespace TEXT NOT NULL, \n"
                                     "\ttable_name TEXT NOT NULL, \n"
                                     "\tuuid TEXT NOT NULL, \n"
                                     "\tcommit_id TEXT NOT NULL, \n"
                                     "\tconsistent INTEGER NOT NULL, \n"
                                     "\tPRIMARY KEY (job, table_namespace, table_name)\n"
                                     ");\n"
                                     "CREATE TABLE IF NOT EXISTS tailrace_garbage (\n"
                                     "\tjob TEXT NOT NULL PRIMARY KEY, \n"
                                     "\turls TEXT NOT NULL\n"
                                     ");";

/* ---- errors ---- */

/* The last error of the connection, or rc where SQLite has none. Always -1. */
static int failed(struct ice_catalog *c, int rc, const char *what, struct err *err) {
    const char *why = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        err_set(err, ERR_RETRY, "catalog_busy", "%s \"%s\": another program has it locked", what,
                c->path);
        return err_cure(err, "end the program that keeps the catalog open in a transaction");
    case SQLITE_FULL:
        err_set(err, ERR_RETRY, "disk_full", "%s \"%s\": %s", what, c->path, why);
        return err_cure(err, "make room on the file system of the warehouse");
    case SQLITE_IOERR:
        c->broken = true;
        err_set(err, ERR_REWIND, "catalog_io", "%s \"%s\": %s (%d)", what, c->path, why, rc);
        return err_cure(err, "look into the kernel's log for errors of that disk");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        err_set(err, ERR_FATAL, "catalog_damaged", "%s \"%s\": %s", what, c->path, why);
        return err_cure(
            err,
            "put the file back from a backup; where there is none, sqlite3 FILE .recover saves "
            "what can be saved. Data and metadata files are not touched");
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        err_set(err, ERR_FATAL, "catalog_readonly", "%s \"%s\": %s", what, c->path, why);
        return err_cure(
            err,
            "give tailrace's user write permission on the file and its folder (SQLite puts its "
            "journal beside it)");
    case SQLITE_CANTOPEN:
        err_set(err, ERR_FATAL, "catalog_unreachable", "%s \"%s\": %s", what, c->path, why);
        return err_cure(err, "give tailrace's user read and write permission on the folder");
    case SQLITE_SCHEMA:
    case SQLITE_ERROR:
        err_set(err, ERR_FATAL, "catalog_foreign", "%s \"%s\": %s", what, c->path, why);
        return err_cure(err,
                        "this is not the catalog of an Iceberg warehouse: choose another folder");
    default:
        return err_set(err, ERR_FATAL, "catalog_error", "%s \"%s\": %s (%d)", what, c->path, why,
                       rc);
    }
}

static int refuse_broken(struct ice_catalog *c, struct err *err) {
    return err_set(err, ERR_REWIND, "catalog_io", "use \"%s\": an earlier error left it in doubt",
                   c->path);
}

/* ---- statements ---- */

static int run_sql(struct ice_catalog *c, const char *sql) {
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL);
}

/* Nothing of the transaction is left, or the connection is of no use. */
static void roll_back(struct ice_catalog *c) {
    if (!sqlite3_get_autocommit(c->db)) {
        int rc = run_sql(c, "ROLLBACK");
        if (rc != SQLITE_OK && !sqlite3_get_autocommit(c->db)) {
            c->broken = true;
        }
    }
}

/* Prepared, its texts bound from 1; NULL binds null. */
static int prepare(struct ice_catalog *c, const char *sql, const char *const *texts, int count,
                   sqlite3_stmt **out) {
    int rc = sqlite3_prepare_v2(c->db, sql, -1, out, NULL);
    for (int i = 0; rc == SQLITE_OK && i < count; i++) {
        rc = texts[i] ? sqlite3_bind_text(*out, i + 1, texts[i], -1, SQLITE_STATIC)
                      : sqlite3_bind_null(*out, i + 1);
    }
    if (rc != SQLITE_OK) {
        sqlite3_finalize(*out);
        *out = NULL;
    }
    return rc;
}

/* A statement without rows; *changed: how many it changed. */
static int run_with(struct ice_catalog *c, const char *sql, const char *const *texts, int count,
                    int *changed) {
    sqlite3_stmt *s;
    int rc = prepare(c, sql, texts, count, &s);
    if (rc != SQLITE_OK) {
        return rc;
    }
    rc = sqlite3_step(s);
    if (changed) {
        *changed = sqlite3_changes(c->db);
    }
    int end = sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_OK : end != SQLITE_OK ? end : rc;
}

/* One text of the first row: *found says whether there is one; NULL values give NULL. */
static int query_text(struct ice_catalog *c, const char *sql, const char *const *texts, int count,
                      bool *found, char **out) {
    sqlite3_stmt *s;
    *found = false;
    *out = NULL;
    int rc = prepare(c, sql, texts, count, &s);
    if (rc != SQLITE_OK) {
        return rc;
    }
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(s, 0);
        *found = true;
        *out = text ? xstrdup((const char *)text) : NULL;
        rc = SQLITE_DONE;
    }
    int end = sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_OK : end != SQLITE_OK ? end : rc;
}

/* ---- opening ---- */

static int set_pragma(struct ice_catalog *c, const char *sql, const char *want, struct err *err) {
    bool found;
    char *got;
    int rc = query_text(c, sql, NULL, 0, &found, &got);
    bool same = rc == SQLITE_OK && got && strcmp(got, want) == 0;
    free(got);
    if (rc != SQLITE_OK) {
        return failed(c, rc, "open", err);
    }
    return same ? 0
                : failed(c, SQLITE_BUSY, "open",
                         err); /* the mode changes only while nobody else has it open */
}

static int has_table(struct ice_catalog *c, const char *name, bool *out, struct err *err) {
    const char *texts[] = { name };
    char *text;
    int rc = query_text(c, "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?1",
                        texts, 1, out, &text);
    free(text);
    return rc == SQLITE_OK ? 0 : failed(c, rc, "read", err);
}

/* Catalogs of Java's V0 form lack a column; its own migration to V1 adds it so. */
static int create_tables(struct ice_catalog *c, struct err *err) {
    bool typed = false;
    char *text = NULL;
    int rc = run_sql(c, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) {
        rc = run_sql(c, catalog_tables);
    }
    if (rc == SQLITE_OK) {
        rc = query_text(
            c, "SELECT name FROM pragma_table_info('iceberg_tables') WHERE name = 'iceberg_type'",
            NULL, 0, &typed, &text);
        free(text);
    }
    if (rc == SQLITE_OK && !typed) {
        rc = run_sql(c, "ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)");
    }
    if (rc == SQLITE_OK) {
        rc = run_sql(c, "COMMIT");
    }
    if (rc != SQLITE_OK) {
        int got = failed(c, rc, "create the tables of", err);
        roll_back(c);
        return got;
    }
    return 0;
}

static int prepare_file(struct ice_catalog *c, bool create, bool *absent, struct err *err) {
    bool tables;
    if (has_table(c, "iceberg_tables", &tables, err) != 0 ||
        has_table(c, "tailrace_jobs", &c->has_jobs, err) != 0) {
        return -1;
    }
    *absent = !tables && !create;
    if (*absent) {
        return 0;
    }
    if (set_pragma(c, "PRAGMA journal_mode = DELETE", "delete", err) != 0) {
        return -1;
    }
    int rc = run_sql(
        c, "PRAGMA synchronous = EXTRA; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON");
    if (rc != SQLITE_OK) {
        return failed(c, rc, "open", err);
    }
    if (set_pragma(c, "PRAGMA synchronous", "3", err) != 0) {
        return -1;
    }
    if (create) {
        c->has_jobs = true;
        return create_tables(c, err);
    }
    return 0;
}

/* Whether the file is there; the folder's names are durable afterwards. */
static enum files_result look_for(struct files *files, const char *folder, const char *path,
                                  bool create, struct err *err) {
    struct file *file;
    enum files_result got = files_open_read(files, path, &file, err);
    if (got == FILES_OK) {
        file_close(file);
    } else if (got != FILES_ABSENT || !create) {
        return got;
    }
    return files_sync_dir(files, folder, err) == 0 ? FILES_OK : FILES_FAILED;
}

enum files_result ice_catalog_open(struct files *files, const char *folder, bool create,
                                   struct ice_catalog **out, struct err *err) {
    struct ice_catalog *c = xcalloc(1, sizeof *c);
    c->path = xasprintf("%s/catalog.db", folder);
    *out = NULL;
    enum files_result got = look_for(files, folder, c->path, create, err);
    if (got != FILES_OK) {
        ice_catalog_close(c);
        return got;
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(c->path, &c->db, flags, NULL);
    bool absent = false;
    if (rc != SQLITE_OK) {
        got = FILES_FAILED;
        failed(c, sqlite3_extended_errcode(c->db), "open", err);
    } else {
        sqlite3_extended_result_codes(c->db, 1);
        sqlite3_busy_timeout(c->db, 0);
        got = prepare_file(c, create, &absent, err) != 0 ? FILES_FAILED
              : absent                                   ? FILES_ABSENT
                                                         : FILES_OK;
    }
    if (got != FILES_OK) {
        ice_catalog_close(c);
        return got;
    }
    *out = c;
    return FILES_OK;
}

void ice_catalog_close(struct ice_catalog *c) {
    if (c) {
        sqlite3_close_v2(c->db); /* rolls back */
        free(c->path);
        free(c);
    }
}

/* ---- jobs ---- */

void ice_job_row_release(struct ice_job_row *row) {
    free(row->position);
    free(row->schemas);
    free(row->commit_id);
    *row = (struct ice_job_row){ 0 };
}

static char *column_text(sqlite3_stmt *s, int i) {
    const unsigned char *text = sqlite3_column_text(s, i);
    return text ? xstrdup((const char *)text) : NULL;
}

static int read_job(struct ice_catalog *c, const char *job, struct ice_job_row *out) {
    const char *texts[] = { job };
    sqlite3_stmt *s;
    *out = (struct ice_job_row){ 0 };
    int rc = prepare(
        c, "SELECT epoch, seq, position, schemas, commit_id FROM tailrace_jobs WHERE job = ?1",
        texts, 1, &s);
    if (rc != SQLITE_OK) {
        return rc;
    }
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        out->exists = true;
        out->epoch = (uint64_t)sqlite3_column_int64(s, 0);
        out->seq = (uint64_t)sqlite3_column_int64(s, 1);
        out->position = column_text(s, 2);
        out->schemas = column_text(s, 3);
        out->commit_id = column_text(s, 4);
        rc = SQLITE_DONE;
    }
    int end = sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_OK : end != SQLITE_OK ? end : rc;
}

int ice_catalog_job(struct ice_catalog *c, const char *job, struct ice_job_row *out,
                    struct err *err) {
    *out = (struct ice_job_row){ 0 };
    if (c->broken) {
        return refuse_broken(c, err);
    }
    if (!c->has_jobs) {
        return 0;
    }
    int rc = read_job(c, job, out);
    if (rc != SQLITE_OK) {
        ice_job_row_release(out);
        return failed(c, rc, "read", err);
    }
    return 0;
}

/* Ends a write that is not a commit: error and roll-back, or COMMIT. */
static int end_write(struct ice_catalog *c, int rc, const char *what, struct err *err) {
    if (rc == SQLITE_OK) {
        rc = run_sql(c, "COMMIT");
    }
    if (rc == SQLITE_OK) {
        return 0;
    }
    int got = failed(c, rc, what, err);
    roll_back(c);
    return got;
}

int ice_catalog_claim(struct ice_catalog *c, const char *job, struct ice_job_row *out,
                      struct err *err) {
    *out = (struct ice_job_row){ 0 };
    CHECK(c->has_jobs);
    if (c->broken) {
        return refuse_broken(c, err);
    }
    const char *texts[] = { job };
    int rc = run_sql(c, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) {
        rc = read_job(c, job, out);
    }
    if (rc == SQLITE_OK) {
        rc = run_with(c,
                      "INSERT INTO tailrace_jobs (job, epoch, seq) VALUES (?1, 1, 0) "
                      "ON CONFLICT (job) DO UPDATE SET epoch = epoch + 1",
                      texts, 1, NULL);
    }
    if (end_write(c, rc, "claim a job in", err) != 0) {
        ice_job_row_release(out);
        return -1;
    }
    out->epoch++;
    return 0;
}

int ice_catalog_garbage(struct ice_catalog *c, const char *job, char **urls, struct err *err) {
    const char *texts[] = { job };
    bool found;
    *urls = NULL;
    if (c->broken) {
        return refuse_broken(c, err);
    }
    int rc =
        query_text(c, "SELECT urls FROM tailrace_garbage WHERE job = ?1", texts, 1, &found, urls);
    return rc == SQLITE_OK ? 0 : failed(c, rc, "read", err);
}

/* ---- tables ---- */

static int read_table(struct ice_catalog *c, const char *space, const char *name, bool *found,
                      char **location) {
    const char *texts[] = { space, name };
    return query_text(
        c,
        "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = '" CATALOG_NAME
        "' AND table_namespace = ?1 AND table_name = ?2",
        texts, 2, found, location);
}

int ice_catalog_table(struct ice_catalog *c, const char *space, const char *name, char **location,
                      struct err *err) {
    bool found;
    *location = NULL;
    if (c->broken) {
        return refuse_broken(c, err);
    }
    int rc = read_table(c, space, name, &found, location);
    return rc == SQLITE_OK ? 0 : failed(c, rc, "read", err);
}

int ice_catalog_owned(struct ice_catalog *c, const char *job, ice_catalog_owned_fn each, void *arg,
                      struct err *err) {
    const char *texts[] = { job };
    sqlite3_stmt *s;
    if (c->broken) {
        return refuse_broken(c, err);
    }
    int rc = prepare(c,
                     "SELECT o.table_namespace, o.table_name, t.metadata_location, o.uuid, "
                     "o.commit_id, o.consistent FROM tailrace_tables o LEFT JOIN iceberg_tables t "
                     "ON t.catalog_name = '" CATALOG_NAME
                     "' AND t.table_namespace = o.table_namespace AND t.table_name = o.table_name "
                     "WHERE o.job = ?1",
                     texts, 1, &s);
    if (rc != SQLITE_OK) {
        return failed(c, rc, "read", err);
    }
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct ice_owned_row row = { .space = (const char *)sqlite3_column_text(s, 0),
                                     .name = (const char *)sqlite3_column_text(s, 1),
                                     .location = (const char *)sqlite3_column_text(s, 2),
                                     .uuid = (const char *)sqlite3_column_text(s, 3),
                                     .commit_id = (const char *)sqlite3_column_text(s, 4),
                                     .consistent = sqlite3_column_int(s, 5) != 0 };
        each(arg, &row);
    }
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? 0 : failed(c, rc, "read", err);
}

/* ---- the commit ---- */

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* What one step of a commit says: go on, or its outcome. */
enum step { STEP_ON, STEP_CONFLICT, STEP_FENCED, STEP_ERROR };

static enum step check_job(struct ice_catalog *c, const struct ice_catalog_commit *req, int *rc) {
    struct ice_job_row row;
    *rc = read_job(c, req->job, &row);
    if (*rc != SQLITE_OK) {
        ice_job_row_release(&row);
        return STEP_ERROR;
    }
    enum step step = STEP_ON;
    if (row.exists && row.epoch > req->epoch) {
        step = STEP_FENCED;
    } else if (!row.exists || row.epoch != req->epoch || !same_text(row.position, req->from)) {
        step = STEP_CONFLICT;
    }
    ice_job_row_release(&row);
    return step;
}

static enum step change_table(struct ice_catalog *c, const struct ice_catalog_change *t, int *rc) {
    int changed = 0;
    if (t->from) {
        const char *texts[] = { t->to, t->from, t->space, t->name };
        *rc = run_with(
            c,
            "UPDATE iceberg_tables SET metadata_location = ?1, previous_metadata_location = ?2 "
            "WHERE catalog_name = '" CATALOG_NAME "' AND table_namespace = ?3 AND table_name = ?4 "
            "AND metadata_location = ?2 AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
            texts, 4, &changed);
        return *rc != SQLITE_OK ? STEP_ERROR : changed == 1 ? STEP_ON : STEP_CONFLICT;
    }
    const char *texts[] = { t->space, t->name, t->to };
    *rc = run_with(
        c,
        "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, "
        "previous_metadata_location, iceberg_type) VALUES ('" CATALOG_NAME
        "', ?1, ?2, ?3, NULL, 'TABLE') "
        "ON CONFLICT DO NOTHING",
        texts, 3, &changed);
    if (*rc != SQLITE_OK) {
        return STEP_ERROR;
    }
    if (changed != 1) {
        return STEP_CONFLICT;
    }
    *rc = run_with(
        c,
        "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, "
        "property_value) "
        "SELECT '" CATALOG_NAME "', ?1, 'exists', 'true' WHERE NOT EXISTS (SELECT 1 FROM "
        "iceberg_namespace_properties WHERE catalog_name = '" CATALOG_NAME "' AND namespace = ?1)",
        texts, 1, NULL);
    return *rc == SQLITE_OK ? STEP_ON : STEP_ERROR;
}

static enum step change_job(struct ice_catalog *c, const struct ice_catalog_commit *req, int *rc) {
    char seq[24];
    snprintf(seq, sizeof seq, "%" PRIu64, req->seq);
    const char *texts[] = { req->job, seq, req->to, req->schemas, req->commit_id };
    int changed = 0;
    *rc = run_with(c,
                   "UPDATE tailrace_jobs SET seq = CAST(?2 AS INTEGER), position = ?3, "
                   "schemas = coalesce(?4, schemas), commit_id = ?5 WHERE job = ?1",
                   texts, 5, &changed);
    return *rc == SQLITE_OK && changed == 1 ? STEP_ON : STEP_ERROR;
}

/* What the job's record of a table says from here on. */
static enum step change_owned(struct ice_catalog *c, const struct ice_catalog_commit *req,
                              const struct ice_catalog_change *t, int *rc) {
    const char *texts[] = { req->job, t->space,       t->name,
                            t->uuid,  req->commit_id, t->consistent ? "1" : "0" };
    *rc = run_with(c,
                   "INSERT INTO tailrace_tables (job, table_namespace, table_name, uuid, "
                   "commit_id, consistent) VALUES (?1, ?2, ?3, ?4, ?5, CAST(?6 AS INTEGER)) "
                   "ON CONFLICT (job, table_namespace, table_name) DO UPDATE SET uuid = ?4, "
                   "commit_id = ?5, consistent = CAST(?6 AS INTEGER)",
                   texts, 6, NULL);
    return *rc == SQLITE_OK ? STEP_ON : STEP_ERROR;
}

static enum step change_garbage(struct ice_catalog *c, const struct ice_catalog_commit *req,
                                int *rc) {
    const char *texts[] = { req->job, req->garbage };
    *rc = run_with(c,
                   "INSERT INTO tailrace_garbage (job, urls) VALUES (?1, ?2) "
                   "ON CONFLICT (job) DO UPDATE SET urls = ?2",
                   texts, 2, NULL);
    return *rc == SQLITE_OK ? STEP_ON : STEP_ERROR;
}

static enum step change_all(struct ice_catalog *c, const struct ice_catalog_commit *req,
                            uint32_t *conflict, int *rc) {
    *conflict = UINT32_MAX;
    enum step step = check_job(c, req, rc);
    for (uint32_t i = 0; step == STEP_ON && i < req->change_count; i++) {
        step = change_table(c, &req->changes[i], rc);
        if (step == STEP_CONFLICT) {
            *conflict = i;
        }
        if (step == STEP_ON && req->changes[i].uuid) {
            step = change_owned(c, req, &req->changes[i], rc);
        }
    }
    if (step == STEP_ON && req->garbage) {
        step = change_garbage(c, req, rc);
    }
    return step == STEP_ON ? change_job(c, req, rc) : step;
}

/* BEGIN or COMMIT until it is not busy, or the caller gives up. */
static int run_until_free(struct ice_catalog *c, const char *sql, bool (*stop)(void *arg),
                          void *arg) {
    int rc;
    do {
        rc = run_sql(c, sql);
    } while ((rc & 0xff) == SQLITE_BUSY && !stop(arg));
    return rc;
}

/* A COMMIT that failed: what is known of it. */
static enum commit_outcome settle_commit(struct ice_catalog *c, int rc, struct err *err) {
    int kind = rc & 0xff;
    failed(c, rc, "commit to", err);
    if (kind == SQLITE_BUSY || kind == SQLITE_FULL) {
        roll_back(c);
        if (!c->broken) {
            return COMMIT_FAILED;
        }
    }
    c->broken = true;
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND;
    }
    return COMMIT_UNKNOWN;
}

enum commit_outcome ice_catalog_commit(struct ice_catalog *c, const struct ice_catalog_commit *req,
                                       uint32_t *conflict, bool (*stop)(void *arg), void *arg,
                                       struct err *err) {
    CHECK(c->has_jobs && req->to && req->commit_id);
    *conflict = UINT32_MAX;
    if (c->broken) {
        refuse_broken(c, err);
        return COMMIT_FAILED;
    }
    int rc = run_until_free(c, "BEGIN IMMEDIATE", stop, arg);
    if (rc != SQLITE_OK) {
        failed(c, rc, "begin a commit to", err);
        return COMMIT_FAILED;
    }
    enum step step = change_all(c, req, conflict, &rc);
    if (step == STEP_ON) {
        rc = run_until_free(c, "COMMIT", stop, arg);
        return rc == SQLITE_OK ? COMMITTED : settle_commit(c, rc, err);
    }
    if (step == STEP_ERROR) {
        failed(c, rc, "write a commit to", err);
    }
    roll_back(c);
    return step == STEP_FENCED     ? COMMIT_FENCED
           : step == STEP_CONFLICT ? COMMIT_CONFLICT
                                   : COMMIT_FAILED;
}
