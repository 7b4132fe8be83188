/* Raw messages: see pgsrc_wire.h. One buffer that starts at 512 KiB and grows to the largest
 * message allowed; what is left of a message is moved to its front before each read. */
#include "connectors/postgres/pgsrc_wire.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "cdc/base/clock.h"

#define BUFFER_BYTES (512u << 10)
#define LOWAT_BYTES (256 << 10)
#define WINDOW_BYTES (1 << 20)
#define LOWAT_US (2 * US_PER_MS)
#define SEND_US (60 * US_PER_S)
#define HEAD 5u /* type, length */

struct pgsrc_wire {
    int fd;
    SSL *tls; /* NULL = plain */
    uint8_t *data;
    size_t at, len, cap;
    size_t message_max;
    int lowat;
    short wants; /* what TLS waits for */
};

/* A mark that the system refuses costs speed only. */
static void set_lowat(struct pgsrc_wire *w, int bytes) {
    if (w->lowat != bytes) {
        (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
        w->lowat = bytes;
    }
}

struct pgsrc_wire *pgsrc_wire_new(struct pgsrc_session *session, size_t message_max) {
    struct pgsrc_wire *w = xcalloc(1, sizeof *w);
    w->fd = PQsocket(session->conn);
    w->tls = PQsslInUse(session->conn) ? PQsslStruct(session->conn, "OpenSSL") : NULL;
    w->cap = BUFFER_BYTES;
    w->data = xmalloc(w->cap);
    w->message_max = message_max < BUFFER_BYTES ? BUFFER_BYTES : message_max;
    w->wants = POLLIN;
    set_lowat(w, WINDOW_BYTES); /* the receive window grows with the mark, and stays */
    set_lowat(w, 1);
    return w;
}

void pgsrc_wire_allow(struct pgsrc_wire *w, size_t message_max) {
    CHECK(w->at == w->len);
    w->message_max = message_max < BUFFER_BYTES ? BUFFER_BYTES : message_max;
    if (w->cap > w->message_max) {
        w->at = w->len = 0;
        w->cap = BUFFER_BYTES;
        w->data = xrealloc(w->data, w->cap);
    }
}

void pgsrc_wire_pause(struct pgsrc_wire *w) {
    set_lowat(w, 1);
    w->at = w->len = 0;
}

void pgsrc_wire_free(struct pgsrc_wire *w) {
    if (w) {
        free(w->data);
        free(w);
    }
}

/* Bytes of the message at the front with its head, or 0 if even the head is incomplete. */
static size_t front_size(const struct pgsrc_wire *w) {
    struct view v = view_of(w->data + w->at, w->len - w->at);
    uint8_t type;
    uint32_t len;
    if (take_u8(&v, &type) || take_u32be(&v, &len)) {
        return 0;
    }
    return (size_t)len + 1;
}

bool pgsrc_wire_next(struct pgsrc_wire *w, struct pgsrc_message *out) {
    size_t size = front_size(w);
    if (size < HEAD || w->len - w->at < size) {
        return false;
    }
    out->type = (char)w->data[w->at];
    out->body = w->data + w->at + HEAD;
    out->len = size - HEAD;
    w->at += size;
    return true;
}

struct view pgsrc_wire_view(const struct pgsrc_wire *w) {
    return view_of(w->data + w->at, w->len - w->at);
}

void pgsrc_wire_skip_to(struct pgsrc_wire *w, const uint8_t *at) {
    CHECK(at >= w->data + w->at && at <= w->data + w->len);
    w->at = (size_t)(at - w->data);
}

/* Moves what is left to the front and makes room for all of the message there. */
static int make_room(struct pgsrc_wire *w, struct err *err) {
    size_t left = w->len - w->at;
    if (left && w->at) {
        memmove(w->data, w->data + w->at, left);
    }
    w->at = 0;
    w->len = left;
    size_t size = front_size(w);
    if (size != 0 && size < HEAD) {
        return err_set(err, ERR_FATAL, "protocol_violation",
                       "PostgreSQL sent a message with a length of %zu", size - 1);
    }
    if (size > w->message_max) {
        err_set(err, ERR_FATAL, "row_too_large",
                "PostgreSQL sent a message of %zu bytes, more than the %zu that row_max allows",
                size, w->message_max);
        return err_cure(err, "raise row_max, or leave the column out with `table.column: drop`");
    }
    if (size > w->cap) {
        size_t cap = w->cap;
        while (cap < size) {
            cap *= 2;
        }
        cap = cap < w->message_max ? cap : w->message_max; /* no larger one ever gets in */
        w->data = xrealloc(w->data, cap);
        w->cap = cap;
    }
    if (size <= BUFFER_BYTES && w->cap > 4 * BUFFER_BYTES && left < BUFFER_BYTES) {
        w->data = xrealloc(w->data, BUFFER_BYTES); /* one large row does not keep its memory */
        w->cap = BUFFER_BYTES;
    }
    return 0;
}

static int lost(struct err *err, const char *why) {
    return err_set(err, ERR_REWIND, "connection_lost", "the connection to PostgreSQL broke: %s",
                   why);
}

/* Bytes read, 0 = none there now, -1. */
static ssize_t read_some(struct pgsrc_wire *w, struct err *err) {
    uint8_t *to = w->data + w->len;
    size_t room = w->cap - w->len;
    if (!w->tls) {
        ssize_t n;
        do {
            n = recv(w->fd, to, room, MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n > 0) {
            return n;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return 0;
        }
        return lost(err, n == 0 ? "the server closed it" : strerror(errno));
    }
    ERR_clear_error();
    errno = 0;
    size_t got = 0;
    while (got < room) { /* TLS hands out one record of at most 16 KiB a call */
        int n = SSL_read(w->tls, to + got, room - got > INT32_MAX ? INT32_MAX : (int)(room - got));
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        int why = SSL_get_error(w->tls, n);
        if (got || why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
            w->wants = why == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
            break; /* an error is met again by the next call */
        }
        if (why == SSL_ERROR_SYSCALL && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        return lost(err,
                    why == SSL_ERROR_SYSCALL && errno ? strerror(errno) : "the server closed it");
    }
    return (ssize_t)got;
}

int pgsrc_wire_fill(struct pgsrc_wire *w, bool quiet_ends, struct waker *waker, int64_t deadline_us,
                    enum pgsrc_fill *out, struct err *err) {
    if (make_room(w, err)) {
        return -1;
    }
    bool patient = true; /* the low-water wait is still to come */
    for (;;) {
        ssize_t n = w->cap > w->len ? read_some(w, err) : 0;
        if (n < 0) {
            return -1;
        }
        if (n > 0) {
            w->len += (size_t)n;
            *out = FILL_GOT;
            return 0;
        }
        int64_t now = clock_mono_us(), until = deadline_us;
        if (patient && w->wants == POLLIN && now + LOWAT_US < deadline_us) {
            until = now + LOWAT_US;
            set_lowat(w, LOWAT_BYTES);
        } else {
            set_lowat(w, 1);
        }
        int woke = wait_fd(w->fd, w->wants, waker, until);
        if (woke & WAIT_FD_READY) {
            continue;
        }
        if (woke & WAIT_FD_WOKEN) {
            *out = FILL_WOKEN;
            return 0;
        }
        if (until == deadline_us && clock_mono_us() >= deadline_us) {
            *out = FILL_DEADLINE;
            return 0;
        }
        /* The mark was not reached; fewer bytes may lie there all the same. */
        patient = false;
        n = read_some(w, err);
        if (n < 0) {
            return -1;
        }
        if (n > 0 || quiet_ends) {
            w->len += (size_t)n;
            *out = n > 0 ? FILL_GOT : FILL_QUIET;
            return 0;
        }
    }
}

int pgsrc_wire_send(struct pgsrc_wire *w, const void *p, size_t len, struct err *err) {
    const uint8_t *at = p;
    int64_t deadline = clock_mono_us() + SEND_US;
    while (len) {
        ssize_t n;
        short wants = POLLOUT;
        if (w->tls) {
            ERR_clear_error();
            errno = 0;
            n = SSL_write(w->tls, at, len > INT32_MAX ? INT32_MAX : (int)len);
            if (n <= 0) {
                int why = SSL_get_error(w->tls, (int)n);
                if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ &&
                    !(why == SSL_ERROR_SYSCALL && (errno == EAGAIN || errno == EINTR))) {
                    return lost(err, "TLS write failed");
                }
                wants = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
                n = 0;
            }
        } else {
            n = send(w->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
                return lost(err, strerror(errno));
            }
            n = n < 0 ? 0 : n;
        }
        at += n;
        len -= (size_t)n;
        if (len && n == 0 && !wait_fd(w->fd, wants, NULL, deadline)) {
            return err_set(err, ERR_REWIND, "server_silent", "PostgreSQL took no bytes for 60 s");
        }
    }
    return 0;
}

/* --- building
 * --------------------------------------------------------------------------------------------------
 */

size_t pgsrc_put_begin(struct buf *out, char type) {
    buf_putc(out, type);
    size_t begun = out->len;
    buf_put(out, "\0\0\0\0", 4);
    return begun;
}

void pgsrc_put_end(struct buf *out, size_t begun) {
    uint32_t len = __builtin_bswap32((uint32_t)(out->len - begun));
    memcpy(out->data + begun, &len, 4);
}

void pgsrc_put_be16(struct buf *out, uint16_t v) {
    v = __builtin_bswap16(v);
    buf_put(out, &v, sizeof v);
}
void pgsrc_put_be32(struct buf *out, uint32_t v) {
    v = __builtin_bswap32(v);
    buf_put(out, &v, sizeof v);
}
void pgsrc_put_be64(struct buf *out, uint64_t v) {
    v = __builtin_bswap64(v);
    buf_put(out, &v, sizeof v);
}

void pgsrc_report_parse(const uint8_t *body, size_t len, struct pgsrc_report *out) {
    *out = (struct pgsrc_report){ .severity = "" };
    struct view v = view_of(body, len);
    uint8_t field;
    const char *text;
    while (take_u8(&v, &field) == 0 && field && take_cstr(&v, &text) == 0) {
        switch (field) {
        case 'V':
            snprintf(out->severity, sizeof out->severity, "%s", text);
            break;
        case 'C':
            snprintf(out->state, sizeof out->state, "%s", text);
            break;
        case 'M':
            snprintf(out->message, sizeof out->message, "%s", text);
            break;
        default:
            break;
        }
    }
}
