/* The scripted database. See database.h. */
#include "tests/sim/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sched.h"

#define FILE_BYTES 4096u /* of a log file, where positions have two parts */
#define PLAIN 7u         /* columns k, a, t */

void db_init(struct db *db, enum db_flavour flavour, unsigned keys) {
    CHECK(keys <= DB_KEYS);
    memset(db, 0, sizeof *db); /* too large for a compound literal on a fiber's stack */
    db->flavour = flavour;
    db->keys = keys;
    db->next_xid = 700;
    db->end = db->flushed = 1000;
}

static uint64_t advance(struct db *db) {
    uint64_t at = db->end;
    db->end += 8 + 8 * sim_below(STREAM_WORK, 8);
    return at;
}

static int32_t next_value(struct db *db, enum db_kind kind) {
    db->serial++;
    return kind == DB_KEYLESS ? db->serial % 3 : db->serial;
}

unsigned db_declare_table(struct db *db, const char *name, enum db_kind kind, bool full) {
    CHECK(db->table_count < DB_TABLES);
    unsigned t = db->table_count++;
    struct db_table *table = &db->tables[t];
    *table =
        (struct db_table){ .id = 1000 + 10 * t, .kind = kind, .full = full || kind == DB_KEYLESS };
    snprintf(table->name, sizeof table->name, "%s", name);
    return t;
}

unsigned db_add_table(struct db *db, const char *name, enum db_kind kind, bool full, bool bank) {
    unsigned t = db_declare_table(db, name, kind, full);
    db->tables[t].bank = bank;
    struct db_state *s = &db->base[t];
    *s = (struct db_state){ .exists = true, .columns = PLAIN, .storage = 1, .moved = 1 };
    for (unsigned k = 0; k < db->keys; k++) {
        unsigned tenths = db->keys <= 60     ? 6
                          : k < db->keys / 2 ? 1
                                             : 9; /* wide ones: see move_many in world.c */
        if (bank || sim_below(STREAM_WORK, 10) < tenths) {
            s->rows[k].there = true;
            s->rows[k].v[0] = (int32_t)(kind == DB_KEYLESS ? k % 3 : k);
            s->rows[k].v[1] = bank ? 100 : next_value(db, kind);
            s->rows[k].v[2] = next_value(db, kind);
        }
    }
    db->now[t] = *s;
    return t;
}

struct db_tx *db_begin(struct db *db) {
    if (db->tx_count == DB_TXS) {
        return NULL;
    }
    struct db_tx *tx = &db->txs[db->tx_count++];
    *tx = (struct db_tx){ .state = TX_OPEN,
                          .xid = db->next_xid++,
                          .ops = xcalloc(DB_OPS, sizeof *tx->ops) };
    return tx;
}

static unsigned index_of(const struct db *db, const struct db_tx *tx) {
    return (unsigned)(tx - db->txs);
}

static void apply(struct db_state *s, const struct db_op *op) {
    switch (op->kind) {
    case OP_INSERT:
    case OP_UPDATE:
        s->rows[op->key] = op->new;
        break;
    case OP_DELETE:
        s->rows[op->key] = (struct db_row){ 0 };
        break;
    case OP_MOVE:
        s->rows[op->key] = (struct db_row){ 0 };
        s->rows[op->to] = op->new;
        break;
    case OP_TRUNCATE:
        memset(s->rows, 0, sizeof s->rows);
        break;
    case OP_CREATE:
        *s = (struct db_state){
            .exists = true, .columns = op->columns, .storage = op->storage, .moved = op->storage
        };
        break;
    case OP_DROP:
        *s = (struct db_state){ 0 };
        break;
    case OP_ADD_COLUMN:
    case OP_DROP_COLUMN:
    case OP_REWRITE:
        for (unsigned k = 0; k < DB_KEYS; k++) {
            struct db_row *r = &s->rows[k];
            for (unsigned c = 0; r->there && c < DB_COLUMNS; c++) {
                bool was = (s->columns >> c) & 1, is = (op->columns >> c) & 1;
                if (is && !was) {
                    r->null[c] = !op->with_default;
                    r->v[c] = op->with_default ? op->new.v[c] : 0;
                }
            }
            if (op->kind == OP_REWRITE && r->there) {
                r->v[1] += op->new.v[1];
            }
        }
        for (unsigned c = 0; op->with_default && c < DB_COLUMNS; c++) {
            if ((op->columns & ~s->columns) >> c & 1) {
                s->defaulted |= (uint8_t)(1u << c);
                s->missing[c] = op->new.v[c];
            }
        }
        s->moved = op->kind == OP_REWRITE ? op->storage : s->moved;
        s->drops += op->kind == OP_DROP_COLUMN;
        s->defaulted = op->kind == OP_REWRITE ? 0 : s->defaulted & op->columns;
        s->columns = op->columns;
        s->storage = op->storage;
        break;
    }
}

