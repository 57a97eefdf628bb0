/* grammars: the compiled forms of answers, the last few kept for requests that ask for the same.  Not for other
 * folders.  Any thread may ask. */
#ifndef COORDINATOR_API_GRAMMARS_H
#define COORDINATOR_API_GRAMMARS_H

#include <jansson.h>

#include "text/grammar/grammar.h"

enum grammars_limits {
    GRAMMARS_KEPT = 16,
    GRAMMARS_KEY_MAX = 256 << 10, /* longer sources are compiled every time */
};

struct grammars;

/* For a model with n_vocab logits. The tokenizer and the marks (token_trie_create_marked(), NULL: none) outlive it;
 * tokens are first looked at when a grammar is asked for. */
struct grammars *grammars_create(const struct tokenizer *t, uint32_t n_vocab, const bool *marks);
void grammars_destroy(struct grammars **g);
/* Both give the caller's: grammar_drop(). The error says what cannot be. */
MUST_USE int grammars_get(struct grammars *g, enum grammar_kind kind, const json_t *source, struct grammar **out,
                          struct error *e); /* grammar_of() */
MUST_USE int grammars_calls(struct grammars *g, const struct grammar_calls *c, struct grammar **out, struct error *e);

#endif
