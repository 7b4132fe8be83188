/* The source door, as callers go through it: one function a member of source.h's table. Each checks
 * what the contract there demands of the caller before, and of the connector after: our own bugs,
 * never what a server said. Nobody else calls the table, except a decorator that wraps it.
 *
 *   lane: IDLE -begin-> BEGUN (or GONE) -read-> READING -next (NULL), stop-> BEGUN -end-> IDLE
 *         IDLE -join-> BEGUN; any -an error-> BROKEN: closed, and another opened
 *
 * Nothing here costs by the row: at most by the batch. Thread: as the contract of each says. */
#pragma once
#include "cdc/batch.h"
#include "cdc/source.h"

/* No member is NULL. */
void source_ops_check(const struct source_ops *ops);
/* What log_next and lane_next hand on is whole: sealed, of one segment, nothing before `log->to`.
 */
void source_segment_check(const struct source_log *log, const struct segment *segment);
void source_batch_check(const struct batch *batch);

/* ---- control session ---- */

static inline TR_MUST_CHECK int source_open(const struct source_ops *ops,
                                            const struct source_address *addr, struct env *env,
                                            table_select_fn select, const void *rules,
                                            struct source **out, struct err *err) {
    source_ops_check(ops);
    CHECK(addr->job && env && select);
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(ops->open(addr, env, select, rules, out, err), err);
    CHECK((rc == 0) == (*out != NULL) && (rc || (*out)->ops == ops));
    return rc;
}
static inline void source_close(struct source *s) { s->ops->close(s); }
static inline TR_MUST_CHECK int source_examine(struct source *s, struct source_findings *out,
                                               struct err *err) {
    CHECK(out->count == 0);
    err_before_call(err);
    int rc = err_after_call(s->ops->examine(s, out, err), err);
    CHECK(out->count <= ARRAY_COUNT(out->at));
    return rc;
}
static inline TR_MUST_CHECK int source_catalogue(struct source *s, struct source_catalogue *out,
                                                 struct err *err) {
    err_before_call(err);
    int rc = err_after_call(s->ops->catalogue(s, out, err), err);
    CHECK(rc || out->tables || out->count == 0);
    return rc;
}
static inline TR_MUST_CHECK int source_start(struct source *s, const struct source_start *req,
                                             struct source_started *out, struct err *err) {
    CHECK((req->knows != TARGET_POSITION || req->lineage) &&
          (req->knows == TARGET_NOTHING || !req->temporary));
    err_before_call(err);
    int rc = err_after_call(s->ops->start(s, req, out, err), err);
    CHECK(rc || memchr(out->lineage, '\0', sizeof out->lineage));
    return rc;
}
static inline TR_MUST_CHECK int source_capture(struct source *s, const uint64_t *table_ids,
                                               uint32_t count, uint64_t *see_from_tx,
                                               struct logpos *from, struct err *err) {
    CHECK(table_ids && count);
    err_before_call(err);
    return err_after_call(s->ops->capture(s, table_ids, count, see_from_tx, from, err), err);
}
static inline TR_MUST_CHECK int source_probe(struct source *s, struct snapshot *out,
                                             struct err *err) {
    err_before_call(err);
    int rc = err_after_call(s->ops->probe(s, out, err), err);
    CHECK(rc || out->xip || out->xip_count == 0);
    return rc;
}
static inline TR_MUST_CHECK int source_nudge(struct source *s, struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->nudge(s, err), err);
}
static inline TR_MUST_CHECK int source_log_end(struct source *s, struct logpos *out,
                                               struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->log_end(s, out, err), err);
}
static inline TR_MUST_CHECK int source_status(struct source *s, struct source_status *out,
                                              struct err *err) {
    err_before_call(err);
    int rc = err_after_call(s->ops->status(s, out, err), err);
    CHECK(rc || memchr(out->detail, '\0', sizeof out->detail));
    return rc;
}
static inline TR_MUST_CHECK int source_drop(struct source *s, struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->drop(s, err), err);
}
static inline TR_MUST_CHECK int source_drop_plan(struct source *s, struct buf *out,
                                                 struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->drop_plan(s, out, err), err);
}
static inline TR_MUST_CHECK int source_slots(struct source *s, struct buf *out, struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->slots(s, out, err), err);
}

/* ---- pure ---- */

static inline bool source_rewritten(const struct source_ops *ops, const struct schema *before,
                                    const struct schema *after) {
    CHECK(before && after);
    return ops->rewritten(before, after);
}
static inline bool source_added(const struct source_ops *ops, const struct schema *before,
                                const struct schema *after) {
    CHECK(before && after);
    return ops->added && ops->added(before, after);
}
static inline int source_put_logpos(const struct source_ops *ops, struct buf *out,
                                    struct logpos pos) {
    int rc = ops->put_logpos(out, pos);
    CHECK(rc == 0 || rc == -1);
    return rc;
}
static inline TR_MUST_CHECK int source_take_logpos(const struct source_ops *ops, const char *text,
                                                   struct logpos *out) {
    CHECK(text);
    int rc = ops->take_logpos(text, out);
    CHECK(rc == 0 || rc == -1);
    return rc;
}

/* ---- log session ---- */

