/* The key index's life beside its table: found as it was stored, followed to the table's present
 * snapshot, or built from the key columns; stored at seals. See ice_stage.h. Memory is bounded by
 * the index's own, whatever the table's size. Thread: the writer's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_stage_internal.h"

enum { PIECE_ROWS = 8192, STORE_CHANGES = 1 << 20 };

static int read_key(void *arg, uint64_t loc, struct buf *out, struct err *err) {
    return ice_stage_read_key(arg, loc, out, err);
}

int ice_stage_read_key(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err) {
    if (ice_stage_settle_file(st, KEY_LOC_FILE(loc), err)) {
        return -1;
    }
    struct ice_place place = { .file = key_index_path(st->index, KEY_LOC_FILE(loc)),
                               .pos = KEY_LOC_POS(loc) };
    struct lake_column *columns = xcalloc(st->key_count, sizeof *columns);
    struct lake_builder *builders = xcalloc(st->key_count, sizeof *builders);
    int rc = 0;
    for (uint32_t k = 0; k < st->key_count; k++) {
        const struct ice_field *f = &st->schema.fields[st->key_fields[k]];
        lake_builder_init(&builders[k]);
        lake_builder_begin(&builders[k], &f->type);
        if (rc == 0) {
            rc = ice_old_rows_read(st->old, &place, 1, f, &builders[k], err);
            lake_builder_column(&builders[k], &columns[k]);
        }
    }
    if (rc == 0) {
        ice_key_put(out, columns, st->key_count, 0);
    }
    for (uint32_t k = 0; k < st->key_count; k++) {
        lake_builder_release(&builders[k]);
    }
    free(builders);
    free(columns);
    return rc;
}

/* The key columns of one data file, piece by piece. */
struct key_reader {
    struct ice_parquet parquet;
    struct parquet_cursor **cursors;
    struct lake_builder *builders; /* of fields whose type has widened since */
    struct lake_column *columns;
    uint32_t count;
};

static void key_reader_close(struct key_reader *r) {
    for (uint32_t k = 0; k < r->count; k++) {
        parquet_cursor_close(r->cursors[k]);
        lake_builder_release(&r->builders[k]);
    }
    free(r->cursors);
    free(r->builders);
    free(r->columns);
    ice_parquet_close(&r->parquet);
}

static int key_reader_open(struct key_reader *r, struct ice_stage *st, const char *url,
                           struct err *err) {
    *r = (struct key_reader){ .count = st->key_count };
    r->cursors = xcalloc(r->count, sizeof *r->cursors);
    r->builders = xcalloc(r->count, sizeof *r->builders);
    r->columns = xcalloc(r->count, sizeof *r->columns);
    for (uint32_t k = 0; k < r->count; k++) {
        lake_builder_init(&r->builders[k]);
    }
    int rc = ice_parquet_open(&r->parquet, st->config->store, url, err);
    for (uint32_t k = 0; rc == 0 && k < r->count; k++) {
        const struct ice_field *f = &st->schema.fields[st->key_fields[k]];
        int at = parquet_reader_find(r->parquet.reader, f->id, NULL);
        rc = at < 0 ? err_set(err, ERR_FATAL, "parquet_unsupported",
                              "\"%s\" has no column \"%s\", which is part of the key", url, f->name)
                    : parquet_cursor_open(r->parquet.reader, (uint32_t)at, &r->cursors[k], err);
    }
    if (rc) {
        key_reader_close(r);
    }
    return rc;
}

/* r->columns hold the next rows' keys, all the same number of them; 0 = the end. */
static int key_reader_next(struct key_reader *r, struct ice_stage *st, uint32_t *rows,
                           struct err *err) {
    *rows = PIECE_ROWS;
    for (uint32_t k = 0; k < r->count; k++) {
        const struct ice_field *f = &st->schema.fields[st->key_fields[k]];
        lake_builder_begin(&r->builders[k], &f->type);
        uint32_t want = *rows;
        bool direct = false;
        for (uint32_t got = 0; got < want && !direct;) {
            struct lake_column piece;
            if (parquet_cursor_next(r->cursors[k], want - got, &piece, err)) {
                return -1;
            }
            if (piece.valid) {
                return err_set(err, ERR_FATAL, "parquet_unsupported",
                               "column \"%s\", part of the key, has nulls", f->name);
            }
            if (piece.rows == 0) {
                want = got;
            } else if (got == 0 && lake_type_equal(&piece.type, &f->type) &&
                       (k == 0 || piece.rows == want)) {
                r->columns[k] = piece; /* the usual case: as it lies */
                want = piece.rows;
                direct = true;
            } else {
                for (uint32_t i = 0; i < piece.rows; i++) {
                    lake_builder_add(&r->builders[k], &piece, i);
                }
                got += piece.rows;
            }
        }
        if (!direct) {
            lake_builder_column(&r->builders[k], &r->columns[k]);
        }
        if (k > 0 && want != *rows) {
            return err_set(err, ERR_FATAL, "parquet_damaged", "the columns differ in length");
        }
        *rows = want;
    }
    return 0;
}

