/* Iceberg schemas: from a source, following it, JSON there and back, name mapping. */
#include <stdlib.h>

#include "sinks/iceberg/ice_schema.h"
#include "tests/unit/u_sink_rows.h"

static const struct ice_schema_rules plain = { 0 };

static const char *json_of(const struct ice_schema *s) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_schema_put_json(&out, s);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

/* "1:id:long!;2:note:string" : id, name, type, ! = required; a list shows its element's id. */
static const char *sketch_of(const struct ice_schema *s) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    for (uint32_t i = 0; i < s->field_count; i++) {
        const struct ice_field *f = &s->fields[i];
        buf_putf(&out, "%s%d:%s:", i ? ";" : "", f->id, f->name);
        if (f->type.kind == LAKE_LIST) {
            buf_putf(&out, "list/%d", f->element_id);
        } else {
            lake_type_put_name(&out, &f->type);
        }
        buf_puts(&out, f->required ? "!" : "");
    }
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

static int32_t begin(struct ice_schema *out, const char *spec,
                     const struct ice_schema_rules *rules) {
    struct schema *source = rows_schema(1, "t", 1, spec);
    struct err err = ERR_INIT;
    int32_t last = 0;
    EXPECT_EQ_INT(ice_schema_first(out, source, rules, &last, &err), 0);
    schema_unref(source);
    return last;
}

/* Follows to another source schema; `now` becomes the new one where there is one. */
static enum ice_change follow(struct ice_schema *now, const char *spec,
                              const struct ice_schema_rules *rules, int32_t *last,
                              struct err *err) {
    struct schema *source = rows_schema(1, "t", 2, spec);
    struct ice_schema next;
    *err = ERR_INIT;
    enum ice_change change = ice_schema_follow(now, source, rules, last, &next, err);
    if (change == ICE_EVOLVED) {
        ice_schema_release(now);
        *now = next;
    }
    schema_unref(source);
    return change;
}

TEST(ice_schema_ids_run_in_column_order_and_list_elements_come_after) {
    struct ice_schema s;
    int32_t last = begin(&s, "id:int64:k;tags:array<int32>;body:text;more:array<text>", &plain);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;2:tags:list/5;3:body:string;4:more:list/6");
    EXPECT_EQ_INT(last, 6);
    EXPECT_EQ_INT(s.identifier_count, 1);
    EXPECT_EQ_INT(s.identifiers[0], 1);
    ice_schema_release(&s);
}

TEST(ice_schema_has_no_identifiers_where_the_key_is_a_float) {
    struct ice_schema s;
    begin(&s, "id:int64:k;x:float64:k", &plain);
    EXPECT_EQ_INT(s.identifier_count, 0);
    ice_schema_release(&s);
}

TEST(ice_schema_extras_follow_the_columns_and_their_names_are_taken) {
    struct ice_schema s;
    struct ice_schema_rules rules = { .extras = ICE_EXTRA_OP | ICE_EXTRA_TS | ICE_EXTRA_POSITION |
                                                ICE_EXTRA_DELETED };
    begin(&s, "id:int64:k", &rules);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;2:_tailrace_op:string;3:_tailrace_ts:timestamptz;"
                                 "4:_tailrace_position:string;5:_tailrace_deleted:boolean!");
    ice_schema_release(&s);
    struct schema *source = rows_schema(1, "t", 1, "id:int64:k;_tailrace_op:text");
    struct err err = ERR_INIT;
    int32_t last = 0;
    EXPECT_EQ_INT(ice_schema_first(&s, source, &plain, &last, &err), -1);
    EXPECT_EQ_STR(err.code, "column_collision");
    schema_unref(source);
}

TEST(ice_schema_that_the_source_still_has_is_the_same) {
    struct ice_schema s;
    struct err err;
    int32_t last = begin(&s, "id:int64:k;body:text;tags:array<int32>", &plain);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;body:text;tags:array<int32>", &plain, &last, &err),
                  ICE_SAME);
    EXPECT_EQ_INT(last, 4);
    ice_schema_release(&s);
}

