/* weights: the tensors of a layer range as weights of a device. Not for other folders. */
#ifndef SHARD_RUN_WEIGHTS_H
#define SHARD_RUN_WEIGHTS_H

#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "shard/arch/arch.h"

struct layer_weights {
    struct weight *at[ROLE_LAYER_COUNT]; /* by role; NULL: the model has none */
};

struct weights {
    struct device *device;
    struct layer_weights *layers; /* [n_layers] of the range */
    uint32_t first, n_layers;
    struct weight *embedding;   /* NULL when the range has neither it nor a head tied to it */
    struct weight *output_norm; /* NULL when the range has no head */
    struct weight *output_norm_bias; /* NULL when there is none */
    struct weight *output_bias; /* NULL when there is none */
    struct weight *output;      /* the head, a handle of its own or the embedding's */
    uint64_t bytes;
};

struct weights_progress {
    int (*call)(void *arg, uint64_t bytes_done, uint64_t bytes_total); /* may be NULL; non-zero cancels */
    void *arg;
};

/* Copies the range's tensors, and no others, to the device. */
MUST_USE int weights_load(struct weights *w, struct device *d, const struct model *m, const struct layer_range *range,
                          const struct weights_progress *progress, struct error *e);
void weights_free(struct weights *w); /* also after a load that failed */

#endif
