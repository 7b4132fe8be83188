/* See ice_default.h. */
#include "sinks/iceberg/ice_default.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/json.h"
#include "cdc/value.h"

#define DAY_US INT64_C(86400000000)
#define DAYS_1970_2000 10957

/* ---- to JSON ---- */

static bool put_date(struct buf *out, int64_t days) {
    int32_t year;
    unsigned month, day;
    if (days < -1000000 || days > 4000000) {
        return false;
    }
    value_civil_from_days((int32_t)days - DAYS_1970_2000, &year, &month, &day);
    if (year < 1 || year > 9999) {
        return false;
    }
    buf_putf(out, "%04d-%02u-%02u", year, month, day);
    return true;
}

static bool put_time(struct buf *out, int64_t us) {
    if (us < 0 || us >= DAY_US) {
        return false;
    }
    int64_t s = us / 1000000;
    buf_putf(out, "%02d:%02d:%02d.%06d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60),
             (int)(us % 1000000));
    return true;
}

static bool put_timestamp(struct buf *out, int64_t us, bool utc) {
    int64_t days = us / DAY_US - (us % DAY_US < 0);
    if (!put_date(out, days)) {
        return false;
    }
    buf_putc(out, 'T');
    bool said = put_time(out, us - days * DAY_US);
    CHECK(said);
    buf_puts(out, utc ? "+00:00" : "");
    return true;
}

/* A number that has a fraction or an exponent: readers want no integer here. */
static bool put_float(struct buf *out, double v, bool narrow) {
    size_t from = out->len;
    if (!isfinite(v)) {
        return false;
    }
    if (narrow) {
        value_put_float32(out, (float)v);
    } else {
        value_put_float64(out, v);
    }
    if (!memchr(out->data + from, '.', out->len - from) &&
        !memchr(out->data + from, 'e', out->len - from)) {
        buf_puts(out, ".0");
    }
    return true;
}

static bool put_hex(struct buf *out, const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len && len <= ICE_DEFAULT_BYTES_MAX; i++) {
        buf_putf(out, "%02x", p[i]);
    }
    return len <= ICE_DEFAULT_BYTES_MAX;
}

/* A number or a boolean, or what stands between quotes. */
static bool put_fixed(struct buf *out, const struct lake_column *c, const uint8_t *cell) {
    int32_t narrow = 0;
    int64_t wide = 0;
    float f;
    double d;
    memcpy(&narrow, cell, c->width < 4 ? c->width : 4);
    memcpy(&wide, cell, c->width < 8 ? c->width : 8);
    switch (c->type.kind) {
    case LAKE_BOOL:
        buf_puts(out, *cell ? "true" : "false");
        return true;
    case LAKE_INT:
        buf_put_i64(out, narrow);
        return true;
    case LAKE_LONG:
        buf_put_i64(out, wide);
        return true;
    case LAKE_FLOAT:
        memcpy(&f, cell, sizeof f);
        return put_float(out, (double)f, true);
    case LAKE_DOUBLE:
        memcpy(&d, cell, sizeof d);
        return put_float(out, d, false);
    case LAKE_DATE:
        return put_date(out, narrow);
    case LAKE_TIME:
        return put_time(out, wide);
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        return put_timestamp(out, wide, c->type.kind == LAKE_TIMESTAMPTZ);
    case LAKE_UUID:
        value_put_uuid(out, cell);
        return true;
    case LAKE_DECIMAL: {
        struct type type = { .kind = TYPE_DECIMAL,
                             .precision = c->type.precision,
                             .scale = c->type.scale };
        value_put_decimal(out, &type, cell);
        return true;
    }
    default:
        return false;
    }
}

static bool put_string(struct buf *out, const uint8_t *p, size_t len) {
    const char *bytes = len ? (const char *)p : ""; /* of cells that are all empty there is no p */
    json_t *text = len <= ICE_DEFAULT_BYTES_MAX ? json_stringn(bytes, len) : NULL;
    bool fits = text && !memchr(bytes, 0, len);
    json_decref(text);
    return fits && json_put_string(out, bytes, len) == 0;
}

