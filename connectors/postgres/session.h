/* A session with a PostgreSQL server: connect and authenticate with libpq, TLS, pinned settings,
 * errors, quoting, time-outs.
 *
 * A leaf: knows nothing of change data capture, so that a sink that writes to PostgreSQL may
 * include it too. Foreign errors are mapped here, once: SQLSTATE -> kind, code, cure. Thread: one
 * owner at a time. */
#pragma once
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/buf.h"
#include "cdc/base/err.h"

struct pgsrc_login {
    const char *hosts;         /* "a:1,b:2", "[::1]:5432", NULL or "" = libpq's default */
    const char *database;      /* NULL = libpq's default */
    const char *user, *secret; /* NULL = libpq's default */
    const char *const *extra;  /* NULL or key, value, key, value..., NULL: libpq's own keys */
    const char *application;   /* application_name */
    bool replication;          /* replication=database */
    bool standby;              /* a server in recovery is accepted */
};
struct pgsrc_session {
    PGconn *conn;
    int version;      /* 150020 */
    char state[6];    /* SQLSTATE of the last statement's error; "" = none, or no answer */
    PGresult *result; /* inside a statement: what has arrived; the rest likewise */
    bool failed;
    struct err failure;
    const char *prepared[8]; /* texts of the prepared statements "s0", "s1"... */
    unsigned prepared_count;
};

/* ERR_RETRY: nobody there, starting up, too many clients. ERR_FATAL: refused, TLS, no such
 * database, wrong settings, standby. */
int pgsrc_session_open(const struct pgsrc_login *login, struct pgsrc_session **out,
                       struct err *err) TR_MUST_CHECK;
void pgsrc_session_close(struct pgsrc_session *s); /* NULL is fine */

/* One statement with text parameters (NULL = SQL null), text results; or, without parameters,
 * several joined by `;` (the last result counts). NULL on error. The server has 60 s for it, then
 * the session is broken: ERR_REWIND "server_silent". */
PGresult *pgsrc_query(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                      const char *const *params) TR_MUST_CHECK;
/* The same with a statement that is prepared when it is met first: for those that a session asks
 * again and again. sql is told by its address: a constant. At most 8 of them a session. */
PGresult *pgsrc_query_prepared(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                               const char *const *params) TR_MUST_CHECK;
/* The same with binary results. */
PGresult *pgsrc_query_binary(struct pgsrc_session *s, struct err *err, const char *sql, int count,
                             const char *const *params) TR_MUST_CHECK;
/* The same where no rows are wanted. */
int pgsrc_run(struct pgsrc_session *s, struct err *err, const char *sql) TR_MUST_CHECK;
/* In two steps, to do something while the server works: send, then poll until it is done. poll: 1 =
 * *out is the result, 0 = not yet, -1 = error. */
int pgsrc_send(struct pgsrc_session *s, struct err *err, const char *sql, int count,
               const char *const *params) TR_MUST_CHECK;
int pgsrc_poll(struct pgsrc_session *s, int64_t deadline_us, PGresult **out,
               struct err *err) TR_MUST_CHECK;
/* What an error of the server means. message is text from the server. Returns -1. Pure. */
int pgsrc_server_error(struct err *err, const char *sqlstate, const char *message,
                       const char *during);

/* Appends "name" / 'text' with quotes doubled; text with a backslash becomes E'..'. NUL cannot
 * occur. Pure. */
void pgsrc_put_ident(struct buf *out, const char *name);
void pgsrc_put_literal(struct buf *out, const char *text);
void pgsrc_put_table(struct buf *out, const char *space, const char *name); /* "space"."name" */
/* Are all hosts of the list this machine (loopback addresses, localhost, Unix sockets, nothing)?
 * Pure. */
bool pgsrc_hosts_are_local(const char *hosts);
/* Does all that libpq will take as a host, its own keys and environment variables included, lie on
 * this machine? Only then is TLS without verification the default. Reads the environment. */
bool pgsrc_login_is_local(const struct pgsrc_login *login);
