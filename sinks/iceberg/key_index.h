/* The key index of one table: key -> where its live row lies (file, position in it). A cache of the
 * table: it says which snapshot it describes, and whoever opens it compares, follows or rebuilds.
 *
 *   memory tier      open addressing, what changed since the last run was written
 *   runs             immutable files, sorted by hash, mapped; a filter each; newest first. Merged by size so
 *                    that few are left
 *   collisions       keys that share all 64 bits of their hash with another live key, whole
 *
 * Keys are known by a 64-bit hash (hash_bytes over key.h's encoding). A hash that is found is the key
 * itself where the key must be live (a streamed update or delete); where it need not be (a streamed
 * insert, a backfill) the caller compares the row in the file and, if it is another key, says so with
 * key_index_collide. Two entries of one hash that meet when runs are merged and of which neither replaced
 * the other are reported to `ask`, which reads both rows' keys from their files.
 *
 * A location is file << 40 | position: 24 bits of file number, 40 of position. Numbers of files are the
 * caller's; they are kept in the index's own table by path only (key_index_file).
 *
 * Durability: none needed. Nothing uncommitted survives: runs written since the last
 * key_index_checkpoint are no part of what open finds. A damaged or missing file, or another tag than asked = not there
 * (`*found` false), and the caller rebuilds. Thread: its owner. Locks: none. */
#pragma once
#include "cdc/base/env.h"

#define KEY_LOC_NONE UINT64_MAX
#define KEY_LOC_FILE(loc) ((uint32_t)((loc) >> 40))
#define KEY_LOC_POS(loc) ((loc) & ((UINT64_C(1) << 40) - 1))
static inline uint64_t key_loc(uint32_t file, uint64_t pos) {
    return (uint64_t)file << 40 | pos;
}

struct key_index;
struct key_index_config {
    struct files *files;
    const char *dir;       /* the table's own folder of the cache; made if absent */
    uint64_t memory_bytes; /* of the memory tier and of merging, not of mapped pages */
    /* Of two live rows with one hash: are they one key? 1 yes (then the one staged later lives), 0
     * no: the full keys are put to a, b; -1 err. Called where runs are merged. */
    int (*ask)(void *arg, uint64_t loc_a, uint64_t loc_b, struct buf *key_a, struct buf *key_b,
               struct err *err);
    void *ask_arg;
};
/* tag: what the index must describe, e.g. "<table uuid>/<snapshot id>"; NULL = begin empty. */
int key_index_open(const struct key_index_config *config, const char *tag, bool *found,
                   struct key_index **out, struct err *err);
void key_index_close(struct key_index *ix); /* NULL allowed; what was not checkpointed is gone */

/* Many at once: locs[i] = where the key of hashes[i] lives, KEY_LOC_NONE if nowhere. Probes are ordered
 * by hash within, so that runs are walked and not jumped through. Of a hash with collisions the
 * answer is KEY_LOC_ASK: the caller takes key_index_find_key. */
#define KEY_LOC_ASK (UINT64_MAX - 1)
int key_index_find(struct key_index *ix, const uint64_t *hashes, uint32_t count, uint64_t *locs,
                   struct err *err);
uint64_t key_index_find_key(struct key_index *ix, uint64_t hash, const void *key, size_t len);
/* The key's row is now at loc, whatever was known of it. */
int key_index_put(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs, uint32_t count,
                  struct err *err);
int key_index_put_key(struct key_index *ix, uint64_t hash, const void *key, size_t len, uint64_t loc, struct err *err);
/* The keys live nowhere. */
int key_index_remove(struct key_index *ix, const uint64_t *hashes, uint32_t count, struct err *err);
int key_index_remove_key(struct key_index *ix, uint64_t hash, const void *key, size_t len, struct err *err);
/* New keys that need no probe: cheaper than put. Two that meet later are asked about. */
int key_index_append(struct key_index *ix, const uint64_t *hashes, const uint64_t *locs, uint32_t count, struct err *err);
/* The rows at these two places have one hash and are two keys. */
int key_index_collide(struct key_index *ix, uint64_t hash, const void *key_a, size_t a_len,
                      uint64_t loc_a, const void *key_b, size_t b_len, uint64_t loc_b, struct err *err);

/* From now on the index, as it is, is what open finds under tag. Cheap: the memory tier is
 * written only when asked (`whole`) or full; without `whole` what is stored is the last whole tag, from which
 * the caller follows the table. */
int key_index_checkpoint(struct key_index *ix, const char *tag, bool whole, struct err *err);
const char *key_index_tag(const struct key_index *ix); /* of the last whole checkpoint; NULL = none */

struct key_index_size {
    uint64_t keys;          /* entries, replaced ones of unmerged runs counted */
    uint64_t memory_bytes;  /* anonymous */
    uint64_t mapped_bytes;  /* of run files */
    uint32_t runs;
};
void key_index_size(const struct key_index *ix, struct key_index_size *out);
