/* How far the first reading of tables is, said every 10 s: a line a table; on a terminal one line
 * that is drawn over. Thread: main. */
#pragma once
#include "cdc/base/log.h"
#include "engine/job.h"

struct progress;
struct progress *progress_new(struct job *job, struct log *log);
void progress_free(struct progress *p); /* NULL is fine */
/* Call it about once a second. ask: look even if there is nothing to say yet. True = the job has
 * tables, so its catalogue was read. */
bool progress_look(struct progress *p, int64_t now_us, bool ask);
