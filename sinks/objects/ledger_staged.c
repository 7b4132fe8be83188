/* Staged files. See ledger_staged.h. */
#include "sinks/objects/ledger_staged.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "cdc/base/clock.h"

enum { NAME_TRIES = 8 };

struct ledger_staged *ledger_staged_new(struct env *env, const struct ledger_place *place,
                                        uint64_t seq, struct err *err) {
    for (int i = 0; i < NAME_TRIES; i++) {
        uint64_t random;
        rng_bytes(&random, sizeof random);
        char *path = xasprintf("%s/.%016" PRIu64 ".%016" PRIx64, place->dir, seq, random);
        struct file *file = NULL;
        enum files_result made = files_create_excl(env->files, path, &file, err);
        if (made == FILES_OK) {
            struct ledger_staged *s = xcalloc(1, sizeof *s);
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
    err_set(err, ERR_FATAL, ledger_code(place, "random").text,
            "every random name in \"%s\" is taken", place->dir);
    return NULL;
}

int ledger_staged_write(struct ledger_staged *s, const void *p, size_t len, struct err *err) {
    CHECK(!s->to);
    if (file_write(s->file, p, len, err)) {
        return -1;
    }
    s->size += len;
    s->crc = libdeflate_crc32(s->crc, p, len);
    return 0;
}

void ledger_staged_free(struct ledger_staged *s, bool remove) {
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
