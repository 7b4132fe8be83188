/* A batch: changelog rows of one table and one schema version, stored by column. Built by one task,
 * then sealed: from there on immutable, reference-counted and handed from task to task.
 *
 * Rows of the log carry their place in it: index of their transaction in the batch's txlist, and n,
 * their ordinal within that transaction (an update's before- and after-row share n). Rows of a
 * snapshot carry none: kinds, tx and n are NULL and every row is an insert.
 *
 * Cell states: value, null (valid bit 0), not carried (absent bit 1, valid bit 0). An update-after
 * whose before-row was not carried by the log stands alone: its key did not change. A not carried
 * cell of an after-row equals the before-row's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/position.h"
#include "cdc/schema.h"

enum row_kind {
    ROW_INSERT = 0,
    ROW_UPDATE_BEFORE = 1,
    ROW_UPDATE_AFTER = 2,
    ROW_DELETE = 3,
    ROW_TRUNCATE = 4
};

struct tx {
    uint64_t
        id; /* the source's number of the transaction (PostgreSQL: 64-bit xid); see snapshot.h */
    struct logpos commit; /* of its commit record: order, and what people see */
    struct logpos end;    /* after its commit: what is stored as applied */
    int64_t time_us;      /* commit time, microseconds since 2000-01-01 UTC */
};
/* The transactions of one segment of the log, in commit order. Immutable once shared. */
struct txlist {
    _Atomic uint32_t refs;
    uint32_t count;
    uint32_t cap;
    struct tx *at;
};
struct txlist *txlist_new(void);
uint32_t txlist_add(struct txlist *list, const struct tx *tx); /* index; before sharing */
struct txlist *txlist_ref(struct txlist *list);
void txlist_unref(struct txlist *list);

struct column {
    uint8_t *valid;    /* bitmap, bit r&7 of byte r>>3; NULL = every row has a value */
    uint8_t *absent;   /* bitmap of not carried cells; NULL = none */
    uint8_t *data;     /* fixed: rows_cap * width bytes; variable: data_cap bytes */
    uint32_t *offsets; /* variable only: rows+1 entries, offsets[0] = 0 */
    size_t data_cap;   /* variable only */
    uint32_t width;    /* 0 = variable */
};

struct batch {
    _Atomic uint32_t refs;
    struct schema *schema; /* owned reference */
    uint32_t rows;
    uint32_t rows_cap;
    uint8_t *kinds; /* enum row_kind a row; NULL = snapshot rows */
    uint32_t *tx;   /* index into txs */
    uint32_t *n;
    struct txlist *txs; /* owned reference; NULL for a snapshot */
    bool sealed;
    bool backfill; /* snapshot rows of a generation above the first, or asked for by backfill */
    bool again; /* snapshot rows of a range that had joined before: the target may have them already
                 */
    uint32_t generation;  /* from 1; set by the merge task before it is shared with writers */
    struct logpos joined; /* snapshot rows: the log position at which they are the table's state */
    size_t bytes;         /* memory held, set by batch_seal */
    struct column *columns;
};

#define BATCH_ROWS_MAX 8192u
#define BATCH_BYTES_GOAL (1u << 20) /* builders seal at about this size */

/* log rows: txs given (a reference is taken); snapshot rows: txs NULL. rows_cap <= BATCH_ROWS_MAX.
 * Takes its own reference on schema. */
struct batch *batch_new(struct schema *schema, uint32_t rows_cap, struct txlist *txs);
struct batch *batch_ref(struct batch *batch);
void batch_unref(struct batch *batch);
void batch_seal(struct batch *batch);
size_t batch_memory(const struct batch *batch); /* bytes held now */
bool batch_full(
    const struct batch *batch); /* rows_cap reached, or var data beyond BATCH_BYTES_GOAL */

/* Building, one row at a time: fill cell (row = batch->rows) of every column in any order, exactly
 * once each, then batch_row_done. Fixed columns may be written in place at data + rows*width;
 * variable ones through batch_var or batch_var_space. */
