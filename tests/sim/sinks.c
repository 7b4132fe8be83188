/* The model sim_target. See sinks.h; the jsonl target is in sinks_jsonl.c. */
#include "tests/sim/sinks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/map.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/sinks_impl.h"

struct sink_part {
    struct events events;
};
struct model_sink {
    struct sink base;
    unsigned group;
    uint64_t epoch;
};
struct model_writer {
    struct sink_writer base;
    struct events events;
};
struct target sim_target;

static const struct sink_ops model_ops[SINK_KINDS];

void sinks_init(struct db *db, struct disk *disk, enum sink_kind kind, unsigned options) {
    sim_target.db = db;
    sim_target.disk = disk;
    sim_target.kind = kind;
    if (kind == SINK_JSONL || kind == SINK_PARQUET) {
        jsonl_target_init(db, disk);
    } else if (kind == SINK_ICEBERG) {
        iceberg_target_init(db, disk, options);
    }
}

const struct sink_ops *sim_sink_ops(enum sink_kind kind) {
    return kind == SINK_JSONL || kind == SINK_PARQUET ? &sim_jsonl_ops
           : kind == SINK_ICEBERG                     ? &sim_iceberg_ops
                                                      : &model_ops[kind];
}

/* ---- requests ---- */

void request_init(struct request *out, const struct commit_request *req, unsigned group) {
    *out = (struct request){ .from = req->from ? xstrdup(req->from) : NULL,
                             .to = xstrdup(req->to),
                             .epoch = req->epoch,
                             .seq = req->seq,
                             .group = group };
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        out->labels[out->label_count++] = xstrdup(req->inconsistent[i]);
    }
    for (uint32_t i = 0; i < req->schema_count; i++) {
        out->schemas[out->schema_count++] = schema_ref(req->schemas[i]);
    }
}

static void request_of(const struct model_sink *s, const struct commit_request *req,
                       struct request *out) {
    request_init(out, req, s->group);
    for (uint32_t p = 0; p < req->part_count; p++) {
        for (unsigned i = 0; req->parts[p] && i < req->parts[p]->events.count; i++) {
            events_add(&out->events, &req->parts[p]->events.at[i]);
        }
    }
}

