/* Names, widths and properties of the logical types, from one table. Pure. Thread: any.
 * The names are stable: targets store them in schemas. */
#include "cdc/type.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/buf.h"

static const struct {
    const char *name;
    uint8_t width;  /* bytes, 0 = variable; DECIMAL: by precision */
    bool orderable; /* by key.h's encoding; TEXT only with byte order, which the column says */
} kinds[TYPE_KIND_COUNT] = {
    [TYPE_BOOL] = { "bool", 1, true },
    [TYPE_INT8] = { "int8", 1, true },
    [TYPE_INT16] = { "int16", 2, true },
    [TYPE_INT32] = { "int32", 4, true },
    [TYPE_INT64] = { "int64", 8, true },
    [TYPE_UINT8] = { "uint8", 1, true },
    [TYPE_UINT16] = { "uint16", 2, true },
    [TYPE_UINT32] = { "uint32", 4, true },
    [TYPE_UINT64] = { "uint64", 8, true },
    [TYPE_FLOAT32] = { "float32", 4, true },
    [TYPE_FLOAT64] = { "float64", 8, true },
    [TYPE_DECIMAL] = { "decimal", 0, true },
    [TYPE_NUMERIC] = { "numeric", 0, false },
    [TYPE_TEXT] = { "text", 0, true },
    [TYPE_BYTES] = { "bytes", 0, true },
    [TYPE_DATE] = { "date", 4, true },
    [TYPE_TIME] = { "time", 8, true },
    [TYPE_TIMETZ] = { "timetz", 16, false },
    [TYPE_TIMESTAMP] = { "timestamp", 8, true },
    [TYPE_TIMESTAMPTZ] = { "timestamptz", 8, true },
    [TYPE_INTERVAL] = { "interval", 16, false },
    [TYPE_UUID] = { "uuid", 16, true },
    [TYPE_JSON] = { "json", 0, false },
    [TYPE_ENUM] = { "enum", 0, false },
    [TYPE_SET] = { "set", 0, false },
    [TYPE_BIT] = { "bit", 0, false },
    [TYPE_YEAR] = { "year", 2, true },
    [TYPE_GEOMETRY] = { "geometry", 0, false },
    [TYPE_ARRAY] = { "array", 0, false },
    [TYPE_OTHER] = { "other", 0, false },
};

static bool is_kind(enum type_kind kind) { return kind >= TYPE_BOOL && kind < TYPE_KIND_COUNT; }

/* Elements of an array carry no precision and are no arrays themselves: the image knows dimensions.
 */
static bool is_element(enum type_kind kind) {
    return is_kind(kind) && kind != TYPE_ARRAY && kind != TYPE_DECIMAL;
}

size_t type_width(const struct type *type) {
    CHECK(is_kind(type->kind));
    if (type->kind == TYPE_DECIMAL) {
        CHECK(type->precision >= 1 && type->precision <= DECIMAL_PRECISION_MAX);
        return type->precision <= 18 ? 8 : type->precision <= 38 ? 16 : 32;
    }
    return kinds[type->kind].width;
}

bool type_equal(const struct type *a, const struct type *b) {
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case TYPE_DECIMAL:
        return a->precision == b->precision && a->scale == b->scale;
    case TYPE_ARRAY:
        return a->element == b->element;
    default:
        return true;
    }
}

bool type_orderable(const struct type *type) {
    CHECK(is_kind(type->kind));
    return kinds[type->kind].orderable;
}

void type_put_name(struct buf *out, const struct type *type) {
    CHECK(is_kind(type->kind));
    buf_puts(out, kinds[type->kind].name);
    if (type->kind == TYPE_DECIMAL) {
        buf_putc(out, '(');
        buf_put_u64(out, type->precision);
        buf_putc(out, ',');
        buf_put_i64(out, type->scale);
        buf_putc(out, ')');
    } else if (type->kind == TYPE_ARRAY) {
        CHECK(is_element(type->element));
        buf_putc(out, '<');
        buf_puts(out, kinds[type->element].name);
        buf_putc(out, '>');
    }
}

static enum type_kind kind_from_name(const char *name, size_t len) {
    for (int kind = TYPE_BOOL; kind < TYPE_KIND_COUNT; kind++) {
        if (strlen(kinds[kind].name) == len && memcmp(kinds[kind].name, name, len) == 0) {
            return (enum type_kind)kind;
        }
    }
    return 0;
}

/* "(15,2)" up to the end of the string, as type_put_name writes it: no blanks, plus signs or
 * leading zeros. */
static int arguments_from_text(const char *s, struct type *out) {
    static const char number_begin[] = "-0123456789";
    char *end;
    if (s[0] != '(' || !s[1] || !strchr(number_begin, s[1])) {
        return -1;
    }
    long precision = strtol(s + 1, &end, 10);
    if (*end != ',' || !end[1] || !strchr(number_begin, end[1])) {
        return -1;
    }
    long scale = strtol(end + 1, &end, 10);
    if (strcmp(end, ")") != 0 || precision < 1 || precision > DECIMAL_PRECISION_MAX ||
        scale < INT16_MIN || scale > INT16_MAX) {
        return -1;
    }
    out->precision = (uint16_t)precision;
    out->scale = (int16_t)scale;
    struct buf again;
    buf_init(&again, SIZE_MAX);
    type_put_name(&again, out);
    bool same = strcmp(buf_cstr(&again) + strlen(kinds[TYPE_DECIMAL].name), s) == 0;
    buf_release(&again);
    return same ? 0 : -1;
}

int type_from_name(const char *name, struct type *out) {
    size_t len = strcspn(name, "(<");
    struct type type = { .kind = kind_from_name(name, len) };
    const char *rest = name + len;
    if (!is_kind(type.kind)) {
        return -1;
    }
    if (type.kind == TYPE_DECIMAL) {
        if (arguments_from_text(rest, &type)) {
            return -1;
        }
    } else if (type.kind == TYPE_ARRAY) {
        size_t rest_len = strlen(rest);
        if (rest_len < 3 || rest[0] != '<' || rest[rest_len - 1] != '>') {
            return -1;
        }
        type.element = kind_from_name(rest + 1, rest_len - 2);
        if (!is_element(type.element)) {
            return -1;
        }
    } else if (*rest) {
        return -1;
    }
    *out = type;
    return 0;
}
