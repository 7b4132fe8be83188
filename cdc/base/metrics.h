/* The metric registry of a job: named counters and gauges, read by status. Thread: any; values are
 * atomics. */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* One line a metric; the table in metrics.c gives each its name, unit and doc, and the docs come
 * from it. */
enum metric {
    METRIC_LOG_ROWS,
    METRIC_LOG_BYTES,
    METRIC_LOG_TRANSACTIONS,
    METRIC_SNAPSHOT_ROWS,
    METRIC_SNAPSHOT_BYTES,
    METRIC_CHUNKS_JOINED,
    METRIC_CHUNKS_GIVEN_UP,
    METRIC_CHUNKS_REOPENED,
    METRIC_HOLES,
    METRIC_LOOSE,
    METRIC_HELD_BYTES,
    METRIC_SPILL_BYTES,
    METRIC_COMMITS,
    METRIC_COMMIT_UNKNOWN,
    METRIC_COMMIT_LAST_US,
    METRIC_SINK_ROWS,
    METRIC_SINK_BYTES,
    METRIC_REWINDS,
    METRIC_CHANNEL_BYTES,
    METRIC_COUNT
};
struct metrics {
    _Atomic int64_t v[METRIC_COUNT];
};
static inline void metric_add(struct metrics *m, enum metric k, int64_t n) {
    atomic_fetch_add_explicit(&m->v[k], n, memory_order_relaxed);
}
static inline void metric_set(struct metrics *m, enum metric k, int64_t n) {
    atomic_store_explicit(&m->v[k], n, memory_order_relaxed);
}
static inline int64_t metric_get(const struct metrics *m, enum metric k) {
    return atomic_load_explicit(&((struct metrics *)m)->v[k], memory_order_relaxed);
}
const char *metric_name(enum metric k); /* stable snake_case */
const char *metric_unit(enum metric k); /* "rows", "bytes", "us"...; "" for plain counts */
const char *metric_doc(enum metric k);