TEST(ice_schema_follows_adds_drops_order_and_widening) {
    struct ice_schema s;
    struct err err;
    int32_t last = begin(&s, "id:int32:k;a:float32;b:decimal(9,2);c:text", &plain);
    EXPECT_EQ_INT(
        follow(&s, "b:decimal(12,2);id:int64:k;a:float64;d:array<int32>", &plain, &last, &err),
        ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "3:b:decimal(12,2);1:id:long!;2:a:double;5:d:list/6");
    EXPECT_EQ_INT(last, 6);
    EXPECT_EQ_INT(s.identifiers[0], 1);
    ice_schema_release(&s);
}

TEST(ice_schema_name_that_was_dropped_comes_back_with_a_new_id_and_optional) {
    struct ice_schema s;
    struct err err;
    int32_t last = begin(&s, "id:int64:k;a:int32:k", &plain);
    EXPECT_EQ_INT(follow(&s, "id:int64:k", &plain, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:int32:k", &plain, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;3:a:int");
    EXPECT_EQ_INT(s.identifier_count, 0); /* one of the key is optional now */
    ice_schema_release(&s);
}

TEST(ice_schema_required_becomes_optional_and_never_the_reverse) {
    struct ice_schema s;
    struct err err;
    int32_t last = begin(&s, "id:int64:k;a:text", &plain);
    EXPECT_EQ_INT(follow(&s, "id:int64;a:text", &plain, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long;2:a:string");
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text:k", &plain, &last, &err), ICE_SAME);
    ice_schema_release(&s);
}

TEST(ice_schema_stops_at_changes_that_iceberg_forbids_and_says_which) {
    struct ice_schema s;
    struct err err;
    int32_t last = begin(&s, "id:int64:k;a:int64", &plain);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text;b:text", &plain, &last, &err), ICE_IMPOSSIBLE);
    EXPECT_EQ_STR(err.code, "type_change");
    EXPECT_TRUE(strstr(err.text, "\"a\"") && strstr(err.text, "long") &&
                strstr(err.text, "string"));
    EXPECT_TRUE(strstr(err.cure, "on_type_change=new_column") != NULL);
    EXPECT_EQ_INT(last, 2);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;2:a:long");
    ice_schema_release(&s);
}

TEST(ice_schema_keeps_the_old_field_beside_a_new_column) {
    struct ice_schema s;
    struct err err;
    struct ice_schema_rules rules = { .on_type_change = ICE_TYPE_NEW_COLUMN };
    int32_t last = begin(&s, "id:int64:k;a:int64;z:text", &rules);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text;z:text", &rules, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;4:a:string;3:z:string;2:a_v1:long");
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text;z:text", &rules, &last, &err), ICE_SAME);
    /* Again, and a source column that takes the kept one's name. */
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:bool;a_v1:text", &rules, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s),
                  "1:id:long!;5:a:boolean;6:a_v1:string;4:a_v2:string;2:a_v1_v1:long");
    uint16_t columns[5];
    struct schema *source = rows_schema(1, "t", 2, "a_v1:text;a:bool;id:int64:k");
    ice_schema_bind(&s, source, columns);
    EXPECT_EQ_INT(columns[0], 2);
    EXPECT_EQ_INT(columns[1], 1);
    EXPECT_EQ_INT(columns[2], 0);
    EXPECT_EQ_INT(columns[3], UINT16_MAX);
    EXPECT_EQ_INT(columns[4], UINT16_MAX);
    schema_unref(source);
    ice_schema_release(&s);
}

TEST(ice_schema_gives_a_changed_column_a_new_field_where_all_rows_come_anew) {
    struct ice_schema s, before;
    struct err err;
    struct ice_schema_rules rules = { .on_type_change = ICE_TYPE_RESNAPSHOT };
    int32_t last = begin(&s, "id:int64:k;a:int64;z:array<int32>", &rules);
    ice_schema_copy(&before, &s);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text;z:array<text>", &rules, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;5:a:string;6:z:list/7");
    EXPECT_EQ_INT(ice_schema_replaced(&before, &s), 1);
    EXPECT_EQ_INT(ice_schema_replaced(&s, &s), -1);
    EXPECT_EQ_INT(follow(&s, "id:int64:k;a:text;z:array<text>", &rules, &last, &err), ICE_SAME);
    ice_schema_release(&before);
    /* The key itself: no field of it is required then, so rows have no identifiers. */
    EXPECT_EQ_INT(follow(&s, "id:text:k;a:text", &rules, &last, &err), ICE_EVOLVED);
    EXPECT_EQ_STR(sketch_of(&s), "8:id:string;5:a:string");
    EXPECT_EQ_INT(s.identifier_count, 0);
    EXPECT_EQ_INT(last, 8);
    ice_schema_release(&s);
}

