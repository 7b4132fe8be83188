/* Row positions. See ice_bitmap.h. CRoaring holds and serialises the bitmaps; taking them apart
 * again is done here, since its own reader trusts what a container says of itself. */
#include "sinks/iceberg/ice_bitmap.h"

#include <roaring/roaring.h>
#include <stdlib.h>

enum {
    COOKIE = 12346,       /* no run containers: u32 cookie, u32 count */
    COOKIE_RUNS = 12347,  /* low half of a u32, count - 1 above; a bit a container: is it runs? */
    NO_OFFSETS_BELOW = 4, /* containers: with runs, fewer have no offset header */
    ARRAY_MAX = 4096,
    BITSET_BYTES = 8192,
    CONTAINERS_MAX = 65536,
};

struct part {
    uint32_t high;
    roaring_bitmap_t *low;
};
struct ice_bitmap {
    struct part *parts; /* ascending by high */
    uint32_t count;
};

struct ice_bitmap *ice_bitmap_new(void) {
    return xcalloc(1, sizeof(struct ice_bitmap));
}

void ice_bitmap_free(struct ice_bitmap *b) {
    if (!b) {
        return;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        roaring_bitmap_free(b->parts[i].low);
    }
    free(b->parts);
    free(b);
}

static roaring_bitmap_t *part_find(const struct ice_bitmap *b, uint32_t high) {
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->parts[i].high == high) {
            return b->parts[i].low;
        }
    }
    return NULL;
}

static roaring_bitmap_t *part_of(struct ice_bitmap *b, uint32_t high) {
    roaring_bitmap_t *found = part_find(b, high);
    if (found) {
        return found;
    }
    uint32_t at = b->count;
    b->parts = xrealloc(b->parts, (b->count + 1) * sizeof *b->parts);
    for (; at > 0 && b->parts[at - 1].high > high; at--) {
        b->parts[at] = b->parts[at - 1];
    }
    found = roaring_bitmap_create();
    CHECK(found);
    b->parts[at] = (struct part){ high, found };
    b->count++;
    return found;
}

bool ice_bitmap_add(struct ice_bitmap *b, uint64_t pos) {
    return roaring_bitmap_add_checked(part_of(b, (uint32_t)(pos >> 32)), (uint32_t)pos);
}

bool ice_bitmap_has(const struct ice_bitmap *b, uint64_t pos) {
    const roaring_bitmap_t *low = part_find(b, (uint32_t)(pos >> 32));
    return low && roaring_bitmap_contains(low, (uint32_t)pos);
}

void ice_bitmap_or(struct ice_bitmap *into, const struct ice_bitmap *from) {
    for (uint32_t i = 0; i < from->count; i++) {
        roaring_bitmap_or_inplace(part_of(into, from->parts[i].high), from->parts[i].low);
    }
}

uint64_t ice_bitmap_count(const struct ice_bitmap *b) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        sum += roaring_bitmap_get_cardinality(b->parts[i].low);
    }
    return sum;
}

size_t ice_bitmap_memory(const struct ice_bitmap *b) {
    size_t sum = sizeof *b + b->count * sizeof *b->parts;
    for (uint32_t i = 0; i < b->count; i++) {
        sum += roaring_bitmap_portable_size_in_bytes(b->parts[i].low);
    }
    return sum;
}

uint32_t ice_bitmap_next(const struct ice_bitmap *b, uint64_t *at, uint64_t *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->count && n < max; i++) {
        uint64_t base = (uint64_t)b->parts[i].high << 32;
        if (base + UINT32_MAX < *at) {
            continue;
        }
        roaring_uint32_iterator_t it;
        roaring_init_iterator(b->parts[i].low, &it);
        if (*at > base) {
            roaring_move_uint32_iterator_equalorlarger(&it, (uint32_t)(*at - base));
        }
        for (; it.has_value && n < max; roaring_advance_uint32_iterator(&it)) {
            out[n++] = base | it.current_value;
        }
    }
    if (n) {
        *at = out[n - 1] + 1;
    }
    return n;
}

void ice_bitmap_put(struct buf *out, struct ice_bitmap *b) {
    uint64_t count = b->count;
    buf_put(out, &count, sizeof count);
    for (uint32_t i = 0; i < b->count; i++) {
        roaring_bitmap_run_optimize(b->parts[i].low);
        size_t size = roaring_bitmap_portable_size_in_bytes(b->parts[i].low);
        buf_put(out, &b->parts[i].high, sizeof b->parts[i].high);
        CHECK(buf_reserve(out, size) == 0);
        size_t wrote = roaring_bitmap_portable_serialize(b->parts[i].low, out->data + out->len);
        CHECK(wrote == size);
        out->len += size;
    }
}

