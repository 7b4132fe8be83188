/* Which columns are a table's key, and does the log carry enough to apply updates and deletes?
 * Pure; unit-tested. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/schema.h"
#include "cdc/source.h"

#define PGSRC_KEY_MAX 32

struct pgsrc_index {
    bool exists;
    bool immediate; /* not deferrable */
    uint16_t count;
    int16_t attnum[PGSRC_KEY_MAX];
};
struct pgsrc_identity_in {
    const char *space, *name;
    char replident;                     /* relreplident: d i f n */
    struct pgsrc_index primary, chosen; /* chosen: of REPLICA IDENTITY USING INDEX */
    const struct table_choice *choice;
    const struct schema *schema; /* columns only */
    const int16_t *attnums;      /* of the schema's columns */
    /* The table has generated columns and the server, from 18 on, refuses updates and deletes of a
     * published table whose identity has one: FULL would break its writers. */
    bool full_refused;
};
struct pgsrc_identity_out {
    enum table_identity identity;
    uint16_t key_count;
    uint16_t key[PGSRC_KEY_MAX]; /* column indexes in key order */
    bool usable;
    char why[320], cure[640];
};
void pgsrc_identity(const struct pgsrc_identity_in *in, struct pgsrc_identity_out *out);

/* Marks of stored rows, in schema.storage: "<filenode>:0.<highest attnum>;<attnum>.<xmin>.<hash of
 * the name>[m];..." and, of a partitioned table, "p:<...>|<oid>.<filenode>.<hash>.<attnums with
 * m>[+];...". m: the column has a value for rows stored before it. +: the partition existed before
 * it was attached. See source_ops.rewritten. Marks without what later versions added are read
 * too. */
void pgsrc_column_mark(struct buf *out, int16_t attnum, const char *xmin, const char *name,
                       bool missing);
bool pgsrc_rewritten(const struct schema *before, const struct schema *after);
/* See source_ops.added. Proven where the table's file is the same one, every column of before is
 * there under its number and name, and those with higher numbers than it had are all there, in
 * after's columns too, each with a value for old rows (missing) or none at all (null). A table of
 * partitions, or one that lost a column meanwhile, is never proven. */
bool pgsrc_added(const struct schema *before, const struct schema *after);
