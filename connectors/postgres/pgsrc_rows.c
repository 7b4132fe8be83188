/* Cells and rows into batches. pgsrc_decode_rows is the hot path of snapshots: the common kinds of
 * cell are decoded where the loop meets them, without a call; everything else goes through the same
 * scalar decoders as the log. Pure; thread: any. */
#include <math.h>

#include "cdc/value.h"
#include "connectors/postgres/pgsrc_plan.h"

enum { HEX_BYTES_SHOWN = 16, ROW_HEADER_BYTES = 5, SMALL_COPY_BYTES = 64 };

int pgsrc_value_malformed(const struct batch *batch, uint16_t col, const char *form,
                          const uint8_t *p, size_t len, struct err *err) {
    const struct schema *s = batch->schema;
    const struct column_def *c = &s->columns[col];
    char hex[2 * HEX_BYTES_SHOWN + 1] = "";
    for (size_t i = 0; i < len && i < HEX_BYTES_SHOWN; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
        hex[2 * i + 2] = '\0';
    }
    return err_set(err, ERR_FATAL, "value_malformed",
                   "column \"%s\" of %s: a %s value of type %s has %zu bytes that are none: %s%s",
                   c->name, s->label, form, c->source_type ? c->source_type : "?", len, hex,
                   len > HEX_BYTES_SHOWN ? "..." : "");
}

static int cell_refused(const struct pgsrc_step *step, const struct batch *batch, uint16_t col,
                        struct err *err) {
    const struct column_def *c = &batch->schema->columns[col];
    const char *type = c->source_type ? c->source_type : "?";
    if (step->decode == DECODE_MISMATCH) {
        return err_set(err, ERR_REWIND, "type_changed",
                       "column \"%s\" of %s: the type %s changed while it was read", c->name,
                       batch->schema->label, type);
    }
    err_set(err, ERR_FATAL, "binary_unsupported",
            "column \"%s\" of %s: the binary form of type %s is not understood", c->name,
            batch->schema->label, type);
    return err_cure(err, "add binary=off to the source");
}

/* A column of one batch holds up to 4 GiB; a row of the server holds less than 1 GiB, but arrays
 * may grow. */
static int check_room(const struct batch *batch, uint16_t col, size_t len, struct err *err) {
    const struct column *c = &batch->columns[col];
    if (LIKELY(c->width || len <= UINT32_MAX - c->offsets[batch->rows])) {
        return 0;
    }
    return err_set(err, ERR_FATAL, "value_too_large", "column \"%s\" of %s: a value of %zu bytes",
                   batch->schema->columns[col].name, batch->schema->label, len);
}

/* The cell of a variable column was given less room than asked for. */
static inline void var_trim(struct batch *batch, uint16_t col, size_t used) {
    uint32_t *offsets = batch->columns[col].offsets;
    CHECK(used <= offsets[batch->rows + 1] - offsets[batch->rows]);
    offsets[batch->rows + 1] = offsets[batch->rows] + (uint32_t)used;
}

int pgsrc_cell_binary(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col,
                      const uint8_t *p, size_t len, struct err *err) {
    CHECK(col < plan->column_count);
    const struct pgsrc_step *step = &plan->steps[col];
    const struct pgsrc_step *element = &plan->elements[col];
    if (!step->binary) {
        return cell_refused(step, batch, col, err);
    }
    bool array = step->decode == DECODE_ARRAY;
    size_t bound = array ? pgsrc_array_binary_bound(step, element, p, len)
                         : pgsrc_scalar_binary_bound(step, p, len);
    if (bound == SIZE_MAX) {
        return pgsrc_value_malformed(batch, col, "binary", p, len, err);
    }
    if (check_room(batch, col, bound, err) != 0) {
        return -1;
    }
    uint8_t *out = step->width ? batch_fixed(batch, col) : batch_var_space(batch, col, bound);
    size_t used = 0;
    int status = array ? pgsrc_array_binary(element, p, len, out, &used)
                       : pgsrc_scalar_binary(step, p, len, out, &used);
    if (status != 0) {
        return pgsrc_value_malformed(batch, col, "binary", p, len, err);
    }
    if (!step->width) {
        var_trim(batch, col, used);
    }
    return 0;
}

