/* See ice_schema.h. A field that is kept (of a column whose type changed, or that is gone) is known
 * by its doc text, which begins with KEPT_MARK: the schema's JSON has no other place for it, and it
 * must survive other writers. */
#include "sinks/iceberg/ice_schema.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/json.h"
#include "sinks/iceberg/ice_default.h"

#define KEPT_MARK "no longer written: "

void ice_schema_release(struct ice_schema *s) {
    arena_release(&s->arena);
    *s = (struct ice_schema){ 0 };
}

static const char *copy_text(struct arena *arena, const char *text) {
    return text ? arena_strdup(arena, text) : NULL;
}

static struct ice_field copy_field(struct arena *arena, const struct ice_field *f) {
    struct ice_field copy = *f;
    copy.name = arena_strdup(arena, f->name);
    copy.doc = copy_text(arena, f->doc);
    copy.initial_default = copy_text(arena, f->initial_default);
    copy.write_default = copy_text(arena, f->write_default);
    return copy;
}

static void schema_start(struct ice_schema *s, int32_t id, size_t fields, size_t identifiers) {
    *s = (struct ice_schema){ .id = id };
    arena_init(&s->arena);
    s->fields = arena_zalloc(&s->arena, (fields + 1) * sizeof *s->fields);
    s->identifiers = arena_zalloc(&s->arena, (identifiers + 1) * sizeof *s->identifiers);
}

void ice_schema_copy(struct ice_schema *out, const struct ice_schema *s) {
    schema_start(out, s->id, s->field_count, s->identifier_count);
    for (uint32_t i = 0; i < s->field_count; i++) {
        out->fields[out->field_count++] = copy_field(&out->arena, &s->fields[i]);
    }
    for (uint32_t i = 0; i < s->identifier_count; i++) {
        out->identifiers[out->identifier_count++] = s->identifiers[i];
    }
}

