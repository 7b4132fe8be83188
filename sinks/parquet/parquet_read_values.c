/* Values of a page, and of a dictionary, as cells. See parquet_read.h. Loops run over a column's
 * values of one encoding; what fits the cell's own form is decoded right into it. */
#include <stdlib.h>

#include "sinks/parquet/parquet_read.h"

void values_init(struct read_values *v) {
    memset(v, 0, sizeof *v);
    buf_init(&v->last, SIZE_MAX);
    buf_init(&v->raw, SIZE_MAX);
    buf_init(&v->raw_offsets, SIZE_MAX);
}

void values_release(struct read_values *v) {
    buf_release(&v->last);
    buf_release(&v->raw);
    buf_release(&v->raw_offsets);
}

void read_dict_release(struct read_dict *d) {
    buf_release(&d->body);
    buf_release(&d->cells);
    buf_release(&d->texts);
    d->loaded = false;
}

bool values_encoding_known(const struct read_leaf *leaf, int32_t encoding) {
    enum parquet_physical p = leaf->physical;
    switch (encoding) {
    case ENCODING_PLAIN:
        return true;
    case ENCODING_PLAIN_DICTIONARY:
    case ENCODING_RLE_DICTIONARY:
        return p != PHYSICAL_BOOLEAN;
    case ENCODING_RLE:
        return p == PHYSICAL_BOOLEAN;
    case ENCODING_DELTA_BINARY_PACKED:
        return p == PHYSICAL_INT32 || p == PHYSICAL_INT64;
    case ENCODING_DELTA_LENGTH_BYTE_ARRAY:
        return p == PHYSICAL_BYTE_ARRAY;
    case ENCODING_DELTA_BYTE_ARRAY:
        return p == PHYSICAL_BYTE_ARRAY || p == PHYSICAL_FIXED;
    case ENCODING_BYTE_STREAM_SPLIT:
        return p != PHYSICAL_BOOLEAN && p != PHYSICAL_BYTE_ARRAY;
    default:
        return false;
    }
}

/* A page without a value may have no bytes at all, whatever its encoding: each is begun as far as
 * there are bytes, and taking a value then fails. */
static int begin_delta_lengths(struct read_values *v) {
    if (delta_take_begin(&v->numbers, v->at, v->end)) {
        return -1;
    }
    v->at = delta_take_end(&v->numbers);
    return v->at ? 0 : -1;
}

int values_begin(struct read_values *v, const struct read_leaf *leaf,
                 enum parquet_encoding encoding, const struct read_dict *dict, const uint8_t *p,
                 const uint8_t *end) {
    v->leaf = leaf;
    v->encoding = encoding == ENCODING_PLAIN_DICTIONARY ? ENCODING_RLE_DICTIONARY : encoding;
    v->dict = dict;
    v->at = p;
    v->end = end;
    v->bit = 0;
    v->count = v->index = v->batch_at = v->batch_count = 0;
    v->numbers.left = v->prefixes.left = 0;
    size_t bytes = (size_t)(end - p);
    buf_clear(&v->last);
    switch (v->encoding) {
    case ENCODING_RLE_DICTIONARY:
        return levels_take_begin(&v->indexes, bytes ? p + 1 : p, end, bytes ? p[0] : 0);
    case ENCODING_RLE: {
        uint32_t len = 0;
        if (bytes >= sizeof len) {
            memcpy(&len, p, sizeof len);
            p += sizeof len;
        }
        return len > (size_t)(end - p) ? -1 : levels_take_begin(&v->indexes, p, p + len, 1);
    }
    case ENCODING_DELTA_BINARY_PACKED:
        return bytes ? delta_take_begin(&v->numbers, p, end) : 0;
    case ENCODING_DELTA_LENGTH_BYTE_ARRAY:
        return bytes ? begin_delta_lengths(v) : 0;
    case ENCODING_DELTA_BYTE_ARRAY:
        if (bytes == 0) {
            return 0;
        }
        if (delta_take_begin(&v->prefixes, p, end)) {
            return -1;
        }
        v->at = delta_take_end(&v->prefixes);
        return v->at ? begin_delta_lengths(v) : -1;
    case ENCODING_BYTE_STREAM_SPLIT:
        v->count = (uint32_t)(bytes / leaf->raw_width);
        return bytes % leaf->raw_width == 0 ? 0 : -1;
    default:
        return 0;
    }
}

