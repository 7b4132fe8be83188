/* The limit of a PostgreSQL snapshot: a client that only receives. It includes nothing of tailrace.
 * libpq connects and authenticates; from then on messages are read off the socket in large pieces,
 * with SO_RCVLOWAT, and of each row only the length is looked at. It walks the key in chunks with
 * the statements that tailrace sends: `WHERE (key) > ($1, $2) AND (first) < ($3) ORDER BY key LIMIT
 * n`, binary results, the first key column cut into 4 sections a connection.
 *
 *     limit_pg CONNINFO SCHEMA.TABLE CONNECTIONS [CHUNK_ROWS]
 *
 * prints `rows=N bytes=N seconds=S`: seconds are those from the first byte of a row to the last
 * byte of all. Thread: one a connection; they share the list of sections. */
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    CONNECTIONS_MAX = 64,
    SECTIONS_EACH = 4,
    KEYS_MAX = 8,
    BUFFER = 1 << 20,
    WINDOW = 4 << 20,
    LOWAT = 128 << 10,
    LOWAT_MS = 2,
    HEAD = 5
};

struct cell {
    uint8_t bytes[16]; /* big-endian, as the server sends it and takes it */
    uint32_t len;
};
static struct {
    const char *conninfo;
    char *space, *name;
    char *columns; /* quoted, with commas */
    uint16_t column_count;
    uint16_t key_count;
    char *key[KEYS_MAX]; /* quoted */
    uint32_t key_oid[KEYS_MAX];
    uint16_t key_column[KEYS_MAX]; /* from 0 */
    uint32_t chunk_rows;
    int64_t bound[CONNECTIONS_MAX *
                  SECTIONS_EACH]; /* inner bounds: section i is [bound[i - 1], bound[i]) */
    unsigned sections;
} table;
static atomic_uint section_next;
static _Atomic int64_t first_ns = INT64_MAX, last_ns;

struct reader {
    pthread_t thread;
    PGconn *conn;
    int fd, lowat;
    uint8_t *data;
    size_t at, len, cap;
    uint64_t rows, bytes;
    struct cell last[KEYS_MAX]; /* key of the chunk's last row */
};
struct message {
    uint8_t data[8192];
    size_t len, start;
};

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("limit_pg: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t size) {
    void *p = calloc(1, size);
    if (!p) {
        fail("out of memory");
    }
    return p;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* --- the table
 * -----------------------------------------------------------------------------------------------------
 */

static PGconn *connect_pg(void) {
    PGconn *conn = PQconnectdb(table.conninfo);
    if (PQstatus(conn) != CONNECTION_OK) {
        fail("%s", PQerrorMessage(conn));
    }
    if (PQsslInUse(conn)) {
        fail("the connection uses TLS: add sslmode=disable");
    }
    return conn;
}

static PGresult *query(PGconn *conn, const char *sql, int count, const char *const *params) {
    PGresult *r = PQexecParams(conn, sql, count, NULL, params, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK) {
        fail("%s: %s", sql, PQerrorMessage(conn));
    }
    return r;
}

static char *copy(const char *s) {
    char *p = strdup(s);
    if (!p) {
        fail("out of memory");
    }
    return p;
}

static void describe(PGconn *conn) {
    const char *params[] = { table.space, table.name };
    PGresult *r = query(conn,
                        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), count(*) "
                        "FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
                        " JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND "
                        "relname = $2 AND attnum > 0 AND NOT attisdropped",
                        2, params);
    if (PQgetisnull(r, 0, 0)) {
        fail("there is no table %s.%s", table.space, table.name);
    }
    table.columns = copy(PQgetvalue(r, 0, 0));
    table.column_count = (uint16_t)atoi(PQgetvalue(r, 0, 1));
    PQclear(r);
    r = query(
        conn,
        "SELECT quote_ident(attname), atttypid, (SELECT count(*) FROM pg_attribute b WHERE "
        "b.attrelid = a.attrelid AND b.attnum > 0"
        " AND b.attnum < a.attnum AND NOT b.attisdropped) FROM pg_index i JOIN pg_class c ON c.oid "
        "= indrelid JOIN pg_namespace n ON n.oid = relnamespace,"
        " unnest(indkey) WITH ORDINALITY k(number, place) JOIN pg_attribute a ON attnum = number"
        " WHERE attrelid = c.oid AND nspname = $1 AND relname = $2 AND indisprimary ORDER BY place",
        2, params);
    table.key_count = (uint16_t)PQntuples(r);
    if (table.key_count == 0 || table.key_count > KEYS_MAX) {
        fail("%s.%s needs a primary key of at most %d columns", table.space, table.name, KEYS_MAX);
    }
    for (int i = 0; i < table.key_count; i++) {
        table.key[i] = copy(PQgetvalue(r, i, 0));
        table.key_oid[i] = (uint32_t)strtoul(PQgetvalue(r, i, 1), NULL, 10);
        table.key_column[i] = (uint16_t)atoi(PQgetvalue(r, i, 2));
    }
    PQclear(r);
}

