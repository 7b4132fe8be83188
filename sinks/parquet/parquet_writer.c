/* The writer: rows to chunks, chunks to row groups, row groups to a file. See parquet_writer.h.
 *
 *   "PAR1" | group: chunks: [dictionary] pages; then its bloom filters | ... | column indexes |
 * offset indexes | FileMetaData | its length | "PAR1"
 *
 * Rows go in by STRIDE_ROWS, a column after another, so that a row group ends between two strides.
 */
#include "sinks/parquet/parquet_writer.h"

#include <stdlib.h>

#include "sinks/parquet/parquet_meta.h"

enum {
    STRIDE_ROWS = 8192,
    GROUP_ROWS = 1 << 20,
    GROUP_BYTES = 32 << 20,
    PAGE_BYTES = 1 << 20,
    PAGE_BYTES_MAX = 64 << 20,
};

struct writer_field {
    char *name;
    int32_t field_id, element_id;
    struct parquet_chunk chunk;
    uint64_t bytes; /* of its chunks, in the file */
};
struct parquet_writer {
    struct parquet_options options;
    struct parquet_output output;
    char **extra; /* NULL-terminated; copies */
    struct writer_field *fields;
    uint32_t field_count;
    struct chunk_scratch scratch;
    struct buf staged; /* a dictionary page, blooms */
    uint64_t written;  /* bytes of the file */
    uint64_t rows, group_rows;
    struct buf metas, column_indexes, offset_indexes;
    struct chunk_meta *chunks;
    struct group_meta *groups;
    uint32_t group_count, group_cap;
    bool failed, finished;
};

static char **copy_extra(const char *const *extra) {
    size_t count = 0;
    while (extra && extra[count]) {
        count++;
    }
    CHECK(count % 2 == 0);
    char **copy = xcalloc(count + 1, sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = xstrdup(extra[i]);
    }
    return copy;
}

static void fill_options(struct parquet_options *o) {
    CHECK(o->codec == PARQUET_NONE || o->codec == PARQUET_SNAPPY || o->codec == PARQUET_ZSTD ||
          o->codec == PARQUET_LZ4_RAW);
    CHECK(o->codec != PARQUET_ZSTD || (o->level >= 1 && o->level <= 19));
    o->page_bytes = o->page_bytes ? o->page_bytes : PAGE_BYTES;
    o->page_bytes = o->page_bytes < PAGE_BYTES_MAX ? o->page_bytes : PAGE_BYTES_MAX;
    o->group_bytes = o->group_bytes ? o->group_bytes : GROUP_BYTES;
    o->group_rows = o->group_rows ? o->group_rows : GROUP_ROWS;
}

struct parquet_writer *parquet_writer_new(const struct parquet_field *fields, uint32_t count,
                                          const struct parquet_options *options,
                                          struct parquet_output output) {
    CHECK(count > 0);
    struct parquet_writer *w = xcalloc(1, sizeof *w);
    w->options = *options;
    fill_options(&w->options);
    w->extra = copy_extra(options->extra);
    w->options.extra = NULL;
    w->output = output;
    w->field_count = count;
    w->fields = xcalloc(count, sizeof *w->fields);
    for (uint32_t i = 0; i < count; i++) {
        struct writer_field *f = &w->fields[i];
        f->name = xstrdup(fields[i].name);
        f->field_id = fields[i].field_id;
        f->element_id = fields[i].element_id;
        chunk_init(&f->chunk, &fields[i], &w->options);
    }
    chunk_scratch_init(&w->scratch, w->options.level);
    buf_init(&w->staged, SIZE_MAX);
    buf_init(&w->metas, SIZE_MAX);
    buf_init(&w->column_indexes, SIZE_MAX);
    buf_init(&w->offset_indexes, SIZE_MAX);
    return w;
}

void parquet_writer_free(struct parquet_writer *w) {
    if (!w) {
        return;
    }
    for (uint32_t i = 0; i < w->field_count; i++) {
        free(w->fields[i].name);
        chunk_release(&w->fields[i].chunk);
    }
    free(w->fields);
    for (char **extra = w->extra; *extra; extra++) {
        free(*extra);
    }
    free(w->extra);
    chunk_scratch_release(&w->scratch);
    buf_release(&w->staged);
    buf_release(&w->metas);
    buf_release(&w->column_indexes);
    buf_release(&w->offset_indexes);
    free(w->chunks);
    free(w->groups);
    free(w);
}

