/* The next snapshot of a table, written and not yet named by anybody. See ice_table.h.
 *
 *   part -> schemas -> dead rows   one delete file a data file  (ice_prepare_deletes.c)
 *        -> manifests -> list      few, the small ones together (ice_prepare_manifests.c)
 *        -> expiry -> metadata file
 *
 * Thread: the commit task. Deletes nothing: what no snapshot names any more goes to
 * context->garbage, what was written to context->made. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/value.h"
#include "sinks/iceberg/ice_expire.h"
#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/ice_prepare_internal.h"

enum { METADATA_FILES_KEPT = 20 };

char *prepare_key(const struct preparing *p, const char *kind, const char *ending) {
    uint64_t random[2];
    rng_bytes(random, sizeof random);
    return xasprintf("%s/%s/%s-%05" PRIu64 "-%016" PRIx64 "%016" PRIx64 "%s", p->t->space,
                     p->t->name, kind, p->context->epoch, random[0], random[1], ending);
}

char *prepare_url(const struct preparing *p, const char *key) {
    struct buf url;
    buf_init(&url, SIZE_MAX);
    store_put_url(&url, p->context->store, key);
    char *copy = xstrdup(buf_cstr(&url));
    buf_release(&url);
    return copy;
}

void prepare_note_made(const struct preparing *p, const char *url) {
    buf_put(p->context->made, url, strlen(url) + 1);
}

/* Writes a small object and gives its URL, in arena. */
int prepare_put(struct preparing *p, const char *kind, const char *ending, const struct buf *bytes,
                struct arena *arena, const char **url, struct err *err) {
    char *key = prepare_key(p, kind, ending);
    int rc = store_put(p->context->store, key, bytes->data, bytes->len, p->context->folders, err);
    if (rc == 0) {
        char *u = prepare_url(p, key);
        prepare_note_made(p, u);
        *url = arena_strdup(arena, u);
        free(u);
    }
    free(key);
    return rc;
}

static void say(json_t *summary, const char *key, const char *value) {
    json_object_set_new(summary, key, json_string(value));
}

static void say_count(json_t *summary, const char *key, uint64_t n) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, n);
    json_object_set_new(summary, key, json_string(text));
}

/* What is live after this snapshot. Counted, not carried on from the snapshot before: that may be
 * somebody's who says no totals, or wrong ones. */
struct totals {
    uint64_t files, rows, deletes, dead_rows, bytes;
};

static void count_delete(struct totals *t, const struct ice_live_delete *d) {
    if (d) {
        t->deletes++;
        t->dead_rows += (uint64_t)d->entry.file.rows;
        t->bytes += (uint64_t)d->entry.file.bytes;
    }
}

