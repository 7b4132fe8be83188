/* Tables without a key: a multiset of whole rows. An insert appends; a delete or an update takes
 * out exactly one row equal to the before-row, wherever it is. See ice_stage.h.
 *
 * The index knows rows by their image (every cell, canonical: ice_key.h). The rows of one image's
 * hash form a chain: slot(hash, 0), slot(hash, 1), ... n-1 are in the index and no more, so that n
 * is found by probing. Where a chain has one row it is the one asked for; where it has several,
 * rows are read and compared, so equal hashes of different rows do no harm. Until the first change
 * that takes a row out there is no index and rows are just appended.
 *
 * Changes of a window are netted first: a multiset does not care for their order. Thread: the
 * writer's. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_stage_internal.h"

enum { SEARCH_MAX = 256 };

void ice_stage_put_image(const struct ice_stage *st, const struct lake_column *columns,
                         uint32_t row, struct buf *out) {
    for (uint32_t i = 0; i < st->image_count; i++) {
        const struct lake_column *c = &columns[i];
        const struct buf *missing = &st->fields[st->image_fields[i]].missing;
        int32_t id = st->schema.fields[st->image_fields[i]].id;
        size_t from = out->len;
        if (c->valid && !bit_get(c->valid, row)) {
            id = -id; /* as if by itself: no image has it of a field without a default */
            buf_put(out, &id, missing->len ? sizeof id : 0);
            continue;
        }
        buf_put(out, &id, sizeof id);
        ice_key_put_cell(out, c, row, ICE_KEY_EXACT);
        if (missing->len && out->len - from - sizeof id == missing->len &&
            memcmp(out->data + from + sizeof id, missing->data, missing->len) == 0) {
            out->len = from; /* so a column that was added later changes no image */
        }
    }
}

/* ---- chains ---- */

static uint64_t slot_of(uint64_t hash, uint64_t k) {
    uint64_t pair[2] = { hash, k };
    return hash_bytes(pair, sizeof pair, 0);
}

struct chain {
    uint64_t hash;
    uint64_t least; /* so many rows at least */
    uint64_t most;  /* ... at most; UINT64_MAX = not known */
};

static uint64_t next_probe(const struct chain *c) {
    return c->most == UINT64_MAX ? 2 * c->least : c->least + (c->most - c->least) / 2;
}

/* How long the chains are: least = most = the number of rows. Doubling, then halving, all at once.
 */
static int measure(struct ice_stage *st, struct chain *chains, uint32_t count, struct err *err) {
    uint64_t *slots = xmalloc((count + 1) * sizeof *slots);
    uint64_t *found = xmalloc((count + 1) * sizeof *found);
    uint32_t *asked = xmalloc((count + 1) * sizeof *asked);
    int rc = 0;
    for (uint32_t n = 1; rc == 0 && n > 0;) {
        n = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (chains[i].least != chains[i].most) {
                slots[n] = slot_of(chains[i].hash, next_probe(&chains[i]));
                asked[n++] = i;
            }
        }
        rc = n ? key_index_find(st->index, slots, n, found, err) : 0;
        for (uint32_t i = 0; rc == 0 && i < n; i++) {
            struct chain *c = &chains[asked[i]];
            uint64_t probe = next_probe(c);
            if (found[i] == KEY_LOC_NONE) {
                c->most = probe;
            } else {
                c->least = probe + 1;
            }
        }
    }
    free(asked);
    free(found);
    free(slots);
    return rc;
}

struct hashed {
    uint64_t hash;
    uint32_t at;
};

static int by_hash(const void *a, const void *b) {
    const struct hashed *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

int ice_stage_images_add(struct ice_stage *st, const uint64_t *hashes, const uint64_t *locs,
                         uint32_t count, struct err *err) {
    struct hashed *order = xmalloc((count + 1) * sizeof *order);
    struct chain *chains = xmalloc((count + 1) * sizeof *chains);
    uint64_t *slots = xmalloc((count + 1) * sizeof *slots);
    uint64_t *places = xmalloc((count + 1) * sizeof *places);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        order[i] = (struct hashed){ hashes[i], i };
    }
    qsort(order, count, sizeof *order, by_hash);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || order[i].hash != order[i - 1].hash) {
            chains[n++] = (struct chain){ order[i].hash, 0, UINT64_MAX };
        }
    }
    int rc = measure(st, chains, n, err);
    uint32_t chain = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        chain += i > 0 && order[i].hash != order[i - 1].hash;
        slots[i] = slot_of(order[i].hash, chains[chain].least++);
        places[i] = locs[order[i].at];
    }
    rc = rc || key_index_put(st->index, slots, places, count, err) ? -1 : 0;
    st->changes += count;
    free(places);
    free(slots);
    free(chains);
    free(order);
    return rc;
}

