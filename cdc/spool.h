/* The spool door: held rows beyond memory. The engine gives a spool on disk, tests one in memory.
 * What is in it is disposable: it is never the truth, and is discarded at every start. Callers go
 * through the functions below the table. Thread: the merge task. */
#pragma once
#include "cdc/batch.h"

/* Keeps a copy of a sealed batch; *id reads it again. */
typedef int (*spool_put_fn)(void *spool, const struct batch *batch, uint64_t *id, struct err *err);
/* An own batch with the same rows, sealed; NULL with err. The entry stays until it is dropped. */
typedef struct batch *(*spool_get_fn)(void *spool, uint64_t id, struct schema *schema,
                                      struct txlist *txs, struct err *err);
typedef void (*spool_drop_fn)(void *spool, uint64_t id);
/* Held data reached its limit. */
typedef bool (*spool_full_fn)(void *spool);

struct spool_ops {
    spool_put_fn put;
    spool_get_fn get;
    spool_drop_fn drop;
    spool_full_fn full;
};

static inline TR_MUST_CHECK int spool_put(const struct spool_ops *ops, void *spool,
                                          const struct batch *batch, uint64_t *id,
                                          struct err *err) {
    CHECK(batch->sealed && batch->rows);
    err_before_call(err);
    return err_after_call(ops->put(spool, batch, id, err), err);
}
static inline TR_MUST_CHECK struct batch *spool_get(const struct spool_ops *ops, void *spool,
                                                    uint64_t id, struct schema *schema,
                                                    struct txlist *txs, struct err *err) {
    err_before_call(err);
    struct batch *batch = ops->get(spool, id, schema, txs, err);
    err_after_call(batch ? 0 : -1, err);
    CHECK(!batch || (batch->sealed && batch->txs == txs));
    return batch;
}
static inline void spool_drop(const struct spool_ops *ops, void *spool, uint64_t id) {
    ops->drop(spool, id);
}
static inline bool spool_full(const struct spool_ops *ops, void *spool) { return ops->full(spool); }
