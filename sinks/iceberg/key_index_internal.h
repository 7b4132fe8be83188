/* What the parts of the key index share: how an entry is held, the memory tier, a run, its writer,
 * collisions. See key_index.h for what it is for; each part's own .c says how it works. Only
 * key_index*.c, their tests and their fuzz target include this. Thread: the index's owner. */
#pragma once
#include "cdc/base/map.h"
#include "sinks/iceberg/key_index.h"

/* ---- an entry: a hash and a value ----
 *   0                      nothing
 *   loc + 1                put: replaces everything older of its hash
 *   loc + 1, bit 63 set    appended: older ones of its hash may live besides
 *   VALUE_TOMB             removed: nothing of its hash lives */
#define VALUE_APPENDED (UINT64_C(1) << 63)
#define VALUE_TOMB (VALUE_APPENDED - 1)
#define KEY_LOC_END ((uint64_t)(KEY_FILE_MAX + 1) << KEY_LOC_POS_BITS)
struct key_entry {
    uint64_t hash;
    uint64_t value;
};
static inline uint64_t key_value(uint64_t loc) { return loc + 1; }
static inline uint64_t key_value_loc(uint64_t value) { return (value & ~VALUE_APPENDED) - 1; }
static inline bool key_value_lives(uint64_t value) { return value && value != VALUE_TOMB; }
/* The high half of the product: maps 0..2^64 onto 0..count, in order. */
static inline uint64_t key_scale(uint64_t hash, uint64_t count) {
    __extension__ unsigned __int128 product = (unsigned __int128)hash * count;
    return (uint64_t)(product >> 64);
}

/* Growing array of numbers. */
struct key_numbers {
    uint64_t *at;
    size_t count, cap;
};
void key_numbers_add(struct key_numbers *n, uint64_t number);
void key_numbers_release(struct key_numbers *n);

/* ---- the memory tier (key_index_memory.c) ---- */
struct key_budget {
    uint64_t max, held;
};
struct key_table {
    struct key_budget *budget;
    struct key_entry *slots; /* homes + slack; the last one is always empty. homes 0: no memory, and
                                nothing may be written to it */
    uint64_t homes, room;
    uint64_t homes_max;
    unsigned shift; /* homes = homes_max >> shift: it grows four times at a time */
    uint64_t count;
    uint64_t twins; /* entries that stand behind another of their hash */
    /* Of all locations that were put since it was clear. */
    uint64_t loc_low, loc_high, loc_or;
};
/* While it grows it takes a quarter more than bytes_max. It has no memory before its first entry,
 * gets its first in any case, and more as the budget allows. */
void key_table_init(struct key_table *t, uint64_t bytes_max, struct key_budget *budget);
void key_table_shrink(struct key_table *t); /* empty, and without memory */
void key_table_release(struct key_table *t);
static inline void key_table_prefetch(const struct key_table *t, uint64_t hash) {
    const struct key_entry *home = &t->slots[key_scale(hash, t->homes)];
    __builtin_prefetch(home, 1);
    __builtin_prefetch((const char *)home + 64, 1);
}
/* The first slot at or behind the hash's home that is empty or not below the hash. */
static inline struct key_entry *key_table_seek(const struct key_table *t, uint64_t hash) {
    struct key_entry *s = &t->slots[key_scale(hash, t->homes)];
    while (s->value && s->hash < hash) {
        s++;
    }
    return s;
}
static inline bool key_slot_is(const struct key_entry *s, uint64_t hash) {
    return s->value && s->hash == hash;
}
/* The newest of the hash; 0 = none. */
uint64_t key_table_newest(const struct key_table *t, uint64_t hash);
/* Both are false when the table is full: nothing changed; write a run and clear it. */
bool key_table_set(struct key_table *t, uint64_t hash, uint64_t value) TR_MUST_CHECK;
bool key_table_append(struct key_table *t, uint64_t hash, uint64_t value) TR_MUST_CHECK;
void key_table_erase(struct key_table *t, uint64_t hash); /* all of the hash */
void key_table_erase_at(struct key_table *t, struct key_entry *slot);
void key_table_clear(struct key_table *t);

