/* bpe: merges of one piece of text.
 *
 * The symbols are token ids, at first those of single bytes or of characters;
 * again and again the adjacent pair of the lowest rank is merged, the leftmost
 * of equals.  Ranks come from a list of merges, or from the scores of the
 * tokens: then every way to put a token together from two has its rank.
 * Characters without a token become the tokens of their bytes.  Not for other
 * folders.                                                                   */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "text/joints.h"
#include "text/source.h"
#include "text/vocab.h"
#include "text/work.h"

struct bpe_merge {
    int32_t left, right, result;
    uint32_t rank;
};

struct bpe {
    const struct vocab *vocab;
    struct bpe_merge *merges; /* in the order of ranks */
    uint32_t n_merges;
    uint32_t *slots;          /* index + 1 by pair, 0 empty */
    uint32_t slot_mask;
    bool whole_first;         /* a piece that is a token is that token, whatever the merges say */
    bool chars;               /* the first symbols are characters */
    bool fuse_unknown;
    int32_t unknown;          /* -1: none */
    int32_t single[256];      /* the id of a byte, or of an ASCII character; -1 when there is none */
    uint32_t *extra;          /* characters that are no tokens but parts of some, sorted: ids from vocab->count on */
    uint32_t n_extra;
    struct joints joints;     /* for characters */
};

/* Merges that name an unknown, control or over-long token, or repeat an earlier pair, are without effect. */
MUST_USE int bpe_open(struct bpe *b, const struct vocab *v, const struct source *s, struct error *e);
void bpe_close(struct bpe *b);
/* Append the ids of one piece. Bytes for which the vocabulary has no token are left out. */
void bpe_encode(const struct bpe *b, struct work *w, const char *piece, size_t len);

/* bpe_merges.c: the table of merges. */
MUST_USE int bpe_merges_open(struct bpe *b, const struct source *s, struct error *e);
void bpe_merges_close(struct bpe *b);
/* The index of a pair's merge, -1 when it has none. */
int32_t bpe_merge_of(const struct bpe *b, int32_t left, int32_t right);
/* The symbol of a character, -1 when it has none. */
int32_t bpe_char(const struct bpe *b, const char *text, size_t len);

#endif
