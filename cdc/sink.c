/* What the sink door hands over is released here, and what it is handed is checked, the same for
 * every target. */
#include "cdc/sink.h"

#include <stdlib.h>

#include "cdc/sink_call.h"

void sink_state_release(struct sink_state *s) {
    for (uint32_t i = 0; i < s->schema_count; i++) {
        schema_unref(s->schemas[i]);
    }
    free(s->schemas);
    free(s->position);
    *s = (struct sink_state){ 0 };
}

void sink_description_init(struct sink_description *d) {
    *d = (struct sink_description){ 0 };
    buf_init(&d->lines, SIZE_MAX);
    buf_init(&d->json, SIZE_MAX);
}

void sink_description_release(struct sink_description *d) {
    buf_release(&d->lines);
    buf_release(&d->json);
}

int sink_describes_nothing(struct sink *s TR_UNUSED,
                           const struct source_catalogue *tables TR_UNUSED,
                           struct sink_description *out TR_UNUSED, struct err *err TR_UNUSED) {
    return 0;
}

int sink_sums_up_nothing(struct sink *s TR_UNUSED, struct buf *out TR_UNUSED,
                         struct err *err TR_UNUSED) {
    return 0;
}

void sink_ops_check(const struct sink_ops *ops) {
    CHECK(ops->name && ops->writers_max && ops->freshness_us > 0);
    CHECK(ops->open && ops->close && ops->examine && ops->describe && ops->peek && ops->recover);
    CHECK(ops->apply_schema && ops->commit && ops->resolve && ops->summary);
    CHECK(ops->writer_open && ops->writer_close && ops->writer_stage && ops->writer_seal);
    CHECK(ops->part_free);
}

void sink_request_check(const struct sink *s, const struct commit_request *req) {
    CHECK(!s->doubtful_seq && (s->recovered || !s->ops->owns_position));
    CHECK(req->epoch == s->epoch && req->seq == s->seq + 1);
    CHECK(req->to && (req->from != NULL) == s->positioned);
    CHECK(req->parts && req->part_count && req->part_count <= s->ops->writers_max);
    CHECK(!req->position_only || (req->rows == 0 && !req->schemas_changed));
    for (uint32_t i = 1; i < req->inconsistent_count; i++) {
        CHECK(strcmp(req->inconsistent[i - 1], req->inconsistent[i]) <= 0);
    }
    for (uint32_t i = 1; i < req->schema_count; i++) {
        CHECK(req->schemas[i - 1]->table_id < req->schemas[i]->table_id);
    }
}

void sink_item_check(const struct stage_item *item) {
    if (item->kind == STAGE_GENERATION) {
        CHECK(item->count == 0 && item->schema && item->generation);
        return;
    }
    CHECK(item->count && (item->kind != STAGE_REMOVE || item->count == 1));
    const struct txlist *txs = item->batches[0]->txs;
    CHECK(txs || item->count == 1);
    for (uint32_t i = 0; i < item->count; i++) {
        CHECK(item->batches[i]->sealed && item->batches[i]->txs == txs);
    }
}