void batch_put_null(struct batch *batch, uint16_t col);
void batch_put_absent(struct batch *batch, uint16_t col);
/* Room for `len` bytes of this row's cell of a variable column; the caller fills them. */
uint8_t *batch_var_space_slow(struct batch *batch, uint16_t col, size_t len);
static inline uint8_t *batch_var_space(struct batch *batch, uint16_t col, size_t len) {
    struct column *c = &batch->columns[col];
    uint32_t at = c->offsets[batch->rows];
    if (UNLIKELY(c->data_cap - at < len)) {
        return batch_var_space_slow(batch, col, len);
    }
    c->offsets[batch->rows + 1] = at + (uint32_t)len;
    return c->data + at;
}
static inline void batch_put_var(struct batch *batch, uint16_t col, const void *p, size_t len) {
    memcpy(batch_var_space(batch, col, len), p, len);
}
static inline void *batch_fixed(struct batch *batch, uint16_t col) {
    return batch->columns[col].data + (size_t)batch->rows * batch->columns[col].width;
}
static inline void batch_row_done(struct batch *batch, enum row_kind kind, uint32_t tx,
                                  uint32_t n) {
    if (batch->kinds) {
        batch->kinds[batch->rows] = (uint8_t)kind;
        batch->tx[batch->rows] = tx;
        batch->n[batch->rows] = n;
    }
    batch->rows++;
}
/* Room for so many bytes of each variable column's cells (0 = as ever), before the first row: saves
 * moving them as they grow. learn: what a full batch used and an eighth more, for the next one of
 * the same schema; zeros where the cells are huge. room: one entry a column. */
void batch_reserve(struct batch *batch, const uint32_t *room);
void batch_learn_room(const struct batch *full, uint32_t *room);
/* Undoes the cells of a row that was begun and not done. */
void batch_row_abort(struct batch *batch);

/* Copies: same rows in both schemas (schema_same_rows). The cell form writes the current row of
 * dst, which may be src too. */
void batch_put_cell(struct batch *dst, uint16_t col, const struct batch *src, uint32_t src_row);
void batch_put_row(struct batch *dst, const struct batch *src, uint32_t src_row, enum row_kind kind,
                   uint32_t tx, uint32_t n);
/* A new sealed batch of the rows whose bit in keep is set; NULL if none is. */
struct batch *batch_select(const struct batch *src, const uint8_t *keep);
/* Exchanges the schema for one with the same rows; only by the task that alone holds the batch. */
void batch_adopt_schema(struct batch *batch, struct schema *schema);

static inline bool bit_get(const uint8_t *bits, uint32_t i) {
    return (bits[i >> 3] >> (i & 7)) & 1;
}
static inline void bit_set(uint8_t *bits, uint32_t i) { bits[i >> 3] |= (uint8_t)(1u << (i & 7)); }
static inline void bit_clear(uint8_t *bits, uint32_t i) {
    bits[i >> 3] &= (uint8_t) ~(1u << (i & 7));
}
static inline bool cell_absent(const struct column *c, uint32_t row) {
    return c->absent && bit_get(c->absent, row);
}
static inline bool cell_null(const struct column *c, uint32_t row) {
    return c->valid && !bit_get(c->valid, row);
} /* also true if absent */
static inline const uint8_t *cell_bytes(const struct column *c, uint32_t row, size_t *len) {
    if (c->width) {
        *len = c->width;
        return c->data + (size_t)row * c->width;
    }
    *len = c->offsets[row + 1] - c->offsets[row];
    return c->data + c->offsets[row];
}
static inline enum row_kind row_kind_of(const struct batch *b, uint32_t row) {
    return b->kinds ? (enum row_kind)b->kinds[row] : ROW_INSERT;
}

/* Disk form for spools: length-prefixed by the caller, little-endian, same machine only. The txlist
 * is not part of it: rows keep tx index and n. */
void batch_encode(struct buf *out, const struct batch *batch);
/* NULL on damage (code "spool_damaged"). */
struct batch *batch_decode(const void *p, size_t len, struct schema *schema, struct txlist *txs,
                           struct err *err);
