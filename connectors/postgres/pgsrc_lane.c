/* Lanes: one session, one snapshot at a time, its chunks. Small statements go through libpq; rows
 * are read raw, from the receive buffer straight into columns. The lock comes before the snapshot:
 * a rewriting ALTER that commits in between would give an empty table without an error. Thread: the
 * lane's task. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "cdc/key.h"
#include "connectors/postgres/pgsrc_chunk.h"
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_lsn.h"
#include "connectors/postgres/pgsrc_wire.h"

#define ROW_SLACK (1u << 20)     /* protocol around a row */
#define READ_US (600 * US_PER_S) /* the server's longest silence inside a read */
#define DRAIN_BYTES                                                                                \
    (8u << 20) /* of a read that was stopped: beyond it the server is asked to cancel */
#define PIECE_BLOCKS_MIN 1024u
#define RENAMES_MAX 3
#define HISTOGRAM_MAX 10000

struct heap { /* a table with blocks of its own: an ordinary table, or a leaf of a partitioned one
               */
    uint32_t oid, blocks;
    char *space, *name;
    bool readable;
};
struct work {
    struct heap *heap;
    bool ctid;
    uint32_t first, end;
};

struct pgsrc_lane {
    struct source_lane base;
    struct pgsrc *s;
    struct pgsrc_session *session;
    struct pgsrc_types *types;
    struct pgsrc_wire *wire;
    bool planner_set; /* in this transaction */
    bool broken;      /* a read ended in the middle: the connection is of no use any more */
    /* Of the schema read last. */
    struct schema *schema;
    struct pgsrc_plan *plan;
    uint32_t *base_oid;
    bool *binary;
    uint32_t *room; /* see batch_reserve */
    /* Of the running read. */
    bool reading, many; /* many: the rows of a batch, or more */
    uint32_t batch_rows;
    struct heap *heaps;
    uint32_t heap_count;
    struct work *work;
    uint32_t work_count, work_at;
    struct err failure; /* what the server reported; kind NONE = nothing */
};

/* --- open, close
 * -----------------------------------------------------------------------------------------------
 */

static void drop_heaps(struct pgsrc_lane *l) {
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

static void drop_schema(struct pgsrc_lane *l) {
    pgsrc_plan_free(l->plan);
    schema_unref(l->schema);
    free(l->base_oid);
    free(l->binary);
    free(l->room);
    l->plan = NULL;
    l->schema = NULL;
    l->base_oid = NULL;
    l->binary = NULL;
    l->room = NULL;
}

void pgsrc_op_lane_close(struct source_lane *lane) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    if (l) {
        drop_heaps(l);
        drop_schema(l);
        pgsrc_wire_free(l->wire);
        pgsrc_session_close(l->session);
        pgsrc_types_free(l->types);
        free(l);
    }
}

int pgsrc_op_lane_open(struct source *source, unsigned number, struct source_lane **out,
                       struct err *err) {
    (void)number;
    struct pgsrc_lane *l = xcalloc(1, sizeof *l);
    l->base.ops = &pgsrc_ops;
    l->s = (struct pgsrc *)source;
    l->types = pgsrc_types_new();
    if (pgsrc_connect(l->s, "lane", false, &l->session, err)) {
        pgsrc_op_lane_close(&l->base);
        return -1;
    }
    l->wire = pgsrc_wire_new(l->session, (size_t)l->s->env->row_bytes_max + ROW_SLACK);
    *out = &l->base;
    return 0;
}

/* Decoders for the rows of a schema. */
static int use_schema(struct pgsrc_lane *l, const struct schema *schema, struct err *err) {
    if (l->schema == schema) {
        return 0;
    }
    drop_schema(l);
    if (pgsrc_types_load_schema(l->types, l->session, schema, err)) {
        return -1;
    }
    l->schema = schema_ref((struct schema *)(uintptr_t)schema);
    l->plan = pgsrc_plan_new(schema, pgsrc_types_lookup, l->types);
    l->base_oid = xcalloc(schema->column_count + 1u, sizeof *l->base_oid);
    l->binary = xcalloc(schema->column_count + 1u, sizeof *l->binary);
    l->room = xcalloc(schema->column_count + 1u, sizeof *l->room);
    for (uint16_t c = 0; c < schema->column_count; c++) {
        l->base_oid[c] = pgsrc_types_base(l->types, schema->columns[c].source_oid);
        l->binary[c] = pgsrc_column_is_binary(l->types, &schema->columns[c]);
    }
    return 0;
}

