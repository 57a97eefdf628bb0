/* grammar: what an answer must look like, and which tokens may come next so that it will.
 *
 * A grammar is compiled once, from GBNF, a regular expression, a list of texts
 * or a JSON schema, for the tokens of one model.  What cannot be compiled is
 * refused with a sentence that names it; nothing is ever ignored.  A matcher
 * follows one answer through a grammar: it says which tokens may come next
 * (a mask), takes the one that came, and says when the answer may end.
 *
 * Everything is a stranger's: sources, sizes, repetitions and the work of a
 * mask are bounded, and past a bound there is an error, never a wrong mask.
 *
 * A grammar's source is immutable and its holders count themselves from any
 * thread; but it learns while it is used, so that all matchers of a grammar
 * belong to one thread (grammar_compile: the caller's; then the engine's).
 * matcher_create() and matcher_destroy() may be called anywhere.             */
#ifndef TEXT_GRAMMAR_GRAMMAR_H
#define TEXT_GRAMMAR_GRAMMAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "text/grammar/token_trie.h"

enum grammar_limits {
    GRAMMAR_SOURCE_MAX = 1 << 20,  /* bytes of a GBNF, a regular expression or all choices */
    GRAMMAR_TEXTS_MAX = 1 << 16,   /* choices, values of an enum */
    GRAMMAR_MASKS_MAX = 64,        /* remembered a grammar */
    GRAMMAR_WORK_MAX = 1 << 19,    /* steps of one mask, some milliseconds; those of sane grammars take a hundredth */
    GRAMMAR_ANSWER_MAX = 64 << 20, /* bytes */
    GRAMMAR_DEPTH_MAX = 128,       /* rules and counted repetitions inside one another: 64 to 128 of JSON's brackets */
};

#define GRAMMAR_REST_UNKNOWN UINT32_MAX

struct grammar;
struct matcher;
struct reply_format;

/* What a grammar is made from. */
enum grammar_kind { GRAMMAR_NONE, GRAMMAR_OBJECT, GRAMMAR_SCHEMA, GRAMMAR_GBNF, GRAMMAR_REGEX, GRAMMAR_CHOICE };

/* Calls of tools, as a model writes them. */
struct grammar_calls {
    const struct reply_format *format;
    const json_t *tools; /* that may be called: OpenAI's list, one at least, checked */
    bool begun;          /* reply_trigger() was written: what follows it, to the end of the call */
    bool many;           /* several calls */
    enum grammar_kind instead; /* of calls the answer may also be this, and its source; GRAMMAR_NONE: it may not */
    const json_t *source;
    const char *lead;    /* comes before that; NULL: nothing */
};

/* Each: ERR_INVALID or ERR_UNSUPPORTED or ERR_LIMIT names what cannot be. The trie is kept as long as needed. */
MUST_USE int grammar_gbnf(struct grammar **out, struct token_trie *t, const char *text, size_t len, struct error *e);
MUST_USE int grammar_regex(struct grammar **out, struct token_trie *t, const char *text, size_t len, struct error *e);
/* One of the texts. */
MUST_USE int grammar_choice(struct grammar **out, struct token_trie *t, const char *const *texts, size_t n,
                            struct error *e);
/* Any JSON object. */
MUST_USE int grammar_json(struct grammar **out, struct token_trie *t, struct error *e);
MUST_USE int grammar_schema(struct grammar **out, struct token_trie *t, const json_t *schema, struct error *e);
/* Any of these: a schema (any JSON), a text (a JSON string), choices (a list of JSON strings), NULL for
 * GRAMMAR_OBJECT. */
MUST_USE int grammar_of(struct grammar **out, struct token_trie *t, enum grammar_kind kind, const json_t *source,
                        struct error *e);
/* The trie has the format's marks as texts. */
MUST_USE int grammar_calls(struct grammar **out, struct token_trie *t, const struct grammar_calls *c, struct error *e);
struct grammar *grammar_keep(struct grammar *g);
void grammar_drop(struct grammar **g);
const struct token_trie *grammar_trie(const struct grammar *g);

/* A matcher at the beginning of an answer; holds the grammar. */
struct matcher *matcher_create(struct grammar *g);
void matcher_destroy(struct matcher **m);
/* Sets the bit of every token that may come next, end tokens where the answer may end; *n: how many. `bits` has
 * token_trie_mask_bytes(). None: no token of the vocabulary goes on. ERR_LIMIT: too much work. */
MUST_USE int matcher_mask(struct matcher *m, uint8_t *bits, uint32_t *n, struct error *e);
/* The same for an answer that may have `left` more tokens, this one among them. When those run short, only tokens that
 * lead to an end in time, but not all of them; so does every later mask then, and the last token completes the answer.
 * Where it is not known how to end in time, tokens that lead to the end as fast as any that are known, or, with less
 * than half of what is needed, all of them. *enough: with so many left the mask is matcher_mask()'s. An answer that is
 * nested too deep for its readers is led out in the same way, however many are left. */
MUST_USE int matcher_mask_within(struct matcher *m, uint32_t left, uint8_t *bits, uint32_t *n, uint32_t *enough,
                                 struct error *e);
/* By masks within that number so many tokens are enough to complete the answer; GRAMMAR_REST_UNKNOWN: not known. */
uint32_t matcher_rest(struct matcher *m);
/* Can the answer be completed as surely with `left` tokens after this one as it could be with one more before it? */
bool matcher_keeps_within(struct matcher *m, int32_t token, uint32_t left);
/* Where the answer stands: at equal places of one grammar's matchers the masks are the same. */
uint64_t matcher_place(struct matcher *m);
/* ERR_INVALID when it was not allowed: nothing is changed. An end token is not for it. */
MUST_USE int matcher_accept(struct matcher *m, int32_t token, struct error *e);
/* The same for text. */
MUST_USE int matcher_accept_text(struct matcher *m, const char *bytes, size_t n, struct error *e);
bool matcher_may_end(struct matcher *m);
/* It may end and nothing can follow. */
bool matcher_is_done(struct matcher *m);
/* Appends the bytes that must come next, as long as there is only one way on and room in the buffer. */
MUST_USE int matcher_forced(struct matcher *m, struct buffer *out, struct error *e);

#endif
