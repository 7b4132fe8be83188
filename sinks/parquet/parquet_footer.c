/* FileMetaData: schema, row groups, created_by. See parquet_meta.h.
 *
 * created_by has the form "<application> version <x.y.z> (build <hash>)": readers in Java look it
 * up to know whether statistics of this writer can be trusted, and drop all of them where it has
 * another form. */
#include "sinks/parquet/parquet_meta.h"
#include "sinks/parquet/thrift_put.h"

static const char created_by[] =
    "tailrace version " TAILRACE_VERSION " (build " TAILRACE_VERSION ")";

static void put_unit_micros(struct thrift_put *t, bool utc) {
    thrift_put_bool(t, 1, utc);
    thrift_put_struct(t, 2);
    thrift_put_empty(t, TIME_UNIT_MICROS);
    thrift_put_struct_end(t);
}

static enum parquet_logical logical_of(enum lake_kind kind) {
    switch (kind) {
    case LAKE_DECIMAL:
        return LOGICAL_DECIMAL;
    case LAKE_DATE:
        return LOGICAL_DATE;
    case LAKE_TIME:
        return LOGICAL_TIME;
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        return LOGICAL_TIMESTAMP;
    case LAKE_STRING:
        return LOGICAL_STRING;
    case LAKE_UUID:
        return LOGICAL_UUID;
    default:
        return 0;
    }
}

static void put_logical(struct thrift_put *t, const struct chunk_shape *shape) {
    enum parquet_logical logical = logical_of(shape->kind);
    if (logical == 0) {
        return;
    }
    thrift_put_struct(t, SCHEMA_LOGICAL_TYPE);
    thrift_put_struct(t, (int16_t)logical);
    if (logical == LOGICAL_DECIMAL) {
        thrift_put_i32(t, 1, shape->type.scale);
        thrift_put_i32(t, 2, shape->type.precision);
    } else if (logical == LOGICAL_TIME || logical == LOGICAL_TIMESTAMP) {
        put_unit_micros(t, shape->kind == LAKE_TIMESTAMPTZ);
    }
    thrift_put_struct_end(t);
    thrift_put_struct_end(t);
}

/* ConvertedType, where one says the same: times and timestamps of it are UTC. -1: none. */
static int32_t converted_of(enum lake_kind kind) {
    switch (kind) {
    case LAKE_DECIMAL:
        return CONVERTED_DECIMAL;
    case LAKE_DATE:
        return CONVERTED_DATE;
    case LAKE_TIMESTAMPTZ:
        return CONVERTED_TIMESTAMP_MICROS;
    case LAKE_STRING:
        return CONVERTED_UTF8;
    default:
        return -1;
    }
}

static void put_leaf(struct thrift_put *t, const struct chunk_shape *shape, const char *name,
                     enum parquet_repetition repetition, int32_t id) {
    thrift_put_struct(t, 0);
    thrift_put_i32(t, SCHEMA_TYPE, (int32_t)shape->physical);
    if (shape->physical == PHYSICAL_FIXED) {
        thrift_put_i32(t, SCHEMA_TYPE_LENGTH, (int32_t)shape->width);
    }
    thrift_put_i32(t, SCHEMA_REPETITION, (int32_t)repetition);
    thrift_put_string(t, SCHEMA_NAME, name);
    int32_t converted = converted_of(shape->kind);
    if (converted >= 0) {
        thrift_put_i32(t, SCHEMA_CONVERTED_TYPE, converted);
    }
    if (shape->kind == LAKE_DECIMAL) {
        thrift_put_i32(t, SCHEMA_SCALE, shape->type.scale);
        thrift_put_i32(t, SCHEMA_PRECISION, shape->type.precision);
    }
    if (id != 0) {
        thrift_put_i32(t, SCHEMA_FIELD_ID, id);
    }
    put_logical(t, shape);
    thrift_put_struct_end(t);
}

static void put_list_groups(struct thrift_put *t, const struct meta_field *f,
                            enum parquet_repetition repetition) {
    thrift_put_struct(t, 0);
    thrift_put_i32(t, SCHEMA_REPETITION, (int32_t)repetition);
    thrift_put_string(t, SCHEMA_NAME, f->name);
    thrift_put_i32(t, SCHEMA_NUM_CHILDREN, 1);
    thrift_put_i32(t, SCHEMA_CONVERTED_TYPE, CONVERTED_LIST);
    if (f->field_id != 0) {
        thrift_put_i32(t, SCHEMA_FIELD_ID, f->field_id);
    }
    thrift_put_struct(t, SCHEMA_LOGICAL_TYPE);
    thrift_put_empty(t, LOGICAL_LIST);
    thrift_put_struct_end(t);
    thrift_put_struct_end(t);
    thrift_put_struct(t, 0);
    thrift_put_i32(t, SCHEMA_REPETITION, REPETITION_REPEATED);
    thrift_put_string(t, SCHEMA_NAME, "list");
    thrift_put_i32(t, SCHEMA_NUM_CHILDREN, 1);
    thrift_put_struct_end(t);
}

