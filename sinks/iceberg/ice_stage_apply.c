/* Windows of changes against a table. See ice_stage.h.
 *
 *   fold -> hashes of the keys first met -> index: where they live -> (inserted, and found?
 * compare) -> cells that the log left out, from where they are stored -> old places dead -> rows
 * written -> index told
 *
 * Thread: the writer's. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_stage_internal.h"

enum { ENTRIES_MAX = 2 * ICE_FOLD_CHANGES_MAX };

/* One entry a key of the window. */
struct ice_window {
    uint64_t first_hash[ENTRIES_MAX]; /* of the key as first met */
    uint64_t found[ENTRIES_MAX];      /* where it lives; KEY_LOC_NONE */
    uint64_t hash[ENTRIES_MAX];       /* of the row that is left */
    uint64_t loc[ENTRIES_MAX];        /* where it was written */
    bool slow[ENTRIES_MAX];           /* another key of this hash is near: whole keys are used */
    uint64_t other[ENTRIES_MAX];  /* slow: the other key's row that is in the index; KEY_LOC_NONE */
    uint64_t hashes[ENTRIES_MAX]; /* gathered, for one call */
    uint64_t locs[ENTRIES_MAX];
    uint32_t entries[ENTRIES_MAX];
    uint32_t rows[ENTRIES_MAX];
    struct ice_place places[ENTRIES_MAX];
    struct lake_column *keys;
    uint32_t seen[2 * ENTRIES_MAX]; /* open addressing: entry + 1, for hashes that two keys have */
};

void ice_stage_window_free(struct ice_window *w) {
    if (w) {
        free(w->keys);
        free(w);
    }
}

static struct ice_window *window_of(struct ice_stage *st) {
    if (!st->window) {
        st->window = xcalloc(1, sizeof *st->window);
    }
    st->window->keys = xrealloc(st->window->keys, (st->key_count + 1) * sizeof *st->window->keys);
    return st->window;
}

/* The key columns of rows of a batch, into w->keys. */
static int convert_keys(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                        uint32_t count, struct err *err) {
    struct ice_window *w = st->window;
    for (uint32_t k = 0; k < st->key_count; k++) {
        uint32_t field = st->key_fields[k];
        if (lake_column_of(st->scratch[field], batch, st->bind[field], rows, count,
                           &st->schema.fields[field].type, &w->keys[k], err)) {
            return -1;
        }
    }
    return 0;
}

/* The key of an entry as it was first met, whole. */
static int put_first_key(struct ice_stage *st, const struct ice_fold_entry *e, struct buf *out,
                         struct err *err) {
    if (convert_keys(st, st->fold.batches[e->first_batch], &e->first_row, 1, err)) {
        return -1;
    }
    ice_key_put(out, st->window->keys, st->key_count, 0);
    return 0;
}

static int put_left_key(struct ice_stage *st, const struct ice_fold_entry *e, struct buf *out,
                        struct err *err) {
    if (convert_keys(st, st->fold.batches[e->batch], &e->row, 1, err)) {
        return -1;
    }
    ice_key_put(out, st->window->keys, st->key_count, 0);
    return 0;
}

static int hash_first_keys(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->window;
    struct ice_fold *f = &st->fold;
    for (uint32_t b = 0; b < f->batch_count; b++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->entries[i].first_batch == b) {
                w->entries[n] = i;
                w->rows[n++] = f->entries[i].first_row;
            }
        }
        if (n == 0) {
            continue;
        }
        if (convert_keys(st, f->batches[b], w->rows, n, err)) {
            return -1;
        }
        ice_key_hashes(w->keys, st->key_count, &st->key, w->hashes);
        for (uint32_t i = 0; i < n; i++) {
            w->first_hash[w->entries[i]] = w->hashes[i];
        }
    }
    return 0;
}

/* Two keys of the window with one hash: both are handled whole. */
static void notice_twins(struct ice_stage *st) {
    struct ice_window *w = st->window;
    const uint32_t mask = 2 * ENTRIES_MAX - 1;
    memset(w->seen, 0, sizeof w->seen);
    for (uint32_t i = 0; i < st->fold.count; i++) {
        uint32_t at = (uint32_t)(w->first_hash[i] >> 7) & mask;
        while (w->seen[at] && w->first_hash[w->seen[at] - 1] != w->first_hash[i]) {
            at = (at + 1) & mask;
        }
        if (w->seen[at]) {
            w->slow[i] = w->slow[w->seen[at] - 1] = true;
        }
        w->seen[at] = i + 1;
    }
}

