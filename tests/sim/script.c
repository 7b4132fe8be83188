/* Drawing scripts. See script.h. */
#include "tests/sim/script.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/sched.h"

static unsigned draw(unsigned n) { return sim_below(STREAM_SCRIPT, n); }

/* What few jobs meet. */
static void draw_rare(struct script *s) {
    s->damages = draw(3) == 0 ? 1 + draw(3) : 0;
    s->mutes = draw(6) == 0 ? 1 + draw(2) : 0;
    s->stops = draw(6) == 0 ? 1 + draw(3) : 0;
    s->crowd = draw(12) == 0 && s->keys < 60 && !s->fat ? 8 + draw(4) : 0;
    s->selects = draw(s->crowd ? 2 : 8) == 0 ? 1 + draw(6) : 0;
    s->rewrite_stops = s->ddl && draw(3) == 0;
    s->disorders = draw(8) == 0;
    s->never = draw(25) == 0;
    s->keyless = draw(6) == 0 && !s->ddl;
    if (!s->fat && !s->crowd && s->keys < 60 && draw(7) == 0) { /* much is held, and spills */
        s->fat = 2;
        s->txs = 60 + draw(60);
        s->chunk_rows = 4 + draw(30);
        s->tables = 1 + draw(4);
        s->delay_permille = 30 + draw(60);
        s->pace_us = 60000;
        if (draw(3)) {
            s->fault_door = 1 + FAULT_FILE;
            s->fault_permille = 10 + draw(100);
            s->faults = 5 + draw(60);
        }
    }
    if (s->long_keys) {
        s->long_keys = draw(2) ? 600 : 1500;
        s->delay_permille = draw(2) ? 40 + draw(80) : s->delay_permille;
        s->lanes = 1 + draw(3);
    }
    if (s->crowd) {
        s->chunk_rows = 20 + draw(40);
        s->txs += 60;
    }
    if (s->never) { /* what is read again, or anew, is not what this is about */
        s->ddl = s->selects = 0;
    }
}

/* The lake: each commit costs more there. */
static void draw_lake(struct script *s) {
    s->sink = SINK_ICEBERG;
    s->lake = draw(LAKE_OPTIONS);
    s->foreigns = draw(2) ? 1 + draw(5) : 0;
    s->forgets = draw(4) == 0 ? 1 + draw(2) : 0;
    s->zombies += s->keys < 60 && draw(3) == 0; /* an older instance that goes on is fenced */
    s->never = 0; /* an update of a row that was never read leaves cells open */
    s->long_keys = s->ddl ? 0 : s->long_keys; /* a table made again may have another type of key */
    s->lake |= s->ddl && draw(2) ? LAKE_RETYPES : 0;
    s->lake |= draw(3) == 0 ? LAKE_SORTED : 0;
}