TEST(ice_schema_another_key_needs_all_rows_anew) {
    struct ice_schema_rules rules = { .on_type_change = ICE_TYPE_STOP };
    struct schema *s[5];
    static const char *const keys[5] = { "a", "b", "ab", "ba", "" };
    for (int i = 0; i < 5; i++) {
        s[i] = schema_new(1, "public", "t", 2);
        for (int c = 0; c < 2; c++) {
            const char *name = c ? "b" : "a", *at = strchr(keys[i], *name);
            s[i]->columns[c] =
                (struct column_def){ .name = name,
                                     .type = { .kind = TYPE_INT32 },
                                     .source_type = "",
                                     .key_pos = at ? (int16_t)(at - keys[i]) : (int16_t)-1 };
        }
        schema_finish(s[i]);
    }
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 5; k++) {
            bool same = i == k || (i == 2 && k == 3) || (i == 3 && k == 2);
            EXPECT_TRUE(ice_schema_needs_anew(s[i], s[k], &rules) == !same);
        }
    }
    for (int i = 0; i < 5; i++) {
        schema_unref(s[i]);
    }
}

static bool needs_anew(const char *from, const char *to, enum ice_type_change how) {
    struct ice_schema_rules rules = { .on_type_change = how };
    struct schema *before = rows_schema(1, "t", 1, from);
    struct schema *after = rows_schema(1, "t", 2, to);
    bool needs = ice_schema_needs_anew(before, after, &rules);
    schema_unref(before);
    schema_unref(after);
    return needs;
}

TEST(ice_schema_needs_rows_anew_where_iceberg_forbids_the_change) {
    enum ice_type_change how = ICE_TYPE_RESNAPSHOT;
    EXPECT_TRUE(needs_anew("a:int32", "b:text;a:text", how));
    EXPECT_TRUE(needs_anew("a:int64", "a:int32", how));
    EXPECT_TRUE(needs_anew("a:decimal(38,2)", "a:decimal(40,2)", how)); /* a string from here on */
    EXPECT_TRUE(needs_anew("a:decimal(9,2)", "a:decimal(9,3)", how));
    EXPECT_TRUE(needs_anew("a:array<int32>", "a:array<text>", how));
    EXPECT_TRUE(!needs_anew("a:int32", "a:int64;b:text", how));
    EXPECT_TRUE(!needs_anew("a:decimal(9,2)", "a:decimal(12,2)", how));
    EXPECT_TRUE(!needs_anew("a:int16", "a:int32", how)); /* both int */
    EXPECT_TRUE(!needs_anew("a:int32;b:text", "b:text", how));
    EXPECT_TRUE(!needs_anew("a:int32", "a:text", ICE_TYPE_NEW_COLUMN));
    EXPECT_TRUE(!needs_anew("a:int32", "a:text", ICE_TYPE_STOP));
}

static bool only_a(void *arg, const char *table, const char *column) {
    (void)arg;
    (void)table;
    return strcmp(column, "a") == 0;
}

TEST(ice_schema_takes_columns_as_text_where_asked) {
    struct ice_schema s;
    struct ice_schema_rules rules = { .text = only_a };
    begin(&s, "id:int64:k;a:timestamp", &rules);
    EXPECT_EQ_STR(sketch_of(&s), "1:id:long!;2:a:string");
    ice_schema_release(&s);
}

