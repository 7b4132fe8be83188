/* Taking values out of texts: see hide.h. Values are kept as they are, and as an error or a JSON
 * string would write them. Few values and short texts: each place is compared with each value. */
#include "config/hide.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"

enum { CUT_MIN = 16, ANYWHERE_MIN = 8, WORD_MIN = 4 };

struct hidden {
    char *value, *shown;
    size_t len;
};
struct hide {
    struct hidden *at;
    size_t count, room;
};

struct hide *hide_new(void) {
    return xcalloc(1, sizeof(struct hide));
}

void hide_free(struct hide *h) {
    for (size_t i = 0; h && i < h->count; i++) {
        explicit_bzero(h->at[i].value, h->at[i].len);
        free(h->at[i].value);
        free(h->at[i].shown);
    }
    if (h) {
        free(h->at);
    }
    free(h);
}

static void add_form(struct hide *h, const char *value, size_t len, const char *shown) {
    for (size_t i = 0; i < h->count; i++) {
        if (h->at[i].len == len && memcmp(h->at[i].value, value, len) == 0) {
            return;
        }
    }
    if (h->count == h->room) {
        h->room = h->room ? h->room * 2 : 16;
        h->at = xrealloc(h->at, h->room * sizeof *h->at);
    }
    h->at[h->count++] =
        (struct hidden){ .value = xstrndup(value, len), .shown = xstrdup(shown), .len = len };
}

static void form_release(struct buf *form) {
    if (form->len > 0) {
        explicit_bzero(form->data, form->len);
    }
    buf_release(form);
}

void hide_add(struct hide *h, const char *value, const char *shown) {
    size_t len = strlen(value);
    struct buf form;
    if (len == 0) {
        return;
    }
    add_form(h, value, len, shown);
    buf_init(&form, SIZE_MAX);
    escape_put(&form, value, len);
    add_form(h, form.data, form.len, shown);
    form_release(&form);
    buf_init(&form, SIZE_MAX);
    (void)json_put_string(&form, value,
                          len); /* what is no UTF-8 becomes U+FFFD, as in the answer */
    add_form(h, form.data + 1, form.len - 2, shown);
    form_release(&form);
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c & 0x80) != 0;
}

/* How many bytes at `at` are this value; 0 = none that must go. */
static size_t match(const struct hidden *v, const char *text, size_t len, size_t at) {
    size_t n = 0;
    while (n < v->len && at + n < len && text[at + n] == v->value[n]) {
        n++;
    }
    if (n < v->len) {
        return n >= CUT_MIN ? n : 0;
    }
    char before = at > 0 ? text[at - 1] : '\0';
    char after = at + n < len ? text[at + n] : '\0';
    bool whole =
        !(is_word(before) && is_word(text[at])) && !(is_word(after) && is_word(text[at + n - 1]));
    bool goes = n >= ANYWHERE_MIN || (n >= WORD_MIN && whole) || (before == '"' && after == '"');
    return goes ? n : 0;
}

/* Appends text[0, len) without the values. */
static void put_hidden(const struct hide *h, struct buf *out, const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        const struct hidden *found = NULL;
        size_t longest = 0;
        for (size_t i = 0; i < h->count; i++) {
            size_t n = match(&h->at[i], text, len, at);
            if (n > longest) {
                longest = n;
                found = &h->at[i];
            }
        }
        if (found) {
            buf_puts(out, found->shown);
            at += longest;
        } else {
            buf_putc(out, text[at++]);
        }
    }
}

static void replace(struct buf *text, struct buf *by) {
    buf_clear(text);
    buf_put(text, by->data, by->len);
    buf_release(by);
}

void hide_text(const void *hide, struct buf *text) {
    const struct hide *h = hide;
    if (!h || h->count == 0 || text->len == 0) {
        return;
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    put_hidden(h, &out, text->data, text->len);
    replace(text, &out);
}

void hide_json(const void *hide, struct buf *text) {
    const struct hide *h = hide;
    if (!h || h->count == 0 || text->len == 0) {
        return;
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    const char *end = text->data + text->len;
    for (const char *p = text->data; p < end;) {
        if (*p != '"') {
            buf_putc(&out, *p++);
            continue;
        }
        const char *close = p + 1;
        while (close < end && *close != '"') {
            close += *close == '\\' && end - close > 1 ? 2 : 1;
        }
        size_t len = (size_t)((close < end ? close + 1 : end) - p);
        if (close + 1 < end && close[1] == ':') {
            buf_put(&out, p, len);
        } else { /* with its quotes, which short values are known by */
            put_hidden(h, &out, p, len);
        }
        p += len;
    }
    replace(text, &out);
}
