/* Cells of a batch as cells of the lake. See lake_type.h.
 *
 * A column first becomes `cells`: the batch's own memory, or the rows asked for gathered, or the
 * elements of its arrays. Then one loop a pair of types converts them all, or nothing is done where
 * both have the same form. Loops that refuse values only note that there may be one; the cell is
 * looked for, and nulls are let pass, after that. */
#include <stdlib.h>

#include "cdc/base/escape.h"
#include "cdc/value.h"
#include "sinks/encode/array_image.h"
#include "sinks/encode/json_cell.h"
#include "sinks/parquet/lake_type.h"

#define DAYS_1970_TO_2000 10957
#define US_1970_TO_2000 INT64_C(946684800000000)
#define US_PER_DAY INT64_C(86400000000)

struct room {
    struct buf valid, data, offsets;
};
struct lake_scratch {
    struct room gathered, converted, elements, converted_elements;
    struct buf list_offsets;
    struct lake_column element_column;
    struct buf text; /* what the JSON encoder wrote */
    struct out *out; /* made at its first use */
};
/* A column of the change model, wherever it lies. */
struct cells {
    struct type type;
    uint32_t rows, width;
    const uint8_t *valid, *data;
    const uint32_t *offsets;
    const char *table, *column; /* for errors */
};

static void room_init(struct room *r) {
    buf_init(&r->valid, SIZE_MAX);
    buf_init(&r->data, SIZE_MAX);
    buf_init(&r->offsets, SIZE_MAX);
}

static void room_release(struct room *r) {
    buf_release(&r->valid);
    buf_release(&r->data);
    buf_release(&r->offsets);
}

struct lake_scratch *lake_scratch_new(void) {
    struct lake_scratch *s = xcalloc(1, sizeof *s);
    room_init(&s->gathered);
    room_init(&s->converted);
    room_init(&s->elements);
    room_init(&s->converted_elements);
    buf_init(&s->list_offsets, SIZE_MAX);
    buf_init(&s->text, SIZE_MAX);
    return s;
}

void lake_scratch_free(struct lake_scratch *s) {
    if (!s) {
        return;
    }
    room_release(&s->gathered);
    room_release(&s->converted);
    room_release(&s->elements);
    room_release(&s->converted_elements);
    buf_release(&s->list_offsets);
    buf_release(&s->text);
    if (s->out) {
        out_release(s->out);
        free(s->out);
    }
    free(s);
}

/* Memory of n bytes, with what it held gone. */
static void *fresh(struct buf *b, size_t n) {
    buf_clear(b);
    int failed = buf_reserve(b, n + 1);
    CHECK(!failed);
    b->len = n;
    return b->data;
}

static bool has_value(const struct cells *c, uint32_t row) {
    return !c->valid || bit_get(c->valid, row);
}

/* ---- refusals ---- */

static int refuse(struct err *err, const struct cells *c, const char *what) {
    err_set(err, ERR_FATAL, "lake_value", "table %s, column \"%s\": %s", c->table, c->column, what);
    return err_cure(err, "add the option text=%s.%s, which stores the column as text", c->table,
                    c->column);
}

/* `suspect` said that some cell is one that `bad` refuses: only those with a value count. */
static int refuse_cells(struct err *err, const struct cells *c, bool (*bad)(const uint8_t *cell),
                        const char *what) {
    for (uint32_t i = 0; i < c->rows; i++) {
        if (has_value(c, i) && bad(c->data + (size_t)i * c->width)) {
            return refuse(err, c, what);
        }
    }
    return 0;
}

