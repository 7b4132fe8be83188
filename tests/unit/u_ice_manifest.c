/* Manifests and manifest lists: there and back, inheritance, what is refused, golden bytes, column
 * metrics; every cut and every changed byte of a file is an error or a readable file, never worse.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sinks/iceberg/ice_avro.h"
#include "sinks/iceberg/ice_manifest.h"
#include "tests/unit/u_sink_rows.h"

static const struct ice_schema_rules plain = { 0 };

struct made {
    struct ice_schema schema;
    struct ice_spec spec;
    struct arena arena;
    struct buf file;
    struct ice_manifest_file row;
};

static void make_begin(struct made *m, const char *columns, const char *partition) {
    struct schema *source = rows_schema(1, "t", 1, columns);
    struct err err = ERR_INIT;
    int32_t last;
    EXPECT_EQ_INT(ice_schema_first(&m->schema, source, &plain, &last, &err), 0);
    EXPECT_EQ_INT(ice_spec_parse(partition, &m->schema, true, &m->spec, &err), 0);
    schema_unref(source);
    arena_init(&m->arena);
    buf_init(&m->file, SIZE_MAX);
}

static void make_write(struct made *m, int version, enum ice_content content,
                       const struct ice_entry *entries, uint32_t count, int64_t sequence_now) {
    struct ice_manifest_head head = { version, content, &m->schema, &m->spec };
    struct ice_manifest_writer *w = ice_manifest_writer_new(&head);
    for (uint32_t i = 0; i < count; i++) {
        ice_manifest_put(w, &entries[i]);
    }
    buf_clear(&m->file);
    ice_manifest_finish(w, sequence_now, &m->file, &m->arena, &m->row);
    ice_manifest_writer_free(w);
    m->row.path = "file:///m.avro";
    m->row.sequence = sequence_now;
    m->row.added_snapshot_id = 77;
}

static void make_end(struct made *m) {
    ice_schema_release(&m->schema);
    ice_spec_release(&m->spec);
    arena_release(&m->arena);
    buf_release(&m->file);
}

static struct ice_entry data_entry(const char *path, int64_t rows) {
    return (struct ice_entry){ ICE_ADDED,
                               -1,
                               -1,
                               -1,
                               { .content = ICE_DATA,
                                 .path = path,
                                 .rows = rows,
                                 .bytes = rows * 10,
                                 .sort_order_id = 0,
                                 .first_row_id = -1,
                                 .content_offset = -1,
                                 .content_bytes = -1 } };
}

struct got {
    struct ice_entry entries[8];
    uint32_t count;
};

static int keep(void *arg, const struct ice_entry *e, struct err *err) {
    struct got *got = arg;
    (void)err;
    if (got->count < ARRAY_COUNT(got->entries)) {
        got->entries[got->count] = *e;
    }
    got->count++;
    return 0;
}

static void set_text(struct ice_partition *p, uint32_t i, const char *text) {
    p->texts[i] = xstrdup(text);
    p->text_lens[i] = strlen(text);
}

static void set_cell(struct ice_partition *p, uint32_t i, const void *cell, size_t len) {
    memcpy(p->cells[i], cell, len);
    p->lens[i] = (uint8_t)len;
}

TEST(ice_manifest_comes_back_as_it_was) {
    struct made m;
    make_begin(&m, "id:int64:k;d:decimal(20,2);n:text;ts:timestamp;b:bool",
               "bucket(4,id),d,n,day(ts),b,truncate(2,n)");
    struct ice_metric metrics[] = {
        { 1, 100, 5, 0, -1, (const uint8_t *)"\x01\0\0\0\0\0\0\0",
          (const uint8_t *)"\x09\0\0\0\0\0\0\0", 8, 8 },
        { 3, 50, 5, 2, -1, (const uint8_t *)"", NULL, 0, 0 },
        { 4, 7, -1, -1, 3, NULL, NULL, 0, 0 },
    };
    int64_t splits[] = { 4, 1000 };
    struct ice_entry in[2] = { data_entry("file:///a.parquet", 5),
                               data_entry("file:///b.parquet", 7) };
    in[0].file.metrics = metrics;
    in[0].file.metric_count = 3;
    in[0].file.splits = splits;
    in[0].file.split_count = 2;
    int32_t bucket = 3;
    __extension__ __int128 decimal = -(__int128)12345;
    int32_t day = -1;
    set_cell(&in[0].file.partition, 0, &bucket, 4);
    set_cell(&in[0].file.partition, 1, &decimal, 16);
    set_text(&in[0].file.partition, 2, "caf\xc3\xa9");
    set_cell(&in[0].file.partition, 3, &day, 4);
    set_cell(&in[0].file.partition, 4, "\x01", 1);
    set_text(&in[0].file.partition, 5, "");
    in[1].file.partition.nulls = 0x3f;
    in[1].status = ICE_EXISTING;
    in[1].snapshot_id = 5;
    in[1].sequence = 3;
    in[1].file_sequence = 4;
    make_write(&m, 2, ICE_DATA, in, 2, 9);
    EXPECT_EQ_INT(m.row.bytes, m.file.len);
    EXPECT_EQ_INT(m.row.added_files, 1);
    EXPECT_EQ_INT(m.row.added_rows, 5);
    EXPECT_EQ_INT(m.row.existing_rows, 7);
    EXPECT_EQ_INT(m.row.min_sequence, 3);
    EXPECT_EQ_INT(m.row.summary_count, 6);
    EXPECT_TRUE(m.row.summaries[0].contains_null && m.row.summaries[0].has_bounds);
    EXPECT_EQ_MEM(m.row.summaries[1].lower, m.row.summaries[1].lower_len, "\xcf\xc7",
                  2); /* -12345, fewest bytes */
    EXPECT_EQ_MEM(m.row.summaries[2].upper, m.row.summaries[2].upper_len, "caf\xc3\xa9", 5);
    EXPECT_EQ_INT(m.row.summaries[5].lower_len, 0);

    struct got got = { .count = 0 };
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(
        ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, &got, &err), 0);
    if (!EXPECT_EQ_INT(got.count, 2)) {
        return;
    }
    const struct ice_entry *a = &got.entries[0];
    EXPECT_EQ_STR(a->file.path, "file:///a.parquet");
    EXPECT_TRUE(ice_partition_equal(&m.spec, &a->file.partition, &in[0].file.partition));
    EXPECT_TRUE(
        ice_partition_equal(&m.spec, &got.entries[1].file.partition, &in[1].file.partition));
    EXPECT_EQ_INT(a->sequence, 9);
    EXPECT_EQ_INT(a->file_sequence, 9);
    EXPECT_EQ_INT(a->snapshot_id, 77);
    EXPECT_EQ_INT(got.entries[1].sequence, 3);
    EXPECT_EQ_INT(got.entries[1].snapshot_id, 5);
    EXPECT_EQ_INT(a->file.split_count, 2);
    EXPECT_EQ_INT(a->file.splits[1], 1000);
    EXPECT_EQ_INT(a->file.sort_order_id, 0);
    EXPECT_EQ_INT(a->file.metric_count, 3);
    EXPECT_EQ_INT(a->file.metrics[1].field_id, 3);
    EXPECT_EQ_INT(a->file.metrics[1].nulls, 2);
    EXPECT_TRUE(a->file.metrics[1].lower && a->file.metrics[1].lower_len == 0 &&
                !a->file.metrics[1].upper);
    EXPECT_EQ_INT(a->file.metrics[2].nans, 3);
    EXPECT_EQ_INT(a->file.metrics[2].values, -1);
    EXPECT_EQ_MEM(a->file.metrics[0].upper, 8, "\x09\0\0\0\0\0\0\0", 8);
    /* Written again it is the same file. */
    struct buf first = m.file;
    buf_init(&m.file, SIZE_MAX);
    struct ice_entry again[2] = { got.entries[0], got.entries[1] };
    again[0].snapshot_id = again[0].sequence = again[0].file_sequence = -1;
    make_write(&m, 2, ICE_DATA, again, 2, 9);
    EXPECT_EQ_MEM(m.file.data, m.file.len, first.data, first.len);
    buf_release(&first);
    ice_partition_release(&in[0].file.partition);
    make_end(&m);
}

