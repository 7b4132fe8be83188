/* The iceberg sink through its door: crashes and failures at every file call and failpoint of a
 * commit, outcomes in doubt, older instances, and tables that somebody else has changed. */
#include "tests/unit/u_ice_commit.h"
#include "sinks/iceberg/key_index.h"

static const char *lake_dir(void) { return lake_text("%s/lake", kit_temp_dir()); }
/* Each case of a matrix has a lake of its own. */
static const char *case_dir(const char *base, int n) { return lake_text("%s/%d", base, n); }

static void arm(struct life *x, int call, bool after, bool crash, enum err_kind kind) {
    x->files.calls = 0;
    x->files.fail_at = call;
    x->files.after = after;
    x->files.crash = crash;
    x->files.kind = kind;
    x->files.failed[0] = '\0';
}

static void disarm(struct life *x) { x->files.fail_at = 0; }

/* A second life finds one of the two legal states, the position's own, and goes on from there. */
static bool goes_on(const char *dir, const char *options, const char *what) {
    struct life b;
    bool ok = life_begin(&b, dir, options);
    bool second = ok && b.position && strcmp(b.position, "{\"at\":2}") == 0;
    ok = ok && EXPECT_EQ_STR(b.position, second ? "{\"at\":2}" : "{\"at\":1}") &&
         EXPECT_EQ_STR(lake_rows(dir), second ? "2new 3old 4old " : "1old 2old 4old ") &&
         (second || life_do(&b, 2, "-1 +3 =2")) && life_do(&b, 3, "+5 -4") &&
         EXPECT_EQ_STR(lake_rows(dir), "2new 3old 5old ");
    if (!ok) {
        fprintf(stderr, "# %s\n", what);
    }
    life_release(&b);
    return ok;
}

/* The second commit of a lake with faults; false where the call was never reached. */
static bool fault_case(const char *dir, const char *options, int call, bool after, bool crash) {
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, options) || !life_do(&a, 1, "+1 +2 +4")) {
        life_release(&a);
        return false;
    }
    arm(&a, call, after, crash, ERR_FATAL);
    enum commit_outcome outcome = life_commit(&a, 2, "-1 +3 =2", &err);
    bool reached = a.files.calls >= call;
    if (!crash) {
        disarm(&a);
    }
    const char *position = lake_position(dir);
    EXPECT_TRUE(outcome != COMMITTED || strcmp(position, "{\"at\":2}") == 0);
    EXPECT_TRUE(outcome != COMMIT_FAILED || strcmp(position, "{\"at\":1}") == 0);
    life_release(&a);
    const char *what = lake_text("call %d (%s) %s %s", call, a.files.failed,
                                 after ? "after" : "before", crash ? "crash" : "error");
    return goes_on(dir, options, what) && reached;
}

static void fault_matrix(const char *options, int step) {
    const char *base = kit_temp_dir();
    int n = 0, cases = 0;
    for (int mode = 0; mode < 3; mode++) {
        int call = 1;
        while (fault_case(case_dir(base, n++), options, call, mode == 2, mode > 0)) {
            call += mode == 0 ? step : 2 * step;
            cases++;
        }
    }
    EXPECT_TRUE(cases > 60 / step);
}
TEST(ice_commit_survives_a_failure_of_each_file_call) { fault_matrix("format=v2", 1); }
TEST(ice_commit_survives_a_failure_of_each_file_call_v3) {
    fault_matrix("format=v3;partition=bucket(2,id)", 3);
}

