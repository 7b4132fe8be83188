/* The engine on real threads, for the thread sanitizer: job_run between a source and a sink that
 * live in memory.
 *
 * The source is a small database of two tables: `ranges` (an orderable key, read in key ranges) and
 * `whole` (a key that nobody can order, read as one chunk in pieces under an exported snapshot). It
 * commits transactions while it is being read. The sink applies commits to a target, refuses rows
 * that are repeated or missing, and answers UNKNOWN in a fixed rhythm. At the end of every run the
 * target must equal the source at the position that the target states. No sleeps; the seed is
 * fixed, the interleaving is not. */
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/task.h"
#include "cdc/base/waitq.h"
#include "cdc/key.h"
#include "engine/job.h"
#include "engine/position.h"

#define KEYS 60u
#define TABLES 2u
#define STEP 16u /* between two positions of the log */
#define LOG_MAX 4000u

enum change_kind { CHANGE_INSERT, CHANGE_UPDATE, CHANGE_DELETE, CHANGE_MOVE };
struct change {
    enum change_kind kind;
    unsigned table, key, to;
    int64_t value;
};
#define CHANGES_MAX 4u
struct record {
    uint64_t xid;
    unsigned count;
    struct change changes[CHANGES_MAX];
};
struct rows {
    bool there[TABLES][KEYS];
    int64_t value[TABLES][KEYS];
};

/* The source's server and its log; also the faults that it plays. */
struct server {
    struct waitq *q;
    struct rows now;
    struct record log[LOG_MAX];
    unsigned count, total; /* transactions committed, and at most */
    uint64_t random;
    struct schema *schemas[TABLES];
    struct rows exported[8];
    unsigned exports;
    unsigned log_calls, log_fails_at; /* REWIND at that call; 0 = never */
    unsigned lane_calls, lane_retries_each, lane_fails_at;
    uint64_t acked;
    bool slot;
};

/* The target. */
struct target {
    struct waitq *q;
    struct rows rows;
    unsigned generation[TABLES];
    char *position;
    uint64_t epoch, seq;
    bool claimed;
    unsigned commits, unknown_each; /* 0 = never */
    unsigned applied_unknown, lost_unknown;
    unsigned fenced_at, conflict_at; /* commits that are answered so; 0 = never */
    unsigned wrong;
    char why[200];
};

static struct server *server;
static struct target *target;
static struct job *the_job;
static unsigned stop_after_commits;
static bool stop_at_once;
static atomic_uint seq_now; /* the target's, for the server's pace */

static unsigned below(uint64_t *random, unsigned n) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % n;
}

