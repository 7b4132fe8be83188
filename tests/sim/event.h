/* One change as a target sees it, whatever the sink: from batches, or from changelog lines. Cells
 * are numbers; what stands in their columns is named by database.h. Pure. */
#pragma once
#include <jansson.h>

#include "cdc/sink.h"
#include "tests/sim/database.h"

enum event_cell { EVENT_NONE, EVENT_VALUE, EVENT_NULL, EVENT_ABSENT };
struct event_row {
    uint8_t state[DB_COLUMNS]; /* NONE: the schema has no such column */
    int32_t v[DB_COLUMNS];
};
enum event_kind {
    EVENT_SNAPSHOT,
    EVENT_INSERT,
    EVENT_UPDATE,
    EVENT_DELETE,
    EVENT_TRUNCATE,
    EVENT_GENERATION,
    EVENT_REMOVE
};
struct event {
    enum event_kind kind;
    char label[32];
    unsigned generation;
    bool has_before;
    struct event_row before, after;
    uint64_t commit, tx; /* of the log: offset of the commit record */
    uint64_t joined;     /* of a snapshot row: offset */
    uint32_t n;
    uint8_t defaulted; /* columns with a `missing`, as the change's schema says */
    int32_t missing[DB_COLUMNS];
};
/* A column's number by its name; the number that a text says (damage fails the run). */
unsigned event_column(const char *name);
int32_t event_number(const char *p, size_t len);
struct events {
    struct event *at;
    unsigned count, cap;
};
void events_add(struct events *list, const struct event *e);
void events_clear(struct events *list);
/* The columns, as bits, of which the schema says what is missing; and what that is. */
uint8_t event_missing(const struct schema *s, int32_t missing[DB_COLUMNS]);
void events_of_item(const struct db *db, const struct stage_item *item, struct events *out);
/* One line of a changelog file, parsed; false: it is no row (a schema or commit line). Damage fails
 * the run. */
bool events_of_line(const struct db *db, json_t *line, struct events *out);
