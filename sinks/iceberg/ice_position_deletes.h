/* v2 position-delete files: Parquet with file_path and pos, one data file each, all of its dead
 * rows. Source: Iceberg table spec, "Position Delete Files". */
#pragma once
#include "sinks/iceberg/ice_bitmap.h"
#include "sinks/parquet/parquet_reader.h"
#include "sinks/parquet/parquet_writer.h"

#define ICE_FIELD_FILE_PATH 2147483546
#define ICE_FIELD_POS 2147483545

/* A whole file: sorted, zstd unless options say otherwise. */
int ice_position_deletes_write(const struct ice_bitmap *b, const char *data_file,
                               const struct parquet_options *options, struct parquet_output output,
                               struct parquet_info *info, struct err *err);
/* Adds the positions that the file has for data_file; others' are passed over. */
int ice_position_deletes_read(struct parquet_reader *r, const char *data_file,
                              struct ice_bitmap *into, struct err *err);