TEST(ice_commit_failpoints_leave_the_old_state_or_the_new) {
    static const char *const names[] = { "before_claim",  "after_claim", "before_stage",
                                         "after_stage",   "after_seal",  "before_settle",
                                         "before_commit", "after_commit" };
    const char *base = kit_temp_dir();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *dir = case_dir(base, (int)i);
        struct life a;
        struct err err = ERR_INIT;
        if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4")) {
            return;
        }
        a.env.failpoints = failpoints_new(lake_text("iceberg.%s=error", names[i]), NULL, &err);
        bool second = i == 7;
        if (i < 2) {
            EXPECT_EQ_INT(life_start(&a, &err), -1);
        } else {
            EXPECT_EQ_INT(life_commit(&a, 2, "-1 +3 =2", &err), second ? COMMITTED : COMMIT_FAILED);
        }
        EXPECT_EQ_STR(second ? "failpoint" : err.code, "failpoint");
        EXPECT_EQ_STR(lake_position(dir), second ? "{\"at\":2}" : "{\"at\":1}");
        if (second) { /* it was in doubt, and goes on: nothing has to begin again */
            EXPECT_TRUE(life_do(&a, 3, "+9"));
            EXPECT_TRUE(life_do(&a, 2, "-9"));
        }
        failpoints_free(a.env.failpoints);
        a.env.failpoints = NULL;
        life_release(&a);
        EXPECT_TRUE(goes_on(dir, "", names[i]));
    }
}

/* A disk that is full for a moment: the same parts are made a commit again, and nothing is left of
 * the first attempt. */
TEST(ice_commit_is_made_again_from_the_same_parts) {
    const char *base = kit_temp_dir();
    int again = 0;
    for (int call = 1; call < 200; call += 2) {
        const char *dir = case_dir(base, call);
        struct life a;
        struct err err = ERR_INIT;
        if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4") ||
            !EXPECT_EQ_INT(life_stage(&a, "-1 +3 =2", &err), 0) ||
            !EXPECT_EQ_INT(life_request(&a, 2, &err), 0)) {
            return;
        }
        arm(&a, call, false, false, ERR_RETRY);
        enum commit_outcome outcome = life_try(&a, &err);
        bool reached = a.files.calls >= call;
        disarm(&a);
        if (outcome == COMMIT_FAILED && err.kind == ERR_RETRY) {
            again++;
            EXPECT_EQ_STR(lake_rows(dir), "1old 2old 4old ");
            err_clear(&err);
            outcome = life_try(&a, &err);
            EXPECT_EQ_INT(outcome, COMMITTED);
        }
        if (outcome == COMMITTED) {
            EXPECT_EQ_STR(lake_rows(dir), "2new 3old 4old ");
            EXPECT_TRUE(life_do(&a, 3, "+5 -4"));
            EXPECT_EQ_STR(lake_rows(dir), "2new 3old 5old ");
            EXPECT_EQ_INT(lake_orphans(dir), 0);
        }
        life_release(&a);
        if (!reached) {
            break;
        }
    }
    EXPECT_TRUE(again > 8);
}

/* In doubt and not committed: the same parts once more, and the files of the first stay. */
TEST(ice_commit_in_doubt_is_asked_and_repeated) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4") ||
        !EXPECT_EQ_INT(life_stage(&a, "-1 +3 =2", &err), 0) ||
        !EXPECT_EQ_INT(life_request(&a, 2, &err), 0)) {
        return;
    }
    a.env.failpoints = failpoints_new("iceberg.after_commit=error", NULL, &err);
    EXPECT_EQ_INT(iceberg_ops.commit(a.sink, &a.req, &err), COMMIT_UNKNOWN);
    a.doubtful = true;
    /* The target lost it: as if COMMIT had failed. */
    lake_ask(dir, "UPDATE tailrace_jobs SET seq = 1, position = '{\"at\":1}'");
    lake_ask(dir, "UPDATE iceberg_tables SET metadata_location = previous_metadata_location");
    err_clear(&err);
    EXPECT_EQ_INT(iceberg_ops.resolve(a.sink, &a.req, &err), RESOLVED_NOT_COMMITTED);
    EXPECT_EQ_STR(lake_rows(dir), "1old 2old 4old ");
    EXPECT_TRUE(lake_orphans(dir) >= 5); /* data, deletes, manifests, list, metadata */
    EXPECT_EQ_INT(life_try(&a, &err), COMMITTED);
    EXPECT_EQ_STR(lake_rows(dir), "2new 3old 4old ");
    EXPECT_TRUE(life_do(&a, 3, "+5 -4"));
    EXPECT_EQ_STR(lake_rows(dir), "2new 3old 5old ");
    failpoints_free(a.env.failpoints);
    a.env.failpoints = NULL;
    life_release(&a);
}

