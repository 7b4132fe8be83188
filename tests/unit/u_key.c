/* Keys as bytes: their order is the values' order, they come apart into the same cells, damage is
 * refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/key.h"
#include "cdc/value.h"
#include "tests/unit/kit.h"

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

enum { CELL_MAX = 40 };
struct cell {
    uint8_t bytes[CELL_MAX];
    size_t len;
};

static const struct type key_types[] = {
    { .kind = TYPE_BOOL },        { .kind = TYPE_INT8 },      { .kind = TYPE_INT16 },
    { .kind = TYPE_INT32 },       { .kind = TYPE_INT64 },     { .kind = TYPE_UINT8 },
    { .kind = TYPE_UINT16 },      { .kind = TYPE_UINT32 },    { .kind = TYPE_UINT64 },
    { .kind = TYPE_TEXT },        { .kind = TYPE_BYTES },     { .kind = TYPE_UUID },
    { .kind = TYPE_DATE },        { .kind = TYPE_TIME },      { .kind = TYPE_TIMESTAMP },
    { .kind = TYPE_TIMESTAMPTZ }, { .kind = TYPE_YEAR },      { .kind = TYPE_FLOAT32 },
    { .kind = TYPE_FLOAT64 },     { TYPE_DECIMAL, 0, 15, 2 }, { TYPE_DECIMAL, 0, 38, 2 },
    { TYPE_DECIMAL, 0, 76, 2 },
};

static bool is_decimal(const struct type *t) { return t->kind == TYPE_DECIMAL; }

/* Values near each other and near the ends of the range, so that ties and borders occur. */
static struct cell random_cell(const struct type *type, uint64_t *random) {
    struct cell cell = { .len = type_width(type) };
    uint64_t bits = next_random(random);
    if (cell.len == 0) {
        cell.len = bits % 5;
        for (size_t i = 0; i < cell.len; i++) {
            static const uint8_t letters[] = { 0, 1, 'a', 'b', 0xFE, 0xFF };
            cell.bytes[i] = letters[next_random(random) % (type->kind == TYPE_TEXT ? 4 : 6)];
        }
        return cell;
    }
    if (type->kind == TYPE_BOOL) {
        cell.bytes[0] = bits & 1;
        return cell;
    }
    if (is_decimal(type)) {
        static const char *const texts[] = {
            "NaN",   "Infinity",         "-Infinity",        "0", "0.01", "-0.01", "2.55", "2.56",
            "-2.56", "9999999999999.99", "-9999999999999.99"
        };
        char text[40];
        const char *s = texts[bits % ARRAY_COUNT(texts)];
        if (bits >> 62 == 0) {
            snprintf(text, sizeof text, "%lld.%02u", (long long)(int64_t)bits / 10000000,
                     (unsigned)(bits % 100));
            s = text;
        }
        EXPECT_EQ_INT(value_decimal_from_text(type, s, strlen(s), cell.bytes), 0);
        return cell;
    }
    if (type->kind == TYPE_FLOAT32 || type->kind == TYPE_FLOAT64) {
        double values[] = {
            0.0, 1.5, -1.5, INFINITY, -INFINITY, NAN, 1e-42, -1e-42, (double)(int64_t)bits, 3e38
        };
        double v = values[(bits >> 32) % ARRAY_COUNT(values)];
        float narrow = (float)v;
        memcpy(cell.bytes, type->kind == TYPE_FLOAT64 ? (void *)&v : (void *)&narrow, cell.len);
        return cell;
    }
    for (size_t i = 0; i < cell.len; i++) {
        static const uint8_t letters[] = { 0, 0, 0xFF, 0xFF, 0x80, 0x7F, 1 };
        cell.bytes[i] = bits & 1 ? letters[next_random(random) % 7] : (uint8_t)next_random(random);
    }
    return cell;
}

static int sign(int64_t v) { return v < 0 ? -1 : v > 0; }

static int64_t signed_of(const struct cell *c) {
    int64_t v = c->bytes[c->len - 1] & 0x80 ? -1 : 0;
    memcpy(&v, c->bytes, c->len);
    return v;
}

/* PostgreSQL's order: NaN above everything. */
static int compare_floats(double x, double y) {
    if (isnan(x) || isnan(y)) {
        return isnan(x) - isnan(y);
    }
    return x < y ? -1 : x > y;
}

