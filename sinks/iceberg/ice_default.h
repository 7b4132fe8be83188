/* Defaults of fields: what rows of files that lack a field have in it (initial-default), as JSON
 * single-value serialization. Format v3 alone knows them. Source: Iceberg table spec, "Default
 * values", "JSON single-value serialization". Pure. Thread: any. */
#pragma once
#include "sinks/iceberg/ice_schema.h"
#include "sinks/parquet/lake_builder.h"

/* Texts beyond are none: the metadata, which every commit writes anew, has them twice. */
#define ICE_DEFAULT_BYTES_MAX 1024u

/* The JSON of a cell that is not null. False: it has none (a list, a float that is not finite, a
 * year beyond 1 to 9999, what is no UTF-8 or too long); out is as it was. */
bool ice_default_put(struct buf *out, const struct lake_column *column, uint32_t row);
/* The same of what is missing in a source's column, as the lake's type has it. False also where it
 * cannot be said in that type. */
bool ice_default_of_column(struct buf *out, const struct column_def *column,
                           const struct lake_type *type);

/* A field's initial default as one cell. */
struct ice_default {
    bool there;
    struct lake_column column; /* one row */
    uint8_t cell[16];
    uint32_t offsets[2];
    char *bytes;
};
/* Not to be moved in memory afterwards. there: false where the field has none: its cells are null.
 * ERR_FATAL "iceberg_schema": it is no value of the field's type, or one of a list. */
int ice_default_init(struct ice_default *d, const struct ice_field *f, struct err *err);
void ice_default_release(struct ice_default *d);
/* One more cell: the default, or null. */
void ice_default_add(const struct ice_default *d, struct lake_builder *b);
