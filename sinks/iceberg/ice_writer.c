/* See ice_writer.h. */
#include "sinks/iceberg/ice_writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/map.h"
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/key_index.h"

enum { BUSY_PAUSE_US = 20 * 1000, BUSY_TRIES = 500 };

/* A table that this writer has met in this run. */
struct writing {
    struct ice_stage *stage;
    struct ice_stage_config config; /* the stage borrows it */
    char *index_dir;
    size_t held;            /* as ice_stage_memory said last */
    struct batch **batches; /* of the item at hand that are this table's */
    uint32_t batch_count, batch_cap;
};
struct ice_writer {
    struct sink_writer base;
    struct ice_writer_config config;
    struct ice_catalog *catalog;
    struct ice_tools *tools;
    struct map *tables;   /* label -> struct writing */
    size_t held;          /* by open files of all of them */
    uint64_t rows;        /* since the last seal */
    struct writing **met; /* tables of the item at hand */
    uint32_t met_count, met_cap;
    bool broken;
};

static struct ice_writer *writer_of(struct sink_writer *w) {
    return (struct ice_writer *)w; /* base is its first member */
}

/* While a COMMIT has the catalog it is closed to everybody for a moment: that is waited for. */
static bool wait_while_busy(int *tries, struct err *err) {
    if (strcmp(err->code, "catalog_busy") != 0 || ++*tries > BUSY_TRIES) {
        return false;
    }
    err_clear(err);
    clock_sleep_until_us(clock_mono_us() + BUSY_PAUSE_US);
    return true;
}

static int locate(void *arg, const char *space, const char *name, char **location,
                  struct err *err) {
    const struct ice_writer *w = arg;
    int tries = 0, rc;
    do {
        rc = ice_catalog_table(w->catalog, space, name, location, err);
    } while (rc && wait_while_busy(&tries, err));
    return rc;
}

/* The catalog is there: recover has made it. */
static int open_catalog(struct ice_writer *w, struct err *err) {
    enum files_result got;
    int tries = 0;
    do {
        got = ice_catalog_open(w->config.env->files, w->config.folder, false, &w->catalog, err);
    } while (got == FILES_FAILED && wait_while_busy(&tries, err));
    return got == FILES_OK       ? 0
           : got == FILES_FAILED ? -1
                                 : err_set(err, ERR_REWIND, "catalog_io",
                                           "\"%s\": the catalog is gone", w->config.folder);
}

int ice_writer_open(const struct ice_writer_config *config, uint32_t number TR_UNUSED,
                    struct sink_writer **out, struct err *err) {
    struct ice_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = config->ops;
    w->config = *config;
    w->tables = map_new();
    w->tools = ice_tools_new(config->stage.index_bytes);
    if (open_catalog(w, err)) {
        ice_writer_close(&w->base);
        return -1;
    }
    *out = &w->base;
    return 0;
}

static void writing_free(void *arg) {
    struct writing *x = arg;
    ice_stage_close(x->stage);
    free(x->batches);
    free(x->index_dir);
    free(x);
}

void ice_writer_close(struct sink_writer *sw) {
    struct ice_writer *w = writer_of(sw);
    map_free(w->tables, writing_free);
    ice_tools_free(w->tools);
    ice_catalog_close(w->catalog);
    free(w->met);
    free(w);
}

/* A folder of the cache for the table's index; the name only has to be its own. */
static char *index_dir_of(const struct env *env, const char *label) {
    return xasprintf("%s/cache/index/t-%016" PRIx64, env->state_dir,
                     hash_bytes(label, strlen(label), 0));
}

void ice_writer_void_index(const struct env *env, const char *label) {
    char *dir = index_dir_of(env, label);
    key_index_void(env->files, dir);
    free(dir);
}