bool ice_default_put(struct buf *out, const struct lake_column *column, uint32_t row) {
    size_t from = out->len;
    bool said;
    bool bare = column->type.kind == LAKE_BOOL || column->type.kind == LAKE_INT ||
                column->type.kind == LAKE_LONG || column->type.kind == LAKE_FLOAT ||
                column->type.kind == LAKE_DOUBLE;
    if (column->type.kind == LAKE_LIST) {
        return false;
    }
    const uint8_t *cell =
        column->data + (column->width ? (size_t)row * column->width : column->offsets[row]);
    size_t len = column->width ? column->width : column->offsets[row + 1] - column->offsets[row];
    if (column->type.kind == LAKE_STRING) {
        said = put_string(out, cell, len);
    } else {
        buf_puts(out, bare ? "" : "\"");
        said = column->type.kind == LAKE_BINARY ? put_hex(out, cell, len)
                                                : put_fixed(out, column, cell);
        buf_puts(out, bare ? "" : "\"");
    }
    out->len = said ? out->len : from;
    return said;
}

bool ice_default_of_column(struct buf *out, const struct column_def *column,
                           const struct lake_type *type) {
    struct schema *one = schema_new(0, "", "", 1);
    one->columns[0] = *column;
    one->columns[0].key_pos = -1;
    schema_finish(one);
    struct batch *b = batch_new(one, 1, NULL);
    if (b->columns[0].width) {
        CHECK(b->columns[0].width == column->missing_len);
        memcpy(batch_fixed(b, 0), column->missing, column->missing_len);
    } else {
        batch_put_var(b, 0, column->missing, column->missing_len);
    }
    batch_row_done(b, ROW_INSERT, 0, 0);
    batch_seal(b);
    struct lake_scratch *scratch = lake_scratch_new();
    struct lake_column c;
    struct err err = ERR_INIT;
    bool said = lake_column_of(scratch, b, 0, NULL, 1, type, &c, &err) == 0 &&
                !(c.valid && !bit_get(c.valid, 0)) && ice_default_put(out, &c, 0);
    err_clear(&err);
    lake_scratch_free(scratch);
    batch_unref(b);
    schema_unref(one);
    return said;
}

/* ---- from JSON ---- */

/* `count` digits and then `after`, if it is no NUL. */
static bool take_digits(const char **p, int count, char after, int64_t *out) {
    *out = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (**p < '0' || **p > '9') {
            return false;
        }
        *out = *out * 10 + (**p - '0');
    }
    if (after && **p != after) {
        return false;
    }
    *p += after != '\0';
    return true;
}

static bool take_date(const char **p, int64_t *days) {
    int64_t y, m, d;
    if (!take_digits(p, 4, '-', &y) || !take_digits(p, 2, '-', &m) || !take_digits(p, 2, 0, &d) ||
        m < 1 || m > 12 || d < 1 || d > 31) {
        return false;
    }
    *days = value_days_from_civil(y, (unsigned)m, (unsigned)d) + DAYS_1970_2000;
    return true;
}

/* Seconds may be left out where they are none, a fraction has up to six digits. */
static bool take_time(const char **p, int64_t *us) {
    int64_t h, m, s = 0, part = 0;
    if (!take_digits(p, 2, ':', &h) || !take_digits(p, 2, 0, &m) || h > 23 || m > 59) {
        return false;
    }
    if (**p == ':' && ((*p)++, !take_digits(p, 2, 0, &s) || s > 59)) {
        return false;
    }
    if (**p == '.') {
        (*p)++;
        int digits = 0;
        for (; digits < 6 && **p >= '0' && **p <= '9'; digits++, (*p)++) {
            part = part * 10 + (**p - '0');
        }
        for (int i = digits; i < 6; i++) {
            part *= 10;
        }
        if (digits == 0) {
            return false;
        }
    }
    *us = ((h * 60 + m) * 60 + s) * 1000000 + part;
    return true;
}

static bool take_moment(enum lake_kind kind, const char *text, int64_t *out) {
    int64_t days = 0, us = 0;
    const char *p = text;
    if (kind != LAKE_TIME && !take_date(&p, &days)) {
        return false;
    }
    if (kind == LAKE_DATE) {
        *out = days;
        return *p == '\0';
    }
    if ((kind != LAKE_TIME && *p++ != 'T') || !take_time(&p, &us)) {
        return false;
    }
    if (kind == LAKE_TIMESTAMPTZ) {
        bool utc = strcmp(p, "+00:00") == 0 || strcmp(p, "Z") == 0;
        p += utc ? strlen(p) : 0;
        if (!utc) {
            return false;
        }
    }
    *out = days * DAY_US + us;
    return *p == '\0';
}

