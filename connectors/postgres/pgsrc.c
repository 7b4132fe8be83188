/* The door's table, its options, and the control session's small questions. */
#include "connectors/postgres/pgsrc.h"

#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "connectors/postgres/pgsrc_identity.h"
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_lsn.h"

#define NUDGE_US US_PER_S

static const struct opt_spec options[] = {
    { .key = "slot",
      .type = OPT_TEXT,
      .doc = "use this replication slot, which must exist; it is never created or dropped "
             "(default: our own, tailrace_<job>)" },
    { .key = "publication",
      .type = OPT_TEXT,
      .doc = "use this publication, which must exist; it is never altered (default: our own, "
             "tailrace_<job>)" },
    { .key = "lanes",
      .type = OPT_COUNT,
      .fallback = "2",
      .min = 1,
      .max = 64,
      .doc = "sessions that read snapshots in parallel" },
    { .key = "on_rewrite",
      .type = OPT_CHOICE,
      .fallback = "resnapshot",
      .choices = "resnapshot|stop",
      .doc =
          "when an ALTER changed rows without the log saying so: read the table again, or stop" },
    { .key = "snapshot",
      .type = OPT_CHOICE,
      .fallback = "first",
      .choices = "first|never",
      .doc = "read the tables as they are first, or only the changes from the slot's position on" },
    { .key = "binary",
      .type = OPT_CHOICE,
      .fallback = "auto",
      .choices = "auto|off",
      .doc = "values of the log in binary form where every captured column can be read so, or "
             "always as text" },
    { .key = NULL },
};

int pgsrc_connect(const struct pgsrc *s, const char *role, bool replication,
                  struct pgsrc_session **out, struct err *err) {
    char application[64];
    snprintf(application, sizeof application, "tailrace:%s:%s", s->addr.job, role);
    const struct pgsrc_login login = {
        .hosts = s->addr.hosts,
        .database = s->addr.path,
        .user = s->addr.user,
        .secret = s->addr.secret,
        .extra = s->addr.extra,
        .application = application,
        .replication = replication,
    };
    return pgsrc_session_open(&login, out, err);
}

struct pgsrc_catalogue_ask pgsrc_ask(const struct pgsrc *s, uint64_t oid) {
    return (struct pgsrc_catalogue_ask){ .select = s->select,
                                         .rules = s->rules,
                                         .publication = s->own_publications ? NULL : s->publication,
                                         .oid = oid };
}

int pgsrc_scalar(struct pgsrc_session *session, struct err *err, const char *sql, char *out,
                 size_t cap) {
    PGresult *r = pgsrc_query(session, err, sql, 0, NULL);
    if (!r) {
        return -1;
    }
    snprintf(out, cap, "%s", PQntuples(r) && PQnfields(r) ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
    return 0;
}

uint64_t pgsrc_floor(const struct pgsrc *s, uint64_t lsn) {
    return pgsrc_lsn_floor(lsn, s->wal_page_bytes, s->wal_segment_bytes);
}

int pgsrc_log_end(const struct pgsrc *s, struct pgsrc_session *session, struct logpos *out,
                  struct err *err) {
    char text[32];
    uint64_t lsn;
    if (pgsrc_scalar(session, err, "SELECT pg_current_wal_insert_lsn()", text, sizeof text)) {
        return -1;
    }
    if (pgsrc_lsn_parse(text, &lsn)) {
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "the server gave \"%s\" as its log's end", text);
    }
    *out = (struct logpos){ 0, pgsrc_floor(s, lsn) };
    return 0;
}

int pgsrc_probe(struct pgsrc_session *session, struct snapshot *out, struct err *err) {
    PGresult *r = pgsrc_query(session, err, "SELECT pg_current_snapshot()", 0, NULL);
    if (!r) {
        return -1;
    }
    int rc = PQntuples(r) == 1 ? pgsrc_snapshot_parse(PQgetvalue(r, 0, 0), out) : -1;
    PQclear(r);
    return rc ? err_set(err, ERR_FATAL, "protocol_violation",
                        "the server gave a snapshot that cannot be read")
              : 0;
}