static int64_t load_i64(const uint8_t *p) {
    int64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static int32_t load_i32(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline bool bad_date(const uint8_t *cell) {
    int32_t v = load_i32(cell);
    return (v == INT32_MIN) | (v > INT32_MAX - DAYS_1970_TO_2000);
}
static inline bool bad_timestamp(const uint8_t *cell) {
    int64_t v = load_i64(cell);
    return (v == INT64_MIN) | (v > INT64_MAX - US_1970_TO_2000);
}
static inline bool bad_time(const uint8_t *cell) {
    return (uint64_t)load_i64(cell) >= (uint64_t)US_PER_DAY;
}
static inline bool bad_decimal_8(const uint8_t *cell) {
    int64_t v = load_i64(cell);
    return (v <= INT64_MIN + 1) | (v == INT64_MAX);
}
static inline bool bad_decimal_16(const uint8_t *cell) {
    uint64_t low = (uint64_t)load_i64(cell);
    int64_t high = load_i64(cell + 8);
    return (high == INT64_MIN && low <= 1) || (high == INT64_MAX && low == UINT64_MAX);
}

#define REFUSE_SUSPECTS(bad, what)                                                                 \
    {                                                                                              \
        bool suspect = false;                                                                      \
        for (uint32_t i = 0; i < c->rows; i++) {                                                   \
            suspect |= bad(c->data + (size_t)i * c->width);                                        \
        }                                                                                          \
        if (UNLIKELY(suspect) && refuse_cells(err, c, bad, what)) {                                \
            return -1;                                                                             \
        }                                                                                          \
    }

/* ---- forms that agree ---- */

static void borrow(const struct cells *c, struct lake_column *out) {
    out->width = c->width;
    out->data = c->data;
    out->offsets = c->offsets;
}

static uint8_t *convert_into(struct room *r, const struct cells *c, uint32_t width,
                             struct lake_column *out) {
    uint8_t *to = fresh(&r->data, (size_t)c->rows * width);
    out->width = width;
    out->data = to;
    return to;
}

#define CONVERT(from_type, to_type, expression)                                                    \
    {                                                                                              \
        uint8_t *to = convert_into(room, c, sizeof(to_type), out);                                 \
        for (uint32_t i = 0; i < c->rows; i++) {                                                   \
            from_type v;                                                                           \
            memcpy(&v, c->data + i * sizeof v, sizeof v);                                          \
            to_type put = (to_type)(expression);                                                   \
            memcpy(to + i * sizeof put, &put, sizeof put);                                         \
        }                                                                                          \
        return 0;                                                                                  \
    }

/* Integers of any width into one that holds them all. */
static int convert_int(struct room *room, const struct cells *c, struct lake_column *out) {
    bool wide = out->type.kind == LAKE_LONG;
    switch (c->type.kind) {
    case TYPE_INT8:
        if (wide) {
            CONVERT(int8_t, int64_t, v)
        }
        CONVERT(int8_t, int32_t, v)
    case TYPE_UINT8:
        if (wide) {
            CONVERT(uint8_t, int64_t, v)
        }
        CONVERT(uint8_t, int32_t, v)
    case TYPE_INT16:
    case TYPE_YEAR:
        if (wide) {
            CONVERT(int16_t, int64_t, v)
        }
        CONVERT(int16_t, int32_t, v)
    case TYPE_UINT16:
        if (wide) {
            CONVERT(uint16_t, int64_t, v)
        }
        CONVERT(uint16_t, int32_t, v)
    case TYPE_INT32:
        if (wide) {
            CONVERT(int32_t, int64_t, v)
        }
        break;
    case TYPE_UINT32:
        CHECK(wide);
        CONVERT(uint32_t, int64_t, v)
    default:
        CHECK(c->type.kind == TYPE_INT64 && wide);
        break;
    }
    borrow(c, out);
    return 0;
}

static int convert_decimal(struct room *room, const struct cells *c, struct lake_column *out,
                           struct err *err) {
    static const char what[] = "NaN or an infinity, which a decimal cannot say";
    if (c->type.kind == TYPE_UINT64) {
        CHECK(out->type.precision >= 20 && out->type.scale == 0);
        CONVERT(uint64_t, __int128, v)
    }
    CHECK(c->type.kind == TYPE_DECIMAL && c->type.scale == out->type.scale &&
          c->type.precision <= out->type.precision);
    uint32_t width = out->type.precision <= 18 ? 8 : 16;
    if (c->width == 8) {
        REFUSE_SUSPECTS(bad_decimal_8, what)
    } else {
        CHECK(c->width == 16);
        REFUSE_SUSPECTS(bad_decimal_16, what)
    }
    if (c->width < width) {
        CONVERT(int64_t, __int128, v)
    }
    borrow(c, out);
    return 0;
}

static int convert_time(struct room *room, const struct cells *c, struct lake_column *out,
                        struct err *err) {
    static const char beyond[] = "an infinity, or too late for microseconds since 1970 in 64 bits";
    switch (out->type.kind) {
    case LAKE_DATE:
        CHECK(c->type.kind == TYPE_DATE);
        REFUSE_SUSPECTS(bad_date, "an infinity, or too late for days since 1970 in 32 bits")
        CONVERT(uint32_t, uint32_t, v + DAYS_1970_TO_2000)
    case LAKE_TIME:
        CHECK(c->type.kind == TYPE_TIME);
        REFUSE_SUSPECTS(bad_time, "a time of day below 00:00 or from 24:00 on")
        borrow(c, out);
        return 0;
    default:
        CHECK(c->type.kind ==
              (out->type.kind == LAKE_TIMESTAMP ? TYPE_TIMESTAMP : TYPE_TIMESTAMPTZ));
        REFUSE_SUSPECTS(bad_timestamp, beyond)
        CONVERT(uint64_t, uint64_t, v + (uint64_t)US_1970_TO_2000)
    }
}

/* ---- text ---- */

static bool all_ascii(const uint8_t *p, size_t n) {
    uint64_t high = 0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        uint64_t v[4];
        memcpy(v, p + i, 32);
        high |= v[0] | v[1] | v[2] | v[3];
    }
    for (; i < n; i++) {
        high |= (uint64_t)p[i] << 56;
    }
    return !(high & UINT64_C(0x8080808080808080));
}

/* A lake's strings are UTF-8; a database without an encoding may hold others. */
static int check_texts(const struct cells *c, struct err *err) {
    uint32_t first = c->offsets[0];
    if (all_ascii(c->data + first, c->offsets[c->rows] - first)) {
        return 0;
    }
    for (uint32_t i = 0; i < c->rows; i++) {
        const uint8_t *p = c->data + c->offsets[i];
        const uint8_t *end = c->data + c->offsets[i + 1];
        while (p < end) {
            int n = *p < 0x80 ? 1 : utf8_length(p, end);
            if (n <= 0) {
                err_set(err, ERR_FATAL, "lake_value",
                        "table %s, column \"%s\": a text is not UTF-8, as a string must be",
                        c->table, c->column);
                return err_cure(err, "give the database an encoding, or the column the type bytea");
            }
            p += n;
        }
    }
    return 0;
}

static int write_text(void *arg, const void *p, size_t n, struct err *err) {
    (void)err;
    buf_put(arg, p, n);
    return 0;
}

/* What INTERFACE says of the value in JSON, without the quotes of a string that needs no escapes.
 */
static int put_json(struct lake_scratch *s, const struct cells *c, const uint8_t *cell, size_t len,
                    struct buf *to, struct err *err) {
    if (!s->out) {
        s->out = xmalloc(sizeof *s->out);
        out_init(s->out, write_text, &s->text);
    }
    buf_clear(&s->text);
    if (json_cell_put(s->out, &c->type, cell, len, err) || out_flush(s->out, err)) {
        buf_clear(&s->out->buf);
        return err_wrap(err, "table %s, column \"%s\"", c->table, c->column);
    }
    bool quoted = s->text.len >= 2 && s->text.data[0] == '"';
    buf_put(to, s->text.data + quoted, s->text.len - 2 * (size_t)quoted);
    return 0;
}

static int put_text(struct lake_scratch *s, const struct cells *c, const uint8_t *cell, size_t len,
                    struct buf *to, struct err *err) {
    switch (c->type.kind) {
    case TYPE_TIMETZ:
        value_put_timetz(to, load_i64(cell), load_i32(cell + 8));
        return 0;
    case TYPE_BIT:
        value_put_bits(to, cell, len);
        return 0;
    default: /* numbers, dates, times, uuid, base64 of bytes: no escapes; interval, array: JSON */
        return put_json(s, c, cell, len, to, err);
    }
}

static int convert_text(struct lake_scratch *s, struct room *room, const struct cells *c,
                        struct lake_column *out, struct err *err) {
    switch (c->type.kind) {
    case TYPE_TEXT:
    case TYPE_JSON:
    case TYPE_ENUM:
    case TYPE_SET:
    case TYPE_OTHER:
    case TYPE_NUMERIC:
        borrow(c, out);
        return check_texts(c, err);
    default:
        break;
    }
    uint32_t *offsets = fresh(&room->offsets, ((size_t)c->rows + 1) * sizeof *offsets);
    buf_clear(&room->data);
    offsets[0] = 0;
    for (uint32_t i = 0; i < c->rows; i++) {
        if (has_value(c, i)) {
            size_t len = c->width ? c->width : c->offsets[i + 1] - c->offsets[i];
            const uint8_t *cell = c->data + (c->width ? (size_t)i * c->width : c->offsets[i]);
            if (put_text(s, c, cell, len, &room->data, err)) {
                return -1;
            }
            if (room->data.len > UINT32_MAX) {
                return refuse(err, c, "more than 4 GiB of text in one batch");
            }
        }
        offsets[i + 1] = (uint32_t)room->data.len;
    }
    int failed = buf_reserve(&room->data, 1);
    CHECK(!failed);
    out->width = 0;
    out->data = (uint8_t *)room->data.data;
    out->offsets = offsets;
    return 0;
}

/* ---- bytes ---- */

/* WKB without the SRID in front, which the lake has no place for. */
static int convert_geometry(struct room *room, const struct cells *c, struct lake_column *out,
                            struct err *err) {
    uint32_t *offsets = fresh(&room->offsets, ((size_t)c->rows + 1) * sizeof *offsets);
    uint8_t *to = fresh(&room->data, c->offsets[c->rows] - c->offsets[0]);
    out->width = 0;
    out->data = to;
    out->offsets = offsets;
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->rows; i++) {
        offsets[i] = at;
        if (!has_value(c, i)) {
            continue;
        }
        const uint8_t *cell = c->data + c->offsets[i];
        uint32_t len = c->offsets[i + 1] - c->offsets[i];
        if (len < 4 || load_i32(cell) != 0) {
            return refuse(err, c,
                          "a geometry with a reference system (SRID), which WKB cannot say");
        }
        memcpy(to + at, cell + 4, len - 4);
        at += len - 4;
    }
    offsets[c->rows] = at;
    return 0;
}

