/* What the sink door hands over is released here, the same for every target. */
#include "cdc/sink.h"

#include <stdlib.h>

void sink_state_release(struct sink_state *s) {
    for (uint32_t i = 0; i < s->schema_count; i++) {
        schema_unref(s->schemas[i]);
    }
    free(s->schemas);
    free(s->position);
    *s = (struct sink_state){ 0 };
}
