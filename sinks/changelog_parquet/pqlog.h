/* parquet:///abs/dir : append-only changelog files, each commit atomic with its position. For
 * people and engines that want every change as a row, without a table format. The door's contract
 * is cdc/sink.h.
 *
 *   DIR/_commits/<seq, 16 digits>.jsonl   one file a commit, a ledger's (sinks/objects/ledger.h):
 *       {"file":{"path":"public.orders/0000000000000007-0001.parquet",
 *                "staged":".3.0123456789abcdef","table":"public.orders","version":2,
 *                "rows":120,"bytes":4711,"crc32":"89abcdef"}}        one line a file, in order
 *       {"commit":{...}}                                      last, exactly as INTERFACE has
 * JSONL's DIR/_commits/_schema.*, _idle.*       as JSONL's; all tables, and positions without rows
 *   DIR/<space>.<table>/<seq>-<n>.parquet rows of one table and one schema, n from 1 a commit
 *   DIR/<space>.<table>/.<epoch>.<hex>    staged: nobody's yet
 *
 * What is committed is what the files in _commits name; they are published one by one, each by a
 * rename that never replaces, which is the one atomic act. The rows lie there, whole and synced,
 * before it, and get their visible names right after it and before the next commit begins; a crash
 * in between is completed by the next instance before it claims. So:
 *
 *   - a reader of DIR/<space>.<table>/[0-9]*.parquet never sees a row that is not committed, nor
 * one twice; at rest, and after any crash once the job runs again, it sees all that are;
 *   - for the moment between the two acts (milliseconds; after a crash, until the next start) it
 * may see a part of the newest commit. A reader that wants whole transactions over several tables
 *     takes the names from _commits, newest number last: each is at `path`, or still at `staged`.
 *
 * Columns: the table's own, all of them optional, as lake types (lake_type.h), then those of the
 * change, whose names begin with the option `prefix`:
 *   _op          r a row of a snapshot, c insert, u update, d delete, t all rows before it are void
 *                (TRUNCATE, and the begin of a table's generation above the first)
 *   _order       long; ascends strictly in log order through all tables of the folder, with gaps
 *   _tx, _n      transaction and ordinal in it; null where no transaction is behind the row
 *   _ts          its commit's time; null likewise
 *   _position    of the transaction's commit; of r: where the row joined the log
 *   _generation  of the table's reading, from 1
 *   _unchanged   list of columns that an update left unchanged and the log did not carry; they are
 *                null here. Null where there are none
 * One row a change, with the row as it is afterwards. d: as it was, as far as the log carried it:
 * the key, or all of it where the table has no key or REPLICA IDENTITY FULL; the rest null. An
 * update that changes the key, or of a table without one, is two rows with one _tx and _n: d, then
 * c; what that c names in _unchanged is as in the row that the d took away. So the table is: the
 * newest row by _order of each key above its last t, less d.
 *
 * A new definition of a table begins a new file; files of before stay as they are. Names of spaces
 * and tables that a path cannot hold are written %XX, long ones end in ~ and a hash. Old data files
 * and commit files may be moved away, those of the newest commit, _schema and _idle not. */
#pragma once
#include "cdc/sink.h"

extern const struct sink_ops pqlog_ops;
