/* Values that are none, in both forms: each must be refused with the column, its type and the
 * bytes, whatever the type. Values that are some are in tests/golden. */
#include <string.h>

#include "tests/unit/kit.h"
#include "tests/unit/u_pg_kit.h"

/* The error code of decoding one value, "" if it was accepted; the cell's text or the error's in
 * *text if asked for. Both live until the next. */
static const char *decode(struct pgk *k, uint32_t oid, int32_t mod, bool binary, const void *p,
                          size_t len, const char **text) {
    struct schema *s = pgk_schema_of(k, oid, mod);
    struct pgsrc_plan *plan = pgsrc_plan_new(s, pgk_lookup, k);
    struct batch *b = batch_new(s, 1, NULL);
    struct err err = ERR_INIT;
    uint8_t *exact =
        malloc(len ? len : 1); /* of the exact size, so that a sanitizer sees a read beyond it */
    memcpy(exact, p, len);
    int got = binary ? pgsrc_cell_binary(plan, b, 0, exact, len, &err)
                     : pgsrc_cell_text(plan, b, 0, exact, len, &err);
    static char code[sizeof(err.code)];
    static char shown[sizeof(err.text) * 2];
    snprintf(code, sizeof(code), "%s", got == 0 ? "" : err.code);
    if (text) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        buf_puts(&out, got == 0 ? "" : err.text);
        if (got == 0) {
            batch_row_done(b, ROW_INSERT, 0, 0);
            pgk_put_cell(&out, b, 0, 0);
        }
        snprintf(shown, sizeof(shown), "%s", buf_cstr(&out));
        *text = shown;
        buf_release(&out);
    }
    free(exact);
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
    return code;
}

enum { NUMERIC_10_2 = (10 << 16 | 2) + 4, NUMERIC_30_2 = (30 << 16 | 2) + 4 };