static void put_schema(struct thrift_put *t, const struct meta_file *file) {
    size_t elements = 1;
    for (uint32_t i = 0; i < file->field_count; i++) {
        elements += file->fields[i].shape->list ? 3 : 1;
    }
    thrift_put_list(t, FILE_META_SCHEMA, THRIFT_STRUCT, elements);
    thrift_put_struct(t, 0);
    thrift_put_string(t, SCHEMA_NAME, "table");
    thrift_put_i32(t, SCHEMA_NUM_CHILDREN, (int32_t)file->field_count);
    thrift_put_struct_end(t);
    for (uint32_t i = 0; i < file->field_count; i++) {
        const struct meta_field *f = &file->fields[i];
        enum parquet_repetition repetition =
            f->shape->required ? REPETITION_REQUIRED : REPETITION_OPTIONAL;
        if (f->shape->list) {
            put_list_groups(t, f, repetition);
            put_leaf(t, f->shape, "element", REPETITION_OPTIONAL, f->element_id);
        } else {
            put_leaf(t, f->shape, f->name, repetition, f->field_id);
        }
    }
}

static void put_column_chunk(struct thrift_put *t, const struct meta_file *file,
                             const struct chunk_meta *m) {
    thrift_put_struct(t, 0);
    thrift_put_i64(t, CHUNK_FILE_OFFSET, 0);
    thrift_put_struct_bytes(t, CHUNK_META_DATA, file->metas->data + m->meta_at, m->meta_len);
    uint64_t offset_indexes = file->index_at + file->column_indexes_len;
    thrift_put_i64(t, CHUNK_OFFSET_INDEX_OFFSET, (int64_t)(offset_indexes + m->offset_index_at));
    thrift_put_i32(t, CHUNK_OFFSET_INDEX_LENGTH, (int32_t)m->offset_index_len);
    if (m->column_index_len > 0) {
        thrift_put_i64(t, CHUNK_COLUMN_INDEX_OFFSET,
                       (int64_t)(file->index_at + m->column_index_at));
        thrift_put_i32(t, CHUNK_COLUMN_INDEX_LENGTH, (int32_t)m->column_index_len);
    }
    thrift_put_struct_end(t);
}

static void put_group(struct thrift_put *t, const struct meta_file *file, uint32_t number) {
    const struct chunk_meta *chunks = file->chunks + (size_t)number * file->field_count;
    uint64_t plain = 0;
    uint64_t stored = 0;
    thrift_put_struct(t, 0);
    thrift_put_list(t, ROW_GROUP_COLUMNS, THRIFT_STRUCT, file->field_count);
    for (uint32_t i = 0; i < file->field_count; i++) {
        put_column_chunk(t, file, &chunks[i]);
        plain += chunks[i].plain_bytes;
        stored += chunks[i].bytes;
    }
    thrift_put_i64(t, ROW_GROUP_TOTAL_BYTE_SIZE, (int64_t)plain);
    thrift_put_i64(t, ROW_GROUP_NUM_ROWS, (int64_t)file->groups[number].rows);
    thrift_put_i64(t, ROW_GROUP_FILE_OFFSET, (int64_t)file->groups[number].at);
    thrift_put_i64(t, ROW_GROUP_TOTAL_COMPRESSED_SIZE, (int64_t)stored);
    if (number <= INT16_MAX) {
        thrift_put_i16(t, ROW_GROUP_ORDINAL, (int16_t)number);
    }
    thrift_put_struct_end(t);
}

static void put_extra(struct thrift_put *t, const char *const *extra) {
    size_t count = 0;
    while (extra && extra[2 * count]) {
        count++;
    }
    if (count == 0) {
        return;
    }
    thrift_put_list(t, FILE_META_KEY_VALUES, THRIFT_STRUCT, count);
    for (size_t i = 0; i < count; i++) {
        thrift_put_struct(t, 0);
        thrift_put_string(t, KEY_VALUE_KEY, extra[2 * i]);
        thrift_put_string(t, KEY_VALUE_VALUE, extra[2 * i + 1]);
        thrift_put_struct_end(t);
    }
}

void meta_put_file(struct buf *out, const struct meta_file *file) {
    struct thrift_put t;
    thrift_put_init(&t, out);
    thrift_put_i32(&t, FILE_META_VERSION, 2);
    put_schema(&t, file);
    thrift_put_i64(&t, FILE_META_NUM_ROWS, (int64_t)file->rows);
    thrift_put_list(&t, FILE_META_ROW_GROUPS, THRIFT_STRUCT, file->group_count);
    for (uint32_t i = 0; i < file->group_count; i++) {
        put_group(&t, file, i);
    }
    put_extra(&t, file->extra);
    thrift_put_string(&t, FILE_META_CREATED_BY, created_by);
    thrift_put_list(&t, FILE_META_COLUMN_ORDERS, THRIFT_STRUCT, file->field_count);
    for (uint32_t i = 0; i < file->field_count; i++) {
        thrift_put_struct(&t, 0);
        thrift_put_empty(&t, 1); /* TYPE_ORDER */
        thrift_put_struct_end(&t);
    }
    thrift_put_end(&t);
}
