/* Cells into the open page of a column chunk. See parquet_chunk.h.
 *
 * A slice is as many rows as the page has room for. Its levels are noted first; then its values are
 * had side by side, without nulls, in the file's form (borrowed from the column where they lie so
 * already), and go to the dictionary or behind the page's values. Every loop runs over a slice of
 * one kind. */
#include "sinks/parquet/parquet_chunk.h"

#include <stdlib.h>

enum { FIRST_SLICE_ROWS = 2048 }; /* of a dictionary's trial */

static void *room(struct buf *out, size_t n) {
    int failed = buf_reserve(out, n);
    CHECK(!failed);
    return out->data + out->len;
}

uint8_t *chunk_values_room(struct parquet_chunk *c, size_t n) {
    if (c->values.len == 0) {
        room(&c->values, n + PAGE_FRONT);
        c->values.len = PAGE_FRONT;
    }
    return room(&c->values, n);
}

/* Bytes of the fewest that hold a decimal of this precision: 2^(8n-1) > 10^precision - 1. */
static uint32_t decimal_bytes(unsigned precision) {
    unsigned __int128 most = 1;
    for (unsigned i = 0; i < precision; i++) {
        most *= 10;
    }
    uint32_t n = 1;
    while (n < 16 && (unsigned __int128)1 << (8 * n - 1) < most) {
        n++;
    }
    return n;
}

static void shape_value(struct chunk_shape *s, enum parquet_physical physical, uint32_t width,
                        enum parquet_order order) {
    s->physical = physical;
    s->width = width;
    s->order = order;
}

static void shape_decimal(struct chunk_shape *s) {
    if (s->type.precision <= 9) {
        shape_value(s, PHYSICAL_INT32, 4, ORDER_I32);
    } else if (s->type.precision <= 18) {
        shape_value(s, PHYSICAL_INT64, 8, ORDER_I64);
    } else {
        shape_value(s, PHYSICAL_FIXED, decimal_bytes(s->type.precision), ORDER_SIGNED);
    }
}

static void shape_kind(struct chunk_shape *s) {
    switch (s->kind) {
    case LAKE_BOOL:
        shape_value(s, PHYSICAL_BOOLEAN, 1, ORDER_BOOL);
        break;
    case LAKE_INT:
    case LAKE_DATE:
        shape_value(s, PHYSICAL_INT32, 4, ORDER_I32);
        break;
    case LAKE_LONG:
    case LAKE_TIME:
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        shape_value(s, PHYSICAL_INT64, 8, ORDER_I64);
        break;
    case LAKE_FLOAT:
        shape_value(s, PHYSICAL_FLOAT, 4, ORDER_F32);
        break;
    case LAKE_DOUBLE:
        shape_value(s, PHYSICAL_DOUBLE, 8, ORDER_F64);
        break;
    case LAKE_DECIMAL:
        shape_decimal(s);
        break;
    case LAKE_UUID:
        shape_value(s, PHYSICAL_FIXED, 16, ORDER_BYTES);
        break;
    default:
        CHECK(s->kind == LAKE_STRING || s->kind == LAKE_BINARY);
        shape_value(s, PHYSICAL_BYTE_ARRAY, 0, s->kind == LAKE_STRING ? ORDER_TEXT : ORDER_BYTES);
        break;
    }
}

static void shape_init(struct chunk_shape *s, const struct parquet_field *field,
                       enum parquet_profile profile) {
    *s = (struct chunk_shape){ .type = field->type,
                               .kind = field->type.kind,
                               .list = field->type.kind == LAKE_LIST,
                               .required = field->required,
                               .base = ENCODING_PLAIN };
    if (s->list) {
        s->kind = field->type.element;
        s->max_definition = field->required ? 2 : 3;
    } else {
        s->max_definition = field->required ? 0 : 1;
    }
    shape_kind(s);
    if (profile == PARQUET_MODERN) {
        if (s->physical == PHYSICAL_INT32 || s->physical == PHYSICAL_INT64) {
            s->base = ENCODING_DELTA_BINARY_PACKED;
        } else if (s->physical == PHYSICAL_FLOAT || s->physical == PHYSICAL_DOUBLE) {
            s->base = ENCODING_BYTE_STREAM_SPLIT;
        } else if (s->physical == PHYSICAL_BYTE_ARRAY) {
            s->base = ENCODING_DELTA_LENGTH_BYTE_ARRAY;
        }
    }
}

