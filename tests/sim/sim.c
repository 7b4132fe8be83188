/* The simulator's command line; every command takes --set NAME=N to overrule what a seed draws.
 *
 *   sim --seeds A..B      each in a process; a result line for 100 of them, and for each that
 * fails;
 *                         --jobs N: so many at the same time
 *   sim --seed N          one seed; with --trace, what happened on standard error
 *   sim --shrink N        the smallest numbers with which it still fails by the same oracle
 *   sim --exhaustive [N | A..B]  a short script (of seed N), killed at every step of its first
 *                         instance; with --pairs, also at every pair of steps of its first two
 *   sim --hash N [FILL]   as --seed, with the heap filled with that byte
 *
 * --seeds of 1000 or more play some exhaustive scripts too; all end with `deterministic`: 50 seeds
 * run twice with different heap fills have the same trace, and `decorators`: every function of the
 * doors has one (faulty.h). --first: stop at the first failure.
 * Exit code 1: something failed. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/faulty.h"
#include "tests/sim/sched.h"
#include "tests/sim/script.h"

#define SETS_MAX 32u
#define DETERMINISTIC_SEEDS 50u
#define EXHAUSTIVE_SCRIPTS 5u
#define JOBS_MAX 64u

struct options {
    const char *sets[SETS_MAX];
    unsigned set_count, jobs;
    bool trace, first_only, pairs;
    int perturb;
};

#ifdef __SANITIZE_ADDRESS__
/* A killed instance leaves its memory behind: that is what being killed means. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

/* Zeroed. */
static void *shared(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static void play(uint64_t seed, const struct options *o, struct sim_verdict *v) {
    static struct script s;
    sched_init(seed, o->trace, v);
    script_draw(&s, seed);
    for (unsigned i = 0; i < o->set_count; i++) {
        script_set(&s, o->sets[i]);
    }
    sched_policy((enum sim_policy)(s.policy % POLICY_COUNT));
    sched_run(world_main, &s);
}

/* How a process ended that did not say so itself. */
static void died(struct sim_verdict *v, int status, int log) {
    ssize_t n = pread(log, v->text, sizeof v->text - 1, 0);
    v->text[n > 0 ? n : 0] = '\0';
    v->text[strcspn(v->text, "\n")] = '\0';
    snprintf(v->oracle, sizeof v->oracle,
             WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? "assertion" : "fault");
    if (!*v->text) {
        snprintf(v->text, sizeof v->text, "status %d", status);
    }
}

static void run_seed(uint64_t seed, const struct options *o, struct sim_verdict *v) {
    memset(v, 0, sizeof *v);
    fflush(NULL);
    int log = memfd_create("stderr", 0);
    pid_t pid = fork();
    CHECK(pid >= 0 && log >= 0);
    if (pid == 0) {
        if (!o->trace) {
            dup2(log, 2);
        }
        if (o->perturb) {
            mallopt(M_PERTURB, o->perturb);
        }
        play(seed, o, v);
        sim_exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (!v->done) {
        died(v, status, log);
    }
    close(log);
}

static void put_failure(uint64_t seed, const struct options *o, const struct sim_verdict *v) {
    printf("not ok seed %llu: %s: %s; again: sim --seed %llu --trace", (unsigned long long)seed,
           v->oracle, v->text, (unsigned long long)seed);
    for (unsigned i = 0; i < o->set_count; i++) {
        printf(" --set %s", o->sets[i]);
    }
    printf("\n");
    fflush(stdout);
}

/* A short script, so that an instance is done within some hundred steps; `crash` says when it dies.
 */
static void be_brief(struct options *o, const char *crash, const char *again) {
    static const char *const brief[] = { "txs=6",     "faults=0",    "crashes=1",
                                         "zombies=0", "newcomers=0", "server_crashes=0",
                                         "keys=8",    "fat=0",       "damages=0",
                                         "mutes=0",   "stops=0",     "crowd=0",
                                         "selects=0", "disorders=0", "keyless=0" };
    for (size_t i = 0; i < ARRAY_COUNT(brief); i++) {
        o->sets[o->set_count++] = brief[i];
    }
    o->sets[o->set_count++] = crash;
    o->sets[o->set_count++] = again;
}

/* A crash at every step of the first instance; with pairs, after each of them one at every step of
 * the second too. How many runs failed. */
static unsigned exhaustive(uint64_t seed, const struct options *given, struct sim_verdict *v) {
    struct options o = *given;
    char crash[32] = "", again[32] = "";
    unsigned failed = 0, runs = 0, steps = 0;
    bool first_dies = true;
    be_brief(&o, crash, again);
    for (unsigned at = 1; first_dies; at++) {
        bool dies = true;
        snprintf(crash, sizeof crash, "crash_at=%u", at);
        for (unsigned second = 0; dies && (second == 0 || (given->pairs && first_dies)); second++) {
            snprintf(again, sizeof again, "crash_again=%u", second);
            run_seed(seed, &o, v);
            dies = v->crashes > (second > 0);
            first_dies = second ? first_dies : dies;
            runs += dies;
            if (*v->oracle) {
                failed++;
                put_failure(seed, &o, v);
            }
        }
        steps += first_dies;
    }
    if (!failed) {
        printf(given->pairs
                   ? "ok pairs %llu: a crash at each of %u steps, alone and with a second one: %u\n"
                   : "ok exhaustive %llu: a crash at each of %u steps\n",
               (unsigned long long)seed, steps, runs);
    }
    fflush(stdout);
    return failed;
}

static int exhaustive_alone(uint64_t from, uint64_t to, const struct options *o,
                            struct sim_verdict *v) {
    unsigned passed = 0, failed = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        unsigned n = exhaustive(seed, o, v);
        failed += n;
        passed += n == 0;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}

/* What the processes that work at the same time share: the next piece, and what became of others.
 */
struct work {
    atomic_ullong next;
    atomic_uint passed, failed;
};

/* How many of them failed; with --first it stops there. */
static unsigned block(uint64_t first, uint64_t last, const struct options *o,
                      struct sim_verdict *v) {
    uint64_t commits = 0, crashes = 0, rewinds = 0, faults = 0;
    unsigned failed = 0;
    for (uint64_t seed = first; seed <= last && !(failed && o->first_only); seed++) {
        run_seed(seed, o, v);
        commits += v->commits;
        crashes += v->crashes;
        rewinds += v->rewinds;
        faults += v->faults;
        if (*v->oracle) {
            failed++;
            put_failure(seed, o, v);
        }
    }
    if (!failed) {
        printf("ok seeds %llu..%llu: %llu commits, %llu crashes, %llu rewinds, %llu faults\n",
               (unsigned long long)first, (unsigned long long)last, (unsigned long long)commits,
               (unsigned long long)crashes, (unsigned long long)rewinds,
               (unsigned long long)faults);
        fflush(stdout);
    }
    return failed;
}

/* A piece is a block of 100 seeds, or an exhaustive script. */
static void work_off(struct work *w, uint64_t from, uint64_t to, const struct options *o,
                     struct sim_verdict *v) {
    uint64_t blocks = (to - from) / 100 + 1, at;
    uint64_t pieces = blocks + (!o->first_only && to - from >= 999 ? EXHAUSTIVE_SCRIPTS : 0);
    while ((at = atomic_fetch_add(&w->next, 1)) < pieces) {
        uint64_t first = from + at * 100, last = first + 99 < to ? first + 99 : to;
        unsigned failed =
            at < blocks ? block(first, last, o, v) : exhaustive(at - blocks + 1, o, v);
        atomic_fetch_add(&w->failed, failed);
        atomic_fetch_add(&w->passed, failed == 0);
        if (failed && o->first_only) {
            return;
        }
    }
}

static void work_together(struct work *w, uint64_t from, uint64_t to, const struct options *o,
                          struct sim_verdict *v) {
    pid_t helpers[JOBS_MAX];
    for (unsigned i = 1; i < o->jobs; i++) {
        fflush(NULL);
        helpers[i] = fork();
        CHECK(helpers[i] >= 0);
        if (helpers[i] == 0) {
            work_off(w, from, to, o, shared(sizeof(struct sim_verdict)));
            _exit(0);
        }
    }
    work_off(w, from, to, o, v);
    for (unsigned i = 1; i < o->jobs; i++) {
        int status = 0;
        waitpid(helpers[i], &status, 0);
        if (status) {
            printf("not ok sim: a process ended with status %d\n", status);
            atomic_fetch_add(&w->failed, 1);
        }
    }
}

static int seeds(uint64_t from, uint64_t to, const struct options *o, struct sim_verdict *v) {
    struct work *w = shared(sizeof *w);
    work_together(w, from, to, o, v);
    unsigned passed = w->passed, failed = w->failed;
    if (o->first_only && failed) {
        return 1;
    }
    if (!o->first_only) {
        struct options fill = *o;
        unsigned differ = 0;
        for (uint64_t seed = from; seed <= to && seed < from + DETERMINISTIC_SEEDS; seed++) {
            fill.perturb = 0x5a;
            run_seed(seed, &fill, v);
            uint64_t hash = v->hash;
            fill.perturb = 0xa5;
            run_seed(seed, &fill, v);
            if (hash != v->hash || !hash) {
                printf("not ok deterministic: seed %llu has two traces\n",
                       (unsigned long long)seed);
                differ++;
            }
        }
        failed += differ;
        if (!differ) {
            passed++;
            printf("ok sim:deterministic\n");
        }
    }
    unsigned missing = faulty_missing();
    failed += missing > 0;
    passed += missing == 0;
    printf("%s sim:decorators: %u functions of the doors without one\n", missing ? "not ok" : "ok",
           missing);
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}

/* Lowers one number after the other as far as the same oracle still fails. */
static int shrink(uint64_t seed, struct options *o, struct sim_verdict *v) {
    run_seed(seed, o, v);
    if (!*v->oracle) {
        printf("seed %llu does not fail\n", (unsigned long long)seed);
        return 1;
    }
    char oracle[sizeof v->oracle];
    memcpy(oracle, v->oracle, sizeof oracle);
    struct sim_verdict scratch = { 0 };
    static struct script s;
    sched_init(seed, false, &scratch);
    script_draw(&s, seed);
    static char texts[SETS_MAX][48];
    const char *name;
    for (unsigned i = 0; o->set_count + 1 < SETS_MAX; i++) {
        const unsigned *number = script_number(&s, i, &name);
        if (!number) {
            break;
        }
        unsigned lowest = *number,
                 floor = strcmp(name, "tables") == 0 || strcmp(name, "lanes") == 0 ? 1 : 0;
        char *text = texts[o->set_count];
        o->sets[o->set_count++] = text;
        for (unsigned step = lowest; step > 0;) {
            unsigned trial = lowest >= step + floor ? lowest - step : floor;
            snprintf(text, sizeof texts[0], "%s=%u", name, trial);
            run_seed(seed, o, v);
            if (trial < lowest && strcmp(v->oracle, oracle) == 0) {
                lowest = trial;
            } else {
                step /= 2;
            }
        }
        snprintf(text, sizeof texts[0], "%s=%u", name, lowest);
    }
    run_seed(seed, o, v);
    put_failure(seed, o, v);
    return 1;
}

static int one(uint64_t seed, const struct options *o, struct sim_verdict *v) {
    run_seed(seed, o, v);
    printf("seed %llu: %s%s%s hash=%016llx steps=%llu virtual=%.1fs commits=%llu crashes=%llu "
           "rewinds=%llu faults=%llu\n",
           (unsigned long long)seed, *v->oracle ? v->oracle : "ok", *v->text ? ": " : "", v->text,
           (unsigned long long)v->hash, (unsigned long long)v->steps, (double)v->virtual_us / 1e6,
           (unsigned long long)v->commits, (unsigned long long)v->crashes,
           (unsigned long long)v->rewinds, (unsigned long long)v->faults);
    return *v->oracle ? 1 : 0;
}

static int usage(void) {
    fprintf(stderr, "sim --seeds A..B | --seed N [--trace] | --shrink N | "
                    "--exhaustive [N | A..B] [--pairs] | --hash N [FILL] [--first] [--jobs N] "
                    "[--set NAME=N]...\n");
    return 2;
}

int main(int argc, char **argv) {
    struct options o = { .jobs = 1 };
    const char *mode = NULL, *word = NULL, *fill = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            o.trace = true;
        } else if (strcmp(argv[i], "--first") == 0) {
            o.first_only = true;
        } else if (strcmp(argv[i], "--pairs") == 0) {
            o.pairs = true;
        } else if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc) {
            unsigned long jobs = strtoul(argv[++i], NULL, 10);
            if (jobs < 1 || jobs > JOBS_MAX) {
                return usage();
            }
            o.jobs = (unsigned)jobs;
        } else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc && o.set_count < SETS_MAX / 2) {
            struct script scratch;
            o.sets[o.set_count++] = argv[++i];
            if (!script_set(&scratch, argv[i])) {
                return usage();
            }
        } else if (argv[i][0] == '-' && !mode) {
            mode = argv[i];
        } else if (argv[i][0] != '-' && mode) {
            *(word ? &fill : &word) = argv[i];
        } else {
            return usage();
        }
    }
    if (!mode || (!word && strcmp(mode, "--exhaustive") != 0)) {
        return usage();
    }
    struct sim_verdict *v = shared(sizeof *v);
    char *end = NULL;
    uint64_t from = word ? strtoull(word, &end, 10) : 1;
    if (strcmp(mode, "--seeds") == 0 && strncmp(end, "..", 2) == 0) {
        return seeds(from, strtoull(end + 2, NULL, 10), &o, v);
    }
    if (strcmp(mode, "--exhaustive") == 0) {
        bool range = end && strncmp(end, "..", 2) == 0;
        return exhaustive_alone(from, range ? strtoull(end + 2, NULL, 10) : from, &o, v);
    }
    o.perturb = fill ? atoi(fill) : 0;
    return strcmp(mode, "--seed") == 0 || strcmp(mode, "--hash") == 0 ? one(from, &o, v)
           : strcmp(mode, "--shrink") == 0                            ? shrink(from, &o, v)
                                                                      : usage();
}
