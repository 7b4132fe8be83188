/* Split-block bloom filters and the hash they use (XXH64, seed 0, over a value's PLAIN bytes
 * without a length). A filter is blocks of 256 bits, eight words of 32, one bit set in each word:
 *
 *   block = (hash >> 32) * blocks >> 32;  bit of word i = (uint32_t)hash * SALT[i] >> 27
 *
 * Blocks are a power of two, so that neighbours fold into one when fewer different values
 * came than there was room for. Source: parquet-format, BloomFilter.md. Pure but for memory. */
#pragma once
#include "cdc/base/buf.h"

uint64_t parquet_hash(const void *p, size_t len);

/* Hashes of a chunk: kept one by one as long as they are few, else in a filter made for `rows_max`.
 */
struct parquet_bloom {
    uint64_t *hashes;
    uint32_t count, cap;
    uint8_t *bits; /* NULL while hashes are kept */
    size_t bytes;
    uint64_t values; /* put in */
    uint64_t rows_max;
};
void bloom_init(struct parquet_bloom *b, uint64_t rows_max);
void bloom_release(struct parquet_bloom *b);
void bloom_clear(struct parquet_bloom *b); /* for the next chunk */
void bloom_add(struct parquet_bloom *b, uint64_t hash);
/* n values, side by side; or value i = data[offsets[i] .. offsets[i + 1]). */
void bloom_add_fixed(struct parquet_bloom *b, const uint8_t *values, size_t width, uint32_t n);
void bloom_add_bytes(struct parquet_bloom *b, const uint8_t *data, const uint32_t *offsets,
                     uint32_t n);
size_t bloom_memory(const struct parquet_bloom *b);
/* The filter with its header, as the file has it, at about 1 % false positives. */
void bloom_put(struct parquet_bloom *b, struct buf *out);
/* Of any filter's bits: may the hash be in it? bytes: a multiple of 32, not 0. */
bool bloom_has(const uint8_t *bits, size_t bytes, uint64_t hash);
