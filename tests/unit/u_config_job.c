/* The job language: what is read, and what is said of mistakes, with their places. */
#include <string.h>

#include "config/job_spec.h"
#include "tests/unit/kit.h"

static const char *fake_env(void *ctx, const char *name) {
    (void)ctx;
    return strcmp(name, "PASSWORD") == 0 ? "c4n%2Fry/@?&:"
           : strcmp(name, "BAD") == 0    ? "canary"
                                         : NULL;
}
static int fake_file(void *ctx, const char *path, struct buf *out, char *why, size_t why_cap) {
    (void)ctx;
    if (strcmp(path, "/run/my secret") == 0) {
        buf_puts(out, "from file\r\n");
        return 0;
    }
    if (strcmp(path, "/run/nul") == 0) {
        buf_put(out, "a\0b", 3);
        return 0;
    }
    if (why_cap > 0) {
        strncpy(why, "no such file", why_cap - 1);
    }
    return -1;
}
static const struct put_in fakes = { .env = fake_env, .file = fake_file };

/* A job under test, released by done(). */
struct given {
    struct job_spec *spec;
    struct mistakes mistakes;
};
static struct given read_job(const char *text, const char *file) {
    struct given g;
    mistakes_init(&g.mistakes);
    g.spec = job_spec_new(text, strlen(text), file, JOB_NEEDS_BOTH, &fakes, &g.mistakes);
    return g;
}
static void done(struct given *g) {
    job_spec_free(g->spec);
    mistakes_release(&g->mistakes);
}
/* "LINE:COLUMN code" of the mistake, "" without one. */
static const char *place_and_code(const struct given *g, uint32_t i) {
    const struct mistake *m = g->mistakes.at + i;
    return i < g->mistakes.count ? kit_text("%u:%u %s", m->place.line, m->place.column, m->code)
                                 : "";
}
/* The only mistake of a text. */
static const char *only_mistake(const char *text) {
    struct given g = read_job(text, NULL);
    const char *said = g.mistakes.count > 1 ? kit_text("%u mistakes, first %s", g.mistakes.count,
                                                       place_and_code(&g, 0))
                                            : place_and_code(&g, 0);
    done(&g);
    return said;
}
/* What is said of the only mistake. */
static const char *only_text(const char *text) {
    struct given g = read_job(text, NULL);
    const char *said =
        g.mistakes.count == 1 ? kit_text("%s", g.mistakes.at[0].text) : "not one mistake";
    done(&g);
    return said;
}

#define SIMPLE "postgres://h/d -> discard:"

TEST(job_of_one_line_is_a_job) {
    struct given g =
        read_job("postgres://repl@127.0.0.1:5432/shop -> jsonl:///var/lib/shop-changes\n", NULL);
    EXPECT_EQ_INT(g.mistakes.count, 0);
    EXPECT_EQ_STR(g.spec->name, "shop_jsonl");
    EXPECT_EQ_STR(g.spec->source_address.hosts, "127.0.0.1:5432");
    EXPECT_EQ_STR(g.spec->source_address.user, "repl");
    EXPECT_EQ_STR(g.spec->source_address.secret, NULL);
    EXPECT_EQ_STR(g.spec->source_address.path, "shop");
    EXPECT_EQ_STR(g.spec->sink_address.path, "/var/lib/shop-changes");
    EXPECT_EQ_STR(g.spec->sink_address.hosts, NULL);
    EXPECT_TRUE(g.spec->source_address.job == g.spec->name);
    done(&g);
}

TEST(job_file_with_comments_rules_and_other_line_ends) {
    struct given g =
        read_job("\xEF\xBB\xBF# a comment\r\n\r\n  \t\r\n"
                 "  postgres://h/d#1   ->\tstdout:  # the job\r\n"
                 "audit.*: skip # not these\r\n"
                 "\"my.schema\".\"a \"\"table\"\"\" : append key=(id, \"Other One\")\r\n"
                 "events: keep append",
                 "/etc/tailrace/shop.sync");
    EXPECT_EQ_STR(place_and_code(&g, 0), "");
    EXPECT_EQ_STR(g.spec->name, "shop");
    EXPECT_EQ_STR(g.spec->source_address.path, "d#1");
    if (EXPECT_EQ_INT(g.spec->rules.rule_count, 5)) {
        const struct rule *r = g.spec->rules.rules;
        EXPECT_EQ_STR(r[0].space.text, "audit");
        EXPECT_EQ_STR(r[0].name.text, "*");
        EXPECT_EQ_INT(r[0].action, RULE_SKIP);
        EXPECT_EQ_INT(r[0].place.line, 5);
        EXPECT_EQ_STR(r[1].space.text, "my.schema");
        EXPECT_EQ_STR(r[1].name.text, "a \"table\"");
        EXPECT_TRUE(r[1].name.exact);
        EXPECT_EQ_INT(r[1].action, RULE_APPEND);
        EXPECT_EQ_STR(r[2].key, "id,Other One");
        EXPECT_EQ_STR(r[3].space.text, NULL);
        EXPECT_EQ_INT(r[4].action, RULE_APPEND);
    }
    done(&g);
}

