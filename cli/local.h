/* local: a whole model in this process: what run, bench and logits compute with.
 *
 * Opens the file, the device, a shard of all layers and (where the file has
 * one) the tokenizer.  One thread owns a local.                              */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/adapters.h"
#include "kernels/backend.h"
#include "shard/arch/arch.h"
#include "shard/run/shard.h"
#include "text/tokenizer.h"

enum { LOCAL_CONTEXT_DEFAULT = 8192 };

struct local_options {
    const char *path;
    struct device_options device;
    const char *backend;
    const char *kv_type;     /* as model_kv_type() takes it */
    uint32_t context;        /* positions a sequence; 0: the model's, at most LOCAL_CONTEXT_DEFAULT */
    uint32_t sequences_max;
    uint32_t batch_rows_max;
    bool progress;
    const struct settings *settings; /* what adapter there is; NULL: none */
};

struct local {
    struct device *device;
    struct model *model;
    struct shard *shard;
    struct tokenizer *tokenizer;
    struct adapter *lora; /* of every row; NULL: none */
    uint32_t context, batch_rows_max;
    uint32_t sampled; /* row of the last step that local_logits() reads */
};

MUST_USE int local_open(struct local *l, const struct local_options *o, struct error *e);
void local_close(struct local *l);

/* Runs tokens[n] of `sequence` from `position` on, in as few steps as the batch allows. With `sample` the logits of
 * the last row are in local_logits() afterwards. ERR_CANCELLED when stop(arg) says so between steps; stop may be
 * NULL. */
MUST_USE int local_feed(struct local *l, uint64_t sequence, const int32_t *tokens, uint32_t n, uint32_t position,
                        bool sample, bool (*stop)(void), struct error *e);
const float *local_logits(struct local *l); /* [n_vocab], of the row that local_feed() sampled; until the next */

#endif
