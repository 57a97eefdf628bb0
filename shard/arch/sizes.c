/* sizes: what a range of layers weighs, and what of it one token reads. All sums over the rules' tensors. */
#include <string.h>

#include "kernels/limits.h"
#include "shard/arch/arch.h"

/* What a thread of the CPU backend holds beside its part of attention: a tile of outputs; and the threads that are
 * planned for where nobody knows how many there will be. */
enum { THREAD_SCRATCH_BYTES = 64 << 10, THREADS_PLANNED = 64 };

bool model_may_begin(const struct model *m, uint32_t layer)
{
    const struct hparams *h = model_hparams(m);
    return h->index.top == 0 || h->layers[layer].indexed;
}

bool model_in_range(const struct model *m, const struct model_tensor *t, const struct layer_range *r)
{
    switch (t->rule->role) {
    case ROLE_EMBEDDING:
        return r->embedding || (r->head && model_output(m) == t);
    case ROLE_OUTPUT:
    case ROLE_OUTPUT_BIAS:
    case ROLE_OUTPUT_NORM:
    case ROLE_OUTPUT_NORM_BIAS:
        return r->head;
    default:
        return t->layer < 0 || ((uint32_t)t->layer >= r->first && (uint32_t)t->layer < r->last);
    }
}

uint64_t model_range_bytes(const struct model *m, const struct layer_range *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_in_range(m, model_tensor_at(m, i), r))
            bytes += model_tensor_at(m, i)->bytes;
    return bytes;
}

uint64_t model_layer_bytes(const struct model *m, uint32_t layer)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_tensor_at(m, i)->layer == (int32_t)layer)
            bytes += model_tensor_at(m, i)->bytes;
    return bytes;
}

static uint32_t indexed_layers(const struct hparams *h, uint32_t first, uint32_t last)
{
    uint32_t n = 0;
    for (uint32_t i = first; i < last; i++)
        n += h->layers[i].indexed;
    return n;
}

/* Of a position, in one layer. */
static uint64_t cache_bytes(const struct hparams *h, enum kv_type t)
{
    return h->cache_heads * (uint64_t)(kv_row_bytes(t, h->cache_key_dim) + kv_row_bytes(t, h->cache_value_dim));
}

static const char *const kv_names[KV_TYPES] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8] = "q8_0"};

int model_kv_type(const struct model *m, const char *name, enum kv_type *out, struct error *e)
{
    if (strcmp(name, "auto") == 0) {
        *out = model_is_f32(m) ? KV_F32 : KV_F16;
        return 0;
    }
    for (int t = 0; t < KV_TYPES; t++) {
        if (strcmp(name, kv_names[t]) == 0) {
            *out = (enum kv_type)t;
            return 0;
        }
    }
    return error_set(e, ERR_CONFIG, "the KV cache is of auto, f32, f16 or q8_0, not '%.40s'", name);
}

const char *kv_type_name(enum kv_type t)
{
    return t < KV_TYPES ? kv_names[t] : "?";
}

uint64_t model_kv_bytes_per_token(const struct model *m, uint32_t layers, enum kv_type type)
{
    const struct hparams *h = model_hparams(m);
    uint32_t most = h->n_layers - model_state_layers(m, 0, h->n_layers), indexed = indexed_layers(h, 0, h->n_layers);
    layers = layers < most ? layers : most;
    indexed = layers < indexed ? layers : indexed;
    return layers * cache_bytes(h, type) + (uint64_t)indexed * kv_row_bytes(type, h->index.dim);
}

uint64_t model_range_kv_bytes(const struct model *m, uint32_t first, uint32_t last, enum kv_type type)
{
    const struct hparams *h = model_hparams(m);
    uint64_t layers = last - first - model_state_layers(m, first, last);
    return layers * cache_bytes(h, type) + (uint64_t)indexed_layers(h, first, last) * kv_row_bytes(type, h->index.dim);
}

uint32_t model_state_layers(const struct model *m, uint32_t first, uint32_t last)
{
    uint32_t n = 0;
    for (uint32_t i = first; i < last; i++)
        n += model_hparams(m)->layers[i].delta;
    return n;
}

