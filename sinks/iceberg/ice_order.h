/* Sort orders: what rows of a data file are ordered by. Columns themselves (the identity
 * transform), each way, nulls at either end. Source: Iceberg table spec, "Sorting", appendix C
 * "Sort Orders". Pure. Thread: the owner's.
 *
 * A row's key bytes order as the rows do under memcmp, whatever the types: one mark for null, then
 * the cell, turned over where the column descends:
 *
 *   numbers, dates, times    big-endian, the sign's bit flipped; decimals likewise, by their value
 *   float, double            the same for their IEEE bits; all bits flipped where negative; NaN is
 *                            one value, above infinity; -0 below +0
 *   string, binary           bytes, 00 as 00 ff, then 00 00
 *   uuid                     its 16 bytes
 *   boolean                  false, true */
#pragma once
#include "sinks/iceberg/ice_schema.h"

#define ICE_ORDER_FIELDS_MAX 8
struct ice_order_field {
    int32_t source_id; /* field of the schema */
    bool descending, nulls_last;
};
/* A plain value; it owns nothing. */
struct ice_order {
    int32_t id;     /* 0 = none */
    uint32_t count; /* 0 = none */
    struct ice_order_field fields[ICE_ORDER_FIELDS_MAX];
};
/* The user's words, e.g. "created_at,id desc nulls first", or with a plus sign for each blank,
 * which URLs have not; names may stand in double quotes. Nulls are first where ascending, last
 * where descending, unless it is said. ERR_FATAL "sort_order" with the exit code of a wrong use:
 * not understood. */
int ice_order_check(const char *text, struct err *err);
/* ... of a table, order 1; "" = none. Columns that the table has not are left out (a job of many
 * tables: only where the column is). ERR_FATAL "sort_order", too, for a column of lists. */
int ice_order_parse(const char *text, const struct ice_schema *schema, struct ice_order *out,
                    struct err *err);
/* Same fields, whatever their ids as orders. */
bool ice_order_same(const struct ice_order *a, const struct ice_order *b);
/* The object of "sort-orders". */
json_t *ice_order_json(const struct ice_order *order);
/* The order of that id. None (id 0) where there is none, or it has transforms besides identity, or
 * too many fields: foreign metadata may have anything. */
void ice_order_from_json(const json_t *orders, int32_t id, struct ice_order *out);
/* indexes[i] = the schema's field of order field i. False: it has not all of them, or one is a
 * list. */
bool ice_order_bind(const struct ice_order *order, const struct ice_schema *schema,
                    uint32_t *indexes);
/* Appends the row's key bytes; columns: all of the schema. */
void ice_order_put_key(const struct ice_order *order, const uint32_t *indexes,
                       const struct lake_column *columns, uint32_t row, struct buf *out);
