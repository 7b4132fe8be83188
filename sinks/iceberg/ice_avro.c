/* See ice_avro.h. The schema is read with jansson into a tree of types; a type refers only to types
 * that are complete, so values have no cycle, their depth is that of the tree, and every value that
 * is walked takes at least a byte (types whose values take none are marked `empty` and never
 * walked). That bounds the work by the file's size. */
#include "sinks/iceberg/ice_avro.h"

#include <inttypes.h>
#include <jansson.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "cdc/base/map.h"

enum {
    SYNC_BYTES = 16,
    BLOCK_BYTES_GOAL = 64 * 1024,
    DEFLATE_LEVEL = 6,
    DEPTH_MAX = 24,
    TYPES_MAX = 10000,
    HEADER_ENTRIES_MAX = 1000,
    RATIO_MAX = 1040 /* deflate packs at most 1032 to 1 */
};

/* Nothing may be NULL. */
static struct view view_of_bytes(const void *p, size_t n) { return view_of(n > 0 ? p : "", n); }

static int damaged(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "manifest_damaged", "read an Avro file: %s", what);
}

static int unsupported(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "manifest_unsupported", "read an Avro file: %s", what);
}

/* ---- writing ---- */

void ice_avro_put_long(struct buf *out, int64_t v) {
    uint64_t z = ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
    uint8_t bytes[10];
    size_t n = 0;
    while (z >= 0x80) {
        bytes[n++] = (uint8_t)(z | 0x80);
        z >>= 7;
    }
    bytes[n++] = (uint8_t)z;
    buf_put(out, bytes, n);
}

void ice_avro_put_bytes(struct buf *out, const void *p, size_t n) {
    ice_avro_put_long(out, (int64_t)n);
    buf_put(out, p, n);
}

struct ice_avro_writer {
    struct buf out;
    struct buf block;
    uint64_t records; /* in block */
    uint8_t sync[SYNC_BYTES];
    struct libdeflate_compressor *deflate;
};

static void put_meta(struct buf *out, const char *key, const void *value, size_t len) {
    ice_avro_put_bytes(out, key, strlen(key));
    ice_avro_put_bytes(out, value, len);
}

struct ice_avro_writer *ice_avro_writer_new(const char *schema, size_t schema_len,
                                            const struct ice_avro_meta *meta, uint32_t meta_count) {
    struct ice_avro_writer *w = xcalloc(1, sizeof *w);
    buf_init(&w->out, SIZE_MAX);
    buf_init(&w->block, SIZE_MAX);
    w->deflate = libdeflate_alloc_compressor(DEFLATE_LEVEL);
    CHECK(w->deflate);
    buf_put(&w->out, "Obj\x01", 4);
    ice_avro_put_long(&w->out, (int64_t)meta_count + 2);
    put_meta(&w->out, "avro.schema", schema, schema_len);
    put_meta(&w->out, "avro.codec", "deflate", 7);
    for (uint32_t i = 0; i < meta_count; i++) {
        put_meta(&w->out, meta[i].key, meta[i].value, meta[i].len);
    }
    buf_putc(&w->out, 0);
    /* The marker must only be unlikely within this file; taken from what the file begins with, so
     * that the same table state gives the same bytes. */
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t h = hash_bytes(w->out.data, w->out.len, UINT64_C(0x7461696c72616365) + i);
        memcpy(w->sync + 8 * i, &h, 8);
    }
    buf_put(&w->out, w->sync, SYNC_BYTES);
    return w;
}

struct buf *ice_avro_block(struct ice_avro_writer *w) {
    return &w->block;
}

static void flush_block(struct ice_avro_writer *w) {
    if (w->records == 0) {
        return;
    }
    size_t bound = libdeflate_deflate_compress_bound(w->deflate, w->block.len);
    uint8_t *packed = xmalloc(bound);
    size_t n = libdeflate_deflate_compress(w->deflate, w->block.data, w->block.len, packed, bound);
    CHECK(n > 0);
    ice_avro_put_long(&w->out, (int64_t)w->records);
    ice_avro_put_bytes(&w->out, packed, n);
    buf_put(&w->out, w->sync, SYNC_BYTES);
    free(packed);
    buf_clear(&w->block);
    w->records = 0;
}

void ice_avro_record_done(struct ice_avro_writer *w) {
    w->records++;
    if (w->block.len >= BLOCK_BYTES_GOAL) {
        flush_block(w);
    }
}

size_t ice_avro_writer_bytes(const struct ice_avro_writer *w) {
    return w->out.len + w->block.len / 3; /* about what deflate makes of it */
}

