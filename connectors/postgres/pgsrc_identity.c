/* Keys and marks of stored rows: see pgsrc_identity.h. Pure. */
#include "connectors/postgres/pgsrc_identity.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "connectors/postgres/session.h"

/* Column indexes of an index's attributes. False if one of them is not captured (a generated
 * column). */
static bool index_columns(const struct pgsrc_identity_in *in, const struct pgsrc_index *index,
                          uint16_t *out) {
    for (uint16_t k = 0; k < index->count; k++) {
        uint16_t c = 0;
        while (c < in->schema->column_count && in->attnums[c] != index->attnum[k]) {
            c++;
        }
        if (c == in->schema->column_count) {
            return false;
        }
        out[k] = c;
    }
    return index->count > 0;
}

/* From 18 on an index may become the replica identity though a NOT NULL of it is NOT VALID. */
static bool may_be_null(const struct pgsrc_identity_in *in, const uint16_t *key, uint16_t count) {
    for (uint16_t k = 0; k < count; k++) {
        if (in->schema->columns[key[k]].nullable) {
            return true;
        }
    }
    return false;
}

static void take_key(struct pgsrc_identity_out *out, const uint16_t *key, uint16_t count) {
    memcpy(out->key, key, count * sizeof *key);
    out->key_count = count;
}

/* A name in a rule of the job file: bare where the grammar allows it. */
static void put_rule_name(struct buf *out, const char *name) {
    static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    if (name[0] && strspn(name, bare) == strlen(name)) {
        buf_puts(out, name);
    } else {
        pgsrc_put_ident(out, name);
    }
}

static bool has_own_key(const struct pgsrc_identity_in *in) {
    uint16_t key[PGSRC_KEY_MAX];
    return in->primary.exists && in->primary.immediate && index_columns(in, &in->primary, key);
}

static void refuse(const struct pgsrc_identity_in *in, struct pgsrc_identity_out *out,
                   const char *why) {
    out->usable = false;
    snprintf(out->why, sizeof out->why, "%s", why);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_puts(&b, "ALTER TABLE ");
    pgsrc_put_table(&b, in->space, in->name);
    buf_puts(&b, !in->full_refused ? " REPLICA IDENTITY FULL;\n"
                 : has_own_key(in)
                     ? " REPLICA IDENTITY DEFAULT;\n"
                     : " REPLICA IDENTITY USING INDEX ...; -- without a generated column\n");
    for (int i = 0; i < 2; i++) {
        put_rule_name(&b, in->space);
        buf_putc(&b, '.');
        put_rule_name(&b, in->name);
        buf_puts(&b, i ? ": append" : ": skip\n");
    }
    snprintf(out->cure, sizeof out->cure, "%s", buf_cstr(&b));
    buf_release(&b);
}

/* "a, b" -> column indexes. */
static int override_columns(const struct pgsrc_identity_in *in, struct pgsrc_identity_out *out,
                            uint16_t *key, uint16_t *count) {
    *count = 0;
    for (const char *p = in->choice->key; *p;) {
        p += strspn(p, " ,\t");
        size_t n = strcspn(p, ",");
        size_t len = n;
        while (len && isspace((unsigned char)p[len - 1])) {
            len--;
        }
        if (len == 0) {
            break;
        }
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), p);
        int c = schema_column(in->schema, name);
        char why[320];
        if (c < 0 || in->schema->columns[c].nullable || *count == PGSRC_KEY_MAX) {
            snprintf(why, sizeof why,
                     c < 0 ? "key=(..) names the column \"%s\", which does not exist"
                     : *count == PGSRC_KEY_MAX
                         ? "key=(..) has too many columns (at \"%s\")"
                         : "key=(..) names the column \"%s\", which may be null",
                     name);
            refuse(in, out, why);
            return -1;
        }
        key[(*count)++] = (uint16_t)c;
        p += n;
    }
    if (*count == 0) {
        refuse(in, out, "key=(..) names no column");
        return -1;
    }
    return 0;
}

static bool contains(const uint16_t *set, uint16_t count, uint16_t c) {
    for (uint16_t i = 0; i < count; i++) {
        if (set[i] == c) {
            return true;
        }
    }
    return false;
}

