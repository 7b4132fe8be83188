/* One data file of a Parquet changelog being written: rows of one table and one schema, staged
 * under a name that readers skip. See pqlog.h for its columns. Thread: the writer's. Ending it
 * syncs it; its folder is settled by whoever seals. A failure leaves it of no use: abort it. */
#pragma once
#include "cdc/batch.h"
#include "sinks/changelog_parquet/pqlog_layout.h"
#include "sinks/objects/store.h"
#include "sinks/parquet/parquet_writer.h"

/* Columns that describe a change, in file order behind the table's. */
enum pqlog_column {
    PQLOG_OP,
    PQLOG_ORDER,
    PQLOG_TX,
    PQLOG_N,
    PQLOG_TS,
    PQLOG_POSITION,
    PQLOG_GENERATION,
    PQLOG_UNCHANGED,
    PQLOG_COLUMNS,
};
struct lake_type pqlog_column_type(enum pqlog_column column);

struct pqlog_file_config {
    struct store *store;
    const char *job;
    const char *prefix; /* of the change columns' names */
    const char *text;   /* a,public.t.b: columns stored as strings; NULL */
    struct parquet_options parquet;
};
struct pqlog_file;
/* Errors: those of store_create; FATAL "parquet_column_taken": a column of the table has the name
 * of one of ours. */
int pqlog_file_open(const struct pqlog_file_config *config, uint64_t epoch, struct schema *schema,
                    struct pqlog_file **out, struct err *err);
/* Do rows of this schema fit in? */
bool pqlog_file_fits(const struct pqlog_file *f, const struct schema *schema);
/* Types of the table's own columns. */
const struct lake_type *pqlog_file_types(const struct pqlog_file *f);
/* The table's columns, then PQLOG_COLUMNS ones. */
int pqlog_file_add(struct pqlog_file *f, const struct lake_column *columns, uint32_t rows,
                   struct err *err);
uint64_t pqlog_file_bytes(const struct pqlog_file *f); /* written, and held encoded */
size_t pqlog_file_memory(const struct pqlog_file *f);
int pqlog_file_flush(struct pqlog_file *f, struct err *err); /* gives memory back */
/* Footer, sync. f is freed whatever comes of it. */
int pqlog_file_finish(struct pqlog_file *f, struct store_folders *folders, struct pqlog_entry *out,
                      struct err *err);
void pqlog_file_abort(struct pqlog_file *f); /* NULL allowed */