void ice_avro_writer_finish(struct ice_avro_writer *w, struct buf *out) {
    flush_block(w);
    buf_put(out, w->out.data, w->out.len);
}

void ice_avro_writer_free(struct ice_avro_writer *w) {
    if (w) {
        libdeflate_free_compressor(w->deflate);
        buf_release(&w->out);
        buf_release(&w->block);
        free(w);
    }
}

/* ---- the schema ---- */

struct parser {
    struct arena *arena;
    struct map *names; /* of complete types */
    uint32_t types;
    struct err *err;
};

static const struct ice_avro_type *parse_type(struct parser *p, const json_t *json, unsigned depth);

static const struct ice_avro_type *refuse(struct parser *p, const char *what) {
    damaged(p->err, what);
    return NULL;
}

static const struct {
    const char *name;
    enum ice_avro_kind kind;
} primitives[] = {
    { "null", ICE_AVRO_NULL },     { "boolean", ICE_AVRO_BOOLEAN }, { "int", ICE_AVRO_INT },
    { "long", ICE_AVRO_LONG },     { "float", ICE_AVRO_FLOAT },     { "double", ICE_AVRO_DOUBLE },
    { "bytes", ICE_AVRO_BYTES },   { "string", ICE_AVRO_STRING },   { "fixed", ICE_AVRO_FIXED },
    { "enum", ICE_AVRO_ENUM },     { "array", ICE_AVRO_ARRAY },     { "map", ICE_AVRO_MAP },
    { "record", ICE_AVRO_RECORD }, { "error", ICE_AVRO_RECORD },
};

static struct ice_avro_type *type_new(struct parser *p, enum ice_avro_kind kind, size_t count) {
    struct ice_avro_type *t = arena_zalloc(p->arena, sizeof *t);
    t->kind = kind;
    t->count = (uint32_t)count;
    t->types = arena_zalloc(p->arena, (count ? count : 1) * sizeof *t->types);
    return t;
}

static const struct ice_avro_type *parse_union(struct parser *p, const json_t *json,
                                               unsigned depth) {
    size_t count = json_array_size(json);
    if (count == 0) {
        return refuse(p, "a union without branches");
    }
    struct ice_avro_type *t = type_new(p, ICE_AVRO_UNION, count);
    for (size_t i = 0; i < count; i++) {
        t->types[i] = parse_type(p, json_array_get(json, i), depth + 1);
        if (!t->types[i]) {
            return NULL;
        }
        if (t->types[i]->kind == ICE_AVRO_UNION) {
            return refuse(p, "a union in a union");
        }
    }
    return t;
}

static const struct ice_avro_type *parse_record(struct parser *p, const json_t *json,
                                                unsigned depth) {
    const json_t *fields = json_object_get(json, "fields");
    if (!json_is_array(fields)) {
        return refuse(p, "a record without fields");
    }
    size_t count = json_array_size(fields);
    struct ice_avro_type *t = type_new(p, ICE_AVRO_RECORD, count);
    int32_t *ids = arena_alloc(p->arena, (count ? count : 1) * sizeof *ids);
    t->ids = ids;
    t->empty = true;
    for (size_t i = 0; i < count; i++) {
        const json_t *field = json_array_get(fields, i);
        const json_t *id = json_object_get(field, "field-id");
        bool usable = json_is_integer(id) && json_integer_value(id) >= 0 &&
                      json_integer_value(id) <= INT32_MAX;
        ids[i] = usable ? (int32_t)json_integer_value(id) : -1;
        t->types[i] = parse_type(p, json_object_get(field, "type"), depth + 1);
        if (!t->types[i]) {
            return NULL;
        }
        t->empty = t->empty && t->types[i]->empty;
    }
    return t;
}

static const struct ice_avro_type *parse_complex(struct parser *p, enum ice_avro_kind kind,
                                                 const json_t *json, unsigned depth) {
    if (kind == ICE_AVRO_RECORD) {
        return parse_record(p, json, depth);
    }
    struct ice_avro_type *t = type_new(p, kind, kind == ICE_AVRO_ARRAY || kind == ICE_AVRO_MAP);
    if (kind == ICE_AVRO_FIXED) {
        const json_t *size = json_object_get(json, "size");
        if (!json_is_integer(size) || json_integer_value(size) < 0 ||
            json_integer_value(size) > INT32_MAX) {
            return refuse(p, "a fixed type without a size");
        }
        t->size = (uint32_t)json_integer_value(size);
        t->empty = t->size == 0;
    } else if (t->count == 1) {
        t->types[0] = parse_type(
            p, json_object_get(json, kind == ICE_AVRO_ARRAY ? "items" : "values"), depth + 1);
        if (!t->types[0]) {
            return NULL;
        }
    }
    t->empty = t->empty || kind == ICE_AVRO_NULL;
    return t;
}

