/* Rows held back from their data files. See ice_hold.h.
 *
 * A block, 16-byte aligned, lengths in bytes, native order:
 *
 *   u32 rows | u32 0 | u64 bytes, the head included | u64 part[] | parts
 *   part word: offset in the block << 1 | has validity; one a column, after a list's its elements'
 *   fixed part:    cells, validity bits          variable: u32 ends[rows + 1], bytes, validity
 *   list part:     u32 ends[rows + 1], validity  its elements' part: as their kind has it */
#include "sinks/iceberg/ice_hold.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/arena.h"

enum {
    ALIGNMENT = 16,
    BLOCK_BYTES = 64 << 10, /* about; one row may have more */
    WRITE_BYTES = 1 << 20,
};

/* Blocks side by side. */
struct extent {
    uint64_t first_row;
    uint8_t *memory; /* NULL: spilled */
    uint64_t at;     /* in the cache's file */
    size_t len;
};
struct held_rows {
    struct extent *extents;
    uint32_t count, cap;
    uint64_t rows, bytes;
};
struct block_head {
    uint32_t rows, zero;
    uint64_t bytes;
};
/* Rows of columns: picked, or `first` and those after it. */
struct pick {
    const uint32_t *rows;
    uint32_t first, count;
};
struct ice_hold {
    struct files *files;
    char *path;
    struct held_rows *held;
    uint32_t held_count, held_cap;
    size_t listed; /* bytes of extents */
    struct arena arena;
    struct lake_column *columns; /* one a column: type and width; scratch for a block's */
    struct lake_column *elements;
    uint32_t *parts; /* of a column: its index in the block's words */
    uint32_t column_count, part_count;
    uint64_t *sizes; /* scratch, one a part */
    struct file *writer, *reader;
    uint64_t written;
    struct buf loaded; /* an extent of the cache's file */
    uint64_t loaded_at;
    uint32_t *element_rows; /* scratch */
    uint32_t element_cap;
};

struct ice_hold *ice_hold_new(struct files *files, const char *path) {
    struct ice_hold *h = xcalloc(1, sizeof *h);
    h->files = files;
    h->path = xstrdup(path);
    arena_init(&h->arena);
    buf_init(&h->loaded, SIZE_MAX);
    return h;
}

static void close_cache(struct ice_hold *h) {
    bool there = h->writer != NULL;
    file_close(h->writer);
    file_close(h->reader);
    h->writer = h->reader = NULL;
    h->written = 0;
    if (there) {
        struct err ignored = ERR_INIT; /* the next use of the name removes it */
        if (files_unlink(h->files, h->path, &ignored) == FILES_FAILED) {
            err_clear(&ignored);
        }
    }
}

void ice_hold_clear(struct ice_hold *h) {
    for (uint32_t i = 0; i < h->held_count; i++) {
        free(h->held[i].extents);
    }
    free(h->held);
    free(h->columns);
    free(h->elements);
    free(h->parts);
    free(h->sizes);
    free(h->element_rows);
    h->held = NULL;
    h->columns = h->elements = NULL;
    h->parts = h->element_rows = NULL;
    h->sizes = NULL;
    h->held_count = h->held_cap = h->column_count = h->part_count = h->element_cap = 0;
    h->listed = 0;
    arena_release(&h->arena);
    buf_release(&h->loaded);
    buf_init(&h->loaded, SIZE_MAX);
    close_cache(h);
}

void ice_hold_free(struct ice_hold *h) {
    if (h) {
        ice_hold_clear(h);
        buf_release(&h->loaded);
        free(h->path);
        free(h);
    }
}

uint32_t ice_hold_file(struct ice_hold *h) {
    if (h->held_count == h->held_cap) {
        h->held_cap = h->held_cap ? 2 * h->held_cap : 8;
        h->held = xrealloc(h->held, h->held_cap * sizeof *h->held);
    }
    h->held[h->held_count] = (struct held_rows){ 0 };
    return h->held_count++;
}

static struct held_rows *rows_of(const struct ice_hold *h, uint32_t file) {
    CHECK(file < h->held_count);
    return &h->held[file];
}

uint32_t ice_hold_columns(const struct ice_hold *h) { return h->column_count; }
uint64_t ice_hold_rows(const struct ice_hold *h, uint32_t file) { return rows_of(h, file)->rows; }
uint64_t ice_hold_bytes(const struct ice_hold *h, uint32_t file) { return rows_of(h, file)->bytes; }

