/* The memory tier of the key index: linear probing in which the slots are kept in the order of
 * their hashes (an entry's home is its hash scaled to the number of homes, and whoever has the
 * greater hash gives way). So a search that finds nothing ends early, writing a run is one walk
 * with no sorting, and the table may have any size. Entries never wrap around: behind the last home
 * there is slack, and a table whose slack is used up is full. Equal hashes stand oldest first.
 * Thread: the index's owner. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sinks/iceberg/key_index_internal.h"

enum { HUGE_BYTES = 2 << 20, HUGE_FROM = 2 * HUGE_BYTES };
enum { HOMES_FIRST = 256, HOMES_LEAST = 1024, SLACK = 1024, GROW_SHIFT = 2 };

void key_numbers_add(struct key_numbers *n, uint64_t number) {
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 16;
        n->at = xrealloc(n->at, n->cap * sizeof *n->at);
    }
    n->at[n->count++] = number;
}

void key_numbers_release(struct key_numbers *n) {
    free(n->at);
    *n = (struct key_numbers){ 0 };
}

/* What stands for the slots of a table without memory: read only. */
static struct key_entry none[2];

static uint64_t room_of(uint64_t homes) { return homes + (homes < SLACK ? homes : SLACK); }

static void table_free(struct key_table *t) {
    if (t->homes) {
        t->budget->held -= t->room * sizeof *t->slots;
        free(t->slots);
    }
}

