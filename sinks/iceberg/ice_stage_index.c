/* The key index's life beside its table: found as it was stored, followed to the table's present
 * snapshot, or built from the key columns; stored at seals. See ice_stage.h. Memory is bounded by
 * the index's own, whatever the table's size.
 *
 *   tag = "<snapshot>/<key>"; the snapshot is chosen at the seal, before it is committed
 *
 *   stored tag is of the present snapshot        it is the index
 *   ... of one of its ancestors                  rows that died since are taken out, files that
 *                                                left dropped, keys of new files put in
 *   ... of none (never committed, expired, of    built from all live rows
 *       another key), or none can be read
 *
 * Two states are stored, and the next one only once the last is seen to be committed: so whenever
 * the process is killed, one of the two is the table's present or followed to it. They are stored
 * again before their snapshots expire.
 *
 * Thread: the writer's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/log.h"
#include "sinks/iceberg/ice_stage_internal.h"

enum {
    STORE_CHANGES = 1 << 20, /* stored after so many, */
    LOOSE_MAX = 1024,        /* sealed files of a keyless table that are kept in mind */
    FORGET_FILES = 256,      /* after so many new ones, files that left the table are looked for */
    STORE_SEALS = 100,       /* stored after so many: positions that snapshots hold may be long, */
                             /* and old ones then expire by their bytes */
    STORE_BUILT = 4096,      /* stored at once where so many rows were put in to open it */
    STATES = 2,
};
#define COMMIT_US (INT64_C(120) * 1000 * 1000)
#define COMMIT_PAUSE_US (20 * 1000)
#define STORE_US (INT64_C(300) * 1000 * 1000) /* or after so long, */
/* ... or after so long: the snapshot must not expire before it is followed. */
#define STORE_LATEST_US (INT64_C(1200) * 1000 * 1000)
#define STORE_CHANGES_LATE 4096 /* ... if it is so many */

/* ---- rows in files ---- */

static int read_cells(struct ice_stage *st, uint64_t loc, const uint32_t *fields, uint32_t count,
                      struct lake_builder *builders, struct lake_column *columns, struct err *err) {
    for (uint32_t i = 0; i < count; i++) {
        lake_builder_begin(&builders[i], &st->schema.fields[fields[i]].type);
        if (ice_stage_read_cells(st, &loc, 1, fields[i], &builders[i], err)) {
            return -1;
        }
        lake_builder_column(&builders[i], &columns[i]);
    }
    return 0;
}

/* The key or the image of the row at loc. */
static int read_row(struct ice_stage *st, uint64_t loc, bool image, struct buf *out,
                    struct err *err) {
    uint32_t count = image ? st->image_count : st->key_count;
    const uint32_t *fields = image ? st->image_fields : st->key_fields;
    struct lake_builder *builders = xcalloc(count + 1, sizeof *builders);
    struct lake_column *columns = xcalloc(count + 1, sizeof *columns);
    for (uint32_t i = 0; i < count; i++) {
        lake_builder_init(&builders[i]);
    }
    int rc = read_cells(st, loc, fields, count, builders, columns, err);
    for (uint32_t i = 0; rc == 0 && !image && i < count; i++) {
        rc = columns[i].valid
                 ? err_set(err, ERR_FATAL, "key_absent",
                           "table \"%s\": a row in the lake has no value of its key", st->label)
                 : 0;
    }
    if (rc == 0 && image) {
        ice_stage_put_image(st, columns, 0, out);
    } else if (rc == 0) {
        ice_key_put(out, columns, st->key_forms, count, 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        lake_builder_release(&builders[i]);
    }
    free(builders);
    free(columns);
    return rc;
}

int ice_stage_read_key(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err) {
    return read_row(st, loc, false, out, err);
}

int ice_stage_read_image(struct ice_stage *st, uint64_t loc, struct buf *out, struct err *err) {
    return read_row(st, loc, true, out, err);
}

static int read_key(void *arg, uint64_t loc, struct buf *out, struct err *err) {
    struct ice_stage *st = arg;
    return read_row(st, loc, st->key_count == 0, out, err);
}

/* ---- tags ---- */

/* What of the key the hashes depend on. */
void ice_stage_put_key_sign(const struct ice_stage *st, struct buf *out) {
    bool keyless = st->key_count == 0;
    uint32_t count = keyless ? st->image_count : st->key_count;
    buf_puts(out, keyless ? "image" : "key");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t field = keyless ? st->image_fields[i] : st->key_fields[i];
        buf_putf(out, ",%d:%d", st->schema.fields[field].id, keyless ? 0 : (int)st->key_forms[i]);
    }
}

