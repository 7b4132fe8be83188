/* Writes small Iceberg tables with tailrace's own writers, without a source and without an engine,
 * for independent readers to judge: lake_table make FOLDER [LEFT_OUT] makes FOLDER/catalog.db and,
 * in namespace "shop", the tables plain, parted and dated, each of them in format 2 and 3
 * (plain_v2,
 * ...), without the column LEFT_OUT for a reader that cannot have it. Each has three commits: rows
 * 0..499; a schema change (int widened, a column added, one dropped) and rows 500..999; deletes of
 * every row whose id ends in 3. What the rows are is written down once more, in Python, in
 * judge.py. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_manifest.h"
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/iceberg/ice_position_deletes.h"
#include "sinks/iceberg/ice_puffin.h"
#include "sinks/objects/store.h"

enum { ROWS_PART = 500, DATA_FILES_MAX = 512 };

static struct err err = { .kind = ERR_NONE };

static void must(bool held, const char *what) {
    if (!held) {
        fprintf(stderr, "lake_table: %s: %s: %s\n", what, err.code, err.text);
        exit(1);
    }
}

/* ---- the source's schema ---- */

struct sketch {
    const char *name;
    struct type type;
    bool key;
};
static const struct sketch before[] = {
    { "id", { TYPE_INT32, 0, 0, 0 }, true },
    { "flag", { TYPE_BOOL, 0, 0, 0 }, false },
    { "big", { TYPE_INT64, 0, 0, 0 }, false },
    { "f", { TYPE_FLOAT32, 0, 0, 0 }, false },
    { "d", { TYPE_FLOAT64, 0, 0, 0 }, false },
    { "dec9", { TYPE_DECIMAL, 0, 9, 2 }, false },
    { "dec18", { TYPE_DECIMAL, 0, 18, 4 }, false },
    { "dec38", { TYPE_DECIMAL, 0, 38, 10 }, false },
    { "day", { TYPE_DATE, 0, 0, 0 }, false },
    { "tm", { TYPE_TIME, 0, 0, 0 }, false },
    { "ts", { TYPE_TIMESTAMP, 0, 0, 0 }, false },
    { "tz", { TYPE_TIMESTAMPTZ, 0, 0, 0 }, false },
    { "na me", { TYPE_TEXT, 0, 0, 0 }, false },
    { "bin", { TYPE_BYTES, 0, 0, 0 }, false },
    { "uid", { TYPE_UUID, 0, 0, 0 }, false },
    { "tags", { TYPE_ARRAY, TYPE_INT32, 0, 0 }, false },
};
#define COLUMNS ARRAY_COUNT(before)

static const char *left_out = ""; /* a column that the tables do not have */

static struct schema *draw(bool later) {
    uint16_t count = (uint16_t)(COLUMNS - (*left_out != '\0'));
    struct schema *s = schema_new(7, "shop", "t", count);
    uint16_t n = 0;
    for (size_t i = 0; i < COLUMNS; i++) {
        if ((later && strcmp(before[i].name, "big") == 0) ||
            strcmp(before[i].name, left_out) == 0) {
            continue;
        }
        s->columns[n] = (struct column_def){ .name = arena_strdup(&s->arena, before[i].name),
                                             .type = before[i].type,
                                             .source_type = "drawn",
                                             .nullable = !before[i].key,
                                             .key_pos = before[i].key ? 0 : -1 };
        if (later && n == 0) {
            s->columns[0].type.kind = TYPE_INT64;
        }
        n++;
    }
    if (later) {
        s->columns[n] = (struct column_def){ .name = "note",
                                             .type = { TYPE_TEXT, 0, 0, 0 },
                                             .source_type = "text",
                                             .nullable = true,
                                             .key_pos = -1 };
        n++;
    }
    CHECK(n == count);
    schema_finish(s);
    return s;
}

/* ---- rows ---- */

/* One lake column being filled. */
struct filled {
    struct lake_column column;
    struct lake_column elements;
    uint8_t *valid;
    uint8_t *element_valid;
    uint32_t *offsets;
    struct buf data;
};

