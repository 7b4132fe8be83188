/* Reading the catalogue: see pgsrc_catalogue.h. Plain SELECTs on pg_class and its friends, which
 * take no lock on the tables they describe. */
#include "connectors/postgres/pgsrc_catalogue.h"

#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/map.h"
#include "connectors/postgres/pgsrc_identity.h"

/* --- types
 * -----------------------------------------------------------------------------------------------------
 */

struct pgsrc_types {
    struct map *by_oid;
};

struct pgsrc_types *pgsrc_types_new(void) {
    struct pgsrc_types *t = xcalloc(1, sizeof *t);
    t->by_oid = map_new();
    return t;
}

void pgsrc_types_free(struct pgsrc_types *t) {
    if (t) {
        map_free(t->by_oid, free);
        free(t);
    }
}

const struct pgsrc_pg_type *pgsrc_types_lookup(void *types, uint32_t oid) {
    return map_get(((struct pgsrc_types *)types)->by_oid, &oid, sizeof oid);
}

static uint32_t field_u32(const PGresult *r, int row, int col) {
    return (uint32_t)strtoul(PQgetvalue(r, row, col), NULL, 10);
}
static uint64_t field_u64(const PGresult *r, int row, int col) {
    return strtoull(PQgetvalue(r, row, col), NULL, 10);
}
static bool field_bool(const PGresult *r, int row, int col) {
    return PQgetvalue(r, row, col)[0] == 't';
}

static const char types_sql[] =
    "WITH RECURSIVE need(oid) AS (SELECT unnest($1::oid[]) UNION SELECT v.x FROM need JOIN pg_type "
    "t ON t.oid = need.oid, "
    "LATERAL (VALUES (t.typbasetype), (t.typelem)) v(x) WHERE v.x <> 0) "
    "SELECT t.oid, t.typname, n.nspname, t.typtype, t.typcategory, t.typbasetype, t.typtypmod, "
    "CASE WHEN t.typlen = -1 AND t.typsubscript = 'array_subscript_handler'::regproc THEN "
    "t.typelem ELSE 0 END, coalesce(e.typtype, ' '), t.typsend <> 0 "
    "FROM need JOIN pg_type t ON t.oid = need.oid JOIN pg_namespace n ON n.oid = t.typnamespace "
    "LEFT JOIN pg_type e ON e.oid = t.typelem";

int pgsrc_types_load(struct pgsrc_types *t, struct pgsrc_session *s, const uint32_t *oids,
                     size_t count, struct err *err) {
    struct buf list;
    buf_init(&list, SIZE_MAX);
    struct map *asked = map_new();
    for (size_t i = 0; i < count; i++) {
        if (!pgsrc_types_lookup(t, oids[i]) && !map_set(asked, &oids[i], sizeof oids[i], t)) {
            buf_putf(&list, "%s%u", list.len ? "," : "{", oids[i]);
        }
    }
    map_free(asked, NULL);
    if (list.len == 0) {
        buf_release(&list);
        return 0;
    }
    buf_putc(&list, '}');
    const char *params[] = { buf_cstr(&list) };
    PGresult *r = pgsrc_query(s, err, types_sql, 1, params);
    buf_release(&list);
    if (!r) {
        return -1;
    }
    for (int i = 0; i < PQntuples(r); i++) {
        struct pgsrc_pg_type *p = xcalloc(1, sizeof *p);
        p->oid = field_u32(r, i, 0);
        snprintf(p->name, sizeof p->name, "%s", PQgetvalue(r, i, 1));
        snprintf(p->space, sizeof p->space, "%s", PQgetvalue(r, i, 2));
        p->kind = PQgetvalue(r, i, 3)[0];
        p->category = PQgetvalue(r, i, 4)[0];
        p->base = field_u32(r, i, 5);
        p->base_mod = (int32_t)strtol(PQgetvalue(r, i, 6), NULL, 10);
        p->element = field_u32(r, i, 7);
        p->element_kind = PQgetvalue(r, i, 8)[0];
        p->has_send = field_bool(r, i, 9);
        if (pgsrc_types_lookup(t, p->oid)) {
            free(p); /* a schema's plan may hold the first one */
        } else {
            map_set(t->by_oid, &p->oid, sizeof p->oid, p);
        }
    }
    PQclear(r);
    return 0;
}

