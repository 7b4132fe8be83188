/* Pieces of a table: inner bounds that cut a key's range, or the blocks of its files, into even
 * parts; and which files, from which block to which, a piece then covers. Thread: the lane's task.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/key.h"
#include "connectors/postgres/pgsrc_lane.h"

#define PIECE_BLOCKS_MIN 1024u
#define HISTOGRAM_MAX 10000

/* --- files
 * -------------------------------------------------------------------------------------------------
 */

void pgsrc_lane_drop_heaps(struct pgsrc_lane *l) {
    for (uint32_t i = 0; i < l->heap_count; i++) {
        free(l->heaps[i].space);
        free(l->heaps[i].name);
    }
    free(l->heaps);
    free(l->work);
    l->heaps = NULL;
    l->work = NULL;
    l->heap_count = l->work_count = l->work_at = 0;
}

/* The files of a table and their sizes, sorted by oid. Inside the transaction. */
static int read_heaps(struct pgsrc_lane *l, const struct schema *schema, struct err *err) {
    pgsrc_lane_drop_heaps(l);
    char oid[24];
    snprintf(oid, sizeof oid, "%llu", (unsigned long long)schema->table_id);
    const char *params[] = { oid };
    PGresult *r =
        pgsrc_query(l->session, err,
                    "WITH RECURSIVE leaf(oid) AS (SELECT $1::oid UNION ALL SELECT i.inhrelid FROM "
                    "leaf l JOIN pg_class p ON p.oid = l.oid AND p.relkind = 'p'"
                    " JOIN pg_inherits i ON i.inhparent = l.oid)"
                    " SELECT c.oid, n.nspname, c.relname, has_table_privilege(c.oid, 'SELECT') AND "
                    "has_schema_privilege(n.oid, 'USAGE') AND c.relkind = 'r' AND NOT "
                    "row_security_active(c.oid),"
                    " CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / "
                    "current_setting('block_size')::int ELSE 0 END"
                    " FROM leaf l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = "
                    "c.relnamespace WHERE c.relkind <> 'p' ORDER BY c.oid",
                    1, params);
    if (!r) {
        return -1;
    }
    l->heap_count = (uint32_t)PQntuples(r);
    l->heaps = xcalloc(l->heap_count + 1u, sizeof *l->heaps);
    for (uint32_t i = 0; i < l->heap_count; i++) {
        l->heaps[i] = (struct pgsrc_heap){
            .oid = (uint32_t)strtoul(PQgetvalue(r, (int)i, 0), NULL, 10),
            .space = xstrdup(PQgetvalue(r, (int)i, 1)),
            .name = xstrdup(PQgetvalue(r, (int)i, 2)),
            .readable = PQgetvalue(r, (int)i, 3)[0] == 't',
            .blocks = (uint32_t)strtoul(PQgetvalue(r, (int)i, 4), NULL, 10),
        };
    }
    PQclear(r);
    return 0;
}

/* Partitions may lie where the role has no right of its own, or have row-level security of their
 * own, which counts only for who names them: then only the root can be read, in one piece. */
static bool heaps_are_readable(const struct pgsrc_lane *l) {
    for (uint32_t i = 0; i < l->heap_count; i++) {
        if (!l->heaps[i].readable) {
            return false;
        }
    }
    return l->heap_count > 0;
}

