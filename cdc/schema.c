/* Schemas: building, comparing, and the steps from one to another. Immutable once shared; the
 * reference count is the only part that several tasks write. Their JSON form is in schema_json.c.
 */
#include "cdc/schema.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMN_NONE = UINT16_MAX };

struct schema *schema_new(uint64_t table_id, const char *space, const char *name,
                          uint16_t column_count) {
    CHECK(table_id <= INT64_MAX); /* it must fit a JSON integer */
    struct schema *schema = xcalloc(1, sizeof *schema);
    atomic_init(&schema->refs, 1);
    arena_init(&schema->arena);
    schema->table_id = table_id;
    schema->space = arena_strdup(&schema->arena, space);
    schema->name = arena_strdup(&schema->arena, name);
    schema->label = "";
    schema->storage = "";
    schema->identity = IDENTITY_KEY;
    schema->column_count = column_count;
    schema->columns = arena_zalloc(&schema->arena, (column_count + 1u) * sizeof *schema->columns);
    for (uint16_t i = 0; i < column_count; i++) {
        struct column_def *column = &schema->columns[i];
        column->name = "";
        column->source_type = "";
        column->source_mod = -1;
        column->key_pos = -1;
    }
    return schema;
}

static void put_label_part(struct buf *out, const char *part) {
    bool plain = *part != '\0';
    for (const char *p = part; *p; p++) {
        unsigned char c = (unsigned char)*p;
        plain = plain && c >= 0x20 && c != 0x7F && c != '.' && c != '"';
    }
    if (plain) {
        buf_puts(out, part);
        return;
    }
    buf_putc(out, '"');
    for (const char *p = part; *p; p++) {
        if (*p == '"') {
            buf_putc(out, '"');
        }
        buf_putc(out, *p);
    }
    buf_putc(out, '"');
}

static void finish_key(struct schema *schema) {
    uint16_t count = 0;
    for (uint16_t i = 0; i < schema->column_count; i++) {
        count += schema->columns[i].key_pos >= 0;
    }
    schema->key_count = count;
    schema->key = arena_zalloc(&schema->arena, (count + 1u) * sizeof *schema->key);
    schema->key_orderable = count > 0;
    for (uint16_t i = 0; i < count; i++) {
        schema->key[i] = COLUMN_NONE;
    }
    for (uint16_t i = 0; i < schema->column_count; i++) {
        const struct column_def *column = &schema->columns[i];
        if (column->key_pos < 0) {
            continue;
        }
        CHECK(column->key_pos < count && schema->key[column->key_pos] == COLUMN_NONE);
        schema->key[column->key_pos] = i;
        bool ordered =
            type_orderable(&column->type) && (column->type.kind != TYPE_TEXT || column->byte_order);
        schema->key_orderable = schema->key_orderable && ordered;
    }
}

void schema_finish(struct schema *schema) {
    struct buf label;
    buf_init(&label, SIZE_MAX);
    put_label_part(&label, schema->space);
    buf_putc(&label, '.');
    put_label_part(&label, schema->name);
    schema->label = arena_strdup(&schema->arena, buf_cstr(&label));
    buf_release(&label);
    finish_key(schema);
}

struct schema *schema_ref(struct schema *schema) {
    atomic_fetch_add_explicit(&schema->refs, 1, memory_order_relaxed);
    return schema;
}

void schema_unref(struct schema *schema) {
    if (schema && atomic_fetch_sub_explicit(&schema->refs, 1, memory_order_acq_rel) == 1) {
        arena_release(&schema->arena);
        free(schema);
    }
}

struct schema *schema_with_version(const struct schema *schema, uint32_t version) {
    struct schema *copy =
        schema_new(schema->table_id, schema->space, schema->name, schema->column_count);
    copy->storage = arena_strdup(&copy->arena, schema->storage);
    copy->version = version;
    copy->identity = schema->identity;
    copy->append = schema->append;
    for (uint16_t i = 0; i < schema->column_count; i++) {
        copy->columns[i] = schema->columns[i];
        copy->columns[i].name = arena_strdup(&copy->arena, schema->columns[i].name);
        copy->columns[i].source_type = arena_strdup(&copy->arena, schema->columns[i].source_type);
        schema_set_missing(copy, i, schema->columns[i].missing, schema->columns[i].missing_len);
    }
    schema_finish(copy);
    return copy;
}

