/* Writes one Parquet file straight from columns. Pages are encoded and compressed as soon as they
 * are full, so an open file holds compressed pages of one row group and one open page a column.
 *
 *   rows -> lake columns -> a chunk each: levels, encoded values -> page -> codec
 *   row group full -> chunks written one after another -> ... -> indexes, footer
 *
 * Encodings: profile `compatible` = dictionary (RLE_DICTIONARY), PLAIN; profile `modern` adds
 * DELTA_BINARY_PACKED for integers, decimals over them, dates and times, BYTE_STREAM_SPLIT for
 * floats, and DELTA_LENGTH_BYTE_ARRAY for text and bytes (zstd gains a seventh where no lengths are
 * between texts; readers that know BYTE_STREAM_SPLIT know it, too). A chunk starts with a
 * dictionary and leaves it once it does not pay; where its first page already did not, the column's
 * next seven row groups do not try. A page without a value is never DELTA, one of integers never
 * larger than PLAIN. Data pages are version 1, of at most 20,000 rows. The codec is left out of a
 * chunk whose first page it makes less than 1/32 smaller. Every chunk has statistics (byte arrays
 * cut at 64 bytes, exactness said, NaN left out, zeros signed), an offset index, and a column index
 * unless a page has values without bounds (NaN only; 4 KiB of greatest bytes); key columns may have
 * a bloom filter. created_by reads "tailrace version X.Y.Z (build ...)", else readers distrust the
 * statistics.
 *
 * Thread: its owner. Output goes to a `struct parquet_output`; nothing here knows where files lie.
 * Never reads what it wrote. */
#pragma once
#include "sinks/parquet/lake_type.h"

enum parquet_codec { PARQUET_NONE = 0, PARQUET_SNAPPY = 1, PARQUET_ZSTD = 6, PARQUET_LZ4_RAW = 7 };
enum parquet_profile { PARQUET_COMPATIBLE, PARQUET_MODERN };

struct parquet_field {
    const char *name; /* borrowed until parquet_writer_new returns */
    struct lake_type type;
    int32_t field_id;   /* 0 = none written */
    int32_t element_id; /* of a LIST's element; 0 = none written */
    bool required;
    bool bloom;
};
struct parquet_options {
    enum parquet_codec codec;
    int level; /* zstd: 1..19; else 0 */
    enum parquet_profile profile;
    uint32_t page_bytes;      /* of values, before the codec; 0 = 1 MiB */
    uint64_t group_bytes;     /* a row group ends at so many encoded bytes held; 0 = 32 MiB */
    uint32_t group_rows;      /* ... or so many rows; 0 = 1,048,576 */
    const char *const *extra; /* NULL-terminated key, value, ...: the footer's key-value metadata */
};
/* Where bytes go: appended, in order. -1 with err set; the file is then of no use. */
struct parquet_output {
    int (*write)(void *arg, const void *p, size_t n, struct err *err);
    void *arg;
};

/* What a finished column is known to hold, for manifests. One a leaf, in field order. Bounds are
 * lake cells' single-value bytes as Iceberg's appendix D has them (little-endian, decimals
 * big-endian minimal, uuid and text raw), whole, not cut; lower_len or upper_len 0 with has_bounds
 * = the empty string.
 */
struct parquet_column_info {
    uint64_t bytes;  /* of the chunks, with headers */
    uint64_t values; /* nulls and NaN counted */
    uint64_t nulls;
    uint64_t nans; /* FLOAT, DOUBLE only */
    bool has_bounds;
    uint8_t *lower, *upper; /* owned by the info; text and binary longer than 4 KiB: cut as a bound
                               (lower: prefix; upper: prefix incremented, or has_bounds false) */
    size_t lower_len, upper_len;
};
struct parquet_info {
    uint64_t rows;
    uint64_t bytes; /* of the file */
    uint32_t column_count;
    struct parquet_column_info *columns;
    uint32_t group_count;
    uint64_t *group_offsets; /* first byte of each row group, ascending: split_offsets */
};
void parquet_info_release(struct parquet_info *info);

struct parquet_writer;
struct parquet_writer *parquet_writer_new(const struct parquet_field *fields, uint32_t count,
                                          const struct parquet_options *options,
                                          struct parquet_output output);
/* One lake column a field, all with at least so many rows, of which the first `rows` are added.
 * After a failure only parquet_writer_free is left. ERR_FATAL "parquet_null" (a null in a required
 * column), "parquet_cell_large" (about 1.75 GiB); and what the output says. */
int parquet_writer_add(struct parquet_writer *w, const struct lake_column *columns, uint32_t rows,
                       struct err *err);
uint64_t parquet_writer_rows(const struct parquet_writer *w);  /* added so far */
uint64_t parquet_writer_bytes(const struct parquet_writer *w); /* written, and held encoded */
size_t parquet_writer_memory(const struct parquet_writer *w);  /* held now */
/* Ends the row group now, to give memory back. */
int parquet_writer_flush(struct parquet_writer *w, struct err *err);
/* Footer; the file is then whole. A file without rows is a valid one. */
int parquet_writer_finish(struct parquet_writer *w, struct parquet_info *out, struct err *err);
void parquet_writer_free(struct parquet_writer *w); /* NULL allowed */
