/* An instance of a job on a folder that a sink keeps as a ledger (jsonl, parquet): its calls as the
 * engine makes them, and a life in which the n-th call of the files fails. For tests of one sink.
 */
#pragma once
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/u_sink_faulty.h"
#include "tests/unit/u_sink_rows.h"

struct instance;
/* What differs from sink to sink. */
struct folder_kind {
    const struct sink_ops *ops;
    int (*stage_row)(struct instance *x, int64_t id, struct err *err);
    /* ids of all rows a reader sees, in order, each followed by a space; whole: nothing is damaged
     */
    char *(*ids)(const char *dir, bool *whole);
};
struct instance {
    struct faulty files;
    struct env env;
    const struct folder_kind *kind;
    struct opts *opts;
    struct sink *sink;
    struct sink_writer *writer;
    struct sink_state state;
    char *position; /* what this instance believes is stored; NULL = none */
    struct schema *schema;
    uint64_t seq;
};

static inline void instance_of_kind(struct instance *x, const struct folder_kind *kind,
                                    const char *dir, const char *job) {
    *x = (struct instance){ .files = { .base.ops = &faulty_ops, .kind = ERR_FATAL }, .kind = kind };
    x->env = (struct env){ .files = &x->files.base, .memory_bytes = 64 << 20 };
    x->opts = opts_new(kind->ops->opts);
    struct sink_address addr = { .scheme = kind->ops->name,
                                 .path = dir,
                                 .job = job,
                                 .opts = x->opts,
                                 .put_logpos = rows_put_logpos };
    struct err err = ERR_INIT;
    int failed = kind->ops->open(&addr, &x->env, &x->sink, &err);
    CHECK(!failed);
    x->schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
}

static inline void drop_run(struct instance *x) {
    if (x->writer) {
        x->kind->ops->writer_close(x->writer);
        x->writer = NULL;
    }
    sink_state_release(&x->state);
    free(x->position);
    x->position = NULL;
}

static inline void instance_release(struct instance *x) {
    drop_run(x);
    x->kind->ops->close(x->sink);
    opts_free(x->opts);
    schema_unref(x->schema);
}

/* Claims the folder: 0 or -1. */
static inline int start(struct instance *x, struct err *err) {
    drop_run(x);
    if (x->kind->ops->recover(x->sink, &x->state, err) ||
        x->kind->ops->writer_open(x->sink, 0, &x->writer, err)) {
        return -1;
    }
    x->seq = x->state.seq + 1;
    x->position = x->state.position ? xstrdup(x->state.position) : NULL;
    return 0;
}

struct attempt {
    struct sink_part *part;
    char *to;
    struct commit_request req;
};

/* A request with position {"v":1,"at":at}; rows staged before are its part. */
static inline int prepare(struct instance *x, struct attempt *a, int at, bool with_schema,
                          struct err *err) {
    *a = (struct attempt){ .to = xasprintf("{\"v\":1,\"at\":%d}", at) };
    if (x->kind->ops->writer_seal(x->writer, x->seq, &a->part, err)) {
        return -1;
    }
    a->req = (struct commit_request){
        .epoch = x->state.epoch,
        .seq = x->seq++,
        .from = x->position,
        .to = a->to,
        .parts = &a->part,
        .part_count = 1,
        .position_only = !a->part,
        .schemas = &x->schema,
        .schema_count = 1,
        .schemas_changed = with_schema,
    };
    return with_schema ? x->kind->ops->apply_schema(x->sink, &a->req, err) : 0;
}

static inline void settle(struct instance *x, struct attempt *a, bool committed, bool keep) {
    if (a->part) {
        x->kind->ops->part_free(a->part, committed || keep);
    }
    if (committed) {
        free(x->position);
        x->position = xstrdup(a->to);
    }
    free(a->to);
}

/* The commit of what is staged, as the engine does it: an unknown outcome is resolved, a failure
 * ends the run. */
