/* See ice_table.h. */
#include "sinks/iceberg/ice_table.h"

#include <stdlib.h>
#include <string.h>

#include "sinks/iceberg/ice_object.h"

enum { NAMES_MAX = 256 << 20 }; /* bytes of a folder's names: some millions */

struct ice_table *ice_table_new(const char *space, const char *name) {
    struct ice_table *t = xcalloc(1, sizeof *t);
    t->space = xstrdup(space);
    t->name = xstrdup(name);
    buf_init(&t->empty, SIZE_MAX);
    t->number = -1;
    return t;
}

struct ice_table *ice_table_of_row(const struct ice_owned_row *row) {
    struct ice_table *t = ice_table_new(row->space, row->name);
    t->location = row->location ? xstrdup(row->location) : NULL;
    t->loaded = row->location ? xstrdup(row->location) : NULL;
    t->uuid = xstrdup(row->uuid);
    t->commit_id = xstrdup(row->commit_id);
    t->consistent = row->consistent;
    return t;
}

void ice_table_forget(struct ice_table *t) {
    if (t->has_metadata) {
        ice_metadata_release(&t->metadata);
    }
    t->metadata = (struct ice_metadata){ 0 };
    t->has_metadata = false;
    t->bytes = 0;
}

static void drop_next(struct ice_table *t) {
    free(t->next);
    free(t->next_base);
    t->next = t->next_base = NULL;
    t->next_written = false;
}

void ice_table_free(struct ice_table *t) {
    if (!t) {
        return;
    }
    ice_table_forget(t);
    drop_next(t);
    free(t->space);
    free(t->name);
    free(t->loaded);
    free(t->location);
    free(t->uuid);
    free(t->commit_id);
    free(t->base);
    buf_release(&t->empty);
    free(t);
}

int ice_table_look(struct ice_table *t, struct ice_catalog *catalog, struct err *err) {
    char *location = NULL;
    CHECK(!t->written && !t->next);
    if (ice_catalog_table(catalog, t->space, t->name, &location, err)) {
        return -1;
    }
    ice_table_forget(t);
    free(t->location);
    free(t->loaded);
    t->location = location;
    t->loaded = location ? xstrdup(location) : NULL;
    buf_clear(&t->empty);
    return 0;
}

static int check_owner(const struct ice_table *t, const char *job, struct err *err) {
    const char *owner = ice_metadata_property(&t->metadata, "tailrace.job");
    if (owner && strcmp(owner, job) == 0) {
        return 0;
    }
    err_set(err, ERR_FATAL, "table_foreign", "the lake has a table \"%s.%s\" already, made by %s%s",
            t->space, t->name, owner ? "job " : "somebody else", owner ? owner : "");
    return err_cure(err, "drop or rename that table, or write to another warehouse");
}

