/* The sink door with faults, over each target. See faulty.h. A commit may have no answer: without
 * effect, with it, or with it later (sinks_be_late). */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/damage.h"
#include "tests/sim/fault.h"
#include "tests/sim/faulty.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"

struct faulty_sink {
    struct sink base;
    struct sink *inner;
};
struct faulty_writer {
    struct sink_writer base;
    struct sink_writer *inner;
};
static struct sink *inner(struct sink *s) { return ((struct faulty_sink *)s)->inner; }
static struct sink_writer *inner_writer(struct sink_writer *w) {
    return ((struct faulty_writer *)w)->inner;
}
static const struct sink_ops *of; /* the target of this run: one a process */
static struct sink_ops made;
static struct {
    bool on;
    char what[80];
} damaged[SIM_GROUPS];

void faulty_sink_damage(unsigned group, bool on) {
    damaged[group].on = on || *damaged[group].what; /* who was told once is told again */
}
const char *faulty_sink_damaged(unsigned group) { return damaged[group].what; }

static int enter(struct fault *f, const char *call, struct err *err) {
    return fault_enter(f, FAULT_SINK, call, FAULT_SESSION, FAULT_SESSION, err);
}

static int faulty_open(const struct sink_address *a, struct env *env, struct sink **out,
                       struct err *err) {
    struct fault f;
    struct sink *s = NULL;
    if (enter(&f, "sink_open", err)) {
        return -1;
    }
    int rc = of->open(a, env, &s, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            of->close(s);
        }
        return -1;
    }
    struct faulty_sink *w = xcalloc(1, sizeof *w);
    *w = (struct faulty_sink){ .base.ops = &made, .inner = s };
    *out = &w->base;
    return 0;
}
static void faulty_close(struct sink *s) {
    fault_lost(FAULT_SINK, "sink_close", false);
    of->close(inner(s));
    free(s);
}
static int faulty_examine(struct sink *s, struct source_findings *out, struct err *err) {
    struct fault f;
    return enter(&f, "sink_examine", err) ? -1
                                          : fault_leave(&f, of->examine(inner(s), out, err), err);
}

/* What a target says of itself, lost on the way. */
static int told(struct fault *f, int rc, struct sink_state *out, struct err *err) {
    if (fault_leave(f, rc, err)) {
        if (rc == 0) {
            sink_state_release(out);
            *out = (struct sink_state){ 0 };
        }
        return -1;
    }
    unsigned group = sched_group();
    if (damaged[group].on && out->position) {
        damage_state(out, damaged[group].what, sizeof damaged[group].what);
        oracle_mistrust(group);
        sim_note("damaged: %s", damaged[group].what);
    }
    return 0;
}
static int faulty_peek(struct sink *s, struct sink_state *out, struct err *err) {
    struct fault f;
    return enter(&f, "peek", err) ? -1 : told(&f, of->peek(inner(s), out, err), out, err);
}
static int faulty_recover(struct sink *s, struct sink_state *out, struct err *err) {
    struct fault f;
    return enter(&f, "recover", err) ? -1 : told(&f, of->recover(inner(s), out, err), out, err);
}
static int faulty_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    struct fault f;
    return fault_enter(&f, FAULT_COMMIT, "apply_schema", FAULT_SESSION, FAULT_SESSION, err)
               ? -1
               : fault_leave(&f, of->apply_schema(inner(s), next, err), err);
}

