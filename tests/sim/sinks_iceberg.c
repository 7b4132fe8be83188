/* The product's iceberg sink on the memory disk, watched: what a commit is to bring is kept by its
 * number while its outcome is open, and counts for the oracles once it is known to stand. See
 * sinks.h, lake.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/iceberg.h"
#include "tests/sim/lake.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"

struct wrapped {
    struct sink base;
    struct sink *inner;
    unsigned group;
};
struct wrapped_writer {
    struct sink_writer base;
    struct sink_writer *inner;
    struct events events;
};
struct sink_part {
    struct sink_part *inner; /* NULL: rows came, and nothing of them is left to be done */
    struct events events;
};
static struct {
    struct db *db;
    unsigned options;
    struct request *tried; /* commits that may stand and are not yet known to */
    unsigned count, cap;
} it;

void iceberg_target_init(struct db *db, struct disk *disk, unsigned options) {
    it.db = db;
    it.options = options;
    lake_init(db, disk);
    oracle_takes_defaults(options & LAKE_V3);
}

static struct sink *inner(struct sink *s) { return ((struct wrapped *)s)->inner; }

static void set(struct opts *o, const char *key, const char *value) {
    struct err err = ERR_INIT;
    int failed = opts_set(o, key, value, &err);
    CHECK(failed == 0);
}

static int wrapped_open(const struct sink_address *a, struct env *env, struct sink **out,
                        struct err *err) {
    struct sink_address address = *a;
    struct opts *opts = opts_new(iceberg_ops.opts);
    set(opts, "format", it.options & LAKE_V3 ? "v3" : "v2");
    set(opts, "compression", "none");
    set(opts, "history", "60s");
    if (it.options & LAKE_PARTITIONED) {
        set(opts, "partition", "bucket(3,k)");
    }
    if (it.options & LAKE_SORTED) {
        set(opts, "sort", "b1 nulls last,t desc,a");
    }
    set(opts, "on_type_change", it.options & LAKE_RETYPES ? "resnapshot" : "stop");
    address.path = SIM_LAKE_DIR;
    address.opts = opts;
    struct wrapped *w = xcalloc(1, sizeof *w);
    *w = (struct wrapped){ .base.ops = &sim_iceberg_ops, .group = sched_group() };
    if (iceberg_ops.open(&address, env, &w->inner, err)) {
        free(w);
        return -1;
    }
    *out = &w->base;
    return 0;
}
static void wrapped_close(struct sink *s) {
    iceberg_ops.close(inner(s));
    free(s);
}
static int wrapped_examine(struct sink *s, struct source_findings *out, struct err *err) {
    return iceberg_ops.examine(inner(s), out, err);
}
static int wrapped_peek(struct sink *s, struct sink_state *out, struct err *err) {
    return iceberg_ops.peek(inner(s), out, err);
}

/* ---- what stands ---- */

/* The try stands: its rows count. Nothing up to its number is in doubt any more. */
static void stands(struct request *r) {
    oracle_committed(&(struct oracle_commit){ .position = r->to,
                                              .inconsistent = (const char *const *)r->labels,
                                              .inconsistent_count = r->label_count,
                                              .schemas = r->schemas,
                                              .schema_count = r->schema_count,
                                              .epoch = r->epoch,
                                              .seq = r->seq,
                                              .group = r->group,
                                              .events = &r->events });
    struct request done = *r;
    unsigned left = 0;
    for (unsigned i = 0; i < it.count; i++) {
        if (it.tried[i].seq > done.seq) {
            it.tried[left++] = it.tried[i];
        } else if (&it.tried[i] != r) {
            request_release(&it.tried[i]);
        }
    }
    it.count = left;
    lake_verify(&done);
    request_release(&done);
}

static struct request *find(uint64_t epoch, uint64_t seq) {
    for (unsigned i = 0; i < it.count; i++) {
        if (it.tried[i].epoch == epoch && it.tried[i].seq == seq) {
            return &it.tried[i];
        }
    }
    return NULL;
}

static void known_to_stand(const struct commit_request *req) {
    struct request *r = find(req->epoch, req->seq);
    if (r) { /* else a newer instance has seen it first */
        stands(r);
    }
}

/* An instance found a position: who has written it? */
static void found(const struct sink_state *state) {
    struct request *newest = NULL;
    for (unsigned i = 0; i < it.count; i++) {
        struct request *r = &it.tried[i];
        if (r->seq == state->seq && strcmp(r->to, state->position) == 0 &&
            (!newest || r->epoch > newest->epoch)) {
            newest = r;
        }
    }
    if (!newest) {
        sim_fail("seq", "the catalog has commit %llu, which nobody has made",
                 (unsigned long long)state->seq);
    }
    stands(newest);
}

static int wrapped_recover(struct sink *s, struct sink_state *out, struct err *err) {
    if (iceberg_ops.recover(inner(s), out, err)) {
        return -1;
    }
    if (out->epoch < oracle_epoch()) {
        return 0; /* somebody has taken over meanwhile */
    }
    if (out->position && out->seq > oracle_seq()) {
        found(out);
    }
    oracle_claimed(out->epoch, out->seq, ((struct wrapped *)s)->group);
    oracle_recovered(out->position);
    return 0;
}
static int wrapped_apply_schema(struct sink *s, const struct commit_request *next,
                                struct err *err) {
    return iceberg_ops.apply_schema(inner(s), next, err);
}

