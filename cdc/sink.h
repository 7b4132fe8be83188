/* The sink door: targets that own the position of a job. See DESIGN section 3.
 *
 * A commit makes rows and position visible at once, only if the stored position is still `from` and
 * the epoch is the newest. Its outcome is no error but an enum; UNKNOWN is asked again with
 * resolve, nothing is deleted and nothing blindly retried. Threads: open, examine, peek, recover,
 * summary and close: the supervisor, while no commit task runs; apply_schema, commit, resolve and
 * part_free: the commit task. Writers: their own task. These are the contracts; callers go through
 * cdc/sink_call.h, which checks them. A call is made with an empty err; -1 means it is filled. */
#pragma once
#include "cdc/base/env.h"
#include "cdc/base/opt.h"
#include "cdc/batch.h"
#include "cdc/source.h"

struct sink;
struct sink_writer;
struct sink_part; /* what a writer sealed: staged, durable enough, invisible; meaning known to its
                     sink */

struct sink_address {
    const char *scheme, *hosts, *path, *user, *secret;
    const struct opts *opts;
    const char *job;
    int (*put_logpos)(struct buf *out,
                      struct logpos pos); /* of the source: positions in rows are text */
};

/* What a target knows of a job. */
struct sink_state {
    enum target_knows knows;
    char *position; /* owned; ASCII JSON of position.h's stored form, at most 8 KiB; NULL without
                       one */
    uint64_t epoch; /* newest claimed; after recover: ours */
    uint64_t seq;   /* of the last commit */
    struct schema **schemas; /* owned: every table's schema as of the position */
    uint32_t schema_count;
};
void sink_state_release(struct sink_state *s);

/* What a target would make of tables, for plan; or what it has, for status. */
struct sink_description {
    struct buf lines; /* for people, each ended by a line feed */
    struct buf json;  /* the same as one object; "" = nothing to say */
    struct source_findings findings;
};
void sink_description_init(struct sink_description *d);
void sink_description_release(struct sink_description *d);

enum commit_outcome {
    COMMIT_FAILED = -1 /* err set; surely not committed */,
    COMMITTED = 0,
    COMMIT_CONFLICT,
    COMMIT_FENCED,
    COMMIT_UNKNOWN
};
enum resolve_outcome {
    RESOLVE_FAILED = -1,
    RESOLVED_COMMITTED = 0,
    RESOLVED_NOT_COMMITTED,
    RESOLVE_UNKNOWN
};

struct commit_request {
    uint64_t epoch;
    uint64_t seq;             /* last + 1 */
    const char *from;         /* position before; NULL = none */
    const char *to;           /* position after */
    struct sink_part **parts; /* one a writer, in writer order; NULL entries = nothing staged */
    uint32_t part_count;
    uint64_t rows;
    /* No rows, no change in which tables are consistent: may be stored more cheaply. */
    bool position_only;
    /* Labels of the tables with a chunk or hole that has not joined, sorted. */
    const char *const *inconsistent;
    uint32_t inconsistent_count;
    struct schema *const *schemas; /* all tables, sorted by table_id */
    uint32_t schema_count;
    bool schemas_changed; /* since the last commit: apply_schema was called */
};

/* In line with the rows: what a writer stages, in this order. */
enum stage_kind {
    /* batches[0..count): rows in the order (tx, n) across them if they have a txlist, else
     * snapshot rows of one batch */
    STAGE_ROWS,
    /* batch-less: all rows of lower generations of the table are void */
    STAGE_GENERATION,
    /* batches[0]: rows, only keys count, to be taken out of the target (holes; rule 6) */
    STAGE_REMOVE,
};
struct stage_item {
    enum stage_kind kind;
    struct batch **batches; /* borrowed */
    uint32_t count;
    struct schema *schema; /* of STAGE_GENERATION; borrowed */
    uint32_t generation;   /* of STAGE_GENERATION */
    struct logpos at;      /* of STAGE_GENERATION and STAGE_REMOVE */
};

/* Opening touches nothing; path and rights are looked at by examine (for plan; reads only). */
typedef int (*sink_open_fn)(const struct sink_address *addr, struct env *env, struct sink **out,
                            struct err *err);
typedef void (*sink_close_fn)(struct sink *s);
typedef int (*sink_examine_fn)(struct sink *s, struct source_findings *out, struct err *err);
/* How tables would be stored and what stands in the way, for plan; with tables NULL what stands
 * there now, for status. Reads only. */
typedef int (*sink_describe_fn)(struct sink *s, const struct source_catalogue *tables,
                                struct sink_description *out, struct err *err);
