/* Keys and identities, and what counts as rewritten. */
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/pgsrc_identity.h"
#include "tests/unit/kit.h"

static const int16_t attnums[] = { 1, 3, 4 };

static struct schema *table(const char *storage) {
    struct schema *s = schema_new(42, "public", "orders", 3);
    static const char *const names[] = { "id", "region", "body" };
    for (int i = 0; i < 3; i++) {
        s->columns[i] = (struct column_def){ .name = names[i],
                                             .type = { .kind = i == 2 ? TYPE_TEXT : TYPE_INT32 },
                                             .source_type = "",
                                             .nullable = i == 2,
                                             .key_pos = -1 };
    }
    s->storage = storage;
    schema_finish(s);
    return s;
}

static struct pgsrc_identity_out decide(char replident, struct pgsrc_index primary,
                                        struct pgsrc_index chosen, struct table_choice choice) {
    struct schema *s = table("");
    struct pgsrc_identity_in in = { .space = "public",
                                    .name = "orders",
                                    .replident = replident,
                                    .primary = primary,
                                    .chosen = chosen,
                                    .choice = &choice,
                                    .schema = s,
                                    .attnums = attnums };
    struct pgsrc_identity_out out;
    pgsrc_identity(&in, &out);
    schema_unref(s);
    return out;
}

/* As on a server that refuses writes to a published table whose identity has generated columns. */
static struct pgsrc_identity_out decide_generated(char replident, struct pgsrc_index primary,
                                                  struct table_choice choice) {
    struct schema *s = table("");
    struct pgsrc_identity_in in = { .space = "public",
                                    .name = "orders",
                                    .replident = replident,
                                    .primary = primary,
                                    .choice = &choice,
                                    .schema = s,
                                    .attnums = attnums,
                                    .full_refused = true };
    struct pgsrc_identity_out out;
    pgsrc_identity(&in, &out);
    schema_unref(s);
    return out;
}

static const struct pgsrc_index none = { .exists = false };
static const struct pgsrc_index by_id = {
    .exists = true, .immediate = true, .count = 1, .attnum = { 1 }
};
static const struct pgsrc_index by_region_id = {
    .exists = true, .immediate = true, .count = 2, .attnum = { 3, 1 }
};
static const struct pgsrc_index deferrable = {
    .exists = true, .immediate = false, .count = 1, .attnum = { 1 }
};
static const struct pgsrc_index by_body = {
    .exists = true, .immediate = true, .count = 1, .attnum = { 4 }
};
static const struct pgsrc_index generated = {
    .exists = true, .immediate = true, .count = 1, .attnum = { 2 }
};

TEST(pgsrc_identity_takes_the_primary_key_in_its_order) {
    struct pgsrc_identity_out out = decide('d', by_region_id, none, (struct table_choice){ 0 });
    EXPECT_TRUE(out.usable);
    EXPECT_EQ_INT(out.key_count, 2);
    EXPECT_EQ_INT(out.key[0], 1);
    EXPECT_EQ_INT(out.key[1], 0);
}

TEST(pgsrc_identity_index_goes_before_the_primary_key) {
    struct pgsrc_identity_out out = decide('i', by_id, by_region_id, (struct table_choice){ 0 });
    EXPECT_TRUE(out.usable);
    EXPECT_EQ_INT(out.key_count, 2);
}

TEST(pgsrc_identity_full_uses_the_primary_key_or_none) {
    EXPECT_EQ_INT(decide('f', by_id, none, (struct table_choice){ 0 }).key_count, 1);
    struct pgsrc_identity_out out = decide('f', none, none, (struct table_choice){ 0 });
    EXPECT_TRUE(out.usable);
    EXPECT_EQ_INT(out.key_count, 0);
}

