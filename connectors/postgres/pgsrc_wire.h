/* The raw protocol on a connection that libpq has authenticated: messages out of one large buffer,
 * read from the socket or its TLS stream in big pieces. libpq's per-row results cost two to nine
 * times more (limits.md section 0).
 *
 * While a wire is in use, libpq must not touch the connection; it may again once all that the
 * server had to say was taken (ReadyForQuery). Waiting: with a receive low-water mark of 256 KiB
 * for 2 ms, then for one byte: fewer wake-ups on both sides. Thread: the owner of the session. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/base/os/wait_fd.h"
#include "connectors/postgres/session.h"

struct pgsrc_wire;
struct pgsrc_message {
    char type;
    const uint8_t *body; /* valid until the next fill */
    size_t len;
};

/* message_max: bytes of the largest message the server may send. */
struct pgsrc_wire *pgsrc_wire_new(struct pgsrc_session *session, size_t message_max);
/* Another message_max from now on. Nothing is in the buffer. */
void pgsrc_wire_allow(struct pgsrc_wire *w, size_t message_max);
void pgsrc_wire_free(struct pgsrc_wire *w); /* NULL is fine */
void pgsrc_wire_pause(
    struct pgsrc_wire *w); /* libpq may use the connection again; nothing is left in the buffer */

/* The next complete message in the buffer. False: there is none. -1 never; damage is met by fill.
 */
bool pgsrc_wire_next(struct pgsrc_wire *w, struct pgsrc_message *out);
/* All bytes in the buffer from the next message on, to be decoded in place; then skip what was
 * taken. */
struct view pgsrc_wire_view(const struct pgsrc_wire *w);
void pgsrc_wire_skip_to(struct pgsrc_wire *w, const uint8_t *at);

enum pgsrc_fill { FILL_GOT, FILL_QUIET, FILL_DEADLINE, FILL_WOKEN };
/* Reads more. quiet_ends: return FILL_QUIET as soon as the low-water wait of 2 ms ended without
 * enough. 0, or -1: ERR_REWIND connection_lost, ERR_FATAL row_too_large. */
int pgsrc_wire_fill(struct pgsrc_wire *w, bool quiet_ends, struct waker *waker, int64_t deadline_us,
                    enum pgsrc_fill *out, struct err *err) TR_MUST_CHECK;

/* Sends all of it, waiting at most 60 s for room. */
int pgsrc_wire_send(struct pgsrc_wire *w, const void *p, size_t len, struct err *err) TR_MUST_CHECK;

/* Building messages: begin writes the type and room for the length, end fills it in. */
size_t pgsrc_put_begin(struct buf *out, char type);
void pgsrc_put_end(struct buf *out, size_t begun);
void pgsrc_put_be16(struct buf *out, uint16_t v);
void pgsrc_put_be32(struct buf *out, uint32_t v);
void pgsrc_put_be64(struct buf *out, uint64_t v);

/* An ErrorResponse or NoticeResponse taken apart. Missing fields are "". Pure. */
struct pgsrc_report {
    char severity[16]; /* not localised */
    char state[6];
    char message[400];
};
void pgsrc_report_parse(const uint8_t *body, size_t len, struct pgsrc_report *out);
