/* discard: counters. Without hash=on a batch costs a look at its kinds and offsets, not at its
 * rows. See discard.h. */
#include "sinks/inspect/discard.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "cdc/base/map.h"
#include "sinks/encode/server_text.h"
#include "sinks/encode/stage_merge.h"
#include "sinks/inspect/no_position.h"

enum { KINDS = 5 };

/* Of one table within a tally. */
struct table_sum {
    char *label;
    bool reset;    /* what was before no longer counts (truncate, a new generation) */
    bool unknown;  /* since then a row was not carried in full */
    uint64_t rows; /* modulo 2^64, like the digest: a part may take away more than it adds */
    uint64_t digest;
};
/* What was staged between two seals; also the totals of the sink. A part is one. */
struct tally {
    uint64_t snapshot;
    uint64_t kinds[KINDS]; /* of the log, by enum row_kind */
    uint64_t removed;
    uint64_t bytes;
    struct map *sums; /* table_id -> struct table_sum; NULL without hash */
};
struct discard {
    struct sink base;
    bool hash;
    struct tally *total;
};
struct discard_writer {
    struct sink_writer base;
    bool hash;
    struct tally *tally; /* NULL: nothing staged since the last seal */
    EVP_MD_CTX *md5;
    struct buf text;
    struct stage_merge merge;
};

static const struct opt_spec discard_opts[] = {
    NO_POSITION_FRESHNESS,
    { .key = "hash",
      .type = OPT_BOOL,
      .fallback = "off",
      .doc = "print a digest of each table that SQL can compute too" },
    { .key = NULL },
};

static void sum_free(void *p) {
    struct table_sum *sum = p;
    free(sum->label);
    free(sum);
}

static struct tally *tally_new(bool hash) {
    struct tally *t = xcalloc(1, sizeof *t);
    t->sums = hash ? map_new() : NULL;
    return t;
}

static void tally_free(struct tally *t) {
    if (t) {
        if (t->sums) {
            map_free(t->sums, sum_free);
        }
        free(t);
    }
}

static struct table_sum *sum_of(struct tally *t, uint64_t table_id, const char *label) {
    struct table_sum *sum = map_get(t->sums, &table_id, sizeof table_id);
    if (!sum) {
        sum = xcalloc(1, sizeof *sum);
        sum->label = xstrdup(label);
        map_set(t->sums, &table_id, sizeof table_id, sum);
    }
    return sum;
}

static void sum_reset(struct table_sum *sum) {
    sum->reset = true;
    sum->unknown = false;
    sum->rows = 0;
    sum->digest = 0;
}

static void tally_add(struct tally *to, const struct tally *from) {
    to->snapshot += from->snapshot;
    to->removed += from->removed;
    to->bytes += from->bytes;
    for (int k = 0; k < KINDS; k++) {
        to->kinds[k] += from->kinds[k];
    }
    const void *key;
    size_t len;
    void *value;
    for (size_t at = 0; from->sums && map_next(from->sums, &at, &key, &len, &value);) {
        const struct table_sum *sum = value;
        uint64_t table_id;
        CHECK(len == sizeof table_id);
        memcpy(&table_id, key, sizeof table_id);
        struct table_sum *total = sum_of(to, table_id, sum->label);
        if (sum->reset) {
            sum_reset(total);
        }
        total->unknown = total->unknown || sum->unknown;
        total->rows += sum->rows;
        total->digest += sum->digest;
    }
}

static int discard_open(const struct sink_address *addr, struct env *env, struct sink **out,
                        struct err *err) {
    (void)env;
    if (no_position_address(addr, err)) {
        return -1;
    }
    struct discard *d = xcalloc(1, sizeof *d);
    d->base.ops = &discard_ops;
    d->hash = addr->opts && opts_bool(addr->opts, "hash");
    d->total = tally_new(d->hash);
    *out = &d->base;
    return 0;
}

static struct discard *discard_of(struct sink *s) {
    return (struct discard *)s; /* base is its first member */
}
static struct discard_writer *writer_of(struct sink_writer *w) {
    return (struct discard_writer *)w;
}

static void discard_close(struct sink *s) {
    tally_free(discard_of(s)->total);
    free(s);
}

