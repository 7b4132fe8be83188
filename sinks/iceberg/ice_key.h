/* Keys of rows as the key index knows them: the cells of the key's fields in lake form, one after
 * another, variable ones with their length before. Byte for byte, as the log carries them: a key
 * that is equal and written otherwise (1.0 and 1.00) comes as an update that says both. The same
 * from a row at hand and from the file it was written to. Pure. */
#pragma once
#include "sinks/parquet/lake_type.h"

/* columns: those of the key, in its order; none of their cells is null. */
void ice_key_put(struct buf *out, const struct lake_column *columns, uint32_t count, uint32_t row);
/* Of rows 0..columns[0].rows-1. scratch is cleared. */
void ice_key_hashes(const struct lake_column *columns, uint32_t count, struct buf *scratch,
                    uint64_t *hashes);
