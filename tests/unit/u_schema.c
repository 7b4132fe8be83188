/* Schemas: labels, keys, comparison, the steps between two, JSON there and back and damaged. */
#include <stdlib.h>
#include <string.h>

#include "cdc/schema.h"
#include "tests/unit/kit.h"

/* A column of a test's schema; key: its ordinal in the key, or -1. */
struct sketch {
    const char *name;
    enum type_kind kind;
    int16_t key;
};

static struct schema *draw(const char *space, const char *name, const struct sketch *columns,
                           uint16_t count) {
    struct schema *schema = schema_new(42, space, name, count);
    for (uint16_t i = 0; i < count; i++) {
        schema->columns[i].name = arena_strdup(&schema->arena, columns[i].name);
        schema->columns[i].type = (struct type){ .kind = columns[i].kind };
        schema->columns[i].source_type = "int4";
        schema->columns[i].source_oid = 23;
        schema->columns[i].key_pos = columns[i].key;
    }
    schema_finish(schema);
    return schema;
}
#define DRAW(name, ...)                                                                            \
    draw("public", (name), (const struct sketch[]){ __VA_ARGS__ },                                 \
         (uint16_t)(sizeof((const struct sketch[]){ __VA_ARGS__ }) / sizeof(struct sketch)))

static const char *label_of(const char *space, const char *name) {
    struct schema *schema = draw(space, name, NULL, 0);
    const char *label = kit_text("%s", schema->label);
    schema_unref(schema);
    return label;
}

TEST(schema_labels_quote_only_what_would_be_unclear) {
    EXPECT_EQ_STR(label_of("public", "orders"), "public.orders");
    EXPECT_EQ_STR(label_of("Public", "Orders 2"), "Public.Orders 2");
    EXPECT_EQ_STR(label_of("a.b", "c"), "\"a.b\".c");
    EXPECT_EQ_STR(label_of("a", "b.c"), "a.\"b.c\"");
    EXPECT_EQ_STR(label_of("a", "say \"x\""), "a.\"say \"\"x\"\"\"");
    EXPECT_EQ_STR(label_of("", "t"), "\"\".t");
    EXPECT_EQ_STR(label_of("a", "x\ny"), "a.\"x\ny\"");
    EXPECT_EQ_STR(label_of("größe", "ü"), "größe.ü");
}

TEST(schema_key_is_in_key_order_and_orderable_only_if_every_part_is) {
    struct schema *s =
        DRAW("t", { "a", TYPE_INT32, 1 }, { "b", TYPE_TEXT, -1 }, { "c", TYPE_UUID, 0 });
    EXPECT_EQ_INT(s->key_count, 2);
    EXPECT_EQ_INT(s->key[0], 2);
    EXPECT_EQ_INT(s->key[1], 0);
    EXPECT_TRUE(s->key_orderable);
    schema_unref(s);
    s = DRAW("t", { "a", TYPE_INT32, 0 }, { "b", TYPE_TEXT, 1 });
    EXPECT_TRUE(!s->key_orderable);
    s->columns[1].byte_order = true;
    schema_finish(s);
    EXPECT_TRUE(s->key_orderable);
    schema_unref(s);
    s = DRAW("t", { "a", TYPE_NUMERIC, 0 });
    EXPECT_TRUE(!s->key_orderable);
    schema_unref(s);
    s = DRAW("t", { "a", TYPE_INT32, -1 });
    EXPECT_EQ_INT(s->key_count, 0);
    EXPECT_TRUE(!s->key_orderable);
    schema_unref(s);
}

TEST(schema_same_rows_looks_at_names_types_and_key_in_order) {
    struct schema *a = DRAW("t", { "a", TYPE_INT32, 0 }, { "b", TYPE_TEXT, -1 });
    struct schema *same = schema_with_version(a, 7);
    EXPECT_EQ_INT(same->version, 7);
    EXPECT_EQ_STR(same->label, a->label);
    same->columns[1].nullable = true;
    EXPECT_TRUE(schema_same_rows(a, same));
    EXPECT_TRUE(schema_same_definition(a, same));
    same->storage = "16400";
    EXPECT_TRUE(schema_same_rows(a, same));
    EXPECT_TRUE(!schema_same_definition(a, same));
    same->storage = "";
    same->table_id = 43;
    EXPECT_TRUE(!schema_same_definition(a, same));
    schema_unref(same);
    struct schema *others[] = {
        DRAW("t", { "a", TYPE_INT32, 0 }),
        DRAW("t", { "a", TYPE_INT32, 0 }, { "c", TYPE_TEXT, -1 }),
        DRAW("t", { "a", TYPE_INT64, 0 }, { "b", TYPE_TEXT, -1 }),
        DRAW("t", { "a", TYPE_INT32, -1 }, { "b", TYPE_TEXT, 0 }),
        DRAW("t", { "b", TYPE_TEXT, -1 }, { "a", TYPE_INT32, 0 }),
    };
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        EXPECT_TRUE(!schema_same_rows(a, others[i]));
        schema_unref(others[i]);
    }
    schema_unref(a);
}

