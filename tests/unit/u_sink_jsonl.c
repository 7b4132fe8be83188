/* The jsonl sink on a real folder: what it writes, and that no failure of any file call, no crash
 * and no older instance loses or doubles a commit. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sinks/jsonl/jsonl.h"
#include "sinks/objects/ledger_folder.h"
#include "tests/unit/u_sink_folder.h"

static int stage_row(struct instance *x, int64_t id, struct err *err);
static char *ids_of(const char *dir, bool *whole);
static const struct folder_kind jsonl_kind = { &jsonl_ops, stage_row, ids_of };

static void instance_init(struct instance *x, const char *dir, const char *job) {
    instance_of_kind(x, &jsonl_kind, dir, job);
}

static int stage_row(struct instance *x, int64_t id, struct err *err) {
    struct txlist *txs = rows_txs(1);
    struct batch *b = batch_new(x->schema, 1, txs);
    b->generation = 1;
    rows_add(b, ROW_INSERT, 0, 0, id, "body");
    batch_seal(b);
    struct stage_item item = { .kind = STAGE_ROWS, .batches = &b, .count = 1 };
    int failed = jsonl_ops.writer_stage(x->writer, &item, err);
    batch_unref(b);
    txlist_unref(txs);
    return failed;
}

static char *file_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        return xstrdup("(absent)");
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) {
        buf_put(&text, piece, n);
    }
    fclose(f);
    char *s = xstrdup(buf_cstr(&text));
    buf_release(&text);
    return s;
}

static void expect_file(const char *dir, const char *name, const char *want) {
    char *text = file_text(kit_text("%s/%s", dir, name));
    EXPECT_EQ_STR(text, want);
    free(text);
}

static int count_names(const char *dir, char first) {
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        n += e->d_name[0] == first && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(d);
    return n;
}

#define COMMIT(epoch, seq, rows, schema, position)                                                 \
    "{\"commit\":{\"job\":\"shop\",\"epoch\":" epoch ",\"seq\":" seq ",\"rows\":" rows             \
    ",\"schema\":" schema ",\"position\":" position ",\"inconsistent\":[]}}\n"
#define SCHEMA_LINE                                                                                \
    "{\"schema\":{\"table\":\"public.t\",\"version\":1,\"columns\":[{\"name\":\"id\",\"type\":"    \
    "\"int64\",\"nullable\":false,\"key\":true},{\"name\":\"body\",\"type\":\"text\","             \
    "\"nullable\":true,\"key\":false}]}}\n"
#define ROW_LINE(id)                                                                               \
    "{\"op\":\"c\",\"table\":\"public.t\",\"key\":{\"id\":" id                                     \
    "},\"before\":null,\"after\":{\"id\":" id                                                      \
    ",\"body\":\"body\"},\"tx\":{\"id\":100,\"n\":0},\"ts\":\"2000-01-01T00:00:00Z\",\"source\":{" \
    "\"lsn\":\"0/1000\",\"snapshot\":false,\"gen\":1}}\n"
#define SCHEMA_2 "\"_schema.0000000000000002.1.json\""

TEST(jsonl_folder_is_what_interface_says) {
    const char *dir = kit_text("%s/new/deep", kit_temp_dir());
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, kit_text("%s/", dir), "shop");
    struct sink_state state;
    EXPECT_EQ_INT(jsonl_ops.peek(x.sink, &state, &err), 0);
    EXPECT_EQ_INT(state.knows, TARGET_NOTHING);
    EXPECT_TRUE(access(dir, F_OK) != 0); /* peek makes nothing */
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(x.state.knows, TARGET_NOTHING);
    EXPECT_EQ_U64(x.state.epoch, 1);
    expect_file(dir, "0000000000000001.jsonl", COMMIT("1", "1", "0", "null", "null"));
    EXPECT_EQ_INT(jsonl_ops.peek(x.sink, &state, &err), 0);
    EXPECT_EQ_INT(state.knows, TARGET_CLAIM);
    sink_state_release(&state);

    EXPECT_EQ_INT(commit_row(&x, 5, true, &err), COMMITTED);
    expect_file(dir, "0000000000000002.jsonl",
                SCHEMA_LINE ROW_LINE("5") COMMIT("1", "2", "1", SCHEMA_2, "{\"v\":1,\"at\":5}"));
    EXPECT_EQ_INT(commit_row(&x, -6, false, &err), COMMITTED); /* position only */
    expect_file(dir, "_idle.1.json", COMMIT("1", "2", "0", SCHEMA_2, "{\"v\":1,\"at\":6}"));
    EXPECT_EQ_INT(jsonl_ops.peek(x.sink, &state, &err), 0);
    EXPECT_EQ_INT(state.knows, TARGET_POSITION);
    EXPECT_EQ_STR(state.position, "{\"v\":1,\"at\":6}");
    EXPECT_EQ_U64(state.seq, 2);
    if (EXPECT_EQ_INT(state.schema_count, 1)) {
        EXPECT_EQ_STR(state.schemas[0]->label, "public.t");
        EXPECT_TRUE(schema_same_definition(state.schemas[0], x.schema));
    }
    sink_state_release(&state);
    EXPECT_EQ_INT(commit_row(&x, 7, false, &err),
                  COMMITTED); /* counts on from the file, not from the idle commit */
    expect_file(dir, "0000000000000003.jsonl",
                SCHEMA_LINE ROW_LINE("7") COMMIT("1", "3", "1", SCHEMA_2, "{\"v\":1,\"at\":7}"));
    EXPECT_EQ_INT(count_names(dir, '.'), 0);
    instance_release(&x);

    /* The next instance: a claim at the same position; the old idle file no longer counts and goes.
     */
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_STR(x.position, "{\"v\":1,\"at\":7}");
    EXPECT_EQ_U64(x.state.epoch, 2);
    EXPECT_EQ_INT(x.state.schema_count, 1);
    expect_file(dir, "0000000000000004.jsonl",
                COMMIT("2", "4", "0", SCHEMA_2, "{\"v\":1,\"at\":7}"));
    EXPECT_TRUE(access(kit_text("%s/_idle.1.json", dir), F_OK) != 0);
    instance_release(&x);
}

