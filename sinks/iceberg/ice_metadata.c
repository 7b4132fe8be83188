/* Table metadata: reading and writing the JSON. What changes a table is ice_metadata_edit.c. See
 * ice_metadata.h. Members are written in the reference writer's order. */
#include "sinks/iceberg/ice_metadata.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "cdc/base/json.h"

enum { GZIP_RATIO_MAX = 1040, LISTED_MAX = 1000000 };
#define PLAIN_BYTES_MAX (UINT64_C(1) << 30)

static int damaged(struct err *err, const char *what) {
    return err_set(err, ERR_FATAL, "metadata_damaged", "read a table's metadata: %s", what);
}

static void release_snapshot(struct ice_snapshot *s) {
    free(s->manifest_list);
    json_decref(s->summary);
    json_decref(s->others);
}

void ice_metadata_release(struct ice_metadata *m) {
    free(m->uuid);
    free(m->location);
    for (uint32_t i = 0; i < m->schema_count; i++) {
        ice_schema_release(&m->schemas[i]);
    }
    for (uint32_t i = 0; i < m->spec_count; i++) {
        ice_spec_release(&m->specs[i]);
    }
    for (uint32_t i = 0; i < m->snapshot_count; i++) {
        release_snapshot(&m->snapshots[i]);
    }
    free(m->schemas);
    free(m->specs);
    free(m->snapshots);
    json_decref(m->sort_orders);
    json_decref(m->properties);
    json_decref(m->snapshot_log);
    json_decref(m->metadata_log);
    json_decref(m->refs);
    json_decref(m->others);
    *m = (struct ice_metadata){ 0 };
}

const struct ice_schema *ice_metadata_schema(const struct ice_metadata *m, int32_t id) {
    for (uint32_t i = 0; i < m->schema_count; i++) {
        if (m->schemas[i].id == id) {
            return &m->schemas[i];
        }
    }
    return NULL;
}

const struct ice_spec *ice_metadata_spec(const struct ice_metadata *m, int32_t id) {
    for (uint32_t i = 0; i < m->spec_count; i++) {
        if (m->specs[i].id == id) {
            return &m->specs[i];
        }
    }
    return NULL;
}

const struct ice_snapshot *ice_metadata_snapshot(const struct ice_metadata *m, int64_t id) {
    for (uint32_t i = m->snapshot_count; i-- > 0;) {
        if (m->snapshots[i].id == id) {
            return &m->snapshots[i];
        }
    }
    return NULL;
}

const char *ice_metadata_property(const struct ice_metadata *m, const char *key) {
    return json_string_value(json_object_get(m->properties, key));
}

/* ---- reading ---- */

/* Takes a number out of `from`; absent or null: 0 with *out untouched where it may be missing. */
static int take_number(json_t *from, const char *key, bool must, int64_t min, int64_t max,
                       int64_t *out, struct err *err) {
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v)) {
        json_object_del(from, key);
        return must ? err_set(err, ERR_FATAL, "metadata_damaged",
                              "read a table's metadata: it has no \"%s\"", key)
                    : 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        return err_set(err, ERR_FATAL, "metadata_damaged",
                       "read a table's metadata: \"%s\" is no number that it can be", key);
    }
    *out = json_integer_value(v);
    json_object_del(from, key);
    return 0;
}

static int take_int(json_t *from, const char *key, int32_t *out, struct err *err) {
    int64_t v = 0;
    if (take_number(from, key, true, 0, INT32_MAX, &v, err) != 0) {
        return -1;
    }
    *out = (int32_t)v;
    return 0;
}

static int take_text(json_t *from, const char *key, char **out, struct err *err) {
    const char *v = json_string_value(json_object_get(from, key));
    if (!v || v[0] == 0) {
        return err_set(err, ERR_FATAL, "metadata_damaged",
                       "read a table's metadata: \"%s\" is no text or not there", key);
    }
    *out = xstrdup(v);
    json_object_del(from, key);
    return 0;
}

/* An object or array is taken out; absent or null gives an empty one. */
static int take_value(json_t *from, const char *key, bool array, json_t **out, struct err *err) {
    json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v)) {
        *out = array ? json_array() : json_object();
        json_object_del(from, key);
        return 0;
    }
    if (array ? !json_is_array(v) : !json_is_object(v)) {
        return err_set(err, ERR_FATAL, "metadata_damaged",
                       "read a table's metadata: \"%s\" has another form", key);
    }
    *out = json_incref(v);
    json_object_del(from, key);
    return 0;
}

static bool all_strings(json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!json_is_string(value)) {
            return false;
        }
    }
    return true;
}

