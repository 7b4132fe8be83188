/* pgoutput messages, each after a big-endian u16 length. The first byte of the input chooses what
 * is wanted and how often segments are taken. */
#include "tests/unit/u_pg_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_segment(struct segment *s, struct buf *out) {
    if (!s) {
        return;
    }
    buf_clear(out);
    pgk_put_segment(out, s); /* reads every cell */
    for (uint32_t i = 0; i < s->batch_count; i++) {
        const struct batch *b = s->batches[i];
        for (uint32_t row = 0; row < b->rows; row++) {
            CHECK(b->tx[row] < s->txs->count);
            CHECK(row == 0 || b->tx[row] > b->tx[row - 1] ||
                  (b->tx[row] == b->tx[row - 1] && b->n[row] >= b->n[row - 1]));
        }
    }
    segment_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct view in = view_of(data, size);
    struct pgk k = { 0 };
    struct pgsrc_pgoutput_calls calls = { .relation = pgk_relation, .arg = &k };
    struct err err = ERR_INIT;
    struct buf out;
    uint8_t mode;
    if (take_u8(&in, &mode) != 0) {
        return 0;
    }
    pgk_add_type(&k, 20000, 'e', 0, -1, 0, '-');
    pgk_add_type(&k, 20001, 'd', 1700, (10 << 16 | 2) + 4, 0, '-');
    buf_init(&out, SIZE_MAX);
    struct pgsrc_pgoutput *d = pgsrc_pgoutput_new(&calls);
    if (mode & 4) {
        pgsrc_pgoutput_row_max(d, 64);
    }
    uint16_t len;
    const uint8_t *p;
    while (take_u16be(&in, &len) == 0 && take_bytes(&in, len, &p) == 0) {
        if (pgsrc_pgoutput_message(d, p, len, (struct logpos){ 0, mode & 1 ? 256 : 0 }, &err) !=
            0) {
            CHECK(err.kind != ERR_NONE && err.code[0] && err.text[0]);
            CHECK(pgsrc_pgoutput_take(d) == NULL);
            break;
        }
        if (mode & 2) {
            check_segment(pgsrc_pgoutput_take(d), &out);
        }
    }
    if (err.kind == ERR_NONE) {
        check_segment(pgsrc_pgoutput_take(d), &out);
    }
    pgsrc_pgoutput_free(d);
    pgk_release(&k);
    buf_release(&out);
    return 0;
}
