/* One column of an open row group: cells go in, finished pages pile up. Inside of the writer;
 * nobody else includes this.
 *
 *   cells -> [dictionary: indexes | values] of the open page
 *         -> page_close: levels + encoded values -> codec -> a page in memory, its range and counts
 *            noted
 *         -> chunk written by parquet_writer.c
 *
 * A page ends at PAGE_ROWS_MAX rows or the writer's page_bytes of values. */
#pragma once
#include "sinks/parquet/parquet_bloom.h"
#include "sinks/parquet/parquet_codec.h"
#include "sinks/parquet/parquet_dict.h"
#include "sinks/parquet/parquet_format.h"
#include "sinks/parquet/parquet_stats.h"
#include "sinks/parquet/parquet_writer.h"

enum {
    PAGE_ROWS_MAX = 20000,
    PAGE_FRONT = 64, /* bytes kept free in front of an open page's values, for its levels */
};
#define DICT_SLICE_BYTES_MAX (2u << 20)     /* beyond page_bytes: there is a very large value */
#define CELL_BYTES_MAX UINT32_C(0x70000000) /* a page must stay below 2^31 with its levels */

/* What the column is; set once. */
struct chunk_shape {
    struct lake_type type;
    enum lake_kind kind; /* of the values: a LIST's element's */
    enum parquet_physical physical;
    uint32_t width; /* bytes of a value as the file has it, 0 = variable */
    enum parquet_order order;
    uint8_t max_definition; /* 0..3 */
    bool list, required;
    enum parquet_encoding base; /* without a dictionary */
};

struct chunk_page {
    uint8_t *bytes; /* header and body */
    uint32_t size, header_size;
    uint32_t body_size; /* before the codec */
    uint32_t values, nulls;
    uint64_t first_row;    /* within the row group */
    uint64_t text_bytes;   /* BYTE_ARRAY: of its values, without lengths */
    size_t min_at, max_at; /* in chunk.marks */
    uint32_t min_len, max_len;
    bool has_values;
    enum parquet_encoding encoding;
};

enum dict_state {
    DICT_TRIAL, /* no page with indexes yet: can be left without a trace */
    DICT_KEPT,  /* pages with indexes are there */
    DICT_LEFT,  /* later pages go without; d has entries if earlier ones need it */
};

struct parquet_chunk {
    struct chunk_shape shape;
    uint32_t page_bytes;
    enum parquet_codec codec_wanted, codec; /* codec: of this chunk, once codec_chosen */
    bool codec_chosen;

    /* The open page. */
    struct buf values;  /* PAGE_FRONT bytes, then values as PLAIN has them (BOOL: a byte each; base
                           DELTA_LENGTH_BYTE_ARRAY: without lengths, which are in lengths) */
    struct buf lengths; /* int32_t each */
    struct buf indices; /* uint32_t each, while a dictionary is in use */
    uint32_t index_count;
    struct buf definition, repetition; /* list: a byte a level; flat: bitmap in definition */
    bool has_bitmap;
    uint32_t page_rows, page_values, page_present;
    uint64_t page_text;                /* bytes of values, with 4 a length */
    struct parquet_bounds page_bounds; /* variable, no dictionary: taken as values come */

    struct parquet_dict dict;
    enum dict_state dict_state;
    bool dict_used;           /* a finished page has indexes: the chunk has a dictionary page */
    size_t dict_bytes_before; /* when the open page began */
    uint32_t dict_half,
        dict_half_of; /* entries when about half of the trial page was in; its values */
    uint32_t *stamps; /* an entry: number of the last page that used it */
    uint32_t stamps_cap, stamp;
    unsigned dict_pause; /* row groups to come that do not try one */
    double base_ratio; /* encoded bytes a PLAIN byte of this column's base encoding, as last seen */

    /* Finished pages of this row group. */
    struct chunk_page *pages;
    uint32_t page_count, page_cap;
    struct buf marks; /* their ranges' bytes */
    bool no_index;    /* a page has values, but no range can be said */
    size_t pages_bytes;
    uint64_t rows, values_count, nulls;
    struct parquet_bounds bounds; /* of the row group */
    struct parquet_bloom bloom;
    bool has_bloom;

    /* Of the file. */
    struct parquet_bounds file_bounds;
    uint64_t file_bytes, file_values, file_nulls, file_nans;
};

/* Memory shared by a writer's chunks. */
struct chunk_scratch {
    struct buf cells, offsets, encoded, body, header;
    struct parquet_codec_state codec;
};

void chunk_init(struct parquet_chunk *c, const struct parquet_field *field,
                const struct parquet_options *options);
void chunk_release(struct parquet_chunk *c);
/* Rows [at, at + count) of column; pages that fill are closed. ERR_FATAL "parquet_null" (a null in
 * a required column), "parquet_cell_large". */
int chunk_add(struct parquet_chunk *c, struct chunk_scratch *s, const struct lake_column *column,
              uint32_t at, uint32_t count, const char *name, struct err *err) TR_MUST_CHECK;
/* Closes the open page; last: no page of this row group follows. */
void chunk_page_close(struct parquet_chunk *c, struct chunk_scratch *s, bool last);
/* After the row group is written: ready for the next one. trim: gives memory back, too. */
void chunk_clear(struct parquet_chunk *c, bool trim);
size_t chunk_held(const struct parquet_chunk *c); /* encoded bytes, about */
size_t chunk_memory(const struct parquet_chunk *c);

/* A chunk's dictionary page, header and body, into out. */
void chunk_put_dictionary(struct parquet_chunk *c, struct chunk_scratch *s, struct buf *out,
                          uint32_t *body_size, uint32_t *header_size);
void chunk_scratch_init(struct chunk_scratch *s, int level);
void chunk_scratch_release(struct chunk_scratch *s); /* can be used on */
size_t chunk_scratch_memory(const struct chunk_scratch *s);

/* Between parquet_chunk.c, parquet_page.c and parquet_trial.c. */
static inline uint8_t *chunk_values(struct parquet_chunk *c) {
    return (uint8_t *)c->values.data + PAGE_FRONT;
}
static inline size_t chunk_values_len(const struct parquet_chunk *c) {
    return c->values.len > PAGE_FRONT ? c->values.len - PAGE_FRONT : 0;
}
/* Room for n further bytes of values, at the end of them; the caller adds what it wrote to len. */
uint8_t *chunk_values_room(struct parquet_chunk *c, size_t n);
void page_reset(struct parquet_chunk *c);
/* The open page's values in the column's base encoding, appended. What is left to the caller to
 * append: all of them, where the result is PLAIN; their bytes behind the lengths, where it is
 * DELTA_LENGTH_BYTE_ARRAY. */
enum parquet_encoding page_encode_base(struct parquet_chunk *c, struct buf *out);
/* parquet_trial.c. After cells came: gives a dictionary up that is of no use. At a page's end: is
 * the page written with indexes? */
void trial_after_slice(struct parquet_chunk *c);
/* Before values come that are too large for any dictionary: the open page ends, the next has none.
 */
void trial_give_up(struct parquet_chunk *c, struct chunk_scratch *s);
bool trial_at_page_end(struct parquet_chunk *c, struct chunk_scratch *s, bool last);
