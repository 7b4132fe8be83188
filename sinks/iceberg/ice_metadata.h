/* Table metadata: the JSON file that is a table's state. What we know is kept in members; what we do not
 * (foreign members, statistics, other refs) is kept as it came and written back. Source: Iceberg table spec,
 * "Table Metadata Fields". Pure. Errors: ERR_FATAL "metadata_damaged", "metadata_unsupported" (format above 3). */
#pragma once
#include "sinks/iceberg/ice_partition.h"

struct ice_snapshot {
    int64_t id;
    int64_t parent_id; /* -1 = none */
    int64_t sequence;
    int64_t timestamp_ms; /* Unix */
    char *manifest_list;  /* URL */
    int32_t schema_id;
    int64_t first_row_id, added_rows; /* v3, else -1 */
    json_t *summary;                  /* object of strings */
};
struct ice_metadata {
    int format_version; /* 2 or 3 */
    char *uuid, *location;
    int64_t last_sequence;
    int64_t last_updated_ms;
    int32_t last_column_id;
    struct ice_schema *schemas;
    uint32_t schema_count;
    int32_t current_schema_id;
    struct ice_spec *specs;
    uint32_t spec_count;
    int32_t default_spec_id, last_partition_id;
    json_t *sort_orders;
    int32_t default_sort_order_id;
    json_t *properties; /* object of strings */
    int64_t current_snapshot_id; /* -1 = none */
    struct ice_snapshot *snapshots;
    uint32_t snapshot_count;
    json_t *snapshot_log, *metadata_log, *refs;
    int64_t next_row_id; /* v3 */
    json_t *others;      /* members we pass on */
};
void ice_metadata_release(struct ice_metadata *m);
int ice_metadata_parse(const char *json, size_t n, struct ice_metadata *out, struct err *err);
void ice_metadata_put(struct buf *out, const struct ice_metadata *m);
const struct ice_schema *ice_metadata_schema(const struct ice_metadata *m, int32_t id);
const struct ice_spec *ice_metadata_spec(const struct ice_metadata *m, int32_t id);
const struct ice_snapshot *ice_metadata_snapshot(const struct ice_metadata *m, int64_t id);
