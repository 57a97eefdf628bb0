/* adapter: a low-rank addition to some matrices of a model (LoRA), read from a file and fitted to that model.
 *
 * Where the model multiplies with W, an adapter stands for W + scale * B A, with
 * thin A [rank, cols] and B [rows, rank]; the product is never made.  Files are
 * GGUF adapters as llama.cpp writes them (tensors NAME.lora_a and NAME.lora_b),
 * and those of PEFT: a folder with adapter_config.json and
 * adapter_model.safetensors, or the latter's path.
 * adapter_open() maps the file, finds the model's tensor for each pair and checks
 * their shapes: an adapter that was made for another model, or that holds what
 * is no such addition, is refused with one sentence.  Tensor bytes are not
 * touched before adapter_read().
 *
 * A pair belongs to one matrix of one layer, so that a shard reads the pairs of
 * its own layers.  Of a stack of matrices every slice has an A and a B, or all
 * share one of the two.  Routers, the embedding and the output head cannot have
 * pairs.
 *
 * Borrows the model's hyper-parameters.  Immutable after open: any thread may
 * read.                                                                       */
#ifndef SHARD_ARCH_ADAPTER_H
#define SHARD_ARCH_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file_set.h"
#include "shard/arch/arch.h"

enum adapter_limits {
    ADAPTERS_MAX = 64,       /* that a model is served with */
    ADAPTER_NAME_MAX = 95,
    ADAPTER_SCALE_MAX = 1000,
};

/* What a user writes: [NAME=]PATH[:SCALE]. Without a name the path's last part is it, without ".gguf"; of a file
 * "adapter_model.safetensors" the folder's. */
struct adapter_spec {
    char name[ADAPTER_NAME_MAX + 1]; /* letters, digits and ".-_" */
    char *path;
    float scale; /* 1 where none is given */
};

/* ERR_INVALID: a name that cannot be, or no path. */
MUST_USE int adapter_spec_parse(struct adapter_spec *out, const char *text, struct error *e);
void adapter_spec_free(struct adapter_spec *s);
/* Several, whose names must differ, into an array of n. ERR_LIMIT: more than ADAPTERS_MAX. Caller frees with
 * adapter_specs_free(). */
MUST_USE int adapter_specs_parse(struct adapter_spec **out, const char *const *texts, size_t n, struct error *e);
void adapter_specs_free(struct adapter_spec **specs, size_t n);

struct adapter_pair {
    enum role role;
    int32_t layer;
    uint32_t rank;
    uint32_t cols, rows;         /* of the matrix, or of one of the stack */
    uint32_t slices;             /* of the stack */
    uint32_t a_slices, b_slices; /* `slices`, or 1: one for all */
};

struct adapter;

MUST_USE int adapter_open(struct adapter **out, const char *path, const struct model *m, struct error *e);
void adapter_close(struct adapter **a);
const char *adapter_path(const struct adapter *a);

size_t adapter_pair_count(const struct adapter *a);
const struct adapter_pair *adapter_pair_at(const struct adapter *a, size_t i);
/* NULL when the matrix has no pair. */
const struct adapter_pair *adapter_pair_find(const struct adapter *a, enum role role, uint32_t layer);
/* The pair's values: A [a_slices, rank, cols] as it is, B [b_slices, rows, rank] times `scale` and the file's own. */
void adapter_read(const struct adapter *a, const struct adapter_pair *p, float scale, float *a_values,
                  float *b_values);

/* The largest of its pairs. */
uint32_t adapter_rank(const struct adapter *a);
uint32_t adapter_cols(const struct adapter *a);
/* Bytes of the pairs of a range as floats: what a shard holds of the adapter. */
uint64_t adapter_range_bytes(const struct adapter *a, const struct layer_range *r);
/* Bytes of working space that the adapters' products take in a shard, beside the model's. */
uint64_t adapters_scratch_bytes(const struct adapter *const *adapters, size_t n, const struct model *m,
                                uint32_t batch_rows_max);

/* Its files, as they travel: model_path_in() names what adapter_open() takes of a folder with them. */
const struct file_set *adapter_files(const struct adapter *a);
/* Where the pairs of a range lie in them, one A or B after the other. Caller frees. */
struct file_stretch *adapter_range_stretches(const struct adapter *a, const struct layer_range *r, size_t *n);

#endif
