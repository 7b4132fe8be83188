/* The hybrid source, heart of it: what happens to the log's rows, and how chunks join the stream.
 *
 * A chunk:
 *
 *             hybrid_next            hybrid_view: S sees all it must        hybrid_end          the
 * log passed H, at a border (range) ------------> OPEN ---------------------------------> READING
 * ----------> READ -----------------------------> joined |  ^ |                  | |  |
 * CHUNK_AGAIN: another S               | whole table: the log passed H, at a border |  +--- v |
 * FLOWING (rows go out as they come; later events wait) -----> joined v all pieces read given up
 * (definition changed, limit, lane failed): its range is free again; FLOWING: a new generation
 *
 * While a range's chunk is open its events are folded into the chunk's overlay; before, they are
 * dropped; after, they flow. Every transaction handed on is loose until some snapshot was seen to
 * see it. J, the border at which a chunk joins, is at or above its H: replaying all that was
 * buffered up to J over the rows of S gives the table's state at J.
 *
 * Thread: the merge task. Never blocks, sleeps, or reads a clock; files only through the spool it
 * was given. */
#include "cdc/hybrid_internal.h"

#include <stdlib.h>

enum act { ACT_DROP = 0, ACT_KEEP, ACT_DELETE, ACT_INSERT };

static struct hybrid_chunk *whole_chunk_of(struct hybrid *h, const struct table *t) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        if (h->chunks[i]->table == t && h->chunks[i]->kind == KIND_WHOLE) {
            return h->chunks[i];
        }
    }
    return NULL;
}

static bool has_open_chunk(const struct hybrid *h, const struct table *t) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        if (h->chunks[i]->table == t) {
            return true;
        }
    }
    return false;
}

/* Whose is a key? */
enum owner { OWNER_NONE, OWNER_JOINED, OWNER_CHUNK };
static enum owner owner_of(struct hybrid *h, struct table *t, const struct buf *key,
                           struct hybrid_chunk **chunk) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        struct hybrid_chunk *c = h->chunks[i];
        if (c->table == t && c->kind == KIND_EXACT &&
            key_cmp(c->lo.data, c->lo.len, key->data, key->len) == 0) {
            *chunk = c;
            return OWNER_CHUNK;
        }
    }
    if (map_get(t->holes, key->data, key->len)) {
        return OWNER_NONE;
    }
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        struct hybrid_chunk *c = h->chunks[i];
        if (c->table == t &&
            (c->kind == KIND_WHOLE ||
             (c->kind == KIND_RANGE && span_holds(&c->lo, &c->hi, key->data, key->len)))) {
            *chunk = c;
            return OWNER_CHUNK;
        }
    }
    return spans_find(&t->joined, key->data, key->len) ? OWNER_JOINED : OWNER_NONE;
}

/* One batch being routed, change by change. */
struct routing {
    struct hybrid *h;
    struct table *t;
    const struct batch *b;
    uint8_t *acts;
    struct buf old_key, new_key;
};

static bool absent_in_row(const struct batch *b, uint32_t row) {
    for (uint16_t c = 0; c < b->schema->column_count; c++) {
        if (cell_absent(&b->columns[c], row)) {
            return true;
        }
    }
    return false;
}

static int key_of(struct buf *key, const struct batch *b, uint32_t row, struct err *err) {
    buf_clear(key);
    if (key_put(key, b, row)) {
        return err_set(err, ERR_FATAL, "key_missing",
                       "table \"%s\": a change in the log has a null or no value in a key column",
                       b->schema->label);
    }
    return 0;
}

/* The key is gone from its range. A range that is read again has rows in the target: deletes flow
 * to it all the same. */
static enum act route_delete(struct routing *x, const struct buf *key, enum act as) {
    struct hybrid_chunk *c = NULL;
    switch (owner_of(x->h, x->t, key, &c)) {
    case OWNER_JOINED:
        return as;
    case OWNER_CHUNK:
        overlay_delete(c->overlay, key->data, key->len);
        break;
    case OWNER_NONE:
        break;
    }
    return spans_find(&x->t->again, key->data, key->len) ? as : ACT_DROP;
}

