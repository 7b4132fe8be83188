/* stdout: and discard:. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cdc/sink_call.h"
#include "sinks/inspect/discard.h"
#include "sinks/inspect/stdout.h"
#include "tests/unit/u_sink_rows.h"

static uint64_t commits; /* of the sink opened last */

static struct sink *open_sink(const struct sink_ops *ops, struct opts *opts) {
    static struct env env;
    struct sink_address addr = {
        .scheme = ops->name, .opts = opts, .job = "shop", .put_logpos = rows_put_logpos
    };
    struct sink *sink = NULL;
    struct err err = ERR_INIT;
    int failed = sink_open(ops, &addr, &env, &sink, &err);
    CHECK(!failed);
    commits = 0;
    return sink;
}

static void stage(struct sink_writer *w, struct batch **b, uint32_t count) {
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < count; i++) {
        if (!b[i]->sealed) {
            batch_seal(b[i]);
        }
    }
    struct stage_item item = { .kind = STAGE_ROWS, .batches = b, .count = count };
    EXPECT_EQ_INT(sink_writer_stage(w, &item, &err), 0);
}

/* Seals and commits what was staged. */
static void commit(struct sink *s, struct sink_writer **writers, uint32_t count, bool committed) {
    struct err err = ERR_INIT;
    struct sink_part *parts[2] = { NULL, NULL };
    for (uint32_t i = 0; i < count; i++) {
        EXPECT_EQ_INT(sink_writer_seal(writers[i], commits + 1, &parts[i], &err), 0);
    }
    struct commit_request req = { .seq = commits + 1,
                                  .from = commits ? "{}" : NULL,
                                  .to = "{}",
                                  .parts = parts,
                                  .part_count = count };
    if (committed) {
        commits++;
        EXPECT_EQ_INT(sink_commit(s, &req, &err), COMMITTED);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i]) {
            sink_part_free(s, parts[i], committed);
        }
    }
}

static void expect_summary(struct sink *s, const char *want) {
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_INT(sink_summary(s, &out, &err), 0);
    EXPECT_EQ_STR(buf_cstr(&out), want);
    buf_release(&out);
}

TEST(discard_counts_what_was_committed) {
    struct sink *s = open_sink(&discard_ops, NULL);
    struct err err = ERR_INIT;
    struct sink_writer *w[2];
    EXPECT_EQ_INT(sink_writer_open(s, 0, &w[0], &err), 0);
    EXPECT_EQ_INT(sink_writer_open(s, 1, &w[1], &err), 0);
    struct schema *schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(schema, 8, txs);
    rows_add(b, ROW_INSERT, 0, 0, 1, "abc");
    rows_add(b, ROW_UPDATE_BEFORE, 0, 1, 1, "-");
    rows_add(b, ROW_UPDATE_AFTER, 0, 1, 2, "-");
    rows_add(b, ROW_DELETE, 0, 2, 2, "-");
    rows_add(b, ROW_TRUNCATE, 0, 3, 0, NULL);
    stage(w[0], &b, 1);
    stage(w[1], &b, 1);
    struct batch *snap = batch_new(schema, 8, NULL);
    rows_add(snap, ROW_INSERT, 0, 0, 1, "abc");
    rows_add(snap, ROW_INSERT, 0, 0, 2, NULL);
    stage(w[1], &snap, 1);
    expect_summary(s, "rows snapshot=0 insert=0 update=0 delete=0 truncate=0 removed=0 bytes=0");
    commit(s, w, 2, true);
    expect_summary(s, "rows snapshot=2 insert=2 update=2 delete=2 truncate=2 removed=0 bytes=105");
    stage(w[0], &snap, 1);
    commit(s, w, 2, false); /* given up: does not count */
    expect_summary(s, "rows snapshot=2 insert=2 update=2 delete=2 truncate=2 removed=0 bytes=105");
    stage(w[0], &snap, 1);
    sink_writer_close(w[0]);
    sink_writer_close(w[1]);
    batch_unref(b);
    batch_unref(snap);
    txlist_unref(txs);
    schema_unref(schema);
    sink_close(s);
}

