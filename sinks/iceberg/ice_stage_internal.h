/* What the files of ice_stage.h share. */
#pragma once
#include "cdc/base/map.h"
#include "sinks/encode/stage_merge.h"
#include "sinks/iceberg/ice_fold.h"
#include "sinks/iceberg/ice_key.h"
#include "sinks/iceberg/ice_live.h"
#include "sinks/iceberg/ice_old_rows.h"
#include "sinks/iceberg/ice_outfile.h"
#include "sinks/iceberg/ice_stage.h"
#include "sinks/iceberg/key_index.h"

struct ice_stage {
    const struct ice_stage_config *config;
    char *label, *space, *name;
    char *base;
    int format_version;
    int32_t last_column_id;
    struct ice_schema schema; /* current one */
    struct ice_spec spec;
    struct schema *source; /* whose columns `bind` names; a reference */
    uint16_t *bind;        /* a field: the source's column, UINT16_MAX = none */
    uint32_t *key_fields;  /* fields of the key, in its order */
    uint32_t key_count;    /* 0 = keyless */
    struct ice_router *router;
    struct stage_merge merge;

    /* converting: one entry a field */
    struct lake_scratch **scratch;
    struct lake_builder *builders;
    struct lake_column *columns;
    void *zeros; /* a column of nulls */

    struct key_index *index; /* NULL: keyless */
    struct buf key;          /* scratch */
    struct ice_old_rows *old;
    struct ice_fold fold;
    struct ice_window *window; /* scratch of ice_stage_apply.c */

    /* since the last seal */
    bool touched, voids;
    struct ice_schema *new_schemas;
    uint32_t new_schema_count;
    struct arena arena;
    struct ice_file *added;
    uint32_t *added_numbers; /* their numbers in the index */
    uint32_t added_count;
    struct store_folders folders;
    struct ice_outfile **open; /* by group of the router; NULL = none */
    uint32_t open_count;
    struct map *dead; /* file number -> struct ice_bitmap */
    uint64_t changes; /* of the index since it was stored */
};

/* ice_stage.c */
/* The rows (NULL = 0..count-1) of a batch as lake columns in st->columns. skip: field -> its cells
 * are not converted where true; NULL = none. */
int ice_stage_convert(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                      uint32_t count, const bool *skip, struct err *err);
/* st->columns to data files; locs[i] = where row i lies. batch and rows as given to convert, to
 * take them apart by partition; batch NULL: the columns were put together otherwise. */
int ice_stage_write(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                    uint32_t count, uint64_t *locs, struct err *err);
int ice_stage_mark_dead(struct ice_stage *st, uint64_t loc, struct err *err);
/* The file with that number can be read: it is ended if it is open. */
int ice_stage_settle_file(struct ice_stage *st, uint32_t number, struct err *err);
/* The key's columns out of st->columns. */
void ice_stage_key_columns(const struct ice_stage *st, struct lake_column *out);

/* ice_stage_apply.c */
int ice_stage_apply(struct ice_stage *st, struct err *err); /* the fold's window; begins it anew */
int ice_stage_append(struct ice_stage *st, const struct batch *batch, struct err *err);
void ice_stage_window_free(struct ice_window *w);

/* ice_stage_index.c */
int ice_stage_open_index(struct ice_stage *st, const struct ice_metadata *metadata,
                         struct err *err);
int ice_stage_read_key(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err);
int ice_stage_store_index(struct ice_stage *st, int64_t snapshot_id, struct err *err);
