/* See lake_builder.h. */
#include "sinks/parquet/lake_builder.h"

#include <stdlib.h>
#include <string.h>

uint32_t lake_width(const struct lake_type *type) {
    switch (type->kind) {
    case LAKE_BOOL:
        return 1;
    case LAKE_INT:
    case LAKE_DATE:
    case LAKE_FLOAT:
        return 4;
    case LAKE_LONG:
    case LAKE_DOUBLE:
    case LAKE_TIME:
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        return 8;
    case LAKE_DECIMAL:
        return type->precision <= 18 ? 8 : 16;
    case LAKE_UUID:
        return 16;
    case LAKE_STRING:
    case LAKE_BINARY:
    case LAKE_LIST:
        return 0;
    }
    CHECK(!"no such lake type");
    return 0;
}

static struct lake_type element_of(const struct lake_type *list) {
    return (struct lake_type){ .kind = list->element,
                               .precision = list->precision,
                               .scale = list->scale };
}

void lake_builder_init(struct lake_builder *b) {
    *b = (struct lake_builder){ 0 };
    buf_init(&b->data, SIZE_MAX);
    buf_init(&b->offsets, SIZE_MAX);
    buf_init(&b->valid, SIZE_MAX);
}

void lake_builder_release(struct lake_builder *b) {
    buf_release(&b->data);
    buf_release(&b->offsets);
    buf_release(&b->valid);
    if (b->elements) {
        lake_builder_release(b->elements);
        free(b->elements);
    }
    *b = (struct lake_builder){ 0 };
}

static void put_offset(struct lake_builder *b, size_t at) {
    uint32_t offset = (uint32_t)at;
    CHECK(at <= UINT32_MAX);
    buf_put(&b->offsets, &offset, sizeof offset);
}

void lake_builder_begin(struct lake_builder *b, const struct lake_type *type) {
    b->type = *type;
    b->rows = 0;
    b->width = lake_width(type);
    b->any_null = false;
    buf_clear(&b->data);
    buf_clear(&b->offsets);
    buf_clear(&b->valid);
    if (b->width == 0) {
        put_offset(b, 0);
    }
    if (type->kind == LAKE_LIST) {
        if (!b->elements) { /* one level: elements are never lists */
            b->elements = xmalloc(sizeof *b->elements);
            lake_builder_init(b->elements);
        }
        struct lake_type element = element_of(type);
        lake_builder_begin(b->elements, &element);
    }
}

/* The row's bit; the row is then counted. */
static void row_done(struct lake_builder *b, bool valid) {
    if ((b->rows & 7) == 0) {
        buf_putc(&b->valid, 0);
    }
    if (valid) {
        bit_set((uint8_t *)b->valid.data, b->rows);
    }
    b->any_null = b->any_null || !valid;
    b->rows++;
}

static size_t end_of(const struct lake_builder *b) {
    return b->type.kind == LAKE_LIST ? b->elements->rows : b->data.len;
}

void lake_builder_null(struct lake_builder *b) {
    static const uint8_t zeros[16];
    if (b->width) {
        buf_put(&b->data, zeros, b->width);
    } else {
        put_offset(b, end_of(b));
    }
    row_done(b, false);
}

/* A narrower cell in the builder's width. */
static void put_widened(struct lake_builder *b, const struct lake_column *from,
                        const uint8_t *cell) {
    if (b->type.kind == LAKE_DOUBLE) {
        float narrow;
        memcpy(&narrow, cell, sizeof narrow);
        double wide = (double)narrow;
        buf_put(&b->data, &wide, sizeof wide);
        return;
    }
    uint8_t wide[16];
    uint8_t sign = cell[from->width - 1] & 0x80 ? 0xff : 0; /* two's complement, little-endian */
    memset(wide, sign, sizeof wide);
    memcpy(wide, cell, from->width);
    buf_put(&b->data, wide, b->width);
}

void lake_builder_add(struct lake_builder *b, const struct lake_column *from, uint32_t row) {
    if (from->valid && !bit_get(from->valid, row)) {
        lake_builder_null(b);
        return;
    }
    if (b->type.kind == LAKE_LIST) {
        for (uint32_t i = from->offsets[row]; i < from->offsets[row + 1]; i++) {
            lake_builder_add(b->elements, from->elements, i);
        }
        put_offset(b, b->elements->rows);
    } else if (b->width == 0) {
        buf_put(&b->data, from->data + from->offsets[row],
                from->offsets[row + 1] - from->offsets[row]);
        put_offset(b, b->data.len);
    } else if (from->width == b->width) {
        buf_put(&b->data, from->data + (size_t)row * b->width, b->width);
    } else {
        put_widened(b, from, from->data + (size_t)row * from->width);
    }
    row_done(b, true);
}

void lake_builder_column(struct lake_builder *b, struct lake_column *out) {
    *out = (struct lake_column){
        .type = b->type,
        .rows = b->rows,
        .width = b->width,
        .valid = b->any_null ? (const uint8_t *)b->valid.data : NULL,
        .data = (const uint8_t *)b->data.data,
        .offsets = b->width ? NULL : (const uint32_t *)(const void *)b->offsets.data,
    };
    if (b->type.kind == LAKE_LIST) {
        lake_builder_column(b->elements, &b->element_column);
        out->elements = &b->element_column;
    }
}
