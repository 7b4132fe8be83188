/* The key index: finding, putting. What it is made of: key_index_internal.h; its life and what is
 * stored: key_index_store.c.
 *
 * A find goes through its hashes in pieces: each piece is put in order of the hashes' top bits,
 * asks the memory tier, then each run, newest first; what is answered falls out. A put or a tomb is
 * an answer; an appended entry is one only when all older runs were asked too and know nothing.
 * Thread: the index's owner. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

enum {
    ORDER_BITS = 11,
    ORDER_FROM = 256, /* fewer hashes stay in the order in which they came */
    AHEAD = 12,       /* slots asked for before they are looked at */
    DROPPED_MAX = 1024,
};
/* ---- files ---- */

int key_index_file(struct key_index *ix, const char *path, uint32_t *number, struct err *err) {
    size_t len = strlen(path);
    uintptr_t known = (uintptr_t)map_get(ix->numbers, path, len);
    if (known) {
        *number = (uint32_t)(known - 1);
        return 0;
    }
    if (ix->next_file > KEY_FILE_MAX) {
        (void)key_index_damaged(ix, err);
        return err_set(
            err, ERR_REWIND, "index_full",
            "key index \"%s\": its numbers for files are used up; it will be built again", ix->dir);
    }
    *number = ix->next_file++;
    map_set(ix->paths, number, sizeof *number, xstrdup(path));
    map_set(ix->numbers, path, len, (void *)((uintptr_t)*number + 1));
    return 0;
}

const char *key_index_path(const struct key_index *ix, uint32_t number) {
    return map_get(ix->paths, &number, sizeof number);
}

bool key_index_next_path(const struct key_index *ix, size_t *at, uint32_t *number,
                         const char **path) {
    const void *key;
    void *value;
    if (!map_next(ix->paths, at, &key, NULL, &value)) {
        return false;
    }
    memcpy(number, key, sizeof *number);
    *path = value;
    return true;
}

void key_index_forget(struct key_index *ix, uint32_t number) {
    char *path = map_remove(ix->paths, &number, sizeof number);
    if (path) {
        map_remove(ix->numbers, path, strlen(path));
        free(path);
    }
}

bool key_index_is_dropped(const struct key_index *ix, uint32_t file) {
    size_t lo = 0;
    size_t hi = ix->dropped_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ix->dropped[mid].last < file) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < ix->dropped_count && ix->dropped[lo].first <= file;
}

/* Joins it with those that it meets or borders on. */
static void add_dropped(struct key_index *ix, struct key_range r) {
    size_t from = 0;
    while (from < ix->dropped_count && (uint64_t)ix->dropped[from].last + 1 < r.first) {
        from++;
    }
    size_t to = from;
    for (; to < ix->dropped_count && ix->dropped[to].first <= (uint64_t)r.last + 1; to++) {
        r.first = ix->dropped[to].first < r.first ? ix->dropped[to].first : r.first;
        r.last = ix->dropped[to].last > r.last ? ix->dropped[to].last : r.last;
    }
    if (ix->dropped_count == ix->dropped_cap) {
        ix->dropped_cap = ix->dropped_cap ? ix->dropped_cap * 2 : 8;
        ix->dropped = xrealloc(ix->dropped, ix->dropped_cap * sizeof *ix->dropped);
    }
    memmove(ix->dropped + from + 1, ix->dropped + to,
            (ix->dropped_count - to) * sizeof *ix->dropped);
    ix->dropped[from] = r;
    ix->dropped_count = ix->dropped_count - (to - from) + 1;
}

static void drop_paths(struct key_index *ix, uint32_t first, uint32_t last) {
    size_t at = 0;
    const void *key;
    void *path;
    while (map_next(ix->paths, &at, &key, NULL, &path)) {
        uint32_t number;
        memcpy(&number, key, sizeof number);
        if (number >= first && number <= last) {
            map_remove(ix->numbers, path, strlen(path));
            map_remove(ix->paths, &number, sizeof number);
            free(path);
        }
    }
}

static void drop_table(struct key_index *ix) {
    struct key_table *t = &ix->table;
    for (uint64_t i = 0; t->count && i < t->room;) {
        struct key_entry *s = &t->slots[i];
        uint64_t value = key_index_alive(ix, s->value);
        if (s->value && !value) {
            key_table_erase_at(t, s); /* another one may stand here now */
            continue;
        }
        s->value = value;
        i++;
    }
}

int key_index_drop(struct key_index *ix, uint32_t first, uint32_t last, struct err *err) {
    CHECK(first <= last && last <= KEY_FILE_MAX);
    if (key_index_usable(ix, err)) {
        return -1;
    }
    add_dropped(ix, (struct key_range){ first, last });
    drop_paths(ix, first, last);
    drop_table(ix);
    if (key_index_drop_members(ix, err)) {
        return -1;
    }
    if (ix->run_count == 0) {
        ix->dropped_count = 0;
    }
    return ix->dropped_count > DROPPED_MAX ? key_index_merge(ix, err) : 0;
}