/* ---- all of it ---- */

static int convert(struct lake_scratch *s, struct room *room, const struct cells *c,
                   struct lake_column *out, struct err *err) {
    out->rows = c->rows;
    out->valid = c->valid;
    out->elements = NULL;
    out->offsets = NULL;
    switch (out->type.kind) {
    case LAKE_INT:
    case LAKE_LONG:
        return convert_int(room, c, out);
    case LAKE_DECIMAL:
        return convert_decimal(room, c, out, err);
    case LAKE_DATE:
    case LAKE_TIME:
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        return convert_time(room, c, out, err);
    case LAKE_STRING:
        return convert_text(s, room, c, out, err);
    case LAKE_BINARY:
        if (c->type.kind == TYPE_GEOMETRY) {
            return convert_geometry(room, c, out, err);
        }
        CHECK(c->type.kind == TYPE_BYTES);
        break;
    case LAKE_DOUBLE:
        if (c->type.kind == TYPE_FLOAT32) {
            CONVERT(float, double, v)
        }
        CHECK(c->type.kind == TYPE_FLOAT64);
        break;
    case LAKE_FLOAT:
        CHECK(c->type.kind == TYPE_FLOAT32);
        break;
    case LAKE_BOOL:
        CHECK(c->type.kind == TYPE_BOOL);
        break;
    default:
        CHECK(out->type.kind == LAKE_UUID && c->type.kind == TYPE_UUID);
        break;
    }
    borrow(c, out);
    return 0;
}

