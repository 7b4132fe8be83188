/* Rows of a table to its open data files, one a partition. See ice_stage.h. What is done for a
 * window of rows depends on the partitions that they fall into, not on those that are open. Thread:
 * the writer's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "sinks/iceberg/ice_default.h"
#include "sinks/iceberg/ice_stage_internal.h"

enum { ROWS_CONVERTED = 256 }; /* so many of one partition are worth a conversion of their own */

static enum ice_extra extra_of(const char *name) {
    for (unsigned bit = 1; bit < 1u << ICE_EXTRA_COUNT; bit <<= 1) {
        if (strcmp(ice_extra_name((enum ice_extra)bit), name) == 0) {
            return (enum ice_extra)bit;
        }
    }
    return ICE_EXTRA_NONE;
}

void ice_stage_drop_shape(struct ice_stage *st) {
    for (uint32_t i = 0; st->fields && i < st->schema.field_count; i++) {
        lake_scratch_free(st->fields[i].scratch);
        lake_builder_release(&st->fields[i].builder);
        buf_release(&st->fields[i].missing);
        ice_stage_extra_release(&st->fields[i].cells);
    }
    free(st->fields);
    free(st->columns);
    free(st->key_fields);
    free(st->key_forms);
    free(st->key_columns);
    free(st->image_fields);
    ice_router_free(st->router);
    CHECK(st->open_count == 0 && st->held_count == 0);
    free(st->open);
    free(st->open_groups);
    free(st->held_of);
    st->fields = NULL;
    st->columns = NULL;
    st->key_fields = NULL;
    st->key_forms = NULL;
    st->key_columns = NULL;
    st->image_fields = NULL;
    st->router = NULL;
    st->open = NULL;
    st->open_groups = NULL;
    st->held_of = NULL;
    st->open_cap = st->open_count = 0;
}

static void make_fields(struct ice_stage *st, const struct schema *source) {
    uint32_t n = st->schema.field_count;
    uint16_t *bind = xcalloc(n + 1, sizeof *bind);
    ice_schema_bind(&st->schema, source, bind);
    st->fields = xcalloc(n + 1, sizeof *st->fields);
    st->columns = xcalloc(n + 1, sizeof *st->columns);
    st->image_fields = xcalloc(n + 1, sizeof *st->image_fields);
    st->image_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ice_stage_field *f = &st->fields[i];
        f->source = bind[i];
        f->extra = bind[i] == UINT16_MAX ? extra_of(st->schema.fields[i].name) : ICE_EXTRA_NONE;
        f->scratch = lake_scratch_new();
        lake_builder_init(&f->builder);
        buf_init(&f->missing, SIZE_MAX);
        buf_init(&f->cells.data, SIZE_MAX);
        buf_init(&f->cells.offsets, SIZE_MAX);
        buf_init(&f->cells.valid, SIZE_MAX);
        for (uint32_t p = 0; p < st->spec.field_count; p++) {
            f->partition = f->partition || st->spec.fields[p].source_id == st->schema.fields[i].id;
        }
        if (bind[i] != UINT16_MAX) {
            st->image_fields[st->image_count++] = i;
        }
    }
    free(bind);
}

/* Defaults of the images' fields. */
static int note_missing(struct ice_stage *st, struct err *err) {
    for (uint32_t i = 0; st->key_count == 0 && i < st->image_count; i++) {
        uint32_t field = st->image_fields[i];
        struct ice_default d;
        if (ice_default_init(&d, &st->schema.fields[field], err)) {
            return err_wrap(err, "table \"%s\"", st->label);
        }
        if (d.there) {
            ice_key_put_cell(&st->fields[field].missing, &d.column, 0, ICE_KEY_EXACT);
        }
        ice_default_release(&d);
    }
    return 0;
}

/* Insertion sort: an image must not depend on the order of the columns. */
static void sort_image_fields(struct ice_stage *st) {
    for (uint32_t i = 1; i < st->image_count; i++) {
        uint32_t field = st->image_fields[i], at = i;
        for (;
             at > 0 && st->schema.fields[st->image_fields[at - 1]].id > st->schema.fields[field].id;
             at--) {
            st->image_fields[at] = st->image_fields[at - 1];
        }
        st->image_fields[at] = field;
    }
}

