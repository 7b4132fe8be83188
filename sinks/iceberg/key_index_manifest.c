/* The manifest of the key index: what its folder holds and what it describes. Written anew by each
 * whole checkpoint; the one before it is kept as "manifest.before". Big-endian; a text is its
 * length (4 bytes) and its bytes:
 *
 *   "TKXMAN01"
 *   text tag
 *   u64 number of the next run, u32 number of the next file
 *   u32 runs, newest first:  u64 number, u64 bytes of the file, u32 checksum of its footer
 *   u32 dropped files:       u32 first, u32 last; ascending
 *   u32 paths:               u32 number, text; ascending
 *   u32 groups:              u64 hash, u32 keys: text, u64 location
 *   u32 CRC-32 of all before
 *
 * Pure. Thread: any. */
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

static const char magic[8] = { 'T', 'K', 'X', 'M', 'A', 'N', '0', '1' };

static void put_u32(struct buf *out, uint32_t v) {
    uint32_t be = __builtin_bswap32(v);
    buf_put(out, &be, sizeof be);
}
static void put_u64(struct buf *out, uint64_t v) {
    uint64_t be = __builtin_bswap64(v);
    buf_put(out, &be, sizeof be);
}
static void put_text(struct buf *out, const char *s, size_t len) {
    CHECK(len <= UINT32_MAX);
    put_u32(out, (uint32_t)len);
    buf_put(out, s, len);
}
static int take_text(struct view *v, const uint8_t **p, uint32_t *len) {
    return take_u32be(v, len) || take_bytes(v, *len, p) ? -1 : 0;
}

static void put_groups(const struct key_index *ix, struct buf *out) {
    size_t at = 0;
    void *value;
    put_u32(out, (uint32_t)map_count(ix->groups));
    while (map_next(ix->groups, &at, NULL, NULL, &value)) {
        const struct key_group *g = value;
        put_u64(out, g->hash);
        put_u32(out, (uint32_t)g->count);
        for (size_t i = 0; i < g->count; i++) {
            CHECK(g->at[i].key);
            put_text(out, g->at[i].key, g->at[i].len);
            put_u64(out, g->at[i].loc);
        }
    }
}

static void put_paths(const struct key_index *ix, struct buf *out) {
    size_t at = 0;
    const void *number;
    void *path;
    put_u32(out, (uint32_t)map_count(ix->paths));
    while (map_next(ix->paths, &at, &number, NULL, &path)) {
        uint32_t n;
        memcpy(&n, number, sizeof n);
        put_u32(out, n);
        put_text(out, path, strlen(path));
    }
}

void key_manifest_put(const struct key_index *ix, const char *tag, struct buf *out) {
    buf_put(out, magic, sizeof magic);
    put_text(out, tag, strlen(tag));
    put_u64(out, ix->next_run);
    put_u32(out, ix->next_file);
    put_u32(out, ix->run_count);
    for (uint32_t i = 0; i < ix->run_count; i++) {
        put_u64(out, ix->runs[i]->number);
        put_u64(out, ix->runs[i]->len);
        put_u32(out, ix->runs[i]->footer_sum);
    }
    put_u32(out, (uint32_t)ix->dropped_count);
    for (size_t i = 0; i < ix->dropped_count; i++) {
        put_u32(out, ix->dropped[i].first);
        put_u32(out, ix->dropped[i].last);
    }
    put_paths(ix, out);
    put_groups(ix, out);
    put_u32(out, libdeflate_crc32(0, out->data, out->len));
}

/* Checks magic and checksum; v becomes what lies between. */
static int take_frame(const void *p, size_t n, struct view *v) {
    const uint8_t *bytes = p;
    uint32_t sum;
    if (n < sizeof magic + 4 || memcmp(bytes, magic, sizeof magic) != 0) {
        return -1;
    }
    struct view tail = view_of(bytes + n - 4, 4);
    *v = view_of(bytes + sizeof magic, n - sizeof magic - 4);
    return take_u32be(&tail, &sum) || sum != libdeflate_crc32(0, bytes, n - 4) ? -1 : 0;
}

