/* The one writer of a jsonl folder: changelog lines into a staged file. Its functions fill
 * jsonl_ops. Thread: the writer's task; jsonl_part_take and jsonl_part_free: the commit task. */
#pragma once
#include "cdc/sink.h"
#include "sinks/objects/ledger_staged.h"

struct jsonl_writer_config {
    struct env *env;
    const struct ledger_place *place; /* borrowed */
    int (*put_logpos)(struct buf *out, struct logpos pos);
    uint64_t seq; /* of the next commit, for the staged name */
};
void jsonl_writer_new(const struct jsonl_writer_config *config, const struct sink_ops *ops,
                      struct sink_writer **out);
int jsonl_writer_stage(struct sink_writer *w, const struct stage_item *item, struct err *err);
int jsonl_writer_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out, struct err *err);
void jsonl_writer_close(struct sink_writer *w);

/* What a part is here. */
struct jsonl_part {
    struct ledger_staged *staged;
    uint64_t rows; /* lines with an op */
};
static inline struct jsonl_part *jsonl_part_of(struct sink_part *part) {
    return (struct jsonl_part *)part;
}
void jsonl_part_free(struct sink_part *part, bool committed);
