/* See parquet_unpack.h. */
#include "sinks/parquet/parquet_unpack.h"

#include <string.h>

#include "cdc/base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "cells and pages are little-endian");

/* Always inlined with a constant width: offsets and shifts become constants. */
__attribute__((always_inline)) static inline void
unpack_width(const uint8_t *in, const unsigned width, uint32_t *out) {
    const uint64_t mask = (UINT64_C(1) << width) - 1;
#pragma GCC unroll 32
    for (unsigned i = 0; i < 32; i++) {
        uint64_t word;
        __builtin_memcpy(&word, in + i * width / 8, 8);
        out[i] = (uint32_t)(word >> (i * width % 8) & mask);
    }
}

__attribute__((always_inline)) static inline void
unpack_width_wide(const uint8_t *in, const unsigned width, uint64_t *out) {
    const uint64_t mask = (UINT64_C(1) << width) - 1;
#pragma GCC unroll 32
    for (unsigned i = 0; i < 32; i++) {
        uint64_t word;
        __builtin_memcpy(&word, in + i * width / 8, 8);
        out[i] = word >> (i * width % 8) & mask;
    }
}

#define CASES_8(F, a) F(a) F(a + 1) F(a + 2) F(a + 3) F(a + 4) F(a + 5) F(a + 6) F(a + 7)

#define NARROW(w)                                                                                  \
    case w:                                                                                        \
        unpack_width(in, w, out);                                                                  \
        break;

/* clang-format off */
void unpack_32(const uint8_t *in, unsigned width, uint32_t *out) {
    switch (width) {
    CASES_8(NARROW, 0)
    CASES_8(NARROW, 8)
    CASES_8(NARROW, 16)
    CASES_8(NARROW, 24)
    NARROW(32)
    default:
        CHECK(!"a width that was not checked");
    }
}
/* clang-format on */

#define WIDE(w)                                                                                    \
    case w:                                                                                        \
        unpack_width_wide(in, w, out);                                                             \
        break;

/* clang-format off */
void unpack_32_wide(const uint8_t *in, unsigned width, uint64_t *out) {
    switch (width) {
    CASES_8(WIDE, 0)
    CASES_8(WIDE, 8)
    CASES_8(WIDE, 16)
    CASES_8(WIDE, 24)
    CASES_8(WIDE, 32)
    CASES_8(WIDE, 40)
    CASES_8(WIDE, 48)
    WIDE(56)
    default:
        break;
    }
    /* clang-format on */
    if (width <= 56) {
        return;
    }
    CHECK(width <= 64);
    for (unsigned i = 0; i < 32; i++) { /* a number may lie in nine bytes */
        unsigned shift = i * width % 8;
        uint64_t word;
        memcpy(&word, in + i * width / 8, 8);
        uint64_t ninth = in[i * width / 8 + 8];
        word = shift ? word >> shift | ninth << (64 - shift) : word;
        out[i] = word & (~UINT64_C(0) >> (64 - width));
    }
}

static int take_varint(const uint8_t **at, const uint8_t *end, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return 0;
        }
    }
    return -1;
}

int levels_take_begin(struct levels_take *l, const uint8_t *p, const uint8_t *end, unsigned width) {
    l->at = p;
    l->end = end;
    l->width = width;
    l->equal = l->packed = 0;
    l->bit = l->held_at = l->held_count = 0;
    return width <= 32 ? 0 : -1;
}

/* The next run's head. */
static int next_run(struct levels_take *l) {
    uint64_t head;
    if (take_varint(&l->at, l->end, &head)) {
        return -1;
    }
    size_t left = (size_t)(l->end - l->at);
    if (head & 1) {
        uint64_t groups = head >> 1;
        /* A last run that is cut where its values end is taken, too. */
        uint64_t there = l->width > 0 ? left * 8 / l->width : UINT64_MAX / 8;
        l->packed = groups < there / 8 ? groups * 8 : there;
        l->packed = groups <= UINT32_MAX && groups * 8 < l->packed ? groups * 8 : l->packed;
        l->bit = 0;
        return l->packed > 0 ? 0 : -1;
    }
    size_t bytes = (l->width + 7) / 8;
    l->equal = head >> 1;
    if (l->equal == 0 || left < bytes) {
        return -1;
    }
    l->value = 0;
    memcpy(&l->value, l->at, bytes);
    l->at += bytes;
    return l->width == 32 || l->value >> l->width == 0 ? 0 : -1;
}

