/* The source door with faults. See faulty.h. A session that fails after the effect of a call which
 * cannot be asked twice (log_next, lane_next...) is lost: REWIND. */
#include <stdlib.h>

#include "cdc/batch.h"
#include "tests/sim/fault.h"
#include "tests/sim/faulty.h"
#include "tests/sim/source.h"

struct faulty_source {
    struct source base;
    struct source *inner;
};
struct faulty_log {
    struct source_log base;
    struct source_log *inner;
};
struct faulty_lane {
    struct source_lane base;
    struct source_lane *inner;
};
static struct source *inner(struct source *s) { return ((struct faulty_source *)s)->inner; }
static struct source_log *inner_log(struct source_log *l) {
    return ((struct faulty_log *)l)->inner;
}
static struct source_lane *inner_lane(struct source_lane *l) {
    return ((struct faulty_lane *)l)->inner;
}

static int control(struct fault *f, const char *call, struct err *err) {
    return fault_enter(f, FAULT_SOURCE, call, FAULT_SESSION, FAULT_SESSION, err);
}

/* ---- control session ---- */

static int faulty_open(const struct source_address *a, struct env *env, table_select_fn select,
                       const void *rules, struct source **out, struct err *err) {
    struct fault f;
    struct source *s = NULL;
    if (control(&f, "open", err)) {
        return -1;
    }
    int rc = sim_source_ops.open(a, env, select, rules, &s, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            sim_source_ops.close(s);
        }
        return -1;
    }
    struct faulty_source *made = xcalloc(1, sizeof *made);
    *made = (struct faulty_source){ .base.ops = &faulty_source_ops, .inner = s };
    *out = &made->base;
    return 0;
}
static void faulty_close(struct source *s) {
    fault_lost(FAULT_SOURCE, "close", false);
    sim_source_ops.close(inner(s));
    free(s);
}
static int faulty_examine(struct source *s, struct source_findings *out, struct err *err) {
    struct fault f;
    return control(&f, "examine", err)
               ? -1
               : fault_leave(&f, sim_source_ops.examine(inner(s), out, err), err);
}
static int faulty_catalogue(struct source *s, struct source_catalogue *out, struct err *err) {
    struct fault f;
    if (control(&f, "catalogue", err)) {
        return -1;
    }
    int rc = sim_source_ops.catalogue(inner(s), out, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            source_catalogue_release(out);
        }
        return -1;
    }
    return 0;
}
static int faulty_start(struct source *s, const struct source_start *req,
                        struct source_started *out, struct err *err) {
    struct fault f;
    return control(&f, "start", err)
               ? -1
               : fault_leave(&f, sim_source_ops.start(inner(s), req, out, err), err);
}
static int faulty_capture(struct source *s, const uint64_t *ids, uint32_t count, uint64_t *x,
                          struct logpos *from, struct err *err) {
    struct fault f;
    return control(&f, "capture", err)
               ? -1
               : fault_leave(&f, sim_source_ops.capture(inner(s), ids, count, x, from, err), err);
}
static int faulty_probe(struct source *s, struct snapshot *out, struct err *err) {
    struct fault f;
    if (control(&f, "probe", err)) {
        return -1;
    }
    int rc = sim_source_ops.probe(inner(s), out, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            snapshot_release(out);
        }
        return -1;
    }
    return 0;
}
static int faulty_nudge(struct source *s, struct err *err) {
    struct fault f;
    return control(&f, "nudge", err) ? -1
                                     : fault_leave(&f, sim_source_ops.nudge(inner(s), err), err);
}
static int faulty_log_end(struct source *s, struct logpos *out, struct err *err) {
    struct fault f;
    return control(&f, "log_end", err)
               ? -1
               : fault_leave(&f, sim_source_ops.log_end(inner(s), out, err), err);
}
static int faulty_status(struct source *s, struct source_status *out, struct err *err) {
    struct fault f;
    return control(&f, "status", err)
               ? -1
               : fault_leave(&f, sim_source_ops.status(inner(s), out, err), err);
}
static int faulty_drop(struct source *s, struct err *err) {
    struct fault f;
    return control(&f, "drop", err) ? -1 : fault_leave(&f, sim_source_ops.drop(inner(s), err), err);
}
static int faulty_drop_plan(struct source *s, struct buf *out, struct err *err) {
    struct fault f;
    return control(&f, "drop_plan", err)
               ? -1
               : fault_leave(&f, sim_source_ops.drop_plan(inner(s), out, err), err);
}
static int faulty_slots(struct source *s, struct buf *out, struct err *err) {
    struct fault f;
    return control(&f, "slots", err)
               ? -1
               : fault_leave(&f, sim_source_ops.slots(inner(s), out, err), err);
}

