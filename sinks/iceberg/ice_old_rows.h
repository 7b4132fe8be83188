/* Cells of rows that lie in finished data files, by place. For updates whose log left cells out:
 * they equal the old row's. A few files are kept open. Thread: the writer's. */
#pragma once
#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/ice_schema.h"
#include "sinks/iceberg/key_index.h"
#include "sinks/parquet/lake_builder.h"

struct ice_old_rows;
struct ice_old_rows *ice_old_rows_new(struct store *store);
void ice_old_rows_free(struct ice_old_rows *x); /* NULL allowed */

/* The cells of one field at these places (key_loc) of one file, which are in the file's order. A
 * file that has no such field gives the field's default, or nulls. Appended to `out`, which has
 * been begun with the field's type. */
int ice_old_rows_read(struct ice_old_rows *x, const char *url, const uint64_t *locs, uint32_t count,
                      const struct ice_field *field, struct lake_builder *out, struct err *err);
