/* What is missing on the server, each with the SQL that adds it. Reads only. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "connectors/postgres/pgsrc_impl.h"

TR_PRINTF(3, 4)
static struct source_finding *found(struct source_findings *out, bool fatal, const char *fmt, ...) {
    out->count +=
        out->count < ARRAY_COUNT(out->at); /* beyond the last place the last one is replaced */
    struct source_finding *f = &out->at[out->count - 1];
    *f = (struct source_finding){ .fatal = fatal };
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->what, sizeof f->what, fmt, args);
    va_end(args);
    return f;
}

TR_PRINTF(2, 3) static void cure(struct source_finding *f, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(f->cure, sizeof f->cure, fmt, args);
    va_end(args);
}

static bool yes(const PGresult *r, int row, int col) { return PQgetvalue(r, row, col)[0] == 't'; }

static const char server_sql[] =
    "SELECT current_setting('wal_level') = 'logical', current_setting('wal_level'), "
    "quote_ident(current_user),"
    " rolreplication OR rolsuper OR coalesce((SELECT pg_has_role(r.oid, 'USAGE') FROM pg_roles r "
    "WHERE r.rolname IN ('rds_replication', 'cloudsqlreplica') LIMIT 1), false),"
    " (SELECT count(*) FROM pg_replication_slots) >= current_setting('max_replication_slots')::int "
    "AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1),"
    " (SELECT count(*) FROM pg_stat_replication) >= current_setting('max_wal_senders')::int AND "
    "NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active),"
    " has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()), "
    "current_setting('max_replication_slots'), current_setting('max_wal_senders'), "
    "coalesce(nullif(current_setting('idle_replication_slot_timeout', true), '0'), '')"
    " FROM pg_roles WHERE rolname = current_user";

static int examine_server(struct pgsrc *s, struct source_findings *out, char role[160],
                          bool *may_create, struct err *err) {
    const char *params[] = { s->slot };
    PGresult *r = pgsrc_query(s->ctl, err, server_sql, 1, params);
    if (!r) {
        return -1;
    }
    snprintf(role, 160, "%s", PQgetvalue(r, 0, 2));
    *may_create = yes(r, 0, 6);
    if (!yes(r, 0, 0)) {
        cure(found(out, true, "wal_level is %s: the log does not carry rows", PQgetvalue(r, 0, 1)),
             "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server");
    }
    if (!yes(r, 0, 3)) {
        cure(found(out, true, "the role %s may not read the log", role),
             "ALTER ROLE %s REPLICATION;", role);
    }
    if (yes(r, 0, 4)) {
        long n = strtol(PQgetvalue(r, 0, 8), NULL, 10);
        cure(found(out, true, "all %ld replication slots of the server are taken", n),
             "ALTER SYSTEM SET max_replication_slots = %ld; -- then restart the server", n + 4);
    }
    if (yes(r, 0, 5)) {
        long n = strtol(PQgetvalue(r, 0, 9), NULL, 10);
        cure(found(out, true, "all %ld WAL senders of the server are taken", n),
             "ALTER SYSTEM SET max_wal_senders = %ld; -- then restart the server", n + 4);
    }
    if (PQgetvalue(r, 0, 10)[0]) { /* 18 and newer */
        cure(found(out, false, "the server gives up a slot that nobody has read for %s",
                   PQgetvalue(r, 0, 10)),
             "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();");
    }
    PQclear(r);
    return 0;
}

/* --- tables
 * ----------------------------------------------------------------------------------------------------
 */

enum lack { LACK_SCHEMA, LACK_SELECT, LACK_ROWS, LACK_COUNT };

