/* What a target may hand back that this program never wrote: a stored position that was damaged,
 * edited or made by another program. Each damage is one that a reader can and must notice. Pure but
 * for the seed's choices (STREAM_FAULT). */
#pragma once
#include "cdc/sink.h"

/* Damages the state of a target that knows a position, in one place. `what` says how. */
void damage_state(struct sink_state *state, char *what, size_t max);
