/* The keys (or, of tables without, the images) of one data file, in bulk, into the index or out of
 * it. Memory: a piece of rows, whatever the file's size. Thread: the writer's. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_default.h"
#include "sinks/iceberg/ice_stage_internal.h"

enum { PIECE_ROWS = 8192 };

/* Fields of one data file, piece by piece. */
struct scanner {
    struct ice_stage *st;
    const char *url;
    struct ice_parquet parquet;
    uint32_t count;
    uint32_t *fields;                /* of the schema */
    struct parquet_cursor **cursors; /* NULL: the file has no such field */
    struct ice_default *defaults;    /* ... whose cells are these then */
    struct lake_builder *builders;   /* where a piece is not as the file has it */
    struct lake_column *columns;
    uint64_t left;      /* rows of the file */
    bool nulls;         /* allowed */
    uint32_t marks;     /* soft deletes of a keyless table: index of the mark; UINT32_MAX = none */
    struct map *passed; /* of ice_stage_images_move */
};

static void scanner_close(struct scanner *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        parquet_cursor_close(s->cursors[i]);
        lake_builder_release(&s->builders[i]);
        ice_default_release(&s->defaults[i]);
    }
    free(s->defaults);
    free(s->fields);
    free(s->cursors);
    free(s->builders);
    free(s->columns);
    map_free(s->passed, NULL);
    ice_parquet_close(&s->parquet);
}

static void choose_fields(struct scanner *s) {
    const struct ice_stage *st = s->st;
    bool keyless = st->key_count == 0;
    const uint32_t *from = keyless ? st->image_fields : st->key_fields;
    s->nulls = keyless;
    s->count = keyless ? st->image_count : st->key_count;
    s->fields = xcalloc(s->count + 2, sizeof *s->fields);
    memcpy(s->fields, from, s->count * sizeof *from);
    int mark = ice_schema_find(&st->schema, ice_extra_name(ICE_EXTRA_DELETED));
    s->marks = UINT32_MAX;
    if (keyless && mark >= 0) {
        s->marks = s->count;
        s->fields[s->count++] = (uint32_t)mark;
    }
    s->cursors = xcalloc(s->count + 1, sizeof *s->cursors);
    s->defaults = xcalloc(s->count + 1, sizeof *s->defaults);
    s->builders = xcalloc(s->count + 1, sizeof *s->builders);
    s->columns = xcalloc(s->count + 1, sizeof *s->columns);
    for (uint32_t i = 0; i < s->count; i++) {
        lake_builder_init(&s->builders[i]);
    }
}

static int open_cursor(struct scanner *s, uint32_t i, struct err *err) {
    const struct ice_field *f = &s->st->schema.fields[s->fields[i]];
    int at = parquet_reader_find(s->parquet.reader, f->id, NULL);
    if (at < 0) {
        if (ice_default_init(&s->defaults[i], f, err)) {
            return -1;
        }
        return s->nulls || s->defaults[i].there
                   ? 0
                   : err_set(err, ERR_FATAL, "key_absent",
                             "\"%s\" has no column \"%s\", which is part of the key", s->url,
                             f->name);
    }
    const struct lake_type *type = &parquet_reader_field(s->parquet.reader, (uint32_t)at)->type;
    if (!lake_type_equal(type, &f->type) && !lake_type_widens(type, &f->type)) {
        return err_set(err, ERR_FATAL, "parquet_unsupported",
                       "\"%s\": column \"%s\" has a type that the table's does not come from",
                       s->url, f->name);
    }
    return parquet_cursor_open(s->parquet.reader, (uint32_t)at, &s->cursors[i], err);
}

static int scanner_open(struct scanner *s, struct ice_stage *st, const char *url, struct err *err) {
    *s = (struct scanner){ .st = st, .url = url };
    choose_fields(s);
    int rc = ice_parquet_open(&s->parquet, st->config->store, url, err);
    for (uint32_t i = 0; rc == 0 && i < s->count; i++) {
        rc = open_cursor(s, i, err);
    }
    if (rc) {
        scanner_close(s);
        return -1;
    }
    s->left = parquet_reader_rows(s->parquet.reader);
    return 0;
}