TEST(jsonl_commit_without_rows_and_labels_of_inconsistent_tables) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    const char *labels[2] = { "public.\"a.b\"", "public.t" };
    struct commit_request req = {
        .epoch = 1, .seq = 2, .to = "{\"v\":1}", .inconsistent = labels, .inconsistent_count = 2
    };
    EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &req, &err), COMMITTED);
    expect_file(
        dir, "0000000000000002.jsonl",
        "{\"commit\":{\"job\":\"shop\",\"epoch\":1,\"seq\":2,\"rows\":0,\"schema\":null,"
        "\"position\":{\"v\":1},\"inconsistent\":[\"public.\\\"a.b\\\"\",\"public.t\"]}}\n");
    req.seq = 3;
    EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &req, &err),
                  COMMIT_CONFLICT); /* from = none is no longer the position */
    instance_release(&x);
    instance_init(&x, dir, "shop"); /* a claim says the same of the tables */
    EXPECT_EQ_INT(start(&x, &err), 0);
    expect_file(
        dir, "0000000000000003.jsonl",
        "{\"commit\":{\"job\":\"shop\",\"epoch\":2,\"seq\":3,\"rows\":0,\"schema\":null,"
        "\"position\":{\"v\":1},\"inconsistent\":[\"public.\\\"a.b\\\"\",\"public.t\"]}}\n");
    instance_release(&x);
}

