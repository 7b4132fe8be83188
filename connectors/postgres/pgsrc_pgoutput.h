/* pgoutput messages (protocol version 1) to segments. Pure: bytes in, segments out; fuzzed.
 *
 * The decoder asks its owner for the schema of each Relation message (catalogue knowledge: keys,
 * domains), and keeps the relations by oid. Non-transactional messages, origins and stray stream
 * aborts are passed over; unknown message types and tuple kinds are ERR_FATAL. */
#pragma once
#include "cdc/segment.h"
#include "connectors/postgres/pgsrc_type.h"

/* A Relation message as sent. Strings borrowed from the message. */
struct pgsrc_relation_column {
    bool key;
    const char *name;
    uint32_t type_oid;
    int32_t type_mod;
};
struct pgsrc_relation {
    uint32_t oid;
    const char *space, *name; /* "" space = pg_catalog */
    char identity;            /* d n f i */
    uint16_t column_count;
    struct pgsrc_relation_column *columns;
};
/* Gives the schema (a new reference, columns in the relation's order) and its plan (owned by the
 * callee, alive as long as the schema is referenced by the decoder), or *schema = NULL: changes of
 * this table are not wanted and are skipped. */
struct pgsrc_pgoutput_calls {
    int (*relation)(void *arg, const struct pgsrc_relation *rel, struct schema **schema,
                    const struct pgsrc_plan **plan, struct err *err);
    void *arg;
};
struct pgsrc_pgoutput;
struct pgsrc_pgoutput *pgsrc_pgoutput_new(const struct pgsrc_pgoutput_calls *calls);
void pgsrc_pgoutput_free(struct pgsrc_pgoutput *d);
/* Transaction ids are 32 bits on the wire: widened to the 64-bit id nearest to the last one seen;
 * `near` is an id of the present (xmax of a snapshot). */
void pgsrc_pgoutput_widen_from(struct pgsrc_pgoutput *d, uint64_t near);
/* Most bytes that the values of a row may have, as they are sent; those of an unchanged value that
 * is taken from the old row count too. At first there is no limit. */
void pgsrc_pgoutput_row_max(struct pgsrc_pgoutput *d, size_t bytes);
/* One message (the payload of a 'w' frame). Transactions whose end is at or below `applied` are
 * left out whole. -1: ERR_FATAL "protocol_malformed" with the place and the first bytes,
 * "value_malformed" and the other codes of cells, "row_too_large", or what the relation call gave
 * (RETRY as REWIND: the message is used up). After it the decoder is good only for
 * pgsrc_pgoutput_free: take gives NULL, another message aborts. */
int pgsrc_pgoutput_message(struct pgsrc_pgoutput *d, const uint8_t *p, size_t len,
                           struct logpos applied, struct err *err);
/* A keep-alive said that everything below `end` was sent. Moves the segment's `to` only when no
 * transaction is open. */
void pgsrc_pgoutput_progress(struct pgsrc_pgoutput *d, struct logpos end);
bool pgsrc_pgoutput_in_transaction(const struct pgsrc_pgoutput *d);
size_t pgsrc_pgoutput_bytes(const struct pgsrc_pgoutput *d); /* held by the segment being built */
/* Takes the segment built so far (batches sealed), or NULL if nothing happened since the last one.
 * Its txlist has the transactions with wanted rows. Within a transaction the entry's end is
 * LOGPOS_NONE; the segment taken after its commit has an entry with the end, even if no row is left
 * for it. */
struct segment *pgsrc_pgoutput_take(struct pgsrc_pgoutput *d);