int ice_stage_make_shape(struct ice_stage *st, struct schema *source, struct err *err) {
    schema_ref(source);
    schema_unref(st->source);
    st->source = source;
    make_fields(st, source);
    sort_image_fields(st);
    st->key_count = source->key_count;
    st->key_fields = xcalloc(st->key_count + 1, sizeof *st->key_fields);
    st->key_forms = xcalloc(st->key_count + 1, sizeof *st->key_forms);
    st->key_columns = xcalloc(st->key_count + 1, sizeof *st->key_columns);
    for (uint32_t k = 0; k < st->key_count; k++) {
        const struct column_def *c = &source->columns[source->key[k]];
        int field = ice_schema_find(&st->schema, c->name);
        CHECK(field >= 0);
        st->key_fields[k] = (uint32_t)field;
        st->key_forms[k] = ice_key_form_of(&c->type, &st->schema.fields[field].type);
    }
    st->router = ice_router_new(&st->spec, &st->schema);
    return note_missing(st, err);
}

/* ---- columns ---- */

/* A column of nulls: one that the source dropped or keeps under another type. */
static void null_column(struct ice_stage *st, uint32_t field, uint32_t count) {
    const struct lake_type *type = &st->schema.fields[field].type;
    uint32_t width = lake_width(type);
    const uint8_t *zeros = st->tools->zeros;
    CHECK(count <= BATCH_ROWS_MAX);
    st->columns[field] =
        (struct lake_column){ .type = *type,
                              .rows = count,
                              .width = width,
                              .valid = zeros,
                              .data = zeros,
                              .offsets = width ? NULL : (const uint32_t *)st->tools->zeros };
    if (type->kind == LAKE_LIST) {
        static const struct lake_column no_elements;
        st->columns[field].elements = &no_elements;
    }
}

static int convert_field(struct ice_stage *st, uint32_t i, const struct batch *batch,
                         const uint32_t *rows, uint32_t count, struct err *err) {
    struct ice_stage_field *f = &st->fields[i];
    if (f->extra) {
        ice_stage_extra_column(st, i, batch, rows, count, &st->columns[i]);
        return 0;
    }
    if (f->source == UINT16_MAX) {
        null_column(st, i, count);
        return 0;
    }
    return lake_column_of(f->scratch, batch, f->source, rows, count, &st->schema.fields[i].type,
                          &st->columns[i], err);
}

int ice_stage_convert(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                      uint32_t count, const bool *skip, struct err *err) {
    for (uint32_t i = 0; i < st->schema.field_count; i++) {
        if (!(skip && skip[i]) && convert_field(st, i, batch, rows, count, err)) {
            return -1;
        }
    }
    return 0;
}

int ice_stage_convert_keys(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                           uint32_t count, struct err *err) {
    for (uint32_t k = 0; k < st->key_count; k++) {
        uint32_t i = st->key_fields[k];
        if (lake_column_of(st->fields[i].scratch, batch, st->fields[i].source, rows, count,
                           &st->schema.fields[i].type, &st->key_columns[k], err)) {
            return -1;
        }
    }
    return 0;
}

/* ---- files ---- */

static void close_slot(struct ice_stage *st, uint32_t group) {
    st->held -= parquet_writer_memory(st->open[group]->writer);
    st->open[group] = NULL;
    for (uint32_t i = 0; i < st->open_count; i++) {
        if (st->open_groups[i] == group) {
            st->open_groups[i] = st->open_groups[--st->open_count];
            return;
        }
    }
    CHECK(!"an open file is in the list");
}

int ice_stage_end_file(struct ice_stage *st, struct ice_outfile *o, struct err *err) {
    uint32_t number = o->number;
    if ((st->added_count & (st->added_count + 1)) == 0) { /* 0, 1, 3, 7, ...: room doubles */
        size_t cap = 2 * (size_t)st->added_count + 1;
        st->added = xrealloc(st->added, cap * sizeof *st->added);
        st->added_numbers = xrealloc(st->added_numbers, cap * sizeof *st->added_numbers);
    }
    if (ice_outfile_finish(o, &st->schema, &st->arena, &st->folders, &st->added[st->added_count],
                           err)) {
        return -1;
    }
    st->added_numbers[st->added_count++] = number;
    return 0;
}

static int finish_file(struct ice_stage *st, uint32_t group, struct err *err) {
    struct ice_outfile *o = st->open[group];
    close_slot(st, group);
    if (parquet_writer_rows(o->writer) == 0) {
        ice_outfile_abort(o);
        return 0;
    }
    return ice_stage_end_file(st, o, err);
}

