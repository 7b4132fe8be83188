/* Fibers, virtual time and the seed's choices. See sched.h. */
#include "tests/sim/sched.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/task.h"
#include "cdc/base/waitq.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVES(save, bottom, size) __sanitizer_start_switch_fiber((save), (bottom), (size))
#define FIBER_ENTERS(save) __sanitizer_finish_switch_fiber((save), NULL, NULL)
#else
#define FIBER_LEAVES(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_ENTERS(save) ((void)(save))
#endif

#define STACK_BYTES (256u << 10)
#define GUARD_BYTES 4096u
#define FIBERS_MAX 1024u
#define STEPS_MAX 6000000u
#define WALL_ORIGIN_US INT64_C(1767225600000000)

enum fiber_state { FIBER_READY, FIBER_WAITS, FIBER_DONE };

struct task {
    ucontext_t context;
    char *stack;
    void *fake_stack; /* of the address sanitizer */
    void (*run)(void *arg);
    void *arg;
    char name[16];
    unsigned number, group, priority;
    enum fiber_state state;
    struct waitq *queue;
    struct task *joins;
    int64_t deadline_us;
    uint64_t ready_since;
    unsigned held;
    bool woken;
};

struct waitq {
    struct task *owner;
};

static struct {
    struct task *fibers[FIBERS_MAX];
    unsigned count, next_number;
    struct task *current, *main;
    ucontext_t loop;
    void *loop_fake_stack;
    const void *loop_bottom;
    size_t loop_size;
    int64_t now_us;
    uint64_t streams[STREAM_COUNT];
    enum sim_policy policy;
    unsigned starved, changes_left;
    struct {
        bool started, dead, suspended;
        uint64_t steps, kill_at, suspend_at;
    } groups[SIM_GROUPS];
    void (*on_death)(unsigned group);
    uint64_t hash, steps;
    bool trace;
    struct sim_verdict *verdict;
    char *stacks[FIBERS_MAX];
    unsigned stack_count;
} sched;

uint64_t sim_random(enum sim_stream stream) {
    uint64_t z = (sched.streams[stream] += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void mix(uint64_t v) {
    sched.hash = (sched.hash ^ v) * UINT64_C(0x100000001b3) ^ (sched.hash >> 29);
}

static void mix_text(const char *s) {
    for (; *s; s++) {
        mix((unsigned char)*s);
    }
}

void sched_init(uint64_t seed, bool trace, struct sim_verdict *verdict) {
    sched.trace = trace;
    sched.verdict = verdict;
    sched.now_us = US_PER_S;
    sched.hash = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < STREAM_COUNT; i++) {
        sched.streams[i] =
            seed * UINT64_C(0xd1342543de82ef95) + i * UINT64_C(0xaf251af3b0f025b5) + 1;
    }
}

bool sim_tracing(void) { return sched.trace; }
struct sim_verdict *sim_verdict(void) {
    return sched.verdict;
}
uint64_t sched_total_steps(void) { return sched.steps; }
void sched_on_death(void (*hook)(unsigned group)) { sched.on_death = hook; }

void sched_policy(enum sim_policy policy) {
    sched.policy = policy;
    sched.starved = sim_below(STREAM_SCHED, 12);
    sched.changes_left = 6;
}

static void close_verdict(void) {
    sched.verdict->hash = sched.hash;
    sched.verdict->steps = sched.steps;
    sched.verdict->virtual_us = sched.now_us;
    sched.verdict->done = true;
}

static const char *current_name(void) { return sched.current ? sched.current->name : "-"; }

void sim_note(const char *fmt, ...) {
    char line[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    mix_text(line);
    if (sched.trace) {
        fprintf(stderr, "%11.6f %2u.%-8s %s\n", (double)sched.now_us / 1e6,
                sched.current ? sched.current->group : 0, current_name(), line);
    }
}

/* The coverage build's; absent otherwise. */
extern void __gcov_dump(void) __attribute__((weak));

void sim_exit(int code) {
    if (__gcov_dump) {
        __gcov_dump();
    }
    fflush(NULL);
    _exit(code);
}

void sim_fail(const char *oracle, const char *fmt, ...) {
    struct sim_verdict *v = sched.verdict;
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->text, sizeof v->text, fmt, args);
    va_end(args);
    snprintf(v->oracle, sizeof v->oracle, "%s", oracle);
    close_verdict();
    if (sched.trace) {
        fprintf(stderr, "%11.6f FAILED %s: %s\n", (double)sched.now_us / 1e6, oracle, v->text);
    }
    sim_exit(1);
}

/* ---- fibers ---- */

static void leave(struct task *t) {
    FIBER_LEAVES(t->state == FIBER_DONE ? NULL : &t->fake_stack, sched.loop_bottom,
                 sched.loop_size);
    swapcontext(&t->context, &sched.loop);
    FIBER_ENTERS(t->fake_stack);
}

static void enter(struct task *t) {
    sched.current = t;
    FIBER_LEAVES(&sched.loop_fake_stack, t->stack, STACK_BYTES);
    swapcontext(&sched.loop, &t->context);
    FIBER_ENTERS(sched.loop_fake_stack);
    sched.current = NULL;
}

static void fiber_main(void) {
    struct task *t = sched.current;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &sched.loop_bottom, &sched.loop_size);
#endif
    t->run(t->arg);
    CHECK(t->held == 0);
    t->state = FIBER_DONE;
    for (unsigned i = 0; i < sched.count; i++) {
        if (sched.fibers[i]->joins == t) {
            sched.fibers[i]->joins = NULL;
            sched.fibers[i]->state = FIBER_READY;
        }
    }
    leave(t);
    abort();
}

