/* The error value. A fallible function returns 0 or -1 and fills a struct err that its caller owns;
 * no allocation happens on the error path. The kind says what the engine must do, and only engine/
 * does it. A fault is logged once, by whoever decides. Text: what failed first, the subject in
 * quotes, why; the cure is a command or SQL to paste. Neither holds a secret. */
#pragma once
#include "cdc/base/check.h"

enum err_kind {
    ERR_NONE = 0,
    ERR_RETRY,  /* the same call may succeed later; nothing changed */
    ERR_REWIND, /* state of this run is lost (connection, staged data): restart the job from its
                   last commit */
    ERR_FATAL,  /* stop the job; a person must act */
};

/* Exit codes of INTERFACE; `exit` of a struct err is what the process ends with if this error stops
 * it. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 2,
    EXIT_PLAN = 3,
    EXIT_FENCED = 4,
    EXIT_LINEAGE = 5,
    EXIT_DIFFERENCE = 6,
};

struct err {
    enum err_kind kind;
    int exit;       /* enum exit_code; EXIT_ERROR unless said otherwise */
    char code[40];  /* stable snake_case, listed in the docs, e.g. "slot_lost" */
    char text[640]; /* one line, no newline, control characters escaped */
    char cure[640]; /* one line; "" if there is none */
};

#define ERR_INIT ((struct err){ .kind = ERR_NONE })

/* Each returns -1, so that `return err_set(...)` reads well. Arguments may come from a server: they
 * are escaped. */
int err_set(struct err *err, enum err_kind kind, const char *code, const char *fmt, ...)
    TR_PRINTF(4, 5);
int err_cure(struct err *err, const char *fmt, ...) TR_PRINTF(2, 3);
int err_exit(struct err *err, int exit_code);
/* Puts "PREFIX: " before the text: the caller's context, outermost first. */
int err_wrap(struct err *err, const char *fmt, ...) TR_PRINTF(2, 3);
void err_clear(struct err *err);
const char *err_kind_name(enum err_kind kind);

/* The assertions around every call through a table of functions: before, err says nothing; after,
 * an answer of -1 has an err that says of what kind it is and which. Returns the answer. */
static inline void err_before_call(const struct err *err) { CHECK(err && err->kind == ERR_NONE); }
static inline int err_after_call(int rc, const struct err *err) {
    CHECK(rc == 0 || (rc == -1 && err->kind != ERR_NONE && err->code[0]));
    return rc;
}
