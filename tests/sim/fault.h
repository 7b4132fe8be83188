/* Faults: what a door or file call answers instead of the truth. With probability p while faults
 * are on, and at most so many in a run; the n-th call can be picked instead (`--fault-at`). One
 * table of rates, drawn from the seed. Thread: the simulator's one. */
#pragma once
#include <stdbool.h>

#include "cdc/base/err.h"

enum fault_door { FAULT_SOURCE, FAULT_LANE, FAULT_LOG, FAULT_SINK, FAULT_FILE, FAULT_DOORS };

struct fault_plan {
    unsigned permille[FAULT_DOORS];
    unsigned max;     /* faults in all */
    unsigned long at; /* only this call of any door, 0 = by probability */
    unsigned delay_permille;
};
void fault_plan(const struct fault_plan *plan);
void fault_stop(void); /* from now on everything works */
bool fault_due(enum fault_door door,
               const char *call); /* one is due at this call; counted and traced */
unsigned fault_count(void);
unsigned long fault_calls(void);
/* A yield point, perhaps a delay, perhaps a fault: -1 with err (RETRY or REWIND). */
int fault_door_call(enum fault_door door, const char *call, struct err *err);
