/* When the merge task places a barrier: a pure decision over what it knows.
 *
 *   something changed (rows, generations, which tables are consistent, schemas):
 *     stream    the distance since the last barrier reached freshness, but not sooner than the
 *               last commit itself took
 *     snapshot  the same, but at least one second, unless so many bytes have flowed
 *   only the log moved
 *     after a minute or 64 MiB of log
 *   finishing
 *     at once; without any change too, so that the position is stored */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define BARRIER_SNAPSHOT_BYTES (UINT64_C(64) << 20)
#define BARRIER_SNAPSHOT_US (INT64_C(1) * 1000 * 1000)
#define BARRIER_IDLE_BYTES (UINT64_C(64) << 20)
#define BARRIER_IDLE_US (INT64_C(60) * 1000 * 1000)

struct barrier_view {
    int64_t now_us;
    int64_t last_us; /* when the last barrier was placed, or the run began */
    int64_t freshness_us;
    int64_t commit_us;       /* how long the last commit took */
    uint64_t bytes;          /* of rows since the last barrier */
    uint64_t snapshot_bytes; /* the sink's; 0 = BARRIER_SNAPSHOT_BYTES */
    uint64_t log_bytes;      /* of log since the last barrier */
    bool changed;            /* rows, generations, shape, schemas */
    bool log_moved;
    bool snapshot; /* some table has not joined */
    bool finishing;
    bool in_flight; /* a commit is not settled: one at a time */
};
/* Place one now? If not, *look_again_us is when time alone could change the answer (INT64_MAX:
 * never). */
bool barrier_due(const struct barrier_view *v, int64_t *look_again_us);
