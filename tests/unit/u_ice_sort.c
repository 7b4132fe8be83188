/* Held rows sorted: against a stable sort of the same rows in memory; rows of all kinds of columns,
 * runs of any size, in memory and spilled, with rows left out. */
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_sort.h"
#include "tests/unit/kit.h"

enum { COLUMNS = 4, ROWS = 4000 };
static const struct lake_type TYPES[COLUMNS] = {
    { .kind = LAKE_LONG },
    { .kind = LAKE_STRING },
    { .kind = LAKE_LIST, .element = LAKE_INT },
    { .kind = LAKE_BOOL },
};

struct row {
    int64_t number; /* the order's second column, descending */
    char text[8];   /* its first; "~" = null, which is last */
    uint32_t place;
};
struct sorted_rows {
    struct row rows[ROWS];
    struct lake_builder builders[COLUMNS];
    uint32_t got;
    bool same;
};

static uint64_t seed;
static uint64_t draw(uint64_t below) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % below;
}

static void add_cell(struct lake_builder *b, const void *p, uint32_t n, bool null) {
    uint32_t offsets[2] = { 0, n };
    struct lake_column c = { .type = b->type, .rows = 1, .width = b->width, .data = p };
    c.offsets = b->width ? NULL : offsets;
    if (null) {
        lake_builder_null(b);
    } else {
        lake_builder_add(b, &c, 0);
    }
}

/* A row's list: as many elements as its place says, all its place. */
static void add_list(struct lake_builder *b, uint32_t place) {
    int32_t elements[3] = { (int32_t)place, (int32_t)place, (int32_t)place };
    uint32_t offsets[2] = { 0, place % 4 };
    struct lake_column e = {
        .type = { .kind = LAKE_INT }, .rows = 3, .width = 4, .data = (const uint8_t *)elements
    };
    struct lake_column c = { .type = b->type, .rows = 1, .offsets = offsets, .elements = &e };
    lake_builder_add(b, &c, 0);
}

static void hold_rows(struct sorted_rows *x, struct ice_hold *hold, uint32_t file, uint32_t from,
                      uint32_t count) {
    struct lake_column columns[COLUMNS];
    for (uint32_t i = 0; i < COLUMNS; i++) {
        lake_builder_begin(&x->builders[i], &TYPES[i]);
    }
    for (uint32_t r = from; r < from + count; r++) {
        struct row *row = &x->rows[r];
        *row = (struct row){ .number = (int64_t)draw(40) - 20, .place = r };
        snprintf(row->text, sizeof row->text, draw(5) ? "t%u" : "~", (unsigned)draw(6));
        add_cell(&x->builders[0], &row->number, 8, false);
        add_cell(&x->builders[1], row->text, (uint32_t)strlen(row->text), row->text[0] == '~');
        add_list(&x->builders[2], r);
        add_cell(&x->builders[3], r % 3 ? "\1" : "\0", 1, r % 5 == 0);
    }
    for (uint32_t i = 0; i < COLUMNS; i++) {
        lake_builder_column(&x->builders[i], &columns[i]);
    }
    ice_hold_add(hold, file, columns, COLUMNS, NULL, count);
}

static int by_order(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    int differ = strcmp(x->text, y->text); /* '~' is above 't' */
    if (!differ) {
        differ = (x->number < y->number) - (x->number > y->number);
    }
    return differ ? differ : (x->place > y->place) - (x->place < y->place);
}

