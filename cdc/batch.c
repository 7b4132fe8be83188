/* Batches: building, sealing, copying rows. Memory: one block holds the batch, its columns and (in
 * a large batch: apart, so that sealing can give room back) the cells of all rows_cap rows; a
 * variable column has a few bytes there and moves to an allocation of its own when they are used
 * up. Nothing is allocated per row. Disk form: batch_spool.c. Thread: one while building; any after
 * batch_seal. */
#include "cdc/batch.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 16,
    CELLS_INSIDE_MAX =
        4096, /* up to here the cells lie behind the columns, in the batch's own block */
    VAR_BYTES_A_ROW = 16, /* first room of a variable column... */
    VAR_BYTES_INSIDE_MAX = 1024,
    VAR_BYTES_APART_A_ROW = 8,       /* ...and at least so much once it moves out */
    ROOM_MAX = 2 * BATCH_BYTES_GOAL, /* a batch beyond it ended with a huge row: not the rule */
};

/* What batch_new allocates; struct batch is what others see of it. */
struct store {
    struct batch batch;
    uint8_t *cells; /* rows, row marks and bitmaps of all columns */
    size_t cells_bytes;
    uint8_t *bitmaps; /* within cells: a valid bitmap a column, then (log rows only) an absent
                         bitmap a column */
    size_t block_bytes;
    bool cells_apart;
    struct column columns[];
};

static size_t aligned(size_t n) { return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1); }
static size_t bitmap_bytes(uint32_t rows_cap) { return ((size_t)rows_cap + 7) / 8; }

static bool var_apart(const struct store *s, const struct column *c) {
    uintptr_t data = (uintptr_t)c->data;
    uintptr_t cells = (uintptr_t)s->cells;
    return c->width == 0 && (data < cells || data >= cells + s->cells_bytes);
}

/* Where everything lies within cells. */
struct layout {
    size_t bytes;
    size_t kinds, tx, n; /* of log rows */
    size_t bitmaps;
};

static size_t var_bytes_inside(uint32_t rows_cap) {
    size_t bytes = (size_t)rows_cap * VAR_BYTES_A_ROW;
    return bytes < VAR_BYTES_INSIDE_MAX ? bytes : VAR_BYTES_INSIDE_MAX;
}

static struct layout layout_of(const struct column *columns, uint16_t count, uint32_t rows_cap,
                               bool log, size_t var_bytes) {
    struct layout layout = { 0 };
    size_t at = 0;
    for (uint16_t i = 0; i < count; i++) {
        size_t width = columns[i].width;
        at += width ? aligned(rows_cap * width)
                    : aligned((rows_cap + 1) * sizeof(uint32_t)) + var_bytes;
    }
    if (log) {
        layout.tx = at;
        layout.n = layout.tx + aligned(rows_cap * sizeof(uint32_t));
        layout.kinds = layout.n + aligned(rows_cap * sizeof(uint32_t));
        at = layout.kinds + aligned(rows_cap);
    }
    layout.bitmaps = at;
    layout.bytes = aligned(at + bitmap_bytes(rows_cap) * count * (log ? 2 : 1));
    return layout;
}

static void place_rows(struct store *s, const struct layout *layout, bool log) {
    struct batch *b = &s->batch;
    if (log) {
        b->kinds = s->cells + layout->kinds;
        b->tx = (uint32_t *)(void *)(s->cells + layout->tx);
        b->n = (uint32_t *)(void *)(s->cells + layout->n);
    }
    s->bitmaps = s->cells + layout->bitmaps;
    s->cells_bytes = layout->bytes;
}

