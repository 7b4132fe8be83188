/* Nothing that is said of a job shows a secret or what ${..} gave: thousands of damaged URLs, and
 * the messages of libraries that quote values. */
#include <stdlib.h>
#include <string.h>

#include "config/job_spec.h"
#include "tests/unit/kit.h"

#define MARK "c4nary"

static const char *marked_env(void *ctx, const char *name) {
    (void)ctx;
    return strcmp(name, "X") == 0 ? MARK "-from-the-environment" : NULL;
}
static int marked_file(void *ctx, const char *path, struct buf *out, char *why, size_t why_cap) {
    (void)ctx;
    (void)path;
    (void)why;
    (void)why_cap;
    buf_puts(out, MARK "-from-a-file\n");
    return 0;
}
static const struct put_in marked = { .env = marked_env, .file = marked_file };

static uint64_t dice_state;
static void dice_seed(unsigned seed) { dice_state = seed * UINT64_C(0x9E3779B97F4A7C15); }
static unsigned dice(size_t sides) {
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (unsigned)((dice_state >> 20) % sides);
}

/* The first leak is the test's failure. */
static void expect_hidden(bool found, unsigned seed, struct buf *text) {
    static bool said;
    if (found && !said) {
        said = true;
        expect_true(false, kit_text("seed %u shows: %s", seed, buf_cstr(text)), __FILE__, __LINE__);
    }
}

static bool shows(const char *text) { return strstr(text, MARK) != NULL; }

/* What a library may say of an accepted job: each value, in quotes and bare. */
static bool library_shows(const struct job_spec *s) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (const char *const *e = s->extra; e && e[0]; e += 2) {
        buf_putf(&text, "invalid %s value: \"%s\"\n", e[0], e[1]);
    }
    const struct source_address *a = &s->source_address;
    buf_putf(&text, "for \"%s\": no password of %s. ", a->secret ? a->secret : "",
             a->secret ? a->secret : "");
    const char *parts[] = { s->source_url.user.put_in ? a->user : NULL,
                            s->source_url.hosts.put_in ? a->hosts : NULL,
                            s->source_url.path.put_in ? a->path : NULL };
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        buf_putf(&text, "no \"%s\"\n", parts[i] ? parts[i] : "");
    }
    hide_text(s->hide, &text);
    bool found = shows(buf_cstr(&text));
    buf_release(&text);
    return found;
}

/* True if anything that is said of the text shows the mark. */
static bool job_shows(const char *text, bool *accepted) {
    struct mistakes m;
    mistakes_init(&m);
    struct job_spec *s = job_spec_new(text, strlen(text), NULL, JOB_NEEDS_BOTH, &marked, &m);
    bool found = shows(s->name) && m.count == 0;
    for (uint32_t i = 0; i < m.count; i++) {
        found = found || shows(m.at[i].text) || shows(m.at[i].cure);
    }
    *accepted = m.count == 0;
    found = found || (*accepted && library_shows(s));
    job_spec_free(s);
    mistakes_release(&m);
    return found;
}

/* A password that somebody typed as it is: every piece that a delimiter cuts off bears the mark. */
static void put_password(struct buf *out) {
    static const char between[] = "@/?&:=#%$+ -,;!'\"{}[]()<>|\\~^*.";
    buf_puts(out, MARK);
    for (unsigned pieces = dice(3); pieces > 0; pieces--) {
        buf_putc(out, between[dice(sizeof between - 1)]);
        buf_puts(out, MARK);
    }
}

static const char *const forms[][2] = {
    { "postgres://u:", "@h/d -> jsonl:///x" },
    { "postgres://u:", "@h:5432/d?lanes=2 -> stdout:" },
    { "postgres://u:", "@[::1]:5432,b/d?sslmode=require&lanes=2 -> discard:?freshness=1s" },
    { "postgres://h/d?password=", " -> jsonl:///x" },
    { "postgres://h/d?lanes=2&password=", "&sslmode=require -> jsonl:///x" },
    { "postgres://u@h/d?sslpassword=", "&lanes=2 -> stdout:" },
};
static const char *const put_in_forms[] = {
    "postgres://u:${env:X}@h/d -> jsonl:///x",
    "postgres://${env:X}:${file:/s}@${env:X}/d?sslmode=${env:X} -> jsonl:///x",
    "postgres://u@h/d?lanes=${env:X}&snapshot=${env:X}&slot=${env:X} -> discard:?hash=${env:X}",
    "postgres://${env:X}@h -> jsonl:///x?job=${file:/s}",
    "postgres://h:${env:X}/${env:X}?password=${file:/s} -> jsonl:///x?freshness=${env:X}",
};

/* Damages one byte outside [from, to): the secret, and the colon before it, without which it would
 * be a user's name. */
