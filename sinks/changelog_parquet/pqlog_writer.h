/* The one writer of a folder of Parquet changelogs: changes in log order, each to the open file of
 * its table. Its functions fill pqlog_ops. Open files hold no more memory than they may: the one
 * that holds most ends its row group. Of more than files_max the one that was idle longest is
 * ended. Thread: the writer's task; pqlog_part_free: the commit task. */
#pragma once
#include "cdc/sink.h"
#include "sinks/changelog_parquet/pqlog_file.h"
#include "sinks/objects/ledger_staged.h"

struct pqlog_writer_config {
    struct env *env;
    const char *dir; /* lasting */
    struct pqlog_file_config file;
    int (*put_logpos)(struct buf *out, struct logpos pos);
    uint64_t epoch;
    uint64_t open_bytes_max;
    uint64_t file_bytes; /* a file ends at about so many */
    uint32_t files_max;
};
/* FATAL "parquet_order": the epoch is too high for _order. */
int pqlog_writer_new(const struct pqlog_writer_config *config, const struct sink_ops *ops,
                     struct sink_writer **out, struct err *err);
int pqlog_writer_stage(struct sink_writer *w, const struct stage_item *item, struct err *err);
int pqlog_writer_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out, struct err *err);
void pqlog_writer_close(struct sink_writer *w);

/* What a part is here: files that are whole, synced and settled, and have no visible name yet. */
struct pqlog_part {
    struct env *env;
    const char *dir; /* lasting */
    struct pqlog_entries files;
    uint64_t rows;
    /* The commit task's. */
    struct ledger_staged *staged; /* the commit file, once it is written; the same at every try */
    bool stands;                  /* it is published: the files are the folder's from then on */
};
static inline struct pqlog_part *pqlog_part_of(struct sink_part *part) {
    return (struct pqlog_part *)part;
}
void pqlog_part_free(struct sink_part *part, bool committed);
