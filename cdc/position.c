/* Snapshots in terms of transactions. Pure values; each owns its list. */
#include "cdc/position.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/check.h"

void snapshot_init(struct snapshot *s) { *s = (struct snapshot){ 0 }; }

void snapshot_release(struct snapshot *s) {
    free(s->xip);
    snapshot_init(s);
}

static int compare_tx(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void snapshot_set(struct snapshot *s, uint64_t xmin, uint64_t xmax, const uint64_t *xip,
                  uint32_t count) {
    uint64_t *copy = NULL; /* made before the old list goes: xip may be that list */
    if (count > 0) {
        copy = xmalloc(count * sizeof *copy);
        memcpy(copy, xip, count * sizeof *copy);
        qsort(copy, count, sizeof *copy, compare_tx);
    }
    free(s->xip);
    *s = (struct snapshot){ .xmin = xmin, .xmax = xmax, .xip = copy, .xip_count = count };
}

void snapshot_copy(struct snapshot *dst, const struct snapshot *src) {
    if (dst != src) {
        snapshot_set(dst, src->xmin, src->xmax, src->xip, src->xip_count);
    }
}

bool snapshot_sees(const struct snapshot *s, uint64_t tx) {
    if (tx < s->xmin) {
        return true;
    }
    if (tx >= s->xmax) {
        return false;
    }
    uint32_t lo = 0;
    uint32_t hi = s->xip_count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->xip[mid] < tx) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo == s->xip_count || s->xip[lo] != tx;
}
