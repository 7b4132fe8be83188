/* The hybrid source, heart of it: the log goes on, what is held has a limit, and where all stands.
 *
 * A chunk:
 *
 *      hybrid_next      hybrid_view: S sees all it must      hybrid_end      the log passed H,
 *           |                        |                           |           at a border
 *           v                        v                           v              |
 *         OPEN ------------------> READING --------------------> READ ----------+---> joined
 *         |  ^                       |        (key range, one key)
 *         |  | CHUNK_AGAIN:          |
 *         +--+ another S             | (whole table) the log passed H, at a border
 *                                    v
 *                                 FLOWING ------ all pieces read, at a border ------> joined
 *                                    rows go out as they come, later events wait
 *
 *      from any of them: given up (definition changed, limit, lane failed): its range is free
 *      again; FLOWING: the table begins a new generation
 *
 * While a range's chunk is open its events are folded into the chunk's overlay; before, they are
 * dropped; after, they flow. Every transaction handed on is loose until some snapshot was seen to
 * see it. J, the border at which a chunk joins, is at or above its H: replaying all that was
 * buffered up to J over the rows of S gives the table's state at J.
 *
 * hybrid_route.c: the ways of the log's rows. hybrid_join.c: the joins. hybrid_lanes.c: what lanes
 * ask and tell. hybrid_tables.c: catalogue, generations, holes. hybrid_position.c: what is stored.
 *
 * Thread: the merge task. Never blocks, sleeps, or reads a clock; files only through the spool it
 * was given. */
#include "cdc/hybrid_internal.h"

#include <stdlib.h>

void loose_put(struct hybrid *h, uint64_t tx) {
    if (h->loose_count == h->loose_cap) {
        h->loose_cap = h->loose_cap ? h->loose_cap * 2 : 256;
        h->loose = xrealloc(h->loose, h->loose_cap * sizeof(*h->loose));
    }
    h->loose[h->loose_count++] = tx;
}

static void loose_add(struct hybrid *h, const struct txlist *txs) {
    for (uint32_t i = 0; txs && i < txs->count; i++) {
        if (h->loose_count && h->loose[h->loose_count - 1] == txs->at[i].id) {
            continue; /* the transaction that the last segment ended in */
        }
        loose_put(h, txs->at[i].id);
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
static int limit_held(struct hybrid *h, struct err *err) {
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
    if (!failed && !spool_full(h->config.spool_ops, h->config.spool) &&
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
    return spool_full(h->config.spool_ops, h->config.spool) || bytes > 2 * h->config.held_bytes_max;
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
        rc = hybrid_route(h, b, &outs[out_count], err);
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