static void put_big(struct buf *out, uint64_t v) {
    for (int shift = 56; shift >= 0; shift -= 8) {
        buf_putc(out, (char)(v >> shift));
    }
}

static void put_text(struct buf *out, int64_t i) {
    buf_putf(out, "name-%" PRId64 "-", i);
    for (int64_t k = 0; k < i % 5; k++) {
        buf_puts(out, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    }
}

/* The cell of row i in the column that the table had first as number c (COLUMNS = note). Long
 * because it is a table. */
static void put_cell(struct filled *f, size_t c, int64_t i, bool later) {
    struct buf *out = &f->data;
    int64_t v = 0;
    float f32;
    double f64;
    switch (c) {
    case 0:
        v = i;
        buf_put(out, &v, later ? 8 : 4);
        break;
    case 1:
        buf_putc(out, i % 3 == 0);
        break;
    case 2:
        v = (i - 500) * INT64_C(1000000007) * 1000003;
        buf_put(out, &v, 8);
        break;
    case 3:
        f32 = i % 11 == 5 ? __builtin_nanf("") : i == 0 ? -0.0f : (float)i / 4;
        buf_put(out, &f32, 4);
        break;
    case 4:
        f64 = i % 13 == 6 ? -__builtin_inf() : (double)i / 2;
        buf_put(out, &f64, 8);
        break;
    case 5:
        v = (i - 500) * 12345;
        buf_put(out, &v, 8);
        break;
    case 6:
        v = (i - 500) * INT64_C(100000000000000) + 7;
        buf_put(out, &v, 8);
        break;
    case 7: {
        __extension__ __int128 wide = 1;
        for (int k = 0; k < 33; k++) {
            wide *= 10;
        }
        wide = wide * (i - 500) + 3;
        buf_put(out, &wide, 16);
        break;
    }
    case 8: {
        int32_t days = (int32_t)(i * 37 - 10000);
        buf_put(out, &days, 4);
        break;
    }
    case 9:
        v = i * 86399999;
        buf_put(out, &v, 8);
        break;
    case 10:
    case 11:
        v = (i - 300) * INT64_C(43200123456) + (int64_t)(c - 10);
        buf_put(out, &v, 8);
        break;
    case 12:
        put_text(out, i);
        break;
    case 13:
        for (int64_t k = 0; k < i % 20; k++) {
            buf_putc(out, (char)(i * 31 + k));
        }
        break;
    case 14:
        put_big(out, (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15));
        put_big(out, (uint64_t)i * UINT64_C(0xD1B54A32D192ED03));
        break;
    case 15:
        for (int64_t k = 0; k < i % 4; k++) {
            int32_t e = (int32_t)(i + k);
            if (e % 6 != 0) {
                bit_set(f->element_valid, f->elements.rows);
            }
            f->elements.rows++;
            buf_put(out, &e, 4);
        }
        break;
    default:
        buf_putf(out, "n%" PRId64, i);
        break;
    }
}

static const uint8_t widths[] = { 0, 1, 8, 4, 8, 8, 8, 16, 4, 8, 8, 8, 0, 0, 16, 0, 0 };

static void fill(struct filled *f, size_t c, const int64_t *ids, uint32_t count, bool later,
                 const struct lake_type *type) {
    static const uint8_t zeros[16];
    *f = (struct filled){ 0 };
    buf_init(&f->data, SIZE_MAX);
    f->valid = xcalloc(count / 8 + 1, 1);
    f->element_valid = xcalloc(count, 1);
    f->offsets = xcalloc(count + 1, sizeof *f->offsets);
    uint32_t width = c == 0 ? (later ? 8 : 4) : widths[c];
    for (uint32_t row = 0; row < count; row++) {
        bool gone = c == 2 && later; /* the source has dropped it */
        if (c == 0 || (!gone && (ids[row] + (int64_t)c) % 9 != 0)) {
            bit_set(f->valid, row);
            put_cell(f, c, ids[row], later);
        } else {
            buf_put(&f->data, zeros, width);
        }
        f->offsets[row + 1] = c == 15 ? f->elements.rows : (uint32_t)f->data.len;
    }
    const uint8_t *data = f->data.data ? (const uint8_t *)f->data.data : zeros;
    f->column = (struct lake_column){ .type = *type,
                                      .rows = count,
                                      .width = width,
                                      .valid = c == 0 ? NULL : f->valid,
                                      .data = data,
                                      .offsets = width ? NULL : f->offsets };
    if (c == 15) {
        f->elements.type = (struct lake_type){ .kind = type->element };
        f->elements.width = 4;
        f->elements.valid = f->element_valid;
        f->elements.data = data;
        f->column.elements = &f->elements;
    }
}

static void empty(struct filled *f) {
    free(f->valid);
    free(f->element_valid);
    free(f->offsets);
    buf_release(&f->data);
}

/* ---- a table ---- */

struct table {
    struct store *store;
    struct store_folders folders;
    const char *name;
    int version;
    struct ice_metadata meta;
    char *location; /* of the metadata file; NULL at first */
    struct arena arena;
    struct ice_entry live[DATA_FILES_MAX]; /* data files */
    int64_t *rows[DATA_FILES_MAX];         /* their rows' ids */
    int32_t specs[DATA_FILES_MAX];         /* their partition specs */
    uint32_t live_count;
    struct ice_manifest_file manifests[16];
    uint32_t manifest_count;
    uint32_t files; /* names given */
    int64_t total_rows;
};

static const char *url_of(struct table *t, const char *key) {
    struct buf url;
    buf_init(&url, SIZE_MAX);
    store_put_url(&url, t->store, key);
    const char *copy = arena_strdup(&t->arena, buf_cstr(&url));
    buf_release(&url);
    return copy;
}

static int write_upload(void *arg, const void *p, size_t n, struct err *e) {
    return store_write(arg, p, n, e);
}

static void write_data_file(struct table *t, const struct ice_schema *schema,
                            const struct ice_spec *spec, const struct ice_partition *partition,
                            const int64_t *ids, uint32_t count, bool later) {
    struct filled filled[COLUMNS + 1];
    struct lake_column columns[COLUMNS + 1];
    struct parquet_field fields[COLUMNS + 1];
    for (uint32_t i = 0; i < schema->field_count; i++) {
        size_t c = COLUMNS; /* note */
        for (size_t k = 0; k < COLUMNS; k++) {
            c = strcmp(schema->fields[i].name, before[k].name) == 0 ? k : c;
        }
        fill(&filled[i], c, ids, count, later, &schema->fields[i].type);
        columns[i] = filled[i].column;
        fields[i] = (struct parquet_field){ .name = schema->fields[i].name,
                                            .type = schema->fields[i].type,
                                            .field_id = schema->fields[i].id,
                                            .element_id = schema->fields[i].element_id,
                                            .required = schema->fields[i].required };
    }
    struct buf key;
    buf_init(&key, SIZE_MAX);
    buf_putf(&key, "shop/%s/data/", t->name);
    ice_partition_put_path(&key, spec, partition);
    buf_putf(&key, "%sfile-%u.parquet", spec->field_count ? "/" : "", t->files++);
    struct store_upload *upload;
    must(store_create(t->store, buf_cstr(&key), &upload, &err) == 0, "create a data file");
    struct parquet_options options = { .codec = PARQUET_ZSTD,
                                       .level = 1,
                                       .profile = PARQUET_COMPATIBLE };
    struct parquet_writer *w = parquet_writer_new(fields, schema->field_count, &options,
                                                  (struct parquet_output){ write_upload, upload });
    struct parquet_info info;
    uint64_t size;
    must(parquet_writer_add(w, columns, count, &err) == 0, "add rows");
    must(parquet_writer_finish(w, &info, &err) == 0, "finish a data file");
    must(store_finish(upload, &t->folders, &size, &err) == 0 && size == info.bytes,
         "store a data file");
    parquet_writer_free(w);
    struct ice_entry *e = &t->live[t->live_count];
    *e = (struct ice_entry){ ICE_ADDED, -1, -1, -1, { .content = ICE_DATA } };
    e->file.path = url_of(t, buf_cstr(&key));
    e->file.sort_order_id = 0;
    e->file.first_row_id = -1;
    e->file.content_offset = -1;
    e->file.content_bytes = -1;
    ice_partition_copy(&e->file.partition, partition);
    ice_file_set_metrics(&e->file, &t->arena, schema, &info);
    t->specs[t->live_count] = spec->id;
    t->rows[t->live_count++] = arena_copy(&t->arena, ids, count * sizeof *ids);
    parquet_info_release(&info);
    buf_release(&key);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        empty(&filled[i]);
    }
}

