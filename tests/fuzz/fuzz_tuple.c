/* One value of one type in binary or text form, and the same bytes as data rows of a wider table.
 * What is accepted must be a well-formed cell. */
#include "tests/unit/u_pg_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint32_t oids[] = {
    16,   17,   18,   20,   21,   23,   25,   26,   27,   28,   700,  701,  774,   829,  869,
    1082, 1083, 1114, 1184, 1186, 1266, 1560, 1700, 2950, 3220, 3802, 5069, 1000,  1001, 1002,
    1007, 1009, 1231, 1022, 1182, 1185, 1187, 1270, 1561, 2951, 3807, 600,  20000, 20002
};

static void one_value(struct pgk *k, uint32_t oid, int32_t mod, bool binary, struct view in) {
    struct schema *s = pgk_schema_of(k, oid, mod);
    struct pgsrc_plan *plan = pgsrc_plan_new(s, pgk_lookup, k);
    struct batch *b = batch_new(s, 1, NULL);
    struct err err = ERR_INIT;
    size_t len = view_left(&in);
    int got = binary ? pgsrc_cell_binary(plan, b, 0, in.at, len, &err)
                     : pgsrc_cell_text(plan, b, 0, in.at, len, &err);
    if (got == 0) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        batch_row_done(b, ROW_INSERT, 0, 0);
        pgk_put_cell(&out, b, 0, 0);
        buf_release(&out);
    } else {
        CHECK(err.kind != ERR_NONE);
        batch_row_abort(b);
    }
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
}

static void data_rows(struct pgk *k, struct view in) {
    static const uint32_t columns[] = { 20, 1700, 25, 1082, 701, 16, 1007, 600 };
    struct schema *s = schema_new(1, "public", "t", ARRAY_COUNT(columns));
    for (uint16_t i = 0; i < ARRAY_COUNT(columns); i++) {
        pgk_set_column(k, s, i, "c", columns[i], columns[i] == 1700 ? (15 << 16 | 2) + 4 : -1,
                       false);
    }
    schema_finish(s);
    struct pgsrc_plan *plan = pgsrc_plan_new(s, pgk_lookup, k);
    struct batch *b = batch_new(s, 16, NULL);
    struct err err = ERR_INIT;
    const uint8_t *from = in.at;
    int got = pgsrc_decode_rows(plan, b, &in, &err);
    CHECK(in.at >= from && in.at <= in.end && (got < 0 || b->rows == (uint32_t)got));
    struct buf out;
    buf_init(&out, SIZE_MAX);
    pgk_put_batch(&out, b);
    buf_release(&out);
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct view in = view_of(data, size);
    struct pgk k = { 0 };
    uint8_t type;
    uint8_t form;
    if (take_u8(&in, &type) != 0 || take_u8(&in, &form) != 0) {
        return 0;
    }
    pgk_add_type(&k, 20000, 'e', 0, -1, 0, '-');
    pgk_add_type(&k, 20002, 'b', 0, -1, 20000, 'e');
    if (type == 'D') {
        data_rows(&k, in);
    } else {
        static const int32_t mods[] = { -1, (10 << 16 | 2) + 4, (38 << 16 | 10) + 4,
                                        (76 << 16 | 40) + 4 };
        uint32_t oid = oids[type % ARRAY_COUNT(oids)];
        one_value(&k, oid, mods[(form >> 1) & 3], form & 1, in);
    }
    return 0;
}
