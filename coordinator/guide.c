/* guide: a machine of four stages around a matcher, and its mask packed for the wire.
 *
 * At the door of the answer several ways are open: into reasoning by its mark,
 * token by token, or behind what leads to it into the grammar.  Marks may share
 * their first tokens; a way that a token does not go on with is closed.      */
#include "coordinator/guide.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "proto/frame.h"
#include "proto/mask.h"
#include "text/tokenizer.h"

enum { FORCED_BYTES_MAX = 512, TAIL_BYTES = 4096, SPARE_TOKENS = 8 };

enum stage {
    STAGE_DOOR,
    STAGE_THINK,
    STAGE_BOUND, /* by the grammar */
    STAGE_FREE,  /* until a trigger comes, if one can */
};

struct guide {
    struct guide_plan plan;
    enum stage stage;
    struct matcher *matcher; /* NULL: there is no grammar */
    const struct token_trie *trie;
    uint32_t n_tokens; /* that a mask covers */
    uint8_t *bits;
    struct buffer packed;
    uint64_t place; /* whose mask is packed; 0: none is */
    uint32_t enough; /* with so many tokens left that mask is good */
    int64_t left; /* of the budget */
    /* STAGE_DOOR */
    bool may_think, may_answer;
    uint32_t n_lead;
    /* STAGE_DOOR, STAGE_FREE */
    uint32_t n_open; /* tokens of these marks that have come */
    /* STAGE_THINK */
    bool closing;      /* the answer would not have room */
    uint32_t n_closing; /* tokens of its end that were written for the model */
    /* STAGE_THINK, STAGE_FREE */
    struct buffer tail; /* the last bytes, in which a mark may be */
    bool any;           /* STAGE_FREE: bytes have gone out of it */
    bool after_call;    /* STAGE_FREE: what a trigger began has just ended */
};

/* ---- stages ---- */

bool guide_is_needed(const struct guide_plan *p)
{
    return p->grammar || p->budget >= 0;
}

static void bind(struct guide *g)
{
    g->stage = STAGE_BOUND;
    g->place = 0;
}

static void set_free(struct guide *g)
{
    g->stage = STAGE_FREE;
    g->any = g->after_call = false;
    g->n_open = 0;
    buffer_clear(&g->tail);
}

/* The answer proper begins, or may begin with reasoning. */
static void enter_door(struct guide *g, bool may_think)
{
    const struct guide_plan *p = &g->plan;
    g->stage = STAGE_DOOR;
    g->may_think = may_think && p->open.n > 0;
    g->may_answer = true;
    g->n_open = g->n_lead = 0;
    if (!g->may_think && (!p->grammar || p->trigger.n > 0))
        set_free(g);
    else if (!g->may_think && p->lead.n == 0)
        bind(g);
}

static void begin_thinking(struct guide *g)
{
    g->stage = STAGE_THINK;
    g->closing = false;
    g->n_closing = 0;
    buffer_clear(&g->tail);
}

static void renew(struct guide *g)
{
    if (!g->plan.grammar)
        return;
    matcher_destroy(&g->matcher);
    g->matcher = matcher_create(g->plan.grammar);
}

struct guide *guide_create(const struct guide_plan *p)
{
    struct guide *g = mem_alloc(sizeof(*g));
    g->plan = *p;
    g->left = p->budget;
    g->n_tokens = p->tokenizer ? tokenizer_count(p->tokenizer) : 0;
    if (p->grammar) {
        g->plan.grammar = grammar_keep(p->grammar);
        g->trie = grammar_trie(p->grammar);
        g->n_tokens = g->trie->n_vocab;
    }
    renew(g);
    g->bits = mem_array((size_t)g->n_tokens / 8 + 1, 1);
    buffer_init(&g->packed, FRAME_META_MAX / 2);
    buffer_init(&g->tail, TAIL_BYTES * 2);
    if (p->thinking)
        begin_thinking(g);
    else
        enter_door(g, true);
    return g;
}

void guide_destroy(struct guide **g)
{
    if (!*g)
        return;
    matcher_destroy(&(*g)->matcher);
    grammar_drop(&(*g)->plan.grammar);
    mem_free((*g)->bits);
    buffer_close(&(*g)->packed);
    buffer_close(&(*g)->tail);
    mem_free(*g);
    *g = NULL;
}