TEST(pg_text_that_is_no_value_of_its_type_is_refused) {
    static const struct {
        uint32_t oid;
        int32_t mod;
        const char *text;
    } bad[] = {
        { 16, -1, "" },
        { 16, -1, "true" },
        { 16, -1, "x" },
        { 21, -1, "32768" },
        { 21, -1, "-32769" },
        { 21, -1, "" },
        { 21, -1, "-" },
        { 21, -1, "1.0" },
        { 21, -1, "+1" },
        { 21, -1, " 1" },
        { 23, -1, "2147483648" },
        { 23, -1, "99999999999999999999999999" },
        { 20, -1, "9223372036854775808" },
        { 20, -1, "-9223372036854775809" },
        { 20, -1, "18446744073709551616" },
        { 26, -1, "4294967296" },
        { 26, -1, "-1" },
        { 700, -1, "1e39" },
        { 700, -1, "abc" },
        { 700, -1, "" },
        { 700, -1, "1e" },
        { 700, -1, "nan" },
        { 700, -1, "0x10" },
        { 701, -1, "1e309" },
        { 701, -1, "1 " },
        { 701, -1, "--1" },
        { 701, -1, "inf" },
        { 701, -1, "0.1000000000000000000000000000000000000000000000000000000000000000000000001" },
        { 1700, -1, "abc" },
        { 1700, -1, "" },
        { 1700, -1, "-" },
        { 1700, -1, "." },
        { 1700, -1, "1." },
        { 1700, -1, ".5" },
        { 1700, -1, "1e5" },
        { 1700, -1, "--1" },
        { 1700, -1, "1.2.3" },
        { 1700, -1, "-NaN" },
        { 1700, NUMERIC_10_2, "abc" },
        { 1700, NUMERIC_10_2, "1.005" },
        { 1700, NUMERIC_10_2, "100000000.00" },
        { 1700, NUMERIC_10_2, "" },
        { 17, -1, "" },
        { 17, -1, "\\x0" },
        { 17, -1, "\\x0g" },
        { 17, -1, "00" },
        { 17, -1, "\\000" },
        { 18, -1, "ab" },
        { 18, -1, "abcd" },
        { 1082, -1, "2026-13-01" },
        { 1082, -1, "2026-02-29" },
        { 1082, -1, "0000-01-01" },
        { 1082, -1, "26-01-01" },
        { 1082, -1, "2026-1-1" },
        { 1082, -1, "2026-01-01 AD" },
        { 1082, -1, "2026-01-01BC" },
        { 1082, -1, "9999999-01-01" },
        { 1082, -1, "" },
        { 1082, -1, "01/02/2026" },
        { 1083, -1, "24:00:01" },
        { 1083, -1, "1:00:00" },
        { 1083, -1, "00:60:00" },
        { 1083, -1, "00:00" },
        { 1083, -1, "00:00:00." },
        { 1083, -1, "00:00:00.1234567" },
        { 1266, -1, "04:05:06" },
        { 1266, -1, "04:05:06+5" },
        { 1266, -1, "04:05:06+16" },
        { 1266, -1, "04:05:06+05:60" },
        { 1266, -1, "04:05:06+05:" },
        { 1114, -1, "32.13." },
        { 1114, -1, "2026-01-02" },
        { 1114, -1, "2026-01-02T03:04:05" },
        { 1114, -1, "2026-01-02 03:04:05+00" },
        { 1114, -1, "294277-01-09 04:00:54.775807" },
        { 1114, -1, "9999999-01-01 00:00:00" },
        { 1184, -1, "2026-01-02 03:04:05" },
        { 1184, -1, "2026-01-02 03:04:05 UTC" },
        { 1186, -1, "" },
        { 1186, -1, "1" },
        { 1186, -1, "1 " },
        { 1186, -1, "1 week" },
        { 1186, -1, "1 days" },
        { 1186, -1, "2 day" },
        { 1186, -1, "P1D" },
        { 1186, -1, "00:00:00 1 day" },
        { 1186, -1, "200000000 years" },
        { 1186, -1, "2147483648 days" },
        { 1186, -1, "2562047788:00:54.775808" },
        { 1186, -1, "9999999999:00:00" },
        { 1186, -1, "1 day " },
        { 1186, -1, "@ 1 day" },
        { 1186, -1, "- 1 day" },
        { 2950, -1, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1" },
        { 2950, -1, "a0eebc999c0b4ef8bb6d6bb9bd380a11----" },
        { 2950, -1, "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" },
        { 2950, -1, "a0eebc99-9c0b-4ef8-bb6d+6bb9bd380a11" },
        { 1560, -1, "102" },
        { 1562, -1, "b" },
        { 3220, -1, "0" },
        { 3220, -1, "0/" },
        { 3220, -1, "/0" },
        { 3220, -1, "0/0/0" },
        { 3220, -1, "123456789/0" },
        { 3220, -1, "x/0" },
        { 1007, -1, "" },
        { 1007, -1, "{" },
        { 1007, -1, "}" },
        { 1007, -1, "{1" },
        { 1007, -1, "{1,}" },
        { 1007, -1, "{,1}" },
        { 1007, -1, "{1}}" },
        { 1007, -1, "{{1,2},{3}}" },
        { 1007, -1, "{{1},2}" },
        { 1007, -1, "{1,{2}}" },
        { 1007, -1, "{{}}" },
        { 1007, -1, "{a}" },
        { 1007, -1, "{1} " },
        { 1007, -1, "[0:1]={7}" },
        { 1007, -1, "[1:0]={}" },
        { 1007, -1, "[0:1]{7,8}" },
        { 1007, -1, "[0:1][0:0]={7,8}" },
        { 1007, -1, "[0]={1}" },
        { 1007, -1, "[9999999999:9999999999]={1}" },
        { 1007, -1, "{{{{{{{1}}}}}}}" },
        { 1007, -1, "{null}" },
        { 1007, -1, "{\"1}" },
        { 1007, -1, "{1 }" },
        { 1007, -1, "[1:1][1:1][1:1][1:1][1:1][1:1][1:1]={1}" },
        { 1009, -1, "{a\"b}" },
        { 1009, -1, "{\"a}" },
        { 1009, -1, "{\"a\\" },
        { 1009, -1, "{\"a\\\"}" },
        { 1009, -1, "{\"a\"b}" },
        { 1009, -1, "{a\\b}" },
        { 1009, -1, "{a,,b}" },
    };
    struct pgk k = { 0 };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        const char *text;
        const char *code =
            decode(&k, bad[i].oid, bad[i].mod, false, bad[i].text, strlen(bad[i].text), &text);
        if (!EXPECT_EQ_STR(code, "value_malformed")) {
            EXPECT_EQ_STR(text, bad[i].text);
        }
    }
}

TEST(pg_a_malformed_value_names_column_type_and_bytes) {
    struct pgk k = { 0 };
    const char *text;
    decode(&k, 1700, NUMERIC_10_2, false, "abc", 3, &text);
    EXPECT_EQ_STR(text, "column \"c\" of public.t: a text value of type decimal(10,2) has 3 bytes "
                        "that are none: 616263");
    decode(&k, 1114, -1, false, "32.13.", 6, &text);
    EXPECT_EQ_STR(text, "column \"c\" of public.t: a text value of type timestamp has 6 bytes that "
                        "are none: 33322e31332e");
    decode(&k, 2950, -1, true, "0123456789abcdefg", 17, &text);
    EXPECT_EQ_STR(text, "column \"c\" of public.t: a binary value of type uuid has 17 bytes that "
                        "are none: 30313233343536373839616263646566...");
}

