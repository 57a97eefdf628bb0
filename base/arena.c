/* arena: a list of blocks; the newest is bumped.  Invariant: used <= bytes_max. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

enum { BLOCK_MIN = 4096, ALIGN = 16 };

struct block {
    struct block *next;
    size_t size, used;
    _Alignas(ALIGN) unsigned char bytes[];
};

struct arena {
    struct block *blocks; /* newest first */
    size_t bytes_max, used;
};

struct arena *arena_create(size_t bytes_max)
{
    struct arena *a = mem_alloc(sizeof(*a));
    a->bytes_max = bytes_max;
    return a;
}

static void free_blocks(struct block *b)
{
    while (b) {
        struct block *next = b->next;
        mem_free(b);
        b = next;
    }
}

void arena_destroy(struct arena **arena_p)
{
    if (!*arena_p)
        return;
    free_blocks((*arena_p)->blocks);
    mem_free(*arena_p);
    *arena_p = NULL;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > a->bytes_max)
        return NULL;
    size_t n = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (n < bytes || n > a->bytes_max - a->used)
        return NULL;
    if (!a->blocks || n > a->blocks->size - a->blocks->used) {
        size_t size = n > BLOCK_MIN ? n : BLOCK_MIN;
        struct block *b = mem_alloc(sizeof(*b) + size);
        b->size = size;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *p = a->blocks->bytes + a->blocks->used;
    memset(p, 0, n);
    a->blocks->used += n;
    a->used += n;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? arena_alloc(a, n + 1) : NULL;
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

void arena_reset(struct arena *a)
{
    if (!a->blocks)
        return;
    free_blocks(a->blocks->next);
    a->blocks->next = NULL;
    a->blocks->used = 0;
    a->used = 0;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}
