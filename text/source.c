/* source: what all sources have in common. */
#include "text/source.h"

#include <string.h>

#include "base/memory.h"

void source_init(struct source *s)
{
    memset(s, 0, sizeof(*s));
    s->bos = s->eos = s->unknown = -1;
    for (size_t i = 0; i < FIM_PARTS; i++)
        s->fim[i] = -1;
}

void source_close(struct source *s)
{
    mem_free(s->tokens);
    mem_free(s->merges);
    if (s->owner)
        s->owner_close(s->owner);
    memset(s, 0, sizeof(*s));
}
