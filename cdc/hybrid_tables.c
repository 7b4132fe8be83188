/* The hybrid source, tables: the catalogue, definitions, generations, holes. See hybrid.c for the
 * whole. */
#include "cdc/hybrid_internal.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"

#include <stdlib.h>
#include <string.h>

struct hybrid *hybrid_new(const struct hybrid_config *config, hybrid_emit_fn emit, void *emit_arg) {
    CHECK(config->chunk_bytes > 0 && config->chunk_rows >= 2 &&
          config->rows_bytes_max >= config->chunk_bytes);
    struct hybrid *h = xcalloc(1, sizeof(*h));
    h->config = *config;
    h->emit = emit;
    h->emit_arg = emit_arg;
    h->next_id = 1;
    h->border = true;
    return h;
}

void table_free(struct table *t) {
    schema_unref(t->current);
    schema_unref(t->definition);
    schema_unref(t->seen);
    spans_release(&t->joined);
    spans_release(&t->todo);
    spans_release(&t->again);
    map_free(t->holes, NULL);
    map_free(t->lost, NULL);
    free(t);
}

void hybrid_free(struct hybrid *h) {
    if (!h) {
        return;
    }
    while (h->chunk_count) {
        chunk_remove(h, h->chunks[h->chunk_count - 1]);
    }
    for (uint32_t i = 0; i < h->table_count; i++) {
        table_free(h->tables[i]);
    }
    free(h->tables);
    free(h->chunks);
    free(h->loose);
    free(h->labels);
    free(h->schemas);
    free(h);
}

