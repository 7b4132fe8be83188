/* pgoutput: what is left out, where segments end, how ids are widened, and every kind of message
 * that a server would not send. Messages of real servers are in tests/golden. */
#include <string.h>

#include "tests/unit/kit.h"
#include "tests/unit/u_pg_kit.h"

struct stream {
    struct pgk k;
    struct pgsrc_pgoutput *d;
    struct err err;
    struct buf m; /* the message being written */
    struct logpos applied;
};

static void open_stream(struct stream *s) {
    memset(s, 0, sizeof(*s));
    struct pgsrc_pgoutput_calls calls = { .relation = pgk_relation, .arg = &s->k };
    s->d = pgsrc_pgoutput_new(&calls);
    buf_init(&s->m, SIZE_MAX);
}

static void close_stream(struct stream *s) {
    pgsrc_pgoutput_free(s->d);
    pgk_release(&s->k);
    buf_release(&s->m);
}

static void put_be(struct buf *out, uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        buf_putc(out, (char)(v >> (8 * i)));
    }
}

/* Sends what was written, from memory of exactly its size. */
static int send(struct stream *s) {
    uint8_t *exact = malloc(s->m.len ? s->m.len : 1);
    memcpy(exact, s->m.data, s->m.len);
    int got = pgsrc_pgoutput_message(s->d, exact, s->m.len, s->applied, &s->err);
    free(exact);
    buf_clear(&s->m);
    return got;
}

static int begin(struct stream *s, uint64_t lsn, uint32_t xid) {
    buf_putc(&s->m, 'B');
    put_be(&s->m, lsn, 8);
    put_be(&s->m, 0, 8);
    put_be(&s->m, xid, 4);
    return send(s);
}

static int commit(struct stream *s, uint64_t lsn, uint64_t end) {
    buf_putc(&s->m, 'C');
    put_be(&s->m, 0, 1);
    put_be(&s->m, lsn, 8);
    put_be(&s->m, end, 8);
    put_be(&s->m, 0, 8);
    return send(s);
}

/* (id int4, a text), id in the identity. */
static int relation(struct stream *s, uint32_t oid, const char *name, char identity) {
    buf_putc(&s->m, 'R');
    put_be(&s->m, oid, 4);
    buf_put(&s->m, "public", 7);
    buf_put(&s->m, name, strlen(name) + 1);
    buf_putc(&s->m, identity);
    put_be(&s->m, 2, 2);
    buf_put(&s->m, "\1id", 4);
    put_be(&s->m, 23, 4);
    put_be(&s->m, UINT32_MAX, 4);
    buf_put(&s->m, identity == 'f' ? "\1a" : "\0a", 3);
    put_be(&s->m, 25, 4);
    put_be(&s->m, UINT32_MAX, 4);
    return send(s);
}

/* kind, then cells: NULL = null, "~" = unchanged, else text. */
static void put_tuple(struct stream *s, char kind, const char *id, const char *a) {
    const char *cells[2] = { id, a };
    buf_putc(&s->m, kind);
    put_be(&s->m, 2, 2);
    for (int i = 0; i < 2; i++) {
        if (!cells[i] || strcmp(cells[i], "~") == 0) {
            buf_putc(&s->m, cells[i] ? 'u' : 'n');
        } else {
            buf_putc(&s->m, 't');
            put_be(&s->m, strlen(cells[i]), 4);
            buf_puts(&s->m, cells[i]);
        }
    }
}

static void put_change(struct stream *s, char type, uint32_t oid) {
    buf_putc(&s->m, type);
    put_be(&s->m, oid, 4);
}

static int insert(struct stream *s, uint32_t oid, const char *id, const char *a) {
    put_change(s, 'I', oid);
    put_tuple(s, 'N', id, a);
    return send(s);
}