static int examine_tables(struct pgsrc *s, const struct source_catalogue *c, const char *role,
                          struct source_findings *out, struct err *err) {
    struct buf oids;
    buf_init(&oids, SIZE_MAX);
    buf_putc(&oids, '{');
    for (uint32_t i = 0; i < c->count; i++) {
        buf_putf(&oids, "%s%llu", i ? "," : "", (unsigned long long)c->tables[i].schema->table_id);
    }
    buf_putc(&oids, '}');
    const char *params[] = { buf_cstr(&oids) };
    PGresult *r =
        pgsrc_query(s->ctl, err,
                    "SELECT quote_ident(n.nspname), quote_ident(n.nspname) || '.' || "
                    "quote_ident(c.relname), NOT has_schema_privilege(n.oid, 'USAGE'),"
                    " NOT has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid) OR "
                    "(c.relrowsecurity AND NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles"
                    " WHERE rolname = current_user) AND NOT pg_has_role(c.relowner, 'USAGE'))"
                    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = "
                    "ANY ($1::oid[]) ORDER BY 1, 2",
                    1, params);
    buf_release(&oids);
    if (!r) {
        return -1;
    }
    struct source_finding *last[LACK_COUNT] = {
        NULL
    }; /* one finding gathers several tables, as far as its text goes */
    const char *schema = "";
    for (int i = 0; i < PQntuples(r); i++) {
        const char *space = PQgetvalue(r, i, 0), *table = PQgetvalue(r, i, 1);
        if (yes(r, i, 2) && strcmp(schema, space) != 0) {
            cure(found(out, true, "the role %s may not use the schema %s", role, space),
                 "GRANT USAGE ON SCHEMA %s TO %s;", space, role);
            schema = space;
        }
        if (yes(r, i, 3)) {
            struct source_finding *f = last[LACK_SELECT];
            size_t used = f ? strlen(f->cure) : 0;
            if (f && used + strlen(table) + 3 < sizeof f->cure) {
                used -= strlen(role) + 5; /* " TO role;" is written again */
                snprintf(f->cure + used, sizeof f->cure - used, ", %s TO %s;", table, role);
            } else {
                f = last[LACK_SELECT] =
                    found(out, true,
                          "the role %s may not read the table %s (and others named in the cure)",
                          role, table);
                cure(f, "GRANT SELECT ON %s TO %s;", table, role);
            }
        }
        if (yes(r, i, 4) && !last[LACK_ROWS]) {
            last[LACK_ROWS] =
                found(out, true, "row-level security hides rows of the table %s from the role %s",
                      table, role);
            cure(last[LACK_ROWS], "ALTER ROLE %s BYPASSRLS;", role);
        }
    }
    PQclear(r);
    return 0;
}

/* Unlogged tables are in no log: left out, and said so. */
static int examine_unlogged(struct pgsrc *s, struct source_findings *out, struct err *err) {
    PGresult *r =
        pgsrc_query(s->ctl, err,
                    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = "
                    "c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'u'"
                    " AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2",
                    0, NULL);
    if (!r) {
        return -1;
    }
    struct buf names;
    buf_init(&names, SIZE_MAX);
    int count = 0;
    for (int i = 0; i < PQntuples(r); i++) {
        struct table_choice choice = { .skip = false };
        s->select(s->rules, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1), &choice);
        if (!choice.skip) {
            buf_puts(&names, count++ ? ", " : "");
            pgsrc_put_table(&names, PQgetvalue(r, i, 0), PQgetvalue(r, i, 1));
        }
    }
    if (count) {
        cure(found(out, false, "%d unlogged table%s left out, their changes are in no log: %.200s",
                   count, count == 1 ? " is" : "s are", buf_cstr(&names)),
             "ALTER TABLE ... SET LOGGED; -- or a line `table: skip` to leave it out quietly");
    }
    buf_release(&names);
    PQclear(r);
    return 0;
}

#define MONEY 790
#define MONEY_ARRAY 791

/* lc_monetary says how many decimals the stored number has: it is not overridden, and the text of a
 * value is the server's under it. */
static int examine_money(struct pgsrc *s, const struct source_catalogue *c, const char *role,
                         struct source_findings *out, struct err *err) {
    struct buf names;
    buf_init(&names, SIZE_MAX);
    unsigned count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct schema *schema = c->tables[i].schema;
        for (uint16_t k = 0; k < schema->column_count; k++) {
            uint32_t base = pgsrc_types_base(s->types, schema->columns[k].source_oid);
            if (base == MONEY || base == MONEY_ARRAY) {
                buf_puts(&names, count++ ? ", " : "");
                pgsrc_put_table(&names, schema->space, schema->name);
                buf_putc(&names, '.');
                pgsrc_put_ident(&names, schema->columns[k].name);
            }
        }
    }
    char locale[128] = "";
    int rc = count
                 ? pgsrc_scalar(s->ctl, err, "SELECT quote_literal(current_setting('lc_monetary'))",
                                locale, sizeof locale)
                 : 0;
    if (count && rc == 0) {
        cure(
            found(out, false,
                  "%u column%s of type money: written as the text that the server shows under the "
                  "role's lc_monetary %s, which must stay as it is: %.120s",
                  count, count == 1 ? "" : "s", locale, buf_cstr(&names)),
            "ALTER ROLE %s SET lc_monetary = %s; -- keeps it, whatever becomes of the server's own",
            role, locale);
    }
    buf_release(&names);
    return rc;
}

