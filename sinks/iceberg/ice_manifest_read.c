/* Reading manifests and manifest lists, of any writer: by field id, in whatever order the file's
 * own schema has them. Everything is foreign data. See ice_manifest.h, ice_avro.h. */
#include <stdlib.h>
#include <strings.h>

#include "sinks/iceberg/ice_avro.h"
#include "sinks/iceberg/ice_manifest.h"

enum { METRICS_MAX = 1000000, SPLITS_MAX = 1000000, SUMMARIES_MAX = 64 };

static int damaged(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "manifest_damaged", "read a manifest: %s", what);
}

static int unsupported(struct err *err, const char *what, const char *cure) {
    err_set(err, ERR_FATAL, "manifest_unsupported", "read a manifest: %s", what);
    return err_cure(err, "%s", cure);
}

/* Null keeps what is there. */
static int take_number(struct view *in, const struct ice_avro_type *t, int64_t min, int64_t max,
                       int64_t *out) {
    int64_t v;
    bool null;
    if (ice_avro_take_long(in, t, &v, &null) != 0 || (!null && (v < min || v > max))) {
        return -1;
    }
    if (!null) {
        *out = v;
    }
    return 0;
}

/* Null gives NULL. A NUL within is no text. */
static int take_text(struct view *in, const struct ice_avro_type *t, struct arena *arena,
                     const char **out) {
    const uint8_t *p;
    size_t n;
    bool null;
    *out = NULL;
    if (ice_avro_take_bytes(in, t, &p, &n, &null) != 0 || (!null && n > 0 && memchr(p, 0, n))) {
        return -1;
    }
    if (!null) {
        char *text = arena_alloc(arena, n + 1);
        if (n > 0) {
            memcpy(text, p, n);
        }
        text[n] = 0;
        *out = text;
    }
    return 0;
}

/* ---- entries ---- */

/* One item of one of the metric maps. */
enum metric_map { MAP_BYTES, MAP_VALUES, MAP_NULLS, MAP_NANS, MAP_LOWER, MAP_UPPER };
struct loose_metric {
    int32_t field_id;
    enum metric_map map;
    int64_t number;
    const uint8_t *bytes;
    uint32_t len;
};

struct entries {
    const struct ice_spec *spec;
    const struct ice_manifest_file *inherit;
    struct arena *arena;
    struct buf metrics; /* struct loose_metric of the present entry */
    struct buf splits;  /* int64_t */
    int64_t next_row_id;
    struct err *err;
};

/* Big-endian two's complement of up to 16 bytes into a cell of 8 or 16. */
static int take_decimal(const uint8_t *p, size_t n, size_t width, uint8_t *cell) {
    if (n == 0 || n > 16) {
        return -1;
    }
    uint8_t sign = p[0] & 0x80 ? 0xff : 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = p[n - 1 - i];
        if (i < width) {
            cell[i] = byte;
        } else if (byte != sign) {
            return -1;
        }
    }
    if (n > width && (cell[width - 1] & 0x80) != (sign & 0x80)) {
        return -1;
    }
    for (size_t i = n; i < width; i++) {
        cell[i] = sign;
    }
    return 0;
}

static void set_cell(struct ice_partition *p, uint32_t i, const void *cell, size_t len) {
    memcpy(p->cells[i], cell, len);
    p->lens[i] = (uint8_t)len;
    p->nulls = (uint8_t)(p->nulls & ~(1u << i));
}

static int take_text_value(struct view *in, const struct ice_avro_type *t,
                           const struct lake_type *want, struct entries *s, struct ice_partition *p,
                           uint32_t i) {
    const uint8_t *bytes;
    size_t n;
    bool null;
    if (ice_avro_take_bytes(in, t, &bytes, &n, &null) != 0) {
        return -1;
    }
    if (null) {
        return 0;
    }
    if (want->kind == LAKE_DECIMAL) {
        uint8_t cell[16] = { 0 };
        size_t width = want->precision <= 18 ? 8 : 16;
        if (take_decimal(bytes, n, width, cell) != 0) {
            return -1;
        }
        set_cell(p, i, cell, width);
        return 0;
    }
    p->texts[i] = arena_alloc(s->arena, n + 1);
    if (n > 0) {
        memcpy(p->texts[i], bytes, n);
    }
    p->texts[i][n] = 0;
    p->text_lens[i] = n;
    p->nulls = (uint8_t)(p->nulls & ~(1u << i));
    return 0;
}

