/* Batches that wait: in memory first, in the spool when told so. One owner, pure but for the
 * spool's own files. */
#pragma once
#include "cdc/base/err.h"
#include "cdc/batch.h"
#include "cdc/spool.h"

struct held_slot {
    struct batch *batch; /* NULL while it is only in the spool */
    uint64_t spool_id;
    bool spooled;
    struct schema *schema; /* owned; to read it back */
    struct txlist *txs;    /* owned; may be NULL */
};
struct held {
    const struct spool_ops *ops;
    void *spool;
    struct held_slot *slots;
    uint32_t count;
    uint32_t cap;
    uint32_t first_in_memory; /* slots below it are spooled */
    uint32_t loaded;          /* slot read back from the spool, UINT32_MAX = none */
    size_t bytes;             /* in memory, of the batches */
    size_t kept;              /* in memory whatever is spilled: slots and transactions */
};
void held_init(struct held *h, const struct spool_ops *ops, void *spool);
void held_release(struct held *h);
/* Takes a sealed batch; gives its slot number. */
uint32_t held_add(struct held *h, struct batch *take_batch);
/* Borrowed until the next held_get or held_spill; NULL with err when the spool cannot give it. */
const struct batch *held_get(struct held *h, uint32_t slot, struct err *err);
/* Moves everything in memory to the spool. -1: the spool failed; what could not be moved stays in
 * memory. */
int held_spill(struct held *h, struct err *err);
