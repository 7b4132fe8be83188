/* What a writer sealed for one commit, table by table: the hand-over from the writer task, which
 * owns a table's open files and key index, to the commit task, which owns its metadata. Files are
 * synced; their folders are in `folders`, to be settled before anything names them. */
#pragma once
#include "cdc/sink.h"
#include "sinks/iceberg/ice_bitmap.h"
#include "sinks/iceberg/ice_manifest.h"
#include "sinks/iceberg/ice_order.h"
#include "sinks/objects/store.h"

/* Rows that died in this commit, of one data file: one of the table's before this commit, or one of
 * `added`. */
struct ice_dead {
    char *data_file; /* URL */
    struct ice_bitmap *rows;
};
struct ice_part_table {
    char *label;        /* "public.orders" */
    char *space, *name; /* namespace and table in the catalog */
    char *base; /* metadata_location that the writer loaded in this run; NULL: there was no table */
    int64_t snapshot_id; /* of the snapshot to be made: chosen at the seal, so that the index can be
                            tagged with it */
    bool voids;          /* nothing that was live before this commit is any more */
    bool replaced; /* a column's type changed (on_type_change=resnapshot), and rows that are not
                      void have not the new field */
    bool replaced_staged; /* ... some of `added` among them */
    bool first; /* ... and this is the first part: schemas[0] is what the table is made with */
    uint32_t schema_count; /* schemas that the table gets, in order; the last is the current one */
    struct ice_schema *schemas;
    int32_t last_column_id; /* after them */
    struct ice_spec spec;   /* of a table that does not exist yet */
    struct ice_order order; /* ... */
    struct arena arena;     /* of the files' strings and metrics */
    uint32_t added_count;
    struct ice_file *added; /* rows > 0 each; spec: the table's default one */
    uint32_t dead_count;
    struct ice_dead *dead; /* each data file once */
};
struct ice_part {        /* = struct sink_part of this sink */
    struct store *store; /* borrowed: of the sink */
    struct store_folders folders;
    uint32_t table_count;
    struct ice_part_table *tables;
    uint64_t rows;
};
/* remove: the added files, of a commit that surely did not happen. */
void ice_part_free(struct ice_part *part, bool remove);
