/* A table's staging: its schema, open files and seal. See ice_stage.h; changes of rows are
 * ice_stage_apply.c's, the key index's life ice_stage_index.c's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "sinks/iceberg/ice_stage_internal.h"

enum { ZERO_BYTES = 16 * (BATCH_ROWS_MAX + 1) };

/* What the present schema is converted with. */
static void drop_shape(struct ice_stage *st) {
    for (uint32_t i = 0; st->scratch && i < st->schema.field_count; i++) {
        lake_scratch_free(st->scratch[i]);
        lake_builder_release(&st->builders[i]);
    }
    free(st->scratch);
    free(st->builders);
    free(st->columns);
    free(st->bind);
    free(st->key_fields);
    ice_router_free(st->router);
    free(st->open);
    st->scratch = NULL;
    st->builders = NULL;
    st->columns = NULL;
    st->bind = NULL;
    st->key_fields = NULL;
    st->router = NULL;
    st->open = NULL;
    st->open_count = 0;
}

static void make_shape(struct ice_stage *st, struct schema *source) {
    uint32_t n = st->schema.field_count;
    schema_unref(st->source);
    st->source = schema_ref(source);
    st->scratch = xcalloc(n, sizeof *st->scratch);
    st->builders = xcalloc(n, sizeof *st->builders);
    st->columns = xcalloc(n, sizeof *st->columns);
    st->bind = xcalloc(n, sizeof *st->bind);
    for (uint32_t i = 0; i < n; i++) {
        st->scratch[i] = lake_scratch_new();
        lake_builder_init(&st->builders[i]);
    }
    ice_schema_bind(&st->schema, source, st->bind);
    st->key_count = source->key_count;
    st->key_fields = xcalloc(st->key_count + 1, sizeof *st->key_fields);
    for (uint32_t k = 0; k < st->key_count; k++) {
        int field = ice_schema_find(&st->schema, source->columns[source->key[k]].name);
        CHECK(field >= 0);
        st->key_fields[k] = (uint32_t)field;
    }
    st->router = ice_router_new(&st->spec, &st->schema);
}

static int finish_file(struct ice_stage *st, uint32_t group, struct err *err) {
    struct ice_outfile *o = st->open[group];
    st->open[group] = NULL;
    if (parquet_writer_rows(o->writer) == 0) {
        ice_outfile_abort(o);
        return 0;
    }
    uint32_t number = o->number;
    st->added = xrealloc(st->added, (st->added_count + 1) * sizeof *st->added);
    st->added_numbers =
        xrealloc(st->added_numbers, (st->added_count + 1) * sizeof *st->added_numbers);
    if (ice_outfile_finish(o, &st->schema, &st->arena, &st->folders, &st->added[st->added_count],
                           err)) {
        return -1;
    }
    st->added_numbers[st->added_count++] = number;
    return 0;
}

static int finish_files(struct ice_stage *st, struct err *err) {
    for (uint32_t g = 0; g < st->open_count; g++) {
        if (st->open[g] && finish_file(st, g, err)) {
            return -1;
        }
    }
    return 0;
}

int ice_stage_settle_file(struct ice_stage *st, uint32_t number, struct err *err) {
    for (uint32_t g = 0; g < st->open_count; g++) {
        if (st->open[g] && st->open[g]->number == number) {
            return finish_file(st, g, err);
        }
    }
    return 0;
}

static void keep_schema(struct ice_stage *st) {
    st->new_schemas =
        xrealloc(st->new_schemas, (st->new_schema_count + 1) * sizeof *st->new_schemas);
    ice_schema_copy(&st->new_schemas[st->new_schema_count++], &st->schema);
}

/* Rows of another version of the table come: files of the old one end, the table's schema follows.
 */
