/* Writes a run: entries that come sorted by hash, equal ones newest first, into a file that is only
 * ever appended to. Memory: one segment (some 16,000 entries) and one piece of output, whatever
 * the run's size; a hash that is spread badly makes segments larger, not wrong.
 *
 *   body      segments, one for each value of the hash's top seg_bits, in order, without gaps:
 *               filter    filter_words words of 64 bits; a hash sets 5 bits of one word
 *               dir       2^bucket_bits + 1 numbers of 2 bytes (4 where the segment has more than
 *                         65,535 entries): the first entry of each bucket; padded to 8 bytes
 *               entries   bit-packed, low bits first, padded to 8 bytes: what remains of the hash,
 *                         kind (2 bits), file - file_min, position
 *   segments  offset and number of entries, 8 bytes each, of every segment
 *   sums      CRC-32 of each 8 KiB of the body (the last one shorter); padded to 8 bytes
 *   footer    16 words: magic, struct key_shape, 0, 0; CRC-32 of segments and sums in the low half
 *             of the last word, CRC-32 of the footer before it in the high half
 *
 * Numbers are the machine's own (a cache does not travel); the magic tells the byte order.
 * Thread: the index's owner. */
#include <endian.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

enum {
    SEGMENT_ENTRIES = 16384,
    BUCKET_ENTRIES = 4, /* to 8, as a power of two of buckets has it */
    TOP_BITS_MIN = 64 - KEY_FIELD_BITS_MAX,
    FILTER_BITS_AN_ENTRY = 12,
    OUT_BYTES = 1 << 17,
};

struct key_writer {
    struct file *file;
    struct key_shape shape;
    uint32_t rem_bits, entry_bits;
    uint64_t entries_max;
    struct buf out;  /* not yet written */
    uint64_t out_at; /* where in the file it begins: at a page */
    struct buf segments;
    struct buf sums;
    /* the open segment */
    uint64_t segment;
    uint64_t segment_first; /* entries before it */
    uint64_t *filter;
    uint32_t *counts; /* of each bucket; one more, so that they can become firsts */
    uint64_t *bits;
    size_t bits_cap; /* words */
    size_t bits_at;
    uint32_t fill; /* bits taken of the last word */
    uint64_t last;
    uint64_t loc_low, loc_high, loc_or; /* of all entries */
};

static uint32_t width_of(uint64_t most) { return most ? 64 - (uint32_t)__builtin_clzll(most) : 0; }

/* How many bits cut `entries` into pieces of `each` to twice as many. */
static uint32_t cut_bits(uint64_t entries, uint64_t each) {
    return entries / each ? width_of(entries / each) - 1 : 0;
}

struct key_parts key_parts_of(const struct key_shape *s, uint32_t entry_bits, uint64_t offset,
                              uint64_t entries) {
    struct key_parts p = { .filter = offset, .dir_width = entries > UINT16_MAX ? 4 : 2 };
    uint64_t dir_bytes = ((UINT64_C(1) << s->bucket_bits) + 1) * p.dir_width;
    p.dir = p.filter + s->filter_words * 8;
    p.entries = p.dir + (dir_bytes + 7) / 8 * 8;
    p.end = p.entries + (entries * entry_bits + 63) / 64 * 8;
    return p;
}

struct key_writer *key_writer_new(struct file *file, uint64_t entries,
                                  const struct key_shape *bounds) {
    struct key_writer *w = xcalloc(1, sizeof *w);
    struct key_shape *s = &w->shape;
    w->file = file;
    w->entries_max = entries;
    s->seg_bits = cut_bits(entries, SEGMENT_ENTRIES);
    uint64_t each = entries >> s->seg_bits;
    s->bucket_bits = cut_bits(each, BUCKET_ENTRIES);
    if (s->seg_bits + s->bucket_bits < TOP_BITS_MIN) {
        s->bucket_bits = TOP_BITS_MIN - s->seg_bits;
    }
    s->filter_words = each * FILTER_BITS_AN_ENTRY / 64 + 1;
    s->file_min = bounds->file_low;
    s->file_bits = width_of(bounds->file_high - bounds->file_low);
    s->pos_bits = width_of(bounds->pos_high);
    CHECK(bounds->file_low <= bounds->file_high && s->pos_bits <= KEY_LOC_POS_BITS);
    w->loc_low = UINT64_MAX;
    w->rem_bits = (uint32_t)(64 - s->seg_bits - s->bucket_bits);
    w->entry_bits = w->rem_bits + KEY_KIND_BITS + (uint32_t)(s->file_bits + s->pos_bits);
    buf_init(&w->out, SIZE_MAX);
    int room = buf_reserve(&w->out, OUT_BYTES + OUT_BYTES / 2);
    CHECK(room == 0);
    buf_init(&w->segments, SIZE_MAX);
    buf_init(&w->sums, SIZE_MAX);
    w->filter = xcalloc(s->filter_words, sizeof *w->filter);
    w->counts = xcalloc((UINT64_C(1) << s->bucket_bits) + 1, sizeof *w->counts);
    w->bits_cap = 1024;
    w->bits = xcalloc(w->bits_cap, sizeof *w->bits);
    return w;
}

