/* The hybrid source, what lanes ask and tell: opening chunks, their snapshots, their rows. See
 * hybrid.c for the whole. */
#include "cdc/hybrid_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define ROW_BYTES_GUESS 128u
#define ROWS_MIN 2u /* a range that ends early leaves its last row out: it needs one more */

struct hybrid_chunk *chunk_find(struct hybrid *h, uint64_t id) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        if (h->chunks[i]->id == id) {
            return h->chunks[i];
        }
    }
    return NULL;
}

struct hybrid_chunk *chunk_open(struct hybrid *h, struct table *t, enum chunk_kind kind) {
    struct hybrid_chunk *c = xcalloc(1, sizeof(*c));
    c->id = h->next_id++;
    c->table = t;
    c->kind = kind;
    c->phase = PHASE_OPEN;
    c->definition = schema_ref(t->definition);
    buf_init(&c->lo, KEY_BYTES_MAX);
    buf_init(&c->hi, KEY_BYTES_MAX);
    buf_init(&c->bounds, SIZE_MAX);
    snapshot_init(&c->snapshot);
    held_init(&c->later, h->config.spool_ops, h->config.spool);
    c->need_count = h->loose_count;
    c->need = xmalloc((h->loose_count + 1) * sizeof(*c->need));
    if (h->loose_count) {
        memcpy(c->need, h->loose, h->loose_count * sizeof(*c->need));
    }
    if (t->current->key_count) {
        c->overlay = overlay_new(h->config.spool_ops, h->config.spool);
    }
    if (h->chunk_count == h->chunk_cap) {
        h->chunk_cap = h->chunk_cap ? h->chunk_cap * 2 : 8;
        h->chunks = xrealloc(h->chunks, h->chunk_cap * sizeof(struct hybrid_chunk *));
    }
    h->chunks[h->chunk_count++] = c;
    return c;
}

static void drop_rows(struct hybrid_chunk *c) {
    for (uint32_t i = 0; i < c->row_batches; i++) {
        batch_unref(c->rows[i]);
    }
    free(c->rows);
    c->rows = NULL;
    c->row_batches = c->row_cap = 0;
    c->rows_bytes = 0;
}

static void chunk_free(struct hybrid_chunk *c) {
    drop_rows(c);
    buf_release(&c->lo);
    buf_release(&c->hi);
    buf_release(&c->bounds);
    snapshot_release(&c->snapshot);
    overlay_free(c->overlay);
    held_release(&c->later);
    schema_unref(c->definition);
    schema_unref(c->schema);
    free(c->need);
    free(c);
}

void chunk_remove(struct hybrid *h, struct hybrid_chunk *c) {
    uint32_t i = 0;
    while (h->chunks[i] != c) {
        i++;
        CHECK(i < h->chunk_count);
    }
    memmove(h->chunks + i, h->chunks + i + 1,
            (h->chunk_count - i - 1) * sizeof(struct hybrid_chunk *));
    h->chunk_count--;
    chunk_free(c);
}

void chunk_give_up(struct hybrid *h, struct hybrid_chunk *c) {
    struct table *t = c->table;
    metric_add(h->config.metrics, METRIC_CHUNKS_REOPENED, 1);
    if (c->phase == PHASE_FLOWING) {
        table_restart(h, t); /* its rows are on their way: only a new generation voids them */
        return;
    }
    if (c->kind == KIND_RANGE) {
        spans_add_apart(&t->todo, &c->lo, &c->hi);
    }
    chunk_remove(h, c);
}

/* Held rows may wait for hours: they keep their own transactions, not all of their segment's. */
static void keep_own_transactions(struct batch *rows) {
    struct txlist *own = txlist_new();
    uint32_t last = UINT32_MAX;
    for (uint32_t r = 0; r < rows->rows; r++) {
        if (rows->tx[r] != last) {
            last = rows->tx[r];
            txlist_add(own, &rows->txs->at[last]);
        }
        rows->tx[r] = own->count - 1;
    }
    txlist_unref(rows->txs);
    rows->txs = own;
}