/* Under its name and under its full one. */
static void remember(struct parser *p, const json_t *json, const struct ice_avro_type *t) {
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *space = json_string_value(json_object_get(json, "namespace"));
    if (!name) {
        return;
    }
    map_set(p->names, name, strlen(name), (void *)(uintptr_t)t);
    if (space) {
        char *full = xasprintf("%s.%s", space, name);
        map_set(p->names, full, strlen(full), (void *)(uintptr_t)t);
        free(full);
    }
}

/* Depth is bounded by DEPTH_MAX. */
static const struct ice_avro_type *parse_type(struct parser *p, const json_t *json,
                                              unsigned depth) {
    if (depth > DEPTH_MAX || ++p->types > TYPES_MAX) {
        return refuse(p, "its schema is too large");
    }
    if (json_is_array(json)) {
        return parse_union(p, json, depth);
    }
    const json_t *inner = json_is_object(json) ? json_object_get(json, "type") : json;
    if (json_is_object(inner) || json_is_array(inner)) {
        return parse_type(p, inner, depth + 1);
    }
    const char *name = json_string_value(inner);
    if (!name) {
        return refuse(p, "a type that is neither name nor object");
    }
    for (size_t i = 0; i < ARRAY_COUNT(primitives); i++) {
        if (strcmp(name, primitives[i].name) != 0) {
            continue;
        }
        if (primitives[i].kind >= ICE_AVRO_FIXED && !json_is_object(json)) {
            return refuse(p, "a type without its parts");
        }
        const struct ice_avro_type *t = parse_complex(p, primitives[i].kind, json, depth);
        if (t && json_is_object(json) && primitives[i].kind >= ICE_AVRO_FIXED) {
            remember(p, json, t);
        }
        return t;
    }
    const struct ice_avro_type *named = map_get(p->names, name, strlen(name));
    return named ? named : refuse(p, "a type of unknown name");
}

static int parse_schema(struct ice_avro_reader *r, const char *text, size_t len, struct err *err) {
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (!json) {
        return damaged(err, "its schema is no JSON");
    }
    struct parser p = { .arena = &r->arena, .names = map_new(), .err = err };
    r->root = parse_type(&p, json, 0);
    map_free(p.names, NULL);
    json_decref(json);
    if (!r->root) {
        return -1;
    }
    if (r->root->kind != ICE_AVRO_RECORD || r->root->empty) {
        return damaged(err, "its records hold nothing");
    }
    for (uint32_t i = 0; i < r->root->count; i++) {
        if (r->root->ids[i] >= 0) {
            return 0;
        }
    }
    return unsupported(err, "its schema has no field ids");
}

/* ---- values ---- */

int ice_avro_take_raw_long(struct view *in, int64_t *out) {
    uint64_t z = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte;
        if (take_u8(in, &byte) != 0 || (shift == 63 && byte > 1)) {
            return -1;
        }
        z |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = (int64_t)(z >> 1) ^ -(int64_t)(z & 1);
            return 0;
        }
    }
    return -1;
}

static int take_sized(struct view *in, const uint8_t **out, size_t *len) {
    int64_t n;
    if (ice_avro_take_raw_long(in, &n) != 0 || n < 0 || (uint64_t)n > view_left(in)) {
        return -1;
    }
    *len = (size_t)n;
    return take_bytes(in, *len, out);
}

int ice_avro_branch(struct view *in, const struct ice_avro_type **type) {
    if ((*type)->kind == ICE_AVRO_UNION) {
        int64_t branch;
        if (ice_avro_take_raw_long(in, &branch) != 0 || branch < 0 || branch >= (*type)->count) {
            return -1;
        }
        *type = (*type)->types[branch];
    }
    return 0;
}

int ice_avro_take_long(struct view *in, const struct ice_avro_type *type, int64_t *out,
                       bool *null) {
    if (ice_avro_branch(in, &type) != 0) {
        return -1;
    }
    *null = type->kind == ICE_AVRO_NULL;
    if (*null) {
        return 0;
    }
    if (type->kind != ICE_AVRO_INT && type->kind != ICE_AVRO_LONG) {
        return -1;
    }
    return ice_avro_take_raw_long(in, out);
}

