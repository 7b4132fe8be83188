/* Inside of lake.h; included by lake*.c only. */
#pragma once
#include <sqlite3.h>

#include "sinks/objects/store.h"
#include "tests/sim/lake.h"

struct lake {
    struct db *db;
    struct disk *disk;
    struct files *files; /* nothing fails */
    struct store *store;
};
extern struct lake lake;
/* Within sqldisk_quiet. NULL: there is none, or it cannot be opened. Closed by the caller. */
sqlite3 *lake_open_catalog(void);
/* The table is at that location from now on, as somebody else made it. */
void lake_follow(const char *name, const char *location);
