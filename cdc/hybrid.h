/* The hybrid source: snapshot chunks that join the log's stream at H. One algorithm for every
 * database, as a pure state machine: no thread, no file, no clock. DESIGN section 4 gives the rules
 * and their numbers; the state diagram is at the top of hybrid.c.
 *
 * Thread: the merge task alone. It feeds log segments, lane news and probe snapshots in, and takes
 * out what goes to the sink. Lanes walk chunks: hybrid_next -> (lane) begin -> hybrid_view -> rows
 * -> hybrid_rows* -> hybrid_end. */
#pragma once
#include "cdc/base/err.h"
#include "cdc/segment.h"
#include "cdc/sink.h"
#include "cdc/source.h"
#include "cdc/spool.h"

struct hybrid;
struct hybrid_chunk; /* opened by hybrid_next, dead after it joined or was given up; compare by id
                      */

struct hybrid_config {
    const struct source_ops *source; /* rewritten, added, put_logpos, take_logpos only */
    const struct sink *sink;         /* needs_anew, takes_missing only; NULL: nothing ever does */
    const struct spool_ops *spool_ops;
    void *spool;
    struct metrics *metrics;
    size_t held_bytes_max; /* events held in memory; beyond it they go to the spool */
    size_t rows_bytes_max; /* chunk rows that wait for H: no chunk is opened without credit for
                              chunk_bytes of it */
    uint32_t chunk_rows;   /* goal for a key-range chunk */
    size_t chunk_bytes;
    uint32_t sections_max; /* a table is cut into at most so many sections */
    uint64_t see_from_tx;  /* X of rule 0 */
    bool snapshot_never;   /* ?snapshot=never: every table counts as joined */
    bool rewrite_stops;    /* ?on_rewrite=stop: a rewritten table is an error of hybrid_catalogue */
};

/* What comes out, in the order it must reach the sink. The callback takes the references. */
enum hybrid_out_kind { OUT_ROWS, OUT_GENERATION, OUT_REMOVE };
struct hybrid_out {
    enum hybrid_out_kind kind;
    struct batch **batches; /* ROWS of the log: those of one segment; of a snapshot: one. Callee
                               takes the references, not the array */
    uint32_t count;
    struct schema *schema; /* of GENERATION; borrowed */
    uint32_t generation;
    struct logpos at;
};
typedef void (*hybrid_emit_fn)(void *arg, const struct hybrid_out *out);

struct hybrid *hybrid_new(const struct hybrid_config *config, hybrid_emit_fn emit, void *emit_arg);
void hybrid_free(struct hybrid *h);
/* schemas: as the target knows them at `applied` (may be empty); stored: the JSON object that holds
 * what hybrid_put_position wrote into a position, or NULL without one. resume: as stored with it,
 * lower than applied only while a prepared transaction needs it. */
int hybrid_restore(struct hybrid *h, struct logpos applied, struct logpos resume,
                   const char *stored, struct schema *const *schemas, uint32_t schema_count,
                   struct err *err);
/* The catalogue as of W: new tables begin, vanished ones end, rewritten ones begin a new
 * generation, or are an error (FATAL "table_rewritten") where rewrite_stops. First call before the
 * first segment, again whenever it was read anew. Its entries are usable. */
int hybrid_catalogue(struct hybrid *h, const struct source_catalogue *catalogue, struct err *err);
/* Ids of tables that are known and not yet brought into the log by source_ops.capture, and the
 * answer to it. */
uint32_t hybrid_uncaptured(const struct hybrid *h, uint64_t *ids, uint32_t max);
void hybrid_captured(struct hybrid *h, const uint64_t *ids, uint32_t count, uint64_t see_from_tx,
                     struct logpos from);

/* The log went on. Takes the segment. Emits, holds or drops its rows; joins what is ready. */
int hybrid_segment(struct hybrid *h, struct segment *take_segment, struct err *err);
/* A snapshot was seen: what it sees is no longer loose. */
void hybrid_seen(struct hybrid *h, const struct snapshot *s);

/* Lanes. */
struct chunk_order {
    uint64_t id;           /* of the chunk */
    struct schema *schema; /* owned reference */
    bool whole;
    bool exact; /* one row: the one whose key is lo */
    bool cut; /* the lane first cuts the table and answers with hybrid_cut; no chunk is open yet */
    bool piece; /* a further piece of a whole-table chunk that another lane opened: join its
                   snapshot */
    char export_name[64]; /* of piece: to import */
    struct buf lo, hi;    /* owned */
    uint32_t rows_max;
    uint32_t pieces_max; /* of cut */
};
void chunk_order_release(struct chunk_order *o);
/* Work for a lane, or false when there is none now. A key-range chunk is opened at the present
 * stream position. */