static int
decimal_rank(const struct type *type,
             const struct cell *c) { /* -1, 0, 1, 2: -Infinity, a number, Infinity, NaN */
    static const char *const names[] = { "-Infinity", "Infinity", "NaN" };
    static const int ranks[] = { -1, 1, 2 };
    for (int i = 0; i < 3; i++) {
        uint8_t special[32];
        EXPECT_EQ_INT(value_decimal_from_text(type, names[i], strlen(names[i]), special), 0);
        if (memcmp(special, c->bytes, c->len) == 0) {
            return ranks[i];
        }
    }
    return 0;
}

static int compare_cells(const struct type *type, const struct cell *a, const struct cell *b) {
    uint64_t x = 0;
    uint64_t y = 0;
    double dx;
    double dy;
    float fx;
    float fy;
    switch (type->kind) {
    case TYPE_TEXT:
    case TYPE_BYTES:
    case TYPE_UUID:
        return sign(key_cmp(a->bytes, a->len, b->bytes, b->len));
    case TYPE_BOOL:
    case TYPE_UINT8:
    case TYPE_UINT16:
    case TYPE_UINT32:
    case TYPE_UINT64:
        memcpy(&x, a->bytes, a->len);
        memcpy(&y, b->bytes, b->len);
        return x < y ? -1 : x > y;
    case TYPE_FLOAT64:
        memcpy(&dx, a->bytes, 8);
        memcpy(&dy, b->bytes, 8);
        return compare_floats(dx, dy);
    case TYPE_FLOAT32:
        memcpy(&fx, a->bytes, 4);
        memcpy(&fy, b->bytes, 4);
        return compare_floats((double)fx, (double)fy);
    case TYPE_DECIMAL: {
        int ranks = sign(decimal_rank(type, a) - decimal_rank(type, b));
        if (ranks != 0 || decimal_rank(type, a) != 0) {
            return ranks;
        }
        struct cell low_a = {
            .len = 8
        }; /* the numbers used here fit 64 bits: the rest is their sign */
        struct cell low_b = { .len = 8 };
        memcpy(low_a.bytes, a->bytes, 8);
        memcpy(low_b.bytes, b->bytes, 8);
        return signed_of(&low_a) < signed_of(&low_b) ? -1 : signed_of(&low_a) > signed_of(&low_b);
    }
    default:
        return signed_of(a) < signed_of(b) ? -1 : signed_of(a) > signed_of(b);
    }
}

TEST(key_order_of_composite_keys_is_the_order_of_their_values) {
    uint64_t random = 99;
    for (int round = 0; round < 60000; round++) {
        struct buf ka;
        struct buf kb;
        buf_init(&ka, SIZE_MAX);
        buf_init(&kb, SIZE_MAX);
        int want = 0;
        int parts = 1 + (int)(next_random(&random) % 4);
        for (int i = 0; i < parts; i++) {
            const struct type *type = &key_types[next_random(&random) % ARRAY_COUNT(key_types)];
            struct cell a = random_cell(type, &random);
            struct cell b = next_random(&random) % 2 ? a : random_cell(type, &random);
            key_put_cell(&ka, type, a.bytes, a.len);
            key_put_cell(&kb, type, b.bytes, b.len);
            want = want ? want : compare_cells(type, &a, &b);
        }
        bool good = EXPECT_EQ_INT(sign(key_cmp(ka.data, ka.len, kb.data, kb.len)), want);
        buf_release(&ka);
        buf_release(&kb);
        if (!good) {
            return;
        }
    }
}