/* Rows of a chain that wait for the links that say where they lay. */
struct moving {
    uint64_t left;          /* links that are not looked at yet, the first ones of the chain */
    uint32_t next, waiting; /* rows, by their order */
};
struct moves {
    struct hashed *order;
    struct chain *chains;
    struct moving *moving; /* one a chain */
    uint32_t chain_count;
    uint64_t *slots, *places; /* asked, then put */
    uint32_t *asked;          /* chains */
};

/* Looks at as many links of each chain as rows of it wait. *asked 0: there are none of either. */
static int move_some(struct ice_stage *st, struct moves *v, const uint64_t *locs, uint32_t from,
                     uint32_t *asked, struct err *err) {
    uint32_t count = 0, moved = 0;
    for (uint32_t i = 0; i < v->chain_count; i++) {
        struct moving *m = &v->moving[i];
        for (uint32_t k = 0; k < m->waiting && m->left > 0; k++) {
            v->slots[count] = slot_of(v->chains[i].hash, --m->left);
            v->asked[count++] = i;
        }
    }
    *asked = count;
    if (count == 0 || key_index_find(st->index, v->slots, count, v->places, err)) {
        return count == 0 ? 0 : -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct moving *m = &v->moving[v->asked[i]];
        if (KEY_LOC_FILE(v->places[i]) == from) {
            v->slots[moved] = v->slots[i];
            v->places[moved++] = locs[v->order[m->next++].at];
            m->waiting--;
        }
    }
    return key_index_put(st->index, v->slots, v->places, moved, err);
}

/* Chains of the rows, and how much of long ones was looked at before. */
static int begin_moves(struct ice_stage *st, struct moves *v, const uint64_t *hashes,
                       uint32_t count, struct map *passed, struct err *err) {
    for (uint32_t i = 0; i < count; i++) {
        v->order[i] = (struct hashed){ hashes[i], i };
    }
    qsort(v->order, count, sizeof *v->order, by_hash);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || v->order[i].hash != v->order[i - 1].hash) {
            v->moving[v->chain_count] = (struct moving){ .next = i };
            v->chains[v->chain_count++] = (struct chain){ v->order[i].hash, 0, UINT64_MAX };
        }
        v->moving[v->chain_count - 1].waiting++;
    }
    if (measure(st, v->chains, v->chain_count, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < v->chain_count; i++) {
        const struct chain *c = &v->chains[i];
        const void *left = c->least > SEARCH_MAX ? map_get(passed, &c->hash, sizeof c->hash) : NULL;
        v->moving[i].left = left ? (uintptr_t)left - 1 : c->least;
    }
    return 0;
}

/* Which of the rows that equal each other lies where does not matter: a chain is of one image, or
 * its rows are read and compared. */
int ice_stage_images_move(struct ice_stage *st, const uint64_t *hashes, const uint64_t *locs,
                          uint32_t count, uint32_t from, struct map *passed, struct err *err) {
    struct moves v = { .order = xmalloc((count + 1) * sizeof *v.order),
                       .chains = xmalloc((count + 1) * sizeof *v.chains),
                       .moving = xmalloc((count + 1) * sizeof *v.moving),
                       .slots = xmalloc((count + 1) * sizeof *v.slots),
                       .places = xmalloc((count + 1) * sizeof *v.places),
                       .asked = xmalloc((count + 1) * sizeof *v.asked) };
    int rc = begin_moves(st, &v, hashes, count, passed, err);
    for (uint32_t asked = 1; rc == 0 && asked > 0;) {
        rc = move_some(st, &v, locs, from, &asked, err);
    }
    for (uint32_t i = 0; rc == 0 && i < v.chain_count; i++) {
        const struct chain *c = &v.chains[i];
        if (v.moving[i].waiting > 0) {
            rc = err_set(err, ERR_REWIND, "index_damaged",
                         "table \"%s\": a row is not in the index", st->label);
        } else if (c->least > SEARCH_MAX) {
            uintptr_t left = (uintptr_t)v.moving[i].left + 1;
            map_set(passed, &c->hash, sizeof c->hash, (void *)left);
        }
    }
    free(v.order);
    free(v.chains);
    free(v.moving);
    free(v.slots);
    free(v.places);
    free(v.asked);
    return rc;
}

