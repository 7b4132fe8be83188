/* Region memory: blocks in a list, the first one is the one being filled. Blocks double from 4 KiB
 * to 256 KiB; a request that is large for a block gets one of its own, put behind the first, so the
 * room left there is not lost. One owner. */
#include "cdc/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, BLOCK_BYTES_FIRST = 4096, BLOCK_BYTES_MAX = 256 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t size; /* of bytes */
    size_t used;
    size_t unused_for_alignment;
    char bytes[];
};
_Static_assert(offsetof(struct arena_block, bytes) % ALIGNMENT == 0,
               "blocks keep malloc's alignment");

void arena_init(struct arena *arena) { *arena = (struct arena){ 0 }; }

void arena_release(struct arena *arena) {
    struct arena_block *block = arena->head;
    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena_init(arena);
}

static struct arena_block *block_new(struct arena *arena, size_t size) {
    struct arena_block *block = xmalloc(sizeof *block + size);
    *block = (struct arena_block){ .size = size };
    arena->held += sizeof *block + size;
    return block;
}

/* A block with room for size bytes: a new first one, or one of the request's own. */
static struct arena_block *block_for(struct arena *arena, size_t size) {
    struct arena_block *head = arena->head;
    size_t next_size = BLOCK_BYTES_FIRST;
    if (head && head->size >= BLOCK_BYTES_FIRST) {
        next_size = head->size < BLOCK_BYTES_MAX ? head->size * 2 : BLOCK_BYTES_MAX;
    }
    if (head && size > next_size / 4) {
        struct arena_block *own = block_new(arena, size);
        own->next = head->next;
        head->next = own;
        return own;
    }
    struct arena_block *block = block_new(arena, size > next_size ? size : next_size);
    block->next = head;
    arena->head = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size) {
    CHECK(size < SIZE_MAX / 2);
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct arena_block *block = arena->head;
    if (!block || block->size - block->used < size) {
        block = block_for(arena, size);
    }
    void *p = block->bytes + block->used;
    block->used += size;
    arena->used += size;
    return p;
}

void *arena_zalloc(struct arena *arena, size_t size) {
    return memset(arena_alloc(arena, size), 0, size);
}

char *arena_strdup(struct arena *arena, const char *s) {
    return arena_copy(arena, s, strlen(s) + 1);
}

void *arena_copy(struct arena *arena, const void *p, size_t size) {
    void *copy = arena_alloc(arena, size);
    if (size > 0) {
        memcpy(copy, p, size);
    }
    return copy;
}