/* Every length but the right one, of the types with one length. */
TEST(pg_binary_of_a_wrong_length_is_refused) {
    static const struct {
        uint32_t oid;
        size_t len;
    } fixed[] = {
        { 16, 1 },    { 18, 1 },    { 20, 8 },   { 21, 2 },   { 23, 4 },   { 26, 4 },
        { 27, 6 },    { 28, 4 },    { 29, 4 },   { 700, 4 },  { 701, 8 },  { 774, 8 },
        { 829, 6 },   { 1082, 4 },  { 1083, 8 }, { 1114, 8 }, { 1184, 8 }, { 1186, 16 },
        { 1266, 12 }, { 2950, 16 }, { 3220, 8 }, { 5069, 8 },
    };
    static const uint8_t zeros[20];
    struct pgk k = { 0 };
    for (size_t i = 0; i < ARRAY_COUNT(fixed); i++) {
        for (size_t len = 0; len <= sizeof(zeros); len++) {
            EXPECT_EQ_STR(decode(&k, fixed[i].oid, -1, true, zeros, len, NULL),
                          len == fixed[i].len ? "" : "value_malformed");
        }
    }
}

struct bytes {
    uint32_t oid;
    int32_t mod;
    const char *hex;
};

static const char *decode_hex(struct pgk *k, const struct bytes *b, const char **text) {
    uint8_t bytes[64];
    size_t len = strlen(b->hex) / 2;
    for (size_t i = 0; i < len; i++) {
        unsigned v;
        sscanf(b->hex + 2 * i, "%2x", &v);
        bytes[i] = (uint8_t)v;
    }
    return decode(k, b->oid, b->mod, true, bytes, len, text);
}

TEST(pg_binary_that_is_no_value_of_its_type_is_refused) {
    static const struct bytes bad[] = {
        { 16, -1, "02" },
        { 1266, -1,
          "0000000000000000"
          "80000000" },
        { 1266, -1,
          "0000000000000000"
          "0000e100" },
        { 1700, -1, "" },
        { 1700, -1, "00010000000000" },
        { 1700, -1, "0001000000000000" },
        { 1700, -1,
          "0001000000000000"
          "00" },
        { 1700, -1,
          "0001000000000000"
          "2710" },
        { 1700, -1,
          "0001000000000000"
          "00010001" },
        { 1700, -1, "0000000012340000" },
        { 1700, -1, "0000000000004000" },
        { 1700, -1, "ffff000000000000" },
        { 1700, NUMERIC_10_2,
          "0001000000000000"
          "2710" },
        { 1700, NUMERIC_10_2,
          "0001000700000000"
          "0001" },
        { 1700, NUMERIC_10_2,
          "00017fff00000000"
          "0001" },
        { 1700, NUMERIC_10_2,
          "0001ffff00000003"
          "0001" },
        { 1700, NUMERIC_10_2,
          "0001800000000003"
          "0001" },
        { 1700, NUMERIC_10_2, "0000000000010002" },
        { 1700, NUMERIC_30_2,
          "0001000700000000"
          "2710" },
        { 1700, NUMERIC_30_2, "0001000000000000" },
        { 1560, -1, "000000" },
        { 1560, -1,
          "00000009"
          "ff" },
        { 1560, -1,
          "00000007"
          "ff" },
        { 1560, -1,
          "ffffffff"
          "ff" },
        { 1560, -1,
          "00000000"
          "00" },
        { 3802, -1, "" },
        { 3802, -1,
          "02"
          "7b7d" },
        { 4072, -1, "00" },
        { 869, -1, "" },
        { 869, -1,
          "02200004"
          "010203" },
        { 869, -1,
          "02210004"
          "01020304" },
        { 869, -1,
          "03810010"
          "00000000000000000000000000000000" },
        { 869, -1,
          "04200004"
          "01020304" },
        { 869, -1,
          "02200204"
          "01020304" },
        { 869, -1,
          "02200010"
          "00000000000000000000000000000000" },
        { 1007, -1, "" },
        { 1007, -1, "0000000000000000" },
        { 1007, -1,
          "000000000000000000000017"
          "00" },
        { 1007, -1, "000000000000000200000017" },
        { 1007, -1, "000000000000000000000019" },
        { 1007, -1, "000000070000000000000017" },
        { 1007, -1, "ffffffff0000000000000017" },
        { 1007, -1,
          "000000010000000000000017"
          "00000000"
          "00000001" },
        { 1007, -1,
          "000000010000000000000017"
          "ffffffff"
          "00000001" },
        { 1007, -1,
          "000000010000000000000017"
          "07ffffff"
          "00000001" },
        { 1007, -1,
          "000000010000000000000017"
          "00000001"
          "00000001" },
        { 1007, -1,
          "000000010000000000000017"
          "00000001"
          "00000001"
          "00000003"
          "000000" },
        { 1007, -1,
          "000000010000000000000017"
          "00000001"
          "00000001"
          "fffffffb" },
        { 1007, -1,
          "000000010000000000000017"
          "00000001"
          "00000001"
          "00000004"
          "00000001"
          "00" },
        { 1007, -1,
          "000000020000000000000017"
          "07000000"
          "00000001"
          "07000000"
          "00000001" },
    };
    struct pgk k = { 0 };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        const char *text;
        if (!EXPECT_EQ_STR(decode_hex(&k, &bad[i], &text), "value_malformed")) {
            EXPECT_EQ_STR(text, bad[i].hex);
        }
    }
}

