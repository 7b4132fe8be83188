/* From Relation messages to schemas: the message says what the log's rows look like, the catalogue
 * knows the key, the types and the marks of stored rows. Keeps what it gave, so that an unchanged
 * table costs nothing new. Thread: the log task. */
#pragma once
#include "connectors/postgres/pgsrc_impl.h"
#include "connectors/postgres/pgsrc_pgoutput.h"

struct pgsrc_relations;
/* Reads the catalogue once, in a session that it opens itself. */
struct pgsrc_relations *pgsrc_relations_new(struct pgsrc *s, struct err *err);
void pgsrc_relations_free(struct pgsrc_relations *r);
bool pgsrc_relations_binary(
    const struct pgsrc_relations *r); /* every captured column can be read in binary form */
/* The log was started with binary values: a column that cannot be read so is an error from here on.
 */
void pgsrc_relations_expect_binary(struct pgsrc_relations *r, bool binary);
/* The session beside the log, opened when needed. */
int pgsrc_relations_side(struct pgsrc_relations *r, struct pgsrc_session **out,
                         struct err *err) TR_MUST_CHECK;
void pgsrc_relations_calls(struct pgsrc_relations *r, struct pgsrc_pgoutput_calls *out);