/* A row with this key and these cells is there now; moved: it came from another key. */
static int route_put(struct routing *x, const struct buf *key, uint32_t row, bool moved,
                     enum act as, uint8_t *act, struct err *err) {
    struct hybrid_chunk *c = NULL;
    *act = ACT_DROP;
    switch (owner_of(x->h, x->t, key, &c)) {
    case OWNER_JOINED:
        if (moved && absent_in_row(x->b, row)) {
            table_add_hole(x->h, x->t, key->data, key->len);
        } else {
            *act = (uint8_t)as;
        }
        return 0;
    case OWNER_CHUNK:
        return overlay_put(c->overlay, key->data, key->len, x->b, row, err);
    case OWNER_NONE:
        return 0;
    }
    return 0;
}

static int route_update(struct routing *x, uint32_t before, uint32_t after, struct err *err) {
    if (key_of(&x->old_key, x->b, before, err) || key_of(&x->new_key, x->b, after, err)) {
        return -1;
    }
    if (key_cmp(x->old_key.data, x->old_key.len, x->new_key.data, x->new_key.len) == 0) {
        if (route_put(x, &x->new_key, after, false, ACT_KEEP, &x->acts[after], err)) {
            return -1;
        }
        x->acts[before] = x->acts[after];
        return 0;
    }
    struct hybrid_chunk *c = NULL;
    bool from_joined = owner_of(x->h, x->t, &x->old_key, &c) == OWNER_JOINED;
    bool to_joined = owner_of(x->h, x->t, &x->new_key, &c) == OWNER_JOINED;
    if (from_joined && to_joined) {
        x->acts[before] = x->acts[after] = ACT_KEEP;
        return 0;
    }
    x->acts[before] = (uint8_t)route_delete(x, &x->old_key, ACT_DELETE);
    return route_put(x, &x->new_key, after, true, ACT_INSERT, &x->acts[after], err);
}

static enum act route_truncate(struct routing *x) {
    struct table *t = x->t;
    for (uint32_t i = 0; i < x->h->chunk_count; i++) {
        struct hybrid_chunk *c = x->h->chunks[i];
        if (c->table == t && c->overlay) {
            overlay_truncate(c->overlay);
        }
    }
    bool shown = t->joined.count > 0 || t->again.count > 0;
    table_drop_holes(x->h, t, &(struct buf){ 0 }, &(struct buf){ 0 });
    spans_clear(&t->again);
    return shown ? ACT_KEEP : ACT_DROP;
}

static int route_row(struct routing *x, uint32_t *row, struct err *err) {
    uint32_t r = *row;
    switch (row_kind_of(x->b, r)) {
    case ROW_INSERT:
    case ROW_UPDATE_AFTER:
        if (key_of(&x->new_key, x->b, r, err)) {
            return -1;
        }
        return route_put(x, &x->new_key, r, false, ACT_KEEP, &x->acts[r], err);
    case ROW_UPDATE_BEFORE:
        CHECK(r + 1 < x->b->rows && row_kind_of(x->b, r + 1) == ROW_UPDATE_AFTER);
        *row = r + 1;
        return route_update(x, r, r + 1, err);
    case ROW_DELETE:
        if (key_of(&x->old_key, x->b, r, err)) {
            return -1;
        }
        x->acts[r] = (uint8_t)route_delete(x, &x->old_key, ACT_KEEP);
        return 0;
    case ROW_TRUNCATE:
        x->acts[r] = (uint8_t)route_truncate(x);
        return 0;
    }
    return 0;
}

/* The rows that go on, with the kinds that the acts give them; NULL if none does. */
static struct batch *acted_rows(const struct batch *b, const uint8_t *acts) {
    uint32_t kept = 0, changed = 0;
    for (uint32_t r = 0; r < b->rows; r++) {
        kept += acts[r] != ACT_DROP;
        changed += acts[r] == ACT_DELETE || acts[r] == ACT_INSERT;
    }
    if (kept == 0) {
        return NULL;
    }
    if (changed == 0) {
        uint8_t *keep = xcalloc(1, b->rows / 8 + 1);
        for (uint32_t r = 0; r < b->rows; r++) {
            if (acts[r] != ACT_DROP) {
                bit_set(keep, r);
            }
        }
        struct batch *out = batch_select(b, keep);
        free(keep);
        return out;
    }
    struct batch *out = batch_new(b->schema, kept, b->txs);
    for (uint32_t r = 0; r < b->rows; r++) {
        if (acts[r] != ACT_DROP) {
            enum row_kind kind = acts[r] == ACT_DELETE   ? ROW_DELETE
                                 : acts[r] == ACT_INSERT ? ROW_INSERT
                                                         : row_kind_of(b, r);
            batch_put_row(out, b, r, kind, b->tx[r], b->n[r]);
        }
    }
    batch_seal(out);
    return out;
}

