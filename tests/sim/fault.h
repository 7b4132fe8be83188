/* Faults: which call of a door or of files fails, how, and whether before or after its effect.
 * With probability p while faults are on, and at most so many in a run; or only the n-th call
 * (`--set fault_at=N`). One table of rates, drawn from the seed. The decorators (faulty.h) ask at
 * every call; nobody else does. Thread: the simulator's one. */
#pragma once
#include <stdbool.h>

#include "cdc/base/err.h"

enum fault_door {
    FAULT_SOURCE,
    FAULT_LANE,
    FAULT_LOG,
    FAULT_SINK,
    FAULT_COMMIT, /* of the sink: apply_schema, commit, resolve */
    FAULT_FILE,
    FAULT_DOORS
};

/* How a call may fail; a set of them says what its contract allows. */
enum fault_kind {
    FAULT_RETRY = 1,      /* server_busy */
    FAULT_REWIND = 2,     /* connection_lost */
    FAULT_UNKNOWN = 4,    /* of a commit: no answer; answer_lost, to be retried */
    FAULT_FULL = 8,       /* disk_full, to be retried */
    FAULT_STUCK = 16,     /* disk_full, to be rewound: what was written is not taken back */
    FAULT_IO = 32,        /* io_error */
    FAULT_LATE = 64,      /* of a commit: answered UNKNOWN, and under way for longer */
    FAULT_CONFLICT = 128, /* of a commit: the target says that it stands elsewhere */
    FAULT_ROT = 256,      /* of a read: it works, and a byte is not the one that was written */
};
#define FAULT_SESSION ((unsigned)FAULT_RETRY | FAULT_REWIND)

/* One call as its decorator sees it. */
struct fault {
    const char *call;
    enum fault_kind kind; /* drawn; 0 = it works */
    bool after;           /* it fails when it is done */
    bool slow_after;
};

struct fault_plan {
    unsigned permille[FAULT_DOORS];
    unsigned max;     /* faults in all */
    unsigned long at; /* only this call of any door, 0 = by probability */
    unsigned delay_permille;
    unsigned mutes;
};
void fault_plan(const struct fault_plan *plan);
void fault_stop(void); /* from now on everything works */
unsigned fault_count(void);

/* A yield point, perhaps a delay, perhaps a fault: -1 with err where the call fails before its
 * effect. before, after: the kinds that it may fail with then; 0 = it cannot. */
int fault_enter(struct fault *f, enum fault_door door, const char *call, unsigned before,
                unsigned after, struct err *err);
/* After the call, which gave rc: perhaps a delay; -1 with err where a call that worked (rc 0) fails
 * all the same. The decorator frees what the caller will never see. */
int fault_leave(struct fault *f, int rc, struct err *err);
/* Of a call that cannot say that it failed: a yield point, perhaps a delay. True: it is lost. */
bool fault_lost(enum fault_door door, const char *call, bool may_be_lost);
/* A yield point within a call, perhaps a long one. */
void fault_slow(const char *call);
/* A commit's answer is lost, and for a minute or three the target cannot say whether it has it. */
bool fault_mute(struct err *err);
bool fault_is_mute(void);

/* A zombie at the worst moment: the group is suspended before its n-th rename that must not
 * replace (of a catalog: transaction that writes), and goes on before another one, which has
 * claimed the target since, removes files (its journal). */
void fault_suspend_at_rename(unsigned group, unsigned n);
enum fault_moment { MOMENT_RENAME, MOMENT_UNLINK };
void fault_moment(enum fault_moment moment);
