/* Hash map that iterates in insertion order: an array of entries in the order they came, and an
 * index of open addressing (linear probing, at most half full) from hashes to places in that array.
 * A removed entry leaves a gap in the array, closed when it is full; the index has no tombstones,
 * because removal shifts back what follows. One owner, no thread safety. */
#include "cdc/base/map.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    void *key; /* NULL: a gap */
    size_t len;
    uint64_t hash;
    void *value;
};
struct map {
    struct entry *entries; /* [cap] */
    uint32_t *index;       /* [2 * cap]: place in entries plus 1, 0 = free */
    size_t cap;            /* a power of two, or 0 */
    size_t used;           /* entries including gaps */
    size_t first;          /* no entry before this place: a map used as a queue stays fast */
    size_t count;
    size_t key_bytes;
};

enum { CAP_MIN = 8, MALLOC_OVERHEAD = 16 };
static const uint64_t map_seed = UINT64_C(0x7461696c72616365);

struct map *map_new(void) {
    return xcalloc(1, sizeof(struct map));
}

void map_free(struct map *map, void (*free_value)(void *)) {
    if (map) {
        map_clear(map, free_value);
        free(map->entries);
        free(map->index);
        free(map);
    }
}

void map_clear(struct map *map, void (*free_value)(void *)) {
    for (size_t i = 0; i < map->used; i++) {
        if (map->entries[i].key) {
            free(map->entries[i].key);
            if (free_value) {
                free_value(map->entries[i].value);
            }
        }
    }
    if (map->cap > 0) {
        memset(map->index, 0, 2 * map->cap * sizeof *map->index);
    }
    map->used = map->first = map->count = map->key_bytes = 0;
}

static size_t index_mask(const struct map *map) { return 2 * map->cap - 1; }

/* The slot of the index that holds the key, or the free slot where it would go. The map has a
 * capacity. */
static size_t slot_find(const struct map *map, const void *key, size_t len, uint64_t hash) {
    size_t slot = hash & index_mask(map);
    while (map->index[slot] != 0) {
        const struct entry *e = &map->entries[map->index[slot] - 1];
        if (e->hash == hash && e->len == len && (len == 0 || memcmp(e->key, key, len) == 0)) {
            return slot;
        }
        slot = (slot + 1) & index_mask(map);
    }
    return slot;
}

/* Closes the gaps and makes room for one more: twice the size if more than 3/4 is live, half if
 * less than 1/8. */
static void map_rebuild(struct map *map) {
    size_t cap = map->cap ? map->cap : CAP_MIN;
    if (map->count >= cap - cap / 4) {
        cap *= 2;
    } else if (cap > CAP_MIN && map->count < cap / 8) {
        cap /= 2;
    }
    CHECK(cap <= UINT32_MAX / 2);
    struct entry *entries = xmalloc(cap * sizeof *entries);
    size_t used = 0;
    for (size_t i = 0; i < map->used; i++) {
        if (map->entries[i].key) {
            entries[used++] = map->entries[i];
        }
    }
    CHECK(used == map->count && used < cap);
    free(map->entries);
    free(map->index);
    map->entries = entries;
    map->index = xcalloc(2 * cap, sizeof *map->index);
    map->cap = cap;
    map->used = used;
    map->first = 0;
    for (size_t i = 0; i < used; i++) {
        size_t slot = entries[i].hash & index_mask(map);
        while (map->index[slot] != 0) {
            slot = (slot + 1) & index_mask(map);
        }
        map->index[slot] = (uint32_t)(i + 1);
    }
}

void *map_get(const struct map *map, const void *key, size_t len) {
    if (map->count == 0) {
        return NULL;
    }
    size_t slot = slot_find(map, key, len, hash_bytes(key, len, map_seed));
    return map->index[slot] ? map->entries[map->index[slot] - 1].value : NULL;
}

void *map_set(struct map *map, const void *key, size_t len, void *value) {
    uint64_t hash = hash_bytes(key, len, map_seed);
    if (map->count > 0) {
        size_t slot = slot_find(map, key, len, hash);
        if (map->index[slot] != 0) {
            struct entry *e = &map->entries[map->index[slot] - 1];
            void *before = e->value;
            e->value = value;
            return before;
        }
    }
    if (map->used == map->cap) {
        map_rebuild(map);
    }
    struct entry *e = &map->entries[map->used];
    *e = (struct entry){ .key = xmalloc(len), .len = len, .hash = hash, .value = value };
    if (len > 0) {
        memcpy(e->key, key, len);
    }
    size_t slot = slot_find(map, key, len, hash);
    CHECK(map->index[slot] == 0);
    map->used++;
    map->count++;
    map->key_bytes += len;
    map->index[slot] = (uint32_t)map->used;
    return NULL;
}

/* Frees a slot of the index and moves back those behind it that were pushed past it. */
static void slot_free(struct map *map, size_t slot) {
    size_t mask = index_mask(map);
    size_t hole = slot;
    for (size_t at = (slot + 1) & mask; map->index[at] != 0; at = (at + 1) & mask) {
        size_t home = map->entries[map->index[at] - 1].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->index[hole] = map->index[at];
            hole = at;
        }
    }
    map->index[hole] = 0;
}

void *map_remove(struct map *map, const void *key, size_t len) {
    if (map->count == 0) {
        return NULL;
    }
    size_t slot = slot_find(map, key, len, hash_bytes(key, len, map_seed));
    if (map->index[slot] == 0) {
        return NULL;
    }
    struct entry *e = &map->entries[map->index[slot] - 1];
    void *value = e->value;
    slot_free(map, slot);
    map->key_bytes -= e->len;
    map->count--;
    free(e->key);
    e->key = NULL;
    while (map->first < map->used && !map->entries[map->first].key) {
        map->first++;
    }
    if (map->count == 0) {
        map->used = map->first = 0;
    }
    return value;
}

size_t map_count(const struct map *map) { return map->count; }

size_t map_bytes(const struct map *map) {
    return sizeof *map + map->cap * (sizeof *map->entries + 2 * sizeof *map->index) +
           map->key_bytes + map->count * MALLOC_OVERHEAD;
}

bool map_next(const struct map *map, size_t *at, const void **key, size_t *len, void **value) {
    size_t i = *at > map->first ? *at : map->first;
    while (i < map->used && !map->entries[i].key) {
        i++;
    }
    if (i >= map->used) {
        *at = i;
        return false;
    }
    const struct entry *e = &map->entries[i];
    if (key) {
        *key = e->key;
    }
    if (len) {
        *len = e->len;
    }
    if (value) {
        *value = e->value;
    }
    *at = i + 1;
    return true;
}
