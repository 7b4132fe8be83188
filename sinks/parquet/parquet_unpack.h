/* Reading what parquet_pack.h, parquet_levels.h and parquet_delta.h write, out of foreign memory:
 * bit-packed numbers, the RLE / bit-packed hybrid, DELTA_BINARY_PACKED. All of them stream: values
 * are taken a few at a time and memory does not depend on what a page claims. 0, or -1 where the
 * bytes end too early or contradict themselves.
 *
 * Bytes are looked at up to UNPACK_SLACK beyond their end, though never used: whoever owns the
 * memory leaves that much room behind. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNPACK_SLACK 192

/* 32 numbers of `width` bits, 0..32: 4 * width bytes. */
void unpack_32(const uint8_t *in, unsigned width, uint32_t *out);
/* The same for width 0..64. */
void unpack_32_wide(const uint8_t *in, unsigned width, uint64_t *out);

struct levels_take {
    const uint8_t *at, *end;
    unsigned width;
    uint32_t value;
    uint64_t equal;  /* of `value`, still to give */
    uint64_t packed; /* behind `at`, still to give */
    unsigned bit;    /* levels_take_bits: where in *at */
    uint32_t held[32];
    unsigned held_at, held_count;
};
int levels_take_begin(struct levels_take *l, const uint8_t *p, const uint8_t *end, unsigned width);
int levels_take(struct levels_take *l, uint32_t *out, uint32_t n);
int levels_take_skip(struct levels_take *l, uint32_t n);
/* Width 1 only, and not together with levels_take: n bits into `bits`, which has room for 16
 * further bytes; bits beyond n are 0. present: how many are set. */
int levels_take_bits(struct levels_take *l, uint8_t *bits, uint32_t n, uint32_t *present);

struct delta_take {
    const uint8_t *at, *end;
    uint64_t left; /* values still to give */
    uint64_t last, least;
    bool first; /* `last` is the first value, not given yet */
    uint32_t minis, mini_values, mini;
    const uint8_t *widths;
    uint32_t mini_left; /* values of the open miniblock behind `at`, padding counted */
    unsigned width;
    uint64_t held[32];
    unsigned held_at, held_count;
};
int delta_take_begin(struct delta_take *d, const uint8_t *p, const uint8_t *end);
int delta_take_64(struct delta_take *d, uint64_t *out, uint32_t n);
int delta_take_32(struct delta_take *d, uint32_t *out, uint32_t n);
int delta_take_skip(struct delta_take *d, uint32_t n);
/* Where the bytes of the last value end; NULL where they do not. d stays as it is. */
const uint8_t *delta_take_end(const struct delta_take *d);
