/* The functions that go through the doors: what a contract allows passes, what it forbids aborts. A
 * case is a text, a letter a call; what the connector or the sink answers is part of it. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cdc/sink_call.h"
#include "cdc/source_call.h"
#include "cdc/spool.h"
#include "tests/unit/kit.h"
#include "tests/unit/u_sink_rows.h"

static bool aborts(void (*run)(void *arg), const char *script) {
    int status = kit_child(run, (void *)(uintptr_t)script);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void expect_scripts(void (*run)(void *arg), const char *const *scripts, bool abort_wanted) {
    for (; *scripts; scripts++) {
        if (aborts(run, *scripts) != abort_wanted) {
            EXPECT_EQ_STR(*scripts, abort_wanted ? "(a case that aborts)" : "(a case that passes)");
        }
    }
}

/* ---- lanes and the log ---- */

enum answer { ANSWER_OK, ANSWER_FAILED, ANSWER_SILENT /* -1 without an err */, ANSWER_RETRY };
static enum answer answer;
static bool gone, unsealed, rows_left;
static struct schema *schema;
static struct logpos log_at;

static int answered(struct err *err) {
    enum answer a = answer;
    answer = ANSWER_OK;
    if (a == ANSWER_FAILED || a == ANSWER_RETRY) {
        err_set(err, a == ANSWER_RETRY ? ERR_RETRY : ERR_REWIND, "toy", "as asked");
    }
    return a == ANSWER_OK ? 0 : -1;
}
static int toy_begin(struct source_lane *l, const struct schema *s, struct chunk_view *out,
                     char *export_name, struct err *err) {
    (void)l, (void)export_name;
    *out = (struct chunk_view){ .gone = gone };
    gone = false;
    out->schema = out->gone ? NULL : schema_ref((struct schema *)(uintptr_t)s);
    return answered(err);
}
static int toy_join(struct source_lane *l, const struct schema *s, const char *name,
                    struct err *err) {
    (void)l, (void)s, (void)name;
    return answered(err);
}
static int toy_cut(struct source_lane *l, const struct schema *s, bool whole, uint32_t pieces_max,
                   struct buf *bounds, uint32_t *pieces, struct err *err) {
    (void)l, (void)s, (void)whole, (void)bounds;
    *pieces = gone ? pieces_max + 1 : 1;
    return answered(err);
}
static int toy_read(struct source_lane *l, const struct chunk_read *req, struct err *err) {
    (void)l, (void)req;
    return answered(err);
}
static int toy_next(struct source_lane *l, struct batch **out, struct err *err) {
    (void)l;
    if (rows_left && answer == ANSWER_OK) {
        *out = batch_new(schema, 1, NULL);
        rows_add(*out, ROW_INSERT, 0, 0, 1, "abc");
        if (!unsealed) {
            batch_seal(*out);
        }
    }
    return answered(err);
}
static int toy_step(struct source_lane *l, struct err *err) {
    (void)l;
    return answered(err);
}
static int toy_log_next(struct source_log *log, int64_t deadline_us, struct segment **out,
                        struct err *err) {
    (void)log, (void)deadline_us;
    if (answer != ANSWER_OK) {
        return answered(err);
    }
    *out = segment_new();
    (*out)->to = (*out)->resume = log_at;
    return 0;
}
static int toy_log_idle(struct source_log *log, int64_t deadline_us, struct err *err) {
    (void)log, (void)deadline_us;
    return answered(err);
}
static void toy_log_ack(struct source_log *log, struct logpos resume) { (void)log, (void)resume; }

static const struct source_ops toy_source_ops = {
    .name = "toy",
    .lane_begin = toy_begin,
    .lane_join = toy_join,
    .lane_cut = toy_cut,
    .lane_read = toy_read,
    .lane_next = toy_next,
    .lane_stop = toy_step,
    .lane_end = toy_step,
    .log_next = toy_log_next,
    .log_idle = toy_log_idle,
    .log_ack = toy_log_ack,
};

