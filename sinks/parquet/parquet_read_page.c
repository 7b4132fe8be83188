/* Pages of a column chunk: found, checked, decompressed. See parquet_read.h. The file is read
 * through a window: at least `ahead` bytes at once while going through a chunk, one page alone
 * where the offset index names it. What a page claims to be once decompressed is believed only as
 * far as its codec can do that. */
#include <stdlib.h>

#include <libdeflate.h>
#include <lz4.h>
#include <snappy-c.h>
#include <zstd.h>

#include "sinks/parquet/parquet_read.h"
#include "sinks/parquet/thrift_take.h"

enum {
    AHEAD_BYTES = 256 << 10,
    HEADER_FIRST = 512, /* bytes of a header tried first: all but those with statistics */
    HEADER_BYTES_MAX = 16 << 20,
};

void pages_init(struct read_pages *p, struct parquet_reader *r, const struct read_field *field) {
    *p = (struct read_pages){ .r = r, .field = field, .ahead = AHEAD_BYTES };
    buf_init(&p->window, SIZE_MAX);
    buf_init(&p->body, SIZE_MAX);
    buf_init(&p->dict.body, SIZE_MAX);
    buf_init(&p->dict.cells, SIZE_MAX);
    buf_init(&p->dict.texts, SIZE_MAX);
    buf_init(&p->index, SIZE_MAX);
}

void pages_release(struct read_pages *p) {
    buf_release(&p->window);
    buf_release(&p->body);
    buf_release(&p->index);
    read_dict_release(&p->dict);
}

static int damaged(const struct read_pages *p, struct err *err, const char *what) {
    return read_damaged(p->r, p->field->field.name, err, "%s", what);
}

static bool codec_known(int32_t codec) {
    return codec == FORMAT_CODEC_NONE || codec == FORMAT_CODEC_SNAPPY ||
           codec == FORMAT_CODEC_GZIP || codec == FORMAT_CODEC_ZSTD ||
           codec == FORMAT_CODEC_LZ4_RAW;
}

int pages_open(struct read_pages *p, const struct read_chunk *chunk, struct err *err) {
    p->chunk = chunk;
    p->dict.loaded = false;
    p->index_loaded = false;
    pages_restart(p);
    if (chunk->bytes > 0 && !codec_known(chunk->codec)) {
        return read_unsupported(p->r, p->field->field.name, err,
                                "its codec is %s (none, snappy, gzip, zstd and lz4_raw are read)",
                                chunk->codec == FORMAT_CODEC_LZO      ? "lzo"
                                : chunk->codec == FORMAT_CODEC_BROTLI ? "brotli"
                                : chunk->codec == FORMAT_CODEC_LZ4    ? "the old lz4"
                                                                      : "not known");
    }
    return 0;
}

static uint64_t chunk_end(const struct read_pages *p) { return p->chunk->at + p->chunk->bytes; }

/* n bytes of the chunk from `at` on, in the window. */
static int fetch(struct read_pages *p, uint64_t at, size_t n, const uint8_t **out,
                 struct err *err) {
    if (at < p->chunk->at || at > chunk_end(p) || n > chunk_end(p) - at) {
        return damaged(p, err, "a page goes beyond its chunk");
    }
    if (at < p->window_at || at + n > p->window_at + p->window.len) {
        uint64_t left = chunk_end(p) - at;
        size_t want = n > p->ahead ? n : p->ahead;
        want = want < left ? want : (size_t)left;
        buf_clear(&p->window);
        uint8_t *to = read_room(&p->window, want);
        if (p->r->input.read_at(p->r->input.arg, at, to, want, err)) {
            return -1;
        }
        memset(to + want, 0, UNPACK_SLACK);
        p->window.len = want;
        p->window_at = at;
    }
    *out = (const uint8_t *)p->window.data + (at - p->window_at);
    return 0;
}

static uint32_t take_u32(struct thrift_take *t, enum thrift_type type) {
    int32_t v = thrift_take_i32(t, type);
    t->bad |= v < 0;
    return v < 0 ? 0 : (uint32_t)v;
}