void chunk_add_later(struct hybrid_chunk *c, const struct batch *b, const uint8_t *keep) {
    struct batch *rows = batch_select(b, keep);
    if (rows) {
        keep_own_transactions(rows);
        held_add(&c->later, rows);
    }
}

void chunk_drop_seen(const struct hybrid_chunk *c, const struct batch *b, uint8_t *keep) {
    for (uint32_t r = 0; r < b->rows; r++) {
        if (snapshot_sees(&c->snapshot, b->txs->at[b->tx[r]].id)) {
            bit_clear(keep, r);
        }
    }
}

/* A keyless table's events that waited before S was known: those that S sees are in its rows. */
static int drop_seen_later(struct hybrid_chunk *c, struct err *err) {
    struct held all = c->later;
    held_init(&c->later, all.ops, all.spool);
    int rc = 0;
    for (uint32_t i = 0; i < all.count && rc == 0; i++) {
        const struct batch *b = held_get(&all, i, err);
        if (!b) {
            rc = -1;
            break;
        }
        uint8_t *keep = xmalloc(b->rows / 8 + 1);
        memset(keep, 0xff, b->rows / 8 + 1);
        chunk_drop_seen(c, b, keep);
        chunk_add_later(c, b, keep);
        free(keep);
    }
    held_release(&all);
    return rc;
}

void chunk_order_release(struct chunk_order *o) {
    schema_unref(o->schema);
    buf_release(&o->lo);
    buf_release(&o->hi);
    *o = (struct chunk_order){ 0 };
}

static void order_init(struct chunk_order *o, uint64_t id, struct table *t) {
    *o = (struct chunk_order){ .id = id, .schema = schema_ref(t->definition) };
    buf_init(&o->lo, KEY_BYTES_MAX);
    buf_init(&o->hi, KEY_BYTES_MAX);
}

/* Rows of a chunk that make about the byte goal. */
static uint32_t rows_goal(const struct hybrid *h, const struct table *t) {
    uint64_t row_bytes =
        t->rows_estimate ? t->bytes_estimate / t->rows_estimate + 1 : ROW_BYTES_GUESS;
    uint64_t rows = h->config.chunk_bytes / row_bytes;
    if (rows > h->config.chunk_rows) {
        rows = h->config.chunk_rows;
    }
    return rows < ROWS_MIN ? ROWS_MIN : (uint32_t)rows;
}

/* A lane opens a chunk only with credit for it; the first one always has it. */
static bool has_credit(const struct hybrid *h) {
    size_t used = 0;
    bool any = false;
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        const struct hybrid_chunk *c = h->chunks[i];
        if (c->kind != KIND_WHOLE) {
            bool done = c->phase == PHASE_READ;
            used += done || c->rows_bytes > h->config.chunk_bytes ? c->rows_bytes
                                                                  : h->config.chunk_bytes;
            any = true;
        }
    }
    return !any || used + h->config.chunk_bytes <= h->config.rows_bytes_max;
}

/* What is held is at its limit and a flowing chunk holds of it: the log waits for that one's end,
 * and must not be made to go on by another chunk, which would be given up in turn. */
static bool must_not_open(const struct hybrid *h) {
    bool flowing = false;
    for (uint32_t i = 0; i < h->chunk_count && !flowing; i++) {
        flowing = h->chunks[i]->phase == PHASE_FLOWING;
    }
    return flowing && held_is_full(h);
}