void key_writer_free(struct key_writer *w) {
    if (!w) {
        return;
    }
    buf_release(&w->out);
    buf_release(&w->segments);
    buf_release(&w->sums);
    free(w->filter);
    free(w->counts);
    free(w->bits);
    free(w);
}

uint64_t key_writer_entries(const struct key_writer *w) { return w->shape.entries; }

/* Sums and writes whole pages; at the end what is left, too. */
static int flush(struct key_writer *w, bool end, struct err *err) {
    size_t bytes = end ? w->out.len : w->out.len / KEY_PAGE_BYTES * KEY_PAGE_BYTES;
    for (size_t at = 0; at < bytes; at += KEY_PAGE_BYTES) {
        size_t n = bytes - at < KEY_PAGE_BYTES ? bytes - at : KEY_PAGE_BYTES;
        uint32_t sum = libdeflate_crc32(0, w->out.data + at, n);
        buf_put(&w->sums, &sum, sizeof sum);
    }
    if (bytes && file_write(w->file, w->out.data, bytes, err)) {
        return -1;
    }
    w->out_at += bytes;
    w->out.len -= bytes;
    memmove(w->out.data, w->out.data + bytes, w->out.len);
    return 0;
}

static void pad8(struct buf *out) {
    static const char zeros[8];
    buf_put(out, zeros, (8 - out->len % 8) % 8);
}

static void put_dir(struct key_writer *w, uint32_t width) {
    uint64_t buckets = UINT64_C(1) << w->shape.bucket_bits;
    uint32_t first = 0;
    for (uint64_t b = 0; b <= buckets; b++) {
        uint32_t here = w->counts[b];
        w->counts[b] = first;
        first += here;
    }
    if (width == 4) {
        buf_put(&w->out, w->counts, (buckets + 1) * sizeof *w->counts);
        return;
    }
    uint16_t *narrow = (uint16_t *)w->counts; /* each is written at or before where it is read */
    for (uint64_t b = 0; b <= buckets; b++) {
        uint32_t wide;
        memcpy(&wide, w->counts + b, sizeof wide);
        uint16_t value = (uint16_t)wide;
        memcpy(narrow + b, &value, sizeof value);
    }
    buf_put(&w->out, narrow, (buckets + 1) * sizeof *narrow);
}

static int end_segment(struct key_writer *w, struct err *err) {
    struct key_segment segment = { w->out_at + w->out.len, w->shape.entries - w->segment_first };
    struct key_parts parts =
        key_parts_of(&w->shape, w->entry_bits, segment.offset, segment.entries);
    buf_put(&w->segments, &segment, sizeof segment);
    buf_put(&w->out, w->filter, w->shape.filter_words * sizeof *w->filter);
    put_dir(w, parts.dir_width);
    pad8(&w->out); /* out begins at a page, so its length tells */
    size_t words = w->bits_at + (w->fill > 0);
    buf_put(&w->out, w->bits, words * sizeof *w->bits);
    CHECK(w->out_at + w->out.len == parts.end);
    memset(w->filter, 0, w->shape.filter_words * sizeof *w->filter);
    memset(w->counts, 0, ((UINT64_C(1) << w->shape.bucket_bits) + 1) * sizeof *w->counts);
    w->bits_at = 0;
    w->fill = 0;
    w->segment_first = w->shape.entries;
    w->segment++;
    return w->out.len >= OUT_BYTES ? flush(w, false, err) : 0;
}

/* Puts an entry of entry_bits (at most 128) behind the bits of the open word. What it writes beyond
 * its end is zero, and there is room for it. */
static inline void put_entry(struct key_writer *w, uint64_t lo, uint64_t hi) {
    uint64_t *word = &w->bits[w->bits_at];
    uint32_t fill = w->fill;
    word[0] = (fill ? word[0] : 0) | htole64(lo << fill);
    word[1] = htole64(hi << fill | lo >> 1 >> (63 - fill));
    word[2] = htole64(hi >> 1 >> (63 - fill));
    w->bits_at += (fill + w->entry_bits) / 64;
    w->fill = (fill + w->entry_bits) % 64;
}

