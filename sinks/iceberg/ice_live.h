/* What is live in a table at one snapshot: its data files, which rows of each are dead, and the
 * manifests that say so. Read from the manifests once, then kept by whoever owns it. Deletes that
 * name no single data file (other engines write such) are `loose`: they stay as they are and are
 * asked for all files. Thread: its owner. */
#pragma once
#include "cdc/base/map.h"
#include "sinks/iceberg/ice_bitmap.h"
#include "sinks/iceberg/ice_manifest.h"
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/objects/store.h"

/* A delete file or deletion vector. */
struct ice_live_delete {
    struct ice_entry entry; /* status EXISTING; what it points to is in ice_live.arena */
    uint32_t manifest;      /* index in ice_live.manifests */
};
struct ice_live_file {
    const char *path; /* URL */
    uint64_t rows;
    int64_t bytes;
    int64_t snapshot_id, sequence, file_sequence;
    int64_t first_row_id; /* v3, else -1 */
    int32_t spec_id;
    struct ice_partition partition; /* borrowed texts */
    uint32_t manifest;
    bool gone; /* leaves the table in the commit that is being prepared; for its maker only */
    struct ice_live_delete *dead; /* NULL = no row is */
    struct ice_live_delete
        *dead_too; /* a v2 delete file left beside a vector (upgraded tables); NULL */
};
struct ice_live {
    struct arena arena;
    struct ice_manifest_file *manifests;
    uint32_t manifest_count;
    struct map *files; /* path -> struct ice_live_file, in order of manifests */
    struct ice_live_delete **loose;
    uint32_t loose_count;
};
void ice_live_init(struct ice_live *l);
void ice_live_release(struct ice_live *l);
/* snapshot NULL = nothing is live. ERR_FATAL "manifest_..." or a missing file's error. */
int ice_live_load(struct ice_live *l, struct store *store, const struct ice_metadata *metadata,
                  const struct ice_snapshot *snapshot, struct err *err);
struct ice_live_file *ice_live_find(const struct ice_live *l, const char *path); /* NULL */
/* Adds the file's dead rows. */
int ice_live_dead_rows(const struct ice_live *l, struct store *store,
                       const struct ice_live_file *file, struct ice_bitmap *into, struct err *err);
