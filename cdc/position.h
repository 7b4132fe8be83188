/* Places in a source's log, and snapshots of a source in terms of transactions.
 *
 * logpos: ordered within one source's log. PostgreSQL: segment 0, offset = LSN. MySQL/MariaDB:
 * number of the binlog file, offset in it.
 *
 * snapshot: which transactions a snapshot sees. Transaction numbers are the connector's
 * (PostgreSQL: 64-bit xid): all below xmin are seen, none at or above xmax, between them all but
 * those listed. Every flavour of source can say it so: a database with exact positions has xmin ==
 * xmax, one with GTID sets interns them to numbers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct logpos {
    uint64_t segment;
    uint64_t offset;
};
#define LOGPOS_NONE ((struct logpos){ 0, 0 })
static inline int logpos_cmp(struct logpos a, struct logpos b) {
    if (a.segment != b.segment) {
        return a.segment < b.segment ? -1 : 1;
    }
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}
static inline bool logpos_is_none(struct logpos a) { return a.segment == 0 && a.offset == 0; }
static inline struct logpos logpos_max(struct logpos a, struct logpos b) {
    return logpos_cmp(a, b) >= 0 ? a : b;
}

struct snapshot {
    uint64_t xmin, xmax;
    uint64_t *xip; /* owned, sorted ascending */
    uint32_t xip_count;
};
void snapshot_init(struct snapshot *s);
void snapshot_release(struct snapshot *s);
void snapshot_set(struct snapshot *s, uint64_t xmin, uint64_t xmax, const uint64_t *xip,
                  uint32_t count); /* copies and sorts */
void snapshot_copy(struct snapshot *dst, const struct snapshot *src);
bool snapshot_sees(const struct snapshot *s, uint64_t tx);
