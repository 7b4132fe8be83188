/* Between the reader's own files; nobody else includes this.
 *
 *   parquet_read_footer.c   FileMetaData -> struct parquet_reader
 *   parquet_read_schema.c   SchemaElements -> fields and their leaves
 *   parquet_read_page.c     bytes of the file -> a page's levels and values, dictionaries
 *   parquet_read_values.c   encoded values -> cells of the lake
 *   parquet_cursor.c        pages in order -> pieces of a field, seeks */
#pragma once
#include "cdc/base/err.h"
#include "sinks/parquet/parquet_format.h"
#include "sinks/parquet/parquet_reader.h"
#include "sinks/parquet/parquet_unpack.h"

/* How a value of the file becomes a cell. */
enum read_convert {
    CONVERT_NONE,
    CONVERT_SIGNED_32,   /* INT32 -> 8 bytes */
    CONVERT_UNSIGNED_32, /* the same, unsigned */
    CONVERT_MILLIS_32,   /* INT32 milliseconds -> 8 bytes of microseconds */
    CONVERT_MILLIS_64,
    CONVERT_UNSIGNED_64, /* INT64 unsigned -> 16 bytes */
    CONVERT_BIG_ENDIAN,  /* two's complement bytes -> 8 or 16 */
};
/* A column of the file that is a field, or a list's elements. */
struct read_leaf {
    struct lake_type type; /* of the values */
    enum parquet_physical physical;
    uint32_t raw_width; /* bytes of a value in the file; BOOLEAN 1, BYTE_ARRAY 0 */
    uint32_t width;     /* bytes of a cell; 0 = variable */
    enum read_convert convert;
    uint8_t max_definition, max_repetition;
    uint32_t column;     /* among the file's columns */
    const char *refused; /* why it cannot be read; NULL = it can */
};
struct read_field {
    struct parquet_read_field field; /* its name is owned */
    struct read_leaf leaf;
};
struct read_chunk {
    uint64_t at, bytes; /* from the first page's header on, dictionary included */
    uint64_t index_at;  /* offset index; 0 = none */
    uint32_t index_bytes;
    int32_t codec;
};
struct read_group {
    uint64_t first_row, rows;
    struct read_chunk *chunks; /* a field each; those that are refused are zero */
};
struct ZSTD_DCtx_s;
struct libdeflate_decompressor;
struct parquet_reader {
    struct parquet_input input; /* its name is owned */
    size_t bytes_max;
    uint64_t rows;
    uint64_t data_end; /* where the footer begins */
    struct read_field *fields;
    uint32_t field_count;
    int32_t *field_of; /* of each column of the file; -1 = none that can be read */
    uint32_t column_count;
    struct read_group *groups;
    uint32_t group_count, group_cap;
    char **extra; /* key, value, ... */
    uint32_t extra_count, extra_cap;
    struct ZSTD_DCtx_s *zstd; /* made when first needed */
    struct libdeflate_decompressor *deflate;
};
/* Both answer -1. field: its name, or NULL. */
int read_damaged(const struct parquet_reader *r, const char *field, struct err *err,
                 const char *fmt, ...) TR_PRINTF(4, 5);
int read_unsupported(const struct parquet_reader *r, const char *field, struct err *err,
                     const char *fmt, ...) TR_PRINTF(4, 5);
/* The schema's list of elements. t: behind its field's header. */
struct thrift_take;
int read_schema(struct parquet_reader *r, struct thrift_take *t, enum thrift_type type,
                struct err *err);

/* Values of a dictionary page. */
struct read_dict {
    bool loaded;
    uint32_t count;
    struct buf body;  /* the page; texts lie in it */
    struct buf cells; /* fixed: of the leaf's width */
    struct buf texts; /* variable: struct read_text each */
};
struct read_text {
    uint32_t at, len; /* in the body */
};

