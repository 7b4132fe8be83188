/* Metadata of a column chunk, and its column and offset index. See parquet_meta.h. */
#include "sinks/parquet/parquet_meta.h"
#include "sinks/parquet/thrift_put.h"

/* Which encodings the data pages have. */
static unsigned encodings_of(const struct parquet_chunk *c, uint32_t *counts) {
    unsigned set = 0;
    for (uint32_t i = 0; i < c->page_count; i++) {
        counts[c->pages[i].encoding]++;
        set |= 1u << c->pages[i].encoding;
    }
    return set;
}

enum { ENCODINGS = ENCODING_BYTE_STREAM_SPLIT + 1 };

static void put_encodings(struct thrift_put *t, const struct parquet_chunk *c, unsigned data) {
    unsigned set = data | 1u << ENCODING_RLE; /* levels */
    if (c->dict_used) {
        set |= 1u << ENCODING_PLAIN; /* the dictionary page */
    }
    thrift_put_list(t, COLUMN_META_ENCODINGS, THRIFT_I32, (size_t)__builtin_popcount(set));
    for (int e = 0; e < ENCODINGS; e++) {
        if (set >> e & 1) {
            thrift_put_element_int(t, e);
        }
    }
}

static void put_page_count(struct thrift_put *t, enum parquet_page_type type, int encoding,
                           uint32_t count) {
    thrift_put_struct(t, 0);
    thrift_put_i32(t, ENCODING_STATS_PAGE_TYPE, (int32_t)type);
    thrift_put_i32(t, ENCODING_STATS_ENCODING, encoding);
    thrift_put_i32(t, ENCODING_STATS_COUNT, (int32_t)count);
    thrift_put_struct_end(t);
}

static void put_encoding_stats(struct thrift_put *t, const struct parquet_chunk *c, unsigned data,
                               const uint32_t *counts) {
    thrift_put_list(t, COLUMN_META_ENCODING_STATS, THRIFT_STRUCT,
                    (size_t)__builtin_popcount(data) + c->dict_used);
    if (c->dict_used) {
        put_page_count(t, PAGE_DICTIONARY, ENCODING_PLAIN, 1);
    }
    for (int e = 0; e < ENCODINGS; e++) {
        if (counts[e] > 0) {
            put_page_count(t, PAGE_DATA, e, counts[e]);
        }
    }
}

static void put_statistics(struct thrift_put *t, const struct parquet_chunk *c) {
    const struct parquet_bounds *b = &c->bounds;
    enum parquet_order order = c->shape.order;
    thrift_put_struct(t, COLUMN_META_STATISTICS);
    thrift_put_i64(t, STATISTICS_NULL_COUNT, (int64_t)c->nulls);
    if (b->any) {
        struct buf min, max;
        buf_init(&min, SIZE_MAX);
        buf_init(&max, SIZE_MAX);
        bool min_exact, max_exact;
        const uint8_t *p = (const uint8_t *)b->max.data;
        bool upper = bound_put_upper(&max, order, p, b->max.len, b->max_cut, STATISTICS_BYTES_MAX,
                                     &max_exact) == 0 ||
                     bound_put_upper(&max, order, p, b->max.len, b->max_cut, BOUND_BYTES_MAX,
                                     &max_exact) == 0;
        bound_put_lower(&min, order, (const uint8_t *)b->min.data, b->min.len, b->min_cut,
                        STATISTICS_BYTES_MAX, &min_exact);
        if (upper) {
            thrift_put_binary(t, STATISTICS_MAX_VALUE, max.data, max.len);
        }
        thrift_put_binary(t, STATISTICS_MIN_VALUE, min.data, min.len);
        if (upper) {
            thrift_put_bool(t, STATISTICS_MAX_EXACT, max_exact);
        }
        thrift_put_bool(t, STATISTICS_MIN_EXACT, min_exact);
        buf_release(&min);
        buf_release(&max);
    }
    thrift_put_struct_end(t);
}

static uint64_t text_bytes(const struct parquet_chunk *c) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->page_count; i++) {
        sum += c->pages[i].text_bytes;
    }
    return sum;
}

static void put_path(struct thrift_put *t, const struct parquet_chunk *c, const char *path) {
    thrift_put_list(t, COLUMN_META_PATH_IN_SCHEMA, THRIFT_BINARY, c->shape.list ? 3 : 1);
    thrift_put_element_binary(t, path, strlen(path));
    if (c->shape.list) {
        thrift_put_element_binary(t, "list", 4);
        thrift_put_element_binary(t, "element", 7);
    }
}

