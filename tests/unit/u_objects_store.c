/* The store over a real folder: names, durability's bookkeeping, what is left after failures. */
#include <stdlib.h>
#include <unistd.h>

#include "sinks/objects/store.h"
#include "tests/unit/kit.h"

static struct store *store_here(void) { return store_of_folder(files_os(), kit_temp_dir()); }

TEST(store_url_and_key_are_each_others_inverse) {
    struct store *s = store_of_folder(files_os(), "/data/lake/");
    struct buf url;
    buf_init(&url, SIZE_MAX);
    store_put_url(&url, s, "shop/orders/a.parquet");
    EXPECT_EQ_STR(buf_cstr(&url), "file:///data/lake/shop/orders/a.parquet");
    EXPECT_EQ_STR(store_key_of(s, buf_cstr(&url)), "shop/orders/a.parquet");
    EXPECT_EQ_STR(store_key_of(s, "file:/data/lake/x"), "x");
    EXPECT_EQ_STR(store_key_of(s, "file:///data/lakes/x"), NULL);
    EXPECT_EQ_STR(store_key_of(s, "s3://data/lake/x"), NULL);
    buf_release(&url);
    store_free(s);
}

TEST(store_puts_an_object_once_and_reads_it_back) {
    struct store *s = store_here();
    struct err err = ERR_INIT;
    struct store_folders folders = { 0 };
    EXPECT_EQ_INT(store_put(s, "a/b/one", "hello", 5, &folders, &err), 0);
    EXPECT_EQ_INT(folders.count, 3); /* a/b, a and the root */
    EXPECT_EQ_INT(store_put(s, "a/b/two", "x", 1, &folders, &err), 0);
    EXPECT_EQ_INT(folders.count, 3);
    EXPECT_EQ_INT(store_settle(s, &folders, &err), 0);
    EXPECT_EQ_INT(folders.count, 0);
    EXPECT_EQ_INT(store_put(s, "a/b/one", "other", 5, &folders, &err), -1);
    EXPECT_EQ_STR(err.code, "object_exists");
    struct buf got;
    buf_init(&got, 16);
    EXPECT_EQ_INT(store_get(s, "a/b/one", &got, &err), FILES_OK);
    EXPECT_EQ_MEM(got.data, got.len, "hello", 5);
    EXPECT_EQ_INT(store_get(s, "a/b/none", &got, &err), FILES_ABSENT);
    struct buf small;
    buf_init(&small, 4);
    EXPECT_EQ_INT(store_get(s, "a/b/one", &small, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.code, "object_too_long");
    EXPECT_EQ_INT(store_remove(s, "a/b/one", &err), 0);
    EXPECT_EQ_INT(store_remove(s, "a/b/one", &err), 0);
    buf_release(&small);
    buf_release(&got);
    store_folders_release(&folders);
    store_free(s);
}

TEST(store_upload_in_pieces_is_whole_and_an_aborted_one_is_gone) {
    struct store *s = store_here();
    struct err err = ERR_INIT;
    struct store_folders folders = { 0 };
    struct store_upload *u = NULL;
    static char piece[100000];
    memset(piece, 'p', sizeof piece);
    if (!EXPECT_EQ_INT(store_create(s, "big", &u, &err), 0)) {
        return;
    }
    for (int i = 0; i < 7; i++) {
        EXPECT_EQ_INT(store_write(u, piece, sizeof piece, &err), 0);
    }
    uint64_t size = 0;
    EXPECT_EQ_INT(store_finish(u, &folders, &size, &err), 0);
    EXPECT_EQ_U64(size, 700000);
    struct store_object *o = NULL;
    if (EXPECT_EQ_INT(store_open_object(s, "big", &o, &err), FILES_OK)) {
        EXPECT_EQ_U64(store_object_size(o), 700000);
        char end[2];
        EXPECT_EQ_INT(store_read_at(o, 699998, end, 2, &err), 0);
        EXPECT_EQ_MEM(end, 2, "pp", 2);
        EXPECT_EQ_INT(store_read_at(o, 699999, end, 2, &err), -1);
        EXPECT_EQ_STR(err.code, "object_short");
        store_close_object(o);
    }
    if (EXPECT_EQ_INT(store_create(s, "dropped", &u, &err), 0)) {
        store_abort(u);
        EXPECT_EQ_INT(store_open_object(s, "dropped", &o, &err), FILES_ABSENT);
    }
    store_folders_release(&folders);
    store_free(s);
}

TEST(store_replace_swaps_and_leaves_no_staged_file) {
    struct store *s = store_here();
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(store_replace(s, "m/hint", "1", 1, &err), 0);
    EXPECT_EQ_INT(store_replace(s, "m/hint", "12", 2, &err), 0);
    struct buf got;
    buf_init(&got, 100);
    EXPECT_EQ_INT(store_get(s, "m/hint", &got, &err), FILES_OK);
    EXPECT_EQ_MEM(got.data, got.len, "12", 2);
    EXPECT_EQ_INT(store_list(s, "m", &got, &err), FILES_OK);
    EXPECT_EQ_MEM(got.data, got.len, "hint\0", 5);
    buf_release(&got);
    store_free(s);
}

TEST(store_in_a_folder_that_cannot_be_written_says_which) {
    struct store *s = store_of_folder(files_os(), kit_text("%s/file", kit_temp_dir()));
    struct err err = ERR_INIT;
    struct store *above = store_here();
    struct store_folders folders = { 0 };
    EXPECT_EQ_INT(store_put(above, "file", "x", 1, &folders, &err), 0);
    EXPECT_EQ_INT(store_put(s, "a/b", "x", 1, &folders, &err), -1);
    EXPECT_TRUE(strstr(err.text, "/file") != NULL);
    store_folders_release(&folders);
    store_free(above);
    store_free(s);
}