TEST(jsonl_older_instance_is_fenced_at_its_next_rename) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(start(&new, &err), 0);
    EXPECT_EQ_STR(new.position, "{\"v\":1,\"at\":1}");
    EXPECT_EQ_INT(commit_row(&old, 2, false, &err),
                  COMMIT_FENCED); /* staged after the claim: the name is taken */
    EXPECT_EQ_INT(err.exit, EXIT_FENCED);
    EXPECT_EQ_INT(commit_row(&old, -3, false, &err), COMMIT_FENCED); /* and for good */
    EXPECT_EQ_INT(commit_row(&new, 2, false, &err), COMMITTED);
    EXPECT_EQ_INT(count_names(dir, '0'), 4);
    instance_release(&old);
    instance_release(&new);
}

TEST(jsonl_vanished_staged_file_is_fenced) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(stage_row(&old, 1, &err), 0);
    EXPECT_EQ_INT(count_names(dir, '.'), 1);
    EXPECT_EQ_INT(start(&new, &err), 0);
    EXPECT_EQ_INT(count_names(dir, '.'), 0); /* removed after the claim */
    struct attempt a;
    EXPECT_EQ_INT(prepare(&old, &a, 1, false, &err), 0);
    unlink(kit_text("%s/0000000000000002.jsonl", dir)); /* even if the name were free */
    EXPECT_EQ_INT(jsonl_ops.commit(old.sink, &a.req, &err), COMMIT_FENCED);
    EXPECT_EQ_INT(count_names(dir, '0'), 1);
    settle(&old, &a, false, false);
    instance_release(&old);
    instance_release(&new);
}

TEST(jsonl_position_only_commit_of_an_older_instance_does_not_count) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(start(&new, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, -9, false, &err), COMMIT_FENCED);
    struct sink_state state;
    EXPECT_EQ_INT(jsonl_ops.peek(new.sink, &state, &err), 0);
    EXPECT_EQ_STR(state.position, "{\"v\":1,\"at\":1}");
    sink_state_release(&state);
    instance_release(&old);
    instance_release(&new);
}

TEST(jsonl_staged_file_of_a_newer_instance_stays) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    static const char *const staged[] = { ".0000000000000001.0123456789abcdef",
                                          ".0000000000000002.0123456789abcdef" };
    for (size_t i = 0; i < 2; i++) {
        FILE *file = fopen(kit_text("%s/%s", dir, staged[i]), "w");
        if (!EXPECT_TRUE(file != NULL)) {
            return;
        }
        fclose(file);
    }
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0); /* our claim is number 1 */
    EXPECT_TRUE(access(kit_text("%s/%s", dir, staged[0]), F_OK) != 0);
    EXPECT_TRUE(access(kit_text("%s/%s", dir, staged[1]), F_OK) == 0);
    instance_release(&x);
}

/* The older instance stores a position after the newer one has looked and before its claim is
 * there; the newer one dies before it has taken that over. */
TEST(jsonl_position_stored_just_before_a_claim_is_not_lost) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(start(&new, &err), 0);
    FILE *late = fopen(kit_text("%s/_idle.1.json", dir), "w");
    if (!EXPECT_TRUE(late != NULL)) {
        return;
    }
    fputs(COMMIT("1", "2", "0", SCHEMA_2, "{\"v\":1,\"at\":7}"), late);
    fclose(late);
    instance_release(&new);
    instance_init(&new, dir, "shop");
    struct sink_state state;
    EXPECT_EQ_INT(jsonl_ops.peek(new.sink, &state, &err), 0);
    EXPECT_EQ_STR(state.position, "{\"v\":1,\"at\":7}");
    sink_state_release(&state);
    EXPECT_EQ_INT(start(&new, &err), 0);
    EXPECT_EQ_INT(jsonl_ops.peek(new.sink, &state, &err), 0);
    EXPECT_EQ_STR(state.position, "{\"v\":1,\"at\":7}");
    sink_state_release(&state);
    instance_release(&old);
    instance_release(&new);
}

