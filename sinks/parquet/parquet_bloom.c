/* Split-block bloom filters. See parquet_bloom.h. */
#include "sinks/parquet/parquet_bloom.h"

#include <stdlib.h>

#include "sinks/parquet/thrift_put.h"

enum { BLOCK_BYTES = 32, HASHES_FIRST = 1024, HASHES_MAX = 65536, FILTER_BYTES_MAX = 2 << 20 };

static const uint64_t P1 = UINT64_C(0x9E3779B185EBCA87);
static const uint64_t P2 = UINT64_C(0xC2B2AE3D27D4EB4F);
static const uint64_t P3 = UINT64_C(0x165667B19E3779F9);
static const uint64_t P4 = UINT64_C(0x85EBCA77C2B2AE63);
static const uint64_t P5 = UINT64_C(0x27D4EB2F165667C5);

static uint64_t load_64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static uint32_t load_32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint64_t rotate(uint64_t v, int by) { return v << by | v >> (64 - by); }
static uint64_t round_64(uint64_t held, uint64_t v) { return rotate(held + v * P2, 31) * P1; }
static uint64_t merge(uint64_t held, uint64_t v) { return (held ^ round_64(0, v)) * P1 + P4; }

/* XXH64 with seed 0, after its specification. Inlined, it is short where the length is constant. */
__attribute__((always_inline)) static inline uint64_t hash_of(const uint8_t *p, size_t len) {
    const uint8_t *end = p + len;
    uint64_t h = P5;
    if (len >= 32) {
        uint64_t lane[4] = { P1 + P2, P2, 0, 0 - P1 };
        for (; end - p >= 32; p += 32) {
            for (int i = 0; i < 4; i++) {
                lane[i] = round_64(lane[i], load_64(p + 8 * i));
            }
        }
        h = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
        for (int i = 0; i < 4; i++) {
            h = merge(h, lane[i]);
        }
    }
    h += len;
    for (; end - p >= 8; p += 8) {
        h = rotate(h ^ round_64(0, load_64(p)), 27) * P1 + P4;
    }
    if (end - p >= 4) {
        h = rotate(h ^ load_32(p) * P1, 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++) {
        h = rotate(h ^ *p * P5, 11) * P1;
    }
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

uint64_t parquet_hash(const void *bytes, size_t len) { return hash_of(bytes, len); }

static const uint32_t salt[8] = { 0x47b6137bU, 0x44974d91U, 0x8824ad5bU, 0xa2b7289dU,
                                  0x705495c7U, 0x2df1424bU, 0x9efc4947U, 0x5c6bfb31U };

static uint32_t *block_of(uint8_t *bits, size_t bytes, uint64_t hash) {
    uint64_t block = (hash >> 32) * (bytes / BLOCK_BYTES) >> 32;
    return (uint32_t *)(void *)(bits + block * BLOCK_BYTES);
}

static void insert(uint8_t *bits, size_t bytes, uint64_t hash) {
    uint32_t *word = block_of(bits, bytes, hash);
    for (int i = 0; i < 8; i++) {
        word[i] |= UINT32_C(1) << ((uint32_t)hash * salt[i] >> 27);
    }
}

bool bloom_has(const uint8_t *bits, size_t bytes, uint64_t hash) {
    uint64_t block = (hash >> 32) * (bytes / BLOCK_BYTES) >> 32;
    for (size_t i = 0; i < 8; i++) {
        uint32_t word = load_32(bits + block * BLOCK_BYTES + 4 * i);
        if (!(word >> ((uint32_t)hash * salt[i] >> 27) & 1)) {
            return false;
        }
    }
    return true;
}

/* About 9.7 bits a value give 1 %; rounded up to a power of two. */
static size_t filter_bytes(uint64_t values) {
    uint64_t want = values * 97 / 80 + 1;
    size_t bytes = BLOCK_BYTES;
    while (bytes < want && bytes < FILTER_BYTES_MAX) {
        bytes *= 2;
    }
    return bytes;
}

void bloom_init(struct parquet_bloom *b, uint64_t rows_max) {
    *b = (struct parquet_bloom){ .rows_max = rows_max };
}

void bloom_release(struct parquet_bloom *b) {
    free(b->hashes);
    free(b->bits);
    bloom_init(b, b->rows_max);
}

void bloom_clear(struct parquet_bloom *b) {
    free(b->bits);
    b->bits = NULL;
    b->bytes = 0;
    b->count = 0;
    b->values = 0;
}

static void begin_filter(struct parquet_bloom *b, uint64_t values) {
    b->bytes = filter_bytes(values);
    b->bits = xcalloc(1, b->bytes);
    for (uint32_t i = 0; i < b->count; i++) {
        insert(b->bits, b->bytes, b->hashes[i]);
    }
    b->count = 0;
}

void bloom_add(struct parquet_bloom *b, uint64_t hash) {
    b->values++;
    if (b->bits) {
        insert(b->bits, b->bytes, hash);
        return;
    }
    if (UNLIKELY(b->count == b->cap)) {
        if (b->cap == HASHES_MAX) {
            begin_filter(b, b->rows_max > HASHES_MAX ? b->rows_max : HASHES_MAX);
            insert(b->bits, b->bytes, hash);
            return;
        }
        b->cap = b->cap ? b->cap * 2 : HASHES_FIRST;
        b->hashes = xrealloc(b->hashes, b->cap * sizeof *b->hashes);
    }
    b->hashes[b->count++] = hash;
}

void bloom_add_fixed(struct parquet_bloom *b, const uint8_t *values, size_t width, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = values + i * width;
        bloom_add(b, width == 8   ? hash_of(p, 8)
                     : width == 4 ? hash_of(p, 4)
                                  : parquet_hash(p, width));
    }
}

void bloom_add_bytes(struct parquet_bloom *b, const uint8_t *data, const uint32_t *offsets,
                     uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        bloom_add(b, parquet_hash(data + offsets[i], offsets[i + 1] - offsets[i]));
    }
}

