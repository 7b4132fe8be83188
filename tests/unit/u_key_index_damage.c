/* The key index on a disk that lies and fails: whatever byte of its folder is changed, it is not
 * found, or says that it is damaged, or every answer is right; whatever call fails, it fails with
 * it, and the same call made again goes on as if nothing had been. */
#include "tests/unit/u_key_index.h"
#include "tests/unit/u_sink_faulty.h"

/* ---- a folder's files, to be put back ---- */

struct saved {
    char name[64];
    char *bytes;
    size_t len;
};
struct folder {
    const char *dir;
    struct saved files[40];
    uint32_t count;
};

static const char *folder_path(const struct folder *f, const char *name) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return path;
}
static void folder_save(struct folder *f, const char *dir) {
    struct err err = ERR_INIT;
    struct buf names;
    *f = (struct folder){ .dir = dir };
    buf_init(&names, 100000);
    CHECK(files_list(files_os(), dir, &names, &err) == FILES_OK);
    for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
        struct saved *s = &f->files[f->count++];
        CHECK(f->count <= ARRAY_COUNT(f->files));
        struct file *file;
        uint64_t len;
        snprintf(s->name, sizeof s->name, "%s", names.data + at);
        CHECK(files_open_read(files_os(), folder_path(f, s->name), &file, &err) == FILES_OK);
        CHECK(file_size(file, &len, &err) == 0);
        s->bytes = xmalloc(len + 1);
        CHECK(file_read_at(file, 0, s->bytes, len, &s->len, &err) == 0 && s->len == len);
        file_close(file);
    }
    buf_release(&names);
}
static void folder_write(const struct folder *f, const char *name, const char *bytes, size_t len) {
    FILE *file = fopen(folder_path(f, name), "wb");
    CHECK(file && fwrite(bytes, 1, len, file) == len);
    fclose(file);
}
static void folder_restore(const struct folder *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        folder_write(f, f->files[i].name, f->files[i].bytes, f->files[i].len);
    }
}
static void folder_release(struct folder *f) {
    for (uint32_t i = 0; i < f->count; i++) {
        free(f->files[i].bytes);
    }
}

/* An index of several runs, with collisions, tombs, dropped files and paths, stored. */
static bool grown(struct world *w, struct folder *f) {
    struct err err = ERR_INIT;
    bool found, wrong = false;
    int result = key_index_open(&w->config, NULL, &found, &w->ix, &err);
    for (uint32_t k = 0; k < w->keys * 2 / 3 && result == 0; k++) {
        result = world_append(w, k, &err);
    }
    result = result ? result : key_index_merge(w->ix, &err);
    for (int i = 0; i < 2 && result == 0; i++) {
        for (uint32_t j = 0; j < w->keys / 40 && result == 0; j++) {
            uint32_t key = (uint32_t)world_draw(w, w->keys);
            result =
                j % 3 ? world_upsert(w, key, &wrong, &err) : world_remove(w, key, &wrong, &err);
        }
        uint32_t number;
        result = result ? result : key_index_file(w->ix, kit_text("data/%d", i), &number, &err);
        result = result ? result : world_checkpoint(w, true, &err);
    }
    world_next_file(w);
    result = result ? result : world_drop(w, 1, 1, &err);
    result = result ? result : world_checkpoint(w, true, &err);
    struct key_index_size size;
    key_index_size(w->ix, &size);
    while (size.runs < 2 && result == 0) { /* they have just been merged */
        result = world_upsert(w, (uint32_t)world_draw(w, w->keys), &wrong, &err);
        result = result ? result : world_checkpoint(w, true, &err);
        key_index_size(w->ix, &size);
    }
    bool well = EXPECT_EQ_INT(result, 0) && EXPECT_TRUE(size.runs > 1) && EXPECT_TRUE(!wrong);
    found = false; /* and the checkpoint before the last is gone */
    well = well && EXPECT_EQ_INT(world_restart(w, &found, &err), 0) && EXPECT_TRUE(found);
    key_index_close(w->ix);
    w->ix = NULL;
    folder_save(f, w->config.dir);
    return well;
}