int pgsrc_types_load_schema(struct pgsrc_types *t, struct pgsrc_session *s,
                            const struct schema *schema, struct err *err) {
    uint32_t *oids = xmalloc((schema->column_count + 1u) * sizeof *oids);
    for (uint16_t c = 0; c < schema->column_count; c++) {
        oids[c] = schema->columns[c].source_oid;
    }
    int rc = pgsrc_types_load(t, s, oids, schema->column_count, err);
    free(oids);
    return rc;
}

uint32_t pgsrc_types_base(struct pgsrc_types *t, uint32_t oid) {
    for (int depth = 0; depth < 32; depth++) {
        const struct pgsrc_pg_type *p = pgsrc_types_lookup(t, oid);
        if (!p || p->kind != 'd' || !p->base) {
            break;
        }
        oid = p->base;
    }
    return oid;
}

bool pgsrc_column_is_binary(struct pgsrc_types *t, const struct column_def *c) {
    return pgsrc_reads_binary(c->source_oid, &c->type, pgsrc_types_lookup, t);
}

/* --- tables
 * ----------------------------------------------------------------------------------------------------
 */

#define TABLES_WANTED                                                                              \
    " c.relkind IN ('r','p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname "   \
    "<> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"                                      \
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid " \
    "= c.oid AND d.deptype = 'e')"                                                                 \
    " AND ($1::oid = 0 OR c.oid = $1::oid)"
#define INDEX_FACTS(which)                                                                         \
    "(SELECT i.indimmediate::int::text || ' ' || i.indnkeyatts || ' ' || i.indkey::text FROM "     \
    "pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i." which ")"

/* Generated columns, and whether the server refuses updates and deletes of a published table whose
 * identity has one. */
#define GENERATED_FACTS                                                                            \
    "(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a "      \
    "WHERE "                                                                                       \
    "a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped), "                        \
    "current_setting('server_version_num')::int >= 180000"

static const char tables_sql[] =
    "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, c.relfilenode, CASE WHEN "
    "c.reltuples < 0 THEN pg_stat_get_live_tuples(c.oid) ELSE c.reltuples::bigint END,"
    " c.relpages::bigint * current_setting('block_size')::int, " INDEX_FACTS(
        "indisprimary") ", " INDEX_FACTS("indisreplident") ", c.relnatts, " GENERATED_FACTS
                                                           " FROM pg_class c JOIN pg_namespace n "
                                                           "ON n.oid = c.relnamespace "
                                                           "WHERE" TABLES_WANTED " ORDER BY c.oid";

static const char columns_sql[] =
    "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull AND NOT EXISTS "
    "(SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT "
    "k.convalidated AND k.conkey[1] = a.attnum), "
    "a.atthasmissing, a.xmin::text, format_type(a.atttypid, a.atttypmod),"
    " coalesce(pg_encoding_to_char(d.encoding) = 'UTF8' AND CASE co.collprovider WHEN 'd' THEN "
    "CASE coalesce(to_jsonb(d)->>'datlocprovider', 'c') WHEN 'c' THEN d.datcollate IN "
    "('C','POSIX') ELSE to_jsonb(d)->>'datlocprovider' = 'b' END WHEN 'c' THEN co.collcollate IN "
    "('C','POSIX') ELSE co.collprovider = 'b' END, false)," /* b: builtin, by code points (17) */
    " CASE WHEN a.atthasmissing AND a.attmissingval::text::text[] <> '{}' AND "
    "array_upper(a.attmissingval::text::text[], 1) = 1 THEN (a.attmissingval::text::text[])[1] END"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = "
    "c.relnamespace"
    " JOIN pg_database d ON d.datname = current_database() LEFT JOIN pg_collation co ON co.oid = "
    "a.attcollation"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND" TABLES_WANTED
    " ORDER BY a.attrelid, a.attnum";

/* Was a partition a table before it was attached? The row of the system column tableoid is written
 * once, when a table is created; ATTACH writes every column's row anew, also in the same
 * transaction. */