static int put(struct parquet_writer *w, const void *p, size_t n, struct err *err) {
    if (n > 0 && w->output.write(w->output.arg, p, n, err)) {
        w->failed = true;
        return -1;
    }
    w->written += n;
    return 0;
}

static int put_magic(struct parquet_writer *w, struct err *err) {
    return w->written == 0 ? put(w, PARQUET_MAGIC, 4, err) : 0;
}

static int put_chunk(struct parquet_writer *w, struct writer_field *f, struct chunk_place *place,
                     struct err *err) {
    struct parquet_chunk *c = &f->chunk;
    *place = (struct chunk_place){ .at = w->written };
    if (c->dict_used) {
        buf_clear(&w->staged);
        chunk_put_dictionary(c, &w->scratch, &w->staged, &place->dictionary_body,
                             &place->dictionary_header);
        place->dictionary = w->staged.len;
        if (put(w, w->staged.data, w->staged.len, err)) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < c->page_count; i++) {
        if (put(w, c->pages[i].bytes, c->pages[i].size, err)) {
            return -1;
        }
    }
    f->bytes += w->written - place->at;
    return 0;
}

static int put_bloom(struct parquet_writer *w, struct parquet_chunk *c, struct chunk_place *place,
                     struct err *err) {
    if (!c->has_bloom || c->bloom.values == 0) {
        return 0;
    }
    buf_clear(&w->staged);
    bloom_put(&c->bloom, &w->staged);
    place->bloom_at = w->written;
    place->bloom_bytes = (uint32_t)w->staged.len;
    return put(w, w->staged.data, w->staged.len, err);
}

/* The chunk is in the file: its metadata is all that is kept of it. */
static void note_chunk(struct parquet_writer *w, struct writer_field *f,
                       const struct chunk_place *place, struct chunk_meta *m) {
    struct parquet_chunk *c = &f->chunk;
    uint64_t totals[2];
    m->meta_at = w->metas.len;
    meta_put_chunk(&w->metas, c, f->name, place, totals);
    m->meta_len = w->metas.len - m->meta_at;
    m->plain_bytes = totals[0];
    m->bytes = totals[1];
    m->column_index_at = w->column_indexes.len;
    meta_put_column_index(&w->column_indexes, c);
    m->column_index_len = w->column_indexes.len - m->column_index_at;
    m->offset_index_at = w->offset_indexes.len;
    meta_put_offset_index(&w->offset_indexes, c, place);
    m->offset_index_len = w->offset_indexes.len - m->offset_index_at;
    CHECK(c->rows == w->group_rows);
    c->file_values += c->values_count;
    c->file_nulls += c->nulls;
}

static void make_group_room(struct parquet_writer *w) {
    if (w->group_count == w->group_cap) {
        w->group_cap = w->group_cap ? w->group_cap * 2 : 4;
        w->groups = xrealloc(w->groups, w->group_cap * sizeof *w->groups);
        size_t chunks = (size_t)w->group_cap * w->field_count;
        w->chunks = xrealloc(w->chunks, chunks * sizeof *w->chunks);
    }
}

static int end_group(struct parquet_writer *w, bool trim, struct err *err) {
    if (w->group_rows == 0) {
        return 0;
    }
    if (put_magic(w, err)) {
        return -1;
    }
    make_group_room(w);
    struct group_meta *group = &w->groups[w->group_count];
    *group = (struct group_meta){ .rows = w->group_rows, .at = w->written };
    struct chunk_meta *metas = w->chunks + (size_t)w->group_count * w->field_count;
    struct chunk_place *places = xcalloc(w->field_count, sizeof *places);
    int result = 0;
    for (uint32_t i = 0; i < w->field_count && result == 0; i++) {
        chunk_page_close(&w->fields[i].chunk, &w->scratch, true);
        result = put_chunk(w, &w->fields[i], &places[i], err);
    }
    for (uint32_t i = 0; i < w->field_count && result == 0; i++) {
        result = put_bloom(w, &w->fields[i].chunk, &places[i], err);
    }
    for (uint32_t i = 0; i < w->field_count && result == 0; i++) {
        note_chunk(w, &w->fields[i], &places[i], &metas[i]);
        chunk_clear(&w->fields[i].chunk, trim);
    }
    free(places);
    if (trim) {
        chunk_scratch_release(&w->scratch);
        buf_release(&w->staged);
    }
    w->group_count += result == 0;
    w->group_rows = 0;
    return result;
}

