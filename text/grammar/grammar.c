/* grammar: rules to nodes to an automaton, whose masks are remembered.
 *
 * A mask belongs to a state and is remembered with it; those of an answer that
 * is steered to its end are made each time.
 *
 * When the automaton is full it is emptied, and a matcher finds its state again
 * by walking the bytes of its answer.                                        */
#include "text/grammar/grammar.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/automaton.h"
#include "text/grammar/calls.h"
#include "text/grammar/front.h"
#include "text/grammar/masks.h"
#include "text/grammar/rest.h"

struct mask_slot {
    uint8_t *bits;
    uint32_t state, n;
    uint32_t rest_most; /* tokens that are enough after any of the mask's */
};

struct grammar {
    _Atomic uint32_t refs;
    struct token_trie *trie;
    struct nodes nodes;
    /* below: of the thread that uses it */
    struct automaton automaton;
    struct mask_slot masks[GRAMMAR_MASKS_MAX];
    uint32_t next_mask;
};

struct matcher {
    struct grammar *grammar;
    uint32_t state, generation;
    struct buffer answer;
};

/* ---- compiling ---- */

/* Takes the rules. */
static int compile(struct grammar **out, struct token_trie *t, struct rules *r, int status, struct error *e)
{
    struct grammar *g = mem_alloc(sizeof(*g));
    if (status == 0)
        status = rules_check(r, e);
    if (status == 0)
        status = nodes_compile(&g->nodes, r, e);
    rules_close(r);
    if (status == 0)
        rest_measure(&g->nodes, t);
    if (status == 0)
        status = automaton_init(&g->automaton, &g->nodes, e);
    if (status != 0) {
        nodes_close(&g->nodes);
        mem_free(g);
        return status;
    }
    g->refs = 1;
    g->trie = token_trie_keep(t);
    *out = g;
    return 0;
}

static int check_source(size_t len, struct error *e)
{
    if (len <= GRAMMAR_SOURCE_MAX)
        return 0;
    return error_set(e, ERR_LIMIT, "it has %zu bytes; at most %d can be", len, GRAMMAR_SOURCE_MAX);
}

static int read_choice(struct rules *r, const json_t *list, struct error *e)
{
    size_t n = json_array_size(list), bytes = 0;
    if (n == 0 || n > GRAMMAR_TEXTS_MAX)
        return error_set(e, ERR_INVALID, "it has %zu choices; 1 to %d can be", n, GRAMMAR_TEXTS_MAX);
    struct rules_texts *texts = mem_array(n, sizeof(*texts));
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(list, i);
        texts[i] = (struct rules_texts){json_string_value(one), json_string_length(one)};
        bytes += texts[i].len;
    }
    int status = check_source(bytes, e);
    if (status == 0) {
        r->root = rules_declare(r, "root", 4);
        rules_define(r, r->root, rules_texts(r, texts, n));
    }
    mem_free(texts);
    return status;
}

static int read_text(struct rules *r, enum grammar_kind kind, const char *text, size_t len, struct error *e)
{
    int status = check_source(len, e);
    if (status != 0)
        return status;
    return kind == GRAMMAR_GBNF ? gbnf_read(r, text, len, e) : regex_read(r, text, len, e);
}

static int read_source(struct rules *r, enum grammar_kind kind, const json_t *source, struct error *e)
{
    switch (kind) {
    case GRAMMAR_SCHEMA: return schema_read(r, source, e);
    case GRAMMAR_GBNF:
    case GRAMMAR_REGEX: return read_text(r, kind, json_string_value(source), json_string_length(source), e);
    case GRAMMAR_CHOICE: return read_choice(r, source, e);
    default: json_read_object(r); return 0;
    }
}

int grammar_of(struct grammar **out, struct token_trie *t, enum grammar_kind kind, const json_t *source,
               struct error *e)
{
    struct rules r;
    rules_init(&r);
    return compile(out, t, &r, read_source(&r, kind, source, e), e);
}

