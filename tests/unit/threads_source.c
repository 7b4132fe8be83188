/* The source of the `threads` program: a small database, its log, and the source door over it. See
 * threads.c. */
#include "tests/unit/threads.h"

unsigned below(uint64_t *random, unsigned n) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % n;
}

void apply(struct rows *r, const struct change *c) {
    switch (c->kind) {
    case CHANGE_INSERT:
    case CHANGE_UPDATE:
        r->there[c->table][c->key] = true;
        r->value[c->table][c->key] = c->value;
        break;
    case CHANGE_DELETE:
        r->there[c->table][c->key] = false;
        break;
    case CHANGE_MOVE:
        r->there[c->table][c->key] = false;
        r->there[c->table][c->to] = true;
        r->value[c->table][c->to] = c->value;
        break;
    }
}

/* Lock held. The load follows the target's commits, so that a run has many of them. */
static void server_commit(struct server *s) {
    unsigned allowed = s->total / 2 + 30 * atomic_load(&seq_now);
    if (s->count >= (allowed < s->total ? allowed : s->total)) {
        return;
    }
    struct record *r = &s->log[s->count];
    r->xid = 100 + s->count;
    r->count = 1 + below(&s->random, CHANGES_MAX);
    for (unsigned i = 0; i < r->count; i++) {
        struct change *c = &r->changes[i];
        c->table = below(&s->random, TABLES);
        c->key = below(&s->random, KEYS);
        c->value = (int64_t)s->count * 10 + i;
        if (!s->now.there[c->table][c->key]) {
            c->kind = CHANGE_INSERT;
        } else {
            c->to = below(&s->random, KEYS);
            unsigned what = below(&s->random, 4);
            c->kind = what == 0                                     ? CHANGE_DELETE
                      : what == 1 && !s->now.there[c->table][c->to] ? CHANGE_MOVE
                                                                    : CHANGE_UPDATE;
        }
        apply(&s->now, c);
    }
    s->count++;
}

static struct schema *table_schema(unsigned table) {
    struct schema *s = schema_new(1000 + table, "public", table ? "whole" : "ranges", 2);
    s->columns[0] =
        (struct column_def){ .name = "id", .source_type = "k", .source_mod = -1, .key_pos = 0 };
    s->columns[0].type.kind = table ? TYPE_TEXT : TYPE_INT64;
    s->columns[1] =
        (struct column_def){ .name = "v", .source_type = "int8", .source_mod = -1, .key_pos = -1 };
    s->columns[1].type.kind = TYPE_INT64;
    s->storage = "1";
    s->identity = IDENTITY_KEY;
    schema_finish(s);
    return s;
}

struct server *server_new(unsigned total) {
    struct server *s = xcalloc(1, sizeof *s);
    s->q = waitq_new();
    s->random = 7;
    s->total = total;
    for (unsigned t = 0; t < TABLES; t++) {
        s->schemas[t] = table_schema(t);
    }
    for (unsigned i = 0; i < total / 4; i++) {
        server_commit(s);
    }
    return s;
}

void server_free(struct server *s) {
    for (unsigned t = 0; t < TABLES; t++) {
        schema_unref(s->schemas[t]);
    }
    waitq_free(s->q);
    free(s);
}

struct logpos pos_of(unsigned count) {
    return (struct logpos){ 0, (uint64_t)(count + 1) * STEP };
}

/* The rows as of a position. */
void rows_at(const struct server *s, struct logpos at, struct rows *out) {
    *out = (struct rows){ 0 };
    for (unsigned i = 0; i < s->count && logpos_cmp(pos_of(i + 1), at) <= 0; i++) {
        for (unsigned c = 0; c < s->log[i].count; c++) {
            apply(out, &s->log[i].changes[c]);
        }
    }
}

struct fake_source {
    struct source base;
};
struct fake_log {
    struct source_log base;
    unsigned next; /* record */
    bool woken;
};
struct fake_lane {
    struct source_lane base;
    struct rows seen;
    struct chunk_read read;
    unsigned at;
};

static void put_row(struct batch *b, unsigned table, unsigned key, int64_t value,
                    enum row_kind kind, uint32_t tx, uint32_t n) {
    if (table) {
        char text[8];
        int len = snprintf(text, sizeof text, "%u", key);
        batch_put_var(b, 0, text, (size_t)len);
    } else {
        int64_t id = key;
        memcpy(batch_fixed(b, 0), &id, sizeof id);
    }
    memcpy(batch_fixed(b, 1), &value, sizeof value);
    batch_row_done(b, kind, tx, n);
}

static int fake_open(const struct source_address *a, struct env *env, table_select_fn select,
                     const void *rules, struct source **out, struct err *err);
