/* A field's pages in order, as pieces of cells; seeks. See parquet_reader.h and parquet_read.h.
 *
 * Flat fields: a row is a level, and a piece lies within one page. Lists: a row begins at each
 * repetition level 0 and may go on in the next page, so that the page after it is looked at before
 * it is whole; a piece lies within one row group. Levels and values stream; only the levels of a
 * list's page are unpacked at once, a byte each. */
#include <inttypes.h>
#include <stdlib.h>

#include "sinks/parquet/parquet_read.h"

enum {
    PIECE_ROWS_MAX = 1 << 16,
    PIECE_BYTES_MAX = 16 << 20, /* a piece ends once it has so many; one cell may be larger */
};

/* Cells being put together. */
struct cells {
    struct buf data, ends, valid;
    uint32_t rows, present;
};
struct parquet_cursor {
    struct parquet_reader *r;
    const struct read_field *field;
    const struct read_leaf *leaf;
    uint32_t index; /* of the field */
    struct read_pages pages;
    struct read_values values;
    uint32_t group; /* group_count: the end */
    bool group_open;
    uint64_t row; /* of the group: the next one to give */
    struct read_page page;
    bool has_page;
    uint64_t page_row;                   /* of the group: the first that begins in the page */
    uint32_t at;                         /* levels of the page that are done */
    struct levels_take definition;       /* flat */
    struct buf repetitions, definitions; /* lists */
    struct cells cells;                  /* flat: rows; lists: elements */
    struct cells lists;                  /* lists: offsets in ends */
    struct lake_column elements;
};

static int damaged(const struct parquet_cursor *c, struct err *err, const char *what) {
    return read_damaged(c->r, c->field->field.name, err, "%s", what);
}

/* What values_ functions answer. */
static int values_failed(const struct parquet_cursor *c, int rc, struct err *err) {
    if (rc == VALUES_BEYOND) {
        return read_unsupported(c->r, c->field->field.name, err,
                                "a value is beyond what its type holds");
    }
    return read_damaged(c->r, c->field->field.name, err,
                        "values with the encoding %d do not fit their page", (int)c->page.encoding);
}

static void cells_init(struct cells *x) {
    *x = (struct cells){ 0 };
    buf_init(&x->data, SIZE_MAX);
    buf_init(&x->ends, SIZE_MAX);
    buf_init(&x->valid, SIZE_MAX);
}

static void cells_release(struct cells *x) {
    buf_release(&x->data);
    buf_release(&x->ends);
    buf_release(&x->valid);
}

static void cells_clear(struct cells *x) {
    static const uint32_t zero;
    x->rows = x->present = 0;
    buf_clear(&x->data);
    buf_clear(&x->valid);
    buf_clear(&x->ends);
    buf_put(&x->ends, &zero, sizeof zero);
}

int parquet_cursor_open(struct parquet_reader *r, uint32_t field, struct parquet_cursor **out,
                        struct err *err) {
    CHECK(field < r->field_count);
    const struct read_field *f = &r->fields[field];
    *out = NULL;
    if (f->leaf.refused) {
        return read_unsupported(r, f->field.name, err, "its type cannot be read: %s",
                                f->leaf.refused);
    }
    struct parquet_cursor *c = xcalloc(1, sizeof *c);
    c->r = r;
    c->field = f;
    c->leaf = &f->leaf;
    c->index = field;
    pages_init(&c->pages, r, f);
    values_init(&c->values);
    buf_init(&c->repetitions, SIZE_MAX);
    buf_init(&c->definitions, SIZE_MAX);
    cells_init(&c->cells);
    cells_init(&c->lists);
    *out = c;
    return 0;
}

void parquet_cursor_close(struct parquet_cursor *c) {
    if (c) {
        pages_release(&c->pages);
        values_release(&c->values);
        buf_release(&c->repetitions);
        buf_release(&c->definitions);
        cells_release(&c->cells);
        cells_release(&c->lists);
        free(c);
    }
}

static bool is_list(const struct parquet_cursor *c) { return c->leaf->max_repetition > 0; }
static uint64_t group_rows(const struct parquet_cursor *c) { return c->r->groups[c->group].rows; }

