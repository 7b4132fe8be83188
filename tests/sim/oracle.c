/* The oracles. See oracle.h. */
#include "tests/sim/oracle.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/key.h"
#include "tests/sim/sched.h"
#include "tests/sim/source.h"

#define LABELS DB_TABLES
#define BAG_MAX 256u

struct target_table {
    char label[32];
    unsigned generation;
    uint64_t begun; /* commit that began it */
    bool there[DB_KEYS];
    struct event_row rows[DB_KEYS];
    uint64_t joined[DB_KEYS];      /* of the key's last snapshot row */
    struct event_row bag[BAG_MAX]; /* keyless: a multiset */
    unsigned bag_count;
    bool keyless;
    uint64_t last_commit;
    uint32_t last_n;
    enum event_kind last_kind;
    bool rewritten;  /* and the target does not know yet: what its rows say is not the source's */
    bool consistent; /* at the last commit */
    unsigned consistent_generation;
    uint64_t consistent_id;
    uint8_t columns, defaulted; /* of its schema as committed last; those with a `missing` */
    int32_t missing[DB_COLUMNS];
    uint32_t version;
};
/* What a stored position says of a table. */
struct stored_table {
    bool listed, all, gone;
    unsigned generation;
    json_t *entry;
};

static struct {
    struct db *db;
    struct target_table tables[LABELS];
    unsigned count;
    uint64_t applied, resume, seq, epoch;
    bool any;
    unsigned epoch_group[4096]; /* group + 1 */
    unsigned storage[DB_TABLES];
    bool known[DB_TABLES]; /* in the target's schemas */
    bool incomplete;       /* something was inconsistent at the last commit */
    const struct metrics *metrics[SIM_GROUPS];
    size_t budget[SIM_GROUPS];
    bool lenient; /* ranges may be read again: rows arrive as upserts */
    bool never;   /* nothing is read: rows that were there before arrive when they change */
    bool takes_defaults;
    unsigned moved[DB_TABLES]; /* of `known` ones: the storage's number as of the last rewrite */
    bool mistrusted[SIM_GROUPS], rewrite_stops[SIM_GROUPS];
    uint64_t asked_seq[SIM_GROUPS], trusted_seq[SIM_GROUPS]; /* trusted: asked before the damage */
    char behind[200];
} o;

void oracle_init(struct db *db) {
    o.db = db;
    o.lenient = db->keys > 60 || db->tables[0].long_keys;
}

void oracle_watch_channels(unsigned group, const struct metrics *metrics, size_t budget) {
    o.metrics[group] = metrics;
    o.budget[group] = budget;
}

uint64_t oracle_applied(void) { return o.applied; }
void oracle_mistrust(unsigned group) {
    o.mistrusted[group] = true;
    o.trusted_seq[group] = o.asked_seq[group];
}
void oracle_asked(unsigned group, uint64_t seq) { o.asked_seq[group] = seq; }
void oracle_rewrite_stops(unsigned group) { o.rewrite_stops[group] = true; }
void oracle_takes_defaults(bool takes) { o.takes_defaults = takes; }
void oracle_snapshot_never(void) { o.never = o.lenient = true; }

static struct target_table *table_of(const char *label) {
    for (unsigned i = 0; i < o.count; i++) {
        if (strcmp(o.tables[i].label, label) == 0) {
            return &o.tables[i];
        }
    }
    CHECK(o.count < LABELS);
    struct target_table *t = &o.tables[o.count++];
    snprintf(t->label, sizeof t->label, "%s", label);
    t->generation = 1;
    for (unsigned i = 0; i < o.db->table_count; i++) {
        t->keyless = t->keyless || (strcmp(label + 7, o.db->tables[i].name) == 0 &&
                                    o.db->tables[i].kind == DB_KEYLESS);
    }
    return t;
}

/* Whether the target knows the rows' present storage: what a rewrite did is seen in no log. */
static bool storage_known(unsigned t, const struct db_state *s) {
    return o.known[t] && o.storage[t] == s->storage;
}

/* ---- what arrives ---- */

static void merge_absent(struct event_row *row, const struct event_row *base) {
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        if (row->state[c] == EVENT_ABSENT) {
            row->state[c] = base->state[c];
            row->v[c] = base->v[c];
        }
    }
}

