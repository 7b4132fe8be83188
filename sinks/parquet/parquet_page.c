/* Closing a page: levels and values put together, through the codec, into one block of memory with
 * its header; its range noted for the indexes. See parquet_chunk.h.
 *
 *   body of a data page (version 1)
 *     lists                   u32 bytes, repetition levels (hybrid, 1 bit)
 *     lists, optional columns u32 bytes, definition levels (hybrid)
 *     dictionary              u8 width, indexes (hybrid)
 *     else                    values */
#include <stdlib.h>

#include "sinks/parquet/parquet_chunk.h"
#include "sinks/parquet/parquet_delta.h"
#include "sinks/parquet/parquet_levels.h"
#include "sinks/parquet/parquet_pack.h"
#include "sinks/parquet/thrift_put.h"

enum { CODEC_JUDGED_BYTES = 1024, DICT_JUDGED_BYTES = 64 << 10 };

static void *room(struct buf *out, size_t n) {
    int failed = buf_reserve(out, n);
    CHECK(!failed);
    return out->data + out->len;
}

/* Bytes of a level each, as the hybrid needs them. */
static void put_level_bytes(struct buf *out, struct chunk_scratch *s, const struct buf *levels,
                            unsigned width) {
    buf_clear(&s->offsets);
    uint32_t *wide = room(&s->offsets, (levels->len + 32) * sizeof *wide);
    for (size_t i = 0; i < levels->len; i++) {
        wide[i] = (uint8_t)levels->data[i];
    }
    levels_put(out, wide, (uint32_t)levels->len, width);
}

static void put_levels(struct parquet_chunk *c, struct chunk_scratch *s, struct buf *out) {
    if (c->shape.max_definition == 0) {
        return;
    }
    for (int definition = c->shape.list ? 0 : 1; definition < 2; definition++) {
        size_t start = out->len;
        buf_put(out, "\0\0\0", 4);
        if (!definition) {
            put_level_bytes(out, s, &c->repetition, 1);
        } else if (c->shape.list) {
            put_level_bytes(out, s, &c->definition, 2); /* its greatest level is 2 or 3 */
        } else if (c->has_bitmap) {
            levels_put_bitmap(out, (const uint8_t *)c->definition.data, c->page_values);
        } else {
            levels_put_run(out, 1, c->page_values, 1);
        }
        uint32_t bytes = (uint32_t)(out->len - start - 4);
        memcpy(out->data + start, &bytes, 4);
    }
}

static void put_bools(const struct parquet_chunk *c, struct buf *out) {
    const uint8_t *v = (const uint8_t *)c->values.data + PAGE_FRONT;
    size_t bytes = ((size_t)c->page_present + 7) / 8;
    uint8_t *to = room(out, bytes);
    memset(to, 0, bytes);
    for (uint32_t i = 0; i < c->page_present; i++) {
        to[i >> 3] |= (uint8_t)((v[i] & 1) << (i & 7));
    }
    out->len += bytes;
}

/* BYTE_STREAM_SPLIT: byte k of every value, for each k. */
static void put_split(const struct parquet_chunk *c, struct buf *out) {
    const uint8_t *v = (const uint8_t *)c->values.data + PAGE_FRONT;
    size_t n = c->page_present;
    size_t width = c->shape.width;
    uint8_t *to = room(out, n * width);
    for (size_t k = 0; k < width; k++) {
        for (size_t i = 0; i < n; i++) {
            to[k * n + i] = v[i * width + k];
        }
    }
    out->len += n * width;
}

