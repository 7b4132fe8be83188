/* What plan says of a lake before anything is written: how columns will be stored, which of them
 * could stop the job, where partition= applies, and what of it is impossible; and what status says
 * of the one that is there: its last commit, its tables. Reads the catalog and
 * the metadata of tables that are there. Thread: the supervisor. Never writes. */
#pragma once
#include "cdc/sink.h"
#include "sinks/iceberg/ice_catalog.h"
#include "sinks/iceberg/ice_schema.h"
#include "sinks/objects/store.h"

struct ice_plan_request {
    const char *job, *folder;
    int format_version;
    const struct ice_schema_rules *rules;
    const char *partition; /* NULL = none */
    const char *sort;      /* NULL = none */
    struct store *store;
    struct ice_catalog *catalog; /* NULL = there is none yet */
};
/* See sink_describe_fn; tables NULL: what is there. What a table makes impossible is a fatal
 * finding, not an error. */
int ice_plan_describe(const struct ice_plan_request *req, const struct source_catalogue *tables,
                      struct sink_description *out, struct err *err);