int pgsrc_lane_plan(struct pgsrc_lane *l, const struct chunk_read *req, struct err *err) {
    uint32_t lo_oid, lo_block, hi_oid, hi_block;
    if (pgsrc_piece_take(req->lo, req->lo_len, &lo_oid, &lo_block) ||
        pgsrc_piece_take(req->hi, req->hi_len, &hi_oid, &hi_block)) {
        return err_set(err, ERR_FATAL, "bound_malformed",
                       "a piece's bound of the table \"%s\" cannot be read", req->schema->label);
    }
    if (read_heaps(l, req->schema, err)) {
        return -1;
    }
    l->work = xcalloc(l->heap_count + 1u, sizeof *l->work);
    if (!heaps_are_readable(l)) {
        if (req->lo_len || req->hi_len) {
            return err_set(err, ERR_REWIND, "table_moved",
                           "rights to the table \"%s\" were taken while it was being read",
                           req->schema->label);
        }
        l->work[l->work_count++] = (struct pgsrc_work){ .heap = NULL };
        return 0;
    }
    for (uint32_t i = 0; i < l->heap_count; i++) {
        struct pgsrc_heap *f = &l->heaps[i];
        bool after_hi = req->hi_len && (f->oid > hi_oid || (f->oid == hi_oid && hi_block == 0));
        if (f->oid < lo_oid || after_hi) {
            continue;
        }
        uint32_t first = f->oid == lo_oid ? lo_block : 0,
                 end = req->hi_len && f->oid == hi_oid ? hi_block : 0;
        l->work[l->work_count++] =
            (struct pgsrc_work){ .heap = f, .ctid = first || end, .first = first, .end = end };
    }
    return 0;
}

/* --- cutting
 * -------------------------------------------------------------------------------------------------
 */

static int cut_whole(struct pgsrc_lane *l, const struct schema *schema, uint32_t pieces_max,
                     struct buf *bounds, uint32_t *pieces, struct err *err) {
    if (read_heaps(l, schema, err)) {
        return -1;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < l->heap_count; i++) {
        total += l->heaps[i].blocks;
    }
    uint64_t wanted = total / PIECE_BLOCKS_MIN + 1;
    wanted = wanted > pieces_max ? pieces_max : wanted;
    uint64_t before = 0; /* blocks of the files before i */
    uint32_t piece = 1;
    for (uint32_t i = 0; heaps_are_readable(l) && i < l->heap_count; i++) {
        for (; piece < wanted && total * piece / wanted < before + l->heaps[i].blocks; piece++) {
            uint8_t bound[PGSRC_PIECE_BOUND];
            uint32_t len = sizeof bound;
            pgsrc_piece_put(bound, l->heaps[i].oid, (uint32_t)(total * piece / wanted - before));
            buf_put(bounds, &len, sizeof len);
            buf_put(bounds, bound, sizeof bound);
            ++*pieces;
        }
        before += l->heaps[i].blocks;
    }
    return 0;
}

/* Even parts between the least and the greatest value of the first key column. */
static int cut_numbers(struct pgsrc_lane *l, const struct schema *schema, uint32_t pieces_max,
                       struct buf *bounds, uint32_t *pieces, struct err *err) {
    const struct column_def *key = &schema->columns[schema->key[0]];
    struct buf sql, from;
    buf_init(&sql, SIZE_MAX);
    const char *table = pgsrc_lane_from(&from, schema);
    for (int last = 0; last < 2; last++) {
        buf_puts(&sql, last ? ", (SELECT " : "SELECT (SELECT ");
        pgsrc_put_ident(&sql, key->name);
        buf_putf(&sql, " FROM %s ORDER BY ", table);
        pgsrc_put_ident(&sql, key->name);
        buf_puts(&sql, last ? " DESC LIMIT 1)" : " LIMIT 1)");
    }
    PGresult *r = pgsrc_query_binary(l->session, err, buf_cstr(&sql), 0, NULL);
    buf_release(&sql);
    buf_release(&from);
    if (!r) {
        return -1;
    }
    struct batch *cells = batch_new((struct schema *)(uintptr_t)schema, 1, NULL);
    uint8_t ends[2][16];
    size_t width = type_width(&key->type);
    int rc = 0;
    bool empty = PQgetisnull(r, 0, 0) || PQgetisnull(r, 0, 1);
    for (int i = 0; i < 2 && !empty && rc == 0; i++) {
        rc = pgsrc_cell_binary(l->plan, cells, schema->key[0], (const uint8_t *)PQgetvalue(r, 0, i),
                               (size_t)PQgetlength(r, 0, i), err);
        if (rc == 0) {
            memcpy(ends[i], batch_fixed(cells, schema->key[0]), width);
        }
    }
    if (rc == 0 && !empty) {
        *pieces += pgsrc_cut_even(bounds, &key->type, ends[0], ends[1], pieces_max);
    }
    batch_unref(cells);
    PQclear(r);
    return rc;
}

