/* Batches and changelog lines as events. See event.h. */
#include "tests/sim/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/encode/stage_merge.h"
#include "tests/sim/sched.h"
#include "tests/sim/source.h"

void events_add(struct events *list, const struct event *e) {
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 32;
        list->at = xrealloc(list->at, list->cap * sizeof *list->at);
    }
    list->at[list->count++] = *e;
}
void events_clear(struct events *list) {
    free(list->at);
    *list = (struct events){ 0 };
}

unsigned event_column(const char *name) {
    return name[0] == 'k'   ? 0
           : name[0] == 'a' ? 1
           : name[0] == 't' ? 2
                            : 2 + (unsigned)(name[1] - '0');
}

/* A long text is checked where it is met: number, then dots. */
int32_t event_number(const char *p, size_t len) {
    char digits[16] = "";
    size_t n = 0;
    while (n < len && n < 15 && p[n] != '.') {
        digits[n] = p[n];
        n++;
    }
    for (size_t i = n; i < len; i += 977) {
        if (p[i] != '.') {
            sim_fail("value", "a text of %zu bytes is damaged at %zu", len, i);
        }
    }
    return atoi(digits);
}

static struct event_row row_of(const struct batch *b, uint32_t r) {
    struct event_row row = { 0 };
    for (uint16_t i = 0; i < b->schema->column_count; i++) {
        unsigned c = event_column(b->schema->columns[i].name);
        const struct column *col = &b->columns[i];
        if (cell_absent(col, r)) {
            row.state[c] = EVENT_ABSENT;
        } else if (cell_null(col, r)) {
            row.state[c] = EVENT_NULL;
        } else {
            size_t len;
            const uint8_t *p = cell_bytes(col, r, &len);
            row.state[c] = EVENT_VALUE;
            if (b->schema->columns[i].type.kind == TYPE_TEXT) {
                row.v[c] = event_number((const char *)p, len);
            } else {
                memcpy(&row.v[c], p, sizeof row.v[c]);
            }
        }
    }
    return row;
}

uint8_t event_missing(const struct schema *s, int32_t missing[DB_COLUMNS]) {
    uint8_t columns = 0;
    for (uint16_t i = 0; i < s->column_count; i++) {
        unsigned c = event_column(s->columns[i].name);
        if (s->columns[i].missing) {
            CHECK(s->columns[i].missing_len == sizeof missing[c]);
            memcpy(&missing[c], s->columns[i].missing, sizeof missing[c]);
            columns |= (uint8_t)(1u << c);
        }
    }
    return columns;
}

static void add_change(const struct db *db, const struct stage_item *item,
                       const struct stage_change *c, struct events *out) {
    const struct batch *b = item->batches[c->batch];
    struct event e = { .generation = b->generation };
    snprintf(e.label, sizeof e.label, "%s", b->schema->label);
    e.defaulted = event_missing(b->schema, e.missing);
    if (item->kind == STAGE_REMOVE) {
        e.kind = EVENT_REMOVE;
    } else if (!b->txs) {
        e.kind = EVENT_SNAPSHOT;
        e.joined = db_offset(db, b->joined);
    } else {
        e.kind = c->kind == ROW_INSERT     ? EVENT_INSERT
                 : c->kind == ROW_DELETE   ? EVENT_DELETE
                 : c->kind == ROW_TRUNCATE ? EVENT_TRUNCATE
                                           : EVENT_UPDATE;
        e.commit = db_offset(db, b->txs->at[b->tx[c->row]].commit);
        e.tx = b->txs->at[b->tx[c->row]].id;
        e.n = b->n[c->row];
    }
    if (c->paired) {
        e.has_before = true;
        e.before = row_of(b, c->row);
        e.after = row_of(item->batches[c->after_batch], c->after_row);
    } else if (e.kind == EVENT_UPDATE && c->kind == ROW_UPDATE_BEFORE) {
        sim_fail("pairs", "%s: an update's before-row without its after-row", e.label);
    } else if (e.kind != EVENT_TRUNCATE) {
        e.after = row_of(b, c->row);
    }
    events_add(out, &e);
}

void events_of_item(const struct db *db, const struct stage_item *item, struct events *out) {
    if (item->kind == STAGE_GENERATION) {
        struct event e = { .kind = EVENT_GENERATION, .generation = item->generation };
        snprintf(e.label, sizeof e.label, "%s", item->schema->label);
        events_add(out, &e);
        return;
    }
    struct stage_merge m;
    struct stage_change c;
    stage_merge_init(&m);
    stage_merge_begin(&m, item);
    while (stage_merge_next(&m, &c)) {
        add_change(db, item, &c, out);
    }
    stage_merge_release(&m);
}

/* ---- lines ---- */

static void take_cells(json_t *object, struct event_row *row) {
    const char *name;
    json_t *v;
    json_object_foreach(object, name, v) {
        unsigned c = event_column(name);
        row->state[c] = json_is_null(v) ? EVENT_NULL : EVENT_VALUE;
        row->v[c] = json_is_string(v) ? event_number(json_string_value(v), json_string_length(v))
                                      : (int32_t)json_integer_value(v);
    }
}

static uint64_t offset_of(const struct db *db, const char *text) {
    struct logpos pos;
    if (!text || sim_take_logpos(text, &pos)) {
        sim_fail("line", "a position cannot be read: %s", text ? text : "null");
    }
    return db_offset(db, pos);
}

bool events_of_line(const struct db *db, json_t *line, struct events *out) {
    const char *op = json_string_value(json_object_get(line, "op"));
    if (!op) {
        return false;
    }
    struct event e = { 0 };
    json_t *before = json_object_get(line, "before"), *after = json_object_get(line, "after"),
           *source = json_object_get(line, "source");
    json_t *tx = json_object_get(line, "tx"), *unchanged = json_object_get(line, "unchanged"),
           *name;
    snprintf(e.label, sizeof e.label, "%s", json_string_value(json_object_get(line, "table")));
    e.generation = (unsigned)json_integer_value(json_object_get(source, "gen"));
    uint64_t lsn = offset_of(db, json_string_value(json_object_get(source, "lsn")));
    bool in_log = json_is_object(tx);
    e.n = (uint32_t)json_integer_value(json_object_get(tx, "n"));
    e.kind = *op == 'r'   ? EVENT_SNAPSHOT
             : *op == 'c' ? EVENT_INSERT
             : *op == 'u' ? EVENT_UPDATE
             : *op == 'd' ? (in_log ? EVENT_DELETE : EVENT_REMOVE)
             : in_log     ? EVENT_TRUNCATE
                          : EVENT_GENERATION;
    e.commit = in_log ? lsn : 0;
    e.joined = *op == 'r' ? lsn : 0;
    take_cells(json_object_get(line, "key"),
               *op == 'd' || json_is_object(before) ? &e.before : &e.after);
    take_cells(before, &e.before);
    take_cells(after, &e.after);
    size_t i;
    json_array_foreach(unchanged, i, name) {
        e.after.state[event_column(json_string_value(name))] = EVENT_ABSENT;
    }
    if (*op == 'd') {
        e.after = e.before;
        e.before = (struct event_row){ 0 };
    }
    e.has_before = *op == 'u' && json_is_object(before);
    events_add(out, &e);
    return true;
}
