/* A segment: a stretch of the log as its reader hands it on. Its batches hold the rows of the
 * tables it touched, its txlist the transactions; `to` says how far the log is read.
 *
 * Within a segment the order of two rows is (tx, n); a table may have several batches (size, or a
 * schema change between them), in order. A segment without batches only says that the log was read
 * up to `to`. at_border: no transaction is open at its end, so a barrier or a join may be placed
 * there. A transaction larger than a segment spans several; its entry is then in the txlist of each
 * of them with the same id. Sources deliver only transactions known to be committed. */
#pragma once
#include "cdc/batch.h"

struct segment {
    struct txlist *txs;     /* owned; may be NULL without batches */
    struct batch **batches; /* owned references, sealed */
    uint32_t batch_count;
    uint32_t batch_cap;
    struct logpos to;     /* applied: everything at or below it is in this or an earlier segment */
    struct logpos resume; /* the log must be read again from here (= to, unless a prepared
                             transaction needs more) */
    bool at_border;
    size_t bytes; /* of the batches */
};
struct segment *segment_new(void);
void segment_free(struct segment *segment); /* NULL allowed */
void segment_add(struct segment *segment,
                 struct batch *take_batch); /* takes the reference; seals it if it is not */
