/* The job's publications: `tailrace_<job>` for tables with an identity, `tailrace_<job>_append` for
 * append tables. Both always exist before the slot: the server looks them up in the slot's past.
 * What must be done is first said as SQL: `plan` prints the same statements that `start` and
 * `capture` run. */
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/map.h"
#include "connectors/postgres/pgsrc_impl.h"

int pgsrc_publication_state(struct pgsrc *s, struct pgsrc_publication_state *out, struct err *err) {
    *out = (struct pgsrc_publication_state){ .append_exists = !s->append_publication[0] };
    const char *params[] = { s->publication, s->append_publication };
    PGresult *r =
        pgsrc_query(s->ctl, err,
                    "SELECT pubname = $1, pubinsert AND pubtruncate, pubupdate AND pubdelete, "
                    "pubviaroot OR NOT EXISTS (SELECT FROM pg_class WHERE relkind = 'p'), "
                    "coalesce(to_jsonb(p)->>'pubgencols', 'n') <> 'n'"
                    " FROM pg_publication p WHERE pubname IN ($1, $2)",
                    2, params);
    if (!r) {
        return -1;
    }
    for (int i = 0; i < PQntuples(r); i++) {
        bool main = PQgetvalue(r, i, 0)[0] == 't', adds = PQgetvalue(r, i, 1)[0] == 't',
             changes = PQgetvalue(r, i, 2)[0] == 't', root = PQgetvalue(r, i, 3)[0] == 't';
        *(main ? &out->exists : &out->append_exists) = true;
        bool generated = s->own_publications && PQgetvalue(r, i, 4)[0] == 't';
        if (!adds || !root || (main && !changes) || generated) {
            out->wrong = true;
            out->generated = generated;
            snprintf(out->wrong_name, sizeof out->wrong_name, "%s",
                     main ? s->publication : s->append_publication);
        }
    }
    PQclear(r);
    return 0;
}

const char *pgsrc_publication_wrong(const struct pgsrc_publication_state *state) {
    return state->generated ? "publishes generated columns, which are not followed"
                            : "does not publish all that it must";
}

/* Oids of the tables a publication carries now. */
static int members(struct pgsrc *s, const char *publication, struct map **out, struct err *err) {
    const char *params[] = { publication };
    PGresult *r = pgsrc_query(
        s->ctl, err,
        "SELECT c.oid FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname"
        " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename WHERE t.pubname = "
        "$1",
        1, params);
    if (!r) {
        return -1;
    }
    *out = map_new();
    for (int i = 0; i < PQntuples(r); i++) {
        uint64_t oid = strtoull(PQgetvalue(r, i, 0), NULL, 10);
        map_set(*out, &oid, sizeof oid, s);
    }
    PQclear(r);
    return 0;
}

static bool is_wanted(uint64_t id, const uint64_t *only, uint32_t only_count) {
    for (uint32_t i = 0; i < only_count; i++) {
        if (only[i] == id) {
            return true;
        }
    }
    return !only;
}

/* Plain tables with ONLY: children of inheritance are tables of their own. */
static void put_member(struct buf *list, const struct schema *t) {
    buf_puts(list, list->len ? ", " : "");
    buf_puts(list, t->storage[0] == 'p' ? "" : "ONLY ");
    pgsrc_put_table(list, t->space, t->name);
}

static void put_statement(struct buf *out, const char *verb, const char *publication,
                          const char *between, struct buf *list, const char *tail) {
    buf_puts(out, verb);
    pgsrc_put_ident(out, publication);
    if (list && list->len) {
        buf_puts(out, between);
        buf_put(out, list->data, list->len);
    }
    buf_puts(out, tail);
    buf_puts(out, ";\n");
}

static int publication_sql(struct pgsrc *s, const struct source_catalogue *c, const uint64_t *only,
                           uint32_t only_count, bool append, bool exists, struct buf *out,
                           struct err *err) {
    const char *name = append ? s->append_publication : s->publication;
    struct map *has = NULL;
    if (members(s, name, &has, err)) {
        return -1;
    }
    struct buf add, drop;
    buf_init(&add, SIZE_MAX);
    buf_init(&drop, SIZE_MAX);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct schema *t = c->tables[i].schema;
        if (!c->tables[i].usable || !is_wanted(t->table_id, only, only_count)) {
            continue;
        }
        bool member = map_get(has, &t->table_id, sizeof t->table_id);
        if (t->append == append && !member) {
            put_member(&add, t);
        } else if (t->append != append && member) {
            put_member(&drop, t);
        }
    }
    if (!exists) {
        put_statement(out, "CREATE PUBLICATION ", name, " FOR TABLE ", &add,
                      append
                          ? " WITH (publish = 'insert,truncate', publish_via_partition_root = true)"
                          : " WITH (publish_via_partition_root = true)");
    } else if (add.len) {
        put_statement(out, "ALTER PUBLICATION ", name, " ADD TABLE ", &add, "");
    }
    if (drop.len) {
        put_statement(out, "ALTER PUBLICATION ", name, " DROP TABLE ", &drop, "");
    }
    buf_release(&add);
    buf_release(&drop);
    map_free(has, NULL);
    return 0;
}

int pgsrc_publication_sql(struct pgsrc *s, const struct source_catalogue *c, const uint64_t *only,
                          uint32_t only_count, struct buf *out, struct err *err) {
    struct pgsrc_publication_state state;
    if (!s->own_publications) {
        return 0;
    }
    if (pgsrc_publication_state(s, &state, err)) {
        return -1;
    }
    return publication_sql(s, c, only, only_count, false, state.exists, out, err) ||
                   publication_sql(s, c, only, only_count, true, state.append_exists, out, err)
               ? -1
               : 0;
}

int pgsrc_run_lines(struct pgsrc *s, struct buf *lines, struct err *err) {
    for (char *p = (char *)(uintptr_t)buf_cstr(lines); *p;) {
        char *stop = strstr(p, ";\n"); /* names with a newline: ";\n" may stand inside quotes */
        for (char *q = p; stop; stop = strstr(stop + 2, ";\n")) {
            bool quoted = false;
            for (; q < stop; q++) {
                quoted ^= *q == '"';
            }
            q = p;
            if (!quoted) {
                break;
            }
        }
        CHECK(stop != NULL);
        *stop = '\0';
        if (pgsrc_run(s->ctl, err, p)) {
            if (err->kind == ERR_FATAL) {
                err_cure(err, "as the owner of the tables: %s;", p);
            }
            return -1;
        }
        p = stop + 2;
    }
    return 0;
}
