/* opt: parsing, checking, and what is said about a mistake. */
#include <signal.h>
#include <sys/wait.h>

#include "cdc/base/opt.h"
#include "tests/unit/kit.h"

static const struct opt_spec table[] = {
    { .key = "lanes",
      .type = OPT_COUNT,
      .fallback = "2",
      .min = 1,
      .max = 64,
      .doc = "parallel readers" },
    { .key = "freshness",
      .type = OPT_DURATION,
      .fallback = "1s",
      .min = 20000,
      .max = INT64_C(3600000000),
      .doc = "between commits" },
    { .key = "row_max", .type = OPT_BYTES, .fallback = "64MiB", .min = 1024, .doc = "largest row" },
    { .key = "mode",
      .type = OPT_CHOICE,
      .fallback = "first",
      .choices = "first|never|always",
      .doc = "when" },
    { .key = "tls", .type = OPT_BOOL, .doc = "encrypt" },
    { .key = "password", .type = OPT_TEXT, .secret = true, .doc = "secret" },
    { .key = "pin", .type = OPT_COUNT, .secret = true, .doc = "secret number" },
    { .key = NULL },
};

TEST(opts_give_defaults_until_set) {
    struct opts *o = opts_new(table);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(opts_int(o, "lanes"), 2);
    EXPECT_EQ_INT(opts_int(o, "freshness"), 1000000);
    EXPECT_EQ_INT(opts_int(o, "row_max"), 64 << 20);
    EXPECT_EQ_STR(opts_text(o, "mode"), "first");
    EXPECT_EQ_STR(opts_text(o, "password"), NULL);
    EXPECT_EQ_STR(opts_text(o, "lanes"), "2");
    EXPECT_TRUE(!opts_bool(o, "tls") && !opts_is_set(o, "tls") && !opts_is_set(o, "lanes"));
    EXPECT_EQ_INT(opts_set(o, "lanes", "64", &err), 0);
    EXPECT_EQ_INT(opts_set(o, "freshness", "20ms", &err), 0);
    EXPECT_EQ_INT(opts_set(o, "mode", "never", &err), 0);
    EXPECT_EQ_INT(opts_set(o, "tls", "yes", &err), 0);
    EXPECT_EQ_INT(opts_set(o, "password", "", &err), 0);
    EXPECT_EQ_INT(opts_int(o, "lanes"), 64);
    EXPECT_EQ_INT(opts_int(o, "freshness"), 20000);
    EXPECT_EQ_STR(opts_text(o, "mode"), "never");
    EXPECT_EQ_STR(opts_text(o, "password"), "");
    EXPECT_TRUE(opts_bool(o, "tls") && opts_is_set(o, "tls") && opts_is_set(o, "lanes"));
    EXPECT_EQ_INT(opts_set(o, "mode", opts_text(o, "mode"), &err), 0); /* its own text */
    EXPECT_EQ_STR(opts_text(o, "mode"), "never");
    EXPECT_TRUE(opts_table(o) == table);
    opts_free(o);
    opts_free(NULL);
}

TEST(opts_name_the_nearest_key) {
    struct opts *o = opts_new(table);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(opts_set(o, "lane", "1", &err), -1);
    EXPECT_EQ_STR(err.text, "unknown option \"lane\" (did you mean \"lanes\"?)");
    EXPECT_EQ_STR(err.cure, "the options are: lanes, freshness, row_max, mode, tls, password, pin");
    EXPECT_EQ_STR(err.code, "option_unknown");
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_EQ_INT(err.exit, EXIT_USAGE);
    EXPECT_EQ_INT(opts_set(o, "colour\n", "1", &err), -1);
    EXPECT_EQ_STR(err.text, "unknown option \"colour\\n\"");
    static const struct opt_spec none[] = { { .key = NULL } };
    struct opts *empty = opts_new(none);
    EXPECT_EQ_INT(opts_set(empty, "x", "1", &err), -1);
    EXPECT_EQ_STR(err.cure, "there are no options here");
    opts_free(empty);
    opts_free(o);
}

TEST(opts_refuse_wrong_values_and_keep_the_old) {
    static const struct {
        const char *key;
        const char *value;
        const char *text;
        const char *cure;
    } cases[] = {
        { "lanes", "abc", "option \"lanes\": \"abc\" is not a whole number",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "lanes", "", "option \"lanes\": \"\" is not a whole number",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "lanes", "2s", "option \"lanes\": \"2s\" is not a whole number",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "lanes", "0", "option \"lanes\": \"0\" is too small",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "lanes", "65", "option \"lanes\": \"65\" is too large",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "lanes", "9223372036854775808",
          "option \"lanes\": \"9223372036854775808\" is not a whole number",
          "use a bare number, at least 1, at most 64, e.g. lanes=2" },
        { "freshness", "5",
          "option \"freshness\": \"5\" is not a duration: a whole number and a unit",
          "use a number and one of ms s m h, at least 20ms, at most 1h, e.g. freshness=1s" },
        { "freshness", "61m", "option \"freshness\": \"61m\" is too large",
          "use a number and one of ms s m h, at least 20ms, at most 1h, e.g. freshness=1s" },
        { "row_max", "1kB", "option \"row_max\": \"1kB\" is too small",
          "use a number and one of KiB MiB GiB (1024) kB MB GB (1000), at least 1KiB, e.g. "
          "row_max=64MiB" },
        { "mode", "frist",
          "option \"mode\": \"frist\" is none of its values (did you mean \"first\"?)",
          "use one of first, never, always" },
        { "mode", "fir", "option \"mode\": \"fir\" is none of its values",
          "use one of first, never, always" },
        { "mode", "", "option \"mode\": \"\" is none of its values",
          "use one of first, never, always" },
        { "mode", "first|never", "option \"mode\": \"first|never\" is none of its values",
          "use one of first, never, always" },
        { "tls", "maybe", "option \"tls\": \"maybe\" is neither on nor off",
          "use tls=on or tls=off" },
        { "pin", "hunter2", "option \"pin\": its value is not a whole number",
          "use a bare number" },
    };
    struct opts *o = opts_new(table);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct err err = ERR_INIT;
        EXPECT_EQ_INT(opts_set(o, cases[i].key, cases[i].value, &err), -1);
        EXPECT_EQ_STR(err.text, cases[i].text);
        EXPECT_EQ_STR(err.cure, cases[i].cure);
        EXPECT_EQ_STR(err.code, "option_value");
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
        EXPECT_TRUE(!opts_is_set(o, cases[i].key));
    }
    EXPECT_EQ_INT(opts_int(o, "lanes"), 2);
    EXPECT_EQ_STR(opts_text(o, "mode"), "first");
    opts_free(o);
}