/* A table that is partly read: each change goes its own way. */
static int route_partial(struct hybrid *h, struct table *t, const struct batch *b,
                         struct batch **out, struct err *err) {
    struct routing x = { .h = h, .t = t, .b = b, .acts = xcalloc(1, b->rows + 1) };
    buf_init(&x.old_key, KEY_BYTES_MAX);
    buf_init(&x.new_key, KEY_BYTES_MAX);
    int rc = 0;
    for (uint32_t r = 0; r < b->rows && rc == 0; r++) {
        rc = route_row(&x, &r, err);
    }
    *out = rc == 0 ? acted_rows(b, x.acts) : NULL;
    free(x.acts);
    buf_release(&x.old_key);
    buf_release(&x.new_key);
    return rc;
}

/* A table that is read as one chunk whose rows flow, or that has no key: its events wait in order.
 */
static void hold_later(struct hybrid_chunk *c, const struct batch *b) {
    uint8_t *keep = xmalloc(b->rows / 8 + 1);
    memset(keep, 0xff, b->rows / 8 + 1);
    if (c->table->current->key_count == 0 && c->phase != PHASE_OPEN) {
        chunk_drop_seen(c, b, keep);
    }
    chunk_add_later(c, b, keep);
    free(keep);
}

/* A change of shape in the log ends the open chunks whose rows have another one (rule 8). */
static void check_shape(struct hybrid *h, struct table *t, const struct batch *b) {
    for (uint32_t i = 0; i < h->chunk_count;) {
        struct hybrid_chunk *c = h->chunks[i];
        const struct schema *expected = c->schema    ? c->schema
                                        : c->overlay ? overlay_schema(c->overlay)
                                                     : NULL;
        bool other_rows =
            expected && expected != b->schema && !schema_same_rows(expected, b->schema);
        bool other_kind = (c->overlay == NULL) != (b->schema->key_count == 0);
        if (c->table == t && (other_rows || other_kind)) {
            h->wants_catalogue = true;
            chunk_give_up(h, c);
            i = 0; /* giving up may end other chunks of the table */
        } else {
            i++;
        }
    }
}

/* Takes the batch; *out is what goes on now. */
static int route_batch(struct hybrid *h, struct batch *take_batch, struct batch **out,
                       struct err *err) {
    struct batch *b = take_batch;
    struct table *t = table_find(h, b->schema->table_id);
    *out = NULL;
    int rc = 0;
    if (!t || t->gone || b->rows == 0) {
        batch_unref(b);
        return 0;
    }
    if (!t->complete || has_open_chunk(h, t)) {
        check_shape(h, t, b);
    }
    if (t->seen != b->schema && !schema_same_rows(t->current, b->schema)) {
        if (t->begun || t->complete) {
            t->unverified = true;
            h->shape_changed = true;
        }
        h->wants_catalogue = true;
        table_advance(h, t, b->schema);
    }
    if (t->seen != b->schema) {
        schema_unref(t->seen);
        t->seen = schema_ref(b->schema);
    }
    struct hybrid_chunk *whole = t->complete ? NULL : whole_chunk_of(h, t);
    uint32_t generation = t->generation; /* a hole in here may begin the next one */
    if (whole && (whole->phase == PHASE_FLOWING || t->current->key_count == 0)) {
        hold_later(whole, b);
        batch_unref(b);
        return 0;
    }
    if (t->complete && !has_open_chunk(h, t) && map_count(t->holes) == 0) {
        *out = b;
    } else if (t->current->key_count == 0) {
        batch_unref(b); /* no chunk is open: dropped, its transactions stay loose */
        return 0;
    } else {
        rc = route_partial(h, t, b, out, err);
        batch_unref(b);
    }
    if (rc == 0 && *out) {
        batch_adopt_schema(*out, t->current);
        (*out)->generation = generation;
    }
    return rc;
}

