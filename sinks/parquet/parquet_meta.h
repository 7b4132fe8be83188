/* Metadata as bytes: of a column chunk once its row group is written, and of the file. Inside of
 * the writer. Pure; appends. */
#pragma once
#include "sinks/parquet/parquet_chunk.h"

/* Where a chunk lies; offsets in the file. */
struct chunk_place {
    uint64_t at;         /* its first page's header */
    uint64_t dictionary; /* bytes of the dictionary page with its header, 0 = none */
    uint32_t dictionary_body, dictionary_header;
    uint64_t bloom_at; /* 0 = none */
    uint32_t bloom_bytes;
};
/* ColumnMetaData. path: the field's name. totals: bytes with headers, before and after the codec.
 */
void meta_put_chunk(struct buf *out, const struct parquet_chunk *c, const char *path,
                    const struct chunk_place *place, uint64_t totals[2]);
/* ColumnIndex; nothing where there can be none. */
void meta_put_column_index(struct buf *out, const struct parquet_chunk *c);
void meta_put_offset_index(struct buf *out, const struct parquet_chunk *c,
                           const struct chunk_place *place);

/* A chunk's metadata, as bytes that were put before. */
struct chunk_meta {
    size_t meta_at, meta_len;                 /* in metas */
    size_t column_index_at, column_index_len; /* in column_indexes */
    size_t offset_index_at, offset_index_len; /* in offset_indexes */
    uint64_t plain_bytes, bytes;              /* the totals */
};
struct group_meta {
    uint64_t rows, at;
};
/* SchemaElements, the root's first. name: the field's. */
struct meta_field {
    const struct chunk_shape *shape;
    const char *name;
    int32_t field_id, element_id;
};
/* FileMetaData. chunks: a row group after another, as many as fields. index_at: where the column
 * indexes begin in the file; the offset indexes follow them at once. */
struct meta_file {
    const struct meta_field *fields;
    uint32_t field_count, group_count;
    const struct group_meta *groups;
    const struct chunk_meta *chunks;
    const struct buf *metas;
    size_t column_indexes_len;
    uint64_t index_at, rows;
    const char *const *extra; /* key, value, ..., NULL; or NULL */
};
void meta_put_file(struct buf *out, const struct meta_file *file);
