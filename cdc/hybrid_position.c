/* The hybrid source, what is stored with a position and read back at a start (DESIGN section 4,
 * rule 5).
 *
 *   "tables":{"through":"ID","except":[
 *      {"id":"ID","gen":N,"all":true | "joined":[["lo","hi"]..],"again":[..],"holes":["key"..],
 *       "begun":true,"gone":true,"unverified":true}..,
 *      {"ids":"16384,3,8","gen":N,"all":true,"begun":true | "gone":true}..]},
 *   "loose":"735,1,4"
 *
 * Several tables of which the same is to be said share an entry: "ids" are the first one and then
 * differences, so that a thousand dropped tables, or ones that were read again, fit. Tables up to
 * `through` that are not listed are joined in their first generation; later ones that are not
 * listed are unread. An unverified one is called inconsistent until the catalogue was read: said
 * here, so that a commit says that it is over. Bounds and keys are hex; loose transactions are the
 * first one and then differences. */
#include "cdc/hybrid_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP_MIN 8u /* tables that share an entry */

static void put_hex(struct buf *out, const void *p, size_t len) {
    static const char digit[] = "0123456789abcdef";
    const uint8_t *b = p;
    buf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        buf_putc(out, digit[b[i] >> 4]);
        buf_putc(out, digit[b[i] & 15]);
    }
    buf_putc(out, '"');
}

static void put_spans(struct buf *out, const char *name, const struct spans *s) {
    if (s->count == 0) {
        return;
    }
    buf_putf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < s->count; i++) {
        buf_puts(out, i ? ",[" : "[");
        put_hex(out, s->at[i].lo.data, s->at[i].lo.len);
        buf_putc(out, ',');
        put_hex(out, s->at[i].hi.data, s->at[i].hi.len);
        buf_putc(out, ']');
    }
    buf_putc(out, ']');
}

static void put_holes(struct buf *out, const struct table *t) {
    const void *key;
    size_t len;
    bool first = true;
    for (size_t at = 0; map_next(t->holes, &at, &key, &len, NULL); first = false) {
        buf_puts(out, first ? ",\"holes\":[" : ",");
        put_hex(out, key, len);
    }
    if (!first) {
        buf_putc(out, ']');
    }
}

/* Says nothing beyond "joined in the first generation". */
static bool is_plain(const struct table *t) {
    return t->complete && !t->unverified && t->generation == 1 && !t->gone &&
           map_count(t->holes) == 0;
}

/* Says nothing beyond "unread". */
static bool is_unread(const struct table *t) { return t->generation == 1 && !t->begun && !t->gone; }

/* What is said of it needs no spans and no keys: one that is gone is read anew if it comes back. */
static bool is_short(const struct table *t) {
    return t->gone || (t->complete && map_count(t->holes) == 0);
}

static bool same_short(const struct table *a, const struct table *b) {
    return is_short(a) && is_short(b) && a->generation == b->generation && a->gone == b->gone &&
           a->unverified == b->unverified;
}

/* Ends what put_table and put_group begin. */
static void put_state(struct buf *out, const struct table *t) {
    buf_putf(out, ",\"gen\":%u", t->generation);
    if (t->gone) {
        buf_puts(out, ",\"gone\":true}");
        return;
    }
    if (t->complete) {
        buf_puts(out, ",\"all\":true");
    } else {
        put_spans(out, "joined", &t->joined);
        put_spans(out, "again", &t->again);
    }
    put_holes(out, t);
    if (t->begun) {
        buf_puts(out, ",\"begun\":true");
    }
    if (t->unverified) {
        buf_puts(out, ",\"unverified\":true");
    }
    buf_putc(out, '}');
}

static void put_table(struct buf *out, const struct table *t) {
    buf_putf(out, "{\"id\":\"%" PRIu64 "\"", t->id);
    put_state(out, t);
}

/* The tables from number `from` on that are like it, if there are enough of them: taken out of
 * `left`. */