static void fake_close(struct source *s) { free(s); }
static int fake_examine(struct source *s, struct source_findings *out, struct err *err) {
    (void)s, (void)err;
    out->count = 0;
    return 0;
}
static int fake_catalogue(struct source *s, struct source_catalogue *out, struct err *err) {
    (void)s, (void)err;
    *out = (struct source_catalogue){ .tables = xcalloc(TABLES, sizeof *out->tables),
                                      .count = TABLES };
    for (unsigned t = 0; t < TABLES; t++) {
        out->tables[t] = (struct source_table){ .schema = schema_ref(server->schemas[t]),
                                                .rows_estimate = 64,
                                                .bytes_estimate = 64u << 20,
                                                .usable = true };
    }
    waitq_lock(server->q);
    out->defined_at = pos_of(server->count);
    waitq_unlock(server->q);
    return 0;
}
static int fake_start(struct source *s, const struct source_start *req, struct source_started *out,
                      struct err *err) {
    (void)s;
    waitq_lock(server->q);
    bool had = server->slot;
    server->slot = had || !req->look_only;
    *out = (struct source_started){ .from = pos_of(server->count), .lineage = "{\"id\":\"1\"}" };
    if (req->knows == TARGET_POSITION) {
        out->from = req->resume;
    } else {
        out->see_from_tx = 100 + server->count;
    }
    waitq_unlock(server->q);
    if (req->knows == TARGET_NOTHING && had) {
        return err_set(err, ERR_FATAL, "slot_exists",
                       "the slot exists and the target knows nothing");
    }
    return 0;
}
static int fake_capture(struct source *s, const uint64_t *ids, uint32_t count, uint64_t *x,
                        struct logpos *from, struct err *err) {
    (void)s, (void)ids, (void)count, (void)err;
    *x = 0;
    *from = LOGPOS_NONE;
    return 0;
}
/* Lock held. */
static void see(struct snapshot *out) {
    snapshot_set(out, 100 + server->count, 100 + server->count, NULL, 0);
}
static int fake_probe(struct source *s, struct snapshot *out, struct err *err) {
    (void)s, (void)err;
    waitq_lock(server->q);
    see(out);
    waitq_unlock(server->q);
    return 0;
}
static int fake_nudge(struct source *s, struct err *err) {
    (void)s, (void)err;
    return 0;
}
static int fake_log_end(struct source *s, struct logpos *out, struct err *err) {
    (void)s, (void)err;
    *out = pos_of(server->total); /* all that will ever be: `once` reads it to the end */
    return 0;
}
static int fake_status(struct source *s, struct source_status *out, struct err *err) {
    *out = (struct source_status){ 0 };
    return fake_log_end(s, &out->log_end, err);
}
static bool fake_rewritten(const struct schema *a, const struct schema *b) {
    return strcmp(a->storage, b->storage) != 0;
}
static int fake_nothing(struct source *s, struct err *err) {
    (void)s, (void)err;
    return 0;
}
static int fake_no_text(struct source *s, struct buf *out, struct err *err) {
    (void)s, (void)out, (void)err;
    return 0;
}
static int fake_log_open(struct source *s, struct logpos from, struct source_log **out,
                         struct err *err) {
    (void)err;
    struct fake_log *l = xcalloc(1, sizeof *l);
    l->base.ops = s->ops;
    l->next = (unsigned)(from.offset / STEP) - 1;
    *out = &l->base;
    return 0;
}
static void fake_log_close(struct source_log *log) { free(log); }

static struct segment *segment_of(unsigned first, unsigned count) {
    struct segment *seg = segment_new();
    seg->txs = txlist_new();
    struct batch *batches[TABLES];
    for (unsigned i = 0; i < count; i++) {
        uint64_t end = pos_of(first + i + 1).offset;
        txlist_add(seg->txs, &(struct tx){ .id = server->log[first + i].xid,
                                           .commit = { 0, end - 1 },
                                           .end = { 0, end } });
    }
    for (unsigned t = 0; t < TABLES; t++) {
        batches[t] = batch_new(server->schemas[t], count * CHANGES_MAX * 2, seg->txs);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct record *r = &server->log[first + i];
        for (unsigned c = 0; c < r->count; c++) {
            const struct change *x = &r->changes[c];
            struct batch *b = batches[x->table];
            switch (x->kind) {
            case CHANGE_INSERT:
                put_row(b, x->table, x->key, x->value, ROW_INSERT, i, c);
                break;
            case CHANGE_UPDATE:
                put_row(b, x->table, x->key, x->value, ROW_UPDATE_AFTER, i, c);
                break;
            case CHANGE_DELETE:
                put_row(b, x->table, x->key, 0, ROW_DELETE, i, c);
                break;
            case CHANGE_MOVE:
                put_row(b, x->table, x->key, 0, ROW_UPDATE_BEFORE, i, c);
                put_row(b, x->table, x->to, x->value, ROW_UPDATE_AFTER, i, c);
                break;
            }
        }
    }
    for (unsigned t = 0; t < TABLES; t++) {
        if (batches[t]->rows) {
            seg->bytes += batch_memory(batches[t]);
            segment_add(seg, batches[t]);
        } else {
            batch_unref(batches[t]);
        }
    }
    seg->to = seg->resume = pos_of(first + count);
    seg->at_border = true;
    return seg;
}

