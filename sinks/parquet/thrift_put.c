/* Thrift's compact protocol, the writing half. See thrift_put.h. */
#include "sinks/parquet/thrift_put.h"

void put_varint(struct buf *out, uint64_t v) {
    char bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (char)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (char)v;
    buf_put(out, bytes, n);
}

static void field(struct thrift_put *t, int16_t id, enum thrift_type type) {
    int delta = id - t->last[t->depth];
    CHECK(delta > 0);
    if (delta <= 15) {
        buf_putc(t->out, (char)(delta << 4 | (int)type));
    } else {
        buf_putc(t->out, (char)type);
        put_varint(t->out, zigzag(id));
    }
    t->last[t->depth] = id;
}

void thrift_put_init(struct thrift_put *t, struct buf *out) {
    *t = (struct thrift_put){ .out = out };
}

void thrift_put_end(struct thrift_put *t) {
    CHECK(t->depth == 0);
    buf_putc(t->out, THRIFT_STOP);
}

void thrift_put_i16(struct thrift_put *t, int16_t id, int16_t v) {
    field(t, id, THRIFT_I16);
    put_varint(t->out, zigzag(v));
}

void thrift_put_i32(struct thrift_put *t, int16_t id, int32_t v) {
    field(t, id, THRIFT_I32);
    put_varint(t->out, zigzag(v));
}

void thrift_put_i64(struct thrift_put *t, int16_t id, int64_t v) {
    field(t, id, THRIFT_I64);
    put_varint(t->out, zigzag(v));
}

void thrift_put_bool(struct thrift_put *t, int16_t id, bool v) {
    field(t, id, v ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_put_byte(struct thrift_put *t, int16_t id, int8_t v) {
    field(t, id, THRIFT_BYTE);
    buf_putc(t->out, (char)v);
}

void thrift_put_binary(struct thrift_put *t, int16_t id, const void *p, size_t n) {
    field(t, id, THRIFT_BINARY);
    thrift_put_element_binary(t, p, n);
}

void thrift_put_string(struct thrift_put *t, int16_t id, const char *s) {
    thrift_put_binary(t, id, s, strlen(s));
}

void thrift_put_struct(struct thrift_put *t, int16_t id) {
    if (id != 0) {
        field(t, id, THRIFT_STRUCT);
    }
    t->depth++;
    CHECK(t->depth < THRIFT_DEPTH_MAX);
    t->last[t->depth] = 0;
}

void thrift_put_struct_end(struct thrift_put *t) {
    CHECK(t->depth > 0);
    t->depth--;
    buf_putc(t->out, THRIFT_STOP);
}

void thrift_put_empty(struct thrift_put *t, int16_t id) {
    thrift_put_struct(t, id);
    thrift_put_struct_end(t);
}

void thrift_put_struct_bytes(struct thrift_put *t, int16_t id, const void *p, size_t n) {
    field(t, id, THRIFT_STRUCT);
    buf_put(t->out, p, n);
}

void thrift_put_list(struct thrift_put *t, int16_t id, enum thrift_type element, size_t count) {
    field(t, id, THRIFT_LIST);
    if (count < 15) {
        buf_putc(t->out, (char)(count << 4 | element));
    } else {
        buf_putc(t->out, (char)(0xF0 | element));
        put_varint(t->out, count);
    }
}

void thrift_put_element_int(struct thrift_put *t, int64_t v) { put_varint(t->out, zigzag(v)); }

void thrift_put_element_bool(struct thrift_put *t, bool v) {
    buf_putc(t->out, v ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_put_element_binary(struct thrift_put *t, const void *p, size_t n) {
    put_varint(t->out, n);
    buf_put(t->out, p, n);
}
