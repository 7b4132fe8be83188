/* The supervisor of one job: starts a run, serves it, tears it down, and decides what its
 * end means.
 *
 *   IDLE -> STARTING -> RUNNING -> CLOSING -> ENDED                done, stopped, or FATAL
 *              |                      |
 *              +------> CLOSING ------+--> REWINDING -> STARTING   RETRY and REWIND, for ever
 *
 * STARTING, in this order (DESIGN section 3):
 *   the local lock (once, for the job's whole life); source; examine; sink; peek;
 *   a target that knows nothing: recover (its empty claim), then source start (creates the slot),
 *     then the log session (takes it);
 *   else: source start from peek's position, the log session, and only then recover: a newcomer
 *     without the slot fences nobody. peek's position only started the log: if recover's is
 *     another, the log is started again from that one.
 *
 * Thread: the caller of job_run; never touches what a running task owns. */
#include "engine/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"
#include "engine/control.h"
#include "engine/job_state.h"

static void job_enter(struct job *job, enum job_phase phase) {
    enum job_phase p = job->phase;
    CHECK(phase == PHASE_STARTING  ? p == PHASE_IDLE || p == PHASE_REWINDING
          : phase == PHASE_RUNNING ? p == PHASE_STARTING
          : phase == PHASE_CLOSING ? p == PHASE_STARTING || p == PHASE_RUNNING
          : phase == PHASE_REWINDING
              ? p == PHASE_CLOSING
              : phase == PHASE_ENDED &&
                    (p == PHASE_CLOSING || p == PHASE_REWINDING || p == PHASE_IDLE));
    job->phase = phase;
    if (phase == PHASE_STARTING) {
        status_phase(job->status, "starting");
    } else if (phase == PHASE_REWINDING) {
        status_phase(job->status, "rewinding");
    } else if (phase == PHASE_ENDED) {
        status_phase(job->status, "stopped");
    }
}

struct job *job_new(const struct job_config *config, struct env *env) {
    struct job *job = xcalloc(1, sizeof *job);
    job->config = config;
    job->env = env;
    job->status = status_new(config->name);
    job->inbox = inbox_new();
    job->known = map_new();
    atomic_init(&job->stop, false);
    atomic_init(&job->stop_now, false);
    return job;
}

void job_free(struct job *job) {
    CHECK(!job->run && !job->source && !job->sink);
    map_free(job->known, NULL);
    inbox_free(job->inbox);
    status_free(job->status);
    free(job);
}

void job_stop_now(struct job *job) {
    atomic_store(&job->stop_now, true);
    inbox_poke(job->inbox);
}

void job_stop(struct job *job) {
    if (atomic_exchange(&job->stop, true)) {
        atomic_store(&job->stop_now, true);
    }
    inbox_poke(job->inbox);
}

void job_status_json(struct job *job, struct buf *out) {
    status_put_json(job->status, job->env->metrics, out);
}

bool job_pause(struct job *job, int64_t us) {
    int64_t deadline = clock_mono_us() + us;
    while (!job_stopping(job) && clock_mono_us() < deadline) {
        inbox_wait(job->inbox, deadline);
    }
    return !job_stopping(job);
}

static int take_lock(struct job *job, struct err *err) {
    if (files_mkdirs(job->env->files, job->env->state_dir, 0700, err) == FILES_FAILED) {
        return -1;
    }
    char *path = xasprintf("%s/lock", job->env->state_dir);
    enum files_result r = files_open_lock(job->env->files, path, &job->lock, err);
    if (r == FILES_EXISTS) {
        job->lock = NULL;
        err_set(err, ERR_FATAL, "instance_running",
                "lock \"%s\": another instance of job %s runs on this machine", path,
                job->config->name);
        err_cure(
            err,
            "stop the other instance, or give this job another name with ?job=NAME on the sink");
        err_exit(err, EXIT_FENCED);
    }
    free(path);
    return r == FILES_OK ? 0 : -1;
}