/* ---- masks ---- */

static void allow(struct guide *g, int32_t token)
{
    if (token >= 0 && (uint32_t)token < g->n_tokens)
        g->bits[token / 8] |= (uint8_t)(1u << (token & 7));
}

static bool allows_none(const struct guide *g)
{
    for (size_t i = 0; i < (size_t)g->n_tokens / 8 + 1; i++)
        if (g->bits[i] != 0)
            return false;
    return true;
}

static int pack(struct guide *g, struct error *e)
{
    buffer_clear(&g->packed);
    if (allows_none(g))
        return error_set(e, ERR_UNSUPPORTED, "no token of this model goes on with what the grammar asks for");
    mask_encode(&g->packed, g->bits, g->n_tokens);
    if (buffer_failed(&g->packed))
        return error_set(e, ERR_LIMIT, "the vocabulary is too large for a mask");
    return 0;
}

static int bound_mask(struct guide *g, uint32_t left, struct error *e)
{
    uint32_t n = 0;
    uint64_t place = matcher_place(g->matcher);
    if (place == g->place && left >= g->enough) /* within a string, say */
        return 0;
    g->place = 0;
    int r = matcher_mask_within(g->matcher, left, g->bits, &n, &g->enough, e);
    if (r != 0)
        return r;
    r = pack(g, e);
    if (r == 0 && left >= g->enough)
        g->place = matcher_place(g->matcher);
    return r;
}

/* With so many tokens left an answer has room behind `least` others, and hardly any behind `most`. */
static bool is_last_call(struct guide *g, uint32_t left, uint32_t least, uint32_t most)
{
    const struct guide_plan *p = &g->plan;
    if (!p->grammar || p->trigger.n > 0 || p->close.n == 0)
        return false;
    uint64_t rest = matcher_rest(g->matcher), need = rest + p->lead.n;
    return need + least <= left && left <= need + most + rest / 2 + SPARE_TOKENS;
}

static bool must_close(const struct guide *g)
{
    return g->closing || (g->plan.budget >= 0 && g->left <= 0);
}

/* All but the ends: an answer that a grammar waits for does not end in reasoning. */
static int thinking_mask(struct guide *g, uint32_t left, struct error *e)
{
    const struct guide_plan *p = &g->plan;
    memset(g->bits, 0, (size_t)g->n_tokens / 8 + 1);
    g->closing = g->closing || (g->n_closing == 0 && is_last_call(g, left, p->close.n, p->close.n));
    if (must_close(g)) {
        allow(g, p->close.tokens[g->n_closing]);
        return pack(g, e);
    }
    if (!p->grammar || p->trigger.n > 0)
        return 0;
    memset(g->bits, 0xFF, (size_t)g->n_tokens / 8 + 1);
    for (uint32_t i = 0; i < g->trie->n_ends; i++)
        g->bits[g->trie->ends[i] / 8] &= (uint8_t)~(1u << (g->trie->ends[i] & 7));
    return pack(g, e);
}

static int door_mask(struct guide *g, uint32_t left, struct error *e)
{
    const struct guide_plan *p = &g->plan;
    uint32_t n = 0;
    if (!p->grammar || p->trigger.n > 0)
        return 0;
    memset(g->bits, 0, (size_t)g->n_tokens / 8 + 1);
    if (g->may_answer && g->n_lead < p->lead.n) {
        allow(g, p->lead.tokens[g->n_lead]);
    } else if (g->may_answer) {
        int r = matcher_mask_within(g->matcher, left, g->bits, &n, &g->enough, e);
        if (r != 0)
            return r;
    }
    if (g->may_think && (g->n_open > 0 || !is_last_call(g, left, 0, p->open.n + p->close.n)))
        allow(g, p->open.tokens[g->n_open]);
    return pack(g, e);
}

/* Is it a matter whether reasoning begins within the answer? */
static bool minds_thinking(const struct guide *g)
{
    return g->plan.reopens && g->plan.open.n > 0 && g->plan.budget >= 0;
}

/* No more reasoning is begun when the budget is spent: a model could do so for ever. What its mark begins with may
 * begin other things, so it is stopped at the second token. */
