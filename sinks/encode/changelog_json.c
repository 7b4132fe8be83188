/* Changelog lines. What does not change from row to row is made once: a column's `,"name":`, a
 * table's head of the line, a transaction's tail of it. A row then is copies of these and its
 * cells, straight into the output's buffer. See changelog_json.h for the form. Never holds more of
 * a row than the output's buffer does. */
#include "sinks/encode/changelog_json.h"

#include <stdlib.h>

#include "cdc/base/json.h"
#include "cdc/base/map.h"
#include "cdc/value.h"
#include "sinks/encode/json_cell.h"
#include "sinks/encode/stage_merge.h"

enum { PLANS_MAX = 4096 }; /* beyond it they are made anew in the next file */

/* A table's last shown version in this file. */
struct shown {
    uint64_t file;
    uint32_t version;
};
/* The constant text of one schema's lines. */
struct plan {
    struct schema *schema; /* owned reference */
    struct shown *shown;   /* the encoder's, by table */
    struct buf head;       /* {"op":"?","table":"public.t","key":{ with the letter at OP_AT */
    struct buf names;      /* ,"a":,"b": */
    uint32_t *name_at;     /* column_count + 1 offsets in names */
};
enum { OP_AT = sizeof "{\"op\":\"" - 1 };

struct changelog_json {
    struct out out;
    int (*put_logpos)(struct buf *out, struct logpos pos);
    struct map *plans; /* (table_id, version) -> struct plan */
    struct map *shown; /* table_id -> struct shown */
    uint64_t file;     /* number of the present one, from 1 */
    uint64_t rows;
    struct stage_merge merge;
    struct plan **of_batch;
    uint32_t of_batch_cap;
    /* The tail after "after" and "unchanged", in two parts around n; made for one transaction and
     * generation, of one item. */
    bool tail_valid;
    uint32_t tail_tx, tail_generation;
    const struct txlist *tail_txs;
    struct buf tail_a, tail_b;
};

static void plan_free(void *p) {
    struct plan *plan = p;
    schema_unref(plan->schema);
    buf_release(&plan->head);
    buf_release(&plan->names);
    free(plan->name_at);
    free(plan);
}

struct changelog_json *changelog_json_new(int (*put_logpos)(struct buf *out, struct logpos pos),
                                          out_write_fn write, void *arg) {
    struct changelog_json *e = xcalloc(1, sizeof *e);
    out_init(&e->out, write, arg);
    e->put_logpos = put_logpos;
    e->plans = map_new();
    e->shown = map_new();
    e->file = 1;
    stage_merge_init(&e->merge);
    buf_init(&e->tail_a, SIZE_MAX);
    buf_init(&e->tail_b, SIZE_MAX);
    return e;
}

void changelog_json_free(struct changelog_json *e) {
    if (!e) {
        return;
    }
    map_free(e->plans, plan_free);
    map_free(e->shown, free);
    stage_merge_release(&e->merge);
    free(e->of_batch);
    buf_release(&e->tail_a);
    buf_release(&e->tail_b);
    out_release(&e->out);
    free(e);
}

void changelog_json_begin(struct changelog_json *e) {
    buf_clear(&e->out.buf);
    e->file++;
    e->rows = 0;
    if (map_count(e->plans) > PLANS_MAX) {
        map_clear(e->plans, plan_free);
        map_clear(e->shown, free);
    }
}

int changelog_json_flush(struct changelog_json *e, struct err *err) {
    return out_flush(&e->out, err);
}
uint64_t changelog_json_rows(const struct changelog_json *e) { return e->rows; }

static struct shown *shown_of(struct changelog_json *e, uint64_t table_id) {
    struct shown *s = map_get(e->shown, &table_id, sizeof table_id);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        map_set(e->shown, &table_id, sizeof table_id, s);
    }
    return s;
}

static struct plan *plan_new(struct changelog_json *e, struct schema *schema) {
    struct plan *p = xcalloc(1, sizeof *p);
    p->schema = schema_ref(schema);
    p->shown = shown_of(e, schema->table_id);
    buf_init(&p->head, OUT_ROOM_MAX / 2);
    buf_init(&p->names, SIZE_MAX);
    buf_puts(&p->head, "{\"op\":\"?\",\"table\":");
    json_put_cstr(&p->head, schema->label);
    buf_puts(&p->head, ",\"key\":{");
    p->name_at = xmalloc((schema->column_count + 1u) * sizeof *p->name_at);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        p->name_at[i] = (uint32_t)p->names.len;
        buf_putc(&p->names, ',');
        json_put_cstr(&p->names, schema->columns[i].name);
        buf_putc(&p->names, ':');
    }
    p->name_at[schema->column_count] = (uint32_t)p->names.len;
    return p;
}

