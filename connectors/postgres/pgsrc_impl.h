/* What the files of this connector share: the control session's struct and what the other sessions
 * may read of it. Thread: the control session belongs to the job task. Log and lane tasks read only
 * the constant part. */
#pragma once
#include "connectors/postgres/pgsrc.h"
#include "connectors/postgres/pgsrc_catalogue.h"
#include "connectors/postgres/session.h"

struct pgsrc {
    struct source base;
    /* Constant after open. */
    struct source_address addr;
    struct env *env;
    table_select_fn select;
    const void *rules;
    char slot[64], publication[64]; /* a temporary start gives the slot a name of its own */
    char append_publication[64];    /* "" with ?publication= */
    bool own_slot, own_publications;
    char system[32], database[64], server[96];
    uint32_t wal_page_bytes, wal_segment_bytes;
    /* Of a temporary start: the session that owns the slot, until log_open takes it over. */
    struct pgsrc_session *streaming;
    /* Of the control session. */
    struct pgsrc_session *ctl;
    struct pgsrc_types *types;
    int64_t nudged_us;
    bool nudge_plain; /* the role may write no message into the log */
};

/* role: "ctl", "log", "lane". */
int pgsrc_connect(const struct pgsrc *s, const char *role, bool replication,
                  struct pgsrc_session **out, struct err *err) TR_MUST_CHECK;
struct pgsrc_catalogue_ask pgsrc_ask(const struct pgsrc *s, uint64_t oid);
/* First column of the first row of a query, as text in out (empty if null or no row). */
int pgsrc_scalar(struct pgsrc_session *session, struct err *err, const char *sql, char *out,
                 size_t cap) TR_MUST_CHECK;
/* pg_current_wal_insert_lsn(), at a page's start where it means that. */
int pgsrc_log_end(const struct pgsrc *s, struct pgsrc_session *session, struct logpos *out,
                  struct err *err) TR_MUST_CHECK;
uint64_t pgsrc_floor(const struct pgsrc *s, uint64_t lsn);
int pgsrc_probe(struct pgsrc_session *session, struct snapshot *out, struct err *err) TR_MUST_CHECK;

/* pgsrc_slot.c */
int pgsrc_op_start(struct source *source, const struct source_start *req,
                   struct source_started *out, struct err *err);
int pgsrc_op_capture(struct source *source, const uint64_t *table_ids, uint32_t count,
                     uint64_t *see_from_tx, struct logpos *from, struct err *err);
int pgsrc_op_drop(struct source *source, struct err *err);
int pgsrc_op_drop_plan(struct source *source, struct buf *out, struct err *err);
int pgsrc_op_slots(struct source *source, struct buf *out, struct err *err);
/* pgsrc_publication.c: what the job's publications lack. */
struct pgsrc_publication_state {
    bool exists, append_exists;
    bool wrong;     /* publishes less than it must, or more: */
    bool generated; /* generated columns, which nobody asked for (from 18 on) */
    char wrong_name[64];
};
int pgsrc_publication_state(struct pgsrc *s, struct pgsrc_publication_state *out,
                            struct err *err) TR_MUST_CHECK;
/* What it does wrong, after its name. */
const char *pgsrc_publication_wrong(const struct pgsrc_publication_state *state);
/* Appends the SQL statements, each ended by ";\n", that make the publications carry exactly those
 * of the given tables that they must. With only != NULL just these tables are looked at. Nothing
 * appended = nothing to do. */
int pgsrc_publication_sql(struct pgsrc *s, const struct source_catalogue *c, const uint64_t *only,
                          uint32_t only_count, struct buf *out, struct err *err) TR_MUST_CHECK;
/* Runs such statements, one after the other. */
int pgsrc_run_lines(struct pgsrc *s, struct buf *lines, struct err *err) TR_MUST_CHECK;
/* pgsrc_examine.c */
int pgsrc_op_examine(struct source *source, struct source_findings *out, struct err *err);
/* pgsrc_log.c */
int pgsrc_op_log_open(struct source *source, struct logpos from, struct source_log **out,
                      struct err *err);
void pgsrc_op_log_close(struct source_log *log);
int pgsrc_op_log_next(struct source_log *log, int64_t deadline_us, struct segment **out,
                      struct err *err);
int pgsrc_op_log_idle(struct source_log *log, int64_t deadline_us, struct err *err);
void pgsrc_op_log_ack(struct source_log *log, struct logpos resume);
void pgsrc_op_log_wake(struct source_log *log);
void pgsrc_op_log_want(struct source_log *log, struct logpos pos);
/* pgsrc_lane.c */
int pgsrc_op_lane_open(struct source *source, unsigned number, struct source_lane **out,
                       struct err *err);
void pgsrc_op_lane_close(struct source_lane *lane);
int pgsrc_op_lane_cut(struct source_lane *lane, const struct schema *schema, bool whole,
                      uint32_t pieces_max, struct buf *bounds, uint32_t *pieces, struct err *err);
int pgsrc_op_lane_begin(struct source_lane *lane, const struct schema *schema,
                        struct chunk_view *out, char *export_name, struct err *err);
int pgsrc_op_lane_join(struct source_lane *lane, const struct schema *schema,
                       const char *export_name, struct err *err);
int pgsrc_op_lane_read(struct source_lane *lane, const struct chunk_read *req, struct err *err);
int pgsrc_op_lane_next(struct source_lane *lane, struct batch **out, struct err *err);
int pgsrc_op_lane_stop(struct source_lane *lane, struct err *err);
int pgsrc_op_lane_end(struct source_lane *lane, struct err *err);
