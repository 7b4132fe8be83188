/* Inside of the simulator's targets. Included by sinks.c and sinks_jsonl.c only. */
#pragma once
#include "tests/sim/sinks.h"

extern const struct sink_ops sim_jsonl_ops;
void jsonl_target_init(struct db *db, struct disk *disk);