int grammar_gbnf(struct grammar **out, struct token_trie *t, const char *text, size_t len, struct error *e)
{
    struct rules r;
    rules_init(&r);
    return compile(out, t, &r, read_text(&r, GRAMMAR_GBNF, text, len, e), e);
}

int grammar_regex(struct grammar **out, struct token_trie *t, const char *text, size_t len, struct error *e)
{
    struct rules r;
    rules_init(&r);
    return compile(out, t, &r, read_text(&r, GRAMMAR_REGEX, text, len, e), e);
}

int grammar_choice(struct grammar **out, struct token_trie *t, const char *const *texts, size_t n, struct error *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string_nocheck(texts[i]));
    int status = grammar_of(out, t, GRAMMAR_CHOICE, list, e);
    json_decref(list);
    return status;
}

int grammar_json(struct grammar **out, struct token_trie *t, struct error *e)
{
    return grammar_of(out, t, GRAMMAR_OBJECT, NULL, e);
}

int grammar_schema(struct grammar **out, struct token_trie *t, const json_t *schema, struct error *e)
{
    return grammar_of(out, t, GRAMMAR_SCHEMA, schema, e);
}

int grammar_calls(struct grammar **out, struct token_trie *t, const struct grammar_calls *c, struct error *e)
{
    struct rules r;
    rules_init(&r);
    int status = calls_read(&r, c, e);
    if (status == 0 && c->instead != GRAMMAR_NONE) {
        uint32_t either[2] = {rules_call(&r, r.root), 0}, parts[2];
        status = read_source(&r, c->instead, c->source, e);
        parts[0] = rules_string(&r, c->lead ? c->lead : "");
        parts[1] = rules_call(&r, r.root);
        either[1] = rules_sequence(&r, parts, 2);
        r.root = rules_declare(&r, "answer", 6);
        rules_define(&r, r.root, rules_choice(&r, either, 2));
    }
    return compile(out, t, &r, status, e);
}

struct grammar *grammar_keep(struct grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_drop(struct grammar **g_p)
{
    struct grammar *g = *g_p;
    *g_p = NULL;
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    for (size_t i = 0; i < GRAMMAR_MASKS_MAX; i++)
        mem_free(g->masks[i].bits);
    automaton_close(&g->automaton);
    nodes_close(&g->nodes);
    token_trie_drop(&g->trie);
    mem_free(g);
}

const struct token_trie *grammar_trie(const struct grammar *g)
{
    return g->trie;
}

/* ---- masks ---- */

static uint32_t count_bits(const uint8_t *bits, size_t bytes)
{
    uint32_t n = 0;
    size_t i = 0;
    for (uint64_t word; i + sizeof(word) <= bytes; i += sizeof(word)) {
        memcpy(&word, bits + i, sizeof(word));
        n += (uint32_t)__builtin_popcountll(word);
    }
    for (; i < bytes; i++)
        n += (uint32_t)__builtin_popcount(bits[i]);
    return n;
}

/* The remembered mask of a state; the oldest one gives up its slot. NULL: *why is not 0. */
static const struct mask_slot *find_mask(struct grammar *g, uint32_t state, uint32_t *why)
{
    uint32_t known = g->automaton.states[state].mask;
    *why = 0;
    if (known != 0)
        return &g->masks[known - 1];
    struct mask_slot *slot = &g->masks[g->next_mask];
    size_t bytes = token_trie_mask_bytes(g->trie);
    if (!slot->bits)
        slot->bits = mem_array(bytes + 1, 1);
    else if (slot->state < g->automaton.n_states && g->automaton.states[slot->state].mask == g->next_mask + 1)
        g->automaton.states[slot->state].mask = 0;
    *why = masks_make(&g->automaton, g->trie, state, slot->bits, &slot->rest_most);
    if (*why != 0)
        return NULL;
    slot->n = count_bits(slot->bits, bytes);
    slot->state = state;
    g->automaton.states[state].mask = g->next_mask + 1;
    g->next_mask = (g->next_mask + 1) % GRAMMAR_MASKS_MAX;
    return slot;
}

/* ---- matchers ---- */

struct matcher *matcher_create(struct grammar *g)
{
    struct matcher *m = mem_alloc(sizeof(*m));
    m->grammar = grammar_keep(g);
    m->state = AUTOMATON_START;
    m->generation = UINT32_MAX; /* found when it is first needed */
    buffer_init(&m->answer, GRAMMAR_ANSWER_MAX);
    return m;
}

void matcher_destroy(struct matcher **m)
{
    if (!*m)
        return;
    grammar_drop(&(*m)->grammar);
    buffer_close(&(*m)->answer);
    mem_free(*m);
    *m = NULL;
}

static int too_much(struct error *e)
{
    return error_set(e, ERR_LIMIT, "the grammar leaves too many ways on: it cannot be followed");
}

static uint32_t advance(struct automaton *a, uint32_t state, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && state < a->n_states && state != AUTOMATON_DEAD; i++)
        state = automaton_step(a, state, (uint8_t)bytes[i]);
    return state;
}

