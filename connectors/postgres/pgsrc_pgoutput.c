/* pgoutput messages of protocol version 1 to segments: transactions, relations and rows. Layouts:
 * protocols.md 4.2, PostgreSQL's "Logical Replication Message Formats". Pure: no clock, no socket;
 * a message is decoded whole or fails whole, and after a failure nothing more is given out, because
 * what was built may hold half a change. Thread: the log reader's.
 *
 *         Begin                 Commit
 *   IDLE --------> OPEN ---------------------> IDLE     rows, truncates: only in OPEN
 *    |                                           ^
 *    +-----------> SKIPPED ----------------------+      its end is at or below what is applied:
 * rows passed over, relations kept (any malformed message) --> BROKEN */
#include "connectors/postgres/pgsrc_pgoutput.h"

#include <stdlib.h>

#include "cdc/base/map.h"
#include "connectors/postgres/pgsrc_plan.h"

enum {
    ROWS_CAP_FIRST =
        64, /* of a table's batches: small at first, since a segment may touch very many tables */
    ROWS_CAP_GROWTH = 4,
    COLUMNS_MAX = 1664, /* MaxTupleAttributeNumber */
    HEX_BYTES_SHOWN = 16,
};

enum state { STATE_IDLE = 1, STATE_OPEN, STATE_SKIPPED, STATE_BROKEN };

#define TX_NOT_LISTED UINT32_MAX
#define OPEN_NONE SIZE_MAX

/* A relation as last sent. */
struct rel {
    uint32_t oid;
    char identity;
    uint16_t column_count;
    bool *key;                     /* one a column: part of the replica identity */
    struct schema *schema;         /* owned reference; NULL: not wanted */
    const struct pgsrc_plan *plan; /* borrowed, see the header */
    struct batch *batch;           /* being built, or NULL */
    size_t open_at;                /* index in open[] if batch */
    size_t bytes;                  /* held by batch, about */
    uint32_t rows_cap;             /* of its next batch */
};

struct pgsrc_pgoutput {
    struct pgsrc_pgoutput_calls calls;
    size_t row_max;
    struct map *rels; /* oid -> struct rel */
    struct rel *last; /* most recently used */
    enum state state;
    uint64_t near;         /* last widened transaction id */
    struct tx tx;          /* of the open transaction */
    uint32_t tx_at;        /* its index in txs, or TX_NOT_LISTED */
    uint32_t tx_n;         /* next ordinal */
    bool tx_rows;          /* it had wanted rows, maybe in an earlier segment */
    struct logpos skip_to; /* what was applied when it was skipped */
    struct segment *segment;
    struct txlist *txs;
    struct rel **open; /* relations with a batch being built, in order of their first row */
    size_t open_count, open_cap;
    size_t open_bytes; /* held by them, about */
    struct logpos to;
    bool news; /* something to take */
};

static void rel_free(void *p) {
    struct rel *rel = p;
    if (rel) {
        batch_unref(rel->batch);
        schema_unref(rel->schema);
        free(rel->key);
        free(rel);
    }
}

struct pgsrc_pgoutput *pgsrc_pgoutput_new(const struct pgsrc_pgoutput_calls *calls) {
    struct pgsrc_pgoutput *d = xcalloc(1, sizeof(*d));
    d->calls = *calls;
    d->row_max = SIZE_MAX;
    d->rels = map_new();
    d->state = STATE_IDLE;
    d->tx_at = TX_NOT_LISTED;
    return d;
}

void pgsrc_pgoutput_free(struct pgsrc_pgoutput *d) {
    if (!d) {
        return;
    }
    map_free(d->rels, rel_free);
    segment_free(d->segment);
    txlist_unref(d->txs);
    free(d->open);
    free(d);
}

void pgsrc_pgoutput_row_max(struct pgsrc_pgoutput *d, size_t bytes) { d->row_max = bytes; }

void pgsrc_pgoutput_widen_from(struct pgsrc_pgoutput *d, uint64_t near) { d->near = near; }