struct table *table_find(struct hybrid *h, uint64_t id) {
    uint32_t lo = 0, hi = h->table_count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (h->tables[mid]->id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < h->table_count && h->tables[lo]->id == id ? h->tables[lo] : NULL;
}

/* Nothing is joined: all is to be read. */
static void todo_rebuild(struct table *t) {
    CHECK(t->joined.count == 0);
    spans_clear(&t->todo);
    spans_add(&t->todo, &(struct buf){ 0 }, &(struct buf){ 0 });
    t->cut_asked = t->cut_done = false;
}

/* What a table begins with: no row of it is without one of these columns. */
static struct schema *first_version(const struct schema *schema, uint32_t version) {
    struct schema *s = schema_with_version(schema, version);
    for (uint16_t c = 0; c < s->column_count; c++) {
        schema_set_missing(s, c, NULL, 0);
    }
    return s;
}

static void take_shape(struct table *t) {
    t->whole = !t->definition->key_orderable; /* without a key it is not */
}

struct table *table_add(struct hybrid *h, struct schema *definition) {
    struct table *t = xcalloc(1, sizeof(*t));
    t->id = definition->table_id;
    t->definition = schema_ref(definition);
    t->current = definition->version ? schema_ref(definition) : first_version(definition, 1);
    t->generation = 1;
    t->holes = map_new();
    t->lost = map_new();
    take_shape(t);
    todo_rebuild(t);
    if (h->table_count == h->table_cap) {
        h->table_cap = h->table_cap ? h->table_cap * 2 : 16;
        h->tables = xrealloc(h->tables, h->table_cap * sizeof(struct table *));
    }
    uint32_t at = h->table_count;
    while (at > 0 && h->tables[at - 1]->id > t->id) {
        h->tables[at] = h->tables[at - 1];
        at--;
    }
    CHECK(at == 0 || h->tables[at - 1]->id != t->id);
    h->tables[at] = t;
    h->table_count++;
    h->schemas_changed = true;
    h->shape_changed = true;
    return t;
}

bool table_consistent(const struct table *t) {
    return t->gone || (t->complete && !t->unverified && map_count(t->holes) == 0);
}

static void end_chunks(struct hybrid *h, const struct table *t) {
    for (uint32_t i = h->chunk_count; i-- > 0;) {
        if (h->chunks[i]->table == t) {
            chunk_remove(h, h->chunks[i]);
        }
    }
}

bool target_needs_anew(const struct hybrid *h, const struct schema *before,
                       const struct schema *after) {
    return h->config.sink && sink_needs_anew(h->config.sink, before, after);
}

static bool is_taken(const struct hybrid *h, const struct schema *schema, uint16_t column) {
    return h->config.sink && sink_takes_missing(h->config.sink, schema, column);
}

/* Between the definition so far and this one columns were added, and no more; and what old rows
 * have in them goes out with the column. Not where rows of such a column went out already: nothing
 * was known of it then. */
static bool only_added(const struct hybrid *h, const struct table *t, const struct schema *now) {
    const struct schema *so_far = t->definition;
    if (strcmp(so_far->label, now->label) != 0 || !source_added(h->config.source, so_far, now)) {
        return false;
    }
    for (uint16_t c = 0; c < now->column_count; c++) {
        const struct column_def *def = &now->columns[c];
        if (def->missing && schema_column(so_far, def->name) < 0 &&
            (schema_column(t->current, def->name) >= 0 || !is_taken(h, now, c))) {
            return false;
        }
    }
    return true;
}

bool table_needs_anew(const struct hybrid *h, const struct table *t, const struct schema *now) {
    return (source_rewritten(h->config.source, t->definition, now) && !only_added(h, t, now)) ||
           target_needs_anew(h, t->definition, now);
}

bool table_trusts(struct hybrid *h, struct table *t, struct schema *shape) {
    if (source_rewritten(h->config.source, t->definition, shape)) {
        if (!same_key(t->definition, shape) || !only_added(h, t, shape)) { /* an earlier key's? */
            return false;
        }
        table_redefine(h, t, shape, LOGPOS_NONE);
        return true;
    }
    return strcmp(t->definition->label, shape->label) == 0 &&
           source_added(h->config.source, t->definition, shape);
}

bool table_owes(const struct hybrid *h, const struct table *t, const struct schema *shape,
                const struct schema *known, bool taken) {
    bool may = t->begun && !h->config.snapshot_never && h->config.sink &&
               h->config.sink->ops->takes_missing;
    for (uint16_t c = 0; may && c < shape->column_count; c++) {
        const char *name = shape->columns[c].name;
        int at = schema_column(known, name);
        if (at >= 0 && known->columns[at].missing && schema_column(t->current, name) < 0 &&
            is_taken(h, known, (uint16_t)at) == taken) {
            return true;
        }
    }
    return false;
}

void table_restart(struct hybrid *h, struct table *t) {
    end_chunks(h, t);
    if (t->begun) {
        t->generation++;
        t->begun = false;
    }
    map_clear(t->lost, NULL);
    t->complete = false;
    t->rows_read = 0;
    spans_clear(&t->joined);
    spans_clear(&t->again);
    table_drop_holes(h, t);
    todo_rebuild(t);
    h->shape_changed = true;
}

/* The stored identity of the rows is the catalogue's word, never the log's: a rewrite must not be
 * overlooked. */
static struct schema *versioned(const struct schema *schema, uint32_t version,
                                const char *storage) {
    struct schema *s = schema_with_version(schema, version);
    s->storage = arena_strdup(&s->arena, storage);
    return s;
}

/* What is missing in a column stays with it: the target may meet it later than we. */
static void keep_missing(const struct hybrid *h, struct schema *next, const struct schema *now,
                         bool trusted) {
    for (uint16_t c = 0; c < next->column_count; c++) {
        int was = schema_column(now, next->columns[c].name);
        const struct column_def *old = was >= 0 ? &now->columns[was] : NULL;
        if (old && type_equal(&old->type, &next->columns[c].type)) {
            schema_set_missing(next, c, old->missing, old->missing_len);
        } else if (next->columns[c].missing && (old || !trusted || !is_taken(h, next, c))) {
            schema_set_missing(next, c, NULL, 0);
        }
    }
}

void table_advance(struct hybrid *h, struct table *t, struct schema *schema, bool trusted) {
    struct schema *next = versioned(schema, t->current->version + 1, t->definition->storage);
    keep_missing(h, next, t->current, trusted);
    schema_unref(t->current);
    t->current = next;
    schema_unref(t->seen);
    t->seen = schema_ref(schema);
    h->schemas_changed = true;
}

bool same_key(const struct schema *a, const struct schema *b) {
    bool same = a->key_count == b->key_count;
    for (uint16_t i = 0; same && i < a->key_count; i++) {
        const struct column_def *x = &a->columns[a->key[i]], *y = &b->columns[b->key[i]];
        same = strcmp(x->name, y->name) == 0 && type_equal(&x->type, &y->type);
    }
    return same;
}

/* As lanes need it: under the same name, its key in the same order. */
bool same_definition(const struct schema *a, const struct schema *b) {
    return schema_same_definition(a, b) && a->key_orderable == b->key_orderable &&
           strcmp(a->label, b->label) == 0;
}

void table_redefine(struct hybrid *h, struct table *t, struct schema *definition,
                    struct logpos at) {
    struct schema *old = t->definition;
    t->definition = schema_ref(definition);
    t->defined_at = logpos_max(t->defined_at, at);
    if (strcmp(t->current->storage, definition->storage) != 0) {
        struct schema *same_rows = versioned(t->current, t->current->version, definition->storage);
        schema_unref(t->current);
        t->current = same_rows;
        h->schemas_changed = true;
    }
    bool other_key = !same_key(old, definition);
    schema_unref(old);
    bool was_whole = t->whole;
    take_shape(t);
    bool keys_stored = !t->complete || map_count(t->holes);
    if (keys_stored && (was_whole != t->whole || other_key)) {
        table_restart(h, t); /* ranges of one key mean nothing under another */
    }
}

void table_start_showing(struct hybrid *h, struct table *t) {
    if (t->begun) {
        return;
    }
    t->begun = true;
    h->shape_changed = true;
    if (t->generation > 1) {
        h->emit(h->emit_arg, &(struct hybrid_out){ .kind = OUT_GENERATION,
                                                   .schema = t->current,
                                                   .generation = t->generation,
                                                   .at = h->applied });
    }
}

void table_check_complete(struct hybrid *h, struct table *t) {
    if (!t->complete && spans_all(&t->joined)) {
        table_start_showing(h, t);
        t->complete = true;
        h->shape_changed = true;
    } else if (t->complete && map_count(t->holes) == 0) {
        h->shape_changed = true; /* its last hole was filled */
    }
}

static void too_many_holes(struct hybrid *h, struct table *t) {
    if (t->whole) {
        table_restart(h, t);
        return;
    }
    struct buf lo;
    buf_init(&lo, KEY_BYTES_MAX);
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(t->holes, &at, &key, &len, NULL);) {
        if (lo.len == 0 || key_cmp(key, len, lo.data, lo.len) < 0) {
            buf_clear(&lo);
            buf_put(&lo, key, len);
        }
    }
    struct spans joined;
    spans_init(&joined);
    spans_copy(&joined, &t->joined);
    for (uint32_t i = 0; i < joined.count;
         i++) { /* from the lowest hole to the end of what is joined */
        const struct span *s = &joined.at[i];
        if (s->hi.len && key_cmp(s->hi.data, s->hi.len, lo.data, lo.len) <= 0) {
            continue;
        }
        const struct buf *from = span_cmp_lo(&s->lo, &lo) < 0 ? &lo : &s->lo;
        spans_remove(&t->joined, from, &s->hi);
        spans_add(&t->again, from, &s->hi);
        spans_add_apart(&t->todo, from, &s->hi);
    }
    spans_release(&joined);
    buf_release(&lo);
    t->complete = false;
    t->cut_done = true;
    table_drop_holes(h, t);
    h->shape_changed = true;
}