/* The next `want` rows of one field. */
static int take_field(struct scanner *s, uint32_t i, uint32_t want, struct err *err) {
    const struct ice_field *f = &s->st->schema.fields[s->fields[i]];
    struct lake_builder *b = &s->builders[i];
    lake_builder_begin(b, &f->type);
    while (b->rows < want) {
        struct lake_column piece;
        if (!s->cursors[i]) {
            ice_default_add(&s->defaults[i], b);
            continue;
        }
        if (parquet_cursor_next(s->cursors[i], want - b->rows, &piece, err)) {
            return -1;
        }
        if (piece.rows == 0) {
            return err_set(err, ERR_FATAL, "parquet_damaged",
                           "\"%s\": column \"%s\" ends before the file", s->url, f->name);
        }
        if (piece.valid && !s->nulls) {
            return err_set(err, ERR_FATAL, "parquet_unsupported",
                           "\"%s\": column \"%s\", part of the key, has nulls", s->url, f->name);
        }
        if (piece.rows == want && lake_type_equal(&piece.type, &f->type)) {
            s->columns[i] = piece; /* the usual case: as it lies */
            return 0;
        }
        for (uint32_t r = 0; r < piece.rows; r++) {
            lake_builder_add(b, &piece, r);
        }
    }
    lake_builder_column(b, &s->columns[i]);
    return 0;
}

/* s->columns hold the next rows; *rows 0 = the end. */
static int scanner_next(struct scanner *s, uint32_t *rows, struct err *err) {
    *rows = s->left < PIECE_ROWS ? (uint32_t)s->left : PIECE_ROWS;
    for (uint32_t i = 0; *rows && i < s->count; i++) {
        if (take_field(s, i, *rows, err)) {
            return -1;
        }
    }
    s->left -= *rows;
    return 0;
}

static void hash_piece(struct scanner *s, uint32_t rows, uint64_t *hashes) {
    struct ice_stage *st = s->st;
    struct buf *scratch = &st->tools->key;
    if (st->key_count > 0) {
        ice_key_hashes(s->columns, st->key_forms, st->key_count, st->hash_mask, scratch, hashes);
        return;
    }
    for (uint32_t r = 0; r < rows; r++) {
        buf_clear(scratch);
        ice_stage_put_image(st, s->columns, r, scratch);
        hashes[r] = ice_key_hash(scratch->data, scratch->len, st->hash_mask);
    }
}

static bool is_marked(const struct scanner *s, uint32_t row) {
    if (s->marks == UINT32_MAX) {
        return false;
    }
    const struct lake_column *c = &s->columns[s->marks];
    return (!c->valid || bit_get(c->valid, row)) && c->data[row];
}

/* Takes keys out one by one: a hash may be another key's, too. */
static int remove_key(struct scanner *s, uint32_t row, uint64_t hash, uint64_t loc,
                      struct err *err) {
    struct ice_stage *st = s->st;
    if (st->key_count == 0) {
        return ice_stage_image_remove(st, hash, loc, err);
    }
    struct buf *key = &st->tools->key;
    uint64_t now = KEY_LOC_NONE;
    buf_clear(key);
    ice_key_put(key, s->columns, st->key_forms, st->key_count, row);
    if (key_index_find(st->index, &hash, 1, &now, err)) {
        return -1;
    }
    if (now == KEY_LOC_ASK) {
        return key_index_remove_key(st->index, hash, key->data, key->len, err);
    }
    return now == loc ? key_index_remove(st->index, &hash, 1, err) : 0;
}