/* The 64-bit number with these low 32 bits that is nearest to the last one. */
static uint64_t widen(struct pgsrc_pgoutput *d, uint32_t xid) {
    int32_t step = (int32_t)(xid - (uint32_t)d->near);
    uint64_t wide = d->near + (uint64_t)(int64_t)step;
    if (step < 0 && wide > d->near) {
        wide += UINT64_C(1) << 32; /* nothing is below zero */
    }
    d->near = wide;
    return wide;
}

static void malformed(const struct pgsrc_pgoutput *d, const uint8_t *p, size_t len, const char *why,
                      struct err *err) {
    char hex[2 * HEX_BYTES_SHOWN + 1] = "";
    for (size_t i = 0; i < len && i < HEX_BYTES_SHOWN; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
        hex[2 * i + 2] = '\0';
    }
    uint64_t at = d->state == STATE_IDLE ? d->to.offset : d->tx.commit.offset;
    err_set(err, ERR_FATAL, "protocol_malformed",
            "the log after %X/%X: %s, in a message of %zu bytes: %s%s", (unsigned)(at >> 32),
            (unsigned)at, why, len, hex, len > HEX_BYTES_SHOWN ? "..." : "");
}

/* What a message's handler needs: the decoder, the rest of the message, and the whole of it for
 * errors. */
struct message {
    struct pgsrc_pgoutput *d;
    struct view v;
    const uint8_t *p;
    size_t len;
    struct err *err;
};

static int bad(const struct message *m, const char *why) {
    malformed(m->d, m->p, m->len, why, m->err);
    return -1;
}

/* --- batches
 * ------------------------------------------------------------------------------------------------
 */

static void rel_seal(struct pgsrc_pgoutput *d, struct rel *rel) {
    struct batch *batch = rel->batch;
    CHECK(batch && d->open[rel->open_at] == rel);
    struct rel *moved = d->open[--d->open_count];
    d->open[rel->open_at] = moved;
    moved->open_at = rel->open_at;
    rel->batch = NULL;
    rel->open_at = OPEN_NONE;
    d->open_bytes -= rel->bytes;
    rel->bytes = 0;
    if (batch->rows == 0) {
        batch_unref(batch);
        return;
    }
    if (batch->rows < batch->rows_cap / (ROWS_CAP_GROWTH * 2)) {
        rel->rows_cap = batch->rows_cap / ROWS_CAP_GROWTH;
    }
    if (rel->rows_cap < ROWS_CAP_FIRST) {
        rel->rows_cap = ROWS_CAP_FIRST;
    }
    segment_add(d->segment, batch);
}

static void rel_grew(struct pgsrc_pgoutput *d, struct rel *rel, size_t bytes) {
    rel->bytes += bytes;
    d->open_bytes += bytes;
}

static void begin_segment(struct pgsrc_pgoutput *d) {
    if (!d->segment) {
        d->segment = segment_new();
        d->txs = txlist_new();
    }
}

/* A batch of the relation with room for two rows, so that both rows of an update lie in one. */
static struct batch *rel_batch(struct pgsrc_pgoutput *d, struct rel *rel) {
    begin_segment(d);
    if (rel->batch && (rel->batch->rows + 2 > rel->batch->rows_cap || batch_full(rel->batch))) {
        if (rel->batch->rows + 2 > rel->batch->rows_cap && rel->rows_cap < BATCH_ROWS_MAX) {
            rel->rows_cap *= ROWS_CAP_GROWTH;
            rel->rows_cap = rel->rows_cap > BATCH_ROWS_MAX ? BATCH_ROWS_MAX : rel->rows_cap;
        }
        rel_seal(d, rel);
    }
    if (!rel->batch) {
        rel->batch = batch_new(rel->schema, rel->rows_cap, d->txs);
        if (d->open_count == d->open_cap) {
            d->open_cap = d->open_cap ? d->open_cap * 2 : 16;
            d->open = xrealloc(d->open, d->open_cap * sizeof(struct rel *));
        }
        rel->open_at = d->open_count;
        d->open[d->open_count++] = rel;
        rel_grew(d, rel, batch_memory(rel->batch));
    }
    return rel->batch;
}