TEST(pgsrc_identity_full_with_generated_columns) {
    struct pgsrc_identity_out out = decide_generated('f', by_id, (struct table_choice){ 0 });
    EXPECT_TRUE(!out.usable && strstr(out.why, "generated"));
    EXPECT_EQ_STR(out.cure, "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY "
                            "DEFAULT;\npublic.orders: skip\npublic.orders: append");
    out = decide_generated('f', none, (struct table_choice){ .key = "id" });
    EXPECT_TRUE(!out.usable && strstr(out.cure, "USING INDEX"));
    EXPECT_TRUE(decide_generated('f', none, (struct table_choice){ .append = true }).usable);
    EXPECT_TRUE(decide_generated('d', by_id, (struct table_choice){ 0 }).usable);
    out = decide_generated('d', generated, (struct table_choice){ 0 });
    EXPECT_TRUE(!out.usable && !strstr(out.cure, "FULL")); /* FULL is no way out here */
}

TEST(pgsrc_identity_index_with_a_column_that_may_be_null) {
    struct pgsrc_identity_out out = decide('i', by_id, by_body, (struct table_choice){ 0 });
    EXPECT_TRUE(!out.usable && strstr(out.why, "may be null"));
}

TEST(pgsrc_identity_deferrable_key_is_none) {
    EXPECT_TRUE(!decide('d', deferrable, none, (struct table_choice){ 0 }).usable);
    struct pgsrc_identity_out out = decide('f', deferrable, none, (struct table_choice){ 0 });
    EXPECT_TRUE(out.usable);
    EXPECT_EQ_INT(out.key_count, 0);
}

TEST(pgsrc_identity_without_one_prints_three_ways_out) {
    static const char replidents[] = { 'd', 'n', 'i' };
    for (size_t i = 0; i < sizeof replidents; i++) {
        struct pgsrc_identity_out out =
            decide(replidents[i], none, none, (struct table_choice){ 0 });
        EXPECT_TRUE(!out.usable && out.why[0]);
        EXPECT_EQ_STR(out.cure, "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY "
                                "FULL;\npublic.orders: skip\npublic.orders: append");
    }
    EXPECT_TRUE(!decide('n', by_id, none, (struct table_choice){ 0 }).usable);
    EXPECT_TRUE(!decide('d', generated, none, (struct table_choice){ 0 }).usable);
}

TEST(pgsrc_identity_append_needs_none) {
    EXPECT_TRUE(decide('d', none, none, (struct table_choice){ .append = true }).usable);
    EXPECT_TRUE(decide('n', none, none, (struct table_choice){ .append = true }).usable);
    EXPECT_EQ_INT(decide('n', by_id, none, (struct table_choice){ .append = true }).key_count, 1);
}

TEST(pgsrc_identity_key_of_the_user) {
    struct pgsrc_identity_out out =
        decide('f', none, none, (struct table_choice){ .key = "region, id" });
    EXPECT_TRUE(out.usable);
    EXPECT_EQ_INT(out.key_count, 2);
    EXPECT_EQ_INT(out.key[0], 1);
    EXPECT_TRUE(decide('d', by_region_id, none, (struct table_choice){ .key = "id" }).usable);
    EXPECT_TRUE(!decide('d', by_id, none, (struct table_choice){ .key = "region" })
                     .usable); /* the log lacks it */
    EXPECT_TRUE(!decide('f', none, none, (struct table_choice){ .key = "nosuch" }).usable);
    EXPECT_TRUE(
        !decide('f', none, none, (struct table_choice){ .key = "body" }).usable); /* may be null */
    EXPECT_TRUE(!decide('f', none, none, (struct table_choice){ .key = " , " }).usable);
}

static bool rewritten(const char *before, const char *after) {
    struct schema *a = table(before), *b = table(after);
    bool yes = pgsrc_rewritten(a, b);
    schema_unref(a);
    schema_unref(b);
    return yes;
}

