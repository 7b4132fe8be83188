/* Windows of changes against a table with a key. See ice_stage.h.
 *
 *   fold -> hashes of the keys -> index: where they live -> (need not be live, and found? compare)
 *        -> cells that the log left out, from where they are stored -> old places dead -> rows
 *        written -> index told
 *
 * Keys that share their hash with another one of the window or of the index are `slow`: they are
 * handled by their whole keys, one by one. Thread: the writer's. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_stage_internal.h"

enum { ENTRIES_MAX = 2 * ICE_FOLD_CHANGES_MAX, SEEN = 2 * ENTRIES_MAX };
_Static_assert(ENTRIES_MAX >= BATCH_ROWS_MAX, "a batch is appended with a window's arrays");

/* One entry a key of the window. */
struct ice_window {
    uint64_t hash[ENTRIES_MAX];
    uint64_t found[ENTRIES_MAX]; /* where it lives; KEY_LOC_NONE */
    uint64_t loc[ENTRIES_MAX];   /* where its row was written */
    bool slow[ENTRIES_MAX];
    bool same[ENTRIES_MAX];         /* the row found was compared: it is of this key */
    uint32_t by_first[ENTRIES_MAX]; /* entries by the batch in which they were first met */
    uint32_t by_left[ENTRIES_MAX];  /* entries with a row left, by its batch */
    uint64_t hashes[ENTRIES_MAX];   /* gathered, for one call */
    uint64_t locs[ENTRIES_MAX];
    uint32_t entries[ENTRIES_MAX];
    uint32_t rows[ENTRIES_MAX];
    uint64_t stored[ENTRIES_MAX]; /* places of rows whose cells are read, ascending */
    uint32_t *starts;             /* of the batches in by_first or by_left */
    uint32_t starts_cap;
    uint32_t seen[SEEN]; /* open addressing: entry + 1 */
};

struct ice_tools *ice_tools_new(uint64_t index_bytes) {
    struct ice_tools *t = xcalloc(1, sizeof *t);
    t->indexes = key_shared_new(index_bytes);
    stage_merge_init(&t->merge);
    ice_fold_init(&t->fold);
    buf_init(&t->key, SIZE_MAX);
    t->window = xcalloc(1, sizeof *t->window);
    t->deltas = ice_stage_keyless_new();
    t->zeros = xcalloc(BATCH_ROWS_MAX + 1, 16);
    t->groups = xcalloc(BATCH_ROWS_MAX, sizeof *t->groups);
    t->order = xcalloc(BATCH_ROWS_MAX, sizeof *t->order);
    t->locs = xcalloc(BATCH_ROWS_MAX, sizeof *t->locs);
    t->hashes = xcalloc(BATCH_ROWS_MAX, sizeof *t->hashes);
    return t;
}

void ice_tools_free(struct ice_tools *t) {
    if (!t) {
        return;
    }
    stage_merge_release(&t->merge);
    ice_fold_release(&t->fold);
    buf_release(&t->key);
    ice_stage_keyless_free(t->deltas);
    key_shared_free(t->indexes);
    free(t->window->starts);
    free(t->window);
    free(t->zeros);
    free(t->groups);
    free(t->order);
    free(t->locs);
    free(t->hashes);
    free(t);
}

static struct ice_fold *fold_of(const struct ice_stage *st) { return &st->tools->fold; }

/* ---- entries by batch ---- */

static uint32_t batch_of(const struct ice_fold_entry *e, bool first) {
    return first ? e->first_batch : e->batch;
}

/* out = entries by batch, in their order within it; w->starts[b]..w->starts[b + 1] are batch b's.
 * Entries without one are left out. */
static void sort_by_batch(const struct ice_fold *f, struct ice_window *w, bool first,
                          uint32_t *out) {
    if (w->starts_cap < f->batch_count + 2) {
        w->starts_cap = 2 * f->batch_count + 2;
        w->starts = xrealloc(w->starts, w->starts_cap * sizeof *w->starts);
    }
    uint32_t *starts = w->starts;
    memset(starts, 0, (f->batch_count + 2) * sizeof *starts);
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t b = batch_of(&f->entries[i], first);
        if (b != ICE_FOLD_NONE) {
            starts[b + 2]++;
        }
    }
    for (uint32_t b = 2; b < f->batch_count + 2; b++) {
        starts[b] += starts[b - 1];
    }
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t b = batch_of(&f->entries[i], first);
        if (b != ICE_FOLD_NONE) {
            out[starts[b + 1]++] = i;
        }
    }
}