static uint32_t tx_index(struct pgsrc_pgoutput *d) {
    if (d->tx_at == TX_NOT_LISTED) {
        begin_segment(d);
        d->tx_at = txlist_add(d->txs, &d->tx);
    }
    d->tx_rows = true;
    d->news = true;
    return d->tx_at;
}

/* The ordinal of a change, wanted or not, so that it does not depend on what is captured. */
static int next_n(struct message *m, uint32_t *n) {
    if (m->d->tx_n == UINT32_MAX) {
        err_set(m->err, ERR_FATAL, "transaction_too_large",
                "transaction %llu has more than 4294967294 changes",
                (unsigned long long)m->d->tx.id);
        return -1;
    }
    *n = m->d->tx_n++;
    return 0;
}

/* --- tuples
 * ---------------------------------------------------------------------------------------------------
 */

/* The old row that a new row's unchanged cells may be taken from. */
struct old {
    bool given;
    bool full; /* 'O': all columns; 'K': those of the identity */
    uint32_t row;
};

/* Copies a cell of an earlier row of the batch being built. Returns its bytes. */
static size_t copy_cell(struct batch *b, uint16_t col, uint32_t from) {
    const struct column *c = &b->columns[col];
    size_t len = 0;
    if (cell_absent(c, from)) {
        batch_put_absent(b, col);
    } else if (cell_null(c, from)) {
        batch_put_null(b, col);
    } else if (c->width) {
        len = c->width;
        memcpy(batch_fixed(b, col), c->data + (size_t)from * c->width, len);
    } else {
        uint32_t at = c->offsets[from];
        len = c->offsets[from + 1] - at;
        uint8_t *out = batch_var_space(b, col, len); /* may move the data */
        memcpy(out, c->data + at, len);
    }
    return len;
}

static int too_large(struct message *m, const struct batch *b) {
    err_set(m->err, ERR_FATAL, "row_too_large",
            "a row of the table \"%s\" has more than the %zu bytes of row_max", b->schema->label,
            m->d->row_max);
    return err_cure(m->err, "raise row_max, or leave the column out with `table.column: drop`");
}

/* An unchanged cell, stored out of line and not sent. *bytes grows by what was copied. */
static int put_unchanged(struct message *m, struct rel *rel, struct batch *b, uint16_t col,
                         const struct old *old, size_t *bytes) {
    bool key = rel->key[col];
    if (old && old->given && (old->full || key)) {
        *bytes += copy_cell(b, col, old->row);
        return *bytes > m->d->row_max ? too_large(m, b) : 0;
    }
    if (old && key && rel->identity != IDENTITY_FULL) {
        return bad(m, "an update carries neither the old nor the new value of a key column");
    }
    batch_put_absent(b, col);
    return 0;
}

/* kind: N, K or O. old: of an update's new row, else NULL. */
static int take_cells(struct message *m, struct rel *rel, struct batch *b, char kind,
                      const struct old *old) {
    size_t bytes = 0;
    for (uint16_t col = 0; col < rel->column_count; col++) {
        uint8_t form;
        uint32_t len = 0;
        const uint8_t *p = NULL;
        if (take_u8(&m->v, &form) != 0) {
            return bad(m, "it ends within a row");
        }
        bool valued = form == 't' || form == 'b';
        if (!valued && form != 'n' && form != 'u') {
            return bad(m, "a cell of an unknown form");
        }
        if (valued && (take_u32be(&m->v, &len) != 0 || take_bytes(&m->v, len, &p) != 0)) {
            return bad(m, "a cell ends beyond the message");
        }
        bytes += valued ? len : 0;
        if (bytes > m->d->row_max) {
            return too_large(m, b);
        }
        if (kind == 'K' && !rel->key[col]) {
            batch_put_absent(b, col); /* sent as null, but unknown */
        } else if (form == 'n') {
            batch_put_null(b, col);
        } else if (form == 'u') {
            if (put_unchanged(m, rel, b, col, old, &bytes) != 0) {
                return -1;
            }
        } else if (form == 't' ? pgsrc_cell_text(rel->plan, b, col, p, len, m->err)
                               : pgsrc_cell_binary(rel->plan, b, col, p, len, m->err)) {
            uint64_t at = m->d->tx.commit.offset;
            return err_wrap(m->err, "transaction %llu, committed at %X/%X",
                            (unsigned long long)m->d->tx.id, (unsigned)(at >> 32), (unsigned)at);
        }
    }
    return 0;
}

