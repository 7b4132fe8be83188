/* The parquet sink on a real folder: what it writes, read back by the reader of the format, and
 * that no failure of any file call, no crash and no older instance loses or doubles a row. */
#include <dirent.h>
#include <stdio.h>

#include "sinks/changelog_parquet/pqlog.h"
#include "sinks/changelog_parquet/pqlog_layout.h"
#include "sinks/changelog_parquet/pqlog_writer.h"
#include "sinks/objects/ledger_folder.h"
#include "sinks/parquet/parquet_reader.h"
#include "tests/unit/u_sink_folder.h"

static int stage_row(struct instance *x, int64_t id, struct err *err);
static char *ids_of_both(const char *dir, bool *whole);
static const struct folder_kind pqlog_kind = { &pqlog_ops, stage_row, ids_of_both };

static void instance_init(struct instance *x, const char *dir, const char *job) {
    instance_of_kind(x, &pqlog_kind, dir, job);
}

static int stage(struct instance *x, struct batch *take_batch, struct err *err) {
    batch_seal(take_batch);
    take_batch->generation = 1;
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &take_batch, .count = 1 };
    int failed = pqlog_ops.writer_stage(x->writer, &item, err);
    batch_unref(take_batch);
    return failed;
}

/* The row in the table t, and in u, so that a commit has two files. */
static int stage_row(struct instance *x, int64_t id, struct err *err) {
    for (int table = 0; table < 2; table++) {
        struct txlist *txs = rows_txs(1);
        struct schema *u = rows_schema(8, "u", 1, "id:int64:k;body:text");
        struct batch *b = batch_new(table ? u : x->schema, 1, txs);
        rows_add(b, ROW_INSERT, 0, 0, id, "body");
        int failed = stage(x, b, err);
        schema_unref(u);
        txlist_unref(txs);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* Names in a folder, sorted, each followed by a space; only those that begin so (NULL = all). */
static char *names_in(const char *dir, const char *begin) {
    struct buf names;
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&names, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    enum files_result listed = files_list(files_os(), dir, &names, &err);
    for (size_t at = 0; listed == FILES_OK && at < names.len; at += strlen(names.data + at) + 1) {
        if (!begin || strncmp(names.data + at, begin, strlen(begin)) == 0) {
            buf_puts(&out, names.data + at);
            buf_putc(&out, ' ');
        }
    }
    char *text = xstrdup(buf_cstr(&out));
    buf_release(&names);
    buf_release(&out);
    return text;
}

static int count_in(const char *dir, const char *begin) {
    char *names = names_in(dir, begin);
    int n = 0;
    for (const char *p = names; *p; p++) {
        n += *p == ' ';
    }
    free(names);
    return n;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* ---- reading back ---- */

struct input {
    struct file *file;
};
static int read_input(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    size_t got = 0;
    int failed = file_read_at(((struct input *)arg)->file, off, p, n, &got, err);
    CHECK(failed || got == n);
    return failed;
}

static void put_cell(struct buf *out, const struct lake_column *c, uint32_t row) {
    if (c->valid && !bit_get(c->valid, row)) {
        buf_puts(out, "null");
    } else if (c->type.kind == LAKE_LIST) {
        buf_putc(out, '[');
        for (uint32_t i = c->offsets[row]; i < c->offsets[row + 1]; i++) {
            put_cell(out, c->elements, i);
            buf_puts(out, i + 1 < c->offsets[row + 1] ? "," : "");
        }
        buf_putc(out, ']');
    } else if (c->width == 0) {
        buf_put(out, c->data + c->offsets[row], c->offsets[row + 1] - c->offsets[row]);
    } else {
        int64_t v = 0;
        memcpy(&v, c->data + (size_t)row * c->width, c->width);
        buf_putf(out, "%lld", (long long)v);
    }
}

/* The columns named, of every row, "a|b|c" a line; "?" for one that is not there. Order is shown as
 * its low bits. */
static char *rows_of(const char *path, const char *columns) {
    struct err err = ERR_INIT;
    struct input input = { 0 };
    struct parquet_reader *r = NULL;
    uint64_t size = 0;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    if (files_open_read(files_os(), path, &input.file, &err) != FILES_OK ||
        file_size(input.file, &size, &err) ||
        parquet_reader_open(
            (struct parquet_input){
                .read_at = read_input, .arg = &input, .size = size, .name = path },
            64 << 20, &r, &err)) {
        file_close(input.file);
        buf_release(&out);
        return xasprintf("(%s)", err.text);
    }
    uint64_t rows = parquet_reader_rows(r);
    char **cells = xcalloc(rows + 1, sizeof *cells);
    char *list = xstrdup(columns);
    char *rest = list;
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        int field = parquet_reader_find(r, 0, name);
        struct parquet_cursor *cursor = NULL;
        uint64_t at = 0;
        int failed = field >= 0 && parquet_cursor_open(r, (uint32_t)field, &cursor, &err);
        CHECK(!failed);
        while (at < rows) {
            struct lake_column c = { .rows = 1 };
            failed = cursor && parquet_cursor_next(cursor, 1000, &c, &err);
            CHECK(!failed && c.rows > 0);
            for (uint32_t i = 0; i < c.rows; i++, at++) {
                struct buf cell;
                buf_init(&cell, SIZE_MAX);
                if (cells[at]) {
                    buf_puts(&cell, cells[at]);
                    buf_putc(&cell, '|');
                }
                if (!cursor) {
                    buf_putc(&cell, '?');
                } else {
                    put_cell(&cell, &c, i);
                }
                free(cells[at]);
                cells[at] = xstrdup(buf_cstr(&cell));
                buf_release(&cell);
            }
        }
        parquet_cursor_close(cursor);
    }
    for (uint64_t i = 0; i < rows; i++) {
        buf_putf(&out, "%s\n", cells[i]);
        free(cells[i]);
    }
    free(cells);
    free(list);
    parquet_reader_close(r);
    file_close(input.file);
    char *text = xstrdup(buf_cstr(&out));
    buf_release(&out);
    return text;
}

static void expect_rows(const char *path, const char *columns, const char *want) {
    char *got = rows_of(path, columns);
    EXPECT_EQ_STR(got, want);
    free(got);
}

/* The whole text of a small file. */
static char *file_text(const char *path) {
    struct err err = ERR_INIT;
    struct buf text;
    struct ledger_place place = { files_os(), "", "parquet" };
    buf_init(&text, SIZE_MAX);
    enum files_result read = ledger_read_whole(&place, path, &text, &err);
    char *s = read == FILES_OK ? xstrdup(buf_cstr(&text)) : xstrdup("(absent)");
    buf_release(&text);
    return s;
}

static int files_of(const char *dir, const char *table) {
    char *folder = xasprintf("%s/public.%s", dir, table);
    int n = count_in(folder, "0");
    free(folder);
    return n;
}

/* ids in all visible files of a table, in their order, each followed by a space; and that every
 * file a commit names is there with its bytes. */
static char *ids_in(const char *dir, const char *table, bool *whole) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    char *folder = xasprintf("%s/public.%s", dir, table);
    char *names = names_in(folder, "0");
    char *rest = names;
    for (char *name; (name = strsep(&rest, " ")) != NULL && *name;) {
        char *path = xasprintf("%s/%s", folder, name);
        char *rows = rows_of(path, "id");
        for (char *p = rows; *p; p++) {
            buf_putc(&out, *p == '\n' ? ' ' : *p);
        }
        free(rows);
        free(path);
    }
    free(names);
    free(folder);
    *whole = true;
    char *commits = xasprintf("%s/_commits", dir);
    names = names_in(commits, "0");
    rest = names;
    int named = 0;
    for (char *name; (name = strsep(&rest, " ")) != NULL && *name;) {
        char *path = xasprintf("%s/%s", commits, name);
        char *text = file_text(path);
        struct pqlog_entries files;
        int bad = pqlog_entries_take(text, strlen(text), &files);
        *whole = *whole && !bad;
        for (uint32_t i = 0; !bad && i < files.count; i++, named++) {
            char *data = xasprintf("%s/%s/%s", dir, files.at[i].folder, files.at[i].name);
            struct err err = ERR_INIT;
            uint64_t size = 0;
            uint32_t crc = 0;
            *whole = *whole && ledger_checksum(files_os(), data, &size, &crc, &err) == FILES_OK &&
                     size == files.at[i].bytes && crc == files.at[i].crc;
            free(data);
        }
        pqlog_entries_release(&files);
        free(text);
        free(path);
    }
    free(names);
    free(commits);
    *whole = *whole && named == files_of(dir, "t") + files_of(dir, "u");
    char *text = xstrdup(buf_cstr(&out));
    buf_release(&out);
    return text;
}

/* The two tables have the same rows. */
static char *ids_of_both(const char *dir, bool *whole) {
    bool whole_u;
    char *t = ids_in(dir, "t", whole), *u = ids_in(dir, "u", &whole_u);
    *whole = *whole && whole_u && strcmp(t, u) == 0;
    free(u);
    return t;
}

#define CHANGE "_op,_tx,_n,_ts,_position,_generation,_unchanged"

TEST(parquet_sink_folder_is_what_its_header_says) {
    const char *dir = kit_text("%s/new/deep", kit_temp_dir());
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, kit_text("%s/", dir), "shop");
    struct sink_state state;
    EXPECT_EQ_INT(pqlog_ops.peek(x.sink, &state, &err), 0);
    EXPECT_EQ_INT(state.knows, TARGET_NOTHING);
    EXPECT_TRUE(!is_there(dir)); /* peek makes nothing */
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(x.state.knows, TARGET_NOTHING);
    EXPECT_EQ_INT(commit_row(&x, 5, true, &err), COMMITTED);
    EXPECT_EQ_INT(commit_row(&x, -6, false, &err), COMMITTED); /* position only */
    EXPECT_EQ_INT(commit_row(&x, 7, false, &err), COMMITTED);
    char *names = names_in(dir, NULL);
    EXPECT_EQ_STR(names, "_commits public.t public.u ");
    free(names);
    names = names_in(kit_text("%s/public.t", dir), NULL);
    EXPECT_EQ_STR(names, "0000000000000002-0001.parquet 0000000000000003-0001.parquet ");
    free(names);
    names = names_in(kit_text("%s/_commits", dir), NULL);
    EXPECT_EQ_STR(names, "0000000000000001.jsonl 0000000000000002.jsonl 0000000000000003.jsonl "
                         "_idle.1.json _schema.0000000000000002.1.json ");
    free(names);
    expect_rows(kit_text("%s/public.u/0000000000000003-0001.parquet", dir), "id,body," CHANGE,
                "7|body|c|100|0|946684800000000|0/1000|1|null\n");
    char *text = file_text(kit_text("%s/_commits/0000000000000002.jsonl", dir));
    static const char begin[] =
        "{\"file\":{\"path\":\"public.t/0000000000000002-0001.parquet\",\"staged\":\".1.";
    static const char end[] =
        "{\"commit\":{\"job\":\"shop\",\"epoch\":1,\"seq\":2,\"rows\":2,"
        "\"schema\":\"_schema.0000000000000002.1.json\",\"position\":{\"v\":1,"
        "\"at\":5},\"inconsistent\":[]}}\n";
    EXPECT_TRUE(strncmp(text, begin, sizeof begin - 1) == 0);
    EXPECT_TRUE(strlen(text) > sizeof end &&
                strcmp(text + strlen(text) - (sizeof end - 1), end) == 0);
    EXPECT_TRUE(strstr(text, "\"table\":\"public.u\",\"version\":1,\"rows\":1,\"bytes\":") != NULL);
    free(text);
    bool whole;
    char *ids = ids_in(dir, "t", &whole);
    EXPECT_EQ_STR(ids, "5 7 ");
    EXPECT_TRUE(whole);
    free(ids);
    instance_release(&x);

    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_STR(x.position, "{\"v\":1,\"at\":7}");
    EXPECT_EQ_U64(x.state.epoch, 2);
    EXPECT_EQ_U64(x.state.seq, 4);
    EXPECT_EQ_INT(x.state.schema_count, 1);
    instance_release(&x);
}

