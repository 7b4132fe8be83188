/* A disk in memory that knows synced from unsynced bytes and names. A crash of the machine keeps
 * what was synced and a random part of the rest; the death of a process keeps all and releases its
 * locks. Contracts: cdc/base/files.h. Thread: the simulator's one; no yield within. Faults stand
 * before it (faulty.h). */
#pragma once
#include "cdc/base/files.h"

struct disk;
struct disk *disk_new(void);
/* The files of one process; all share the disk. */
struct files *disk_files(struct disk *disk, unsigned group);
void disk_process_died(struct disk *disk, unsigned group);
void disk_power_lost(struct disk *disk); /* after all processes that use it died */
/* A sync of the file failed: what was not synced before never will be. */
void disk_sync_failed(struct file *file);
/* For oracles. NULL when absent. */
const struct buf *disk_look(struct disk *disk, const char *path);
/* The n-th name (in creation order) below a folder, or NULL. */
const char *disk_name(struct disk *disk, const char *dir, unsigned n);