/* ---- log session ---- */

static int faulty_log_open(struct source *s, struct logpos from, struct source_log **out,
                           struct err *err) {
    struct fault f;
    struct source_log *l = NULL;
    if (fault_enter(&f, FAULT_LOG, "log_open", FAULT_SESSION, FAULT_SESSION, err)) {
        return -1;
    }
    int rc = sim_source_ops.log_open(inner(s), from, &l, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            sim_source_ops.log_close(l);
        }
        return -1;
    }
    struct faulty_log *made = xcalloc(1, sizeof *made);
    *made = (struct faulty_log){ .base.ops = &faulty_source_ops, .inner = l };
    *out = &made->base;
    return 0;
}
static void faulty_log_close(struct source_log *l) {
    fault_lost(FAULT_LOG, "log_close", false);
    sim_source_ops.log_close(inner_log(l));
    free(l);
}
static int faulty_log_next(struct source_log *l, int64_t deadline_us, struct segment **out,
                           struct err *err) {
    struct fault f;
    *out = NULL;
    if (fault_enter(&f, FAULT_LOG, "log_next", FAULT_SESSION, FAULT_REWIND, err)) {
        return -1;
    }
    int rc = sim_source_ops.log_next(inner_log(l), deadline_us, out, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0 && *out) {
            segment_free(*out);
            *out = NULL;
        }
        return -1;
    }
    return 0;
}
static int faulty_log_idle(struct source_log *l, int64_t deadline_us, struct err *err) {
    struct fault f;
    return fault_enter(&f, FAULT_LOG, "log_idle", FAULT_SESSION, FAULT_SESSION, err)
               ? -1
               : fault_leave(&f, sim_source_ops.log_idle(inner_log(l), deadline_us, err), err);
}
static void faulty_log_ack(struct source_log *l, struct logpos resume) {
    if (!fault_lost(FAULT_LOG, "log_ack", true)) {
        sim_source_ops.log_ack(inner_log(l), resume);
    }
}
static void faulty_log_wake(struct source_log *l) { /* within the process: it is never lost */
    fault_lost(FAULT_LOG, "log_wake", false);
    sim_source_ops.log_wake(inner_log(l));
}
static void faulty_log_want(struct source_log *l, struct logpos pos) {
    if (!fault_lost(FAULT_LOG, "log_want", true)) {
        sim_source_ops.log_want(inner_log(l), pos);
    }
}

/* ---- lanes ---- */

static int lane(struct fault *f, const char *call, unsigned after, struct err *err) {
    return fault_enter(f, FAULT_LANE, call, FAULT_SESSION, after, err);
}

static int faulty_lane_open(struct source *s, unsigned number, struct source_lane **out,
                            struct err *err) {
    struct fault f;
    struct source_lane *l = NULL;
    if (lane(&f, "lane_open", FAULT_SESSION, err)) {
        return -1;
    }
    int rc = sim_source_ops.lane_open(inner(s), number, &l, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            sim_source_ops.lane_close(l);
        }
        return -1;
    }
    struct faulty_lane *made = xcalloc(1, sizeof *made);
    *made = (struct faulty_lane){ .base.ops = &faulty_source_ops, .inner = l };
    *out = &made->base;
    return 0;
}
static void faulty_lane_close(struct source_lane *l) {
    fault_lost(FAULT_LANE, "lane_close", false);
    sim_source_ops.lane_close(inner_lane(l));
    free(l);
}
static int faulty_lane_cut(struct source_lane *l, const struct schema *schema, bool whole,
                           uint32_t pieces_max, struct buf *bounds, uint32_t *pieces,
                           struct err *err) {
    struct fault f;
    if (lane(&f, "lane_cut", FAULT_REWIND, err)) {
        return -1;
    }
    return fault_leave(
        &f, sim_source_ops.lane_cut(inner_lane(l), schema, whole, pieces_max, bounds, pieces, err),
        err);
}