TEST(ice_commit_an_older_instance_is_fenced) {
    const char *dir = lake_dir();
    struct life a, b;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4") ||
        !EXPECT_EQ_INT(life_stage(&a, "-1 +3 =2", &err), 0) ||
        !EXPECT_EQ_INT(life_request(&a, 2, &err), 0)) {
        return;
    }
    if (life_begin(&b, dir, "")) {
        EXPECT_EQ_INT(life_try(&a, &err), COMMIT_FENCED);
        EXPECT_EQ_STR(err.code, "fenced");
        EXPECT_EQ_INT(err.exit, EXIT_FENCED);
        EXPECT_EQ_STR(lake_rows(dir), "1old 2old 4old ");
        EXPECT_TRUE(life_do(&b, 2, "-1 +3 =2"));
        err_clear(&err);
        EXPECT_EQ_INT(iceberg_ops.resolve(a.sink, &a.req, &err), RESOLVE_FAILED);
        EXPECT_EQ_STR(err.code, "fenced");
    }
    life_release(&a);
    life_release(&b);
    EXPECT_EQ_STR(lake_rows(dir), "2new 3old 4old ");
    EXPECT_EQ_INT(lake_orphans(dir), 0);
}

/* Somebody else's metadata (a property) between two commits. */
/* A tag that is stored for the only table; empty = none. */
static const char *stored_tag(const struct life *x, bool before) {
    struct err err = ERR_INIT;
    struct buf names, tag;
    const char *root = lake_text("%s/cache/index", x->env.state_dir);
    buf_init(&names, SIZE_MAX);
    buf_init(&tag, SIZE_MAX);
    CHECK(files_list(files_os(), root, &names, &err) == FILES_OK);
    key_index_stored(files_os(), lake_text("%s/%s", root, names.data), before, &tag);
    const char *text = lake_text("%s", buf_cstr(&tag));
    buf_release(&names);
    buf_release(&tag);
    return text;
}

/* What the commit side cannot have from a right index: the stored one is not taken again. */
TEST(ice_commit_voids_an_index_that_is_wrong) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4")) {
        return;
    }
    EXPECT_EQ_INT(life_start(&a, &err), 0); /* the end of the run before has stored it */
    const char *first = stored_tag(&a, false);
    EXPECT_TRUE(first[0] != '\0');
    EXPECT_EQ_INT(life_stage(&a, "=2", &err), 0);
    EXPECT_EQ_INT(life_request(&a, 2, &err), 0);
    struct ice_part *part = (struct ice_part *)a.part;
    if (EXPECT_EQ_INT(part->tables[0].dead_count, 1)) {
        free(part->tables[0].dead[0].data_file);
        part->tables[0].dead[0].data_file = xstrdup("file:///nowhere.parquet");
        EXPECT_EQ_INT(life_try(&a, &err), COMMIT_FAILED);
        EXPECT_EQ_STR(err.code, "index_damaged");
        EXPECT_EQ_INT(err.kind, ERR_REWIND);
        err_clear(&err);
        EXPECT_EQ_INT(life_start(&a, &err), 0);
        EXPECT_TRUE(strcmp(stored_tag(&a, false), first) != 0);
        EXPECT_EQ_STR(stored_tag(&a, true), "");
        EXPECT_TRUE(life_do(&a, 2, "=2 -4"));
        EXPECT_EQ_STR(lake_rows(dir), "1old 2new ");
    }
    life_release(&a);
}

TEST(ice_commit_follows_a_foreign_commit) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4")) {
        return;
    }
    json_t *m = lake_metadata(dir);
    json_object_set_new(json_object_get(m, "properties"), "owner", json_string("ann"));
    lake_put_metadata(dir, m);
    EXPECT_EQ_INT(life_commit(&a, 2, "-1 +3 =2", &err), COMMIT_CONFLICT);
    EXPECT_EQ_STR(lake_position(dir), "{\"at\":1}");
    err_clear(&err);
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 2, "-1 +3 =2"));
    EXPECT_EQ_STR(lake_rows(dir), "2new 3old 4old ");
    /* ... and one between recover and the first rows is no conflict. */
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    lake_put_metadata(dir, lake_metadata(dir));
    EXPECT_TRUE(life_do(&a, 3, "+5 -4"));
    m = lake_metadata(dir);
    EXPECT_EQ_STR(json_string_value(json_object_get(json_object_get(m, "properties"), "owner")),
                  "ann");
    json_decref(m);
    life_release(&a);
}