static void loose_add(struct hybrid *h, const struct txlist *txs) {
    for (uint32_t i = 0; txs && i < txs->count; i++) {
        if (h->loose_count && h->loose[h->loose_count - 1] == txs->at[i].id) {
            continue; /* the transaction that the last segment ended in */
        }
        if (h->loose_count == h->loose_cap) {
            h->loose_cap = h->loose_cap ? h->loose_cap * 2 : 256;
            h->loose = xrealloc(h->loose, h->loose_cap * sizeof(*h->loose));
        }
        h->loose[h->loose_count++] = txs->at[i].id;
    }
    metric_set(h->config.metrics, METRIC_LOOSE, h->loose_count);
}

void hybrid_seen(struct hybrid *h, const struct snapshot *s) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < h->loose_count; i++) {
        if (!snapshot_sees(s, h->loose[i])) {
            h->loose[left++] = h->loose[i];
        }
    }
    h->loose_count = left;
    metric_set(h->config.metrics, METRIC_LOOSE, left);
}

static size_t held_bytes(const struct hybrid *h) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        const struct hybrid_chunk *c = h->chunks[i];
        bytes += c->later.bytes + (c->overlay ? overlay_bytes(c->overlay) : 0);
    }
    return bytes;
}

/* Beyond the memory for held events they go to the spool; when that is full, or cannot take them,
 * the youngest chunk is given up. */
int limit_held(struct hybrid *h, struct err *err) {
    size_t bytes = held_bytes(h);
    metric_set(h->config.metrics, METRIC_HELD_BYTES, (int64_t)bytes);
    if (bytes <= h->config.held_bytes_max) {
        return 0;
    }
    bool failed = false;
    for (uint32_t i = 0; i < h->chunk_count && !failed; i++) {
        struct hybrid_chunk *c = h->chunks[i];
        failed = (c->overlay && overlay_spill(c->overlay, err)) || held_spill(&c->later, err);
    }
    if (failed && err->kind == ERR_REWIND) {
        return -1; /* the spool lost what it held */
    }
    if (!failed && !h->config.spool_ops->full(h->config.spool) &&
        held_bytes(h) <= h->config.held_bytes_max) {
        return 0;
    }
    err_clear(err);
    for (uint32_t i = h->chunk_count; i-- > 0;) {
        if (h->chunks[i]->phase != PHASE_FLOWING) {
            metric_add(h->config.metrics, METRIC_CHUNKS_GIVEN_UP, 1);
            chunk_give_up(h, h->chunks[i]);
            return 0;
        }
    }
    return 0; /* only flowing ones are left: hybrid_log_must_wait */
}

bool held_is_full(const struct hybrid *h) {
    size_t bytes = held_bytes(h);
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        bytes += h->chunks[i]->later.kept;
    }
    return h->config.spool_ops->full(h->config.spool) || bytes > 2 * h->config.held_bytes_max;
}

bool hybrid_log_must_wait(const struct hybrid *h) {
    bool flowing = false;
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        const struct hybrid_chunk *c = h->chunks[i];
        if (c->phase != PHASE_FLOWING || c->pieces_read == c->pieces) {
            return false; /* a chunk that was read waits for the next border: for the log */
        }
        flowing = true;
    }
    return flowing && held_is_full(h);
}

int hybrid_segment(struct hybrid *h, struct segment *take_segment, struct err *err) {
    struct segment *seg = take_segment;
    int rc = 0;
    uint32_t out_count = 0;
    struct batch **outs = xcalloc(seg->batch_count + 1, sizeof(struct batch *));
    loose_add(h, seg->txs);
    for (uint32_t i = 0; i < seg->batch_count && rc == 0; i++) {
        struct batch *b = seg->batches[i];
        seg->batches[i] = NULL;
        rc = route_batch(h, b, &outs[out_count], err);
        out_count += outs[out_count] != NULL;
    }
    if (rc == 0 && out_count) {
        h->emit(h->emit_arg,
                &(struct hybrid_out){
                    .kind = OUT_ROWS, .batches = outs, .count = out_count, .at = seg->to });
    } else {
        for (uint32_t i = 0; i < out_count; i++) {
            batch_unref(outs[i]);
        }
    }
    free(outs);
    if (rc == 0) {
        CHECK(logpos_cmp(seg->to, h->applied) >= 0);
        h->applied = seg->to;
        h->resume = seg->resume;
        h->border = seg->at_border;
        tables_end(h);
        rc = limit_held(h, err);
    }
    segment_free(seg);
    return rc == 0 ? hybrid_join_ready(h, err) : -1;
}