size_t ice_hold_memory_blocks(const struct ice_hold *h) { return h->arena.held; }
size_t ice_hold_memory(const struct ice_hold *h) {
    return h->arena.held + h->listed + h->loaded.cap + h->held_cap * sizeof *h->held;
}

/* ---- columns to a block ---- */

static void learn_columns(struct ice_hold *h, const struct lake_column *columns, uint32_t count) {
    h->column_count = count;
    h->columns = xcalloc(count + 1, sizeof *h->columns);
    h->elements = xcalloc(count + 1, sizeof *h->elements);
    h->parts = xcalloc(count + 1, sizeof *h->parts);
    h->part_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        h->columns[i] = (struct lake_column){ .type = columns[i].type, .width = columns[i].width };
        h->parts[i] = h->part_count++;
        if (columns[i].type.kind == LAKE_LIST) {
            struct lake_type element = { .kind = columns[i].type.element,
                                         .precision = columns[i].type.precision,
                                         .scale = columns[i].type.scale };
            h->elements[i] = (struct lake_column){ .type = element, .width = lake_width(&element) };
            h->part_count++;
        }
    }
    h->sizes = xcalloc(h->part_count + 1, sizeof *h->sizes);
}

static inline uint32_t picked_row(const struct pick *p, uint32_t i) {
    return p->rows ? p->rows[p->first + i] : p->first + i;
}

static uint64_t span_of(const struct lake_column *c, const struct pick *p) {
    if (!p->rows) {
        return (uint64_t)c->offsets[p->first + p->count] - c->offsets[p->first];
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t row = p->rows[p->first + i];
        n += c->offsets[row + 1] - c->offsets[row];
    }
    return n;
}

