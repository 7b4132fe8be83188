/* Writing the memory tier out as a run, and merging runs. Only runs that are neighbours in age
 * merge, so that "newer" stays an order of runs. They merge when four of like size (within four
 * times) stand together: each entry is then written some log4(keys / memory tier) times in all, and
 * few runs are left for a find to ask. While nothing but appending happens nobody asks, and they
 * pile up to RUNS_HIGH first: a bulk load is written about twice.
 *
 * What happens to the entries of one hash, newest first: a put or a tomb ends them; an appended one
 * that meets a tomb becomes a put; one that meets another living one stays beside it, and the hash
 * is noted as a doubt, which key_index_resolve settles by reading keys (at the next checkpoint,
 * when all files can be read, or when it is asked for). Where the oldest run takes part nothing
 * older can live: the last appended one becomes a put and a tomb goes.
 *
 * A file that the manifest on disk names stays until the next manifest is in its place.
 * Thread: the index's owner. */
#include <inttypes.h>
#include <stdlib.h>

#include "sinks/iceberg/key_index_internal.h"

enum { RUNS_HIGH = 16, RUNS_STOP = 2 * RUNS_HIGH, ALIKE = 4, SMALL_RUN_CLASS = 7 };

/* ---- what stays of the entries of one hash ---- */

struct emit {
    struct key_index *ix;
    struct key_writer *writer;
    bool bottom; /* nothing older lies below */
    bool open;   /* pending is one */
    struct key_entry pending;
};

static int emit_pending(struct emit *e, struct err *err) {
    uint64_t value = e->pending.value;
    e->open = false;
    if (e->bottom) {
        if (value == VALUE_TOMB) {
            return 0;
        }
        value &= ~VALUE_APPENDED;
    }
    return key_writer_add(e->writer, e->pending.hash, value, err);
}

static void note_doubt(struct key_index *ix, uint64_t hash) {
    if (ix->doubts.count < KEY_DOUBTS_MAX) { /* others are settled when they are asked for */
        key_numbers_add(&ix->doubts, hash);
    }
}

/* Entries come by hash, then newest first. */
static int emit(struct emit *e, uint64_t hash, uint64_t value, struct err *err) {
    if (e->open && e->pending.hash != hash && emit_pending(e, err)) {
        return -1;
    }
    value = key_index_alive(e->ix, value);
    if (UNLIKELY(!value)) {
        return 0;
    }
    if (LIKELY(!e->open)) {
        e->pending = (struct key_entry){ hash, value };
        e->open = true;
        return 0;
    }
    if (!(e->pending.value & VALUE_APPENDED)) {
        return 0; /* it replaced what is older */
    }
    if (value == VALUE_TOMB || key_value_loc(value) == key_value_loc(e->pending.value)) {
        e->pending.value &= value & VALUE_APPENDED ? UINT64_MAX : ~VALUE_APPENDED;
        return 0;
    }
    note_doubt(e->ix, hash);
    uint64_t newer = e->pending.value;
    e->pending.value = value;
    return key_writer_add(e->writer, hash, newer, err);
}

/* ---- files of runs ---- */

char *key_index_run_path(const char *dir, uint64_t number) {
    return xasprintf("%s/run-%016" PRIx64 ".kix", dir, number);
}

enum files_result key_index_load(struct files *files, const char *dir, uint64_t number,
                                 struct key_run **out, struct err *err) {
    char *path = key_index_run_path(dir, number);
    struct file *file = NULL;
    enum files_result result = files_open_read(files, path, &file, err);
    free(path);
    if (result != FILES_OK) {
        return result;
    }
    uint64_t len = 0;
    const void *bytes = NULL;
    if (file_size(file, &len, err)) {
        result = FILES_FAILED;
    } else if (len < KEY_FOOTER_BYTES) {
        result = FILES_ABSENT;
    } else if (file_map(file, len, &bytes, err)) {
        result = FILES_FAILED;
    }
    file_close(file);
    if (result != FILES_OK) {
        return result;
    }
    struct key_run *run = xmalloc(sizeof *run);
    if (key_run_open(run, bytes, len)) {
        files_unmap(files, bytes, len);
        free(run);
        return FILES_ABSENT;
    }
    run->number = number;
    *out = run;
    return FILES_OK;
}

void key_index_unload(struct key_index *ix, struct key_run *run) {
    files_unmap(ix->config.files, run->bytes, run->len);
    key_run_release(run);
    free(run);
}

static void unlink_run(struct key_index *ix, uint64_t number) {
    struct err ignored = ERR_INIT;
    char *path = key_index_run_path(ix->dir, number);
    if (files_unlink(ix->config.files, path, &ignored) == FILES_FAILED) {
        err_clear(&ignored); /* an orphan: the next open removes it */
    }
    free(path);
}