TEST(jsonl_foreign_staged_files_go_only_after_the_claim_stands) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(stage_row(&old, 1, &err), 0);
    int n = 1;
    for (; n < 100;
         n++) { /* whatever fails before the claim stands, the old instance's file is there */
        instance_init(&new, dir, "shop");
        new.files.fail_at = n;
        new.files.crash = true;
        int failed = start(&new, &err);
        bool claimed = access(kit_text("%s/0000000000000002.jsonl", dir), F_OK) == 0;
        new.files.dead = false;
        new.files.fail_at = 0;
        instance_release(&new);
        if (claimed) {
            EXPECT_TRUE(failed != 0 || count_names(dir, '.') == 0);
            break;
        }
        EXPECT_TRUE(failed != 0);
        EXPECT_TRUE(count_names(dir, '.') >= 1);
    }
    EXPECT_TRUE(n > 3 && n < 100);
    instance_release(&old);
}

/* Every data file in order: the ids of its rows, and whether each commit line is whole. */
static char *ids_of(const char *dir, bool *whole) {
    struct buf ids;
    buf_init(&ids, SIZE_MAX);
    *whole = true;
    for (int seq = 1;; seq++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%016d.jsonl", dir, seq);
        if (access(path, F_OK) != 0) {
            char *list = xstrdup(buf_cstr(&ids));
            buf_release(&ids);
            return list;
        }
        char *text = file_text(path);
        for (const char *at = text; (at = strstr(at, "\"after\":{\"id\":")) != NULL; at++) {
            buf_putf(&ids, "%d ", atoi(at + 14));
        }
        struct ledger_line c;
        struct err err = ERR_INIT;
        struct ledger_place place = { files_os(), dir, "jsonl" };
        enum files_result read = ledger_read_line(&place, path, &c, &err);
        *whole = *whole && read == FILES_OK;
        ledger_line_release(&c);
        free(text);
    }
}

TEST(jsonl_each_file_call_fails_once_nothing_lost_nothing_twice) {
    drive_all(&jsonl_kind, "fail", false, false, ERR_FATAL);
}
TEST(jsonl_each_file_call_fails_after_its_effect) {
    drive_all(&jsonl_kind, "lost", true, false, ERR_FATAL);
}
TEST(jsonl_each_file_call_finds_a_full_disk) {
    drive_all(&jsonl_kind, "full", false, false, ERR_RETRY);
}
TEST(jsonl_crash_at_each_file_call) { drive_all(&jsonl_kind, "crash", false, true, ERR_FATAL); }
TEST(jsonl_crash_after_each_file_call) { drive_all(&jsonl_kind, "gone", true, true, ERR_FATAL); }

TEST(jsonl_rename_with_a_lost_answer_is_unknown_and_resolved) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    struct attempt a;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    for (int after = 0; after < 2; after++) {
        EXPECT_EQ_INT(stage_row(&x, 1 + after, &err), 0);
        EXPECT_EQ_INT(prepare(&x, &a, 1 + after, false, &err), 0);
        x.files.after = after;
        x.files.fail_at = x.files.calls + 3; /* write, sync, rename_new */
        EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err), COMMIT_UNKNOWN);
        EXPECT_EQ_STR(x.files.failed, "rename_new");
        x.files.fail_at =
            x.files.calls +
            1; /* the folder cannot even be synced: still unknown, or an error, never an answer */
        EXPECT_EQ_INT(jsonl_ops.resolve(x.sink, &a.req, &err), RESOLVE_FAILED);
        x.files.fail_at = 0;
        EXPECT_EQ_INT(jsonl_ops.resolve(x.sink, &a.req, &err),
                      after ? RESOLVED_COMMITTED : RESOLVED_NOT_COMMITTED);
        EXPECT_EQ_INT(jsonl_ops.resolve(x.sink, &a.req, &err),
                      after ? RESOLVED_COMMITTED : RESOLVED_NOT_COMMITTED);
        if (!after) {
            EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err),
                          COMMITTED); /* the same file again, its line written once */
            expect_file(dir, "0000000000000002.jsonl",
                        SCHEMA_LINE ROW_LINE("1")
                            COMMIT("1", "2", "1", "null", "{\"v\":1,\"at\":1}"));
        }
        settle(&x, &a, true, false);
    }
    EXPECT_EQ_INT(count_names(dir, '0'), 3);
    EXPECT_EQ_INT(count_names(dir, '.'), 0);
    EXPECT_EQ_INT(commit_row(&x, 3, false, &err), COMMITTED);
    instance_release(&x);
}