static bool put_group(const struct hybrid *h, struct buf *out, bool *left, uint32_t from) {
    uint32_t alike = 0;
    for (uint32_t i = from; i < h->table_count && alike < GROUP_MIN; i++) {
        alike += left[i] && same_short(h->tables[from], h->tables[i]);
    }
    if (alike < GROUP_MIN) {
        return false;
    }
    uint64_t last = 0;
    buf_puts(out, "{\"ids\":\"");
    for (uint32_t i = from; i < h->table_count; i++) {
        if (left[i] && same_short(h->tables[from], h->tables[i])) {
            buf_puts(out, last ? "," : "");
            buf_put_u64(out, h->tables[i]->id - last);
            last = h->tables[i]->id;
            left[i] = i == from;
        }
    }
    buf_putc(out, '"');
    put_state(out, h->tables[from]);
    return true;
}

static int cmp_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void put_loose(struct hybrid *h, struct buf *out) {
    uint64_t *sorted = xmalloc((h->loose_count + 1) * sizeof(*sorted));
    if (h->loose_count) {
        memcpy(sorted, h->loose, h->loose_count * sizeof(*sorted));
        qsort(sorted, h->loose_count, sizeof(*sorted), cmp_u64);
    }
    buf_puts(out, ",\"loose\":\"");
    uint64_t last = 0;
    for (uint32_t i = 0; i < h->loose_count; i++) {
        if (i > 0 && sorted[i] == last) {
            continue;
        }
        if (i > 0) {
            buf_putc(out, ',');
        }
        buf_put_u64(out, sorted[i] - last);
        last = sorted[i];
    }
    buf_putc(out, '"');
    free(sorted);
}

int hybrid_put_position(struct hybrid *h, struct buf *out, size_t max) {
    size_t before = out->len;
    uint64_t through = 0;
    for (uint32_t i = 0; i < h->table_count; i++) {
        if (is_plain(h->tables[i])) {
            through = h->tables[i]->id;
        }
    }
    buf_putf(out, "\"tables\":{\"through\":\"%" PRIu64 "\",\"except\":[", through);
    bool first = true, *left = xcalloc(h->table_count + 1, sizeof(*left));
    for (uint32_t i = 0; i < h->table_count; i++) {
        const struct table *t = h->tables[i];
        left[i] = t->id <= through ? !is_plain(t) : !is_unread(t);
    }
    for (uint32_t i = 0; i < h->table_count; i++) {
        if (left[i]) {
            buf_puts(out, first ? "" : ",");
            first = false;
            if (!put_group(h, out, left, i)) {
                put_table(out, h->tables[i]);
            }
        }
    }
    free(left);
    buf_puts(out, "]}");
    put_loose(h, out);
    if (out->len - before > max) {
        out->len = before;
        return -1;
    }
    return 0;
}

static int malformed(struct err *err, const char *what) {
    err_set(err, ERR_FATAL, "position_malformed", "the stored position is damaged: \"%s\"", what);
    return err_cure(err, "restore the target's last commit record from a backup, or read "
                         "everything again: `tailrace drop JOB` and a new target");
}

static int take_u64(const json_t *v, uint64_t *out) {
    const char *s = json_string_value(v);
    char *end = NULL;
    if (!s || *s < '0' || *s > '9') {
        return -1;
    }
    *out = strtoull(s, &end, 10);
    return *end ? -1 : 0;
}

/* The next number of a list of differences, above the last one; *text goes on behind its comma. */
static int take_step(const char **text, uint64_t *number) {
    char *end;
    uint64_t step = **text >= '1' && **text <= '9' ? strtoull(*text, &end, 10) : 0;
    if (step == 0 || step > UINT64_MAX - *number) {
        return -1;
    }
    *number += step;
    *text = end + (*end == ',');
    return *end == ',' ? (**text ? 0 : -1) : (*end ? -1 : 0);
}

/* True or left out. */
static int take_flag(const json_t *entry, const char *name, bool *out) {
    const json_t *v = json_object_get(entry, name);
    *out = json_is_true(v);
    return v && !*out ? -1 : 0;
}

