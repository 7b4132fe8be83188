/* `run` and `once`: each job in a task of its own, none stops another; the main task waits for
 * signals and for their ends. A first TERM or INT asks all jobs to commit and end, a second one to
 * end at once. Thread: main, and one task a job. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/os/wait_fd.h"
#include "cdc/base/task.h"
#include "config/cmd/cmd.h"
#include "config/cmd/control.h"
#include "config/cmd/progress.h"

/* The rules of a job, and how many tables each has met: the selector is called by the job's tasks.
 */
struct met_rules {
    const struct job_text *rules;
    atomic_uint *tables; /* one a rule */
};

struct running {
    const struct job_spec *spec;
    struct met_rules met;
    bool judged; /* its rules were looked at */
    struct job_world world;
    struct job_config config;
    struct job *job;
    struct control_socket *control;
    struct task *task;
    struct waker *main_waker;
    struct progress *progress;
    atomic_bool ended;
    int code;
};

/* The handler's only business: a byte a signal, which the main task reads. */
static int signal_pipe[2] = { -1, -1 };

static void on_signal(int number) {
    int kept = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t n = write(signal_pipe[1], &byte, 1);
    (void)n; /* full: as many signals wait as anybody could mean */
    errno = kept;
}

static void install_signals(void) {
    int failed = pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK);
    CHECK(!failed);
    struct sigaction action = { .sa_handler = on_signal };
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

static void select_and_count(const void *rules, const char *space, const char *name,
                             struct table_choice *out) {
    const struct met_rules *met = rules;
    for (uint32_t i = 0; i < met->rules->rule_count; i++) {
        if (rule_matches(&met->rules->rules[i], space, name)) {
            atomic_fetch_add_explicit(&met->tables[i], 1, memory_order_relaxed);
        }
    }
    rules_select(met->rules, space, name, out);
}

/* Warns of rules that no table met, once, as soon as the catalogue was read. */
static void judge_rules(struct running *r, bool read) {
    if (r->judged || !read) {
        return;
    }
    r->judged = true;
    for (uint32_t i = 0; i < r->spec->rules.rule_count; i++) {
        const struct rule *rule = &r->spec->rules.rules[i];
        if (atomic_load_explicit(&r->met.tables[i], memory_order_relaxed) == 0) {
            log_warn(&r->world.log, "job", "rule_unmatched",
                     "rule \"%s\" in line %u matches no table", rule->pattern, rule->place.line);
        }
    }
}

static void job_task(void *arg) {
    struct running *r = arg;
    struct err err = ERR_INIT;
    r->code = job_run(r->job, &err);
    if (r->code != EXIT_DONE) {
        log_err(&r->world.log, "job", &err);
    } else {
        log_info(&r->world.log, "job", "ended", "");
    }
    atomic_store(&r->ended, true);
    waker_wake(r->main_waker);
}

static void configure(struct running *r, enum job_mode mode) {
    const struct job_spec *spec = r->spec;
    const struct opts *source = spec->source_opts;
    r->config = (struct job_config){
        .name = spec->name,
        .source = spec->source->ops,
        .source_address = spec->source_address,
        .sink = spec->sink->ops,
        .sink_address = spec->sink_address,
        .select = select_and_count,
        .rules = &r->met,
        .lanes = (unsigned)opts_int(source, "lanes"),
        .mode = mode,
        .snapshot_never = strcmp(opts_text(source, "snapshot"), "never") == 0,
        .rewrite_stops = strcmp(opts_text(source, "on_rewrite"), "stop") == 0,
        .chunk_rows = (uint32_t)opts_int(spec->job_opts, "chunk_rows"),
        .freshness_us =
            opts_is_set(spec->sink_opts, "freshness") ? opts_int(spec->sink_opts, "freshness") : 0,
    };
}

