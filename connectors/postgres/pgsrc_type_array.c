/* Arrays from PostgreSQL's binary form (array_send) to the array image of cdc/type.h. One pass
 * measures and checks every length, one writes, so that the cell is written in place however large
 * it is. Pure; thread: any. */
#include "connectors/postgres/pgsrc_plan.h"

struct array {
    uint32_t ndim;
    uint32_t element_oid;
    uint32_t count; /* elements over all dimensions */
    struct view dims;
    struct view rest; /* the elements */
};

/* i32 dimensions, i32 has nulls, u32 element type, then for each dimension i32 length and i32 lower
 * bound. */
static int array_open(struct array *a, const uint8_t *p, size_t len) {
    struct view v = view_of(p, len);
    uint32_t has_null;
    const uint8_t *dims;
    if (take_u32be(&v, &a->ndim) != 0 || take_u32be(&v, &has_null) != 0 ||
        take_u32be(&v, &a->element_oid) != 0) {
        return -1;
    }
    if (a->ndim > PGSRC_ARRAY_DIMENSIONS_MAX || has_null > 1 ||
        take_bytes(&v, 8 * (size_t)a->ndim, &dims) != 0) {
        return -1;
    }
    uint64_t count = a->ndim > 0 ? 1 : 0;
    for (uint32_t d = 0; d < a->ndim; d++) {
        uint32_t length = pgsrc_be32(dims + 8 * (size_t)d);
        if (length == 0 || length > PGSRC_ARRAY_ELEMENTS_MAX) {
            return -1;
        }
        count *= length;
        if (count > PGSRC_ARRAY_ELEMENTS_MAX) {
            return -1;
        }
    }
    a->count = (uint32_t)count;
    a->dims = view_of(dims, 8 * (size_t)a->ndim);
    a->rest = v;
    return 0;
}

/* The next element: *p NULL for a null. */
static int take_element(struct view *v, const uint8_t **p, size_t *len) {
    uint32_t size;
    *p = NULL;
    *len = 0;
    if (take_u32be(v, &size) != 0) {
        return -1;
    }
    if (size == UINT32_MAX) {
        return 0;
    }
    *len = size;
    return take_bytes(v, size, p);
}

size_t pgsrc_array_binary_bound(const struct pgsrc_step *array, const struct pgsrc_step *element,
                                const uint8_t *p, size_t len) {
    struct array a;
    if (array_open(&a, p, len) != 0 ||
        (array->element_oid != 0 && a.element_oid != array->element_oid)) {
        return SIZE_MAX;
    }
    size_t bound = 4 + 8 * (size_t)a.ndim;
    for (uint32_t i = 0; i < a.count; i++) {
        const uint8_t *at;
        size_t size;
        if (take_element(&a.rest, &at, &size) != 0) {
            return SIZE_MAX;
        }
        size_t cell = at ? pgsrc_scalar_binary_bound(element, at, size) : 0;
        if (cell >= PGSRC_VALUE_BYTES_MAX - bound - 4) {
            return SIZE_MAX;
        }
        bound += 4 + cell;
    }
    return view_left(&a.rest) == 0 ? bound : SIZE_MAX;
}

int pgsrc_array_binary(const struct pgsrc_step *element, const uint8_t *p, size_t len, uint8_t *out,
                       size_t *used) {
    struct array a;
    if (array_open(&a, p, len) != 0) {
        return -1;
    }
    uint8_t *to = out;
    memcpy(to, &a.ndim, 4);
    to += 4;
    for (const uint8_t *d = a.dims.at; d < a.dims.end; d += 4) {
        uint32_t v = pgsrc_be32(d);
        memcpy(to, &v, 4);
        to += 4;
    }
    for (uint32_t i = 0; i < a.count; i++) {
        const uint8_t *at;
        size_t size;
        size_t cell = 0;
        if (take_element(&a.rest, &at, &size) != 0) {
            return -1;
        }
        if (at && pgsrc_scalar_binary(element, at, size, to + 4, &cell) != 0) {
            return -1;
        }
        uint32_t head = at ? (uint32_t)cell : UINT32_MAX;
        memcpy(to, &head, 4);
        to += 4 + cell;
    }
    *used = (size_t)(to - out);
    return 0;
}
