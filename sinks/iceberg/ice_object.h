/* A table's files by URL: read whole, or as Parquet. What metadata names and is not there, or lies
 * outside the warehouse, is ERR_FATAL "object_missing", "object_outside". */
#pragma once
#include "sinks/objects/store.h"
#include "sinks/parquet/parquet_reader.h"

#define ICE_MANIFEST_BYTES_MAX (UINT64_C(1) << 30) /* of a metadata file, manifest or list */
#define ICE_PAGE_BYTES_MAX (UINT64_C(1) << 30)     /* of a decoded page or dictionary */

int ice_object_get(struct store *store, const char *url, struct buf *out, struct err *err);
int ice_object_open(struct store *store, const char *url, struct store_object **out,
                    struct err *err);

struct ice_parquet {
    struct store_object *object;
    struct parquet_reader *reader;
};
int ice_parquet_open(struct ice_parquet *p, struct store *store, const char *url, struct err *err);
void ice_parquet_close(struct ice_parquet *p); /* one that is all zero is fine */

/* Where the error says that a file of the table, other than its metadata file, is lost or damaged:
 * the cure, which is to read the table again. Any other error stays as it is. */
void ice_cure_lost_file(const char *label, struct err *err);
