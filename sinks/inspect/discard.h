/* discard: : counts rows and bytes and drops them; what it counts is what was committed. Owns no
 * position: at-least-once.
 *
 * discard:?hash=on also prints a digest for each table, which does not depend on the order of rows
 * and which SQL computes too: the sum modulo 2^64 over the table's rows of the first 8 bytes of
 * md5(row text) as a big-endian number; a row text is the cells' texts (sinks/encode/server_text.h,
 * with the settings there), null as \N, joined by '|' in column order. For a table t (a, b):
 *
 *   with r as (select concat_ws('|', coalesce(a::text, '\N'), coalesce(b::text, '\N')) as x from
 * t), s as (select sum(('x' || substr(md5(x), 1, 16))::bit(64)::bigint::numeric) as n from r)
 *   select mod(mod(n, 18446744073709551616) + 18446744073709551616, 18446744073709551616) from s;
 *
 * Inserted rows are added, old rows of updates and deletes subtracted: that needs REPLICA IDENTITY
 * FULL. Where a change does not carry all cells (or a hole is taken out) the table's digest is not
 * known, and the summary says so. All rows of a table must come through one writer.
 * Thread: writers count into parts, the commit task adds these up: nothing is shared. */
#pragma once
#include "cdc/sink.h"

extern const struct sink_ops discard_ops;
