/* Text forms of log positions and snapshots: see pgsrc_lsn.h. Pure. */
#include "connectors/postgres/pgsrc_lsn.h"

#include <stdio.h>
#include <stdlib.h>

#define SHORT_HEADER 24u /* of a WAL page */
#define LONG_HEADER 40u  /* of a segment's first page */

static int take_hex32(const char **p, uint32_t *out) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t v = 0;
    int n = 0;
    for (const char *d; **p && n < 9 && (d = memchr(digits, **p, sizeof digits - 1)); (*p)++, n++) {
        v = v << 4 | (uint32_t)((d - digits) & 15);
    }
    *out = v;
    return n >= 1 && n <= 8 ? 0 : -1;
}

int pgsrc_lsn_parse(const char *text, uint64_t *out) {
    uint32_t high, low;
    if (take_hex32(&text, &high) || *text++ != '/' || take_hex32(&text, &low) || *text) {
        return -1;
    }
    *out = (uint64_t)high << 32 | low;
    return 0;
}

const char *pgsrc_lsn_text(uint64_t lsn, char out[PGSRC_LSN_TEXT]) {
    snprintf(out, PGSRC_LSN_TEXT, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    return out;
}

void pgsrc_lsn_put(struct buf *out, uint64_t lsn) {
    char text[PGSRC_LSN_TEXT];
    buf_puts(out, pgsrc_lsn_text(lsn, text));
}

uint64_t pgsrc_lsn_floor(uint64_t lsn, uint32_t page_bytes, uint32_t segment_bytes) {
    if (segment_bytes && lsn % segment_bytes == LONG_HEADER) {
        return lsn - LONG_HEADER;
    }
    if (page_bytes && lsn % page_bytes == SHORT_HEADER &&
        (!segment_bytes || lsn % segment_bytes != SHORT_HEADER)) {
        return lsn - SHORT_HEADER;
    }
    return lsn;
}

static int take_u64(const char **p, uint64_t *out) {
    uint64_t v = 0;
    const char *from = *p;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v)) {
            return -1;
        }
    }
    *out = v;
    return *p > from ? 0 : -1;
}

int pgsrc_snapshot_parse(const char *text, struct snapshot *out) {
    uint64_t xmin, xmax;
    if (take_u64(&text, &xmin) || *text++ != ':' || take_u64(&text, &xmax) || *text++ != ':') {
        return -1;
    }
    size_t commas = *text != '\0';
    for (const char *p = text; *p; p++) {
        commas += *p == ',';
    }
    uint64_t *xip = xmalloc((commas + 1) * sizeof *xip);
    uint32_t count = 0;
    while (*text) {
        if (take_u64(&text, &xip[count]) || (*text && *text != ',') || (*text == ',' && !text[1])) {
            free(xip);
            return -1;
        }
        count++;
        text += *text == ',';
    }
    snapshot_set(out, xmin, xmax, xip, count);
    free(xip);
    return 0;
}
