/* What status shows of a job, published by its tasks and read by anybody. Thread: any. Locks: its
 * own waitq, a leaf. */
#pragma once
#include <stdint.h>

#include "cdc/base/buf.h"
#include "cdc/base/err.h"
#include "cdc/base/metrics.h"

struct status;
struct status *status_new(const char *job);
void status_free(struct status *s);
void status_phase(struct status *s,
                  const char *phase); /* a constant: starting, snapshot, streaming, finishing,
                                         rewinding, stopped */
void status_waits(struct status *s, const char *waits_for); /* a constant, "" = nothing */
void status_error(struct status *s, const struct err *err);
void status_commit(struct status *s, uint64_t epoch, uint64_t seq);
void status_log_end(struct status *s, const char *text, uint64_t offset, int64_t retained_bytes);
/* applied as text, its offset for the lag, and the tables as a JSON array. */
void status_progress(struct status *s, const char *applied, uint64_t offset,
                     const struct buf *tables);
void status_put_json(struct status *s, const struct metrics *metrics, struct buf *out);
