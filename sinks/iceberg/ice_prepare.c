/* The next snapshot of a table, written and not yet named by anybody. See ice_table.h.
 *
 *   part -> schemas -> dead rows: one delete file a data file, all its dead rows, the old one
 * replaced
 *        -> manifests: data (the few small ones are written together with the new), deletes (one a
 * spec)
 *        -> manifest list -> expiry -> metadata file
 *
 * Thread: the commit task. Never deletes what is live; what is not any more goes to
 * context->garbage. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/value.h"
#include "sinks/iceberg/ice_expire.h"
#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/ice_position_deletes.h"
#include "sinks/iceberg/ice_puffin.h"
#include "sinks/iceberg/ice_table.h"

enum {
    TIER = 8,                 /* so many manifests of one size are made one */
    MANIFEST_BYTES = 8 << 20, /* larger ones are left as they are */
    METADATA_FILES_KEPT = 20,
};

/* A data file of the table that changes in this snapshot. */
struct change {
    struct ice_live_file *file;
    struct ice_live_delete *old; /* its delete file before; NULL */
    struct ice_live_delete *old_too;
    bool gone; /* no row is left: it leaves the table */
};
struct preparing {
    struct ice_table *t;
    const struct ice_commit_context *context;
    struct ice_part_table *part; /* NULL = empty snapshot */
    struct ice_live live;        /* before this snapshot; what it adds is put in as it is written */
    int64_t snapshot_id, sequence;
    int64_t previous_ms; /* of the metadata file before */
    struct change *changes;
    uint32_t change_count;
    bool *manifest_dropped;              /* of live.manifests */
    struct ice_manifest_file *manifests; /* of this snapshot */
    uint32_t manifest_count;
    uint64_t added_rows, removed_files, removed_rows;
    uint64_t new_deletes, new_dead_rows, removed_deletes, removed_dead_rows;
    uint64_t added_bytes, removed_bytes;
};

static char *object_key(const struct preparing *p, const char *kind, const char *ending) {
    uint64_t random[2];
    rng_bytes(random, sizeof random);
    return xasprintf("%s/%s/%s-%05" PRIu64 "-%016" PRIx64 "%016" PRIx64 "%s", p->t->space,
                     p->t->name, kind, p->context->epoch, random[0], random[1], ending);
}

static char *url_of(const struct preparing *p, const char *key) {
    struct buf url;
    buf_init(&url, SIZE_MAX);
    store_put_url(&url, p->context->store, key);
    char *copy = xstrdup(buf_cstr(&url));
    buf_release(&url);
    return copy;
}

/* Writes a small object and gives its URL, in arena. */
static int put_object(struct preparing *p, const char *kind, const char *ending,
                      const struct buf *bytes, struct arena *arena, const char **url,
                      struct err *err) {
    char *key = object_key(p, kind, ending);
    int rc = store_put(p->context->store, key, bytes->data, bytes->len, p->context->folders, err);
    if (rc == 0) {
        char *u = url_of(p, key);
        *url = arena_strdup(arena, u);
        free(u);
    }
    free(key);
    return rc;
}

/* ---- deletes ---- */

static int write_upload(void *arg, const void *p, size_t n, struct err *err) {
    return store_write(arg, p, n, err);
}