static uint64_t part_bytes(const struct lake_column *c, const struct pick *p, uint64_t count) {
    uint64_t validity = c->valid ? (count + 7) / 8 : 0;
    uint64_t bytes = c->width                    ? count * c->width
                     : c->type.kind == LAKE_LIST ? (count + 1) * sizeof(uint32_t)
                                                 : (count + 1) * sizeof(uint32_t) + span_of(c, p);
    return (bytes + validity + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The elements of picked lists, as rows of their column. */
static struct pick elements_of(struct ice_hold *h, const struct lake_column *list,
                               const struct pick *p) {
    uint64_t n = span_of(list, p);
    CHECK(n <= UINT32_MAX);
    if (!p->rows) {
        return (struct pick){ .first = list->offsets[p->first], .count = (uint32_t)n };
    }
    if (n > h->element_cap) {
        h->element_cap = (uint32_t)n;
        free(h->element_rows);
        h->element_rows = xmalloc(n * sizeof *h->element_rows);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t row = p->rows[p->first + i];
        for (uint32_t e = list->offsets[row]; e < list->offsets[row + 1]; e++) {
            h->element_rows[at++] = e;
        }
    }
    return (struct pick){ .rows = h->element_rows, .count = (uint32_t)n };
}

static void put_validity(uint8_t *to, const struct lake_column *c, const struct pick *p) {
    memset(to, 0, (p->count + 7u) / 8);
    for (uint32_t i = 0; i < p->count; i++) {
        if (bit_get(c->valid, picked_row(p, i))) {
            bit_set(to, i);
        }
    }
}

static void put_fixed(uint8_t *to, const struct lake_column *c, const struct pick *p) {
    size_t width = c->width;
    if (!p->rows) {
        memcpy(to, c->data + p->first * width, p->count * width);
    } else if (width == 8) {
        for (uint32_t i = 0; i < p->count; i++) {
            memcpy(to + 8 * (size_t)i, c->data + 8 * (size_t)p->rows[p->first + i], 8);
        }
    } else {
        for (uint32_t i = 0; i < p->count; i++) {
            memcpy(to + i * width, c->data + p->rows[p->first + i] * width, width);
        }
    }
}

/* Ends of cells, and their bytes where the column has some. */
static void put_variable(uint8_t *to, const struct lake_column *c, const struct pick *p) {
    bool bytes = c->type.kind != LAKE_LIST;
    uint8_t *data = to + ((size_t)p->count + 1) * sizeof(uint32_t);
    uint32_t end = 0;
    memcpy(to, &end, sizeof end);
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t row = picked_row(p, i), len = c->offsets[row + 1] - c->offsets[row];
        if (bytes && p->rows && len > 0) {
            memcpy(data + end, c->data + c->offsets[row], len);
        }
        end += len;
        memcpy(to + ((size_t)i + 1) * sizeof end, &end, sizeof end);
    }
    if (bytes && !p->rows && end > 0) {
        memcpy(data, c->data + c->offsets[p->first], end);
    }
}

/* Where the validity of a part begins; a part of variable cells is whole but for it. */
static size_t validity_at(const struct lake_column *c, const uint8_t *part, uint64_t rows) {
    if (c->width) {
        return rows * c->width;
    }
    uint32_t last = 0;
    size_t ends = (rows + 1) * sizeof last;
    if (c->type.kind != LAKE_LIST) {
        memcpy(&last, part + ends - sizeof last, sizeof last);
    }
    return ends + last;
}

static void put_part(uint8_t *to, const struct lake_column *c, const struct pick *p) {
    if (c->width) {
        put_fixed(to, c, p);
    } else {
        put_variable(to, c, p);
    }
    if (c->valid) {
        put_validity(to + validity_at(c, to, p->count), c, p);
    }
}

/* Sizes of all parts; returns those of the block. */
static uint64_t measure(struct ice_hold *h, const struct lake_column *columns,
                        const struct pick *p) {
    uint64_t bytes = sizeof(struct block_head) + h->part_count * sizeof(uint64_t);
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (uint32_t i = 0; i < h->column_count; i++) {
        const struct lake_column *c = &columns[i];
        uint64_t *size = &h->sizes[h->parts[i]];
        bytes += size[0] = part_bytes(c, p, p->count);
        if (c->type.kind == LAKE_LIST) {
            struct pick e = elements_of(h, c, p);
            bytes += size[1] = e.count ? part_bytes(c->elements, &e, e.count) : 0;
        }
    }
    return bytes;
}

static void put_block(struct ice_hold *h, uint8_t *to, uint64_t bytes,
                      const struct lake_column *columns, const struct pick *p) {
    struct block_head head = { .rows = p->count, .bytes = bytes };
    memcpy(to, &head, sizeof head);
    uint64_t *words = (uint64_t *)(void *)(to + sizeof head);
    uint64_t at = sizeof head + h->part_count * sizeof *words;
    at = (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (uint32_t i = 0; i < h->column_count; i++) {
        const struct lake_column *c = &columns[i];
        uint32_t part = h->parts[i];
        words[part] = at << 1 | (c->valid != NULL);
        put_part(to + at, c, p);
        at += h->sizes[part];
        if (c->type.kind == LAKE_LIST) {
            struct pick e = elements_of(h, c, p);
            words[part + 1] = at << 1;
            if (e.count > 0) {
                words[part + 1] |= c->elements->valid != NULL;
                put_part(to + at, c->elements, &e);
            }
            at += h->sizes[part + 1];
        }
    }
    CHECK(at == bytes);
}

static struct extent *new_extent(struct ice_hold *h, struct held_rows *r) {
    if (r->count == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 4;
        h->listed += (cap - r->cap) * sizeof *r->extents;
        r->extents = xrealloc(r->extents, cap * sizeof *r->extents);
        r->cap = cap;
    }
    return &r->extents[r->count++];
}

void ice_hold_add(struct ice_hold *h, uint32_t file, const struct lake_column *columns,
                  uint32_t column_count, const uint32_t *picked, uint32_t count) {
    struct held_rows *r = rows_of(h, file);
    if (h->column_count == 0) {
        learn_columns(h, columns, column_count);
    }
    CHECK(column_count == h->column_count);
    struct pick p = { .rows = picked, .count = count };
    uint64_t all = measure(h, columns, &p);
    uint32_t blocks = (uint32_t)(all / BLOCK_BYTES) + 1;
    uint32_t each = (count + blocks - 1) / blocks;
    for (; p.first < count; p.first += p.count) {
        p.count = count - p.first < each ? count - p.first : each;
        uint64_t bytes = p.count == count ? all : measure(h, columns, &p);
        uint8_t *block = arena_alloc(&h->arena, bytes);
        put_block(h, block, bytes, columns, &p);
        *new_extent(h, r) = (struct extent){ .first_row = r->rows, .memory = block, .len = bytes };
        r->rows += p.count;
        r->bytes += bytes;
    }
}

/* ---- a block to columns ---- */

static void take_part(struct lake_column *c, const uint8_t *block, uint64_t word, uint32_t rows) {
    const uint8_t *part = block + (word >> 1);
    c->rows = rows;
    c->offsets = c->width ? NULL : (const uint32_t *)(const void *)part;
    c->data = c->width ? part : part + ((size_t)rows + 1) * sizeof(uint32_t);
    c->valid = word & 1 ? part + validity_at(c, part, rows) : NULL;
}

/* Into columns[column], whose type is there, and elements[column]. */
static void take_column(const struct ice_hold *h, const uint8_t *block, uint32_t column,
                        struct lake_column *columns, struct lake_column *elements) {
    static const uint32_t no_ends;
    struct block_head head;
    memcpy(&head, block, sizeof head);
    const uint64_t *words = (const uint64_t *)(const void *)(block + sizeof head);
    struct lake_column *c = &columns[column];
    uint32_t part = h->parts[column];
    take_part(c, block, words[part], head.rows);
    if (c->type.kind == LAKE_LIST) {
        struct lake_column *e = &elements[column];
        if (c->offsets[head.rows] > 0) {
            take_part(e, block, words[part + 1], c->offsets[head.rows]);
        } else {
            e->rows = 0;
            e->offsets = &no_ends;
            e->data = e->valid = NULL;
        }
        c->elements = e;
    }
}

/* ---- the cache's file ---- */

static int create_cache(struct ice_hold *h, struct err *err) {
    char *folder = xstrndup(h->path, (size_t)(strrchr(h->path, '/') - h->path));
    int rc = files_mkdirs(h->files, folder, 0700, err) == FILES_FAILED ||
                     files_unlink(h->files, h->path, err) == FILES_FAILED
                 ? -1
                 : 0;
    free(folder);
    if (rc == 0) {
        enum files_result made = files_create_excl(h->files, h->path, &h->writer, err);
        rc = made == FILES_OK ? 0
             : made == FILES_EXISTS
                 ? err_set(err, ERR_REWIND, "file_error", "\"%s\": somebody else makes it", h->path)
                 : -1;
    }
    return rc;
}

static int write_out(struct ice_hold *h, struct buf *out, struct err *err) {
    int rc = file_write(h->writer, out->data, out->len, err);
    h->written += out->len;
    buf_clear(out);
    return rc;
}

/* A file's blocks in memory, side by side; extents of up to BLOCK_BYTES are made of small ones. */
static int spill_rows(struct ice_hold *h, struct held_rows *r, struct buf *out, struct err *err) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct extent e = r->extents[i];
        if (!e.memory) {
            r->extents[kept++] = e;
            continue;
        }
        uint64_t at = h->written + out->len;
        struct extent *last = kept ? &r->extents[kept - 1] : NULL;
        buf_put(out, e.memory, e.len);
        if (last && last->at + last->len == at && last->len + e.len <= BLOCK_BYTES) {
            last->len += e.len;
        } else {
            r->extents[kept++] =
                (struct extent){ .first_row = e.first_row, .at = at, .len = e.len };
        }
        if (out->len >= WRITE_BYTES && write_out(h, out, err)) {
            return -1;
        }
    }
    r->count = kept;
    return 0;
}

