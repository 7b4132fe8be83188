/* See ice_expire.h. Because history is a line, a manifest that a snapshot dropped never comes back,
 * and a file that one took out was seen by those between the one that added it and the one before
 * only: sequence numbers say whether a tag is among those. */
#include "sinks/iceberg/ice_expire.h"

#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_manifest.h"
#include "sinks/iceberg/ice_object.h"

/* The manifests of one snapshot. */
struct list {
    struct arena arena;
    struct ice_manifest_file *files;
    uint32_t count;
};
struct collecting {
    const struct ice_metadata *m;
    struct store *store;
    struct buf *garbage;
    uint32_t expired; /* of m->snapshots, from the oldest on, but for those that refs name */
    const struct ice_snapshot *removed; /* which took out what is collected */
};

static bool is_named(const struct ice_metadata *m, int64_t id) {
    const char *name;
    json_t *ref;
    json_object_foreach(m->refs, name, ref) {
        if (json_integer_value(json_object_get(ref, "snapshot-id")) == id) {
            return true;
        }
    }
    return false;
}

/* Index of the snapshot from which on each follows the one before. What is older must be what tags
 * held when their neighbours went; else history is no line: snapshot_count. */
static uint32_t line_start(const struct ice_metadata *m) {
    uint32_t k = m->snapshot_count - 1;
    if (m->snapshots[k].id != m->current_snapshot_id) {
        return m->snapshot_count;
    }
    while (k > 0 && m->snapshots[k].parent_id == m->snapshots[k - 1].id) {
        k--;
    }
    for (uint32_t i = 0; i < k; i++) {
        const struct ice_snapshot *s = &m->snapshots[i];
        if (!is_named(m, s->id) || s->sequence >= m->snapshots[k].sequence ||
            s->id == m->snapshots[k].parent_id) {
            return m->snapshot_count;
        }
    }
    return k;
}

static bool may_collect(const struct ice_metadata *m) {
    const char *gc = ice_metadata_property(m, "gc.enabled");
    return !(gc && strcmp(gc, "false") == 0);
}

/* Does a snapshot that stays because a ref names it see what was added at `sequence` and taken out
 * by x->removed? */
static bool is_seen(const struct collecting *x, int64_t sequence) {
    for (uint32_t i = 0; i < x->expired && json_object_size(x->m->refs) > 1; i++) {
        const struct ice_snapshot *s = &x->m->snapshots[i];
        if (s->sequence >= sequence && s->sequence < x->removed->sequence &&
            is_named(x->m, s->id)) {
            return true;
        }
    }
    return false;
}

/* Files of the table's own folder only: others (somebody added them by name) may be anybody's. */
static void add_garbage(const struct collecting *x, const char *url, int64_t sequence) {
    size_t n = strlen(x->m->location);
    if (strncmp(url, x->m->location, n) == 0 && url[n] == '/' && !is_seen(x, sequence)) {
        buf_put(x->garbage, url, strlen(url) + 1);
    }
}

/* What is not there, damaged, or not ours to read, leaves garbage at worst. */
static int pass_over_missing(int rc, struct err *err) {
    static const char *const codes[] = { "object_missing", "object_outside", "manifest_damaged" };
    for (size_t i = 0; rc && i < ARRAY_COUNT(codes); i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            err_clear(err);
            rc = 0;
        }
    }
    return rc;
}

static int read_list(struct collecting *x, const struct ice_snapshot *s, struct list *out,
                     struct err *err) {
    struct buf bytes;
    *out = (struct list){ 0 };
    arena_init(&out->arena);
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(x->store, s->manifest_list, &bytes, err);
    if (rc == 0) {
        rc = ice_list_read(bytes.data, bytes.len, &out->arena, &out->files, &out->count, err);
    }
    buf_release(&bytes);
    return rc;
}

static int collect_removed(void *arg, const struct ice_entry *e, struct err *err TR_UNUSED) {
    struct collecting *x = arg;
    if (e->status == ICE_DELETED && e->snapshot_id == x->removed->id) {
        add_garbage(x, e->file.path, e->file_sequence);
    }
    return 0;
}