TEST(ice_manifest_v3_numbers_rows_of_files_that_have_no_numbers) {
    struct made m;
    make_begin(&m, "id:int64:k", "");
    struct ice_entry in[4] = { data_entry("file:///a", 5), data_entry("file:///b", 7),
                               data_entry("file:///c", 9), data_entry("file:///d", 1) };
    in[1].file.first_row_id = 500;
    in[2].status = ICE_DELETED;
    in[2].snapshot_id = in[2].sequence = in[2].file_sequence = 2;
    make_write(&m, 3, ICE_DATA, in, 4, 9);
    EXPECT_EQ_INT(m.row.deleted_files, 1);
    EXPECT_EQ_INT(m.row.min_sequence, 9); /* the deleted one does not count */
    m.row.first_row_id = 100;
    struct got got = { .count = 0 };
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(
        ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, &got, &err), 0);
    EXPECT_EQ_INT(got.entries[0].file.first_row_id, 100);
    EXPECT_EQ_INT(got.entries[1].file.first_row_id, 500);
    EXPECT_EQ_INT(got.entries[2].file.first_row_id, -1);
    EXPECT_EQ_INT(got.entries[3].file.first_row_id, 105);
    make_end(&m);
}

TEST(ice_manifest_of_deletion_vectors_keeps_where_they_are) {
    struct made m;
    make_begin(&m, "id:int64:k", "");
    struct ice_entry in = data_entry("file:///x.puffin", 3);
    in.file.content = ICE_POSITION_DELETES;
    in.file.format = ICE_PUFFIN;
    in.file.sort_order_id = -1;
    in.file.referenced = "file:///a.parquet";
    in.file.content_offset = 4;
    in.file.content_bytes = 46;
    make_write(&m, 3, ICE_POSITION_DELETES, &in, 1, 2);
    m.row.first_row_id = 100; /* delete files get no row numbers whatever the list says */
    struct got got = { .count = 0 };
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(
        ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, &got, &err), 0);
    EXPECT_EQ_INT(got.entries[0].file.format, ICE_PUFFIN);
    EXPECT_EQ_STR(got.entries[0].file.referenced, "file:///a.parquet");
    EXPECT_EQ_INT(got.entries[0].file.content_offset, 4);
    EXPECT_EQ_INT(got.entries[0].file.content_bytes, 46);
    EXPECT_EQ_INT(got.entries[0].file.first_row_id, -1);
    EXPECT_EQ_INT(got.entries[0].file.sort_order_id, -1);
    make_end(&m);
}