void chunk_init(struct parquet_chunk *c, const struct parquet_field *field,
                const struct parquet_options *options) {
    *c = (struct parquet_chunk){ .page_bytes = options->page_bytes,
                                 .codec_wanted = options->codec,
                                 .has_bloom = field->bloom,
                                 .base_ratio = 1 };
    shape_init(&c->shape, field, options->profile);
    struct buf *bufs[] = { &c->values,     &c->lengths,    &c->indices,
                           &c->definition, &c->repetition, &c->marks };
    for (size_t i = 0; i < ARRAY_COUNT(bufs); i++) {
        buf_init(bufs[i], SIZE_MAX);
    }
    parquet_dict_init(&c->dict, c->shape.width);
    c->dict_state = c->shape.physical == PHYSICAL_BOOLEAN ? DICT_LEFT : DICT_TRIAL;
    bounds_init(&c->page_bounds);
    bounds_init(&c->bounds);
    bounds_init(&c->file_bounds);
    bloom_init(&c->bloom, options->group_rows);
}

static void free_pages(struct parquet_chunk *c) {
    for (uint32_t i = 0; i < c->page_count; i++) {
        free(c->pages[i].bytes);
    }
    c->page_count = 0;
    c->pages_bytes = 0;
}

static void free_room(struct parquet_chunk *c) {
    buf_release(&c->values);
    buf_release(&c->lengths);
    buf_release(&c->indices);
    buf_release(&c->definition);
    buf_release(&c->repetition);
    buf_release(&c->marks);
    parquet_dict_release(&c->dict);
    bloom_release(&c->bloom);
    free(c->stamps);
    c->stamps = NULL;
    c->stamps_cap = 0;
    free(c->pages);
    c->pages = NULL;
    c->page_cap = 0;
}

void chunk_release(struct parquet_chunk *c) {
    free_pages(c);
    free_room(c);
    bounds_release(&c->page_bounds);
    bounds_release(&c->bounds);
    bounds_release(&c->file_bounds);
}

void chunk_clear(struct parquet_chunk *c, bool trim) {
    CHECK(c->page_rows == 0);
    free_pages(c);
    buf_clear(&c->marks);
    parquet_dict_clear(&c->dict);
    bloom_clear(&c->bloom);
    if (trim) {
        free_room(c);
    }
    c->dict_used = false;
    c->dict_half = c->dict_half_of = 0;
    c->dict_bytes_before = 0;
    if (c->shape.physical != PHYSICAL_BOOLEAN) {
        c->dict_state = c->dict_pause > 0 ? DICT_LEFT : DICT_TRIAL;
        c->dict_pause -= c->dict_pause > 0;
    }
    c->codec_chosen = false;
    c->no_index = false;
    c->rows = c->values_count = c->nulls = 0;
    bounds_clear(&c->bounds);
}

size_t chunk_held(const struct parquet_chunk *c) {
    size_t open = c->index_count ? (size_t)c->index_count * 2 : chunk_values_len(c);
    return c->pages_bytes + c->dict.values.len + open;
}

size_t chunk_memory(const struct parquet_chunk *c) {
    return c->pages_bytes + c->page_cap * sizeof *c->pages + c->values.cap + c->lengths.cap +
           c->indices.cap + c->definition.cap + c->repetition.cap + c->marks.cap +
           parquet_dict_memory(&c->dict) + c->stamps_cap * sizeof *c->stamps +
           bloom_memory(&c->bloom) + c->page_bounds.min.cap + c->page_bounds.max.cap +
           c->bounds.min.cap + c->bounds.max.cap + c->file_bounds.min.cap + c->file_bounds.max.cap;
}