static void take_data(struct thrift_take *t, enum thrift_type type, struct read_header *h) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case DATA_PAGE_NUM_VALUES:
            h->values = take_u32(t, type);
            break;
        case DATA_PAGE_ENCODING:
            h->encoding = thrift_take_i32(t, type);
            break;
        case DATA_PAGE_DEFINITION_ENCODING:
            h->definition_encoding = thrift_take_i32(t, type);
            break;
        case DATA_PAGE_REPETITION_ENCODING:
            h->repetition_encoding = thrift_take_i32(t, type);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

static void take_data_v2(struct thrift_take *t, enum thrift_type type, struct read_header *h) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case DATA_V2_NUM_VALUES:
            h->values = take_u32(t, type);
            break;
        case DATA_V2_NUM_ROWS:
            h->rows = take_u32(t, type);
            break;
        case DATA_V2_ENCODING:
            h->encoding = thrift_take_i32(t, type);
            break;
        case DATA_V2_DEFINITION_LENGTH:
            h->definition_bytes = take_u32(t, type);
            break;
        case DATA_V2_REPETITION_LENGTH:
            h->repetition_bytes = take_u32(t, type);
            break;
        case DATA_V2_IS_COMPRESSED:
            h->compressed = thrift_take_bool(t, type);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

static void take_dictionary(struct thrift_take *t, enum thrift_type type, struct read_header *h) {
    int16_t id = 0;
    thrift_take_struct(t, type);
    while (thrift_take_field(t, &id, &type)) {
        if (id == DICTIONARY_PAGE_NUM_VALUES) {
            h->values = take_u32(t, type);
        } else if (id == DICTIONARY_PAGE_ENCODING) {
            h->encoding = thrift_take_i32(t, type);
        } else {
            thrift_take_skip(t, type);
        }
    }
}

static void take_header(struct thrift_take *t, struct read_header *h) {
    *h = (struct read_header){ .type = -1,
                               .encoding = -1,
                               .definition_encoding = ENCODING_RLE,
                               .repetition_encoding = ENCODING_RLE,
                               .compressed = true };
    int16_t id = 0;
    enum thrift_type type;
    while (thrift_take_field(t, &id, &type)) {
        switch (id) {
        case PAGE_HEADER_TYPE:
            h->type = thrift_take_i32(t, type);
            break;
        case PAGE_HEADER_UNCOMPRESSED:
            h->body = take_u32(t, type);
            break;
        case PAGE_HEADER_COMPRESSED:
            h->stored = take_u32(t, type);
            break;
        case PAGE_HEADER_CRC:
            h->crc = (uint32_t)thrift_take_i32(t, type);
            h->has_crc = true;
            break;
        case PAGE_HEADER_DATA:
            take_data(t, type, h);
            break;
        case PAGE_HEADER_DICTIONARY:
            take_dictionary(t, type, h);
            break;
        case PAGE_HEADER_DATA_V2:
            take_data_v2(t, type, h);
            break;
        default:
            thrift_take_skip(t, type);
        }
    }
}

static int read_header(struct read_pages *p, struct read_header *h, struct err *err) {
    uint64_t left = chunk_end(p) - p->at;
    for (size_t n = HEADER_FIRST;; n *= 8) {
        n = n < left ? n : (size_t)left;
        const uint8_t *bytes;
        if (fetch(p, p->at, n, &bytes, err)) {
            return -1;
        }
        struct thrift_take t;
        thrift_take_init(&t, bytes, n);
        take_header(&t, h);
        if (!t.bad) {
            h->size = (uint32_t)(t.at - bytes);
            break;
        }
        if (n == left || n >= HEADER_BYTES_MAX) {
            return damaged(p, err, "a page's header is malformed");
        }
    }
    if (h->stored > left - h->size) {
        return damaged(p, err, "a page goes beyond its chunk");
    }
    if (h->body > p->r->bytes_max) {
        return read_unsupported(p->r, p->field->field.name, err,
                                "a page has %u bytes, more than %zu", h->body, p->r->bytes_max);
    }
    return 0;
}

