/* The key index of one table: key -> where its live row lies (file, position in it). A cache of the
 * table: it says which snapshot it describes, and whoever opens it compares, follows or rebuilds.
 *
 *   memory tier   a hash table kept in hash order: what changed since the last run was written
 *   runs          immutable files, sorted by hash, mapped, a filter each; newest first; merged by
 *                 size so that few are left
 *   collisions    keys that share all 64 bits of their hash with another live key, whole
 *
 * Keys are known by a 64-bit hash (hash_bytes over ice_key.h's form). A hash that is found is the
 * key itself where the key must be live (a streamed update or delete); where it need not be (a
 * streamed insert, a backfill) the caller compares the row in the file and, if it is another key,
 * says so with key_index_collide. An entry is either *put* (the caller knew what was there: it
 * replaces everything older of its hash) or *appended* (nobody looked). An appended one that meets
 * another live one of its hash, when runs merge or when it is asked for, is one key or two: the
 * rows' keys are read. One key: the later one lives. Two: both are kept with their full keys.
 *
 * Durability: none needed. Nothing uncommitted survives: what came after the last whole
 * key_index_checkpoint is no part of what open finds. Two checkpoints are there to be found, the
 * last and the one before it: so a caller that makes the next one only when it knows that the last
 * one's snapshot is committed always finds one that is. Nothing is synced: directories, tables and
 * the manifest are checked when the index is opened, the pages of runs when they are first touched
 * (a checksum of 8 KiB each, once). A damaged or missing file at open = not there; damage met later
 * is ERR_REWIND "index_damaged", after which open finds nothing. Either way the caller rebuilds.
 * What the disk refuses to give to a mapping is the kernel's SIGBUS.
 *
 * Errors of files pass through. After any error a call may be made again with the same arguments.
 * Thread: its owner. Locks: none. */
#pragma once
#include "cdc/base/env.h"

/* A location is file << 36 | position: 26 bits of file number, 36 of position. */
#define KEY_LOC_NONE UINT64_MAX
#define KEY_LOC_ASK (UINT64_MAX - 1)
#define KEY_LOC_POS_BITS 36
#define KEY_FILE_MAX ((UINT32_C(1) << 26) - 1)
#define KEY_LOC_FILE(loc) ((uint32_t)((loc) >> KEY_LOC_POS_BITS))
#define KEY_LOC_POS(loc) ((loc) & ((UINT64_C(1) << KEY_LOC_POS_BITS) - 1))
static inline uint64_t key_loc(uint32_t file, uint64_t pos) {
    return (uint64_t)file << KEY_LOC_POS_BITS | pos;
}

/* What the indexes of one thread share: scratch, and the memory of their memory tiers. A tier that
 * may not grow is written out as a run, and the caller has others give theirs up (key_index_yield)
 * before that happens often. */
struct key_shared;
struct key_shared *key_shared_new(uint64_t tier_bytes); /* of all of them */
void key_shared_free(struct key_shared *shared);        /* after all of them; NULL allowed */
uint64_t key_shared_held(const struct key_shared *shared);

struct key_index;
struct key_index_config {
    struct files *files;
    const char *dir;           /* the table's own folder of the cache; made if absent */
    struct key_shared *shared; /* NULL = its own */
    uint64_t memory_bytes;     /* anonymous memory of all tiers, merging and rebuilding included,
                                  besides file names and collisions; some 6 MiB are the least */
    /* Puts the encoded key of the row at loc; out is empty. Called from any function below that
     * takes an err, but only for rows whose hashes are equal, so next to never. A row that cannot
     * be read yet (its file is still open): end that file first, or fail: the failed call may be
     * made again later. */
    int (*read_key)(void *arg, uint64_t loc, struct buf *out, struct err *err);
    void *read_key_arg;
};
/* Which tag the folder's last whole checkpoint has, or the one before it; empty if it cannot be
 * read. */
void key_index_stored(struct files *files, const char *dir, bool before, struct buf *tag);
/* tags: what the index may describe, e.g. "<table uuid>/<snapshot id>", the best first. *found =
 * which of them it is. Where it is none (*found == count) it begins empty. What else lay in the
 * folder is removed. */
int key_index_open_any(const struct key_index_config *config, const char *const *tags,
                       uint32_t count, uint32_t *found, struct key_index **out, struct err *err);
/* The same for one tag; NULL = begin empty. */
int key_index_open(const struct key_index_config *config, const char *tag, bool *found,
                   struct key_index **out, struct err *err);
