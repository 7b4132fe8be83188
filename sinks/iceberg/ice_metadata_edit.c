/* What changes a table's metadata: the first one, schemas, specs, properties, snapshots, expiry,
 * the log of files. See ice_metadata.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "sinks/iceberg/ice_metadata.h"

/* json_* of jansson fail only for lack of memory, or for texts that are no UTF-8: ours are. */
static json_t *made(json_t *value) {
    CHECK(value);
    return value;
}

static void set_member(json_t *object, const char *key, json_t *value) {
    int got = json_object_set_new(object, key, value);
    CHECK(got == 0);
}

void ice_metadata_first(struct ice_metadata *out, int format_version, const char *uuid,
                        const char *location, int64_t now_ms, struct ice_schema *schema,
                        int32_t last_column_id, struct ice_spec *spec) {
    CHECK(format_version == 2 || format_version == 3);
    CHECK(location[0] != 0 && location[strlen(location) - 1] != '/');
    *out = (struct ice_metadata){ .format_version = format_version,
                                  .uuid = xstrdup(uuid),
                                  .location = xstrdup(location),
                                  .last_updated_ms = now_ms,
                                  .last_column_id = last_column_id,
                                  .schemas = xcalloc(1, sizeof *out->schemas),
                                  .schema_count = 1,
                                  .current_schema_id = schema->id,
                                  .specs = xcalloc(1, sizeof *out->specs),
                                  .spec_count = 1,
                                  .default_spec_id = spec->id,
                                  .last_partition_id = ICE_PARTITION_ID_FIRST - 1,
                                  .current_snapshot_id = -1,
                                  .snapshots = xcalloc(1, sizeof *out->snapshots),
                                  .properties = made(json_object()),
                                  .snapshot_log = made(json_array()),
                                  .metadata_log = made(json_array()),
                                  .refs = made(json_object()) };
    out->sort_orders = made(json_pack("[{s:i,s:[]}]", "order-id", 0, "fields"));
    for (uint32_t i = 0; i < spec->field_count; i++) {
        if (spec->fields[i].field_id > out->last_partition_id) {
            out->last_partition_id = spec->fields[i].field_id;
        }
    }
    out->schemas[0] = *schema;
    out->specs[0] = *spec;
    *schema = (struct ice_schema){ 0 };
    *spec = (struct ice_spec){ 0 };
}

/* Columns that some spec partitions by stay in the schema when the source drops them: without them
 * the reference reader refuses the table, and DuckDB 1.5 fails at every filter. */
static void keep_partition_sources(const struct ice_metadata *m, struct ice_schema *schema) {
    const struct ice_schema *now = ice_metadata_schema(m, m->current_schema_id);
    for (uint32_t i = 0; i < m->spec_count; i++) {
        for (uint32_t k = 0; k < m->specs[i].field_count; k++) {
            int32_t id = m->specs[i].fields[k].source_id;
            int at = ice_schema_find_id(now, id);
            if (at >= 0 && ice_schema_find_id(schema, id) < 0) {
                ice_schema_keep(schema, &now->fields[at]);
            }
        }
    }
}

static json_t *sort_order_of(const struct ice_metadata *m, int64_t id) {
    for (size_t i = 0; i < json_array_size(m->sort_orders); i++) {
        json_t *order = json_array_get(m->sort_orders, i);
        if (json_integer_value(json_object_get(order, "order-id")) == id) {
            return order;
        }
    }
    return NULL;
}

void ice_metadata_set_order(struct ice_metadata *m, const struct ice_order *order) {
    if (order->count > 0) {
        CHECK(order->id > 0 && !sort_order_of(m, order->id));
        int failed = json_array_append_new(m->sort_orders, ice_order_json(order));
        CHECK(!failed);
        m->default_sort_order_id = order->id;
    }
}

/* A default sort order by a column that goes: none is the default then.
 * The reference reader refuses a table whose default one names a column that it has not; older ones
 * may. */
