/* Sessions: see session.h. libpq connects and authenticates; settings that change what values look
 * like are pinned by the startup packet, so that no role or database default can change the stream.
 * Nothing here retries or sleeps beyond its time-out. Never logs; never puts a secret into an
 * error. */
#include "connectors/postgres/session.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/os/wait_fd.h"

#define CONNECT_US (10 * US_PER_S)
#define QUERY_US (60 * US_PER_S)
#define WORDS_MAX 96

static const char pinned[] =
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex -c "
    "timezone=UTC -c row_security=off "
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 -c "
    "default_transaction_read_only=off -c synchronous_commit=local -c lock_timeout=5s -c "
    "search_path=pg_catalog -c standard_conforming_strings=on -c xmlbinary=base64 -c jit=off -c "
    "max_parallel_workers_per_gather=0";

/* --- errors
 * ----------------------------------------------------------------------------------------------------
 */

struct state_rule {
    const char *prefix; /* of the SQLSTATE; the first match wins */
    enum err_kind kind;
    const char *code;
    int exit;
    const char *cure;
};
static const struct state_rule state_rules[] = {
    { "57P03", ERR_RETRY, "server_starting", EXIT_ERROR, "" },
    { "57P04", ERR_FATAL, "database_missing", EXIT_ERROR, "" },
    { "57014", ERR_RETRY, "query_cancelled", EXIT_ERROR, "" },
    { "57P", ERR_REWIND, "connection_ended", EXIT_ERROR, "" },
    { "08P01", ERR_FATAL, "protocol_violation", EXIT_ERROR, "" },
    { "08", ERR_REWIND, "connection_lost", EXIT_ERROR, "" },
    { "25P0", ERR_REWIND, "transaction_ended", EXIT_ERROR, "" },
    { "53", ERR_RETRY, "server_busy", EXIT_ERROR, "" },
    { "55P03", ERR_RETRY, "lock_timeout", EXIT_ERROR, "" },
    { "40", ERR_RETRY, "try_again", EXIT_ERROR, "" },
    { "55006", ERR_RETRY, "slot_in_use", EXIT_FENCED, "" },
    { "58P01", ERR_FATAL, "log_missing", EXIT_LINEAGE,
      "tailrace slots shows the slot; drop the job, then start it with a new target" },
    { "28", ERR_FATAL, "login_refused", EXIT_ERROR,
      "check user, password and pg_hba.conf of the server" },
    { "3D000", ERR_FATAL, "database_missing", EXIT_ERROR,
      "check the database in the source's URL; psql -l lists them" },
    { "42501", ERR_FATAL, "permission_denied", EXIT_PLAN,
      "tailrace plan prints the GRANT that is missing" },
    { "42P01", ERR_FATAL, "table_missing", EXIT_ERROR, "" },
    { "42704", ERR_FATAL, "object_missing", EXIT_ERROR, "" },
    { "XX001", ERR_FATAL, "source_damaged", EXIT_ERROR, "" },
    { "XX002", ERR_FATAL, "source_damaged", EXIT_ERROR, "" },
};

int pgsrc_server_error(struct err *err, const char *sqlstate, const char *message,
                       const char *during) {
    char line[400];
    snprintf(line, sizeof line, "%s", message ? message : "");
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 0; i < ARRAY_COUNT(state_rules); i++) {
        const struct state_rule *r = &state_rules[i];
        if (strncmp(sqlstate, r->prefix, strlen(r->prefix)) == 0) {
            err_set(err, r->kind, r->code, "%s: %s (SQLSTATE %s)", during, line, sqlstate);
            err_exit(err, r->exit);
            if (r->cure[0]) {
                err_cure(err, "%s", r->cure);
            }
            return -1;
        }
    }
    return err_set(err, ERR_FATAL, "server_error", "%s: %s (SQLSTATE %s)", during, line, sqlstate);
}

/* Messages of libpq in verbose form: "FATAL:  28P01: text". Empty if no SQLSTATE is in it. */
static void state_of_message(const char *message, char out[6]) {
    out[0] = '\0';
    for (const char *p = strstr(message, ":  "); p; p = strstr(p + 1, ":  ")) {
        size_t n = strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n == 5 && p[8] == ':') {
            memcpy(out, p + 3, 5);
            out[5] = '\0';
            return;
        }
    }
}