TEST(pgsrc_rewritten_by_alter_only) {
    EXPECT_TRUE(!rewritten("9:1.700;2.700;", "9:1.700;2.700;"));
    EXPECT_TRUE(
        !rewritten("9:1.700;2.700;", "8:1.700;2.700;")); /* TRUNCATE, VACUUM FULL, CLUSTER */
    EXPECT_TRUE(!rewritten("9:1.700;2.700;",
                           "9:1.700;2.755;")); /* rename, SET STATISTICS: no row changed */
    EXPECT_TRUE(!rewritten("9:1.700;2.700;", "9:1.700;")); /* DROP COLUMN */
    EXPECT_TRUE(!rewritten("9:1.700;2.700;", "8:1.700;")); /* DROP COLUMN, then VACUUM FULL */
    EXPECT_TRUE(!rewritten("9:1.700;", "9:1.700;2.755;")); /* ADD COLUMN without a default */
    EXPECT_TRUE(rewritten("9:1.700;", "9:1.700;2.755m;")); /* ADD COLUMN DEFAULT 7 */
    EXPECT_TRUE(!rewritten("9:1.700;2.755m;", "9:1.700;2.755m;"));
    EXPECT_TRUE(rewritten("9:1.700;", "8:1.700;2.755;"));       /* ADD COLUMN DEFAULT random() */
    EXPECT_TRUE(rewritten("9:1.700;2.700;", "8:1.700;2.755;")); /* ALTER TYPE USING */
    EXPECT_TRUE(rewritten("9:12.700;", "8:1.700;"));            /* numbers are compared whole */
    EXPECT_TRUE(!rewritten("", "9:1.700;"));
    EXPECT_TRUE(!rewritten("9:1.700;", ""));
}

/* Marks of the columns of table(), which has three, and perhaps one more. */
static const char *marks(char out[400], const char *front, const char *const *names,
                         const int16_t *numbers, int count) {
    struct buf b;
    buf_init(&b, 399);
    buf_puts(&b, front);
    for (int i = 0; i < count; i++) {
        pgsrc_column_mark(&b, numbers[i], "700", names[i], false);
    }
    memcpy(out, buf_cstr(&b), b.len + 1);
    buf_release(&b);
    return out;
}

TEST(pgsrc_rewritten_when_a_name_means_another_column) {
    static const char *const names[] = { "id", "region", "body", "more" };
    static const char *const renamed[] = { "id", "region", "text" };
    static const char *const swapped[] = { "id", "body", "region" };
    static const int16_t first[] = { 1, 3, 4, 5 }, again[] = { 1, 3, 7 }, early[] = { 1, 3, 4, 2 };
    char was[400], is[400];
    marks(was, "9:0.4;", names, first, 3);
    EXPECT_TRUE(!rewritten(was, was));
    EXPECT_TRUE(rewritten(was, marks(is, "9:0.4;", renamed, first, 3))); /* RENAME */
    EXPECT_TRUE(rewritten(was, marks(is, "9:0.4;", swapped, first, 3))); /* two of them */
    EXPECT_TRUE(rewritten(was, marks(is, "9:0.7;", names, again, 3)));   /* DROP, ADD */
    EXPECT_TRUE(!rewritten(was, marks(is, "9:0.5;", names, first, 4)));  /* ADD */
    EXPECT_TRUE(rewritten(was, marks(is, "9:0.4;", names, early, 4)));   /* DROP EXPRESSION */
    EXPECT_TRUE(!rewritten("9:1.700;3.700;4.700;", was)); /* marks of an older version */
    EXPECT_TRUE(!rewritten("9:1.700;3.700;4.700;", is) && !rewritten(was, "9:1.700;3.700;"));
}

