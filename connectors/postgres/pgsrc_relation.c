/* Schemas of relations: see pgsrc_relation.h. A Relation message is of the log's past, the
 * catalogue of the present: columns are matched by name, in the message's order, and the key is the
 * message's where it says one. The catalogue is asked at every message, since what it says may have
 * changed with it. */
#include "connectors/postgres/pgsrc_relation.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/map.h"

struct known {
    struct schema *schema;
    struct pgsrc_plan *plan; /* NULL until the log needs it */
};
struct pgsrc_relations {
    struct pgsrc *s;
    struct pgsrc_session *side; /* NULL = not open */
    struct pgsrc_types *types;
    struct map *by_oid;    /* struct known */
    struct known *retired; /* replaced, but the decoder may still hold them */
    size_t retired_count;
    bool all_binary, expect_binary;
};

int pgsrc_relations_side(struct pgsrc_relations *r, struct pgsrc_session **out, struct err *err) {
    if (r->side && PQstatus(r->side->conn) != CONNECTION_OK) {
        pgsrc_session_close(r->side);
        r->side = NULL;
    }
    if (!r->side && pgsrc_connect(r->s, "ctl", false, &r->side, err)) {
        return -1;
    }
    *out = r->side;
    return 0;
}

static void known_free(void *value) {
    struct known *k = value;
    pgsrc_plan_free(k->plan);
    schema_unref(k->schema);
    free(k);
}

static bool is_binary(struct pgsrc_relations *r, const struct schema *schema) {
    for (uint16_t c = 0; c < schema->column_count; c++) {
        if (!pgsrc_column_is_binary(r->types, &schema->columns[c])) {
            return false;
        }
    }
    return true;
}

struct pgsrc_relations *pgsrc_relations_new(struct pgsrc *s, struct err *err) {
    struct pgsrc_relations *r = xcalloc(1, sizeof *r);
    r->s = s;
    r->types = pgsrc_types_new();
    r->by_oid = map_new();
    r->all_binary = true;
    struct pgsrc_session *side;
    struct source_catalogue c;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(s, 0);
    if (pgsrc_relations_side(r, &side, err) ||
        pgsrc_catalogue_read(side, r->types, &ask, &c, err)) {
        pgsrc_relations_free(r);
        return NULL;
    }
    for (uint32_t i = 0; i < c.count; i++) {
        struct known *k = xcalloc(1, sizeof *k);
        k->schema = schema_ref(c.tables[i].schema);
        map_set(r->by_oid, &k->schema->table_id, sizeof k->schema->table_id, k);
        r->all_binary = r->all_binary && (!c.tables[i].usable || is_binary(r, k->schema));
    }
    source_catalogue_release(&c);
    return r;
}

void pgsrc_relations_free(struct pgsrc_relations *r) {
    if (r) {
        map_free(r->by_oid, known_free);
        for (size_t i = 0; i < r->retired_count; i++) {
            pgsrc_plan_free(r->retired[i].plan);
            schema_unref(r->retired[i].schema);
        }
        free(r->retired);
        pgsrc_types_free(r->types);
        pgsrc_session_close(r->side);
        free(r);
    }
}

bool pgsrc_relations_binary(const struct pgsrc_relations *r) { return r->all_binary; }
void pgsrc_relations_expect_binary(struct pgsrc_relations *r, bool binary) {
    r->expect_binary = binary;
}

/* Plans whose schema nobody but us refers to any more. */
static void sweep(struct pgsrc_relations *r) {
    size_t kept = 0;
    for (size_t i = 0; i < r->retired_count; i++) {
        if (atomic_load(&r->retired[i].schema->refs) > 1) {
            r->retired[kept++] = r->retired[i];
        } else {
            pgsrc_plan_free(r->retired[i].plan);
            schema_unref(r->retired[i].schema);
        }
    }
    r->retired_count = kept;
}

static void retire(struct pgsrc_relations *r, struct known *k) {
    r->retired = xrealloc(r->retired, (r->retired_count + 1) * sizeof *r->retired);
    r->retired[r->retired_count++] = *k;
}

/* --- matching
 * --------------------------------------------------------------------------------------------------
 */