TEST(pg_nan_has_one_form) {
    struct pgk k = { 0 };
    struct schema *s = pgk_schema_of(&k, 701, -1);
    struct pgsrc_plan *plan = pgsrc_plan_new(s, NULL, NULL);
    struct batch *b = batch_new(s, 2, NULL);
    struct err err = ERR_INIT;
    static const uint8_t odd[8] = { 0xff, 0xf0, 0, 0, 0, 0, 0, 1 };
    EXPECT_EQ_INT(pgsrc_cell_binary(plan, b, 0, odd, 8, &err), 0);
    batch_row_done(b, ROW_INSERT, 0, 0);
    EXPECT_EQ_INT(pgsrc_cell_text(plan, b, 0, (const uint8_t *)"NaN", 3, &err), 0);
    batch_row_done(b, ROW_INSERT, 0, 0);
    EXPECT_EQ_MEM(b->columns[0].data, 8, b->columns[0].data + 8, 8);
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
}

TEST(pg_types_map_through_domains_enums_and_arrays) {
    struct pgk k = { 0 };
    struct type t;
    pgk_add_type(&k, 20001, 'd', 1700, NUMERIC_10_2, 0, '-');
    pgk_add_type(&k, 20002, 'd', 20001, -1, 0, '-');
    pgk_add_type(&k, 20003, 'e', 0, -1, 0, '-');
    pgk_add_type(&k, 20004, 'b', 0, -1, 20003, 'e');
    pgk_add_type(&k, 20005, 'b', 0, -1, 20002, 'd'); /* an array of a domain */
    pgk_add_type(&k, 20006, 'd', 20006, -1, 0, '-'); /* cannot be, must end */
    pgk_add_type(&k, 20007, 'c', 0, -1, 0, '-');
    pgk_add_type(&k, 20008, 'd', 1007, -1, 0, '-');
    static const struct {
        uint32_t oid;
        int32_t mod;
        const char *name;
        bool binary;
    } want[] = {
        { 20001, -1, "decimal(10,2)", true },
        { 20002, -1, "decimal(10,2)", true },
        { 20003, -1, "enum", true },
        { 20004, -1, "array<enum>", true },
        { 20005, -1, "other", false },
        { 20006, -1, "other", false },
        { 20007, -1, "other", false },
        { 20008, -1, "array<int32>", true },
        { 99999, -1, "other", false },
        { 0, -1, "other", false },
        { 22, -1, "other", false },
        { 30, -1, "other", false },
        { 790, -1, "other", false },
        { 1700, -1, "numeric", true },
        { 1700, (76 << 16 | 2) + 4, "decimal(76,2)", true },
        { 1700, (77 << 16 | 2) + 4, "numeric", true },
        { 1700, (3 << 16 | (2048 - 2)) + 4, "decimal(3,-2)", true },
        { 1231, NUMERIC_10_2, "array<numeric>", true },
        { 869, -1, "other", true },
        { 1041, -1, "other", false },
        { 3220, -1, "other", true },
        { 3802, -1, "json", true },
        { 142, -1, "text", true },
        { 2205, -1, "other", false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        struct buf name;
        buf_init(&name, SIZE_MAX);
        pgsrc_type_map(want[i].oid, want[i].mod, pgk_lookup, &k, &t);
        type_put_name(&name, &t);
        EXPECT_EQ_STR(buf_cstr(&name), want[i].name);
        EXPECT_EQ_INT(pgsrc_reads_binary(want[i].oid, &t, pgk_lookup, &k), want[i].binary);
        buf_release(&name);
    }
}

TEST(pg_a_type_that_is_not_the_schemas_is_refused) {
    struct pgk k = { 0 };
    struct schema *s = pgk_schema_of(&k, 23, -1);
    s->columns[0].type = (struct type){ .kind = TYPE_INT64 };
    struct pgsrc_plan *plan = pgsrc_plan_new(s, NULL, NULL);
    struct batch *b = batch_new(s, 1, NULL);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(pgsrc_cell_text(plan, b, 0, (const uint8_t *)"1", 1, &err), -1);
    EXPECT_EQ_STR(err.code, "type_changed");
    EXPECT_EQ_INT(err.kind, ERR_REWIND);
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
}