/* A chunk of one key finds its row by the cells of the encoded key: the encodings that do not say
 * them back exactly cannot be holes. */
static bool key_reads_back(const struct schema *s) {
    for (uint16_t i = 0; i < s->key_count; i++) {
        const struct type *type = &s->columns[s->key[i]].type;
        if (!type_orderable(type) || type->kind == TYPE_FLOAT32 || type->kind == TYPE_FLOAT64) {
            return false;
        }
    }
    return true;
}

void table_add_hole(struct hybrid *h, struct table *t, const void *key, size_t len) {
    if (!key_reads_back(t->current)) {
        table_restart(h, t);
        return;
    }
    if (map_get(t->holes, key, len)) {
        return;
    }
    map_set(t->holes, key, len, t);
    t->hole_bytes += len;
    h->holes++;
    h->hole_bytes += len;
    h->shape_changed = true;
    metric_set(h->config.metrics, METRIC_HOLES, h->holes);
    if (h->holes > HOLES_MAX || h->hole_bytes > HOLE_BYTES_MAX) {
        too_many_holes(h, t);
    }
}

void table_drop_hole(struct hybrid *h, struct table *t, const void *key, size_t len) {
    void *was = map_remove(t->holes, key, len);
    CHECK(was);
    t->hole_bytes -= len;
    h->holes--;
    h->hole_bytes -= len;
    metric_set(h->config.metrics, METRIC_HOLES, h->holes);
}

void table_drop_holes(struct hybrid *h, struct table *t) {
    for (uint32_t i = h->chunk_count; i-- > 0;) {
        if (h->chunks[i]->table == t && h->chunks[i]->kind == KIND_EXACT) {
            chunk_remove(h, h->chunks[i]);
        }
    }
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(t->holes, &at, &key, &len, NULL);) {
        table_drop_hole(h, t, key, len);
    }
}

