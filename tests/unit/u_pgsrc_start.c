/* The decision how the log is started, and the lineage that is stored with a position. */
#include <stdio.h>
#include <string.h>

#include "connectors/postgres/pgsrc_start.h"
#include "tests/unit/kit.h"

/* A job that goes on as it should; each test breaks one thing. */
static struct pgsrc_start_in healthy(void) {
    struct pgsrc_start_in in = {
        .knows = TARGET_POSITION,
        .applied = 2000,
        .resume = 1900,
        .stored = { .system = "77", .slot = "tailrace_shop", .database = "shop" },
        .here = { .system = "77", .slot = "tailrace_shop", .database = "shop" },
        .log_end = 5000,
        .own_slot = true,
        .publications = true,
        .publication = "tailrace_shop",
        .slot = { .exists = true,
                  .logical_pgoutput = true,
                  .database = "shop",
                  .wal_status = "reserved",
                  .confirmed = 1800 },
    };
    return in;
}

static bool refused(const struct pgsrc_start_in *in, const char *code, int exit_code) {
    struct err err = ERR_INIT;
    enum pgsrc_start_action action;
    uint64_t from;
    return EXPECT_EQ_INT(pgsrc_start_decide(in, &action, &from, &err), -1) &&
           EXPECT_EQ_STR(err.code, code) && EXPECT_EQ_INT(err.exit, exit_code) &&
           EXPECT_EQ_INT(err.kind, ERR_FATAL) && EXPECT_TRUE(err.cure[0] != '\0');
}

static bool goes_on(const struct pgsrc_start_in *in, uint64_t want) {
    struct err err = ERR_INIT;
    enum pgsrc_start_action action = PGSRC_CREATE;
    uint64_t from = 0;
    return EXPECT_EQ_INT(pgsrc_start_decide(in, &action, &from, &err), 0) &&
           EXPECT_EQ_INT(action, PGSRC_GO_ON) && EXPECT_EQ_U64(from, want);
}

TEST(pgsrc_start_goes_on_from_the_targets_position) {
    struct pgsrc_start_in in = healthy();
    goes_on(&in, 1900);
    in.slot.confirmed = in.resume; /* all of it was acknowledged */
    goes_on(&in, 1900);
}

TEST(pgsrc_start_refuses_a_slot_that_is_ahead) {
    struct pgsrc_start_in in = healthy();
    in.slot.confirmed = in.resume + 1;
    refused(&in, "slot_ahead", EXIT_LINEAGE);
}

TEST(pgsrc_start_refuses_another_history) {
    struct pgsrc_start_in in = healthy();
    in.log_end = in.applied - 1;
    refused(&in, "other_history", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.here.system, sizeof in.here.system, "78");
    refused(&in, "other_server", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.stored.database, sizeof in.stored.database, "other");
    refused(&in, "other_database", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.stored.slot, sizeof in.stored.slot, "other");
    refused(&in, "other_slot", EXIT_LINEAGE);
}

#define HISTORY "1\t0/7D0\tno recovery target specified\n\n2\t0/BB8\tbefore 2026-01-01\n"

TEST(pgsrc_start_reads_a_history) {
    uint64_t end;
    EXPECT_EQ_INT(pgsrc_history_end(HISTORY, 1, &end), 1);
    EXPECT_EQ_U64(end, 2000);
    EXPECT_EQ_INT(pgsrc_history_end("# by hand\n  " HISTORY, 2, &end), 1);
    EXPECT_EQ_U64(end, 3000);
    EXPECT_EQ_INT(pgsrc_history_end(HISTORY, 3, &end), 0);
    EXPECT_EQ_INT(pgsrc_history_end(HISTORY, 0, &end), 1);
    EXPECT_EQ_U64(end, 3000);
    EXPECT_EQ_INT(pgsrc_history_end("", 0, &end), 0);
    static const char *const damaged[] = { "x\t0/1\ty\n",
                                           "1\n",
                                           "1\t\n",
                                           "1\tno\n",
                                           "-1\t0/1\n",
                                           "2\t0/1\n1\t0/2\n",
                                           "99999999999\t0/1\n",
                                           "1\t00000000000/00000000000000\n" };
    for (size_t i = 0; i < ARRAY_COUNT(damaged); i++) {
        EXPECT_EQ_INT(pgsrc_history_end(damaged[i], 7, &end), -1);
    }
}

TEST(pgsrc_start_follows_a_promotion_above_its_position) {
    struct pgsrc_start_in in = healthy();
    in.stored.timeline = 1;
    in.here.timeline = 3;
    in.history = HISTORY;
    goes_on(&in, 1900); /* applied 2000 is where timeline 1 was left */
    in.stored.timeline = 0;
    in.applied = 4000; /* stored by a version that did not ask */
    goes_on(&in, 1900);
}

TEST(pgsrc_start_refuses_a_timeline_that_left_below_its_position) {
    struct pgsrc_start_in in = healthy();
    in.stored.timeline = 1;
    in.here.timeline = 3;
    in.history = HISTORY;
    in.applied = 2001;
    refused(&in, "other_history", EXIT_LINEAGE);
    in = healthy();
    in.stored.timeline = 3; /* not in the history of 2 */
    in.here.timeline = 2;
    in.history = "1\t0/FFFF\tr\n";
    refused(&in, "other_history", EXIT_LINEAGE);
    in.here.timeline = 1;
    in.history = NULL;
    refused(&in, "other_history", EXIT_LINEAGE);
}