static int group_begin(struct parquet_cursor *c, struct err *err) {
    c->row = c->page_row = 0;
    c->has_page = false;
    c->group_open = true;
    return pages_open(&c->pages, &c->r->groups[c->group].chunks[c->index], err);
}

/* Levels of a list's page, a byte each. */
static int unpack_levels(struct parquet_cursor *c, struct buf *out, const uint8_t *p,
                         const uint8_t *end, unsigned max, struct err *err) {
    struct levels_take l;
    uint32_t some[256];
    buf_clear(out);
    uint8_t *to = read_room(out, c->page.values);
    if (levels_take_begin(&l, p, end, max > 1 ? 2 : 1)) {
        return damaged(c, err, "levels are malformed");
    }
    for (uint32_t done = 0; done < c->page.values;) {
        uint32_t n = c->page.values - done < 256 ? c->page.values - done : 256;
        if (levels_take(&l, some, n)) {
            return damaged(c, err, "levels do not fit their page");
        }
        for (uint32_t i = 0; i < n; i++) {
            if (some[i] > max) {
                return damaged(c, err, "a level is greater than its column's");
            }
            to[done + i] = (uint8_t)some[i];
        }
        done += n;
    }
    out->len = c->page.values;
    return 0;
}

/* To the front of the page that is loaded. */
static int page_rewind(struct parquet_cursor *c, struct err *err) {
    c->has_page = false;
    c->at = 0;
    c->row = c->page_row;
    if (!is_list(c) && c->leaf->max_definition > 0 &&
        levels_take_begin(&c->definition, c->page.definition, c->page.definition_end, 1)) {
        return damaged(c, err, "levels are malformed");
    }
    if (values_begin(&c->values, c->leaf, c->page.encoding, &c->pages.dict, c->page.data,
                     c->page.data_end)) {
        return values_failed(c, -1, err);
    }
    c->has_page = true;
    return 0;
}

static int page_load(struct parquet_cursor *c, const struct read_header *h, struct err *err) {
    c->has_page = false;
    if (pages_load(&c->pages, h, &c->page, err)) {
        return -1;
    }
    c->page_row = c->row;
    if (is_list(c)) {
        if (c->page.values > c->r->bytes_max / 2) {
            return read_unsupported(c->r, c->field->field.name, err,
                                    "a page of lists has %" PRIu32 " values", c->page.values);
        }
        if (unpack_levels(c, &c->repetitions, c->page.repetition, c->page.repetition_end, 1, err) ||
            unpack_levels(c, &c->definitions, c->page.definition, c->page.definition_end,
                          c->leaf->max_definition, err)) {
            return -1;
        }
    }
    return page_rewind(c, err);
}

/* The next page with values is loaded: 1; 0: the chunk ends. Flat pages that end at or before
 * `wanted` are passed over, c->row goes along. */
static int page_advance(struct parquet_cursor *c, uint64_t wanted, struct err *err) {
    for (;;) {
        struct read_header h;
        int more = pages_next(&c->pages, &h, err);
        c->has_page = false;
        if (more <= 0) {
            return more;
        }
        bool flat = !is_list(c);
        if (flat && h.values > group_rows(c) - c->row) {
            return damaged(c, err, "its pages have more rows than their group");
        }
        if (flat && h.type == PAGE_DATA_V2 && h.rows != h.values) {
            return damaged(c, err, "a page's rows are not its values");
        }
        if (h.values == 0 || (flat && c->row + h.values <= wanted)) {
            pages_skip(&c->pages, &h);
            c->row += flat ? h.values : 0;
            continue;
        }
        return page_load(c, &h, err) ? -1 : 1;
    }
}

static bool page_has_more(const struct parquet_cursor *c) {
    return c->has_page && c->at < c->page.values;
}

__attribute__((always_inline)) static inline void spread_width(uint8_t *cells, uint32_t n,
                                                               uint32_t present,
                                                               const uint8_t *valid,
                                                               const uint32_t width) {
    for (uint32_t i = n; present < i;) {
        i--;
        if (valid[i / 8] >> i % 8 & 1) {
            present--;
            memcpy(cells + (size_t)i * width, cells + (size_t)present * width, width);
        }
    }
}