void key_index_discard(struct key_index *ix, struct key_run *run) {
    uint64_t number = run->number;
    if (run->stored) {
        if (ix->garbage_count == ix->garbage_cap) {
            ix->garbage_cap = ix->garbage_cap ? 2 * ix->garbage_cap : 16;
            ix->garbage = xrealloc(ix->garbage, ix->garbage_cap * sizeof *ix->garbage);
        }
        ix->garbage[ix->garbage_count++] = (struct key_garbage){ number, run->len };
    } else {
        unlink_run(ix, number);
    }
    key_index_unload(ix, run);
}

/* ---- writing one ---- */

/* A run on its way. */
struct output {
    struct file *file;
    struct key_writer *writer;
    uint64_t number;
};

static int output_begin(struct key_index *ix, struct output *o, uint64_t entries,
                        const struct key_shape *bounds, struct err *err) {
    enum files_result result;
    do { /* a name that an earlier life left is passed over */
        o->number = ix->next_run++;
        char *path = key_index_run_path(ix->dir, o->number);
        result = files_create_excl(ix->config.files, path, &o->file, err);
        free(path);
    } while (result == FILES_EXISTS);
    if (result != FILES_OK) {
        return -1;
    }
    o->writer = key_writer_new(o->file, entries, bounds);
    return 0;
}

/* Closes the output. The run, or NULL in *run if nothing is in it. On failure it is gone. */
static int output_end(struct key_index *ix, struct output *o, bool well, struct key_run **run,
                      struct err *err) {
    uint64_t bytes = 0;
    *run = NULL;
    well = well && key_writer_finish(o->writer, &bytes, err) == 0;
    uint64_t entries = key_writer_entries(o->writer);
    key_writer_free(o->writer);
    file_close(o->file);
    if (well && entries) {
        switch (key_index_load(ix->config.files, ix->dir, o->number, run, err)) {
        case FILES_OK:
            CHECK((*run)->shape.entries == entries && (*run)->len == bytes);
            return 0;
        case FILES_FAILED:
            well = false;
            break;
        default:
            well = false;
            key_index_damaged(ix, err);
        }
    }
    unlink_run(ix, o->number);
    return well ? 0 : -1;
}

static void bounds_add(struct key_shape *b, uint64_t file_low, uint64_t file_high,
                       uint64_t pos_high) {
    b->file_low = file_low < b->file_low ? file_low : b->file_low;
    b->file_high = file_high > b->file_high ? file_high : b->file_high;
    b->pos_high = pos_high > b->pos_high ? pos_high : b->pos_high;
}

static struct key_shape table_bounds(const struct key_table *t) {
    struct key_shape b = { 0 };
    if (t->loc_low <= t->loc_high) {
        b.file_low = KEY_LOC_FILE(t->loc_low);
        b.file_high = KEY_LOC_FILE(t->loc_high);
        b.pos_high = KEY_LOC_POS(t->loc_or); /* as many bits as the highest */
    }
    return b;
}

/* Equal hashes stand oldest first in the table. */
static int emit_table(struct emit *e, const struct key_table *t, struct err *err) {
    for (uint64_t i = 0; i < t->room; i++) {
        const struct key_entry *s = &t->slots[i];
        if (!s->value) {
            continue;
        }
        uint64_t end = i + 1;
        while (UNLIKELY(t->twins) && key_slot_is(&t->slots[end], s->hash)) {
            end++;
        }
        for (uint64_t j = end; j > i; j--) {
            if (emit(e, s->hash, t->slots[j - 1].value, err)) {
                return -1;
            }
        }
        i = end - 1;
    }
    return e->open ? emit_pending(e, err) : 0;
}

int key_index_spill(struct key_index *ix, struct err *err) {
    struct output o = { 0 };
    struct key_run *run;
    CHECK(ix->table.count);
    if (ix->run_count >= RUNS_STOP && key_index_merge_some(ix, false, err)) {
        return -1; /* merging failed before: no further runs until it works */
    }
    CHECK(ix->run_count < RUNS_STOP);
    struct key_shape bounds = table_bounds(&ix->table);
    if (output_begin(ix, &o, ix->table.count, &bounds, err)) {
        return -1;
    }
    struct emit e = { .ix = ix, .writer = o.writer, .bottom = ix->run_count == 0 };
    bool well = emit_table(&e, &ix->table, err) == 0;
    if (output_end(ix, &o, well, &run, err)) {
        return -1;
    }
    if (run) {
        for (uint32_t i = ix->run_count; i > 0; i--) {
            ix->runs[i] = ix->runs[i - 1];
        }
        ix->runs[0] = run;
        ix->run_count++;
    }
    ix->unstored = true;
    key_table_clear(&ix->table);
    return 0;
}

/* ---- merging ---- */

