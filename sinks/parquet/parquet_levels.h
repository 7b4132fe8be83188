/* The RLE / bit-packed hybrid: levels, and the indexes of dictionary-coded pages.
 *
 *   run of equals    varint (length << 1), the value in ceil(width / 8) bytes
 *   packed           varint (groups << 1 | 1), groups of 8 values, width bytes each; the last is
 *                    padded with zeros
 *
 * Pure; appends to the caller's buffer. */
#pragma once
#include "cdc/base/buf.h"

/* v[count], each below 2^width; width 1..32. v has room for 32 further entries, which are written.
 */
void levels_put(struct buf *out, uint32_t *v, uint32_t count, unsigned width);
/* Levels of one bit from a bitmap: bits beyond count in its last byte are ignored. */
void levels_put_bitmap(struct buf *out, const uint8_t *bits, uint32_t count);
/* One run: count times value. */
void levels_put_run(struct buf *out, uint32_t value, uint32_t count, unsigned width);