/* Up to 32 values of a packed run into out, which has room for them. */
static unsigned unpack_some(struct levels_take *l, uint32_t *out) {
    unpack_32(l->at, l->width, out);
    unsigned n = l->packed < 32 ? (unsigned)l->packed : 32;
    size_t bytes = (size_t)(n + 7) / 8 * l->width;
    size_t left = (size_t)(l->end - l->at);
    l->at += bytes < left ? bytes : left;
    l->packed -= n;
    return n;
}

int levels_take(struct levels_take *l, uint32_t *out, uint32_t n) {
    while (n > 0) {
        uint32_t take;
        if (l->held_at < l->held_count) {
            take = l->held_count - l->held_at < n ? l->held_count - l->held_at : n;
            memcpy(out, l->held + l->held_at, take * sizeof *out);
            l->held_at += take;
        } else if (l->equal > 0) {
            take = l->equal < n ? (uint32_t)l->equal : n;
            for (uint32_t i = 0; i < take; i++) {
                out[i] = l->value;
            }
            l->equal -= take;
        } else if (l->packed > 0 && n >= 32) {
            take = unpack_some(l, out);
        } else if (l->packed > 0) {
            l->held_count = unpack_some(l, l->held);
            l->held_at = 0;
            continue;
        } else {
            if (next_run(l)) {
                return -1;
            }
            continue;
        }
        out += take;
        n -= take;
    }
    return 0;
}

int levels_take_skip(struct levels_take *l, uint32_t n) {
    while (n > 0) {
        uint32_t take;
        if (l->held_at < l->held_count) {
            take = l->held_count - l->held_at < n ? l->held_count - l->held_at : n;
            l->held_at += take;
        } else if (l->equal > 0) {
            take = l->equal < n ? (uint32_t)l->equal : n;
            l->equal -= take;
        } else if (l->packed > n && n >= 32) {
            take = n / 32 * 32;
            l->at += (size_t)take / 8 * l->width;
            l->packed -= take;
        } else if (l->packed > 0) {
            l->held_count = unpack_some(l, l->held);
            l->held_at = 0;
            continue;
        } else {
            if (next_run(l)) {
                return -1;
            }
            continue;
        }
        n -= take;
    }
    return 0;
}

/* Sets n bits from `at` on to ones. */
static void fill_ones(uint8_t *bits, uint32_t at, uint32_t n) {
    for (; n > 0 && at % 8 > 0; at++, n--) {
        bits[at / 8] |= (uint8_t)(1u << at % 8);
    }
    memset(bits + at / 8, 0xFF, n / 8);
    if (n % 8 > 0) {
        bits[at / 8 + n / 8] |= (uint8_t)((1u << n % 8) - 1);
    }
}

int levels_take_bits(struct levels_take *l, uint8_t *bits, uint32_t n, uint32_t *present) {
    memset(bits, 0, (size_t)n / 8 + 16);
    uint32_t set = 0;
    for (uint32_t done = 0; done < n;) {
        uint32_t take = n - done;
        if (l->equal > 0) {
            take = l->equal < take ? (uint32_t)l->equal : take;
            if (l->value) {
                fill_ones(bits, done, take);
                set += take;
            }
            l->equal -= take;
        } else if (l->packed > 0) {
            uint64_t from;
            uint64_t to;
            take = l->packed < take ? (uint32_t)l->packed : take;
            take = take < 56 ? take : 56;
            memcpy(&from, l->at, 8);
            from = from >> l->bit & ((UINT64_C(1) << take) - 1);
            memcpy(&to, bits + done / 8, 8);
            to |= from << done % 8;
            memcpy(bits + done / 8, &to, 8);
            set += (uint32_t)__builtin_popcountll(from);
            l->packed -= take;
            l->at += (l->bit + take) / 8;
            l->bit = (l->bit + take) % 8;
        } else {
            if (next_run(l)) {
                return -1;
            }
            continue;
        }
        done += take;
    }
    *present = set;
    return 0;
}

