/* Targets of the simulator. Each asks the oracles after every commit; faults stand before it
 * (faulty.h):
 *
 *   model  transactional: rows and position change at once, only from the stored position and by
 *          the newest epoch. A request that is late takes effect later, or never
 *   jsonl  the product's own sink on the memory disk; its folder is read back as a reader would
 *
 * Thread: the simulator's one. */
#pragma once
#include "cdc/sink.h"
#include "tests/sim/database.h"
#include "tests/sim/disk.h"

enum sink_kind { SINK_MODEL_1, SINK_MODEL_2 /* two writers */, SINK_JSONL, SINK_KINDS };
#define SIM_JSONL_DIR "/data/changes"
const struct sink_ops *sim_sink_ops(enum sink_kind kind);
void sinks_init(struct db *db, struct disk *disk, enum sink_kind kind);
void sinks_settle_late(void); /* requests under way arrive now */
/* The request is under way and unanswered from now on; jsonl, whose files have no way to be late,
 * loses it. */
void sinks_be_late(struct sink *s, const struct commit_request *req);
