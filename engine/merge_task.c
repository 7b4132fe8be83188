/* The merge task: drives the hybrid algorithm. Order, barriers and all reasoning about crashes live
 * here and nowhere else. It alone feeds segments, lane news and snapshots in and routes what comes
 * out. It never calls the source or the sink; it asks control. It may block for a writer's credit
 * (nobody it waits for waits for it).
 *
 * finishing: no further segment at a border, no news from lanes, then one last commit, then
 * CONTROL_DONE. */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/json.h"
#include "cdc/source_call.h"
#include "engine/merge.h"

#define LOOK_US (1 * US_PER_S)
#define NUDGE_AFTER_US (200 * US_PER_MS)
#define NUDGE_EACH_US (1 * US_PER_S)
#define CATALOGUE_EACH_US (1 * US_PER_S)
#define PROBE_EACH_US (1 * US_PER_S)
#define PROBE_GROWTH 64u
#define STATUS_EACH_US (500 * US_PER_MS)
#define STATUS_TABLES_MAX 1000u
#define LANE_NEWS_EACH 64u /* taken before the log gets its turn */
#define CAPTURE_MAX 1024u

void merge_ask(struct merge *m, enum control_kind kind, uint64_t *take_ids, uint32_t count) {
    struct control_order *order = xcalloc(1, sizeof *order);
    *order = (struct control_order){ .kind = kind, .ids = take_ids, .count = count };
    m->probing = m->probing || kind == CONTROL_PROBE;
    if (run_send(m->run, m->run->control_orders, order, sizeof *order + count * sizeof *take_ids,
                 control_order_free)) {
        m->stopped_sending = true;
    }
}

/* A definition changed in the log or under a chunk: not at the next poll, but soon. */
static void ask_catalogue(struct merge *m, int64_t now_us) {
    if (m->catalogue_asked || !m->catalogued || !hybrid_wants_catalogue(m->h, false)) {
        return;
    }
    int64_t at_us = m->catalogue_asked_us + CATALOGUE_EACH_US;
    if (now_us < at_us) {
        m->look_again_us = at_us < m->look_again_us ? at_us : m->look_again_us;
    } else {
        hybrid_wants_catalogue(m->h, true);
        m->catalogue_asked = true;
        m->catalogue_asked_us = now_us;
        merge_ask(m, CONTROL_CATALOGUE, NULL, 0);
    }
}

static void ask_capture(struct merge *m) {
    uint64_t ids[CAPTURE_MAX];
    bool wait =
        m->capturing || !m->catalogued || m->catalogue_asked || hybrid_wants_catalogue(m->h, false);
    uint32_t count = wait ? 0 : hybrid_uncaptured(m->h, ids, CAPTURE_MAX);
    if (count) {
        m->capturing = true;
        uint64_t *copy = xmalloc(count * sizeof *copy);
        memcpy(copy, ids, count * sizeof *copy);
        merge_ask(m, CONTROL_CAPTURE, copy, count);
    }
}

static void take_captured(struct merge *m, const struct merge_news *n) {
    m->capturing = false;
    if (n->see_from_tx > m->run->see_from_tx) {
        m->run->see_from_tx = n->see_from_tx; /* stored with every position from now on */
    }
    hybrid_captured(m->h, n->ids, n->count, n->see_from_tx, n->pos);
}

static void take_probe(struct merge *m, const struct merge_news *n) {
    m->probing = false;
    m->probed_us = clock_mono_us();
    hybrid_seen(m->h, &n->snapshot);
    m->probed_loose = hybrid_loose(m->h);
    if (m->seal == SEAL_PROBING) {
        m->seal = SEAL_READY;
    }
}

/* 1 = took something, 0 = nothing there, -1 = err. */
static int take_merge_news(struct merge *m, struct err *err) {
    struct merge_news *n = channel_take(m->run->merge_news);
    if (!n) {
        return 0;
    }
    int rc = 1;
    switch (n->kind) {
    case NEWS_CATALOGUE:
        atomic_store(&m->run->catalogue_waits, false);
        m->catalogue_asked = m->catalogue_asked && !n->asked; /* a poll's may be older */
        rc = hybrid_catalogue(m->h, &n->catalogue, err) ? -1 : 1;
        m->catalogued = m->catalogued || rc > 0;
        break;
    case NEWS_PROBE:
        take_probe(m, n);
        break;
    case NEWS_CAPTURED:
        take_captured(m, n);
        break;
    case NEWS_LOG_END:
        m->once_end = n->pos;
        m->once_known = true;
        break;
    case NEWS_COMMITTED:
        merge_committed(m, n);
        break;
    }
    merge_news_free(n);
    return rc;
}

