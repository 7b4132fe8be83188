/* See pqlog_rows.h. A run's columns are converted in bulk. Only columns with cells that the log did
 * not carry are put together cell by cell, from the row before where that has them. */
#include "sinks/changelog_parquet/pqlog_rows.h"

#include <stdlib.h>

#include "sinks/parquet/lake_builder.h"

/* Microseconds from 1970 to 2000, where the model's times begin. */
#define EPOCH_2000_US INT64_C(946684800000000)

/* Room for one column, kept. */
struct column_room {
    struct lake_scratch *scratch;
    struct lake_builder builder;
};
struct pqlog_rows {
    int (*put_logpos)(struct buf *out, struct logpos pos);
    const struct stage_item *item;
    struct column_room *rooms;
    uint32_t room_count;
    struct lake_column *columns;
    uint32_t column_cap;
    uint32_t *index, *from,
        *at; /* a row each: in the batch; sources of a slow column; which of them */
    uint32_t row_cap;
    /* Cells that no row carried: the columns that have any, and a bit a row for each. */
    uint16_t *missing;
    uint32_t missing_count;
    struct buf missing_bits;
    /* The change's columns. */
    struct buf fixed[PQLOG_COLUMNS]; /* 8 bytes a row; OP: its letter */
    struct buf op_offsets, position_offsets, position_bytes;
    struct buf list_offsets, name_offsets, names, list_valid;
    struct lake_column name_column;
    uint8_t *nulls; /* a zero bit a row */
    /* Text of one transaction's position. */
    struct buf position;
    const struct txlist *position_txs;
    uint32_t position_tx;
};

struct pqlog_rows *pqlog_rows_new(int (*put_logpos)(struct buf *out, struct logpos pos)) {
    struct pqlog_rows *r = xcalloc(1, sizeof *r);
    r->put_logpos = put_logpos;
    struct buf *const bufs[] = { &r->missing_bits,   &r->op_offsets,   &r->position_offsets,
                                 &r->position_bytes, &r->list_offsets, &r->name_offsets,
                                 &r->names,          &r->list_valid,   &r->position };
    for (size_t i = 0; i < ARRAY_COUNT(bufs); i++) {
        buf_init(bufs[i], SIZE_MAX);
    }
    for (uint32_t i = 0; i < PQLOG_COLUMNS; i++) {
        buf_init(&r->fixed[i], SIZE_MAX);
    }
    return r;
}

void pqlog_rows_free(struct pqlog_rows *r) {
    if (!r) {
        return;
    }
    for (uint32_t i = 0; i < r->room_count; i++) {
        lake_scratch_free(r->rooms[i].scratch);
        lake_builder_release(&r->rooms[i].builder);
    }
    for (uint32_t i = 0; i < PQLOG_COLUMNS; i++) {
        buf_release(&r->fixed[i]);
    }
    struct buf *const bufs[] = { &r->missing_bits,   &r->op_offsets,   &r->position_offsets,
                                 &r->position_bytes, &r->list_offsets, &r->name_offsets,
                                 &r->names,          &r->list_valid,   &r->position };
    for (size_t i = 0; i < ARRAY_COUNT(bufs); i++) {
        buf_release(bufs[i]);
    }
    free(r->rooms);
    free(r->columns);
    free(r->index);
    free(r->from);
    free(r->at);
    free(r->missing);
    free(r->nulls);
    free(r);
}

void pqlog_rows_begin(struct pqlog_rows *r, const struct stage_item *item) {
    r->item = item;
    r->position_txs = NULL; /* the item's txlists may lie where others were freed */
    buf_clear(&r->position);
}

static void need_columns(struct pqlog_rows *r, uint32_t columns) {
    if (columns > r->column_cap) {
        r->column_cap = columns;
        r->columns = xrealloc(r->columns, columns * sizeof *r->columns);
        r->missing = xrealloc(r->missing, columns * sizeof *r->missing);
    }
    if (columns > r->room_count) {
        r->rooms = xrealloc(r->rooms, columns * sizeof *r->rooms);
        for (; r->room_count < columns; r->room_count++) {
            r->rooms[r->room_count].scratch = lake_scratch_new();
            lake_builder_init(&r->rooms[r->room_count].builder);
        }
    }
}

static void need_rows(struct pqlog_rows *r, uint32_t rows) {
    if (rows > r->row_cap) {
        r->row_cap = rows;
        r->index = xrealloc(r->index, rows * sizeof *r->index);
        r->from = xrealloc(r->from, rows * sizeof *r->from);
        r->at = xrealloc(r->at, rows * sizeof *r->at);
        free(r->nulls);
        r->nulls = xcalloc(rows / 8 + 1, 1);
    }
}

