/* Which rows of one data file are dead: a bitmap of positions, and its two forms in a table: a v2
 * position-delete file that names one data file, and a v3 deletion vector in a Puffin file. Sources: Iceberg
 * table spec, "Position Delete Files", "Deletion Vectors"; Puffin spec; the portable roaring format. The bitmap is
 * CRoaring's. Foreign bytes are bounds-checked and fuzzed: ERR_FATAL "deletes_damaged". Pure but for the
 * outputs given. */
#pragma once
#include "sinks/parquet/parquet_reader.h"
#include "sinks/parquet/parquet_writer.h"

struct ice_bitmap; /* 64-bit positions */
struct ice_bitmap *ice_bitmap_new(void);
void ice_bitmap_free(struct ice_bitmap *b); /* NULL allowed */
bool ice_bitmap_add(struct ice_bitmap *b, uint64_t pos); /* false: was there already */
bool ice_bitmap_has(const struct ice_bitmap *b, uint64_t pos);
uint64_t ice_bitmap_count(const struct ice_bitmap *b);
size_t ice_bitmap_memory(const struct ice_bitmap *b);
void ice_bitmap_or(struct ice_bitmap *into, const struct ice_bitmap *from);
/* Positions ascending. */
struct ice_bitmap_at { uint64_t next; };
bool ice_bitmap_next(const struct ice_bitmap *b, struct ice_bitmap_at *at, uint64_t *pos);

/* v2: a whole Parquet file (file_path, pos), sorted, one row group; zstd unless codec says otherwise. */
int ice_position_deletes_write(const struct ice_bitmap *b, const char *data_file, const struct parquet_options *options,
                               struct parquet_output output, struct parquet_info *info, struct err *err);
/* Adds the positions that the file has for data_file (other files' are passed over: foreign writers). */
int ice_position_deletes_read(struct parquet_reader *r, const char *data_file, struct ice_bitmap *into, struct err *err);

/* v3. The blob: length, magic, vector, CRC. */
void ice_dv_put(struct buf *out, const struct ice_bitmap *b);
int ice_dv_take(const void *p, size_t n, struct ice_bitmap *into, struct err *err);
/* A Puffin file of vectors, put one after another in `out`. Blobs are padded apart so that no two in one file
 * are adjacent and of equal length: DuckDB 1.5's file cache mixes such up. */
struct ice_puffin;
struct ice_puffin *ice_puffin_new(void);
void ice_puffin_add(struct ice_puffin *p, const struct ice_bitmap *b, const char *data_file, int64_t *offset, int64_t *bytes);
void ice_puffin_finish(struct ice_puffin *p, struct buf *out);
void ice_puffin_free(struct ice_puffin *p);
