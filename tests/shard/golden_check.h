/* golden_check: what a model has to give that has recorded logits and a continuation, and folders that have them. */
#ifndef TESTS_SHARD_GOLDEN_CHECK_H
#define TESTS_SHARD_GOLDEN_CHECK_H

#include "golden.h"
#include "route.h"

/* A folder's model with its expected.json (prompt, next) and logits.f32. Free it with golden_free(). */
void golden_read_folder(struct golden *g, const char *folder);
/* The greedy continuation after the prompt of sequence 1, whose last row of logits is given. */
void golden_check_continuation(struct route *r, const struct golden *g, const float *last);
/* With every set of instructions that there is. */
void golden_check_logits(const struct golden *g);
/* The same bits cut in two and three at all layers; of models with more than 8, not all threes. */
void golden_check_splits(const struct golden *g);

#endif
