/* Text forms of values: exact, canonical, and the same for snapshot and stream. Pure functions. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/type.h"

/* Decimal cell (width 8, 16 or 32 by the type's precision) as text with exactly `scale` fraction
 * digits (12.30), or NaN, Infinity, -Infinity. */
void value_put_decimal(struct buf *out, const struct type *type, const uint8_t *cell);
/* Text to a decimal cell. -1 if it is no number, has more fraction digits than the scale (beyond
 * zeros), or does not fit the precision. */
int value_decimal_from_text(const struct type *type, const char *s, size_t len,
                            uint8_t *cell) TR_MUST_CHECK;
/* base-10000 digits as PostgreSQL's binary numeric has them: value = sum digit[i] *
 * 10000^(weight-i). Hot path: no text in between. */
int value_decimal_from_base10000(const struct type *type, bool negative, int weight,
                                 const uint8_t *digits_be, unsigned count,
                                 uint8_t *cell) TR_MUST_CHECK;

void value_put_float32(
    struct buf *out,
    float v); /* shortest that reads back as the same value; NaN, Infinity, -Infinity */
void value_put_float64(struct buf *out, double v);

/* Civil dates, proleptic Gregorian, astronomical year numbering (year 0 = 1 BC). */
void value_civil_from_days(int32_t days_since_2000, int32_t *year, unsigned *month, unsigned *day);
int64_t value_days_from_civil(int64_t year, unsigned month, unsigned day); /* since 2000-01-01 */
/* ISO 8601: 2026-01-02, -0043-03-15, +10000-01-01; "infinity", "-infinity". Fractions: none, or up
 * to six digits without trailing zeros.  */
void value_put_date(struct buf *out, int32_t days);
void value_put_time(struct buf *out, int64_t us); /* 04:05:06.789, also beyond 24 h and negative */
void value_put_timestamp(struct buf *out, int64_t us,
                         bool utc); /* 2026-01-02T03:04:05.678 and with utc a trailing Z */
void value_put_timetz(struct buf *out, int64_t us, int32_t seconds_east); /* 04:05:06+05:30 */
void value_put_uuid(struct buf *out, const uint8_t *bytes16);
void value_put_bits(struct buf *out, const uint8_t *cell, size_t len); /* 0101 */