/* Files that snapshot x->removed, whose list this is, took out of the table. */
static int collect_files(struct collecting *x, struct list *list, struct err *err) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < list->count; i++) {
        const struct ice_manifest_file *f = &list->files[i];
        const struct ice_spec *spec = ice_metadata_spec(x->m, f->spec_id);
        if (f->added_snapshot_id != x->removed->id || f->deleted_files == 0 || !spec) {
            continue;
        }
        struct buf bytes;
        buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
        rc = ice_object_get(x->store, f->path, &bytes, err);
        if (rc == 0) {
            rc = ice_manifest_read(bytes.data, bytes.len, f, spec, &list->arena, collect_removed, x,
                                   err);
        }
        buf_release(&bytes);
        rc = pass_over_missing(rc, err);
    }
    return rc;
}

/* Manifests of `old` that x->removed, whose list is `now`, has no more. */
static void collect_manifests(struct collecting *x, const struct list *old,
                              const struct list *now) {
    for (uint32_t i = 0; i < old->count; i++) {
        bool kept = false;
        for (uint32_t k = 0; k < now->count && !kept; k++) {
            kept = strcmp(old->files[i].path, now->files[k].path) == 0;
        }
        if (!kept) {
            add_garbage(x, old->files[i].path, old->files[i].sequence);
        }
    }
}

static int collect(struct collecting *x, uint32_t from, struct err *err) {
    struct list old, now;
    int rc = pass_over_missing(read_list(x, &x->m->snapshots[from], &old, err), err);
    for (uint32_t i = from; rc == 0 && i < x->expired; i++) {
        x->removed = &x->m->snapshots[i + 1];
        rc = read_list(x, x->removed, &now, err);
        if (rc == 0) { /* else nobody knows what it kept */
            collect_manifests(x, &old, &now);
            rc = collect_files(x, &now, err);
        }
        rc = pass_over_missing(rc, err);
        arena_release(&old.arena);
        old = now;
    }
    arena_release(&old.arena);
    return rc;
}

static uint64_t position_bytes(const struct ice_snapshot *s) {
    const char *position = json_string_value(json_object_get(s->summary, "tailrace.position"));
    return position ? strlen(position) : 0;
}

/* Which go, oldest first, but for those that refs name; never the newest. *end: index after the
 * last of them. */
static uint32_t choose(const struct ice_metadata *m, int64_t history_ms, int64_t *ids,
                       uint32_t *end) {
    const struct ice_snapshot *newest = &m->snapshots[m->snapshot_count - 1];
    uint32_t n = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->snapshot_count; i++) {
        bytes += position_bytes(&m->snapshots[i]);
    }
    *end = 0;
    for (uint32_t i = 0; i + 1 < m->snapshot_count && n < ICE_EXPIRED_MAX; i++) {
        const struct ice_snapshot *s = &m->snapshots[i];
        if (is_named(m, s->id)) {
            continue;
        }
        if (newest->timestamp_ms - s->timestamp_ms <= history_ms &&
            m->snapshot_count - n <= ICE_SNAPSHOTS_MAX && bytes <= ICE_POSITIONS_BYTES) {
            break;
        }
        bytes -= position_bytes(s);
        ids[n++] = s->id;
        *end = i + 1;
    }
    return n;
}

int ice_expire(struct ice_metadata *m, struct store *store, int64_t history_ms, struct buf *garbage,
               struct err *err) {
    int64_t ids[ICE_EXPIRED_MAX];
    struct collecting x = { .m = m, .store = store, .garbage = garbage };
    uint32_t n = choose(m, history_ms, ids, &x.expired);
    uint32_t from = line_start(m);
    if (n > 0 && may_collect(m) && from < x.expired && collect(&x, from, err)) {
        return -1;
    }
    ice_metadata_expire(m, ids, n, n > 0 && may_collect(m) ? garbage : NULL);
    return 0;
}
