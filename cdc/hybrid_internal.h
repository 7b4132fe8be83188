/* Inside of the hybrid algorithm; included by cdc/hybrid*.c (and its unit tests) only. Which file
 * does what: see hybrid.c. */
#pragma once
#include "cdc/base/map.h"
#include "cdc/base/metrics.h"
#include "cdc/held.h"
#include "cdc/hybrid.h"
#include "cdc/key.h"
#include "cdc/overlay.h"
#include "cdc/span.h"

#define HOLES_MAX 64u
#define HOLE_BYTES_MAX 2048u
#define KEY_BYTES_MAX (1u << 20)

enum chunk_kind { KIND_RANGE, KIND_EXACT, KIND_WHOLE };
enum chunk_phase { PHASE_OPEN, PHASE_READING, PHASE_READ, PHASE_FLOWING };

struct table {
    uint64_t id;
    struct schema *current;    /* at the stream's position, versioned; what rows go out with */
    struct schema *definition; /* as the catalogue had it last */
    struct schema *seen; /* the connector's instance that was last found to have current's rows */
    uint32_t generation;
    bool begun; /* a row of this generation was emitted */
    bool captured;
    bool gone;
    bool ending; /* no longer in the catalogue, but in the log up to ends_at */
    struct logpos ends_at;
    bool complete;   /* everything joined (holes aside) */
    bool unverified; /* its definition changed in the log; the catalogue was not read since */
    bool whole;
    bool cut_asked, cut_done;
    uint64_t cut_id;
    uint64_t see_from_tx;     /* X */
    struct logpos defined_at; /* W */
    struct logpos captured_from;
    struct spans joined, todo, again;
    struct map *holes; /* key -> itself */
    struct map *lost;  /* columns that the catalogue dropped and rows of this generation had */
    size_t hole_bytes;
    uint64_t rows_estimate, bytes_estimate, rows_read;
};

struct hybrid_chunk {
    uint64_t id;
    struct table *table;
    enum chunk_kind kind;
    enum chunk_phase phase;
    struct buf lo, hi; /* RANGE; EXACT: lo is the key */
    uint64_t *need;    /* transactions that were loose at P0 */
    uint32_t need_count;
    struct snapshot snapshot;  /* S, from READING on */
    struct logpos high;        /* H */
    struct logpos joined;      /* J of a flowing chunk */
    bool again;                /* its range had joined before: the target may have rows of it */
    struct schema *definition; /* what the lane was told to read; P0 is at or above its W */
    struct schema *schema;     /* under the lock; from READING on */
    struct batch **rows;       /* RANGE, EXACT: held to the end */
    uint32_t row_batches, row_cap;
    size_t rows_bytes;
    uint64_t row_count;
    struct overlay *overlay; /* keyed tables */
    struct held later;       /* WHOLE: events that follow the rows, in order */
    char export_name[64];
    struct buf bounds; /* of the pieces: u32 length and bytes each */
    uint32_t pieces, pieces_taken, pieces_read;
};

struct hybrid {
    struct hybrid_config config;
    hybrid_emit_fn emit;
    void *emit_arg;
    struct table **tables; /* sorted by id */
    uint32_t table_count, table_cap;
    struct hybrid_chunk **chunks; /* in the order in which they were opened */
    uint32_t chunk_count, chunk_cap;
    uint64_t next_id;
    uint64_t *loose;
    uint32_t loose_count, loose_cap;
    struct logpos applied, resume;
    bool border;
    bool some_end; /* some table is ending */
    bool shape_changed, schemas_changed, wants_catalogue;
    uint32_t holes;
    size_t hole_bytes;
    const char **labels;     /* last answer of hybrid_inconsistent */
    struct schema **schemas; /* last answer of hybrid_schemas */
};

/* hybrid_tables.c */
struct table *table_find(struct hybrid *h, uint64_t id);
struct table *table_add(struct hybrid *h, struct schema *definition);
void table_free(struct table *t);
bool table_consistent(const struct table *t);
/* Must its rows be read again, as its definition is `now`: the log does not show what became of
 * them, or the target cannot make one of the other? */
bool table_needs_anew(const struct hybrid *h, const struct table *t, const struct schema *now);
/* The log shows this shape: are its columns' `missing` to be believed? Then what its marks say of
 * the rows is known from here on. */
bool table_trusts(struct hybrid *h, struct table *t, struct schema *shape);
/* Rows of this shape bring the target a column that its rows so far lack and in which they have, as
 * `known` says, what the target can tell of them (taken), or cannot. */
bool table_owes(const struct hybrid *h, const struct table *t, const struct schema *shape,
                const struct schema *known, bool taken);
/* Only the target's part of table_needs_anew. */
bool target_needs_anew(const struct hybrid *h, const struct schema *before,
                       const struct schema *after);
bool same_key(const struct schema *a, const struct schema *b); /* columns, types and their order */
int table_rewrite_stops(const struct schema *schema, struct err *err); /* the error; -1 */
/* Reads the table again from its beginning: a new generation if anything of this one may be in the
 * target. */
void table_restart(struct hybrid *h, struct table *t);
/* The rows that follow have this shape: a new version. trusted: what its new columns' `missing`
 * says goes out with it, where the target takes it; else they have none. */
void table_advance(struct hybrid *h, struct table *t, struct schema *schema, bool trusted);
bool same_definition(const struct schema *a, const struct schema *b);
void table_redefine(struct hybrid *h, struct table *t, struct schema *definition, struct logpos at);
void tables_end(struct hybrid *h); /* those whose end the log has reached */
void table_start_showing(struct hybrid *h, struct table *t);
void table_check_complete(struct hybrid *h, struct table *t);
void table_add_hole(struct hybrid *h, struct table *t, const void *key, size_t len);
void table_drop_hole(struct hybrid *h, struct table *t, const void *key, size_t len);
void table_drop_holes(struct hybrid *h, struct table *t); /* all, and the chunks of them */

/* hybrid_lanes.c */
struct hybrid_chunk *chunk_find(struct hybrid *h, uint64_t id);
struct hybrid_chunk *chunk_open(struct hybrid *h, struct table *t, enum chunk_kind kind);
void chunk_remove(struct hybrid *h, struct hybrid_chunk *c); /* frees it */
/* Drops rows and events; its range will be opened again. A flowing chunk restarts its table. */
void chunk_give_up(struct hybrid *h, struct hybrid_chunk *c);
void chunk_add_later(struct hybrid_chunk *c, const struct batch *b, const uint8_t *keep);
/* Rows of a keyless table whose transactions S saw are dropped from keep. */
void chunk_drop_seen(const struct hybrid_chunk *c, const struct batch *b, uint8_t *keep);

/* hybrid_route.c: takes the batch; *out is what goes on now, or NULL. */
int hybrid_route(struct hybrid *h, struct batch *take_batch, struct batch **out, struct err *err);

/* hybrid_join.c */
int hybrid_join_ready(struct hybrid *h, struct err *err);
void chunk_start_flowing(struct hybrid *h, struct hybrid_chunk *c);
int chunk_emit_rows(struct hybrid *h, struct hybrid_chunk *c, struct batch *take_batch,
                    struct err *err);

/* hybrid.c */
bool held_is_full(const struct hybrid *h); /* and what is held cannot be made less by spilling */
void loose_put(struct hybrid *h, uint64_t tx);
