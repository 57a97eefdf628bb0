/* masks: walks over the trie; of ordinary tokens much is known before. */
#include "text/grammar/masks.h"

#include <string.h>

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

static inline void note_rest(uint32_t *most, uint32_t rest)
{
    if (rest > *most && rest != NODES_REST_UNKNOWN)
        *most = rest;
}

/* Walk nodes [i, end). `taken`: the mask begins with every token allowed and what is refused is cleared, else the other
 * way round. 0, AUTOMATON_FAILED or AUTOMATON_FULL. */
static uint32_t walk(struct automaton *a, const struct token_trie *t, uint32_t state, uint32_t i, uint8_t *bits,
                     bool taken, uint32_t *rest_most)
{
    uint32_t states[TOKEN_TRIE_DEPTH_MAX + 1], visited = 0, studies = 0;
    states[0] = state;
    while (i < t->n_nodes) {
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
            note_rest(rest_most, a->states[s].rest_most);
            note_rest(rest_most, a->states[s].rest);
            if (!taken)
                put_range(t, bits, n->first, t->nodes[n->next].first, true);
            i = n->next;
        } else {
            if (t->nodes[i + 1].first > n->first)
                note_rest(rest_most, a->states[s].rest);
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

static void put_ends(const struct automaton *a, const struct token_trie *t, uint32_t state, uint8_t *bits)
{
    for (uint32_t i = 0; a->states[state].accepts && i < t->n_ends; i++)
        bits[t->ends[i] >> 3] |= (uint8_t)(1u << (t->ends[i] & 7));
}

uint32_t masks_make(struct automaton *a, const struct token_trie *t, uint32_t state, uint8_t *bits,
                    uint32_t *rest_most)
{
    size_t bytes = token_trie_mask_bytes(t);
    const struct automaton_state *s = &a->states[state];
    uint8_t tolerance = s->tolerance;
    bool taken = tolerance >= MOST || tolerance >= t->ordinary_below ||
                 (s->loose >= MOST && __builtin_popcountll(s->loose_set) >= MOST_BUCKETS);
    uint32_t first = tolerance >= t->ordinary_below ? t->n_ordinary_nodes : 0;
    uint32_t exact = tolerance > 0 ? automaton_exact(a, state) : 0;
    *rest_most = 0;
    if (exact > 0 && exact <= TOKEN_TRIE_BRIEF_MAX) { /* the ordinary ones are known without a walk */
        taken = false;
        first = t->n_ordinary_nodes;
        memcpy(bits, t->brief + exact * bytes, bytes);
    } else if (taken) {
        memcpy(bits, t->all, bytes);
    } else {
        memset(bits, 0, bytes);
    }
    if (first > 0)
        note_rest(rest_most, s->rest_most);
    uint32_t r = walk(a, t, state, first, bits, taken, rest_most);
    if (r == 0)
        put_ends(a, t, state, bits);
    return r;
}

/* ---- steering ---- */

/* `nearest`: where a token leads nearer than `left`, only such are kept. A branch of which not all is near enough is
 * left out. */
static uint32_t steer_walk(struct automaton *a, const struct token_trie *t, uint32_t state, uint32_t i, uint32_t left,
                           bool nearest, uint8_t *bits)
{
    uint32_t states[TOKEN_TRIE_DEPTH_MAX + 1];
    states[0] = state;
    while (i < t->n_nodes) {
        const struct trie_node *n = &t->nodes[i];
        uint32_t s = automaton_step(a, states[n->depth - 1], n->byte), end = t->nodes[i + 1].first;
        if (s >= a->n_states)
            return s;
        const struct automaton_state *x = &a->states[s];
        bool whole = s == AUTOMATON_DEAD || takes_branch(x, t, i);
        if (nearest && x->rest < left && end > n->first) {
            memset(bits, 0, token_trie_mask_bytes(t));
            left = x->rest;
        }
        if (whole && x->rest_most <= left)
            end = t->nodes[n->next].first;
        if (s != AUTOMATON_DEAD && x->rest <= left)
            put_range(t, bits, n->first, end, true);
        states[n->depth] = s;
        i = whole ? n->next : i + 1;
    }
    return 0;
}

uint32_t masks_steer(struct automaton *a, const struct token_trie *t, uint32_t state, uint32_t left, uint8_t *bits)
{
    uint32_t rest = a->states[state].rest;
    bool nearest = rest > left + 1;
    int32_t token = automaton_shortest(a, state);
    size_t bytes = token_trie_mask_bytes(t);
    uint32_t exact = a->states[state].tolerance > 0 ? automaton_exact(a, state) : 0;
    bool brief = exact > 0 && exact <= TOKEN_TRIE_BRIEF_MAX; /* all about ordinary ones is known */
    if (brief && !nearest && a->states[state].rest_most <= left)
        memcpy(bits, t->brief + exact * bytes, bytes);
    else
        memset(bits, 0, bytes);
    if (token >= 0 && rest > 0)
        bits[token >> 3] |= (uint8_t)(1u << (token & 7));
    uint32_t r = steer_walk(a, t, state, brief ? t->n_ordinary_nodes : 0, nearest ? rest - 1 : left, nearest, bits);
    if (r == 0)
        put_ends(a, t, state, bits);
    return r;
}