static enum key_kind kind_of(uint64_t value) {
    return value == VALUE_TOMB ? KIND_TOMB : value & VALUE_APPENDED ? KIND_APPENDED : KIND_PUT;
}

/* Packs it: remainder, kind, file, position. */
static inline void pack(struct key_writer *w, uint64_t hash, uint64_t value) {
    struct key_shape *s = &w->shape;
    enum key_kind kind = kind_of(value);
    uint64_t file = s->file_min;
    uint64_t pos = 0;
    if (LIKELY(kind != KIND_TOMB)) {
        uint64_t loc = key_value_loc(value);
        file = KEY_LOC_FILE(loc);
        pos = KEY_LOC_POS(loc);
        w->loc_low = loc < w->loc_low ? loc : w->loc_low;
        w->loc_high = loc > w->loc_high ? loc : w->loc_high;
        w->loc_or |= loc;
        CHECK(((file - s->file_min) >> s->file_bits | pos >> s->pos_bits) == 0);
    }
    /* At most 36 + 26 + 2 bits; behind them 1 to 57 of the hash. */
    uint64_t what = (pos << s->file_bits | (file - s->file_min)) << KEY_KIND_BITS | (uint64_t)kind;
    uint64_t rem = hash & key_low_mask(w->rem_bits);
    put_entry(w, what << w->rem_bits | rem, what >> (64 - w->rem_bits));
}

int key_writer_add(struct key_writer *w, uint64_t hash, uint64_t value, struct err *err) {
    struct key_shape *s = &w->shape;
    uint64_t segment = key_top(hash, s->seg_bits);
    CHECK(hash >= w->last && s->entries < w->entries_max && value);
    while (UNLIKELY(w->segment < segment)) {
        if (end_segment(w, err)) {
            return -1;
        }
    }
    if (UNLIKELY(w->bits_at + 4 > w->bits_cap)) {
        w->bits_cap *= 2;
        w->bits = xrealloc(w->bits, w->bits_cap * sizeof *w->bits);
    }
    uint64_t below = hash << s->seg_bits; /* seg_bits < 64 */
    w->counts[key_top(below, s->bucket_bits)]++;
    w->filter[key_filter_word(s, hash)] |= key_filter_mask(hash);
    pack(w, hash, value);
    s->twins += s->entries > 0 && hash == w->last;
    w->last = hash;
    s->entries++;
    if (UNLIKELY(s->entries - w->segment_first == UINT32_MAX)) {
        return err_set(err, ERR_FATAL, "index_full",
                       "key index: 2^32 keys share the top %u bits of their hashes",
                       (unsigned)s->seg_bits);
    }
    return 0;
}

int key_writer_finish(struct key_writer *w, uint64_t *bytes, struct err *err) {
    struct key_shape *s = &w->shape;
    while (w->segment < UINT64_C(1) << s->seg_bits) {
        if (end_segment(w, err)) {
            return -1;
        }
    }
    s->body_bytes = w->out_at + w->out.len;
    s->file_low = s->file_high = s->file_min;
    if (w->loc_low <= w->loc_high) { /* not only tombs */
        s->file_low = KEY_LOC_FILE(w->loc_low);
        s->file_high = KEY_LOC_FILE(w->loc_high);
        s->pos_high = KEY_LOC_POS(w->loc_or);
    }
    if (flush(w, true, err)) {
        return -1;
    }
    uint64_t footer[KEY_FOOTER_WORDS] = { KEY_RUN_MAGIC };
    _Static_assert(sizeof *s == 12 * sizeof *footer, "the shape is words 1 to 12");
    memcpy(footer + 1, s, sizeof *s);
    pad8(&w->sums);
    uint32_t sum = libdeflate_crc32(0, w->segments.data, w->segments.len);
    sum = libdeflate_crc32(sum, w->sums.data, w->sums.len);
    footer[KEY_FOOTER_WORDS - 1] = sum;
    uint64_t own = libdeflate_crc32(0, footer, sizeof footer - 4);
    footer[KEY_FOOTER_WORDS - 1] |= own << 32;
    buf_put(&w->out, w->segments.data, w->segments.len);
    buf_put(&w->out, w->sums.data, w->sums.len);
    buf_put(&w->out, footer, sizeof footer);
    *bytes = w->out_at + w->out.len;
    return file_write(w->file, w->out.data, w->out.len, err);
}
