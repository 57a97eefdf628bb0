/* sizes: what a range of layers weighs, and what of it one token reads. All sums over the rules' tensors. */
#include "shard/arch/arch.h"

bool model_in_range(const struct model *m, const struct model_tensor *t, const struct layer_range *r)
{
    switch (t->rule->role) {
    case ROLE_EMBEDDING:
        return r->embedding || (r->head && model_output(m) == t);
    case ROLE_OUTPUT:
    case ROLE_OUTPUT_BIAS:
    case ROLE_OUTPUT_NORM:
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
            bytes += model_tensor_at(m, i)->info->bytes;
    return bytes;
}

uint64_t model_layer_bytes(const struct model *m, uint32_t layer)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++)
        if (model_tensor_at(m, i)->layer == (int32_t)layer)
            bytes += model_tensor_at(m, i)->info->bytes;
    return bytes;
}

uint64_t model_kv_bytes_per_token(const struct model *m, uint32_t layers, uint32_t kv_bytes)
{
    const struct hparams *h = model_hparams(m);
    return (uint64_t)layers * h->n_kv_heads * (h->head_dim + h->value_dim) * kv_bytes;
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
    return t->info->ne[0] * t->info->ne[1] * t->info->ne[2];
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
            bytes += t->info->bytes / model_hparams(m)->n_vocab;
        else
            bytes += active_part(m, t, t->info->bytes);
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
