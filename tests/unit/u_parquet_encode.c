/* The small pieces of Parquet files, byte for byte where the format's documents have examples, and
 * against plain decoders written here: bit packing, levels, deltas, dictionaries, hashes and bloom
 * filters. */
#include <stdlib.h>
#include <string.h>

#include "sinks/parquet/parquet_bloom.h"
#include "sinks/parquet/parquet_delta.h"
#include "sinks/parquet/parquet_dict.h"
#include "sinks/parquet/parquet_levels.h"
#include "sinks/parquet/parquet_pack.h"
#include "sinks/parquet/thrift_put.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* ---- decoders, a bit at a time ---- */

static uint64_t take_bits(const uint8_t *p, size_t at, unsigned width) {
    uint64_t v = 0;
    for (unsigned i = 0; i < width; i++) {
        v |= (uint64_t)(p[(at + i) / 8] >> ((at + i) % 8) & 1) << i;
    }
    return v;
}

static uint64_t take_varint(const uint8_t **p) {
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = *(*p)++;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return v;
        }
    }
}
static int64_t unzigzag(uint64_t v) { return (int64_t)(v >> 1) ^ -(int64_t)(v & 1); }

/* How many values there were in the bytes, at least count; -1: bytes are left, or missing. */
static int64_t take_hybrid(const uint8_t *p, size_t len, unsigned width, uint32_t count,
                           uint32_t *out) {
    const uint8_t *end = p + len;
    int64_t n = 0;
    while (p < end) {
        uint64_t head = take_varint(&p);
        uint64_t values = head & 1 ? (head >> 1) * 8 : head >> 1;
        for (uint64_t i = 0; i < values; i++, n++) {
            uint32_t v =
                (uint32_t)(head & 1 ? take_bits(p, i * width, width) : take_bits(p, 0, width));
            if (n < count) {
                out[n] = v;
            } else if (v != 0) {
                return -1; /* padding is zeros */
            }
        }
        p += head & 1 ? (head >> 1) * width : (width + 7) / 8;
    }
    return p == end && n >= count && n < (int64_t)count + 8 ? n : -1;
}

static bool take_delta(const uint8_t *p, size_t len, unsigned bits, uint32_t count, int64_t *out) {
    const uint8_t *end = p + len;
    uint64_t block = take_varint(&p);
    uint64_t minis = take_varint(&p);
    if (block != 128 || minis != 4 || take_varint(&p) != count) {
        return false;
    }
    int64_t v = unzigzag(take_varint(&p));
    uint32_t n = 0;
    if (count > 0) {
        out[n++] = v;
    }
    while (n < count) {
        int64_t least = unzigzag(take_varint(&p));
        const uint8_t *widths = p;
        p += 4;
        for (int m = 0; m < 4; m++) {
            if (n == count && widths[m] != 0) {
                return false;
            }
            for (unsigned i = 0; i < 32; i++) {
                uint64_t delta = take_bits(p, (size_t)i * widths[m], widths[m]);
                if (n < count) {
                    v = (int64_t)((uint64_t)v + (uint64_t)least + delta);
                    v = bits == 32 ? (int32_t)(uint32_t)v : v;
                    out[n++] = v;
                } else if (delta != 0) {
                    return false;
                }
            }
            p += 4 * (size_t)widths[m];
        }
    }
    return p == end;
}

/* ---- tests ---- */

TEST(parquet_levels_are_packed_as_the_format_shows) {
    uint32_t v[8 + 32] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    struct buf out;
    buf_init(&out, SIZE_MAX);
    levels_put(&out, v, 8, 3);
    EXPECT_EQ_MEM(out.data, out.len, "\x03\x88\xC6\xFA", 4);
    buf_clear(&out);
    levels_put_run(&out, 4, 100, 3);
    EXPECT_EQ_MEM(out.data, out.len, "\xC8\x01\x04", 3);
    buf_clear(&out);
    levels_put_run(&out, 0x1234, 1, 13);
    EXPECT_EQ_MEM(out.data, out.len, "\x02\x34\x12", 3);
    buf_release(&out);
}

