/* A lane task: reads chunks for merge, one at a time, by the protocol of cdc/hybrid.h. Decides
 * nothing about them.
 *
 *   cut:    cut the table, tell the bounds
 *   chunk:  begin (lock, snapshot), view -> verdict; AGAIN: end, pause, begin; DROP: end;
 *           GO: rows..., end of the range
 *   whole:  begin exports its snapshot and cuts pieces; after GO the lane asks for piece after
 *           piece and ends its transaction only at PIECES_DONE, when all were read
 *   piece:  another lane joins the snapshot, reads a first piece, and asks for more likewise
 *
 * The transaction is never kept open for a merge that is slow to answer: after VERDICT_US it is
 * ended and the chunk given up. The session is opened with the first order, closed when idle.
 * Thread: its own; owner of one lane session. */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/source_call.h"
#include "engine/run.h"

#define VERDICT_US (30 * US_PER_S)
#define IDLE_CLOSE_US (30 * US_PER_S)
#define BATCH_ROWS 4096u
#define ROWS_MIN 2u /* a range that ends early gives its last row back */

struct lane {
    struct run *run;
    unsigned number;
    struct source_lane *session; /* NULL = closed */
    bool in_transaction;
    struct backoff again; /* for another snapshot */
    struct backoff retry; /* after an error that says RETRY */
};

/* What a step of a chunk ended with. */
enum lane_step {
    STEP_ON,
    STEP_OVER /* dropped, or stopping: no news of it any more */,
    STEP_FAILED /* err */
};

static int send_news(struct lane *l, struct lane_news *news) {
    news->lane = l->number;
    size_t bytes = sizeof *news + news->bounds.len + (news->batch ? news->batch->bytes : 0);
    return run_send(l->run, l->run->lane_news, news, bytes, lane_news_free);
}

static struct lane_news *news_new(enum lane_news_kind kind, uint64_t id) {
    struct lane_news *news = xcalloc(1, sizeof *news);
    news->kind = kind;
    news->id = id;
    buf_init(&news->bounds, SIZE_MAX);
    return news;
}

static int send_plain(struct lane *l, enum lane_news_kind kind, uint64_t id, bool complete) {
    struct lane_news *news = news_new(kind, id);
    news->complete = complete;
    return send_news(l, news);
}

/* The next order, or NULL at the deadline or when stopping. */
static struct lane_order *take_order(struct lane *l, int64_t deadline_us) {
    struct lane_order *order = NULL;
    while (!order && !run_stopping(l->run)) {
        order = channel_take(l->run->lane_orders[l->number]);
        if (!order && !inbox_wait(l->run->lane_inbox[l->number], deadline_us)) {
            return NULL;
        }
    }
    return order;
}

/* Has merge said anything meanwhile? Looks, does not wait: nothing but DROP and ENOUGH is sent to a
 * lane that reads. */
static bool told(struct lane *l, uint64_t id, enum lane_order_kind *kind) {
    struct lane_order *order = channel_take(l->run->lane_orders[l->number]);
    if (!order) {
        return false;
    }
    CHECK((order->kind == LANE_DROP || order->kind == LANE_ENOUGH) && order->id == id);
    *kind = order->kind;
    lane_order_free(order);
    return true;
}

static int end_transaction(struct lane *l, struct err *err) {
    if (!l->in_transaction) {
        return 0;
    }
    l->in_transaction = false;
    return source_lane_end(l->session, err);
}

static enum lane_step end_and(struct lane *l, enum lane_step step, struct err *err) {
    return end_transaction(l, err) ? STEP_FAILED : step;
}

/* Sends rows until the read ends, is dropped, or (key ranges) its goals are reached. */
static enum lane_step send_rows(struct lane *l, uint64_t id, const struct chunk_read *read,
                                bool *complete, struct err *err) {
    struct source_lane *s = l->session;
    struct metrics *metrics = l->run->env->metrics;
    uint64_t rows = 0, bytes = 0;
    *complete = true;
    for (;;) {
        struct batch *batch = NULL;
        if (source_lane_next(s, &batch, err)) {
            return STEP_FAILED;
        }
        if (!batch) {
            *complete = read->whole || rows < read->rows_max;
            return STEP_ON;
        }
        rows += batch->rows;
        bytes += batch->bytes;
        metric_add(metrics, METRIC_SNAPSHOT_BYTES, (int64_t)batch->bytes);
        struct lane_news *news = news_new(LANE_ROWS, id);
        news->batch = batch;
        if (FAILPOINT(l->run->env->failpoints, "lane.after_rows", err)) {
            lane_news_free(news);
            return STEP_FAILED;
        }
        enum lane_order_kind kind;
        bool over = send_news(l, news) != 0, enough = !over && told(l, id, &kind);
        over = over || (enough && kind == LANE_DROP);
        bool goal =
            !read->whole && (enough || (rows >= ROWS_MIN && bytes >= l->run->budget.chunk_bytes));
        if (over || goal) {
            *complete = false;
            if (source_lane_stop(s, err)) {
                return STEP_FAILED;
            }
            return over ? STEP_OVER : STEP_ON;
        }
    }
}

