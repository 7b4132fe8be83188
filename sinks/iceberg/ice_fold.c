/* Changes folded by key. See ice_fold.h. */
#include "sinks/iceberg/ice_fold.h"

#include <stdlib.h>

#include "cdc/base/map.h"

enum { SLOTS = 4 * ICE_FOLD_CHANGES_MAX }; /* an update that moves makes two entries */

void ice_fold_init(struct ice_fold *f) {
    *f = (struct ice_fold){ .slot_count = SLOTS };
    buf_init(&f->keys, SIZE_MAX);
    buf_init(&f->key, SIZE_MAX);
    f->slots = xcalloc(SLOTS, sizeof *f->slots);
    f->entries = xcalloc(2 * (size_t)ICE_FOLD_CHANGES_MAX, sizeof *f->entries);
}

void ice_fold_release(struct ice_fold *f) {
    batch_unref(f->filled);
    buf_release(&f->keys);
    buf_release(&f->key);
    free(f->slots);
    free(f->entries);
    free(f->batches);
    *f = (struct ice_fold){ 0 };
}

/* Small windows do not pay for all slots. An entry's slot lies in the run that begins at its home,
 * which has no hole while all of its entries are cleared in any order from the home on. */
static void forget_few(struct ice_fold *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t slot = (uint32_t)f->entries[i].hash & (f->slot_count - 1);
        while (f->slots[slot]) {
            f->slots[slot] = 0;
            slot = (slot + 1) & (f->slot_count - 1);
        }
    }
}

void ice_fold_begin(struct ice_fold *f) {
    buf_clear(&f->keys);
    if (f->count > f->slot_count / 16) {
        memset(f->slots, 0, f->slot_count * sizeof *f->slots);
    } else {
        forget_few(f);
    }
    batch_unref(f->filled);
    f->filled = NULL;
    f->filled_bytes = 0;
    f->count = f->changes = f->batch_count = 0;
}

static uint32_t batch_number(struct ice_fold *f, struct batch *batch) {
    for (uint32_t i = f->batch_count; i > 0; i--) { /* the newest is nearly always it */
        if (f->batches[i - 1] == batch) {
            return i - 1;
        }
    }
    if (f->batch_count == f->batch_cap) {
        f->batch_cap = f->batch_cap ? 2 * f->batch_cap : 8;
        f->batches = xrealloc(f->batches, f->batch_cap * sizeof *f->batches);
    }
    f->batches[f->batch_count] = batch;
    return f->batch_count++;
}

/* The key's entry, made where it is new: then *made. */
static struct ice_fold_entry *entry_of(struct ice_fold *f, struct batch *batch, uint32_t row,
                                       bool *made, struct err *err) {
    buf_clear(&f->key);
    if (key_put(&f->key, batch, row)) {
        err_set(err, ERR_FATAL, "key_missing",
                "table \"%s\": a change came without the value of its key", batch->schema->label);
        return NULL;
    }
    uint64_t hash = hash_bytes(f->key.data, f->key.len, 0);
    for (uint32_t slot = (uint32_t)hash & (f->slot_count - 1);;
         slot = (slot + 1) & (f->slot_count - 1)) {
        if (f->slots[slot] == 0) {
            struct ice_fold_entry *e = &f->entries[f->count++];
            *e = (struct ice_fold_entry){ .hash = hash,
                                          .key_at = f->keys.len,
                                          .key_len = f->key.len,
                                          .first_batch = batch_number(f, batch),
                                          .first_row = row,
                                          .batch = ICE_FOLD_NONE,
                                          .carry = ICE_FOLD_NONE };
            buf_put(&f->keys, f->key.data, f->key.len);
            f->slots[slot] = f->count;
            *made = true;
            return e;
        }
        struct ice_fold_entry *e = &f->entries[f->slots[slot] - 1];
        if (e->hash == hash && e->key_len == f->key.len &&
            memcmp(f->keys.data + e->key_at, f->key.data, f->key.len) == 0) {
            *made = false;
            return e;
        }
    }
}

static bool row_lacks_cells(const struct batch *batch, uint32_t row) {
    for (uint16_t c = 0; c < batch->schema->column_count; c++) {
        if (cell_absent(&batch->columns[c], row)) {
            return true;
        }
    }
    return false;
}

/* A copy of the row whose missing cells come from `before`'s row in the window; what that one has
 * not either is still missing. */
static void fill_row(struct ice_fold *f, struct batch *batch, uint32_t row,
                     const struct ice_fold_entry *before, struct ice_fold_entry *to) {
    if (!f->filled) {
        struct txlist *txs = txlist_new();
        f->filled = batch_new(batch->schema, ICE_FOLD_CHANGES_MAX, txs);
        txlist_unref(txs);
    }
    const struct batch *from = f->batches[before->batch];
    uint32_t from_row = before->row;
    for (uint16_t c = 0; c < batch->schema->column_count; c++) {
        bool lacks = cell_absent(&batch->columns[c], row);
        const struct batch *have = lacks ? from : batch;
        uint32_t have_row = lacks ? from_row : row;
        size_t len = 0;
        if (!cell_null(&have->columns[c], have_row)) {
            (void)cell_bytes(&have->columns[c], have_row, &len);
        }
        f->filled_bytes += len;
        batch_put_cell(f->filled, c, have, have_row);
    }
    uint32_t tx = txlist_add(f->filled->txs, &batch->txs->at[batch->tx[row]]);
    batch_row_done(f->filled, row_kind_of(batch, row), tx, batch->n[row]);
    to->batch = batch_number(f, f->filled);
    to->row = f->filled->rows - 1;
}

int ice_cure_read_again(const char *label, struct err *err) {
    return err_cure(err,
                    "have the table read again: run the job once with the line `%s: skip`, then "
                    "without it",
                    label);
}

