/* rest: how many tokens are enough from each node to the end of its rule. Not for other folders. */
#ifndef TEXT_GRAMMAR_REST_H
#define TEXT_GRAMMAR_REST_H

#include "text/grammar/nodes.h"
#include "text/grammar/token_trie.h"

/* Fills rests and tokens of the nodes. */
void rest_measure(struct nodes *n, const struct token_trie *t);

#endif