/* The newest earlier table of this name, or NULL: dropped and made again, its history goes on in a
 * new generation. */
static struct table *namesake(struct hybrid *h, const struct schema *s) {
    struct table *found = NULL;
    for (uint32_t i = 0; i < h->table_count; i++) {
        struct table *t = h->tables[i];
        if (t->id != s->table_id && strcmp(t->current->label, s->label) == 0 &&
            (!found || t->generation > found->generation)) {
            found = t;
        }
    }
    return found;
}

static void table_end(struct hybrid *h, struct table *t) {
    end_chunks(h, t);
    table_drop_holes(h, t);
    t->gone = true;
    h->shape_changed = true;
    h->schemas_changed = true;
}

/* A table that was wholly in the target stays there, and its events flow, until the log has passed
 * the catalogue's end: it was dropped somewhere before. */
void tables_end(struct hybrid *h) {
    bool look = h->some_end;
    h->some_end = false;
    for (uint32_t i = 0; look && i < h->table_count; i++) {
        struct table *t = h->tables[i];
        if (t->ending && logpos_cmp(h->applied, t->ends_at) >= 0) {
            t->ending = false;
            table_end(h, t);
        }
        h->some_end |= t->ending;
    }
}

/* The table's rows go out under this schema's name, in a generation above all that did before. */
static void take_name(struct hybrid *h, struct table *t, struct schema *schema) {
    struct table *before = namesake(h, schema);
    uint32_t version = t->current->version;
    if (before && before->current->version > version) {
        version = before->current->version;
    }
    if (before && before->generation >= t->generation) {
        t->generation = before->generation + 1;
    }
    schema_unref(t->current);
    t->current = first_version(schema, version + 1);
    if (before && !before->gone && !before->ending) {
        table_end(h, before);
    }
}

static void table_begin(struct hybrid *h, const struct source_table *entry) {
    bool followed_before = namesake(h, entry->schema) != NULL;
    struct table *t = table_add(h, entry->schema);
    if (followed_before) {
        take_name(h, t, entry->schema);
    }
    if (h->config.snapshot_never) {
        spans_add(&t->joined, &(struct buf){ 0 }, &(struct buf){ 0 });
        t->complete = t->begun = true;
    }
}

int table_rewrite_stops(const struct schema *schema, struct err *err) {
    err_set(
        err, ERR_FATAL, "table_rewritten",
        "the rows of the table \"%s\" were changed by an ALTER or a rewrite that the log does not "
        "show, and on_rewrite=stop",
        schema->label);
    return err_cure(err, "run it once with on_rewrite=resnapshot: the table is then read again");
}

/* A column that rows of this generation had, that the catalogue lost, and that is there again:
 * another column under the old name, of which the old rows say nothing. */
static bool column_came_back(struct table *t, const struct schema *now) {
    for (uint16_t i = 0; i < now->column_count; i++) {
        const char *name = now->columns[i].name;
        if (map_get(t->lost, name, strlen(name)) && schema_column(t->current, name) >= 0) {
            return true;
        }
    }
    for (uint16_t i = 0; i < t->definition->column_count; i++) {
        const char *name = t->definition->columns[i].name;
        if (schema_column(now, name) < 0 && schema_column(t->current, name) >= 0) {
            map_set(t->lost, name, strlen(name), t);
        }
    }
    return false;
}

static int table_known(struct hybrid *h, struct table *t, const struct source_table *entry,
                       struct logpos at, struct err *err) {
    struct schema *now = entry->schema;
    if (t->gone) { /* it is back in the selection: what happened meanwhile is unknown */
        t->gone = false;
        t->captured = false;
        t->begun = true;
        table_restart(h, t);
        if (strcmp(t->current->label, now->label) != 0) { /* another table has its name now */
            take_name(h, t, now);
            schema_unref(t->definition);
            t->definition = schema_ref(now);
        }
        h->schemas_changed = true;
    }
    if (logpos_cmp(at, t->defined_at) < 0) {
        return 0; /* a lane saw a later one under its lock */
    }
    bool untold = table_owes(h, t, now, now, false); /* it was to be: by another target's word */
    if (table_needs_anew(h, t, now) || column_came_back(t, now) || untold) {
        if (h->config.rewrite_stops && t->begun) {
            return table_rewrite_stops(now, err);
        }
        table_restart(h, t);
    }
    bool changed = !same_definition(t->definition, now);
    if (changed) {
        table_redefine(h, t, now, at);
    }
    if (t->unverified && !h->wants_catalogue) { /* else: read before that was seen, perhaps */
        t->unverified = false;
        h->shape_changed = true;
    }
    return 0;
}