static int compare(void *arg, const struct lake_column *columns, uint32_t rows, struct err *err) {
    struct sorted_rows *x = arg;
    (void)err;
    for (uint32_t r = 0; x->same && r < rows; r++, x->got++) {
        const struct row *want = &x->rows[x->got];
        const struct lake_column *list = &columns[2];
        int64_t number;
        memcpy(&number, columns[0].data + 8 * (size_t)r, 8);
        uint32_t first = list->offsets[r], count = list->offsets[r + 1] - first;
        int32_t element = (int32_t)want->place;
        for (uint32_t e = first; e < first + count; e++) {
            memcpy(&element, list->elements->data + 4 * (size_t)e, 4);
            x->same = x->same && EXPECT_EQ_INT(element, want->place);
        }
        bool null = columns[1].valid && !bit_get(columns[1].valid, r);
        bool null_bool = columns[3].valid && !bit_get(columns[3].valid, r);
        x->same = x->same && EXPECT_EQ_INT(number, want->number) &&
                  EXPECT_EQ_INT(count, want->place % 4) &&
                  EXPECT_EQ_INT(null, want->text[0] == '~') &&
                  EXPECT_EQ_INT(null_bool, want->place % 5 == 0) &&
                  EXPECT_EQ_INT(null_bool || columns[3].data[r] == (want->place % 3 != 0), true) &&
                  EXPECT_TRUE(null || memcmp(columns[1].data + columns[1].offsets[r], want->text,
                                             strlen(want->text)) == 0);
    }
    return 0;
}

/* every: of the rows, which one of so many is dead; 0 = none. */
static void sort_some(uint32_t rows, size_t memory_bytes, bool spilled, uint32_t every) {
    const char *folder = kit_temp_dir();
    struct err err = ERR_INIT;
    struct sorted_rows *x = xcalloc(1, sizeof *x);
    struct ice_hold *from = ice_hold_new(files_os(), kit_text("%s/rows", folder));
    struct ice_hold *runs = ice_hold_new(files_os(), kit_text("%s/runs", folder));
    struct ice_bitmap *dead = ice_bitmap_new();
    struct ice_order order = { .id = 1,
                               .count = 2,
                               .fields = { { 2, false, true }, { 1, true, 0 } } };
    uint32_t indexes[] = { 1, 0 };
    x->same = true;
    for (uint32_t i = 0; i < COLUMNS; i++) {
        lake_builder_init(&x->builders[i]);
    }
    uint32_t other = ice_hold_file(from), file = ice_hold_file(from);
    hold_rows(x, from, other, 0, 10); /* which are no part of it */
    for (uint32_t r = 0; r < rows;) {
        uint32_t some = 1 + (uint32_t)draw(300);
        some = some < rows - r ? some : rows - r;
        hold_rows(x, from, file, r, some);
        r += some;
        if (spilled && draw(3) == 0) {
            EXPECT_EQ_INT(ice_hold_spill(from, &err), 0);
        }
    }
    uint32_t left = 0;
    for (uint32_t r = 0; r < rows; r++) {
        if (every && draw(every) == 0) {
            (void)ice_bitmap_add(dead, r);
        } else {
            x->rows[left++] = x->rows[r];
        }
    }
    qsort(x->rows, left, sizeof *x->rows, by_order);
    struct ice_sort sort = { .order = &order,
                             .indexes = indexes,
                             .from = from,
                             .file = file,
                             .dead = every ? dead : NULL,
                             .runs = runs,
                             .memory_bytes = memory_bytes,
                             .each = compare,
                             .arg = x };
    EXPECT_EQ_INT(ice_sort_rows(&sort, &err), 0);
    EXPECT_TRUE(x->same);
    EXPECT_EQ_INT(x->got, left);
    EXPECT_EQ_U64(ice_hold_memory(runs), 0);
    for (uint32_t i = 0; i < COLUMNS; i++) {
        lake_builder_release(&x->builders[i]);
    }
    ice_bitmap_free(dead);
    ice_hold_free(from);
    ice_hold_free(runs);
    free(x);
}

TEST(ice_sort_gives_rows_in_order) {
    seed = 5;
    sort_some(1, 1 << 20, false, 0);
    sort_some(ROWS, 1 << 20, false, 0);
    sort_some(ROWS, 1 << 20, true, 3);
}
TEST(ice_sort_merges_runs_that_memory_does_not_hold) {
    seed = 6;
    sort_some(ROWS, 16 << 10, false, 0);
    sort_some(ROWS, 16 << 10, true, 7);
    sort_some(ROWS, 1, true, 2); /* each block is a run */
}
TEST(ice_sort_of_rows_that_all_died_gives_none) { sort_some(50, 1 << 20, false, 1); }
