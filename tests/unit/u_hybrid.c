/* The hybrid algorithm against a small scripted source, step by step: rules 0 to 8 as a random
 * model, without engine or threads.
 *
 * The source commits to a log and shows its transactions later, in any order; the log's reader,
 * lanes, commits and crashes run in random order. After every step the target must equal the source
 * at the applied position in everything that is joined. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/hybrid_internal.h"
#include "tests/unit/kit.h"

#define KEYS 12
#define TX_MAX 90
#define OPS_MAX 4

enum mode { MODE_RANGE, MODE_WHOLE, MODE_KEYLESS };

struct cell_row {
    bool there;
    int32_t a;
    int32_t t;
}; /* t: number of the text, so that rows compare */
struct op {
    enum { OP_PUT, OP_DEL, OP_MOVE, OP_TRUNCATE, OP_INSERT } kind;
    int k, k2;
    int32_t a, t;
    bool t_absent;
    struct cell_row old;
};
struct tx_script {
    struct op ops[OPS_MAX];
    int count;
    bool visible;
};

struct world {
    uint64_t seed;
    enum mode mode;
    struct cell_row base[KEYS], state[KEYS];
    struct tx_script log[TX_MAX];
    int log_len, s0, serial;
    int busy[KEYS]; /* tx index + 1 that touched it and is not visible */
    /* tool */
    struct hybrid *h;
    struct metrics metrics;
    struct schema *schema;
    struct cell_row target[KEYS];
    int target_count[KEYS][256]; /* keyless: how often (k, a) is there; a < 256 */
    int pos;
    /* saved */
    char saved_position[8192];
    bool has_saved;
    struct schema *saved_schema;
    int saved_pos;
    struct cell_row saved_target[KEYS];
    int saved_count[KEYS][256];
    /* lanes */
    struct {
        bool busy, viewed;
        struct chunk_order order;
        struct cell_row rows[KEYS];
        int cursor;
    } lane[2];
    char bad[680]; /* the first thing that was wrong; empty = nothing */
};

static uint64_t roll(struct world *w) {
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed * 0x2545f4914f6cdd1dULL >> 16;
}
static int pick(struct world *w, int n) { return (int)(roll(w) % (uint64_t)n); }
static bool chance(struct world *w, int percent) { return pick(w, 100) < percent; }

static void apply_op(struct cell_row *st, const struct op *op) {
    switch (op->kind) {
    case OP_PUT:
    case OP_INSERT:
        st[op->k] = (struct cell_row){ true, op->a, op->t_absent ? st[op->k].t : op->t };
        break;
    case OP_DEL:
        st[op->k] = (struct cell_row){ 0 };
        break;
    case OP_MOVE:
        st[op->k2] = (struct cell_row){ true, op->a, st[op->k].t };
        st[op->k] = (struct cell_row){ 0 };
        break;
    case OP_TRUNCATE:
        memset(st, 0, sizeof(struct cell_row) * KEYS);
        break;
    }
}

static bool lane_locks(const struct world *w) { return w->lane[0].viewed || w->lane[1].viewed; }

static void source_commit(struct world *w) {
    if (w->log_len == TX_MAX) {
        return;
    }
    struct tx_script *x = &w->log[w->log_len];
    *x = (struct tx_script){ 0 };
    if (chance(w, 3) && !lane_locks(w)) { /* takes a lock that no other transaction holds */
        for (int i = 0; i < w->log_len; i++) {
            if (!w->log[i].visible) {
                return;
            }
        }
        x->ops[x->count++] = (struct op){ .kind = OP_TRUNCATE };
        apply_op(w->state, &x->ops[0]);
        x->visible = true;
        w->log_len++;
        return;
    }
    int n = 1 + pick(w, 3);
    for (int i = 0; i < n; i++) {
        int k = pick(w, KEYS), k2 = pick(w, KEYS);
        if ((w->busy[k] && w->busy[k] != w->log_len + 1) ||
            (w->busy[k2] && w->busy[k2] != w->log_len + 1)) {
            continue;
        }
        w->serial++;
        struct op op = {
            .k = k, .k2 = k2, .a = w->serial % 256, .t = w->serial, .old = w->state[k]
        };
        if (!w->state[k].there) {
            op.kind = OP_INSERT;
        } else if (chance(w, 25)) {
            op.kind = OP_DEL;
        } else if (chance(w, 30) && !w->state[k2].there) {
            op.kind = OP_MOVE;
            w->busy[k2] = w->log_len + 1;
        } else {
            op.kind = OP_PUT;
            op.t_absent = w->mode != MODE_KEYLESS && chance(w, 60);
        }
        w->busy[k] = w->log_len + 1;
        apply_op(w->state, &op);
        x->ops[x->count++] = op;
    }
    if (x->count) {
        w->log_len++;
    }
}