static char *stack_new(void) {
    if (sched.stack_count) {
        return sched.stacks[--sched.stack_count];
    }
    char *base = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    int failed = mprotect(base, GUARD_BYTES, PROT_NONE);
    CHECK(!failed);
    return base + GUARD_BYTES;
}

static struct task *fiber_new(unsigned group, const char *name, void (*run)(void *arg), void *arg) {
    CHECK(sched.count < FIBERS_MAX && group < SIM_GROUPS);
    struct task *t = xcalloc(1, sizeof *t);
    t->run = run;
    t->arg = arg;
    t->group = group;
    t->number = sched.next_number++;
    t->priority = sim_below(STREAM_SCHED, 1000);
    t->ready_since = sched.steps;
    t->stack = stack_new();
    snprintf(t->name, sizeof t->name, "%s", name);
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&t->context, fiber_main, 0);
    sched.groups[group].started = true;
    sched.fibers[sched.count++] = t;
    return t;
}

void sched_start(unsigned group, const char *name, void (*run)(void *arg), void *arg) {
    fiber_new(group, name, run, arg);
}

unsigned sched_group(void) { return sched.current ? sched.current->group : 0; }

/* The product's tasks end up in the group of whoever starts them. */
struct task *task_start(const char *name, void (*run)(void *arg), void *arg) {
    CHECK(strlen(name) <= 15);
    struct task *t = fiber_new(sched.current->group, name, run, arg);
    sched_yield("spawn");
    return t;
}

static void switch_away(struct task *t, enum fiber_state state) {
    CHECK(t->held == 0);
    t->state = state;
    t->ready_since = sched.steps;
    leave(t);
}

void task_join(struct task *task) {
    struct task *t = sched.current;
    CHECK(task->group == t->group);
    while (task->state != FIBER_DONE) {
        t->joins = task;
        t->deadline_us = INT64_MAX;
        t->queue = NULL;
        switch_away(t, FIBER_WAITS);
    }
}

void sched_yield(const char *what) {
    mix_text(what);
    switch_away(sched.current, FIBER_READY);
}