static uint64_t held(const struct parquet_writer *w) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < w->field_count; i++) {
        bytes += chunk_held(&w->fields[i].chunk);
    }
    return bytes;
}

static void check_columns(const struct parquet_writer *w, const struct lake_column *columns,
                          uint32_t rows) {
    for (uint32_t i = 0; i < w->field_count; i++) {
        CHECK(columns[i].rows >= rows);
        CHECK(lake_type_equal(&columns[i].type, &w->fields[i].chunk.shape.type));
        CHECK(columns[i].type.kind != LAKE_LIST || columns[i].elements);
    }
}

int parquet_writer_add(struct parquet_writer *w, const struct lake_column *columns, uint32_t rows,
                       struct err *err) {
    CHECK(!w->finished && !w->failed);
    check_columns(w, columns, rows);
    for (uint32_t at = 0; at < rows;) {
        uint64_t left = w->options.group_rows - w->group_rows;
        uint32_t n = rows - at < STRIDE_ROWS ? rows - at : STRIDE_ROWS;
        n = n < left ? n : (uint32_t)left;
        for (uint32_t i = 0; i < w->field_count; i++) {
            struct writer_field *f = &w->fields[i];
            if (chunk_add(&f->chunk, &w->scratch, &columns[i], at, n, f->name, err)) {
                w->failed = true;
                return -1;
            }
        }
        at += n;
        w->group_rows += n;
        w->rows += n;
        if ((w->group_rows >= w->options.group_rows || held(w) >= w->options.group_bytes) &&
            end_group(w, false, err)) {
            return -1;
        }
    }
    return 0;
}

uint64_t parquet_writer_rows(const struct parquet_writer *w) { return w->rows; }

uint64_t parquet_writer_bytes(const struct parquet_writer *w) { return w->written + held(w); }

size_t parquet_writer_memory(const struct parquet_writer *w) {
    size_t bytes = sizeof *w + w->field_count * sizeof *w->fields + w->staged.cap + w->metas.cap +
                   w->column_indexes.cap + w->offset_indexes.cap +
                   w->group_cap * (sizeof *w->groups + w->field_count * sizeof *w->chunks) +
                   chunk_scratch_memory(&w->scratch);
    for (uint32_t i = 0; i < w->field_count; i++) {
        bytes += chunk_memory(&w->fields[i].chunk);
    }
    return bytes;
}

int parquet_writer_flush(struct parquet_writer *w, struct err *err) {
    CHECK(!w->finished && !w->failed);
    return end_group(w, true, err);
}

/* ---- the end ---- */

/* PLAIN bytes of a bound as Iceberg's single value: decimals become big-endian, as short as they
 * can be. */
static uint8_t *take_bound(const struct chunk_shape *shape, struct buf *plain, size_t *len) {
    uint8_t *bytes = xmalloc(plain->len + 1);
    if (plain->len > 0) {
        memcpy(bytes, plain->data, plain->len);
    }
    *len = plain->len;
    if (shape->kind != LAKE_DECIMAL) {
        return bytes;
    }
    size_t n = plain->len;
    if (shape->physical != PHYSICAL_FIXED) {
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)plain->data[n - 1 - i];
        }
    }
    size_t skip = 0;
    while (skip + 1 < n && ((bytes[skip] == 0 && !(bytes[skip + 1] & 0x80)) ||
                            (bytes[skip] == 0xFF && (bytes[skip + 1] & 0x80)))) {
        skip++;
    }
    memmove(bytes, bytes + skip, n - skip);
    *len = n - skip;
    return bytes;
}