/* link + unlink cut in between: the next number is our own file with our own bytes, under its
 * second name. */
TEST(jsonl_name_taken_by_our_own_bytes_is_a_commit) {
    const char *dir = kit_temp_dir();
    for (int own = 1; own >= 0; own--) {
        struct instance x;
        struct err err = ERR_INIT;
        struct attempt a;
        instance_init(&x, dir, "shop");
        EXPECT_EQ_INT(start(&x, &err), 0);
        EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
        EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
        x.files.fail_at = x.files.calls + 3;
        EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err), COMMIT_UNKNOWN);
        EXPECT_EQ_INT(jsonl_ops.resolve(x.sink, &a.req, &err), RESOLVED_NOT_COMMITTED);
        const char *staged = NULL;
        DIR *d = opendir(dir);
        for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
            if (ledger_is_staged_name(e->d_name)) {
                staged = kit_text("%s/%s", dir, e->d_name);
            }
        }
        closedir(d);
        if (!EXPECT_TRUE(staged != NULL)) {
            return;
        }
        const char *path = kit_text("%s/%016d.jsonl", dir, own ? 2 : 4);
        EXPECT_EQ_INT(link(staged, path), 0);
        if (!own) { /* same epoch and number, other bytes */
            EXPECT_EQ_INT(unlink(path), 0);
            FILE *f = fopen(path, "wb");
            fputs(COMMIT("2", "4", "0", "null", "{\"v\":1,\"at\":1}"), f);
            fclose(f);
        }
        EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err), own ? COMMITTED : COMMIT_FENCED);
        EXPECT_EQ_INT(count_names(dir, '.'), own ? 0 : 1);
        settle(&x, &a, own, !own);
        instance_release(&x);
    }
}

/* The newer instance claims just before the older one replaces its idle file. */
struct late_claim {
    struct files base;
    const char *dir;
    struct instance *newer;
    int renames;
};
static struct late_claim *late;
static enum files_result late_rename_over(struct files *f, const char *from, const char *to,
                                          struct err *err) {
    (void)f;
    if (late->renames++ == 0) {
        CHECK(start(late->newer, err) == 0);
    }
    return files_rename_over(files_os(), from, to, err);
}

TEST(jsonl_claim_beside_a_position_only_commit_fences_it) {
    const char *dir = kit_temp_dir();
    struct instance old, new;
    struct err err = ERR_INIT;
    instance_init(&old, dir, "shop");
    instance_init(&new, dir, "shop");
    EXPECT_EQ_INT(start(&old, &err), 0);
    EXPECT_EQ_INT(commit_row(&old, 1, false, &err), COMMITTED);
    struct files_ops ops = *files_os()->ops;
    ops.rename_over = late_rename_over;
    struct late_claim hook = { .base = { &ops }, .dir = dir, .newer = &new };
    late = &hook;
    old.env.files = &hook.base;
    /* Without its staged file, which the claim removed, it is fenced already at the rename. */
    EXPECT_EQ_INT(commit_row(&old, -9, false, &err), COMMIT_FENCED);
    EXPECT_EQ_INT(hook.renames, 1);
    struct sink_state state;
    EXPECT_EQ_INT(jsonl_ops.peek(new.sink, &state, &err), 0);
    EXPECT_EQ_STR(state.position, "{\"v\":1,\"at\":1}");
    sink_state_release(&state);
    instance_release(&old);
    instance_release(&new);
}