/* Can so many stored bytes become so many at all? From each format's densest form. */
static bool size_possible(int32_t codec, size_t stored, size_t n) {
    switch (codec) {
    case FORMAT_CODEC_SNAPPY:
        return n / 64 <= stored;
    case FORMAT_CODEC_LZ4_RAW:
        return n / 256 <= stored;
    case FORMAT_CODEC_GZIP:
        return n / 1040 <= stored;
    case FORMAT_CODEC_ZSTD:
        return n / (48 << 10) <= stored;
    default:
        return n == stored;
    }
}

/* A gzip stream may have several members. */
static bool unzip(struct parquet_reader *r, const uint8_t *in, size_t in_len, uint8_t *out,
                  size_t n) {
    if (!r->deflate) {
        r->deflate = libdeflate_alloc_decompressor();
        CHECK(r->deflate);
    }
    while (in_len > 0) {
        size_t took;
        size_t gave;
        if (libdeflate_gzip_decompress_ex(r->deflate, in, in_len, out, n, &took, &gave) !=
            LIBDEFLATE_SUCCESS) {
            return false;
        }
        in += took;
        in_len -= took;
        out += gave;
        n -= gave;
    }
    return n == 0;
}

static bool decompress_with(struct parquet_reader *r, int32_t codec, const uint8_t *in,
                            size_t in_len, uint8_t *out, size_t n) {
    switch (codec) {
    case FORMAT_CODEC_ZSTD:
        if (!r->zstd) {
            r->zstd = ZSTD_createDCtx();
            CHECK(r->zstd);
        }
        return ZSTD_decompressDCtx(r->zstd, out, n, in, in_len) == n;
    case FORMAT_CODEC_SNAPPY: {
        size_t len = 0;
        return snappy_uncompressed_length((const char *)in, in_len, &len) == SNAPPY_OK &&
               len == n &&
               snappy_uncompress((const char *)in, in_len, (char *)out, &len) == SNAPPY_OK;
    }
    case FORMAT_CODEC_LZ4_RAW:
        return in_len <= INT32_MAX && n <= INT32_MAX &&
               LZ4_decompress_safe((const char *)in, (char *)out, (int)in_len, (int)n) == (int)n;
    default:
        return unzip(r, in, in_len, out, n);
    }
}

/* n bytes appended to out, with the slack behind them. */
static int decompress(struct read_pages *p, const uint8_t *in, size_t in_len, struct buf *out,
                      size_t n, struct err *err) {
    if (!size_possible(p->chunk->codec, in_len, n)) {
        return damaged(p, err, "a page says that it is larger than its bytes can become");
    }
    uint8_t *to = read_room(out, n);
    if (n > 0 && !decompress_with(p->r, p->chunk->codec, in, in_len, to, n)) {
        return damaged(p, err, "a page cannot be decompressed to what it says");
    }
    memset(to + n, 0, UNPACK_SLACK);
    out->len += n;
    return 0;
}

/* The stored body, its checksum verified. */
static int stored_body(struct read_pages *p, const struct read_header *h, const uint8_t **out,
                       struct err *err) {
    if (fetch(p, p->at + h->size, h->stored, out, err)) {
        return -1;
    }
    if (h->has_crc && libdeflate_crc32(0, *out, h->stored) != h->crc) {
        return damaged(p, err, "a page's bytes do not fit its checksum");
    }
    return 0;
}

static int load_dictionary(struct read_pages *p, const struct read_header *h, struct err *err) {
    const uint8_t *stored = NULL;
    if (h->encoding != ENCODING_PLAIN && h->encoding != ENCODING_PLAIN_DICTIONARY) {
        return read_unsupported(p->r, p->field->field.name, err,
                                "its dictionary has the encoding %d", (int)h->encoding);
    }
    if (stored_body(p, h, &stored, err)) {
        return -1;
    }
    buf_clear(&p->dict.body);
    if (p->chunk->codec == FORMAT_CODEC_NONE) {
        if (h->body != h->stored) {
            return damaged(p, err, "a page without a codec has two sizes");
        }
        uint8_t *to = read_room(&p->dict.body, h->body);
        memcpy(to, stored, h->body);
        memset(to + h->body, 0, UNPACK_SLACK);
        p->dict.body.len = h->body;
    } else if (decompress(p, stored, h->stored, &p->dict.body, h->body, err)) {
        return -1;
    }
    p->dict_at = p->at;
    int rc = read_dict_fill(&p->dict, &p->field->leaf, h->values);
    if (rc == VALUES_BEYOND) {
        return read_unsupported(p->r, p->field->field.name, err,
                                "a value is beyond what its type holds");
    }
    return rc ? damaged(p, err, "its dictionary is malformed") : 0;
}