void emit_snapshot_rows(struct hybrid *h, struct table *t, struct batch *take_batch,
                        struct logpos joined) {
    if (take_batch->rows == 0) {
        batch_unref(take_batch);
        return;
    }
    batch_adopt_schema(take_batch, t->current);
    take_batch->generation = t->generation;
    take_batch->backfill = t->generation > 1;
    take_batch->joined = joined;
    metric_add(h->config.metrics, METRIC_SNAPSHOT_ROWS, take_batch->rows);
    h->emit(h->emit_arg, &(struct hybrid_out){
                             .kind = OUT_ROWS, .batches = &take_batch, .count = 1, .at = joined });
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
    emit_snapshot_rows(j->h, j->c->table, take_batch, j->c->joined);
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
        emit_snapshot_rows(h, c->table, take_batch, c->joined);
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

/* The chunk's table takes the shape that the chunk's rows have. */
static void adopt_chunk_shape(struct hybrid *h, struct hybrid_chunk *c) {
    if (!schema_same_rows(c->table->current, c->schema)) {
        table_advance(h, c->table, c->schema);
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
    if (c->kind == KIND_EXACT) {
        table_drop_hole(h, t, c->lo.data, c->lo.len);
    } else {
        spans_add(&t->joined, &c->lo, &c->hi);
        spans_remove(&t->again, &c->lo, &c->hi);
    }
    if (finish_rows(h, c, was_again, err)) {
        return -1;
    }
    t->rows_read += c->row_count;
    metric_add(h->config.metrics, METRIC_CHUNKS_JOINED, 1);
    uint64_t id = c->id;
    if (chunk_find(h, id)) { /* a hole too many may have restarted the table */
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
        if (route_batch(h, own, &out, err)) {
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

struct logpos hybrid_applied(const struct hybrid *h) {
    return h->applied;
}
struct logpos hybrid_resume(const struct hybrid *h) {
    return h->resume;
}
bool hybrid_at_border(const struct hybrid *h) { return h->border; }
uint32_t hybrid_loose(const struct hybrid *h) { return h->loose_count; }

bool hybrid_joined(const struct hybrid *h) {
    for (uint32_t i = 0; i < h->table_count; i++) {
        if (!h->tables[i]->gone && (!h->tables[i]->complete || map_count(h->tables[i]->holes))) {
            return false;
        }
    }
    return h->chunk_count == 0;
}

struct logpos hybrid_wants(const struct hybrid *h) {
    struct logpos wanted = LOGPOS_NONE;
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        if (h->chunks[i]->phase != PHASE_OPEN && logpos_cmp(h->chunks[i]->high, h->applied) > 0) {
            wanted = logpos_max(wanted, h->chunks[i]->high);
        }
    }
    for (uint32_t i = 0; i < h->table_count; i++) {
        const struct table *t = h->tables[i];
        struct logpos from = logpos_max(t->defined_at, t->captured_from);
        if (!t->gone && (!t->complete || map_count(t->holes)) && logpos_cmp(from, h->applied) > 0) {
            wanted = logpos_max(wanted, from);
        }
    }
    return wanted;
}

bool hybrid_shape_changed(struct hybrid *h, bool reset) {
    bool changed = h->shape_changed;
    h->shape_changed = changed && !reset;
    return changed;
}

bool hybrid_schemas_changed(struct hybrid *h, bool reset) {
    bool changed = h->schemas_changed;
    h->schemas_changed = changed && !reset;
    return changed;
}

bool hybrid_wants_catalogue(struct hybrid *h, bool reset) {
    bool wants = h->wants_catalogue;
    h->wants_catalogue = wants && !reset;
    return wants;
}