/* Columns that are added, whose ids are above all others, change no image. */
bool ice_stage_same_key(const struct ice_stage *st, const char *sign) {
    struct buf now;
    buf_init(&now, SIZE_MAX);
    ice_stage_put_key_sign(st, &now);
    size_t len = strlen(sign);
    bool same = strncmp(buf_cstr(&now), sign, len) == 0 &&
                (now.len == len || (st->key_count == 0 && now.data[len] == ','));
    buf_release(&now);
    return same;
}

static void put_tag(const struct ice_stage *st, struct buf *out, int64_t snapshot_id) {
    buf_putf(out, "%" PRId64 "/", snapshot_id);
    ice_stage_put_key_sign(st, out);
}

/* A stored snapshot, the last or the one before it, if it is of the present key; 0 = none. */
static int64_t stored_snapshot(const struct ice_stage *st, bool before, struct buf *tag) {
    buf_clear(tag);
    key_index_stored(st->config->env->files, st->config->index_dir, before, tag);
    const char *sign = strchr(buf_cstr(tag), '/');
    return sign && ice_stage_same_key(st, sign + 1) ? strtoll(buf_cstr(tag), NULL, 10) : 0;
}

/* ---- open ---- */

static int open_index(struct ice_stage *st, const char *const *tags, uint32_t count,
                      uint32_t *found, struct err *err) {
    struct key_index_config config = { .files = st->config->env->files,
                                       .dir = st->config->index_dir,
                                       .shared = st->tools->indexes,
                                       .memory_bytes = st->config->index_bytes,
                                       .read_key = read_key,
                                       .read_key_arg = st };
    key_index_close(st->index);
    st->index = NULL;
    st->changes = 0;
    st->seals = 0;
    st->stored_us = clock_mono_us();
    st->stored_snapshot = 0;
    st->stored_sure = true;
    return key_index_open_any(&config, tags, count, found, &st->index, err);
}

int ice_stage_forget_index(struct ice_stage *st, struct err *err) {
    uint32_t found;
    return open_index(st, NULL, 0, &found, err);
}

static int add_live_file(struct ice_stage *st, const struct ice_live *live,
                         const struct ice_live_file *f, struct err *err) {
    struct ice_bitmap *dead = ice_bitmap_new();
    int rc = ice_live_dead_rows(live, st->config->store, f, dead, err);
    if (rc == 0) {
        rc = ice_stage_scan_file(st, &(struct ice_scan){ .url = f->path, .dead = dead }, err);
    }
    ice_bitmap_free(dead);
    return rc;
}