void pages_skip(struct read_pages *p, const struct read_header *h) {
    p->at += (uint64_t)h->size + h->stored;
}

void pages_restart(struct read_pages *p) {
    p->at = p->chunk->at;
    p->ahead = AHEAD_BYTES;
}

int pages_next(struct read_pages *p, struct read_header *h, struct err *err) {
    while (p->at < chunk_end(p)) {
        if (read_header(p, h, err)) {
            return -1;
        }
        if (h->type == PAGE_DATA || h->type == PAGE_DATA_V2) {
            if (!values_encoding_known(&p->field->leaf, h->encoding)) {
                return read_unsupported(p->r, p->field->field.name, err,
                                        "a page has the encoding %d", (int)h->encoding);
            }
            return 1;
        }
        if (h->type == PAGE_DICTIONARY) {
            if (p->dict.loaded && p->dict_at != p->at) {
                return damaged(p, err, "its chunk has two dictionaries");
            }
            if (!p->dict.loaded && load_dictionary(p, h, err)) {
                return -1;
            }
        }
        pages_skip(p, h);
    }
    return 0;
}

/* Version 1: lengths in front of the levels, all of it through the codec. */
static int load_v1(struct read_pages *p, const struct read_header *h, const uint8_t *stored,
                   struct read_page *out, struct err *err) {
    const struct read_leaf *leaf = &p->field->leaf;
    const uint8_t *at = stored;
    if (p->chunk->codec != FORMAT_CODEC_NONE) {
        buf_clear(&p->body);
        if (decompress(p, stored, h->stored, &p->body, h->body, err)) {
            return -1;
        }
        at = (const uint8_t *)p->body.data;
    } else if (h->body != h->stored) {
        return damaged(p, err, "a page without a codec has two sizes");
    }
    const uint8_t *end = at + h->body;
    for (int definition = 0; definition < 2; definition++) {
        const uint8_t *front = at;
        if (definition ? leaf->max_definition > 0 : leaf->max_repetition > 0) {
            uint32_t len;
            if ((definition ? h->definition_encoding : h->repetition_encoding) != ENCODING_RLE) {
                return read_unsupported(p->r, p->field->field.name, err,
                                        "a page has levels in a deprecated encoding");
            }
            if ((size_t)(end - at) < sizeof len) {
                return damaged(p, err, "a page ends within its levels");
            }
            memcpy(&len, at, sizeof len);
            at += sizeof len;
            if (len > (size_t)(end - at)) {
                return damaged(p, err, "a page ends within its levels");
            }
            front = at;
            at += len;
        }
        *(definition ? &out->definition : &out->repetition) = front;
        *(definition ? &out->definition_end : &out->repetition_end) = at;
    }
    out->data = at;
    out->data_end = end;
    return 0;
}

/* Version 2: levels first, as they are; the codec, if it was used, did the values only. */
static int load_v2(struct read_pages *p, const struct read_header *h, const uint8_t *stored,
                   struct read_page *out, struct err *err) {
    uint64_t levels = (uint64_t)h->repetition_bytes + h->definition_bytes;
    if (levels > h->stored || levels > h->body) {
        return damaged(p, err, "a page's levels are larger than the page");
    }
    out->repetition = stored;
    out->repetition_end = out->definition = stored + h->repetition_bytes;
    out->definition_end = out->data = out->definition + h->definition_bytes;
    out->data_end = stored + h->stored;
    size_t n = h->body - (size_t)levels;
    if (h->compressed && p->chunk->codec != FORMAT_CODEC_NONE && n > 0) {
        buf_clear(&p->body);
        if (decompress(p, out->data, h->stored - (size_t)levels, &p->body, n, err)) {
            return -1;
        }
        out->data = (const uint8_t *)p->body.data;
        out->data_end = out->data + n;
    } else if (n > 0 && h->body != h->stored) {
        return damaged(p, err, "a page without a codec has two sizes");
    } else if (n == 0) {
        out->data_end = out->data;
    }
    return 0;
}

