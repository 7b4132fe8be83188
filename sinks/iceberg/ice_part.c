/* See ice_part.h. */
#include "sinks/iceberg/ice_part.h"

#include <stdlib.h>

static void table_release(struct store *store, struct ice_part_table *t, bool remove) {
    for (uint32_t i = 0; remove && i < t->added_count; i++) {
        struct err ignored = ERR_INIT; /* nothing names it: an orphan costs room only */
        if (store_remove(store, store_key_of(store, t->added[i].path), &ignored)) {
            err_clear(&ignored);
        }
    }
    for (uint32_t i = 0; i < t->schema_count; i++) {
        ice_schema_release(&t->schemas[i]);
    }
    for (uint32_t i = 0; i < t->dead_count; i++) {
        free(t->dead[i].data_file);
        ice_bitmap_free(t->dead[i].rows);
    }
    ice_spec_release(&t->spec);
    arena_release(&t->arena);
    free(t->schemas);
    free(t->dead);
    free(t->added);
    free(t->label);
    free(t->space);
    free(t->name);
    free(t->base);
}

void ice_part_free(struct ice_part *part, bool remove) {
    if (!part) {
        return;
    }
    for (uint32_t i = 0; i < part->table_count; i++) {
        table_release(part->store, &part->tables[i], remove);
    }
    store_folders_release(&part->folders);
    free(part->tables);
    free(part);
}