TEST(jsonl_uncommitted_parts_go_unless_their_outcome_is_unknown) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    struct attempt a;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
    EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
    settle(&x, &a, false, false);
    EXPECT_EQ_INT(count_names(dir, '.'), 0);
    EXPECT_EQ_INT(stage_row(&x, 1, &err), 0);
    EXPECT_EQ_INT(prepare(&x, &a, 1, false, &err), 0);
    x.files.fail_at = x.files.calls + 3;
    EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err), COMMIT_UNKNOWN);
    settle(&x, &a, false, false); /* the engine should not, but nothing of it may go */
    EXPECT_EQ_INT(count_names(dir, '.'), 1);
    instance_release(&x);
}

static void expect_no_start(const char *dir, const char *job, const char *code, int exit_code) {
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, job);
    int files = count_names(dir, '0');
    EXPECT_EQ_INT(start(&x, &err), -1);
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_EQ_STR(err.code, code);
    EXPECT_EQ_INT(err.exit, exit_code);
    EXPECT_TRUE(err.cure[0] != '\0');
    EXPECT_EQ_INT(count_names(dir, '0'), files);
    struct source_findings findings = { .count = 0 };
    err_clear(&err);
    EXPECT_EQ_INT(jsonl_ops.examine(x.sink, &findings, &err), -1); /* under its own name */
    EXPECT_EQ_STR(err.code, code);
    EXPECT_EQ_INT(err.exit, exit_code);
    instance_release(&x);
}

TEST(jsonl_examine_tells_a_missing_right_from_a_disk_that_fails) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    struct source_findings findings = { .count = 0 };
    x.files.fail_at = 1; /* "planted": no file_error, so no right that somebody could grant */
    EXPECT_EQ_INT(jsonl_ops.examine(x.sink, &findings, &err), -1);
    EXPECT_EQ_STR(err.code, "planted");
    EXPECT_EQ_INT(findings.count, 0);
    instance_release(&x);

    const char *file = kit_text("%s/file", dir);
    fclose(fopen(file, "wb"));
    instance_init(&x, kit_text("%s/below", file), "shop");
    err_clear(&err);
    EXPECT_EQ_INT(jsonl_ops.examine(x.sink, &findings, &err), 0);
    if (EXPECT_EQ_INT(findings.count, 1)) {
        EXPECT_TRUE(findings.at[0].fatal && findings.at[0].cure[0]);
    }
    instance_release(&x);
}

/* The newest file, or more, is moved away: what is said, and that it ends with 5. */
TEST(jsonl_newest_file_that_was_moved_away_is_named) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(commit_row(&x, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(commit_row(&x, -2, false, &err), COMMITTED);
    const char *newest = kit_text("%s/0000000000000002.jsonl", dir);
    const char *away = kit_text("%s/_away", dir);
    EXPECT_EQ_INT(rename(newest, away), 0);
    EXPECT_EQ_INT(commit_row(&x, -3, false, &err), COMMIT_FENCED); /* while it runs */
    EXPECT_EQ_STR(err.code, "jsonl_moved");
    EXPECT_EQ_INT(err.exit, EXIT_LINEAGE);
    EXPECT_TRUE(strstr(err.text, newest) && strstr(err.cure, "put it back"));
    instance_release(&x);
    expect_no_start(dir, "shop", "jsonl_moved", EXIT_LINEAGE); /* an _idle file speaks of it */
    EXPECT_EQ_INT(unlink(kit_text("%s/_idle.1.json", dir)), 0);
    EXPECT_EQ_INT(rename(kit_text("%s/0000000000000001.jsonl", dir), kit_text("%s/_one", dir)), 0);
    expect_no_start(dir, "shop", "jsonl_moved", EXIT_LINEAGE); /* and so does a _schema file */
    EXPECT_EQ_INT(rename(kit_text("%s/_one", dir), kit_text("%s/0000000000000001.jsonl", dir)), 0);
    EXPECT_EQ_INT(rename(away, newest), 0);
    instance_init(&x, dir, "shop");
    err_clear(&err);
    EXPECT_EQ_INT(start(&x, &err), 0); /* put back: it goes on */
    EXPECT_EQ_STR(x.position, "{\"v\":1,\"at\":1}");
    instance_release(&x);
}

TEST(jsonl_folder_that_is_removed_under_a_running_job_is_not_called_fenced) {
    const char *dir = kit_text("%s/out", kit_temp_dir());
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(commit_row(&x, 1, true, &err), COMMITTED);
    EXPECT_EQ_INT(stage_row(&x, 2, &err), 0);
    EXPECT_EQ_INT(rename(dir, kit_text("%s.away", dir)), 0);
    struct attempt a;
    EXPECT_EQ_INT(prepare(&x, &a, 2, false, &err), 0);
    EXPECT_EQ_INT(jsonl_ops.commit(x.sink, &a.req, &err), COMMIT_FENCED);
    EXPECT_EQ_STR(err.code, "jsonl_moved");
    EXPECT_EQ_INT(err.exit, EXIT_LINEAGE);
    settle(&x, &a, false, false);
    instance_release(&x);
}

static int count_schemas(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        n += strncmp(e->d_name, "_schema.", 8) == 0;
    }
    closedir(d);
    return n;
}

