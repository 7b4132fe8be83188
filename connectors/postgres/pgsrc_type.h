/* PostgreSQL types to the change model's types, and cells from the wire's binary or text form to
 * cells of a batch. Pure: bytes in, cells out; bounds-checked, fuzzed. Facts: protocols.md 4.5 in
 * the design's notes; binary forms of PostgreSQL's *_send functions. */
#pragma once
#include "cdc/base/err.h"
#include "cdc/batch.h"

/* One row of pg_type, as the catalogue gives it. */
struct pgsrc_pg_type {
    uint32_t oid;
    char name[64];     /* typname */
    char space[64];    /* nspname */
    char kind;         /* typtype: b c d e p r m */
    char category;     /* typcategory */
    uint32_t base;     /* typbasetype of a domain, else 0 */
    int32_t base_mod;  /* typtypmod of a domain */
    uint32_t element;  /* typelem of a true array (typsubscript array_subscript_handler / typlen -1
                          and typelem <> 0), else 0 */
    char element_kind; /* typtype of the element */
    bool has_send;     /* typsend <> 0: the server can give it in binary */
};
/* The logical type of a column of that type and modifier; domains must be resolved by the caller
 * through `lookup` (any depth up to 32). TYPE_OTHER for everything without exact support. Never
 * fails. `lookup` may return NULL for unknown oids. */
typedef const struct pgsrc_pg_type *(*pgsrc_lookup_fn)(void *arg, uint32_t oid);
void pgsrc_type_map(uint32_t oid, int32_t mod, pgsrc_lookup_fn lookup, void *arg, struct type *out);
/* Is the binary form of this type understood here? If not, it is read as text: in a SELECT by
 * format code 0 of that column or format('%s', column), which are the type's output function as in
 * the log (a cast to text is not: bool, bpchar and inet write otherwise); in pgoutput, where binary
 * holds for a whole stream, pgsrc_cell_binary refuses it (ERR_FATAL "binary_unsupported", whose
 * cure is binary=off). */
bool pgsrc_reads_binary(uint32_t oid, const struct type *type, pgsrc_lookup_fn lookup, void *arg);

/* The decode plan of a schema: what to do with each column's bytes. Immutable; one a schema
 * instance. */
struct pgsrc_plan;
struct pgsrc_plan *pgsrc_plan_new(const struct schema *schema, pgsrc_lookup_fn lookup, void *arg);
void pgsrc_plan_free(struct pgsrc_plan *plan);

/* One cell into the current row of a batch. -1: malformed; err ERR_FATAL "value_malformed" names
 * the column, its type and the first bytes in hex. Further codes: "binary_unsupported";
 * "value_too_large" (beyond 4 GiB in one column of a batch); "type_changed" (ERR_REWIND: the
 * catalogue's type is not the schema's). After a failure the row is undone with batch_row_abort. */
int pgsrc_cell_binary(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col,
                      const uint8_t *p, size_t len, struct err *err);
int pgsrc_cell_text(const struct pgsrc_plan *plan, struct batch *batch, uint16_t col,
                    const uint8_t *p, size_t len, struct err *err);

/* The hot path of snapshots: complete 'D' (DataRow) messages of an extended query with binary
 * result columns where pgsrc_reads_binary, text elsewhere. Decodes from `in` while messages are
 * complete 'D' messages and the batch is not full; `in` is left at the first byte not taken (an
 * incomplete message, another message type, or the batch full). Returns rows decoded, or -1
 * ("protocol_malformed" or as above): the row that failed is not in the batch. Reads no byte beyond
 * `in`. */
int pgsrc_decode_rows(const struct pgsrc_plan *plan, struct batch *batch, struct view *in,
                      struct err *err);
