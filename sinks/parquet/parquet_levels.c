/* The RLE / bit-packed hybrid. A run of equals must be worth its header and the header of the
 * packed run after it: at least 8 values, 64 bits packed. Packed runs have groups of 8, so a run of
 * equals only begins at a multiple of 8 after the last one's end. */
#include "sinks/parquet/parquet_levels.h"

#include "sinks/parquet/parquet_pack.h"
#include "sinks/parquet/thrift_put.h"

void levels_put_run(struct buf *out, uint32_t value, uint32_t count, unsigned width) {
    put_varint(out, (uint64_t)count << 1);
    buf_put(out, &value, (width + 7) / 8);
}

static void put_packed(struct buf *out, const uint32_t *v, uint32_t count, unsigned width) {
    uint32_t groups = (count + 7) / 8;
    put_varint(out, (uint64_t)groups << 1 | 1);
    size_t need = (size_t)(groups + 3) * width; /* the last 32 may be written in full */
    int failed = buf_reserve(out, need);
    CHECK(!failed);
    uint8_t *at = (uint8_t *)out->data + out->len;
    for (uint32_t i = 0; i < count; i += 32) {
        pack_32(v + i, width, at + (size_t)i / 8 * width);
    }
    out->len += (size_t)groups * width;
}

/* How many from i on are equal to v[i]. */
static uint32_t equals(const uint32_t *v, uint32_t i, uint32_t count) {
    uint32_t end = i + 1;
    while (end < count && v[end] == v[i]) {
        end++;
    }
    return end - i;
}

void levels_put(struct buf *out, uint32_t *v, uint32_t count, unsigned width) {
    CHECK(width >= 1 && width <= 32);
    memset(v + count, 0, 32 * sizeof *v);
    uint32_t worth = 64 / width > 8 ? 64 / width : 8;
    uint32_t start = 0; /* of what is not written yet */
    uint32_t i = 0;
    while (count - i >= worth) {
        if (LIKELY(v[i] != v[i + 7] || v[i] != v[i + 3])) {
            i += 8;
            continue;
        }
        uint32_t n = equals(v, i, count);
        if (n < worth) {
            i += 8;
            continue;
        }
        if (i > start) {
            put_packed(out, v + start, i - start, width);
        }
        levels_put_run(out, v[i], n, width);
        i += n;
        start = i;
    }
    if (count > start) {
        /* values after these in memory are ours or the zeros at the end */
        put_packed(out, v + start, count - start, width);
    }
}

/* Bytes from `at` on that are all `byte`. */
static uint32_t same_bytes(const uint8_t *bits, uint32_t at, uint32_t end, uint8_t byte) {
    uint32_t i = at;
    while (i < end && bits[i] == byte) {
        i++;
    }
    return i - at;
}

static void put_bits(struct buf *out, const uint8_t *bits, uint32_t bytes) {
    if (bytes > 0) {
        put_varint(out, (uint64_t)bytes << 1 | 1);
        buf_put(out, bits, bytes);
    }
}

void levels_put_bitmap(struct buf *out, const uint8_t *bits, uint32_t count) {
    enum { WORTH = 8 }; /* bytes */
    uint32_t whole = count / 8;
    uint32_t start = 0;
    uint32_t i = 0;
    while (i < whole) {
        if (bits[i] != 0 && bits[i] != 0xFF) {
            i++;
            continue;
        }
        uint32_t n = same_bytes(bits, i, whole, bits[i]);
        if (n >= WORTH) {
            put_bits(out, bits + start, i - start);
            levels_put_run(out, bits[i] & 1, n * 8, 1);
            start = i + n;
        }
        i += n;
    }
    unsigned rest = count % 8;
    if (rest == 0) {
        put_bits(out, bits + start, whole - start);
        return;
    }
    put_varint(out, (uint64_t)(whole - start + 1) << 1 | 1);
    buf_put(out, bits + start, whole - start);
    buf_putc(out, (char)(bits[whole] & ((1u << rest) - 1)));
}