static void source_show(struct world *w) {
    int hidden[TX_MAX], n = 0;
    for (int i = 0; i < w->log_len; i++) {
        if (!w->log[i].visible) {
            hidden[n++] = i;
        }
    }
    if (n) {
        int i = hidden[pick(w, n)];
        w->log[i].visible = true;
        for (int k = 0; k < KEYS; k++) {
            if (w->busy[k] == i + 1) {
                w->busy[k] = 0;
            }
        }
    }
}

static void state_at(const struct world *w, int pos, bool visible_only, struct cell_row *out) {
    memcpy(out, w->base, sizeof(w->base));
    for (int i = 0; i < pos; i++) {
        for (int o = 0; o < w->log[i].count && (!visible_only || w->log[i].visible); o++) {
            apply_op(out, &w->log[i].ops[o]);
        }
    }
}

static void source_snapshot(const struct world *w, struct snapshot *s) {
    uint64_t xip[TX_MAX];
    uint32_t n = 0;
    uint64_t xmin = (uint64_t)w->log_len + 1;
    for (int i = w->log_len; i-- > 0;) {
        if (!w->log[i].visible) {
            xip[n++] = (uint64_t)i + 1;
            xmin = (uint64_t)i + 1;
        }
    }
    snapshot_set(s, xmin, (uint64_t)w->log_len + 1, xip, n);
}

/* Rows of the change model: k int32, a int32, t text. */
static struct schema *make_schema(enum mode mode) {
    struct schema *s = schema_new(77, "public", "m", 3);
    const char *names[] = { "k", "a", "t" };
    for (int i = 0; i < 3; i++) {
        s->columns[i] = (struct column_def){ .name = names[i],
                                             .type = { .kind = i == 2 ? TYPE_TEXT : TYPE_INT32 },
                                             .source_type = i == 2 ? "text" : "integer",
                                             .nullable = true,
                                             .key_pos = i == 0 && mode != MODE_KEYLESS ? 0 : -1 };
    }
    s->identity = mode == MODE_KEYLESS ? IDENTITY_FULL : IDENTITY_KEY;
    s->storage = "1:a";
    schema_finish(s);
    if (mode != MODE_RANGE) {
        s->key_orderable = false;
    }
    return s;
}

static void put_row(struct batch *b, int k, const struct cell_row *row, bool key_only,
                    bool t_absent, enum row_kind kind, uint32_t n) {
    *(int32_t *)batch_fixed(b, 0) = k;
    if (key_only) {
        batch_put_absent(b, 1);
        batch_put_absent(b, 2);
    } else {
        *(int32_t *)batch_fixed(b, 1) = row->a;
        if (t_absent) {
            batch_put_absent(b, 2);
        } else {
            char text[16];
            int len = snprintf(text, sizeof(text), "%d", row->t);
            batch_put_var(b, 2, text, (size_t)len);
        }
    }
    batch_row_done(b, kind, 0, n);
}

static int32_t text_of(const struct batch *b, uint32_t r) {
    size_t len;
    const uint8_t *p = cell_bytes(&b->columns[2], r, &len);
    char text[16] = { 0 };
    memcpy(text, p, len < 15 ? len : 15);
    return atoi(text);
}
static int32_t int_of(const struct batch *b, int col, uint32_t r) {
    int32_t v;
    memcpy(&v, b->columns[col].data + 4 * (size_t)r, 4);
    return v;
}

