/* DELTA_BINARY_PACKED. See parquet_delta.h. A block's deltas are taken into an array on the stack,
 * padded with the least one, so that every loop has a constant length and no branch a value. */
#include "sinks/parquet/parquet_delta.h"

#include "sinks/parquet/parquet_pack.h"
#include "sinks/parquet/thrift_put.h"

enum { BLOCK = 128, MINI = 32, MINIS = BLOCK / MINI };

size_t delta_bytes_max(uint32_t count, unsigned width) {
    size_t blocks = ((size_t)count + BLOCK - 1) / BLOCK;
    return 32 + blocks * (10 + MINIS + (size_t)BLOCK * width);
}

static void put_header(struct buf *out, uint32_t count, int64_t first) {
    put_varint(out, BLOCK);
    put_varint(out, MINIS);
    put_varint(out, count);
    put_varint(out, zigzag(first));
}

/* Room for one block; where its widths stand. */
static uint8_t *begin_block(struct buf *out, int64_t least, unsigned width) {
    put_varint(out, zigzag(least));
    int failed = buf_reserve(out, MINIS + (size_t)BLOCK * width);
    CHECK(!failed);
    return (uint8_t *)out->data + out->len;
}

static void put_block_i32(struct buf *out, const int32_t *v, unsigned n) {
    uint32_t delta[BLOCK];
    int32_t least = INT32_MAX;
    for (unsigned i = 0; i < n; i++) {
        delta[i] = (uint32_t)v[i + 1] - (uint32_t)v[i];
        least = (int32_t)delta[i] < least ? (int32_t)delta[i] : least;
    }
    for (unsigned i = n; i < BLOCK; i++) {
        delta[i] = (uint32_t)least;
    }
    uint8_t *widths = begin_block(out, least, 4);
    uint8_t *at = widths + MINIS;
    for (unsigned m = 0; m < MINIS; m++) {
        uint32_t all = 0;
        uint32_t *mini = delta + m * MINI;
        for (unsigned i = 0; i < MINI; i++) {
            mini[i] -= (uint32_t)least;
            all |= mini[i];
        }
        unsigned width = bits_of(all);
        widths[m] = (uint8_t)width;
        pack_32(mini, width, at);
        at += (size_t)4 * width;
    }
    out->len = (size_t)(at - (uint8_t *)out->data);
}

static void put_block_i64(struct buf *out, const int64_t *v, unsigned n) {
    uint64_t delta[BLOCK];
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < n; i++) {
        delta[i] = (uint64_t)v[i + 1] - (uint64_t)v[i];
        least = (int64_t)delta[i] < least ? (int64_t)delta[i] : least;
    }
    for (unsigned i = n; i < BLOCK; i++) {
        delta[i] = (uint64_t)least;
    }
    uint8_t *widths = begin_block(out, least, 8);
    uint8_t *at = widths + MINIS;
    for (unsigned m = 0; m < MINIS; m++) {
        uint64_t all = 0;
        uint64_t *mini = delta + m * MINI;
        uint32_t low[MINI];
        for (unsigned i = 0; i < MINI; i++) {
            mini[i] -= (uint64_t)least;
            all |= mini[i];
            low[i] = (uint32_t)mini[i];
        }
        unsigned width = bits_of(all);
        widths[m] = (uint8_t)width;
        if (LIKELY(width <= 32)) {
            pack_32(low, width, at);
        } else {
            pack_32_wide(mini, width, at);
        }
        at += (size_t)4 * width;
    }
    out->len = (size_t)(at - (uint8_t *)out->data);
}

void delta_put_i32(struct buf *out, const int32_t *v, uint32_t count) {
    put_header(out, count, count > 0 ? v[0] : 0);
    for (uint32_t i = 1; i < count; i += BLOCK) {
        put_block_i32(out, v + i - 1, count - i < BLOCK ? count - i : BLOCK);
    }
}

void delta_put_i64(struct buf *out, const int64_t *v, uint32_t count) {
    put_header(out, count, count > 0 ? v[0] : 0);
    for (uint32_t i = 1; i < count; i += BLOCK) {
        put_block_i64(out, v + i - 1, count - i < BLOCK ? count - i : BLOCK);
    }
}