void script_draw(struct script *s, uint64_t seed) {
    *s = (struct script){ .seed = seed };
    s->flavour = draw(5) < 3 ? DB_XID : 1 + draw(2);
    static const enum sink_kind sinks[] = { SINK_MODEL_1, SINK_MODEL_2, SINK_JSONL,  SINK_PARQUET,
                                            SINK_TOKEN,   SINK_DEDUPE,  SINK_VERSION };
    s->sink = sinks[draw(ARRAY_COUNT(sinks))];
    s->policy = draw(POLICY_COUNT);
    s->txs = 15 + draw(60);
    s->tables = 1 + draw(6);
    s->keys = draw(7) == 0 ? 160 : 12 + draw(8);
    s->lanes = 1 + draw(3);
    s->chunk_rows = 2 + draw(6);
    s->crashes = draw(5) < 2 ? 0 : draw(4);
    s->zombies = draw(4) == 0;
    s->newcomers = draw(8) == 0;
    s->server_crashes = draw(6) == 0;
    s->power = draw(3) * 50;
    s->once = draw(4) == 0;
    s->ddl = draw(2) ? draw(120) : 0;
    s->fat = draw(15) == 0;
    static const unsigned paces[] = { 1000, 10000, 60000, 200000 };
    s->pace_us = paces[draw(4)];
    s->fault_permille = draw(3) ? draw(25) : 0;
    s->faults = s->fault_permille ? 1 + draw(30) : 0;
    if (draw(6) == 0) { /* a long life, in which much has time to happen */
        s->txs = 120 + draw(180);
        s->faults *= 2;
    }
    if (s->faults && draw(3) == 0) { /* a storm at one door */
        s->fault_door = 1 + draw(FAULT_DOORS);
        s->fault_permille = 20 + draw(s->fault_door == 1 + FAULT_COMMIT ? 600 : 80);
        s->faults = 5 + draw(60);
    }
    s->delay_permille = draw(4) ? 0 : draw(15);
    s->long_keys = draw(8) == 0;
    if (s->keys > 60) {
        s->txs = 60;
        s->tables = 1 + draw(2);
        s->lanes = 1;
        s->pace_us = 200000;
        s->delay_permille = 50 + draw(100);
        s->ddl = 0;
        s->faults = 0;
    }
    if (s->fat) {
        s->txs = 30 + draw(10);
        s->delay_permille = 40 + draw(60);
        s->crashes = 1 + draw(3);
        s->pace_us = 60000;
        s->keys = 10;
        s->tables = 1 + draw(2);
    }
    if (s->zombies && draw(4)) {
        s->sink = SINK_JSONL; /* where nothing but its files fences them */
    }
    draw_rare(s);
    if (s->seed % 7 == 0) {
        draw_lake(s);
    }
}

struct number {
    const char *name;
    size_t offset;
    bool shrinks;
};
#define NUMBER(name, shrinks)                                                                      \
    { #name, offsetof(struct script, name), shrinks }
static const struct number numbers[] = {
    NUMBER(faults, true),
    NUMBER(crashes, true),
    NUMBER(zombies, true),
    NUMBER(newcomers, true),
    NUMBER(server_crashes, true),
    NUMBER(txs, true),
    NUMBER(tables, true),
    NUMBER(ddl, true),
    NUMBER(delay_permille, true),
    NUMBER(lanes, true),
    NUMBER(fat, true),
    NUMBER(long_keys, true),
    NUMBER(power, true),
    NUMBER(once, true),
    NUMBER(damages, true),
    NUMBER(mutes, true),
    NUMBER(stops, true),
    NUMBER(crowd, true),
    NUMBER(selects, true),
    NUMBER(rewrite_stops, true),
    NUMBER(never, true),
    NUMBER(disorders, true),
    NUMBER(keyless, true),
    NUMBER(foreigns, true),
    NUMBER(forgets, true),
    NUMBER(lake, true),
    NUMBER(policy, true),
    NUMBER(flavour, false),
    NUMBER(sink, false),
    NUMBER(keys, false),
    NUMBER(chunk_rows, false),
    NUMBER(crash_at, false),
    NUMBER(crash_again, false),
    NUMBER(pace_us, false),
    NUMBER(fault_at, false),
    NUMBER(fault_permille, false),
    NUMBER(fault_door, false),
};

static unsigned *at(struct script *s, const struct number *n) {
    return (unsigned *)(void *)((char *)s + n->offset);
}

bool script_set(struct script *s, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    for (size_t i = 0; equals && i < ARRAY_COUNT(numbers); i++) {
        if (strlen(numbers[i].name) == (size_t)(equals - assignment) &&
            strncmp(numbers[i].name, assignment, (size_t)(equals - assignment)) == 0) {
            *at(s, &numbers[i]) = (unsigned)strtoul(equals + 1, NULL, 10);
            return true;
        }
    }
    return false;
}

unsigned *script_number(struct script *s, unsigned i, const char **name) {
    if (i >= ARRAY_COUNT(numbers) || !numbers[i].shrinks) {
        return NULL;
    }
    *name = numbers[i].name;
    return at(s, &numbers[i]);
}
