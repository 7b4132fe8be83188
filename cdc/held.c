/* Batches that wait; see held.h. */
#include "cdc/held.h"

#include <stdlib.h>

void held_init(struct held *h, const struct spool_ops *ops, void *spool) {
    *h = (struct held){ .ops = ops, .spool = spool, .loaded = UINT32_MAX };
}

void held_release(struct held *h) {
    for (uint32_t i = 0; i < h->count; i++) {
        struct held_slot *s = &h->slots[i];
        batch_unref(s->batch);
        if (s->spooled) {
            spool_drop(h->ops, h->spool, s->spool_id);
        }
        schema_unref(s->schema);
        txlist_unref(s->txs);
    }
    free(h->slots);
    held_init(h, h->ops, h->spool);
}

uint32_t held_add(struct held *h, struct batch *take_batch) {
    CHECK(take_batch->sealed && take_batch->txs);
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 8;
        h->slots = xrealloc(h->slots, h->cap * sizeof(*h->slots));
    }
    h->slots[h->count] = (struct held_slot){
        .batch = take_batch,
        .schema = schema_ref(take_batch->schema),
        .txs = txlist_ref(take_batch->txs),
    };
    h->bytes += take_batch->bytes;
    h->kept += sizeof(struct held_slot) + take_batch->txs->count * sizeof(struct tx);
    return h->count++;
}

const struct batch *held_get(struct held *h, uint32_t slot, struct err *err) {
    CHECK(slot < h->count);
    struct held_slot *s = &h->slots[slot];
    if (s->batch) {
        return s->batch;
    }
    if (h->loaded != UINT32_MAX) {
        batch_unref(h->slots[h->loaded].batch);
        h->slots[h->loaded].batch = NULL;
        h->loaded = UINT32_MAX;
    }
    s->batch = spool_get(h->ops, h->spool, s->spool_id, s->schema, s->txs, err);
    if (s->batch) {
        h->loaded = slot;
    }
    return s->batch;
}

int held_spill(struct held *h, struct err *err) {
    for (; h->first_in_memory < h->count; h->first_in_memory++) {
        struct held_slot *s = &h->slots[h->first_in_memory];
        if (spool_put(h->ops, h->spool, s->batch, &s->spool_id, err)) {
            return -1;
        }
        s->spooled = true;
        h->bytes -= s->batch->bytes;
        batch_unref(s->batch);
        s->batch = NULL;
    }
    return 0;
}
