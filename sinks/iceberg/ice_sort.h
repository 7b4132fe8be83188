/* Rows of a held file (ice_hold.h) in the order of a sort order, in bounded memory: runs that fit
 * it are sorted and held elsewhere, spilled as they become many, and merged. Rows of equal keys
 * keep their order. Thread: its owner. */
#pragma once
#include "sinks/iceberg/ice_bitmap.h"
#include "sinks/iceberg/ice_hold.h"
#include "sinks/iceberg/ice_order.h"

struct ice_sort {
    const struct ice_order *order;
    const uint32_t *indexes; /* of its columns (ice_order_bind) */
    struct ice_hold *from;
    uint32_t file;
    const struct ice_bitmap *dead; /* rows to leave out, by their place in the file; NULL = none */
    struct ice_hold *runs;         /* cleared before and after */
    size_t memory_bytes;           /* of a run that is made, about; as much again of runs held, and
                                      64 KiB a run that is merged */
    int (*each)(void *arg, const struct lake_column *columns, uint32_t rows, struct err *err);
    void *arg;
};
/* Pieces are given in order. `each` may touch neither hold. */
int ice_sort_rows(const struct ice_sort *sort, struct err *err);
