/* Region memory: many small allocations freed at once. One owner, no thread safety. */
#pragma once
#include "cdc/base/check.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used; /* bytes handed out */
    size_t held; /* bytes taken from the system */
};
void arena_init(struct arena *arena);
void arena_release(struct arena *arena);
/* 16-byte aligned, not zeroed. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
void *arena_zalloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
char *arena_strdup(struct arena *arena, const char *s) __attribute__((returns_nonnull));
void *arena_copy(struct arena *arena, const void *p, size_t size) __attribute__((returns_nonnull));