/* The row is what is left of entry e. before: the entry under whose key it was until now; the same,
 * or another where the key changed. */
static int leave_row(struct ice_fold *f, struct ice_fold_entry *e,
                     const struct ice_fold_entry *before, struct batch *batch, uint32_t row,
                     struct err *err) {
    uint32_t carry = ICE_FOLD_NONE;
    if (!row_lacks_cells(batch, row)) {
        e->batch = batch_number(f, batch);
        e->row = row;
    } else if (before->batch != ICE_FOLD_NONE) { /* its row before is in the window */
        carry = before->carry;
        fill_row(f, batch, row, before, e);
        carry = row_lacks_cells(f->filled, e->row) ? carry : ICE_FOLD_NONE;
    } else if (before->gone || before->was == ICE_WAS_ABSENT) {
        err_set(err, ERR_FATAL, "row_absent",
                "table \"%s\": an update leaves columns out because they did not change, and the "
                "row was deleted before it",
                batch->schema->label);
        return ice_cure_read_again(batch->schema->label, err);
    } else {
        e->batch = batch_number(f, batch);
        e->row = row;
        carry = (uint32_t)(before - f->entries);
    }
    e->carry = carry;
    e->deleted = false;
    return 0;
}

/* Nothing is left of it; where deletes are soft, the deleted row. */
static int leave_none(struct ice_fold *f, struct ice_fold_entry *e, struct batch *batch,
                      uint32_t row, struct err *err) {
    if (f->soft && !e->gone) {
        bool failed = leave_row(f, e, e, batch, row, err);
        e->deleted = true;
        return failed ? -1 : 0;
    }
    e->batch = e->carry = ICE_FOLD_NONE;
    e->gone = true;
    return 0;
}

int ice_fold_row(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err) {
    bool made;
    f->changes++;
    struct ice_fold_entry *e = entry_of(f, batch, row, &made, err);
    if (!e) {
        return -1;
    }
    if (made) {
        e->was = ICE_WAS_ANY;
    }
    return leave_row(f, e, e, batch, row, err);
}

int ice_fold_remove(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err) {
    bool made;
    f->changes++;
    struct ice_fold_entry *e = entry_of(f, batch, row, &made, err);
    if (!e) {
        return -1;
    }
    if (made) {
        e->was = ICE_WAS_ANY;
    }
    e->batch = e->carry = ICE_FOLD_NONE;
    e->gone = true;
    return 0;
}

int ice_fold_refuse_live(const char *label, struct err *err) {
    err_set(err, ERR_FATAL, "insert_of_live_key",
            "table \"%s\": the log inserts a key that is in the lake already: a row was deleted or "
            "moved without the log saying so (a cascade that the log does not carry, a session in "
            "replica mode), or somebody else wrote to the table",
            label);
    return ice_cure_read_again(label, err);
}

/* The row is new under its key. */
static int put_new(struct ice_fold *f, struct ice_fold_entry *e, bool made, struct batch *batch,
                   struct err *err) {
    if (made) {
        e->was = f->over ? ICE_WAS_ANY : ICE_WAS_ABSENT;
    } else if (e->batch != ICE_FOLD_NONE && !e->deleted && !f->over) {
        return ice_fold_refuse_live(batch->schema->label, err);
    }
    return 0;
}

static int fold_insert(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err) {
    bool made;
    struct ice_fold_entry *e = entry_of(f, batch, row, &made, err);
    if (!e || put_new(f, e, made, batch, err)) {
        return -1;
    }
    return leave_row(f, e, e, batch, row, err);
}

static struct ice_fold_entry *live_entry(struct ice_fold *f, struct batch *batch, uint32_t row,
                                         struct err *err) {
    bool made;
    struct ice_fold_entry *e = entry_of(f, batch, row, &made, err);
    if (e && made) {
        e->was = ICE_WAS_LIVE;
    }
    return e;
}

static int fold_delete(struct ice_fold *f, struct batch *batch, uint32_t row, struct err *err) {
    struct ice_fold_entry *e = live_entry(f, batch, row, err);
    return e ? leave_none(f, e, batch, row, err) : -1;
}

/* Before- and after-row, whose keys may differ. */
static int fold_update(struct ice_fold *f, struct batch *before, uint32_t before_row,
                       struct batch *after, uint32_t after_row, struct err *err) {
    struct ice_fold_entry *old = live_entry(f, before, before_row, err);
    if (!old) {
        return -1;
    }
    bool made;
    struct ice_fold_entry *e = entry_of(f, after, after_row, &made, err);
    if (!e) {
        return -1;
    }
    if (e == old) {
        return leave_row(f, e, old, after, after_row, err);
    }
    if (put_new(f, e, made, after, err) || leave_row(f, e, old, after, after_row, err)) {
        return -1;
    }
    return leave_none(f, old, before, before_row, err);
}

int ice_fold_change(struct ice_fold *f, const struct stage_item *item,
                    const struct stage_change *change, struct err *err) {
    struct batch *batch = item->batches[change->batch];
    f->changes++;
    switch (change->kind) {
    case ROW_INSERT:
        return fold_insert(f, batch, change->row, err);
    case ROW_DELETE:
        return fold_delete(f, batch, change->row, err);
    case ROW_UPDATE_BEFORE:
        if (!change->paired) { /* the half of a move that leaves the target: a delete */
            return fold_delete(f, batch, change->row, err);
        }
        return fold_update(f, batch, change->row, item->batches[change->after_batch],
                           change->after_row, err);
    case ROW_UPDATE_AFTER: /* alone: its key did not change */
        return fold_update(f, batch, change->row, batch, change->row, err);
    case ROW_TRUNCATE:
        break;
    }
    CHECK(!"a truncate is no change of a row");
    return -1;
}
