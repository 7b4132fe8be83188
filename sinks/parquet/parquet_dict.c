/* Dictionaries. See parquet_dict.h. The loops over values are written out a width each, with
 * everything a lookup needs in registers; adding a value is the cold path. */
#include "sinks/parquet/parquet_dict.h"

#include <stdlib.h>

enum { SLOT_BITS_FIRST = 8, AT_FIRST = 64 };

static const uint64_t MIX = UINT64_C(0x9E3779B97F4A7C15);
static const uint64_t MIX2 = UINT64_C(0xD6E8FEB86659FD93);
static const uint64_t HASHED = UINT64_C(0xFF) << 56;

void parquet_dict_init(struct parquet_dict *d, uint32_t width) {
    *d = (struct parquet_dict){ .width = width };
    buf_init(&d->values, SIZE_MAX);
}

void parquet_dict_release(struct parquet_dict *d) {
    buf_release(&d->values);
    free(d->at);
    free(d->slots);
    parquet_dict_init(d, d->width);
}

void parquet_dict_clear(struct parquet_dict *d) {
    buf_clear(&d->values);
    d->count = 0;
    if (d->slots) {
        memset(d->slots, 0xFF, sizeof *d->slots << d->slot_bits);
    }
}

size_t parquet_dict_memory(const struct parquet_dict *d) {
    size_t slots = d->slots ? sizeof *d->slots << d->slot_bits : 0;
    return d->values.cap + d->at_cap * sizeof *d->at + slots;
}

static uint64_t load(const void *p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static inline uint64_t fold_128(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Any hash is right here: equal keys are compared. */
static inline uint64_t key_long(const uint8_t *p, size_t len) {
    uint64_t h = len * MIX2;
    bool sixteen = len >= 16;
    while (len > 16) {
        h = fold_128(load(p, 8) ^ h ^ MIX, load(p + 8, 8) ^ MIX2);
        p += 16;
        len -= 16;
    }
    const uint8_t *last = p + len; /* what is left overlaps what was taken where it is short */
    h = fold_128(load(sixteen ? last - 16 : p, 8) ^ h ^ MIX, load(last - 8, 8) ^ MIX2);
    return h | HASHED;
}

/* Below 8 bytes: all of it, so that no comparison is needed. */
static inline uint64_t key_bytes(const uint8_t *p, size_t len) {
    if (len == 1) {
        return *p | UINT64_C(1) << 56;
    }
    if (len >= 8) {
        return key_long(p, len);
    }
    uint64_t v = (uint64_t)len << 56;
    if (len >= 4) {
        return v | load(p, 4) | load(p + len - 4, 4) << (8 * (len - 4));
    }
    for (size_t i = 0; i < len; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static inline size_t slot_of(uint64_t key, unsigned shift) { return (size_t)(key * MIX >> shift); }

static void make_slots(struct parquet_dict *d, unsigned bits) {
    struct dict_slot *old = d->slots;
    size_t old_count = old ? (size_t)1 << d->slot_bits : 0;
    d->slot_bits = bits;
    size_t mask = ((size_t)1 << bits) - 1;
    d->slots = xmalloc(sizeof *d->slots << bits);
    memset(d->slots, 0xFF, sizeof *d->slots << bits);
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].index != DICT_NONE) {
            size_t at = slot_of(old[i].key, 64 - bits);
            while (d->slots[at].index != DICT_NONE) {
                at = (at + 1) & mask;
            }
            d->slots[at] = old[i];
        }
    }
    free(old);
}

/* The slot is free. Its neighbours may move: callers load slots and bits anew. */
static __attribute__((noinline)) uint32_t add(struct parquet_dict *d, size_t slot, uint64_t key,
                                              const uint8_t *p, size_t len) {
    uint32_t index = d->count++;
    d->slots[slot] = (struct dict_slot){ .key = key, .index = index };
    if (d->width == 0) {
        if (index == d->at_cap) {
            d->at_cap = d->at_cap ? d->at_cap * 2 : AT_FIRST;
            d->at = xrealloc(d->at, d->at_cap * sizeof *d->at);
        }
        uint32_t size = (uint32_t)len;
        buf_put(&d->values, &size, 4);
        d->at[index] = d->values.len;
    }
    buf_put(&d->values, p, len);
    if ((size_t)d->count * 2 > (size_t)1 << d->slot_bits) {
        make_slots(d, d->slot_bits + 1);
    }
    return index;
}

static bool same_bytes(const struct parquet_dict *d, uint32_t index, const uint8_t *p, size_t len) {
    size_t have;
    const uint8_t *value = parquet_dict_value(d, index, &have);
    return have == len && memcmp(value, p, len) == 0;
}

/* width 4 or 8, a constant where it is inlined. */
__attribute__((always_inline)) static inline void index_words(struct parquet_dict *d,
                                                              const uint8_t *values, uint32_t n,
                                                              uint32_t *out, const size_t width) {
    const struct dict_slot *slots = d->slots;
    unsigned shift = 64 - d->slot_bits;
    size_t mask = ((size_t)1 << d->slot_bits) - 1;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = load(values + i * width, width);
        size_t at = slot_of(key, shift);
        while (slots[at].key != key && slots[at].index != DICT_NONE) {
            at = (at + 1) & mask;
        }
        uint32_t index = slots[at].index;
        if (UNLIKELY(index == DICT_NONE)) { /* all ones is a key, too: only the index tells */
            index = add(d, at, key, values + i * width, width);
            slots = d->slots;
            shift = 64 - d->slot_bits;
            mask = ((size_t)1 << d->slot_bits) - 1;
        }
        out[i] = index;
    }
}

static inline uint32_t index_one(struct parquet_dict *d, uint64_t key, const uint8_t *p,
                                 size_t len) {
    size_t mask = ((size_t)1 << d->slot_bits) - 1;
    size_t at = slot_of(key, 64 - d->slot_bits);
    for (;; at = (at + 1) & mask) {
        const struct dict_slot *slot = &d->slots[at];
        if (slot->index == DICT_NONE) {
            return add(d, at, key, p, len);
        }
        if (slot->key == key && (key < HASHED || same_bytes(d, slot->index, p, len))) {
            return slot->index;
        }
    }
}

void parquet_dict_index_fixed(struct parquet_dict *d, const uint8_t *values, uint32_t n,
                              uint32_t *out) {
    if (!d->slots) {
        make_slots(d, SLOT_BITS_FIRST);
    }
    if (d->width == 4) {
        index_words(d, values, n, out, 4);
    } else if (d->width == 8) {
        index_words(d, values, n, out, 8);
    } else {
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *p = values + (size_t)i * d->width;
            out[i] = index_one(d, key_bytes(p, d->width), p, d->width);
        }
    }
}

void parquet_dict_index_bytes(struct parquet_dict *d, const uint8_t *data, const uint32_t *offsets,
                              uint32_t n, uint32_t *out) {
    if (!d->slots) {
        make_slots(d, SLOT_BITS_FIRST);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = data + offsets[i];
        size_t len = offsets[i + 1] - offsets[i];
        out[i] = index_one(d, key_bytes(p, len), p, len);
    }
}