static bool same_cell(const struct event_row *a, const struct event_row *b, unsigned c) {
    bool null_a = a->state[c] != EVENT_VALUE, null_b = b->state[c] != EVENT_VALUE;
    return null_a == null_b && (null_a || a->v[c] == b->v[c]);
}

/* In the columns that the change has: of a dropped one the target may still have values. */
static bool same_row(const struct event_row *have, const struct event_row *change) {
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        if (change->state[c] != EVENT_NONE && !same_cell(have, change, c)) {
            return false;
        }
    }
    return true;
}

/* What the target shows of rows that came before a column. */
static void show_missing(const struct target_table *t, struct event_row *row) {
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        if (row->state[c] == EVENT_NONE && t->defaulted >> c & 1) {
            row->state[c] = EVENT_VALUE;
            row->v[c] = t->missing[c];
        }
    }
}

static void bag_remove(struct target_table *t, const struct event_row *row, const struct event *e) {
    for (unsigned i = 0; i < t->bag_count; i++) {
        if (same_row(&t->bag[i], row)) {
            t->bag[i] = t->bag[--t->bag_count];
            return;
        }
    }
    if (t->rewritten || o.never) {
        return;
    }
    sim_fail("doubled", "%s at %llu: a keyless row is taken out that is not there", t->label,
             (unsigned long long)e->commit);
}

static void bag_add(struct target_table *t, const struct event_row *row) {
    CHECK(t->bag_count < BAG_MAX);
    t->bag[t->bag_count] = *row;
    show_missing(t, &t->bag[t->bag_count++]);
}

static unsigned key_of(const struct target_table *t, const struct event_row *row) {
    if (row->state[0] != EVENT_VALUE || row->v[0] < 0 || (unsigned)row->v[0] >= o.db->keys) {
        sim_fail("value", "%s: a row without its key", t->label);
    }
    return (unsigned)row->v[0];
}

static void arrive_keyless(struct target_table *t, const struct event *e) {
    switch (e->kind) {
    case EVENT_SNAPSHOT:
    case EVENT_INSERT:
        bag_add(t, &e->after);
        break;
    case EVENT_UPDATE:
        bag_remove(t, &e->before, e);
        bag_add(t, &e->after);
        break;
    case EVENT_DELETE:
        bag_remove(t, &e->after, e);
        break;
    default:
        break;
    }
}

static void must(bool held, const struct target_table *t, const struct event *e, unsigned key,
                 const char *what) {
    if (!held && !o.lenient && !t->rewritten) {
        sim_fail("doubled", "%s key %u at %llu: %s", t->label, key, (unsigned long long)e->commit,
                 what);
    }
}

static void arrive_keyed(struct target_table *t, const struct event *e) {
    unsigned key = key_of(t, &e->after), old = e->has_before ? key_of(t, &e->before) : key;
    struct event_row row = e->after;
    if (e->commit && e->commit < t->joined[key]) {
        sim_fail("order", "%s key %u: a change at %llu after its snapshot row as of %llu", t->label,
                 key, (unsigned long long)e->commit, (unsigned long long)t->joined[key]);
    }
    switch (e->kind) {
    case EVENT_SNAPSHOT:
        must(!t->there[key], t, e, key, "a snapshot row of a key that is there");
        t->joined[key] = e->joined;
        break;
    case EVENT_INSERT:
        must(!t->there[key], t, e, key, "an insert of a key that is there");
        break;
    case EVENT_UPDATE:
        must(t->there[old], t, e, old, "an update of a key that is not there");
        must(key == old || !t->there[key], t, e, key, "a move to a key that is there");
        merge_absent(&row, &t->rows[old]);
        t->there[old] = false;
        break;
    case EVENT_DELETE:
        must(t->there[key], t, e, key, "a delete of a key that is not there");
        break;
    default:
        break;
    }
    t->there[key] = e->kind != EVENT_DELETE && e->kind != EVENT_REMOVE;
    t->rows[key] = row;
    show_missing(t, &t->rows[key]);
}

/* Columns came, and what all rows so far have in them. */
static void learn_missing(struct target_table *t, uint8_t columns, const int32_t *missing) {
    if (!o.takes_defaults || !columns) {
        return;
    }
    t->defaulted |= columns;
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        t->missing[c] = columns >> c & 1 ? missing[c] : t->missing[c];
    }
    for (unsigned k = 0; k < o.db->keys; k++) {
        show_missing(t, &t->rows[k]);
    }
    for (unsigned k = 0; k < t->bag_count; k++) {
        show_missing(t, &t->bag[k]);
    }
}

