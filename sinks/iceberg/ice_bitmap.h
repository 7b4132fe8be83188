/* A set of row positions of one data file, 64 bits wide: 32-bit roaring bitmaps (CRoaring) by the
 * high half of the position, which is 0 in all files below 2^32 rows. Its serial form is the one of
 * deletion vectors: u64 number of bitmaps, then for each, ascending, its u32 high half and the
 * 32-bit bitmap in the portable roaring format, little-endian. Serial forms come from files:
 * reading is bounds-checked and believes nothing. Thread: its owner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/buf.h"

struct ice_bitmap;
struct ice_bitmap *ice_bitmap_new(void);
void ice_bitmap_free(struct ice_bitmap *b); /* NULL allowed */
/* false: it was there already. */
bool ice_bitmap_add(struct ice_bitmap *b, uint64_t pos);
bool ice_bitmap_has(const struct ice_bitmap *b, uint64_t pos);
void ice_bitmap_or(struct ice_bitmap *into, const struct ice_bitmap *from);
uint64_t ice_bitmap_count(const struct ice_bitmap *b);
size_t ice_bitmap_memory(const struct ice_bitmap *b); /* bytes held, about */

/* Calls each position, ascending, in pieces: n positions written to `out` (at most `max`), going on
 * after `at`, which begins as 0; 0 = no more. */
uint32_t ice_bitmap_next(const struct ice_bitmap *b, uint64_t *at, uint64_t *out, uint32_t max);

/* Run containers are made where they are smaller, so equal sets have equal bytes. */
void ice_bitmap_put(struct buf *out, struct ice_bitmap *b);
/* Adds what the bytes hold, all of which must be used. -1: they are no such form. */
int ice_bitmap_take(struct ice_bitmap *into, const void *p, size_t n) TR_MUST_CHECK;
