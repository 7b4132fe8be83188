/* Text forms of log positions and snapshots. Pure. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/position.h"

/* "16/B374D848". -1 = malformed. */
int pgsrc_lsn_parse(const char *text, uint64_t *out) TR_MUST_CHECK;
void pgsrc_lsn_put(struct buf *out, uint64_t lsn);
#define PGSRC_LSN_TEXT 20
const char *pgsrc_lsn_text(uint64_t lsn, char out[PGSRC_LSN_TEXT]);
/* An insert position on a page's first usable byte means the page's start: nothing was written to
 * that page yet, and a flush position never gets past the header. page_bytes: wal_block_size;
 * segment_bytes: wal_segment_size. */
uint64_t pgsrc_lsn_floor(uint64_t lsn, uint32_t page_bytes, uint32_t segment_bytes);
/* "10:20:10,14,15", as pg_current_snapshot() gives it. -1 = malformed. */
int pgsrc_snapshot_parse(const char *text, struct snapshot *out) TR_MUST_CHECK;