/* What is stored in the folder is not found any more, whoever has it open: it is wrong. Nothing
 * that its owner stores meanwhile under the tag of a commit that fails is found, either. */
void key_index_void(struct files *files, const char *dir);
/* NULL allowed; what was not checkpointed is gone. */
void key_index_close(struct key_index *ix);

/* Numbers for the paths of data files, stored with the index. A number is never used again, not
 * after key_index_drop or key_index_clear either. The same path gives the same number; ERR_REWIND
 * "index_full" (and the index is gone) when there are none left. */
int key_index_file(struct key_index *ix, const char *path, uint32_t *number, struct err *err);
const char *key_index_path(const struct key_index *ix, uint32_t number); /* NULL: none, dropped */

/* All paths: begins with *at = 0; false at the end. The file just told may be forgotten: no row of
 * it lives, and its number is not used again. */
bool key_index_next_path(const struct key_index *ix, size_t *at, uint32_t *number,
                         const char **path);
void key_index_forget(struct key_index *ix, uint32_t number);

/* Many at once: locs[i] = where the key of hashes[i] lives, KEY_LOC_NONE if nowhere. Probes are
 * ordered by hash within, so that runs are walked and not jumped through: give many. Of a hash with
 * collisions the answer is KEY_LOC_ASK: the caller takes the _key functions. */
int key_index_find(struct key_index *ix, const uint64_t *hashes, uint32_t count, uint64_t *locs,
                   struct err *err);
int key_index_find_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                       uint64_t *loc, struct err *err);
/* The key's row is now at loc. The caller knows (from a key_index_find, after which nothing of this
 * hash was appended) that no other key of this hash lives, or the hash collides already. Two keys
 * of one hash that are both new in one batch are the caller's to notice. */
int key_index_put(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                  uint32_t count, struct err *err);
int key_index_put_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                      uint64_t loc, struct err *err);
/* The keys live nowhere. Of a hash that collides: ERR_FATAL "index_ask", use remove_key. */
int key_index_remove(struct key_index *ix, const uint64_t *hashes, uint32_t count, struct err *err);
int key_index_remove_key(struct key_index *ix, uint64_t hash, const void *key, size_t len,
                         struct err *err);
/* New keys, nobody looked: cheaper than find and put. Two of one hash are told apart later. */
int key_index_append(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs,
                     uint32_t count, struct err *err);
/* The rows at these two places have one hash and are two keys. */
int key_index_collide(struct key_index *ix, uint64_t hash, const void *key_a, size_t a_len,
                      uint64_t loc_a, const void *key_b, size_t b_len, uint64_t loc_b,
                      struct err *err);

/* All rows of the files first..last are void: their keys live nowhere. Cost: a walk over the memory
 * tier; runs forget them when they merge. A key that was appended while it lived (which no
 * caller means to do), and whose later row is void before anybody asked, lives at its older one. */
int key_index_drop(struct key_index *ix, uint32_t first, uint32_t last, struct err *err);
/* All rows of all files are void (truncate, a new generation). */
int key_index_clear(struct key_index *ix, struct err *err);
uint64_t key_index_tier_bytes(const struct key_index *ix); /* of the memory tier */
/* Gives the memory tier up: what it holds is written as a run. */
int key_index_yield(struct key_index *ix, struct err *err);
/* Merges everything into one run: worth its time once, when a bulk load has ended. */
int key_index_merge(struct key_index *ix, struct err *err);

/* From now on the index, as it is, is what open finds under tag; what was stored last is found
 * under its own, and nothing older. Without `whole` this is free, and what is stored stays, from
 * which the caller follows the table, unless runs were written since: then it is whole anyhow. */
int key_index_checkpoint(struct key_index *ix, const char *tag, bool whole, struct err *err);
bool key_index_unstored(const struct key_index *ix); /* runs were written since */
/* Of the last whole checkpoint, or what was found; NULL = none. */
const char *key_index_tag(const struct key_index *ix);

struct key_index_size {
    uint64_t keys;         /* entries, replaced ones of unmerged runs counted */
    uint64_t memory_bytes; /* anonymous */
    uint64_t mapped_bytes; /* of run files */
    uint64_t disk_bytes;   /* of run files, with those that only a checkpoint needs */
    uint64_t collisions;   /* hashes of which more than one key lives */
    uint32_t runs;
};
void key_index_size(const struct key_index *ix, struct key_index_size *out);