/* What is taken, as text; "none". */
static const char *take(struct stream *s) {
    struct segment *seg = pgsrc_pgoutput_take(s->d);
    if (!seg) {
        return "none";
    }
    struct buf out;
    buf_init(&out, SIZE_MAX);
    pgk_put_segment(&out, seg);
    const char *text = kit_text("%s", buf_cstr(&out));
    buf_release(&out);
    segment_free(seg);
    return text;
}

#define EPOCH "2000-01-01T00:00:00Z"

TEST(pgoutput_gives_nothing_when_nothing_happened) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_STR(take(&s), "none");
    pgsrc_pgoutput_progress(s.d, (struct logpos){ 0, 0x100 });
    EXPECT_EQ_STR(take(&s), "to 100\n");
    pgsrc_pgoutput_progress(s.d, (struct logpos){ 0, 0x100 });
    pgsrc_pgoutput_progress(s.d, (struct logpos){ 0, 0xff });
    EXPECT_EQ_STR(take(&s), "none");
    close_stream(&s);
}

TEST(pgoutput_moves_on_without_rows_but_not_within_a_transaction) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_TRUE(pgsrc_pgoutput_in_transaction(s.d));
    pgsrc_pgoutput_progress(s.d, (struct logpos){ 0, 0x200 });
    EXPECT_EQ_STR(take(&s), "none");
    EXPECT_EQ_INT(commit(&s, 0x100, 0x110), 0);
    EXPECT_TRUE(!pgsrc_pgoutput_in_transaction(s.d));
    EXPECT_EQ_STR(take(&s), "to 110\n");
    close_stream(&s);
}

TEST(pgoutput_leaves_out_what_is_applied_but_keeps_its_relations) {
    struct stream s;
    open_stream(&s);
    s.applied = (struct logpos){ 0, 0x110 };
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    EXPECT_EQ_INT(insert(&s, 1, "1", "left out"), 0);
    EXPECT_EQ_INT(commit(&s, 0x100, 0x110), 0);
    EXPECT_EQ_STR(take(&s), "none");
    EXPECT_EQ_INT(begin(&s, 0x110, 8), 0); /* the next begins right there */
    EXPECT_EQ_INT(insert(&s, 1, "2", "kept"), 0);
    EXPECT_EQ_INT(commit(&s, 0x110, 0x120), 0);
    EXPECT_EQ_STR(take(&s), "public.t insert 8/0 id=2 a=kept\ntx 8 commit 110 end 120 at " EPOCH
                            "\nto 120\n");
    s.applied = (struct logpos){ 0, 0x205 };
    EXPECT_EQ_INT(begin(&s, 0x200, 9), 0);
    EXPECT_EQ_INT(commit(&s, 0x200, 0x210), -1); /* ends above what was said to be applied */
    EXPECT_EQ_STR(s.err.code, "protocol_malformed");
    close_stream(&s);
}

TEST(pgoutput_spreads_a_long_transaction_over_segments) {
    struct stream s;
    open_stream(&s);
    s.applied = (struct logpos){ 0, 0x50 };
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    EXPECT_EQ_INT(insert(&s, 1, "1", "a"), 0);
    EXPECT_TRUE(pgsrc_pgoutput_bytes(s.d) > 0);
    EXPECT_EQ_STR(take(&s), "public.t insert 7/0 id=1 a=a\ntx 7 commit 100 end 0 at " EPOCH
                            "\nto 50 within a transaction\n");
    EXPECT_EQ_U64(pgsrc_pgoutput_bytes(s.d), 0);
    EXPECT_EQ_INT(insert(&s, 1, "2", "b"), 0);
    EXPECT_EQ_STR(take(&s), "public.t insert 7/1 id=2 a=b\ntx 7 commit 100 end 0 at " EPOCH
                            "\nto 50 within a transaction\n");
    EXPECT_EQ_STR(take(&s), "none");
    EXPECT_EQ_INT(commit(&s, 0x100, 0x110), 0);
    EXPECT_EQ_STR(take(&s), "tx 7 commit 100 end 110 at " EPOCH "\nto 110\n");
    close_stream(&s);
}