enum outcome { NOT_FOUND, DAMAGED, RIGHT, WRONG };
static enum outcome try_folder(struct world *w) {
    struct err err = ERR_INIT;
    bool found = false;
    enum outcome outcome = NOT_FOUND;
    if (world_restart(w, &found, &err)) {
        return WRONG;
    }
    if (found) {
        int wrong = world_verify(w, &err);
        outcome = wrong == 0 ? RIGHT : wrong > 0 ? WRONG : DAMAGED;
        if (outcome == DAMAGED) {
            bool says = err.kind == ERR_REWIND && strcmp(err.code, "index_damaged") == 0;
            if (!says || world_restart(w, &found, &err) || found) {
                outcome = WRONG; /* it must be gone after it was seen */
            }
        }
    }
    return outcome;
}

TEST(key_index_damaged_bytes_are_noticed_wherever_they_are) {
    struct world w;
    struct folder f;
    unsigned seen[4] = { 0 };
    char says[200];
    world_init(&w, files_os(), kit_temp_dir(), 3000, 13, 11);
    bool well = grown(&w, &f) && EXPECT_EQ_INT(try_folder(&w), RIGHT);
    for (uint32_t i = 0; i < f.count && well; i++) {
        struct saved *s = &f.files[i];
        bool is_run = strncmp(s->name, "run-", 4) == 0;
        for (size_t at = 0; at < s->len && well; at++) {
            size_t from_end = s->len - at;
            /* every byte of the tables at the ends, each so many of the rest */
            if (is_run ? from_end > 300 && at % 211 : at > 300 && from_end > 300 && at % 37) {
                continue;
            }
            folder_restore(&f);
            s->bytes[at] ^= (char)(1 << at % 8);
            folder_write(&f, s->name, s->bytes, s->len);
            s->bytes[at] ^= (char)(1 << at % 8);
            enum outcome outcome = try_folder(&w);
            seen[outcome]++;
            /* all pages of an index are touched when all of its keys are asked for: a flipped bit
             * of a run that goes unnoticed would be one that nothing depends on */
            snprintf(says, sizeof says, "%s, byte %zu: %s", s->name, at,
                     outcome == WRONG   ? "a wrong answer"
                     : outcome == RIGHT ? "not noticed"
                                        : "");
            well = says[strlen(says) - 1] == ' ' || EXPECT_EQ_STR(says, "");
        }
    }
    EXPECT_TRUE(seen[NOT_FOUND] > 100 && seen[DAMAGED] > 100);
    folder_release(&f);
    world_release(&w);
}

TEST(key_index_cut_missing_lengthened_zeroed_and_mixed_up_files_are_noticed) {
    struct world w;
    struct folder f;
    world_init(&w, files_os(), kit_temp_dir(), 3000, 13, 12);
    bool well = grown(&w, &f);
    char *zeros = xcalloc(1, 1 << 20);
    for (uint32_t i = 0; i < f.count && well; i++) {
        const struct saved *s = &f.files[i];
        for (size_t len = 0; len < s->len && well; len = len * 3 / 2 + 1) {
            folder_restore(&f);
            folder_write(&f, s->name, s->bytes, len);
            well = EXPECT_EQ_INT(try_folder(&w), NOT_FOUND);
            folder_restore(&f);
            memcpy(zeros, s->bytes, len); /* what a power loss leaves of what was not synced */
            memset(zeros + len, 0, s->len - len);
            folder_write(&f, s->name, zeros, s->len);
            enum outcome outcome = try_folder(&w);
            well = well && EXPECT_TRUE(outcome == NOT_FOUND || outcome == DAMAGED ||
                                       memcmp(zeros, s->bytes, s->len) == 0);
        }
        folder_restore(&f);
        memcpy(zeros, s->bytes, s->len);
        memset(zeros + s->len, 0, 8);
        folder_write(&f, s->name, zeros, s->len + 8);
        well = well && EXPECT_EQ_INT(try_folder(&w), NOT_FOUND);
        folder_restore(&f);
        CHECK(remove(folder_path(&f, s->name)) == 0);
        well = well && EXPECT_EQ_INT(try_folder(&w), NOT_FOUND);
        const struct saved *other = &f.files[(i + 1) % f.count];
        folder_restore(&f);
        folder_write(&f, s->name, other->bytes, other->len);
        well = well && EXPECT_EQ_INT(try_folder(&w), NOT_FOUND);
    }
    folder_restore(&f);
    EXPECT_EQ_INT(try_folder(&w), RIGHT);
    free(zeros);
    folder_release(&f);
    world_release(&w);
}

