/* The Parquet reader against files of other writers (make_parquet.py tells what they are): every
 * field of every file of parquet/, whole and by single rows in a scattered order, compared with the
 * text beside it. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/buf.h"
#include "sinks/parquet/parquet_reader.h"
#include "tests/unit/kit.h"

static void load(const char *path, struct buf *out) {
    char piece[65536];
    size_t n;
    buf_init(out, SIZE_MAX);
    FILE *f = fopen(path, "rb");
    if (!EXPECT_TRUE(f != NULL)) {
        return;
    }
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) {
        buf_put(out, piece, n);
    }
    fclose(f);
}

static int read_at(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    const struct buf *file = arg;
    if (off > file->len || n > file->len - off) {
        return err_set(err, ERR_FATAL, "object_short", "beyond the file");
    }
    memcpy(p, file->data + off, n);
    return 0;
}

static bool has(const uint8_t *valid, uint32_t row) {
    return !valid || (valid[row / 8] >> row % 8 & 1);
}

static void put_hex(struct buf *out, const uint8_t *p, size_t n) {
    if (n == 0) {
        buf_puts(out, "-");
    }
    for (size_t i = 0; i < n; i++) {
        buf_putf(out, "%02x", p[i]);
    }
}

static void put_cell(struct buf *out, const struct lake_column *c, uint32_t row) {
    if (!has(c->valid, row)) {
        buf_puts(out, "NULL");
    } else if (c->width > 0) {
        put_hex(out, c->data + (size_t)row * c->width, c->width);
    } else {
        put_hex(out, c->data + c->offsets[row], c->offsets[row + 1] - c->offsets[row]);
    }
}

static void put_row(struct buf *out, const struct lake_column *c, uint32_t row) {
    if (c->type.kind != LAKE_LIST || !has(c->valid, row)) {
        put_cell(out, c, row);
        return;
    }
    buf_puts(out, "[");
    for (uint32_t i = c->offsets[row]; i < c->offsets[row + 1]; i++) {
        buf_puts(out, i > c->offsets[row] ? " " : "");
        put_cell(out, c->elements, i);
    }
    buf_puts(out, "]");
}

/* What the text says: names, types, cells[row * fields + field]. */
enum { FIELDS_MAX = 64, ROWS_MAX = 1024 };
struct want {
    struct buf text;
    char *names[FIELDS_MAX], *types[FIELDS_MAX];
    char **cells;
    uint32_t fields, rows;
};

static void want_load(struct want *w, const char *path) {
    *w = (struct want){ 0 };
    load(path, &w->text);
    w->cells = xcalloc((size_t)FIELDS_MAX * ROWS_MAX, sizeof *w->cells);
    char *at = (char *)buf_cstr(&w->text);
    for (char *line; (line = strsep(&at, "\n")) && *line && w->fields < FIELDS_MAX; w->fields++) {
        w->names[w->fields] = strsep(&line, " ");
        w->types[w->fields] = line;
    }
    for (char *line; (line = strsep(&at, "\n")) && *line && w->rows < ROWS_MAX; w->rows++) {
        for (uint32_t i = 0; i < w->fields; i++) {
            char *end = strstr(line, " | ");
            w->cells[w->rows * w->fields + i] = line;
            line = end ? end + 3 : line + strlen(line);
            if (end) {
                *end = 0;
            }
        }
    }
}

static void put_type(struct buf *out, const struct lake_type *type) {
    struct lake_type element = *type;
    if (type->kind == LAKE_LIST) {
        element.kind = type->element;
        buf_puts(out, "list<");
        lake_type_put_name(out, &element);
        buf_puts(out, ">");
    } else {
        lake_type_put_name(out, type);
    }
}

static bool same_rows(const struct lake_column *piece, uint64_t row, const struct want *w,
                      uint32_t field, const char *file) {
    struct buf got;
    buf_init(&got, SIZE_MAX);
    bool same = true;
    for (uint32_t i = 0; same && i < piece->rows; i++) {
        buf_clear(&got);
        put_row(&got, piece, i);
        same = row + i < w->rows &&
               EXPECT_EQ_STR(buf_cstr(&got), w->cells[(row + i) * w->fields + field]);
    }
    if (!same) {
        EXPECT_EQ_STR(file, w->names[field]);
    }
    buf_release(&got);
    return same;
}

