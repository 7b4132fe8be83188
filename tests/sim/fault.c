/* Which call fails. See fault.h. */
#include "tests/sim/fault.h"

#include "cdc/base/check.h"
#include "cdc/base/clock.h"
#include "tests/sim/sched.h"

static struct fault_plan plan;
static unsigned count;
static unsigned long calls;
static bool on;
static int64_t mute_until_us;
static struct {
    unsigned group, renames; /* 0 = nobody */
    bool suspended;
} zombie;

void fault_plan(const struct fault_plan *p) {
    plan = *p;
    on = true;
}
void fault_stop(void) { on = false; }
unsigned fault_count(void) { return count; }

static bool is_due(enum fault_door door) {
    calls++;
    bool due = plan.at ? calls == plan.at
                       : sim_chance(STREAM_FAULT, plan.permille[door]) && count < plan.max;
    return on && due;
}

static bool is_slow(void) { return on && sim_chance(STREAM_FAULT, plan.delay_permille); }

static void pause_some(void) { sched_pause_us(1000 + sim_below(STREAM_FAULT, 3000000)); }

static enum fault_kind one_of(unsigned kinds) {
    enum fault_kind found[9];
    unsigned n = 0;
    for (unsigned bit = 1; bit <= FAULT_ROT; bit *= 2) {
        if (kinds & bit) {
            found[n++] = (enum fault_kind)bit;
        }
    }
    return n ? found[sim_below(STREAM_FAULT, n)] : (enum fault_kind)0;
}

static int fail(const struct fault *f, struct err *err) {
    count++;
    sim_note("fault %s %s: %u", f->after ? "after" : "before", f->call, (unsigned)f->kind);
    switch (f->kind) {
    case FAULT_RETRY:
        return err_set(err, ERR_RETRY, "server_busy", "%s: injected", f->call);
    case FAULT_REWIND:
        return err_set(err, ERR_REWIND, "connection_lost", "%s: injected", f->call);
    case FAULT_UNKNOWN:
    case FAULT_LATE:
    case FAULT_CONFLICT:
        return err_set(err, ERR_RETRY, "answer_lost", "%s: injected", f->call);
    case FAULT_FULL:
        return err_set(err, ERR_RETRY, "disk_full", "%s: injected", f->call);
    case FAULT_STUCK:
        return err_set(err, ERR_REWIND, "disk_full", "%s: injected", f->call);
    case FAULT_ROT:
        return 0;
    case FAULT_IO:
        break;
    }
    return err_set(err, ERR_FATAL, "io_error", "%s: injected", f->call);
}

int fault_enter(struct fault *f, enum fault_door door, const char *call, unsigned before,
                unsigned after, struct err *err) {
    *f = (struct fault){ .call = call };
    sched_yield(call);
    if (is_slow()) {
        f->slow_after = sim_below(STREAM_FAULT, 2);
        if (!f->slow_after) {
            pause_some();
        }
    }
    if (!is_due(door)) {
        return 0;
    }
    f->after = after && (!before || sim_below(STREAM_FAULT, 2));
    f->kind = one_of(f->after ? after : before);
    return f->kind && !f->after ? fail(f, err) : 0;
}

int fault_leave(struct fault *f, int rc, struct err *err) {
    if (f->slow_after) {
        pause_some();
    }
    return rc == 0 && f->kind && f->after ? fail(f, err) : rc;
}

bool fault_lost(enum fault_door door, const char *call, bool may_be_lost) {
    fault_slow(call);
    if (!may_be_lost || !is_due(door)) {
        return false;
    }
    count++;
    sim_note("fault lost %s", call);
    return true;
}

void fault_slow(const char *call) {
    sched_yield(call);
    if (is_slow()) {
        pause_some();
    }
}

bool fault_mute(struct err *err) {
    if (!on || !plan.mutes || sim_below(STREAM_FAULT, 4)) {
        return false;
    }
    plan.mutes--;
    count++;
    mute_until_us = clock_mono_us() + (30 + sim_below(STREAM_FAULT, 150)) * US_PER_S;
    sim_note("the target is mute");
    err_set(err, ERR_RETRY, "answer_lost", "commit: injected");
    return true;
}

bool fault_is_mute(void) { return on && clock_mono_us() < mute_until_us; }

void fault_suspend_at_rename(unsigned group, unsigned n) {
    zombie.group = group;
    zombie.renames = n;
    zombie.suspended = false;
}

void fault_moment(enum fault_moment moment) {
    unsigned group = sched_group();
    if (moment == MOMENT_RENAME && on && group == zombie.group && zombie.renames &&
        --zombie.renames == 0) {
        sched_suspend_at(group, 1); /* that is, at its next yield */
        zombie.suspended = true;
    } else if (moment == MOMENT_UNLINK && zombie.suspended && group != zombie.group &&
               sched_suspended(zombie.group)) {
        zombie.suspended = false;
        sched_resume(zombie.group);
        pause_some(); /* it has time to do its worst */
    }
}
