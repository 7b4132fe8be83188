/* map and hash. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/buf.h"
#include "cdc/base/map.h"
#include "tests/unit/kit.h"

static void *number(uintptr_t n) { return (void *)n; }

/* All keys in the order of iteration, each followed by a blank. */
static const char *keys_of(const struct map *map) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(map, &at, &key, &len, NULL);) {
        buf_put(&b, key, len);
        buf_putc(&b, ' ');
    }
    const char *text = kit_text("%s", buf_cstr(&b));
    buf_release(&b);
    return text;
}

TEST(map_sets_gets_and_removes) {
    struct map *map = map_new();
    EXPECT_TRUE(map_get(map, "a", 1) == NULL);
    EXPECT_TRUE(map_remove(map, "a", 1) == NULL);
    EXPECT_TRUE(map_set(map, "a", 1, number(1)) == NULL);
    EXPECT_TRUE(map_set(map, "", 0, number(2)) == NULL);
    EXPECT_TRUE(map_set(map, "a\0b", 3, number(3)) == NULL);
    EXPECT_TRUE(map_get(map, "a", 1) == number(1));
    EXPECT_TRUE(map_get(map, NULL, 0) == number(2));
    EXPECT_TRUE(map_get(map, "a\0b", 3) == number(3));
    EXPECT_TRUE(map_get(map, "a\0c", 3) == NULL);
    EXPECT_TRUE(map_set(map, "a", 1, number(4)) == number(1));
    EXPECT_EQ_INT(map_count(map), 3);
    EXPECT_TRUE(map_remove(map, "a", 1) == number(4));
    EXPECT_TRUE(map_get(map, "a", 1) == NULL);
    EXPECT_EQ_INT(map_count(map), 2);
    map_free(map, NULL);
    map_free(NULL, NULL);
}

TEST(map_copies_its_keys) {
    struct map *map = map_new();
    char key[] = "key";
    map_set(map, key, 3, number(1));
    key[0] = 'x';
    EXPECT_TRUE(map_get(map, "key", 3) == number(1));
    EXPECT_TRUE(map_get(map, key, 3) == NULL);
    map_free(map, NULL);
}

TEST(map_iterates_in_insertion_order) {
    struct map *map = map_new();
    for (const char *k = "zyxwabcd"; *k; k++) {
        map_set(map, k, 1, number(1));
    }
    EXPECT_EQ_STR(keys_of(map), "z y x w a b c d ");
    map_set(map, "x", 1, number(2)); /* a new value keeps the place */
    EXPECT_EQ_STR(keys_of(map), "z y x w a b c d ");
    map_remove(map, "x", 1);
    map_remove(map, "z", 1);
    EXPECT_EQ_STR(keys_of(map), "y w a b c d ");
    map_set(map, "x", 1, number(3)); /* added again: last */
    EXPECT_EQ_STR(keys_of(map), "y w a b c d x ");
    for (const char *k = "123456789"; *k; k++) {
        map_set(map, k, 1, number(1));
    }
    EXPECT_EQ_STR(keys_of(map), "y w a b c d x 1 2 3 4 5 6 7 8 9 ");
    map_free(map, NULL);
}

TEST(map_lets_the_entry_just_returned_be_removed) {
    for (unsigned keep = 0; keep < 2; keep++) {
        struct map *map = map_new();
        for (uint32_t i = 0; i < 1000; i++) {
            map_set(map, &i, sizeof i, number(i + 1));
        }
        const void *key;
        size_t len;
        void *value;
        uint32_t seen = 0;
        bool in_order = true;
        for (size_t at = 0; map_next(map, &at, &key, &len, &value);) {
            in_order = in_order && value == number(seen + 1);
            if (keep == 0 || seen % 3 != 0) {
                in_order = in_order && map_remove(map, key, len) == value;
            }
            seen++;
        }
        EXPECT_TRUE(in_order);
        EXPECT_EQ_INT(seen, 1000);
        EXPECT_EQ_INT(map_count(map), keep ? 334 : 0);
        for (uint32_t i = 0; keep && i < 1000; i++) {
            EXPECT_TRUE(map_get(map, &i, sizeof i) == (i % 3 == 0 ? number(i + 1) : NULL));
        }
        map_free(map, NULL);
    }
}

/* Against the plainest possible model: an array of values by key, and of serial numbers for the
 * order. */
TEST(map_agrees_with_a_model_over_random_operations) {
    enum { KEYS = 300, STEPS = 60000 };
    static uintptr_t values[KEYS];
    static uint64_t serials[KEYS];
    memset(values, 0, sizeof values);
    struct map *map = map_new();
    uint64_t random = 1;
    size_t count = 0;
    bool right = true;
    for (uint64_t step = 1; step <= STEPS && right; step++) {
        random = hash_bytes(&random, sizeof random, step);
        uint16_t k = (uint16_t)(random % KEYS);
        /* The first half grows the map, the second shrinks it. */
        if (random >> 32 & (step < STEPS / 2 ? 3 : 1)) {
            right = (uintptr_t)map_set(map, &k, sizeof k, number(step)) == values[k];
            if (values[k] == 0) {
                serials[k] = step;
                count++;
            }
            values[k] = step;
        } else {
            right = (uintptr_t)map_remove(map, &k, sizeof k) == values[k];
            count -= values[k] != 0;
            values[k] = 0;
        }
        right =
            right && map_count(map) == count && (uintptr_t)map_get(map, &k, sizeof k) == values[k];
        if (step % 997 == 0) {
            uint64_t last = 0;
            size_t seen = 0;
            const void *key;
            void *value;
            for (size_t at = 0; map_next(map, &at, &key, NULL, &value); seen++) {
                memcpy(&k, key, sizeof k);
                right = right && (uintptr_t)value == values[k] && serials[k] > last;
                last = serials[k];
            }
            right = right && seen == count;
        }
    }
    EXPECT_TRUE(right);
    map_free(map, NULL);
}