enum { READ_BATCH = 1024 };
/* The values of a page, front to back. */
struct read_values {
    const struct read_leaf *leaf;
    enum parquet_encoding encoding;
    const struct read_dict *dict;
    const uint8_t *at, *end;    /* PLAIN, bytes of texts, streams of a split */
    uint64_t bit;               /* PLAIN booleans: the next one */
    uint32_t count, index;      /* split: values there are, and the next one */
    struct levels_take indexes; /* dictionary, RLE booleans */
    struct delta_take numbers;  /* integers, or lengths of texts */
    struct delta_take prefixes; /* DELTA_BYTE_ARRAY */
    struct buf last;            /* DELTA_BYTE_ARRAY: the value before */
    /* Taken already, not given yet: indexes, or lengths and prefixes of texts. */
    uint32_t batch_at, batch_count;
    uint32_t batch[READ_BATCH], batch_prefix[READ_BATCH];
    struct buf raw, raw_offsets; /* before a conversion */
};
void values_init(struct read_values *v);
void values_release(struct read_values *v);
/* From the front of a page's values, [p, end). The leaf, dictionary and page outlive v's use. -1:
 * damaged; encodings that the leaf cannot have are refused before (values_encoding_known). */
bool values_encoding_known(const struct read_leaf *leaf, int32_t encoding);
int values_begin(struct read_values *v, const struct read_leaf *leaf,
                 enum parquet_encoding encoding, const struct read_dict *dict, const uint8_t *p,
                 const uint8_t *end);
/* Cells of a fixed width: n of them to out, which has room for 32 further bytes. -1: damaged, or
 * VALUES_BEYOND: a value that its cell cannot say. */
#define VALUES_BEYOND (-2)
int values_fixed(struct read_values *v, uint32_t n, uint8_t *out);
/* Variable cells: appends to data, and an end offset each to `ends`. Stops before one that takes
 * data beyond limit, except the first. taken: how many. */
int values_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                 struct buf *ends, uint32_t *taken);
int values_skip(struct read_values *v, uint32_t n);
/* From a dictionary page that lies in d->body: count values of it. As values_fixed. */
int read_dict_fill(struct read_dict *d, const struct read_leaf *leaf, uint32_t count);
void read_dict_release(struct read_dict *d);

/* One page header, as far as it matters. */
struct read_header {
    int32_t type;
    uint32_t size; /* of the header */
    uint32_t body, stored;
    bool has_crc;
    uint32_t crc;
    uint32_t values;
    int32_t encoding;
    /* data pages, version 1 */
    int32_t definition_encoding, repetition_encoding;
    /* version 2 */
    uint32_t rows, definition_bytes, repetition_bytes;
    bool compressed;
};
/* A data page: where its parts lie, in pages.window or pages.body. */
struct read_page {
    uint32_t values;
    enum parquet_encoding encoding;
    const uint8_t *repetition, *repetition_end;
    const uint8_t *definition, *definition_end;
    const uint8_t *data, *data_end;
};
/* The pages of one column chunk, in file order. */
struct read_pages {
    struct parquet_reader *r;
    const struct read_field *field;
    const struct read_chunk *chunk;
    uint64_t at;       /* the next page's header */
    struct buf window; /* bytes of the file from window_at on */
    uint64_t window_at;
    struct buf body; /* decompressed */
    struct read_dict dict;
    uint64_t dict_at; /* its page's header */
    struct buf index; /* struct read_location each, of this chunk; ascending */
    bool index_loaded;
    uint32_t ahead; /* bytes to read at once */
};
struct read_location {
    uint64_t at, first_row;
    uint32_t bytes;
};
void pages_init(struct read_pages *p, struct parquet_reader *r, const struct read_field *field);
void pages_release(struct read_pages *p);
int pages_open(struct read_pages *p, const struct read_chunk *chunk, struct err *err);
/* The next data page's header, 1; 0: no further page. Dictionaries met are loaded, pages of other
 * kinds passed over. The page is then loaded or skipped. */
int pages_next(struct read_pages *p, struct read_header *h, struct err *err);
int pages_load(struct read_pages *p, const struct read_header *h, struct read_page *out,
               struct err *err);
void pages_skip(struct read_pages *p, const struct read_header *h);
void pages_restart(struct read_pages *p); /* the chunk's first page is next */
/* The offset index, if the chunk has one; rows: of its group. *count 0: none. */
int pages_index(struct read_pages *p, uint64_t rows, const struct read_location **out,
                uint32_t *count, struct err *err);
/* Goes to a page that the index names. The dictionary is loaded, if there is one. */
int pages_goto(struct read_pages *p, const struct read_location *location, struct err *err);

/* Room for n further bytes, and the slack behind them. */
void *read_room(struct buf *b, size_t n);