int pgsrc_cell_text(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col,
                    const uint8_t *p, size_t len, struct err *err) {
    CHECK(col < plan->column_count);
    const struct pgsrc_step *step = &plan->steps[col];
    const struct pgsrc_step *element = &plan->elements[col];
    if (step->decode == DECODE_MISMATCH) {
        return cell_refused(step, batch, col, err);
    }
    bool array = step->decode == DECODE_ARRAY;
    size_t bound =
        array ? pgsrc_array_text_bound(element, p, len) : pgsrc_scalar_text_bound(step, len);
    if (bound == SIZE_MAX) {
        return pgsrc_value_malformed(batch, col, "text", p, len, err);
    }
    if (check_room(batch, col, bound, err) != 0) {
        return -1;
    }
    uint8_t *out = step->width ? batch_fixed(batch, col) : batch_var_space(batch, col, bound);
    size_t used = 0;
    int status = array ? pgsrc_array_text(element, p, len, out, &used)
                       : pgsrc_scalar_text(step, p, len, out, &used);
    if (status != 0) {
        return pgsrc_value_malformed(batch, col, "text", p, len, err);
    }
    if (!step->width) {
        var_trim(batch, col, used);
    }
    return 0;
}

/* A DECIMAL of up to 18 digits from at most four base-10000 digits, in 64-bit arithmetic. False:
 * not simple enough, or malformed. */
static inline bool small_decimal(const struct pgsrc_step *step, const uint8_t *p, size_t len,
                                 uint8_t *out) {
    static const uint64_t power[] = {
        1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000
    };
    if (step->width != 8 || len < 8 || len > 16) {
        return false;
    }
    uint64_t head = pgsrc_be64(p); /* digits, weight, sign, display scale */
    unsigned count = (unsigned)(head >> 48);
    int weight = (int16_t)(head >> 32);
    unsigned sign = (unsigned)(head >> 16) & 0xffff;
    if (len != 8 + 2 * (size_t)count || (sign & ~0x4000u) != 0 || (head & 0xc000) != 0) {
        return false;
    }
    uint64_t v = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t digit = pgsrc_be16(p + 8 + 2 * (size_t)i);
        if (UNLIKELY(digit > 9999)) {
            return false;
        }
        v = v * 10000 + digit;
    }
    int exponent = count == 0 ? 0 : 4 * (weight + 1 - (int)count) + step->type.scale;
    uint64_t whole = v;
    switch (exponent) { /* by constants: a division by them is a multiplication */
    case -1:
        v /= 10;
        whole -= v * 10;
        break;
    case -2:
        v /= 100;
        whole -= v * 100;
        break;
    case -3:
        v /= 1000;
        whole -= v * 1000;
        break;
    default:
        if (exponent < 0 || exponent > 8 || __builtin_mul_overflow(v, power[exponent], &v)) {
            return false;
        }
        whole = 0;
        break;
    }
    if (UNLIKELY(whole != 0 || v >= step->limit)) {
        return false;
    }
    int64_t cell = sign ? -(int64_t)v : (int64_t)v;
    memcpy(out, &cell, 8);
    return true;
}

/* A short text is copied in whole blocks of 16 bytes where both sides have them: what is too much
 * lies in the room of the next cell. */
static inline void put_raw(struct batch *batch, struct column *c, uint32_t row, uint16_t col,
                           const uint8_t *p, size_t len, const uint8_t *readable_end) {
    uint32_t at = c->offsets[row];
    if (LIKELY(len <= SMALL_COPY_BYTES && c->data_cap - at >= SMALL_COPY_BYTES &&
               (size_t)(readable_end - p) >= SMALL_COPY_BYTES)) {
        uint8_t *to = c->data + at;
        c->offsets[row + 1] = at + (uint32_t)len;
        memcpy(to, p, 16);
        if (len > 16) {
            memcpy(to + 16, p + 16, 16);
            if (len > 32) {
                memcpy(to + 32, p + 32, 32);
            }
        }
        return;
    }
    memcpy(batch_var_space(batch, col, len), p, len);
}

/* Cells that are not among the common ones; also the place where a common one that is malformed is
 * named. */
static int rare_cell(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col,
                     const uint8_t *p, size_t len, struct err *err) {
    if (plan->steps[col].binary) {
        return pgsrc_cell_binary(plan, batch, col, p, len, err);
    }
    return pgsrc_cell_text(plan, batch, col, p, len, err);
}

/* One cell; long because it is a table of the common kinds. 0 = done, -1 = not done here. Column
 * and row come as values of their own: read from the batch they would be loaded again after every
 * store. */
