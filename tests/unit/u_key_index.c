/* The key index against plain arrays: random histories with weak hashes, so that keys collide all
 * the time, with merges, checkpoints, restarts and dropped files between; and its promises one by
 * one. Damage and failing files: u_key_index_damage.c. */
#include <unistd.h>

#include "tests/unit/u_key_index.h"

static bool world_open(struct world *w) {
    struct err err = ERR_INIT;
    bool found = true;
    return EXPECT_EQ_INT(key_index_open(&w->config, NULL, &found, &w->ix, &err), 0) &&
           EXPECT_TRUE(!found);
}

/* One step of a history. twice: keys are also appended while they live, and then no files are
 * dropped (a key whose later row is dropped before anybody has asked would live at the older one
 * again). -1 with err. */
static int step(struct world *w, bool twice, bool *wrong, struct err *err) {
    uint32_t key = (uint32_t)world_draw(w, w->keys);
    uint64_t what = world_draw(w, 10000);
    uint32_t file = (uint32_t)(w->row_count / WORLD_FILE_ROWS);
    bool found;
    if (what < 5000) {
        return world_upsert(w, key, wrong, err);
    }
    if (what < 7500) {
        return twice || w->live[key] == KEY_LOC_NONE ? world_append(w, key, err) : 0;
    }
    if (what < 9900) {
        return world_remove(w, key, wrong, err);
    }
    if (what < 9930) {
        return world_checkpoint(w, world_draw(w, 2), err);
    }
    if (what < 9945) {
        return key_index_merge(w->ix, err);
    }
    if (what < 9960 && file > 2 && !twice) {
        uint32_t first = (uint32_t)world_draw(w, file);
        uint32_t last = first + (uint32_t)world_draw(w, 3);
        if (last >= file) {
            world_next_file(w);
        }
        last = last < file ? last : file;
        return world_drop(w, first, last, err);
    }
    if (what < 9961) {
        memset(w->live, 0xff, w->keys * sizeof *w->live);
        world_next_file(w);
        return key_index_clear(w->ix, err);
    }
    if (what < 9980 && w->tag[0]) {
        int result = world_restart(w, &found, err);
        *wrong = *wrong || (result == 0 && !found);
        world_next_file(w);
        return result;
    }
    int bad = world_verify(w, err);
    *wrong = *wrong || bad > 0;
    return bad < 0 ? -1 : 0;
}

static bool history(uint32_t keys, unsigned hash_bits, unsigned steps, uint64_t seed) {
    struct world w;
    struct err err = ERR_INIT;
    bool wrong = false;
    int result = 0;
    world_init(&w, files_os(),
               kit_text("%s/%u-%u-%u", kit_temp_dir(), keys, hash_bits, (unsigned)seed), keys,
               hash_bits, seed);
    bool well = world_open(&w);
    for (unsigned i = 0; i < steps && result == 0 && well; i++) {
        result = step(&w, seed % 2 == 0, &wrong, &err);
        if (wrong || result) {
            well = EXPECT_EQ_STR(kit_text("%u keys, %u bits, seed %u, step %u: %s", keys, hash_bits,
                                          (unsigned)seed, i, result ? err.text : "wrong"),
                                 "");
        }
    }
    if (well) {
        well = EXPECT_EQ_INT(world_verify(&w, &err), 0);
    }
    world_release(&w);
    return well;
}

TEST(key_index_histories_with_whole_hashes) {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        if (!history(6000, 64, 40000, seed)) {
            return;
        }
    }
}
TEST(key_index_histories_with_some_collisions) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        if (!history(4000, 14, 30000, seed)) {
            return;
        }
    }
}
TEST(key_index_histories_with_nothing_but_collisions) {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        if (!history(300, 4, 15000, seed) || !history(2000, 7, 15000, seed)) {
            return;
        }
    }
}

