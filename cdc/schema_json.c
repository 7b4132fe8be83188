/* The JSON form of a schema, as targets store it, and back. What comes back is input: every field
 * is checked, an unknown one is passed over (a target may keep its own beside ours). Pure. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/json.h"
#include "cdc/schema.h"

static void put_column(struct buf *out, const struct column_def *column) {
    buf_puts(out, "{\"name\":");
    json_put_cstr(out, column->name);
    buf_puts(out, ",\"type\":\"");
    type_put_name(out, &column->type);
    buf_puts(out, "\",\"source\":");
    json_put_cstr(out, column->source_type);
    buf_puts(out, ",\"oid\":");
    buf_put_u64(out, column->source_oid);
    buf_puts(out, ",\"mod\":");
    buf_put_i64(out, column->source_mod);
    buf_puts(out, column->nullable ? ",\"nullable\":true" : ",\"nullable\":false");
    buf_puts(out, ",\"key\":");
    buf_put_i64(out, column->key_pos);
    buf_puts(out, column->byte_order ? ",\"bytes\":true" : ",\"bytes\":false");
    if (column->missing) {
        buf_puts(out, ",\"missing\":\"");
        for (uint32_t i = 0; i < column->missing_len; i++) {
            buf_putf(out, "%02x", column->missing[i]);
        }
        buf_putc(out, '"');
    }
    buf_putc(out, '}');
}

void schema_put_json(struct buf *out, const struct schema *schema) {
    char identity[2] = { (char)schema->identity, '\0' };
    buf_puts(out, "{\"table\":");
    json_put_cstr(out, schema->label);
    buf_puts(out, ",\"id\":");
    buf_put_u64(out, schema->table_id);
    buf_puts(out, ",\"space\":");
    json_put_cstr(out, schema->space);
    buf_puts(out, ",\"name\":");
    json_put_cstr(out, schema->name);
    buf_puts(out, ",\"version\":");
    buf_put_u64(out, schema->version);
    buf_puts(out, ",\"identity\":");
    json_put_cstr(out, identity);
    buf_puts(out, ",\"storage\":");
    json_put_cstr(out, schema->storage);
    buf_puts(out, ",\"columns\":[");
    for (uint16_t i = 0; i < schema->column_count; i++) {
        if (i > 0) {
            buf_putc(out, ',');
        }
        put_column(out, &schema->columns[i]);
    }
    buf_puts(out, "]}");
}

static int malformed(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "schema_malformed", "a stored schema cannot be read: %s", what);
}

static int wrong_field(struct err *err, const char *key) {
    return err_set(err, ERR_FATAL, "schema_malformed",
                   "a stored schema cannot be read: \"%s\" is missing or wrong", key);
}

static int take_text(const json_t *object, const char *key, const char **out, struct err *err) {
    *out = json_string_value(json_object_get(object, key));
    return *out ? 0 : wrong_field(err, key);
}

static int take_integer(const json_t *object, const char *key, int64_t min, int64_t max,
                        int64_t *out, struct err *err) {
    const json_t *value = json_object_get(object, key);
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= min && *out <= max ? 0 : wrong_field(err, key);
}

static int take_bool(const json_t *object, const char *key, bool *out, struct err *err) {
    const json_t *value = json_object_get(object, key);
    *out = json_is_true(value);
    return json_is_boolean(value) ? 0 : wrong_field(err, key);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Of a column whose type is known. */
static int take_missing(const json_t *object, struct schema *schema, uint16_t i, struct err *err) {
    const json_t *value = json_object_get(object, "missing");
    const char *hex = json_string_value(value);
    size_t len = json_string_length(value), width = type_width(&schema->columns[i].type);
    if (!value) {
        return 0;
    }
    if (!hex || len % 2 != 0 || len / 2 > UINT32_MAX || (width && len / 2 != width)) {
        return wrong_field(err, "missing");
    }
    uint8_t *cell = arena_alloc(&schema->arena, len / 2 + 1);
    for (size_t k = 0; k < len; k += 2) {
        int high = hex_digit(hex[k]), low = hex_digit(hex[k + 1]);
        if (high < 0 || low < 0) {
            return wrong_field(err, "missing");
        }
        cell[k / 2] = (uint8_t)(high << 4 | low);
    }
    schema->columns[i].missing = cell;
    schema->columns[i].missing_len = (uint32_t)(len / 2);
    return 0;
}