TEST(key_cells_come_apart_into_the_same_cells) {
    uint64_t random = 5;
    for (int round = 0; round < 30000; round++) {
        const struct type *type = &key_types[next_random(&random) % ARRAY_COUNT(key_types)];
        struct cell cell = random_cell(type, &random);
        struct buf key;
        struct buf out;
        buf_init(&key, SIZE_MAX);
        buf_init(&out, SIZE_MAX);
        key_put_cell(&key, type, cell.bytes, cell.len);
        buf_puts(&key, "rest");
        struct view in = view_of(key.data, key.len);
        bool good =
            EXPECT_EQ_INT(key_take_cell(&in, type, &out), 0) && EXPECT_EQ_INT(view_left(&in), 4);
        if (type->kind == TYPE_FLOAT32 || type->kind == TYPE_FLOAT64) {
            struct cell back = { .len = out.len };
            memcpy(back.bytes, out.data, out.len);
            good = good && EXPECT_EQ_INT(compare_cells(type, &cell, &back), 0);
        } else {
            good = good && EXPECT_EQ_MEM(out.data, out.len, cell.bytes, cell.len);
        }
        for (size_t len = 0; good && len < key.len - 4;
             len++) { /* cut: refused, nothing taken, nothing written */
            uint8_t *cut = malloc(len ? len : 1);
            memcpy(cut, key.data, len);
            struct view view = view_of(cut, len);
            size_t before = out.len;
            good = EXPECT_EQ_INT(key_take_cell(&view, type, &out), -1) &&
                   EXPECT_EQ_INT(view_left(&view), len) && EXPECT_EQ_INT(out.len, before);
            free(cut);
        }
        buf_release(&key);
        buf_release(&out);
        if (!good) {
            return;
        }
    }
}

TEST(key_cells_that_are_damaged_are_refused) {
    struct buf out;
    buf_init(&out, 16);
    static const uint8_t bad_escape[] = { 'a', 0, 1, 0, 0 };
    static const uint8_t bad_bool[] = { 2 };
    static const uint8_t long_text[] = "0123456789abcdefg\0"; /* beyond the buffer's maximum */
    const struct type text = { .kind = TYPE_TEXT };
    const struct type boolean = { .kind = TYPE_BOOL };
    const struct type numeric = { .kind = TYPE_NUMERIC };
    struct view in = view_of(bad_escape, sizeof bad_escape);
    EXPECT_EQ_INT(key_take_cell(&in, &text, &out), -1);
    in = view_of(bad_bool, sizeof bad_bool);
    EXPECT_EQ_INT(key_take_cell(&in, &boolean, &out), -1);
    in = view_of(long_text, sizeof long_text);
    EXPECT_EQ_INT(key_take_cell(&in, &text, &out), -1);
    in = view_of(long_text, sizeof long_text);
    EXPECT_EQ_INT(key_take_cell(&in, &numeric, &out), -1); /* not of an orderable type */
    EXPECT_EQ_INT(out.len, 0);
    buf_release(&out);
}

static bool same_key(const struct type *type, const void *a, size_t a_len, const void *b,
                     size_t b_len) {
    struct buf x;
    struct buf y;
    buf_init(&x, SIZE_MAX);
    buf_init(&y, SIZE_MAX);
    key_put_cell(&x, type, a, a_len);
    key_put_cell(&y, type, b, b_len);
    bool same = key_cmp(x.data, x.len, y.data, y.len) == 0;
    buf_release(&x);
    buf_release(&y);
    return same;
}

static bool same_numeric(const char *a, const char *b) {
    const struct type numeric = { .kind = TYPE_NUMERIC };
    return same_key(&numeric, a, strlen(a), b, strlen(b));
}

TEST(key_of_equal_values_has_equal_bytes) {
    EXPECT_TRUE(same_numeric("1.0", "1.00"));
    EXPECT_TRUE(same_numeric("1", "1.000"));
    EXPECT_TRUE(same_numeric("0", "-0.00"));
    EXPECT_TRUE(same_numeric("100", "100.0"));
    EXPECT_TRUE(!same_numeric("100", "1"));
    EXPECT_TRUE(!same_numeric("1.01", "1.1"));
    EXPECT_TRUE(!same_numeric("-1", "1"));
    EXPECT_TRUE(same_numeric("NaN", "NaN"));
    const struct type real = { .kind = TYPE_FLOAT64 };
    double zero = 0;
    double minus_zero = -0.0;
    uint64_t nan_bits[] = { UINT64_C(0x7FF8000000000000), UINT64_C(0xFFF0000000000001) };
    EXPECT_TRUE(same_key(&real, &zero, 8, &minus_zero, 8));
    EXPECT_TRUE(same_key(&real, &nan_bits[0], 8, &nan_bits[1], 8));
    EXPECT_TRUE(!same_key(&real, &zero, 8, &nan_bits[1], 8));
    const struct type interval = { .kind = TYPE_INTERVAL };
    uint8_t x[16] = { 1 };
    uint8_t y[16] = { 1 };
    EXPECT_TRUE(same_key(&interval, x, 16, y, 16));
    y[12] = 1;
    EXPECT_TRUE(!same_key(&interval, x, 16, y, 16));
}

