/* Deletion vectors (v3) and the Puffin files that hold them. Sources: Iceberg table spec, "Deletion
 * Vectors"; Puffin spec, "deletion-vector-v1".
 *
 *   blob    u32 BE bytes of magic and bitmap | D1 D3 39 64 | bitmap (ice_bitmap.h) | u32 BE CRC-32
 * of magic and bitmap file    "PFA1" | blobs | "PFA1" | JSON of the blobs | i32 LE its length | u32
 * 0 | "PFA1"
 *
 * No two blobs of a file touch: between them stand 8 zero bytes that no footer names, since
 * DuckDB 1.5 hands out the neighbour of a blob from its file cache. Thread: its owner. */
#pragma once
#include "cdc/base/err.h"
#include "sinks/iceberg/ice_bitmap.h"

void ice_dv_put(struct buf *out, struct ice_bitmap *b);
/* Adds what the vector holds; rows: the cardinality its manifest entry gives. ERR_FATAL
 * "deletes_damaged". */
int ice_dv_take(const void *p, size_t n, uint64_t rows, struct ice_bitmap *into, struct err *err);

struct ice_puffin;
struct ice_puffin *ice_puffin_new(void);
/* data_file: its URL, as its manifest entry has it. offset and bytes go to the vector's manifest
 * entry. */
void ice_puffin_add(struct ice_puffin *p, struct ice_bitmap *b, const char *data_file,
                    int64_t *offset, int64_t *bytes);
uint32_t ice_puffin_count(const struct ice_puffin *p);
/* The whole file. */
void ice_puffin_finish(struct ice_puffin *p, struct buf *out);
void ice_puffin_free(struct ice_puffin *p); /* NULL allowed */
