/* What must hold after every commit, whatever crashed, failed or was late. Oracles, by the names
 * that a failing seed prints:
 *
 *   state       what is joined equals the source at the committed position
 *   bank        a sum over two tables holds in every consistent commit
 *   order       stream rows of a table come in the log's order, once
 *   doubled     no key is inserted, updated or deleted twice
 *   history     between two consistent commits: all changes of a table and nothing else
 *   whole       a commit ends at a transaction's end
 *   ack         the source is not acknowledged beyond the target's resume
 *   seq         commits are numbered without gaps
 *   epoch       one writer an epoch, and epochs only rise
 *   generation  rows lie in the generation that was begun
 *   position    the stored position reads back and never goes back
 *   retry       a commit that is tried again says the same (sinks.c)
 *   token, dedupe, version   what those targets demand (sinks_kinds.c)
 *   damage      nobody commits who was told a damaged position
 *   rewrite     with on_rewrite=stop no rewritten table goes on
 *   channels    bytes in channels stay within the budget
 *   durable     what was committed survives any crash
 *   visible     rows that no commit names have no visible name (sinks_parquet.c)
 *   lake, garbage, foreign   of the lake read back (lake.h)
 *
 * Thread: the simulator's one; no yield within. */
#pragma once
#include "cdc/base/metrics.h"
#include "tests/sim/event.h"

struct oracle_commit {
    const char *position;
    const char *const *inconsistent;
    uint32_t inconsistent_count;
    struct schema *const *schemas;
    uint32_t schema_count;
    uint64_t epoch, seq;
    unsigned group; /* who committed */
    bool found;     /* it stood when an instance came: made by an earlier one */
    const struct events *events;
};
void oracle_init(struct db *db);
/* budget: bytes that channels of one job may hold. */
void oracle_watch_channels(unsigned group, const struct metrics *metrics, size_t budget);
void oracle_committed(const struct oracle_commit *c);
/* A claim stands; seq: of the last commit, or of the claim where claims are numbered too. */
void oracle_claimed(uint64_t epoch, uint64_t seq, unsigned group);
/* What an instance was told at its start: nothing that was committed is missing. */
void oracle_recovered(const char *position);
/* A key's row as of the last commit; false: there is none. */
bool oracle_row(const char *label, unsigned key, struct event_row *out);
/* A keyless table's rows as of the last commit. */
unsigned oracle_bag(const char *label, const struct event_row **rows);
unsigned oracle_claimer(uint64_t epoch);
uint64_t oracle_seq(void);
uint64_t oracle_epoch(void);
void oracle_acknowledged(uint64_t offset);
/* Empty when the target stands at the end of the source's history; else what is missing. */
const char *oracle_behind(void);
uint64_t oracle_applied(void);
/* What this instance was told of the target is damaged: it must not commit. */
void oracle_mistrust(unsigned group);
void oracle_asked(unsigned group, uint64_t seq); /* of a commit, whatever its answer */
/* snapshot=never: only what the log carries arrives. on_rewrite=stop, of one instance: no rows are
 * read anew. */
void oracle_snapshot_never(void);
void oracle_rewrite_stops(unsigned group);
/* Does the source have rows that were rewritten, and the target does not know? */
bool oracle_rewritten(void);
/* The target is told what old rows have in a column that is added, and shows it in them. */
void oracle_takes_defaults(bool takes);
