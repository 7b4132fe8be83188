/* The model target. See sinks.h; the jsonl target is in sinks_jsonl.c. */
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
/* A commit as it travels. */
struct request {
    bool under_way;
    char *from, *to;
    uint64_t epoch, seq;
    unsigned group;
    char *labels[DB_TABLES + 4];
    uint32_t label_count;
    struct schema *schemas[DB_TABLES + 4];
    uint32_t schema_count;
    struct events events;
};
static struct {
    struct db *db;
    bool models, claimed;
    char *position;
    uint64_t epoch, seq;
    struct buf schemas[DB_TABLES + 4]; /* JSON, as a target keeps them */
    uint32_t schema_count;
    struct request late;
    uint64_t tried_epoch, tried_seq, tried_hash; /* the last commit that was asked for */
} target;

static const struct sink_ops model_1_ops, model_2_ops;

void sinks_init(struct db *db, struct disk *disk, enum sink_kind kind) {
    target.db = db;
    target.models = kind != SINK_JSONL;
    if (kind == SINK_JSONL) {
        jsonl_target_init(db, disk);
    }
}

const struct sink_ops *sim_sink_ops(enum sink_kind kind) {
    return kind == SINK_JSONL ? &sim_jsonl_ops : kind == SINK_MODEL_1 ? &model_1_ops : &model_2_ops;
}

/* ---- requests ---- */

static void request_of(const struct model_sink *s, const struct commit_request *req,
                       struct request *out) {
    *out = (struct request){ .from = req->from ? xstrdup(req->from) : NULL,
                             .to = xstrdup(req->to),
                             .epoch = req->epoch,
                             .seq = req->seq,
                             .group = s->group };
    for (uint32_t i = 0; i < req->inconsistent_count; i++) {
        out->labels[out->label_count++] = xstrdup(req->inconsistent[i]);
    }
    for (uint32_t i = 0; i < req->schema_count; i++) {
        out->schemas[out->schema_count++] = schema_ref(req->schemas[i]);
    }
    for (uint32_t p = 0; p < req->part_count; p++) {
        for (unsigned i = 0; req->parts[p] && i < req->parts[p]->events.count; i++) {
            events_add(&out->events, &req->parts[p]->events.at[i]);
        }
    }
}