static void clear_rows(struct target_table *t) {
    memset(t->there, 0, sizeof t->there);
    memset(t->joined, 0, sizeof t->joined);
    t->bag_count = 0;
}

static void put_row_text(char *out, size_t max, bool there, const struct event_row *row) {
    size_t at = (size_t)snprintf(out, max, there ? "(" : "none");
    for (unsigned c = 0; there && c < DB_COLUMNS && at < max; c++) {
        if (row->state[c] != EVENT_NONE) {
            at += row->state[c] == EVENT_VALUE
                      ? (size_t)snprintf(out + at, max - at, " %d", row->v[c])
                      : (size_t)snprintf(out + at, max - at,
                                         row->state[c] == EVENT_NULL ? " null" : " absent");
        }
    }
    if (there && at < max) {
        snprintf(out + at, max - at, " )");
    }
}

static void trace_event(const struct event *e) {
    static const char *const names[] = { "snapshot", "insert",     "update", "delete",
                                         "truncate", "generation", "remove" };
    char before[120], after[120];
    if (sim_tracing()) {
        put_row_text(before, sizeof before, e->has_before, &e->before);
        put_row_text(after, sizeof after, true, &e->after);
        sim_note("  %s %s gen=%u at %llu/%u tx=%llu joined=%llu %s -> %s", e->label, names[e->kind],
                 e->generation, (unsigned long long)e->commit, e->n, (unsigned long long)e->tx,
                 (unsigned long long)e->joined, before, after);
    }
}

static void arrive(const struct event *e) {
    trace_event(e);
    struct target_table *t = table_of(e->label);
    if (e->kind == EVENT_GENERATION) {
        if (e->generation <= t->generation && t->begun == o.seq) {
            return; /* of the table that had the name before, by another writer of this commit */
        }
        if (e->generation <= t->generation) {
            sim_fail("generation", "%s: generation %u after %u", t->label, e->generation,
                     t->generation);
        }
        t->generation = e->generation;
        t->begun = o.seq;
        t->defaulted = 0;
        clear_rows(t);
        return;
    }
    if (e->generation < t->generation && t->begun == o.seq) {
        return; /* void: of the table that had the name before, by another writer of this commit */
    }
    if (e->generation != t->generation) {
        sim_fail("generation", "%s: a row of generation %u in %u", t->label, e->generation,
                 t->generation);
    }
    if (e->commit) {
        /* The halves of one move may go as two changes. */
        bool halves = t->last_kind == EVENT_DELETE && e->kind == EVENT_INSERT;
        uint32_t least = t->last_n + (halves ? 0 : 1);
        if (e->commit < t->last_commit || (e->commit == t->last_commit && e->n < least)) {
            sim_fail("order", "%s: change %llu/%u after %llu/%u", t->label,
                     (unsigned long long)e->commit, e->n, (unsigned long long)t->last_commit,
                     t->last_n);
        }
        t->last_commit = e->commit;
        t->last_n = e->n;
        t->last_kind = e->kind;
    }
    learn_missing(t, e->defaulted, e->missing);
    if (e->kind == EVENT_TRUNCATE) {
        clear_rows(t);
    } else if (t->keyless) {
        arrive_keyless(t, e);
    } else {
        arrive_keyed(t, e);
    }
}

/* ---- state ---- */

/* Columns of the source's rows that the target must have the same way. One that was added with a
 * default is shown only when the log's rows have it. */
static uint8_t shown(const struct target_table *t, const struct db_state *s) {
    return o.takes_defaults ? (uint8_t)(s->columns & ~(s->defaulted & ~t->columns)) : s->columns;
}

static bool source_equals(const struct db_row *want, const struct event_row *have,
                          uint8_t columns) {
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        if (!((columns >> c) & 1)) {
            continue; /* the target may still have it */
        }
        bool null = want->null[c];
        if (null ? have->state[c] == EVENT_VALUE
                 : have->state[c] != EVENT_VALUE || have->v[c] != want->v[c]) {
            return false;
        }
    }
    return true;
}

