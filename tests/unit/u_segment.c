/* Segments and transaction lists: who owns what. Leaks and double frees are the sanitizer's to
 * find. */
#include "cdc/segment.h"
#include "cdc/sink.h"
#include "cdc/source.h"
#include "tests/unit/kit.h"

#include <stdlib.h>

static struct schema *one_column(void) {
    struct schema *schema = schema_new(1, "public", "t", 1);
    schema->columns[0].name = "a";
    schema->columns[0].type = (struct type){ .kind = TYPE_INT32 };
    schema->columns[0].key_pos = 0;
    schema_finish(schema);
    return schema;
}

TEST(segment_takes_batches_in_order_and_seals_them) {
    struct schema *schema = one_column();
    struct segment *segment = segment_new();
    segment->txs = txlist_new();
    size_t bytes = 0;
    for (uint32_t i = 0; i < 21; i++) {
        struct tx tx = { .id = 100 + i, .commit = { 0, i }, .end = { 0, i + 1 }, .time_us = i };
        EXPECT_EQ_INT(txlist_add(segment->txs, &tx), i);
        struct batch *batch = batch_new(schema, 4, segment->txs);
        memcpy(batch_fixed(batch, 0), &i, sizeof i);
        batch_row_done(batch, ROW_DELETE, i, 0);
        if (i % 2) {
            batch_seal(batch);
        }
        segment_add(segment, batch);
        bytes += batch->bytes;
        EXPECT_TRUE(batch->sealed);
    }
    EXPECT_EQ_INT(segment->batch_count, 21);
    EXPECT_EQ_INT(segment->bytes, bytes);
    for (uint32_t i = 0; i < 21; i++) {
        uint32_t value;
        memcpy(&value, segment->batches[i]->columns[0].data, sizeof value);
        EXPECT_EQ_INT(value, i);
        EXPECT_EQ_U64(segment->txs->at[i].id, 100 + i);
    }
    struct batch *kept = batch_ref(segment->batches[3]);
    segment_free(segment);
    segment_free(NULL);
    schema_unref(schema);
    EXPECT_EQ_U64(kept->txs->at[kept->tx[0]].id, 103);
    batch_unref(kept);
}

TEST(door_structs_release_what_they_own_and_are_empty_then) {
    struct sink_state state = { .position = xstrdup("{}"),
                                .schemas = xcalloc(2, sizeof(struct schema *)),
                                .schema_count = 2 };
    state.schemas[0] = one_column();
    state.schemas[1] = schema_ref(state.schemas[0]);
    sink_state_release(&state);
    EXPECT_TRUE(!state.position && !state.schemas && state.schema_count == 0);
    sink_state_release(&state);
    struct source_catalogue catalogue = { .tables = xcalloc(1, sizeof(struct source_table)),
                                          .count = 1 };
    catalogue.tables[0].schema = one_column();
    source_catalogue_release(&catalogue);
    EXPECT_TRUE(!catalogue.tables && catalogue.count == 0);
    struct chunk_view view = { .schema = one_column() };
    snapshot_set(&view.snapshot, 1, 9, (const uint64_t[]){ 3, 2 }, 2);
    chunk_view_release(&view);
    EXPECT_TRUE(!view.schema && !view.snapshot.xip);
    chunk_view_release(&view);
}
