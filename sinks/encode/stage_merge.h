/* The changes of a stage item in the order in which they must be written: (transaction, n) across
 * its batches, an update's two rows as one change. A binary heap of one cursor a batch; an item of
 * one batch costs nothing extra. Thread: the owner's. Batches are borrowed until the next
 * stage_merge_begin. */
#pragma once
#include "cdc/sink.h"

struct stage_change {
    enum row_kind kind; /* of the first row */
    uint32_t batch;     /* index in the item's batches, of the first row */
    uint32_t row;
    bool paired; /* an UPDATE_BEFORE whose UPDATE_AFTER is row `after_row` of batch `after_batch` */
    uint32_t after_batch, after_row;
};
struct stage_merge {
    const struct stage_item *item;
    uint32_t *at;   /* next row of each batch */
    uint32_t *heap; /* indexes of batches that have rows left, the least first */
    uint32_t heap_count;
    uint32_t cap;
    bool one_txlist;
};
void stage_merge_init(struct stage_merge *m);
void stage_merge_release(struct stage_merge *m);
void stage_merge_begin(struct stage_merge *m, const struct stage_item *item);
bool stage_merge_next(struct stage_merge *m, struct stage_change *out);
