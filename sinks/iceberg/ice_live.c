/* What is live. See ice_live.h. */
#include "sinks/iceberg/ice_live.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/ice_position_deletes.h"
#include "sinks/iceberg/ice_puffin.h"

#define DV_BYTES_MAX (UINT64_C(1) << 31)

void ice_live_init(struct ice_live *l) {
    *l = (struct ice_live){ .files = map_new() };
    arena_init(&l->arena);
}

void ice_live_release(struct ice_live *l) {
    map_free(l->files, NULL); /* its values are in the arena */
    free(l->loose);
    arena_release(&l->arena);
    *l = (struct ice_live){ 0 };
}

struct ice_live_file *ice_live_find(const struct ice_live *l, const char *path) {
    return map_get(l->files, path, strlen(path));
}

struct loading {
    struct ice_live *live;
    uint32_t manifest;
    int32_t spec_id;
};

static int load_data(void *arg, const struct ice_entry *e, struct err *err TR_UNUSED) {
    struct loading *x = arg;
    if (e->status == ICE_DELETED) {
        return 0;
    }
    struct ice_live_file *f = arena_zalloc(&x->live->arena, sizeof *f);
    *f = (struct ice_live_file){ .path = e->file.path,
                                 .rows = (uint64_t)e->file.rows,
                                 .bytes = e->file.bytes,
                                 .snapshot_id = e->snapshot_id,
                                 .sequence = e->sequence,
                                 .file_sequence = e->file_sequence,
                                 .first_row_id = e->file.first_row_id,
                                 .spec_id = x->spec_id,
                                 .partition = e->file.partition,
                                 .manifest = x->manifest };
    map_set(x->live->files, f->path, strlen(f->path), f);
    return 0;
}

static void add_loose(struct ice_live *l, struct ice_live_delete *d) {
    l->loose = xrealloc(l->loose, (l->loose_count + 1) * sizeof *l->loose);
    l->loose[l->loose_count++] = d;
}

static int load_delete(void *arg, const struct ice_entry *e, struct err *err) {
    struct loading *x = arg;
    if (e->status == ICE_DELETED) {
        return 0;
    }
    struct ice_live_delete *d = arena_zalloc(&x->live->arena, sizeof *d);
    d->entry = *e;
    d->manifest = x->manifest;
    if (!e->file.referenced) {
        add_loose(x->live, d);
        return 0;
    }
    struct ice_live_file *f = ice_live_find(x->live, e->file.referenced);
    if (!f) {
        return 0; /* of a data file that is gone: without effect */
    }
    if (!f->dead) {
        f->dead = d;
    } else if (!f->dead_too && f->dead->entry.file.format != e->file.format) {
        f->dead_too = d;
    } else if (e->file.format == ICE_PARQUET) {
        add_loose(x->live, d);
    } else {
        return err_set(err, ERR_FATAL, "manifest_damaged",
                       "data file \"%s\" has two deletion vectors", f->path);
    }
    return 0;
}

static int load_manifest(struct ice_live *l, struct store *store,
                         const struct ice_metadata *metadata, uint32_t i, struct err *err) {
    const struct ice_manifest_file *m = &l->manifests[i];
    const struct ice_spec *spec = ice_metadata_spec(metadata, m->spec_id);
    if (!spec) {
        return err_set(err, ERR_FATAL, "manifest_damaged",
                       "manifest \"%s\" has the partition spec %d, which the table has not",
                       m->path, m->spec_id);
    }
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    struct loading x = { .live = l, .manifest = i, .spec_id = m->spec_id };
    int rc = ice_object_get(store, m->path, &bytes, err);
    if (rc == 0) {
        rc = ice_manifest_read(bytes.data, bytes.len, m, spec, &l->arena,
                               m->content == ICE_DATA ? load_data : load_delete, &x, err);
    }
    buf_release(&bytes);
    return rc;
}

int ice_live_load(struct ice_live *l, struct store *store, const struct ice_metadata *metadata,
                  const struct ice_snapshot *snapshot, struct err *err) {
    if (!snapshot) {
        return 0;
    }
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(store, snapshot->manifest_list, &bytes, err);
    if (rc == 0) {
        rc =
            ice_list_read(bytes.data, bytes.len, &l->arena, &l->manifests, &l->manifest_count, err);
    }
    buf_release(&bytes);
    /* Deletes name data files, so those come first. */
    for (int content = ICE_DATA; rc == 0 && content <= ICE_POSITION_DELETES; content++) {
        for (uint32_t i = 0; rc == 0 && i < l->manifest_count; i++) {
            if ((int)l->manifests[i].content == content) {
                rc = load_manifest(l, store, metadata, i, err);
            }
        }
    }
    return rc;
}

static int read_vector(struct store *store, const struct ice_file *f, struct ice_bitmap *into,
                       struct err *err) {
    if (f->content_offset < 0 || f->content_bytes < 0 ||
        (uint64_t)f->content_bytes > DV_BYTES_MAX) {
        return err_set(err, ERR_FATAL, "deletes_damaged",
                       "deletion vector in \"%s\": its place is not told", f->path);
    }
    struct store_object *o = NULL;
    if (ice_object_open(store, f->path, &o, err)) {
        return -1;
    }
    uint8_t *bytes = xmalloc((size_t)f->content_bytes + 1);
    int rc = store_read_at(o, (uint64_t)f->content_offset, bytes, (size_t)f->content_bytes, err);
    if (rc == 0) {
        rc = ice_dv_take(bytes, (size_t)f->content_bytes, (uint64_t)f->rows, into, err);
    }
    if (rc) {
        err_wrap(err, "%s", f->path);
    }
    free(bytes);
    store_close_object(o);
    return rc;
}

static int read_positions(struct store *store, const struct ice_file *f, const char *data_file,
                          struct ice_bitmap *into, struct err *err) {
    struct ice_parquet p;
    if (ice_parquet_open(&p, store, f->path, err)) {
        return -1;
    }
    int rc = ice_position_deletes_read(p.reader, data_file, into, err);
    if (rc) {
        err_wrap(err, "%s", f->path);
    }
    ice_parquet_close(&p);
    return rc;
}

static int read_delete(struct store *store, const struct ice_live_delete *d, const char *data_file,
                       struct ice_bitmap *into, struct err *err) {
    return d->entry.file.format == ICE_PUFFIN
               ? read_vector(store, &d->entry.file, into, err)
               : read_positions(store, &d->entry.file, data_file, into, err);
}

int ice_live_dead_rows(const struct ice_live *l, struct store *store,
                       const struct ice_live_file *file, struct ice_bitmap *into, struct err *err) {
    if ((file->dead && read_delete(store, file->dead, file->path, into, err)) ||
        (file->dead_too && read_delete(store, file->dead_too, file->path, into, err))) {
        return -1;
    }
    for (uint32_t i = 0; i < l->loose_count; i++) {
        if (l->loose[i]->entry.sequence >= file->sequence &&
            read_delete(store, l->loose[i], file->path, into, err)) {
            return -1;
        }
    }
    return 0;
}
