/* The log session: takes the slot, reads the replication stream raw, and says what the target
 * holds.
 *
 * A segment ends at 1 MiB, when the socket has been quiet for 2 ms, or 20 ms after its first
 * message. Only log_ack moves what is confirmed to the server, and never backwards. Thread: the log
 * task; log_ack, log_want, log_wake: any. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/clock.h"
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_lsn.h"
#include "connectors/postgres/pgsrc_relation.h"
#include "connectors/postgres/pgsrc_wire.h"

#define SEGMENT_US (20 * US_PER_MS)
#define REPLY_US (10 * US_PER_S)
#define ACK_US US_PER_S
#define ASK_US (10 * US_PER_MS)
#define START_US (60 * US_PER_S)
#define ROW_SLACK (1u << 20)
#define MESSAGES_A_LOOK 64
#define LAST_WORDS_US (2 * US_PER_S)
#define ENDING_US (5 * US_PER_S)

struct pgsrc_log {
    struct source_log base;
    struct pgsrc *s;
    struct pgsrc_session *session;
    struct pgsrc_relations *relations;
    struct pgsrc_wire *wire;
    struct pgsrc_pgoutput *decoder;
    struct waker *waker;
    struct logpos from;
    int64_t reply_us; /* longest silence of ours */
    _Atomic uint64_t ack, want;
    uint64_t sent_ack, passed;
    int64_t sent_us, asked_us;
    bool reply_now;
    bool pending;       /* the decoder was fed since the last segment */
    int64_t pending_us; /* since when */
};

/* --- taking the slot
 * ------------------------------------------------------------------------------------------- */

static int stream_error(const struct pgsrc_log *log, const struct pgsrc_report *report,
                        struct err *err) {
    pgsrc_server_error(err, report->state, report->message, "read the log");
    if (strcmp(report->state, "55000") == 0 || strcmp(report->state, "58P01") == 0) {
        err_set(err, ERR_FATAL, "slot_invalidated",
                "the server cannot read on from the slot \"%s\": %s", log->s->slot,
                report->message);
    } else if (strcmp(report->state, "42704") == 0) {
        err_set(err, ERR_FATAL,
                strstr(report->message, "publication") ? "publication_lost" : "slot_lost",
                "read the log through the slot \"%s\": %s", log->s->slot, report->message);
    } else {
        return -1;
    }
    err_exit(err, EXIT_LINEAGE);
    return err_cure(err,
                    "to begin anew: tailrace drop JOB --yes, then run it with an empty target");
}

/* A server from 18 on only warns when a publication is missing, and drops its changes. */
static int check_notice(const struct pgsrc_message *m, struct err *err) {
    struct pgsrc_report report;
    pgsrc_report_parse(m->body, m->len, &report);
    if (strcmp(report.severity, "WARNING") == 0 &&
        (strstr(report.message, "skipped loading publication") ||
         strcmp(report.state, "55000") == 0)) {
        err_set(err, ERR_FATAL, "publication_lost", "the server leaves changes out: %s",
                report.message);
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err,
                        "to begin anew: tailrace drop JOB --yes, then run it with an empty target");
    }
    return 0;
}

static void put_start_command(const struct pgsrc_log *log, bool binary, struct buf *out) {
    const struct pgsrc *s = log->s;
    struct buf names;
    buf_init(&names, SIZE_MAX);
    pgsrc_put_ident(&names, s->publication);
    if (s->append_publication[0]) {
        buf_putc(&names, ',');
        pgsrc_put_ident(&names, s->append_publication);
    }
    size_t begun = pgsrc_put_begin(out, 'Q');
    buf_puts(out, "START_REPLICATION SLOT ");
    pgsrc_put_ident(out, s->slot);
    buf_puts(out, " LOGICAL ");
    pgsrc_lsn_put(out, log->from.offset);
    buf_puts(out, " (proto_version '1', publication_names '");
    const char *text = buf_cstr(&names);
    for (const char *p = text; *p; p++) {
        buf_puts(out, *p == '\'' ? "'" : "");
        buf_putc(out, *p);
    }
    buf_puts(out, binary ? "', binary 'true')" : "')");
    buf_putc(out, '\0');
    pgsrc_put_end(out, begun);
    buf_release(&names);
}

/* One attempt: *busy = somebody has the slot. The server's first word says why it failed: that it
 * hung up then says nothing. */
