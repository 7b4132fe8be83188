/* Held rows sorted. See ice_sort.h.
 *
 *   blocks as they came -> columns of a run's rows, their keys -> keys sorted -> rows picked in
 * that order to the other hold -> one run: given as it lies; several: merged by a heap of their
 * heads */
#include "sinks/iceberg/ice_sort.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/arena.h"

enum { PIECE_ROWS = 4096, PIECE_BYTES = 1 << 20 };

/* A row's key; it lies in an arena. */
struct sort_key {
    uint32_t row, len;
    uint8_t bytes[];
};
struct sorted {
    uint64_t prefix; /* of the key, so that most are told apart by it */
    const struct sort_key *key;
};
/* A run's head in the merge. */
struct head {
    struct ice_hold_cursor *cursor;
    const struct lake_column *columns;
    uint32_t row, rows; /* rows 0: it is at its end */
    uint64_t prefix;
    struct buf key;
};
struct sorting {
    const struct ice_sort *s;
    uint64_t seen;  /* rows of the file */
    uint32_t count; /* columns */
    uint32_t run_count;
    struct lake_builder *builders; /* NULL: there was no row yet */
    struct lake_column *columns;
    struct arena keys;
    struct sorted *rows; /* of the run that is made */
    uint32_t row_count, row_cap;
    struct buf key;   /* scratch */
    uint32_t *living; /* rows of a block */
    uint32_t living_cap;
    struct head *heads;
    uint32_t *heap; /* indexes of heads, the least on top */
    uint32_t heap_count;
};

static uint64_t prefix_of(const void *key, size_t len) {
    uint8_t first[8] = { 0 };
    uint64_t prefix = 0;
    memcpy(first, key, len < sizeof first ? len : sizeof first);
    for (size_t i = 0; i < sizeof first; i++) {
        prefix = prefix << 8 | first[i];
    }
    return prefix;
}

/* No key is the beginning of another. */
static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len) {
    int differ = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return differ ? differ : (a_len > b_len) - (a_len < b_len);
}

static int by_key(const void *a, const void *b) {
    const struct sorted *x = a, *y = b;
    if (x->prefix != y->prefix) {
        return x->prefix < y->prefix ? -1 : 1;
    }
    int differ = compare_bytes(x->key->bytes, x->key->len, y->key->bytes, y->key->len);
    return differ ? differ : (x->key->row > y->key->row) - (x->key->row < y->key->row);
}

/* ---- runs ---- */

static void make_builders(struct sorting *t, const struct lake_column *columns) {
    t->builders = xcalloc(t->count + 1, sizeof *t->builders);
    t->columns = xcalloc(t->count + 1, sizeof *t->columns);
    for (uint32_t i = 0; i < t->count; i++) {
        lake_builder_init(&t->builders[i]);
        lake_builder_begin(&t->builders[i], &columns[i].type);
    }
}

static size_t built_bytes(const struct lake_builder *b) {
    return b->data.len + b->offsets.len + b->valid.len +
           (b->elements ? built_bytes(b->elements) : 0);
}

static size_t bytes_of(const struct sorting *t) {
    size_t n = t->keys.used + t->row_count * sizeof *t->rows;
    for (uint32_t i = 0; t->builders && i < t->count; i++) {
        n += built_bytes(&t->builders[i]);
    }
    return n;
}

static void take_key(struct sorting *t, const struct lake_column *columns, uint32_t row) {
    if (t->row_count == t->row_cap) {
        t->row_cap = t->row_cap ? 2 * t->row_cap : 256;
        t->rows = xrealloc(t->rows, t->row_cap * sizeof *t->rows);
    }
    buf_clear(&t->key);
    ice_order_put_key(t->s->order, t->s->indexes, columns, row, &t->key);
    CHECK(t->key.len <= UINT32_MAX);
    struct sort_key *key = arena_alloc(&t->keys, sizeof *key + t->key.len);
    key->row = t->row_count;
    key->len = (uint32_t)t->key.len;
    memcpy(key->bytes, t->key.data, t->key.len);
    t->rows[t->row_count++] =
        (struct sorted){ .prefix = prefix_of(t->key.data, t->key.len), .key = key };
}

static int end_run(struct sorting *t, struct err *err) {
    if (t->row_count == 0) {
        return 0;
    }
    qsort(t->rows, t->row_count, sizeof *t->rows, by_key);
    uint32_t *picked = xmalloc(t->row_count * sizeof *picked);
    for (uint32_t i = 0; i < t->row_count; i++) {
        picked[i] = t->rows[i].key->row;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        lake_builder_column(&t->builders[i], &t->columns[i]);
    }
    uint32_t run = ice_hold_file(t->s->runs);
    CHECK(run == t->run_count);
    t->run_count++;
    ice_hold_add(t->s->runs, run, t->columns, t->count, picked, t->row_count);
    free(picked);
    t->row_count = 0;
    arena_release(&t->keys);
    for (uint32_t i = 0; i < t->count; i++) {
        struct lake_type type = t->builders[i].type;
        lake_builder_begin(&t->builders[i], &type);
    }
    return ice_hold_memory_blocks(t->s->runs) > t->s->memory_bytes ? ice_hold_spill(t->s->runs, err)
                                                                   : 0;
}

