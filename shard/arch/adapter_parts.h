/* adapter_parts: what the readers of the kinds of adapter files give to adapter.c. Not for others. */
#ifndef SHARD_ARCH_ADAPTER_PARTS_H
#define SHARD_ARCH_ADAPTER_PARTS_H

#include <stdbool.h>

#include "shard/arch/adapter.h"
#include "shard/arch/hf_parts.h"

/* One stored matrix, or a stack of them: rows of ne[0] values, ne[1] a slice, ne[2] slices, one after the other. */
struct thin {
    const char *name; /* in the file */
    const struct qtype *type;
    uint64_t ne[3];
    const uint8_t *bytes;
    struct file_stretch at; /* in the adapter's files */
};

/* The A and B of a tensor of the model. */
struct thin_pair {
    char target[GGUF_NAME_MAX + 1]; /* "blk.3.attn_q.weight" */
    struct thin a, b;
    float scale;     /* of B */
    int32_t slice;   /* of a stack, which is given slice by slice; -1: the whole */
    const struct hf_tensor *lay; /* how the product of the two lies in the file; NULL: as in the model. Copied */
};

/* ERR_CORRUPT, ERR_UNSUPPORTED or ERR_INVALID, with a sentence that names the file and the tensor. */
MUST_USE int adapter_add(struct adapter *a, const struct thin_pair *p, struct error *e);
const struct hparams *adapter_hparams(const struct adapter *a);

/* adapter_gguf.c: every pair of a GGUF adapter. *file is the adapter's to close. */
MUST_USE int adapter_gguf_read(struct adapter *a, struct gguf *file, struct error *e);
/* adapter_peft.c.  place: false for what is no folder and no safetensors file; caller frees both paths. */
bool adapter_peft_place(const char *path, char **folder, char **weights);
MUST_USE int adapter_peft_files(struct file_set **out, const char *folder, const struct safetensors *tensors,
                                struct error *e);
MUST_USE int adapter_peft_read(struct adapter *a, const char *folder, const struct safetensors *tensors,
                               struct error *e);

#endif
