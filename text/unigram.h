/* unigram: the most probable row of tokens for a piece of text.  Not for other folders. */
#ifndef TEXT_UNIGRAM_H
#define TEXT_UNIGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/joints.h"
#include "text/source.h"
#include "text/vocab.h"
#include "text/work.h"

enum unigram_limits {
    UNIGRAM_TOKEN_MAX = 512,       /* bytes: a character of text costs a step for each at most */
    UNIGRAM_BYTES_MAX = 1 << 26,   /* of all tokens together */
};

struct unigram {
    const struct vocab *vocab;
    float *scores;   /* by id */
    double unknown_score;
    int32_t unknown; /* -1: none */
    uint64_t *edges; /* of the trie of the tokens: parent node, byte, child node; 0 empty */
    uint32_t edge_mask;
    int32_t *token;  /* by node, -1: none; node 0 is the root */
    uint32_t first[256];
    struct joints joints;
};

MUST_USE int unigram_open(struct unigram *u, const struct vocab *v, const struct source *s, struct error *e);
void unigram_close(struct unigram *u);
void unigram_encode(const struct unigram *u, struct work *w, const char *piece, size_t len);

#endif