static enum lane_step read_range(struct lane *l, const struct chunk_order *order, bool *complete,
                                 struct err *err) {
    struct chunk_read read = { .schema = order->schema,
                               .lo = order->lo.data,
                               .lo_len = order->lo.len,
                               .hi = order->hi.data,
                               .hi_len = order->hi.len,
                               .whole = order->whole,
                               .exact = order->exact,
                               .rows_max = order->rows_max,
                               .batch_rows = BATCH_ROWS };
    if (source_lane_read(l->session, &read, err)) {
        return STEP_FAILED;
    }
    return send_rows(l, order->id, &read, complete, err);
}

static enum lane_step read_piece(struct lane *l, const struct chunk_order *order, struct err *err) {
    bool complete = true;
    enum lane_step step = read_range(l, order, &complete, err);
    if (step != STEP_ON) {
        return step;
    }
    if (FAILPOINT(l->run->env->failpoints, "lane.before_piece_end", err)) {
        return STEP_FAILED;
    }
    return send_plain(l, LANE_END, order->id, complete) ? STEP_OVER : STEP_ON;
}

/* Reads piece after piece of a whole table, in the snapshot that the transaction has, until merge
 * says that this is over. */
static enum lane_step read_pieces(struct lane *l, uint64_t id, struct err *err) {
    while (!send_plain(l, LANE_WANTS_PIECE, id, false)) {
        struct lane_order *order = NULL;
        while (!order && !run_stopping(l->run)) {
            order = take_order(l, clock_mono_us() + IDLE_CLOSE_US);
        }
        if (!order) {
            return STEP_OVER;
        }
        CHECK(order->id == id && (order->kind == LANE_PIECES_DONE || order->kind == LANE_DO ||
                                  order->kind == LANE_DROP));
        bool done = order->kind != LANE_DO;
        enum lane_step step = done ? STEP_ON : read_piece(l, &order->order, err);
        lane_order_free(order);
        if (done || step != STEP_ON) {
            return step;
        }
    }
    return STEP_OVER;
}

/* A few pieces a lane, so that all end at about the same time. */
static uint32_t pieces_max(const struct lane *l) {
    return l->run->lane_count == 1 ? 1 : l->run->lane_count * 4;
}

/* Opens the chunk's transaction and asks for the verdict on what its snapshot sees. STEP_ON:
 * *verdict is set. */
static enum lane_step view_chunk(struct lane *l, const struct chunk_order *order,
                                 enum chunk_verdict *verdict, struct err *err) {
    struct lane_news *news = news_new(LANE_VIEW, order->id);
    struct source_lane *s = l->session;
    news->pieces = 1;
    if (source_lane_begin(s, order->schema, &news->view, order->whole ? news->export_name : NULL,
                          err)) {
        lane_news_free(news);
        return STEP_FAILED;
    }
    l->in_transaction = true;
    if (FAILPOINT(l->run->env->failpoints, "lane.after_begin", err) ||
        (order->whole && !news->view.gone &&
         source_lane_cut(s, order->schema, true, pieces_max(l), &news->bounds, &news->pieces,
                         err))) {
        lane_news_free(news);
        return STEP_FAILED;
    }
    if (send_news(l, news)) {
        return STEP_OVER;
    }
    struct lane_order *answer = take_order(l, clock_mono_us() + VERDICT_US);
    bool late = !answer;
    if (late && end_transaction(l, err)) {
        return STEP_FAILED;
    }
    while (!answer && !run_stopping(l->run)) {
        answer = take_order(l, clock_mono_us() + VERDICT_US);
    }
    if (!answer) {
        return STEP_OVER;
    }
    CHECK(answer->kind == LANE_VERDICT && answer->id == order->id);
    *verdict = answer->verdict;
    lane_order_free(answer);
    if (late && *verdict == CHUNK_GO) {
        return err_set(err, ERR_RETRY, "lane_late",
                       "the snapshot was given up: merge took more than 30 s to answer"),
               STEP_FAILED;
    }
    return FAILPOINT(l->run->env->failpoints, "lane.after_view", err) ? STEP_FAILED : STEP_ON;
}