/* Even sections between the least and the greatest value of the first key column, an integer. */
static void cut(PGconn *conn, unsigned pieces) {
    char sql[1024];
    snprintf(sql, sizeof sql, "SELECT min(%s)::bigint, max(%s)::bigint FROM ONLY \"%s\".\"%s\"",
             table.key[0], table.key[0], table.space, table.name);
    PGresult *r = query(conn, sql, 0, NULL);
    int64_t low = strtoll(PQgetvalue(r, 0, 0), NULL, 10),
            high = strtoll(PQgetvalue(r, 0, 1), NULL, 10), last = low;
    PQclear(r);
    for (unsigned i = 1; i < pieces; i++) {
        int64_t at = low + (int64_t)((__int128)(high - low) * i / pieces);
        if (at > last) {
            table.bound[table.sections++] = last = at;
        }
    }
    table.sections++;
}

/* --- messages
 * ------------------------------------------------------------------------------------------------------
 */

static void put(struct message *m, const void *p, size_t len) {
    if (m->len + len > sizeof m->data) {
        fail("the statement is too long");
    }
    memcpy(m->data + m->len, p, len);
    m->len += len;
}
static void put_be(struct message *m, uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        uint8_t b = (uint8_t)(v >> (8 * i));
        put(m, &b, 1);
    }
}
static void begin(struct message *m, char type) {
    put(m, &type, 1);
    m->start = m->len;
    put_be(m, 0, 4);
}
static void end(struct message *m) {
    uint32_t size = __builtin_bswap32((uint32_t)(m->len - m->start));
    memcpy(m->data + m->start, &size, 4);
}

/* ("a", "b") > ($1, $2) */
static int condition(char *out, size_t room, unsigned columns, const char *operator,
                     unsigned first) {
    int n = snprintf(out, room, "(");
    for (unsigned i = 0; i < columns; i++) {
        n += snprintf(out + n, room - (size_t)n, "%s%s", i ? ", " : "", table.key[i]);
    }
    n += snprintf(out + n, room - (size_t)n, ") %s (", operator);
    for (unsigned i = 0; i < columns; i++) {
        n += snprintf(out + n, room - (size_t)n, "%s$%u", i ? ", " : "", first + i);
    }
    return n + snprintf(out + n, room - (size_t)n, ")");
}

/* The next chunk: rows at or above low (a section's bound), or above it (the last row's key), and
 * below high. */
static void put_chunk(struct message *m, const struct cell *low, unsigned low_count, bool above,
                      const struct cell *high) {
    char sql[4096];
    int n = snprintf(sql, 3000, "SELECT %s FROM ONLY \"%s\".\"%s\"", table.columns, table.space,
                     table.name);
    if (n >= 3000) {
        fail("too many columns");
    }
    unsigned params = 0;
    if (low_count) {
        n += snprintf(sql + n, sizeof sql - (size_t)n, " WHERE ");
        n += condition(sql + n, sizeof sql - (size_t)n, low_count, above ? ">" : ">=", 1);
        params = low_count;
    }
    if (high) {
        n += snprintf(sql + n, sizeof sql - (size_t)n, "%s", low_count ? " AND " : " WHERE ");
        n += condition(sql + n, sizeof sql - (size_t)n, 1, "<", params + 1);
        params++;
    }
    for (int i = 0; i < table.key_count; i++) {
        n += snprintf(sql + n, sizeof sql - (size_t)n, "%s%s", i ? ", " : " ORDER BY ",
                      table.key[i]);
    }
    snprintf(sql + n, sizeof sql - (size_t)n, " LIMIT %u", table.chunk_rows);

    begin(m, 'P');
    put(m, "", 1);
    put(m, sql, strlen(sql) + 1);
    put_be(m, params, 2);
    for (unsigned i = 0; i < params; i++) {
        put_be(m, i < low_count ? table.key_oid[i] : table.key_oid[0], 4);
    }
    end(m);
    begin(m, 'B');
    put(m, "\0", 2);
    put_be(m, 1, 2);
    put_be(m, 1, 2); /* all parameters binary */
    put_be(m, params, 2);
    for (unsigned i = 0; i < params; i++) {
        const struct cell *c = i < low_count ? &low[i] : high;
        put_be(m, c->len, 4);
        put(m, c->bytes, c->len);
    }
    put_be(m, 1, 2);
    put_be(m, 1, 2); /* all results binary */
    end(m);
    begin(m, 'E');
    put(m, "\0\0\0\0", 5);
    end(m);
    begin(m, 'S');
    end(m);
}

