/* Partition specs: the user's words, JSON there and back. The values are ice_transform.c's. See
 * ice_partition.h. */
#include "sinks/iceberg/ice_partition.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/json.h"

static const struct {
    const char *name;   /* as in metadata, without the parameter */
    const char *plural; /* accepted from people too */
    const char *suffix; /* of the field's name */
} transforms[] = {
    [ICE_IDENTITY] = { "identity", "identity", "" },
    [ICE_BUCKET] = { "bucket", "bucket", "_bucket" },
    [ICE_TRUNCATE] = { "truncate", "trunc", "_trunc" },
    [ICE_YEAR] = { "year", "years", "_year" },
    [ICE_MONTH] = { "month", "months", "_month" },
    [ICE_DAY] = { "day", "days", "_day" },
    [ICE_HOUR] = { "hour", "hours", "_hour" },
    [ICE_VOID] = { "void", "void", "_null" },
};

static bool has_parameter(enum ice_transform t) { return t == ICE_BUCKET || t == ICE_TRUNCATE; }

void ice_spec_release(struct ice_spec *spec) {
    arena_release(&spec->arena);
    *spec = (struct ice_spec){ 0 };
}

void ice_spec_copy(struct ice_spec *out, const struct ice_spec *spec) {
    *out = *spec;
    arena_init(&out->arena);
    for (uint32_t i = 0; i < spec->field_count; i++) {
        out->fields[i].name = arena_strdup(&out->arena, spec->fields[i].name);
    }
}

bool ice_spec_same(const struct ice_spec *a, const struct ice_spec *b) {
    if (a->field_count != b->field_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->field_count; i++) {
        const struct ice_part_field *x = &a->fields[i];
        const struct ice_part_field *y = &b->fields[i];
        if (x->source_id != y->source_id || x->transform != y->transform ||
            (has_parameter(x->transform) && x->parameter != y->parameter)) {
            return false;
        }
    }
    return true;
}

/* The type of a transform's values; false where the column's type does not have it. */
static bool result_of(enum ice_transform t, const struct lake_type *source, struct lake_type *out) {
    enum lake_kind k = source->kind;
    bool timestamp = k == LAKE_TIMESTAMP || k == LAKE_TIMESTAMPTZ;
    bool truncates = k == LAKE_INT || k == LAKE_LONG || k == LAKE_DECIMAL || k == LAKE_STRING ||
                     k == LAKE_BINARY;
    *out = (struct lake_type){ .kind = LAKE_INT };
    switch (t) {
    case ICE_VOID:
        *out = *source;
        return true;
    case ICE_IDENTITY:
        *out = *source;
        return k != LAKE_LIST && k != LAKE_FLOAT && k != LAKE_DOUBLE && k != LAKE_UUID;
    case ICE_TRUNCATE:
        *out = *source;
        return truncates;
    case ICE_BUCKET:
        return truncates || timestamp || k == LAKE_DATE || k == LAKE_TIME || k == LAKE_UUID;
    case ICE_DAY:
        out->kind = LAKE_DATE;
        return timestamp || k == LAKE_DATE;
    case ICE_YEAR:
    case ICE_MONTH:
        return timestamp || k == LAKE_DATE;
    case ICE_HOUR:
        return timestamp;
    }
    return false;
}

void ice_spec_retype(struct ice_spec *spec, const struct ice_schema *schema) {
    for (uint32_t i = 0; i < spec->field_count; i++) {
        struct ice_part_field *f = &spec->fields[i];
        int at = ice_schema_find_id(schema, f->source_id);
        struct lake_type result;
        if (at >= 0 && result_of(f->transform, &schema->fields[at].type, &result)) {
            f->source = schema->fields[at].type;
            f->result = result;
        }
    }
}

/* ---- the user's words ---- */

struct word {
    const char *at;
    size_t len;
    bool quoted;
    char *text; /* in arena, unquoted */
};

struct words {
    const char *all;
    const char *at;
    struct arena *arena;
    struct err *err;
};

static int misread(struct words *w, const char *what) {
    err_set(w->err, ERR_FATAL, "partition_spec", "partition=%s: %s", w->all, what);
    return err_cure(w->err, "write for example partition=day(created_at),bucket(16,id),region");
}

