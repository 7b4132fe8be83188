/* Rows held back from their files against plain builders: every kind of column, nulls, lists,
 * picked rows and whole columns, in memory and spilled at any point. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_hold.h"
#include "tests/unit/kit.h"

enum { COLUMNS = 6, FILES = 5, ROWS_MAX = 3000 };

static const struct lake_type TYPES[COLUMNS] = {
    { .kind = LAKE_LONG },
    { .kind = LAKE_BOOL },
    { .kind = LAKE_STRING },
    { .kind = LAKE_DECIMAL, .precision = 30, .scale = 2 },
    { .kind = LAKE_LIST, .element = LAKE_STRING },
    { .kind = LAKE_LIST, .element = LAKE_INT },
};

struct held {
    struct ice_hold *hold;
    uint64_t seed;
    struct lake_builder drawn[COLUMNS];
    struct lake_column columns[COLUMNS];
    struct lake_builder want[FILES][COLUMNS];
    uint32_t slots[FILES];
    struct lake_builder got[COLUMNS];
};

static uint64_t draw(struct held *x, uint64_t below) {
    x->seed = x->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (x->seed >> 33) % below;
}

/* A cell of one row, in a column of its own. */
static void draw_cell(struct held *x, const struct lake_type *type, bool nulls,
                      struct lake_builder *out) {
    uint8_t bytes[400];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)draw(x, 256);
    }
    uint32_t offsets[2] = { 0, (uint32_t)draw(x, draw(x, 9) ? 12 : sizeof bytes) };
    uint8_t none = 0;
    struct lake_column c = { .type = *type,
                             .rows = 1,
                             .width = lake_width(type),
                             .valid = nulls && draw(x, 4) == 0 ? &none : NULL,
                             .data = bytes,
                             .offsets = offsets };
    struct lake_builder elements;
    struct lake_column element;
    lake_builder_init(&elements);
    if (type->kind == LAKE_LIST) {
        struct lake_type of = { .kind = type->element };
        lake_builder_begin(&elements, &of);
        for (uint64_t n = draw(x, 4); n > 0; n--) {
            draw_cell(x, &of, nulls, &elements);
        }
        lake_builder_column(&elements, &element);
        offsets[1] = element.rows;
        c.elements = &element;
    }
    lake_builder_add(out, &c, 0);
    lake_builder_release(&elements);
}

static void draw_rows(struct held *x, uint32_t rows) {
    for (uint32_t i = 0; i < COLUMNS; i++) {
        bool nulls = draw(x, 2);
        lake_builder_begin(&x->drawn[i], &TYPES[i]);
        for (uint32_t r = 0; r < rows; r++) {
            draw_cell(x, &TYPES[i], nulls, &x->drawn[i]);
        }
        lake_builder_column(&x->drawn[i], &x->columns[i]);
    }
}

static void add_some(struct held *x, uint32_t file, uint32_t rows) {
    uint32_t *picked = malloc((rows + 1) * sizeof *picked), n = 0;
    bool whole = draw(x, 2);
    for (uint32_t r = 0; r < rows; r++) {
        if (whole || draw(x, 3) == 0) {
            picked[n++] = r;
        }
    }
    if (n > 0) {
        ice_hold_add(x->hold, x->slots[file], x->columns, COLUMNS, whole ? NULL : picked, n);
    }
    for (uint32_t i = 0; i < COLUMNS; i++) {
        for (uint32_t p = 0; p < n; p++) {
            lake_builder_add(&x->want[file][i], &x->columns[i], picked[p]);
        }
    }
    free(picked);
}

