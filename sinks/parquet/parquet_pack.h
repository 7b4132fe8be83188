/* Bit packing, lowest bit first, as RLE_DICTIONARY, levels and DELTA_BINARY_PACKED have it: 32
 * values of w bits are 4*w bytes. A function each width, so that a compiler sees constant shifts.
 * Pure. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* 32 values below 2^width, width 0..32; writes 4*width bytes. */
void pack_32(const uint32_t *v, unsigned width, uint8_t *out);
/* The same for width 0..64. */
void pack_32_wide(const uint64_t *v, unsigned width, uint8_t *out);
static inline unsigned bits_of(uint64_t v) { return v ? 64 - (unsigned)__builtin_clzll(v) : 0; }
