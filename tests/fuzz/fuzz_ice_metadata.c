/* Table metadata from anywhere, gzip or not. What is read can be written, and read again as the
 * same; changes to it keep it readable. */
#include <stdlib.h>

#include "sinks/iceberg/ice_metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_twice(const struct ice_metadata *m) {
    struct buf first;
    struct buf second;
    struct ice_metadata back;
    struct err err = ERR_INIT;
    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    ice_metadata_put(&first, m);
    CHECK(ice_metadata_parse(first.data, first.len, &back, &err) == 0);
    ice_metadata_put(&second, &back);
    CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    ice_metadata_release(&back);
    buf_release(&first);
    buf_release(&second);
}

static void change(struct ice_metadata *m) {
    struct ice_snapshot s = { .id = INT64_MAX,
                              .parent_id = m->current_snapshot_id,
                              .sequence = m->last_sequence + 1,
                              .timestamp_ms = 5,
                              .schema_id = m->current_schema_id,
                              .first_row_id = m->format_version == 3 ? m->next_row_id : -1,
                              .added_rows = m->format_version == 3 ? 0 : -1 };
    if (ice_metadata_snapshot(m, s.id)) {
        return;
    }
    s.manifest_list = xstrdup("file:///list");
    s.summary = json_pack("{s:s}", "operation", "append");
    ice_metadata_add_snapshot(m, &s);
    ice_metadata_set_property(m, "a", "b");
    ice_metadata_log(m, "file:///before", 1, 2, NULL);
    int64_t ids[4];
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->snapshot_count && count < 4; i++) {
        ids[count++] = m->snapshots[i].id;
    }
    ice_metadata_expire(m, ids, count, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ice_metadata m;
    struct err err = ERR_INIT;
    if (ice_metadata_parse((const char *)data, size, &m, &err) != 0) {
        CHECK(err.kind == ERR_FATAL && err.code[0] != 0);
        return 0;
    }
    put_twice(&m);
    change(&m);
    put_twice(&m);
    ice_metadata_release(&m);
    return 0;
}
