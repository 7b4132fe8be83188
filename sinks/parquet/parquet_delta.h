/* DELTA_BINARY_PACKED: blocks of 128 deltas, four miniblocks of 32 each.
 *
 *   header      varint 128, varint 4, varint count, zigzag varint first value
 *   block       zigzag varint least delta, 4 widths, a byte each, then per miniblock 32 * width
 * bits
 *
 * Deltas wrap: in 32 bits for INT32, in 64 for INT64. The last miniblock is padded with zeros;
 * those after it have width 0 and no bytes. Pure; appends. */
#pragma once
#include "cdc/base/buf.h"

void delta_put_i32(struct buf *out, const int32_t *v, uint32_t count);
void delta_put_i64(struct buf *out, const int64_t *v, uint32_t count);
/* Bytes that count values can need at most. */
size_t delta_bytes_max(uint32_t count, unsigned width);
