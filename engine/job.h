/* A job: SOURCE -> SINK, supervised. job_run is the control session and the one place that decides
 * to retry, rewind or stop: everything else reports. It blocks until the job ends; the caller's
 * thread (or task) is the control task.
 *
 * Errors of a run: RETRY = the call again with growing pauses, up to a bound, then REWIND; REWIND =
 * all tasks and sessions are torn down and the job starts again from the target's last commit, for
 * ever, each time logged with its reason; FATAL = it stops. */
#pragma once
#include <stdbool.h>

#include "cdc/base/clock.h"
#include "cdc/base/env.h"
#include "cdc/sink.h"
#include "cdc/source.h"

enum job_mode {
    JOB_RUN,  /* until it is stopped */
    JOB_ONCE, /* until the log's end as of its start is passed, everything joined, and the commit
                 that covers it stands */
};

/* A run goes on trying for ever. `once`, that somebody waits for, gives up when it could not start
 * in so many tries and so long a time: more likely a wrong URL than a server that is just starting.
 */
#define JOB_START_TRIES 3u
#define JOB_START_PATIENCE_US (30 * US_PER_S)

struct job_config {
    const char *name;
    const struct source_ops *source;
    struct source_address source_address;
    const struct sink_ops *sink;
    struct sink_address sink_address; /* put_logpos is filled in by the job */
    table_select_fn select;
    const void *rules;
    unsigned lanes;       /* 0 = 1; at most 64 */
    int64_t freshness_us; /* distance between commits; 0 = the sink's own */
    enum job_mode mode;
    bool snapshot_never; /* every table counts as joined */
    bool rewrite_stops;  /* a table rewritten without the log saying so ends the job */
    uint32_t chunk_rows; /* goal for a key-range chunk; 0 = 100000; at least 2 */
};

struct job;
/* Borrows both for its life. */
struct job *job_new(const struct job_config *config, struct env *env);
void job_free(struct job *job);
/* Returns an exit code of INTERFACE; with one other than EXIT_DONE err says why (already logged are
 * only rewinds). */
int job_run(struct job *job, struct err *err);
/* Thread: any; not from a signal handler. Commits what is whole, at most 20 s, then job_run returns
 * EXIT_DONE. A second call = job_stop_now. */
void job_stop(struct job *job);
/* Thread: any. Ends at the next chance without a commit: EXIT_ERROR, code "stopped". Safe: the last
 * commit stands. */
void job_stop_now(struct job *job);
/* Thread: any. One JSON object: job, phase, waits_for, epoch, seq, applied, log_end, lag_bytes,
 * rewinds, last_error, tables[]. */
void job_status_json(struct job *job, struct buf *out);
