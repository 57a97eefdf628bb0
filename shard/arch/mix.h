/* mix: which type each tensor of a file takes in a mix of types. Not for other folders than shard.
 *
 * The rules of llama-quantize: the output matrix better than the rest, and in
 * some mixes the value and down projections of some layers; what is small and
 * matters much stays as it is.                                              */
#ifndef SHARD_ARCH_MIX_H
#define SHARD_ARCH_MIX_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/qtype.h"

struct mix {
    const char *name;
    uint32_t file_type;       /* general.file_type */
    enum qtype_id base, head; /* head: the output matrix, or the embedding that serves as one */
    bool some_better;         /* the value and down projections of some layers, and others, in more bits */
    bool experts_only;        /* where there are experts, the base type is theirs alone; the rest is as the head */
};

/* What the rules ask of a model. */
struct mix_model {
    uint64_t n_layers, n_experts;
    bool tied; /* the embedding is the output matrix too */
};

/* "F16, BF16, ...", for messages and help. */
const char *mix_list(void);
/* Any case; NULL when there is none. */
const struct mix *mix_find(const char *name);
/* What the mix makes of a tensor of that name, type and dimensions (four, missing ones 1): its own type where it
 * stays. */
const struct qtype *mix_type(const struct mix *m, const struct mix_model *about, const char *name,
                             const struct qtype *from, const uint64_t *ne);

#endif
