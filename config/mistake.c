/* The list of mistakes: bounded, so that a file of garbage gives a page and not a flood. Pure. */
#include "config/mistake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"

void mistakes_init(struct mistakes *m) { *m = (struct mistakes){ .at = NULL }; }

void mistakes_release(struct mistakes *m) {
    free(m->at);
    mistakes_init(m);
}

static struct mistake *mistake_new(struct mistakes *m, struct place place, const char *code) {
    CHECK(strlen(code) < sizeof m->at->code);
    if (m->count == MISTAKES_MAX) {
        m->more++;
        return NULL;
    }
    if (!m->at) {
        m->at = xcalloc(MISTAKES_MAX, sizeof *m->at);
    }
    struct mistake *one = &m->at[m->count++];
    one->place = place;
    snprintf(one->code, sizeof one->code, "%s", code);
    return one;
}

void mistake_add(struct mistakes *m, struct place place, const char *code, const char *cure,
                 const char *fmt, ...) {
    struct mistake *one = mistake_new(m, place, code);
    if (!one) {
        return;
    }
    char raw[sizeof one->text * 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    escape_append(one->text, sizeof one->text, raw, strlen(raw));
    if (cure) {
        escape_append(one->cure, sizeof one->cure, cure, strlen(cure));
    }
}

void mistake_add_err(struct mistakes *m, struct place place, const struct err *err) {
    mistake_add(m, place, err->code, err->cure[0] ? err->cure : NULL, "%s", err->text);
}

static int by_place(const void *a, const void *b) {
    const struct mistake *x = a;
    const struct mistake *y = b;
    if (x->place.line != y->place.line) {
        return x->place.line < y->place.line ? -1 : 1;
    }
    return x->place.column < y->place.column ? -1 : x->place.column > y->place.column;
}

void mistakes_sort(struct mistakes *m) {
    if (m->count > 1) {
        qsort(m->at, m->count, sizeof *m->at, by_place);
    }
}
