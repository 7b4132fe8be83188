/* Sort orders: the user's words, their JSON, and key bytes that order as Iceberg orders values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_order.h"
#include "tests/unit/kit.h"

enum { CELLS_MAX = 12 };
/* Cells of one type, ascending. */
struct ladder {
    struct lake_type type;
    uint8_t fixed[CELLS_MAX][16];
    const char *texts[CELLS_MAX];
    uint32_t lens[CELLS_MAX];
    uint32_t count;
};

static void rung(struct ladder *l, const void *cell, size_t n) {
    memcpy(l->fixed[l->count++], cell, n);
}

static void key_of(const struct ladder *l, uint32_t i, bool descending, bool nulls_last,
                   struct buf *out) {
    uint32_t offsets[2] = { 0, l->lens[i < l->count ? i : 0] };
    uint8_t none = 0;
    struct lake_column c = {
        .type = l->type,
        .rows = 1,
        .width =
            l->type.kind == LAKE_STRING || l->type.kind == LAKE_BINARY ? 0
            : l->type.kind == LAKE_BOOL                                ? 1
            : l->type.kind == LAKE_INT || l->type.kind == LAKE_DATE || l->type.kind == LAKE_FLOAT
                ? 4
            : l->type.kind == LAKE_UUID || (l->type.kind == LAKE_DECIMAL && l->type.precision > 18)
                ? 16
                : 8,
        .valid = i < l->count ? NULL : &none,
    };
    c.data = c.width ? l->fixed[i % l->count] : (const uint8_t *)l->texts[i % l->count];
    c.offsets = c.width ? NULL : offsets;
    struct ice_order order = { .id = 1, .count = 1, .fields = { { 1, descending, nulls_last } } };
    uint32_t index = 0;
    buf_clear(out);
    ice_order_put_key(&order, &index, &c, 0, out);
}

static int place(const struct buf *a, const struct buf *b) {
    size_t n = a->len < b->len ? a->len : b->len;
    int differ = memcmp(a->data, b->data, n);
    CHECK(differ || a->len == b->len); /* none is the beginning of another */
    return (differ > 0) - (differ < 0);
}

/* Each pair, and null against each, both ways. */
static void expect_ascends(const struct ladder *l) {
    struct buf a, b;
    buf_init(&a, SIZE_MAX);
    buf_init(&b, SIZE_MAX);
    for (uint32_t way = 0; way < 4; way++) {
        bool descending = way & 1, last = way & 2;
        for (uint32_t i = 0; i <= l->count; i++) {
            for (uint32_t k = 0; k <= l->count; k++) {
                int want = (i > k) - (i < k);
                want = descending ? -want : want;
                if ((i == l->count) != (k == l->count)) {
                    want = (i == l->count) == last ? 1 : -1;
                }
                key_of(l, i, descending, last, &a);
                key_of(l, k, descending, last, &b);
                EXPECT_EQ_INT(place(&a, &b), want);
            }
        }
    }
    buf_release(&a);
    buf_release(&b);
}

static void expect_longs(enum lake_kind kind, uint8_t precision) {
    static const int64_t values[] = { INT64_MIN, -256, -2, -1, 0, 1, 255, 256, INT64_MAX };
    struct ladder l = { .type = { .kind = kind, .precision = precision } };
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        uint8_t wide[16];
        memset(wide, values[i] < 0 ? 0xff : 0, sizeof wide);
        memcpy(wide, &values[i], 8);
        rung(&l, wide, precision > 18 ? 16 : 8);
    }
    expect_ascends(&l);
}

TEST(ice_order_numbers_ascend_by_value) {
    static const int32_t ints[] = { INT32_MIN, -65536, -1, 0, 1, 300, INT32_MAX };
    for (int kind = 0; kind < 2; kind++) {
        struct ladder l = { .type = { .kind = kind ? LAKE_DATE : LAKE_INT } };
        for (size_t i = 0; i < ARRAY_COUNT(ints); i++) {
            rung(&l, &ints[i], 4);
        }
        expect_ascends(&l);
    }
    expect_longs(LAKE_LONG, 0);
    expect_longs(LAKE_TIME, 0);
    expect_longs(LAKE_TIMESTAMP, 0);
    expect_longs(LAKE_TIMESTAMPTZ, 0);
    expect_longs(LAKE_DECIMAL, 18);
    expect_longs(LAKE_DECIMAL, 38);
    struct ladder bools = { .type = { .kind = LAKE_BOOL } };
    rung(&bools, "\0", 1);
    rung(&bools, "\1", 1);
    expect_ascends(&bools);
}