/* known: the rows' storage is. A rewrite that the target does not know of yet changes values, but
 * no keys. */
static void compare_key(const struct target_table *t, const struct db_state *s, unsigned k,
                        bool known) {
    bool want = s->exists && s->rows[k].there;
    if (want == t->there[k] &&
        (!want || !known || source_equals(&s->rows[k], &t->rows[k], shown(t, s)))) {
        return;
    }
    char have[120], source[120];
    struct event_row row = { 0 };
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        row.state[c] =
            (s->columns >> c) & 1 ? (s->rows[k].null[c] ? EVENT_NULL : EVENT_VALUE) : EVENT_NONE;
        row.v[c] = s->rows[k].v[c];
    }
    put_row_text(have, sizeof have, t->there[k], &t->rows[k]);
    put_row_text(source, sizeof source, want, &row);
    sim_fail("state", "%s key %u at %llu: target %s, source %s", t->label, k,
             (unsigned long long)o.applied, have, source);
}

static void compare_bag(const struct target_table *t, const struct db_state *s) {
    bool used[BAG_MAX] = { 0 };
    unsigned rows = 0;
    for (unsigned k = 0; k < o.db->keys; k++) {
        unsigned i = 0;
        while (s->rows[k].there && i < t->bag_count &&
               (used[i] || !source_equals(&s->rows[k], &t->bag[i], shown(t, s)))) {
            i++;
        }
        if (s->rows[k].there && i == t->bag_count) {
            sim_fail("state", "%s at %llu: a keyless row (%d %d %d) is missing", t->label,
                     (unsigned long long)o.applied, s->rows[k].v[0], s->rows[k].v[1],
                     s->rows[k].v[2]);
        }
        if (s->rows[k].there) {
            used[i] = true;
            rows++;
        }
    }
    if (rows != t->bag_count) {
        sim_fail("state", "%s at %llu: %u keyless rows, the source has %u", t->label,
                 (unsigned long long)o.applied, t->bag_count, rows);
    }
}

