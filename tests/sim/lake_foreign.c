/* Another engine's commit: a snapshot that replaces nothing, under a manifest list of its own, made
 * the table's by a compare-and-set in the catalog, as PyIceberg's SqlCatalog does it. See lake.h.
 */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/iceberg/ice_object.h"
#include "tests/sim/lake_impl.h"
#include "tests/sim/sched.h"
#include "tests/sim/sqldisk.h"

static char *new_url(const char *beside, const char *ending) {
    const char *slash = strrchr(beside, '/');
    CHECK(slash);
    return xasprintf("%.*s/foreign-%llx%s", (int)(slash - beside), beside,
                     (unsigned long long)sim_random(STREAM_WORK), ending);
}

static int put(const char *url, const struct buf *bytes, struct err *err) {
    struct store_folders folders = { 0 };
    return store_put(lake.store, store_key_of(lake.store, url), bytes->data, bytes->len, &folders,
                     err) ||
                   store_settle(lake.store, &folders, err)
               ? -1
               : 0;
}

/* The next metadata file, on disk; NULL: the table has no snapshot. */
static char *replace(const char *location, struct err *err) {
    struct ice_metadata m;
    struct buf bytes;
    char *to = NULL;
    buf_init(&bytes, SIZE_MAX);
    if (ice_object_get(lake.store, location, &bytes, err) ||
        ice_metadata_parse(bytes.data, bytes.len, &m, err)) {
        return NULL;
    }
    const struct ice_snapshot *now = ice_metadata_snapshot(&m, m.current_snapshot_id);
    if (now) {
        struct ice_snapshot next = {
            .id = (int64_t)(sim_random(STREAM_WORK) >> 2 | 1),
            .parent_id = now->id,
            .sequence = m.last_sequence + 1,
            .timestamp_ms = clock_wall_us() / 1000,
            .manifest_list = new_url(now->manifest_list, ".avro"),
            .schema_id = m.current_schema_id,
            .first_row_id = m.format_version == 3 ? m.next_row_id : -1,
            .added_rows = m.format_version == 3 ? 0 : -1,
            .summary = json_pack("{s:s}", "operation", "replace"),
        };
        buf_clear(&bytes);
        int rc = ice_object_get(lake.store, now->manifest_list, &bytes, err);
        rc = rc ? rc : put(next.manifest_list, &bytes, err);
        if (rc == 0) {
            int64_t before_ms = m.last_updated_ms;
            ice_metadata_add_snapshot(&m, &next);
            ice_metadata_log(&m, location, before_ms, 100, NULL);
            to = new_url(location, ".metadata.json");
            buf_clear(&bytes);
            ice_metadata_put(&bytes, &m);
            rc = put(to, &bytes, err);
        }
        CHECK(rc == 0);
    }
    ice_metadata_release(&m);
    buf_release(&bytes);
    return to;
}

static bool set(sqlite3 *db, const char *name, const char *from, const char *to) {
    char *sql = sqlite3_mprintf("UPDATE iceberg_tables SET metadata_location = %Q, "
                                "previous_metadata_location = %Q WHERE table_name = %Q AND "
                                "metadata_location = %Q",
                                to, from, name, from);
    bool done = sqlite3_exec(db, "PRAGMA synchronous = EXTRA", NULL, NULL, NULL) == SQLITE_OK &&
                sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK && sqlite3_changes(db) == 1;
    sqlite3_free(sql);
    return done;
}

bool lake_foreign_commit(void) {
    struct lake_state now;
    struct err err = ERR_INIT;
    if (!lake_look(&now)) {
        return false;
    }
    bool done = false;
    if (now.count) {
        const struct lake_name *n = &now.tables[sim_below(STREAM_WORK, now.count)];
        char *to = replace(n->location, &err);
        sqldisk_quiet(true);
        sqlite3 *db = to ? lake_open_catalog() : NULL;
        done = db && set(db, n->name, n->location, to);
        sqlite3_close_v2(db);
        sqldisk_quiet(false);
        if (done) {
            lake_follow(n->name, to);
        }
        sim_note("foreign commit to %s: %d", n->name, done);
        free(to);
    }
    lake_state_release(&now);
    return done;
}
