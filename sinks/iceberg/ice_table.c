/* See ice_table.h. */
#include "sinks/iceberg/ice_table.h"

#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_object.h"

void ice_table_free(struct ice_table *t) {
    if (!t) {
        return;
    }
    if (t->location) {
        ice_metadata_release(&t->metadata);
    }
    free(t->space);
    free(t->name);
    free(t->loaded);
    free(t->location);
    free(t->base);
    buf_release(&t->empty);
    free(t);
}

static int read_metadata(struct ice_table *t, struct store *store, struct err *err) {
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(store, t->loaded, &bytes, err);
    if (rc == 0) {
        rc = ice_metadata_parse(bytes.data, bytes.len, &t->metadata, err);
    }
    buf_release(&bytes);
    if (rc == 0) {
        t->location = xstrdup(t->loaded);
    }
    return rc;
}

static int check_owner(struct ice_table *t, const char *job, struct err *err) {
    const char *owner = ice_metadata_property(&t->metadata, "tailrace.job");
    if (owner && strcmp(owner, job) == 0) {
        return 0;
    }
    err_set(err, ERR_FATAL, "table_foreign", "the lake has a table \"%s.%s\" already, made by %s%s",
            t->space, t->name, owner ? "job " : "somebody else", owner ? owner : "");
    return err_cure(err, "drop or rename that table, or write to another warehouse");
}

int ice_table_open(struct ice_catalog *catalog, struct store *store, const char *job,
                   const char *space, const char *name, struct ice_table **out, struct err *err) {
    struct ice_table *t = xcalloc(1, sizeof *t);
    t->space = xstrdup(space);
    t->name = xstrdup(name);
    buf_init(&t->empty, SIZE_MAX);
    int rc = ice_catalog_table(catalog, space, name, &t->loaded, err);
    if (rc == 0 && t->loaded) {
        rc = read_metadata(t, store, err) || check_owner(t, job, err) ? -1 : 0;
    }
    if (rc == 0 && t->location) {
        const struct ice_snapshot *now =
            ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id);
        const char *said =
            now ? json_string_value(json_object_get(now->summary, "tailrace.consistent")) : NULL;
        t->consistent = said && strcmp(said, "true") == 0;
    }
    if (rc) {
        err_wrap(err, "table \"%s.%s\"", space, name);
        ice_table_free(t);
        return -1;
    }
    *out = t;
    return 0;
}
