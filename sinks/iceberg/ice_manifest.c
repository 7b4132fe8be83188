/* Writing manifests and manifest lists: the Avro schemas as text, with the partition's struct
 * spliced in, and the records by hand in the same order. Field order is that of the reference
 * writer, for readers that go by position. Reading is ice_manifest_read.c's. See ice_manifest.h. */
#include "sinks/iceberg/ice_manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/json.h"
#include "sinks/iceberg/ice_avro.h"

__extension__ typedef __int128 int128;

/* ---- schemas ---- */

struct avro_field {
    const char *name;
    int id;
    bool optional;
    const char *type; /* JSON */
};
/* Maps with int keys are arrays of records; the records are named after their fields' ids. */
#define MAP_OF(key, value, type)                                                                   \
    "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"k" key "_v" value               \
    "\",\"fields\":[{\"name\":\"key\",\"type\":\"int\",\"field-id\":" key                          \
    "},{\"name\":\"value\",\"type\":" type ",\"field-id\":" value "}]},\"logicalType\":\"map\"}"
#define LIST_OF(type, id) "{\"type\":\"array\",\"items\":" type ",\"element-id\":" id "}"
#define SUMMARY                                                                                    \
    "{\"type\":\"record\",\"name\":\"r508\",\"fields\":[{\"name\":\"contains_null\",\"type\":"     \
    "\"boolean\",\"field-id\":509},{\"name\":\"contains_nan\",\"type\":[\"null\",\"boolean\"],"    \
    "\"default\":null,\"field-id\":518},{\"name\":\"lower_bound\",\"type\":[\"null\",\"bytes\"],"  \
    "\"default\":null,\"field-id\":510},{\"name\":\"upper_bound\",\"type\":[\"null\",\"bytes\"],"  \
    "\"default\":null,\"field-id\":511}]}"

static const struct avro_field entry_fields[] = {
    /* before data_file */
    { "status", 0, false, "\"int\"" },
    { "snapshot_id", 1, true, "\"long\"" },
    { "sequence_number", 3, true, "\"long\"" },
    { "file_sequence_number", 4, true, "\"long\"" },
};
static const struct avro_field file_fields_first[] = {
    /* before partition */
    { "content", 134, false, "\"int\"" },
    { "file_path", 100, false, "\"string\"" },
    { "file_format", 101, false, "\"string\"" },
};
static const struct avro_field file_fields[] = {
    /* after it */
    { "record_count", 103, false, "\"long\"" },
    { "file_size_in_bytes", 104, false, "\"long\"" },
    { "column_sizes", 108, true, MAP_OF("117", "118", "\"long\"") },
    { "value_counts", 109, true, MAP_OF("119", "120", "\"long\"") },
    { "null_value_counts", 110, true, MAP_OF("121", "122", "\"long\"") },
    { "nan_value_counts", 137, true, MAP_OF("138", "139", "\"long\"") },
    { "lower_bounds", 125, true, MAP_OF("126", "127", "\"bytes\"") },
    { "upper_bounds", 128, true, MAP_OF("129", "130", "\"bytes\"") },
    { "key_metadata", 131, true, "\"bytes\"" },
    { "split_offsets", 132, true, LIST_OF("\"long\"", "133") },
    { "equality_ids", 135, true, LIST_OF("\"int\"", "136") },
    { "sort_order_id", 140, true, "\"int\"" },
};
static const struct avro_field file_fields_v2[] = {
    { "referenced_data_file", 143, true, "\"string\"" },
};
static const struct avro_field file_fields_v3[] = {
    { "first_row_id", 142, true, "\"long\"" },
    { "referenced_data_file", 143, true, "\"string\"" },
    { "content_offset", 144, true, "\"long\"" },
    { "content_size_in_bytes", 145, true, "\"long\"" },
};
static const struct avro_field list_fields[] = {
    { "manifest_path", 500, false, "\"string\"" },
    { "manifest_length", 501, false, "\"long\"" },
    { "partition_spec_id", 502, false, "\"int\"" },
    { "content", 517, false, "\"int\"" },
    { "sequence_number", 515, false, "\"long\"" },
    { "min_sequence_number", 516, false, "\"long\"" },
    { "added_snapshot_id", 503, false, "\"long\"" },
    { "added_files_count", 504, false, "\"int\"" },
    { "existing_files_count", 505, false, "\"int\"" },
    { "deleted_files_count", 506, false, "\"int\"" },
    { "added_rows_count", 512, false, "\"long\"" },
    { "existing_rows_count", 513, false, "\"long\"" },
    { "deleted_rows_count", 514, false, "\"long\"" },
    { "partitions", 507, true, LIST_OF(SUMMARY, "508") },
    { "key_metadata", 519, true, "\"bytes\"" },
};
static const struct avro_field list_fields_v3[] = {
    { "first_row_id", 520, true, "\"long\"" },
};