static int try_start(struct pgsrc_log *log, bool binary, bool *busy, struct err *err) {
    struct buf command;
    buf_init(&command, SIZE_MAX);
    put_start_command(log, binary, &command);
    int rc = pgsrc_wire_send(log->wire, command.data, command.len, err);
    buf_release(&command);
    bool failed = false;
    struct err later = ERR_INIT;
    *busy = false;
    int64_t deadline = clock_mono_us() + START_US;
    while (rc == 0) {
        struct pgsrc_message m;
        struct pgsrc_report report;
        enum pgsrc_fill got;
        struct err *now = failed ? &later : err;
        if (!pgsrc_wire_next(log->wire, &m)) {
            rc = pgsrc_wire_fill(log->wire, false, NULL, deadline, &got, now);
            if (rc == 0 && got == FILL_DEADLINE) {
                rc = err_set(now, ERR_REWIND, "server_silent",
                             "PostgreSQL did not start the log within 60 s");
            }
        } else if (m.type == 'W') {
            return 0;
        } else if (m.type == 'E') {
            pgsrc_report_parse(m.body, m.len, &report);
            *busy = *busy || (!failed && strcmp(report.state, "55006") == 0);
            stream_error(log, &report, now);
            failed = true;
        } else if (m.type == 'N') {
            rc = check_notice(&m, now);
        } else if (m.type == 'Z' && failed) {
            pgsrc_wire_pause(log->wire);
            return *busy ? 0 : -1;
        }
    }
    return -1;
}

struct holder {
    char pid[16], application[80], reply[48];
};

static int look_at_holder(struct pgsrc_log *log, struct holder *out, struct err *err) {
    struct pgsrc_session *side;
    const char *params[] = { log->s->slot };
    *out = (struct holder){ .pid = "" };
    if (pgsrc_relations_side(log->relations, &side, err)) {
        return -1;
    }
    PGresult *r = pgsrc_query(side, err,
                              "SELECT s.active_pid, coalesce(a.application_name, ''), "
                              "coalesce(w.reply_time::text, '') FROM pg_replication_slots s"
                              " LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid LEFT JOIN "
                              "pg_stat_replication w ON w.pid = s.active_pid"
                              " WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL",
                              1, params);
    if (!r) {
        return -1;
    }
    if (PQntuples(r)) {
        snprintf(out->pid, sizeof out->pid, "%s", PQgetvalue(r, 0, 0));
        snprintf(out->application, sizeof out->application, "%s", PQgetvalue(r, 0, 1));
        snprintf(out->reply, sizeof out->reply, "%s", PQgetvalue(r, 0, 2));
    }
    PQclear(r);
    return 0;
}

static int in_use(const struct pgsrc_log *log, const struct holder *h, const char *why,
                  struct err *err) {
    err_set(err, ERR_FATAL, "slot_in_use",
            "the slot \"%s\" is in use by process %s of the server (application %s): %s",
            log->s->slot, h->pid, h->application, why);
    err_cure(err, "stop the other instance (tailrace status shows it on its machine), or give this "
                  "job another name with ?job=NAME on the sink");
    return err_exit(err, EXIT_FENCED);
}

static int end_holder(struct pgsrc_log *log, const struct holder *h, bool say, struct err *err) {
    char wanted[80], said[8];
    struct pgsrc_session *side;
    snprintf(wanted, sizeof wanted, "tailrace:%s:log", log->s->addr.job);
    if (strcmp(h->application, wanted) != 0) {
        return in_use(log, h, "it is not ours to end", err);
    }
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_putf(&sql,
             "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %ld AND "
             "application_name = ",
             strtol(h->pid, NULL, 10));
    pgsrc_put_literal(&sql, wanted);
    if (say) {
        log_warn(log->s->env->log, "log", "slot_takeover",
                 "slot=%s pid=%s: its walsender is silent, ending it", log->s->slot, h->pid);
    }
    int rc = pgsrc_relations_side(log->relations, &side, err) ||
                     pgsrc_scalar(side, err, buf_cstr(&sql), said, sizeof said)
                 ? -1
                 : 0;
    buf_release(&sql);
    return rc;
}

/* The server's wal_sender_timeout in microseconds, 0 = none. */
static int sender_timeout(struct pgsrc_session *session, int64_t *out, struct err *err) {
    char text[32];
    if (pgsrc_scalar(session, err,
                     "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'",
                     text, sizeof text)) {
        return -1;
    }
    *out = strtoll(text, NULL, 10) * US_PER_MS;
    return 0;
}

