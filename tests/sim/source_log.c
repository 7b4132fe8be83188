/* The scripted source: the log session. Delivers committed transactions in the log's order as far
 * as the log is flushed, several in a segment or one over several, and keepalives in between. See
 * source.h. */
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "cdc/base/waitq.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/source_impl.h"

#define HOLDER_PATIENCE_US (20 * US_PER_S)
#define KEEPALIVE_US (10 * US_PER_S)

struct sim_log {
    struct source_log base;
    unsigned life, number, group;
    uint64_t from, resume, to; /* to: handed on up to here */
    unsigned place, op;        /* next transaction; its next op when it is split */
    int64_t keepalive_us;
    bool woken;
    struct schema *said[DB_TABLES]; /* as the log said last what a table's rows look like */
    uint8_t columns[DB_TABLES];     /* ... which are these */
};

/* The slot is taken only from a holder that is dead, or silent for long. */
static int take_slot(struct sim_source *s, struct err *err) {
    struct server *v = server_now();
    int64_t deadline = clock_mono_us() + HOLDER_PATIENCE_US;
    while (v->slot_session) {
        if (!sched_suspended(v->slot_group)) {
            err_set(err, ERR_FATAL, "slot_in_use", "another instance lives");
            return err_exit(err, EXIT_FENCED);
        }
        if (clock_mono_us() >= deadline) {
            sim_note("slot taken from %u", v->slot_group);
            break;
        }
        sched_pause_us(US_PER_S);
        if (session_call(s->life, "log_open_wait", err)) {
            return -1;
        }
    }
    v->slot_group = sched_group();
    v->slot_session = ++v->sessions;
    return 0;
}

int sim_log_open(struct source *base, struct logpos from, struct source_log **out,
                 struct err *err) {
    struct sim_source *s = (struct sim_source *)base;
    struct server *v = server_now();
    if (session_call(s->life, "log_open", err) || take_slot(s, err)) {
        return -1;
    }
    struct sim_log *l = xcalloc(1, sizeof *l);
    *l = (struct sim_log){ .base.ops = &sim_source_ops,
                           .life = s->life,
                           .number = v->slot_session,
                           .group = sched_group(),
                           .from = db_offset(v->db, from),
                           .resume = s->resume,
                           .keepalive_us = clock_mono_us() };
    l->to = l->from;
    *out = &l->base;
    sim_note("log open from=%llu", (unsigned long long)l->from);
    return 0;
}

void sim_log_close(struct source_log *base) {
    struct sim_log *l = (struct sim_log *)base;
    struct server *v = server_now();
    if (v->slot_session == l->number) {
        v->slot_session = 0;
    }
    for (unsigned t = 0; t < DB_TABLES; t++) {
        schema_unref(l->said[t]);
    }
    free(l);
}

/* Lowest PREPARE below `to` whose end is not. */
static uint64_t resume_of(const struct db *db, uint64_t to) {
    uint64_t resume = to;
    for (unsigned i = 0; db->flavour != DB_XID && i < db->tx_count; i++) {
        const struct db_tx *tx = &db->txs[i];
        bool open = tx->prepared && tx->prepared < to && (tx->state == TX_PREPARED || tx->end > to);
        if (open && tx->state != TX_ABORTED && tx->prepared < resume) {
            resume = tx->prepared;
        }
    }
    return resume;
}

/* The shape is the log's, of the past; all else the catalogue's, as it is now. */
static struct schema *shape_of(struct sim_log *l, const struct db_op *op) {
    struct db *db = server_now()->db;
    if (!l->said[op->table] || l->columns[op->table] != op->columns) {
        struct snapshot now = { 0 };
        struct db_state state;
        uint64_t high;
        db_snapshot(db, &now, &high);
        db_state_seen(db, op->table, &now, &state);
        snapshot_release(&now);
        schema_unref(l->said[op->table]);
        l->said[op->table] = db_schema(db, op->table, op->columns, state.exists ? &state : NULL);
        l->columns[op->table] = op->columns;
    }
    return l->said[op->table];
}

