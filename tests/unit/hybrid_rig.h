/* The hybrid algorithm without tasks, for its cases: one table of key k, number a and text t, a log
 * and lanes that are given by hand, and what goes out. Thread: main. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "cdc/hybrid_internal.h"
#include "tests/unit/kit.h"

#define OUT_MAX 1024

struct out_row {
    enum hybrid_out_kind what;
    enum row_kind kind;
    uint32_t generation;
};
struct rig {
    struct hybrid *h;
    struct metrics metrics;
    struct out_row out[OUT_MAX];
    int out_count;
    struct batch *spooled[OUT_MAX];
    uint32_t spool_puts;
    bool spool_full;
    uint64_t at; /* of the log */
};

static inline void take_out(void *arg, const struct hybrid_out *out) {
    struct rig *g = arg;
    if (out->kind == OUT_GENERATION) {
        g->out[g->out_count++] =
            (struct out_row){ .what = OUT_GENERATION, .generation = out->generation };
    }
    for (uint32_t i = 0; i < out->count; i++) {
        struct batch *b = out->batches[i];
        for (uint32_t r = 0; r < b->rows && g->out_count < OUT_MAX; r++) {
            g->out[g->out_count++] = (struct out_row){ .what = out->kind,
                                                       .kind = row_kind_of(b, r),
                                                       .generation = b->generation };
        }
        batch_unref(b);
    }
}

static inline int keep_put(void *spool, const struct batch *batch, uint64_t *id, struct err *err) {
    struct rig *g = spool;
    (void)err;
    *id = g->spool_puts++;
    g->spooled[*id] = batch_ref((struct batch *)batch);
    return 0;
}
static inline struct batch *keep_get(void *spool, uint64_t id, struct schema *schema,
                                     struct txlist *txs, struct err *err) {
    struct rig *g = spool;
    (void)schema;
    (void)txs;
    (void)err;
    return batch_ref(g->spooled[id]);
}
static inline void keep_drop(void *spool, uint64_t id) {
    struct rig *g = spool;
    batch_unref(g->spooled[id]);
    g->spooled[id] = NULL;
}
static inline bool keep_full(void *spool) { return ((struct rig *)spool)->spool_full; }
static const struct spool_ops keep_ops = { keep_put, keep_get, keep_drop, keep_full };

static inline bool not_rewritten(const struct schema *a TR_UNUSED,
                                 const struct schema *b TR_UNUSED) {
    return false;
}
static const struct source_ops plain_source = { .name = "plain", .rewritten = not_rewritten };

/* key: the column that is the key, -1 = none. */
static inline struct schema *table_schema(uint64_t id, const char *name, enum type_kind key_type,
                                          int key, bool orderable) {
    struct schema *s = schema_new(id, "public", name, 3);
    const char *names[] = { "k", "a", "t" };
    const enum type_kind kinds[] = { key_type, TYPE_INT32, TYPE_TEXT };
    for (int i = 0; i < 3; i++) {
        s->columns[i] = (struct column_def){ .name = names[i],
                                             .type = { .kind = kinds[i] },
                                             .source_type = "",
                                             .nullable = true,
                                             .key_pos = (int16_t)(i == key ? 0 : -1) };
    }
    s->storage = "1:a";
    schema_finish(s);
    s->key_orderable = s->key_orderable && orderable;
    return s;
}

static inline void rig_catalogue(struct rig *g, struct schema *const *schemas, uint32_t count,
                                 uint64_t bytes_estimate) {
    struct source_table tables[4];
    struct err err = ERR_INIT;
    uint64_t ids[4];
    for (uint32_t i = 0; i < count; i++) {
        tables[i] = (struct source_table){ .schema = schemas[i],
                                           .rows_estimate = 100,
                                           .bytes_estimate = bytes_estimate,
                                           .usable = true };
        ids[i] = schemas[i]->table_id;
    }
    struct source_catalogue cat = { .tables = tables, .count = count, .defined_at = { 0, g->at } };
    EXPECT_EQ_INT(hybrid_catalogue(g->h, &cat, &err), 0);
    hybrid_captured(g->h, ids, count, 0, LOGPOS_NONE);
}

