/* Walking an array image (cdc/type.h) in row-major order: for each element the brackets that close
 * and open before it. The image is checked on the way; damage is FATAL "array_malformed". Pure;
 * nothing is allocated. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/base/err.h"

#define ARRAY_DIMS_MAX 6u /* PostgreSQL's MAXDIM */

struct array_image {
    uint32_t ndim;
    uint32_t length[ARRAY_DIMS_MAX];
    int32_t lower[ARRAY_DIMS_MAX];
    uint32_t at[ARRAY_DIMS_MAX]; /* indexes of the next element, from 0 */
    struct view elements;        /* what is left */
    bool begun, ended;
};
/* Brackets and commas in the order closes, comma, opens, then the element. The empty array is one
 * step that opens one bracket, without an element, and the end, which closes it. */
struct array_step {
    uint32_t closes, opens;
    bool comma;
    bool null;              /* a null element */
    const uint8_t *element; /* NULL: a null element, the end, the empty array's opening step */
    size_t len;
    bool end; /* no element: only closes */
};
int array_image_open(struct array_image *a, const void *image, size_t len,
                     struct err *err) TR_MUST_CHECK;
bool array_image_from_one(const struct array_image *a); /* every lower bound is 1 */
int array_image_next(struct array_image *a, struct array_step *out, struct err *err) TR_MUST_CHECK;