TEST(pgoutput_widens_ids_to_the_nearest) {
    struct stream s;
    open_stream(&s);
    static const struct {
        uint32_t xid;
        const char *wide;
    } ids[] = {
        { 5, "4294967301" },
        { 0xfffffff0u, "4294967280" },
        { 0x7fffffe0u, "6442450912" },
        { 3, "4294967299" },
    };
    pgsrc_pgoutput_widen_from(s.d, UINT64_C(0xfffffffa));
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    for (uint64_t i = 0; i < ARRAY_COUNT(ids); i++) {
        uint64_t lsn = 0x100 + 0x10 * i;
        EXPECT_EQ_INT(begin(&s, lsn, ids[i].xid), 0);
        EXPECT_EQ_INT(insert(&s, 1, "1", "a"), 0);
        EXPECT_EQ_INT(commit(&s, lsn, lsn + 8), 0);
        EXPECT_TRUE(strstr(take(&s), kit_text(" insert %s/0", ids[i].wide)) != NULL);
    }
    close_stream(&s);
    open_stream(&s);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    EXPECT_EQ_INT(begin(&s, 0x100, 0xf0000000u), 0); /* nothing is below zero */
    EXPECT_EQ_INT(insert(&s, 1, "1", "a"), 0);
    EXPECT_TRUE(strstr(take(&s), " insert 4026531840/0") != NULL);
    close_stream(&s);
}

TEST(pgoutput_fills_unchanged_cells_from_the_old_row) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "full", 'f'), 0);
    EXPECT_EQ_INT(relation(&s, 2, "key", 'd'), 0);
    put_change(&s, 'U', 1);
    put_tuple(&s, 'O', "1", "old text");
    put_tuple(&s, 'N', "2", "~");
    EXPECT_EQ_INT(send(&s), 0);
    put_change(&s, 'U', 1);
    put_tuple(&s, 'O', "2", NULL);
    put_tuple(&s, 'N', "~", "~");
    EXPECT_EQ_INT(send(&s), 0);
    put_change(&s, 'U', 2);
    put_tuple(&s, 'K', "3", NULL);
    put_tuple(&s, 'N', "~", "~");
    EXPECT_EQ_INT(send(&s), 0);
    put_change(&s, 'U', 2);
    put_tuple(&s, 'N', "3", "~");
    EXPECT_EQ_INT(send(&s), 0);
    put_change(&s, 'D', 2);
    put_tuple(&s, 'K', "3", NULL);
    EXPECT_EQ_INT(send(&s), 0);
    EXPECT_EQ_STR(take(&s),
                  "public.full before 7/0 id=1 a=old text\npublic.full after 7/0 id=2 a=old text\n"
                  "public.full before 7/1 id=2 a=NULL\npublic.full after 7/1 id=2 a=NULL\n"
                  "public.key before 7/2 id=3 a=~\npublic.key after 7/2 id=3 a=~\npublic.key after "
                  "7/3 id=3 a=~\npublic.key delete 7/4 id=3 a=~\n"
                  "tx 7 commit 100 end 0 at " EPOCH "\nto 0 within a transaction\n");
    put_change(&s, 'U', 2);
    put_tuple(&s, 'N', "~", "x"); /* the key neither here nor in an old row */
    EXPECT_EQ_INT(send(&s), -1);
    close_stream(&s);
}

