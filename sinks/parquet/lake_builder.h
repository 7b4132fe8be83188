/* A lake column put together cell by cell from other columns. For the few rows whose cells come
 * from different places; rows in bulk are converted by lake_column_of. Kept between uses, so that
 * nothing is allocated once warm. Thread: its owner. */
#pragma once
#include "sinks/parquet/lake_type.h"

struct lake_builder {
    struct lake_type type;
    uint32_t rows, width;
    struct buf data;    /* cells, or bytes of variable ones */
    struct buf offsets; /* uint32_t each, rows + 1 */
    struct buf valid;   /* bits */
    bool any_null;
    struct lake_builder *elements;     /* of a LIST; made when needed */
    struct lake_column element_column; /* what column.elements points to */
};
void lake_builder_init(struct lake_builder *b);
void lake_builder_release(struct lake_builder *b);
void lake_builder_begin(struct lake_builder *b, const struct lake_type *type);
void lake_builder_null(struct lake_builder *b);
/* A copy of that row's cell. from's type is the builder's or one that widens to it
 * (lake_type_widens). */
void lake_builder_add(struct lake_builder *b, const struct lake_column *from, uint32_t row);
/* What there is; lives until the builder is changed. */
void lake_builder_column(struct lake_builder *b, struct lake_column *out);
uint32_t lake_width(const struct lake_type *type); /* bytes of a cell, 0 = variable */
