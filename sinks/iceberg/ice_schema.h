/* An Iceberg schema: fields with ids that are never used again, and how the schema of a source
 * table becomes one and follows it. A plain value with an arena. Source: Iceberg table spec,
 * "Schemas and Data Types", "Schema Evolution". Pure. Thread: the owner's. */
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
    struct arena arena; /* all strings and arrays below */
    int32_t id;
    uint32_t field_count;
    struct ice_field *fields;
    uint32_t identifier_count; /* the key's field ids: written where all are required and none is a
                                  float */
    int32_t *identifiers;
};
void ice_schema_release(struct ice_schema *s);
void ice_schema_copy(struct ice_schema *out, const struct ice_schema *s);
/* Index of a field, -1 = none. By id: a list's element is not found. */
int ice_schema_find(const struct ice_schema *s, const char *name);
int ice_schema_find_id(const struct ice_schema *s, int32_t id);

/* Columns besides the source's own, after them in the schema: the operation ("c", "u", "d", "r" of
 * the changelog), the transaction's commit time, its position, and the mark of soft deletes. */
enum ice_extra {
    ICE_EXTRA_NONE = 0,
    ICE_EXTRA_OP = 1,
    ICE_EXTRA_TS = 2,
    ICE_EXTRA_POSITION = 4,
    ICE_EXTRA_DELETED = 8
};
#define ICE_EXTRA_COUNT 4
/* The column's name for one of the bits: "_tailrace_op", "_tailrace_ts", "_tailrace_position",
 * "_tailrace_deleted"; all are optional but the last, a required boolean where the table was made
 * with it. */
const char *ice_extra_name(enum ice_extra extra);

/* Where a column's type changes as Iceberg forbids:
 *   STOP        it is an error
 *   NEW_COLUMN  the old field keeps its id and data under the name "<column>_v1" (or 2, ...) and a
 *               new field takes the name
 *   RESNAPSHOT  a new field takes the name, the old one goes: for tables whose rows are void, since
 *               all of them come anew (ice_schema_needs_anew) */
enum ice_type_change { ICE_TYPE_STOP = 0, ICE_TYPE_NEW_COLUMN, ICE_TYPE_RESNAPSHOT };
/* What the user wants of columns. */
struct ice_schema_rules {
    unsigned extras;                                                /* enum ice_extra, or-ed */
    bool (*text)(void *arg, const char *table, const char *column); /* as text? NULL = none */
    void *arg;
    enum ice_type_change on_type_change;
    bool defaults; /* format v3: an added column's `missing` becomes the field's default */
};

/* The schema for a table that does not exist yet, id 0. Ids from 1 in column order, list elements
 * after all fields. ERR_FATAL "column_collision": a source column has the name of an extra, asked
 * for or not. */
int ice_schema_first(struct ice_schema *out, const struct schema *source,
                     const struct ice_schema_rules *rules, int32_t *last_column_id,
                     struct err *err);

/* What has to be done to a table's schema so that it holds the source's present rows. By name; a
 * name that was dropped and comes back gets a new id. */
enum ice_change { ICE_SAME, ICE_EVOLVED, ICE_IMPOSSIBLE };
/* ICE_EVOLVED: *out is the new schema (id = now's; the caller sets it), last_column_id raised.
 * Added fields are optional; where the rules have defaults, what their columns are missing is their
 * initial and write default, if JSON can say it (ice_default.h). Required becomes optional where
 * the source says so, never the reverse. ICE_IMPOSSIBLE: err ("type_change" for a change that
 * Iceberg forbids, or "column_collision") names the column; *out and last_column_id are untouched.
 * Fields kept by new_column are not dropped. Doc texts alone make no difference. */
enum ice_change ice_schema_follow(const struct ice_schema *now, const struct schema *source,
                                  const struct ice_schema_rules *rules, int32_t *last_column_id,
                                  struct ice_schema *out, struct err *err);
/* Has the table another key, so that rows of both may come in one commit? Of RESNAPSHOT besides:
 * does a column change between these definitions as Iceberg forbids? */
bool ice_schema_needs_anew(const struct schema *before, const struct schema *after,
                           const struct ice_schema_rules *rules);
/* Would a field that is added for this column, which has a `missing`, get it as its default? */
bool ice_schema_takes_missing(const struct schema *source, uint16_t column,
                              const struct ice_schema_rules *rules);
/* The first of now's fields that next gave up for another one of its name; -1 = none. */
int ice_schema_replaced(const struct ice_schema *now, const struct ice_schema *next);
/* A field that its source lost stays, optional, after all others, with its name unless another
 * field has it; follow then leaves it alone. */
void ice_schema_keep(struct ice_schema *s, const struct ice_field *f);
/* The column of the source behind each field (UINT16_MAX: none, an extra, a kept or a dropped one).
 */
void ice_schema_bind(const struct ice_schema *s, const struct schema *source, uint16_t *columns);

/* {"type":"struct","schema-id":..,"identifier-field-ids":[..],"fields":[..]} */
void ice_schema_put_json(struct buf *out, const struct ice_schema *s);
/* Types that are none of ours (structs, maps, foreign ones) are ERR_FATAL "iceberg_schema". */
int ice_schema_from_json(const json_t *json, struct ice_schema *out, struct err *err);
/* schema.name-mapping.default */
void ice_schema_put_name_mapping(struct buf *out, const struct ice_schema *s);