static int take_partition_value(struct view *in, const struct ice_avro_type *t, struct entries *s,
                                struct ice_partition *p, uint32_t i) {
    const struct lake_type *want = &s->spec->fields[i].result;
    if (s->spec->fields[i].transform == ICE_VOID) {
        return ice_avro_skip(in, t);
    }
    switch (want->kind) {
    case LAKE_STRING:
    case LAKE_BINARY:
    case LAKE_DECIMAL:
        return take_text_value(in, t, want, s, p, i);
    case LAKE_BOOL: {
        uint8_t v;
        if (ice_avro_branch(in, &t) != 0) {
            return -1;
        }
        if (t->kind == ICE_AVRO_NULL) {
            return 0;
        }
        if (t->kind != ICE_AVRO_BOOLEAN || take_u8(in, &v) != 0 || v > 1) {
            return -1;
        }
        set_cell(p, i, &v, 1);
        return 0;
    }
    default:
        break;
    }
    int64_t v;
    bool null;
    bool narrow = want->kind == LAKE_INT || want->kind == LAKE_DATE;
    if (ice_avro_take_long(in, t, &v, &null) != 0 ||
        (!null && narrow && (v < INT32_MIN || v > INT32_MAX))) {
        return -1;
    }
    if (!null) {
        set_cell(p, i, &v, narrow ? 4 : 8); /* little-endian */
    }
    return 0;
}

static int take_partition(struct view *in, const struct ice_avro_type *t, struct entries *s,
                          struct ice_partition *p) {
    if (ice_avro_branch(in, &t) != 0 || t->kind != ICE_AVRO_RECORD) {
        return -1;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t k = 0;
        while (k < s->spec->field_count && s->spec->fields[k].field_id != t->ids[i]) {
            k++;
        }
        int got = k < s->spec->field_count ? take_partition_value(in, t->types[i], s, p, k)
                                           : ice_avro_skip(in, t->types[i]);
        if (got != 0) {
            return -1;
        }
    }
    return 0;
}

/* A record with a key and a value, in this order as Iceberg defines it. */
static int take_metric_item(struct view *in, const struct ice_avro_type *t, enum metric_map map,
                            struct entries *s) {
    struct loose_metric m = { .map = map };
    int64_t key = -1;
    bool null;
    if (t->kind != ICE_AVRO_RECORD || t->count != 2 ||
        take_number(in, t->types[0], 0, INT32_MAX, &key) != 0 || key < 0) {
        return -1;
    }
    m.field_id = (int32_t)key;
    if (map < MAP_LOWER) {
        if (ice_avro_take_long(in, t->types[1], &m.number, &null) != 0 || null) {
            return -1;
        }
    } else {
        const uint8_t *p;
        size_t n;
        if (ice_avro_take_bytes(in, t->types[1], &p, &n, &null) != 0 || null || n > UINT32_MAX) {
            return -1;
        }
        m.bytes = arena_copy(s->arena, n > 0 ? (const void *)p : "", n > 0 ? n : 1);
        m.len = (uint32_t)n;
    }
    if (s->metrics.len / sizeof m >= METRICS_MAX) {
        return -1;
    }
    buf_put(&s->metrics, &m, sizeof m);
    return 0;
}

static int take_metric_map(struct view *in, const struct ice_avro_type *t, enum metric_map map,
                           struct entries *s) {
    uint64_t items;
    if (ice_avro_branch(in, &t) != 0) {
        return -1;
    }
    if (t->kind == ICE_AVRO_NULL) {
        return 0;
    }
    do {
        if (ice_avro_take_array_block(in, t, &items) != 0) {
            return -1;
        }
        for (uint64_t i = 0; i < items; i++) {
            if (take_metric_item(in, t->types[0], map, s) != 0) {
                return -1;
            }
        }
    } while (items > 0);
    return 0;
}

