/* A commit's manifests: few are left and few are written anew. See ice_prepare.c. */
#include "sinks/iceberg/ice_prepare_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_object.h"

enum {
    TAIL_BYTES = 128 << 10, /* a manifest up to this is written anew with the next commit's files */
    TIER = 8,               /* so many of one size are made one */
    MANIFEST_BYTES = 8 << 20, /* larger ones are left as they are */
};

struct rewriting {
    struct preparing *p;
    struct ice_manifest_writer *writer;
};

/* An entry of a manifest that is written anew: it stays, or leaves the table now. */
static int rewrite_entry(void *arg, const struct ice_entry *e, struct err *err TR_UNUSED) {
    struct rewriting *x = arg;
    if (e->status == ICE_DELETED) {
        return 0;
    }
    struct ice_entry again = *e;
    again.status = ICE_EXISTING;
    struct ice_live_file *f = ice_live_find(&x->p->live, e->file.path);
    if (f && f->gone) {
        again.status = ICE_DELETED;
        again.snapshot_id = x->p->snapshot_id;
        x->p->removed_files++;
        x->p->removed_rows += (uint64_t)e->file.rows;
        x->p->removed_bytes += (uint64_t)e->file.bytes;
    }
    ice_manifest_put(x->writer, &again);
    return 0;
}

static int rewrite_manifest(struct preparing *p, uint32_t i, struct ice_manifest_writer *writer,
                            struct err *err) {
    const struct ice_manifest_file *m = &p->live.manifests[i];
    struct buf bytes;
    struct arena arena;
    struct rewriting x = { .p = p, .writer = writer };
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    arena_init(&arena);
    int rc = ice_object_get(p->context->store, m->path, &bytes, err);
    if (rc == 0) {
        rc = ice_manifest_read(bytes.data, bytes.len, m,
                               ice_metadata_spec(&p->t->metadata, m->spec_id), &arena,
                               rewrite_entry, &x, err);
    }
    p->manifest_dropped[i] = true;
    arena_release(&arena);
    buf_release(&bytes);
    return rc;
}

static struct ice_manifest_head head_of(const struct preparing *p, int32_t spec_id,
                                        enum ice_content content) {
    const struct ice_metadata *m = &p->t->metadata;
    return (struct ice_manifest_head){ .format_version = m->format_version,
                                       .content = content,
                                       .schema = ice_metadata_schema(m, m->current_schema_id),
                                       .spec = ice_metadata_spec(m, spec_id) };
}

/* A manifest's bytes to the store and its row to the snapshot's list. An empty one is not written.
 */
static int put_manifest(struct preparing *p, struct ice_manifest_writer *writer, int32_t spec_id,
                        enum ice_content content, struct err *err) {
    struct buf bytes;
    struct ice_manifest_file row = { 0 };
    buf_init(&bytes, SIZE_MAX);
    ice_manifest_finish(writer, p->sequence, &bytes, &p->live.arena, &row);
    int rc = 0;
    if (row.added_files + row.existing_files + row.deleted_files > 0) {
        row.spec_id = spec_id;
        row.content = content;
        row.bytes = (int64_t)bytes.len;
        row.sequence = p->sequence;
        row.added_snapshot_id = p->snapshot_id;
        rc = prepare_put(p, "metadata/m", ".avro", &bytes, &p->live.arena, &row.path, err);
        p->manifests = xrealloc(p->manifests, (p->manifest_count + 1) * sizeof *p->manifests);
        p->manifests[p->manifest_count++] = row;
    }
    buf_release(&bytes);
    return rc;
}

/* 0: small enough to be written anew with each commit; from 1: sizes by powers of TIER. */
static unsigned tier_of(int64_t bytes) {
    unsigned tier = 0;
    for (; bytes > TAIL_BYTES; bytes /= TIER) {
        tier++;
    }
    return tier;
}

/* Which data manifests of a spec are written together with this snapshot's: the small one that the
 * last commit left, and those of a tier that has become full with it. So at most one small manifest
 * and TIER - 1 of each size are left, and an entry is written a bounded number of times more than a
 * few. */
