/* Old snapshots leave the metadata in the commit itself, and what only they named is told to the
 * caller, so that a table is as quick to open after a month of commits as on its first day. They go
 * from the oldest on. What may be removed with one: its manifest list, the manifests that the next
 * one dropped, and the files that the next one took out of the table, which its own manifests say.
 * Thread: the commit task. Never names what a snapshot that stays can see. */
#pragma once
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/objects/store.h"

#define ICE_SNAPSHOTS_MAX 2000u /* kept at most, however young */
#define ICE_EXPIRED_MAX 64u     /* go in one commit: after a long stop they go over several */
/* Positions of a job that reads tables for the first time are long, and each snapshot has one:
 * fewer snapshots are kept where their positions add up to more. */
#define ICE_POSITIONS_BYTES (UINT64_C(1) << 20)

/* Snapshots older than the newest by more than history_ms go, but for those that branches and tags
 * name. garbage: URLs, each with its NUL, appended: nothing in `m` names them any more. Where
 * history is no line (a rollback, a branch) only manifest lists are given, where gc.enabled is
 * false nothing. */
int ice_expire(struct ice_metadata *m, struct store *store, int64_t history_ms, struct buf *garbage,
               struct err *err);
