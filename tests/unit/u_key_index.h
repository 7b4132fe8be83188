/* A world for the key index's tests: keys with numbers, hashes as weak as a test wants, rows at
 * places, and what must be found, kept apart from the index in plain arrays. For u_key_index*.c. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "sinks/iceberg/key_index.h"
#include "tests/unit/kit.h"

enum { WORLD_FILE_ROWS = 1000 };
struct world {
    struct key_index_config config;
    struct key_index *ix;
    uint32_t keys;
    uint64_t hash_mask; /* which bits of a key's own hash count: few = many collisions */
    uint64_t *live;     /* by key: where its row is, KEY_LOC_NONE */
    uint64_t *stored;   /* the same as of the last whole checkpoint */
    uint32_t *rows;     /* by row number: its key */
    uint64_t row_count, row_cap;
    uint64_t seed;
    unsigned tags;
    char tag[40]; /* of the last whole checkpoint; "" = none */
};

static uint64_t world_draw(struct world *w, uint64_t below) {
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return (w->seed >> 11) % below;
}
static uint64_t world_hash(const struct world *w, uint32_t key) {
    uint64_t own = hash_bytes(&key, sizeof key, 0) & w->hash_mask;
    return hash_bytes(&own, sizeof own, 1);
}
/* A row's place says its number. */
static uint64_t world_loc(uint64_t row) {
    return key_loc((uint32_t)(row / WORLD_FILE_ROWS), row % WORLD_FILE_ROWS);
}
static uint32_t world_key_at(const struct world *w, uint64_t loc) {
    uint64_t row = (uint64_t)KEY_LOC_FILE(loc) * WORLD_FILE_ROWS + KEY_LOC_POS(loc);
    return row < w->row_count ? w->rows[row] : UINT32_MAX;
}
static uint64_t world_new_row(struct world *w, uint32_t key) {
    if (w->row_count == w->row_cap) {
        w->row_cap = w->row_cap ? w->row_cap * 2 : 1024;
        w->rows = xrealloc(w->rows, w->row_cap * sizeof *w->rows);
    }
    w->rows[w->row_count] = key;
    return world_loc(w->row_count++);
}
/* A key's bytes: of 0 to 3 + 4 bytes, so that lengths differ too. */
static size_t world_key(uint32_t key, char *out) {
    size_t extra = key % 4;
    memset(out, 'k', extra);
    memcpy(out + extra, &key, sizeof key);
    return key == 0 ? 0 : extra + sizeof key;
}
static int world_read_key(void *arg, uint64_t loc, struct buf *out, struct err *err) {
    const struct world *w = arg;
    uint32_t key = world_key_at(w, loc);
    char bytes[8];
    if (key == UINT32_MAX) {
        return err_set(err, ERR_FATAL, "no_row", "there is no row at %llx",
                       (unsigned long long)loc);
    }
    buf_put(out, bytes, world_key(key, bytes));
    return 0;
}

static void world_init(struct world *w, struct files *files, const char *dir, uint32_t keys,
                       unsigned hash_bits, uint64_t seed) {
    *w = (struct world){ .keys = keys, .seed = seed * 2 + 0x9e3779b97f4a7c15 };
    w->config = (struct key_index_config){
        .files = files, .dir = dir, .memory_bytes = 0, .read_key = world_read_key, .read_key_arg = w
    };
    w->hash_mask = hash_bits < 64 ? (UINT64_C(1) << hash_bits) - 1 : UINT64_MAX;
    w->live = xmalloc(keys * sizeof *w->live);
    w->stored = xmalloc(keys * sizeof *w->stored);
    memset(w->live, 0xff, keys * sizeof *w->live);
    memset(w->stored, 0xff, keys * sizeof *w->stored);
}
static void world_release(struct world *w) {
    key_index_close(w->ix);
    free(w->live);
    free(w->stored);
    free(w->rows);
}

/* ---- what a sink does with a key; -1 with err; *wrong: the index said what is not so ---- */

