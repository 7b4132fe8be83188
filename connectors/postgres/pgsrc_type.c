/* The type map of PostgreSQL and the decode plans made from it. Built-in types are known by their
 * oid, which never changes; domains, enums and arrays of them are found through the caller's
 * catalogue. What has no exact support becomes TYPE_OTHER, the server's own text: a value is never
 * approximated. Pure; thread: any. */
#include <stdlib.h>

#include "connectors/postgres/pgsrc_plan.h"

enum { DOMAIN_DEPTH_MAX = 32, OID_NUMERIC = 1700 };

struct builtin {
    uint32_t oid;
    uint32_t array_oid; /* 0: arrays of it stay text */
    uint8_t kind;       /* enum type_kind */
    uint8_t decode;     /* enum pgsrc_decode */
    uint8_t wire_bytes;
};

static const struct builtin builtins[] = {
    { 16, 1000, TYPE_BOOL, DECODE_BOOL, 1 },
    { 17, 1001, TYPE_BYTES, DECODE_BYTES, 0 },
    { 18, 1002, TYPE_TEXT, DECODE_CHAR, 1 }, /* "char" */
    { 19, 1003, TYPE_TEXT, DECODE_RAW, 0 },  /* name */
    { 20, 1016, TYPE_INT64, DECODE_INT64, 8 },
    { 21, 1005, TYPE_INT16, DECODE_INT16, 2 },
    { 23, 1007, TYPE_INT32, DECODE_INT32, 4 },
    { 25, 1009, TYPE_TEXT, DECODE_RAW, 0 },      /* text */
    { 26, 1028, TYPE_UINT32, DECODE_UINT32, 4 }, /* oid */
    { 27, 0, TYPE_OTHER, DECODE_TID, 6 },
    { 28, 0, TYPE_OTHER, DECODE_XID, 4 },
    { 29, 0, TYPE_OTHER, DECODE_XID, 4 }, /* cid */
    { 114, 199, TYPE_JSON, DECODE_RAW, 0 },
    { 142, 143, TYPE_TEXT, DECODE_RAW, 0 }, /* xml */
    { 650, 0, TYPE_OTHER, DECODE_INET, 0 }, /* cidr */
    { 700, 1021, TYPE_FLOAT32, DECODE_FLOAT32, 4 },
    { 701, 1022, TYPE_FLOAT64, DECODE_FLOAT64, 8 },
    { 774, 0, TYPE_OTHER, DECODE_MACADDR8, 8 },
    { 829, 0, TYPE_OTHER, DECODE_MACADDR, 6 },
    { 869, 0, TYPE_OTHER, DECODE_INET, 0 },
    { 1042, 1014, TYPE_TEXT, DECODE_RAW, 0 }, /* bpchar */
    { 1043, 1015, TYPE_TEXT, DECODE_RAW, 0 }, /* varchar */
    { 1082, 1182, TYPE_DATE, DECODE_DATE, 4 },
    { 1083, 1183, TYPE_TIME, DECODE_TIME, 8 },
    { 1114, 1115, TYPE_TIMESTAMP, DECODE_TIMESTAMP, 8 },
    { 1184, 1185, TYPE_TIMESTAMPTZ, DECODE_TIMESTAMPTZ, 8 },
    { 1186, 1187, TYPE_INTERVAL, DECODE_INTERVAL, 16 },
    { 1266, 1270, TYPE_TIMETZ, DECODE_TIMETZ, 12 },
    { 1560, 1561, TYPE_BIT, DECODE_BIT, 0 },
    { 1562, 1563, TYPE_BIT, DECODE_BIT, 0 }, /* varbit */
    { OID_NUMERIC, 1231, TYPE_NUMERIC, DECODE_NUMERIC, 0 },
    { 1790, 0, TYPE_OTHER, DECODE_RAW, 0 }, /* refcursor */
    { 2950, 2951, TYPE_UUID, DECODE_UUID, 16 },
    { 3220, 0, TYPE_OTHER, DECODE_LSN, 8 },
    { 3802, 3807, TYPE_JSON, DECODE_VERSIONED, 0 }, /* jsonb */
    { 4072, 0, TYPE_OTHER, DECODE_VERSIONED, 0 },   /* jsonpath */
    { 5069, 0, TYPE_OTHER, DECODE_XID8, 8 },
};

static const struct builtin *builtin_of(uint32_t oid) {
    for (size_t i = 0; i < ARRAY_COUNT(builtins); i++) {
        if (builtins[i].oid == oid) {
            return &builtins[i];
        }
    }
    return NULL;
}

static const struct builtin *builtin_of_array(uint32_t array_oid) {
    for (size_t i = 0; array_oid != 0 && i < ARRAY_COUNT(builtins); i++) {
        if (builtins[i].array_oid == array_oid) {
            return &builtins[i];
        }
    }
    return NULL;
}

static const struct pgsrc_pg_type *look_up(pgsrc_lookup_fn lookup, void *arg, uint32_t oid) {
    return lookup ? lookup(arg, oid) : NULL;
}

/* What lies under any domains. Vectors (int2vector, oidvector) look like arrays in the catalogue
 * but are written differently: only the arrays listed above and arrays of enums are taken as such.
 * A domain's modifier counts only where nothing above it had one, as in getBaseTypeAndTypmod. */
struct resolved {
    uint32_t oid;
    int32_t mod;
    bool is_enum;
    uint32_t element; /* of a true array with elements that are read here, else 0 */
    bool element_is_enum;
};