/* Row k of a chain of n leaves; the last one takes its place. */
static int take_link(struct ice_stage *st, uint64_t hash, uint64_t k, uint64_t n, struct err *err) {
    uint64_t last = slot_of(hash, n - 1), slot = slot_of(hash, k), loc;
    st->changes++;
    if (k + 1 < n && (key_index_find(st->index, &last, 1, &loc, err) ||
                      key_index_put(st->index, &slot, &loc, 1, err))) {
        return -1;
    }
    return key_index_remove(st->index, &last, 1, err);
}

int ice_stage_image_remove(struct ice_stage *st, uint64_t hash, uint64_t loc, struct err *err) {
    struct chain c = { hash, 0, UINT64_MAX };
    if (measure(st, &c, 1, err)) {
        return -1;
    }
    for (uint64_t i = 0; i < c.least && i < SEARCH_MAX; i++) {
        uint64_t k = c.least - 1 - i, slot = slot_of(hash, k), now;
        if (key_index_find(st->index, &slot, 1, &now, err)) {
            return -1;
        }
        if (now == loc) {
            return take_link(st, hash, k, c.least, err);
        }
    }
    return err_set(err, ERR_REWIND, "index_damaged", "table \"%s\": a row is not in the index",
                   st->label);
}

/* ---- a window ---- */

/* A row that comes or goes. */
struct delta {
    uint64_t hash;
    size_t image_at;
    size_t image_len;
    uint32_t batch, row;
    bool goes;
    bool netted; /* with another one of the window */
};
struct ice_deltas {
    struct delta *at;
    uint32_t count, cap;
    struct batch **batches; /* borrowed */
    uint32_t batch_count, batch_cap;
    struct batch *filled; /* after-rows with cells of their before-rows */
    struct buf images;
};

static void deltas_release(struct ice_deltas *d) {
    batch_unref(d->filled);
    buf_release(&d->images);
    free(d->at);
    free(d->batches);
}

static uint32_t batch_number(struct ice_deltas *d, struct batch *batch) {
    for (uint32_t i = d->batch_count; i > 0; i--) {
        if (d->batches[i - 1] == batch) {
            return i - 1;
        }
    }
    if (d->batch_count == d->batch_cap) {
        d->batch_cap = d->batch_cap ? 2 * d->batch_cap : 8;
        d->batches = xrealloc(d->batches, d->batch_cap * sizeof *d->batches);
    }
    d->batches[d->batch_count] = batch;
    return d->batch_count++;
}

static void add_delta(struct ice_deltas *d, struct batch *batch, uint32_t row, bool goes) {
    if (d->count == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 256;
        d->at = xrealloc(d->at, d->cap * sizeof *d->at);
    }
    d->at[d->count++] = (struct delta){ .batch = batch_number(d, batch), .row = row, .goes = goes };
}

static bool lacks_cells(const struct batch *batch, uint32_t row) {
    for (uint16_t c = 0; c < batch->schema->column_count; c++) {
        if (cell_absent(&batch->columns[c], row)) {
            return true;
        }
    }
    return false;
}

static int refuse_imageless(const struct ice_stage *st, struct err *err) {
    err_set(err, ERR_FATAL, "keyless_change",
            "table \"%s\" has no key, and a row of it was changed or deleted without the log "
            "saying all of what it was: which one of the lake's cannot be told",
            st->label);
    return err_cure(err,
                    "ALTER TABLE %s REPLICA IDENTITY FULL, give the table a primary key, or name "
                    "one in the job: %s: key=(...)",
                    st->label, st->label);
}

static void fill_after(struct ice_deltas *d, const struct batch *before, uint32_t before_row,
                       struct batch *after, uint32_t after_row) {
    if (!d->filled) { /* a window has fewer changes than a batch rows */
        struct txlist *txs = txlist_new();
        d->filled = batch_new(after->schema, BATCH_ROWS_MAX, txs);
        txlist_unref(txs);
    }
    for (uint16_t c = 0; c < after->schema->column_count; c++) {
        bool lacks = cell_absent(&after->columns[c], after_row);
        batch_put_cell(d->filled, c, lacks ? before : after, lacks ? before_row : after_row);
    }
    uint32_t tx = txlist_add(d->filled->txs, &after->txs->at[after->tx[after_row]]);
    batch_row_done(d->filled, ROW_UPDATE_AFTER, tx, after->n[after_row]);
    add_delta(d, d->filled, d->filled->rows - 1, false);
}

static int take_change(struct ice_stage *st, struct ice_deltas *d, const struct stage_item *item,
                       const struct stage_change *c, struct err *err) {
    struct batch *batch = item->batches[c->batch];
    if (c->kind == ROW_INSERT) {
        add_delta(d, batch, c->row, false);
        return 0;
    }
    if (c->kind == ROW_UPDATE_AFTER || lacks_cells(batch, c->row)) {
        return refuse_imageless(st, err);
    }
    add_delta(d, batch, c->row, true);
    if (c->paired) {
        struct batch *after = item->batches[c->after_batch];
        if (!lacks_cells(after, c->after_row)) {
            add_delta(d, after, c->after_row, false);
        } else {
            fill_after(d, batch, c->row, after, c->after_row);
        }
    }
    return 0;
}