/* The next indexes of a dictionary, checked. Call when the batch is used up. */
static int next_indexes(struct read_values *v, uint32_t n) {
    n = n < READ_BATCH ? n : READ_BATCH;
    v->batch_at = v->batch_count = 0;
    if (!v->dict || !v->dict->loaded || levels_take(&v->indexes, v->batch, n)) {
        return -1;
    }
    uint32_t greatest = 0;
    for (uint32_t i = 0; i < n; i++) {
        greatest = v->batch[i] > greatest ? v->batch[i] : greatest;
    }
    if (greatest >= v->dict->count) {
        return -1;
    }
    v->batch_count = n;
    return 0;
}

static int dict_fixed(struct read_values *v, uint32_t n, uint8_t *out) {
    uint32_t width = v->leaf->width;
    while (n > 0) {
        if (v->batch_at == v->batch_count && next_indexes(v, n)) {
            return -1;
        }
        uint32_t left = v->batch_count - v->batch_at;
        uint32_t take = left < n ? left : n;
        const uint32_t *index = v->batch + v->batch_at;
        const uint8_t *cells = (const uint8_t *)v->dict->cells.data;
        if (width == 4) {
            for (uint32_t i = 0; i < take; i++) {
                memcpy(out + (size_t)i * 4, cells + (size_t)index[i] * 4, 4);
            }
        } else if (width == 8) {
            for (uint32_t i = 0; i < take; i++) {
                memcpy(out + (size_t)i * 8, cells + (size_t)index[i] * 8, 8);
            }
        } else {
            for (uint32_t i = 0; i < take; i++) {
                memcpy(out + (size_t)i * width, cells + (size_t)index[i] * width, width);
            }
        }
        out += (size_t)take * width;
        v->batch_at += take;
        n -= take;
    }
    return 0;
}

/* One bit a value -> one byte. */
static int plain_bools(struct read_values *v, uint32_t n, uint8_t *out) {
    if (n > (uint64_t)(v->end - v->at) * 8 - v->bit) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++, v->bit++) {
        out[i] = v->at[v->bit / 8] >> v->bit % 8 & 1;
    }
    return 0;
}

static int rle_bools(struct read_values *v, uint32_t n, uint8_t *out) {
    while (n > 0) {
        uint32_t take = n < READ_BATCH ? n : READ_BATCH;
        if (levels_take(&v->indexes, v->batch, take)) {
            return -1;
        }
        for (uint32_t i = 0; i < take; i++) {
            out[i] = (uint8_t)v->batch[i];
        }
        out += take;
        n -= take;
    }
    return 0;
}

/* Byte k of every value lies in stream k. */
static int take_split(struct read_values *v, uint32_t n, uint8_t *out) {
    if (n > v->count - v->index) {
        return -1;
    }
    size_t width = v->leaf->raw_width;
    for (size_t k = 0; k < width; k++) {
        const uint8_t *stream = v->at + k * v->count + v->index;
        for (size_t i = 0; i < n; i++) {
            out[i * width + k] = stream[i];
        }
    }
    v->index += n;
    return 0;
}

/* Lengths of texts that come, and what each shares with the one before. */
static int next_lengths(struct read_values *v, uint32_t n) {
    n = n < READ_BATCH ? n : READ_BATCH;
    n = n < v->numbers.left ? n : (uint32_t)v->numbers.left;
    v->batch_at = v->batch_count = 0;
    if (n == 0 || delta_take_32(&v->numbers, v->batch, n)) {
        return -1;
    }
    if (v->encoding == ENCODING_DELTA_BYTE_ARRAY &&
        delta_take_32(&v->prefixes, v->batch_prefix, n)) {
        return -1;
    }
    v->batch_count = n;
    return 0;
}