static bool is_ddl(enum db_op_kind kind) { return kind >= OP_TRUNCATE; }

bool db_can_ddl(const struct db *db, unsigned table, const struct db_tx *tx) {
    unsigned me = index_of(db, tx) + 1;
    if (db->readers[table] || (db->table_lock[table] && db->table_lock[table] != me)) {
        return false;
    }
    for (unsigned i = 0; i < db->tx_count; i++) {
        const struct db_tx *other = &db->txs[i];
        if (i + 1 == me || other->state == TX_VISIBLE || other->state == TX_ABORTED) {
            continue;
        }
        for (unsigned o = 0; o < other->op_count; o++) {
            if (other->ops[o].table == table) {
                return false;
            }
        }
    }
    return true;
}

static bool lock_row(struct db *db, unsigned table, unsigned key, unsigned me) {
    if (db->row_lock[table][key] && db->row_lock[table][key] != me) {
        return false;
    }
    return true;
}

static void new_row(struct db *db, struct db_op *op, bool fresh_text) {
    struct db_table *table = &db->tables[op->table];
    op->new.there = true;
    op->new.v[0] = (int32_t)(table->kind == DB_KEYLESS ? op->to % 3 : op->to);
    op->new.v[1] = next_value(db, table->kind);
    if (fresh_text) {
        op->new.v[2] = next_value(db, table->kind);
    }
    for (unsigned c = 3; c < DB_COLUMNS; c++) {
        bool has = (op->columns >> c) & 1;
        op->new.null[c] = has &&sim_below(STREAM_WORK, 3) == 0;
        op->new.v[c] = has && !op->new.null[c] ? next_value(db, table->kind) : 0;
    }
}

static bool fill_row_op(struct db *db, struct db_op *op, unsigned me) {
    struct db_state *s = &db->now[op->table];
    if (!s->exists || db->table_lock[op->table] || !lock_row(db, op->table, op->key, me) ||
        !lock_row(db, op->table, op->to, me)) {
        return false;
    }
    op->old = s->rows[op->key];
    bool there = op->old.there;
    if (op->kind == OP_INSERT ? there : !there) {
        return false;
    }
    if (op->kind == OP_MOVE && (op->to == op->key || s->rows[op->to].there)) {
        return false;
    }
    if (op->kind != OP_DELETE) {
        op->new = op->old;
        bool keep_text = op->kind != OP_INSERT && op->t_absent;
        new_row(db, op, !keep_text);
        op->t_absent = keep_text && !db->tables[op->table].full;
    }
    db->row_lock[op->table][op->key] = db->row_lock[op->table][op->to] = me;
    return true;
}

static bool fill_ddl(struct db *db, struct db_op *op, const struct db_tx *tx) {
    struct db_state *s = &db->now[op->table];
    if (!db_can_ddl(db, op->table, tx) || (op->kind == OP_CREATE) == s->exists) {
        return false;
    }
    op->columns = op->kind == OP_CREATE ? PLAIN : s->columns;
    op->storage = op->kind == OP_CREATE ? 1 : s->storage;
    unsigned c = 3;
    switch (op->kind) {
    case OP_ADD_COLUMN:
        while (c < DB_COLUMNS &&
               ((op->columns >> c) & 1 || (c == 3 && (op->columns >> (DB_COLUMNS - 1)) & 1))) {
            c++;
        }
        if (c >= DB_COLUMNS - 1) {
            return false;
        }
        op->columns |= (uint8_t)(1u << c);
        op->new.v[c] = next_value(db, DB_RANGE);
        op->storage += op->with_default;
        break;
    case OP_DROP_COLUMN: /* the highest, whose name is never used again */
        c = DB_COLUMNS - 1;
        while (c > 2 && !((op->columns >> c) & 1)) {
            c--;
        }
        if (c != 3) {
            return false;
        }
        op->columns =
            (uint8_t)((op->columns & ~(1u << c)) |
                      1u << (DB_COLUMNS - 1)); /* b1 goes, b4 comes: never the same name again */
        break;
    case OP_REWRITE:
        op->new.v[1] = 1000;
        op->columns ^= (uint8_t)(db->retypes ? DB_A_IS_TEXT : 0);
        op->storage++;
        break;
    default:
        break;
    }
    db->table_lock[op->table] = index_of(db, tx) + 1;
    return true;
}

