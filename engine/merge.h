/* The merge task's own state, shared by merge_task.c (loop, lanes, news), merge_seal.c (barriers)
 * and merge_out.c (routing). Internal to engine/. Thread: the merge task. */
#pragma once
#include "engine/run.h"
#include "engine/spool.h"

enum seal_state {
    SEAL_NONE,    /* no barrier is due */
    SEAL_PROBING, /* due: a snapshot was asked for, so that what it sees need not be stored as loose
                   */
    SEAL_READY,   /* due, and probed: waits for a border */
};
enum lane_state {
    LANE_IS_AWAY /* not started */,
    LANE_IS_FREE,
    LANE_IS_BUSY,
    LANE_WAITS_FOR_PIECE
};

struct merge {
    struct run *run;
    struct hybrid *h;
    struct spool *spool;
    bool catalogued;      /* the first catalogue was taken in: segments and lanes may go */
    bool stopped_sending; /* a writer's channel broke: stopping */
    bool reading;         /* a lane got a chunk since all tables were joined */

    /* Lanes. */
    struct {
        enum lane_state state;
        uint64_t id; /* of its chunk */
        bool joined; /* it reads pieces of another lane's snapshot */
        bool ignore; /* its chunk was dropped: until READY */
    } lanes[RUN_LANES_MAX];

    /* Log. */
    struct logpos log_to; /* read up to */
    struct logpos wanted; /* last told to the source */
    int64_t wanted_us, nudged_us;
    struct logpos once_end; /* JOB_ONCE: the log's end as of the start */
    bool once_known;

    /* Requests under way. */
    bool probing, capturing, catalogue_asked;
    int64_t catalogue_asked_us, probed_us;
    uint32_t probed_loose; /* transactions that were still loose after the last probe */

    /* Barriers. */
    enum seal_state seal;
    int64_t seal_at_us; /* not before: after a position that did not fit */
    uint64_t seq;       /* of the next commit */
    bool in_flight;
    int64_t barrier_us, commit_us;
    uint64_t items, rows, bytes; /* sent to writers since the last barrier */
    struct logpos sealed_to;     /* log_to of the last barrier */
    bool sealed_any;             /* in this run, or a position was stored before */
    bool finishing, final_sealed, done;
    int64_t long_warned_us;

    int64_t look_again_us; /* time alone may change something then */
    int64_t status_us;
};

/* merge_out.c: the hybrid algorithm's output to the writers; blocks for their credit. */
void merge_emit(void *merge, const struct hybrid_out *out);
/* merge_seal.c: places a barrier when one is due. -1 with err. */
int merge_seal_step(struct merge *m, struct err *err);
void merge_committed(struct merge *m, const struct merge_news *news);
/* merge_task.c */
void merge_ask(struct merge *m, enum control_kind kind, uint64_t *take_ids, uint32_t count);