static inline TR_MUST_CHECK int source_log_open(struct source *s, struct logpos from,
                                                struct source_log **out, struct err *err) {
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(s->ops->log_open(s, from, out, err), err);
    CHECK((rc == 0) == (*out != NULL));
    if (rc == 0) {
        (*out)->to = from;
    }
    return rc;
}
static inline void source_log_close(struct source_log *log) { log->ops->log_close(log); }
/* Of next and idle: after REWIND or FATAL the session is of no use any more. */
static inline int source_log_after(struct source_log *log, int rc, const struct err *err) {
    log->broken = err_after_call(rc, err) && err->kind != ERR_RETRY;
    return rc;
}
static inline TR_MUST_CHECK int source_log_next(struct source_log *log, int64_t deadline_us,
                                                struct segment **out, struct err *err) {
    CHECK(!log->broken);
    err_before_call(err);
    *out = NULL;
    int rc = source_log_after(log, log->ops->log_next(log, deadline_us, out, err), err);
    CHECK(rc == 0 || !*out);
    if (*out) {
        source_segment_check(log, *out);
        log->to = (*out)->to;
    }
    return rc;
}
static inline TR_MUST_CHECK int source_log_idle(struct source_log *log, int64_t deadline_us,
                                                struct err *err) {
    CHECK(!log->broken);
    err_before_call(err);
    return source_log_after(log, log->ops->log_idle(log, deadline_us, err), err);
}
static inline void source_log_ack(struct source_log *log, struct logpos resume) {
    CHECK(logpos_cmp(resume, log->acked) >= 0);
    log->acked = resume;
    log->ops->log_ack(log, resume);
}
static inline void source_log_wake(struct source_log *log) { log->ops->log_wake(log); }
static inline void source_log_want(struct source_log *log, struct logpos pos) {
    CHECK(!logpos_is_none(pos));
    log->ops->log_want(log, pos);
}

/* ---- lane session ---- */

static inline TR_MUST_CHECK int source_lane_open(struct source *s, unsigned number,
                                                 struct source_lane **out, struct err *err) {
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(s->ops->lane_open(s, number, out, err), err);
    CHECK((rc == 0) == (*out != NULL) && (rc || (*out)->phase == SOURCE_LANE_IDLE));
    return rc;
}
static inline void source_lane_close(struct source_lane *l) { l->ops->lane_close(l); }
/* The phase that the lane is in after an answer; `next` if it was 0. */
static inline int source_lane_after(struct source_lane *l, int rc, enum source_lane_phase next,
                                    const struct err *err) {
    l->phase = err_after_call(rc, err) ? SOURCE_LANE_BROKEN : next;
    return rc;
}
static inline TR_MUST_CHECK int source_lane_cut(struct source_lane *l, const struct schema *schema,
                                                bool whole, uint32_t pieces_max, struct buf *bounds,
                                                uint32_t *pieces, struct err *err) {
    CHECK(l->phase == (whole ? SOURCE_LANE_BEGUN : SOURCE_LANE_IDLE));
    CHECK(pieces_max && bounds->len == 0);
    err_before_call(err);
    int rc = source_lane_after(
        l, l->ops->lane_cut(l, schema, whole, pieces_max, bounds, pieces, err), l->phase, err);
    CHECK(rc || (*pieces >= 1 && *pieces <= pieces_max && (*pieces > 1) == (bounds->len > 0)));
    return rc;
}
static inline TR_MUST_CHECK int source_lane_begin(struct source_lane *l,
                                                  const struct schema *schema,
                                                  struct chunk_view *out, char *export_name,
                                                  struct err *err) {
    CHECK(l->phase == SOURCE_LANE_IDLE);
    err_before_call(err);
    int rc = l->ops->lane_begin(l, schema, out, export_name, err);
    source_lane_after(l, rc, out->gone ? SOURCE_LANE_GONE : SOURCE_LANE_BEGUN, err);
    CHECK(rc || out->gone || out->schema);
    CHECK(rc || !export_name || memchr(export_name, '\0', SOURCE_EXPORT_NAME_BYTES));
    return rc;
}
static inline TR_MUST_CHECK int source_lane_join(struct source_lane *l, const struct schema *schema,
                                                 const char *export_name, struct err *err) {
    CHECK(l->phase == SOURCE_LANE_IDLE && export_name);
    err_before_call(err);
    return source_lane_after(l, l->ops->lane_join(l, schema, export_name, err), SOURCE_LANE_BEGUN,
                             err);
}
static inline TR_MUST_CHECK int source_lane_read(struct source_lane *l,
                                                 const struct chunk_read *req, struct err *err) {
    CHECK(l->phase == SOURCE_LANE_BEGUN && req->schema && req->batch_rows);
    CHECK(req->whole ? !req->exact : req->rows_max && (!req->exact || req->lo_len));
    err_before_call(err);
    return source_lane_after(l, l->ops->lane_read(l, req, err), SOURCE_LANE_READING, err);
}
static inline TR_MUST_CHECK int source_lane_next(struct source_lane *l, struct batch **out,
                                                 struct err *err) {
    CHECK(l->phase == SOURCE_LANE_READING);
    err_before_call(err);
    *out = NULL;
    int rc = l->ops->lane_next(l, out, err);
    source_lane_after(l, rc, *out ? SOURCE_LANE_READING : SOURCE_LANE_BEGUN, err);
    CHECK(rc == 0 || !*out);
    if (*out) {
        source_batch_check(*out);
    }
    return rc;
}
static inline TR_MUST_CHECK int source_lane_stop(struct source_lane *l, struct err *err) {
    CHECK(l->phase == SOURCE_LANE_READING);
    err_before_call(err);
    return source_lane_after(l, l->ops->lane_stop(l, err), SOURCE_LANE_BEGUN, err);
}
static inline TR_MUST_CHECK int source_lane_end(struct source_lane *l, struct err *err) {
    CHECK(l->phase == SOURCE_LANE_BEGUN || l->phase == SOURCE_LANE_GONE);
    err_before_call(err);
    return source_lane_after(l, l->ops->lane_end(l, err), SOURCE_LANE_IDLE, err);
}
