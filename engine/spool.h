/* The spool: rows and events that the hybrid algorithm holds and that do not fit into memory, on
 * disk. It implements cdc/spool.h over env->files. Disposable: emptied at every start,
 * never synced, never the truth.
 *
 * DIR/spill/<number, 16 hex digits>.spool, each about SPOOL_FILE_BYTES, append-only. A record:
 *   u32 length of the payload | u64 hash_bytes of the payload | payload (batch_encode)
 * little-endian. Its id is file number << 32 | offset: nothing is kept in memory for a record. A
 * file goes when all its records were dropped. A full disk acts as a spool that is full: the record
 * stays in memory, and full() says true until space was freed.
 * Thread: the merge task. Locks: none. */
#pragma once
#include "cdc/base/env.h"
#include "cdc/hybrid.h"

#define SPOOL_FILE_BYTES (UINT32_C(64) << 20)

struct spool;
/* Empties the folder. */
struct spool *spool_open(struct env *env, struct err *err);
void spool_close(struct spool *spool); /* removes what is left; NULL allowed */
extern const struct spool_ops spool_disk_ops;
uint64_t spool_bytes(const struct spool *spool); /* on disk now */