static void apply(struct rows *r, const struct change *c) {
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

static struct server *server_new(unsigned total) {
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

static void server_free(struct server *s) {
    for (unsigned t = 0; t < TABLES; t++) {
        schema_unref(s->schemas[t]);
    }
    waitq_free(s->q);
    free(s);
}

static struct logpos pos_of(unsigned count) {
    return (struct logpos){ 0, (uint64_t)(count + 1) * STEP };
}

/* The rows as of a position. */
static void rows_at(const struct server *s, struct logpos at, struct rows *out) {
    *out = (struct rows){ 0 };
    for (unsigned i = 0; i < s->count && logpos_cmp(pos_of(i + 1), at) <= 0; i++) {
        for (unsigned c = 0; c < s->log[i].count; c++) {
            apply(out, &s->log[i].changes[c]);
        }
    }
}

/* ---- the source door ---- */

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
static const struct source_ops fake_source_ops = {
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

/* ---- the sink door ---- */

struct fake_item {
    enum stage_kind kind;
    unsigned table, generation;
    struct batch *batch;
};
struct sink_part {
    struct fake_item *items;
    unsigned count, cap;
};
struct fake_sink {
    struct sink base;
    uint64_t epoch;
    bool last_applied; /* what resolve answers */
};
struct fake_writer {
    struct sink_writer base;
    struct sink_part *part;
};

static void wrong(const char *what, const struct batch *b, unsigned key) {
    target->wrong++;
    snprintf(target->why, sizeof target->why, "%s: table %s key %u", what, b->schema->name, key);
}
static unsigned key_at(const struct batch *b, uint32_t row) {
    size_t len;
    const uint8_t *p = cell_bytes(&b->columns[0], row, &len);
    if (b->schema->columns[0].type.kind == TYPE_TEXT) {
        char text[8] = "";
        memcpy(text, p, len);
        return (unsigned)atoi(text);
    }
    int64_t id;
    memcpy(&id, p, sizeof id);
    return (unsigned)id;
}
static int64_t value_at(const struct batch *b, uint32_t row) {
    size_t len;
    int64_t v;
    memcpy(&v, cell_bytes(&b->columns[1], row, &len), sizeof v);
    return v;
}

/* Target's lock held. A repeated insert, or an update or delete of what is not there, is an error
 * of the engine's. */
static void target_row(unsigned table, const struct batch *b, uint32_t r) {
    unsigned key = key_at(b, r);
    bool *there = &target->rows.there[table][key];
    switch (row_kind_of(b, r)) {
    case ROW_INSERT:
        if (*there) {
            wrong("inserted twice", b, key);
        }
        *there = true;
        target->rows.value[table][key] = value_at(b, r);
        break;
    case ROW_UPDATE_AFTER:
        if (r == 0 || row_kind_of(b, r - 1) != ROW_UPDATE_BEFORE || key_at(b, r - 1) == key) {
            if (!*there) {
                wrong("updated but not there", b, key);
            }
        }
        *there = true;
        target->rows.value[table][key] = value_at(b, r);
        break;
    case ROW_UPDATE_BEFORE:
    case ROW_DELETE:
        if (!*there) {
            wrong("deleted but not there", b, key);
        }
        *there = false;
        break;
    case ROW_TRUNCATE:
        break;
    }
}
static void target_apply(const struct sink_part *part) {
    for (unsigned i = 0; part && i < part->count; i++) {
        const struct fake_item *x = &part->items[i];
        if (x->kind == STAGE_GENERATION) {
            if (x->generation <= target->generation[x->table]) {
                target->wrong++;
            }
            target->generation[x->table] = x->generation;
            memset(target->rows.there[x->table], 0, sizeof target->rows.there[x->table]);
            continue;
        }
        for (uint32_t r = 0; r < x->batch->rows; r++) {
            target_row(x->table, x->batch, r);
        }
    }
}

static int sink_fake_open(const struct sink_address *a, struct env *env, struct sink **out,
                          struct err *err);
static struct sink_ops sink_ops; /* of the case: owns a position or, like stdout, none */
static void sink_fake_close(struct sink *s) { free(s); }
static int sink_examine(struct sink *s, struct source_findings *out, struct err *err) {
    (void)s, (void)err;
    out->count = 0;
    return 0;
}
static int sink_peek(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s, (void)err;
    waitq_lock(target->q);
    *out = (struct sink_state){ .knows = target->position  ? TARGET_POSITION
                                         : target->claimed ? TARGET_CLAIM
                                                           : TARGET_NOTHING,
                                .position = target->position ? xstrdup(target->position) : NULL,
                                .epoch = target->epoch,
                                .seq = target->seq };
    if (target->position) {
        out->schema_count = TABLES;
        out->schemas = xcalloc(TABLES, sizeof *out->schemas);
        for (unsigned t = 0; t < TABLES; t++) {
            out->schemas[t] = schema_with_version(server->schemas[t], 1);
        }
    }
    waitq_unlock(target->q);
    return 0;
}
static int sink_recover(struct sink *s, struct sink_state *out, struct err *err) {
    waitq_lock(target->q);
    target->epoch++;
    target->claimed = true;
    ((struct fake_sink *)s)->epoch = target->epoch;
    waitq_unlock(target->q);
    return sink_peek(s, out, err);
}
static int sink_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s, (void)next, (void)err;
    return 0;
}
static enum commit_outcome sink_commit(struct sink *sink, const struct commit_request *req,
                                       struct err *err) {
    struct fake_sink *s = (struct fake_sink *)sink;
    waitq_lock(target->q);
    bool same = req->from ? target->position && strcmp(req->from, target->position) == 0
                          : !target->position;
    enum commit_outcome outcome = req->epoch != target->epoch ? COMMIT_FENCED
                                  : !same                     ? COMMIT_CONFLICT
                                                              : COMMITTED;
    unsigned n = ++target->commits;
    if (n == target->fenced_at) {
        target->epoch++; /* another instance claimed it */
        outcome = COMMIT_FENCED;
    } else if (n == target->conflict_at) {
        outcome = COMMIT_CONFLICT;
    }
    bool unknown = outcome == COMMITTED && target->unknown_each && n % target->unknown_each == 0;
    s->last_applied = !unknown || n % (2 * target->unknown_each) == 0;
    if (outcome == COMMITTED && s->last_applied) {
        for (uint32_t i = 0; i < req->part_count; i++) {
            target_apply(req->parts[i]);
        }
        free(target->position);
        target->position = xstrdup(req->to);
        target->seq = req->seq;
        atomic_store(&seq_now, (unsigned)req->seq);
    }
    if (unknown) {
        s->last_applied ? target->applied_unknown++ : target->lost_unknown++;
        err_set(err, ERR_RETRY, "answer_lost", "the answer was lost");
        outcome = COMMIT_UNKNOWN;
    }
    bool stop = stop_after_commits && target->seq == stop_after_commits;
    waitq_unlock(target->q);
    if (stop) {
        (stop_at_once ? job_stop_now : job_stop)(the_job);
    }
    return outcome;
}
static enum resolve_outcome sink_resolve(struct sink *sink, const struct commit_request *req,
                                         struct err *err) {
    (void)req, (void)err;
    return ((struct fake_sink *)sink)->last_applied ? RESOLVED_COMMITTED : RESOLVED_NOT_COMMITTED;
}
static int writer_fake_open(struct sink *s, uint32_t number, struct sink_writer **out,
                            struct err *err) {
    (void)number, (void)err;
    struct fake_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = s->ops;
    *out = &w->base;
    return 0;
}
static void part_add(struct fake_writer *w, struct fake_item item) {
    if (!w->part) {
        w->part = xcalloc(1, sizeof *w->part);
    }
    if (w->part->count == w->part->cap) {
        w->part->cap = w->part->cap ? w->part->cap * 2 : 8;
        w->part->items = xrealloc(w->part->items, w->part->cap * sizeof *w->part->items);
    }
    w->part->items[w->part->count++] = item;
}
static int writer_stage(struct sink_writer *writer, const struct stage_item *item,
                        struct err *err) {
    (void)err;
    struct fake_writer *w = (struct fake_writer *)writer;
    if (item->kind == STAGE_GENERATION) {
        part_add(w, (struct fake_item){ .kind = item->kind,
                                        .table = (unsigned)(item->schema->table_id - 1000),
                                        .generation = item->generation });
        return 0;
    }
    for (uint32_t i = 0; i < item->count; i++) {
        part_add(w,
                 (struct fake_item){ .kind = item->kind,
                                     .table = (unsigned)(item->batches[i]->schema->table_id - 1000),
                                     .batch = batch_ref(item->batches[i]) });
    }
    return 0;
}
static int writer_seal(struct sink_writer *writer, uint64_t seq, struct sink_part **out,
                       struct err *err) {
    (void)seq, (void)err;
    struct fake_writer *w = (struct fake_writer *)writer;
    *out = w->part;
    w->part = NULL;
    return 0;
}
static void part_free(struct sink_part *part, bool committed) {
    (void)committed;
    for (unsigned i = 0; i < part->count; i++) {
        if (part->items[i].batch) {
            batch_unref(part->items[i].batch);
        }
    }
    free(part->items);
    free(part);
}
static void writer_close(struct sink_writer *writer) {
    struct fake_writer *w = (struct fake_writer *)writer;
    if (w->part) {
        part_free(w->part, false);
    }
    free(w);
}
static int sink_summary(struct sink *s, struct buf *out, struct err *err) {
    (void)s, (void)out, (void)err;
    return 0;
}
static const struct sink_ops fake_sink_ops = {
    .name = "fake",
    .owns_position = true,
    .stages = true,
    .writers_max = 2,
    .freshness_us = 2 * US_PER_MS,
    .open = sink_fake_open,
    .close = sink_fake_close,
    .examine = sink_examine,
    .peek = sink_peek,
    .recover = sink_recover,
    .apply_schema = sink_apply_schema,
    .commit = sink_commit,
    .resolve = sink_resolve,
    .writer_open = writer_fake_open,
    .writer_stage = writer_stage,
    .writer_seal = writer_seal,
    .writer_close = writer_close,
    .part_free = part_free,
    .summary = sink_summary,
};
static int sink_fake_open(const struct sink_address *a, struct env *env, struct sink **out,
                          struct err *err) {
    (void)a, (void)env, (void)err;
    struct fake_sink *s = xcalloc(1, sizeof *s);
    s->base.ops = &sink_ops;
    *out = &s->base;
    return 0;
}

/* ---- the cases ---- */

static unsigned failures;

static void expect(bool held, const char *name, const char *what) {
    if (!held) {
        failures++;
        printf("not ok %s: %s\n", name, what);
    }
}

static void judge(const char *name, bool whole_log) {
    struct stored_position p = { 0 };
    struct err err = ERR_INIT;
    expect(target->wrong == 0, name, target->why[0] ? target->why : "a generation came twice");
    if (!target->position || position_decode(target->position, &fake_source_ops, &p, &err)) {
        expect(false, name, target->position ? err.text : "no position was stored");
        return;
    }
    struct rows *want = xcalloc(1, sizeof *want);
    rows_at(server, p.applied, want);
    if (whole_log) {
        for (unsigned t = 0; t < TABLES; t++) {
            for (unsigned k = 0; k < KEYS; k++) {
                bool same = want->there[t][k] == target->rows.there[t][k] &&
                            (!want->there[t][k] || want->value[t][k] == target->rows.value[t][k]);
                char what[80];
                snprintf(what, sizeof what, "table %u key %u differs at %llu", t, k,
                         (unsigned long long)p.applied.offset);
                expect(same, name, what);
            }
        }
    }
    expect(server->acked <= p.resume.offset, name,
           "the source was acknowledged more than the target holds");
    expect(!whole_log || logpos_cmp(p.applied, pos_of(server->total)) == 0, name,
           "it ended before the log's end");
    free(want);
    stored_position_release(&p);
}

static void select_all(const void *rules, const char *space, const char *table,
                       struct table_choice *out) {
    (void)rules, (void)space, (void)table;
    *out = (struct table_choice){ 0 };
}

static int run_job(const char *dir, enum job_mode mode, unsigned lanes, const char *failpoints,
                   struct metrics *metrics, struct err *err) {
    struct log log = { .level = LOG_ERROR, .fd = -1, .job = "threads" };
    struct env env = { .files = files_os(),
                       .log = &log,
                       .metrics = metrics,
                       .state_dir = dir,
                       .memory_bytes = 64u << 20,
                       .spill_bytes_max = 1u << 30,
                       .row_bytes_max = 1u << 20 };
    if (failpoints) {
        env.failpoints = failpoints_new(failpoints, NULL, err);
        if (!env.failpoints) {
            return EXIT_USAGE;
        }
    }
    struct job_config config = { .name = "threads",
                                 .source = &fake_source_ops,
                                 .sink = &sink_ops,
                                 .select = select_all,
                                 .lanes = lanes,
                                 .mode = mode };
    the_job = job_new(&config, &env);
    int code = job_run(the_job, err);
    struct buf status;
    buf_init(&status, SIZE_MAX);
    job_status_json(the_job, &status);
    json_t *json = json_loadb(status.data, status.len, JSON_REJECT_DUPLICATES, NULL);
    const char *phase = json_string_value(json_object_get(json, "phase"));
    expect(phase && strcmp(phase, "stopped") == 0, "status",
           "status is no JSON that says \"stopped\"");
    expect(json_is_array(json_object_get(json, "tables")), "status", "status has no tables");
    json_decref(json);
    buf_release(&status);
    job_free(the_job);
    failpoints_free(env.failpoints);
    return code;
}

struct one {
    const char *name;
    unsigned total, lanes;
    enum job_mode mode;
    unsigned unknown_each, log_fails_at, lane_retries_each, lane_fails_at, stop_after;
    bool again; /* a second run goes on from the first one's position */
    const char *failpoints;
    unsigned fenced_at, conflict_at, rewinds_min;
    bool stop_now, locked, no_position;
    int code; /* expected */
    const char *err_code;
    const char *position; /* what the target says at first */
};

static void set_up(const struct one *c) {
    sink_ops = fake_sink_ops;
    sink_ops.owns_position = !c->no_position;
    atomic_store(&seq_now, 0);
    server = server_new(c->total);
    target = xcalloc(1, sizeof *target);
    target->q = waitq_new();
    target->unknown_each = c->unknown_each;
    target->fenced_at = c->fenced_at;
    target->conflict_at = c->conflict_at;
    target->position = c->position ? xstrdup(c->position) : NULL;
    server->log_fails_at = c->log_fails_at;
    server->lane_retries_each = c->lane_retries_each;
    server->lane_fails_at = c->lane_fails_at;
    stop_after_commits = c->stop_after;
    stop_at_once = c->stop_now;
}

static void run_one(const struct one *c, const char *dir) {
    unsigned before = failures;
    struct metrics metrics = { 0 };
    struct err err = ERR_INIT;
    struct file *lock = NULL;
    char path[64];
    snprintf(path, sizeof path, "%s/lock", dir);
    set_up(c);
    if (c->locked) {
        expect(files_open_lock(files_os(), path, &lock, &err) == FILES_OK, c->name,
               "the lock was taken");
    }
    expect(run_job(dir, c->mode, c->lanes, c->failpoints, &metrics, &err) == c->code, c->name,
           err.text);
    expect(strcmp(err.code, c->err_code ? c->err_code : "") == 0, c->name, err.code);
    file_close(lock);
    if (!c->err_code || c->again) {
        judge(c->name, c->mode == JOB_ONCE && !c->err_code);
    }
    if (c->again) {
        err = ERR_INIT;
        stop_after_commits = 0;
        expect(run_job(dir, JOB_ONCE, c->lanes, NULL, &metrics, &err) == EXIT_DONE, c->name,
               err.text);
        judge(c->name, true);
    }
    if (c->unknown_each) {
        expect(target->applied_unknown + target->lost_unknown > 0, c->name,
               "no commit was UNKNOWN");
    }
    expect(metric_get(&metrics, METRIC_REWINDS) >= c->rewinds_min, c->name,
           "it rewound too seldom");
    expect(metric_get(&metrics, METRIC_CHANNEL_BYTES) == 0, c->name, "bytes are left in channels");
    if (failures == before) {
        printf("ok %s (%lld commits, %lld rewinds)\n", c->name,
               (long long)metric_get(&metrics, METRIC_COMMITS),
               (long long)metric_get(&metrics, METRIC_REWINDS));
    }
    fflush(stdout);
    free(target->position);
    waitq_free(target->q);
    free(target);
    server_free(server);
}

/* Each edge of the engine fails once, in a run of its own (within one run their pauses would add
 * up), the busy ones also later. */
static const char *const failing_edges[] = {
    "job.after_recover=error@1",     "job.after_start=error@1",
    "job.after_slot=error@1",        "job.after_capture=error@1",
    "log.after_segment=error@3",     "lane.after_begin=error@2",
    "lane.after_view=error@2",       "lane.after_rows=error@5",
    "lane.before_end=error@2",       "lane.after_join=error@1",
    "lane.before_piece_end=error@2", "merge.before_barrier=error@3",
    "merge.after_barrier=error@3",   "writer.before_seal=error@4",
    "writer.after_seal=error@3",     "commit.before_apply_schema=error@2",
    "commit.before_commit=error@1",  "commit.before_commit=error@4",
    "commit.after_commit=error@1",   "commit.after_commit=error@4",
    "commit.after_ack=error@2",
};

int main(void) {
    static const struct one cases[] = {
        { .name = "once_with_one_lane", .total = 400, .lanes = 1, .mode = JOB_ONCE },
        { .name = "once_with_three_lanes", .total = 800, .lanes = 3, .mode = JOB_ONCE },
        { .name = "unknown_outcomes",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .unknown_each = 2 },
        { .name = "log_session_lost",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .log_fails_at = 8,
          .rewinds_min = 1,
          .unknown_each = 3 },
        { .name = "log_session_lost_in_the_stream",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .log_fails_at = 110,
          .rewinds_min = 1,
          .unknown_each = 3 },
        { .name = "lane_retries",
          .total = 800,
          .lanes = 3,
          .mode = JOB_ONCE,
          .lane_retries_each = 4 },
        { .name = "lane_session_lost",
          .total = 800,
          .lanes = 2,
          .mode = JOB_ONCE,
          .lane_fails_at = 5,
          .rewinds_min = 1 },
        { .name = "stop_and_go_on",
          .total = 2000,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 2,
          .again = true },
        { .name = "stop_in_the_stream",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 6,
          .unknown_each = 4,
          .again = true },
        { .name = "conflict_rewinds",
          .total = 600,
          .lanes = 2,
          .mode = JOB_ONCE,
          .conflict_at = 3,
          .rewinds_min = 1 },
        { .name = "fenced_stops",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .fenced_at = 3,
          .again = true,
          .code = EXIT_FENCED,
          .err_code = "fenced" },
        { .name = "stop_at_once",
          .total = 600,
          .lanes = 2,
          .mode = JOB_RUN,
          .stop_after = 4,
          .stop_now = true,
          .again = true,
          .code = EXIT_ERROR,
          .err_code = "stopped" },
        { .name = "lock_is_held",
          .total = 40,
          .lanes = 1,
          .mode = JOB_ONCE,
          .locked = true,
          .code = EXIT_FENCED,
          .err_code = "instance_running" },
        { .name = "position_is_damaged",
          .total = 40,
          .lanes = 1,
          .mode = JOB_ONCE,
          .position = "{\"v\":1}",
          .code = EXIT_ERROR,
          .err_code = "position_malformed" },
        { .name = "sink_without_a_position",
          .total = 600,
          .lanes = 2,
          .mode = JOB_ONCE,
          .no_position = true },
    };
    char dir[] = "/tmp/threads.XXXXXX";
    if (!mkdtemp(dir)) {
        perror("mkdtemp");
        return 1;
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        run_one(&cases[i], dir);
    }
    for (size_t i = 0; i < ARRAY_COUNT(failing_edges); i++) {
        bool may_miss = strncmp(failing_edges[i], "lane.after_join", 15) ==
                        0; /* one lane may read all pieces before another comes */
        run_one(&(struct one){ .name = failing_edges[i],
                               .total = 600,
                               .lanes = 3,
                               .mode = JOB_ONCE,
                               .failpoints = failing_edges[i],
                               .rewinds_min = may_miss ? 0 : 1 },
                dir);
    }
    char lock[64], spill[64];
    snprintf(lock, sizeof lock, "%s/lock", dir);
    snprintf(spill, sizeof spill, "%s/spill", dir);
    remove(lock);
    remove(spill);
    remove(dir);
    return failures ? 1 : 0;
}
