/* Manifests and manifest lists from anywhere. The first byte says what the rest is: a whole file
 * (manifest or list), the records of a block under our own schema, or a schema, a line feed, and
 * records under it. What is read as a manifest can be written, and read again as the same. */
#include <stdlib.h>

#include "cdc/base/map.h"
#include "sinks/iceberg/ice_avro.h"
#include "sinks/iceberg/ice_manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_field(struct ice_spec *spec, const char *name, enum ice_transform transform,
                      enum lake_kind kind) {
    struct ice_part_field *f = &spec->fields[spec->field_count];
    *f = (struct ice_part_field){ .source_id = 1,
                                  .field_id = 1000 + (int32_t)spec->field_count,
                                  .transform = transform,
                                  .parameter = 4,
                                  .name = name };
    f->result = (struct lake_type){ .kind = kind, .precision = kind == LAKE_DECIMAL ? 20 : 0 };
    f->source = f->result;
    spec->field_count++;
}

static void add_fields(struct ice_spec *spec) {
    add_field(spec, "bucket", ICE_BUCKET, LAKE_INT);
    add_field(spec, "text", ICE_IDENTITY, LAKE_STRING);
    add_field(spec, "decimal", ICE_TRUNCATE, LAKE_DECIMAL);
    add_field(spec, "day", ICE_DAY, LAKE_DATE);
    add_field(spec, "flag", ICE_IDENTITY, LAKE_BOOL);
    add_field(spec, "at", ICE_IDENTITY, LAKE_TIMESTAMP);
    add_field(spec, "gone", ICE_VOID, LAKE_LONG);
}

/* A container of one block without codec. */
static void wrap(struct buf *out, const char *schema, size_t schema_len, const uint8_t *records,
                 size_t len) {
    static const char sync[16] = "0123456789abcde";
    buf_put(out, "Obj\x01", 4);
    ice_avro_put_long(out, 1);
    ice_avro_put_bytes(out, "avro.schema", 11);
    ice_avro_put_bytes(out, schema, schema_len);
    buf_putc(out, 0);
    buf_put(out, sync, 16);
    ice_avro_put_long(out, 1 + (int64_t)len / 64);
    ice_avro_put_bytes(out, records, len);
    buf_put(out, sync, 16);
}

/* The schema that our own writer puts into such a file. */
static void wrap_ours(struct buf *out, bool list, int version, const struct ice_schema *schema,
                      const struct ice_spec *spec, const uint8_t *records, size_t len) {
    struct buf ours;
    struct arena arena;
    struct ice_manifest_file row;
    struct ice_avro_reader r;
    struct err err = ERR_INIT;
    buf_init(&ours, SIZE_MAX);
    arena_init(&arena);
    if (list) {
        struct ice_list_head head = { version, 1, -1, 1, 0 };
        ice_list_write(&ours, &head, NULL, 0);
    } else {
        struct ice_manifest_head head = { version, ICE_DATA, schema, spec };
        struct ice_manifest_writer *w = ice_manifest_writer_new(&head);
        ice_manifest_finish(w, 1, &ours, &arena, &row);
        ice_manifest_writer_free(w);
    }
    CHECK(ice_avro_open(&r, ours.data, ours.len, &err) == 0);
    size_t schema_len;
    const char *text = ice_avro_header(&r, "avro.schema", &schema_len);
    wrap(out, text, schema_len, records, len);
    ice_avro_close(&r);
    arena_release(&arena);
    buf_release(&ours);
}

struct again {
    struct ice_manifest_writer *writer;
    uint32_t entries;
    uint64_t hash;
};

static int note(void *arg, const struct ice_entry *e, struct err *err) {
    struct again *a = arg;
    (void)err;
    a->entries++;
    a->hash = hash_bytes(e->file.path, strlen(e->file.path),
                         a->hash + e->file.metric_count + (uint64_t)e->file.rows);
    if (a->writer) {
        ice_manifest_put(a->writer, e);
    }
    return 0;
}

static void read_manifest(const void *p, size_t n, int version, const struct ice_schema *schema,
                          const struct ice_spec *spec) {
    struct ice_manifest_file row = { .content = ICE_DATA,
                                     .sequence = 5,
                                     .added_snapshot_id = 6,
                                     .first_row_id = version == 3 ? 7 : -1 };
    struct ice_manifest_head head = { version, ICE_DATA, schema, spec };
    struct again first = { .writer = ice_manifest_writer_new(&head) };
    struct again second = { NULL, 0, 0 };
    struct arena arena;
    struct err err = ERR_INIT;
    arena_init(&arena);
    if (ice_manifest_read(p, n, &row, spec, &arena, note, &first, &err) == 0) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        struct ice_manifest_file list;
        ice_manifest_finish(first.writer, 5, &out, &arena, &list);
        CHECK(ice_manifest_read(out.data, out.len, &row, spec, &arena, note, &second, &err) == 0);
        CHECK(first.entries == second.entries && first.hash == second.hash);
        buf_release(&out);
    } else {
        CHECK(err.kind == ERR_FATAL && err.code[0] != 0);
    }
    ice_manifest_writer_free(first.writer);
    arena_release(&arena);
}

static void read_list(const void *p, size_t n) {
    struct arena arena;
    struct err err = ERR_INIT;
    struct ice_manifest_file *files;
    uint32_t count;
    arena_init(&arena);
    if (ice_list_read(p, n, &arena, &files, &count, &err) == 0) {
        struct ice_list_head head = { 3, 1, -1, 1, 0 };
        struct ice_manifest_file *back;
        uint32_t back_count;
        struct buf out;
        buf_init(&out, SIZE_MAX);
        ice_list_write(&out, &head, files, count);
        CHECK(ice_list_read(out.data, out.len, &arena, &back, &back_count, &err) == 0 &&
              back_count == count);
        for (uint32_t i = 0; i < count; i++) {
            CHECK(strcmp(files[i].path, back[i].path) == 0 &&
                  files[i].deleted_rows == back[i].deleted_rows);
        }
        buf_release(&out);
    } else {
        CHECK(err.kind == ERR_FATAL && err.code[0] != 0);
    }
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    struct ice_field field = { .id = 1, .name = "id", .type = { .kind = LAKE_LONG } };
    struct ice_schema schema = { .field_count = 1, .fields = &field };
    struct ice_spec spec = { .id = 0 };
    struct buf file;
    buf_init(&file, SIZE_MAX);
    const uint8_t *rest = data + 1;
    size_t len = size - 1;
    int version = data[0] & 1 ? 3 : 2;
    bool list = data[0] & 2;
    const uint8_t *line = memchr(rest, '\n', len);
    add_fields(&spec);
    switch (data[0] >> 2 & 3) {
    case 0:
        buf_put(&file, rest, len);
        break;
    case 1:
        wrap_ours(&file, list, version, &schema, &spec, rest, len);
        break;
    default:
        if (line) {
            wrap(&file, (const char *)rest, (size_t)(line - rest), line + 1,
                 len - (size_t)(line + 1 - rest));
        }
    }
    if (list) {
        read_list(file.data, file.len);
    } else {
        read_manifest(file.data, file.len, version, &schema, &spec);
    }
    buf_release(&file);
    return 0;
}