static void choose_merged(const struct preparing *p, int32_t spec_id, bool *chosen) {
    const struct ice_live *live = &p->live;
    for (unsigned tier = 0; tier < 16; tier++) {
        uint32_t in_tier = 1; /* what comes from below */
        for (uint32_t i = 0; i < live->manifest_count; i++) {
            const struct ice_manifest_file *m = &live->manifests[i];
            in_tier += m->content == ICE_DATA && m->spec_id == spec_id &&
                       m->bytes < MANIFEST_BYTES && tier_of(m->bytes) == tier;
        }
        if (tier > 0 && in_tier < TIER) {
            return;
        }
        int64_t sum = 0;
        for (uint32_t i = 0; i < live->manifest_count; i++) {
            const struct ice_manifest_file *m = &live->manifests[i];
            if (m->content == ICE_DATA && m->spec_id == spec_id && m->bytes < MANIFEST_BYTES &&
                tier_of(m->bytes) == tier) {
                chosen[i] = true;
                sum += m->bytes;
            }
        }
        if (sum <= TAIL_BYTES) {
            return; /* still small: nothing moves up */
        }
    }
}

/* Those that name a file which leaves. */
static void choose_losing(const struct preparing *p, int32_t spec_id, bool *chosen) {
    for (uint32_t i = 0; i < p->change_count; i++) {
        const struct ice_live_file *f = p->changes[i].file;
        if (f->gone && f->spec_id == spec_id) {
            chosen[f->manifest] = true;
        }
    }
}

/* The manifests of one spec's data: the new one, with the small ones that are made part of it, and
 * those that lose a file. */
static int write_data_manifests(struct preparing *p, int32_t spec_id, struct err *err) {
    const struct ice_live *live = &p->live;
    bool is_default = spec_id == p->t->metadata.default_spec_id;
    uint32_t added = is_default && p->part ? p->part->added_count : 0;
    bool *chosen = xcalloc(live->manifest_count + 1, sizeof *chosen);
    bool any = added > 0;
    choose_losing(p, spec_id, chosen);
    if (added > 0) {
        choose_merged(p, spec_id, chosen);
    }
    for (uint32_t i = 0; i < live->manifest_count; i++) {
        any = any || chosen[i];
    }
    int rc = 0;
    if (any) {
        struct ice_manifest_head head = head_of(p, spec_id, ICE_DATA);
        struct ice_manifest_writer *writer = ice_manifest_writer_new(&head);
        for (uint32_t i = 0; i < added; i++) {
            ice_manifest_put(writer, &(struct ice_entry){ .status = ICE_ADDED,
                                                          .snapshot_id = p->snapshot_id,
                                                          .sequence = -1,
                                                          .file_sequence = -1,
                                                          .file = p->part->added[i] });
        }
        for (uint32_t i = 0; rc == 0 && i < live->manifest_count; i++) {
            if (!chosen[i]) {
                continue;
            }
            rc = rewrite_manifest(p, i, writer, err);
            if (rc == 0 && ice_manifest_bytes(writer) > MANIFEST_BYTES) {
                rc = put_manifest(p, writer, spec_id, ICE_DATA, err);
                ice_manifest_writer_free(writer);
                writer = ice_manifest_writer_new(&head);
            }
        }
        rc = rc ? rc : put_manifest(p, writer, spec_id, ICE_DATA, err);
        ice_manifest_writer_free(writer);
    }
    free(chosen);
    return rc;
}

static void put_removed_delete(struct preparing *p, struct ice_manifest_writer *writer,
                               const struct ice_live_delete *d) {
    struct ice_entry gone = d->entry;
    gone.status = ICE_DELETED;
    gone.snapshot_id = p->snapshot_id;
    ice_manifest_put(writer, &gone);
    p->removed_deletes++;
    p->removed_vectors += gone.file.format == ICE_PUFFIN;
    p->removed_dead_rows += (uint64_t)gone.file.rows;
    p->removed_bytes += (uint64_t)gone.file.bytes;
}

static void put_kept_delete(struct ice_manifest_writer *writer, const struct ice_live_delete *d) {
    struct ice_entry kept = d->entry;
    kept.status = ICE_EXISTING;
    ice_manifest_put(writer, &kept);
}

/* All deletes of one spec in one manifest, written anew where any of them changed: its entries are
 * few and small. */