TEST(opts_take_every_word_for_a_bool) {
    static const char *const words[] = { "on", "off", "true", "false", "yes", "no", "1", "0" };
    struct opts *o = opts_new(table);
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        EXPECT_EQ_INT(opts_set(o, "tls", words[i], &err), 0);
        EXPECT_EQ_INT(opts_bool(o, "tls"), i % 2 == 0);
    }
    EXPECT_EQ_INT(opts_set(o, "tls", "ON", &err), -1);
    EXPECT_EQ_INT(opts_set(o, "tls", "", &err), -1);
    opts_free(o);
}

static void get_unknown(void *o) { (void)opts_text(o, "nothing"); }
static void get_wrong_type(void *o) { (void)opts_int(o, "mode"); }

TEST(opts_getters_abort_on_our_own_mistakes) {
    struct opts *o = opts_new(table);
    int status = kit_child(get_unknown, o);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = kit_child(get_wrong_type, o);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    opts_free(o);
}

TEST(opt_bytes_need_a_unit_and_fit) {
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {
        { "64KiB", 65536 },
        { "1MiB", 1048576 },
        { "20GiB", INT64_C(20) << 30 },
        { "1kB", 1000 },
        { "5MB", 5000000 },
        { "3GB", INT64_C(3000000000) },
        { "0MB", 0 },
        { "007kB", 7000 },
        { "8589934591GiB", INT64_C(8589934591) << 30 },
        { "8589934592GiB", -1 }, /* 2^63 */
        { "9223372036854775807kB", -1 },
        { "99999999999999999999kB", -1 },
        { "12", -1 },
        { "", -1 },
        { "MiB", -1 },
        { "1 MiB", -1 },
        { " 1MiB", -1 },
        { "1MiB ", -1 },
        { "1mib", -1 },
        { "1KB", -1 },
        { "-1kB", -1 },
        { "+1kB", -1 },
        { "1.5GiB", -1 },
        { "1s", -1 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int64_t got = -1;
        EXPECT_EQ_INT(opt_parse_bytes(cases[i].text, &got), cases[i].want < 0 ? -1 : 0);
        EXPECT_EQ_INT(got, cases[i].want); /* a refused text leaves the output alone */
    }
}

TEST(opt_durations_need_a_unit_and_fit) {
    static const struct {
        const char *text;
        int64_t want_us;
    } cases[] = {
        { "20ms", 20000 },
        { "10s", 10000000 },
        { "5m", INT64_C(300000000) },
        { "1h", INT64_C(3600000000) },
        { "0s", 0 },
        { "9223372036854775ms", INT64_C(9223372036854775000) },
        { "9223372036854776ms", -1 },
        { "2562047788h", INT64_C(2562047788) * 3600000000 },
        { "2562047789h", -1 },
        { "18446744073709551616s", -1 },
        { "10", -1 },
        { "s", -1 },
        { "", -1 },
        { "1M", -1 },
        { "1us", -1 },
        { "1s1s", -1 },
        { "-1s", -1 },
        { "1.5s", -1 },
        { "1MiB", -1 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int64_t got = -1;
        EXPECT_EQ_INT(opt_parse_duration(cases[i].text, &got), cases[i].want_us < 0 ? -1 : 0);
        EXPECT_EQ_INT(got, cases[i].want_us);
    }
}

TEST(opt_nearest_forgives_a_third) {
    static const char *const words[] = { "lanes", "freshness", "publication", "slot" };
    static const char *const cases[][2] = {
        { "lanes", "lanes" },
        { "lane", "lanes" },
        { "laens", "lanes" },
        { "LANES", "lanes" },
        { "fresness", "freshness" },
        { "publicaton", "publication" },
        { "pulbication", "publication" },
        { "solt", "slot" },
        { "slut", "slot" },
        { "sxxt", NULL },
        { "pub", NULL },
        { "", NULL },
        { "zzz", NULL },
        { "freshfreshfresh", NULL },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        EXPECT_EQ_STR(opt_nearest(cases[i][0], words, ARRAY_COUNT(words)), cases[i][1]);
    }
    char monster[10000];
    memset(monster, 'l', sizeof monster - 1);
    monster[sizeof monster - 1] = '\0';
    EXPECT_EQ_STR(opt_nearest(monster, words, ARRAY_COUNT(words)), NULL);
    EXPECT_EQ_STR(opt_nearest("lanes", words, 0), NULL);
    static const char *const twins[] = { "abcd", "abce" };
    EXPECT_EQ_STR(opt_nearest("abcf", twins, 2), "abcd"); /* the first of two equally near */
}
