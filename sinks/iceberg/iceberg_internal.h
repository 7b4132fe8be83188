/* What the files of the iceberg sink share: its door (iceberg.c) and its commits (ice_commit.c). */
#pragma once
#include "cdc/base/map.h"
#include "sinks/iceberg/ice_table.h"
#include "sinks/iceberg/ice_writer.h"
#include "sinks/iceberg/iceberg.h"

struct iceberg {
    struct sink base;
    struct env *env;
    char *folder, *job;
    struct store *store;
    struct ice_catalog *catalog; /* NULL: closed, or its state is in doubt */
    uint64_t epoch;
    struct ice_writer_config writer;
    struct parquet_options parquet;
    int format_version;
    int64_t history_ms;
    char *text_columns; /* of text=; NULL */

    struct map *tables;    /* namespace, NUL, name -> struct ice_table, as of the last commit */
    size_t metadata_bytes; /* metadata files of tables that may be held parsed, in all */
    char *commit_id;       /* of the commit at hand, or the last one */
    /* The commit at hand, until its outcome is known. */
    struct ice_table **pending;
    uint32_t pending_count;
    uint64_t commits;   /* tried so far */
    struct buf made;    /* URLs of files written for it */
    struct buf garbage; /* URLs of what is to be removed once it stands */
    /* Of the last commit: which tables were inconsistent. */
    bool knows_inconsistent;
    char **inconsistent; /* owned, sorted */
    uint32_t inconsistent_count;
};

/* ice_commit.c */
int iceberg_recover(struct sink *s, struct sink_state *out, struct err *err);
enum commit_outcome iceberg_commit(struct sink *s, const struct commit_request *req,
                                   struct err *err);
enum resolve_outcome iceberg_resolve(struct sink *s, const struct commit_request *req,
                                     struct err *err);
/* What was known of tables is void. */
void iceberg_forget(struct iceberg *x);

/* iceberg.c */
int iceberg_state_of(const struct ice_job_row *row, struct sink_state *out, struct err *err);
