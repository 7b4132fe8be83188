/* Inside of the scripted source: its sessions. Included by source.c and source_log.c only. */
#pragma once
#include "cdc/batch.h"
#include "tests/sim/fault.h"
#include "tests/sim/source.h"

struct sim_source {
    struct source base;
    unsigned life, group;
    uint64_t resume; /* of the last start */
};
struct sim_lane {
    struct source_lane base;
    unsigned life, group, table;
    bool locked, viewed; /* the snapshot and its H stand */
    struct snapshot snapshot;
    uint64_t high;
    struct schema *read_schema;
    struct db_row rows[DB_KEYS];
    unsigned row_count, row_at;
};
/* Does a lane of this group hold a snapshot of the table whose H is at or above offset? */
bool sim_is_being_read(unsigned group, unsigned table, uint64_t offset);
/* A session of an earlier life of the server is lost. */
int session_call(unsigned life, const char *call, struct err *err);
/* The same within a call: a yield point, perhaps a slow one. */
int session_step(unsigned life, const char *call, struct err *err);
/* row NULL: every cell is not carried. */
void sim_put_row(struct batch *b, const struct db_row *row, bool key_only, bool t_absent,
                 enum row_kind kind, uint32_t tx, uint32_t n);

int sim_log_open(struct source *s, struct logpos from, struct source_log **out, struct err *err);
void sim_log_close(struct source_log *log);
int sim_log_next(struct source_log *log, int64_t deadline_us, struct segment **out,
                 struct err *err);
int sim_log_idle(struct source_log *log, int64_t deadline_us, struct err *err);
void sim_log_ack(struct source_log *log, struct logpos resume);
void sim_log_wake(struct source_log *log);
void sim_log_want(struct source_log *log, struct logpos pos);
