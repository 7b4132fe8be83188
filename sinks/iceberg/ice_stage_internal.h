/* What the files of ice_stage.h share. */
#pragma once
#include "cdc/base/map.h"
#include "sinks/encode/stage_merge.h"
#include "sinks/iceberg/ice_fold.h"
#include "sinks/iceberg/ice_hold.h"
#include "sinks/iceberg/ice_key.h"
#include "sinks/iceberg/ice_live.h"
#include "sinks/iceberg/ice_old_rows.h"
#include "sinks/iceberg/ice_order.h"
#include "sinks/iceberg/ice_outfile.h"
#include "sinks/iceberg/ice_stage.h"
#include "sinks/iceberg/key_index.h"

struct ice_window;
struct ice_deltas;
struct ice_tools {
    struct stage_merge merge;
    struct ice_fold fold;      /* empty between items */
    struct ice_window *window; /* ice_stage_apply.c's */
    struct ice_deltas *deltas; /* ice_stage_keyless.c's; empty between items */
    void *zeros;               /* a column of nulls */
    struct key_shared *indexes;
    struct buf key;   /* scratch */
    uint32_t *groups; /* BATCH_ROWS_MAX each: rows by partition */
    uint32_t *order;
    uint64_t *locs;
    uint64_t *hashes;
};

/* Cells of an extra column, a window's at most. */
struct ice_extra_cells {
    struct buf data, offsets, valid;
};
/* A field of the present schema. */
struct ice_stage_field {
    uint16_t source;      /* the source's column, UINT16_MAX = none */
    enum ice_extra extra; /* or one of ours */
    bool partition;       /* of the table is taken from it */
    struct buf missing;   /* keyless: as an image has it, the field's default; empty = null */
    struct lake_scratch *scratch;
    struct lake_builder builder;
    struct ice_extra_cells cells;
};

/* A data file that is written when it ends: its rows are held. */
struct ice_held_file {
    uint32_t group;  /* of the router */
    uint32_t number; /* of the key index */
    uint32_t slot;   /* of the hold */
    char *key;       /* NULL: it has ended */
};

struct ice_stage {
    const struct ice_stage_config *config;
    struct ice_tools *tools;
    char *label, *space, *name;
    char *base;
    int format_version;
    int32_t last_column_id;
    uint64_t hash_mask;
    struct ice_schema schema; /* current one */
    struct ice_spec spec;
    struct schema *source; /* whose columns `fields` names; a reference */
    struct ice_stage_field *fields;
    struct lake_column *columns; /* converted: one a field */
    uint32_t *key_fields;        /* fields of the key, in its order */
    enum ice_key_form *key_forms;
    struct lake_column *key_columns;
    uint32_t key_count;     /* 0 = keyless */
    uint32_t *image_fields; /* keyless: fields of the source, by id */
    uint32_t image_count;
    struct ice_router *router;
    struct ice_order order; /* of the table */
    bool sorts;             /* files are sorted by it: their rows are held */
    uint32_t order_fields[ICE_ORDER_FIELDS_MAX];

    struct key_index *index; /* NULL: no row was looked for, or taken out (keyless), yet */
    struct ice_metadata *base_metadata; /* as of `base`, until the index is made of it; NULL = the
                                           index begins empty, or keyless */
    struct ice_old_rows *old;
    uint64_t changes;        /* of the index since it was stored */
    uint32_t seals;          /* ... and so many */
    int64_t stored_us;       /* when */
    int64_t stored_snapshot; /* which it is tagged with; 0 = none */
    bool stored_sure;        /* that is committed, or there is none */
    int64_t sealed_snapshot; /* that the index describes; 0 = none, or something came since */
    uint32_t files_noted;    /* sealed since files that left were looked for */
    int64_t forget_snapshot; /* once it is committed, no file up to forget_number is to come */
    uint32_t forget_number;
    int64_t last_snapshot; /* of the last seal; 0 = none in this run */
    bool empty;            /* no row lives, not in the table either */
    bool unsaid;           /* of rows that live it is not said what they have in an added column */
    struct buf loose;      /* keyless without index: URLs of sealed files, each with its NUL */
    uint32_t loose_count;
    bool base_void; /* ... and only they count: the table's own rows are void */