static int take_splits(struct view *in, const struct ice_avro_type *t, struct entries *s) {
    uint64_t items;
    if (ice_avro_branch(in, &t) != 0) {
        return -1;
    }
    if (t->kind == ICE_AVRO_NULL) {
        return 0;
    }
    do {
        if (ice_avro_take_array_block(in, t, &items) != 0) {
            return -1;
        }
        for (uint64_t i = 0; i < items; i++) {
            int64_t v = -1;
            if (take_number(in, t->types[0], 0, INT64_MAX, &v) != 0 || v < 0 ||
                s->splits.len / sizeof v >= SPLITS_MAX) {
                return -1;
            }
            buf_put(&s->splits, &v, sizeof v);
        }
    } while (items > 0);
    return 0;
}

static int loose_order(const void *a, const void *b) {
    const struct loose_metric *x = a;
    const struct loose_metric *y = b;
    return x->field_id != y->field_id ? (x->field_id > y->field_id) - (x->field_id < y->field_id)
                                      : (int)x->map - (int)y->map;
}

/* The maps' items as one record a column, by field id. */
static void gather_metrics(struct entries *s, struct ice_file *f) {
    struct loose_metric *loose = (struct loose_metric *)(void *)s->metrics.data;
    size_t count = s->metrics.len / sizeof *loose;
    if (count == 0) {
        return;
    }
    qsort(loose, count, sizeof *loose, loose_order);
    uint32_t columns = 0;
    for (size_t i = 0; i < count; i++) {
        columns += i == 0 || loose[i].field_id != loose[i - 1].field_id;
    }
    f->metrics = arena_alloc(s->arena, columns * sizeof *f->metrics);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || loose[i].field_id != loose[i - 1].field_id) {
            f->metrics[f->metric_count++] =
                (struct ice_metric){ loose[i].field_id, -1, -1, -1, -1, NULL, NULL, 0, 0 };
        }
        struct ice_metric *m = &f->metrics[f->metric_count - 1];
        switch (loose[i].map) {
        case MAP_BYTES:
            m->bytes = loose[i].number;
            break;
        case MAP_VALUES:
            m->values = loose[i].number;
            break;
        case MAP_NULLS:
            m->nulls = loose[i].number;
            break;
        case MAP_NANS:
            m->nans = loose[i].number;
            break;
        case MAP_LOWER:
            m->lower = loose[i].bytes;
            m->lower_len = loose[i].len;
            break;
        case MAP_UPPER:
            m->upper = loose[i].bytes;
            m->upper_len = loose[i].len;
            break;
        }
    }
}

/* What a data_file has beside ice_file's own members. */
struct raw_file {
    int64_t content, sort_order;
    const char *format;
};

static int take_file_field(struct view *in, const struct ice_avro_type *t, int32_t id,
                           struct entries *s, struct ice_file *f, struct raw_file *raw) {
    switch (id) {
    case 134:
        return take_number(in, t, 0, 2, &raw->content);
    case 100:
        return take_text(in, t, s->arena, &f->path);
    case 101:
        return take_text(in, t, s->arena, &raw->format);
    case 102:
        return take_partition(in, t, s, &f->partition);
    case 103:
        return take_number(in, t, 0, INT64_MAX, &f->rows);
    case 104:
        return take_number(in, t, 0, INT64_MAX, &f->bytes);
    case 108:
        return take_metric_map(in, t, MAP_BYTES, s);
    case 109:
        return take_metric_map(in, t, MAP_VALUES, s);
    case 110:
        return take_metric_map(in, t, MAP_NULLS, s);
    case 137:
        return take_metric_map(in, t, MAP_NANS, s);
    case 125:
        return take_metric_map(in, t, MAP_LOWER, s);
    case 128:
        return take_metric_map(in, t, MAP_UPPER, s);
    case 132:
        return take_splits(in, t, s);
    case 140:
        return take_number(in, t, 0, INT32_MAX, &raw->sort_order);
    case 142:
        return take_number(in, t, 0, INT64_MAX, &f->first_row_id);
    case 143:
        return take_text(in, t, s->arena, &f->referenced);
    case 144:
        return take_number(in, t, 0, INT64_MAX, &f->content_offset);
    case 145:
        return take_number(in, t, 0, INT64_MAX, &f->content_bytes);
    default:
        return ice_avro_skip(in, t);
    }
}

