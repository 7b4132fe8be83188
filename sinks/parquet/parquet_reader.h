/* Reads Parquet files that parquet_writer.h wrote, and those of other writers as far as the same
 * features go (data pages v1 and v2; PLAIN, dictionary, DELTA_BINARY_PACKED,
 * DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, BYTE_STREAM_SPLIT; codecs none, snappy, zstd, lz4_raw,
 * gzip): key columns in bulk, single rows by their position, position-delete files. What it does
 * not know is ERR_FATAL "parquet_unsupported"; bytes that contradict themselves are
 * "parquet_damaged". Files are foreign data: every length is bounded by the file's own size and by
 * `bytes_max`, nothing is asserted.
 *
 * Thread: its owner. Fuzzed (tests/fuzz). */
#pragma once
#include "sinks/parquet/lake_type.h"

/* Where bytes come from. got < n is an error of the caller's. */
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
    int32_t field_id; /* 0 = none */
    struct lake_type type;
    bool required;
};
uint32_t parquet_reader_field_count(const struct parquet_reader *r);
const struct parquet_read_field *parquet_reader_field(const struct parquet_reader *r, uint32_t i);
int parquet_reader_find(const struct parquet_reader *r, int32_t field_id,
                        const char *name); /* index by id, else by name; -1 */
/* A key of the footer's key-value metadata; NULL. */
const char *parquet_reader_extra(const struct parquet_reader *r, const char *key);

/* Goes over one field of all row groups in order, a piece of at most rows_max rows at a time; *out
 * lives until the next call; out->rows = 0 at the end. seek: the next piece begins at that row of
 * the file; pages before it are skipped by the offset index where there is one. */
struct parquet_cursor;
int parquet_cursor_open(struct parquet_reader *r, uint32_t field, struct parquet_cursor **out,
                        struct err *err);
int parquet_cursor_next(struct parquet_cursor *c, uint32_t rows_max, struct lake_column *out,
                        struct err *err);
int parquet_cursor_seek(struct parquet_cursor *c, uint64_t row, struct err *err);
void parquet_cursor_close(struct parquet_cursor *c); /* NULL allowed */