TEST(ice_manifest_follows_a_column_that_was_widened) {
    struct made m;
    make_begin(&m, "id:int32:k", "id");
    struct ice_entry in = data_entry("file:///a", 1);
    int32_t narrow = -7;
    int64_t wide = -7;
    set_cell(&in.file.partition, 0, &narrow, 4);
    make_write(&m, 2, ICE_DATA, &in, 1, 1);
    m.schema.fields[0].type.kind = LAKE_LONG;
    ice_spec_retype(&m.spec, &m.schema); /* as add_schema does */
    struct got got = { .count = 0 };
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(
        ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, &got, &err), 0);
    EXPECT_EQ_MEM(got.entries[0].file.partition.cells[0], got.entries[0].file.partition.lens[0],
                  &wide, 8);
    EXPECT_TRUE(ice_partition_equal(&m.spec, &in.file.partition, &got.entries[0].file.partition));
    EXPECT_EQ_U64(ice_partition_hash(&m.spec, &in.file.partition),
                  ice_partition_hash(&m.spec, &got.entries[0].file.partition));
    make_write(&m, 2, ICE_DATA, &in, 1, 1); /* the narrow cell under the wide type */
    EXPECT_EQ_MEM(m.row.summaries[0].lower, m.row.summaries[0].lower_len, &wide, 8);
    make_end(&m);
}