static int take_block(void *arg, const struct lake_column *columns, uint32_t rows,
                      struct err *err) {
    struct sorting *t = arg;
    if (!t->builders) {
        make_builders(t, columns);
    }
    if (rows > t->living_cap) {
        t->living_cap = rows;
        t->living = xrealloc(t->living, rows * sizeof *t->living);
    }
    uint32_t n = 0;
    for (uint32_t r = 0; r < rows; r++) {
        if (!t->s->dead || !ice_bitmap_has(t->s->dead, t->seen + r)) {
            take_key(t, columns, r);
            t->living[n++] = r;
        }
    }
    for (uint32_t i = 0; i < t->count; i++) {
        for (uint32_t r = 0; r < n; r++) {
            lake_builder_add(&t->builders[i], &columns[i], t->living[r]);
        }
    }
    t->seen += rows;
    return bytes_of(t) >= t->s->memory_bytes ? end_run(t, err) : 0;
}

/* ---- merge ---- */

static bool is_before(const struct sorting *t, uint32_t a, uint32_t b) {
    const struct head *x = &t->heads[a], *y = &t->heads[b];
    if (x->prefix != y->prefix) {
        return x->prefix < y->prefix;
    }
    int differ = compare_bytes(x->key.data, x->key.len, y->key.data, y->key.len);
    return differ ? differ < 0 : a < b;
}

/* The head at heap[at] may be greater than those below it. */
static void sink_down(struct sorting *t, uint32_t at) {
    for (;;) {
        uint32_t least = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < t->heap_count; child++) {
            least = is_before(t, t->heap[child], t->heap[least]) ? child : least;
        }
        if (least == at) {
            return;
        }
        uint32_t moved = t->heap[at];
        t->heap[at] = t->heap[least];
        t->heap[least] = moved;
        at = least;
    }
}

/* The next row of a run. */
static int advance(struct sorting *t, struct head *h, struct err *err) {
    if (++h->row >= h->rows) {
        h->row = 0;
        if (ice_hold_cursor_next(h->cursor, &h->columns, &h->rows, err)) {
            return -1;
        }
    }
    if (h->rows > 0) {
        buf_clear(&h->key);
        ice_order_put_key(t->s->order, t->s->indexes, h->columns, h->row, &h->key);
        h->prefix = prefix_of(h->key.data, h->key.len);
    }
    return 0;
}

static int open_heads(struct sorting *t, struct err *err) {
    t->heads = xcalloc(t->run_count, sizeof *t->heads);
    t->heap = xcalloc(t->run_count, sizeof *t->heap);
    for (uint32_t i = 0; i < t->run_count; i++) {
        struct head *h = &t->heads[i];
        buf_init(&h->key, SIZE_MAX);
        h->cursor = ice_hold_cursor_new(t->s->runs, i);
        if (advance(t, h, err)) {
            return -1;
        }
        t->heap[t->heap_count++] = i;
    }
    for (uint32_t at = t->heap_count; at-- > 0;) {
        sink_down(t, at);
    }
    return 0;
}

static int give_built(struct sorting *t, struct err *err) {
    uint32_t rows = t->builders[0].rows;
    for (uint32_t i = 0; i < t->count; i++) {
        lake_builder_column(&t->builders[i], &t->columns[i]);
    }
    int rc = rows ? t->s->each(t->s->arg, t->columns, rows, err) : 0;
    for (uint32_t i = 0; i < t->count; i++) {
        struct lake_type type = t->builders[i].type;
        lake_builder_begin(&t->builders[i], &type);
    }
    return rc;
}

static int merge(struct sorting *t, struct err *err) {
    if (open_heads(t, err)) {
        return -1;
    }
    while (t->heap_count > 0) {
        struct head *h = &t->heads[t->heap[0]];
        for (uint32_t i = 0; i < t->count; i++) {
            lake_builder_add(&t->builders[i], &h->columns[i], h->row);
        }
        if (advance(t, h, err)) {
            return -1;
        }
        if (h->rows == 0) {
            t->heap[0] = t->heap[--t->heap_count];
        }
        sink_down(t, 0);
        uint32_t rows = t->builders[0].rows;
        bool full = rows >= PIECE_ROWS || (rows % 64 == 0 && bytes_of(t) >= PIECE_BYTES);
        if (full && give_built(t, err)) {
            return -1;
        }
    }
    return give_built(t, err);
}

int ice_sort_rows(const struct ice_sort *s, struct err *err) {
    struct sorting t = { .s = s };
    arena_init(&t.keys);
    buf_init(&t.key, SIZE_MAX);
    ice_hold_clear(s->runs);
    t.count = ice_hold_columns(s->from);
    int rc = ice_hold_each(s->from, s->file, take_block, &t, err) || end_run(&t, err) ? -1 : 0;
    if (rc == 0 && t.run_count == 1) {
        rc = ice_hold_each(s->runs, 0, s->each, s->arg, err);
    } else if (rc == 0 && t.run_count > 1) {
        rc = merge(&t, err);
    }
    for (uint32_t i = 0; t.heads && i < t.run_count; i++) {
        ice_hold_cursor_free(t.heads[i].cursor);
        buf_release(&t.heads[i].key);
    }
    for (uint32_t i = 0; t.builders && i < t.count; i++) {
        lake_builder_release(&t.builders[i]);
    }
    free(t.heads);
    free(t.heap);
    free(t.builders);
    free(t.columns);
    free(t.rows);
    free(t.living);
    arena_release(&t.keys);
    buf_release(&t.key);
    ice_hold_clear(s->runs);
    return rc;
}