size_t bloom_memory(const struct parquet_bloom *b) { return b->cap * sizeof *b->hashes + b->bytes; }

/* Halves the filter: the block of a hash in half as many blocks is half its number. */
static void fold(struct parquet_bloom *b) {
    size_t half = b->bytes / 2;
    for (size_t block = 0; block < half / BLOCK_BYTES; block++) {
        uint8_t *to = b->bits + block * BLOCK_BYTES;
        const uint8_t *from = b->bits + 2 * block * BLOCK_BYTES;
        for (size_t i = 0; i < BLOCK_BYTES; i++) {
            to[i] = from[i] | from[BLOCK_BYTES + i];
        }
    }
    b->bytes = half;
}

/* Values that came more than once set no further bits: how full it is says how many there are.
 * Folded it would have 1 - (1 - full)^2 of its bits set; up to 0.56 that is 1 % of false positives.
 */
static bool folds_well(const struct parquet_bloom *b) {
    uint64_t ones = 0;
    for (size_t i = 0; i < b->bytes; i += 8) {
        ones += (uint64_t)__builtin_popcountll(load_64(b->bits + i));
    }
    double empty = 1 - (double)ones / (double)(b->bytes * 8);
    return 1 - empty * empty <= 0.56;
}

void bloom_put(struct parquet_bloom *b, struct buf *out) {
    if (!b->bits) {
        begin_filter(b, b->count);
    }
    while (b->bytes > BLOCK_BYTES && folds_well(b)) {
        fold(b);
    }
    struct thrift_put t;
    thrift_put_init(&t, out);
    thrift_put_i32(&t, BLOOM_NUM_BYTES, (int32_t)b->bytes);
    for (int16_t id = BLOOM_ALGORITHM; id <= BLOOM_COMPRESSION; id++) {
        thrift_put_struct(&t, id); /* each a union with its first member */
        thrift_put_empty(&t, 1);
        thrift_put_struct_end(&t);
    }
    thrift_put_end(&t);
    buf_put(out, b->bits, b->bytes);
}
