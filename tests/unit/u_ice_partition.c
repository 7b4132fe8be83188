/* Partitions: the hash's vectors of the spec's appendix B, the user's words, transforms of values
 * at their edges, folders, the router. */
#include <stdlib.h>

#include "sinks/iceberg/ice_partition.h"
#include "tests/unit/u_sink_rows.h"

static const struct ice_schema_rules plain = { 0 };

static void schema_of(struct ice_schema *out, const char *spec) {
    struct schema *source = rows_schema(1, "t", 1, spec);
    struct err err = ERR_INIT;
    int32_t last;
    EXPECT_EQ_INT(ice_schema_first(out, source, &plain, &last, &err), 0);
    schema_unref(source);
}

static uint32_t hash_long(int64_t v) { return ice_murmur3(&v, 8); }

TEST(ice_murmur3_gives_the_vectors_of_appendix_b) {
    EXPECT_EQ_INT((int32_t)hash_long(34), 2017239379);
    EXPECT_EQ_INT((int32_t)hash_long(17486), -653330422);             /* date 2017-11-16 */
    EXPECT_EQ_INT((int32_t)hash_long(81068000000), -662762989);       /* time 22:31:08 */
    EXPECT_EQ_INT((int32_t)hash_long(1510871468000000), -2047944441); /* 2017-11-16T22:31:08 */
    EXPECT_EQ_INT((int32_t)hash_long(1510871468000001), -1207196810); /* ...08.000001 */
    EXPECT_EQ_INT((int32_t)ice_murmur3("iceberg", 7), 1210000089);
    EXPECT_EQ_INT((int32_t)ice_murmur3("\x00\x01\x02\x03", 4), -188683207);
    EXPECT_EQ_INT((int32_t)ice_murmur3("\x05\x8c", 2), -500754589); /* 14.20 */
    EXPECT_EQ_INT((int32_t)ice_murmur3(
                      "\xf7\x9c\x3e\x09\x67\x7c\x4b\xbd\xa4\x79\x3f\x34\x9c\xb7\x85\xe7", 16),
                  1488055340);
    EXPECT_EQ_INT((int32_t)ice_murmur3("", 0), 0);
}

static const char *spec_text(const struct ice_spec *spec) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_spec_put_json(&out, spec);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

TEST(ice_spec_understands_the_users_words) {
    struct ice_schema s;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    schema_of(&s, "id:int64:k;created_at:timestamp;region:text;odd \"name\":text;id_bucket:int32");
    if (!EXPECT_EQ_INT(ice_spec_parse(" day( created_at ),bucket(16,id), region ,truncate(\"odd "
                                      "\"\"name\"\"\", 4),years(created_at)",
                                      &s, true, &spec, &err),
                       0)) {
        return;
    }
    EXPECT_EQ_STR(
        spec_text(&spec),
        "{\"spec-id\":0,\"fields\":["
        "{\"name\":\"created_at_day\",\"transform\":\"day\",\"source-id\":2,\"field-id\":1000},"
        "{\"name\":\"id_bucket_p\",\"transform\":\"bucket[16]\",\"source-id\":1,\"field-id\":1001},"
        "{\"name\":\"region\",\"transform\":\"identity\",\"source-id\":3,\"field-id\":1002},"
        "{\"name\":\"odd "
        "\\\"name\\\"_trunc\",\"transform\":\"truncate[4]\",\"source-id\":4,\"field-id\":1003},"
        "{\"name\":\"created_at_year\",\"transform\":\"year\",\"source-id\":2,\"field-id\":1004}]"
        "}");
    EXPECT_EQ_INT(spec.fields[0].result.kind, LAKE_DATE);
    EXPECT_EQ_INT(spec.fields[1].result.kind, LAKE_INT);
    json_t *json = json_loads(spec_text(&spec), 0, NULL);
    struct ice_spec back;
    EXPECT_EQ_INT(ice_spec_from_json(json, &s, 1, &back, &err), 0);
    EXPECT_TRUE(ice_spec_same(&spec, &back));
    EXPECT_EQ_STR(spec_text(&back), spec_text(&spec));
    json_decref(json);
    ice_spec_release(&back);
    ice_spec_release(&spec);
    ice_schema_release(&s);
}

