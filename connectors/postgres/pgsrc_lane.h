/* A lane's session, shared by the files that make it up: pgsrc_lane.c its transactions and reads,
 * pgsrc_lane_cut.c the pieces of a table and the files they lie in. Thread: the lane's task. */
#pragma once
#include "connectors/postgres/pgsrc_chunk.h"
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_wire.h"

/* A table with blocks of its own: an ordinary one, or a leaf of a partitioned one. */
struct pgsrc_heap {
    uint32_t oid, blocks;
    char *space, *name;
    bool readable;
};
struct pgsrc_work {
    struct pgsrc_heap *heap; /* NULL: the whole table */
    bool ctid;
    uint32_t first, end;
};

struct pgsrc_lane {
    struct source_lane base;
    struct pgsrc *s;
    struct pgsrc_session *session;
    struct pgsrc_types *types;
    struct pgsrc_wire *wire;
    bool planner_set; /* in this transaction */
    bool broken;      /* a read ended in the middle: the connection is of no use any more */
    /* Of the schema read last. */
    struct schema *schema;
    struct pgsrc_plan *plan;
    uint32_t *base_oid;
    bool *binary;
    uint32_t *room; /* see batch_reserve */
    /* Of the running read. */
    bool reading, many; /* many: the rows of a batch, or more */
    uint32_t batch_rows;
    struct pgsrc_heap *heaps;
    uint32_t heap_count;
    struct pgsrc_work *work;
    uint32_t work_count, work_at;
    struct err failure; /* what the server reported; kind NONE = nothing */
};

/* Decoders for the rows of a schema. */
int pgsrc_lane_use(struct pgsrc_lane *l, const struct schema *schema,
                   struct err *err) TR_MUST_CHECK;
/* What to read of which files for a piece of a whole table. Inside the transaction. ERR_FATAL
 * "bound_malformed". */
int pgsrc_lane_plan(struct pgsrc_lane *l, const struct chunk_read *req,
                    struct err *err) TR_MUST_CHECK;
void pgsrc_lane_drop_heaps(struct pgsrc_lane *l);
static inline bool pgsrc_is_partitioned(const struct schema *schema) {
    return schema->storage[0] == 'p';
}
/* The table as FROM names it; b is initialised here. */
const char *pgsrc_lane_from(struct buf *b, const struct schema *schema);