static struct segment *segment_for(struct world *w, int i) {
    struct segment *seg = segment_new();
    seg->txs = txlist_new();
    txlist_add(seg->txs, &(struct tx){ .id = (uint64_t)i + 1,
                                       .commit = { 0, (uint64_t)i },
                                       .end = { 0, (uint64_t)i + 1 } });
    struct batch *b = batch_new(w->schema, 16, seg->txs);
    bool full = w->mode == MODE_KEYLESS;
    for (int o = 0; o < w->log[i].count; o++) {
        const struct op *op = &w->log[i].ops[o];
        struct cell_row now = { true, op->a, op->t };
        uint32_t n = (uint32_t)o;
        switch (op->kind) {
        case OP_INSERT:
            put_row(b, op->k, &now, false, false, ROW_INSERT, n);
            break;
        case OP_PUT:
            if (full) {
                put_row(b, op->k, &op->old, false, false, ROW_UPDATE_BEFORE, n);
            }
            put_row(b, op->k, &now, false, op->t_absent, ROW_UPDATE_AFTER, n);
            break;
        case OP_MOVE:
            put_row(b, op->k, &op->old, !full, false, ROW_UPDATE_BEFORE, n);
            now.t = op->old.t;
            put_row(b, op->k2, &now, false, !full, ROW_UPDATE_AFTER, n);
            break;
        case OP_DEL:
            put_row(b, op->k, &op->old, !full, false, ROW_DELETE, n);
            break;
        case OP_TRUNCATE:
            batch_put_absent(b, 0);
            batch_put_absent(b, 1);
            batch_put_absent(b, 2);
            batch_row_done(b, ROW_TRUNCATE, 0, n);
            break;
        }
    }
    segment_add(seg, b);
    seg->to = seg->resume = (struct logpos){ 0, (uint64_t)i + 1 };
    seg->at_border = true;
    return seg;
}

/* The target. */
static void fail(struct world *w, const char *why) {
    if (!w->bad[0]) {
        snprintf(w->bad, sizeof(w->bad), "%s", why);
    }
}

static void count_row(struct world *w, const struct batch *b, uint32_t r, int step) {
    int *at = &w->target_count[int_of(b, 0, r)][int_of(b, 1, r) & 255];
    *at += step;
    if (*at < 0) {
        fail(w, "a keyless row was deleted that is not there");
    }
}

static void target_keyless(struct world *w, const struct batch *b, uint32_t r) {
    enum row_kind kind = row_kind_of(b, r);
    if (kind == ROW_TRUNCATE) {
        memset(w->target_count, 0, sizeof(w->target_count));
    } else {
        count_row(w, b, r, kind == ROW_DELETE || kind == ROW_UPDATE_BEFORE ? -1 : 1);
    }
}

static void target_keyed(struct world *w, const struct batch *b, uint32_t *row) {
    uint32_t r = *row;
    enum row_kind kind = row_kind_of(b, r);
    struct cell_row before = { 0 };
    if (kind == ROW_TRUNCATE) {
        memset(w->target, 0, sizeof(w->target));
        return;
    }
    int k = int_of(b, 0, r);
    before = w->target[k];
    if (kind == ROW_UPDATE_BEFORE || kind == ROW_DELETE) {
        w->target[k] = (struct cell_row){ 0 };
        if (kind == ROW_DELETE) {
            return;
        }
        r = ++*row;
        k = int_of(b, 0, r);
    }
    if (b->kinds && kind == ROW_INSERT && w->target[k].there) {
        fail(w, "an insert meets a key that is there");
    }
    if (kind == ROW_UPDATE_AFTER && !before.there) {
        fail(w, "an update of a key that is not there");
    }
    bool absent = cell_absent(&b->columns[2], r);
    if (absent && !before.there) {
        fail(w, "a cell that nobody has");
    }
    w->target[k] = (struct cell_row){ true, int_of(b, 1, r), absent ? before.t : text_of(b, r) };
}

static void on_out(void *arg, const struct hybrid_out *out) {
    struct world *w = arg;
    if (out->kind == OUT_GENERATION) {
        memset(w->target, 0, sizeof(w->target));
        memset(w->target_count, 0, sizeof(w->target_count));
        return;
    }
    for (uint32_t i = 0; i < out->count; i++) {
        struct batch *b = out->batches[i];
        for (uint32_t r = 0; r < b->rows; r++) {
            if (out->kind == OUT_REMOVE) {
                w->target[int_of(b, 0, r)] = (struct cell_row){ 0 };
            } else if (w->mode == MODE_KEYLESS) {
                target_keyless(w, b, r);
            } else {
                target_keyed(w, b, &r);
            }
        }
        batch_unref(b);
    }
}