/* Findings that are not fatal are logged; the first fatal one stops the job. */
static int judge(struct job *job, const char *part, const struct source_findings *f,
                 struct err *err) {
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->at[i].fatal) {
            err_set(err, ERR_FATAL, "preflight", "%s", f->at[i].what);
            err_cure(err, "%s", f->at[i].cure);
            return err_exit(err, EXIT_PLAN);
        }
        log_warn(job->env->log, part, "finding", "%s", f->at[i].what);
    }
    return 0;
}

static int open_ends(struct job *job, struct err *err) {
    const struct job_config *c = job->config;
    struct source_findings *findings = xcalloc(1, sizeof *findings);
    struct sink_address address = c->sink_address;
    address.put_logpos = c->source->put_logpos;
    int rc = source_open(c->source, &c->source_address, job->env, c->select, c->rules, &job->source,
                         err);
    if (rc == 0) {
        rc = source_examine(job->source, findings, err) || judge(job, "ctl", findings, err);
    }
    if (rc == 0) {
        rc = sink_open(c->sink, &address, job->env, &job->sink, err);
    }
    if (rc == 0) {
        *findings = (struct source_findings){ 0 };
        rc = sink_examine(job->sink, findings, err) || judge(job, "commit", findings, err);
    }
    free(findings);
    if (rc == 0 && !job->catalogued) { /* before anything is claimed or created */
        rc = control_check_tables(job, job->source, err);
    }
    return rc ? -1 : 0;
}

/* Takes over what the target knows. */
static int adopt(struct run *run, struct sink_state *state, struct err *err) {
    sink_state_release(&run->sink_state);
    stored_position_release(&run->stored);
    free(run->stored_text);
    run->sink_state = *state;
    *state = (struct sink_state){ 0 };
    run->has_stored = run->sink_state.knows == TARGET_POSITION;
    run->stored_text = NULL;
    if (!run->has_stored) {
        return 0;
    }
    CHECK(run->sink_state.position);
    run->stored_text = xstrdup(run->sink_state.position);
    return position_decode(run->stored_text, run->config->source, &run->stored, err);
}

static int ask_target(struct run *run, bool claim, struct err *err) {
    struct sink_state state = { 0 };
    if (!run->sink->ops->owns_position) {
        return adopt(run, &state, err); /* stdout and discard know nothing, each time */
    }
    if (claim ? sink_recover(run->sink, &state, err) : sink_peek(run->sink, &state, err)) {
        return -1;
    }
    int rc = adopt(run, &state, err);
    if (rc == 0 && claim) {
        rc = FAILPOINT(run->env->failpoints, "job.after_recover", err);
    }
    return rc;
}

/* Source start and the log session, from what run->stored says; `knows` as it was before we
 * claimed. */
static int start_log(struct run *run, enum target_knows knows, struct err *err) {
    struct source_start req = { .knows = knows,
                                .temporary = !run->sink->ops->owns_position,
                                .applied = run->stored.applied,
                                .resume = run->stored.resume,
                                .lineage = run->stored.lineage };
    struct source_started *started = xcalloc(1, sizeof *started);
    int rc = source_start(run->source, &req, started, err);
    if (rc == 0) {
        rc = FAILPOINT(run->env->failpoints, "job.after_start", err);
    }
    if (rc == 0) {
        rc = source_log_open(run->source, started->from, &run->log, err);
    }
    if (rc == 0) {
        if (knows != TARGET_POSITION) {
            run->stored.applied = run->stored.resume = started->from;
        }
        if (started->lineage[0]) {
            free(run->stored.lineage);
            run->stored.lineage = xstrdup(started->lineage);
        } else if (!run->stored.lineage) {
            run->stored.lineage = xstrdup("{}");
        }
        run->see_from_tx =
            run->stored.x > started->see_from_tx ? run->stored.x : started->see_from_tx;
        rc = FAILPOINT(run->env->failpoints, "job.after_slot", err);
    }
    free(started);
    return rc;
}

static void close_log(struct run *run) {
    if (run->log) {
        source_log_close(run->log);
    }
    run->log = NULL;
}