static int take_file(struct view *in, const struct ice_avro_type *t, struct entries *s,
                     struct ice_file *f, struct raw_file *raw) {
    *f = (struct ice_file){ .rows = -1,
                            .bytes = -1,
                            .sort_order_id = -1,
                            .first_row_id = -1,
                            .content_offset = -1,
                            .content_bytes = -1 };
    *raw = (struct raw_file){ .sort_order = -1 };
    f->partition.borrowed = true;
    f->partition.nulls = (uint8_t)((1u << s->spec->field_count) - 1);
    buf_clear(&s->metrics);
    buf_clear(&s->splits);
    if (ice_avro_branch(in, &t) != 0 || t->kind != ICE_AVRO_RECORD) {
        return -1;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        if (take_file_field(in, t->types[i], t->ids[i], s, f, raw) != 0) {
            return -1;
        }
    }
    f->sort_order_id = (int32_t)raw->sort_order;
    gather_metrics(s, f);
    f->split_count = (uint32_t)(s->splits.len / sizeof *f->splits);
    f->splits = arena_copy(s->arena, s->splits.len ? s->splits.data : "",
                           s->splits.len ? s->splits.len : 1);
    return f->path && raw->format && f->rows >= 0 && f->bytes >= 0 ? 0 : -1;
}

static int take_entry(struct view *in, const struct ice_avro_type *root, struct entries *s,
                      struct ice_entry *e, struct raw_file *raw) {
    int64_t status = -1;
    bool file = false;
    *e = (struct ice_entry){ .snapshot_id = -1, .sequence = -1, .file_sequence = -1 };
    for (uint32_t i = 0; i < root->count; i++) {
        const struct ice_avro_type *t = root->types[i];
        int got;
        switch (root->ids[i]) {
        case 0:
            got = take_number(in, t, 0, 2, &status);
            break;
        case 1:
            got = take_number(in, t, 0, INT64_MAX, &e->snapshot_id);
            break;
        case 3:
            got = take_number(in, t, 0, INT64_MAX, &e->sequence);
            break;
        case 4:
            got = take_number(in, t, 0, INT64_MAX, &e->file_sequence);
            break;
        case 2:
            got = file ? -1 : take_file(in, t, s, &e->file, raw);
            file = true;
            break;
        default:
            got = ice_avro_skip(in, t);
        }
        if (got != 0) {
            return -1;
        }
    }
    e->status = (enum ice_status)status;
    return status >= 0 && file ? 0 : -1;
}

/* What a reader of the table sees in the place of nulls. */
static int settle_entry(struct entries *s, struct ice_entry *e, const struct raw_file *raw) {
    if (e->snapshot_id < 0) {
        e->snapshot_id = s->inherit->added_snapshot_id;
    }
    if (e->status != ICE_ADDED && (e->sequence < 0 || e->file_sequence < 0) &&
        s->inherit->sequence > 0) {
        return damaged(s->err, "a file that is not new has no sequence number");
    }
    if (e->sequence < 0) {
        e->sequence = s->inherit->sequence;
    }
    if (e->file_sequence < 0) {
        e->file_sequence = s->inherit->sequence;
    }
    e->file.content = raw->content == 0 ? ICE_DATA : ICE_POSITION_DELETES;
    if ((e->file.content == ICE_DATA) != (s->inherit->content == ICE_DATA)) {
        return damaged(s->err, "a data file among deletes, or the reverse");
    }
    if (strcasecmp(raw->format, "parquet") == 0) {
        e->file.format = ICE_PARQUET;
    } else if (strcasecmp(raw->format, "puffin") == 0) {
        e->file.format = ICE_PUFFIN;
        if (e->status != ICE_DELETED &&
            (!e->file.referenced || e->file.content_offset < 0 || e->file.content_bytes < 0)) {
            return damaged(s->err,
                           "a deletion vector that does not say where it is or whose it is");
        }
    } else if (e->status != ICE_DELETED) {
        return unsupported(
            s->err, "it names files that are neither Parquet nor Puffin",
            "rewrite the table's files as Parquet, or give the job a table of its own");
    }
    if (e->file.content == ICE_DATA && e->status != ICE_DELETED && e->file.first_row_id < 0 &&
        s->next_row_id >= 0) {
        e->file.first_row_id = s->next_row_id;
        if (__builtin_add_overflow(s->next_row_id, e->file.rows, &s->next_row_id)) {
            return damaged(s->err, "its row numbers leave 64 bits");
        }
    }
    return 0;
}