TEST(pgsrc_rewritten_partitions) {
    EXPECT_TRUE(!rewritten("p:1.7;|20.20.00fa;",
                           "p:1.7;|20.20.00fa;30.30.00ba;")); /* CREATE TABLE .. PARTITION OF */
    EXPECT_TRUE(rewritten("p:1.7;|20.20.00fa;",
                          "p:1.7;|20.20.00fa;30.30.00ba+;")); /* ATTACH of a table with rows */
    EXPECT_TRUE(
        rewritten("p:1.7;|20.20.00fa;30.30.00ba;", "p:1.7;|20.20.00fa;")); /* DROP, DETACH */
    EXPECT_TRUE(
        rewritten("p:1.7;|20.20.00fa+;", "p:1.7;|20.21.00fa+;")); /* TRUNCATE of one is in no log */
    EXPECT_TRUE(
        rewritten("p:1.7;|20.20.00fa.;", "p:1.7;2.9;|20.20.00cc.2;")); /* ADD .. DEFAULT 7 */
    EXPECT_TRUE(!rewritten("p:1.7;|20.20.00fa.2_5+;", "p:1.7;|20.20.00cc.2_5+;"));
    EXPECT_TRUE(!rewritten("p:1.7;|20.20.00fa.2_5+;", "p:1.7;|20.20.00cc.5+;"));
    EXPECT_TRUE(rewritten("p:1.7;|20.20.00fa.2_5;", "p:1.7;|20.20.00cc.2_5_15;"));
    EXPECT_TRUE(rewritten("p:1.7;|20.20.00fa.15;", "p:1.7;|20.20.00cc.1_15;"));
    EXPECT_TRUE(!rewritten("p:1.7;|20.20.00fa;", "p:1.7;|20.20.00cc;"));
    EXPECT_TRUE(
        rewritten("p:1.7;|20.20.00fa;", "p:1.7;|20.21.00cc;")); /* ALTER of the root rewrote it */
}

TEST(pgsrc_rewritten_by_another_type) {
    struct schema *a = table("9:1.7;"), *b = table("9:1.7;");
    b->columns[1].type.kind = TYPE_INT64;
    EXPECT_TRUE(pgsrc_rewritten(a, b));
    a->columns[1].type = (struct type){ .kind = TYPE_DECIMAL, .precision = 10, .scale = 2 };
    b->columns[1].type = (struct type){ .kind = TYPE_DECIMAL, .precision = 20, .scale = 2 };
    EXPECT_TRUE(!pgsrc_rewritten(a, b)); /* longer, the values are the same */
    EXPECT_TRUE(pgsrc_rewritten(b, a));
    b->columns[1].type.scale = 3;
    EXPECT_TRUE(pgsrc_rewritten(a, b));
    schema_unref(a);
    schema_unref(b);
}

/* ---- columns added ---- */

/* "<filenode>:0.<highest>;" and a column a name: "id", or "c!" where old rows have a value in it.
 */
static struct schema *shape(const char *front, const char *const *names, const int *numbers,
                            uint16_t marked, uint16_t columns) {
    struct schema *s = schema_new(42, "public", "orders", columns);
    struct buf marks;
    buf_init(&marks, SIZE_MAX);
    buf_puts(&marks, front);
    for (uint16_t i = 0; i < marked; i++) {
        bool missing = strchr(names[i], '!') != NULL;
        char *name = xstrndup(names[i], strcspn(names[i], "!"));
        pgsrc_column_mark(&marks, (int16_t)numbers[i], "700", name, missing);
        if (i < columns) {
            int32_t value = 5;
            s->columns[i] = (struct column_def){ .name = arena_strdup(&s->arena, name),
                                                 .type = { .kind = TYPE_INT32 },
                                                 .source_type = "",
                                                 .key_pos = -1 };
            schema_set_missing(s, i, missing ? &value : NULL, sizeof value);
        }
        free(name);
    }
    s->storage = arena_strdup(&s->arena, buf_cstr(&marks));
    buf_release(&marks);
    schema_finish(s);
    return s;
}

static const char *const two[] = { "id", "b" };
static const int one_two[] = { 1, 2, 3, 4, 5 };

static bool added_to(struct schema *take_before, struct schema *take_after) {
    bool yes = pgsrc_added(take_before, take_after);
    schema_unref(take_before);
    schema_unref(take_after);
    return yes;
}

/* After columns 1 and 2 of file 9. */
static bool added(const char *front, const char *const *names, const int *numbers, uint16_t marked,
                  uint16_t columns) {
    return added_to(shape("9:0.2;", two, one_two, 2, 2),
                    shape(front, names, numbers, marked, columns));
}