static void drop_sort_order(struct ice_metadata *m, const struct ice_schema *schema) {
    const json_t *fields = json_object_get(sort_order_of(m, m->default_sort_order_id), "fields");
    bool whole = true;
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *source = json_object_get(json_array_get(fields, i), "source-id");
        whole = whole && ice_schema_find_id(schema, (int32_t)json_integer_value(source)) >= 0;
    }
    if (whole) {
        return;
    }
    m->default_sort_order_id = 0;
    if (!sort_order_of(m, 0)) {
        int failed = json_array_append_new(m->sort_orders,
                                           made(json_pack("{s:i,s:[]}", "order-id", 0, "fields")));
        CHECK(!failed);
    }
}

int32_t ice_metadata_add_schema(struct ice_metadata *m, struct ice_schema *schema) {
    int32_t id = 0;
    keep_partition_sources(m, schema);
    drop_sort_order(m, schema);
    for (uint32_t i = 0; i < m->spec_count; i++) {
        ice_spec_retype(&m->specs[i], schema);
    }
    for (uint32_t i = 0; i < m->schema_count; i++) {
        if (m->schemas[i].id >= id) {
            id = m->schemas[i].id + 1;
        }
    }
    m->schemas = xrealloc(m->schemas, (m->schema_count + 1) * sizeof *m->schemas);
    m->schemas[m->schema_count] = *schema;
    m->schemas[m->schema_count++].id = id;
    *schema = (struct ice_schema){ 0 };
    m->current_schema_id = id;
    return id;
}

/* The id of a field that the table already had in some spec; -1 = a new one. */
static int32_t known_field_id(const struct ice_metadata *m, const struct ice_part_field *f) {
    for (uint32_t i = 0; i < m->spec_count; i++) {
        for (uint32_t k = 0; k < m->specs[i].field_count; k++) {
            const struct ice_part_field *g = &m->specs[i].fields[k];
            if (g->source_id == f->source_id && g->transform == f->transform &&
                g->parameter == f->parameter) {
                return g->field_id;
            }
        }
    }
    return -1;
}

int32_t ice_metadata_add_spec(struct ice_metadata *m, struct ice_spec *spec) {
    int32_t id = 0;
    for (uint32_t i = 0; i < m->spec_count; i++) {
        if (ice_spec_same(&m->specs[i], spec)) {
            m->default_spec_id = m->specs[i].id;
            ice_spec_release(spec);
            return m->default_spec_id;
        }
        if (m->specs[i].id >= id) {
            id = m->specs[i].id + 1;
        }
    }
    for (uint32_t i = 0; i < spec->field_count; i++) {
        int32_t known = known_field_id(m, &spec->fields[i]);
        spec->fields[i].field_id = known >= 0 ? known : ++m->last_partition_id;
    }
    m->specs = xrealloc(m->specs, (m->spec_count + 1) * sizeof *m->specs);
    m->specs[m->spec_count] = *spec;
    m->specs[m->spec_count++].id = id;
    *spec = (struct ice_spec){ 0 };
    m->default_spec_id = id;
    return id;
}

void ice_metadata_set_property(struct ice_metadata *m, const char *key, const char *value) {
    if (!value) {
        json_object_del(m->properties, key);
    } else {
        set_member(m->properties, key, made(json_string(value)));
    }
}

