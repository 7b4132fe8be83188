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
/* Writes anywhere in a file, as databases do: such a one keeps, after a power loss, any of the
 * sectors written since its last sync. Open for writing: any handle of disk_files(). */
void disk_write_at(struct file *file, uint64_t off, const void *p, size_t n);
void disk_truncate(struct file *file, uint64_t size); /* never longer */
/* Somebody deletes a folder with all that is below it, durably. How many files there were. */
unsigned disk_forget(struct disk *disk, const char *dir);
/* Called before a name goes; NULL = no more. */
void disk_on_unlink(struct disk *disk, void (*hook)(const char *path));
/* For oracles: bytes, name and the folders above it would survive a power loss now. */
bool disk_is_durable(struct disk *disk, const char *path);
/* For oracles. NULL when absent. */
const struct buf *disk_look(struct disk *disk, const char *path);
/* The n-th name (in creation order) below a folder, or NULL. */
const char *disk_name(struct disk *disk, const char *dir, unsigned n);
