/* Deletion vectors and Puffin files. See ice_puffin.h. */
#include "sinks/iceberg/ice_puffin.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "cdc/base/json.h"
#include "sinks/objects/store.h"

static const char PUFFIN_MAGIC[4] = { 'P', 'F', 'A', '1' };
static const uint8_t DV_MAGIC[4] = { 0xd1, 0xd3, 0x39, 0x64 };
enum { DV_FRAME = 4 + 4 + 4, GAP_BYTES = 8, POS_FIELD_ID = 2147483645 };

static void put_u32be(char *at, uint32_t v) {
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof v);
}

void ice_dv_put(struct buf *out, struct ice_bitmap *b) {
    size_t begin = out->len;
    char four[4] = { 0 };
    buf_put(out, four, sizeof four);
    buf_put(out, DV_MAGIC, sizeof DV_MAGIC);
    ice_bitmap_put(out, b);
    size_t framed = out->len - begin - 4;
    CHECK(framed <= INT32_MAX);
    put_u32be(out->data + begin, (uint32_t)framed);
    put_u32be(four, libdeflate_crc32(0, out->data + begin + 4, framed));
    buf_put(out, four, sizeof four);
}

static int damaged(const char *what, struct err *err) {
    err_set(err, ERR_FATAL, "deletes_damaged", "deletion vector: %s", what);
    return err_cure(err, "%s", STORE_CURE_LOST);
}

int ice_dv_take(const void *p, size_t n, uint64_t rows, struct ice_bitmap *into, struct err *err) {
    const uint8_t *bytes = p;
    struct view v = view_of(p, n);
    uint32_t framed, crc;
    if (n < DV_FRAME || take_u32be(&v, &framed) || framed != n - 8) {
        return damaged("its length is not the one it states", err);
    }
    if (memcmp(bytes + 4, DV_MAGIC, sizeof DV_MAGIC) != 0) {
        return damaged("it does not begin as one", err);
    }
    struct view end = view_of(bytes + n - 4, 4);
    if (take_u32be(&end, &crc) || crc != libdeflate_crc32(0, bytes + 4, framed)) {
        return damaged("its checksum does not fit", err);
    }
    struct ice_bitmap *read = ice_bitmap_new();
    int rc = ice_bitmap_take(read, bytes + 8, framed - 4);
    if (rc) {
        damaged("its bitmap is malformed", err);
    } else if (ice_bitmap_count(read) != rows) {
        rc = damaged("it has another number of rows than its manifest says", err);
    } else {
        ice_bitmap_or(into, read);
    }
    ice_bitmap_free(read);
    return rc;
}

struct ice_puffin {
    struct buf bytes;
    struct buf footer; /* the JSON's list of blobs so far */
    uint32_t count;
};

struct ice_puffin *ice_puffin_new(void) {
    struct ice_puffin *p = xcalloc(1, sizeof *p);
    buf_init(&p->bytes, SIZE_MAX);
    buf_init(&p->footer, SIZE_MAX);
    buf_put(&p->bytes, PUFFIN_MAGIC, sizeof PUFFIN_MAGIC);
    return p;
}

void ice_puffin_free(struct ice_puffin *p) {
    if (p) {
        buf_release(&p->bytes);
        buf_release(&p->footer);
        free(p);
    }
}

uint32_t ice_puffin_count(const struct ice_puffin *p) { return p->count; }

void ice_puffin_add(struct ice_puffin *p, struct ice_bitmap *b, const char *data_file,
                    int64_t *offset, int64_t *bytes) {
    static const char gap[GAP_BYTES];
    if (p->count > 0) {
        buf_put(&p->bytes, gap, sizeof gap);
    }
    *offset = (int64_t)p->bytes.len;
    ice_dv_put(&p->bytes, b);
    *bytes = (int64_t)p->bytes.len - *offset;
    buf_putf(&p->footer,
             "%s{\"type\":\"deletion-vector-v1\",\"fields\":[%d],\"snapshot-id\":-1,"
             "\"sequence-number\":-1,\"offset\":%" PRId64 ",\"length\":%" PRId64
             ",\"properties\":{\"referenced-data-file\":",
             p->count ? "," : "", POS_FIELD_ID, *offset, *bytes);
    json_put_cstr(&p->footer, data_file);
    buf_putf(&p->footer, ",\"cardinality\":\"%" PRIu64 "\"}}", ice_bitmap_count(b));
    p->count++;
}

void ice_puffin_finish(struct ice_puffin *p, struct buf *out) {
    static const char flags[4];
    buf_put(out, p->bytes.data, p->bytes.len);
    buf_put(out, PUFFIN_MAGIC, sizeof PUFFIN_MAGIC);
    size_t begin = out->len;
    buf_puts(out, "{\"blobs\":[");
    buf_put(out, p->footer.data, p->footer.len);
    buf_puts(out, "],\"properties\":{\"created-by\":\"tailrace " TAILRACE_VERSION "\"}}");
    size_t len = out->len - begin;
    CHECK(len <= INT32_MAX);
    uint32_t le = (uint32_t)len;
    buf_put(out, &le, sizeof le);
    buf_put(out, flags, sizeof flags);
    buf_put(out, PUFFIN_MAGIC, sizeof PUFFIN_MAGIC);
}