static void expect_stop(const char *dir, const char *code) {
    struct life b;
    struct err err = ERR_INIT;
    if (life_begin(&b, dir, "")) {
        const char *before = lake_location(dir);
        EXPECT_EQ_INT(life_commit(&b, 9, "+9", &err), COMMIT_FAILED);
        EXPECT_EQ_STR(err.code, code);
        EXPECT_TRUE(err.kind == ERR_FATAL && err.cure[0]);
        EXPECT_EQ_STR(lake_location(dir), before);
        EXPECT_EQ_STR(lake_position(dir), "{\"at\":2}");
    }
    life_release(&b);
}

TEST(ice_commit_stops_at_tables_that_are_not_as_it_left_them) {
    const char *dir = lake_dir();
    struct life a;
    if (!life_begin(&a, dir, "") || !life_do(&a, 1, "+1 +2 +4")) {
        return;
    }
    const char *first = lake_location(dir);
    EXPECT_TRUE(life_do(&a, 2, "-1 +3 =2"));
    life_release(&a);
    const char *second = lake_location(dir);
    json_t *back = lake_metadata(dir);
    json_t *snapshots = json_object_get(back, "snapshots");
    json_t *id = json_object_get(json_array_get(snapshots, 0), "snapshot-id");
    json_object_set(back, "current-snapshot-id", id);
    json_object_set(json_object_get(json_object_get(back, "refs"), "main"), "snapshot-id", id);
    lake_put_metadata(dir, back);
    expect_stop(dir, "table_rolled_back");
    lake_ask(dir, lake_text("UPDATE iceberg_tables SET metadata_location = '%s'", first));
    expect_stop(dir, "table_replaced");
    lake_ask(dir, lake_text("UPDATE iceberg_tables SET metadata_location = '%s'", second));
    json_t *other = lake_metadata(dir);
    json_object_set_new(other, "table-uuid", json_string("9c12d441-03fe-4693-9a96-a0705ddf69c1"));
    lake_put_metadata(dir, other);
    expect_stop(dir, "table_replaced");
    lake_ask(dir, "DELETE FROM iceberg_tables");
    expect_stop(dir, "table_dropped");
    struct life b; /* unless all of it is void anyway */
    if (life_begin(&b, dir, "")) {
        EXPECT_TRUE(life_do(&b, 3, "! +7"));
        EXPECT_EQ_STR(lake_rows(dir), "7old ");
    }
    life_release(&b);
}

static json_t *summary_now(const char *dir, json_t **metadata) {
    *metadata = lake_metadata(dir);
    json_t *all = json_object_get(*metadata, "snapshots");
    return json_object_get(json_array_get(all, json_array_size(all) - 1), "summary");
}
static void expect_said(const char *dir, const char *key, const char *want) {
    json_t *m;
    json_t *summary = summary_now(dir, &m);
    EXPECT_EQ_STR(json_string_value(json_object_get(summary, key)), want);
    json_decref(m);
}

TEST(ice_commit_says_when_a_table_is_consistent) {
    const char *dir = lake_dir();
    struct life a;
    struct err err = ERR_INIT;
    life_init(&a, dir, "");
    a.inconsistent = "public.t";
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 1, ""));
    EXPECT_EQ_STR(lake_location(dir), NULL); /* nothing to say yet */
    a.inconsistent = NULL;
    EXPECT_TRUE(life_do(&a, 2, "")); /* an empty table is complete */
    EXPECT_EQ_STR(lake_rows(dir), "");
    expect_said(dir, "tailrace.consistent", "true");
    const char *idle = lake_location(dir);
    EXPECT_TRUE(life_do(&a, 3, ""));
    EXPECT_EQ_STR(lake_location(dir), idle); /* an idle table costs nothing */
    a.inconsistent = "public.t";
    EXPECT_TRUE(life_do(&a, 4, ""));
    expect_said(dir, "tailrace.consistent", "false");
    EXPECT_TRUE(life_do(&a, 5, "+1"));
    expect_said(dir, "tailrace.consistent", "false");
    a.inconsistent = NULL;
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 6, ""));
    expect_said(dir, "tailrace.consistent", "true");
    expect_said(dir, "tailrace.position", "{\"at\":6}");
    expect_said(dir, "tailrace.commit", "job-2-6");
    idle = lake_location(dir);
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 7, ""));
    EXPECT_EQ_STR(lake_location(dir), idle); /* not after a restart either */
    life_release(&a);
}