static bool bars_thinking(const struct guide *g)
{
    return minds_thinking(g) && g->left <= 0 && g->n_open > 0;
}

static int free_mask(struct guide *g, struct error *e)
{
    if (!bars_thinking(g))
        return 0;
    memset(g->bits, 0xFF, (size_t)g->n_tokens / 8 + 1);
    int32_t token = g->plan.open.tokens[g->n_open];
    if ((uint32_t)token < g->n_tokens)
        g->bits[token / 8] &= (uint8_t)~(1u << (token & 7));
    return pack(g, e);
}

int guide_next(struct guide *g, uint32_t left, struct error *e)
{
    if (g->stage == STAGE_BOUND)
        return bound_mask(g, left, e);
    g->place = 0;
    buffer_clear(&g->packed);
    if (g->stage == STAGE_FREE)
        return free_mask(g, e);
    return g->stage == STAGE_THINK ? thinking_mask(g, left, e) : door_mask(g, left, e);
}

const uint8_t *guide_mask(const struct guide *g, uint32_t *n)
{
    *n = (uint32_t)g->packed.len;
    return (const uint8_t *)buffer_text(&g->packed);
}

uint32_t guide_forced(struct guide *g, int32_t *tokens, uint32_t max, uint32_t left)
{
    struct buffer text;
    uint32_t n = 0, kept = 0;
    if (g->stage != STAGE_BOUND)
        return 0;
    buffer_init(&text, FORCED_BYTES_MAX);
    if (matcher_forced(g->matcher, &text, NULL) == 0)
        n = token_trie_split(g->trie, buffer_text(&text), text.len, tokens, max + 1);
    buffer_close(&text);
    while (kept + 1 < n && matcher_keeps_within(g->matcher, tokens[kept], left - kept - 1) &&
           matcher_accept(g->matcher, tokens[kept], NULL) == 0)
        kept++;
    return kept;
}

/* ---- tokens ---- */

/* A token's text goes to the tail; where it begins there. */
static size_t add_to_tail(struct guide *g, int32_t token)
{
    if (g->tail.len > TAIL_BYTES) {
        buffer_drop(&g->tail, g->tail.len - GUIDE_MARK_MAX);
        g->any = true;
    }
    size_t before = g->tail.len;
    tokenizer_decode(g->plan.tokenizer, token, true, &g->tail);
    return before;
}

/* Where the mark is complete with what the tail has from `before` on: what stands behind the mark, else NULL. */
static const char *look_for(const struct guide *g, size_t before, const char *mark)
{
    size_t len = strlen(mark);
    const char *text = buffer_text(&g->tail);
    size_t from = before + 1 > len ? before + 1 - len : 0;
    const char *found = len == 0 ? NULL : memmem(text + from, g->tail.len - from, mark, len);
    return found ? found + len : NULL;
}

/* What stood behind a mark in the same token is the grammar's first text. */
static int bind_behind(struct guide *g, const char *rest, struct error *e)
{
    bind(g);
    int r = matcher_accept_text(g->matcher, rest, strlen(rest), e);
    return r == ERR_INVALID ? error_set(e, ERR_UNSUPPORTED, "the model went on behind a mark with what its grammar "
                                        "does not allow") : r;
}

/* True: the trigger stands where it counts, or could still come. */
static bool may_trigger(const struct guide *g)
{
    const char *text = buffer_text(&g->tail), *mark = g->plan.trigger.text;
    if (!g->plan.at_start)
        return true;
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text), len = strlen(mark);
    return !g->any && strncmp(text, mark, n < len ? n : len) == 0;
}

/* A trigger may be complete with what the tail has from `before` on. */
static int look_for_trigger(struct guide *g, size_t before, struct error *e)
{
    const char *rest = g->plan.grammar ? look_for(g, before, g->plan.trigger.text) : NULL;
    if (!may_trigger(g))
        g->any = true;
    else if (rest)
        return bind_behind(g, rest, e);
    return 0;
}

/* Its mark ends with a control token, so nothing stands behind it. */
static bool reopens(struct guide *g, size_t before, int32_t token)
{
    const struct guide_mark *open = &g->plan.open;
    g->n_open = token == open->tokens[g->n_open] ? g->n_open + 1 : token == open->tokens[0];
    if (g->n_open == open->n)
        g->n_open = 0;
    return look_for(g, before, open->text) != NULL;
}