static int open_table(struct ice_writer *w, struct schema *schema, struct writing **out,
                      struct err *err) {
    char *base = NULL;
    if (locate(w, schema->space, schema->name, &base, err)) {
        return -1;
    }
    struct writing *x = xcalloc(1, sizeof *x);
    x->config = w->config.stage;
    x->index_dir = index_dir_of(w->config.env, schema->label);
    x->config.index_dir = x->index_dir;
    x->config.tools = w->tools;
    x->config.locate = locate;
    x->config.locate_arg = w;
    int rc = ice_stage_open(&x->config, schema, base, &x->stage, err);
    free(base);
    if (rc) {
        writing_free(x);
        return -1;
    }
    map_set(w->tables, schema->label, strlen(schema->label), x);
    *out = x;
    return 0;
}

static void note_memory(struct ice_writer *w, struct writing *x) {
    size_t held = ice_stage_memory(x->stage);
    w->held = w->held - x->held + held;
    x->held = held;
}

/* All open files of all tables hold no more than they may: the table that holds most gives it up.
 */
static int bound_memory(struct ice_writer *w, struct err *err) {
    while (w->held > w->config.stage.open_bytes_max) {
        struct writing *largest = NULL;
        void *value;
        for (size_t at = 0; map_next(w->tables, &at, NULL, NULL, &value);) {
            struct writing *x = value;
            largest = !largest || x->held > largest->held ? x : largest;
        }
        size_t before = largest->held;
        if (ice_stage_flush(largest->stage, err)) {
            return -1;
        }
        note_memory(w, largest);
        if (largest->held >= before) {
            return 0; /* what is left is not given up */
        }
    }
    return 0;
}

static int by_index(const void *a, const void *b) {
    uint64_t x = ice_stage_index_bytes((*(struct writing *const *)a)->stage);
    uint64_t y = ice_stage_index_bytes((*(struct writing *const *)b)->stage);
    return x < y ? 1 : -(x > y);
}

/* The memory tiers of all tables' indexes hold no more than they may. When they come near that, the
 * largest give theirs up until half of it is free; not the one at hand. */
static int bound_indexes(struct ice_writer *w, const struct writing *now, struct err *err) {
    uint64_t max = w->config.stage.index_bytes;
    uint64_t mine = ice_stage_index_bytes(now->stage);
    if (ice_tools_index_bytes(w->tools) <= max / 4 * 3 ||
        ice_tools_index_bytes(w->tools) - mine <= max / 8) {
        return 0;
    }
    struct writing **all = xcalloc(map_count(w->tables) + 1, sizeof(struct writing *));
    size_t n = 0;
    void *value;
    for (size_t at = 0; map_next(w->tables, &at, NULL, NULL, &value);) {
        if (value != now) {
            all[n++] = value;
        }
    }
    qsort(all, n, sizeof(struct writing *), by_index);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n && ice_tools_index_bytes(w->tools) - mine > max / 16; i++) {
        if (ice_tools_index_bytes(w->tools) > max / 2) {
            rc = ice_stage_yield_index(all[i]->stage, err);
        }
    }
    free(all);
    return rc;
}

static int fail(struct ice_writer *w, struct err *err) {
    w->broken = true;
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND; /* what was staged half is dropped with all the rest */
    }
    return -1;
}

static int table_of(struct ice_writer *w, struct schema *schema, struct writing **out,
                    struct err *err) {
    *out = map_get(w->tables, schema->label, strlen(schema->label));
    return *out ? 0 : open_table(w, schema, out, err);
}

/* An item's batches are of several tables: each table gets its own, in their order. */
static int take_apart(struct ice_writer *w, const struct stage_item *item, struct err *err) {
    struct writing *x = NULL;
    const char *last = NULL;
    w->met_count = 0;
    for (uint32_t i = 0; i < item->count; i++) {
        struct batch *batch = item->batches[i];
        if (!last || strcmp(last, batch->schema->label) != 0) {
            if (table_of(w, batch->schema, &x, err)) {
                return -1;
            }
            last = batch->schema->label;
        }
        if (x->batch_count == 0) {
            if (w->met_count == w->met_cap) {
                w->met_cap = w->met_cap ? 2 * w->met_cap : 8;
                w->met = xrealloc(w->met, w->met_cap * sizeof(struct writing *));
            }
            w->met[w->met_count++] = x;
        }
        if (x->batch_count == x->batch_cap) {
            x->batch_cap = x->batch_cap ? 2 * x->batch_cap : 8;
            x->batches = xrealloc(x->batches, x->batch_cap * sizeof(struct batch *));
        }
        x->batches[x->batch_count++] = batch;
    }
    return 0;
}