/* Cells side by side -> each where its bit is. What lies between is of no meaning. */
static void spread_fixed(uint8_t *cells, uint32_t n, uint32_t present, const uint8_t *valid,
                         uint32_t width) {
    switch (width) {
    case 4:
        spread_width(cells, n, present, valid, 4);
        break;
    case 8:
        spread_width(cells, n, present, valid, 8);
        break;
    default:
        spread_width(cells, n, present, valid, width);
    }
}

/* Ends of the present ones -> ends of all; before: the end that they follow. */
static void spread_ends(uint32_t *ends, uint32_t n, uint32_t present, const uint8_t *valid,
                        uint32_t before) {
    for (uint32_t i = n; i > 0; i--) {
        ends[i - 1] = present > 0 ? ends[present - 1] : before;
        present -= valid[(i - 1) / 8] >> (i - 1) % 8 & 1;
    }
}

/* Appends n cells, of which `present` have values; valid: their bits, which may be NULL where all
 * have. taken: values that were taken, fewer only for variable cells beyond the limit; then
 * nothing but dense values is appended and the caller settles it. */
static int cells_append(struct parquet_cursor *c, uint32_t n, uint32_t present,
                        const uint8_t *valid, size_t limit, uint32_t *taken, struct err *err) {
    struct cells *x = &c->cells;
    uint32_t width = c->leaf->width;
    if (width > 0) {
        uint8_t *to = read_room(&x->data, (size_t)n * width);
        int rc = values_fixed(&c->values, present, to);
        if (rc) {
            return values_failed(c, rc, err);
        }
        if (present < n) {
            spread_fixed(to, n, present, valid, width);
        }
        x->data.len += (size_t)n * width;
        *taken = present;
        return 0;
    }
    read_room(&x->ends, (size_t)n * sizeof(uint32_t));
    read_room(&x->data, 0);
    size_t ends_at = x->ends.len;
    uint32_t before = (uint32_t)x->data.len;
    int rc = values_texts(&c->values, present, limit, &x->data, &x->ends, taken);
    if (rc) {
        return values_failed(c, rc, err);
    }
    if (*taken == present && present < n) {
        spread_ends((uint32_t *)(void *)(x->ends.data + ends_at), n, present, valid, before);
        x->ends.len = ends_at + (size_t)n * sizeof(uint32_t);
    }
    return 0;
}

/* How many rows come before the value number `value` (from 0), nulls counted. */
static uint32_t row_of_value(const uint8_t *valid, uint32_t value) {
    uint32_t row = 0;
    for (;; row++) {
        if (valid[row / 8] >> row % 8 & 1 && value-- == 0) {
            return row;
        }
    }
}

static int take_valid(struct parquet_cursor *c, uint32_t n, uint32_t *present, struct err *err) {
    *present = n;
    if (c->leaf->max_definition == 0) {
        return 0;
    }
    uint8_t *bits = read_room(&c->cells.valid, n / 8 + 16);
    return levels_take_bits(&c->definition, bits, n, present)
               ? damaged(c, err, "levels do not fit their page")
               : 0;
}

static int flat_piece(struct parquet_cursor *c, uint32_t n, struct err *err) {
    struct levels_take before = c->definition;
    struct cells *x = &c->cells;
    uint32_t present, taken;
    size_t limit = PIECE_BYTES_MAX < c->r->bytes_max ? PIECE_BYTES_MAX : c->r->bytes_max;
    cells_clear(x);
    n = n < c->page.values - c->at ? n : c->page.values - c->at;
    if (take_valid(c, n, &present, err) ||
        cells_append(c, n, present, (const uint8_t *)x->valid.data, limit, &taken, err)) {
        return -1;
    }
    if (taken < present) {
        /* Too many bytes for one piece: only the rows up to the first value left behind. */
        n = present < n ? row_of_value((const uint8_t *)x->valid.data, taken) : taken;
        c->definition = before;
        if (take_valid(c, n, &present, err)) {
            return -1;
        }
        if (present < n) {
            uint32_t *ends = (uint32_t *)(void *)x->ends.data + 1; /* there is room for all n */
            spread_ends(ends, n, taken, (const uint8_t *)x->valid.data, 0);
        }
    }
    x->rows = n;
    x->present = present;
    c->at += n;
    c->row += n;
    return 0;
}