static enum lane_step read_chunk(struct lane *l, const struct chunk_order *order, struct err *err) {
    bool complete = true;
    if (order->whole) {
        return read_pieces(l, order->id, err);
    }
    enum lane_step step = read_range(l, order, &complete, err);
    if (step != STEP_ON) {
        return step;
    }
    if (FAILPOINT(l->run->env->failpoints, "lane.before_end", err) || end_transaction(l, err)) {
        return STEP_FAILED;
    }
    return send_plain(l, LANE_END, order->id, complete) ? STEP_OVER : STEP_ON;
}

static enum lane_step do_chunk(struct lane *l, const struct chunk_order *order, struct err *err) {
    for (;;) {
        enum chunk_verdict verdict = CHUNK_DROP;
        enum lane_step step = view_chunk(l, order, &verdict, err);
        if (step != STEP_ON) {
            return step;
        }
        if (verdict == CHUNK_GO) {
            backoff_reset(&l->again);
            return read_chunk(l, order, err);
        }
        step = end_and(l, verdict == CHUNK_AGAIN ? STEP_ON : STEP_OVER, err);
        if (step != STEP_ON || !run_pause(l->run, backoff_next_us(&l->again))) {
            return step;
        }
    }
}

static enum lane_step do_cut(struct lane *l, const struct chunk_order *order, struct err *err) {
    struct lane_news *news = news_new(LANE_CUT, order->id);
    struct source_lane *s = l->session;
    if (source_lane_cut(s, order->schema, false, order->pieces_max, &news->bounds, &news->pieces,
                        err)) {
        lane_news_free(news);
        return STEP_FAILED;
    }
    return send_news(l, news) ? STEP_OVER : STEP_ON;
}

static enum lane_step do_piece(struct lane *l, const struct chunk_order *order, struct err *err) {
    if (source_lane_join(l->session, order->schema, order->export_name, err)) {
        return STEP_FAILED;
    }
    l->in_transaction = true;
    if (FAILPOINT(l->run->env->failpoints, "lane.after_join", err)) {
        return STEP_FAILED;
    }
    enum lane_step step = read_piece(l, order, err);
    return step == STEP_ON ? read_pieces(l, order->id, err) : step;
}

static void close_session(struct lane *l) {
    if (l->session) {
        source_lane_close(l->session);
    }
    l->session = NULL;
    l->in_transaction = false;
}

/* 0, or -1 with an error that ends the run. A RETRY gives the chunk up, and the session with it:
 * its state is unknown. */
static int do_order(struct lane *l, const struct chunk_order *order, struct err *err) {
    enum lane_step step = STEP_FAILED;
    if (l->session || source_lane_open(l->run->source, l->number, &l->session, err) == 0) {
        step = order->cut     ? do_cut(l, order, err)
               : order->piece ? do_piece(l, order, err)
                              : do_chunk(l, order, err);
    }
    if (step != STEP_FAILED && end_transaction(l, err)) {
        step = STEP_FAILED;
    }
    if (step != STEP_FAILED) {
        backoff_reset(&l->retry);
        return 0;
    }
    close_session(l);
    log_debug(l->run->env->log, "lane", err->code, "%s: %s", order->schema->label, err->text);
    if (send_plain(l, LANE_FAILED, order->id, false)) {
        err_clear(err);
        return 0;
    }
    return run_retry(l->run, &l->retry, err) || run_stopping(l->run) ? 0 : -1;
}

void lane_task(void *arg) {
    struct lane_start *start = arg;
    struct lane l = { .run = start->run, .number = start->number, .retry = RUN_BACKOFF };
    l.again = (struct backoff){ .first_us = 10 * US_PER_MS, .max_us = US_PER_S };
    struct err err = ERR_INIT;
    bool ready = false;
    int rc = 0;
    while (rc == 0 && !run_stopping(l.run)) {
        if (!ready && send_plain(&l, LANE_READY, 0, false)) {
            break;
        }
        ready = true;
        struct lane_order *order = take_order(&l, clock_mono_us() + IDLE_CLOSE_US);
        if (!order) {
            close_session(&l); /* few connections: nothing to read for a while */
            continue;
        }
        if (order->kind == LANE_DO) {
            rc = do_order(&l, &order->order, &err);
            ready = false;
        }
        lane_order_free(
            order); /* a DROP or ENOUGH may arrive when its chunk is over for us already */
    }
    close_session(&l);
    if (rc && err.kind != ERR_NONE) {
        run_fail(l.run, "lane", &err);
    }
}