static enum commit_outcome faulty_commit(struct sink *s, const struct commit_request *req,
                                         struct err *err) {
    struct fault f;
    oracle_asked(sched_group(), req->seq);
    if (fault_enter(&f, FAULT_COMMIT, "commit",
                    FAULT_SESSION | FAULT_UNKNOWN | FAULT_LATE | FAULT_CONFLICT, FAULT_UNKNOWN,
                    err)) {
        if (f.kind == FAULT_LATE) {
            sinks_be_late(inner(s), req);
        } else if (f.kind == FAULT_RETRY || f.kind == FAULT_REWIND) {
            sinks_be_cut(inner(s), req);
        }
        return f.kind == FAULT_UNKNOWN || f.kind == FAULT_LATE ? COMMIT_UNKNOWN
               : f.kind == FAULT_CONFLICT                      ? COMMIT_CONFLICT
                                                               : COMMIT_FAILED;
    }
    enum commit_outcome outcome = of->commit(inner(s), req, err);
    if (outcome == COMMITTED && fault_mute(err)) {
        return COMMIT_UNKNOWN;
    }
    return fault_leave(&f, outcome, err) == (int)outcome ? outcome : COMMIT_UNKNOWN;
}
static enum resolve_outcome faulty_resolve(struct sink *s, const struct commit_request *req,
                                           struct err *err) {
    struct fault f;
    unsigned kinds = FAULT_SESSION | FAULT_UNKNOWN;
    if (fault_is_mute()) {
        sched_yield("resolve");
        return RESOLVE_UNKNOWN;
    }
    if (fault_enter(&f, FAULT_COMMIT, "resolve", kinds, kinds, err)) {
        return f.kind == FAULT_UNKNOWN ? RESOLVE_UNKNOWN : RESOLVE_FAILED;
    }
    enum resolve_outcome outcome = of->resolve(inner(s), req, err);
    bool answered = outcome == RESOLVED_COMMITTED || outcome == RESOLVED_NOT_COMMITTED;
    if (fault_leave(&f, answered ? 0 : -1, err) && answered) {
        return f.kind == FAULT_UNKNOWN ? RESOLVE_UNKNOWN : RESOLVE_FAILED;
    }
    return outcome;
}
static int faulty_summary(struct sink *s, struct buf *out, struct err *err) {
    struct fault f;
    return enter(&f, "summary", err) ? -1 : fault_leave(&f, of->summary(inner(s), out, err), err);
}

/* ---- writers ---- */

static int faulty_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                              struct err *err) {
    struct fault f;
    struct sink_writer *w = NULL;
    if (enter(&f, "writer_open", err)) {
        return -1;
    }
    int rc = of->writer_open(inner(s), number, &w, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            of->writer_close(w);
        }
        return -1;
    }
    struct faulty_writer *wrapped = xcalloc(1, sizeof *wrapped);
    *wrapped = (struct faulty_writer){ .base.ops = &made, .inner = w };
    *out = &wrapped->base;
    return 0;
}
static void faulty_writer_close(struct sink_writer *w) {
    fault_lost(FAULT_SINK, "writer_close", false);
    of->writer_close(inner_writer(w));
    free(w);
}
static int faulty_stage(struct sink_writer *w, const struct stage_item *item, struct err *err) {
    struct fault f;
    if (fault_enter(&f, FAULT_SINK, "stage", FAULT_SESSION, FAULT_REWIND, err)) {
        return -1;
    }
    return fault_leave(&f, of->writer_stage(inner_writer(w), item, err), err);
}
static int faulty_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out,
                       struct err *err) {
    struct fault f;
    *out = NULL;
    if (fault_enter(&f, FAULT_SINK, "seal", FAULT_SESSION, FAULT_REWIND, err)) {
        return -1;
    }
    int rc = of->writer_seal(inner_writer(w), seq, out, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0 && *out) {
            of->part_free(*out, false);
            *out = NULL;
        }
        return -1;
    }
    return 0;
}
static void faulty_part_free(struct sink_part *part, bool committed) {
    fault_lost(FAULT_SINK, "part_free", false);
    of->part_free(part, committed);
}

static bool faulty_needs_anew(const struct sink *s, const struct schema *before,
                              const struct schema *after) {
    return of->needs_anew && of->needs_anew(((const struct faulty_sink *)s)->inner, before, after);
}

static bool faulty_takes_missing(const struct sink *s, const struct schema *schema,
                                 uint16_t column) {
    const struct sink *inner = ((const struct faulty_sink *)s)->inner;
    return of->takes_missing && of->takes_missing(inner, schema, column);
}

const struct sink_ops *faulty_sink_ops(enum sink_kind kind) {
    of = sim_sink_ops(kind);
    made = (struct sink_ops){ .name = of->name,
                              .owns_position = of->owns_position,
                              .stages = of->stages,
                              .writers_max = of->writers_max,
                              .freshness_us = of->freshness_us,
                              .open = faulty_open,
                              .close = faulty_close,
                              .examine = faulty_examine,
                              .peek = faulty_peek,
                              .recover = faulty_recover,
                              .apply_schema = faulty_apply_schema,
                              .needs_anew = faulty_needs_anew,
                              .takes_missing = faulty_takes_missing,
                              .commit = faulty_commit,
                              .resolve = faulty_resolve,
                              .summary = faulty_summary,
                              .describe = sink_describes_nothing,
                              .writer_open = faulty_writer_open,
                              .writer_close = faulty_writer_close,
                              .writer_stage = faulty_stage,
                              .writer_seal = faulty_seal,
                              .part_free = faulty_part_free };
    return &made;
}