/* ---- where the keys live ---- */

/* The entry's key, whole. */
static int put_key(struct ice_stage *st, const struct ice_fold_entry *e, struct buf *out,
                   struct err *err) {
    if (ice_stage_convert_keys(st, fold_of(st)->batches[e->first_batch], &e->first_row, 1, err)) {
        return -1;
    }
    ice_key_put(out, st->key_columns, st->key_forms, st->key_count, 0);
    return 0;
}

static int hash_keys(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold *f = fold_of(st);
    sort_by_batch(f, w, true, w->by_first);
    for (uint32_t b = 0; b < f->batch_count; b++) {
        const uint32_t *entries = w->by_first + w->starts[b];
        uint32_t n = w->starts[b + 1] - w->starts[b];
        for (uint32_t i = 0; i < n; i++) {
            w->rows[i] = f->entries[entries[i]].first_row;
        }
        if (n == 0) {
            continue;
        }
        if (ice_stage_convert_keys(st, f->batches[b], w->rows, n, err)) {
            return -1;
        }
        ice_key_hashes(st->key_columns, st->key_forms, st->key_count, st->hash_mask,
                       &st->tools->key, w->hashes);
        for (uint32_t i = 0; i < n; i++) {
            w->hash[entries[i]] = w->hashes[i];
        }
    }
    return 0;
}

/* Two keys of the window with one hash: both are slow. */
static void notice_twins(const struct ice_fold *f, struct ice_window *w) {
    uint32_t slots = SEEN;
    while (slots > 64 && slots / 8 >= f->count) { /* small windows are many */
        slots /= 2;
    }
    memset(w->seen, 0, slots * sizeof *w->seen);
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t at = (uint32_t)(w->hash[i] >> 7) & (slots - 1);
        while (w->seen[at] && w->hash[w->seen[at] - 1] != w->hash[i]) {
            at = (at + 1) & (slots - 1);
        }
        if (w->seen[at]) {
            w->slow[i] = w->slow[w->seen[at] - 1] = true;
        }
        w->seen[at] = i + 1;
    }
}

struct carried {
    uint64_t loc; /* a row in a file that is asked for an entry */
    uint32_t entry;
};

static int by_place(const void *a, const void *b) {
    uint64_t x = ((const struct carried *)a)->loc, y = ((const struct carried *)b)->loc;
    return x < y ? -1 : x > y;
}

/* The keys of stored rows, one column a key field, in the order of w->stored. */
static int read_keys(struct ice_stage *st, uint32_t n, struct lake_builder *builders,
                     struct lake_column *columns, struct err *err) {
    for (uint32_t k = 0; k < st->key_count; k++) {
        uint32_t field = st->key_fields[k];
        lake_builder_begin(&builders[k], &st->schema.fields[field].type);
        if (ice_stage_read_cells(st, st->tools->window->stored, n, field, &builders[k], err)) {
            return -1;
        }
        lake_builder_column(&builders[k], &columns[k]);
        if (columns[k].valid) {
            return err_set(err, ERR_FATAL, "key_absent",
                           "table \"%s\": a row in the lake has no value of its key", st->label);
        }
    }
    return 0;
}

static int compare_keys(struct ice_stage *st, const struct carried *order, uint32_t n,
                        const struct lake_column *columns, struct err *err) {
    struct buf mine, stored;
    buf_init(&mine, SIZE_MAX);
    buf_init(&stored, SIZE_MAX);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        buf_clear(&mine);
        buf_clear(&stored);
        rc = put_key(st, &fold_of(st)->entries[order[i].entry], &mine, err);
        ice_key_put(&stored, columns, st->key_forms, st->key_count, i);
        st->tools->window->same[order[i].entry] =
            mine.len == stored.len && memcmp(mine.data, stored.data, mine.len) == 0;
    }
    buf_release(&mine);
    buf_release(&stored);
    return rc;
}

/* w->same of the entries in `order`: their keys are read from the files, in the files' order. */
static int compare_found(struct ice_stage *st, struct carried *order, uint32_t n, struct err *err) {
    struct lake_builder *builders = xcalloc(st->key_count, sizeof *builders);
    struct lake_column *columns = xcalloc(st->key_count, sizeof *columns);
    qsort(order, n, sizeof *order, by_place);
    for (uint32_t i = 0; i < n; i++) {
        st->tools->window->stored[i] = order[i].loc;
    }
    for (uint32_t k = 0; k < st->key_count; k++) {
        lake_builder_init(&builders[k]);
    }
    int rc = read_keys(st, n, builders, columns, err) || compare_keys(st, order, n, columns, err)
                 ? -1
                 : 0;
    for (uint32_t k = 0; k < st->key_count; k++) {
        lake_builder_release(&builders[k]);
    }
    free(builders);
    free(columns);
    return rc;
}

