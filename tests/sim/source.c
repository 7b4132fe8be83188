/* The scripted source: control and lane sessions. See source.h; the log session is in source_log.c.
 */
#include "tests/sim/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/waitq.h"
#include "cdc/key.h"
#include "tests/sim/fault.h"
#include "tests/sim/sched.h"
#include "tests/sim/source_impl.h"

#define LANES_MAX 64u
#define EXPORTS_MAX 64u
#define LOCK_WAIT_US (5 * US_PER_S)
#define LANE_ROWS 3u

static struct server *the_server;
static struct sim_lane *lanes[LANES_MAX];
static struct {
    char name[24];
    unsigned table;
    struct sim_lane *owner;
    struct snapshot snapshot;
} exports[EXPORTS_MAX];
static unsigned export_count;

struct server *server_now(void) {
    return the_server;
}

struct server *server_new(struct db *db) {
    struct server *s = xcalloc(1, sizeof *s);
    *s = (struct server){ .db = db, .news = waitq_new(), .life = 1, .segment_txs_max = 4 };
    the_server = s;
    return s;
}

void server_changed(struct server *s) { waitq_wake_all(s->news); }

static void lane_forget(struct sim_lane *l) {
    if (l->locked) {
        struct db *db = the_server->db;
        db->readers[l->table] -= db->readers[l->table] > 0;
        l->locked = false;
    }
    for (unsigned i = 0; i < export_count; i++) {
        exports[i].owner = exports[i].owner == l ? NULL : exports[i].owner;
    }
}

void server_process_died(struct server *s, unsigned group) {
    for (unsigned i = 0; i < LANES_MAX; i++) {
        if (lanes[i] && lanes[i]->group == group) {
            lane_forget(lanes[i]);
            lanes[i] = NULL;
        }
    }
    if (s->slot_session && s->slot_group == group) {
        s->slot_session = 0;
    }
}

void server_crash(struct server *s) {
    sim_note("server crash");
    for (unsigned i = 0; i < LANES_MAX; i++) {
        if (lanes[i]) {
            lane_forget(lanes[i]);
        }
    }
    db_server_crash(s->db);
    s->life++;
    s->slot_session = 0;
    s->confirmed = s->confirmed_disk;
    server_changed(s);
}

int session_call(unsigned life, const char *call, struct err *err) {
    if (life != the_server->life) {
        return err_set(err, ERR_REWIND, "connection_lost", "%s: the server went away", call);
    }
    return 0;
}

bool sim_is_being_read(unsigned group, unsigned table, uint64_t offset) {
    for (unsigned i = 0; i < LANES_MAX; i++) {
        const struct sim_lane *l = lanes[i];
        if (l && l->group == group && l->locked && l->table == table && l->viewed &&
            l->high >= offset) {
            return true;
        }
    }
    return false;
}

int session_step(unsigned life, const char *call, struct err *err) {
    fault_slow(call);
    return session_call(life, call, err);
}

/* ---- control session ---- */

static int sim_open(const struct source_address *a, struct env *env, table_select_fn select,
                    const void *rules, struct source **out, struct err *err) {
    (void)a, (void)env, (void)select, (void)rules, (void)err;
    struct sim_source *s = xcalloc(1, sizeof *s);
    *s = (struct sim_source){ .base.ops = &sim_source_ops,
                              .life = the_server->life,
                              .group = sched_group() };
    *out = &s->base;
    return 0;
}
static void sim_close(struct source *s) { free(s); }
static int control_call(struct source *s, const char *call, struct err *err) {
    return session_call(((struct sim_source *)s)->life, call, err);
}
static int control_step(struct source *s, const char *call, struct err *err) {
    return session_step(((struct sim_source *)s)->life, call, err);
}
static int sim_examine(struct source *s, struct source_findings *out, struct err *err) {
    out->count = 0;
    return control_call(s, "examine", err);
}