/* First halves of md5('1|abc'), md5('2|\N') and md5('1|x') as md5sum gives them. */
TEST(discard_digest_is_what_sql_computes) {
    struct opts *opts = opts_new(discard_ops.opts);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(opts_set(opts, "hash", "on", &err), 0);
    struct sink *s = open_sink(&discard_ops, opts);
    struct sink_writer *w;
    EXPECT_EQ_INT(sink_writer_open(s, 0, &w, &err), 0);
    struct schema *schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
    struct txlist *txs = rows_txs(1);
    struct batch *snap = batch_new(schema, 8, NULL);
    rows_add(snap, ROW_INSERT, 0, 0, 1, "abc");
    rows_add(snap, ROW_INSERT, 0, 0, 2, NULL);
    stage(w, &snap, 1);
    commit(s, &w, 1, true);
    const uint64_t h1 = UINT64_C(0xc1e3c887b7a93b44), h2 = UINT64_C(0xdc93d89f649e7961),
                   h3 = UINT64_C(0xe9a3b1d2e3e68958);
#define COUNTS(i, u, d)                                                                            \
    "rows snapshot=2 insert=" #i " update=" #u " delete=" #d " truncate=0 removed=0 bytes="
    expect_summary(s, kit_text(COUNTS(0, 0, 0) "19\ndigest public.t rows=2 sum=%llu",
                               (unsigned long long)(h1 + h2)));
    struct batch *b = batch_new(schema, 8, txs); /* full old rows: 1|abc becomes 1|x, 2 goes */
    rows_add(b, ROW_UPDATE_BEFORE, 0, 1, 1, "abc");
    rows_add(b, ROW_UPDATE_AFTER, 0, 1, 1, "x");
    rows_add(b, ROW_DELETE, 0, 2, 2, NULL);
    stage(w, &b, 1);
    commit(s, &w, 1, true);
    expect_summary(
        s, kit_text(COUNTS(0, 1, 1) "47\ndigest public.t rows=1 sum=%llu", (unsigned long long)h3));
    batch_unref(b);
    b = batch_new(schema, 8, txs);
    rows_add(b, ROW_DELETE, 0, 2, 1, "-");
    stage(w, &b, 1);
    commit(s, &w, 1, true);
    expect_summary(s, COUNTS(0, 1, 2) "55\ndigest public.t unknown: the log did not carry whole "
                                      "old rows (REPLICA IDENTITY FULL does)");
    struct stage_item generation = { .kind = STAGE_GENERATION, .schema = schema, .generation = 2 };
    EXPECT_EQ_INT(sink_writer_stage(w, &generation, &err),
                  0); /* what was before is void, and known again */
    batch_unref(b);
    b = batch_new(schema, 8, txs);
    rows_add(b, ROW_INSERT, 0, 2, 1, "x");
    stage(w, &b, 1);
    commit(s, &w, 1, true);
    expect_summary(
        s, kit_text(COUNTS(1, 1, 2) "64\ndigest public.t rows=1 sum=%llu", (unsigned long long)h3));
    sink_writer_close(w);
    batch_unref(b);
    batch_unref(snap);
    txlist_unref(txs);
    schema_unref(schema);
    sink_close(s);
    opts_free(opts);
}

/* In a child: one row to descriptor 1, which is a pipe. */
static void print_row(void *arg) {
    int *fds = arg;
    dup2(fds[1], STDOUT_FILENO);
    struct sink *s = open_sink(&stdout_ops, NULL);
    struct err err = ERR_INIT;
    struct sink_writer *w;
    CHECK(sink_writer_open(s, 0, &w, &err) == 0);
    struct schema *schema = rows_schema(7, "t", 1, "id:int64:k;body:text");
    struct batch *b = batch_new(schema, 1, NULL);
    b->generation = 1;
    rows_add(b, ROW_INSERT, 0, 0, 1, "abc");
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    CHECK(sink_writer_stage(w, &item, &err) == 0);
    _exit(0);
}

TEST(stdout_shows_whole_lines_at_once) {
    int fds[2];
    EXPECT_EQ_INT(pipe(fds), 0);
    int status = kit_child(print_row, fds);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fds[1]);
    char text[2048];
    ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    text[n > 0 ? n : 0] = '\0';
    EXPECT_EQ_STR(text, "{\"schema\":{\"table\":\"public.t\",\"version\":1,\"columns\":[{\"name\":"
                        "\"id\",\"type\":\"int64\",\"nullable\":false,\"key\":true},{\"name\":"
                        "\"body\",\"type\":\"text\",\"nullable\":true,\"key\":false}]}}\n"
                        "{\"op\":\"r\",\"table\":\"public.t\",\"key\":{\"id\":1},\"before\":null,"
                        "\"after\":{\"id\":1,\"body\":\"abc\"},\"tx\":null,\"ts\":null,\"source\":{"
                        "\"lsn\":\"0/0\",\"snapshot\":\"first\",\"gen\":1}}\n");
}

TEST(sinks_without_position_know_nothing_and_take_no_address) {
    static const struct sink_ops *const both[] = { &stdout_ops, &discard_ops };
    for (int i = 0; i < 2; i++) {
        struct sink *s = open_sink(both[i], NULL);
        struct sink_state state;
        struct err err = ERR_INIT;
        EXPECT_EQ_INT(sink_recover(s, &state, &err), 0);
        EXPECT_EQ_INT(state.knows, TARGET_NOTHING);
        EXPECT_TRUE(!state.position && state.schema_count == 0);
        sink_close(s);
        struct sink_address addr = {
            .scheme = both[i]->name, .path = "/x", .job = "shop", .put_logpos = rows_put_logpos
        };
        struct env env = { 0 };
        EXPECT_EQ_INT(sink_open(both[i], &addr, &env, &s, &err), -1);
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
    }
}