int ice_stage_finish_files(struct ice_stage *st, struct err *err) {
    while (st->open_count > 0) {
        if (finish_file(st, st->open_groups[st->open_count - 1], err)) {
            return -1;
        }
    }
    return ice_stage_write_held(st, err);
}

/* The file with that number is whole. One that must be ended for it was written by rows of this
 * commit: the next of them are held, so that they can be read without. */
static int settle_file(struct ice_stage *st, uint32_t number, struct err *err) {
    for (uint32_t i = 0; i < st->open_count; i++) {
        if (st->open[st->open_groups[i]]->number == number) {
            st->holds_all = st->reads_back;
            st->reads_back = true;
            return finish_file(st, st->open_groups[i], err);
        }
    }
    return 0;
}

static int read_file(struct ice_stage *st, const uint64_t *locs, uint32_t count, uint32_t field,
                     struct lake_builder *out, struct err *err) {
    uint32_t number = KEY_LOC_FILE(locs[0]);
    const struct ice_held_file *held = ice_stage_held_file(st, number);
    for (uint32_t i = 0; held && i < count; i++) {
        if (ice_hold_cell(st->hold, held->slot, KEY_LOC_POS(locs[i]), field, out, err)) {
            return -1;
        }
    }
    if (held) {
        return 0;
    }
    if (settle_file(st, number, err)) {
        return -1;
    }
    const char *url = key_index_path(st->index, number);
    CHECK(url);
    return ice_old_rows_read(st->old, url, locs, count, &st->schema.fields[field], out, err);
}

int ice_stage_read_cells(struct ice_stage *st, const uint64_t *locs, uint32_t count, uint32_t field,
                         struct lake_builder *out, struct err *err) {
    for (uint32_t from = 0, to; from < count; from = to) {
        uint32_t number = KEY_LOC_FILE(locs[from]);
        for (to = from + 1; to < count && KEY_LOC_FILE(locs[to]) == number; to++) {}
        if (read_file(st, locs + from, to - from, field, out, err)) {
            return -1;
        }
    }
    return 0;
}

void ice_stage_abort_files(struct ice_stage *st) {
    while (st->open_count > 0) {
        uint32_t group = st->open_groups[st->open_count - 1];
        struct ice_outfile *o = st->open[group];
        close_slot(st, group);
        ice_outfile_abort(o);
    }
    ice_stage_drop_held(st);
}

char *ice_stage_new_key(struct ice_stage *st, uint32_t group) {
    struct buf key;
    uint64_t random;
    buf_init(&key, SIZE_MAX);
    buf_putf(&key, "%s/%s/data", st->space, st->name);
    size_t before = key.len;
    buf_putc(&key, '/');
    ice_partition_put_path(&key, &st->spec, ice_router_partition(st->router, group));
    if (key.len == before + 1) {
        key.len = before; /* not partitioned */
    }
    rng_bytes(&random, sizeof random);
    buf_putf(&key, "/%s-%05" PRIu64 "-%016" PRIx64 ".parquet", st->config->job, st->config->epoch,
             random);
    char *out = xstrdup(buf_cstr(&key));
    buf_release(&key);
    return out;
}

static int open_file(struct ice_stage *st, uint32_t group, struct err *err) {
    char *key = ice_stage_new_key(st, group);
    struct ice_outfile *o = NULL;
    int rc =
        ice_outfile_open(st->config->store, key, &st->schema,
                         ice_router_partition(st->router, group), &st->config->parquet, &o, err);
    free(key);
    if (rc == 0 && st->index) {
        rc = key_index_file(st->index, o->url, &o->number, err);
    }
    if (rc == 0) {
        st->open[group] = o;
        st->open_groups[st->open_count++] = group;
        st->held += parquet_writer_memory(o->writer);
    } else {
        ice_outfile_abort(o);
    }
    return rc;
}

size_t ice_stage_memory(const struct ice_stage *st) { return st->held + ice_hold_memory(st->hold); }

/* The largest files give up what they hold until no more than `max` is held. */
static int flush_to(struct ice_stage *st, size_t max, struct err *err) {
    while (st->held > max) {
        struct parquet_writer *largest = NULL;
        size_t most = 0;
        for (uint32_t i = 0; i < st->open_count; i++) {
            struct parquet_writer *w = st->open[st->open_groups[i]]->writer;
            size_t held = parquet_writer_memory(w);
            if (held > most) {
                most = held;
                largest = w;
            }
        }
        if (!largest) {
            return 0;
        }
        int rc = parquet_writer_flush(largest, err);
        size_t left = parquet_writer_memory(largest);
        st->held = st->held - most + left;
        if (rc || left >= most) {
            return rc; /* what is left is not given up */
        }
    }
    return 0;
}

