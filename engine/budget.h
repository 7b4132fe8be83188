/* How a job divides env->memory_bytes among what may hold data. One table (budget.c); pure.
 *
 * The shares add up to 11/16: the rest is the connectors' and sinks' own buffers, the batch being
 * built by each task, and the allocator's slack. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct budget {
    size_t log_bytes;    /* channel from the log task to merge */
    size_t lane_bytes;   /* channel from all lanes to merge: a chunk a lane fits, so that a snapshot
                            seldom waits for merge */
    size_t held_bytes;   /* events that the hybrid algorithm holds before it spills */
    size_t rows_bytes;   /* rows of chunks that wait for the log to pass H */
    size_t writer_bytes; /* channel to one writer */
    size_t chunk_bytes;  /* goal for a key-range chunk */
};
void budget_plan(struct budget *out, uint64_t memory_bytes, unsigned lanes, unsigned writers);