/* A spool in memory that holds copies in disk form. */
struct toy_spool {
    struct buf *at[512];
    uint32_t count;
};
static int toy_put(void *arg, const struct batch *batch, uint64_t *id, struct err *err) {
    struct toy_spool *s = arg;
    (void)err;
    s->at[s->count % 512] = xcalloc(1, sizeof(struct buf));
    buf_init(s->at[s->count % 512], SIZE_MAX);
    batch_encode(s->at[s->count % 512], batch);
    *id = s->count++ % 512;
    return 0;
}
static struct batch *toy_get(void *arg, uint64_t id, struct schema *schema, struct txlist *txs,
                             struct err *err) {
    struct toy_spool *s = arg;
    return batch_decode(s->at[id]->data, s->at[id]->len, schema, txs, err);
}
static void toy_drop(void *arg, uint64_t id) {
    struct toy_spool *s = arg;
    buf_release(s->at[id]);
    free(s->at[id]);
    s->at[id] = NULL;
}
static bool toy_full(void *arg) {
    (void)arg;
    return false;
}
static const struct spool_ops toy_ops = { toy_put, toy_get, toy_drop, toy_full };
static struct toy_spool toy;

static bool never_rewritten(const struct schema *a, const struct schema *b) {
    (void)a;
    (void)b;
    return false;
}
static const struct source_ops toy_source = { .name = "toy", .rewritten = never_rewritten };

static void tool_start(struct world *w) {
    struct hybrid_config config = { .source = &toy_source,
                                    .spool_ops = &toy_ops,
                                    .spool = &toy,
                                    .metrics = &w->metrics,
                                    .held_bytes_max = chance(w, 50) ? 1 : 1 << 20,
                                    .rows_bytes_max = 1 << 20,
                                    .chunk_rows = 4,
                                    .chunk_bytes = 1 << 16,
                                    .sections_max = 1,
                                    .see_from_tx = (uint64_t)w->s0 + 1 };
    struct err err = ERR_INIT;
    w->h = hybrid_new(&config, on_out, w);
    if (hybrid_restore(w->h, (struct logpos){ 0, (uint64_t)w->pos },
                       (struct logpos){ 0, (uint64_t)w->pos },
                       w->has_saved ? w->saved_position : NULL, &w->saved_schema,
                       w->has_saved ? 1 : 0, &err)) {
        fail(w, err.text);
    }
    struct source_table t = {
        .schema = w->schema, .rows_estimate = KEYS, .bytes_estimate = KEYS * 20, .usable = true
    };
    struct source_catalogue cat = { .tables = &t,
                                    .count = 1,
                                    .defined_at = { 0, (uint64_t)w->log_len } };
    if (hybrid_catalogue(w->h, &cat, &err)) {
        fail(w, err.text);
    }
    uint64_t id = 77;
    hybrid_captured(w->h, &id, 1, 0, LOGPOS_NONE);
}

static void tool_stop(struct world *w) {
    for (int i = 0; i < 2; i++) {
        if (w->lane[i].busy) {
            chunk_order_release(&w->lane[i].order);
        }
        memset(&w->lane[i], 0, sizeof(w->lane[i]));
    }
    hybrid_free(w->h);
    w->h = NULL;
}

static void tool_commit(struct world *w) {
    struct snapshot s;
    struct buf out;
    snapshot_init(&s);
    source_snapshot(w, &s);
    hybrid_seen(w->h, &s);
    snapshot_release(&s);
    buf_init(&out, SIZE_MAX);
    buf_putc(&out, '{');
    if (hybrid_put_position(w->h, &out, 8000)) {
        fail(w, "the position is too long");
    }
    buf_putc(&out, '}');
    snprintf(w->saved_position, sizeof(w->saved_position), "%s", buf_cstr(&out));
    buf_release(&out);
    struct schema *const *schemas;
    hybrid_schemas(w->h, &schemas);
    schema_unref(w->saved_schema);
    w->saved_schema = schema_ref(schemas[0]);
    w->has_saved = true;
    w->saved_pos = w->pos;
    memcpy(w->saved_target, w->target, sizeof(w->target));
    memcpy(w->saved_count, w->target_count, sizeof(w->target_count));
}

