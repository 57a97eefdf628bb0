/* token_trie: the tokens of a vocabulary as a tree of their bytes, for walking an automaton over all of them.
 *
 * Made once a model and shared by its grammars.  Tokens that show nothing
 * (control tokens) are in no text and in no tree; those that end a generation
 * are kept apart.  Tokens of ordinary characters alone (nodes.h) come first, in
 * a tree of their own: most of a vocabulary, and wherever a grammar takes any
 * ordinary character whole branches of it are taken unseen.  Immutable; holders
 * count themselves, from any thread.                                         */
#ifndef TEXT_GRAMMAR_TOKEN_TRIE_H
#define TEXT_GRAMMAR_TOKEN_TRIE_H

#include <stdint.h>

#include "text/tokenizer.h"

enum token_trie_limits {
    TOKEN_TRIE_DEPTH_MAX = 255, /* bytes; a longer token is never allowed by a grammar */
    TOKEN_TRIE_BRIEF_MAX = 15,
    TOKEN_TRIE_MANY = 255,      /* characters below a node, when that helps nobody */
};

struct trie_node { /* in the order of a walk: a node, then what is below it */
    uint32_t next;  /* the node after all that is below */
    uint32_t first; /* of `ids`: tokens of this node and below; those that end here come first */
    uint8_t byte, depth; /* depth: bytes of its tokens, from 1 */
    uint8_t below;  /* the most characters of any token after this node; 0: nothing is below */
};

struct token_trie {
    _Atomic uint32_t refs;
    uint32_t n_vocab, n_tokens, n_nodes, n_ordinary_nodes, n_ordinary;
    struct trie_node *nodes; /* [n_nodes + 1]: the last one ends `first` */
    uint64_t *content;       /* [n_nodes]: buckets (nodes_bucket) of the bytes below a node */
    uint8_t ordinary_below;  /* the most characters of an ordinary token */
    int32_t *ids;            /* [n_tokens] sorted: ordinary ones, then by bytes */
    uint8_t *all;            /* mask of all of them, [token_trie_mask_bytes()] */
    uint8_t *brief;          /* masks of ordinary tokens of at most 0, 1, ... TOKEN_TRIE_BRIEF_MAX characters */
    int32_t *ends;           /* tokens that end a generation */
    uint32_t n_ends;
    char *bytes;             /* of all tokens */
    uint32_t *starts;        /* [n_vocab + 1] by id; tokens that are not in the tree have none */
};

/* A mask has a bit for each id, the lowest first. Only ids below n_max are in it: those that the model has rows for. */
struct token_trie *token_trie_create(const struct tokenizer *t, uint32_t n_max);
/* The same where control tokens with a true mark, [tokenizer_count()] by id, are texts too. */
struct token_trie *token_trie_create_marked(const struct tokenizer *t, uint32_t n_max, const bool *marks);
/* Of n tokens by id, token i being bytes[starts[i] .. starts[i + 1]); those that end an answer are empty. Copies. */
struct token_trie *token_trie_from(const char *bytes, const uint32_t *starts, uint32_t n, const int32_t *ends,
                                   uint32_t n_ends);
/* A text as tokens, each the longest that is there; up to max of them, fewer where no token goes on. How many. */
uint32_t token_trie_split(const struct token_trie *t, const char *text, size_t len, int32_t *ids, uint32_t max);
struct token_trie *token_trie_keep(struct token_trie *t);
void token_trie_drop(struct token_trie **t);
static inline size_t token_trie_mask_bytes(const struct token_trie *t)
{
    return (t->n_vocab + 7) / 8;
}

#endif
