/* Table metadata: made, changed, written, read; what others wrote is passed on; what is damaged or
 * newer is refused. */
#include <libdeflate.h>
#include <stdlib.h>

#include "sinks/iceberg/ice_metadata.h"
#include "tests/unit/u_sink_rows.h"

static const struct ice_schema_rules plain = { 0 };

static void make(struct ice_metadata *m, int version, const char *columns, const char *partition) {
    struct schema *source = rows_schema(1, "t", 1, columns);
    struct ice_schema schema;
    struct ice_spec spec;
    struct err err = ERR_INIT;
    int32_t last;
    EXPECT_EQ_INT(ice_schema_first(&schema, source, &plain, &last, &err), 0);
    EXPECT_EQ_INT(ice_spec_parse(partition, &schema, true, &spec, &err), 0);
    ice_metadata_first(m, version, "11111111-2222-4333-8444-555555555555", "file:///w/s/t", 1000,
                       &schema, last, &spec);
    schema_unref(source);
}

static void add(struct ice_metadata *m, int64_t id, int64_t at_ms, int64_t rows) {
    struct ice_snapshot s = { .id = id,
                              .parent_id = m->current_snapshot_id,
                              .sequence = m->last_sequence + 1,
                              .timestamp_ms = at_ms,
                              .manifest_list = xasprintf("file:///w/snap-%d.avro", (int)id),
                              .schema_id = m->current_schema_id,
                              .first_row_id = m->format_version == 3 ? m->next_row_id : -1,
                              .added_rows = m->format_version == 3 ? rows : -1,
                              .summary = json_pack("{s:s}", "operation", "append") };
    ice_metadata_add_snapshot(m, &s);
}

static const char *text_of(const struct ice_metadata *m) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    ice_metadata_put(&out, m);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    return text;
}

static int parse(const char *text, struct ice_metadata *out, struct err *err) {
    *err = ERR_INIT;
    return ice_metadata_parse(text, strlen(text), out, err);
}

TEST(ice_metadata_of_a_new_table_is_as_the_spec_has_it) {
    struct ice_metadata m;
    make(&m, 2, "id:int64:k", "bucket(4,id)");
    EXPECT_EQ_STR(
        text_of(&m),
        "{\"format-version\":2,\"table-uuid\":\"11111111-2222-4333-8444-555555555555\","
        "\"location\":\"file:///w/s/t\","
        "\"last-sequence-number\":0,\"last-updated-ms\":1000,\"last-column-id\":1,\"current-schema-"
        "id\":0,\"schemas\":["
        "{\"type\":\"struct\",\"schema-id\":0,\"identifier-field-ids\":[1],\"fields\":["
        "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"long\",\"doc\":\"int64\"}]}],"
        "\"default-spec-id\":0,\"partition-specs\":[{\"spec-id\":0,\"fields\":[{\"name\":\"id_"
        "bucket\","
        "\"transform\":\"bucket[4]\",\"source-id\":1,\"field-id\":1000}]}],\"last-partition-id\":"
        "1000,"
        "\"default-sort-order-id\":0,\"sort-orders\":[{\"order-id\":0,\"fields\":[]}],"
        "\"properties\":{},"
        "\"current-snapshot-id\":-1,\"refs\":{},\"snapshots\":[],\"snapshot-log\":[],\"metadata-"
        "log\":[]}");
    ice_metadata_release(&m);
    make(&m, 3, "id:int64:k", "");
    EXPECT_EQ_INT(m.last_partition_id, 999);
    EXPECT_TRUE(strstr(text_of(&m), "\"current-snapshot-id\":null,\"next-row-id\":0,") != NULL);
    ice_metadata_release(&m);
}

