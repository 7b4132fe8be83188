/* The project's 64-bit hash: 16 bytes a step, folded by a 64 x 64 -> 128 bit multiplication (the
 * high half xor the low half). Reads are little-endian, so the value is the same on every machine;
 * it may be stored. Not for keys an attacker may choose with effort: it is fast and spreads well,
 * it is no secret function. Pure. Thread: any. */
#include <string.h>

#include "cdc/base/map.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static inline uint64_t from_little(uint64_t v) { return v; }
#else
static inline uint64_t from_little(uint64_t v) { return __builtin_bswap64(v); }
#endif

/* Fractional bits of the square roots of 2, 3, 5 and 7, made odd. */
static const uint64_t k0 = UINT64_C(0x6a09e667f3bcc909);
static const uint64_t k1 = UINT64_C(0xbb67ae8584caa73b);
static const uint64_t k2 = UINT64_C(0x3c6ef372fe94f82b);
static const uint64_t k3 = UINT64_C(0xa54ff53a5f1d36f1);

static inline uint64_t read8(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return from_little(v);
}

/* n bytes (0 to 8) as a little-endian number. */
static inline uint64_t read_short(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, p, n);
    return from_little(v);
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_bytes(const void *bytes, size_t len, uint64_t seed) {
    const uint8_t *p = bytes;
    uint64_t h = seed ^ fold(seed ^ k0, k1);
    uint64_t a = 0;
    uint64_t b = 0;
    size_t left = len;
    while (left > 16) {
        h = fold(read8(p) ^ k1, read8(p + 8) ^ h);
        p += 16;
        left -= 16;
    }
    if (left > 8) {
        a = read8(p);
        b = read_short(p + 8, left - 8);
    } else if (left > 0) {
        a = read_short(p, left);
    }
    return fold(k3 ^ len, fold(a ^ k2, b ^ h) ^ h);
}