static int follow_source(struct ice_stage *st, struct schema *source, struct err *err) {
    if (finish_files(st, err)) {
        return -1;
    }
    struct ice_schema next;
    enum ice_change change =
        ice_schema_follow(&st->schema, source, &st->config->rules, &st->last_column_id, &next, err);
    if (change == ICE_IMPOSSIBLE) {
        return err_wrap(err, "table \"%s\"", st->label);
    }
    drop_shape(st);
    if (change == ICE_EVOLVED) {
        ice_schema_release(&st->schema);
        st->schema = next;
        keep_schema(st);
    }
    make_shape(st, source);
    return 0;
}

static int load_table(struct ice_stage *st, const struct schema *source, struct err *err) {
    struct buf bytes;
    struct ice_metadata metadata;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(st->config->store, st->base, &bytes, err);
    if (rc == 0) {
        rc = ice_metadata_parse(bytes.data, bytes.len, &metadata, err);
    }
    buf_release(&bytes);
    if (rc) {
        return err_wrap(err, "table \"%s\"", st->label);
    }
    st->format_version = metadata.format_version;
    st->last_column_id = metadata.last_column_id;
    ice_schema_copy(&st->schema, ice_metadata_schema(&metadata, metadata.current_schema_id));
    ice_spec_copy(&st->spec, ice_metadata_spec(&metadata, metadata.default_spec_id));
    struct ice_schema next;
    enum ice_change change =
        ice_schema_follow(&st->schema, source, &st->config->rules, &st->last_column_id, &next, err);
    if (change == ICE_EVOLVED) {
        ice_schema_release(&st->schema);
        st->schema = next;
        keep_schema(st);
    }
    rc = change == ICE_IMPOSSIBLE ? -1 : 0;
    if (rc == 0) {
        make_shape(st, schema_ref((struct schema *)source));
        schema_unref((struct schema *)source);
        rc = ice_stage_open_index(st, &metadata, err);
    }
    ice_metadata_release(&metadata);
    return rc ? err_wrap(err, "table \"%s\"", st->label) : 0;
}

static int new_table(struct ice_stage *st, const struct schema *source, struct err *err) {
    st->format_version = st->config->format_version;
    if (ice_schema_first(&st->schema, source, &st->config->rules, &st->last_column_id, err) ||
        ice_spec_parse(st->config->partition ? st->config->partition : "", &st->schema, false,
                       &st->spec, err)) {
        return err_wrap(err, "table \"%s\"", st->label);
    }
    keep_schema(st);
    make_shape(st, (struct schema *)source);
    return ice_stage_open_index(st, NULL, err);
}

int ice_stage_open(const struct ice_stage_config *config, const struct schema *source,
                   const char *base, struct ice_stage **out, struct err *err) {
    struct ice_stage *st = xcalloc(1, sizeof *st);
    st->config = config;
    st->label = xstrdup(source->label);
    st->space = xstrdup(source->space);
    st->name = xstrdup(source->name);
    st->base = base ? xstrdup(base) : NULL;
    st->zeros = xcalloc(1, ZERO_BYTES);
    st->old = ice_old_rows_new(config->store);
    st->dead = map_new();
    arena_init(&st->arena);
    buf_init(&st->key, SIZE_MAX);
    ice_fold_init(&st->fold);
    stage_merge_init(&st->merge);
    if (base ? load_table(st, source, err) : new_table(st, source, err)) {
        ice_stage_close(st);
        return -1;
    }
    *out = st;
    return 0;
}

static void free_bitmap(void *b) { ice_bitmap_free(b); }

/* Forgets what was staged since the last seal; where `remove`, its files go too. */
static void forget_commit(struct ice_stage *st, bool remove) {
    for (uint32_t i = 0; remove && i < st->added_count; i++) {
        struct err ignored = ERR_INIT; /* an orphan costs room only */
        if (store_remove(st->config->store, store_key_of(st->config->store, st->added[i].path),
                         &ignored)) {
            err_clear(&ignored);
        }
    }
    for (uint32_t i = 0; i < st->new_schema_count; i++) {
        ice_schema_release(&st->new_schemas[i]);
    }
    free(st->new_schemas);
    free(st->added);
    free(st->added_numbers);
    map_clear(st->dead, free_bitmap);
    st->new_schemas = NULL;
    st->added = NULL;
    st->added_numbers = NULL;
    st->new_schema_count = st->added_count = 0;
    st->touched = st->voids = false;
}

