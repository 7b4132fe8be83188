/* The source door. A connector supplies primitives; cdc/hybrid.c is the one algorithm over them and
 * engine/ runs it.
 *
 * Three kinds of session, each used by one task only: the control session (struct source itself:
 * the job task), one log session (the log task) and a lane session per lane task. Functions block,
 * at most until their deadline or the connector's own time-out. Errors: connection lost =
 * ERR_REWIND; server busy or starting up = ERR_RETRY; rights, settings, lineage, data = ERR_FATAL
 * with cure and exit code. */
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
    const char *scheme, *hosts, *path, *user,
        *secret;              /* hosts: "a:1,b:2" as written; NULL where not given */
    const struct opts *opts;  /* of the connector's own table */
    const char *const *extra; /* NULL-terminated key, value, key, value...: for the client library
                                 (postgres: libpq's own keys) */
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
    struct schema *schema; /* owned */
    uint64_t rows_estimate;
    uint64_t bytes_estimate;
    bool usable;    /* false: plan prints why and the cure, and the job does not start */
    char why[320];  /* "" when usable */
    char cure[640]; /* SQL, or the rule line; several joined by newlines */
    char note[320]; /* said by plan of a usable table ("read as one chunk: its key has no byte
                       order") */
};
struct source_catalogue {
    struct source_table *tables; /* sorted by table_id */
    uint32_t count;
    struct logpos
        defined_at;   /* W: the log's end after the definitions were read (DESIGN 4, rule 8) */
    char server[128]; /* "PostgreSQL 15.20", for people */
};
void source_catalogue_release(struct source_catalogue *c);

/* What the target knows, which decides how the log is started (DESIGN 3). */
enum target_knows {
    TARGET_NOTHING,
    TARGET_CLAIM /* an empty claim, position null */,
    TARGET_POSITION
};
struct source_start {
    enum target_knows knows;
    bool temporary; /* TARGET_NOTHING: the target never owns a position; the log is kept for this run
                       only (PostgreSQL: a temporary slot, unless ?slot= names one) */
    struct logpos applied, resume; /* of TARGET_POSITION */
    const char *lineage; /* of TARGET_POSITION: the JSON object that source_started gave when it was
                            stored */
};
struct source_started {
    struct logpos from;   /* the log session must be opened here: events at or below are not to be
                             delivered again */
    uint64_t see_from_tx; /* X: no chunk may use a snapshot with xmin below it (DESIGN 4, rule 0); 0
                             = none */
    char lineage[512];    /* JSON object to store with the position */
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
    const void *lo,
        *hi; /* key range [lo, hi); whole table: the piece's bounds as lane_cut gave them */
    size_t lo_len, hi_len; /* 0 = open */
    bool whole;
    bool exact;        /* the one row whose key is lo (hi unused); the key need not be orderable */
    uint32_t rows_max; /* key range: at most so many rows, in key order */
    uint32_t batch_rows;
};

struct source_ops {
    const char *name; /* scheme: "postgres" */
    const struct opt_spec *opts;

    int (*open)(const struct source_address *addr, struct env *env, table_select_fn select,
                const void *rules, struct source **out, struct err *err);
    void (*close)(struct source *s);
    /* Settings and rights that are missing, each with its cure. For plan, and before a start: a
     * fatal finding stops the job with EXIT_PLAN. */
    int (*examine)(struct source *s, struct source_findings *out, struct err *err);
    int (*catalogue)(struct source *s, struct source_catalogue *out, struct err *err);
    /* Could the log go on from there? Reads only; the decision is a pure step function. ERR_FATAL
     * with EXIT_LINEAGE or EXIT_FENCED. On TARGET_CLAIM or TARGET_NOTHING it creates publication
     * and slot where they are missing (TARGET_NOTHING with an existing slot of the job =
     * EXIT_LINEAGE). */
    int (*start)(struct source *s, const struct source_start *req, struct source_started *out,
                 struct err *err);
    /* Brings tables of the catalogue into what the log carries (ALTER PUBLICATION ADD). Gives the
     * new X and the log position from which they are carried. Idempotent. */
    int (*capture)(struct source *s, const uint64_t *table_ids, uint32_t count,
                   uint64_t *see_from_tx, struct logpos *from, struct err *err);
    int (*probe)(struct source *s, struct snapshot *out, struct err *err); /* a row-less snapshot */
    int (*nudge)(
        struct source *s,
        struct err *err); /* makes the server flush its log's end; at most once a second is sent */
    int (*log_end)(struct source *s, struct logpos *out,
                   struct err *err); /* H of an empty set: the log's end now */
    int (*status)(struct source *s, struct source_status *out, struct err *err);
    /* Did the rows of a table change without the log saying so, between these two definitions (a
     * rewriting ALTER, a column added with a default)? Pure. */
    bool (*rewritten)(const struct schema *before, const struct schema *after);
    int (*drop)(struct source *s, struct err *err); /* slot and publications of the job */
    int (*drop_plan)(struct source *s, struct buf *out,
                     struct err *err); /* what drop would do, one SQL statement a line */
    int (*slots)(struct source *s, struct buf *out,
                 struct err *err); /* table for people: the server's slots that are ours */