/* --- open, close
 * -----------------------------------------------------------------------------------------------
 */

static int read_server(struct pgsrc *s, struct err *err) {
    PGresult *r = pgsrc_query(s->ctl, err,
                              "SELECT (SELECT system_identifier FROM pg_control_system()), "
                              "current_database(), current_setting('wal_block_size'),"
                              " pg_size_bytes(current_setting('wal_segment_size')), "
                              "current_setting('server_version'), pg_is_in_recovery()",
                              0, NULL);
    if (!r) {
        return -1;
    }
    snprintf(s->system, sizeof s->system, "%s", PQgetvalue(r, 0, 0));
    snprintf(s->database, sizeof s->database, "%s", PQgetvalue(r, 0, 1));
    s->wal_page_bytes = (uint32_t)strtoul(PQgetvalue(r, 0, 2), NULL, 10);
    s->wal_segment_bytes = (uint32_t)strtoul(PQgetvalue(r, 0, 3), NULL, 10);
    const char *version = PQgetvalue(r, 0, 4);
    snprintf(s->server, sizeof s->server, "PostgreSQL %.*s", (int)strcspn(version, " "), version);
    bool standby = PQgetvalue(r, 0, 5)[0] == 't';
    PQclear(r);
    if (standby) {
        err_set(err, ERR_FATAL, "standby",
                "the server is a standby: snapshots and the log of a standby are not proven to fit "
                "together");
        return err_cure(err, "name the primary server in the job's URL");
    }
    return 0;
}

static int take_name(char *out, size_t cap, const char *key, const char *name, struct err *err) {
    if (!name[0] || strlen(name) >= cap) {
        err_set(err, ERR_FATAL, "option_value",
                "the value of ?%s= has no or more than %zu bytes: \"%s\"", key, cap - 1, name);
        return err_exit(err, EXIT_USAGE);
    }
    snprintf(out, cap, "%s", name);
    return 0;
}

static int take_names(struct pgsrc *s, struct err *err) {
    const char *slot = opts_text(s->addr.opts, "slot"),
               *publication = opts_text(s->addr.opts, "publication");
    s->own_slot = !slot;
    s->own_publications = !publication;
    char own[64];
    snprintf(own, sizeof own, "tailrace_%.40s", s->addr.job);
    if (take_name(s->slot, sizeof s->slot, "slot", slot ? slot : own, err) ||
        take_name(s->publication, sizeof s->publication, "publication",
                  publication ? publication : own, err)) {
        return -1;
    }
    if (s->own_publications) {
        snprintf(s->append_publication, sizeof s->append_publication, "%.49s_append", own);
    }
    return 0;
}

static void op_close(struct source *source) {
    struct pgsrc *s = (struct pgsrc *)source;
    if (s) {
        pgsrc_session_close(s->streaming);
        pgsrc_session_close(s->ctl);
        pgsrc_types_free(s->types);
        free(s);
    }
}

static int op_open(const struct source_address *addr, struct env *env, table_select_fn select,
                   const void *rules, struct source **out, struct err *err) {
    struct pgsrc *s = xcalloc(1, sizeof *s);
    s->base.ops = &pgsrc_ops;
    s->addr = *addr;
    s->env = env;
    s->select = select;
    s->rules = rules;
    s->types = pgsrc_types_new();
    s->nudged_us = INT64_MIN;
    if (take_names(s, err) || pgsrc_connect(s, "ctl", false, &s->ctl, err) || read_server(s, err)) {
        op_close(&s->base);
        return -1;
    }
    *out = &s->base;
    return 0;
}

/* --- questions
 * -------------------------------------------------------------------------------------------------
 */

/* The server knows no sizes of tables that were never vacuumed or analysed: their files are looked
 * at, which takes the lock of a SELECT for a moment. */