static int connect_error(struct pgsrc_session *s, struct err *err) {
    const char *message = PQerrorMessage(s->conn);
    char state[6];
    state_of_message(message, state);
    if (state[0]) {
        const char *text = strstr(message, state);
        return pgsrc_server_error(err, state, text + 7, "connect to PostgreSQL");
    }
    char line[400];
    snprintf(line, sizeof line, "%s", message);
    line[strcspn(line, "\n")] = '\0';
    if (strstr(message, "certificate") || strstr(message, "SSL") || strstr(message, "sslmode")) {
        err_set(err, ERR_FATAL, "tls_failed", "connect to PostgreSQL with TLS: %s", line);
        if (strstr(message, "does not support SSL")) {
            return err_cure(err, "set ssl = on at the server; on a network that you trust, "
                                 "?sslmode=disable in the URL goes without");
        }
        return err_cure(err, "sslrootcert=/path/to/ca.pem in the URL names the authority that "
                             "signed the server's certificate");
    }
    if (strstr(message, "expected authentication request")) {
        err_set(err, ERR_FATAL, "not_postgres", "connect to PostgreSQL: something else answers: %s",
                line);
        return err_cure(err, "check host and port of the source's URL");
    }
    if (strstr(message, "no password supplied") || strstr(message, "authentication")) {
        return err_set(err, ERR_FATAL, "login_refused", "connect to PostgreSQL: %s", line);
    }
    err_set(err, ERR_RETRY, "connect_failed", "connect to PostgreSQL: %s", line);
    return err_cure(err, "check host and port of the source, and that the server runs");
}

/* --- connecting
 * ------------------------------------------------------------------------------------------------
 */

/* Host i of "a:1,b:2": appends host and port to comma lists. */
static void split_hosts(const char *hosts, struct buf *names, struct buf *ports) {
    const char *p = hosts;
    for (bool first = true;; first = false) {
        size_t n = strcspn(p, ",");
        const char *name = p;
        size_t name_len = n;
        const char *port = "";
        size_t port_len = 0;
        const char *close = n && p[0] == '[' ? memchr(p, ']', n) : NULL;
        const char *colon = close ? memchr(close, ':', (size_t)(p + n - close)) : memchr(p, ':', n);
        if (colon) {
            port = colon + 1;
            port_len = (size_t)(p + n - port);
            name_len = (size_t)(colon - p);
        }
        if (close) {
            name = p + 1;
            name_len = (size_t)(close - name);
        }
        if (!first) {
            buf_putc(names, ',');
            buf_putc(ports, ',');
        }
        buf_put(names, name, name_len);
        buf_put(ports, port, port_len);
        if (!p[n]) {
            return;
        }
        p += n + 1;
    }
}

static bool host_is_local(const char *name, size_t len) {
    return len == 0 || name[0] == '/' || name[0] == '@' ||
           (len == 9 && memcmp(name, "localhost", 9) == 0) ||
           (len > 4 && memcmp(name, "127.", 4) == 0 && strspn(name, "0123456789.") >= len) ||
           (len == 3 && memcmp(name, "::1", 3) == 0);
}

bool pgsrc_hosts_are_local(const char *hosts) {
    struct buf names, ports;
    buf_init(&names, SIZE_MAX);
    buf_init(&ports, SIZE_MAX);
    split_hosts(hosts ? hosts : "", &names, &ports);
    bool local = true;
    for (const char *p = buf_cstr(&names);;) {
        size_t n = strcspn(p, ",");
        local = local && host_is_local(p, n);
        if (!p[n]) {
            break;
        }
        p += n + 1;
    }
    buf_release(&names);
    buf_release(&ports);
    return local;
}

static bool names_are_local(const char *names) {
    for (const char *p = names;; p++) {
        size_t n = strcspn(p, ",");
        if (!host_is_local(p, n)) {
            return false;
        }
        p += n;
        if (!*p) {
            return true;
        }
    }
}

static const char *extra_or_environment(const struct pgsrc_login *login, const char *key,
                                        const char *variable) {
    const char *value = variable ? getenv(variable) : NULL;
    for (const char *const *e = login->extra; e && e[0]; e += 2) {
        value = strcmp(e[0], key) == 0 ? e[1] : value;
    }
    return value && value[0] ? value : NULL;
}

bool pgsrc_login_is_local(const struct pgsrc_login *login) {
    const char *addresses = extra_or_environment(login, "hostaddr", "PGHOSTADDR");
    const char *hosts = extra_or_environment(login, "host", NULL);
    if (addresses) {
        return names_are_local(addresses);
    }
    if (extra_or_environment(login, "service", "PGSERVICE")) {
        return false; /* it may name any host */
    }
    if (hosts) {
        return names_are_local(hosts);
    }
    if (login->hosts && login->hosts[0]) {
        return pgsrc_hosts_are_local(login->hosts);
    }
    hosts = getenv("PGHOST");
    return !hosts || names_are_local(hosts);
}

