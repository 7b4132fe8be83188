/* Statements of chunks, their bounds, and how a key is cut. */
#include <string.h>

#include "cdc/key.h"
#include "connectors/postgres/pgsrc_chunk.h"
#include "connectors/postgres/session.h"
#include "tests/unit/kit.h"

static struct schema *two_keys(void) {
    struct schema *s = schema_new(42, "public", "t", 3);
    s->columns[0] = (struct column_def){ .name = "a",
                                         .type = { .kind = TYPE_INT32 },
                                         .source_type = "integer",
                                         .source_oid = 23,
                                         .key_pos = 0 };
    s->columns[1] = (struct column_def){ .name = "b\"x",
                                         .type = { .kind = TYPE_TEXT },
                                         .source_type = "text",
                                         .source_oid = 25,
                                         .byte_order = true,
                                         .key_pos = 1 };
    s->columns[2] = (struct column_def){ .name = "v",
                                         .type = { .kind = TYPE_TEXT },
                                         .source_type = "text",
                                         .source_oid = 25,
                                         .nullable = true,
                                         .key_pos = -1 };
    s->key_count = 2;
    s->storage = "";
    schema_finish(s);
    return s;
}

static void put_key(struct buf *b, int32_t a, const char *text) {
    static const struct type int32 = { .kind = TYPE_INT32 }, string = { .kind = TYPE_TEXT };
    key_put_cell(b, &int32, (const uint8_t *)&a, sizeof a);
    if (text) {
        key_put_cell(b, &string, (const uint8_t *)text, strlen(text));
    }
}

/* The statement inside the Parse message, and the Bind message's part from the number of parameters
 * on. */
static const char *exact_or_range_sql(const struct buf *lo, const struct buf *hi, bool exact,
                                      struct buf *out) {
    struct schema *s = two_keys();
    static const uint32_t oids[] = { 23, 25, 25 };
    static const bool binary[] = { true, true, false };
    struct pgsrc_columns c = { .schema = s, .base_oid = oids, .binary = binary };
    struct pgsrc_range range = { .lo = lo->data,
                                 .lo_len = lo->len,
                                 .hi = hi->data,
                                 .hi_len = hi->len,
                                 .exact = exact,
                                 .rows_max = 7 };
    struct err err = ERR_INIT;
    buf_clear(out);
    int rc = pgsrc_range_put(out, &c, "ONLY \"public\".\"t\"", &range, &err);
    schema_unref(s);
    return rc ? kit_text("%s", err.code) : out->data + 6;
}

static const char *range_sql(const struct buf *lo, const struct buf *hi, struct buf *out) {
    return exact_or_range_sql(lo, hi, false, out);
}

