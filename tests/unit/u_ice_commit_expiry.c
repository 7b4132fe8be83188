/* What a long life leaves of a lake: old snapshots go in the commit itself with what only they
 * named, nothing that is still named goes, manifests stay few. */
#include "tests/unit/u_ice_commit.h"

static const char *lake_dir(void) { return kit_text("%s/lake", kit_temp_dir()); }
static struct iceberg *inside(struct life *x) { return (struct iceberg *)x->sink; }

/* Changes of 40 keys, by commit: each key comes, changes, goes. */
static const char *changes_of(int i, bool *there) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (int k = i % 3; k < 6; k++) {
        int id = (i * 7 + k * 5) % 40;
        const char *sign = !there[id] ? "+" : (i + k) % 3 == 0 ? "-" : "=";
        there[id] = sign[0] != '-';
        buf_putf(&text, "%s%s%d", text.len ? " " : "", sign, id);
    }
    const char *copy = lake_text("%s", buf_cstr(&text));
    buf_release(&text);
    return copy;
}

static uint32_t count_there(const bool *there) {
    uint32_t n = 0;
    for (int i = 0; i < 40; i++) {
        n += there[i];
    }
    return n;
}

/* Many commits; snapshots older than some go. */
static void long_life(const char *options, int commits) {
    const char *dir = lake_dir();
    struct life a;
    bool there[40] = { false };
    if (!life_begin(&a, dir, options)) {
        return;
    }
    inside(&a)->history_ms = 300;
    for (int i = 1; i <= commits; i++) {
        if (!life_do(&a, i, changes_of(i, there))) {
            break;
        }
        if (i % 50 == 0 && i > 50) {
            struct stranger s;
            struct lake_lines rows;
            stranger_open(&s, dir);
            EXPECT_EQ_INT(s.missing, 0);
            EXPECT_TRUE(s.snapshots > 1 && s.snapshots < 100);
            EXPECT_TRUE(s.manifests <= 9);
            EXPECT_EQ_INT(count_unnamed(&s, lake_text("%s/public/t", dir)), 0);
            lake_read(&s.lake, &rows);
            EXPECT_EQ_INT(rows.count, count_there(there));
            free(rows.at);
            stranger_close(&s);
        }
    }
    life_release(&a);
}
TEST(ice_commit_expiry_leaves_what_is_named_and_nothing_else) { long_life("format=v2", 300); }
TEST(ice_commit_expiry_leaves_what_is_named_and_nothing_else_v3) {
    long_life("format=v3;partition=bucket(4,id)", 150);
}

/* Between two commits a stranger tags the present snapshot. Its files stay as long as its tag. */
TEST(ice_commit_expiry_keeps_what_a_tag_names) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    bool there[40] = { false };
    if (!life_begin(&a, dir, "")) {
        return;
    }
    inside(&a)->history_ms = 5;
    for (int i = 1; i <= 60; i++) {
        if (!life_do(&a, i, changes_of(i, there))) {
            break;
        }
        if (i % 20 == 0) {
            json_t *m = lake_metadata(dir);
            json_object_set_new(json_object_get(m, "refs"), lake_text("tag%d", i),
                                json_pack("{s:O,s:s}", "snapshot-id",
                                          json_object_get(m, "current-snapshot-id"), "type",
                                          "tag"));
            lake_put_metadata(dir, m);
            EXPECT_EQ_INT(life_start(&a, &err), 0);
        }
    }
    struct stranger s;
    stranger_open(&s, dir);
    EXPECT_EQ_INT(s.missing, 0);
    EXPECT_TRUE(s.snapshots >= 3 && s.snapshots < 20);
    EXPECT_EQ_INT(json_object_size(s.m.refs), 4);
    EXPECT_EQ_INT(count_unnamed(&s, lake_text("%s/public/t", dir)), 0);
    stranger_close(&s);
    life_release(&a);
}

/* A branch makes history no line: then no file may be taken for unseen. */
TEST(ice_commit_expiry_keeps_files_where_history_branches) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +3") || !life_do(&a, 2, "+4")) {
        return;
    }
    json_t *m = lake_metadata(dir); /* a branch with one empty commit upon the first snapshot */
    json_t *snapshots = json_object_get(m, "snapshots");
    json_t *first = json_array_get(snapshots, 0);
    json_t *more = json_deep_copy(first);
    json_t *id = json_integer(4711);
    int64_t sequence = json_integer_value(json_object_get(m, "last-sequence-number")) + 1;
    json_object_set(more, "snapshot-id", id);
    json_object_set(more, "parent-snapshot-id", json_object_get(first, "snapshot-id"));
    json_object_set_new(more, "sequence-number", json_integer(sequence));
    json_object_set_new(more, "summary", json_pack("{s:s}", "operation", "append"));
    json_object_set_new(m, "last-sequence-number", json_integer(sequence));
    json_array_append_new(snapshots, more);
    json_object_set_new(json_object_get(m, "refs"), "side",
                        json_pack("{s:o,s:s}", "snapshot-id", id, "type", "branch"));
    /* Its list is its own. */
    const char *list = json_string_value(json_object_get(first, "manifest-list"));
    const char *copy = lake_text("%s.copy", list);
    struct buf bytes;
    struct store *store = store_of_folder(files_os(), dir);
    struct store_folders folders = { 0 };
    buf_init(&bytes, SIZE_MAX);
    EXPECT_EQ_INT(ice_object_get(store, list, &bytes, &err), 0);
    EXPECT_EQ_INT(
        store_put(store, store_key_of(store, copy), bytes.data, bytes.len, &folders, &err), 0);
    store_folders_release(&folders);
    buf_release(&bytes);
    store_free(store);
    json_object_set_new(more, "manifest-list", json_string(copy));
    lake_put_metadata(dir, m);
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    inside(&a)->history_ms = -1;
    EXPECT_TRUE(life_do(&a, 3, "-1 -2 -3")); /* the first file leaves main */
    EXPECT_TRUE(life_do(&a, 4, "+5"));
    EXPECT_TRUE(life_do(&a, 5, "+6"));
    EXPECT_EQ_STR(lake_rows(dir), "4old 5old 6old "); /* and all that the branch names is there */
    struct stranger s;
    stranger_open(&s, dir);
    EXPECT_EQ_INT(s.snapshots, 2);
    stranger_close(&s);
    life_release(&a);
}