void sched_pause_us(int64_t us) {
    struct task *t = sched.current;
    t->deadline_us = sched.now_us + us;
    t->queue = NULL;
    t->woken = false;
    switch_away(t, FIBER_WAITS);
}

void sched_wake_world(void) {
    if (sched.main && sched.main->state == FIBER_WAITS && !sched.main->queue &&
        !sched.main->joins) {
        sched.main->state = FIBER_READY;
    }
}

/* ---- waitq ---- */

struct waitq *waitq_new(void) {
    return xcalloc(1, sizeof(struct waitq));
}

void waitq_free(struct waitq *q) {
    if (!q) {
        return;
    }
    CHECK(!q->owner);
    for (unsigned i = 0; i < sched.count; i++) {
        CHECK(sched.fibers[i]->queue != q || sched.fibers[i]->state != FIBER_WAITS);
    }
    free(q);
}

void waitq_lock(struct waitq *q) {
    struct task *t = sched.current;
    CHECK(t && t->held == 0); /* a leaf: nobody holds two */
    if (sim_below(STREAM_SCHED, 4) == 0) {
        sched_yield("lock");
    }
    CHECK(!q->owner);
    q->owner = t;
    t->held++;
}

void waitq_unlock(struct waitq *q) {
    CHECK(q->owner == sched.current);
    q->owner = NULL;
    sched.current->held--;
}

bool waitq_wait(struct waitq *q, int64_t deadline_us) {
    struct task *t = sched.current;
    CHECK(q->owner == t);
    q->owner = NULL;
    t->held--;
    t->queue = q;
    t->deadline_us = deadline_us;
    t->woken = false;
    switch_away(t, FIBER_WAITS);
    t->queue = NULL;
    CHECK(!q->owner);
    q->owner = t;
    t->held++;
    return t->woken;
}

static void wake(struct waitq *q, bool all) {
    for (unsigned i = 0; i < sched.count; i++) {
        struct task *t = sched.fibers[i];
        if (t->state == FIBER_WAITS && t->queue == q) {
            t->woken = true;
            t->state = FIBER_READY;
            t->ready_since = sched.steps;
            if (!all) {
                return;
            }
        }
    }
}

void waitq_wake_one(struct waitq *q) { wake(q, false); }
void waitq_wake_all(struct waitq *q) { wake(q, true); }

/* ---- clock and random numbers ---- */

int64_t clock_mono_us(void) { return sched.now_us; }
int64_t clock_wall_us(void) { return WALL_ORIGIN_US + sched.now_us; }

void clock_sleep_until_us(int64_t mono_deadline_us) {
    while (sched.now_us < mono_deadline_us) {
        sched_pause_us(mono_deadline_us - sched.now_us);
    }
}

void rng_bytes(void *out, size_t len) {
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)(sim_random(STREAM_PRODUCT) >> 24);
    }
}

/* ---- groups ---- */

bool sched_alive(unsigned group) {
    return sched.groups[group].started && !sched.groups[group].dead;
}
bool sched_suspended(unsigned group) { return sched.groups[group].suspended; }
uint64_t sched_steps(unsigned group) { return sched.groups[group].steps; }
void sched_kill_at(unsigned group, uint64_t steps) { sched.groups[group].kill_at = steps; }
void sched_suspend_at(unsigned group, uint64_t steps) { sched.groups[group].suspend_at = steps; }

void sched_resume(unsigned group) {
    sim_note("resume %u", group);
    sched.groups[group].suspended = false;
}

void sched_kill(unsigned group) {
    CHECK(group && group != sched_group());
    if (sched.groups[group].dead) {
        return;
    }
    sim_note("kill %u", group);
    sched.groups[group].dead = true;
    sched.groups[group].suspended = false;
    unsigned left = 0;
    for (unsigned i = 0; i < sched.count; i++) {
        if (sched.fibers[i]->group != group) {
            sched.fibers[left++] =
                sched.fibers[i]; /* what lies on its stacks is lost with the process */
        }
    }
    sched.count = left;
    if (sched.on_death) {
        sched.on_death(group);
    }
    sched_wake_world();
}