/* Definitions as a snapshot of now sees them; W only afterwards. */
static int sim_catalogue(struct source *s, struct source_catalogue *out, struct err *err) {
    struct db *db = the_server->db;
    if (control_call(s, "catalogue", err)) {
        return -1;
    }
    *out = (struct source_catalogue){ .tables = xcalloc(DB_TABLES, sizeof *out->tables) };
    struct snapshot now = { 0 };
    uint64_t high;
    db_snapshot(db, &now, &high);
    for (unsigned t = 0; t < db->table_count; t++) {
        struct db_state state;
        db_state_seen(db, t, &now, &state);
        the_server->left_out[sched_group()][t] |= state.exists && the_server->hidden[t];
        if (state.exists && !the_server->hidden[t]) {
            struct source_table *entry = &out->tables[out->count++];
            *entry = (struct source_table){
                .schema = db_schema(db, t, state.columns, &state),
                .rows_estimate = t % 3 ? DB_KEYS : 0, /* 0: never analysed */
                .bytes_estimate = the_server->big_estimates ? 1u << 30 : 1000,
                .usable = !the_server->unusable[t],
            };
            if (!entry->usable) {
                snprintf(entry->why, sizeof entry->why, "it has no identity");
                the_server->told_unusable[sched_group()] = true;
            }
        }
    }
    snapshot_release(&now);
    snprintf(out->server, sizeof out->server, "simulated");
    if (control_step(s, "catalogue_end", err)) {
        source_catalogue_release(out);
        return -1;
    }
    out->defined_at = db_pos(db, db->end);
    return 0;
}

static int lineage(const char *why, struct err *err) {
    err_set(err, ERR_FATAL, "lineage", "%s", why);
    return err_exit(err, EXIT_LINEAGE);
}

static int start_fresh(struct sim_source *s, struct source_started *out, struct err *err) {
    struct server *v = the_server;
    struct db *db = v->db;
    while (db->flavour != DB_XID && db_prepared_pending(db)) { /* prepared ones are drained first */
        sched_pause_us(100 * US_PER_MS);
        if (control_call(&s->base, "drain", err)) {
            return -1;
        }
    }
    if (!v->slot) {
        v->slot = true;
        v->confirmed = v->confirmed_disk = db->flavour == DB_XID ? db->end : db_visible_prefix(db);
        sim_note("slot at %llu", (unsigned long long)v->confirmed);
    }
    out->from = db_pos(db, v->confirmed);
    if (db->flavour == DB_XID) {
        if (control_step(&s->base, "start_x", err)) {
            return -1;
        }
        out->see_from_tx = db->next_xid;
    }
    return 0;
}

static int sim_start(struct source *base, const struct source_start *req,
                     struct source_started *out, struct err *err) {
    struct sim_source *s = (struct sim_source *)base;
    struct server *v = the_server;
    if (control_call(base, "start", err)) {
        return -1;
    }
    *out = (struct source_started){ 0 };
    snprintf(out->lineage, sizeof out->lineage, "{\"db\":1}");
    s->resume = 0;
    if (req->knows != TARGET_POSITION) {
        if (req->knows == TARGET_NOTHING && v->slot) {
            return lineage("the slot exists and the target knows nothing", err);
        }
        if (req->look_only) {
            return 0;
        }
        return start_fresh(s, out, err);
    }
    uint64_t resume = db_offset(v->db, req->resume);
    if (!v->slot || v->confirmed > resume) {
        return lineage("the slot is gone or beyond the position", err);
    }
    out->from = req->applied;
    s->resume = resume;
    return 0;
}

static int sim_capture(struct source *s, const uint64_t *ids, uint32_t count, uint64_t *x,
                       struct logpos *from, struct err *err) {
    struct db *db = the_server->db;
    if (control_call(s, "capture", err)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        int t = db_find_table(db, ids[i]);
        CHECK(t >= 0);
        if (!db->tables[t].captured) {
            db->tables[t].captured = true;
            db->tables[t].captured_from = db->end;
        }
    }
    if (control_step(s, "capture_end", err)) {
        return -1;
    }
    *x = db->flavour == DB_XID ? db->next_xid : 0;
    *from = db_pos(db, db->end);
    return 0;
}

