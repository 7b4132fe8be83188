/* The schema of a table at one point of the log: immutable, reference-counted, shared between
 * tasks. Version numbers are given by the merge task (hybrid.h), per table, from 1; a schema fresh
 * from a connector has version 0. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/arena.h"
#include "cdc/base/buf.h"
#include "cdc/base/err.h"
#include "cdc/type.h"

struct column_def {
    const char *name; /* UTF-8 */
    struct type type;
    const char *source_type; /* the server's name of the type, e.g. "numeric(10,2)" */
    uint32_t source_oid;     /* the connector's own type number */
    int32_t source_mod;      /* the connector's own type modifier; -1 = none */
    bool nullable;
    bool byte_order; /* text-like: the server compares it bytewise */
    int16_t key_pos; /* ordinal within the key, -1 = not part of it */
    /* The cell, as a batch holds it, that rows have which were stored before the column was added
     * and not written since; NULL = null, or not known (source_ops.added says which). */
    const uint8_t *missing;
    uint32_t missing_len;
};

/* What the log carries of an old row. KEY and INDEX: the cells of the key, which the log names, so
 * that rows always come with the key that they were written under. FULL and NOTHING: all cells, or
 * none; the key is the catalogue's, which may be a later one than the rows'. */
enum table_identity {
    IDENTITY_KEY = 'd',
    IDENTITY_INDEX = 'i',
    IDENTITY_FULL = 'f',
    IDENTITY_NOTHING = 'n'
};

struct schema {
    _Atomic uint32_t refs;
    struct arena arena;
    uint64_t table_id; /* the source's lasting number of the table (PostgreSQL: oid); at most
                          INT64_MAX */
    const char *space; /* schema (PostgreSQL) or database (MySQL) */
    const char *name;
    const char *label;   /* "public.orders": what people and targets see; parts with a dot or quote
                            are quoted */
    const char *storage; /* identity of the stored rows (PostgreSQL: relfilenode and catalogue
                            marks); "" if unknown; see source_ops.rewritten */
    uint32_t version;
    enum table_identity identity;
    uint16_t column_count;
    uint16_t key_count; /* 0 = keyless: a multiset */
    bool key_orderable; /* key ranges possible */
    bool append;        /* the user declared it append-only */
    struct column_def *columns;
    uint16_t *key; /* column indexes in key order */
};

/* Building: schema_new, fill columns (strings from schema->arena), schema_finish computes label,
 * key, key_orderable. */
struct schema *schema_new(uint64_t table_id, const char *space, const char *name,
                          uint16_t column_count);
void schema_finish(struct schema *schema);
struct schema *schema_ref(struct schema *schema);
void schema_unref(struct schema *schema); /* NULL allowed */
struct schema *schema_with_version(const struct schema *schema, uint32_t version); /* a copy */
/* While it is built: what the column's `missing` is; a copy, or none where cell is NULL. */
void schema_set_missing(struct schema *schema, uint16_t column, const void *cell, uint32_t len);

int schema_column(const struct schema *schema, const char *name); /* index or -1 */
/* Same names, types and key in the same order: rows of one fit the other as they lie. Nullability,
 * storage and what is missing do not count. */
bool schema_same_rows(const struct schema *a, const struct schema *b);
/* Same rows, same table_id and same storage: the definition check of DESIGN section 4 rule 8. */
bool schema_same_definition(const struct schema *a, const struct schema *b);

/* The differences that lead from one schema to another, for targets. By name: the log does not tell
 * a rename from drop and add. */
enum schema_step_kind {
    STEP_ADD_COLUMN,
    STEP_DROP_COLUMN,
    STEP_CHANGE_TYPE,
    STEP_CHANGE_KEY,
    STEP_REORDER,
    STEP_RENAME_TABLE
};
struct schema_step {
    enum schema_step_kind kind;
    uint16_t from_column, to_column;
};
/* In the order: rename; drops; added and changed columns as `to` has them; key; reorder (dropping
 * and appending alone would not give the order of `to`). Columns that a step has not are
 * UINT16_MAX. At most column counts + 3 steps; returns how many, of which the first out_max are in
 * `out`. `out` may be NULL to count. */
size_t schema_diff(const struct schema *from, const struct schema *to, struct schema_step *out,
                   size_t out_max);

/* {"table":"public.orders","id":..,"space":..,"name":..,"version":..,"identity":"d","storage":"..",
 *  "columns":[{"name","type","source","oid","mod","nullable","key","bytes"[,"missing":hex]}]}
 * and back. `append` is no part of it: it is a rule of the user's. Members beyond these are passed
 * over; else ERR_FATAL "schema_malformed". */
void schema_put_json(struct buf *out, const struct schema *schema);
struct schema *schema_from_json(const char *json, size_t len, struct err *err); /* NULL on error */
