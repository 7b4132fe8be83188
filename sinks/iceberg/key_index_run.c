/* A run in memory: opening it, asking it for many hashes, walking it. Its bytes are laid out in
 * key_index_writer.c. They come from a disk, so nothing in them is trusted: footer, segments and
 * sums are checked when it is opened (8 bytes a 100 entries or so are read), each page of the body
 * against its sum before anything in it is used for the first time, and what a number in a page
 * says is compared with the bounds all the same.
 *
 * A probe touches one word of the filter, two numbers of the directory and the bytes of a bucket of
 * four to eight entries. Probes go in packs: each step is done for the whole pack, and the next
 * step's bytes are asked for before they are needed.
 * Thread: the index's owner. */
#include <endian.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

static bool shape_is_sane(const struct key_shape *s, uint64_t len) {
    return s->seg_bits <= 40 && s->bucket_bits <= 32 &&
           s->seg_bits + s->bucket_bits >= 64 - KEY_FIELD_BITS_MAX &&
           s->seg_bits + s->bucket_bits < 64 && s->file_bits <= 26 &&
           s->pos_bits <= KEY_LOC_POS_BITS && s->file_min <= KEY_FILE_MAX &&
           s->file_low <= s->file_high && s->file_high <= KEY_FILE_MAX &&
           s->file_low >= s->file_min && s->pos_high < UINT64_C(1) << KEY_LOC_POS_BITS &&
           s->filter_words >= 1 && s->filter_words <= len / 8 && s->body_bytes <= len &&
           s->body_bytes % 8 == 0 && s->entries <= len * 8 && s->twins <= s->entries;
}

/* That the segments lie one behind the other and fill the body. */
static bool segments_are_sane(const struct key_run *r) {
    const struct key_shape *s = &r->shape;
    uint64_t at = 0;
    uint64_t entries = 0;
    for (uint64_t i = 0; i < UINT64_C(1) << s->seg_bits; i++) {
        const struct key_segment *g = &r->segments[i];
        if (g->offset != at || g->entries > s->entries || g->entries > UINT32_MAX) {
            return false;
        }
        at = key_parts_of(s, r->entry_bits, at, g->entries).end;
        entries += g->entries;
        if (at > s->body_bytes) {
            return false;
        }
    }
    return at == s->body_bytes && entries == s->entries;
}

int key_run_open(struct key_run *r, const void *bytes, uint64_t len) {
    *r = (struct key_run){ .bytes = bytes, .len = len };
    uint64_t footer[KEY_FOOTER_WORDS];
    if (len < KEY_FOOTER_BYTES || len % 8 || len >> 48) {
        return -1;
    }
    memcpy(footer, r->bytes + len - KEY_FOOTER_BYTES, sizeof footer);
    uint64_t sums = footer[KEY_FOOTER_WORDS - 1];
    r->footer_sum = (uint32_t)(sums >> 32);
    memcpy(&r->shape, footer + 1, sizeof r->shape);
    const struct key_shape *s = &r->shape;
    if (footer[0] != KEY_RUN_MAGIC ||
        libdeflate_crc32(0, footer, sizeof footer - 4) != r->footer_sum || !shape_is_sane(s, len)) {
        return -1;
    }
    r->rem_bits = (uint32_t)(64 - s->seg_bits - s->bucket_bits);
    r->entry_bits = r->rem_bits + KEY_KIND_BITS + (uint32_t)(s->file_bits + s->pos_bits);
    r->pages = (s->body_bytes + KEY_PAGE_BYTES - 1) / KEY_PAGE_BYTES;
    uint64_t table = sizeof(struct key_segment) << s->seg_bits;
    uint64_t tail = table + (r->pages * sizeof(uint32_t) + 7) / 8 * 8;
    if (len - KEY_FOOTER_BYTES - s->body_bytes != tail ||
        libdeflate_crc32(0, r->bytes + s->body_bytes, tail) != (uint32_t)sums) {
        return -1;
    }
    r->segments = (const struct key_segment *)(const void *)(r->bytes + s->body_bytes);
    r->page_sums = (const uint32_t *)(const void *)(r->bytes + s->body_bytes + table);
    if (!segments_are_sane(r)) {
        return -1;
    }
    r->pages_seen = xcalloc(r->pages / 64 + 1, sizeof *r->pages_seen);
    return 0;
}