static void lane_call(struct source_lane *l, char call, struct err *err) {
    struct chunk_view view;
    struct chunk_read read = { .schema = schema, .rows_max = 1, .batch_rows = 1 };
    struct batch *batch;
    struct buf bounds;
    char name[SOURCE_EXPORT_NAME_BYTES] = "";
    uint32_t pieces;
    int rc = 0;
    buf_init(&bounds, SIZE_MAX);
    switch (call) {
    case 'f':
        answer = ANSWER_FAILED;
        return;
    case 'q':
        answer = ANSWER_SILENT;
        return;
    case 'g':
        gone = true;
        return;
    case 'u':
        unsealed = true;
        return;
    case 'd':
        rc = err_set(err, ERR_RETRY, "toy", "of an earlier call");
        return;
    case 'b':
        rc = source_lane_begin(l, schema, &view, name, err);
        break;
    case 'j':
        rc = source_lane_join(l, schema, name, err);
        break;
    case 'c':
    case 'w':
        rc = source_lane_cut(l, schema, call == 'w', 4, &bounds, &pieces, err);
        break;
    case 'r':
        rc = source_lane_read(l, &read, err);
        break;
    case 'n':
    case 'z':
        rows_left = call == 'n';
        rc = source_lane_next(l, &batch, err);
        break;
    case 's':
        rc = source_lane_stop(l, err);
        break;
    case 'e':
        rc = source_lane_end(l, err);
        break;
    default:
        _exit(2);
    }
    *err = rc ? ERR_INIT : *err;
}

/* b begin, j join, c cut by key, w cut a whole table, r read, n rows, z the end of them, s stop, e
 * end; before the next call: f it fails, q without an err, g the table is gone (or too many
 * pieces), u its batch is not sealed, d err is still filled. */
static void lane_script(void *arg) {
    struct source_lane l = { .ops = &toy_source_ops };
    struct err err = ERR_INIT;
    schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
    for (const char *at = arg; *at; at++) {
        lane_call(&l, *at, &err);
    }
}

TEST(doors_lane_calls_follow_the_order_of_the_contract) {
    static const char *const good[] = { "be",    "brnnze", "brnse", "brse", "brzrze",
                                        "jrze",  "bwrze",  "cbe",   "gbe",  "fb",
                                        "brnfn", "bfe",    "fc",    NULL };
    static const char *const bad[] = { "bb",     "bj",   "r",   "n",    "s",   "e",    "bn",
                                       "bs",     "bre",  "brr", "brzn", "bee", "w",    "bc",
                                       "gbr",    "gbw",  "fbb", "fbe",  "qb",  "brqn", "brun",
                                       "brnfne", "bfee", "gc",  "db",   NULL };
    expect_scripts(lane_script, good, false);
    expect_scripts(lane_script, bad, true);
}

/* A digit: acknowledge it; n a segment at the digit before, f the next call fails with REWIND, t
 * with RETRY; i idle. */
static void log_script(void *arg) {
    struct source_log log = { .ops = &toy_source_ops };
    for (const char *at = arg; *at; at++) {
        struct err err = ERR_INIT;
        struct segment *segment;
        if (*at >= '0' && *at <= '9') {
            log_at = (struct logpos){ 0, (uint64_t)(*at - '0') };
            if (at[1] != 'n') {
                source_log_ack(&log, log_at);
            }
        } else if (*at == 'f' || *at == 't') {
            answer = *at == 'f' ? ANSWER_FAILED : ANSWER_RETRY;
        } else if (*at == 'n' ? source_log_next(&log, 1, &segment, &err)
                              : source_log_idle(&log, 1, &err)) {
            CHECK(err.kind != ERR_NONE);
        }
    }
}

TEST(doors_log_goes_on_and_is_not_used_once_lost) {
    static const char *const good[] = { "1n2n2n5n", "1223", "tnti1n", "fi", "1nfn9", NULL };
    static const char *const bad[] = { "2n1n", "21", "fni", "fin", "fii", NULL };
    expect_scripts(log_script, good, false);
    expect_scripts(log_script, bad, true);
}