int ice_avro_take_bytes(struct view *in, const struct ice_avro_type *type, const uint8_t **out,
                        size_t *len, bool *null) {
    if (ice_avro_branch(in, &type) != 0) {
        return -1;
    }
    *null = type->kind == ICE_AVRO_NULL;
    if (*null) {
        return 0;
    }
    if (type->kind == ICE_AVRO_FIXED) {
        *len = type->size;
        return take_bytes(in, type->size, out);
    }
    if (type->kind != ICE_AVRO_STRING && type->kind != ICE_AVRO_BYTES) {
        return -1;
    }
    return take_sized(in, out, len);
}

/* A negative count is followed by the block's size in bytes. */
static int take_count(struct view *in, uint64_t *items) {
    int64_t n;
    int64_t bytes;
    if (ice_avro_take_raw_long(in, &n) != 0 || n == INT64_MIN) {
        return -1;
    }
    if (n < 0 && ice_avro_take_raw_long(in, &bytes) != 0) {
        return -1;
    }
    *items = n < 0 ? (uint64_t)-n : (uint64_t)n;
    return *items <= view_left(in) ? 0 : -1; /* an item takes at least a byte */
}

int ice_avro_take_array_block(struct view *in, const struct ice_avro_type *type, uint64_t *items) {
    if (type->kind != ICE_AVRO_ARRAY || type->types[0]->empty) {
        return -1;
    }
    return take_count(in, items);
}

static int skip_blocks(struct view *in, const struct ice_avro_type *type) {
    bool map = type->kind == ICE_AVRO_MAP;
    if (!map && type->types[0]->empty) {
        return -1;
    }
    uint64_t items;
    do {
        if (take_count(in, &items) != 0) {
            return -1;
        }
        for (uint64_t i = 0; i < items; i++) {
            const uint8_t *key;
            size_t len;
            if ((map && take_sized(in, &key, &len) != 0) ||
                ice_avro_skip(in, type->types[0]) != 0) {
                return -1;
            }
        }
    } while (items > 0);
    return 0;
}

/* Depth is bounded by that of the schema. */
int ice_avro_skip(struct view *in, const struct ice_avro_type *type) {
    const uint8_t *p;
    size_t len;
    int64_t n;
    if (type->empty) {
        return 0;
    }
    switch (type->kind) {
    case ICE_AVRO_NULL:
        return 0;
    case ICE_AVRO_BOOLEAN:
        return take_bytes(in, 1, &p);
    case ICE_AVRO_INT:
    case ICE_AVRO_LONG:
    case ICE_AVRO_ENUM:
        return ice_avro_take_raw_long(in, &n);
    case ICE_AVRO_FLOAT:
        return take_bytes(in, 4, &p);
    case ICE_AVRO_DOUBLE:
        return take_bytes(in, 8, &p);
    case ICE_AVRO_BYTES:
    case ICE_AVRO_STRING:
        return take_sized(in, &p, &len);
    case ICE_AVRO_FIXED:
        return take_bytes(in, type->size, &p);
    case ICE_AVRO_ARRAY:
    case ICE_AVRO_MAP:
        return skip_blocks(in, type);
    case ICE_AVRO_UNION:
        return ice_avro_branch(in, &type) == 0 ? ice_avro_skip(in, type) : -1;
    case ICE_AVRO_RECORD:
        for (uint32_t i = 0; i < type->count; i++) {
            if (ice_avro_skip(in, type->types[i]) != 0) {
                return -1;
            }
        }
        return 0;
    }
    return -1;
}

/* ---- the container ---- */

struct ice_avro_header {
    char *key;
    char *value; /* with a NUL */
    size_t len;
};

static char *arena_text(struct arena *arena, const uint8_t *p, size_t n) {
    char *text = arena_alloc(arena, n + 1);
    if (n > 0) {
        memcpy(text, p, n);
    }
    text[n] = 0;
    return text;
}

static int take_header(struct ice_avro_reader *r) {
    const uint8_t *magic;
    if (take_bytes(&r->in, 4, &magic) != 0 || memcmp(magic, "Obj\x01", 4) != 0) {
        return -1;
    }
    r->meta = arena_alloc(&r->arena, HEADER_ENTRIES_MAX * sizeof *r->meta);
    uint64_t items;
    do {
        if (take_count(&r->in, &items) != 0 || items > HEADER_ENTRIES_MAX - r->meta_count) {
            return -1;
        }
        for (uint64_t i = 0; i < items; i++) {
            const uint8_t *key;
            const uint8_t *value;
            size_t key_len;
            size_t len;
            if (take_sized(&r->in, &key, &key_len) != 0 || take_sized(&r->in, &value, &len) != 0) {
                return -1;
            }
            r->meta[r->meta_count++] =
                (struct ice_avro_header){ .key = arena_text(&r->arena, key, key_len),
                                          .value = arena_text(&r->arena, value, len),
                                          .len = len };
        }
    } while (items > 0);
    const uint8_t *sync;
    if (take_bytes(&r->in, SYNC_BYTES, &sync) != 0) {
        return -1;
    }
    memcpy(r->sync, sync, SYNC_BYTES);
    return 0;
}