static bool is_partitioned(const struct schema *schema) { return schema->storage[0] == 'p'; }

static const char *from_text(struct buf *b, const struct schema *schema) {
    buf_init(b, SIZE_MAX);
    pgsrc_from_put(b, !is_partitioned(schema), schema->space, schema->name);
    return buf_cstr(b);
}

static int gone_lane(struct err *err) {
    return err_set(err, ERR_REWIND, "connection_lost", "a read on this connection broke off");
}

/* --- transactions
 * ---------------------------------------------------------------------------------------------- */

static void rollback(struct pgsrc_lane *l) {
    struct err ignored =
        ERR_INIT; /* the caller's error says what happened; a broken connection is met again */
    if (PQstatus(l->session->conn) == CONNECTION_OK &&
        pgsrc_run(l->session, &ignored, "ROLLBACK")) {
        return;
    }
}

/* The table's present name, outside of any transaction. *gone: there is no such table. */
static int present_name(struct pgsrc_lane *l, uint64_t oid, char **space, char **name, bool *gone,
                        struct err *err) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)oid);
    const char *params[] = { text };
    PGresult *r = pgsrc_query(l->session, err,
                              "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON "
                              "n.oid = c.relnamespace WHERE c.oid = $1::oid",
                              1, params);
    if (!r) {
        return -1;
    }
    *gone = PQntuples(r) == 0;
    if (!*gone) {
        free(*space);
        free(*name);
        *space = xstrdup(PQgetvalue(r, 0, 0));
        *name = xstrdup(PQgetvalue(r, 0, 1));
    }
    PQclear(r);
    return 0;
}

/* Begins, locks, and takes over an exported snapshot, or (import NULL) takes one: *view is S and H
 * then. No snapshot is taken before the lock: each statement of the string is analysed only when
 * those before it are done, and LOCK takes none. */
static int begin_locked(struct pgsrc_lane *l, bool only, const char *space, const char *name,
                        const char *import, PGresult **view, struct err *err) {
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_puts(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ");
    if (import) {
        buf_puts(&sql, "SET TRANSACTION SNAPSHOT ");
        pgsrc_put_literal(&sql, import);
        buf_puts(&sql, "; ");
    }
    buf_puts(&sql, "LOCK TABLE ");
    pgsrc_from_put(&sql, only, space, name);
    buf_puts(&sql, " IN ACCESS SHARE MODE");
    if (!import) {
        buf_puts(&sql, "; SELECT pg_current_snapshot(), pg_current_wal_insert_lsn()");
    }
    l->planner_set = false;
    PGresult *r = pgsrc_query(l->session, err, buf_cstr(&sql), 0, NULL);
    buf_release(&sql);
    if (!r) {
        return -1;
    }
    if (import) {
        PQclear(r);
    } else {
        *view = r;
    }
    return 0;
}

/* S and H, then what the catalogue says under S. */
static int read_view(struct pgsrc_lane *l, const struct schema *schema, const char *space,
                     const char *name, PGresult *take_view, struct chunk_view *out, bool *moved,
                     struct err *err) {
    uint64_t high;
    int rc = PQntuples(take_view) != 1 ||
             pgsrc_snapshot_parse(PQgetvalue(take_view, 0, 0), &out->snapshot) ||
             pgsrc_lsn_parse(PQgetvalue(take_view, 0, 1), &high);
    PQclear(take_view);
    if (rc) {
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "the server gave a snapshot or position that cannot be read");
    }
    out->high = (struct logpos){ 0, pgsrc_floor(l->s, high) };
    struct source_catalogue c;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(l->s, schema->table_id);
    if (pgsrc_catalogue_read(l->session, l->types, &ask, &c, err)) {
        return -1;
    }
    *moved = false;
    if (c.count == 0) {
        out->gone = true;
    } else if (strcmp(c.tables[0].schema->name, name) != 0 ||
               strcmp(c.tables[0].schema->space, space) != 0) {
        *moved = true; /* renamed before the lock: what was locked is another table */
    } else {
        out->schema = schema_ref(c.tables[0].schema);
    }
    source_catalogue_release(&c);
    return 0;
}