bool db_change(struct db *db, struct db_tx *tx, enum db_op_kind kind, unsigned table, unsigned key,
               unsigned to, bool t_absent) {
    CHECK(tx->state == TX_OPEN && table < db->table_count && key < db->keys && to < db->keys);
    if (tx->op_count == DB_OPS || (db->tables[table].bank && kind != OP_UPDATE)) {
        return false;
    }
    struct db_op *op = &tx->ops[tx->op_count];
    *op = (struct db_op){ .kind = kind,
                          .table = table,
                          .key = key,
                          .to = kind == OP_MOVE ? to : key,
                          .t_absent = t_absent,
                          .columns = db->now[table].columns,
                          .storage = db->now[table].storage };
    op->with_default = kind == OP_ADD_COLUMN && t_absent;
    if (is_ddl(kind) ? !fill_ddl(db, op, tx) : !fill_row_op(db, op, index_of(db, tx) + 1)) {
        return false;
    }
    tx->ddl = tx->ddl || is_ddl(kind);
    op->pos = advance(db);
    tx->op_count++;
    apply(&db->now[table], op);
    return true;
}

void db_transfer(struct db *db, struct db_tx *tx, unsigned from, unsigned to, unsigned key,
                 unsigned key2, int32_t amount) {
    unsigned me = index_of(db, tx) + 1;
    if (db->table_lock[from] || db->table_lock[to] || !lock_row(db, from, key, me) ||
        !lock_row(db, to, key2, me) || tx->op_count + 2 > DB_OPS || (from == to && key == key2)) {
        return;
    }
    for (unsigned side = 0; side < 2; side++) {
        unsigned t = side ? to : from, k = side ? key2 : key;
        bool done = db_change(db, tx, OP_UPDATE, t, k, k, true);
        CHECK(done);
        struct db_op *op = &tx->ops[tx->op_count - 1];
        op->new.v[1] = op->old.v[1] + (side ? amount : -amount);
        db->now[t].rows[k].v[1] = op->new.v[1];
    }
}

void db_prepare(struct db *db, struct db_tx *tx) {
    CHECK(tx->state == TX_OPEN);
    tx->state = TX_PREPARED;
    tx->prepared = advance(db);
}

void db_commit(struct db *db, struct db_tx *tx, bool flush) {
    CHECK(tx->state == TX_OPEN || tx->state == TX_PREPARED);
    tx->state = TX_COMMITTED;
    tx->commit = advance(db);
    tx->end = db->end;
    tx->place = db->log_count;
    db->log[db->log_count++] = index_of(db, tx);
    if (flush) {
        db_flush(db);
    }
}

static void unlock(struct db *db, const struct db_tx *tx) {
    unsigned me = index_of(db, tx) + 1;
    for (unsigned t = 0; t < db->table_count; t++) {
        db->table_lock[t] = db->table_lock[t] == me ? 0 : db->table_lock[t];
        for (unsigned k = 0; k < db->keys; k++) {
            db->row_lock[t][k] = db->row_lock[t][k] == me ? 0 : db->row_lock[t][k];
        }
    }
}

void db_abort(struct db *db, struct db_tx *tx) {
    CHECK(tx->state == TX_OPEN || tx->state == TX_PREPARED);
    CHECK(!tx->ddl);
    for (unsigned o = tx->op_count; o-- > 0;) {
        const struct db_op *op = &tx->ops[o];
        db->now[op->table].rows[op->to] = (struct db_row){ 0 };
        db->now[op->table].rows[op->key] = op->kind == OP_INSERT ? (struct db_row){ 0 } : op->old;
    }
    tx->state = TX_ABORTED;
    unlock(db, tx);
}

bool db_show(struct db *db, struct db_tx *tx) {
    CHECK(tx->state == TX_COMMITTED);
    if (db->flavour == DB_EXACT && tx->place > 0 &&
        db->txs[db->log[tx->place - 1]].state != TX_VISIBLE) {
        return false;
    }
    tx->state = TX_VISIBLE;
    unlock(db, tx);
    return true;
}

void db_log_noise(struct db *db) { advance(db); }
void db_flush(struct db *db) { db->flushed = db->end; }

