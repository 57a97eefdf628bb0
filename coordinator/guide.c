/* guide: a matcher, and its mask packed for the wire. */
#include "coordinator/guide.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "proto/frame.h"
#include "proto/mask.h"

enum { GUIDE_FORCED_BYTES_MAX = 1024 };

struct guide {
    struct matcher *matcher;
    const struct token_trie *trie;
    uint32_t n_tokens; /* that the mask covers */
    uint8_t *bits;
    struct buffer packed;
    uint64_t place; /* whose mask is packed; 0: none is */
};

struct guide *guide_create(struct grammar *grammar)
{
    struct guide *g = mem_alloc(sizeof(*g));
    const struct token_trie *t = grammar_trie(grammar);
    g->matcher = matcher_create(grammar);
    g->n_tokens = t->n_vocab;
    g->trie = t;
    g->bits = mem_array(token_trie_mask_bytes(t) + 1, 1);
    buffer_init(&g->packed, FRAME_META_MAX / 2);
    return g;
}

void guide_destroy(struct guide **g)
{
    if (!*g)
        return;
    matcher_destroy(&(*g)->matcher);
    mem_free((*g)->bits);
    buffer_close(&(*g)->packed);
    mem_free(*g);
    *g = NULL;
}

int guide_next(struct guide *g, struct error *e)
{
    uint32_t n = 0;
    uint64_t place = matcher_place(g->matcher);
    if (place == g->place) /* within a string, say */
        return 0;
    g->place = 0;
    int r = matcher_mask(g->matcher, g->bits, &n, e);
    if (r != 0)
        return r;
    if (n == 0)
        return error_set(e, ERR_UNSUPPORTED, "no token of this model goes on with what the grammar asks for");
    buffer_clear(&g->packed);
    mask_encode(&g->packed, g->bits, g->n_tokens);
    if (buffer_failed(&g->packed))
        return error_set(e, ERR_LIMIT, "the vocabulary is too large for a mask");
    g->place = matcher_place(g->matcher);
    return 0;
}

const uint8_t *guide_mask(const struct guide *g, uint32_t *n)
{
    *n = (uint32_t)g->packed.len;
    return (const uint8_t *)buffer_text(&g->packed);
}

uint32_t guide_forced(struct guide *g, int32_t *tokens, uint32_t max)
{
    struct buffer text;
    uint32_t n = 0;
    buffer_init(&text, GUIDE_FORCED_BYTES_MAX);
    if (matcher_forced(g->matcher, &text, NULL) == 0)
        n = token_trie_split(g->trie, buffer_text(&text), text.len, tokens, max + 1);
    buffer_close(&text);
    uint32_t kept = 0;
    while (kept + 1 < n && matcher_accept(g->matcher, tokens[kept], NULL) == 0)
        kept++;
    return kept;
}

int guide_accept(struct guide *g, int32_t token, bool *done, struct error *e)
{
    int r = matcher_accept(g->matcher, token, e);
    *done = r == 0 && matcher_is_done(g->matcher);
    return r == ERR_INVALID ? error_set(e, ERR_CORRUPT, "the last stage chose a token that the grammar forbids") : r;
}
