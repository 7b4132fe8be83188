/* Arrays from the text that array_out writes, to the array image of cdc/type.h: bounds if one is
 * not 1, braces, elements quoted where they must be. The number of dimensions is the number of
 * braces it begins with, so one pass writes the image in place. No recursion: the depth is a
 * number. Pure; thread: any. */
#include "connectors/postgres/pgsrc_plan.h"

/* The room between where an element's unescaped text is put and its cell: text decoders read before
 * they write. */
enum { UNESCAPE_GAP = 16 };

struct shape {
    uint32_t ndim;
    int64_t length[PGSRC_ARRAY_DIMENSIONS_MAX]; /* -1: not known yet */
    int64_t given[PGSRC_ARRAY_DIMENSIONS_MAX];  /* by the bounds, or -1 */
    int32_t lower[PGSRC_ARRAY_DIMENSIONS_MAX];
    int64_t here[PGSRC_ARRAY_DIMENSIONS_MAX]; /* members so far of the braces that are open */
};

static int take_bound(struct view *v, int64_t *out) {
    bool negative = v->at < v->end && *v->at == '-';
    v->at += negative;
    int64_t n = 0;
    int digits = 0;
    while (v->at < v->end && *v->at >= '0' && *v->at <= '9' && digits < 10) {
        n = n * 10 + (*v->at++ - '0');
        digits++;
    }
    *out = negative ? -n : n;
    return digits > 0 && *out >= INT32_MIN && *out <= INT32_MAX ? 0 : -1;
}

static int take_char(struct view *v, uint8_t c) {
    if (v->at == v->end || *v->at != c) {
        return -1;
    }
    v->at++;
    return 0;
}

/* [lower:upper]... = before the braces, then how many braces there are. Leaves the view at the
 * first brace. */
static int take_shape(struct view *v, struct shape *s) {
    uint32_t bounds = 0;
    *s = (struct shape){ 0 };
    for (uint32_t d = 0; d < PGSRC_ARRAY_DIMENSIONS_MAX; d++) {
        s->length[d] = -1;
        s->given[d] = -1;
        s->lower[d] = 1;
    }
    while (v->at < v->end && *v->at == '[') {
        int64_t lower;
        int64_t upper;
        v->at++;
        if (bounds == PGSRC_ARRAY_DIMENSIONS_MAX || take_bound(v, &lower) != 0 ||
            take_char(v, ':') != 0 || take_bound(v, &upper) != 0 || take_char(v, ']') != 0 ||
            upper < lower) {
            return -1;
        }
        s->lower[bounds] = (int32_t)lower;
        s->given[bounds++] = upper - lower + 1;
    }
    if (bounds > 0 && take_char(v, '=') != 0) {
        return -1;
    }
    const uint8_t *p = v->at;
    while (p < v->end && *p == '{') {
        p++;
    }
    size_t braces = (size_t)(p - v->at);
    if (braces < 1 || braces > PGSRC_ARRAY_DIMENSIONS_MAX || (bounds > 0 && bounds != braces)) {
        return -1;
    }
    s->ndim = (uint32_t)braces;
    return 0;
}

size_t pgsrc_array_text_bound(const struct pgsrc_step *element, const uint8_t *p, size_t len) {
    if (len > PGSRC_VALUE_BYTES_MAX) {
        return SIZE_MAX;
    }
    size_t elements = 1;
    for (size_t i = 0; i < len; i++) {
        elements += p[i] == ',';
    }
    size_t fixed = 4 + (element->width ? element->width : 8);
    size_t bound = 4 + 8 * PGSRC_ARRAY_DIMENSIONS_MAX + UNESCAPE_GAP + elements * fixed + len;
    return bound;
}

/* A quoted element: from after the opening quote to after the closing one. The text is left in the
 * source, or, if it has escapes, at `spare`. */