/* "drop:1 add:2 ..." */
static const char *steps_of(const struct schema *from, const struct schema *to) {
    static const char *const names[] = { "add", "drop", "type", "key", "reorder", "rename" };
    struct schema_step steps[32];
    size_t count = schema_diff(from, to, steps, ARRAY_COUNT(steps));
    EXPECT_EQ_INT(schema_diff(from, to, NULL, 0), count);
    EXPECT_TRUE(count <= (size_t)from->column_count + to->column_count + 3);
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        bool has_from = steps[i].from_column != UINT16_MAX;
        bool has_to = steps[i].to_column != UINT16_MAX;
        buf_putf(&text, "%s%s:%s>%s", i ? " " : "", names[steps[i].kind],
                 has_from ? from->columns[steps[i].from_column].name : "",
                 has_to ? to->columns[steps[i].to_column].name : "");
    }
    const char *result = kit_text("%s", buf_cstr(&text));
    buf_release(&text);
    return result;
}

static const char *steps_between(struct schema *from, struct schema *to) {
    const char *steps = steps_of(from, to);
    schema_unref(from);
    schema_unref(to);
    return steps;
}

TEST(schema_diff_names_each_step) {
    const struct sketch base[] = { { "a", TYPE_INT32, 0 },
                                   { "b", TYPE_TEXT, -1 },
                                   { "c", TYPE_TEXT, -1 } };
#define BASE draw("public", "t", base, 3)
    EXPECT_EQ_STR(steps_between(BASE, BASE), "");
    EXPECT_EQ_STR(steps_between(BASE, draw("public", "u", base, 3)), "rename:>");
    EXPECT_EQ_STR(steps_between(BASE, draw("other", "t", base, 3)), "rename:>");
    EXPECT_EQ_STR(steps_between(BASE, draw("public", "t", base, 2)), "drop:c>");
    EXPECT_EQ_STR(steps_between(draw("public", "t", base, 2), BASE), "add:>c");
    EXPECT_EQ_STR(steps_between(BASE, DRAW("t", { "a", TYPE_INT64, 0 }, { "b", TYPE_TEXT, -1 },
                                           { "c", TYPE_TEXT, -1 })),
                  "type:a>a");
    EXPECT_EQ_STR(steps_between(BASE, DRAW("t", { "a", TYPE_INT32, 0 }, { "b", TYPE_TEXT, 1 },
                                           { "c", TYPE_TEXT, -1 })),
                  "key:>");
    EXPECT_EQ_STR(steps_between(BASE, DRAW("t", { "a", TYPE_INT32, 0 }, { "c", TYPE_TEXT, -1 },
                                           { "b", TYPE_TEXT, -1 })),
                  "reorder:>");
    EXPECT_EQ_STR(steps_between(BASE, DRAW("t", { "a", TYPE_INT32, 0 }, { "x", TYPE_TEXT, -1 },
                                           { "c", TYPE_TEXT, -1 })),
                  "drop:b> add:>x reorder:>");
    EXPECT_EQ_STR(steps_between(BASE, DRAW("u", { "b", TYPE_JSON, 0 }, { "c", TYPE_TEXT, -1 },
                                           { "n", TYPE_INT8, -1 })),
                  "rename:> drop:a> type:b>b add:>n key:>");
}

TEST(schema_diff_writes_no_further_than_its_room) {
    struct schema *from = DRAW("t", { "a", TYPE_INT32, 0 }, { "b", TYPE_TEXT, -1 });
    struct schema *to = DRAW("u", { "x", TYPE_INT32, 0 }, { "y", TYPE_TEXT, -1 });
    struct schema_step steps[3] = { [2] = { STEP_REORDER, 7, 7 } };
    EXPECT_EQ_INT(schema_diff(from, to, steps, 2), 6);
    EXPECT_EQ_INT(steps[0].kind, STEP_RENAME_TABLE);
    EXPECT_EQ_INT(steps[1].kind, STEP_DROP_COLUMN);
    EXPECT_EQ_INT(steps[2].from_column, 7);
    schema_unref(from);
    schema_unref(to);
}

