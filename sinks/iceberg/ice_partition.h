/* Partition specs and transforms, and which partition a row belongs to. Source: Iceberg table spec,
 * "Partitioning", appendix B. Pure. Thread: the owner's. */
#pragma once
#include "sinks/iceberg/ice_schema.h"

enum ice_transform {
    ICE_IDENTITY = 1,
    ICE_BUCKET,
    ICE_TRUNCATE,
    ICE_YEAR,
    ICE_MONTH,
    ICE_DAY,
    ICE_HOUR,
    ICE_VOID,
};
struct ice_part_field {
    int32_t source_id; /* field of the schema */
    int32_t field_id;  /* from 1000, never used again */
    enum ice_transform transform;
    int32_t parameter; /* of BUCKET and TRUNCATE */
    const char *name;
    struct lake_type source; /* type of the column, as it was last */
    struct lake_type result; /* type of the partition value */
};
#define ICE_PARTITION_FIELDS_MAX 8
#define ICE_PARTITION_ID_FIRST 1000
struct ice_spec {
    int32_t id;
    uint32_t field_count;
    struct ice_part_field fields[ICE_PARTITION_FIELDS_MAX];
    struct arena arena; /* names */
};
void ice_spec_release(struct ice_spec *spec);
void ice_spec_copy(struct ice_spec *out, const struct ice_spec *spec);
/* The user's words, e.g. "day(created_at),bucket(16,id),region"; names may stand in double quotes.
 * "" = unpartitioned. Spec id 0, field ids from 1000. Columns that the table has not: -1 with
 * "partition_column" where strict, else left out (a job of many tables: only where the column is).
 * ERR_FATAL "partition_spec": not understood, or a transform that the column's type has not. Floats
 * and uuids are no partition columns by themselves (readers order them differently); bucket(n,uuid)
 * is one. */
int ice_spec_parse(const char *text, const struct ice_schema *schema, bool strict,
                   struct ice_spec *out, struct err *err);
/* The table's schema is now this one: fields get the type that their column has (after a widening).
 * Fields whose column it has not stay as they are. */
void ice_spec_retype(struct ice_spec *spec, const struct ice_schema *schema);
/* Same fields but for ids and names. */
bool ice_spec_same(const struct ice_spec *a, const struct ice_spec *b);

/* One partition's values: the cell of each field in lake form; null where the bit is set. */
struct ice_partition {
    uint8_t nulls;                          /* bit i: field i is null */
    bool borrowed;                          /* texts belong to somebody else: release leaves them */
    uint8_t lens[ICE_PARTITION_FIELDS_MAX]; /* of cells */
    uint8_t cells[ICE_PARTITION_FIELDS_MAX][16]; /* fixed kinds */
    char *texts[ICE_PARTITION_FIELDS_MAX];       /* STRING, BINARY values; length in text_lens */
    size_t text_lens[ICE_PARTITION_FIELDS_MAX];
};
void ice_partition_release(struct ice_partition *p);
void ice_partition_copy(struct ice_partition *out,
                        const struct ice_partition *p); /* owns its texts */
/* Of the row of lake columns that stand in the order of schema's fields. Allocates texts: for rows
 * in bulk there is the router. */
void ice_partition_of(const struct ice_spec *spec, const struct ice_schema *schema,
                      const struct lake_column *columns, uint32_t row, struct ice_partition *out);
/* A fixed cell as wide as its type is now (a column may have been widened since the partition was
 * made); returns the width. */
size_t ice_partition_cell(const struct ice_partition *p, uint32_t field,
                          const struct lake_type *type, uint8_t out[16]);
/* Both hold across a widening of the column: a value equals itself in the wider type. */
bool ice_partition_equal(const struct ice_spec *spec, const struct ice_partition *a,
                         const struct ice_partition *b);
uint64_t ice_partition_hash(const struct ice_spec *spec, const struct ice_partition *p);
/* "created_at_day=2026-01-02/id_bucket=3", each part encoded as URLs encode forms: the folder below
 * data/, empty for the empty spec. Parts longer than 200 bytes are cut and end in a hash: the
 * folder is for people, readers take the values from the manifest. */
void ice_partition_put_path(struct buf *out, const struct ice_spec *spec,
                            const struct ice_partition *p);

/* Rows to partitions in bulk; nothing is allocated for rows of partitions that were seen before. A
 * field whose column the schema has not any more gives null. */
struct ice_router;
struct ice_router *ice_router_new(const struct ice_spec *spec, const struct ice_schema *schema);
void ice_router_free(struct ice_router *r); /* NULL allowed */
/* groups[i] = number of the i-th row's partition, from 0 in order of first sight. columns as above.
 */
void ice_router_route(struct ice_router *r, const struct lake_column *columns, uint32_t rows,
                      uint32_t *groups);
uint32_t ice_router_count(const struct ice_router *r);
const struct ice_partition *ice_router_partition(const struct ice_router *r, uint32_t group);

/* murmur3_x86_32, seed 0; tested with the vectors of appendix B. */
uint32_t ice_murmur3(const void *p, size_t n);

void ice_spec_put_json(struct buf *out, const struct ice_spec *spec); /* the object with spec-id */
void ice_spec_put_fields_json(struct buf *out,
                              const struct ice_spec *spec); /* the array alone, for manifests */
/* schemas: all of the table's; a source column may be gone from the newest. ERR_FATAL
 * "iceberg_spec". */
int ice_spec_from_json(const json_t *json, const struct ice_schema *schemas, uint32_t schema_count,
                       struct ice_spec *out, struct err *err);
