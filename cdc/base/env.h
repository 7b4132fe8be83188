/* What a job needs of the world besides time (clock.h) and waiting (waitq.h): files, log,
 * failpoints, metrics, state folder. Owned by the job, passed down, never global: the simulator
 * runs several incarnations in one process. */
#pragma once
#include "cdc/base/failpoint.h"
#include "cdc/base/files.h"
#include "cdc/base/log.h"
#include "cdc/base/metrics.h"

struct env {
    struct files *files;
    struct log *log;
    struct failpoints *failpoints; /* NULL when none is armed */
    struct metrics *metrics;
    const char *state_dir; /* DIR/<job>: lock, cache, spill */
    uint64_t memory_bytes; /* --memory */
    uint64_t spill_bytes_max;
    uint64_t row_bytes_max;
};
