/* Targets of the simulator. Each asks the oracles after every commit; faults stand before it
 * (faulty.h):
 *
 *   model1, model2  transactional: rows and position change at once, only from the stored position
 *           and by the newest epoch; with one writer or two
 *   token   compares nothing and hands back the last token: the newest epoch's commits must go on
 *           from it (oracle `token`)
 *   dedupe  cannot be asked, but knows a commit that comes again and refuses one that differs from
 *           what came under its number (oracle `dedupe`)
 *   version rows come one by one, in any order, perhaps not all; each with a version, of which a
 *           key's newest counts once the position stands (oracle `version`)
 *   jsonl   the product's own sink on the memory disk; its folder is read back as a reader would
 *   parquet likewise; every row is read from the files that a commit names
 *   iceberg the product's own sink on the memory disk, its catalog on SQLite on that disk
 *           (sqldisk.h); the tables are read back after every commit (oracles `lake`, `garbage`,
 *           lake.h), and somebody else commits to them, too
 *
 * A request to a model that is late takes effect later, or never.
 *
 * Thread: the simulator's one. */
#pragma once
#include "cdc/sink.h"
#include "tests/sim/database.h"
#include "tests/sim/disk.h"

enum sink_kind {
    SINK_MODEL_1,
    SINK_MODEL_2,
    SINK_JSONL,
    SINK_TOKEN,
    SINK_DEDUPE,
    SINK_VERSION,
    SINK_ICEBERG,
    SINK_PARQUET,
    SINK_KINDS
};
#define SIM_JSONL_DIR "/data/changes"
#define SIM_LAKE_DIR "/data/lake"
const struct sink_ops *sim_sink_ops(enum sink_kind kind);
/* options: of iceberg (LAKE_...), else 0. */
enum { LAKE_V3 = 1, LAKE_PARTITIONED = 2, LAKE_OPTIONS = 4, LAKE_RETYPES = 4, LAKE_SORTED = 8 };
void sinks_init(struct db *db, struct disk *disk, enum sink_kind kind, unsigned options);
void sinks_settle_late(void); /* requests under way arrive now */
/* The request is under way and unanswered from now on; jsonl, parquet and iceberg, whose files have
 * no way to be late, lose it. */
void sinks_be_late(struct sink *s, const struct commit_request *req);
/* It breaks off: a part of the rows has arrived where they come one by one, and it fails. */
void sinks_be_cut(struct sink *s, const struct commit_request *req);