static struct schema *rich_schema(void) {
    struct schema *s = schema_new(16391, "we.ird", "orders \"x\"", 3);
    s->version = 3;
    s->identity = IDENTITY_FULL;
    s->storage = "16400/2";
    s->columns[0] = (struct column_def){
        "id", { TYPE_DECIMAL, 0, 38, 3 }, "numeric(38,3)", 1700, 2490375, false, false, 1
    };
    s->columns[1] = (struct column_def){
        "größe", { TYPE_ARRAY, TYPE_TEXT, 0, 0 }, "text[]", 1009, -1, true, false, -1
    };
    s->columns[2] = (struct column_def){
        "k\n", { TYPE_TEXT, 0, 0, 0 }, "text", 4294967295u, -1, false, true, 0
    };
    schema_finish(s);
    return s;
}

TEST(schema_json_is_the_documented_form_and_comes_back) {
    struct schema *s = rich_schema();
    struct buf json;
    buf_init(&json, SIZE_MAX);
    schema_put_json(&json, s);
    EXPECT_EQ_STR(
        buf_cstr(&json),
        "{\"table\":\"\\\"we.ird\\\".\\\"orders "
        "\\\"\\\"x\\\"\\\"\\\"\",\"id\":16391,\"space\":\"we.ird\",\"name\":\"orders \\\"x\\\"\","
        "\"version\":3,\"identity\":\"f\",\"storage\":\"16400/2\",\"columns\":["
        "{\"name\":\"id\",\"type\":\"decimal(38,3)\",\"source\":\"numeric(38,3)\",\"oid\":1700,"
        "\"mod\":2490375,\"nullable\":false,\"key\":1,\"bytes\":false},"
        "{\"name\":\"größe\",\"type\":\"array<text>\",\"source\":\"text[]\",\"oid\":1009,\"mod\":-"
        "1,\"nullable\":true,\"key\":-1,\"bytes\":false},"
        "{\"name\":\"k\\n\",\"type\":\"text\",\"source\":\"text\",\"oid\":4294967295,\"mod\":-1,"
        "\"nullable\":false,\"key\":0,\"bytes\":true}]}");
    struct err err = ERR_INIT;
    struct schema *back = schema_from_json(json.data, json.len, &err);
    if (EXPECT_TRUE(back != NULL)) {
        EXPECT_TRUE(schema_same_definition(s, back));
        EXPECT_EQ_STR(back->label, "\"we.ird\".\"orders \"\"x\"\"\"");
        struct buf again;
        buf_init(&again, SIZE_MAX);
        schema_put_json(&again, back);
        EXPECT_EQ_MEM(again.data, again.len, json.data, json.len);
        buf_release(&again);
    }
    schema_unref(back);
    schema_unref(s);
    buf_release(&json);
}

/* Replaces the first `what` in the good JSON by `by` and wants it refused. */
static void expect_refused(const char *good, const char *what, const char *by) {
    const char *at = strstr(good, what);
    if (!EXPECT_TRUE(at != NULL)) {
        return;
    }
    const char *bad = kit_text("%.*s%s%s", (int)(at - good), good, by, at + strlen(what));
    struct err err = ERR_INIT;
    struct schema *schema = schema_from_json(bad, strlen(bad), &err);
    EXPECT_EQ_STR(schema ? bad : "refused", "refused");
    EXPECT_EQ_STR(err.code, "schema_malformed");
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    schema_unref(schema);
}

