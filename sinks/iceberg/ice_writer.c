/* See ice_writer.h. */
#include "sinks/iceberg/ice_writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "sinks/iceberg/ice_catalog.h"

/* A table that this writer has met in this run. */
struct writing {
    struct ice_stage *stage;
    struct ice_stage_config config; /* the stage borrows it */
    char *index_dir;
};
struct ice_writer {
    struct sink_writer base;
    struct ice_writer_config config;
    struct ice_catalog *catalog;
    struct map *tables; /* label -> struct writing */
    uint64_t rows;      /* since the last seal */
    bool broken;
};

static struct ice_writer *writer_of(struct sink_writer *w) {
    return (struct ice_writer *)w; /* base is its first member */
}

int ice_writer_open(const struct ice_writer_config *config, uint32_t number TR_UNUSED,
                    struct sink_writer **out, struct err *err) {
    struct ice_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = config->ops;
    w->config = *config;
    w->tables = map_new();
    if (ice_catalog_open(config->env->files, config->folder, true, &w->catalog, err) != FILES_OK) {
        ice_writer_close(&w->base);
        return -1;
    }
    *out = &w->base;
    return 0;
}

static void writing_free(void *arg) {
    struct writing *x = arg;
    ice_stage_close(x->stage);
    free(x->index_dir);
    free(x);
}

void ice_writer_close(struct sink_writer *sw) {
    struct ice_writer *w = writer_of(sw);
    map_free(w->tables, writing_free);
    ice_catalog_close(w->catalog);
    free(w);
}

/* A folder of the cache for the table's index; the name only has to be its own. */
static char *index_dir_of(const struct ice_writer *w, const struct schema *schema) {
    return xasprintf("%s/cache/index/%s-%016" PRIx64, w->config.env->state_dir, "t",
                     hash_bytes(schema->label, strlen(schema->label), 0));
}

static int open_table(struct ice_writer *w, const struct schema *schema, struct writing **out,
                      struct err *err) {
    char *base = NULL;
    if (ice_catalog_table(w->catalog, schema->space, schema->name, &base, err)) {
        return -1;
    }
    struct writing *x = xcalloc(1, sizeof *x);
    x->config = w->config.stage;
    x->index_dir = index_dir_of(w, schema);
    x->config.index_dir = x->index_dir;
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

/* All open files of all tables hold no more than they may: the table that holds most gives it up.
 */
static int bound_memory(struct ice_writer *w, struct err *err) {
    uint64_t max = w->config.stage.open_bytes_max;
    for (;;) {
        size_t sum = 0, most = 0;
        struct writing *largest = NULL;
        void *value;
        for (size_t at = 0; map_next(w->tables, &at, NULL, NULL, &value);) {
            struct writing *x = value;
            size_t held = ice_stage_memory(x->stage);
            sum += held;
            if (held > most) {
                most = held;
                largest = x;
            }
        }
        if (sum <= max || !largest) {
            return 0;
        }
        if (ice_stage_flush(largest->stage, err)) {
            return -1;
        }
        if (ice_stage_memory(largest->stage) >= most) {
            return 0; /* what is left is not given up */
        }
    }
}

static int fail(struct ice_writer *w, struct err *err) {
    w->broken = true;
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND; /* what was staged half is dropped with all the rest */
    }
    return -1;
}

int ice_writer_stage(struct sink_writer *sw, const struct stage_item *item, struct err *err) {
    struct ice_writer *w = writer_of(sw);
    if (w->broken) {
        return err_set(err, ERR_REWIND, "staging_failed", "staging had failed before");
    }
    const struct schema *schema =
        item->kind == STAGE_GENERATION ? item->schema : item->batches[0]->schema;
    struct writing *x = map_get(w->tables, schema->label, strlen(schema->label));
    if (!x && open_table(w, schema, &x, err)) {
        return err->kind == ERR_RETRY ? -1 : fail(w, err);
    }
    if (FAILPOINT(w->config.env->failpoints, "iceberg.before_stage", err) ||
        ice_stage_item(x->stage, item, err) || bound_memory(w, err) ||
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
            ice_part_free(part, true);
            return fail(w, err);
        }
        part->table_count++;
    }
    w->rows = 0;
    if (part->table_count == 0) {
        ice_part_free(part, false);
        return 0;
    }
    *out = (struct sink_part *)part;
    return FAILPOINT(w->config.env->failpoints, "iceberg.after_seal", err) ? fail(w, err) : 0;
}

void ice_writer_part_free(struct sink_part *part, bool committed) {
    ice_part_free((struct ice_part *)part, !committed);
}
