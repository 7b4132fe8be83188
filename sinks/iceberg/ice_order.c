/* See ice_order.h. */
#include "sinks/iceberg/ice_order.h"

#include <string.h>
#include <strings.h>

#include "cdc/base/arena.h"

/* ---- the user's words ---- */

struct words {
    const char *all, *at;
    struct err *err;
};
struct part {
    char *name; /* the caller's */
    bool descending, nulls_last;
};

static int misread(struct words *w, const char *what) {
    err_set(w->err, ERR_FATAL, "sort_order", "sort=%s: %s", w->all, what);
    err_cure(w->err, "write for example sort=created_at,id+desc or sort=region+nulls+last,id: "
                     "columns, each with asc or desc behind it as it may be");
    return err_exit(w->err, EXIT_USAGE);
}

static void skip_blanks(struct words *w) { w->at += strspn(w->at, " +"); }

static bool take_keyword(struct words *w, const char *word) {
    size_t n = strlen(word);
    skip_blanks(w);
    if (strncasecmp(w->at, word, n) != 0 || !strchr(" +,", w->at[n])) {
        return false;
    }
    w->at += n;
    return true;
}

/* In double quotes; two of them are one within. */
static int take_quoted(struct words *w, char *out) {
    for (w->at++;; w->at++) {
        if (*w->at == 0) {
            return misread(w, "a quote is not closed");
        }
        if (*w->at == '"' && *++w->at != '"') {
            *out = 0;
            return 0;
        }
        *out++ = *w->at;
    }
}

static int take_name(struct words *w, struct arena *arena, struct part *p) {
    skip_blanks(w);
    p->name = arena_alloc(arena, strlen(w->at) + 1);
    bool quoted = *w->at == '"';
    if (quoted && take_quoted(w, p->name)) {
        return -1;
    }
    if (!quoted) {
        size_t n = strcspn(w->at, " +,()\"");
        memcpy(p->name, w->at, n);
        p->name[n] = 0;
        w->at += n;
    }
    if (*w->at == '(') {
        return misread(w, "rows are sorted by columns as they are, not by what is made of them");
    }
    return p->name[0] ? 0 : misread(w, "the name of a column is missing");
}

static int take_part(struct words *w, struct arena *arena, struct part *p) {
    if (take_name(w, arena, p)) {
        return -1;
    }
    p->descending = take_keyword(w, "desc");
    p->nulls_last = p->descending;
    if (!p->descending) {
        (void)take_keyword(w, "asc");
    }
    if (take_keyword(w, "nulls")) {
        p->nulls_last = take_keyword(w, "last");
        if (!p->nulls_last && !take_keyword(w, "first")) {
            return misread(w, "after nulls comes first or last");
        }
    }
    skip_blanks(w);
    return *w->at == 0 || *w->at == ',' ? 0 : misread(w, "after a column comes a comma");
}

static int refuse_list(struct words *w, const char *name) {
    err_set(w->err, ERR_FATAL, "sort_order",
            "sort=%s: column \"%s\" holds lists, which have no order", w->all, name);
    err_cure(w->err, "leave it out; or have it stored as text: text=%s", name);
    return err_exit(w->err, EXIT_USAGE);
}

/* schema NULL: the words alone. */
static int add_part(struct words *w, const struct part *p, const struct ice_schema *schema,
                    struct ice_order *out) {
    int at = schema ? ice_schema_find(schema, p->name) : -1;
    if (at < 0) {
        return 0;
    }
    const struct ice_field *f = &schema->fields[at];
    if (f->type.kind == LAKE_LIST) {
        return refuse_list(w, p->name);
    }
    out->id = 1;
    out->fields[out->count++] = (struct ice_order_field){ .source_id = f->id,
                                                          .descending = p->descending,
                                                          .nulls_last = p->nulls_last };
    return 0;
}

static int read_words(const char *text, const struct ice_schema *schema, struct arena *arena,
                      struct ice_order *out, struct err *err) {
    struct words w = { .all = text, .at = text, .err = err };
    struct part parts[ICE_ORDER_FIELDS_MAX];
    *out = (struct ice_order){ 0 };
    skip_blanks(&w);
    for (uint32_t n = 0; *w.at; n++) {
        if (n == ICE_ORDER_FIELDS_MAX) {
            return misread(&w, "more than 8 columns");
        }
        if (take_part(&w, arena, &parts[n])) {
            return -1;
        }
        for (uint32_t i = 0; i < n; i++) {
            if (strcmp(parts[i].name, parts[n].name) == 0) {
                return misread(&w, "a column stands there twice");
            }
        }
        if (add_part(&w, &parts[n], schema, out)) {
            return -1;
        }
        if (*w.at == ',' && (w.at++, skip_blanks(&w), *w.at == 0)) {
            return misread(&w, "the name of a column is missing");
        }
    }
    return 0;
}

int ice_order_parse(const char *text, const struct ice_schema *schema, struct ice_order *out,
                    struct err *err) {
    struct arena arena;
    arena_init(&arena);
    int rc = read_words(text, schema, &arena, out, err);
    arena_release(&arena);
    return rc;
}

int ice_order_check(const char *text, struct err *err) {
    struct ice_order none;
    return ice_order_parse(text, NULL, &none, err);
}

bool ice_order_same(const struct ice_order *a, const struct ice_order *b) {
    bool same = a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++) {
        const struct ice_order_field *x = &a->fields[i], *y = &b->fields[i];
        same = x->source_id == y->source_id && x->descending == y->descending &&
               x->nulls_last == y->nulls_last;
    }
    return same;
}

/* ---- JSON ---- */

