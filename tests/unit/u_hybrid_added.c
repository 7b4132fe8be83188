/* The hybrid algorithm: columns that are added with a default. */
#include "tests/unit/hybrid_rig.h"

static bool always_added(const struct schema *a TR_UNUSED, const struct schema *b TR_UNUSED) {
    return true;
}
static bool takes(const struct sink *s TR_UNUSED, const struct schema *schema, uint16_t column) {
    return *schema->columns[column].missing != 9;
}
static const struct source_ops adding = { .name = "adds",
                                          .rewritten = moved,
                                          .added = always_added };
static const struct sink_ops telling_ops = { .name = "tells", .takes_missing = takes };
static const struct sink telling = { .ops = &telling_ops };
static const struct sink_ops mute_ops = { .name = "mute" };
static const struct sink mute = { .ops = &mute_ops };

/* The table with one more column, in which old rows have `value`; 0 = null. */
static struct schema *grown_schema(const char *storage, int32_t value) {
    struct schema *s = schema_new(77, "public", "m", 4);
    struct schema *plain = table_schema(77, "m", TYPE_INT32, 0, true);
    memcpy(s->columns, plain->columns, 3 * sizeof *s->columns);
    s->columns[3] = s->columns[1];
    s->columns[3].name = "c";
    schema_set_missing(s, 3, value ? &value : NULL, sizeof value);
    s->storage = storage;
    schema_finish(s);
    schema_unref(plain);
    return s;
}

static void grow(struct rig *g, const struct source_ops *source, bool catalogue,
                 struct schema *take_shape) {
    g->h->config.source = source;
    if (catalogue) {
        rig_catalogue(g, &take_shape, 1, 1);
    } else {
        struct batch *b = log_rows(g, take_shape, 2);
        put(b, 3, true, ROW_INSERT, 0);
        log_give(g, b, true);
    }
    schema_unref(take_shape);
}

/* The whole table is in a target. */
static struct rig *joined_rig(const struct sink *sink, const struct table **t) {
    struct schema *s = table_schema(77, "m", TYPE_INT32, 0, true);
    struct rig *g = rig_new(s, 1, 1);
    g->h->config.sink = sink;
    join_some(g, s);
    *t = table_find(g->h, 77);
    schema_unref(s);
    return g;
}

/* Is it told, and not read again? The catalogue is read before the log's first row, or after. */
static bool is_told(const struct source_ops *source, const struct sink *sink, int32_t value,
                    bool catalogue_first) {
    const struct table *t;
    struct rig *g = joined_rig(sink, &t);
    grow(g, source, catalogue_first, grown_schema("2:a", value));
    EXPECT_TRUE(!catalogue_first || schema_column(t->current, "c") < 0); /* old rows may come yet */
    grow(g, source, !catalogue_first, grown_schema("2:a", value));
    bool told = t->generation == 1;
    struct schema *next = grown_schema("2:a", 0);
    next->columns[1].type.kind = told ? TYPE_TEXT : TYPE_INT32;
    grow(g, source, false, next);
    int c = schema_column(t->current, "c");
    EXPECT_TRUE(told ? *t->current->columns[c].missing == value : t->generation == 2);
    rig_free(g);
    return told;
}

TEST(hybrid_a_column_with_a_default_is_told_where_that_is_proven_and_taken) {
    for (int first = 0; first < 2; first++) {
        EXPECT_TRUE(is_told(&adding, &telling, 5, first));
        EXPECT_TRUE(!is_told(&adding, &telling, 9, first)); /* the target cannot say it */
        EXPECT_TRUE(!is_told(&adding, &mute, 5, first));
        EXPECT_TRUE(!is_told(&adding, NULL, 5, first));
        EXPECT_TRUE(!is_told(&moving, &telling, 5, first));
    }
}

TEST(hybrid_a_default_is_read_whose_proof_came_too_late_or_went) {
    const struct table *t;
    struct rig *g = joined_rig(&telling, &t);
    grow(g, &moving, false, grown_schema("", 0));
    grow(g, &adding, true, grown_schema("2:a", 5)); /* rows with the column are there already */
    EXPECT_EQ_INT(t->generation, 2);
    rig_free(g);
    g = joined_rig(&telling, &t);
    grow(g, &adding, true, grown_schema("2:a", 5));
    EXPECT_EQ_INT(t->generation, 1);
    grow(g, &moving, false, grown_schema("3:a", 0));
    EXPECT_EQ_INT(t->generation, 2);
    rig_free(g);
}
