/* Columns of any lake type made from a seed, Parquet files in memory, and a cursor's pieces
 * compared with the columns that were written. For the tests of the reader. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "cdc/base/buf.h"
#include "sinks/parquet/parquet_reader.h"
#include "sinks/parquet/parquet_writer.h"
#include "tests/unit/kit.h"

struct made_column {
    struct lake_column column, elements;
    uint8_t *valid, *data, *element_valid;
    uint32_t *offsets, *element_offsets;
};

static inline uint64_t made_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static inline uint32_t made_width(enum lake_kind kind, uint8_t precision) {
    switch (kind) {
    case LAKE_BOOL:
        return 1;
    case LAKE_INT:
    case LAKE_DATE:
    case LAKE_FLOAT:
        return 4;
    case LAKE_STRING:
    case LAKE_BINARY:
    case LAKE_LIST:
        return 0;
    case LAKE_DECIMAL:
        return precision <= 18 ? 8 : 16;
    case LAKE_UUID:
        return 16;
    default:
        return 8;
    }
}

/* One cell within its type; distinct: how many different ones there are. */
static inline void made_cell(uint8_t *out, enum lake_kind kind, uint8_t precision, uint32_t width,
                             uint64_t pick) {
    uint64_t seed = pick * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (uint32_t i = 0; i < width; i += 8) {
        uint64_t word = made_random(&seed);
        memcpy(out + i, &word, width - i < 8 ? width - i : 8);
    }
    if (kind == LAKE_BOOL) {
        out[0] = (uint8_t)(pick & 1);
    } else if (kind == LAKE_TIME) {
        uint64_t us = seed % UINT64_C(86400000000);
        memcpy(out, &us, 8);
    } else if (kind == LAKE_FLOAT || kind == LAKE_DOUBLE) {
        double d = (double)(int64_t)(pick % 100000) / 8;
        float f = (float)d;
        memcpy(out, kind == LAKE_FLOAT ? (void *)&f : (void *)&d, width);
    } else if (kind == LAKE_DECIMAL) {
        __int128 greatest = 1;
        for (int i = 0; i < precision; i++) {
            greatest *= 10;
        }
        __int128 v = (__int128)(((unsigned __int128)seed << 64 | made_random(&seed)) >> 1);
        v = v % greatest * (pick & 1 ? -1 : 1);
        memcpy(out, &v, width);
    }
}

