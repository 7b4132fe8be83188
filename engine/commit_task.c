/* The commit task: gathers the parts of one barrier and makes rows and position visible by one act
 * of the sink. One commit at a time.
 *
 *   GATHERING  -all parts and the order-> APPLYING (schemas, when they changed) -> COMMITTING
 *   COMMITTING -COMMITTED-> acknowledged to the source, told to merge -> GATHERING
 *   COMMITTING -UNKNOWN-> RESOLVING -committed-> as COMMITTED
 *                                   -not committed-> COMMITTING: the same parts, the same `to`
 *   COMMITTING -CONFLICT-> REWIND   -FENCED-> stop with 4   -FAILED-> by the kind of the error
 *
 * Nothing staged is thrown away once an attempt of its commit was UNKNOWN.
 * Thread: its own; owner of the sink while the run lasts. */
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"
#include "engine/run.h"

#define UNKNOWN_WARN_US (60 * US_PER_S)

struct commit {
    struct run *run;
    struct sink *sink;
    char *from;                /* the position as it is stored; NULL = none */
    struct commit_news *order; /* of the barrier being gathered */
    struct sink_part *parts[RUN_WRITERS_MAX];
    bool sealed[RUN_WRITERS_MAX];
    uint64_t seq;  /* of the barrier being gathered */
    bool doubtful; /* an attempt of this commit was UNKNOWN */
};

static void free_parts(struct commit *c, bool keep) {
    for (unsigned i = 0; i < c->run->writer_count; i++) {
        if (c->parts[i]) {
            sink_part_free(c->sink, c->parts[i], keep);
        }
        c->parts[i] = NULL;
        c->sealed[i] = false;
    }
}

static void take_news(struct commit *c, struct commit_news *news) {
    CHECK(news->seq == c->seq);
    if (news->kind == COMMIT_ORDER) {
        CHECK(!c->order);
        c->order = news;
        return;
    }
    CHECK(!c->sealed[news->writer]);
    c->sealed[news->writer] = true;
    c->parts[news->writer] = news->part;
    news->part = NULL;
    commit_news_free(news);
}

static bool gathered(const struct commit *c) {
    for (unsigned i = 0; i < c->run->writer_count; i++) {
        if (!c->sealed[i]) {
            return false;
        }
    }
    return c->order != NULL;
}

static void fill_request(struct commit *c, struct commit_request *req) {
    const struct commit_news *o = c->order;
    *req = (struct commit_request){
        .epoch = c->run->sink_state.epoch,
        .seq = o->seq,
        .from = c->from,
        .to = o->to,
        .parts = c->parts,
        .part_count = c->run->writer_count,
        .rows = o->rows,
        .position_only = o->position_only,
        .inconsistent = (const char *const *)o->inconsistent,
        .inconsistent_count = o->inconsistent_count,
        .schemas = o->schemas,
        .schema_count = o->schema_count,
        .schemas_changed = o->schemas_changed,
    };
}

/* Asks until the target knows. 0 = committed, 1 = not committed, -1 = stopping or err. */
static int resolve(struct commit *c, const struct commit_request *req, struct err *err) {
    struct run *run = c->run;
    struct backoff backoff = RUN_BACKOFF;
    int64_t since = clock_mono_us();
    bool warned = false;
    c->doubtful = true;
    metric_add(run->env->metrics, METRIC_COMMIT_UNKNOWN, 1);
    log_warn(run->env->log, "commit", "commit_unknown", "seq=%llu: asking the target: %s",
             (unsigned long long)req->seq, err->text);
    status_waits(run->status, "the target, which must say whether it has the last commit");
    for (;;) {
        if (!run_pause(run, backoff_next_us(&backoff))) {
            err_clear(err);
            return -1;
        }
        err_clear(err);
        enum resolve_outcome outcome = sink_resolve(c->sink, req, err);
        if (outcome == RESOLVED_COMMITTED || outcome == RESOLVED_NOT_COMMITTED) {
            status_waits(run->status, "");
            return outcome == RESOLVED_COMMITTED ? 0 : 1;
        }
        if (outcome == RESOLVE_FAILED && err->kind != ERR_RETRY) {
            return -1;
        }
        if (!warned && clock_mono_us() - since >= UNKNOWN_WARN_US) {
            warned = true;
            log_warn(run->env->log, "commit", "commit_still_unknown",
                     "seq=%llu: the target has not said for 60 s whether it committed",
                     (unsigned long long)req->seq);
        }
    }
}

