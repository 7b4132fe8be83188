/* A small multi-version database with a log: what the scripted source stands on. Transactions write
 * their log as they go, commit into it, and become visible later, in any order (rows and tables
 * stay locked until then). The whole history is kept: the state at any log position and under any
 * snapshot can be asked for, by the source door and by the oracles.
 *
 *   flavour  number of a transaction     becomes visible      S and H
 *   XID      when it begins              in any order         any; log's end after S
 *   EXACT    its place in the log        in the log's order   the position S stands at
 *   WINDOW   its place in the log        in any order         any; log's end after S
 *
 * Thread: the simulator's one; no yield within. */
#pragma once
#include "cdc/position.h"
#include "cdc/schema.h"

#define DB_TABLES 24u
#define DB_KEYS 160u      /* room; db->keys are in use */
#define DB_COLUMNS 7u     /* k a t b1..b4 */
#define DB_A_IS_TEXT 128u /* among the bits of columns: the type of a */
#define DB_OPS 90u
#define DB_TXS 400u

enum db_flavour { DB_XID, DB_EXACT, DB_WINDOW, DB_FLAVOURS };
enum db_kind { DB_RANGE, DB_WHOLE, DB_KEYLESS };
enum db_op_kind {
    OP_INSERT,
    OP_UPDATE,
    OP_DELETE,
    OP_MOVE,
    OP_TRUNCATE,
    OP_CREATE,
    OP_DROP,
    OP_ADD_COLUMN,
    OP_DROP_COLUMN,
    OP_REWRITE
};

struct db_row {
    bool there;
    int32_t v[DB_COLUMNS];
    bool null[DB_COLUMNS];
};
struct db_op {
    enum db_op_kind kind;
    unsigned table, key, to;
    struct db_row old, new;
    bool t_absent;    /* the log does not carry t of the new row */
    uint8_t columns;  /* bit c: column c exists (after the op) */
    unsigned storage; /* after the op */
    uint64_t pos;     /* where it stands in the log */
    bool with_default;
};
enum db_tx_state { TX_OPEN, TX_PREPARED, TX_COMMITTED, TX_VISIBLE, TX_ABORTED };
struct db_tx {
    enum db_tx_state state;
    uint64_t xid, commit, end, prepared; /* log offsets */
    unsigned place;                      /* in the log, from 0 */
    struct db_op *ops;                   /* room for DB_OPS */
    unsigned op_count;
    bool ddl;
};
struct db_table {
    uint64_t id;
    char name[16];
    enum db_kind kind;
    bool full, bank;
    unsigned
        long_keys; /* bytes of a text in byte order: a few of them fill a position; 0 = integers
                    */
    bool captured;
    uint64_t captured_from;
};
/* A table at one point. */
struct db_state {
    bool exists;
    uint8_t columns;
    unsigned storage;
    unsigned moved;    /* storage as of the last rewrite */
    unsigned drops;    /* columns that went, so far */
    uint8_t defaulted; /* columns added with a default since then */
    int32_t missing[DB_COLUMNS];
    struct db_row rows[DB_KEYS];
};
struct db {
    enum db_flavour flavour;
    struct db_table tables[DB_TABLES];
    unsigned table_count;
    struct db_state base[DB_TABLES], now[DB_TABLES];
    struct db_tx txs[DB_TXS];
    unsigned tx_count;
    unsigned log[DB_TXS]; /* place -> index */
    unsigned log_count;
    uint64_t next_xid, end, flushed, purged;
    unsigned row_lock[DB_TABLES][DB_KEYS]; /* tx index + 1 */
    unsigned table_lock[DB_TABLES];        /* of DDL: tx index + 1 */
    unsigned readers[DB_TABLES];           /* lanes that hold the lock of a SELECT */
    int32_t serial;
    unsigned keys;
    size_t fat;   /* bytes of a long text; 0 = there are none */
    bool retypes; /* a rewrite makes a text of integers in column a, or integers of text */
};

void db_init(struct db *db, enum db_flavour flavour, unsigned keys);
unsigned db_add_table(struct db *db, const char *name, enum db_kind kind, bool full,
                      bool bank); /* exists from the beginning */
/* A table that a transaction will create. */
unsigned db_declare_table(struct db *db, const char *name, enum db_kind kind, bool full);
struct db_tx *db_begin(struct db *db); /* NULL: no room left */
/* Appends one op if its locks are free; false: they are not, or there is no room. */
bool db_change(struct db *db, struct db_tx *tx, enum db_op_kind kind, unsigned table, unsigned key,
               unsigned to, bool t_absent);
void db_transfer(struct db *db, struct db_tx *tx, unsigned from, unsigned to, unsigned key,
                 unsigned key2, int32_t amount);
void db_prepare(struct db *db, struct db_tx *tx);
void db_commit(struct db *db, struct db_tx *tx, bool flush);
void db_abort(struct db *db, struct db_tx *tx);
/* Makes a committed transaction visible, if the flavour's order allows it now. */
bool db_show(struct db *db, struct db_tx *tx);
void db_log_noise(struct db *db); /* something that is no transaction */
void db_flush(struct db *db);
void db_server_crash(struct db *db);

uint64_t db_tx_number(const struct db *db,
                      const struct db_tx *tx); /* as snapshots and segments name it */
void db_snapshot(const struct db *db, struct snapshot *out, uint64_t *high);
uint64_t db_visible_prefix(const struct db *db); /* offset: all transactions below are visible */
bool db_prepared_pending(
    const struct db *db); /* some transaction is prepared, or was and is not yet visible, or lies
                             with its end alone beyond the visible prefix */
/* A table after all transactions that end at or below offset; after those a snapshot sees. */
void db_state_at(const struct db *db, unsigned table, uint64_t offset, struct db_state *out);
void db_state_seen(const struct db *db, unsigned table, const struct snapshot *s,
                   struct db_state *out);
bool db_carried(const struct db *db, const struct db_op *op); /* is it in the log? */
int db_find_table(const struct db *db, uint64_t id);          /* -1: none */
bool db_can_ddl(const struct db *db, unsigned table, const struct db_tx *tx);

/* Offsets and positions. */
struct logpos db_pos(const struct db *db, uint64_t offset);
uint64_t db_offset(const struct db *db, struct logpos pos);
/* Of rows with these columns. Marks of stored rows
 * ("<storage>.<moved>.<drops>.<columns>.<defaulted>") and what is missing in columns are as the
 * catalogue has them: state. NULL: there is no such table any more. */
struct schema *db_schema(const struct db *db, unsigned table, uint8_t columns,
                         const struct db_state *state);
/* What source_ops say of two of them. */
bool db_rewritten(const struct schema *before, const struct schema *after);
bool db_added(const struct schema *before, const struct schema *after);
/* Text of a t cell: its number, padded in fat databases. Returns the length. */
size_t db_text(const struct db *db, int32_t v, char *out, size_t max);
/* Text of a key, or 0 where keys are integers. */
size_t db_key_text(const struct db *db, unsigned table, int32_t k, char *out, size_t max);
#define DB_KEY_MAX 1500u
#define DB_TEXT_MAX (400u << 10)
