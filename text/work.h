/* work: what one call of tokenizer_encode() needs: the ids so far, and scratch.
 *
 * Short pieces come again and again: a direct-mapped cache of bounded size keeps
 * their ids for the length of one call.  Not for other folders.              */
#ifndef TEXT_WORK_H
#define TEXT_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/vocab.h"

enum work_limits {
    WORK_CACHED_BYTES_MAX = 30,
    WORK_CACHED_IDS_MAX = 8,
    WORK_PIECE_MAX = 4 << 20, /* a longer piece is cut there: its working memory is 32 bytes a byte */
};

struct work {
    int32_t *ids;
    size_t count, cap;
    bool unknown;  /* an unknown token was given: depends on what is before it, so it is not kept */
    struct work_cached *cache;
    uint32_t cache_mask;
    uint64_t secret;
    /* bpe.c */
    struct bpe_symbol *symbols;
    size_t symbols_cap;
    uint64_t *heap;
    size_t heap_count, heap_cap;
    /* unigram.c */
    struct unigram_best *best;
    size_t best_cap;
};

void work_init(struct work *w, uint64_t secret, size_t text_len); /* text_len sizes the cache */
void work_close(struct work *w);                                  /* ids may have been taken: then NULL */
void work_emit(struct work *w, int32_t id);
/* The tokens of these bytes, which have none of their own: those of the single bytes, or else `unknown` (-1: nothing),
 * once for a run of them if `fuse`. */
void work_emit_bytes(struct work *w, const struct vocab *v, const char *bytes, size_t n, int32_t unknown, bool fuse);

typedef void (*work_fn)(const void *model, struct work *w, const char *piece, size_t len);
/* fn(), or what it gave for the same bytes before. len is at least 1. */
void work_piece(struct work *w, work_fn fn, const void *model, const char *piece, size_t len);

#endif
