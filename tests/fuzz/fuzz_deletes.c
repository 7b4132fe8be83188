/* Deletion vectors as a file may hold them: the first byte says how many rows the manifest claims;
 * if the rest is taken, putting the set again and taking that gives the same set. */
#include <stdlib.h>

#include "sinks/iceberg/ice_puffin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_and_take_again(struct ice_bitmap *b) {
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    ice_dv_put(&bytes, b);
    struct ice_bitmap *back = ice_bitmap_new();
    struct err err = ERR_INIT;
    CHECK(ice_dv_take(bytes.data, bytes.len, ice_bitmap_count(b), back, &err) == 0);
    CHECK(ice_bitmap_count(back) == ice_bitmap_count(b));
    ice_bitmap_or(back, b);
    CHECK(ice_bitmap_count(back) == ice_bitmap_count(b));
    ice_bitmap_free(back);
    buf_release(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err err = ERR_INIT;
    struct ice_bitmap *b = ice_bitmap_new();
    if (ice_bitmap_take(b, data, size) == 0) {
        put_and_take_again(b);
    }
    ice_bitmap_free(b);
    b = ice_bitmap_new();
    if (size > 0 && ice_dv_take(data + 1, size - 1, data[0], b, &err) == 0) {
        put_and_take_again(b);
    }
    ice_bitmap_free(b);
    return 0;
}