/* What fails after it began is rolled back. */
static void roll_back(struct source_lane *l) {
    struct err ignored = ERR_INIT;
    if (sim_source_ops.lane_end(inner_lane(l), &ignored)) {
        err_clear(&ignored); /* the session is gone, and its locks with it */
    }
}

static int faulty_lane_begin(struct source_lane *l, const struct schema *schema,
                             struct chunk_view *out, char *export_name, struct err *err) {
    struct fault f;
    *out = (struct chunk_view){ 0 };
    if (lane(&f, "lane_begin", FAULT_SESSION, err)) {
        return -1;
    }
    int rc = sim_source_ops.lane_begin(inner_lane(l), schema, out, export_name, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            chunk_view_release(out);
            roll_back(l);
        }
        return -1;
    }
    return 0;
}
static int faulty_lane_join(struct source_lane *l, const struct schema *schema, const char *name,
                            struct err *err) {
    struct fault f;
    if (lane(&f, "lane_join", FAULT_SESSION, err)) {
        return -1;
    }
    int rc = sim_source_ops.lane_join(inner_lane(l), schema, name, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0) {
            roll_back(l);
        }
        return -1;
    }
    return 0;
}
static int faulty_lane_read(struct source_lane *l, const struct chunk_read *req, struct err *err) {
    struct fault f;
    return lane(&f, "lane_read", FAULT_REWIND, err)
               ? -1
               : fault_leave(&f, sim_source_ops.lane_read(inner_lane(l), req, err), err);
}
static int faulty_lane_next(struct source_lane *l, struct batch **out, struct err *err) {
    struct fault f;
    *out = NULL;
    if (lane(&f, "lane_next", FAULT_REWIND, err)) {
        return -1;
    }
    int rc = sim_source_ops.lane_next(inner_lane(l), out, err);
    if (fault_leave(&f, rc, err)) {
        if (rc == 0 && *out) {
            batch_unref(*out);
            *out = NULL;
        }
        return -1;
    }
    return 0;
}
static int faulty_lane_stop(struct source_lane *l, struct err *err) {
    struct fault f;
    return lane(&f, "lane_stop", FAULT_SESSION, err)
               ? -1
               : fault_leave(&f, sim_source_ops.lane_stop(inner_lane(l), err), err);
}
static int faulty_lane_end(struct source_lane *l, struct err *err) {
    struct fault f;
    return lane(&f, "lane_end", FAULT_SESSION, err)
               ? -1
               : fault_leave(&f, sim_source_ops.lane_end(inner_lane(l), err), err);
}

/* ---- pure: they have no way to fail ---- */

static bool faulty_rewritten(const struct schema *before, const struct schema *after) {
    return sim_source_ops.rewritten(before, after);
}
static bool faulty_added(const struct schema *before, const struct schema *after) {
    return sim_source_ops.added(before, after);
}
static int faulty_put_logpos(struct buf *out, struct logpos pos) {
    return sim_source_ops.put_logpos(out, pos);
}
static int faulty_take_logpos(const char *text, struct logpos *out) {
    return sim_source_ops.take_logpos(text, out);
}

const struct source_ops faulty_source_ops = {
    .name = "sim",
    .open = faulty_open,
    .close = faulty_close,
    .examine = faulty_examine,
    .catalogue = faulty_catalogue,
    .start = faulty_start,
    .capture = faulty_capture,
    .probe = faulty_probe,
    .nudge = faulty_nudge,
    .log_end = faulty_log_end,
    .status = faulty_status,
    .drop = faulty_drop,
    .drop_plan = faulty_drop_plan,
    .slots = faulty_slots,
    .log_open = faulty_log_open,
    .log_close = faulty_log_close,
    .log_next = faulty_log_next,
    .log_idle = faulty_log_idle,
    .log_ack = faulty_log_ack,
    .log_wake = faulty_log_wake,
    .log_want = faulty_log_want,
    .lane_open = faulty_lane_open,
    .lane_close = faulty_lane_close,
    .lane_cut = faulty_lane_cut,
    .lane_begin = faulty_lane_begin,
    .lane_join = faulty_lane_join,
    .lane_read = faulty_lane_read,
    .lane_next = faulty_lane_next,
    .lane_stop = faulty_lane_stop,
    .lane_end = faulty_lane_end,
    .rewritten = faulty_rewritten,
    .added = faulty_added,
    .put_logpos = faulty_put_logpos,
    .take_logpos = faulty_take_logpos,
};