static bool in_catalogue(const struct source_catalogue *c, uint64_t id) {
    uint32_t lo = 0, hi = c->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (c->tables[mid].schema->table_id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < c->count && c->tables[lo].schema->table_id == id;
}

int hybrid_catalogue(struct hybrid *h, const struct source_catalogue *catalogue, struct err *err) {
    for (uint32_t i = 0; i < h->table_count; i++) {
        struct table *t = h->tables[i];
        bool found = in_catalogue(catalogue, t->id);
        if (!found && !t->gone && !t->ending) {
            t->ending = h->some_end = true;
            t->ends_at = table_consistent(t) ? catalogue->defined_at : LOGPOS_NONE;
        } else if (found) {
            t->ending = false;
        }
    }
    tables_end(h);
    for (uint32_t k = 0; k < catalogue->count; k++) {
        const struct source_table *entry = &catalogue->tables[k];
        CHECK(entry->usable); /* control leaves the others out */
        struct table *t = table_find(h, entry->schema->table_id);
        if (t) {
            if (table_known(h, t, entry, catalogue->defined_at, err)) {
                return -1;
            }
        } else {
            table_begin(h, entry);
            t = table_find(h, entry->schema->table_id);
            t->defined_at = catalogue->defined_at;
        }
        t->rows_estimate = entry->rows_estimate;
        t->bytes_estimate = entry->bytes_estimate;
    }
    return 0;
}

uint32_t hybrid_uncaptured(const struct hybrid *h, uint64_t *ids, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->table_count && n < max; i++) {
        if (!h->tables[i]->captured && !h->tables[i]->gone && !h->tables[i]->ending) {
            ids[n++] = h->tables[i]->id;
        }
    }
    return n;
}

void hybrid_captured(struct hybrid *h, const uint64_t *ids, uint32_t count, uint64_t see_from_tx,
                     struct logpos from) {
    for (uint32_t i = 0; i < count; i++) {
        struct table *t = table_find(h, ids[i]);
        CHECK(t);
        t->captured = true;
        t->see_from_tx = see_from_tx;
        t->captured_from = from;
    }
}

uint32_t hybrid_inconsistent(struct hybrid *h, const char *const **labels) {
    uint32_t n = 0;
    h->labels = xrealloc(h->labels, (h->table_count + 1) * sizeof(*h->labels));
    for (uint32_t i = 0; i < h->table_count; i++) {
        if (!table_consistent(h->tables[i])) {
            uint32_t at = n++;
            for (; at > 0 && strcmp(h->labels[at - 1], h->tables[i]->current->label) > 0; at--) {
                h->labels[at] = h->labels[at - 1];
            }
            h->labels[at] = h->tables[i]->current->label;
        }
    }
    *labels = h->labels;
    return n;
}

uint32_t hybrid_schemas(struct hybrid *h, struct schema *const **schemas) {
    h->schemas = xrealloc(h->schemas, (h->table_count + 1) * sizeof(*h->schemas));
    for (uint32_t i = 0; i < h->table_count; i++) {
        h->schemas[i] = h->tables[i]->current;
    }
    *schemas = h->schemas;
    return h->table_count;
}

static const char *phase_of(const struct hybrid *h, const struct table *t) {
    if (t->gone) {
        return "gone";
    }
    if (t->complete) {
        return map_count(t->holes) ? "filling holes"
               : t->unverified     ? "checking definition"
                                   : "stream";
    }
    for (uint32_t i = 0; i < h->chunk_count; i++) {
        if (h->chunks[i]->table == t) {
            return "snapshot";
        }
    }
    return t->joined.count || t->begun ? "snapshot" : "waiting";
}

uint32_t hybrid_status(struct hybrid *h, struct hybrid_table_status *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->table_count && n < max; i++) {
        const struct table *t = h->tables[i];
        out[n++] = (struct hybrid_table_status){
            .label = t->current->label,
            .phase = phase_of(h, t),
            .generation = t->generation,
            .rows_read = t->rows_read,
            .rows_estimate = t->rows_estimate,
            .holes = (uint32_t)map_count(t->holes),
        };
    }
    return n;
}