void key_run_release(struct key_run *r) {
    free(r->pages_seen);
    r->pages_seen = NULL;
}

static TR_MUST_CHECK __attribute__((noinline)) int look_at(struct key_run *r, uint64_t page) {
    uint64_t at = page * KEY_PAGE_BYTES;
    uint64_t left = r->shape.body_bytes - at;
    size_t n = left < KEY_PAGE_BYTES ? (size_t)left : KEY_PAGE_BYTES;
    if (libdeflate_crc32(0, r->bytes + at, n) != r->page_sums[page]) {
        return -1;
    }
    r->pages_seen[page / 64] |= UINT64_C(1) << page % 64;
    return 0;
}

/* The pages of the n (at least 1) bytes at `at` are as they were written. They lie in the body. */
static inline TR_MUST_CHECK int look(struct key_run *r, uint64_t at, uint64_t n) {
    uint64_t last = (at + n - 1) / KEY_PAGE_BYTES;
    for (uint64_t page = at / KEY_PAGE_BYTES; page <= last; page++) {
        if (UNLIKELY(!(r->pages_seen[page / 64] >> page % 64 & 1)) && look_at(r, page)) {
            return -1;
        }
    }
    return 0;
}

/* Bits of an entry: at most KEY_FIELD_BITS_MAX of them, from bit `at` of the bytes on. Reads 8
 * bytes; behind the last entry there is a footer. */
static inline uint64_t bits_at(const uint8_t *p, uint64_t at, uint64_t mask) {
    uint64_t word;
    memcpy(&word, p + at / 8, sizeof word);
    return le64toh(word) >> at % 8 & mask;
}

/* 0 for a kind or a file that no writer writes. */
static inline uint64_t value_at(const struct key_run *r, const uint8_t *entries, uint64_t i) {
    const struct key_shape *s = &r->shape;
    uint64_t at = i * r->entry_bits + r->rem_bits;
    uint64_t head = bits_at(entries, at, key_low_mask(KEY_KIND_BITS + s->file_bits));
    uint64_t pos = bits_at(entries, at + KEY_KIND_BITS + s->file_bits, key_low_mask(s->pos_bits));
    uint64_t kind = head & key_low_mask(KEY_KIND_BITS);
    uint64_t file = (head >> KEY_KIND_BITS) + s->file_min;
    if (UNLIKELY(kind == KIND_TOMB)) {
        return VALUE_TOMB;
    }
    if (UNLIKELY(kind > KIND_TOMB || file > KEY_FILE_MAX)) {
        return 0;
    }
    uint64_t value = key_value(key_loc((uint32_t)file, pos));
    return kind == KIND_APPENDED ? value | VALUE_APPENDED : value;
}

static inline uint64_t dir_at(const struct key_run *r, const struct key_parts *p, uint64_t bucket) {
    const uint8_t *at = r->bytes + p->dir + bucket * p->dir_width;
    uint16_t narrow;
    uint32_t wide;
    if (LIKELY(p->dir_width == 2)) {
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, at, sizeof wide);
    return wide;
}

/* A hash on its way: where its segment's parts are, then where its bucket is. */
struct search {
    struct key_parts parts;
    uint64_t hash;
    uint64_t lo, hi; /* entries of the bucket */
    uint32_t at;     /* in the pack */
};

static inline void search_begin(const struct key_run *r, struct search *x, uint64_t hash) {
    const struct key_segment *g = &r->segments[key_top(hash, r->shape.seg_bits)];
    x->hash = hash;
    x->hi = g->entries;
    x->parts = key_parts_of(&r->shape, r->entry_bits, g->offset, g->entries);
}