TEST(ice_list_comes_back_as_it_was) {
    struct ice_field_summary summary = {
        true, false, true, (const uint8_t *)"\x01\0\0\0", (const uint8_t *)"", 4, 0
    };
    struct ice_manifest_file in[2] = {
        { .path = "file:///m0.avro",
          .bytes = 5000,
          .spec_id = 1,
          .content = ICE_DATA,
          .sequence = 9,
          .min_sequence = 3,
          .added_snapshot_id = INT64_MAX,
          .added_files = 1,
          .existing_files = 2,
          .deleted_files = 3,
          .added_rows = 4,
          .existing_rows = 5,
          .deleted_rows = 6,
          .summary_count = 1,
          .summaries = &summary,
          .first_row_id = 1000 },
        { .path = "file:///m1.avro",
          .bytes = 1,
          .content = ICE_POSITION_DELETES,
          .sequence = 1,
          .min_sequence = 1,
          .added_snapshot_id = 4,
          .first_row_id = -1 },
    };
    for (int version = 2; version <= 3; version++) {
        struct ice_list_head head = { version, 42, version == 2 ? -1 : 41, 9, 2000 };
        struct buf out;
        struct arena arena;
        struct ice_manifest_file *files;
        uint32_t count;
        struct err err = ERR_INIT;
        buf_init(&out, SIZE_MAX);
        arena_init(&arena);
        ice_list_write(&out, &head, in, 2);
        EXPECT_EQ_INT(ice_list_read(out.data, out.len, &arena, &files, &count, &err), 0);
        if (!EXPECT_EQ_INT(count, 2)) {
            return;
        }
        EXPECT_EQ_STR(files[0].path, in[0].path);
        EXPECT_EQ_INT(files[0].added_snapshot_id, INT64_MAX);
        EXPECT_EQ_INT(files[0].deleted_rows, 6);
        EXPECT_EQ_INT(files[0].first_row_id, version == 3 ? 1000 : -1);
        EXPECT_EQ_INT(files[0].summary_count, 1);
        EXPECT_TRUE(files[0].summaries[0].contains_null && files[0].summaries[0].has_bounds);
        EXPECT_EQ_INT(files[0].summaries[0].upper_len, 0);
        EXPECT_EQ_INT(files[1].content, ICE_POSITION_DELETES);
        EXPECT_EQ_INT(files[1].summary_count, 0);
        struct ice_avro_reader r;
        EXPECT_EQ_INT(ice_avro_open(&r, out.data, out.len, &err), 0);
        EXPECT_EQ_STR(ice_avro_header(&r, "snapshot-id", NULL), "42");
        EXPECT_EQ_STR(ice_avro_header(&r, "parent-snapshot-id", NULL),
                      version == 2 ? "null" : "41");
        EXPECT_EQ_STR(ice_avro_header(&r, "sequence-number", NULL), "9");
        EXPECT_EQ_STR(ice_avro_header(&r, "format-version", NULL), version == 2 ? "2" : "3");
        EXPECT_EQ_STR(ice_avro_header(&r, "first-row-id", NULL), version == 2 ? NULL : "2000");
        ice_avro_close(&r);
        buf_release(&out);
        arena_release(&arena);
    }
}

TEST(ice_list_of_many_manifests_takes_several_blocks) {
    enum { MANY = 5000 };
    struct ice_manifest_file *in = xcalloc(MANY, sizeof *in);
    for (uint32_t i = 0; i < MANY; i++) {
        in[i] = (struct ice_manifest_file){ .path = "file:///warehouse/shop/orders/metadata/m.avro",
                                            .bytes = i,
                                            .sequence = 1,
                                            .min_sequence = 1,
                                            .first_row_id = -1 };
    }
    struct ice_list_head head = { 2, 42, -1, 9, -1 };
    struct buf out;
    struct arena arena;
    struct ice_manifest_file *files;
    uint32_t count;
    struct err err = ERR_INIT;
    buf_init(&out, SIZE_MAX);
    arena_init(&arena);
    ice_list_write(&out, &head, in, MANY);
    EXPECT_EQ_INT(ice_list_read(out.data, out.len, &arena, &files, &count, &err), 0);
    EXPECT_EQ_INT(count, MANY);
    EXPECT_EQ_INT(files[MANY - 1].bytes, MANY - 1);
    buf_release(&out);
    arena_release(&arena);
    free(in);
}

/* ---- foreign files ---- */

/* An Avro file with the schema and one record given as hex. */
static void foreign(struct buf *out, const char *schema, const char *record_hex) {
    struct ice_avro_writer *w = ice_avro_writer_new(schema, strlen(schema), NULL, 0);
    for (const char *at = record_hex; at[0]; at += 2) {
        unsigned byte;
        sscanf(at, "%2x", &byte);
        buf_putc(ice_avro_block(w), (char)byte);
    }
    ice_avro_record_done(w);
    ice_avro_writer_finish(w, out);
    ice_avro_writer_free(w);
}