TEST(pgoutput_seals_batches_that_are_full_and_at_a_new_definition) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'f'), 0);
    for (int i = 0; i < 20000; i++) {
        put_change(&s, 'U', 1);
        put_tuple(&s, 'O', "1", "a");
        put_tuple(&s, 'N', "2", "b");
        EXPECT_EQ_INT(send(&s), 0);
    }
    EXPECT_EQ_INT(relation(&s, 1, "renamed", 'd'), 0);
    EXPECT_EQ_INT(insert(&s, 1, "3", "c"), 0);
    EXPECT_EQ_INT(commit(&s, 0x100, 0x110), 0);
    struct segment *seg = pgsrc_pgoutput_take(s.d);
    if (EXPECT_TRUE(seg != NULL)) {
        uint32_t rows = 0;
        for (uint32_t i = 0; i < seg->batch_count; i++) {
            const struct batch *b = seg->batches[i];
            EXPECT_TRUE(b->sealed && b->rows > 0 && b->rows <= BATCH_ROWS_MAX);
            for (uint32_t r = 0; r < b->rows; r++) {
                EXPECT_EQ_U64(b->n[r], rows++ / 2);
            }
        }
        EXPECT_EQ_U64(rows, 40001);
        EXPECT_TRUE(seg->batch_count >= 6 && seg->batch_count <= 12);
        EXPECT_EQ_STR(seg->batches[seg->batch_count - 2]->schema->name, "t");
        EXPECT_EQ_STR(seg->batches[seg->batch_count - 1]->schema->name, "renamed");
        segment_free(seg);
    }
    close_stream(&s);
}

TEST(pgoutput_truncates_the_wanted_tables) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, 0x100, 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    EXPECT_EQ_INT(relation(&s, 2, "unwanted", 'd'), 0);
    EXPECT_EQ_INT(relation(&s, 3, "u", 'n'), 0);
    buf_putc(&s.m, 'T');
    put_be(&s.m, 3, 4);
    put_be(&s.m, 1, 1);
    put_be(&s.m, 1, 4);
    put_be(&s.m, 2, 4);
    put_be(&s.m, 3, 4);
    EXPECT_EQ_INT(send(&s), 0);
    EXPECT_EQ_INT(insert(&s, 2, "not", "looked at"), 0);
    EXPECT_EQ_STR(take(&s), "public.t truncate 7/0 id=~ a=~\npublic.u truncate 7/2 id=~ a=~\ntx 7 "
                            "commit 100 end 0 at " EPOCH "\nto 0 within a transaction\n");
    close_stream(&s);
}

TEST(pgoutput_passes_over_origins_types_messages_and_stray_aborts) {
    static const struct {
        const char *bytes;
        size_t len;
    } passed[] = {
        { "O\0\0\0\0\0\0\0\1origin", 16 },
        { "Y\0\0\0\1public\0mood", 17 },
        { "M\0\0\0\0\0\0\0\0\1p\0\0\0\0\3abc", 19 },
        { "A\0\0\0\1\0\0\0\2", 9 },
        { "A\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1", 25 },
    };
    struct stream s;
    open_stream(&s);
    for (size_t i = 0; i < ARRAY_COUNT(passed); i++) {
        buf_put(&s.m, passed[i].bytes, passed[i].len);
        EXPECT_EQ_INT(send(&s), 0);
    }
    EXPECT_EQ_STR(take(&s), "none");
    close_stream(&s);
}

/* Each on a stream with the open transaction 7 and the relations 1 (t, d), 2 (n, identity n); or
 * idle. */