TEST(jsonl_only_the_schema_file_that_the_newest_commit_names_is_kept) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    for (int id = 1; id <= 5; id++) {
        EXPECT_EQ_INT(commit_row(&x, id, true, &err), COMMITTED);
        EXPECT_EQ_INT(count_schemas(dir), 1);
    }
    EXPECT_EQ_INT(commit_row(&x, 6, false, &err), COMMITTED);
    EXPECT_EQ_INT(access(kit_text("%s/_schema.0000000000000006.1.json", dir), F_OK), 0);
    struct attempt a; /* a crash between the schema and its commit */
    EXPECT_EQ_INT(stage_row(&x, 7, &err), 0);
    EXPECT_EQ_INT(prepare(&x, &a, 7, true, &err), 0);
    EXPECT_EQ_INT(count_schemas(dir), 2);
    settle(&x, &a, false, false);
    instance_release(&x);
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(x.state.schema_count, 1);
    EXPECT_EQ_INT(count_schemas(dir), 1); /* what it left goes at the claim */
    EXPECT_EQ_INT(access(kit_text("%s/_schema.0000000000000006.1.json", dir), F_OK), 0);
    instance_release(&x);
}

TEST(jsonl_damage_and_other_jobs_stop_with_a_cure) {
    const char *dir = kit_temp_dir();
    struct instance x;
    struct err err = ERR_INIT;
    instance_init(&x, dir, "shop");
    EXPECT_EQ_INT(start(&x, &err), 0);
    EXPECT_EQ_INT(commit_row(&x, 1, true, &err), COMMITTED);
    instance_release(&x);
    expect_no_start(dir, "other", "jsonl_other_job", EXIT_ERROR);

    const char *schema = kit_text("%s/_schema.0000000000000002.1.json", dir);
    const char *away = kit_text("%s/_away", dir);
    EXPECT_EQ_INT(rename(schema, away), 0);
    expect_no_start(dir, "shop", "jsonl_schema_missing", EXIT_LINEAGE);
    EXPECT_EQ_INT(rename(away, schema), 0);

    const char *path = kit_text("%s/0000000000000002.jsonl", dir);
    struct stat st;
    EXPECT_EQ_INT(stat(path, &st), 0);
    EXPECT_EQ_INT(truncate(path, st.st_size - 1), 0); /* the line feed alone */
    expect_no_start(dir, "shop", "jsonl_damaged", EXIT_ERROR);
    EXPECT_EQ_INT(truncate(path, 30), 0);
    expect_no_start(dir, "shop", "jsonl_damaged", EXIT_ERROR);
    EXPECT_EQ_INT(truncate(path, 0), 0);
    expect_no_start(dir, "shop", "jsonl_damaged", EXIT_ERROR);
}