/* Kinds of one transaction, and what each leaves. */
TEST(parquet_sink_rows_are_what_happened) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    struct txlist *txs = rows_txs(2);
    struct batch *b = batch_new(x.schema, 32, txs);
    rows_add(b, ROW_INSERT, 0, 0, 1, "one");
    rows_add(b, ROW_UPDATE_AFTER, 0, 1, 1, "uno");
    rows_add(b, ROW_UPDATE_AFTER, 0, 2, 1, "-");    /* not carried, by nobody */
    rows_add(b, ROW_UPDATE_BEFORE, 0, 3, 1, "old"); /* carried by the row before */
    rows_add(b, ROW_UPDATE_AFTER, 0, 3, 1, "-");
    rows_add(b, ROW_UPDATE_BEFORE, 1, 0, 1, "-"); /* the key moves, by key alone */
    rows_add(b, ROW_UPDATE_AFTER, 1, 0, 2, "-");
    rows_add(b, ROW_UPDATE_BEFORE, 1, 1, 2, "full"); /* ... with all of the row */
    rows_add(b, ROW_UPDATE_AFTER, 1, 1, 3, "-");
    rows_add(b, ROW_UPDATE_BEFORE, 1, 2, 3, NULL); /* left what the job takes */
    rows_add(b, ROW_DELETE, 1, 3, 4, "-");
    rows_add(b, ROW_DELETE, 1, 4, 5, "whole");
    rows_add(b, ROW_TRUNCATE, 1, 5, 0, "-");
    rows_add(b, ROW_INSERT, 1, 6, 6, NULL);
    EXPECT_EQ_INT(stage(&x, b, &err), 0);
    EXPECT_EQ_INT(commit_staged(&x, 1, true, &err), COMMITTED);
    expect_rows(kit_text("%s/public.t/0000000000000002-0001.parquet", dir),
                "_op,id,body,_tx,_n,_unchanged",
                "c|1|one|100|0|null\n"
                "u|1|uno|100|1|null\n"
                "u|1|null|100|2|[body]\n"
                "u|1|old|100|3|null\n"
                "d|1|null|101|0|null\n"
                "c|2|null|101|0|[body]\n"
                "d|2|full|101|1|null\n"
                "c|3|full|101|1|null\n"
                "d|3|null|101|2|null\n"
                "d|4|null|101|3|null\n"
                "d|5|whole|101|4|null\n"
                "t|null|null|101|5|null\n"
                "c|6|null|101|6|null\n");
    char *order = rows_of(kit_text("%s/public.t/0000000000000002-0001.parquet", dir), "_order");
    long long last = (1LL << 36) - 1;
    for (char *p = order; *p; p = strchr(p, '\n') + 1) {
        EXPECT_EQ_INT(strtoll(p, NULL, 10), ++last);
    }
    free(order);
    txlist_unref(txs);
    instance_release(&x);
}