static int sim_probe(struct source *s, struct snapshot *out, struct err *err) {
    if (control_call(s, "probe", err)) {
        return -1;
    }
    uint64_t high;
    db_snapshot(the_server->db, out, &high);
    return 0;
}
static int sim_nudge(struct source *s, struct err *err) {
    if (control_call(s, "nudge", err)) {
        return -1;
    }
    db_flush(the_server->db);
    server_changed(the_server);
    return 0;
}
static int sim_log_end(struct source *s, struct logpos *out, struct err *err) {
    if (control_call(s, "log_end", err)) {
        return -1;
    }
    *out = db_pos(the_server->db, the_server->db->end);
    return 0;
}
static int sim_status(struct source *s, struct source_status *out, struct err *err) {
    *out = (struct source_status){ 0 };
    return sim_log_end(s, &out->log_end, err);
}
static int sim_drop(struct source *s, struct err *err) {
    the_server->slot = false;
    return control_call(s, "drop", err);
}
static int sim_text(struct source *s, struct buf *out, struct err *err) {
    buf_puts(out, "");
    return control_call(s, "text", err);
}

/* ---- lanes ---- */

static int lane_call(struct source_lane *l, const char *call, struct err *err) {
    return session_call(((struct sim_lane *)l)->life, call, err);
}

static int sim_lane_open(struct source *s, unsigned number, struct source_lane **out,
                         struct err *err) {
    (void)s, (void)number, (void)err;
    struct sim_lane *l = xcalloc(1, sizeof *l);
    *l = (struct sim_lane){ .base.ops = &sim_source_ops,
                            .life = the_server->life,
                            .group = sched_group() };
    unsigned i = 0;
    while (lanes[i]) {
        i++;
        CHECK(i < LANES_MAX);
    }
    lanes[i] = l;
    *out = &l->base;
    return 0;
}

static void sim_lane_close(struct source_lane *base) {
    struct sim_lane *l = (struct sim_lane *)base;
    lane_forget(l);
    for (unsigned i = 0; i < LANES_MAX; i++) {
        lanes[i] = lanes[i] == l ? NULL : lanes[i];
    }
    snapshot_release(&l->snapshot);
    schema_unref(l->read_schema);
    free(l);
}

static void put_bound(struct buf *out, const void *p, size_t len) {
    uint32_t n = (uint32_t)len;
    buf_put(out, &n, sizeof n);
    buf_put(out, p, len);
}

static void key_of_slot(unsigned table, unsigned slot, struct buf *key) {
    int32_t k = (int32_t)slot;
    char text[DB_KEY_MAX];
    size_t len = db_key_text(the_server->db, table, k, text, sizeof text);
    if (len) {
        key_put_cell(key, &(struct type){ .kind = TYPE_TEXT }, (const uint8_t *)text, len);
    } else {
        key_put_cell(key, &(struct type){ .kind = TYPE_INT32 }, (const uint8_t *)&k, sizeof k);
    }
}

static int sim_lane_cut(struct source_lane *l, const struct schema *schema, bool whole,
                        uint32_t pieces_max, struct buf *bounds, uint32_t *pieces,
                        struct err *err) {
    if (lane_call(l, "lane_cut", err)) {
        return -1;
    }
    *pieces = 1 + sim_below(STREAM_DOOR, pieces_max < 5 ? pieces_max : 5);
    for (uint32_t i = 1; i < *pieces; i++) {
        uint32_t at = the_server->db->keys * i / *pieces;
        if (whole) {
            put_bound(bounds, &at, sizeof at);
        } else {
            struct buf key;
            buf_init(&key, SIZE_MAX);
            key_of_slot((unsigned)db_find_table(the_server->db, schema->table_id), at, &key);
            put_bound(bounds, key.data, key.len);
            buf_release(&key);
        }
    }
    return 0;
}