static int take_row(struct message *m, struct rel *rel, char kind, enum row_kind row, uint32_t n,
                    const struct old *old) {
    uint16_t count;
    struct batch *b = rel->batch;
    if (take_u16be(&m->v, &count) != 0) {
        return bad(m, "it ends within a row");
    }
    if (count != rel->column_count) {
        return bad(m, "a row has another number of columns than its relation");
    }
    if (take_cells(m, rel, b, kind, old) != 0) {
        batch_row_abort(b);
        return -1;
    }
    batch_row_done(b, row, tx_index(m->d), n);
    return 0;
}

/* --- rows
 * -------------------------------------------------------------------------------------------------------
 */

static struct rel *rel_find(struct pgsrc_pgoutput *d, uint32_t oid) {
    if (!d->last || d->last->oid != oid) {
        struct rel *rel = map_get(d->rels, &oid, sizeof(oid));
        d->last = rel ? rel : d->last;
        return rel;
    }
    return d->last;
}

/* The relation of a row message: 0 with *rel NULL means that the rest is passed over. */
static int take_relation_of_row(struct message *m, struct rel **rel, uint32_t *n) {
    uint32_t oid;
    *rel = NULL;
    *n = 0;
    if (m->d->state == STATE_SKIPPED) {
        return 0;
    }
    if (m->d->state != STATE_OPEN) {
        return bad(m, "a row outside of a transaction");
    }
    if (take_u32be(&m->v, &oid) != 0) {
        return bad(m, "it is too short");
    }
    struct rel *found = rel_find(m->d, oid);
    if (!found) {
        return bad(m, "a row of a relation that was not announced");
    }
    if (next_n(m, n) != 0) {
        return -1;
    }
    *rel = found->schema ? found : NULL;
    return 0;
}

static int take_kind(struct message *m, uint8_t *kind) {
    *kind = 0;
    return take_u8(&m->v, kind) == 0 ? 0 : bad(m, "it is too short");
}

static int end_row(struct message *m, struct rel *rel) {
    rel_grew(m->d, rel, m->len);
    return view_left(&m->v) == 0 ? 0 : bad(m, "bytes after its end");
}

static int on_insert(struct message *m) {
    struct rel *rel;
    uint32_t n;
    uint8_t kind;
    if (take_relation_of_row(m, &rel, &n) != 0) {
        return -1;
    }
    if (!rel) {
        return 0;
    }
    if (take_kind(m, &kind) != 0) {
        return -1;
    }
    if (kind != 'N') {
        return bad(m, "an insert without a new row");
    }
    rel_batch(m->d, rel);
    return take_row(m, rel, 'N', ROW_INSERT, n, NULL) == 0 ? end_row(m, rel) : -1;
}

static int check_identity(const struct message *m, const struct rel *rel) {
    return rel->identity == IDENTITY_NOTHING
               ? bad(m, "an update or delete of a relation without replica identity")
               : 0;
}

