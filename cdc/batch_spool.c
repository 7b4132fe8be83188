/* The disk form of a batch, for spools: written and read by the same process on the same machine,
 * so integers are the machine's. What comes back from a disk is input: a hash finds damage, and
 * every size is checked all the same. Pure.
 *
 *   u64 hash of everything behind it
 *   u32 magic | u32 rows | u32 generation | u16 columns | u8 flags | u8 zero
 *   u64 segment | u64 offset of `joined`
 *   log rows: u32 tx a row | u32 n a row | u8 kind a row
 *   a column: u8 width | u8 flags
 *             the bitmaps that the flags name, valid first, (rows+7)/8 bytes each
 *             fixed: rows x width bytes
 *             variable: rows+1 x u32 offset, then the bytes */
#include <stdlib.h>

#include "cdc/base/map.h"
#include "cdc/batch.h"

enum { MAGIC = 0x31627274, SEED = 1 };
enum { FLAG_LOG = 1, FLAG_BACKFILL = 2, FLAG_AGAIN = 4, FLAGS_ALL = 7 };
enum { COLUMN_VALID = 1, COLUMN_ABSENT = 2, COLUMN_FLAGS_ALL = 3 };

struct head {
    uint64_t hash;
    uint32_t magic;
    uint32_t rows;
    uint32_t generation;
    uint16_t columns;
    uint8_t flags;
    uint8_t zero;
    struct logpos joined;
};
_Static_assert(sizeof(struct head) == 40, "no padding reaches the disk");

static size_t bitmap_bytes(uint32_t rows) { return ((size_t)rows + 7) / 8; }

void batch_encode(struct buf *out, const struct batch *batch) {
    size_t begin = out->len;
    uint32_t rows = batch->rows;
    struct head head = {
        .magic = MAGIC,
        .rows = rows,
        .generation = batch->generation,
        .columns = batch->schema->column_count,
        .flags = (uint8_t)((batch->kinds ? FLAG_LOG : 0) | (batch->backfill ? FLAG_BACKFILL : 0) |
                           (batch->again ? FLAG_AGAIN : 0)),
        .joined = batch->joined,
    };
    buf_put(out, &head, sizeof head);
    if (batch->kinds) {
        buf_put(out, batch->tx, rows * sizeof *batch->tx);
        buf_put(out, batch->n, rows * sizeof *batch->n);
        buf_put(out, batch->kinds, rows);
    }
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        const struct column *c = &batch->columns[i];
        uint8_t marks[2] = { (uint8_t)c->width, (uint8_t)((c->valid ? COLUMN_VALID : 0) |
                                                          (c->absent ? COLUMN_ABSENT : 0)) };
        buf_put(out, marks, sizeof marks);
        buf_put(out, c->valid, c->valid ? bitmap_bytes(rows) : 0);
        buf_put(out, c->absent, c->absent ? bitmap_bytes(rows) : 0);
        if (c->width) {
            buf_put(out, c->data, (size_t)rows * c->width);
        } else {
            buf_put(out, c->offsets, ((size_t)rows + 1) * sizeof *c->offsets);
            buf_put(out, c->data, c->offsets[rows]);
        }
    }
    head.hash =
        hash_bytes(out->data + begin + sizeof head.hash, out->len - begin - sizeof head.hash, SEED);
    memcpy(out->data + begin, &head.hash, sizeof head.hash);
}

static int take_copy(struct view *in, size_t len, void *to) {
    const uint8_t *p;
    if (take_bytes(in, len, &p)) {
        return -1;
    }
    if (len > 0) {
        memcpy(to, p, len);
    }
    return 0;
}

static int take_rows(struct view *in, struct batch *batch, uint32_t rows) {
    if (take_copy(in, rows * sizeof *batch->tx, batch->tx) ||
        take_copy(in, rows * sizeof *batch->n, batch->n) || take_copy(in, rows, batch->kinds)) {
        return -1;
    }
    for (uint32_t i = 0; i < rows; i++) {
        if (batch->kinds[i] > ROW_TRUNCATE || batch->tx[i] >= batch->txs->count) {
            return -1;
        }
    }
    return 0;
}

/* Offsets rise from 0, and the bytes that they point at are there. The batch still has no rows: one
 * cell space takes all. */
