/* The parser of the job language (grammar: job_text.h). One loop over lines; within a line a cursor
 * that only goes forward. A mistake ends its line (or its action, where the next one can still be
 * found), never the text. Pure. */
#include "config/job_text.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/buf.h"
#include "cdc/base/escape.h"
#include "cdc/base/opt.h"

struct cursor {
    const char *start; /* of the line */
    const char *at;
    const char *end; /* of the line */
    uint32_t line;
    struct mistakes *mistakes;
};

static uint32_t column_of(const char *start, const char *at) {
    uint32_t column = 1;
    for (const char *p = start; p < at; p++) {
        column += ((unsigned char)*p & 0xC0) != 0x80; /* a character counts at its first byte */
    }
    return column;
}

static struct place place_of(const struct cursor *c, const char *at) {
    return (struct place){ c->line, column_of(c->start, at) };
}

struct place span_place(const struct span *s, const char *at) {
    return (struct place){ s->place.line, s->place.column + column_of(s->at, at) - 1 };
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static void skip_blanks(struct cursor *c) {
    while (c->at < c->end && is_blank(*c->at)) {
        c->at++;
    }
}

/* Blanks, then the line's end or a comment. */
static bool at_line_end(struct cursor *c) {
    skip_blanks(c);
    bool comment = c->at < c->end && *c->at == '#' && (c->at == c->start || is_blank(c->at[-1]));
    return comment || c->at == c->end;
}

/* Is it an arrow of another language? Only that is quoted where an arrow should be: anything else
 * may be a part of a password that holds a blank. */
static bool is_arrow_like(const struct span *s) {
    size_t n = 0;
    while (n < s->len && strchr("-=>|~", s->at[n])) {
        n++;
    }
    return n == s->len && n <= 4;
}

/* Adds `found "X" <rest>`: X is what stands at p up to the next blank, at most 60 bytes; of a URL
 * its scheme only, and nothing if an @ follows on the line, since then it may be a part of a
 * password that holds a blank. */
static void found(struct cursor *c, const char *p, const char *code, const char *cure,
                  const char *rest) {
    const char *q = p;
    while (q < c->end && !is_blank(*q) && q - p < 60) {
        q++;
        if (q - p >= 3 && memcmp(q - 3, "://", 3) == 0) {
            break;
        }
    }
    if (memchr(p, '@', (size_t)(c->end - p))) {
        mistake_add(c->mistakes, place_of(c, p), code, cure, "found something else %s", rest);
    } else {
        mistake_add(c->mistakes, place_of(c, p), code, cure, "found \"%.*s\" %s", (int)(q - p), p,
                    rest);
    }
}

/* --- the job line -------------------------------------------------------------------------------
 */

/* A word of the job line: ends at a blank outside ${..}. */
static struct span take_url(struct cursor *c) {
    struct span s = { .at = c->at, .place = place_of(c, c->at) };
    bool inside = false;
    while (c->at < c->end && (inside || !is_blank(*c->at))) {
        if (!inside && c->end - c->at > 1 && c->at[0] == '$' && c->at[1] == '{') {
            inside = true;
        } else if (inside && *c->at == '}') {
            inside = false;
        }
        c->at++;
    }
    s.len = (size_t)(c->at - s.at);
    return s;
}

static bool span_is(const struct span *s, const char *word) {
    return s->len == strlen(word) && memcmp(s->at, word, s->len) == 0;
}

#define JOB_FORM "SOURCE -> SINK, e.g. postgres://user@host/db -> jsonl:///var/lib/changes"

static void parse_job(struct cursor *c, struct job_text *out) {
    struct span words[3];
    int count = 0;
    while (count < 3 && !at_line_end(c)) {
        words[count++] = take_url(c);
    }
    struct place end = place_of(c, c->at);
    if (count > 0 && span_is(&words[0], "->")) {
        mistake_add(c->mistakes, words[0].place, "job_line", JOB_FORM, "no source before \"->\"");
        if (count > 1) {
            out->sink = words[1];
        }
        return;
    }
    out->source = words[0];
    if (count == 1) {
        bool glued = memmem(words[0].at, words[0].len, "->", 2) != NULL;
        mistake_add(c->mistakes, glued ? words[0].place : end, "job_line", JOB_FORM,
                    glued ? "\"->\" needs a blank on each side"
                          : "no \" -> SINK\" after the source");
        if (glued) {
            out->source = (struct span){ .at = NULL };
        }
        return;
    }
    if (!span_is(&words[1], "->")) {
        mistake_add(c->mistakes, words[1].place, "job_line", JOB_FORM,
                    is_arrow_like(&words[1]) ? "found \"%.*s\" where \"->\" was expected"
                                             : "no \"->\" after the source",
                    (int)words[1].len, words[1].at);
        return;
    }
    if (count == 2) {
        mistake_add(c->mistakes, end, "job_line", JOB_FORM, "no sink after \"->\"");
        return;
    }
    out->sink = words[2];
    if (!at_line_end(c)) {
        found(c, c->at, "job_line", "options are part of the URL: ?key=value&key=value",
              "after the sink");
    }
}

/* --- rules --------------------------------------------------------------------------------------
 */

/* 'text' or "name" with the quote doubled inside; the cursor stands on the quote. NULL = not
 * closed. */
static char *take_quoted(struct cursor *c, char quote) {
    struct buf b;
    buf_init(&b, JOB_TEXT_BYTES_MAX);
    const char *open = c->at++;
    while (c->at < c->end) {
        if (*c->at != quote) {
            buf_putc(&b, *c->at++);
        } else if (c->end - c->at > 1 && c->at[1] == quote) {
            buf_putc(&b, quote);
            c->at += 2;
        } else {
            c->at++;
            char *text = xstrdup(buf_cstr(&b));
            buf_release(&b);
            return text;
        }
    }
    buf_release(&b);
    mistake_add(c->mistakes, place_of(c, open), "quote_open", NULL,
                "this %c is not closed on its line", quote);
    return NULL;
}

#define PARTS_MAX 3
#define RULE_FORM "a rule is PATTERN: ACTION, e.g. audit.*: skip"

struct pattern {
    struct pattern_part parts[PARTS_MAX];
    int count;
    struct place place;
    const char *from, *to; /* as written */
};

static void pattern_release(struct pattern *p) {
    for (int i = 0; i < p->count; i++) {
        free(p->parts[i].text);
    }
    p->count = 0;
}

static int part_check(struct cursor *c, const char *from, const char *text) {
    if (text[0] == '\0') {
        mistake_add(c->mistakes, place_of(c, from), "pattern",
                    "a pattern is [schema.]table, e.g. public.orders or *.orders",
                    "an empty name in a pattern");
        return -1;
    }
    if (strlen(text) > JOB_NAME_BYTES_MAX) {
        mistake_add(c->mistakes, place_of(c, from), "pattern", NULL,
                    "a name of more than %u bytes in a pattern", JOB_NAME_BYTES_MAX);
        return -1;
    }
    return 0;
}

/* Up to and with the ':'. */
static int take_pattern(struct cursor *c, struct pattern *out) {
    *out = (struct pattern){ .place = place_of(c, c->at), .from = c->at };
    for (;;) {
        const char *from = c->at;
        bool exact = c->at < c->end && *c->at == '"';
        char *text;
        if (exact) {
            text = take_quoted(c, '"');
            if (!text) {
                return -1;
            }
        } else {
            while (c->at < c->end && !is_blank(*c->at) && !strchr(".:\"", *c->at)) {
                c->at++;
            }
            text = xstrndup(from, (size_t)(c->at - from));
        }
        if (part_check(c, from, text)) {
            free(text);
            return -1;
        }
        if (out->count == PARTS_MAX) {
            free(text);
            mistake_add(c->mistakes, out->place, "pattern", NULL,
                        "a pattern of more than three names");
            return -1;
        }
        out->parts[out->count++] = (struct pattern_part){ .text = text, .exact = exact };
        if (c->at < c->end && *c->at == '.') {
            c->at++;
            continue;
        }
        break;
    }
    out->to = c->at;
    skip_blanks(c);
    if (c->at == c->end || *c->at != ':') {
        if (c->at == c->end) {
            mistake_add(c->mistakes, place_of(c, c->at), "rule", RULE_FORM,
                        "no \":\" after the pattern");
        } else {
            found(c, c->at, "rule", RULE_FORM, "where \":\" was expected");
        }
        return -1;
    }
    c->at++;
    return 0;
}

struct action_word {
    const char *word;
    bool table; /* else of a column */
    bool built;
    bool wants_value; /* of a built one */
    enum rule_action action;
};
static const struct action_word action_words[] = {
    { .word = "skip", .table = true, .built = true, .action = RULE_SKIP },
    { .word = "keep", .table = true, .built = true, .action = RULE_KEEP },
    { .word = "append", .table = true, .built = true, .action = RULE_APPEND },
    { .word = "key", .table = true, .built = true, .wants_value = true, .action = RULE_KEY },
    { .word = "where", .table = true },
    { .word = "route", .table = true },
    { .word = "drop" },
    { .word = "mask" },
    { .word = "hash" },
    { .word = "rename" },
    { .word = "set" },
};
#define ACTION_HINT "actions are skip, keep, append and key=(column,...)"

static const struct action_word *action_find(const char *word) {
    for (size_t i = 0; i < ARRAY_COUNT(action_words); i++) {
        if (strcmp(action_words[i].word, word) == 0) {
            return &action_words[i];
        }
    }
    return NULL;
}

static void action_unknown(struct cursor *c, const char *from, const char *word) {
    const char *words[ARRAY_COUNT(action_words)];
    for (size_t i = 0; i < ARRAY_COUNT(action_words); i++) {
        words[i] = action_words[i].word;
    }
    const char *nearest = opt_nearest(word, words, ARRAY_COUNT(words));
    if (strchr(word, '@')) { /* the rest of a URL that was broken into two lines? */
        mistake_add(c->mistakes, place_of(c, from), "action_unknown", ACTION_HINT,
                    "this is no action");
    } else if (nearest) {
        mistake_add(c->mistakes, place_of(c, from), "action_unknown", ACTION_HINT,
                    "unknown action \"%.80s\" (did you mean \"%s\"?)", word, nearest);
    } else {
        mistake_add(c->mistakes, place_of(c, from), "action_unknown", ACTION_HINT,
                    "unknown action \"%.80s\"", word);
    }
}

/* The text between balanced parentheses, quotes inside them minded; the cursor stands on the first.
 * -1 = not closed. */
static int take_balanced(struct cursor *c, const char **from, size_t *len) {
    const char *open = c->at;
    size_t depth = 0;
    char quote = 0;
    for (; c->at < c->end; c->at++) {
        char x = *c->at;
        if (quote) {
            quote = x == quote ? 0 : quote;
        } else if (x == '\'' || x == '"') {
            quote = x;
        } else if (x == '(') {
            depth++;
        } else if (x == ')' && --depth == 0) {
            *from = open + 1;
            *len = (size_t)(c->at - open - 1);
            c->at++;
            return 0;
        }
    }
    mistake_add(c->mistakes, place_of(c, open), "parenthesis_open", NULL,
                "this ( is not closed on its line");
    return -1;
}

/* One column of key=(..): the cursor of the list stands on its first byte. -1 = a mistake was
 * added. */
static int take_column(struct cursor *list, struct buf *out) {
    const char *from = list->at;
    char *name;
    if (list->at < list->end && *list->at == '"') {
        name = take_quoted(list, '"');
        if (!name) {
            return -1;
        }
    } else {
        while (list->at < list->end && !is_blank(*list->at) && *list->at != ',') {
            list->at++;
        }
        name = xstrndup(from, (size_t)(list->at - from));
    }
    const char *why =
        name[0] == '\0'                     ? "an empty column name in key="
        : strlen(name) > JOB_NAME_BYTES_MAX ? "a column name of more than 255 bytes in key="
        : strpbrk(name, ",\"'()") || is_blank(name[0]) || is_blank(name[strlen(name) - 1])
            ? "key= cannot name a column with a comma, quote, parenthesis or outer blank: not "
              "built yet"
            : NULL;
    if (why) {
        mistake_add(list->mistakes, place_of(list, from), "key_columns",
                    "key=(a,b) names columns of the table", "%s", why);
    } else {
        buf_puts(out, out->len ? "," : "");
        buf_puts(out, name);
    }
    free(name);
    return why ? -1 : 0;
}

static char *parse_key(struct cursor *c, const char *from, size_t len) {
    struct cursor list = {
        .start = c->start, .at = from, .end = from + len, .line = c->line, .mistakes = c->mistakes
    };
    struct buf out;
    buf_init(&out, SIZE_MAX);
    bool good = true;
    do {
        skip_blanks(&list);
        good = take_column(&list, &out) == 0;
        skip_blanks(&list);
        if (good && list.at < list.end && *list.at != ',') {
            found(&list, list.at, "key_columns", "key=(a,b) names columns of the table",
                  "where a comma or the end was expected");
            good = false;
        }
    } while (good && list.at++ < list.end);
    char *key = good ? xstrdup(buf_cstr(&out)) : NULL;
    buf_release(&out);
    return key;
}

/* The value behind '='. *text: of a quoted one, owned. -1 = a mistake was added and the line's rest
 * is lost. */
static int take_value(struct cursor *c, const char **from, size_t *len, char **text) {
    *text = NULL;
    *from = c->at;
    if (c->at < c->end && *c->at == '(') {
        return take_balanced(c, from, len);
    }
    if (c->at < c->end && *c->at == '\'') {
        *text = take_quoted(c, '\'');
        *len = *text ? strlen(*text) : 0;
        return *text ? 0 : -1;
    }
    while (c->at < c->end && !is_blank(*c->at)) {
        c->at++;
    }
    *len = (size_t)(c->at - *from);
    return 0;
}

static void add_rule(struct cursor *c, struct job_text *out, const struct pattern *p,
                     enum rule_action action, char *take_key) {
    if (out->rule_count == JOB_RULES_MAX) {
        free(take_key);
        mistake_add(c->mistakes, p->place, "too_long", NULL, "more than %u rules", JOB_RULES_MAX);
        return;
    }
    if (out->rule_count == out->rule_room) {
        out->rule_room = out->rule_room ? out->rule_room * 2 : 16;
        out->rules = xrealloc(out->rules, out->rule_room * sizeof *out->rules);
    }
    struct rule *rule = &out->rules[out->rule_count++];
    *rule = (struct rule){ .place = p->place, .action = action, .key = take_key };
    const struct pattern_part *name = &p->parts[p->count - 1];
    rule->name = (struct pattern_part){ xstrdup(name->text), name->exact };
    if (p->count > 1) {
        rule->space = (struct pattern_part){ xstrdup(p->parts[p->count - 2].text),
                                             p->parts[p->count - 2].exact };
    }
    rule->pattern = xstrndup(p->from, (size_t)(p->to - p->from));
}

/* A known action with its value, if it has one. */
static void judge_action(struct cursor *c, struct job_text *out, const struct pattern *p,
                         const struct action_word *a, const char *from, const char *value,
                         size_t value_len) {
    struct place place = place_of(c, from);
    if (!a->built) {
        mistake_add(c->mistakes, place, "not_built",
                    "remove it: this version has skip, keep, append and key=(column,...)",
                    "action \"%s\": not built yet in this version", a->word);
        return;
    }
    if (p->count > 2) {
        mistake_add(c->mistakes, p->place, "pattern", "use [schema.]table",
                    "\"%s\" is an action on tables, and this pattern names a column", a->word);
        return;
    }
    if (a->wants_value != (value != NULL)) {
        mistake_add(c->mistakes, place, "action_value", a->wants_value ? "key=(a,b)" : NULL,
                    a->wants_value ? "action \"%s\" needs a value" : "action \"%s\" takes no value",
                    a->word);
        return;
    }
    char *key = NULL;
    if (a->wants_value) {
        key = parse_key(c, value, value_len);
        if (!key) {
            return;
        }
    }
    add_rule(c, out, p, a->action, key);
}

static void parse_actions(struct cursor *c, struct job_text *out, const struct pattern *p) {
    if (at_line_end(c)) {
        mistake_add(c->mistakes, place_of(c, c->at), "rule", ACTION_HINT, "no action after \":\"");
        return;
    }
    while (!at_line_end(c)) {
        const char *from = c->at;
        while (c->at < c->end && !is_blank(*c->at) && *c->at != '=') {
            c->at++;
        }
        char *word = xstrndup(from, (size_t)(c->at - from));
        const char *value = NULL;
        char *text = NULL;
        size_t value_len = 0;
        int lost = 0;
        if (c->at < c->end && *c->at == '=') {
            c->at++;
            lost = take_value(c, &value, &value_len, &text);
        }
        const struct action_word *a = action_find(word);
        if (!lost && c->at < c->end && !is_blank(*c->at)) {
            found(c, c->at, "action_value", NULL, "right after a value: a blank is missing");
            lost = -1;
        } else if (!a) {
            action_unknown(c, from, word);
        } else if (!lost && text && a->built && a->wants_value) {
            mistake_add(c->mistakes, place_of(c, value), "key_columns", "key=(a,b)",
                        "action \"%s\" takes columns, not a 'text'", a->word);
        } else if (!lost) {
            judge_action(c, out, p, a, from, value, value_len);
        }
        free(text);
        free(word);
        if (lost) {
            return;
        }
    }
}

static bool has_arrow(const struct cursor *c) {
    for (const char *p = c->at; c->end - p > 3; p++) {
        if (memcmp(p, " -> ", 4) == 0) {
            return true;
        }
    }
    return false;
}

static void parse_rule(struct cursor *c, struct job_text *out) {
    struct pattern p;
    if (has_arrow(c)) {
        mistake_add(c->mistakes, place_of(c, c->at), "second_job", "put it into a file of its own",
                    "a second job: a file holds one");
        return;
    }
    if (take_pattern(c, &p) == 0) {
        parse_actions(c, out, &p);
    }
    pattern_release(&p);
}

/* --- lines --------------------------------------------------------------------------------------
 */

/* Bytes that are not UTF-8, and control characters: one mistake a line. */
static bool line_is_text(struct cursor *c) {
    for (const char *p = c->start; p < c->end;) {
        int n = utf8_length((const uint8_t *)p, (const uint8_t *)c->end);
        unsigned char b = (unsigned char)*p;
        if (n < 0) {
            mistake_add(c->mistakes, place_of(c, p), "not_utf8", "save the file as UTF-8",
                        "a byte that is not UTF-8 (0x%02x)", b);
            return false;
        }
        if ((b < 0x20 && b != '\t') || b == 0x7F) {
            mistake_add(c->mistakes, place_of(c, p), "control_character", NULL,
                        "a control character (0x%02x)", b);
            return false;
        }
        p += n;
    }
    return true;
}

void job_text_parse(const char *text, size_t len, struct mistakes *mistakes, struct job_text *out) {
    *out = (struct job_text){ .rules = NULL };
    struct cursor c = { .line = 0, .mistakes = mistakes };
    if (len > JOB_TEXT_BYTES_MAX) {
        mistake_add(mistakes, (struct place){ 1, 1 }, "too_long", NULL,
                    "a job text of more than 1 MiB");
        return;
    }
    const char *at = text;
    const char *end = text + len;
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        at += 3; /* the mark that some editors put before UTF-8 */
    }
    bool seen = false;
    while (at < end) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        const char *stop = feed ? feed : end;
        c.start = c.at = at;
        c.end = stop > at && stop[-1] == '\r' ? stop - 1 : stop;
        c.line++;
        at = feed ? feed + 1 : end;
        bool empty = at_line_end(&c);
        if (!line_is_text(&c)) {
            seen = seen || !empty;
        } else if (!empty && !seen) {
            seen = true;
            parse_job(&c, out);
        } else if (!empty) {
            parse_rule(&c, out);
        }
    }
    if (!seen) {
        mistake_add(mistakes, (struct place){ c.line ? c.line : 1, 1 }, "job_line", JOB_FORM,
                    "no job in this text");
    }
}

void job_text_release(struct job_text *t) {
    for (uint32_t i = 0; i < t->rule_count; i++) {
        free(t->rules[i].space.text);
        free(t->rules[i].name.text);
        free(t->rules[i].key);
        free(t->rules[i].pattern);
    }
    free(t->rules);
    *t = (struct job_text){ .rules = NULL };
}