TEST(ice_metadata_comes_back_as_it_was) {
    for (int version = 2; version <= 3; version++) {
        struct ice_metadata m;
        struct ice_metadata back;
        struct err err;
        make(&m, version, "id:int64:k;tags:array<int32>;ts:timestamptz", "day(ts),bucket(4,id)");
        ice_metadata_set_property(&m, "tailrace.job", "j \"1\"");
        add(&m, 11, 2000, 5);
        add(&m, 12, 3000, 7);
        ice_metadata_log(&m, "file:///w/00000.metadata.json", 1000, 5, NULL);
        const char *text = text_of(&m);
        if (!EXPECT_EQ_INT(parse(text, &back, &err), 0)) {
            return;
        }
        EXPECT_EQ_STR(text_of(&back), text);
        EXPECT_EQ_INT(back.current_snapshot_id, 12);
        EXPECT_EQ_INT(back.next_row_id, version == 3 ? 12 : 0);
        EXPECT_EQ_INT(ice_metadata_snapshot(&back, 12)->parent_id, 11);
        EXPECT_EQ_INT(ice_metadata_snapshot(&back, 12)->first_row_id, version == 3 ? 5 : -1);
        EXPECT_TRUE(ice_metadata_snapshot(&back, 13) == NULL);
        EXPECT_EQ_STR(ice_metadata_property(&back, "tailrace.job"), "j \"1\"");
        EXPECT_EQ_INT(
            json_integer_value(json_object_get(json_object_get(back.refs, "main"), "snapshot-id")),
            12);
        ice_metadata_release(&m);
        ice_metadata_release(&back);
    }
}

/* As another writer leaves it: members that we do not know, at the top and in a snapshot. */
static const char foreign[] =
    "{\"format-version\":3,\"table-uuid\":\"u\",\"location\":\"file:/w/"
    "t\",\"last-sequence-number\":2,\"last-updated-ms\":5,"
    "\"last-column-id\":3,\"current-schema-id\":1,\"schemas\":[{\"type\":\"struct\",\"schema-id\":"
    "1,\"fields\":["
    "{\"id\":3,\"name\":\"id\",\"required\":true,\"type\":\"long\"}]}],\"default-spec-id\":0,"
    "\"partition-specs\":["
    "{\"spec-id\":0,\"fields\":[]}],\"last-partition-id\":999,\"default-sort-order-id\":0,"
    "\"sort-orders\":[{\"order-id\":0,\"fields\":[]}],\"properties\":{\"a\":\"b\"},\"current-"
    "snapshot-id\":9,\"next-row-id\":70,"
    "\"refs\":{\"main\":{\"snapshot-id\":9,\"type\":\"branch\",\"max-ref-age-ms\":5},\"kept\":{"
    "\"snapshot-id\":8,\"type\":\"tag\"}},"
    "\"snapshots\":[{\"sequence-number\":1,\"snapshot-id\":8,\"timestamp-ms\":3,\"summary\":{"
    "\"operation\":\"append\"},"
    "\"manifest-list\":\"l8\",\"first-row-id\":0,\"added-rows\":70},"
    "{\"sequence-number\":2,\"snapshot-id\":9,\"parent-snapshot-id\":8,\"timestamp-ms\":4,"
    "\"summary\":{},"
    "\"manifest-list\":\"l9\",\"schema-id\":1,\"first-row-id\":70,\"added-rows\":0,\"key-id\":"
    "\"k\"}],"
    "\"statistics\":[{\"snapshot-id\":9,\"blob-metadata\":[]}],\"encryption-keys\":[{\"key-id\":"
    "\"k\"}],\"later\":{\"x\":[1.5]},"
    "\"snapshot-log\":[{\"snapshot-id\":8,\"timestamp-ms\":3},{\"snapshot-id\":9,\"timestamp-ms\":"
    "4}],\"metadata-log\":[]}";

TEST(ice_metadata_of_another_writer_is_passed_on_as_it_came) {
    struct ice_metadata m;
    struct err err;
    if (!EXPECT_EQ_INT(parse(foreign, &m, &err), 0)) {
        return;
    }
    EXPECT_EQ_STR(text_of(&m), foreign);
    add(&m, 10, 6, 3);
    json_t *main_ref = json_object_get(m.refs, "main");
    EXPECT_EQ_INT(json_integer_value(json_object_get(main_ref, "max-ref-age-ms")), 5);
    EXPECT_EQ_INT(json_integer_value(json_object_get(main_ref, "snapshot-id")), 10);
    EXPECT_EQ_INT(m.next_row_id, 73);
    ice_metadata_release(&m);
}