static const char sizes_sql[] =
    "WITH RECURSIVE leaf(root, oid) AS (SELECT oid, oid FROM pg_class WHERE oid = ANY ($1::oid[]) "
    "UNION ALL SELECT l.root, i.inhrelid FROM leaf l JOIN pg_class p ON p.oid = l.oid AND "
    "p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = l.oid)"
    " SELECT l.root, coalesce(sum(pg_relation_size(c.oid) + CASE WHEN c.reltoastrelid = 0 THEN 0 "
    "ELSE pg_relation_size(c.reltoastrelid) END), 0)::bigint"
    " FROM leaf l JOIN pg_class c ON c.oid = l.oid WHERE c.relkind = 'r' AND c.relpages = 0 AND "
    "c.reltuples < 0 GROUP BY l.root ORDER BY l.root";

/* Sizes are for people and for cutting: while somebody has a table locked they stay 0. */
static int measure(struct pgsrc *s, struct source_catalogue *c, struct err *err) {
    if (c->count == 0) {
        return 0;
    }
    struct buf oids;
    buf_init(&oids, SIZE_MAX);
    for (uint32_t i = 0; i < c->count; i++) {
        buf_putf(&oids, "%c%llu", i ? ',' : '{', (unsigned long long)c->tables[i].schema->table_id);
    }
    buf_putc(&oids, '}');
    const char *params[] = { buf_cstr(&oids) };
    PGresult *r = NULL;
    if (pgsrc_run(s->ctl, err, "BEGIN READ ONLY; SET LOCAL lock_timeout = '100ms'") == 0) {
        r = pgsrc_query(s->ctl, err, sizes_sql, 1, params);
    }
    buf_release(&oids);
    uint32_t at = 0;
    for (int row = 0; r && row < PQntuples(r); row++) {
        uint64_t oid = strtoull(PQgetvalue(r, row, 0), NULL, 10);
        while (at < c->count && c->tables[at].schema->table_id < oid) {
            at++;
        }
        if (at < c->count && c->tables[at].schema->table_id == oid) {
            c->tables[at].bytes_estimate += strtoull(PQgetvalue(r, row, 1), NULL, 10);
        }
    }
    PQclear(r);
    if (!r && err->kind == ERR_RETRY) {
        err_clear(err);
        return pgsrc_run(s->ctl, err, "ROLLBACK");
    }
    return r ? pgsrc_run(s->ctl, err, "COMMIT") : -1;
}

static int op_catalogue(struct source *source, struct source_catalogue *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(s, 0);
    if (pgsrc_catalogue_read(s->ctl, s->types, &ask, out, err)) {
        return -1;
    }
    snprintf(out->server, sizeof out->server, "%s", s->server);
    /* W: a statement of its own, after the definitions */
    if (measure(s, out, err) || pgsrc_log_end(s, s->ctl, &out->defined_at, err)) {
        source_catalogue_release(out);
        return -1;
    }
    return 0;
}

static int op_probe(struct source *source, struct snapshot *out, struct err *err) {
    return pgsrc_probe(((struct pgsrc *)source)->ctl, out, err);
}

/* The commit of a transaction that wrote something is flushed by the session itself, and all of the
 * log before it: an empty message does, which pgoutput passes over. A role that may not write one
 * takes a number only: its commit wakes the server's log writer, which sleeps wal_writer_delay.
 * Neither waits for a standby. */
static const char *const nudges[] = {
    "BEGIN; SET LOCAL transaction_read_only = off; SET LOCAL synchronous_commit = local; SELECT "
    "pg_logical_emit_message(true, 'tailrace', ''); COMMIT",
    "BEGIN; SET LOCAL transaction_read_only = off; SET LOCAL synchronous_commit = off; SELECT "
    "pg_current_xact_id(); COMMIT",
};