/* What the table's error says besides. */
static void tell(const struct writing *x, struct err *err) {
    ice_cure_lost_file(ice_stage_label(x->stage), err);
    ice_stage_void_index(&x->config, err);
}

static int stage_one(struct ice_writer *w, struct writing *x, const struct stage_item *item,
                     struct err *err) {
    int rc = ice_stage_item(x->stage, item, err);
    note_memory(w, x);
    if (rc) {
        tell(x, err);
        return -1;
    }
    return bound_memory(w, err) || bound_indexes(w, x, err) ? -1 : 0;
}

static int stage_all(struct ice_writer *w, const struct stage_item *item, struct err *err) {
    int rc = 0;
    for (uint32_t i = 0; i < w->met_count; i++) {
        struct writing *x = w->met[i];
        struct stage_item part = *item;
        part.batches = x->batches;
        part.count = x->batch_count;
        rc = rc || stage_one(w, x, &part, err) ? -1 : 0;
        x->batch_count = 0;
    }
    return rc;
}

static int stage_item(struct ice_writer *w, const struct stage_item *item, struct err *err) {
    struct writing *x = NULL;
    if (item->kind != STAGE_GENERATION) {
        return take_apart(w, item, err) || stage_all(w, item, err) ? -1 : 0;
    }
    return table_of(w, item->schema, &x, err) || stage_one(w, x, item, err) ? -1 : 0;
}

int ice_writer_stage(struct sink_writer *sw, const struct stage_item *item, struct err *err) {
    struct ice_writer *w = writer_of(sw);
    if (w->broken) {
        return err_set(err, ERR_REWIND, "staging_failed", "staging had failed before");
    }
    if (FAILPOINT(w->config.env->failpoints, "iceberg.before_stage", err) ||
        stage_item(w, item, err) ||
        FAILPOINT(w->config.env->failpoints, "iceberg.after_stage", err)) {
        return fail(w, err);
    }
    for (uint32_t i = 0; i < item->count; i++) {
        w->rows += item->batches[i]->rows;
    }
    return 0;
}

int ice_writer_seal(struct sink_writer *sw, uint64_t seq TR_UNUSED, struct sink_part **out,
                    struct err *err) {
    struct ice_writer *w = writer_of(sw);
    *out = NULL;
    if (w->broken) {
        return err_set(err, ERR_REWIND, "staging_failed", "staging had failed before");
    }
    struct ice_part *part = xcalloc(1, sizeof *part);
    part->store = w->config.stage.store;
    part->rows = w->rows;
    part->tables = xcalloc(map_count(w->tables) + 1, sizeof *part->tables);
    void *value;
    for (size_t at = 0; map_next(w->tables, &at, NULL, NULL, &value);) {
        struct writing *x = value;
        if (!ice_stage_touched(x->stage)) {
            continue;
        }
        if (ice_stage_seal(x->stage, &part->folders, &part->tables[part->table_count], err)) {
            tell(x, err);
            ice_part_free(part, true);
            return fail(w, err);
        }
        note_memory(w, x);
        part->table_count++;
    }
    w->rows = 0;
    if (part->table_count == 0) {
        ice_part_free(part, false);
        return 0;
    }
    if (FAILPOINT(w->config.env->failpoints, "iceberg.after_seal", err)) {
        ice_part_free(part, true); /* nobody has it, so it is in no commit */
        return fail(w, err);
    }
    *out = (struct sink_part *)part;
    return 0;
}

void ice_writer_part_free(struct sink_part *part, bool committed) {
    ice_part_free((struct ice_part *)part, !committed);
}