/* --- receiving
 * -----------------------------------------------------------------------------------------------------
 */

static void set_lowat(struct reader *r, int bytes) {
    if (r->lowat != bytes) {
        setsockopt(r->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
        r->lowat = bytes;
    }
}

/* More bytes behind those that are left. */
static void fill(struct reader *r) {
    memmove(r->data, r->data + r->at, r->len - r->at);
    r->len -= r->at;
    r->at = 0;
    if (r->len == r->cap) {
        r->cap *= 2;
        r->data = realloc(r->data, r->cap);
        if (!r->data) {
            fail("out of memory");
        }
    }
    bool patient = true;
    for (;;) {
        ssize_t n = recv(r->fd, r->data + r->len, r->cap - r->len, MSG_DONTWAIT);
        if (n > 0) {
            r->len += (size_t)n;
            r->bytes += (uint64_t)n;
            return;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            fail("the connection broke: %s", n ? strerror(errno) : "closed");
        }
        set_lowat(r, patient ? LOWAT : 1);
        struct pollfd p = { .fd = r->fd, .events = POLLIN };
        if (poll(&p, 1, patient ? LOWAT_MS : -1) == 0) {
            patient = false;
        }
    }
}

static void keep_key(struct reader *r, const uint8_t *row, size_t len) {
    size_t at = 2;
    for (uint16_t column = 0, k = 0; column < table.column_count && at + 4 <= len; column++) {
        uint32_t size = get32(row + at);
        at += 4;
        for (k = 0; k < table.key_count; k++) {
            if (table.key_column[k] == column) {
                if (size > sizeof r->last[k].bytes || at + size > len) {
                    fail("a key of %u bytes", size);
                }
                memcpy(r->last[k].bytes, row + at, size);
                r->last[k].len = size;
            }
        }
        at += size == UINT32_MAX ? 0 : size;
    }
}

/* Receives the answer to a chunk; returns its rows. */
static uint32_t receive(struct reader *r) {
    uint32_t rows = 0;
    size_t last_row = SIZE_MAX; /* offset from r->at: the chunk's last row in the buffer */
    for (;;) {
        while (r->len - r->at < HEAD || r->len - r->at < 1 + (size_t)get32(r->data + r->at + 1)) {
            if (last_row != SIZE_MAX) { /* the buffer moves: keep what may have been the last row */
                keep_key(r, r->data + last_row + HEAD, get32(r->data + last_row + 1) - 4);
                last_row = SIZE_MAX;
            }
            fill(r);
        }
        const uint8_t *m = r->data + r->at;
        size_t size = 1 + (size_t)get32(m + 1);
        if (*m == 'D') {
            last_row = r->at;
            if (rows++ == 0 && atomic_load(&first_ns) == INT64_MAX) {
                int64_t none = INT64_MAX;
                atomic_compare_exchange_strong(&first_ns, &none, now_ns());
            }
        } else if (*m == 'E') {
            fail("the server reports: %.*s", (int)(size - HEAD), (const char *)m + HEAD);
        } else if (*m == 'Z') {
            if (last_row != SIZE_MAX) {
                keep_key(r, r->data + last_row + HEAD, get32(r->data + last_row + 1) - 4);
            }
            r->at += size;
            return rows;
        }
        r->at += size;
    }
}

static void ask(struct reader *r, const struct message *m) {
    for (size_t at = 0; at < m->len;) {
        ssize_t n = send(r->fd, m->data + at, m->len - at, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            struct pollfd p = { .fd = r->fd, .events = POLLOUT };
            poll(&p, 1, -1);
            continue;
        }
        if (n < 0) {
            fail("send: %s", strerror(errno));
        }
        at += (size_t)n;
    }
}

static struct cell bound_cell(unsigned i) {
    struct cell c = { .len = table.key_oid[0] == 20 ? 8 : table.key_oid[0] == 23 ? 4 : 2 };
    for (uint32_t b = 0; b < c.len; b++) {
        c.bytes[b] = (uint8_t)((uint64_t)table.bound[i] >> (8 * (c.len - 1 - b)));
    }
    return c;
}

static void *walk(void *arg) {
    struct reader *r = arg;
    unsigned section;
    while ((section = atomic_fetch_add(&section_next, 1)) < table.sections) {
        struct cell high =
            section + 1 < table.sections ? bound_cell(section) : (struct cell){ .len = 0 };
        struct cell low = section ? bound_cell(section - 1) : (struct cell){ .len = 0 };
        bool first = true;
        uint32_t rows;
        do {
            struct message m = { .len = 0 };
            put_chunk(&m, first ? &low : r->last, first ? section > 0 : table.key_count, !first,
                      high.len ? &high : NULL);
            ask(r, &m);
            rows = receive(r);
            r->rows += rows;
            first = false;
        } while (rows == table.chunk_rows);
    }
    int64_t now = now_ns(), seen = atomic_load(&last_ns);
    while (seen < now && !atomic_compare_exchange_weak(&last_ns, &seen, now)) {}
    return NULL;
}

static void open_reader(struct reader *r) {
    r->conn = connect_pg();
    PQclear(query(r->conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL));
    PQclear(query(r->conn, "SET LOCAL enable_seqscan = off", 0, NULL));
    PQclear(query(r->conn, "SET LOCAL enable_bitmapscan = off", 0, NULL));
    PQclear(query(r->conn, "SET LOCAL enable_sort = off", 0, NULL));
    r->fd = PQsocket(r->conn);
    r->lowat = 1;
    int window = WINDOW;
    setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    r->cap = BUFFER;
    r->data = allocate(r->cap);
}

int main(int argc, char **argv) {
    char *dot = argc >= 4 ? strchr(argv[2], '.') : NULL;
    unsigned count = dot ? (unsigned)atoi(argv[3]) : 0;
    table.chunk_rows = argc > 4 ? (uint32_t)atoi(argv[4]) : 100000;
    if (count == 0 || count > CONNECTIONS_MAX || argc > 5 || table.chunk_rows == 0) {
        fputs("usage: limit_pg CONNINFO SCHEMA.TABLE CONNECTIONS [CHUNK_ROWS]\n", stderr);
        return 2;
    }
    *dot = '\0';
    table.conninfo = argv[1];
    table.space = argv[2];
    table.name = dot + 1;
    struct reader *readers = allocate(count * sizeof *readers);
    for (unsigned i = 0; i < count; i++) {
        open_reader(&readers[i]);
    }
    describe(readers[0].conn);
    if (table.key_oid[0] != 20 && table.key_oid[0] != 21 && table.key_oid[0] != 23) {
        fail("the first key column must be an integer");
    }
    cut(readers[0].conn, count * SECTIONS_EACH);
    for (unsigned i = 0; i < count; i++) {
        if (pthread_create(&readers[i].thread, NULL, walk, &readers[i])) {
            fail("no thread");
        }
    }
    uint64_t rows = 0, bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(readers[i].thread, NULL);
        rows += readers[i].rows;
        bytes += readers[i].bytes;
        PQfinish(readers[i].conn);
        free(readers[i].data);
    }
    free(readers);
    double seconds = atomic_load(&first_ns) == INT64_MAX
                         ? 0
                         : (double)(atomic_load(&last_ns) - atomic_load(&first_ns)) / 1e9;
    printf("rows=%" PRIu64 " bytes=%" PRIu64 " seconds=%.4f\n", rows, bytes, seconds);
    return 0;
}
