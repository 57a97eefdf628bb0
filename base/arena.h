/* arena: request- and step-lifetime memory with a mandatory maximum.
 *
 * Allocations are bumped out of blocks and freed all at once.  When the cap is
 * reached arena_alloc() returns NULL: the caller reports ERR_LIMIT.  One thread
 * owns an arena.                                                             */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/error.h"

struct arena;

struct arena *arena_create(size_t bytes_max);
void arena_destroy(struct arena **arena_p);
/* Zeroed, 16-byte aligned; NULL past the cap. */
MUST_USE void *arena_alloc(struct arena *a, size_t bytes);
MUST_USE char *arena_strndup(struct arena *a, const char *s, size_t n);
/* Forget every allocation, keep the first block. */
void arena_reset(struct arena *a);
size_t arena_used(const struct arena *a);

#endif
