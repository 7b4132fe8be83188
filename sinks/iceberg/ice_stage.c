/* A table's staging: its life, its schema, what is done with items, and the seal. See ice_stage.h;
 * files are ice_stage_files.c's, windows of changes ice_stage_apply.c's and ice_stage_keyless.c's,
 * the key index's life ice_stage_index.c's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "sinks/iceberg/ice_stage_internal.h"

/* ---- life ---- */

static void keep_schema(struct ice_stage *st) {
    st->new_schemas =
        xrealloc(st->new_schemas, (st->new_schema_count + 1) * sizeof *st->new_schemas);
    ice_schema_copy(&st->new_schemas[st->new_schema_count++], &st->schema);
}

/* Files are sorted by the table's order as long as it has its columns. */
static void follow_order(struct ice_stage *st) {
    st->sorts = st->order.count > 0 && ice_order_bind(&st->order, &st->schema, st->order_fields);
}

static bool is_partition_source(const struct ice_spec *spec, int32_t field_id) {
    for (uint32_t i = 0; i < spec->field_count; i++) {
        if (spec->fields[i].source_id == field_id) {
            return true;
        }
    }
    return false;
}

/* on_type_change=resnapshot: a column got a new field, which rows so far do not have. They are void
 * already (STAGE_GENERATION) or will be: until then the table must not be called consistent, which
 * ice_prepare.c sees to. */
static int check_replaced(struct ice_stage *st, const struct ice_schema *next, struct err *err) {
    int at = st->config->rules.on_type_change == ICE_TYPE_RESNAPSHOT
                 ? ice_schema_replaced(&st->schema, next)
                 : -1;
    if (at < 0) {
        return 0;
    }
    const struct ice_field *f = &st->schema.fields[at];
    if (is_partition_source(&st->spec, f->id)) {
        err_set(err, ERR_FATAL, "type_change",
                "column \"%s\", whose type changed as Iceberg forbids, is one that the table is "
                "partitioned by: that cannot go",
                f->name);
        return err_cure(err, "start the job with on_type_change=new_column: rows from here on are "
                             "in one partition of those");
    }
    st->replaced = st->replaced || !st->empty;
    st->replaced_staged = st->replaced_staged || st->added_count > 0;
    return 0;
}

/* Rows so far have in the fields that next adds what the source's columns are missing. The hybrid
 * asked what can be said; but not each table of a job need have the job's format. */
static void check_missing(struct ice_stage *st, struct ice_schema *next,
                          const struct schema *source) {
    for (uint32_t i = 0; i < next->field_count; i++) {
        struct ice_field *f = &next->fields[i];
        int col = ice_schema_find_id(&st->schema, f->id) < 0 ? schema_column(source, f->name) : -1;
        if (col < 0 || !source->columns[col].missing) {
            continue;
        }
        bool said = f->initial_default && st->format_version >= 3;
        st->unsaid = st->unsaid || (!said && !st->empty);
        if (!said || st->empty) { /* every row is still to come */
            f->initial_default = f->write_default = NULL;
        }
    }
}

/* Before rows are staged: those that lack it can only become void. */
static int refuse_unsaid(const struct ice_stage *st, struct err *err) {
    if (!st->unsaid) {
        return 0;
    }
    err_set(err, ERR_FATAL, "default_unsayable",
            "table \"%s\": a column was added with a default, and this table, made in format v%d, "
            "cannot say that its old rows have it",
            st->label, st->format_version);
    return ice_cure_read_again(st->label, err);
}

/* The present schema becomes one that holds the source's rows. */
static int follow_schema(struct ice_stage *st, const struct schema *source, bool *evolved,
                         struct err *err) {
    struct ice_schema next;
    enum ice_change change =
        ice_schema_follow(&st->schema, source, &st->config->rules, &st->last_column_id, &next, err);
    *evolved = change == ICE_EVOLVED;
    if (change == ICE_IMPOSSIBLE) {
        return err_wrap(err, "table \"%s\"", st->label);
    }
    if (*evolved) {
        check_missing(st, &next, source);
    }
    if (*evolved && check_replaced(st, &next, err)) {
        ice_schema_release(&next);
        return err_wrap(err, "table \"%s\"", st->label);
    }
    if (*evolved) {
        ice_stage_drop_shape(st);
        ice_schema_release(&st->schema);
        st->schema = next;
        keep_schema(st);
    }
    return 0;
}

