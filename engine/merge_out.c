/* Routing: what the hybrid algorithm emits becomes stage items of the writers. What people see as
 * one table, a table made again under its name included, always goes to the same writer, so that
 * the order of its rows is the order in which they were emitted. */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/map.h"
#include "engine/merge.h"

#define SLOW_US (1 * US_PER_S) /* waiting longer for a writer is worth a word in status */

static unsigned writer_of(const struct merge *m, const struct schema *schema) {
    return m->run->writer_count == 1
               ? 0
               : (unsigned)(hash_bytes(schema->label, strlen(schema->label), 1) %
                            m->run->writer_count);
}

static void send_order(struct merge *m, unsigned writer, struct writer_order *order) {
    struct channel *channel = m->run->writer_orders[writer];
    size_t bytes = sizeof *order + order->bytes;
    m->items++;
    m->bytes += order->bytes;
    enum channel_result sent =
        channel_send(channel, order, bytes, writer_order_free, clock_mono_us() + SLOW_US);
    if (sent == CHANNEL_TIMEOUT) {
        status_waits(m->run->status, "the target, which takes rows more slowly than they come");
        sent = run_send(m->run, channel, order, bytes, writer_order_free) ? CHANNEL_CLOSED
                                                                          : CHANNEL_SENT;
        status_waits(m->run->status, "");
    }
    m->stopped_sending = m->stopped_sending || sent == CHANNEL_CLOSED;
}

/* All orders are filled before the first is sent: from then on its batches are the writer's. */
static void emit_batches(struct merge *m, enum stage_kind kind, const struct hybrid_out *out) {
    struct writer_order *orders[RUN_WRITERS_MAX] = { NULL };
    for (uint32_t i = 0; i < out->count; i++) {
        struct batch *batch = out->batches[i];
        unsigned w = writer_of(m, batch->schema);
        if (!orders[w]) {
            orders[w] = xcalloc(1, sizeof *orders[w]);
            orders[w]->kind = kind;
            orders[w]->at = out->at;
            orders[w]->batches = xcalloc(out->count, sizeof(struct batch *));
        }
        orders[w]->batches[orders[w]->count++] = batch;
        orders[w]->bytes += batch->bytes;
        m->rows += batch->rows;
    }
    for (unsigned w = 0; w < m->run->writer_count; w++) {
        if (orders[w]) {
            send_order(m, w, orders[w]);
        }
    }
}

void merge_emit(void *arg, const struct hybrid_out *out) {
    struct merge *m = arg;
    if (out->kind == OUT_GENERATION) {
        struct writer_order *order = xcalloc(1, sizeof *order);
        order->kind = STAGE_GENERATION;
        order->schema = schema_ref(out->schema);
        order->generation = out->generation;
        order->at = out->at;
        send_order(m, writer_of(m, out->schema), order);
        return;
    }
    emit_batches(m, out->kind == OUT_REMOVE ? STAGE_REMOVE : STAGE_ROWS, out);
}
