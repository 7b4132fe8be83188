/* The key index's life: made, opened, stored, void. Two checkpoints lie in its folder:
 *
 *   manifest.before   the one before the last
 *   manifest          the last; written beside, the old one made the one before, moved into place
 *
 * Runs never change, so both share those that no merge has replaced. A file that either names
 * stays. Whoever opens takes one of the two and removes what only the other needs. Thread: the
 * index's owner; key_index_stored and key_index_void: any. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/key_index_internal.h"

enum { FIXED_BYTES = 6 << 20, LIST_BYTES_MAX = 16 << 20 };
#define MANIFEST_BYTES_MAX (UINT64_C(1) << 30)

/* ---- life ---- */

struct key_shared *key_shared_new(uint64_t tier_bytes) {
    struct key_shared *s = xcalloc(1, sizeof *s);
    s->budget.max = tier_bytes;
    s->probes = xmalloc(KEY_FIND_PIECE * sizeof *s->probes);
    s->entries = xmalloc(KEY_PUT_PIECE * sizeof *s->entries);
    return s;
}

void key_shared_free(struct key_shared *s) {
    if (s) {
        CHECK(s->budget.held == 0);
        free(s->probes);
        free(s->entries);
        free(s);
    }
}

uint64_t key_shared_held(const struct key_shared *s) { return s->budget.held; }

static struct key_index *index_new(const struct key_index_config *config) {
    struct key_index *ix = xcalloc(1, sizeof *ix);
    CHECK(config->files && config->dir && config->read_key);
    ix->config = *config;
    ix->dir = xstrdup(config->dir);
    ix->config.dir = ix->dir;
    uint64_t bytes = config->memory_bytes > FIXED_BYTES ? config->memory_bytes - FIXED_BYTES : 0;
    ix->own = config->shared ? NULL : key_shared_new(UINT64_MAX);
    ix->shared = config->shared ? config->shared : ix->own;
    key_table_init(&ix->table, bytes / 5 * 4, &ix->shared->budget);
    ix->probes = ix->shared->probes;
    ix->entries = ix->shared->entries;
    ix->groups = map_new();
    ix->paths = map_new();
    ix->numbers = map_new();
    ix->next_run = 1;
    return ix;
}

static void forget_contents(struct key_index *ix) {
    ix->last.count = ix->before.count = 0;
    ix->next_run = 1;
    ix->next_file = 0;
    for (uint32_t i = 0; i < ix->run_count; i++) {
        key_index_unload(ix, ix->runs[i]);
    }
    ix->run_count = 0;
    ix->dropped_count = 0;
    map_clear(ix->groups, key_group_free);
    map_clear(ix->paths, free);
    map_clear(ix->numbers, NULL);
    key_table_clear(&ix->table);
    free(ix->tag);
    ix->tag = NULL;
}

void key_index_close(struct key_index *ix) {
    if (!ix) {
        return;
    }
    forget_contents(ix);
    map_free(ix->groups, NULL);
    map_free(ix->paths, NULL);
    map_free(ix->numbers, NULL);
    key_table_release(&ix->table);
    key_numbers_release(&ix->last);
    key_numbers_release(&ix->before);
    free(ix->garbage);
    key_numbers_release(&ix->doubts);
    key_numbers_release(&ix->asked);
    free(ix->dropped);
    key_shared_free(ix->own);
    free(ix->dir);
    free(ix);
}

static char *path_in(const char *dir, const char *name) { return xasprintf("%s/%s", dir, name); }

static const char *manifest_name(bool before) {
    return before ? KEY_MANIFEST_BEFORE : KEY_MANIFEST_NAME;
}

/* The manifest's bytes; FILES_ABSENT also for one that cannot be read: it is a cache. */
static enum files_result read_manifest(struct files *files, const char *dir, bool before,
                                       struct buf *out) {
    struct err ignored = ERR_INIT;
    struct file *file = NULL;
    uint64_t len = 0;
    size_t got = 0;
    char *path = path_in(dir, manifest_name(before));
    buf_clear(out);
    enum files_result result = files_open_read(files, path, &file, &ignored);
    free(path);
    if (result != FILES_OK) {
        return FILES_ABSENT;
    }
    if (file_size(file, &len, &ignored) || len > MANIFEST_BYTES_MAX || buf_reserve(out, len) ||
        file_read_at(file, 0, out->data, len, &got, &ignored) || got != len) {
        result = FILES_ABSENT;
    }
    out->len = got;
    file_close(file);
    return result;
}

void key_index_stored(struct files *files, const char *dir, bool before, struct buf *tag) {
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    if (read_manifest(files, dir, before, &bytes) != FILES_OK ||
        key_manifest_tag(bytes.data, bytes.len, tag)) {
        buf_clear(tag);
    }
    buf_release(&bytes);
}