/* All files, or those that `but` has not. */
static int add_files(struct ice_stage *st, const struct ice_live *live, const struct ice_live *but,
                     struct err *err) {
    void *value;
    for (size_t at = 0; map_next(live->files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *f = value;
        if (!(but && ice_live_find(but, f->path)) && add_live_file(st, live, f, err)) {
            return -1;
        }
    }
    return 0;
}

static int build(struct ice_stage *st, const struct ice_live *live, struct err *err) {
    return ice_stage_forget_index(st, err) || add_files(st, live, NULL, err) ? -1 : 0;
}

/* Rows of a file that were live then and are dead now. */
static int take_out_dead(struct ice_stage *st, const struct ice_live *then,
                         const struct ice_live_file *was, const struct ice_live *now,
                         const struct ice_live_file *is, struct err *err) {
    struct store *store = st->config->store;
    struct ice_bitmap *before = ice_bitmap_new();
    struct ice_bitmap *dead = ice_bitmap_new();
    int rc = ice_live_dead_rows(then, store, was, before, err) ||
                     ice_live_dead_rows(now, store, is, dead, err)
                 ? -1
                 : 0;
    if (rc == 0 && ice_bitmap_count(dead) > ice_bitmap_count(before)) {
        rc = ice_stage_scan_file(
            st,
            &(struct ice_scan){
                .url = is->path, .dead = dead, .before = before, .what = ICE_SCAN_DIED },
            err);
    }
    ice_bitmap_free(before);
    ice_bitmap_free(dead);
    return rc;
}

/* Keyless: the rows of a file that leaves are taken out one by one, as their chains have no holes.
 */
static int take_out_all(struct ice_stage *st, const struct ice_live *then,
                        const struct ice_live_file *was, struct err *err) {
    struct ice_bitmap *before = ice_bitmap_new();
    struct ice_bitmap *all = ice_bitmap_new();
    int rc = ice_live_dead_rows(then, st->config->store, was, before, err);
    for (uint64_t pos = 0; rc == 0 && pos < was->rows; pos++) {
        (void)ice_bitmap_add(all, pos);
    }
    if (rc == 0) {
        rc = ice_stage_scan_file(
            st,
            &(struct ice_scan){
                .url = was->path, .dead = all, .before = before, .what = ICE_SCAN_DIED },
            err);
    }
    ice_bitmap_free(before);
    ice_bitmap_free(all);
    return rc;
}

static int drop_file(struct ice_stage *st, const struct ice_live *then,
                     const struct ice_live_file *was, struct err *err) {
    uint32_t number;
    if ((st->key_count == 0 && take_out_all(st, then, was, err)) ||
        key_index_file(st->index, was->path, &number, err)) {
        return -1;
    }
    return key_index_drop(st->index, number, number, err);
}

/* From one snapshot to a later one. First what went, then what came: a moved key is both. */
static int follow(struct ice_stage *st, const struct ice_live *then, const struct ice_live *now,
                  struct err *err) {
    void *value;
    for (size_t at = 0; map_next(then->files, &at, NULL, NULL, &value);) {
        const struct ice_live_file *was = value;
        const struct ice_live_file *is = ice_live_find(now, was->path);
        if (is ? take_out_dead(st, then, was, now, is, err) : drop_file(st, then, was, err)) {
            return -1;
        }
    }
    return add_files(st, now, then, err);
}

static const struct ice_snapshot *ancestor(const struct ice_metadata *m,
                                           const struct ice_snapshot *now, int64_t id) {
    for (uint32_t i = 0; now && now->id != id && i <= m->snapshot_count; i++) {
        now = ice_metadata_snapshot(m, now->parent_id);
    }
    return now && now->id == id ? now : NULL;
}

/* False: the stored state cannot be used, whatever the reason: it is a cache. If building fails,
 * too, its error is told. */
static bool try_follow(struct ice_stage *st, const struct ice_metadata *m,
                       const struct ice_snapshot *stored, const struct ice_live *now) {
    struct ice_live then;
    struct err ignored = ERR_INIT;
    ice_live_init(&then);
    bool followed = ice_live_load(&then, st->config->store, m, stored, &ignored) == 0 &&
                    follow(st, &then, now, &ignored) == 0;
    err_clear(&ignored);
    ice_live_release(&then);
    return followed;
}

/* The stored states that are the snapshot, or that it follows. */
struct states {
    struct buf tags[STATES];
    const char *texts[STATES];
    const struct ice_snapshot *at[STATES];
    uint32_t count;
};

static void look_at_states(const struct ice_stage *st, const struct ice_metadata *m,
                           const struct ice_snapshot *now, struct states *out) {
    *out = (struct states){ 0 };
    for (int before = 0; before < STATES; before++) {
        struct buf *tag = &out->tags[before];
        buf_init(tag, SIZE_MAX);
        int64_t id = stored_snapshot(st, before == 1, tag);
        const struct ice_snapshot *at = id ? ancestor(m, now, id) : NULL;
        if (at) {
            out->texts[out->count] = buf_cstr(tag);
            out->at[out->count++] = at;
        }
    }
}

static void states_release(struct states *s) {
    for (int i = 0; i < STATES; i++) {
        buf_release(&s->tags[i]);
    }
}

static int follow_or_build(struct ice_stage *st, const struct ice_metadata *m,
                           const struct ice_snapshot *then, const struct ice_snapshot *now,
                           struct err *err) {
    struct ice_live live;
    ice_live_init(&live);
    int rc = ice_live_load(&live, st->config->store, m, now, err);
    if (rc == 0 && !(then && try_follow(st, m, then, &live))) {
        rc = build(st, &live, err);
        if (rc == 0 && st->config->env->log && st->changes > 0) {
            log_info(st->config->env->log, "stage", "index_built",
                     "the index of table \"%s\" was made from the keys of %" PRIu64 " rows",
                     st->label, st->changes);
        }
    }
    ice_live_release(&live);
    return rc;
}

static int store(struct ice_stage *st, int64_t snapshot_id, bool sure, struct err *err);

static int find_or_build(struct ice_stage *st, const struct ice_metadata *m,
                         const struct ice_snapshot *now, struct err *err) {
    struct states states;
    uint32_t found;
    look_at_states(st, m, now, &states);
    int rc = open_index(st, states.texts, states.count, &found, err);
    const struct ice_snapshot *then = rc == 0 && found < states.count ? states.at[found] : NULL;
    if (then) {
        int64_t age_us = clock_wall_us() - then->timestamp_ms * 1000;
        st->stored_us -= age_us > 0 ? age_us : 0;
        st->stored_snapshot = then->id;
    }
    if (rc == 0 && then != now) {
        rc = follow_or_build(st, m, then, now, err);
    }
    if (rc == 0 && st->changes >= STORE_BUILT) {
        rc = store(st, now->id, true, err);
    }
    states_release(&states);
    return rc;
}

int ice_stage_open_index(struct ice_stage *st, const struct ice_metadata *metadata,
                         struct err *err) {
    const struct ice_snapshot *now =
        metadata ? ice_metadata_snapshot(metadata, metadata->current_snapshot_id) : NULL;
    return now ? find_or_build(st, metadata, now, err) : ice_stage_forget_index(st, err);
}

int ice_stage_need_index(struct ice_stage *st, struct err *err) {
    if (LIKELY(st->index != NULL)) {
        return 0;
    }
    CHECK(st->key_count > 0);
    if (ice_stage_open_index(st, st->base_metadata, err)) {
        key_index_close(st->index);
        st->index = NULL;
        return err_wrap(err, "table \"%s\"", st->label);
    }
    ice_stage_forget_base(st);
    return 0;
}

void ice_stage_forget_base(struct ice_stage *st) {
    if (st->base_metadata) {
        ice_metadata_release(st->base_metadata);
        free(st->base_metadata);
        st->base_metadata = NULL;
    }
}

int ice_stage_load_metadata(struct ice_stage *st, const char *location, struct ice_metadata *out,
                            struct err *err) {
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(st->config->store, location, &bytes, err);
    if (rc == 0) {
        rc = ice_metadata_parse(bytes.data, bytes.len, out, err);
    }
    buf_release(&bytes);
    return rc;
}

/* ---- keyless: files that were sealed before the index was there ---- */

/* The table as it is at present. */
static int look(struct ice_stage *st, struct ice_metadata *m, bool *exists, struct err *err) {
    char *location = NULL;
    *exists = false;
    if (st->config->locate(st->config->locate_arg, st->space, st->name, &location, err)) {
        return -1;
    }
    int rc = location ? ice_stage_load_metadata(st, location, m, err) : 0;
    *exists = rc == 0 && location;
    free(location);
    return rc;
}

/* ... and what is live in it; *live is empty where it does not exist. */
static int load_present(struct ice_stage *st, struct ice_metadata *m, bool *exists,
                        struct ice_live *live, struct err *err) {
    if (look(st, m, exists, err)) {
        return -1;
    }
    if (!*exists) {
        return 0;
    }
    return ice_live_load(live, st->config->store, m,
                         ice_metadata_snapshot(m, m->current_snapshot_id), err);
}

/* Those that are committed need no more be kept in mind. */
static int prune_loose(struct ice_stage *st, struct err *err) {
    struct ice_metadata m;
    struct ice_live live;
    bool exists;
    ice_live_init(&live);
    int rc = load_present(st, &m, &exists, &live, err);
    if (rc == 0) {
        struct buf kept;
        uint32_t count = 0;
        buf_init(&kept, SIZE_MAX);
        for (size_t at = 0; at < st->loose.len; at += strlen(st->loose.data + at) + 1) {
            const char *url = st->loose.data + at;
            if (ice_live_find(&live, url)) {
                st->base_void = false; /* what made them void is committed, too */
            } else {
                buf_put(&kept, url, strlen(url) + 1);
                count++;
            }
        }
        buf_release(&st->loose);
        st->loose = kept;
        st->loose_count = count;
    }
    if (exists) {
        ice_metadata_release(&m);
    }
    ice_live_release(&live);
    return rc;
}

int ice_stage_keep_loose(struct ice_stage *st, struct err *err) {
    if (st->index || st->key_count > 0) {
        return 0;
    }
    for (uint32_t i = 0; i < st->added_count; i++) {
        buf_put(&st->loose, st->added[i].path, strlen(st->added[i].path) + 1);
        st->loose_count++;
    }
    return st->loose_count >= LOOSE_MAX ? prune_loose(st, err) : 0;
}

static int add_loose(struct ice_stage *st, const struct ice_live *live, struct err *err) {
    for (size_t at = 0; at < st->loose.len; at += strlen(st->loose.data + at) + 1) {
        const char *url = st->loose.data + at;
        if (!ice_live_find(live, url) &&
            ice_stage_scan_file(st, &(struct ice_scan){ .url = url }, err)) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < st->added_count; i++) {
        if (ice_stage_scan_file(st, &(struct ice_scan){ .url = st->added[i].path }, err) ||
            key_index_file(st->index, st->added[i].path, &st->added_numbers[i], err)) {
            return -1;
        }
    }
    return 0;
}

/* Nothing has died since the stage was opened: else there would be an index. */
int ice_stage_open_late_index(struct ice_stage *st, struct err *err) {
    struct ice_metadata m;
    struct ice_live live;
    bool exists = false;
    ice_live_init(&live);
    int rc = ice_stage_finish_files(st, err);
    if (rc == 0 && !st->base_void) {
        rc = load_present(st, &m, &exists, &live, err);
    }
    if (rc == 0) {
        rc = ice_stage_open_index(st, exists ? &m : NULL, err);
    }
    if (rc == 0) {
        rc = add_loose(st, &live, err);
    }
    if (exists) {
        ice_metadata_release(&m);
    }
    ice_live_release(&live);
    if (rc) {
        key_index_close(st->index);
        st->index = NULL;
        return -1;
    }
    buf_clear(&st->loose);
    st->loose_count = 0;
    return 0;
}

/* ---- another key ---- */

/* The table as it is once all that was sealed is committed. The commit task does that without us.
 */
static int wait_for_commit(struct ice_stage *st, struct ice_metadata *m, bool *exists,
                           struct err *err) {
    int64_t deadline = clock_mono_us() + COMMIT_US;
    for (;;) {
        if (look(st, m, exists, err)) {
            return -1;
        }
        if (!st->last_snapshot || (*exists && ice_metadata_snapshot(m, st->last_snapshot))) {
            return 0;
        }
        if (*exists) {
            ice_metadata_release(m);
            *exists = false;
        }
        if (clock_mono_us() > deadline) {
            return err_set(err, ERR_REWIND, "key_changed",
                           "table \"%s\": its key changed, and what came before is not committed",
                           st->label);
        }
        clock_sleep_until_us(clock_mono_us() + COMMIT_PAUSE_US);
    }
}

/* A schema change ends a commit: so all rows under the old key are in the table, or soon are. */
int ice_stage_change_key(struct ice_stage *st, struct err *err) {
    struct ice_metadata m;
    bool exists;
    if (st->touched) {
        err_set(err, ERR_FATAL, "key_changed",
                "table \"%s\": its key became another while rows of it were staged", st->label);
        return err_cure(err, "start again: the index is then made by the new one");
    }
    if (wait_for_commit(st, &m, &exists, err)) {
        return -1;
    }
    int rc = 0;
    if (st->key_count > 0) {
        rc = ice_stage_open_index(st, exists ? &m : NULL, err);
    } else {
        key_index_close(st->index); /* the first row to go makes another */
        st->index = NULL;
        st->base_void = !exists;
        buf_clear(&st->loose);
        st->loose_count = 0;
    }
    if (exists) {
        ice_metadata_release(&m);
    }
    return rc;
}

/* ---- stored ---- */

/* sure: the snapshot is committed. */
static int store(struct ice_stage *st, int64_t snapshot_id, bool sure, struct err *err) {
    struct buf tag;
    buf_init(&tag, SIZE_MAX);
    put_tag(st, &tag, snapshot_id);
    int rc = key_index_checkpoint(st->index, buf_cstr(&tag), true, err);
    buf_release(&tag);
    if (rc == 0) {
        st->changes = 0;
        st->seals = 0;
        st->stored_us = clock_mono_us();
        st->stored_snapshot = snapshot_id;
        st->stored_sure = sure;
    }
    return rc;
}

/* Is what was stored last committed? Then another state may be stored besides. Commits are made in
 * their order: one of ours after it says so, too, when it has expired itself. What cannot be
 * looked at now is looked at again. */
static bool is_stored_sure(struct ice_stage *st, int64_t later) {
    struct ice_metadata m;
    struct err ignored = ERR_INIT;
    bool exists = false;
    if (!st->stored_sure && look(st, &m, &exists, &ignored)) {
        err_clear(&ignored);
    }
    if (exists) {
        st->stored_sure = ice_metadata_snapshot(&m, st->stored_snapshot) ||
                          (later && ice_metadata_snapshot(&m, later));
        ice_metadata_release(&m);
    }
    return st->stored_sure;
}

/* Half of the time for which snapshots are kept, at most: a stored one must not expire. */
static int64_t store_latest_us(const struct ice_stage *st) {
    int64_t half = st->config->history_ms * 1000 / 2;
    return half > 0 && half < STORE_LATEST_US ? half : STORE_LATEST_US;
}

static bool is_store_due(const struct ice_stage *st) {
    int64_t age = clock_mono_us() - st->stored_us;
    return st->changes >= STORE_CHANGES || (st->changes >= STORE_CHANGES_LATE && age >= STORE_US) ||
           (st->changes > 0 && (age >= store_latest_us(st) || st->seals >= STORE_SEALS));
}

/* Paths of files that left the table, and are older than a commit that is surely in it. */
static int forget_files(struct ice_stage *st, struct err *err) {
    struct ice_metadata m;
    struct ice_live live;
    bool exists;
    uint32_t number;
    const char *path;
    ice_live_init(&live);
    int rc = load_present(st, &m, &exists, &live, err);
    bool sure = rc == 0 && exists && ice_metadata_snapshot(&m, st->forget_snapshot);
    for (size_t at = 0; sure && key_index_next_path(st->index, &at, &number, &path);) {
        if (number <= st->forget_number && !ice_live_find(&live, path)) {
            key_index_forget(st->index, number);
        }
    }
    if (rc == 0 && exists) {
        ice_metadata_release(&m);
    }
    ice_live_release(&live);
    return rc;
}

/* This seal's files; when they are many, what the table has lost is forgotten up to the seal
 * before. */
static int note_files(struct ice_stage *st, struct err *err) {
    int rc = 0;
    st->files_noted += st->added_count;
    if (st->files_noted >= FORGET_FILES) {
        rc = st->forget_snapshot ? forget_files(st, err) : 0;
        st->files_noted = 0;
        st->forget_snapshot = 0;
    }
    for (uint32_t i = 0; !st->forget_snapshot && i < st->added_count; i++) {
        uint32_t number = st->added_numbers[i];
        st->forget_number = number > st->forget_number ? number : st->forget_number;
    }
    if (!st->forget_snapshot && st->added_count) {
        st->forget_snapshot = st->sealed_snapshot;
    }
    return rc;
}

int ice_stage_tag_index(struct ice_stage *st, int64_t snapshot_id, struct err *err) {
    int64_t previous = st->last_snapshot;
    st->sealed_snapshot = st->last_snapshot = snapshot_id;
    if (!st->index) {
        return 0;
    }
    st->seals++;
    if (note_files(st, err)) {
        return -1;
    }
    bool due = is_store_due(st) || key_index_unstored(st->index);
    return due && is_stored_sure(st, previous) ? store(st, snapshot_id, false, err) : 0;
}

uint64_t ice_stage_index_bytes(const struct ice_stage *st) {
    return st->index ? key_index_tier_bytes(st->index) : 0;
}

int ice_stage_yield_index(struct ice_stage *st, struct err *err) {
    return st->index ? key_index_yield(st->index, err) : 0;
}

uint64_t ice_tools_index_bytes(const struct ice_tools *tools) {
    return key_shared_held(tools->indexes);
}

void ice_stage_void_index(const struct ice_stage_config *config, const struct err *err) {
    if (strcmp(err->code, "index_damaged") == 0) {
        key_index_void(config->env->files, config->index_dir);
    }
}

void ice_stage_store_last(struct ice_stage *st) {
    struct err ignored = ERR_INIT;
    if (st->index && st->sealed_snapshot && st->changes > 0 &&
        is_stored_sure(st, st->sealed_snapshot) &&
        store(st, st->sealed_snapshot, false, &ignored)) {
        err_clear(&ignored); /* it is a cache */
    }
}