int ice_hold_spill(struct ice_hold *h, struct err *err) {
    struct buf out;
    if (h->arena.held == 0) {
        return 0;
    }
    if (!h->writer && create_cache(h, err)) {
        return -1;
    }
    buf_init(&out, SIZE_MAX);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < h->held_count; i++) {
        rc = spill_rows(h, &h->held[i], &out, err);
    }
    if (rc == 0 && out.len > 0) {
        rc = write_out(h, &out, err);
    }
    buf_release(&out);
    arena_release(&h->arena);
    return rc;
}

/* A spilled extent. */
static int read_extent(struct ice_hold *h, const struct extent *e, struct buf *out,
                       struct err *err) {
    if (!h->reader && files_open_read(h->files, h->path, &h->reader, err) != FILES_OK) {
        return err->code[0] ? -1
                            : err_set(err, ERR_REWIND, "file_error", "\"%s\" is gone", h->path);
    }
    size_t got = 0;
    buf_clear(out);
    int no_room = buf_reserve(out, e->len);
    CHECK(!no_room); /* it has no maximum */
    if (file_read_at(h->reader, e->at, out->data, e->len, &got, err)) {
        return -1;
    }
    if (got < e->len) {
        return err_set(err, ERR_REWIND, "file_error", "\"%s\" ends before what was written to it",
                       h->path);
    }
    out->len = e->len;
    return 0;
}

