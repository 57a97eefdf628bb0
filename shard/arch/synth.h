/* synth: random-weight models of a family and shape, written as GGUF.
 *
 * For measuring and testing without a download.  A model walks the same rules
 * that the loader checks (arch.h), so whatever synth_write() makes, model_open()
 * takes.  The same options give the same bytes on every machine.  Values are
 * normal with deviation 0.02 (norm weights 1 more, as trained ones are); only
 * small tensors are drawn value by value: the rows of large ones are put
 * together from a pool of random stretches, so that a model of gigabytes takes
 * the time that its bytes take to be written.  Two models that differ in `type`
 * alone hold the same values before quantisation, except in types that the
 * house only reads (Q2_K, Q3_K, IQ..., TQ..., NVFP4): their blocks are drawn.
 *
 * A layer's tensors lie together in the file, layers in order.               */
#ifndef SHARD_ARCH_SYNTH_H
#define SHARD_ARCH_SYNTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Zero or NULL means the default that a comment names. */
struct synth_options {
    const char *family; /* one of arch_at(): "llama", "qwen3moe" ... */
    uint32_t layers, hidden, heads;
    uint32_t kv_heads;   /* heads */
    uint32_t head_dim;   /* hidden / heads */
    uint32_t ffn;        /* of a dense model; with experts: expert_ffn */
    uint32_t experts;    /* 0: dense */
    uint32_t experts_used, expert_ffn;
    uint32_t vocab;      /* the borrowed tokenizer's tokens, else 32000; may be more (unused ones), not fewer */
    uint32_t context;    /* 4096 */
    /* What only some families have; elsewhere it must be 0. */
    uint32_t n_rot;      /* values of a head that RoPE turns: head_dim; with compressed keys, those it has more: half */
    uint32_t value_dim;  /* of compressed attention: head_dim */
    uint32_t q_rank;     /* of compressed attention: hidden / 2 */
    uint32_t lead_dense; /* layers before the first with experts: 0 */
    uint32_t moe_step;   /* every so many layers one has experts: 1 */
    uint32_t window;     /* of layers that see one: 1024 */
    uint32_t groups, groups_used; /* of experts: none */
    bool sigmoid;        /* the router's scores: the family's */
    float experts_scale; /* experts' weights are normalised and multiplied by it: the family's habit */
    float rope_base, norm_eps; /* 1e6, 1e-6 */
    bool tied;           /* the embedding is the output head too */
    bool apart;          /* what the family's files stack in one tensor lies apart, as it may too */
    /* A mix as llama-quantize makes it (mix_list() of shard/arch/mix.h: "Q4_K_M"), or else a type of qtype.h, and
     * every matrix is in it ("q4_k", "iq2_xs"); any case.  "q4_k". Rows that are no multiple of a type's blocks take
     * Q8_0, else F16; in a mix what llama-quantize takes. */
    const char *type;
    uint64_t seed;
    const char *tokenizer; /* path of a GGUF whose "tokenizer." keys are copied; NULL: a model without one */
    void (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_total); /* may be NULL */
    void *progress_arg;
};

/* ERR_INVALID says which option cannot be; ERR_IO leaves no file behind. */
MUST_USE int synth_write(const char *path, const struct synth_options *o, struct error *e);

/* Published models by name: their options but for type, seed and tokenizer, which are the caller's, as is what to
 * change of them. The scaling of their RoPE is left out. */
struct synth_shape {
    const char *name; /* "mixtral-8x7b" */
    struct synth_options options;
};

size_t synth_shape_count(void);
const struct synth_shape *synth_shape_at(size_t i);
const struct synth_shape *synth_shape_find(const char *name); /* NULL when absent */

#endif
