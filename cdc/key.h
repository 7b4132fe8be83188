/* Keys as bytes: the key cells of a row encoded so that memcmp orders them as the source does (for
 * orderable keys), and so that equal keys have equal bytes (for all keys). Used for key ranges,
 * overlays and, in sinks, ordering.
 *
 *   integers                       big-endian, sign bit flipped, at the type's width
 *   bool                           1 byte
 *   uuid                           16 bytes
 *   date, time, timestamp(tz), year  as their integer
 *   decimal                        as an integer of its width, less one (modulo the width): so NaN,
 *                                  the lowest cell, sorts above Infinity as PostgreSQL has it
 *   float                          order-preserving bits; -0 = 0; all NaN equal and greatest
 *   everything variable            bytes with 00 written as 00 FF, ended by 00 00, so that a prefix
 *                                  sorts first
 *   numeric                        equal values have equal bytes (1.0 = 1.00); not ordered
 *   interval, timetz               by their fields; not ordered
 *
 * A range [lo, hi) is bounds in this encoding, each of which may be a prefix of whole cells; an
 * empty lo = from the beginning, an empty hi = to the end. */
#pragma once
#include "cdc/batch.h"

/* Appends the encoded key of a row. -1 if a key cell is null or not carried (the buffer is left as
 * it was). */
int key_put(struct buf *out, const struct batch *batch, uint32_t row) TR_MUST_CHECK;
/* One cell of the given type. */
void key_put_cell(struct buf *out, const struct type *type, const uint8_t *bytes, size_t len);
/* Takes an encoded key apart again: writes key cell number i's bytes (cell form of type.h) to out.
 * -1 on damage. Only for orderable types. */
int key_take_cell(struct view *in, const struct type *type, struct buf *out) TR_MUST_CHECK;
/* Appends the shortest bound b with lo < b <= hi: a prefix of hi's cells, a text or bytes cell
 * among them cut to the shortest separating prefix (whole characters), so that positions stay
 * short. */
void key_separator(struct buf *out, const struct schema *schema, const void *lo, size_t lo_len,
                   const void *hi, size_t hi_len);
static inline int key_cmp(const void *a, size_t a_len, const void *b, size_t b_len) {
    size_t shared =
        a_len < b_len ? a_len : b_len; /* 0 for an open bound, whose pointer may be NULL */
    int c = shared ? memcmp(a, b, shared) : 0;
    return c ? c : (a_len < b_len ? -1 : a_len > b_len);
}
