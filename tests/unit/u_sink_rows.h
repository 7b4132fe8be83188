/* Schemas and batches for the tests of encoders and sinks, from short texts. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "cdc/batch.h"
#include "cdc/sink.h"
#include "tests/unit/kit.h"

/* "id:int64:k;body:text": name:type, k = next key column. */
static inline struct schema *rows_schema(uint64_t id, const char *name, uint32_t version,
                                         const char *spec) {
    char *text = strdup(spec);
    uint16_t count = 1;
    for (const char *p = spec; *p; p++) {
        count = (uint16_t)(count + (*p == ';'));
    }
    struct schema *s = schema_new(id, "public", name, count);
    int16_t keys = 0;
    char *rest = text;
    for (uint16_t i = 0; i < count; i++) {
        char *column = strsep(&rest, ";");
        struct column_def *c = &s->columns[i];
        c->name = arena_strdup(&s->arena, strsep(&column, ":"));
        const char *type = strsep(&column, ":");
        CHECK(type && type_from_name(type, &c->type) == 0);
        c->source_type = arena_strdup(&s->arena, type);
        c->source_mod = -1;
        c->key_pos = column ? keys++ : -1;
        c->nullable = !column;
    }
    s->version = version;
    s->storage = "";
    s->identity = keys > 0 ? IDENTITY_KEY : IDENTITY_FULL;
    schema_finish(s);
    free(text);
    return s;
}

static inline void put_fixed(struct batch *b, uint16_t col, const void *value, size_t width) {
    CHECK(b->columns[col].width == width);
    memcpy(batch_fixed(b, col), value, width);
}
static inline void put_i64(struct batch *b, uint16_t col, int64_t v) { put_fixed(b, col, &v, 8); }
static inline void put_i32(struct batch *b, uint16_t col, int32_t v) { put_fixed(b, col, &v, 4); }
static inline void put_str(struct batch *b, uint16_t col, const char *s) {
    batch_put_var(b, col, s, strlen(s));
}

/* Position as "segment/offset". */
static inline int rows_put_logpos(struct buf *out, struct logpos pos) {
    buf_putf(out, "%llu/%llu", (unsigned long long)pos.segment, (unsigned long long)pos.offset);
    return 0;
}

/* Transactions with id 100+i, committed at 0/(1000+i*10), i seconds after 2000-01-01. */
static inline struct txlist *rows_txs(uint32_t count) {
    struct txlist *txs = txlist_new();
    for (uint32_t i = 0; i < count; i++) {
        struct tx tx = { .id = 100 + i,
                         .commit = { 0, 1000 + i * 10 },
                         .end = { 0, 1005 + i * 10 },
                         .time_us = i * INT64_C(1000000) };
        txlist_add(txs, &tx);
    }
    return txs;
}

/* A row of a table "id:int64:k;body:text"; body NULL = null, "-" = not carried. */
static inline void rows_add(struct batch *b, enum row_kind kind, uint32_t tx, uint32_t n,
                            int64_t id, const char *body) {
    put_i64(b, 0, id);
    if (!body) {
        batch_put_null(b, 1);
    } else if (strcmp(body, "-") == 0) {
        batch_put_absent(b, 1);
    } else {
        put_str(b, 1, body);
    }
    batch_row_done(b, kind, tx, n);
}
