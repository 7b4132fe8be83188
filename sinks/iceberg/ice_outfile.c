/* See ice_outfile.h. */
#include "sinks/iceberg/ice_outfile.h"

#include <stdlib.h>

static int write_bytes(void *arg, const void *p, size_t n, struct err *err) {
    return store_write(arg, p, n, err);
}

static struct parquet_writer *writer_for(const struct ice_schema *schema,
                                         const struct parquet_options *options,
                                         struct parquet_output output) {
    struct parquet_field *fields = xcalloc(schema->field_count, sizeof *fields);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct ice_field *f = &schema->fields[i];
        bool key = false;
        for (uint32_t k = 0; k < schema->identifier_count; k++) {
            key = key || schema->identifiers[k] == f->id;
        }
        fields[i] = (struct parquet_field){ .name = f->name,
                                            .type = f->type,
                                            .field_id = f->id,
                                            .element_id = f->element_id,
                                            .required = f->required,
                                            .bloom = key && schema->identifier_count == 1 };
    }
    struct buf json;
    buf_init(&json, SIZE_MAX);
    ice_schema_put_json(&json, schema);
    const char *const extra[] = { "iceberg.schema", buf_cstr(&json), NULL };
    struct parquet_options with_extra = *options;
    with_extra.extra = extra;
    struct parquet_writer *w = parquet_writer_new(fields, schema->field_count, &with_extra, output);
    buf_release(&json);
    free(fields);
    return w;
}

int ice_outfile_open(struct store *store, const char *key, const struct ice_schema *schema,
                     const struct ice_partition *partition, const struct parquet_options *options,
                     struct ice_outfile **out, struct err *err) {
    struct store_upload *upload = NULL;
    if (store_create(store, key, &upload, err)) {
        return -1;
    }
    struct ice_outfile *o = xcalloc(1, sizeof *o);
    o->store = store;
    o->key = xstrdup(key);
    o->upload = upload;
    struct buf url;
    buf_init(&url, SIZE_MAX);
    store_put_url(&url, store, key);
    o->url = xstrdup(buf_cstr(&url));
    buf_release(&url);
    ice_partition_copy(&o->partition, partition);
    o->writer =
        writer_for(schema, options, (struct parquet_output){ .write = write_bytes, .arg = upload });
    *out = o;
    return 0;
}

static void outfile_free(struct ice_outfile *o) {
    parquet_writer_free(o->writer);
    ice_partition_release(&o->partition);
    free(o->key);
    free(o->url);
    free(o);
}

/* The partition's values, in arena. */
static void set_partition(struct ice_file *file, struct arena *arena,
                          const struct ice_partition *p) {
    file->partition = *p;
    file->partition.borrowed = true;
    for (uint32_t i = 0; i < ICE_PARTITION_FIELDS_MAX; i++) {
        if (p->texts[i]) {
            file->partition.texts[i] = arena_copy(arena, p->texts[i], p->text_lens[i]);
        }
    }
}

int ice_outfile_finish(struct ice_outfile *o, const struct ice_schema *schema, struct arena *arena,
                       struct store_folders *folders, struct ice_file *file, struct err *err) {
    struct parquet_info info = { 0 };
    if (parquet_writer_finish(o->writer, &info, err)) {
        ice_outfile_abort(o);
        return -1;
    }
    uint64_t size = 0;
    int rc = store_finish(o->upload, folders, &size, err);
    if (rc == 0) {
        CHECK(size == info.bytes);
        *file = (struct ice_file){ .content = ICE_DATA,
                                   .format = ICE_PARQUET,
                                   .path = arena_strdup(arena, o->url),
                                   .sort_order_id = -1,
                                   .first_row_id = -1,
                                   .content_offset = -1,
                                   .content_bytes = -1 };
        set_partition(file, arena, &o->partition);
        ice_file_set_metrics(file, arena, schema, &info);
    }
    parquet_info_release(&info);
    outfile_free(o);
    return rc;
}

void ice_outfile_abort(struct ice_outfile *o) {
    if (o) {
        store_abort(o->upload);
        outfile_free(o);
    }
}
