/* When a barrier is due; budgets; pauses. */
#include "cdc/base/clock.h"
#include "engine/backoff.h"
#include "engine/barrier.h"
#include "engine/budget.h"
#include "tests/unit/kit.h"

static bool due(struct barrier_view v, int64_t *again) { return barrier_due(&v, again); }
static struct barrier_view stream_at(int64_t ms) {
    return (struct barrier_view){
        .now_us = ms * US_PER_MS, .freshness_us = 20 * US_PER_MS, .changed = true, .log_moved = true
    };
}

TEST(barrier_in_the_stream_keeps_the_freshness) {
    int64_t again;
    EXPECT_TRUE(due(stream_at(20), &again));
    EXPECT_TRUE(!due(stream_at(19), &again));
    EXPECT_EQ_INT(again, 20 * US_PER_MS);
}

TEST(barrier_adapts_to_how_long_a_commit_takes) {
    int64_t again;
    struct barrier_view v = stream_at(300);
    v.commit_us = 400 * US_PER_MS;
    EXPECT_TRUE(!due(v, &again));
    EXPECT_EQ_INT(again, 400 * US_PER_MS);
    v.now_us = 400 * US_PER_MS;
    EXPECT_TRUE(due(v, &again));
}

TEST(barrier_in_the_snapshot_waits_for_a_second_or_64_mib) {
    int64_t again;
    struct barrier_view v = stream_at(500);
    v.snapshot = true;
    EXPECT_TRUE(!due(v, &again));
    EXPECT_EQ_INT(again, US_PER_S);
    v.bytes = BARRIER_SNAPSHOT_BYTES;
    EXPECT_TRUE(due(v, &again));
    v.bytes = 0;
    v.now_us = US_PER_S;
    EXPECT_TRUE(due(v, &again));
}

TEST(barrier_in_the_snapshot_waits_for_the_bytes_that_the_sink_wants) {
    int64_t again;
    struct barrier_view v = stream_at(500);
    v.snapshot = true;
    v.snapshot_bytes = 4 * BARRIER_SNAPSHOT_BYTES;
    v.bytes = v.snapshot_bytes - 1;
    EXPECT_TRUE(!due(v, &again));
    v.bytes = v.snapshot_bytes;
    EXPECT_TRUE(due(v, &again));
}

TEST(barrier_of_a_position_alone_waits_for_a_minute_or_64_mib_of_log) {
    int64_t again;
    struct barrier_view v = stream_at(59999);
    v.changed = false;
    EXPECT_TRUE(!due(v, &again));
    EXPECT_EQ_INT(again, BARRIER_IDLE_US);
    v.log_bytes = BARRIER_IDLE_BYTES;
    EXPECT_TRUE(due(v, &again));
    v.log_bytes = 0;
    v.now_us = BARRIER_IDLE_US;
    EXPECT_TRUE(due(v, &again));
    v.log_moved = false;
    EXPECT_TRUE(!due(v, &again));
    EXPECT_TRUE(again == INT64_MAX);
}

TEST(barrier_is_due_at_once_when_the_job_ends_but_never_beside_a_commit_in_flight) {
    int64_t again;
    struct barrier_view v = stream_at(0);
    v.finishing = true;
    EXPECT_TRUE(due(v, &again));
    v.in_flight = true;
    EXPECT_TRUE(!due(v, &again));
    v.finishing = false;
    v.now_us = 3600 * US_PER_S;
    EXPECT_TRUE(!due(v, &again));
    EXPECT_TRUE(again == INT64_MAX);
}

TEST(budget_stays_below_the_memory_for_any_number_of_lanes) {
    static const uint64_t sizes[] = { UINT64_C(32) << 20, UINT64_C(256) << 20, UINT64_C(4) << 30 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned lanes = 1; lanes <= 64; lanes *= 4) {
            struct budget b;
            budget_plan(&b, sizes[i], lanes, 2);
            EXPECT_TRUE(b.log_bytes + b.lane_bytes + b.held_bytes + b.rows_bytes +
                            2 * b.writer_bytes <=
                        sizes[i] / 16 * 11);
            EXPECT_TRUE(b.chunk_bytes >= 1u << 20 && b.chunk_bytes <= b.rows_bytes);
        }
    }
}

TEST(backoff_doubles_up_to_its_maximum_and_begins_again_after_reset) {
    struct backoff b = { .first_us = 100, .max_us = 1000 };
    int64_t step = 100;
    for (int i = 0; i < 10; i++) {
        int64_t us = backoff_next_us(&b);
        EXPECT_TRUE(us >= step / 2 && us <= step);
        step = step * 2 > 1000 ? 1000 : step * 2;
    }
    EXPECT_EQ_INT(b.tries, 10);
    backoff_reset(&b);
    EXPECT_TRUE(backoff_next_us(&b) <= 100);
}