/* Appends a text; short ones in one move, since memory on both sides goes on. */
static inline void put_text(struct buf *data, const uint8_t *p, uint32_t len) {
    uint8_t *to = read_room(data, len);
    if (len <= 16) {
        memcpy(to, p, 16);
    } else {
        memcpy(to, p, len);
    }
    data->len += len;
}

static inline void put_end(struct buf *ends, uint32_t end) {
    memcpy(ends->data + ends->len, &end, sizeof end);
    ends->len += sizeof end;
}

static int dict_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                      struct buf *ends, uint32_t *taken) {
    if (!v->dict || !v->dict->loaded) {
        return -1;
    }
    const struct read_text *texts = (const struct read_text *)(const void *)v->dict->texts.data;
    const uint8_t *body = (const uint8_t *)v->dict->body.data;
    for (uint32_t done = 0; done < n; done++) {
        if (v->batch_at == v->batch_count && next_indexes(v, n - done)) {
            return -1;
        }
        const struct read_text *text = &texts[v->batch[v->batch_at]];
        if (data->len + text->len > limit && done > 0) {
            break;
        }
        put_text(data, body + text->at, text->len);
        put_end(ends, (uint32_t)data->len);
        v->batch_at++;
        ++*taken;
    }
    return 0;
}

static int plain_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                       struct buf *ends, uint32_t *taken) {
    for (uint32_t done = 0; done < n; done++) {
        uint32_t len;
        if ((size_t)(v->end - v->at) < sizeof len) {
            return -1;
        }
        memcpy(&len, v->at, sizeof len);
        if (len > (size_t)(v->end - v->at) - sizeof len) {
            return -1;
        }
        if (data->len + len > limit && done > 0) {
            break;
        }
        put_text(data, v->at + sizeof len, len);
        put_end(ends, (uint32_t)data->len);
        v->at += sizeof len + len;
        ++*taken;
    }
    return 0;
}

/* DELTA_BYTE_ARRAY: each text shares a prefix with the one before. */
static int prefix_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                        struct buf *ends, uint32_t *taken) {
    for (uint32_t done = 0; done < n; done++) {
        if (v->batch_at == v->batch_count && next_lengths(v, n - done)) {
            return -1;
        }
        uint32_t len = v->batch[v->batch_at];
        uint32_t prefix = v->batch_prefix[v->batch_at];
        if (len > (size_t)(v->end - v->at) || prefix > v->last.len || len > INT32_MAX - prefix) {
            return -1;
        }
        if (data->len + prefix + len > limit && done > 0) {
            break;
        }
        v->last.len = prefix;
        put_text(&v->last, v->at, len);
        put_text(data, (const uint8_t *)v->last.data, prefix + len);
        put_end(ends, (uint32_t)data->len);
        v->at += len;
        v->batch_at++;
        ++*taken;
    }
    return 0;
}

/* DELTA_LENGTH_BYTE_ARRAY: the texts of a batch lie side by side, as they do in a cell's column. */
static int length_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                        struct buf *ends, uint32_t *taken) {
    while (*taken < n) {
        if (v->batch_at == v->batch_count && next_lengths(v, n - *taken)) {
            return -1;
        }
        uint32_t left = v->batch_count - v->batch_at;
        uint32_t want = left < n - *taken ? left : n - *taken;
        size_t there = (size_t)(v->end - v->at);
        size_t bytes = 0;
        uint32_t count = 0;
        for (; count < want; count++) {
            size_t len = v->batch[v->batch_at + count];
            if (len > there - bytes) {
                return -1;
            }
            if (data->len + bytes + len > limit && *taken + count > 0) {
                break;
            }
            bytes += len;
            put_end(ends, (uint32_t)(data->len + bytes));
        }
        put_text(data, v->at, (uint32_t)bytes);
        v->at += bytes;
        v->batch_at += count;
        *taken += count;
        if (count < want) {
            return 0;
        }
    }
    return 0;
}

