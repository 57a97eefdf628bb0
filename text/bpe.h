/* bpe: byte-pair merges of one piece of text.
 *
 * The symbols are token ids, at first those of the single bytes; again and
 * again the adjacent pair of the lowest rank is merged, the leftmost of equals.
 * Not for other folders.                                                     */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"
#include "text/vocab.h"

enum bpe_limits {
    BPE_MERGES_MAX = 1 << 22,
    BPE_PIECE_MAX = 4 << 20, /* a longer piece is cut there: its working memory is 28 bytes a byte */
};

struct bpe_merge {
    int32_t left, right, result;
};

struct bpe {
    const struct vocab *vocab;
    struct bpe_merge *merges; /* by rank */
    uint32_t n_merges;
    uint32_t *slots;          /* rank + 1 by pair, 0 empty */
    uint32_t slot_mask;
    int32_t bytes[256];       /* the id of a single byte, -1 when there is none */
    bool whole_first;         /* a piece that is a token is that token, whatever the merges say */
};

/* What one call of tokenizer_encode() needs: the ids so far, and scratch. */
struct bpe_work {
    int32_t *ids;
    size_t count, cap;
    struct bpe_symbol *symbols;
    size_t symbols_cap;
    uint64_t *heap;
    size_t heap_count, heap_cap;
    struct bpe_cached *cache;
    uint32_t cache_mask;
};

/* Merges that name an unknown, control or over-long token, or repeat an earlier pair, are without effect. */
MUST_USE int bpe_open(struct bpe *b, const struct vocab *v, const struct gguf *g, bool whole_first, struct error *e);
void bpe_close(struct bpe *b);

void bpe_work_init(struct bpe_work *w, size_t text_len); /* text_len sizes the cache */
void bpe_work_close(struct bpe_work *w);                 /* ids may have been taken: then NULL */
void bpe_emit(struct bpe_work *w, int32_t id);
/* Append the ids of one piece. Bytes for which the vocabulary has no token are left out. */
void bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len);

#endif
