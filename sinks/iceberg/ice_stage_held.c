/* Data files whose rows are held (ice_hold.h) until they are written in one go, at the seal as a
 * rule: those of more partitions than may have an open file, and rows that changes of the same
 * commit ask for again. A file's name and number are given when its first row comes, so that places
 * of its rows are known. See ice_stage.h. Thread: the writer's. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_stage_internal.h"

enum { HELD_FACTOR = 2 }; /* rows become about so much smaller when they are encoded */

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

/* The file is written and ends. */
static int write_file(struct ice_stage *st, struct ice_held_file *f, struct err *err) {
    struct drain d = { .st = st };
    if (ice_outfile_open(st->config->store, f->key, &st->schema,
                         ice_router_partition(st->router, f->group), &st->config->parquet, &d.o,
                         err)) {
        return -1;
    }
    d.o->number = f->number;
    uint64_t rows = ice_hold_rows(st->hold, f->slot);
    if (ice_hold_each(st->hold, f->slot, add_piece, &d, err)) {
        ice_outfile_abort(d.o);
        return -1;
    }
    CHECK(parquet_writer_rows(d.o->writer) == rows);
    ice_hold_drop(st->hold, f->slot);
    free(f->key);
    f->key = NULL;
    st->held_of[f->group] = 0;
    return ice_stage_end_file(st, d.o, err);
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
    if (ice_hold_bytes(st->hold, f->slot) >= HELD_FACTOR * st->config->file_bytes) {
        return write_file(st, f, err);
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
    ice_hold_clear(st->hold);
}