void db_server_crash(struct db *db) {
    for (unsigned i = 0; i < db->tx_count; i++) {
        struct db_tx *tx = &db->txs[i];
        if (tx->state == TX_OPEN && !tx->ddl) {
            db_abort(db, tx);
        }
    }
    memset(db->readers, 0, sizeof db->readers);
    db_flush(db);
}

/* ---- what was, and who sees it ---- */

uint64_t db_tx_number(const struct db *db, const struct db_tx *tx) {
    return db->flavour == DB_XID ? tx->xid : tx->place + 1;
}

uint64_t db_visible_prefix(const struct db *db) {
    for (unsigned i = 0; i < db->log_count; i++) {
        const struct db_tx *tx = &db->txs[db->log[i]];
        if (tx->state != TX_VISIBLE) {
            return tx->commit;
        }
    }
    return db->end;
}

bool db_prepared_pending(const struct db *db) {
    uint64_t prefix = db_visible_prefix(db);
    for (unsigned i = 0; i < db->tx_count; i++) {
        const struct db_tx *tx = &db->txs[i];
        bool beyond = tx->state == TX_VISIBLE && tx->prepared < prefix && tx->end > prefix;
        if (tx->state == TX_PREPARED || (tx->prepared && (tx->state == TX_COMMITTED || beyond))) {
            return true;
        }
    }
    return false;
}

void db_snapshot(const struct db *db, struct snapshot *out, uint64_t *high) {
    uint64_t hidden[DB_TXS], next = db->flavour == DB_XID ? db->next_xid : db->log_count + 1;
    uint32_t count = 0;
    uint64_t xmin = next;
    for (unsigned i = 0; i < db->tx_count; i++) {
        const struct db_tx *tx = &db->txs[i];
        bool numbered =
            db->flavour == DB_XID || tx->state == TX_COMMITTED || tx->state == TX_VISIBLE;
        if (!numbered || tx->state == TX_VISIBLE || tx->state == TX_ABORTED) {
            continue;
        }
        uint64_t number = db_tx_number(db, tx);
        hidden[count++] = number;
        xmin = number < xmin ? number : xmin;
    }
    *high = db->end;
    if (db->flavour == DB_EXACT) {
        *high = db_visible_prefix(db);
        snapshot_set(out, xmin, xmin, NULL, 0);
    } else {
        snapshot_set(out, xmin, next, hidden, count);
    }
}

void db_state_at(const struct db *db, unsigned table, uint64_t offset, struct db_state *out) {
    *out = db->base[table];
    for (unsigned i = 0; i < db->log_count; i++) {
        const struct db_tx *tx = &db->txs[db->log[i]];
        for (unsigned o = 0; tx->end <= offset && o < tx->op_count; o++) {
            if (tx->ops[o].table == table) {
                apply(out, &tx->ops[o]);
            }
        }
    }
}

/* A snapshot that does not see a truncate or a rewrite which is done finds an empty table: the old
 * rows are gone. */
static bool rewritten_since(const struct db *db, unsigned table, const struct snapshot *s) {
    for (unsigned i = 0; i < db->log_count; i++) {
        const struct db_tx *tx = &db->txs[db->log[i]];
        for (unsigned o = 0; tx->ddl && tx->state == TX_VISIBLE && o < tx->op_count; o++) {
            const struct db_op *op = &tx->ops[o];
            bool empties = op->kind == OP_TRUNCATE || op->kind == OP_REWRITE ||
                           (op->kind == OP_ADD_COLUMN && op->with_default);
            if (op->table == table && empties && !snapshot_sees(s, db_tx_number(db, tx))) {
                return true;
            }
        }
    }
    return false;
}

void db_state_seen(const struct db *db, unsigned table, const struct snapshot *s,
                   struct db_state *out) {
    *out = db->base[table];
    for (unsigned i = 0; i < db->log_count; i++) {
        const struct db_tx *tx = &db->txs[db->log[i]];
        bool seen = snapshot_sees(s, db_tx_number(db, tx));
        for (unsigned o = 0; seen && o < tx->op_count; o++) {
            if (tx->ops[o].table == table) {
                apply(out, &tx->ops[o]);
            }
        }
    }
    if (rewritten_since(db, table, s)) {
        memset(out->rows, 0, sizeof out->rows);
    }
}

bool db_carried(const struct db *db, const struct db_op *op) {
    const struct db_table *t = &db->tables[op->table];
    return op->kind <= OP_TRUNCATE &&
           (db->flavour != DB_XID || (t->captured && op->pos >= t->captured_from));
}

