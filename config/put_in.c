/* What a job text takes from the environment and from files. Reads only; keeps nothing. */
#include "config/put_in.h"

#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/files.h"

static const char *os_env(void *ctx, const char *name) {
    (void)ctx;
    return getenv(name);
}

static int os_file(void *ctx, const char *path, struct buf *out, char *why, size_t why_cap) {
    (void)ctx;
    struct err err = ERR_INIT;
    struct file *file = NULL;
    enum files_result r = files_open_read(files_os(), path, &file, &err);
    if (r == FILES_ABSENT) {
        snprintf(why, why_cap, "no such file");
        return -1;
    }
    if (r != FILES_OK) {
        const char *colon = strrchr(err.text, ':');
        snprintf(why, why_cap, "%s", colon ? colon + 2 : err.text);
        return -1;
    }
    char *bytes = xmalloc(PUT_IN_BYTES_MAX + 1);
    size_t got = 0;
    int rc = file_read_at(file, 0, bytes, PUT_IN_BYTES_MAX + 1, &got, &err);
    file_close(file);
    if (rc) {
        snprintf(why, why_cap, "it cannot be read");
    } else if (got > PUT_IN_BYTES_MAX) {
        snprintf(why, why_cap, "it is longer than 64 KiB");
        rc = -1;
    } else {
        buf_put(out, bytes, got);
    }
    explicit_bzero(bytes, got);
    free(bytes);
    return rc;
}

const struct put_in put_in_os = { .env = os_env, .file = os_file };