static struct schema *two_part_key(void) {
    struct schema *schema = schema_new(1, "public", "t", 3);
    static const enum type_kind kinds[] = { TYPE_TEXT, TYPE_BYTES, TYPE_INT32 };
    for (uint16_t i = 0; i < 3; i++) {
        schema->columns[i].name = arena_strdup(&schema->arena, kit_text("c%u", i));
        schema->columns[i].type.kind = kinds[i];
    }
    schema->columns[2].key_pos = 0;
    schema->columns[0].key_pos = 1;
    schema_finish(schema);
    return schema;
}

TEST(key_put_takes_the_key_columns_in_key_order_and_refuses_null_and_absent) {
    struct schema *schema = two_part_key();
    struct txlist *txs = txlist_new();
    struct batch *batch = batch_new(schema, 3, txs);
    for (int row = 0; row < 3; row++) {
        if (row == 1) {
            batch_put_null(batch, 0);
        } else {
            batch_put_var(batch, 0, "k\0", 2);
        }
        batch_put_var(batch, 1, "x", 1);
        if (row == 2) {
            batch_put_absent(batch, 2);
        } else {
            int32_t v = -2;
            memcpy(batch_fixed(batch, 2), &v, sizeof v);
        }
        batch_row_done(batch, ROW_INSERT, 0, 0);
    }
    struct buf key;
    buf_init(&key, SIZE_MAX);
    buf_puts(&key, "=");
    EXPECT_EQ_INT(key_put(&key, batch, 0), 0);
    EXPECT_EQ_MEM(key.data, key.len, "=\x7F\xFF\xFF\xFEk\0\xFF\0\0", 10);
    EXPECT_EQ_INT(key_put(&key, batch, 1), -1);
    EXPECT_EQ_INT(key_put(&key, batch, 2), -1);
    EXPECT_EQ_INT(key.len, 10);
    buf_release(&key);
    batch_unref(batch);
    txlist_unref(txs);
    schema_unref(schema);
}

static void expect_separator(struct schema *schema, const char *lo, size_t lo_len, const char *hi,
                             size_t hi_len, const char *want, size_t want_len) {
    struct buf bound;
    buf_init(&bound, 1024);
    key_separator(&bound, schema, lo, lo_len, hi, hi_len);
    EXPECT_EQ_MEM(bound.data, bound.len, want, want_len);
    EXPECT_TRUE(key_cmp(bound.data, bound.len, lo, lo_len) > 0);
    EXPECT_TRUE(key_cmp(bound.data, bound.len, hi, hi_len) <= 0);
    buf_release(&bound);
}

TEST(key_separator_is_the_shortest_bound_above_lo) {
    struct schema *s = two_part_key();
#define LO "\x80\0\0\1a\0\0"
    expect_separator(s, LO, 7, "\x80\0\0\2zz\0\0", 8, "\x80\0\0\2", 4);
    expect_separator(s, LO, 7, "\x80\0\0\1zz\0\0", 8, "\x80\0\0\1z\0\0", 7);
    expect_separator(s, LO, 7, "\x80\0\0\1abcdef\0\0", 12, "\x80\0\0\1ab\0\0", 8);
    expect_separator(s, LO, 7,
                     "\x80\0\0\1"
                     "a\0\xffz\0\0",
                     10,
                     "\x80\0\0\1"
                     "a\0\xff\0\0",
                     9);
    expect_separator(s, LO, 7, "\x80\0\0\1\xc3\xa4x\0\0", 9, "\x80\0\0\1\xc3\xa4\0\0", 8);
    expect_separator(s, "\x80\0\0\1", 4, "\x80\0\0\1a\0\0", 7, "\x80\0\0\1a\0\0", 7);
    expect_separator(s, "", 0, "\x80\0\0\1a\0\0", 7, "\x80\0\0\1", 4);
    expect_separator(s, LO, 7, "\x80\0\0\1b", 5, "\x80\0\0\1b", 5); /* damaged: as it is */
#undef LO
    schema_unref(s);
}