TEST(job_with_seven_mistakes_says_all_seven_in_order) {
    struct given g = read_job("# shop\n"
                              "postgres://h/d?lane=2&snapshot=sometimes -> jsonl:///v\n"
                              "audit.*: skpi\n"
                              "*.email: hash\n"
                              "  orders: key=(id\n"
                              "caf\xC3\xA9: append=1\n"
                              "public.orders skip\n",
                              "shop.sync");
    EXPECT_EQ_INT(g.mistakes.count, 7);
    EXPECT_EQ_STR(place_and_code(&g, 0), "2:16 option_unknown");
    EXPECT_EQ_STR(place_and_code(&g, 1), "2:32 option_value");
    EXPECT_EQ_STR(place_and_code(&g, 2), "3:10 action_unknown");
    EXPECT_EQ_STR(place_and_code(&g, 3), "4:10 not_built");
    EXPECT_EQ_STR(place_and_code(&g, 4), "5:15 parenthesis_open");
    EXPECT_EQ_STR(place_and_code(&g, 5), "6:7 action_value");
    EXPECT_EQ_STR(place_and_code(&g, 6), "7:15 rule");
    if (g.mistakes.count == 7) {
        EXPECT_EQ_STR(g.mistakes.at[0].text,
                      "unknown option \"lane\" of \"postgres:\" (did you mean \"lanes\"?)");
        EXPECT_EQ_STR(g.mistakes.at[2].text, "unknown action \"skpi\" (did you mean \"skip\"?)");
        EXPECT_EQ_STR(g.mistakes.at[3].text, "action \"hash\": not built yet in this version");
        EXPECT_EQ_STR(g.mistakes.at[6].text, "found \"skip\" where \":\" was expected");
    }
    EXPECT_EQ_STR(g.spec->name, "shop");
    done(&g);
}

TEST(job_line_mistakes_have_their_place) {
    EXPECT_EQ_STR(only_mistake(""), "1:1 job_line");
    EXPECT_EQ_STR(only_mistake("# only\n# comments\n"), "2:1 job_line");
    EXPECT_EQ_STR(only_mistake("postgres://h/d"), "1:15 job_line");
    EXPECT_EQ_STR(only_mistake("postgres://h/d ->"), "1:18 job_line");
    EXPECT_EQ_STR(only_mistake("-> stdout:"), "1:1 job_line");
    EXPECT_EQ_STR(only_mistake("postgres://h/d->stdout:"), "1:1 job_line");
    EXPECT_EQ_STR(only_mistake("postgres://h/d => stdout:"), "1:16 job_line");
    EXPECT_EQ_STR(only_mistake("postgres://h/d -> stdout: freshness=1s"), "1:27 job_line");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\npostgres://h/e -> stdout:\n"), "2:1 second_job");
}

TEST(job_schemes_that_are_not_there) {
    EXPECT_EQ_STR(only_mistake("mysql://h/d -> stdout:"), "1:1 not_built");
    EXPECT_EQ_STR(only_mistake("postgres://h/d -> delta://h/d"), "1:19 not_built");
    EXPECT_EQ_STR(only_mistake("postgres://h/d -> kafka://h"), "1:19 not_built");
    EXPECT_EQ_STR(only_text("postgress://h/d -> stdout:"),
                  "unknown source \"postgress\" (did you mean \"postgres\"?)");
    EXPECT_EQ_STR(only_text("postgres://h/d -> xyzzy:"), "unknown sink \"xyzzy\"");
    EXPECT_EQ_STR(only_mistake("h/d -> stdout:"), "1:1 scheme");
}

TEST(job_actions_that_are_not_built_refuse_by_name) {
    static const char *const rules[] = { "t.email: drop",        "t.email: mask",
                                         "t.email: mask='x y'",  "t.email: hash",
                                         "t.email: rename=mail", "t.email: set=(a || ')')",
                                         "t: where=(a = 'b')",   "t: route=other" };
    for (size_t i = 0; i < ARRAY_COUNT(rules); i++) {
        EXPECT_TRUE(strstr(only_text(kit_text(SIMPLE "\n%s", rules[i])), "not built yet"));
    }
}