/* Many keys a call, as a sink does it; whole hashes. */
TEST(key_index_batches_of_every_size_are_found_changed_and_removed) {
    enum { KEYS = 120000 };
    struct world w;
    struct err err = ERR_INIT;
    world_init(&w, files_os(), kit_temp_dir(), KEYS, 64, 7);
    w.config.memory_bytes = 5 << 20;
    uint64_t *hashes = xmalloc(KEYS * sizeof *hashes);
    uint64_t *locs = xmalloc(KEYS * sizeof *locs);
    if (world_open(&w)) {
        for (uint32_t from = 0, n = 1; from < KEYS; from += n, n = n * 3 + 1) {
            n = n > KEYS - from ? KEYS - from : n;
            for (uint32_t i = 0; i < n; i++) {
                hashes[i] = world_hash(&w, from + i);
                w.live[from + i] = locs[i] = world_new_row(&w, from + i);
            }
            EXPECT_EQ_INT(key_index_append(w.ix, hashes, locs, n, &err), 0);
        }
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
        for (uint32_t i = 0; i < KEYS; i += 3) {
            hashes[i / 3] = world_hash(&w, i);
            w.live[i] = locs[i / 3] = world_new_row(&w, i);
        }
        EXPECT_EQ_INT(key_index_put(w.ix, hashes, locs, KEYS / 3, &err), 0);
        for (uint32_t i = 0; i < KEYS; i += 4) {
            hashes[i / 4] = world_hash(&w, i);
            w.live[i] = KEY_LOC_NONE;
        }
        EXPECT_EQ_INT(key_index_remove(w.ix, hashes, KEYS / 4, &err), 0);
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
        struct key_index_size size;
        EXPECT_EQ_INT(key_index_merge(w.ix, &err), 0);
        key_index_size(w.ix, &size);
        EXPECT_EQ_INT(size.runs, 1);
        EXPECT_EQ_U64(size.keys, KEYS - KEYS / 4); /* neither replaced ones nor tombs are left */
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
    }
    free(hashes);
    free(locs);
    world_release(&w);
}

TEST(key_index_takes_the_largest_and_the_least_hashes_files_and_positions) {
    struct world w;
    struct err err = ERR_INIT;
    uint64_t most = (UINT64_C(1) << KEY_LOC_POS_BITS) - 1;
    const uint64_t hashes[] = { 0, 1, UINT64_MAX - 1, UINT64_MAX, UINT64_C(1) << 63 };
    const uint64_t locs[] = { key_loc(KEY_FILE_MAX, most), key_loc(0, 0), key_loc(0, most),
                              key_loc(KEY_FILE_MAX, 0), key_loc(1, 1) };
    uint64_t got[ARRAY_COUNT(hashes)];
    world_init(&w, files_os(), kit_temp_dir(), 1, 64, 1);
    if (world_open(&w)) {
        EXPECT_EQ_INT(key_index_put(w.ix, hashes, locs, 5, &err), 0);
        for (int round = 0; round < 2; round++) {
            EXPECT_EQ_INT(key_index_find(w.ix, hashes, 5, got, &err), 0);
            EXPECT_EQ_MEM(got, sizeof got, locs, sizeof locs);
            EXPECT_EQ_INT(key_index_merge(w.ix, &err), 0);
        }
        EXPECT_EQ_U64(KEY_LOC_FILE(got[0]), KEY_FILE_MAX);
        EXPECT_EQ_U64(KEY_LOC_POS(got[0]), most);
        EXPECT_EQ_INT(key_index_find(w.ix, hashes, 0, got, &err), 0);
    }
    world_release(&w);
}

TEST(key_index_appended_keys_of_one_hash_are_told_apart_when_runs_merge) {
    struct world w;
    struct err err = ERR_INIT;
    struct key_index_size size;
    world_init(&w, files_os(), kit_temp_dir(), 40, 0, 3); /* one hash for all */
    if (!world_open(&w)) {
        return;
    }
    EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
    EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
    key_index_size(w.ix, &size);
    EXPECT_EQ_U64(size.collisions, 0);
    EXPECT_EQ_INT(world_append(&w, 2, &err), 0);
    EXPECT_EQ_INT(key_index_merge(w.ix, &err), 0);
    EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
    key_index_size(w.ix, &size);
    EXPECT_EQ_U64(size.collisions, 1); /* nobody has asked for them */
    bool found = false;
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_TRUE(found);
    EXPECT_EQ_INT(world_verify(&w, &err), 0);
    uint64_t hash = world_hash(&w, 1);
    EXPECT_EQ_INT(key_index_remove(w.ix, &hash, 1, &err), -1);
    EXPECT_EQ_STR(err.code, "index_ask");
    bool wrong = false;
    EXPECT_EQ_INT(world_remove(&w, 2, &wrong, &err), 0);
    key_index_size(w.ix, &size);
    EXPECT_EQ_U64(size.collisions, 0); /* one is left: an ordinary entry again */
    EXPECT_EQ_INT(world_verify(&w, &err), 0);
    EXPECT_TRUE(!wrong);
    world_release(&w);
}