static int take_tag(struct view *v, const uint8_t **p, uint32_t *len) {
    return take_text(v, p, len) || memchr(*p, 0, *len) ? -1 : 0;
}

int key_manifest_tag(const void *p, size_t n, struct buf *tag) {
    struct view v;
    const uint8_t *bytes;
    uint32_t len;
    buf_clear(tag);
    return take_frame(p, n, &v) || take_tag(&v, &bytes, &len) ? -1 : buf_add(tag, bytes, len);
}

static int take_runs(struct view *v, struct key_manifest_run *runs, uint32_t *count) {
    if (take_u32be(v, count) || *count > KEY_RUNS_MAX - 1) {
        return -1;
    }
    for (uint32_t i = 0; i < *count; i++) {
        if (take_u64be(v, &runs[i].number) || take_u64be(v, &runs[i].bytes) ||
            take_u32be(v, &runs[i].sum)) {
            return -1;
        }
    }
    return 0;
}

static int take_dropped(struct view *v, struct key_index *ix) {
    uint32_t count;
    if (take_u32be(v, &count) || count > view_left(v) / 8) {
        return -1;
    }
    ix->dropped = xrealloc(ix->dropped, (count + 1) * sizeof *ix->dropped);
    ix->dropped_cap = count + 1;
    for (uint32_t i = 0; i < count; i++) {
        struct key_range r;
        if (take_u32be(v, &r.first) || take_u32be(v, &r.last) || r.first > r.last ||
            r.last > KEY_FILE_MAX || (i > 0 && r.first <= ix->dropped[i - 1].last)) {
            return -1;
        }
        ix->dropped[i] = r;
        ix->dropped_count = i + 1;
    }
    return 0;
}

static int take_paths(struct view *v, struct key_index *ix) {
    uint32_t count;
    uint32_t least = 0;
    if (take_u32be(v, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number;
        uint32_t len;
        const uint8_t *p;
        if (take_u32be(v, &number) || take_text(v, &p, &len) || number < least ||
            number >= ix->next_file || memchr(p, 0, len) || map_get(ix->numbers, p, len)) {
            return -1;
        }
        least = number + 1;
        map_set(ix->paths, &number, sizeof number, xstrndup((const char *)p, len));
        map_set(ix->numbers, p, len, (void *)((uintptr_t)number + 1));
    }
    return 0;
}

static int take_members(struct view *v, struct key_group *g, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p;
        uint32_t len;
        uint64_t loc;
        if (take_text(v, &p, &len) || take_u64be(v, &loc) || loc >= KEY_LOC_END) {
            return -1;
        }
        key_group_set(g, p, len, loc);
    }
    return g->count == count ? 0 : -1;
}

static int take_groups(struct view *v, struct key_index *ix) {
    uint32_t count;
    if (take_u32be(v, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t hash;
        uint32_t members;
        if (take_u64be(v, &hash) || take_u32be(v, &members) || members < 2 ||
            key_index_group(ix, hash) || take_members(v, key_index_group_new(ix, hash), members)) {
            return -1;
        }
    }
    return 0;
}

int key_manifest_take(struct key_index *ix, const void *p, size_t n, struct key_manifest_run *runs,
                      uint32_t *run_count) {
    struct view v;
    const uint8_t *tag;
    uint32_t len;
    *run_count = 0;
    if (take_frame(p, n, &v) || take_tag(&v, &tag, &len) || take_u64be(&v, &ix->next_run) ||
        take_u32be(&v, &ix->next_file) || ix->next_file > KEY_FILE_MAX + 1 ||
        take_runs(&v, runs, run_count) || take_dropped(&v, ix) || take_paths(&v, ix) ||
        take_groups(&v, ix) || view_left(&v)) {
        return -1;
    }
    ix->tag = xstrndup((const char *)tag, len);
    return 0;
}