TEST(job_rule_mistakes_have_their_place) {
    EXPECT_EQ_STR(only_mistake(SIMPLE "\n\"open: skip"), "2:1 quote_open");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\na..b: skip"), "2:3 pattern");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\na.b.c: skip"), "2:1 pattern");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\na.b.c.d: skip"), "2:1 pattern");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt:  # nothing"), "2:5 rule");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key"), "2:4 action_value");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key='a'"), "2:8 key_columns");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key=(a,,b)"), "2:11 key_columns");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key=(a b)"), "2:11 key_columns");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key=()"), "2:9 key_columns");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: key=(a)skip"), "2:11 action_value");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: skip=1"), "2:4 action_value");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\n\xC3\xA4\xC3\xB6: sk\xFFip"), "2:7 not_utf8");
    EXPECT_EQ_STR(only_mistake(SIMPLE "\nt: sk\aip"), "2:6 control_character");
}

TEST(job_url_is_split_before_it_is_decoded_and_before_values_are_put_in) {
    struct given g = read_job("postgres://us%40er:${env:PASSWORD}@a:1,b:2/my%2Fdb"
                              "?sslrootcert=${file:/run/my secret}&lanes=3 -> discard:?job=x",
                              NULL);
    EXPECT_EQ_STR(place_and_code(&g, 0), "");
    EXPECT_EQ_STR(g.spec->source_address.user, "us@er");
    EXPECT_EQ_STR(g.spec->source_address.secret, "c4n%2Fry/@?&:");
    EXPECT_EQ_STR(g.spec->source_address.hosts, "a:1,b:2");
    EXPECT_EQ_STR(g.spec->source_address.path, "my/db");
    EXPECT_EQ_STR(g.spec->source_address.extra[0], "sslrootcert");
    EXPECT_EQ_STR(g.spec->source_address.extra[1], "from file");
    EXPECT_EQ_STR(g.spec->source_address.extra[2], NULL);
    EXPECT_EQ_INT(opts_int(g.spec->source_opts, "lanes"), 3);
    EXPECT_EQ_STR(g.spec->name, "x");
    done(&g);
    g = read_job("postgres://%24%7Benv%3APASSWORD%7D@h/d -> discard:", NULL);
    EXPECT_EQ_STR(g.spec->source_address.user, "${env:PASSWORD}");
    done(&g);
}

TEST(job_url_mistakes_have_their_place) {
    EXPECT_EQ_STR(only_mistake("postgres://h/d%4 -> discard:"), "1:15 percent");
    EXPECT_EQ_STR(only_mistake("postgres://h/d%00 -> discard:"), "1:15 percent");
    EXPECT_EQ_STR(only_mistake("postgres://u:${env:NONE}@h/d -> discard:"), "1:14 env_missing");
    EXPECT_EQ_STR(only_mistake("postgres://u:${file:/none}@h/d -> discard:"), "1:14 file_missing");
    EXPECT_EQ_STR(only_mistake("postgres://u:${file:/run/nul}@h/d -> discard:"),
                  "1:14 file_missing");
    EXPECT_EQ_STR(only_mistake("postgres://u:${vault:x}@h/d -> discard:"), "1:14 put_in");
    EXPECT_EQ_STR(only_mistake("postgres:h -> discard:"), "1:10 url_form");
    EXPECT_EQ_STR(only_mistake("postgres://h/d?lanes -> discard:"), "1:16 option_form");
    EXPECT_EQ_STR(only_mistake("postgres://h/d?lanes=1&lanes=2 -> discard:"), "1:24 option_twice");
    EXPECT_EQ_STR(only_mistake("postgres://h/d?replication=on -> discard:"), "1:16 option_taken");
    EXPECT_EQ_STR(only_mistake("postgres://h/d?sslmodus=off -> discard:"), "1:16 option_unknown");
    EXPECT_EQ_STR(only_mistake("postgres://h/d?lanes=0 -> discard:"), "1:22 option_value");
    EXPECT_EQ_STR(only_mistake("postgres://h/${env:BAD} -> discard:"), "1:13 job_name");
}

TEST(job_mistakes_never_show_what_was_put_in) {
    struct given g = read_job("postgres://u:${env:BAD}@h/d?lanes=${env:BAD}&bogus=${env:BAD} "
                              "-> discard:?hash=${env:BAD}&freshness=${env:BAD}\nt: nonsense",
                              NULL);
    EXPECT_EQ_INT(g.mistakes.count, 5);
    for (uint32_t i = 0; i < g.mistakes.count; i++) {
        EXPECT_TRUE(!strstr(g.mistakes.at[i].text, "canary"));
        EXPECT_TRUE(!strstr(g.mistakes.at[i].cure, "canary"));
    }
    done(&g);
}

