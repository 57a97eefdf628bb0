/* source: what all sources have in common. */
#include "text/source.h"

#include <string.h>

#include "base/memory.h"

void source_close(struct source *s)
{
    mem_free(s->tokens);
    mem_free(s->merges);
    if (s->owner)
        s->owner_close(s->owner);
    memset(s, 0, sizeof(*s));
}
