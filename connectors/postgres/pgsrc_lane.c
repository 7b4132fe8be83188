/* Lanes: one session, one snapshot at a time, its chunks. Small statements go through libpq; rows
 * are read raw, from the receive buffer straight into columns. The lock comes before the snapshot:
 * a rewriting ALTER that commits in between would give an empty table without an error. Thread: the
 * lane's task. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "connectors/postgres/pgsrc_lane.h"
#include "connectors/postgres/pgsrc_lsn.h"

#define ROW_HEAD 7 /* of a data row: type, length, number of columns */
#define CELL_HEAD 4
#define READ_US (600 * US_PER_S) /* the server's longest silence inside a read */
#define DRAIN_BYTES                                                                                \
    (8u << 20) /* of a read that was stopped: beyond it the server is asked to cancel */
#define RENAMES_MAX 3

/* --- open, close
 * -----------------------------------------------------------------------------------------------
 */

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
        pgsrc_lane_drop_heaps(l);
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
    l->wire = pgsrc_wire_new(l->session, (size_t)l->s->env->row_bytes_max);
    *out = &l->base;
    return 0;
}

int pgsrc_lane_use(struct pgsrc_lane *l, const struct schema *schema, struct err *err) {
    if (l->schema == schema) {
        return 0;
    }
    drop_schema(l);
    if (pgsrc_types_load_schema(l->types, l->session, schema, err)) {
        return -1;
    }
    pgsrc_wire_allow(l->wire, (size_t)l->s->env->row_bytes_max + ROW_HEAD +
                                  (size_t)CELL_HEAD * schema->column_count);
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

const char *pgsrc_lane_from(struct buf *b, const struct schema *schema) {
    buf_init(b, SIZE_MAX);
    pgsrc_from_put(b, !pgsrc_is_partitioned(schema), schema->space, schema->name);
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
        if (begin_locked(l, !pgsrc_is_partitioned(schema), *space, *name, NULL, &view, err)) {
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
    if (begin_locked(l, !pgsrc_is_partitioned(schema), schema->space, schema->name, export_name,
                     NULL, err)) {
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

/* --- reading
 * ---------------------------------------------------------------------------------------------------
 */

static int start_work(struct pgsrc_lane *l, struct err *err) {
    const struct pgsrc_columns columns = { .schema = l->schema,
                                           .base_oid = l->base_oid,
                                           .binary = l->binary };
    const struct pgsrc_work *w = &l->work[l->work_at++];
    struct buf from, out;
    buf_init(&from, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    if (w->heap) {
        pgsrc_from_put(&from, true, w->heap->space, w->heap->name);
    } else {
        pgsrc_from_put(&from, !pgsrc_is_partitioned(l->schema), l->schema->space, l->schema->name);
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
    int rc = pgsrc_range_put(&out, &columns, pgsrc_lane_from(&from, l->schema), &range, err);
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
    pgsrc_lane_drop_heaps(l);
    if (pgsrc_lane_use(l, req->schema, err) || (req->whole && pgsrc_lane_plan(l, req, err))) {
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