static struct lane_order *lane_order_new(enum lane_order_kind kind, uint64_t id) {
    struct lane_order *order = xcalloc(1, sizeof *order);
    order->kind = kind;
    order->id = id;
    return order;
}

static void send_lane(struct merge *m, unsigned lane, struct lane_order *order) {
    if (run_send(m->run, m->run->lane_orders[lane], order, sizeof *order, lane_order_free)) {
        m->stopped_sending = true;
    }
}

static void answer_view(struct merge *m, struct lane_news *n) {
    struct lane_order *answer = lane_order_new(LANE_VERDICT, n->id);
    answer->verdict = hybrid_view(m->h, n->id, &n->view, n->export_name, n->bounds.data,
                                  n->bounds.len, n->pieces);
    n->view = (struct chunk_view){ 0 };
    if (answer->verdict == CHUNK_DROP) {
        m->lanes[n->lane].ignore = true;
    }
    send_lane(m, n->lane, answer);
}

static int take_rows(struct merge *m, struct lane_news *n, struct err *err) {
    struct batch *batch = n->batch;
    n->batch = NULL;
    err_clear(err);
    enum chunk_verdict verdict = hybrid_rows(m->h, n->id, batch, err);
    if (err->kind != ERR_NONE) {
        return -1;
    }
    if (verdict == CHUNK_DROP || verdict == CHUNK_ENOUGH) {
        m->lanes[n->lane].ignore = verdict == CHUNK_DROP;
        send_lane(m, n->lane,
                  lane_order_new(verdict == CHUNK_DROP ? LANE_DROP : LANE_ENOUGH, n->id));
    }
    return 0;
}

static int take_lane_news(struct merge *m, struct lane_news *n, struct err *err) {
    CHECK(n->lane < m->run->lane_count);
    if (n->kind == LANE_READY) {
        m->lanes[n->lane].state = LANE_IS_FREE;
        m->lanes[n->lane].ignore = false;
        return 0;
    }
    if (m->lanes[n->lane].ignore) {
        if (n->kind == LANE_WANTS_PIECE) { /* its chunk is over: end the transaction */
            send_lane(m, n->lane, lane_order_new(LANE_PIECES_DONE, n->id));
        }
        return 0;
    }
    switch (n->kind) {
    case LANE_READY:
        break;
    case LANE_CUT:
        hybrid_cut(m->h, n->id, n->bounds.data, n->bounds.len, n->pieces);
        break;
    case LANE_VIEW:
        answer_view(m, n);
        break;
    case LANE_ROWS:
        return take_rows(m, n, err);
    case LANE_END:
        return hybrid_end(m->h, n->id, n->complete, err);
    case LANE_WANTS_PIECE:
        m->lanes[n->lane].state = LANE_WAITS_FOR_PIECE;
        break;
    case LANE_FAILED:
        hybrid_fail(m->h, n->id);
        m->lanes[n->lane].ignore = true;
        break;
    }
    return 0;
}

static int take_lanes(struct merge *m, struct err *err) {
    int took = 0;
    for (unsigned i = 0; i < LANE_NEWS_EACH && !m->stopped_sending; i++) {
        struct lane_news *n = channel_take(m->run->lane_news);
        if (!n) {
            break;
        }
        took = 1;
        int rc = take_lane_news(m, n, err);
        lane_news_free(n);
        if (rc) {
            return -1;
        }
    }
    return took;
}

/* A lane in a whole table's snapshot: its next piece; none is left: the exporter stays until all
 * were read. */
static bool give_piece(struct merge *m, unsigned lane) {
    uint64_t id = m->lanes[lane].id;
    struct chunk_order piece = { 0 };
    struct lane_order *order = NULL;
    switch (hybrid_piece(m->h, id, &piece)) {
    case PIECE_READ:
        order = lane_order_new(LANE_DO, id);
        order->order = piece;
        break;
    case PIECE_WAIT:
        return false;
    case PIECE_NONE:
        if (!m->lanes[lane].joined && !hybrid_pieces_done(m->h, id)) {
            return false;
        }
        order = lane_order_new(LANE_PIECES_DONE, id);
        break;
    }
    m->lanes[lane].state = LANE_IS_BUSY;
    send_lane(m, lane, order);
    return true;
}