static bool same_columns(const struct schema *schema, const struct pgsrc_relation *rel) {
    if (schema->column_count != rel->column_count || strcmp(schema->space, rel->space) != 0 ||
        strcmp(schema->name, rel->name) != 0) {
        return false;
    }
    for (uint16_t c = 0; c < rel->column_count; c++) {
        const struct column_def *a = &schema->columns[c];
        const struct pgsrc_relation_column *b = &rel->columns[c];
        if (a->source_oid != b->type_oid || a->source_mod != b->type_mod ||
            strcmp(a->name, b->name) != 0) {
            return false;
        }
    }
    return true;
}

/* Does the message itself say what the key was when its rows were written? */
static bool says_key(const struct pgsrc_relation *rel, const struct table_choice *choice) {
    return (rel->identity == 'd' || rel->identity == 'i') && !choice->key && !choice->append;
}

/* The same set of key columns; the message does not know their order. */
static bool same_key_columns(const struct schema *schema, const struct pgsrc_relation *rel) {
    uint16_t count = 0;
    for (uint16_t c = 0; c < rel->column_count; c++) {
        if (rel->columns[c].key) {
            int at = schema_column(schema, rel->columns[c].name);
            count++;
            if (at < 0 || schema->columns[at].key_pos < 0) {
                return false;
            }
        }
    }
    return count == schema->key_count;
}

static bool same_identity(const struct schema *schema, const struct pgsrc_relation *rel,
                          const struct table_choice *choice) {
    return schema->identity == (enum table_identity)rel->identity &&
           (!says_key(rel, choice) || same_key_columns(schema, rel));
}

/* Equal in everything that a schema says, so that the older one can stay. */
static bool same_schema(const struct schema *a, const struct schema *b) {
    if (!schema_same_definition(a, b) || a->identity != b->identity || a->append != b->append ||
        strcmp(a->label, b->label) != 0) {
        return false;
    }
    for (uint16_t c = 0; c < a->column_count; c++) {
        const struct column_def *x = &a->columns[c], *y = &b->columns[c];
        if (x->source_oid != y->source_oid || x->source_mod != y->source_mod ||
            x->nullable != y->nullable || x->byte_order != y->byte_order ||
            !x->missing != !y->missing) { /* of one column it never changes */
            return false;
        }
    }
    return true;
}

/* The key as the message says it, in the order of a schema that has the same: rows from before a
 * change of the key are of the old one. Where it does not say (it carries whole rows, or the user
 * chose), the catalogue's if the message has all of its columns; who applies the rows has to know
 * that this may be a later key than theirs. */
static void put_key(struct schema *schema, const struct schema *now, const struct schema *was,
                    const struct pgsrc_relation *rel, const struct table_choice *choice) {
    const struct schema *like = now;
    int16_t n = 0;
    if (says_key(rel, choice) && !(now && same_key_columns(now, rel))) {
        like = was && same_key_columns(was, rel) ? was : NULL;
    }
    for (uint16_t k = 0; like && n >= 0 && k < like->key_count; k++) {
        int c = schema_column(schema, like->columns[like->key[k]].name);
        n = c < 0 ? -1 : n + 1;
        if (c >= 0) {
            schema->columns[c].key_pos = (int16_t)k;
        }
    }
    if (!like || n < 0) {
        n = 0;
        for (uint16_t c = 0; c < rel->column_count; c++) {
            bool key = (rel->identity == 'd' || rel->identity == 'i') && rel->columns[c].key;
            schema->columns[c].key_pos = key ? n++ : (int16_t)-1;
        }
    }
    schema->key_count = (uint16_t)n;
}

static int type_names(struct pgsrc_session *side, struct schema *schema, struct err *err) {
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    buf_puts(&sql, "SELECT format_type(o::oid, m) FROM (VALUES (0, 0::bigint, 0)");
    for (uint16_t c = 0; c < schema->column_count; c++) {
        buf_putf(&sql, ", (%u, %u, %d)", c + 1u, schema->columns[c].source_oid,
                 schema->columns[c].source_mod);
    }
    buf_puts(&sql, ") v(n, o, m) WHERE n > 0 ORDER BY n");
    PGresult *r = pgsrc_query(side, err, buf_cstr(&sql), 0, NULL);
    buf_release(&sql);
    if (!r) {
        return -1;
    }
    for (uint16_t c = 0; c < schema->column_count && c < PQntuples(r); c++) {
        schema->columns[c].source_type = arena_strdup(&schema->arena, PQgetvalue(r, c, 0));
    }
    PQclear(r);
    return 0;
}

