/* See ice_old_rows.h. */
#include "sinks/iceberg/ice_old_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_default.h"

enum { OPEN_MAX_FILES = 8 };

struct open_file {
    char *url; /* NULL: free */
    struct ice_parquet parquet;
    uint64_t used; /* when last: the oldest goes */
};
struct ice_old_rows {
    struct store *store;
    struct open_file files[OPEN_MAX_FILES];
    uint64_t clock;
};

struct ice_old_rows *ice_old_rows_new(struct store *store) {
    struct ice_old_rows *x = xcalloc(1, sizeof *x);
    x->store = store;
    return x;
}

static void close_file(struct open_file *f) {
    if (f->url) {
        ice_parquet_close(&f->parquet);
        free(f->url);
        *f = (struct open_file){ 0 };
    }
}

void ice_old_rows_free(struct ice_old_rows *x) {
    if (x) {
        for (int i = 0; i < OPEN_MAX_FILES; i++) {
            close_file(&x->files[i]);
        }
        free(x);
    }
}

static struct parquet_reader *reader_of(struct ice_old_rows *x, const char *url, struct err *err) {
    struct open_file *oldest = &x->files[0];
    for (int i = 0; i < OPEN_MAX_FILES; i++) {
        struct open_file *f = &x->files[i];
        if (f->url && strcmp(f->url, url) == 0) {
            f->used = ++x->clock;
            return f->parquet.reader;
        }
        oldest = f->used < oldest->used ? f : oldest;
    }
    close_file(oldest);
    if (ice_parquet_open(&oldest->parquet, x->store, url, err)) {
        return NULL;
    }
    oldest->url = xstrdup(url);
    oldest->used = ++x->clock;
    return oldest->parquet.reader;
}

static int no_row(const char *url, uint64_t pos, struct err *err) {
    return err_set(err, ERR_FATAL, "object_short", "\"%s\" has no row %" PRIu64, url, pos);
}

static int read_cells(struct parquet_reader *r, uint32_t at, const char *url, const uint64_t *locs,
                      uint32_t count, struct lake_builder *out, struct err *err) {
    struct parquet_cursor *c = NULL;
    int rc = parquet_cursor_open(r, at, &c, err);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct lake_column cell = { 0 };
        uint64_t pos = KEY_LOC_POS(locs[i]);
        if (pos >= parquet_reader_rows(r)) {
            rc = no_row(url, pos, err);
        } else if (parquet_cursor_seek(c, pos, err) || parquet_cursor_next(c, 1, &cell, err)) {
            rc = -1;
        } else if (cell.rows == 0) {
            rc = no_row(url, pos, err);
        } else {
            lake_builder_add(out, &cell, 0);
        }
    }
    parquet_cursor_close(c);
    return rc;
}

int ice_old_rows_read(struct ice_old_rows *x, const char *url, const uint64_t *locs, uint32_t count,
                      const struct ice_field *field, struct lake_builder *out, struct err *err) {
    struct parquet_reader *r = reader_of(x, url, err);
    if (!r) {
        return -1;
    }
    int at = parquet_reader_find(r, field->id, NULL);
    if (at < 0) {
        struct ice_default d;
        int rc = ice_default_init(&d, field, err);
        for (uint32_t i = 0; rc == 0 && i < count; i++) {
            ice_default_add(&d, out);
        }
        ice_default_release(&d);
        return rc;
    }
    const struct lake_type *type = &parquet_reader_field(r, (uint32_t)at)->type;
    if (!lake_type_equal(type, &field->type) && !lake_type_widens(type, &field->type)) {
        return err_set(err, ERR_FATAL, "parquet_unsupported",
                       "\"%s\": column \"%s\" has a type that the table's does not come from", url,
                       field->name);
    }
    return read_cells(r, (uint32_t)at, url, locs, count, out, err);
}