void request_release(struct request *r) {
    free(r->from);
    free(r->to);
    for (uint32_t i = 0; i < r->label_count; i++) {
        free(r->labels[i]);
    }
    for (uint32_t i = 0; i < r->schema_count; i++) {
        schema_unref(r->schemas[i]);
    }
    events_clear(&r->events);
    *r = (struct request){ 0 };
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

enum commit_outcome target_judge(const struct request *r) {
    return r->epoch != sim_target.epoch               ? COMMIT_FENCED
           : !same_text(r->from, sim_target.position) ? COMMIT_CONFLICT
                                                      : COMMITTED;
}

void target_apply(const struct request *r) {
    CHECK(target_judge(r) == COMMITTED);
    free(sim_target.position);
    sim_target.position = xstrdup(r->to);
    sim_target.seq = r->seq;
    sim_target.schema_count = r->schema_count;
    for (uint32_t i = 0; i < r->schema_count; i++) {
        buf_release(&sim_target.schemas[i]);
        buf_init(&sim_target.schemas[i], SIZE_MAX);
        schema_put_json(&sim_target.schemas[i], r->schemas[i]);
    }
    oracle_committed(&(struct oracle_commit){ .position = r->to,
                                              .inconsistent = (const char *const *)r->labels,
                                              .inconsistent_count = r->label_count,
                                              .schemas = r->schemas,
                                              .schema_count = r->schema_count,
                                              .epoch = r->epoch,
                                              .seq = r->seq,
                                              .group = r->group,
                                              .events = &r->events });
}

void sinks_settle_late(void) {
    if (sim_target.late.under_way) {
        struct request r = sim_target.late; /* it may take a while, and others ask meanwhile */
        sim_target.late = (struct request){ 0 };
        enum commit_outcome outcome = target_take(&r);
        sim_note("a late commit arrived: %d", (int)outcome);
        request_release(&r);
    }
}

static uint64_t hash_text(const char *s, uint64_t seed) {
    return s ? hash_bytes(s, strlen(s), seed) : seed;
}

uint64_t request_hash(const struct request *r) {
    uint64_t hash = hash_text(r->to, hash_text(r->from, 1));
    for (uint32_t i = 0; i < r->label_count; i++) {
        hash = hash_text(r->labels[i], hash);
    }
    for (unsigned i = 0; i < r->events.count; i++) {
        hash = hash_bytes(&r->events.at[i], sizeof r->events.at[i], hash);
    }
    return hash;
}

void request_check_retry(const struct request *r) {
    if (sim_target.kind == SINK_DEDUPE) {
        return; /* it looks itself */
    }
    uint64_t hash = request_hash(r);
    bool again = sim_target.tried_epoch == r->epoch && sim_target.tried_seq == r->seq;
    if (again && sim_target.tried_hash != hash) {
        sim_fail("retry", "commit %llu of epoch %llu is tried again with other contents",
                 (unsigned long long)r->seq, (unsigned long long)r->epoch);
    }
    sim_target.tried_epoch = r->epoch;
    sim_target.tried_seq = r->seq;
    sim_target.tried_hash = hash;
}

/* ---- the door ---- */

static int model_open(const struct sink_address *a, struct env *env, struct sink **out,
                      struct err *err) {
    (void)a, (void)env, (void)err;
    struct model_sink *s = xcalloc(1, sizeof *s);
    *s = (struct model_sink){ .base.ops = &model_ops[sim_target.kind], .group = sched_group() };
    *out = &s->base;
    return 0;
}
static void model_close(struct sink *s) { free(s); }
static int model_examine(struct sink *s, struct source_findings *out, struct err *err) {
    (void)s, (void)err;
    out->count = 0;
    return 0;
}

static int tell(struct sink_state *out, struct err *err) {
    *out =
        (struct sink_state){ .knows = sim_target.position  ? TARGET_POSITION
                                      : sim_target.claimed ? TARGET_CLAIM
                                                           : TARGET_NOTHING,
                             .position = sim_target.position ? xstrdup(sim_target.position) : NULL,
                             .epoch = sim_target.epoch,
                             .seq = target_seq() };
    out->schemas = xcalloc(sim_target.schema_count + 1, sizeof *out->schemas);
    for (uint32_t i = 0; i < sim_target.schema_count; i++) {
        out->schemas[i] =
            schema_from_json(sim_target.schemas[i].data, sim_target.schemas[i].len, err);
        CHECK(out->schemas[i]);
        out->schema_count++;
    }
    return 0;
}

static int model_peek(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s;
    return tell(out, err);
}

static void maybe_settle(void) {
    if (sim_below(STREAM_DOOR, 2)) {
        sinks_settle_late();
    }
}

static int model_recover(struct sink *sink, struct sink_state *out, struct err *err) {
    struct model_sink *s = (struct model_sink *)sink;
    maybe_settle();
    request_release(&sim_target.late); /* fenced off: it never arrives */
    bool before = sim_target.claimed;
    int rc = tell(out, err);
    out->knows = before ? out->knows : TARGET_NOTHING;
    sim_target.claimed = true;
    target_claimed();
    out->epoch = s->epoch = ++sim_target.epoch;
    oracle_claimed(sim_target.epoch, sim_target.seq, s->group);
    oracle_recovered(sim_target.position);
    sched_yield("recovered");
    return rc;
}

static int model_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s, (void)next, (void)err;
    return 0;
}

/* A server that knows a commit when it sees it again is not asked, but told once more: nothing
 * stops what is under way. */
static bool knows_again(void) { return sim_target.kind == SINK_DEDUPE; }