int key_index_clear(struct key_index *ix, struct err *err) {
    if (key_index_usable(ix, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < ix->run_count; i++) {
        key_index_discard(ix, ix->runs[i]);
    }
    ix->run_count = 0;
    ix->dropped_count = 0;
    ix->doubts.count = 0;
    map_clear(ix->groups, key_group_free);
    map_clear(ix->paths, free);
    map_clear(ix->numbers, NULL);
    key_table_clear(&ix->table);
    ix->unstored = true;
    return 0;
}

uint64_t key_index_tier_bytes(const struct key_index *ix) {
    return ix->table.homes ? ix->table.room * sizeof *ix->table.slots : 0;
}

int key_index_yield(struct key_index *ix, struct err *err) {
    if (key_index_usable(ix, err) ||
        (ix->table.count && (key_index_spill(ix, err) || key_index_merge_some(ix, false, err)))) {
        return -1;
    }
    key_table_shrink(&ix->table);
    return 0;
}

int key_index_merge(struct key_index *ix, struct err *err) {
    if (key_index_usable(ix, err) || (ix->table.count && key_index_spill(ix, err))) {
        return -1;
    }
    bool needed = ix->run_count > 1 || (ix->run_count == 1 && ix->dropped_count);
    return needed ? key_index_merge_newest(ix, ix->run_count, err) : 0;
}

void key_index_size(const struct key_index *ix, struct key_index_size *out) {
    *out = (struct key_index_size){
        .keys = ix->table.count,
        .memory_bytes =
            key_index_tier_bytes(ix) + map_bytes(ix->groups) + map_bytes(ix->paths) +
            map_bytes(ix->numbers) + KEY_FIND_PIECE * sizeof *ix->probes +
            KEY_PUT_PIECE * sizeof *ix->entries +
            (ix->doubts.cap + ix->asked.cap + ix->last.cap + ix->before.cap) * sizeof(uint64_t) +
            ix->garbage_cap * sizeof *ix->garbage,
        .collisions = map_count(ix->groups),
        .runs = ix->run_count,
    };
    for (uint32_t i = 0; i < ix->run_count; i++) {
        out->keys += ix->runs[i]->shape.entries;
        out->mapped_bytes += ix->runs[i]->len;
        out->memory_bytes += (ix->runs[i]->pages / 64 + 1) * sizeof(uint64_t);
    }
    out->disk_bytes = out->mapped_bytes;
    for (size_t i = 0; i < ix->garbage_count; i++) {
        out->disk_bytes += ix->garbage[i].bytes;
    }
}

/* ---- finding ---- */

/* For a counting sort by the hashes' top bits: where each of their values begins. */
static void order_firsts(const uint64_t *hashes, uint32_t count, uint32_t *first) {
    for (uint32_t i = 0; i < count; i++) {
        first[(hashes[i] >> (64 - ORDER_BITS)) + 1]++;
    }
    for (uint32_t b = 0; b < 1 << ORDER_BITS; b++) {
        first[b + 1] += first[b];
    }
}

static inline uint32_t order_next(uint64_t hash, uint32_t *first) {
    return first[hash >> (64 - ORDER_BITS)]++;
}

/* The hashes as probes, ordered by their top bits; few are left as they came. */
static void order_probes(struct key_index *ix, const uint64_t *hashes, uint32_t count) {
    uint32_t first[(1 << ORDER_BITS) + 1] = { 0 };
    struct key_probe *p = ix->probes;
    if (count < ORDER_FROM) {
        for (uint32_t i = 0; i < count; i++) {
            p[i] = (struct key_probe){ .hash = hashes[i], .at = i };
        }
        return;
    }
    order_firsts(hashes, count, first);
    for (uint32_t i = 0; i < count; i++) {
        p[order_next(hashes[i], first)] = (struct key_probe){ .hash = hashes[i], .at = i };
    }
}

/* The same with locations, for the memory tier; equal hashes stay in their order. */
static void order_entries(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                          uint32_t count) {
    uint32_t first[(1 << ORDER_BITS) + 1] = { 0 };
    struct key_entry *e = ix->entries;
    order_firsts(hashes, count, first);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(locs[i] < KEY_LOC_END);
        e[order_next(hashes[i], first)] = (struct key_entry){ hashes[i], key_value(locs[i]) };
    }
}

/* Answers those that collide. Returns how many are left. */
static uint32_t find_in_groups(struct key_index *ix, uint32_t count, uint64_t *locs) {
    struct key_probe *p = ix->probes;
    uint32_t left = 0;
    if (LIKELY(!map_count(ix->groups))) {
        return count;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (key_index_group(ix, p[i].hash)) {
            locs[p[i].at] = KEY_LOC_ASK;
        } else {
            p[left++] = p[i];
        }
    }
    return left;
}