void pgsrc_identity(const struct pgsrc_identity_in *in, struct pgsrc_identity_out *out) {
    *out = (struct pgsrc_identity_out){ .identity = (enum table_identity)in->replident,
                                        .usable = true };
    uint16_t primary[PGSRC_KEY_MAX], chosen[PGSRC_KEY_MAX];
    bool has_primary =
        in->primary.exists && in->primary.immediate && index_columns(in, &in->primary, primary);
    bool has_chosen = in->replident == 'i' && in->chosen.exists &&
                      index_columns(in, &in->chosen, chosen) &&
                      !may_be_null(in, chosen, in->chosen.count);
    bool full = in->replident == 'f';
    if (full && in->full_refused && !in->choice->append) {
        refuse(in, out,
               "its replica identity is FULL and it has generated columns: the server would refuse "
               "its updates and deletes once it is published");
        return;
    }
    /* What the log carries of an old row: everything, or the columns of one index. */
    const uint16_t *carried = has_chosen                            ? chosen
                              : in->replident == 'd' && has_primary ? primary
                                                                    : NULL;
    uint16_t carried_count = has_chosen ? in->chosen.count : carried ? in->primary.count : 0;

    if (in->choice->key) {
        uint16_t key[PGSRC_KEY_MAX], count;
        if (override_columns(in, out, key, &count)) {
            return;
        }
        for (uint16_t i = 0; i < count && !full && !in->choice->append; i++) {
            if (!contains(carried, carried_count, key[i])) {
                refuse(in, out,
                       "the log does not carry the columns of key=(..) for updates and deletes");
                return;
            }
        }
        take_key(out, key, count);
        return;
    }
    if (carried) {
        take_key(out, carried, carried_count);
    } else if ((full || in->choice->append) && has_primary) {
        take_key(out, primary, in->primary.count);
    } else if (!full && !in->choice->append) {
        refuse(in, out,
               in->primary.exists && !in->primary.immediate
                   ? "its primary key is deferrable, so updates and deletes carry no identity"
               : in->primary.exists && !has_primary
                   ? "its primary key has a generated column, which the log does not carry"
               : in->replident == 'n'
                   ? "its replica identity is NOTHING, so updates and deletes carry no identity"
               : in->replident == 'i'
                   ? "the index of its replica identity is missing, or has a column that is "
                     "generated or may be null"
                   : "it has no primary key, so updates and deletes carry no identity");
    }
}

/* --- marks
 * -----------------------------------------------------------------------------------------------------
 */

/* The entry "<id>." in a list of entries that end with ';'. NULL if it is not there. */
static const char *entry_find(const char *list, const char *end, unsigned long id, size_t *len) {
    for (const char *p = list; p < end;) {
        const char *stop = memchr(p, ';', (size_t)(end - p));
        stop = stop ? stop : end;
        if (strtoul(p, NULL, 10) == id) {
            *len = (size_t)(stop - p);
            return p;
        }
        p = stop + 1;
    }
    return NULL;
}

struct marks {
    const char *node;
    size_t node_len;
    const char *columns, *columns_end, *leaves, *leaves_end;
};
static struct marks marks_of(const char *storage) {
    struct marks m = { .node = storage };
    m.node_len = strcspn(storage, ":");
    m.columns = storage + m.node_len + (storage[m.node_len] == ':');
    m.columns_end = m.columns + strcspn(m.columns, "|");
    m.leaves = *m.columns_end ? m.columns_end + 1 : m.columns_end;
    m.leaves_end = m.leaves + strlen(m.leaves);
    return m;
}

/* "<oid>.<filenode>.<hash>[.<attnum>_<attnum>..][+]": the list names columns with a value for rows
 * stored before them, which the root's own marks do not show. */
struct leaf {
    unsigned long node;
    const char *missing, *missing_end;
};

static struct leaf leaf_of(const char *p, size_t len) {
    const char *end = p + len - (len && p[len - 1] == '+');
    struct leaf leaf = { .missing = end, .missing_end = end };
    const char *node = memchr(p, '.', (size_t)(end - p));
    const char *hash = node ? memchr(node + 1, '.', (size_t)(end - node - 1)) : NULL;
    const char *missing = hash ? memchr(hash + 1, '.', (size_t)(end - hash - 1)) : NULL;
    leaf.node = node ? strtoul(node + 1, NULL, 10) : 0;
    leaf.missing = missing ? missing + 1 : end;
    return leaf;
}

