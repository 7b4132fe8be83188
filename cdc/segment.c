/* Segments: a list of batches and what is known of the stretch of the log they come from. One owner
 * at a time. */
#include "cdc/segment.h"

#include <stdlib.h>

struct segment *segment_new(void) {
    return xcalloc(1, sizeof(struct segment));
}

void segment_free(struct segment *segment) {
    if (!segment) {
        return;
    }
    for (uint32_t i = 0; i < segment->batch_count; i++) {
        batch_unref(segment->batches[i]);
    }
    free(segment->batches);
    txlist_unref(segment->txs);
    free(segment);
}

void segment_add(struct segment *segment, struct batch *take_batch) {
    if (!take_batch->sealed) {
        batch_seal(take_batch);
    }
    if (segment->batch_count == segment->batch_cap) {
        CHECK(segment->batch_cap <= UINT32_MAX / 2);
        segment->batch_cap = segment->batch_cap ? segment->batch_cap * 2 : 4;
        segment->batches = xrealloc(segment->batches, segment->batch_cap * sizeof(struct batch *));
    }
    segment->batches[segment->batch_count++] = take_batch;
    segment->bytes += take_batch->bytes;
}
