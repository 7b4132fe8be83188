/* Files of the key index's folder: the first byte says which kind the rest is (bit 0: manifest,
 * else run) and whether its checksums are made right first (bit 1), so that what lies behind them
 * is reached too. Whatever is accepted must hold together: a walk that ends gives as many entries
 * as the footer says, in order, each of which is found again; a manifest that is read is written
 * again and read to the same. */
#include <libdeflate.h>
#include <stdlib.h>

#include "sinks/iceberg/key_index_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_word(uint8_t *at, uint64_t word) { memcpy(at, &word, sizeof word); }

/* Sums of the pages, of the tables, of the footer; what has no room for them stays. */
static void make_run_right(uint8_t *p, size_t n) {
    uint64_t footer[KEY_FOOTER_WORDS];
    struct key_shape s;
    if (n < KEY_FOOTER_BYTES) {
        return;
    }
    uint8_t *at = p + n - KEY_FOOTER_BYTES;
    memcpy(footer, at, sizeof footer);
    memcpy(&s, footer + 1, sizeof s);
    uint64_t room = n - KEY_FOOTER_BYTES;
    uint64_t pages = s.body_bytes / KEY_PAGE_BYTES + 1;
    uint64_t table = s.seg_bits < 20 ? sizeof(struct key_segment) << s.seg_bits : room;
    if (s.body_bytes < room && table < room - s.body_bytes &&
        pages * 4 <= room - s.body_bytes - table) {
        for (uint64_t i = 0; i * KEY_PAGE_BYTES < s.body_bytes; i++) {
            uint64_t left = s.body_bytes - i * KEY_PAGE_BYTES;
            uint32_t sum = libdeflate_crc32(0, p + i * KEY_PAGE_BYTES,
                                            left < KEY_PAGE_BYTES ? left : KEY_PAGE_BYTES);
            memcpy(p + s.body_bytes + table + i * 4, &sum, sizeof sum);
        }
        footer[KEY_FOOTER_WORDS - 1] = libdeflate_crc32(0, p + s.body_bytes, room - s.body_bytes);
    }
    footer[0] = KEY_RUN_MAGIC;
    footer[KEY_FOOTER_WORDS - 1] &= UINT32_MAX;
    put_word(at, footer[0]);
    put_word(at + KEY_FOOTER_BYTES - 8, footer[KEY_FOOTER_WORDS - 1]);
    uint64_t own = libdeflate_crc32(0, at, KEY_FOOTER_BYTES - 4);
    put_word(at + KEY_FOOTER_BYTES - 8, footer[KEY_FOOTER_WORDS - 1] | own << 32);
}

/* whole: the run was walked to its end, so nothing in it may be called damaged. */
static void find_again(struct key_run *r, const struct key_entry *e, bool whole) {
    struct key_numbers all = { 0 };
    bool there = false;
    int result = key_run_all(r, e->hash, &all);
    for (size_t i = 0; i < all.count; i++) {
        there = there || all.at[i] == e->value;
    }
    CHECK(result == 0 ? there : !whole);
    key_numbers_release(&all);
}

static void walk(struct key_run *r) {
    struct key_cursor *c = xmalloc(sizeof *c);
    uint64_t entries = 0;
    uint64_t last = 0;
    int result;
    key_cursor_init(c, r);
    while ((result = key_cursor_fill(c)) == 0 && c->count) {
        for (uint32_t i = 0; i < c->count; i++) {
            CHECK(c->entries[i].hash >= last && c->entries[i].value);
            last = c->entries[i].hash;
        }
        entries += c->count;
    }
    if (result == 0) { /* the whole of it is in order, so nothing of it may be missed */
        CHECK(entries == r->shape.entries);
        key_cursor_init(c, r);
        while (key_cursor_fill(c) == 0 && c->count) {
            find_again(r, &c->entries[0], true);
            find_again(r, &c->entries[c->count - 1], true);
        }
    }
    free(c);
}

static void run(const void *p, size_t n, const uint8_t *data, size_t size) {
    struct key_run r;
    struct key_probe probes[KEY_PROBES_AT_ONCE] = { 0 };
    uint64_t values[KEY_PROBES_AT_ONCE];
    uint64_t more;
    if (key_run_open(&r, p, n)) {
        return;
    }
    for (uint32_t i = 0; i < KEY_PROBES_AT_ONCE; i++) {
        if (i * 8 + 8 <= size) {
            memcpy(&probes[i].hash, data + i * 8, 8);
        } else {
            probes[i].hash = i * UINT64_C(0x0410410410410410);
        }
    }
    if (key_run_probe(&r, probes, KEY_PROBES_AT_ONCE, values, &more) == 0) {
        for (uint32_t i = 0; i < KEY_PROBES_AT_ONCE; i++) {
            if (values[i]) {
                find_again(&r, &(struct key_entry){ probes[i].hash, values[i] }, false);
            }
        }
    }
    walk(&r);
    key_run_release(&r);
}

static void init(struct key_index *ix) {
    *ix = (struct key_index){ .groups = map_new(), .paths = map_new(), .numbers = map_new() };
}
static void release(struct key_index *ix) {
    map_free(ix->groups, key_group_free);
    map_free(ix->paths, free);
    map_free(ix->numbers, NULL);
    free(ix->dropped);
    free(ix->tag);
}

static void manifest(uint8_t *p, size_t n) {
    struct key_manifest_run runs[KEY_RUNS_MAX];
    struct key_run named[KEY_RUNS_MAX] = { 0 };
    uint32_t count;
    struct key_index ix;
    struct buf again, tag;
    init(&ix);
    buf_init(&again, SIZE_MAX);
    buf_init(&tag, SIZE_MAX);
    int tag_result = key_manifest_tag(p, n, &tag);
    if (key_manifest_take(&ix, p, n, runs, &count) == 0) {
        CHECK(tag_result == 0 && strcmp(buf_cstr(&tag), ix.tag) == 0);
        for (uint32_t i = 0; i < count; i++) {
            named[i].number = runs[i].number;
            named[i].len = runs[i].bytes;
            named[i].footer_sum = runs[i].sum;
            ix.runs[i] = &named[i];
        }
        ix.run_count = count;
        key_manifest_put(&ix, ix.tag, &again);
        CHECK(again.len == n && memcmp(again.data, p, n) == 0);
    }
    buf_release(&again);
    buf_release(&tag);
    release(&ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = xmalloc(n + 1); /* aligned as a mapping is */
    memcpy(p, data + 1, n);
    if (data[0] & 1) {
        if (data[0] & 2 && n >= 4) {
            uint32_t sum = __builtin_bswap32(libdeflate_crc32(0, p, n - 4));
            memcpy(p + n - 4, &sum, sizeof sum);
        }
        manifest(p, n);
    } else {
        if (data[0] & 2) {
            make_run_right(p, n);
        }
        run(p, n, data + 1, n);
    }
    free(p);
    return 0;
}
