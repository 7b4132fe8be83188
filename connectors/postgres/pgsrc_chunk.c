/* Statements of chunks: see pgsrc_chunk.h. Pure. */
#include "connectors/postgres/pgsrc_chunk.h"

#include "cdc/key.h"
#include "cdc/value.h"
#include "connectors/postgres/pgsrc_wire.h"
#include "connectors/postgres/session.h"

struct params {
    uint16_t count;
    uint32_t oid[64];
    uint16_t format[64]; /* 0 text, 1 binary */
    struct buf values;   /* i32 length and bytes, each */
};

void pgsrc_from_put(struct buf *out, bool only, const char *space, const char *name) {
    buf_puts(out, only ? "ONLY " : "");
    pgsrc_put_table(out, space, name);
}

/* A cell (little-endian) as a parameter: in the server's binary form, decimals as text. */
static void param_put(struct params *p, const struct type *type, uint32_t oid,
                      const struct buf *cell) {
    p->oid[p->count] = oid;
    p->format[p->count] = type->kind != TYPE_DECIMAL;
    p->count++;
    if (type->kind == TYPE_DECIMAL) {
        struct buf text;
        buf_init(&text, SIZE_MAX);
        value_put_decimal(&text, type, (const uint8_t *)cell->data);
        pgsrc_put_be32(&p->values, (uint32_t)text.len);
        buf_put(&p->values, text.data, text.len);
        buf_release(&text);
        return;
    }
    pgsrc_put_be32(&p->values, (uint32_t)cell->len);
    if (type->kind == TYPE_TEXT || type->kind == TYPE_BYTES || type->kind == TYPE_UUID) {
        buf_put(&p->values, cell->data, cell->len);
        return;
    }
    for (size_t i = cell->len; i-- > 0;) {
        buf_putc(&p->values, cell->data[i]);
    }
}

enum bound_side { BOUND_LOW, BOUND_HIGH, BOUND_EXACT };

/* WHERE part of one bound: ("a","b") >= ($1,$2). */
static int bound_put(struct buf *sql, struct params *p, const struct pgsrc_columns *c,
                     const void *bound, size_t len, enum bound_side side, struct err *err) {
    const struct schema *s = c->schema;
    struct view v = view_of(bound, len);
    struct buf cell;
    buf_init(&cell, SIZE_MAX);
    uint16_t first = p->count, n = 0;
    int rc = 0;
    while (n < s->key_count && view_left(&v) && rc == 0) {
        uint16_t col = s->key[n];
        buf_clear(&cell);
        rc = p->count < ARRAY_COUNT(p->oid) ? key_take_cell(&v, &s->columns[col].type, &cell) : -1;
        if (rc == 0) {
            param_put(p, &s->columns[col].type, c->base_oid[col], &cell);
            n++;
        }
    }
    buf_release(&cell);
    if (rc || n == 0) {
        return err_set(err, ERR_FATAL, "bound_malformed",
                       "a chunk's bound of the table \"%s\" cannot be read", s->label);
    }
    bool above = view_left(&v) > 0; /* just above a full key */
    buf_puts(sql, "(");
    for (uint16_t i = 0; i < n; i++) {
        buf_puts(sql, i ? ", " : "");
        pgsrc_put_ident(sql, s->columns[s->key[i]].name);
    }
    buf_puts(sql, side == BOUND_EXACT ? ") = ("
                  : side == BOUND_LOW ? (above ? ") > (" : ") >= (")
                                      : (above ? ") <= (" : ") < ("));
    for (uint16_t i = 0; i < n; i++) {
        buf_putf(sql, "%s$%u", i ? ", " : "", first + i + 1u);
    }
    buf_putc(sql, ')');
    return 0;
}

static void select_put(struct buf *sql, const struct schema *s, const char *from) {
    buf_puts(sql, "SELECT ");
    for (uint16_t c = 0; c < s->column_count; c++) {
        buf_puts(sql, c ? ", " : "");
        pgsrc_put_ident(sql, s->columns[c].name);
    }
    buf_puts(sql, " FROM ");
    buf_puts(sql, from);
}

static void execute_put(struct buf *out) {
    size_t at = pgsrc_put_begin(out, 'E');
    buf_put(out, "\0\0\0\0\0", 5); /* unnamed portal, all rows */
    pgsrc_put_end(out, at);
}

void pgsrc_statement_put(struct buf *out, const char *sql) {
    size_t at = pgsrc_put_begin(out, 'P');
    buf_putc(out, '\0');
    buf_put(out, sql, strlen(sql) + 1);
    pgsrc_put_be16(out, 0);
    pgsrc_put_end(out, at);
    at = pgsrc_put_begin(out, 'B');
    buf_put(out, "\0\0\0\0\0\0\0\0", 8); /* both unnamed; no formats, parameters, results */
    pgsrc_put_end(out, at);
    execute_put(out);
}