json_t *ice_order_json(const struct ice_order *order) {
    json_t *fields = json_array();
    for (uint32_t i = 0; i < order->count; i++) {
        const struct ice_order_field *f = &order->fields[i];
        json_t *one = json_pack("{s:s,s:i,s:s,s:s}", "transform", "identity", "source-id",
                                (int)f->source_id, "direction", f->descending ? "desc" : "asc",
                                "null-order", f->nulls_last ? "nulls-last" : "nulls-first");
        int failed = json_array_append_new(fields, one); /* for lack of memory alone */
        CHECK(!failed);
    }
    json_t *out = json_pack("{s:i,s:o}", "order-id", (int)order->id, "fields", fields);
    CHECK(out);
    return out;
}

static bool is_text(const json_t *object, const char *key, const char *value) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, value) == 0;
}

/* One field; false: not one of ours. */
static bool take_field(const json_t *json, struct ice_order_field *out) {
    const json_t *id = json_object_get(json, "source-id");
    const json_t *several = json_object_get(json, "source-ids");
    if (!id && json_array_size(several) == 1) {
        id = json_array_get(several, 0);
    }
    bool sane = json_is_integer(id) && json_integer_value(id) > 0 &&
                json_integer_value(id) <= INT32_MAX && is_text(json, "transform", "identity");
    if (!sane) {
        return false;
    }
    out->source_id = (int32_t)json_integer_value(id);
    out->descending = is_text(json, "direction", "desc");
    out->nulls_last = is_text(json, "null-order", "nulls-last");
    return (out->descending || is_text(json, "direction", "asc")) &&
           (out->nulls_last || is_text(json, "null-order", "nulls-first"));
}

void ice_order_from_json(const json_t *orders, int32_t id, struct ice_order *out) {
    *out = (struct ice_order){ 0 };
    for (size_t i = 0; id != 0 && i < json_array_size(orders); i++) {
        const json_t *order = json_array_get(orders, i);
        const json_t *fields = json_object_get(order, "fields");
        const json_t *its = json_object_get(order, "order-id");
        if (!json_is_integer(its) || json_integer_value(its) != id ||
            json_array_size(fields) > ICE_ORDER_FIELDS_MAX) {
            continue;
        }
        struct ice_order found = { .id = id };
        while (found.count < json_array_size(fields) &&
               take_field(json_array_get(fields, found.count), &found.fields[found.count])) {
            found.count++;
        }
        if (found.count > 0 && found.count == json_array_size(fields)) {
            *out = found;
        }
        return;
    }
}

bool ice_order_bind(const struct ice_order *order, const struct ice_schema *schema,
                    uint32_t *indexes) {
    for (uint32_t i = 0; i < order->count; i++) {
        int at = ice_schema_find_id(schema, order->fields[i].source_id);
        if (at < 0 || schema->fields[at].type.kind == LAKE_LIST) {
            return false;
        }
        indexes[i] = (uint32_t)at;
    }
    return true;
}

/* ---- keys ---- */

/* A fixed cell, little-endian, as big-endian bytes that order by value. */
static void put_fixed(struct buf *out, const struct lake_type *type, const uint8_t *cell,
                      uint32_t width) {
    uint8_t bytes[16];
    for (uint32_t i = 0; i < width; i++) {
        bytes[i] = cell[width - 1 - i];
    }
    if (type->kind == LAKE_FLOAT || type->kind == LAKE_DOUBLE) {
        float f;
        double d;
        if (type->kind == LAKE_FLOAT) {
            memcpy(&f, cell, sizeof f);
            d = (double)f;
        } else {
            memcpy(&d, cell, sizeof d);
        }
        if (d != d) {
            memset(bytes, 0xff, width);
        } else if (bytes[0] & 0x80) {
            for (uint32_t i = 0; i < width; i++) {
                bytes[i] = (uint8_t)~bytes[i];
            }
        } else {
            bytes[0] ^= 0x80;
        }
    } else if (type->kind == LAKE_UUID) {
        memcpy(bytes, cell, width);
    } else if (type->kind != LAKE_BOOL) {
        bytes[0] ^= 0x80;
    }
    buf_put(out, bytes, width);
}

static void put_bytes(struct buf *out, const uint8_t *p, size_t n) {
    static const uint8_t zero[2] = { 0, 0xff }, end[2] = { 0, 0 };
    while (n > 0) {
        const uint8_t *nul = memchr(p, 0, n);
        size_t before = nul ? (size_t)(nul - p) : n;
        buf_put(out, p, before);
        if (nul) {
            buf_put(out, zero, sizeof zero);
            before++;
        }
        p += before;
        n -= before;
    }
    buf_put(out, end, sizeof end);
}

void ice_order_put_key(const struct ice_order *order, const uint32_t *indexes,
                       const struct lake_column *columns, uint32_t row, struct buf *out) {
    for (uint32_t i = 0; i < order->count; i++) {
        const struct ice_order_field *f = &order->fields[i];
        const struct lake_column *c = &columns[indexes[i]];
        bool null = c->valid && !bit_get(c->valid, row);
        buf_putc(out, (char)(null ? (f->nulls_last ? 2 : 0) : 1));
        size_t from = out->len;
        if (null) {
            continue;
        }
        if (c->width) {
            put_fixed(out, &c->type, c->data + (size_t)row * c->width, c->width);
        } else {
            put_bytes(out, c->data + c->offsets[row], c->offsets[row + 1] - c->offsets[row]);
        }
        for (size_t k = from; f->descending && k < out->len; k++) {
            out->data[k] = (char)~out->data[k];
        }
    }
}
