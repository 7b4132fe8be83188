/* Codecs of pages: zstd, snappy, lz4 (raw blocks). See parquet_codec.h. Output always fits, since
 * room for the worst case is made first; a failure is therefore our bug or no memory. */
#include "sinks/parquet/parquet_codec.h"

#include <lz4.h>
#include <snappy-c.h>
#include <zstd.h>

void parquet_codec_init(struct parquet_codec_state *s, int level) {
    *s = (struct parquet_codec_state){ .level = level };
    buf_init(&s->out, SIZE_MAX);
}

void parquet_codec_trim(struct parquet_codec_state *s) {
    ZSTD_freeCCtx(s->zstd);
    s->zstd = NULL;
    buf_release(&s->out);
}

size_t parquet_codec_memory(const struct parquet_codec_state *s) {
    return s->out.cap + (s->zstd ? ZSTD_sizeof_CCtx(s->zstd) : 0);
}

static void room(struct parquet_codec_state *s, size_t n) {
    buf_clear(&s->out);
    int failed = buf_reserve(&s->out, n);
    CHECK(!failed);
}

static void run_zstd(struct parquet_codec_state *s, const void *p, size_t n) {
    if (!s->zstd) {
        s->zstd = ZSTD_createCCtx();
        CHECK(s->zstd);
    }
    room(s, ZSTD_compressBound(n));
    s->out.len = ZSTD_compressCCtx(s->zstd, s->out.data, s->out.cap, p, n, s->level);
    CHECK(!ZSTD_isError(s->out.len));
}

void parquet_codec_run(struct parquet_codec_state *s, enum parquet_codec codec, const void *p,
                       size_t n) {
    CHECK(n <= INT32_MAX);
    if (codec == PARQUET_ZSTD) {
        run_zstd(s, p, n);
    } else if (codec == PARQUET_SNAPPY) {
        room(s, snappy_max_compressed_length(n));
        s->out.len = s->out.cap;
        snappy_status status = snappy_compress(p, n, s->out.data, &s->out.len);
        CHECK(status == SNAPPY_OK);
    } else {
        CHECK(codec == PARQUET_LZ4_RAW && n <= LZ4_MAX_INPUT_SIZE);
        int bound = LZ4_compressBound((int)n);
        room(s, (size_t)bound);
        int len = LZ4_compress_default(p, s->out.data, (int)n, bound);
        CHECK(len > 0);
        s->out.len = (size_t)len;
    }
}
