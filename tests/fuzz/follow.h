/* follow: what must be true of any grammar that was compiled, on a walk whose way the input chooses. */
#ifndef TESTS_FUZZ_FOLLOW_H
#define TESTS_FUZZ_FOLLOW_H

#include "text/grammar/grammar.h"

/* A small vocabulary; made once. */
struct token_trie *follow_trie(void);
/* Takes the grammar. */
void follow(struct grammar *g, const uint8_t *data, size_t size);

#endif
