/* One table on the commit side, kept from commit to commit. Its metadata is read when a commit
 * first touches it and may be given up between commits. A preparation changes it in place; what
 * becomes of that is told by ice_table_settle: where the commit did not come about, the table is as
 * it was, and the same part can be prepared again. Thread: the commit task. */
#pragma once
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_live.h"
#include "sinks/iceberg/ice_part.h"

struct ice_table {
    char *space, *name;
    char *location;         /* the committed one; NULL = no table */
    char *uuid, *commit_id; /* as the catalog's record has them; NULL = no record */
    bool consistent;        /* as the last snapshot says */
    bool has_metadata;      /* of location, or of what was prepared */
    struct ice_metadata metadata;
    size_t bytes;   /* of the metadata's file */
    uint64_t used;  /* number of the commit that touched it last; the owner's */
    int64_t number; /* the highest that a metadata file is known to have had; -1 = none */
    bool numbered;  /* its folder was looked through for that */
    /* What the writers may have looked at. */
    char *loaded;     /* location first seen in this run; NULL = there was no table */
    bool written;     /* a part of this run's writer was committed, which had looked at `base` */
    char *base;       /* NULL = there was no table */
    struct buf empty; /* until then: locations of this run's commits, which had no rows, each with
                         its NUL: the writer may look at any of them */
    /* Prepared and not settled; next NULL = nothing. */
    char *next;
    bool next_consistent, next_written;
    char *next_base;
};
/* A table that the job has no record of: ice_table_look says whether it is there. */
struct ice_table *ice_table_new(const char *space, const char *name);
struct ice_table *ice_table_of_row(const struct ice_owned_row *row);
void ice_table_free(struct ice_table *t); /* NULL allowed */
/* Where the catalog has it now; for tables that nobody has written to in this run. */
int ice_table_look(struct ice_table *t, struct ice_catalog *catalog, struct err *err);
/* Reads the metadata unless it is there. All FATAL: "table_foreign", another job's or nobody's;
 * "table_replaced", not the one that this job's last commit to it left; "table_rolled_back", that
 * commit is no longer part of its history. */
int ice_table_read(struct ice_table *t, struct store *store, const char *job, struct err *err);
/* The number of the next metadata file, above that of every file which lies in the table's folder
 * or was the table's: readers of a folder may go by the highest number, and must not find one that
 * an unfinished commit has left, nor one that a foreign commit made before. Looks through the
 * folder once. */
int ice_table_next_number(struct ice_table *t, struct store *store, int64_t *out, struct err *err);
/* Gives the metadata up: it is read again when needed. */
void ice_table_forget(struct ice_table *t);

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
    struct buf *made;              /* URLs of files written, each with its NUL */
    struct buf *garbage; /* URLs, each with its NUL, that no snapshot left names: to be removed once
                            committed */
};
/* Writes all of the table's next snapshot but the catalog's row: deletes, manifests, list,
 * metadata; t->next is its location. part NULL: nothing changed but `consistent`. COMMITTED stands
 * for "prepared", or for "stays as it is" where t->next is NULL: a table whose manifests are lost,
 * of which only its inconsistency was to be said; COMMIT_CONFLICT: the part was made upon another
 * table; COMMIT_FAILED: err, "table_dropped" (FATAL) where the table that the part was made for is
 * gone. To be settled whatever comes of it. */
enum commit_outcome ice_table_prepare(struct ice_table *t, const struct ice_commit_context *context,
                                      struct ice_part_table *part, bool consistent,
                                      struct err *err);
/* Whether what was prepared, if anything was, is committed. commit_id: of that commit. */
void ice_table_settle(struct ice_table *t, bool committed, const char *commit_id);
