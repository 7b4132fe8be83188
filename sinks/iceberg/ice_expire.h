/* Old snapshots leave the metadata in the commit itself, and what only they named is told to the
 * caller, so that a table is as quick to open after a month of commits as on its first day. They go
 * from the oldest on. What may be removed with one: its manifest list, the manifests that the next
 * one dropped, and the files that the next one took out of the table, which its own manifests say.
 * Thread: the commit task. */
#pragma once
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/objects/store.h"

#define ICE_SNAPSHOTS_MAX 2000u /* kept at most, however young */

/* Snapshots older than the newest by more than history_ms go. garbage: URLs, each with its NUL,
 * appended: nothing in `m` names them any more. A table with branches or tags besides main keeps
 * its files, and nothing is given. */
int ice_expire(struct ice_metadata *m, struct store *store, int64_t history_ms, struct buf *garbage,
               struct err *err);
