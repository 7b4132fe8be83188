/* Patterns, which rule wins, and the names of jobs. */
#include <string.h>

#include "config/identity.h"
#include "config/rules.h"
#include "tests/unit/kit.h"

TEST(rules_glob_matches_whole_names) {
    static const struct {
        const char *glob, *text;
        bool match;
    } cases[] = {
        { "*", "", true },
        { "*", "orders", true },
        { "orders", "orders", true },
        { "orders", "order", false },
        { "order", "orders", false },
        { "Orders", "orders", false },
        { "o*s", "orders", true },
        { "o*r", "orders", false },
        { "*_log", "audit_log", true },
        { "*_log", "audit_logs", false },
        { "a*b*c", "axxbyyc", true },
        { "a*b*c", "axxbyy", false },
        { "?", "\xC3\xA9", true },
        { "??", "\xC3\xA9", false },
        { "caf?", "caf\xC3\xA9", true },
        { "*?", "\xC3\xA9", true },
        { "?*", "", false },
        { "**", "a", true },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (glob_match(cases[i].glob, cases[i].text) != cases[i].match) {
            EXPECT_EQ_STR(
                kit_text("\"%s\" on \"%s\" is %d", cases[i].glob, cases[i].text, !cases[i].match),
                kit_text("%d", cases[i].match));
        }
    }
}

TEST(rules_glob_of_many_stars_ends_soon) {
    char text[2001];
    memset(text, 'a', 2000);
    text[2000] = '\0';
    EXPECT_TRUE(!glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
}

/* "skip append key=.." of a table under the rules. */
static const char *chosen(const char *rules, const char *space, const char *name) {
    const char *text = kit_text("postgres://h/d -> discard:\n%s", rules);
    struct mistakes m;
    struct job_text parsed;
    struct table_choice choice;
    mistakes_init(&m);
    job_text_parse(text, strlen(text), &m, &parsed);
    rules_select(&parsed, space, name, &choice);
    const char *said = kit_text("%s%s%s%s%s", m.count ? "mistakes " : "",
                                choice.skip ? "skip " : "", choice.append ? "append " : "",
                                choice.key ? "key=" : "", choice.key ? choice.key : "");
    job_text_release(&parsed);
    mistakes_release(&m);
    return said;
}

TEST(rules_match_from_the_right) {
    EXPECT_EQ_STR(chosen("orders: skip", "public", "orders"), "skip ");
    EXPECT_EQ_STR(chosen("orders: skip", "other", "orders"), "skip ");
    EXPECT_EQ_STR(chosen("public.orders: skip", "other", "orders"), "");
    EXPECT_EQ_STR(chosen("audit.*: skip", "audit", "log"), "skip ");
    EXPECT_EQ_STR(chosen("audit.*: skip", "public", "audit"), "");
    EXPECT_EQ_STR(chosen("\"a*\": skip", "public", "a*"), "skip ");
    EXPECT_EQ_STR(chosen("\"a*\": skip", "public", "ab"), "");
    EXPECT_EQ_STR(chosen("\"a.b\".\"c:d\": skip", "a.b", "c:d"), "skip ");
}

TEST(rules_last_match_wins_for_each_action_by_itself) {
    EXPECT_EQ_STR(chosen("", "public", "orders"), "");
    EXPECT_EQ_STR(chosen("*.*: skip\npublic.orders: keep", "public", "orders"), "");
    EXPECT_EQ_STR(chosen("*.*: skip\npublic.orders: keep", "public", "events"), "skip ");
    EXPECT_EQ_STR(chosen("public.orders: keep\n*.*: skip", "public", "orders"), "skip ");
    EXPECT_EQ_STR(chosen("*: append key=(a)\n*: skip\n*: keep key=(b,c)", "public", "t"),
                  "append key=b,c");
    EXPECT_EQ_STR(chosen("*: skip keep", "public", "t"), "");
}

TEST(rules_keep_without_a_skip_before_it_is_noticed) {
    const char *text = "postgres://h/d -> discard:\na: keep\nb: skip\nb: keep";
    struct mistakes m;
    struct job_text parsed;
    mistakes_init(&m);
    job_text_parse(text, strlen(text), &m, &parsed);
    if (EXPECT_EQ_INT(parsed.rule_count, 3)) {
        EXPECT_TRUE(rule_keeps_for_nothing(&parsed, 0));
        EXPECT_TRUE(!rule_keeps_for_nothing(&parsed, 1));
        EXPECT_TRUE(!rule_keeps_for_nothing(&parsed, 2));
    }
    job_text_release(&parsed);
    mistakes_release(&m);
}

static const char *identity(const char *name) {
    char out[JOB_ID_BYTES_MAX + 1];
    identity_of(name, out);
    return kit_text("%s", out);
}
static const char *identity_file(const char *path) {
    char out[JOB_ID_BYTES_MAX + 1];
    identity_of_file(path, out);
    return kit_text("%s", out);
}

TEST(identity_keeps_plain_names) {
    EXPECT_EQ_STR(identity("shop"), "shop");
    EXPECT_EQ_STR(identity("shop_2_jsonl"), "shop_2_jsonl");
    EXPECT_EQ_STR(identity("a123456789b123456789c123456789d123456789"),
                  "a123456789b123456789c123456789d123456789");
    EXPECT_EQ_STR(identity_file("/etc/tailrace/shop.sync"), "shop");
    EXPECT_EQ_STR(identity_file("shop"), "shop");
}

/* The digits are part of slot names on servers: they may never change. */
TEST(identity_of_other_names_is_stable) {
    EXPECT_EQ_STR(identity("My Shop"), "my_shop_50a073");
    EXPECT_EQ_STR(identity("caf\xC3\xA9"), "caf___85b10c");
    EXPECT_EQ_STR(identity(""), "_0c06ab");
    EXPECT_EQ_STR(identity("a123456789b123456789c123456789d123456789e"),
                  "a123456789b123456789c123456789d12_eb3b3e");
    EXPECT_EQ_STR(identity_file("dir/.sync"), identity(".sync"));
    EXPECT_TRUE(strcmp(identity("SHOP"), identity("Shop")) != 0);
    EXPECT_TRUE(identity_is_plain(identity("\xFF\n;drop table")));
}