/* ---- a run (key_index_run.c; its bytes: key_index_writer.c) ---- */
enum {
    KEY_PAGE_BYTES = 8192,
    KEY_FOOTER_WORDS = 16,
    KEY_FOOTER_BYTES = KEY_FOOTER_WORDS * 8,
    KEY_KIND_BITS = 2,
    KEY_FIELD_BITS_MAX = 57, /* what one unaligned load of 8 bytes gives */
};
enum key_kind { KIND_PUT = 0, KIND_APPENDED = 1, KIND_TOMB = 2 };
#define KEY_RUN_MAGIC UINT64_C(0x31304e5552584b54) /* "TKXRUN01" */
/* Shape of a run: in the footer, in this order, from word 1 on. */
struct key_shape {
    uint64_t entries;
    uint64_t body_bytes;  /* segments, one after another */
    uint64_t seg_bits;    /* the segment: the hash's top bits */
    uint64_t bucket_bits; /* the bucket in it: the next ones; what remains is stored */
    uint64_t file_min;    /* added to stored file numbers */
    uint64_t file_bits, pos_bits;
    uint64_t filter_words;                  /* of each segment */
    uint64_t file_low, file_high, pos_high; /* what really occurs; a position of as many bits */
    uint64_t twins;                         /* entries that stand behind another of their hash */
};
struct key_segment {
    uint64_t offset;
    uint64_t entries;
};
struct key_run {
    struct key_shape shape;
    const uint8_t *bytes;
    uint64_t len;
    const struct key_segment *segments;
    const uint32_t *page_sums;
    uint64_t *pages_seen; /* a bit each: its checksum was compared */
    uint64_t pages;
    uint32_t rem_bits, entry_bits;
    uint32_t footer_sum;
    uint64_t number; /* of its file */
    bool stored;     /* the manifest on disk names it */
};
/* Over bytes that stay: 0, or -1 damaged. Release frees what was made here, not the bytes. */
int key_run_open(struct key_run *r, const void *bytes, uint64_t len) TR_MUST_CHECK;
void key_run_release(struct key_run *r);
struct key_probe {
    uint64_t hash;
    uint32_t at;   /* in the caller's arrays */
    uint32_t seen; /* an appended entry was found already */
};
enum { KEY_PROBES_AT_ONCE = 64 };
/* values[i]: the newest of probes[i].hash; bit i of *more: another of its hash stands behind.
 * count <= KEY_PROBES_AT_ONCE. -1 damaged. */
int key_run_probe(struct key_run *r, const struct key_probe *probes, uint32_t count,
                  uint64_t *values, uint64_t *more) TR_MUST_CHECK;
/* Adds the values of all of the hash, newest first. -1 damaged. */
int key_run_all(struct key_run *r, uint64_t hash, struct key_numbers *out) TR_MUST_CHECK;
/* Walks all entries by hash, equal ones newest first. */
enum { KEY_CURSOR_ENTRIES = 256 };
struct key_cursor {
    struct key_run *run;
    uint64_t segment, bucket, entry;
    uint64_t last; /* hash */
    bool inside;   /* of a segment: its pages were compared */
    uint32_t at, count;
    struct key_entry entries[KEY_CURSOR_ENTRIES];
};
void key_cursor_init(struct key_cursor *c, struct key_run *run);
int key_cursor_fill(struct key_cursor *c) TR_MUST_CHECK; /* count 0 = the end; -1 damaged */
/* Parts of a segment, as offsets in the file. */
struct key_parts {
    uint64_t filter, dir, entries, end;
    uint32_t dir_width; /* bytes: 2 or 4 */
};
struct key_parts key_parts_of(const struct key_shape *s, uint32_t entry_bits, uint64_t offset,
                              uint64_t entries);
static inline uint64_t key_filter_mask(uint64_t hash) {
    uint64_t x = hash * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return UINT64_C(1) << (x >> 58) | UINT64_C(1) << (x >> 52 & 63) |
           UINT64_C(1) << (x >> 46 & 63) | UINT64_C(1) << (x >> 40 & 63) |
           UINT64_C(1) << (x >> 34 & 63);
}
/* bits: 0 to 63 */
static inline uint64_t key_top(uint64_t hash, uint64_t bits) { return hash >> 1 >> (63 - bits); }
static inline uint64_t key_low_mask(uint64_t bits) {
    return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}
static inline uint64_t key_filter_word(const struct key_shape *s, uint64_t hash) {
    return key_scale(hash << s->seg_bits, s->filter_words);
}

/* ---- writing a run (key_index_writer.c) ---- */
struct key_writer;
/* entries: at most so many will come. The shape's file_low, file_high and pos_high bound them. */
struct key_writer *key_writer_new(struct file *file, uint64_t entries,
                                  const struct key_shape *bounds);
int key_writer_add(struct key_writer *w, uint64_t hash, uint64_t value, struct err *err);
int key_writer_finish(struct key_writer *w, uint64_t *bytes, struct err *err);
uint64_t key_writer_entries(const struct key_writer *w);
void key_writer_free(struct key_writer *w); /* NULL allowed; the file is the caller's */

