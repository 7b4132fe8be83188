/* The source door. A connector supplies primitives; cdc/hybrid.c is the one algorithm over them and
 * engine/ runs it. These are the contracts; callers go through cdc/source_call.h, which checks
 * them.
 *
 * Three kinds of session, each used by one task only: the control session (struct source itself:
 * the job task), one log session (the log task) and a lane session per lane task. Functions block,
 * at most until their deadline or the connector's own time-out. Errors: connection lost =
 * ERR_REWIND; server busy or starting up = ERR_RETRY; rights, settings, lineage, data = ERR_FATAL
 * with cure and exit code. A call is made with an empty err, and -1 means that it is filled. */
#pragma once
#include "cdc/base/env.h"
#include "cdc/base/opt.h"
#include "cdc/position.h"
#include "cdc/schema.h"
#include "cdc/segment.h"

struct source;
struct source_log;
struct source_lane;

/* Where the source is, as config hands it over. Strings are borrowed and outlive the source.
 * Secrets are in `secret` only. */
struct source_address {
    /* NULL where not given; hosts as written: "a:1,b:2". */
    const char *scheme, *hosts, *path, *user, *secret;
    const struct opts *opts; /* of the connector's own table */
    /* NULL-terminated key, value, key, value...: for the client library (postgres: libpq's keys).
     */
    const char *const *extra;
    const char *job;
};

/* What the user's rules say of one table; given by config through the selector. */
struct table_choice {
    bool skip;
    bool append;
    const char *key; /* "a,b" of key=(a,b); NULL = the source's own */
};
/* Thread: any; pure. */
typedef void (*table_select_fn)(const void *rules, const char *space, const char *name,
                                struct table_choice *out);

/* A table of the catalogue. */
struct source_table {
    struct schema *schema;  /* owned */
    uint64_t rows_estimate; /* 0 with bytes: not known */
    uint64_t bytes_estimate;
    bool usable;    /* false: plan prints why and the cure, and the job does not start */
    char why[320];  /* "" when usable */
    char cure[640]; /* SQL, or the rule line; several joined by newlines */
    char note[320]; /* said by plan of a usable table ("read as one chunk: ...") */
};
struct source_catalogue {
    struct source_table *tables; /* sorted by table_id */
    uint32_t count;
    struct logpos defined_at; /* W: the log's end after the definitions were read (rule 8) */
    char server[128];         /* "PostgreSQL 15.20", for people */
};
void source_catalogue_release(struct source_catalogue *c);

/* What the target knows, which decides how the log is started (DESIGN 3). */
enum target_knows {
    TARGET_NOTHING,
    TARGET_CLAIM, /* an empty claim, position null */
    TARGET_POSITION,
};
struct source_start {
    enum target_knows knows;
    bool look_only; /* decide and refuse, but create nothing; the answer says nothing */
    bool temporary; /* TARGET_NOTHING: the target never owns a position; the log is kept for this
                       run only (PostgreSQL: a temporary slot, unless ?slot= names one) */
    struct logpos applied, resume; /* of TARGET_POSITION */
    const char *lineage;           /* of TARGET_POSITION: what source_started gave with it */
};
struct source_started {
    struct logpos from;   /* where to open the log: events at or below are not delivered again */
    uint64_t see_from_tx; /* X: no chunk may use a snapshot with xmin below it (rule 0); 0 = none */
    char lineage[768];    /* JSON object to store with the position */
};

/* One finding of plan: what is missing and the SQL that adds it. */
struct source_finding {
    bool fatal;
    char what[320];
    char cure[640];
};
struct source_findings {
    struct source_finding at[32];
    uint32_t count;
};

/* What status shows of the source's side. */
struct source_status {
    struct logpos log_end;
    int64_t retained_bytes;
    char detail[256];
};

/* The state of a table as a chunk's snapshot sees it, taken under the lock that a SELECT takes. */
struct chunk_view {
    struct snapshot snapshot; /* S */
    struct logpos high;       /* H: read after S was opened; at or above every commit S sees */
    struct schema *schema;    /* definition under the lock; owned */
    bool gone;                /* the table no longer exists */
};
void chunk_view_release(struct chunk_view *v);

/* What a lane reads: rows of a key range in key order, or one piece of a whole table. Bounds in
 * key.h's encoding. */
