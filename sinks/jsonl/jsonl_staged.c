/* Staged files. See jsonl_staged.h. */
#include "sinks/jsonl/jsonl_staged.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "cdc/base/clock.h"

enum { NAME_TRIES = 8 };

struct jsonl_staged *jsonl_staged_new(struct env *env, const char *dir, uint64_t seq,
                                      struct err *err) {
    for (int i = 0; i < NAME_TRIES; i++) {
        uint64_t random;
        rng_bytes(&random, sizeof random);
        char *path = xasprintf("%s/.%016" PRIu64 ".%016" PRIx64, dir, seq, random);
        struct file *file = NULL;
        enum files_result made = files_create_excl(env->files, path, &file, err);
        if (made == FILES_OK) {
            struct jsonl_staged *s = xcalloc(1, sizeof *s);
            s->env = env;
            s->path = path;
            s->file = file;
            return s;
        }
        free(path);
        if (made == FILES_FAILED) {
            return NULL;
        }
    }
    err_set(err, ERR_FATAL, "jsonl_random", "every random name in \"%s\" is taken", dir);
    return NULL;
}

int jsonl_staged_write(struct jsonl_staged *s, const void *p, size_t len, struct err *err) {
    CHECK(!s->to);
    if (file_write(s->file, p, len, err)) {
        return -1;
    }
    s->size += len;
    s->crc = libdeflate_crc32(s->crc, p, len);
    return 0;
}

void jsonl_staged_free(struct jsonl_staged *s, bool remove) {
    if (!s) {
        return;
    }
    file_close(s->file);
    if (remove && !s->doubt) {
        struct err err = ERR_INIT;
        if (files_unlink(s->env->files, s->path, &err) == FILES_FAILED && s->env->log) {
            log_warn(s->env->log, "commit", "staged_left", "%s",
                     err.text); /* the next claim removes it */
        }
    }
    free(s->path);
    free(s->to);
    free(s);
}