static bool give_chunk(struct merge *m, unsigned lane) {
    struct chunk_order next = { 0 };
    if (!hybrid_next(m->h, &next)) {
        return false;
    }
    struct lane_order *order = lane_order_new(LANE_DO, next.id);
    order->order = next;
    m->lanes[lane].state = LANE_IS_BUSY;
    m->lanes[lane].id = next.id;
    m->reading = true;
    m->lanes[lane].joined = next.piece;
    send_lane(m, lane, order);
    return true;
}

static bool give_work(struct merge *m) {
    bool gave = false;
    for (unsigned i = 0; i < m->run->lane_count && !m->stopped_sending; i++) {
        if (m->lanes[i].state == LANE_WAITS_FOR_PIECE) {
            gave |= give_piece(m, i);
        } else if (m->lanes[i].state == LANE_IS_FREE) {
            gave |= give_chunk(m, i);
        }
    }
    return gave;
}

/* The moment at which all that is read of tables is in the stream. */
static void say_joined(struct merge *m) {
    if (m->reading && hybrid_joined(m->h)) {
        m->reading = false;
        log_info(m->run->env->log, "merge", "snapshot_joined",
                 "every table's rows are in the stream");
    }
}

static int take_segment(struct merge *m, struct err *err) {
    if (!m->catalogued || (m->finishing && hybrid_at_border(m->h)) || m->final_sealed ||
        hybrid_log_must_wait(m->h)) {
        return 0;
    }
    struct segment *segment = channel_take(m->run->segments);
    if (!segment) {
        return 0;
    }
    m->log_to = logpos_max(m->log_to, segment->to);
    return hybrid_segment(m->h, segment, err) ? -1 : 1;
}

/* Somebody waits for the log to pass a position: the source is told, and nudged when its server
 * keeps the end to itself. */
static void want_log(struct merge *m, int64_t now_us) {
    struct logpos wants = m->catalogued ? hybrid_wants(m->h) : LOGPOS_NONE;
    if (m->once_known) {
        wants = logpos_max(wants, m->once_end);
    }
    if (m->finishing || logpos_cmp(wants, m->log_to) <= 0) {
        return;
    }
    if (logpos_cmp(wants, m->wanted) != 0) {
        m->wanted = wants;
        m->wanted_us = now_us;
        source_log_want(m->run->log, wants);
    }
    int64_t due_us = m->wanted_us + NUDGE_AFTER_US;
    if (m->nudged_us && due_us < m->nudged_us + NUDGE_EACH_US) {
        due_us = m->nudged_us + NUDGE_EACH_US;
    }
    if (now_us >= due_us) {
        m->nudged_us = now_us;
        merge_ask(m, CONTROL_NUDGE, NULL, 0);
        due_us = now_us + NUDGE_EACH_US;
    }
    m->look_again_us = due_us < m->look_again_us ? due_us : m->look_again_us;
}

/* The loose set must not grow between commits either. */
static void probe_growth(struct merge *m, int64_t now_us) {
    if (m->catalogued && !m->probing && hybrid_loose(m->h) > m->probed_loose + PROBE_GROWTH &&
        now_us - m->probed_us >= PROBE_EACH_US) {
        merge_ask(m, CONTROL_PROBE, NULL, 0);
    }
}

static void step_finishing(struct merge *m) {
    bool over = m->run->config->mode == JOB_ONCE && m->once_known && m->catalogued &&
                !m->capturing && !m->catalogue_asked && !hybrid_wants_catalogue(m->h, false) &&
                hybrid_joined(m->h) && hybrid_at_border(m->h) &&
                logpos_cmp(m->log_to, m->once_end) >= 0;
    if (!m->finishing && (over || atomic_load(&m->run->finishing))) {
        m->finishing = true;
        status_phase(m->run->status, "finishing");
    }
    if (m->finishing && !m->catalogued) {
        m->done = true; /* nothing was read: what is stored stays */
    }
}

static void put_tables(struct merge *m, struct buf *out) {
    struct hybrid_table_status *tables = xcalloc(STATUS_TABLES_MAX, sizeof *tables);
    uint32_t count = hybrid_status(m->h, tables, STATUS_TABLES_MAX);
    buf_putc(out, '[');
    for (uint32_t i = 0; i < count && i < STATUS_TABLES_MAX; i++) {
        const struct hybrid_table_status *t = &tables[i];
        buf_puts(out, i ? ",{\"table\":" : "{\"table\":");
        json_put_cstr(out, t->label);
        buf_puts(out, ",\"phase\":");
        json_put_cstr(out, t->phase);
        buf_putf(out, ",\"generation\":%u,\"rows_read\":%llu,\"rows_estimate\":%llu,\"holes\":%u}",
                 t->generation, (unsigned long long)t->rows_read,
                 (unsigned long long)t->rows_estimate, t->holes);
    }
    buf_putc(out, ']');
    free(tables);
}