static inline __attribute__((always_inline)) int
common_cell(const struct pgsrc_step *step, struct batch *batch, struct column *c, uint32_t row,
            uint16_t col, const uint8_t *p, size_t len, const uint8_t *readable_end) {
    uint32_t v32;
    uint64_t v64;
    double f64;
    switch ((enum pgsrc_decode)step->decode) {
    case DECODE_INT32:
    case DECODE_UINT32:
    case DECODE_DATE:
        if (UNLIKELY(len != 4)) {
            return -1;
        }
        v32 = pgsrc_be32(p);
        memcpy(c->data + (size_t)row * 4, &v32, 4);
        return 0;
    case DECODE_INT64:
    case DECODE_TIME:
    case DECODE_TIMESTAMP:
    case DECODE_TIMESTAMPTZ:
        if (UNLIKELY(len != 8)) {
            return -1;
        }
        v64 = pgsrc_be64(p);
        memcpy(c->data + (size_t)row * 8, &v64, 8);
        return 0;
    case DECODE_FLOAT64:
        if (UNLIKELY(len != 8)) {
            return -1;
        }
        v64 = pgsrc_be64(p);
        memcpy(&f64, &v64, 8);
        memcpy(c->data + (size_t)row * 8, &v64, 8);
        return LIKELY(!isnan(f64)) ? 0 : -1;
    case DECODE_RAW:
    case DECODE_TEXT_ONLY:
    case DECODE_BYTES:
        put_raw(batch, c, row, col, p, len, readable_end);
        return 0;
    case DECODE_DECIMAL:
        return small_decimal(step, p, len, c->data + (size_t)row * 8) ? 0 : -1;
    default:
        return -1;
    }
}

/* The cells of one row; `p` to `end` is the message after its column count. Bytes up to
 * readable_end may be read. */
static int decode_row(const struct pgsrc_plan *plan, struct batch *batch, const uint8_t *p,
                      const uint8_t *end, const uint8_t *readable_end, struct err *err) {
    const struct pgsrc_step *step = plan->steps;
    const uint16_t count = plan->column_count;
    const uint32_t row = batch->rows;
    struct column *c = batch->columns;
    for (uint16_t col = 0; col < count; col++, step++, c++) {
        if (UNLIKELY(end - p < 4)) {
            return err_set(err, ERR_FATAL, "protocol_malformed",
                           "a data row of %s ends within column %u", batch->schema->label, col);
        }
        uint32_t len = pgsrc_be32(p);
        p += 4;
        if (len == UINT32_MAX) {
            batch_put_null(batch, col);
            continue;
        }
        if (UNLIKELY((size_t)(end - p) < len)) {
            return err_set(err, ERR_FATAL, "protocol_malformed",
                           "a data row of %s has %u bytes for column %u where %zu are left",
                           batch->schema->label, len, col, (size_t)(end - p));
        }
        if (UNLIKELY(common_cell(step, batch, c, row, col, p, len, readable_end) != 0) &&
            rare_cell(plan, batch, col, p, len, err) != 0) {
            return -1;
        }
        p += len;
    }
    if (UNLIKELY(p != end)) {
        return err_set(err, ERR_FATAL, "protocol_malformed",
                       "a data row of %s has %zu bytes too many", batch->schema->label,
                       (size_t)(end - p));
    }
    return 0;
}

int pgsrc_decode_rows(const struct pgsrc_plan *plan, struct batch *batch, struct view *in,
                      struct err *err) {
    CHECK(plan->column_count == batch->schema->column_count);
    int rows = 0;
    while (view_left(in) >= ROW_HEADER_BYTES && *in->at == 'D' && !batch_full(batch)) {
        uint32_t size = pgsrc_be32(in->at + 1); /* counts itself, not the type */
        if (UNLIKELY(size < 6 || size > PGSRC_VALUE_BYTES_MAX)) {
            return err_set(err, ERR_FATAL, "protocol_malformed",
                           "a data row of %s has a length of %u", batch->schema->label, size);
        }
        if (view_left(in) - 1 < size) {
            break;
        }
        const uint8_t *p = in->at + ROW_HEADER_BYTES;
        uint16_t count = pgsrc_be16(p);
        if (UNLIKELY(count != plan->column_count)) {
            return err_set(err, ERR_FATAL, "protocol_malformed",
                           "a data row of %s has %u columns, not %u", batch->schema->label, count,
                           plan->column_count);
        }
        const uint8_t *end = in->at + 1 + size;
        if (UNLIKELY(decode_row(plan, batch, p + 2, end, in->end, err) != 0)) {
            batch_row_abort(batch);
            return -1;
        }
        batch_row_done(batch, ROW_INSERT, 0, 0);
        in->at = end;
        rows++;
    }
    return rows;
}