/* Loads what the manifest says; false: absent or damaged, and the index may hold a part of it. */
static bool load(struct key_index *ix, const char *tag, bool before) {
    struct key_manifest_run named[KEY_RUNS_MAX];
    uint32_t count = 0;
    struct buf bytes;
    buf_init(&bytes, SIZE_MAX);
    bool well = read_manifest(ix->config.files, ix->dir, before, &bytes) == FILES_OK &&
                key_manifest_take(ix, bytes.data, bytes.len, named, &count) == 0 &&
                strcmp(ix->tag, tag) == 0;
    buf_release(&bytes);
    for (uint32_t i = 0; i < count && well; i++) {
        struct err ignored = ERR_INIT;
        struct key_run *run;
        well =
            key_index_load(ix->config.files, ix->dir, named[i].number, &run, &ignored) == FILES_OK;
        if (well) {
            run->stored = true;
            key_numbers_add(&ix->last, run->number);
            ix->runs[ix->run_count++] = run;
            well = run->len == named[i].bytes && run->footer_sum == named[i].sum;
        }
    }
    return well;
}

static bool is_run_name(const char *name, uint64_t *number) {
    char again[40];
    return sscanf(name, "run-%16" SCNx64 ".kix", number) == 1 &&
           snprintf(again, sizeof again, "run-%016" PRIx64 ".kix", *number) == 24 &&
           strcmp(again, name) == 0;
}

static bool is_loaded(const struct key_index *ix, uint64_t number) {
    for (uint32_t i = 0; i < ix->run_count; i++) {
        if (ix->runs[i]->number == number) {
            return true;
        }
    }
    return false;
}

/* Removes what the manifest does not name; all of it (ours only) if nothing was found. */
static int sweep(struct key_index *ix, bool found, struct err *err) {
    struct buf names;
    buf_init(&names, LIST_BYTES_MAX);
    enum files_result result = files_list(ix->config.files, ix->dir, &names, err);
    for (size_t at = 0; result == FILES_OK && at < names.len;) {
        const char *name = names.data + at;
        uint64_t number = 0;
        bool is_run = is_run_name(name, &number);
        bool goes = is_run ? !is_loaded(ix, number)
                           : strcmp(name, KEY_MANIFEST_NAME ".new") == 0 ||
                                 strcmp(name, KEY_MANIFEST_BEFORE) == 0 ||
                                 (!found && strcmp(name, KEY_MANIFEST_NAME) == 0);
        if (is_run && number < UINT64_MAX && number >= ix->next_run) {
            ix->next_run = number + 1;
        }
        if (goes) {
            char *path = xasprintf("%s/%s", ix->dir, name);
            result = files_unlink(ix->config.files, path, err);
            result = result == FILES_ABSENT ? FILES_OK : result;
            free(path);
        }
        at += strlen(name) + 1;
    }
    buf_release(&names);
    return result == FILES_FAILED ? -1 : 0;
}

/* The older manifest becomes the only one. */
static int keep_before(struct key_index *ix, struct err *err) {
    char *from = path_in(ix->dir, KEY_MANIFEST_BEFORE);
    char *to = path_in(ix->dir, KEY_MANIFEST_NAME);
    enum files_result moved = files_rename_over(ix->config.files, from, to, err);
    free(from);
    free(to);
    return moved == FILES_FAILED ? -1 : 0;
}

static int find_stored(struct key_index *ix, const char *const *tags, uint32_t count,
                       uint32_t *found, struct err *err) {
    for (*found = 0; *found < count; ++*found) {
        for (int before = 0; before < 2; before++) {
            if (load(ix, tags[*found], before)) {
                return before ? keep_before(ix, err) : 0;
            }
            forget_contents(ix);
        }
    }
    return 0;
}

int key_index_open_any(const struct key_index_config *config, const char *const *tags,
                       uint32_t count, uint32_t *found, struct key_index **out, struct err *err) {
    struct key_index *ix = index_new(config);
    *found = count;
    *out = NULL;
    if (files_mkdirs(config->files, ix->dir, 0750, err) != FILES_OK ||
        find_stored(ix, tags, count, found, err) || sweep(ix, *found < count, err)) {
        *found = count;
        key_index_close(ix);
        return -1;
    }
    *out = ix;
    return 0;
}

int key_index_open(const struct key_index_config *config, const char *tag, bool *found,
                   struct key_index **out, struct err *err) {
    uint32_t which;
    int rc = key_index_open_any(config, &tag, tag ? 1 : 0, &which, out, err);
    *found = rc == 0 && tag && which == 0;
    return rc;
}

/* In this order: its owner may just make the one the other. */
void key_index_void(struct files *files, const char *dir) {
    for (int before = 0; before < 2; before++) {
        struct err ignored = ERR_INIT;
        char *path = path_in(dir, manifest_name(before));
        if (files_unlink(files, path, &ignored) == FILES_FAILED) {
            err_clear(&ignored); /* the damage is still there to be found */
        }
        free(path);
    }
}

