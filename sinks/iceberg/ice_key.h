/* Keys and whole rows as bytes, as the key index knows them: cells in a form that neither a widened
 * type nor another way to write the same value changes, so that a key at hand and the one in a file
 * of last year are the same bytes if and only if cdc/key.h calls them equal. Pure.
 *
 *   int, long        8 bytes, sign extended     float, double   as a double
 *   decimal          16 bytes, sign extended    other fixed     as they lie
 *   string, binary   u32 length, bytes          list            u32 count, then each: u8 1, cell;
 * or 0 */
#pragma once
#include "sinks/parquet/lake_type.h"

enum ice_key_form {
    ICE_KEY_EXACT,  /* different texts of one value are different */
    ICE_KEY_FLOAT,  /* -0 is 0, all NaN are one */
    ICE_KEY_NUMBER, /* the text of a number: 1.50 is 1.5 */
};
/* Of a key column. */
enum ice_key_form ice_key_form_of(const struct type *source, const struct lake_type *lake);
/* One cell that is not null. */
void ice_key_put_cell(struct buf *out, const struct lake_column *column, uint32_t row,
                      enum ice_key_form form);
/* columns, forms: those of the key, in its order; none of the cells is null. */
void ice_key_put(struct buf *out, const struct lake_column *columns, const enum ice_key_form *forms,
                 uint32_t count, uint32_t row);
/* Of rows 0..columns[0].rows-1. scratch is cleared. mask: which bits count; UINT64_MAX but in
 * tests, where few bits make many keys of one hash. */
void ice_key_hashes(const struct lake_column *columns, const enum ice_key_form *forms,
                    uint32_t count, uint64_t mask, struct buf *scratch, uint64_t *hashes);
uint64_t ice_key_hash(const void *key, size_t len, uint64_t mask);