/* A v2 delete file. */
static int write_positions(struct preparing *p, const struct ice_bitmap *rows,
                           const char *data_file, struct ice_file *out, struct err *err) {
    char *key = object_key(p, "data/deletes", ".parquet");
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
        char *url = url_of(p, key);
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
    int rc = put_object(p, "data/deletes", ".puffin", &bytes, arena, &out->path, err);
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

static struct change *add_change(struct preparing *p, struct ice_live_file *f) {
    p->changes = xrealloc(p->changes, (p->change_count + 1) * sizeof *p->changes);
    struct change *c = &p->changes[p->change_count++];
    *c = (struct change){ .file = f, .old = f->dead, .old_too = f->dead_too };
    return c;
}

/* Dead rows of a file that the table had. */
static int kill_rows(struct preparing *p, struct ice_live_file *f, struct ice_dead *dead,
                     struct err *err) {
    if (ice_live_dead_rows(&p->live, p->context->store, f, dead->rows, err)) {
        return -1;
    }
    struct change *c = add_change(p, f);
    if (ice_bitmap_count(dead->rows) >= f->rows) {
        c->gone = true;
        return 0;
    }
    f->dead_too = NULL;
    return write_delete(p, dead->rows, f->path, &f->partition, &f->dead, err);
}

static struct ice_file *find_added(const struct ice_part_table *part, const char *path) {
    for (uint32_t i = 0; i < part->added_count; i++) {
        if (strcmp(part->added[i].path, path) == 0) {
            return &part->added[i];
        }
    }
    return NULL;
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

static int apply_dead(struct preparing *p, struct err *err) {
    for (uint32_t i = 0; i < p->part->dead_count; i++) {
        struct ice_dead *dead = &p->part->dead[i];
        struct ice_live_file *f = ice_live_find(&p->live, dead->data_file);
        if (f) {
            if (kill_rows(p, f, dead, err)) {
                return -1;
            }
            continue;
        }
        if (!find_added(p->part, dead->data_file)) {
            return err_set(err, ERR_REWIND, "index_damaged",
                           "a row died in \"%s\", which the table has not", dead->data_file);
        }
    }
    return 0;
}

/* Files of this snapshot join what is live, with the deletes that they come with. */
static int apply_added(struct preparing *p, struct err *err) {
    for (uint32_t i = 0; i < p->part->added_count; i++) {
        const struct ice_file *file = &p->part->added[i];
        struct ice_live_file *f = live_file_of(p, file);
        map_set(p->live.files, f->path, strlen(f->path), f);
        p->added_bytes += (uint64_t)file->bytes;
        p->added_rows += f->rows;
        for (uint32_t d = 0; d < p->part->dead_count; d++) {
            struct ice_dead *dead = &p->part->dead[d];
            if (strcmp(dead->data_file, file->path) != 0) {
                continue;
            }
            if (write_delete(p, dead->rows, f->path, &f->partition, &f->dead, err)) {
                return -1;
            }
        }
    }
    return 0;
}

static void void_all(struct preparing *p) {
    void *value;
    for (size_t at = 0; map_next(p->live.files, &at, NULL, NULL, &value);) {
        add_change(p, value)->gone = true;
    }
}

/* ---- manifests ---- */

struct rewriting {
    struct preparing *p;
    struct ice_manifest_writer *writer;
};

static bool is_gone(const struct preparing *p, const char *path) {
    for (uint32_t i = 0; i < p->change_count; i++) {
        if (p->changes[i].gone && strcmp(p->changes[i].file->path, path) == 0) {
            return true;
        }
    }
    return false;
}

/* An entry of a manifest that is written anew: it stays, or leaves the table now. */
static int rewrite_entry(void *arg, const struct ice_entry *e, struct err *err TR_UNUSED) {
    struct rewriting *x = arg;
    if (e->status == ICE_DELETED) {
        return 0;
    }
    struct ice_entry again = *e;
    again.status = ICE_EXISTING;
    if (x->p->change_count > 0 && is_gone(x->p, e->file.path)) {
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
        rc = put_object(p, "metadata/m", ".avro", &bytes, &p->live.arena, &row.path, err);
        p->manifests = xrealloc(p->manifests, (p->manifest_count + 1) * sizeof *p->manifests);
        p->manifests[p->manifest_count++] = row;
    }
    buf_release(&bytes);
    return rc;
}

static bool holds_gone_file(const struct preparing *p, uint32_t manifest) {
    for (uint32_t i = 0; i < p->change_count; i++) {
        if (p->changes[i].gone && p->changes[i].file->manifest == manifest) {
            return true;
        }
    }
    return false;
}

static unsigned tier_of(int64_t bytes) {
    unsigned tier = 0;
    for (; bytes > 4096; bytes /= TIER) {
        tier++;
    }
    return tier;
}

/* Which small data manifests of a spec are written together with this snapshot's: those of the
 * lowest tiers that are full. So each entry is written about log8 of their number times, and few
 * manifests are left. */
static void choose_merged(const struct preparing *p, int32_t spec_id, bool *chosen) {
    const struct ice_live *live = &p->live;
    uint32_t carried = 1; /* the new one */
    for (unsigned tier = 0; tier < 32; tier++) {
        uint32_t in_tier = 0;
        for (uint32_t i = 0; i < live->manifest_count; i++) {
            const struct ice_manifest_file *m = &live->manifests[i];
            in_tier += m->content == ICE_DATA && m->spec_id == spec_id &&
                       m->bytes < MANIFEST_BYTES && tier_of(m->bytes) == tier;
        }
        if (in_tier + carried < TIER) {
            return;
        }
        for (uint32_t i = 0; i < live->manifest_count; i++) {
            const struct ice_manifest_file *m = &live->manifests[i];
            if (m->content == ICE_DATA && m->spec_id == spec_id && m->bytes < MANIFEST_BYTES &&
                tier_of(m->bytes) == tier) {
                chosen[i] = true;
            }
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
    if (added > 0) {
        choose_merged(p, spec_id, chosen);
    }
    for (uint32_t i = 0; i < live->manifest_count; i++) {
        const struct ice_manifest_file *m = &live->manifests[i];
        if (m->content == ICE_DATA && m->spec_id == spec_id && holds_gone_file(p, i)) {
            chosen[i] = true;
        }
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
        if (f->spec_id != spec_id || is_gone(p, f->path)) {
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

static int write_manifests(struct preparing *p, struct err *err) {
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
static int write_list(struct preparing *p, struct ice_snapshot *snapshot, struct err *err) {
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
    int rc = put_object(p, "metadata/snap", ".avro", &bytes, &p->live.arena, &url, err);
    if (rc == 0) {
        snapshot->manifest_list = xstrdup(url);
    }
    buf_release(&bytes);
    free(all);
    return rc;
}

/* ---- the snapshot ---- */

static void say(json_t *summary, const char *key, const char *value) {
    json_object_set_new(summary, key, json_string(value));
}

static void say_count(json_t *summary, const char *key, uint64_t n) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, n);
    json_object_set_new(summary, key, json_string(text));
}

static uint64_t total_before(const struct preparing *p, const char *key) {
    const struct ice_snapshot *before =
        ice_metadata_snapshot(&p->t->metadata, p->t->metadata.current_snapshot_id);
    const char *text = before ? json_string_value(json_object_get(before->summary, key)) : NULL;
    return text ? strtoull(text, NULL, 10) : 0;
}

static void say_total(const struct preparing *p, json_t *summary, const char *key, uint64_t added,
                      uint64_t removed) {
    uint64_t before = total_before(p, key);
    say_count(summary, key, before + added >= removed ? before + added - removed : 0);
}

static void say_if_any(json_t *summary, const char *key, uint64_t n) {
    if (n > 0) {
        say_count(summary, key, n);
    }
}

static json_t *summary_of(const struct preparing *p, bool consistent) {
    const struct ice_commit_context *c = p->context;
    bool v3 = p->t->metadata.format_version >= 3;
    uint64_t added_files = p->part ? p->part->added_count : 0;
    bool removes = p->new_deletes || p->removed_files || p->removed_deletes;
    json_t *s = json_object();
    say(s, "operation", !removes ? "append" : added_files ? "overwrite" : "delete");
    say(s, "tailrace.job", c->job);
    say(s, "tailrace.commit", c->commit_id);
    say_count(s, "tailrace.epoch", c->epoch);
    say_count(s, "tailrace.seq", c->seq);
    if (c->position) {
        say(s, "tailrace.position", c->position);
    }
    say(s, "tailrace.consistent", consistent ? "true" : "false");
    say_if_any(s, "added-data-files", added_files);
    say_if_any(s, "added-records", p->added_rows);
    say_if_any(s, "deleted-data-files", p->removed_files);
    say_if_any(s, "deleted-records", p->removed_rows);
    say_if_any(s, "added-delete-files", p->new_deletes);
    say_if_any(s, v3 ? "added-dvs" : "added-position-delete-files", p->new_deletes);
    say_if_any(s, "added-position-deletes", p->new_dead_rows);
    say_if_any(s, "removed-delete-files", p->removed_deletes);
    say_if_any(s, v3 ? "removed-dvs" : "removed-position-delete-files", p->removed_deletes);
    say_if_any(s, "removed-position-deletes", p->removed_dead_rows);
    say_if_any(s, "added-files-size", p->added_bytes);
    say_if_any(s, "removed-files-size", p->removed_bytes);
    say_total(p, s, "total-data-files", added_files, p->removed_files);
    say_total(p, s, "total-records", p->added_rows, p->removed_rows);
    say_total(p, s, "total-delete-files", p->new_deletes, p->removed_deletes);
    say_total(p, s, "total-position-deletes", p->new_dead_rows, p->removed_dead_rows);
    say_total(p, s, "total-files-size", p->added_bytes, p->removed_bytes);
    say(s, "total-equality-deletes", "0");
    say(s, "engine-name", "tailrace");
    say(s, "engine-version", TAILRACE_VERSION);
    return s;
}

static int64_t now_ms(void) { return clock_wall_us() / 1000; }

static int make_snapshot(struct preparing *p, bool consistent, struct err *err) {
    struct ice_metadata *m = &p->t->metadata;
    struct ice_snapshot snapshot = { .id = p->snapshot_id,
                                     .parent_id = m->current_snapshot_id,
                                     .sequence = p->sequence,
                                     .timestamp_ms = now_ms(),
                                     .schema_id = m->current_schema_id };
    if (write_manifests(p, err) || write_list(p, &snapshot, err)) {
        return -1;
    }
    snapshot.summary = summary_of(p, consistent);
    ice_metadata_add_snapshot(m, &snapshot);
    return 0;
}

static int write_metadata(struct preparing *p, char **location, struct err *err) {
    struct ice_table *t = p->t;
    struct buf bytes;
    uint64_t random[2];
    rng_bytes(random, sizeof random);
    buf_init(&bytes, SIZE_MAX);
    ice_metadata_put(&bytes, &t->metadata);
    /* <version>-<uuid>.metadata.json, as other catalogs' clients name them. */
    char *key = xasprintf(
        "%s/%s/metadata/%05" PRId64 "-%08x-%04x-4%03x-%04x-%012" PRIx64 ".metadata.json", t->space,
        t->name, t->metadata.last_sequence, (uint32_t)(random[0] >> 32),
        (uint32_t)(random[0] >> 16) & 0xffff, (uint32_t)random[0] & 0xfff,
        ((uint32_t)(random[1] >> 48) & 0x3fff) | 0x8000, random[1] & UINT64_C(0xffffffffffff));
    int rc = store_put(p->context->store, key, bytes.data, bytes.len, p->context->folders, err);
    if (rc == 0) {
        *location = url_of(p, key);
    }
    free(key);
    buf_release(&bytes);
    return rc;
}

static bool same_schema(const struct ice_schema *a, const struct ice_schema *b) {
    struct buf x, y;
    buf_init(&x, SIZE_MAX);
    buf_init(&y, SIZE_MAX);
    ice_schema_put_json(&x, a);
    ice_schema_put_json(&y, b);
    bool same = x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
    buf_release(&x);
    buf_release(&y);
    return same;
}

/* The table's first metadata. The part's first schema is its schema 0. */
static int make_table(struct preparing *p, struct err *err) {
    struct ice_table *t = p->t;
    struct ice_part_table *part = p->part;
    struct ice_spec spec = { 0 };
    struct ice_schema first;
    uint8_t uuid[16];
    struct buf text, where;
    CHECK(part && part->schema_count > 0);
    ice_spec_copy(&spec, &part->spec);
    ice_schema_copy(&first, &part->schemas[0]);
    rng_bytes(uuid, sizeof uuid);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    buf_init(&text, SIZE_MAX);
    buf_init(&where, SIZE_MAX);
    value_put_uuid(&text, uuid);
    char *key = xasprintf("%s/%s", t->space, t->name);
    store_put_url(&where, p->context->store, key);
    ice_metadata_first(&t->metadata, p->context->format_version, buf_cstr(&text), buf_cstr(&where),
                       now_ms(), &first, part->last_column_id, &spec);
    ice_metadata_set_property(&t->metadata, "tailrace.job", p->context->job);
    ice_metadata_set_property(&t->metadata, "write.delete.mode", "merge-on-read");
    ice_metadata_set_property(&t->metadata, "write.update.mode", "merge-on-read");
    ice_metadata_set_property(&t->metadata, "write.merge.mode", "merge-on-read");
    ice_metadata_set_property(&t->metadata, "write.parquet.compression-codec", "zstd");
    buf_clear(&text);
    ice_schema_put_name_mapping(&text, &part->schemas[0]);
    ice_metadata_set_property(&t->metadata, "schema.name-mapping.default", buf_cstr(&text));
    free(key);
    buf_release(&where);
    buf_release(&text);
    (void)err;
    return 0;
}

/* The part's schemas become the table's. COMMIT_CONFLICT: it was made for another table than this.
 */
static enum commit_outcome take_schemas(struct preparing *p, struct err *err) {
    struct ice_table *t = p->t;
    struct ice_part_table *part = p->part;
    uint32_t from = 0;
    if (!t->location) {
        if (make_table(p, err)) {
            return COMMIT_FAILED;
        }
        from = 1;
    } else if (part && !part->base) { /* made in this run, after the writer had looked */
        const struct ice_schema *now =
            ice_metadata_schema(&t->metadata, t->metadata.current_schema_id);
        if (t->loaded || part->schema_count == 0 || !same_schema(now, &part->schemas[0])) {
            return part->schema_count == 0 ? COMMITTED : COMMIT_CONFLICT;
        }
        from = 1;
    }
    for (uint32_t i = from; part && i < part->schema_count; i++) {
        struct ice_schema next;
        struct buf mapping;
        ice_schema_copy(&next, &part->schemas[i]);
        t->metadata.last_column_id = part->last_column_id;
        ice_metadata_add_schema(&t->metadata, &next);
        buf_init(&mapping, SIZE_MAX);
        ice_schema_put_name_mapping(&mapping, &part->schemas[i]);
        ice_metadata_set_property(&t->metadata, "schema.name-mapping.default", buf_cstr(&mapping));
        buf_release(&mapping);
    }
    return COMMITTED;
}

static void set_position(struct preparing *p) {
    const struct ice_commit_context *c = p->context;
    struct ice_metadata *m = &p->t->metadata;
    char text[24];
    ice_metadata_set_property(m, "tailrace.commit", c->commit_id);
    ice_metadata_set_property(m, "tailrace.position", c->position);
    snprintf(text, sizeof text, "%" PRIu64, c->epoch);
    ice_metadata_set_property(m, "tailrace.epoch", text);
    snprintf(text, sizeof text, "%" PRIu64, c->seq);
    ice_metadata_set_property(m, "tailrace.seq", text);
}

static int prepare(struct preparing *p, bool consistent, char **location, struct err *err) {
    struct ice_table *t = p->t;
    const struct ice_snapshot *now =
        t->location ? ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id) : NULL;
    p->sequence = t->metadata.last_sequence + 1;
    if (now && ice_live_load(&p->live, p->context->store, &t->metadata, now, err)) {
        return -1;
    }
    if (p->part && p->part->voids) {
        void_all(p);
    }
    if (p->part && (apply_dead(p, err) || apply_added(p, err))) {
        return -1;
    }
    set_position(p);
    if (make_snapshot(p, consistent, err)) {
        return -1;
    }
    if (t->location) {
        ice_metadata_log(&t->metadata, t->location, p->previous_ms, METADATA_FILES_KEPT,
                         p->context->garbage);
    }
    return ice_expire(&t->metadata, p->context->store, p->context->history_ms, p->context->garbage,
                      err) ||
                   write_metadata(p, location, err)
               ? -1
               : 0;
}

enum commit_outcome ice_table_prepare(struct ice_table *t, const struct ice_commit_context *context,
                                      struct ice_part_table *part, bool consistent, char **out,
                                      struct err *err) {
    bool is_new = !t->location;
    bool same_base = !part || (!part->base && !t->loaded) ||
                     (part->base && t->loaded && strcmp(part->base, t->loaded) == 0);
    if (!same_base) {
        return COMMIT_CONFLICT;
    }
    struct preparing p = { .t = t, .context = context, .part = part };
    p.previous_ms = is_new ? 0 : t->metadata.last_updated_ms;
    uint64_t random;
    rng_bytes(&random, sizeof random);
    p.snapshot_id = part ? part->snapshot_id : (int64_t)(random >> 1 | 1);
    ice_live_init(&p.live);
    enum commit_outcome outcome = take_schemas(&p, err);
    if (outcome == COMMITTED && prepare(&p, consistent, out, err)) {
        err_wrap(err, "table \"%s.%s\"", t->space, t->name);
        outcome = COMMIT_FAILED;
    }
    if (outcome == COMMITTED) {
        t->consistent = consistent;
        free(t->location);
        t->location = xstrdup(*out);
    }
    free(p.changes);
    free(p.manifest_dropped);
    free(p.manifests);
    ice_live_release(&p.live);
    return outcome;
}
