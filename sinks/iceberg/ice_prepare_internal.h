/* What the files of ice_table_prepare (ice_table.h) share. */
#pragma once
#include "sinks/iceberg/ice_table.h"

/* A data file of the table that changes in this snapshot. */
struct change {
    struct ice_live_file *file;
    struct ice_live_delete *old; /* its delete file before; NULL */
    struct ice_live_delete *old_too;
};
struct preparing {
    struct ice_table *t;
    const struct ice_commit_context *context;
    struct ice_part_table *part; /* NULL = empty snapshot */
    bool unreadable; /* a manifest is lost, and nothing need be said of the table now */
    struct ice_live live;        /* before this snapshot; what it adds is put in as it is written */
    int64_t snapshot_id, sequence;
    int64_t previous_ms; /* of the metadata file before */
    struct change *changes;
    uint32_t change_count;
    bool *manifest_dropped;              /* of live.manifests */
    struct ice_manifest_file *manifests; /* of this snapshot */
    uint32_t manifest_count;
    uint64_t added_rows, removed_files, removed_rows;
    uint64_t new_deletes, new_dead_rows, removed_dead_rows;
    uint64_t removed_deletes, removed_vectors; /* the latter are among the former */
    uint64_t added_bytes, removed_bytes;
};

/* ice_prepare.c */
/* A new name below the table's folder; owned. */
char *prepare_key(const struct preparing *p, const char *kind, const char *ending);
char *prepare_url(const struct preparing *p, const char *key);
/* A file that is of no use unless the commit comes about. */
void prepare_note_made(const struct preparing *p, const char *url);
/* Writes a small object and gives its URL, in arena. */
int prepare_put(struct preparing *p, const char *kind, const char *ending, const struct buf *bytes,
                struct arena *arena, const char **url, struct err *err);

/* ice_prepare_deletes.c */
/* Nothing that was live stays. */
void prepare_void(struct preparing *p);
/* The part's new files join what is live. */
void prepare_added(struct preparing *p);
/* The part's dead rows, of old files and new ones: delete files are written, files without a row
 * left leave. */
int prepare_dead(struct preparing *p, struct err *err);

/* ice_prepare_manifests.c */
int prepare_manifests(struct preparing *p, struct err *err);
/* What is left of the list before, and the new ones. */
int prepare_list(struct preparing *p, struct ice_snapshot *snapshot, struct err *err);