static bool leaf_misses(const struct leaf *leaf, unsigned long attnum) {
    for (const char *p = leaf->missing; p < leaf->missing_end; p++) {
        if (strtoul(p, NULL, 10) == attnum) {
            return true;
        }
        p = memchr(p, '_', (size_t)(leaf->missing_end - p));
        if (!p) {
            break;
        }
    }
    return false;
}

/* Another file: TRUNCATE of one partition is in no log that is published through the root, and the
 * catalogue does not tell it from VACUUM FULL. */
static bool leaf_rewritten(const char *was, size_t was_len, const char *is, size_t is_len) {
    struct leaf a = leaf_of(was, was_len), b = leaf_of(is, is_len);
    if (a.node != b.node) {
        return true;
    }
    for (const char *p = b.missing; p < b.missing_end; p++) {
        if (!leaf_misses(&a, strtoul(p, NULL, 10))) {
            return true;
        }
        p = memchr(p, '_', (size_t)(b.missing_end - p));
        if (!p) {
            break;
        }
    }
    return false;
}

static bool leaves_rewritten(const struct marks *was, const struct marks *is) {
    size_t len, other_len;
    for (const char *p = is->leaves; p < is->leaves_end;) {
        unsigned long id = strtoul(p, NULL, 10);
        const char *stop = memchr(p, ';', (size_t)(is->leaves_end - p));
        len = (size_t)((stop ? stop : is->leaves_end) - p);
        const char *other = entry_find(was->leaves, was->leaves_end, id, &other_len);
        if (!other ? len && p[len - 1] == '+' : leaf_rewritten(other, other_len, p, len)) {
            return true; /* attached with rows that the log never showed, or rewritten */
        }
        p += len + 1;
    }
    for (const char *p = was->leaves; p < was->leaves_end;) {
        if (!entry_find(is->leaves, is->leaves_end, strtoul(p, NULL, 10), &len)) {
            return true; /* detached or dropped: its rows left without a word in the log */
        }
        const char *stop = memchr(p, ';', (size_t)(was->leaves_end - p));
        p = stop ? stop + 1 : was->leaves_end;
    }
    return false;
}

/* Another type means other values, unless it is a decimal that merely became longer. */
static bool types_rewritten(const struct schema *before, const struct schema *after) {
    for (uint16_t c = 0; c < after->column_count; c++) {
        int was = schema_column(before, after->columns[c].name);
        if (was < 0) {
            continue;
        }
        struct type a = before->columns[was].type, b = after->columns[c].type;
        if (a.kind == TYPE_DECIMAL && b.kind == TYPE_DECIMAL && a.scale == b.scale &&
            a.precision <= b.precision) {
            continue;
        }
        if (!type_equal(&a, &b)) {
            return true;
        }
    }
    return false;
}

void pgsrc_column_mark(struct buf *out, int16_t attnum, const char *xmin, const char *name,
                       bool missing) {
    buf_putf(out, "%d.%s.%016llx%s;", attnum, xmin,
             (unsigned long long)hash_bytes(name, strlen(name), 0), missing ? "m" : "");
}

/* The hash of the name in a column's entry; 0 = it has none. */
static unsigned long long entry_name(const char *p, size_t len) {
    const char *xmin = memchr(p, '.', len);
    const char *name = xmin ? memchr(xmin + 1, '.', (size_t)(p + len - xmin - 1)) : NULL;
    return name ? strtoull(name + 1, NULL, 16) : 0;
}

static bool had_name(const struct schema *schema, unsigned long long name) {
    for (uint16_t c = 0; c < schema->column_count && name; c++) {
        if (hash_bytes(schema->columns[c].name, strlen(schema->columns[c].name), 0) == name) {
            return true;
        }
    }
    return false;
}

/* Does a column, by its entry, hold other values for old rows than the target has under its name?
 * moved: the table has another file. */
static bool column_rewritten(const struct schema *before, const struct marks *was, bool moved,
                             const char *p, size_t len) {
    size_t other_len;
    unsigned long attnum = strtoul(p, NULL, 10);
    unsigned long long name = entry_name(p, len);
    const char *other = entry_find(was->columns, was->columns_end, attnum, &other_len);
    if (other) {
        unsigned long long old_name = entry_name(other, other_len);
        return (moved && (other_len != len || memcmp(other, p, len) != 0)) ||
               (name && old_name && name != old_name); /* RENAME: the old values have a new name */
    }
    if (moved || p[len - 1] == 'm') {
        return true;
    }
    /* It existed, but was not captured: a generated column that became an ordinary one. */
    const char *numbers = entry_find(was->columns, was->columns_end, 0, &other_len);
    if (numbers && attnum <= strtoul(numbers + 2, NULL, 10)) {
        return true;
    }
    return had_name(before, name); /* DROP COLUMN, then ADD COLUMN of the same name */
}

