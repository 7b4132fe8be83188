/* Damaged positions. See damage.h. A damage is a member of the position and a JSON value that must
 * not stand there; NULL takes the member away. Ranges, keys and lists of numbers are put into an
 * entry of the table 1000, which every target knows (world.c creates it first). */
#include "tests/sim/damage.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sched.h"

struct damage {
    const char *member, *value;
};

static const struct damage in_position[] = {
    { "v", "2" },
    { "v", NULL },
    { "v", "\"1\"" },
    { "source", "[]" },
    { "applied", "7" },
    { "applied", "\"0/x\"" },
    { "applied", "\"0/1\"" }, /* below resume */
    { "resume", NULL },
    { "x", "-1" },
    { "x", "\"5\"" },
    { "tables", NULL },
    { "tables", "[]" },
    { "loose", NULL },
    { "loose", "735" },
    { "loose", "\"x\"" },
    { "loose", "\"0\"" },
    { "loose", "\"-7\"" },
    { "loose", "\"735,\"" },
    { "loose", "\"735,,4\"" },
    { "loose", "\"735;4\"" },
    { "loose", "\"735,18446744073709551615\"" },
};
static const struct damage in_tables[] = {
    { "through", NULL },      { "through", "1000" },      { "through", "\"\"" },
    { "through", "\"x\"" },   { "through", "\"1000x\"" }, { "through", "\"/\"" },
    { "through", "\"999\"" }, { "except", NULL },         { "except", "{}" },
};
static const struct damage in_entry[] = {
    { "id", NULL },
    { "id", "1000" },
    { "id", "\"\"" },
    { "id", "\"x\"" },
    { "id", "\"1000 \"" },
    { "id", "\"999\"" },
    { "ids", "\"\"" },
    { "ids", "\"x\"" },
    { "ids", "\"/\"" },
    { "ids", "\"1000,\"" },
    { "ids", "\"1000,0\"" },
    { "ids", "\"1000;10\"" },
    { "ids", "\"1000,1\"" },
    { "gen", NULL },
    { "gen", "\"1\"" },
    { "gen", "0" },
    { "gen", "1.5" },
    { "gen", "4294967296" },
    { "all", "1" },
    { "begun", "\"true\"" },
    { "gone", "false" },
    { "unverified", "1" },
    { "joined", "{}" },
    { "joined", "[7]" },
    { "joined", "[[\"\"]]" },
    { "joined", "[[7,\"\"]]" },
    { "joined", "[[\"\",7]]" },
    { "joined", "[[\"0\",\"\"]]" },
    { "joined", "[[\"0g\",\"\"]]" },
    { "joined", "[[\"0/\",\"\"]]" },
    { "joined", "[[\"0:\",\"\"]]" },
    { "joined", "[[\"A0\",\"\"]]" },
    { "joined", "[[\"\",\"8\"]]" },
    { "joined", "[[\"80\",\"79\"]]" },
    { "joined", "[[\"80\",\"80\"]]" },
    { "joined", "[[\"8000\",\"\"]]" },
    { "joined", "[[\"\",\"8000\"]]" },
    { "joined", "[[\"\",\"30310000ff\"]]" },
    { "again", "7" },
    { "again", "[[\"\",\"zz\"]]" },
    { "again", "[[\"\",\"8000\"]]" },
    { "again", "[[\"00\",\"\"]]" },
    { "holes", "{}" },
    { "holes", "[7]" },
    { "holes", "[\"\"]" },
    { "holes", "[\"8\"]" },
    { "holes", "[\"8000\"]" },
    { "holes", "[\"30310000ff\"]" },
};

#define ONE_OF(list) (&(list)[sim_below(STREAM_FAULT, ARRAY_COUNT(list))])

static void put(json_t *object, const struct damage *d) {
    json_error_t problem;
    if (!d->value) {
        json_object_del(object, d->member);
        return;
    }
    json_t *value = json_loads(d->value, JSON_DECODE_ANY, &problem);
    CHECK(value);
    json_object_set_new(object, d->member, value); /* in its old place, if it had one */
}

/* An entry that is good but for the damage. */
static void put_entry(json_t *tables, const struct damage *d) {
    json_t *entry = json_pack("{s:s,s:i,s:b}", "id", "1000", "gen", 1, "begun", 1);
    json_array_append_new(json_object_get(tables, "except"), entry);
    put(entry, d);
}

/* The text itself: cut, a byte that has no place in it, a member said twice. */
static void damage_text(char *text, size_t len) {
    switch (sim_below(STREAM_FAULT, 3)) {
    case 0:
        text[sim_below(STREAM_FAULT, (unsigned)len)] = '\0';
        break;
    case 1:
        text[sim_below(STREAM_FAULT, (unsigned)len)] = '\x07';
        break;
    default: /* "resume" becomes a second "source" */
        memcpy(strstr(text, "\"resume\""), "\"source\"", 8);
        break;
    }
}

void damage_state(struct sink_state *state, char *what, size_t max) {
    json_error_t problem;
    json_t *root = json_loads(state->position, 0, &problem);
    CHECK(root);
    json_t *tables = json_object_get(root, "tables");
    unsigned where = sim_below(STREAM_FAULT, 12);
    const struct damage *d = where < 7    ? ONE_OF(in_entry)
                             : where < 9  ? ONE_OF(in_position)
                             : where < 10 ? ONE_OF(in_tables)
                                          : NULL;
    if (d && where < 7) {
        put_entry(tables, d);
    } else if (d) {
        put(where < 9 ? root : tables, d);
    }
    free(state->position);
    state->position = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    snprintf(what, max, "%s %s", d ? d->member : "text", d && d->value ? d->value : "");
    if (where == 10 || (where == 11 && state->schema_count == 0)) {
        damage_text(state->position, strlen(state->position));
    } else if (where == 11) {
        snprintf(what, max, "a schema that comes twice");
        state->schemas =
            xrealloc(state->schemas, (state->schema_count + 1) * sizeof *state->schemas);
        state->schemas[state->schema_count++] = schema_ref(state->schemas[0]);
    }
}
