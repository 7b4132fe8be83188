/* err, escape, json, log, metrics, wall time as text. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/err.h"
#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "cdc/base/log.h"
#include "cdc/base/metrics.h"
#include "tests/unit/kit.h"

TEST(err_set_fills_kind_code_and_text) {
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(err_set(&err, ERR_RETRY, "net_down", "connect to \"%s\": %d", "db", 7), -1);
    EXPECT_EQ_INT(err.kind, ERR_RETRY);
    EXPECT_EQ_INT(err.exit, EXIT_ERROR);
    EXPECT_EQ_STR(err.code, "net_down");
    EXPECT_EQ_STR(err.text, "connect to \"db\": 7");
    EXPECT_EQ_STR(err.cure, "");
    EXPECT_EQ_INT(err_cure(&err, "GRANT %s", "X"), -1);
    EXPECT_EQ_STR(err.cure, "GRANT X");
    EXPECT_EQ_INT(err_exit(&err, EXIT_FENCED), -1);
    EXPECT_EQ_INT(err.exit, EXIT_FENCED);
    err_set(&err, ERR_FATAL, "other",
            "new"); /* a new error has neither the old one's cure nor its exit */
    EXPECT_EQ_STR(err.cure, "");
    EXPECT_EQ_INT(err.exit, EXIT_ERROR);
    err_clear(&err);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    EXPECT_EQ_STR(err.text, "");
}

TEST(err_text_may_quote_the_error_itself) {
    struct err err = ERR_INIT;
    err_set(&err, ERR_FATAL, "inner", "cause");
    err_set(&err, ERR_FATAL, err.code, "outer: %s", err.text);
    EXPECT_EQ_STR(err.text, "outer: cause");
    EXPECT_EQ_STR(err.code, "inner");
    EXPECT_EQ_INT(err_wrap(&err, "table \"%s\"", "t"), -1);
    EXPECT_EQ_STR(err.text, "table \"t\": outer: cause");
    EXPECT_EQ_STR(err.code, "inner");
}

TEST(err_text_is_one_line_of_clean_utf8) {
    struct err err = ERR_INIT;
    err_set(&err, ERR_FATAL, "c", "%s",
            "a\nb\r\t\x1b[31m\x7f \xc2\x9b \xff \xc3\xa9 \xe2\x82\xac \\n");
    EXPECT_EQ_STR(err.text, "a\\nb\\r\\t\\x1b[31m\\x7f \\xc2\\x9b \\xff \xc3\xa9 \xe2\x82\xac \\n");
    err_wrap(&err, "x"); /* what is escaped stays as it is */
    EXPECT_EQ_STR(err.text,
                  "x: a\\nb\\r\\t\\x1b[31m\\x7f \\xc2\\x9b \\xff \xc3\xa9 \xe2\x82\xac \\n");
}

