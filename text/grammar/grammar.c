/* grammar: rules to nodes to an automaton; masks by walking the automaton over the trie of tokens.
 *
 * A walk goes down the trie with the automaton's state of every depth.  A
 * branch that is dead is left at once, and a branch is taken whole where the
 * state takes any ordinary characters, or all bytes that are in it.  A mask belongs to a
 * state and is remembered with it.
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

struct mask_slot {
    uint8_t *bits;
    uint32_t state, n;
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

static void put_range(const struct token_trie *t, uint8_t *bits, uint32_t first, uint32_t end, bool allowed)
{
    for (uint32_t k = first; k < end; k++) {
        uint8_t bit = (uint8_t)(1u << (t->ids[k] & 7));
        if (allowed)
            bits[t->ids[k] >> 3] |= bit;
        else
            bits[t->ids[k] >> 3] &= (uint8_t)~bit;
    }
}

/* Does this state, reached by node i, take whatever is below it: as many ordinary characters, or bytes of a set? */
static inline bool takes_branch(const struct automaton_state *s, const struct token_trie *t, uint32_t i)
{
    uint8_t below = t->nodes[i].below;
    return below <= s->tolerance || (below <= s->loose && (t->content[i] & ~s->loose_set) == 0) ||
           (below <= s->near && (t->content[i] & ~s->near_set) == 0) || (t->content[i] & ~s->ever_set) == 0;
}

/* A walk that has gone through so many nodes looks closer at the states that it meets; at so many of them. */
enum { WALK_LONG = 1 << 14, WALK_STUDIES = 16 };

/* Walk nodes [i, end). `taken`: the mask begins with every token allowed and what is refused is cleared, else the other
 * way round. 0, AUTOMATON_FAILED or AUTOMATON_FULL. */
static uint32_t walk(struct automaton *a, const struct token_trie *t, uint32_t state, uint32_t i, uint32_t end,
                     uint8_t *bits, bool taken)
{
    uint32_t states[TOKEN_TRIE_DEPTH_MAX + 1], visited = 0, studies = 0;
    states[0] = state;
    while (i < end) {
        const struct trie_node *n = &t->nodes[i];
        uint32_t s = automaton_step(a, states[n->depth - 1], n->byte);
        if (s >= a->n_states)
            return s;
        if (++visited > WALK_LONG && !a->states[s].studied && studies < WALK_STUDIES) {
            automaton_study(a, s);
            studies++;
        }
        if (s == AUTOMATON_DEAD) {
            if (taken)
                put_range(t, bits, n->first, t->nodes[n->next].first, false);
            i = n->next;
        } else if (takes_branch(&a->states[s], t, i)) {
            if (!taken)
                put_range(t, bits, n->first, t->nodes[n->next].first, true);
            i = n->next;
        } else {
            if (!taken)
                put_range(t, bits, n->first, t->nodes[i + 1].first, true);
            states[n->depth] = s;
            i++;
        }
    }
    return 0;
}

/* When so many characters, or bytes of so many buckets, are free, more tokens are allowed than not. */
enum { MOST = 8, MOST_BUCKETS = 40 };

static uint32_t make_mask(struct grammar *g, uint32_t state, uint8_t *bits)
{
    const struct token_trie *t = g->trie;
    size_t bytes = token_trie_mask_bytes(t);
    const struct automaton_state *s = &g->automaton.states[state];
    uint8_t tolerance = s->tolerance;
    bool taken = tolerance >= MOST || tolerance >= t->ordinary_below ||
                 (s->loose >= MOST && __builtin_popcountll(s->loose_set) >= MOST_BUCKETS);
    uint32_t first = tolerance >= t->ordinary_below ? t->n_ordinary_nodes : 0;
    uint32_t exact = tolerance > 0 ? automaton_exact(&g->automaton, state) : 0;
    if (exact > 0 && exact <= TOKEN_TRIE_BRIEF_MAX) { /* the ordinary ones are known without a walk */
        taken = false;
        first = t->n_ordinary_nodes;
        memcpy(bits, t->brief + exact * bytes, bytes);
    } else if (taken) {
        memcpy(bits, t->all, bytes);
    } else {
        memset(bits, 0, bytes);
    }
    uint32_t r = walk(&g->automaton, t, state, first, t->n_nodes, bits, taken);
    for (uint32_t i = 0; r == 0 && g->automaton.states[state].accepts && i < t->n_ends; i++)
        bits[t->ends[i] >> 3] |= (uint8_t)(1u << (t->ends[i] & 7));
    return r;
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
    *why = make_mask(g, state, slot->bits);
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