static int take_schemas(json_t *root, struct ice_metadata *m, struct err *err) {
    const json_t *list = json_object_get(root, "schemas");
    size_t count = json_array_size(list);
    if (count == 0 || count > LISTED_MAX) {
        return damaged(err, "it has no list of schemas");
    }
    m->schemas = xcalloc(count, sizeof *m->schemas);
    for (size_t i = 0; i < count; i++) {
        if (ice_schema_from_json(json_array_get(list, i), &m->schemas[i], err) != 0) {
            return -1;
        }
        m->schema_count++;
    }
    json_object_del(root, "schemas");
    return 0;
}

static int take_specs(json_t *root, struct ice_metadata *m, struct err *err) {
    const json_t *list = json_object_get(root, "partition-specs");
    size_t count = json_array_size(list);
    if (count == 0 || count > LISTED_MAX) {
        return damaged(err, "it has no list of partition specs");
    }
    m->specs = xcalloc(count, sizeof *m->specs);
    for (size_t i = 0; i < count; i++) {
        if (ice_spec_from_json(json_array_get(list, i), m->schemas, m->schema_count, &m->specs[i],
                               err) != 0) {
            return -1;
        }
        m->spec_count++;
    }
    json_object_del(root, "partition-specs");
    return 0;
}

static int take_snapshot(json_t *json, const struct ice_metadata *m, struct ice_snapshot *s,
                         struct err *err) {
    int64_t schema_id = -1;
    *s = (struct ice_snapshot){ .parent_id = -1, .first_row_id = -1, .added_rows = -1 };
    if (!json_is_object(json)) {
        return damaged(err, "a snapshot that is no object");
    }
    if (take_number(json, "snapshot-id", true, 0, INT64_MAX, &s->id, err) != 0 ||
        take_number(json, "parent-snapshot-id", false, -1, INT64_MAX, &s->parent_id, err) != 0 ||
        take_number(json, "sequence-number", false, 0, m->last_sequence, &s->sequence, err) != 0 ||
        take_number(json, "timestamp-ms", true, INT64_MIN, INT64_MAX, &s->timestamp_ms, err) != 0 ||
        take_number(json, "schema-id", false, 0, INT32_MAX, &schema_id, err) != 0 ||
        take_number(json, "first-row-id", false, 0, INT64_MAX, &s->first_row_id, err) != 0 ||
        take_number(json, "added-rows", false, 0, INT64_MAX, &s->added_rows, err) != 0 ||
        take_value(json, "summary", false, &s->summary, err) != 0) {
        return -1;
    }
    s->schema_id = (int32_t)schema_id;
    if (take_text(json, "manifest-list", &s->manifest_list, err) != 0) {
        return -1;
    }
    if (!all_strings(s->summary)) {
        return damaged(err, "a snapshot's summary holds other things than texts");
    }
    if (json_object_size(json) > 0) {
        s->others = json_incref(json);
    }
    return 0;
}

static int take_snapshots(json_t *root, struct ice_metadata *m, struct err *err) {
    const json_t *list = json_object_get(root, "snapshots");
    size_t count = json_array_size(list);
    if (count > LISTED_MAX) {
        return damaged(err, "it lists too many snapshots");
    }
    m->snapshots = xcalloc(count + 1, sizeof *m->snapshots);
    for (size_t i = 0; i < count; i++) {
        int got = take_snapshot(json_array_get(list, i), m, &m->snapshots[m->snapshot_count], err);
        m->snapshot_count++; /* what it holds is released with m */
        if (got != 0) {
            return -1;
        }
    }
    json_object_del(root, "snapshots");
    return 0;
}

static int take_format(json_t *root, struct ice_metadata *m, struct err *err) {
    int64_t version = 0;
    if (take_number(root, "format-version", true, 1, INT32_MAX, &version, err) != 0) {
        return -1;
    }
    m->format_version = (int)version;
    if (version == 2 || version == 3) {
        return 0;
    }
    err_set(err, ERR_FATAL, "metadata_unsupported",
            "the table is of Iceberg format %" PRId64 "; tailrace reads and writes 2 and 3",
            version);
    return err_cure(err, version == 1
                             ? "upgrade it (table property format-version=2), or give the job a "
                               "table of its own"
                             : "give the job a table of its own");
}

