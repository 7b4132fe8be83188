/* The sink door, as callers go through it: one function a member of sink.h's table. Each checks
 * what the contract there demands of the caller before, and of the sink after: our own bugs, never
 * what a target said or stored. Nobody else calls the table, except a decorator that wraps it.
 *
 *   commit -COMMITTED-> the next seq; -UNKNOWN-> nothing but resolve, until it answers
 *
 * Thread: as the contract of each says; what a struct sink remembers is the supervisor's before
 * the commit task starts and after it ended, and the commit task's between. */
#pragma once
#include "cdc/sink.h"

/* No member is NULL but needs_anew and takes_missing. */
void sink_ops_check(const struct sink_ops *ops);
/* A request that this sink may be given now; both ends of what was asked. */
void sink_request_check(const struct sink *s, const struct commit_request *req);
/* What a writer may be given. */
void sink_item_check(const struct stage_item *item);

static inline TR_MUST_CHECK int sink_open(const struct sink_ops *ops,
                                          const struct sink_address *addr, struct env *env,
                                          struct sink **out, struct err *err) {
    sink_ops_check(ops);
    CHECK(addr->scheme && addr->put_logpos && env);
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(ops->open(addr, env, out, err), err);
    CHECK((rc == 0) == (*out != NULL) && (rc || (*out)->ops == ops));
    return rc;
}
static inline void sink_close(struct sink *s) { s->ops->close(s); }
static inline TR_MUST_CHECK int sink_examine(struct sink *s, struct source_findings *out,
                                             struct err *err) {
    CHECK(out->count == 0);
    err_before_call(err);
    int rc = err_after_call(s->ops->examine(s, out, err), err);
    CHECK(out->count <= ARRAY_COUNT(out->at));
    return rc;
}
static inline TR_MUST_CHECK int sink_describe(struct sink *s, const struct source_catalogue *tables,
                                              struct sink_description *out, struct err *err) {
    CHECK(out->findings.count == 0);
    err_before_call(err);
    int rc = err_after_call(s->ops->describe(s, tables, out, err), err);
    CHECK(out->findings.count <= ARRAY_COUNT(out->findings.at));
    return rc;
}
static inline TR_MUST_CHECK int sink_peek(struct sink *s, struct sink_state *out, struct err *err) {
    err_before_call(err);
    int rc = err_after_call(s->ops->peek(s, out, err), err);
    CHECK(rc || (out->knows == TARGET_POSITION) == (out->position != NULL));
    return rc;
}
static inline TR_MUST_CHECK int sink_recover(struct sink *s, struct sink_state *out,
                                             struct err *err) {
    CHECK(!s->doubtful_seq);
    err_before_call(err);
    int rc = err_after_call(s->ops->recover(s, out, err), err);
    if (rc == 0) {
        CHECK((out->knows == TARGET_POSITION) == (out->position != NULL));
        s->recovered = true;
        s->positioned = out->position != NULL;
        s->epoch = out->epoch;
        s->seq = out->seq;
    }
    return rc;
}
static inline TR_MUST_CHECK int sink_apply_schema(struct sink *s, const struct commit_request *next,
                                                  struct err *err) {
    CHECK(next->schemas_changed);
    sink_request_check(s, next);
    err_before_call(err);
    int rc = err_after_call(s->ops->apply_schema(s, next, err), err);
    s->applied_seq = rc ? s->applied_seq : next->seq;
    return rc;
}
static inline bool sink_needs_anew(const struct sink *s, const struct schema *before,
                                   const struct schema *after) {
    return s->ops->needs_anew && s->ops->needs_anew(s, before, after);
}
static inline bool sink_takes_missing(const struct sink *s, const struct schema *schema,
                                      uint16_t column) {
    CHECK(schema->columns[column].missing);
    return s->ops->takes_missing && s->ops->takes_missing(s, schema, column);
}
static inline void sink_committed(struct sink *s, const struct commit_request *req) {
    s->seq = req->seq;
    s->positioned = true;
    s->doubtful_seq = 0;
}
static inline TR_MUST_CHECK enum commit_outcome
sink_commit(struct sink *s, const struct commit_request *req, struct err *err) {
    sink_request_check(s, req);
    CHECK(!req->schemas_changed || s->applied_seq == req->seq);
    err_before_call(err);
    enum commit_outcome outcome = s->ops->commit(s, req, err);
    CHECK(outcome >= COMMIT_FAILED && outcome <= COMMIT_UNKNOWN);
    CHECK(outcome != COMMIT_FAILED || (err->kind != ERR_NONE && err->code[0]));
    if (outcome == COMMITTED) {
        sink_committed(s, req);
    } else if (outcome == COMMIT_UNKNOWN) {
        s->doubtful_seq = req->seq;
    }
    return outcome;
}
static inline TR_MUST_CHECK enum resolve_outcome
sink_resolve(struct sink *s, const struct commit_request *req, struct err *err) {
    CHECK(s->doubtful_seq && s->doubtful_seq == req->seq && req->epoch == s->epoch);
    err_before_call(err);
    enum resolve_outcome outcome = s->ops->resolve(s, req, err);
    CHECK(outcome >= RESOLVE_FAILED && outcome <= RESOLVE_UNKNOWN);
    CHECK(outcome != RESOLVE_FAILED || (err->kind != ERR_NONE && err->code[0]));
    if (outcome == RESOLVED_COMMITTED) {
        sink_committed(s, req);
    } else if (outcome == RESOLVED_NOT_COMMITTED) {
        s->doubtful_seq = 0;
    }
    return outcome;
}
static inline TR_MUST_CHECK int sink_summary(struct sink *s, struct buf *out, struct err *err) {
    err_before_call(err);
    return err_after_call(s->ops->summary(s, out, err), err);
}

/* ---- writers ---- */

static inline TR_MUST_CHECK int sink_writer_open(struct sink *s, uint32_t number,
                                                 struct sink_writer **out, struct err *err) {
    CHECK(number < s->ops->writers_max);
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(s->ops->writer_open(s, number, out, err), err);
    CHECK((rc == 0) == (*out != NULL));
    return rc;
}
static inline void sink_writer_close(struct sink_writer *w) { w->ops->writer_close(w); }
static inline TR_MUST_CHECK int sink_writer_stage(struct sink_writer *w,
                                                  const struct stage_item *item, struct err *err) {
    sink_item_check(item);
    err_before_call(err);
    int rc = err_after_call(w->ops->writer_stage(w, item, err), err);
    w->staged = w->staged || rc == 0;
    return rc;
}
static inline TR_MUST_CHECK int sink_writer_seal(struct sink_writer *w, uint64_t seq,
                                                 struct sink_part **out, struct err *err) {
    CHECK(seq > w->sealed_seq);
    err_before_call(err);
    *out = NULL;
    int rc = err_after_call(w->ops->writer_seal(w, seq, out, err), err);
    CHECK(!*out || (rc == 0 && w->staged));
    if (rc == 0) {
        w->sealed_seq = seq;
        w->staged = false;
    }
    return rc;
}
/* Of a part that was in a commit request, settled or given up. */
static inline void sink_part_free(struct sink *s, struct sink_part *part, bool committed) {
    CHECK(part && (committed || !s->doubtful_seq));
    s->ops->part_free(part, committed);
}
/* Of a part that never was in a request. Thread: any. */
static inline void sink_part_drop(const struct sink_ops *ops, struct sink_part *part) {
    CHECK(part);
    ops->part_free(part, false);
}
