/* What the tests, golden files and fuzz targets of the PostgreSQL decoders share: a small
 * catalogue, schemas from columns or Relation messages, and batches as text. Header only, since
 * each of those is a program of its own. */
#pragma once
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/buf.h"
#include "cdc/value.h"
#include "connectors/postgres/pgsrc_pgoutput.h"

enum { PGK_TYPES_MAX = 16, PGK_PLANS_MAX = 64 };

/* User types known to the lookup below. */
struct pgk {
    struct pgsrc_pg_type types[PGK_TYPES_MAX];
    size_t type_count;
    struct pgsrc_plan *plans[PGK_PLANS_MAX]; /* of the relations sent so far */
    size_t plan_count;
    bool unwanted; /* no relation is */
};

static inline const struct pgsrc_pg_type *pgk_lookup(void *arg, uint32_t oid) {
    const struct pgk *k = (const struct pgk *)arg;
    for (size_t i = 0; i < k->type_count; i++) {
        if (k->types[i].oid == oid) {
            return &k->types[i];
        }
    }
    return NULL;
}

static inline void pgk_add_type(struct pgk *k, uint32_t oid, char kind, uint32_t base,
                                int32_t base_mod, uint32_t element, char element_kind) {
    k->types[k->type_count++] = (struct pgsrc_pg_type){ .oid = oid,
                                                        .kind = kind,
                                                        .base = base,
                                                        .base_mod = base_mod,
                                                        .element = element,
                                                        .element_kind = element_kind,
                                                        .has_send = true };
}

static inline void pgk_release(struct pgk *k) {
    for (size_t i = 0; i < k->plan_count; i++) {
        pgsrc_plan_free(k->plans[i]);
    }
    k->plan_count = 0;
}

static inline void pgk_set_column(struct pgk *k, struct schema *s, uint16_t i, const char *name,
                                  uint32_t oid, int32_t mod, bool key) {
    struct column_def *c = &s->columns[i];
    *c = (struct column_def){
        .source_oid = oid, .source_mod = mod, .nullable = !key, .key_pos = -1
    };
    c->name = arena_strdup(&s->arena, name);
    pgsrc_type_map(oid, mod, pgk_lookup, k, &c->type);
    struct buf text;
    buf_init(&text, SIZE_MAX);
    type_put_name(&text, &c->type);
    c->source_type = arena_strdup(&s->arena, buf_cstr(&text));
    buf_release(&text);
}

/* A schema of one column. */
static inline struct schema *pgk_schema_of(struct pgk *k, uint32_t oid, int32_t mod) {
    struct schema *s = schema_new(1, "public", "t", 1);
    pgk_set_column(k, s, 0, "c", oid, mod, false);
    schema_finish(s);
    return s;
}

/* pgsrc_pgoutput_calls.relation */
static inline int pgk_relation(void *arg, const struct pgsrc_relation *rel, struct schema **schema,
                               const struct pgsrc_plan **plan, struct err *err) {
    struct pgk *k = (struct pgk *)arg;
    *schema = NULL;
    *plan = NULL;
    if (k->unwanted || strcmp(rel->name, "unwanted") == 0) {
        return 0;
    }
    if (k->plan_count == PGK_PLANS_MAX) {
        return err_set(err, ERR_FATAL, "test", "more relations than the test's kit holds");
    }
    struct schema *s = schema_new(rel->oid, rel->space, rel->name, rel->column_count);
    int16_t key_pos = 0;
    for (uint16_t i = 0; i < rel->column_count; i++) {
        const struct pgsrc_relation_column *c = &rel->columns[i];
        bool key = c->key && rel->identity != 'f';
        pgk_set_column(k, s, i, c->name, c->type_oid, c->type_mod, key);
        s->columns[i].key_pos = key ? key_pos++ : -1;
    }
    s->identity = (enum table_identity)rel->identity;
    schema_finish(s);
    *schema = s;
    *plan = k->plans[k->plan_count++] = pgsrc_plan_new(s, pgk_lookup, k);
    return 0;
}

static inline void pgk_put_hex(struct buf *out, const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len; i++) {
        buf_putf(out, "%02x", p[i]);
    }
}