void chunk_scratch_init(struct chunk_scratch *s, int level) {
    struct buf *bufs[] = { &s->cells, &s->offsets, &s->encoded, &s->body, &s->header };
    for (size_t i = 0; i < ARRAY_COUNT(bufs); i++) {
        buf_init(bufs[i], SIZE_MAX);
    }
    parquet_codec_init(&s->codec, level);
}

void chunk_scratch_release(struct chunk_scratch *s) {
    buf_release(&s->cells);
    buf_release(&s->offsets);
    buf_release(&s->encoded);
    buf_release(&s->body);
    buf_release(&s->header);
    parquet_codec_trim(&s->codec);
}

size_t chunk_scratch_memory(const struct chunk_scratch *s) {
    return s->cells.cap + s->offsets.cap + s->encoded.cap + s->body.cap + s->header.cap +
           parquet_codec_memory(&s->codec);
}

/* ---- bitmaps ---- */

/* Eight bits from bit `at` on; bits from `end` on are not read beyond their byte. */
static unsigned bits_at(const uint8_t *bits, uint32_t at, uint32_t end) {
    unsigned shift = at & 7;
    unsigned v = (unsigned)bits[at >> 3] >> shift;
    if (shift > 0 && (at >> 3) < ((end - 1) >> 3)) {
        v |= (unsigned)bits[(at >> 3) + 1] << (8 - shift);
    }
    return v & 0xFF;
}

static uint32_t count_ones(const uint8_t *bits, uint32_t at, uint32_t count) {
    uint32_t ones = 0;
    uint32_t end = at + count;
    for (; at < end; at += 8) {
        unsigned v = bits_at(bits, at, end);
        if (end - at < 8) {
            v &= (1u << (end - at)) - 1;
        }
        ones += (uint32_t)__builtin_popcount(v);
    }
    return ones;
}

/* Appends count bits to the page's bitmap, which has `have`; bits NULL = ones. Bits of the last
 * byte beyond them are zero. */
static void append_bits(struct buf *to, uint32_t have, const uint8_t *bits, uint32_t at,
                        uint32_t count) {
    size_t bytes = ((size_t)have + count + 7) / 8;
    if (bytes > to->len) {
        memset(room(to, bytes - to->len), 0, bytes - to->len);
        to->len = bytes;
    }
    uint8_t *out = (uint8_t *)to->data;
    uint32_t end = at + count;
    for (; at < end; at += 8, have += 8) {
        unsigned v = bits ? bits_at(bits, at, end) : 0xFF;
        if (end - at < 8) {
            v &= (1u << (end - at)) - 1;
        }
        out[have >> 3] |= (uint8_t)(v << (have & 7));
        unsigned over = v >> (8 - (have & 7));
        if (over) {
            out[(have >> 3) + 1] |= (uint8_t)over;
        }
    }
}

/* ---- levels ---- */

static void add_flat_levels(struct parquet_chunk *c, const struct lake_column *column, uint32_t at,
                            uint32_t count, uint32_t present) {
    if (c->shape.max_definition > 0 && (present < count || c->has_bitmap)) {
        if (!c->has_bitmap) {
            append_bits(&c->definition, 0, NULL, 0, c->page_values);
            c->has_bitmap = true;
        }
        append_bits(&c->definition, c->page_values, column->valid, at, count);
    }
    c->page_values += count;
}

static void add_list_levels(struct parquet_chunk *c, const struct lake_column *column, uint32_t at,
                            uint32_t count) {
    const struct lake_column *elements = column->elements;
    const uint32_t *offsets = column->offsets;
    size_t most = (size_t)(offsets[at + count] - offsets[at]) + count;
    uint8_t *definition = room(&c->definition, most);
    uint8_t *repetition = room(&c->repetition, most);
    uint8_t null_element = (uint8_t)(c->shape.max_definition - 1);
    size_t n = 0;
    for (uint32_t row = at; row < at + count; row++) {
        if (offsets[row] == offsets[row + 1]) {
            bool null = column->valid && !bit_get(column->valid, row);
            definition[n] = c->shape.required || null ? 0 : 1;
            repetition[n++] = 0;
            continue;
        }
        for (uint32_t e = offsets[row]; e < offsets[row + 1]; e++) {
            bool value = !elements->valid || bit_get(elements->valid, e);
            definition[n] = (uint8_t)(null_element + value);
            repetition[n++] = e > offsets[row];
        }
    }
    c->definition.len += n;
    c->repetition.len += n;
    c->page_values += (uint32_t)n;
}

