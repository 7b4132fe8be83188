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
                                .database = "sh\"op\\ü" },
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
    buf_release(&b);
    EXPECT_EQ_INT(pgsrc_lineage_take("{\"system\":\"1\",\"slot\":\"s\"}", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("{\"system\":1,\"slot\":\"s\",\"database\":\"d\"}", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("[]", &out), -1);
    EXPECT_EQ_INT(pgsrc_lineage_take("", &out), -1);
}