static void flat_column(struct parquet_cursor *c, struct lake_column *out) {
    const struct cells *x = &c->cells;
    bool variable = c->leaf->width == 0;
    *out = (struct lake_column){
        .type = c->leaf->type,
        .rows = x->rows,
        .width = c->leaf->width,
        .valid = x->present < x->rows ? (const uint8_t *)x->valid.data : NULL,
        .data = (const uint8_t *)x->data.data,
        .offsets = variable ? (const uint32_t *)(const void *)x->ends.data : NULL,
    };
}

/* A bit more at the end of a bitmap. */
static void put_valid(struct cells *x, bool set) {
    if (x->rows % 8 == 0) {
        buf_putc(&x->valid, 0);
    }
    if (set) {
        x->valid.data[x->rows / 8] |= (char)(1u << x->rows % 8);
        x->present++;
    }
    x->rows++;
}

/* Elements of a row: levels [from, to) of the page, all of them with an element. */
static int list_elements(struct parquet_cursor *c, uint32_t from, uint32_t to, bool keep,
                         struct err *err) {
    const uint8_t *definition = (const uint8_t *)c->definitions.data + from;
    uint32_t n = to - from;
    uint32_t present = 0;
    for (uint32_t i = 0; i < n; i++) {
        present += definition[i] == c->leaf->max_definition;
        if (definition[i] < 1u + !c->field->field.required) {
            return damaged(c, err, "an element lies in a list that has none");
        }
    }
    if (!keep) {
        return values_skip(&c->values, present) ? values_failed(c, -1, err) : 0;
    }
    struct cells *x = &c->cells;
    uint32_t cell = c->leaf->width > 4 ? c->leaf->width : 4;
    uint32_t taken = 0;
    if (((uint64_t)x->rows + n) * cell > c->r->bytes_max) {
        return read_unsupported(c->r, c->field->field.name, err, "a list has more than %zu bytes",
                                c->r->bytes_max);
    }
    struct buf *bits = &c->lists.data; /* of this row alone */
    uint8_t *row_bits = NULL;
    if (present < n) {
        buf_clear(bits);
        row_bits = read_room(bits, n / 8 + 1);
        memset(row_bits, 0, n / 8 + 1);
        for (uint32_t i = 0; i < n; i++) {
            row_bits[i / 8] |= (uint8_t)((definition[i] == c->leaf->max_definition) << i % 8);
        }
    }
    if (cells_append(c, n, present, row_bits, c->r->bytes_max, &taken, err)) {
        return -1;
    }
    if (taken < present) {
        return read_unsupported(c->r, c->field->field.name, err, "a list has more than %zu bytes",
                                c->r->bytes_max);
    }
    for (uint32_t i = 0; i < n; i++) {
        put_valid(x, definition[i] == c->leaf->max_definition);
    }
    return 0;
}

/* The row that begins at c->at, all of it, into the piece or not. */
static int list_row(struct parquet_cursor *c, bool keep, struct err *err) {
    const uint8_t *repetition = (const uint8_t *)c->repetitions.data;
    uint8_t first = ((const uint8_t *)c->definitions.data)[c->at];
    uint8_t null_below = c->field->field.required ? 0 : 1;
    bool has_elements = first > null_below;
    if (repetition[c->at] != 0) {
        return damaged(c, err, "a list goes on that has not begun");
    }
    uint32_t from = c->at;
    uint32_t to = from + 1;
    for (;;) {
        repetition = (const uint8_t *)c->repetitions.data;
        while (to < c->page.values && repetition[to] != 0) {
            to++;
        }
        if (has_elements ? list_elements(c, from, to, keep, err) : to - from > 1) {
            return has_elements ? -1 : damaged(c, err, "a list without elements has some");
        }
        c->at = to;
        if (to < c->page.values) {
            break;
        }
        c->row++; /* of the next page's rows the first to begin is the one after this */
        int more = page_advance(c, 0, err);
        c->row--;
        if (more < 0) {
            return -1;
        }
        if (more == 0 || ((const uint8_t *)c->repetitions.data)[0] == 0) {
            break;
        }
        if (!has_elements) {
            return damaged(c, err, "a list without elements has some");
        }
        from = to = 0;
    }
    c->row++;
    if (keep) {
        put_valid(&c->lists, first >= null_below);
        buf_put(&c->lists.ends, &c->cells.rows, sizeof c->cells.rows);
    }
    return 0;
}