static int take_quoted(struct view *v, uint8_t *spare, const uint8_t **text, size_t *len) {
    const uint8_t *from = v->at;
    while (v->at < v->end && *v->at != '"' && *v->at != '\\') {
        v->at++;
    }
    if (v->at < v->end && *v->at == '"') {
        *text = from;
        *len = (size_t)(v->at++ - from);
        return 0;
    }
    uint8_t *to = spare;
    memcpy(to, from, (size_t)(v->at - from));
    to += v->at - from;
    while (v->at < v->end && *v->at != '"') {
        v->at += *v->at == '\\';
        if (v->at == v->end) {
            return -1;
        }
        *to++ = *v->at++;
    }
    *text = spare;
    *len = (size_t)(to - spare);
    return take_char(v, '"');
}

static int take_bare(struct view *v, const uint8_t **text, size_t *len) {
    *text = v->at;
    while (v->at < v->end && *v->at != ',' && *v->at != '}') {
        if (*v->at == '{' || *v->at == '"' || *v->at == '\\') {
            return -1;
        }
        v->at++;
    }
    *len = (size_t)(v->at - *text);
    return *len > 0 ? 0 : -1;
}

/* One element to its place in the image. */
static int put_element(const struct pgsrc_step *element, struct view *v, uint8_t **to) {
    const uint8_t *text;
    size_t len;
    size_t cell = 0;
    uint32_t head = UINT32_MAX;
    if (v->at < v->end && *v->at == '"') {
        v->at++;
        if (take_quoted(v, *to + 4 + UNESCAPE_GAP, &text, &len) != 0) {
            return -1;
        }
    } else {
        if (take_bare(v, &text, &len) != 0) {
            return -1;
        }
        if (len == 4 && memcmp(text, "NULL", 4) == 0) {
            text = NULL;
        }
    }
    if (text) {
        if (pgsrc_scalar_text(element, text, len, *to + 4, &cell) != 0) {
            return -1;
        }
        head = (uint32_t)cell;
    }
    memcpy(*to, &head, 4);
    *to += 4 + cell;
    return 0;
}

/* Closes the braces of one depth: all of that depth must be equally long. */
static int close_braces(struct shape *s, uint32_t depth) {
    if (s->length[depth] == -1) {
        s->length[depth] = s->here[depth];
    }
    return s->length[depth] == s->here[depth] ? 0 : -1;
}

/* Everything from the first brace to the last. */
static int take_members(const struct pgsrc_step *element, struct view *v, struct shape *s,
                        uint8_t **to) {
    uint32_t depth = 0; /* braces open */
    uint32_t count = 0;
    for (;;) {
        while (depth < s->ndim) {
            if (take_char(v, '{') != 0) {
                return -1;
            }
            s->here[depth++] = 0;
        }
        if (put_element(element, v, to) != 0 || ++count > PGSRC_ARRAY_ELEMENTS_MAX) {
            return -1;
        }
        s->here[depth - 1]++;
        while (v->at < v->end && *v->at == '}') {
            v->at++;
            depth--;
            if (close_braces(s, depth) != 0) {
                return -1;
            }
            if (depth == 0) {
                return view_left(v) == 0 ? 0 : -1;
            }
            s->here[depth - 1]++;
        }
        if (take_char(v, ',') != 0) {
            return -1;
        }
    }
}

int pgsrc_array_text(const struct pgsrc_step *element, const uint8_t *p, size_t len, uint8_t *out,
                     size_t *used) {
    struct view v = view_of(p, len);
    struct shape s;
    if (len == 2 && memcmp(p, "{}", 2) == 0) {
        memset(out, 0, 4);
        *used = 4;
        return 0;
    }
    if (take_shape(&v, &s) != 0) {
        return -1;
    }
    uint8_t *to = out + 4 + 8 * (size_t)s.ndim;
    if (take_members(element, &v, &s, &to) != 0) {
        return -1;
    }
    memcpy(out, &s.ndim, 4);
    for (uint32_t d = 0; d < s.ndim; d++) {
        if (s.given[d] != -1 && s.given[d] != s.length[d]) {
            return -1;
        }
        uint32_t length = (uint32_t)s.length[d];
        memcpy(out + 4 + 8 * (size_t)d, &length, 4);
        memcpy(out + 8 + 8 * (size_t)d, &s.lower[d], 4);
    }
    *used = (size_t)(to - out);
    return 0;
}