/* What one tier says of a probe: whether that is the answer. */
static bool answered(struct key_index *ix, struct key_probe *p, uint64_t value, bool more,
                     uint64_t *locs) {
    if (UNLIKELY(more)) { /* several in one run: slowly */
        key_numbers_add(&ix->asked, p->at);
        return true;
    }
    value = key_index_alive(ix, value);
    if (!value) {
        return false;
    }
    if (UNLIKELY(p->seen)) {
        /* An appended row, and an older one: unless that is dead or the same, two live. */
        if (value != VALUE_TOMB && key_value_loc(value) != locs[p->at]) {
            key_numbers_add(&ix->asked, p->at);
            return true;
        }
        return !(value & VALUE_APPENDED);
    }
    if (value == VALUE_TOMB) {
        locs[p->at] = KEY_LOC_NONE;
        return true;
    }
    locs[p->at] = key_value_loc(value);
    p->seen = (value & VALUE_APPENDED) != 0;
    return !p->seen;
}

static uint32_t find_in_table(struct key_index *ix, uint32_t count, uint64_t *locs) {
    struct key_probe *p = ix->probes;
    const struct key_table *t = &ix->table;
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            key_table_prefetch(t, p[i + AHEAD].hash);
        }
        const struct key_entry *s = key_table_seek(t, p[i].hash);
        if (!key_slot_is(s, p[i].hash) ||
            !answered(ix, &p[i], s->value, t->twins && key_slot_is(s + 1, p[i].hash), locs)) {
            p[left++] = p[i];
        }
    }
    return left;
}

static int find_in_run(struct key_index *ix, struct key_run *run, uint32_t *count, uint64_t *locs,
                       struct err *err) {
    struct key_probe *p = ix->probes;
    uint64_t values[KEY_PROBES_AT_ONCE];
    uint32_t left = 0;
    for (uint32_t from = 0; from < *count; from += KEY_PROBES_AT_ONCE) {
        uint32_t n = *count - from < KEY_PROBES_AT_ONCE ? *count - from : KEY_PROBES_AT_ONCE;
        uint64_t more;
        if (key_run_probe(run, p + from, n, values, &more)) {
            return key_index_damaged(ix, err);
        }
        for (uint32_t i = 0; i < n; i++) {
            if (!values[i] || !answered(ix, &p[from + i], values[i], more >> i & 1, locs)) {
                p[left++] = p[from + i];
            }
        }
    }
    *count = left;
    return 0;
}

static int find_piece(struct key_index *ix, const uint64_t *hashes, uint32_t count, uint64_t *locs,
                      struct err *err) {
    ix->asked.count = 0;
    order_probes(ix, hashes, count);
    uint32_t left = find_in_groups(ix, count, locs);
    if (ix->table.count) {
        left = find_in_table(ix, left, locs);
    }
    for (uint32_t r = 0; r < ix->run_count && left; r++) {
        if (find_in_run(ix, ix->runs[r], &left, locs, err)) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < left; i++) {
        if (!ix->probes[i].seen) {
            locs[ix->probes[i].at] = KEY_LOC_NONE;
        }
    }
    for (size_t i = 0; i < ix->asked.count; i++) {
        uint64_t at = ix->asked.at[i];
        locs[at] = KEY_LOC_ASK;
        if (!key_index_group(ix, hashes[at]) && key_index_resolve(ix, hashes[at], &locs[at], err)) {
            return -1;
        }
    }
    return 0;
}

int key_index_find(struct key_index *ix, const uint64_t *hashes, uint32_t count, uint64_t *locs,
                   struct err *err) {
    if (key_index_usable(ix, err)) {
        return -1;
    }
    ix->finding = true;
    if (UNLIKELY(ix->piled) && key_index_merge_some(ix, false, err)) {
        return -1;
    }
    for (uint32_t from = 0; from < count;) {
        uint32_t n = count - from < KEY_FIND_PIECE ? count - from : KEY_FIND_PIECE;
        if (find_piece(ix, hashes + from, n, locs + from, err)) {
            return -1;
        }
        from += n;
    }
    return 0;
}

int key_index_find_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                       uint64_t *loc, struct err *err) {
    if (key_index_find(ix, &hash, 1, loc, err)) {
        return -1;
    }
    struct key_group *g = key_index_group(ix, hash);
    if (!g) {
        return 0;
    }
    if (key_index_settle(ix, &g, err)) {
        return -1;
    }
    if (!g) {
        return key_index_find(ix, &hash, 1, loc, err);
    }
    *loc = key_group_get(g, key, len);
    return 0;
}