TEST(key_index_a_key_appended_twice_lives_at_the_later_row) {
    struct world w;
    struct err err = ERR_INIT;
    struct key_index_size size;
    world_init(&w, files_os(), kit_temp_dir(), 4, 64, 3);
    if (!world_open(&w)) {
        return;
    }
    for (int merged = 0; merged < 2; merged++) {
        EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
        EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
        EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
        EXPECT_EQ_INT(merged ? key_index_merge(w.ix, &err) : 0, 0);
        EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
    }
    key_index_size(w.ix, &size);
    EXPECT_EQ_U64(size.collisions, 0);
    world_release(&w);
}

static int unreadable(void *arg, uint64_t loc, struct buf *out, struct err *err) {
    (void)arg, (void)loc, (void)out;
    return err_set(err, ERR_RETRY, "open_file", "the file is still being written");
}

TEST(key_index_rows_that_cannot_be_read_yet_are_told_apart_later) {
    struct world w;
    struct err err = ERR_INIT;
    uint64_t loc;
    world_init(&w, files_os(), kit_temp_dir(), 4, 0, 3);
    w.config.read_key = unreadable;
    if (!world_open(&w)) {
        return;
    }
    uint64_t hash = world_hash(&w, 1);
    EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
    EXPECT_EQ_INT(world_append(&w, 2, &err), 0);
    EXPECT_EQ_INT(key_index_find(w.ix, &hash, 1, &loc, &err), -1);
    EXPECT_EQ_STR(err.code, "open_file");
    EXPECT_EQ_INT(world_checkpoint(&w, true, &err), -1); /* nothing in doubt is stored as sure */
    EXPECT_TRUE(key_index_tag(w.ix) == NULL);
    EXPECT_EQ_INT(key_index_merge(w.ix, &err), 0);
    key_index_close(w.ix);
    w.config.read_key = world_read_key;
    memset(w.live, 0xff, w.keys * sizeof *w.live);
    bool wrong = false;
    if (world_open(&w)) {
        EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
        EXPECT_EQ_INT(world_append(&w, 2, &err), 0);
        EXPECT_EQ_INT(world_upsert(&w, 1, &wrong, &err), 0);
        EXPECT_EQ_INT(world_verify(&w, &err), 0);
        EXPECT_TRUE(!wrong);
    }
    world_release(&w);
}

TEST(key_index_finds_only_the_tag_that_was_stored) {
    struct world w;
    struct err err = ERR_INIT;
    struct buf tag;
    bool found = false;
    world_init(&w, files_os(), kit_temp_dir(), 10, 64, 3);
    buf_init(&tag, 1000);
    key_index_stored(files_os(), kit_temp_dir(), false, &tag);
    EXPECT_EQ_U64(tag.len, 0);
    if (!world_open(&w)) {
        return;
    }
    EXPECT_TRUE(key_index_tag(w.ix) == NULL);
    EXPECT_EQ_INT(world_append(&w, 1, &err), 0);
    EXPECT_EQ_INT(key_index_checkpoint(w.ix, "t/1", false, &err), 0);
    EXPECT_TRUE(key_index_tag(w.ix) == NULL); /* cheap: nothing was stored */
    EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
    EXPECT_EQ_INT(world_append(&w, 2, &err), 0); /* is lost */
    EXPECT_EQ_INT(world_checkpoint(&w, false, &err), 0);
    EXPECT_EQ_STR(key_index_tag(w.ix), "table/1");
    key_index_stored(files_os(), kit_temp_dir(), false, &tag);
    EXPECT_EQ_STR(buf_cstr(&tag), "table/1");
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_TRUE(found);
    EXPECT_EQ_STR(key_index_tag(w.ix), "table/1");
    EXPECT_EQ_INT(world_verify(&w, &err), 0);
    snprintf(w.tag, sizeof w.tag, "table/0");
    memset(w.stored, 0xff, w.keys * sizeof *w.stored);
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_TRUE(!found && key_index_tag(w.ix) == NULL);
    EXPECT_EQ_INT(world_verify(&w, &err), 0); /* it began empty */
    buf_release(&tag);
    world_release(&w);
}

