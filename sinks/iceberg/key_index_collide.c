/* Keys that share all 64 bits of their hash: a group holds the full keys of all that live, and
 * while it stands, nothing else that the index holds about the hash counts. Rows that came with the
 * hash alone since (put, append) join the group with their key unknown, and it is read from their
 * row when the group is asked or stored. A group of which fewer than two keys live is dissolved:
 * what is left goes to the memory tier, where it replaces all that is older.
 *
 * By the odds a table of 10^8 keys has such a pair once in 3,700 tables: nothing here is fast.
 * Thread: the index's owner. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

static struct key_member *group_push(struct key_group *g) {
    if (g->count == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 4;
        g->at = xrealloc(g->at, g->cap * sizeof *g->at);
    }
    struct key_member *m = &g->at[g->count++];
    *m = (struct key_member){ 0 };
    return m;
}

static void group_remove(struct key_group *g, size_t i) {
    free(g->at[i].key);
    memmove(&g->at[i], &g->at[i + 1], (g->count - i - 1) * sizeof *g->at);
    g->count--;
}

void key_group_free(void *group) {
    struct key_group *g = group;
    while (g->count) {
        group_remove(g, g->count - 1);
    }
    free(g->at);
    free(g);
}

void key_group_add_unknown(struct key_group *g, uint64_t loc) {
    for (size_t i = 0; i < g->count; i++) {
        if (g->at[i].loc == loc) {
            return; /* the call is made again */
        }
    }
    group_push(g)->loc = loc;
}

static struct key_member *group_find(const struct key_group *g, const void *key, size_t len) {
    for (size_t i = 0; i < g->count; i++) {
        struct key_member *m = &g->at[i];
        if (m->key && m->len == len && (len == 0 || memcmp(m->key, key, len) == 0)) {
            return m;
        }
    }
    return NULL;
}

static void member_know(struct key_member *m, const void *key, size_t len) {
    m->key = xmalloc(len + 1); /* also of no bytes: then it is known */
    if (len) {
        memcpy(m->key, key, len);
    }
    m->len = len;
}

void key_group_set(struct key_group *g, const void *key, size_t len, uint64_t loc) {
    struct key_member *m = group_find(g, key, len);
    if (!m) {
        m = group_push(g);
        member_know(m, key, len);
    }
    m->loc = loc;
}

void key_group_unset(struct key_group *g, const void *key, size_t len) {
    struct key_member *m = group_find(g, key, len);
    if (m) {
        group_remove(g, (size_t)(m - g->at));
    }
}

uint64_t key_group_get(const struct key_group *g, const void *key, size_t len) {
    const struct key_member *m = group_find(g, key, len);
    return m ? m->loc : KEY_LOC_NONE;
}

struct key_group *key_index_group_new(struct key_index *ix, uint64_t hash) {
    struct key_group *g = xcalloc(1, sizeof *g);
    g->hash = hash;
    map_set(ix->groups, &hash, sizeof hash, g);
    return g;
}

static int read_key(struct key_index *ix, uint64_t loc, struct buf *key, struct err *err) {
    buf_clear(key);
    return ix->config.read_key(ix->config.read_key_arg, loc, key, err);
}

static int dissolve(struct key_index *ix, struct key_group **group, struct err *err) {
    struct key_group *g = *group;
    uint64_t value = g->count ? key_value(g->at[0].loc) : VALUE_TOMB;
    if (key_index_set(ix, g->hash, value, err)) {
        return -1;
    }
    map_remove(ix->groups, &g->hash, sizeof g->hash);
    key_group_free(g);
    *group = NULL;
    return 0;
}

int key_index_settle(struct key_index *ix, struct key_group **group, struct err *err) {
    struct key_group *g = *group;
    struct buf key;
    int result = 0;
    buf_init(&key, SIZE_MAX);
    for (size_t i = 0; i < g->count && result == 0;) {
        struct key_member *m = &g->at[i];
        if (m->key) {
            i++;
            continue;
        }
        result = read_key(ix, m->loc, &key, err);
        if (result == 0) {
            struct key_member *known = group_find(g, key.data, key.len);
            if (known) {
                known->loc = m->loc; /* the later one lives */
                group_remove(g, i);
            } else {
                member_know(m, key.data, key.len);
            }
        }
    }
    buf_release(&key);
    return result == 0 && g->count < 2 ? dissolve(ix, group, err) : result;
}

