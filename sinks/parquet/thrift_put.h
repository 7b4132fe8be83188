/* Writing Thrift's compact protocol: structures of integers, booleans, bytes and lists, which is
 * all that Parquet's metadata is made of. Ids within a structure must ascend. Pure; the buffer is
 * the caller's.
 *
 *   field header   (id delta << 4 | type), or type and the id as a zigzag varint
 *   integers       zigzag varint          bytes   varint length, bytes
 *   list header    (count << 4 | type), or 0xF0 | type and the count as a varint, from 15 on
 *   structure      its fields, then 0 */
#pragma once
#include "cdc/base/buf.h"
#include "sinks/parquet/parquet_format.h"

#define THRIFT_DEPTH_MAX 8

struct thrift_put {
    struct buf *out;
    int16_t last[THRIFT_DEPTH_MAX]; /* id of the last field, a level each */
    unsigned depth;
};

void put_varint(struct buf *out, uint64_t v);
static inline uint64_t zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63); }

void thrift_put_init(struct thrift_put *t, struct buf *out);
void thrift_put_end(struct thrift_put *t); /* of the outermost structure */
void thrift_put_i16(struct thrift_put *t, int16_t id, int16_t v);
void thrift_put_i32(struct thrift_put *t, int16_t id, int32_t v);
void thrift_put_i64(struct thrift_put *t, int16_t id, int64_t v);
void thrift_put_bool(struct thrift_put *t, int16_t id, bool v);
void thrift_put_byte(struct thrift_put *t, int16_t id, int8_t v);
void thrift_put_binary(struct thrift_put *t, int16_t id, const void *p, size_t n);
void thrift_put_string(struct thrift_put *t, int16_t id, const char *s);
/* A structure as a field; as an element of a list id is 0. Each is closed by its own end. */
void thrift_put_struct(struct thrift_put *t, int16_t id);
void thrift_put_struct_end(struct thrift_put *t);
/* A member of a union, or a structure, without a field. */
void thrift_put_empty(struct thrift_put *t, int16_t id);
/* A structure that was written before, its end included. */
void thrift_put_struct_bytes(struct thrift_put *t, int16_t id, const void *p, size_t n);
/* Elements follow: structures as above, others with the functions below. */
void thrift_put_list(struct thrift_put *t, int16_t id, enum thrift_type element, size_t count);
void thrift_put_element_int(struct thrift_put *t, int64_t v); /* i32 and i64 alike */
void thrift_put_element_bool(struct thrift_put *t, bool v);
void thrift_put_element_binary(struct thrift_put *t, const void *p, size_t n);