struct chunk_read {
    struct schema *schema;
    const void *lo, *hi;   /* key range [lo, hi); whole table: the piece's bounds as cut */
    size_t lo_len, hi_len; /* 0 = open */
    bool whole;
    bool exact;        /* the one row whose key is lo (hi unused); the key need not be orderable */
    uint32_t rows_max; /* key range: at most so many rows, in key order */
    uint32_t batch_rows;
};

/* Control session. Thread: the job task. */
typedef int (*source_open_fn)(const struct source_address *addr, struct env *env,
                              table_select_fn select, const void *rules, struct source **out,
                              struct err *err);
typedef void (*source_close_fn)(struct source *s);
/* Settings and rights that are missing, each with its cure. For plan, and before a start: a fatal
 * finding stops the job with EXIT_PLAN. Writes nothing. */
typedef int (*source_examine_fn)(struct source *s, struct source_findings *out, struct err *err);
typedef int (*source_catalogue_fn)(struct source *s, struct source_catalogue *out, struct err *err);
/* Could the log go on from there? The decision is a pure step function of what the target and the
 * server say: ERR_FATAL with EXIT_LINEAGE or EXIT_FENCED. On TARGET_CLAIM or TARGET_NOTHING it
 * creates publication and slot where they are missing (TARGET_NOTHING with an existing slot of the
 * job = EXIT_LINEAGE). */
typedef int (*source_start_fn)(struct source *s, const struct source_start *req,
                               struct source_started *out, struct err *err);
/* Brings tables of the catalogue into what the log carries (ALTER PUBLICATION ADD). Gives the new X
 * and the log position from which they are carried. Idempotent. */
typedef int (*source_capture_fn)(struct source *s, const uint64_t *table_ids, uint32_t count,
                                 uint64_t *see_from_tx, struct logpos *from, struct err *err);
/* A row-less snapshot. */
typedef int (*source_probe_fn)(struct source *s, struct snapshot *out, struct err *err);
/* Makes the server flush its log's end; at most once a second is sent. */
typedef int (*source_nudge_fn)(struct source *s, struct err *err);
/* H of an empty set: the log's end now. */
typedef int (*source_log_end_fn)(struct source *s, struct logpos *out, struct err *err);
typedef int (*source_status_fn)(struct source *s, struct source_status *out, struct err *err);
/* Removes slot and publications of the job; what that would do, one SQL statement a line; and a
 * table for people of the server's slots that are ours. */
typedef int (*source_drop_fn)(struct source *s, struct err *err);
typedef int (*source_drop_plan_fn)(struct source *s, struct buf *out, struct err *err);
typedef int (*source_slots_fn)(struct source *s, struct buf *out, struct err *err);
/* Did the rows of a table change without the log saying so, between these two definitions (a
 * rewriting ALTER, a column added with a default)? Pure. */
typedef bool (*source_rewritten_fn)(const struct schema *before, const struct schema *after);
/* Is nothing else true of the rows stored so far than that columns were added, in which they have
 * what `missing` says, null where that is NULL? Proven, or false; false too where `before`, by its
 * marks, does not know a column yet whose name it has: rows with it came from the log. `before` is
 * a definition; `after` too, or a shape of the log with the marks of the catalogue as it was when
 * the shape came: it may then lack columns that `before` has. Pure. */
typedef bool (*source_added_fn)(const struct schema *before, const struct schema *after);
/* Positions as text, e.g. 0/16B3748, and back (-1 = malformed). Pure. */
typedef int (*source_put_logpos_fn)(struct buf *out, struct logpos pos);
typedef int (*source_take_logpos_fn)(const char *text, struct logpos *out);

/* Log session. Thread: the log task, except where said. After an error of next or idle that is no
 * RETRY, nothing but close (and ack, wake, want) follows. Opening takes the slot: waits for a dead
 * holder as DESIGN 3 says; a living one = ERR_FATAL, EXIT_FENCED. */
typedef int (*source_log_open_fn)(struct source *s, struct logpos from, struct source_log **out,
                                  struct err *err);
typedef void (*source_log_close_fn)(struct source_log *log);
/* The next segment, or *out = NULL at the deadline. Answers keep-alives and sends feedback by
 * itself, at least each 10 s of calls; callers that are not ready for another segment call log_idle
 * instead, which does only that. */
typedef int (*source_log_next_fn)(struct source_log *log, int64_t deadline_us, struct segment **out,
                                  struct err *err);
