/* The doors that this build knows, by scheme, and the schemes that it knows of but does not have
 * yet. Constant. Thread: any. */
#pragma once
#include "cdc/sink.h"
#include "cdc/source.h"

struct source_door {
    const char *scheme;
    const struct source_ops *ops;
    const char *client;                  /* the library that takes further keys, NULL = none */
    bool (*client_key)(const char *key); /* does that library know this key? */
    const char *const *taken;            /* its keys that tailrace sets itself, NULL-terminated */
};
struct sink_door {
    const char *scheme;
    const struct sink_ops *ops;
};
extern const struct source_door source_doors[];
extern const size_t source_door_count;
extern const struct sink_door sink_doors[];
extern const size_t sink_door_count;

const struct source_door *source_door_find(const char *scheme); /* NULL = none */
const struct sink_door *sink_door_find(const char *scheme);
/* Is it planned: known by name, refused as not built? */
bool scheme_is_planned(const char *scheme);
/* The nearest known scheme (built sources or sinks), or NULL. */
const char *scheme_nearest(const char *scheme, bool source);
