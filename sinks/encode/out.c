/* The fixed buffer between an encoder and what takes its bytes. See out.h. */
#include "sinks/encode/out.h"

void out_init(struct out *o, out_write_fn write, void *arg) {
    buf_init(&o->buf, OUT_BYTES);
    int failed = buf_reserve(&o->buf, OUT_BYTES);
    CHECK(!failed && o->buf.cap == OUT_BYTES);
    o->write = write;
    o->arg = arg;
}

void out_release(struct out *o) { buf_release(&o->buf); }

int out_flush(struct out *o, struct err *err) {
    if (o->buf.len == 0) {
        return 0;
    }
    int failed = o->write(o->arg, o->buf.data, o->buf.len, err);
    buf_clear(&o->buf);
    return failed;
}

int out_bytes(struct out *o, const void *p, size_t len, struct err *err) {
    const char *at = p;
    while (len > 0) {
        size_t n = len < OUT_PIECE ? len : OUT_PIECE;
        if (out_room(o, n, err)) {
            return -1;
        }
        out_raw(o, at, n);
        at += n;
        len -= n;
    }
    return 0;
}
