/* Merging the batches of a stage item. See stage_merge.h. */
#include "sinks/encode/stage_merge.h"

#include <stdlib.h>

struct place {
    struct logpos commit; /* with one txlist: the index in it */
    uint32_t n;
};

void stage_merge_init(struct stage_merge *m) { *m = (struct stage_merge){ 0 }; }

void stage_merge_release(struct stage_merge *m) {
    free(m->at);
    free(m->heap);
    *m = (struct stage_merge){ 0 };
}

static struct place place_of(const struct stage_merge *m, uint32_t batch) {
    const struct batch *b = m->item->batches[batch];
    uint32_t row = m->at[batch];
    if (!b->txs) {
        return (struct place){ 0 };
    }
    struct logpos commit =
        m->one_txlist ? (struct logpos){ 0, b->tx[row] } : b->txs->at[b->tx[row]].commit;
    return (struct place){ commit, b->n[row] };
}

static bool before(const struct stage_merge *m, uint32_t a, uint32_t b) {
    struct place x = place_of(m, a);
    struct place y = place_of(m, b);
    int c = logpos_cmp(x.commit, y.commit);
    if (c != 0) {
        return c < 0;
    }
    return x.n != y.n ? x.n < y.n : a < b;
}

static void sift_down(struct stage_merge *m, uint32_t i) {
    for (;;) {
        uint32_t least = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < m->heap_count; child++) {
            if (before(m, m->heap[child], m->heap[least])) {
                least = child;
            }
        }
        if (least == i) {
            return;
        }
        uint32_t swap = m->heap[i];
        m->heap[i] = m->heap[least];
        m->heap[least] = swap;
        i = least;
    }
}

void stage_merge_begin(struct stage_merge *m, const struct stage_item *item) {
    m->item = item;
    if (item->count > m->cap) {
        m->cap = item->count;
        m->at = xrealloc(m->at, m->cap * sizeof *m->at);
        m->heap = xrealloc(m->heap, m->cap * sizeof *m->heap);
    }
    m->heap_count = 0;
    m->one_txlist = true;
    for (uint32_t i = 0; i < item->count; i++) {
        const struct batch *b = item->batches[i];
        CHECK(b->sealed);
        m->one_txlist = m->one_txlist && b->txs == item->batches[0]->txs;
        m->at[i] = 0;
        if (b->rows > 0) {
            m->heap[m->heap_count++] = i;
        }
    }
    for (uint32_t i = m->heap_count / 2; i-- > 0;) {
        sift_down(m, i);
    }
}

/* The least cursor moves on by one row. */
static void advance(struct stage_merge *m) {
    uint32_t batch = m->heap[0];
    if (++m->at[batch] == m->item->batches[batch]->rows) {
        m->heap[0] = m->heap[--m->heap_count];
    }
    if (m->heap_count > 1) {
        sift_down(m, 0);
    }
}

/* Is the next row the after-row of the change just taken? A builder may have cut its batch between
 * the two. */
static bool is_after_of(const struct stage_merge *m, const struct stage_change *c) {
    if (m->heap_count == 0) {
        return false;
    }
    uint32_t batch = m->heap[0];
    uint32_t row = m->at[batch];
    const struct batch *b = m->item->batches[batch];
    const struct batch *first = m->item->batches[c->batch];
    return row_kind_of(b, row) == ROW_UPDATE_AFTER &&
           b->schema->table_id == first->schema->table_id && b->n[row] == first->n[c->row] &&
           b->txs == first->txs && b->tx[row] == first->tx[c->row];
}

bool stage_merge_next(struct stage_merge *m, struct stage_change *out) {
    if (m->heap_count == 0) {
        return false;
    }
    out->batch = m->heap[0];
    out->row = m->at[out->batch];
    out->kind = row_kind_of(m->item->batches[out->batch], out->row);
    out->paired = false;
    advance(m);
    if (out->kind == ROW_UPDATE_BEFORE && is_after_of(m, out)) {
        out->paired = true;
        out->after_batch = m->heap[0];
        out->after_row = m->at[out->after_batch];
        advance(m);
    }
    return true;
}
