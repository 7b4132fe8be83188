/* A ledger's staged file: created under `.<seq>.<16 random hex digits>`, written once from front to
 * back, never opened again. It becomes visible by a rename and by nothing else. Thread: the
 * writer's until it is sealed, then the commit task's. */
#pragma once
#include "cdc/base/env.h"
#include "sinks/objects/ledger_folder.h"

struct ledger_staged {
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
struct ledger_staged *ledger_staged_new(struct env *env, const struct ledger_place *place,
                                        uint64_t seq, struct err *err);
int ledger_staged_write(struct ledger_staged *s, const void *p, size_t len,
                        struct err *err) TR_MUST_CHECK;
/* remove: its name may go (ignored for one in doubt). NULL allowed. */
void ledger_staged_free(struct ledger_staged *s, bool remove);