static bool hole_is_open(const struct hybrid *h, const struct table *t, const void *key,
                         size_t len) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        const struct hybrid_chunk *c = h->chunks[i];
        if (c->table == t && c->kind == KIND_EXACT &&
            key_cmp(c->lo.data, c->lo.len, key, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool next_hole(struct hybrid *h, struct table *t, struct chunk_order *out) {
    if (t->whole && !t->complete) {
        return false; /* all its events go with the whole table's chunk, until that joins */
    }
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(t->holes, &at, &key, &len, NULL);) {
        if (!must_not_open(h) && !hole_is_open(h, t, key, len)) {
            struct hybrid_chunk *c = chunk_open(h, t, KIND_EXACT);
            buf_put(&c->lo, key, len);
            order_init(out, c->id, t);
            buf_put(&out->lo, key, len);
            out->exact = true;
            out->rows_max = 1;
            return true;
        }
    }
    return false;
}

static bool next_range(struct hybrid *h, struct table *t, struct chunk_order *out) {
    if (t->cut_asked && !t->cut_done) {
        return false; /* whatever its size is said to be now */
    }
    bool fresh = t->joined.count == 0 && t->again.count == 0 && !t->cut_done;
    if (fresh && h->config.sections_max > 1 && t->bytes_estimate > h->config.chunk_bytes) {
        t->cut_asked = true;
        t->cut_id = h->next_id++;
        order_init(out, t->cut_id, t);
        out->cut = true;
        out->pieces_max = h->config.sections_max;
        return true;
    }
    if (must_not_open(h) || !has_credit(h) || t->todo.count == 0) {
        return false;
    }
    struct hybrid_chunk *c = chunk_open(h, t, KIND_RANGE);
    buf_release(&c->lo);
    buf_release(&c->hi);
    spans_take_first(&t->todo, &c->lo, &c->hi);
    order_init(out, c->id, t);
    buf_put(&out->lo, c->lo.data, c->lo.len);
    buf_put(&out->hi, c->hi.data, c->hi.len);
    out->rows_max = rows_goal(h, t);
    return true;
}

/* The bounds of piece n of a whole-table chunk: lo of the first and hi of the last are open. */
static void piece_bounds(const struct hybrid_chunk *c, uint32_t n, struct buf *lo, struct buf *hi) {
    struct view v = view_of(c->bounds.data, c->bounds.len);
    for (uint32_t i = 0; i < c->pieces - 1 && i <= n; i++) {
        uint32_t len;
        CHECK(view_left(&v) >= sizeof(len));
        memcpy(&len, v.at, sizeof(len));
        v.at += sizeof(len);
        CHECK(view_left(&v) >= len);
        if (n > 0 && i == n - 1) {
            buf_put(lo, v.at, len);
        }
        if (i == n) {
            buf_put(hi, v.at, len);
        }
        v.at += len;
    }
}

static void order_piece(struct hybrid_chunk *c, struct chunk_order *out) {
    order_init(out, c->id, c->table);
    schema_unref(out->schema);
    out->schema = schema_ref(c->schema);
    out->whole = true;
    piece_bounds(c, c->pieces_taken++, &out->lo, &out->hi);
}

static bool next_whole(struct hybrid *h, struct table *t, struct chunk_order *out) {
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        struct hybrid_chunk *c = h->chunks[i];
        if (c->table != t) {
            continue;
        }
        CHECK(c->kind == KIND_WHOLE); /* its holes wait until it is complete */
        if (c->phase != PHASE_FLOWING || c->pieces_taken == c->pieces || !c->export_name[0]) {
            return false;
        }
        order_piece(c, out);
        out->piece = true;
        memcpy(out->export_name, c->export_name, sizeof(out->export_name));
        return true;
    }
    if (must_not_open(h)) {
        return false;
    }
    struct hybrid_chunk *c = chunk_open(h, t, KIND_WHOLE);
    order_init(out, c->id, t);
    out->whole = true;
    return true;
}

bool hybrid_next(struct hybrid *h, struct chunk_order *out) {
    for (uint32_t i = 0; i < h->table_count; i++) {
        struct table *t = h->tables[i];
        bool idle = t->gone || !t->captured || (t->complete && map_count(t->holes) == 0);
        if (idle || logpos_cmp(h->applied, logpos_max(t->defined_at, t->captured_from)) < 0) {
            continue; /* rule 8: a chunk opens only at or above W */
        }
        if (next_hole(h, t, out) ||
            (!t->complete && (t->whole ? next_whole(h, t, out) : next_range(h, t, out)))) {
            return true;
        }
    }
    return false;
}

