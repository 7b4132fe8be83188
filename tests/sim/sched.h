/* The simulator's scheduler: fibers on one thread, virtual time, seeded choices. Implements the
 * contracts of cdc/base/waitq.h, task.h and clock.h, so that the product's own engine runs on it
 * unchanged.
 *
 * A group is one incarnation (a process in the product); group 0 is the world: the workload and the
 * operator. A killed group's fibers never run again, a suspended one's do not until it is resumed.
 * Yield points: locks and waits of waitq, spawn, file calls, every door call. At each the seed
 * picks who goes on. A waitq's lock that is held at a yield is an assertion. Thread: one. All of it
 * lives in a child process of its own, so nothing is freed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/check.h"

#define SIM_GROUPS 128u

/* Separate streams of random numbers: taking transactions or faults out of a script leaves the
 * other choices as they were. */
enum sim_stream {
    STREAM_SCHED,
    STREAM_SCRIPT,
    STREAM_WORK,
    STREAM_FAULT,
    STREAM_DISK,
    STREAM_PRODUCT,
    STREAM_DOOR,
    STREAM_COUNT
};
uint64_t sim_random(enum sim_stream stream);
static inline unsigned sim_below(enum sim_stream stream, unsigned n) {
    return (unsigned)((sim_random(stream) >> 16) % n);
}
static inline bool sim_chance(enum sim_stream stream, unsigned permille) {
    return permille && sim_below(stream, 1000) < permille;
}

enum sim_policy { POLICY_UNIFORM, POLICY_FIFO, POLICY_PRIORITY, POLICY_STARVE, POLICY_COUNT };

/* What a run says of itself; lies in memory shared with the parent. */
struct sim_verdict {
    bool done;
    char oracle[40]; /* "" = nothing failed */
    char text[600];
    uint64_t hash, steps;
    int64_t virtual_us;
    uint64_t commits, crashes, rewinds, faults;
};

void sched_init(uint64_t seed, bool trace, struct sim_verdict *verdict);
void sched_policy(enum sim_policy policy);
/* Runs fibers until `run` (a fiber of group 0) has returned. */
void sched_run(void (*run)(void *arg), void *arg);
void sched_start(unsigned group, const char *name, void (*run)(void *arg), void *arg);
unsigned sched_group(void); /* of the fiber that runs */
void sched_yield(const char *what);
void sched_pause_us(int64_t us);
void sched_wake_world(void); /* ends pauses of the world's main fiber that say so */
void sched_kill(unsigned group);
void sched_kill_at(unsigned group, uint64_t steps); /* after so many of its steps; 0 = never */
void sched_suspend_at(unsigned group, uint64_t steps);
void sched_resume(unsigned group);
bool sched_alive(unsigned group); /* started and not killed */
bool sched_suspended(unsigned group);
uint64_t sched_steps(unsigned group);
void sched_on_death(void (*hook)(unsigned group));
uint64_t sched_total_steps(void);

/* Goes into the trace hash and, with --trace, to standard error. */
void sim_note(const char *fmt, ...) TR_PRINTF(1, 2);
bool sim_tracing(void);
/* An oracle found something: ends the process. */
TR_NORETURN void sim_fail(const char *oracle, const char *fmt, ...) TR_PRINTF(2, 3);
struct sim_verdict *sim_verdict(void);
/* Ends a seed's process: what it counted of branches is kept where it was built for that. */
TR_NORETURN void sim_exit(int code);