/* The bytes of an extent, until the next call. */
static int load(struct ice_hold *h, const struct extent *e, const uint8_t **out, struct err *err) {
    bool loaded = e->memory ||
                  (h->loaded_at == e->at && h->loaded.len == e->len); /* an extent may have grown */
    if (!loaded && read_extent(h, e, &h->loaded, err)) {
        h->loaded.len = 0;
        return -1;
    }
    h->loaded_at = e->memory ? h->loaded_at : e->at;
    *out = e->memory ? e->memory : (const uint8_t *)h->loaded.data;
    return 0;
}

int ice_hold_cell(struct ice_hold *h, uint32_t file, uint64_t row, uint32_t column,
                  struct lake_builder *out, struct err *err) {
    const struct held_rows *r = rows_of(h, file);
    CHECK(row < r->rows && column < h->column_count);
    uint32_t low = 0, high = r->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (r->extents[middle].first_row <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const uint8_t *block;
    if (load(h, &r->extents[low], &block, err)) {
        return -1;
    }
    struct block_head head;
    uint64_t first = r->extents[low].first_row;
    for (memcpy(&head, block, sizeof head); row - first >= head.rows;
         memcpy(&head, block, sizeof head)) {
        first += head.rows;
        block += head.bytes;
    }
    take_column(h, block, column, h->columns, h->elements);
    lake_builder_add(out, &h->columns[column], (uint32_t)(row - first));
    return 0;
}

int ice_hold_each(struct ice_hold *h, uint32_t file,
                  int (*each)(void *arg, const struct lake_column *columns, uint32_t rows,
                              struct err *err),
                  void *arg, struct err *err) {
    const struct held_rows *r = rows_of(h, file);
    for (uint32_t i = 0; i < r->count; i++) {
        const uint8_t *block;
        if (load(h, &r->extents[i], &block, err)) {
            return -1;
        }
        struct block_head head;
        for (size_t at = 0; at < r->extents[i].len; at += head.bytes) {
            memcpy(&head, block + at, sizeof head);
            for (uint32_t c = 0; c < h->column_count; c++) {
                take_column(h, block + at, c, h->columns, h->elements);
            }
            if (each(arg, h->columns, head.rows, err)) {
                return -1;
            }
        }
    }
    return 0;
}

/* ---- several files side by side ---- */

struct ice_hold_cursor {
    struct ice_hold *h;
    uint32_t file, extent;
    size_t at; /* in the extent */
    struct buf loaded;
    struct lake_column *columns, *elements;
};

struct ice_hold_cursor *ice_hold_cursor_new(struct ice_hold *h, uint32_t file) {
    struct ice_hold_cursor *c = xcalloc(1, sizeof *c);
    c->h = h;
    c->file = file;
    buf_init(&c->loaded, SIZE_MAX);
    c->columns = xcalloc(h->column_count + 1, sizeof *c->columns);
    c->elements = xcalloc(h->column_count + 1, sizeof *c->elements);
    memcpy(c->columns, h->columns, h->column_count * sizeof *c->columns);
    memcpy(c->elements, h->elements, h->column_count * sizeof *c->elements);
    return c;
}

void ice_hold_cursor_free(struct ice_hold_cursor *c) {
    if (c) {
        buf_release(&c->loaded);
        free(c->columns);
        free(c->elements);
        free(c);
    }
}

int ice_hold_cursor_next(struct ice_hold_cursor *c, const struct lake_column **columns,
                         uint32_t *rows, struct err *err) {
    const struct held_rows *r = rows_of(c->h, c->file);
    struct block_head head = { 0 };
    *columns = c->columns;
    if (c->extent < r->count && c->at == r->extents[c->extent].len) {
        c->extent++;
        c->at = 0;
    }
    if (c->extent < r->count) {
        const struct extent *e = &r->extents[c->extent];
        if (c->at == 0 && !e->memory && read_extent(c->h, e, &c->loaded, err)) {
            return -1;
        }
        const uint8_t *block = (e->memory ? e->memory : (uint8_t *)c->loaded.data) + c->at;
        memcpy(&head, block, sizeof head);
        for (uint32_t i = 0; i < c->h->column_count; i++) {
            take_column(c->h, block, i, c->columns, c->elements);
        }
        c->at += head.bytes;
    }
    *rows = head.rows;
    return 0;
}

void ice_hold_drop(struct ice_hold *h, uint32_t file) {
    struct held_rows *r = rows_of(h, file);
    h->listed -= r->cap * sizeof *r->extents;
    free(r->extents);
    *r = (struct held_rows){ 0 };
}