/* The first columns are the catalogue's first ones: what old rows have in them is what it says. */
static void take_missing(struct schema *schema, const struct schema *now) {
    for (uint16_t c = 0; c < schema->column_count && c < now->column_count; c++) {
        const struct column_def *a = &schema->columns[c], *b = &now->columns[c];
        if (a->source_oid != b->source_oid || a->source_mod != b->source_mod ||
            strcmp(a->name, b->name) != 0) {
            return;
        }
        schema_set_missing(schema, c, b->missing, b->missing_len);
    }
}

/* Of a table that is gone the catalogue says nothing any more, as of what happened before that. */
static struct schema *without_missing(const struct schema *schema) {
    struct schema *copy = schema_with_version(schema, schema->version);
    for (uint16_t c = 0; c < copy->column_count; c++) {
        schema_set_missing(copy, c, NULL, 0);
    }
    return copy;
}

/* A schema as the message says; `now` is the same table as the catalogue has it, `was` as it was
 * known last (NULL = unknown). */
static struct schema *build(struct pgsrc_relations *r, struct pgsrc_session *side,
                            const struct pgsrc_relation *rel, const struct schema *now,
                            const struct schema *was, const struct table_choice *choice,
                            struct err *err) {
    uint32_t *oids = xmalloc((rel->column_count + 1u) * sizeof *oids);
    for (uint16_t c = 0; c < rel->column_count; c++) {
        oids[c] = rel->columns[c].type_oid;
    }
    int rc = pgsrc_types_load(r->types, side, oids, rel->column_count, err);
    free(oids);
    if (rc) {
        return NULL;
    }
    struct schema *schema = schema_new(rel->oid, rel->space, rel->name, rel->column_count);
    for (uint16_t c = 0; c < rel->column_count; c++) {
        struct column_def *def = &schema->columns[c];
        def->name = arena_strdup(&schema->arena, rel->columns[c].name);
        def->source_oid = rel->columns[c].type_oid;
        def->source_mod = rel->columns[c].type_mod;
        def->key_pos = -1;
        pgsrc_type_map(def->source_oid, def->source_mod, pgsrc_types_lookup, r->types, &def->type);
        int same = now ? schema_column(now, def->name) : -1;
        def->nullable = same < 0 || now->columns[same].nullable;
        def->byte_order = same >= 0 && now->columns[same].byte_order && def->type.kind == TYPE_TEXT;
    }
    if (type_names(side, schema, err)) {
        schema_unref(schema);
        return NULL;
    }
    schema->storage = arena_strdup(&schema->arena, now ? now->storage : "");
    schema->identity = (enum table_identity)rel->identity;
    schema->append = choice->append;
    put_key(schema, now, was, rel, choice);
    schema_finish(schema);
    return schema;
}

/* --- the decoder's question
 * ------------------------------------------------------------------------------------ */

/* Does a relation of that number exist at all (a partition, for instance)? */
static int exists(struct pgsrc_session *side, uint32_t oid, bool *out, struct err *err) {
    char text[24];
    snprintf(text, sizeof text, "%u", oid);
    const char *params[] = { text };
    PGresult *q = pgsrc_query(side, err, "SELECT FROM pg_class WHERE oid = $1::oid", 1, params);
    if (!q) {
        return -1;
    }
    *out = PQntuples(q) > 0;
    PQclear(q);
    return 0;
}

static int check_binary(struct pgsrc_relations *r, const struct schema *schema, bool present,
                        struct err *err) {
    for (uint16_t c = 0; c < schema->column_count && r->expect_binary; c++) {
        if (!pgsrc_column_is_binary(r->types, &schema->columns[c])) {
            /* Of a table as it is now, the next start sees the column and asks for text. */
            err_set(
                err, present ? ERR_REWIND : ERR_FATAL, "binary_unreadable",
                "the column \"%s\" of \"%s\" has the type %s, whose binary form is not understood",
                schema->columns[c].name, schema->label, schema->columns[c].source_type);
            return err_cure(err, "binary=off in the source's URL");
        }
    }
    return 0;
}

static int unusable(const struct source_table *t, struct err *err) {
    err_set(err, ERR_FATAL, "table_unusable", "the table \"%s\" cannot be followed: %s",
            t->schema->label, t->why);
    err_exit(err, EXIT_PLAN);
    return err_cure(err, "%.*s", (int)strcspn(t->cure, "\n"), t->cure);
}

/* A generated column in the message: the publication carried it then (a server from 18 on), rows of
 * a snapshot never do. */
