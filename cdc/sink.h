/* The sink door: targets that own the position of a job. See DESIGN section 3.
 *
 * A commit makes rows and position visible at once, only if the stored position is still `from` and
 * the epoch is the newest. Its outcome is no error but an enum; UNKNOWN is asked again with
 * resolve, nothing is deleted and nothing blindly retried. Threads: open, peek, recover,
 * apply_schema, commit, resolve, close: the commit task only (peek also before it runs). Writers:
 * their own task. */
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
    bool position_only; /* no rows, no change in which tables are consistent: may be stored more
                           cheaply */
    const char *const
        *inconsistent; /* labels of the tables with a chunk or hole that has not joined, sorted */
    uint32_t inconsistent_count;
    struct schema *const *schemas; /* all tables, sorted by table_id */
    uint32_t schema_count;
    bool schemas_changed; /* since the last commit: apply_schema was called */
};

/* In line with the rows: what a writer stages, in this order. */
enum stage_kind {
    STAGE_ROWS, /* batches[0..count): rows in the order (tx, n) across them if they have a txlist,
                   else snapshot rows of one batch */
    STAGE_GENERATION, /* batch-less: all rows of lower generations of the table are void */
    STAGE_REMOVE, /* batches[0]: rows, keys only count, to be taken out of the target (holes; DESIGN
                     4 rule 6) */
};
struct stage_item {
    enum stage_kind kind;
    struct batch **batches; /* borrowed */
    uint32_t count;
    struct schema *schema; /* of STAGE_GENERATION; borrowed */
    uint32_t generation;   /* of STAGE_GENERATION */
    struct logpos at;      /* of STAGE_GENERATION and STAGE_REMOVE */
};

struct sink_ops {
    const char *name; /* scheme: "jsonl" */
    const struct opt_spec *opts;
    bool owns_position;   /* false: stdout, discard */
    bool stages;          /* staged rows stay invisible until commit */
    uint32_t writers_max; /* 1: all tables through one writer, in log order */
    int64_t freshness_us; /* default distance between commits */

    int (*open)(const struct sink_address *addr, struct env *env, struct sink **out,
                struct err *err);
    void (*close)(struct sink *s);
    int (*examine)(struct sink *s, struct source_findings *out,
                   struct err *err); /* for plan: writable? reads only */
    int (*peek)(struct sink *s, struct sink_state *out, struct err *err); /* reads only */
    int (*recover)(struct sink *s, struct sink_state *out,
                   struct err *err); /* claims a new epoch, settles what was in doubt */
    int (*apply_schema)(
        struct sink *s, const struct commit_request *next,
        struct err *err); /* before the commit whose schemas_changed is set; idempotent */
    enum commit_outcome (*commit)(struct sink *s, const struct commit_request *req,
                                  struct err *err);
    enum resolve_outcome (*resolve)(struct sink *s, const struct commit_request *req,
                                    struct err *err);

    int (*writer_open)(struct sink *s, uint32_t number, struct sink_writer **out, struct err *err);
    int (*writer_stage)(struct sink_writer *w, const struct stage_item *item, struct err *err);
    /* Everything staged since the last seal belongs to commit `seq`; *out = NULL if nothing was.
     * The part is freed by part_free after the commit is settled. */
    int (*writer_seal)(struct sink_writer *w, uint64_t seq, struct sink_part **out,
                       struct err *err);
    void (*writer_close)(struct sink_writer *w); /* drops what was not sealed */
    void (*part_free)(
        struct sink_part *part,
        bool committed); /* not committed: its staged bytes may go, never after UNKNOWN */
    int (*summary)(struct sink *s, struct buf *out,
                   struct err *err); /* a line for people at the end ("" = none): discard's counts
                                        and digest */
};
struct sink {
    const struct sink_ops *ops;
};
struct sink_writer {
    const struct sink_ops *ops;
};