#define ATTACHED                                                                                   \
    " NOT EXISTS (SELECT FROM pg_attribute s JOIN pg_attribute a ON a.attrelid = s.attrelid AND "  \
    "a.attnum > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin"                                         \
    " WHERE s.attrelid = i.inhrelid AND s.attnum = -6 AND s.xmin = i.xmin)"

/* Leaves of partitioned tables, at any depth. */
static const char leaves_sql[] =
    "WITH RECURSIVE leaf(root, oid, attached) AS (SELECT c.oid, i.inhrelid," ATTACHED
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'p' AND" TABLES_WANTED
    " UNION ALL SELECT l.root, i.inhrelid, l.attached OR" ATTACHED
    " FROM leaf l JOIN pg_inherits i ON i.inhparent = l.oid)"
    " SELECT l.root, l.oid, c.relfilenode, m.hash, l.attached,"
    " CASE WHEN c.reltuples < 0 THEN pg_stat_get_live_tuples(c.oid) ELSE c.reltuples::bigint END, "
    "c.relpages::bigint * current_setting('block_size')::int, m.missing, c.relkind <> 'r' OR "
    "c.relpersistence <> 'p', quote_ident(n.nspname) || '.' || quote_ident(c.relname),"
    " c.relreplident = 'f'"
    " FROM leaf l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "CROSS JOIN LATERAL (SELECT "
    "left(md5(string_agg(a.attnum || '.' || a.xmin::text, ',' ORDER BY a.attnum)), 8) AS hash,"
    " coalesce(string_agg(a.attnum::text, '_' ORDER BY a.attnum) FILTER (WHERE a.atthasmissing), "
    "'') AS missing FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) m"
    " WHERE c.relkind <> 'p' ORDER BY l.root, l.oid";

/* attnames: where the server has lists of columns (15 and newer). Generated columns are published
 * by 18 and newer only, and only those that are stored; 15 may name them all the same. */
static const char published_sql[] =
    "SELECT t.schemaname, t.tablename, to_jsonb(t)->>'rowfilter' IS NOT NULL,"
    " coalesce(bool_or(a.attgenerated = '' AND NOT to_jsonb(t)->'attnames' ? a.attname::text),"
    " false), coalesce(bool_or(a.attgenerated <> '' AND to_jsonb(t)->'attnames' ? a.attname::text"
    " AND current_setting('server_version_num')::int >= 180000), false)"
    " FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname"
    " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename LEFT JOIN pg_attribute"
    " a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE t.pubname = $1 GROUP BY 1, 2, t";

static void index_parse(const char *text, struct pgsrc_index *out) {
    *out = (struct pgsrc_index){ .exists = text[0] != '\0' };
    if (!out->exists) {
        return;
    }
    char *p;
    out->immediate = strtol(text, &p, 10) == 1;
    long count = strtol(p, &p, 10);
    for (long k = 0; k < count && k < PGSRC_KEY_MAX; k++) {
        out->attnum[out->count++] = (int16_t)strtol(p, &p, 10);
    }
}

struct reader {
    const struct pgsrc_catalogue_ask *ask;
    struct pgsrc_types *types;
    PGresult *tables, *columns, *leaves, *published;
    int column_row, leaf_row; /* how far the sorted answers were walked */
};

/* What rows have in a column that was added after them, from the server's text. A value that is
 * not understood is not known: the rows are then read. */
static void read_missing(struct reader *r, struct schema *schema, uint16_t c, int row) {
    const PGresult *q = r->columns;
    struct column_def *def = &schema->columns[c];
    if (PQgetisnull(q, row, 10)) {
        return;
    }
    struct schema *one = schema_new(0, schema->space, schema->name, 1);
    one->columns[0] = *def;
    one->columns[0].key_pos = -1;
    schema_finish(one);
    struct pgsrc_plan *plan = pgsrc_plan_new(one, pgsrc_types_lookup, r->types);
    struct batch *b = batch_new(one, 1, NULL);
    struct err err = ERR_INIT;
    if (pgsrc_cell_text(plan, b, 0, (const uint8_t *)PQgetvalue(q, row, 10),
                        (size_t)PQgetlength(q, row, 10), &err) == 0) {
        size_t len;
        batch_row_done(b, ROW_INSERT, 0, 0);
        const uint8_t *cell = cell_bytes(&b->columns[0], 0, &len);
        schema_set_missing(schema, c, cell, (uint32_t)len);
    } else {
        batch_row_abort(b);
        err_clear(&err);
    }
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(one);
}

static void read_columns(struct reader *r, struct schema *schema, int first, int16_t *attnums,
                         struct buf *marks) {
    const PGresult *q = r->columns;
    for (uint16_t c = 0; c < schema->column_count; c++) {
        int row = first + c;
        struct column_def *def = &schema->columns[c];
        attnums[c] = (int16_t)strtol(PQgetvalue(q, row, 1), NULL, 10);
        def->name = arena_strdup(&schema->arena, PQgetvalue(q, row, 2));
        def->source_oid = field_u32(q, row, 3);
        def->source_mod = (int32_t)strtol(PQgetvalue(q, row, 4), NULL, 10);
        def->source_type = arena_strdup(&schema->arena, PQgetvalue(q, row, 8));
        def->nullable = !field_bool(q, row, 5);
        def->key_pos = -1;
        pgsrc_type_map(def->source_oid, def->source_mod, pgsrc_types_lookup, r->types, &def->type);
        uint32_t base = pgsrc_types_base(r->types, def->source_oid);
        def->byte_order = def->type.kind == TYPE_TEXT &&
                          (base == 25 || base == 1043 || base == 19) && field_bool(q, row, 9);
        pgsrc_column_mark(marks, attnums[c], PQgetvalue(q, row, 7), def->name,
                          field_bool(q, row, 6));
        read_missing(r, schema, c, row);
    }
}

/* Partitions by name, NULL = none. */
struct odd_leaves {
    const char *unseen; /* its changes are in no log: a foreign or unlogged table */
    const char *full;   /* its replica identity is FULL */
};

static void read_leaves(struct reader *r, struct source_table *t, struct buf *marks,
                        struct odd_leaves *odd) {
    const PGresult *q = r->leaves;
    while (r->leaf_row < PQntuples(q) && field_u64(q, r->leaf_row, 0) < t->schema->table_id) {
        r->leaf_row++;
    }
    t->rows_estimate = t->bytes_estimate = 0;
    buf_putc(marks, '|');
    for (; r->leaf_row < PQntuples(q) && field_u64(q, r->leaf_row, 0) == t->schema->table_id;
         r->leaf_row++) {
        int i = r->leaf_row;
        buf_putf(marks, "%s.%s.%s.%s%s;", PQgetvalue(q, i, 1), PQgetvalue(q, i, 2),
                 PQgetvalue(q, i, 3), PQgetvalue(q, i, 7), field_bool(q, i, 4) ? "+" : "");
        odd->unseen = field_bool(q, i, 8) ? PQgetvalue(q, i, 9) : odd->unseen;
        odd->full = field_bool(q, i, 10) ? PQgetvalue(q, i, 9) : odd->full;
        t->rows_estimate += field_u64(q, i, 5);
        t->bytes_estimate += field_u64(q, i, 6);
    }
}

/* full_refused: as of struct pgsrc_identity_in; the server looks at the partition's identity. */
static void check_leaves(struct source_table *t, const struct odd_leaves *odd, bool full_refused) {
    const char *full = full_refused && !t->schema->append ? odd->full : NULL;
    if ((!odd->unseen && !full) || !t->usable) {
        return;
    }
    t->usable = false;
    snprintf(
        t->why, sizeof t->why,
        odd->unseen
            ? "its partition %.140s is a foreign or unlogged table, whose changes are in no log"
            : "the replica identity of its partition %.140s is FULL and it has generated "
              "columns: the server would refuse its updates and deletes once it is published",
        odd->unseen ? odd->unseen : full);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "ALTER TABLE ");
    if (odd->unseen) {
        pgsrc_put_table(&b, t->schema->space, t->schema->name);
        buf_putf(&b, " DETACH PARTITION %s;\n", odd->unseen);
    } else {
        buf_putf(&b, "%s REPLICA IDENTITY DEFAULT;\n", full);
    }
    pgsrc_put_table(&b, t->schema->space, t->schema->name);
    buf_puts(&b, ": skip");
    snprintf(t->cure, sizeof t->cure, "%s", buf_cstr(&b));
    buf_release(&b);
}