static int check_generated(struct pgsrc_session *side, const struct pgsrc_relation *rel,
                           struct err *err) {
    char oid[24];
    snprintf(oid, sizeof oid, "%u", rel->oid);
    const char *params[] = { oid };
    PGresult *q = pgsrc_query(side, err,
                              "SELECT attname FROM pg_attribute WHERE attrelid = $1::oid AND "
                              "attgenerated <> '' AND NOT attisdropped",
                              1, params);
    if (!q) {
        return -1;
    }
    int rc = 0;
    for (int i = 0; i < PQntuples(q) && rc == 0; i++) {
        for (uint16_t c = 0; c < rel->column_count && rc == 0; c++) {
            if (strcmp(PQgetvalue(q, i, 0), rel->columns[c].name) == 0) {
                rc = err_set(err, ERR_FATAL, "table_unusable",
                             "the log carries the generated column \"%s\" of the table \"%s.%s\", "
                             "which is not followed",
                             rel->columns[c].name, rel->space, rel->name);
            }
        }
    }
    PQclear(q);
    if (rc) {
        err_exit(err, EXIT_LINEAGE);
        err_cure(err, "publish no generated columns; to begin anew: tailrace drop JOB --yes, then "
                      "run it with an empty target");
    }
    return rc;
}

/* *out = NULL: not wanted. */
static int find_schema(struct pgsrc_relations *r, const struct pgsrc_relation *rel,
                       struct schema **out, struct err *err) {
    struct pgsrc_session *side;
    struct source_catalogue c;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(r->s, rel->oid);
    struct table_choice choice = { .skip = false };
    *out = NULL;
    r->s->select(r->s->rules, rel->space, rel->name, &choice);
    if (choice.skip) {
        return 0;
    }
    if (pgsrc_relations_side(r, &side, err) ||
        pgsrc_catalogue_read(side, r->types, &ask, &c, err)) {
        return -1;
    }
    int rc = 0;
    uint64_t id = rel->oid;
    const struct known *k = map_get(r->by_oid, &id, sizeof id);
    const struct schema *was = k ? k->schema : NULL;
    bool present = c.count == 1, there = true;
    if (present && !c.tables[0].usable) {
        rc = unusable(&c.tables[0], err);
    } else if (present) {
        bool columns = same_columns(c.tables[0].schema, rel);
        if (columns && same_identity(c.tables[0].schema, rel, &choice)) {
            *out = schema_ref(c.tables[0].schema);
        } else if (columns || check_generated(side, rel, err) == 0) {
            *out = build(r, side, rel, c.tables[0].schema, was, &choice, err);
            if (*out) {
                take_missing(*out, c.tables[0].schema);
            }
        }
        rc = *out ? check_binary(r, *out, columns, err) : -1;
    } else if ((rc = exists(side, rel->oid, &there, err)) == 0 && !there) {
        /* dropped since: as it was known last */
        *out = was && same_columns(was, rel) && same_identity(was, rel, &choice)
                   ? without_missing(was)
                   : build(r, side, rel, was, was, &choice, err);
        rc = *out ? check_binary(r, *out, false, err) : -1;
    }
    source_catalogue_release(&c);
    if (rc) {
        schema_unref(*out);
        *out = NULL;
    }
    return rc;
}

static int on_relation(void *arg, const struct pgsrc_relation *rel, struct schema **schema,
                       const struct pgsrc_plan **plan, struct err *err) {
    struct pgsrc_relations *r = arg;
    struct schema *found;
    *schema = NULL;
    *plan = NULL;
    sweep(r);
    if (find_schema(r, rel, &found, err)) {
        return -1;
    }
    if (!found) {
        return 0;
    }
    struct known *k = map_get(r->by_oid, &found->table_id, sizeof found->table_id);
    if (k && same_schema(k->schema, found)) {
        schema_unref(found);
    } else {
        struct known *fresh = xcalloc(1, sizeof *fresh);
        fresh->schema = found;
        if (k) {
            retire(r, k);
            free(k);
        }
        map_set(r->by_oid, &found->table_id, sizeof found->table_id, fresh);
        k = fresh;
    }
    if (!k->plan) {
        k->plan = pgsrc_plan_new(k->schema, pgsrc_types_lookup, r->types);
    }
    *schema = schema_ref(k->schema);
    *plan = k->plan;
    return 0;
}

void pgsrc_relations_calls(struct pgsrc_relations *r, struct pgsrc_pgoutput_calls *out) {
    *out = (struct pgsrc_pgoutput_calls){ .relation = on_relation, .arg = r };
}