int ice_manifest_read(const void *p, size_t n, const struct ice_manifest_file *inherit,
                      const struct ice_spec *spec, struct arena *arena,
                      int (*entry)(void *arg, const struct ice_entry *e, struct err *err),
                      void *arg, struct err *err) {
    struct ice_avro_reader r;
    if (ice_avro_open(&r, p, n, err) != 0) {
        return -1;
    }
    struct entries s = { .spec = spec,
                         .inherit = inherit,
                         .arena = arena,
                         .err = err,
                         .next_row_id = inherit->content == ICE_DATA ? inherit->first_row_id : -1 };
    buf_init(&s.metrics, SIZE_MAX);
    buf_init(&s.splits, SIZE_MAX);
    int got;
    while ((got = ice_avro_next(&r, err)) == 1) {
        struct ice_entry e;
        struct raw_file raw;
        if (take_entry(&r.at, r.root, &s, &e, &raw) != 0) {
            got = damaged(err,
                          "an entry is cut off, lacks what it must have, or says what cannot be");
            break;
        }
        if (raw.content == 2) {
            if (e.status == ICE_DELETED) {
                continue; /* gone already */
            }
            got = unsupported(
                err, "the table has equality deletes, which tailrace neither writes nor reads",
                "have them rewritten (Spark: rewrite_data_files with "
                "delete-file-threshold 1), or give the job a table of its own");
            break;
        }
        if (settle_entry(&s, &e, &raw) != 0 || entry(arg, &e, err) != 0) {
            got = -1;
            break;
        }
    }
    buf_release(&s.metrics);
    buf_release(&s.splits);
    ice_avro_close(&r);
    return got;
}

/* ---- lists ---- */

static int take_bound(struct view *in, const struct ice_avro_type *t, struct arena *arena,
                      const uint8_t **out, uint32_t *len) {
    const uint8_t *p;
    size_t n;
    bool null;
    if (ice_avro_take_bytes(in, t, &p, &n, &null) != 0 || (!null && n > UINT32_MAX)) {
        return -1;
    }
    if (!null) {
        *out = arena_copy(arena, n > 0 ? (const void *)p : "", n > 0 ? n : 1);
        *len = (uint32_t)n;
    }
    return 0;
}

static int take_flag(struct view *in, const struct ice_avro_type *t, bool *out) {
    uint8_t v = 0;
    if (ice_avro_branch(in, &t) != 0) {
        return -1;
    }
    if (t->kind != ICE_AVRO_NULL &&
        (t->kind != ICE_AVRO_BOOLEAN || take_u8(in, &v) != 0 || v > 1)) {
        return -1;
    }
    *out = v;
    return 0;
}

static int take_summary(struct view *in, const struct ice_avro_type *t, struct arena *arena,
                        struct ice_field_summary *out) {
    *out = (struct ice_field_summary){ 0 };
    if (t->kind != ICE_AVRO_RECORD) {
        return -1;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        int got;
        switch (t->ids[i]) {
        case 509:
            got = take_flag(in, t->types[i], &out->contains_null);
            break;
        case 518:
            got = take_flag(in, t->types[i], &out->contains_nan);
            break;
        case 510:
            got = take_bound(in, t->types[i], arena, &out->lower, &out->lower_len);
            break;
        case 511:
            got = take_bound(in, t->types[i], arena, &out->upper, &out->upper_len);
            break;
        default:
            got = ice_avro_skip(in, t->types[i]);
        }
        if (got != 0) {
            return -1;
        }
    }
    out->has_bounds = out->lower && out->upper;
    return 0;
}

static int take_summaries(struct view *in, const struct ice_avro_type *t, struct arena *arena,
                          struct ice_manifest_file *m) {
    uint64_t items;
    if (ice_avro_branch(in, &t) != 0) {
        return -1;
    }
    if (t->kind == ICE_AVRO_NULL) {
        return 0;
    }
    struct ice_field_summary found[SUMMARIES_MAX];
    do {
        if (ice_avro_take_array_block(in, t, &items) != 0 ||
            items > SUMMARIES_MAX - m->summary_count) {
            return -1;
        }
        for (uint64_t i = 0; i < items; i++) {
            if (take_summary(in, t->types[0], arena, &found[m->summary_count++]) != 0) {
                return -1;
            }
        }
    } while (items > 0);
    if (m->summary_count > 0) {
        m->summaries = arena_copy(arena, found, m->summary_count * sizeof *found);
    }
    return 0;
}

