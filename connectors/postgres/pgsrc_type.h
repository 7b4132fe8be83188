/* PostgreSQL types to the change model's types, and cells from the wire's binary or text form to cells of a batch.
 * Pure: bytes in, cells out; bounds-checked, fuzzed. Facts: protocols.md 4.5 in the design's notes; binary forms of PostgreSQL's *_send functions. */
#pragma once
#include "cdc/batch.h"
#include "cdc/base/err.h"

/* One row of pg_type, as the catalogue gives it. */
struct pgsrc_pg_type {
    uint32_t oid;
    char name[64];       /* typname */
    char space[64];      /* nspname */
    char kind;           /* typtype: b c d e p r m */
    char category;       /* typcategory */
    uint32_t base;       /* typbasetype of a domain, else 0 */
    int32_t base_mod;    /* typtypmod of a domain */
    uint32_t element;    /* typelem of a true array (typsubscript array_subscript_handler / typlen -1 and typelem <> 0), else 0 */
    char element_kind;   /* typtype of the element */
    bool has_send;       /* typsend <> 0: the server can give it in binary */
};
/* The logical type of a column of that type and modifier; domains must be resolved by the caller through `lookup` (any depth up to 32).
 * TYPE_OTHER for everything without exact support. Never fails. `lookup` may return NULL for unknown oids. */
typedef const struct pgsrc_pg_type *(*pgsrc_lookup_fn)(void *arg, uint32_t oid);
void pgsrc_type_map(uint32_t oid, int32_t mod, pgsrc_lookup_fn lookup, void *arg, struct type *out);
/* Is the binary form of this type understood here? If not, a SELECT casts the column to text, and in pgoutput with binary on such a column is refused with a
 * clear error naming binary=off (OTHER columns of types with a send function: see pgsrc_wants_text). */
bool pgsrc_reads_binary(uint32_t oid, const struct type *type, pgsrc_lookup_fn lookup, void *arg);

/* The decode plan of a schema: what to do with each column's bytes. Immutable; one a schema instance. */
struct pgsrc_plan;
struct pgsrc_plan *pgsrc_plan_new(const struct schema *schema, pgsrc_lookup_fn lookup, void *arg);
void pgsrc_plan_free(struct pgsrc_plan *plan);

/* One cell into the current row of a batch. -1: malformed; err ERR_FATAL "value_malformed" names the column, its type and the first bytes in hex. */
int pgsrc_cell_binary(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col, const uint8_t *p, size_t len, struct err *err);
int pgsrc_cell_text(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col, const uint8_t *p, size_t len, struct err *err);

/* The hot path of snapshots: complete 'D' (DataRow) messages of an extended query with binary result columns where pgsrc_reads_binary, text elsewhere.
 * Decodes from `in` while messages are complete 'D' messages and the batch is not full; `in` is left at the first byte not taken (an
 * incomplete message, another message type, or the batch full). Returns rows decoded or -1. */
int pgsrc_decode_rows(const struct pgsrc_plan *plan, struct batch *batch, struct view *in, struct err *err);