/* Without a key an update takes one row away and puts another. Snapshot rows, holes and generations
 * have no transaction. */
TEST(parquet_sink_keyless_snapshot_removals_and_generations) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    struct schema *keyless = rows_schema(9, "k", 1, "id:int64;body:text");
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(keyless, 4, txs);
    rows_add(b, ROW_UPDATE_BEFORE, 0, 0, 1, "same");
    rows_add(b, ROW_UPDATE_AFTER, 0, 0, 1, "-");
    EXPECT_EQ_INT(stage(&x, b, &err), 0);
    struct stage_item begin = {
        .kind = STAGE_GENERATION, .schema = x.schema, .generation = 2, .at = { 0, 77 }
    };
    EXPECT_EQ_INT(pqlog_ops.writer_stage(x.writer, &begin, &err), 0);
    b = batch_new(x.schema, 100, NULL);
    for (int i = 0; i < 20; i++) {
        rows_add(b, ROW_INSERT, 0, 0, i, i % 2 ? "x" : NULL);
    }
    b->joined = (struct logpos){ 0, 88 };
    batch_seal(b);
    b->generation = 2;
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    EXPECT_EQ_INT(pqlog_ops.writer_stage(x.writer, &item, &err), 0);
    batch_unref(b);
    b = batch_new(x.schema, 2, NULL);
    rows_add(b, ROW_INSERT, 0, 0, 3, "not looked at");
    batch_seal(b);
    b->generation = 2;
    item = (struct stage_item){ .kind = STAGE_REMOVE, .batches = &b, .count = 1, .at = { 0, 99 } };
    EXPECT_EQ_INT(pqlog_ops.writer_stage(x.writer, &item, &err), 0);
    batch_unref(b);
    EXPECT_EQ_INT(commit_staged(&x, 1, true, &err), COMMITTED);
    expect_rows(kit_text("%s/public.k/0000000000000002-0001.parquet", dir), "_op,id,body,_n",
                "d|1|same|0\nc|1|same|0\n");
    char *rows =
        rows_of(kit_text("%s/public.t/0000000000000002-0001.parquet", dir), "id,body," CHANGE);
    static const char head[] = "null|null|t|null|null|null|0/77|2|null\n"
                               "0|null|r|null|null|null|0/88|2|null\n"
                               "1|x|r|null|null|null|0/88|2|null\n";
    static const char tail[] = "19|x|r|null|null|null|0/88|2|null\n"
                               "3|null|d|null|null|null|0/99|2|null\n";
    EXPECT_TRUE(strncmp(rows, head, sizeof head - 1) == 0);
    EXPECT_EQ_STR(rows + strlen(rows) - (sizeof tail - 1), tail);
    free(rows);
    txlist_unref(txs);
    schema_unref(keyless);
    instance_release(&x);
}