static int fake_log_next(struct source_log *log, int64_t deadline, struct segment **out,
                         struct err *err) {
    struct fake_log *l = (struct fake_log *)log;
    *out = NULL;
    waitq_lock(server->q);
    if (++server->log_calls == server->log_fails_at) {
        waitq_unlock(server->q);
        return err_set(err, ERR_REWIND, "connection_lost", "the log session went away");
    }
    server_commit(server);
    int64_t look = clock_mono_us() + 5 * US_PER_MS;
    deadline =
        deadline < look ? deadline : look; /* the pace depends on commits, which wake nobody here */
    while (l->next == server->count && !l->woken && waitq_wait(server->q, deadline)) {}
    l->woken = false;
    unsigned count = server->count - l->next;
    count = count > 5 ? 5 : count;
    if (count) {
        *out = segment_of(l->next, count);
        l->next += count;
    }
    waitq_unlock(server->q);
    return 0;
}
static int fake_log_idle(struct source_log *log, int64_t deadline, struct err *err) {
    (void)log, (void)deadline, (void)err;
    return 0;
}
static void fake_log_ack(struct source_log *log, struct logpos resume) {
    (void)log;
    waitq_lock(server->q);
    server->acked = resume.offset > server->acked ? resume.offset : server->acked;
    waitq_unlock(server->q);
}
static void fake_log_wake(struct source_log *log) {
    waitq_lock(server->q);
    ((struct fake_log *)log)->woken = true;
    waitq_wake_all(server->q);
    waitq_unlock(server->q);
}
static void fake_log_want(struct source_log *log, struct logpos pos) { (void)log, (void)pos; }

static int fake_lane_open(struct source *s, unsigned number, struct source_lane **out,
                          struct err *err) {
    (void)number, (void)err;
    struct fake_lane *l = xcalloc(1, sizeof *l);
    l->base.ops = s->ops;
    *out = &l->base;
    return 0;
}
static void fake_lane_close(struct source_lane *l) { free(l); }