void ice_stage_close(struct ice_stage *st) {
    if (!st) {
        return;
    }
    for (uint32_t g = 0; g < st->open_count; g++) {
        ice_outfile_abort(st->open[g]);
    }
    forget_commit(st, true);
    arena_release(&st->arena);
    drop_shape(st);
    key_index_close(st->index);
    ice_old_rows_free(st->old);
    ice_stage_window_free(st->window);
    ice_fold_release(&st->fold);
    stage_merge_release(&st->merge);
    store_folders_release(&st->folders);
    map_free(st->dead, free_bitmap);
    ice_schema_release(&st->schema);
    ice_spec_release(&st->spec);
    schema_unref(st->source);
    buf_release(&st->key);
    free(st->zeros);
    free(st->label);
    free(st->space);
    free(st->name);
    free(st->base);
    free(st);
}

/* A column of nulls: one that the source dropped or keeps under another type. */
static void null_column(struct ice_stage *st, uint32_t field, uint32_t count) {
    const struct lake_type *type = &st->schema.fields[field].type;
    uint32_t width = lake_width(type);
    CHECK(count <= BATCH_ROWS_MAX);
    st->columns[field] = (struct lake_column){ .type = *type,
                                               .rows = count,
                                               .width = width,
                                               .valid = st->zeros,
                                               .data = st->zeros,
                                               .offsets = width ? NULL : st->zeros };
    if (type->kind == LAKE_LIST) {
        static const struct lake_column no_elements;
        st->columns[field].elements = &no_elements;
    }
}

int ice_stage_convert(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                      uint32_t count, const bool *skip, struct err *err) {
    for (uint32_t i = 0; i < st->schema.field_count; i++) {
        if (skip && skip[i]) {
            continue;
        }
        if (st->bind[i] == UINT16_MAX) {
            null_column(st, i, count);
        } else if (lake_column_of(st->scratch[i], batch, st->bind[i], rows, count,
                                  &st->schema.fields[i].type, &st->columns[i], err)) {
            return -1;
        }
    }
    return 0;
}

void ice_stage_key_columns(const struct ice_stage *st, struct lake_column *out) {
    for (uint32_t k = 0; k < st->key_count; k++) {
        out[k] = st->columns[st->key_fields[k]];
    }
}

static int open_file(struct ice_stage *st, uint32_t group, struct err *err) {
    struct buf folder;
    uint64_t random;
    const struct ice_partition *partition = ice_router_partition(st->router, group);
    buf_init(&folder, SIZE_MAX);
    buf_putf(&folder, "%s/%s/data", st->space, st->name);
    size_t before = folder.len;
    buf_putc(&folder, '/');
    ice_partition_put_path(&folder, &st->spec, partition);
    if (folder.len == before + 1) {
        folder.len = before; /* not partitioned */
    }
    rng_bytes(&random, sizeof random);
    char *name =
        xasprintf("%s-%05" PRIu64 "-%016" PRIx64, st->config->job, st->config->epoch, random);
    struct ice_outfile *o = NULL;
    int rc = ice_outfile_open(st->config->store, buf_cstr(&folder), name, &st->schema, partition,
                              &st->config->parquet, &o, err);
    if (rc == 0 && st->index) {
        rc = key_index_file(st->index, o->url, &o->number, err);
    }
    if (rc == 0) {
        st->open[group] = o;
    } else {
        ice_outfile_abort(o);
    }
    free(name);
    buf_release(&folder);
    return rc;
}

/* Too many partitions at once: the file with the most rows ends. */
static int make_room(struct ice_stage *st, struct err *err) {
    uint32_t count = 0, largest = 0;
    uint64_t most = 0;
    for (uint32_t g = 0; g < st->open_count; g++) {
        if (!st->open[g]) {
            continue;
        }
        count++;
        uint64_t rows = parquet_writer_rows(st->open[g]->writer);
        if (rows >= most) {
            most = rows;
            largest = g;
        }
    }
    return count >= st->config->open_files_max ? finish_file(st, largest, err) : 0;
}

