/* Avro object container files, as far as Iceberg's manifests need them: a writer that takes records
 * already encoded by hand, and a reader that decodes by the field ids of the file's own schema,
 * whatever its field order. Sources: Avro 1.11 specification, "Binary Encoding", "Object Container
 * Files"; Iceberg table spec, appendix A "Avro".
 *
 *   "Obj" 0x01 | metadata map (avro.schema, avro.codec, more) | sync 16
 *   block: long records | long bytes | bytes, deflated | sync 16
 *
 * Input is foreign data: every length is bounded by the file's size, a block's unpacked size by
 * ICE_AVRO_BLOCK_BYTES_MAX, the schema's depth and node count by constants. Errors: ERR_FATAL
 * "manifest_damaged"; "manifest_unsupported" for codecs other than null and deflate and for schemas
 * without field ids. Pure. Thread: the owner's. */
#pragma once
#include "cdc/base/arena.h"
#include "cdc/base/buf.h"
#include "cdc/base/err.h"

#define ICE_AVRO_BLOCK_BYTES_MAX (256u << 20)

/* The binary encoding. */
void ice_avro_put_long(struct buf *out, int64_t v);                /* int and long alike */
void ice_avro_put_bytes(struct buf *out, const void *p, size_t n); /* bytes and string alike */

/* A file being written. Records are appended to `block` by the caller, each followed by
 * ice_avro_record_done. */
struct ice_avro_writer;
struct ice_avro_meta {
    const char *key;
    const char *value;
    size_t len;
};
/* schema: the writer's schema as JSON. meta: further header entries, in order. */
struct ice_avro_writer *ice_avro_writer_new(const char *schema, size_t schema_len,
                                            const struct ice_avro_meta *meta, uint32_t meta_count);
struct buf *ice_avro_block(struct ice_avro_writer *w);
void ice_avro_record_done(struct ice_avro_writer *w);
size_t ice_avro_writer_bytes(const struct ice_avro_writer *w); /* so far, about */
/* The whole file is appended to out; w is of no use afterwards. */
void ice_avro_writer_finish(struct ice_avro_writer *w, struct buf *out);
void ice_avro_writer_free(struct ice_avro_writer *w); /* NULL allowed */

/* A type of the writer's schema. */
enum ice_avro_kind {
    ICE_AVRO_NULL,
    ICE_AVRO_BOOLEAN,
    ICE_AVRO_INT,
    ICE_AVRO_LONG,
    ICE_AVRO_FLOAT,
    ICE_AVRO_DOUBLE,
    ICE_AVRO_BYTES,
    ICE_AVRO_STRING,
    ICE_AVRO_FIXED,
    ICE_AVRO_ENUM,
    ICE_AVRO_ARRAY,
    ICE_AVRO_MAP,
    ICE_AVRO_UNION,
    ICE_AVRO_RECORD
};
struct ice_avro_type {
    enum ice_avro_kind kind;
    bool empty;     /* its values take no byte */
    uint32_t size;  /* of FIXED */
    uint32_t count; /* RECORD: fields; UNION: branches; ARRAY, MAP: 1 */
    const struct ice_avro_type **types;
    const int32_t *ids; /* RECORD: the fields' ids, -1 = none */
};

/* A file being read; all of it is in memory. */
struct ice_avro_reader {
    struct arena arena; /* schema and header */
    struct view in;     /* blocks not yet opened */
    const struct ice_avro_type *root;
    struct ice_avro_header *meta;
    uint32_t meta_count;
    uint8_t sync[16];
    bool deflate;
    struct buf block; /* unpacked */
    struct view at;   /* records left of this block */
    uint64_t records; /* how many */
};
int ice_avro_open(struct ice_avro_reader *r, const void *p, size_t n, struct err *err);
void ice_avro_close(struct ice_avro_reader *r);
/* A header entry, NUL-terminated, its length without the NUL; NULL = none. */
const char *ice_avro_header(const struct ice_avro_reader *r, const char *key, size_t *len);
/* 1: a record of type r->root lies at r->at and must be taken whole; 0: the end; -1: err. */
int ice_avro_next(struct ice_avro_reader *r, struct err *err);

/* Taking values: 0, or -1 when the bytes end or do not fit the type asked for. */
int ice_avro_take_raw_long(struct view *in, int64_t *out);
/* Passes over a union's branch number; *type becomes the branch. */
int ice_avro_branch(struct view *in, const struct ice_avro_type **type);
/* int or long; *null where it is null and nothing is put to *out. */
int ice_avro_take_long(struct view *in, const struct ice_avro_type *type, int64_t *out, bool *null);
/* string, bytes or fixed; borrowed from the block. */
int ice_avro_take_bytes(struct view *in, const struct ice_avro_type *type, const uint8_t **out,
                        size_t *len, bool *null);
/* The next block of an array: how many items follow, 0 = the end. Items that take no byte are
 * refused. type: ARRAY. */
int ice_avro_take_array_block(struct view *in, const struct ice_avro_type *type, uint64_t *items);
int ice_avro_skip(struct view *in, const struct ice_avro_type *type);
