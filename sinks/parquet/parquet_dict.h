/* The dictionary of one column chunk: distinct values in order of first use, held as they stand in
 * the dictionary page, and a hash table over them. Lookups take a whole slice of values. Pure but
 * for memory.
 *
 * Open addressing, at most half full. A slot holds a 64-bit key: for values up to 8 bytes of fixed
 * width the value itself, for texts up to 7 bytes the text and its length in the highest byte, else
 * a hash with a highest byte of 0xFF, which needs a comparison. */
#pragma once
#include "cdc/base/buf.h"

#define DICT_NONE UINT32_MAX

struct dict_slot {
    uint64_t key;
    uint32_t index; /* DICT_NONE = free */
    uint32_t unused;
};
struct parquet_dict {
    uint32_t width; /* bytes of a value, 0 = variable */
    uint32_t count;
    struct buf values; /* the page's body: fixed values side by side; else u32 length, bytes */
    size_t *at;        /* variable: where an entry's bytes begin in values */
    uint32_t at_cap;
    unsigned slot_bits;
    struct dict_slot *slots;
};
void parquet_dict_init(struct parquet_dict *d, uint32_t width);
void parquet_dict_release(struct parquet_dict *d);
void parquet_dict_clear(struct parquet_dict *d);
size_t parquet_dict_memory(const struct parquet_dict *d);

/* Indexes of n values into out; new ones are added. */
void parquet_dict_index_fixed(struct parquet_dict *d, const uint8_t *values, uint32_t n,
                              uint32_t *out);
/* Value i is data[offsets[i] .. offsets[i + 1]). */
void parquet_dict_index_bytes(struct parquet_dict *d, const uint8_t *data, const uint32_t *offsets,
                              uint32_t n, uint32_t *out);

static inline const uint8_t *parquet_dict_value(const struct parquet_dict *d, uint32_t index,
                                                size_t *len) {
    const uint8_t *values = (const uint8_t *)d->values.data;
    if (d->width) {
        *len = d->width;
        return values + (size_t)index * d->width;
    }
    uint32_t n;
    memcpy(&n, values + d->at[index] - 4, 4);
    *len = n;
    return values + d->at[index];
}