    /* Log session: takes the slot (waits for a dead holder as DESIGN 3 says; a living one =
     * ERR_FATAL, EXIT_FENCED). Thread: the log task. */
    int (*log_open)(struct source *s, struct logpos from, struct source_log **out, struct err *err);
    void (*log_close)(struct source_log *log);
    /* The next segment, or *out = NULL at the deadline. Answers keep-alives and sends feedback by
     * itself, at least each 10 s of calls; callers that are not ready for another segment call
     * log_idle instead, which does only that. */
    int (*log_next)(struct source_log *log, int64_t deadline_us, struct segment **out,
                    struct err *err);
    int (*log_idle)(struct source_log *log, int64_t deadline_us, struct err *err);
    void (*log_ack)(struct source_log *log,
                    struct logpos resume); /* Thread: any. What the target holds; sent with the next
                                              feedback, never lowered */
    void (*log_wake)(struct source_log *log); /* Thread: any. Ends a wait of log_next or log_idle */
    void (*log_want)(struct source_log *log,
                     struct logpos pos); /* Thread: any. Somebody waits for the log to pass pos: ask
                                            the server how far it is */

    /* Lane session. Thread: its lane task. */
    int (*lane_open)(struct source *s, unsigned number, struct source_lane **out, struct err *err);
    void (*lane_close)(struct source_lane *l);
    /* Cuts a table into at most pieces_max ranges: out gets the pieces-1 inner bounds, each as u32
     * length + bytes. Key ranges: key.h's encoding. Whole table (inside begin..end only): opaque
     * piece bounds. */
    int (*lane_cut)(struct source_lane *l, const struct schema *schema, bool whole,
                    uint32_t pieces_max, struct buf *bounds, uint32_t *pieces, struct err *err);
    /* A transaction: lock, then snapshot. With export_name (64 bytes), the snapshot is exported for
     * lane_join. */
    int (*lane_begin)(struct source_lane *l, const struct schema *schema, struct chunk_view *out,
                      char *export_name, struct err *err);
    int (*lane_join)(struct source_lane *l, const struct schema *schema, const char *export_name,
                     struct err *err);
    int (*lane_read)(struct source_lane *l, const struct chunk_read *req, struct err *err);
    /* The next rows of lane_read, sealed; *out = NULL at the end. A batch is at most about
     * BATCH_BYTES_GOAL plus one row. */
    int (*lane_next)(struct source_lane *l, struct batch **out, struct err *err);
    int (*lane_stop)(struct source_lane *l,
                     struct err *err); /* ends lane_read early; the rest is thrown away */
    int (*lane_end)(struct source_lane *l, struct err *err); /* ends the transaction */

    int (*put_logpos)(struct buf *out, struct logpos pos);    /* text form, e.g. 0/16B3748. Pure */
    int (*take_logpos)(const char *text, struct logpos *out); /* and back; -1 = malformed. Pure */
};
/* First member of every implementation's own structs. */
struct source {
    const struct source_ops *ops;
};
struct source_log {
    const struct source_ops *ops;
};
struct source_lane {
    const struct source_ops *ops;
};