/* The builder of one table's rows in one shape. */
static struct batch *builder(struct sim_log *l, struct segment *seg, struct batch **open,
                             const struct db_op *op) {
    struct batch *b = open[op->table];
    if (b && b->rows + 2 > b->rows_cap) {
        segment_add(seg, b);
        b = open[op->table] = NULL;
    }
    struct schema *schema = shape_of(l, op);
    if (b && b->schema != schema) {
        segment_add(seg, b);
        b = NULL;
    }
    if (!b) {
        b = batch_new(schema, 16, seg->txs);
    }
    open[op->table] = b;
    return b;
}

static void put_op(struct sim_log *l, struct segment *seg, struct batch **open,
                   const struct db_op *op, uint32_t tx, uint32_t n, bool keyless) {
    struct batch *b = builder(l, seg, open, op);
    bool full = server_now()->db->tables[op->table].full;
    struct db_op spoilt = *op;
    if (keyless) {
        bool old = full && op->kind == OP_UPDATE ? sim_below(STREAM_DOOR, 2) : 0;
        spoilt.old.null[0] = old || op->kind == OP_DELETE;
        spoilt.new.null[0] = !old;
        op = &spoilt;
    }
    switch (op->kind) {
    case OP_INSERT:
        sim_put_row(b, &op->new, false, false, ROW_INSERT, tx, n);
        break;
    case OP_UPDATE:
        if (full) {
            sim_put_row(b, &op->old, false, false, ROW_UPDATE_BEFORE, tx, n);
        }
        sim_put_row(b, &op->new, false, op->t_absent, ROW_UPDATE_AFTER, tx, n);
        break;
    case OP_MOVE:
        sim_put_row(b, &op->old, !full, false, ROW_UPDATE_BEFORE, tx, n);
        sim_put_row(b, &op->new, false, op->t_absent, ROW_UPDATE_AFTER, tx, n);
        break;
    case OP_DELETE:
        sim_put_row(b, &op->old, !full, false, ROW_DELETE, tx, n);
        break;
    case OP_TRUNCATE:
        sim_put_row(b, NULL, false, false, ROW_TRUNCATE, tx, n);
        break;
    default:
        break;
    }
}

/* A change whose key is missing (the table's identity was taken away): only where a range of the
 * table is being read, which cannot join before the change was looked at. */
static bool is_keyless(const struct sim_log *l, const struct db_tx *tx, const struct db_op *op) {
    struct server *v = server_now();
    if (!v->keyless || op->kind > OP_MOVE || v->db->tables[op->table].kind != DB_RANGE ||
        !sim_is_being_read(l->group, op->table, tx->end)) {
        return false;
    }
    v->keyless--;
    v->keyless_told[l->group] = true;
    sim_note("a change of table %u without its key", op->table);
    return true;
}

/* Adds the next transaction, or a part of it; false if it could not be whole. */
static bool add_tx(struct sim_log *l, struct segment *seg, struct batch **open, bool may_split) {
    struct db *db = server_now()->db;
    const struct db_tx *tx = &db->txs[db->log[l->place]];
    if (l->resume && tx->prepared && db->flavour != DB_XID && tx->prepared < l->resume) {
        sim_fail("resume", "transaction %u was prepared at %llu, the log was opened at %llu",
                 l->place, (unsigned long long)tx->prepared, (unsigned long long)l->resume);
    }
    uint32_t index = txlist_add(seg->txs, &(struct tx){ .id = db_tx_number(db, tx),
                                                        .commit = db_pos(db, tx->commit),
                                                        .end = db_pos(db, tx->end),
                                                        .time_us = (int64_t)tx->commit });
    unsigned stop = tx->op_count;
    if (may_split && tx->op_count - l->op > 1 &&
        sim_chance(STREAM_DOOR, server_now()->split_permille)) {
        stop = l->op + 1 + sim_below(STREAM_DOOR, tx->op_count - l->op - 1);
    }
    for (; l->op < stop; l->op++) {
        if (db_carried(db, &tx->ops[l->op])) {
            bool keyless = is_keyless(l, tx, &tx->ops[l->op]);
            put_op(l, seg, open, &tx->ops[l->op], index, l->op, keyless);
        }
    }
    if (stop < tx->op_count) {
        return false;
    }
    l->op = 0;
    l->place++;
    l->to = tx->end;
    return true;
}