static int take_members(json_t *root, struct ice_metadata *m, struct err *err) {
    m->current_snapshot_id = -1;
    if (take_text(root, "table-uuid", &m->uuid, err) != 0 ||
        take_text(root, "location", &m->location, err) != 0 ||
        take_number(root, "last-sequence-number", true, 0, INT64_MAX - 1, &m->last_sequence, err) !=
            0 ||
        take_number(root, "last-updated-ms", true, INT64_MIN, INT64_MAX, &m->last_updated_ms,
                    err) != 0 ||
        take_int(root, "last-column-id", &m->last_column_id, err) != 0 ||
        take_int(root, "current-schema-id", &m->current_schema_id, err) != 0 ||
        take_int(root, "default-spec-id", &m->default_spec_id, err) != 0 ||
        take_int(root, "last-partition-id", &m->last_partition_id, err) != 0 ||
        take_int(root, "default-sort-order-id", &m->default_sort_order_id, err) != 0 ||
        take_number(root, "current-snapshot-id", false, -1, INT64_MAX, &m->current_snapshot_id,
                    err) != 0 ||
        take_number(root, "next-row-id", m->format_version >= 3, 0, INT64_MAX, &m->next_row_id,
                    err) != 0 ||
        take_value(root, "sort-orders", true, &m->sort_orders, err) != 0 ||
        take_value(root, "properties", false, &m->properties, err) != 0 ||
        take_value(root, "snapshot-log", true, &m->snapshot_log, err) != 0 ||
        take_value(root, "metadata-log", true, &m->metadata_log, err) != 0 ||
        take_value(root, "refs", false, &m->refs, err) != 0) {
        return -1;
    }
    return all_strings(m->properties) ? 0 : damaged(err, "a property that is no text");
}

/* What the parts say of each other. */
static int check_whole(const struct ice_metadata *m, struct err *err) {
    if (!ice_metadata_schema(m, m->current_schema_id) ||
        !ice_metadata_spec(m, m->default_spec_id)) {
        return damaged(err, "its current schema or spec is not among those it lists");
    }
    if (m->current_snapshot_id >= 0 && !ice_metadata_snapshot(m, m->current_snapshot_id)) {
        return damaged(err, "its current snapshot is not among those it lists");
    }
    const json_t *main_ref = json_object_get(m->refs, "main");
    const json_t *main_id = json_object_get(main_ref, "snapshot-id");
    if (main_ref && json_integer_value(main_id) != m->current_snapshot_id) {
        return damaged(err, "its branch main is not at its current snapshot");
    }
    for (uint32_t i = 0; i < m->schema_count; i++) {
        for (uint32_t k = 0; k < m->schemas[i].field_count; k++) {
            const struct ice_field *f = &m->schemas[i].fields[k];
            if (f->id > m->last_column_id || f->element_id > m->last_column_id) {
                return damaged(err, "a field's number is above its last-column-id");
            }
        }
    }
    return 0;
}

/* gzip is known by its first bytes; its last four say how long the text is. */
static int unpack(const uint8_t *p, size_t n, struct buf *out, struct err *err) {
    uint32_t plain = 0;
    if (n < 18) {
        return damaged(err, "its gzip file is cut off");
    }
    memcpy(&plain, p + n - 4, 4);
    if (plain > n * GZIP_RATIO_MAX || plain > PLAIN_BYTES_MAX || buf_reserve(out, plain + 1) != 0) {
        return damaged(err, "its gzip file says that it is longer than it can be");
    }
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    CHECK(d);
    size_t got = 0;
    enum libdeflate_result result = libdeflate_gzip_decompress(d, p, n, out->data, plain, &got);
    libdeflate_free_decompressor(d);
    out->len = got;
    return result == LIBDEFLATE_SUCCESS ? 0 : damaged(err, "its gzip file cannot be unpacked");
}

static int parse_root(json_t *root, struct ice_metadata *m, struct err *err) {
    if (!json_is_object(root)) {
        return damaged(err, "it is no JSON object");
    }
    if (take_format(root, m, err) != 0 || take_members(root, m, err) != 0 ||
        take_schemas(root, m, err) != 0 || take_specs(root, m, err) != 0 ||
        take_snapshots(root, m, err) != 0 || check_whole(m, err) != 0) {
        return -1;
    }
    if (m->current_snapshot_id >= 0 && !json_object_get(m->refs, "main")) {
        json_object_set_new(m->refs, "main",
                            json_pack("{s:I,s:s}", "snapshot-id",
                                      (json_int_t)m->current_snapshot_id, "type", "branch"));
    }
    if (json_object_size(root) > 0) {
        m->others = json_incref(root);
    }
    return 0;
}