/* Cursors that have not ended, newest first, and the hash that each stands at. */
struct heads {
    struct key_cursor *at[KEY_RUNS_MAX];
    uint64_t hashes[KEY_RUNS_MAX];
    uint32_t count;
};

/* Reads on where a cursor's entries are used up; at the end it falls out. */
static TR_MUST_CHECK int heads_fill(struct heads *h, uint32_t i) {
    struct key_cursor *c = h->at[i];
    if (key_cursor_fill(c)) {
        return -1;
    }
    if (c->count) {
        h->hashes[i] = c->entries[0].hash;
        return 0;
    }
    for (h->count--; i < h->count; i++) {
        h->at[i] = h->at[i + 1];
        h->hashes[i] = h->hashes[i + 1];
    }
    return 0;
}

/* Of equal hashes the newest comes first. */
static int emit_runs(struct emit *e, struct heads *h, struct err *err) {
    while (h->count) {
        uint32_t least = 0;
        uint64_t hash = h->hashes[0];
        for (uint32_t i = 1; i < h->count; i++) {
            least = h->hashes[i] < hash ? i : least;
            hash = h->hashes[i] < hash ? h->hashes[i] : hash;
        }
        struct key_cursor *c = h->at[least];
        if (emit(e, hash, c->entries[c->at++].value, err)) {
            return -1;
        }
        if (LIKELY(c->at < c->count)) {
            h->hashes[least] = c->entries[c->at].hash;
        } else if (heads_fill(h, least)) {
            return key_index_damaged(e->ix, err);
        }
    }
    return e->open ? emit_pending(e, err) : 0;
}

static int emit_newest(struct emit *e, uint32_t count, struct err *err) {
    struct key_cursor *cursors = xmalloc(count * sizeof *cursors);
    struct heads h = { .count = count };
    int result = 0;
    for (uint32_t i = 0; i < count; i++) {
        key_cursor_init(&cursors[i], e->ix->runs[i]);
        h.at[i] = &cursors[i];
    }
    for (uint32_t i = count; i > 0 && result == 0; i--) { /* one that falls out moves later ones */
        if (heads_fill(&h, i - 1)) {
            result = key_index_damaged(e->ix, err);
        }
    }
    result = result ? result : emit_runs(e, &h, err);
    free(cursors);
    return result;
}

int key_index_merge_newest(struct key_index *ix, uint32_t count, struct err *err) {
    struct output o = { 0 };
    struct key_run *run;
    struct key_shape bounds = { .file_low = UINT64_MAX };
    uint64_t entries = 0;
    CHECK(count >= 1 && count <= ix->run_count);
    for (uint32_t i = 0; i < count; i++) {
        const struct key_shape *s = &ix->runs[i]->shape;
        bounds_add(&bounds, s->file_low, s->file_high, s->pos_high);
        entries += s->entries;
    }
    if (output_begin(ix, &o, entries, &bounds, err)) {
        return -1;
    }
    struct emit e = { .ix = ix, .writer = o.writer, .bottom = count == ix->run_count };
    bool well = emit_newest(&e, count, err) == 0;
    if (output_end(ix, &o, well, &run, err)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        key_index_discard(ix, ix->runs[i]);
    }
    uint32_t made = run != NULL;
    for (uint32_t i = count; i < ix->run_count; i++) {
        ix->runs[i - count + made] = ix->runs[i];
    }
    if (run) {
        ix->runs[0] = run;
    }
    ix->run_count -= count - made;
    ix->unstored = true;
    if (e.bottom) {
        ix->dropped_count = 0; /* no run knows of them any more */
    }
    return 0;
}

/* Sizes within four times of another. */
static unsigned class_of(const struct key_run *run) {
    unsigned log4 = (unsigned)(64 - __builtin_clzll(run->shape.entries | 1)) / 2;
    return log4 < SMALL_RUN_CLASS ? SMALL_RUN_CLASS : log4;
}

/* How many of the newest should merge; 0 = none. */
static uint32_t pick(const struct key_index *ix) {
    for (uint32_t n = ix->run_count; n >= ALIKE; n--) {
        unsigned class = class_of(ix->runs[n - 1]);
        uint32_t alike = 0;
        for (uint32_t i = 0; i < n; i++) {
            alike += class_of(ix->runs[i]) >= class;
        }
        if (alike >= ALIKE) {
            return n;
        }
    }
    return ix->run_count > RUNS_HIGH ? ix->run_count / 2 + 1 : 0;
}

int key_index_merge_some(struct key_index *ix, bool bulk, struct err *err) {
    uint32_t n;
    if (bulk && ix->run_count < RUNS_HIGH) {
        ix->piled = true;
        return 0;
    }
    while ((n = pick(ix)) > 0) {
        if (key_index_merge_newest(ix, n, err)) {
            return -1;
        }
    }
    ix->piled = false;
    return 0;
}
