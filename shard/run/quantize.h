/* quantize: a GGUF file rewritten in another type, tensor by tensor.
 *
 * The matrices change, as llama-quantize chooses their types for a mix; norms,
 * biases, routers and other small tensors stay as they are, and so do matrices
 * that are stored in as few bits already.  Memory: a few megabytes a thread,
 * whatever the model's size.  The output appears under its name when it is
 * complete; until then its bytes lie in a temporary file beside it.         */
#ifndef SHARD_RUN_QUANTIZE_H
#define SHARD_RUN_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct quantize_options {
    const char *type;  /* a name of quantize_list(), any case */
    int threads;       /* 0: one a CPU */
    void (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total); /* of the input; may be NULL */
    bool (*stop)(void *arg); /* asked now and then; true ends with ERR_CANCELLED and leaves no file; may be NULL */
    void *arg;               /* of both */
};

/* "F16, BF16, ...", for messages and help. */
const char *quantize_list(void);

/* ERR_INVALID: no such type; values that are not numbers, or too large for the type; the output is the input. */
MUST_USE int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *e);

#endif