/* BYTE_ARRAY, or FIXED as DELTA_BYTE_ARRAY. */
static int raw_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                     struct buf *ends, uint32_t *taken) {
    read_room(ends, (size_t)n * sizeof(uint32_t));
    switch (v->encoding) {
    case ENCODING_RLE_DICTIONARY:
        return dict_texts(v, n, limit, data, ends, taken);
    case ENCODING_PLAIN:
        return plain_texts(v, n, limit, data, ends, taken);
    case ENCODING_DELTA_LENGTH_BYTE_ARRAY:
        return length_texts(v, n, limit, data, ends, taken);
    default:
        return prefix_texts(v, n, limit, data, ends, taken);
    }
}

/* FIXED values as DELTA_BYTE_ARRAY. */
static int delta_fixed(struct read_values *v, uint32_t n, uint8_t *out) {
    uint32_t width = v->leaf->raw_width;
    struct buf *data = &v->raw_offsets; /* v->raw may be what is being filled */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t taken = 0;
        buf_clear(data);
        struct buf ends;
        char room[sizeof(uint32_t)];
        ends = (struct buf){ .data = room, .cap = sizeof room };
        if (prefix_texts(v, 1, width, data, &ends, &taken) || data->len != width) {
            return -1;
        }
        memcpy(out + (size_t)i * width, data->data, width);
    }
    return 0;
}

/* Values of raw_width bytes each, as the file means them; not from a dictionary. */
static int raw_fixed(struct read_values *v, uint32_t n, uint8_t *out) {
    size_t bytes = (size_t)n * v->leaf->raw_width;
    switch (v->encoding) {
    case ENCODING_DELTA_BINARY_PACKED:
        return v->leaf->raw_width == 8 ? delta_take_64(&v->numbers, (uint64_t *)(void *)out, n)
                                       : delta_take_32(&v->numbers, (uint32_t *)(void *)out, n);
    case ENCODING_BYTE_STREAM_SPLIT:
        return take_split(v, n, out);
    case ENCODING_RLE:
        return rle_bools(v, n, out);
    case ENCODING_DELTA_BYTE_ARRAY:
        return delta_fixed(v, n, out);
    default:
        break;
    }
    if (v->leaf->physical == PHYSICAL_BOOLEAN) {
        return plain_bools(v, n, out);
    }
    if (bytes > (size_t)(v->end - v->at)) {
        return -1;
    }
    memcpy(out, v->at, bytes);
    v->at += bytes;
    return 0;
}

/* Big-endian two's complement of len bytes as `width` little-endian ones. */
static int put_big_endian(const uint8_t *p, size_t len, uint8_t *out, uint32_t width) {
    uint8_t sign = len > 0 && p[0] & 0x80 ? 0xFF : 0;
    for (; len > width; p++, len--) {
        if (p[0] != sign) {
            return VALUES_BEYOND;
        }
    }
    if (len == width && (p[0] & 0x80) != (sign & 0x80)) {
        return VALUES_BEYOND;
    }
    memset(out, sign, width);
    for (size_t i = 0; i < len; i++) {
        out[i] = p[len - 1 - i];
    }
    return 0;
}

static int convert_millis(const uint8_t *raw, uint32_t raw_width, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int64_t ms;
        int64_t us;
        if (raw_width == 4) {
            int32_t narrow;
            memcpy(&narrow, raw + (size_t)i * 4, 4);
            ms = narrow;
        } else {
            memcpy(&ms, raw + (size_t)i * 8, 8);
        }
        if (__builtin_mul_overflow(ms, 1000, &us)) {
            return VALUES_BEYOND;
        }
        memcpy(out + (size_t)i * 8, &us, 8);
    }
    return 0;
}