#define FOREIGN_FILE(more)                                                                         \
    "{\"name\":\"data_file\",\"field-id\":2,\"type\":{\"type\":\"record\",\"name\":\"r2\","        \
    "\"namespace\":\"x\",\"fields\":[" more                                                        \
    "{\"name\":\"path\",\"type\":\"string\",\"field-id\":100},"                                    \
    "{\"name\":\"fmt\",\"type\":\"string\",\"field-id\":101},"                                     \
    "{\"name\":\"unknown\",\"type\":{\"type\":\"map\",\"values\":[\"null\",\"double\",\"r0\"]},"   \
    "\"field-id\":999},"                                                                           \
    "{\"name\":\"rows\",\"type\":[\"long\",\"null\"],\"field-id\":103},"                           \
    "{\"name\":\"size\",\"type\":\"long\",\"field-id\":104},"                                      \
    "{\"name\":\"content\",\"type\":\"int\",\"field-id\":134}]}}"
/* Other order, other names, a named type used again, unknown fields. */
#define FOREIGN_SCHEMA                                                                             \
    "{\"type\":\"record\",\"name\":\"e\",\"fields\":["                                             \
    "{\"name\":\"z\",\"field-id\":998,\"type\":{\"type\":\"record\",\"name\":\"r0\",\"fields\":["  \
    "{\"name\":\"q\",\"type\":{\"type\":\"enum\",\"name\":\"q\",\"symbols\":[\"A\"]}}]}}"          \
    "," FOREIGN_FILE("") ","                                                                       \
                         "{\"name\":\"status\",\"type\":\"int\",\"field-id\":0}]}"

static int read_foreign(const char *schema, const char *hex, struct got *got, struct err *err) {
    struct made m;
    make_begin(&m, "id:int64:k", "");
    foreign(&m.file, schema, hex);
    m.row = (struct ice_manifest_file){
        .content = ICE_DATA, .sequence = 3, .added_snapshot_id = 8, .first_row_id = -1
    };
    *got = (struct got){ .count = 0 };
    *err = ERR_INIT;
    int result =
        ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, got, err);
    if (got->count > 0) {
        got->entries[0].file.path = kit_text("%s", got->entries[0].file.path);
    }
    make_end(&m);
    return result;
}

TEST(ice_manifest_of_another_writer_is_read_by_field_id) {
    struct got got;
    struct err err;
    /* z=0; path "a", fmt "Parquet", map {"k": null, "l": r0(0)} in a block with its size, rows 5,
     * size 6, content 0; status 1 */
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "030e"
                               "026b00"
                               "026c0400"
                               "00"
                               "000a"
                               "0c"
                               "00"
                               "02",
                               &got, &err),
                  0);
    EXPECT_EQ_STR(err.text, "");
    EXPECT_EQ_INT(got.count, 1);
    EXPECT_EQ_STR(got.entries[0].file.path, "a");
    EXPECT_EQ_INT(got.entries[0].file.rows, 5);
    EXPECT_EQ_INT(got.entries[0].sequence, 3);
}

TEST(ice_manifest_refuses_live_equality_deletes_and_other_formats) {
    struct got got;
    struct err err;
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "00"
                               "000a"
                               "0c"
                               "04"
                               "02",
                               &got, &err),
                  -1);
    EXPECT_EQ_STR(err.code, "manifest_unsupported");
    EXPECT_TRUE(strstr(err.text, "equality deletes") && err.cure[0]);
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "00"
                               "000a"
                               "0c"
                               "04"
                               "04",
                               &got, &err),
                  0);
    EXPECT_EQ_INT(got.count, 0); /* dead ones are passed over */
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "064f5243"
                               "00"
                               "000a"
                               "0c"
                               "00"
                               "02",
                               &got, &err),
                  -1);
    EXPECT_EQ_STR(err.code, "manifest_unsupported");
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "00"
                               "02"
                               "0c"
                               "00"
                               "02",
                               &got, &err),
                  -1);
    EXPECT_EQ_STR(err.code, "manifest_damaged"); /* no row count */
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "00"
                               "0009"
                               "0c"
                               "00"
                               "02",
                               &got, &err),
                  -1);
    EXPECT_EQ_STR(err.code, "manifest_damaged"); /* -5 rows */
    EXPECT_EQ_INT(read_foreign(FOREIGN_SCHEMA,
                               "00"
                               "0261"
                               "0e50617271756574"
                               "00"
                               "000a"
                               "0c"
                               "00"
                               "0200",
                               &got, &err),
                  -1);
    EXPECT_EQ_STR(err.code, "manifest_damaged"); /* a byte too many */
}

