/* Data rows of snapshots: the fast path must give what the plain decoders give, and take only
 * whole, right rows. */
#include <string.h>

#include "tests/unit/kit.h"
#include "tests/unit/u_pg_kit.h"

enum { NUMERIC_15_2 = (15 << 16 | 2) + 4 };

static void put_be(struct buf *out, uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        buf_putc(out, (char)(v >> (8 * i)));
    }
}

struct table {
    struct pgk k;
    struct schema *schema;
    struct pgsrc_plan *plan;
    struct batch *batch;
    struct err err;
    struct buf in;
    struct view view;
};

static void open_table(struct table *t, size_t columns, const uint32_t *oids, const int32_t *mods,
                       uint32_t rows_cap) {
    static const char *const names[] = { "c0", "c1", "c2", "c3", "c4" };
    memset(t, 0, sizeof(*t));
    t->schema = schema_new(1, "public", "t", (uint16_t)columns);
    for (uint16_t i = 0; i < columns; i++) {
        pgk_set_column(&t->k, t->schema, i, names[i], oids[i], mods ? mods[i] : -1, false);
    }
    schema_finish(t->schema);
    t->plan = pgsrc_plan_new(t->schema, pgk_lookup, &t->k);
    t->batch = batch_new(t->schema, rows_cap, NULL);
    buf_init(&t->in, SIZE_MAX);
}

static void close_table(struct table *t) {
    batch_unref(t->batch);
    pgsrc_plan_free(t->plan);
    schema_unref(t->schema);
    buf_release(&t->in);
}

static int decode(struct table *t) {
    t->view = view_of(t->in.data, t->in.len);
    return pgsrc_decode_rows(t->plan, t->batch, &t->view, &t->err);
}

static const char *dump(struct table *t) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    pgk_put_batch(&out, t->batch);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

/* D, length, one column: an int4. */
static void put_int_row(struct buf *out, uint32_t v) {
    buf_putc(out, 'D');
    put_be(out, 14, 4);
    put_be(out, 1, 2);
    put_be(out, 4, 4);
    put_be(out, v, 4);
}

static const uint32_t int4[] = { 23 };

TEST(pg_rows_stop_at_another_message_or_an_incomplete_one) {
    struct table t;
    open_table(&t, 1, int4, NULL, 8);
    put_int_row(&t.in, 1);
    put_int_row(&t.in, 2);
    size_t two = t.in.len;
    buf_put(&t.in, "C\0\0\0\4", 5);
    EXPECT_EQ_INT(decode(&t), 2);
    EXPECT_EQ_U64((size_t)(t.view.at - (const uint8_t *)t.in.data), two);
    EXPECT_EQ_STR(dump(&t), "public.t insert c0=1\npublic.t insert c0=2\n");
    for (size_t cut = 0; cut < 15; cut++) {
        t.in.len = two - 15 + cut;
        t.batch->rows = 0;
        EXPECT_EQ_INT(decode(&t), 1);
    }
    close_table(&t);
}

TEST(pg_rows_stop_when_the_batch_is_full) {
    struct table t;
    open_table(&t, 1, int4, NULL, 3);
    for (uint32_t i = 0; i < 5; i++) {
        put_int_row(&t.in, i);
    }
    EXPECT_EQ_INT(decode(&t), 3);
    EXPECT_EQ_U64(view_left(&t.view), 30);
    close_table(&t);
}

TEST(pg_rows_with_nulls_texts_and_types_without_binary) {
    static const uint32_t oids[] = { 23, 25, 600, 701, 1007 };
    struct table t;
    open_table(&t, 5, oids, NULL, 8);
    for (int row = 0; row < 2; row++) {
        size_t start = t.in.len;
        buf_puts(&t.in, "D");
        put_be(&t.in, 0, 4);
        put_be(&t.in, 5, 2);
        if (row == 0) {
            for (int i = 0; i < 5; i++) {
                put_be(&t.in, UINT32_MAX, 4);
            }
        } else {
            put_be(&t.in, 4, 4);
            put_be(&t.in, 7, 4);
            put_be(&t.in, 0, 4);
            put_be(&t.in, 5, 4);
            buf_puts(&t.in, "(1,2)");
            put_be(&t.in, 8, 4);
            put_be(&t.in, UINT64_C(0x7ff0000000000001), 8);
            put_be(&t.in, 12, 4);
            put_be(&t.in, 0, 8);
            put_be(&t.in, 23, 4);
        }
        uint32_t size = __builtin_bswap32((uint32_t)(t.in.len - start - 1));
        memcpy(t.in.data + start + 1, &size, 4);
    }
    EXPECT_EQ_INT(decode(&t), 2);
    EXPECT_EQ_STR(dump(&t), "public.t insert c0=NULL c1=NULL c2=NULL c3=NULL c4=NULL\npublic.t "
                            "insert c0=7 c1= c2=(1,2) c3=NaN c4=[]\n");
    close_table(&t);
}