void ice_metadata_add_snapshot(struct ice_metadata *m, struct ice_snapshot *s) {
    CHECK(s->sequence == m->last_sequence + 1 && s->id >= 0 && s->manifest_list && s->summary);
    CHECK(!ice_metadata_snapshot(m, s->id));
    if (m->format_version >= 3) {
        CHECK(s->first_row_id == m->next_row_id && s->added_rows >= 0);
        m->next_row_id += s->added_rows;
    }
    /* The clock may have gone back; readers want times that do not fall. */
    if (s->timestamp_ms < m->last_updated_ms) {
        s->timestamp_ms = m->last_updated_ms;
    }
    m->last_sequence = s->sequence;
    m->last_updated_ms = s->timestamp_ms;
    m->current_snapshot_id = s->id;
    json_t *entry = made(json_pack("{s:I,s:I}", "timestamp-ms", (json_int_t)s->timestamp_ms,
                                   "snapshot-id", (json_int_t)s->id));
    int got = json_array_append_new(m->snapshot_log, entry);
    CHECK(got == 0);
    json_t *branch = json_object_get(m->refs, "main");
    if (branch) { /* its retention members stay */
        set_member(branch, "snapshot-id", made(json_integer((json_int_t)s->id)));
    } else {
        set_member(
            m->refs, "main",
            made(json_pack("{s:I,s:s}", "snapshot-id", (json_int_t)s->id, "type", "branch")));
    }
    m->snapshots = xrealloc(m->snapshots, (m->snapshot_count + 1) * sizeof *m->snapshots);
    m->snapshots[m->snapshot_count++] = *s;
    *s = (struct ice_snapshot){ 0 };
}

static bool is_held(const struct ice_metadata *m, int64_t id) {
    const char *name;
    json_t *ref;
    json_object_foreach(m->refs, name, ref) {
        if (json_integer_value(json_object_get(ref, "snapshot-id")) == id) {
            return true;
        }
    }
    return id == m->current_snapshot_id;
}

static bool is_among(const int64_t *ids, uint32_t count, int64_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* The log must begin after the last entry whose snapshot is gone: it would otherwise say that the
 * one before was current for longer than it was. */
static void cut_log(struct ice_metadata *m) {
    size_t keep_from = 0;
    for (size_t i = 0; i < json_array_size(m->snapshot_log); i++) {
        const json_t *id = json_object_get(json_array_get(m->snapshot_log, i), "snapshot-id");
        if (!ice_metadata_snapshot(m, json_integer_value(id))) {
            keep_from = i + 1;
        }
    }
    json_t *log = made(json_array());
    for (size_t i = keep_from; i < json_array_size(m->snapshot_log); i++) {
        int got = json_array_append(log, json_array_get(m->snapshot_log, i));
        CHECK(got == 0);
    }
    json_decref(m->snapshot_log);
    m->snapshot_log = log;
}

uint32_t ice_metadata_expire(struct ice_metadata *m, const int64_t *ids, uint32_t count,
                             struct buf *gone) {
    uint32_t kept = 0;
    uint32_t before = m->snapshot_count;
    for (uint32_t i = 0; i < before; i++) {
        struct ice_snapshot *s = &m->snapshots[i];
        if (!is_among(ids, count, s->id) || is_held(m, s->id)) {
            m->snapshots[kept++] = *s;
            continue;
        }
        if (gone) {
            buf_put(gone, s->manifest_list, strlen(s->manifest_list) + 1);
        }
        free(s->manifest_list);
        json_decref(s->summary);
        json_decref(s->others);
    }
    m->snapshot_count = kept;
    if (kept < before) {
        cut_log(m);
    }
    return before - kept;
}

void ice_metadata_log(struct ice_metadata *m, const char *previous_file, int64_t previous_ms,
                      uint32_t keep, struct buf *gone) {
    json_t *entry = made(json_pack("{s:I,s:s}", "timestamp-ms", (json_int_t)previous_ms,
                                   "metadata-file", previous_file));
    int got = json_array_append_new(m->metadata_log, entry);
    CHECK(got == 0);
    while (json_array_size(m->metadata_log) > keep) {
        const char *file =
            json_string_value(json_object_get(json_array_get(m->metadata_log, 0), "metadata-file"));
        if (gone && file) {
            buf_put(gone, file, strlen(file) + 1);
        }
        got = json_array_remove(m->metadata_log, 0);
        CHECK(got == 0);
    }
}