/* A row can begin at c->at. */
static int list_ready(struct parquet_cursor *c, struct err *err) {
    if (page_has_more(c)) {
        return 0;
    }
    int more = page_advance(c, 0, err);
    return more < 0 ? -1 : more == 0 ? damaged(c, err, "its chunk ends before its rows do") : 0;
}

static int list_piece(struct parquet_cursor *c, uint32_t n, struct err *err) {
    cells_clear(&c->cells);
    cells_clear(&c->lists);
    n = n < group_rows(c) - c->row ? n : (uint32_t)(group_rows(c) - c->row);
    while (c->lists.rows < n && c->cells.rows < PIECE_ROWS_MAX &&
           c->cells.data.len < PIECE_BYTES_MAX) {
        if (list_ready(c, err) || list_row(c, true, err)) {
            return -1;
        }
    }
    return 0;
}

static void list_column(struct parquet_cursor *c, struct lake_column *out) {
    const struct cells *x = &c->lists;
    flat_column(c, &c->elements);
    *out = (struct lake_column){
        .type = c->field->field.type,
        .rows = x->rows,
        .valid = x->present < x->rows ? (const uint8_t *)x->valid.data : NULL,
        .offsets = (const uint32_t *)(const void *)x->ends.data,
        .elements = &c->elements,
    };
}

int parquet_cursor_next(struct parquet_cursor *c, uint32_t rows_max, struct lake_column *out,
                        struct err *err) {
    CHECK(rows_max > 0);
    *out = (struct lake_column){ .type = c->field->field.type, .width = 0 };
    for (;;) {
        if (c->group == c->r->group_count) {
            return 0;
        }
        if (!c->group_open && group_begin(c, err)) {
            return -1;
        }
        if (c->row < group_rows(c)) {
            break;
        }
        if (is_list(c) && page_has_more(c)) {
            return damaged(c, err, "its pages have more rows than their group");
        }
        c->group++;
        c->group_open = false;
    }
    uint32_t n = rows_max < PIECE_ROWS_MAX ? rows_max : PIECE_ROWS_MAX;
    if (is_list(c)) {
        if (list_piece(c, n, err)) {
            return -1;
        }
        list_column(c, out);
        return 0;
    }
    if (!page_has_more(c)) {
        int more = page_advance(c, c->row, err);
        if (more <= 0) {
            return more < 0 ? -1 : damaged(c, err, "its chunk ends before its rows do");
        }
    }
    if (flat_piece(c, n, err)) {
        return -1;
    }
    flat_column(c, out);
    return 0;
}

static int flat_skip(struct parquet_cursor *c, uint64_t rows, struct err *err) {
    while (rows > 0) {
        uint32_t n = rows < PIECE_ROWS_MAX ? (uint32_t)rows : PIECE_ROWS_MAX;
        uint32_t present;
        cells_clear(&c->cells);
        if (take_valid(c, n, &present, err)) {
            return -1;
        }
        if (values_skip(&c->values, present)) {
            return values_failed(c, -1, err);
        }
        c->at += n;
        c->row += n;
        rows -= n;
    }
    return 0;
}

/* Past what is left of a row that began in the page before. */
static int list_skip_rest(struct parquet_cursor *c, struct err *err) {
    uint32_t to = 0;
    while (to < c->page.values && ((const uint8_t *)c->repetitions.data)[to] != 0) {
        to++;
    }
    if (to > 0 && list_elements(c, 0, to, false, err)) {
        return -1;
    }
    c->at = to;
    return 0;
}