TEST(ice_metadata_expires_snapshots_but_not_what_is_named) {
    struct ice_metadata m;
    struct err err;
    if (!EXPECT_EQ_INT(parse(foreign, &m, &err), 0)) {
        return;
    }
    add(&m, 10, 6, 0);
    add(&m, 11, 7, 0);
    struct buf gone;
    buf_init(&gone, SIZE_MAX);
    EXPECT_EQ_INT(ice_metadata_expire(&m, (const int64_t[]){ 8, 9, 11, 99 }, 4, &gone),
                  1); /* 8 has a tag, 11 is current */
    EXPECT_EQ_MEM(gone.data, gone.len, "l9", 3);
    EXPECT_EQ_INT(m.snapshot_count, 3);
    EXPECT_EQ_INT(json_array_size(m.snapshot_log), 2); /* all up to the one that went */
    EXPECT_EQ_INT(
        json_integer_value(json_object_get(json_array_get(m.snapshot_log, 0), "snapshot-id")), 10);
    buf_clear(&gone);
    for (int i = 0; i < 4; i++) {
        ice_metadata_log(&m, kit_text("file:///%d", i), i, 2, &gone);
    }
    EXPECT_EQ_INT(json_array_size(m.metadata_log), 2);
    EXPECT_EQ_MEM(gone.data, gone.len, "file:///0\0file:///1", 20);
    buf_release(&gone);
    ice_metadata_release(&m);
}

TEST(ice_metadata_gives_schemas_and_specs_ids_that_nobody_had) {
    struct ice_metadata m;
    struct err err = ERR_INIT;
    struct ice_schema next;
    struct ice_spec spec;
    make(&m, 2, "id:int32:k;n:text", "bucket(4,id)");
    struct schema *source = rows_schema(1, "t", 2, "id:int64:k;n:text;m:text");
    EXPECT_EQ_INT(ice_schema_follow(&m.schemas[0], source, &plain, &m.last_column_id, &next, &err),
                  ICE_EVOLVED);
    EXPECT_EQ_INT(ice_metadata_add_schema(&m, &next), 1);
    EXPECT_EQ_INT(m.specs[0].fields[0].source.kind, LAKE_LONG);
    const struct ice_schema *now = ice_metadata_schema(&m, m.current_schema_id);
    EXPECT_EQ_INT(now->field_count, 3);
    EXPECT_EQ_INT(ice_spec_parse("n,bucket(4,id)", now, true, &spec, &err), 0);
    EXPECT_EQ_INT(ice_metadata_add_spec(&m, &spec), 1);
    EXPECT_EQ_INT(m.specs[1].fields[0].field_id, 1001); /* new */
    EXPECT_EQ_INT(m.specs[1].fields[1].field_id, 1000); /* the same as ever */
    EXPECT_EQ_INT(m.last_partition_id, 1001);
    EXPECT_EQ_INT(ice_spec_parse("bucket(4,id)", now, true, &spec, &err), 0);
    EXPECT_EQ_INT(ice_metadata_add_spec(&m, &spec), 0); /* back to the first */
    EXPECT_EQ_INT(m.spec_count, 2);
    schema_unref(source);
    ice_metadata_release(&m);
}

TEST(ice_metadata_keeps_a_dropped_column_that_it_is_partitioned_by) {
    struct ice_metadata m;
    struct err err = ERR_INIT;
    struct ice_schema next;
    make(&m, 2, "id:int64:k;n:text;a:int32", "bucket(4,id),n,a");
    struct schema *source = rows_schema(1, "t", 2, "id:int64:k;a:int64");
    EXPECT_EQ_INT(ice_schema_follow(&m.schemas[0], source, &plain, &m.last_column_id, &next, &err),
                  ICE_EVOLVED);
    EXPECT_EQ_INT(next.field_count, 2);
    ice_metadata_add_schema(&m, &next);
    EXPECT_EQ_INT(m.default_spec_id, 0);
    const struct ice_schema *now = ice_metadata_schema(&m, 1);
    EXPECT_EQ_INT(now->field_count, 3);
    EXPECT_EQ_STR(now->fields[2].name, "n");
    EXPECT_EQ_INT(now->fields[2].id, 2);
    EXPECT_EQ_INT(m.specs[0].fields[2].result.kind, LAKE_LONG);
    EXPECT_EQ_INT(ice_schema_follow(now, source, &plain, &m.last_column_id, &next, &err), ICE_SAME);
    schema_unref(source);
    /* A new column of that name is another one. */
    source = rows_schema(1, "t", 3, "id:int64:k;a:int64;n:text");
    EXPECT_EQ_INT(ice_schema_follow(now, source, &plain, &m.last_column_id, &next, &err),
                  ICE_EVOLVED);
    EXPECT_EQ_STR(next.fields[2].name, "n");
    EXPECT_EQ_INT(next.fields[2].id, 4);
    EXPECT_EQ_STR(next.fields[3].name, "n_v1");
    EXPECT_EQ_INT(next.fields[3].id, 2);
    ice_metadata_add_schema(&m, &next);
    struct ice_metadata back;
    EXPECT_EQ_INT(parse(text_of(&m), &back, &err), 0);
    EXPECT_EQ_STR(text_of(&back), text_of(&m));
    ice_metadata_release(&back);
    schema_unref(source);
    ice_metadata_release(&m);
}