/* Numbers of a list's row; -1 = not there. */
struct raw_row {
    int64_t spec_id, content, added_files, existing_files, deleted_files;
};

static int take_row_field(struct view *in, const struct ice_avro_type *t, int32_t id,
                          struct arena *arena, struct ice_manifest_file *m, struct raw_row *raw) {
    switch (id) {
    case 500:
        return take_text(in, t, arena, &m->path);
    case 501:
        return take_number(in, t, 0, INT64_MAX, &m->bytes);
    case 502:
        return take_number(in, t, 0, INT32_MAX, &raw->spec_id);
    case 517:
        return take_number(in, t, 0, 1, &raw->content);
    case 515:
        return take_number(in, t, 0, INT64_MAX, &m->sequence);
    case 516:
        return take_number(in, t, 0, INT64_MAX, &m->min_sequence);
    case 503:
        return take_number(in, t, 0, INT64_MAX, &m->added_snapshot_id);
    case 504:
        return take_number(in, t, 0, INT32_MAX, &raw->added_files);
    case 505:
        return take_number(in, t, 0, INT32_MAX, &raw->existing_files);
    case 506:
        return take_number(in, t, 0, INT32_MAX, &raw->deleted_files);
    case 512:
        return take_number(in, t, 0, INT64_MAX, &m->added_rows);
    case 513:
        return take_number(in, t, 0, INT64_MAX, &m->existing_rows);
    case 514:
        return take_number(in, t, 0, INT64_MAX, &m->deleted_rows);
    case 507:
        return take_summaries(in, t, arena, m);
    case 520:
        return take_number(in, t, 0, INT64_MAX, &m->first_row_id);
    default:
        return ice_avro_skip(in, t);
    }
}

static int take_row(struct view *in, const struct ice_avro_type *root, struct arena *arena,
                    struct ice_manifest_file *m, struct err *err) {
    struct raw_row raw = { -1, 0, -1, -1, -1 };
    *m = (struct ice_manifest_file){ .bytes = -1,
                                     .added_snapshot_id = -1,
                                     .added_rows = -1,
                                     .existing_rows = -1,
                                     .deleted_rows = -1,
                                     .first_row_id = -1 };
    for (uint32_t i = 0; i < root->count; i++) {
        if (take_row_field(in, root->types[i], root->ids[i], arena, m, &raw) != 0) {
            return damaged(err, "a row of a manifest list is cut off or says what cannot be");
        }
    }
    if (!m->path || m->bytes < 0 || raw.spec_id < 0 || m->added_snapshot_id < 0) {
        return damaged(err, "a row of a manifest list lacks what it must have");
    }
    if (raw.added_files < 0 || raw.existing_files < 0 || raw.deleted_files < 0 ||
        m->added_rows < 0 || m->existing_rows < 0 || m->deleted_rows < 0) {
        return unsupported(err,
                           "a manifest list does not count the files of its manifests (format 1)",
                           "rewrite the table's manifests, or give the job a table of its own");
    }
    m->spec_id = (int32_t)raw.spec_id;
    m->content = raw.content == 0 ? ICE_DATA : ICE_POSITION_DELETES;
    m->added_files = (int32_t)raw.added_files;
    m->existing_files = (int32_t)raw.existing_files;
    m->deleted_files = (int32_t)raw.deleted_files;
    return 0;
}

int ice_list_read(const void *p, size_t n, struct arena *arena, struct ice_manifest_file **files,
                  uint32_t *count, struct err *err) {
    struct ice_avro_reader r;
    if (ice_avro_open(&r, p, n, err) != 0) {
        return -1;
    }
    struct buf rows;
    buf_init(&rows, SIZE_MAX);
    int got;
    while ((got = ice_avro_next(&r, err)) == 1) {
        struct ice_manifest_file m;
        if (take_row(&r.at, r.root, arena, &m, err) != 0) {
            got = -1;
            break;
        }
        buf_put(&rows, &m, sizeof m);
    }
    if (got == 0) {
        *count = (uint32_t)(rows.len / sizeof **files);
        *files = arena_copy(arena, rows.len ? rows.data : "", rows.len ? rows.len : 1);
    }
    buf_release(&rows);
    ice_avro_close(&r);
    return got;
}
