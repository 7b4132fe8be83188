/* The events that a chunk buffers, folded: one entry a key, its last state.
 *
 * Replaying (P0, J] in order over the rows that S saw ends, for each key, in the state after its
 * last event; cells which that event did not carry come from the event before it, and at the bottom
 * from the row of S. So events are folded as they come, and memory is bounded by the keys they
 * touch, not by their number. Pure; one owner. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/held.h"

struct overlay;
struct overlay *overlay_new(const struct spool_ops *ops, void *spool);
void overlay_free(struct overlay *o);
/* The row with this key now has these cells; not carried ones keep what they were. */
int overlay_put(struct overlay *o, const void *key, size_t key_len, const struct batch *src,
                uint32_t row, struct err *err);
void overlay_delete(struct overlay *o, const void *key, size_t key_len);
void overlay_truncate(struct overlay *o); /* every row before is gone, those of S too */
void overlay_cut(struct overlay *o, const struct buf *hi); /* forgets the keys at or above hi */
bool overlay_empty(const struct overlay *o);
struct schema *
overlay_schema(const struct overlay *o);       /* of its rows; borrowed; NULL before the first */
size_t overlay_bytes(const struct overlay *o); /* in memory */
int overlay_spill(struct overlay *o, struct err *err);

/* Laying it over the rows of S. rows: takes sealed snapshot batches in the order of the chunk.
 * hole: a key one of whose cells nobody carried. */
struct overlay_out {
    void (*rows)(void *arg, struct batch *take_batch);
    void (*hole)(void *arg, const void *key, size_t key_len);
    void *arg;
};
int overlay_apply(struct overlay *o, struct batch *take_rows, const struct overlay_out *out,
                  struct err *err);
/* After the last rows: what the rows of S did not hold. */
int overlay_finish(struct overlay *o, const struct overlay_out *out, struct err *err);