bool pgsrc_rewritten(const struct schema *before, const struct schema *after) {
    if (before->table_id != after->table_id || types_rewritten(before, after)) {
        return true;
    }
    if (!before->storage[0] || !after->storage[0]) {
        return false;
    }
    struct marks was = marks_of(before->storage), is = marks_of(after->storage);
    bool moved = was.node_len != is.node_len || memcmp(was.node, is.node, is.node_len) != 0;
    for (const char *p = is.columns; p < is.columns_end;) {
        const char *stop = memchr(p, ';', (size_t)(is.columns_end - p));
        size_t len = (size_t)((stop ? stop : is.columns_end) - p);
        bool column = len && strtoul(p, NULL, 10) != 0; /* not the entry of the numbers */
        if (column && column_rewritten(before, &was, moved, p, len)) {
            return true;
        }
        p += len + 1;
    }
    return leaves_rewritten(&was, &is);
}

/* --- columns added
 * ----------------------------------------------------------------------------------------------
 */

/* The next entry of a column; *at moves behind it. False: there is none. */
static bool next_column(const char **at, const char *end, const char **p, size_t *len) {
    while (*at < end) {
        const char *stop = memchr(*at, ';', (size_t)(end - *at));
        *p = *at;
        *len = (size_t)((stop ? stop : end) - *at);
        *at = stop ? stop + 1 : end;
        if (*len && strtoul(*p, NULL, 10) != 0) {
            return true;
        }
    }
    return false;
}

/* The highest number a column ever had; 0 = the marks do not say. */
static unsigned long highest_number(const struct marks *m) {
    size_t len;
    const char *p = entry_find(m->columns, m->columns_end, 0, &len);
    return p && len > 2 ? strtoul(p + 2, NULL, 10) : 0;
}

/* The entry is that of after's column `at`, which knows what old rows have in it. */
static bool is_column(const struct schema *after, uint16_t at, const char *p, size_t len) {
    const char *name = after->columns[at].name;
    return entry_name(p, len) == hash_bytes(name, strlen(name), 0) &&
           (p[len - 1] == 'm') == (after->columns[at].missing != NULL);
}

/* One and the same column. Its row's xmin tells of changes that no row's value shows. */
static bool is_kept(const char *was, size_t was_len, const char *is, size_t is_len) {
    unsigned long long name = entry_name(is, is_len);
    return name && entry_name(was, was_len) == name &&
           (was[was_len - 1] == 'm') == (is[is_len - 1] == 'm');
}

static uint16_t count_columns(const struct marks *m) {
    const char *at = m->columns, *p;
    size_t len;
    uint16_t n = 0;
    while (next_column(&at, m->columns_end, &p, &len)) {
        n++;
    }
    return n;
}

bool pgsrc_added(const struct schema *before, const struct schema *after) {
    struct marks was = marks_of(before->storage), is = marks_of(after->storage);
    bool moved = was.node_len != is.node_len || memcmp(was.node, is.node, is.node_len) != 0;
    unsigned long number = highest_number(&was), last = highest_number(&is);
    if (before->table_id != after->table_id || types_rewritten(before, after) || !was.node_len ||
        moved || *was.columns_end || *is.columns_end || !number || !last) {
        return false;
    }
    const char *at = is.columns, *p, *other;
    size_t len, other_len;
    uint16_t column = 0, kept = 0;
    for (; next_column(&at, is.columns_end, &p, &len); column++) {
        bool there = column < after->column_count;
        unsigned long attnum = strtoul(p, NULL, 10);
        if (there && !is_column(after, column, p, len)) {
            return false;
        }
        other = entry_find(was.columns, was.columns_end, attnum, &other_len);
        if (other ? !is_kept(other, other_len, p, len)
                  : !there || attnum != ++number || had_name(before, entry_name(p, len))) {
            return false;
        }
        kept += other != NULL;
    }
    return number == last && kept == count_columns(&was) && column >= after->column_count;
}