static int write_delete_manifest(struct preparing *p, int32_t spec_id, struct err *err) {
    struct ice_live *live = &p->live;
    bool changed = false;
    for (uint32_t i = 0; i < p->change_count; i++) {
        const struct change *c = &p->changes[i];
        changed = changed || (c->file->spec_id == spec_id && (c->old || c->old_too));
    }
    struct ice_manifest_head head = head_of(p, spec_id, ICE_POSITION_DELETES);
    struct ice_manifest_writer *writer = ice_manifest_writer_new(&head);
    for (uint32_t i = 0; i < p->change_count; i++) {
        const struct change *c = &p->changes[i];
        if (c->file->spec_id == spec_id && c->old) {
            put_removed_delete(p, writer, c->old);
        }
        if (c->file->spec_id == spec_id && c->old_too) {
            put_removed_delete(p, writer, c->old_too);
        }
    }
    void *value;
    for (size_t at = 0; map_next(live->files, &at, NULL, NULL, &value);) {
        struct ice_live_file *f = value;
        if (f->spec_id != spec_id || f->gone) {
            continue;
        }
        if (f->dead && f->dead->entry.status == ICE_ADDED) {
            ice_manifest_put(writer, &f->dead->entry);
            changed = true;
        } else if (f->dead) {
            put_kept_delete(writer, f->dead);
        }
        if (f->dead_too) {
            put_kept_delete(writer, f->dead_too);
        }
    }
    for (uint32_t i = 0; i < live->loose_count; i++) {
        if (live->manifests[live->loose[i]->manifest].spec_id == spec_id) {
            put_kept_delete(writer, live->loose[i]);
        }
    }
    int rc = 0;
    if (changed) {
        for (uint32_t i = 0; i < live->manifest_count; i++) {
            const struct ice_manifest_file *m = &live->manifests[i];
            if (m->content == ICE_POSITION_DELETES && m->spec_id == spec_id) {
                p->manifest_dropped[i] = true;
            }
        }
        rc = put_manifest(p, writer, spec_id, ICE_POSITION_DELETES, err);
    }
    ice_manifest_writer_free(writer);
    return rc;
}

int prepare_manifests(struct preparing *p, struct err *err) {
    p->manifest_dropped = xcalloc(p->live.manifest_count + 1, sizeof *p->manifest_dropped);
    for (uint32_t i = 0; i < p->t->metadata.spec_count; i++) {
        int32_t spec_id = p->t->metadata.specs[i].id;
        if (write_data_manifests(p, spec_id, err) || write_delete_manifest(p, spec_id, err)) {
            return -1;
        }
    }
    return 0;
}

/* What is left of the list before, and the new ones; in v3 data manifests get the numbers of their
 * rows. */
int prepare_list(struct preparing *p, struct ice_snapshot *snapshot, struct err *err) {
    struct ice_metadata *m = &p->t->metadata;
    uint32_t count = 0;
    struct ice_manifest_file *all =
        xcalloc(p->live.manifest_count + p->manifest_count + 1, sizeof *all);
    for (uint32_t i = 0; i < p->manifest_count; i++) {
        all[count++] = p->manifests[i];
    }
    for (uint32_t i = 0; i < p->live.manifest_count; i++) {
        if (!p->manifest_dropped[i]) {
            all[count++] = p->live.manifests[i];
        }
    }
    int64_t next_row = m->next_row_id;
    for (uint32_t i = 0; i < count && m->format_version >= 3; i++) {
        if (all[i].content == ICE_DATA && all[i].first_row_id < 0) {
            all[i].first_row_id = next_row;
            next_row += all[i].existing_rows + all[i].added_rows;
        }
    }
    snapshot->first_row_id = m->format_version >= 3 ? m->next_row_id : -1;
    snapshot->added_rows = m->format_version >= 3 ? next_row - m->next_row_id : -1;
    struct ice_list_head head = { .format_version = m->format_version,
                                  .snapshot_id = p->snapshot_id,
                                  .parent_id = snapshot->parent_id,
                                  .sequence = p->sequence,
                                  .first_row_id = snapshot->first_row_id };
    struct buf bytes;
    const char *url = NULL;
    buf_init(&bytes, SIZE_MAX);
    ice_list_write(&bytes, &head, all, count);
    int rc = prepare_put(p, "metadata/snap", ".avro", &bytes, &p->live.arena, &url, err);
    if (rc == 0) {
        snapshot->manifest_list = xstrdup(url);
    }
    buf_release(&bytes);
    free(all);
    return rc;
}