static inline uint8_t *made_valid(uint32_t rows, unsigned nulls_percent, uint64_t *seed) {
    uint8_t *bits = xcalloc(rows / 8 + 1, 1);
    for (uint32_t i = 0; i < rows; i++) {
        if (made_random(seed) % 100 >= nulls_percent) {
            bits[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
    return bits;
}

static inline bool made_has(const uint8_t *valid, uint32_t row) {
    return !valid || (valid[row / 8] >> row % 8 & 1);
}

/* Cells of any kind but LIST. distinct 0: as many as come; ascending numbers if 1. */
static inline void made_cells(struct lake_column *c, uint8_t **data, uint32_t **offsets,
                              enum lake_kind kind, uint64_t distinct, uint64_t *seed) {
    uint32_t width = made_width(kind, c->type.precision);
    size_t room = width ? (size_t)c->rows * width : (size_t)c->rows * 40;
    *data = xcalloc(room + 64, 1);
    if (!width) {
        *offsets = xcalloc(c->rows + 1u, sizeof **offsets);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->rows; i++) {
        uint64_t pick = distinct == 1 ? i
                        : distinct    ? made_random(seed) % distinct
                                      : made_random(seed);
        if (width) {
            uint8_t *cell = *data + (size_t)i * width;
            made_cell(cell, kind, c->type.precision, width, pick);
            if (distinct == 1 && (kind == LAKE_INT || kind == LAKE_LONG)) {
                uint64_t v = 1000 + 3 * (uint64_t)i + made_random(seed) % 3;
                memcpy(cell, &v, width);
            }
            continue;
        }
        if (made_has(c->valid, i)) {
            uint32_t len = (uint32_t)(pick % 34);
            for (uint32_t k = 0; k < len; k++) {
                (*data)[at + k] = (uint8_t)('a' + (pick >> k % 24) % 26);
            }
            at += len;
        }
        (*offsets)[i + 1] = at;
    }
    c->width = width;
    c->data = *data;
    c->offsets = width ? NULL : *offsets;
}

static inline void made_init(struct made_column *m, struct lake_type type, uint32_t rows,
                             unsigned nulls_percent, uint64_t distinct, uint64_t seed) {
    *m = (struct made_column){ .column = { .type = type, .rows = rows } };
    seed = seed * 2 + 1;
    if (nulls_percent > 0) {
        m->column.valid = m->valid = made_valid(rows, nulls_percent, &seed);
    }
    if (type.kind != LAKE_LIST) {
        made_cells(&m->column, &m->data, &m->offsets, type.kind, distinct, &seed);
        return;
    }
    m->offsets = xcalloc(rows + 1u, sizeof *m->offsets);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t n = made_has(m->valid, i) ? (uint32_t)(made_random(&seed) % 5) : 0;
        m->offsets[i + 1] = m->offsets[i] + n;
    }
    m->column.offsets = m->offsets;
    m->elements.type = (struct lake_type){ .kind = type.element,
                                           .precision = type.precision,
                                           .scale = type.scale };
    m->elements.rows = m->offsets[rows];
    m->elements.valid = m->element_valid = made_valid(m->elements.rows, nulls_percent, &seed);
    made_cells(&m->elements, &m->data, &m->element_offsets, type.element, distinct, &seed);
    m->column.elements = &m->elements;
}

static inline void made_release(struct made_column *m) {
    free(m->valid);
    free(m->data);
    free(m->element_valid);
    free(m->offsets);
    free(m->element_offsets);
}

static inline bool made_same_cell(const struct lake_column *a, uint32_t i,
                                  const struct lake_column *b, uint32_t k) {
    bool has = made_has(a->valid, i);
    if (has != made_has(b->valid, k)) {
        return false;
    }
    if (a->width > 0) {
        return !has || memcmp(a->data + (size_t)i * a->width, b->data + (size_t)k * b->width,
                              a->width) == 0;
    }
    uint32_t len = a->offsets[i + 1] - a->offsets[i];
    return len == b->offsets[k + 1] - b->offsets[k] &&
           (len == 0 || memcmp(a->data + a->offsets[i], b->data + b->offsets[k], len) == 0);
}

/* The first row of the piece that is not what was written; UINT32_MAX: all are. */
static inline uint32_t made_difference(const struct lake_column *piece,
                                       const struct lake_column *want, uint64_t from) {
    for (uint32_t i = 0; i < piece->rows; i++) {
        uint32_t row = (uint32_t)from + i;
        if (row >= want->rows || !lake_type_equal(&piece->type, &want->type) ||
            piece->width != want->width) {
            return i;
        }
        if (want->type.kind != LAKE_LIST) {
            if (!made_same_cell(want, row, piece, i)) {
                return i;
            }
            continue;
        }
        uint32_t n = want->offsets[row + 1] - want->offsets[row];
        if (made_has(want->valid, row) != made_has(piece->valid, i) ||
            n != piece->offsets[i + 1] - piece->offsets[i]) {
            return i;
        }
        for (uint32_t k = 0; k < n; k++) {
            if (!made_same_cell(want->elements, want->offsets[row] + k, piece->elements,
                                piece->offsets[i] + k)) {
                return i;
            }
        }
    }
    return UINT32_MAX;
}

static inline int made_write(void *arg, const void *p, size_t n, struct err *err) {
    (void)err;
    buf_put(arg, p, n);
    return 0;
}

static inline int made_read_at(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    const struct buf *file = arg;
    if (off > file->len || n > file->len - off) {
        return err_set(err, ERR_FATAL, "object_short", "%zu bytes at %lu", n, (unsigned long)off);
    }
    memcpy(p, file->data + off, n);
    return 0;
}

static inline int made_open(struct buf *file, size_t bytes_max, struct parquet_reader **r,
                            struct err *err) {
    struct parquet_input input = {
        .read_at = made_read_at, .arg = file, .size = file->len, .name = "made.parquet"
    };
    return parquet_reader_open(input, bytes_max, r, err);
}

/* A file of the columns, all with the same rows. */
static inline void made_file(struct buf *file, const struct parquet_field *fields,
                             const struct lake_column *columns, uint32_t count,
                             const struct parquet_options *options) {
    struct err err = ERR_INIT;
    struct parquet_info info = { 0 };
    buf_init(file, SIZE_MAX);
    struct parquet_writer *w = parquet_writer_new(
        fields, count, options, (struct parquet_output){ .write = made_write, .arg = file });
    EXPECT_EQ_INT(parquet_writer_add(w, columns, columns[0].rows, &err), 0);
    EXPECT_EQ_INT(parquet_writer_finish(w, &info, &err), 0);
    EXPECT_EQ_STR(err.text, "");
    parquet_info_release(&info);
    parquet_writer_free(w);
}
