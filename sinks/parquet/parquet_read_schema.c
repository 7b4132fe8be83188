/* The schema: SchemaElements, depth first, become top-level fields. What no lake type says
 * (structures, maps, nanoseconds, INT96, ...) stays a field that nobody can open, so that the
 * others of such a file can be read. Lists are those of three levels:
 *
 *   optional|required group NAME (LIST) { repeated group * { optional|required ELEMENT * } } */
#include <stdlib.h>

#include "sinks/parquet/parquet_read.h"
#include "sinks/parquet/thrift_take.h"

enum { PRECISION_MAX = 38, DECIMAL_BYTES_MAX = 32 };

struct element {
    bool is_leaf, has_repetition;
    int32_t physical, type_length, repetition, children, converted, scale, precision, id;
    int32_t logical; /* member of the union; 0 = none */
    int32_t logical_scale, logical_precision, bit_width, unit;
    bool utc, is_signed;
    const uint8_t *name;
    size_t name_len;
};

static void take_unit(struct thrift_take *t, enum thrift_type type, struct element *e) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        e->unit = id;
        thrift_take_skip(t, type);
    }
}

/* What is inside of the union's member. */
static void take_logical_member(struct thrift_take *t, enum thrift_type type, struct element *e) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        bool is_time = e->logical == LOGICAL_TIME || e->logical == LOGICAL_TIMESTAMP;
        if (e->logical == LOGICAL_DECIMAL && id == 1) {
            e->logical_scale = thrift_take_i32(t, type);
        } else if (e->logical == LOGICAL_DECIMAL && id == 2) {
            e->logical_precision = thrift_take_i32(t, type);
        } else if (is_time && id == 1) {
            e->utc = thrift_take_bool(t, type);
        } else if (is_time && id == 2) {
            take_unit(t, type, e);
        } else if (e->logical == LOGICAL_INTEGER && id == 1) {
            e->bit_width = thrift_take_i32(t, type);
        } else if (e->logical == LOGICAL_INTEGER && id == 2) {
            e->is_signed = thrift_take_bool(t, type);
        } else {
            thrift_take_skip(t, type);
        }
    }
}

static void take_logical(struct thrift_take *t, enum thrift_type type, struct element *e) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        e->logical = id;
        take_logical_member(t, type, e);
    }
}