void schema_set_missing(struct schema *schema, uint16_t column, const void *cell, uint32_t len) {
    struct column_def *c = &schema->columns[column];
    uint8_t *copy = cell ? arena_alloc(&schema->arena, (size_t)len + 1) : NULL;
    if (cell) {
        memcpy(copy, cell, len);
    }
    c->missing = copy;
    c->missing_len = cell ? len : 0;
}

int schema_column(const struct schema *schema, const char *name) {
    for (uint16_t i = 0; i < schema->column_count; i++) {
        if (strcmp(schema->columns[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

bool schema_same_rows(const struct schema *a, const struct schema *b) {
    if (a == b) {
        return true;
    }
    if (a->column_count != b->column_count || a->key_count != b->key_count) {
        return false;
    }
    for (uint16_t i = 0; i < a->column_count; i++) {
        const struct column_def *x = &a->columns[i];
        const struct column_def *y = &b->columns[i];
        if (x->key_pos != y->key_pos || !type_equal(&x->type, &y->type) ||
            strcmp(x->name, y->name) != 0) {
            return false;
        }
    }
    return true;
}

bool schema_same_definition(const struct schema *a, const struct schema *b) {
    return a->table_id == b->table_id && strcmp(a->storage, b->storage) == 0 &&
           schema_same_rows(a, b);
}

static bool same_key(const struct schema *from, const struct schema *to) {
    if (from->key_count != to->key_count) {
        return false;
    }
    for (uint16_t i = 0; i < from->key_count; i++) {
        if (strcmp(from->columns[from->key[i]].name, to->columns[to->key[i]].name) != 0) {
            return false;
        }
    }
    return true;
}

/* Are the columns of `to` out of the order that dropping from `from` and appending what is new
 * gives? */
static bool reordered(const struct schema *from, const struct schema *to) {
    int last = -1;
    bool new_seen = false;
    for (uint16_t i = 0; i < to->column_count; i++) {
        int at = schema_column(from, to->columns[i].name);
        if (at < 0) {
            new_seen = true;
            continue;
        }
        if (new_seen || at < last) {
            return true;
        }
        last = at;
    }
    return false;
}

struct steps {
    struct schema_step *out;
    size_t max;
    size_t count;
};

static void steps_add(struct steps *steps, enum schema_step_kind kind, uint16_t from_column,
                      uint16_t to_column) {
    if (steps->out && steps->count < steps->max) {
        steps->out[steps->count] = (struct schema_step){ kind, from_column, to_column };
    }
    steps->count++;
}

size_t schema_diff(const struct schema *from, const struct schema *to, struct schema_step *out,
                   size_t out_max) {
    struct steps steps = { .out = out, .max = out_max };
    if (strcmp(from->space, to->space) != 0 || strcmp(from->name, to->name) != 0) {
        steps_add(&steps, STEP_RENAME_TABLE, COLUMN_NONE, COLUMN_NONE);
    }
    for (uint16_t i = 0; i < from->column_count; i++) {
        if (schema_column(to, from->columns[i].name) < 0) {
            steps_add(&steps, STEP_DROP_COLUMN, i, COLUMN_NONE);
        }
    }
    for (uint16_t i = 0; i < to->column_count; i++) {
        int at = schema_column(from, to->columns[i].name);
        if (at < 0) {
            steps_add(&steps, STEP_ADD_COLUMN, COLUMN_NONE, i);
        } else if (!type_equal(&from->columns[at].type, &to->columns[i].type)) {
            steps_add(&steps, STEP_CHANGE_TYPE, (uint16_t)at, i);
        }
    }
    if (!same_key(from, to)) {
        steps_add(&steps, STEP_CHANGE_KEY, COLUMN_NONE, COLUMN_NONE);
    }
    if (reordered(from, to)) {
        steps_add(&steps, STEP_REORDER, COLUMN_NONE, COLUMN_NONE);
    }
    return steps.count;
}
