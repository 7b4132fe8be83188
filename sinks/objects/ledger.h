/* A ledger: the numbered commits of one job in one folder, where the rename of a staged file to the
 * next number, which never replaces, is the compare-and-set. Whoever owns the ledger decides what
 * stands in a file before its last line, the commit line: jsonl: the rows themselves, parquet: the
 * names of the files that hold them.
 *
 *   DIR/<seq, 16 digits>.jsonl   a commit; the newest one holds the position
 *   DIR/.<seq>.<16 hex digits>   staged; DIR/_schema.<seq>.<epoch>.json, DIR/_idle.<epoch>.json
 *
 * The functions are those of the sink door (cdc/sink.h) less what a sink does of its own; why the
 * protocol is exact is told at the top of ledger.c. Thread: as the door's functions of that name.
 * Errors: those of ledger_folder.h; "fenced"; "<scheme>_busy", "<scheme>_conflict" (REWIND). */
#pragma once
#include "cdc/sink.h"
#include "sinks/objects/ledger_folder.h"
#include "sinks/objects/ledger_staged.h"

/* Where a failpoint stands. Each sink gives them its own names, so that each can be armed alone. */
enum ledger_point {
    LEDGER_BEFORE_FSYNC,
    LEDGER_BEFORE_RENAME,
    LEDGER_AFTER_RENAME,
    LEDGER_AFTER_DIR_SYNC,
    LEDGER_BEFORE_CLAIM,
    LEDGER_AFTER_CLAIM,
    LEDGER_BEFORE_SCHEMA,
    LEDGER_AFTER_SCHEMA,
    LEDGER_BEFORE_IDLE,
    LEDGER_AFTER_IDLE,
};
typedef int (*ledger_point_fn)(struct failpoints *fp, enum ledger_point point, struct err *err);
/* The newest commit is about to be built upon by a claim: what it has left undone is done now. It
 * is durable, and stays the newest unless another instance commits meanwhile. */
typedef int (*ledger_settle_fn)(void *arg, const struct ledger_line *newest, struct err *err);

struct ledger_config {
    const char *scheme; /* lasting */
    ledger_point_fn point;
    ledger_settle_fn settle; /* NULL: commits leave nothing undone */
    void *arg;
    struct env *env; /* borrowed */
    const char *dir; /* absolute, without a slash at its end; copied, as is job */
    const char *job;
};
struct ledger;
struct ledger *ledger_new(const struct ledger_config *config);
void ledger_free(struct ledger *l);
const struct ledger_place *ledger_place(const struct ledger *l);
uint64_t ledger_epoch(const struct ledger *l); /* ours; 0 = not recovered */
uint64_t ledger_seq(const struct ledger *l);   /* of the newest file */

/* The absolute folder of a sink's address, without slashes at its end, owned by the caller. NULL:
 * FATAL "<scheme>_address" (EXIT_USAGE). */
char *ledger_address(const struct sink_address *addr, const char *scheme, struct err *err);
/* Makes a folder, with parents, and its name durable. One that exists is left alone. */
int ledger_make_folder(const struct ledger_place *place, struct err *err) TR_MUST_CHECK;

int ledger_peek(struct ledger *l, struct sink_state *out, struct err *err);
int ledger_examine(struct ledger *l, struct source_findings *out, struct err *err);
int ledger_recover(struct ledger *l, struct sink_state *out, struct err *err);
int ledger_apply_schema(struct ledger *l, const struct commit_request *next, struct err *err);
/* staged: what goes before the commit line of file ledger_seq + 1, written and not yet synced;
 * borrowed, the same one at every try. NULL: nothing does. rows: what the line says of it. A
 * failure of kind RETRY leaves it as it was. */
enum commit_outcome ledger_commit(struct ledger *l, const struct commit_request *req,
                                  struct ledger_staged *staged, uint64_t rows, struct err *err);
enum resolve_outcome ledger_resolve(struct ledger *l, const struct commit_request *req,
                                    struct err *err);