static void tool_restart(struct world *w) {
    tool_stop(w);
    w->pos = w->has_saved ? w->saved_pos : w->s0;
    memcpy(w->target, w->saved_target, sizeof(w->target));
    memcpy(w->target_count, w->saved_count, sizeof(w->target_count));
    tool_start(w);
}

static void tool_deliver(struct world *w) {
    struct err err = ERR_INIT;
    if (w->pos < w->log_len && !hybrid_log_must_wait(w->h)) {
        struct segment *seg = segment_for(w, w->pos++);
        if (hybrid_segment(w->h, seg, &err)) {
            fail(w, err.text);
        }
    }
}

static void lane_open(struct world *w, int i) {
    if (!w->lane[i].busy && hybrid_next(w->h, &w->lane[i].order)) {
        w->lane[i].busy = true;
        w->lane[i].viewed = w->lane[i].order.piece;
        if (w->lane[i].order.piece) { /* single pieces only: another lane has it */
            fail(w, "a second piece of a chunk of one");
        }
    }
}

static void lane_done(struct world *w, int i) {
    chunk_order_release(&w->lane[i].order);
    memset(&w->lane[i], 0, sizeof(w->lane[i]));
}

static void lane_view(struct world *w, int i) {
    struct chunk_view v = { .schema = schema_ref(w->schema), .high = { 0, (uint64_t)w->log_len } };
    source_snapshot(w, &v.snapshot);
    state_at(w, w->log_len, true, w->lane[i].rows);
    switch (hybrid_view(w->h, w->lane[i].order.id, &v, "", NULL, 0, 1)) {
    case CHUNK_GO:
        w->lane[i].viewed = true;
        break;
    case CHUNK_AGAIN:
        break;
    default:
        lane_done(w, i);
    }
}

static bool in_order(const struct chunk_order *o, int k) {
    struct buf key;
    buf_init(&key, 64);
    int32_t cell = k;
    key_put_cell(&key, &(struct type){ .kind = TYPE_INT32 }, (const uint8_t *)&cell, 4);
    bool holds = o->whole || (o->exact ? key_cmp(key.data, key.len, o->lo.data, o->lo.len) == 0
                                       : span_holds(&o->lo, &o->hi, key.data, key.len));
    buf_release(&key);
    return holds;
}

static void lane_rows(struct world *w, int i) {
    struct chunk_order *o = &w->lane[i].order;
    struct err err = ERR_INIT;
    if (o->whole) {
        struct chunk_order piece;
        enum piece_answer a = hybrid_piece(w->h, o->id, &piece);
        if (a == PIECE_WAIT) {
            return;
        }
        if (a == PIECE_NONE) {
            lane_done(w, i);
            return;
        }
        chunk_order_release(&piece);
    }
    struct batch *b = batch_new(w->schema, KEYS, NULL);
    int k = w->lane[i].cursor;
    bool complete = true;
    for (; k < KEYS; k++) {
        if (w->lane[i].rows[k].there && in_order(o, k)) {
            put_row(b, k, &w->lane[i].rows[k], false, false, ROW_INSERT, 0);
            if (!o->whole && !o->exact && b->rows == o->rows_max) {
                complete = false;
                break;
            }
        }
    }
    batch_seal(b);
    uint64_t id = o->id;
    if (b->rows == 0) {
        batch_unref(b);
    } else if (hybrid_rows(w->h, id, b, &err) == CHUNK_DROP && err.kind) {
        fail(w, err.text);
    }
    if (hybrid_end(w->h, id, complete, &err)) {
        fail(w, err.text);
    }
    lane_done(w, i);
}