/* ---- commits ---- */

static enum commit_outcome outcome;
static enum resolve_outcome resolved;
static bool seals;

static int toy_recover(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s;
    *out = (struct sink_state){ .epoch = 3, .seq = 6 };
    return answered(err);
}
static int toy_apply(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s, (void)next;
    return answered(err);
}
static enum commit_outcome toy_commit(struct sink *s, const struct commit_request *req,
                                      struct err *err) {
    (void)s, (void)req;
    return answered(err) ? COMMIT_FAILED : outcome;
}
static enum resolve_outcome toy_resolve(struct sink *s, const struct commit_request *req,
                                        struct err *err) {
    (void)s, (void)req;
    return answered(err) ? RESOLVE_FAILED : resolved;
}
static int toy_stage(struct sink_writer *w, const struct stage_item *item, struct err *err) {
    (void)w, (void)item;
    return answered(err);
}
static int toy_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out, struct err *err) {
    (void)w, (void)seq;
    *out = seals ? (struct sink_part *)(void *)&seals : NULL;
    return answered(err);
}
static void toy_part_free(struct sink_part *part, bool committed) { (void)part, (void)committed; }

static const struct sink_ops toy_sink_ops = {
    .name = "toy",
    .owns_position = true,
    .writers_max = 1,
    .recover = toy_recover,
    .apply_schema = toy_apply,
    .commit = toy_commit,
    .resolve = toy_resolve,
    .writer_stage = toy_stage,
    .writer_seal = toy_seal,
    .part_free = toy_part_free,
};

/* R recover, c commit, u with an unknown outcome, k with a conflict, o one from a position that was
 * never stored, E of another epoch, S with changed schemas, a apply them; y, x, ? resolve
 * (committed, not, not known); p, P the part is dropped, kept; + the next seq; f the next call
 * fails, q without an err. */
static void commit_script(void *arg) {
    struct sink s = { .ops = &toy_sink_ops };
    struct sink_part *part = (struct sink_part *)(void *)&seals;
    struct commit_request req = {
        .epoch = 3, .seq = 7, .to = "{}", .parts = &part, .part_count = 1
    };
    for (const char *at = arg; *at; at++) {
        struct err err = ERR_INIT;
        struct sink_state state;
        int rc = 0;
        req.schemas_changed = *at == 'S' || *at == 'a';
        req.epoch = *at == 'E' ? 2 : 3;
        req.from = req.seq > 7 || *at == 'o' ? "{}" : NULL;
        outcome = *at == 'u' ? COMMIT_UNKNOWN : *at == 'k' ? COMMIT_CONFLICT : COMMITTED;
        resolved = *at == 'y'   ? RESOLVED_COMMITTED
                   : *at == 'x' ? RESOLVED_NOT_COMMITTED
                                : RESOLVE_UNKNOWN;
        if (*at == 'f' || *at == 'q') {
            answer = *at == 'f' ? ANSWER_FAILED : ANSWER_SILENT;
        } else if (*at == '+') {
            req.seq++;
        } else if (*at == 'p' || *at == 'P') {
            sink_part_free(&s, part, *at == 'P');
        } else if (*at == 'R') {
            rc = sink_recover(&s, &state, &err);
        } else if (*at == 'a') {
            rc = sink_apply_schema(&s, &req, &err);
        } else if (strchr("yx?", *at)) {
            rc = (int)sink_resolve(&s, &req, &err);
        } else {
            rc = (int)sink_commit(&s, &req, &err);
        }
        CHECK(rc >= 0 || err.kind != ERR_NONE);
    }
}

TEST(doors_commits_count_on_and_are_settled_one_by_one) {
    static const char *const good[] = { "Rc+c+c", "Rux",  "Ruxc+c", "Ru?f?y+c",
                                        "RaSP",   "Rfcc", "Rkp",    NULL };
    static const char *const bad[] = {
        "c",     "Rcc", "R+c", "RE",  "Ro",  "RS",   "Ruc",    "Ruu",
        "Rux+c", "Ry",  "Rcy", "Rup", "Rqc", "RfaS", "RaSc+S", NULL
    };
    expect_scripts(commit_script, good, false);
    expect_scripts(commit_script, bad, true);
}