static enum commit_outcome discard_commit(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    (void)err;
    for (uint32_t i = 0; i < req->part_count; i++) {
        if (req->parts[i]) {
            tally_add(discard_of(s)->total, (const struct tally *)(const void *)req->parts[i]);
        }
    }
    return COMMITTED;
}

static int discard_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                               struct err *err) {
    (void)number;
    struct discard_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = &discard_ops;
    w->hash = discard_of(s)->hash;
    buf_init(&w->text, SIZE_MAX);
    stage_merge_init(&w->merge);
    if (w->hash) {
        w->md5 = EVP_MD_CTX_new();
        if (!w->md5 || !EVP_DigestInit_ex(w->md5, EVP_md5(), NULL)) {
            EVP_MD_CTX_free(w->md5);
            free(w);
            return err_set(err, ERR_FATAL, "md5_missing",
                           "this system's OpenSSL has no MD5, which hash=on needs");
        }
    }
    *out = &w->base;
    return 0;
}

static void count_bytes(struct tally *t, const struct batch *b) {
    for (uint16_t i = 0; i < b->schema->column_count; i++) {
        const struct column *c = &b->columns[i];
        t->bytes += c->width ? (uint64_t)c->width * b->rows : c->offsets[b->rows];
    }
}

static void count_kinds(struct tally *t, const struct batch *b) {
    if (!b->kinds) {
        t->snapshot += b->rows;
        return;
    }
    uint32_t counts[KINDS] = { 0 };
    for (uint32_t k = 0; k < KINDS;
         k++) { /* five passes over bytes: compilers make vector compares of them */
        uint32_t n = 0;
        for (uint32_t row = 0; row < b->rows; row++) {
            n += b->kinds[row] == k;
        }
        counts[k] = n;
    }
    for (uint32_t k = 0; k < KINDS; k++) {
        t->kinds[k] += counts[k];
    }
}

/* 1: the row's number is in *out; 0: a cell is not carried; -1: error. */
static int hash_row(struct discard_writer *w, const struct batch *b, uint32_t row, uint64_t *out,
                    struct err *err) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    int ok = EVP_DigestInit_ex(w->md5, NULL, NULL);
    for (uint16_t i = 0; i < b->schema->column_count; i++) {
        const struct column *c = &b->columns[i];
        if (cell_absent(c, row)) {
            return 0;
        }
        buf_clear(&w->text);
        if (i > 0) {
            buf_putc(&w->text, '|');
        }
        if (cell_null(c, row)) {
            buf_puts(&w->text, "\\N");
        } else {
            size_t len;
            const uint8_t *cell = cell_bytes(c, row, &len);
            if (server_text_put(&w->text, &b->schema->columns[i].type, cell, len, err)) {
                return -1;
            }
        }
        ok = ok && (w->text.len == 0 || EVP_DigestUpdate(w->md5, w->text.data, w->text.len));
    }
    ok = ok && EVP_DigestFinal_ex(w->md5, digest, NULL);
    CHECK(ok);
    *out = 0;
    for (int i = 0; i < 8; i++) {
        *out = *out << 8 | digest[i];
    }
    return 1;
}

/* Adds or takes away one row. */
static int hash_change(struct discard_writer *w, const struct batch *b, uint32_t row, bool adds,
                       struct err *err) {
    struct table_sum *sum = sum_of(w->tally, b->schema->table_id, b->schema->label);
    uint64_t number = 0;
    int known = hash_row(w, b, row, &number, err);
    if (known < 0) {
        return -1;
    }
    sum->unknown = sum->unknown || !known;
    sum->digest += adds ? number : 0 - number;
    sum->rows += adds ? 1 : UINT64_MAX;
    return 0;
}

