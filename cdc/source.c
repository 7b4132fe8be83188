/* What the source door hands over is released and checked here, the same for every connector. */
#include "cdc/source.h"

#include <stdlib.h>

#include "cdc/source_call.h"

void source_catalogue_release(struct source_catalogue *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        schema_unref(c->tables[i].schema);
    }
    free(c->tables);
    *c = (struct source_catalogue){ 0 };
}

void chunk_view_release(struct chunk_view *v) {
    snapshot_release(&v->snapshot);
    schema_unref(v->schema);
    *v = (struct chunk_view){ 0 };
}

void source_ops_check(const struct source_ops *ops) {
    CHECK(ops->name && ops->open && ops->close && ops->examine && ops->catalogue && ops->start);
    CHECK(ops->capture && ops->probe && ops->nudge && ops->log_end && ops->status);
    CHECK(ops->drop && ops->drop_plan && ops->slots);
    CHECK(ops->log_open && ops->log_close && ops->log_next && ops->log_idle);
    CHECK(ops->log_ack && ops->log_wake && ops->log_want);
    CHECK(ops->lane_open && ops->lane_close && ops->lane_cut && ops->lane_begin && ops->lane_join);
    CHECK(ops->lane_read && ops->lane_next && ops->lane_stop && ops->lane_end);
    CHECK(ops->rewritten && ops->put_logpos && ops->take_logpos);
}

void source_segment_check(const struct source_log *log, const struct segment *segment) {
    CHECK(segment->txs || segment->batch_count == 0);
    CHECK(logpos_cmp(segment->to, log->to) >= 0 && logpos_cmp(segment->resume, segment->to) <= 0);
    for (uint32_t i = 0; i < segment->batch_count; i++) {
        const struct batch *b = segment->batches[i];
        CHECK(b->sealed && b->rows && b->kinds && b->txs == segment->txs);
    }
}

void source_batch_check(const struct batch *batch) {
    CHECK(batch->sealed && batch->rows && !batch->kinds && !batch->txs);
}