/* The plan of a batch's schema. A table's plan stays as long as the rows look the same, whatever
 * schema object comes with them. */
static struct plan *plan_of(struct changelog_json *e, struct schema *schema) {
    uint64_t key[2] = { schema->table_id, schema->version };
    struct plan *p = map_get(e->plans, key, sizeof key);
    if (LIKELY(p && p->schema == schema)) {
        return p;
    }
    if (p && schema_same_rows(p->schema, schema) && strcmp(p->schema->label, schema->label) == 0) {
        return p;
    }
    CHECK(!p); /* one version, one look: the merge task numbers them */
    p = plan_new(e, schema);
    map_set(e->plans, key, sizeof key, p);
    return p;
}

static int show_schema(struct changelog_json *e, struct plan *p, struct err *err) {
    const struct schema *s = p->schema;
    struct buf line;
    buf_init(&line, SIZE_MAX);
    buf_puts(&line, "{\"schema\":{\"table\":");
    json_put_cstr(&line, s->label);
    buf_putf(&line, ",\"version\":%u,\"columns\":[", s->version);
    for (uint32_t i = 0; i < s->column_count; i++) {
        const struct column_def *c = &s->columns[i];
        buf_puts(&line, i > 0 ? ",{\"name\":" : "{\"name\":");
        json_put_cstr(&line, c->name);
        buf_puts(&line, ",\"type\":\"");
        type_put_name(&line, &c->type);
        buf_puts(&line, c->nullable ? "\",\"nullable\":true" : "\",\"nullable\":false");
        buf_puts(&line, c->key_pos >= 0 ? ",\"key\":true}" : ",\"key\":false}");
    }
    buf_puts(&line, "]}}\n");
    int failed = out_bytes(&e->out, line.data, line.len, err);
    buf_release(&line);
    p->shown->file = e->file;
    p->shown->version = s->version;
    return failed;
}

static inline int need_schema(struct changelog_json *e, struct plan *p, struct err *err) {
    if (LIKELY(p->shown->file == e->file && p->shown->version == p->schema->version)) {
        return 0;
    }
    return show_schema(e, p, err);
}

/* The source part and the line's end. snapshot: the JSON value. */
static void put_source(struct changelog_json *e, struct buf *b, struct logpos lsn,
                       const char *snapshot, uint32_t generation) {
    buf_puts(b, "\"source\":{\"lsn\":\"");
    int failed = e->put_logpos(b, lsn);
    CHECK(!failed);
    buf_puts(b, "\",\"snapshot\":");
    buf_puts(b, snapshot);
    buf_puts(b, ",\"gen\":");
    buf_put_u64(b, generation);
    buf_puts(b, "}}\n");
}

static void make_tail(struct changelog_json *e, const struct batch *b, uint32_t tx) {
    buf_clear(&e->tail_a);
    buf_clear(&e->tail_b);
    CHECK(tx < b->txs->count);
    const struct tx *t = &b->txs->at[tx];
    buf_puts(&e->tail_a, ",\"tx\":{\"id\":");
    buf_put_u64(&e->tail_a, t->id);
    buf_puts(&e->tail_a, ",\"n\":");
    buf_puts(&e->tail_b, "},\"ts\":\"");
    value_put_timestamp(&e->tail_b, t->time_us, true);
    buf_puts(&e->tail_b, "\",");
    put_source(e, &e->tail_b, t->commit, "false", b->generation);
    e->tail_valid = true;
    e->tail_tx = tx;
    e->tail_txs = b->txs;
    e->tail_generation = b->generation;
}

/* The tail of lines that belong to no transaction. */
static void make_snapshot_tail(struct changelog_json *e, struct logpos lsn, bool backfill,
                               uint32_t generation) {
    buf_clear(&e->tail_a);
    buf_clear(&e->tail_b);
    buf_puts(&e->tail_a, ",\"tx\":null,\"ts\":null,");
    put_source(e, &e->tail_a, lsn, backfill ? "\"backfill\"" : "\"first\"", generation);
}

/* b: the row's batch; NULL where no transaction is behind the line, whatever its batch. */
static int put_tail(struct changelog_json *e, const struct batch *b, uint32_t row,
                    struct err *err) {
    struct out *o = &e->out;
    bool of_log = b && b->txs;
    if (of_log && !(LIKELY(e->tail_valid) && e->tail_tx == b->tx[row] && e->tail_txs == b->txs &&
                    e->tail_generation == b->generation)) {
        make_tail(e, b, b->tx[row]);
    }
    if (out_room(o, e->tail_a.len + e->tail_b.len + 24, err)) {
        return -1;
    }
    out_raw(o, e->tail_a.data, e->tail_a.len);
    if (of_log) {
        buf_put_u64(&o->buf, b->n[row]);
        out_raw(o, e->tail_b.data, e->tail_b.len);
    }
    e->rows++;
    return 0;
}