int key_index_damaged(struct key_index *ix, struct err *err) {
    ix->broken = true;
    key_index_void(ix->config.files, ix->dir);
    return err_set(err, ERR_REWIND, "index_damaged",
                   "key index \"%s\": a file of it is damaged; it will be built again", ix->dir);
}

/* ---- storing ---- */

/* The manifest on disk becomes the older one. */
static int move_manifest(struct key_index *ix, const char *path, struct err *err) {
    char *before = path_in(ix->dir, KEY_MANIFEST_BEFORE);
    enum files_result moved = files_rename_over(ix->config.files, path, before, err);
    free(before);
    ix->moved = moved != FILES_FAILED; /* absent: it was moved, and the answer lost */
    return ix->moved ? 0 : -1;
}

/* shift: what is stored is kept as the older one. */
static int write_manifest(struct key_index *ix, const char *tag, bool shift, struct err *err) {
    struct files *files = ix->config.files;
    struct buf bytes;
    struct file *file = NULL;
    char *fresh = path_in(ix->dir, KEY_MANIFEST_NAME ".new");
    char *path = path_in(ix->dir, KEY_MANIFEST_NAME);
    buf_init(&bytes, SIZE_MAX);
    key_manifest_put(ix, tag, &bytes);
    int result = files_unlink(files, fresh, err) == FILES_FAILED ? -1 : 0;
    if (result == 0) {
        enum files_result made = files_create_excl(files, fresh, &file, err);
        result = made == FILES_OK ? file_write(file, bytes.data, bytes.len, err)
                 : made == FILES_EXISTS
                     ? err_set(err, ERR_FATAL, "file_error",
                               "create \"%s\": somebody else writes there", fresh)
                     : -1;
        file_close(file);
    }
    if (result == 0 && shift && !ix->moved) {
        result = move_manifest(ix, path, err);
    }
    if (result == 0) {
        enum files_result moved = files_rename_over(files, fresh, path, err);
        result = moved == FILES_OK       ? 0
                 : moved == FILES_ABSENT ? err_set(err, ERR_FATAL, "file_error",
                                                   "rename \"%s\": somebody else removed it", fresh)
                                         : -1;
    }
    buf_release(&bytes);
    free(fresh);
    free(path);
    return result;
}

static bool has_number(const struct key_numbers *n, uint64_t number) {
    for (size_t i = 0; i < n->count; i++) {
        if (n->at[i] == number) {
            return true;
        }
    }
    return false;
}

static void collect_garbage(struct key_index *ix) {
    size_t kept = 0;
    for (size_t i = 0; i < ix->garbage_count; i++) {
        struct err ignored = ERR_INIT;
        if (has_number(&ix->before, ix->garbage[i].number)) {
            ix->garbage[kept++] = ix->garbage[i];
            continue;
        }
        char *path = key_index_run_path(ix->dir, ix->garbage[i].number);
        if (files_unlink(ix->config.files, path, &ignored) == FILES_FAILED) {
            err_clear(&ignored); /* the next open removes it */
        }
        free(path);
    }
    ix->garbage_count = kept;
}

/* What is stored now is that of tag; what was stored last is the older one, unless it had the same
 * tag. */
static void stored(struct key_index *ix, const char *tag, bool shift) {
    if (shift) {
        struct key_numbers older = ix->before;
        ix->before = ix->last;
        ix->last = older;
    }
    ix->last.count = 0;
    for (uint32_t i = 0; i < ix->run_count; i++) {
        key_numbers_add(&ix->last, ix->runs[i]->number);
    }
    ix->unstored = ix->moved = false;
    collect_garbage(ix);
    char *copy = xstrdup(tag);
    free(ix->tag);
    ix->tag = copy;
}

int key_index_checkpoint(struct key_index *ix, const char *tag, bool whole, struct err *err) {
    if (key_index_usable(ix, err)) {
        return -1;
    }
    if (!whole && !ix->unstored) {
        return 0;
    }
    if (key_index_settle_all(ix, err) ||
        (ix->table.count && (key_index_spill(ix, err) || key_index_merge_some(ix, false, err))) ||
        key_index_settle_all(ix, err) || (ix->table.count && key_index_spill(ix, err))) {
        return -1; /* what merging has brought together was settled, too */
    }
    for (uint32_t i = 0; i < ix->run_count; i++) {
        ix->runs[i]->stored = true; /* perhaps also when the answer to the rename is lost */
    }
    bool shift = ix->tag && strcmp(ix->tag, tag) != 0;
    if (write_manifest(ix, tag, shift, err)) {
        return -1;
    }
    stored(ix, tag, shift);
    return 0;
}

bool key_index_unstored(const struct key_index *ix) { return ix->unstored; }

const char *key_index_tag(const struct key_index *ix) { return ix->tag; }
