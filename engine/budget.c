#include "engine/budget.h"

#include "cdc/base/check.h"

#define MIB ((uint64_t)1 << 20)

/* Sixteenths of the memory. */
enum {
    SHARE_LOG = 2,
    SHARE_LANES = 2,
    SHARE_HELD = 2,
    SHARE_ROWS = 3,
    SHARE_WRITERS = 2,
    SHARES = 16
};
_Static_assert(SHARE_LOG + SHARE_LANES + SHARE_HELD + SHARE_ROWS + SHARE_WRITERS <= 11,
               "the rest belongs to connectors and sinks");

static size_t share(uint64_t memory_bytes, unsigned sixteenths) {
    return (size_t)(memory_bytes / SHARES * sixteenths);
}

void budget_plan(struct budget *out, uint64_t memory_bytes, unsigned lanes, unsigned writers) {
    CHECK(lanes > 0 && writers > 0);
    if (memory_bytes < MIB) {
        memory_bytes = MIB;
    }
    out->log_bytes = share(memory_bytes, SHARE_LOG);
    out->lane_bytes = share(memory_bytes, SHARE_LANES);
    out->held_bytes = share(memory_bytes, SHARE_HELD);
    out->rows_bytes = share(memory_bytes, SHARE_ROWS);
    out->writer_bytes = share(memory_bytes, SHARE_WRITERS) / writers;
    uint64_t chunk = out->lane_bytes / lanes;
    out->chunk_bytes = (size_t)(chunk < MIB ? MIB : chunk > 16 * MIB ? 16 * MIB : chunk);
    if (out->rows_bytes < out->chunk_bytes) {
        out->rows_bytes = out->chunk_bytes; /* one chunk at a time */
    }
}