/* Images of all rows of the window, batch by batch. */
static int take_images(struct ice_stage *st, struct ice_deltas *d, struct err *err) {
    uint32_t *rows = xmalloc((d->count + 1) * sizeof *rows);
    struct delta **at = xmalloc((d->count + 1) * sizeof(struct delta *));
    struct lake_column *columns = xcalloc(st->image_count + 1, sizeof *columns);
    int rc = 0;
    for (uint32_t b = 0; rc == 0 && b < d->batch_count; b++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < d->count; i++) {
            if (d->at[i].batch == b) {
                at[n] = &d->at[i];
                rows[n++] = d->at[i].row;
            }
        }
        rc = n ? ice_stage_convert(st, d->batches[b], rows, n, NULL, err) : 0;
        for (uint32_t i = 0; rc == 0 && n && i < st->image_count; i++) {
            columns[i] = st->columns[st->image_fields[i]];
        }
        for (uint32_t i = 0; rc == 0 && i < n; i++) {
            at[i]->image_at = d->images.len;
            ice_stage_put_image(st, columns, i, &d->images);
            at[i]->image_len = d->images.len - at[i]->image_at;
            at[i]->hash =
                ice_key_hash(d->images.data + at[i]->image_at, at[i]->image_len, st->hash_mask);
        }
    }
    free(columns);
    free(at);
    free(rows);
    return rc;
}

static bool same_image(const struct ice_deltas *d, const struct delta *a, const struct delta *b) {
    return a->hash == b->hash && a->image_len == b->image_len &&
           memcmp(d->images.data + a->image_at, d->images.data + b->image_at, a->image_len) == 0;
}

static int delta_cmp(const void *a, const void *b) {
    const struct delta *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return x->batch != y->batch ? (x->batch < y->batch ? -1 : 1)
                                : (x->row > y->row) - (x->row < y->row);
}

/* Sorted by hash; what comes and goes within the window is neither. */
static void net(struct ice_deltas *d) {
    qsort(d->at, d->count, sizeof *d->at, delta_cmp);
    for (uint32_t from = 0, to; from < d->count; from = to) {
        for (to = from + 1; to < d->count && d->at[to].hash == d->at[from].hash; to++) {}
        uint32_t coming = from;
        for (uint32_t i = from; i < to; i++) {
            struct delta *goes = &d->at[i];
            for (uint32_t k = coming; goes->goes && !goes->netted && k < to; k++) {
                struct delta *comes = &d->at[k];
                if (!comes->goes && !comes->netted && same_image(d, goes, comes)) {
                    goes->netted = comes->netted = true;
                }
            }
            while (coming < to && (d->at[coming].goes || d->at[coming].netted)) {
                coming++;
            }
        }
    }
}

static int no_such_row(const struct ice_stage *st, struct err *err) {
    err_set(err, ERR_FATAL, "row_absent",
            "table \"%s\": the log deletes or changes a row that is not in the lake: somebody else "
            "wrote to the table",
            st->label);
    return ice_cure_read_again(st->label, err);
}

/* Which row of the chain is the image's. */
static int find_link(struct ice_stage *st, const struct ice_deltas *d, const struct delta *x,
                     uint64_t n, uint64_t *k, uint64_t *loc, struct err *err) {
    struct buf image;
    buf_init(&image, SIZE_MAX);
    int rc = 0;
    bool same = false;
    for (*k = 0; rc == 0 && !same && *k < n; *k += !same) {
        uint64_t slot = slot_of(x->hash, *k);
        rc = key_index_find(st->index, &slot, 1, loc, err);
        buf_clear(&image);
        if (rc == 0 && n > 1) {
            rc = ice_stage_read_image(st, *loc, &image, err);
        }
        same = rc == 0 &&
               (n == 1 || (image.len == x->image_len &&
                           memcmp(image.data, d->images.data + x->image_at, image.len) == 0));
    }
    buf_release(&image);
    return rc == 0 && !same ? no_such_row(st, err) : rc;
}

/* The marked copy that stays of a row that went. */
static int leave_marked(struct ice_stage *st, const struct ice_deltas *d, const struct delta *x,
                        struct err *err) {
    uint64_t loc;
    return ice_stage_write(st, d->batches[x->batch], &x->row, 1, &loc, err);
}