/* The claim comes before the slot; what would refuse the slot comes before the claim. */
static int start_from_nothing(struct run *run, struct err *err) {
    struct source_start look = { .knows = TARGET_NOTHING, .look_only = true };
    struct source_started *nothing = xcalloc(1, sizeof *nothing);
    int rc = source_start(run->source, &look, nothing, err);
    free(nothing);
    if (rc || ask_target(run, true, err)) {
        return -1;
    }
    if (run->has_stored) { /* another instance committed since we peeked: it will be found out by
                              the slot */
        return start_log(run, TARGET_POSITION, err);
    }
    return start_log(run, TARGET_NOTHING, err);
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

/* The source refused the position that was peeked: was it that of the target still? Another
 * instance that commits in between moves the slot on, and then it is the one that holds the slot.
 */
static void judge_refusal(struct run *run, struct err *err) {
    struct sink_state now = { 0 };
    struct err why = ERR_INIT;
    if (sink_peek(run->sink, &now, &why) == 0 &&
        (now.epoch != run->sink_state.epoch || now.seq != run->sink_state.seq ||
         !same_text(now.position, run->stored_text))) {
        err_clear(err);
        err_set(err, ERR_REWIND, "commit_conflict",
                "another instance committed while this one started");
    }
    sink_state_release(&now);
}

/* Takes the slot first and claims the target then. */
static int start_from_known(struct run *run, struct err *err) {
    enum target_knows peeked = run->sink_state.knows;
    char *text = run->stored_text ? xstrdup(run->stored_text) : NULL;
    struct logpos applied = run->stored.applied, resume = run->stored.resume;
    char *lineage = NULL;
    int rc = FAILPOINT(run->env->failpoints, "job.after_peek", err) || start_log(run, peeked, err)
                 ? -1
                 : 0;
    if (rc && err->exit == EXIT_LINEAGE) {
        judge_refusal(run, err);
    }
    if (rc == 0) {
        lineage = xstrdup(run->stored.lineage);
        applied = run->stored.applied;
        resume = run->stored.resume;
        rc = ask_target(run, true, err);
    }
    if (rc == 0 && !same_text(text, run->stored_text)) {
        close_log(run);
        rc = start_log(run, run->sink_state.knows, err);
    } else if (rc == 0) { /* what start answered holds for recover's position too */
        free(run->stored.lineage);
        run->stored.lineage = lineage;
        lineage = NULL;
        run->stored.applied = applied;
        run->stored.resume = resume;
    }
    free(lineage);
    free(text);
    return rc;
}

static int start_run(struct job *job, struct err *err) {
    if (open_ends(job, err)) {
        return -1;
    }
    struct run *run = job->run = run_new(job, job->config, job->env, job->status, job->inbox);
    run->source = job->source;
    run->sink = job->sink;
    if (ask_target(run, false, err)) {
        return -1;
    }
    if (run->sink_state.knows != TARGET_NOTHING ? start_from_known(run, err)
        : run->sink->ops->owns_position         ? start_from_nothing(run, err)
                                                : start_log(run, TARGET_NOTHING, err)) {
        return -1;
    }
    status_commit(job->status, run->sink_state.epoch, run->sink_state.seq);
    struct buf from;
    buf_init(&from, SIZE_MAX);
    if (source_put_logpos(job->config->source, &from, run->stored.applied) == 0) {
        log_info(job->env->log, "job", "started", "epoch=%llu seq=%llu from=%s",
                 (unsigned long long)run->sink_state.epoch, (unsigned long long)run->sink_state.seq,
                 buf_cstr(&from));
    }
    buf_release(&from);
    return 0;
}

static void start_tasks(struct job *job) {
    struct run *run = job->run;
    for (unsigned i = 0; i < run->writer_count; i++) {
        job->writer_starts[i] = (struct writer_start){ .run = run, .number = i };
        job->writer_tasks[i] = task_start("writer", writer_task, &job->writer_starts[i]);
    }
    job->commit_task = task_start("commit", commit_task, run);
    job->merge_task = task_start("merge", merge_task, run);
    for (unsigned i = 0; i < run->lane_count; i++) {
        job->lane_starts[i] = (struct lane_start){ .run = run, .number = i };
        job->lane_tasks[i] = task_start("lane", lane_task, &job->lane_starts[i]);
    }
    job->log_task = task_start("log", log_task, run);
}

static void join(struct task **task) {
    if (*task) {
        task_join(*task);
    }
    *task = NULL;
}

/* Everything of the attempt goes; the lock stays. */
static void tear_down(struct job *job, bool summary) {
    if (job->run) {
        run_stop(job->run);
        join(&job->log_task);
        join(&job->merge_task);
        join(&job->commit_task);
        for (unsigned i = 0; i < RUN_LANES_MAX; i++) {
            join(&job->lane_tasks[i]);
        }
        for (unsigned i = 0; i < RUN_WRITERS_MAX; i++) {
            join(&job->writer_tasks[i]);
        }
        close_log(job->run);
        run_free(job->run);
        job->run = NULL;
    }
    if (job->sink) {
        struct err err = ERR_INIT;
        struct buf line;
        buf_init(&line, SIZE_MAX);
        if (summary && sink_summary(job->sink, &line, &err) == 0 && line.len) {
            log_info(job->env->log, "sink", "summary", "%s", buf_cstr(&line));
        }
        buf_release(&line);
        sink_close(job->sink);
        job->sink = NULL;
    }
    if (job->source) {
        source_close(job->source);
        job->source = NULL;
    }
}

/* One run from start to end. */
static enum control_end attempt(struct job *job, struct err *err) {
    enum control_end end = CONTROL_FAILED;
    job_enter(job, PHASE_STARTING);
    snprintf(job->failed_part, sizeof job->failed_part, "ctl");
    if (start_run(job, err) == 0) {
        job_enter(job, PHASE_RUNNING);
        start_tasks(job);
        if (control_first_catalogue(job, job->run, err) == 0) {
            end = control_serve(job, job->run, err);
        }
    }
    job_enter(job, PHASE_CLOSING);
    tear_down(job, end != CONTROL_FAILED);
    return end;
}

static int stopped(struct job *job, struct err *err) {
    if (!atomic_load(&job->stop_now)) {
        return EXIT_DONE;
    }
    err_set(err, ERR_FATAL, "stopped",
            "stopped at once: what was not committed is read again at the next start");
    return EXIT_ERROR;
}

/* Attempt after attempt. Returns the exit code. */
static int run_attempts(struct job *job, struct err *err) {
    struct backoff backoff = { .first_us = 100 * US_PER_MS, .max_us = 30 * US_PER_S };
    int64_t first_start_by_us = clock_mono_us() + JOB_START_PATIENCE_US;
    while (!job_stopping(job)) {
        err_clear(err);
        int64_t commits = metric_get(job->env->metrics, METRIC_COMMITS);
        enum control_end end = attempt(job, err);
        if (end == CONTROL_ENDED) {
            return EXIT_DONE;
        }
        if (end == CONTROL_STOPPED) {
            break;
        }
        CHECK(err->kind != ERR_NONE);
        status_error(job->status, err);
        if (err->kind == ERR_FATAL) {
            return err->exit ? err->exit : EXIT_ERROR;
        }
        if (job->config->mode == JOB_ONCE && !job->catalogued &&
            backoff.tries + 1 >= JOB_START_TRIES && clock_mono_us() >= first_start_by_us) {
            return EXIT_ERROR;
        }
        job_enter(job, PHASE_REWINDING);
        if (metric_get(job->env->metrics, METRIC_COMMITS) > commits) {
            backoff_reset(&backoff);
        }
        int64_t pause_us = backoff_next_us(&backoff);
        metric_add(job->env->metrics, METRIC_REWINDS, 1);
        log_warn(job->env->log, job->failed_part, "rewind",
                 "%s: %s; starting again from the last commit in %lld ms", err->code, err->text,
                 (long long)(pause_us / US_PER_MS));
        job_pause(job, pause_us);
    }
    err_clear(err);
    return stopped(job, err);
}

int job_run(struct job *job, struct err *err) {
    int code;
    if (take_lock(job, err)) {
        code = err->exit ? err->exit : EXIT_ERROR;
    } else {
        code = run_attempts(job, err);
    }
    job_enter(job, PHASE_ENDED);
    file_close(job->lock);
    job->lock = NULL;
    return code;
}