TEST(pg_malformed_rows_are_refused_and_leave_the_batch_as_it_was) {
    static const struct {
        const char *bytes;
        size_t len;
        const char *code;
    } bad[] = {
        { "D\0\0\0\5\0", 6, "protocol_malformed" },   /* shorter than a count of columns */
        { "D\0\0\0\6\0\2", 7, "protocol_malformed" }, /* another number of columns */
        { "D\0\0\0\6\0\1", 7, "protocol_malformed" }, /* no cell */
        { "D\0\0\0\x0a\0\1\0\0\0\4", 11, "protocol_malformed" },         /* a cell beyond the end */
        { "D\0\0\0\x0a\0\1\xff\xff\xff\xfb", 11, "protocol_malformed" }, /* length -5 */
        { "D\0\0\0\x0f\0\1\0\0\0\4\0\0\0\1x", 16, "protocol_malformed" }, /* a byte too many */
        { "D\0\0\0\x0d\0\1\0\0\0\3\0\0\1", 14, "value_malformed" },
        { "D\xff\xff\xff\xff\0\1\0\0\0\3\0\0\1", 14, "protocol_malformed" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct table t;
        open_table(&t, 1, int4, NULL, 8);
        buf_put(&t.in, bad[i].bytes, bad[i].len);
        EXPECT_EQ_INT(decode(&t), -1);
        EXPECT_EQ_STR(t.err.code, bad[i].code);
        EXPECT_EQ_INT(t.err.kind, ERR_FATAL);
        EXPECT_EQ_U64(t.batch->rows, 0);
        close_table(&t);
    }
}

TEST(pg_the_fast_decimal_is_the_plain_one) {
    static const uint32_t oids[] = { 1700 };
    static const int32_t mods[] = { NUMERIC_15_2, (18 << 16) + 4, (18 << 16 | 18) + 4,
                                    (5 << 16 | (2048 - 3)) + 4, (9 << 16 | 5) + 4 };
    uint64_t seed = 4711;
    int accepted = 0;
    for (size_t m = 0; m < ARRAY_COUNT(mods); m++) {
        for (int round = 0; round < 4000; round++) {
            struct table t;
            open_table(&t, 1, oids, &mods[m], 2);
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned count = (unsigned)(seed >> 60) % 6;
            buf_putc(&t.in, 'D');
            put_be(&t.in, 4 + 2 + 4 + 8 + 2 * count, 4);
            put_be(&t.in, 1, 2);
            put_be(&t.in, 8 + 2 * count, 4);
            size_t cell = t.in.len;
            put_be(&t.in, count, 2);
            put_be(&t.in, (seed >> 50) % 8 - 5, 2);
            put_be(&t.in, (seed >> 40) & 1 ? 0x4000 : 0, 2);
            put_be(&t.in, round % 50 ? 2 : 0x4002, 2); /* a display scale beyond the greatest */
            for (unsigned i = 0; i < count; i++) {
                unsigned digit = (unsigned)(seed >> (8 * i)) % 10003;
                put_be(&t.in,
                       (seed >> (20 + i)) & 1 ? digit : digit / 100 % 10 * 1000 + (round % 3) * 100,
                       2);
            }
            struct err err = ERR_INIT;
            int fast = decode(&t);
            t.batch->rows = 1;
            int plain = pgsrc_cell_binary(t.plan, t.batch, 0, (uint8_t *)t.in.data + cell,
                                          t.in.len - cell, &err);
            EXPECT_EQ_INT(fast == 1, plain == 0);
            if (fast == 1 && plain == 0) {
                accepted++;
                EXPECT_EQ_MEM(t.batch->columns[0].data, 8, t.batch->columns[0].data + 8, 8);
            }
            close_table(&t);
        }
    }
    EXPECT_TRUE(accepted > 1000);
}
