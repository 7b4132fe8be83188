/* One table on the commit side: its metadata, kept from commit to commit. Thread: the
 * commit task. A commit changes it in place; where that commit does not come about, the whole
 * struct is dropped and read again. */
#pragma once
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_live.h"
#include "sinks/iceberg/ice_part.h"

struct ice_table {
    char *space, *name;
    char *loaded;   /* metadata_location first seen in this run; NULL = there was no table */
    char *location; /* the present one; NULL = no table */
    struct ice_metadata metadata; /* where location is set */
    bool consistent;              /* as the last snapshot says */
    bool written;     /* a part of this run's writer was taken, which had looked at `base` */
    char *base;       /* NULL = there was no table */
    struct buf empty; /* until then: locations of this run's commits, which had no rows, each with
                         its NUL: the writer may look at any of them */
};
/* Looks the table up in the catalog and reads it. A table of another job, or of none: ERR_FATAL
 * "table_foreign". */
int ice_table_open(struct ice_catalog *catalog, struct store *store, const char *job,
                   const char *space, const char *name, struct ice_table **out, struct err *err);
void ice_table_free(struct ice_table *t); /* NULL allowed */

/* What snapshots and properties say of the job. */
struct ice_commit_context {
    struct env *env;
    struct store *store;
    const char *job;
    uint64_t epoch, seq;
    const char *commit_id;
    const char *position; /* JSON as stored; NULL = none */
    int format_version;   /* of tables made */
    struct parquet_options parquet;
    int64_t history_ms;            /* how long snapshots are kept */
    struct store_folders *folders; /* of files written */
    struct buf *garbage; /* URLs, each with its NUL, that no snapshot left names: to be removed once
                            committed */
};
/* Writes all of the table's next snapshot but the catalog's row: deletes, manifests, list,
 * metadata. part NULL: nothing changed but `consistent`. source: the table's schema, for one that
 * does not exist. out: new location (owned). COMMITTED stands for "prepared"; COMMIT_CONFLICT: the
 * part was made upon another table; COMMIT_FAILED: err. */
enum commit_outcome ice_table_prepare(struct ice_table *t, const struct ice_commit_context *context,
                                      struct ice_part_table *part, bool consistent, char **out,
                                      struct err *err);