static int load_table(struct ice_stage *st, struct schema *source, struct err *err) {
    struct ice_metadata *m = xcalloc(1, sizeof *m);
    bool evolved;
    if (ice_stage_load_metadata(st, st->base, m, err)) {
        free(m);
        return err_wrap(err, "table \"%s\"", st->label);
    }
    st->base_metadata = m;
    st->format_version = m->format_version;
    st->last_column_id = m->last_column_id;
    ice_schema_copy(&st->schema, ice_metadata_schema(m, m->current_schema_id));
    ice_spec_copy(&st->spec, ice_metadata_spec(m, m->default_spec_id));
    if (st->config->sort) {
        ice_order_from_json(m->sort_orders, m->default_sort_order_id, &st->order);
    }
    st->empty = !ice_metadata_snapshot(m, m->current_snapshot_id);
    if (follow_schema(st, source, &evolved, err)) {
        return -1;
    }
    follow_order(st);
    if (ice_stage_make_shape(st, source, err)) {
        return -1;
    }
    if (st->key_count == 0) {
        ice_stage_forget_base(st);
    }
    return 0;
}

static int new_table(struct ice_stage *st, struct schema *source, struct err *err) {
    st->format_version = st->config->format_version;
    st->empty = st->base_void = true;
    if (ice_schema_first(&st->schema, source, &st->config->rules, &st->last_column_id, err) ||
        ice_spec_parse(st->config->partition ? st->config->partition : "", &st->schema, false,
                       &st->spec, err) ||
        ice_order_parse(st->config->sort ? st->config->sort : "", &st->schema, &st->order, err)) {
        return err_wrap(err, "table \"%s\"", st->label);
    }
    follow_order(st);
    keep_schema(st);
    return ice_stage_make_shape(st, source, err);
}

int ice_stage_open(const struct ice_stage_config *config, struct schema *source, const char *base,
                   struct ice_stage **out, struct err *err) {
    struct ice_stage *st = xcalloc(1, sizeof *st);
    st->config = config;
    st->tools = config->tools;
    st->hash_mask = config->hash_mask ? config->hash_mask : UINT64_MAX;
    st->label = xstrdup(source->label);
    st->space = xstrdup(source->space);
    st->name = xstrdup(source->name);
    st->base = base ? xstrdup(base) : NULL;
    st->old = ice_old_rows_new(config->store);
    char *held_path = xasprintf("%s.rows", config->index_dir);
    st->hold = ice_hold_new(config->env->files, held_path);
    char *runs_path = xasprintf("%s.runs", config->index_dir);
    st->runs = ice_hold_new(config->env->files, runs_path);
    free(runs_path);
    free(held_path);
    st->dead = map_new();
    arena_init(&st->arena);
    buf_init(&st->loose, SIZE_MAX);
    if (base ? load_table(st, source, err) : new_table(st, source, err)) {
        ice_stage_close(st);
        return -1;
    }
    *out = st;
    return 0;
}

static void free_bitmap(void *b) { ice_bitmap_free(b); }

static void forget_dead(struct ice_stage *st, void (*free_value)(void *)) {
    map_clear(st->dead, free_value);
    st->last_dead = NULL;
}

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
    forget_dead(st, free_bitmap);
    st->new_schemas = NULL;
    st->added = NULL;
    st->added_numbers = NULL;
    st->new_schema_count = st->added_count = 0;
    st->touched = st->voids = st->replaced = st->replaced_staged = false;
    st->holds_all = false;
}

void ice_stage_close(struct ice_stage *st) {
    if (!st) {
        return;
    }
    ice_stage_store_last(st);
    ice_stage_abort_files(st);
    forget_commit(st, true);
    arena_release(&st->arena);
    ice_stage_drop_shape(st);
    key_index_close(st->index);
    ice_stage_forget_base(st);
    ice_old_rows_free(st->old);
    ice_hold_free(st->hold);
    ice_hold_free(st->runs);
    store_folders_release(&st->folders);
    map_free(st->dead, free_bitmap);
    ice_schema_release(&st->schema);
    ice_spec_release(&st->spec);
    schema_unref(st->source);
    buf_release(&st->loose);
    free(st->label);
    free(st->space);
    free(st->name);
    free(st->base);
    free(st);
}

/* ---- another version of the table ---- */