static void check_target(struct world *w) {
    struct table *t = table_find(w->h, 77);
    struct cell_row want[KEYS];
    state_at(w, w->pos, false, want);
    for (int k = 0; k < KEYS && !w->bad[0]; k++) {
        struct buf key;
        buf_init(&key, 64);
        int32_t cell = k;
        key_put_cell(&key, &(struct type){ .kind = TYPE_INT32 }, (const uint8_t *)&cell, 4);
        bool hole = map_get(t->holes, key.data, key.len) != NULL;
        bool joined = spans_find(&t->joined, key.data, key.len) != NULL;
        buf_release(&key);
        if (w->mode == MODE_KEYLESS) {
            for (int a = 0; t->complete && a < 256; a++) {
                if (w->target_count[k][a] != (want[k].there && want[k].a == a)) {
                    fail(w, "a keyless table differs");
                }
            }
        } else if (joined && !hole && memcmp(&want[k], &w->target[k], sizeof(want[k])) != 0) {
            fail(w, "a joined key differs from the source");
        } else if (hole && w->target[k].there && t->again.count == 0) {
            fail(w, "a hole is in the target");
        }
    }
}

static void random_step(struct world *w) {
    int x = pick(w, 1000), i = pick(w, 2);
    if (x < 220) {
        source_commit(w);
    } else if (x < 420) {
        source_show(w);
    } else if (x < 680) {
        tool_deliver(w);
    } else if (x < 760) {
        lane_open(w, i);
    } else if (x < 860) {
        if (w->lane[i].busy && !w->lane[i].viewed) {
            lane_view(w, i);
        }
    } else if (x < 940) {
        if (w->lane[i].viewed) {
            lane_rows(w, i);
        }
    } else if (x < 945) {
        if (w->lane[i].busy) {
            hybrid_fail(w->h, w->lane[i].order.id);
            lane_done(w, i);
        }
    } else if (x < 985) {
        tool_commit(w);
    } else {
        tool_restart(w);
    }
}

/* False if the history went wrong; bad says how. */
static bool run_history(uint64_t seed, enum mode mode, char *bad, size_t bad_size) {
    struct world *w = xcalloc(1, sizeof(*w));
    w->seed = seed * 0x9e3779b97f4a7c15ULL + 1;
    w->mode = mode;
    w->schema = make_schema(mode);
    memset(&toy, 0, sizeof(toy));
    for (int k = 0; k < KEYS; k++) {
        if (chance(w, 60)) {
            w->base[k] = (struct cell_row){ true, k, 1000 + k };
        }
    }
    memcpy(w->state, w->base, sizeof(w->base));
    for (int i = pick(w, 6); i > 0; i--) {
        source_commit(w);
        if (chance(w, 50)) {
            source_show(w);
        }
    }
    w->s0 = w->pos = w->log_len;
    tool_start(w);
    for (int step = 0; step < 600 && !w->bad[0]; step++) {
        random_step(w);
        check_target(w);
    }
    for (int i = 0; i < TX_MAX; i++) {
        source_show(w);
    }
    for (int i = 0; i < 4000 && !w->bad[0] && !(hybrid_joined(w->h) && w->pos == w->log_len); i++) {
        int l = i % 2;
        tool_deliver(w);
        lane_open(w, l);
        if (w->lane[l].busy && !w->lane[l].viewed) {
            lane_view(w, l);
        } else if (w->lane[l].viewed) {
            lane_rows(w, l);
        }
        check_target(w);
    }
    if (!w->bad[0] && !hybrid_joined(w->h)) {
        fail(w, "not everything joined in the end");
    }
    bool good = !w->bad[0];
    snprintf(bad, bad_size, "%s", w->bad);
    tool_stop(w);
    schema_unref(w->schema);
    schema_unref(w->saved_schema);
    free(w);
    return good;
}

static void run_histories(enum mode mode, uint64_t count) {
    const char *from = getenv("HYBRID_SEED");
    for (uint64_t seed = from ? strtoull(from, NULL, 10) : 1, end = from ? seed + 1 : count;
         seed < end; seed++) {
        char bad[680];
        if (!EXPECT_TRUE(run_history(seed, mode, bad, sizeof(bad)))) {
            printf("# seed %llu: %s\n", (unsigned long long)seed, bad);
        }
    }
}

TEST(hybrid_key_ranges_equal_the_source_at_every_step) { run_histories(MODE_RANGE, 3000); }
TEST(hybrid_whole_tables_equal_the_source_at_every_step) { run_histories(MODE_WHOLE, 3000); }
TEST(hybrid_keyless_tables_equal_the_source_at_every_step) { run_histories(MODE_KEYLESS, 3000); }