static void table_alloc(struct key_table *t, uint64_t homes) {
    t->homes = homes;
    t->room = room_of(homes);
    size_t bytes = t->room * sizeof *t->slots;
    t->budget->held += bytes;
    if (bytes < HUGE_FROM) {
        t->slots = xcalloc(t->room, sizeof *t->slots);
        return;
    }
    /* A random slot of a large table costs more for its page's translation than for itself. */
    t->slots = aligned_alloc(HUGE_BYTES, (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
    CHECK(t->slots);
    int ignored = madvise(t->slots, bytes, MADV_HUGEPAGE); /* without it is only slower */
    (void)ignored;
    memset(t->slots, 0, bytes);
}

static void no_memory(struct key_table *t) {
    t->slots = none;
    t->homes = 0;
    t->room = 1;
    t->shift = GROW_SHIFT;
    while (t->homes_max >> t->shift >= HOMES_FIRST) {
        t->shift += GROW_SHIFT;
    }
}

void key_table_init(struct key_table *t, uint64_t bytes_max, struct key_budget *budget) {
    uint64_t most = bytes_max / sizeof *t->slots;
    *t = (struct key_table){ .budget = budget };
    t->homes_max = most < HOMES_LEAST + SLACK ? HOMES_LEAST : most - SLACK;
    no_memory(t);
    t->loc_low = UINT64_MAX;
}

void key_table_release(struct key_table *t) {
    table_free(t);
    *t = (struct key_table){ 0 };
}

void key_table_shrink(struct key_table *t) {
    CHECK(t->count == 0);
    table_free(t);
    no_memory(t);
}

void key_table_clear(struct key_table *t) {
    if (t->homes) {
        memset(t->slots, 0, t->room * sizeof *t->slots);
    }
    t->count = 0;
    t->twins = 0;
    t->loc_low = UINT64_MAX;
    t->loc_high = t->loc_or = 0;
}

static inline void note_loc(struct key_table *t, uint64_t value) {
    if (LIKELY(value != VALUE_TOMB)) {
        uint64_t loc = key_value_loc(value);
        t->loc_low = loc < t->loc_low ? loc : t->loc_low;
        t->loc_high = loc > t->loc_high ? loc : t->loc_high;
        t->loc_or |= loc;
    }
}

uint64_t key_table_newest(const struct key_table *t, uint64_t hash) {
    const struct key_entry *s = key_table_seek(t, hash);
    if (!key_slot_is(s, hash)) {
        return 0;
    }
    while (UNLIKELY(t->twins) && key_slot_is(s + 1, hash)) {
        s++;
    }
    return s->value;
}

/* False when the entries do not fit the slack of the larger table, or the budget is used up. */
static bool grow(struct key_table *t) {
    struct key_table bigger = *t;
    bigger.shift -= GROW_SHIFT;
    uint64_t homes = t->homes_max >> bigger.shift;
    uint64_t more = (room_of(homes) - t->room) * sizeof *t->slots;
    if (t->homes && t->budget->held + more > t->budget->max) {
        return false;
    }
    table_alloc(&bigger, homes);
    uint64_t free_at = 0;
    for (uint64_t i = 0; i < t->room; i++) {
        if (!t->slots[i].value) {
            continue;
        }
        uint64_t home = key_scale(t->slots[i].hash, bigger.homes);
        uint64_t at = home > free_at ? home : free_at;
        if (at + 1 >= bigger.room) {
            table_free(&bigger);
            return false;
        }
        bigger.slots[at] = t->slots[i];
        free_at = at + 1;
    }
    table_free(t);
    *t = bigger;
    return true;
}

/* Puts an entry in front of what stands at the slot. That moves the last empty slot by one at most,
 * so the one before the last need only be empty now. */
static inline bool insert_at(struct key_table *t, struct key_entry *slot, uint64_t hash,
                             uint64_t value) {
    struct key_entry moving = { hash, value };
    if (UNLIKELY(t->slots[t->room - 2].value)) {
        return false;
    }
    while (moving.value) {
        struct key_entry here = *slot;
        *slot++ = moving;
        moving = here;
    }
    t->count++;
    return true;
}

/* At most 3/4 of the homes are taken. */
static bool has_room(struct key_table *t) {
    if (LIKELY(t->count < t->homes - t->homes / 4)) {
        return true;
    }
    return t->shift && grow(t);
}

bool key_table_set(struct key_table *t, uint64_t hash, uint64_t value) {
    struct key_entry *s = key_table_seek(t, hash);
    note_loc(t, value);
    if (key_slot_is(s, hash)) {
        while (UNLIKELY(t->twins) && key_slot_is(s + 1, hash)) {
            key_table_erase_at(t, s + 1);
        }
        s->value = value;
        return true;
    }
    if (UNLIKELY(!has_room(t))) {
        return false;
    }
    return insert_at(t, key_table_seek(t, hash), hash, value);
}

bool key_table_append(struct key_table *t, uint64_t hash, uint64_t value) {
    if (UNLIKELY(!has_room(t))) {
        return false;
    }
    struct key_entry *s = key_table_seek(t, hash);
    note_loc(t, value);
    if (LIKELY(!key_slot_is(s, hash))) {
        return insert_at(t, s, hash, value | VALUE_APPENDED);
    }
    for (; key_slot_is(s, hash); s++) {
        if (s->value == VALUE_TOMB) { /* the only one of its hash: it knew that nothing lives */
            s->value = value;
            return true;
        }
        if (key_value_loc(s->value) == key_value_loc(value)) {
            return true; /* the call is made again */
        }
    }
    if (!insert_at(t, s, hash, value | VALUE_APPENDED)) {
        return false;
    }
    t->twins++;
    return true;
}

void key_table_erase_at(struct key_table *t, struct key_entry *slot) {
    bool twin =
        (slot > t->slots && key_slot_is(slot - 1, slot->hash)) || key_slot_is(slot + 1, slot->hash);
    t->twins -= twin;
    struct key_entry *next = slot + 1;
    while (next->value && &t->slots[key_scale(next->hash, t->homes)] < next) {
        next++;
    }
    memmove(slot, slot + 1, (size_t)(next - slot - 1) * sizeof *slot);
    next[-1] = (struct key_entry){ 0 };
    t->count--;
}

void key_table_erase(struct key_table *t, uint64_t hash) {
    struct key_entry *s = key_table_seek(t, hash);
    while (key_slot_is(s, hash)) {
        key_table_erase_at(t, s);
    }
}