/* The index is of another key, or of other columns, than the table's now. */
static int change_key(struct ice_stage *st, bool was_keyless, struct err *err) {
    if (!st->empty) {
        /* Without an index only a table that had no key may have rows besides those of its base. */
        bool of_base = !st->index && (st->key_count == 0 || !was_keyless);
        return of_base ? 0 : ice_stage_change_key(st, err);
    }
    if (st->key_count > 0) {
        return ice_stage_forget_index(st, err);
    }
    key_index_close(st->index); /* the first row to go makes another */
    st->index = NULL;
    return 0;
}

/* Rows of another version of the table come: files of the old one end, the table's schema follows.
 */
static int follow_source(struct ice_stage *st, struct schema *source, struct err *err) {
    bool evolved;
    struct buf sign;
    bool was_keyless = st->key_count == 0;
    if (ice_stage_finish_files(st, err)) {
        return -1;
    }
    buf_init(&sign, SIZE_MAX);
    ice_stage_put_key_sign(st, &sign);
    int rc = follow_schema(st, source, &evolved, err);
    if (rc == 0) {
        follow_order(st);
        ice_stage_drop_shape(st);
        rc = ice_stage_make_shape(st, source, err);
        if (rc == 0 && !ice_stage_same_key(st, buf_cstr(&sign))) {
            rc = change_key(st, was_keyless, err);
        }
    }
    buf_release(&sign);
    return rc;
}

/* ---- items ---- */

/* Nothing that was live, or staged until here, is any more. */
static int void_all(struct ice_stage *st, struct err *err) {
    ice_stage_abort_files(st);
    for (uint32_t i = 0; i < st->added_count; i++) {
        if (store_remove(st->config->store, store_key_of(st->config->store, st->added[i].path),
                         err)) {
            return -1;
        }
    }
    st->added_count = 0;
    free(st->added);
    free(st->added_numbers);
    st->added = NULL;
    st->added_numbers = NULL;
    forget_dead(st, free_bitmap);
    st->touched = st->voids = st->empty = st->base_void = true;
    st->unsaid = false;
    st->replaced = st->replaced_staged = false;
    buf_clear(&st->loose);
    st->loose_count = 0;
    st->changes++;
    ice_stage_forget_base(st);
    return st->index ? key_index_clear(st->index, err) : 0;
}

static int apply(struct ice_stage *st, struct err *err) {
    return st->key_count > 0 ? ice_stage_apply(st, err) : ice_stage_keyless_apply(st, err);
}

/* Rows of this version of the table fit the stage's columns from here on. */
static int follow_version(struct ice_stage *st, struct schema *source, struct err *err) {
    if (source == st->source || schema_same_rows(source, st->source)) {
        return 0;
    }
    return apply(st, err) || follow_source(st, source, err) || refuse_unsaid(st, err) ? -1 : 0;
}

static int stage_changes(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    struct ice_fold *fold = &st->tools->fold;
    struct stage_change change;
    const struct schema *last = NULL;
    stage_merge_begin(&st->tools->merge, item);
    while (stage_merge_next(&st->tools->merge, &change)) {
        const struct batch *batch = item->batches[change.batch];
        if (batch->schema != last && follow_version(st, batch->schema, err)) {
            return -1;
        }
        last = batch->schema;
        if (change.kind == ROW_TRUNCATE) {
            if (!st->config->ignore_truncate && (apply(st, err) || void_all(st, err))) {
                return -1;
            }
            continue;
        }
        if (st->key_count == 0) {
            if (ice_stage_keyless_change(st, item, &change, err)) {
                return -1;
            }
        } else if (ice_fold_change(fold, item, &change, err) ||
                   (ice_fold_full(fold) && ice_stage_apply(st, err))) {
            return -1;
        }
    }
    return apply(st, err); /* the batches are the caller's again */
}

static int stage_again(struct ice_stage *st, struct batch *batch, struct err *err) {
    struct ice_fold *fold = &st->tools->fold;
    for (uint32_t r = 0; r < batch->rows; r++) {
        if (ice_fold_row(fold, batch, r, err) ||
            (ice_fold_full(fold) && ice_stage_apply(st, err))) {
            return -1;
        }
    }
    return ice_stage_apply(st, err);
}

static int stage_snapshot(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    for (uint32_t i = 0; i < item->count; i++) {
        struct batch *batch = item->batches[i];
        CHECK(!batch->txs);
        if (follow_version(st, batch->schema, err)) {
            return -1;
        }
        if (st->key_count == 0 && batch->again) {
            return err_set(err, ERR_FATAL, "keyless_again",
                           "table \"%s\" has no key: a part of it cannot be read again", st->label);
        }
        if (st->key_count == 0 ? ice_stage_keyless_rows(st, batch, err)
            : batch->again     ? stage_again(st, batch, err)
                               : ice_stage_append(st, batch, err)) {
            return -1;
        }
    }
    return 0;
}