static void skip_blanks(struct words *w) {
    while (*w->at == ' ') {
        w->at++;
    }
}

/* A name, a number or a quoted name. */
static int take_word(struct words *w, struct word *out) {
    skip_blanks(w);
    *out = (struct word){ .quoted = *w->at == '"' };
    if (!out->quoted) {
        size_t n = strcspn(w->at, ",()\"");
        size_t keep = n;
        while (keep > 0 && w->at[keep - 1] == ' ') {
            keep--;
        }
        out->text = arena_copy(w->arena, w->at, keep + 1);
        out->text[keep] = 0;
        out->len = keep;
        w->at += n;
        return keep > 0 ? 0 : misread(w, "a name is missing");
    }
    out->text = arena_alloc(w->arena, strlen(w->at) + 1);
    for (w->at++;; w->at++) {
        if (*w->at == 0) {
            return misread(w, "a quote is not closed");
        }
        if (*w->at == '"' && *++w->at != '"') {
            break; /* two quotes are one within */
        }
        out->text[out->len++] = *w->at;
    }
    out->text[out->len] = 0;
    skip_blanks(w);
    return 0;
}

static bool is_number(const struct word *w) {
    return !w->quoted && w->len > 0 && strspn(w->text, "0123456789") == w->len;
}

/* name(a) or name(a, b) after its opening parenthesis. */
static int take_call(struct words *w, const struct word *name, struct ice_part_field *f,
                     struct word *column) {
    for (size_t t = ICE_IDENTITY; t < ICE_VOID; t++) {
        if (!name->quoted && (strcmp(name->text, transforms[t].name) == 0 ||
                              strcmp(name->text, transforms[t].plural) == 0)) {
            f->transform = (enum ice_transform)t;
        }
    }
    if (f->transform == 0) {
        return misread(w, "the transforms are identity, bucket, truncate, year, month, day, hour");
    }
    struct word args[2];
    uint32_t count = 0;
    do {
        w->at++;
        if (count == 2) {
            return misread(w, "a transform has at most two arguments");
        }
        if (take_word(w, &args[count++]) != 0) {
            return -1;
        }
    } while (*w->at == ',');
    if (*w->at != ')') {
        return misread(w, "a parenthesis is not closed");
    }
    w->at++;
    if (!has_parameter(f->transform)) {
        *column = args[0];
        return count == 1 ? 0 : misread(w, "that transform has one argument, the column");
    }
    if (count != 2 || is_number(&args[0]) == is_number(&args[1])) {
        return misread(w, "bucket and truncate have a number and a column, e.g. bucket(16,id)");
    }
    const struct word *number = is_number(&args[0]) ? &args[0] : &args[1];
    *column = number == &args[0] ? args[1] : args[0];
    long long n = number->len <= 10 ? strtoll(number->text, NULL, 10) : 0;
    if (n < 1 || n > INT32_MAX) {
        return misread(w, "the number of bucket and truncate is from 1 to 2147483647");
    }
    f->parameter = (int32_t)n;
    return 0;
}