/* One array's elements behind those before; *count grows. */
static int add_elements(struct room *r, const struct cells *c, const struct type *element,
                        const uint8_t *image, size_t len, uint32_t *count, struct err *err) {
    struct array_image a;
    if (array_image_open(&a, image, len, err)) {
        return err_wrap(err, "table %s, column \"%s\"", c->table, c->column);
    }
    if (a.ndim > 1 || !array_image_from_one(&a)) {
        return refuse(err, c, "an array of several dimensions, or with a lower bound other than 1");
    }
    size_t width = type_width(element);
    for (;;) {
        struct array_step step;
        if (array_image_next(&a, &step, err)) {
            return err_wrap(err, "table %s, column \"%s\"", c->table, c->column);
        }
        if (step.end) {
            return 0;
        }
        if (a.ndim == 0) {
            continue; /* the empty array's opening bracket */
        }
        if (!step.null && width && step.len != width) {
            return err_set(err, ERR_FATAL, "array_malformed",
                           "table %s, column \"%s\": array value: an element of %zu bytes",
                           c->table, c->column, step.len);
        }
        if (r->data.len + step.len > UINT32_MAX || *count == UINT32_MAX) {
            return refuse(err, c, "more than 4 GiB of elements in one batch");
        }
        if (*count % 8 == 0) {
            buf_putc(&r->valid, 0);
        }
        if (!step.null) {
            bit_set((uint8_t *)r->valid.data, *count);
            buf_put(&r->data, step.element, step.len);
        } else {
            static const uint8_t zeros[32];
            buf_put(&r->data, zeros, width);
        }
        (*count)++;
        uint32_t end = (uint32_t)r->data.len;
        buf_put(&r->offsets, &end, sizeof end);
    }
}

