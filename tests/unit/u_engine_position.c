/* The stored position: what is written is read again, and nothing else is. */
#include <stdlib.h>
#include <string.h>

#include "engine/position.h"
#include "tests/unit/kit.h"

static int put_pos(struct buf *out, struct logpos pos) {
    buf_put_u64(out, pos.offset);
    return 0;
}
static int take_pos(const char *text, struct logpos *out) {
    char *end;
    *out = (struct logpos){ 0, strtoull(text, &end, 10) };
    return *text && !*end ? 0 : -1;
}
static const struct source_ops source = { .name = "fake",
                                          .put_logpos = put_pos,
                                          .take_logpos = take_pos };

/* "" when it was read, else the error's code. */
static const char *code_of(const char *json) {
    struct stored_position p;
    struct err err = ERR_INIT;
    if (position_decode(json, &source, &p, &err) == 0) {
        stored_position_release(&p);
        return "";
    }
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_TRUE(err.cure[0] != 0);
    return kit_text("%s", err.code);
}

TEST(position_reads_back_what_it_wrote) {
    struct buf out;
    struct err err = ERR_INIT;
    struct stored_position p;
    buf_init(&out, SIZE_MAX);
    EXPECT_EQ_INT(position_open(&out, &source, "{\"id\":\"a}\\\"{\",\"n\":[1,{\"k\":2}]}",
                                (struct logpos){ 0, 90 }, (struct logpos){ 0, 70 }, 731, &err),
                  0);
    buf_puts(&out, ",\"tables\":{\"through\":\"9\",\"except\":[]},\"loose\":\"1,2\"");
    position_close(&out);
    EXPECT_EQ_STR(buf_cstr(&out),
                  "{\"v\":1,\"source\":{\"id\":\"a}\\\"{\",\"n\":[1,{\"k\":2}]},\"applied\":\"90\","
                  "\"resume\":\"70\",\"x\":731,"
                  "\"tables\":{\"through\":\"9\",\"except\":[]},\"loose\":\"1,2\"}");
    if (!EXPECT_EQ_INT(position_decode(buf_cstr(&out), &source, &p, &err), 0)) {
        return;
    }
    EXPECT_EQ_STR(p.lineage, "{\"id\":\"a}\\\"{\",\"n\":[1,{\"k\":2}]}");
    EXPECT_EQ_U64(p.applied.offset, 90);
    EXPECT_EQ_U64(p.resume.offset, 70);
    EXPECT_EQ_U64(p.x, 731);
    EXPECT_EQ_STR(p.hybrid, "{\"tables\":{\"through\":\"9\",\"except\":[]},\"loose\":\"1,2\"}");
    stored_position_release(&p);
    buf_release(&out);
}

TEST(position_of_another_version_asks_for_another_release) {
    EXPECT_EQ_STR(code_of("{\"v\":2,\"anything\":true}"), "position_version");
}

TEST(position_is_read_strictly) {
    EXPECT_EQ_STR(code_of("{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}"),
                  "");
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"v\":\"1\",\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"source\":{},\"v\":1,\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"x\":0,\"resume\":\"9\"}",
        "{\"v\":1,\"source\":[],\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":9,\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9z\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"10\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":-1}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":1.5}",
        "{\"v\":1,\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0} ",
        " {\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}x",
        "{\"v\":1,\"source\":{\"n\":\"\xc3\xa4\"},\"applied\":\"9\",\"resume\":\"9\",\"x\":0}",
        "{\"v\":1,\"source\":{},\"applied\":\"9\",\n\"resume\":\"9\",\"x\":0}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!EXPECT_EQ_STR(code_of(bad[i]), "position_malformed")) {
            EXPECT_EQ_STR(bad[i], "refused");
        }
    }
}

TEST(position_beyond_eight_kib_is_refused) {
    struct buf b;
    struct err err = ERR_INIT;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "{\"v\":1,\"source\":{},\"applied\":\"9\",\"resume\":\"9\",\"x\":0,\"tables\":\"");
    while (b.len < POSITION_BYTES_MAX - 2) {
        buf_putc(&b, 'a');
    }
    buf_puts(&b, "\"}");
    EXPECT_EQ_STR(code_of(buf_cstr(&b)), "");
    b.len -= 2;
    buf_puts(&b, "a\"}");
    EXPECT_EQ_STR(code_of(buf_cstr(&b)), "position_malformed");
    char *lineage = xmalloc(POSITION_BYTES_MAX + 1);
    memset(lineage, 'a', POSITION_BYTES_MAX);
    lineage[POSITION_BYTES_MAX] = 0;
    buf_clear(&b);
    EXPECT_EQ_INT(position_open(&b, &source, lineage, LOGPOS_NONE, LOGPOS_NONE, 0, &err), -1);
    EXPECT_EQ_STR(err.code, "position_too_long");
    free(lineage);
    buf_release(&b);
}