static int on_update(struct message *m) {
    struct rel *rel;
    uint32_t n;
    uint8_t kind;
    if (take_relation_of_row(m, &rel, &n) != 0) {
        return -1;
    }
    if (!rel) {
        return 0;
    }
    if (take_kind(m, &kind) != 0 || check_identity(m, rel) != 0) {
        return -1;
    }
    struct batch *b = rel_batch(m->d, rel);
    struct old old = { 0 };
    if (kind == 'K' || kind == 'O') {
        old = (struct old){ .given = true, .full = kind == 'O', .row = b->rows };
        if (take_row(m, rel, (char)kind, ROW_UPDATE_BEFORE, n, NULL) != 0 ||
            take_kind(m, &kind) != 0) {
            return -1;
        }
    }
    if (kind != 'N') {
        return bad(m, "an update without a new row");
    }
    return take_row(m, rel, 'N', ROW_UPDATE_AFTER, n, &old) == 0 ? end_row(m, rel) : -1;
}

static int on_delete(struct message *m) {
    struct rel *rel;
    uint32_t n;
    uint8_t kind;
    if (take_relation_of_row(m, &rel, &n) != 0) {
        return -1;
    }
    if (!rel) {
        return 0;
    }
    if (take_kind(m, &kind) != 0 || check_identity(m, rel) != 0) {
        return -1;
    }
    if (kind != 'K' && kind != 'O') {
        return bad(m, "a delete without an old row");
    }
    rel_batch(m->d, rel);
    return take_row(m, rel, (char)kind, ROW_DELETE, n, NULL) == 0 ? end_row(m, rel) : -1;
}

static int on_truncate(struct message *m) {
    uint32_t count;
    uint8_t options;
    const uint8_t *oids;
    if (m->d->state == STATE_SKIPPED) {
        return 0;
    }
    if (m->d->state != STATE_OPEN) {
        return bad(m, "a truncate outside of a transaction");
    }
    if (take_u32be(&m->v, &count) != 0 || take_u8(&m->v, &options) != 0 ||
        view_left(&m->v) != (size_t)count * 4 || take_bytes(&m->v, (size_t)count * 4, &oids) != 0) {
        return bad(m, "a truncate of another length than its count of relations says");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rel *rel = rel_find(m->d, pgsrc_be32(oids + 4 * (size_t)i));
        uint32_t n;
        if (!rel) {
            return bad(m, "a truncate of a relation that was not announced");
        }
        if (next_n(m, &n) != 0) {
            return -1;
        }
        if (!rel->schema) {
            continue;
        }
        struct batch *b = rel_batch(m->d, rel);
        for (uint16_t col = 0; col < rel->column_count; col++) {
            batch_put_absent(b, col);
        }
        batch_row_done(b, ROW_TRUNCATE, tx_index(m->d), n);
    }
    return 0;
}

/* --- relations
 * ---------------------------------------------------------------------------------------------------
 */

/* The columns of a Relation message; an array that the caller frees, NULL if malformed. */
static struct pgsrc_relation_column *take_columns(struct message *m, uint16_t count) {
    struct pgsrc_relation_column *columns = xcalloc(count ? count : 1, sizeof(*columns));
    for (uint16_t i = 0; i < count; i++) {
        uint8_t flags;
        uint32_t mod;
        if (take_u8(&m->v, &flags) != 0 || take_cstr(&m->v, &columns[i].name) != 0 ||
            take_u32be(&m->v, &columns[i].type_oid) != 0 || take_u32be(&m->v, &mod) != 0) {
            free(columns);
            return NULL;
        }
        columns[i].key = (flags & 1) != 0;
        columns[i].type_mod = (int32_t)mod;
    }
    return columns;
}

/* Keeps the new definition; what was built by another one is finished first. */
static int rel_set(struct message *m, const struct pgsrc_relation *sent) {
    struct pgsrc_pgoutput *d = m->d;
    struct schema *schema = NULL;
    const struct pgsrc_plan *plan = NULL;
    if (d->calls.relation(d->calls.arg, sent, &schema, &plan, m->err) != 0) {
        return -1;
    }
    CHECK(!schema || (plan && schema->column_count == sent->column_count &&
                      plan->column_count == sent->column_count));
    struct rel *rel = rel_find(d, sent->oid);
    if (!rel) {
        rel = xcalloc(1, sizeof(*rel));
        rel->oid = sent->oid;
        rel->rows_cap = ROWS_CAP_FIRST;
        rel->open_at = OPEN_NONE;
        map_set(d->rels, &sent->oid, sizeof(sent->oid), rel);
    }
    if (rel->batch && rel->schema != schema) {
        rel_seal(d, rel);
    }
    schema_unref(rel->schema);
    rel->schema = schema;
    rel->plan = plan;
    rel->identity = sent->identity;
    rel->column_count = sent->column_count;
    free(rel->key);
    rel->key = xcalloc(sent->column_count ? sent->column_count : 1, sizeof(bool));
    for (uint16_t i = 0; i < sent->column_count; i++) {
        rel->key[i] = sent->columns[i].key;
    }
    return 0;
}

