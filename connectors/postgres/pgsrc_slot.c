/* Slot and publications of the job: start, capture, drop. What to do at a start is decided in
 * pgsrc_start.c; here it is done. Order: publications first, then the slot; only then X, so that
 * every snapshot at or above it sees all that lies below the slot's start. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_lsn.h"
#include "connectors/postgres/pgsrc_start.h"

#define CREATE_US (600 * US_PER_S)
#define SAY_FIRST_US (2 * US_PER_S)
#define SAY_AGAIN_US (10 * US_PER_S)

static int read_slot(struct pgsrc *s, struct pgsrc_start_in *in, struct err *err) {
    const char *params[] = { s->slot };
    PGresult *r = pgsrc_query(
        s->ctl, err,
        "SELECT slot_type = 'logical' AND plugin = 'pgoutput', coalesce(database, ''), "
        "coalesce(wal_status, ''), coalesce(confirmed_flush_lsn::text, '0/0'),"
        " coalesce(to_jsonb(s)->>'invalidation_reason', ''), CASE WHEN active THEN '0/0'"
        " ELSE coalesce(restart_lsn::text, '0/0') END, two_phase FROM pg_replication_slots s"
        " WHERE slot_name = $1",
        1, params);
    if (!r) {
        return -1;
    }
    int rc = 0;
    in->slot.exists = PQntuples(r) == 1;
    if (in->slot.exists) {
        in->slot.logical_pgoutput = PQgetvalue(r, 0, 0)[0] == 't';
        snprintf(in->slot.database, sizeof in->slot.database, "%s", PQgetvalue(r, 0, 1));
        snprintf(in->slot.wal_status, sizeof in->slot.wal_status, "%s", PQgetvalue(r, 0, 2));
        snprintf(in->slot.cause, sizeof in->slot.cause, "%s", PQgetvalue(r, 0, 4));
        in->slot.two_phase = PQgetvalue(r, 0, 6)[0] == 't';
        rc = pgsrc_lsn_parse(PQgetvalue(r, 0, 3), &in->slot.confirmed) ||
             pgsrc_lsn_parse(PQgetvalue(r, 0, 5), &in->here.kept);
    }
    PQclear(r);
    return rc ? err_set(err, ERR_FATAL, "protocol_violation",
                        "the server gave a confirmed position that cannot be read")
              : 0;
}

/* The history file of the server's timeline; the first has none. The only place where a session of
 * the replication protocol is asked, since SQL does not tell. *out: malloc'd. */
static int read_history(struct pgsrc *s, uint32_t timeline, char **out, struct err *err) {
    struct pgsrc_session *session = NULL;
    char sql[48];
    snprintf(sql, sizeof sql, "TIMELINE_HISTORY %u", timeline);
    PGresult *r = NULL;
    if (pgsrc_connect(s, "ctl", true, &session, err) == 0) {
        r = pgsrc_query(session, err, sql, 0, NULL);
    }
    if (r && PQntuples(r) == 1 && PQnfields(r) > 1) {
        *out = xstrdup(PQgetvalue(r, 0, 1));
    } else if (r) {
        err_set(err, ERR_FATAL, "protocol_violation", "the server gave no history of timeline %u",
                timeline);
    }
    PQclear(r);
    pgsrc_session_close(session);
    return *out ? 0 : err_wrap(err, "read the history of the server's timeline");
}

/* Which timeline the server writes, and where it began. */
static int read_timeline(struct pgsrc *s, struct pgsrc_start_in *in, bool look_only, char **history,
                         struct err *err) {
    char file[64];
    if (pgsrc_scalar(s->ctl, err, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())", file,
                     sizeof file)) {
        return -1;
    }
    file[8] = '\0';
    in->here.timeline = (uint32_t)strtoul(file, NULL, 16);
    if (in->here.timeline == 0) {
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "the server gave the name of a log file that cannot be read");
    }
    /* A mere look before the first start tells what is missing, also to a role that may not ask. */
    if (in->here.timeline == 1 || (look_only && in->knows != TARGET_POSITION)) {
        return 0;
    }
    if (read_history(s, in->here.timeline, history, err)) {
        return -1;
    }
    in->history = *history;
    return pgsrc_history_end(*history, 0, &in->here.fork) == 1
               ? 0
               : err_set(err, ERR_FATAL, "protocol_violation",
                         "the server gave a history of timeline %u that cannot be read",
                         in->here.timeline);
}