/* The lock that a SELECT takes: waits for DDL that holds the table. */
static int take_lock(struct sim_lane *l, unsigned table, struct err *err) {
    struct db *db = the_server->db;
    int64_t deadline = clock_mono_us() + LOCK_WAIT_US;
    while (db->table_lock[table]) {
        if (clock_mono_us() >= deadline) {
            return err_set(err, ERR_RETRY, "lock_timeout", "table %u is locked", table);
        }
        sched_pause_us(20 * US_PER_MS);
        if (lane_call(&l->base, "lane_lock", err)) {
            return -1;
        }
    }
    l->table = table;
    l->locked = true;
    db->readers[table]++;
    return 0;
}

static int take_snapshot(struct sim_lane *l, struct err *err) {
    l->viewed = false;
    snapshot_release(&l->snapshot);
    db_snapshot(the_server->db, &l->snapshot, &l->high);
    if (session_step(l->life, "lane_snapshot", err)) {
        return -1;
    }
    l->high = the_server->db->flavour == DB_EXACT ? l->high : the_server->db->end;
    l->viewed = true;
    return 0;
}

static void export_snapshot(struct sim_lane *l, char *export_name) {
    unsigned slot =
        export_count < EXPORTS_MAX ? export_count++ : sim_below(STREAM_DOOR, EXPORTS_MAX);
    snapshot_copy(&exports[slot].snapshot, &l->snapshot);
    exports[slot].table = l->table;
    exports[slot].owner = l;
    snprintf(exports[slot].name, sizeof exports[slot].name, "x%u", ++the_server->sessions);
    snprintf(export_name, 64, "%s", exports[slot].name);
}

static int sim_lane_begin(struct source_lane *base, const struct schema *schema,
                          struct chunk_view *out, char *export_name, struct err *err) {
    struct sim_lane *l = (struct sim_lane *)base;
    struct db *db = the_server->db;
    *out = (struct chunk_view){ 0 };
    int t = db_find_table(db, schema->table_id);
    CHECK(t >= 0);
    if (lane_call(base, "lane_begin", err)) {
        return -1;
    }
    int rc = take_lock(l, (unsigned)t, err);
    rc = rc ? rc : take_snapshot(l, err);
    if (rc) {
        lane_forget(l);
        return -1;
    }
    struct db_state seen; /* the definition is read through the snapshot too, as SQL does */
    db_state_seen(db, (unsigned)t, &l->snapshot, &seen);
    snapshot_copy(&out->snapshot, &l->snapshot);
    out->high = db_pos(db, l->high);
    out->gone = !seen.exists;
    out->schema = seen.exists ? db_schema(db, (unsigned)t, seen.columns, &seen) : NULL;
    if (export_name && (db->flavour == DB_XID || sim_below(STREAM_DOOR, 2))) {
        export_snapshot(l, export_name); /* some servers cannot: one lane reads it all */
    }
    sim_note("lane view table=%d xmin=%llu xmax=%llu hidden=%u high=%llu", t,
             (unsigned long long)l->snapshot.xmin, (unsigned long long)l->snapshot.xmax,
             l->snapshot.xip_count, (unsigned long long)l->high);
    return 0;
}

static int sim_lane_join(struct source_lane *base, const struct schema *schema, const char *name,
                         struct err *err) {
    struct sim_lane *l = (struct sim_lane *)base;
    (void)schema;
    if (lane_call(base, "lane_join", err)) {
        return -1;
    }
    for (unsigned i = 0; i < export_count; i++) {
        if (exports[i].owner && strcmp(exports[i].name, name) == 0) {
            l->table = exports[i].table;
            l->locked = true;
            the_server->db->readers[l->table]++;
            snapshot_release(&l->snapshot);
            snapshot_copy(&l->snapshot, &exports[i].snapshot);
            return 0;
        }
    }
    return err_set(err, ERR_RETRY, "snapshot_gone", "snapshot \"%s\" does not exist", name);
}