int ice_schema_find(const struct ice_schema *s, const char *name) {
    for (uint32_t i = 0; i < s->field_count; i++) {
        if (strcmp(s->fields[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

int ice_schema_find_id(const struct ice_schema *s, int32_t id) {
    for (uint32_t i = 0; i < s->field_count; i++) {
        if (s->fields[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- from the source ---- */

static const struct {
    enum ice_extra bit;
    const char *name;
    enum lake_kind kind;
    bool required;
    const char *doc;
} extra_columns[ICE_EXTRA_COUNT] = {
    { ICE_EXTRA_OP, "_tailrace_op", LAKE_STRING, false, "operation that made the row" },
    { ICE_EXTRA_TS, "_tailrace_ts", LAKE_TIMESTAMPTZ, false, "commit time of its transaction" },
    { ICE_EXTRA_POSITION, "_tailrace_position", LAKE_STRING, false,
      "its place in the source's log" },
    { ICE_EXTRA_DELETED, "_tailrace_deleted", LAKE_BOOL, true, "deleted at the source" },
};

const char *ice_extra_name(enum ice_extra extra) {
    for (size_t i = 0; i < ICE_EXTRA_COUNT; i++) {
        if (extra_columns[i].bit == extra) {
            return extra_columns[i].name;
        }
    }
    CHECK(!"one of the extra columns");
    return NULL;
}

static bool is_kept(const struct ice_field *f) {
    return f->doc && strncmp(f->doc, KEPT_MARK, sizeof KEPT_MARK - 1) == 0;
}

static struct lake_type type_of_column(const struct schema *source, const struct column_def *c,
                                       const struct ice_schema_rules *rules) {
    return lake_type_of(&c->type, rules->text && rules->text(rules->arg, source->label, c->name));
}

/* Reserved whether asked for or not: an option that is turned on later must not meet them. */
static int check_names(const struct schema *source, struct err *err) {
    for (size_t i = 0; i < ICE_EXTRA_COUNT; i++) {
        if (schema_column(source, extra_columns[i].name) >= 0) {
            err_set(err, ERR_FATAL, "column_collision",
                    "table \"%s\" has a column \"%s\", a name that lake tables use for themselves",
                    source->label, extra_columns[i].name);
            return err_cure(err, "rename the source's column, or leave the table out");
        }
    }
    return 0;
}

static struct ice_field field_of_column(struct arena *arena, const struct column_def *c,
                                        struct lake_type type) {
    return (struct ice_field){ .name = arena_strdup(arena, c->name),
                               .required = !c->nullable,
                               .type = type,
                               .doc = c->source_type && c->source_type[0]
                                          ? arena_strdup(arena, c->source_type)
                                          : NULL };
}

static struct ice_field field_of_extra(struct arena *arena, size_t i, bool required) {
    return (struct ice_field){ .name = arena_strdup(arena, extra_columns[i].name),
                               .required = required && extra_columns[i].required,
                               .type = { .kind = extra_columns[i].kind },
                               .doc = arena_strdup(arena, extra_columns[i].doc) };
}

/* The key's fields identify rows where the spec allows it: all there, required, no float, no list.
 */
static void set_identifiers(struct ice_schema *s, const struct schema *source) {
    s->identifier_count = 0;
    for (uint16_t k = 0; k < source->key_count; k++) {
        int at = ice_schema_find(s, source->columns[source->key[k]].name);
        const struct ice_field *f = at >= 0 ? &s->fields[at] : NULL;
        if (!f || is_kept(f) || !f->required || f->type.kind == LAKE_FLOAT ||
            f->type.kind == LAKE_DOUBLE || f->type.kind == LAKE_LIST) {
            s->identifier_count = 0;
            return;
        }
        s->identifiers[s->identifier_count++] = f->id;
    }
}

int ice_schema_first(struct ice_schema *out, const struct schema *source,
                     const struct ice_schema_rules *rules, int32_t *last_column_id,
                     struct err *err) {
    if (check_names(source, err) != 0) {
        return -1;
    }
    schema_start(out, 0, (size_t)source->column_count + ICE_EXTRA_COUNT, source->key_count);
    for (uint16_t i = 0; i < source->column_count; i++) {
        const struct column_def *c = &source->columns[i];
        out->fields[out->field_count++] =
            field_of_column(&out->arena, c, type_of_column(source, c, rules));
    }
    for (size_t i = 0; i < ICE_EXTRA_COUNT; i++) {
        if (rules->extras & extra_columns[i].bit) {
            out->fields[out->field_count++] = field_of_extra(&out->arena, i, true);
        }
    }
    int32_t id = 0;
    for (uint32_t i = 0; i < out->field_count; i++) {
        out->fields[i].id = ++id;
    }
    for (uint32_t i = 0; i < out->field_count; i++) {
        if (out->fields[i].type.kind == LAKE_LIST) {
            out->fields[i].element_id = ++id;
        }
    }
    set_identifiers(out, source);
    *last_column_id = id;
    return 0;
}

/* ---- following the source ---- */

static void give_ids(struct ice_field *f, int32_t *last_id) {
    f->id = ++*last_id;
    f->element_id = f->type.kind == LAKE_LIST ? ++*last_id : 0;
}

/* A name that neither the source nor a field so far has. */
static const char *kept_name(struct ice_schema *s, const struct ice_schema *now,
                             const struct schema *source, const char *name) {
    for (unsigned n = 1;; n++) {
        char *text = xasprintf("%s_v%u", name, n);
        bool taken = ice_schema_find(s, text) >= 0 || ice_schema_find(now, text) >= 0 ||
                     schema_column(source, text) >= 0;
        const char *copy = taken ? NULL : arena_strdup(&s->arena, text);
        free(text);
        if (copy) {
            return copy;
        }
    }
}

static int refuse_change(const struct schema *source, const struct column_def *c,
                         const struct lake_type *from, const struct lake_type *to,
                         struct err *err) {
    struct buf a;
    struct buf b;
    buf_init(&a, SIZE_MAX);
    buf_init(&b, SIZE_MAX);
    lake_type_put_name(&a, from);
    lake_type_put_name(&b, to);
    err_set(
        err, ERR_FATAL, "type_change",
        "column \"%s\" of table \"%s\" is now %s, which Iceberg cannot turn its field of type %s "
        "into (it would be %s)",
        c->name, source->label, c->source_type ? c->source_type : "of another type", buf_cstr(&a),
        buf_cstr(&b));
    buf_release(&a);
    buf_release(&b);
    return err_cure(err,
                    "start the job with on_type_change=resnapshot: the table is read again; or "
                    "with on_type_change=new_column: the old values stay in a column of "
                    "their own");
}

static void give_default(struct ice_field *f, const struct column_def *c,
                         const struct ice_schema_rules *rules, struct arena *arena) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    if (rules->defaults && c->missing && ice_default_of_column(&text, c, &f->type)) {
        f->initial_default = f->write_default = arena_strdup(arena, buf_cstr(&text));
    }
    buf_release(&text);
}

/* The present field of a source column; *old is set where one is left behind under its name. */
static int follow_column(const struct ice_schema *now, const struct schema *source, uint16_t col,
                         const struct ice_schema_rules *rules, struct ice_schema *out,
                         int32_t *last_id, int *old, struct err *err) {
    const struct column_def *c = &source->columns[col];
    struct lake_type type = type_of_column(source, c, rules);
    int at = ice_schema_find(now, c->name);
    *old = -1;
    struct ice_field f = field_of_column(&out->arena, c, type);
    if (at >= 0 && !is_kept(&now->fields[at])) {
        const struct ice_field *was = &now->fields[at];
        if (lake_type_equal(&was->type, &type) || lake_type_widens(&was->type, &type)) {
            f.id = was->id;
            f.element_id = was->element_id;
            f.required = was->required && f.required;
            f.initial_default = copy_text(&out->arena, was->initial_default);
            f.write_default = copy_text(&out->arena, was->write_default);
            out->fields[out->field_count++] = f;
            return 0;
        }
        if (rules->on_type_change == ICE_TYPE_STOP) {
            return refuse_change(source, c, &was->type, &type, err);
        }
        *old = rules->on_type_change == ICE_TYPE_NEW_COLUMN ? at : -1;
    }
    f.required = false;
    give_ids(&f, last_id);
    give_default(&f, c, rules, &out->arena);
    out->fields[out->field_count++] = f;
    return 0;
}

static void follow_extras(const struct ice_schema *now, const struct ice_schema_rules *rules,
                          struct ice_schema *out, int32_t *last_id) {
    for (size_t i = 0; i < ICE_EXTRA_COUNT; i++) {
        int at = ice_schema_find(now, extra_columns[i].name);
        if (!(rules->extras & extra_columns[i].bit)) {
            continue;
        }
        if (at >= 0 && now->fields[at].type.kind == extra_columns[i].kind &&
            !is_kept(&now->fields[at])) {
            out->fields[out->field_count++] = copy_field(&out->arena, &now->fields[at]);
            continue;
        }
        struct ice_field f = field_of_extra(&out->arena, i, false);
        give_ids(&f, last_id);
        out->fields[out->field_count++] = f;
    }
}

/* Fields left behind, now and before, at the end. */
static void follow_kept(const struct ice_schema *now, const struct schema *source, const bool *left,
                        struct ice_schema *out) {
    for (uint32_t i = 0; i < now->field_count; i++) {
        const struct ice_field *was = &now->fields[i];
        if (!left[i] && !is_kept(was)) {
            continue;
        }
        struct ice_field f = copy_field(&out->arena, was);
        f.required = false;
        if (left[i] || ice_schema_find(out, f.name) >= 0) {
            f.name = kept_name(out, now, source, was->name);
        }
        if (left[i]) {
            char *doc = xasprintf(KEPT_MARK "%s", was->doc ? was->doc : was->name);
            f.doc = arena_strdup(&out->arena, doc);
            free(doc);
        }
        out->fields[out->field_count++] = f;
    }
}

static bool same_schema(const struct ice_schema *a, const struct ice_schema *b) {
    if (a->field_count != b->field_count || a->identifier_count != b->identifier_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->field_count; i++) {
        const struct ice_field *x = &a->fields[i];
        const struct ice_field *y = &b->fields[i];
        if (x->id != y->id || x->element_id != y->element_id || x->required != y->required ||
            strcmp(x->name, y->name) != 0 || !lake_type_equal(&x->type, &y->type)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->identifier_count; i++) {
        if (a->identifiers[i] != b->identifiers[i]) {
            return false;
        }
    }
    return true;
}

enum ice_change ice_schema_follow(const struct ice_schema *now, const struct schema *source,
                                  const struct ice_schema_rules *rules, int32_t *last_column_id,
                                  struct ice_schema *out, struct err *err) {
    if (check_names(source, err) != 0) {
        return ICE_IMPOSSIBLE;
    }
    struct ice_schema next;
    int32_t last_id = *last_column_id;
    schema_start(&next, now->id, (size_t)source->column_count + ICE_EXTRA_COUNT + now->field_count,
                 source->key_count);
    bool *left = arena_zalloc(&next.arena, now->field_count + 1);
    for (uint16_t i = 0; i < source->column_count; i++) {
        int old;
        if (follow_column(now, source, i, rules, &next, &last_id, &old, err) != 0) {
            ice_schema_release(&next);
            return ICE_IMPOSSIBLE;
        }
        if (old >= 0) {
            left[old] = true;
        }
    }
    follow_extras(now, rules, &next, &last_id);
    follow_kept(now, source, left, &next);
    set_identifiers(&next, source);
    if (same_schema(now, &next)) {
        ice_schema_release(&next);
        return ICE_SAME;
    }
    *out = next;
    *last_column_id = last_id;
    return ICE_EVOLVED;
}

static bool same_key_columns(const struct schema *a, const struct schema *b) {
    bool same = a->key_count == b->key_count;
    for (uint16_t i = 0; same && i < a->key_count; i++) {
        int at = schema_column(b, a->columns[a->key[i]].name);
        same = at >= 0 && b->columns[at].key_pos >= 0;
    }
    return same;
}

bool ice_schema_needs_anew(const struct schema *before, const struct schema *after,
                           const struct ice_schema_rules *rules) {
    if (!same_key_columns(before, after)) {
        return true;
    }
    for (uint16_t i = 0; i < after->column_count; i++) {
        int was = schema_column(before, after->columns[i].name);
        if (was < 0 || rules->on_type_change != ICE_TYPE_RESNAPSHOT) {
            continue;
        }
        struct lake_type from = type_of_column(before, &before->columns[was], rules);
        struct lake_type to = type_of_column(after, &after->columns[i], rules);
        if (!lake_type_equal(&from, &to) && !lake_type_widens(&from, &to)) {
            return true;
        }
    }
    return false;
}

bool ice_schema_takes_missing(const struct schema *source, uint16_t column,
                              const struct ice_schema_rules *rules) {
    const struct column_def *c = &source->columns[column];
    struct lake_type type = type_of_column(source, c, rules);
    struct buf text;
    buf_init(&text, SIZE_MAX);
    bool takes = rules->defaults && ice_default_of_column(&text, c, &type);
    buf_release(&text);
    return takes;
}

int ice_schema_replaced(const struct ice_schema *now, const struct ice_schema *next) {
    for (uint32_t i = 0; i < now->field_count; i++) {
        const struct ice_field *f = &now->fields[i];
        if (!is_kept(f) && ice_schema_find_id(next, f->id) < 0 &&
            ice_schema_find(next, f->name) >= 0) {
            return (int)i;
        }
    }
    return -1;
}

void ice_schema_keep(struct ice_schema *s, const struct ice_field *f) {
    struct ice_field *fields = arena_zalloc(&s->arena, (s->field_count + 2) * sizeof *fields);
    for (uint32_t i = 0; i < s->field_count; i++) {
        fields[i] = s->fields[i];
    }
    struct ice_field kept = copy_field(&s->arena, f);
    char *name = xstrdup(f->name);
    for (unsigned n = 1; ice_schema_find(s, name) >= 0; n++) {
        free(name);
        name = xasprintf("%s_v%u", f->name, n);
    }
    kept.name = arena_strdup(&s->arena, name);
    kept.required = false;
    if (!is_kept(f)) {
        char *doc = xasprintf(KEPT_MARK "%s", f->doc ? f->doc : f->name);
        kept.doc = arena_strdup(&s->arena, doc);
        free(doc);
    }
    free(name);
    s->fields = fields;
    s->fields[s->field_count++] = kept;
}

void ice_schema_bind(const struct ice_schema *s, const struct schema *source, uint16_t *columns) {
    for (uint32_t i = 0; i < s->field_count; i++) {
        const struct ice_field *f = &s->fields[i];
        int col = is_kept(f) ? -1 : schema_column(source, f->name);
        columns[i] = col < 0 ? UINT16_MAX : (uint16_t)col;
    }
}

/* ---- JSON ---- */

static void put_type(struct buf *out, const struct ice_field *f) {
    if (f->type.kind != LAKE_LIST) {
        buf_putc(out, '"');
        lake_type_put_name(out, &f->type);
        buf_putc(out, '"');
        return;
    }
    struct lake_type element = { .kind = f->type.element,
                                 .precision = f->type.precision,
                                 .scale = f->type.scale };
    buf_putf(out, "{\"type\":\"list\",\"element-id\":%" PRId32 ",\"element\":\"", f->element_id);
    lake_type_put_name(out, &element);
    buf_puts(out, "\",\"element-required\":false}");
}

static void put_field(struct buf *out, const struct ice_field *f) {
    buf_putf(out, "{\"id\":%" PRId32 ",\"name\":", f->id);
    json_put_cstr(out, f->name);
    buf_putf(out, ",\"required\":%s,\"type\":", f->required ? "true" : "false");
    put_type(out, f);
    if (f->doc) {
        buf_puts(out, ",\"doc\":");
        json_put_cstr(out, f->doc);
    }
    if (f->initial_default) {
        buf_puts(out, ",\"initial-default\":");
        buf_puts(out, f->initial_default);
    }
    if (f->write_default) {
        buf_puts(out, ",\"write-default\":");
        buf_puts(out, f->write_default);
    }
    buf_putc(out, '}');
}

void ice_schema_put_json(struct buf *out, const struct ice_schema *s) {
    buf_putf(out, "{\"type\":\"struct\",\"schema-id\":%" PRId32, s->id);
    if (s->identifier_count > 0) {
        buf_puts(out, ",\"identifier-field-ids\":[");
        for (uint32_t i = 0; i < s->identifier_count; i++) {
            buf_putf(out, "%s%" PRId32, i ? "," : "", s->identifiers[i]);
        }
        buf_putc(out, ']');
    }
    buf_puts(out, ",\"fields\":[");
    for (uint32_t i = 0; i < s->field_count; i++) {
        if (i > 0) {
            buf_putc(out, ',');
        }
        put_field(out, &s->fields[i]);
    }
    buf_puts(out, "]}");
}

void ice_schema_put_name_mapping(struct buf *out, const struct ice_schema *s) {
    buf_putc(out, '[');
    for (uint32_t i = 0; i < s->field_count; i++) {
        const struct ice_field *f = &s->fields[i];
        buf_putf(out, "%s{\"field-id\":%" PRId32 ",\"names\":[", i ? "," : "", f->id);
        json_put_cstr(out, f->name);
        buf_putc(out, ']');
        if (f->type.kind == LAKE_LIST) {
            buf_putf(out, ",\"fields\":[{\"field-id\":%" PRId32 ",\"names\":[\"element\"]}]",
                     f->element_id);
        }
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
}

static int schema_error(struct err *err, const char *field, const char *what) {
    return field ? err_set(err, ERR_FATAL, "iceberg_schema", "field \"%s\": %s", field, what)
                 : err_set(err, ERR_FATAL, "iceberg_schema", "read a table's schema: %s", what);
}

static bool take_id(const json_t *json, int32_t *out) {
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        json_integer_value(json) > INT32_MAX) {
        return false;
    }
    *out = (int32_t)json_integer_value(json);
    return true;
}

/* A type whose name is one of ours and no list. */
static int take_primitive(const json_t *json, const char *field, struct lake_type *out,
                          struct err *err) {
    const char *name = json_string_value(json);
    *out = (struct lake_type){ 0 };
    if (!name || lake_type_from_name(name, out) != 0 || out->kind == LAKE_LIST) {
        err_set(err, ERR_FATAL, "iceberg_schema",
                "field \"%s\" has the type %s, which tailrace does not write", field,
                name ? name : "of a struct, map or nested list");
        return err_cure(err, "give the job a table of its own");
    }
    return 0;
}

static int take_type(const json_t *json, struct ice_field *f, struct err *err) {
    if (!json_is_object(json)) {
        return take_primitive(json, f->name, &f->type, err);
    }
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type || strcmp(type, "list") != 0) {
        return take_primitive(NULL, f->name, &f->type, err);
    }
    struct lake_type element;
    if (!take_id(json_object_get(json, "element-id"), &f->element_id)) {
        return schema_error(err, f->name, "its list has no element id");
    }
    if (take_primitive(json_object_get(json, "element"), f->name, &element, err) != 0) {
        return -1;
    }
    f->type = (struct lake_type){ .kind = LAKE_LIST,
                                  .element = element.kind,
                                  .precision = element.precision,
                                  .scale = element.scale };
    return 0;
}

static const char *take_value(struct arena *arena, const json_t *json) {
    if (!json || json_is_null(json)) {
        return NULL;
    }
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    CHECK(text);
    const char *copy = arena_strdup(arena, text);
    free(text);
    return copy;
}

static int take_field(const json_t *json, struct ice_schema *s, struct err *err) {
    struct ice_field f = { 0 };
    const char *name = json_string_value(json_object_get(json, "name"));
    if (!name || !take_id(json_object_get(json, "id"), &f.id) ||
        !json_is_boolean(json_object_get(json, "required"))) {
        return schema_error(err, NULL, "a field without name, id or required");
    }
    f.name = arena_strdup(&s->arena, name);
    if (ice_schema_find(s, name) >= 0 || ice_schema_find_id(s, f.id) >= 0) {
        return schema_error(err, name, "its name or its id is there twice");
    }
    f.required = json_is_true(json_object_get(json, "required"));
    if (take_type(json_object_get(json, "type"), &f, err) != 0) {
        return -1;
    }
    f.doc = copy_text(&s->arena, json_string_value(json_object_get(json, "doc")));
    f.initial_default = take_value(&s->arena, json_object_get(json, "initial-default"));
    f.write_default = take_value(&s->arena, json_object_get(json, "write-default"));
    s->fields[s->field_count++] = f;
    return 0;
}

int ice_schema_from_json(const json_t *json, struct ice_schema *out, struct err *err) {
    const json_t *fields = json_object_get(json, "fields");
    const json_t *ids = json_object_get(json, "identifier-field-ids");
    int32_t id = 0;
    if (!json_is_array(fields) ||
        (json_object_get(json, "schema-id") && !take_id(json_object_get(json, "schema-id"), &id))) {
        return schema_error(err, NULL, "no fields, or no valid schema-id");
    }
    schema_start(out, id, json_array_size(fields), json_array_size(ids));
    int got = 0;
    for (size_t i = 0; got == 0 && i < json_array_size(fields); i++) {
        got = take_field(json_array_get(fields, i), out, err);
    }
    for (size_t i = 0; got == 0 && i < json_array_size(ids); i++) {
        int32_t *at = &out->identifiers[out->identifier_count++];
        if (!take_id(json_array_get(ids, i), at)) {
            got = schema_error(err, NULL, "an identifier field id that is none");
        }
    }
    if (got != 0) {
        ice_schema_release(out);
    }
    return got;
}