TEST(map_used_as_a_queue_stays_small_and_fast) {
    struct map *map = map_new();
    for (uint32_t i = 0; i < 200000; i++) {
        map_set(map, &i, sizeof i, number(1));
        if (i >= 10) {
            const void *key;
            size_t len;
            size_t at = 0;
            if (!EXPECT_TRUE(map_next(map, &at, &key, &len, NULL))) {
                break;
            }
            uint32_t oldest;
            memcpy(&oldest, key, sizeof oldest);
            EXPECT_EQ_INT(oldest, i - 10);
            map_remove(map, key, len);
        }
    }
    EXPECT_EQ_INT(map_count(map), 10);
    EXPECT_TRUE(map_bytes(map) < 4096);
    map_free(map, NULL);
}

TEST(map_counts_its_memory) {
    struct map *map = map_new();
    size_t empty = map_bytes(map);
    char key[1000] = { 0 };
    for (int i = 0; i < 100; i++) {
        key[0] = (char)i;
        map_set(map, key, sizeof key, NULL);
    }
    EXPECT_TRUE(map_bytes(map) >= empty + 100 * sizeof key);
    EXPECT_TRUE(map_bytes(map) < empty + 100 * sizeof key + 20000);
    map_free(map, NULL);
}

static int freed;
static void count_free(void *p) {
    freed++;
    free(p);
}

TEST(map_frees_values_of_live_entries) {
    struct map *map = map_new();
    freed = 0;
    for (uint32_t i = 0; i < 20; i++) {
        map_set(map, &i, sizeof i, malloc(1));
    }
    uint32_t five = 5;
    free(map_remove(map, &five, sizeof five));
    map_clear(map, count_free);
    EXPECT_EQ_INT(freed, 19);
    EXPECT_EQ_INT(map_count(map), 0);
    EXPECT_TRUE(map_get(map, &five, sizeof five) == NULL);
    map_set(map, &five, sizeof five, malloc(1));
    EXPECT_EQ_INT(map_count(map), 1);
    map_free(map, count_free);
    EXPECT_EQ_INT(freed, 20);
}

/* The header promises values that may be stored: a change of the function breaks this test on
 * purpose. */
TEST(hash_is_the_same_forever) {
    EXPECT_EQ_U64(hash_bytes("", 0, 0), UINT64_C(0x71d6169b1d0c06ab));
    EXPECT_EQ_U64(hash_bytes("a", 1, 0), UINT64_C(0xce2eaf68a7ec3d60));
    EXPECT_EQ_U64(hash_bytes("a", 1, 1), UINT64_C(0x59bb2fe10a472200));
    EXPECT_EQ_U64(hash_bytes("tailrace", 8, 0), UINT64_C(0xf3a60243af1f260c));
    EXPECT_EQ_U64(hash_bytes("0123456789abcdef", 16, 7), UINT64_C(0xa5d77dff02bb90f6));
    EXPECT_EQ_U64(hash_bytes("the quick brown fox jumps over the lazy dog", 43, 0),
                  UINT64_C(0xc69a5b8f84804f72));
}

TEST(hash_changes_about_half_of_its_bits_with_every_input_bit) {
    uint8_t bytes[41];
    for (size_t len = 1; len <= sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)(i * 37 + len);
        }
        uint64_t before = hash_bytes(bytes, len, 0);
        int bits = 0;
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int changed = __builtin_popcountll(before ^ hash_bytes(bytes, len, 0));
            EXPECT_TRUE(changed >= 10 && changed <= 54);
            bits += changed;
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        double mean = (double)bits / (double)(len * 8);
        EXPECT_TRUE(mean > 26 && mean < 38);
    }
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

TEST(hash_of_small_numbers_and_of_zeroes_of_any_length_does_not_collide) {
    enum { COUNT = 200000, ZEROES = 200 };
    static const uint8_t zeroes[ZEROES];
    uint64_t *hashes = xcalloc(COUNT + ZEROES, sizeof *hashes);
    for (uint32_t i = 0; i < COUNT; i++) {
        hashes[i] = hash_bytes(&i, sizeof i, 0);
    }
    for (size_t len = 0; len < ZEROES; len++) {
        hashes[COUNT + len] = hash_bytes(zeroes, len == 4 ? 3 : len,
                                         len == 4 ? 9 : 0); /* four zeroes are the number 0 */
    }
    qsort(hashes, COUNT + ZEROES, sizeof *hashes, compare_u64);
    for (size_t i = 1; i < COUNT + ZEROES; i++) {
        EXPECT_TRUE(hashes[i] != hashes[i - 1]);
    }
    free(hashes);
}