static enum commit_outcome model_commit(struct sink *sink, const struct commit_request *req,
                                        struct err *err) {
    (void)err;
    struct request r;
    request_of((struct model_sink *)sink, req, &r);
    request_check_retry(&r);
    maybe_settle();
    enum commit_outcome outcome = target_take(&r);
    maybe_settle();
    request_release(&r);
    if (outcome == COMMITTED) {
        sched_yield("committed");
    }
    return outcome;
}

void sinks_be_cut(struct sink *sink, const struct commit_request *req) {
    if (sim_target.kind == SINK_VERSION) {
        struct request r;
        request_of((struct model_sink *)sink, req, &r);
        request_check_retry(&r);
        target_take_part(&r);
        request_release(&r);
    }
}

void sinks_be_late(struct sink *sink, const struct commit_request *req) {
    if (sim_target.kind == SINK_JSONL || sim_target.kind == SINK_PARQUET ||
        sim_target.kind == SINK_ICEBERG) {
        return;
    }
    struct request r;
    request_of((struct model_sink *)sink, req, &r);
    request_check_retry(&r);
    target_take_part(&r);
    if (sim_target.late.under_way) {
        request_release(&r);
        return;
    }
    sim_target.late = r;
    sim_target.late.under_way = true;
}

static enum resolve_outcome model_resolve(struct sink *sink, const struct commit_request *req,
                                          struct err *err) {
    (void)sink, (void)err;
    maybe_settle();
    if (knows_again()) {
        return RESOLVED_NOT_COMMITTED;
    }
    if (sim_target.kind == SINK_TOKEN && sim_target.late.under_way && sim_below(STREAM_DOOR, 2)) {
        return RESOLVE_UNKNOWN; /* the token may still come */
    }
    request_release(&sim_target.late); /* told off: it never arrives */
    return same_text(sim_target.position, req->to) && target_seq() == req->seq
               ? RESOLVED_COMMITTED
               : RESOLVED_NOT_COMMITTED;
}

static int model_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                             struct err *err) {
    (void)number, (void)err;
    struct model_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = s->ops;
    *out = &w->base;
    return 0;
}
static int model_stage(struct sink_writer *w, const struct stage_item *item, struct err *err) {
    (void)err;
    events_of_item(sim_target.db, item, &((struct model_writer *)w)->events);
    return 0;
}
static int model_seal(struct sink_writer *writer, uint64_t seq, struct sink_part **out,
                      struct err *err) {
    struct model_writer *w = (struct model_writer *)writer;
    (void)seq, (void)err;
    *out = NULL;
    if (w->events.count) {
        *out = xcalloc(1, sizeof **out);
        (*out)->events = w->events;
        w->events = (struct events){ 0 };
    }
    return 0;
}
static void model_writer_close(struct sink_writer *w) {
    events_clear(&((struct model_writer *)w)->events);
    free(w);
}
static void model_part_free(struct sink_part *part, bool committed) {
    (void)committed;
    events_clear(&part->events);
    free(part);
}
static int model_summary(struct sink *s, struct buf *out, struct err *err) {
    (void)s, (void)out, (void)err;
    return 0;
}

#define MODEL(NAME, WRITERS)                                                                       \
    {                                                                                              \
        .name = NAME, .writers_max = WRITERS, .owns_position = true, .stages = true,               \
        .freshness_us = 50 * US_PER_MS, .open = model_open, .close = model_close,                  \
        .examine = model_examine, .peek = model_peek, .recover = model_recover,                    \
        .apply_schema = model_apply_schema, .commit = model_commit, .resolve = model_resolve,      \
        .writer_open = model_writer_open, .writer_stage = model_stage, .writer_seal = model_seal,  \
        .writer_close = model_writer_close, .part_free = model_part_free,                          \
        .summary = model_summary, .describe = sink_describes_nothing                               \
    }
static const struct sink_ops model_ops[SINK_KINDS] = {
    [SINK_MODEL_1] = MODEL("model1", 1),  [SINK_MODEL_2] = MODEL("model2", 2),
    [SINK_TOKEN] = MODEL("token", 1),     [SINK_DEDUPE] = MODEL("dedupe", 2),
    [SINK_VERSION] = MODEL("version", 1),
};
