/* See ice_position_deletes.h. */
#include "sinks/iceberg/ice_position_deletes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ROWS = 8192 };

static int write_piece(struct parquet_writer *w, const uint64_t *positions, uint32_t n,
                       const char *data_file, size_t path_len, struct err *err) {
    uint32_t *offsets = xmalloc((n + 1) * sizeof *offsets);
    uint8_t *paths = xmalloc(path_len * n);
    for (uint32_t i = 0; i < n; i++) {
        offsets[i] = (uint32_t)(i * path_len);
        memcpy(paths + i * path_len, data_file, path_len);
    }
    offsets[n] = (uint32_t)(n * path_len);
    struct lake_column columns[2] = {
        { .type = { .kind = LAKE_STRING }, .rows = n, .data = paths, .offsets = offsets },
        { .type = { .kind = LAKE_LONG },
          .rows = n,
          .width = sizeof *positions,
          .data = (const uint8_t *)positions },
    };
    int rc = parquet_writer_add(w, columns, n, err);
    free(paths);
    free(offsets);
    return rc;
}

int ice_position_deletes_write(const struct ice_bitmap *b, const char *data_file,
                               const struct parquet_options *options, struct parquet_output output,
                               struct parquet_info *info, struct err *err) {
    const struct parquet_field fields[2] = {
        { .name = "file_path",
          .type = { .kind = LAKE_STRING },
          .field_id = ICE_FIELD_FILE_PATH,
          .required = true },
        { .name = "pos",
          .type = { .kind = LAKE_LONG },
          .field_id = ICE_FIELD_POS,
          .required = true },
    };
    static const char *const extra[] = { "delete-type", "position", NULL };
    struct parquet_options with_extra = *options;
    with_extra.extra = extra;
    struct parquet_writer *w = parquet_writer_new(fields, 2, &with_extra, output);
    uint64_t *positions = xmalloc(PIECE_ROWS * sizeof *positions);
    uint64_t at = 0;
    size_t path_len = strlen(data_file);
    uint32_t n;
    int rc = 0;
    while (rc == 0 && (n = ice_bitmap_next(b, &at, positions, PIECE_ROWS)) > 0) {
        rc = write_piece(w, positions, n, data_file, path_len, err);
    }
    if (rc == 0) {
        rc = parquet_writer_finish(w, info, err);
    }
    free(positions);
    parquet_writer_free(w);
    return rc;
}

static int field_of(struct parquet_reader *r, int32_t id, const char *name, enum lake_kind kind,
                    uint32_t *out, struct err *err) {
    int at = parquet_reader_find(r, id, name);
    if (at < 0 || parquet_reader_field(r, (uint32_t)at)->type.kind != kind) {
        return err_set(err, ERR_FATAL, "deletes_damaged",
                       "a position-delete file has no column \"%s\" of its type", name);
    }
    *out = (uint32_t)at;
    return 0;
}

/* Both columns side by side: pieces of one length, since neither may be null. */
static int read_rows(struct parquet_cursor *paths, struct parquet_cursor *positions,
                     const char *data_file, struct ice_bitmap *into, struct err *err) {
    size_t path_len = strlen(data_file);
    for (;;) {
        struct lake_column path, pos;
        if (parquet_cursor_next(paths, PIECE_ROWS, &path, err)) {
            return -1;
        }
        if (path.rows == 0) {
            return 0;
        }
        for (uint32_t done = 0; done < path.rows; done += pos.rows) {
            if (parquet_cursor_next(positions, path.rows - done, &pos, err)) {
                return -1;
            }
            if (pos.rows == 0 || pos.valid || path.valid) {
                return err_set(err, ERR_FATAL, "deletes_damaged",
                               "a position-delete file has a path or position that is null");
            }
            for (uint32_t i = 0; i < pos.rows; i++) {
                uint32_t row = done + i;
                int64_t value;
                memcpy(&value, pos.data + (size_t)i * sizeof value, sizeof value);
                bool ours = path.offsets[row + 1] - path.offsets[row] == path_len &&
                            memcmp(path.data + path.offsets[row], data_file, path_len) == 0;
                if (ours && value < 0) {
                    return err_set(err, ERR_FATAL, "deletes_damaged",
                                   "a position-delete file has the position %" PRId64, value);
                }
                if (ours) {
                    ice_bitmap_add(into, (uint64_t)value);
                }
            }
        }
    }
}

int ice_position_deletes_read(struct parquet_reader *r, const char *data_file,
                              struct ice_bitmap *into, struct err *err) {
    uint32_t path_field = 0, pos_field = 0;
    if (field_of(r, ICE_FIELD_FILE_PATH, "file_path", LAKE_STRING, &path_field, err) ||
        field_of(r, ICE_FIELD_POS, "pos", LAKE_LONG, &pos_field, err)) {
        return -1;
    }
    struct parquet_cursor *paths = NULL, *positions = NULL;
    int rc = parquet_cursor_open(r, path_field, &paths, err);
    if (rc == 0) {
        rc = parquet_cursor_open(r, pos_field, &positions, err);
    }
    if (rc == 0) {
        rc = read_rows(paths, positions, data_file, into, err);
    }
    parquet_cursor_close(paths);
    parquet_cursor_close(positions);
    return rc;
}