static int remove_rows(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    struct ice_fold *fold = &st->tools->fold;
    for (uint32_t i = 0; i < item->count; i++) {
        struct batch *batch = item->batches[i];
        if (follow_version(st, batch->schema, err)) {
            return -1;
        }
        if (st->key_count == 0) {
            return err_set(err, ERR_FATAL, "keyless_remove",
                           "table \"%s\" has no key: no row of it can be taken out by one",
                           st->label);
        }
        for (uint32_t r = 0; r < batch->rows; r++) {
            if (ice_fold_remove(fold, batch, r, err) ||
                (ice_fold_full(fold) && ice_stage_apply(st, err))) {
                return -1;
            }
        }
        if (ice_stage_apply(st, err)) { /* the batch's schema may not be the next one's */
            return -1;
        }
    }
    return 0;
}

int ice_stage_item(struct ice_stage *st, const struct stage_item *item, struct err *err) {
    st->sealed_snapshot = 0;
    st->tools->fold.soft = st->config->soft_deletes;
    st->tools->fold.over = st->config->ignore_truncate;
    if (item->kind != STAGE_GENERATION && refuse_unsaid(st, err)) {
        return -1;
    }
    switch (item->kind) {
    case STAGE_ROWS:
        return item->batches[0]->txs ? stage_changes(st, item, err) : stage_snapshot(st, item, err);
    case STAGE_GENERATION:
        return void_all(st, err) || follow_version(st, item->schema, err) ? -1 : 0;
    case STAGE_REMOVE:
        return remove_rows(st, item, err);
    }
    CHECK(!"no such item");
    return -1;
}

const char *ice_stage_label(const struct ice_stage *st) { return st->label; }

bool ice_stage_touched(const struct ice_stage *st) {
    return st->touched || st->new_schema_count > 0;
}

/* ---- the seal ---- */

/* Files of this very commit of which no row lives are not added at all. */
static int drop_dead_files(struct ice_stage *st, struct err *err) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < st->added_count; i++) {
        uint32_t number = st->added_numbers[i];
        struct ice_bitmap *b = st->index ? map_get(st->dead, &number, sizeof number) : NULL;
        if (b && ice_bitmap_count(b) == (uint64_t)st->added[i].rows) {
            const char *key = store_key_of(st->config->store, st->added[i].path);
            if (store_remove(st->config->store, key, err)) {
                return -1;
            }
            ice_bitmap_free(map_remove(st->dead, &number, sizeof number));
            st->last_dead = NULL;
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
    forget_dead(st, NULL); /* the bitmaps are the part's now */
}

int ice_stage_seal(struct ice_stage *st, struct store_folders *folders, struct ice_part_table *out,
                   struct err *err) {
    uint64_t random;
    rng_bytes(&random, sizeof random);
    int64_t snapshot_id = (int64_t)(random >> 1 | 1);
    if (ice_stage_finish_files(st, err) || drop_dead_files(st, err) ||
        ice_stage_keep_loose(st, err) || ice_stage_tag_index(st, snapshot_id, err)) {
        return -1;
    }
    *out = (struct ice_part_table){ .label = xstrdup(st->label),
                                    .space = xstrdup(st->space),
                                    .name = xstrdup(st->name),
                                    .base = st->base ? xstrdup(st->base) : NULL,
                                    .snapshot_id = snapshot_id,
                                    .first = !st->base && !st->sealed,
                                    .voids = st->voids,
                                    .replaced = st->replaced,
                                    .replaced_staged = st->replaced_staged,
                                    .schema_count = st->new_schema_count,
                                    .schemas = st->new_schemas,
                                    .last_column_id = st->last_column_id,
                                    .arena = st->arena,
                                    .added_count = st->added_count,
                                    .added = st->added };
    if (!st->base) {
        ice_spec_copy(&out->spec, &st->spec);
        out->order = st->order;
    }
    give_dead(st, out);
    store_folders_merge(folders, &st->folders);
    store_folders_release(&st->folders);
    arena_init(&st->arena);
    st->new_schemas = NULL;
    st->new_schema_count = 0;
    st->added = NULL;
    st->sealed = true;
    forget_commit(st, false);
    return 0;
}
