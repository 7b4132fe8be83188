/* One table on the writer's side: rows become data files, changes of rows become dead positions,
 * and the key index says where the rows are. What one commit needs is handed over at the seal
 * (ice_part.h).
 *
 *   snapshot rows of a range that never joined   appended, nobody looks for their keys
 *   everything else                              folded by key (ice_fold.h), looked up, old row
 * dead, new row written
 *
 * An inserted key that lives already stops the job; an updated one that does not is written, a
 * deleted one that does not is nothing. Any error leaves the stage of no use: the run goes back to
 * the last commit. Thread: the writer's. */
#pragma once
#include "sinks/iceberg/ice_part.h"

struct ice_stage_config {
    struct env *env;
    struct store *store;
    const char *job;
    uint64_t epoch;
    int (*put_logpos)(struct buf *out, struct logpos pos);
    const char *index_dir; /* of this table's key index */
    uint64_t index_bytes;  /* its memory */
    struct parquet_options parquet;
    uint64_t file_bytes; /* a data file ends at about so many */
    uint64_t
        open_bytes_max; /* of encoded pages held in open files: then the largest gives them up */
    uint32_t open_files_max; /* partitions written to at once */
    struct ice_schema_rules rules;
    const char *partition; /* the user's spec for new tables; NULL = none */
    int format_version;    /* of new tables */
};
struct ice_stage;
/* source: the table as of the first rows. base: metadata_location; NULL = there is no table. Config
 * is borrowed. Reads the table and makes the key index fit it. */
int ice_stage_open(const struct ice_stage_config *config, const struct schema *source,
                   const char *base, struct ice_stage **out, struct err *err);
void ice_stage_close(struct ice_stage *st); /* drops what was not sealed; NULL allowed */
/* ROWS, GENERATION or REMOVE of this table. */
int ice_stage_item(struct ice_stage *st, const struct stage_item *item, struct err *err);
bool ice_stage_touched(const struct ice_stage *st); /* since the last seal */
/* *out is filled and its arrays are the caller's. Folders of its files are merged into `folders`.
 */
int ice_stage_seal(struct ice_stage *st, struct store_folders *folders, struct ice_part_table *out,
                   struct err *err);
/* Bytes of encoded pages held in open files. */
size_t ice_stage_memory(const struct ice_stage *st);
/* Gives them up: row groups end. */
int ice_stage_flush(struct ice_stage *st, struct err *err);