TEST(key_index_files_keep_their_numbers_and_never_share_one) {
    struct world w;
    struct err err = ERR_INIT;
    uint32_t a = 9, b = 9, c = 9, again = 9;
    bool found = false;
    world_init(&w, files_os(), kit_temp_dir(), 1, 64, 3);
    if (!world_open(&w)) {
        return;
    }
    EXPECT_EQ_INT(key_index_file(w.ix, "data/a", &a, &err), 0);
    EXPECT_EQ_INT(key_index_file(w.ix, "data/b", &b, &err), 0);
    EXPECT_EQ_INT(key_index_file(w.ix, "data/a", &again, &err), 0);
    EXPECT_TRUE(a == again && a != b);
    EXPECT_EQ_INT(key_index_drop(w.ix, b, b, &err), 0);
    EXPECT_TRUE(key_index_path(w.ix, b) == NULL);
    EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_TRUE(found);
    EXPECT_EQ_STR(key_index_path(w.ix, a), "data/a");
    EXPECT_EQ_INT(key_index_file(w.ix, "data/a", &again, &err), 0);
    EXPECT_EQ_INT(key_index_file(w.ix, "data/b", &c, &err), 0);
    EXPECT_TRUE(a == again && c != a && c != b);
    EXPECT_EQ_INT(key_index_clear(w.ix, &err), 0);
    EXPECT_TRUE(key_index_path(w.ix, a) == NULL);
    EXPECT_EQ_INT(key_index_file(w.ix, "data/a", &again, &err), 0);
    EXPECT_TRUE(again != a && again != b && again != c);
    world_release(&w);
}

/* A history of checkpoints, each of which may turn out never to have been: then the one before it
 * is found, exactly as it was. */
TEST(key_index_the_checkpoint_before_the_last_is_found_too) {
    struct world w;
    struct err err = ERR_INIT;
    bool wrong = false, well = true;
    unsigned gone_back = 0;
    char before_tag[sizeof w.tag] = "";
    world_init(&w, files_os(), kit_temp_dir(), 4000, 13, 17);
    uint64_t *before = xmalloc(w.keys * sizeof *before);
    well = world_open(&w);
    for (uint32_t i = 0; i < 400 && well; i++) {
        for (uint32_t j = 0; j < 60 && well; j++) {
            uint32_t key = (uint32_t)world_draw(&w, w.keys);
            int result = w.live[key] == KEY_LOC_NONE ? world_append(&w, key, &err)
                         : j % 5                     ? world_upsert(&w, key, &wrong, &err)
                                                     : world_remove(&w, key, &wrong, &err);
            well = EXPECT_EQ_INT(result, 0) && EXPECT_TRUE(!wrong);
        }
        if (i % 97 == 50) {
            well = well && EXPECT_EQ_INT(key_index_merge(w.ix, &err), 0);
        }
        char last_tag[sizeof w.tag];
        memcpy(last_tag, w.tag, sizeof last_tag);
        memcpy(before, w.stored, w.keys * sizeof *before);
        well = well && EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
        memcpy(before_tag, last_tag, sizeof before_tag);
        struct buf tag;
        buf_init(&tag, 1000);
        key_index_stored(files_os(), kit_temp_dir(), true, &tag);
        well = well && EXPECT_EQ_STR(buf_cstr(&tag), before_tag);
        buf_release(&tag);
        if (!well || !before_tag[0] || world_draw(&w, 4) > 0) {
            continue;
        }
        bool last = world_draw(&w, 3) == 0; /* else it never was, or cannot be read */
        bool unreadable = !last && world_draw(&w, 2) == 0;
        const char *tags[2] = { unreadable ? w.tag : before_tag, before_tag };
        tags[0] = last ? w.tag : tags[0];
        uint32_t found;
        key_index_close(w.ix);
        w.ix = NULL;
        if (unreadable) {
            const char *path = kit_text("%s/manifest", kit_temp_dir());
            EXPECT_EQ_INT(truncate(path, 20), 0);
        }
        well = EXPECT_EQ_INT(key_index_open_any(&w.config, tags, 2, &found, &w.ix, &err), 0) &&
               EXPECT_EQ_INT(found, unreadable ? 1 : 0);
        if (!last) {
            memcpy(w.stored, before, w.keys * sizeof *before);
            memcpy(w.tag, before_tag, sizeof before_tag);
            gone_back++;
        }
        memcpy(w.live, w.stored, w.keys * sizeof *w.live);
        well = well && EXPECT_EQ_STR(key_index_tag(w.ix), w.tag) &&
               EXPECT_EQ_INT(world_verify(&w, &err), 0);
    }
    EXPECT_TRUE(gone_back > 20);
    free(before);
    world_release(&w);
}