/* Starts the stream, waiting for a dead holder of the slot (DESIGN section 3). timeout_us:
 * wal_sender_timeout. */
static int take_slot(struct pgsrc_log *log, bool binary, int64_t timeout_us, struct err *err) {
    int64_t begun = clock_mono_us(),
            patience = timeout_us ? timeout_us + 10 * US_PER_S : 70 * US_PER_S;
    int64_t pause = 20 * US_PER_MS, answered_us = -1;
    struct holder first = { .pid = "" }, now;
    bool ended = false, said = false, busy;
    for (;;) {
        if (try_start(log, binary, &busy, err)) {
            return -1;
        }
        if (!busy) {
            return 0;
        }
        err_clear(err);
        if (look_at_holder(log, &now, err)) {
            return -1;
        }
        int64_t waited = clock_mono_us() - begun;
        if (now.pid[0] && strcmp(now.pid, first.pid) != 0) {
            first = now; /* another holder: it gets its whole time */
            answered_us = -1;
            begun = clock_mono_us();
            waited = 0;
            ended = false;
        } else if (now.pid[0] && answered_us < 0 && strcmp(now.reply, first.reply) != 0) {
            answered_us =
                waited; /* or the last words of one that has just died: those are gone soon */
        } else if (now.pid[0] && answered_us >= 0 && waited - answered_us > LAST_WORDS_US) {
            return in_use(log, &now, "it answers, so another instance of the job is running", err);
        }
        if (waited > 2 * US_PER_S && !said) {
            said = true;
            log_warn(log->s->env->log, "log", "slot_wait",
                     "slot=%s is held by pid %s (%s): waiting up to %d s to see whether it lives",
                     log->s->slot, now.pid, now.application, (int)(patience / US_PER_S));
        }
        if (waited > patience + ENDING_US) {
            return in_use(log, &now, "it does not go away", err);
        }
        /* At each look: one that is stuck in writing to its dead client needs it twice. */
        if (waited > patience && now.pid[0] && end_holder(log, &now, !ended, err)) {
            return -1;
        }
        ended = waited > patience;
        clock_sleep_until_us(clock_mono_us() + pause);
        pause = pause < 500 * US_PER_MS ? pause * 2 : pause;
    }
}

static int open_stream(struct pgsrc_log *log, struct err *err) {
    struct pgsrc *s = log->s;
    struct snapshot now;
    int64_t timeout;
    snapshot_init(&now);
    log->session = s->streaming; /* of a temporary start */
    s->streaming = NULL;
    log->relations = pgsrc_relations_new(s, err);
    if (!log->relations || (!log->session && pgsrc_connect(s, "log", true, &log->session, err)) ||
        sender_timeout(log->session, &timeout, err) || pgsrc_probe(log->session, &now, err)) {
        return -1;
    }
    struct pgsrc_pgoutput_calls calls;
    pgsrc_relations_calls(log->relations, &calls);
    log->decoder = pgsrc_pgoutput_new(&calls);
    pgsrc_pgoutput_row_max(log->decoder, (size_t)s->env->row_bytes_max);
    pgsrc_pgoutput_widen_from(log->decoder, now.xmax);
    /* A slot's first keep-alives may name its restart_lsn, which lies below. */
    pgsrc_pgoutput_progress(log->decoder, log->from);
    snapshot_release(&now);
    log->reply_us = timeout && timeout / 3 < REPLY_US ? timeout / 3 : REPLY_US;
    bool binary = strcmp(opts_text(s->addr.opts, "binary"), "off") != 0 &&
                  pgsrc_relations_binary(log->relations);
    pgsrc_relations_expect_binary(log->relations, binary);
    /* A change with identity FULL carries two rows, each of which the decoder measures. */
    log->wire = pgsrc_wire_new(log->session, 2 * (size_t)s->env->row_bytes_max + ROW_SLACK);
    if (take_slot(log, binary, timeout, err)) {
        return -1;
    }
    char at[PGSRC_LSN_TEXT];
    log_info(s->env->log, "log", "connected", "server=%s slot=%s from=%s values=%s", s->server,
             s->slot, pgsrc_lsn_text(log->from.offset, at), binary ? "binary" : "text");
    return 0;
}