/* ---- the loop ---- */

static bool can_run(const struct task *t) {
    if (sched.groups[t->group].suspended || t->state == FIBER_DONE) {
        return false;
    }
    return t->state == FIBER_READY || (t->deadline_us <= sched.now_us && !t->joins);
}

static struct task *best_of(struct task **ready, unsigned count) {
    struct task *best = ready[0];
    switch (sched.policy) {
    case POLICY_FIFO:
        for (unsigned i = 1; i < count; i++) {
            best = ready[i]->ready_since < best->ready_since ? ready[i] : best;
        }
        return best;
    case POLICY_PRIORITY:
        for (unsigned i = 1; i < count; i++) {
            best = ready[i]->priority > best->priority ? ready[i] : best;
        }
        if (sched.changes_left && sim_below(STREAM_SCHED, 500) == 0) {
            sched.changes_left--;
            best->priority = 0;
        }
        return best;
    case POLICY_STARVE:
        best = ready[sim_below(STREAM_SCHED, count)];
        return best->number % 12 == sched.starved ? ready[sim_below(STREAM_SCHED, count)] : best;
    case POLICY_UNIFORM:
    case POLICY_COUNT:
        break;
    }
    return ready[sim_below(STREAM_SCHED, count)];
}

static struct task *pick(void) {
    struct task *ready[FIBERS_MAX];
    unsigned count = 0;
    int64_t next_us = INT64_MAX;
    for (unsigned i = 0; i < sched.count; i++) {
        struct task *t = sched.fibers[i];
        if (can_run(t)) {
            ready[count++] = t;
        } else if (t->state == FIBER_WAITS && !t->joins && !sched.groups[t->group].suspended &&
                   t->deadline_us < next_us) {
            next_us = t->deadline_us;
        }
    }
    if (count == 0) {
        if (next_us == INT64_MAX) {
            sim_fail("deadlock", "nobody can run and nobody has a deadline");
        }
        sched.now_us = next_us;
        return NULL;
    }
    return sim_below(STREAM_SCHED, 32) == 0 ? ready[sim_below(STREAM_SCHED, count)]
                                            : best_of(ready, count);
}

static void count_step(struct task *t) {
    unsigned g = t->group;
    sched.groups[g].steps++;
    if (g && sched.groups[g].kill_at && sched.groups[g].steps >= sched.groups[g].kill_at) {
        sched.groups[g].kill_at = 0;
        sched_kill(g);
    } else if (g && sched.groups[g].suspend_at &&
               sched.groups[g].steps >= sched.groups[g].suspend_at) {
        sched.groups[g].suspend_at = 0;
        sched.groups[g].suspended = true;
        sim_note("suspend %u", g);
        sched_wake_world();
    }
}

static void bury(void) {
    unsigned left = 0;
    for (unsigned i = 0; i < sched.count; i++) {
        struct task *t = sched.fibers[i];
        if (t->state == FIBER_DONE) {
            sched.stacks[sched.stack_count++] = t->stack;
            t->stack = NULL; /* the struct stays: somebody may join it yet */
        } else {
            sched.fibers[left++] = t;
        }
    }
    sched.count = left;
}

void sched_run(void (*run)(void *arg), void *arg) {
    sched.main = fiber_new(0, "world", run, arg);
    struct task *main = sched.main;
    while (main->state != FIBER_DONE) {
        struct task *t = pick();
        if (!t) {
            continue;
        }
        if (++sched.steps > STEPS_MAX) {
            sim_fail("livelock", "more than %u steps", STEPS_MAX);
        }
        sched.now_us += 1 + sim_below(STREAM_SCHED, 20);
        mix(t->number);
        t->state = FIBER_READY;
        enter(t);
        if (t->state == FIBER_DONE) {
            bury();
        }
        count_step(t);
    }
    close_verdict();
}
