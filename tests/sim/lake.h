/* The lake as somebody from outside sees it: its catalog through SQLite, tables read back as data
 * files less deletes, and a foreign writer. Nothing here yields or fails by chance. Oracles:
 *
 *   lake     a table's rows are those that the commits so far make, every key once; its snapshot
 *            says whether it is consistent, and which commit it is of
 *   durable  what the catalog names (all snapshots, manifests, files) is there, and would be after
 *            a power loss (a row of the catalog that is gone is found by oracle.h's)
 *   garbage  no file goes that a snapshot still names
 *   foreign  a commit follows what was there before, whoever committed it
 *
 * Thread: the simulator's one. */
#pragma once
#include "tests/sim/sinks_impl.h"

struct lake_state {
    uint64_t epoch, seq;
    char *position, *commit_id;
    unsigned count;
    struct lake_name {
        char name[32];
        char *location;
    } tables[DB_TABLES];
};
void lake_init(struct db *db, struct disk *disk);
/* False: it is locked, or there is none yet. */
bool lake_look(struct lake_state *out);
void lake_state_release(struct lake_state *s);
/* After a commit: reads back what it changed. r: the commit; skipped where the catalog is locked,
 * or stands elsewhere already. */
void lake_verify(const struct request *r);
/* Another engine commits to one of the tables, without changing a row; false: it could not. */
bool lake_foreign_commit(void);
