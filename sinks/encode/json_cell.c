/* Cells as JSON values. Fixed-width kinds go straight into the output's buffer; long values go
 * through it in pieces, so that no cell is ever held a second time as a whole. */
#include "sinks/encode/json_cell.h"

#include <math.h>

#include "cdc/base/json.h"
#include "cdc/value.h"
#include "sinks/encode/array_image.h"

enum {
    SCALAR_ROOM = 128, /* the longest value of fixed width but DECIMAL, quotes included */
};

static inline int64_t load_i64(const uint8_t *p) {
    int64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline int32_t load_i32(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline int16_t load_i16(const uint8_t *p) {
    int16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int not_utf8(struct err *err) {
    err_set(err, ERR_FATAL, "text_not_utf8",
            "a text value is not UTF-8, so it has no exact JSON form");
    return err_cure(
        err,
        "repair the row, or use a database whose encoding the server can convert (not SQL_ASCII)");
}

/* The JSON form of a piece without its quotes: the opening one falls on the byte before, which is
 * put back. */
static void inner_begin(struct buf *b, char *saved) {
    CHECK(b->len > 0);
    *saved = b->data[--b->len];
}
static void inner_end(struct buf *b, size_t begin, char saved) {
    b->data[begin] = saved;
    b->len--;
}

/* How much of s to take so that no character is cut; s has more than OUT_PIECE bytes. */
static size_t piece_of_text(const uint8_t *s) {
    size_t n = OUT_PIECE;
    for (int back = 0; back < 3 && (s[n] & 0xC0) == 0x80; back++) {
        n--;
    }
    return n;
}

static int put_text(struct out *o, const uint8_t *s, size_t len, struct err *err) {
    if (LIKELY(len <= OUT_PIECE)) {
        if (out_room(o, len * 6 + 2, err)) {
            return -1;
        }
        return UNLIKELY(json_put_string(&o->buf, (const char *)s, len)) ? not_utf8(err) : 0;
    }
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "\"");
    while (len > 0) {
        size_t n = len > OUT_PIECE ? piece_of_text(s) : len;
        /* One byte must lie before the piece for its opening quote: after a flush, none would. */
        if (o->buf.cap - o->buf.len < n * 6 + 2) {
            char last = o->buf.data[--o->buf.len];
            if (out_flush(o, err)) {
                return -1;
            }
            o->buf.data[o->buf.len++] = last;
        }
        char saved;
        inner_begin(&o->buf, &saved);
        size_t begin = o->buf.len;
        if (json_put_string(&o->buf, (const char *)s, n)) {
            return not_utf8(err);
        }
        inner_end(&o->buf, begin, saved);
        s += n;
        len -= n;
    }
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "\"");
    return 0;
}

static int put_base64(struct out *o, const uint8_t *s, size_t len, struct err *err) {
    enum { PIECE = OUT_PIECE / 3 * 3 };
    if (out_room(o, 2, err)) {
        return -1;
    }
    if (len == 0) {
        OUT_LITERAL(o, "\"\"");
        return 0;
    }
    OUT_LITERAL(o, "\"");
    while (len > 0) {
        size_t n = len < PIECE ? len : PIECE;
        size_t room = (n + 2) / 3 * 4 + 2;
        if (o->buf.cap - o->buf.len < room) {
            char last = o->buf.data[--o->buf.len];
            if (out_flush(o, err)) {
                return -1;
            }
            o->buf.data[o->buf.len++] = last;
        }
        char saved;
        inner_begin(&o->buf, &saved);
        size_t begin = o->buf.len;
        json_put_base64(&o->buf, s, n);
        inner_end(&o->buf, begin, saved);
        s += n;
        len -= n;
    }
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "\"");
    return 0;
}

static int put_bits(struct out *o, const uint8_t *cell, size_t len, struct err *err) {
    CHECK(len >= 4);
    uint32_t bits = load_u32(cell);
    CHECK(len == 4 + ((size_t)bits + 7) / 8);
    const uint8_t *bytes = cell + 4;
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "\"");
    for (uint32_t i = 0; i < bits;) {
        uint32_t n = bits - i < OUT_PIECE ? bits - i : OUT_PIECE;
        if (out_room(o, n, err)) {
            return -1;
        }
        char *to = o->buf.data + o->buf.len;
        for (uint32_t end = i + n; i < end; i++) {
            *to++ = (bytes[i >> 3] >> (7 - (i & 7))) & 1 ? '1' : '0';
        }
        o->buf.len += n;
    }
    if (out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "\"");
    return 0;
}

static int put_geometry(struct out *o, const uint8_t *cell, size_t len, struct err *err) {
    CHECK(len >= 4);
    if (out_room(o, SCALAR_ROOM, err)) {
        return -1;
    }
    OUT_LITERAL(o, "{\"srid\":");
    buf_put_u64(&o->buf, load_u32(cell));
    OUT_LITERAL(o, ",\"wkb\":");
    if (put_base64(o, cell + 4, len - 4, err) || out_room(o, 1, err)) {
        return -1;
    }
    OUT_LITERAL(o, "}");
    return 0;
}

static int put_lower_bounds(struct out *o, const struct array_image *a, struct err *err) {
    if (out_room(o, 16 + ARRAY_DIMS_MAX * 12, err)) {
        return -1;
    }
    OUT_LITERAL(o, "{\"lower\":[");
    for (uint32_t d = 0; d < a->ndim; d++) {
        if (d > 0) {
            OUT_LITERAL(o, ",");
        }
        buf_put_i64(&o->buf, a->lower[d]);
    }
    OUT_LITERAL(o, "],\"values\":");
    return 0;
}