    /* since the last seal */
    bool touched, voids;
    bool replaced;        /* a column's field, by one that live rows before do not have */
    bool replaced_staged; /* ... nor rows staged before */
    bool sealed;          /* ever */
    struct ice_schema *new_schemas;
    uint32_t new_schema_count;
    struct arena arena;
    struct ice_file *added;
    uint32_t *added_numbers; /* their numbers in the index */
    uint32_t added_count;
    struct store_folders folders;
    struct ice_outfile **open; /* by group of the router; NULL = none */
    uint32_t open_cap;
    uint32_t *open_groups; /* those that are not NULL */
    uint32_t open_count;
    size_t held; /* by open files */
    struct ice_hold *hold;
    struct ice_held_file *held_files; /* numbers ascend where there is an index */
    uint32_t held_count, held_cap;
    struct ice_hold *runs; /* sorted rows of the file that is written */
    bool held_full;        /* sorts: a file is to end before more rows come */
    uint32_t *held_of;     /* by group, as `open`: 1 + index of its held file; 0 = none */
    bool reads_back;       /* changes need rows of their own commit: theirs are held */
    bool holds_all;        /* ... and those that are appended, until the seal */
    bool holding;          /* the rows at hand are to be held */
    struct map *dead;      /* file number -> struct ice_bitmap */
    struct ice_bitmap *last_dead;
    uint32_t last_dead_number;
};

/* ---- ice_stage_files.c: rows to files ---- */
void ice_stage_drop_shape(struct ice_stage *st);
/* How rows of `source` become rows of st->schema. */
int ice_stage_make_shape(struct ice_stage *st, struct schema *source, struct err *err);
/* The rows (NULL = 0..count-1) of a batch as lake columns in st->columns. skip: field -> its cells
 * are not converted where true; NULL = none. */
int ice_stage_convert(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                      uint32_t count, const bool *skip, struct err *err);
/* The key's columns alone, in st->key_columns. */
int ice_stage_convert_keys(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                           uint32_t count, struct err *err);
/* Rows of a batch to data files; locs[i] = where row i lies. */
int ice_stage_write(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                    uint32_t count, uint64_t *locs, struct err *err);
/* The same for st->columns, put together otherwise. */
int ice_stage_write_columns(struct ice_stage *st, uint32_t count, uint64_t *locs, struct err *err);
int ice_stage_finish_files(struct ice_stage *st, struct err *err);
void ice_stage_abort_files(struct ice_stage *st);
/* A file of the group is whole: it is one of `added`. o is freed. */
int ice_stage_end_file(struct ice_stage *st, struct ice_outfile *o, struct err *err);
/* The key of a file of that group, under a name nobody else has; the caller frees it. */
char *ice_stage_new_key(struct ice_stage *st, uint32_t group);
/* The cells of st->schema's field at places of the index, whose order is ascending: files that are
 * held, or open and are then ended, or whole. Appended to `out`. */
int ice_stage_read_cells(struct ice_stage *st, const uint64_t *locs, uint32_t count, uint32_t field,
                         struct lake_builder *out, struct err *err);
int ice_stage_mark_dead(struct ice_stage *st, uint64_t loc, struct err *err);

/* ---- ice_stage_held.c: files whose rows are held until they end ---- */
/* Rows of st->columns (picked; NULL = the first) to the group's held file. */
int ice_stage_hold(struct ice_stage *st, uint32_t group, const struct lake_column *columns,
                   const uint32_t *picked, uint32_t count, uint64_t *locs, struct err *err);
const struct ice_held_file *ice_stage_held_file(const struct ice_stage *st, uint32_t number);
int ice_stage_write_held(struct ice_stage *st, struct err *err); /* all of them end */
/* Sorted files that are large enough end. Not while places of their rows are anywhere but in the
 * index and among the dead: they become others. */
int ice_stage_end_full(struct ice_stage *st, struct err *err);
void ice_stage_drop_held(struct ice_stage *st);