int ice_stage_flush(struct ice_stage *st, struct err *err) {
    return ice_hold_memory_blocks(st->hold) >= st->held ? ice_hold_spill(st->hold, err)
                                                        : flush_to(st, st->held / 2, err);
}

/* Has the group a file that the rows at hand may go to at once, or may it get one? Where all files
 * that may be open are, the others' rows are held: they become one file each at the seal. So are
 * all rows of a table whose files are sorted. */
static bool goes_to_open_file(const struct ice_stage *st, uint32_t group) {
    return !st->holding && !st->sorts &&
           (st->open[group] || st->open_count < st->config->open_files_max);
}

static void make_groups(struct ice_stage *st) {
    uint32_t n = 2 * ice_router_count(st->router);
    st->open = xrealloc(st->open, n * sizeof *st->open);
    st->open_groups = xrealloc(st->open_groups, n * sizeof *st->open_groups);
    st->held_of = xrealloc(st->held_of, n * sizeof *st->held_of);
    memset(st->open + st->open_cap, 0, (n - st->open_cap) * sizeof *st->open);
    memset(st->held_of + st->open_cap, 0, (n - st->open_cap) * sizeof *st->held_of);
    st->open_cap = n;
}

static int write_open(struct ice_stage *st, uint32_t group, const struct lake_column *columns,
                      uint32_t count, uint64_t *locs, struct err *err) {
    if (!st->open[group] && open_file(st, group, err)) {
        return -1;
    }
    struct ice_outfile *o = st->open[group];
    uint64_t first = parquet_writer_rows(o->writer);
    size_t before = parquet_writer_memory(o->writer);
    int rc = parquet_writer_add(o->writer, columns, count, err);
    st->held = st->held - before + parquet_writer_memory(o->writer);
    if (rc) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        locs[i] = key_loc(o->number, first + i);
    }
    if (parquet_writer_bytes(o->writer) >= st->config->file_bytes) {
        return finish_file(st, group, err);
    }
    return st->held > st->config->open_bytes_max ? flush_to(st, st->config->open_bytes_max / 2, err)
                                                 : 0;
}

/* The first `count` rows of the columns. */
static int write_group(struct ice_stage *st, uint32_t group, const struct lake_column *columns,
                       uint32_t count, uint64_t *locs, struct err *err) {
    if (group >= st->open_cap) {
        make_groups(st);
    }
    st->touched = true;
    st->empty = false;
    return goes_to_open_file(st, group)
               ? write_open(st, group, columns, count, locs, err)
               : ice_stage_hold(st, group, columns, NULL, count, locs, err);
}

/* ---- several partitions ---- */