void pgsrc_op_log_close(struct source_log *base) {
    struct pgsrc_log *log = (struct pgsrc_log *)base;
    if (log) {
        pgsrc_pgoutput_free(log->decoder);
        pgsrc_wire_free(log->wire);
        pgsrc_relations_free(log->relations);
        pgsrc_session_close(log->session);
        waker_free(log->waker);
        free(log);
    }
}

int pgsrc_op_log_open(struct source *source, struct logpos from, struct source_log **out,
                      struct err *err) {
    struct pgsrc_log *log = xcalloc(1, sizeof *log);
    log->base.ops = &pgsrc_ops;
    log->s = (struct pgsrc *)source;
    log->from = from;
    log->waker = waker_new();
    log->passed = log->sent_ack = from.offset;
    atomic_init(&log->ack, from.offset);
    atomic_init(&log->want, 0);
    log->reply_now = true; /* the first reply at once: it shows that we live */
    log->sent_us = log->asked_us = clock_mono_us();
    if (open_stream(log, err)) {
        pgsrc_op_log_close(&log->base);
        return -1;
    }
    *out = &log->base;
    return 0;
}

/* --- other threads
 * --------------------------------------------------------------------------------------------- */

static bool raise(_Atomic uint64_t *cell, uint64_t to) {
    uint64_t was = atomic_load(cell);
    while (was < to) {
        if (atomic_compare_exchange_weak(cell, &was, to)) {
            return true;
        }
    }
    return false;
}

void pgsrc_op_log_ack(struct source_log *base, struct logpos resume) {
    raise(&((struct pgsrc_log *)base)->ack, resume.offset);
}

void pgsrc_op_log_wake(struct source_log *base) { waker_wake(((struct pgsrc_log *)base)->waker); }

void pgsrc_op_log_want(struct source_log *base, struct logpos pos) {
    struct pgsrc_log *log = (struct pgsrc_log *)base;
    if (raise(&log->want, pos.offset)) {
        waker_wake(log->waker);
    }
}

/* --- the stream
 * ------------------------------------------------------------------------------------------------
 */

static int send_status(struct pgsrc_log *log, bool ask, int64_t now, struct err *err) {
    uint64_t ack = atomic_load(&log->ack);
    CHECK(ack >= log->sent_ack);
    struct buf out;
    buf_init(&out, SIZE_MAX);
    size_t begun = pgsrc_put_begin(&out, 'd');
    buf_putc(&out, 'r');
    for (int i = 0; i < 3; i++) { /* written, flushed, applied: what the target holds */
        pgsrc_put_be64(&out, ack);
    }
    pgsrc_put_be64(&out, (uint64_t)(clock_wall_us() - INT64_C(946684800) * US_PER_S));
    buf_putc(&out, ask ? 1 : 0);
    pgsrc_put_end(&out, begun);
    int rc = pgsrc_wire_send(log->wire, out.data, out.len, err);
    buf_release(&out);
    log->sent_ack = ack;
    log->sent_us = now;
    log->asked_us = ask ? now : log->asked_us;
    log->reply_now = false;
    return rc;
}

/* Sends what is due; *next_us is when something will be due again. */
static int service(struct pgsrc_log *log, int64_t *next_us, struct err *err) {
    int64_t now = clock_mono_us();
    bool wanted = atomic_load(&log->want) > log->passed;
    bool ask = wanted && now - log->asked_us >= ASK_US;
    bool news = atomic_load(&log->ack) > log->sent_ack;
    if ((ask || log->reply_now || now - log->sent_us >= (news ? ACK_US : log->reply_us)) &&
        send_status(log, ask, now, err)) {
        return -1;
    }
    *next_us = log->sent_us + (news ? ACK_US : log->reply_us);
    if (wanted && log->asked_us + ASK_US < *next_us) {
        *next_us = log->asked_us + ASK_US;
    }
    return 0;
}

static void feed(struct pgsrc_log *log) {
    if (!log->pending) {
        log->pending = true;
        log->pending_us = clock_mono_us();
    }
}