typedef int (*source_log_idle_fn)(struct source_log *log, int64_t deadline_us, struct err *err);
/* Thread: one at a time. What the target holds; sent with the next feedback, never lowered. */
typedef void (*source_log_ack_fn)(struct source_log *log, struct logpos resume);
/* Thread: any. Ends a wait of log_next or log_idle. */
typedef void (*source_log_wake_fn)(struct source_log *log);
/* Thread: any. Somebody waits for the log to pass pos: ask the server how far it is. */
typedef void (*source_log_want_fn)(struct source_log *log, struct logpos pos);

/* Lane session. Thread: its lane task. After any error nothing but close follows: what the session
 * is in the middle of is not known. */
typedef int (*source_lane_open_fn)(struct source *s, unsigned number, struct source_lane **out,
                                   struct err *err);
typedef void (*source_lane_close_fn)(struct source_lane *l);
/* Cuts a table into at most pieces_max ranges: `bounds` gets the pieces-1 inner bounds, each as u32
 * length + bytes. Key ranges (outside of begin..end): key.h's encoding. Whole table (inside of it):
 * opaque piece bounds. */
typedef int (*source_lane_cut_fn)(struct source_lane *l, const struct schema *schema, bool whole,
                                  uint32_t pieces_max, struct buf *bounds, uint32_t *pieces,
                                  struct err *err);
/* A transaction: the lock that a SELECT takes, then the snapshot. With export_name
 * (SOURCE_EXPORT_NAME_BYTES), the snapshot is exported for lane_join, which takes the same lock. A
 * table that is gone has only its end to follow. */
#define SOURCE_EXPORT_NAME_BYTES 64
typedef int (*source_lane_begin_fn)(struct source_lane *l, const struct schema *schema,
                                    struct chunk_view *out, char *export_name, struct err *err);
typedef int (*source_lane_join_fn)(struct source_lane *l, const struct schema *schema,
                                   const char *export_name, struct err *err);
typedef int (*source_lane_read_fn)(struct source_lane *l, const struct chunk_read *req,
                                   struct err *err);
/* The next rows of lane_read, sealed; *out = NULL at the end. A batch is at most about
 * BATCH_BYTES_GOAL plus one row. */
typedef int (*source_lane_next_fn)(struct source_lane *l, struct batch **out, struct err *err);
/* Ends lane_read early: the rest is thrown away. */
typedef int (*source_lane_stop_fn)(struct source_lane *l, struct err *err);
/* Ends the transaction. */
typedef int (*source_lane_end_fn)(struct source_lane *l, struct err *err);

struct source_ops {
    const char *name; /* scheme: "postgres" */
    const struct opt_spec *opts;

    source_open_fn open;
    source_close_fn close;
    source_examine_fn examine;
    source_catalogue_fn catalogue;
    source_start_fn start;
    source_capture_fn capture;
    source_probe_fn probe;
    source_nudge_fn nudge;
    source_log_end_fn log_end;
    source_status_fn status;
    source_drop_fn drop;
    source_drop_plan_fn drop_plan;
    source_slots_fn slots;

    source_log_open_fn log_open;
    source_log_close_fn log_close;
    source_log_next_fn log_next;
    source_log_idle_fn log_idle;
    source_log_ack_fn log_ack;
    source_log_wake_fn log_wake;
    source_log_want_fn log_want;

    source_lane_open_fn lane_open;
    source_lane_close_fn lane_close;
    source_lane_cut_fn lane_cut;
    source_lane_begin_fn lane_begin;
    source_lane_join_fn lane_join;
    source_lane_read_fn lane_read;
    source_lane_next_fn lane_next;
    source_lane_stop_fn lane_stop;
    source_lane_end_fn lane_end;

    source_rewritten_fn rewritten;
    source_added_fn added; /* NULL: never */
    source_put_logpos_fn put_logpos;
    source_take_logpos_fn take_logpos;
};
/* First member of every implementation's own structs, zero but for ops. What follows ops is kept
 * and looked at by cdc/source_call.h alone. */
struct source {
    const struct source_ops *ops;
};
struct source_log {
    const struct source_ops *ops;
    struct logpos to;    /* of the last segment; the log task's */
    bool broken;         /* the log task's */
    struct logpos acked; /* the commit task's */
};
enum source_lane_phase {
    SOURCE_LANE_IDLE = 0,
    SOURCE_LANE_BEGUN,   /* begun or joined */
    SOURCE_LANE_GONE,    /* begun, and there is no such table */
    SOURCE_LANE_READING, /* until next answers NULL, or stop */
    SOURCE_LANE_BROKEN,
};
struct source_lane {
    const struct source_ops *ops;
    enum source_lane_phase phase;
};
