/* hf: a Hugging Face folder as a model.
 *
 * config.json becomes the metadata that a GGUF of the family has, and every
 * tensor a tensor of the rules' name, type and shape: a header in memory, which
 * is then read and checked as that of any file.  Nothing behind it knows the
 * difference, but that rows have to be asked for: the folder keeps them in other
 * orders, in a tensor for every expert, turned round, or several in one.
 *
 * The parts: hf_folder (the files), hf_config (numbers), hf_rope, hf_families
 * (rows: one a model_type), hf_names (rows: one a tensor), hf_tensors (where
 * rows lie), hf_read, hf_packed (what is quantised).  Not for other folders: shard/arch/model.c opens it.
 *
 * Immutable after open: any thread may read.                                 */
#ifndef SHARD_ARCH_HF_H
#define SHARD_ARCH_HF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"

struct hf;

/* *g is the header, of which every tensor is one of *out: the same number names it. Caller closes both. */
MUST_USE int hf_open(struct hf **out, struct gguf **g, const char *folder, struct error *e);
void hf_close(struct hf **hf_p);

/* Rows [row, row + n) of a slice of a tensor, as its type in the header stores them. */
MUST_USE int hf_read(const struct hf *h, size_t tensor, uint64_t slice, uint64_t row, uint64_t n, void *out,
                     struct error *e);
/* *out: the columns to which the places of every slice's rows belong [slices][columns], NULL where places are columns.
 * The caller frees. */
MUST_USE int hf_order(const struct hf *h, size_t tensor, uint32_t **out, struct error *e);
/* The pages that hold a slice of a tensor need not stay in memory. */
void hf_release(const struct hf *h, size_t tensor, uint64_t slice);

/* The stretches of the folder's files (gguf_files() of the header) that hold a tensor's bytes. */
void hf_stretches(const struct hf *h, size_t tensor, void (*give)(void *arg, const struct file_stretch *s), void *arg);

#endif