const char *ice_avro_header(const struct ice_avro_reader *r, const char *key, size_t *len) {
    for (uint32_t i = 0; i < r->meta_count; i++) {
        if (strcmp(r->meta[i].key, key) == 0) {
            if (len) {
                *len = r->meta[i].len;
            }
            return r->meta[i].value;
        }
    }
    return NULL;
}

int ice_avro_open(struct ice_avro_reader *r, const void *p, size_t n, struct err *err) {
    *r = (struct ice_avro_reader){ .in = view_of_bytes(p, n) };
    arena_init(&r->arena);
    buf_init(&r->block, ICE_AVRO_BLOCK_BYTES_MAX);
    size_t schema_len;
    const char *schema;
    const char *codec;
    int got = 0;
    if (take_header(r) != 0) {
        got = damaged(err, "no Avro container file");
    } else if (!(schema = ice_avro_header(r, "avro.schema", &schema_len))) {
        got = damaged(err, "no schema in its header");
    } else {
        codec = ice_avro_header(r, "avro.codec", NULL);
        r->deflate = codec && strcmp(codec, "deflate") == 0;
        if (codec && !r->deflate && strcmp(codec, "null") != 0) {
            err_set(err, ERR_FATAL, "manifest_unsupported",
                    "read an Avro file: it is packed with \"%s\"", codec);
            got = err_cure(err, "set the table property write.avro.compression-codec to gzip and "
                                "rewrite its manifests with the tool that wrote them");
        } else {
            got = parse_schema(r, schema, schema_len, err);
        }
    }
    if (got != 0) {
        ice_avro_close(r);
    }
    return got;
}

void ice_avro_close(struct ice_avro_reader *r) {
    buf_release(&r->block);
    arena_release(&r->arena);
    *r = (struct ice_avro_reader){ 0 };
}

/* Room is doubled until it fits, up to what deflate can make of so many bytes. */
static int unpack(struct ice_avro_reader *r, const uint8_t *packed, size_t len) {
    size_t most = len < ICE_AVRO_BLOCK_BYTES_MAX / RATIO_MAX ? len * RATIO_MAX + 64
                                                             : ICE_AVRO_BLOCK_BYTES_MAX;
    size_t room = len * 4 < most ? len * 4 : most;
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    CHECK(d);
    enum libdeflate_result result;
    size_t got = 0;
    for (;;) {
        buf_clear(&r->block);
        if (buf_reserve(&r->block, room) != 0) {
            result = LIBDEFLATE_INSUFFICIENT_SPACE;
            break;
        }
        result = libdeflate_deflate_decompress(d, packed, len, r->block.data, room, &got);
        if (result != LIBDEFLATE_INSUFFICIENT_SPACE || room == most) {
            break;
        }
        room = room < most / 2 ? room * 2 : most;
    }
    libdeflate_free_decompressor(d);
    r->block.len = got;
    return result == LIBDEFLATE_SUCCESS ? 0 : -1;
}

static int open_block(struct ice_avro_reader *r, struct err *err) {
    int64_t records;
    const uint8_t *bytes;
    const uint8_t *sync;
    size_t len;
    if (ice_avro_take_raw_long(&r->in, &records) != 0 || records < 0 ||
        take_sized(&r->in, &bytes, &len) != 0 || take_bytes(&r->in, SYNC_BYTES, &sync) != 0 ||
        memcmp(sync, r->sync, SYNC_BYTES) != 0) {
        return damaged(err, "a block is cut off or does not end where it says");
    }
    if (r->deflate) {
        if (unpack(r, bytes, len) != 0) {
            return damaged(err, "a block cannot be unpacked");
        }
        r->at = view_of_bytes(r->block.data, r->block.len);
    } else {
        r->at = view_of(bytes, len);
    }
    r->records = (uint64_t)records;
    return 0;
}

int ice_avro_next(struct ice_avro_reader *r, struct err *err) {
    while (r->records == 0) {
        if (view_left(&r->at) > 0) {
            return damaged(err, "a block is longer than its records");
        }
        if (view_left(&r->in) == 0) {
            return 0;
        }
        if (open_block(r, err) != 0) {
            return -1;
        }
    }
    r->records--;
    return 1;
}