TEST(key_index_removes_what_no_manifest_names_and_nothing_else) {
    struct world w;
    struct folder f;
    struct err err = ERR_INIT;
    struct buf names;
    bool found = false;
    buf_init(&names, 10000);
    world_init(&w, files_os(), kit_temp_dir(), 3000, 64, 13);
    bool well = grown(&w, &f);
    folder_write(&f, "run-00000000000000ff.kix", "orphan", 6);
    folder_write(&f, "run-zz.kix", "not ours", 8);
    folder_write(&f, "manifest.new", "half", 4);
    if (well && EXPECT_EQ_INT(world_restart(&w, &found, &err), 0) && EXPECT_TRUE(found)) {
        EXPECT_EQ_INT(files_list(files_os(), f.dir, &names, &err), FILES_OK);
        EXPECT_TRUE(!memmem(names.data, names.len, "ff.kix", 6));
        EXPECT_TRUE(!memmem(names.data, names.len, "manifest.new", 12));
        EXPECT_TRUE(memmem(names.data, names.len, "run-zz.kix", 10) != NULL);
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
    }
    w.tag[0] = '\0'; /* begin empty */
    memset(w.stored, 0xff, w.keys * sizeof *w.stored);
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_EQ_INT(files_list(files_os(), f.dir, &names, &err), FILES_OK);
    EXPECT_EQ_MEM(names.data, names.len, "run-zz.kix", 11);
    buf_release(&names);
    folder_release(&f);
    world_release(&w);
}

/* ---- calls that fail ---- */

/* The n-th call of a script fails; whatever the index refuses is asked for once more. Returns
 * whether a call failed at all. */
static bool script(const char *dir, int fail_at, bool after, enum err_kind kind, bool *well) {
    struct faulty files = {
        .base.ops = &faulty_ops, .fail_at = fail_at, .after = after, .kind = kind
    };
    struct world w;
    struct err err = ERR_INIT;
    bool found, wrong = false;
    world_init(&w, &files.base, dir, 1500, 11, 21);
    int result = key_index_open(&w.config, NULL, &found, &w.ix, &err);
    result = result ? key_index_open(&w.config, NULL, &found, &w.ix, &err) : 0;
    for (uint32_t i = 0; i < 5000 && result == 0; i++) {
        uint32_t key = (uint32_t)world_draw(&w, w.keys);
        int what = i % 1200 == 600 ? 3 : w.live[key] == KEY_LOC_NONE ? 0 : (int)(i % 2) + 1;
        for (int tries = 0; tries < 2; tries++) {
            result = what == 0   ? world_append(&w, key, &err)
                     : what == 1 ? world_upsert(&w, key, &wrong, &err)
                     : what == 2 ? world_remove(&w, key, &wrong, &err)
                                 : world_checkpoint(&w, true, &err);
            if (result == 0) {
                break;
            }
        }
        if (i == 4000 && result == 0) { /* what cannot be read is as good as lost */
            result = world_restart(&w, &found, &err);
            result = result ? world_restart(&w, &found, &err) : 0;
            if (result == 0 && !found) {
                memset(w.live, 0xff, w.keys * sizeof *w.live);
                memset(w.stored, 0xff, w.keys * sizeof *w.stored);
            }
        }
    }
    int bad = result ? -1 : world_verify(&w, &err);
    if (bad || wrong) {
        char says[1000];
        snprintf(says, sizeof says, "call %d (%s) fails %s: %d wrong%s: %s", fail_at, files.failed,
                 after ? "after" : "before", bad, wrong ? ", and before" : "",
                 result || bad < 0 ? err.text : "");
        *well = EXPECT_EQ_STR(says, "");
    }
    world_release(&w);
    return files.failed[0] != '\0';
}

TEST(key_index_any_call_to_files_may_fail_and_be_made_again) {
    static const enum err_kind kinds[] = { ERR_RETRY, ERR_FATAL };
    bool well = true;
    int failed = 0;
    for (int n = 1; well; n++) {
        bool any = false;
        for (int after = 0; after < 2 && well; after++) {
            char dir[4200];
            snprintf(dir, sizeof dir, "%s/%d-%d", kit_temp_dir(), n, after);
            any = script(dir, n, after, kinds[n % 2], &well) || any;
        }
        if (!any) {
            break;
        }
        failed = n;
    }
    EXPECT_TRUE(failed >= 50);
}
