/* The hybrid source, the joins: a chunk's rows and its folded events become snapshot rows at J, and
 * its range a part of the stream. See hybrid.c for the whole. */
#include "cdc/hybrid_internal.h"

#include <stdlib.h>

static void emit_snapshot_rows(struct hybrid *h, const struct hybrid_chunk *c,
                               struct batch *take_batch) {
    struct table *t = c->table;
    CHECK(take_batch->rows > 0);
    batch_adopt_schema(take_batch, t->current);
    take_batch->generation = t->generation;
    take_batch->backfill = t->generation > 1;
    take_batch->again = c->again;
    take_batch->joined = c->joined;
    metric_add(h->config.metrics, METRIC_SNAPSHOT_ROWS, take_batch->rows);
    h->emit(h->emit_arg,
            &(struct hybrid_out){
                .kind = OUT_ROWS, .batches = &take_batch, .count = 1, .at = c->joined });
}

/* Where overlay_apply gives its rows and holes. */
struct joining {
    struct hybrid *h;
    struct hybrid_chunk *c;
    struct buf holes; /* u32 length and bytes each: they are made when the chunk is done, since that
                         may restart the table */
    struct batch *removed; /* keys of holes that the target may have a row of */
};

static void joining_rows(void *arg, struct batch *take_batch) {
    struct joining *j = arg;
    emit_snapshot_rows(j->h, j->c, take_batch);
}

static void joining_hole(void *arg, const void *key, size_t len) {
    struct joining *j = arg;
    uint32_t n = (uint32_t)len;
    buf_put(&j->holes, &n, sizeof(n));
    buf_put(&j->holes, key, len);
}

int chunk_emit_rows(struct hybrid *h, struct hybrid_chunk *c, struct batch *take_batch,
                    struct err *err) {
    if (!c->overlay) {
        emit_snapshot_rows(h, c, take_batch);
        return 0;
    }
    struct joining j = { .h = h, .c = c };
    buf_init(&j.holes, SIZE_MAX);
    struct overlay_out out = { joining_rows, joining_hole, &j };
    struct table *t = c->table;
    uint64_t id = c->id;
    int rc = overlay_apply(c->overlay, take_batch, &out, err);
    struct view v = view_of(j.holes.data, j.holes.len);
    while (rc == 0 && view_left(&v) && chunk_find(h, id)) { /* a hole may begin the table anew */
        uint32_t n;
        memcpy(&n, v.at, sizeof(n));
        table_add_hole(h, t, v.at + sizeof(n), n);
        v.at += sizeof(n) + n;
    }
    buf_release(&j.holes);
    return rc;
}

/* A row without values but the key, for a hole that lies where the target may still have an older
 * row. */
static void emit_remove(struct hybrid *h, struct table *t, const void *key, size_t len) {
    struct txlist *txs = txlist_new(); /* only a batch of the log has cells that are not carried */
    txlist_add(txs, &(struct tx){ .commit = h->applied, .end = h->applied });
    struct batch *b = batch_new(t->current, 1, txs);
    txlist_unref(txs);
    struct view v = view_of(key, len);
    struct buf cell;
    buf_init(&cell, SIZE_MAX);
    for (uint16_t c = 0; c < t->current->column_count; c++) {
        if (t->current->columns[c].key_pos < 0) {
            batch_put_absent(b, c);
        }
    }
    for (uint16_t k = 0; k < t->current->key_count; k++) {
        uint16_t c = t->current->key[k];
        buf_clear(&cell);
        int rc = key_take_cell(&v, &t->current->columns[c].type, &cell);
        CHECK(rc == 0);
        if (b->columns[c].width) {
            memcpy(batch_fixed(b, c), cell.data, cell.len);
        } else {
            batch_put_var(b, c, cell.data, cell.len);
        }
    }
    batch_row_done(b, ROW_DELETE, 0, 0);
    batch_seal(b);
    b->generation = t->generation;
    buf_release(&cell);
    h->emit(h->emit_arg, &(struct hybrid_out){
                             .kind = OUT_REMOVE, .batches = &b, .count = 1, .at = h->applied });
}

/* Lays the rest of the overlay down and settles the holes. was_again: the target has older rows of
 * this range. */
static int finish_rows(struct hybrid *h, struct hybrid_chunk *c, bool was_again, struct err *err) {
    struct joining j = { .h = h, .c = c };
    buf_init(&j.holes, SIZE_MAX);
    struct overlay_out out = { joining_rows, joining_hole, &j };
    int rc = 0;
    for (uint32_t i = 0; i < c->row_batches && rc == 0; i++) {
        struct batch *b = c->rows[i];
        c->rows[i] = NULL;
        rc = overlay_apply(c->overlay, b, &out, err);
    }
    if (rc == 0) {
        rc = overlay_finish(c->overlay, &out, err);
    }
    struct table *t = c->table;
    bool whole = c->kind == KIND_WHOLE;
    uint32_t generation = t->generation;
    struct view v = view_of(j.holes.data, j.holes.len);
    while (rc == 0 && view_left(&v) && t->generation == generation) {
        uint32_t n;
        memcpy(&n, v.at, sizeof(n));
        if (was_again) {
            emit_remove(h, t, v.at + sizeof(n), n);
        }
        if (whole || spans_find(&t->joined, v.at + sizeof(n), n)) { /* else: read again anyway */
            table_add_hole(h, t, v.at + sizeof(n), n);
        }
        v.at += sizeof(n) + n;
    }
    buf_release(&j.holes);
    return rc;
}