static bool is_asked(const struct sim_lane *l, const struct chunk_read *r, unsigned slot) {
    if (r->whole) {
        uint32_t lo = 0, hi = DB_KEYS;
        if (r->lo_len) {
            memcpy(&lo, r->lo, sizeof lo);
        }
        if (r->hi_len) {
            memcpy(&hi, r->hi, sizeof hi);
        }
        return slot >= lo && slot < hi;
    }
    struct buf key;
    buf_init(&key, SIZE_MAX);
    key_of_slot(l->table, slot, &key);
    bool asked = r->exact ? key_cmp(key.data, key.len, r->lo, r->lo_len) == 0
                          : (!r->lo_len || key_cmp(key.data, key.len, r->lo, r->lo_len) >= 0) &&
                                (!r->hi_len || key_cmp(key.data, key.len, r->hi, r->hi_len) < 0);
    buf_release(&key);
    return asked;
}

/* A server that orders keys in another way, or gives rows that nobody asked for. */
static void spoil_rows(struct sim_lane *l, const struct chunk_read *r) {
    struct server *v = the_server;
    if (!v->disorders || r->whole || r->exact || l->row_count < 2) {
        return;
    }
    v->disorders--;
    v->disordered[l->group] = true;
    struct db_row *first = &l->rows[0], *last = &l->rows[l->row_count - 1];
    unsigned how = sim_below(STREAM_DOOR, 6);
    sim_note("rows of %u are spoilt: %u", l->table, how);
    if (how == 1 && r->lo_len) {
        first->v[0] = 0; /* outside: no range begins below the first key */
    } else if (how == 2 && r->hi_len) {
        last->v[0] = (int32_t)v->db->keys - 1 + (int32_t)DB_KEYS;
    } else if (how == 3) {
        first->null[0] = true;
    } else if (how == 4) {
        last->null[0] = true;
    } else if (how == 5 && l->row_count > LANE_ROWS) {
        l->rows[LANE_ROWS] = *first; /* the first row once more */
    } else {
        struct db_row all[DB_KEYS];
        memcpy(all, l->rows, sizeof all);
        for (unsigned i = 0; i < l->row_count; i++) {
            l->rows[i] = all[l->row_count - 1 - i];
        }
    }
}

static int sim_lane_read(struct source_lane *base, const struct chunk_read *req, struct err *err) {
    struct sim_lane *l = (struct sim_lane *)base;
    if (lane_call(base, "lane_read", err)) {
        return -1;
    }
    CHECK(l->locked && req->schema->table_id == the_server->db->tables[l->table].id);
    struct db_state seen;
    unsigned twin = DB_KEYS; /* equal to the key that is asked for to the server, whose collation
                                does not look at bytes; at most one of two such keys has a row */
    db_state_seen(the_server->db, l->table, &l->snapshot, &seen);
    schema_unref(l->read_schema);
    l->read_schema = schema_ref(req->schema);
    l->row_count = l->row_at = 0;
    for (unsigned k = 0; req->exact && k < the_server->db->keys; k++) {
        bool blind = the_server->db->tables[l->table].kind == DB_WHOLE;
        twin = blind && !seen.rows[k].there && is_asked(l, req, k) ? k ^ 1 : twin;
    }
    for (unsigned k = 0; k < the_server->db->keys; k++) {
        if (seen.rows[k].there && (is_asked(l, req, k) || k == twin) &&
            (req->whole || req->exact || l->row_count < req->rows_max)) {
            l->rows[l->row_count++] = seen.rows[k];
        }
    }
    spoil_rows(l, req);
    return 0;
}