static int begin_view(struct pgsrc_lane *l, const struct schema *schema, char **space, char **name,
                      struct chunk_view *out, struct err *err) {
    bool gone;
    for (int attempt = 0; attempt < RENAMES_MAX; attempt++) {
        bool moved = false;
        PGresult *view = NULL;
        if (begin_locked(l, !is_partitioned(schema), *space, *name, NULL, &view, err)) {
            bool missing = strcmp(l->session->state, "42P01") == 0 ||
                           strcmp(l->session->state, "3F000") == 0 ||
                           strcmp(l->session->state, "42809") == 0;
            rollback(l);
            if (!missing) {
                return err_wrap(err, "lock the table %s", schema->label);
            }
            err_clear(err);
            if (present_name(l, schema->table_id, space, name, &gone, err)) {
                return -1;
            }
            if (gone) {
                out->gone = true; /* no transaction is open now; lane_end's COMMIT only warns */
                return 0;
            }
            continue;
        }
        if (read_view(l, schema, *space, *name, view, out, &moved, err)) {
            rollback(l);
            return -1;
        }
        if (!moved) {
            return 0;
        }
        rollback(l);
        chunk_view_release(out);
        snapshot_init(&out->snapshot);
        if (present_name(l, schema->table_id, space, name, &gone, err)) {
            return -1;
        }
        if (gone) {
            out->gone = true;
            return 0;
        }
    }
    return err_set(err, ERR_RETRY, "table_moved",
                   "the table \"%s\" was renamed while it was being locked", schema->label);
}

int pgsrc_op_lane_begin(struct source_lane *lane, const struct schema *schema,
                        struct chunk_view *out, char *export_name, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    char *space = xstrdup(schema->space), *name = xstrdup(schema->name);
    *out = (struct chunk_view){ .gone = false };
    snapshot_init(&out->snapshot);
    int rc = l->broken ? gone_lane(err) : begin_view(l, schema, &space, &name, out, err);
    free(space);
    free(name);
    if (rc == 0 && export_name) {
        export_name[0] = '\0';
        if (!out->gone &&
            pgsrc_scalar(l->session, err, "SELECT pg_export_snapshot()", export_name, 64)) {
            rollback(l);
            rc = -1;
        }
    }
    if (rc) {
        chunk_view_release(out);
    }
    return rc;
}

int pgsrc_op_lane_join(struct source_lane *lane, const struct schema *schema,
                       const char *export_name, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    /* The exporting transaction holds the same lock, so nothing can come between its snapshot and
     * this lock. */
    if (l->broken) {
        return gone_lane(err);
    }
    if (begin_locked(l, !is_partitioned(schema), schema->space, schema->name, export_name, NULL,
                     err)) {
        rollback(l);
        return err_wrap(err, "join the snapshot of the table %s", schema->label);
    }
    return 0;
}

int pgsrc_op_lane_end(struct source_lane *lane, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    CHECK(!l->reading);
    return l->broken ? gone_lane(err) : pgsrc_run(l->session, err, "COMMIT");
}

/* --- cutting
 * ---------------------------------------------------------------------------------------------------
 */

