/* A commit's dead rows: one delete file a data file, with all of its dead rows, in place of the one
 * before. See ice_prepare.c. */
#include "sinks/iceberg/ice_prepare_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_position_deletes.h"
#include "sinks/iceberg/ice_puffin.h"

static int write_upload(void *arg, const void *p, size_t n, struct err *err) {
    return store_write(arg, p, n, err);
}

/* A v2 delete file. */
static int write_positions(struct preparing *p, const struct ice_bitmap *rows,
                           const char *data_file, struct ice_file *out, struct err *err) {
    char *key = prepare_key(p, "data/deletes", ".parquet");
    struct store_upload *upload = NULL;
    struct parquet_info info = { 0 };
    uint64_t size = 0;
    int rc = store_create(p->context->store, key, &upload, err);
    if (rc == 0) {
        struct parquet_output output = { .write = write_upload, .arg = upload };
        rc = ice_position_deletes_write(rows, data_file, &p->context->parquet, output, &info, err);
        if (rc) {
            store_abort(upload);
        } else {
            rc = store_finish(upload, p->context->folders, &size, err);
        }
    }
    if (rc == 0) {
        char *url = prepare_url(p, key);
        prepare_note_made(p, url);
        struct arena *arena = &p->live.arena;
        *out = (struct ice_file){ .content = ICE_POSITION_DELETES,
                                  .format = ICE_PARQUET,
                                  .path = arena_strdup(arena, url),
                                  .rows = (int64_t)info.rows,
                                  .bytes = (int64_t)size,
                                  .sort_order_id = -1,
                                  .first_row_id = -1,
                                  .referenced = arena_strdup(arena, data_file),
                                  .content_offset = -1,
                                  .content_bytes = -1 };
        out->metrics = arena_zalloc(arena, sizeof *out->metrics);
        out->metric_count = 1; /* the path's bounds, whole: readers that pass over `referenced` see
                                  the file by them */
        out->metrics[0] = (struct ice_metric){ .field_id = ICE_FIELD_FILE_PATH,
                                               .bytes = -1,
                                               .values = -1,
                                               .nulls = -1,
                                               .nans = -1,
                                               .lower = (const uint8_t *)out->referenced,
                                               .upper = (const uint8_t *)out->referenced,
                                               .lower_len = (uint32_t)strlen(out->referenced),
                                               .upper_len = (uint32_t)strlen(out->referenced) };
        free(url);
    }
    parquet_info_release(&info);
    free(key);
    return rc;
}

/* A v3 deletion vector, alone in its Puffin file: it goes when the vector goes, and no reader can
 * take one blob for another. */
static int write_vector(struct preparing *p, struct ice_bitmap *rows, const char *data_file,
                        struct ice_file *out, struct err *err) {
    struct buf bytes;
    struct arena *arena = &p->live.arena;
    *out = (struct ice_file){ .content = ICE_POSITION_DELETES,
                              .format = ICE_PUFFIN,
                              .rows = (int64_t)ice_bitmap_count(rows),
                              .sort_order_id = -1,
                              .first_row_id = -1,
                              .referenced = arena_strdup(arena, data_file) };
    buf_init(&bytes, SIZE_MAX);
    struct ice_puffin *puffin = ice_puffin_new();
    ice_puffin_add(puffin, rows, data_file, &out->content_offset, &out->content_bytes);
    ice_puffin_finish(puffin, &bytes);
    ice_puffin_free(puffin);
    out->bytes = (int64_t)bytes.len;
    int rc = prepare_put(p, "data/deletes", ".puffin", &bytes, arena, &out->path, err);
    buf_release(&bytes);
    return rc;
}