/* Many indexes, none of which may grow as it likes: all hold little, and every answer is right. */
TEST(key_index_many_share_one_memory) {
    enum { MANY = 12, SHARED_BYTES = 200 << 10, LEAST_BYTES = 16 << 10 };
    struct world w[MANY];
    struct err err = ERR_INIT;
    struct key_shared *shared = key_shared_new(SHARED_BYTES);
    bool wrong = false, well = true;
    unsigned yields = 0;
    for (int i = 0; i < MANY; i++) {
        const char *dir = kit_text("%s/shared%d", kit_temp_dir(), i);
        world_init(&w[i], files_os(), dir, 4000, 64, (uint64_t)i + 1);
        w[i].config.shared = shared;
        well = well && world_open(&w[i]);
    }
    EXPECT_EQ_U64(key_shared_held(shared), 0); /* what is empty costs nothing */
    for (uint32_t n = 0; n < 60 && well; n++) {
        for (int i = 0; i < MANY && well; i++) {
            for (uint32_t j = 0; j < 100 && well; j++) {
                uint32_t key = (uint32_t)world_draw(&w[i], w[i].keys);
                int result = w[i].live[key] == KEY_LOC_NONE
                                 ? world_append(&w[i], key, &err)
                                 : world_upsert(&w[i], key, &wrong, &err);
                well = EXPECT_EQ_INT(result, 0) && EXPECT_TRUE(!wrong) &&
                       EXPECT_TRUE(key_shared_held(shared) <= SHARED_BYTES + MANY * LEAST_BYTES);
            }
            if (well && key_shared_held(shared) > SHARED_BYTES / 2) {
                struct world *other = &w[(i + 5) % MANY];
                well = EXPECT_EQ_INT(key_index_yield(other->ix, &err), 0) &&
                       EXPECT_EQ_U64(key_index_tier_bytes(other->ix), 0);
                yields++;
            }
        }
    }
    EXPECT_TRUE(yields > 20);
    for (int i = 0; i < MANY; i++) {
        EXPECT_EQ_INT(well ? world_verify(&w[i], &err) : 0, 0);
        world_release(&w[i]);
    }
    EXPECT_EQ_U64(key_shared_held(shared), 0);
    key_shared_free(shared);
}

/* Somebody else says that what is stored is wrong, whatever its owner does then. */
TEST(key_index_void_is_not_found) {
    struct world w;
    struct err err = ERR_INIT;
    bool found = true, wrong = false;
    struct buf tag;
    world_init(&w, files_os(), kit_temp_dir(), 100, 64, 19);
    buf_init(&tag, 1000);
    if (!world_open(&w)) {
        return;
    }
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ_INT(world_upsert(&w, 1, &wrong, &err), 0);
        EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
    }
    key_index_void(files_os(), kit_temp_dir());
    EXPECT_EQ_INT(key_index_checkpoint(w.ix, "failed", true, &err), 0);
    key_index_stored(files_os(), kit_temp_dir(), true, &tag);
    EXPECT_EQ_STR(buf_cstr(&tag), "");
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    EXPECT_TRUE(!found);
    buf_release(&tag);
    world_release(&w);
}

TEST(key_index_runs_stay_few_and_old_files_go) {
    struct world w;
    struct err err = ERR_INIT;
    struct key_index_size size;
    uint32_t most = 0;
    bool wrong = false;
    world_init(&w, files_os(), kit_temp_dir(), 20000, 64, 3);
    if (!world_open(&w)) {
        return;
    }
    for (uint32_t k = 0; k < 20000; k++) {
        EXPECT_EQ_INT(world_append(&w, k, &err), 0);
    }
    for (uint32_t i = 0; i < 200; i++) {
        for (uint32_t j = 0; j < 20; j++) {
            EXPECT_EQ_INT(world_upsert(&w, (i * 977 + j) % 20000, &wrong, &err), 0);
        }
        EXPECT_EQ_INT(world_checkpoint(&w, true, &err), 0);
        key_index_size(w.ix, &size);
        most = size.runs > most ? size.runs : most;
    }
    EXPECT_TRUE(most <= 8 && !wrong);
    /* The checkpoint before may still need those of a merge's runs that were young. */
    EXPECT_TRUE(size.disk_bytes <= size.mapped_bytes + size.mapped_bytes / 4);
    bool found = false;
    EXPECT_EQ_INT(world_restart(&w, &found, &err), 0);
    key_index_size(w.ix, &size);
    EXPECT_EQ_U64(size.disk_bytes, size.mapped_bytes);
    EXPECT_TRUE(found);
    struct buf names;
    buf_init(&names, 10000);
    EXPECT_EQ_INT(files_list(files_os(), kit_temp_dir(), &names, &err), FILES_OK);
    uint32_t count = 0;
    for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
        count++;
    }
    EXPECT_EQ_INT(count, size.runs + 1);
    EXPECT_EQ_INT(world_verify(&w, &err), 0);
    buf_release(&names);
    world_release(&w);
}