void sim_put_row(struct batch *b, const struct db_row *row, bool key_only, bool t_absent,
                 enum row_kind kind, uint32_t tx, uint32_t n) {
    struct db *db = the_server->db;
    const struct schema *s = b->schema;
    unsigned table = (unsigned)db_find_table(db, s->table_id);
    for (uint16_t i = 0; i < s->column_count; i++) {
        const char *name = s->columns[i].name;
        unsigned c = name[0] == 'k'   ? 0
                     : name[0] == 'a' ? 1
                     : name[0] == 't' ? 2
                                      : 2 + (unsigned)(name[1] - '0');
        if ((key_only && s->columns[i].key_pos < 0) || (t_absent && c == 2) || !row) {
            batch_put_absent(b, i);
        } else if (row->null[c]) {
            batch_put_null(b, i);
        } else if (s->columns[i].type.kind == TYPE_TEXT) {
            static char text[DB_TEXT_MAX];
            size_t len = c == 0 ? db_key_text(db, table, row->v[c], text, sizeof text)
                                : db_text(db, row->v[c], text, sizeof text);
            batch_put_var(b, i, text, len);
        } else {
            memcpy(batch_fixed(b, i), &row->v[c], sizeof row->v[c]);
        }
    }
    batch_row_done(b, kind, tx, n);
}

static int sim_lane_next(struct source_lane *base, struct batch **out, struct err *err) {
    struct sim_lane *l = (struct sim_lane *)base;
    *out = NULL;
    if (lane_call(base, "lane_next", err)) {
        return -1;
    }
    if (l->row_at == l->row_count) {
        return 0;
    }
    struct batch *b = batch_new(l->read_schema, LANE_ROWS, NULL);
    while (l->row_at < l->row_count && b->rows < LANE_ROWS) {
        sim_put_row(b, &l->rows[l->row_at++], false, false, ROW_INSERT, 0, 0);
    }
    batch_seal(b);
    *out = b;
    return 0;
}

static int sim_lane_stop(struct source_lane *base, struct err *err) {
    ((struct sim_lane *)base)->row_count = 0;
    ((struct sim_lane *)base)->row_at = 0;
    return lane_call(base, "lane_stop", err);
}
static int sim_lane_end(struct source_lane *base, struct err *err) {
    lane_forget((struct sim_lane *)base);
    return lane_call(base, "lane_end", err);
}

static int sim_put_logpos(struct buf *out, struct logpos pos) {
    buf_putf(out, "%llu/%llu", (unsigned long long)pos.segment, (unsigned long long)pos.offset);
    return 0;
}
int sim_take_logpos(const char *text, struct logpos *out) {
    char *end;
    out->segment = strtoull(text, &end, 10);
    if (end == text || *end != '/') {
        return -1;
    }
    const char *second = end + 1;
    out->offset = strtoull(second, &end, 10);
    return end == second || *end ? -1 : 0;
}

const struct source_ops sim_source_ops = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .examine = sim_examine,
    .catalogue = sim_catalogue,
    .start = sim_start,
    .capture = sim_capture,
    .probe = sim_probe,
    .nudge = sim_nudge,
    .log_end = sim_log_end,
    .status = sim_status,
    .rewritten = db_rewritten,
    .added = db_added,
    .drop = sim_drop,
    .drop_plan = sim_text,
    .slots = sim_text,
    .log_open = sim_log_open,
    .log_close = sim_log_close,
    .log_next = sim_log_next,
    .log_idle = sim_log_idle,
    .log_ack = sim_log_ack,
    .log_wake = sim_log_wake,
    .log_want = sim_log_want,
    .lane_open = sim_lane_open,
    .lane_close = sim_lane_close,
    .lane_cut = sim_lane_cut,
    .lane_begin = sim_lane_begin,
    .lane_join = sim_lane_join,
    .lane_read = sim_lane_read,
    .lane_next = sim_lane_next,
    .lane_stop = sim_lane_stop,
    .lane_end = sim_lane_end,
    .put_logpos = sim_put_logpos,
    .take_logpos = sim_take_logpos,
};
