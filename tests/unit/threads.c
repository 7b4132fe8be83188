/* The engine on real threads, for the thread sanitizer: job_run between a source and a sink that
 * live in memory.
 *
 * The source is a small database of two tables: `ranges` (an orderable key, read in key ranges) and
 * `whole` (a key that nobody can order, read as one chunk in pieces under an exported snapshot). It
 * commits transactions while it is being read. The sink applies commits to a target, refuses rows
 * that are repeated or missing, and answers UNKNOWN in a fixed rhythm. At the end of every run the
 * target must equal the source at the position that the target states. No sleeps; the seed is
 * fixed, the interleaving is not. */
#include "tests/unit/threads.h"

struct server *server;
struct target *target;
struct job *the_job;
unsigned stop_after_commits;
bool stop_at_once;
atomic_uint seq_now; /* the target's, for the server's pace */

static unsigned failures;

static void expect(bool held, const char *name, const char *what) {
    if (!held) {
        failures++;
        printf("not ok %s: %s\n", name, what);
    }
}

static void judge(const char *name, bool whole_log) {
    struct stored_position p = { 0 };
    struct err err = ERR_INIT;
    expect(target->wrong == 0, name, target->why[0] ? target->why : "a generation came twice");
    if (!target->position || position_decode(target->position, &fake_source_ops, &p, &err)) {
        expect(false, name, target->position ? err.text : "no position was stored");
        return;
    }
    struct rows *want = xcalloc(1, sizeof *want);
    rows_at(server, p.applied, want);
    if (whole_log) {
        for (unsigned t = 0; t < TABLES; t++) {
            for (unsigned k = 0; k < KEYS; k++) {
                bool same = want->there[t][k] == target->rows.there[t][k] &&
                            (!want->there[t][k] || want->value[t][k] == target->rows.value[t][k]);
                char what[80];
                snprintf(what, sizeof what, "table %u key %u differs at %llu", t, k,
                         (unsigned long long)p.applied.offset);
                expect(same, name, what);
            }
        }
    }
    expect(server->acked <= p.resume.offset, name,
           "the source was acknowledged more than the target holds");
    expect(!whole_log || logpos_cmp(p.applied, pos_of(server->total)) == 0, name,
           "it ended before the log's end");
    free(want);
    stored_position_release(&p);
}

static void select_all(const void *rules, const char *space, const char *table,
                       struct table_choice *out) {
    (void)rules, (void)space, (void)table;
    *out = (struct table_choice){ 0 };
}

static int run_job(const char *dir, enum job_mode mode, unsigned lanes, const char *failpoints,
                   struct metrics *metrics, struct err *err) {
    struct log log = { .level = LOG_ERROR, .fd = -1, .job = "threads" };
    struct env env = { .files = files_os(),
                       .log = &log,
                       .metrics = metrics,
                       .state_dir = dir,
                       .memory_bytes = 64u << 20,
                       .spill_bytes_max = 1u << 30,
                       .row_bytes_max = 1u << 20 };
    if (failpoints) {
        env.failpoints = failpoints_new(failpoints, NULL, err);
        if (!env.failpoints) {
            return EXIT_USAGE;
        }
    }
    struct job_config config = { .name = "threads",
                                 .source = &fake_source_ops,
                                 .sink = &sink_ops,
                                 .source_address = { .scheme = "fake", .job = "threads" },
                                 .sink_address = { .scheme = "fake", .job = "threads" },
                                 .select = select_all,
                                 .lanes = lanes,
                                 .mode = mode };
    the_job = job_new(&config, &env);
    int code = job_run(the_job, err);
    struct buf status;
    buf_init(&status, SIZE_MAX);
    job_status_json(the_job, &status);
    json_t *json = json_loadb(status.data, status.len, JSON_REJECT_DUPLICATES, NULL);
    const char *phase = json_string_value(json_object_get(json, "phase"));
    expect(phase && strcmp(phase, "stopped") == 0, "status",
           "status is no JSON that says \"stopped\"");
    expect(json_is_array(json_object_get(json, "tables")), "status", "status has no tables");
    json_decref(json);
    buf_release(&status);
    job_free(the_job);
    failpoints_free(env.failpoints);
    return code;
}

struct one {
    const char *name;
    unsigned total, lanes;
    enum job_mode mode;
    unsigned unknown_each, log_fails_at, lane_retries_each, lane_fails_at, stop_after;
    bool again; /* a second run goes on from the first one's position */
    const char *failpoints;
    unsigned fenced_at, conflict_at, rewinds_min;
    bool stop_now, locked, no_position;
    int code; /* expected */
    const char *err_code;
    const char *position; /* what the target says at first */
};

static void set_up(const struct one *c) {
    sink_ops = fake_sink_ops;
    sink_ops.owns_position = !c->no_position;
    atomic_store(&seq_now, 0);
    server = server_new(c->total);
    target = xcalloc(1, sizeof *target);
    target->q = waitq_new();
    target->unknown_each = c->unknown_each;
    target->fenced_at = c->fenced_at;
    target->conflict_at = c->conflict_at;
    target->position = c->position ? xstrdup(c->position) : NULL;
    server->log_fails_at = c->log_fails_at;
    server->lane_retries_each = c->lane_retries_each;
    server->lane_fails_at = c->lane_fails_at;
    stop_after_commits = c->stop_after;
    stop_at_once = c->stop_now;
}

