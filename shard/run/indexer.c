/* indexer: the choice of the positions that attention reads (DeepSeek's sparse attention): per layer
 *
 *     q = Wq c, c the compressed q;   k = layernorm(Wk a);   w = Ww a;   rope of the front of k and of every head of q
 *
 * k is kept beside the compressed keys, and the best positions are listed.  Published code turns q and k by one and the
 * same Hadamard matrix before it makes 8-bit numbers of them; nothing is rounded here, and without it that changes no
 * score.                                                                      */
#include <math.h>

#include "shard/run/layer.h"

static const float KEY_NORM_EPS = 1e-6F; /* no file says it */

static void project(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    uint32_t n = b->n;
    const struct backend *ops = f->device->backend;
    struct weight *const *w = f->weights->layers[layer].at;
    uint32_t dim = f->h->index.dim;
    struct matmul_args in = {.n_weights = 2, .w = {w[ROLE_INDEX_K], w[ROLE_INDEX_WEIGHTS]},
                             .y = {f->index_k, f->index_weights}, .x = f->normed, .n_rows = n};
    struct matmul_args q = {.n_weights = 1, .w = {w[ROLE_INDEX_Q]}, .y = {f->index_q}, .x = f->q_low, .n_rows = n};
    struct norm_args norm = {.weight = w[ROLE_INDEX_K_NORM], .bias = w[ROLE_INDEX_K_NORM_BIAS], .x = f->index_k,
                             .y = f->index_k, .n_rows = n, .width = dim, .group = dim, .centred = true,
                             .eps = KEY_NORM_EPS};
    ops->matmul(f->device, &in);
    ops->matmul(f->device, &q);
    forward_lora(f, layer, ROLE_INDEX_K, b->lora, f->normed, f->index_k);
    forward_lora(f, layer, ROLE_INDEX_WEIGHTS, b->lora, f->normed, f->index_weights);
    forward_lora(f, layer, ROLE_INDEX_Q, b->lora, f->q_low, f->index_q);
    ops->norm(f->device, &norm);
}

static void turn(struct forward *f, struct span x, const struct forward_batch *b, uint32_t n_heads)
{
    struct rope_args a = {.pairing = f->h->arch->index == INDEX_HALVES ? ROPE_HALVES : ROPE_PAIRS,
                          .inv_freq = f->inv_freq, .scale = f->rope_scale, .n_rot = f->h->n_rot,
                          .head_dim = f->h->index.dim, .n_heads = n_heads, .x = x, .positions = b->positions,
                          .n_rows = b->n};
    f->device->backend->rope(f->device, &a);
}

void indexer_choose(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    const struct index_shape *shape = &f->h->index;
    struct index_args a = {.kv = f->index_layers[layer], .q = f->index_q, .k = f->index_k,
                           .weights = f->index_weights, .chosen = f->chosen, .rows = b->rows, .n_rows = b->n,
                           .n_heads = shape->heads, .n_chosen = shape->top,
                           .scale = 1 / sqrtf((float)shape->heads * (float)shape->dim)};
    uint64_t t = forward_start(f);
    project(f, layer, b);
    forward_lap(f, &f->times.matmul_ns, &t);
    turn(f, f->index_q, b, shape->heads);
    turn(f, f->index_k, b, 1);
    forward_lap(f, &f->times.rope_ns, &t);
    f->device->backend->index(f->device, &a);
    forward_lap(f, &f->times.attention_ns, &t);
}
