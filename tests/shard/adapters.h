/* adapters: GGUF adapters of random values for every matrix of a model, and models with an adapter merged into
 * their weights, by names and plain sums: what adapters at run time are compared with. */
#ifndef TESTS_SHARD_ADAPTERS_H
#define TESTS_SHARD_ADAPTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/arch/arch.h"
#include "shard/format/gguf.h"

enum { ADAPTERS_RANK = 5 }; /* the largest rank that is written */

/* True for tensors that may have a pair. */
bool adapters_may_change(const struct model *m, const struct model_tensor *t);
/* An adapter of `model` at `path`: pairs for all tensors that may have one. Ranks change from tensor to tensor; in
 * stacks one of A and B may be shared. */
void adapters_write(const char *model, const char *path, uint64_t seed, float alpha);
/* `model` (of F32) with scale * alpha / rank * B A added to its weights. */
void adapters_merge(const char *model, const char *adapter, float scale, const char *out);

#endif