TEST(jsonl_commit_line_longer_than_the_first_look_is_found) {
    const char *path = kit_text("%s/f", kit_temp_dir());
    FILE *f = fopen(path, "wb");
    fputs("{\"op\":\"c\"}\n{\"commit\":{\"job\":\"shop\",\"epoch\":3,\"seq\":9,\"rows\":1,"
          "\"schema\":null,\"position\":{ \"v\": 1, \"b\":[{}]},\"inconsistent\":[\"x\"",
          f);
    for (int i = 0; i < 30000; i++) {
        fprintf(f, ",\"public.t%d\"", i);
    }
    fputs("]}}\n", f);
    fclose(f);
    struct ledger_line c;
    struct err err = ERR_INIT;
    struct ledger_place place = { files_os(), kit_temp_dir(), "jsonl" };
    EXPECT_EQ_INT(ledger_read_line(&place, path, &c, &err), FILES_OK);
    EXPECT_EQ_U64(c.epoch, 3);
    EXPECT_EQ_STR(c.position, "{ \"v\": 1, \"b\":[{}]}"); /* verbatim */
    EXPECT_TRUE(c.inconsistent && strlen(c.inconsistent) > 300000);
    ledger_line_release(&c);
}

TEST(jsonl_addresses_that_are_no_folder_are_refused) {
    static const struct sink_address bad[] = {
        { .scheme = "jsonl", .hosts = "tmp", .path = "/x", .job = "a" },
        { .scheme = "jsonl", .path = "x", .job = "a" },
        { .scheme = "jsonl", .path = "///", .job = "a" },
        { .scheme = "jsonl", .job = "a" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct env env = { .files = files_os() };
        struct sink *sink = NULL;
        struct err err = ERR_INIT;
        EXPECT_EQ_INT(jsonl_ops.open(&bad[i], &env, &sink, &err), -1);
        EXPECT_EQ_INT(err.exit, EXIT_USAGE);
    }
}

TEST(jsonl_failpoints_leave_the_folder_exact) {
    static const char *const names[] = {
        "jsonl.before_stage",  "jsonl.after_stage",   "jsonl.after_seal",     "jsonl.before_fsync",
        "jsonl.before_rename", "jsonl.after_rename",  "jsonl.after_dir_sync", "jsonl.before_claim",
        "jsonl.after_claim",   "jsonl.before_schema", "jsonl.after_schema",   "jsonl.before_idle",
        "jsonl.after_idle"
    };
    const char *top = kit_temp_dir();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *dir = kit_text("%s/%zu", top, i);
        struct instance x;
        struct err err = ERR_INIT;
        instance_init(&x, dir, "shop");
        x.env.failpoints = failpoints_new(kit_text("%s=error", names[i]), NULL, &err);
        bool fired = false;
        int at = 0;
        for (int run = 0; run < 4 && at < 2; run++) {
            err_clear(&err);
            if (start(&x, &err)) {
                fired = fired || strcmp(err.code, "failpoint") == 0;
                continue;
            }
            at = x.position ? atoi(strstr(x.position, "\"at\":") + 5) : 0;
            bool first = x.state.schema_count == 0;
            while (at < 2 && commit_row(&x, at == 0 ? 1 : -2, first, &err) == COMMITTED) {
                first = false;
                at++;
            }
            fired = fired || strcmp(err.code, "failpoint") == 0;
        }
        bool whole;
        char *ids = ids_of(dir, &whole);
        EXPECT_TRUE(fired);
        EXPECT_EQ_INT(at, 2);
        EXPECT_EQ_STR(ids, "1 ");
        EXPECT_TRUE(whole);
        free(ids);
        instance_release(&x);
        failpoints_free(x.env.failpoints);
    }
}
