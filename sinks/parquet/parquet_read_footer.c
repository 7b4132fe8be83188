/* Opening a file: its tail, its FileMetaData. See parquet_reader.h and parquet_read.h. What the
 * footer says of chunks is checked against the file's size here, so that nobody seeks outside of it
 * later. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <libdeflate.h>
#include <zstd.h>

#include "sinks/parquet/parquet_read.h"
#include "sinks/parquet/thrift_take.h"

/* A page's size is an i32, and offsets of texts within two of them must fit 32 bits. */
#define BYTES_MAX ((size_t)INT32_MAX)

static int set_error(const struct parquet_reader *r, const char *field, struct err *err,
                     const char *code, const char *text) {
    if (field) {
        return err_set(err, ERR_FATAL, code, "Parquet file \"%s\", column \"%s\": %s",
                       r->input.name, field, text);
    }
    return err_set(err, ERR_FATAL, code, "Parquet file \"%s\": %s", r->input.name, text);
}

int read_damaged(const struct parquet_reader *r, const char *field, struct err *err,
                 const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return set_error(r, field, err, "parquet_damaged", text);
}

int read_unsupported(const struct parquet_reader *r, const char *field, struct err *err,
                     const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return set_error(r, field, err, "parquet_unsupported", text);
}

void *read_room(struct buf *b, size_t n) {
    int failed = buf_reserve(b, n + UNPACK_SLACK);
    CHECK(!failed);
    return b->data + b->len;
}

/* ColumnChunk as the file has it. */
struct chunk_fields {
    bool has_meta, elsewhere, encrypted;
    int64_t values, bytes, data_at, dictionary_at, index_at;
    int32_t physical, codec, index_bytes;
};

static void take_column_meta(struct thrift_take *t, enum thrift_type type, struct chunk_fields *c) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    c->has_meta = true;
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case COLUMN_META_TYPE:
            c->physical = thrift_take_i32(t, type);
            break;
        case COLUMN_META_CODEC:
            c->codec = thrift_take_i32(t, type);
            break;
        case COLUMN_META_NUM_VALUES:
            c->values = thrift_take_i64(t, type);
            break;
        case COLUMN_META_TOTAL_COMPRESSED_SIZE:
            c->bytes = thrift_take_i64(t, type);
            break;
        case COLUMN_META_DATA_PAGE_OFFSET:
            c->data_at = thrift_take_i64(t, type);
            break;
        case COLUMN_META_DICTIONARY_PAGE_OFFSET:
            c->dictionary_at = thrift_take_i64(t, type);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