static void damage(struct buf *text, size_t from, size_t to) {
    static const char bytes[] = "/:@?&=#%$ {}>-,.x0";
    size_t at = dice(text->len);
    if (at + 1 >= from && at < to) {
        return;
    }
    char byte = bytes[dice(sizeof bytes - 1)];
    char *copy = xstrndup(text->data, text->len);
    size_t len = text->len;
    buf_clear(text);
    buf_put(text, copy, at);
    switch (dice(3)) {
    case 0:
        buf_putc(text, byte);
        buf_put(text, copy + at, len - at);
        break;
    case 1:
        buf_putc(text, byte);
        buf_put(text, copy + at + 1, len - at - 1);
        break;
    default:
        buf_put(text, copy + at + 1, len - at - 1);
    }
    free(copy);
}

TEST(hide_damaged_urls_never_show_the_password) {
    unsigned accepted_count = 0;
    for (unsigned seed = 1; seed <= 20000; seed++) {
        dice_seed(seed);
        const char *const *form = forms[dice(ARRAY_COUNT(forms))];
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_puts(&text, form[0]);
        size_t from = text.len;
        put_password(&text);
        size_t to = text.len;
        buf_puts(&text, form[1]);
        if (dice(4)) {
            damage(&text, from, to);
        }
        bool accepted;
        bool found = job_shows(buf_cstr(&text), &accepted);
        accepted_count += accepted;
        expect_hidden(found, seed, &text);
        buf_release(&text);
    }
    EXPECT_TRUE(accepted_count > 500); /* the test reaches both ways */
}

TEST(hide_damaged_urls_never_show_what_was_put_in) {
    for (unsigned seed = 1; seed <= 10000; seed++) {
        dice_seed(seed);
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_puts(&text, put_in_forms[dice(ARRAY_COUNT(put_in_forms))]);
        for (unsigned i = dice(3); i > 0; i--) {
            damage(&text, 0, 0);
        }
        bool accepted;
        expect_hidden(job_shows(buf_cstr(&text), &accepted), seed, &text);
        buf_release(&text);
    }
}

static const char *hidden(const struct hide *h, bool json, const char *text) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, text);
    if (json) {
        hide_json(h, &b);
    } else {
        hide_text(h, &b);
    }
    const char *out = kit_text("%s", buf_cstr(&b));
    buf_release(&b);
    return out;
}

TEST(hide_takes_values_out_of_messages) {
    struct hide *h = hide_new();
    hide_add(h, "correct horse battery", "(secret)");
    hide_add(h, "5432", "${env:PORT}");
    hide_add(h, "db1", "${env:HOST}");
    hide_add(h, "a\"b\nlong", "(secret)");
    hide_add(h, "", "nothing");
    EXPECT_EQ_STR(hidden(h, false, "xcorrect horse batteryx"), "x(secret)x");
    EXPECT_EQ_STR(hidden(h, false, "cut: correct horse ba"), "cut: (secret)");
    EXPECT_EQ_STR(hidden(h, false, "correct horse"), "correct horse"); /* 13 bytes of it */
    EXPECT_EQ_STR(hidden(h, false, "port 5432, 154321 rows, 5432x"),
                  "port ${env:PORT}, 154321 rows, 5432x");
    EXPECT_EQ_STR(hidden(h, false, "host \"db1\" of db1"), "host \"${env:HOST}\" of db1");
    EXPECT_EQ_STR(hidden(h, false, "is a\"b\\nlong"), "is (secret)");
    EXPECT_EQ_STR(
        hidden(h, true, "{\"5432\":5432,\"a\":\"on 5432\",\"b\":[\"db1\",\"a\\\"b\\nlong\"]}"),
        "{\"5432\":5432,\"a\":\"on ${env:PORT}\",\"b\":[\"${env:HOST}\",\"(secret)\"]}");
    EXPECT_EQ_STR(hidden(h, true, "{\"open"), "{\"open");
    EXPECT_EQ_STR(hidden(NULL, false, "5432"), "5432");
    hide_free(h);
}

TEST(hide_of_a_job_is_its_secrets_and_what_was_put_in) {
    struct mistakes m;
    mistakes_init(&m);
    const char *text = "postgres://shop:shop@h/d?sslmode=${env:X}&lanes=2 -> jsonl:///y";
    struct job_spec *s = job_spec_new(text, strlen(text), "f", JOB_NEEDS_BOTH, &marked, &m);
    EXPECT_EQ_INT(m.count, 0);
    EXPECT_EQ_STR(
        hidden(s->hide, false, "invalid sslmode value: \"" MARK "-from-the-environment\""),
        "invalid sslmode value: \"${env:X}\"");
    EXPECT_EQ_STR(hidden(s->hide, false, "user \"shop\""), "user \"shop\""); /* shown beside it */
    job_spec_free(s);
    mistakes_release(&m);
}