/* Raw values side by side -> cells. */
static int convert_fixed(const struct read_leaf *leaf, const uint8_t *raw, uint32_t n,
                         uint8_t *out) {
    switch (leaf->convert) {
    case CONVERT_SIGNED_32:
    case CONVERT_UNSIGNED_32:
        for (uint32_t i = 0; i < n; i++) {
            uint32_t narrow;
            memcpy(&narrow, raw + (size_t)i * 4, 4);
            uint64_t wide =
                leaf->convert == CONVERT_SIGNED_32 ? (uint64_t)(int64_t)(int32_t)narrow : narrow;
            memcpy(out + (size_t)i * 8, &wide, 8);
        }
        return 0;
    case CONVERT_MILLIS_32:
    case CONVERT_MILLIS_64:
        return convert_millis(raw, leaf->raw_width, n, out);
    case CONVERT_UNSIGNED_64:
        for (uint32_t i = 0; i < n; i++) {
            memcpy(out + (size_t)i * 16, raw + (size_t)i * 8, 8);
            memset(out + (size_t)i * 16 + 8, 0, 8);
        }
        return 0;
    case CONVERT_BIG_ENDIAN:
        for (uint32_t i = 0; i < n; i++) {
            int rc = put_big_endian(raw + (size_t)i * leaf->raw_width, leaf->raw_width,
                                    out + (size_t)i * leaf->width, leaf->width);
            if (rc) {
                return rc;
            }
        }
        return 0;
    default:
        memcpy(out, raw, (size_t)n * leaf->width);
        return 0;
    }
}

/* BYTE_ARRAY decimals, one at a time. */
static int texts_to_fixed(struct read_values *v, uint32_t n, uint8_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t taken = 0;
        buf_clear(&v->raw);
        buf_clear(&v->raw_offsets);
        if (raw_texts(v, 1, 0, &v->raw, &v->raw_offsets, &taken)) {
            return -1;
        }
        int rc = put_big_endian((const uint8_t *)v->raw.data, v->raw.len,
                                out + (size_t)i * v->leaf->width, v->leaf->width);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int values_fixed(struct read_values *v, uint32_t n, uint8_t *out) {
    if (n == 0) {
        return 0;
    }
    if (v->encoding == ENCODING_RLE_DICTIONARY) {
        return dict_fixed(v, n, out);
    }
    if (v->leaf->physical == PHYSICAL_BYTE_ARRAY) {
        return texts_to_fixed(v, n, out);
    }
    if (v->leaf->convert == CONVERT_NONE) {
        return raw_fixed(v, n, out);
    }
    buf_clear(&v->raw);
    uint8_t *raw = read_room(&v->raw, (size_t)n * v->leaf->raw_width);
    return raw_fixed(v, n, raw) ? -1 : convert_fixed(v->leaf, raw, n, out);
}

int values_texts(struct read_values *v, uint32_t n, size_t limit, struct buf *data,
                 struct buf *ends, uint32_t *taken) {
    *taken = 0;
    if (n == 0) {
        return 0;
    }
    if (v->leaf->raw_width == 0 || v->encoding == ENCODING_RLE_DICTIONARY) {
        return raw_texts(v, n, limit, data, ends, taken);
    }
    size_t width = v->leaf->raw_width;
    size_t fit = data->len < limit ? (limit - data->len) / width : 0;
    n = fit < n ? (fit > 0 ? (uint32_t)fit : 1) : n;
    /* A length that no page has would otherwise become memory. */
    bool split = v->encoding == ENCODING_BYTE_STREAM_SPLIT;
    if (split ? v->count == v->index : width > (size_t)(v->end - v->at) + v->last.len) {
        return -1;
    }
    uint8_t *out = read_room(data, n * width);
    read_room(ends, n * sizeof(uint32_t));
    if (raw_fixed(v, n, out)) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        data->len += width;
        put_end(ends, (uint32_t)data->len);
    }
    *taken = n;
    return 0;
}

static int skip_texts(struct read_values *v, uint32_t n) {
    struct buf ends;
    buf_init(&ends, SIZE_MAX);
    int rc = 0;
    while (rc == 0 && n > 0) {
        uint32_t taken = 0;
        buf_clear(&v->raw);
        buf_clear(&ends);
        uint32_t some = n < READ_BATCH ? n : READ_BATCH;
        rc = values_texts(v, some, 1 << 20, &v->raw, &ends, &taken);
        n -= taken;
    }
    buf_release(&ends);
    return rc;
}