static int hash_rows(struct discard_writer *w, const struct stage_item *item, struct err *err) {
    struct stage_change c;
    stage_merge_begin(&w->merge, item);
    while (stage_merge_next(&w->merge, &c)) {
        const struct batch *b = item->batches[c.batch];
        int failed = 0;
        switch (c.kind) {
        case ROW_INSERT:
            failed = hash_change(w, b, c.row, true, err);
            break;
        case ROW_DELETE:
            failed = hash_change(w, b, c.row, false, err);
            break;
        case ROW_UPDATE_BEFORE:
            failed =
                hash_change(w, b, c.row, false, err) ||
                (c.paired && hash_change(w, item->batches[c.after_batch], c.after_row, true, err));
            break;
        case ROW_UPDATE_AFTER: /* alone: the old row's other cells are not known */
            sum_of(w->tally, b->schema->table_id, b->schema->label)->unknown = true;
            break;
        case ROW_TRUNCATE:
            sum_reset(sum_of(w->tally, b->schema->table_id, b->schema->label));
            break;
        }
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static int discard_writer_stage(struct sink_writer *sw, const struct stage_item *item,
                                struct err *err) {
    struct discard_writer *w = writer_of(sw);
    if (!w->tally) {
        w->tally = tally_new(w->hash);
    }
    if (item->kind == STAGE_GENERATION) {
        if (w->hash) {
            sum_reset(sum_of(w->tally, item->schema->table_id, item->schema->label));
        }
        return 0;
    }
    for (uint32_t i = 0; i < item->count; i++) {
        const struct batch *b = item->batches[i];
        if (item->kind == STAGE_REMOVE) {
            w->tally->removed += b->rows;
            if (w->hash) {
                sum_of(w->tally, b->schema->table_id, b->schema->label)->unknown = true;
            }
            continue;
        }
        count_kinds(w->tally, b);
        count_bytes(w->tally, b);
    }
    return item->kind == STAGE_ROWS && w->hash ? hash_rows(w, item, err) : 0;
}

static int discard_writer_seal(struct sink_writer *sw, uint64_t seq, struct sink_part **out,
                               struct err *err) {
    (void)seq;
    (void)err;
    struct discard_writer *w = writer_of(sw);
    *out = (struct sink_part *)(void *)w->tally;
    w->tally = NULL;
    return 0;
}

static void discard_writer_close(struct sink_writer *sw) {
    struct discard_writer *w = writer_of(sw);
    tally_free(w->tally);
    EVP_MD_CTX_free(w->md5);
    buf_release(&w->text);
    stage_merge_release(&w->merge);
    free(w);
}

static void discard_part_free(struct sink_part *part, bool committed) {
    (void)committed;
    tally_free((struct tally *)(void *)part);
}

/* rows snapshot=.. insert=.. update=.. delete=.. truncate=.. removed=.. bytes=..
 * digest public.t rows=3 sum=123            or: digest public.t unknown: .. */
static int discard_summary(struct sink *s, struct buf *out, struct err *err) {
    (void)err;
    const struct tally *t = discard_of(s)->total;
    buf_putf(out,
             "rows snapshot=%" PRIu64 " insert=%" PRIu64 " update=%" PRIu64 " delete=%" PRIu64
             " truncate=%" PRIu64 " removed=%" PRIu64 " bytes=%" PRIu64,
             t->snapshot, t->kinds[ROW_INSERT], t->kinds[ROW_UPDATE_AFTER], t->kinds[ROW_DELETE],
             t->kinds[ROW_TRUNCATE], t->removed, t->bytes);
    void *value;
    for (size_t at = 0; t->sums && map_next(t->sums, &at, NULL, NULL, &value);) {
        const struct table_sum *sum = value;
        if (sum->unknown) {
            buf_putf(out,
                     "\ndigest %s unknown: the log did not carry whole old rows (REPLICA IDENTITY "
                     "FULL does)",
                     sum->label);
        } else {
            buf_putf(out, "\ndigest %s rows=%" PRIu64 " sum=%" PRIu64, sum->label, sum->rows,
                     sum->digest);
        }
    }
    return 0;
}

const struct sink_ops discard_ops = {
    .name = "discard",
    .opts = discard_opts,
    .owns_position = false,
    .stages = true,
    .writers_max = 2,
    .freshness_us = NO_POSITION_FRESHNESS_US,
    .open = discard_open,
    .close = discard_close,
    .examine = no_position_examine,
    .peek = no_position_peek,
    .recover = no_position_recover,
    .apply_schema = no_position_apply_schema,
    .commit = discard_commit,
    .resolve = no_position_resolve,
    .writer_open = discard_writer_open,
    .writer_stage = discard_writer_stage,
    .writer_seal = discard_writer_seal,
    .writer_close = discard_writer_close,
    .part_free = discard_part_free,
    .summary = discard_summary,
    .describe = sink_describes_nothing,
};
