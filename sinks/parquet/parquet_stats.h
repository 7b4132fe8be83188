/* Least and greatest values: of a page, then of a chunk and of the file, and their forms in
 * statistics and indexes. Values are PLAIN bytes (no length in front). Pure but for memory.
 *
 * Orders: numbers by value; NaN in none (a page of NaN only has no range); decimals in bytes as
 * signed big-endian numbers; everything else bytewise, unsigned. A least +0 is written as -0, a
 * greatest -0 as +0, since readers compare floats in more than one way. */
#pragma once
#include "cdc/base/buf.h"

enum parquet_order {
    ORDER_BOOL,
    ORDER_I32,
    ORDER_I64,
    ORDER_F32,
    ORDER_F64,
    ORDER_SIGNED, /* big-endian two's complement, equal widths */
    ORDER_BYTES,
    ORDER_TEXT, /* as bytes; cut between code points */
};
int order_compare(enum parquet_order order, const uint8_t *a, size_t a_len, const uint8_t *b,
                  size_t b_len);

/* Of values in memory: pointers into it, or into own. */
struct parquet_range {
    bool any;
    const uint8_t *min, *max;
    size_t min_len, max_len;
    uint8_t own[2][8];
};
/* Takes a value in; it must stay where it is. NaN is passed over. */
void range_value(struct parquet_range *r, enum parquet_order order, const uint8_t *p, size_t len);
/* All of n values side by side. */
void range_fixed(struct parquet_range *r, enum parquet_order order, uint32_t width,
                 const uint8_t *values, uint32_t n);
/* data[offsets[i] .. offsets[i + 1]). */
void range_bytes(struct parquet_range *r, const uint8_t *data, const uint32_t *offsets, uint32_t n);
uint32_t count_nan(enum parquet_order order, const uint8_t *values, uint32_t n);

#define BOUND_BYTES_MAX 4096u
#define STATISTICS_BYTES_MAX 64u

/* Longer than a page lives: copies. Bytes beyond BOUND_BYTES_MAX are left out, and that is known.
 */
struct parquet_bounds {
    bool any;
    struct buf min, max;
    bool min_cut, max_cut;
};
void bounds_init(struct parquet_bounds *b);
void bounds_release(struct parquet_bounds *b);
void bounds_clear(struct parquet_bounds *b);
void bounds_take(struct parquet_bounds *b, enum parquet_order order, const struct parquet_range *r);

/* Appends a bound of at most bytes_max (a few more where a code point grows). lower: never above
 * the least value. upper: never below the greatest; -1 with nothing appended where no such bytes
 * exist. cut: p is already less than the value. *exact: the value itself. */
void bound_put_lower(struct buf *out, enum parquet_order order, const uint8_t *p, size_t len,
                     bool cut, size_t bytes_max, bool *exact);
int bound_put_upper(struct buf *out, enum parquet_order order, const uint8_t *p, size_t len,
                    bool cut, size_t bytes_max, bool *exact) TR_MUST_CHECK;
