/* A run: one incarnation of a job's graph, from a recovered position until it ends, is stopped or
 * rewinds. Holds what its tasks share: the channels between them, the stop flag, the first failure.
 * Internal to engine/.
 *
 *   log task -- segments -----------------> merge -- rows, barriers -> writers -- parts -> commit
 *   lanes    -- views, rows, ends --------> merge -- commit orders ----------------------> commit
 *            <- orders, verdicts ---------- merge <- committed ---------------------------- commit
 *   control  -- catalogues, snapshots ----> merge -- requests ---------------------------> control
 *
 * Nobody but merge sends to writers and lanes, and writers and the commit task never wait for
 * merge: merge may block on their credit. Messages of the control and commit channels are few by
 * protocol (one request of a kind, one commit in flight).
 * Thread: as said for each member. Locks: one waitq for failure and pauses, a leaf. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

#include "cdc/base/env.h"
#include "cdc/base/task.h"
#include "cdc/base/waitq.h"
#include "cdc/hybrid.h"
#include "engine/backoff.h"
#include "engine/budget.h"
#include "engine/channel.h"
#include "engine/job.h"
#include "engine/position.h"
#include "engine/status.h"

#define RUN_LANES_MAX 64u
#define RUN_WRITERS_MAX 2u
#define RUN_CONTROL_BYTES (1u << 20) /* of the small channels */
#define RUN_TRIES_MAX 10u            /* of one call that says RETRY; then the job rewinds */

/* Lane to merge. */
enum lane_news_kind {
    LANE_READY,
    LANE_CUT,
    LANE_VIEW,
    LANE_ROWS,
    LANE_END,
    LANE_WANTS_PIECE,
    LANE_FAILED
};
struct lane_news {
    enum lane_news_kind kind;
    unsigned lane;
    uint64_t id;            /* of the chunk */
    struct buf bounds;      /* CUT, VIEW */
    uint32_t pieces;        /* CUT, VIEW */
    struct chunk_view view; /* VIEW */
    char export_name[64];   /* VIEW */
    struct batch *batch;    /* ROWS */
    bool complete;          /* END */
};
void lane_news_free(void *news);

/* Merge to lane. */
enum lane_order_kind {
    LANE_DO,
    LANE_VERDICT,
    LANE_DROP /* stop reading this chunk */,
    LANE_ENOUGH /* end it here */,
    LANE_PIECES_DONE
};
struct lane_order {
    enum lane_order_kind kind;
    uint64_t id;
    struct chunk_order order;   /* DO */
    enum chunk_verdict verdict; /* VERDICT */
};
void lane_order_free(void *order);

/* Merge to a writer. */
struct writer_order {
    bool barrier;
    uint64_t seq; /* of a barrier */
    enum stage_kind kind;
    struct batch **batches; /* owned references */
    uint32_t count;
    struct schema *schema; /* owned reference, of STAGE_GENERATION */
    uint32_t generation;
    struct logpos at;
    size_t bytes;
};
void writer_order_free(void *order);

/* Merge and writers to the commit task. */
enum commit_news_kind { COMMIT_ORDER, COMMIT_PART };
struct commit_news {
    enum commit_news_kind kind;
    uint64_t seq;
    /* COMMIT_ORDER */
    char *to; /* owned */
    struct logpos resume;
    uint64_t rows;
    bool position_only;
    char **inconsistent; /* owned, each too */
    uint32_t inconsistent_count;
    struct schema **schemas; /* owned references */
    uint32_t schema_count;
    bool schemas_changed;
    /* COMMIT_PART */
    unsigned writer;
    const struct sink_ops *ops;
    struct sink_part *part; /* owned, may be NULL */
};
void commit_news_free(void *news);