int ice_metadata_parse(const char *json, size_t n, struct ice_metadata *out, struct err *err) {
    struct buf plain;
    buf_init(&plain, PLAIN_BYTES_MAX + 1);
    *out = (struct ice_metadata){ 0 };
    if (n >= 2 && (uint8_t)json[0] == 0x1f && (uint8_t)json[1] == 0x8b) {
        if (unpack((const uint8_t *)json, n, &plain, err) != 0) {
            buf_release(&plain);
            return -1;
        }
        json = plain.data;
        n = plain.len;
    }
    json_error_t where;
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &where);
    int got = root ? parse_root(root, out, err)
                   : err_set(err, ERR_FATAL, "metadata_damaged",
                             "read a table's metadata: line %d: %s", where.line, where.text);
    json_decref(root);
    buf_release(&plain);
    if (got != 0) {
        ice_metadata_release(out);
    }
    return got;
}

/* ---- writing ---- */

static int add_bytes(const char *p, size_t n, void *arg) {
    buf_put(arg, p, n);
    return 0;
}

static void put_json(struct buf *out, const json_t *value) {
    int got = json_dump_callback(value, add_bytes, out, JSON_COMPACT | JSON_ENCODE_ANY);
    CHECK(got == 0);
}

static void put_member(struct buf *out, const char *key, const json_t *value) {
    buf_putf(out, ",\"%s\":", key);
    put_json(out, value);
}

static void put_number(struct buf *out, const char *key, int64_t v) {
    buf_putf(out, ",\"%s\":%" PRId64, key, v);
}

/* The members of an object, each with a comma in front. */
static void put_others(struct buf *out, json_t *others) {
    const char *key;
    json_t *value;
    json_object_foreach(others, key, value) {
        buf_putc(out, ',');
        json_put_cstr(out, key);
        buf_putc(out, ':');
        put_json(out, value);
    }
}

static void put_snapshot(struct buf *out, const struct ice_snapshot *s) {
    buf_putf(out, "{\"sequence-number\":%" PRId64 ",\"snapshot-id\":%" PRId64, s->sequence, s->id);
    if (s->parent_id >= 0) {
        put_number(out, "parent-snapshot-id", s->parent_id);
    }
    put_number(out, "timestamp-ms", s->timestamp_ms);
    put_member(out, "summary", s->summary);
    buf_puts(out, ",\"manifest-list\":");
    json_put_cstr(out, s->manifest_list);
    if (s->schema_id >= 0) {
        put_number(out, "schema-id", s->schema_id);
    }
    if (s->first_row_id >= 0) {
        put_number(out, "first-row-id", s->first_row_id);
        put_number(out, "added-rows", s->added_rows >= 0 ? s->added_rows : 0);
    }
    put_others(out, s->others);
    buf_putc(out, '}');
}

void ice_metadata_put(struct buf *out, const struct ice_metadata *m) {
    buf_putf(out, "{\"format-version\":%d,\"table-uuid\":", m->format_version);
    json_put_cstr(out, m->uuid);
    buf_puts(out, ",\"location\":");
    json_put_cstr(out, m->location);
    put_number(out, "last-sequence-number", m->last_sequence);
    put_number(out, "last-updated-ms", m->last_updated_ms);
    put_number(out, "last-column-id", m->last_column_id);
    put_number(out, "current-schema-id", m->current_schema_id);
    buf_puts(out, ",\"schemas\":[");
    for (uint32_t i = 0; i < m->schema_count; i++) {
        buf_puts(out, i ? "," : "");
        ice_schema_put_json(out, &m->schemas[i]);
    }
    buf_puts(out, "]");
    put_number(out, "default-spec-id", m->default_spec_id);
    buf_puts(out, ",\"partition-specs\":[");
    for (uint32_t i = 0; i < m->spec_count; i++) {
        buf_puts(out, i ? "," : "");
        ice_spec_put_json(out, &m->specs[i]);
    }
    buf_puts(out, "]");
    put_number(out, "last-partition-id", m->last_partition_id);
    put_number(out, "default-sort-order-id", m->default_sort_order_id);
    put_member(out, "sort-orders", m->sort_orders);
    put_member(out, "properties", m->properties);
    /* "None" is -1 to old readers of format 2 and null to all of format 3. */
    if (m->current_snapshot_id >= 0 || m->format_version == 2) {
        put_number(out, "current-snapshot-id", m->current_snapshot_id);
    } else {
        buf_puts(out, ",\"current-snapshot-id\":null");
    }
    if (m->format_version >= 3) {
        put_number(out, "next-row-id", m->next_row_id);
    }
    put_member(out, "refs", m->refs);
    buf_puts(out, ",\"snapshots\":[");
    for (uint32_t i = 0; i < m->snapshot_count; i++) {
        buf_puts(out, i ? "," : "");
        put_snapshot(out, &m->snapshots[i]);
    }
    buf_puts(out, "]");
    put_others(out, m->others);
    put_member(out, "snapshot-log", m->snapshot_log);
    put_member(out, "metadata-log", m->metadata_log);
    buf_putc(out, '}');
}