enum parquet_encoding page_encode_base(struct parquet_chunk *c, struct buf *out) {
    if (c->page_present == 0 || c->shape.base == ENCODING_PLAIN) {
        return ENCODING_PLAIN;
    }
    const void *values = chunk_values(c);
    if (c->shape.base == ENCODING_BYTE_STREAM_SPLIT) {
        put_split(c, out);
        return ENCODING_BYTE_STREAM_SPLIT;
    }
    size_t start = out->len;
    if (c->shape.base == ENCODING_DELTA_LENGTH_BYTE_ARRAY) {
        delta_put_i32(out, (const int32_t *)(const void *)c->lengths.data, c->page_present);
        return ENCODING_DELTA_LENGTH_BYTE_ARRAY;
    }
    if (c->shape.width == 4) {
        delta_put_i32(out, values, c->page_present);
    } else {
        delta_put_i64(out, values, c->page_present);
    }
    if (out->len - start < chunk_values_len(c)) {
        return ENCODING_DELTA_BINARY_PACKED;
    }
    out->len = start;
    return ENCODING_PLAIN;
}

static void put_page_header(struct thrift_put *t, enum parquet_page_type type, size_t body,
                            size_t stored) {
    thrift_put_i32(t, PAGE_HEADER_TYPE, (int32_t)type);
    thrift_put_i32(t, PAGE_HEADER_UNCOMPRESSED, (int32_t)body);
    thrift_put_i32(t, PAGE_HEADER_COMPRESSED, (int32_t)stored);
}

static void put_data_header(struct buf *out, size_t body, size_t stored, uint32_t values,
                            enum parquet_encoding encoding) {
    struct thrift_put t;
    thrift_put_init(&t, out);
    put_page_header(&t, PAGE_DATA, body, stored);
    thrift_put_struct(&t, PAGE_HEADER_DATA);
    thrift_put_i32(&t, DATA_PAGE_NUM_VALUES, (int32_t)values);
    thrift_put_i32(&t, DATA_PAGE_ENCODING, (int32_t)encoding);
    thrift_put_i32(&t, DATA_PAGE_DEFINITION_ENCODING, ENCODING_RLE);
    thrift_put_i32(&t, DATA_PAGE_REPETITION_ENCODING, ENCODING_RLE);
    thrift_put_struct_end(&t);
    thrift_put_end(&t);
}

/* A chunk has one codec for all its pages: chosen by what it does for the first one, whose bytes it
 * leaves in the codec's output, and for the dictionary where that is large. A gain below 1/32 is
 * not worth anyone's time. */
static void choose_codec(struct parquet_chunk *c, struct chunk_scratch *s, const uint8_t *body,
                         size_t n) {
    c->codec_chosen = true;
    c->codec = c->codec_wanted;
    if (c->codec == PARQUET_NONE) {
        return;
    }
    size_t before = n;
    size_t after = 0;
    if (c->dict_used && c->dict.values.len >= DICT_JUDGED_BYTES) {
        parquet_codec_run(&s->codec, c->codec, c->dict.values.data, c->dict.values.len);
        before += c->dict.values.len;
        after += s->codec.out.len;
    }
    parquet_codec_run(&s->codec, c->codec, body, n);
    after += s->codec.out.len;
    if (before >= CODEC_JUDGED_BYTES ? after >= before - before / 32 : after >= before) {
        c->codec = PARQUET_NONE;
    }
}

/* Notes the least and greatest value. Where they cannot be said the row group's column has no
 * index. */
static void note_range(struct parquet_chunk *c, struct chunk_page *page,
                       const struct parquet_range *r) {
    enum parquet_order order = c->shape.order;
    bounds_take(&c->bounds, order, r);
    bounds_take(&c->file_bounds, order, r);
    if (!r->any) {
        c->no_index |= page->has_values;
        return;
    }
    bool exact;
    size_t len = r->min_len < BOUND_BYTES_MAX ? r->min_len : BOUND_BYTES_MAX;
    page->min_at = c->marks.len;
    bound_put_lower(&c->marks, order, r->min, len, r->min_len > len, STATISTICS_BYTES_MAX, &exact);
    page->min_len = (uint32_t)(c->marks.len - page->min_at);
    page->max_at = c->marks.len;
    len = r->max_len < BOUND_BYTES_MAX ? r->max_len : BOUND_BYTES_MAX;
    bool cut = r->max_len > len;
    if (bound_put_upper(&c->marks, order, r->max, len, cut, STATISTICS_BYTES_MAX, &exact) &&
        bound_put_upper(&c->marks, order, r->max, len, cut, BOUND_BYTES_MAX, &exact)) {
        c->no_index = true;
    }
    page->max_len = (uint32_t)(c->marks.len - page->max_at);
}

