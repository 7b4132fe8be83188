/* Manifests and manifest lists: Avro files that name data and delete files. Encoded by hand (no
 * Avro library in reach keeps field ids), read by field id whatever the writer's field order was.
 * Source: Iceberg table spec, "Manifests", "Manifest Lists"; Avro specification, object container
 * files. Deflate codec. Input is foreign data: bounds-checked, fuzzed; ERR_FATAL
 * "manifest_damaged", "manifest_unsupported" (live equality deletes, files that are neither Parquet
 * nor Puffin: such a table is not ours to write to). Pure. */
#pragma once
#include "sinks/iceberg/ice_partition.h"
#include "sinks/parquet/parquet_writer.h"

enum ice_content { ICE_DATA = 0, ICE_POSITION_DELETES = 1 };
enum ice_status { ICE_EXISTING = 0, ICE_ADDED = 1, ICE_DELETED = 2 };
enum ice_file_format { ICE_PARQUET, ICE_PUFFIN };

/* Metrics of one column as a manifest keeps them: bounds already cut (16 code points or bytes). -1
 * = not known. */
struct ice_metric {
    int32_t field_id;
    int64_t bytes, values, nulls, nans;
    const uint8_t *lower, *upper; /* NULL = none */
    uint32_t lower_len, upper_len;
};
struct ice_file {
    enum ice_content content;
    enum ice_file_format format;
    const char *path;               /* URL */
    struct ice_partition partition; /* read entries: borrowed texts, in the reader's arena */
    int64_t rows;
    int64_t bytes;
    uint32_t metric_count;
    struct ice_metric *metrics;
    uint32_t split_count;
    int64_t *splits;
    int32_t sort_order_id;                 /* -1 = null */
    int64_t first_row_id;                  /* -1 = null; v3 */
    const char *referenced;                /* data file's URL; NULL */
    int64_t content_offset, content_bytes; /* DV; -1 = null */
};
struct ice_entry {
    enum ice_status status;
    int64_t snapshot_id;   /* -1 = null: inherit */
    int64_t sequence;      /* -1 = null: inherit (ADDED only) */
    int64_t file_sequence; /* the same */
    struct ice_file file;
};
/* The metrics of a written file: what parquet_info knows, cut to `truncate(16)`, for the first 100
 * columns; rows, bytes and split offsets too. In arena. Lists get their size only. Bounds of uuids
 * are widened so that they hold in signed and unsigned order (readers differ). */
void ice_file_set_metrics(struct ice_file *file, struct arena *arena,
                          const struct ice_schema *schema, const struct parquet_info *info);

/* Both are used up at once. Partition values get the types that schema gives their columns. */
struct ice_manifest_head {
    int format_version;
    enum ice_content content;
    const struct ice_schema *schema;
    const struct ice_spec *spec;
};
/* One entry of a manifest list. */
struct ice_manifest_file {
    const char *path;
    int64_t bytes;
    int32_t spec_id;
    enum ice_content content;
    int64_t sequence, min_sequence;
    int64_t added_snapshot_id;
    int32_t added_files, existing_files, deleted_files;
    int64_t added_rows, existing_rows, deleted_rows;
    uint32_t summary_count; /* of partition fields */
    struct ice_field_summary {
        bool contains_null, contains_nan, has_bounds;
        const uint8_t *lower, *upper;
        uint32_t lower_len, upper_len;
    } * summaries;
    int64_t first_row_id; /* -1 = null */
};

/* A manifest being written; rows of `list` (counts, min sequence, summaries) are kept along. Put
 * all, then finish: the whole file is in out. */
struct ice_manifest_writer;
struct ice_manifest_writer *ice_manifest_writer_new(const struct ice_manifest_head *head);
void ice_manifest_put(struct ice_manifest_writer *w, const struct ice_entry *entry);
/* Bytes so far, about. */
size_t ice_manifest_bytes(const struct ice_manifest_writer *w);
/* list: all but path, sequence and added_snapshot_id; in arena. sequence_now: what null sequences
 * will inherit. */
void ice_manifest_finish(struct ice_manifest_writer *w, int64_t sequence_now, struct buf *out,
                         struct arena *arena, struct ice_manifest_file *list);
void ice_manifest_writer_free(struct ice_manifest_writer *w);

/* Each entry in turn; all that it points to is in arena, which outlives the call. inherit: the
 * list's row for this manifest, whose sequence and snapshot fill the nulls of ADDED entries and, in
 * v3, whose first_row_id numbers the rows of data files that have none yet. spec: the one of
 * inherit->spec_id. The callback's -1 ends the reading. */
int ice_manifest_read(const void *p, size_t n, const struct ice_manifest_file *inherit,
                      const struct ice_spec *spec, struct arena *arena,
                      int (*entry)(void *arg, const struct ice_entry *e, struct err *err),
                      void *arg, struct err *err);

struct ice_list_head {
    int format_version;
    int64_t snapshot_id, parent_id, sequence; /* parent -1 = null */
    int64_t first_row_id;                     /* v3 */
};
void ice_list_write(struct buf *out, const struct ice_list_head *head,
                    const struct ice_manifest_file *files, uint32_t count);
int ice_list_read(const void *p, size_t n, struct arena *arena, struct ice_manifest_file **files,
                  uint32_t *count, struct err *err);