/* ---- runs ---- */

static bool carries_all(const struct batch *b, uint32_t row) {
    for (uint32_t i = 0; i < b->schema->column_count; i++) {
        if (cell_absent(&b->columns[i], row)) {
            return false;
        }
    }
    return true;
}

/* Does it need cells of another row? */
static bool needs_old(const struct stage_item *item, const struct pqlog_row *x) {
    return x->old_batch != PQLOG_NO_BATCH && !carries_all(item->batches[x->batch], x->row);
}

uint32_t pqlog_rows_run(const struct stage_item *item, const struct pqlog_row *rows,
                        uint32_t count) {
    const struct pqlog_row *first = &rows[0];
    if (first->op == 't' || (needs_old(item, first) && first->old_batch != first->batch)) {
        return 1;
    }
    uint32_t n = 1;
    for (; n < count; n++) {
        const struct pqlog_row *x = &rows[n];
        /* A row serves one row of a run only: a d and the c beside it that takes cells from the
         * same old row are apart. */
        bool old = needs_old(item, x);
        if (x->batch != first->batch || x->op == 't' || x->keys_only != first->keys_only ||
            (old && (x->old_batch != x->batch || rows[n - 1].op == 'd'))) {
            break;
        }
    }
    return n;
}

/* ---- the table's columns ---- */

static uint8_t *missing_bits_of(struct pqlog_rows *r, uint16_t col, uint32_t count) {
    size_t bytes = count / 8 + 1;
    r->missing[r->missing_count++] = col;
    int failed = buf_reserve(&r->missing_bits, bytes);
    CHECK(!failed);
    memset(r->missing_bits.data + r->missing_bits.len, 0, bytes);
    r->missing_bits.len += bytes;
    return (uint8_t *)r->missing_bits.data + r->missing_bits.len - bytes;
}

static int key_missing(const struct schema *s, uint16_t col, struct err *err) {
    return err_set(err, ERR_FATAL, "key_not_carried",
                   "table \"%s\": a change without the value of key column \"%s\"", s->label,
                   s->columns[col].name);
}

/* A column with cells that were not carried. The run's old rows lie in its own batch, or it is of
 * one row. */
static int put_together(struct pqlog_rows *r, const struct pqlog_row *rows, uint32_t count,
                        uint16_t col, const struct lake_type *type, struct lake_column *out,
                        struct err *err) {
    struct column_room *room = &r->rooms[col];
    const struct batch *b = r->item->batches[rows[0].batch];
    const struct batch *source = b;
    bool is_key = b->schema->columns[col].key_pos >= 0;
    uint8_t *missing = missing_bits_of(r, col, count);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct pqlog_row *x = &rows[i];
        r->at[i] = UINT32_MAX;
        if (x->op == 't' || (x->keys_only && !is_key)) {
            continue;
        }
        if (!cell_absent(&b->columns[col], x->row)) {
            r->from[n] = x->row;
            r->at[i] = n++;
            continue;
        }
        const struct batch *old =
            x->old_batch == PQLOG_NO_BATCH ? NULL : r->item->batches[x->old_batch];
        if (old && !cell_absent(&old->columns[col], x->old_row)) {
            source = old;
            r->from[n] = x->old_row;
            r->at[i] = n++;
        } else if (is_key) {
            return key_missing(b->schema, col, err);
        } else if (x->op != 'd') {
            bit_set(missing, i);
        }
    }
    CHECK(source == b || n == 1);
    struct lake_column cells = { .rows = 0 };
    if (n > 0 && lake_column_of(room->scratch, source, col, r->from, n, type, &cells, err)) {
        return -1;
    }
    lake_builder_begin(&room->builder, type);
    for (uint32_t i = 0; i < count; i++) {
        if (r->at[i] == UINT32_MAX) {
            lake_builder_null(&room->builder);
        } else {
            lake_builder_add(&room->builder, &cells, r->at[i]);
        }
    }
    lake_builder_column(&room->builder, out);
    return 0;
}

static bool any_absent(const struct column *c, const uint32_t *index, uint32_t count) {
    for (uint32_t i = 0; c->absent && i < count; i++) {
        if (bit_get(c->absent, index[i])) {
            return true;
        }
    }
    return false;
}

