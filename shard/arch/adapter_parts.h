/* adapter_parts: what the readers of the kinds of adapter files give to adapter.c. Not for others. */
#ifndef SHARD_ARCH_ADAPTER_PARTS_H
#define SHARD_ARCH_ADAPTER_PARTS_H

#include <stdbool.h>

#include "shard/arch/adapter.h"

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
    uint32_t halves; /* B's rows are heads, so many, whose two halves lie one after the other and alternate in the
                      * model; 0: they lie as in the model */
};

/* ERR_CORRUPT, ERR_UNSUPPORTED or ERR_INVALID, with a sentence that names the file and the tensor. */
MUST_USE int adapter_add(struct adapter *a, const struct thin_pair *p, struct error *e);
const struct hparams *adapter_hparams(const struct adapter *a);

/* adapter_gguf.c: every pair of a GGUF adapter. *file is the adapter's to close. */
MUST_USE int adapter_gguf_read(struct adapter *a, struct gguf *file, struct error *e);

#endif
