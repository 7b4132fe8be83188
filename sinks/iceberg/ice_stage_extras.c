/* The columns that a table may have besides its source's: operation, commit time, position,
 * deleted. See ice_schema.h for their names; what they say is the change that wrote the row:
 *
 *   _tailrace_op        "r" snapshot, "c" insert, "u" update, "d" (soft) delete
 *   _tailrace_ts        commit time of its transaction; null for snapshot rows
 *   _tailrace_position  of its commit record; of snapshot rows: where they joined
 *
 * Thread: the writer's. */
#include "sinks/iceberg/ice_stage_internal.h"

#include <string.h>

#define US_1970_TO_2000 INT64_C(946684800000000)

void ice_stage_extra_release(struct ice_extra_cells *cells) {
    buf_release(&cells->data);
    buf_release(&cells->offsets);
    buf_release(&cells->valid);
}

static const char *op_of(const struct batch *batch, uint32_t row) {
    if (!batch->kinds) {
        return "r";
    }
    switch (row_kind_of(batch, row)) {
    case ROW_INSERT:
        return "c";
    case ROW_UPDATE_AFTER:
        return "u";
    case ROW_UPDATE_BEFORE: /* what is left, deleted, under a key that moved away */
    case ROW_DELETE:
        return "d";
    case ROW_TRUNCATE:
        break;
    }
    CHECK(!"a truncate leaves no row");
    return "";
}

static bool is_deleted(const struct batch *batch, uint32_t row) {
    return op_of(batch, row)[0] == 'd';
}

static void put_offset(struct ice_extra_cells *c) {
    uint32_t at = (uint32_t)c->data.len;
    buf_put(&c->offsets, &at, sizeof at);
}

static void put_position(struct ice_stage *st, struct ice_extra_cells *c, struct logpos pos,
                         struct logpos *last, size_t *last_at) {
    size_t at = c->data.len;
    if (at > 0 && logpos_cmp(pos, *last) == 0) { /* rows of one transaction stand together */
        size_t len = at - *last_at;
        char text[256];
        CHECK(len <= sizeof text);
        memcpy(text, c->data.data + *last_at, len);
        buf_put(&c->data, text, len);
    } else {
        int failed = st->config->put_logpos(&c->data, pos);
        CHECK(!failed); /* the buffer has no maximum */
    }
    *last = pos;
    *last_at = at;
}

static void put_cell(struct ice_stage *st, enum ice_extra extra, struct ice_extra_cells *c,
                     const struct batch *batch, uint32_t row, struct logpos *last,
                     size_t *last_at) {
    const struct tx *tx = batch->txs ? &batch->txs->at[batch->tx[row]] : NULL;
    switch (extra) {
    case ICE_EXTRA_OP:
        buf_put(&c->data, op_of(batch, row), 1);
        put_offset(c);
        return;
    case ICE_EXTRA_TS: {
        int64_t us = tx ? tx->time_us + US_1970_TO_2000 : 0;
        buf_put(&c->data, &us, sizeof us);
        return;
    }
    case ICE_EXTRA_POSITION:
        put_position(st, c, tx ? tx->commit : batch->joined, last, last_at);
        put_offset(c);
        return;
    case ICE_EXTRA_DELETED:
        buf_putc(&c->data, is_deleted(batch, row) ? 1 : 0);
        return;
    case ICE_EXTRA_NONE:
        break;
    }
    CHECK(!"one of the extra columns");
}

void ice_stage_extra_column(struct ice_stage *st, uint32_t field, const struct batch *batch,
                            const uint32_t *rows, uint32_t count, struct lake_column *out) {
    enum ice_extra extra = st->fields[field].extra;
    struct ice_extra_cells *c = &st->fields[field].cells;
    const struct lake_type *type = &st->schema.fields[field].type;
    struct logpos last = { 0 };
    size_t last_at = 0;
    buf_clear(&c->data);
    buf_clear(&c->offsets);
    put_offset(c);
    for (uint32_t i = 0; i < count; i++) {
        put_cell(st, extra, c, batch, rows ? rows[i] : i, &last, &last_at);
    }
    uint32_t width = lake_width(type);
    bool null = extra == ICE_EXTRA_TS && !batch->txs;
    *out =
        (struct lake_column){ .type = *type,
                              .rows = count,
                              .width = width,
                              .valid = null ? st->tools->zeros : NULL,
                              .data = (const uint8_t *)c->data.data,
                              .offsets = width ? NULL : (const uint32_t *)(void *)c->offsets.data };
}