int key_index_settle_all(struct key_index *ix, struct err *err) {
    size_t at = 0;
    void *value;
    while (map_next(ix->groups, &at, NULL, NULL, &value)) {
        struct key_group *g = value;
        if (key_index_settle(ix, &g, err)) {
            return -1;
        }
    }
    while (ix->doubts.count) {
        uint64_t loc;
        uint64_t hash = ix->doubts.at[ix->doubts.count - 1];
        if (!key_index_group(ix, hash) && key_index_resolve(ix, hash, &loc, err)) {
            return -1;
        }
        ix->doubts.count--;
    }
    return 0;
}

int key_index_drop_members(struct key_index *ix, struct err *err) {
    size_t at = 0;
    void *value;
    while (map_next(ix->groups, &at, NULL, NULL, &value)) {
        struct key_group *g = value;
        for (size_t i = g->count; i > 0; i--) {
            if (key_index_is_dropped(ix, KEY_LOC_FILE(g->at[i - 1].loc))) {
                group_remove(g, i - 1);
            }
        }
        if (g->count < 2 && dissolve(ix, &g, err)) {
            return -1;
        }
    }
    return 0;
}

/* Where rows of this hash live, newest first, up to the one that replaced what is older. */
static int living(struct key_index *ix, uint64_t hash, struct key_numbers *locs, struct err *err) {
    struct key_numbers values = { 0 };
    const struct key_entry *s = key_table_seek(&ix->table, hash);
    const struct key_entry *end = s;
    while (key_slot_is(end, hash)) {
        end++;
    }
    while (end > s) {
        key_numbers_add(&values, (--end)->value);
    }
    int result = 0;
    for (uint32_t r = 0; r < ix->run_count && result == 0; r++) {
        if (key_run_all(ix->runs[r], hash, &values)) {
            result = key_index_damaged(ix, err);
        }
    }
    for (size_t i = 0; i < values.count && result == 0; i++) {
        uint64_t value = key_index_alive(ix, values.at[i]);
        if (key_value_lives(value)) {
            uint64_t loc = key_value_loc(value);
            bool again = false;
            for (size_t j = 0; j < locs->count; j++) {
                again = again || locs->at[j] == loc;
            }
            if (!again) {
                key_numbers_add(locs, loc);
            }
        }
        if (value && !(value & VALUE_APPENDED)) {
            break;
        }
    }
    key_numbers_release(&values);
    return result;
}

/* Reads the keys of several rows of one hash: a group of those that differ, the newest of each. */
static int tell_apart(struct key_index *ix, const struct key_numbers *locs, struct key_group *g,
                      struct err *err) {
    struct buf key;
    int result = 0;
    buf_init(&key, SIZE_MAX);
    for (size_t i = 0; i < locs->count && result == 0; i++) {
        result = read_key(ix, locs->at[i], &key, err);
        if (result == 0 && !group_find(g, key.data, key.len)) {
            key_group_set(g, key.data, key.len, locs->at[i]);
        }
    }
    buf_release(&key);
    return result;
}

int key_index_resolve(struct key_index *ix, uint64_t hash, uint64_t *loc, struct err *err) {
    struct key_numbers locs = { 0 };
    CHECK(!key_index_group(ix, hash));
    int result = living(ix, hash, &locs, err);
    if (result == 0 && locs.count > 1) {
        struct key_group *g = xcalloc(1, sizeof *g);
        g->hash = hash;
        result = tell_apart(ix, &locs, g, err);
        if (result == 0 && g->count > 1) {
            map_set(ix->groups, &hash, sizeof hash, g);
            key_table_erase(&ix->table, hash);
            *loc = KEY_LOC_ASK;
        } else {
            *loc = result == 0 ? g->at[0].loc : KEY_LOC_NONE;
            key_group_free(g);
            result = result == 0 ? key_index_set(ix, hash, key_value(*loc), err) : result;
        }
    } else if (result == 0) {
        *loc = locs.count ? locs.at[0] : KEY_LOC_NONE;
    }
    key_numbers_release(&locs);
    return result;
}