static struct resolved resolve(uint32_t oid, int32_t mod, pgsrc_lookup_fn lookup, void *arg) {
    struct resolved r = { .oid = oid, .mod = mod };
    for (int depth = 0; depth <= DOMAIN_DEPTH_MAX; depth++) {
        if (builtin_of(r.oid)) {
            return r;
        }
        const struct builtin *element = builtin_of_array(r.oid);
        if (element) {
            r.element = element->oid;
            return r;
        }
        const struct pgsrc_pg_type *t = look_up(lookup, arg, r.oid);
        if (!t) {
            return r;
        }
        if (t->kind == 'd') {
            r.oid = t->base;
            r.mod = r.mod == -1 ? t->base_mod : r.mod;
            continue;
        }
        r.is_enum = t->kind == 'e';
        if (t->kind == 'b' && t->element_kind == 'e' && t->element != 0) {
            r.element = t->element;
            r.element_is_enum = true;
        }
        return r;
    }
    r.oid = 0; /* deeper than any real domain: text */
    return r;
}

/* numeric(p,s): the modifier holds p in the high half and s as 11 bits with sign in the low one,
 * plus 4. */
static void map_numeric(int32_t mod, struct type *out) {
    *out = (struct type){ .kind = TYPE_NUMERIC };
    if (mod < 4) {
        return;
    }
    uint32_t bits = (uint32_t)mod - 4;
    uint32_t precision = bits >> 16;
    int scale = (int)((bits & 0x7ff) ^ 1024) - 1024;
    if (precision >= 1 && precision <= DECIMAL_PRECISION_MAX) {
        *out = (struct type){ .kind = TYPE_DECIMAL,
                              .precision = (uint16_t)precision,
                              .scale = (int16_t)scale };
    }
}

static void map_resolved(const struct resolved *r, struct type *out) {
    *out = (struct type){ .kind = TYPE_OTHER };
    const struct builtin *b = builtin_of(r->oid);
    if (r->oid == OID_NUMERIC) {
        map_numeric(r->mod, out);
    } else if (b) {
        out->kind = (enum type_kind)b->kind;
    } else if (r->is_enum) {
        out->kind = TYPE_ENUM;
    } else if (r->element) {
        const struct builtin *e = builtin_of(r->element);
        out->kind = TYPE_ARRAY;
        out->element = r->element_is_enum ? TYPE_ENUM : (enum type_kind)e->kind;
    }
}

void pgsrc_type_map(uint32_t oid, int32_t mod, pgsrc_lookup_fn lookup, void *arg,
                    struct type *out) {
    struct resolved r = resolve(oid, mod, lookup, arg);
    map_resolved(&r, out);
}

void pgsrc_step_init(struct pgsrc_step *step, uint32_t base_oid, const struct type *type,
                     bool is_enum) {
    const struct builtin *b = builtin_of(base_oid);
    *step = (struct pgsrc_step){ .type = *type, .width = (uint8_t)type_width(type) };
    if (type->kind == TYPE_OTHER && (!b || b->kind != TYPE_OTHER)) {
        step->decode = DECODE_TEXT_ONLY;
        return;
    }
    step->binary = true;
    if (type->kind == TYPE_ENUM && is_enum) {
        step->decode = DECODE_RAW;
    } else if (type->kind == TYPE_DECIMAL && base_oid == OID_NUMERIC) {
        step->decode = DECODE_DECIMAL;
        step->limit = 1;
        for (unsigned i = 0; i < type->precision && i < 18; i++) {
            step->limit *= 10;
        }
    } else if (b && b->kind == type->kind) {
        step->decode = b->decode;
        step->wire_bytes = b->wire_bytes;
    } else {
        step->decode = DECODE_MISMATCH;
        step->binary = false;
    }
}

static void steps_of_column(struct pgsrc_step *step, struct pgsrc_step *element,
                            const struct resolved *r, const struct type *type) {
    if (type->kind != TYPE_ARRAY) {
        /* An enum whose type was dropped since is known by the schema alone. */
        pgsrc_step_init(step, r->oid, type, type->kind == TYPE_ENUM && !builtin_of(r->oid));
        return;
    }
    struct type of = { .kind = type->element };
    bool is_enum = of.kind == TYPE_ENUM;
    *step = (struct pgsrc_step){
        .type = *type, .decode = DECODE_ARRAY, .binary = true, .element_oid = r->element
    };
    pgsrc_step_init(element, r->element, &of, is_enum && (r->element_is_enum || r->element == 0));
    if (element->decode == DECODE_MISMATCH) {
        step->decode = DECODE_MISMATCH;
        step->binary = false;
    }
}

bool pgsrc_reads_binary(uint32_t oid, const struct type *type, pgsrc_lookup_fn lookup, void *arg) {
    struct resolved r = resolve(oid, -1, lookup, arg);
    struct pgsrc_step step = { 0 };
    struct pgsrc_step element = { 0 };
    steps_of_column(&step, &element, &r, type);
    return step.binary;
}

struct pgsrc_plan *pgsrc_plan_new(const struct schema *schema, pgsrc_lookup_fn lookup, void *arg) {
    struct pgsrc_plan *plan = xcalloc(1, sizeof(*plan));
    size_t count = schema->column_count;
    plan->column_count = schema->column_count;
    plan->steps = xcalloc(count ? count : 1, sizeof(*plan->steps));
    plan->elements = xcalloc(count ? count : 1, sizeof(*plan->elements));
    for (size_t i = 0; i < count; i++) {
        const struct column_def *c = &schema->columns[i];
        struct resolved r = resolve(c->source_oid, c->source_mod, lookup, arg);
        steps_of_column(&plan->steps[i], &plan->elements[i], &r, &c->type);
    }
    return plan;
}

void pgsrc_plan_free(struct pgsrc_plan *plan) {
    if (plan) {
        free(plan->steps);
        free(plan->elements);
        free(plan);
    }
}