struct batch *batch_new(struct schema *schema, uint32_t rows_cap, struct txlist *txs) {
    CHECK(rows_cap >= 1 && rows_cap <= BATCH_ROWS_MAX);
    uint16_t count = schema->column_count;
    size_t head_bytes = aligned(sizeof(struct store) + count * sizeof(struct column));
    size_t var_bytes = aligned(var_bytes_inside(rows_cap));
    struct column first[64]; /* widths alone, to learn the size before there is a block */
    struct column *columns = count <= ARRAY_COUNT(first) ? first : xmalloc(count * sizeof *columns);
    for (uint16_t i = 0; i < count; i++) {
        columns[i] = (struct column){ .width = (uint32_t)type_width(&schema->columns[i].type) };
    }
    struct layout layout = layout_of(columns, count, rows_cap, txs != NULL, var_bytes);
    bool apart = layout.bytes > CELLS_INSIDE_MAX;
    struct store *s = xmalloc(head_bytes + (apart ? 0 : layout.bytes));
    *s = (struct store){ .cells_apart = apart,
                         .block_bytes = head_bytes + (apart ? 0 : layout.bytes) };
    s->cells = apart ? xmalloc(layout.bytes) : (uint8_t *)s + head_bytes;
    memcpy(s->columns, columns, count * sizeof *columns);
    if (columns != first) {
        free(columns);
    }
    struct batch *b = &s->batch;
    atomic_init(&b->refs, 1);
    b->schema = schema_ref(schema);
    b->rows_cap = rows_cap;
    b->txs = txs ? txlist_ref(txs) : NULL;
    b->generation = 1;
    b->columns = s->columns;
    place_rows(s, &layout, txs != NULL);
    uint8_t *at = s->cells;
    for (uint16_t i = 0; i < count; i++) {
        struct column *c = &s->columns[i];
        if (c->width) {
            c->data = at;
            at += aligned((size_t)rows_cap * c->width);
        } else {
            c->offsets = (uint32_t *)(void *)at;
            c->offsets[0] = 0;
            c->data = at + aligned(((size_t)rows_cap + 1) * sizeof(uint32_t));
            c->data_cap = var_bytes;
            at = c->data + var_bytes;
        }
    }
    b->bytes = s->block_bytes + (apart ? layout.bytes : 0);
    return b;
}

struct batch *batch_ref(struct batch *batch) {
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    return batch;
}

void batch_unref(struct batch *batch) {
    if (!batch || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct store *s = (struct store *)(void *)batch;
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        if (var_apart(s, &s->columns[i])) {
            free(s->columns[i].data);
        }
    }
    if (s->cells_apart) {
        free(s->cells);
    }
    schema_unref(batch->schema);
    txlist_unref(batch->txs);
    free(s);
}

/* Moves the cells of a batch that came out much smaller than its rows_cap to an allocation of their
 * size. */
static void shrink_cells(struct store *s) {
    struct batch *b = &s->batch;
    uint16_t count = b->schema->column_count;
    uint32_t rows = b->rows ? b->rows : 1;
    bool log = b->kinds != NULL;
    size_t var_bytes = 0;
    for (uint16_t i = 0; i < count; i++) {
        const struct column *c = &s->columns[i];
        if (c->width == 0 && !var_apart(s, c) && c->offsets[b->rows] > var_bytes) {
            var_bytes = c->offsets[b->rows];
        }
    }
    var_bytes = aligned(var_bytes);
    struct layout layout = layout_of(s->columns, count, rows, log, var_bytes);
    if (!s->cells_apart || layout.bytes > s->cells_bytes / 2) {
        return;
    }
    struct store old = *s;
    s->cells = xmalloc(layout.bytes);
    uint8_t *at = s->cells;
    for (uint16_t i = 0; i < count; i++) {
        struct column *c = &s->columns[i];
        if (c->width) {
            memcpy(at, c->data, (size_t)b->rows * c->width);
            c->data = at;
            at += aligned((size_t)rows * c->width);
            continue;
        }
        memcpy(at, c->offsets, ((size_t)b->rows + 1) * sizeof(uint32_t));
        c->offsets = (uint32_t *)(void *)at;
        at += aligned(((size_t)rows + 1) * sizeof(uint32_t));
        if (!var_apart(&old, c)) {
            memcpy(at, c->data, c->offsets[b->rows]);
            c->data = at;
            c->data_cap = var_bytes;
        }
        at += var_bytes;
    }
    place_rows(s, &layout, log);
    if (log) {
        memcpy(b->tx, old.batch.tx, (size_t)b->rows * sizeof *b->tx);
        memcpy(b->n, old.batch.n, (size_t)b->rows * sizeof *b->n);
        memcpy(b->kinds, old.batch.kinds, b->rows);
    }
    uint8_t *bits = s->bitmaps;
    for (uint16_t i = 0; i < count; i++) {
        uint8_t **maps[2] = { &s->columns[i].valid, &s->columns[i].absent };
        for (int m = 0; m < (log ? 2 : 1); m++, bits += bitmap_bytes(rows)) {
            if (*maps[m]) {
                memcpy(bits, *maps[m], bitmap_bytes(rows));
                *maps[m] = bits;
            }
        }
    }
    b->rows_cap = rows;
    b->bytes -= old.cells_bytes - layout.bytes;
    free(old.cells);
}

