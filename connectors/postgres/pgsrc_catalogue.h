/* Tables, columns and types as the server's catalogue says. Used by each of the three sessions for
 * itself: nothing is shared. */
#pragma once
#include "cdc/source.h"
#include "connectors/postgres/pgsrc_type.h"
#include "connectors/postgres/session.h"

/* pg_type rows by oid, loaded when first needed. */
struct pgsrc_types;
struct pgsrc_types *pgsrc_types_new(void);
void pgsrc_types_free(struct pgsrc_types *t);
int pgsrc_types_load(struct pgsrc_types *t, struct pgsrc_session *s, const uint32_t *oids,
                     size_t count, struct err *err) TR_MUST_CHECK;
const struct pgsrc_pg_type *pgsrc_types_lookup(void *types, uint32_t oid); /* a pgsrc_lookup_fn */
/* All types of a schema's columns are known afterwards. */
int pgsrc_types_load_schema(struct pgsrc_types *t, struct pgsrc_session *s,
                            const struct schema *schema, struct err *err) TR_MUST_CHECK;
uint32_t pgsrc_types_base(struct pgsrc_types *t, uint32_t oid); /* through domains */
bool pgsrc_column_is_binary(struct pgsrc_types *t, const struct column_def *c);

struct pgsrc_catalogue_ask {
    table_select_fn select;
    const void *rules;
    const char
        *publication; /* the user's own: tables it does not carry are not usable. NULL = ours */
    uint64_t oid;     /* one table; 0 = all */
};
/* Tables that are not skipped, sorted by oid; defined_at and server stay unset. A table that does
 * not exist is an empty answer. */
int pgsrc_catalogue_read(struct pgsrc_session *s, struct pgsrc_types *types,
                         const struct pgsrc_catalogue_ask *ask, struct source_catalogue *out,
                         struct err *err) TR_MUST_CHECK;
