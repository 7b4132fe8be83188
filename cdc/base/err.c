/* The error value: formats, escapes and cuts its texts. Arguments may come from a server or from
 * the error itself, so everything is formatted into a buffer of its own first. Never allocates.
 * Thread: any; an error has one owner. */
#include "cdc/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cdc/base/escape.h"

/* Longer than a text, so that what is cut is cut by escape_append, which says so with dots. */
enum { FORMAT_BYTES = 1024 };

TR_PRINTF(3, 0)
static void format_escaped(char *out, size_t cap, const char *fmt, va_list args) {
    char raw[FORMAT_BYTES];
    int n = vsnprintf(raw, sizeof raw, fmt, args);
    CHECK(n >= 0);
    out[0] = '\0';
    escape_append(out, cap, raw, strlen(raw));
}

int err_set(struct err *err, enum err_kind kind, const char *code, const char *fmt, ...) {
    CHECK(err && kind != ERR_NONE);
    CHECK(strlen(code) < sizeof err->code);
    char text[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    format_escaped(text, sizeof text, fmt, args);
    va_end(args);
    err->kind = kind;
    err->exit = EXIT_ERROR;
    memmove(err->code, code, strlen(code) + 1);
    memcpy(err->text, text, strlen(text) + 1);
    err->cure[0] = '\0';
    return -1;
}

int err_cure(struct err *err, const char *fmt, ...) {
    CHECK(err && err->kind != ERR_NONE);
    char cure[sizeof err->cure];
    va_list args;
    va_start(args, fmt);
    format_escaped(cure, sizeof cure, fmt, args);
    va_end(args);
    memcpy(err->cure, cure, strlen(cure) + 1);
    return -1;
}

int err_exit(struct err *err, int exit_code) {
    CHECK(err && err->kind != ERR_NONE);
    CHECK(exit_code >= EXIT_ERROR && exit_code <= EXIT_DIFFERENCE);
    err->exit = exit_code;
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...) {
    CHECK(err && err->kind != ERR_NONE);
    char text[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    format_escaped(text, sizeof text, fmt, args);
    va_end(args);
    escape_append(text, sizeof text, ": ", 2);
    escape_append(text, sizeof text, err->text, strlen(err->text));
    memcpy(err->text, text, strlen(text) + 1);
    return -1;
}

void err_clear(struct err *err) { *err = ERR_INIT; }

const char *err_kind_name(enum err_kind kind) {
    switch (kind) {
    case ERR_NONE:
        return "none";
    case ERR_RETRY:
        return "retry";
    case ERR_REWIND:
        return "rewind";
    case ERR_FATAL:
        return "fatal";
    }
    check_failed(__FILE__, __LINE__, "an error kind");
}