static inline enum commit_outcome commit_staged(struct instance *x, int at, bool with_schema,
                                                struct err *err) {
    struct attempt a = { 0 };
    enum commit_outcome outcome = COMMIT_FAILED;
    bool keep = false;
    if (prepare(x, &a, at, with_schema, err)) {
        settle(x, &a, false, false);
        return COMMIT_FAILED;
    }
    for (int i = 0; i < 3; i++) {
        outcome = x->kind->ops->commit(x->sink, &a.req, err);
        if (outcome != COMMIT_UNKNOWN) {
            break;
        }
        keep = true;
        enum resolve_outcome resolved = x->kind->ops->resolve(x->sink, &a.req, err);
        if (resolved == RESOLVED_COMMITTED) {
            outcome = COMMITTED;
            break;
        }
        if (resolved != RESOLVED_NOT_COMMITTED) {
            break;
        }
    }
    settle(x, &a, outcome == COMMITTED, keep);
    return outcome;
}

/* id < 0: a commit of the position alone. */
static inline enum commit_outcome commit_row(struct instance *x, int id, bool with_schema,
                                             struct err *err) {
    if (id > 0 && x->kind->stage_row(x, id, err)) {
        return COMMIT_FAILED;
    }
    return commit_staged(x, id > 0 ? id : -id, with_schema, err);
}

/* Works through rows 1..6 with position commits between; every failure begins a new run that goes
 * on from the stored position. The n-th file call fails. Returns false when n is beyond the last
 * call. */
static inline bool drive(const struct folder_kind *sink, const char *dir, int n, bool after,
                         bool crash, enum err_kind kind, char *why, size_t why_size) {
    enum { LAST = 6 };
    struct instance x;
    struct err err = ERR_INIT;
    instance_of_kind(&x, sink, dir, "shop");
    x.files.fail_at = n;
    x.files.after = after;
    x.files.crash = crash;
    x.files.kind = kind;
    int acked = 0; /* the highest position that was said to be committed */
    bool hit = false;
    for (int run = 0; run < 6; run++) {
        err_clear(&err);
        int failed = start(&x, &err);
        int at = failed ? 0 : x.position ? atoi(strstr(x.position, "\"at\":") + 5) : 0;
        if (!failed && at < acked) {
            snprintf(why, why_size, "%s: position %d below acknowledged %d", x.files.failed, at,
                     acked);
            break;
        }
        acked = at > acked ? at : acked;
        bool first = !failed && x.state.schema_count == 0;
        while (!failed && at < LAST) {
            bool idle =
                at % 3 == 2; /* ids 3 and 6 have no row: their commits are of a position only */
            failed = commit_row(&x, idle ? -(at + 1) : at + 1, first, &err) != COMMITTED;
            if (!failed) {
                first = false;
                acked = ++at;
            }
        }
        hit = hit || x.files.calls >= n;
        if (!failed) {
            break;
        }
        if (x.files.dead || crash) {
            x.files.dead = false; /* the next incarnation */
            x.files.crash = false;
        }
    }
    instance_release(&x);
    bool whole;
    char *ids = sink->ids(dir, &whole);
    if (!why[0] && (strcmp(ids, "1 2 4 5 ") != 0 || !whole || acked != LAST)) {
        snprintf(why, why_size, "%s: rows %s, acknowledged %d, whole %d, last error %s",
                 x.files.failed, ids, acked, whole, err.code);
    }
    free(ids);
    return hit;
}

static inline void drive_all(const struct folder_kind *sink, const char *name, bool after,
                             bool crash, enum err_kind kind) {
    const char *top = kit_temp_dir();
    int n = 1;
    for (bool hit = true; hit && n < 1000; n++) {
        char why[256] = "";
        char dir[256];
        snprintf(dir, sizeof dir, "%s/%s%d", top, name, n);
        hit = drive(sink, dir, n, after, crash, kind, why, sizeof why);
        if (!EXPECT_EQ_STR(why, "")) {
            fprintf(stderr, "call %d of %s\n", n, name);
            return;
        }
    }
    EXPECT_TRUE(n > 50 && n < 1000);
}