/* Others give a table a sort order: it stays until a column of it goes. */
static const char sorted[] =
    "{\"format-version\":2,\"table-uuid\":\"u\",\"location\":\"file:/w/t\","
    "\"last-sequence-number\":0,\"last-updated-ms\":5,\"last-column-id\":2,"
    "\"current-schema-id\":0,\"schemas\":[{\"type\":\"struct\",\"schema-id\":0,"
    "\"identifier-field-ids\":[1],\"fields\":["
    "{\"id\":1,\"name\":\"id\",\"required\":true,\"type\":\"long\"},"
    "{\"id\":2,\"name\":\"n\",\"required\":false,\"type\":\"string\"}]}],"
    "\"default-spec-id\":0,\"partition-specs\":[{\"spec-id\":0,\"fields\":[]}],"
    "\"last-partition-id\":999,\"default-sort-order-id\":3,\"sort-orders\":[{\"order-id\":3,"
    "\"fields\":[{\"transform\":\"identity\",\"source-id\":1,\"direction\":\"asc\","
    "\"null-order\":\"nulls-first\"},{\"transform\":\"truncate[4]\",\"source-id\":2,"
    "\"direction\":\"desc\",\"null-order\":\"nulls-last\"}]}],\"properties\":{},"
    "\"current-snapshot-id\":-1,\"refs\":{},\"snapshots\":[],\"snapshot-log\":[],"
    "\"metadata-log\":[]}";

static void follow(struct ice_metadata *m, const char *columns) {
    struct err err = ERR_INIT;
    struct ice_schema next;
    struct schema *source = rows_schema(1, "t", 2, columns);
    const struct ice_schema *now = ice_metadata_schema(m, m->current_schema_id);
    EXPECT_EQ_INT(ice_schema_follow(now, source, &plain, &m->last_column_id, &next, &err),
                  ICE_EVOLVED);
    ice_metadata_add_schema(m, &next);
    schema_unref(source);
}

TEST(ice_metadata_keeps_a_sort_order_until_its_column_goes) {
    struct ice_metadata m;
    struct err err;
    if (!EXPECT_EQ_INT(parse(sorted, &m, &err), 0)) {
        return;
    }
    EXPECT_EQ_STR(text_of(&m), sorted);
    add(&m, 10, 6, 3);
    follow(&m, "id:int64:k;n:text;more:int32");
    EXPECT_EQ_INT(m.default_sort_order_id, 3);
    EXPECT_EQ_INT(json_array_size(m.sort_orders), 1);
    follow(&m, "id:int64:k;more:int32");
    EXPECT_EQ_INT(m.default_sort_order_id, 0);
    EXPECT_EQ_INT(json_array_size(m.sort_orders), 2);
    EXPECT_TRUE(strstr(text_of(&m), ",{\"order-id\":0,\"fields\":[]}]") != NULL);
    follow(&m, "id:int64:k");
    EXPECT_EQ_INT(json_array_size(m.sort_orders), 2);
    ice_metadata_release(&m);
}

TEST(ice_metadata_of_a_new_table_has_the_order_asked_for) {
    struct ice_metadata m, back;
    struct ice_order order, none = { 0 };
    struct err err = ERR_INIT;
    make(&m, 2, "id:int64:k;n:text", "");
    ice_metadata_set_order(&m, &none);
    EXPECT_EQ_INT(m.default_sort_order_id, 0);
    EXPECT_EQ_INT(json_array_size(m.sort_orders), 1);
    EXPECT_EQ_INT(ice_order_parse("n desc,id", &m.schemas[0], &order, &err), 0);
    ice_metadata_set_order(&m, &order);
    EXPECT_TRUE(strstr(text_of(&m),
                       "\"default-sort-order-id\":1,\"sort-orders\":[{\"order-id\":0,\"fields\":[]}"
                       ",{\"order-id\":1,\"fields\":[{\"transform\":\"identity\",\"source-id\":2,"
                       "\"direction\":\"desc\",\"null-order\":\"nulls-last\"},{\"transform\":"
                       "\"identity\",\"source-id\":1,\"direction\":\"asc\",\"null-order\":"
                       "\"nulls-first\"}]}]") != NULL);
    EXPECT_EQ_INT(parse(text_of(&m), &back, &err), 0);
    struct ice_order again;
    ice_order_from_json(back.sort_orders, back.default_sort_order_id, &again);
    EXPECT_TRUE(ice_order_same(&order, &again));
    ice_metadata_release(&back);
    follow(&m, "id:int64:k"); /* a column of it goes */
    EXPECT_EQ_INT(m.default_sort_order_id, 0);
    EXPECT_EQ_INT(json_array_size(m.sort_orders), 2);
    ice_metadata_release(&m);
}