/* ---- ice_stage_extras.c: columns besides the source's ---- */
void ice_stage_extra_column(struct ice_stage *st, uint32_t field, const struct batch *batch,
                            const uint32_t *rows, uint32_t count, struct lake_column *out);
void ice_stage_extra_release(struct ice_extra_cells *cells);

/* ---- ice_stage_apply.c: windows of changes by key ---- */
int ice_stage_apply(struct ice_stage *st, struct err *err); /* the fold's window; begins it anew */
int ice_stage_append(struct ice_stage *st, struct batch *batch, struct err *err);

/* ---- ice_stage_keyless.c: multisets of rows ---- */
struct ice_deltas *ice_stage_keyless_new(void);
void ice_stage_keyless_free(struct ice_deltas *d);
int ice_stage_keyless_change(struct ice_stage *st, const struct stage_item *item,
                             const struct stage_change *change, struct err *err);
int ice_stage_keyless_rows(struct ice_stage *st, struct batch *batch, struct err *err);
int ice_stage_keyless_apply(struct ice_stage *st, struct err *err); /* what change was given */
/* Adds rows, whose images' hashes these are, to the index. */
int ice_stage_images_add(struct ice_stage *st, const uint64_t *hashes, const uint64_t *locs,
                         uint32_t count, struct err *err);
/* Rows with these images, which lay in file `from` so far, lie here now. passed: hash -> links of a
 * long chain that were not looked at yet, plus 1; empty before the file's first rows. */
int ice_stage_images_move(struct ice_stage *st, const uint64_t *hashes, const uint64_t *locs,
                          uint32_t count, uint32_t from, struct map *passed, struct err *err);
/* Takes out the row at loc with that image. */
int ice_stage_image_remove(struct ice_stage *st, uint64_t hash, uint64_t loc, struct err *err);
/* A row's image out of columns that stand in the order of image_fields. */
void ice_stage_put_image(const struct ice_stage *st, const struct lake_column *columns,
                         uint32_t row, struct buf *out);

/* ---- ice_stage_index.c: the index's life ---- */
/* Found, followed or built, so that it describes the snapshot; metadata NULL: empty. */
int ice_stage_open_index(struct ice_stage *st, const struct ice_metadata *metadata,
                         struct err *err);
/* A table with a key: the index is there from here on. */
int ice_stage_need_index(struct ice_stage *st, struct err *err);
void ice_stage_forget_base(struct ice_stage *st); /* nothing of it counts, or the index is there */
/* Keyless: the index as of now, what was staged included. */
int ice_stage_open_late_index(struct ice_stage *st, struct err *err);
int ice_stage_load_metadata(struct ice_stage *st, const char *location, struct ice_metadata *out,
                            struct err *err);
int ice_stage_read_key(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err);
int ice_stage_read_image(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err);
/* The state belongs to that snapshot, which is to be made; stored now and then. */
int ice_stage_tag_index(struct ice_stage *st, int64_t snapshot_id, struct err *err);
void ice_stage_store_last(struct ice_stage *st);
/* Keyless without index: what was sealed is kept in mind until it is committed. */
int ice_stage_keep_loose(struct ice_stage *st, struct err *err);
int ice_stage_forget_index(struct ice_stage *st, struct err *err); /* empty, by the present key */
/* Is the index of that sign right for the present key? */
bool ice_stage_same_key(const struct ice_stage *st, const char *sign);
int ice_stage_change_key(struct ice_stage *st, struct err *err); /* it is another: a new index */
void ice_stage_put_key_sign(const struct ice_stage *st, struct buf *out);

/* ---- ice_stage_scan.c: files' keys into and out of the index ---- */
enum ice_scan_rows { ICE_SCAN_LIVE, ICE_SCAN_DIED, ICE_SCAN_MOVED };
struct ice_scan {
    const char *url;
    const struct ice_bitmap *dead;   /* NULL = none */
    const struct ice_bitmap *before; /* dead before; NULL = none */
    enum ice_scan_rows what; /* LIVE: those not in dead are added; DIED: those in dead and not in
                                before are taken out; MOVED: those that are in file `from` by the
                                index are in this one */
    uint32_t from;
};
int ice_stage_scan_file(struct ice_stage *st, const struct ice_scan *scan, struct err *err);