static int cell_failed(const struct plan *p, uint32_t col, struct err *err) {
    if (strcmp(err->code, "text_not_utf8") == 0 || strcmp(err->code, "array_malformed") == 0) {
        err_wrap(err, "table \"%s\" column \"%s\"", p->schema->label, p->schema->columns[col].name);
    }
    return -1;
}

/* `,"name":value`; the first of an object without the comma. The cell is carried. */
static inline int put_member(struct changelog_json *e, const struct plan *p, const struct batch *b,
                             uint32_t row, uint32_t col, bool first, struct err *err) {
    struct out *o = &e->out;
    const struct column *c = &b->columns[col];
    uint32_t from = p->name_at[col] + (first ? 1 : 0);
    uint32_t n = p->name_at[col + 1] - from;
    if (out_room(o, n + 4, err)) {
        return -1;
    }
    out_raw(o, p->names.data + from, n);
    if (cell_null(c, row)) {
        OUT_LITERAL(o, "null");
        return 0;
    }
    size_t len;
    const uint8_t *cell = cell_bytes(c, row, &len);
    return json_cell_put(o, &p->schema->columns[col].type, cell, len, err)
               ? cell_failed(p, col, err)
               : 0;
}

/* The members of the key, from `row`, or where that does not carry one from the before-row, which
 * then has the same value. */
static int put_key(struct changelog_json *e, const struct plan *p, const struct batch *b,
                   uint32_t row, const struct batch *old, uint32_t old_row, struct err *err) {
    const struct schema *s = p->schema;
    for (uint32_t i = 0; i < s->key_count; i++) {
        uint32_t col = s->key[i];
        const struct batch *from = b;
        uint32_t at = row;
        if (UNLIKELY(cell_absent(&b->columns[col], row))) {
            if (!old || cell_absent(&old->columns[col], old_row)) {
                return err_set(err, ERR_FATAL, "key_not_carried",
                               "table \"%s\": a change without the value of key column \"%s\"",
                               s->label, s->columns[col].name);
            }
            from = old;
            at = old_row;
        }
        if (put_member(e, p, from, at, col, i == 0, err)) {
            return -1;
        }
    }
    return 0;
}

/* {carried cells}. *absent: some were not. */
static int put_cells(struct changelog_json *e, const struct plan *p, const struct batch *b,
                     uint32_t row, bool *absent, struct err *err) {
    struct out *o = &e->out;
    bool first = true;
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "{");
    for (uint32_t col = 0; col < p->schema->column_count; col++) {
        if (UNLIKELY(cell_absent(&b->columns[col], row))) {
            *absent = true;
            continue;
        }
        if (put_member(e, p, b, row, col, first, err)) {
            return -1;
        }
        first = false;
    }
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "}");
    return 0;
}

static int put_unchanged(struct changelog_json *e, const struct plan *p, const struct batch *b,
                         uint32_t row, struct err *err) {
    struct out *o = &e->out;
    if (out_bytes(o, ",\"unchanged\":[", 14, err)) {
        return -1;
    }
    bool first = true;
    for (uint32_t col = 0; col < p->schema->column_count; col++) {
        if (!cell_absent(&b->columns[col], row)) {
            continue;
        }
        /* The member's text without its colon, and the first without its comma. */
        uint32_t from = p->name_at[col] + (first ? 1 : 0);
        if (out_bytes(o, p->names.data + from, p->name_at[col + 1] - from - 1, err)) {
            return -1;
        }
        first = false;
    }
    return out_bytes(o, "]", 1, err);
}

static int put_head(struct changelog_json *e, const struct plan *p, char op, struct err *err) {
    if (out_room(&e->out, p->head.len, err)) {
        return -1;
    }
    size_t at = e->out.buf.len + OP_AT;
    out_raw(&e->out, p->head.data, p->head.len);
    e->out.buf.data[at] = op;
    return 0;
}

/* A row and the batch it lies in; no row: batch NULL. */
struct row_at {
    const struct plan *plan;
    const struct batch *batch;
    uint32_t row;
};

/* One line with `before` and `after`; the key and the tail are the after-row's if there is one. */
static int put_line(struct changelog_json *e, char op, struct row_at before, struct row_at after,
                    struct err *err) {
    struct row_at main = after.batch ? after : before;
    bool absent = false;
    bool ignored = false;
    if (put_head(e, main.plan, op, err) ||
        put_key(e, main.plan, main.batch, main.row, after.batch ? before.batch : NULL, before.row,
                err)) {
        return -1;
    }
    if (!before.batch) {
        if (out_bytes(&e->out, "},\"before\":null,\"after\":", 24, err)) {
            return -1;
        }
    } else if (out_bytes(&e->out, "},\"before\":", 11, err) ||
               put_cells(e, before.plan, before.batch, before.row, &ignored, err) ||
               out_bytes(&e->out, ",\"after\":", 9, err)) {
        return -1;
    }
    if (!after.batch) {
        if (out_bytes(&e->out, "null", 4, err)) {
            return -1;
        }
    } else if (put_cells(e, after.plan, after.batch, after.row, &absent, err) ||
               (UNLIKELY(absent) && put_unchanged(e, after.plan, after.batch, after.row, err))) {
        return -1;
    }
    return put_tail(e, main.batch, main.row, err);
}