enum { WORK_A_BYTE = 64 }; /* for walking an answer again */

/* Make m->state one of this generation, and let work begin anew. False: the answer cannot be followed. */
static bool settle(struct matcher *m)
{
    struct automaton *a = &m->grammar->automaton;
    a->work_max = a->work + GRAMMAR_WORK_MAX + WORK_A_BYTE * m->answer.len;
    if (m->generation != a->generation) {
        m->generation = a->generation;
        m->state = advance(a, AUTOMATON_START, buffer_text(&m->answer), m->answer.len);
    }
    return m->state < a->n_states && m->state != AUTOMATON_DEAD;
}

/* After AUTOMATON_FULL. */
static bool start_over(struct matcher *m)
{
    automaton_reset(&m->grammar->automaton);
    for (size_t i = 0; i < GRAMMAR_MASKS_MAX; i++)
        m->grammar->masks[i].state = UINT32_MAX;
    return settle(m);
}

int matcher_mask(struct matcher *m, uint8_t *bits, uint32_t *n, struct error *e)
{
    struct grammar *g = m->grammar;
    uint32_t why = AUTOMATON_FAILED;
    const struct mask_slot *slot = NULL;
    if (settle(m) || start_over(m))
        slot = find_mask(g, m->state, &why);
    if (!slot && why == AUTOMATON_FULL && start_over(m))
        slot = find_mask(g, m->state, &why);
    if (!slot)
        return too_much(e);
    memcpy(bits, slot->bits, token_trie_mask_bytes(g->trie));
    *n = slot->n;
    return 0;
}

/* Makes the mask for an answer that has to end soon. 0, AUTOMATON_FAILED or AUTOMATON_FULL. */
static uint32_t steer(struct matcher *m, uint32_t left, uint8_t *bits, uint32_t *n)
{
    struct grammar *g = m->grammar;
    m->grammar->automaton.work_max += GRAMMAR_WORK_MAX; /* the plain mask may have taken what was allowed */
    uint32_t why = masks_steer(&g->automaton, g->trie, m->state, left - 1, bits);
    *n = why == 0 ? count_bits(bits, token_trie_mask_bytes(g->trie)) : 0;
    return why;
}

int matcher_mask_within(struct matcher *m, uint32_t left, uint8_t *bits, uint32_t *n, uint32_t *enough,
                        struct error *e)
{
    *enough = 0;
    int r = matcher_mask(m, bits, n, e);
    if (r != 0)
        return r;
    const struct automaton_state *s = &m->grammar->automaton.states[m->state];
    if (s->rest == NODES_REST_UNKNOWN)
        return 0;
    bool deep = s->depth > GRAMMAR_DEPTH_MAX && s->rest > 0;
    *enough = deep ? UINT32_MAX : m->grammar->masks[s->mask - 1].rest_most + 1;
    left = deep && left > s->rest ? s->rest : left;
    if (left >= *enough || left == 0 || s->rest / 2 > left)
        return 0;
    uint32_t why = steer(m, left, bits, n);
    if (why == AUTOMATON_FULL && start_over(m))
        why = steer(m, left, bits, n);
    return why == 0 && *n > 0 ? 0 : matcher_mask(m, bits, n, e);
}

