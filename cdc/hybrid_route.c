/* The hybrid source, the ways of the log's rows: through to the sink, into the overlay of the chunk
 * that is reading their range, aside until a whole table is read, or nowhere. See hybrid.c for the
 * whole. */
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
        if (c->table == t) {
            overlay_truncate(c->overlay);
        }
    }
    bool shown = t->joined.count > 0 || t->again.count > 0;
    table_drop_holes(x->h, t);
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
        bool other_rows = expected && !schema_same_rows(expected, b->schema);
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

/* The key is another one, and these rows may be from before that: where the log carries whole rows
 * or none it does not say by which key they were written (schema.h, identity). */
static bool key_moved_unseen(const struct schema *before, const struct schema *now) {
    bool said = now->identity == IDENTITY_KEY || now->identity == IDENTITY_INDEX;
    return !said && !now->append && !same_key(before, now);
}

/* The log's rows have another shape from here on. */
static int change_shape(struct hybrid *h, struct table *t, struct schema *shape, struct err *err) {
    bool trusted = table_trusts(h, t, shape);
    bool owes = !trusted && table_owes(h, t, shape, t->definition, true);
    if ((t->begun && (owes || target_needs_anew(h, t->current, shape))) ||
        ((t->begun || t->complete) && key_moved_unseen(t->current, shape))) {
        if (h->config.rewrite_stops) {
            return table_rewrite_stops(t->current, err);
        }
        table_restart(h, t); /* what the target has stays as it is until all is there anew */
    } else if (t->begun) {
        t->unverified = true;
        h->shape_changed = true;
    }
    h->wants_catalogue = true;
    table_advance(h, t, shape, trusted);
    return 0;
}

/* Takes the batch; *out is what goes on now. */
int hybrid_route(struct hybrid *h, struct batch *take_batch, struct batch **out, struct err *err) {
    struct batch *b = take_batch;
    struct table *t = table_find(h, b->schema->table_id);
    *out = NULL;
    int rc = 0;
    if (!t || t->gone) {
        batch_unref(b);
        return 0;
    }
    if (!t->complete || has_open_chunk(h, t)) {
        check_shape(h, t, b);
    }
    if (t->seen != b->schema && !schema_same_rows(t->current, b->schema)) {
        if (change_shape(h, t, b->schema, err)) {
            batch_unref(b);
            return -1;
        }
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
    if (*out) {
        batch_adopt_schema(*out, t->current);
        (*out)->generation = generation;
    }
    return rc;
}