static void fill_column_info(const struct writer_field *f, struct parquet_column_info *info) {
    const struct parquet_chunk *c = &f->chunk;
    *info = (struct parquet_column_info){
        .bytes = f->bytes, .values = c->file_values, .nulls = c->file_nulls, .nans = c->file_nans
    };
    const struct parquet_bounds *b = &c->file_bounds;
    if (!b->any || c->shape.list) {
        return;
    }
    struct buf lower, upper;
    buf_init(&lower, SIZE_MAX);
    buf_init(&upper, SIZE_MAX);
    bool exact;
    bound_put_lower(&lower, c->shape.order, (const uint8_t *)b->min.data, b->min.len, b->min_cut,
                    BOUND_BYTES_MAX, &exact);
    if (bound_put_upper(&upper, c->shape.order, (const uint8_t *)b->max.data, b->max.len,
                        b->max_cut, BOUND_BYTES_MAX, &exact) == 0) {
        info->has_bounds = true;
        info->lower = take_bound(&c->shape, &lower, &info->lower_len);
        info->upper = take_bound(&c->shape, &upper, &info->upper_len);
    }
    buf_release(&lower);
    buf_release(&upper);
}

static void fill_info(const struct parquet_writer *w, struct parquet_info *out) {
    *out = (struct parquet_info){ .rows = w->rows,
                                  .bytes = w->written,
                                  .column_count = w->field_count,
                                  .group_count = w->group_count };
    out->columns = xcalloc(w->field_count, sizeof *out->columns);
    for (uint32_t i = 0; i < w->field_count; i++) {
        fill_column_info(&w->fields[i], &out->columns[i]);
    }
    out->group_offsets = xcalloc(w->group_count + 1, sizeof *out->group_offsets);
    for (uint32_t i = 0; i < w->group_count; i++) {
        out->group_offsets[i] = w->groups[i].at;
    }
}

static void put_file_meta(const struct parquet_writer *w, uint64_t index_at, struct buf *out) {
    struct meta_field *fields = xcalloc(w->field_count, sizeof *fields);
    for (uint32_t i = 0; i < w->field_count; i++) {
        const struct writer_field *f = &w->fields[i];
        fields[i] = (struct meta_field){ .shape = &f->chunk.shape,
                                         .name = f->name,
                                         .field_id = f->field_id,
                                         .element_id = f->element_id };
    }
    struct meta_file file = { .fields = fields,
                              .field_count = w->field_count,
                              .group_count = w->group_count,
                              .groups = w->groups,
                              .chunks = w->chunks,
                              .metas = &w->metas,
                              .column_indexes_len = w->column_indexes.len,
                              .index_at = index_at,
                              .rows = w->rows,
                              .extra = (const char *const *)w->extra };
    meta_put_file(out, &file);
    free(fields);
}

int parquet_writer_finish(struct parquet_writer *w, struct parquet_info *out, struct err *err) {
    CHECK(!w->finished && !w->failed);
    if (end_group(w, true, err) || put_magic(w, err)) {
        return -1;
    }
    uint64_t index_at = w->written;
    if (put(w, w->column_indexes.data, w->column_indexes.len, err) ||
        put(w, w->offset_indexes.data, w->offset_indexes.len, err)) {
        return -1;
    }
    buf_clear(&w->staged);
    put_file_meta(w, index_at, &w->staged);
    if (w->staged.len > INT32_MAX) {
        w->failed = true;
        return err_set(err, ERR_FATAL, "parquet_footer_large",
                       "the metadata of a Parquet file has %zu bytes, more than fit",
                       w->staged.len);
    }
    uint32_t len = (uint32_t)w->staged.len;
    buf_put(&w->staged, &len, 4);
    buf_put(&w->staged, PARQUET_MAGIC, 4);
    if (put(w, w->staged.data, w->staged.len, err)) {
        return -1;
    }
    w->finished = true;
    fill_info(w, out);
    return 0;
}

void parquet_info_release(struct parquet_info *info) {
    for (uint32_t i = 0; i < info->column_count; i++) {
        free(info->columns[i].lower);
        free(info->columns[i].upper);
    }
    free(info->columns);
    free(info->group_offsets);
    *info = (struct parquet_info){ 0 };
}