static void check_published(struct reader *r, struct source_table *t) {
    if (!r->published || !t->usable) {
        return;
    }
    const char *why = "does not carry it";
    static const char carries_generated[] = "carries its generated columns, which are not followed";
    for (int i = 0; i < PQntuples(r->published); i++) {
        if (strcmp(PQgetvalue(r->published, i, 0), t->schema->space) == 0 &&
            strcmp(PQgetvalue(r->published, i, 1), t->schema->name) == 0) {
            why = field_bool(r->published, i, 2)   ? "carries only some of its rows"
                  : field_bool(r->published, i, 3) ? "carries only some of its columns"
                  : field_bool(r->published, i, 4) ? carries_generated
                                                   : NULL;
            break;
        }
    }
    if (!why) {
        return;
    }
    t->usable = false;
    snprintf(t->why, sizeof t->why, "the publication \"%s\" %s", r->ask->publication, why);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "ALTER PUBLICATION ");
    pgsrc_put_ident(&b, r->ask->publication);
    if (why == carries_generated) {
        buf_puts(&b, " SET (publish_generated_columns = none); -- or without them in its columns");
    } else {
        buf_puts(&b, " ADD TABLE ");
        pgsrc_put_table(&b, t->schema->space, t->schema->name);
        buf_putc(&b, ';');
    }
    buf_putc(&b, '\n');
    pgsrc_put_table(&b, t->schema->space, t->schema->name);
    buf_puts(&b, ": skip");
    snprintf(t->cure, sizeof t->cure, "%s", buf_cstr(&b));
    buf_release(&b);
}