void meta_put_chunk(struct buf *out, const struct parquet_chunk *c, const char *path,
                    const struct chunk_place *place, uint64_t totals[2]) {
    uint32_t counts[ENCODINGS] = { 0 };
    unsigned data = encodings_of(c, counts);
    totals[0] = place->dictionary_header + place->dictionary_body;
    totals[1] = place->dictionary;
    for (uint32_t i = 0; i < c->page_count; i++) {
        totals[0] += c->pages[i].header_size + c->pages[i].body_size;
        totals[1] += c->pages[i].size;
    }
    struct thrift_put t;
    thrift_put_init(&t, out);
    thrift_put_i32(&t, COLUMN_META_TYPE, (int32_t)c->shape.physical);
    put_encodings(&t, c, data);
    put_path(&t, c, path);
    thrift_put_i32(&t, COLUMN_META_CODEC, (int32_t)c->codec);
    thrift_put_i64(&t, COLUMN_META_NUM_VALUES, (int64_t)c->values_count);
    thrift_put_i64(&t, COLUMN_META_TOTAL_UNCOMPRESSED_SIZE, (int64_t)totals[0]);
    thrift_put_i64(&t, COLUMN_META_TOTAL_COMPRESSED_SIZE, (int64_t)totals[1]);
    thrift_put_i64(&t, COLUMN_META_DATA_PAGE_OFFSET, (int64_t)(place->at + place->dictionary));
    if (c->dict_used) {
        thrift_put_i64(&t, COLUMN_META_DICTIONARY_PAGE_OFFSET, (int64_t)place->at);
    }
    put_statistics(&t, c);
    put_encoding_stats(&t, c, data, counts);
    if (place->bloom_at) {
        thrift_put_i64(&t, COLUMN_META_BLOOM_OFFSET, (int64_t)place->bloom_at);
        thrift_put_i32(&t, COLUMN_META_BLOOM_LENGTH, (int32_t)place->bloom_bytes);
    }
    if (c->shape.physical == PHYSICAL_BYTE_ARRAY) {
        thrift_put_struct(&t, COLUMN_META_SIZE_STATISTICS);
        thrift_put_i64(&t, SIZE_UNENCODED_BYTES, (int64_t)text_bytes(c));
        thrift_put_struct_end(&t);
    }
    thrift_put_end(&t);
}

static int compare_marks(const struct parquet_chunk *c, const struct chunk_page *a,
                         const struct chunk_page *b, bool max) {
    const uint8_t *marks = (const uint8_t *)c->marks.data;
    if (max) {
        return order_compare(c->shape.order, marks + a->max_at, a->max_len, marks + b->max_at,
                             b->max_len);
    }
    return order_compare(c->shape.order, marks + a->min_at, a->min_len, marks + b->min_at,
                         b->min_len);
}

static enum parquet_boundary_order boundary_order(const struct parquet_chunk *c) {
    const struct chunk_page *before = NULL;
    bool up = true;
    bool down = true;
    for (uint32_t i = 0; i < c->page_count; i++) {
        const struct chunk_page *page = &c->pages[i];
        if (!page->has_values) {
            continue;
        }
        if (before) {
            int min = compare_marks(c, before, page, false);
            int max = compare_marks(c, before, page, true);
            up &= min <= 0 && max <= 0;
            down &= min >= 0 && max >= 0;
        }
        before = page;
    }
    return up ? BOUNDARY_ASCENDING : down ? BOUNDARY_DESCENDING : BOUNDARY_UNORDERED;
}

void meta_put_column_index(struct buf *out, const struct parquet_chunk *c) {
    if (c->no_index) {
        return;
    }
    struct thrift_put t;
    thrift_put_init(&t, out);
    thrift_put_list(&t, COLUMN_INDEX_NULL_PAGES, THRIFT_TRUE, c->page_count);
    for (uint32_t i = 0; i < c->page_count; i++) {
        thrift_put_element_bool(&t, !c->pages[i].has_values);
    }
    thrift_put_list(&t, COLUMN_INDEX_MIN_VALUES, THRIFT_BINARY, c->page_count);
    for (uint32_t i = 0; i < c->page_count; i++) {
        thrift_put_element_binary(&t, c->marks.data + c->pages[i].min_at, c->pages[i].min_len);
    }
    thrift_put_list(&t, COLUMN_INDEX_MAX_VALUES, THRIFT_BINARY, c->page_count);
    for (uint32_t i = 0; i < c->page_count; i++) {
        thrift_put_element_binary(&t, c->marks.data + c->pages[i].max_at, c->pages[i].max_len);
    }
    thrift_put_i32(&t, COLUMN_INDEX_BOUNDARY_ORDER, (int32_t)boundary_order(c));
    thrift_put_list(&t, COLUMN_INDEX_NULL_COUNTS, THRIFT_I64, c->page_count);
    for (uint32_t i = 0; i < c->page_count; i++) {
        thrift_put_element_int(&t, c->pages[i].nulls);
    }
    thrift_put_end(&t);
}

void meta_put_offset_index(struct buf *out, const struct parquet_chunk *c,
                           const struct chunk_place *place) {
    struct thrift_put t;
    thrift_put_init(&t, out);
    thrift_put_list(&t, OFFSET_INDEX_LOCATIONS, THRIFT_STRUCT, c->page_count);
    uint64_t at = place->at + place->dictionary;
    for (uint32_t i = 0; i < c->page_count; i++) {
        const struct chunk_page *page = &c->pages[i];
        thrift_put_struct(&t, 0);
        thrift_put_i64(&t, PAGE_LOCATION_OFFSET, (int64_t)at);
        thrift_put_i32(&t, PAGE_LOCATION_SIZE, (int32_t)page->size);
        thrift_put_i64(&t, PAGE_LOCATION_FIRST_ROW, (int64_t)page->first_row);
        thrift_put_struct_end(&t);
        at += page->size;
    }
    if (c->shape.physical == PHYSICAL_BYTE_ARRAY) {
        thrift_put_list(&t, OFFSET_INDEX_UNENCODED_BYTES, THRIFT_I64, c->page_count);
        for (uint32_t i = 0; i < c->page_count; i++) {
            thrift_put_element_int(&t, (int64_t)c->pages[i].text_bytes);
        }
    }
    thrift_put_end(&t);
}