/* Tables in one item, a version that changes in mid-commit, and a returning one. */
TEST(parquet_sink_a_new_definition_begins_a_new_file) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    struct schema *wide = rows_schema(7, "t", 2, "id:int64:k;body:text;more:int32");
    struct schema *renamed = rows_schema(7, "t_2", 3, "id:int64:k;body:text");
    struct txlist *txs = rows_txs(3);
    struct batch *b[3] = { batch_new(x.schema, 1, txs), batch_new(wide, 1, txs),
                           batch_new(renamed, 1, txs) };
    rows_add(b[0], ROW_INSERT, 0, 0, 1, "a");
    put_i64(b[1], 0, 2);
    put_str(b[1], 1, "b");
    put_i32(b[1], 2, -7);
    batch_row_done(b[1], ROW_INSERT, 1, 0);
    rows_add(b[2], ROW_INSERT, 2, 0, 3, "c");
    for (int i = 0; i < 3; i++) {
        batch_seal(b[i]);
        b[i]->generation = 1;
    }
    struct batch *shuffled[3] = { b[2], b[0], b[1] };
    struct stage_item item = { .kind = STAGE_ROWS, .batches = shuffled, .count = 3 };
    EXPECT_EQ_INT(pqlog_ops.writer_stage(x.writer, &item, &err), 0);
    EXPECT_EQ_INT(commit_staged(&x, 1, true, &err), COMMITTED);
    expect_rows(kit_text("%s/public.t/0000000000000002-0001.parquet", dir), "id,body,more,_op",
                "1|a|?|c\n");
    expect_rows(kit_text("%s/public.t/0000000000000002-0002.parquet", dir), "id,body,more,_op",
                "2|b|4294967289|c\n");
    expect_rows(kit_text("%s/public.t_2/0000000000000002-0001.parquet", dir), "id,body,more,_op",
                "3|c|?|c\n");
    for (int i = 0; i < 3; i++) {
        batch_unref(b[i]);
    }
    txlist_unref(txs);
    schema_unref(wide);
    schema_unref(renamed);
    instance_release(&x);
}