TEST(ice_avro_schemas_that_would_cost_too_much_are_refused) {
    static const char *const wrong[] = {
        "{\"type\":\"record\",\"name\":\"e\",\"fields\":[]}",
        "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"e\",\"field-"
        "id\":1}]}", /* itself */
        "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"null\",\"field-"
        "id\":1}]}",
        "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"array\","
        "\"field-id\":1}]}",
        "\"long\"",
        "[]",
        "{",
        "7",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct got got;
        struct err err;
        EXPECT_EQ_INT(read_foreign(wrong[i], "00", &got, &err), -1);
        EXPECT_EQ_STR(err.code, "manifest_damaged");
    }
    struct buf deep;
    buf_init(&deep, SIZE_MAX);
    for (int i = 0; i < 100; i++) {
        buf_puts(&deep, "{\"type\":\"array\",\"items\":");
    }
    buf_puts(&deep, "1");
    for (int i = 0; i < 100; i++) {
        buf_puts(&deep, "}");
    }
    struct got got;
    struct err err;
    EXPECT_EQ_INT(read_foreign(buf_cstr(&deep), "00", &got, &err), -1);
    EXPECT_TRUE(strstr(err.text, "too large") != NULL);
    buf_release(&deep);
    /* No field ids at all. */
    EXPECT_EQ_INT(
        read_foreign(
            "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"}]}",
            "00", &got, &err),
        -1);
    EXPECT_EQ_STR(err.code, "manifest_unsupported");
}

TEST(ice_avro_block_that_cannot_be_unpacked_is_damaged) {
    struct buf out;
    struct err err = ERR_INIT;
    struct ice_avro_reader r;
    buf_init(&out, SIZE_MAX);
    foreign(&out,
            "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"a\",\"type\":\"int\","
            "\"field-id\":1}]}",
            "00");
    size_t before_block = out.len - 16;
    while (memcmp(out.data + before_block - 16, out.data + out.len - 16, 16) != 0) {
        before_block--;
    }
    out.data[before_block + 2] = 0x07; /* after the two counts: a block type that deflate has not */
    EXPECT_EQ_INT(ice_avro_open(&r, out.data, out.len, &err), 0);
    EXPECT_EQ_INT(ice_avro_next(&r, &err), -1);
    EXPECT_EQ_STR(err.code, "manifest_damaged");
    ice_avro_close(&r);
    buf_release(&out);
}

TEST(ice_manifest_cut_or_changed_anywhere_is_never_worse_than_an_error) {
    struct made m;
    make_begin(&m, "id:int64:k;n:text", "bucket(4,id),n");
    struct ice_entry in = data_entry("file:///a.parquet", 5);
    in.file.partition.nulls = 3;
    make_write(&m, 3, ICE_DATA, &in, 1, 9);
    uint32_t whole = 0;
    for (size_t n = 0; n <= m.file.len; n++) {
        struct got got = { .count = 0 };
        struct err err = ERR_INIT;
        char *copy = xmalloc(n + 1); /* its own block, so that the sanitizer sees its end */
        memcpy(copy, m.file.data, n);
        int result = ice_manifest_read(copy, n, &m.row, &m.spec, &m.arena, keep, &got, &err);
        free(copy);
        whole += result == 0 && got.count == 1;
        EXPECT_TRUE(result == 0 || err.kind == ERR_FATAL);
    }
    EXPECT_EQ_INT(whole, 1); /* only all of it */
    for (size_t n = 0; n < m.file.len; n++) {
        struct got got = { .count = 0 };
        struct err err = ERR_INIT;
        m.file.data[n] ^= (char)(1u << (n % 8));
        int result =
            ice_manifest_read(m.file.data, m.file.len, &m.row, &m.spec, &m.arena, keep, &got, &err);
        EXPECT_TRUE(result == 0 || err.kind == ERR_FATAL);
        m.file.data[n] ^= (char)(1u << (n % 8));
    }
    make_end(&m);
}

