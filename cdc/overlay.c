/* Folded events of a chunk; see overlay.h. */
#include "cdc/overlay.h"

#include <stdlib.h>

#include "cdc/base/map.h"
#include "cdc/key.h"

#define FOLD_ROWS                                                                                  \
    256u /* rows of a builder: small, since an event may need the row before it sealed */

struct entry {
    uint32_t slot; /* in held; the one that comes next = in the builder */
    uint32_t row;
    bool deleted;
    bool over_base; /* not carried cells are those of the row of S; else nobody has them */
    bool used;      /* was laid over a row of S */
};

struct overlay {
    struct map *entries;
    struct arena arena; /* of the entries */
    struct held held;
    struct batch *open; /* builder of the newest rows */
    struct schema *schema;
    struct txlist *txs; /* of nobody: only batches of the log can say that a cell was not carried */
    uint32_t next_slot; /* the slot that the builder will get */
    bool truncated;
};

struct overlay *overlay_new(const struct spool_ops *ops, void *spool) {
    struct overlay *o = xcalloc(1, sizeof(*o));
    o->entries = map_new();
    arena_init(&o->arena);
    held_init(&o->held, ops, spool);
    o->txs = txlist_new();
    txlist_add(o->txs, &(struct tx){ 0 });
    return o;
}

static void drop_rows(struct overlay *o) {
    batch_unref(o->open);
    o->open = NULL;
    held_release(&o->held);
    o->next_slot = 0;
}

void overlay_free(struct overlay *o) {
    if (!o) {
        return;
    }
    drop_rows(o);
    map_free(o->entries, NULL);
    arena_release(&o->arena);
    schema_unref(o->schema);
    txlist_unref(o->txs);
    free(o);
}

static void close_builder(struct overlay *o) {
    if (o->open) {
        batch_seal(o->open);
        uint32_t slot = held_add(&o->held, o->open);
        CHECK(slot == o->next_slot);
        o->next_slot++;
        o->open = NULL;
    }
}

static const struct batch *row_of(struct overlay *o, const struct entry *e, struct err *err) {
    return o->open && e->slot == o->next_slot ? o->open : held_get(&o->held, e->slot, err);
}

static bool has_absent(const struct batch *b, uint32_t row) {
    for (uint16_t c = 0; c < b->schema->column_count; c++) {
        if (cell_absent(&b->columns[c], row)) {
            return true;
        }
    }
    return false;
}

/* Appends `over` with its not carried cells taken from `base` (NULL: none) to dst. */
static void merge_row(struct batch *dst, const struct batch *over, uint32_t over_row,
                      const struct batch *base, uint32_t base_row) {
    for (uint16_t c = 0; c < dst->schema->column_count; c++) {
        if (base && cell_absent(&over->columns[c], over_row)) {
            batch_put_cell(dst, c, base, base_row);
        } else {
            batch_put_cell(dst, c, over, over_row);
        }
    }
    batch_row_done(dst, ROW_INSERT, 0, 0);
}

static struct entry *entry_for(struct overlay *o, const void *key, size_t key_len, bool *existed) {
    struct entry *e = map_get(o->entries, key, key_len);
    *existed = e != NULL;
    if (!e) {
        e = arena_zalloc(&o->arena, sizeof(*e));
        map_set(o->entries, key, key_len, e);
    }
    return e;
}

int overlay_put(struct overlay *o, const void *key, size_t key_len, const struct batch *src,
                uint32_t row, struct err *err) {
    if (!o->schema) {
        o->schema = schema_ref(src->schema);
    }
    CHECK(schema_same_rows(o->schema, src->schema));
    bool existed;
    struct entry *e = entry_for(o, key, key_len, &existed);
    bool merge = existed && !e->deleted && has_absent(src, row);
    bool from_builder = merge && e->slot == o->next_slot;
    if (o->open && (from_builder || batch_full(o->open))) {
        close_builder(o); /* a row is never merged from the builder it goes to */
    }
    const struct batch *base = NULL;
    if (merge) {
        base = row_of(o, e, err);
        if (!base) {
            return -1;
        }
    }
    if (!o->open) {
        o->open = batch_new(o->schema, FOLD_ROWS, o->txs);
    }
    merge_row(o->open, src, row, base, merge ? e->row : 0);
    if (!existed) {
        e->over_base = !o->truncated;
    } else if (e->deleted) {
        e->over_base = false;
    }
    e->deleted = false;
    e->slot = o->next_slot;
    e->row = o->open->rows - 1;
    return 0;
}

