/* How the log is started: the decision alone, from what the target knows and what the server says.
 * Pure; unit-tested. */
#pragma once
#include "cdc/source.h"

struct pgsrc_lineage {
    char system[32];
    char slot[64];
    char database[64];
};
/* The JSON object that is stored with the position, and back. -1 = damaged. */
void pgsrc_lineage_put(struct buf *out, const struct pgsrc_lineage *l);
int pgsrc_lineage_take(const char *json, struct pgsrc_lineage *out) TR_MUST_CHECK;

struct pgsrc_start_in {
    enum target_knows knows;
    uint64_t applied, resume;    /* of TARGET_POSITION */
    struct pgsrc_lineage stored; /* of TARGET_POSITION */
    struct pgsrc_lineage here;   /* what the server and the job say now */
    uint64_t log_end;            /* the server's insert position */
    bool own_slot;               /* false: ?slot= names it */
    bool publications;           /* all publications of the job exist */
    const char *publication;     /* for texts: the first missing one */
    struct {
        bool exists;
        bool logical_pgoutput; /* its plugin */
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
