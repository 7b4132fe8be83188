/* Reading Thrift's compact protocol (see thrift_put.h for its bytes) out of foreign memory. Every
 * read is bounds-checked; what is wrong makes `bad` true, after which every read gives 0 and no
 * field follows, so that a caller looks at it once, at the end. A structure is a loop:
 *
 *   int16_t id = 0;
 *   enum thrift_type type;
 *   while (thrift_take_field(&t, &id, &type)) {
 *       switch (id) { case 1: x = thrift_take_i32(&t, type); break; default: thrift_take_skip(...)
 *
 * Every field is taken or skipped, else what follows makes no sense. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sinks/parquet/parquet_format.h"

#define THRIFT_SKIP_DEPTH_MAX 32

struct thrift_take {
    const uint8_t *at, *end;
    bool bad;
};
void thrift_take_init(struct thrift_take *t, const void *p, size_t n);
uint64_t thrift_take_varint(struct thrift_take *t);
/* The next field of a structure; false at its end. id: of the field before, then of this one. */
bool thrift_take_field(struct thrift_take *t, int16_t *id, enum thrift_type *type);
int64_t thrift_take_i64(struct thrift_take *t, enum thrift_type type); /* any integer */
int32_t thrift_take_i32(struct thrift_take *t, enum thrift_type type); /* bad beyond 32 bits */
bool thrift_take_bool(struct thrift_take *t, enum thrift_type type);
/* Borrowed. */
const uint8_t *thrift_take_binary(struct thrift_take *t, enum thrift_type type, size_t *len);
/* Bad unless type is a structure; its fields follow. */
void thrift_take_struct(struct thrift_take *t, enum thrift_type type);
/* How many elements follow, never more than there are bytes; bad unless they are of that type. */
uint32_t thrift_take_list(struct thrift_take *t, enum thrift_type type, enum thrift_type element);
void thrift_take_skip(struct thrift_take *t, enum thrift_type type);
