/* Partition values: the transforms, comparison, the folder's name, and the router that gives each
 * row of a block the number of its partition. See ice_partition.h; the spec's appendix B for the
 * hash.
 *
 * A router's key is, for each field, a byte 0 (null) or 1 and then the cell: fixed cells as they
 * are, others behind their length. */
#include <inttypes.h>
#include <stdlib.h>

#include "cdc/base/json.h"
#include "cdc/base/map.h"
#include "cdc/value.h"
#include "sinks/iceberg/ice_partition.h"

enum { PATH_PART_MAX = 200, DAYS_1970_TO_2000 = 10957 };
static const int64_t hour_us = INT64_C(3600) * 1000 * 1000;

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

/* ---- murmur3 ---- */

static inline uint32_t rotl(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }

static inline uint32_t mix(uint32_t k) { return rotl(k * 0xcc9e2d51u, 15) * 0x1b873593u; }

uint32_t ice_murmur3(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    uint32_t h = 0;
    size_t left = n;
    for (; left >= 4; left -= 4, p += 4) {
        uint32_t k;
        memcpy(&k, p, 4);
        h = rotl(h ^ mix(k), 13) * 5 + 0xe6546b64u;
    }
    uint32_t tail = 0;
    for (size_t i = left; i-- > 0;) {
        tail = tail << 8 | p[i];
    }
    if (left > 0) {
        h ^= mix(tail);
    }
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

/* ---- one cell ---- */

static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static size_t width_of(const struct lake_type *t) {
    switch (t->kind) {
    case LAKE_BOOL:
        return 1;
    case LAKE_INT:
    case LAKE_DATE:
    case LAKE_FLOAT:
        return 4;
    case LAKE_DECIMAL:
        return t->precision <= 18 ? 8 : 16;
    case LAKE_UUID:
        return 16;
    case LAKE_STRING:
    case LAKE_BINARY:
    case LAKE_LIST:
        return 0;
    default:
        return 8;
    }
}

/* Sign-extended, of a cell of 1 to 16 bytes. */
static int128 integer_of(const uint8_t *cell, size_t width) {
    if (width == 4) {
        int32_t v;
        memcpy(&v, cell, 4);
        return v;
    }
    if (width == 8) {
        int64_t v;
        memcpy(&v, cell, 8);
        return v;
    }
    int128 v;
    memcpy(&v, cell, 16);
    return v;
}

/* Two's complement, big-endian, as few bytes as it takes; returns how many. */
static size_t minimal_bytes(int128 v, uint8_t out[16]) {
    uint8_t all[16];
    for (size_t i = 0; i < 16; i++) {
        all[15 - i] = (uint8_t)((uint128)v >> (8 * i));
    }
    size_t at = 0;
    while (at < 15 &&
           ((all[at] == 0 && all[at + 1] < 0x80) || (all[at] == 0xff && all[at + 1] >= 0x80))) {
        at++;
    }
    memcpy(out, all + at, 16 - at);
    return 16 - at;
}

static int32_t bucket_of(const struct ice_part_field *f, const uint8_t *cell, size_t len) {
    uint32_t h;
    switch (f->source.kind) {
    case LAKE_DECIMAL: {
        uint8_t bytes[16];
        size_t n = minimal_bytes(integer_of(cell, len), bytes);
        h = ice_murmur3(bytes, n);
        break;
    }
    case LAKE_STRING:
    case LAKE_BINARY:
    case LAKE_UUID:
        h = ice_murmur3(cell, len);
        break;
    default: {
        int64_t v = (int64_t)integer_of(cell, len);
        h = ice_murmur3(&v, 8);
    }
    }
    return (int32_t)((h & 0x7fffffffu) % (uint32_t)f->parameter);
}

static int32_t days_of(const struct ice_part_field *f, int64_t v) {
    return f->source.kind == LAKE_DATE ? (int32_t)v : (int32_t)floor_div(v, 24 * hour_us);
}

static void civil_of(int32_t days, int32_t *year, unsigned *month, unsigned *day) {
    int32_t base = days < INT32_MIN + DAYS_1970_TO_2000 ? INT32_MIN + DAYS_1970_TO_2000 : days;
    value_civil_from_days(base - DAYS_1970_TO_2000, year, month, day);
}

static int32_t time_part(const struct ice_part_field *f, int64_t v) {
    int32_t year;
    unsigned month;
    unsigned day;
    switch (f->transform) {
    case ICE_HOUR:
        return (int32_t)floor_div(v, hour_us);
    case ICE_DAY:
        return days_of(f, v);
    default:
        civil_of(days_of(f, v), &year, &month, &day);
        return f->transform == ICE_YEAR ? year - 1970 : (year - 1970) * 12 + (int32_t)month - 1;
    }
}

/* Bytes of the first `count` code points. */
static size_t code_points(const uint8_t *text, size_t len, int32_t count) {
    size_t at = 0;
    while (at < len && count-- > 0) {
        at++;
        while (at < len && (text[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    return at;
}

struct cell {
    const uint8_t *p; /* NULL = null */
    size_t len;
    uint8_t room[16];
};

static void truncate_cell(const struct ice_part_field *f, const uint8_t *p, size_t len,
                          struct cell *out) {
    if (f->source.kind == LAKE_STRING) {
        out->p = p;
        out->len = code_points(p, len, f->parameter);
    } else if (f->source.kind == LAKE_BINARY) {
        out->p = p;
        out->len = len < (size_t)f->parameter ? len : (size_t)f->parameter;
    } else {
        int128 v = integer_of(p, len);
        int128 w = f->parameter;
        uint128 cut = (uint128)v - (uint128)(((v % w) + w) % w);
        memcpy(out->room, &cut, len); /* wraps at the type's end, as the reference does */
        out->p = out->room;
        out->len = len;
    }
}

static void transform(const struct ice_part_field *f, const struct lake_column *c, uint32_t row,
                      struct cell *out) {
    static const uint8_t nothing[1];
    out->p = NULL;
    out->len = 0;
    if (!c || f->transform == ICE_VOID || (c->valid && !bit_get(c->valid, row))) {
        return;
    }
    const uint8_t *p = c->width ? c->data + (size_t)row * c->width : c->data + c->offsets[row];
    size_t len = c->width ? c->width : c->offsets[row + 1] - c->offsets[row];
    if (len == 0) {
        p = nothing; /* data may be NULL where all are empty */
    }
    if (f->transform == ICE_IDENTITY) {
        out->p = p;
        out->len = len;
        return;
    }
    if (f->transform == ICE_TRUNCATE) {
        truncate_cell(f, p, len, out);
        return;
    }
    int32_t v = f->transform == ICE_BUCKET ? bucket_of(f, p, len)
                                           : time_part(f, (int64_t)integer_of(p, len));
    memcpy(out->room, &v, 4);
    out->p = out->room;
    out->len = 4;
}

/* ---- one partition ---- */

void ice_partition_release(struct ice_partition *p) {
    for (size_t i = 0; i < ICE_PARTITION_FIELDS_MAX && !p->borrowed; i++) {
        free(p->texts[i]);
    }
    *p = (struct ice_partition){ 0 };
}

void ice_partition_copy(struct ice_partition *out, const struct ice_partition *p) {
    *out = *p;
    out->borrowed = false;
    for (size_t i = 0; i < ICE_PARTITION_FIELDS_MAX; i++) {
        if (p->texts[i]) {
            out->texts[i] = xmalloc(p->text_lens[i] + 1);
            memcpy(out->texts[i], p->texts[i], p->text_lens[i]);
            out->texts[i][p->text_lens[i]] = 0;
        }
    }
}

static void set_value(struct ice_partition *out, uint32_t i, const struct lake_type *type,
                      const struct cell *cell) {
    if (!cell->p) {
        out->nulls |= (uint8_t)(1u << i);
        return;
    }
    size_t width = width_of(type);
    if (width == 0) {
        out->texts[i] = xmalloc(cell->len + 1);
        memcpy(out->texts[i], cell->p, cell->len);
        out->texts[i][cell->len] = 0;
        out->text_lens[i] = cell->len;
        return;
    }
    CHECK(cell->len == width);
    out->lens[i] = (uint8_t)width;
    memcpy(out->cells[i], cell->p, width);
}

static const struct lake_column *column_of(const struct ice_part_field *f,
                                           const struct ice_schema *schema,
                                           const struct lake_column *columns) {
    int at = ice_schema_find_id(schema, f->source_id);
    return at < 0 ? NULL : &columns[at]; /* a dropped column is null */
}

void ice_partition_of(const struct ice_spec *spec, const struct ice_schema *schema,
                      const struct lake_column *columns, uint32_t row, struct ice_partition *out) {
    struct ice_spec now;
    ice_spec_copy(&now, spec);
    ice_spec_retype(&now, schema);
    *out = (struct ice_partition){ 0 };
    for (uint32_t i = 0; i < now.field_count; i++) {
        struct cell cell;
        transform(&now.fields[i], column_of(&now.fields[i], schema, columns), row, &cell);
        set_value(out, i, &now.fields[i].result, &cell);
    }
    ice_spec_release(&now);
}

static const void *value_of(const struct ice_partition *p, uint32_t i, size_t *len) {
    *len = p->texts[i] ? p->text_lens[i] : p->lens[i];
    return p->texts[i] ? (const void *)p->texts[i] : p->cells[i];
}

size_t ice_partition_cell(const struct ice_partition *p, uint32_t field,
                          const struct lake_type *type, uint8_t out[16]) {
    size_t width = width_of(type);
    CHECK(width > 0 && p->lens[field] > 0 && p->lens[field] <= width);
    if (width == 1) {
        out[0] = p->cells[field][0];
        return 1;
    }
    int128 v = integer_of(p->cells[field], p->lens[field]);
    memcpy(out, &v, width);
    return width;
}

bool ice_partition_equal(const struct ice_spec *spec, const struct ice_partition *a,
                         const struct ice_partition *b) {
    if (a->nulls != b->nulls) {
        return false;
    }
    for (uint32_t i = 0; i < spec->field_count; i++) {
        size_t a_len;
        size_t b_len;
        const uint8_t *x = value_of(a, i, &a_len);
        const uint8_t *y = value_of(b, i, &b_len);
        if (a->nulls >> i & 1) {
            continue;
        }
        bool same = a->texts[i] || a_len == 1 ? a_len == b_len && memcmp(x, y, a_len) == 0
                                              : integer_of(x, a_len) == integer_of(y, b_len);
        if (!same) {
            return false;
        }
    }
    return true;
}

uint64_t ice_partition_hash(const struct ice_spec *spec, const struct ice_partition *p) {
    uint64_t h = p->nulls;
    for (uint32_t i = 0; i < spec->field_count; i++) {
        size_t len;
        const uint8_t *x = value_of(p, i, &len);
        if (p->nulls >> i & 1) {
            continue;
        }
        if (p->texts[i] || len == 1) {
            h = hash_bytes(x, len, h);
        } else {
            int128 v = integer_of(x, len);
            h = hash_bytes(&v, sizeof v, h);
        }
    }
    return h;
}

/* ---- the folder ---- */

/* As HTML forms are encoded, but for the asterisk, which some readers take for a pattern. */
static void put_encoded(struct buf *out, const char *s, size_t len) {
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)s[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '.' || c == '-' || c == '_';
        if (plain) {
            buf_putc(out, (char)c);
        } else if (c == ' ') {
            buf_putc(out, '+');
        } else {
            buf_putf(out, "%%%02X", c);
        }
    }
}

static void put_decimal(struct buf *out, int128 v, unsigned scale) {
    char digits[48];
    size_t n = 0;
    uint128 u = v < 0 ? -(uint128)v : (uint128)v;
    while (u > 0 || n <= scale) {
        digits[n++] = (char)('0' + (unsigned)(u % 10));
        u /= 10;
    }
    if (v < 0) {
        buf_putc(out, '-');
    }
    while (n > 0) {
        buf_putc(out, digits[--n]);
        if (n == scale && n > 0) {
            buf_putc(out, '.');
        }
    }
}

static void put_date(struct buf *out, int32_t days) {
    int32_t year;
    unsigned month;
    unsigned day;
    civil_of(days, &year, &month, &day);
    buf_putf(out, "%04" PRId32 "-%02u-%02u", year, month, day);
}

static void put_clock(struct buf *out, int64_t us) {
    buf_putf(out, "%02d:%02d:%02d.%06d", (int)(us / hour_us), (int)(us / 60000000 % 60),
             (int)(us / 1000000 % 60), (int)(us % 1000000));
}

static void put_identity(struct buf *out, const struct lake_type *type, const uint8_t *p,
                         size_t len) {
    if (type->kind == LAKE_STRING) {
        buf_put(out, p, len);
        return;
    }
    if (type->kind == LAKE_BINARY) {
        size_t start = out->len;
        json_put_base64(out, p, len);
        memmove(out->data + start, out->data + start + 1, out->len - start - 2); /* its quotes */
        out->len -= 2;
        return;
    }
    if (type->kind == LAKE_BOOL) {
        buf_puts(out, p[0] ? "true" : "false");
        return;
    }
    int128 v = integer_of(p, len);
    int64_t t = (int64_t)v;
    switch (type->kind) {
    case LAKE_DATE:
        put_date(out, (int32_t)t);
        break;
    case LAKE_TIME:
        put_clock(out, t);
        break;
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        put_date(out, (int32_t)floor_div(t, 24 * hour_us));
        buf_putc(out, 'T');
        put_clock(out, t - floor_div(t, 24 * hour_us) * 24 * hour_us);
        buf_puts(out, type->kind == LAKE_TIMESTAMPTZ ? "+00:00" : "");
        break;
    default:
        put_decimal(out, v, type->kind == LAKE_DECIMAL ? type->scale : 0);
    }
}

static void put_human(struct buf *out, const struct ice_part_field *f, const uint8_t *p,
                      size_t len) {
    int64_t v = len == 4 ? (int64_t)integer_of(p, len) : 0;
    switch (f->transform) {
    case ICE_YEAR:
        buf_putf(out, "%04" PRId64, 1970 + v);
        break;
    case ICE_MONTH:
        buf_putf(out, "%04" PRId64 "-%02d", 1970 + floor_div(v, 12),
                 (int)(v - floor_div(v, 12) * 12) + 1);
        break;
    case ICE_HOUR:
        put_date(out, (int32_t)floor_div(v, 24));
        buf_putf(out, "-%02d", (int)(v - floor_div(v, 24) * 24));
        break;
    default:
        put_identity(out, &f->result, p, len);
    }
}

void ice_partition_put_path(struct buf *out, const struct ice_spec *spec,
                            const struct ice_partition *p) {
    struct buf human;
    buf_init(&human, SIZE_MAX);
    for (uint32_t i = 0; i < spec->field_count; i++) {
        const struct ice_part_field *f = &spec->fields[i];
        size_t len;
        const void *value = value_of(p, i, &len);
        buf_clear(&human);
        if (p->nulls >> i & 1) {
            buf_puts(&human, "null");
        } else {
            put_human(&human, f, value, len);
        }
        if (i > 0) {
            buf_putc(out, '/');
        }
        size_t start = out->len;
        put_encoded(out, f->name, strlen(f->name));
        buf_putc(out, '=');
        put_encoded(out, human.data, human.len);
        if (out->len - start > PATH_PART_MAX) {
            uint64_t h = hash_bytes(out->data + start, out->len - start, 0);
            out->len = start + PATH_PART_MAX - 20;
            buf_putf(out, "-%016" PRIx64, h);
        }
    }
    buf_release(&human);
}

/* ---- the router ---- */

struct ice_router {
    struct ice_spec spec;
    int sources[ICE_PARTITION_FIELDS_MAX]; /* index into columns, -1 = none */
    struct map *known;                     /* key -> group + 1 */
    struct buf key, last;
    uint32_t last_group; /* of `last`, where its length is not 0 */
    struct ice_partition *partitions;
    uint32_t count;
    uint32_t cap;
};

struct ice_router *ice_router_new(const struct ice_spec *spec, const struct ice_schema *schema) {
    struct ice_router *r = xcalloc(1, sizeof *r);
    ice_spec_copy(&r->spec, spec);
    ice_spec_retype(&r->spec, schema);
    r->known = map_new();
    buf_init(&r->key, SIZE_MAX);
    buf_init(&r->last, SIZE_MAX);
    for (uint32_t i = 0; i < r->spec.field_count; i++) {
        r->sources[i] = ice_schema_find_id(schema, r->spec.fields[i].source_id);
    }
    return r;
}

void ice_router_free(struct ice_router *r) {
    if (!r) {
        return;
    }
    for (uint32_t i = 0; i < r->count; i++) {
        ice_partition_release(&r->partitions[i]);
    }
    free(r->partitions);
    map_free(r->known, NULL);
    ice_spec_release(&r->spec);
    buf_release(&r->key);
    buf_release(&r->last);
    free(r);
}

static const struct lake_column *source_of(const struct ice_router *r,
                                           const struct lake_column *columns, uint32_t field) {
    return r->sources[field] < 0 ? NULL : &columns[r->sources[field]];
}

static uint32_t add_group(struct ice_router *r, const struct lake_column *columns, uint32_t row) {
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        r->partitions = xrealloc(r->partitions, r->cap * sizeof *r->partitions);
    }
    struct ice_partition *p = &r->partitions[r->count];
    *p = (struct ice_partition){ 0 };
    for (uint32_t i = 0; i < r->spec.field_count; i++) {
        struct cell cell;
        transform(&r->spec.fields[i], source_of(r, columns, i), row, &cell);
        set_value(p, i, &r->spec.fields[i].result, &cell);
    }
    return r->count++;
}

static void put_key(struct ice_router *r, const struct lake_column *columns, uint32_t row) {
    buf_clear(&r->key);
    for (uint32_t i = 0; i < r->spec.field_count; i++) {
        struct cell cell;
        transform(&r->spec.fields[i], source_of(r, columns, i), row, &cell);
        buf_putc(&r->key, cell.p != NULL);
        if (!cell.p) {
            continue;
        }
        if (width_of(&r->spec.fields[i].result) == 0) {
            uint32_t len = (uint32_t)cell.len;
            buf_put(&r->key, &len, sizeof len);
        }
        buf_put(&r->key, cell.p, cell.len);
    }
}

void ice_router_route(struct ice_router *r, const struct lake_column *columns, uint32_t rows,
                      uint32_t *groups) {
    if (r->spec.field_count == 0) {
        if (rows > 0 && r->count == 0) {
            add_group(r, columns, 0);
        }
        memset(groups, 0, rows * sizeof *groups);
        return;
    }
    for (uint32_t row = 0; row < rows; row++) {
        put_key(r, columns, row);
        if (r->last.len == r->key.len && memcmp(r->last.data, r->key.data, r->key.len) == 0) {
            groups[row] = r->last_group;
            continue;
        }
        uintptr_t known = (uintptr_t)map_get(r->known, r->key.data, r->key.len);
        if (known == 0) {
            known = (uintptr_t)add_group(r, columns, row) + 1;
            map_set(r->known, r->key.data, r->key.len, (void *)known);
        }
        r->last_group = (uint32_t)known - 1;
        groups[row] = r->last_group;
        struct buf swap = r->last;
        r->last = r->key;
        r->key = swap;
    }
}

uint32_t ice_router_count(const struct ice_router *r) { return r->count; }

const struct ice_partition *ice_router_partition(const struct ice_router *r, uint32_t group) {
    CHECK(group < r->count);
    return &r->partitions[group];
}