static int accept_free(struct guide *g, int32_t token, struct error *e)
{
    g->after_call = false;
    if (bars_thinking(g) && token == g->plan.open.tokens[g->n_open])
        return ERR_INVALID;
    if (!minds_thinking(g) && !g->plan.grammar)
        return 0;
    size_t before = add_to_tail(g, token);
    if (minds_thinking(g) && reopens(g, before, token)) {
        begin_thinking(g);
        return 0;
    }
    return look_for_trigger(g, before, e);
}

/* Reasoning has ended; white space behind it is of no matter. What else the same token has is the answer's. */
static int end_thinking(struct guide *g, const char *rest, struct error *e)
{
    char kept[TOKENIZER_TOKEN_MAX + 1];
    snprintf(kept, sizeof(kept), "%s", rest + strspn(rest, " \t\r\n"));
    enter_door(g, false);
    if (kept[0] == '\0' || g->stage == STAGE_DOOR)
        return 0;
    if (g->stage == STAGE_BOUND)
        return bind_behind(g, kept, e);
    buffer_add_text(&g->tail, kept);
    return look_for_trigger(g, 0, e);
}

static int accept_thought(struct guide *g, int32_t token, struct error *e)
{
    const struct guide_mark *close = &g->plan.close;
    if (must_close(g)) {
        if (token != close->tokens[g->n_closing])
            return ERR_INVALID;
        return ++g->n_closing < close->n ? 0 : end_thinking(g, "", e);
    }
    g->left--;
    const char *rest = look_for(g, add_to_tail(g, token), close->text);
    if (!rest)
        return 0;
    g->left += close->n; /* which is no thought */
    return end_thinking(g, rest, e);
}

static int accept_at_door(struct guide *g, int32_t token, struct error *e)
{
    const struct guide_plan *p = &g->plan;
    bool bound = p->grammar && p->trigger.n == 0;
    uint32_t n_before = g->n_open;
    g->may_think = g->may_think && token == p->open.tokens[g->n_open];
    if (g->may_answer && bound && g->n_lead < p->lead.n)
        g->may_answer = token == p->lead.tokens[g->n_lead++];
    else if (g->may_answer && bound)
        g->may_answer = matcher_accept(g->matcher, token, NULL) == 0;
    if (g->may_think && ++g->n_open == p->open.n) {
        renew(g);
        begin_thinking(g);
        return 0;
    }
    if (g->may_think)
        return 0;
    if (!bound) {
        set_free(g);
        for (uint32_t i = 0; i < n_before; i++) /* they were the answer's */
            tokenizer_decode(p->tokenizer, p->open.tokens[i], true, &g->tail);
        return accept_free(g, token, e);
    }
    if (!g->may_answer)
        return ERR_INVALID;
    if (g->n_lead == p->lead.n)
        bind(g);
    return 0;
}

/* What a trigger began has ended: another may come, or nothing. */
static void finish_call(struct guide *g, bool *done)
{
    *done = g->plan.once;
    renew(g);
    set_free(g);
    g->any = g->after_call = true;
}

bool guide_is_whole(struct guide *g)
{
    return g->stage == STAGE_BOUND ? matcher_may_end(g->matcher) : g->stage == STAGE_FREE && g->after_call;
}

int guide_accept(struct guide *g, int32_t token, bool *done, struct error *e)
{
    int r = 0;
    *done = false;
    switch (g->stage) {
    case STAGE_THINK: r = accept_thought(g, token, e); break;
    case STAGE_FREE: r = accept_free(g, token, e); break;
    case STAGE_DOOR: r = accept_at_door(g, token, e); break;
    case STAGE_BOUND: r = matcher_accept(g->matcher, token, e); break;
    }
    if (r == ERR_INVALID)
        return error_set(e, ERR_CORRUPT, "the last stage chose a token that the grammar forbids");
    if (r == 0 && g->stage == STAGE_BOUND)
        *done = matcher_is_done(g->matcher);
    if (*done && g->plan.trigger.n > 0)
        finish_call(g, done);
    return r;
}
