/* What sinks without a position answer: they know nothing, claim nothing, and a commit of theirs is
 * never in doubt. Thread: as cdc/sink.h says. */
#pragma once
#include "cdc/sink.h"

/* The option that both have, first in their tables, and its default. */
#define NO_POSITION_FRESHNESS_US 1000000
#define NO_POSITION_FRESHNESS                                                                      \
    {                                                                                              \
        .key = "freshness", .type = OPT_DURATION, .fallback = "1s", .min = 10 * 1000,              \
        .max = INT64_C(3600) * 1000 * 1000,                                                        \
        .doc = "time between two acknowledgements to the source"                                   \
    }

/* -1 (EXIT_USAGE) if anything follows the scheme's colon but options. */
int no_position_address(const struct sink_address *addr, struct err *err);
int no_position_examine(struct sink *s, struct source_findings *out, struct err *err);
int no_position_peek(struct sink *s, struct sink_state *out, struct err *err);
int no_position_recover(struct sink *s, struct sink_state *out, struct err *err);
int no_position_apply_schema(struct sink *s, const struct commit_request *next, struct err *err);
enum resolve_outcome no_position_resolve(struct sink *s, const struct commit_request *req,
                                         struct err *err);