/* What the target knows. Reads only: for plan, status and the start of the log. */
typedef int (*sink_peek_fn)(struct sink *s, struct sink_state *out, struct err *err);
/* Claims a new epoch (fences older instances), settles what was in doubt, and says what the target
 * knew before the claim. */
typedef int (*sink_recover_fn)(struct sink *s, struct sink_state *out, struct err *err);
/* Before the commit whose schemas_changed is set; idempotent. */
typedef int (*sink_apply_schema_fn)(struct sink *s, const struct commit_request *next,
                                    struct err *err);
/* The one atomic act. After COMMIT_UNKNOWN only resolve is called until it answers. */
typedef enum commit_outcome (*sink_commit_fn)(struct sink *s, const struct commit_request *req,
                                              struct err *err);
typedef enum resolve_outcome (*sink_resolve_fn)(struct sink *s, const struct commit_request *req,
                                                struct err *err);
/* The definition of a table became another one: must all rows go out anew, because what the target
 * has of them cannot become what `after` says? Then a new generation begins: STAGE_GENERATION comes
 * before any row of it. Pure. Thread: any. */
typedef bool (*sink_needs_anew_fn)(const struct sink *s, const struct schema *before,
                                   const struct schema *after);
/* A column that is added: can the target say of all rows that it has by then that its cells are
 * the column's `missing` (which is there)? Pure. Thread: any. */
typedef bool (*sink_takes_missing_fn)(const struct sink *s, const struct schema *schema,
                                      uint16_t column);
/* A line for people at the end ("" = none): discard's counts and digest. */
typedef int (*sink_summary_fn)(struct sink *s, struct buf *out, struct err *err);

/* Writers. Thread: their own task. Closing drops what was not sealed. */
typedef int (*sink_writer_open_fn)(struct sink *s, uint32_t number, struct sink_writer **out,
                                   struct err *err);
typedef void (*sink_writer_close_fn)(struct sink_writer *w);
typedef int (*sink_writer_stage_fn)(struct sink_writer *w, const struct stage_item *item,
                                    struct err *err);
/* Everything staged since the last seal belongs to commit `seq`; *out = NULL if nothing was. The
 * part is freed by part_free after the commit is settled. */
typedef int (*sink_writer_seal_fn)(struct sink_writer *w, uint64_t seq, struct sink_part **out,
                                   struct err *err);
/* Thread: the commit task. Not committed: its staged bytes may go, but never after UNKNOWN. */
typedef void (*sink_part_free_fn)(struct sink_part *part, bool committed);

/* For sinks that have nothing to say. */
int sink_describes_nothing(struct sink *s, const struct source_catalogue *tables,
                           struct sink_description *out, struct err *err);
int sink_sums_up_nothing(struct sink *s, struct buf *out, struct err *err);

struct sink_ops {
    const char *name; /* scheme: "jsonl" */
    const struct opt_spec *opts;
    bool owns_position;   /* false: stdout, discard */
    bool stages;          /* staged rows stay invisible until commit */
    uint32_t writers_max; /* 1: all tables through one writer, in log order */
    int64_t freshness_us; /* default distance between commits */
    /* While a table is being read for the first time, a commit also after so many bytes of rows; 0
     * = BARRIER_SNAPSHOT_BYTES. Sinks whose files should be large want many. */
    uint64_t snapshot_bytes;

    sink_open_fn open;
    sink_close_fn close;
    sink_examine_fn examine;
    sink_describe_fn describe;
    sink_peek_fn peek;
    sink_recover_fn recover;
    sink_apply_schema_fn apply_schema;
    sink_needs_anew_fn needs_anew;       /* NULL: never */
    sink_takes_missing_fn takes_missing; /* NULL: never */
    sink_commit_fn commit;
    sink_resolve_fn resolve;
    sink_summary_fn summary;

    sink_writer_open_fn writer_open;
    sink_writer_close_fn writer_close;
    sink_writer_stage_fn writer_stage;
    sink_writer_seal_fn writer_seal;
    sink_part_free_fn part_free;
};
/* First member of every implementation's own structs, zero but for ops. What follows ops is kept
 * and looked at by cdc/sink_call.h alone. */
struct sink {
    const struct sink_ops *ops;
    bool recovered;
    bool positioned;       /* it has a position: commits are `from` one */
    uint64_t epoch, seq;   /* ours, and of the last commit */
    uint64_t applied_seq;  /* of the commit that apply_schema was called for; 0 = none */
    uint64_t doubtful_seq; /* of the commit whose outcome is unknown; 0 = none */
};
struct sink_writer {
    const struct sink_ops *ops;
    bool staged; /* something since the last seal */
    uint64_t sealed_seq;
};