static inline uint64_t bucket_of(const struct key_run *r, uint64_t hash) {
    return key_top(hash << r->shape.seg_bits, r->shape.bucket_bits);
}

/* Finds the bucket: lo and hi. -1 damaged. */
static inline TR_MUST_CHECK int search_bucket(struct key_run *r, struct search *x) {
    uint64_t bucket = bucket_of(r, x->hash);
    uint64_t entries = x->hi;
    if (look(r, x->parts.dir + bucket * x->parts.dir_width, x->parts.dir_width * 2)) {
        return -1;
    }
    x->lo = dir_at(r, &x->parts, bucket);
    x->hi = dir_at(r, &x->parts, bucket + 1);
    return UNLIKELY(x->lo > x->hi || x->hi > entries) ? -1 : 0;
}

/* The first entry of the bucket whose remainder is not below the hash's; hi if there is none. */
static inline uint64_t search_entry(const struct key_run *r, const struct search *x, uint64_t rem) {
    const uint8_t *entries = r->bytes + x->parts.entries;
    uint64_t mask = key_low_mask(r->rem_bits);
    uint64_t lo = x->lo;
    uint64_t hi = x->hi;
    while (UNLIKELY(hi - lo > 16)) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (bits_at(entries, mid * r->entry_bits, mask) < rem) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    while (lo < hi && bits_at(entries, lo * r->entry_bits, mask) < rem) {
        lo++;
    }
    return lo;
}

static inline TR_MUST_CHECK int look_at_bucket(struct key_run *r, const struct search *x) {
    uint64_t from = x->lo * r->entry_bits / 8;
    uint64_t to = (x->hi * r->entry_bits + 7) / 8;
    return to > from ? look(r, x->parts.entries + from, to - from) : 0;
}

/* Searches those of the pack that have passed the filter and know their buckets. */
static TR_MUST_CHECK int search_pack(struct key_run *r, const struct search *pack, uint32_t count,
                                     uint64_t *values, uint64_t *more) {
    uint64_t mask = key_low_mask(r->rem_bits);
    for (uint32_t i = 0; i < count; i++) {
        const struct search *x = &pack[i];
        const uint8_t *entries = r->bytes + x->parts.entries;
        uint64_t rem = x->hash & mask;
        if (look_at_bucket(r, x)) {
            return -1;
        }
        uint64_t e = search_entry(r, x, rem);
        if (e == x->hi || bits_at(entries, e * r->entry_bits, mask) != rem) {
            continue;
        }
        uint64_t value = value_at(r, entries, e);
        if (UNLIKELY(!value)) {
            return -1;
        }
        values[x->at] = value;
        if (UNLIKELY(r->shape.twins) && e + 1 < x->hi &&
            bits_at(entries, (e + 1) * r->entry_bits, mask) == rem) {
            *more |= UINT64_C(1) << x->at;
        }
    }
    return 0;
}

/* Looks at the filter. Returns how many of the probes may be there, begun in the pack; -1 damaged.
 */