/* *history: malloc'd, of in->history. */
static int gather(struct pgsrc *s, const struct source_start *req, struct pgsrc_start_in *in,
                  char **history, struct err *err) {
    *in = (struct pgsrc_start_in){ .knows = req->knows,
                                   .applied = req->applied.offset,
                                   .resume = req->resume.offset,
                                   .own_slot = s->own_slot };
    snprintf(in->here.system, sizeof in->here.system, "%s", s->system);
    snprintf(in->here.slot, sizeof in->here.slot, "%s", s->slot);
    snprintf(in->here.database, sizeof in->here.database, "%s", s->database);
    if (req->knows == TARGET_POSITION &&
        pgsrc_lineage_take(req->lineage ? req->lineage : "", &in->stored)) {
        err_set(err, ERR_FATAL, "position_damaged",
                "the lineage in the target's position cannot be read: \"%s\"",
                req->lineage ? req->lineage : "");
        return err_exit(err, EXIT_LINEAGE);
    }
    struct logpos end;
    struct pgsrc_publication_state publications;
    if (read_slot(s, in, err) || pgsrc_log_end(s, s->ctl, &end, err) ||
        (!req->temporary && read_timeline(s, in, req->look_only, history, err)) ||
        pgsrc_publication_state(s, &publications, err)) {
        return -1;
    }
    in->log_end = end.offset;
    in->publications = publications.exists && publications.append_exists;
    in->publication = publications.exists ? s->append_publication : s->publication;
    if (publications.wrong) {
        err_set(err, ERR_FATAL, "publication_wrong", "the publication \"%s\" %s",
                publications.wrong_name, pgsrc_publication_wrong(&publications));
        err_exit(err, EXIT_PLAN);
        return err_cure(
            err,
            "ALTER PUBLICATION \"%s\" SET (publish = '%s', publish_via_partition_root = true%s);",
            publications.wrong_name,
            strcmp(publications.wrong_name, s->append_publication) == 0
                ? "insert,truncate"
                : "insert,update,delete,truncate",
            publications.generated ? ", publish_generated_columns = none" : "");
    }
    return 0;
}

/* --- creating
 * --------------------------------------------------------------------------------------------------
 */

/* Says for whom the server waits. A session of its own, since the control session is waiting
 * itself. */
static void say_what_it_waits_for(struct pgsrc *s) {
    struct pgsrc_session *side = NULL;
    struct err ignored = ERR_INIT;
    if (pgsrc_connect(s, "ctl", false, &side, &ignored)) {
        log_warn(s->env->log, "ctl", "slot_waits",
                 "creating the slot %s waits for transactions that are still running", s->slot);
        return;
    }
    PGresult *r = pgsrc_query(
        side, &ignored,
        "SELECT format('pid %s, user %s, application %s, %s, for %s s', pid, usename, "
        "application_name, state, extract(epoch FROM now() - xact_start)::int)"
        " FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
        " UNION ALL SELECT format('prepared transaction %s of %s', gid, owner) FROM "
        "pg_prepared_xacts LIMIT 3",
        0, NULL);
    for (int i = 0; r && i < PQntuples(r); i++) {
        log_warn(s->env->log, "ctl", "slot_waits", "creating the slot %s waits for: %s", s->slot,
                 PQgetvalue(r, i, 0));
    }
    PQclear(r);
    pgsrc_session_close(side);
}

static void cancel(struct pgsrc_session *session) {
    char text[256];
    PGcancel *c = PQgetCancel(session->conn);
    if (c) {
        PQcancel(c, text, sizeof text);
        PQfreeCancel(c);
    }
}

/* The server first waits for every transaction that is running, however long. sql gives the slot's
 * position in column 0 or, as the replication command does, in column 1. */
static int wait_for_slot(struct pgsrc *s, struct pgsrc_session *session, const char *sql,
                         int column, uint64_t *from, struct err *err) {
    int64_t begun = clock_mono_us(), say_at = begun + SAY_FIRST_US;
    PGresult *r = NULL;
    if (pgsrc_send(session, err, sql, 0, NULL)) {
        return -1;
    }
    for (;;) {
        int rc = pgsrc_poll(session, say_at, &r, err);
        if (rc < 0) {
            return err_wrap(err, "create the slot %s", s->slot);
        }
        if (rc == 1) {
            break;
        }
        if (clock_mono_us() - begun > CREATE_US) {
            cancel(session); /* the session ends with this REWIND; the server forgets the unfinished
                                slot */
            err_set(err, ERR_REWIND, "slot_waits",
                    "creating the slot \"%s\" has waited 10 min for older transactions to end",
                    s->slot);
            return err_cure(err, "end the transactions that pg_stat_activity shows as oldest");
        }
        say_what_it_waits_for(s);
        say_at = clock_mono_us() + SAY_AGAIN_US;
    }
    int rc = PQntuples(r) == 1 && PQnfields(r) > column
                 ? pgsrc_lsn_parse(PQgetvalue(r, 0, column), from)
                 : -1;
    PQclear(r);
    if (rc) {
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "the server gave a slot position that cannot be read");
    }
    log_info(s->env->log, "ctl", "slot_created", "slot=%s database=%s", s->slot, s->database);
    return 0;
}

