/* Logical types: what a column's values are, in terms that hold everything PostgreSQL and MySQL can
 * say, and how one cell lies in memory. A type is a plain value; it owns nothing.
 *
 * Cells are little-endian, in the Arrow spirit: fixed-width cells lie side by side, others are
 * offsets plus bytes.
 *
 *   kind          bytes    content
 *   BOOL          1        0 or 1
 *   INT8..INT64   1..8     two's complement
 *   UINT8..UINT64 1..8     unsigned
 *   FLOAT32/64    4, 8     IEEE 754
 *   DECIMAL       8/16/32  unscaled two's complement integer, width by precision: <=18, <=38, <=76;
 *                          value = unscaled * 10^-scale (scale may be negative or above the
 *                          precision); lowest = NaN, lowest+1 = -Infinity, highest = Infinity
 *   NUMERIC       var      canonical decimal text of any size and scale (trailing zeros kept), or
 *                          NaN, Infinity, -Infinity
 *   TEXT          var      UTF-8
 *   BYTES         var      bytes
 *   DATE          4        i32 days since 2000-01-01, proleptic Gregorian; INT32_MIN/MAX =
 *                          -infinity/infinity
 *   TIME          8        i64 microseconds (24:00:00 allowed; MySQL: -838:59:59.. to 838:59:59..)
 *   TIMETZ        16       i64 microseconds of local time, i32 seconds EAST of UTC, i32 zero
 *   TIMESTAMP     8        i64 microseconds since 2000-01-01 00:00 (since 1970 the year 294276 would
 *                          overflow); INT64_MIN/MAX = -infinity/infinity
 *   TIMESTAMPTZ   8        the same, UTC
 *   INTERVAL      16       i64 microseconds, i32 days, i32 months: three independent fields
 *   UUID          16       bytes in text order
 *   JSON          var      the document's text as the source gives it
 *   ENUM          var      label, UTF-8
 *   SET           var      labels joined by ','
 *   BIT           var      u32 number of bits, then (bits+7)/8 bytes, first bit = highest bit of the
 *                          first byte
 *   YEAR          2        i16
 *   GEOMETRY      var      u32 SRID, then WKB
 *   ARRAY         var      array image, see below
 *   OTHER         var      the server's own text form (ranges, composites, network, extension
 *                          types, money...)
 *
 * Array image: u32 ndim | ndim x (u32 length, i32 lower bound) | elements in row-major order, each
 * u32 size (UINT32_MAX = null) and the element's cell bytes. Zero dimensions = the empty array.
 * Elements of numeric[] are NUMERIC. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum type_kind {
    TYPE_BOOL = 1,
    TYPE_INT8,
    TYPE_INT16,
    TYPE_INT32,
    TYPE_INT64,
    TYPE_UINT8,
    TYPE_UINT16,
    TYPE_UINT32,
    TYPE_UINT64,
    TYPE_FLOAT32,
    TYPE_FLOAT64,
    TYPE_DECIMAL,
    TYPE_NUMERIC,
    TYPE_TEXT,
    TYPE_BYTES,
    TYPE_DATE,
    TYPE_TIME,
    TYPE_TIMETZ,
    TYPE_TIMESTAMP,
    TYPE_TIMESTAMPTZ,
    TYPE_INTERVAL,
    TYPE_UUID,
    TYPE_JSON,
    TYPE_ENUM,
    TYPE_SET,
    TYPE_BIT,
    TYPE_YEAR,
    TYPE_GEOMETRY,
    TYPE_ARRAY,
    TYPE_OTHER,
    TYPE_KIND_COUNT
};

struct type {
    enum type_kind kind;
    enum type_kind element; /* of ARRAY, else 0 */
    uint16_t precision;     /* of DECIMAL: 1..76 */
    int16_t scale;          /* of DECIMAL */
};

#define DECIMAL_PRECISION_MAX 76

size_t type_width(const struct type *type); /* bytes of a fixed-width cell, 0 = variable */
bool type_equal(const struct type *a, const struct type *b);
/* Stable name for schemas in targets: "int64", "decimal(15,2)", "array<int32>", "text"... and back
 * (-1: unknown). */
struct buf;
void type_put_name(struct buf *out, const struct type *type);
int type_from_name(const char *name, struct type *out);
/* Can a client reproduce the server's order of this type with memcmp over key.h's encoding (text:
 * only with byte order)? */
bool type_orderable(const struct type *type);
