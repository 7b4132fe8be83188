/* See pqlog_writer.h. An item's changes are told apart by table first and then written table by
 * table, so that rows go to a file in runs; their numbers keep the order in which they came. */
#include "sinks/changelog_parquet/pqlog_writer.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "sinks/changelog_parquet/pqlog_rows.h"
#include "sinks/encode/stage_merge.h"

/* _order: the epoch above, a count of this instance's rows below. */
enum { ORDER_BITS = 36, EPOCH_BITS = 63 - ORDER_BITS };

/* A table that this writer has met. */
struct written {
    struct pqlog_file *file; /* NULL: none open */
    uint64_t used;           /* number of the last item that had rows for it */
    struct buf rows;         /* struct pqlog_row, of the present item */
};
struct pqlog_writer {
    struct sink_writer base;
    struct pqlog_writer_config config;
    struct pqlog_rows *encoder;
    struct stage_merge merge;
    struct map *tables;    /* table_id -> struct written */
    struct written **open; /* tables with an open file, in the order they were opened */
    uint32_t open_files;
    uint64_t items;
    int64_t order;
    struct written **of_batch; /* a batch of the item each */
    struct written **touched;  /* tables with rows in the item */
    uint32_t touched_count, cap;
    struct pqlog_entries done; /* since the last seal */
    struct store_folders folders;
    uint64_t rows; /* likewise */
    bool broken;
};

static struct pqlog_writer *writer_of(struct sink_writer *w) {
    return (struct pqlog_writer *)w; /* base is its first member */
}

int pqlog_writer_new(const struct pqlog_writer_config *config, const struct sink_ops *ops,
                     struct sink_writer **out, struct err *err) {
    if (config->epoch >> EPOCH_BITS) {
        err_set(err, ERR_FATAL, "parquet_order",
                "folder \"%s\": instance number %llu leaves no room for the order of rows",
                config->dir, (unsigned long long)config->epoch);
        return err_cure(err, "start the job anew in an empty folder");
    }
    struct pqlog_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = ops;
    w->config = *config;
    w->encoder = pqlog_rows_new(config->put_logpos);
    stage_merge_init(&w->merge);
    w->tables = map_new();
    w->open = xcalloc(config->files_max, sizeof(struct written *));
    w->order = (int64_t)(config->epoch << ORDER_BITS);
    *out = &w->base;
    return 0;
}

static void written_free(void *p) {
    struct written *t = p;
    pqlog_file_abort(t->file);
    buf_release(&t->rows);
    free(t);
}

void pqlog_writer_close(struct sink_writer *sw) {
    struct pqlog_writer *w = writer_of(sw);
    struct pqlog_part *unsealed = xcalloc(1, sizeof *unsealed);
    *unsealed = (struct pqlog_part){ .env = w->config.env, .dir = w->config.dir, .files = w->done };
    pqlog_part_free((struct sink_part *)unsealed, false);
    map_free(w->tables, written_free);
    store_folders_release(&w->folders);
    stage_merge_release(&w->merge);
    pqlog_rows_free(w->encoder);
    free(w->open);
    free(w->of_batch);
    free(w->touched);
    free(w);
}

/* ---- files ---- */

static int end_file(struct pqlog_writer *w, struct written *t, struct err *err) {
    struct pqlog_file *file = t->file;
    struct pqlog_entry entry;
    uint32_t at = 0;
    while (w->open[at] != t) {
        at++;
    }
    memmove(&w->open[at], &w->open[at + 1], (w->open_files - at - 1) * sizeof *w->open);
    w->open_files--;
    t->file = NULL;
    if (pqlog_file_finish(file, &w->folders, &entry, err)) {
        return -1;
    }
    pqlog_entries_add(&w->done, &entry);
    return 0;
}

/* The open file whose `of` is greatest; NULL if none is open. */
static struct written *greatest(struct pqlog_writer *w,
                                uint64_t (*of)(const struct pqlog_writer *, const struct written *),
                                uint64_t *sum) {
    struct written *found = NULL;
    uint64_t most = 0;
    *sum = 0;
    for (uint32_t i = 0; i < w->open_files; i++) {
        uint64_t n = of(w, w->open[i]);
        *sum += n;
        if (!found || n > most) {
            found = w->open[i];
            most = n;
        }
    }
    return found;
}
static uint64_t memory_of(const struct pqlog_writer *w TR_UNUSED, const struct written *t) {
    return pqlog_file_memory(t->file);
}
static uint64_t idleness_of(const struct pqlog_writer *w, const struct written *t) {
    return w->items - t->used;
}