/* Op t, and the removal of a key (the caller wrote its members): nothing before, nothing after. */
static int put_nothing(struct changelog_json *e, struct err *err) {
    return out_bytes(&e->out, "},\"before\":null,\"after\":null", 28, err);
}

static int put_truncate(struct changelog_json *e, struct row_at row, struct err *err) {
    return put_head(e, row.plan, 't', err) || put_nothing(e, err) ||
                   put_tail(e, row.batch, row.row, err)
               ? -1
               : 0;
}

static int put_change(struct changelog_json *e, const struct stage_item *item,
                      const struct stage_change *c, struct err *err) {
    struct row_at none = { 0 };
    struct row_at row = { e->of_batch[c->batch], item->batches[c->batch], c->row };
    if (need_schema(e, e->of_batch[c->batch], err)) {
        return -1;
    }
    switch (c->kind) {
    case ROW_INSERT:
        return put_line(e, row.batch->txs ? 'c' : 'r', none, row, err);
    case ROW_UPDATE_AFTER:
        return put_line(e, 'u', none, row, err);
    case ROW_DELETE:
        return put_line(e, 'd', row, none, err);
    case ROW_TRUNCATE:
        return put_truncate(e, row, err);
    case ROW_UPDATE_BEFORE:
        if (!c->paired) {
            return put_line(e, 'd', row, none, err);
        }
        struct row_at after = { e->of_batch[c->after_batch], item->batches[c->after_batch],
                                c->after_row };
        if (need_schema(e, e->of_batch[c->after_batch], err)) {
            return -1;
        }
        return put_line(e, 'u', row, after, err);
    }
    CHECK(!"a row kind that does not exist");
    return -1;
}

static void plans_of(struct changelog_json *e, const struct stage_item *item) {
    if (item->count > e->of_batch_cap) {
        e->of_batch_cap = item->count;
        e->of_batch = xrealloc(e->of_batch, item->count * sizeof *e->of_batch);
    }
    for (uint32_t i = 0; i < item->count; i++) {
        e->of_batch[i] = plan_of(e, item->batches[i]->schema);
    }
}

static int put_rows(struct changelog_json *e, const struct stage_item *item, struct err *err) {
    CHECK(item->count > 0);
    if (!item->batches[0]->txs) {
        const struct batch *b = item->batches[0];
        CHECK(item->count == 1 && !b->kinds);
        make_snapshot_tail(e, b->joined, b->backfill, b->generation);
    }
    stage_merge_begin(&e->merge, item);
    struct stage_change change;
    while (stage_merge_next(&e->merge, &change)) {
        if (put_change(e, item, &change, err)) {
            return -1;
        }
    }
    return 0;
}

static int put_removals(struct changelog_json *e, const struct stage_item *item, struct err *err) {
    CHECK(item->count == 1);
    const struct batch *b = item->batches[0];
    CHECK(b->schema->key_count > 0);
    make_snapshot_tail(e, item->at, b->backfill, b->generation);
    for (uint32_t row = 0; row < b->rows; row++) {
        if (need_schema(e, e->of_batch[0], err) || put_head(e, e->of_batch[0], 'd', err) ||
            put_key(e, e->of_batch[0], b, row, NULL, 0, err) || put_nothing(e, err) ||
            put_tail(e, NULL, 0, err)) {
            return -1;
        }
    }
    return 0;
}

static int put_generation(struct changelog_json *e, const struct stage_item *item,
                          struct err *err) {
    struct plan *p = plan_of(e, item->schema);
    make_snapshot_tail(e, item->at, item->generation > 1, item->generation);
    return need_schema(e, p, err) || put_head(e, p, 't', err) || put_nothing(e, err) ||
                   put_tail(e, NULL, 0, err)
               ? -1
               : 0;
}

int changelog_json_put(struct changelog_json *e, const struct stage_item *item, struct err *err) {
    e->tail_valid = false; /* the item's txlists may lie where others were freed */
    plans_of(e, item);
    switch (item->kind) {
    case STAGE_ROWS:
        return put_rows(e, item, err);
    case STAGE_GENERATION:
        return put_generation(e, item, err);
    case STAGE_REMOVE:
        return put_removals(e, item, err);
    }
    CHECK(!"a stage kind that does not exist");
    return -1;
}