static void take_identity(struct source_table *t, const struct pgsrc_identity_out *id) {
    struct schema *schema = t->schema;
    schema->identity = id->identity;
    for (uint16_t k = 0; k < id->key_count; k++) {
        schema->columns[id->key[k]].key_pos = (int16_t)k;
    }
    schema->key_count = id->key_count;
    schema_finish(schema);
    t->usable = id->usable;
    snprintf(t->why, sizeof t->why, "%s", id->why);
    snprintf(t->cure, sizeof t->cure, "%s", id->cure);
    if (t->usable && schema->key_count == 0) {
        snprintf(t->note, sizeof t->note, "read as one chunk: it has no key");
    } else if (t->usable && !schema->key_orderable) {
        snprintf(t->note, sizeof t->note,
                 "read as one chunk: the order of its key cannot be reproduced here");
    }
}

static void note_generated(struct source_table *t, const char *columns) {
    size_t used = strlen(t->note);
    if (t->usable && columns[0]) {
        snprintf(t->note + used, sizeof t->note - used, "%sgenerated columns are left out: %s",
                 used ? "; " : "", columns);
    }
}

static void read_table(struct reader *r, int row, struct source_catalogue *out) {
    const PGresult *q = r->tables;
    uint64_t oid = field_u64(q, row, 0);
    while (r->column_row < PQntuples(r->columns) && field_u64(r->columns, r->column_row, 0) < oid) {
        r->column_row++;
    }
    int first = r->column_row;
    while (r->column_row < PQntuples(r->columns) &&
           field_u64(r->columns, r->column_row, 0) == oid) {
        r->column_row++;
    }
    struct table_choice choice = { .skip = false };
    r->ask->select(r->ask->rules, PQgetvalue(q, row, 1), PQgetvalue(q, row, 2), &choice);
    if (choice.skip) {
        return;
    }
    struct source_table *t = &out->tables[out->count++];
    *t = (struct source_table){ .rows_estimate = field_u64(q, row, 6),
                                .bytes_estimate = field_u64(q, row, 7) };
    uint16_t columns = (uint16_t)(r->column_row - first);
    struct schema *schema = t->schema =
        schema_new(oid, PQgetvalue(q, row, 1), PQgetvalue(q, row, 2), columns);
    int16_t *attnums = xmalloc((columns + 1u) * sizeof *attnums);
    struct buf marks;
    buf_init(&marks, SIZE_MAX);
    bool partitioned = PQgetvalue(q, row, 3)[0] == 'p';
    struct odd_leaves odd = { .unseen = NULL };
    buf_putf(&marks, "%s:0.%s;", partitioned ? "p" : PQgetvalue(q, row, 5), PQgetvalue(q, row, 10));
    read_columns(r, schema, first, attnums, &marks);
    if (partitioned) {
        read_leaves(r, t, &marks, &odd);
    }
    schema->storage = arena_strdup(&schema->arena, buf_cstr(&marks));
    schema->append = choice.append;
    struct pgsrc_identity_in in = { .space = schema->space,
                                    .name = schema->name,
                                    .replident = PQgetvalue(q, row, 4)[0],
                                    .choice = &choice,
                                    .schema = schema,
                                    .attnums = attnums,
                                    .full_refused =
                                        PQgetvalue(q, row, 11)[0] && field_bool(q, row, 12) };
    index_parse(PQgetvalue(q, row, 8), &in.primary);
    index_parse(PQgetvalue(q, row, 9), &in.chosen);
    struct pgsrc_identity_out id;
    pgsrc_identity(&in, &id);
    take_identity(t, &id);
    check_leaves(t, &odd, in.full_refused);
    check_published(r, t);
    note_generated(t, PQgetvalue(q, row, 11));
    buf_release(&marks);
    free(attnums);
}