/* ---- values ---- */

static bool has_value(const struct lake_column *v, uint32_t at) {
    return !v->valid || bit_get(v->valid, at);
}

/* Cells that have a value, side by side; every cell is stored, and the next overwrites it if it had
 * none. */
#define COMPACT(from_type, to_type)                                                                \
    {                                                                                              \
        const uint8_t *from = v->data + (size_t)at * sizeof(from_type);                            \
        for (uint32_t i = 0; i < count; i++) {                                                     \
            from_type cell;                                                                        \
            memcpy(&cell, from + i * sizeof cell, sizeof cell);                                    \
            to_type put = (to_type)cell;                                                           \
            memcpy(to, &put, sizeof put);                                                          \
            to += has_value(v, at + i) ? sizeof put : 0;                                           \
        }                                                                                          \
        break;                                                                                     \
    }

/* The lowest `width` bytes of a 16-byte cell, highest first. */
static void compact_decimal(const struct lake_column *v, uint32_t at, uint32_t count,
                            uint32_t width, uint8_t *to) {
    const uint8_t *from = v->data + (size_t)at * 16;
    for (uint32_t i = 0; i < count; i++, from += 16) {
        uint64_t half[2];
        memcpy(half, from, 16);
        uint64_t swapped[2] = { __builtin_bswap64(half[1]), __builtin_bswap64(half[0]) };
        memcpy(to, (const uint8_t *)swapped + 16 - width, width);
        to += has_value(v, at + i) ? width : 0;
    }
}

/* Values [at, at + count) without nulls, in the file's form. */
static const uint8_t *fixed_values(const struct parquet_chunk *c, struct chunk_scratch *s,
                                   const struct lake_column *v, uint32_t at, uint32_t count,
                                   uint32_t present) {
    uint32_t width = c->shape.width;
    bool decimal = c->shape.kind == LAKE_DECIMAL && c->shape.physical == PHYSICAL_FIXED;
    CHECK(v->width == width || c->shape.kind == LAKE_DECIMAL);
    if (present == count && v->width == width && !decimal) {
        return v->data + (size_t)at * width;
    }
    buf_clear(&s->cells);
    uint8_t *start = room(&s->cells, (size_t)(count + 1) * 16);
    uint8_t *to = start;
    if (decimal) {
        compact_decimal(v, at, count, width, to);
        return start;
    }
    switch (v->width * 256 + width) {
    case 0x101:
        COMPACT(uint8_t, uint8_t)
    case 0x404:
        COMPACT(uint32_t, uint32_t)
    case 0x808:
        COMPACT(uint64_t, uint64_t)
    case 0x804:
        COMPACT(uint64_t, uint32_t)
    default:
        CHECK(v->width == 16 && width == 16);
        COMPACT(unsigned __int128, unsigned __int128)
    }
    return start;
}

static uint32_t *index_room(struct parquet_chunk *c, uint32_t n) {
    uint32_t *to = room(&c->indices, (size_t)n * sizeof *to);
    c->indices.len += (size_t)n * sizeof *to;
    c->index_count += n;
    return to;
}

static void add_fixed(struct parquet_chunk *c, struct chunk_scratch *s, const struct lake_column *v,
                      uint32_t at, uint32_t count, uint32_t present) {
    const uint8_t *values = fixed_values(c, s, v, at, count, present);
    c->file_nans += count_nan(c->shape.order, values, present);
    if (c->has_bloom) {
        bloom_add_fixed(&c->bloom, values, c->shape.width, present);
    }
    c->page_present += present;
    if (c->dict_state != DICT_LEFT) {
        parquet_dict_index_fixed(&c->dict, values, present, index_room(c, present));
        return;
    }
    size_t bytes = (size_t)present * c->shape.width;
    memcpy(chunk_values_room(c, bytes), values, bytes);
    c->values.len += bytes;
}