static bool in_list(const char *label, const struct oracle_commit *c) {
    for (uint32_t i = 0; i < c->inconsistent_count; i++) {
        if (strcmp(label, c->inconsistent[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void hex(const struct buf *key, char *out, size_t max) {
    for (size_t i = 0; i < key->len && 2 * i + 2 < max; i++) {
        snprintf(out + 2 * i, 3, "%02x", (unsigned char)key->data[i]);
    }
}

static void key_hex(unsigned t, unsigned k, char *out, size_t max) {
    struct buf key;
    buf_init(&key, SIZE_MAX);
    int32_t number = (int32_t)k;
    char text[DB_KEY_MAX];
    size_t len = db_key_text(o.db, t, number, text, sizeof text);
    if (len) {
        key_put_cell(&key, &(struct type){ .kind = TYPE_TEXT }, (const uint8_t *)text, len);
    } else {
        key_put_cell(&key, &(struct type){ .kind = TYPE_INT32 }, (const uint8_t *)&number,
                     sizeof number);
    }
    *out = '\0';
    hex(&key, out, max);
    buf_release(&key);
}

/* Bounds are bytes as hex digits: their order is that of the digits. */
static bool in_spans(const json_t *spans, const char *key) {
    for (size_t i = 0; i < json_array_size(spans); i++) {
        const json_t *span = json_array_get(spans, i);
        const char *lo = json_string_value(json_array_get(span, 0)),
                   *hi = json_string_value(json_array_get(span, 1));
        if (strcmp(key, lo) >= 0 && (!*hi || strcmp(key, hi) < 0)) {
            return true;
        }
    }
    return false;
}

static bool has_hole(const json_t *holes, const char *key) {
    for (size_t i = 0; i < json_array_size(holes); i++) {
        if (strcmp(json_string_value(json_array_get(holes, i)), key) == 0) {
            return true;
        }
    }
    return false;
}

/* Is an entry, of one table or of several, of this one too? */
static bool is_of(const json_t *entry, uint64_t id) {
    const char *ids = json_string_value(json_object_get(entry, "ids"));
    uint64_t number = 0;
    for (char *end; ids && *ids; ids = end + (*end == ',')) {
        number += strtoull(ids, &end, 10);
        if (number == id) {
            return true;
        }
    }
    return !number && strtoull(json_string_value(json_object_get(entry, "id")), NULL, 10) == id;
}

static struct stored_table stored_of(json_t *position, uint64_t id) {
    json_t *tables = json_object_get(position, "tables"),
           *except = json_object_get(tables, "except");
    struct stored_table s = {
        .generation = 1,
        .all = id <= strtoull(json_string_value(json_object_get(tables, "through")), NULL, 10)
    };
    for (size_t i = 0; i < json_array_size(except); i++) {
        json_t *e = json_array_get(except, i);
        if (is_of(e, id)) {
            s = (struct stored_table){ .listed = true,
                                       .all = json_is_true(json_object_get(e, "all")),
                                       .entry = e,
                                       .gone = json_is_true(json_object_get(e, "gone")),
                                       .generation = (unsigned)json_integer_value(
                                           json_object_get(e, "gen")) };
        }
    }
    return s;
}

/* Of a table that is partly joined: what is. */
static void compare_joined(unsigned t, const struct target_table *target, const struct db_state *s,
                           const struct stored_table *stored, bool known) {
    json_t *joined = json_object_get(stored->entry, "joined"),
           *holes = json_object_get(stored->entry, "holes");
    for (unsigned k = 0; k < o.db->keys; k++) {
        char key[2 * DB_KEY_MAX + 16];
        key_hex(t, k, key, sizeof key);
        if ((stored->all || in_spans(joined, key)) && !has_hole(holes, key)) {
            compare_key(target, s, k, known);
        }
    }
}

static void check_history(unsigned t, struct target_table *target, const struct oracle_commit *c,
                          uint64_t from);

static void check_table(unsigned t, const struct oracle_commit *c, json_t *position,
                        uint64_t from) {
    const struct db_table *table = &o.db->tables[t];
    char label[32];
    snprintf(label, sizeof label, "public.%s", table->name);
    struct stored_table stored = stored_of(position, table->id);
    struct db_state s;
    db_state_at(o.db, t, o.applied, &s);
    struct target_table *target = table_of(label);
    if (stored.gone && target->consistent_id == table->id) {
        target->consistent = false;
    }
    if (!o.known[t] || stored.gone || !s.exists || !o.db->now[t].exists) {
        return; /* dropped, now or soon, or no longer selected */
    }
    bool inconsistent = in_list(label, c);
    bool known = storage_known(t, &s);
    bool in_target = stored.generation == target->generation;
    if (o.never && inconsistent) {
        sim_fail("state", "%s is inconsistent, and nothing is read", target->label);
    } else if (o.never) {
        known = false; /* only its history is */
    } else if (table->kind == DB_KEYLESS) {
        if (!inconsistent && known) {
            compare_bag(target, &s);
        }
    } else if (!inconsistent) {
        for (unsigned k = 0; k < o.db->keys; k++) {
            compare_key(target, &s, k, known);
        }
    } else if (in_target && table->kind == DB_RANGE) {
        compare_joined(t, target, &s, &stored, known);
    }
    o.incomplete = o.incomplete || inconsistent;
    if (!inconsistent && target->consistent && target->consistent_generation == stored.generation &&
        target->consistent_id == table->id) {
        check_history(t, target, c, from);
    }
    target->consistent = !inconsistent;
    target->consistent_generation = stored.generation;
    target->consistent_id = table->id;
}

/* ---- history ---- */

static bool event_is(const struct event *e, const struct db_op *op, const struct db_tx *tx) {
    static const enum event_kind kinds[] = { EVENT_INSERT, EVENT_UPDATE, EVENT_DELETE, EVENT_UPDATE,
                                             EVENT_TRUNCATE };
    if (e->kind != kinds[op->kind] || e->commit != tx->commit) {
        return false;
    }
    if (op->kind == OP_TRUNCATE || op->kind == OP_DELETE) {
        return op->kind == OP_TRUNCATE || e->after.v[0] == op->old.v[0];
    }
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        bool carried = (op->columns >> c) & 1 && !(c == 2 && op->t_absent);
        bool value = e->after.state[c] == EVENT_VALUE;
        if (carried && (value == op->new.null[c] || (value && e->after.v[c] != op->new.v[c]))) {
            return false;
        }
    }
    return op->kind != OP_MOVE || (e->has_before && e->before.v[0] == op->old.v[0]);
}

/* The table's changes that the log has in (from, applied], one after the other, against what
 * arrived. */
static void check_history(unsigned t, struct target_table *target, const struct oracle_commit *c,
                          uint64_t from) {
    unsigned at = 0;
    for (unsigned i = 0; i < o.db->log_count; i++) {
        const struct db_tx *tx = &o.db->txs[o.db->log[i]];
        if (tx->end <= from || tx->end > o.applied) {
            continue;
        }
        for (unsigned op = 0; op < tx->op_count; op++) {
            if (tx->ops[op].table != t || tx->ops[op].kind > OP_TRUNCATE ||
                (o.never && !db_carried(o.db, &tx->ops[op]))) {
                continue;
            }
            while (at < c->events->count && (strcmp(c->events->at[at].label, target->label) != 0 ||
                                             !c->events->at[at].commit)) {
                at++;
            }
            if (at == c->events->count || !event_is(&c->events->at[at], &tx->ops[op], tx) ||
                c->events->at[at].n != op) {
                sim_fail("history",
                         "%s: change %u of the transaction at %llu did not arrive in its place",
                         target->label, op, (unsigned long long)tx->commit);
            }
            at++;
        }
    }
    while (at < c->events->count &&
           (strcmp(c->events->at[at].label, target->label) != 0 || !c->events->at[at].commit)) {
        at++;
    }
    if (at < c->events->count) {
        sim_fail("history", "%s: a change at %llu that the log does not have up to %llu",
                 target->label, (unsigned long long)c->events->at[at].commit,
                 (unsigned long long)o.applied);
    }
}

/* ---- commits ---- */

static void check_bank(void) {
    int64_t sum = 0, want = 0;
    for (unsigned t = 0; !o.never && t < o.db->table_count; t++) {
        char label[32];
        if (!o.db->tables[t].bank) {
            continue;
        }
        snprintf(label, sizeof label, "public.%s", o.db->tables[t].name);
        struct target_table *target = table_of(label);
        if (!target->consistent) {
            return;
        }
        want += 100 * (int64_t)o.db->keys;
        for (unsigned k = 0; k < o.db->keys; k++) {
            sum += target->there[k] ? target->rows[k].v[1] : 0;
        }
    }
    if (sum != want) {
        sim_fail("bank", "at %llu the accounts hold %lld, not %lld", (unsigned long long)o.applied,
                 (long long)sum, (long long)want);
    }
}

static uint64_t offset_in(json_t *position, const char *name) {
    struct logpos pos;
    const char *text = json_string_value(json_object_get(position, name));
    if (!text || sim_take_logpos(text, &pos)) {
        sim_fail("position", "\"%s\" cannot be read", name);
    }
    return db_offset(o.db, pos);
}

static void check_whole(const struct oracle_commit *c, uint64_t before) {
    for (unsigned i = 0; i < o.db->log_count; i++) {
        const struct db_tx *tx = &o.db->txs[o.db->log[i]];
        if (o.applied > tx->commit && o.applied < tx->end) {
            sim_fail("whole", "applied %llu lies within a transaction",
                     (unsigned long long)o.applied);
        }
    }
    for (unsigned i = 0; i < c->events->count; i++) {
        const struct event *e = &c->events->at[i];
        if (e->commit && e->commit >= o.applied) {
            sim_fail("whole", "%s: a change at %llu in a commit that ends at %llu", e->label,
                     (unsigned long long)e->commit, (unsigned long long)o.applied);
        }
        if (e->commit && e->commit < before && o.any && table_of(e->label)->consistent) {
            sim_fail("doubled", "%s: a change at %llu again, after a commit at %llu", e->label,
                     (unsigned long long)e->commit, (unsigned long long)before);
        }
    }
}

bool oracle_rewritten(void) {
    for (unsigned i = 0; i < o.db->log_count; i++) {
        const struct db_tx *tx = &o.db->txs[o.db->log[i]];
        for (unsigned n = 0; tx->ddl && n < tx->op_count; n++) {
            const struct db_op *op = &tx->ops[n];
            unsigned known = o.known[op->table] ? o.storage[op->table] : 1; /* as it was created */
            if (op->kind != OP_CREATE && op->kind != OP_DROP && op->storage > known) {
                return true;
            }
        }
    }
    return false;
}

static bool was_consistent(int t) {
    for (unsigned i = 0; i < o.count; i++) {
        if (o.tables[i].consistent && o.tables[i].consistent_id == o.db->tables[t].id) {
            return true;
        }
    }
    return false;
}

/* Of several tables that had the name one after the other the last one's version is the highest. */
static void learn_columns(struct target_table *t, const struct schema *s) {
    if (s->version < t->version) {
        return;
    }
    t->version = s->version;
    t->columns = t->defaulted = 0;
    for (uint16_t i = 0; i < s->column_count; i++) {
        t->columns |= (uint8_t)(1u << event_column(s->columns[i].name));
    }
    int32_t missing[DB_COLUMNS];
    learn_missing(t, event_missing(s, missing), missing);
}

static void learn_schemas(const struct oracle_commit *c) {
    for (uint32_t i = 0; i < c->schema_count; i++) {
        int t = db_find_table(o.db, c->schemas[i]->table_id);
        CHECK(t >= 0);
        unsigned storage = 0, moved = 0;
        sscanf(c->schemas[i]->storage, "%u.%u", &storage, &moved);
        bool added = o.takes_defaults && o.moved[t] == moved;
        if (o.rewrite_stops[c->group] && o.known[t] && o.storage[t] != storage && !added &&
            was_consistent(t) && !server_now()->left_out[c->group][t]) {
            sim_fail("rewrite", "%s was rewritten, and with on_rewrite=stop goes on",
                     o.db->tables[t].name);
        }
        o.known[t] = true;
        o.storage[t] = storage;
        o.moved[t] = moved;
    }
}

/* Tables whose rows a DDL changed below the position without the target's knowledge. */
static void mark_rewritten(bool again) {
    for (unsigned t = 0; t < o.db->table_count; t++) {
        struct db_state s;
        char label[32];
        db_state_at(o.db, t, o.applied, &s);
        snprintf(label, sizeof label, "public.%s", o.db->tables[t].name);
        if (s.exists) {
            table_of(label)->rewritten =
                (again && table_of(label)->rewritten) || !storage_known(t, &s);
        }
    }
}

static void check_numbers(const struct oracle_commit *c) {
    if (o.mistrusted[c->group] && !c->found && c->seq > o.trusted_seq[c->group]) {
        sim_fail("damage", "commit %llu builds on a position that was damaged",
                 (unsigned long long)c->seq);
    }
    if (o.any && c->seq != o.seq + 1 && c->seq != o.seq) {
        sim_fail("seq", "commit %llu after %llu", (unsigned long long)c->seq,
                 (unsigned long long)o.seq);
    }
    if (c->epoch != o.epoch || oracle_claimer(c->epoch) != c->group) {
        sim_fail("epoch", "a commit of epoch %llu by %u, the newest is %llu",
                 (unsigned long long)c->epoch, c->group, (unsigned long long)o.epoch);
    }
    if (o.metrics[c->group] &&
        metric_get(o.metrics[c->group], METRIC_CHANNEL_BYTES) > (int64_t)o.budget[c->group]) {
        sim_fail("channels", "%lld bytes in channels, the budget is %zu",
                 (long long)metric_get(o.metrics[c->group], METRIC_CHANNEL_BYTES),
                 o.budget[c->group]);
    }
    o.seq = c->seq;
}

void oracle_committed(const struct oracle_commit *c) {
    json_error_t problem;
    json_t *position = json_loads(c->position, 0, &problem);
    if (!position || strlen(c->position) > 8192) {
        sim_fail("position", "it is no JSON, or too long: %s", c->position);
    }
    check_numbers(c);
    uint64_t before = o.applied;
    o.applied = offset_in(position, "applied");
    o.resume = offset_in(position, "resume");
    sim_note("commit seq=%llu epoch=%llu applied=%llu resume=%llu events=%u inconsistent=%u",
             (unsigned long long)c->seq, (unsigned long long)c->epoch,
             (unsigned long long)o.applied, (unsigned long long)o.resume, c->events->count,
             c->inconsistent_count);
    if ((o.any && o.applied < before) || o.resume > o.applied) {
        sim_fail("position", "applied went from %llu to %llu, resume is %llu",
                 (unsigned long long)before, (unsigned long long)o.applied,
                 (unsigned long long)o.resume);
    }
    mark_rewritten(false); /* by what the last commit knew, and by what this one does */
    if (sim_tracing()) {
        sim_note("  %.500s", c->position);
    }
    learn_schemas(c);
    mark_rewritten(true);
    check_whole(c, before);
    for (unsigned i = 0; i < c->events->count; i++) {
        arrive(&c->events->at[i]);
    }
    for (uint32_t i = 0; i < c->schema_count; i++) {
        learn_columns(table_of(c->schemas[i]->label), c->schemas[i]);
    }
    o.incomplete = c->inconsistent_count > 0;
    for (unsigned t = 0; t < o.db->table_count; t++) {
        check_table(t, c, position, before);
    }
    check_bank();
    o.any = true;
    sim_verdict()->commits++;
    json_decref(position);
}

void oracle_claimed(uint64_t epoch, uint64_t seq, unsigned group) {
    sim_note("claim epoch=%llu by %u", (unsigned long long)epoch, group);
    if (epoch <= o.epoch) {
        sim_fail("epoch", "epoch %llu claimed after %llu", (unsigned long long)epoch,
                 (unsigned long long)o.epoch);
    }
    o.epoch = epoch;
    o.seq = seq;
    CHECK(epoch < ARRAY_COUNT(o.epoch_group));
    o.epoch_group[epoch] = group + 1;
}

unsigned oracle_claimer(uint64_t epoch) {
    return epoch < ARRAY_COUNT(o.epoch_group) && o.epoch_group[epoch] ? o.epoch_group[epoch] - 1
                                                                      : 0;
}
bool oracle_row(const char *label, unsigned key, struct event_row *out) {
    const struct target_table *t = table_of(label);
    *out = t->rows[key];
    return t->there[key];
}
unsigned oracle_bag(const char *label, const struct event_row **rows) {
    const struct target_table *t = table_of(label);
    *rows = t->bag;
    return t->bag_count;
}
uint64_t oracle_seq(void) { return o.seq; }
uint64_t oracle_epoch(void) { return o.epoch; }

void oracle_recovered(const char *text) {
    json_error_t problem;
    json_t *position = text ? json_loads(text, 0, &problem) : NULL;
    uint64_t applied = position ? offset_in(position, "applied") : 0;
    if (o.any && applied < o.applied) {
        sim_fail("durable", "a new instance finds %llu, committed was %llu",
                 (unsigned long long)applied, (unsigned long long)o.applied);
    }
    if (position && applied > o.applied) { /* a commit of a position alone whose answer was lost */
        static const struct events none;
        const char *labels[LABELS]; /* it leaves as it is which tables are consistent */
        uint32_t count = 0;
        for (unsigned i = 0; i < o.count; i++) {
            if (!o.tables[i].consistent) {
                labels[count++] = o.tables[i].label;
            }
        }
        oracle_committed(&(struct oracle_commit){ .position = text,
                                                  .inconsistent = labels,
                                                  .inconsistent_count = count,
                                                  .epoch = o.epoch,
                                                  .seq = o.seq,
                                                  .group = oracle_claimer(o.epoch),
                                                  .found = true,
                                                  .events = &none });
    }
    json_decref(position);
}

void oracle_acknowledged(uint64_t offset) {
    if (!o.any || offset > o.resume) {
        sim_fail("ack", "acknowledged %llu, the target resumes at %llu", (unsigned long long)offset,
                 (unsigned long long)o.resume);
    }
}

const char *oracle_behind(void) {
    uint64_t end = o.db->log_count ? o.db->txs[o.db->log[o.db->log_count - 1]].end : 0;
    *o.behind = '\0';
    if (!o.any || o.applied < end) {
        snprintf(o.behind, sizeof o.behind, "applied is %llu, the last transaction ends at %llu",
                 (unsigned long long)o.applied, (unsigned long long)end);
    } else if (o.incomplete) {
        snprintf(o.behind, sizeof o.behind, "a table has not joined");
    }
    for (unsigned t = 0; t < o.db->table_count && !*o.behind; t++) {
        struct db_state s;
        db_state_at(o.db, t, o.applied, &s);
        if (s.exists && !storage_known(t, &s)) {
            snprintf(o.behind, sizeof o.behind, "table %s is unknown or was rewritten",
                     o.db->tables[t].name);
        }
    }
    return o.behind;
}