/* A row whose hash is another key's, too. */
static int move_key(struct scanner *s, uint32_t row, uint64_t hash, uint32_t from, uint64_t loc,
                    struct err *err) {
    struct ice_stage *st = s->st;
    struct buf *key = &st->tools->key;
    uint64_t now = KEY_LOC_NONE;
    buf_clear(key);
    ice_key_put(key, s->columns, st->key_forms, st->key_count, row);
    if (key_index_find_key(st->index, hash, key->data, key->len, &now, err)) {
        return -1;
    }
    return KEY_LOC_FILE(now) == from
               ? key_index_put_key(st->index, hash, key->data, key->len, loc, err)
               : 0;
}

/* What the index says of a key's row in the other file it says of this one from here on. */
static int move_piece(struct scanner *s, const struct ice_scan *scan, uint32_t number,
                      uint64_t first, uint32_t rows, uint64_t *hashes, uint64_t *locs,
                      struct err *err) {
    struct ice_stage *st = s->st;
    uint32_t n = 0;
    hash_piece(s, rows, hashes);
    if (st->key_count == 0) {
        for (uint32_t r = 0; r < rows; r++) {
            if (!is_marked(s, r)) {
                hashes[n] = hashes[r];
                locs[n++] = key_loc(number, first + r);
            }
        }
        return ice_stage_images_move(st, hashes, locs, n, scan->from, s->passed, err);
    }
    if (key_index_find(st->index, hashes, rows, locs, err)) {
        return -1;
    }
    for (uint32_t r = 0; r < rows; r++) {
        uint64_t now = locs[r], loc = key_loc(number, first + r);
        if (now == KEY_LOC_ASK && move_key(s, r, hashes[r], scan->from, loc, err)) {
            return -1;
        }
        if (KEY_LOC_FILE(now) == scan->from) {
            hashes[n] = hashes[r];
            locs[n++] = loc;
        }
    }
    return key_index_put(st->index, hashes, locs, n, err);
}

static int scan_piece(struct scanner *s, const struct ice_scan *scan, uint32_t number,
                      uint64_t first, uint32_t rows, uint64_t *hashes, uint64_t *locs,
                      struct err *err) {
    struct ice_stage *st = s->st;
    uint32_t n = 0;
    hash_piece(s, rows, hashes);
    for (uint32_t r = 0; r < rows; r++) {
        uint64_t pos = first + r;
        bool dead = scan->dead && ice_bitmap_has(scan->dead, pos);
        if (scan->what == ICE_SCAN_LIVE) {
            if (!dead && !is_marked(s, r)) {
                hashes[n] = hashes[r];
                locs[n++] = key_loc(number, pos);
            }
        } else if (dead && !is_marked(s, r) &&
                   !(scan->before && ice_bitmap_has(scan->before, pos)) &&
                   remove_key(s, r, hashes[r], key_loc(number, pos), err)) {
            return -1;
        }
    }
    st->changes += n;
    return n == 0               ? 0
           : st->key_count == 0 ? ice_stage_images_add(st, hashes, locs, n, err)
                                : key_index_append(st->index, hashes, locs, n, err);
}

int ice_stage_scan_file(struct ice_stage *st, const struct ice_scan *scan, struct err *err) {
    struct scanner s;
    uint32_t number, rows = 0;
    if (key_index_file(st->index, scan->url, &number, err) ||
        scanner_open(&s, st, scan->url, err)) {
        return -1;
    }
    s.passed = map_new();
    uint64_t *hashes = xmalloc(PIECE_ROWS * sizeof *hashes);
    uint64_t *locs = xmalloc(PIECE_ROWS * sizeof *locs);
    int rc = 0;
    for (uint64_t first = 0; rc == 0; first += rows) {
        rc = scanner_next(&s, &rows, err);
        if (rc || rows == 0) {
            break;
        }
        rc = scan->what == ICE_SCAN_MOVED
                 ? move_piece(&s, scan, number, first, rows, hashes, locs, err)
                 : scan_piece(&s, scan, number, first, rows, hashes, locs, err);
    }
    free(locs);
    free(hashes);
    scanner_close(&s);
    return rc;
}