/* Where values without nulls begin: null cells are empty, so that only their offsets are left out.
 */
static const uint32_t *value_offsets(struct chunk_scratch *s, const struct lake_column *v,
                                     uint32_t at, uint32_t count, uint32_t present) {
    if (present == count) {
        return v->offsets + at;
    }
    buf_clear(&s->offsets);
    uint32_t *start = room(&s->offsets, ((size_t)count + 1) * sizeof *start);
    uint32_t *to = start;
    uint32_t held = 0;
    for (uint32_t i = at; i < at + count; i++) {
        *to = v->offsets[i];
        held |= has_value(v, i) ? 0 : v->offsets[i + 1] - v->offsets[i];
        to += has_value(v, i);
    }
    CHECK(held == 0);
    *to = v->offsets[at + count];
    return start;
}

/* Length and bytes of each value. Short ones are copied as 32 bytes, where source and room allow
 * that. */
static void append_texts(struct parquet_chunk *c, const uint8_t *data, const uint32_t *offsets,
                         uint32_t n) {
    size_t bytes = (size_t)(offsets[n] - offsets[0]) + 4 * (size_t)n;
    uint8_t *to = chunk_values_room(c, bytes + 32);
    uint32_t end = offsets[n];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = offsets[i];
        uint32_t len = offsets[i + 1] - from;
        memcpy(to, &len, 4);
        to += 4;
        if (LIKELY(end - from >= 32)) {
            memcpy(to, data + from, 32);
            if (len > 32) {
                memcpy(to + 32, data + from + 32, len - 32);
            }
        } else if (len > 0) {
            memcpy(to, data + from, len);
        }
        to += len;
    }
    c->values.len += bytes;
}

/* Values behind each other, their lengths apart. */
static void append_apart(struct parquet_chunk *c, const uint8_t *data, const uint32_t *offsets,
                         uint32_t n) {
    size_t bytes = offsets[n] - offsets[0];
    uint8_t *to = chunk_values_room(c, bytes);
    if (bytes > 0) {
        memcpy(to, data + offsets[0], bytes);
    }
    c->values.len += bytes;
    uint32_t *lengths = room(&c->lengths, (size_t)n * sizeof *lengths);
    for (uint32_t i = 0; i < n; i++) {
        lengths[i] = offsets[i + 1] - offsets[i];
    }
    c->lengths.len += (size_t)n * sizeof *lengths;
}

static void add_texts(struct parquet_chunk *c, struct chunk_scratch *s, const struct lake_column *v,
                      uint32_t at, uint32_t count, uint32_t present) {
    if (present == 0) {
        return;
    }
    const uint32_t *offsets = value_offsets(s, v, at, count, present);
    if (c->has_bloom) {
        bloom_add_bytes(&c->bloom, v->data, offsets, present);
    }
    c->page_present += present;
    c->page_text += (uint64_t)(offsets[present] - offsets[0]) + 4 * (uint64_t)present;
    if (c->dict_state != DICT_LEFT) {
        parquet_dict_index_bytes(&c->dict, v->data, offsets, present, index_room(c, present));
        return;
    }
    struct parquet_range range = { 0 };
    range_bytes(&range, v->data, offsets, present);
    bounds_take(&c->page_bounds, c->shape.order, &range);
    if (c->shape.base == ENCODING_PLAIN) {
        append_texts(c, v->data, offsets, present);
    } else {
        append_apart(c, v->data, offsets, present);
    }
}

/* ---- slices ---- */

/* Bytes of values [from, to), with lengths. */
static uint64_t value_bytes(const struct parquet_chunk *c, const struct lake_column *v,
                            uint32_t from, uint32_t to) {
    if (c->shape.width) {
        return (uint64_t)(to - from) * c->shape.width;
    }
    return (uint64_t)(v->offsets[to] - v->offsets[from]) + 4 * (uint64_t)(to - from);
}

/* Rows from at on that the open page still takes: at least one, and with the last it may go beyond
 * its bytes. */