static void request_release(struct request *r) {
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

static enum commit_outcome judge(const struct request *r) {
    return r->epoch != target.epoch               ? COMMIT_FENCED
           : !same_text(r->from, target.position) ? COMMIT_CONFLICT
                                                  : COMMITTED;
}

static void apply(const struct request *r) {
    CHECK(judge(r) == COMMITTED);
    free(target.position);
    target.position = xstrdup(r->to);
    target.seq = r->seq;
    target.schema_count = r->schema_count;
    for (uint32_t i = 0; i < r->schema_count; i++) {
        buf_release(&target.schemas[i]);
        buf_init(&target.schemas[i], SIZE_MAX);
        schema_put_json(&target.schemas[i], r->schemas[i]);
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
    if (target.late.under_way) {
        sim_note("a late commit arrives");
        if (judge(&target.late) == COMMITTED) {
            apply(&target.late);
        }
        request_release(&target.late);
    }
}

static uint64_t hash_text(const char *s, uint64_t seed) {
    return s ? hash_bytes(s, strlen(s), seed) : seed;
}

/* A target that knows commits by their label refuses a second try that differs from the first. */
static void check_retry(const struct request *r) {
    uint64_t hash = hash_text(r->to, hash_text(r->from, 1));
    for (uint32_t i = 0; i < r->label_count; i++) {
        hash = hash_text(r->labels[i], hash);
    }
    for (unsigned i = 0; i < r->events.count; i++) {
        hash = hash_bytes(&r->events.at[i], sizeof r->events.at[i], hash);
    }
    bool again = target.tried_epoch == r->epoch && target.tried_seq == r->seq;
    if (again && target.tried_hash != hash) {
        sim_fail("retry", "commit %llu of epoch %llu is tried again with other contents",
                 (unsigned long long)r->seq, (unsigned long long)r->epoch);
    }
    target.tried_epoch = r->epoch;
    target.tried_seq = r->seq;
    target.tried_hash = hash;
}

/* ---- the door ---- */

static int model_open(const struct sink_address *a, struct sink **out, const struct sink_ops *ops,
                      struct err *err) {
    (void)a, (void)err;
    struct model_sink *s = xcalloc(1, sizeof *s);
    *s = (struct model_sink){ .base.ops = ops, .group = sched_group() };
    *out = &s->base;
    return 0;
}
static int model_1_open(const struct sink_address *a, struct env *env, struct sink **out,
                        struct err *err) {
    (void)env;
    return model_open(a, out, &model_1_ops, err);
}
static int model_2_open(const struct sink_address *a, struct env *env, struct sink **out,
                        struct err *err) {
    (void)env;
    return model_open(a, out, &model_2_ops, err);
}
static void model_close(struct sink *s) { free(s); }
static int model_examine(struct sink *s, struct source_findings *out, struct err *err) {
    (void)s, (void)err;
    out->count = 0;
    return 0;
}

static int tell(struct sink_state *out, struct err *err) {
    *out = (struct sink_state){ .knows = target.position  ? TARGET_POSITION
                                         : target.claimed ? TARGET_CLAIM
                                                          : TARGET_NOTHING,
                                .position = target.position ? xstrdup(target.position) : NULL,
                                .epoch = target.epoch,
                                .seq = target.seq };
    out->schemas = xcalloc(target.schema_count + 1, sizeof *out->schemas);
    for (uint32_t i = 0; i < target.schema_count; i++) {
        out->schemas[i] = schema_from_json(target.schemas[i].data, target.schemas[i].len, err);
        CHECK(out->schemas[i]);
        out->schema_count++;
    }
    return 0;
}

static int model_peek(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s;
    return tell(out, err);
}

static int model_recover(struct sink *sink, struct sink_state *out, struct err *err) {
    struct model_sink *s = (struct model_sink *)sink;
    if (sim_below(STREAM_DOOR, 2)) {
        sinks_settle_late();
    } else {
        request_release(&target.late); /* fenced off: it never arrives */
    }
    bool before = target.claimed;
    int rc = tell(out, err);
    out->knows = before ? out->knows : TARGET_NOTHING;
    target.claimed = true;
    out->epoch = s->epoch = ++target.epoch;
    oracle_claimed(target.epoch, target.seq, s->group);
    oracle_recovered(target.position);
    sched_yield("recovered");
    return rc;
}

static int model_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s, (void)next, (void)err;
    return 0;
}

static enum commit_outcome model_commit(struct sink *sink, const struct commit_request *req,
                                        struct err *err) {
    (void)err;
    struct request r;
    request_of((struct model_sink *)sink, req, &r);
    check_retry(&r);
    enum commit_outcome outcome = judge(&r);
    if (outcome == COMMITTED) {
        apply(&r);
    }
    request_release(&r);
    if (outcome == COMMITTED) {
        sched_yield("committed");
    }
    return outcome;
}

void sinks_be_late(struct sink *sink, const struct commit_request *req) {
    if (target.models && !target.late.under_way) {
        request_of((struct model_sink *)sink, req, &target.late);
        check_retry(&target.late);
        target.late.under_way = true;
    }
}

static enum resolve_outcome model_resolve(struct sink *sink, const struct commit_request *req,
                                          struct err *err) {
    (void)sink, (void)err;
    if (target.late.under_way && sim_below(STREAM_DOOR, 2)) {
        sinks_settle_late();
    }
    request_release(&target.late); /* told off: it never arrives */
    return same_text(target.position, req->to) && target.seq == req->seq ? RESOLVED_COMMITTED
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
    events_of_item(target.db, item, &((struct model_writer *)w)->events);
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

#define MODEL_OPS                                                                                  \
    .owns_position = true, .stages = true, .freshness_us = 50 * US_PER_MS, .close = model_close,   \
    .examine = model_examine, .peek = model_peek, .recover = model_recover,                        \
    .apply_schema = model_apply_schema, .commit = model_commit, .resolve = model_resolve,          \
    .writer_open = model_writer_open, .writer_stage = model_stage, .writer_seal = model_seal,      \
    .writer_close = model_writer_close, .part_free = model_part_free, .summary = model_summary
static const struct sink_ops model_1_ops = {
    .name = "model1", .writers_max = 1, .open = model_1_open, MODEL_OPS
};
static const struct sink_ops model_2_ops = {
    .name = "model2", .writers_max = 2, .open = model_2_open, MODEL_OPS
};