/* The file that rows of this schema go to. */
static int file_for(struct pqlog_writer *w, struct written *t, struct schema *schema,
                    struct err *err) {
    uint64_t ignored;
    t->used = w->items;
    if (t->file &&
        (!pqlog_file_fits(t->file, schema) || pqlog_file_bytes(t->file) >= w->config.file_bytes)) {
        if (end_file(w, t, err)) {
            return -1;
        }
    }
    if (t->file) {
        return 0;
    }
    if (w->open_files >= w->config.files_max &&
        end_file(w, greatest(w, idleness_of, &ignored), err)) {
        return -1;
    }
    if (pqlog_file_open(&w->config.file, w->config.epoch, schema, &t->file, err)) {
        return -1;
    }
    w->open[w->open_files++] = t;
    return 0;
}

static int bound_memory(struct pqlog_writer *w, struct err *err) {
    for (;;) {
        uint64_t sum;
        struct written *most = greatest(w, memory_of, &sum);
        if (!most || sum <= w->config.open_bytes_max) {
            return 0;
        }
        size_t before = pqlog_file_memory(most->file);
        if (pqlog_file_flush(most->file, err)) {
            return -1;
        }
        if (pqlog_file_memory(most->file) >= before && end_file(w, most, err)) {
            return -1; /* what is held besides rows: many open files of wide tables */
        }
    }
}

/* ---- an item's rows ---- */

static struct written *table_of(struct pqlog_writer *w, const struct schema *schema) {
    struct written *t = map_get(w->tables, &schema->table_id, sizeof schema->table_id);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        buf_init(&t->rows, SIZE_MAX);
        map_set(w->tables, &schema->table_id, sizeof schema->table_id, t);
    }
    return t;
}

static void add_row(struct pqlog_writer *w, struct pqlog_row row) {
    struct written *t = w->of_batch[row.batch];
    if (t->rows.len == 0) {
        w->touched[w->touched_count++] = t;
    }
    row.order = w->order++;
    buf_put(&t->rows, &row, sizeof row);
    w->rows++;
}

static bool same_cell(const struct column *a, uint32_t row_a, const struct column *b,
                      uint32_t row_b) {
    bool null_a = cell_null(a, row_a), null_b = cell_null(b, row_b);
    size_t len_a, len_b;
    const uint8_t *p = cell_bytes(a, row_a, &len_a), *q = cell_bytes(b, row_b, &len_b);
    return null_a || null_b ? null_a == null_b
                            : len_a == len_b && (len_a == 0 || memcmp(p, q, len_a) == 0);
}

/* Is the row after an update another one than before, by its key? A cell that was not carried is as
 * it was. Without a key every row is its own. */
static bool key_moved(const struct batch *old, uint32_t old_row, const struct batch *b,
                      uint32_t row) {
    if (b->schema->key_count == 0) {
        return true;
    }
    for (uint32_t i = 0; i < b->schema->key_count; i++) {
        uint16_t col = b->schema->key[i];
        if (!cell_absent(&b->columns[col], row) && !cell_absent(&old->columns[col], old_row) &&
            !same_cell(&old->columns[col], old_row, &b->columns[col], row)) {
            return true;
        }
    }
    return false;
}

static void add_update(struct pqlog_writer *w, const struct stage_item *item,
                       const struct stage_change *c) {
    const struct batch *old = item->batches[c->batch], *b = item->batches[c->after_batch];
    bool alike = old == b || schema_same_rows(old->schema, b->schema);
    bool moved = !alike || key_moved(old, c->row, b, c->after_row);
    if (moved) {
        add_row(w, (struct pqlog_row){
                       .batch = c->batch, .row = c->row, .old_batch = PQLOG_NO_BATCH, .op = 'd' });
    }
    add_row(w, (struct pqlog_row){ .batch = c->after_batch,
                                   .row = c->after_row,
                                   .old_batch = alike ? c->batch : PQLOG_NO_BATCH,
                                   .old_row = c->row,
                                   .op = moved ? 'c' : 'u' });
}

static void add_change(struct pqlog_writer *w, const struct stage_item *item,
                       const struct stage_change *c) {
    struct pqlog_row row = { .batch = c->batch, .row = c->row, .old_batch = PQLOG_NO_BATCH };
    switch (c->kind) {
    case ROW_INSERT:
        row.op = item->batches[c->batch]->txs ? 'c' : 'r';
        break;
    case ROW_UPDATE_BEFORE:
        if (c->paired) {
            add_update(w, item, c);
            return;
        }
        row.op = 'd'; /* the row left what the job takes */
        break;
    case ROW_UPDATE_AFTER:
        row.op = 'u';
        break;
    case ROW_DELETE:
        row.op = 'd';
        break;
    case ROW_TRUNCATE:
        row.op = 't';
        break;
    }
    CHECK(row.op);
    add_row(w, row);
}

