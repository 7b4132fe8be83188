/* Bit packing. See parquet_pack.h. */
#include "sinks/parquet/parquet_pack.h"

#include "cdc/base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "cells and pages are little-endian");

/* Always inlined with a constant width: the loop unrolls into shifts and stores. */
__attribute__((always_inline)) static inline void pack_width(const uint32_t *v,
                                                             const unsigned width, uint8_t *out) {
    uint64_t held = 0;
    unsigned used = 0;
#pragma GCC unroll 32
    for (unsigned i = 0; i < 32; i++) {
        held |= (uint64_t)v[i] << used;
        used += width;
        if (used >= 32) {
            uint32_t word = (uint32_t)held;
            __builtin_memcpy(out, &word, 4);
            out += 4;
            held >>= 32;
            used -= 32;
        }
    }
}

#define WIDTH(w)                                                                                   \
    case w:                                                                                        \
        pack_width(v, w, out);                                                                     \
        break;

void pack_32(const uint32_t *v, unsigned width, uint8_t *out) {
    CHECK(width <= 32);
    switch (width) {
        WIDTH(1)
        WIDTH(2)
        WIDTH(3) WIDTH(4) WIDTH(5) WIDTH(6) WIDTH(7) WIDTH(8) WIDTH(9) WIDTH(10) WIDTH(11) WIDTH(12)
            WIDTH(13) WIDTH(14) WIDTH(15) WIDTH(16) WIDTH(17) WIDTH(18) WIDTH(19) WIDTH(20)
                WIDTH(21) WIDTH(22) WIDTH(23) WIDTH(24) WIDTH(25) WIDTH(26) WIDTH(27) WIDTH(28)
                    WIDTH(29) WIDTH(30) WIDTH(31) WIDTH(32) default : break; /* width 0: no bytes */
    }
}

void pack_32_wide(const uint64_t *v, unsigned width, uint8_t *out) {
    CHECK(width <= 64);
    if (width == 0) {
        return;
    }
    uint64_t held = 0;
    unsigned used = 0;
    for (unsigned i = 0; i < 32; i++) {
        held |= v[i] << used;
        if (used + width < 64) {
            used += width;
            continue;
        }
        __builtin_memcpy(out, &held, 8);
        out += 8;
        unsigned taken = 64 - used; /* bits of this value that are out */
        held = taken < 64 ? v[i] >> taken : 0;
        used = width - taken;
    }
    if (used > 0) {
        __builtin_memcpy(out, &held, 4); /* 32 values end on four bytes */
    }
}