void batch_seal(struct batch *batch) {
    struct store *s = (struct store *)(void *)batch;
    CHECK(!batch->sealed);
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        struct column *c = &s->columns[i];
        if (!var_apart(s, c)) {
            continue;
        }
        size_t used = c->offsets[batch->rows] ? c->offsets[batch->rows] : 1;
        if (c->data_cap - used > used / 4 + 4096) {
            c->data = xrealloc(c->data, used);
            batch->bytes -= c->data_cap - used;
            c->data_cap = used;
        }
    }
    shrink_cells(s);
    batch->sealed = true;
}

size_t batch_memory(const struct batch *batch) { return batch->bytes; }

bool batch_full(const struct batch *batch) {
    if (batch->rows >= batch->rows_cap) {
        return true;
    }
    const struct store *s = (const struct store *)(const void *)batch;
    size_t apart = batch->bytes - s->block_bytes - (s->cells_apart ? s->cells_bytes : 0);
    if (apart + (size_t)batch->schema->column_count * VAR_BYTES_INSIDE_MAX <= BATCH_BYTES_GOAL) {
        return false; /* there is no room for so much: most rows need no sum */
    }
    size_t used = 0;
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        const struct column *c = &batch->columns[i];
        used += c->width ? 0 : c->offsets[batch->rows];
    }
    return used > BATCH_BYTES_GOAL;
}

uint8_t *batch_var_space_slow(struct batch *batch, uint16_t col, size_t len) {
    struct store *s = (struct store *)(void *)batch;
    struct column *c = &batch->columns[col];
    uint32_t at = c->offsets[batch->rows];
    CHECK(!batch->sealed && col < batch->schema->column_count && batch->rows < batch->rows_cap &&
          c->width == 0);
    CHECK(len <= UINT32_MAX - at);
    size_t need = at + len;
    bool apart = var_apart(s, c);
    size_t cap = apart ? c->data_cap * 2 : (size_t)batch->rows_cap * VAR_BYTES_APART_A_ROW;
    cap = cap < need ? need : cap;
    cap = cap > UINT32_MAX ? UINT32_MAX : cap;
    if (apart) {
        c->data = xrealloc(c->data, cap);
        batch->bytes += cap - c->data_cap;
    } else {
        uint8_t *data = xmalloc(cap);
        memcpy(data, c->data, at);
        c->data = data;
        batch->bytes += cap;
    }
    c->data_cap = cap;
    c->offsets[batch->rows + 1] = (uint32_t)need;
    return c->data + at;
}

void batch_reserve(struct batch *batch, const uint32_t *room) {
    struct store *s = (struct store *)(void *)batch;
    CHECK(!batch->sealed && batch->rows == 0);
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        struct column *c = &batch->columns[i];
        if (c->width == 0 && room[i] > c->data_cap && !var_apart(s, c)) {
            c->data = xmalloc(room[i]);
            c->data_cap = room[i];
            batch->bytes += room[i];
        }
    }
}

void batch_learn_room(const struct batch *full, uint32_t *room) {
    uint16_t count = full->schema->column_count;
    size_t sum = 0;
    for (uint16_t i = 0; i < count; i++) {
        const struct column *c = &full->columns[i];
        size_t used = c->width ? 0 : c->offsets[full->rows];
        sum += used;
        room[i] = used > ROOM_MAX ? 0 : (uint32_t)(used + used / 8);
    }
    if (sum > ROOM_MAX) {
        memset(room, 0, count * sizeof *room);
    }
}