static void store(struct parquet_chunk *c, struct chunk_scratch *s, const uint8_t *body, size_t n,
                  enum parquet_encoding encoding, const struct parquet_range *range) {
    CHECK(n <= INT32_MAX);
    bool first = !c->codec_chosen;
    if (first) {
        choose_codec(c, s, body, n);
    }
    const uint8_t *stored = body;
    size_t stored_len = n;
    if (c->codec != PARQUET_NONE) {
        if (!first) {
            parquet_codec_run(&s->codec, c->codec, body, n);
        }
        stored = (const uint8_t *)s->codec.out.data;
        stored_len = s->codec.out.len;
    }
    buf_clear(&s->header);
    put_data_header(&s->header, n, stored_len, c->page_values, encoding);
    if (c->page_count == c->page_cap) {
        c->page_cap = c->page_cap ? c->page_cap * 2 : 4;
        c->pages = xrealloc(c->pages, c->page_cap * sizeof *c->pages);
    }
    struct chunk_page *page = &c->pages[c->page_count++];
    *page = (struct chunk_page){ .size = (uint32_t)(s->header.len + stored_len),
                                 .header_size = (uint32_t)s->header.len,
                                 .body_size = (uint32_t)n,
                                 .values = c->page_values,
                                 .nulls = c->page_values - c->page_present,
                                 .first_row = c->rows,
                                 .text_bytes = c->page_text - 4 * (uint64_t)c->page_present,
                                 .has_values = c->page_present > 0,
                                 .encoding = encoding };
    page->bytes = xmalloc(page->size);
    memcpy(page->bytes, s->header.data, s->header.len);
    memcpy(page->bytes + s->header.len, stored, stored_len);
    c->pages_bytes += page->size;
    note_range(c, page, range);
}

static __attribute__((noinline)) void take_entry(const struct parquet_chunk *c, uint32_t entry,
                                                 struct parquet_range *r) {
    size_t len;
    const uint8_t *p = parquet_dict_value(&c->dict, entry, &len);
    range_value(r, c->shape.order, p, len);
}

/* Marks which entries the page has, and takes each into the range once. */
static void range_of_indices(struct parquet_chunk *c, const uint32_t *index,
                             struct parquet_range *r) {
    if (c->stamps_cap < c->dict.count) {
        uint32_t cap = c->dict.count * 2;
        c->stamps = xrealloc(c->stamps, cap * sizeof *c->stamps);
        memset(c->stamps + c->stamps_cap, 0, (cap - c->stamps_cap) * sizeof *c->stamps);
        c->stamps_cap = cap;
    }
    uint32_t stamp = ++c->stamp;
    uint32_t *stamps = c->stamps;
    uint32_t count = c->index_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t entry = index[i];
        if (UNLIKELY(stamps[entry] != stamp)) {
            stamps[entry] = stamp;
            take_entry(c, entry, r);
        }
    }
}

static void close_indices(struct parquet_chunk *c, struct chunk_scratch *s) {
    struct parquet_range range = { 0 };
    uint32_t *index = room(&c->indices, 32 * sizeof *index); /* the packer's padding */
    index = (uint32_t *)(void *)c->indices.data;
    range_of_indices(c, index, &range);
    unsigned width = c->dict.count > 1 ? bits_of(c->dict.count - 1) : 1;
    buf_putc(&s->body, (char)width);
    levels_put(&s->body, index, c->index_count, width);
    c->dict_used = true;
    store(c, s, (const uint8_t *)s->body.data, s->body.len, ENCODING_RLE_DICTIONARY, &range);
}