static uint32_t slice_rows(const struct parquet_chunk *c, const struct lake_column *column,
                           uint32_t at, uint32_t count) {
    uint64_t held = c->shape.width ? (uint64_t)c->page_present * c->shape.width : c->page_text;
    uint64_t left = c->page_bytes > held ? c->page_bytes - held : 1;
    uint32_t most = PAGE_ROWS_MAX - c->page_rows;
    if (c->dict_state == DICT_TRIAL && c->page_rows < FIRST_SLICE_ROWS) {
        most = FIRST_SLICE_ROWS - c->page_rows;
    }
    most = most < count ? most : count;
    const struct lake_column *v = c->shape.list ? column->elements : column;
    uint32_t low = 1;
    uint32_t high = most;
    while (low < high) { /* the fewest rows that fill it */
        uint32_t middle = low + (high - low) / 2;
        uint64_t bytes;
        if (c->shape.list) {
            bytes = value_bytes(c, v, column->offsets[at], column->offsets[at + middle]) + middle;
        } else {
            bytes = value_bytes(c, v, at, at + middle);
        }
        if (bytes >= left) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static uint64_t slice_bytes(const struct parquet_chunk *c, const struct lake_column *column,
                            uint32_t at, uint32_t count) {
    if (c->shape.list) {
        return value_bytes(c, column->elements, column->offsets[at], column->offsets[at + count]);
    }
    return value_bytes(c, column, at, at + count);
}

static int check_slice(const struct parquet_chunk *c, const struct lake_column *column, uint32_t at,
                       uint32_t count, const char *name, struct err *err) {
    if (c->shape.required && column->valid && count_ones(column->valid, at, count) < count) {
        return err_set(err, ERR_FATAL, "parquet_null",
                       "column \"%s\" is required, and a row has null in it", name);
    }
    uint32_t levels = c->shape.list ? column->offsets[at + count] - column->offsets[at] : 0;
    if (slice_bytes(c, column, at, count) > CELL_BYTES_MAX || levels > CELL_BYTES_MAX / 16) {
        return err_set(err, ERR_FATAL, "parquet_cell_large",
                       "column \"%s\": a value of more than %u bytes cannot be in a Parquet page",
                       name, CELL_BYTES_MAX);
    }
    return 0;
}

static void add_slice(struct parquet_chunk *c, struct chunk_scratch *s,
                      const struct lake_column *column, uint32_t at, uint32_t count) {
    const struct lake_column *v = column;
    uint32_t rows = count;
    if (c->shape.list) {
        v = column->elements;
        add_list_levels(c, column, at, count);
        uint32_t from = column->offsets[at];
        count = column->offsets[at + count] - from;
        at = from;
    }
    uint32_t present = v->valid ? count_ones(v->valid, at, count) : count;
    if (!c->shape.list) {
        add_flat_levels(c, v, at, count, present);
    }
    if (c->shape.width) {
        if (present > 0) {
            add_fixed(c, s, v, at, count, present);
        }
    } else {
        add_texts(c, s, v, at, count, present);
    }
    c->page_rows += rows;
}

static bool page_full(const struct parquet_chunk *c) {
    uint64_t held = c->shape.width ? (uint64_t)c->page_present * c->shape.width : c->page_text;
    if (c->shape.list) {
        held += c->page_values;
    }
    return c->page_rows >= PAGE_ROWS_MAX || held >= c->page_bytes;
}

int chunk_add(struct parquet_chunk *c, struct chunk_scratch *s, const struct lake_column *column,
              uint32_t at, uint32_t count, const char *name, struct err *err) {
    while (count > 0) {
        uint32_t n = slice_rows(c, column, at, count);
        if (check_slice(c, column, at, n, name, err)) {
            return -1;
        }
        if (c->dict_state != DICT_LEFT &&
            slice_bytes(c, column, at, n) > c->page_bytes + DICT_SLICE_BYTES_MAX) {
            trial_give_up(c, s);
        }
        add_slice(c, s, column, at, n);
        trial_after_slice(c);
        if (page_full(c)) {
            chunk_page_close(c, s, false);
        }
        at += n;
        count -= n;
    }
    return 0;
}