static int on_relation(struct message *m) {
    struct pgsrc_relation sent = { 0 };
    uint8_t identity;
    if (take_u32be(&m->v, &sent.oid) != 0 || take_cstr(&m->v, &sent.space) != 0 ||
        take_cstr(&m->v, &sent.name) != 0 || take_u8(&m->v, &identity) != 0 ||
        take_u16be(&m->v, &sent.column_count) != 0) {
        return bad(m, "it ends within a relation");
    }
    if (!memchr("dnfi", identity, 4) || sent.column_count > COLUMNS_MAX) {
        return bad(m, "a relation with an unknown identity or too many columns");
    }
    sent.identity = (char)identity;
    sent.columns = take_columns(m, sent.column_count);
    if (!sent.columns) {
        return bad(m, "it ends within a relation");
    }
    int status = view_left(&m->v) == 0 ? rel_set(m, &sent) : bad(m, "bytes after its end");
    free(sent.columns);
    return status;
}

/* --- transactions
 * --------------------------------------------------------------------------------------------------
 */

static int on_begin(struct message *m, struct logpos applied) {
    struct pgsrc_pgoutput *d = m->d;
    uint64_t lsn = 0;
    uint64_t time = 0;
    uint32_t xid = 0;
    if (d->state != STATE_IDLE) {
        return bad(m, "a transaction begins within another");
    }
    if (take_u64be(&m->v, &lsn) != 0 || take_u64be(&m->v, &time) != 0 ||
        take_u32be(&m->v, &xid) != 0 || view_left(&m->v) != 0) {
        return bad(m, "a begin of another length than 21");
    }
    d->to = logpos_max(d->to, applied);
    d->tx = (struct tx){
        .id = widen(d, xid), .commit = { 0, lsn }, .end = LOGPOS_NONE, .time_us = (int64_t)time
    };
    d->tx_at = TX_NOT_LISTED;
    d->tx_n = 0;
    d->tx_rows = false;
    /* lsn is where the commit record begins and commits do not overlap, so it lies below what is
     * applied exactly if its end does not lie above. */
    d->skip_to = applied;
    d->state = lsn < applied.offset ? STATE_SKIPPED : STATE_OPEN;
    return 0;
}

static int on_commit(struct message *m) {
    struct pgsrc_pgoutput *d = m->d;
    uint8_t flags;
    uint64_t commit;
    uint64_t end;
    uint64_t time;
    if (d->state != STATE_OPEN && d->state != STATE_SKIPPED) {
        return bad(m, "a commit without its begin");
    }
    if (take_u8(&m->v, &flags) != 0 || take_u64be(&m->v, &commit) != 0 ||
        take_u64be(&m->v, &end) != 0 || take_u64be(&m->v, &time) != 0 || view_left(&m->v) != 0) {
        return bad(m, "a commit of another length than 26");
    }
    if (commit != d->tx.commit.offset || end <= commit) {
        return bad(m, "a commit at another place than its begin said");
    }
    if (d->state == STATE_SKIPPED) {
        if (end > d->skip_to.offset) {
            return bad(m, "a transaction that was applied in part");
        }
        d->state = STATE_IDLE;
        return 0;
    }
    struct logpos to = { 0, end };
    if (logpos_cmp(to, d->to) <= 0) {
        return bad(m, "a commit below an earlier one");
    }
    d->tx.end = to;
    if (d->tx_rows) {
        uint32_t at = tx_index(d); /* may begin a segment, and its list */
        d->txs->at[at].end = to;
    }
    d->to = to;
    d->news = true;
    d->state = STATE_IDLE;
    return 0;
}

