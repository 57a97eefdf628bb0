/* masks: which tokens may follow a state of an automaton. Not for other folders.
 *
 * A walk goes down the trie with the automaton's state of every depth.  A
 * branch that is dead is left at once, and a branch is taken whole where the
 * state takes any ordinary characters, or all bytes that are in it.          */
#ifndef TEXT_GRAMMAR_MASKS_H
#define TEXT_GRAMMAR_MASKS_H

#include "text/grammar/automaton.h"
#include "text/grammar/token_trie.h"

/* The bits of all tokens that may follow, of [token_trie_mask_bytes()]. *rest_most: after any of them, if it is known
 * how to end, so many tokens are enough to the end. 0, AUTOMATON_FAILED or AUTOMATON_FULL. */
uint32_t masks_make(struct automaton *a, const struct token_trie *t, uint32_t state, uint8_t *bits,
                    uint32_t *rest_most);

/* Only tokens after which `left` tokens are enough, one at least and perhaps not all of them. Where no such token is
 * known: of the tokens that were looked at, those that lead nearest to the end. The state's rest is known. */
uint32_t masks_steer(struct automaton *a, const struct token_trie *t, uint32_t state, uint32_t left, uint8_t *bits);

#endif