TEST(ice_spec_refuses_what_it_does_not_understand) {
    static const char *const wrong[] = { "day(",
                                         "day()",
                                         "day(ts",
                                         "hour(d)",
                                         "bucket(id)",
                                         "bucket(0,id)",
                                         "bucket(16,17)",
                                         "truncate(2,ts)",
                                         "week(ts)",
                                         "id,",
                                         "id id2",
                                         "\"id",
                                         "f",
                                         "uid",
                                         "bucket(4,f)",
                                         "id,id",
                                         "bucket(99999999999,id)",
                                         "day(ts,id)",
                                         "bucket(1,2,id)",
                                         "tags" };
    struct ice_schema s;
    schema_of(&s,
              "id:int64:k;id2:int64;ts:timestamptz;d:date;f:float64;uid:uuid;tags:array<int32>");
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct ice_spec spec;
        struct err err = ERR_INIT;
        int got = ice_spec_parse(wrong[i], &s, true, &spec, &err);
        EXPECT_EQ_STR(got == 0 ? wrong[i] : err.code,
                      strcmp(wrong[i], "id id2") == 0 ? "partition_column" : "partition_spec");
        EXPECT_TRUE(err.cure[0] != 0);
    }
    ice_schema_release(&s);
}

TEST(ice_spec_leaves_out_columns_that_a_table_has_not_unless_strict) {
    struct ice_schema s;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    schema_of(&s, "id:int64:k");
    EXPECT_EQ_INT(ice_spec_parse("day(created_at),id", &s, false, &spec, &err), 0);
    EXPECT_EQ_INT(spec.field_count, 1);
    ice_spec_release(&spec);
    EXPECT_EQ_INT(ice_spec_parse("day(created_at),id", &s, true, &spec, &err), -1);
    EXPECT_EQ_STR(err.code, "partition_column");
    EXPECT_EQ_INT(ice_spec_parse("", &s, true, &spec, &err), 0);
    EXPECT_EQ_INT(spec.field_count, 0);
    ice_spec_release(&spec);
    ice_schema_release(&s);
}

TEST(ice_spec_of_metadata_with_unknown_transforms_is_refused) {
    static const char *const wrong[] = {
        "bucket", "bucket[]", "bucket[-1]", "bucket[99999999999]", "bucket[4]x", "zorder", "dayx"
    };
    struct ice_schema s;
    schema_of(&s, "id:int64:k;ts:timestamp");
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct ice_spec spec;
        struct err err = ERR_INIT;
        json_t *json = json_pack("{s:i,s:[{s:s,s:s,s:i,s:i}]}", "spec-id", 0, "fields", "name", "n",
                                 "transform", wrong[i], "source-id", 1, "field-id", 1000);
        EXPECT_EQ_INT(ice_spec_from_json(json, &s, 1, &spec, &err), -1);
        EXPECT_EQ_STR(err.code, "iceberg_spec");
        json_decref(json);
    }
    ice_schema_release(&s);
}

/* The folder of one value of one column: what put_path makes of it. */
static const char *folder_of(const char *type, const char *words, const void *cell, size_t len) {
    struct ice_schema s;
    struct ice_spec spec;
    struct ice_partition p;
    struct err err = ERR_INIT;
    schema_of(&s, kit_text("c:%s", type));
    if (!EXPECT_EQ_INT(ice_spec_parse(words, &s, true, &spec, &err), 0)) {
        return NULL;
    }
    uint32_t offsets[2] = { 0, (uint32_t)len };
    bool text = s.fields[0].type.kind == LAKE_STRING || s.fields[0].type.kind == LAKE_BINARY;
    uint8_t none = 0;
    struct lake_column column = { .type = s.fields[0].type,
                                  .rows = 1,
                                  .width = text ? 0 : (uint32_t)len,
                                  .valid = cell ? NULL : &none,
                                  .data = cell,
                                  .offsets = offsets };
    ice_partition_of(&spec, &s, &column, 0, &p);
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_partition_put_path(&out, &spec, &p);
    const char *path = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    ice_partition_release(&p);
    ice_spec_release(&spec);
    ice_schema_release(&s);
    return path;
}
static const char *of_long(const char *type, const char *words, int64_t v) {
    return folder_of(type, words, &v, 8);
}
static const char *of_int(const char *type, const char *words, int32_t v) {
    return folder_of(type, words, &v, 4);
}
static const char *of_text(const char *type, const char *words, const char *v) {
    return folder_of(type, words, v, strlen(v));
}

TEST(ice_transforms_of_times_go_below_1970_rightly) {
    EXPECT_EQ_STR(of_long("timestamp", "year(c)", -1), "c_year=1969");
    EXPECT_EQ_STR(of_long("timestamp", "month(c)", -1), "c_month=1969-12");
    EXPECT_EQ_STR(of_long("timestamp", "day(c)", -1), "c_day=1969-12-31");
    EXPECT_EQ_STR(of_long("timestamptz", "hour(c)", -1), "c_hour=1969-12-31-23");
    EXPECT_EQ_STR(of_long("timestamp", "day(c)", 0), "c_day=1970-01-01");
    EXPECT_EQ_STR(of_long("timestamp", "hour(c)", 1510871468000000), "c_hour=2017-11-16-22");
    EXPECT_EQ_STR(of_int("date", "month(c)", 17486), "c_month=2017-11");
    EXPECT_EQ_STR(of_int("date", "day(c)", -719162), "c_day=0001-01-01");
    EXPECT_EQ_STR(of_int("date", "year(c)", -719163), "c_year=0000");
    EXPECT_EQ_STR(of_int("date", "c", 2932896), "c=9999-12-31");
}

