/* How the log is started: the decision alone, from what the target knows and what the server says.
 * Pure; unit-tested.
 *
 * A server that was set back is found out when its log ends below the target's position, when its
 * timeline left ours below it (a promoted standby, a restore to a point in time) or has our number
 * but another beginning, and when the slot keeps its log from further back than at the job's last
 * start: restart_lsn is on disk before it is used, so it never goes back. Not found out: a copy of
 * the data directory taken after the job's last start, started on the same timeline (no
 * recovery.signal), that has since written beyond the position. Nothing that the server tells
 * differs then, a crash may set confirmed_flush_lsn back by as much. */
#pragma once
#include "cdc/source.h"

struct pgsrc_lineage {
    char system[32];
    char slot[64];
    char database[64];
    uint32_t timeline; /* of the server; 0 = stored by a version that did not ask */
    uint64_t fork;     /* where that timeline began, 0 = the first, or not known */
    uint64_t kept;     /* the slot's restart_lsn, 0 = not known */
};
/* The JSON object that is stored with the position, and back; the last three may be missing. -1 =
 * damaged. */
void pgsrc_lineage_put(struct buf *out, const struct pgsrc_lineage *l);
int pgsrc_lineage_take(const char *json, struct pgsrc_lineage *out) TR_MUST_CHECK;

/* Where a timeline ended, as the history file of a later one says: lines of number, tab, position,
 * tab, reason; `#` begins a comment. 1 = *end is it, 0 = it is not among them, -1 = damaged.
 * timeline 0: the end of the last one, where the history's own timeline began. */
int pgsrc_history_end(const char *history, uint32_t timeline, uint64_t *end) TR_MUST_CHECK;

struct pgsrc_start_in {
    enum target_knows knows;
    uint64_t applied, resume;    /* of TARGET_POSITION */
    struct pgsrc_lineage stored; /* of TARGET_POSITION */
    struct pgsrc_lineage here;   /* what the server and the job say now */
    const char *history;         /* of here.timeline; NULL for the first */
    uint64_t log_end;            /* the server's insert position */
    bool own_slot;               /* false: ?slot= names it */
    bool publications;           /* all publications of the job exist */
    const char *publication;     /* for texts: the first missing one */
    struct {
        bool exists;
        bool logical_pgoutput; /* its plugin */
        bool two_phase;        /* it gives out transactions when they are prepared */
        char database[64];
        char wal_status[16]; /* reserved extended unreserved lost; "" = none */
        char cause[64];      /* of its invalidation (18 and newer), "" = not said */
        uint64_t confirmed;
    } slot;
};
enum pgsrc_start_action {
    PGSRC_CREATE, /* publications, then the slot; the log begins where it is created */
    PGSRC_GO_ON,  /* from *from */
};
int pgsrc_start_decide(const struct pgsrc_start_in *in, enum pgsrc_start_action *action,
                       uint64_t *from, struct err *err) TR_MUST_CHECK;