static int write_group(struct ice_stage *st, uint32_t group, const struct lake_column *columns,
                       uint32_t count, uint64_t *locs, struct err *err) {
    if (group >= st->open_count) {
        uint32_t n = ice_router_count(st->router);
        st->open = xrealloc(st->open, n * sizeof *st->open);
        memset(st->open + st->open_count, 0, (n - st->open_count) * sizeof *st->open);
        st->open_count = n;
    }
    if (!st->open[group] && (make_room(st, err) || open_file(st, group, err))) {
        return -1;
    }
    struct ice_outfile *o = st->open[group];
    uint64_t first = parquet_writer_rows(o->writer);
    if (parquet_writer_add(o->writer, columns, count, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        locs[i] = key_loc(o->number, first + i);
    }
    st->touched = true;
    if (parquet_writer_bytes(o->writer) >= st->config->file_bytes) {
        return finish_file(st, group, err);
    }
    return ice_stage_memory(st) > st->config->open_bytes_max ? ice_stage_flush(st, err) : 0;
}

/* The rows picked out of st->columns, cell by cell. */
static void pick(struct ice_stage *st, const uint32_t *picked, uint32_t count,
                 struct lake_builder *builders, struct lake_column *out) {
    for (uint32_t i = 0; i < st->schema.field_count; i++) {
        lake_builder_begin(&builders[i], &st->schema.fields[i].type);
        for (uint32_t r = 0; r < count; r++) {
            lake_builder_add(&builders[i], &st->columns[i], picked[r]);
        }
        lake_builder_column(&builders[i], &out[i]);
    }
}

/* One partition's rows of several partitions' rows. */
static int write_picked(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                        const uint32_t *picked, uint32_t count, uint32_t group, uint64_t *locs,
                        struct err *err) {
    if (batch) {
        uint32_t *sub = xmalloc(count * sizeof *sub);
        for (uint32_t i = 0; i < count; i++) {
            sub[i] = rows ? rows[picked[i]] : picked[i];
        }
        int rc = ice_stage_convert(st, batch, sub, count, NULL, err);
        free(sub);
        return rc ? -1 : write_group(st, group, st->columns, count, locs, err);
    }
    uint32_t n = st->schema.field_count;
    struct lake_builder *builders = xcalloc(n, sizeof *builders);
    struct lake_column *columns = xcalloc(n, sizeof *columns);
    for (uint32_t i = 0; i < n; i++) {
        lake_builder_init(&builders[i]);
    }
    pick(st, picked, count, builders, columns);
    int rc = write_group(st, group, columns, count, locs, err);
    for (uint32_t i = 0; i < n; i++) {
        lake_builder_release(&builders[i]);
    }
    free(builders);
    free(columns);
    return rc;
}

static int write_apart(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                       uint32_t count, const uint32_t *groups, uint64_t *locs, struct err *err) {
    uint32_t *picked = xmalloc(count * sizeof *picked);
    uint64_t *picked_locs = xmalloc(count * sizeof *picked_locs);
    bool *done = xcalloc(count, sizeof *done);
    int rc = 0;
    for (uint32_t from = 0; rc == 0 && from < count; from++) {
        if (done[from]) {
            continue;
        }
        uint32_t n = 0;
        for (uint32_t i = from; i < count; i++) {
            if (groups[i] == groups[from]) {
                picked[n++] = i;
                done[i] = true;
            }
        }
        rc = write_picked(st, batch, rows, picked, n, groups[from], picked_locs, err);
        for (uint32_t i = 0; rc == 0 && i < n; i++) {
            locs[picked[i]] = picked_locs[i];
        }
    }
    free(done);
    free(picked_locs);
    free(picked);
    return rc;
}

int ice_stage_write(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                    uint32_t count, uint64_t *locs, struct err *err) {
    uint32_t *groups = xmalloc((count + 1) * sizeof *groups);
    ice_router_route(st->router, st->columns, count, groups);
    bool apart = false;
    for (uint32_t i = 1; i < count && !apart; i++) {
        apart = groups[i] != groups[0];
    }
    int rc = apart ? write_apart(st, batch, rows, count, groups, locs, err)
                   : write_group(st, groups[0], st->columns, count, locs, err);
    free(groups);
    return rc;
}

int ice_stage_mark_dead(struct ice_stage *st, uint64_t loc, struct err *err) {
    uint32_t number = KEY_LOC_FILE(loc);
    struct ice_bitmap *b = map_get(st->dead, &number, sizeof number);
    if (!b) {
        b = ice_bitmap_new();
        map_set(st->dead, &number, sizeof number, b);
    }
    st->touched = true;
    if (!ice_bitmap_add(b, KEY_LOC_POS(loc))) {
        return err_set(err, ERR_REWIND, "index_damaged",
                       "table \"%s\": the key index gives a row that is dead already", st->label);
    }
    return 0;
}

/* Nothing that was live, or staged until here, is any more. */
static int void_all(struct ice_stage *st, struct err *err) {
    for (uint32_t g = 0; g < st->open_count; g++) {
        ice_outfile_abort(st->open[g]);
        st->open[g] = NULL;
    }
    for (uint32_t i = 0; i < st->added_count; i++) {
        if (store_remove(st->config->store, store_key_of(st->config->store, st->added[i].path),
                         err)) {
            return -1;
        }
    }
    st->added_count = 0;
    map_clear(st->dead, free_bitmap);
    st->touched = st->voids = true;
    st->changes++;
    return st->index ? key_index_clear(st->index, err) : 0;
}

static int change_item(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    struct stage_change change;
    stage_merge_begin(&st->merge, item);
    while (stage_merge_next(&st->merge, &change)) {
        if (change.kind == ROW_TRUNCATE) {
            if (ice_stage_apply(st, err) || void_all(st, err)) {
                return -1;
            }
            continue;
        }
        if (ice_fold_change(&st->fold, item, &change, err) ||
            (ice_fold_full(&st->fold) && ice_stage_apply(st, err))) {
            return -1;
        }
    }
    return ice_stage_apply(st, err); /* the batches are the caller's again */
}

/* A table without a key: its rows are appended; a change of one cannot be placed. */
static int append_changes(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    for (uint32_t b = 0; b < item->count; b++) {
        struct batch *batch = item->batches[b];
        for (uint32_t r = 0; r < batch->rows; r++) {
            if (row_kind_of(batch, r) != ROW_INSERT) {
                err_set(
                    err, ERR_FATAL, "keyless_change",
                    "table \"%s\" has no key, and a row of it was changed or deleted: which one "
                    "of the lake's cannot be told",
                    st->label);
                return err_cure(err,
                                "give the table a primary key, or name one in the job: %s: "
                                "key=(...)",
                                st->label);
            }
        }
        if (ice_stage_append(st, batch, err)) {
            return -1;
        }
    }
    return 0;
}

static int stage_rows(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    if (!schema_same_rows(item->batches[0]->schema, st->source) &&
        follow_source(st, item->batches[0]->schema, err)) {
        return -1;
    }
    if (!st->index) {
        return append_changes(st, item, err);
    }
    if (item->batches[0]->txs) {
        return change_item(st, item, err);
    }
    struct batch *batch = item->batches[0];
    CHECK(item->count == 1);
    if (!batch->again) {
        return ice_stage_append(st, batch, err);
    }
    for (uint32_t r = 0; r < batch->rows; r++) {
        if (ice_fold_row(&st->fold, batch, r, err) ||
            (ice_fold_full(&st->fold) && ice_stage_apply(st, err))) {
            return -1;
        }
    }
    return ice_stage_apply(st, err);
}

static int remove_rows(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    struct batch *batch = item->batches[0];
    for (uint32_t r = 0; r < batch->rows; r++) {
        if (ice_fold_remove(&st->fold, batch, r, err) ||
            (ice_fold_full(&st->fold) && ice_stage_apply(st, err))) {
            return -1;
        }
    }
    return ice_stage_apply(st, err);
}

int ice_stage_item(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    switch (item->kind) {
    case STAGE_ROWS:
        return stage_rows(st, item, err);
    case STAGE_GENERATION:
        return void_all(st, err);
    case STAGE_REMOVE:
        return remove_rows(st, item, err);
    }
    CHECK(!"no such item");
    return -1;
}

bool ice_stage_touched(const struct ice_stage *st) {
    return st->touched || st->new_schema_count > 0;
}

size_t ice_stage_memory(const struct ice_stage *st) {
    size_t sum = 0;
    for (uint32_t g = 0; g < st->open_count; g++) {
        sum += st->open[g] ? parquet_writer_memory(st->open[g]->writer) : 0;
    }
    return sum;
}

int ice_stage_flush(struct ice_stage *st, struct err *err) {
    for (uint32_t g = 0; g < st->open_count; g++) {
        if (st->open[g] && parquet_writer_flush(st->open[g]->writer, err)) {
            return -1;
        }
    }
    return 0;
}

/* Files of this very commit of which no row lives are not added at all. */
static int drop_dead_files(struct ice_stage *st, struct err *err) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < st->added_count; i++) {
        uint32_t number = st->added_numbers[i];
        struct ice_bitmap *b = map_get(st->dead, &number, sizeof number);
        if (b && ice_bitmap_count(b) == (uint64_t)st->added[i].rows) {
            const char *key = store_key_of(st->config->store, st->added[i].path);
            if (store_remove(st->config->store, key, err)) {
                return -1;
            }
            ice_bitmap_free(map_remove(st->dead, &number, sizeof number));
            continue;
        }
        st->added[kept] = st->added[i];
        st->added_numbers[kept++] = number;
    }
    st->added_count = kept;
    return 0;
}