/* ---- the index (key_index.c, its life: key_index_store.c) ---- */
enum { KEY_RUNS_MAX = 64, KEY_DOUBTS_MAX = 4096 };
struct key_range {
    uint32_t first, last;
};
struct key_garbage {
    uint64_t number, bytes;
};
struct key_member {
    char *key; /* NULL: its row was not read yet */
    size_t len;
    uint64_t loc;
};
struct key_group {
    uint64_t hash;
    struct key_member *at; /* oldest first */
    size_t count, cap;
};
struct key_shared {
    struct key_budget budget;
    struct key_probe *probes;
    struct key_entry *entries;
};
struct key_index {
    struct key_index_config config;
    char *dir;
    struct key_table table;
    struct key_run *runs[KEY_RUNS_MAX]; /* newest first */
    uint32_t run_count;
    uint64_t next_run;
    bool unstored; /* the runs are not what the manifest on disk says */
    bool moved;    /* the manifest on disk is the older one's already: storing failed in between */
    bool broken;   /* damage was met */
    bool finding;  /* somebody asked since the memory tier was last written out */
    bool piled;    /* runs were left unmerged because nobody asked */
    struct key_numbers last, before; /* runs that the two manifests on disk name */
    struct key_garbage *garbage;     /* files of runs that only those still name */
    size_t garbage_count, garbage_cap;
    struct key_numbers doubts; /* hashes that have several entries, met when merging */
    struct key_range *dropped; /* files, ascending and apart */
    size_t dropped_count, dropped_cap;
    struct map *groups;  /* hash -> struct key_group */
    struct map *paths;   /* file number -> char *, in their order */
    struct map *numbers; /* path -> number + 1 */
    uint32_t next_file;
    char *tag;
    struct key_shared *shared, *own;
    struct key_probe *probes;  /* of one piece of a find: the shared ones */
    struct key_entry *entries; /* of one piece of a put */
    struct key_numbers asked;  /* of one piece: those of which more than one may live */
};
enum { KEY_FIND_PIECE = 65536, KEY_PUT_PIECE = 16384 };
/* Puts into the memory tier, making room where there is none. */
int key_index_set(struct key_index *ix, uint64_t hash, uint64_t value, struct err *err);
/* The table is full. appended: by an append. */
int key_index_make_room(struct key_index *ix, bool appended, struct err *err);
int key_index_damaged(struct key_index *ix, struct err *err); /* -1 */
static inline TR_MUST_CHECK int key_index_usable(struct key_index *ix, struct err *err) {
    return LIKELY(!ix->broken) ? 0 : key_index_damaged(ix, err);
}
bool key_index_is_dropped(const struct key_index *ix, uint32_t file);
/* The value less what was dropped: an appended one is then nothing, a put one a tomb. */
static inline uint64_t key_index_alive(const struct key_index *ix, uint64_t value) {
    if (LIKELY(!ix->dropped_count) || !key_value_lives(value) ||
        !key_index_is_dropped(ix, KEY_LOC_FILE(key_value_loc(value)))) {
        return value;
    }
    return value & VALUE_APPENDED ? 0 : VALUE_TOMB;
}

/* ---- runs and merging (key_index_merge.c) ---- */
int key_index_spill(struct key_index *ix, struct err *err); /* the table becomes a run */
/* bulk: nobody asks, so more runs may stand. */
int key_index_merge_some(struct key_index *ix, bool bulk, struct err *err);
int key_index_merge_newest(struct key_index *ix, uint32_t count, struct err *err);
char *key_index_run_path(const char *dir, uint64_t number); /* to be freed */
/* Maps a run's file. FILES_ABSENT: absent or damaged. */
enum files_result key_index_load(struct files *files, const char *dir, uint64_t number,
                                 struct key_run **out, struct err *err);
void key_index_unload(struct key_index *ix, struct key_run *run);
void key_index_discard(struct key_index *ix,
                       struct key_run *run); /* and its file, when it may go */

/* ---- collisions (key_index_collide.c) ---- */
static inline struct key_group *key_index_group(const struct key_index *ix, uint64_t hash) {
    return map_count(ix->groups) ? map_get(ix->groups, &hash, sizeof hash) : NULL;
}
void key_group_free(void *group);
/* A row of the group whose key nobody read yet; later than all others. */
void key_group_add_unknown(struct key_group *g, uint64_t loc);
void key_group_set(struct key_group *g, const void *key, size_t len, uint64_t loc);
void key_group_unset(struct key_group *g, const void *key, size_t len);
uint64_t key_group_get(const struct key_group *g, const void *key, size_t len); /* or NONE */
struct key_group *key_index_group_new(struct key_index *ix, uint64_t hash);
/* Reads the keys of all members. The group is gone when fewer than two are left: *g NULL then. */
int key_index_settle(struct key_index *ix, struct key_group **g, struct err *err);
int key_index_settle_all(struct key_index *ix, struct err *err);
/* Which keys of this hash live, if more than one may: *loc is the answer of find. */
int key_index_resolve(struct key_index *ix, uint64_t hash, uint64_t *loc, struct err *err);
int key_index_drop_members(struct key_index *ix, struct err *err); /* those that were dropped */

/* ---- the manifest (key_index_manifest.c) ---- */
#define KEY_MANIFEST_NAME "manifest"
#define KEY_MANIFEST_BEFORE KEY_MANIFEST_NAME ".before"
struct key_manifest_run {
    uint64_t number, bytes;
    uint32_t sum;
};
/* Reads it into an index that has no runs, groups or paths; the runs are only named. -1: damaged;
 * what was read so far is to be cleared. tag is put anew. */
int key_manifest_take(struct key_index *ix, const void *p, size_t n, struct key_manifest_run *runs,
                      uint32_t *run_count) TR_MUST_CHECK;
void key_manifest_put(const struct key_index *ix, const char *tag, struct buf *out);
/* The tag of a manifest alone; -1 damaged. */
int key_manifest_tag(const void *p, size_t n, struct buf *tag) TR_MUST_CHECK;
