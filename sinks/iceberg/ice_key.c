/* See ice_key.h. */
#include "sinks/iceberg/ice_key.h"

#include "cdc/base/map.h"

static const uint64_t KEY_SEED = UINT64_C(0x6b657973);

void ice_key_put(struct buf *out, const struct lake_column *columns, uint32_t count, uint32_t row) {
    for (uint32_t i = 0; i < count; i++) {
        const struct lake_column *c = &columns[i];
        if (c->width) {
            buf_put(out, c->data + (size_t)row * c->width, c->width);
            continue;
        }
        uint32_t len = c->offsets[row + 1] - c->offsets[row];
        buf_put(out, &len, sizeof len);
        buf_put(out, c->data + c->offsets[row], len);
    }
}

void ice_key_hashes(const struct lake_column *columns, uint32_t count, struct buf *scratch,
                    uint64_t *hashes) {
    uint32_t rows = columns[0].rows;
    if (count == 1 && columns[0].width) { /* the usual key: its bytes lie as they are hashed */
        for (uint32_t r = 0; r < rows; r++) {
            hashes[r] = hash_bytes(columns[0].data + (size_t)r * columns[0].width, columns[0].width,
                                   KEY_SEED);
        }
        return;
    }
    for (uint32_t r = 0; r < rows; r++) {
        buf_clear(scratch);
        ice_key_put(scratch, columns, count, r);
        hashes[r] = hash_bytes(scratch->data, scratch->len, KEY_SEED);
    }
}