static int take_column(const json_t *object, struct schema *schema, uint16_t i, struct err *err) {
    struct column_def *column = &schema->columns[i];
    const char *name;
    const char *type;
    const char *source;
    int64_t oid;
    int64_t mod;
    int64_t key;
    if (take_text(object, "name", &name, err) || take_text(object, "type", &type, err) ||
        take_text(object, "source", &source, err) ||
        take_integer(object, "oid", 0, UINT32_MAX, &oid, err) ||
        take_integer(object, "mod", INT32_MIN, INT32_MAX, &mod, err) ||
        take_bool(object, "nullable", &column->nullable, err) ||
        take_integer(object, "key", -1, INT16_MAX, &key, err) ||
        take_bool(object, "bytes", &column->byte_order, err)) {
        return -1;
    }
    if (type_from_name(type, &column->type)) {
        return err_set(err, ERR_FATAL, "schema_malformed",
                       "a stored schema cannot be read: there is no type \"%s\"", type);
    }
    if (!*name || schema_column(schema, name) >= 0) {
        return err_set(
            err, ERR_FATAL, "schema_malformed",
            "a stored schema cannot be read: the column name \"%s\" is empty or there twice", name);
    }
    column->name = arena_strdup(&schema->arena, name);
    column->source_type = arena_strdup(&schema->arena, source);
    column->source_oid = (uint32_t)oid;
    column->source_mod = (int32_t)mod;
    column->key_pos = (int16_t)key;
    return take_missing(object, schema, i, err);
}

/* The ordinals of the key columns are 0, 1, 2..., each once. */
static int check_key(const struct schema *schema, struct err *err) {
    uint32_t count = 0;
    for (uint16_t i = 0; i < schema->column_count; i++) {
        count += schema->columns[i].key_pos >= 0;
    }
    uint8_t *seen = xcalloc(count + 1u, 1);
    bool wrong = false;
    for (uint16_t i = 0; i < schema->column_count && !wrong; i++) {
        int pos = schema->columns[i].key_pos;
        if (pos >= 0) {
            wrong = (uint32_t)pos >= count || seen[pos];
            seen[wrong ? 0 : pos] = 1;
        }
    }
    free(seen);
    return wrong ? malformed(err, "its key columns are not numbered 0, 1, 2") : 0;
}

static int take_columns(const json_t *columns, struct schema *schema, struct err *err) {
    for (uint16_t i = 0; i < schema->column_count; i++) {
        const json_t *column = json_array_get(columns, i);
        if (!json_is_object(column)) {
            return wrong_field(err, "columns");
        }
        if (take_column(column, schema, i, err)) {
            return -1;
        }
    }
    return check_key(schema, err);
}

static int take_identity(const json_t *object, struct schema *schema, struct err *err) {
    const char *identity;
    if (take_text(object, "identity", &identity, err)) {
        return -1;
    }
    if (strlen(identity) != 1 || !strchr("difn", identity[0])) {
        return wrong_field(err, "identity");
    }
    schema->identity = (enum table_identity)identity[0];
    return 0;
}

static struct schema *schema_from_object(const json_t *object, struct err *err) {
    const char *label;
    const char *space;
    const char *name;
    const char *storage;
    int64_t id;
    int64_t version;
    const json_t *columns = json_object_get(object, "columns");
    if (!json_is_object(object)) {
        malformed(err, "it is no JSON object");
        return NULL;
    }
    if (take_text(object, "table", &label, err) ||
        take_integer(object, "id", 0, INT64_MAX, &id, err) ||
        take_text(object, "space", &space, err) || take_text(object, "name", &name, err) ||
        take_integer(object, "version", 0, UINT32_MAX, &version, err) ||
        take_text(object, "storage", &storage, err)) {
        return NULL;
    }
    if (!json_is_array(columns) || json_array_size(columns) >= UINT16_MAX) {
        wrong_field(err, "columns");
        return NULL;
    }
    struct schema *schema =
        schema_new((uint64_t)id, space, name, (uint16_t)json_array_size(columns));
    schema->version = (uint32_t)version;
    schema->storage = arena_strdup(&schema->arena, storage);
    if (take_identity(object, schema, err) || take_columns(columns, schema, err)) {
        schema_unref(schema);
        return NULL;
    }
    schema_finish(schema);
    if (strcmp(schema->label, label) != 0) {
        wrong_field(err, "table");
        schema_unref(schema);
        return NULL;
    }
    return schema;
}

struct schema *schema_from_json(const char *json, size_t len, struct err *err) {
    json_error_t where;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        malformed(err, where.text);
        return NULL;
    }
    struct schema *schema = schema_from_object(root, err);
    json_decref(root);
    return schema;
}
