/* Rows of data files that are not begun yet: lake columns as they came, in memory, beyond that in
 * one file of the cache. So rows of thousands of partitions cost no open file each, and a row can
 * be read again before its data file is written. Rows keep their order: where a row will lie in its
 * file is known as soon as it is held.
 *
 *   rows -> blocks (64 KiB, one held file each) -> memory --spill--> the cache's file
 *                                                     \----------------> drain: rows in order
 *
 * Memory: blocks until the next spill, 32 bytes a block or 64 KiB of a spilled file. The cache's
 * file is never synced and means nothing to another run. Thread: its owner. */
#pragma once
#include "cdc/base/files.h"
#include "sinks/parquet/lake_builder.h"

struct ice_hold;
/* path: of the cache's file, absolute; its folder is made when it is needed. */
struct ice_hold *ice_hold_new(struct files *files, const char *path);
void ice_hold_free(struct ice_hold *h); /* NULL allowed */

/* One data file's rows. Numbers are from 0 and used again after a clear only. */
uint32_t ice_hold_file(struct ice_hold *h);
/* Some rows of the columns: picked[0..count-1] (NULL = the first `count`). The columns are as many
 * and of the same types at each call until a clear. */
void ice_hold_add(struct ice_hold *h, uint32_t file, const struct lake_column *columns,
                  uint32_t column_count, const uint32_t *picked, uint32_t count);
uint32_t ice_hold_columns(const struct ice_hold *h); /* 0: no row was added since a clear */
uint64_t ice_hold_rows(const struct ice_hold *h, uint32_t file);
uint64_t ice_hold_bytes(const struct ice_hold *h, uint32_t file); /* as they are held */
size_t ice_hold_memory(const struct ice_hold *h);        /* of blocks, and what lists them */
size_t ice_hold_memory_blocks(const struct ice_hold *h); /* that a spill gives back */
/* Blocks go to the cache's file. ERR "disk_full" and what else files say: the hold is then of no
 * use. */
int ice_hold_spill(struct ice_hold *h, struct err *err);
/* Appends that row's cell; row < ice_hold_rows. Cheap where the last one lay near it. */
int ice_hold_cell(struct ice_hold *h, uint32_t file, uint64_t row, uint32_t column,
                  struct lake_builder *out, struct err *err);
/* All rows in their order, in pieces. `each` may not touch the hold. The rows stay until drop. */
int ice_hold_each(struct ice_hold *h, uint32_t file,
                  int (*each)(void *arg, const struct lake_column *columns, uint32_t rows,
                              struct err *err),
                  void *arg, struct err *err);
/* The same, piece by piece: so that several files are read side by side. The hold is left as it is
 * while cursors are at work. Memory: one extent, 64 KiB or a row. */
struct ice_hold_cursor;
struct ice_hold_cursor *ice_hold_cursor_new(struct ice_hold *h, uint32_t file);
void ice_hold_cursor_free(struct ice_hold_cursor *c); /* NULL allowed */
/* The next piece, until the next call; *rows 0 = the end. */
int ice_hold_cursor_next(struct ice_hold_cursor *c, const struct lake_column **columns,
                         uint32_t *rows, struct err *err);
void ice_hold_drop(struct ice_hold *h, uint32_t file); /* its rows are forgotten */
/* Everything is forgotten, room is given back; of other columns from here on, as it may be. */
void ice_hold_clear(struct ice_hold *h);
