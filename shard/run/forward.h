/* forward: the forward pass of a layer range over buffers of its device. Not for other folders.
 *
 * forward_run() takes a batch through the range; the rows that are wanted of a
 * range with a head are kept, normalised, and forward_logits() takes them
 * through the head, at most LOGITS_ROWS_MAX at a time: a whole vocabulary
 * for every row of a large batch would be more memory than the model's.      */
#ifndef SHARD_RUN_FORWARD_H
#define SHARD_RUN_FORWARD_H

#include <stdint.h>

#include "base/error.h"
#include "kernels/backend.h"
#include "shard/arch/arch.h"
#include "shard/run/lora.h"
#include "shard/run/shard.h"
#include "shard/run/weights.h"

struct forward {
    struct device *device;
    const struct hparams *h;
    const struct weights *weights; /* borrowed */
    const struct loras *loras;     /* borrowed */
    struct kv_layer *layers;       /* [weights->n_layers] */
    struct kv_layer *index_layers; /* the same: the keys of those with an indexer */
    uint32_t *state_of;            /* [weights->n_layers]: the layer's place among those with a state */
    struct devmem *state_mem;      /* of those, one after the other */
    struct devmem *kv_mem, *mem;
    size_t kv_bytes, bytes; /* kv_bytes: with the states */
    size_t kv_mem_bytes;
    bool embedding, head;
    uint32_t sequences_max;
    uint32_t rows_max, logits_max; /* rows a batch; rows a call of forward_logits */
    /* in mem, [rows_max, ...] */
    struct span x;      /* n_embd: the rows as they go through the layers */
    struct span kept;   /* n_embd: the wanted ones of them */
    struct span normed; /* n_embd */
    struct span q, k, v, mixed; /* heads; mixed: what attention gives */
    struct span q_gated, head_gates;        /* 2 heads, heads */
    struct span channels, convolved;        /* of layers with a state: channels of a row */
    struct span delta_gates, state_gates;   /* inner; 2 v_heads, or v_heads and as many as keys */
    struct span delta_low;                  /* 2 v_dim */
    struct span q_low;          /* q_rank */
    struct span index_q, index_k, index_weights; /* heads, one head, a number a head */
    struct span chosen;         /* index.top: positions, of the last layer that has an indexer */
    struct span absorbed, latent; /* [MLA_ROWS_MAX]: q, and what attention gives, of compressed keys and values */
    struct span gate, up;       /* of the widest feed-forward that is no routed expert */
    struct span gates;          /* 1: what a shared expert counts */
    struct span branch;         /* n_embd, where what is added to x is changed first */
    struct span logits;         /* [logits_max, n_vocab] */
    float *inv_freq, *inv_freq_local;
    float *tempers; /* [rows_max]: what q of each row is multiplied by */
    float rope_scale;
    bool timing;
    struct shard_times times;
};

struct forward_batch {
    const int32_t *tokens;             /* [n], where the range has the embedding */
    const float *in;                   /* [n, n_embd] host rows, where not */
    const struct attention_row *rows;  /* [n] */
    const uint32_t *positions;         /* [n] */
    const struct delta_run *runs;      /* [n_runs], where the model has states */
    uint32_t n_runs;
    const struct lora_rows *lora, *lora_wanted; /* adapters of the rows, and of those that are wanted */
    const uint32_t *wanted;            /* [n_wanted] rows that go to the head, ascending */
    uint32_t n, n_wanted;
};

/* Takes KV and buffers on the device and reserves its scratch. ERR_MEMORY. */
MUST_USE int forward_open(struct forward *f, struct device *d, const struct model *m, const struct weights *w,
                          const struct loras *l, const struct shard_options *o, struct error *e);
void forward_close(struct forward *f); /* also after an open that failed */
void forward_rest(struct forward *f);  /* nothing that was kept of any sequence is needed again */
void forward_run(struct forward *f, const struct forward_batch *b);
/* Logits of wanted rows [first, first + n) of the last run into f->logits; n <= logits_max. */
void forward_logits(struct forward *f, uint32_t first, uint32_t n);

/* KV pages that hold so many positions. */
uint32_t forward_pages(uint32_t kv_tokens);

#endif
