/* Where ${env:X} and ${file:/p} of a job text come from: a table of functions, so that tests and
 * fuzzing need neither. What they give is put in after the URL is split, never parsed again, never
 * printed. Thread: the main thread. */
#pragma once
#include "cdc/base/buf.h"

#define PUT_IN_BYTES_MAX (64u << 10)

struct put_in {
    void *ctx;
    /* NULL = not set. */
    const char *(*env)(void *ctx, const char *name);
    /* The file's bytes; -1 with `why` (64 bytes and more) filled. */
    int (*file)(void *ctx, const char *path, struct buf *out, char *why, size_t why_cap);
};
/* The process's environment and the system's files. */
extern const struct put_in put_in_os;