TEST(pgsrc_start_refuses_another_beginning_of_its_timeline) {
    struct pgsrc_start_in in = healthy();
    in.stored.timeline = in.here.timeline = 2;
    in.stored.fork = in.here.fork = 1000;
    in.history = "1\t0/3E8\tr\n";
    goes_on(&in, 1900);
    in.stored.fork = 999;
    refused(&in, "other_history", EXIT_LINEAGE);
}

TEST(pgsrc_start_refuses_a_slot_that_went_back) {
    struct pgsrc_start_in in = healthy();
    in.stored.timeline = in.here.timeline = 1;
    in.stored.kept = 1700;
    goes_on(&in, 1900); /* somebody has the slot: not known */
    in.here.kept = 1700;
    goes_on(&in, 1900);
    in.here.kept = 1699;
    refused(&in, "other_history", EXIT_LINEAGE);
    in.here.timeline = 2; /* a slot that was carried to a standby may lag */
    in.history = "1\t0/FFFF\tr\n";
    goes_on(&in, 1900);
}

TEST(pgsrc_start_refuses_a_lost_slot) {
    struct pgsrc_start_in in = healthy();
    in.slot.exists = false;
    refused(&in, "slot_lost", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.slot.wal_status, sizeof in.slot.wal_status, "lost");
    refused(&in, "slot_invalidated", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.slot.cause, sizeof in.slot.cause, "idle_timeout");
    refused(&in, "slot_invalidated", EXIT_LINEAGE);
    in = healthy();
    in.publications = false;
    refused(&in, "publication_lost", EXIT_LINEAGE);
}

TEST(pgsrc_start_refuses_a_foreign_slot) {
    struct pgsrc_start_in in = healthy();
    in.slot.logical_pgoutput = false;
    refused(&in, "slot_foreign", EXIT_LINEAGE);
    in = healthy();
    snprintf(in.slot.database, sizeof in.slot.database, "other");
    refused(&in, "slot_foreign", EXIT_LINEAGE);
    in = healthy();
    in.slot.two_phase = true;
    refused(&in, "slot_foreign", EXIT_LINEAGE);
    in.knows = TARGET_NOTHING;
    in.own_slot = false;
    refused(&in, "slot_foreign", EXIT_LINEAGE);
}

TEST(pgsrc_start_of_an_empty_target) {
    struct pgsrc_start_in in = healthy();
    struct err err = ERR_INIT;
    enum pgsrc_start_action action = PGSRC_GO_ON;
    uint64_t from;
    in.knows = TARGET_NOTHING;
    refused(&in, "slot_exists", EXIT_LINEAGE);
    in.slot.exists = false;
    in.publications = false;
    EXPECT_EQ_INT(pgsrc_start_decide(&in, &action, &from, &err), 0);
    EXPECT_EQ_INT(action, PGSRC_CREATE);
}

TEST(pgsrc_start_goes_on_with_an_unfinished_first_start) {
    struct pgsrc_start_in in = healthy();
    struct err err = ERR_INIT;
    enum pgsrc_start_action action = PGSRC_GO_ON;
    uint64_t from;
    in.knows = TARGET_CLAIM;
    goes_on(&in, 1800);
    in.slot.exists = false;
    EXPECT_EQ_INT(pgsrc_start_decide(&in, &action, &from, &err), 0);
    EXPECT_EQ_INT(action, PGSRC_CREATE);
}

TEST(pgsrc_start_never_creates_the_users_slot) {
    struct pgsrc_start_in in = healthy();
    in.own_slot = false;
    in.knows = TARGET_NOTHING;
    goes_on(&in, 1800);
    in.slot.exists = false;
    refused(&in, "slot_missing", EXIT_PLAN);
}

TEST(pgsrc_lineage_survives_its_json) {
    struct pgsrc_lineage in = { .system = "7710684277930927765",
                                .slot = "tailrace_shop",
                                .database = "sh\"op\\ü",
                                .timeline = UINT32_MAX,
                                .fork = UINT64_MAX,
                                .kept = 1 },
                         out;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    pgsrc_lineage_put(&b, &in);
    for (size_t i = 0; i < b.len; i++) {
        EXPECT_TRUE(b.data[i] >= 0x20 && b.data[i] <= 0x7E); /* a position is printable ASCII */
    }
    EXPECT_EQ_INT(pgsrc_lineage_take(buf_cstr(&b), &out), 0);
    EXPECT_EQ_STR(out.system, in.system);
    EXPECT_EQ_STR(out.slot, in.slot);
    EXPECT_EQ_STR(out.database, in.database);
    EXPECT_EQ_U64(out.timeline, in.timeline);
    EXPECT_EQ_U64(out.fork, in.fork);
    EXPECT_EQ_U64(out.kept, in.kept);
    buf_release(&b);
#define OLDER "{\"system\":\"1\",\"slot\":\"s\",\"database\":\"d\""
    EXPECT_EQ_INT(pgsrc_lineage_take(OLDER "}", &out), 0); /* of a version before timelines */
    EXPECT_EQ_U64(out.timeline, 0);
    EXPECT_EQ_INT(pgsrc_lineage_take(OLDER ",\"timeline\":1}", &out), -1);
    EXPECT_EQ_INT(
        pgsrc_lineage_take(OLDER ",\"timeline\":0,\"fork\":\"0/0\",\"kept\":\"0/0\"}", &out), -1);
    EXPECT_EQ_INT(
        pgsrc_lineage_take(OLDER ",\"timeline\":1,\"fork\":\"0/0\",\"kept\":\"z\"}", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("{\"system\":\"1\",\"slot\":\"s\"}", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("{\"system\":1,\"slot\":\"s\",\"database\":\"d\"}", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("[]", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("", &out), -1);
}