int pages_load(struct read_pages *p, const struct read_header *h, struct read_page *out,
               struct err *err) {
    const uint8_t *stored = NULL;
    if (stored_body(p, h, &stored, err)) {
        return -1;
    }
    out->values = h->values;
    out->encoding = (enum parquet_encoding)h->encoding;
    int rc =
        h->type == PAGE_DATA ? load_v1(p, h, stored, out, err) : load_v2(p, h, stored, out, err);
    pages_skip(p, h);
    return rc;
}

static int take_locations(struct read_pages *p, struct thrift_take *t, enum thrift_type type,
                          uint64_t rows, struct err *err) {
    uint32_t count = thrift_take_list(t, type, THRIFT_STRUCT);
    for (uint32_t i = 0; i < count; i++) {
        int64_t at = -1, bytes = -1, row = -1;
        int16_t id = 0;
        while (thrift_take_field(t, &id, &type)) {
            if (id == PAGE_LOCATION_OFFSET) {
                at = thrift_take_i64(t, type);
            } else if (id == PAGE_LOCATION_SIZE) {
                bytes = thrift_take_i32(t, type);
            } else if (id == PAGE_LOCATION_FIRST_ROW) {
                row = thrift_take_i64(t, type);
            } else {
                thrift_take_skip(t, type);
            }
        }
        struct read_location *l = read_room(&p->index, sizeof *l);
        bool first = p->index.len == 0;
        if (t->bad || at < (int64_t)p->chunk->at || (uint64_t)at >= chunk_end(p) || bytes <= 0 ||
            (uint64_t)bytes > chunk_end(p) - (uint64_t)at || row < 0 || (uint64_t)row >= rows ||
            (first ? row != 0 : (uint64_t)row < l[-1].first_row)) {
            return damaged(p, err, "its offset index is malformed");
        }
        *l = (struct read_location){ (uint64_t)at, (uint64_t)row, (uint32_t)bytes };
        p->index.len += sizeof *l;
    }
    return 0;
}

int pages_index(struct read_pages *p, uint64_t rows, const struct read_location **out,
                uint32_t *count, struct err *err) {
    if (!p->index_loaded && p->chunk->index_at > 0) {
        if (p->chunk->index_bytes > p->r->bytes_max) {
            return read_unsupported(p->r, p->field->field.name, err,
                                    "its offset index has more than %zu bytes", p->r->bytes_max);
        }
        uint8_t *bytes = xmalloc(p->chunk->index_bytes);
        buf_clear(&p->index);
        int rc = p->r->input.read_at(p->r->input.arg, p->chunk->index_at, bytes,
                                     p->chunk->index_bytes, err);
        struct thrift_take t;
        thrift_take_init(&t, bytes, p->chunk->index_bytes);
        int16_t id = 0;
        enum thrift_type type;
        while (rc == 0 && thrift_take_field(&t, &id, &type)) {
            if (id == OFFSET_INDEX_LOCATIONS) {
                rc = take_locations(p, &t, type, rows, err);
            } else {
                thrift_take_skip(&t, type);
            }
        }
        free(bytes);
        if (rc == 0 && t.bad) {
            rc = damaged(p, err, "its offset index is malformed");
        }
        if (rc) {
            return -1;
        }
        p->index_loaded = true;
    }
    *out = (const struct read_location *)(const void *)p->index.data;
    *count = p->index_loaded ? (uint32_t)(p->index.len / sizeof **out) : 0;
    return 0;
}

int pages_goto(struct read_pages *p, const struct read_location *location, struct err *err) {
    if (!p->dict.loaded && p->chunk->at < location->at) {
        /* Chunks begin with their dictionary, if there is one. */
        struct read_header h;
        p->at = p->chunk->at;
        p->ahead = 4096;
        if (read_header(p, &h, err)) {
            return -1;
        }
        if (h.type == PAGE_DICTIONARY && load_dictionary(p, &h, err)) {
            return -1;
        }
    }
    p->at = location->at;
    p->ahead = location->bytes;
    return 0;
}