/* Messages without meaning here, whose form is checked all the same. */
static int on_passed_over(struct message *m, uint8_t type) {
    const char *s;
    const uint8_t *bytes;
    uint8_t flags;
    uint32_t n;
    uint64_t lsn;
    bool good = true;
    switch (type) {
    case 'O':
        good = take_u64be(&m->v, &lsn) == 0 && take_cstr(&m->v, &s) == 0;
        break;
    case 'Y':
        good = take_u32be(&m->v, &n) == 0 && take_cstr(&m->v, &s) == 0 && take_cstr(&m->v, &s) == 0;
        break;
    case 'M':
        good = take_u8(&m->v, &flags) == 0 && take_u64be(&m->v, &lsn) == 0 &&
               take_cstr(&m->v, &s) == 0 && take_u32be(&m->v, &n) == 0 &&
               take_bytes(&m->v, n, &bytes) == 0;
        break;
    default: /* a stray abort: with or without the position and time of later versions */
        good = view_left(&m->v) == 8 || view_left(&m->v) == 24;
        m->v.at = m->v.end;
        break;
    }
    return good && view_left(&m->v) == 0 ? 0 : bad(m, "its length does not fit its content");
}

static int on_message(struct message *m, uint8_t type, struct logpos applied) {
    switch (type) {
    case 'B':
        return on_begin(m, applied);
    case 'C':
        return on_commit(m);
    case 'R':
        return on_relation(m);
    case 'I':
        return on_insert(m);
    case 'U':
        return on_update(m);
    case 'D':
        return on_delete(m);
    case 'T':
        return on_truncate(m);
    case 'O':
    case 'Y':
    case 'M':
    case 'A':
        return on_passed_over(m, type);
    default:
        return bad(m, "a type that protocol version 1 does not have");
    }
}

int pgsrc_pgoutput_message(struct pgsrc_pgoutput *d, const uint8_t *p, size_t len,
                           struct logpos applied, struct err *err) {
    CHECK(d->state != STATE_BROKEN);
    struct message m = { .d = d, .v = view_of(p, len), .p = p, .len = len, .err = err };
    uint8_t type;
    int status = take_u8(&m.v, &type) == 0 ? on_message(&m, type, applied) : bad(&m, "it is empty");
    if (status != 0) {
        d->state = STATE_BROKEN;
        /* The message is used up: the call that failed cannot be made again. */
        err->kind = err->kind == ERR_RETRY ? ERR_REWIND : err->kind;
    }
    return status;
}

void pgsrc_pgoutput_progress(struct pgsrc_pgoutput *d, struct logpos end) {
    if (d->state == STATE_IDLE && logpos_cmp(end, d->to) > 0) {
        d->to = end;
        d->news = true;
    }
}

bool pgsrc_pgoutput_in_transaction(const struct pgsrc_pgoutput *d) {
    return d->state == STATE_OPEN || d->state == STATE_SKIPPED;
}

size_t pgsrc_pgoutput_bytes(const struct pgsrc_pgoutput *d) {
    return d->open_bytes + (d->segment ? d->segment->bytes : 0);
}

struct segment *pgsrc_pgoutput_take(struct pgsrc_pgoutput *d) {
    if (!d->news || d->state == STATE_BROKEN) {
        return NULL;
    }
    begin_segment(d);
    while (d->open_count > 0) {
        rel_seal(d, d->open[0]);
    }
    struct segment *s = d->segment;
    s->txs = d->txs;
    s->to = d->to;
    s->resume = d->to;
    s->at_border = d->state == STATE_IDLE;
    d->segment = NULL;
    d->txs = NULL;
    d->tx_at = TX_NOT_LISTED;
    CHECK(d->open_bytes == 0);
    d->news = false;
    return s;
}
