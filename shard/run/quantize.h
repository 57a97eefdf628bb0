/* quantize: a GGUF file, or the splits of one, or a Hugging Face folder rewritten as a GGUF file of another type,
 * tensor by tensor.
 *
 * The matrices change, as llama-quantize chooses their types for a mix; norms,
 * biases, routers and other small tensors stay as they are, and so do matrices
 * that are stored in as few bits already.  Memory: a few megabytes a thread,
 * whatever the model's size.
 *
 * The output appears under its name when it is complete.  Until then it lies
 * beside it in NAME.shoal-part, and NAME.shoal-journal says how far it came:
 * when writing is interrupted, or the disk is full, or the machine goes down,
 * both stay, and the same call goes on from there.  They count for the same
 * input (sizes and times of change), type and version only; otherwise writing
 * begins anew.                                                              */
#ifndef SHARD_RUN_QUANTIZE_H
#define SHARD_RUN_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"

struct quantize_options {
    const char *type;  /* a name of mix_list() (shard/arch/mix.h), any case */
    int threads;       /* 0: one a CPU; the output does not depend on it */
    uint64_t sync_bytes; /* of output between two places that an interrupted run goes on from; 0: 16 MB */
    /* Of the input; the first call says what was done before. May be NULL. */
    void (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total);
    /* Of a folder: adds the keys that are not of the model but of its tokenizer. May be NULL. */
    int (*add_keys)(void *arg, struct gguf_writer *w, const char *folder, uint32_t n_vocab, struct error *e);
    bool (*stop)(void *arg); /* asked now and then; true ends with ERR_CANCELLED; may be NULL */
    void (*note)(void *arg, const char *sentence); /* what the user should know; may be NULL */
    void *arg;               /* of all */
};

/* ERR_INVALID: no such type; values that are not numbers, or too large for the type; the output is the input;
 * nothing would change. ERR_IO: no room, among others. ERR_CONFLICT: another process writes the same output. */
MUST_USE int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *e);

#endif