static int put_array(struct out *o, const struct type *type, const uint8_t *cell, size_t len,
                     struct err *err) {
    struct array_image a;
    if (array_image_open(&a, cell, len, err)) {
        return -1;
    }
    bool bounds = !array_image_from_one(&a);
    if (bounds && put_lower_bounds(o, &a, err)) {
        return -1;
    }
    struct type element = { .kind = type->element };
    for (;;) {
        struct array_step step;
        if (array_image_next(&a, &step, err) || out_room(o, 2 * ARRAY_DIMS_MAX + 16, err)) {
            return -1;
        }
        for (uint32_t i = 0; i < step.closes; i++) {
            OUT_LITERAL(o, "]");
        }
        if (step.end) {
            break;
        }
        if (step.comma) {
            OUT_LITERAL(o, ",");
        }
        for (uint32_t i = 0; i < step.opens; i++) {
            OUT_LITERAL(o, "[");
        }
        if (step.null) {
            OUT_LITERAL(o, "null");
        } else if (step.element && json_cell_put(o, &element, step.element, step.len, err)) {
            return -1; /* elements are never arrays: one level of calls */
        }
    }
    if (bounds) {
        if (out_room(o, 1, err)) {
            return -1;
        }
        OUT_LITERAL(o, "}");
    }
    return 0;
}

static void put_float64(struct buf *b, double v, bool single) {
    const char *quote = isfinite(v) ? "" : "\"";
    buf_puts(b, quote);
    if (single) {
        value_put_float32(b, (float)v);
    } else {
        value_put_float64(b, v);
    }
    buf_puts(b, quote);
}

static void put_interval(struct buf *b, const uint8_t *cell) {
    buf_puts(b, "{\"months\":");
    buf_put_i64(b, load_i32(cell + 12));
    buf_puts(b, ",\"days\":");
    buf_put_i64(b, load_i32(cell + 8));
    buf_puts(b, ",\"us\":");
    buf_put_i64(b, load_i64(cell));
    buf_putc(b, '}');
}

/* The quoted forms of fixed width. Room is there. */
static void put_quoted(struct buf *b, const struct type *type, const uint8_t *cell) {
    buf_putc(b, '"');
    switch (type->kind) {
    case TYPE_DECIMAL:
        value_put_decimal(b, type, cell);
        break;
    case TYPE_DATE:
        value_put_date(b, load_i32(cell));
        break;
    case TYPE_TIME:
        value_put_time(b, load_i64(cell));
        break;
    case TYPE_TIMETZ:
        value_put_timetz(b, load_i64(cell), load_i32(cell + 8));
        break;
    case TYPE_TIMESTAMP:
        value_put_timestamp(b, load_i64(cell), false);
        break;
    case TYPE_TIMESTAMPTZ:
        value_put_timestamp(b, load_i64(cell), true);
        break;
    case TYPE_UUID:
        value_put_uuid(b, cell);
        break;
    default:
        CHECK(!"a kind without a quoted form");
    }
    buf_putc(b, '"');
}

/* Digits, the zeros of a scale beyond them, sign, point and quotes. */
static size_t decimal_room(const struct type *type) {
    int scale = type->scale < 0 ? -type->scale : type->scale;
    return (size_t)scale + DECIMAL_PRECISION_MAX + 16;
}

/* Table-shaped: one line a kind. */
int json_cell_put(struct out *o, const struct type *type, const uint8_t *cell, size_t len,
                  struct err *err) {
    switch (type->kind) {
    case TYPE_TEXT:
    case TYPE_ENUM:
    case TYPE_SET:
    case TYPE_JSON:
    case TYPE_NUMERIC:
    case TYPE_OTHER:
        return put_text(o, cell, len, err);
    case TYPE_BYTES:
        return put_base64(o, cell, len, err);
    case TYPE_BIT:
        return put_bits(o, cell, len, err);
    case TYPE_GEOMETRY:
        return put_geometry(o, cell, len, err);
    case TYPE_ARRAY:
        return put_array(o, type, cell, len, err);
    default:
        break;
    }
    if (out_room(o, type->kind == TYPE_DECIMAL ? decimal_room(type) : SCALAR_ROOM, err)) {
        return -1;
    }
    CHECK(len == type_width(type));
    struct buf *b = &o->buf;
    switch (type->kind) {
    case TYPE_BOOL:
        buf_puts(b, *cell ? "true" : "false");
        return 0;
    case TYPE_INT8:
        buf_put_i64(b, (int8_t)*cell);
        return 0;
    case TYPE_INT16:
    case TYPE_YEAR:
        buf_put_i64(b, load_i16(cell));
        return 0;
    case TYPE_INT32:
        buf_put_i64(b, load_i32(cell));
        return 0;
    case TYPE_INT64:
        buf_put_i64(b, load_i64(cell));
        return 0;
    case TYPE_UINT8:
        buf_put_u64(b, *cell);
        return 0;
    case TYPE_UINT16:
        buf_put_u64(b, load_u16(cell));
        return 0;
    case TYPE_UINT32:
        buf_put_u64(b, load_u32(cell));
        return 0;
    case TYPE_UINT64:
        buf_put_u64(b, (uint64_t)load_i64(cell));
        return 0;
    case TYPE_FLOAT32: {
        float v;
        memcpy(&v, cell, sizeof v);
        put_float64(b, (double)v, true);
        return 0;
    }
    case TYPE_FLOAT64: {
        double v;
        memcpy(&v, cell, sizeof v);
        put_float64(b, v, false);
        return 0;
    }
    case TYPE_INTERVAL:
        put_interval(b, cell);
        return 0;
    default:
        put_quoted(b, type, cell);
        return 0;
    }
}