static bool tx_is_ready(struct sim_log *l) {
    struct db *db = server_now()->db;
    while (l->place < db->log_count && db->txs[db->log[l->place]].end <= l->from) {
        l->place++;
    }
    return l->place < db->log_count && db->txs[db->log[l->place]].end <= db->flushed;
}

static struct segment *build_segment(struct sim_log *l) {
    struct server *v = server_now();
    struct segment *seg = segment_new();
    struct batch *open[DB_TABLES] = { 0 };
    seg->txs = txlist_new();
    unsigned txs = 1 + sim_below(STREAM_DOOR, v->segment_txs_max);
    bool whole = true;
    for (unsigned i = 0; i < txs && whole && tx_is_ready(l); i++) {
        whole = add_tx(l, seg, open, true);
    }
    for (unsigned t = 0; t < DB_TABLES; t++) {
        if (open[t]) {
            segment_add(seg, open[t]);
        }
    }
    seg->to = db_pos(v->db, l->to);
    seg->resume = db_pos(v->db, resume_of(v->db, l->to));
    seg->at_border = whole;
    return seg;
}

/* The server says how far its log is: all before it was handed on. */
static struct segment *keepalive(struct sim_log *l) {
    struct server *v = server_now();
    struct db *db = v->db;
    bool due = v->wanted > l->to || clock_mono_us() - l->keepalive_us >= KEEPALIVE_US;
    if (l->op || db->flushed <= l->to || !due) {
        return NULL;
    }
    l->keepalive_us = clock_mono_us();
    struct segment *seg = segment_new();
    l->to = db->flushed;
    seg->to = db_pos(db, l->to);
    seg->resume = db_pos(db, resume_of(db, l->to));
    seg->at_border = true;
    return seg;
}

static int log_call(struct sim_log *l, const char *call, struct err *err) {
    if (session_call(l->life, call, err)) {
        return -1;
    }
    if (server_now()->slot_session != l->number) {
        return err_set(err, ERR_REWIND, "connection_lost", "%s: terminated by an administrator",
                       call);
    }
    return 0;
}

int sim_log_next(struct source_log *base, int64_t deadline_us, struct segment **out,
                 struct err *err) {
    struct sim_log *l = (struct sim_log *)base;
    struct server *v = server_now();
    *out = NULL;
    if (log_call(l, "log_next", err)) {
        return -1;
    }
    waitq_lock(v->news);
    bool late = false;
    while (!*out && !l->woken && !late && l->life == v->life) {
        *out = tx_is_ready(l) ? build_segment(l) : keepalive(l);
        late = !*out && !waitq_wait(v->news, deadline_us);
    }
    l->woken = false;
    waitq_unlock(v->news);
    if (*out) {
        sim_note("segment to=%llu txs=%u batches=%u border=%d", (unsigned long long)l->to,
                 (*out)->txs ? (*out)->txs->count : 0, (*out)->batch_count, (*out)->at_border);
    }
    return 0;
}

int sim_log_idle(struct source_log *base, int64_t deadline_us, struct err *err) {
    (void)deadline_us;
    return log_call((struct sim_log *)base, "log_idle", err);
}

void sim_log_ack(struct source_log *base, struct logpos resume) {
    struct sim_log *l = (struct sim_log *)base;
    struct server *v = server_now();
    uint64_t offset = db_offset(v->db, resume);
    sim_note("ack %llu", (unsigned long long)offset);
    oracle_acknowledged(offset);
    if (v->slot_session == l->number && l->life == v->life && offset > v->confirmed) {
        v->confirmed = offset;
        v->confirmed_disk = sim_below(STREAM_DOOR, 2) ? offset : v->confirmed_disk;
    }
}

void sim_log_wake(struct source_log *base) {
    ((struct sim_log *)base)->woken = true;
    server_changed(server_now());
}

void sim_log_want(struct source_log *base, struct logpos pos) {
    (void)base;
    struct server *v = server_now();
    uint64_t offset = db_offset(v->db, pos);
    v->wanted = offset > v->wanted ? offset : v->wanted;
    server_changed(v);
}
