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

enum grammar_kind { GRAMMAR_OBJECT, GRAMMAR_SCHEMA, GRAMMAR_GBNF, GRAMMAR_REGEX, GRAMMAR_CHOICE };

struct grammars;

/* For a model with n_vocab logits. The tokenizer outlives it; its tokens are first looked at when a grammar is asked
 * for. */
struct grammars *grammars_create(const struct tokenizer *t, uint32_t n_vocab);
void grammars_destroy(struct grammars **g);
/* The grammar of a source: a schema (any JSON), a text (a JSON string), choices (a list of JSON strings); none for
 * GRAMMAR_OBJECT. The caller's: grammar_drop(). The error says what cannot be. */
MUST_USE int grammars_get(struct grammars *g, enum grammar_kind kind, const json_t *source, struct grammar **out,
                          struct error *e);

#endif