uint32_t matcher_rest(struct matcher *m)
{
    return settle(m) || start_over(m) ? m->grammar->automaton.states[m->state].rest : GRAMMAR_REST_UNKNOWN;
}

bool matcher_keeps_within(struct matcher *m, int32_t token, uint32_t left)
{
    struct automaton *a = &m->grammar->automaton;
    const struct token_trie *t = m->grammar->trie;
    uint32_t rest = matcher_rest(m);
    if (rest == GRAMMAR_REST_UNKNOWN || rest > left + 1)
        return true;
    uint32_t state = advance(a, m->state, t->bytes + t->starts[token], t->starts[token + 1] - t->starts[token]);
    return state < a->n_states && a->states[state].rest <= left;
}

uint64_t matcher_place(struct matcher *m)
{
    (void)settle(m); /* what cannot be followed has no mask to be compared */
    return (uint64_t)m->generation << 32 | m->state;
}

int matcher_accept_text(struct matcher *m, const char *bytes, size_t n, struct error *e)
{
    struct automaton *a = &m->grammar->automaton;
    if (!settle(m) && !start_over(m))
        return too_much(e);
    uint32_t state = advance(a, m->state, bytes, n);
    if (state == AUTOMATON_FULL && start_over(m))
        state = advance(a, m->state, bytes, n);
    if (state >= a->n_states)
        return too_much(e);
    if (state == AUTOMATON_DEAD)
        return error_set(e, ERR_INVALID, "the grammar does not allow this text here");
    buffer_add(&m->answer, bytes, n);
    if (buffer_failed(&m->answer))
        return error_set(e, ERR_LIMIT, "an answer by a grammar has at most %d bytes", GRAMMAR_ANSWER_MAX);
    m->state = state;
    return 0;
}

int matcher_accept(struct matcher *m, int32_t token, struct error *e)
{
    const struct token_trie *t = m->grammar->trie;
    if (token < 0 || (uint32_t)token >= t->n_vocab || t->starts[token] == t->starts[token + 1])
        return error_set(e, ERR_INVALID, "the grammar does not allow token %d: it has no text", token);
    return matcher_accept_text(m, t->bytes + t->starts[token], t->starts[token + 1] - t->starts[token], e);
}

bool matcher_may_end(struct matcher *m)
{
    return (settle(m) || start_over(m)) && m->grammar->automaton.states[m->state].accepts;
}

/* The only byte that can follow; -1: none, -2: several, -3: it cannot be said. */
static int only_byte(struct automaton *a, uint32_t state)
{
    int found = -1;
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t next = automaton_step(a, state, (uint8_t)b);
        if (next >= a->n_states)
            return -3;
        if (next == AUTOMATON_DEAD)
            continue;
        if (found >= 0)
            return -2;
        found = (int)b;
    }
    return found;
}

bool matcher_is_done(struct matcher *m)
{
    return matcher_may_end(m) && only_byte(&m->grammar->automaton, m->state) == -1;
}

int matcher_forced(struct matcher *m, struct buffer *out, struct error *e)
{
    struct automaton *a = &m->grammar->automaton;
    if (!settle(m) && !start_over(m))
        return too_much(e);
    uint32_t state = m->state;
    while (out->len < out->max && !a->states[state].accepts) {
        int byte = only_byte(a, state);
        if (byte < 0)
            return 0; /* what cannot be said is not forced */
        buffer_u8(out, (uint8_t)byte);
        state = automaton_step(a, state, (uint8_t)byte);
    }
    return 0;
}