TEST(pgsrc_added_is_proven) {
    const char *const names[] = { "id", "b", "c!", "d", "e!" };
    EXPECT_TRUE(added("9:0.2;", names, one_two, 2, 2));
    EXPECT_TRUE(added("9:0.3;", names, one_two, 3, 3));
    EXPECT_TRUE(added("9:0.5;", names, one_two, 5, 5));
    EXPECT_TRUE(added_to(shape("9:0.5;", names, one_two, 5, 5), /* the log is behind */
                         shape("9:0.5;", names, one_two, 5, 3)));
    const char *const old[] = { "id", "b!", "c!" }; /* of long ago, and one that went before */
    const int gap[] = { 1, 3, 4 };
    EXPECT_TRUE(added_to(shape("9:0.3;", old, gap, 2, 2), shape("9:0.4;", old, gap, 3, 3)));
}

TEST(pgsrc_added_is_not_proven) {
    const char *const names[] = { "id", "b", "c!", "d", "e!" };
    const int gap[] = { 1, 2, 4 }, less[] = { 1, 3 };
    EXPECT_TRUE(!added("8:0.3;", names, one_two, 3, 3)); /* another file */
    EXPECT_TRUE(!added("9:0.4;", names, gap, 3, 3));     /* one came and went */
    EXPECT_TRUE(!added("9:0.4;", names, one_two, 3, 3));
    EXPECT_TRUE(!added("9:0.5;", names, one_two, 5, 4)); /* the log does not have it yet */
    EXPECT_TRUE(
        !added("9:0.3;", names, one_two, 2, 3)); /* ... has it, the catalogue not any more */
    const char *const went[] = { "id", "c!" };
    EXPECT_TRUE(!added("9:0.3;", went, less, 2, 2));
    const char *const renamed[] = { "id", "x", "c!" }, *const taken[] = { "id", "x", "b!" };
    EXPECT_TRUE(!added("9:0.3;", renamed, one_two, 3, 3));
    EXPECT_TRUE(!added("9:0.3;", taken, one_two, 3, 3));
    const char *const gained[] = { "id", "b!", "c!" };
    EXPECT_TRUE(!added("9:0.3;", gained, one_two, 3, 3));
    EXPECT_TRUE(!added("9:0.3;|11.12.ab.3;", names, one_two, 3, 3)); /* partitions */
    EXPECT_TRUE(!added_to(shape("9:", two, one_two, 2, 2), shape("9:0.3;", names, one_two, 3, 3)));
    EXPECT_TRUE(!added_to(shape("", two, one_two, 0, 2), shape("9:0.3;", names, one_two, 3, 3)));
    /* Its rows came from the log before the catalogue was read. */
    struct schema *before = shape("9:0.3;", names, one_two, 3, 3);
    struct schema *known = shape("9:0.2;", two, one_two, 2, 2);
    before->storage = known->storage;
    EXPECT_TRUE(!added_to(before, shape("9:0.3;", names, one_two, 3, 3)));
    schema_unref(known);
}

TEST(pgsrc_added_wants_the_value_and_the_columns_place) {
    const char *const names[] = { "id", "b", "c!", "d!" }, *const other[] = { "id", "b", "d!",
                                                                              "c!" };
    struct schema *s = shape("9:0.3;", names, one_two, 3, 3);
    schema_set_missing(s, 2, NULL, 0); /* not understood */
    EXPECT_TRUE(!added_to(shape("9:0.2;", two, one_two, 2, 2), s));
    s = shape("9:0.4;", names, one_two, 4, 4);
    struct schema *swapped = shape("9:0.4;", other, one_two, 4, 4); /* names were exchanged since */
    s->storage = swapped->storage;
    EXPECT_TRUE(!added_to(shape("9:0.2;", two, one_two, 2, 2), s));
    schema_unref(swapped);
    s = shape("9:0.3;", names, one_two, 3, 3);
    s->columns[1].type.kind = TYPE_TEXT;
    EXPECT_TRUE(!added_to(shape("9:0.2;", two, one_two, 2, 2), s));
}
