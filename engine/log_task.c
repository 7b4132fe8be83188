/* The log task: hands segments from the source's log session to merge. It opens nothing and decides
 * nothing: an error stops it and control decides. While merge gives no credit it keeps the session
 * alive with log_idle and reads nothing further. Thread: its own; owner of the log session until it
 * returns. */
#include "cdc/base/clock.h"
#include "cdc/source_call.h"
#include "engine/run.h"

#define LOOK_US (1 * US_PER_S) /* log_next: a stop wakes it anyway */
#define IDLE_EACH_US (500 * US_PER_MS)

static void free_segment(void *segment) { segment_free(segment); }

static void count_segment(struct metrics *metrics, const struct segment *segment) {
    int64_t rows = 0;
    for (uint32_t i = 0; i < segment->batch_count; i++) {
        rows += segment->batches[i]->rows;
    }
    metric_add(metrics, METRIC_LOG_ROWS, rows);
    metric_add(metrics, METRIC_LOG_BYTES, (int64_t)segment->bytes);
    metric_add(metrics, METRIC_LOG_TRANSACTIONS, segment->txs ? segment->txs->count : 0);
}

/* Hands it on, however long that takes. -1: stopping, or err is set. */
static int hand_on(struct run *run, struct source_log *log, struct segment *segment,
                   struct err *err) {
    size_t bytes = sizeof *segment + segment->bytes;
    for (;;) {
        switch (channel_send(run->segments, segment, bytes, free_segment,
                             clock_mono_us() + IDLE_EACH_US)) {
        case CHANNEL_SENT:
            return 0;
        case CHANNEL_CLOSED:
            return -1;
        case CHANNEL_TIMEOUT:
            if (source_log_idle(log, clock_mono_us(), err) && err->kind != ERR_RETRY) {
                segment_free(segment);
                return -1;
            }
            err_clear(err);
        }
    }
}

void log_task(void *arg) {
    struct run *run = arg;
    struct source_log *log = run->log;
    struct backoff backoff = RUN_BACKOFF;
    struct err err = ERR_INIT;
    while (!run_stopping(run)) {
        struct segment *segment = NULL;
        if (source_log_next(log, clock_mono_us() + LOOK_US, &segment, &err)) {
            if (run_retry(run, &backoff, &err)) {
                continue;
            }
            break;
        }
        backoff_reset(&backoff);
        if (!segment) {
            continue;
        }
        count_segment(run->env->metrics, segment);
        if (FAILPOINT(run->env->failpoints, "log.after_segment", &err)) {
            segment_free(segment);
            break;
        }
        if (hand_on(run, log, segment, &err)) {
            break;
        }
    }
    if (err.kind != ERR_NONE) {
        run_fail(run, "log", &err);
        return;
    }
    /* The last acknowledgement goes out with it. What fails here fails for nobody: the target has
     * the position. */
    if (source_log_idle(log, clock_mono_us(), &err)) {
        log_debug(run->env->log, "log", err.code, "%s", err.text);
    }
}