static int table_columns(struct pqlog_rows *r, const struct pqlog_row *rows, uint32_t count,
                         const struct lake_type *types, struct err *err) {
    const struct batch *b = r->item->batches[rows[0].batch];
    bool in_place = true; /* the batch's first rows as they lie */
    for (uint32_t i = 0; i < count; i++) {
        r->index[i] = rows[i].row;
        in_place = in_place && rows[i].row == i;
    }
    bool sparse = rows[0].op == 't' || rows[0].keys_only;
    for (uint16_t col = 0; col < b->schema->column_count; col++) {
        int failed = sparse || any_absent(&b->columns[col], r->index, count)
                         ? put_together(r, rows, count, col, &types[col], &r->columns[col], err)
                         : lake_column_of(r->rooms[col].scratch, b, col, in_place ? NULL : r->index,
                                          count, &types[col], &r->columns[col], err);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* ---- the change's columns ---- */

static void put_u32(struct buf *out, size_t v) {
    CHECK(v <= UINT32_MAX);
    uint32_t narrow = (uint32_t)v;
    buf_put(out, &narrow, sizeof narrow);
}
static void put_i64(struct buf *out, int64_t v) { buf_put(out, &v, sizeof v); }

static void clear_change(struct pqlog_rows *r) {
    for (uint32_t i = 0; i < PQLOG_COLUMNS; i++) {
        buf_clear(&r->fixed[i]);
    }
    buf_clear(&r->op_offsets);
    buf_clear(&r->position_offsets);
    buf_clear(&r->position_bytes);
    put_u32(&r->op_offsets, 0);
    put_u32(&r->position_offsets, 0);
}

static void make_position(struct pqlog_rows *r, struct logpos pos) {
    buf_clear(&r->position);
    int failed = r->put_logpos(&r->position, pos);
    CHECK(!failed);
}

/* What each row has. tx: NULL where none is behind it. */
static int put_change(struct pqlog_rows *r, char op, int64_t order, uint32_t generation,
                      const struct tx *tx, uint32_t n, struct err *err) {
    int64_t ts = 0;
    if (tx && (tx->id > INT64_MAX || __builtin_add_overflow(tx->time_us, EPOCH_2000_US, &ts))) {
        return err_set(err, ERR_FATAL, "lake_value",
                       "transaction %llu at %lld us has a number or a time beyond 63 bits",
                       (unsigned long long)tx->id, (long long)tx->time_us);
    }
    buf_putc(&r->fixed[PQLOG_OP], op);
    put_u32(&r->op_offsets, r->fixed[PQLOG_OP].len);
    put_i64(&r->fixed[PQLOG_ORDER], order);
    put_i64(&r->fixed[PQLOG_TX], tx ? (int64_t)tx->id : 0);
    put_i64(&r->fixed[PQLOG_N], n);
    put_i64(&r->fixed[PQLOG_TS], ts);
    put_i64(&r->fixed[PQLOG_GENERATION], generation);
    buf_put(&r->position_bytes, r->position.data, r->position.len);
    put_u32(&r->position_offsets, r->position_bytes.len);
    return 0;
}

static int change_of_log(struct pqlog_rows *r, const struct batch *b, const struct pqlog_row *x,
                         struct err *err) {
    uint32_t tx = b->tx[x->row];
    CHECK(tx < b->txs->count);
    if (r->position_txs != b->txs || r->position_tx != tx) {
        make_position(r, b->txs->at[tx].commit);
        r->position_txs = b->txs;
        r->position_tx = tx;
    }
    return put_change(r, x->op, x->order, b->generation, &b->txs->at[tx], b->n[x->row], err);
}

static void fixed_column(struct pqlog_rows *r, enum pqlog_column which, uint32_t rows, bool null,
                         struct lake_column *out) {
    *out = (struct lake_column){ .type = pqlog_column_type(which),
                                 .rows = rows,
                                 .width = 8,
                                 .valid = null ? r->nulls : NULL,
                                 .data = (uint8_t *)r->fixed[which].data };
}

static const uint32_t *offsets_in(const struct buf *b) { return (const uint32_t *)(void *)b->data; }

/* Names of the cells that nobody carried, a list a row; null where there are none. */
static void unchanged_column(struct pqlog_rows *r, const struct schema *s, uint32_t rows,
                             struct lake_column *out) {
    buf_clear(&r->list_offsets);
    buf_clear(&r->list_valid);
    buf_clear(&r->name_offsets);
    buf_clear(&r->names);
    put_u32(&r->list_offsets, 0);
    put_u32(&r->name_offsets, 0);
    uint32_t names = 0;
    size_t stride = rows / 8 + 1;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t before = names;
        for (uint32_t m = 0; m < r->missing_count; m++) {
            if (bit_get((const uint8_t *)r->missing_bits.data + m * stride, i)) {
                const char *name = s->columns[r->missing[m]].name;
                buf_put(&r->names, name, strlen(name));
                put_u32(&r->name_offsets, r->names.len);
                names++;
            }
        }
        put_u32(&r->list_offsets, names);
        if (i % 8 == 0) {
            buf_putc(&r->list_valid, 0);
        }
        if (names > before) {
            bit_set((uint8_t *)r->list_valid.data, i);
        }
    }
    buf_putc(&r->names, 0); /* never without a block behind it */
    r->name_column = (struct lake_column){ .type = { .kind = LAKE_STRING },
                                           .rows = names,
                                           .data = (uint8_t *)r->names.data,
                                           .offsets = offsets_in(&r->name_offsets) };
    *out = (struct lake_column){ .type = pqlog_column_type(PQLOG_UNCHANGED),
                                 .rows = rows,
                                 .valid = (uint8_t *)r->list_valid.data,
                                 .offsets = offsets_in(&r->list_offsets),
                                 .elements = &r->name_column };
}

static void change_columns(struct pqlog_rows *r, const struct schema *s, uint32_t rows,
                           bool of_log) {
    struct lake_column *out = r->columns + s->column_count;
    out[PQLOG_OP] = (struct lake_column){ .type = pqlog_column_type(PQLOG_OP),
                                          .rows = rows,
                                          .data = (uint8_t *)r->fixed[PQLOG_OP].data,
                                          .offsets = offsets_in(&r->op_offsets) };
    out[PQLOG_POSITION] = (struct lake_column){ .type = pqlog_column_type(PQLOG_POSITION),
                                                .rows = rows,
                                                .data = (uint8_t *)r->position_bytes.data,
                                                .offsets = offsets_in(&r->position_offsets) };
    fixed_column(r, PQLOG_ORDER, rows, false, &out[PQLOG_ORDER]);
    fixed_column(r, PQLOG_GENERATION, rows, false, &out[PQLOG_GENERATION]);
    fixed_column(r, PQLOG_TX, rows, !of_log, &out[PQLOG_TX]);
    fixed_column(r, PQLOG_N, rows, !of_log, &out[PQLOG_N]);
    fixed_column(r, PQLOG_TS, rows, !of_log, &out[PQLOG_TS]);
    unchanged_column(r, s, rows, &out[PQLOG_UNCHANGED]);
}

/* ---- a run ---- */

int pqlog_rows_put(struct pqlog_rows *r, struct pqlog_file *f, const struct pqlog_row *rows,
                   uint32_t count, struct err *err) {
    const struct batch *b = r->item->batches[rows[0].batch];
    bool of_log = b->txs && r->item->kind == STAGE_ROWS;
    need_columns(r, b->schema->column_count + (uint32_t)PQLOG_COLUMNS);
    need_rows(r, count);
    r->missing_count = 0;
    buf_clear(&r->missing_bits);
    clear_change(r);
    if (table_columns(r, rows, count, pqlog_file_types(f), err)) {
        return -1;
    }
    if (!of_log) {
        make_position(r, r->item->kind == STAGE_REMOVE ? r->item->at : b->joined);
        r->position_txs = NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct pqlog_row *x = &rows[i];
        if (of_log ? change_of_log(r, b, x, err)
                   : put_change(r, x->op, x->order, b->generation, NULL, 0, err)) {
            return -1;
        }
    }
    change_columns(r, b->schema, count, of_log);
    return pqlog_file_add(f, r->columns, count, err);
}

int pqlog_rows_put_generation(struct pqlog_rows *r, struct pqlog_file *f, int64_t order,
                              struct err *err) {
    const struct schema *s = r->item->schema;
    const struct lake_type *types = pqlog_file_types(f);
    need_columns(r, s->column_count + (uint32_t)PQLOG_COLUMNS);
    need_rows(r, 1);
    r->missing_count = 0;
    clear_change(r);
    for (uint16_t col = 0; col < s->column_count; col++) {
        struct lake_builder *b = &r->rooms[col].builder;
        lake_builder_begin(b, &types[col]);
        lake_builder_null(b);
        lake_builder_column(b, &r->columns[col]);
    }
    make_position(r, r->item->at);
    r->position_txs = NULL;
    if (put_change(r, 't', order, r->item->generation, NULL, 0, err)) {
        return -1;
    }
    change_columns(r, s, 1, false);
    return pqlog_file_add(f, r->columns, 1, err);
}