static bool any_partitioned(const PGresult *tables) {
    for (int row = 0; row < PQntuples(tables); row++) {
        if (PQgetvalue(tables, row, 3)[0] == 'p') {
            return true;
        }
    }
    return false;
}

int pgsrc_catalogue_read(struct pgsrc_session *s, struct pgsrc_types *types,
                         const struct pgsrc_catalogue_ask *ask, struct source_catalogue *out,
                         struct err *err) {
    *out = (struct source_catalogue){ .tables = NULL };
    char oid[24];
    snprintf(oid, sizeof oid, "%llu", (unsigned long long)ask->oid);
    const char *params[] = { oid };
    const char *publication[] = { ask->publication };
    struct reader r = { .ask = ask, .types = types };
    int rc = -1;
    bool own =
        PQtransactionStatus(s->conn) == PQTRANS_IDLE; /* else the caller's snapshot is the point */
    if (own && pgsrc_run(s, err, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")) {
        return -1;
    }
    /* In a transaction of the caller's: a lane, which asks again for each chunk. */
    PGresult *(*ask_for)(struct pgsrc_session *, struct err *, const char *, int,
                         const char *const *) = own ? pgsrc_query : pgsrc_query_prepared;
    if ((r.tables = ask_for(s, err, tables_sql, 1, params)) &&
        (r.columns = ask_for(s, err, columns_sql, 1, params)) &&
        (!any_partitioned(r.tables) || (r.leaves = ask_for(s, err, leaves_sql, 1, params))) &&
        (!ask->publication || (r.published = pgsrc_query(s, err, published_sql, 1, publication)))) {
        int columns = PQntuples(r.columns);
        uint32_t *oids = xmalloc(((size_t)columns + 1) * sizeof *oids);
        for (int i = 0; i < columns; i++) {
            oids[i] = field_u32(r.columns, i, 3);
        }
        rc = pgsrc_types_load(types, s, oids, (size_t)columns, err);
        free(oids);
    }
    struct err ignored = ERR_INIT; /* of the end of a transaction that failed already */
    if (own && pgsrc_run(s, rc ? &ignored : err, "COMMIT")) {
        rc = -1;
    }
    if (rc == 0) {
        out->tables = xcalloc((size_t)PQntuples(r.tables) + 1, sizeof *out->tables);
        for (int row = 0; row < PQntuples(r.tables); row++) {
            read_table(&r, row, out);
        }
    }
    PQclear(r.tables);
    PQclear(r.columns);
    PQclear(r.leaves);
    PQclear(r.published);
    return rc;
}