static int convert_list(struct lake_scratch *s, const struct cells *c, struct lake_column *out,
                        struct err *err) {
    struct room *r = &s->elements;
    struct type element = { .kind = c->type.element,
                            .precision = c->type.precision,
                            .scale = c->type.scale };
    buf_clear(&r->valid);
    buf_clear(&r->data);
    uint32_t zero = 0;
    buf_clear(&r->offsets);
    buf_put(&r->offsets, &zero, sizeof zero);
    uint32_t *lists = fresh(&s->list_offsets, ((size_t)c->rows + 1) * sizeof *lists);
    uint32_t count = 0;
    lists[0] = 0;
    for (uint32_t i = 0; i < c->rows; i++) {
        if (has_value(c, i) && add_elements(r, c, &element, c->data + c->offsets[i],
                                            c->offsets[i + 1] - c->offsets[i], &count, err)) {
            return -1;
        }
        lists[i + 1] = count;
    }
    int failed = buf_reserve(&r->data, 1) | buf_reserve(&r->valid, 1);
    CHECK(!failed);
    struct cells elements = { .type = element,
                              .rows = count,
                              .width = (uint32_t)type_width(&element),
                              .valid = (uint8_t *)r->valid.data,
                              .data = (uint8_t *)r->data.data,
                              .offsets = (uint32_t *)(void *)r->offsets.data,
                              .table = c->table,
                              .column = c->column };
    s->element_column = (struct lake_column){ .type = { .kind = out->type.element,
                                                        .precision = out->type.precision,
                                                        .scale = out->type.scale } };
    out->rows = c->rows;
    out->width = 0;
    out->valid = c->valid;
    out->data = NULL;
    out->offsets = lists;
    out->elements = &s->element_column;
    return convert(s, &s->converted_elements, &elements, &s->element_column, err);
}

/* The rows asked for, side by side. */
static void gather(struct room *r, const struct column *from, const uint32_t *rows, uint32_t count,
                   struct cells *c) {
    if (from->valid) {
        size_t bytes = ((size_t)count + 7) / 8;
        uint8_t *valid = fresh(&r->valid, bytes);
        memset(valid, 0, bytes);
        for (uint32_t i = 0; i < count; i++) {
            valid[i >> 3] |= (uint8_t)(bit_get(from->valid, rows[i]) << (i & 7));
        }
        c->valid = valid;
    }
    if (from->width) {
        size_t width = from->width;
        uint8_t *to = fresh(&r->data, count * width);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *cell = from->data + rows[i] * width;
            if (width == 8) {
                memcpy(to + (size_t)i * 8, cell, 8);
            } else if (width == 4) {
                memcpy(to + (size_t)i * 4, cell, 4);
            } else {
                memcpy(to + i * width, cell, width);
            }
        }
        c->data = to;
        return;
    }
    uint32_t *offsets = fresh(&r->offsets, ((size_t)count + 1) * sizeof *offsets);
    buf_clear(&r->data);
    for (uint32_t i = 0; i < count; i++) {
        offsets[i] = (uint32_t)r->data.len;
        size_t len = from->offsets[rows[i] + 1] - from->offsets[rows[i]];
        buf_put(&r->data, from->data + from->offsets[rows[i]], len);
        CHECK(r->data.len <= UINT32_MAX); /* rows are asked for once: no more than the batch has */
    }
    offsets[count] = (uint32_t)r->data.len;
    int failed = buf_reserve(&r->data, 1);
    CHECK(!failed);
    c->data = (uint8_t *)r->data.data;
    c->offsets = offsets;
}

static void check_carried(const struct column *column, const uint32_t *rows, uint32_t count) {
    for (uint32_t i = 0; column->absent && i < count; i++) {
        CHECK(!bit_get(column->absent, rows ? rows[i] : i));
    }
}

int lake_column_of(struct lake_scratch *s, const struct batch *batch, uint16_t col,
                   const uint32_t *rows, uint32_t count, const struct lake_type *to,
                   struct lake_column *out, struct err *err) {
    const struct column *column = &batch->columns[col];
    const struct column_def *def = &batch->schema->columns[col];
    CHECK(count <= batch->rows);
    check_carried(column, rows, count);
    struct cells c = { .type = def->type,
                       .rows = count,
                       .width = column->width,
                       .valid = column->valid,
                       .data = column->data,
                       .offsets = column->offsets,
                       .table = batch->schema->label,
                       .column = def->name };
    if (rows) {
        gather(&s->gathered, column, rows, count, &c);
    }
    *out = (struct lake_column){ .type = *to };
    if (to->kind == LAKE_LIST) {
        CHECK(def->type.kind == TYPE_ARRAY);
        return convert_list(s, &c, out, err);
    }
    return convert(s, &s->converted, &c, out, err);
}