static int create_slot(struct pgsrc *s, struct pgsrc_session *session, const char *sql, int column,
                       uint64_t *from, struct err *err) {
    if (pgsrc_run(session, err, "SET lock_timeout = 0")) {
        return -1;
    }
    /* Whatever came of it: the session may be asked again. */
    int rc = wait_for_slot(s, session, sql, column, from, err);
    struct err later = ERR_INIT;
    return pgsrc_run(session, rc ? &later : err, "SET lock_timeout = '5s'") ? -1 : rc;
}

static int create_lasting(struct pgsrc *s, uint64_t *from, struct err *err) {
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_puts(&sql, "SELECT lsn FROM pg_create_logical_replication_slot(");
    pgsrc_put_literal(&sql, s->slot);
    buf_puts(&sql, ", 'pgoutput')");
    int rc = create_slot(s, s->ctl, buf_cstr(&sql), 0, from, err);
    buf_release(&sql);
    return rc;
}

/* A slot that ends with the session which will read it; a name of its own, so that several runs do
 * not meet. */
static int create_temporary(struct pgsrc *s, uint64_t *from, struct err *err) {
    uint32_t random;
    rng_bytes(&random, sizeof random);
    snprintf(s->slot, sizeof s->slot, "tailrace_%.40s_%08x", s->addr.job, random);
    pgsrc_session_close(s->streaming);
    s->streaming = NULL;
    if (pgsrc_connect(s, "log", true, &s->streaming, err)) {
        return -1;
    }
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_puts(&sql, "CREATE_REPLICATION_SLOT ");
    pgsrc_put_ident(&sql, s->slot);
    buf_puts(&sql, " TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
    int rc = create_slot(s, s->streaming, buf_cstr(&sql), 1, from, err);
    buf_release(&sql);
    return rc;
}

static int alter_publications(struct pgsrc *s, const uint64_t *only, uint32_t count,
                              struct err *err) {
    struct source_catalogue c;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(s, 0);
    if (pgsrc_catalogue_read(s->ctl, s->types, &ask, &c, err)) {
        return -1;
    }
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    int rc = pgsrc_publication_sql(s, &c, only, count, &sql, err) || pgsrc_run_lines(s, &sql, err)
                 ? -1
                 : 0;
    buf_release(&sql);
    source_catalogue_release(&c);
    return rc;
}

static int create(struct pgsrc *s, bool publications, bool temporary, uint64_t *from,
                  struct err *err) {
    if (!s->own_publications && !publications) {
        err_set(err, ERR_FATAL, "publication_missing",
                "the publication of ?publication= does not exist: \"%s\"", s->publication);
        err_exit(err, EXIT_PLAN);
        return err_cure(
            err,
            "CREATE PUBLICATION \"%s\" FOR TABLE ... WITH (publish_via_partition_root = true);",
            s->publication);
    }
    if (s->own_publications && alter_publications(s, NULL, 0, err)) {
        return -1;
    }
    if (FAILPOINT(s->env->failpoints, "postgres.start.before_slot", err)) {
        return -1;
    }
    return temporary ? create_temporary(s, from, err) : create_lasting(s, from, err);
}

static int see_from(struct pgsrc *s, uint64_t *out, struct err *err) {
    struct snapshot now;
    snapshot_init(&now);
    if (pgsrc_probe(s->ctl, &now, err)) {
        return -1;
    }
    *out = now.xmax;
    snapshot_release(&now);
    return 0;
}

/* What is stored with the position from now on. */
static int put_lineage(struct pgsrc *s, struct pgsrc_start_in *in, bool created, bool temporary,
                       char *out, size_t cap, struct err *err) {
    snprintf(in->here.slot, sizeof in->here.slot, "%s", s->slot);
    if (created && !temporary && read_slot(s, in, err)) {
        return -1;
    }
    if (!in->here.kept && in->here.timeline == in->stored.timeline) {
        in->here.kept = in->stored.kept; /* somebody still has the slot */
    }
    struct buf lineage;
    buf_init(&lineage, SIZE_MAX);
    pgsrc_lineage_put(&lineage, &in->here);
    CHECK(lineage.len < cap);
    snprintf(out, cap, "%s", buf_cstr(&lineage));
    buf_release(&lineage);
    return 0;
}

static int decide(struct pgsrc *s, const struct source_start *req, struct pgsrc_start_in *in,
                  bool temporary, enum pgsrc_start_action *action, uint64_t *from,
                  struct err *err) {
    char *history = NULL;
    int rc = gather(s, req, in, &history, err);
    if (temporary) {
        in->slot.exists = false; /* whatever slot a job of that name has, it is not asked for */
    }
    if (rc == 0) {
        rc = pgsrc_start_decide(in, action, from, err);
    }
    in->history = NULL;
    free(history);
    return rc;
}

int pgsrc_op_start(struct source *source, const struct source_start *req,
                   struct source_started *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    struct pgsrc_start_in in;
    enum pgsrc_start_action action;
    bool temporary = req->temporary && s->own_slot;
    *out = (struct source_started){ .see_from_tx = 0 };
    if (decide(s, req, &in, temporary, &action, &out->from.offset, err)) {
        return -1;
    }
    if (req->look_only) {
        return 0;
    }
    if (action == PGSRC_CREATE && create(s, in.publications, temporary, &out->from.offset, err)) {
        return -1;
    }
    if (see_from(s, &out->see_from_tx, err)) {
        return -1;
    }
    return put_lineage(s, &in, action == PGSRC_CREATE, temporary, out->lineage, sizeof out->lineage,
                       err);
}

/* --- capture
 * ---------------------------------------------------------------------------------------------------
 */

int pgsrc_op_capture(struct source *source, const uint64_t *table_ids, uint32_t count,
                     uint64_t *see_from_tx, struct logpos *from, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    /* With the user's own publication the catalogue has already refused what it does not carry. X
     * is given even if nothing had to be altered: an earlier run may have altered it and died
     * before X was stored. */
    if (count && s->own_publications && alter_publications(s, table_ids, count, err)) {
        return -1;
    }
    return see_from(s, see_from_tx, err) || pgsrc_log_end(s, s->ctl, from, err) ? -1 : 0;
}

/* --- drop, list
 * ------------------------------------------------------------------------------------------------
 */

int pgsrc_op_drop_plan(struct source *source, struct buf *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    struct pgsrc_start_in in = { .own_slot = s->own_slot };
    struct pgsrc_publication_state publications;
    if (read_slot(s, &in, err) || pgsrc_publication_state(s, &publications, err)) {
        return -1;
    }
    if (s->own_slot && in.slot.exists) {
        buf_puts(out, "SELECT pg_drop_replication_slot(");
        pgsrc_put_literal(out, s->slot);
        buf_puts(out, ");\n");
    }
    for (int append = 0; append < 2 && s->own_publications; append++) {
        if (append ? publications.append_exists : publications.exists) {
            buf_puts(out, "DROP PUBLICATION ");
            pgsrc_put_ident(out, append ? s->append_publication : s->publication);
            buf_puts(out, ";\n");
        }
    }
    return 0;
}

int pgsrc_op_drop(struct source *source, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    struct buf lines;
    buf_init(&lines, SIZE_MAX);
    int rc = pgsrc_op_drop_plan(source, &lines, err) || pgsrc_run_lines(s, &lines, err) ? -1 : 0;
    if (rc && strcmp(err->code, "slot_in_use") == 0) {
        err_set(err, ERR_FATAL, "slot_in_use", "the slot \"%s\" is in use: the job runs", s->slot);
        err_exit(err, EXIT_FENCED);
        err_cure(err, "stop the job first");
    }
    buf_release(&lines);
    return rc;
}

int pgsrc_op_slots(struct source *source, struct buf *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    const char *params[] = { s->slot };
    PGresult *r =
        pgsrc_query(s->ctl, err,
                    "SELECT slot_name, database, CASE WHEN active THEN 'in use' ELSE 'idle' END, "
                    "coalesce(wal_status, 'unknown'), coalesce(confirmed_flush_lsn::text, '-'),"
                    " coalesce(pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), "
                    "restart_lsn)), '-') FROM pg_replication_slots"
                    " WHERE starts_with(slot_name, 'tailrace_') OR slot_name = $1 ORDER BY 1",
                    1, params);
    if (!r) {
        return -1;
    }
    buf_putf(out, "%-50s %-20s %-7s %-10s %-18s %s\n", "SLOT", "DATABASE", "STATE", "LOG",
             "CONFIRMED", "KEPT");
    for (int i = 0; i < PQntuples(r); i++) {
        buf_putf(out, "%-50s %-20s %-7s %-10s %-18s %s\n", PQgetvalue(r, i, 0), PQgetvalue(r, i, 1),
                 PQgetvalue(r, i, 2), PQgetvalue(r, i, 3), PQgetvalue(r, i, 4),
                 PQgetvalue(r, i, 5));
    }
    PQclear(r);
    return 0;
}