static bool name_taken(const struct ice_spec *spec, const struct ice_schema *schema,
                       const struct ice_part_field *f, const char *name) {
    int at = ice_schema_find(schema, name);
    if (at >= 0 && !(f->transform == ICE_IDENTITY && schema->fields[at].id == f->source_id)) {
        return true;
    }
    for (uint32_t i = 0; i < spec->field_count; i++) {
        if (strcmp(spec->fields[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* "<column>_day"; with further _p where a column or field has that name. */
static void name_field(struct ice_spec *spec, const struct ice_schema *schema,
                       struct ice_part_field *f, const char *column) {
    char *name = xasprintf("%s%s", column, transforms[f->transform].suffix);
    while (name_taken(spec, schema, f, name)) {
        char *longer = xasprintf("%s_p", name);
        free(name);
        name = longer;
    }
    f->name = arena_strdup(&spec->arena, name);
    free(name);
}

static int add_field(struct words *w, struct ice_spec *spec, const struct ice_schema *schema,
                     bool strict, struct ice_part_field *f, const char *column) {
    int at = ice_schema_find(schema, column);
    if (at < 0) {
        if (!strict) {
            return 0;
        }
        err_set(w->err, ERR_FATAL, "partition_column",
                "partition=%s: the table has no column \"%s\"", w->all, column);
        return err_cure(w->err, "name one of its columns; upper and lower case differ");
    }
    f->source_id = schema->fields[at].id;
    f->source = schema->fields[at].type;
    if (!result_of(f->transform, &f->source, &f->result)) {
        struct buf type;
        buf_init(&type, SIZE_MAX);
        if (f->source.kind == LAKE_LIST) {
            buf_puts(&type, "list");
        } else {
            lake_type_put_name(&type, &f->source);
        }
        err_set(w->err, ERR_FATAL, "partition_spec",
                "partition=%s: column \"%s\" of type %s has no %s", w->all, column, buf_cstr(&type),
                transforms[f->transform].name);
        buf_release(&type);
        return err_cure(w->err,
                        "choose another transform: bucket takes whole numbers, decimals, dates, "
                        "times, text, bytes and uuids; year, month, day and hour take times");
    }
    for (uint32_t i = 0; i < spec->field_count; i++) {
        const struct ice_part_field *g = &spec->fields[i];
        if (g->source_id == f->source_id && g->transform == f->transform &&
            g->parameter == f->parameter) {
            return misread(w, "the same part stands there twice");
        }
    }
    if (spec->field_count == ICE_PARTITION_FIELDS_MAX) {
        return misread(w, "more than 8 parts");
    }
    name_field(spec, schema, f, column);
    f->field_id = ICE_PARTITION_ID_FIRST + (int32_t)spec->field_count;
    spec->fields[spec->field_count++] = *f;
    return 0;
}

static int take_part(struct words *w, struct ice_spec *spec, const struct ice_schema *schema,
                     bool strict) {
    struct ice_part_field f = { 0 };
    struct word name;
    struct word column = { 0 };
    if (take_word(w, &name) != 0) {
        return -1;
    }
    if (*w->at == '(') {
        if (take_call(w, &name, &f, &column) != 0) {
            return -1;
        }
    } else {
        f.transform = ICE_IDENTITY;
        column = name;
    }
    return add_field(w, spec, schema, strict, &f, column.text);
}

int ice_spec_parse(const char *text, const struct ice_schema *schema, bool strict,
                   struct ice_spec *out, struct err *err) {
    *out = (struct ice_spec){ 0 };
    arena_init(&out->arena);
    struct words w = { .all = text, .at = text, .arena = &out->arena, .err = err };
    skip_blanks(&w);
    int got = 0;
    bool more = *w.at != 0;
    while (got == 0 && more) {
        got = take_part(&w, out, schema, strict);
        skip_blanks(&w);
        if (got == 0 && *w.at != 0 && *w.at != ',') {
            got = misread(&w, "after a part comes a comma");
        }
        more = *w.at == ',';
        w.at += more;
    }
    if (got != 0) {
        ice_spec_release(out);
    }
    return got;
}

/* ---- JSON ---- */

void ice_spec_put_fields_json(struct buf *out, const struct ice_spec *spec) {
    buf_putc(out, '[');
    for (uint32_t i = 0; i < spec->field_count; i++) {
        const struct ice_part_field *f = &spec->fields[i];
        buf_puts(out, i ? ",{\"name\":" : "{\"name\":");
        json_put_cstr(out, f->name);
        buf_putf(out, ",\"transform\":\"%s", transforms[f->transform].name);
        if (has_parameter(f->transform)) {
            buf_putf(out, "[%" PRId32 "]", f->parameter);
        }
        buf_putf(out, "\",\"source-id\":%" PRId32 ",\"field-id\":%" PRId32 "}", f->source_id,
                 f->field_id);
    }
    buf_putc(out, ']');
}

void ice_spec_put_json(struct buf *out, const struct ice_spec *spec) {
    buf_putf(out, "{\"spec-id\":%" PRId32 ",\"fields\":", spec->id);
    ice_spec_put_fields_json(out, spec);
    buf_putc(out, '}');
}

static int spec_error(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "iceberg_spec", "read a table's partition spec: %s", what);
}

static bool take_id(const json_t *json, int32_t *out) {
    if (!json_is_integer(json) || json_integer_value(json) < 0 ||
        json_integer_value(json) > INT32_MAX) {
        return false;
    }
    *out = (int32_t)json_integer_value(json);
    return true;
}

/* "bucket[16]" */
static bool take_transform(const char *text, struct ice_part_field *f) {
    for (size_t t = ICE_IDENTITY; t <= ICE_VOID; t++) {
        size_t n = strlen(transforms[t].name);
        if (strncmp(text, transforms[t].name, n) != 0) {
            continue;
        }
        f->transform = (enum ice_transform)t;
        if (!has_parameter(f->transform)) {
            return text[n] == 0;
        }
        char *end;
        if (text[n] != '[' || text[n + 1] < '1' || text[n + 1] > '9') {
            return false;
        }
        long long v = strtoll(text + n + 1, &end, 10);
        f->parameter = (int32_t)(v <= INT32_MAX ? v : 0);
        return v <= INT32_MAX && strcmp(end, "]") == 0;
    }
    return false;
}

static const struct ice_field *source_of(const struct ice_schema *schemas, uint32_t count,
                                         int32_t id) {
    for (uint32_t i = count; i-- > 0;) {
        int at = ice_schema_find_id(&schemas[i], id);
        if (at >= 0) {
            return &schemas[i].fields[at];
        }
    }
    return NULL;
}

static int take_field(const json_t *json, const struct ice_schema *schemas, uint32_t schema_count,
                      struct ice_spec *spec, struct err *err) {
    struct ice_part_field f = { 0 };
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *transform = json_string_value(json_object_get(json, "transform"));
    const json_t *source_id = json_object_get(json, "source-id");
    const json_t *several = json_object_get(json, "source-ids");
    if (!source_id && json_array_size(several) == 1) {
        source_id = json_array_get(several, 0);
    }
    if (!name || !transform || !take_id(source_id, &f.source_id) ||
        !take_id(json_object_get(json, "field-id"), &f.field_id)) {
        return spec_error(err, "a field without name, transform, source-id or field-id");
    }
    if (!take_transform(transform, &f)) {
        return err_set(
            err, ERR_FATAL, "iceberg_spec",
            "partition field \"%s\" has the transform \"%s\", which tailrace does not know", name,
            transform);
    }
    const struct ice_field *source = source_of(schemas, schema_count, f.source_id);
    if (!source && f.transform != ICE_VOID) {
        return err_set(err, ERR_FATAL, "iceberg_spec",
                       "the source of partition field \"%s\" is in none of the table's schemas",
                       name);
    }
    f.source = source ? source->type : (struct lake_type){ .kind = LAKE_INT };
    if (!result_of(f.transform, &f.source, &f.result)) {
        return err_set(err, ERR_FATAL, "iceberg_spec",
                       "tailrace does not write tables partitioned by \"%s\" (%s)", name,
                       transform);
    }
    if (spec->field_count == ICE_PARTITION_FIELDS_MAX) {
        return spec_error(err, "more than 8 fields");
    }
    f.name = arena_strdup(&spec->arena, name);
    spec->fields[spec->field_count++] = f;
    return 0;
}

int ice_spec_from_json(const json_t *json, const struct ice_schema *schemas, uint32_t schema_count,
                       struct ice_spec *out, struct err *err) {
    *out = (struct ice_spec){ 0 };
    arena_init(&out->arena);
    const json_t *fields = json_object_get(json, "fields");
    int got = 0;
    if (!json_is_array(fields) || !take_id(json_object_get(json, "spec-id"), &out->id)) {
        got = spec_error(err, "no fields, or no valid spec-id");
    }
    for (size_t i = 0; got == 0 && i < json_array_size(fields); i++) {
        got = take_field(json_array_get(fields, i), schemas, schema_count, out, err);
    }
    if (got != 0) {
        ice_spec_release(out);
    }
    return got;
}