static void publish(struct merge *m, int64_t now_us) {
    if (now_us < m->status_us) {
        return;
    }
    m->status_us = now_us + STATUS_EACH_US;
    struct buf tables, applied;
    buf_init(&tables, SIZE_MAX);
    buf_init(&applied, SIZE_MAX);
    put_tables(m, &tables);
    struct logpos at = hybrid_applied(m->h);
    if (source_put_logpos(m->run->config->source, &applied, at) == 0) {
        status_progress(m->run->status, buf_cstr(&applied), at.offset, &tables);
    }
    if (!m->finishing) {
        status_phase(m->run->status, hybrid_joined(m->h) ? "streaming" : "snapshot");
    }
    buf_release(&tables);
    buf_release(&applied);
}

/* One turn. 1 = something happened, 0 = nothing to do, -1 = err. */
static int turn(struct merge *m, struct err *err) {
    int busy = take_merge_news(m, err);
    if (busy < 0) {
        return -1;
    }
    step_finishing(m);
    ask_capture(m);
    if (m->catalogued && !m->finishing) {
        int lanes = take_lanes(m, err);
        if (lanes < 0) {
            return -1;
        }
        busy |= lanes;
        busy |= give_work(m);
    }
    /* What was probed is sealed before another segment brings as many loose transactions again. */
    if (m->seal == SEAL_READY && hybrid_at_border(m->h) && merge_seal_step(m, err)) {
        return -1;
    }
    int log = take_segment(m, err);
    if (log < 0) {
        return -1;
    }
    busy |= log;
    int64_t now_us = clock_mono_us();
    m->look_again_us = now_us + LOOK_US;
    say_joined(m);
    want_log(m, now_us);
    ask_catalogue(m, now_us);
    probe_growth(m, now_us);
    publish(m, now_us);
    return merge_seal_step(m, err) ? -1 : busy;
}

static uint32_t chunk_rows(const struct job_config *config) {
    return config->chunk_rows == 0 ? 100000 : config->chunk_rows < 2 ? 2 : config->chunk_rows;
}

static int begin(struct merge *m, struct err *err) {
    struct run *run = m->run;
    m->spool = spool_open(run->env, err);
    if (!m->spool) {
        return -1;
    }
    struct hybrid_config config = {
        .source = run->config->source,
        .sink = run->sink,
        .spool_ops = &spool_disk_ops,
        .spool = m->spool,
        .metrics = run->env->metrics,
        .held_bytes_max = run->budget.held_bytes,
        .rows_bytes_max = run->budget.rows_bytes,
        .chunk_rows = chunk_rows(run->config),
        .chunk_bytes = run->budget.chunk_bytes,
        .sections_max = run->lane_count * 4,
        .see_from_tx = run->see_from_tx,
        .snapshot_never = run->config->snapshot_never,
        .rewrite_stops = run->config->rewrite_stops,
    };
    m->h = hybrid_new(&config, merge_emit, m);
    int64_t now_us = clock_mono_us();
    m->seq = run->sink_state.seq + 1;
    m->barrier_us = now_us - run->freshness_us;
    m->long_warned_us = now_us;
    m->log_to = m->sealed_to = run->stored.applied;
    m->sealed_any = run->has_stored;
    m->catalogue_asked = true; /* control sends the first one unasked */
    m->catalogue_asked_us = now_us;
    return hybrid_restore(m->h, run->stored.applied, run->stored.resume,
                          run->has_stored ? run->stored.hybrid : NULL, run->sink_state.schemas,
                          run->sink_state.schema_count, err);
}

void merge_task(void *arg) {
    struct merge *m = xcalloc(1, sizeof *m);
    m->run = arg;
    struct err err = ERR_INIT;
    int rc = begin(m, &err);
    while (rc >= 0 && !m->done && !m->stopped_sending && !run_stopping(m->run)) {
        rc = turn(m, &err);
        if (rc == 0) {
            inbox_wait(m->run->merge_inbox, m->look_again_us);
        }
    }
    if (rc < 0) {
        run_fail(m->run, "merge", &err);
    } else if (m->done) {
        merge_ask(m, CONTROL_DONE, NULL, 0);
    }
    if (m->h) {
        hybrid_free(m->h);
    }
    spool_close(m->spool);
    free(m);
}