TEST(ice_avro_numbers_are_zigzag_varints) {
    static const struct {
        int64_t v;
        const char *bytes;
        size_t len;
    } golden[] = { { 0, "\x00", 1 },
                   { -1, "\x01", 1 },
                   { 1, "\x02", 1 },
                   { 63, "\x7e", 1 },
                   { 64, "\x80\x01", 2 },
                   { -64, "\x7f", 1 },
                   { -65, "\x81\x01", 2 },
                   { INT64_MAX, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10 },
                   { INT64_MIN, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10 } };
    for (size_t i = 0; i < ARRAY_COUNT(golden); i++) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        ice_avro_put_long(&out, golden[i].v);
        EXPECT_EQ_MEM(out.data, out.len, golden[i].bytes, golden[i].len);
        struct view in = view_of(out.data, out.len);
        int64_t back = 0;
        EXPECT_EQ_INT(ice_avro_take_raw_long(&in, &back), 0);
        EXPECT_EQ_INT(back, golden[i].v);
        buf_release(&out);
    }
    struct view in = view_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10); /* 65 bits */
    int64_t v;
    EXPECT_EQ_INT(ice_avro_take_raw_long(&in, &v), -1);
}

/* ---- metrics ---- */

static struct ice_metric metric_of(const char *type, const void *lower, size_t lower_len,
                                   const void *upper, size_t upper_len, struct arena *arena) {
    struct ice_schema s;
    struct schema *source = rows_schema(1, "t", 1, kit_text("c:%s", type));
    struct err err = ERR_INIT;
    int32_t last;
    EXPECT_EQ_INT(ice_schema_first(&s, source, &plain, &last, &err), 0);
    schema_unref(source);
    struct parquet_column_info column = { .bytes = 9,
                                          .values = 8,
                                          .nulls = 1,
                                          .nans = 2,
                                          .has_bounds = true,
                                          .lower = arena_copy(arena, lower, lower_len),
                                          .lower_len = lower_len,
                                          .upper = arena_copy(arena, upper, upper_len),
                                          .upper_len = upper_len };
    uint64_t group = 4;
    struct parquet_info info = { .rows = 8,
                                 .bytes = 100,
                                 .column_count = 1,
                                 .columns = &column,
                                 .group_count = 1,
                                 .group_offsets = &group };
    struct ice_file file = { 0 };
    ice_file_set_metrics(&file, arena, &s, &info);
    EXPECT_EQ_INT(file.metric_count, 1);
    EXPECT_EQ_INT(file.rows, 8);
    EXPECT_EQ_INT(file.splits[0], 4);
    ice_schema_release(&s);
    return file.metrics[0];
}
#define METRIC(type, lower, upper)                                                                 \
    metric_of(type, lower, sizeof(lower) - 1, upper, sizeof(upper) - 1, &arena)
#define EXPECT_BOUND(m, side, want) EXPECT_EQ_MEM((m).side, (m).side##_len, want, sizeof(want) - 1)

TEST(ice_metrics_cut_texts_at_16_code_points_and_raise_the_upper_one) {
    struct arena arena;
    arena_init(&arena);
    struct ice_metric m = METRIC("text", "short", "0123456789abcdef");
    EXPECT_BOUND(m, lower, "short");
    EXPECT_BOUND(m, upper, "0123456789abcdef"); /* exactly 16: whole */
    m = METRIC("text", "0123456789abcdefg", "0123456789abcdefg");
    EXPECT_BOUND(m, lower, "0123456789abcdef");
    EXPECT_BOUND(m, upper, "0123456789abcdeg");
    m = METRIC("text", "",
               "a\xf4\x8f\xbf\xbf"
               "bbbbbbbbbbbbb\xf4\x8f\xbf\xbf\xf4\x8f\xbf\xbf");
    EXPECT_BOUND(m, upper,
                 "a\xf4\x8f\xbf\xbf"
                 "bbbbbbbbbbbbc"); /* U+10FFFF cannot be raised */
    EXPECT_EQ_INT(m.lower_len, 0);
    EXPECT_TRUE(m.lower != NULL);
    m = METRIC("text", "a", "aaaaaaaaaaaaaaa\xed\x9f\xbfz"); /* U+D7FF -> U+E000 */
    EXPECT_BOUND(m, upper, "aaaaaaaaaaaaaaa\xee\x80\x80");
    m = METRIC("text", "a", "aaaaaaaaaaaaaaa\x7fz"); /* one byte -> two */
    EXPECT_BOUND(m, upper, "aaaaaaaaaaaaaaa\xc2\x80");
    m = METRIC("text", "a", "aaaaaaaaaaaaaaa\xef\xbf\xbfz"); /* U+FFFF -> U+10000 */
    EXPECT_BOUND(m, upper, "aaaaaaaaaaaaaaa\xf0\x90\x80\x80");
    char all_top[17 * 4 + 1] = "";
    for (size_t i = 0; i < 17; i++) {
        memcpy(all_top + 4 * i, "\xf4\x8f\xbf\xbf", 4);
    }
    m = metric_of("text", "a", 1, all_top, 17 * 4, &arena);
    EXPECT_TRUE(m.upper == NULL && m.lower != NULL);
    m = METRIC("text", "\xff\xfe", "ok");
    EXPECT_TRUE(m.lower == NULL); /* no UTF-8: no bound */
    arena_release(&arena);
}

