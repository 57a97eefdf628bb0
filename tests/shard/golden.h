/* golden: recorded logits and continuations of small models, read from a folder that lies outside this project:
 * SHOAL_GOLDENS, by default ../shared/goldens. */
#ifndef TESTS_SHARD_GOLDEN_H
#define TESTS_SHARD_GOLDEN_H

#include <stdint.h>

enum { GOLDEN_TOKENS_MAX = 128 };

struct golden {
    char *path; /* of the model */
    uint32_t n, n_vocab, n_next;
    int32_t *tokens, *next;
    float *logits; /* [n, n_vocab] */
};

/* Calls `check` for every golden whose family is known; skips the test where the folder is absent. */
void golden_each(void (*check)(const struct golden *g));

void golden_free(struct golden *g);

#endif