static bool same_bytes(const struct buf *a, const struct buf *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool same_cells(const struct lake_builder *a, const struct lake_builder *b) {
    return a->rows == b->rows && same_bytes(&a->data, &b->data) &&
           same_bytes(&a->offsets, &b->offsets) && same_bytes(&a->valid, &b->valid) &&
           (a->type.kind != LAKE_LIST || same_cells(a->elements, b->elements));
}

static int collect(void *arg, const struct lake_column *columns, uint32_t rows, struct err *err) {
    struct held *x = arg;
    (void)err;
    for (uint32_t i = 0; i < COLUMNS; i++) {
        for (uint32_t r = 0; r < rows; r++) {
            lake_builder_add(&x->got[i], &columns[i], r);
        }
    }
    return 0;
}

static void begin_got(struct held *x) {
    for (uint32_t i = 0; i < COLUMNS; i++) {
        lake_builder_begin(&x->got[i], &TYPES[i]);
    }
}

static bool check_file(struct held *x, uint32_t file) {
    struct err err = ERR_INIT;
    begin_got(x);
    bool same = EXPECT_EQ_INT(ice_hold_each(x->hold, x->slots[file], collect, x, &err), 0);
    for (uint32_t i = 0; same && i < COLUMNS; i++) {
        same = EXPECT_TRUE(same_cells(&x->got[i], &x->want[file][i]));
    }
    /* cells one by one, from anywhere */
    for (uint32_t n = 0; same && n < 40 && x->want[file][0].rows > 0; n++) {
        uint32_t i = (uint32_t)draw(x, COLUMNS);
        uint32_t row = (uint32_t)draw(x, x->want[file][0].rows);
        struct lake_builder one;
        struct lake_column column;
        begin_got(x);
        lake_builder_init(&one);
        lake_builder_begin(&one, &TYPES[i]);
        lake_builder_column(&x->want[file][i], &column);
        lake_builder_add(&one, &column, row);
        same = EXPECT_EQ_INT(ice_hold_cell(x->hold, x->slots[file], row, i, &x->got[i], &err), 0) &&
               EXPECT_TRUE(same_cells(&x->got[i], &one));
        lake_builder_release(&one);
    }
    return same;
}

/* Some rounds, then everything is forgotten and done once more. */
static void life(struct held *x) {
    struct err err = ERR_INIT;
    bool same = true;
    for (uint32_t f = 0; f < FILES; f++) {
        x->slots[f] = ice_hold_file(x->hold);
        for (uint32_t i = 0; i < COLUMNS; i++) {
            lake_builder_begin(&x->want[f][i], &TYPES[i]);
        }
    }
    for (int round = 0; same && round < 12; round++) {
        uint32_t rows = 1 + (uint32_t)draw(x, draw(x, 4) ? 20 : ROWS_MAX);
        draw_rows(x, rows);
        for (uint32_t f = 0; f < FILES; f++) {
            add_some(x, f, rows);
        }
        if (draw(x, 2)) {
            same = EXPECT_EQ_INT(ice_hold_spill(x->hold, &err), 0) &&
                   EXPECT_EQ_U64(ice_hold_memory_blocks(x->hold), 0);
        }
        same = same && check_file(x, (uint32_t)draw(x, FILES));
    }
    for (uint32_t f = 0; same && f < FILES; f++) {
        same = EXPECT_EQ_U64(ice_hold_rows(x->hold, x->slots[f]), x->want[f][0].rows) &&
               check_file(x, f);
        ice_hold_drop(x->hold, x->slots[f]);
    }
    ice_hold_clear(x->hold);
    EXPECT_EQ_U64(ice_hold_memory(x->hold), 0);
}

TEST(ice_hold_gives_rows_back_as_they_came) {
    const char *path = kit_text("%s/cache/index/t.rows", kit_temp_dir());
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct held x = { .hold = ice_hold_new(files_os(), path), .seed = seed };
        for (uint32_t i = 0; i < COLUMNS; i++) {
            lake_builder_init(&x.drawn[i]);
            lake_builder_init(&x.got[i]);
            for (uint32_t f = 0; f < FILES; f++) {
                lake_builder_init(&x.want[f][i]);
            }
        }
        life(&x);
        life(&x);
        ice_hold_free(x.hold);
        for (uint32_t i = 0; i < COLUMNS; i++) {
            lake_builder_release(&x.drawn[i]);
            lake_builder_release(&x.got[i]);
            for (uint32_t f = 0; f < FILES; f++) {
                lake_builder_release(&x.want[f][i]);
            }
        }
    }
}