static void remember(struct wrapped *w, const struct commit_request *req) {
    struct request *r = find(req->epoch, req->seq);
    if (!r) {
        if (it.count == it.cap) {
            it.cap = it.cap ? it.cap * 2 : 16;
            it.tried = xrealloc(it.tried, it.cap * sizeof *it.tried);
        }
        r = &it.tried[it.count++];
    } else {
        request_release(r);
    }
    request_init(r, req, w->group);
    for (uint32_t p = 0; p < req->part_count; p++) {
        for (unsigned i = 0; req->parts[p] && i < req->parts[p]->events.count; i++) {
            events_add(&r->events, &req->parts[p]->events.at[i]);
        }
    }
    request_check_retry(r);
}

static enum commit_outcome wrapped_commit(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    struct commit_request own = *req;
    remember((struct wrapped *)s, req);
    own.parts = xcalloc(req->part_count + 1, sizeof *own.parts);
    for (uint32_t i = 0; i < req->part_count; i++) {
        own.parts[i] = req->parts[i] ? req->parts[i]->inner : NULL;
    }
    enum commit_outcome outcome = iceberg_ops.commit(inner(s), &own, err);
    free(own.parts);
    if (outcome == COMMITTED) {
        known_to_stand(req);
    }
    return outcome;
}
static enum resolve_outcome wrapped_resolve(struct sink *s, const struct commit_request *req,
                                            struct err *err) {
    enum resolve_outcome outcome = iceberg_ops.resolve(inner(s), req, err);
    if (outcome == RESOLVED_COMMITTED) {
        known_to_stand(req);
    }
    return outcome;
}

/* ---- writers ---- */

static struct sink_writer *inner_writer(struct sink_writer *w) {
    return ((struct wrapped_writer *)w)->inner;
}
static int wrapped_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                               struct err *err) {
    struct wrapped_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = &sim_iceberg_ops;
    if (iceberg_ops.writer_open(inner(s), number, &w->inner, err)) {
        free(w);
        return -1;
    }
    *out = &w->base;
    return 0;
}
static int wrapped_stage(struct sink_writer *w, const struct stage_item *item, struct err *err) {
    if (iceberg_ops.writer_stage(inner_writer(w), item, err)) {
        return -1;
    }
    events_of_item(it.db, item, &((struct wrapped_writer *)w)->events);
    return 0;
}
static int wrapped_seal(struct sink_writer *writer, uint64_t seq, struct sink_part **out,
                        struct err *err) {
    struct wrapped_writer *w = (struct wrapped_writer *)writer;
    struct sink_part *part = NULL;
    *out = NULL;
    if (iceberg_ops.writer_seal(w->inner, seq, &part, err)) {
        return -1;
    }
    if (part || w->events.count) {
        *out = xcalloc(1, sizeof **out);
        (*out)->inner = part;
        (*out)->events = w->events;
        w->events = (struct events){ 0 };
    }
    return 0;
}
static void wrapped_writer_close(struct sink_writer *w) {
    iceberg_ops.writer_close(inner_writer(w));
    events_clear(&((struct wrapped_writer *)w)->events);
    free(w);
}
static void wrapped_part_free(struct sink_part *part, bool committed) {
    if (part->inner) {
        iceberg_ops.part_free(part->inner, committed);
    }
    events_clear(&part->events);
    free(part);
}
static bool wrapped_takes_missing(const struct sink *s, const struct schema *schema,
                                  uint16_t column) {
    return iceberg_ops.takes_missing(((const struct wrapped *)s)->inner, schema, column);
}
static bool wrapped_needs_anew(const struct sink *s, const struct schema *before,
                               const struct schema *after) {
    return iceberg_ops.needs_anew(((const struct wrapped *)s)->inner, before, after);
}
static int wrapped_summary(struct sink *s, struct buf *out, struct err *err) {
    return iceberg_ops.summary(inner(s), out, err);
}

const struct sink_ops sim_iceberg_ops = {
    .name = "iceberg",
    .owns_position = true,
    .stages = true,
    .writers_max = 2,
    .freshness_us = 2000000,
    .open = wrapped_open,
    .close = wrapped_close,
    .examine = wrapped_examine,
    .peek = wrapped_peek,
    .recover = wrapped_recover,
    .apply_schema = wrapped_apply_schema,
    .needs_anew = wrapped_needs_anew,
    .takes_missing = wrapped_takes_missing,
    .commit = wrapped_commit,
    .resolve = wrapped_resolve,
    .writer_open = wrapped_writer_open,
    .writer_stage = wrapped_stage,
    .writer_seal = wrapped_seal,
    .writer_close = wrapped_writer_close,
    .part_free = wrapped_part_free,
    .summary = wrapped_summary,
    .describe = sink_describes_nothing,
};