static void take_chunk(struct thrift_take *t, struct chunk_fields *c) {
    int16_t id = 0;
    enum thrift_type type;
    size_t len = 0;
    *c = (struct chunk_fields){ 0 };
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case CHUNK_FILE_PATH:
            thrift_take_binary(t, type, &len);
            c->elsewhere = len > 0;
            break;
        case CHUNK_META_DATA:
            take_column_meta(t, type, c);
            break;
        case CHUNK_OFFSET_INDEX_OFFSET:
            c->index_at = thrift_take_i64(t, type);
            break;
        case CHUNK_OFFSET_INDEX_LENGTH:
            c->index_bytes = thrift_take_i32(t, type);
            break;
        case CHUNK_CRYPTO:
            c->encrypted = true;
            thrift_take_skip(t, type);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

/* Into the group's chunks, checked against the file's size. Values are checked against rows once
 * the group's are known. */
static int keep_chunk(struct parquet_reader *r, const struct read_field *f,
                      const struct chunk_fields *c, struct read_chunk *out, struct err *err) {
    const char *name = f->field.name;
    if (c->elsewhere || c->encrypted) {
        return read_unsupported(r, name, err, "it is %s",
                                c->encrypted ? "encrypted" : "in another file");
    }
    uint64_t end = r->data_end;
    int64_t at =
        c->dictionary_at > 0 && c->dictionary_at < c->data_at ? c->dictionary_at : c->data_at;
    if (!c->has_meta || c->physical != (int32_t)f->leaf.physical || c->values < 0) {
        return read_damaged(r, name, err, "its chunk's metadata does not fit the schema");
    }
    if (c->values == 0) {
        return 0;
    }
    if (at < (int64_t)strlen(PARQUET_MAGIC) || (uint64_t)at > end || c->bytes < 0 ||
        (uint64_t)c->bytes > end - (uint64_t)at) {
        return read_damaged(r, name, err, "its chunk lies outside of the file");
    }
    *out =
        (struct read_chunk){ .at = (uint64_t)at, .bytes = (uint64_t)c->bytes, .codec = c->codec };
    if (c->index_at > 0 && c->index_bytes > 0) {
        if ((uint64_t)c->index_at > end || (uint64_t)c->index_bytes > end - (uint64_t)c->index_at) {
            return read_damaged(r, name, err, "its offset index lies outside of the file");
        }
        out->index_at = (uint64_t)c->index_at;
        out->index_bytes = (uint32_t)c->index_bytes;
    }
    return 0;
}

static int take_chunks(struct parquet_reader *r, struct thrift_take *t, enum thrift_type type,
                       struct read_group *g, struct err *err) {
    uint32_t count = thrift_take_list(t, type, THRIFT_STRUCT);
    if (t->bad || count != r->column_count || g->chunks) {
        return read_damaged(r, NULL, err, "a row group does not have the schema's columns");
    }
    g->chunks = xcalloc((size_t)r->field_count + 1, sizeof *g->chunks);
    for (uint32_t i = 0; i < count; i++) {
        struct chunk_fields c;
        take_chunk(t, &c);
        int32_t field = r->field_of[i];
        if (t->bad) {
            return read_damaged(r, NULL, err, "its footer is malformed");
        }
        if (field >= 0 && keep_chunk(r, &r->fields[field], &c, &g->chunks[field], err)) {
            return -1;
        }
    }
    return 0;
}

static int take_group(struct parquet_reader *r, struct thrift_take *t, struct err *err) {
    if (r->group_count == r->group_cap) {
        r->group_cap = r->group_cap ? r->group_cap * 2 : 8;
        r->groups = xrealloc(r->groups, r->group_cap * sizeof *r->groups);
    }
    struct read_group *g = &r->groups[r->group_count++];
    *g = (struct read_group){ .first_row = r->rows };
    int64_t rows = -1;
    int16_t id = 0;
    enum thrift_type type;
    while (thrift_take_field(t, &id, &type)) {
        if (id == ROW_GROUP_COLUMNS) {
            if (take_chunks(r, t, type, g, err)) {
                return -1;
            }
        } else if (id == ROW_GROUP_NUM_ROWS) {
            rows = thrift_take_i64(t, type);
        } else {
            thrift_take_skip(t, type);
        }
    }
    if (t->bad || rows < 0 || !g->chunks || rows > INT64_MAX - (int64_t)r->rows) {
        return read_damaged(r, NULL, err, "a row group is malformed");
    }
    g->rows = (uint64_t)rows;
    r->rows += g->rows;
    return 0;
}

static int take_groups(struct parquet_reader *r, struct thrift_take *t, enum thrift_type type,
                       struct err *err) {
    if (!r->field_of || r->group_count > 0) {
        return read_damaged(r, NULL, err, "its footer has row groups before a schema, or twice");
    }
    uint32_t count = thrift_take_list(t, type, THRIFT_STRUCT);
    for (uint32_t i = 0; i < count; i++) {
        if (take_group(r, t, err)) {
            return -1;
        }
    }
    return 0;
}

static void take_extra(struct parquet_reader *r, struct thrift_take *t, enum thrift_type type) {
    uint32_t count = thrift_take_list(t, type, THRIFT_STRUCT);
    for (uint32_t i = 0; i < count && !t->bad; i++) {
        const uint8_t *key = NULL, *value = NULL;
        size_t key_len = 0, value_len = 0;
        int16_t id = 0;
        while (thrift_take_field(t, &id, &type)) {
            if (id == KEY_VALUE_KEY) {
                key = thrift_take_binary(t, type, &key_len);
            } else if (id == KEY_VALUE_VALUE) {
                value = thrift_take_binary(t, type, &value_len);
            } else {
                thrift_take_skip(t, type);
            }
        }
        if (t->bad || !key || !value) {
            continue; /* a key without a value says nothing */
        }
        if (r->extra_count == r->extra_cap) {
            r->extra_cap = r->extra_cap ? r->extra_cap * 2 : 8;
            r->extra = xrealloc(r->extra, r->extra_cap * 2 * sizeof *r->extra);
        }
        r->extra[2 * r->extra_count] = xstrndup((const char *)key, key_len);
        r->extra[2 * r->extra_count + 1] = xstrndup((const char *)value, value_len);
        r->extra_count++;
    }
}

static int take_file(struct parquet_reader *r, struct thrift_take *t, struct err *err) {
    int16_t id = 0;
    enum thrift_type type;
    int64_t rows = -1;
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case FILE_META_SCHEMA:
            if (read_schema(r, t, type, err)) {
                return -1;
            }
            break;
        case FILE_META_NUM_ROWS:
            rows = thrift_take_i64(t, type);
            break;
        case FILE_META_ROW_GROUPS:
            if (take_groups(r, t, type, err)) {
                return -1;
            }
            break;
        case FILE_META_KEY_VALUES:
            take_extra(r, t, type);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
    if (t->bad || !r->field_of) {
        return read_damaged(r, NULL, err, "its footer is malformed");
    }
    if (rows < 0 || (uint64_t)rows != r->rows) {
        return read_damaged(r, NULL, err,
                            "its row groups have %" PRIu64 " rows, its footer says "
                            "%" PRId64,
                            r->rows, rows);
    }
    return 0;
}

static int read_footer(struct parquet_reader *r, struct err *err) {
    enum { MAGIC = 4 };
    char head[MAGIC], tail[PARQUET_FOOTER_TAIL];
    if (r->input.size < MAGIC + PARQUET_FOOTER_TAIL) {
        return read_damaged(r, NULL, err, "%" PRIu64 " bytes are no Parquet file", r->input.size);
    }
    if (r->input.read_at(r->input.arg, 0, head, sizeof head, err) ||
        r->input.read_at(r->input.arg, r->input.size - sizeof tail, tail, sizeof tail, err)) {
        return -1;
    }
    if (memcmp(tail + MAGIC, PARQUET_MAGIC_ENCRYPTED, MAGIC) == 0) {
        return read_unsupported(r, NULL, err, "its footer is encrypted");
    }
    if (memcmp(tail + MAGIC, PARQUET_MAGIC, MAGIC) != 0 ||
        memcmp(head, PARQUET_MAGIC, MAGIC) != 0) {
        return read_damaged(r, NULL, err, "it does not begin and end with PAR1");
    }
    uint32_t len;
    memcpy(&len, tail, sizeof len);
    if (len > r->input.size - MAGIC - PARQUET_FOOTER_TAIL) {
        return read_damaged(r, NULL, err, "its footer is larger than the file");
    }
    if (len > r->bytes_max) {
        return read_unsupported(r, NULL, err, "its footer has %" PRIu32 " bytes, more than %zu",
                                len, r->bytes_max);
    }
    r->data_end = r->input.size - PARQUET_FOOTER_TAIL - len;
    uint8_t *bytes = xmalloc(len + 1u);
    int rc = r->input.read_at(r->input.arg, r->data_end, bytes, len, err);
    if (rc == 0) {
        struct thrift_take t;
        thrift_take_init(&t, bytes, len);
        rc = take_file(r, &t, err);
    }
    free(bytes);
    return rc;
}

int parquet_reader_open(struct parquet_input input, size_t bytes_max, struct parquet_reader **out,
                        struct err *err) {
    struct parquet_reader *r = xcalloc(1, sizeof *r);
    r->input = input;
    r->input.name = xstrdup(input.name);
    r->bytes_max = bytes_max < BYTES_MAX ? bytes_max : BYTES_MAX;
    *out = NULL;
    if (read_footer(r, err)) {
        parquet_reader_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void parquet_reader_close(struct parquet_reader *r) {
    if (!r) {
        return;
    }
    for (uint32_t i = 0; i < r->field_count; i++) {
        free((char *)r->fields[i].field.name);
    }
    for (uint32_t i = 0; i < r->group_count; i++) {
        free(r->groups[i].chunks);
    }
    for (uint32_t i = 0; i < 2 * r->extra_count; i++) {
        free(r->extra[i]);
    }
    ZSTD_freeDCtx(r->zstd);
    libdeflate_free_decompressor(r->deflate);
    free((char *)r->input.name);
    free(r->extra);
    free(r->groups);
    free(r->field_of);
    free(r->fields);
    free(r);
}

uint64_t parquet_reader_rows(const struct parquet_reader *r) { return r->rows; }
uint32_t parquet_reader_groups(const struct parquet_reader *r) { return r->group_count; }

uint64_t parquet_reader_group_rows(const struct parquet_reader *r, uint32_t group) {
    CHECK(group < r->group_count);
    return r->groups[group].rows;
}

uint32_t parquet_reader_field_count(const struct parquet_reader *r) { return r->field_count; }

const struct parquet_read_field *parquet_reader_field(const struct parquet_reader *r, uint32_t i) {
    CHECK(i < r->field_count);
    return &r->fields[i].field;
}

int parquet_reader_find(const struct parquet_reader *r, int32_t field_id, const char *name) {
    for (uint32_t i = 0; field_id != 0 && i < r->field_count; i++) {
        if (r->fields[i].field.field_id == field_id) {
            return (int)i;
        }
    }
    for (uint32_t i = 0; name && i < r->field_count; i++) {
        const struct parquet_read_field *f = &r->fields[i].field;
        if ((field_id == 0 || f->field_id == 0) && strcmp(f->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const char *parquet_reader_extra(const struct parquet_reader *r, const char *key) {
    for (uint32_t i = 0; i < r->extra_count; i++) {
        if (strcmp(r->extra[2 * i], key) == 0) {
            return r->extra[2 * i + 1];
        }
    }
    return NULL;
}
