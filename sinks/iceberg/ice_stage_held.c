/* Data files whose rows are held (ice_hold.h) until they are written in one go, at the seal as a
 * rule: those of more partitions than may have an open file, and rows that changes of the same
 * commit ask for again. A file's name and number are given when its first row comes, so that places
 * of its rows are known. See ice_stage.h. Thread: the writer's.
 *
 * Where the table's files are sorted, all rows are held, and a file's rows have places of a number
 * that is no file's until it is written:
 *
 *   rows without those that died -> sorted (ice_sort.h) -> data file, whole -> its keys: what the
 *   index says is of the number is of the file */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_sort.h"
#include "sinks/iceberg/ice_stage_internal.h"

enum {
    HELD_FACTOR = 2, /* rows become about so much smaller when they are encoded */
    /* Of open_bytes_max: memory of a run that is sorted, and what a sorted file may hold, so that
     * its runs are few enough to be merged at once. */
    RUN_SHARE = 4,
    SORTED_FACTOR = 8,
};

const struct ice_held_file *ice_stage_held_file(const struct ice_stage *st, uint32_t number) {
    uint32_t low = 0, high = st->held_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (st->held_files[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct ice_held_file *f = &st->held_files[low];
    return low < st->held_count && f->number == number && f->key ? f : NULL;
}

static int begin_file(struct ice_stage *st, uint32_t group, struct err *err) {
    char *key = ice_stage_new_key(st, group);
    uint32_t number = 0;
    if (st->index) {
        struct buf url;
        buf_init(&url, SIZE_MAX);
        store_put_url(&url, st->config->store, key);
        buf_puts(&url, st->sorts ? "#rows" : "");
        int failed = key_index_file(st->index, buf_cstr(&url), &number, err);
        buf_release(&url);
        if (failed) {
            free(key);
            return -1;
        }
        CHECK(st->held_count == 0 || st->held_files[st->held_count - 1].number < number);
    }
    if (st->held_count == st->held_cap) {
        st->held_cap = st->held_cap ? 2 * st->held_cap : 16;
        st->held_files = xrealloc(st->held_files, st->held_cap * sizeof *st->held_files);
    }
    st->held_files[st->held_count++] = (struct ice_held_file){
        .group = group, .number = number, .slot = ice_hold_file(st->hold), .key = key
    };
    st->held_of[group] = st->held_count;
    return 0;
}

struct drain {
    struct ice_stage *st;
    struct ice_outfile *o;
};

static int add_piece(void *arg, const struct lake_column *columns, uint32_t rows, struct err *err) {
    struct drain *d = arg;
    return parquet_writer_add(d->o->writer, columns, rows, err);
}

static int open_drain(struct ice_stage *st, const struct ice_held_file *f, struct drain *d,
                      struct err *err) {
    *d = (struct drain){ .st = st };
    return ice_outfile_open(st->config->store, f->key, &st->schema,
                            ice_router_partition(st->router, f->group), &st->config->parquet, &d->o,
                            err);
}

static int write_as_held(struct ice_stage *st, const struct ice_held_file *f, struct err *err) {
    struct drain d;
    if (open_drain(st, f, &d, err)) {
        return -1;
    }
    d.o->number = f->number;
    if (ice_hold_each(st->hold, f->slot, add_piece, &d, err)) {
        ice_outfile_abort(d.o);
        return -1;
    }
    CHECK(parquet_writer_rows(d.o->writer) == ice_hold_rows(st->hold, f->slot));
    return ice_stage_end_file(st, d.o, err);
}

static int write_sorted(struct ice_stage *st, const struct ice_held_file *f,
                        const struct ice_bitmap *dead, struct err *err) {
    struct drain d;
    uint64_t rows = ice_hold_rows(st->hold, f->slot) - (dead ? ice_bitmap_count(dead) : 0);
    if (rows == 0) {
        return 0;
    }
    if (open_drain(st, f, &d, err)) {
        return -1;
    }
    struct ice_sort sort = { .order = &st->order,
                             .indexes = st->order_fields,
                             .from = st->hold,
                             .file = f->slot,
                             .dead = dead,
                             .runs = st->runs,
                             .memory_bytes = st->config->open_bytes_max / RUN_SHARE,
                             .each = add_piece,
                             .arg = &d };
    if ((st->index && key_index_file(st->index, d.o->url, &d.o->number, err)) ||
        ice_sort_rows(&sort, err)) {
        ice_outfile_abort(d.o);
        return -1;
    }
    CHECK(parquet_writer_rows(d.o->writer) == rows);
    if (ice_stage_end_file(st, d.o, err)) {
        return -1;
    }
    struct ice_file *file = &st->added[st->added_count - 1];
    file->sort_order_id = st->order.id;
    struct ice_scan scan = { .url = file->path, .what = ICE_SCAN_MOVED, .from = f->number };
    return st->index ? ice_stage_scan_file(st, &scan, err) : 0;
}

/* Nothing of the number's is anywhere any more. */
static void forget_number(struct ice_stage *st, uint32_t number) {
    if (st->index) {
        ice_bitmap_free(map_remove(st->dead, &number, sizeof number));
        st->last_dead = NULL;
        key_index_forget(st->index, number);
    }
}

/* The file is written and ends. */
static int write_file(struct ice_stage *st, struct ice_held_file *f, struct err *err) {
    const struct ice_bitmap *dead =
        st->sorts && st->index ? map_get(st->dead, &f->number, sizeof f->number) : NULL;
    if (st->sorts ? write_sorted(st, f, dead, err) : write_as_held(st, f, err)) {
        return -1;
    }
    if (st->sorts) {
        forget_number(st, f->number);
    }
    ice_hold_drop(st->hold, f->slot);
    free(f->key);
    f->key = NULL;
    st->held_of[f->group] = 0;
    return 0;
}

static bool is_large(const struct ice_stage *st, const struct ice_held_file *f) {
    uint64_t bytes = ice_hold_bytes(st->hold, f->slot);
    return bytes >= HELD_FACTOR * st->config->file_bytes ||
           (st->sorts && bytes >= SORTED_FACTOR * st->config->open_bytes_max);
}

int ice_stage_end_full(struct ice_stage *st, struct err *err) {
    for (uint32_t i = 0; st->held_full && i < st->held_count; i++) {
        struct ice_held_file *f = &st->held_files[i];
        if (f->key && is_large(st, f) && write_file(st, f, err)) {
            return -1;
        }
    }
    st->held_full = false;
    return 0;
}

int ice_stage_hold(struct ice_stage *st, uint32_t group, const struct lake_column *columns,
                   const uint32_t *picked, uint32_t count, uint64_t *locs, struct err *err) {
    if (!st->held_of[group] && begin_file(st, group, err)) {
        return -1;
    }
    struct ice_held_file *f = &st->held_files[st->held_of[group] - 1];
    uint64_t first = ice_hold_rows(st->hold, f->slot);
    ice_hold_add(st->hold, f->slot, columns, st->schema.field_count, picked, count);
    for (uint32_t i = 0; i < count; i++) {
        locs[i] = key_loc(f->number, first + i);
    }
    if (is_large(st, f)) {
        st->held_full = st->sorts;
        if (!st->sorts) {
            return write_file(st, f, err);
        }
    }
    return ice_hold_memory_blocks(st->hold) > st->config->open_bytes_max / 2
               ? ice_hold_spill(st->hold, err)
               : 0;
}

int ice_stage_write_held(struct ice_stage *st, struct err *err) {
    for (uint32_t i = 0; i < st->held_count; i++) {
        if (st->held_files[i].key && write_file(st, &st->held_files[i], err)) {
            return -1;
        }
    }
    ice_stage_drop_held(st);
    return 0;
}

void ice_stage_drop_held(struct ice_stage *st) {
    for (uint32_t i = 0; i < st->held_count; i++) {
        if (st->held_files[i].key) {
            st->held_of[st->held_files[i].group] = 0;
        }
        free(st->held_files[i].key);
    }
    free(st->held_files);
    st->held_files = NULL;
    st->held_count = st->held_cap = 0;
    st->held_full = false;
    ice_hold_clear(st->hold);
}