static inline void rig_open(struct rig *g, struct schema *s, uint32_t sections,
                            const char *stored) {
    struct hybrid_config config = { .source = &plain_source,
                                    .spool_ops = &keep_ops,
                                    .spool = g,
                                    .metrics = &g->metrics,
                                    .held_bytes_max = 1 << 26,
                                    .rows_bytes_max = 1 << 26,
                                    .chunk_rows = 1000,
                                    .chunk_bytes = 1 << 20,
                                    .sections_max = sections };
    struct err err = ERR_INIT;
    g->h = hybrid_new(&config, take_out, g);
    EXPECT_EQ_INT(hybrid_restore(g->h, (struct logpos){ 0, g->at }, (struct logpos){ 0, g->at },
                                 stored, &s, stored != NULL, &err),
                  0);
}

static inline struct rig *rig_new(struct schema *s, uint32_t sections, uint64_t bytes_estimate) {
    struct rig *g = xcalloc(1, sizeof *g);
    rig_open(g, s, sections, NULL);
    rig_catalogue(g, &s, 1, bytes_estimate);
    return g;
}

static inline void rig_free(struct rig *g) {
    hybrid_free(g->h);
    free(g);
}

static inline void put_key(struct batch *b, uint16_t col, int k) {
    const struct column *c = &b->columns[col];
    if (b->schema->columns[col].type.kind == TYPE_FLOAT64) {
        double v = k;
        memcpy(batch_fixed(b, col), &v, sizeof v);
    } else if (c->width == 4) {
        int32_t v = k;
        memcpy(batch_fixed(b, col), &v, sizeof v);
    } else {
        char text[16];
        int len = snprintf(text, sizeof text, "%d", k);
        batch_put_var(b, col, text, (size_t)len);
    }
}

/* has_text: t is carried. */
static inline void put(struct batch *b, int k, bool has_text, enum row_kind kind, uint32_t n) {
    put_key(b, 0, k);
    put_key(b, 1, k);
    if (has_text) {
        batch_put_var(b, 2, "x", 1);
    } else {
        batch_put_absent(b, 2);
    }
    batch_row_done(b, kind, 0, n);
}

/* A batch of the log; log_give hands it in as a segment of its own. */
static inline struct batch *log_rows(struct rig *g, struct schema *s, uint32_t rows) {
    struct txlist *txs = txlist_new();
    g->at++;
    txlist_add(txs, &(struct tx){ .id = g->at, .commit = { 0, g->at }, .end = { 0, g->at } });
    struct batch *b = batch_new(s, rows, txs);
    txlist_unref(txs);
    return b;
}

static inline void log_give(struct rig *g, struct batch *b, bool border) {
    struct segment *seg = segment_new();
    struct err err = ERR_INIT;
    if (b) {
        seg->txs = txlist_ref(b->txs);
        segment_add(seg, b);
    }
    seg->to = seg->resume = (struct logpos){ 0, g->at };
    seg->at_border = border;
    EXPECT_EQ_INT(hybrid_segment(g->h, seg, &err), 0);
}

/* A snapshot that sees everything below `below`. */
static inline enum chunk_verdict view(struct rig *g, const struct chunk_order *o, struct schema *s,
                                      uint64_t high, uint64_t below) {
    struct chunk_view v = { .schema = schema_ref(s), .high = { 0, high } };
    snapshot_set(&v.snapshot, below, below, NULL, 0);
    return hybrid_view(g->h, o->id, &v, "", NULL, 0, 1);
}

static inline void give_rows(struct rig *g, const struct chunk_order *o, struct schema *s, int from,
                             int end, bool complete) {
    struct err err = ERR_INIT;
    struct batch *b = batch_new(s, (uint32_t)(end - from) + 1, NULL);
    for (int k = from; k < end; k++) {
        put(b, k, true, ROW_INSERT, 0);
    }
    batch_seal(b);
    if (b->rows) {
        hybrid_rows(g->h, o->id, b, &err);
    } else {
        batch_unref(b);
    }
    EXPECT_EQ_INT(hybrid_end(g->h, o->id, complete, &err), 0);
}

/* Rows 1 to 9 joined, what is above them not. */
static inline void join_some(struct rig *g, struct schema *s) {
    struct chunk_order o;
    EXPECT_TRUE(hybrid_next(g->h, &o) && !o.whole);
    EXPECT_EQ_INT(view(g, &o, s, 0, g->at + 1), CHUNK_GO);
    give_rows(g, &o, s, 1, 11, false);
    chunk_order_release(&o);
    EXPECT_EQ_INT(table_find(g->h, 77)->joined.count, 1);
}

static inline bool moved(const struct schema *a, const struct schema *b) {
    return strcmp(a->storage, b->storage) != 0;
}
static const struct source_ops moving = { .name = "moves", .rewritten = moved };