/* Is the row at loc the key of the entry? Puts that row's key to st->key. */
static int same_key(struct ice_stage *st, const struct ice_fold_entry *e, uint64_t loc, bool *same,
                    struct err *err) {
    struct buf mine;
    buf_init(&mine, SIZE_MAX);
    buf_clear(&st->key);
    int rc =
        put_first_key(st, e, &mine, err) || ice_stage_read_key(st, loc, &st->key, err) ? -1 : 0;
    *same = rc == 0 && mine.len == st->key.len && memcmp(mine.data, st->key.data, mine.len) == 0;
    buf_release(&mine);
    return rc;
}

/* What the index said of one entry, made certain. */
static int resolve(struct ice_stage *st, uint32_t i, struct err *err) {
    struct ice_window *w = st->window;
    const struct ice_fold_entry *e = &st->fold.entries[i];
    w->other[i] = KEY_LOC_NONE;
    if (w->found[i] == KEY_LOC_ASK) {
        w->slow[i] = true;
        buf_clear(&st->key);
        if (put_first_key(st, e, &st->key, err) ||
            key_index_find_key(st->index, w->first_hash[i], st->key.data, st->key.len, &w->found[i],
                               err)) {
            return -1;
        }
    } else if (w->found[i] != KEY_LOC_NONE && (e->was != ICE_WAS_LIVE || w->slow[i])) {
        bool same;
        if (same_key(st, e, w->found[i], &same, err)) {
            return -1;
        }
        if (!same) {
            w->slow[i] = true;
            w->other[i] = w->found[i];
            w->found[i] = KEY_LOC_NONE;
        }
    }
    if (w->found[i] != KEY_LOC_NONE && e->was == ICE_WAS_ABSENT) {
        err_set(
            err, ERR_FATAL, "insert_of_live_key",
            "table \"%s\": the log inserts a key that is in the lake already: a row was deleted or "
            "moved without the log saying so (a cascade that the log does not carry, a session in "
            "replica mode), or somebody else wrote to the table",
            st->label);
        return err_cure(err, "have the table read again");
    }
    return 0;
}