bool hybrid_next(struct hybrid *h, struct chunk_order *out);
void hybrid_cut(struct hybrid *h, uint64_t id, const void *bounds, size_t bounds_len,
                uint32_t pieces);
enum chunk_verdict {
    CHUNK_GO,    /* read the rows */
    CHUNK_AGAIN, /* S does not see what it must: end the transaction and take another snapshot, soon
                  */
    CHUNK_ENOUGH, /* (rows only) the byte goal is reached: lane_stop, then hybrid_end(complete =
                     false) */
    CHUNK_DROP,   /* the chunk is over (definition changed, table gone, given up): end the
                     transaction, ask for other work */
};
/* For a whole-table chunk export_name and the piece bounds (as lane_cut gave them) come with it.
 * Takes the view's contents. */
enum chunk_verdict hybrid_view(struct hybrid *h, uint64_t id, struct chunk_view *take_view,
                               const char *export_name, const void *bounds, size_t bounds_len,
                               uint32_t pieces);
/* Rows of the chunk, in key order for a key range; takes the reference. CHUNK_GO, CHUNK_ENOUGH or
 * CHUNK_DROP (stop reading, end the transaction). */
enum chunk_verdict hybrid_rows(struct hybrid *h, uint64_t id, struct batch *take_batch,
                               struct err *err);
/* End of a read. complete = false: the range ended after the last row given (its rows_max or byte
 * goal was reached). */
int hybrid_end(struct hybrid *h, uint64_t id, bool complete, struct err *err);
/* The next unread piece of an open whole-table chunk, for a lane that is in its snapshot (the
 * exporter after CHUNK_GO, or a lane that joined it): fills lo, hi, schema, whole. PIECE_WAIT: the
 * log has not passed H yet, ask again after the next segment (rows of a whole-table chunk flow at
 * once, so none is read before). PIECE_NONE: none is left, or the chunk is over. Every piece's read
 * ends with hybrid_end(id, true). An idle lane gets a first piece from hybrid_next (order.piece).
 */
enum piece_answer { PIECE_READ, PIECE_WAIT, PIECE_NONE };
enum piece_answer hybrid_piece(struct hybrid *h, uint64_t id, struct chunk_order *out);
/* May the exporting lane end its transaction (all pieces of its whole-table chunk were read)? */
bool hybrid_pieces_done(const struct hybrid *h, uint64_t id);
void hybrid_fail(
    struct hybrid *h,
    uint64_t id); /* the lane failed: give the chunk (or the flowing table's generation) up */

/* Where it stands. */
struct logpos hybrid_applied(const struct hybrid *h);
struct logpos hybrid_resume(const struct hybrid *h);
bool hybrid_at_border(const struct hybrid *h); /* a barrier may be placed now */
bool hybrid_joined(const struct hybrid *h);    /* every table, no hole */
struct logpos
hybrid_wants(const struct hybrid *h); /* highest H somebody waits for, NONE if nobody */
bool hybrid_log_must_wait(
    const struct hybrid *h); /* only flowing chunks are left and their held events reached the
                                limit: hand no segment in */
bool hybrid_wants_catalogue(struct hybrid *h,
                            bool reset); /* a definition changed in the log: read the catalogue
                                            soon, not at the next poll */
uint32_t hybrid_loose(const struct hybrid *h); /* loose transactions now: probe when it grows, and
                                                  before a position is sealed */
/* What the next commit says: changed since the last call with reset. */
bool hybrid_shape_changed(struct hybrid *h,
                          bool reset); /* which tables are consistent, or a generation */
bool hybrid_schemas_changed(struct hybrid *h, bool reset);
/* Arrays stay valid until the next call into h. */
uint32_t hybrid_inconsistent(struct hybrid *h, const char *const **labels);
uint32_t hybrid_schemas(struct hybrid *h, struct schema *const **schemas);
/* Appends `"tables":...,"loose":...` (no braces). -1 when it does not fit into max bytes: probe and
 * ask again. */
int hybrid_put_position(struct hybrid *h, struct buf *out, size_t max);
/* For status: one entry a table. */
struct hybrid_table_status {
    const char *label;
    const char *phase;
    uint32_t generation;
    uint64_t rows_read, rows_estimate;
    uint32_t holes;
};
uint32_t hybrid_status(struct hybrid *h, struct hybrid_table_status *out, uint32_t max);