static void close_values(struct parquet_chunk *c, struct chunk_scratch *s) {
    struct parquet_range range = { 0 };
    if (c->page_present > 0 && c->shape.width > 0) {
        range_fixed(&range, c->shape.order, c->shape.width, chunk_values(c), c->page_present);
    } else if (c->page_bounds.any) {
        const struct parquet_bounds *b = &c->page_bounds;
        range = (struct parquet_range){ .any = true,
                                        .min = (const uint8_t *)b->min.data,
                                        .max = (const uint8_t *)b->max.data,
                                        .min_len = b->min.len + b->min_cut,
                                        .max_len = b->max.len + b->max_cut };
    }
    enum parquet_encoding encoding = ENCODING_PLAIN;
    if (c->shape.physical == PHYSICAL_BOOLEAN) {
        if (c->page_present > 0) {
            put_bools(c, &s->body);
        }
    } else {
        encoding = page_encode_base(c, &s->body);
        size_t front = s->body.len;
        size_t n = chunk_values_len(c);
        bool values_follow =
            encoding == ENCODING_PLAIN || encoding == ENCODING_DELTA_LENGTH_BYTE_ARRAY;
        if (values_follow && n > 0) {
            if (front <= PAGE_FRONT) { /* in place */
                uint8_t *body = chunk_values(c) - front;
                if (front > 0) {
                    memcpy(body, s->body.data, front);
                }
                store(c, s, body, front + n, encoding, &range);
                return;
            }
            buf_put(&s->body, chunk_values(c), n);
        }
    }
    store(c, s, (const uint8_t *)s->body.data, s->body.len, encoding, &range);
}

/* Memory that only one large value needed is given back. */
static void trim(struct buf *b, size_t most) {
    if (b->cap > most) {
        buf_release(b);
    }
}

void page_reset(struct parquet_chunk *c) {
    trim(&c->values, 4 * (size_t)c->page_bytes + (1 << 20));
    buf_clear(&c->values);
    buf_clear(&c->lengths);
    buf_clear(&c->indices);
    buf_clear(&c->definition);
    buf_clear(&c->repetition);
    c->index_count = c->page_rows = c->page_values = c->page_present = 0;
    c->page_text = 0;
    c->has_bitmap = false;
    bounds_clear(&c->page_bounds);
    c->dict_bytes_before = c->dict.values.len;
}

void chunk_page_close(struct parquet_chunk *c, struct chunk_scratch *s, bool last) {
    if (c->page_rows == 0) {
        return;
    }
    buf_clear(&s->body);
    bool indices = trial_at_page_end(c, s, last);
    put_levels(c, s, &s->body);
    if (indices) {
        close_indices(c, s);
    } else {
        close_values(c, s);
    }
    c->rows += c->page_rows;
    c->values_count += c->page_values;
    c->nulls += c->page_values - c->page_present;
    page_reset(c);
    trim(&s->body, 4 * (size_t)c->page_bytes + (1 << 20));
    trim(&s->codec.out, 4 * (size_t)c->page_bytes + (1 << 20));
}

void chunk_put_dictionary(struct parquet_chunk *c, struct chunk_scratch *s, struct buf *out,
                          uint32_t *body_size, uint32_t *header_size) {
    const char *body = c->dict.values.data;
    size_t n = c->dict.values.len;
    CHECK(c->dict_used && c->codec_chosen && n <= INT32_MAX);
    *body_size = (uint32_t)n;
    if (c->codec != PARQUET_NONE) {
        parquet_codec_run(&s->codec, c->codec, body, n);
        body = s->codec.out.data;
    }
    size_t stored = c->codec != PARQUET_NONE ? s->codec.out.len : n;
    size_t start = out->len;
    struct thrift_put t;
    thrift_put_init(&t, out);
    put_page_header(&t, PAGE_DICTIONARY, n, stored);
    thrift_put_struct(&t, PAGE_HEADER_DICTIONARY);
    thrift_put_i32(&t, DICTIONARY_PAGE_NUM_VALUES, (int32_t)c->dict.count);
    thrift_put_i32(&t, DICTIONARY_PAGE_ENCODING, ENCODING_PLAIN);
    thrift_put_struct_end(&t);
    thrift_put_end(&t);
    *header_size = (uint32_t)(out->len - start);
    buf_put(out, body, stored);
}