static uint16_t u16_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static uint32_t u32_at(const uint8_t *p) { return u16_at(p) | (uint32_t)u16_at(p + 2) << 16; }

static int take_array(roaring_bitmap_t *into, uint32_t base, uint32_t count, struct view *v) {
    const uint8_t *p;
    if (take_bytes(v, (size_t)count * 2, &p)) {
        return -1;
    }
    int32_t last = -1;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t low = u16_at(p + (size_t)i * 2);
        if (low <= last) {
            return -1;
        }
        last = low;
        roaring_bitmap_add(into, base | low);
    }
    return 0;
}

static int take_bitset(roaring_bitmap_t *into, uint32_t base, uint32_t count, struct view *v) {
    const uint8_t *p;
    if (take_bytes(v, BITSET_BYTES, &p)) {
        return -1;
    }
    uint32_t seen = 0;
    for (uint32_t at = 0; at < BITSET_BYTES; at++) {
        for (uint32_t bits = p[at]; bits; bits &= bits - 1) {
            roaring_bitmap_add(into, base | at * 8 | (uint32_t)__builtin_ctz(bits));
            seen++;
        }
    }
    return seen == count ? 0 : -1;
}

static int take_runs(roaring_bitmap_t *into, uint32_t base, uint32_t count, struct view *v) {
    const uint8_t *p;
    if (take_bytes(v, 2, &p)) {
        return -1;
    }
    uint32_t runs = u16_at(p);
    if (take_bytes(v, (size_t)runs * 4, &p)) {
        return -1;
    }
    int64_t last = -1;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t from = u16_at(p + (size_t)i * 4);
        uint32_t more = u16_at(p + (size_t)i * 4 + 2);
        if (from <= last || from + more > UINT16_MAX) {
            return -1;
        }
        roaring_bitmap_add_range_closed(into, base | from, base | (from + more));
        last = from + more;
        seen += more + 1;
    }
    return seen == count ? 0 : -1;
}

/* The head of a 32-bit bitmap: where its parts lie. */
struct head {
    uint32_t containers;
    const uint8_t *runs; /* a bit each; NULL = none is */
    const uint8_t *keys; /* u16 high half, u16 cardinality - 1 each */
};

static int take_head(struct view *v, struct head *h) {
    const uint8_t *p;
    if (take_bytes(v, 4, &p)) {
        return -1;
    }
    uint32_t cookie = u32_at(p);
    *h = (struct head){ 0 };
    if ((cookie & 0xffff) == COOKIE_RUNS) {
        h->containers = (cookie >> 16) + 1;
        if (take_bytes(v, (h->containers + 7) / 8, &h->runs)) {
            return -1;
        }
    } else if (cookie != COOKIE || take_bytes(v, 4, &p)) {
        return -1;
    } else {
        h->containers = u32_at(p);
    }
    if (h->containers > CONTAINERS_MAX || take_bytes(v, (size_t)h->containers * 4, &h->keys)) {
        return -1;
    }
    bool offsets = !h->runs || h->containers >= NO_OFFSETS_BELOW;
    /* Containers lie one after another: where each begins needs no telling. */
    return offsets ? take_bytes(v, (size_t)h->containers * 4, &p) : 0;
}

static int take_low(roaring_bitmap_t *into, struct view *v) {
    struct head h;
    if (take_head(v, &h)) {
        return -1;
    }
    int32_t last = -1;
    for (uint32_t i = 0; i < h.containers; i++) {
        uint16_t key = u16_at(h.keys + (size_t)i * 4);
        uint32_t count = (uint32_t)u16_at(h.keys + (size_t)i * 4 + 2) + 1;
        if (key <= last) {
            return -1;
        }
        last = key;
        uint32_t base = (uint32_t)key << 16;
        bool runs = h.runs && (h.runs[i / 8] >> (i % 8) & 1);
        int rc = runs                ? take_runs(into, base, count, v)
                 : count > ARRAY_MAX ? take_bitset(into, base, count, v)
                                     : take_array(into, base, count, v);
        if (rc) {
            return -1;
        }
    }
    return 0;
}

int ice_bitmap_take(struct ice_bitmap *into, const void *p, size_t n) {
    struct view v = view_of(p, n);
    const uint8_t *at;
    uint64_t count;
    if (take_bytes(&v, sizeof count, &at)) {
        return -1;
    }
    memcpy(&count, at, sizeof count);
    int64_t last = -1;
    for (uint64_t i = 0; i < count; i++) { /* ends at the bytes' end, whatever count says */
        if (take_bytes(&v, 4, &at)) {
            return -1;
        }
        uint32_t high = u32_at(at);
        if (high <= last || take_low(part_of(into, high), &v)) {
            return -1;
        }
        last = high;
    }
    return view_left(&v) == 0 ? 0 : -1;
}
