/* See ice_expire.h. Because history is a line, a manifest that a snapshot dropped never comes back,
 * and a file that one took out was seen by those before it only. */
#include "sinks/iceberg/ice_expire.h"

#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_manifest.h"
#include "sinks/iceberg/ice_object.h"

static bool only_main(const struct ice_metadata *m) { return json_object_size(m->refs) <= 1; }

static void add_garbage(struct buf *garbage, const char *url) {
    buf_put(garbage, url, strlen(url) + 1);
}

static int read_list(struct store *store, const struct ice_snapshot *s, struct arena *arena,
                     struct ice_manifest_file **files, uint32_t *count, struct err *err) {
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(store, s->manifest_list, &bytes, err);
    if (rc == 0) {
        rc = ice_list_read(bytes.data, bytes.len, arena, files, count, err);
    }
    buf_release(&bytes);
    return rc;
}

struct collecting {
    struct buf *garbage;
    int64_t snapshot_id;
};

static int collect_removed(void *arg, const struct ice_entry *e, struct err *err TR_UNUSED) {
    struct collecting *c = arg;
    if (e->status == ICE_DELETED && e->snapshot_id == c->snapshot_id) {
        add_garbage(c->garbage, e->file.path);
    }
    return 0;
}

/* Files that snapshot s took out of the table. */
static int files_removed_by(const struct ice_metadata *m, struct store *store,
                            const struct ice_snapshot *s, struct buf *garbage, struct err *err) {
    struct arena arena;
    struct ice_manifest_file *files = NULL;
    uint32_t count = 0;
    arena_init(&arena);
    int rc = read_list(store, s, &arena, &files, &count, err);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        const struct ice_spec *spec = ice_metadata_spec(m, files[i].spec_id);
        if (files[i].added_snapshot_id != s->id || files[i].deleted_files == 0 || !spec) {
            continue;
        }
        struct buf bytes;
        struct collecting c = { .garbage = garbage, .snapshot_id = s->id };
        buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
        rc = ice_object_get(store, files[i].path, &bytes, err);
        if (rc == 0) {
            rc = ice_manifest_read(bytes.data, bytes.len, &files[i], spec, &arena, collect_removed,
                                   &c, err);
        }
        buf_release(&bytes);
    }
    arena_release(&arena);
    return rc;
}

/* Manifests of snapshot s that snapshot `next` has no more. */
static int manifests_dropped(struct store *store, const struct ice_snapshot *s,
                             const struct ice_snapshot *next, struct buf *garbage,
                             struct err *err) {
    struct arena arena;
    struct ice_manifest_file *old = NULL, *now = NULL;
    uint32_t old_count = 0, now_count = 0;
    arena_init(&arena);
    int rc = read_list(store, s, &arena, &old, &old_count, err);
    if (rc == 0) {
        rc = read_list(store, next, &arena, &now, &now_count, err);
    }
    for (uint32_t i = 0; rc == 0 && i < old_count; i++) {
        bool kept = false;
        for (uint32_t k = 0; k < now_count && !kept; k++) {
            kept = strcmp(old[i].path, now[k].path) == 0;
        }
        if (!kept) {
            add_garbage(garbage, old[i].path);
        }
    }
    arena_release(&arena);
    return rc;
}

static uint32_t count_expired(const struct ice_metadata *m, int64_t history_ms) {
    uint32_t n = 0;
    while (n + 1 < m->snapshot_count &&
           (m->snapshots[m->snapshot_count - 1].timestamp_ms - m->snapshots[n].timestamp_ms >
                history_ms ||
            m->snapshot_count - n > ICE_SNAPSHOTS_MAX)) {
        n++;
    }
    return n;
}

int ice_expire(struct ice_metadata *m, struct store *store, int64_t history_ms, struct buf *garbage,
               struct err *err) {
    uint32_t n = count_expired(m, history_ms);
    if (n == 0 || !only_main(m)) {
        return 0;
    }
    int64_t *ids = xcalloc(n, sizeof *ids);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        const struct ice_snapshot *s = &m->snapshots[i];
        ids[i] = s->id;
        rc = manifests_dropped(store, s, s + 1, garbage, err) ||
                     files_removed_by(m, store, s + 1, garbage, err)
                 ? -1
                 : 0;
    }
    if (rc == 0) {
        uint32_t gone = ice_metadata_expire(m, ids, n, garbage);
        CHECK(gone == n);
    }
    free(ids);
    return rc;
}
