/* synth_parts: what the parts of synth share. Not for others. */
#ifndef SHARD_ARCH_SYNTH_PARTS_H
#define SHARD_ARCH_SYNTH_PARTS_H

#include "base/random.h"
#include "shard/arch/arch.h"
#include "shard/arch/mix.h"
#include "shard/arch/synth.h"

enum {
    POOLS_MAX = 8,        /* types that one file mixes: base, head, better ones, and the two that always fit */
};

/* One tensor of the file to be. */
struct planned {
    const struct tensor_rule *rule; /* of several in one: the first's */
    const struct qtype *type;
    uint64_t cols, rows; /* rows of all slices */
};

struct synth {
    const struct synth_options *o;
    struct error *e;
    struct hparams h;
    const struct mix *mix; /* NULL: every matrix in `type` */
    const struct qtype *type;
    struct gguf *tokenizer;
    struct gguf_writer *w;
    struct planned *tensors;
    size_t n_tensors;
    uint64_t bytes, bytes_done;
    struct random_state random;
    float *values;               /* POOL_STRETCHES * STRETCH, drawn when the first tensor wants them */
    struct {
        const struct qtype *type;
        uint8_t *bytes;          /* the same, as the type stores them */
    } pools[POOLS_MAX];
    uint8_t *piece;
};

/* The router's scores are sigmoids. */
bool synth_is_sigmoid(const struct synth *s);
void synth_write_keys(struct synth *s);

#endif
