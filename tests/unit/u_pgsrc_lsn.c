/* Log positions and snapshots as text. */
#include <string.h>

#include "connectors/postgres/pgsrc_lsn.h"
#include "tests/unit/kit.h"

TEST(pgsrc_lsn_text_and_back) {
    char text[PGSRC_LSN_TEXT];
    uint64_t lsn = 0;
    EXPECT_EQ_INT(pgsrc_lsn_parse("16/B374D848", &lsn), 0);
    EXPECT_EQ_U64(lsn, UINT64_C(0x16B374D848));
    EXPECT_EQ_STR(pgsrc_lsn_text(lsn, text), "16/B374D848");
    EXPECT_EQ_INT(pgsrc_lsn_parse("FFFFFFFF/ffffffff", &lsn), 0);
    EXPECT_EQ_U64(lsn, UINT64_MAX);
    EXPECT_EQ_STR(pgsrc_lsn_text(UINT64_C(0x100000028), text), "1/28");
}

TEST(pgsrc_lsn_refuses_what_is_none) {
    static const char *const bad[] = {
        "",    "/",           "1/",          "/1",   "1",    "1/2/3",
        "1/g", "123456789/1", "1/123456789", " 1/2", "1/2 ", "-1/2"
    };
    uint64_t lsn;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (!EXPECT_EQ_INT(pgsrc_lsn_parse(bad[i], &lsn), -1)) {
            return;
        }
    }
}

TEST(pgsrc_lsn_on_a_pages_first_byte_means_the_pages_start) {
    const uint32_t page = 8192, segment = 16u << 20;
    EXPECT_EQ_U64(pgsrc_lsn_floor(3 * 8192 + 24, page, segment), 3 * 8192);
    EXPECT_EQ_U64(pgsrc_lsn_floor((uint64_t)segment * 5 + 40, page, segment),
                  (uint64_t)segment * 5);
    EXPECT_EQ_U64(pgsrc_lsn_floor((uint64_t)segment * 5 + 24, page, segment),
                  (uint64_t)segment * 5 + 24); /* inside the long header */
    EXPECT_EQ_U64(pgsrc_lsn_floor(3 * 8192 + 40, page, segment),
                  3 * 8192 + 40); /* a record stands before it */
    EXPECT_EQ_U64(pgsrc_lsn_floor(3 * 8192, page, segment), 3 * 8192);
    EXPECT_EQ_U64(pgsrc_lsn_floor(3 * 8192 + 32, page, segment), 3 * 8192 + 32);
}

TEST(pgsrc_snapshot_of_text) {
    struct snapshot s;
    snapshot_init(&s);
    if (!EXPECT_EQ_INT(pgsrc_snapshot_parse("10:20:15,10,14", &s), 0)) {
        return;
    }
    EXPECT_EQ_U64(s.xmin, 10);
    EXPECT_EQ_U64(s.xmax, 20);
    EXPECT_EQ_INT(s.xip_count, 3);
    EXPECT_TRUE(snapshot_sees(&s, 9) && snapshot_sees(&s, 11) && !snapshot_sees(&s, 10) &&
                !snapshot_sees(&s, 14) && !snapshot_sees(&s, 15) && !snapshot_sees(&s, 20));
    EXPECT_EQ_INT(pgsrc_snapshot_parse("803:803:", &s), 0);
    EXPECT_EQ_INT(s.xip_count, 0);
    snapshot_release(&s);
}

TEST(pgsrc_snapshot_refuses_what_is_none) {
    static const char *const bad[] = {
        "", "1", "1:2", "1:2:3,", "1:2:,3", "1:2:x", ":2:", "99999999999999999999:1:", "1:2:3 4"
    };
    struct snapshot s;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snapshot_init(&s);
        if (!EXPECT_EQ_INT(pgsrc_snapshot_parse(bad[i], &s), -1)) {
            return;
        }
    }
}
