/* Table metadata: the JSON file that is a table's state. What we know is kept in members; what we
 * do not (foreign members of the table and of snapshots, statistics, other refs) is kept as it came
 * and written back. Source: Iceberg table spec, "Table Metadata Fields". Pure. Thread: the owner's.
 * Errors: ERR_FATAL "metadata_damaged", "metadata_unsupported" (another format than 2 and 3), and
 * those of schemas and specs. */
#pragma once
#include "sinks/iceberg/ice_order.h"
#include "sinks/iceberg/ice_partition.h"

struct ice_snapshot {
    int64_t id;
    int64_t parent_id; /* -1 = none */
    int64_t sequence;
    int64_t timestamp_ms;             /* Unix */
    char *manifest_list;              /* URL; owned */
    int32_t schema_id;                /* -1 = not said */
    int64_t first_row_id, added_rows; /* v3, else -1 */
    json_t *summary;                  /* object of strings; owned */
    json_t *others;                   /* members we pass on; NULL */
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
    json_t *properties;             /* object of strings */
    int64_t current_snapshot_id;    /* -1 = none */
    struct ice_snapshot *snapshots; /* oldest first */
    uint32_t snapshot_count;
    json_t *snapshot_log, *metadata_log, *refs;
    int64_t next_row_id; /* v3 */
    json_t *others;      /* members we pass on; NULL = none */
};
void ice_metadata_release(struct ice_metadata *m);
/* The file's bytes, gzip or not. *out needs no release after an error. */
int ice_metadata_parse(const char *json, size_t n, struct ice_metadata *out, struct err *err);
void ice_metadata_put(struct buf *out, const struct ice_metadata *m);
const struct ice_schema *ice_metadata_schema(const struct ice_metadata *m, int32_t id); /* NULL */
const struct ice_spec *ice_metadata_spec(const struct ice_metadata *m, int32_t id);     /* NULL */
const struct ice_snapshot *ice_metadata_snapshot(const struct ice_metadata *m,
                                                 int64_t id); /* NULL = none */

/* A new table: sort order 0, no snapshot, no property. Takes schema and spec over (they are empty
 * afterwards). location: no slash at its end. */
void ice_metadata_first(struct ice_metadata *out, int format_version, const char *uuid,
                        const char *location, int64_t now_ms, struct ice_schema *schema,
                        int32_t last_column_id, struct ice_spec *spec);
/* The schema becomes the current one, under its id (above all others), which is returned. Taken
 * over. The caller has raised last_column_id. Columns that the table is
 * partitioned by are added to it where they are gone (ice_schema_keep): null in new rows; files
 * need not have them. A default sort order by a column that is gone is the default no more. */
int32_t ice_metadata_add_schema(struct ice_metadata *m, struct ice_schema *schema);
/* The spec becomes the default one; a spec with the same fields that the table already has is used
 * again, and fields that an older spec had keep their ids. Taken over. */
int32_t ice_metadata_add_spec(struct ice_metadata *m, struct ice_spec *spec);
/* The order becomes the default one of a table that has none but 0 yet; nothing where it is none.
 */
void ice_metadata_set_order(struct ice_metadata *m, const struct ice_order *order);
/* NULL: the property goes. */
void ice_metadata_set_property(struct ice_metadata *m, const char *key, const char *value);
const char *ice_metadata_property(const struct ice_metadata *m, const char *key); /* NULL = none */
/* The snapshot becomes the current one and refs.main; last_sequence, last_updated_ms (never
 * falling), snapshot-log and, in v3, next_row_id follow. Its strings and objects are taken over.
 * Its sequence must be last_sequence + 1 and its first_row_id next_row_id: CHECK. */
void ice_metadata_add_snapshot(struct ice_metadata *m, struct ice_snapshot *snapshot);
/* Takes snapshots out of `snapshots` and, with all that is older, of the log. The current one and
 * those that a ref names stay. Returns how many went; their manifest lists are put to `gone`
 * (each with its NUL; NULL = not asked). */
uint32_t ice_metadata_expire(struct ice_metadata *m, const int64_t *ids, uint32_t count,
                             struct buf *gone);
/* "metadata-log": the file that this one follows; the oldest go so that at most `keep` are left,
 * put to `gone` as above. */
void ice_metadata_log(struct ice_metadata *m, const char *previous_file, int64_t previous_ms,
                      uint32_t keep, struct buf *gone);
