/* The embedded catalog: `catalog.db`, an SQLite file in the warehouse folder in the SQL (JDBC) catalog's schema
 * (V1), which PyIceberg's SqlCatalog and Java's JdbcCatalog open as it is, and one table of our own beside: the
 * position of each job. One SQLite transaction commits all tables of a commit and the position at once.
 *
 *   iceberg_tables, iceberg_namespace_properties   the catalog's; catalog_name is always 'tailrace'
 *   tailrace_jobs(job PRIMARY KEY, epoch, seq, position, schemas, commit_id)
 *
 * Settings: journal_mode=DELETE, synchronous=EXTRA, busy_timeout 0 (the caller waits, stoppable). Busy at
 * BEGIN or COMMIT = ERR_RETRY, and after a busy COMMIT the same transaction is still open: commit it again.
 * An I/O error at COMMIT = CATALOG_UNKNOWN: close, open again, read the position. Thread: one owner at a time. */
#pragma once
#include "cdc/base/env.h"
#include "cdc/sink.h"

struct ice_catalog;
/* create: the file and its tables are made where missing; else ABSENT if there is none. */
enum files_result ice_catalog_open(const char *folder, bool create, struct ice_catalog **out, struct err *err);
void ice_catalog_close(struct ice_catalog *c); /* NULL allowed; rolls back */

struct ice_job_row {
    bool exists;
    uint64_t epoch, seq;
    char *position; /* owned; NULL = empty claim */
    char *schemas;  /* owned; JSON array of cdc/schema.h's form; NULL */
    char *commit_id;
};
void ice_job_row_release(struct ice_job_row *row);
int ice_catalog_job(struct ice_catalog *c, const char *job, struct ice_job_row *out, struct err *err);
/* epoch + 1, row made where missing; durable at return; out = before, with the new epoch. */
int ice_catalog_claim(struct ice_catalog *c, const char *job, struct ice_job_row *out, struct err *err);
int ice_catalog_drop_job(struct ice_catalog *c, const char *job, struct err *err);

/* NULL in *location: no such table. Owned. */
int ice_catalog_table(struct ice_catalog *c, const char *space, const char *name, char **location, struct err *err);

struct ice_catalog_change {
    const char *space, *name;
    const char *from; /* metadata_location before; NULL = the table must not exist */
    const char *to;
};
struct ice_catalog_commit {
    const char *job;
    uint64_t epoch, seq;
    const char *from; /* stored position before, NULL = none */
    const char *to;
    const char *schemas; /* NULL = unchanged */
    const char *commit_id;
    const struct ice_catalog_change *changes;
    uint32_t change_count;
};
/* COMMIT_CONFLICT: a table's location is not `from` any more (*conflict = its index), or the position is not; COMMIT_FENCED: a newer
 * epoch. Nothing of it is then in the catalog. stop: asked while busy. */
enum commit_outcome ice_catalog_commit(struct ice_catalog *c, const struct ice_catalog_commit *req, uint32_t *conflict,
                                       bool (*stop)(void *arg), void *arg, struct err *err);