static struct table *table_being_cut(struct hybrid *h, uint64_t id) {
    for (uint32_t i = 0; i < h->table_count; i++) {
        if (h->tables[i]->cut_asked && !h->tables[i]->cut_done && h->tables[i]->cut_id == id) {
            return h->tables[i];
        }
    }
    return NULL;
}

void hybrid_cut(struct hybrid *h, uint64_t id, const void *bounds, size_t bounds_len,
                uint32_t pieces) {
    struct table *t = table_being_cut(h, id);
    if (!t) {
        return;
    }
    t->cut_done = true;
    CHECK(t->todo.count == 1);
    struct view v = view_of(bounds, bounds_len);
    struct buf lo;
    buf_init(&lo, KEY_BYTES_MAX);
    struct spans sections;
    spans_init(&sections);
    for (uint32_t i = 0; i < pieces; i++) {
        struct buf hi;
        buf_init(&hi, KEY_BYTES_MAX);
        if (i + 1 < pieces) {
            uint32_t len;
            CHECK(view_left(&v) >= sizeof(len));
            memcpy(&len, v.at, sizeof(len));
            v.at += sizeof(len);
            CHECK(view_left(&v) >= len);
            buf_put(&hi, v.at, len);
            v.at += len;
            CHECK(span_cmp_lo(&lo, &hi) < 0);
        }
        spans_add_apart(&sections, &lo, &hi);
        buf_release(&lo);
        lo = hi;
    }
    buf_release(&lo);
    spans_release(&t->todo);
    t->todo = sections;
}

/* Rule 0 and the cover rule: does S see all that it must? */
static bool covers(const struct hybrid *h, const struct hybrid_chunk *c, const struct snapshot *s) {
    if (s->xmin < h->config.see_from_tx || s->xmin < c->table->see_from_tx) {
        return false;
    }
    for (uint32_t i = 0; i < c->need_count; i++) {
        if (!snapshot_sees(s, c->need[i])) {
            return false;
        }
    }
    return true;
}

/* Rule 8: under the lock the definition must be the one that was read before P0. False: the chunk
 * is over. */
static bool definition_holds(struct hybrid *h, struct hybrid_chunk *c,
                             const struct chunk_view *view) {
    struct table *t = c->table;
    bool same = same_definition(c->definition, view->schema);
    struct schema *folded = c->overlay ? overlay_schema(c->overlay) : NULL;
    if (same && (!folded || schema_same_rows(folded, view->schema))) {
        return true;
    }
    bool rewritten = table_needs_anew(h, t, view->schema);
    chunk_give_up(h, c);
    h->wants_catalogue = true;
    if (rewritten && h->config.rewrite_stops) {
        return false; /* the catalogue says so once more, and that is the error */
    }
    if (rewritten) {
        table_restart(h, t);
    }
    table_redefine(h, t, view->schema, view->high);
    return false;
}

enum chunk_verdict hybrid_view(struct hybrid *h, uint64_t id, struct chunk_view *take_view,
                               const char *export_name, const void *bounds, size_t bounds_len,
                               uint32_t pieces) {
    struct hybrid_chunk *c = chunk_find(h, id);
    enum chunk_verdict verdict = CHUNK_DROP;
    if (!c) {
        goto out;
    }
    CHECK(c->phase == PHASE_OPEN); /* one lane has it, and it asks until it is told */
    if (take_view->gone) {
        c->table->captured =
            false; /* not opened again before the catalogue says what became of it */
        h->wants_catalogue = true;
        chunk_give_up(h, c);
        goto out;
    }
    hybrid_seen(h, &take_view->snapshot);
    if (!covers(h, c, &take_view->snapshot)) {
        verdict = CHUNK_AGAIN;
        goto out;
    }
    if (!definition_holds(h, c, take_view)) {
        goto out;
    }
    snapshot_copy(&c->snapshot, &take_view->snapshot);
    c->high = take_view->high;
    c->schema = schema_ref(take_view->schema);
    c->phase = PHASE_READING;
    verdict = CHUNK_GO;
    if (c->kind == KIND_WHOLE) {
        CHECK(pieces > 0);
        c->pieces = pieces;
        buf_put(&c->bounds, bounds, bounds_len);
        snprintf(c->export_name, sizeof(c->export_name), "%s", export_name);
        struct err err = ERR_INIT;
        if (c->table->current->key_count == 0 && drop_seen_later(c, &err)) {
            chunk_give_up(
                h, c); /* the spool lost events: they can be had again only by another snapshot */
            verdict = CHUNK_DROP;
        } else if (h->border && logpos_cmp(h->applied, c->high) >= 0) {
            chunk_start_flowing(h, c); /* an idle log is past H already */
        }
    }
out:
    chunk_view_release(take_view);
    return verdict;
}