TEST(err_text_too_long_is_cut_at_a_character) {
    struct err err = ERR_INIT;
    char text[3001];
    for (size_t i = 0; i < 3000; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    text[3000] = '\0';
    err_set(&err, ERR_FATAL, "c", "%s", text);
    size_t len = strlen(err.text);
    EXPECT_TRUE(len < sizeof err.text && len >= sizeof err.text - 3);
    EXPECT_EQ_STR(err.text + len - 5, "\xc3\xa9...");
    err_wrap(&err, "%s", "prefix");
    EXPECT_EQ_MEM(err.text, 10, "prefix: \xc3\xa9", 10);
    EXPECT_TRUE(strlen(err.text) < sizeof err.text);
    memset(text, 'x', sizeof err.text - 1);
    text[sizeof err.text - 1] = '\0'; /* exactly what fits */
    err_set(&err, ERR_FATAL, "c", "%s", text);
    EXPECT_EQ_STR(err.text, text);
    err_cure(&err, "%s", text);
    EXPECT_EQ_STR(err.cure, text);
    memset(text, '\n', sizeof err.text - 1);
    err_set(&err, ERR_FATAL, "c", "%s", text);
    EXPECT_EQ_STR(err.text + strlen(err.text) - 5, "\\n...");
}

TEST(err_kinds_have_names) {
    EXPECT_EQ_STR(err_kind_name(ERR_NONE), "none");
    EXPECT_EQ_STR(err_kind_name(ERR_RETRY), "retry");
    EXPECT_EQ_STR(err_kind_name(ERR_REWIND), "rewind");
    EXPECT_EQ_STR(err_kind_name(ERR_FATAL), "fatal");
}

TEST(utf8_length_knows_the_edges_of_unicode) {
    static const struct {
        const char *bytes;
        int want;
    } cases[] = {
        { "a", 1 },
        { "\x7f", 1 },
        { "\xc2\x80", 2 },
        { "\xdf\xbf", 2 },
        { "\xe0\xa0\x80", 3 },
        { "\xed\x9f\xbf", 3 },
        { "\xee\x80\x80", 3 },
        { "\xef\xbf\xbf", 3 },
        { "\xf0\x90\x80\x80", 4 },
        { "\xf4\x8f\xbf\xbf", 4 },
        { "\x80", -1 },
        { "\xbf", -1 },
        { "\xc0\x80", -1 }, /* two bytes for what one can say */
        { "\xc1\xbf", -1 },
        { "\xe0\x9f\xbf", -1 },     /* three for two */
        { "\xf0\x8f\xbf\xbf", -1 }, /* four for three */
        { "\xed\xa0\x80", -1 },     /* surrogates */
        { "\xed\xbf\xbf", -1 },
        { "\xf4\x90\x80\x80", -1 }, /* beyond U+10FFFF */
        { "\xf5\x80\x80\x80", -1 },
        { "\xff", -1 },
        { "\xc3", -1 },
        { "\xe2\x82", -2 },
        { "\xe2\x28\xa1", -1 },
        { "\xe2\x82\x28", -2 },
        { "\xf0\x9f\x98", -3 },
        { "\xf0\x9f\x98\x28", -3 },
        { "\xf0\x9f", -2 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const uint8_t *s = (const uint8_t *)cases[i].bytes;
        if (!EXPECT_EQ_INT(utf8_length(s, s + strlen(cases[i].bytes)), cases[i].want)) {
            EXPECT_EQ_STR("case", kit_text("%zu", i));
        }
    }
}

static bool expect_json(const char *in, size_t len, const char *want, int result) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    bool held = EXPECT_EQ_INT(json_put_string(&b, in, len), result);
    held = EXPECT_EQ_MEM(b.data, b.len, want, strlen(want)) && held;
    buf_release(&b);
    return held;
}

#define EXPECT_JSON(in, want, result)                                                              \
    EXPECT_TRUE(expect_json((in), sizeof(in) - 1, (want), (result)))

TEST(json_strings_are_escaped) {
    EXPECT_JSON("", "\"\"", 0);
    EXPECT_JSON("plain", "\"plain\"", 0);
    EXPECT_JSON("a\"b\\c/d", "\"a\\\"b\\\\c/d\"", 0);
    EXPECT_JSON("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\"", 0);
    EXPECT_JSON("\0\x01\x1f\x20\x7f", "\"\\u0000\\u0001\\u001f \x7f\"", 0);
    EXPECT_JSON("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
                0);
    EXPECT_JSON("\xc3\xa9\"\xc3\xa9\n", "\"\xc3\xa9\\\"\xc3\xa9\\n\"", 0);
}

TEST(json_strings_that_are_not_utf8_are_repaired_and_reported) {
    EXPECT_JSON("a\xff"
                "b",
                "\"a\xef\xbf\xbd"
                "b\"",
                -1);
    EXPECT_JSON("\xe2\x82", "\"\xef\xbf\xbd\"", -1);
    EXPECT_JSON("\xe2\x82\"", "\"\xef\xbf\xbd\\\"\"", -1);
    EXPECT_JSON("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", -1); /* a surrogate */
    EXPECT_JSON("\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"", -1);
    EXPECT_JSON("\xc3\xa9\x80\xc3\xa9", "\"\xc3\xa9\xef\xbf\xbd\xc3\xa9\"", -1);
    EXPECT_JSON("\x80\x81\n", "\"\xef\xbf\xbd\xef\xbf\xbd\\n\"", -1);
}

/* Every special at every place of strings of every length around the 8 and 16 byte blocks, in
 * memory that ends with the string. */
TEST(json_strings_find_specials_wherever_they_stand) {
    static const struct {
        const char *in;
        const char *out;
        int result;
    } specials[] = { { "\"", "\\\"", 0 },
                     { "\\", "\\\\", 0 },
                     { "\x1f", "\\u001f", 0 },
                     { "\n", "\\n", 0 },
                     { "\xff", "\xef\xbf\xbd", -1 },
                     { "\xc3\xa9", "\xc3\xa9", 0 },
                     { "\x7f", "\x7f", 0 },
                     { " ", " ", 0 },
                     { "!", "!", 0 },
                     { "#", "#", 0 },
                     { "[", "[", 0 },
                     { "]", "]", 0 } };
    char filling[51];
    memset(filling, 'x', 50);
    filling[50] = '\0';
    for (size_t s = 0; s < ARRAY_COUNT(specials); s++) {
        size_t special_len = strlen(specials[s].in);
        for (size_t len = special_len; len < 50; len++) {
            for (size_t at = 0; at + special_len <= len; at++) {
                char *in = xmalloc(len);
                memset(in, 'x', len);
                memcpy(in + at, specials[s].in, special_len);
                char *want = xasprintf("\"%.*s%s%.*s\"", (int)at, filling, specials[s].out,
                                       (int)(len - at - special_len), filling);
                bool held = expect_json(in, len, want, specials[s].result);
                free(in);
                free(want);
                if (!held) {
                    return;
                }
            }
        }
    }
}

TEST(json_cstr_and_base64) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    json_put_cstr(&b, "a\"b");
    EXPECT_EQ_STR(buf_cstr(&b), "\"a\\\"b\"");
    static const char *const cases[][2] = {
        { "", "\"\"" },
        { "f", "\"Zg==\"" },
        { "fo", "\"Zm8=\"" },
        { "foo", "\"Zm9v\"" },
        { "foob", "\"Zm9vYg==\"" },
        { "fooba", "\"Zm9vYmE=\"" },
        { "foobar", "\"Zm9vYmFy\"" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_clear(&b);
        json_put_base64(&b, cases[i][0], strlen(cases[i][0]));
        EXPECT_EQ_STR(buf_cstr(&b), cases[i][1]);
    }
    buf_clear(&b);
    json_put_base64(&b, "\xfb\xff\xbf\x00", 4);
    EXPECT_EQ_STR(buf_cstr(&b), "\"+/+/AA==\"");
    buf_release(&b);
}

/* What a log writes to a pipe, up to its end. */
static const char *read_all(int fd) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    char part[512];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0) {
        buf_put(&b, part, (size_t)n);
    }
    const char *text = kit_text("%s", buf_cstr(&b));
    buf_release(&b);
    close(fd);
    return text;
}

