/* SQLite on the memory disk: a VFS, so that the lake's catalog is the product's own, and what a
 * power loss, a killed process, a full disk or an input/output error does to it is SQLite's own
 * answer. Each call of it is a yield point and may fail (door FAULT_FILE). Locks are those of
 * SQLite's own VFS, between connections; a process that dies gives its own back.
 *
 * Thread: the simulator's one. */
#pragma once
#include "tests/sim/disk.h"

/* SQLite's default VFS from now on; once a process. */
void sqldisk_init(struct disk *disk);
void sqldisk_process_died(unsigned group);
/* While on, nothing fails and nobody else runs: for oracles, and for those who come from outside.
 */
void sqldisk_quiet(bool on);
