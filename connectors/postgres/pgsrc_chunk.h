/* The messages that read a chunk: Parse, Bind, Execute, Sync. Bounds come in key.h's encoding and
 * go out as bound parameters, never as text of the statement. Pure; unit-tested. */
#pragma once
#include "cdc/base/err.h"
#include "cdc/schema.h"

struct pgsrc_range {
    const void *lo, *hi; /* whole key cells of a prefix of the key; bytes after a full key mean
                            "just above it". Length 0 = open */
    size_t lo_len, hi_len;
    bool exact; /* the rows that equal lo (a full key); hi and rows_max do not count */
    uint32_t rows_max;
};
/* What both kinds of chunk need of a table. Arrays have one entry a column. */
struct pgsrc_columns {
    const struct schema *schema;
    const uint32_t *base_oid; /* type without domains */
    const bool *binary;       /* result format */
};
/* Rows of a key range in key order. ERR_FATAL "bound_malformed". */
int pgsrc_range_put(struct buf *out, const struct pgsrc_columns *c, const char *from,
                    const struct pgsrc_range *range, struct err *err) TR_MUST_CHECK;
/* Blocks [first, end) of one table's file; end 0 = all from first on. ctid = false: the whole table
 * as it comes. */
void pgsrc_blocks_put(struct buf *out, const struct pgsrc_columns *c, const char *from, bool ctid,
                      uint32_t first, uint32_t end);
/* A statement without parameters and rows, to go in front of the above: no Sync. */
void pgsrc_statement_put(struct buf *out, const char *sql);
/* [ONLY ]"space"."name" */
void pgsrc_from_put(struct buf *out, bool only, const char *space, const char *name);

/* Piece bounds of a whole table: oid of the file's table, block. */
#define PGSRC_PIECE_BOUND 8
void pgsrc_piece_put(uint8_t out[PGSRC_PIECE_BOUND], uint32_t oid, uint32_t block);
int pgsrc_piece_take(const void *p, size_t len, uint32_t *oid,
                     uint32_t *block) TR_MUST_CHECK; /* len 0: both 0 */

/* Inner bounds that cut [min, max] of a first key column that is an integer or a uuid into even
 * parts: appends u32 length + bytes for each, returns how many (at most pieces_max - 1). Cells as
 * in type.h. */
uint32_t pgsrc_cut_even(struct buf *out, const struct type *type, const uint8_t *min,
                        const uint8_t *max, uint32_t pieces_max);
