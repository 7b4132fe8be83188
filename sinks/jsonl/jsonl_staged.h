/* A staged file: created under `.<seq>.<16 random hex digits>`, written once from front to back,
 * never opened again. It becomes visible by a rename and by nothing else. Thread: the writer's
 * until it is sealed, then the commit task's. */
#pragma once
#include "cdc/base/env.h"

struct jsonl_staged {
    struct env *env;
    char *path;
    struct file *file;
    uint64_t size;
    uint32_t crc;
    char *
        to; /* position of the commit line, once it is written and synced; NULL position = "null" */
    bool doubt; /* a rename of it had an unknown outcome: it is never removed by us */
};
/* NULL on error. */
struct jsonl_staged *jsonl_staged_new(struct env *env, const char *dir, uint64_t seq,
                                      struct err *err);
int jsonl_staged_write(struct jsonl_staged *s, const void *p, size_t len,
                       struct err *err) TR_MUST_CHECK;
/* remove: its name may go (ignored for one in doubt). NULL allowed. */
void jsonl_staged_free(struct jsonl_staged *s, bool remove);
