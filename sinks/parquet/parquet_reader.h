/* Reads Parquet files that parquet_writer.h wrote, and those of other writers as far as the same
 * features go (data pages v1 and v2; PLAIN, dictionary, DELTA_BINARY_PACKED,
 * DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, BYTE_STREAM_SPLIT; codecs none, snappy, zstd, lz4_raw,
 * gzip): key columns in bulk, single rows by their position, position-delete files. What it does
 * not know is ERR_FATAL "parquet_unsupported"; bytes that contradict themselves are
 * "parquet_damaged". Files are foreign data: every length is bounded by the file's own size and by
 * `bytes_max` (of a decoded page, a dictionary, a footer, a list), nothing is asserted. After an
 * error a cursor is only to be closed.
 *
 * Types of other writers: integers of 8 and 16 bits are INT, unsigned ones of 32 LONG, of 64
 * DECIMAL(20,0); decimals over INT32, INT64, fixed and variable bytes; milliseconds become
 * microseconds; ENUM and JSON are STRING, BSON and fixed bytes without a meaning BINARY. INT96,
 * nanoseconds, intervals, float16, structures, maps, lists of other than three levels: the field is
 * there, but opening it says why it cannot be read. Widening to a table's type is the caller's.
 *
 * Thread: its owner. Fuzzed (tests/fuzz). */
#pragma once
#include "sinks/parquet/lake_type.h"

/* Where bytes come from: all n of them, or -1 with err set. Never asked beyond size. */
struct parquet_input {
    int (*read_at)(void *arg, uint64_t off, void *p, size_t n, struct err *err);
    void *arg;
    uint64_t size;
    const char *name; /* for errors */
};
struct parquet_reader;
int parquet_reader_open(struct parquet_input input, size_t bytes_max, struct parquet_reader **out,
                        struct err *err);
void parquet_reader_close(struct parquet_reader *r); /* NULL allowed */

uint64_t parquet_reader_rows(const struct parquet_reader *r);
uint32_t parquet_reader_groups(const struct parquet_reader *r);
uint64_t parquet_reader_group_rows(const struct parquet_reader *r, uint32_t group);
/* Top-level fields, in file order. */
struct parquet_read_field {
    const char *name;
    int32_t field_id;      /* 0 = none */
    struct lake_type type; /* kind 0: none; the field cannot be opened */
    bool required;
};
uint32_t parquet_reader_field_count(const struct parquet_reader *r);
const struct parquet_read_field *parquet_reader_field(const struct parquet_reader *r, uint32_t i);
/* The field with that id; else, of those without an id (of all where field_id is 0), the one with
 * that name. -1: none. name may be NULL. */
int parquet_reader_find(const struct parquet_reader *r, int32_t field_id, const char *name);
/* A key of the footer's key-value metadata; NULL. */
const char *parquet_reader_extra(const struct parquet_reader *r, const char *key);

/* Goes over one field of all row groups in order, a piece of at most rows_max (> 0) rows at a time;
 * *out lives until the next call. Fewer rows may come (a flat piece ends with its page, any with
 * its group, at 64 Ki rows or about 16 MiB of text), but none (out->rows = 0) only at the end.
 * out->valid is NULL where the piece has no null. seek: the next piece begins at that row of the
 * file, at the end if it is beyond; pages before it are passed over by the offset index where there
 * is one, else by their headers. Cheap within the page that the cursor is in. */
struct parquet_cursor;
int parquet_cursor_open(struct parquet_reader *r, uint32_t field, struct parquet_cursor **out,
                        struct err *err);
int parquet_cursor_next(struct parquet_cursor *c, uint32_t rows_max, struct lake_column *out,
                        struct err *err);
int parquet_cursor_seek(struct parquet_cursor *c, uint64_t row, struct err *err);
void parquet_cursor_close(struct parquet_cursor *c); /* NULL allowed */