/* Where the key need not be live, or another one has its hash, what was found is compared. */
static bool is_doubtful(const struct ice_fold *f, const struct ice_window *w, uint32_t i) {
    return w->found[i] != KEY_LOC_NONE && w->found[i] != KEY_LOC_ASK &&
           (f->entries[i].was != ICE_WAS_LIVE || w->slow[i]);
}

static int compare_doubtful(struct ice_stage *st, struct err *err) {
    const struct ice_fold *f = fold_of(st);
    const struct ice_window *w = st->tools->window;
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        n += is_doubtful(f, w, i);
    }
    if (n == 0) {
        return 0;
    }
    struct carried *order = xmalloc(n * sizeof *order);
    n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        if (is_doubtful(f, w, i)) {
            order[n++] = (struct carried){ w->found[i], i };
        }
    }
    int rc = compare_found(st, order, n, err);
    free(order);
    return rc;
}

/* Soft deletes: is the row at loc one that was deleted? */
static int is_deleted(struct ice_stage *st, uint64_t loc, bool *deleted, struct err *err) {
    int field = ice_schema_find(&st->schema, ice_extra_name(ICE_EXTRA_DELETED));
    *deleted = false;
    if (field < 0) {
        return 0;
    }
    struct lake_builder cell;
    struct lake_column column;
    lake_builder_init(&cell);
    lake_builder_begin(&cell, &st->schema.fields[field].type);
    int rc = ice_stage_read_cells(st, &loc, 1, (uint32_t)field, &cell, err);
    if (rc == 0) {
        lake_builder_column(&cell, &column);
        *deleted = !column.valid && column.data[0];
    }
    lake_builder_release(&cell);
    return rc;
}

/* What the index said of one entry, made certain. */
static int resolve(struct ice_stage *st, uint32_t i, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold_entry *e = &fold_of(st)->entries[i];
    struct buf *key = &st->tools->key;
    if (w->found[i] == KEY_LOC_ASK) {
        w->slow[i] = true;
        buf_clear(key);
        if (put_key(st, e, key, err) ||
            key_index_find_key(st->index, w->hash[i], key->data, key->len, &w->found[i], err)) {
            return -1;
        }
    } else if (is_doubtful(fold_of(st), w, i) && !w->same[i]) {
        w->slow[i] = true;
        w->found[i] = KEY_LOC_NONE;
    }
    if (w->found[i] == KEY_LOC_NONE || e->was != ICE_WAS_ABSENT) {
        return 0;
    }
    bool deleted = false;
    if (is_deleted(st, w->found[i], &deleted, err)) {
        return -1;
    }
    return deleted ? 0 : ice_fold_refuse_live(st->label, err);
}

/* A soft delete of a key that is not there leaves nothing. */
static void drop_vain_deletes(const struct ice_window *w, struct ice_fold *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        struct ice_fold_entry *e = &f->entries[i];
        if (e->deleted && e->carry == i && w->found[i] == KEY_LOC_NONE) {
            e->batch = e->carry = ICE_FOLD_NONE;
        }
    }
}

static int look_up(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->tools->window;
    struct ice_fold *f = fold_of(st);
    memset(w->slow, 0, f->count * sizeof *w->slow);
    if (hash_keys(st, err)) {
        return -1;
    }
    notice_twins(f, w);
    if (key_index_find(st->index, w->hash, f->count, w->found, err) || compare_doubtful(st, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < f->count; i++) {
        bool certain = w->found[i] == KEY_LOC_NONE || (f->entries[i].was == ICE_WAS_LIVE &&
                                                       !w->slow[i] && w->found[i] != KEY_LOC_ASK);
        if (!certain && resolve(st, i, err)) {
            return -1;
        }
    }
    if (f->soft) {
        drop_vain_deletes(w, f);
    }
    return 0;
}

static int mark_dead(struct ice_stage *st, struct err *err) {
    const struct ice_window *w = st->tools->window;
    for (uint32_t i = 0; i < fold_of(st)->count; i++) {
        if (w->found[i] != KEY_LOC_NONE && ice_stage_mark_dead(st, w->found[i], err)) {
            return -1;
        }
    }
    return 0;
}

/* ---- rows that are left ---- */

/* w->entries = those with a row left in the batch, whose cells are all there, or not. */
static uint32_t gather(struct ice_stage *st, uint32_t batch, bool carried) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold *f = fold_of(st);
    uint32_t n = 0;
    for (uint32_t at = w->starts[batch]; at < w->starts[batch + 1]; at++) {
        const struct ice_fold_entry *e = &f->entries[w->by_left[at]];
        if ((e->carry != ICE_FOLD_NONE) == carried) {
            w->entries[n] = w->by_left[at];
            w->rows[n++] = e->row;
        }
    }
    return n;
}

