/* Sets of key ranges: sorted, disjoint, adjacent ones joined. Bounds are key.h's encoding; an empty
 * lo = from the beginning, an empty hi = to the end. Pure, one owner. */
#pragma once
#include <stdbool.h>

#include "cdc/base/buf.h"

struct span {
    struct buf lo, hi;
};
struct spans {
    struct span *at;
    uint32_t count;
    uint32_t cap;
};
void spans_init(struct spans *s);
void spans_release(struct spans *s);
void spans_clear(struct spans *s);
void spans_add(struct spans *s, const struct buf *lo, const struct buf *hi);
void spans_add_apart(
    struct spans *s, const struct buf *lo,
    const struct buf *hi); /* disjoint from all; adjacent ones stay apart (sections) */
void spans_remove(struct spans *s, const struct buf *lo, const struct buf *hi);
void spans_copy(struct spans *dst, const struct spans *src);
/* The range that holds the key, or NULL. */
const struct span *spans_find(const struct spans *s, const void *key, size_t len);
bool spans_all(const struct spans *s); /* one range without ends */
/* Takes the first range out; there is one. lo and hi are initialised by the callee. */
void spans_take_first(struct spans *s, struct buf *lo, struct buf *hi);

/* Is lo <= key < hi? */
bool span_holds(const struct buf *lo, const struct buf *hi, const void *key, size_t len);
void span_copy_bound(struct buf *dst, const struct buf *src); /* dst uninitialised */
/* Order of a lower bound (empty first) and of an upper bound (empty last). */
int span_cmp_lo(const struct buf *a, const struct buf *b);
int span_cmp_hi(const struct buf *a, const struct buf *b);