static void put_bound(struct buf *out, const void *p, size_t len) {
    uint32_t n = (uint32_t)len;
    buf_put(out, &n, sizeof n);
    buf_put(out, p, len);
}
static void key_bytes(struct buf *out, unsigned key) {
    int64_t id = key;
    buf_clear(out);
    key_put_cell(out, &(struct type){ .kind = TYPE_INT64 }, (const uint8_t *)&id, sizeof id);
}
static int fake_lane_cut(struct source_lane *l, const struct schema *schema, bool whole,
                         uint32_t pieces_max, struct buf *bounds, uint32_t *pieces,
                         struct err *err) {
    (void)l, (void)schema, (void)err;
    *pieces = pieces_max < 3 ? pieces_max : 3;
    struct buf key;
    buf_init(&key, SIZE_MAX);
    for (uint32_t i = 1; i < *pieces; i++) {
        uint32_t at = KEYS * i / *pieces;
        key_bytes(&key, at);
        whole ? put_bound(bounds, &at, sizeof at) : put_bound(bounds, key.data, key.len);
    }
    buf_release(&key);
    return 0;
}
static int fake_lane_begin(struct source_lane *lane, const struct schema *schema,
                           struct chunk_view *out, char *export_name, struct err *err) {
    struct fake_lane *l = (struct fake_lane *)lane;
    waitq_lock(server->q);
    unsigned call = ++server->lane_calls;
    if (call == server->lane_fails_at ||
        (server->lane_retries_each && call % server->lane_retries_each == 0)) {
        waitq_unlock(server->q);
        return err_set(err, call == server->lane_fails_at ? ERR_REWIND : ERR_RETRY, "lane",
                       "the lane failed");
    }
    *out = (struct chunk_view){ 0 };
    snapshot_init(&out->snapshot);
    see(&out->snapshot);
    l->seen = server->now;
    server_commit(server); /* H lies above what S sees */
    out->high = pos_of(server->count);
    out->schema = schema_ref(server->schemas[schema->table_id - 1000]);
    if (export_name) {
        unsigned slot = server->exports++ % 8;
        server->exported[slot] = l->seen;
        snprintf(export_name, 64, "%u", slot);
    }
    waitq_unlock(server->q);
    return 0;
}
static int fake_lane_join(struct source_lane *lane, const struct schema *schema, const char *name,
                          struct err *err) {
    (void)schema, (void)err;
    waitq_lock(server->q);
    ((struct fake_lane *)lane)->seen = server->exported[atoi(name)];
    waitq_unlock(server->q);
    return 0;
}
static int fake_lane_read(struct source_lane *lane, const struct chunk_read *req, struct err *err) {
    (void)err;
    struct fake_lane *l = (struct fake_lane *)lane;
    l->read = *req;
    l->at = 0;
    return 0;
}
static bool in_range(const struct chunk_read *r, unsigned key) {
    struct buf k;
    buf_init(&k, SIZE_MAX);
    if (r->whole) {
        uint32_t lo = 0, hi = KEYS;
        if (r->lo_len) {
            memcpy(&lo, r->lo, sizeof lo);
        }
        if (r->hi_len) {
            memcpy(&hi, r->hi, sizeof hi);
        }
        return key >= lo && key < hi;
    }
    key_bytes(&k, key);
    bool in = (!r->lo_len || key_cmp(k.data, k.len, r->lo, r->lo_len) >= 0) &&
              (!r->hi_len || key_cmp(k.data, k.len, r->hi, r->hi_len) < 0);
    buf_release(&k);
    return in;
}
static int fake_lane_next(struct source_lane *lane, struct batch **out, struct err *err) {
    (void)err;
    struct fake_lane *l = (struct fake_lane *)lane;
    unsigned table = (unsigned)(l->read.schema->table_id - 1000);
    uint32_t rows_max = l->read.whole ? 3 : l->read.rows_max < 3 ? l->read.rows_max : 3;
    struct batch *b = batch_new(l->read.schema, 3, NULL);
    for (; l->at < KEYS && b->rows < rows_max; l->at++) {
        if (l->seen.there[table][l->at] && in_range(&l->read, l->at)) {
            put_row(b, table, l->at, l->seen.value[table][l->at], ROW_INSERT, 0, 0);
        }
    }
    if (!l->read.whole) {
        l->read.rows_max -= b->rows;
        l->at = l->read.rows_max ? l->at : KEYS;
    }
    waitq_lock(server->q);
    server_commit(server);
    waitq_unlock(server->q);
    if (b->rows == 0) {
        batch_unref(b);
        b = NULL;
    } else {
        batch_seal(b);
    }
    *out = b;
    return 0;
}
static int fake_lane_ok(struct source_lane *l, struct err *err) {
    (void)l, (void)err;
    return 0;
}
static int fake_put_logpos(struct buf *out, struct logpos pos) {
    buf_put_u64(out, pos.offset);
    return 0;
}
static int fake_take_logpos(const char *text, struct logpos *out) {
    char *end;
    *out = (struct logpos){ 0, strtoull(text, &end, 10) };
    return *text && !*end ? 0 : -1;
}
const struct source_ops fake_source_ops = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .examine = fake_examine,
    .catalogue = fake_catalogue,
    .start = fake_start,
    .capture = fake_capture,
    .probe = fake_probe,
    .nudge = fake_nudge,
    .log_end = fake_log_end,
    .status = fake_status,
    .rewritten = fake_rewritten,
    .drop = fake_nothing,
    .drop_plan = fake_no_text,
    .slots = fake_no_text,
    .log_open = fake_log_open,
    .log_close = fake_log_close,
    .log_next = fake_log_next,
    .log_idle = fake_log_idle,
    .log_ack = fake_log_ack,
    .log_wake = fake_log_wake,
    .log_want = fake_log_want,
    .lane_open = fake_lane_open,
    .lane_close = fake_lane_close,
    .lane_cut = fake_lane_cut,
    .lane_begin = fake_lane_begin,
    .lane_join = fake_lane_join,
    .lane_read = fake_lane_read,
    .lane_next = fake_lane_next,
    .lane_stop = fake_lane_ok,
    .lane_end = fake_lane_ok,
    .put_logpos = fake_put_logpos,
    .take_logpos = fake_take_logpos,
};
static int fake_open(const struct source_address *a, struct env *env, table_select_fn select,
                     const void *rules, struct source **out, struct err *err) {
    (void)a, (void)env, (void)select, (void)rules, (void)err;
    struct fake_source *s = xcalloc(1, sizeof *s);
    s->base.ops = &fake_source_ops;
    *out = &s->base;
    return 0;
}
