/* The embedded catalog: `catalog.db`, an SQLite file in the warehouse folder in the SQL (JDBC)
 * catalog's schema (V1), which PyIceberg's SqlCatalog and Java's JdbcCatalog open as it is, and
 * some tables of our own beside: the position of each job, and what it needs to know of its tables
 * without reading them. One SQLite transaction commits all tables of a commit and the position at
 * once.
 *
 *   iceberg_tables, iceberg_namespace_properties   the catalog's; catalog_name is always 'tailrace'
 *   tailrace_jobs(job PRIMARY KEY, epoch, seq, position, schemas, commit_id)
 *   tailrace_tables(job, table_namespace, table_name, uuid, commit_id, consistent)
 *   tailrace_garbage(job PRIMARY KEY, urls)   to be removed after the last commit, a URL a line
 *
 * Settings: journal_mode=DELETE, synchronous=EXTRA, no waiting inside SQLite. Errors:
 *
 *   catalog_busy      RETRY   another program has it locked; nothing changed
 *   disk_full         RETRY   nothing changed
 *   catalog_io        REWIND  close, open again
 *   catalog_damaged, catalog_readonly, catalog_unreachable, catalog_foreign, catalog_error   FATAL
 *
 * Nothing of a failed call is in the catalog, except that an error at COMMIT itself is
 * COMMIT_UNKNOWN: close, open again, read the position. Thread: one owner at a time. Locks: the
 * file's, for the length of a call. */
#pragma once
#include "cdc/base/env.h"
#include "cdc/sink.h"

struct ice_catalog;
/* create: the file and its tables are made where missing, V0 catalogs get the column that they
 * lack; else ABSENT if there is no file or no catalog in it. The folder is synced first, so that
 * what is read is durable even where an earlier COMMIT failed half-way. files: only for that and to
 * see whether the file is there; SQLite does the rest through its own VFS. */
enum files_result ice_catalog_open(struct files *files, const char *folder, bool create,
                                   struct ice_catalog **out, struct err *err);
void ice_catalog_close(struct ice_catalog *c); /* NULL allowed; rolls back */

struct ice_job_row {
    bool exists;
    uint64_t epoch, seq;
    char *position; /* owned; NULL = empty claim */
    char *schemas;  /* owned; JSON array of cdc/schema.h's form; NULL */
    char *commit_id;
};
void ice_job_row_release(struct ice_job_row *row);
int ice_catalog_job(struct ice_catalog *c, const char *job, struct ice_job_row *out,
                    struct err *err);
/* epoch + 1, row made where missing; durable at return; out = before, with the new epoch. Harmless
 * to repeat after any error. */
int ice_catalog_claim(struct ice_catalog *c, const char *job, struct ice_job_row *out,
                      struct err *err);
/* What the last commit left to be removed: a URL a line. Owned; NULL = nothing. Only of catalogs
 * opened with create. */
int ice_catalog_garbage(struct ice_catalog *c, const char *job, char **urls, struct err *err);

/* NULL in *location: no such table. Owned. */
int ice_catalog_table(struct ice_catalog *c, const char *space, const char *name, char **location,
                      struct err *err);

/* A table that the job has made, as its last commit to it left it. */
struct ice_owned_row {
    const char *space, *name;
    const char *location; /* NULL: somebody has dropped it */
    const char *uuid, *commit_id;
    bool consistent;
};
/* Each table of the job. Strings live for the call. Only of catalogs opened with create. */
typedef void (*ice_catalog_owned_fn)(void *arg, const struct ice_owned_row *row);
int ice_catalog_owned(struct ice_catalog *c, const char *job, ice_catalog_owned_fn each, void *arg,
                      struct err *err);

struct ice_catalog_change {
    const char *space, *name;
    const char *from; /* metadata_location before; NULL = the table must not exist */
    const char *to;
    const char *uuid; /* the table's; NULL: the job keeps no record of it */
    bool consistent;  /* for that record */
};
struct ice_catalog_commit {
    const char *job;
    uint64_t epoch, seq;
    const char *from; /* stored position before, NULL = none */
    const char *to;
    const char *schemas; /* NULL = unchanged */
    const char *commit_id;
    const char *garbage; /* NULL = what was said before */
    const struct ice_catalog_change *changes;
    uint32_t change_count;
};
/* COMMIT_CONFLICT: a table's location is not `from` any more (*conflict = its index), or the
 * position is not (*conflict = UINT32_MAX). COMMIT_FENCED: a newer epoch. COMMIT_FAILED: err. Of
 * all these nothing is in the catalog. COMMIT_UNKNOWN: err says why. stop: called each time BEGIN
 * or COMMIT finds the file locked; it waits a little and says whether to give up (then
 * COMMIT_FAILED, "catalog_busy"). A busy COMMIT is the same COMMIT again: the transaction stays
 * open and keeps new readers out, so it gets its turn. */
enum commit_outcome ice_catalog_commit(struct ice_catalog *c, const struct ice_catalog_commit *req,
                                       uint32_t *conflict, bool (*stop)(void *arg), void *arg,
                                       struct err *err);
