/* The tables of doors. A new connector or sink is one line here. */
#include "config/registry.h"

#include <string.h>

#include "connectors/postgres/pgsrc.h"
#include "connectors/postgres/pgsrc_client.h"
#include "sinks/changelog_parquet/pqlog.h"
#include "sinks/iceberg/iceberg.h"
#include "sinks/inspect/discard.h"
#include "sinks/inspect/stdout.h"
#include "sinks/jsonl/jsonl.h"

static const char *const pgsrc_taken[] = { "application_name", "replication", "client_encoding",
                                           "fallback_application_name", NULL };

const struct source_door source_doors[] = {
    { "postgres", &pgsrc_ops, "libpq", pgsrc_client_key, pgsrc_taken },
    { "postgresql", &pgsrc_ops, "libpq", pgsrc_client_key, pgsrc_taken },
};
const size_t source_door_count = ARRAY_COUNT(source_doors);

const struct sink_door sink_doors[] = {
    { "iceberg", &iceberg_ops }, { "parquet", &pqlog_ops },   { "jsonl", &jsonl_ops },
    { "stdout", &stdout_ops },   { "discard", &discard_ops },
};
const size_t sink_door_count = ARRAY_COUNT(sink_doors);

static const char *const planned[] = {
    "mysql",    "mariadb",  "kafka",      "s3",        "file",  "delta",  "snowflake",
    "bigquery", "redshift", "clickhouse", "starrocks", "doris", "duckdb", "sqlite",
};

const struct source_door *source_door_find(const char *scheme) {
    for (size_t i = 0; i < source_door_count; i++) {
        if (strcmp(source_doors[i].scheme, scheme) == 0) {
            return &source_doors[i];
        }
    }
    return NULL;
}

const struct sink_door *sink_door_find(const char *scheme) {
    for (size_t i = 0; i < sink_door_count; i++) {
        if (strcmp(sink_doors[i].scheme, scheme) == 0) {
            return &sink_doors[i];
        }
    }
    return NULL;
}

bool scheme_is_planned(const char *scheme) {
    for (size_t i = 0; i < ARRAY_COUNT(planned); i++) {
        if (strcmp(planned[i], scheme) == 0) {
            return true;
        }
    }
    return false;
}

const char *scheme_nearest(const char *scheme, bool source) {
    const char *words[16];
    size_t count = 0;
    CHECK(source_door_count <= ARRAY_COUNT(words) && sink_door_count <= ARRAY_COUNT(words));
    for (size_t i = 0; i < (source ? source_door_count : sink_door_count); i++) {
        words[count++] = source ? source_doors[i].scheme : sink_doors[i].scheme;
    }
    return opt_nearest(scheme, words, count);
}