TEST(ice_metadata_times_never_fall) {
    struct ice_metadata m;
    make(&m, 2, "id:int64:k", "");
    add(&m, 1, 5000, 0);
    add(&m, 2, 4000, 0);
    EXPECT_EQ_INT(m.snapshots[1].timestamp_ms, 5000);
    EXPECT_EQ_INT(m.last_updated_ms, 5000);
    ice_metadata_set_property(&m, "a", "1");
    ice_metadata_set_property(&m, "a", NULL);
    EXPECT_EQ_STR(ice_metadata_property(&m, "a"), NULL);
    ice_metadata_release(&m);
}

TEST(ice_metadata_may_be_gzip) {
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
    char packed[4096];
    size_t n = libdeflate_gzip_compress(c, foreign, sizeof foreign - 1, packed, sizeof packed);
    libdeflate_free_compressor(c);
    struct ice_metadata m;
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(ice_metadata_parse(packed, n, &m, &err), 0);
    EXPECT_EQ_STR(text_of(&m), foreign);
    ice_metadata_release(&m);
    for (size_t cut = 2; cut < n; cut++) {
        EXPECT_EQ_INT(ice_metadata_parse(packed, cut, &m, &err), -1);
    }
    memset(packed + n - 4, 0xff, 4); /* 4 GiB, it says */
    EXPECT_EQ_INT(ice_metadata_parse(packed, n, &m, &err), -1);
    EXPECT_EQ_STR(err.code, "metadata_damaged");
}

/* `foreign` with one piece exchanged. */
static const char *with(const char *piece, const char *other) {
    const char *at = strstr(foreign, piece);
    CHECK(at);
    return kit_text("%.*s%s%s", (int)(at - foreign), foreign, other, at + strlen(piece));
}

TEST(ice_metadata_that_is_damaged_or_unknown_is_refused) {
    struct ice_metadata m;
    struct err err;
    static const char *const pieces[][3] = {
        { "\"format-version\":3", "\"format-version\":1", "metadata_unsupported" },
        { "\"format-version\":3", "\"format-version\":4", "metadata_unsupported" },
        { "\"format-version\":3", "\"format-version\":\"3\"", "metadata_damaged" },
        { "\"next-row-id\":70,", "", "metadata_damaged" },
        { "\"current-schema-id\":1", "\"current-schema-id\":2", "metadata_damaged" },
        { "\"default-spec-id\":0", "\"default-spec-id\":1", "metadata_damaged" },
        { "\"current-snapshot-id\":9", "\"current-snapshot-id\":7", "metadata_damaged" },
        { "\"current-snapshot-id\":9", "\"current-snapshot-id\":8",
          "metadata_damaged" }, /* main is elsewhere */
        { "\"last-column-id\":3", "\"last-column-id\":2", "metadata_damaged" },
        { "\"last-sequence-number\":2", "\"last-sequence-number\":1", "metadata_damaged" },
        { "\"properties\":{\"a\":\"b\"}", "\"properties\":{\"a\":1}", "metadata_damaged" },
        { "\"manifest-list\":\"l9\"", "\"manifests\":[]", "metadata_damaged" },
        { "\"type\":\"long\"", "\"type\":\"variant\"", "iceberg_schema" },
        { "{\"spec-id\":0,\"fields\":[]}",
          "{\"spec-id\":0,\"fields\":[{\"name\":\"x\",\"transform\":\"day\",\"source-id\":3,"
          "\"field-id\":1000}]}",
          "iceberg_spec" },
        { "\"snapshot-log\"", "\"refs\"", "metadata_damaged" }, /* twice */
    };
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        EXPECT_EQ_INT(parse(with(pieces[i][0], pieces[i][1]), &m, &err), -1);
        EXPECT_EQ_STR(err.code, pieces[i][2]);
    }
    for (size_t n = 0; n < sizeof foreign - 1; n++) {
        EXPECT_EQ_INT(ice_metadata_parse(foreign, n, &m, &err), -1);
    }
}