static int world_upsert(struct world *w, uint32_t key, bool *wrong, struct err *err) {
    uint64_t hash = world_hash(w, key);
    uint64_t old;
    char bytes[8], others[8];
    size_t len = world_key(key, bytes);
    if (key_index_find(w->ix, &hash, 1, &old, err)) {
        return -1;
    }
    uint64_t loc = world_new_row(w, key);
    uint32_t other = key;
    int result;
    if (old == KEY_LOC_ASK) {
        result = key_index_find_key(w->ix, hash, bytes, len, &old, err);
        *wrong = *wrong || (result == 0 && old != w->live[key]);
        result = result ? result : key_index_put_key(w->ix, hash, bytes, len, loc, err);
    } else if (old == KEY_LOC_NONE || (other = world_key_at(w, old)) == key) {
        *wrong = *wrong || old != w->live[key];
        result = key_index_put(w->ix, &hash, &loc, 1, err);
    } else {
        *wrong = *wrong || w->live[key] != KEY_LOC_NONE || w->live[other] != old;
        result = key_index_collide(w->ix, hash, others, world_key(other, others), old, bytes, len,
                                   loc, err);
    }
    w->live[key] = result == 0 ? loc : w->live[key];
    return result;
}
static int world_remove(struct world *w, uint32_t key, bool *wrong, struct err *err) {
    uint64_t hash = world_hash(w, key);
    uint64_t old;
    char bytes[8];
    if (key_index_find(w->ix, &hash, 1, &old, err)) {
        return -1;
    }
    int result = 0;
    if (old == KEY_LOC_ASK) {
        result = key_index_remove_key(w->ix, hash, bytes, world_key(key, bytes), err);
    } else if (old != KEY_LOC_NONE && world_key_at(w, old) == key) {
        *wrong = *wrong || w->live[key] != old;
        result = key_index_remove(w->ix, &hash, 1, err);
    } else {
        *wrong = *wrong || w->live[key] != KEY_LOC_NONE;
    }
    w->live[key] = result == 0 ? KEY_LOC_NONE : w->live[key];
    return result;
}
static int world_append(struct world *w, uint32_t key, struct err *err) {
    uint64_t hash = world_hash(w, key);
    uint64_t loc = world_new_row(w, key);
    int result = key_index_append(w->ix, &hash, &loc, 1, err);
    w->live[key] = result == 0 ? loc : w->live[key];
    return result;
}
static int world_checkpoint(struct world *w, bool whole, struct err *err) {
    char tag[40];
    snprintf(tag, sizeof tag, "table/%u", ++w->tags);
    if (key_index_checkpoint(w->ix, tag, whole, err)) {
        return -1;
    }
    const char *now = key_index_tag(w->ix);
    if (now && strcmp(now, tag) == 0) {
        memcpy(w->tag, tag, sizeof tag);
        memcpy(w->stored, w->live, w->keys * sizeof *w->live);
    }
    return 0;
}
/* Files first..last go. */
static int world_drop(struct world *w, uint32_t first, uint32_t last, struct err *err) {
    if (key_index_drop(w->ix, first, last, err)) {
        return -1;
    }
    for (uint32_t k = 0; k < w->keys; k++) {
        uint32_t file = KEY_LOC_FILE(w->live[k]);
        if (w->live[k] != KEY_LOC_NONE && file >= first && file <= last) {
            w->live[k] = KEY_LOC_NONE;
        }
    }
    return 0;
}
/* Rows in files that were never dropped come next. */
static void world_next_file(struct world *w) {
    while (w->row_count % WORLD_FILE_ROWS) {
        world_new_row(w, UINT32_MAX);
    }
}
/* Ends without a word and opens what is stored. */
static int world_restart(struct world *w, bool *found, struct err *err) {
    key_index_close(w->ix);
    w->ix = NULL;
    memcpy(w->live, w->stored, w->keys * sizeof *w->live);
    return key_index_open(&w->config, w->tag[0] ? w->tag : NULL, found, &w->ix, err);
}

/* Asks for every key: how many answers are wrong; -1 with err. */
static int world_verify(struct world *w, struct err *err) {
    uint64_t *hashes = xmalloc(w->keys * sizeof *hashes);
    uint64_t *locs = xmalloc(w->keys * sizeof *locs);
    int wrong = 0;
    for (uint32_t k = 0; k < w->keys; k++) {
        hashes[k] = world_hash(w, k);
    }
    if (key_index_find(w->ix, hashes, w->keys, locs, err)) {
        wrong = -1;
    }
    for (uint32_t k = 0; k < w->keys && wrong >= 0; k++) {
        char bytes[8];
        uint64_t loc = locs[k];
        if (loc == KEY_LOC_ASK &&
            key_index_find_key(w->ix, hashes[k], bytes, world_key(k, bytes), &loc, err)) {
            wrong = -1;
            break;
        }
        if (loc != KEY_LOC_NONE && world_key_at(w, loc) != k) {
            /* another key of this hash: then this one must not live, and that one must */
            uint32_t other = world_key_at(w, loc);
            wrong += other == UINT32_MAX || w->live[other] != loc || w->live[k] != KEY_LOC_NONE ||
                     hashes[k] != world_hash(w, other);
        } else {
            wrong += loc != w->live[k];
        }
    }
    free(hashes);
    free(locs);
    return wrong;
}