TEST(parquet_levels_come_back_at_every_width) {
    static uint32_t v[3000 + 32], got[3000];
    uint64_t random = 5;
    bool good = true;
    for (unsigned width = 1; width <= 32; width++) {
        for (int round = 0; round < 24; round++) {
            uint32_t count = (uint32_t)(next_random(&random) % (round < 12 ? 70 : 3000));
            uint32_t value = 0;
            uint32_t left = 0;
            for (uint32_t i = 0; i < count; i++) {
                if (left == 0) {
                    left = round % 3 == 0 ? 1 : 1 + (uint32_t)(next_random(&random) % 90);
                    value = (uint32_t)(next_random(&random) >> (64 - width));
                }
                left--;
                v[i] = value;
            }
            static uint32_t kept[3000];
            memcpy(kept, v, count * sizeof *v);
            struct buf out;
            buf_init(&out, SIZE_MAX);
            levels_put(&out, v, count, width);
            good &= take_hybrid((uint8_t *)out.data, out.len, width, count, got) >= 0;
            good &= memcmp(kept, got, count * sizeof *kept) == 0;
            buf_release(&out);
        }
    }
    EXPECT_TRUE(good);
}

TEST(parquet_bitmaps_are_levels_of_one_bit) {
    uint64_t random = 6;
    bool good = true;
    for (int round = 0; round < 400; round++) {
        static uint8_t bits[400];
        static uint32_t got[3200];
        uint32_t count = (uint32_t)(next_random(&random) % 3000);
        for (size_t i = 0; i < sizeof bits;) {
            size_t stretch = 1 + next_random(&random) % 30;
            uint8_t byte =
                (uint8_t)(round % 2 ? 0 - (next_random(&random) & 1) : next_random(&random));
            for (; stretch > 0 && i < sizeof bits; stretch--) {
                bits[i++] = round % 4 == 3 && next_random(&random) % 40 == 0 ? 0x5A : byte;
            }
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        levels_put_bitmap(&out, bits, count);
        good &= take_hybrid((uint8_t *)out.data, out.len, 1, count, got) >= 0;
        for (uint32_t i = 0; i < count; i++) {
            good &= got[i] == (bits[i / 8] >> (i % 8) & 1u);
        }
        buf_release(&out);
    }
    EXPECT_TRUE(good);
}

TEST(parquet_deltas_are_as_the_format_shows) {
    static const int32_t up[] = { 1, 2, 3, 4, 5 };
    static const int64_t valley[] = { 7, 5, 3, 1, 2, 3, 4, 5 };
    struct buf out;
    buf_init(&out, SIZE_MAX);
    delta_put_i32(&out, up, 5);
    EXPECT_EQ_MEM(out.data, out.len, "\x80\x01\x04\x05\x02\x02\0\0\0\0", 10);
    buf_clear(&out);
    delta_put_i64(&out, valley, 8);
    EXPECT_EQ_MEM(out.data, out.len, "\x80\x01\x04\x08\x0E\x03\x02\0\0\0\xC0\x3F\0\0\0\0\0\0", 18);
    buf_clear(&out);
    delta_put_i32(&out, up, 1);
    EXPECT_EQ_MEM(out.data, out.len, "\x80\x01\x04\x01\x02", 5);
    buf_clear(&out);
    delta_put_i64(&out, valley, 0);
    EXPECT_EQ_MEM(out.data, out.len, "\x80\x01\x04\0\0", 5);
    buf_release(&out);
}

TEST(parquet_deltas_come_back_whatever_their_size) {
    enum { MOST = 700 };
    static int64_t wide[MOST], got[MOST];
    static int32_t narrow[MOST];
    uint64_t random = 7;
    bool good = true;
    for (int round = 0; round < 1300; round++) {
        uint32_t count = (uint32_t)(next_random(&random) % MOST);
        unsigned bits = (unsigned)round % 65;
        for (uint32_t i = 0; i < count; i++) {
            wide[i] = bits ? (int64_t)(next_random(&random) >> (64 - bits)) : -3;
            if (bits == 64 && next_random(&random) % 4 == 0) {
                wide[i] = next_random(&random) & 1 ? INT64_MAX : INT64_MIN;
            }
            narrow[i] = (int32_t)wide[i];
        }
        struct buf out;
        buf_init(&out, SIZE_MAX);
        delta_put_i64(&out, wide, count);
        good &= take_delta((uint8_t *)out.data, out.len, 64, count, got);
        good &= memcmp(wide, got, count * sizeof *got) == 0 && out.len <= delta_bytes_max(count, 8);
        buf_clear(&out);
        delta_put_i32(&out, narrow, count);
        good &= take_delta((uint8_t *)out.data, out.len, 32, count, got);
        for (uint32_t i = 0; i < count; i++) {
            good &= narrow[i] == got[i];
        }
        good &= out.len <= delta_bytes_max(count, 4);
        buf_release(&out);
    }
    EXPECT_TRUE(good);
}

TEST(parquet_hash_is_xxh64) {
    static const char spam[] = "Nobody inspects the spammish repetition";
    EXPECT_EQ_U64(parquet_hash("", 0), UINT64_C(0xEF46DB3751D8E999));
    EXPECT_EQ_U64(parquet_hash("a", 1), UINT64_C(0xD24EC4F1A98C6E5B));
    EXPECT_EQ_U64(parquet_hash("abc", 3), UINT64_C(0x44BC2CF5AD770999));
    EXPECT_EQ_U64(parquet_hash(spam, sizeof spam - 1), UINT64_C(0xFBCEA83C8A378BF1));
}

/* Values 0..count-1 put in, in a filter made for rows_max: all of them found, few others. */
static void bloom_of(uint64_t count, uint64_t rows_max, size_t bytes_want) {
    struct parquet_bloom bloom;
    bloom_init(&bloom, rows_max);
    for (uint64_t i = 0; i < count; i++) {
        bloom_add(&bloom, parquet_hash(&i, sizeof i));
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    bloom_put(&bloom, &out);
    const uint8_t *bits = (uint8_t *)out.data + (out.len - bloom.bytes);
    EXPECT_EQ_U64(bloom.bytes, bytes_want);
    uint64_t missing = 0;
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) {
        missing += !bloom_has(bits, bloom.bytes, parquet_hash(&i, sizeof i));
    }
    for (uint64_t i = count; i < count + 20000; i++) {
        wrong += bloom_has(bits, bloom.bytes, parquet_hash(&i, sizeof i));
    }
    EXPECT_EQ_U64(missing, 0);
    EXPECT_TRUE(wrong < 20000 * 15 / 1000);
    buf_release(&out);
    bloom_release(&bloom);
}

TEST(parquet_bloom_filters_have_all_and_little_else) {
    bloom_of(0, 1000, 32);
    bloom_of(20, 1000, 32);
    bloom_of(1000, 1 << 20, 2048);
    bloom_of(65536, 1 << 20, 128 << 10);
    bloom_of(65537, 1 << 20, 128 << 10); /* made for 1 Mi values, folded four times */
    bloom_of(200000, 300000, 256 << 10);
}

TEST(parquet_bloom_filters_of_repeated_values_are_small) {
    struct parquet_bloom bloom;
    bloom_init(&bloom, 1 << 20);
    for (uint64_t i = 0; i < 300000; i++) {
        uint64_t v = i % 1000;
        bloom_add_fixed(&bloom, (const uint8_t *)&v, sizeof v, 1);
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    bloom_put(&bloom, &out);
    EXPECT_EQ_U64(bloom.bytes, 2048);
    uint64_t missing = 0;
    for (uint64_t v = 0; v < 1000; v++) {
        missing +=
            !bloom_has((uint8_t *)out.data + (out.len - 2048), 2048, parquet_hash(&v, sizeof v));
    }
    EXPECT_EQ_U64(missing, 0);
    buf_release(&out);
    bloom_release(&bloom);
}

TEST(parquet_bloom_filter_header_and_bits) {
    struct parquet_bloom bloom;
    bloom_init(&bloom, 10);
    bloom_add(&bloom,
              UINT64_C(0x0000000000000001)); /* block 0; bit of each word: its salt's top 5 */
    struct buf out;
    buf_init(&out, SIZE_MAX);
    bloom_put(&bloom, &out);
    static const uint8_t want[] = {
        0x15, 0x40, 0x1C, 0x1C, 0, 0, 0x1C, 0x1C, 0, 0,
        0x1C, 0x1C, 0,    0,    0, 0, 1,    0,    0, /* 0x47b6137b >> 27 = 8 */
        0,    1,    0,    0,                         /* 0x44974d91 >> 27 = 8 */
        0,    0,    2,    0,                         /* 0x8824ad5b >> 27 = 17 */
        0,    0,    0x10, 0,                         /* 0xa2b7289d >> 27 = 20 */
        0,    0x40, 0,    0,                         /* 0x705495c7 >> 27 = 14 */
        0x20, 0,    0,    0,                         /* 0x2df1424b >> 27 = 5 */
        0,    0,    8,    0,                         /* 0x9efc4947 >> 27 = 19 */
        0,    8,    0,    0
    }; /* 0x5c6bfb31 >> 27 = 11 */
    EXPECT_EQ_MEM(out.data, out.len, want, sizeof want);
    buf_release(&out);
    bloom_release(&bloom);
}

TEST(parquet_dictionary_gives_equal_values_one_index) {
    enum { COUNT = 9000 };
    static const uint32_t widths[] = { 4, 8, 9, 16 };
    static uint8_t values[COUNT * 16 + 8];
    static uint32_t index[COUNT];
    uint64_t random = 8;
    for (size_t w = 0; w < ARRAY_COUNT(widths); w++) {
        uint32_t width = widths[w];
        struct parquet_dict d;
        parquet_dict_init(&d, width);
        for (uint32_t i = 0; i < COUNT; i++) {
            uint64_t v = next_random(&random) % 3000;
            v = v == 0 ? UINT64_MAX : v == 1 ? 0 : v * UINT64_C(0x123456789);
            memset(values + i * width, v == UINT64_MAX ? 0xFF : 0, width);
            memcpy(values + i * width, &v, width < 8 ? width : 8);
        }
        parquet_dict_index_fixed(&d, values, COUNT, index);
        bool good = d.count > 2000 && d.count <= 3000;
        uint32_t seen = 0;
        for (uint32_t i = 0; i < COUNT; i++) {
            size_t len;
            good &= index[i] <= seen; /* in order of first use */
            seen += index[i] == seen;
            good &= memcmp(parquet_dict_value(&d, index[i], &len), values + i * width, width) == 0;
        }
        EXPECT_TRUE(good && seen == d.count);
        parquet_dict_clear(&d);
        parquet_dict_index_fixed(&d, values + 5 * width, 1, index);
        EXPECT_TRUE(index[0] == 0 && d.count == 1);
        parquet_dict_release(&d);
    }
}

TEST(parquet_dictionary_of_texts_tells_lengths_and_tails_apart) {
    enum { COUNT = 6000, LONGEST = 70 };
    static uint8_t data[COUNT * LONGEST];
    static uint32_t offsets[COUNT + 1], index[COUNT];
    uint64_t random = 9;
    for (uint32_t i = 0; i < COUNT; i++) { /* like texts: zeros, and one byte that is not */
        uint32_t len = (uint32_t)(next_random(&random) % LONGEST);
        offsets[i + 1] = offsets[i] + len;
        if (len > 0) {
            data[offsets[i] + next_random(&random) % len] = (uint8_t)(next_random(&random) % 3);
        }
    }
    struct parquet_dict d;
    parquet_dict_init(&d, 0);
    parquet_dict_index_bytes(&d, data, offsets, COUNT, index);
    bool good = true;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        size_t len;
        const uint8_t *p = parquet_dict_value(&d, index[i], &len);
        good &= index[i] <= seen;
        seen += index[i] == seen;
        good &= len == offsets[i + 1] - offsets[i] && memcmp(p, data + offsets[i], len) == 0;
    }
    EXPECT_TRUE(good && seen == d.count);
    for (uint32_t a = 0; a < d.count && good; a++) { /* no value twice */
        for (uint32_t b = 0; b < a; b++) {
            size_t a_len, b_len;
            const uint8_t *p = parquet_dict_value(&d, a, &a_len);
            const uint8_t *q = parquet_dict_value(&d, b, &b_len);
            good &= a_len != b_len || memcmp(p, q, a_len) != 0;
        }
    }
    EXPECT_TRUE(good);
    parquet_dict_release(&d);
}

TEST(thrift_structures_are_compact) {
    struct buf out;
    struct thrift_put t;
    buf_init(&out, SIZE_MAX);
    thrift_put_init(&t, &out);
    thrift_put_i32(&t, 1, -3);
    thrift_put_bool(&t, 2, true);
    thrift_put_bool(&t, 20, false); /* 18 further: the id is written */
    thrift_put_struct(&t, 21);
    thrift_put_string(&t, 4, "ab");
    thrift_put_struct_end(&t);
    thrift_put_list(&t, 22, THRIFT_I64, 2);
    thrift_put_element_int(&t, 64);
    thrift_put_element_int(&t, -1);
    thrift_put_list(&t, 23, THRIFT_TRUE, 15);
    for (int i = 0; i < 15; i++) {
        thrift_put_element_bool(&t, i == 0);
    }
    thrift_put_end(&t);
    static const uint8_t want[] = { 0x15, 5,    0x11, 0x02, 40,   0x1C, 0x48, 2, 'a', 'b', 0, 0x19,
                                    0x26, 0x80, 1,    1,    0x19, 0xF1, 15,   1, 2,   2,   2, 2,
                                    2,    2,    2,    2,    2,    2,    2,    2, 2,   2,   0 };
    EXPECT_EQ_MEM(out.data, out.len, want, sizeof want);
    buf_release(&out);
}