static int nibble(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int take_hex(const json_t *v, struct buf *out) {
    const char *s = json_string_value(v);
    size_t len = s ? json_string_length(v) : 1;
    if (len % 2 || len / 2 > KEY_BYTES_MAX) {
        return -1;
    }
    buf_clear(out);
    for (size_t i = 0; i < len; i += 2) {
        int hi = nibble(s[i]), lo = nibble(s[i + 1]);
        if (hi < 0 || lo < 0) {
            return -1;
        }
        buf_putc(out, (char)(hi << 4 | lo));
    }
    return 0;
}

static int take_spans(const json_t *list, struct spans *out) {
    if (!list) {
        return 0;
    }
    struct buf lo, hi;
    buf_init(&lo, KEY_BYTES_MAX);
    buf_init(&hi, KEY_BYTES_MAX);
    int rc = json_typeof(list) != JSON_ARRAY;
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        rc = json_array_size(pair) != 2 || take_hex(json_array_get(pair, 0), &lo) ||
             take_hex(json_array_get(pair, 1), &hi) || (hi.len && span_cmp_lo(&lo, &hi) >= 0);
        if (rc == 0) {
            spans_add(out, &lo, &hi);
        }
    }
    buf_release(&lo);
    buf_release(&hi);
    return rc ? -1 : 0;
}

/* The bounds and keys of a position lie in the key's encoding: they must read back, or they were
 * written for another key. How many cells it has; -1 = it does not read back. A bound may have
 * fewer than a key, a hole has all. */
static int key_cells(const struct schema *s, const struct buf *key) {
    struct view v = view_of(key->data, key->len);
    struct buf cell;
    buf_init(&cell, KEY_BYTES_MAX);
    int cells = 0;
    for (uint16_t k = 0; cells >= 0 && k < s->key_count && view_left(&v); k++) {
        buf_clear(&cell);
        cells = key_take_cell(&v, &s->columns[s->key[k]].type, &cell) ? -1 : cells + 1;
    }
    buf_release(&cell);
    return view_left(&v) ? -1 : cells;
}

static int take_holes(struct hybrid *h, struct table *t, const json_t *list) {
    if (!list) {
        return 0;
    }
    struct buf key;
    buf_init(&key, KEY_BYTES_MAX);
    int rc = json_typeof(list) != JSON_ARRAY;
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        rc = take_hex(json_array_get(list, i), &key) ||
             key_cells(t->current, &key) != t->current->key_count;
        if (rc == 0) {
            table_add_hole(h, t, key.data, key.len);
        }
    }
    buf_release(&key);
    return rc;
}

static bool spans_read(const struct schema *s, const struct spans *spans) {
    for (uint32_t i = 0; i < spans->count; i++) {
        if (key_cells(s, &spans->at[i].lo) < 0 || key_cells(s, &spans->at[i].hi) < 0) {
            return false;
        }
    }
    return true;
}

static void joined_all(struct table *t) {
    spans_clear(&t->todo);
    spans_clear(&t->joined);
    spans_add(&t->joined, &(struct buf){ 0 }, &(struct buf){ 0 });
    t->complete = t->begun = true;
}