static int write_delete(struct preparing *p, struct ice_bitmap *rows, const char *data_file,
                        const struct ice_partition *partition, struct ice_live_delete **out,
                        struct err *err) {
    struct ice_live_delete *d = arena_zalloc(&p->live.arena, sizeof *d);
    int rc = p->t->metadata.format_version >= 3
                 ? write_vector(p, rows, data_file, &d->entry.file, err)
                 : write_positions(p, rows, data_file, &d->entry.file, err);
    if (rc) {
        return -1;
    }
    d->entry.status = ICE_ADDED;
    d->entry.snapshot_id = p->snapshot_id;
    d->entry.sequence = d->entry.file_sequence = p->sequence;
    d->entry.file.partition = *partition;
    d->manifest = UINT32_MAX;
    p->new_deletes++;
    p->new_dead_rows += (uint64_t)d->entry.file.rows;
    p->added_bytes += (uint64_t)d->entry.file.bytes;
    *out = d;
    return 0;
}

static void add_change(struct preparing *p, struct ice_live_file *f) {
    p->changes = xrealloc(p->changes, (p->change_count + 1) * sizeof *p->changes);
    p->changes[p->change_count++] =
        (struct change){ .file = f, .old = f->dead, .old_too = f->dead_too };
}

/* Dead rows of a file that the table had. */
static int kill_rows(struct preparing *p, struct ice_live_file *f, struct ice_dead *dead,
                     struct err *err) {
    if (f->gone) {
        return 0; /* all of it is void */
    }
    if (ice_live_dead_rows(&p->live, p->context->store, f, dead->rows, err)) {
        return -1;
    }
    add_change(p, f);
    if (ice_bitmap_count(dead->rows) >= f->rows) {
        f->gone = true;
        return 0;
    }
    f->dead_too = NULL;
    return write_delete(p, dead->rows, f->path, &f->partition, &f->dead, err);
}

/* The entry of a file that this snapshot adds, as live keeps it. */
static struct ice_live_file *live_file_of(struct preparing *p, const struct ice_file *file) {
    struct arena *arena = &p->live.arena;
    struct ice_live_file *f = arena_zalloc(arena, sizeof *f);
    *f = (struct ice_live_file){ .path = arena_strdup(arena, file->path),
                                 .rows = (uint64_t)file->rows,
                                 .bytes = file->bytes,
                                 .snapshot_id = p->snapshot_id,
                                 .sequence = p->sequence,
                                 .file_sequence = p->sequence,
                                 .first_row_id = -1,
                                 .spec_id = p->t->metadata.default_spec_id,
                                 .partition = file->partition,
                                 .manifest = UINT32_MAX };
    for (uint32_t i = 0; i < ICE_PARTITION_FIELDS_MAX; i++) {
        if (f->partition.texts[i]) {
            f->partition.texts[i] =
                arena_copy(arena, f->partition.texts[i], f->partition.text_lens[i]);
        }
    }
    f->partition.borrowed = true;
    return f;
}

int prepare_dead(struct preparing *p, struct err *err) {
    for (uint32_t i = 0; i < p->part->dead_count; i++) {
        struct ice_dead *dead = &p->part->dead[i];
        struct ice_live_file *f = ice_live_find(&p->live, dead->data_file);
        if (!f) {
            return err_set(err, ERR_REWIND, "index_damaged",
                           "a row died in \"%s\", which the table has not", dead->data_file);
        }
        bool is_new = f->manifest == UINT32_MAX;
        if (is_new ? write_delete(p, dead->rows, f->path, &f->partition, &f->dead, err)
                   : kill_rows(p, f, dead, err)) {
            return -1;
        }
    }
    return 0;
}

/* Files of this snapshot join what is live. */
void prepare_added(struct preparing *p) {
    for (uint32_t i = 0; i < p->part->added_count; i++) {
        const struct ice_file *file = &p->part->added[i];
        struct ice_live_file *f = live_file_of(p, file);
        map_set(p->live.files, f->path, strlen(f->path), f);
        p->added_bytes += (uint64_t)file->bytes;
        p->added_rows += f->rows;
    }
}

void prepare_void(struct preparing *p) {
    void *value;
    for (size_t at = 0; map_next(p->live.files, &at, NULL, NULL, &value);) {
        struct ice_live_file *f = value;
        add_change(p, f);
        f->gone = true;
    }
}