TEST(parquet_sink_holds_no_more_open_files_and_memory_than_it_may) {
    enum { TABLES = 150, ROUNDS = 3 };
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    struct txlist *txs = rows_txs(1);
    struct schema *schemas[TABLES];
    for (int i = 0; i < TABLES; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        schemas[i] = rows_schema((uint64_t)(100 + i), name, 1, "id:int64:k;body:text");
    }
    for (int i = 0; i < TABLES * ROUNDS; i++) {
        struct batch *b = batch_new(schemas[i % TABLES], 1, txs);
        rows_add(b, ROW_INSERT, 0, (uint32_t)i, i, "x");
        EXPECT_EQ_INT(stage(&x, b, &err), 0);
    }
    EXPECT_EQ_INT(commit_staged(&x, 1, true, &err), COMMITTED);
    int files = 0;
    for (int i = 0; i < TABLES; i++) {
        char folder[256];
        snprintf(folder, sizeof folder, "%s/public.t%d", dir, i);
        files += count_in(folder, "0");
        EXPECT_EQ_INT(count_in(folder, "."), 0);
        schema_unref(schemas[i]);
    }
    EXPECT_TRUE(files > TABLES && files <= TABLES * ROUNDS);
    expect_rows(kit_text("%s/public.t7/0000000000000002-0002.parquet", dir), "id", "157\n");
    txlist_unref(txs);
    instance_release(&x);
}

TEST(parquet_sink_columns_that_would_collide_are_refused_and_a_prefix_cures_it) {
    const char *dir = kit_temp_dir();
    for (int round = 0; round < 2; round++) {
        struct instance x;
        struct err err = ERR_INIT;
        instance_init(&x, dir, "shop");
        if (round) {
            pqlog_ops.close(x.sink);
            EXPECT_EQ_INT(opts_set(x.opts, "prefix", "_tailrace_", &err), 0);
            struct sink_address addr = { .scheme = "parquet",
                                         .path = dir,
                                         .job = "shop",
                                         .opts = x.opts,
                                         .put_logpos = rows_put_logpos };
            EXPECT_EQ_INT(pqlog_ops.open(&addr, &x.env, &x.sink, &err), 0);
        }
        EXPECT_EQ_INT(start(&x, &err), 0);
        struct schema *taken = rows_schema(9, "taken", 1, "id:int64:k;_Order:text");
        struct txlist *txs = rows_txs(1);
        struct batch *b = batch_new(taken, 1, txs);
        rows_add(b, ROW_INSERT, 0, 0, 1, "a");
        EXPECT_EQ_INT(stage(&x, b, &err), round ? 0 : -1);
        EXPECT_EQ_STR(err.code, round ? "" : "parquet_column_taken");
        if (round) {
            EXPECT_EQ_INT(commit_staged(&x, 1, true, &err), COMMITTED);
            expect_rows(kit_text("%s/public.taken/0000000000000003-0001.parquet", dir),
                        "id,_Order,_tailrace_op", "1|a|c\n");
        }
        txlist_unref(txs);
        schema_unref(taken);
        instance_release(&x);
    }
}