static inline int64_t pgk_i64(const uint8_t *p) {
    int64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline int32_t pgk_i32(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline void pgk_put_scalar(struct buf *out, const struct type *t, const uint8_t *p,
                                  size_t len) {
    int16_t i16;
    float f32;
    double f64;
    switch (t->kind) {
    case TYPE_BOOL:
        buf_puts(out, *p ? "true" : "false");
        break;
    case TYPE_INT16:
        memcpy(&i16, p, 2);
        buf_put_i64(out, i16);
        break;
    case TYPE_INT32:
        buf_put_i64(out, pgk_i32(p));
        break;
    case TYPE_INT64:
        buf_put_i64(out, pgk_i64(p));
        break;
    case TYPE_UINT32:
        buf_put_u64(out, (uint32_t)pgk_i32(p));
        break;
    case TYPE_FLOAT32:
        memcpy(&f32, p, 4);
        value_put_float32(out, f32);
        break;
    case TYPE_FLOAT64:
        memcpy(&f64, p, 8);
        value_put_float64(out, f64);
        break;
    case TYPE_DECIMAL:
        value_put_decimal(out, t, p);
        break;
    case TYPE_BYTES:
        buf_puts(out, "\\x");
        pgk_put_hex(out, p, len);
        break;
    case TYPE_DATE:
        value_put_date(out, pgk_i32(p));
        break;
    case TYPE_TIME:
        value_put_time(out, pgk_i64(p));
        break;
    case TYPE_TIMETZ:
        value_put_timetz(out, pgk_i64(p), pgk_i32(p + 8));
        break;
    case TYPE_TIMESTAMP:
        value_put_timestamp(out, pgk_i64(p), false);
        break;
    case TYPE_TIMESTAMPTZ:
        value_put_timestamp(out, pgk_i64(p), true);
        break;
    case TYPE_INTERVAL:
        buf_putf(out, "%" PRId32 "mon %" PRId32 "d %" PRId64 "us", pgk_i32(p + 12), pgk_i32(p + 8),
                 pgk_i64(p));
        break;
    case TYPE_UUID:
        value_put_uuid(out, p);
        break;
    case TYPE_BIT:
        value_put_bits(out, p, len);
        break;
    default:
        buf_put(out, p, len);
        break;
    }
}

/* An array as its dimensions and, in brackets, its elements in order: 2x2@1,1[a|b|c|NULL]. */
static inline void pgk_put_array(struct buf *out, const struct type *t, const uint8_t *p,
                                 size_t len) {
    struct type element = { .kind = t->element };
    size_t width = type_width(&element);
    const uint8_t *end = p + len;
    uint32_t ndim = (uint32_t)pgk_i32(p);
    uint64_t count = ndim ? 1 : 0;
    for (uint32_t d = 0; d < ndim; d++) {
        count *= (uint32_t)pgk_i32(p + 4 + 8 * (size_t)d);
        buf_putf(out, "%s%" PRId32, d ? "x" : "", pgk_i32(p + 4 + 8 * (size_t)d));
    }
    for (uint32_t d = 0; d < ndim; d++) {
        buf_putf(out, "%c%" PRId32, d ? ',' : '@', pgk_i32(p + 8 + 8 * (size_t)d));
    }
    p += 4 + 8 * (size_t)ndim;
    buf_putc(out, '[');
    for (uint64_t i = 0; i < count; i++) {
        CHECK((size_t)(end - p) >= 4);
        uint32_t size = (uint32_t)pgk_i32(p);
        p += 4;
        buf_puts(out, i ? "|" : "");
        if (size == UINT32_MAX) {
            buf_puts(out, "NULL");
            continue;
        }
        CHECK((size_t)(end - p) >= size && (!width || width == size));
        pgk_put_scalar(out, &element, p, size);
        p += size;
    }
    CHECK(p == end);
    buf_putc(out, ']');
}

static inline void pgk_put_cell(struct buf *out, const struct batch *b, uint16_t col,
                                uint32_t row) {
    const struct column *c = &b->columns[col];
    const struct type *t = &b->schema->columns[col].type;
    if (cell_absent(c, row)) {
        buf_puts(out, "~");
    } else if (cell_null(c, row)) {
        buf_puts(out, "NULL");
    } else {
        size_t len;
        const uint8_t *p = cell_bytes(c, row, &len);
        if (t->kind == TYPE_ARRAY) {
            pgk_put_array(out, t, p, len);
        } else {
            pgk_put_scalar(out, t, p, len);
        }
    }
}

/* `public.t insert 731/0 id=1 a=x`, one line a row, batch by batch. */
static inline void pgk_put_batch(struct buf *out, const struct batch *b) {
    static const char *const kinds[] = { "insert", "before", "after", "delete", "truncate" };
    for (uint32_t row = 0; row < b->rows; row++) {
        buf_putf(out, "%s %s", b->schema->label, kinds[row_kind_of(b, row)]);
        if (b->txs) {
            buf_putf(out, " %" PRIu64 "/%" PRIu32, b->txs->at[b->tx[row]].id, b->n[row]);
        }
        for (uint16_t col = 0; col < b->schema->column_count; col++) {
            buf_putf(out, " %s=", b->schema->columns[col].name);
            pgk_put_cell(out, b, col, row);
        }
        buf_putc(out, '\n');
    }
}

/* The batches, then the transactions, then how far the log is read. */
static inline void pgk_put_segment(struct buf *out, const struct segment *s) {
    for (uint32_t i = 0; i < s->batch_count; i++) {
        pgk_put_batch(out, s->batches[i]);
    }
    for (uint32_t i = 0; s->txs && i < s->txs->count; i++) {
        const struct tx *t = &s->txs->at[i];
        buf_putf(out, "tx %" PRIu64 " commit %" PRIX64 " end %" PRIX64 " at ", t->id,
                 t->commit.offset, t->end.offset);
        value_put_timestamp(out, t->time_us, true);
        buf_putc(out, '\n');
    }
    buf_putf(out, "to %" PRIX64 "%s\n", s->to.offset, s->at_border ? "" : " within a transaction");
}