static void take_element(struct thrift_take *t, struct element *e) {
    *e = (struct element){ .converted = -1, .repetition = -1 };
    int16_t id = 0;
    enum thrift_type type;
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case SCHEMA_TYPE:
            e->physical = thrift_take_i32(t, type);
            e->is_leaf = true;
            break;
        case SCHEMA_TYPE_LENGTH:
            e->type_length = thrift_take_i32(t, type);
            break;
        case SCHEMA_REPETITION:
            e->repetition = thrift_take_i32(t, type);
            break;
        case SCHEMA_NAME:
            e->name = thrift_take_binary(t, type, &e->name_len);
            break;
        case SCHEMA_NUM_CHILDREN:
            e->children = thrift_take_i32(t, type);
            break;
        case SCHEMA_CONVERTED_TYPE:
            e->converted = thrift_take_i32(t, type);
            break;
        case SCHEMA_SCALE:
            e->scale = thrift_take_i32(t, type);
            break;
        case SCHEMA_PRECISION:
            e->precision = thrift_take_i32(t, type);
            break;
        case SCHEMA_FIELD_ID:
            e->id = thrift_take_i32(t, type);
            break;
        case SCHEMA_LOGICAL_TYPE:
            take_logical(t, type, e);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

/* ConvertedTypes of older writers as the LogicalTypes that they stand for. */
static void logical_of_converted(struct element *e) {
    if (e->logical != 0) {
        return;
    }
    e->logical_scale = e->scale;
    e->logical_precision = e->precision;
    e->utc = true;
    switch (e->converted) {
    case CONVERTED_UTF8:
        e->logical = LOGICAL_STRING;
        break;
    case CONVERTED_MAP:
        e->logical = LOGICAL_MAP;
        break;
    case CONVERTED_LIST:
        e->logical = LOGICAL_LIST;
        break;
    case CONVERTED_ENUM:
        e->logical = LOGICAL_ENUM;
        break;
    case CONVERTED_DECIMAL:
        e->logical = LOGICAL_DECIMAL;
        break;
    case CONVERTED_DATE:
        e->logical = LOGICAL_DATE;
        break;
    case CONVERTED_TIME_MILLIS:
    case CONVERTED_TIME_MICROS:
        e->logical = LOGICAL_TIME;
        e->unit = e->converted == CONVERTED_TIME_MILLIS ? TIME_UNIT_MILLIS : TIME_UNIT_MICROS;
        break;
    case CONVERTED_TIMESTAMP_MILLIS:
    case CONVERTED_TIMESTAMP_MICROS:
        e->logical = LOGICAL_TIMESTAMP;
        e->unit = e->converted == CONVERTED_TIMESTAMP_MILLIS ? TIME_UNIT_MILLIS : TIME_UNIT_MICROS;
        break;
    case CONVERTED_UINT_8:
    case CONVERTED_UINT_16:
    case CONVERTED_UINT_32:
    case CONVERTED_UINT_64:
    case CONVERTED_INT_8:
    case CONVERTED_INT_16:
    case CONVERTED_INT_32:
    case CONVERTED_INT_64:
        e->logical = LOGICAL_INTEGER;
        e->is_signed = e->converted >= CONVERTED_INT_8;
        e->bit_width = 8 << (e->converted - (e->is_signed ? CONVERTED_INT_8 : CONVERTED_UINT_8));
        break;
    case CONVERTED_JSON:
        e->logical = LOGICAL_JSON;
        break;
    case CONVERTED_BSON:
        e->logical = LOGICAL_BSON;
        break;
    default:
        break;
    }
}

static const char *is_kind(struct read_leaf *leaf, enum lake_kind kind, uint32_t width,
                           enum read_convert convert) {
    leaf->type.kind = kind;
    leaf->width = width;
    leaf->convert = convert;
    return NULL;
}

static const char *decimal_leaf(struct read_leaf *leaf, const struct element *e) {
    int32_t p = e->logical_precision;
    int32_t s = e->logical_scale;
    if (p < 1 || p > PRECISION_MAX || s < 0 || s > p) {
        return "a decimal of more than 38 digits, or a scale outside of its digits";
    }
    leaf->type = (struct lake_type){ .precision = (uint8_t)p, .scale = (uint8_t)s };
    uint32_t width = p <= 18 ? 8 : 16;
    switch (leaf->physical) {
    case PHYSICAL_INT32:
        return p <= 9 ? is_kind(leaf, LAKE_DECIMAL, width, CONVERT_SIGNED_32)
                      : "a decimal of more than 9 digits over INT32";
    case PHYSICAL_INT64:
        return p <= 18 ? is_kind(leaf, LAKE_DECIMAL, width, CONVERT_NONE)
                       : "a decimal of more than 18 digits over INT64";
    case PHYSICAL_BYTE_ARRAY:
    case PHYSICAL_FIXED:
        return leaf->raw_width <= DECIMAL_BYTES_MAX
                   ? is_kind(leaf, LAKE_DECIMAL, width, CONVERT_BIG_ENDIAN)
                   : "a decimal of more than 32 bytes";
    default:
        return "a decimal over a physical type that cannot hold one";
    }
}

static const char *time_leaf(struct read_leaf *leaf, const struct element *e) {
    bool stamp = e->logical == LOGICAL_TIMESTAMP;
    enum lake_kind kind = !stamp ? LAKE_TIME : e->utc ? LAKE_TIMESTAMPTZ : LAKE_TIMESTAMP;
    if (e->unit == TIME_UNIT_NANOS) {
        return "nanoseconds, where the lake has microseconds";
    }
    if (e->unit == TIME_UNIT_MICROS && leaf->physical == PHYSICAL_INT64) {
        return is_kind(leaf, kind, 8, CONVERT_NONE);
    }
    if (e->unit == TIME_UNIT_MILLIS && leaf->physical == PHYSICAL_INT64 && stamp) {
        return is_kind(leaf, kind, 8, CONVERT_MILLIS_64);
    }
    if (e->unit == TIME_UNIT_MILLIS && leaf->physical == PHYSICAL_INT32 && !stamp) {
        return is_kind(leaf, kind, 8, CONVERT_MILLIS_32);
    }
    return "a time over a physical type that cannot hold one";
}

static const char *integer_leaf(struct read_leaf *leaf, const struct element *e) {
    if (leaf->physical == PHYSICAL_INT32 && (e->bit_width == 8 || e->bit_width == 16)) {
        return is_kind(leaf, LAKE_INT, 4, CONVERT_NONE);
    }
    if (leaf->physical == PHYSICAL_INT32 && e->bit_width == 32) {
        return e->is_signed ? is_kind(leaf, LAKE_INT, 4, CONVERT_NONE)
                            : is_kind(leaf, LAKE_LONG, 8, CONVERT_UNSIGNED_32);
    }
    if (leaf->physical == PHYSICAL_INT64 && e->bit_width == 64) {
        if (e->is_signed) {
            return is_kind(leaf, LAKE_LONG, 8, CONVERT_NONE);
        }
        leaf->type.precision = 20;
        return is_kind(leaf, LAKE_DECIMAL, 16, CONVERT_UNSIGNED_64);
    }
    return "an integer whose width is not that of its physical type";
}

static const char *plain_leaf(struct read_leaf *leaf) {
    switch (leaf->physical) {
    case PHYSICAL_BOOLEAN:
        return is_kind(leaf, LAKE_BOOL, 1, CONVERT_NONE);
    case PHYSICAL_INT32:
        return is_kind(leaf, LAKE_INT, 4, CONVERT_NONE);
    case PHYSICAL_INT64:
        return is_kind(leaf, LAKE_LONG, 8, CONVERT_NONE);
    case PHYSICAL_FLOAT:
        return is_kind(leaf, LAKE_FLOAT, 4, CONVERT_NONE);
    case PHYSICAL_DOUBLE:
        return is_kind(leaf, LAKE_DOUBLE, 8, CONVERT_NONE);
    case PHYSICAL_INT96:
        return "INT96, the deprecated timestamp of nanoseconds";
    default:
        return is_kind(leaf, LAKE_BINARY, 0, CONVERT_NONE);
    }
}

/* Which lake type a leaf is; else why none. */
static const char *type_leaf(struct read_leaf *leaf, struct element *e) {
    static const uint8_t widths[] = {
        [PHYSICAL_BOOLEAN] = 1,   [PHYSICAL_INT32] = 4, [PHYSICAL_INT64] = 8,
        [PHYSICAL_INT96] = 12,    [PHYSICAL_FLOAT] = 4, [PHYSICAL_DOUBLE] = 8,
        [PHYSICAL_BYTE_ARRAY] = 0
    };
    if (e->physical < 0 || e->physical > PHYSICAL_FIXED) {
        return "a physical type that is not known";
    }
    leaf->physical = (enum parquet_physical)e->physical;
    bool fixed = leaf->physical == PHYSICAL_FIXED;
    if (fixed && e->type_length <= 0) {
        return "FIXED_LEN_BYTE_ARRAY without a length";
    }
    leaf->raw_width = fixed ? (uint32_t)e->type_length : widths[leaf->physical];
    if (e->converted == CONVERTED_INTERVAL && e->logical == 0) {
        return "an interval";
    }
    logical_of_converted(e);
    switch (e->logical) {
    case 0:
        return plain_leaf(leaf);
    case LOGICAL_STRING:
    case LOGICAL_ENUM:
    case LOGICAL_JSON:
        return leaf->physical == PHYSICAL_BYTE_ARRAY ? is_kind(leaf, LAKE_STRING, 0, CONVERT_NONE)
                                                     : "text that is not BYTE_ARRAY";
    case LOGICAL_BSON:
        return leaf->physical == PHYSICAL_BYTE_ARRAY ? is_kind(leaf, LAKE_BINARY, 0, CONVERT_NONE)
                                                     : "BSON that is not BYTE_ARRAY";
    case LOGICAL_DECIMAL:
        return decimal_leaf(leaf, e);
    case LOGICAL_DATE:
        return leaf->physical == PHYSICAL_INT32 ? is_kind(leaf, LAKE_DATE, 4, CONVERT_NONE)
                                                : "a date that is not INT32";
    case LOGICAL_TIME:
    case LOGICAL_TIMESTAMP:
        return time_leaf(leaf, e);
    case LOGICAL_INTEGER:
        return integer_leaf(leaf, e);
    case LOGICAL_UUID:
        return fixed && leaf->raw_width == 16 ? is_kind(leaf, LAKE_UUID, 16, CONVERT_NONE)
                                              : "a UUID that is not 16 bytes";
    default:
        return "a logical type that the lake does not have";
    }
}

/* The elements of a schema, one after another. */
struct walk {
    struct parquet_reader *r;
    struct thrift_take *t;
    uint32_t left; /* elements to come */
    struct err *err;
};

static int next_element(struct walk *w, struct element *e) {
    if (w->left == 0) {
        return read_damaged(w->r, NULL, w->err, "its schema ends before its groups do");
    }
    w->left--;
    take_element(w->t, e);
    if (w->t->bad || e->children < 0 || (e->is_leaf && e->children > 0) ||
        (uint32_t)e->children > w->left) {
        return read_damaged(w->r, NULL, w->err, "its schema is malformed");
    }
    return 0;
}

/* Everything below an element that has so many children; its columns are counted. */
static int pass_below(struct walk *w, uint64_t children) {
    while (children > 0) {
        struct element e;
        if (next_element(w, &e)) {
            return -1;
        }
        w->r->column_count += e.is_leaf ? 1 : 0;
        children += (uint64_t)e.children;
        children--;
    }
    return 0;
}

static int list_field(struct walk *w, struct read_field *f) {
    struct element middle, value;
    if (next_element(w, &middle)) {
        return -1;
    }
    f->leaf.refused = "a list that does not have three levels";
    if (middle.is_leaf || middle.repetition != REPETITION_REPEATED || middle.children != 1) {
        w->r->column_count += middle.is_leaf ? 1 : 0;
        return pass_below(w, (uint64_t)middle.children);
    }
    if (next_element(w, &value)) {
        return -1;
    }
    if (!value.is_leaf || value.repetition < 0 || value.repetition == REPETITION_REPEATED) {
        w->r->column_count += value.is_leaf ? 1 : 0;
        f->leaf.refused = "a list of structures or lists";
        return pass_below(w, (uint64_t)value.children);
    }
    f->leaf.column = w->r->column_count++;
    f->leaf.refused = type_leaf(&f->leaf, &value);
    f->leaf.max_repetition = 1;
    f->leaf.max_definition =
        (uint8_t)(!f->field.required + 1 + (value.repetition == REPETITION_OPTIONAL));
    if (!f->leaf.refused) {
        f->field.type = f->leaf.type;
        f->field.type.element = f->leaf.type.kind;
        f->field.type.kind = LAKE_LIST;
    }
    return 0;
}

static int top_field(struct walk *w, struct read_field *f) {
    struct element e;
    if (next_element(w, &e)) {
        return -1;
    }
    f->field.name = xstrndup(e.name ? (const char *)e.name : "", e.name_len);
    f->field.field_id = e.id;
    f->field.required = e.repetition == REPETITION_REQUIRED;
    if (e.repetition < REPETITION_REQUIRED || e.repetition > REPETITION_REPEATED) {
        return read_damaged(w->r, f->field.name, w->err, "it is neither required nor optional");
    }
    if (e.is_leaf) {
        f->leaf.column = w->r->column_count++;
        f->leaf.refused = e.repetition == REPETITION_REPEATED ? "a repeated value without a list"
                                                              : type_leaf(&f->leaf, &e);
        f->leaf.max_definition = f->field.required ? 0 : 1;
        f->field.type = f->leaf.refused ? (struct lake_type){ 0 } : f->leaf.type;
        return 0;
    }
    logical_of_converted(&e);
    if (e.logical == LOGICAL_LIST && e.children == 1 && e.repetition != REPETITION_REPEATED) {
        return list_field(w, f);
    }
    f->leaf.refused = e.logical == LOGICAL_LIST  ? "a list that does not have three levels"
                      : e.logical == LOGICAL_MAP ? "a map"
                                                 : "a structure";
    return pass_below(w, (uint64_t)e.children);
}

int read_schema(struct parquet_reader *r, struct thrift_take *t, enum thrift_type type,
                struct err *err) {
    struct walk w = { .r = r, .t = t, .err = err };
    struct element root;
    if (r->fields) {
        return read_damaged(r, NULL, err, "it has two schemas");
    }
    w.left = thrift_take_list(t, type, THRIFT_STRUCT);
    if (next_element(&w, &root)) {
        return -1;
    }
    r->fields = xcalloc((size_t)root.children + 1, sizeof *r->fields);
    for (; r->field_count < (uint32_t)root.children; r->field_count++) {
        if (top_field(&w, &r->fields[r->field_count])) {
            free((char *)r->fields[r->field_count].field.name);
            return -1;
        }
    }
    if (w.left > 0) {
        return read_damaged(r, NULL, err, "its schema has more elements than its groups");
    }
    r->field_of = xmalloc(((size_t)r->column_count + 1) * sizeof *r->field_of);
    for (uint32_t i = 0; i < r->column_count; i++) {
        r->field_of[i] = -1;
    }
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!r->fields[i].leaf.refused) {
            r->field_of[r->fields[i].leaf.column] = (int32_t)i;
        }
    }
    return 0;
}