static void messages_put(struct buf *out, const struct pgsrc_columns *c, struct buf *sql,
                         const struct params *p) {
    size_t at = pgsrc_put_begin(out, 'P');
    buf_putc(out, '\0');
    buf_put(out, sql->data, sql->len);
    buf_putc(out, '\0');
    pgsrc_put_be16(out, p->count);
    for (uint16_t i = 0; i < p->count; i++) {
        pgsrc_put_be32(out, p->oid[i]);
    }
    pgsrc_put_end(out, at);

    at = pgsrc_put_begin(out, 'B');
    buf_put(out, "\0", 2); /* unnamed portal, unnamed statement */
    pgsrc_put_be16(out, p->count);
    for (uint16_t i = 0; i < p->count; i++) {
        pgsrc_put_be16(out, p->format[i]);
    }
    pgsrc_put_be16(out, p->count);
    buf_put(out, p->values.data, p->values.len);
    pgsrc_put_be16(out, c->schema->column_count);
    for (uint16_t i = 0; i < c->schema->column_count; i++) {
        pgsrc_put_be16(out, c->binary[i]);
    }
    pgsrc_put_end(out, at);

    execute_put(out);
    pgsrc_put_end(out, pgsrc_put_begin(out, 'S'));
}

int pgsrc_range_put(struct buf *out, const struct pgsrc_columns *c, const char *from,
                    const struct pgsrc_range *range, struct err *err) {
    const struct schema *s = c->schema;
    struct params p = { .count = 0 };
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_init(&p.values, SIZE_MAX);
    select_put(&sql, s, from);
    int rc = 0;
    if (range->lo_len) {
        buf_puts(&sql, " WHERE ");
        rc = bound_put(&sql, &p, c, range->lo, range->lo_len,
                       range->exact ? BOUND_EXACT : BOUND_LOW, err);
    }
    if (rc == 0 && range->hi_len && !range->exact) {
        buf_puts(&sql, range->lo_len ? " AND " : " WHERE ");
        rc = bound_put(&sql, &p, c, range->hi, range->hi_len, BOUND_HIGH, err);
    }
    if (rc == 0 && range->exact) {
        messages_put(out, c, &sql, &p);
    } else if (rc == 0) {
        for (uint16_t i = 0; i < s->key_count; i++) {
            buf_puts(&sql, i ? ", " : " ORDER BY ");
            pgsrc_put_ident(&sql, s->columns[s->key[i]].name);
        }
        buf_putf(&sql, " LIMIT %u", range->rows_max);
        messages_put(out, c, &sql, &p);
    }
    buf_release(&sql);
    buf_release(&p.values);
    return rc;
}

void pgsrc_blocks_put(struct buf *out, const struct pgsrc_columns *c, const char *from, bool ctid,
                      uint32_t first, uint32_t end) {
    struct params none = { .count = 0 };
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    select_put(&sql, c->schema, from);
    if (ctid) {
        buf_putf(&sql, " WHERE ctid >= '(%u,0)'::tid", first);
        if (end) {
            buf_putf(&sql, " AND ctid < '(%u,0)'::tid", end);
        }
    }
    messages_put(out, c, &sql, &none);
    buf_release(&sql);
}

/* --- cutting
 * ---------------------------------------------------------------------------------------------------
 */

void pgsrc_piece_put(uint8_t out[PGSRC_PIECE_BOUND], uint32_t oid, uint32_t block) {
    oid = __builtin_bswap32(oid);
    block = __builtin_bswap32(block);
    memcpy(out, &oid, 4);
    memcpy(out + 4, &block, 4);
}

int pgsrc_piece_take(const void *p, size_t len, uint32_t *oid, uint32_t *block) {
    *oid = *block = 0;
    struct view v = view_of(p, len);
    return len && (len != PGSRC_PIECE_BOUND || take_u32be(&v, oid) || take_u32be(&v, block)) ? -1
                                                                                             : 0;
}

typedef unsigned __int128 u128;

/* A cell as a number that orders as the server does. */
static u128 number_of(const struct type *type, const uint8_t *cell) {
    if (type->kind == TYPE_UUID) {
        u128 v = 0;
        for (int i = 0; i < 16; i++) {
            v = v << 8 | cell[i];
        }
        return v;
    }
    int64_t v = 0;
    size_t width = type_width(type);
    memcpy(&v, cell, width);
    v = (int64_t)((uint64_t)v << (64 - 8 * width)) >> (64 - 8 * width); /* sign */
    return (u128)((uint64_t)v ^ (UINT64_C(1) << 63));
}

static void cell_of(const struct type *type, u128 v, uint8_t cell[16]) {
    if (type->kind == TYPE_UUID) {
        for (int i = 15; i >= 0; i--, v >>= 8) {
            cell[i] = (uint8_t)v;
        }
        return;
    }
    uint64_t x = (uint64_t)v ^ (UINT64_C(1) << 63);
    memcpy(cell, &x, 8);
}

uint32_t pgsrc_cut_even(struct buf *out, const struct type *type, const uint8_t *min,
                        const uint8_t *max, uint32_t pieces_max) {
    u128 lo = number_of(type, min), hi = number_of(type, max), last = lo;
    uint32_t bounds = 0;
    if (hi <= lo) {
        return 0;
    }
    u128 span = hi - lo; /* at least 1 */
    for (uint32_t i = 1; i < pieces_max; i++) {
        u128 at = lo + span / pieces_max * i + span % pieces_max * i / pieces_max;
        if (at <= last) {
            continue;
        }
        last = at;
        uint8_t cell[16];
        cell_of(type, at, cell);
        uint32_t room = 0;
        size_t begun = out->len;
        buf_put(out, &room, sizeof room);
        key_put_cell(out, type, cell, type_width(type));
        room = (uint32_t)(out->len - begun - sizeof room);
        memcpy(out->data + begun, &room, sizeof room);
        bounds++;
    }
    return bounds;
}
