/* What one run does, drawn from its seed; the command line may overrule each number, which is how
 * --shrink and --exhaustive work. world.c plays it. */
#pragma once
#include "tests/sim/database.h"
#include "tests/sim/fault.h"
#include "tests/sim/sinks.h"

struct script {
    uint64_t seed;
    unsigned flavour, sink, policy;
    unsigned txs;    /* transactions of the workload */
    unsigned tables; /* of the mix below, 1..6 */
    unsigned keys, lanes, chunk_rows;
    unsigned crashes, zombies, newcomers, server_crashes;
    unsigned crash_at;    /* step of the first instance; 0 = drawn */
    unsigned crash_again; /* with it: step of the second instance; 0 = it lives */
    unsigned power;       /* percent of crashes that take the machine with them */
    unsigned once, ddl, fat, long_keys, pace_us;
    unsigned faults;   /* at most */
    unsigned fault_at; /* only that call; 0 = drawn */
    unsigned fault_permille, delay_permille;
    unsigned fault_door; /* only calls of this one fail (enum fault_door + 1); 0 = any */
    unsigned damages;    /* instances that are told a damaged position */
    unsigned mutes;      /* times that the target does not say for long whether it committed */
    unsigned stops;      /* times that an operator stops the job */
    unsigned crowd;      /* small tables of which much the same is to be said */
    unsigned selects; /* times that tables leave the selection, come back or cannot be followed */
    unsigned rewrite_stops, never; /* on_rewrite=stop, snapshot=never */
    unsigned keyless;              /* changes that come without their key */
    unsigned disorders;            /* times that the server gives rows of a key range wrongly */
    unsigned lake;                 /* iceberg: LAKE_... of sinks.h */
    unsigned foreigns;             /* iceberg: times that another engine commits to a table */
    unsigned forgets;              /* iceberg: times that a machine's local state is deleted */
};
void script_draw(struct script *s, uint64_t seed); /* sets the seed's streams to their beginnings */
/* "txs=20": false if there is no such number. */
bool script_set(struct script *s, const char *assignment);
/* Those that --shrink lowers, in this order. */
unsigned *script_number(struct script *s, unsigned i, const char **name); /* NULL at the end */
void world_main(void *script); /* the body of the run; fails by sim_fail */