static int take_out(struct ice_stage *st, const struct ice_deltas *d, struct err *err) {
    for (uint32_t i = 0; i < d->count; i++) {
        const struct delta *x = &d->at[i];
        if (!x->goes) {
            continue;
        }
        struct chain c = { x->hash, 0, UINT64_MAX };
        uint64_t k = 0, loc = 0;
        if (!x->netted &&
            (measure(st, &c, 1, err) || find_link(st, d, x, c.least, &k, &loc, err) ||
             take_link(st, x->hash, k, c.least, err) || ice_stage_mark_dead(st, loc, err))) {
            return -1;
        }
        if (st->config->soft_deletes && row_kind_of(d->batches[x->batch], x->row) == ROW_DELETE &&
            leave_marked(st, d, x, err)) {
            return -1;
        }
    }
    return 0;
}

/* Rows that came, batch by batch. */
static int put_in(struct ice_stage *st, const struct ice_deltas *d, struct err *err) {
    uint32_t *rows = xmalloc((d->count + 1) * sizeof *rows);
    uint64_t *hashes = xmalloc((d->count + 1) * sizeof *hashes);
    uint64_t *locs = xmalloc((d->count + 1) * sizeof *locs);
    int rc = 0;
    for (uint32_t b = 0; rc == 0 && b < d->batch_count; b++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < d->count; i++) {
            const struct delta *x = &d->at[i];
            if (!x->goes && !x->netted && x->batch == b) {
                rows[n] = x->row;
                hashes[n++] = x->hash;
            }
        }
        if (n > 0) {
            rc = ice_stage_write(st, d->batches[b], rows, n, locs, err) ||
                         ice_stage_images_add(st, hashes, locs, n, err)
                     ? -1
                     : 0;
        }
    }
    free(locs);
    free(hashes);
    free(rows);
    return rc;
}

/* Rows are just appended: nothing goes and there is no index. */
static int append_rows(struct ice_stage *st, const struct ice_deltas *d, struct err *err) {
    uint32_t *rows = xmalloc((d->count + 1) * sizeof *rows);
    uint64_t *locs = xmalloc((d->count + 1) * sizeof *locs);
    int rc = 0;
    for (uint32_t from = 0, to; rc == 0 && from < d->count; from = to) {
        uint32_t n = 0;
        for (to = from; to < d->count && d->at[to].batch == d->at[from].batch; to++) {
            rows[n++] = d->at[to].row;
        }
        rc = ice_stage_write(st, d->batches[d->at[from].batch], rows, n, locs, err);
    }
    free(locs);
    free(rows);
    return rc;
}

static int apply(struct ice_stage *st, struct ice_deltas *d, struct err *err) {
    bool goes = false;
    int rc = ice_stage_end_full(st, err);
    for (uint32_t i = 0; i < d->count && !goes; i++) {
        goes = d->at[i].goes;
    }
    if (rc == 0 && goes && !st->index) {
        rc = ice_stage_open_late_index(st, err);
    }
    if (rc == 0 && !st->index) {
        rc = append_rows(st, d, err);
    } else if (rc == 0) {
        rc = take_images(st, d, err);
        if (rc == 0) {
            net(d);
            rc = take_out(st, d, err) || put_in(st, d, err) ? -1 : 0;
        }
    }
    batch_unref(d->filled);
    d->filled = NULL;
    buf_clear(&d->images);
    d->count = d->batch_count = 0;
    return rc;
}

struct ice_deltas *ice_stage_keyless_new(void) {
    struct ice_deltas *d = xcalloc(1, sizeof *d);
    buf_init(&d->images, SIZE_MAX);
    return d;
}

void ice_stage_keyless_free(struct ice_deltas *d) {
    deltas_release(d);
    free(d);
}

int ice_stage_keyless_change(struct ice_stage *st, const struct stage_item *item,
                             const struct stage_change *change, struct err *err) {
    struct ice_deltas *d = st->tools->deltas;
    if (take_change(st, d, item, change, err)) {
        return -1;
    }
    return d->count >= ICE_FOLD_CHANGES_MAX ? apply(st, d, err) : 0;
}

int ice_stage_keyless_rows(struct ice_stage *st, struct batch *batch, struct err *err) {
    struct ice_deltas *d = st->tools->deltas;
    for (uint32_t r = 0; r < batch->rows; r++) {
        add_delta(d, batch, r, false);
    }
    st->holding = st->holds_all;
    return apply(st, d, err);
}

int ice_stage_keyless_apply(struct ice_stage *st, struct err *err) {
    st->holding = st->reads_back;
    return apply(st, st->tools->deltas, err);
}
