/* Partition specs and transforms. Source: Iceberg table spec, "Partitioning", appendix B. Pure. */
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
    struct lake_type result; /* type of the partition value */
};
#define ICE_PARTITION_FIELDS_MAX 8
struct ice_spec {
    int32_t id;
    uint32_t field_count;
    struct ice_part_field fields[ICE_PARTITION_FIELDS_MAX];
    struct arena arena; /* names */
};
void ice_spec_release(struct ice_spec *spec);
/* The user's words, e.g. "day(created_at),bucket(16,id),region". Columns that the table has not: -1 with
 * "partition_column" where strict, else left out (a job of many tables: only where the column is). */
int ice_spec_parse(const char *text, const struct ice_schema *schema, bool strict, struct ice_spec *out, struct err *err);

/* One partition's values: the cell of each field in lake form; null where no bit. */
struct ice_partition {
    uint8_t nulls;                 /* bit i: field i is null */
    uint8_t lens[ICE_PARTITION_FIELDS_MAX];
    uint8_t cells[ICE_PARTITION_FIELDS_MAX][16]; /* fixed kinds */
    char *texts[ICE_PARTITION_FIELDS_MAX];       /* STRING, BINARY values: owned, length in text_lens */
    size_t text_lens[ICE_PARTITION_FIELDS_MAX];
};
void ice_partition_release(struct ice_partition *p);
/* Of the row of lake columns that stand in the order of schema's fields. */
void ice_partition_of(const struct ice_spec *spec, const struct ice_schema *schema,
                      const struct lake_column *columns, uint32_t row, struct ice_partition *out);
bool ice_partition_equal(const struct ice_spec *spec, const struct ice_partition *a, const struct ice_partition *b);
uint64_t ice_partition_hash(const struct ice_spec *spec, const struct ice_partition *p);
/* "created_at_day=2026-01-02/id_bucket=3", each part URL-encoded: the folder below data/. */
void ice_partition_put_path(struct buf *out, const struct ice_spec *spec, const struct ice_partition *p);
/* murmur3_x86_32, seed 0; tested with the vectors of appendix B. */
uint32_t ice_murmur3(const void *p, size_t n);

void ice_spec_put_json(struct buf *out, const struct ice_spec *spec);        /* the object with spec-id */
void ice_spec_put_fields_json(struct buf *out, const struct ice_spec *spec); /* the array alone, for manifests */
int ice_spec_from_json(const json_t *json, const struct ice_schema *schema, struct ice_spec *out, struct err *err);