static void sort_rows(struct pqlog_writer *w, const struct stage_item *item) {
    if (item->count > w->cap) {
        w->cap = item->count;
        w->of_batch = xrealloc(w->of_batch, w->cap * sizeof(struct written *));
        w->touched = xrealloc(w->touched, w->cap * sizeof(struct written *));
    }
    w->touched_count = 0;
    for (uint32_t i = 0; i < item->count; i++) {
        w->of_batch[i] = table_of(w, item->batches[i]->schema);
        buf_clear(&w->of_batch[i]->rows);
    }
    if (item->kind == STAGE_REMOVE) {
        for (uint32_t row = 0; row < item->batches[0]->rows; row++) {
            add_row(w, (struct pqlog_row){
                           .row = row, .old_batch = PQLOG_NO_BATCH, .op = 'd', .keys_only = true });
        }
        return;
    }
    struct stage_change change;
    stage_merge_begin(&w->merge, item);
    while (stage_merge_next(&w->merge, &change)) {
        add_change(w, item, &change);
    }
}

static int write_table(struct pqlog_writer *w, struct written *t, const struct stage_item *item,
                       struct err *err) {
    const struct pqlog_row *rows = (const struct pqlog_row *)(void *)t->rows.data;
    uint32_t count = (uint32_t)(t->rows.len / sizeof *rows);
    for (uint32_t at = 0; at < count;) {
        uint32_t n = pqlog_rows_run(item, rows + at, count - at);
        if (file_for(w, t, item->batches[rows[at].batch]->schema, err) ||
            pqlog_rows_put(w->encoder, t->file, rows + at, n, err)) {
            return -1;
        }
        at += n;
    }
    buf_clear(&t->rows);
    return 0;
}

static int write_item(struct pqlog_writer *w, const struct stage_item *item, struct err *err) {
    w->items++;
    pqlog_rows_begin(w->encoder, item);
    if (item->kind == STAGE_GENERATION) {
        struct written *t = table_of(w, item->schema);
        w->rows++;
        return file_for(w, t, item->schema, err) ||
                       pqlog_rows_put_generation(w->encoder, t->file, w->order++, err)
                   ? -1
                   : 0;
    }
    sort_rows(w, item);
    for (uint32_t i = 0; i < w->touched_count; i++) {
        if (write_table(w, w->touched[i], item, err)) {
            return -1;
        }
    }
    return bound_memory(w, err);
}

/* Nothing staged since the last seal is good any more. */
static int fail(struct pqlog_writer *w, struct err *err) {
    w->broken = true;
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND;
    }
    return -1;
}

static int refuse_broken(struct err *err) {
    return err_set(err, ERR_REWIND, "staging_failed", "staging had failed before");
}

int pqlog_writer_stage(struct sink_writer *sw, const struct stage_item *item, struct err *err) {
    struct pqlog_writer *w = writer_of(sw);
    if (w->broken) {
        return refuse_broken(err);
    }
    if (FAILPOINT(w->config.env->failpoints, "parquet.before_stage", err) ||
        write_item(w, item, err) ||
        FAILPOINT(w->config.env->failpoints, "parquet.after_stage", err)) {
        return fail(w, err);
    }
    return 0;
}

int pqlog_writer_seal(struct sink_writer *sw, uint64_t seq TR_UNUSED, struct sink_part **out,
                      struct err *err) {
    struct pqlog_writer *w = writer_of(sw);
    *out = NULL;
    if (w->broken) {
        return refuse_broken(err);
    }
    while (w->open_files > 0) {
        if (end_file(w, w->open[0], err)) {
            return fail(w, err);
        }
    }
    if (w->done.count == 0) {
        return 0;
    }
    if (store_settle(w->config.file.store, &w->folders, err) ||
        FAILPOINT(w->config.env->failpoints, "parquet.after_seal", err)) {
        return fail(w, err);
    }
    struct pqlog_part *part = xcalloc(1, sizeof *part);
    *part = (struct pqlog_part){
        .env = w->config.env, .dir = w->config.dir, .files = w->done, .rows = w->rows
    };
    w->done = (struct pqlog_entries){ 0 };
    w->rows = 0;
    *out = (struct sink_part *)part;
    return 0;
}

void pqlog_part_free(struct sink_part *p, bool committed) {
    struct pqlog_part *part = pqlog_part_of(p);
    if (!part) {
        return;
    }
    bool keep = committed || part->stands || (part->staged && part->staged->doubt);
    ledger_staged_free(part->staged, !keep);
    for (uint32_t i = 0; i < part->files.count && !keep; i++) {
        char *path =
            xasprintf("%s/%s/%s", part->dir, part->files.at[i].folder, part->files.at[i].staged);
        struct err err = ERR_INIT;
        if (files_unlink(part->env->files, path, &err) == FILES_FAILED && part->env->log) {
            log_warn(part->env->log, "commit", "staged_left", "%s", err.text);
        }
        free(path);
    }
    pqlog_entries_release(&part->files);
    free(part);
}
