/* splits: a GGUF model written again as several files, as tools split it, or wrongly. */
#ifndef TESTS_SHARD_SPLITS_H
#define TESTS_SHARD_SPLITS_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/format/gguf.h"

enum { SPLITS_MAX = 8, SPLITS_SKIP = UINT32_MAX };

struct splits_options {
    uint32_t n;
    /* Which file has tensor i of the model; SPLITS_SKIP: none. NULL: the tensors in turn, as many to each. */
    uint32_t (*file_of)(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n);
    /* lies of the files, added to what is true */
    int32_t number[SPLITS_MAX], count[SPLITS_MAX], tensors[SPLITS_MAX];
    bool no_number, no_tensors; /* the keys are left out */
};

/* PREFIX-0000i-of-0000n.gguf of the model at `from`. */
void splits_write(const char *from, const char *prefix, const struct splits_options *o);
/* The path of file i, from 0; valid for the next few calls. */
const char *splits_path(const char *prefix, uint32_t i, uint32_t n);

/* Embedding and all that has no layer before the layers goes to file 0 with the first layers, the head to the last,
 * layers in as many runs as files. */
uint32_t splits_by_layer(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n);
/* The same, but file 0 has no tensor. */
uint32_t splits_behind_empty(const struct gguf_tensor *t, size_t i, size_t n_tensors, uint32_t n);

#endif