/* What to do with the keys of a file: those that live are added, those in `dead` and not in
 * `before` are taken out. */
struct file_job {
    const char *url;
    const struct ice_bitmap *dead; /* NULL = none */
    const struct ice_bitmap *before;
    bool remove;
};

static int do_file(struct ice_stage *st, const struct file_job *job, struct err *err) {
    struct key_reader r;
    uint32_t number, rows = 0;
    if (key_index_file(st->index, job->url, &number, err) ||
        key_reader_open(&r, st, job->url, err)) {
        return -1;
    }
    uint64_t *hashes = xmalloc(PIECE_ROWS * sizeof *hashes);
    uint64_t *locs = xmalloc(PIECE_ROWS * sizeof *locs);
    int rc = 0;
    for (uint64_t first = 0; rc == 0; first += rows) {
        rc = key_reader_next(&r, st, &rows, err);
        if (rc || rows == 0) {
            break;
        }
        ice_key_hashes(r.columns, r.count, &st->key, hashes);
        uint32_t n = 0;
        for (uint32_t i = 0; i < rows; i++) {
            bool dead = job->dead && ice_bitmap_has(job->dead, first + i);
            bool wanted = job->remove
                              ? dead && !(job->before && ice_bitmap_has(job->before, first + i))
                              : !dead;
            if (wanted) {
                hashes[n] = hashes[i];
                locs[n++] = key_loc(number, first + i);
            }
        }
        if (n > 0) {
            rc = job->remove ? key_index_remove(st->index, hashes, n, err)
                             : key_index_append(st->index, hashes, locs, n, err);
        }
    }
    free(locs);
    free(hashes);
    key_reader_close(&r);
    return rc;
}

static int add_live_file(struct ice_stage *st, const struct ice_live *live,
                         const struct ice_live_file *f, struct err *err) {
    struct ice_bitmap *dead = ice_bitmap_new();
    int rc = ice_live_dead_rows(live, st->config->store, f, dead, err);
    if (rc == 0) {
        rc = do_file(st, &(struct file_job){ .url = f->path, .dead = dead }, err);
    }
    ice_bitmap_free(dead);
    return rc;
}

static int build(struct ice_stage *st, const struct ice_live *live, struct err *err) {
    void *value;
    for (size_t at = 0; map_next(live->files, &at, NULL, NULL, &value);) {
        if (add_live_file(st, live, value, err)) {
            return -1;
        }
    }
    return 0;
}

static int open_index(struct ice_stage *st, const char *tag, bool *found, struct err *err) {
    struct key_index_config config = { .files = st->config->env->files,
                                       .dir = st->config->index_dir,
                                       .memory_bytes = st->config->index_bytes,
                                       .read_key = read_key,
                                       .read_key_arg = st };
    return key_index_open(&config, tag, found, &st->index, err);
}

static void put_tag(struct buf *out, int64_t snapshot_id) { buf_put_i64(out, snapshot_id); }

int ice_stage_open_index(struct ice_stage *st, const struct ice_metadata *metadata,
                         struct err *err) {
    if (st->key_count == 0) {
        return 0;
    }
    bool found = false;
    const struct ice_snapshot *now =
        metadata ? ice_metadata_snapshot(metadata, metadata->current_snapshot_id) : NULL;
    if (!now) {
        return open_index(st, NULL, &found, err);
    }
    struct buf tag;
    buf_init(&tag, SIZE_MAX);
    put_tag(&tag, now->id);
    int rc = open_index(st, buf_cstr(&tag), &found, err);
    buf_release(&tag);
    if (rc || found) {
        return rc;
    }
    struct ice_live live;
    ice_live_init(&live);
    rc = ice_live_load(&live, st->config->store, metadata, now, err);
    if (rc == 0) {
        rc = build(st, &live, err);
    }
    ice_live_release(&live);
    return rc;
}

int ice_stage_store_index(struct ice_stage *st, int64_t snapshot_id, struct err *err) {
    if (!st->index) {
        return 0;
    }
    struct buf tag;
    buf_init(&tag, SIZE_MAX);
    put_tag(&tag, snapshot_id);
    bool whole = st->changes >= STORE_CHANGES;
    int rc = key_index_checkpoint(st->index, buf_cstr(&tag), whole, err);
    if (whole) {
        st->changes = 0;
    }
    buf_release(&tag);
    return rc;
}
