/* Targets of the simulator. Each yields, may fail, and asks the oracles after every commit:
 *
 *   model  transactional: rows and position change at once, only from the stored position and by
 *          the newest epoch. An answer may be lost (UNKNOWN, applied or not) or late: the request
 *          is still under way and takes effect later, or never
 *   jsonl  the product's own sink on the memory disk; its folder is read back as a reader would
 *
 * Thread: the simulator's one; every call is a yield point. */
#pragma once
#include "cdc/sink.h"
#include "tests/sim/database.h"
#include "tests/sim/disk.h"

enum sink_kind { SINK_MODEL_1, SINK_MODEL_2 /* two writers */, SINK_JSONL, SINK_KINDS };
#define SIM_JSONL_DIR "/data/changes"
const struct sink_ops *sim_sink_ops(enum sink_kind kind);
void sinks_init(struct db *db, struct disk *disk, enum sink_kind kind);
void sinks_settle_late(void); /* requests under way arrive now */