static int op_nudge(struct source *source, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    int64_t now = clock_mono_us();
    if (s->nudged_us != INT64_MIN && now - s->nudged_us < NUDGE_US) {
        return 0;
    }
    s->nudged_us = now;
    int rc = pgsrc_run(s->ctl, err, nudges[s->nudge_plain]);
    bool denied = rc && strcmp(s->ctl->state, "42501") == 0;
    struct err later = ERR_INIT; /* of a session that is lost */
    if (rc && (pgsrc_run(s->ctl, &later, "ROLLBACK") || !denied || s->nudge_plain)) {
        return -1;
    }
    if (rc) {
        err_clear(err);
        s->nudge_plain = true;
        rc = pgsrc_run(s->ctl, err, nudges[s->nudge_plain]);
    }
    return rc;
}

static int op_log_end(struct source *source, struct logpos *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    return pgsrc_log_end(s, s->ctl, out, err);
}

static int op_status(struct source *source, struct source_status *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    *out = (struct source_status){ .retained_bytes = 0 };
    if (pgsrc_log_end(s, s->ctl, &out->log_end, err)) {
        return -1;
    }
    const char *params[] = { s->slot };
    PGresult *r =
        pgsrc_query(s->ctl, err,
                    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint, "
                    "coalesce(wal_status, 'unknown'), active, confirmed_flush_lsn,"
                    " coalesce(safe_wal_size::text, 'unlimited') FROM pg_replication_slots WHERE "
                    "slot_name = $1",
                    1, params);
    if (!r) {
        return -1;
    }
    if (PQntuples(r) == 0) {
        snprintf(out->detail, sizeof out->detail, "slot %s does not exist", s->slot);
    } else {
        out->retained_bytes = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
        snprintf(out->detail, sizeof out->detail,
                 "slot %s %s, confirmed %s, log kept: %s, still allowed: %s bytes", s->slot,
                 PQgetvalue(r, 0, 2)[0] == 't' ? "in use" : "not in use", PQgetvalue(r, 0, 3),
                 PQgetvalue(r, 0, 1), PQgetvalue(r, 0, 4));
    }
    PQclear(r);
    return 0;
}

static int op_put_logpos(struct buf *out, struct logpos pos) {
    pgsrc_lsn_put(out, pos.offset);
    return 0;
}

static int op_take_logpos(const char *text, struct logpos *out) {
    out->segment = 0;
    return pgsrc_lsn_parse(text, &out->offset);
}

const struct source_ops pgsrc_ops = {
    .name = "postgres",
    .opts = options,
    .open = op_open,
    .close = op_close,
    .examine = pgsrc_op_examine,
    .catalogue = op_catalogue,
    .start = pgsrc_op_start,
    .capture = pgsrc_op_capture,
    .probe = op_probe,
    .nudge = op_nudge,
    .log_end = op_log_end,
    .status = op_status,
    .rewritten = pgsrc_rewritten,
    .added = pgsrc_added,
    .drop = pgsrc_op_drop,
    .drop_plan = pgsrc_op_drop_plan,
    .slots = pgsrc_op_slots,
    .log_open = pgsrc_op_log_open,
    .log_close = pgsrc_op_log_close,
    .log_next = pgsrc_op_log_next,
    .log_idle = pgsrc_op_log_idle,
    .log_ack = pgsrc_op_log_ack,
    .log_wake = pgsrc_op_log_wake,
    .log_want = pgsrc_op_log_want,
    .lane_open = pgsrc_op_lane_open,
    .lane_close = pgsrc_op_lane_close,
    .lane_cut = pgsrc_op_lane_cut,
    .lane_begin = pgsrc_op_lane_begin,
    .lane_join = pgsrc_op_lane_join,
    .lane_read = pgsrc_op_lane_read,
    .lane_next = pgsrc_op_lane_next,
    .lane_stop = pgsrc_op_lane_stop,
    .lane_end = pgsrc_op_lane_end,
    .put_logpos = op_put_logpos,
    .take_logpos = op_take_logpos,
};