TEST(job_line_is_quoted_without_its_secret) {
    static const char *const cases[][2] = {
        { "postgres://u:p:w@h/d", "postgres://u:${env:PASSWORD}@h/d" },
        { "postgres://u@h/d", "postgres://u@h/d" },
        { "postgres://u:${file:/a@b}@h/d", "postgres://u:${env:PASSWORD}@h/d" },
        /* what follows an & may be a part of it */
        { "postgres://h/d?password=x&lanes=2", "postgres://h/d?password=${env:PASSWORD}&..." },
        { "postgres://u:p@w/x?y@h/d", "postgres://u:${env:PASSWORD}@h/d" },
        { "postgres//u:p@h/d", "postgres//u:${env:PASSWORD}@h/d" },
        { "postgres:/u:p@h/d", "postgres:${env:PASSWORD}@h/d" },
        { "postgres://u:p/d", "postgres://u:${env:PASSWORD}/d" },
        { "postgres://h:5432/d", "postgres://h:5432/d" },
        { "discard:", "discard:" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        url_put_without_secret(&out, cases[i][0], strlen(cases[i][0]));
        EXPECT_EQ_STR(buf_cstr(&out), cases[i][1]);
        buf_release(&out);
    }
}

TEST(job_of_a_lone_source_is_enough_where_asked) {
    const char *text = "postgres://h/d";
    struct mistakes m;
    mistakes_init(&m);
    struct job_spec *spec = job_spec_new(text, strlen(text), NULL, JOB_NEEDS_SOURCE, &fakes, &m);
    EXPECT_EQ_INT(m.count, 0);
    EXPECT_TRUE(spec->source && !spec->sink);
    job_spec_free(spec);
    mistakes_release(&m);
}

TEST(job_text_has_limits) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, SIMPLE "\n");
    for (int i = 0; i < 200; i++) {
        buf_puts(&text, "t: nonsense\n");
    }
    struct mistakes m;
    mistakes_init(&m);
    struct job_spec *spec = job_spec_new(text.data, text.len, NULL, JOB_NEEDS_BOTH, &fakes, &m);
    EXPECT_EQ_INT(m.count, MISTAKES_MAX);
    EXPECT_EQ_INT(m.more, 200 - MISTAKES_MAX);
    job_spec_free(spec);
    mistakes_release(&m);
    while (text.len <= JOB_TEXT_BYTES_MAX) {
        buf_puts(&text, "# a line that makes the text too long for anybody to have written it\n");
    }
    mistakes_init(&m);
    spec = job_spec_new(text.data, text.len, NULL, JOB_NEEDS_BOTH, &fakes, &m);
    EXPECT_EQ_INT(m.count, 1);
    job_spec_free(spec);
    mistakes_release(&m);
    buf_release(&text);
}

/* All that is said of a text. */
static bool says(const char *text, const char *part) {
    struct given g = read_job(text, NULL);
    bool found = strstr(g.spec->name, part) != NULL;
    for (uint32_t i = 0; i < g.mistakes.count; i++) {
        found = found || strstr(g.mistakes.at[i].text, part) || strstr(g.mistakes.at[i].cure, part);
    }
    done(&g);
    return found;
}

TEST(config_url_with_a_password_that_is_cut_is_not_printed) {
    EXPECT_EQ_STR(only_mistake("postgres://u:can/ary@h/db -> jsonl:///x"), "1:12 url_form");
    EXPECT_EQ_STR(only_mistake("postgres://u:12/ary@h/db -> jsonl:///x"), "1:12 url_form");
    EXPECT_EQ_STR(only_mistake("postgres://u:can?ary@h/db -> jsonl:///x"), "1:12 url_form");
    EXPECT_TRUE(!says("postgres://u:can/ary@h/db -> jsonl:///x", "ary"));
    EXPECT_TRUE(!says("postgres://u:can/ary@h/db -> jsonl:///x", "can"));
    EXPECT_TRUE(!says("postgres://u:p@h/db jsonl://u:canary@h/x", "canary"));
    EXPECT_TRUE(!says("postgres://u:p@h/db -> jsonl:///x jsonl://u:canary@h/x", "canary"));
    EXPECT_EQ_STR(only_mistake("postgres://u:c@a:1,[::1]:2,[::1],b/db -> jsonl:///x"), "");
    EXPECT_EQ_STR(only_mistake("postgres://a:1,[::1]:2,[::1],b/db -> jsonl:///x"), "");
    EXPECT_EQ_STR(only_mistake("postgres://a/d@b -> jsonl:///x@y"), "");
    struct buf shown;
    buf_init(&shown, 200);
    static const char two[] = "postgres://h/db?sslpassword=canary&password=canary&a=b";
    url_put_without_secret(&shown, two, sizeof two - 1);
    EXPECT_EQ_STR(buf_cstr(&shown), "postgres://h/db?sslpassword=${env:PASSWORD}&...");
    buf_release(&shown);
}