static void keep_locs(struct ice_window *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        w->loc[w->entries[i]] = w->locs[i];
    }
}

static int write_whole_rows(struct ice_stage *st, uint32_t b, struct err *err) {
    struct ice_window *w = st->tools->window;
    uint32_t n = gather(st, b, false);
    if (n > 0 && ice_stage_write(st, fold_of(st)->batches[b], w->rows, n, w->locs, err)) {
        return -1;
    }
    keep_locs(w, n);
    return 0;
}

static int refuse_absent(const struct ice_stage *st, struct err *err) {
    err_set(err, ERR_FATAL, "row_absent",
            "table \"%s\": an update leaves columns out because they did not change, and the "
            "row is not in the lake: it was never read (snapshot=never), or somebody else deleted "
            "it",
            st->label);
    return ice_cure_read_again(st->label, err);
}

/* w->entries, w->rows and w->stored in the order of the places that their cells are carried from.
 */
static int sort_by_place(struct ice_stage *st, uint32_t n, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold *f = fold_of(st);
    struct carried *order = xmalloc((n + 1) * sizeof *order);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t entry = w->entries[i];
        order[i] = (struct carried){ w->found[f->entries[entry].carry], entry };
    }
    qsort(order, n, sizeof *order, by_place);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        w->entries[i] = order[i].entry;
        w->rows[i] = f->entries[order[i].entry].row;
        w->stored[i] = order[i].loc;
        rc = order[i].loc == KEY_LOC_NONE ? refuse_absent(st, err) : 0;
    }
    free(order);
    return rc;
}

/* A column some of whose cells the batch has and others are stored, put together in the field's
 * builder. */
static int splice(struct ice_stage *st, const struct batch *batch, uint32_t field, uint32_t n,
                  struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_field *f = &st->schema.fields[field];
    struct ice_stage_field *sf = &st->fields[field];
    const struct column *cells = &batch->columns[sf->source];
    uint32_t *here = xmalloc((n + 1) * sizeof *here);
    uint64_t *places = xmalloc((n + 1) * sizeof *places);
    uint32_t here_count = 0, stored_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cell_absent(cells, w->rows[i])) {
            places[stored_count++] = w->stored[i];
        } else {
            here[here_count++] = w->rows[i];
        }
    }
    struct lake_builder stored;
    struct lake_column from_batch = { 0 }, from_file;
    lake_builder_init(&stored);
    lake_builder_begin(&stored, &f->type);
    int rc = lake_column_of(sf->scratch, batch, sf->source, here, here_count, &f->type, &from_batch,
                            err);
    if (rc == 0) {
        rc = ice_stage_read_cells(st, places, stored_count, field, &stored, err);
    }
    if (rc == 0) {
        lake_builder_column(&stored, &from_file);
        lake_builder_begin(&sf->builder, &f->type);
        for (uint32_t i = 0, at_here = 0, at_stored = 0; i < n; i++) {
            bool absent = cell_absent(cells, w->rows[i]);
            lake_builder_add(&sf->builder, absent ? &from_file : &from_batch,
                             absent ? at_stored++ : at_here++);
        }
        lake_builder_column(&sf->builder, &st->columns[field]);
    }
    lake_builder_release(&stored);
    free(places);
    free(here);
    return rc;
}

