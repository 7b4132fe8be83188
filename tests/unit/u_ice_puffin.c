/* Position bitmaps and deletion vectors: their bytes, what is refused, the Puffin file around them.
 */
#include <stdlib.h>

#include "sinks/iceberg/ice_puffin.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Rows 100..249 as one run: the bytes that other implementations accept for it. */
static const uint8_t RUN_BLOB[] = { 0x00, 0x00, 0x00, 0x1f, 0xd1, 0xd3, 0x39, 0x64, 0x01, 0x00,
                                    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                    0x3b, 0x30, 0x00, 0x00, 0x01, 0x00, 0x00, 0x95, 0x00, 0x01,
                                    0x00, 0x64, 0x00, 0x95, 0x00, 0x47, 0x9a, 0xee, 0x8b };

TEST(dv_of_one_run_has_the_known_bytes) {
    struct ice_bitmap *b = ice_bitmap_new();
    for (uint64_t pos = 100; pos < 250; pos++) {
        EXPECT_TRUE(ice_bitmap_add(b, pos));
    }
    EXPECT_TRUE(!ice_bitmap_add(b, 120));
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_dv_put(&out, b);
    EXPECT_EQ_MEM(out.data, out.len, RUN_BLOB, sizeof RUN_BLOB);
    buf_release(&out);
    ice_bitmap_free(b);
}

/* Sparse, dense and run-like containers, and positions beyond 2^32. */
static void fill(struct ice_bitmap *b, uint64_t seed) {
    for (int i = 0; i < 3000; i++) {
        ice_bitmap_add(b, next_random(&seed) % 2000000);
    }
    for (int i = 0; i < 20000; i++) {
        ice_bitmap_add(b, UINT64_C(7) << 16 | next_random(&seed) % 65536);
    }
    for (uint64_t i = 0; i < 70000; i++) {
        ice_bitmap_add(b, (UINT64_C(3) << 32) + i);
    }
}

TEST(dv_reads_back_what_was_put) {
    struct ice_bitmap *b = ice_bitmap_new();
    struct ice_bitmap *back = ice_bitmap_new();
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    fill(b, 42);
    ice_dv_put(&out, b);
    EXPECT_EQ_INT(ice_dv_take(out.data, out.len, ice_bitmap_count(b), back, &err), 0);
    EXPECT_EQ_U64(ice_bitmap_count(back), ice_bitmap_count(b));
    uint64_t at = 0, at_back = 0, got[777], got_back[777];
    uint32_t n, total = 0;
    while ((n = ice_bitmap_next(b, &at, got, 777)) > 0) {
        EXPECT_EQ_INT(ice_bitmap_next(back, &at_back, got_back, 777), n);
        EXPECT_EQ_MEM(got, n * sizeof *got, got_back, n * sizeof *got);
        EXPECT_TRUE(ice_bitmap_has(back, got[n / 2]));
        total += n;
    }
    EXPECT_EQ_U64(total, ice_bitmap_count(b));
    EXPECT_EQ_INT(ice_bitmap_next(back, &at_back, got, 1), 0);
    buf_release(&out);
    ice_bitmap_free(b);
    ice_bitmap_free(back);
}

TEST(dv_that_is_damaged_is_refused_and_adds_nothing) {
    struct ice_bitmap *b = ice_bitmap_new();
    struct err err = ERR_INIT;
    uint8_t bytes[sizeof RUN_BLOB];
    for (size_t i = 0; i < sizeof bytes; i++) {
        memcpy(bytes, RUN_BLOB, sizeof bytes);
        bytes[i] ^= 0x10;
        EXPECT_EQ_INT(ice_dv_take(bytes, sizeof bytes, 150, b, &err), -1);
        EXPECT_EQ_STR(err.code, "deletes_damaged");
        EXPECT_EQ_INT(ice_dv_take(RUN_BLOB, i, 150, b, &err), -1);
    }
    EXPECT_EQ_INT(ice_dv_take(RUN_BLOB, sizeof RUN_BLOB, 149, b, &err), -1);
    EXPECT_EQ_U64(ice_bitmap_count(b), 0);
    EXPECT_EQ_INT(ice_dv_take(RUN_BLOB, sizeof RUN_BLOB, 150, b, &err), 0);
    EXPECT_EQ_U64(ice_bitmap_count(b), 150);
    ice_bitmap_free(b);
}

TEST(puffin_names_each_blob_and_keeps_them_apart) {
    struct ice_puffin *p = ice_puffin_new();
    struct ice_bitmap *b = ice_bitmap_new();
    ice_bitmap_add(b, 5);
    int64_t offset[2], bytes[2];
    ice_puffin_add(p, b, "file:///a.parquet", &offset[0], &bytes[0]);
    ice_puffin_add(p, b, "file:///b.parquet", &offset[1], &bytes[1]);
    EXPECT_EQ_INT(offset[0], 4);
    EXPECT_EQ_INT(offset[1], offset[0] + bytes[0] + 8);
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_puffin_finish(p, &out);
    struct ice_bitmap *back = ice_bitmap_new();
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_dv_take(out.data + offset[1], (size_t)bytes[1], 1, back, &err), 0);
    EXPECT_TRUE(ice_bitmap_has(back, 5));
    EXPECT_EQ_MEM(out.data, 4, "PFA1", 4);
    EXPECT_EQ_MEM(out.data + out.len - 8, 8, "\0\0\0\0PFA1", 8);
    uint32_t len;
    memcpy(&len, out.data + out.len - 12, sizeof len);
    const char *json = out.data + out.len - 12 - len;
    EXPECT_EQ_MEM(json - 4, 4, "PFA1", 4);
    const char want[] =
        "{\"blobs\":[{\"type\":\"deletion-vector-v1\",\"fields\":[2147483645],\"snapshot-id\":-1,"
        "\"sequence-number\":-1,\"offset\":4,\"length\":";
    EXPECT_EQ_MEM(json, sizeof want - 1, want, sizeof want - 1);
    ice_bitmap_free(back);
    ice_bitmap_free(b);
    ice_puffin_free(p);
    buf_release(&out);
}
