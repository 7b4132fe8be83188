/* The source door over the scripted database, in its three flavours (database.h), with a slot that
 * one live session holds and that is acknowledged. What a real server would refuse or do wrong, it
 * refuses or does wrong too. Thread: the simulator's one; some calls yield within. Faults stand
 * before and behind it (faulty.h). */
#pragma once
#include "cdc/source.h"
#include "tests/sim/database.h"
#include "tests/sim/sched.h"

struct server {
    struct db *db;
    struct waitq *news; /* the log grew, was flushed, somebody wants it */
    bool slot;
    unsigned slot_session; /* number of the log session that holds it, 0 = nobody */
    unsigned slot_group;
    uint64_t confirmed, confirmed_disk;
    unsigned life; /* raised by a crash of the server */
    unsigned sessions;
    uint64_t wanted;
    bool big_estimates;
    unsigned segment_txs_max, split_permille;
    bool hidden[DB_TABLES], unusable[DB_TABLES]; /* to the catalogue */
    bool told_unusable[SIM_GROUPS];              /* by a catalogue */
    bool left_out[SIM_GROUPS][DB_TABLES];        /* of a catalogue, the table being there */
    unsigned disorders;                          /* reads to come whose rows are wrong */
    unsigned keyless;                            /* changes to come whose key is missing */
    bool disordered[SIM_GROUPS], keyless_told[SIM_GROUPS];
};
extern const struct source_ops sim_source_ops;
struct server *server_new(struct db *db);
struct server *server_now(void);
void server_changed(struct server *s); /* wakes the log session */
void server_process_died(struct server *s, unsigned group);
void server_crash(struct server *s);
int sim_take_logpos(const char *text, struct logpos *out);