static int take_frame(struct pgsrc_log *log, const struct pgsrc_message *m, struct err *err) {
    struct view v = view_of(m->body, m->len);
    uint8_t kind, reply;
    uint64_t start, end, time;
    if (take_u8(&v, &kind) == 0) {
        if (kind == 'w' && take_u64be(&v, &start) == 0 && take_u64be(&v, &end) == 0 &&
            take_u64be(&v, &time) == 0) {
            feed(log);
            metric_add(log->s->env->metrics, METRIC_LOG_BYTES, (int64_t)m->len);
            return pgsrc_pgoutput_message(log->decoder, v.at, view_left(&v), log->from, err);
        }
        if (kind == 'k' && take_u64be(&v, &end) == 0 && take_u64be(&v, &time) == 0 &&
            take_u8(&v, &reply) == 0) {
            log->reply_now = log->reply_now || reply;
            feed(log);
            pgsrc_pgoutput_progress(log->decoder, (struct logpos){ 0, end });
            return 0;
        }
    }
    return err_set(err, ERR_FATAL, "protocol_violation",
                   "PostgreSQL sent a replication frame of kind %02x that cannot be read",
                   m->len ? m->body[0] : 0);
}

static int take_message(struct pgsrc_log *log, const struct pgsrc_message *m, struct err *err) {
    struct pgsrc_report report;
    switch (m->type) {
    case 'd':
        return take_frame(log, m, err);
    case 'N':
        return check_notice(m, err);
    case 'S':
        return 0;
    case 'E':
        pgsrc_report_parse(m->body, m->len, &report);
        return stream_error(log, &report, err);
    case 'c':
    case 'C':
    case 'Z':
        return err_set(err, ERR_REWIND, "stream_ended", "PostgreSQL ended the log's stream");
    default:
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "PostgreSQL sent a message of type %02x in the log's stream",
                       (unsigned char)m->type);
    }
}

/* Decodes what is in the buffer. *full: the segment is due. */
static int take_buffered(struct pgsrc_log *log, bool *full, struct err *err) {
    struct pgsrc_message m;
    *full = false;
    for (unsigned n = 1; !*full && pgsrc_wire_next(log->wire, &m); n++) {
        if (take_message(log, &m, err)) {
            return -1;
        }
        *full = pgsrc_pgoutput_bytes(log->decoder) >= BATCH_BYTES_GOAL ||
                (n % MESSAGES_A_LOOK == 0 && log->pending &&
                 clock_mono_us() - log->pending_us >= SEGMENT_US);
    }
    return 0;
}

static bool take_segment(struct pgsrc_log *log, struct segment **out) {
    log->pending = false;
    *out = pgsrc_pgoutput_take(log->decoder);
    if (*out && (*out)->to.offset > log->passed) {
        log->passed = (*out)->to.offset;
    }
    return *out != NULL;
}

int pgsrc_op_log_next(struct source_log *base, int64_t deadline_us, struct segment **out,
                      struct err *err) {
    struct pgsrc_log *log = (struct pgsrc_log *)base;
    *out = NULL;
    for (;;) {
        bool full;
        int64_t until;
        enum pgsrc_fill got;
        if (take_buffered(log, &full, err) || service(log, &until, err)) {
            return -1;
        }
        if (full) { /* else there was nothing to give out, and more lies in the buffer */
            if (take_segment(log, out) || clock_mono_us() >= deadline_us) {
                return 0;
            }
            continue;
        }
        until = until < deadline_us ? until : deadline_us;
        if (pgsrc_wire_fill(log->wire, log->pending, log->waker, until, &got, err)) {
            return -1;
        }
        bool due =
            log->pending && (got != FILL_GOT || clock_mono_us() - log->pending_us >= SEGMENT_US);
        if (due && take_segment(log, out)) {
            return 0;
        }
        if (got == FILL_WOKEN) {
            waker_clear(log->waker);
            return service(log, &until, err);
        }
        if (clock_mono_us() >= deadline_us && got != FILL_GOT) {
            return 0;
        }
    }
}

int pgsrc_op_log_idle(struct source_log *base, int64_t deadline_us, struct err *err) {
    struct pgsrc_log *log = (struct pgsrc_log *)base;
    for (;;) {
        int64_t until;
        if (service(log, &until, err)) {
            return -1;
        }
        until = until < deadline_us ? until : deadline_us;
        int woke = wait_fd(-1, 0, log->waker, until);
        if (woke & WAIT_FD_WOKEN) {
            waker_clear(log->waker);
            return 0;
        }
        if (clock_mono_us() >= deadline_us) {
            return 0;
        }
    }
}