TEST(pgsrc_chunk_of_one_key_by_equality) {
    struct buf lo, hi, out;
    buf_init(&lo, SIZE_MAX);
    buf_init(&hi, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    put_key(&lo, 5, "q'");
    EXPECT_EQ_STR(exact_or_range_sql(&lo, &hi, true, &out),
                  "SELECT \"a\", \"b\"\"x\", \"v\" FROM ONLY \"public\".\"t\" WHERE (\"a\", "
                  "\"b\"\"x\") = ($1, $2)");
    buf_release(&lo);
    buf_release(&hi);
    buf_release(&out);
}

TEST(pgsrc_chunk_range_by_row_comparison) {
    struct buf lo, hi, out;
    buf_init(&lo, SIZE_MAX);
    buf_init(&hi, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_STR(range_sql(&lo, &hi, &out), "SELECT \"a\", \"b\"\"x\", \"v\" FROM ONLY "
                                             "\"public\".\"t\" ORDER BY \"a\", \"b\"\"x\" LIMIT 7");
    put_key(&lo, 5, "q'");
    EXPECT_EQ_STR(range_sql(&lo, &hi, &out),
                  "SELECT \"a\", \"b\"\"x\", \"v\" FROM ONLY \"public\".\"t\" WHERE (\"a\", "
                  "\"b\"\"x\") >= ($1, $2) ORDER BY \"a\", \"b\"\"x\" LIMIT 7");
    put_key(&hi, 9, NULL); /* a prefix of the key */
    EXPECT_EQ_STR(range_sql(&lo, &hi, &out),
                  "SELECT \"a\", \"b\"\"x\", \"v\" FROM ONLY \"public\".\"t\" WHERE (\"a\", "
                  "\"b\"\"x\") >= ($1, $2) AND (\"a\") < ($3) ORDER BY \"a\", \"b\"\"x\" LIMIT 7");
    buf_release(&lo);
    buf_release(&hi);
    buf_release(&out);
}

TEST(pgsrc_chunk_bounds_go_out_as_parameters) {
    struct buf lo, hi, out;
    buf_init(&lo, SIZE_MAX);
    buf_init(&hi, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    put_key(&lo, -2, "q'");
    range_sql(&lo, &hi, &out);
    static const char bind[] =
        "B\0\0\0\x28\0\0\0\2\0\1\0\1\0\2\0\0\0\4\xff\xff\xff\xfe\0\0\0\2q'\0\3\0\1\0\1\0\0";
    const void *at = memmem(out.data, out.len, bind, 3);
    if (EXPECT_TRUE(at != NULL)) {
        size_t left = (size_t)(out.data + out.len - (const char *)at);
        EXPECT_EQ_MEM((const char *)at + 5, left < sizeof bind - 6 ? left : sizeof bind - 6,
                      bind + 5, sizeof bind - 6);
    }
    EXPECT_EQ_MEM(out.data + out.len - 15, 15, "E\0\0\0\x09\0\0\0\0\0S\0\0\0\4", 15);
    buf_release(&lo);
    buf_release(&hi);
    buf_release(&out);
}

TEST(pgsrc_chunk_bound_just_above_a_key) {
    struct buf lo, hi, out;
    buf_init(&lo, SIZE_MAX);
    buf_init(&hi, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    put_key(&lo, 5, "x");
    put_key(&hi, 5, "x");
    buf_putc(&hi, '\0');
    EXPECT_TRUE(
        strstr(range_sql(&lo, &hi, &out),
               "WHERE (\"a\", \"b\"\"x\") >= ($1, $2) AND (\"a\", \"b\"\"x\") <= ($3, $4) ORDER") !=
        NULL);
    buf_clear(&hi);
    buf_put(&hi, "\1\2", 2); /* half an integer */
    EXPECT_EQ_STR(range_sql(&lo, &hi, &out), "bound_malformed");
    buf_release(&lo);
    buf_release(&hi);
    buf_release(&out);
}

TEST(pgsrc_chunk_cuts_integers_evenly) {
    static const struct type type = { .kind = TYPE_INT64 };
    int64_t min = INT64_MIN, max = INT64_MAX;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_INT(pgsrc_cut_even(&out, &type, (const uint8_t *)&min, (const uint8_t *)&max, 2), 1);
    EXPECT_EQ_MEM(out.data, out.len, "\x08\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
    buf_clear(&out);
    min = -1;
    max = 1; /* three values give at most three parts */
    EXPECT_EQ_INT(pgsrc_cut_even(&out, &type, (const uint8_t *)&min, (const uint8_t *)&max, 10), 1);
    EXPECT_EQ_MEM(out.data, out.len, "\x08\0\0\0\x80\0\0\0\0\0\0\0", 12);
    buf_clear(&out);
    EXPECT_EQ_INT(pgsrc_cut_even(&out, &type, (const uint8_t *)&max, (const uint8_t *)&max, 10), 0);
    EXPECT_EQ_INT(out.len, 0);
    buf_release(&out);
}

TEST(pgsrc_chunk_cuts_uuids) {
    static const struct type type = { .kind = TYPE_UUID };
    uint8_t min[16] = { 0 }, max[16];
    memset(max, 0xff, sizeof max);
    struct buf out;
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_INT(pgsrc_cut_even(&out, &type, min, max, 4), 3);
    EXPECT_EQ_INT(out.len, 3 * 20);
    EXPECT_EQ_INT((uint8_t)out.data[4], 0x3f);
    EXPECT_EQ_INT((uint8_t)out.data[24], 0x7f);
    EXPECT_EQ_INT((uint8_t)out.data[44], 0xbf);
    buf_release(&out);
}

TEST(pgsrc_piece_bounds_and_back) {
    uint8_t bound[PGSRC_PIECE_BOUND];
    uint32_t oid, block;
    pgsrc_piece_put(bound, 16384, 77);
    EXPECT_EQ_INT(pgsrc_piece_take(bound, sizeof bound, &oid, &block), 0);
    EXPECT_EQ_INT(oid, 16384);
    EXPECT_EQ_INT(block, 77);
    EXPECT_EQ_INT(pgsrc_piece_take("", 0, &oid, &block), 0);
    EXPECT_EQ_INT(oid, 0);
    EXPECT_EQ_INT(pgsrc_piece_take(bound, 5, &oid, &block), -1);
}

TEST(pgsrc_quoting) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    pgsrc_put_table(&b, "a\"b", "x.y");
    EXPECT_EQ_STR(buf_cstr(&b), "\"a\"\"b\".\"x.y\"");
    buf_clear(&b);
    pgsrc_put_literal(&b, "it's");
    EXPECT_EQ_STR(buf_cstr(&b), "'it''s'");
    buf_clear(&b);
    pgsrc_put_literal(&b, "a\\'b");
    EXPECT_EQ_STR(buf_cstr(&b), "E'a\\\\''b'");
    buf_release(&b);
}

TEST(pgsrc_local_hosts) {
    EXPECT_TRUE(pgsrc_hosts_are_local(NULL) && pgsrc_hosts_are_local("localhost:5432") &&
                pgsrc_hosts_are_local("127.0.0.1") &&
                pgsrc_hosts_are_local("[::1]:5433,127.0.0.2:1") &&
                pgsrc_hosts_are_local("/run/postgresql"));
    EXPECT_TRUE(!pgsrc_hosts_are_local("127.0.0.1,db.example.org") &&
                !pgsrc_hosts_are_local("127.evil.org") &&
                !pgsrc_hosts_are_local("localhost.example.org") &&
                !pgsrc_hosts_are_local("10.0.0.1:5432"));
}

TEST(pgsrc_sqlstates_are_mapped_once) {
    static const struct {
        const char *state;
        enum err_kind kind;
        int exit;
    } want[] = {
        { "57P01", ERR_REWIND, EXIT_ERROR },  { "57P03", ERR_RETRY, EXIT_ERROR },
        { "08006", ERR_REWIND, EXIT_ERROR },  { "53300", ERR_RETRY, EXIT_ERROR },
        { "55P03", ERR_RETRY, EXIT_ERROR },   { "40001", ERR_RETRY, EXIT_ERROR },
        { "28P01", ERR_FATAL, EXIT_ERROR },   { "42501", ERR_FATAL, EXIT_PLAN },
        { "58P01", ERR_FATAL, EXIT_LINEAGE }, { "22012", ERR_FATAL, EXIT_ERROR },
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct err err = ERR_INIT;
        pgsrc_server_error(&err, want[i].state, "message", "query");
        if (!EXPECT_EQ_INT(err.kind, want[i].kind) || !EXPECT_EQ_INT(err.exit, want[i].exit) ||
            !EXPECT_TRUE(strstr(err.text, want[i].state) != NULL)) {
            return;
        }
    }
}