uint64_t model_state_bytes(const struct model *m)
{
    const struct delta_shape *d = &model_hparams(m)->delta;
    return d->interval > 0 ? 2 * sizeof(float) * (uint64_t)d->state_values : 0;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t at_least(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Bytes of n values in every form that activations are quantised to: 40 of 32 values and 292 of 256. */
static uint64_t quantised_bytes(uint64_t n)
{
    return n / 32 * 40 + n / 256 * 292;
}

/* Gate and up of the widest feed-forward of all layers that is no routed expert's: those buffers serve every layer. */
static uint64_t widest_ffn(const struct hparams *h)
{
    uint64_t widest = 0;
    for (uint32_t i = 0; i < h->n_layers; i++)
        widest = at_least(widest, h->layers[i].experts ? h->n_shared_ffn : h->n_ffn);
    return widest;
}

static bool has_experts(const struct hparams *h)
{
    bool any = false;
    for (uint32_t i = 0; i < h->n_layers; i++)
        any = any || h->layers[i].experts;
    return any;
}

/* Values of one row that the forward pass holds at once: the stream, its norm, what goes to the head or out of the
 * stage, and a branch that is changed before it is added; q, k, v and the heads' output; gate and up. */
static uint64_t row_values(const struct hparams *h, const struct layer_range *r)
{
    uint64_t heads = (uint64_t)h->n_heads * (at_least(h->head_dim, h->value_dim) + h->value_dim) +
                     (uint64_t)h->cache_heads * (h->cache_key_dim + h->cache_value_dim) + h->q_rank;
    if (h->arch->delta_by_channel) /* what is convolved, before and after; gates of heads and of channels */
        heads += 2 * (uint64_t)h->delta.channels + 4 * (uint64_t)h->delta.inner + 2 * (uint64_t)h->delta.v_dim +
                 h->delta.v_heads;
    else if (h->delta.interval > 0) /* gated q, the gates; what is convolved, before and after; two gates a head */
        heads += 3 * (uint64_t)h->n_heads * h->head_dim + 2 * (uint64_t)h->delta.channels +
                 3 * (uint64_t)h->delta.inner + 2 * (uint64_t)h->delta.v_heads;
    if (h->index.top > 0)
        heads += ((uint64_t)h->index.heads + 1) * h->index.dim + h->index.heads + h->index.top;
    uint64_t layers = r->first < r->last ? heads + 2 * widest_ffn(h) + 1 : 0;
    bool branch = (h->arch->flags & ARCH_POST_NORMS) != 0 || h->residual_scale != 1;
    return (branch ? 4 : 3) * (uint64_t)h->n_embd + layers;
}

/* What the expert layer works in: rows gathered by expert in every form, and what the experts make of them. */
static uint64_t expert_bytes(const struct hparams *h, uint64_t rows)
{
    uint64_t entries = rows * h->n_experts_used;
    uint64_t entry = quantised_bytes(h->n_embd) + (2 * (uint64_t)h->n_embd + 2 * (uint64_t)h->n_expert_ffn) * 4 + 20;
    return entries * entry + (2 * rows + 2) * h->n_experts * 4;
}

uint64_t model_scratch_bytes(const struct model *m, const struct layer_range *r, uint32_t batch_rows_max,
                             uint32_t threads)
{
    const struct hparams *h = model_hparams(m);
    uint64_t rows = batch_rows_max, widest = at_least(h->n_embd, (uint64_t)h->n_heads * h->value_dim), prepared = rows;
    uint64_t bytes = rows * row_values(h, r) * 4 + (rows + 1) * h->n_rot * 4 + rows * 64;
    widest = at_least(at_least(widest, widest_ffn(h)), at_least(h->q_rank, h->delta.inner));
    if (h->kv_rank > 0) /* q and the heads' output as compressed keys and values know them */
        bytes += at_most(rows, MLA_ROWS_MAX) * h->n_heads * (2 * (uint64_t)h->kv_rank + h->n_rot) * 4;
    if (h->index.top > 0) /* a score a position */
        bytes += at_most(rows, INDEX_ROWS_MAX) * (h->context + KV_PAGE_TOKENS) * 4;
    if (r->first < r->last && has_experts(h)) {
        uint64_t expert_rows = at_most(rows, MOE_ROWS_MAX);
        prepared = at_least(rows, expert_rows * h->n_experts_used);
        widest = at_least(widest, h->n_expert_ffn);
        bytes += expert_bytes(h, expert_rows);
    }
    if (r->head)
        bytes += at_most(rows, LOGITS_ROWS_MAX) * h->n_vocab * 4;
    uint64_t out_dim = h->cache_value_dim ? h->cache_value_dim : h->cache_key_dim;
    uint64_t thread = THREAD_SCRATCH_BYTES + attention_floats(h->cache_key_dim, out_dim) * sizeof(float);
    return bytes + prepared * quantised_bytes(widest) + (threads ? threads : THREADS_PLANNED) * thread;
}

/* Of a tensor's whole, what one token uses. */
static uint64_t active_part(const struct model *m, const struct model_tensor *t, uint64_t whole)
{
    const struct hparams *h = model_hparams(m);
    if (t->rule->slices == EXTENT_EXPERTS)
        return whole / h->n_experts * h->n_experts_used;
    if (t->rule->role == ROLE_EMBEDDING && model_output(m) != t)
        return whole / h->n_vocab;
    return whole;
}

static uint64_t values_of(const struct model_tensor *t)
{
    const struct qtype *type = t->info->type;
    return t->bytes / type->block_bytes * type->block_len;
}

uint64_t model_params_total(const struct model *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        n += values_of(model_tensor_at(m, i));
    return n;
}

uint64_t model_params_active(const struct model *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        n += active_part(m, model_tensor_at(m, i), values_of(model_tensor_at(m, i)));
    return n;
}

uint64_t model_range_bytes_per_token(const struct model *m, const struct layer_range *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        if (!model_in_range(m, t, r))
            continue;
        if (t->rule->role == ROLE_EMBEDDING && !r->head)
            bytes += t->bytes / model_hparams(m)->n_vocab;
        else
            bytes += active_part(m, t, t->bytes);
    }
    return bytes;
}

bool model_is_f32(const struct model *m)
{
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_tensor_at(m, i)->info->type->id != QTYPE_F32)
            return false;
    return true;
}