TEST(ice_order_zeros_are_signed_and_nan_is_greatest) {
    static const double values[] = { -INFINITY, -1e300, -1.5, -1e-40, -0.0,
                                     0.0,       1e-40,  1.5,  1e300,  INFINITY };
    struct ladder doubles = { .type = { .kind = LAKE_DOUBLE } };
    struct ladder floats = { .type = { .kind = LAKE_FLOAT } };
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        rung(&doubles, &values[i], 8);
        if (fabs(values[i]) != 1e300) {
            float narrow = (float)values[i];
            rung(&floats, &narrow, 4);
        }
    }
    struct buf plus, minus;
    double nan = -NAN;
    float narrow_nan = NAN;
    rung(&doubles, &nan, 8);
    rung(&floats, &narrow_nan, 4);
    expect_ascends(&doubles);
    expect_ascends(&floats);
    buf_init(&plus, SIZE_MAX);
    buf_init(&minus, SIZE_MAX);
    key_of(&doubles, doubles.count - 1, false, false, &minus);
    nan = NAN;
    memcpy(doubles.fixed[doubles.count - 1], &nan, 8);
    key_of(&doubles, doubles.count - 1, false, false, &plus);
    EXPECT_EQ_INT(place(&plus, &minus), 0); /* whatever its sign */
    buf_release(&plus);
    buf_release(&minus);
}

TEST(ice_order_bytes_ascend_unsigned) {
    static const struct {
        const char *text;
        uint32_t len;
    } texts[] = { { "", 0 },   { "\0", 1 }, { "\0\0", 2 },     { "\0\1", 2 },
                  { "\1", 1 }, { "a", 1 },  { "a\0", 2 },      { "a\0b", 3 },
                  { "aa", 2 }, { "b", 1 },  { "\xc3\xa4", 2 }, { "\xff", 1 } };
    for (int kind = 0; kind < 2; kind++) {
        struct ladder l = { .type = { .kind = kind ? LAKE_BINARY : LAKE_STRING } };
        for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
            l.texts[i] = texts[i].text;
            l.lens[i] = texts[i].len;
        }
        l.count = ARRAY_COUNT(texts);
        expect_ascends(&l);
    }
    struct ladder uuids = { .type = { .kind = LAKE_UUID } };
    uint8_t uuid[16] = { 0 };
    for (int i = 0; i < 4; i++) {
        uuid[i == 1 ? 15 : 0] = (uint8_t)(64 * i);
        rung(&uuids, uuid, sizeof uuid);
    }
    expect_ascends(&uuids);
}

/* ---- words and JSON ---- */

static void schema_of(struct ice_schema *out, bool without_b) {
    struct err err = ERR_INIT;
    json_t *json = json_loads(
        without_b ? "{\"type\":\"struct\",\"schema-id\":1,\"fields\":["
                    "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"long\"}]}"
                  : "{\"type\":\"struct\",\"schema-id\":0,\"fields\":["
                    "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"long\"},"
                    "{\"id\":2,\"name\":\"b\",\"required\":false,\"type\":\"string\"},"
                    "{\"id\":3,\"name\":\"a, \\\"b\",\"required\":false,\"type\":\"double\"},"
                    "{\"id\":4,\"name\":\"l\",\"required\":false,\"type\":{\"type\":\"list\","
                    "\"element-id\":5,\"element\":\"int\",\"element-required\":false}}]}",
        0, NULL);
    int failed = ice_schema_from_json(json, out, &err);
    EXPECT_EQ_STR(failed ? err.text : "", "");
    json_decref(json);
}

/* The order's JSON, or the error's code and what it says. */
static const char *order_of(const char *words) {
    struct err err = ERR_INIT;
    struct ice_schema schema;
    struct ice_order order, back;
    schema_of(&schema, false);
    if (ice_order_parse(words, &schema, &order, &err)) {
        ice_schema_release(&schema);
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
        EXPECT_TRUE(err.cure[0] != 0);
        return kit_text("%s: %s", err.code, err.text);
    }
    EXPECT_EQ_INT(ice_order_check(words, &err), 0);
    json_t *json = ice_order_json(&order);
    json_t *list = json_pack("[O]", json);
    ice_order_from_json(list, 1, &back);
    EXPECT_TRUE(ice_order_same(&order, &back));
    EXPECT_EQ_INT(back.id, order.count ? 1 : 0);
    char *text = json_dumps(json, JSON_COMPACT);
    const char *out = kit_text("%s", text);
    free(text);
    json_decref(list);
    json_decref(json);
    ice_schema_release(&schema);
    return out;
}

#define FIELD(id, way, nulls)                                                                      \
    "{\"transform\":\"identity\",\"source-id\":" id ",\"direction\":\"" way                        \
    "\",\"null-order\":\"nulls-" nulls "\"}"