TEST(parquet_sink_keys_that_nobody_carried_stop_it) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(x.schema, 1, txs);
    batch_put_absent(b, 0);
    put_str(b, 1, "x");
    batch_row_done(b, ROW_UPDATE_AFTER, 0, 0);
    EXPECT_EQ_INT(stage(&x, b, &err), -1);
    EXPECT_EQ_STR(err.code, "key_not_carried");
    txlist_unref(txs);
    instance_release(&x);
}

TEST(parquet_sink_folder_names) {
    static const char *const cases[][3] = {
        { "public", "orders", "public.orders" },     { "public", "a/b", "public.a%2Fb" },
        { "public", "a.b", "public.a%2Eb" },         { "_s", "..", "%5Fs.%2E%2E" },
        { "s", "50%_x=y *", "s.50%25_x%3Dy%20%2A" }, { "s", "\xc3\xa4", "s.\xc3\xa4" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char *name = pqlog_folder_name(cases[i][0], cases[i][1]);
        EXPECT_EQ_STR(name, cases[i][2]);
        free(name);
    }
    char odd[64];
    memset(odd, '/', 63);
    odd[63] = '\0';
    for (int cut = 0; cut < 3; cut++) {
        char *a = pqlog_folder_name("public" + cut, odd);
        odd[62] = '.';
        char *b = pqlog_folder_name("public" + cut, odd);
        odd[62] = '/';
        EXPECT_TRUE(strlen(a) > 200 || strlen(a) == strlen(b));
        EXPECT_TRUE(strlen(a) <= 200 && strcmp(a, b) != 0);
        char *long_name = pqlog_folder_name(odd, odd);
        EXPECT_TRUE(strlen(long_name) <= 200 && strchr(long_name, '~') != NULL);
        EXPECT_TRUE(strstr(long_name, "%~") == NULL && strstr(long_name, "%2~") == NULL);
        free(long_name);
        free(a);
        free(b);
    }
}

TEST(parquet_sink_commit_lines_that_name_what_is_outside_are_refused) {
    static const char good[] =
        "{\"file\":{\"path\":\"public.t/0000000000000002-0001.parquet\",\"staged\":\".1."
        "0123456789abcdef\",\"table\":\"public.t\",\"version\":1,\"rows\":1,\"bytes\":9,"
        "\"crc32\":\"00000001\"}}\n";
    static const char *const bad[][2] = {
        { "public.t/0000", "../0000" },
        { "public.t/0000", "a/../0000" },
        { "public.t/0000", "0000" },
        { "public.t/0000", "/0000" },
        { ".1.0123", "../../x" },
        { ".1.0123", "1.0123" },
        { "-0001.parquet", "-1.parquet" },
        { "-0001.parquet", "-0001.parquet/x" },
        { "\"rows\":1", "\"rows\":-1" },
        { "\"crc32\":\"0", "\"crc32\":\"g" },
        { "\"version\":1", "\"version\":1e9" },
        { "}}\n", "}}" },
        { "}}\n", "}\n" },
        { "public.t/0000", "_commits/0000" },
    };
    struct pqlog_entries files;
    EXPECT_EQ_INT(pqlog_entries_take(good, sizeof good - 1, &files), 0);
    if (EXPECT_EQ_INT(files.count, 1)) {
        struct buf again;
        buf_init(&again, SIZE_MAX);
        pqlog_entry_put(&again, &files.at[0]);
        EXPECT_EQ_STR(buf_cstr(&again), good);
        buf_release(&again);
    }
    pqlog_entries_release(&files);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        const char *at = strstr(good, bad[i][0]);
        CHECK(at);
        char *text =
            xasprintf("%.*s%s%s", (int)(at - good), good, bad[i][1], at + strlen(bad[i][0]));
        int taken = pqlog_entries_take(text, strlen(text), &files);
        EXPECT_EQ_INT(taken, -1);
        if (taken == 0) {
            fprintf(stderr, "case %zu\n", i);
            pqlog_entries_release(&files);
        }
        free(text);
    }
}

TEST(parquet_sink_older_instance_is_fenced) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(stage_row(&old, 2, &err), 0);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 1);
    EXPECT_EQ_INT(start(&new, &err), 0);
    EXPECT_EQ_STR(new.position, "{\"v\":1,\"at\":1}");
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 0); /* removed after the claim */
    EXPECT_EQ_INT(commit_staged(&old, 2, false, &err), COMMIT_FENCED);
    EXPECT_EQ_INT(err.exit, EXIT_FENCED);
    EXPECT_EQ_INT(commit_row(&old, 3, false, &err), COMMIT_FENCED); /* and for good */
    EXPECT_EQ_INT(commit_row(&old, -4, false, &err), COMMIT_FENCED);
    EXPECT_EQ_INT(commit_row(&new, 2, false, &err), COMMITTED);
    instance_release(&old);
    instance_release(&new);
    bool whole;
    char *ids = ids_in(dir, "t", &whole);
    EXPECT_EQ_STR(ids, "1 2 ");
    EXPECT_TRUE(whole);
    free(ids);
}