TEST(schema_json_keeps_what_is_missing) {
    static const char good[] =
        "{\"table\":\"p.t\",\"id\":1,\"space\":\"p\",\"name\":\"t\",\"version\":1,\"identity\":"
        "\"d\",\"storage\":\"\",\"columns\":[{\"name\":\"i\",\"type\":\"int32\",\"source\":\"\","
        "\"oid\":0,\"mod\":-1,\"nullable\":true,\"key\":-1,\"bytes\":false,\"missing\":"
        "\"2a0000ff\"},{\"name\":\"s\",\"type\":\"text\",\"source\":\"\",\"oid\":0,\"mod\":-1,"
        "\"nullable\":true,\"key\":-1,\"bytes\":false,\"missing\":\"\"}]}";
    struct err err = ERR_INIT;
    struct schema *s = schema_from_json(good, strlen(good), &err);
    if (EXPECT_TRUE(s != NULL)) {
        struct schema *copy = schema_with_version(s, 1);
        EXPECT_EQ_MEM(copy->columns[0].missing, copy->columns[0].missing_len, "\x2a\0\0\xff", 4);
        EXPECT_TRUE(copy->columns[1].missing && copy->columns[1].missing_len == 0);
        struct buf again;
        buf_init(&again, SIZE_MAX);
        schema_put_json(&again, copy);
        EXPECT_EQ_STR(buf_cstr(&again), good);
        buf_release(&again);
        schema_unref(copy);
    }
    schema_unref(s);
    expect_refused(good, "\"2a0000ff\"", "\"2a0000\"");
    expect_refused(good, "\"2a0000ff\"", "\"2a0000fg\"");
    expect_refused(good, "\"2a0000ff\"", "5");
    expect_refused(good, "\"missing\":\"\"", "\"missing\":\"a\"");
}

TEST(schema_json_with_any_field_wrong_is_refused) {
    struct schema *s = rich_schema();
    struct buf json;
    buf_init(&json, SIZE_MAX);
    schema_put_json(&json, s);
    const char *good = buf_cstr(&json);
    static const char *const fields[] = { "table",    "id",      "space",    "name", "version",
                                          "identity", "storage", "columns",  "type", "source",
                                          "oid",      "mod",     "nullable", "key",  "bytes" };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        expect_refused(good, kit_text("\"%s\":", fields[i]), "\"gone\":");
        expect_refused(good, kit_text("\"%s\":", fields[i]),
                       kit_text("\"%s\":{},\"x\":", fields[i]));
        expect_refused(good, kit_text("\"%s\":", fields[i]),
                       kit_text("\"%s\":1.5,\"x\":", fields[i]));
    }
    expect_refused(good, "\"id\":16391", "\"id\":-1");
    expect_refused(good, "\"version\":3", "\"version\":4294967296");
    expect_refused(good, "\"identity\":\"f\"", "\"identity\":\"x\"");
    expect_refused(good, "\"identity\":\"f\"", "\"identity\":\"\"");
    expect_refused(good, "\"oid\":1700", "\"oid\":4294967296");
    expect_refused(good, "\"mod\":-1", "\"mod\":2147483648");
    expect_refused(good, "\"key\":1", "\"key\":0");
    expect_refused(good, "\"key\":1", "\"key\":2");
    expect_refused(good, "\"key\":1", "\"key\":-2");
    expect_refused(good, "\"key\":1", "\"key\":40000");
    expect_refused(good, "decimal(38,3)\"", "decimal(99,3)\"");
    expect_refused(good, "größe", "id");
    expect_refused(good, "größe", "");
    expect_refused(good, "größe", "gr\\u0000e");
    expect_refused(good, "\\\"we.ird\\\".", "we.ird.");
    expect_refused(good, "\"columns\":[{", "\"columns\":[7,{");
    expect_refused(good, "\"columns\":", "\"version\":3,\"columns\":");
    expect_refused(good, "{\"table\"", "[\"table\"");
    expect_refused(good, good, "");
    expect_refused(good, good, "[]");
    expect_refused(good, good, "7");
    expect_refused(good, "größe", "gr\xC3");
    for (size_t len = 0; len < json.len; len++) { /* cut anywhere */
        char *cut = malloc(len + 1);
        memcpy(cut, json.data, len);
        struct err err = ERR_INIT;
        EXPECT_TRUE(schema_from_json(cut, len, &err) == NULL);
        free(cut);
    }
    buf_release(&json);
    schema_unref(s);
}

TEST(schema_json_passes_over_members_of_others) {
    struct schema *s = DRAW("t", { "a", TYPE_INT32, 0 });
    struct buf json;
    buf_init(&json, SIZE_MAX);
    buf_puts(&json, "{\"mine\":[1,2],");
    struct buf inner;
    buf_init(&inner, SIZE_MAX);
    schema_put_json(&inner, s);
    buf_put(&json, inner.data + 1, inner.len - 1);
    struct err err = ERR_INIT;
    struct schema *back = schema_from_json(json.data, json.len, &err);
    EXPECT_TRUE(back != NULL && schema_same_rows(s, back));
    schema_unref(back);
    schema_unref(s);
    buf_release(&inner);
    buf_release(&json);
}
