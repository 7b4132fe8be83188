/* What a window of changes comes to, key by key: the row that is left of each key, and what must be
 * known of the key before. So a row that is changed ten times in a window is probed, killed and
 * written once, and one that comes and goes in it never reaches a file.
 *
 *   first change of a key in the window   it must have been        `was`
 *   insert, or moved here by an update    nowhere                  ICE_WAS_ABSENT (`over`: ANY)
 *   update, delete                        in the table             ICE_WAS_LIVE
 *   snapshot row read again, hole         either                   ICE_WAS_ANY
 *
 * Cells that the log did not carry equal those of the row before: where that one is in the window
 * they are filled in here; where it is stored, `carry` names the entry under whose key it is
 * stored.
 *
 * Soft deletes (`soft`): a deleted row is left, too, with what it held before; its kind is
 * ROW_DELETE, or ROW_UPDATE_BEFORE for one whose key moved away. Thread: its owner. */
#pragma once
#include "cdc/key.h"
#include "sinks/encode/stage_merge.h"

#define ICE_FOLD_NONE UINT32_MAX
#define ICE_FOLD_CHANGES_MAX 4096u
#define ICE_FOLD_FILLED_BYTES (8u << 20) /* of rows filled in: then the window is full, too */

enum ice_was { ICE_WAS_ANY, ICE_WAS_LIVE, ICE_WAS_ABSENT };

struct ice_fold_entry {
    uint64_t hash; /* of the key's bytes, for the window only */
    size_t key_at; /* in ice_fold.keys */
    size_t key_len;
    enum ice_was was;
    bool gone;            /* somewhere in the window nothing was left of it */
    bool deleted;         /* soft: the row that is left is a deleted one */
    uint32_t first_batch; /* the row in which the key was first met */
    uint32_t first_row;
    uint32_t batch; /* of the row that is left, in ice_fold.batches; NONE = no row is left */
    uint32_t row;
    uint32_t carry; /* index of an entry; NONE = the row has all its cells */
};
struct ice_fold {
    bool soft; /* set while the fold is empty */
    bool over; /* an insert may hit a row that lives: truncates are passed over */
    struct buf keys;
    struct ice_fold_entry *entries; /* in order of first sight */
    uint32_t count;
    uint32_t changes;       /* added since begin */
    struct batch **batches; /* borrowed: those rows were added from; the last may be `filled` */
    uint32_t batch_count, batch_cap;
    struct batch *filled; /* owned; rows with cells filled in; NULL = none */
    size_t filled_bytes;  /* of cells */
    uint32_t *slots;      /* open addressing: entry index + 1 */
    uint32_t slot_count;
    struct buf key; /* scratch */
};
void ice_fold_init(struct ice_fold *f);
void ice_fold_release(struct ice_fold *f);
/* Forgets everything. The batches of what follows stay as they are until the next begin. */
void ice_fold_begin(struct ice_fold *f);
static inline bool ice_fold_full(const struct ice_fold *f) {
    return f->changes >= ICE_FOLD_CHANGES_MAX || f->filled_bytes >= ICE_FOLD_FILLED_BYTES;
}
/* One change of a log. Rows of one schema. Its key cells must be carried and not null: else
 * ERR_FATAL "key_missing". No truncates. */
int ice_fold_change(struct ice_fold *f, const struct stage_item *item,
                    const struct stage_change *change, struct err *err);
/* A snapshot row, whatever was there before (was ANY). */
int ice_fold_row(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err);
/* Takes the key of that row out, if it is there. */
int ice_fold_remove(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err);
/* The log inserts a key that lives: ERR_FATAL "insert_of_live_key", with what can cause it. */
int ice_fold_refuse_live(const char *label, struct err *err);
/* The cure where a table of the lake is not what the log takes it for: a new generation. Returns
 * -1. */
int ice_cure_read_again(const char *label, struct err *err);
