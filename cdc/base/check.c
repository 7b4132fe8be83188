/* What ends the process when we have a bug or the system has no memory: one line on standard error,
 * then abort. Written with write(2) alone, because the heap and stdio may be what is broken.
 * Thread: any. */
#include "cdc/base/check.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TR_NORETURN static void die(const char *line, int len, size_t cap) {
    size_t n = len < 0 ? 0 : (size_t)len < cap ? (size_t)len : cap - 1;
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* there is nobody left to tell */
    abort();
}

void check_failed(const char *file, int line, const char *text) {
    char out[512];
    int n = snprintf(out, sizeof out, "tailrace: bug: %s:%d: %s\n", file, line, text);
    die(out, n, sizeof out);
}

TR_NORETURN static void memory_failed(size_t size) {
    char out[128];
    int n =
        snprintf(out, sizeof out, "tailrace: the system has no %zu bytes of memory left\n", size);
    die(out, n, sizeof out);
}

void *xmalloc(size_t size) {
    void *p = malloc(size ? size : 1);
    if (UNLIKELY(!p)) {
        memory_failed(size);
    }
    return p;
}

void *xcalloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (UNLIKELY(!p)) {
        memory_failed(size && count > SIZE_MAX / size ? SIZE_MAX : count * size);
    }
    return p;
}

void *xrealloc(void *p, size_t size) {
    void *q = realloc(p, size ? size : 1);
    if (UNLIKELY(!q)) {
        memory_failed(size);
    }
    return q;
}

char *xstrdup(const char *s) { return xstrndup(s, strlen(s)); }

char *xstrndup(const char *s, size_t n) {
    size_t len = strnlen(s, n);
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *xasprintf(const char *fmt, ...) {
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    char *out = xmalloc((size_t)n + 1);
    vsnprintf(out, (size_t)n + 1, fmt, again);
    va_end(again);
    return out;
}