TEST(ice_metrics_cut_bytes_at_16_and_raise_the_upper_one) {
    struct arena arena;
    arena_init(&arena);
    struct ice_metric m =
        METRIC("bytes", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10",
               "\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff\x10");
    EXPECT_BOUND(m, lower, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
    EXPECT_BOUND(m, upper, "\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0f");
    m = METRIC("bytes", "a",
               "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    EXPECT_TRUE(m.upper == NULL);
    arena_release(&arena);
}

TEST(ice_metrics_of_uuids_hold_in_signed_and_unsigned_order) {
    struct arena arena;
    arena_init(&arena);
    struct ice_metric m = METRIC("uuid", "\x01\x00\x00\x00\x00\x00\x00\x00\x80zzzzzzz",
                                 "\x01\xff\xff\xff\xff\xff\xff\xff\x00zzzzzzz");
    EXPECT_BOUND(m, lower, "\x00\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00");
    EXPECT_BOUND(m, upper, "\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    m = METRIC("uuid", "\x01zzzzzzzzzzzzzzz",
               "\x81zzzzzzzzzzzzzzz"); /* on both sides of the sign */
    EXPECT_TRUE(m.lower == NULL && m.upper == NULL);
    m = METRIC("uuid", "\0\0\0\0\0\0\0\0zzzzzzzz", "\x01zzzzzzzzzzzzzzz"); /* no room below */
    EXPECT_TRUE(m.lower == NULL && m.upper == NULL);
    arena_release(&arena);
}

TEST(ice_metrics_of_floats_count_nan_and_lists_have_their_size_only) {
    struct arena arena;
    arena_init(&arena);
    struct ice_metric m = METRIC("float64", "\0\0\0\0\0\0\0\x80", "\0\0\0\0\0\0\xf0\x7f");
    EXPECT_EQ_INT(m.nans, 2);
    EXPECT_EQ_INT(m.values, 8);
    EXPECT_EQ_INT(m.nulls, 1);
    EXPECT_EQ_INT(m.bytes, 9);
    EXPECT_BOUND(m, lower, "\0\0\0\0\0\0\0\x80");
    m = METRIC("array<int32>", "abcd", "abcd");
    EXPECT_EQ_INT(m.field_id, 2); /* the element's */
    EXPECT_EQ_INT(m.bytes, 9);
    EXPECT_EQ_INT(m.values, -1);
    EXPECT_TRUE(m.lower == NULL);
    m = METRIC("int32", "abcd", "abcd");
    EXPECT_EQ_INT(m.nans, -1);
    arena_release(&arena);
}

TEST(ice_metrics_are_those_of_the_first_100_columns) {
    enum { COLUMNS = 130 };
    struct ice_schema s;
    struct schema *source = schema_new(1, "p", "t", COLUMNS);
    for (uint16_t i = 0; i < COLUMNS; i++) {
        source->columns[i] =
            (struct column_def){ .name = arena_strdup(&source->arena, kit_text("c%u", i)),
                                 .type = { .kind = TYPE_INT32 },
                                 .source_type = "",
                                 .key_pos = -1 };
    }
    schema_finish(source);
    struct err err = ERR_INIT;
    int32_t last;
    EXPECT_EQ_INT(ice_schema_first(&s, source, &plain, &last, &err), 0);
    struct parquet_column_info *columns = xcalloc(COLUMNS, sizeof *columns);
    struct parquet_info info = { .column_count = COLUMNS, .columns = columns };
    struct ice_file file = { 0 };
    struct arena arena;
    arena_init(&arena);
    ice_file_set_metrics(&file, &arena, &s, &info);
    EXPECT_EQ_INT(file.metric_count, 100);
    EXPECT_EQ_INT(file.metrics[99].field_id, 100);
    arena_release(&arena);
    free(columns);
    ice_schema_release(&s);
    schema_unref(source);
}
