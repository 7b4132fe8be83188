/* Decorators: each puts faults before and behind every function of a table (cdc/source.h,
 * cdc/sink.h, cdc/base/files.h) and hands on what its inner one says. What is below them never
 * fails by chance. Thread: the simulator's one; every call is a yield point. */
#pragma once
#include "cdc/sink.h"
#include "tests/sim/disk.h"
#include "tests/sim/sinks.h"

extern const struct source_ops faulty_source_ops;            /* over sim_source_ops */
const struct sink_ops *faulty_sink_ops(enum sink_kind kind); /* over sim_sink_ops(kind) */
/* This instance is told a damaged position from now on, or no more; and what it was told ("" =
 * nothing yet). */
void faulty_sink_damage(unsigned group, bool on);
const char *faulty_sink_damaged(unsigned group);
struct files *faulty_files(struct disk *disk, unsigned group); /* over disk_files() */
bool faulty_files_left(unsigned group); /* files that it could not remove, or does not know */
extern const struct files_ops faulty_files_ops;
/* How many functions the three tables lack: must be none. */
unsigned faulty_missing(void);
