/* Numerics: a value accepted in binary form as NUMERIC has a text that the text decoder accepts as
 * the same bytes, and as a DECIMAL, if it fits, the three ways to a cell agree: the fast one of
 * rows, the plain one, and the one from text. */
#include "tests/unit/u_pg_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct column_of_one {
    struct schema *schema;
    struct pgsrc_plan *plan;
    struct batch *batch;
};

static struct column_of_one open_column(struct pgk *k, int32_t mod) {
    struct column_of_one c = { .schema = pgk_schema_of(k, 1700, mod) };
    c.plan = pgsrc_plan_new(c.schema, NULL, NULL);
    c.batch = batch_new(c.schema, 4, NULL);
    return c;
}

static void close_column(struct column_of_one *c) {
    batch_unref(c->batch);
    pgsrc_plan_free(c->plan);
    schema_unref(c->schema);
}

static bool add(struct column_of_one *c, bool binary, const uint8_t *p, size_t len) {
    struct err err = ERR_INIT;
    int got = binary ? pgsrc_cell_binary(c->plan, c->batch, 0, p, len, &err)
                     : pgsrc_cell_text(c->plan, c->batch, 0, p, len, &err);
    if (got == 0) {
        batch_row_done(c->batch, ROW_INSERT, 0, 0);
    }
    return got == 0;
}

static bool add_row(struct column_of_one *c, const uint8_t *p, size_t len) {
    struct err err = ERR_INIT;
    struct buf row;
    buf_init(&row, SIZE_MAX);
    uint8_t head[11] = { 'D', 0, 0, 0, 0, 0, 1 };
    uint32_t sizes[2] = { __builtin_bswap32((uint32_t)len + 10), __builtin_bswap32((uint32_t)len) };
    memcpy(head + 1, &sizes[0], 4);
    memcpy(head + 7, &sizes[1], 4);
    buf_put(&row, head, sizeof(head));
    buf_put(&row, p, len);
    struct view in = view_of(row.data, row.len);
    int got = pgsrc_decode_rows(c->plan, c->batch, &in, &err);
    buf_release(&row);
    return got == 1;
}

static void check_same(const struct column_of_one *c, uint32_t a, uint32_t b) {
    size_t a_len;
    size_t b_len;
    const uint8_t *x = cell_bytes(&c->batch->columns[0], a, &a_len);
    const uint8_t *y = cell_bytes(&c->batch->columns[0], b, &b_len);
    CHECK(a_len == b_len && memcmp(x, y, a_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) {
        return 0;
    }
    struct pgk k = { 0 };
    int32_t mod = (int32_t)((uint32_t)(data[0] % 76 + 1) << 16 |
                            ((uint32_t)(data[1] | data[2] << 8) & 0x7ff)) +
                  4;
    const uint8_t *p = data + 3;
    size_t len = size - 3;
    struct column_of_one decimal = open_column(&k, mod);
    struct column_of_one numeric = open_column(&k, -1);
    bool fast = add_row(&decimal, p, len);
    bool plain = add(&decimal, true, p, len);
    CHECK(fast == plain);
    if (plain) {
        check_same(&decimal, 0, 1);
        struct buf text;
        buf_init(&text, SIZE_MAX);
        pgk_put_cell(&text, decimal.batch, 0, 0);
        CHECK(add(&decimal, false, (const uint8_t *)text.data, text.len));
        check_same(&decimal, 1, 2);
        buf_release(&text);
    }
    if (add(&numeric, true, p, len)) {
        size_t cell_len;
        const uint8_t *cell = cell_bytes(&numeric.batch->columns[0], 0, &cell_len);
        uint8_t *copy = malloc(cell_len + 1);
        memcpy(copy, cell, cell_len);
        CHECK(add(&numeric, false, copy, cell_len));
        check_same(&numeric, 0, 1);
        free(copy);
    }
    close_column(&decimal);
    close_column(&numeric);
    return 0;
}
