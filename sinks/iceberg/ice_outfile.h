/* A data file being written: a Parquet file in the warehouse under a name nobody else has. Thread:
 * the writer's. Ending it syncs it; its folder is settled by the commit. */
#pragma once
#include "sinks/iceberg/ice_manifest.h"
#include "sinks/objects/store.h"
#include "sinks/parquet/parquet_writer.h"

struct ice_outfile {
    struct store *store; /* borrowed */
    char *key, *url;
    struct store_upload *upload;
    struct parquet_writer *writer;
    struct ice_partition partition; /* owned */
    uint32_t number;                /* of the key index; set by the owner */
};
/* key: "shop/orders/data/created_at_day=2026-01-02/NAME.parquet". Fields as the schema has them. */
int ice_outfile_open(struct store *store, const char *key, const struct ice_schema *schema,
                     const struct ice_partition *partition, const struct parquet_options *options,
                     struct ice_outfile **out, struct err *err);
/* Footer, sync. *file gets path, partition, size and metrics, all in arena. The outfile is freed
 * whatever comes of it. */
int ice_outfile_finish(struct ice_outfile *o, const struct ice_schema *schema, struct arena *arena,
                       struct store_folders *folders, struct ice_file *file, struct err *err);
void ice_outfile_abort(struct ice_outfile *o); /* NULL allowed */
