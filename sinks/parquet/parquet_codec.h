/* Compressing pages. Scratch memory and zstd's context are kept between pages; parquet_codec_trim
 * gives them back. Thread: its owner. */
#pragma once
#include "cdc/base/buf.h"
#include "sinks/parquet/parquet_writer.h"

struct ZSTD_CCtx_s;
struct parquet_codec_state {
    struct ZSTD_CCtx_s *zstd;
    int level;
    struct buf out;
};
void parquet_codec_init(struct parquet_codec_state *s, int level);
void parquet_codec_trim(struct parquet_codec_state *s);
size_t parquet_codec_memory(const struct parquet_codec_state *s);
/* The bytes are in s->out until the next call. Not for PARQUET_NONE. n at most INT32_MAX. */
void parquet_codec_run(struct parquet_codec_state *s, enum parquet_codec codec, const void *p,
                       size_t n);
