/* What the source door hands over is released here, the same for every connector. */
#include "cdc/source.h"

#include <stdlib.h>

void source_catalogue_release(struct source_catalogue *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        schema_unref(c->tables[i].schema);
    }
    free(c->tables);
    *c = (struct source_catalogue){ 0 };
}

void chunk_view_release(struct chunk_view *v) {
    snapshot_release(&v->snapshot);
    schema_unref(v->schema);
    *v = (struct chunk_view){ 0 };
}