static void run_one(const struct one *c, const char *dir) {
    unsigned before = failures;
    struct metrics metrics = { 0 };
    struct err err = ERR_INIT;
    struct file *lock = NULL;
    char path[64];
    snprintf(path, sizeof path, "%s/lock", dir);
    set_up(c);
    if (c->locked) {
        expect(files_open_lock(files_os(), path, &lock, &err) == FILES_OK, c->name,
               "the lock was taken");
    }
    expect(run_job(dir, c->mode, c->lanes, c->failpoints, &metrics, &err) == c->code, c->name,
           err.text);
    expect(strcmp(err.code, c->err_code ? c->err_code : "") == 0, c->name, err.code);
    file_close(lock);
    if (!c->err_code || c->again) {
        judge(c->name, c->mode == JOB_ONCE && !c->err_code);
    }
    if (c->again) {
        err = ERR_INIT;
        stop_after_commits = 0;
        expect(run_job(dir, JOB_ONCE, c->lanes, NULL, &metrics, &err) == EXIT_DONE, c->name,
               err.text);
        judge(c->name, true);
    }
    if (c->unknown_each) {
        expect(target->applied_unknown + target->lost_unknown > 0, c->name,
               "no commit was UNKNOWN");
    }
    expect(metric_get(&metrics, METRIC_REWINDS) >= c->rewinds_min, c->name,
           "it rewound too seldom");
    expect(metric_get(&metrics, METRIC_CHANNEL_BYTES) == 0, c->name, "bytes are left in channels");
    if (failures == before) {
        printf("ok %s (%lld commits, %lld rewinds)\n", c->name,
               (long long)metric_get(&metrics, METRIC_COMMITS),
               (long long)metric_get(&metrics, METRIC_REWINDS));
    }
    fflush(stdout);
    free(target->position);
    waitq_free(target->q);
    free(target);
    server_free(server);
}

/* Each edge of the engine fails once, in a run of its own (within one run their pauses would add
 * up), the busy ones also later. */
static const char *const failing_edges[] = {
    "job.after_recover=error@1",     "job.after_start=error@1",
    "job.after_slot=error@1",        "job.after_capture=error@1",
    "log.after_segment=error@3",     "lane.after_begin=error@2",
    "lane.after_view=error@2",       "lane.after_rows=error@5",
    "lane.before_end=error@2",       "lane.after_join=error@1",
    "lane.before_piece_end=error@2", "merge.before_barrier=error@3",
    "merge.after_barrier=error@3",   "writer.before_seal=error@4",
    "writer.after_seal=error@3",     "commit.before_apply_schema=error@2",
    "commit.before_commit=error@1",  "commit.before_commit=error@4",
    "commit.after_commit=error@1",   "commit.after_commit=error@4",
    "commit.after_ack=error@2",
};

int main(void) {
    static const struct one cases[] = {
        { .name = "once_with_one_lane", .total = 400, .lanes = 1, .mode = JOB_ONCE },
        { .name = "once_with_three_lanes", .total = 800, .lanes = 3, .mode = JOB_ONCE },
        { .name = "unknown_outcomes",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .unknown_each = 2 },
        { .name = "log_session_lost",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .log_fails_at = 8,
          .rewinds_min = 1,
          .unknown_each = 3 },
        { .name = "log_session_lost_in_the_stream",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .log_fails_at = 110,
          .rewinds_min = 1,
          .unknown_each = 3 },
        { .name = "lane_retries",
          .total = 800,
          .lanes = 3,
          .mode = JOB_ONCE,
          .lane_retries_each = 4 },
        { .name = "lane_session_lost",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .lane_fails_at = 5,
          .rewinds_min = 1 },
        { .name = "stop_and_go_on",
          .total = 2000,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 2,
          .again = true },
        { .name = "stop_in_the_stream",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 6,
          .unknown_each = 4,
          .again = true },
        { .name = "conflict_rewinds",
          .total = 600,
          .lanes = 2,
          .mode = JOB_ONCE,
          .conflict_at = 3,
          .rewinds_min = 1 },
        { .name = "fenced_stops",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .fenced_at = 3,
          .again = true,
          .code = EXIT_FENCED,
          .err_code = "fenced" },
        { .name = "stop_at_once",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 4,
          .stop_now = true,
          .again = true,
          .code = EXIT_ERROR,
          .err_code = "stopped" },
        { .name = "lock_is_held",
          .total = 40,
          .lanes = 1,
          .mode = JOB_ONCE,
          .locked = true,
          .code = EXIT_FENCED,
          .err_code = "instance_running" },
        { .name = "position_is_damaged",
          .total = 40,
          .lanes = 1,
          .mode = JOB_ONCE,
          .position = "{\"v\":1}",
          .code = EXIT_ERROR,
          .err_code = "position_malformed" },
        { .name = "sink_without_a_position",
          .total = 600,
          .lanes = 2,
          .mode = JOB_ONCE,
          .no_position = true },
    };
    char dir[] = "/tmp/threads.XXXXXX";
    if (!mkdtemp(dir)) {
        perror("mkdtemp");
        return 1;
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        run_one(&cases[i], dir);
    }
    for (size_t i = 0; i < ARRAY_COUNT(failing_edges); i++) {
        bool may_miss = strncmp(failing_edges[i], "lane.after_join", 15) ==
                        0; /* one lane may read all pieces before another comes */
        run_one(&(struct one){ .name = failing_edges[i],
                               .total = 600,
                               .lanes = 3,
                               .mode = JOB_ONCE,
                               .failpoints = failing_edges[i],
                               .rewinds_min = may_miss ? 0 : 1 },
                dir);
    }
    char lock[64], spill[64];
    snprintf(lock, sizeof lock, "%s/lock", dir);
    snprintf(spill, sizeof spill, "%s/spill", dir);
    remove(lock);
    remove(spill);
    remove(dir);
    return failures ? 1 : 0;
}