static uint8_t *bitmap_at(const struct store *s, uint16_t col, bool absent) {
    size_t bytes = bitmap_bytes(s->batch.rows_cap);
    return s->bitmaps + (s->batch.kinds ? ((size_t)col * 2 + absent) : col) * bytes;
}

static void need_valid(struct batch *batch, uint16_t col) {
    struct column *c = &batch->columns[col];
    if (!c->valid) {
        c->valid = bitmap_at((struct store *)(void *)batch, col, false);
        memset(c->valid, 0xFF, bitmap_bytes(batch->rows_cap));
    }
}

static void need_absent(struct batch *batch, uint16_t col) {
    struct column *c = &batch->columns[col];
    CHECK(batch->kinds); /* the rows of a snapshot are whole */
    if (!c->absent) {
        c->absent = bitmap_at((struct store *)(void *)batch, col, true);
        memset(c->absent, 0, bitmap_bytes(batch->rows_cap));
    }
}

void batch_put_null(struct batch *batch, uint16_t col) {
    struct column *c = &batch->columns[col];
    uint32_t row = batch->rows;
    CHECK(!batch->sealed && row < batch->rows_cap);
    if (UNLIKELY(!c->valid)) {
        need_valid(batch, col);
    }
    bit_clear(c->valid, row);
    if (c->width == 0) {
        c->offsets[row + 1] = c->offsets[row];
    } else {
        memset(c->data + (size_t)row * c->width, 0, c->width); /* never what lay in memory before */
    }
}

void batch_put_absent(struct batch *batch, uint16_t col) {
    batch_put_null(batch, col);
    need_absent(batch, col);
    bit_set(batch->columns[col].absent, batch->rows);
}

void batch_row_abort(struct batch *batch) {
    CHECK(!batch->sealed);
    for (uint16_t i = 0; i < batch->schema->column_count && batch->rows < batch->rows_cap; i++) {
        struct column *c = &batch->columns[i];
        if (c->valid) {
            bit_set(c->valid, batch->rows);
        }
        if (c->absent) {
            bit_clear(c->absent, batch->rows);
        }
    }
}

void batch_put_cell(struct batch *dst, uint16_t col, const struct batch *src, uint32_t src_row) {
    const struct column *from = &src->columns[col];
    if (from->valid && !bit_get(from->valid, src_row)) {
        if (cell_absent(from, src_row)) {
            batch_put_absent(dst, col);
        } else {
            batch_put_null(dst, col);
        }
        return;
    }
    size_t len;
    switch (from->width) {
    case 8:
        memcpy(batch_fixed(dst, col), from->data + (size_t)src_row * 8, 8);
        break;
    case 4:
        memcpy(batch_fixed(dst, col), from->data + (size_t)src_row * 4, 4);
        break;
    case 0: {
        (void)cell_bytes(from, src_row, &len);
        uint8_t *space = batch_var_space(dst, col, len); /* may move src's cells, where it is dst */
        memcpy(space, cell_bytes(from, src_row, &len), len);
        break;
    }
    default:
        memcpy(batch_fixed(dst, col), from->data + (size_t)src_row * from->width, from->width);
        break;
    }
}

void batch_put_row(struct batch *dst, const struct batch *src, uint32_t src_row, enum row_kind kind,
                   uint32_t tx, uint32_t n) {
    uint16_t count = dst->schema->column_count;
    CHECK(!dst->sealed && dst->rows < dst->rows_cap && src_row < src->rows &&
          count == src->schema->column_count);
    for (uint16_t i = 0; i < count; i++) {
        batch_put_cell(dst, i, src, src_row);
    }
    batch_row_done(dst, kind, tx, n);
}

/* A run of kept rows. */
struct run {
    uint32_t at, count;
};