static TR_MUST_CHECK int filter_pack(struct key_run *r, const struct key_probe *probes,
                                     uint32_t count, struct search *pack, uint64_t *values) {
    uint64_t words[KEY_PROBES_AT_ONCE]; /* where each one's word of the filter is */
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash = probes[i].hash;
        words[i] = r->segments[key_top(hash, r->shape.seg_bits)].offset +
                   key_filter_word(&r->shape, hash) * 8;
        __builtin_prefetch(r->bytes + words[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t mask = key_filter_mask(probes[i].hash);
        uint64_t word;
        if (look(r, words[i], sizeof word)) {
            return -1;
        }
        memcpy(&word, r->bytes + words[i], sizeof word);
        values[i] = 0;
        if ((word & mask) == mask) {
            struct search *x = &pack[left++];
            search_begin(r, x, probes[i].hash);
            x->at = i;
            __builtin_prefetch(r->bytes + x->parts.dir +
                               bucket_of(r, x->hash) * x->parts.dir_width);
        }
    }
    return (int)left;
}

int key_run_probe(struct key_run *r, const struct key_probe *probes, uint32_t count,
                  uint64_t *values, uint64_t *more) {
    struct search pack[KEY_PROBES_AT_ONCE];
    CHECK(count <= KEY_PROBES_AT_ONCE);
    *more = 0;
    int left = filter_pack(r, probes, count, pack, values);
    for (int i = 0; i < left; i++) {
        if (search_bucket(r, &pack[i])) {
            return -1;
        }
        const uint8_t *first = r->bytes + pack[i].parts.entries + pack[i].lo * r->entry_bits / 8;
        __builtin_prefetch(first);
        __builtin_prefetch(first + 64);
    }
    return left < 0 ? -1 : search_pack(r, pack, (uint32_t)left, values, more);
}

int key_run_all(struct key_run *r, uint64_t hash, struct key_numbers *out) {
    struct search x;
    search_begin(r, &x, hash);
    if (search_bucket(r, &x) || look_at_bucket(r, &x)) {
        return -1;
    }
    uint64_t mask = key_low_mask(r->rem_bits);
    const uint8_t *entries = r->bytes + x.parts.entries;
    for (uint64_t e = search_entry(r, &x, hash & mask);
         e < x.hi && bits_at(entries, e * r->entry_bits, mask) == (hash & mask); e++) {
        uint64_t value = value_at(r, entries, e);
        if (!value) {
            return -1;
        }
        key_numbers_add(out, value);
    }
    return 0;
}

/* ---- walking ---- */

void key_cursor_init(struct key_cursor *c, struct key_run *run) {
    c->run = run;
    c->segment = c->bucket = c->entry = c->last = 0;
    c->inside = false;
    c->at = c->count = 0;
}

/* Entries of one bucket, from c->entry on, as many as there is room for. -1 damaged. */
static TR_MUST_CHECK int take_bucket(struct key_cursor *c, const struct key_parts *p, uint64_t hi) {
    const struct key_run *r = c->run;
    const struct key_shape *s = &r->shape;
    const uint8_t *entries = r->bytes + p->entries;
    uint64_t top = (c->segment << s->bucket_bits | c->bucket) << r->rem_bits;
    uint64_t mask = key_low_mask(r->rem_bits);
    while (c->entry < hi && c->count < KEY_CURSOR_ENTRIES) {
        uint64_t hash = top | bits_at(entries, c->entry * r->entry_bits, mask);
        uint64_t value = value_at(r, entries, c->entry);
        if (hash < c->last || !value) {
            return -1;
        }
        c->last = hash;
        c->entries[c->count++] = (struct key_entry){ hash, value };
        c->entry++;
    }
    return 0;
}

int key_cursor_fill(struct key_cursor *c) {
    struct key_run *r = c->run;
    uint64_t buckets = UINT64_C(1) << r->shape.bucket_bits;
    c->at = c->count = 0;
    while (c->count < KEY_CURSOR_ENTRIES && c->segment < UINT64_C(1) << r->shape.seg_bits) {
        const struct key_segment *g = &r->segments[c->segment];
        struct key_parts p = key_parts_of(&r->shape, r->entry_bits, g->offset, g->entries);
        if (!c->inside && (look(r, p.dir, p.end - p.dir) || dir_at(r, &p, 0) != 0)) {
            return -1;
        }
        c->inside = true;
        for (; c->bucket < buckets; c->bucket++) {
            uint64_t hi = dir_at(r, &p, c->bucket + 1);
            if (hi < c->entry || hi > g->entries || take_bucket(c, &p, hi)) {
                return -1;
            }
            if (c->entry < hi) {
                return 0; /* full */
            }
        }
        if (c->entry != g->entries) {
            return -1;
        }
        c->segment++;
        c->bucket = c->entry = 0;
        c->inside = false;
    }
    return 0;
}