/* The system's bundle of authorities; libpq 15 does not know where it is. */
static const char *system_roots(void) {
    static const char *const places[] = { "/etc/ssl/certs/ca-certificates.crt",
                                          "/etc/pki/tls/certs/ca-bundle.crt",
                                          "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        if (access(places[i], R_OK) == 0) {
            return places[i];
        }
    }
    return NULL;
}

struct words {
    const char *key[WORDS_MAX + 1], *value[WORDS_MAX + 1];
    size_t count;
};
static int word_add(struct words *w, const char *key, const char *value, struct err *err) {
    if (!value || !value[0]) {
        return 0;
    }
    if (w->count == WORDS_MAX) {
        err_set(err, ERR_FATAL, "option_value", "the source's URL has more than %d keys",
                WORDS_MAX);
        return err_exit(err, EXIT_USAGE);
    }
    w->key[w->count] = key;
    w->value[w->count++] = value;
    return 0;
}
static const char *word_get(const struct words *w, const char *key) {
    for (size_t i = w->count; i-- > 0;) {
        if (strcmp(w->key[i], key) == 0) {
            return w->value[i];
        }
    }
    return NULL;
}

/* Defaults, then the user's own keys, then what nobody may change: libpq lets the last one win. */
static int words_fill(struct words *w, const struct pgsrc_login *login, struct buf *names,
                      struct buf *ports, struct buf *options, struct err *err) {
    if (login->hosts && login->hosts[0]) {
        split_hosts(login->hosts, names, ports);
    }
    bool several = names->len && strchr(buf_cstr(names), ',');
    const struct {
        const char *key, *value;
    } defaults[] = {
        { "host", buf_cstr(names) },
        { "port", buf_cstr(ports) },
        { "dbname", login->database },
        { "user", login->user },
        { "password", login->secret },
        { "sslmode", pgsrc_login_is_local(login) ? "allow" : "verify-full" },
        { "gssencmode", "disable" },
        { "connect_timeout", "10" },
        { "keepalives_idle", "30" },
        { "keepalives_interval", "10" },
        { "keepalives_count", "3" },
        { "tcp_user_timeout", "60000" },
        { "target_session_attrs", several && !login->standby ? "primary" : "any" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(defaults); i++) {
        if (word_add(w, defaults[i].key, defaults[i].value, err)) {
            return -1;
        }
    }
    for (const char *const *e = login->extra; e && e[0]; e += 2) {
        if (word_add(w, e[0], e[1], err)) {
            return -1;
        }
    }
    const char *mode = word_get(w, "sslmode");
    if (mode && strncmp(mode, "verify", 6) == 0 && !word_get(w, "sslrootcert") &&
        word_add(w, "sslrootcert", system_roots(), err)) {
        return -1;
    }
    const char *given = word_get(w, "options");
    buf_putf(options, "%s%s%s", given ? given : "", given ? " " : "", pinned);
    return word_add(w, "options", buf_cstr(options), err) ||
                   word_add(w, "client_encoding", "UTF8", err) ||
                   word_add(w, "application_name", login->application, err) ||
                   word_add(w, "replication", login->replication ? "database" : "false", err)
               ? -1
               : 0;
}

static void no_notice(void *arg, const PGresult *result) {
    (void)arg;
    (void)result;
}

static int connect_wait(struct pgsrc_session *s, struct err *err) {
    int64_t deadline = clock_mono_us() + CONNECT_US;
    PostgresPollingStatusType step = PGRES_POLLING_WRITING;
    while (step != PGRES_POLLING_OK) {
        if (step == PGRES_POLLING_FAILED) {
            return connect_error(s, err);
        }
        if (!wait_fd(PQsocket(s->conn), step == PGRES_POLLING_READING ? POLLIN : POLLOUT, NULL,
                     deadline)) {
            const char *host = PQhost(s->conn);
            err_set(err, ERR_RETRY, "connect_failed",
                    "connect to PostgreSQL at \"%s\" port %s: no answer within 10 s",
                    host ? host : "", PQport(s->conn));
            return err_cure(err, "check host, port and firewall of the source, and that it is "
                                 "PostgreSQL that listens there");
        }
        step = PQconnectPoll(s->conn);
    }
    return 0;
}

static int session_check(struct pgsrc_session *s, const struct pgsrc_login *login,
                         struct err *err) {
    s->version = PQserverVersion(s->conn);
    if (s->version < 140000) {
        err_set(err, ERR_FATAL, "server_too_old", "PostgreSQL %d is too old: 14 or newer is needed",
                s->version / 10000);
        return err_exit(err, EXIT_PLAN);
    }
    static const char *const reported[][2] = {
        { "standard_conforming_strings", "on" },
        { "client_encoding", "UTF8" },
        { "DateStyle", "ISO, " },
        { "IntervalStyle", "postgres" },
        { "TimeZone", "UTC" },
    };
    bool taken = true;
    for (size_t i = 0; i < ARRAY_COUNT(reported); i++) {
        const char *value = PQparameterStatus(s->conn, reported[i][0]), *want = reported[i][1];
        size_t len = strlen(want) + (want[strlen(want) - 1] != ' '); /* "ISO, " and what follows */
        taken = taken && value && strncmp(value, want, len) == 0;
    }
    if (!taken) {
        err_set(
            err, ERR_FATAL, "settings_refused",
            "the server, or a pooler before it, does not take the settings of the startup packet");
        return err_cure(err, "connect to the server itself, not through a pooler");
    }
    const char *recovery = PQparameterStatus(s->conn, "in_hot_standby");
    if (!login->standby && recovery && strcmp(recovery, "on") == 0) {
        err_set(err, ERR_FATAL, "standby",
                "the server is a standby: snapshots and the log of a standby are not proven to fit "
                "together");
        return err_cure(err, "name the primary server in the job's URL");
    }
    return 0;
}

int pgsrc_session_open(const struct pgsrc_login *login, struct pgsrc_session **out,
                       struct err *err) {
    *out = NULL;
    struct words w = { .count = 0 };
    struct buf names, ports, options;
    buf_init(&names, SIZE_MAX);
    buf_init(&ports, SIZE_MAX);
    buf_init(&options, SIZE_MAX);
    struct pgsrc_session *s = xcalloc(1, sizeof *s);
    int rc = words_fill(&w, login, &names, &ports, &options, err);
    if (rc == 0) {
        s->conn = PQconnectStartParams(w.key, w.value, 0);
        if (!s->conn) {
            rc = err_set(err, ERR_RETRY, "connect_failed", "connect to PostgreSQL: out of memory");
        } else if (PQstatus(s->conn) == CONNECTION_BAD) {
            rc = connect_error(s, err);
            const char *message = PQerrorMessage(s->conn);
            if (strncmp(message, "invalid ", 8) == 0 ||
                strncmp(message, "could not match ", 16) == 0 ||
                strstr(message, "for connection option")) {
                err_set(err, ERR_FATAL, "option_value", "the source's URL: %.*s",
                        (int)strcspn(message, "\n"), message);
                err_exit(err, EXIT_USAGE);
            }
        } else {
            PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
            PQsetNoticeReceiver(s->conn, no_notice, NULL);
            rc = connect_wait(s, err);
        }
    }
    if (rc == 0) {
        rc = session_check(s, login, err);
    }
    if (rc == 0 && s->version >= 170000) { /* older servers refuse a startup packet that names it */
        rc = pgsrc_run(s, err, "SET transaction_timeout = 0");
    }
    buf_release(&names);
    buf_release(&ports);
    buf_release(&options);
    if (rc) {
        pgsrc_session_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void pgsrc_session_close(struct pgsrc_session *s) {
    if (s) {
        PQclear(s->result);
        PQfinish(s->conn);
        free(s);
    }
}

/* --- statements
 * ------------------------------------------------------------------------------------------------
 */

static int lost(struct pgsrc_session *s, struct err *err) {
    return err_set(err, ERR_REWIND, "connection_lost", "the connection to PostgreSQL broke: %s",
                   PQerrorMessage(s->conn));
}

static int send_statement(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                          const char *const *params, int binary) {
    s->state[0] = '\0';
    int sent = count || binary
                   ? PQsendQueryParams(s->conn, sql, count, NULL, params, NULL, NULL, binary)
                   : PQsendQuery(s->conn, sql);
    return sent ? 0 : lost(s, err);
}

int pgsrc_send(struct pgsrc_session *s, struct err *err, const char *sql, int count,
               const char *const *params) {
    return send_statement(s, err, sql, count, params, 0);
}

/* Keeps the first error and the last result of what the server says. */
static int keep_result(struct pgsrc_session *s, PGresult *r, bool *failed, struct err *err) {
    ExecStatusType status = PQresultStatus(r);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
        PQclear(s->result);
        s->result = r;
        return 0;
    }
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (!*failed) {
        *failed = true;
        if (state) {
            snprintf(s->state, sizeof s->state, "%.5s", state);
            pgsrc_server_error(err, state, PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY),
                               "query of PostgreSQL");
        } else {
            lost(s, err);
        }
    }
    PQclear(r);
    return status == PGRES_FATAL_ERROR && PQstatus(s->conn) == CONNECTION_OK ? 0 : -1;
}

int pgsrc_poll(struct pgsrc_session *s, int64_t deadline_us, PGresult **out, struct err *err) {
    for (;;) {
        int flushed = PQflush(s->conn);
        if (flushed < 0) {
            return lost(s, err);
        }
        while (!PQisBusy(s->conn)) {
            PGresult *r = PQgetResult(s->conn);
            if (!r) {
                *out = s->result;
                s->result = NULL;
                bool failed = s->failed;
                s->failed = false;
                if (failed) {
                    PQclear(*out);
                    *out = NULL;
                    *err = s->failure;
                    return -1;
                }
                return *out ? 1 : lost(s, err);
            }
            if (keep_result(s, r, &s->failed, &s->failure)) {
                *err = s->failure;
                return -1;
            }
        }
        if (!wait_fd(PQsocket(s->conn), flushed ? POLLIN | POLLOUT : POLLIN, NULL, deadline_us)) {
            return 0;
        }
        if (!PQconsumeInput(s->conn)) {
            return lost(s, err);
        }
    }
}

static PGresult *answer(struct pgsrc_session *s, struct err *err) {
    PGresult *r = NULL;
    int rc = pgsrc_poll(s, clock_mono_us() + QUERY_US, &r, err);
    if (rc == 0) {
        err_set(err, ERR_REWIND, "server_silent", "PostgreSQL did not answer a query within 60 s");
    }
    return rc == 1 ? r : NULL;
}

static PGresult *query(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                       const char *const *params, int binary) {
    return send_statement(s, err, sql, count, params, binary) ? NULL : answer(s, err);
}

PGresult *pgsrc_query_prepared(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                               const char *const *params) {
    unsigned i = 0;
    while (i < s->prepared_count && s->prepared[i] != sql) {
        i++;
    }
    char name[16];
    snprintf(name, sizeof name, "s%u", i);
    s->state[0] = '\0';
    if (i == s->prepared_count) {
        CHECK(i < ARRAY_COUNT(s->prepared));
        PGresult *r = NULL;
        if (!PQsendPrepare(s->conn, name, sql, count, NULL)) {
            lost(s, err);
        } else {
            r = answer(s, err);
        }
        if (!r) {
            return NULL;
        }
        PQclear(r);
        s->prepared[s->prepared_count++] = sql;
    }
    if (!PQsendQueryPrepared(s->conn, name, count, params, NULL, NULL, 0)) {
        lost(s, err);
        return NULL;
    }
    return answer(s, err);
}

PGresult *pgsrc_query(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                      const char *const *params) {
    return query(s, err, sql, count, params, 0);
}

PGresult *pgsrc_query_binary(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                             const char *const *params) {
    return query(s, err, sql, count, params, 1);
}

int pgsrc_run(struct pgsrc_session *s, struct err *err, const char *sql) {
    PGresult *r = query(s, err, sql, 0, NULL, 0);
    PQclear(r);
    return r ? 0 : -1;
}

/* --- quoting
 * ---------------------------------------------------------------------------------------------------
 */

void pgsrc_put_ident(struct buf *out, const char *name) {
    buf_putc(out, '"');
    for (const char *p = name; *p; p++) {
        if (*p == '"') {
            buf_putc(out, '"');
        }
        buf_putc(out, *p);
    }
    buf_putc(out, '"');
}

void pgsrc_put_literal(struct buf *out, const char *text) {
    bool escape = strchr(text, '\\') != NULL;
    buf_puts(out, escape ? "E'" : "'");
    for (const char *p = text; *p; p++) {
        if (*p == '\'' || *p == '\\') {
            buf_putc(out, *p);
        }
        buf_putc(out, *p);
    }
    buf_putc(out, '\'');
}

void pgsrc_put_table(struct buf *out, const char *space, const char *name) {
    pgsrc_put_ident(out, space);
    buf_putc(out, '.');
    pgsrc_put_ident(out, name);
}