TEST(ice_schema_json_is_as_the_reference_writes_it) {
    struct ice_schema s;
    begin(&s, "id:int64:k;a \"b\":array<text>", &plain);
    EXPECT_EQ_STR(
        json_of(&s),
        "{\"type\":\"struct\",\"schema-id\":0,\"identifier-field-ids\":[1],\"fields\":["
        "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"long\",\"doc\":\"int64\"},"
        "{\"id\":2,\"name\":\"a "
        "\\\"b\\\"\",\"required\":false,\"type\":{\"type\":\"list\",\"element-id\":3,"
        "\"element\":\"string\",\"element-required\":false},\"doc\":\"array<text>\"}]}");
    struct buf map;
    buf_init(&map, SIZE_MAX);
    ice_schema_put_name_mapping(&map, &s);
    EXPECT_EQ_STR(
        buf_cstr(&map),
        "[{\"field-id\":1,\"names\":[\"id\"]},{\"field-id\":2,\"names\":[\"a \\\"b\\\"\"],"
        "\"fields\":[{\"field-id\":3,\"names\":[\"element\"]}]}]");
    buf_release(&map);
    ice_schema_release(&s);
}

static int parse(const char *text, struct ice_schema *out, struct err *err) {
    json_t *json = json_loads(text, 0, NULL);
    *err = ERR_INIT;
    int got = ice_schema_from_json(json, out, err);
    json_decref(json);
    return got;
}

TEST(ice_schema_json_comes_back_with_its_defaults) {
    static const char text[] =
        "{\"type\":\"struct\",\"schema-id\":7,\"identifier-field-ids\":[1],\"fields\":["
        "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"uuid\"},"
        "{\"id\":4,\"name\":\"n\",\"required\":false,\"type\":\"string\",\"doc\":\"d\",\"initial-"
        "default\":\"x\\\"y\","
        "\"write-default\":null},"
        "{\"id\":5,\"name\":\"k\",\"required\":false,\"type\":\"int\",\"initial-default\":5,"
        "\"write-default\":6}]}";
    struct ice_schema s;
    struct err err;
    if (!EXPECT_EQ_INT(parse(text, &s, &err), 0)) {
        return;
    }
    EXPECT_EQ_STR(s.fields[1].initial_default, "\"x\\\"y\"");
    EXPECT_EQ_STR(s.fields[1].write_default, NULL);
    struct ice_schema copy;
    ice_schema_copy(&copy, &s);
    ice_schema_release(&s);
    EXPECT_EQ_STR(json_of(&copy),
                  "{\"type\":\"struct\",\"schema-id\":7,\"identifier-field-ids\":[1],\"fields\":["
                  "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"uuid\"},"
                  "{\"id\":4,\"name\":\"n\",\"required\":false,\"type\":\"string\",\"doc\":\"d\","
                  "\"initial-default\":\"x\\\"y\"},"
                  "{\"id\":5,\"name\":\"k\",\"required\":false,\"type\":\"int\",\"initial-"
                  "default\":5,\"write-default\":6}]}");
    ice_schema_release(&copy);
}

TEST(ice_schema_refuses_what_it_could_not_write) {
    static const char *const wrong[] = {
        "{}",
        "{\"fields\":[{\"id\":1,\"name\":\"a\",\"required\":true,\"type\":{\"type\":\"struct\","
        "\"fields\":[]}}]}",
        "{\"fields\":[{\"id\":1,\"name\":\"a\",\"required\":true,\"type\":\"variant\"}]}",
        "{\"fields\":[{\"id\":1,\"name\":\"a\",\"required\":true,\"type\":\"int\"},"
        "{\"id\":1,\"name\":\"b\",\"required\":true,\"type\":\"int\"}]}",
        "{\"fields\":[{\"id\":-1,\"name\":\"a\",\"required\":true,\"type\":\"int\"}]}",
        "{\"fields\":[{\"id\":4294967297,\"name\":\"a\",\"required\":true,\"type\":\"int\"}]}",
        "{\"fields\":[{\"id\":1,\"name\":\"a\",\"required\":true,\"type\":{\"type\":\"list\","
        "\"element-id\":2,\"element\":"
        "{\"type\":\"list\"}}}]}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct ice_schema s;
        struct err err;
        EXPECT_EQ_INT(parse(wrong[i], &s, &err), -1);
        EXPECT_EQ_STR(err.code, "iceberg_schema");
    }
}