static bool overlaps_again(const struct table *t, const struct hybrid_chunk *c) {
    for (uint32_t i = 0; i < t->again.count; i++) {
        const struct span *s = &t->again.at[i];
        bool apart = (c->hi.len && span_cmp_lo(&c->hi, &s->lo) <= 0) ||
                     (s->hi.len && span_cmp_lo(&s->hi, &c->lo) <= 0);
        if (!apart) {
            return true;
        }
    }
    return false;
}

/* The chunk's table takes the shape that the chunk's rows have: it was the table's definition. */
static void adopt_chunk_shape(struct hybrid *h, struct hybrid_chunk *c) {
    if (!schema_same_rows(c->table->current, c->schema)) {
        table_advance(h, c->table, c->schema, true);
    }
}

/* A key range, or one key of a hole, joins. */
static int join_range(struct hybrid *h, struct hybrid_chunk *c, struct err *err) {
    struct table *t = c->table;
    CHECK(h->border && logpos_cmp(h->applied, c->high) >= 0);
    c->joined = h->applied;
    adopt_chunk_shape(h, c);
    table_start_showing(h, t);
    bool was_again = c->kind == KIND_RANGE && overlaps_again(t, c);
    c->again = was_again || c->kind == KIND_EXACT;
    if (c->kind == KIND_EXACT) {
        table_drop_hole(h, t, c->lo.data, c->lo.len);
    } else {
        spans_add(&t->joined, &c->lo, &c->hi);
        spans_remove(&t->again, &c->lo, &c->hi);
    }
    uint64_t id = c->id, rows = c->row_count;
    if (finish_rows(h, c, was_again, err)) {
        return -1;
    }
    metric_add(h->config.metrics, METRIC_CHUNKS_JOINED, 1);
    if (chunk_find(h, id)) { /* else: a hole restarted the table */
        t->rows_read += rows;
        chunk_remove(h, c);
    }
    table_check_complete(h, t);
    return 0;
}

/* The events that waited for a whole-table chunk, now that it joined: they go the way of all
 * others. */
static int release_later(struct hybrid *h, struct held *later, struct err *err) {
    for (uint32_t i = 0; i < later->count; i++) {
        const struct batch *held = held_get(later, i, err);
        if (!held) {
            return -1;
        }
        uint8_t *all = xmalloc(held->rows / 8 + 1);
        memset(all, 0xff, held->rows / 8 + 1);
        struct batch *own = batch_select(held, all);
        free(all);
        struct batch *out = NULL;
        if (hybrid_route(h, own, &out, err)) {
            return -1;
        }
        if (out) {
            h->emit(h->emit_arg,
                    &(struct hybrid_out){
                        .kind = OUT_ROWS, .batches = &out, .count = 1, .at = h->applied });
        }
    }
    return 0;
}

/* All pieces of a flowing chunk were read: what its overlay has left, then the events that waited.
 */
static int join_whole(struct hybrid *h, struct hybrid_chunk *c, struct err *err) {
    struct table *t = c->table;
    uint64_t id = c->id;
    if (c->overlay && finish_rows(h, c, false, err)) {
        return -1;
    }
    if (!chunk_find(h, id)) {
        return 0; /* a hole too many restarted the table */
    }
    struct held later = c->later;
    held_init(&c->later, h->config.spool_ops, h->config.spool);
    metric_add(h->config.metrics, METRIC_CHUNKS_JOINED, 1);
    chunk_remove(h, c);
    spans_add(&t->joined, &(struct buf){ 0 }, &(struct buf){ 0 });
    table_check_complete(h, t);
    int rc = release_later(h, &later, err);
    held_release(&later);
    return rc;
}

void chunk_start_flowing(struct hybrid *h, struct hybrid_chunk *c) {
    c->phase = PHASE_FLOWING;
    c->joined = h->applied;
    adopt_chunk_shape(h, c);
    table_start_showing(h, c->table);
}

/* Joins what is ready, at a border. Starts over after each, since a join may end other chunks. */
int hybrid_join_ready(struct hybrid *h, struct err *err) {
    if (!h->border) {
        return 0;
    }
    for (uint32_t i = 0; i < h->chunk_count;) {
        struct hybrid_chunk *c = h->chunks[i];
        bool passed = c->phase != PHASE_OPEN && logpos_cmp(h->applied, c->high) >= 0;
        if (c->kind != KIND_WHOLE && c->phase == PHASE_READ && passed) {
            if (join_range(h, c, err)) {
                return -1;
            }
            i = 0;
        } else if (c->kind == KIND_WHOLE && c->phase == PHASE_READING && passed) {
            chunk_start_flowing(h, c);
            i++;
        } else if (c->kind == KIND_WHOLE && c->phase == PHASE_FLOWING &&
                   c->pieces_read == c->pieces) {
            if (join_whole(h, c, err)) {
                return -1;
            }
            i = 0;
        } else {
            i++;
        }
    }
    return 0;
}