enum piece_answer hybrid_piece(struct hybrid *h, uint64_t id, struct chunk_order *out) {
    struct hybrid_chunk *c = chunk_find(h, id);
    CHECK(!c || c->kind == KIND_WHOLE);
    if (!c || (c->phase == PHASE_FLOWING && c->pieces_taken == c->pieces)) {
        return PIECE_NONE;
    }
    if (c->phase != PHASE_FLOWING) {
        return PIECE_WAIT;
    }
    order_piece(c, out);
    return PIECE_READ;
}

bool hybrid_pieces_done(const struct hybrid *h, uint64_t id) {
    const struct hybrid_chunk *c = chunk_find((struct hybrid *)h, id);
    return !c || c->pieces_read == c->pieces;
}

/* The key of row number `from_end` counted from the last one of the chunk. */
static void key_from_end(const struct hybrid_chunk *c, uint32_t from_end, struct buf *key) {
    CHECK(from_end < c->row_count);
    uint32_t i = c->row_batches - 1;
    for (; from_end >= c->rows[i]->rows; i--) {
        from_end -= c->rows[i]->rows;
    }
    int rc = key_put(key, c->rows[i], c->rows[i]->rows - 1 - from_end);
    CHECK(rc == 0);
}

/* The server must give rows in the order that our encoding has, or a range would miss some. */
static int check_order(const struct hybrid_chunk *c, const struct batch *b, struct err *err) {
    struct buf first, last;
    buf_init(&first, KEY_BYTES_MAX);
    buf_init(&last, KEY_BYTES_MAX);
    bool right = key_put(&first, b, 0) == 0 && key_put(&last, b, b->rows - 1) == 0 &&
                 key_cmp(first.data, first.len, last.data, last.len) <= 0 &&
                 span_holds(&c->lo, &c->hi, first.data, first.len) &&
                 span_holds(&c->lo, &c->hi, last.data, last.len);
    if (right && c->row_count) {
        buf_clear(&last); /* of the rows before these */
        key_from_end(c, 0, &last);
        right = key_cmp(last.data, last.len, first.data, first.len) < 0;
    }
    buf_release(&first);
    buf_release(&last);
    if (!right) {
        err_set(err, ERR_FATAL, "key_order",
                "table \"%s\": the server orders the key in another way than its bytes",
                b->schema->label);
        return err_cure(err,
                        "declare another key for it: `%s: key=(...)`, or report the key's type",
                        b->schema->label);
    }
    return 0;
}

/* Of the rows at or after the key of an exact chunk only the one with that very key. */
static struct batch *exact_row(const struct hybrid_chunk *c, struct batch *take_batch) {
    uint8_t *keep = xcalloc(1, take_batch->rows / 8 + 1);
    struct buf key;
    buf_init(&key, KEY_BYTES_MAX);
    for (uint32_t r = 0; r < take_batch->rows; r++) {
        buf_clear(&key);
        if (key_put(&key, take_batch, r) == 0 &&
            key_cmp(key.data, key.len, c->lo.data, c->lo.len) == 0) {
            bit_set(keep, r);
        }
    }
    struct batch *out = batch_select(take_batch, keep);
    free(keep);
    buf_release(&key);
    batch_unref(take_batch);
    return out;
}

