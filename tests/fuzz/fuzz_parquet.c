/* A whole Parquet file as anybody may have made it: opened, every field read in pieces, then rows
 * here and there. Reading ends, whatever the file claims: pieces are counted, since a few bytes may
 * well say a billion equal rows. Seeks go backwards over where the pieces began. */
#include <stdlib.h>

#include "sinks/parquet/parquet_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 1 << 20, PIECES_MAX = 32, PIECE_ROWS = 1000 };

struct bytes {
    const uint8_t *data;
    size_t size;
};

static int read_at(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    const struct bytes *b = arg;
    CHECK(off <= b->size && n <= b->size - off); /* the reader knows the file's size */
    (void)err;
    if (n > 0) {
        memcpy(p, b->data + off, n);
    }
    return 0;
}

static uint64_t sum_bytes(uint64_t sum, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    }
    return sum;
}

static bool has(const uint8_t *valid, uint32_t row) {
    return !valid || (valid[row / 8] >> row % 8 & 1);
}

/* Touches everything that a caller may touch of a row. */
static uint64_t sum_row(const struct lake_column *c, uint32_t row, uint64_t sum) {
    if (!has(c->valid, row)) {
        CHECK(c->width > 0 || c->offsets[row] == c->offsets[row + 1]);
        return sum * 31;
    }
    if (c->width > 0) {
        return sum_bytes(sum, c->data + (size_t)row * c->width, c->width);
    }
    CHECK(c->offsets[0] == 0 && c->offsets[row] <= c->offsets[row + 1]);
    if (c->type.kind != LAKE_LIST) {
        return sum_bytes(sum, c->data + c->offsets[row], c->offsets[row + 1] - c->offsets[row]);
    }
    CHECK(c->elements->rows == c->offsets[c->rows]);
    for (uint32_t i = c->offsets[row]; i < c->offsets[row + 1]; i++) {
        sum = sum_row(c->elements, i, sum + 1);
    }
    return sum;
}

static void read_field(struct parquet_reader *r, uint32_t field) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    struct lake_column piece;
    uint64_t row = 0;
    uint64_t firsts[PIECES_MAX];
    unsigned pieces = 0;
    if (parquet_cursor_open(r, field, &c, &err)) {
        return;
    }
    while (pieces < PIECES_MAX && parquet_cursor_next(c, PIECE_ROWS, &piece, &err) == 0) {
        if (piece.rows == 0) {
            CHECK(row == parquet_reader_rows(r));
            break;
        }
        CHECK(piece.rows <= PIECE_ROWS);
        firsts[pieces++] = row;
        for (uint32_t i = 0; i < piece.rows; i++) {
            sum_row(&piece, i, 1);
        }
        row += piece.rows;
    }
    for (unsigned i = pieces; i-- > 0;) {
        err_clear(&err);
        if (parquet_cursor_seek(c, firsts[i], &err) == 0 &&
            parquet_cursor_next(c, 1, &piece, &err) == 0) {
            CHECK(piece.rows == 1);
            sum_row(&piece, 0, 1);
        }
    }
    parquet_cursor_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes bytes = { data, size };
    struct err err = ERR_INIT;
    struct parquet_reader *r = NULL;
    struct parquet_input input = {
        .read_at = read_at, .arg = &bytes, .size = size, .name = "fuzz.parquet"
    };
    if (parquet_reader_open(input, BYTES_MAX, &r, &err)) {
        CHECK(err.kind == ERR_FATAL && err.code[0]);
        return 0;
    }
    for (uint32_t i = 0; i < parquet_reader_field_count(r); i++) {
        read_field(r, i);
    }
    parquet_reader_close(r);
    return 0;
}