/* ---- changing ---- */

int key_index_make_room(struct key_index *ix, bool appended, struct err *err) {
    bool bulk = appended && !ix->finding;
    ix->finding = false;
    return key_index_spill(ix, err) || key_index_merge_some(ix, bulk, err) ? -1 : 0;
}

int key_index_set(struct key_index *ix, uint64_t hash, uint64_t value, struct err *err) {
    while (UNLIKELY(!key_table_set(&ix->table, hash, value))) {
        if (key_index_make_room(ix, false, err)) {
            return -1;
        }
    }
    return 0;
}

static inline int put_one(struct key_index *ix, uint64_t hash, uint64_t value, bool appended,
                          struct err *err) {
    struct key_group *g = key_index_group(ix, hash);
    if (UNLIKELY(g != NULL)) {
        key_group_add_unknown(g, key_value_loc(value));
        return 0;
    }
    while (UNLIKELY(!(appended ? key_table_append(&ix->table, hash, value)
                               : key_table_set(&ix->table, hash, value)))) {
        if (key_index_make_room(ix, appended, err)) {
            return -1;
        }
    }
    return 0;
}

static int put_all(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                   uint32_t count, bool appended, struct err *err) {
    if (key_index_usable(ix, err)) {
        return -1;
    }
    if (count < ORDER_FROM) {
        for (uint32_t i = 0; i < count; i++) {
            CHECK(locs[i] < KEY_LOC_END);
            if (put_one(ix, hashes[i], key_value(locs[i]), appended, err)) {
                return -1;
            }
        }
        return 0;
    }
    for (uint32_t from = 0; from < count; from += KEY_PUT_PIECE) {
        uint32_t n = count - from < KEY_PUT_PIECE ? count - from : KEY_PUT_PIECE;
        order_entries(ix, hashes + from, locs + from, n);
        for (uint32_t i = 0; i < n; i++) {
            const struct key_entry *e = &ix->entries[i];
            if (i + AHEAD < n) {
                key_table_prefetch(&ix->table, e[AHEAD].hash);
            }
            if (put_one(ix, e->hash, e->value, appended, err)) {
                return -1;
            }
        }
    }
    return 0;
}

int key_index_put(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                  uint32_t count, struct err *err) {
    return put_all(ix, hashes, locs, count, false, err);
}

int key_index_append(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                     uint32_t count, struct err *err) {
    return put_all(ix, hashes, locs, count, true, err);
}

int key_index_remove(struct key_index *ix, const uint64_t *hashes, uint32_t count,
                     struct err *err) {
    if (key_index_usable(ix, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            key_table_prefetch(&ix->table, hashes[i + AHEAD]);
        }
        if (UNLIKELY(key_index_group(ix, hashes[i]) != NULL)) {
            return err_set(err, ERR_FATAL, "index_ask",
                           "key index \"%s\": a key of hash %016" PRIx64
                           " was to be removed without saying which",
                           ix->dir, hashes[i]);
        }
        if (key_index_set(ix, hashes[i], VALUE_TOMB, err)) {
            return -1;
        }
    }
    return 0;
}

int key_index_put_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                      uint64_t loc, struct err *err) {
    CHECK(loc < KEY_LOC_END);
    struct key_group *g = key_index_group(ix, hash);
    if (key_index_usable(ix, err) || (g && key_index_settle(ix, &g, err))) {
        return -1;
    }
    if (!g) {
        return key_index_put(ix, &hash, &loc, 1, err);
    }
    key_group_set(g, key, len, loc);
    return 0;
}

int key_index_remove_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                         struct err *err) {
    struct key_group *g = key_index_group(ix, hash);
    if (key_index_usable(ix, err) || (g && key_index_settle(ix, &g, err))) {
        return -1;
    }
    if (!g) {
        return key_index_remove(ix, &hash, 1, err);
    }
    key_group_unset(g, key, len);
    return key_index_settle(ix, &g, err);
}

int key_index_collide(struct key_index *ix, uint64_t hash, const void *key_a, size_t a_len,
                      uint64_t loc_a, const void *key_b, size_t b_len, uint64_t loc_b,
                      struct err *err) {
    CHECK(loc_a < KEY_LOC_END && loc_b < KEY_LOC_END);
    CHECK(a_len != b_len || memcmp(key_a, key_b, a_len) != 0);
    if (key_index_usable(ix, err)) {
        return -1;
    }
    struct key_group *g = key_index_group(ix, hash);
    if (g && key_index_settle(ix, &g, err)) {
        return -1; /* what came before is older */
    }
    if (!g) {
        g = key_index_group_new(ix, hash);
        key_table_erase(&ix->table, hash);
    }
    key_group_set(g, key_a, a_len, loc_a);
    key_group_set(g, key_b, b_len, loc_b);
    return 0;
}