/* An old instance that is slow to clean up leaves what a newer one stages. */
TEST(parquet_sink_staged_files_of_newer_instances_stay) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(commit_row(&x, 1, true, &err), COMMITTED);
    instance_release(&x);
    const char *newer = kit_text("%s/public.t/.9.0123456789abcdef", dir);
    const char *older = kit_text("%s/public.t/.1.0123456789abcdef", dir);
    const char *foreign = kit_text("%s/public.t/.1.notes", dir);
    for (int i = 0; i < 3; i++) {
        fclose(fopen(i == 0 ? newer : i == 1 ? older : foreign, "wb"));
    }
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_TRUE(is_there(newer));
    EXPECT_TRUE(!is_there(older));
    EXPECT_TRUE(is_there(foreign));
    instance_release(&x);
}

TEST(parquet_sink_each_file_call_fails_once_nothing_lost_nothing_twice) {
    drive_all(&pqlog_kind, "fail", false, false, ERR_FATAL);
}
TEST(parquet_sink_each_file_call_fails_after_its_effect) {
    drive_all(&pqlog_kind, "lost", true, false, ERR_FATAL);
}
TEST(parquet_sink_each_file_call_finds_a_full_disk) {
    drive_all(&pqlog_kind, "full", false, false, ERR_RETRY);
}
TEST(parquet_sink_crash_at_each_file_call) {
    drive_all(&pqlog_kind, "crash", false, true, ERR_FATAL);
}
TEST(parquet_sink_crash_after_each_file_call) {
    drive_all(&pqlog_kind, "gone", true, true, ERR_FATAL);
}

/* The commit stands and a name cannot be given: nobody is told until it can. */
TEST(parquet_sink_names_that_fail_are_an_unknown_outcome) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    struct attempt a;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
    EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
    /* create and write the commit file, its line, sync, rename, sync of the folder; a name */
    x.files.fail_at = x.files.calls + 7;
    EXPECT_EQ_INT(pqlog_ops.commit(x.sink, &a.req, &err), COMMIT_UNKNOWN);
    EXPECT_EQ_STR(x.files.failed, "rename_new");
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "0"), 0);
    EXPECT_TRUE(is_there(kit_text("%s/_commits/0000000000000002.jsonl", dir)));
    x.files.fail_at = x.files.calls + 2;
    EXPECT_EQ_INT(pqlog_ops.resolve(x.sink, &a.req, &err), RESOLVE_FAILED);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "0"), 1);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.u", dir), "0"), 0);
    pqlog_ops.part_free(a.part, false); /* the engine gives up: what stands is not removed */
    a.part = NULL;
    settle(&x, &a, false, false);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.u", dir), "."), 1);
    x.files.fail_at = 0;
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_STR(x.position, "{\"v\":1,\"at\":1}");
    bool whole;
    char *ids = ids_in(dir, "u", &whole);
    EXPECT_EQ_STR(ids, "1 ");
    EXPECT_TRUE(whole);
    free(ids);
    instance_release(&x);
}

/* Renames as link + unlink, cut in between; and a foreign file in our place. */
TEST(parquet_sink_name_taken_by_our_own_bytes_is_ours) {
    for (int own = 1; own >= 0; own--) {
        const char *dir = kit_text("%s/%d", kit_temp_dir(), own);
        struct instance x;
        struct err err = ERR_INIT;
        struct attempt a;
        instance_init(&x, dir, "shop");
        EXPECT_EQ_INT(start(&x, &err), 0);
        EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
        EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
        struct pqlog_entry *e = &pqlog_part_of(a.part)->files.at[0];
        const char *staged = kit_text("%s/%s/%s", dir, e->folder, e->staged);
        const char *path = kit_text("%s/public.t/0000000000000002-0001.parquet", dir);
        if (own) {
            EXPECT_EQ_INT(link(staged, path), 0);
        } else {
            fclose(fopen(path, "wb"));
        }
        enum commit_outcome outcome = pqlog_ops.commit(x.sink, &a.req, &err);
        EXPECT_EQ_INT(outcome, own ? COMMITTED : COMMIT_UNKNOWN);
        EXPECT_TRUE(is_there(staged) == !own);
        if (!own) {
            EXPECT_EQ_STR(err.code, "parquet_taken");
            EXPECT_EQ_INT(pqlog_ops.resolve(x.sink, &a.req, &err), RESOLVE_FAILED);
            EXPECT_EQ_INT(start(&x, &err), -1); /* also after a restart, until it is moved */
            EXPECT_EQ_STR(err.code, "parquet_taken");
            unlink(path);
            err_clear(&err);
            EXPECT_EQ_INT(start(&x, &err), 0);
        }
        settle(&x, &a, own, !own);
        bool whole;
        char *ids = ids_in(dir, "t", &whole);
        EXPECT_EQ_STR(ids, "1 ");
        EXPECT_TRUE(whole);
        free(ids);
        instance_release(&x);
    }
}

