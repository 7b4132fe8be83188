/* Which call fails. See fault.h. */
#include "tests/sim/fault.h"

#include "cdc/base/clock.h"
#include "tests/sim/sched.h"

static struct fault_plan plan;
static unsigned count;
static unsigned long calls;
static bool on;

void fault_plan(const struct fault_plan *p) {
    plan = *p;
    on = true;
}
void fault_stop(void) { on = false; }
unsigned fault_count(void) { return count; }
unsigned long fault_calls(void) { return calls; }

bool fault_due(enum fault_door door, const char *call) {
    calls++;
    bool due = plan.at ? calls == plan.at
                       : sim_chance(STREAM_FAULT, plan.permille[door]) && count < plan.max;
    if (!on || !due) {
        return false;
    }
    count++;
    sim_note("fault %s", call);
    return true;
}

int fault_door_call(enum fault_door door, const char *call, struct err *err) {
    sched_yield(call);
    if (on && sim_chance(STREAM_FAULT, plan.delay_permille)) {
        sched_pause_us(1000 + sim_below(STREAM_FAULT, 3000000));
    }
    if (!fault_due(door, call)) {
        return 0;
    }
    bool retry = sim_below(STREAM_FAULT, 2) == 0;
    return err_set(err, retry ? ERR_RETRY : ERR_REWIND, retry ? "server_busy" : "connection_lost",
                   "%s: injected", call);
}
