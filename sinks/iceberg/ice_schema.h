/* An Iceberg schema: fields with ids that are never used again, and how the schema of a source table
 * becomes one and follows it. A plain value with an arena. Source: Iceberg table spec, "Schemas and Data Types", "Schema
 * Evolution". Pure. */
#pragma once
#include <jansson.h>

#include "cdc/schema.h"
#include "sinks/parquet/lake_type.h"

struct ice_field {
    int32_t id;
    int32_t element_id; /* of a LIST's element, else 0 */
    const char *name;
    bool required;
    struct lake_type type;
    const char *doc;             /* the source's type name; NULL */
    const char *initial_default; /* JSON of the single value; NULL = null (v3 only) */
    const char *write_default;
};
struct ice_schema {
    struct arena arena;
    int32_t id;
    uint32_t field_count;
    struct ice_field *fields;
    uint32_t identifier_count; /* the key's field ids: written where all are required and none is a float */
    int32_t *identifiers;
};
void ice_schema_release(struct ice_schema *s);

/* Columns besides the source's own, after them in the schema. */
enum ice_extra { ICE_EXTRA_NONE = 0, ICE_EXTRA_OP = 1, ICE_EXTRA_TS = 2, ICE_EXTRA_POSITION = 4, ICE_EXTRA_DELETED = 8 };

/* The schema for a table that does not exist yet. Ids from 1 in column order, list elements after all fields.
 * text: does the user want this column as text? */
void ice_schema_first(struct ice_schema *out, const struct schema *source, unsigned extras,
                      bool (*text)(void *arg, const char *column), void *arg, int32_t *last_column_id);

/* What has to be done to a table's schema so that it holds the source's present rows. By name; a name that was dropped and
 * comes back gets a new id. */
enum ice_change { ICE_SAME, ICE_EVOLVED, ICE_IMPOSSIBLE };
/* ICE_EVOLVED: *out is the new schema (id not set), last_column_id raised. ICE_IMPOSSIBLE: a type change that
 * Iceberg forbids; `column` names it. Required becomes optional where the source says so, never the reverse. */
enum ice_change ice_schema_follow(const struct ice_schema *now, const struct schema *source,
                                  unsigned extras, bool (*text)(void *arg, const char *column),
                                  void *arg, int32_t *last_column_id, struct ice_schema *out,
                                  const char **column);
/* The column of the source behind each field (UINT16_MAX: none, an extra or a dropped one). */
void ice_schema_bind(const struct ice_schema *s, const struct schema *source, uint16_t *columns);

void ice_schema_put_json(struct buf *out, const struct ice_schema *s);
/* Types that are none of ours (structs, maps, foreign ones) are ERR_FATAL "iceberg_schema". */
int ice_schema_from_json(const json_t *json, struct ice_schema *out, struct err *err);
/* schema.name-mapping.default */
void ice_schema_put_name_mapping(struct buf *out, const struct ice_schema *s);