static int restore_table(struct hybrid *h, uint64_t id, const json_t *entry, struct err *err) {
    struct table *t = table_find(h, id);
    if (!t) {
        return malformed(err, "tables.except.id is in no stored schema");
    }
    const json_t *gen = json_object_get(entry, "gen");
    if (!json_is_integer(gen) || json_integer_value(gen) < 1 ||
        json_integer_value(gen) > UINT32_MAX) {
        return malformed(err, "tables.except.gen");
    }
    t->complete = t->begun = false;
    spans_clear(&t->joined);
    t->generation = (uint32_t)json_integer_value(gen);
    bool all, anew = false;
    if (take_flag(entry, "begun", &t->begun) || take_flag(entry, "gone", &t->gone) ||
        take_flag(entry, "all", &all) || take_flag(entry, "unverified", &t->unverified)) {
        return malformed(err, "tables.except.all, gone, begun or unverified");
    }
    if (t->gone) {
        return 0;
    }
    if (all) {
        joined_all(t);
    } else if (take_spans(json_object_get(entry, "joined"), &t->joined) ||
               take_spans(json_object_get(entry, "again"), &t->again)) {
        return malformed(err, "tables.except.joined");
    } else if (t->whole && t->begun) {
        table_restart(h, t); /* rows of a chunk that never ended are in the target */
        anew = true;         /* and its holes are void with them */
    } else if (!spans_read(t->current, &t->joined) || !spans_read(t->current, &t->again)) {
        return malformed(err, "tables.except.joined is not of this key");
    }
    if (!anew && take_holes(h, t, json_object_get(entry, "holes"))) {
        return malformed(err, "tables.except.holes");
    }
    return 0;
}

/* One table, or all of "ids". */
static int restore_entry(struct hybrid *h, const json_t *entry, struct err *err) {
    uint64_t id = 0;
    const char *text = json_string_value(json_object_get(entry, "ids"));
    if (!text) {
        return take_u64(json_object_get(entry, "id"), &id) ? malformed(err, "tables.except.id")
                                                           : restore_table(h, id, entry, err);
    }
    do {
        if (take_step(&text, &id)) {
            return malformed(err, "tables.except.ids");
        }
        if (restore_table(h, id, entry, err)) {
            return -1;
        }
    } while (*text);
    return 0;
}

static void plan_reading(struct table *t) {
    if (!t->complete) {
        struct spans left;
        spans_init(&left);
        spans_add(&left, &(struct buf){ 0 }, &(struct buf){ 0 });
        for (uint32_t i = 0; i < t->joined.count; i++) {
            spans_remove(&left, &t->joined.at[i].lo, &t->joined.at[i].hi);
        }
        spans_release(&t->todo);
        t->todo = left;
    }
}

static int restore_loose(struct hybrid *h, const char *text, struct err *err) {
    uint64_t last = 0;
    while (text && *text) {
        if (take_step(&text, &last)) {
            return malformed(err, "loose");
        }
        loose_put(h, last);
    }
    return text ? 0 : malformed(err, "loose");
}

int hybrid_restore(struct hybrid *h, struct logpos applied, struct logpos resume,
                   const char *stored, struct schema *const *schemas, uint32_t schema_count,
                   struct err *err) {
    CHECK(h->table_count == 0);
    h->applied = applied;
    h->resume =
        resume; /* lower while a prepared transaction needs it: the next segment says more */
    if (!stored) {
        return 0;
    }
    json_error_t problem;
    json_t *root = json_loads(stored, JSON_REJECT_DUPLICATES, &problem);
    const json_t *tables = json_object_get(root, "tables");
    const json_t *except = json_object_get(tables, "except");
    uint64_t through = 0;
    int rc = 0;
    if (!root || !json_is_array(except) || take_u64(json_object_get(tables, "through"), &through)) {
        rc = malformed(err, "tables");
    }
    for (uint32_t i = 0; rc == 0 && i < schema_count; i++) {
        if (table_find(h, schemas[i]->table_id)) {
            rc = malformed(err, "two schemas of one table");
            break;
        }
        struct table *t = table_add(h, schemas[i]);
        if (t->id <= through) {
            joined_all(t);
        }
    }
    if (rc == 0 && through && !table_find(h, through)) {
        rc = malformed(err, "tables.through is in no stored schema");
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(except); i++) {
        rc = restore_entry(h, json_array_get(except, i), err);
    }
    for (uint32_t i = 0; rc == 0 && i < h->table_count; i++) {
        plan_reading(h->tables[i]);
    }
    if (rc == 0) {
        rc = restore_loose(h, json_string_value(json_object_get(root, "loose")), err);
    }
    json_decref(root);
    h->shape_changed = h->schemas_changed = false;
    return rc;
}