/* Rows from..from+499, by partition. */
static void write_rows(struct table *t, int64_t from, bool later) {
    const struct ice_schema *schema = ice_metadata_schema(&t->meta, t->meta.current_schema_id);
    const struct ice_spec *spec = ice_metadata_spec(&t->meta, t->meta.default_spec_id);
    int64_t ids[ROWS_PART];
    uint32_t groups[ROWS_PART];
    struct filled filled[COLUMNS + 1];
    struct lake_column columns[COLUMNS + 1];
    for (uint32_t i = 0; i < ROWS_PART; i++) {
        ids[i] = from + i;
    }
    for (uint32_t i = 0; i < schema->field_count; i++) {
        size_t c = COLUMNS;
        for (size_t k = 0; k < COLUMNS; k++) {
            c = strcmp(schema->fields[i].name, before[k].name) == 0 ? k : c;
        }
        fill(&filled[i], c, ids, ROWS_PART, later, &schema->fields[i].type);
        columns[i] = filled[i].column;
    }
    struct ice_router *router = ice_router_new(spec, schema);
    ice_router_route(router, columns, ROWS_PART, groups);
    for (uint32_t g = 0; g < ice_router_count(router); g++) {
        int64_t of_group[ROWS_PART];
        uint32_t count = 0;
        for (uint32_t i = 0; i < ROWS_PART; i++) {
            if (groups[i] == g) {
                of_group[count++] = ids[i];
            }
        }
        write_data_file(t, schema, spec, ice_router_partition(router, g), of_group, count, later);
    }
    ice_router_free(router);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        empty(&filled[i]);
    }
}