/* --- publications
 * ---------------------------------------------------------------------------------------------- */

static int examine_publications(struct pgsrc *s, const struct source_catalogue *c, const char *role,
                                bool may_create, struct source_findings *out, struct err *err) {
    struct pgsrc_publication_state state;
    if (pgsrc_publication_state(s, &state, err)) {
        return -1;
    }
    if (state.wrong) {
        cure(found(out, true, "the publication \"%s\" %s", state.wrong_name,
                   pgsrc_publication_wrong(&state)),
             "ALTER PUBLICATION \"%s\" SET (publish = '%s', publish_via_partition_root = true%s);",
             state.wrong_name,
             strcmp(state.wrong_name, s->append_publication) == 0 ? "insert,truncate"
                                                                  : "insert,update,delete,truncate",
             state.generated ? ", publish_generated_columns = none" : "");
    }
    if (!s->own_publications) {
        if (!state.exists) {
            cure(
                found(out, true, "the publication \"%s\" of ?publication= does not exist",
                      s->publication),
                "CREATE PUBLICATION \"%s\" FOR TABLE ... WITH (publish_via_partition_root = true);",
                s->publication);
        }
        return 0;
    }
    struct buf sql;
    buf_init(&sql, SIZE_MAX);
    if (pgsrc_publication_sql(s, c, NULL, 0, &sql, err)) {
        buf_release(&sql);
        return -1;
    }
    PGresult *r = NULL;
    if (sql.len) {
        struct buf oids;
        buf_init(&oids, SIZE_MAX);
        buf_putc(&oids, '{');
        for (uint32_t i = 0, n = 0; i < c->count; i++) {
            if (c->tables[i].usable) {
                buf_putf(&oids, "%s%llu", n++ ? "," : "",
                         (unsigned long long)c->tables[i].schema->table_id);
            }
        }
        buf_putc(&oids, '}');
        const char *with_oids[] = { s->publication, s->append_publication, buf_cstr(&oids) };
        r = pgsrc_query(s->ctl, err,
                        "SELECT (SELECT coalesce(bool_and(pg_has_role(pubowner, 'USAGE')), true) "
                        "FROM pg_publication WHERE pubname IN ($1, $2)),"
                        " (SELECT count(*) FROM pg_class c WHERE c.oid = ANY ($3::oid[]) AND NOT "
                        "pg_has_role(c.relowner, 'USAGE')) = 0",
                        3, with_oids);
        buf_release(&oids);
        if (!r) {
            buf_release(&sql);
            return -1;
        }
        bool creates = !state.exists || !state.append_exists;
        if ((creates && !may_create) || !yes(r, 0, 0) || !yes(r, 0, 1)) {
            const char *why = creates && !may_create ? "may not create objects in this database"
                              : yes(r, 0, 0)         ? "does not own all of the tables"
                                                     : "does not own the publication";
            struct source_finding *f = found(
                out, true,
                "the publication \"%s\" must be made by the owner of the tables: the role %s %s",
                s->publication, role, why);
            if (sql.len < sizeof f->cure) {
                cure(f, "%.*s", (int)(sql.len - 1), buf_cstr(&sql));
            } else { /* too many tables to print */
                cure(f,
                     "CREATE PUBLICATION \"%s\" FOR TABLE <the tables> WITH "
                     "(publish_via_partition_root = true); CREATE PUBLICATION \"%s\" WITH (publish "
                     "= 'insert,truncate', publish_via_partition_root = true);",
                     s->publication, s->append_publication);
            }
        }
        PQclear(r);
    }
    buf_release(&sql);
    return 0;
}

int pgsrc_op_examine(struct source *source, struct source_findings *out, struct err *err) {
    struct pgsrc *s = (struct pgsrc *)source;
    char role[160];
    bool may_create;
    struct source_catalogue c;
    struct pgsrc_catalogue_ask ask = pgsrc_ask(s, 0);
    out->count = 0;
    if (examine_server(s, out, role, &may_create, err) ||
        pgsrc_catalogue_read(s->ctl, s->types, &ask, &c, err)) {
        return -1;
    }
    int rc = examine_tables(s, &c, role, out, err) || examine_unlogged(s, out, err) ||
                     examine_money(s, &c, role, out, err) ||
                     examine_publications(s, &c, role, may_create, out, err)
                 ? -1
                 : 0;
    source_catalogue_release(&c);
    return rc;
}