static int look_up(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->window;
    memset(w->slow, 0, st->fold.count * sizeof *w->slow);
    if (hash_first_keys(st, err)) {
        return -1;
    }
    notice_twins(st);
    if (key_index_find(st->index, w->first_hash, st->fold.count, w->found, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < st->fold.count; i++) {
        if (resolve(st, i, err)) {
            return -1;
        }
    }
    return 0;
}

static int mark_dead(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->window;
    for (uint32_t i = 0; i < st->fold.count; i++) {
        if (w->found[i] != KEY_LOC_NONE && ice_stage_mark_dead(st, w->found[i], err)) {
            return -1;
        }
    }
    return 0;
}

/* The rows of entries w->entries[0..n), all of one batch and in st->columns, are written; hashes
 * kept. */
static int write_entries(struct ice_stage *st, const struct batch *batch, const uint32_t *rows,
                         uint32_t n, struct err *err) {
    struct ice_window *w = st->window;
    ice_stage_key_columns(st, w->keys);
    ice_key_hashes(w->keys, st->key_count, &st->key, w->hashes);
    for (uint32_t i = 0; i < n; i++) {
        w->hash[w->entries[i]] = w->hashes[i];
    }
    if (ice_stage_write(st, batch, rows, n, w->locs, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        w->loc[w->entries[i]] = w->locs[i];
    }
    return 0;
}

static uint32_t gather(struct ice_stage *st, uint32_t batch, bool carried) {
    struct ice_window *w = st->window;
    uint32_t n = 0;
    for (uint32_t i = 0; i < st->fold.count; i++) {
        const struct ice_fold_entry *e = &st->fold.entries[i];
        if (e->batch == batch && (e->carry != ICE_FOLD_NONE) == carried) {
            w->entries[n] = i;
            w->rows[n++] = e->row;
        }
    }
    return n;
}

static int write_whole_rows(struct ice_stage *st, uint32_t b, struct err *err) {
    struct ice_window *w = st->window;
    const struct batch *batch = st->fold.batches[b];
    uint32_t n = gather(st, b, false);
    if (n == 0) {
        return 0;
    }
    return ice_stage_convert(st, batch, w->rows, n, NULL, err) ||
                   write_entries(st, batch, w->rows, n, err)
               ? -1
               : 0;
}

/* Where the missing cells of an entry's row are stored. */
static int place_of(struct ice_stage *st, uint32_t entry, struct ice_place *out, struct err *err) {
    uint64_t loc = st->window->found[st->fold.entries[entry].carry];
    if (loc == KEY_LOC_NONE) {
        err_set(err, ERR_FATAL, "row_absent",
                "table \"%s\": an update leaves columns out because they did not change, and the "
                "row is "
                "not in the lake: somebody else deleted it",
                st->label);
        return err_cure(err, "have the table read again");
    }
    if (ice_stage_settle_file(st, KEY_LOC_FILE(loc), err)) {
        return -1;
    }
    *out = (struct ice_place){ .file = key_index_path(st->index, KEY_LOC_FILE(loc)),
                               .pos = KEY_LOC_POS(loc) };
    return 0;
}

struct carried {
    uint64_t loc;
    uint32_t entry;
};

static int by_place(const void *a, const void *b) {
    uint64_t x = ((const struct carried *)a)->loc, y = ((const struct carried *)b)->loc;
    return x < y ? -1 : x > y;
}

/* w->entries and w->rows in the order of the places that their cells are carried from. */
static void sort_by_place(struct ice_stage *st, uint32_t n) {
    struct ice_window *w = st->window;
    struct carried *order = xmalloc((n + 1) * sizeof *order);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t entry = w->entries[i];
        order[i] = (struct carried){ w->found[st->fold.entries[entry].carry], entry };
    }
    qsort(order, n, sizeof *order, by_place);
    for (uint32_t i = 0; i < n; i++) {
        w->entries[i] = order[i].entry;
        w->rows[i] = st->fold.entries[order[i].entry].row;
    }
    free(order);
}

/* A column some of whose cells the batch has and others are stored, put together in st->builders.
 */
static int splice(struct ice_stage *st, const struct batch *batch, uint32_t field, uint32_t n,
                  struct err *err) {
    struct ice_window *w = st->window;
    const struct ice_field *f = &st->schema.fields[field];
    uint16_t col = st->bind[field];
    uint32_t *here = xmalloc((n + 1) * sizeof *here);
    struct ice_place *places = xmalloc((n + 1) * sizeof *places);
    uint32_t here_count = 0, stored_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cell_absent(&batch->columns[col], w->rows[i])) {
            places[stored_count++] = w->places[i];
        } else {
            here[here_count++] = w->rows[i];
        }
    }
    struct lake_builder stored;
    struct lake_column from_batch = { 0 }, from_file;
    lake_builder_init(&stored);
    lake_builder_begin(&stored, &f->type);
    int rc = lake_column_of(st->scratch[field], batch, col, here, here_count, &f->type, &from_batch,
                            err);
    if (rc == 0) {
        rc = ice_old_rows_read(st->old, places, stored_count, f, &stored, err);
    }
    if (rc == 0) {
        lake_builder_column(&stored, &from_file);
        lake_builder_begin(&st->builders[field], &f->type);
        for (uint32_t i = 0, at_here = 0, at_stored = 0; i < n; i++) {
            bool absent = cell_absent(&batch->columns[col], w->rows[i]);
            lake_builder_add(&st->builders[field], absent ? &from_file : &from_batch,
                             absent ? at_stored++ : at_here++);
        }
        lake_builder_column(&st->builders[field], &st->columns[field]);
    }
    lake_builder_release(&stored);
    free(places);
    free(here);
    return rc;
}

static int write_carried_rows(struct ice_stage *st, uint32_t b, struct err *err) {
    struct ice_window *w = st->window;
    const struct batch *batch = st->fold.batches[b];
    uint32_t n = gather(st, b, true);
    if (n == 0) {
        return 0;
    }
    sort_by_place(st, n);
    for (uint32_t i = 0; i < n; i++) {
        if (place_of(st, w->entries[i], &w->places[i], err)) {
            return -1;
        }
    }
    bool *skip = xcalloc(st->schema.field_count, sizeof *skip);
    for (uint32_t i = 0; i < st->schema.field_count; i++) {
        for (uint32_t r = 0; r < n && !skip[i] && st->bind[i] != UINT16_MAX; r++) {
            skip[i] = cell_absent(&batch->columns[st->bind[i]], w->rows[r]);
        }
    }
    int rc = ice_stage_convert(st, batch, w->rows, n, skip, err);
    for (uint32_t i = 0; rc == 0 && i < st->schema.field_count; i++) {
        rc = skip[i] ? splice(st, batch, i, n, err) : 0;
    }
    free(skip);
    return rc ? -1 : write_entries(st, NULL, NULL, n, err);
}