static void keep_rows(struct hybrid_chunk *c, struct batch *take_batch) {
    if (c->row_batches == c->row_cap) {
        c->row_cap = c->row_cap ? c->row_cap * 2 : 16;
        c->rows = xrealloc(c->rows, c->row_cap * sizeof(struct batch *));
    }
    c->rows[c->row_batches++] = take_batch;
    c->rows_bytes += take_batch->bytes;
    c->row_count += take_batch->rows;
}

enum chunk_verdict hybrid_rows(struct hybrid *h, uint64_t id, struct batch *take_batch,
                               struct err *err) {
    struct hybrid_chunk *c = chunk_find(h, id);
    if (!c) {
        batch_unref(take_batch);
        return CHUNK_DROP;
    }
    CHECK(c->phase == PHASE_READING || c->phase == PHASE_FLOWING);
    if (c->kind == KIND_WHOLE) {
        c->table->rows_read += take_batch->rows;
        if (chunk_emit_rows(h, c, take_batch, err)) {
            return CHUNK_DROP;
        }
        return chunk_find(h, id) ? CHUNK_GO : CHUNK_DROP;
    }
    if (c->kind == KIND_EXACT) {
        struct batch *row = exact_row(c, take_batch);
        if (row) {
            keep_rows(c, row);
        }
        return CHUNK_GO;
    }
    if (check_order(c, take_batch, err)) {
        batch_unref(take_batch);
        return CHUNK_DROP;
    }
    keep_rows(c, take_batch);
    return c->rows_bytes >= h->config.chunk_bytes && c->row_count >= ROWS_MIN ? CHUNK_ENOUGH
                                                                              : CHUNK_GO;
}

static void drop_last_row(struct hybrid_chunk *c) {
    uint32_t last = c->row_batches - 1;
    struct batch *b = c->rows[last];
    uint8_t *keep = xcalloc(1, b->rows / 8 + 1);
    for (uint32_t r = 0; r + 1 < b->rows; r++) {
        bit_set(keep, r);
    }
    struct batch *rest = batch_select(b, keep);
    free(keep);
    batch_unref(b);
    c->row_batches = last;
    if (rest) {
        c->rows[c->row_batches++] = rest;
    }
    c->row_count--;
}

/* The range ends before its last row: between the two last keys lies a bound that is cheap to write
 * down. What is beyond it is free again. */
static void end_early(struct hybrid_chunk *c) {
    struct buf previous, last, bound;
    buf_init(&previous, KEY_BYTES_MAX);
    buf_init(&last, KEY_BYTES_MAX);
    buf_init(&bound, KEY_BYTES_MAX);
    key_from_end(c, 1, &previous);
    key_from_end(c, 0, &last);
    key_separator(&bound, c->schema, previous.data, previous.len, last.data, last.len);
    drop_last_row(c);
    spans_add_apart(&c->table->todo, &bound, &c->hi);
    buf_release(&c->hi);
    c->hi = bound;
    overlay_cut(c->overlay, &c->hi);
    buf_release(&previous);
    buf_release(&last);
}

int hybrid_end(struct hybrid *h, uint64_t id, bool complete, struct err *err) {
    struct hybrid_chunk *c = chunk_find(h, id);
    if (!c) {
        return 0;
    }
    if (c->kind == KIND_WHOLE) {
        CHECK(c->phase == PHASE_FLOWING && c->pieces_read < c->pieces);
        c->pieces_read++;
        return hybrid_join_ready(h, err);
    }
    CHECK(c->phase == PHASE_READING);
    if (!complete && c->kind == KIND_RANGE) {
        CHECK(c->row_count >= ROWS_MIN); /* lanes stop for no other reason than these rows */
        end_early(c);
    }
    c->phase = PHASE_READ;
    return hybrid_join_ready(h, err);
}

void hybrid_fail(struct hybrid *h, uint64_t id) {
    struct table *t = table_being_cut(h, id);
    if (t) {
        t->cut_asked = false;
        return;
    }
    struct hybrid_chunk *c = chunk_find(h, id);
    if (c) {
        chunk_give_up(h, c);
    }
}