/* A comma in front but of the first field of a record. */
static void put_avro_fields(struct buf *out, const struct avro_field *fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct avro_field *f = &fields[i];
        const char *comma = out->data[out->len - 1] == '[' ? "" : ",";
        buf_putf(out, "%s{\"name\":\"%s\",\"type\":%s%s%s,\"field-id\":%d}", comma, f->name,
                 f->optional ? "[\"null\"," : "", f->type, f->optional ? "],\"default\":null" : "",
                 f->id);
    }
}

/* A name that Avro takes, as the reference writer makes it: other characters become _x and their
 * UTF-16 code in hex, a digit in front gets an underscore. */
static void put_avro_name(struct buf *out, const char *name) {
    const uint8_t *at = (const uint8_t *)name;
    if (*at >= '0' && *at <= '9') {
        buf_putc(out, '_');
    }
    while (*at) {
        bool plain = (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') ||
                     (*at >= 'A' && *at <= 'Z') || *at == '_';
        if (plain) {
            buf_putc(out, (char)*at++);
            continue;
        }
        uint32_t c = *at++;
        int more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        c = more == 0 ? c : c & (0x3fu >> more);
        for (; more > 0 && (*at & 0xc0) == 0x80; more--) {
            c = c << 6 | (*at++ & 0x3fu);
        }
        if (c >= 0x10000) {
            buf_putf(out, "_x%" PRIX32, 0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        buf_putf(out, "_x%" PRIX32, c);
    }
}

static size_t decimal_bytes(unsigned precision) {
    static const uint8_t bytes[39] = { 0,  1,  1,  2,  2,  3,  3,  4,  4,  4,  5,  5,  6,
                                       6,  6,  7,  7,  8,  8,  9,  9,  9,  10, 10, 11, 11,
                                       11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16 };
    CHECK(precision >= 1 && precision <= 38);
    return bytes[precision];
}

/* Avro names a type where it first stands; later uses are the name alone. */
static bool named_before(const struct ice_spec *spec, uint32_t i) {
    for (uint32_t k = 0; k < i; k++) {
        if (lake_type_equal(&spec->fields[k].result, &spec->fields[i].result)) {
            return true;
        }
    }
    return false;
}

static void put_avro_type(struct buf *out, const struct ice_spec *spec, uint32_t i) {
    const struct lake_type *t = &spec->fields[i].result;
    switch (t->kind) {
    case LAKE_BOOL:
        buf_puts(out, "\"boolean\"");
        break;
    case LAKE_INT:
        buf_puts(out, "\"int\"");
        break;
    case LAKE_LONG:
        buf_puts(out, "\"long\"");
        break;
    case LAKE_FLOAT:
        buf_puts(out, "\"float\"");
        break;
    case LAKE_DOUBLE:
        buf_puts(out, "\"double\"");
        break;
    case LAKE_DATE:
        buf_puts(out, "{\"type\":\"int\",\"logicalType\":\"date\"}");
        break;
    case LAKE_TIME:
        buf_puts(out, "{\"type\":\"long\",\"logicalType\":\"time-micros\"}");
        break;
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        buf_putf(out,
                 "{\"type\":\"long\",\"logicalType\":\"timestamp-micros\",\"adjust-to-utc\":%s}",
                 t->kind == LAKE_TIMESTAMPTZ ? "true" : "false");
        break;
    case LAKE_STRING:
        buf_puts(out, "\"string\"");
        break;
    case LAKE_BINARY:
        buf_puts(out, "\"bytes\"");
        break;
    case LAKE_DECIMAL:
        if (named_before(spec, i)) {
            buf_putf(out, "\"decimal_%u_%u\"", t->precision, t->scale);
        } else {
            buf_putf(out,
                     "{\"type\":\"fixed\",\"name\":\"decimal_%u_%u\",\"size\":%zu,"
                     "\"logicalType\":\"decimal\",\"precision\":%u,\"scale\":%u}",
                     t->precision, t->scale, decimal_bytes(t->precision), t->precision, t->scale);
        }
        break;
    case LAKE_UUID:
        buf_puts(out, named_before(spec, i)
                          ? "\"uuid_fixed\""
                          : "{\"type\":\"fixed\",\"name\":\"uuid_fixed\",\"size\":16,"
                            "\"logicalType\":\"uuid\"}");
        break;
    case LAKE_LIST:
        buf_puts(out, "\"int\"");
        break; /* of a void transform: always null */
    }
}

static void put_partition_fields(struct buf *out, const struct ice_spec *spec) {
    for (uint32_t i = 0; i < spec->field_count; i++) {
        const struct ice_part_field *f = &spec->fields[i];
        buf_puts(out, i ? ",{\"name\":\"" : "{\"name\":\"");
        size_t start = out->len;
        put_avro_name(out, f->name);
        bool same = out->len - start == strlen(f->name) &&
                    memcmp(out->data + start, f->name, strlen(f->name)) == 0;
        buf_puts(out, "\",\"type\":[\"null\",");
        put_avro_type(out, spec, i);
        buf_putf(out, "],\"default\":null,\"field-id\":%" PRId32, f->field_id);
        if (!same) {
            buf_puts(out, ",\"iceberg-field-name\":");
            json_put_cstr(out, f->name);
        }
        buf_putc(out, '}');
    }
}

static void put_entry_schema(struct buf *out, int version, const struct ice_spec *spec) {
    buf_puts(out, "{\"type\":\"record\",\"name\":\"manifest_entry\",\"fields\":[");
    put_avro_fields(out, entry_fields, ARRAY_COUNT(entry_fields));
    buf_puts(out,
             ",{\"name\":\"data_file\",\"type\":{\"type\":\"record\",\"name\":\"r2\",\"fields\":[");
    put_avro_fields(out, file_fields_first, ARRAY_COUNT(file_fields_first));
    buf_puts(
        out,
        ",{\"name\":\"partition\",\"type\":{\"type\":\"record\",\"name\":\"r102\",\"fields\":[");
    put_partition_fields(out, spec);
    buf_puts(out, "]},\"field-id\":102}");
    put_avro_fields(out, file_fields, ARRAY_COUNT(file_fields));
    if (version >= 3) {
        put_avro_fields(out, file_fields_v3, ARRAY_COUNT(file_fields_v3));
    } else {
        put_avro_fields(out, file_fields_v2, ARRAY_COUNT(file_fields_v2));
    }
    buf_puts(out, "]},\"field-id\":2}]}");
}

/* ---- values ---- */

static void put_null(struct buf *out) { buf_putc(out, 0); }

static void put_branch(struct buf *out) { buf_putc(out, 2); } /* the second one */

static void put_opt_long(struct buf *out, int64_t v) {
    if (v < 0) {
        put_null(out);
    } else {
        put_branch(out);
        ice_avro_put_long(out, v);
    }
}

static void put_opt_text(struct buf *out, const char *text) {
    if (!text) {
        put_null(out);
    } else {
        put_branch(out);
        ice_avro_put_bytes(out, text, strlen(text));
    }
}

static int128 decimal_of(const uint8_t *cell, size_t len) {
    int64_t narrow;
    int128 wide;
    if (len == 8) {
        memcpy(&narrow, cell, 8);
        return narrow;
    }
    CHECK(len == 16);
    memcpy(&wide, cell, 16);
    return wide;
}

/* The low n bytes, the highest first. */
static void big_endian(int128 v, uint8_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[n - 1 - i] = (uint8_t)(v >> (8 * i));
    }
}

static void put_partition_value(struct buf *out, const struct lake_type *t,
                                const struct ice_partition *p, uint32_t i) {
    uint8_t cell[16];
    uint8_t bytes[16];
    int32_t narrow;
    int64_t wide;
    size_t width = 0;
    if (t->kind != LAKE_STRING && t->kind != LAKE_BINARY) {
        width = ice_partition_cell(p, i, t, cell);
    }
    switch (t->kind) {
    case LAKE_STRING:
    case LAKE_BINARY:
        ice_avro_put_bytes(out, p->texts[i], p->text_lens[i]);
        break;
    case LAKE_INT:
    case LAKE_DATE:
        memcpy(&narrow, cell, 4);
        ice_avro_put_long(out, narrow);
        break;
    case LAKE_LONG:
    case LAKE_TIME:
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        memcpy(&wide, cell, 8);
        ice_avro_put_long(out, wide);
        break;
    case LAKE_DECIMAL:
        big_endian(decimal_of(cell, width), bytes, decimal_bytes(t->precision));
        buf_put(out, bytes, decimal_bytes(t->precision));
        break;
    case LAKE_BOOL:
        buf_putc(out, cell[0] != 0);
        break;
    default:
        CHECK(!"a type that partition values have");
    }
}

enum metric_map { MAP_BYTES, MAP_VALUES, MAP_NULLS, MAP_NANS, MAP_LOWER, MAP_UPPER };

static bool metric_has(const struct ice_metric *m, enum metric_map map) {
    switch (map) {
    case MAP_BYTES:
        return m->bytes >= 0;
    case MAP_VALUES:
        return m->values >= 0;
    case MAP_NULLS:
        return m->nulls >= 0;
    case MAP_NANS:
        return m->nans >= 0;
    case MAP_LOWER:
        return m->lower != NULL;
    case MAP_UPPER:
        return m->upper != NULL;
    }
    return false;
}

static void put_metric_map(struct buf *out, const struct ice_file *f, enum metric_map map) {
    int64_t count = 0;
    for (uint32_t i = 0; i < f->metric_count; i++) {
        count += metric_has(&f->metrics[i], map);
    }
    if (count == 0) {
        put_null(out);
        return;
    }
    put_branch(out);
    ice_avro_put_long(out, count);
    for (uint32_t i = 0; i < f->metric_count; i++) {
        const struct ice_metric *m = &f->metrics[i];
        if (!metric_has(m, map)) {
            continue;
        }
        ice_avro_put_long(out, m->field_id);
        switch (map) {
        case MAP_BYTES:
            ice_avro_put_long(out, m->bytes);
            break;
        case MAP_VALUES:
            ice_avro_put_long(out, m->values);
            break;
        case MAP_NULLS:
            ice_avro_put_long(out, m->nulls);
            break;
        case MAP_NANS:
            ice_avro_put_long(out, m->nans);
            break;
        case MAP_LOWER:
            ice_avro_put_bytes(out, m->lower, m->lower_len);
            break;
        case MAP_UPPER:
            ice_avro_put_bytes(out, m->upper, m->upper_len);
            break;
        }
    }
    ice_avro_put_long(out, 0);
}

static void put_file(struct buf *out, int version, const struct ice_spec *spec,
                     const struct ice_file *f) {
    const char *format = f->format == ICE_PUFFIN ? "PUFFIN" : "PARQUET";
    ice_avro_put_long(out, f->content);
    ice_avro_put_bytes(out, f->path, strlen(f->path));
    ice_avro_put_bytes(out, format, strlen(format));
    for (uint32_t i = 0; i < spec->field_count; i++) {
        if (f->partition.nulls >> i & 1) {
            put_null(out);
        } else {
            put_branch(out);
            put_partition_value(out, &spec->fields[i].result, &f->partition, i);
        }
    }
    ice_avro_put_long(out, f->rows);
    ice_avro_put_long(out, f->bytes);
    for (enum metric_map map = MAP_BYTES; map <= MAP_UPPER; map++) {
        put_metric_map(out, f, map);
    }
    put_null(out); /* key_metadata */
    if (f->split_count == 0) {
        put_null(out);
    } else {
        put_branch(out);
        ice_avro_put_long(out, f->split_count);
        for (uint32_t i = 0; i < f->split_count; i++) {
            ice_avro_put_long(out, f->splits[i]);
        }
        ice_avro_put_long(out, 0);
    }
    put_null(out); /* equality_ids */
    put_opt_long(out, f->sort_order_id);
    if (version >= 3) {
        put_opt_long(out, f->first_row_id);
    }
    put_opt_text(out, f->referenced);
    if (version >= 3) {
        put_opt_long(out, f->content_offset);
        put_opt_long(out, f->content_bytes);
    }
}

/* ---- a manifest ---- */

struct bound {
    bool known;
    struct buf cell; /* in lake form */
};

struct ice_manifest_writer {
    int version;
    struct ice_spec spec; /* with the types that its columns have now */
    struct ice_avro_writer *avro;
    struct ice_manifest_file list;
    bool inherits;        /* a live entry's sequence is null */
    int64_t min_sequence; /* of the others; INT64_MAX = none */
    bool has_null[ICE_PARTITION_FIELDS_MAX];
    struct bound lower[ICE_PARTITION_FIELDS_MAX], upper[ICE_PARTITION_FIELDS_MAX];
};

struct ice_manifest_writer *ice_manifest_writer_new(const struct ice_manifest_head *head) {
    CHECK(head->format_version == 2 || head->format_version == 3);
    struct ice_manifest_writer *w = xcalloc(1, sizeof *w);
    w->version = head->format_version;
    ice_spec_copy(&w->spec, head->spec);
    ice_spec_retype(&w->spec, head->schema);
    w->list.content = head->content;
    w->list.spec_id = head->spec->id;
    w->list.first_row_id = -1;
    w->min_sequence = INT64_MAX;
    for (size_t i = 0; i < ICE_PARTITION_FIELDS_MAX; i++) {
        buf_init(&w->lower[i].cell, SIZE_MAX);
        buf_init(&w->upper[i].cell, SIZE_MAX);
    }
    struct buf avro, schema, fields;
    char schema_id[16], spec_id[16], version[16];
    buf_init(&avro, SIZE_MAX);
    buf_init(&schema, SIZE_MAX);
    buf_init(&fields, SIZE_MAX);
    put_entry_schema(&avro, w->version, &w->spec);
    ice_schema_put_json(&schema, head->schema);
    ice_spec_put_fields_json(&fields, head->spec);
    snprintf(schema_id, sizeof schema_id, "%" PRId32, head->schema->id);
    snprintf(spec_id, sizeof spec_id, "%" PRId32, head->spec->id);
    snprintf(version, sizeof version, "%d", w->version);
    const char *content = head->content == ICE_DATA ? "data" : "deletes";
    const struct ice_avro_meta meta[] = {
        { "schema", schema.data, schema.len },
        { "schema-id", schema_id, strlen(schema_id) },
        { "partition-spec", fields.data, fields.len },
        { "partition-spec-id", spec_id, strlen(spec_id) },
        { "format-version", version, strlen(version) },
        { "content", content, strlen(content) },
    };
    w->avro = ice_avro_writer_new(avro.data, avro.len, meta, ARRAY_COUNT(meta));
    buf_release(&avro);
    buf_release(&schema);
    buf_release(&fields);
    return w;
}

void ice_manifest_writer_free(struct ice_manifest_writer *w) {
    if (!w) {
        return;
    }
    for (size_t i = 0; i < ICE_PARTITION_FIELDS_MAX; i++) {
        buf_release(&w->lower[i].cell);
        buf_release(&w->upper[i].cell);
    }
    ice_avro_writer_free(w->avro);
    ice_spec_release(&w->spec);
    free(w);
}

/* Below 0, 0, above 0 in the order of Iceberg's values. */
static int compare_cells(const struct lake_type *t, const uint8_t *a, size_t a_len,
                         const uint8_t *b, size_t b_len) {
    if (t->kind == LAKE_STRING || t->kind == LAKE_BINARY || t->kind == LAKE_BOOL) {
        size_t n = a_len < b_len ? a_len : b_len;
        int c = n > 0 ? memcmp(a, b, n) : 0;
        return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
    }
    if (a_len == 4) {
        int32_t x, y;
        memcpy(&x, a, 4);
        memcpy(&y, b, 4);
        return (x > y) - (x < y);
    }
    int128 x = decimal_of(a, a_len);
    int128 y = decimal_of(b, b_len);
    return (x > y) - (x < y);
}

static void widen(struct bound *b, const struct lake_type *t, const uint8_t *p, size_t len,
                  int sign) {
    if (b->known &&
        compare_cells(t, p, len, (const uint8_t *)b->cell.data, b->cell.len) * sign <= 0) {
        return;
    }
    b->known = true;
    buf_clear(&b->cell);
    buf_put(&b->cell, p, len);
}

static void summarize(struct ice_manifest_writer *w, const struct ice_partition *p) {
    for (uint32_t i = 0; i < w->spec.field_count; i++) {
        if (p->nulls >> i & 1) {
            w->has_null[i] = true;
            continue;
        }
        const struct lake_type *t = &w->spec.fields[i].result;
        uint8_t cell[16];
        const uint8_t *value = p->texts[i] ? (const uint8_t *)p->texts[i] : cell;
        size_t len = p->texts[i] ? p->text_lens[i] : ice_partition_cell(p, i, t, cell);
        widen(&w->lower[i], t, value, len, -1);
        widen(&w->upper[i], t, value, len, 1);
    }
}

void ice_manifest_put(struct ice_manifest_writer *w, const struct ice_entry *e) {
    struct buf *out = ice_avro_block(w->avro);
    CHECK((e->file.content == ICE_DATA) == (w->list.content == ICE_DATA));
    CHECK(e->status == ICE_ADDED ||
          (e->snapshot_id >= 0 && e->sequence >= 0 && e->file_sequence >= 0));
    ice_avro_put_long(out, e->status);
    put_opt_long(out, e->snapshot_id);
    put_opt_long(out, e->sequence);
    put_opt_long(out, e->file_sequence);
    put_file(out, w->version, &w->spec, &e->file);
    ice_avro_record_done(w->avro);
    struct ice_manifest_file *list = &w->list;
    if (e->status == ICE_ADDED) {
        list->added_files++;
        list->added_rows += e->file.rows;
    } else if (e->status == ICE_EXISTING) {
        list->existing_files++;
        list->existing_rows += e->file.rows;
    } else {
        list->deleted_files++;
        list->deleted_rows += e->file.rows;
    }
    if (e->status != ICE_DELETED) {
        w->inherits = w->inherits || e->sequence < 0;
        if (e->sequence >= 0 && e->sequence < w->min_sequence) {
            w->min_sequence = e->sequence;
        }
    }
    summarize(w, &e->file.partition);
}

size_t ice_manifest_bytes(const struct ice_manifest_writer *w) {
    return ice_avro_writer_bytes(w->avro);
}

/* A cell as appendix D has single values. */
static void put_single_value(struct arena *arena, const struct lake_type *t, const struct buf *cell,
                             const uint8_t **out, uint32_t *len) {
    static const uint8_t nothing[1];
    if (t->kind != LAKE_DECIMAL) {
        *len = (uint32_t)cell->len;
        *out = cell->len > 0 ? arena_copy(arena, cell->data, cell->len) : nothing;
        return;
    }
    uint8_t all[16];
    big_endian(decimal_of((const uint8_t *)cell->data, cell->len), all, 16);
    size_t at = 0;
    while (at < 15 &&
           ((all[at] == 0 && all[at + 1] < 0x80) || (all[at] == 0xff && all[at + 1] >= 0x80))) {
        at++;
    }
    *len = (uint32_t)(16 - at);
    *out = arena_copy(arena, all + at, 16 - at);
}

void ice_manifest_finish(struct ice_manifest_writer *w, int64_t sequence_now, struct buf *out,
                         struct arena *arena, struct ice_manifest_file *list) {
    size_t start = out->len;
    ice_avro_writer_finish(w->avro, out);
    struct ice_manifest_file *row = &w->list;
    row->bytes = (int64_t)(out->len - start);
    row->min_sequence = w->min_sequence;
    if (w->min_sequence == INT64_MAX || (w->inherits && sequence_now < w->min_sequence)) {
        row->min_sequence = sequence_now;
    }
    row->summary_count = w->spec.field_count;
    row->summaries = arena_zalloc(arena, (row->summary_count + 1) * sizeof *row->summaries);
    for (uint32_t i = 0; i < row->summary_count; i++) {
        struct ice_field_summary *s = &row->summaries[i];
        const struct lake_type *t = &w->spec.fields[i].result;
        s->contains_null = w->has_null[i];
        s->has_bounds = w->lower[i].known;
        if (s->has_bounds) {
            put_single_value(arena, t, &w->lower[i].cell, &s->lower, &s->lower_len);
            put_single_value(arena, t, &w->upper[i].cell, &s->upper, &s->upper_len);
        }
    }
    *list = *row;
}

/* ---- a list ---- */

static void put_summary(struct buf *out, const struct ice_field_summary *s) {
    buf_putc(out, s->contains_null);
    put_branch(out);
    buf_putc(out, s->contains_nan);
    if (!s->has_bounds) {
        put_null(out);
        put_null(out);
        return;
    }
    put_branch(out);
    ice_avro_put_bytes(out, s->lower, s->lower_len);
    put_branch(out);
    ice_avro_put_bytes(out, s->upper, s->upper_len);
}

static void put_manifest_file(struct buf *out, int version, const struct ice_manifest_file *m) {
    ice_avro_put_bytes(out, m->path, strlen(m->path));
    ice_avro_put_long(out, m->bytes);
    ice_avro_put_long(out, m->spec_id);
    ice_avro_put_long(out, m->content);
    ice_avro_put_long(out, m->sequence);
    ice_avro_put_long(out, m->min_sequence);
    ice_avro_put_long(out, m->added_snapshot_id);
    ice_avro_put_long(out, m->added_files);
    ice_avro_put_long(out, m->existing_files);
    ice_avro_put_long(out, m->deleted_files);
    ice_avro_put_long(out, m->added_rows);
    ice_avro_put_long(out, m->existing_rows);
    ice_avro_put_long(out, m->deleted_rows);
    put_branch(out);
    if (m->summary_count > 0) {
        ice_avro_put_long(out, m->summary_count);
        for (uint32_t i = 0; i < m->summary_count; i++) {
            put_summary(out, &m->summaries[i]);
        }
    }
    ice_avro_put_long(out, 0);
    put_null(out); /* key_metadata */
    if (version >= 3) {
        put_opt_long(out, m->first_row_id);
    }
}

void ice_list_write(struct buf *out, const struct ice_list_head *head,
                    const struct ice_manifest_file *files, uint32_t count) {
    struct buf schema;
    buf_init(&schema, SIZE_MAX);
    buf_puts(&schema, "{\"type\":\"record\",\"name\":\"manifest_file\",\"fields\":[");
    put_avro_fields(&schema, list_fields, ARRAY_COUNT(list_fields));
    put_avro_fields(&schema, list_fields_v3,
                    head->format_version >= 3 ? ARRAY_COUNT(list_fields_v3) : 0);
    buf_puts(&schema, "]}");
    char id[24], parent[24], sequence[24], version[16], first[24];
    snprintf(id, sizeof id, "%" PRId64, head->snapshot_id);
    snprintf(parent, sizeof parent, "%" PRId64, head->parent_id);
    snprintf(sequence, sizeof sequence, "%" PRId64, head->sequence);
    snprintf(version, sizeof version, "%d", head->format_version);
    snprintf(first, sizeof first, "%" PRId64, head->first_row_id);
    const char *parent_text = head->parent_id < 0 ? "null" : parent;
    const struct ice_avro_meta meta[] = {
        { "snapshot-id", id, strlen(id) },
        { "parent-snapshot-id", parent_text, strlen(parent_text) },
        { "sequence-number", sequence, strlen(sequence) },
        { "format-version", version, strlen(version) },
        { "first-row-id", first, strlen(first) },
    };
    struct ice_avro_writer *w =
        ice_avro_writer_new(schema.data, schema.len, meta, head->format_version >= 3 ? 5 : 4);
    for (uint32_t i = 0; i < count; i++) {
        put_manifest_file(ice_avro_block(w), head->format_version, &files[i]);
        ice_avro_record_done(w);
    }
    ice_avro_writer_finish(w, out);
    ice_avro_writer_free(w);
    buf_release(&schema);
}