/* The index learns of a key that shares its hash with another: whole keys. */
static int tell_slowly(struct ice_stage *st, uint32_t i, struct err *err) {
    struct ice_window *w = st->window;
    const struct ice_fold_entry *e = &st->fold.entries[i];
    struct buf key, other;
    buf_init(&key, SIZE_MAX);
    buf_init(&other, SIZE_MAX);
    int rc = put_first_key(st, e, &key, err);
    uint64_t answer;
    if (rc == 0 && w->found[i] != KEY_LOC_NONE) {
        rc = key_index_remove_key(st->index, w->first_hash[i], key.data, key.len, err);
    }
    if (rc == 0 && e->batch != ICE_FOLD_NONE) {
        buf_clear(&key);
        rc = put_left_key(st, e, &key, err);
        if (rc == 0) {
            rc = key_index_find(st->index, &w->hash[i], 1, &answer, err);
        }
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

/* A row whose key's hash is another than that which was looked up (1.0 and 1.00 are one key): what
 * the new one meets is looked up too. */
static int notice_new_hashes(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->window;
    for (uint32_t i = 0; i < st->fold.count; i++) {
        if (st->fold.entries[i].batch == ICE_FOLD_NONE || w->hash[i] == w->first_hash[i]) {
            continue;
        }
        uint64_t answer;
        if (key_index_find(st->index, &w->hash[i], 1, &answer, err)) {
            return -1;
        }
        w->slow[i] = w->slow[i] || answer != KEY_LOC_NONE;
    }
    return 0;
}

static int tell_index(struct ice_stage *st, struct err *err) {
    struct ice_window *w = st->window;
    uint32_t gone = 0, put = 0;
    if (notice_new_hashes(st, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < st->fold.count; i++) {
        bool left = st->fold.entries[i].batch != ICE_FOLD_NONE;
        if (!w->slow[i] && w->found[i] != KEY_LOC_NONE &&
            (!left || w->hash[i] != w->first_hash[i])) {
            w->hashes[gone++] = w->first_hash[i];
        }
    }
    if (key_index_remove(st->index, w->hashes, gone, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < st->fold.count; i++) {
        if (!w->slow[i] && st->fold.entries[i].batch != ICE_FOLD_NONE) {
            w->hashes[put] = w->hash[i];
            w->locs[put++] = w->loc[i];
        }
    }
    if (key_index_put(st->index, w->hashes, w->locs, put, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < st->fold.count; i++) {
        if (w->slow[i] && tell_slowly(st, i, err)) {
            return -1;
        }
    }
    st->changes += st->fold.count;
    return 0;
}

int ice_stage_apply(struct ice_stage *st, struct err *err) {
    int rc = 0;
    if (st->fold.count > 0) {
        window_of(st);
        rc = look_up(st, err) || mark_dead(st, err) ? -1 : 0;
        for (uint32_t b = 0; rc == 0 && b < st->fold.batch_count; b++) {
            rc = write_whole_rows(st, b, err) || write_carried_rows(st, b, err) ? -1 : 0;
        }
        if (rc == 0) {
            rc = tell_index(st, err);
        }
    }
    ice_fold_begin(&st->fold);
    return rc;
}

/* Rows that nobody has to look for. */
int ice_stage_append(struct ice_stage *st, const struct batch *batch, struct err *err) {
    if (batch->rows == 0) {
        return 0;
    }
    uint64_t *hashes = xmalloc(batch->rows * sizeof *hashes);
    uint64_t *locs = xmalloc(batch->rows * sizeof *locs);
    int rc = ice_stage_convert(st, batch, NULL, batch->rows, NULL, err);
    if (rc == 0 && st->index) {
        struct ice_window *w = window_of(st);
        ice_stage_key_columns(st, w->keys);
        ice_key_hashes(w->keys, st->key_count, &st->key, hashes);
    }
    if (rc == 0) {
        rc = ice_stage_write(st, batch, NULL, batch->rows, locs, err);
    }
    if (rc == 0 && st->index) {
        rc = key_index_append(st->index, hashes, locs, batch->rows, err);
        st->changes += batch->rows;
    }
    free(locs);
    free(hashes);
    return rc;
}