void overlay_delete(struct overlay *o, const void *key, size_t key_len) {
    bool existed;
    struct entry *e = entry_for(o, key, key_len, &existed);
    e->deleted = true;
    e->over_base = false;
}

void overlay_truncate(struct overlay *o) {
    map_clear(o->entries, NULL);
    drop_rows(o);
    o->truncated = true;
}

void overlay_cut(struct overlay *o, const struct buf *hi) {
    const void *key;
    size_t len;
    for (size_t at = 0; map_next(o->entries, &at, &key, &len, NULL);) {
        if (key_cmp(key, len, hi->data, hi->len) >= 0) {
            map_remove(o->entries, key, len);
        }
    }
}

bool overlay_empty(const struct overlay *o) { return map_count(o->entries) == 0 && !o->truncated; }
struct schema *overlay_schema(const struct overlay *o) {
    return o->schema;
}

size_t overlay_bytes(const struct overlay *o) {
    return o->held.bytes + (o->open ? batch_memory(o->open) : 0) + map_bytes(o->entries) +
           o->arena.held;
}

int overlay_spill(struct overlay *o, struct err *err) {
    close_builder(o);
    return held_spill(&o->held, err);
}

/* One entry over the row of S (base, or NULL): into `extra`, or a hole. */
static int lay(struct overlay *o, struct entry *e, const void *key, size_t key_len,
               const struct batch *base, uint32_t base_row, struct batch **extra,
               const struct overlay_out *out, struct err *err) {
    const struct batch *b = row_of(o, e, err);
    if (!b) {
        return -1;
    }
    const struct batch *under = e->over_base ? base : NULL;
    if (!under && has_absent(b, e->row)) {
        out->hole(out->arg, key, key_len);
        return 0;
    }
    if (*extra && batch_full(*extra)) {
        batch_seal(*extra);
        out->rows(out->arg, *extra);
        *extra = NULL;
    }
    if (!*extra) {
        *extra = batch_new(o->schema, FOLD_ROWS, NULL);
    }
    merge_row(*extra, b, e->row, under, base_row);
    return 0;
}

static void give(struct batch *extra, const struct overlay_out *out) {
    if (extra) {
        batch_seal(extra);
        out->rows(out->arg, extra);
    }
}

int overlay_apply(struct overlay *o, struct batch *take_rows, const struct overlay_out *out,
                  struct err *err) {
    if (overlay_empty(o)) {
        out->rows(out->arg, take_rows);
        return 0;
    }
    struct batch *extra = NULL;
    struct buf key;
    buf_init(&key, SIZE_MAX);
    uint8_t *keep = xcalloc(1, take_rows->rows / 8 + 1);
    int rc = 0;
    uint32_t kept = 0;
    for (uint32_t r = 0; r < take_rows->rows && rc == 0; r++) {
        buf_clear(&key);
        struct entry *e = NULL;
        if (key_put(&key, take_rows, r) == 0) {
            e = map_get(o->entries, key.data, key.len);
        }
        if (e) {
            e->used = true;
            if (!e->deleted) {
                rc = lay(o, e, key.data, key.len, take_rows, r, &extra, out, err);
            }
        } else if (!o->truncated) {
            bit_set(keep, r);
            kept++;
        }
    }
    if (rc == 0 && kept == take_rows->rows) {
        out->rows(out->arg, take_rows);
        take_rows = NULL;
    } else if (rc == 0 && kept > 0) {
        out->rows(out->arg, batch_select(take_rows, keep));
    }
    if (rc == 0) {
        give(extra, out);
    } else {
        batch_unref(extra);
    }
    batch_unref(take_rows);
    free(keep);
    buf_release(&key);
    return rc;
}

int overlay_finish(struct overlay *o, const struct overlay_out *out, struct err *err) {
    struct batch *extra = NULL;
    const void *key;
    size_t len;
    void *value;
    for (size_t at = 0; map_next(o->entries, &at, &key, &len, &value);) {
        struct entry *e = value;
        if (e->used || e->deleted) {
            continue;
        }
        if (lay(o, e, key, len, NULL, 0, &extra, out, err)) {
            batch_unref(extra);
            return -1;
        }
        e->used = true;
    }
    give(extra, out);
    return 0;
}
