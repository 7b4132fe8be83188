/* Changelog lines: rows as JSON, one line a change, exactly as INTERFACE ("JSONL", "VALUES") gives
 * them (here in three lines):
 *
 *   {"op":"u","table":"public.orders","key":{"id":1},"before":null,"after":{"id":1},
 *    "unchanged":["body"],"tx":{"id":743,"n":0},"ts":"2026-01-02T03:04:05.678Z",
 *    "source":{"lsn":"0/16B3748","snapshot":false,"gen":1}}
 *
 * Keys always in this order. Where INTERFACE is silent:
 *   "unchanged"  the cells of the after-row that the log did not carry; without any it is left out
 *   op r         (snapshot rows) "before", "tx", "ts" are null, "lsn" is where the rows join the
 *                log, "snapshot" is "first" or "backfill"
 *   log rows     "lsn" is the position of their transaction's commit, "ts" its time, "n" the row's
 *                ordinal in it
 *   op u         "key" is the new key; "before" holds the old row's carried cells, or null if there
 *                are none (then the key is unchanged). Without an after-row it is a d: the row left
 *   op d         "before" holds the carried cells; without a key: "key" {} and the full row
 *   op t         truncate, and a generation's begin: "key" {}, "before" and "after" null; of a
 *                generation "tx" and "ts" are null
 *   STAGE_REMOVE op d; "before", "tx" and "ts" null, "snapshot" as for r
 * A schema line stands before the first row of a version in each file, and again when a version
 * returns. Rows of several batches are merged by (transaction, n).
 *
 * Thread: the writer's. Errors: as json_cell.h, those of the write function, and "key_not_carried"
 * (FATAL). After an error the output is broken in mid-line: drop the file. */
#pragma once
#include "cdc/sink.h"
#include "sinks/encode/out.h"

struct changelog_json;
/* put_logpos: the source's text form of a position. write: takes the bytes, at most OUT_BYTES a
 * call. */
struct changelog_json *changelog_json_new(int (*put_logpos)(struct buf *out, struct logpos pos),
                                          out_write_fn write, void *arg);
void changelog_json_free(struct changelog_json *e); /* NULL allowed; drops what was not flushed */
/* A new file begins: no schema was shown in it. What is left in the buffer is dropped. */
void changelog_json_begin(struct changelog_json *e);
int changelog_json_put(struct changelog_json *e, const struct stage_item *item,
                       struct err *err) TR_MUST_CHECK;
int changelog_json_flush(struct changelog_json *e, struct err *err) TR_MUST_CHECK;
uint64_t changelog_json_rows(
    const struct changelog_json *e); /* lines with an op since changelog_json_begin */
