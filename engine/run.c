#include "engine/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"

void lane_news_free(void *body) {
    struct lane_news *n = body;
    buf_release(&n->bounds);
    if (n->kind == LANE_VIEW) {
        chunk_view_release(&n->view);
    }
    if (n->batch) {
        batch_unref(n->batch);
    }
    free(n);
}

void lane_order_free(void *body) {
    struct lane_order *o = body;
    if (o->kind == LANE_DO) {
        chunk_order_release(&o->order);
    }
    free(o);
}

void writer_order_free(void *body) {
    struct writer_order *o = body;
    for (uint32_t i = 0; i < o->count; i++) {
        batch_unref(o->batches[i]);
    }
    free(o->batches);
    schema_unref(o->schema);
    free(o);
}

void commit_news_free(void *body) {
    struct commit_news *n = body;
    for (uint32_t i = 0; i < n->inconsistent_count; i++) {
        free(n->inconsistent[i]);
    }
    free(n->inconsistent);
    for (uint32_t i = 0; i < n->schema_count; i++) {
        schema_unref(n->schemas[i]);
    }
    free(n->schemas);
    free(n->to);
    if (n->part) {
        sink_part_drop(n->ops, n->part); /* never tried: whoever tried it took the part out */
    }
    free(n);
}

void merge_news_free(void *body) {
    struct merge_news *n = body;
    if (n->kind == NEWS_CATALOGUE) {
        source_catalogue_release(&n->catalogue);
    } else if (n->kind == NEWS_PROBE) {
        snapshot_release(&n->snapshot);
    }
    free(n->ids);
    free(n);
}

void control_order_free(void *body) {
    struct control_order *o = body;
    free(o->ids);
    free(o);
}

struct run *run_new(struct job *job, const struct job_config *config, struct env *env,
                    struct status *status, struct inbox *control_inbox) {
    struct run *r = xcalloc(1, sizeof *r);
    r->job = job;
    r->config = config;
    r->env = env;
    r->status = status;
    r->control_inbox = control_inbox;
    r->lane_count = config->lanes < 1               ? 1
                    : config->lanes > RUN_LANES_MAX ? RUN_LANES_MAX
                                                    : config->lanes;
    r->writer_count =
        config->sink->writers_max < RUN_WRITERS_MAX ? config->sink->writers_max : RUN_WRITERS_MAX;
    CHECK(r->writer_count > 0);
    r->freshness_us = config->freshness_us ? config->freshness_us : config->sink->freshness_us;
    budget_plan(&r->budget, env->memory_bytes, r->lane_count, r->writer_count);
    atomic_init(&r->stopping, false);
    atomic_init(&r->finishing, false);
    r->q = waitq_new();
    r->merge_inbox = inbox_new();
    r->commit_inbox = inbox_new();
    r->segments = channel_new(r->merge_inbox, r->budget.log_bytes, env->metrics);
    r->lane_news = channel_new(r->merge_inbox, r->budget.lane_bytes, env->metrics);
    r->merge_news = channel_new(r->merge_inbox, RUN_CONTROL_BYTES, env->metrics);
    r->commit_news = channel_new(r->commit_inbox, RUN_CONTROL_BYTES, env->metrics);
    r->control_orders = channel_new(control_inbox, RUN_CONTROL_BYTES, env->metrics);
    for (unsigned i = 0; i < r->lane_count; i++) {
        r->lane_inbox[i] = inbox_new();
        r->lane_orders[i] = channel_new(r->lane_inbox[i], RUN_CONTROL_BYTES, env->metrics);
    }
    for (unsigned i = 0; i < r->writer_count; i++) {
        r->writer_inbox[i] = inbox_new();
        r->writer_orders[i] = channel_new(r->writer_inbox[i], r->budget.writer_bytes, env->metrics);
    }
    return r;
}

void run_free(struct run *r) {
    channel_free(r->segments);
    channel_free(r->lane_news);
    channel_free(r->merge_news);
    channel_free(r->commit_news);
    channel_free(r->control_orders);
    for (unsigned i = 0; i < r->lane_count; i++) {
        channel_free(r->lane_orders[i]);
        inbox_free(r->lane_inbox[i]);
    }
    for (unsigned i = 0; i < r->writer_count; i++) {
        channel_free(r->writer_orders[i]);
        inbox_free(r->writer_inbox[i]);
    }
    inbox_free(r->merge_inbox);
    inbox_free(r->commit_inbox);
    waitq_free(r->q);
    sink_state_release(&r->sink_state);
    stored_position_release(&r->stored);
    free(r->stored_text);
    free(r);
}

void run_fail(struct run *r, const char *part, const struct err *err) {
    waitq_lock(r->q);
    if (!r->failed && !run_stopping(r)) {
        r->failed = true;
        r->err = *err;
        snprintf(r->failed_part, sizeof r->failed_part, "%s", part);
    }
    waitq_unlock(r->q);
    inbox_poke(r->control_inbox);
}

bool run_failed(struct run *r, struct err *err, char *part) {
    waitq_lock(r->q);
    bool failed = r->failed;
    if (failed) {
        *err = r->err;
        memcpy(part, r->failed_part, sizeof r->failed_part);
    }
    waitq_unlock(r->q);
    return failed;
}

void run_stop(struct run *r) {
    waitq_lock(r->q);
    atomic_store(&r->stopping, true);
    waitq_wake_all(r->q);
    waitq_unlock(r->q);
    channel_abort(r->segments);
    channel_abort(r->lane_news);
    channel_abort(r->merge_news);
    channel_abort(r->commit_news);
    channel_abort(r->control_orders);
    for (unsigned i = 0; i < r->lane_count; i++) {
        channel_abort(r->lane_orders[i]);
    }
    for (unsigned i = 0; i < r->writer_count; i++) {
        channel_abort(r->writer_orders[i]);
    }
    if (r->log) {
        source_log_wake(r->log);
    }
}

bool run_pause(struct run *r, int64_t us) {
    int64_t deadline = clock_mono_us() + us;
    waitq_lock(r->q);
    while (!run_stopping(r) && waitq_wait(r->q, deadline)) {}
    waitq_unlock(r->q);
    return !run_stopping(r);
}

bool run_retry(struct run *r, struct backoff *backoff, struct err *err) {
    if (err->kind != ERR_RETRY) {
        return false;
    }
    if (backoff->tries >= RUN_TRIES_MAX) {
        err->kind = ERR_REWIND;
        return false;
    }
    if (!run_pause(r, backoff_next_us(backoff))) {
        return false;
    }
    err_clear(err);
    return true;
}

int run_send(struct run *r, struct channel *channel, void *take_body, size_t bytes,
             void (*free_body)(void *)) {
    for (;;) {
        switch (
            channel_send(channel, take_body, bytes, free_body, clock_mono_us() + 10 * US_PER_S)) {
        case CHANNEL_SENT:
            return 0;
        case CHANNEL_CLOSED:
            return -1;
        case CHANNEL_TIMEOUT:
            if (run_stopping(r)) {
                free_body(take_body);
                return -1;
            }
        }
    }
}