#define ORDER(fields) "{\"order-id\":1,\"fields\":[" fields "]}"

TEST(ice_order_words_become_json) {
    EXPECT_EQ_STR(order_of("b,id desc"),
                  ORDER(FIELD("2", "asc", "first") "," FIELD("1", "desc", "last")));
    EXPECT_EQ_STR(order_of(" b ASC nulls last , id desc nulls first "),
                  ORDER(FIELD("2", "asc", "last") "," FIELD("1", "desc", "first")));
    EXPECT_EQ_STR(order_of("b+asc+nulls+last,id+desc+nulls+first"),
                  ORDER(FIELD("2", "asc", "last") "," FIELD("1", "desc", "first")));
    EXPECT_EQ_STR(order_of("\"a, \"\"b\" desc"), ORDER(FIELD("3", "desc", "last")));
    EXPECT_EQ_STR(order_of("elsewhere,b"), ORDER(FIELD("2", "asc", "first")));
    EXPECT_EQ_STR(order_of("elsewhere"), "{\"order-id\":0,\"fields\":[]}");
    EXPECT_EQ_STR(order_of(""), "{\"order-id\":0,\"fields\":[]}");
}

TEST(ice_order_words_that_are_none_are_refused) {
    static const struct {
        const char *words, *what;
    } wrong[] = {
        { "b,", "the name of a column is missing" },
        { ",b", "the name of a column is missing" },
        { "b down", "after a column comes a comma" },
        { "b asc desc", "after a column comes a comma" },
        { "b nulls", "after nulls comes first or last" },
        { "b nulls middle", "after nulls comes first or last" },
        { "\"b", "a quote is not closed" },
        { "day(b)", "rows are sorted by columns as they are, not by what is made of them" },
        { "b,id,b desc", "a column stands there twice" },
        { "a1,a2,a3,a4,a5,a6,a7,a8,a9", "more than 8 columns" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct err err = ERR_INIT;
        const char *want = kit_text("sort_order: sort=%s: %s", wrong[i].words, wrong[i].what);
        EXPECT_EQ_STR(order_of(wrong[i].words), want);
        EXPECT_EQ_INT(ice_order_check(wrong[i].words, &err), -1);
    }
    EXPECT_EQ_STR(order_of("l"),
                  "sort_order: sort=l: column \"l\" holds lists, which have no order");
}

TEST(ice_order_of_others_is_taken_where_it_is_of_columns) {
    static const char *const none[] = {
        "[{\"order-id\":2,\"fields\":[{\"transform\":\"bucket[4]\",\"source-id\":1,"
        "\"direction\":\"asc\",\"null-order\":\"nulls-first\"}]}]",
        "[{\"order-id\":2,\"fields\":[{\"transform\":\"identity\",\"source-id\":-1,"
        "\"direction\":\"asc\",\"null-order\":\"nulls-first\"}]}]",
        "[{\"order-id\":2,\"fields\":[{\"transform\":\"identity\",\"source-id\":1,"
        "\"direction\":\"up\",\"null-order\":\"nulls-first\"}]}]",
        "[{\"order-id\":2,\"fields\":[]}]",
        "[{\"order-id\":3,\"fields\":[" FIELD("1", "asc", "first") "]}]",
        "{}",
        "[7,{\"order-id\":\"2\"}]",
    };
    struct ice_order order;
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        json_t *json = json_loads(none[i], 0, NULL);
        ice_order_from_json(json, 2, &order);
        EXPECT_EQ_INT(order.count, 0);
        EXPECT_EQ_INT(order.id, 0);
        json_decref(json);
    }
    json_t *json = json_loads("[{\"order-id\":0,\"fields\":[]},{\"order-id\":2,\"fields\":[{"
                              "\"transform\":\"identity\",\"source-ids\":[2],\"direction\":\"desc\""
                              ",\"null-order\":\"nulls-first\"}]}]",
                              0, NULL);
    ice_order_from_json(json, 2, &order);
    json_decref(json);
    EXPECT_EQ_INT(order.id, 2);
    EXPECT_EQ_INT(order.count, 1);
    EXPECT_EQ_INT(order.fields[0].source_id, 2);
    EXPECT_TRUE(order.fields[0].descending && !order.fields[0].nulls_last);
    struct ice_schema schema;
    uint32_t index;
    schema_of(&schema, false);
    EXPECT_TRUE(ice_order_bind(&order, &schema, &index) && index == 1);
    ice_schema_release(&schema);
    schema_of(&schema, true); /* the column is gone */
    EXPECT_TRUE(!ice_order_bind(&order, &schema, &index));
    ice_schema_release(&schema);
}
