/* Lake types: which one a type of the change model becomes, their names, and what widens to what.
 * See lake_type.h. Pure. */
#include "sinks/parquet/lake_type.h"

#include <stdlib.h>

enum { LAKE_PRECISION_MAX = 38 };

static const char *const names[] = {
    [LAKE_BOOL] = "boolean",        [LAKE_INT] = "int",
    [LAKE_LONG] = "long",           [LAKE_FLOAT] = "float",
    [LAKE_DOUBLE] = "double",       [LAKE_DECIMAL] = "decimal",
    [LAKE_DATE] = "date",           [LAKE_TIME] = "time",
    [LAKE_TIMESTAMP] = "timestamp", [LAKE_TIMESTAMPTZ] = "timestamptz",
    [LAKE_STRING] = "string",       [LAKE_BINARY] = "binary",
    [LAKE_UUID] = "uuid",           [LAKE_LIST] = "list",
};

static struct lake_type simple(enum lake_kind kind) { return (struct lake_type){ .kind = kind }; }

static struct lake_type decimal(int precision, int scale) {
    if (precision < 1 || precision > LAKE_PRECISION_MAX || scale < 0 || scale > precision) {
        return simple(LAKE_STRING);
    }
    return (struct lake_type){ .kind = LAKE_DECIMAL,
                               .precision = (uint8_t)precision,
                               .scale = (uint8_t)scale };
}

/* All but arrays. */
static struct lake_type of_cell(enum type_kind kind, int precision, int scale) {
    switch (kind) {
    case TYPE_BOOL:
        return simple(LAKE_BOOL);
    case TYPE_INT8:
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_UINT8:
    case TYPE_UINT16:
    case TYPE_YEAR:
        return simple(LAKE_INT);
    case TYPE_INT64:
    case TYPE_UINT32:
        return simple(LAKE_LONG);
    case TYPE_UINT64:
        return decimal(20, 0);
    case TYPE_FLOAT32:
        return simple(LAKE_FLOAT);
    case TYPE_FLOAT64:
        return simple(LAKE_DOUBLE);
    case TYPE_DECIMAL:
        return decimal(precision, scale);
    case TYPE_BYTES:
    case TYPE_GEOMETRY:
        return simple(LAKE_BINARY);
    case TYPE_DATE:
        return simple(LAKE_DATE);
    case TYPE_TIME:
        return simple(LAKE_TIME);
    case TYPE_TIMESTAMP:
        return simple(LAKE_TIMESTAMP);
    case TYPE_TIMESTAMPTZ:
        return simple(LAKE_TIMESTAMPTZ);
    case TYPE_UUID:
        return simple(LAKE_UUID);
    default:
        return simple(LAKE_STRING);
    }
}

struct lake_type lake_type_of(const struct type *type, bool as_text) {
    if (as_text) {
        return simple(LAKE_STRING);
    }
    if (type->kind != TYPE_ARRAY) {
        return of_cell(type->kind, type->precision, type->scale);
    }
    struct lake_type element = of_cell(type->element, type->precision, type->scale);
    return (struct lake_type){ .kind = LAKE_LIST,
                               .element = element.kind,
                               .precision = element.precision,
                               .scale = element.scale };
}

bool lake_type_equal(const struct lake_type *a, const struct lake_type *b) {
    return a->kind == b->kind && a->element == b->element && a->precision == b->precision &&
           a->scale == b->scale;
}

void lake_type_put_name(struct buf *out, const struct lake_type *type) {
    CHECK(type->kind >= LAKE_BOOL && type->kind < LAKE_LIST);
    if (type->kind == LAKE_DECIMAL) {
        buf_putf(out, "decimal(%u,%u)", type->precision, type->scale);
    } else {
        buf_puts(out, names[type->kind]);
    }
}

/* Spaces as Iceberg's own readers allow them: decimal(9, 2). */
static int take_number(const char **at, unsigned long max, uint8_t *out) {
    const char *p = *at + strspn(*at, " ");
    if (*p < '0' || *p > '9') {
        return -1;
    }
    char *end;
    unsigned long v = strtoul(p, &end, 10);
    if (v > max) {
        return -1;
    }
    *out = (uint8_t)v;
    *at = end + strspn(end, " ");
    return 0;
}

static int decimal_from_name(const char *at, struct lake_type *out) {
    uint8_t precision, scale;
    if (take_number(&at, LAKE_PRECISION_MAX, &precision) || *at++ != ',' ||
        take_number(&at, LAKE_PRECISION_MAX, &scale) || strcmp(at, ")") != 0) {
        return -1;
    }
    *out = decimal(precision, scale);
    return out->kind == LAKE_DECIMAL ? 0 : -1;
}

int lake_type_from_name(const char *name, struct lake_type *out) {
    if (strncmp(name, "decimal(", 8) == 0) {
        return decimal_from_name(name + 8, out);
    }
    for (enum lake_kind kind = LAKE_BOOL; kind < LAKE_LIST; kind++) {
        if (kind != LAKE_DECIMAL && strcmp(name, names[kind]) == 0) {
            *out = simple(kind);
            return 0;
        }
    }
    return -1;
}

static bool kind_widens(enum lake_kind from, enum lake_kind to) {
    return (from == LAKE_INT && to == LAKE_LONG) || (from == LAKE_FLOAT && to == LAKE_DOUBLE);
}

bool lake_type_widens(const struct lake_type *from, const struct lake_type *to) {
    if (from->kind == LAKE_LIST || to->kind == LAKE_LIST) {
        if (from->kind != to->kind) {
            return false;
        }
        struct lake_type a = { from->element, 0, from->precision, from->scale };
        struct lake_type b = { to->element, 0, to->precision, to->scale };
        return lake_type_equal(&a, &b) || lake_type_widens(&a, &b);
    }
    if (from->kind == LAKE_DECIMAL && to->kind == LAKE_DECIMAL) {
        return from->scale == to->scale && from->precision < to->precision;
    }
    return kind_widens(from->kind, to->kind);
}