TEST(pgoutput_refuses_what_a_server_does_not_send) {
    static const struct {
        const char *why;
        bool idle;
        const char *bytes;
        size_t len;
    } bad[] = {
        { "empty", false, "", 0 },
        { "unknown type", false, "X", 1 },
        { "stream start", false, "S\0\0\0\1\1", 6 },
        { "stream start within", false, "S\0\0\0\1\0", 6 },
        { "prepare", false, "P", 1 },
        { "begin within", false, "B\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\7", 21 },
        { "short begin", true, "B\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 20 },
        { "long begin", true, "B\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\7x", 22 },
        { "commit without begin", true, "C\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\x10\0\0\0\0\0\0\0\0",
          26 },
        { "commit elsewhere", false, "C\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\x10\0\0\0\0\0\0\0\0", 26 },
        { "commit that ends where it begins", false,
          "C\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0", 26 },
        { "short commit", false, "C\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\x10\0\0\0\0\0\0\0", 25 },
        { "row outside", true, "I\0\0\0\1N\0\2nn", 10 },
        { "truncate outside", true, "T\0\0\0\0\0", 6 },
        { "row without relation", false, "I\0\0\0\x63N\0\2nn", 10 },
        { "no relation", false, "I\0\0", 3 },
        { "no tuple", false, "I\0\0\0\1", 5 },
        { "insert of K", false, "I\0\0\0\1K\0\2nn", 10 },
        { "insert of x", false, "I\0\0\0\1x\0\2nn", 10 },
        { "fewer columns", false, "I\0\0\0\1N\0\1n", 9 },
        { "more columns", false, "I\0\0\0\1N\0\3nnn", 11 },
        { "no count", false, "I\0\0\0\1N\0", 7 },
        { "cut after the first cell", false, "I\0\0\0\1N\0\2n", 9 },
        { "cell kind x", false, "I\0\0\0\1N\0\2nx", 10 },
        { "cell without length", false, "I\0\0\0\1N\0\2nt\0\0", 12 },
        { "cell length -5", false,
          "I\0\0\0\1N\0\2nt\xff\xff\xff\xfb"
          "abc",
          17 },
        { "cell beyond", false, "I\0\0\0\1N\0\2nt\0\0\0\4abc", 17 },
        { "bytes after", false, "I\0\0\0\1N\0\2nnn", 11 },
        { "update without new", false, "U\0\0\0\1K\0\2nn", 10 },
        { "update of K and K", false, "U\0\0\0\1K\0\2nnK\0\2nn", 15 },
        { "update without identity", false, "U\0\0\0\2N\0\2nn", 10 },
        { "delete without identity", false, "D\0\0\0\2K\0\2nn", 10 },
        { "delete of N", false, "D\0\0\0\1N\0\2nn", 10 },
        { "truncate too short", false, "T\0\0\0\2\0\0\0\0\1", 10 },
        { "truncate too long", false, "T\0\0\0\1\0\0\0\0\1x", 11 },
        { "truncate of 4 billion", false, "T\xff\xff\xff\xff\0\0\0\0\1", 10 },
        { "truncate without relation", false, "T\0\0\0\1\0\0\0\0\x63", 10 },
        { "relation name without end", true, "R\0\0\0\1public", 11 },
        { "relation identity x", true, "R\0\0\0\1s\0n\0x\0\0", 12 },
        { "relation of too many columns", true, "R\0\0\0\1s\0n\0d\xff\xff", 12 },
        { "relation with fewer columns", true, "R\0\0\0\1s\0n\0d\0\1", 12 },
        { "relation column without type", true, "R\0\0\0\1s\0n\0d\0\1\1a\0\0\0", 17 },
        { "relation with bytes after", true, "R\0\0\0\1s\0n\0d\0\0x", 13 },
        { "origin without end", true, "O\0\0\0\0\0\0\0\1origin", 15 },
        { "type without name", true, "Y\0\0\0\1public", 12 },
        { "message beyond", true, "M\0\0\0\0\0\0\0\0\1p\0\0\0\0\4abc", 19 },
        { "abort of 10 bytes", true, "A\0\0\0\1\0\0\0\2\0\0", 11 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct stream s;
        open_stream(&s);
        if (!bad[i].idle) {
            EXPECT_EQ_INT(begin(&s, 1, 7), 0);
            EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
            EXPECT_EQ_INT(relation(&s, 2, "n", 'n'), 0);
        }
        buf_put(&s.m, bad[i].bytes, bad[i].len);
        EXPECT_EQ_INT(send(&s), -1);
        if (!EXPECT_EQ_STR(s.err.code, "protocol_malformed")) {
            EXPECT_EQ_STR(s.err.text, bad[i].why);
        }
        EXPECT_EQ_INT(s.err.kind, ERR_FATAL);
        EXPECT_TRUE(pgsrc_pgoutput_take(s.d) == NULL); /* nothing of what was begun is given out */
        close_stream(&s);
    }
}

TEST(pgoutput_errors_tell_place_and_bytes) {
    struct stream s;
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, UINT64_C(0x1600000001), 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    buf_put(&s.m, "I\0\0\0\1N\0\2nxmore than sixteen bytes", 34);
    EXPECT_EQ_INT(send(&s), -1);
    EXPECT_EQ_STR(s.err.text, "the log after 16/1: a cell of an unknown form, in a message of 34 "
                              "bytes: 49000000014e00026e786d6f72652074...");
    close_stream(&s);
    open_stream(&s);
    EXPECT_EQ_INT(begin(&s, UINT64_C(0x1600000001), 7), 0);
    EXPECT_EQ_INT(relation(&s, 1, "t", 'd'), 0);
    EXPECT_EQ_INT(insert(&s, 1, "abc", ""), -1);
    EXPECT_EQ_STR(s.err.code, "value_malformed");
    EXPECT_EQ_STR(s.err.text, "transaction 7, committed at 16/1: column \"id\" of public.t: a text "
                              "value of type int32 has 3 bytes that are none: 616263");
    close_stream(&s);
}

/* Opens a transaction on a relation with identity FULL and sends an update of it. */
static int full_update(struct stream *s, const char *old_id, const char *old_a, const char *id,
                       const char *a) {
    EXPECT_EQ_INT(relation(s, 1, "t", 'f'), 0);
    EXPECT_EQ_INT(begin(s, 0x1600000001, 7), 0);
    put_change(s, 'U', 1);
    put_tuple(s, 'O', old_id, old_a);
    put_tuple(s, 'N', id, a);
    return send(s);
}

TEST(pgoutput_row_max_holds_for_each_row_of_a_change) {
    static const struct {
        const char *old_id, *old_a, *id, *a;
        bool fits;
    } cases[] = {
        { "1", "aaaaa", "1", "bbbbb", true },   { "1", "aaaaa", "1", "bbbbbb", false },
        { "1", "aaaaaa", "1", "bbbbb", false }, { "1", "aaaaa", "2", "~", true },
        { "1", "aaaaa", "22", "~", false },     { "123456", NULL, "123456", "", true },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct stream s;
        open_stream(&s);
        pgsrc_pgoutput_row_max(s.d, 6);
        int got = full_update(&s, cases[i].old_id, cases[i].old_a, cases[i].id, cases[i].a);
        EXPECT_EQ_INT(got, cases[i].fits ? 0 : -1);
        EXPECT_EQ_STR(s.err.code, cases[i].fits ? "" : "row_too_large");
        EXPECT_TRUE(cases[i].fits || (s.err.kind == ERR_FATAL && s.err.cure[0]));
        close_stream(&s);
    }
}

static int busy_catalogue(void *arg, const struct pgsrc_relation *rel, struct schema **schema,
                          const struct pgsrc_plan **plan, struct err *err) {
    (void)arg;
    (void)rel;
    *schema = NULL;
    *plan = NULL;
    return err_set(err, ERR_RETRY, "lock_timeout", "the catalogue is locked");
}

/* The message is gone, so there is nothing to try again. */
TEST(pgoutput_relation_that_cannot_be_asked_for_now_is_a_rewind) {
    static const uint8_t message[] = "R\0\0\0\1public\0t\0d\0\1\1id\0\0\0\0\x17\xff\xff\xff\xff";
    struct pgsrc_pgoutput_calls calls = { .relation = busy_catalogue };
    struct pgsrc_pgoutput *d = pgsrc_pgoutput_new(&calls);
    struct err err = ERR_INIT;
    EXPECT_EQ_INT(pgsrc_pgoutput_message(d, message, sizeof message - 1, LOGPOS_NONE, &err), -1);
    EXPECT_EQ_STR(err.code, "lock_timeout");
    EXPECT_EQ_INT(err.kind, ERR_REWIND);
    pgsrc_pgoutput_free(d);
}