static int group_cmp(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* tools->order = rows by partition, each partition's in their order; returns how many there are. */
static uint32_t sort_groups(struct ice_tools *t, uint32_t count) {
    uint32_t groups = 0;
    for (uint32_t i = 0; i < count; i++) {
        t->locs[i] = (uint64_t)t->groups[i] << 32 | i;
    }
    qsort(t->locs, count, sizeof *t->locs, group_cmp);
    for (uint32_t i = 0; i < count; i++) {
        t->order[i] = (uint32_t)t->locs[i];
        groups += i == 0 || t->locs[i] >> 32 != t->locs[i - 1] >> 32;
    }
    return groups;
}

/* The rows picked out of st->columns, cell by cell. */
static int write_picked(struct ice_stage *st, const uint32_t *picked, uint32_t count,
                        uint32_t group, uint64_t *locs, struct err *err) {
    uint32_t n = st->schema.field_count;
    if (group >= st->open_cap) {
        make_groups(st);
    }
    if (!goes_to_open_file(st, group)) {
        st->touched = true;
        st->empty = false;
        return ice_stage_hold(st, group, st->columns, picked, count, locs, err);
    }
    struct lake_builder *builders = xcalloc(n, sizeof *builders);
    struct lake_column *columns = xcalloc(n, sizeof *columns);
    for (uint32_t i = 0; i < n; i++) {
        lake_builder_init(&builders[i]);
        lake_builder_begin(&builders[i], &st->schema.fields[i].type);
        for (uint32_t r = 0; r < count; r++) {
            lake_builder_add(&builders[i], &st->columns[i], picked[r]);
        }
        lake_builder_column(&builders[i], &columns[i]);
    }
    int rc = write_group(st, group, columns, count, locs, err);
    for (uint32_t i = 0; i < n; i++) {
        lake_builder_release(&builders[i]);
    }
    free(builders);
    free(columns);
    return rc;
}

static int write_converted(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                           const uint32_t *picked, uint32_t count, uint32_t group, uint64_t *locs,
                           struct err *err) {
    uint32_t *sub = xmalloc(count * sizeof *sub);
    for (uint32_t i = 0; i < count; i++) {
        sub[i] = rows ? rows[picked[i]] : picked[i];
    }
    int rc = ice_stage_convert(st, batch, sub, count, NULL, err) ||
                     write_group(st, group, st->columns, count, locs, err)
                 ? -1
                 : 0;
    free(sub);
    return rc;
}

/* batch NULL: out of st->columns, which are whole. Where the rows of a partition are few, all are
 * converted at once. */
static int write_apart(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                       uint32_t count, uint64_t *locs, struct err *err) {
    struct ice_tools *t = st->tools;
    if (sort_groups(t, count) > count / ROWS_CONVERTED && batch) {
        if (ice_stage_convert(st, batch, rows, count, NULL, err)) {
            return -1;
        }
        batch = NULL;
    }
    for (uint32_t from = 0, to; from < count; from = to) {
        uint32_t group = t->groups[t->order[from]];
        for (to = from + 1; to < count && t->groups[t->order[to]] == group; to++) {}
        const uint32_t *picked = t->order + from;
        int rc = batch ? write_converted(st, batch, rows, picked, to - from, group, t->locs, err)
                       : write_picked(st, picked, to - from, group, t->locs, err);
        if (rc) {
            return -1;
        }
        for (uint32_t i = from; i < to; i++) {
            locs[t->order[i]] = t->locs[i - from];
        }
    }
    return 0;
}

static bool of_one_partition(struct ice_stage *st, uint32_t count) {
    struct ice_tools *t = st->tools;
    ice_router_route(st->router, st->columns, count, t->groups);
    for (uint32_t i = 1; i < count; i++) {
        if (t->groups[i] != t->groups[0]) {
            return false;
        }
    }
    return true;
}

int ice_stage_write(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                    uint32_t count, uint64_t *locs, struct err *err) {
    CHECK(count > 0 && count <= BATCH_ROWS_MAX);
    for (uint32_t i = 0; st->spec.field_count && i < st->schema.field_count; i++) {
        if (st->fields[i].partition && convert_field(st, i, batch, rows, count, err)) {
            return -1;
        }
    }
    if (!of_one_partition(st, count)) {
        return write_apart(st, batch, rows, count, locs, err);
    }
    uint32_t group = st->tools->groups[0];
    return ice_stage_convert(st, batch, rows, count, NULL, err) ||
                   write_group(st, group, st->columns, count, locs, err)
               ? -1
               : 0;
}

int ice_stage_write_columns(struct ice_stage *st, uint32_t count, uint64_t *locs, struct err *err) {
    CHECK(count > 0 && count <= BATCH_ROWS_MAX);
    return of_one_partition(st, count)
               ? write_group(st, st->tools->groups[0], st->columns, count, locs, err)
               : write_apart(st, NULL, NULL, count, locs, err);
}

int ice_stage_mark_dead(struct ice_stage *st, uint64_t loc, struct err *err) {
    uint32_t number = KEY_LOC_FILE(loc);
    if (!st->last_dead || number != st->last_dead_number) {
        struct ice_bitmap *b = map_get(st->dead, &number, sizeof number);
        if (!b) {
            b = ice_bitmap_new();
            map_set(st->dead, &number, sizeof number, b);
        }
        st->last_dead = b;
        st->last_dead_number = number;
    }
    st->touched = true;
    if (!ice_bitmap_add(st->last_dead, KEY_LOC_POS(loc))) {
        struct err ignored = ERR_INIT; /* what is stored is as wrong: the next run builds it */
        if (ice_stage_forget_index(st, &ignored)) {
            err_clear(&ignored);
        }
        return err_set(err, ERR_REWIND, "index_damaged",
                       "table \"%s\": the key index gives a row that is dead already", st->label);
    }
    return 0;
}