int db_find_table(const struct db *db, uint64_t id) {
    for (unsigned t = 0; t < db->table_count; t++) {
        if (db->tables[t].id == id) {
            return (int)t;
        }
    }
    return -1;
}

struct logpos db_pos(const struct db *db, uint64_t offset) {
    return db->flavour == DB_XID
               ? (struct logpos){ 0, offset }
               : (struct logpos){ 1 + offset / FILE_BYTES, 4 + offset % FILE_BYTES };
}

uint64_t db_offset(const struct db *db, struct logpos pos) {
    return db->flavour == DB_XID ? pos.offset : (pos.segment - 1) * FILE_BYTES + pos.offset - 4;
}

static const char *const names[DB_COLUMNS] = { "k", "a", "t", "b1", "b2", "b3", "b4" };

struct schema *db_schema(const struct db *db, unsigned table, uint8_t columns,
                         const struct db_state *state) {
    const struct db_table *t = &db->tables[table];
    struct schema *s =
        schema_new(t->id, "public", t->name, (uint16_t)__builtin_popcount(columns & ~DB_A_IS_TEXT));
    uint16_t at = 0;
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        if (!((columns >> c) & 1)) {
            continue;
        }
        bool text = c == 2 || (c == 1 && columns & DB_A_IS_TEXT) ||
                    (c == 0 && (t->kind == DB_WHOLE || t->long_keys));
        s->columns[at++] =
            (struct column_def){ .name = names[c],
                                 .type = { .kind = text ? TYPE_TEXT : TYPE_INT32 },
                                 .source_type = text ? "text" : "integer",
                                 .source_mod = -1,
                                 .nullable = c != 0,
                                 .byte_order = c == 0 && t->long_keys,
                                 .key_pos = c == 0 && t->kind != DB_KEYLESS ? 0 : -1 };
    }
    s->identity = t->full ? IDENTITY_FULL : IDENTITY_KEY;
    char mark[60] = "";
    if (state) {
        snprintf(mark, sizeof mark, "%u.%u.%u.%u.%u", state->storage, state->moved, state->drops,
                 state->columns & ~DB_A_IS_TEXT, state->defaulted);
    }
    s->storage = arena_strdup(&s->arena, mark);
    schema_finish(s);
    for (unsigned c = 0; state && c < DB_COLUMNS; c++) {
        if ((columns & state->columns & state->defaulted) >> c & 1) {
            schema_set_missing(s, (uint16_t)schema_column(s, names[c]), &state->missing[c],
                               sizeof state->missing[c]);
        }
    }
    return s;
}

bool db_rewritten(const struct schema *before, const struct schema *after) {
    return atoi(before->storage) != atoi(after->storage);
}

bool db_added(const struct schema *before, const struct schema *after) {
    unsigned storage, was_moved, was_drops, was, moved, drops, is, defaulted;
    if (sscanf(before->storage, "%u.%u.%u.%u", &storage, &was_moved, &was_drops, &was) != 4 ||
        sscanf(after->storage, "%u.%u.%u.%u.%u", &storage, &moved, &drops, &is, &defaulted) != 5 ||
        was_moved != moved || was_drops != drops || (was & ~is) != 0) {
        return false;
    }
    unsigned has = 0;
    for (unsigned c = 0; c < DB_COLUMNS; c++) {
        int at = schema_column(after, names[c]);
        has |= at >= 0 ? 1u << c : 0;
        if ((is & ~was) >> c & 1 && schema_column(before, names[c]) >= 0) {
            return false; /* its rows went out before that was known */
        }
        if (at >= 0 && (defaulted >> c & 1) != (after->columns[at].missing != NULL)) {
            return false;
        }
    }
    return (has & ~is) == 0 && (is & ~was & ~has) == 0;
}

size_t db_key_text(const struct db *db, unsigned table, int32_t k, char *out, size_t max) {
    CHECK(max >= DB_KEY_MAX);
    if (db->tables[table].kind == DB_WHOLE) {
        return (size_t)snprintf(out, max, "%d", k);
    }
    if (!db->tables[table].long_keys) {
        return 0;
    }
    size_t len = (size_t)snprintf(out, max, "%04d", k);
    memset(out + len, '.', db->tables[table].long_keys - len);
    return db->tables[table].long_keys;
}

size_t db_text(const struct db *db, int32_t v, char *out, size_t max) {
    size_t len = (size_t)snprintf(out, max, "%d", v);
    if (db->fat && v % 3 != 0) {
        CHECK(db->fat <= max);
        memset(out + len, '.', db->fat - len);
        len = db->fat;
    }
    return len;
}