static int take_variable(struct view *in, struct batch *batch, uint16_t col, uint32_t rows) {
    const uint8_t *raw;
    uint32_t last = 0;
    if (take_bytes(in, ((size_t)rows + 1) * sizeof(uint32_t), &raw)) {
        return -1;
    }
    for (uint32_t i = 0; i <= rows; i++) {
        uint32_t offset;
        memcpy(&offset, raw + i * sizeof offset, sizeof offset);
        if (i == 0 ? offset != 0 : offset < last) {
            return -1;
        }
        last = offset;
    }
    if (view_left(in) < last) {
        return -1;
    }
    uint8_t *to = batch_var_space(batch, col, last);
    memcpy(batch->columns[col].offsets, raw, ((size_t)rows + 1) * sizeof(uint32_t));
    return take_copy(in, last, to);
}

/* Marks the cells through the door that builders use, so that only batch.c knows where bitmaps lie.
 */
static int take_bitmaps(struct view *in, struct batch *batch, uint16_t col, uint32_t rows,
                        uint8_t flags) {
    const uint8_t *valid = NULL;
    const uint8_t *absent = NULL;
    struct column *c = &batch->columns[col];
    if ((flags & ~COLUMN_FLAGS_ALL) != 0 ||
        ((flags & COLUMN_ABSENT) != 0 && (!(flags & COLUMN_VALID) || !batch->kinds)) ||
        ((flags & COLUMN_VALID) != 0 && take_bytes(in, bitmap_bytes(rows), &valid)) ||
        ((flags & COLUMN_ABSENT) != 0 && take_bytes(in, bitmap_bytes(rows), &absent))) {
        return -1;
    }
    for (uint32_t row = 0; row < rows && absent; row++) {
        if (bit_get(absent, row) && bit_get(valid, row)) {
            return -1;
        }
    }
    if (rows == 0 || !valid) {
        return 0;
    }
    if (absent) {
        batch_put_absent(batch, col);
        memcpy(c->absent, absent, bitmap_bytes(rows));
    } else {
        batch_put_null(batch, col);
    }
    memcpy(c->valid, valid, bitmap_bytes(rows));
    return 0;
}

static int take_column(struct view *in, struct batch *batch, uint16_t col, uint32_t rows) {
    struct column *c = &batch->columns[col];
    uint8_t width;
    uint8_t flags;
    if (take_u8(in, &width) || take_u8(in, &flags) || width != c->width ||
        take_bitmaps(in, batch, col, rows, flags)) {
        return -1;
    }
    return c->width ? take_copy(in, (size_t)rows * c->width, c->data)
                    : take_variable(in, batch, col, rows);
}

static int take_batch(struct view *in, struct batch *batch, uint32_t rows) {
    if (batch->kinds && take_rows(in, batch, rows)) {
        return -1;
    }
    for (uint16_t i = 0; i < batch->schema->column_count; i++) {
        if (take_column(in, batch, i, rows)) {
            return -1;
        }
    }
    if (view_left(in) != 0) {
        return -1;
    }
    batch->rows = rows;
    return 0;
}

struct batch *batch_decode(const void *p, size_t len, struct schema *schema, struct txlist *txs,
                           struct err *err) {
    struct view in = view_of(p, len);
    struct head head;
    struct batch *batch = NULL;
    bool sound = !take_copy(&in, sizeof head, &head) && head.magic == MAGIC &&
                 head.rows <= BATCH_ROWS_MAX && head.columns == schema->column_count &&
                 head.zero == 0 && (head.flags & ~FLAGS_ALL) == 0 &&
                 ((head.flags & FLAG_LOG) != 0) == (txs != NULL) &&
                 head.hash == hash_bytes((const uint8_t *)p + sizeof head.hash,
                                         len - sizeof head.hash, SEED);
    if (sound) {
        batch = batch_new(schema, head.rows ? head.rows : 1, txs);
        batch->backfill = (head.flags & FLAG_BACKFILL) != 0;
        batch->again = (head.flags & FLAG_AGAIN) != 0;
        batch->generation = head.generation;
        batch->joined = head.joined;
        sound = take_batch(&in, batch, head.rows) == 0;
    }
    if (!sound) {
        batch_unref(batch);
        err_set(err, ERR_REWIND, "spool_damaged",
                "rows of \"%s\" that were kept on disk for a while came back damaged",
                schema->label);
        return NULL;
    }
    batch_seal(batch);
    return batch;
}
