/* The table of metrics: the docs, `status` and the metrics endpoint take names, units and texts
 * from here. Thread: any. */
#include "cdc/base/metrics.h"

#include "cdc/base/check.h"

static const struct {
    const char *name;
    const char *unit;
    const char *doc;
} table[METRIC_COUNT] = {
    [METRIC_LOG_ROWS] = { "log_rows", "rows", "changed rows read from the source's log" },
    [METRIC_LOG_BYTES] = { "log_bytes", "bytes", "bytes received from the source's log" },
    [METRIC_LOG_TRANSACTIONS] = { "log_transactions", "",
                                  "transactions read from the source's log" },
    [METRIC_SNAPSHOT_ROWS] = { "snapshot_rows", "rows", "rows read from tables by the lanes" },
    [METRIC_SNAPSHOT_BYTES] = { "snapshot_bytes", "bytes",
                                "bytes received from tables by the lanes" },
    [METRIC_CHUNKS_JOINED] = { "chunks_joined", "", "chunks that joined the stream" },
    [METRIC_CHUNKS_GIVEN_UP] = { "chunks_given_up", "", "chunks given up to be read again later" },
    [METRIC_CHUNKS_REOPENED] = { "chunks_reopened", "",
                                 "chunks closed and opened anew under another snapshot" },
    [METRIC_HOLES] = { "holes", "",
                       "joined rows that wait to be read again for a cell that nobody carried" },
    [METRIC_LOOSE] = { "loose", "", "delivered transactions that no snapshot was seen to see yet" },
    [METRIC_HELD_BYTES] = { "held_bytes", "bytes",
                            "rows and events of open chunks held in memory" },
    [METRIC_SPILL_BYTES] = { "spill_bytes", "bytes", "rows and events held on disk" },
    [METRIC_COMMITS] = { "commits", "", "commits that stand in the target" },
    [METRIC_COMMIT_UNKNOWN] = { "commit_unknown", "",
                                "commits whose outcome the target had to be asked for" },
    [METRIC_COMMIT_LAST_US] = { "commit_last_us", "us", "duration of the last commit" },
    [METRIC_SINK_ROWS] = { "sink_rows", "rows", "rows written to the target" },
    [METRIC_SINK_BYTES] = { "sink_bytes", "bytes", "bytes written to the target" },
    [METRIC_REWINDS] = { "rewinds", "", "times the job went back to its last commit" },
    [METRIC_CHANNEL_BYTES] = { "channel_bytes", "bytes", "bytes in flight between tasks" },
};

const char *metric_name(enum metric k) {
    CHECK((unsigned)k < METRIC_COUNT && table[k].name);
    return table[k].name;
}

const char *metric_unit(enum metric k) {
    CHECK((unsigned)k < METRIC_COUNT && table[k].unit);
    return table[k].unit;
}

const char *metric_doc(enum metric k) {
    CHECK((unsigned)k < METRIC_COUNT && table[k].doc);
    return table[k].doc;
}