static uint32_t find_runs(const uint8_t *keep, uint32_t rows, struct run *runs, uint32_t *kept) {
    uint32_t count = 0;
    *kept = 0;
    for (uint32_t row = 0; row < rows;) {
        if ((row & 7) == 0 && keep[row >> 3] == 0) {
            row += 8;
            continue;
        }
        if (!bit_get(keep, row)) {
            row++;
            continue;
        }
        uint32_t begin = row++;
        while (row < rows && bit_get(keep, row)) {
            row += (row & 7) == 0 && keep[row >> 3] == 0xFF && rows - row >= 8 ? 8 : 1;
        }
        runs[count++] = (struct run){ begin, row - begin };
        *kept += row - begin;
    }
    return count;
}

static void select_fixed(uint8_t *to, const uint8_t *from, size_t width, const struct run *runs,
                         uint32_t run_count) {
    for (uint32_t i = 0; i < run_count; i++) {
        memcpy(to, from + runs[i].at * width, runs[i].count * width);
        to += runs[i].count * width;
    }
}

static void select_var(struct batch *dst, uint16_t col, const struct column *from,
                       const struct run *runs, uint32_t run_count) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < run_count; i++) {
        bytes += from->offsets[runs[i].at + runs[i].count] - from->offsets[runs[i].at];
    }
    uint8_t *to =
        batch_var_space(dst, col, bytes); /* all the cells at once: dst->rows is still 0 */
    uint32_t *offsets = dst->columns[col].offsets;
    uint32_t at = 0;
    uint32_t row = 0;
    for (uint32_t i = 0; i < run_count; i++) {
        const uint32_t *source = from->offsets + runs[i].at;
        uint32_t length = source[runs[i].count] - source[0];
        memcpy(to + at, from->data + source[0], length);
        for (uint32_t r = 1; r <= runs[i].count; r++) {
            offsets[row + r] = at + (source[r] - source[0]);
        }
        at += length;
        row += runs[i].count;
    }
}

static void select_bits(uint8_t *to, const uint8_t *from, const struct run *runs,
                        uint32_t run_count, bool value) {
    uint32_t row = 0;
    for (uint32_t i = 0; i < run_count; i++) {
        for (uint32_t r = 0; r < runs[i].count; r++, row++) {
            if (bit_get(from, runs[i].at + r) == value) {
                to[row >> 3] ^= (uint8_t)(1u << (row & 7));
            }
        }
    }
}

struct batch *batch_select(const struct batch *src, const uint8_t *keep) {
    struct run some[64];
    struct run *runs =
        src->rows / 2 + 1 <= ARRAY_COUNT(some) ? some : xmalloc((src->rows / 2 + 1) * sizeof *runs);
    uint32_t kept;
    uint32_t run_count = find_runs(keep, src->rows, runs, &kept);
    struct batch *dst = NULL;
    if (kept > 0) {
        dst = batch_new(src->schema, kept, src->txs);
        dst->backfill = src->backfill;
        dst->again = src->again;
        dst->generation = src->generation;
        dst->joined = src->joined;
        for (uint16_t i = 0; i < src->schema->column_count; i++) {
            const struct column *from = &src->columns[i];
            if (from->width) {
                select_fixed(dst->columns[i].data, from->data, from->width, runs, run_count);
            } else {
                select_var(dst, i, from, runs, run_count);
            }
            if (from->valid) {
                need_valid(dst, i);
                select_bits(dst->columns[i].valid, from->valid, runs, run_count, false);
            }
            if (from->absent) {
                need_absent(dst, i);
                select_bits(dst->columns[i].absent, from->absent, runs, run_count, true);
            }
        }
        if (src->kinds) {
            select_fixed(dst->kinds, src->kinds, 1, runs, run_count);
            select_fixed((uint8_t *)dst->tx, (const uint8_t *)src->tx, sizeof *src->tx, runs,
                         run_count);
            select_fixed((uint8_t *)dst->n, (const uint8_t *)src->n, sizeof *src->n, runs,
                         run_count);
        }
        dst->rows = kept;
        batch_seal(dst);
    }
    if (runs != some) {
        free(runs);
    }
    return dst;
}

void batch_adopt_schema(struct batch *batch, struct schema *schema) {
    CHECK(atomic_load_explicit(&batch->refs, memory_order_acquire) == 1);
    CHECK(schema_same_rows(batch->schema, schema));
    struct schema *old = batch->schema;
    batch->schema = schema_ref(schema);
    schema_unref(old);
}