static void retype(struct life *a) {
    schema_unref(a->schema);
    a->schema = rows_schema(7, "t", 2, "id:int64:k;body:bytes");
}

TEST(ice_commit_no_table_is_consistent_whose_column_lacks_the_values_of_old_rows) {
    struct life a;
    struct err err = ERR_INIT;
    const char *dir = lake_dir();
    if (!life_begin(&a, dir, "on_type_change=resnapshot") || !life_do(&a, 1, "+1 +2")) {
        return;
    }
    retype(&a); /* and nobody reads the table again */
    EXPECT_EQ_INT(life_commit(&a, 2, "=1", &err), COMMIT_FAILED);
    EXPECT_EQ_STR(err.code, "type_change");
    err = ERR_INIT;
    a.inconsistent = "public.t";
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 2, "=1"));
    expect_said(dir, "tailrace.consistent", "false");
    a.inconsistent = NULL;
    EXPECT_EQ_INT(life_start(&a, &err), 0); /* it is kept in mind */
    EXPECT_EQ_INT(life_commit(&a, 3, "+3", &err), COMMIT_FAILED);
    EXPECT_EQ_STR(err.code, "type_change");
    err = ERR_INIT;
    EXPECT_EQ_INT(life_start(&a, &err), 0);
    EXPECT_TRUE(life_do(&a, 3, "! +1 +2 +3"));
    expect_said(dir, "tailrace.consistent", "true");
    EXPECT_TRUE(life_do(&a, 4, "-3"));
    expect_said(dir, "tailrace.consistent", "true");
    life_release(&a);
}

TEST(ice_commit_totals_are_what_is_there) {
    static const char *const steps[] = { "+1 +2 +3 +4", "-1 =2", "+5",      "=5 -3",
                                         "-2 -4 -5",    "+6 +7", "! +8 +9", "-8" };
    const char *base = kit_temp_dir();
    for (int v3 = 0; v3 < 2; v3++) {
        const char *dir = case_dir(base, v3);
        struct life a;
        if (!life_begin(&a, dir, v3 ? "format=v3" : "format=v2;partition=bucket(3,id)")) {
            return;
        }
        for (int i = 0; i < (int)ARRAY_COUNT(steps); i++) {
            if (!life_do(&a, i + 1, steps[i])) {
                return;
            }
            struct stranger s;
            struct ice_live live;
            struct err err = ERR_INIT;
            uint64_t rows = 0, files = 0, deletes = 0, dead = 0;
            void *value;
            stranger_open(&s, dir);
            ice_live_init(&live);
            EXPECT_EQ_INT(ice_live_load(&live, s.lake.store, &s.m,
                                        &s.m.snapshots[s.m.snapshot_count - 1], &err),
                          0);
            for (size_t at = 0; map_next(live.files, &at, NULL, NULL, &value);) {
                const struct ice_live_file *f = value;
                files++;
                rows += f->rows;
                deletes += f->dead != NULL;
                dead += f->dead ? (uint64_t)f->dead->entry.file.rows : 0;
            }
            expect_said(dir, "total-data-files", lake_text("%llu", (unsigned long long)files));
            expect_said(dir, "total-records", lake_text("%llu", (unsigned long long)rows));
            expect_said(dir, "total-delete-files", lake_text("%llu", (unsigned long long)deletes));
            expect_said(dir, "total-position-deletes", lake_text("%llu", (unsigned long long)dead));
            ice_live_release(&live);
            stranger_close(&s);
        }
        EXPECT_EQ_STR(lake_rows(dir), "9old ");
        life_release(&a);
    }
}