/* One histogram value as an inner bound, if it lies above the last one. */
static int put_histogram_bound(struct pgsrc_lane *l, const PGresult *r, int row, struct buf *last,
                               struct buf *bounds, uint32_t *pieces, struct err *err) {
    const struct schema *schema = l->schema;
    uint16_t col = schema->key[0];
    struct batch *cells = batch_new(l->schema, 1, NULL);
    struct buf key;
    buf_init(&key, SIZE_MAX);
    int rc = pgsrc_cell_binary(l->plan, cells, col, (const uint8_t *)PQgetvalue(r, row, 0),
                               (size_t)PQgetlength(r, row, 0), err);
    if (rc == 0) {
        size_t len;
        const uint8_t *cell = cell_bytes(&cells->columns[col], 0, &len);
        key_put_cell(&key, &schema->columns[col].type, cell, len);
        if (key_cmp(key.data, key.len, last->data, last->len) > 0) {
            uint32_t size = (uint32_t)key.len;
            buf_put(bounds, &size, sizeof size);
            buf_put(bounds, key.data, key.len);
            buf_clear(last);
            buf_put(last, key.data, key.len);
            ++*pieces;
        }
    }
    buf_release(&key);
    batch_unref(cells);
    return rc;
}

/* The server's own histogram of the first key column, as of its last ANALYZE: any of its values is
 * a good bound. */
static int cut_histogram(struct pgsrc_lane *l, const struct schema *schema, uint32_t pieces_max,
                         struct buf *bounds, uint32_t *pieces, struct err *err) {
    const struct column_def *key = &schema->columns[schema->key[0]];
    if (!l->binary[schema->key[0]]) {
        return 0;
    }
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_putf(&sql,
             "SELECT unnest(histogram_bounds::text::%s[]) FROM pg_stats WHERE schemaname = $1 AND "
             "tablename = $2 AND attname = $3 AND inherited = $4",
             key->source_type);
    const char *params[] = { schema->space, schema->name, key->name,
                             pgsrc_is_partitioned(schema) ? "t" : "f" };
    PGresult *r = pgsrc_query_binary(l->session, err, buf_cstr(&sql), 4, params);
    buf_release(&sql);
    if (!r) {
        return -1;
    }
    int values = PQntuples(r) > HISTOGRAM_MAX ? HISTOGRAM_MAX : PQntuples(r), rc = 0;
    struct buf last;
    buf_init(&last, SIZE_MAX);
    for (uint32_t i = 1; i < pieces_max && rc == 0; i++) {
        int row = (int)((uint64_t)(unsigned)values * i / pieces_max);
        if (row > 0 && row < values && !PQgetisnull(r, row, 0)) {
            rc = put_histogram_bound(l, r, row, &last, bounds, pieces, err);
        }
    }
    buf_release(&last);
    PQclear(r);
    return rc;
}

int pgsrc_op_lane_cut(struct source_lane *lane, const struct schema *schema, bool whole,
                      uint32_t pieces_max, struct buf *bounds, uint32_t *pieces, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    *pieces = 1;
    if (whole) {
        return cut_whole(l, schema, pieces_max, bounds, pieces, err);
    }
    CHECK(schema->key_orderable && schema->key_count > 0);
    if (pieces_max < 2) {
        return 0;
    }
    if (pgsrc_lane_use(l, schema, err)) {
        return -1;
    }
    switch (schema->columns[schema->key[0]].type.kind) {
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_INT64:
    case TYPE_UUID:
        return cut_numbers(l, schema, pieces_max, bounds, pieces, err);
    default:
        return cut_histogram(l, schema, pieces_max, bounds, pieces, err);
    }
}