TEST(ice_transforms_truncate_towards_minus_infinity) {
    EXPECT_EQ_STR(of_int("int32", "truncate(10,c)", 1), "c_trunc=0");
    EXPECT_EQ_STR(of_int("int32", "truncate(10,c)", -1), "c_trunc=-10");
    EXPECT_EQ_STR(of_long("int64", "truncate(10,c)", -10), "c_trunc=-10");
    EXPECT_EQ_STR(of_long("int64", "truncate(2147483647,c)", -1), "c_trunc=-2147483647");
    EXPECT_EQ_STR(of_long("decimal(9,2)", "truncate(50,c)", 1065), "c_trunc=10.50");
    EXPECT_EQ_STR(of_long("decimal(9,2)", "truncate(50,c)", -1), "c_trunc=-0.50");
    EXPECT_EQ_STR(of_text("text", "truncate(3,c)", "iceberg"), "c_trunc=ice");
    EXPECT_EQ_STR(of_text("text", "truncate(2,c)", "\xc3\xa9\xf0\x9f\x98\x80z"),
                  "c_trunc=%C3%A9%F0%9F%98%80");
    EXPECT_EQ_STR(of_text("text", "truncate(9,c)", ""), "c_trunc=");
    EXPECT_EQ_STR(of_text("bytes", "truncate(1,c)", "\x01\x02"), "c_trunc=AQ%3D%3D");
}

TEST(ice_buckets_are_those_of_the_spec) {
    EXPECT_EQ_STR(of_int("int32", "bucket(16,c)", 34),
                  kit_text("c_bucket=%d", (2017239379 & 0x7fffffff) % 16));
    EXPECT_EQ_STR(of_long("int64", "bucket(100,c)", 34),
                  kit_text("c_bucket=%d", (2017239379 & 0x7fffffff) % 100));
    EXPECT_EQ_STR(of_long("decimal(4,2)", "bucket(7,c)", 1420),
                  kit_text("c_bucket=%d", (int)((uint32_t)-500754589 & 0x7fffffff) % 7));
    EXPECT_EQ_STR(of_int("date", "bucket(9,c)", 17486),
                  kit_text("c_bucket=%d", (int)((uint32_t)-653330422 & 0x7fffffff) % 9));
    EXPECT_EQ_STR(of_text("text", "bucket(5,c)", "iceberg"),
                  kit_text("c_bucket=%d", 1210000089 % 5));
}

TEST(ice_partition_folders_are_safe_names) {
    EXPECT_EQ_STR(of_text("text", "c", "a/b c=*\xc3\xa4.-_"), "c=a%2Fb+c%3D%2A%C3%A4.-_");
    EXPECT_EQ_STR(of_text("text", "c", ".."), "c=..");
    EXPECT_EQ_STR(folder_of("text", "c", NULL, 0), "c=null");
    EXPECT_EQ_STR(of_long("timestamptz", "c", -1), "c=1969-12-31T23%3A59%3A59.999999%2B00%3A00");
    EXPECT_EQ_STR(of_long("time", "c", 81068000001), "c=22%3A31%3A08.000001");
    EXPECT_EQ_STR(folder_of("bool", "c", "\x01", 1), "c=true");
    EXPECT_EQ_STR(of_long("int64", "c", INT64_MIN), "c=-9223372036854775808");
    EXPECT_EQ_STR(of_long("decimal(3,3)", "c", 5), "c=0.005");
    char lengthy[1000];
    memset(lengthy, 'x', sizeof lengthy);
    const char *a = folder_of("text", "c", lengthy, 999);
    const char *b = folder_of("text", "c", lengthy, 998);
    EXPECT_TRUE(strlen(a) <= 200 && strcmp(a, b) != 0);
}