static void refused_field(struct parquet_reader *r, uint32_t field) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    struct lake_column piece;
    if (parquet_cursor_open(r, field, &c, &err) == 0) {
        EXPECT_EQ_INT(parquet_cursor_next(c, 1, &piece, &err), -1);
    }
    EXPECT_EQ_STR(err.code, "parquet_unsupported");
    EXPECT_TRUE(strstr(err.text, parquet_reader_field(r, field)->name) != NULL);
    parquet_cursor_close(c);
}

static void whole_field(struct parquet_reader *r, uint32_t field, const struct want *w,
                        const char *file) {
    struct err err = ERR_INIT;
    struct parquet_cursor *c = NULL;
    struct buf type;
    buf_init(&type, SIZE_MAX);
    put_type(&type, &parquet_reader_field(r, field)->type);
    EXPECT_EQ_STR(buf_cstr(&type), w->types[field]);
    buf_release(&type);
    if (!EXPECT_EQ_INT(parquet_cursor_open(r, field, &c, &err), 0)) {
        EXPECT_EQ_STR(err.text, file);
        return;
    }
    struct lake_column piece = { .rows = 1 };
    uint64_t row = 0;
    bool good = true;
    while (good && piece.rows > 0) {
        good = EXPECT_EQ_INT(parquet_cursor_next(c, 50, &piece, &err), 0) &&
               same_rows(&piece, row, w, field, file);
        row += piece.rows;
    }
    for (uint64_t i = 0; good && i < w->rows; i++) {
        row = i * 37 % w->rows;
        good = EXPECT_EQ_INT(parquet_cursor_seek(c, row, &err), 0) &&
               EXPECT_EQ_INT(parquet_cursor_next(c, 1, &piece, &err), 0) &&
               EXPECT_EQ_INT(piece.rows, 1) && same_rows(&piece, row, w, field, file);
    }
    if (!good) {
        EXPECT_EQ_STR(err.text, file);
    }
    parquet_cursor_close(c);
}

static void one_file(const char *name) {
    struct buf bytes;
    struct want w;
    struct err err = ERR_INIT;
    struct parquet_reader *r = NULL;
    char path[512];
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", name);
    load(path, &bytes);
    snprintf(path, sizeof path, GOLDEN_DIR "/%.*s.txt", (int)strcspn(name, "-"), name);
    want_load(&w, path);
    struct parquet_input input = {
        .read_at = read_at, .arg = &bytes, .size = bytes.len, .name = name
    };
    if (EXPECT_EQ_INT(parquet_reader_open(input, 1 << 24, &r, &err), 0)) {
        EXPECT_EQ_U64(parquet_reader_rows(r), w.rows);
        EXPECT_EQ_U64(parquet_reader_field_count(r), w.fields);
        for (uint32_t i = 0; i < w.fields && i < parquet_reader_field_count(r); i++) {
            EXPECT_EQ_STR(parquet_reader_field(r, i)->name, w.names[i]);
            if (strcmp(w.types[i], "refused") == 0) {
                refused_field(r, i);
            } else {
                whole_field(r, i, &w, name);
            }
        }
    } else {
        EXPECT_EQ_STR(err.text, name);
    }
    parquet_reader_close(r);
    free(w.cells);
    buf_release(&w.text);
    buf_release(&bytes);
}

TEST(parquet_files_of_other_writers_are_read) {
    DIR *dir = opendir(GOLDEN_DIR);
    uint32_t files = 0;
    if (!EXPECT_TRUE(dir != NULL)) {
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot && strcmp(dot, ".parquet") == 0) {
            one_file(e->d_name);
            files++;
        }
    }
    closedir(dir);
    EXPECT_TRUE(files >= 15);
}
