/* Types: names there and back, widths. Snapshots too: they are values as small. */
#include <stdio.h>

#include "cdc/base/buf.h"
#include "cdc/position.h"
#include "cdc/type.h"
#include "tests/unit/kit.h"

static const char *name_of(const struct type *type) {
    static char text[2][64]; /* the last two */
    static int turn;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    type_put_name(&out, type);
    turn = !turn;
    snprintf(text[turn], sizeof text[turn], "%s", buf_cstr(&out));
    buf_release(&out);
    return text[turn];
}

TEST(type_names_lead_back_to_the_type) {
    for (int kind = TYPE_BOOL; kind < TYPE_KIND_COUNT; kind++) {
        struct type type = { .kind = (enum type_kind)kind,
                             .element = kind == TYPE_ARRAY ? TYPE_INT32 : 0 };
        if (kind == TYPE_DECIMAL) {
            type.precision = 15;
            type.scale = 2;
        }
        struct type back = { 0 };
        const char *name = name_of(&type);
        EXPECT_EQ_INT(type_from_name(name, &back), 0);
        EXPECT_TRUE(type_equal(&type, &back));
        EXPECT_EQ_STR(name_of(&back), name);
    }
    for (int precision = 1; precision <= DECIMAL_PRECISION_MAX; precision++) {
        for (int scale = -1000; scale <= 1000; scale += 37) {
            struct type type = { TYPE_DECIMAL, 0, (uint16_t)precision, (int16_t)scale };
            struct type back = { 0 };
            EXPECT_EQ_INT(type_from_name(name_of(&type), &back), 0);
            EXPECT_TRUE(type_equal(&type, &back));
        }
    }
}

TEST(type_names_are_the_documented_ones) {
    struct type type = { TYPE_DECIMAL, 0, 15, 2 };
    EXPECT_EQ_STR(name_of(&type), "decimal(15,2)");
    type = (struct type){ TYPE_DECIMAL, 0, 3, -2 };
    EXPECT_EQ_STR(name_of(&type), "decimal(3,-2)");
    type = (struct type){ TYPE_ARRAY, TYPE_NUMERIC, 0, 0 };
    EXPECT_EQ_STR(name_of(&type), "array<numeric>");
    type = (struct type){ TYPE_TIMESTAMPTZ, 0, 0, 0 };
    EXPECT_EQ_STR(name_of(&type), "timestamptz");
}

TEST(type_names_that_are_none_are_refused) {
    static const char *const wrong[] = {
        "",
        "int",
        "int640",
        "Int64",
        " int64",
        "int64 ",
        "int64()",
        "decimal",
        "decimal(",
        "decimal()",
        "decimal(15)",
        "decimal(15,2",
        "decimal(15,2))",
        "decimal(15, 2)",
        "decimal(015,2)",
        "decimal(+15,2)",
        "decimal(15,+2)",
        "decimal(0,0)",
        "decimal(77,0)",
        "decimal(-1,0)",
        "decimal(1,99999)",
        "decimal(1,-99999)",
        "decimal(1,-0)",
        "decimal<int32>",
        "array",
        "array<",
        "array<>",
        "array<int32",
        "array<array<int32>>",
        "array<decimal(3,2)>",
        "array<decimal>",
        "array<int32>>",
        "array(int32)",
        "int64<",
        "(",
        "<int32>",
        "decimal(99999999999999999999,2)",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct type type = { .kind = TYPE_BOOL };
        EXPECT_EQ_STR(type_from_name(wrong[i], &type) == -1 ? wrong[i] : "taken", wrong[i]);
        EXPECT_EQ_INT(type.kind, TYPE_BOOL);
    }
}

TEST(type_width_of_a_decimal_follows_its_precision) {
    struct type type = { TYPE_DECIMAL, 0, 18, 0 };
    EXPECT_EQ_INT(type_width(&type), 8);
    type.precision = 19;
    EXPECT_EQ_INT(type_width(&type), 16);
    type.precision = 38;
    EXPECT_EQ_INT(type_width(&type), 16);
    type.precision = 39;
    EXPECT_EQ_INT(type_width(&type), 32);
    struct type uuid = { TYPE_UUID, 0, 0, 0 };
    EXPECT_EQ_INT(type_width(&uuid), 16);
    struct type text = { TYPE_TEXT, 0, 0, 0 };
    EXPECT_EQ_INT(type_width(&text), 0);
    struct type year = { TYPE_YEAR, 0, 0, 0 };
    EXPECT_EQ_INT(type_width(&year), 2);
}

TEST(type_equality_looks_only_at_what_the_kind_has) {
    struct type a = { TYPE_INT32, 0, 5, 5 };
    struct type b = { TYPE_INT32, TYPE_TEXT, 6, 6 };
    EXPECT_TRUE(type_equal(&a, &b));
    a = (struct type){ TYPE_ARRAY, TYPE_INT32, 0, 0 };
    b = (struct type){ TYPE_ARRAY, TYPE_INT64, 0, 0 };
    EXPECT_TRUE(!type_equal(&a, &b));
    a = (struct type){ TYPE_DECIMAL, 0, 15, 2 };
    b = (struct type){ TYPE_DECIMAL, 0, 15, 3 };
    EXPECT_TRUE(!type_equal(&a, &b));
}

TEST(snapshot_sees_what_is_below_xmin_or_between_and_not_listed) {
    struct snapshot s;
    snapshot_init(&s);
    const uint64_t running[] = { 107, 103, 105 };
    snapshot_set(&s, 103, 110, running, 3);
    struct snapshot copy;
    snapshot_init(&copy);
    snapshot_copy(&copy, &s);
    snapshot_set(&s, s.xmin, s.xmax, s.xip, s.xip_count); /* its own list is a fair argument */
    for (uint64_t tx = 90; tx < 120; tx++) {
        bool want = tx < 103 || (tx < 110 && tx != 103 && tx != 105 && tx != 107);
        EXPECT_EQ_INT(snapshot_sees(&s, tx), want);
        EXPECT_EQ_INT(snapshot_sees(&copy, tx), want);
    }
    snapshot_set(&copy, 5, 5, NULL, 0);
    EXPECT_TRUE(snapshot_sees(&copy, 4) && !snapshot_sees(&copy, 5));
    snapshot_release(&s);
    snapshot_release(&copy);
}