static int write_carried_rows(struct ice_stage *st, uint32_t b, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct batch *batch = fold_of(st)->batches[b];
    uint32_t n = gather(st, b, true);
    if (n == 0) {
        return 0;
    }
    if (sort_by_place(st, n, err)) {
        return -1;
    }
    bool *skip = xcalloc(st->schema.field_count + 1, sizeof *skip);
    for (uint32_t i = 0; i < st->schema.field_count; i++) {
        uint16_t source = st->fields[i].source;
        for (uint32_t r = 0; r < n && !skip[i] && source != UINT16_MAX; r++) {
            skip[i] = cell_absent(&batch->columns[source], w->rows[r]);
        }
    }
    int rc = ice_stage_convert(st, batch, w->rows, n, skip, err);
    for (uint32_t i = 0; rc == 0 && i < st->schema.field_count; i++) {
        rc = skip[i] ? splice(st, batch, i, n, err) : 0;
    }
    free(skip);
    if (rc || ice_stage_write_columns(st, n, w->locs, err)) {
        return -1;
    }
    keep_locs(w, n);
    return 0;
}

static int write_rows(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold *f = fold_of(st);
    st->holding = st->reads_back;
    sort_by_batch(f, w, false, w->by_left);
    for (uint32_t b = 0; b < f->batch_count; b++) {
        if (w->starts[b] < w->starts[b + 1] &&
            (write_whole_rows(st, b, err) || write_carried_rows(st, b, err))) {
            return -1;
        }
    }
    return 0;
}

/* ---- the index ---- */

/* It learns of a key that shares its hash with another: whole keys. */
static int tell_slowly(struct ice_stage *st, uint32_t i, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold_entry *e = &fold_of(st)->entries[i];
    struct buf key, other;
    buf_init(&key, SIZE_MAX);
    buf_init(&other, SIZE_MAX);
    int rc = put_key(st, e, &key, err);
    uint64_t answer = KEY_LOC_NONE;
    if (rc == 0 && w->found[i] != KEY_LOC_NONE) {
        rc = key_index_remove_key(st->index, w->hash[i], key.data, key.len, err);
    }
    if (rc == 0 && e->batch != ICE_FOLD_NONE) {
        rc = key_index_find(st->index, &w->hash[i], 1, &answer, err);
        if (rc == 0 && answer != KEY_LOC_NONE && answer != KEY_LOC_ASK) {
            rc = ice_stage_read_key(st, answer, &other, err) ||
                         key_index_collide(st->index, w->hash[i], other.data, other.len, answer,
                                           key.data, key.len, w->loc[i], err)
                     ? -1
                     : 0;
        } else if (rc == 0) {
            rc = key_index_put_key(st->index, w->hash[i], key.data, key.len, w->loc[i], err);
        }
    }
    buf_release(&key);
    buf_release(&other);
    return rc;
}

static int tell_index(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->tools->window;
    const struct ice_fold *f = fold_of(st);
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        if (!w->slow[i] && w->found[i] != KEY_LOC_NONE && f->entries[i].batch == ICE_FOLD_NONE) {
            w->hashes[n++] = w->hash[i];
        }
    }
    if (key_index_remove(st->index, w->hashes, n, err)) {
        return -1;
    }
    n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        if (!w->slow[i] && f->entries[i].batch != ICE_FOLD_NONE) {
            w->hashes[n] = w->hash[i];
            w->locs[n++] = w->loc[i];
        }
    }
    if (key_index_put(st->index, w->hashes, w->locs, n, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < f->count; i++) {
        if (w->slow[i] && tell_slowly(st, i, err)) {
            return -1;
        }
    }
    st->changes += f->count;
    return 0;
}

int ice_stage_apply(struct ice_stage *st, struct err *err) {
    int rc = 0;
    if (fold_of(st)->count > 0) {
        rc = ice_stage_need_index(st, err) || look_up(st, err) || mark_dead(st, err) ||
                     write_rows(st, err) || tell_index(st, err)
                 ? -1
                 : 0;
    }
    ice_fold_begin(fold_of(st));
    return rc;
}

/* Rows that nobody has to look for. */
int ice_stage_append(struct ice_stage *st, struct batch *batch, struct err *err) {
    struct ice_window *w = st->tools->window;
    if (batch->rows == 0) {
        return 0;
    }
    if (ice_stage_need_index(st, err) ||
        ice_stage_convert_keys(st, batch, NULL, batch->rows, err)) {
        return -1;
    }
    ice_key_hashes(st->key_columns, st->key_forms, st->key_count, st->hash_mask, &st->tools->key,
                   w->hashes);
    st->changes += batch->rows;
    st->holding = st->holds_all;
    return ice_stage_write(st, batch, NULL, batch->rows, w->locs, err) ||
                   key_index_append(st->index, w->hashes, w->locs, batch->rows, err)
               ? -1
               : 0;
}