int delta_take_begin(struct delta_take *d, const uint8_t *p, const uint8_t *end) {
    uint64_t block, minis, count, first;
    d->at = p;
    d->end = end;
    d->held_at = d->held_count = 0;
    d->mini_left = 0;
    if (take_varint(&d->at, end, &block) || take_varint(&d->at, end, &minis) ||
        take_varint(&d->at, end, &count) || take_varint(&d->at, end, &first)) {
        return -1;
    }
    if (block == 0 || block > UINT32_C(1) << 30 || block % 128 != 0 || minis == 0 ||
        minis > block / 32 || block % minis != 0 || block / minis % 32 != 0 || count > UINT32_MAX) {
        return -1;
    }
    d->minis = (uint32_t)minis;
    d->mini = d->minis; /* a block's head comes next */
    d->mini_values = (uint32_t)(block / minis);
    d->left = count;
    d->first = count > 0;
    d->last = first >> 1 ^ (0 - (first & 1));
    return 0;
}

/* Opens the next miniblock, and a block where one begins. */
static int next_mini(struct delta_take *d) {
    if (d->mini == d->minis) {
        uint64_t least;
        if (take_varint(&d->at, d->end, &least) || (size_t)(d->end - d->at) < d->minis) {
            return -1;
        }
        d->least = least >> 1 ^ (0 - (least & 1));
        d->widths = d->at;
        d->at += d->minis;
        d->mini = 0;
    }
    d->width = d->widths[d->mini++];
    d->mini_left = d->mini_values;
    return d->width <= 64 ? 0 : -1;
}

/* The next 32 values, of which fewer may count. */
static int take_group(struct delta_take *d, uint64_t *out) {
    if (d->mini_left == 0 && next_mini(d)) {
        return -1;
    }
    if ((size_t)(d->end - d->at) < 4 * (size_t)d->width) {
        return -1;
    }
    unpack_32_wide(d->at, d->width, out);
    d->at += 4 * d->width;
    d->mini_left -= 32;
    uint64_t last = d->last;
    uint64_t least = d->least;
    for (unsigned i = 0; i < 32; i++) {
        last += least + out[i];
        out[i] = last;
    }
    d->last = last;
    return 0;
}

int delta_take_64(struct delta_take *d, uint64_t *out, uint32_t n) {
    if (n > d->left) {
        return -1;
    }
    d->left -= n;
    if (n > 0 && d->first) {
        *out++ = d->last;
        d->first = false;
        n--;
    }
    while (n > 0) {
        if (d->held_at < d->held_count) {
            unsigned rest = d->held_count - d->held_at;
            uint32_t take = rest < n ? rest : n;
            memcpy(out, d->held + d->held_at, take * sizeof *out);
            d->held_at += take;
            out += take;
            n -= take;
        } else if (n >= 32) {
            if (take_group(d, out)) {
                return -1;
            }
            out += 32;
            n -= 32;
        } else {
            if (take_group(d, d->held)) {
                return -1;
            }
            d->held_at = 0;
            d->held_count = 32;
        }
    }
    return 0;
}

int delta_take_32(struct delta_take *d, uint32_t *out, uint32_t n) {
    uint64_t wide[64];
    for (uint32_t done = 0; done < n;) {
        uint32_t take = n - done < 64 ? n - done : 64;
        if (delta_take_64(d, wide, take)) {
            return -1;
        }
        for (uint32_t i = 0; i < take; i++) {
            out[done + i] = (uint32_t)wide[i];
        }
        done += take;
    }
    return 0;
}

int delta_take_skip(struct delta_take *d, uint32_t n) {
    uint64_t wide[64];
    while (n > 0) {
        uint32_t take = n < 64 ? n : 64;
        if (delta_take_64(d, wide, take)) {
            return -1;
        }
        n -= take;
    }
    return 0;
}

const uint8_t *delta_take_end(const struct delta_take *d) {
    struct delta_take walk = *d;
    uint64_t held = walk.held_count - walk.held_at;
    uint64_t left = walk.left - (walk.first ? 1 : 0);
    left -= left < held ? left : held;
    while (left > 0 || walk.mini_left > 0) {
        if (walk.mini_left == 0 && next_mini(&walk)) {
            return NULL;
        }
        size_t bytes = (size_t)walk.mini_left / 8 * walk.width;
        if ((size_t)(walk.end - walk.at) < bytes) {
            return NULL;
        }
        walk.at += bytes;
        left -= left < walk.mini_left ? left : walk.mini_left;
        walk.mini_left = 0;
    }
    return walk.at;
}