static void start_job(struct running *r, struct command_line *line, enum job_mode mode,
                      struct failpoints *failpoints, uint64_t memory_bytes) {
    struct err err = ERR_INIT;
    char *dirs[5];
    if (job_world_init(&r->world, line, r->spec, failpoints, memory_bytes, &err)) {
        r->code = report_error(&line->log, "job", &err);
        atomic_store(&r->ended, true);
        return;
    }
    r->met.rules = &r->spec->rules;
    r->met.tables = xcalloc((size_t)r->spec->rules.rule_count + 1, sizeof *r->met.tables);
    configure(r, mode);
    r->job = job_new(&r->config, &r->world.env);
    char *root = state_root(line, &err);
    socket_dirs(root, dirs);
    r->control = control_socket_open(r->spec->name, r->job, dirs, &r->world.log);
    socket_dirs_free(dirs);
    free(root);
    r->progress = progress_new(r->job, &r->world.log);
    r->task = task_start("job", job_task, r);
}

static void end_job(struct running *r) {
    if (r->task) {
        task_join(r->task);
        judge_rules(r, r->code == EXIT_DONE);
        control_socket_close(r->control);
        progress_free(r->progress);
        job_free(r->job);
    }
    free(r->met.tables);
    job_world_release(&r->world);
}

static bool all_ended(struct running *jobs, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!atomic_load(&jobs[i].ended)) {
            return false;
        }
    }
    return true;
}

/* Hands on the signals that arrived. */
static void take_signals(struct running *jobs, uint32_t count, unsigned *seen) {
    unsigned char byte;
    while (read(signal_pipe[0], &byte, 1) == 1) {
        ++*seen;
        for (uint32_t i = 0; i < count; i++) {
            if (!jobs[i].job || atomic_load(&jobs[i].ended)) {
                continue;
            }
            log_info(&jobs[i].world.log, "job", *seen == 1 ? "stopping" : "stopping_now",
                     "signal=%d", byte);
            if (*seen == 1) {
                job_stop(jobs[i].job);
            } else {
                job_stop_now(jobs[i].job);
            }
        }
    }
}

static void serve(struct running *jobs, uint32_t count, struct waker *waker) {
    unsigned signals = 0;
    while (!all_ended(jobs, count)) {
        wait_fd(signal_pipe[0], POLLIN, waker, clock_mono_us() + US_PER_S);
        waker_clear(waker);
        take_signals(jobs, count, &signals);
        for (uint32_t i = 0; i < count; i++) {
            if (jobs[i].progress && !atomic_load(&jobs[i].ended)) {
                judge_rules(&jobs[i],
                            progress_look(jobs[i].progress, clock_mono_us(), !jobs[i].judged));
            }
        }
    }
}

static int run_jobs(struct command_line *line, enum job_mode mode) {
    struct jobs specs;
    struct err err = ERR_INIT;
    jobs_load(line, JOB_NEEDS_BOTH, &specs);
    int code = specs.code;
    if (specs.count == 0) {
        jobs_release(&specs);
        return code;
    }
    const char *armed = getenv("TAILRACE_FAILPOINTS");
    const char *armed_log = getenv("TAILRACE_FAILPOINTS_LOG");
    struct failpoints *failpoints = NULL;
    if (armed || armed_log) {
        failpoints = failpoints_new(armed, armed_log, &err);
        if (!failpoints) {
            jobs_release(&specs);
            return report_error(&line->log, "cli", &err);
        }
    }
    struct running *jobs = xcalloc(specs.count, sizeof *jobs);
    struct waker *waker = waker_new();
    install_signals();
    for (uint32_t i = 0; i < specs.count; i++) {
        jobs[i].spec = specs.at[i];
        jobs[i].main_waker = waker;
        start_job(&jobs[i], line, mode, failpoints,
                  (uint64_t)opts_int(line->opts, "memory") / specs.count);
    }
    serve(jobs, specs.count, waker);
    for (uint32_t i = 0; i < specs.count; i++) {
        end_job(&jobs[i]);
        code = worse(code, jobs[i].code);
    }
    waker_free(waker);
    free(jobs);
    failpoints_free(failpoints);
    jobs_release(&specs);
    return code;
}

int cmd_run(struct command_line *line) { return run_jobs(line, JOB_RUN); }
int cmd_once(struct command_line *line) { return run_jobs(line, JOB_ONCE); }
