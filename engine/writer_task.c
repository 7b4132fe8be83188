/* A writer task: stages what merge routes to it and seals at each barrier; the part goes to the
 * commit task. What it stages stays invisible until then. Never waits for merge. Thread: its own;
 * owner of one sink_writer. */
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "cdc/sink_call.h"
#include "engine/run.h"

struct writer {
    struct run *run;
    unsigned number;
    struct sink_writer *sink;
};

static int stage(struct writer *w, const struct writer_order *order, struct err *err) {
    struct backoff backoff = RUN_BACKOFF;
    struct stage_item item = { .kind = order->kind,
                               .batches = order->batches,
                               .count = order->count,
                               .schema = order->schema,
                               .generation = order->generation,
                               .at = order->at };
    while (sink_writer_stage(w->sink, &item, err)) {
        if (!run_retry(w->run, &backoff, err)) {
            return -1;
        }
    }
    uint64_t rows = 0;
    for (uint32_t i = 0; i < order->count; i++) {
        rows += order->batches[i]->rows;
    }
    metric_add(w->run->env->metrics, METRIC_SINK_ROWS, (int64_t)rows);
    metric_add(w->run->env->metrics, METRIC_SINK_BYTES, (int64_t)order->bytes);
    return 0;
}

static int seal(struct writer *w, uint64_t seq, struct err *err) {
    if (FAILPOINT(w->run->env->failpoints, "writer.before_seal", err)) {
        return -1;
    }
    struct backoff backoff = RUN_BACKOFF;
    struct sink_part *part = NULL;
    while (sink_writer_seal(w->sink, seq, &part, err)) {
        if (!run_retry(w->run, &backoff, err)) {
            return -1;
        }
    }
    struct commit_news *news = xcalloc(1, sizeof *news);
    *news = (struct commit_news){
        .kind = COMMIT_PART, .seq = seq, .writer = w->number, .ops = w->sink->ops, .part = part
    };
    if (FAILPOINT(w->run->env->failpoints, "writer.after_seal", err)) {
        commit_news_free(news);
        return -1;
    }
    run_send(w->run, w->run->commit_news, news, sizeof *news,
             commit_news_free); /* -1 = stopping: the loop sees it */
    return 0;
}

static int work(struct writer *w, struct err *err) {
    struct run *run = w->run;
    while (!run_stopping(run)) {
        struct writer_order *order = channel_take(run->writer_orders[w->number]);
        if (!order) {
            inbox_wait(run->writer_inbox[w->number], clock_mono_us() + 60 * US_PER_S);
            continue;
        }
        int rc = order->barrier ? seal(w, order->seq, err) : stage(w, order, err);
        writer_order_free(order);
        if (rc) {
            return -1;
        }
    }
    return 0;
}

void writer_task(void *arg) {
    struct writer_start *start = arg;
    struct writer w = { .run = start->run, .number = start->number };
    struct err err = ERR_INIT;
    struct backoff backoff = RUN_BACKOFF;
    int rc;
    while ((rc = sink_writer_open(w.run->sink, w.number, &w.sink, &err)) != 0) {
        if (!run_retry(w.run, &backoff, &err)) {
            break;
        }
    }
    if (rc == 0) {
        rc = work(&w, &err);
        sink_writer_close(w.sink);
    }
    if (rc && err.kind != ERR_NONE) {
        run_fail(w.run, "writer", &err);
    }
}