static void give_dead(struct ice_stage *st, struct ice_part_table *out) {
    const void *key;
    void *value;
    out->dead = xcalloc(map_count(st->dead) + 1, sizeof *out->dead);
    for (size_t at = 0; map_next(st->dead, &at, &key, NULL, &value);) {
        uint32_t number;
        memcpy(&number, key, sizeof number);
        out->dead[out->dead_count++] =
            (struct ice_dead){ .data_file = xstrdup(key_index_path(st->index, number)),
                               .rows = value };
    }
    map_clear(st->dead, NULL); /* the bitmaps are the part's now */
}

int ice_stage_seal(struct ice_stage *st, struct store_folders *folders, struct ice_part_table *out,
                   struct err *err) {
    if (finish_files(st, err) || drop_dead_files(st, err)) {
        return -1;
    }
    uint64_t random;
    rng_bytes(&random, sizeof random);
    *out = (struct ice_part_table){ .label = xstrdup(st->label),
                                    .space = xstrdup(st->space),
                                    .name = xstrdup(st->name),
                                    .base = st->base ? xstrdup(st->base) : NULL,
                                    .snapshot_id = (int64_t)(random >> 1 | 1),
                                    .voids = st->voids,
                                    .schema_count = st->new_schema_count,
                                    .schemas = st->new_schemas,
                                    .last_column_id = st->last_column_id,
                                    .arena = st->arena,
                                    .added_count = st->added_count,
                                    .added = st->added };
    if (!st->base) {
        ice_spec_copy(&out->spec, &st->spec);
    }
    give_dead(st, out);
    store_folders_merge(folders, &st->folders);
    store_folders_release(&st->folders);
    arena_init(&st->arena);
    st->new_schemas = NULL;
    st->new_schema_count = 0;
    st->added = NULL;
    forget_commit(st, false);
    return ice_stage_store_index(st, out->snapshot_id, err);
}
