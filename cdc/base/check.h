/* Assertions that stay on in release builds. They check our own bugs, in pairs (before writing,
 * after reading), and never input: a crash is the tested path. Also the attribute macros of the
 * project. */
#pragma once
#include <stddef.h>

#define TR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define TR_NORETURN __attribute__((noreturn))
#define TR_MUST_CHECK __attribute__((warn_unused_result))
#define TR_UNUSED __attribute__((unused))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

TR_NORETURN void check_failed(const char *file, int line, const char *text);
#define CHECK(cond) (LIKELY(cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

/* Allocation that aborts when the system has no memory. Sizes in bytes; xcalloc zeroes. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) TR_PRINTF(1, 2) __attribute__((malloc, returns_nonnull));