/* 0 = committed; -1 = err, or stopping without one. */
static int commit_once_settled(struct commit *c, const struct commit_request *req,
                               struct err *err) {
    struct backoff backoff = RUN_BACKOFF;
    for (;;) {
        if (FAILPOINT(c->run->env->failpoints, "commit.before_commit", err)) {
            return -1;
        }
        err_clear(err);
        switch (sink_commit(c->sink, req, err)) {
        case COMMITTED:
            return 0;
        case COMMIT_CONFLICT:
            return err_set(err, ERR_REWIND, "commit_conflict",
                           "the target's position is not the one that commit %llu builds on",
                           (unsigned long long)req->seq);
        case COMMIT_FENCED:
            if (err->kind == ERR_NONE) { /* a target that cannot say more */
                err_set(err, ERR_FATAL, "fenced",
                        "a newer instance of this job has taken over the target");
                err_cure(err, "nothing: the newer instance goes on; `tailrace status` shows it on "
                              "its machine");
                err_exit(err, EXIT_FENCED);
            }
            return -1;
        case COMMIT_UNKNOWN: {
            int settled = resolve(c, req, err);
            if (settled <= 0) {
                return settled;
            }
            break; /* not committed: the same parts and the same position once more */
        }
        case COMMIT_FAILED:
            if (!run_retry(c->run, &backoff, err)) {
                return -1;
            }
        }
    }
}

static int apply_schema(struct commit *c, const struct commit_request *req, struct err *err) {
    struct backoff backoff = RUN_BACKOFF;
    if (FAILPOINT(c->run->env->failpoints, "commit.before_apply_schema", err)) {
        return -1;
    }
    while (req->schemas_changed && sink_apply_schema(c->sink, req, err)) {
        if (!run_retry(c->run, &backoff, err)) {
            return -1;
        }
    }
    return 0;
}

static int perform(struct commit *c, struct err *err) {
    struct run *run = c->run;
    struct commit_request req;
    fill_request(c, &req);
    int64_t begun = clock_mono_us();
    c->doubtful = false;
    if (apply_schema(c, &req, err) || commit_once_settled(c, &req, err)) {
        return -1; /* the parts go once the run knows: writers still build on what they name */
    }
    c->doubtful = false;
    struct merge_news *news = xcalloc(1, sizeof *news);
    *news = (struct merge_news){ .kind = NEWS_COMMITTED,
                                 .seq = c->seq,
                                 .took_us = clock_mono_us() - begun };
    metric_add(run->env->metrics, METRIC_COMMITS, 1);
    metric_set(run->env->metrics, METRIC_COMMIT_LAST_US, news->took_us);
    status_commit(run->status, req.epoch, req.seq);
    free_parts(c, true);
    if (FAILPOINT(run->env->failpoints, "commit.after_commit", err)) {
        merge_news_free(news);
        return -1;
    }
    /* The source first learns of it when the target has it, and before merge may end the run. */
    source_log_ack(run->log, c->order->resume);
    free(c->from);
    c->from = c->order->to;
    c->order->to = NULL;
    commit_news_free(c->order);
    c->order = NULL;
    c->seq++;
    run_send(run, run->merge_news, news, sizeof *news, merge_news_free);
    return FAILPOINT(run->env->failpoints, "commit.after_ack", err);
}

void commit_task(void *arg) {
    struct run *run = arg;
    struct commit c = { .run = run, .sink = run->sink, .seq = run->sink_state.seq + 1 };
    c.from = run->stored_text ? xstrdup(run->stored_text) : NULL;
    struct err err = ERR_INIT;
    int rc = 0;
    while (rc == 0 && !run_stopping(run)) {
        struct commit_news *news = channel_take(run->commit_news);
        if (news) {
            take_news(&c, news);
            if (gathered(&c)) {
                rc = perform(&c, &err);
            }
        } else {
            inbox_wait(run->commit_inbox, clock_mono_us() + 60 * US_PER_S);
        }
    }
    if (rc && err.kind != ERR_NONE) {
        run_fail(run, "commit", &err);
    }
    free_parts(&c, c.doubtful);
    if (c.order) {
        commit_news_free(c.order);
    }
    free(c.from);
}
