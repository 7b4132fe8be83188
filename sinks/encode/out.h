/* The output of an encoder: a buffer of fixed size that is handed on through a callback whenever it
 * is full, also in the middle of a long string. So a row of any size costs no second copy of
 * itself.
 *
 * Use: out_room(o, n) first, then at most n bytes with out_raw or a put_ function of cdc. Going
 * beyond the room asked for aborts (the buffer's maximum is its capacity). After a failed write the
 * output is broken: its owner drops what it built. Thread: the owner's. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/base/err.h"

#define OUT_BYTES (256u << 10)    /* the buffer */
#define OUT_ROOM_MAX (128u << 10) /* most that out_room may be asked for */
#define OUT_PIECE                                                                                  \
    (16u << 10) /* bytes of a long value handled at a time; escaped at most six times as long */

/* All `len` bytes, or -1. */
typedef int (*out_write_fn)(void *arg, const void *bytes, size_t len, struct err *err);

struct out {
    struct buf buf;
    out_write_fn write;
    void *arg;
};
void out_init(struct out *o, out_write_fn write, void *arg);
void out_release(struct out *o); /* drops what was not flushed */
int out_flush(struct out *o, struct err *err) TR_MUST_CHECK;
/* Bytes of any number. */
int out_bytes(struct out *o, const void *p, size_t len, struct err *err) TR_MUST_CHECK;

static inline TR_MUST_CHECK int out_room(struct out *o, size_t n, struct err *err) {
    if (LIKELY(o->buf.cap - o->buf.len >= n)) {
        return 0;
    }
    CHECK(n <= OUT_ROOM_MAX);
    return out_flush(o, err);
}
/* Within the room asked for. */
static inline void out_raw(struct out *o, const char *p, size_t len) {
    CHECK(o->buf.cap - o->buf.len >= len);
    memcpy(o->buf.data + o->buf.len, p, len);
    o->buf.len += len;
}
#define OUT_LITERAL(o, text) out_raw((o), (text), sizeof(text) - 1)