/* The page that has the row, by the offset index: 1; 0: there is no index. */
static int page_by_index(struct parquet_cursor *c, uint64_t row, struct err *err) {
    const struct read_location *l;
    uint32_t count;
    if (pages_index(&c->pages, group_rows(c), &l, &count, err)) {
        return -1;
    }
    if (count == 0) {
        return 0;
    }
    uint32_t low = 0;
    for (uint32_t high = count; high - low > 1;) {
        uint32_t middle = low + (high - low) / 2;
        *(l[middle].first_row <= row ? &low : &high) = middle;
    }
    uint64_t end = low + 1 < count ? l[low + 1].first_row : group_rows(c);
    struct read_header h;
    c->has_page = false;
    if (pages_goto(&c->pages, &l[low], err)) {
        return -1;
    }
    uint64_t at = c->pages.at;
    int more = pages_next(&c->pages, &h, err);
    if (more < 0) {
        return -1;
    }
    bool fits = more > 0 && at == c->pages.at && h.values > 0 &&
                (uint64_t)h.size + h.stored <= l[low].bytes &&
                (is_list(c) || h.values == end - l[low].first_row);
    if (!fits) {
        return damaged(c, err, "its offset index does not fit its pages");
    }
    c->row = l[low].first_row;
    if (page_load(c, &h, err)) {
        return -1;
    }
    if (is_list(c) && c->repetitions.data[0] != 0) {
        return damaged(c, err, "its offset index names a page that begins within a row");
    }
    return 1;
}

static int flat_seek(struct parquet_cursor *c, uint64_t row, struct err *err) {
    bool inside = c->has_page && row >= c->page_row && row - c->page_row < c->page.values;
    if (inside && row < c->row && page_rewind(c, err)) {
        return -1;
    }
    if (!inside) {
        int found = page_by_index(c, row, err);
        if (found < 0) {
            return -1;
        }
        if (found == 0) {
            if (row < c->row) {
                pages_restart(&c->pages);
                c->row = 0;
            } else if (c->has_page) {
                c->row = c->page_row + c->page.values;
            }
            int more = page_advance(c, row, err);
            if (more <= 0) {
                return more < 0 ? -1 : damaged(c, err, "its chunk ends before its rows do");
            }
        }
    }
    return flat_skip(c, row - c->row, err);
}

static int list_seek(struct parquet_cursor *c, uint64_t row, struct err *err) {
    /* In the page, or a little ahead: whether a later page has it is not known without an index. */
    if (row < c->row && c->has_page && row >= c->page_row) {
        if (page_rewind(c, err) || list_skip_rest(c, err)) {
            return -1;
        }
    } else if (row < c->row || !c->has_page || row - c->page_row >= c->page.values) {
        int found = page_by_index(c, row, err);
        if (found < 0) {
            return -1;
        }
        if (found == 0 && row < c->row) {
            pages_restart(&c->pages);
            c->row = 0;
            c->has_page = false;
        }
    }
    while (c->row < row) {
        if (list_ready(c, err) || list_row(c, false, err)) {
            return -1;
        }
    }
    return 0;
}

int parquet_cursor_seek(struct parquet_cursor *c, uint64_t row, struct err *err) {
    const struct parquet_reader *r = c->r;
    if (row >= r->rows) {
        c->group = r->group_count;
        c->group_open = false;
        return 0;
    }
    uint32_t low = 0; /* the last group that begins at or before the row has it */
    for (uint32_t high = r->group_count; high - low > 1;) {
        uint32_t middle = low + (high - low) / 2;
        *(r->groups[middle].first_row <= row ? &low : &high) = middle;
    }
    if (!c->group_open || c->group != low) {
        c->group = low;
        if (group_begin(c, err)) {
            return -1;
        }
    }
    row -= r->groups[low].first_row;
    return is_list(c) ? list_seek(c, row, err) : flat_seek(c, row, err);
}