/* s stage, f the next call fails; a digit: seal for that commit, with a part if p was before it. */
static void writer_script(void *arg) {
    struct sink_writer w = { .ops = &toy_sink_ops };
    struct schema *of = rows_schema(7, "t", 1, "id:int64:k;body:text");
    struct stage_item item = { .kind = STAGE_GENERATION, .schema = of, .generation = 2 };
    for (const char *at = arg; *at; at++) {
        struct err err = ERR_INIT;
        struct sink_part *part;
        int rc = 0;
        if (*at == 'f') {
            answer = ANSWER_FAILED;
        } else if (*at == 'p') {
            seals = true;
        } else if (*at == 's' || *at == 'S') {
            item.generation = *at == 's' ? 2 : 0;
            rc = sink_writer_stage(&w, &item, &err);
        } else {
            rc = sink_writer_seal(&w, (uint64_t)(*at - '0'), &part, &err);
            seals = false;
        }
        CHECK(rc == 0 || err.kind != ERR_NONE);
    }
}

TEST(doors_writers_seal_what_was_staged_once) {
    static const char *const good[] = { "sp1", "sp12sp3", "s1", "1", "sf1p1", NULL };
    static const char *const bad[] = { "p1", "sp1p2", "s22", "32", "fsp1", "spf1", "S", NULL };
    expect_scripts(writer_script, good, false);
    expect_scripts(writer_script, bad, true);
}

static void select_all(const void *rules, const char *space, const char *name,
                       struct table_choice *out) {
    (void)rules, (void)space, (void)name;
    *out = (struct table_choice){ .skip = false };
}

static void open_with_holes(void *arg) {
    struct source_address address = { .job = "j" };
    struct env env = { 0 };
    struct source *s;
    struct err err = ERR_INIT;
    (void)arg;
    int rc = source_open(&toy_source_ops, &address, &env, select_all, NULL, &s, &err);
    CHECK(rc == 0);
}

TEST(doors_a_table_with_a_hole_opens_nothing) {
    int status = kit_child(open_with_holes, NULL);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- the spool ---- */

static int deaf_put(void *spool, const struct batch *batch, uint64_t *id, struct err *err) {
    (void)spool, (void)batch, (void)id;
    return answered(err);
}
static struct batch *deaf_get(void *spool, uint64_t id, struct schema *s, struct txlist *txs,
                              struct err *err) {
    (void)spool, (void)id, (void)s, (void)txs;
    return answered(err) ? NULL : batch_new(schema, 1, NULL);
}

/* p put what is sealed, u what is not, g get what is not, n nothing without an err. */
static void spool_script(void *arg) {
    static const struct spool_ops ops = { .put = deaf_put, .get = deaf_get };
    struct err err = ERR_INIT;
    uint64_t id;
    const char *script = arg;
    schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
    struct batch *b = batch_new(schema, 1, NULL);
    rows_add(b, ROW_INSERT, 0, 0, 1, "abc");
    if (*script == 'p') {
        batch_seal(b);
    }
    answer = *script == 'n' ? ANSWER_SILENT : *script == 'f' ? ANSWER_FAILED : ANSWER_OK;
    if (*script == 'p' || *script == 'u') {
        CHECK(spool_put(&ops, NULL, b, &id, &err) == 0);
    } else {
        CHECK(!spool_get(&ops, NULL, 1, schema, NULL, &err));
    }
}

TEST(doors_spool_takes_and_gives_sealed_batches) {
    static const char *const good[] = { "p", "f", NULL };
    static const char *const bad[] = { "u", "g", "n", NULL };
    expect_scripts(spool_script, good, false);
    expect_scripts(spool_script, bad, true);
}
