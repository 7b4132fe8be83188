/* Hash map from byte strings to pointers. Iterates in insertion order, so that a run with the same
 * input does the same things in the same order (the simulator depends on it). Keys are copied. One
 * owner, no thread safety. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/check.h"

struct map;
struct map *map_new(void);
void map_free(struct map *map, void (*free_value)(void *)); /* free_value may be NULL */
void *map_get(const struct map *map, const void *key, size_t len);
/* Returns the value that was there, or NULL. */
void *map_set(struct map *map, const void *key, size_t len, void *value);
void *map_remove(struct map *map, const void *key, size_t len);
size_t map_count(const struct map *map);
size_t map_bytes(const struct map *map); /* memory held, for budgets */
/* for (size_t at = 0; map_next(map, &at, &key, &len, &value);) ; any of the outputs may be NULL.
 * Removing the entry just returned is allowed while iterating, adding is not. */
bool map_next(const struct map *map, size_t *at, const void **key, size_t *len, void **value);
void map_clear(struct map *map, void (*free_value)(void *));

/* 64 bits, stable across runs and machines: may be stored. */
uint64_t hash_bytes(const void *p, size_t len, uint64_t seed);
