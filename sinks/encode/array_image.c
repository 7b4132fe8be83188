/* The iterator over array images. See array_image.h. No recursion: the indexes of all dimensions
 * count like an odometer. */
#include "sinks/encode/array_image.h"

static int malformed(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "array_malformed", "array value: %s", what);
}

static int take_u32(struct view *v, uint32_t *out) {
    if (view_left(v) < 4) {
        return -1;
    }
    memcpy(out, v->at, 4);
    v->at += 4;
    return 0;
}

int array_image_open(struct array_image *a, const void *image, size_t len, struct err *err) {
    *a = (struct array_image){ 0 };
    struct view v = view_of(image, len);
    if (take_u32(&v, &a->ndim)) {
        return malformed(err, "too short");
    }
    if (a->ndim > ARRAY_DIMS_MAX) {
        return malformed(err, "too many dimensions");
    }
    for (uint32_t d = 0; d < a->ndim; d++) {
        uint32_t lower;
        if (take_u32(&v, &a->length[d]) || take_u32(&v, &lower)) {
            return malformed(err, "too short");
        }
        if (a->length[d] == 0) {
            return malformed(err, "a dimension without elements");
        }
        a->lower[d] = (int32_t)lower;
    }
    a->elements = v;
    return 0;
}

bool array_image_from_one(const struct array_image *a) {
    for (uint32_t d = 0; d < a->ndim; d++) {
        if (a->lower[d] != 1) {
            return false;
        }
    }
    return true;
}

/* Moves to the next element: how many dimensions ended. All of them: the array has ended. */
static uint32_t advance(struct array_image *a) {
    uint32_t closed = 0;
    while (closed < a->ndim) {
        uint32_t d = a->ndim - 1 - closed;
        if (++a->at[d] < a->length[d]) {
            break;
        }
        a->at[d] = 0;
        closed++;
    }
    return closed;
}

int array_image_next(struct array_image *a, struct array_step *out, struct err *err) {
    *out = (struct array_step){ 0 };
    CHECK(!a->ended);
    if (!a->begun) {
        a->begun = true;
        out->opens = a->ndim > 0 ? a->ndim : 1;
        if (a->ndim == 0) {
            return 0;
        }
    } else {
        uint32_t closed = advance(a);
        if (closed == a->ndim) {
            a->ended = out->end = true;
            out->closes = a->ndim > 0 ? a->ndim : 1;
            return view_left(&a->elements) > 0 ? malformed(err, "bytes after the last element") : 0;
        }
        out->closes = out->opens = closed;
        out->comma = true;
    }
    uint32_t size;
    if (take_u32(&a->elements, &size)) {
        return malformed(err, "too short");
    }
    if (size == UINT32_MAX) {
        out->null = true;
        return 0;
    }
    out->len = size;
    return take_bytes(&a->elements, size, &out->element) ? malformed(err, "too short") : 0;
}