/* A log into a pipe: *read_end gets the other side. */
static struct log log_open(bool json, const char *job, int *read_end) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    *read_end = fds[0];
    return (struct log){ .level = LOG_INFO, .json = json, .fd = fds[1], .job = job };
}

enum { STAMP_BYTES = 24 }; /* 2026-01-02T03:04:05.678Z */

TEST(log_lines_as_text) {
    int from;
    struct log log = log_open(false, "shop", &from);
    log_info(&log, "log", "connected", "server=%s", "15.20");
    log_debug(&log, "log", "too_much", "not written");
    log_warn(&log, "lane", "bare", "");
    log_write(&log, LOG_ERROR, "lane", "evil", "a\nb\x1b%s", "\xff");
    log.job = "";
    log_info(&log, "job", "start", "x");
    close(log.fd);
    const char *text = read_all(from);
    char *copy = xstrdup(text);
    static const char *const want[] = { " info shop log connected server=15.20",
                                        " warn shop lane bare",
                                        " error shop lane evil a\\nb\\x1b\\xff",
                                        " info - job start x" };
    char *rest = copy;
    for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
        char *line = strsep(&rest, "\n");
        if (!EXPECT_TRUE(line && strlen(line) > STAMP_BYTES)) {
            break;
        }
        EXPECT_TRUE(line[10] == 'T' && line[STAMP_BYTES - 1] == 'Z');
        EXPECT_EQ_STR(line + STAMP_BYTES, want[i]);
    }
    EXPECT_EQ_STR(rest, "");
    free(copy);
}

TEST(log_lines_as_json) {
    int from;
    struct log log = log_open(true, "shop", &from);
    log_warn(&log, "log", "connected", "a \"b\"\n%s", "\xff");
    close(log.fd);
    const char *text = read_all(from);
    EXPECT_EQ_MEM(text, 7, "{\"ts\":\"", 7);
    EXPECT_EQ_STR(strchr(text, 'Z'),
                  "Z\",\"level\":\"warn\",\"job\":\"shop\",\"part\":\"log\",\"code\":\"connected\","
                  "\"msg\":\"a \\\"b\\\"\\n\xef\xbf\xbd\"}\n");
}

TEST(log_err_says_what_failed_and_the_cure) {
    struct err err = ERR_INIT;
    err_set(&err, ERR_FATAL, "slot_missing", "slot \"x\": gone");
    int from;
    struct log log = log_open(false, "shop", &from);
    log_err(&log, "job", &err);
    err_cure(&err, "SELECT 1");
    log_err(&log, "job", &err);
    log.job = "";
    log_err(&log, "job", &err);
    close(log.fd);
    EXPECT_EQ_STR(read_all(from), "tailrace: shop: slot \"x\": gone\n"
                                  "tailrace: shop: slot \"x\": gone\ncure: SELECT 1\n"
                                  "tailrace: slot \"x\": gone\ncure: SELECT 1\n");
    log = log_open(true, "shop", &from);
    log_err(&log, "job", &err);
    close(log.fd);
    const char *text = read_all(from);
    EXPECT_EQ_STR(
        strchr(text, 'Z'),
        "Z\",\"level\":\"error\",\"job\":\"shop\",\"part\":\"job\",\"code\":\"slot_missing\","
        "\"msg\":\"slot \\\"x\\\": gone\",\"cure\":\"SELECT 1\"}\n");
}