TEST(parquet_sink_uncommitted_parts_go) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    struct attempt a;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
    EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 1);
    settle(&x, &a, false, false);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 0);
    EXPECT_EQ_INT(stage_row(&x, 2, &err), 0);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 1);
    drop_run(&x);
    EXPECT_EQ_INT(count_in(kit_text("%s/public.t", dir), "."), 0);
    instance_release(&x);
}

TEST(parquet_sink_what_the_newest_commit_names_is_missed) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(commit_row(&x, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(commit_row(&x, 2, true, &err), COMMITTED);
    const char *old = kit_text("%s/public.t/0000000000000002-0001.parquet", dir);
    const char *new = kit_text("%s/public.t/0000000000000003-0001.parquet", dir);
    EXPECT_EQ_INT(unlink(old), 0); /* old files may go */
    EXPECT_EQ_INT(rename(new, kit_text("%s/away", dir)), 0);
    instance_release(&x);
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_moved");
    EXPECT_EQ_INT(err.exit, EXIT_LINEAGE);
    EXPECT_EQ_INT(count_in(kit_text("%s/_commits", dir), "0"), 3); /* nothing was claimed */
    err_clear(&err);
    fclose(fopen(new, "wb"));
    EXPECT_EQ_INT(start(&x, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_damaged");
    err_clear(&err);
    EXPECT_EQ_INT(rename(kit_text("%s/away", dir), new), 0);
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_STR(x.position, "{\"v\":1,\"at\":2}");
    instance_release(&x);
    instance_init(&x, dir, "mall");
    EXPECT_EQ_INT(start(&x, &err), -1);
    EXPECT_EQ_STR(err.code, "parquet_other_job");
    instance_release(&x);
}

TEST(parquet_sink_failpoints_leave_the_folder_exact) {
    static const char *const points[] = {
        "before_stage",  "after_stage",  "after_seal",     "before_fsync",
        "before_rename", "after_rename", "after_dir_sync", "before_naming",
        "after_name",    "after_naming", "before_claim",   "after_claim",
        "before_schema", "after_schema", "before_idle",    "after_idle",
    };
    for (size_t i = 0; i < ARRAY_COUNT(points); i++) {
        const char *dir = kit_text("%s/%zu", kit_temp_dir(), i);
        struct instance x;
        struct err err = ERR_INIT;
        instance_init(&x, dir, "shop");
        struct failpoints *fp = failpoints_new(kit_text("parquet.%s=error", points[i]), NULL, &err);
        CHECK(fp);
        x.env.failpoints = fp;
        bool fired = false;
        int at = 0;
        for (int run = 0; run < 3 && at < 3; run++) {
            err_clear(&err);
            int failed = start(&x, &err);
            at = !failed && x.position ? atoi(strstr(x.position, "\"at\":") + 5) : 0;
            bool first = !failed && x.state.schema_count == 0;
            while (!failed && at < 3) {
                failed = commit_row(&x, at == 1 ? -2 : at + 1, first, &err) != COMMITTED;
                at += !failed;
                first = false;
            }
            fired = fired || failed || strcmp(err.code, "failpoint") == 0;
        }
        bool whole;
        char *ids = ids_in(dir, "t", &whole);
        EXPECT_EQ_STR(ids, "1 3 ");
        EXPECT_TRUE(whole && fired);
        free(ids);
        instance_release(&x);
        failpoints_free(fp);
    }
}

TEST(parquet_sink_addresses_and_options_that_cannot_be_are_refused) {
    struct opts *opts = opts_new(pqlog_ops.opts);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(opts_set(opts, "prefix", "a-b", &err), 0);
    struct sink_address bad[] = {
        { .scheme = "parquet", .hosts = "tmp", .path = "/x", .job = "a" },
        { .scheme = "parquet", .path = "x", .job = "a" },
        { .scheme = "parquet", .path = "/x", .job = "a", .opts = opts },
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct sink *s = NULL;
        struct env env = { .files = files_os() };
        err_clear(&err);
        EXPECT_EQ_INT(pqlog_ops.open(&bad[i], &env, &s, &err), -1);
        EXPECT_EQ_STR(err.code, i == 2 ? "option_value" : "parquet_address");
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
    }
    opts_free(opts);
}
