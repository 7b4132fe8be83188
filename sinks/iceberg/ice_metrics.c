/* Column metrics of a data file: what the Parquet writer knows of its columns, as a manifest keeps
 * it. Bounds are cut as Java's default mode `truncate(16)` does, and only the first 100 columns
 * have metrics, as there. A bound that cannot be given exactly for every reader is left out:
 * readers then do not skip the file. Source: Iceberg table spec, "Column metrics", appendix D.
 * Pure. */
#include "cdc/base/escape.h"
#include "sinks/iceberg/ice_manifest.h"

enum { COLUMNS_MAX = 100, LENGTH_MAX = 16 };

/* The byte length of the first LENGTH_MAX code points, or -1 if they are not UTF-8. */
static int64_t prefix_of(const uint8_t *p, size_t n, size_t *points) {
    const uint8_t *at = p;
    *points = 0;
    while (at < p + n && *points < LENGTH_MAX) {
        int len = utf8_length(at, p + n);
        if (len <= 0) {
            return -1;
        }
        at += len;
        ++*points;
    }
    return at - p;
}

static uint32_t code_point(const uint8_t *p, size_t len) {
    uint32_t c = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        c = c << 6 | (p[i] & 0x3fu);
    }
    return c;
}

static size_t put_code_point(uint8_t *p, uint32_t c) {
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    p[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* The smallest text above all that begin with these code points; 0 if there is none. p has room for
 * one byte more. */
static size_t increment_text(uint8_t *p, size_t n) {
    while (n > 0) {
        size_t at = n - 1;
        while (at > 0 && (p[at] & 0xc0) == 0x80) {
            at--;
        }
        uint32_t c = code_point(p + at, n - at) + 1;
        if (c == 0xd800) {
            c = 0xe000; /* surrogates are no text */
        }
        if (c <= 0x10ffff) {
            return at + put_code_point(p + at, c);
        }
        n = at;
    }
    return 0;
}

static size_t increment_bytes(uint8_t *p, size_t n) {
    while (n > 0 && p[n - 1] == 0xff) {
        n--;
    }
    if (n > 0) {
        p[n - 1]++;
    }
    return n;
}

static void set_bound(struct arena *arena, const uint8_t *p, size_t n, const uint8_t **out,
                      uint32_t *out_len) {
    static const uint8_t nothing[1];
    *out = n > 0 ? arena_copy(arena, p, n) : nothing;
    *out_len = (uint32_t)n;
}

static void text_bounds(struct arena *arena, bool text, const struct parquet_column_info *c,
                        struct ice_metric *m) {
    size_t points;
    int64_t lower = text ? prefix_of(c->lower, c->lower_len, &points)
                         : (int64_t)(c->lower_len < LENGTH_MAX ? c->lower_len : LENGTH_MAX);
    if (lower >= 0) {
        set_bound(arena, c->lower, (size_t)lower, &m->lower, &m->lower_len);
    }
    int64_t upper = text ? prefix_of(c->upper, c->upper_len, &points)
                         : (int64_t)(c->upper_len < LENGTH_MAX ? c->upper_len : LENGTH_MAX);
    if (upper < 0) {
        return;
    }
    if ((size_t)upper == c->upper_len) {
        set_bound(arena, c->upper, c->upper_len, &m->upper, &m->upper_len);
        return;
    }
    uint8_t cut[LENGTH_MAX * 4 + 1];
    memcpy(cut, c->upper, (size_t)upper);
    size_t n = text ? increment_text(cut, (size_t)upper) : increment_bytes(cut, (size_t)upper);
    if (n > 0) {
        set_bound(arena, cut, n, &m->upper, &m->upper_len);
    }
}

/* Readers order uuids by their bytes, or (Java before it was mended) by two signed 64-bit halves.
 * Bounds that are one further out in the first half, both on one side of the sign, hold in both
 * orders. A uuid on the other side is then outside in both. */
static void uuid_bounds(struct arena *arena, const struct parquet_column_info *c,
                        struct ice_metric *m) {
    if (c->lower_len != 16 || c->upper_len != 16) {
        return;
    }
    uint64_t low = 0;
    uint64_t high = 0;
    for (size_t i = 0; i < 8; i++) {
        low = low << 8 | c->lower[i];
        high = high << 8 | c->upper[i];
    }
    const uint64_t sign = UINT64_C(1) << 63;
    if ((low & ~sign) == 0 || (high | sign) == UINT64_MAX || ((low ^ high) & sign)) {
        return;
    }
    uint8_t bounds[2][16] = { { 0 }, { 0 } };
    low--;
    high++;
    for (size_t i = 0; i < 8; i++) {
        bounds[0][i] = (uint8_t)(low >> (56 - 8 * i));
        bounds[1][i] = (uint8_t)(high >> (56 - 8 * i));
    }
    set_bound(arena, bounds[0], 16, &m->lower, &m->lower_len);
    set_bound(arena, bounds[1], 16, &m->upper, &m->upper_len);
}

static void set_metric(struct arena *arena, const struct ice_field *f,
                       const struct parquet_column_info *c, struct ice_metric *m) {
    bool list = f->type.kind == LAKE_LIST;
    *m = (struct ice_metric){ .field_id = list ? f->element_id : f->id,
                              .bytes = (int64_t)c->bytes,
                              .values = list ? -1 : (int64_t)c->values,
                              .nulls = list ? -1 : (int64_t)c->nulls,
                              .nans = -1 };
    if (f->type.kind == LAKE_FLOAT || f->type.kind == LAKE_DOUBLE) {
        m->nans = (int64_t)c->nans;
    }
    if (list || !c->has_bounds) {
        return;
    }
    switch (f->type.kind) {
    case LAKE_STRING:
        text_bounds(arena, true, c, m);
        break;
    case LAKE_BINARY:
        text_bounds(arena, false, c, m);
        break;
    case LAKE_UUID:
        uuid_bounds(arena, c, m);
        break;
    default:
        set_bound(arena, c->lower, c->lower_len, &m->lower, &m->lower_len);
        set_bound(arena, c->upper, c->upper_len, &m->upper, &m->upper_len);
    }
}

void ice_file_set_metrics(struct ice_file *file, struct arena *arena,
                          const struct ice_schema *schema, const struct parquet_info *info) {
    CHECK(info->column_count == schema->field_count);
    uint32_t count = info->column_count < COLUMNS_MAX ? info->column_count : COLUMNS_MAX;
    file->rows = (int64_t)info->rows;
    file->bytes = (int64_t)info->bytes;
    file->metric_count = count;
    file->metrics = arena_zalloc(arena, (count + 1) * sizeof *file->metrics);
    for (uint32_t i = 0; i < count; i++) {
        set_metric(arena, &schema->fields[i], &info->columns[i], &file->metrics[i]);
    }
    file->split_count = info->group_count;
    file->splits = arena_alloc(arena, (info->group_count + 1) * sizeof *file->splits);
    for (uint32_t i = 0; i < info->group_count; i++) {
        file->splits[i] = (int64_t)info->group_offsets[i];
    }
}