TEST(ice_router_groups_rows_and_agrees_with_single_rows) {
    enum { ROWS = 1000 };
    struct ice_schema s;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    schema_of(&s, "id:int64:k;name:text");
    EXPECT_EQ_INT(ice_spec_parse("bucket(3,id),truncate(1,name)", &s, true, &spec, &err), 0);
    int64_t *ids = xcalloc(ROWS, sizeof *ids);
    uint32_t *offsets = xcalloc(ROWS + 1, sizeof *offsets);
    uint8_t *valid = xcalloc(ROWS / 8 + 1, 1);
    uint32_t *groups = xcalloc(ROWS, sizeof *groups);
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = (int64_t)i * 7919 - 500;
        offsets[i + 1] = offsets[i] + (i % 3 == 0 ? 0 : 2);
        if (i % 5 != 0) {
            bit_set(valid, i);
        }
    }
    struct lake_column columns[2] = {
        { .type = s.fields[0].type, .rows = ROWS, .width = 8, .data = (const uint8_t *)ids },
        { .type = s.fields[1].type,
          .rows = ROWS,
          .valid = valid,
          .data = (const uint8_t *)ids,
          .offsets = offsets },
    };
    uint8_t *ascii = xcalloc(2 * ROWS, 1);
    for (uint32_t i = 0; i < 2 * ROWS; i++) {
        ascii[i] = (uint8_t)('a' + i % 4);
    }
    columns[1].data = ascii;
    struct ice_router *r = ice_router_new(&spec, &s);
    ice_router_route(r, columns, ROWS, groups);
    uint32_t count = ice_router_count(r);
    EXPECT_TRUE(count > 6 && count <= 3 * 4);
    bool same = true;
    for (uint32_t i = 0; i < ROWS; i++) {
        struct ice_partition p;
        ice_partition_of(&spec, &s, columns, i, &p);
        const struct ice_partition *q = ice_router_partition(r, groups[i]);
        same = same && ice_partition_equal(&spec, &p, q) &&
               ice_partition_hash(&spec, &p) == ice_partition_hash(&spec, q);
        ice_partition_release(&p);
    }
    EXPECT_TRUE(same);
    for (uint32_t a = 0; a < count; a++) {
        for (uint32_t b = a + 1; b < count; b++) {
            EXPECT_TRUE(!ice_partition_equal(&spec, ice_router_partition(r, a),
                                             ice_router_partition(r, b)));
        }
    }
    ice_router_route(r, columns, ROWS, groups); /* nothing new is met again */
    EXPECT_EQ_INT(ice_router_count(r), count);
    ice_router_free(r);
    free(ids);
    free(offsets);
    free(valid);
    free(groups);
    free(ascii);
    ice_spec_release(&spec);
    ice_schema_release(&s);
}

TEST(ice_router_follows_a_schema_that_went_on) {
    struct ice_schema old;
    struct ice_schema now;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    schema_of(&old, "id:int32:k;gone:text;n:int32");
    EXPECT_EQ_INT(ice_spec_parse("gone,truncate(10,id),n", &old, true, &spec, &err), 0);
    struct schema *source = rows_schema(1, "t", 2, "id:int64:k;n:int64");
    int32_t last = 3;
    EXPECT_EQ_INT(ice_schema_follow(&old, source, &plain, &last, &now, &err), ICE_EVOLVED);
    int64_t ids[2] = { 15, -1 };
    uint32_t groups[2];
    struct lake_column columns[2] = {
        { .type = now.fields[0].type, .rows = 2, .width = 8, .data = (const uint8_t *)ids },
        { .type = now.fields[1].type, .rows = 2, .width = 8, .data = (const uint8_t *)ids },
    };
    struct ice_router *r = ice_router_new(&spec, &now);
    ice_router_route(r, columns, 2, groups);
    ice_spec_retype(&spec, &now); /* what the router did for itself */
    struct buf path;
    buf_init(&path, SIZE_MAX);
    ice_partition_put_path(&path, &spec, ice_router_partition(r, groups[1]));
    EXPECT_EQ_STR(buf_cstr(&path), "gone=null/id_trunc=-10/n=-1");
    buf_release(&path);
    ice_router_free(r);
    schema_unref(source);
    ice_spec_release(&spec);
    ice_schema_release(&old);
    ice_schema_release(&now);
}

TEST(ice_router_of_no_partition_has_one_group) {
    struct ice_schema s;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    schema_of(&s, "id:int64:k");
    EXPECT_EQ_INT(ice_spec_parse("", &s, true, &spec, &err), 0);
    int64_t ids[3] = { 1, 2, 3 };
    uint32_t groups[3] = { 9, 9, 9 };
    struct lake_column column = {
        .type = s.fields[0].type, .rows = 3, .width = 8, .data = (const uint8_t *)ids
    };
    struct ice_router *r = ice_router_new(&spec, &s);
    ice_router_route(r, &column, 3, groups);
    EXPECT_EQ_INT(ice_router_count(r), 1);
    EXPECT_EQ_INT(groups[0] + groups[1] + groups[2], 0);
    ice_router_free(r);
    ice_spec_release(&spec);
    ice_schema_release(&s);
}
