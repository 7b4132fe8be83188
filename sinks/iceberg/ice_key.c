/* See ice_key.h. */
#include "sinks/iceberg/ice_key.h"

#include <string.h>

#include "cdc/base/map.h"

static const uint64_t KEY_SEED = UINT64_C(0x6b657973);

enum ice_key_form ice_key_form_of(const struct type *source, const struct lake_type *lake) {
    bool number = source->kind == TYPE_NUMERIC || source->kind == TYPE_DECIMAL ||
                  source->kind == TYPE_FLOAT32 || source->kind == TYPE_FLOAT64;
    if (lake->kind == LAKE_STRING) {
        return number ? ICE_KEY_NUMBER : ICE_KEY_EXACT;
    }
    return lake->kind == LAKE_FLOAT || lake->kind == LAKE_DOUBLE ? ICE_KEY_FLOAT : ICE_KEY_EXACT;
}

/* Bytes of a number's text without zeros behind its fraction. */
static uint32_t number_len(const uint8_t *text, uint32_t len) {
    if (len == 0 || !memchr(text, '.', len) || memchr(text, 'e', len) || memchr(text, 'E', len)) {
        return len;
    }
    while (text[len - 1] == '0') {
        len--;
    }
    return text[len - 1] == '.' ? len - 1 : len;
}

static void put_text(struct buf *out, const uint8_t *text, uint32_t len, enum ice_key_form form) {
    if (form == ICE_KEY_NUMBER) {
        len = number_len(text, len);
        if (len == 2 && text[0] == '-' && text[1] == '0') {
            text++;
            len--;
        }
    }
    buf_put(out, &len, sizeof len);
    buf_put(out, text, len);
}

static void put_double(struct buf *out, double v, enum ice_key_form form) {
    uint64_t bits;
    if (form == ICE_KEY_FLOAT) {
        v = v == 0 ? 0 : v;
    }
    memcpy(&bits, &v, sizeof bits);
    if (form == ICE_KEY_FLOAT && v != v) {
        bits = UINT64_C(0x7ff8000000000000);
    }
    buf_put(out, &bits, sizeof bits);
}

static void put_fixed(struct buf *out, const struct lake_column *c, uint32_t row,
                      enum ice_key_form form) {
    const uint8_t *cell = c->data + (size_t)row * c->width;
    uint8_t wide[16];
    switch (c->type.kind) {
    case LAKE_INT: {
        int32_t narrow;
        memcpy(&narrow, cell, sizeof narrow);
        int64_t v = narrow;
        buf_put(out, &v, sizeof v);
        return;
    }
    case LAKE_FLOAT: {
        float narrow;
        memcpy(&narrow, cell, sizeof narrow);
        put_double(out, (double)narrow, form);
        return;
    }
    case LAKE_DOUBLE: {
        double v;
        memcpy(&v, cell, sizeof v);
        put_double(out, v, form);
        return;
    }
    case LAKE_DECIMAL:
        memset(wide, cell[c->width - 1] & 0x80 ? 0xff : 0, sizeof wide);
        memcpy(wide, cell, c->width);
        buf_put(out, wide, sizeof wide);
        return;
    default:
        buf_put(out, cell, c->width);
    }
}

static void put_list(struct buf *out, const struct lake_column *c, uint32_t row) {
    const struct lake_column *elements = c->elements;
    uint32_t first = c->offsets[row];
    uint32_t count = c->offsets[row + 1] - first;
    buf_put(out, &count, sizeof count);
    for (uint32_t i = first; i < first + count; i++) { /* never lists themselves */
        bool valid = !elements->valid || bit_get(elements->valid, i);
        buf_putc(out, valid ? 1 : 0);
        if (!valid) {
            continue;
        }
        if (elements->width) {
            put_fixed(out, elements, i, ICE_KEY_EXACT);
        } else {
            put_text(out, elements->data + elements->offsets[i],
                     elements->offsets[i + 1] - elements->offsets[i], ICE_KEY_EXACT);
        }
    }
}

void ice_key_put_cell(struct buf *out, const struct lake_column *c, uint32_t row,
                      enum ice_key_form form) {
    if (c->width) {
        put_fixed(out, c, row, form);
    } else if (c->type.kind == LAKE_LIST) {
        put_list(out, c, row);
    } else {
        put_text(out, c->data + c->offsets[row], c->offsets[row + 1] - c->offsets[row], form);
    }
}

void ice_key_put(struct buf *out, const struct lake_column *columns, const enum ice_key_form *forms,
                 uint32_t count, uint32_t row) {
    for (uint32_t i = 0; i < count; i++) {
        ice_key_put_cell(out, &columns[i], row, forms[i]);
    }
}

uint64_t ice_key_hash(const void *key, size_t len, uint64_t mask) {
    uint64_t hash = hash_bytes(key, len, KEY_SEED);
    if (UNLIKELY(mask != UINT64_MAX)) {
        hash &= mask;
        hash = hash_bytes(&hash, sizeof hash, KEY_SEED); /* few, and spread as all hashes are */
    }
    return hash;
}

/* The usual keys: one column of integers or of cells that are hashed as they lie. */
static bool hash_fixed(const struct lake_column *c, uint64_t mask, uint64_t *hashes) {
    if (c->type.kind == LAKE_INT) {
        for (uint32_t r = 0; r < c->rows; r++) {
            int32_t narrow;
            memcpy(&narrow, c->data + (size_t)r * sizeof narrow, sizeof narrow);
            int64_t v = narrow;
            hashes[r] = ice_key_hash(&v, sizeof v, mask);
        }
        return true;
    }
    if (c->type.kind == LAKE_LONG || c->type.kind == LAKE_UUID) {
        for (uint32_t r = 0; r < c->rows; r++) {
            hashes[r] = ice_key_hash(c->data + (size_t)r * c->width, c->width, mask);
        }
        return true;
    }
    return false;
}

void ice_key_hashes(const struct lake_column *columns, const enum ice_key_form *forms,
                    uint32_t count, uint64_t mask, struct buf *scratch, uint64_t *hashes) {
    if (count == 1 && hash_fixed(&columns[0], mask, hashes)) {
        return;
    }
    for (uint32_t r = 0; r < columns[0].rows; r++) {
        buf_clear(scratch);
        ice_key_put(scratch, columns, forms, count, r);
        hashes[r] = ice_key_hash(scratch->data, scratch->len, mask);
    }
}