/* PLAIN texts: over their lengths only. */
static int skip_plain_texts(struct read_values *v, uint32_t n) {
    for (; n > 0; n--) {
        uint32_t len;
        if ((size_t)(v->end - v->at) < sizeof len) {
            return -1;
        }
        memcpy(&len, v->at, sizeof len);
        if (len > (size_t)(v->end - v->at) - sizeof len) {
            return -1;
        }
        v->at += sizeof len + len;
    }
    return 0;
}

static int skip_length_texts(struct read_values *v, uint32_t n) {
    for (; n > 0; n--) {
        if (v->batch_at == v->batch_count && next_lengths(v, n)) {
            return -1;
        }
        uint32_t len = v->batch[v->batch_at++];
        if (len > (size_t)(v->end - v->at)) {
            return -1;
        }
        v->at += len;
    }
    return 0;
}

int values_skip(struct read_values *v, uint32_t n) {
    size_t width = v->leaf->raw_width;
    size_t left = (size_t)(v->end - v->at);
    switch (v->encoding) {
    case ENCODING_RLE_DICTIONARY: {
        uint32_t held = v->batch_count - v->batch_at;
        uint32_t from_held = held < n ? held : n;
        v->batch_at += from_held;
        return levels_take_skip(&v->indexes, n - from_held);
    }
    case ENCODING_RLE:
        return levels_take_skip(&v->indexes, n);
    case ENCODING_DELTA_BINARY_PACKED:
        return delta_take_skip(&v->numbers, n);
    case ENCODING_BYTE_STREAM_SPLIT:
        if (n > v->count - v->index) {
            return -1;
        }
        v->index += n;
        return 0;
    case ENCODING_DELTA_LENGTH_BYTE_ARRAY:
        return skip_length_texts(v, n);
    case ENCODING_PLAIN:
        break;
    default:
        return skip_texts(v, n);
    }
    if (v->leaf->physical == PHYSICAL_BOOLEAN) {
        if (n > left * 8 - v->bit) {
            return -1;
        }
        v->bit += n;
        return 0;
    }
    if (width == 0) {
        return skip_plain_texts(v, n);
    }
    if (n > left / width) {
        return -1;
    }
    v->at += n * width;
    return 0;
}

static int fill_texts(struct read_dict *d, const struct read_leaf *leaf, uint32_t count) {
    size_t at = 0;
    struct read_text *texts = read_room(&d->texts, (size_t)count * sizeof *texts);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = leaf->raw_width;
        if (leaf->raw_width == 0) {
            if (d->body.len - at < sizeof len) {
                return -1;
            }
            memcpy(&len, d->body.data + at, sizeof len);
            at += sizeof len;
        }
        if (len > d->body.len - at) {
            return -1;
        }
        texts[i] = (struct read_text){ .at = (uint32_t)at, .len = len };
        at += len;
    }
    d->texts.len = (size_t)count * sizeof *texts;
    return 0;
}

int read_dict_fill(struct read_dict *d, const struct read_leaf *leaf, uint32_t count) {
    size_t least = leaf->raw_width > 0 ? leaf->raw_width : sizeof(uint32_t);
    buf_clear(&d->texts);
    buf_clear(&d->cells);
    if (leaf->physical == PHYSICAL_BOOLEAN || count > d->body.len / least) {
        return -1;
    }
    d->count = count;
    if (leaf->width == 0 || leaf->raw_width == 0) {
        if (fill_texts(d, leaf, count)) {
            return -1;
        }
    }
    if (leaf->width > 0) {
        uint8_t *cells = read_room(&d->cells, (size_t)count * leaf->width);
        const uint8_t *body = (const uint8_t *)d->body.data;
        const struct read_text *texts = (const struct read_text *)(const void *)d->texts.data;
        for (uint32_t i = 0; leaf->raw_width == 0 && i < count; i++) {
            int rc = put_big_endian(body + texts[i].at, texts[i].len,
                                    cells + (size_t)i * leaf->width, leaf->width);
            if (rc) {
                return rc;
            }
        }
        int rc = leaf->raw_width > 0 ? convert_fixed(leaf, body, count, cells) : 0;
        if (rc) {
            return rc;
        }
        d->cells.len = (size_t)count * leaf->width;
    }
    d->loaded = true;
    return 0;
}