static struct totals count_live(const struct preparing *p) {
    struct totals t = { 0 };
    void *value;
    for (size_t at = 0; map_next(p->live.files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *f = value;
        if (!f->gone) {
            t.files++;
            t.rows += f->rows;
            t.bytes += (uint64_t)f->bytes;
            count_delete(&t, f->dead);
            count_delete(&t, f->dead_too);
        }
    }
    for (uint32_t i = 0; i < p->live.loose_count; i++) {
        count_delete(&t, p->live.loose[i]);
    }
    return t;
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
    say_if_any(s, "removed-dvs", p->removed_vectors);
    say_if_any(s, "removed-position-delete-files", p->removed_deletes - p->removed_vectors);
    say_if_any(s, "removed-position-deletes", p->removed_dead_rows);
    say_if_any(s, "added-files-size", p->added_bytes);
    say_if_any(s, "removed-files-size", p->removed_bytes);
    struct totals t = count_live(p);
    say_count(s, "total-data-files", t.files);
    say_count(s, "total-records", t.rows);
    say_count(s, "total-delete-files", t.deletes);
    say_count(s, "total-position-deletes", t.dead_rows);
    say_count(s, "total-files-size", t.bytes);
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
    if (prepare_manifests(p, err) || prepare_list(p, &snapshot, err)) {
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
    int64_t number;
    if (ice_table_next_number(t, p->context->store, &number, err)) {
        return -1;
    }
    rng_bytes(random, sizeof random);
    buf_init(&bytes, SIZE_MAX);
    ice_metadata_put(&bytes, &t->metadata);
    t->bytes = bytes.len;
    /* <number>-<uuid>.metadata.json, as other catalogs' clients name them. */
    char *key = xasprintf(
        "%s/%s/metadata/%05" PRId64 "-%08x-%04x-4%03x-%04x-%012" PRIx64 ".metadata.json", t->space,
        t->name, number, (uint32_t)(random[0] >> 32), (uint32_t)(random[0] >> 16) & 0xffff,
        (uint32_t)random[0] & 0xfff, ((uint32_t)(random[1] >> 48) & 0x3fff) | 0x8000,
        random[1] & UINT64_C(0xffffffffffff));
    int rc = store_put(p->context->store, key, bytes.data, bytes.len, p->context->folders, err);
    if (rc == 0) {
        *location = prepare_url(p, key);
        prepare_note_made(p, *location);
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
static void make_table(struct preparing *p) {
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
    ice_metadata_set_order(&t->metadata, &part->order);
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
    t->has_metadata = true;
}

static void add_schema(struct ice_table *t, const struct ice_part_table *part, uint32_t i) {
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

static enum commit_outcome dropped(const struct ice_table *t, struct err *err) {
    err_set(err, ERR_FATAL, "table_dropped", "the lake's table \"%s.%s\" was dropped by somebody",
            t->space, t->name);
    err_cure(err, "put it back as it was: without it the rows that did not change since are lost");
    return COMMIT_FAILED;
}

/* The part's schemas become the table's. COMMIT_CONFLICT: it was made for another table than this.
 */
static enum commit_outcome take_schemas(struct preparing *p, struct err *err) {
    struct ice_table *t = p->t;
    struct ice_part_table *part = p->part;
    uint32_t from = 0;
    if (!t->location) {
        if (t->uuid && !(part && part->voids)) {
            return dropped(t, err); /* unless all that it had is void */
        }
        make_table(p);
        from = 1;
    } else if (part && part->first) { /* made in this run, after the writer had looked */
        const struct ice_schema *now =
            ice_metadata_schema(&t->metadata, t->metadata.current_schema_id);
        if (part->schema_count == 0 || !same_schema(now, &part->schemas[0])) {
            return COMMIT_CONFLICT;
        }
        from = 1;
    }
    for (uint32_t i = from; part && i < part->schema_count; i++) {
        add_schema(t, part, i);
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

/* The table has rows from before a column's type changed, which only lack the column's new field
 * because they are to be void: as long as they are not, the table is not consistent. */
#define AWAITS_GENERATION "tailrace.awaits-generation"

static bool has_rows(const struct preparing *p) {
    void *value;
    for (size_t at = 0; map_next(p->live.files, &at, NULL, NULL, &value);) {
        if (!((const struct ice_live_file *)value)->gone) {
            return true;
        }
    }
    return false;
}

/* Before the part's own files are live. */
static int note_replaced(struct preparing *p, bool consistent, struct err *err) {
    struct ice_metadata *m = &p->t->metadata;
    const struct ice_part_table *part = p->part;
    if (part && part->voids) {
        ice_metadata_set_property(m, AWAITS_GENERATION, NULL);
    }
    if (part && part->replaced && (part->replaced_staged || has_rows(p))) {
        ice_metadata_set_property(m, AWAITS_GENERATION, "true");
    }
    if (!consistent || !ice_metadata_property(m, AWAITS_GENERATION)) {
        return 0;
    }
    err_set(err, ERR_FATAL, "type_change",
            "a column has another type than in the lake, and its rows were not read again: at the "
            "source nothing had changed");
    return err_cure(err, "give the option text= as it was, or start the job with "
                         "on_type_change=new_column");
}

/* Of a table all of whose rows are void it only says what becomes garbage: then a manifest may be
 * lost, and what that named stays behind. And where no more was to be said than that the table is
 * not consistent, a table that nobody can read may stay as it is: p->unreadable. */
static int load_live(struct preparing *p, bool consistent, struct err *err) {
    struct ice_table *t = p->t;
    const struct ice_snapshot *now =
        t->location ? ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id) : NULL;
    if (!now || ice_live_load(&p->live, p->context->store, &t->metadata, now, err) == 0) {
        return 0;
    }
    p->unreadable = !p->part && !consistent && err->kind == ERR_FATAL;
    if (!(p->part && p->part->voids) || err->kind != ERR_FATAL) {
        return -1;
    }
    if (p->context->env->log) {
        log_warn(p->context->env->log, "commit", "garbage_left", "table \"%s.%s\": %s", t->space,
                 t->name, err->text);
    }
    err_clear(err);
    ice_live_release(&p->live);
    ice_live_init(&p->live);
    return 0;
}

static int prepare(struct preparing *p, bool consistent, char **location, struct err *err) {
    struct ice_table *t = p->t;
    p->sequence = t->metadata.last_sequence + 1;
    if (load_live(p, consistent, err)) {
        return -1;
    }
    if (p->part && p->part->voids) {
        prepare_void(p);
    }
    if (note_replaced(p, consistent, err)) {
        return -1;
    }
    if (p->part) {
        prepare_added(p);
    }
    if (p->part && prepare_dead(p, err)) {
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

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

/* What the writer looked at is what this run began with, or has made without rows since. All its
 * parts are upon the same. */
static bool is_made_upon(const struct ice_table *t, const struct ice_part_table *part) {
    if (t->written || same_text(part->base, t->loaded)) {
        return same_text(part->base, t->written ? t->base : t->loaded);
    }
    for (size_t at = 0; part->base && at < t->empty.len; at += strlen(t->empty.data + at) + 1) {
        if (strcmp(part->base, t->empty.data + at) == 0) {
            return true;
        }
    }
    return false;
}

static void prepared(struct ice_table *t, const struct ice_part_table *part, bool consistent,
                     char *location) {
    t->next = location;
    t->next_consistent = consistent;
    t->next_written = part && (part->base || part->first);
    t->next_base = t->next_written && part->base ? xstrdup(part->base) : NULL;
}

enum commit_outcome ice_table_prepare(struct ice_table *t, const struct ice_commit_context *context,
                                      struct ice_part_table *part, bool consistent,
                                      struct err *err) {
    CHECK(!t->next);
    if (ice_table_read(t, context->store, context->job, err)) {
        return COMMIT_FAILED;
    }
    if (part && !is_made_upon(t, part)) {
        return COMMIT_CONFLICT;
    }
    struct preparing p = { .t = t, .context = context, .part = part };
    p.previous_ms = t->location ? t->metadata.last_updated_ms : 0;
    uint64_t random;
    rng_bytes(&random, sizeof random);
    p.snapshot_id = part ? part->snapshot_id : (int64_t)(random >> 1 | 1);
    ice_live_init(&p.live);
    char *location = NULL;
    enum commit_outcome outcome = take_schemas(&p, err);
    if (outcome == COMMITTED && prepare(&p, consistent, &location, err)) {
        if (p.unreadable) {
            err_clear(err);
            ice_live_release(&p.live);
            return COMMITTED;
        }
        char *label = xasprintf("%s.%s", t->space, t->name);
        err_wrap(err, "table \"%s\"", label);
        ice_cure_lost_file(label, err);
        free(label);
        outcome = COMMIT_FAILED;
    }
    if (outcome == COMMITTED) {
        prepared(t, part, consistent, location);
    }
    free(p.changes);
    free(p.manifest_dropped);
    free(p.manifests);
    ice_live_release(&p.live);
    return outcome;
}