static void put_manifest(struct table *t, const struct ice_entry *entries, uint32_t count,
                         enum ice_content content, int32_t spec_id, int64_t snapshot_id) {
    struct ice_manifest_head head = { t->version, content,
                                      ice_metadata_schema(&t->meta, t->meta.current_schema_id),
                                      ice_metadata_spec(&t->meta, spec_id) };
    struct ice_manifest_writer *w = ice_manifest_writer_new(&head);
    for (uint32_t i = 0; i < count; i++) {
        ice_manifest_put(w, &entries[i]);
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    struct ice_manifest_file *row = &t->manifests[t->manifest_count++];
    ice_manifest_finish(w, t->meta.last_sequence + 1, &out, &t->arena, row);
    ice_manifest_writer_free(w);
    char key[128];
    snprintf(key, sizeof key, "shop/%s/metadata/m%u.avro", t->name, t->files++);
    must(store_put(t->store, key, out.data, out.len, &t->folders, &err) == 0, "put a manifest");
    row->path = url_of(t, key);
    row->sequence = t->meta.last_sequence + 1;
    row->added_snapshot_id = snapshot_id;
    buf_release(&out);
}

/* The snapshot, its manifest list, the metadata file, and the catalog's transaction. */
static void commit(struct table *t, struct ice_catalog *catalog, const char *operation,
                   int64_t snapshot_id) {
    int64_t added = 0;
    for (uint32_t i = 0; i < t->manifest_count && t->version == 3; i++) {
        struct ice_manifest_file *m = &t->manifests[i];
        if (m->content == ICE_DATA && m->first_row_id < 0) {
            m->first_row_id = t->meta.next_row_id + added;
            added += m->added_rows + m->existing_rows;
        }
    }
    struct ice_list_head head = { t->version, snapshot_id, t->meta.current_snapshot_id,
                                  t->meta.last_sequence + 1, t->meta.next_row_id };
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_list_write(&out, &head, t->manifests, t->manifest_count);
    char key[128];
    snprintf(key, sizeof key, "shop/%s/metadata/snap-%" PRId64 "-1.avro", t->name, snapshot_id);
    must(store_put(t->store, key, out.data, out.len, &t->folders, &err) == 0,
         "put a manifest list");
    char total[24];
    snprintf(total, sizeof total, "%" PRId64, t->total_rows);
    struct ice_snapshot s = { .id = snapshot_id,
                              .parent_id = t->meta.current_snapshot_id,
                              .sequence = t->meta.last_sequence + 1,
                              .timestamp_ms = 1700000000000 + snapshot_id,
                              .manifest_list = xstrdup(url_of(t, key)),
                              .schema_id = t->meta.current_schema_id,
                              .first_row_id = t->version == 3 ? t->meta.next_row_id : -1,
                              .added_rows = t->version == 3 ? added : -1,
                              .summary = json_pack("{s:s,s:s}", "operation", operation,
                                                   "total-records", total) };
    ice_metadata_add_snapshot(&t->meta, &s);
    if (t->location) {
        ice_metadata_log(&t->meta, t->location, t->meta.last_updated_ms, 20, NULL);
    }
    buf_clear(&out);
    ice_metadata_put(&out, &t->meta);
    snprintf(key, sizeof key,
             "shop/%s/metadata/%05" PRId64 "-5a0e5a0e-0000-4000-8000-000000000000.metadata.json",
             t->name, t->meta.last_sequence - 1);
    must(store_put(t->store, key, out.data, out.len, &t->folders, &err) == 0, "put metadata");
    must(store_settle(t->store, &t->folders, &err) == 0, "settle");
    struct ice_job_row job;
    must(ice_catalog_claim(catalog, t->name, &job, &err) == 0, "claim");
    struct ice_catalog_change change = {
        .space = "shop", .name = t->name, .from = t->location, .to = url_of(t, key)
    };
    struct ice_catalog_commit req = { .job = t->name,
                                      .epoch = job.epoch,
                                      .seq = job.seq + 1,
                                      .from = job.position,
                                      .to = operation,
                                      .schemas = "[]",
                                      .commit_id = key,
                                      .changes = &change,
                                      .change_count = 1 };
    uint32_t conflict;
    must(ice_catalog_commit(catalog, &req, &conflict, NULL, NULL, &err) == COMMITTED, "commit");
    ice_job_row_release(&job);
    free(t->location);
    t->location = xstrdup(change.to);
    buf_release(&out);
}

static void add_position_deletes(struct table *t, uint32_t i, struct ice_bitmap *b,
                                 struct ice_entry *e) {
    char key[128];
    snprintf(key, sizeof key, "shop/%s/data/file-%u-deletes.parquet", t->name, t->files++);
    struct store_upload *upload;
    struct parquet_info info;
    uint64_t size;
    struct parquet_options options = { .codec = PARQUET_ZSTD, .level = 1 };
    must(store_create(t->store, key, &upload, &err) == 0, "create a delete file");
    must(ice_position_deletes_write(b, t->live[i].file.path, &options,
                                    (struct parquet_output){ write_upload, upload }, &info,
                                    &err) == 0,
         "write a delete file");
    must(store_finish(upload, &t->folders, &size, &err) == 0, "store a delete file");
    e->file.format = ICE_PARQUET;
    e->file.path = url_of(t, key);
    e->file.bytes = (int64_t)info.bytes;
    uint32_t len = (uint32_t)strlen(e->file.referenced);
    struct ice_metric metric = { .field_id = ICE_FIELD_FILE_PATH,
                                 .bytes = -1,
                                 .values = -1,
                                 .nulls = -1,
                                 .nans = -1,
                                 .lower = (const uint8_t *)e->file.referenced,
                                 .upper = (const uint8_t *)e->file.referenced,
                                 .lower_len = len,
                                 .upper_len = len };
    e->file.metrics = arena_copy(&t->arena, &metric, sizeof metric);
    e->file.metric_count = 1; /* as ice_prepare_deletes.c has it: some readers look only here */
    parquet_info_release(&info);
}

/* Of the data files of one spec: a manifest is of one spec, and a delete has its data file's. */
static void delete_rows(struct table *t, int32_t spec_id, int64_t snapshot_id) {
    struct ice_entry entries[DATA_FILES_MAX];
    uint32_t count = 0;
    char key[128];
    snprintf(key, sizeof key, "shop/%s/data/file-%u-deletes.puffin", t->name, t->files++);
    struct ice_puffin *puffin = ice_puffin_new();
    for (uint32_t i = 0; i < t->live_count; i++) {
        if (t->specs[i] != spec_id) {
            continue;
        }
        struct ice_bitmap *b = ice_bitmap_new();
        for (int64_t pos = 0; pos < t->live[i].file.rows; pos++) {
            if (t->rows[i][pos] % 10 == 3) {
                ice_bitmap_add(b, (uint64_t)pos);
            }
        }
        if (ice_bitmap_count(b) > 0) {
            struct ice_entry *e = &entries[count++];
            *e = (struct ice_entry){ ICE_ADDED, -1, -1, -1, { .content = ICE_POSITION_DELETES } };
            e->file.partition = t->live[i].file.partition;
            e->file.rows = (int64_t)ice_bitmap_count(b);
            e->file.sort_order_id = -1;
            e->file.first_row_id = -1;
            e->file.content_offset = -1;
            e->file.content_bytes = -1;
            e->file.referenced = t->live[i].file.path;
            if (t->version == 2) {
                add_position_deletes(t, i, b, e);
            } else {
                e->file.format = ICE_PUFFIN;
                e->file.path = url_of(t, key);
                ice_puffin_add(puffin, b, t->live[i].file.path, &e->file.content_offset,
                               &e->file.content_bytes);
            }
        }
        ice_bitmap_free(b);
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_puffin_finish(puffin, &out);
    for (uint32_t i = 0; i < count && t->version == 3; i++) {
        entries[i].file.bytes = (int64_t)out.len;
    }
    if (t->version == 3) {
        must(store_put(t->store, key, out.data, out.len, &t->folders, &err) == 0,
             "put a puffin file");
    }
    ice_puffin_free(puffin);
    buf_release(&out);
    put_manifest(t, entries, count, ICE_POSITION_DELETES, spec_id, snapshot_id);
}

static void make_table(struct store *store, struct ice_catalog *catalog, const char *name,
                       int version, const char *partition) {
    struct table *t = xcalloc(1, sizeof *t);
    *t = (struct table){ .store = store, .name = name, .version = version };
    arena_init(&t->arena);
    struct ice_schema_rules rules = { 0 };
    struct schema *first = draw(false);
    struct schema *second = draw(true);
    struct ice_schema schema;
    struct ice_spec spec;
    int32_t last_id;
    must(ice_schema_first(&schema, first, &rules, &last_id, &err) == 0, "schema");
    must(ice_spec_parse(partition, &schema, true, &spec, &err) == 0, "spec");
    char key[64];
    char uuid[40];
    snprintf(key, sizeof key, "shop/%s", name);
    snprintf(uuid, sizeof uuid, "11111111-2222-4333-8444-%012u",
             (unsigned)strlen(name) * 10 + (unsigned)version);
    ice_metadata_first(&t->meta, version, uuid, url_of(t, key), 1700000000000, &schema, last_id,
                       &spec);
    ice_metadata_set_property(&t->meta, "write.parquet.compression-codec", "zstd");

    write_rows(t, 0, false);
    put_manifest(t, t->live, t->live_count, ICE_DATA, 0, 1001);
    t->total_rows = 500;
    commit(t, catalog, "append", 1001);

    const struct ice_schema *now = ice_metadata_schema(&t->meta, t->meta.current_schema_id);
    must(ice_schema_follow(now, second, &rules, &t->meta.last_column_id, &schema, &err) ==
             ICE_EVOLVED,
         "follow");
    ice_metadata_add_schema(&t->meta, &schema);
    uint32_t old = t->live_count;
    write_rows(t, 500, true);
    put_manifest(t, t->live + old, t->live_count - old, ICE_DATA, t->meta.default_spec_id, 1002);
    t->total_rows = 1000;
    commit(t, catalog, "append", 1002);

    for (uint32_t i = 0; i < t->meta.spec_count; i++) {
        delete_rows(t, t->meta.specs[i].id, 1003);
    }
    commit(t, catalog, "delete", 1003);

    for (uint32_t i = 0; i < t->live_count; i++) {
        ice_partition_release(&t->live[i].file.partition);
    }
    printf("%s %s\n", name, t->location);
    free(t->location);
    ice_metadata_release(&t->meta);
    store_folders_release(&t->folders);
    arena_release(&t->arena);
    schema_unref(first);
    schema_unref(second);
    free(t);
}

/* ---- reading back ---- */

struct seen {
    int64_t rows, dead;
    uint32_t data_files, delete_files, metrics;
};

static int count_entry(void *arg, const struct ice_entry *e, struct err *unused) {
    struct seen *seen = arg;
    (void)unused;
    if (e->status == ICE_DELETED) {
        return 0;
    }
    if (e->file.content == ICE_DATA) {
        seen->rows += e->file.rows;
        seen->data_files++;
        seen->metrics += e->file.metric_count;
    } else {
        seen->dead += e->file.rows;
        seen->delete_files++;
    }
    return 0;
}

static void get(struct store *store, const char *url, struct buf *out) {
    const char *key = store_key_of(store, url);
    must(key != NULL, url);
    buf_clear(out);
    must(store_get(store, key, out, &err) == FILES_OK, url);
}

/* What our readers see of a table, as JSON. */
static void show(struct store *store, const char *url) {
    struct buf text;
    struct buf file;
    struct arena arena;
    struct ice_metadata meta;
    struct ice_manifest_file *manifests;
    struct seen seen = { 0 };
    uint32_t count = 0;
    buf_init(&text, 64u << 20);
    buf_init(&file, 64u << 20);
    arena_init(&arena);
    get(store, url, &text);
    must(ice_metadata_parse(text.data, text.len, &meta, &err) == 0, "parse metadata");
    const struct ice_snapshot *s = ice_metadata_snapshot(&meta, meta.current_snapshot_id);
    must(s != NULL, "a current snapshot");
    get(store, s->manifest_list, &text);
    must(ice_list_read(text.data, text.len, &arena, &manifests, &count, &err) == 0,
         "read the list");
    for (uint32_t i = 0; i < count; i++) {
        get(store, manifests[i].path, &file);
        must(ice_manifest_read(file.data, file.len, &manifests[i],
                               ice_metadata_spec(&meta, manifests[i].spec_id), &arena, count_entry,
                               &seen, &err) == 0,
             "read a manifest");
    }
    printf("{\"rows\":%" PRId64 ",\"dead\":%" PRId64
           ",\"data_files\":%u,\"delete_files\":%u,\"metrics\":%u}\n",
           seen.rows, seen.dead, seen.data_files, seen.delete_files, seen.metrics);
    ice_metadata_release(&meta);
    arena_release(&arena);
    buf_release(&text);
    buf_release(&file);
}

int main(int argc, char **argv) {
    bool make = (argc == 3 || argc == 4) && strcmp(argv[1], "make") == 0;
    if (!make && (argc != 4 || strcmp(argv[1], "show") != 0)) {
        fprintf(stderr, "usage: lake_table make FOLDER [LEFT_OUT] | show FOLDER METADATA_URL "
                        "(FOLDER: absolute, existing)\n");
        return 2;
    }
    left_out = make && argc == 4 ? argv[3] : "";
    struct store *store = store_of_folder(files_os(), argv[2]);
    if (!make) {
        show(store, argv[3]);
        store_free(store);
        return 0;
    }
    struct ice_catalog *catalog;
    must(ice_catalog_open(files_os(), argv[2], true, &catalog, &err) == FILES_OK,
         "open the catalog");
    make_table(store, catalog, "plain_v2", 2, "");
    make_table(store, catalog, "plain_v3", 3, "");
    make_table(store, catalog, "parted_v2", 2,
               "bucket(3,id),truncate(5,\"na me\"),truncate(4000000,dec9)");
    make_table(store, catalog, "parted_v3", 3, "bucket(3,dec38),flag,truncate(300,id)");
    make_table(store, catalog, "dated_v2", 2, "month(ts)");
    make_table(store, catalog, "dated_v3", 3, "year(tz),bucket(2,big)");
    ice_catalog_close(catalog);
    store_free(store);
    return 0;
}
