/* One table on the writer's side: rows become data files, changes of rows become dead positions,
 * and the key index says where the rows are. What one commit needs is handed over at the seal
 * (ice_part.h).
 *
 *   snapshot rows of a range that never joined   appended, nobody looks for their keys
 *   everything else                              folded by key (ice_fold.h), looked up, old row
 *                                                dead, new row written
 *   a table without a key                        a multiset of whole rows (ice_stage_keyless.c)
 *
 * An inserted key that lives already stops the job; an updated one that does not is written, a
 * deleted one that does not is nothing. Any error leaves the stage of no use: the run goes back to
 * the last commit. Thread: the writer's. */
#pragma once
#include "sinks/iceberg/ice_part.h"

/* What the stages of one writer take turns with: some MiB that no idle table holds. */
struct ice_tools;
/* index_bytes: memory of the key indexes of all of them. */
struct ice_tools *ice_tools_new(uint64_t index_bytes);
void ice_tools_free(struct ice_tools *tools); /* NULL allowed */

struct ice_stage_config {
    struct env *env;
    struct store *store;
    struct ice_tools *tools;
    const char *job;
    uint64_t epoch;
    int (*put_logpos)(struct buf *out, struct logpos pos);
    /* The table's present metadata_location, owned by the caller; NULL = there is no table. */
    int (*locate)(void *arg, const char *space, const char *name, char **location, struct err *err);
    void *locate_arg;
    const char *index_dir; /* of this table's key index */
    uint64_t index_bytes;  /* its memory at most; all tables of a writer share what tools have */
    uint64_t hash_mask;    /* which bits of a key's hash count; 0 = all. Few: for tests */
    struct parquet_options parquet;
    int64_t history_ms;  /* how long snapshots are kept; 0 = long */
    uint64_t file_bytes; /* a data file ends at about so many */
    uint64_t
        open_bytes_max; /* of encoded pages held in open files: then the largest gives them up */
    uint32_t open_files_max; /* rows of more partitions are held until the seal (ice_hold.h) */
    struct ice_schema_rules rules;
    bool soft_deletes;     /* deleted rows stay, marked; needs ICE_EXTRA_DELETED */
    bool ignore_truncate;  /* truncated rows stay */
    const char *partition; /* the user's spec for new tables; NULL = none */
    const char *sort; /* the user's sort order for new tables; NULL: files are not sorted, whatever
                         order their table has */
    int format_version; /* of new tables */
};
struct ice_stage;
/* source: the table as of the first rows. base: metadata_location; NULL = there is no table. Config
 * is borrowed. Reads the table's metadata and nothing else: the key index is made to fit the table
 * when the first row needs it, so that a new generation needs nothing of the old one's files. */
int ice_stage_open(const struct ice_stage_config *config, struct schema *source, const char *base,
                   struct ice_stage **out, struct err *err);
/* Drops what was not sealed. Where nothing was staged since the last seal, the index is stored:
 * whoever opens the table next finds it. NULL allowed. */
void ice_stage_close(struct ice_stage *st);
/* ROWS, GENERATION or REMOVE: all batches are of this table. Those of ROWS may be of several
 * versions of it. */
int ice_stage_item(struct ice_stage *st, const struct stage_item *item, struct err *err);
/* Where the error says that the table's key index is wrong: what is stored of it is not used again.
 */
void ice_stage_void_index(const struct ice_stage_config *config, const struct err *err);
const char *ice_stage_label(const struct ice_stage *st); /* of the table */
/* Memory of the key index that it can give up, and doing so. */
uint64_t ice_stage_index_bytes(const struct ice_stage *st);
int ice_stage_yield_index(struct ice_stage *st, struct err *err);
uint64_t ice_tools_index_bytes(const struct ice_tools *tools); /* of all stages together */
bool ice_stage_touched(const struct ice_stage *st);            /* since the last seal */
/* *out is filled and its arrays are the caller's. Folders of its files are merged into `folders`.
 */
int ice_stage_seal(struct ice_stage *st, struct store_folders *folders, struct ice_part_table *out,
                   struct err *err);
/* Bytes of encoded pages held in open files. */
size_t ice_stage_memory(const struct ice_stage *st);
/* Gives them up: row groups end. */
int ice_stage_flush(struct ice_stage *st, struct err *err);
