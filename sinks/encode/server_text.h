/* Cells in the text form that PostgreSQL's `column::text` gives, so that SQL can compute the same
 * digest as discard:?hash=on. Holds for bool, integers, float4/8, numeric, text, bytea, date,
 * time(tz), timestamp(tz), interval, uuid, json(b), bit, enums, arrays of these and every type that
 * arrives as the server's text, under the settings
 *
 *   SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
 *   SET bytea_output = 'hex'; SET extra_float_digits = 1;
 *
 * Elements of arrays of types that arrive as text must have ',' as delimiter (box[] has not).
 * Pure. */
#pragma once
#include "cdc/type.h"

struct err;
void server_text_put_float(struct buf *out, double v, bool single);
/* -1: an array image that is malformed (FATAL "array_malformed"). */
int server_text_put(struct buf *out, const struct type *type, const uint8_t *cell, size_t len,
                    struct err *err);
