/* work: the list of ids and the cache before the algorithms. */
#include "text/work.h"

#include <string.h>

#include "base/memory.h"

enum { CACHE_SLOTS_MAX = 1 << 13 };

struct work_cached {
    uint8_t len, count; /* len 0: empty */
    char bytes[WORK_CACHED_BYTES_MAX];
    int32_t ids[WORK_CACHED_IDS_MAX];
};

_Static_assert(sizeof(struct work_cached) == 64, "one cache line");

void work_init(struct work *w, uint64_t secret, size_t text_len)
{
    memset(w, 0, sizeof(*w));
    uint32_t size = 16;
    while (size < CACHE_SLOTS_MAX && size * 16 < text_len)
        size *= 2;
    w->secret = secret;
    w->cache = mem_array(size, sizeof(*w->cache));
    w->cache_mask = size - 1;
    w->cap = text_len / 3 + 16;
    w->ids = mem_array(w->cap, sizeof(*w->ids));
}

void work_close(struct work *w)
{
    mem_free(w->ids);
    mem_free(w->symbols);
    mem_free(w->heap);
    mem_free(w->best);
    mem_free(w->cache);
    memset(w, 0, sizeof(*w));
}

void work_emit(struct work *w, int32_t id)
{
    if (w->count == w->cap) {
        w->cap = w->cap * 2;
        w->ids = mem_resize(w->ids, w->cap, sizeof(*w->ids));
    }
    w->ids[w->count++] = id;
}

void work_emit_bytes(struct work *w, const struct vocab *v, const char *bytes, size_t n, int32_t unknown, bool fuse)
{
    bool all = true;
    for (size_t i = 0; i < n; i++)
        all = all && v->bytes[(unsigned char)bytes[i]] >= 0;
    for (size_t i = 0; all && i < n; i++)
        work_emit(w, v->bytes[(unsigned char)bytes[i]]);
    if (all)
        return;
    w->unknown = true;
    if (unknown >= 0 && !(fuse && w->count > 0 && w->ids[w->count - 1] == unknown))
        work_emit(w, unknown);
}

static void remember(struct work *w, struct work_cached *c, const char *piece, size_t len, size_t before)
{
    size_t n = w->count - before;
    if (n > WORK_CACHED_IDS_MAX || w->unknown)
        return;
    c->len = (uint8_t)len;
    c->count = (uint8_t)n;
    memcpy(c->bytes, piece, len);
    if (n)
        memcpy(c->ids, w->ids + before, n * sizeof(*c->ids));
}

void work_piece(struct work *w, work_fn fn, const void *model, const char *piece, size_t len)
{
    if (len > WORK_CACHED_BYTES_MAX) {
        fn(model, w, piece, len);
        return;
    }
    struct work_cached *c = &w->cache[(uint32_t)(vocab_hash(w->secret, piece, len) >> 32) & w->cache_mask];
    if (c->len == len && memcmp(c->bytes, piece, len) == 0) {
        for (size_t i = 0; i < c->count; i++)
            work_emit(w, c->ids[i]);
        return;
    }
    size_t before = w->count;
    w->unknown = false;
    fn(model, w, piece, len);
    remember(w, c, piece, len, before);
}