static int nibble(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool take_hex(const char *text, size_t len, uint8_t *out) {
    for (size_t i = 0; i < len; i++) {
        int high = nibble(text[2 * i]), low = high < 0 ? -1 : nibble(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * len] == '\0';
}

static bool take_uuid(const char *text, uint8_t *out) {
    char digits[33];
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        bool dash = p - text == 8 || p - text == 13 || p - text == 18 || p - text == 23;
        if (dash != (*p == '-') || n >= 32 + (size_t)dash) {
            return false;
        }
        if (!dash) {
            digits[n++] = *p;
        }
    }
    digits[n] = '\0';
    return n == 32 && take_hex(digits, 16, out);
}

static bool take_decimal(const struct lake_type *t, const char *text, uint8_t *cell) {
    struct type type = { .kind = TYPE_DECIMAL, .precision = t->precision, .scale = t->scale };
    size_t len = strlen(text);
    bool digits = len > 0 && strspn(text, "+-0123456789.eE") == len; /* neither NaN nor Infinity */
    return digits && value_decimal_from_text(&type, text, len, cell) == 0;
}

static bool take_number(const struct lake_type *t, const json_t *json, uint8_t *cell) {
    int64_t wide = json_integer_value(json);
    int32_t narrow = (int32_t)wide;
    double d = json_number_value(json);
    float f = (float)d;
    switch (t->kind) {
    case LAKE_BOOL:
        *cell = json_is_true(json);
        return json_is_boolean(json);
    case LAKE_INT:
        memcpy(cell, &narrow, sizeof narrow);
        return json_is_integer(json) && narrow == wide;
    case LAKE_LONG:
        memcpy(cell, &wide, sizeof wide);
        return json_is_integer(json);
    case LAKE_FLOAT:
        memcpy(cell, &f, sizeof f);
        return json_is_number(json) && isfinite(f);
    default:
        memcpy(cell, &d, sizeof d);
        return json_is_number(json);
    }
}

static bool take_cell(struct ice_default *d, const struct lake_type *t, const json_t *json) {
    const char *text = json_string_value(json);
    size_t len = json_string_length(json);
    int64_t moment = 0;
    switch (t->kind) {
    case LAKE_BOOL:
    case LAKE_INT:
    case LAKE_LONG:
    case LAKE_FLOAT:
    case LAKE_DOUBLE:
        return take_number(t, json, d->cell);
    case LAKE_DECIMAL:
        return text && take_decimal(t, text, d->cell);
    case LAKE_DATE:
    case LAKE_TIME:
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        if (!text || !take_moment(t->kind, text, &moment)) {
            return false;
        }
        memcpy(d->cell, &moment, lake_width(t)); /* little-endian: of a date the low half */
        return true;
    case LAKE_UUID:
        return text && take_uuid(text, d->cell);
    case LAKE_STRING:
    case LAKE_BINARY:
        break;
    default:
        return false;
    }
    if (!text || len > UINT32_MAX) {
        return false;
    }
    bool hex = t->kind == LAKE_BINARY;
    d->bytes = xmalloc(len + 1);
    memcpy(d->bytes, text, len);
    d->offsets[1] = (uint32_t)(hex ? len / 2 : len);
    return !hex || (len % 2 == 0 && take_hex(text, len / 2, (uint8_t *)d->bytes));
}

int ice_default_init(struct ice_default *d, const struct ice_field *f, struct err *err) {
    *d = (struct ice_default){ .there = f->initial_default != NULL };
    if (!d->there) {
        return 0;
    }
    json_t *json = json_loads(f->initial_default, JSON_DECODE_ANY, NULL);
    bool taken = json && take_cell(d, &f->type, json);
    json_decref(json);
    if (!taken) {
        ice_default_release(d);
        return err_set(err, ERR_FATAL, "iceberg_schema",
                       "field \"%s\" has the default %.200s, which tailrace does not understand",
                       f->name, f->initial_default);
    }
    uint32_t width = lake_width(&f->type);
    d->column = (struct lake_column){ .type = f->type,
                                      .rows = 1,
                                      .width = width,
                                      .data = width ? d->cell : (const uint8_t *)d->bytes,
                                      .offsets = width ? NULL : d->offsets };
    return 0;
}

void ice_default_release(struct ice_default *d) {
    free(d->bytes);
    *d = (struct ice_default){ .there = false };
}

void ice_default_add(const struct ice_default *d, struct lake_builder *b) {
    if (d->there) {
        lake_builder_add(b, &d->column, 0);
    } else {
        lake_builder_null(b);
    }
}