/* Killed between the commit and its tidying up: the next life removes what it left. */
TEST(ice_commit_expiry_garbage_outlives_its_instance) {
    const char *dir = lake_dir();
    struct life a, b;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +3") || !life_do(&a, 2, "-1 -2 -3 +4") ||
        !EXPECT_EQ_INT(life_stage(&a, "+5", &err), 0) ||
        !EXPECT_EQ_INT(life_request(&a, 3, &err), 0)) {
        return;
    }
    inside(&a)->history_ms = -1;
    a.env.failpoints = failpoints_new("iceberg.after_commit=error", NULL, &err);
    EXPECT_EQ_INT(iceberg_ops.commit(a.sink, &a.req, &err), COMMIT_UNKNOWN);
    a.doubtful = true;
    a.files.dead = true; /* it is gone: nothing more of it reaches the disk */
    failpoints_free(a.env.failpoints);
    a.env.failpoints = NULL;
    life_release(&a);
    EXPECT_TRUE(lake_orphans(dir) > 0);
    const char *hint = lake_text("%s/public/t/metadata/version-hint.text", dir);
    EXPECT_EQ_INT(unlink(hint), 0);
    if (life_begin(&b, dir, "")) {
        EXPECT_EQ_INT(lake_orphans(dir), 0);
        EXPECT_EQ_INT(access(hint, R_OK), 0);
        EXPECT_TRUE(life_do(&b, 4, "=4"));
        EXPECT_EQ_STR(lake_rows(dir), "4new 5old ");
    }
    life_release(&b);
}

/* While the hint cannot be written, what it names stays. */
TEST(ice_commit_expiry_waits_for_the_hint) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1")) {
        return;
    }
    inside(&a)->history_ms = -1;
    const char *hint = lake_text("%s/public/t/metadata/version-hint.text", dir);
    EXPECT_TRUE(unlink(hint) == 0 && mkdir(hint, 0700) == 0);
    const char *left = lake_location(dir);
    for (int i = 2; i < 30; i++) {
        EXPECT_TRUE(life_do(&a, i, "=1"));
    }
    EXPECT_EQ_INT(access(lake_path(left), R_OK), 0);
    EXPECT_TRUE(rmdir(hint) == 0);
    EXPECT_TRUE(life_do(&a, 30, "=1"));
    EXPECT_TRUE(access(lake_path(left), R_OK) != 0);
    EXPECT_EQ_INT(lake_orphans(dir), 0);
    (void)err;
    life_release(&a);
}

/* Long positions do not make metadata long: fewer snapshots are kept. */
TEST(ice_commit_expiry_bounds_what_positions_take) {
    struct ice_metadata m = { .location = xstrdup("file:///x"), .refs = json_object() };
    struct buf garbage;
    struct err err = ERR_INIT;
    char *text = xcalloc(1, 8193);
    memset(text, 'x', 8192);
    m.snapshot_log = json_array();
    m.snapshots = xcalloc(200, sizeof *m.snapshots);
    for (int i = 0; i < 200; i++) {
        m.snapshots[i] =
            (struct ice_snapshot){ .id = i + 1,
                                   .parent_id = 77777, /* no line: nothing is read */
                                   .sequence = i + 1,
                                   .manifest_list = xstrdup("file:///x/l"),
                                   .summary = json_pack("{s:s}", "tailrace.position", text) };
    }
    m.snapshot_count = 200;
    m.current_snapshot_id = 200;
    m.properties = json_object();
    buf_init(&garbage, SIZE_MAX);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ_INT(ice_expire(&m, NULL, 1000, &garbage, &err), 0);
        EXPECT_EQ_INT(m.snapshot_count, i == 0 ? 136 : 128);
    }
    EXPECT_EQ_INT(m.snapshots[m.snapshot_count - 1].id, 200);
    free(text);
    buf_release(&garbage);
    ice_metadata_release(&m);
}