TEST(log_to_nowhere_or_to_a_closed_pipe_is_no_failure) {
    struct err err = ERR_INIT;
    err_set(&err, ERR_FATAL, "c", "t");
    struct log log = { .level = LOG_DEBUG, .fd = -1, .job = "j" };
    log_info(&log, "p", "c", "x");
    log_err(&log, "p", &err);
    int from;
    log = log_open(false, "j", &from);
    close(from);
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    log_info(&log, "p", "c", "x");
    signal(SIGPIPE, before);
    EXPECT_TRUE(close(log.fd) == 0);
}

TEST(log_message_of_any_length_is_one_line) {
    int from;
    struct log log = log_open(false, "j", &from);
    char text[9001];
    memset(text, 'x', 9000);
    text[9000] = '\0';
    log_info(&log, "p", "c", "%s", text);
    close(log.fd);
    const char *line = read_all(from);
    EXPECT_EQ_INT(strlen(line), STAMP_BYTES + strlen(" info j p c ") + 9000 + 1);
    EXPECT_TRUE(strchr(line, '\n') == line + strlen(line) - 1);
}

TEST(metrics_have_unique_names_and_docs) {
    for (int i = 0; i < METRIC_COUNT; i++) {
        EXPECT_TRUE(metric_name((enum metric)i)[0] && metric_doc((enum metric)i)[0] &&
                    metric_unit((enum metric)i));
        EXPECT_EQ_INT(strspn(metric_name((enum metric)i), "abcdefghijklmnopqrstuvwxyz_"),
                      strlen(metric_name((enum metric)i)));
        for (int k = 0; k < i; k++) {
            EXPECT_TRUE(strcmp(metric_name((enum metric)i), metric_name((enum metric)k)) != 0);
        }
    }
    EXPECT_EQ_STR(metric_name(METRIC_LOG_ROWS), "log_rows");
    EXPECT_EQ_STR(metric_name(METRIC_CHANNEL_BYTES), "channel_bytes");
    EXPECT_EQ_STR(metric_unit(METRIC_COMMIT_LAST_US), "us");
}

TEST(metrics_add_and_set) {
    static struct metrics m;
    metric_set(&m, METRIC_COMMITS, 5);
    metric_add(&m, METRIC_COMMITS, 3);
    metric_add(&m, METRIC_COMMITS, -1);
    EXPECT_EQ_INT(metric_get(&m, METRIC_COMMITS), 7);
    EXPECT_EQ_INT(metric_get(&m, METRIC_HOLES), 0);
}

TEST(wall_time_as_text) {
    static const struct {
        int64_t us;
        const char *want;
    } cases[] = {
        { 0, "1970-01-01T00:00:00.000Z" },
        { 1, "1970-01-01T00:00:00.000Z" },
        { 999999, "1970-01-01T00:00:00.999Z" },
        { -1, "1969-12-31T23:59:59.999Z" },
        { -1000, "1969-12-31T23:59:59.999Z" },
        { -1001, "1969-12-31T23:59:59.998Z" },
        { INT64_C(1767323045678901), "2026-01-02T03:04:05.678Z" },
        { INT64_C(951782400000000), "2000-02-29T00:00:00.000Z" },
        { INT64_C(951868799999999), "2000-02-29T23:59:59.999Z" },
        { INT64_C(4107542400000000), "2100-03-01T00:00:00.000Z" },
        { INT64_C(-2203891200000000), "1900-03-01T00:00:00.000Z" },
        { INT64_C(253402300799999999), "9999-12-31T23:59:59.999Z" },
        { INT64_C(253402300800000000), "10000-01-01T00:00:00.000Z" },
        { INT64_C(-62135596800000000), "0001-01-01T00:00:00.000Z" },
        { INT64_C(-62135596800000001), "0000-12-31T23:59:59.999Z" },
        { INT64_C(-62167219200000000), "0000-01-01T00:00:00.000Z" },
        { INT64_C(-62167219200000001), "-0001-12-31T23:59:59.999Z" },
        { INT64_MAX, "294247-01-10T04:00:54.775Z" },
        { INT64_MIN, "-290308-12-21T19:59:05.224Z" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char out[32];
        clock_format_wall(cases[i].us, out);
        EXPECT_EQ_STR(out, cases[i].want);
    }
}