/* The files of a table and their sizes, sorted by oid. Inside the transaction. */
static int read_heaps(struct pgsrc_lane *l, const struct schema *schema, struct err *err) {
    drop_heaps(l);
    char oid[24];
    snprintf(oid, sizeof oid, "%llu", (unsigned long long)schema->table_id);
    const char *params[] = { oid };
    PGresult *r =
        pgsrc_query(l->session, err,
                    "WITH RECURSIVE leaf(oid) AS (SELECT $1::oid UNION ALL SELECT i.inhrelid FROM "
                    "leaf l JOIN pg_class p ON p.oid = l.oid AND p.relkind = 'p'"
                    " JOIN pg_inherits i ON i.inhparent = l.oid)"
                    " SELECT c.oid, n.nspname, c.relname, has_table_privilege(c.oid, 'SELECT') AND "
                    "has_schema_privilege(n.oid, 'USAGE') AND c.relkind = 'r',"
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
        l->heaps[i] = (struct heap){
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

/* Partitions may lie where the role has no right of its own: then only the root can be read, in one
 * piece. */
static bool heaps_are_readable(const struct pgsrc_lane *l) {
    for (uint32_t i = 0; i < l->heap_count; i++) {
        if (!l->heaps[i].readable) {
            return false;
        }
    }
    return l->heap_count > 0;
}

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
    const char *table = from_text(&from, schema);
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
                             is_partitioned(schema) ? "t" : "f" };
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
    if (use_schema(l, schema, err)) {
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

/* --- reading
 * ---------------------------------------------------------------------------------------------------
 */

/* Which blocks of which files a piece [lo, hi) covers. */
static int plan_work(struct pgsrc_lane *l, const struct chunk_read *req, struct err *err) {
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
        l->work[l->work_count++] = (struct work){ .heap = NULL };
        return 0;
    }
    for (uint32_t i = 0; i < l->heap_count; i++) {
        struct heap *f = &l->heaps[i];
        bool after_hi = req->hi_len && (f->oid > hi_oid || (f->oid == hi_oid && hi_block == 0));
        if (f->oid < lo_oid || after_hi) {
            continue;
        }
        uint32_t first = f->oid == lo_oid ? lo_block : 0,
                 end = req->hi_len && f->oid == hi_oid ? hi_block : 0;
        l->work[l->work_count++] =
            (struct work){ .heap = f, .ctid = first || end, .first = first, .end = end };
    }
    return 0;
}

static int start_work(struct pgsrc_lane *l, struct err *err) {
    const struct pgsrc_columns columns = { .schema = l->schema,
                                           .base_oid = l->base_oid,
                                           .binary = l->binary };
    const struct work *w = &l->work[l->work_at++];
    struct buf from, out;
    buf_init(&from, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    if (w->heap) {
        pgsrc_from_put(&from, true, w->heap->space, w->heap->name);
    } else {
        pgsrc_from_put(&from, !is_partitioned(l->schema), l->schema->space, l->schema->name);
    }
    pgsrc_blocks_put(&out, &columns, buf_cstr(&from), w->ctid, w->first, w->end);
    int rc = pgsrc_wire_send(l->wire, out.data, out.len, err);
    buf_release(&from);
    buf_release(&out);
    return rc;
}

/* The key's index is the only right plan here, whatever the statistics say. Goes in front of the
 * range's own messages; an error of any of them passes over the rest. */
static void put_planner(struct buf *out) {
    static const char *const settings[] = { "SET LOCAL enable_seqscan = off",
                                            "SET LOCAL enable_bitmapscan = off",
                                            "SET LOCAL enable_sort = off" };
    for (size_t i = 0; i < ARRAY_COUNT(settings); i++) {
        pgsrc_statement_put(out, settings[i]);
    }
}

static int start_range(struct pgsrc_lane *l, const struct chunk_read *req, struct err *err) {
    const struct pgsrc_columns columns = { .schema = l->schema,
                                           .base_oid = l->base_oid,
                                           .binary = l->binary };
    const struct pgsrc_range range = { .lo = req->lo,
                                       .lo_len = req->lo_len,
                                       .hi = req->hi,
                                       .hi_len = req->hi_len,
                                       .exact = req->exact,
                                       .rows_max = req->rows_max };
    struct buf from, out;
    buf_init(&out, SIZE_MAX);
    if (!l->planner_set) {
        put_planner(&out);
    }
    int rc = pgsrc_range_put(&out, &columns, from_text(&from, l->schema), &range, err);
    if (rc == 0) {
        rc = pgsrc_wire_send(l->wire, out.data, out.len, err);
        l->planner_set = true;
    }
    buf_release(&from);
    buf_release(&out);
    return rc;
}

int pgsrc_op_lane_read(struct source_lane *lane, const struct chunk_read *req, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    CHECK(!l->reading && (req->whole || req->rows_max > 0));
    if (l->broken) {
        return gone_lane(err);
    }
    l->batch_rows =
        req->batch_rows && req->batch_rows < BATCH_ROWS_MAX ? req->batch_rows : BATCH_ROWS_MAX;
    l->many = req->whole || req->rows_max >= l->batch_rows;
    l->failure = ERR_INIT;
    drop_heaps(l);
    if (use_schema(l, req->schema, err) || (req->whole && plan_work(l, req, err))) {
        return -1;
    }
    if (req->whole ? l->work_count && start_work(l, err) : start_range(l, req, err)) {
        return -1;
    }
    l->reading = !req->whole || l->work_count;
    return 0;
}

/* What is not a row. *done: the server is ready, and nothing is left to read. */
static int take_message(struct pgsrc_lane *l, const struct pgsrc_message *m, bool *done,
                        struct err *err) {
    struct pgsrc_report report;
    switch (m->type) {
    case '1':
    case '2':
    case '3':
    case 'C':
    case 'I':
    case 'n':
    case 'N':
    case 'S':
    case 'A':
    case 'D':
        return 0;
    case 'E':
        pgsrc_report_parse(m->body, m->len, &report);
        if (l->failure.kind == ERR_NONE) {
            pgsrc_server_error(&l->failure, report.state, report.message, "read rows");
        }
        return 0;
    case 'Z':
        if (l->failure.kind == ERR_NONE && l->work_at < l->work_count) {
            return start_work(l, err);
        }
        *done = true;
        l->reading = false;
        pgsrc_wire_pause(l->wire);
        return 0;
    default:
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "PostgreSQL sent a message of type %02x among rows", (unsigned char)m->type);
    }
}

static int fill(struct pgsrc_lane *l, int64_t deadline_us, struct err *err) {
    enum pgsrc_fill got;
    if (pgsrc_wire_fill(l->wire, false, NULL, deadline_us, &got, err)) {
        return -1;
    }
    return got == FILL_DEADLINE
               ? err_set(err, ERR_REWIND, "server_silent", "PostgreSQL sent no row for %d s",
                         (int)(READ_US / US_PER_S))
               : 0;
}

/* Rows of the buffer into the batch; then at most one other message. *hungry: more bytes are
 * needed. */
static int take_some(struct pgsrc_lane *l, struct batch *batch, bool *hungry, bool *done,
                     struct err *err) {
    struct view v = pgsrc_wire_view(l->wire);
    *hungry = false;
    if (view_left(&v) && *v.at == 'D') {
        const uint8_t *before = v.at;
        int rows = pgsrc_decode_rows(l->plan, batch, &v, err);
        pgsrc_wire_skip_to(l->wire, v.at);
        if (rows < 0) {
            return err_wrap(err, "table %s", l->schema->label);
        }
        *hungry = v.at == before && !batch_full(batch);
        return 0;
    }
    struct pgsrc_message m;
    if (!pgsrc_wire_next(l->wire, &m)) {
        *hungry = true;
        return 0;
    }
    return take_message(l, &m, done, err);
}

static int break_off(struct pgsrc_lane *l) {
    l->broken = true;
    l->reading = false;
    return -1;
}

int pgsrc_op_lane_next(struct source_lane *lane, struct batch **out, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    *out = NULL;
    if (!l->reading) {
        return 0;
    }
    struct batch *batch = batch_new(l->schema, l->batch_rows, NULL);
    if (l->many) {
        batch_reserve(batch, l->room);
    }
    bool done = false;
    int rc = 0;
    while (rc == 0 && !done && !batch_full(batch)) {
        bool hungry;
        rc = take_some(l, batch, &hungry, &done, err);
        if (rc == 0 && hungry && !done) {
            rc = fill(l, clock_mono_us() + READ_US, err);
        }
    }
    if (rc == 0 && done && l->failure.kind != ERR_NONE) {
        *err = l->failure;
        rc = err_wrap(err, "table %s", l->schema->label);
    }
    if (rc && !done) {
        rc = break_off(l);
    }
    if (rc || batch->rows == 0) {
        batch_unref(batch);
        return rc ? -1 : 0;
    }
    if (l->many && batch_full(batch)) {
        batch_learn_room(batch, l->room);
    }
    batch_seal(batch);
    *out = batch;
    return 0;
}

int pgsrc_op_lane_stop(struct source_lane *lane, struct err *err) {
    struct pgsrc_lane *l = (struct pgsrc_lane *)lane;
    bool done = !l->reading, asked = false;
    size_t drained = 0;
    int64_t deadline = clock_mono_us() + READ_US;
    l->work_at = l->work_count; /* no further heap */
    while (!done) {
        struct pgsrc_message m;
        if (pgsrc_wire_next(l->wire, &m)) {
            drained += m.len;
            if (take_message(l, &m, &done, err)) {
                return break_off(l);
            }
        } else if (fill(l, deadline, err)) {
            return break_off(l);
        }
        if (drained > DRAIN_BYTES && !asked && !done) {
            char text[256];
            PGcancel *c = PQgetCancel(l->session->conn);
            asked = true; /* a cancel that fails costs time only */
            if (c) {
                (void)PQcancel(c, text, sizeof text);
                PQfreeCancel(c);
            }
        }
    }
    return 0;
}
