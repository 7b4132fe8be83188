/* The spool on disk: rows come back as they were, damage is seen, space is freed, a full disk is no
 * error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/spool.h"
#include "tests/unit/kit.h"

struct bench {
    struct log log;
    struct metrics metrics;
    struct env env;
    struct schema *schema;
    struct txlist *txs;
    struct err err;
};

static void bench_init(struct bench *b, struct files *files) {
    *b = (struct bench){ .log = { .level = LOG_ERROR, .fd = -1, .job = "t" } };
    b->env = (struct env){ .files = files,
                           .log = &b->log,
                           .metrics = &b->metrics,
                           .state_dir = kit_temp_dir(),
                           .spill_bytes_max = 1u << 30 };
    b->schema = schema_new(7, "public", "t", 2);
    b->schema->columns[0] =
        (struct column_def){ .name = "id", .source_type = "int8", .source_mod = -1, .key_pos = 0 };
    b->schema->columns[0].type.kind = TYPE_INT64;
    b->schema->columns[1] =
        (struct column_def){ .name = "v", .source_type = "text", .source_mod = -1, .key_pos = -1 };
    b->schema->columns[1].type.kind = TYPE_TEXT;
    b->schema->storage = "";
    b->schema->identity = IDENTITY_KEY;
    schema_finish(b->schema);
    b->txs = txlist_new();
    txlist_add(b->txs, &(struct tx){ .id = 5 });
}
static void bench_release(struct bench *b) {
    txlist_unref(b->txs);
    schema_unref(b->schema);
}
static struct batch *row(struct bench *b, int64_t id, const char *text) {
    struct batch *batch = batch_new(b->schema, 1, b->txs);
    memcpy(batch_fixed(batch, 0), &id, sizeof id);
    batch_put_var(batch, 1, text, strlen(text));
    batch_row_done(batch, ROW_INSERT, 0, 3);
    batch_seal(batch);
    return batch;
}
static uint64_t put(struct bench *b, struct spool *s, int64_t id, const char *text) {
    struct batch *batch = row(b, id, text);
    uint64_t at = 0;
    EXPECT_EQ_INT(spool_put(&spool_disk_ops, s, batch, &at, &b->err), 0);
    batch_unref(batch);
    return at;
}
static void expect_row(struct bench *b, struct spool *s, uint64_t at, int64_t id,
                       const char *text) {
    struct batch *batch = spool_get(&spool_disk_ops, s, at, b->schema, b->txs, &b->err);
    if (!EXPECT_TRUE(batch != NULL)) {
        return;
    }
    size_t len;
    int64_t got;
    memcpy(&got, cell_bytes(&batch->columns[0], 0, &len), sizeof got);
    EXPECT_EQ_INT(got, id);
    const uint8_t *p = cell_bytes(&batch->columns[1], 0, &len);
    EXPECT_EQ_MEM(p, len, text, strlen(text));
    EXPECT_EQ_INT(batch->n[0], 3);
    batch_unref(batch);
}

TEST(spool_gives_rows_back_in_any_order) {
    struct bench b;
    bench_init(&b, files_os());
    struct spool *s = spool_open(&b.env, &b.err);
    if (!EXPECT_TRUE(s != NULL)) {
        return;
    }
    uint64_t one = put(&b, s, 1, "one"), two = put(&b, s, 2, "");
    expect_row(&b, s, two, 2, "");
    expect_row(&b, s, one, 1, "one");
    expect_row(&b, s, two, 2, "");
    EXPECT_TRUE(spool_bytes(s) > 0 &&
                metric_get(&b.metrics, METRIC_SPILL_BYTES) == (int64_t)spool_bytes(s));
    spool_close(s);
    bench_release(&b);
}

TEST(spool_sees_every_damaged_byte) {
    struct bench b;
    bench_init(&b, files_os());
    struct spool *s = spool_open(&b.env, &b.err);
    uint64_t at = put(&b, s, 1, "some text");
    const char *path = kit_text("%s/spill/%016x.spool", b.env.state_dir, (unsigned)(at >> 32));
    uint64_t size = spool_bytes(s);
    for (uint64_t i = 0; i < size; i++) {
        FILE *f = fopen(path, "r+b");
        if (!EXPECT_TRUE(f != NULL)) {
            return;
        }
        fseek(f, (long)i, SEEK_SET);
        int byte = fgetc(f);
        fseek(f, (long)i, SEEK_SET);
        fputc(byte ^ 0x40, f);
        fclose(f);
        b.err = ERR_INIT;
        struct batch *batch = spool_get(&spool_disk_ops, s, at, b.schema, b.txs, &b.err);
        EXPECT_TRUE(batch == NULL);
        EXPECT_EQ_STR(b.err.code, "spool_damaged");
        EXPECT_EQ_INT(b.err.kind, ERR_REWIND);
        f = fopen(path, "r+b");
        fseek(f, (long)i, SEEK_SET);
        fputc(byte, f);
        fclose(f);
    }
    b.err = ERR_INIT;
    expect_row(&b, s, at, 1, "some text");
    spool_close(s);
    bench_release(&b);
}

TEST(spool_is_full_at_its_limit_and_free_again_when_records_are_dropped) {
    struct bench b;
    bench_init(&b, files_os());
    b.env.spill_bytes_max = 100;
    struct spool *s = spool_open(&b.env, &b.err);
    uint64_t ids[16];
    unsigned n = 0;
    EXPECT_TRUE(!spool_full(&spool_disk_ops, s));
    while (n < 16 && !spool_full(&spool_disk_ops, s)) {
        ids[n] = put(&b, s, n, "x");
        n++;
    }
    EXPECT_TRUE(n > 0 && n < 16);
    for (unsigned i = 0; i < n; i++) {
        spool_drop(&spool_disk_ops, s, ids[i]);
    }
    EXPECT_TRUE(!spool_full(&spool_disk_ops, s));
    EXPECT_EQ_U64(spool_bytes(s), 0);
    expect_row(&b, s, put(&b, s, 99, "again"), 99, "again");
    spool_close(s);
    bench_release(&b);
}

TEST(spool_forgets_everything_at_a_start) {
    struct bench b;
    bench_init(&b, files_os());
    struct spool *s = spool_open(&b.env, &b.err);
    uint64_t at = put(&b, s, 1, "one");
    const char *path = kit_text("%s/spill/%016x.spool", b.env.state_dir, (unsigned)(at >> 32));
    FILE *f = fopen(path, "rb");
    EXPECT_TRUE(f != NULL);
    fclose(f);
    struct spool *next = spool_open(&b.env, &b.err);
    EXPECT_TRUE(next != NULL);
    EXPECT_TRUE(fopen(path, "rb") == NULL);
    EXPECT_EQ_U64(spool_bytes(next), 0);
    spool_close(next);
    spool_close(s);
    bench_release(&b);
}

/* The real files, but for a write that finds the disk full. */
struct full_file {
    struct file base;
    struct file *real;
};
static bool disk_is_full;
static int full_write(struct file *file, const void *p, size_t n, struct err *err) {
    if (disk_is_full) {
        return err_set(err, ERR_RETRY, "disk_full", "write: no space left on device");
    }
    return file_write(((struct full_file *)file)->real, p, n, err);
}
static void full_close(struct file *file) {
    file_close(((struct full_file *)file)->real);
    free(file);
}
static const struct files_ops full_file_ops = { .write = full_write, .close = full_close };
static enum files_result full_create(struct files *files, const char *path, struct file **out,
                                     struct err *err) {
    (void)files;
    struct full_file *f = xcalloc(1, sizeof *f);
    f->base.ops = &full_file_ops;
    enum files_result r = files_create_excl(files_os(), path, &f->real, err);
    if (r != FILES_OK) {
        free(f);
        return r;
    }
    *out = &f->base;
    return r;
}
static struct files_ops full_ops;
static struct files full_files = { .ops = &full_ops };

TEST(spool_on_a_full_disk_keeps_the_record_and_says_that_it_is_full) {
    struct bench b;
    full_ops = *files_os()->ops;
    full_ops.create_excl = full_create;
    disk_is_full = false;
    bench_init(&b, &full_files);
    struct spool *s = spool_open(&b.env, &b.err);
    if (!EXPECT_TRUE(s != NULL)) {
        return;
    }
    uint64_t one = put(&b, s, 1, "one");
    disk_is_full = true;
    uint64_t two = put(&b, s, 2, "two");
    EXPECT_TRUE(spool_full(&spool_disk_ops, s));
    expect_row(&b, s, one, 1, "one");
    expect_row(&b, s, two, 2, "two");
    disk_is_full = false;
    spool_drop(&spool_disk_ops, s, two);
    EXPECT_TRUE(!spool_full(&spool_disk_ops, s));
    uint64_t three = put(&b, s, 3, "three");
    expect_row(&b, s, three, 3, "three");
    expect_row(&b, s, one, 1, "one");
    spool_close(s);
    bench_release(&b);
}