static bool same_text(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

static const char *said(const struct ice_snapshot *s, const char *key) {
    return json_string_value(json_object_get(s->summary, key));
}

/* The snapshot of the job's last commit must be among those that the present one follows. Each of
 * the job's commits is a snapshot, so the first of them met on the way back must be that one; where
 * none is met all of them have expired, unless that one is still there, off the way. */
static bool is_rolled_back(const struct ice_metadata *m, const char *job, const char *commit) {
    const struct ice_snapshot *s = ice_metadata_snapshot(m, m->current_snapshot_id);
    if (!s) {
        return true;
    }
    for (uint32_t steps = 0; s && steps <= m->snapshot_count; steps++) {
        if (same_text(said(s, "tailrace.job"), job)) {
            return !same_text(said(s, "tailrace.commit"), commit);
        }
        s = s->parent_id >= 0 ? ice_metadata_snapshot(m, s->parent_id) : NULL;
    }
    for (uint32_t i = 0; i < m->snapshot_count; i++) {
        if (same_text(said(&m->snapshots[i], "tailrace.job"), job) &&
            same_text(said(&m->snapshots[i], "tailrace.commit"), commit)) {
            return true;
        }
    }
    return false;
}

static int check_history(const struct ice_table *t, const char *job, struct err *err) {
    const char *commit = ice_metadata_property(&t->metadata, "tailrace.commit");
    static const char cure[] =
        "put the table back as it was, or drop it and have it read again by a new job";
    if ((t->uuid && strcmp(t->uuid, t->metadata.uuid) != 0) ||
        (t->commit_id && !same_text(t->commit_id, commit))) {
        err_set(err, ERR_FATAL, "table_replaced",
                "the lake's table \"%s.%s\" is not the one that this job wrote last: it was made "
                "anew, or an older state of it was put in its place",
                t->space, t->name);
        return err_cure(err, "%s", cure);
    }
    if (commit && is_rolled_back(&t->metadata, job, commit)) {
        err_set(err, ERR_FATAL, "table_rolled_back",
                "the lake's table \"%s.%s\" was rolled back: this job's last commit %s is not part "
                "of its history any more",
                t->space, t->name, commit);
        return err_cure(err, "%s", cure);
    }
    return 0;
}

int ice_table_read(struct ice_table *t, struct store *store, const char *job, struct err *err) {
    if (t->has_metadata || !t->location) {
        return 0;
    }
    struct buf bytes;
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(store, t->location, &bytes, err);
    if (rc == 0) {
        rc = ice_metadata_parse(bytes.data, bytes.len, &t->metadata, err);
    }
    if (rc == 0) {
        t->has_metadata = true;
        t->bytes = bytes.len;
        rc = check_owner(t, job, err) || check_history(t, job, err) ? -1 : 0;
    }
    buf_release(&bytes);
    if (rc) {
        ice_table_forget(t);
        return err_wrap(err, "table \"%s.%s\"", t->space, t->name);
    }
    if (!t->uuid) {
        const struct ice_snapshot *now =
            ice_metadata_snapshot(&t->metadata, t->metadata.current_snapshot_id);
        t->consistent = now && same_text(said(now, "tailrace.consistent"), "true");
    }
    return 0;
}

static void settle_committed(struct ice_table *t, const char *commit_id) {
    if (t->next_written && !t->written) {
        t->written = true;
        t->base = t->next_base;
        t->next_base = NULL;
        buf_clear(&t->empty);
    } else if (!t->written) {
        buf_put(&t->empty, t->next, strlen(t->next) + 1);
    }
    free(t->location);
    t->location = t->next;
    t->next = NULL;
    t->consistent = t->next_consistent;
    free(t->uuid);
    free(t->commit_id);
    t->uuid = xstrdup(t->metadata.uuid);
    t->commit_id = xstrdup(commit_id);
}

/* Of "00012-<uuid>.metadata.json"; -1: another name. */
static int64_t number_of(const char *name) {
    static const char ending[] = ".metadata.json";
    enum { DIGITS_MAX = 9 };
    int64_t number = 0;
    size_t at = 0;
    size_t len = strlen(name);
    for (; at < DIGITS_MAX && name[at] >= '0' && name[at] <= '9'; at++) {
        number = number * 10 + (name[at] - '0');
    }
    bool ours = at > 0 && name[at] == '-' && len >= sizeof ending &&
                strcmp(name + len - (sizeof ending - 1), ending) == 0;
    return ours ? number : -1;
}

static void note_number(struct ice_table *t, const char *name) {
    int64_t number = number_of(name);
    t->number = number > t->number ? number : t->number;
}

int ice_table_next_number(struct ice_table *t, struct store *store, int64_t *out, struct err *err) {
    if (!t->numbered) {
        struct buf names;
        buf_init(&names, NAMES_MAX);
        char *folder = xasprintf("%s/%s/metadata", t->space, t->name);
        enum files_result got = store_list(store, folder, &names, err);
        for (size_t at = 0; got == FILES_OK && at < names.len; at += strlen(names.data + at) + 1) {
            note_number(t, names.data + at);
        }
        free(folder);
        buf_release(&names);
        if (got == FILES_FAILED) {
            return -1;
        }
        t->numbered = true;
    }
    if (t->location) {
        const char *slash = strrchr(t->location, '/');
        note_number(t, slash ? slash + 1 : t->location);
    }
    *out = ++t->number;
    return 0;
}

void ice_table_settle(struct ice_table *t, bool committed, const char *commit_id) {
    if (committed && t->next) {
        settle_committed(t, commit_id);
    } else if (!committed) {
        ice_table_forget(t); /* it may have been changed in part */
    }
    drop_next(t);
}