/* Control and commit task to merge. */
enum merge_news_kind { NEWS_CATALOGUE, NEWS_PROBE, NEWS_CAPTURED, NEWS_LOG_END, NEWS_COMMITTED };
struct merge_news {
    enum merge_news_kind kind;
    struct source_catalogue catalogue; /* CATALOGUE */
    bool asked;                        /* CATALOGUE: the answer to a request, or the first one */
    struct snapshot snapshot;          /* PROBE */
    uint64_t *ids;                     /* CAPTURED; owned */
    uint32_t count;
    uint64_t see_from_tx;
    struct logpos pos; /* CAPTURED: from; LOG_END */
    uint64_t seq;      /* COMMITTED */
    int64_t took_us;
};
void merge_news_free(void *news);

/* Merge to control. */
enum control_kind {
    CONTROL_PROBE,
    CONTROL_CATALOGUE,
    CONTROL_CAPTURE,
    CONTROL_NUDGE,
    CONTROL_DONE
};
struct control_order {
    enum control_kind kind;
    uint64_t *ids; /* CAPTURE; owned */
    uint32_t count;
};
void control_order_free(void *order);

struct run {
    struct job *job;
    const struct job_config *config;
    struct env *env;
    struct status *status;
    struct budget budget;
    unsigned lane_count, writer_count;
    int64_t freshness_us;

    /* Set by control before any task starts; then constant. */
    struct source *source;
    struct source_log *log;
    struct sink *sink;
    struct stored_position stored; /* lineage, applied, resume, x, hybrid */
    bool has_stored;
    char *stored_text;            /* NULL without a position */
    struct sink_state sink_state; /* epoch, seq, schemas */
    uint64_t see_from_tx;

    struct inbox *merge_inbox, *commit_inbox, *control_inbox; /* the last one is the job's */
    struct channel *segments, *lane_news, *merge_news, *commit_news, *control_orders;
    struct inbox *lane_inbox[RUN_LANES_MAX];
    struct channel *lane_orders[RUN_LANES_MAX];
    struct inbox *writer_inbox[RUN_WRITERS_MAX];
    struct channel *writer_orders[RUN_WRITERS_MAX];

    atomic_bool stopping;        /* every task returns as soon as it sees it */
    atomic_bool catalogue_waits; /* one is on its way to merge: no poll adds another */
    atomic_bool finishing;       /* merge commits what is whole, then says CONTROL_DONE */
    struct waitq *q;             /* guards failed, err; pauses wait in it */
    bool failed;
    struct err err;
    char failed_part[16];
};

struct run *run_new(struct job *job, const struct job_config *config, struct env *env,
                    struct status *status, struct inbox *control_inbox);
void run_free(struct run *run); /* after its tasks were joined; closes nothing of source and sink */

/* Thread: any. The first failure counts; control is woken and decides. Nothing is reported once the
 * run is being stopped. */
void run_fail(struct run *run, const char *part, const struct err *err);
/* Thread: control. True if a task failed; *err and *part say so. */
bool run_failed(struct run *run, struct err *err, char *part);
static inline bool run_stopping(const struct run *run) { return atomic_load(&run->stopping); }
/* Thread: control. Sets the flag, breaks all channels, wakes everybody. */
void run_stop(struct run *run);
/* Thread: any task of the run. Sleeps, at most until the run is being stopped. False = stopping. */
bool run_pause(struct run *run, int64_t us);
/* After a call failed: true = it said RETRY, a pause has passed, call again. Past RUN_TRIES_MAX the
 * error becomes a REWIND. */
bool run_retry(struct run *run, struct backoff *backoff, struct err *err);
#define RUN_BACKOFF ((struct backoff){ .first_us = 100 * US_PER_MS, .max_us = 10 * US_PER_S })

/* Sends with patience, until the run is being stopped: -1 then (the message is freed). */
int run_send(struct run *run, struct channel *channel, void *take_body, size_t bytes,
             void (*free_body)(void *));

/* The tasks; arg as said. Each returns when the run is being stopped. */
void log_task(void *run);
struct lane_start {
    struct run *run;
    unsigned number;
};
void lane_task(void *lane_start);
void merge_task(void *run);
struct writer_start {
    struct run *run;
    unsigned number;
};
void writer_task(void *writer_start);
void commit_task(void *run);
