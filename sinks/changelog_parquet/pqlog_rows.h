/* Changes as rows of a Parquet changelog: cells as lake columns, and the columns that describe the
 * change. See pqlog.h for what each holds. Thread: the writer's; nothing is allocated per row or
 * cell once warm. Errors: those of lake_column_of and parquet_writer_add; FATAL "key_not_carried".
 */
#pragma once
#include "cdc/sink.h"
#include "sinks/changelog_parquet/pqlog_file.h"

/* One row to be. Batches are named by their index in the item. */
struct pqlog_row {
    uint32_t batch, row;
    uint32_t old_batch, old_row; /* where cells that `row` does not carry may be; old_batch =
                                    PQLOG_NO_BATCH: nowhere */
    int64_t order;
    char op; /* r c u d; t has no cells */
    bool keys_only;
};
#define PQLOG_NO_BATCH UINT32_MAX

struct pqlog_rows;
struct pqlog_rows *pqlog_rows_new(int (*put_logpos)(struct buf *out, struct logpos pos));
void pqlog_rows_free(struct pqlog_rows *r); /* NULL allowed */
/* Before the first call with an item: what is kept of one before is void. */
void pqlog_rows_begin(struct pqlog_rows *r, const struct stage_item *item);
/* How many of rows[0..count), at least one, can be written together: they lie in one batch. */
uint32_t pqlog_rows_run(const struct stage_item *item, const struct pqlog_row *rows,
                        uint32_t count);
/* Writes such a run. f fits the batch's schema. */
int pqlog_rows_put(struct pqlog_rows *r, struct pqlog_file *f, const struct pqlog_row *rows,
                   uint32_t count, struct err *err);
/* The row that begins a generation. */
int pqlog_rows_put_generation(struct pqlog_rows *r, struct pqlog_file *f, int64_t order,
                              struct err *err);
