/* One cell as a JSON value: INTERFACE, "VALUES". Exact: what cannot be said is an error, never
 * another value.
 *
 *   integers, year     number (uint64 as it is)
 *   bool               true false
 *   float              shortest number that reads back; "NaN" "Infinity" "-Infinity"
 *   decimal, numeric   "12.30" "NaN" "Infinity" "-Infinity"
 *   text, enum, set, json, other   string (json: the document's text)
 *   bytes              base64
 *   bit                "0101"
 *   date, time, timetz, timestamp, timestamptz   ISO 8601 of value.h, "infinity", "-infinity"
 *   interval           {"months":1,"days":2,"us":3}
 *   uuid               string
 *   geometry           {"srid":4326,"wkb":"base64"}
 *   array              nested arrays, null elements
 *                      with lower bounds other than 1: {"lower":[0],"values":[..]}
 *
 * Errors (FATAL): "text_not_utf8" (a database without encoding), "array_malformed". Pure but for
 * the output. */
#pragma once
#include "cdc/type.h"
#include "sinks/encode/out.h"

int json_cell_put(struct out *o, const struct type *type, const uint8_t *cell, size_t len,
                  struct err *err) TR_MUST_CHECK;
