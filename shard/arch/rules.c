/* rules: the tensors that models are made of: rows, and what is asked of a row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/arch/arch.h"

#define VECTOR(text, what, n) .name = text, .role = what, .cols = n
#define MATRIX(text, what, in, out) .name = text, .role = what, .cols = in, .rows = out
#define STACK(text, what, in, out, n) .name = text, .role = what, .cols = in, .rows = out, .slices = n

static const struct tensor_rule rules[] = {
    {MATRIX("token_embd.weight", ROLE_EMBEDDING, EXTENT_EMBD, EXTENT_VOCAB)},
    {VECTOR("output_norm.weight", ROLE_OUTPUT_NORM, EXTENT_EMBD)},
    {VECTOR("output_norm.bias", ROLE_OUTPUT_NORM_BIAS, EXTENT_EMBD), .with = ARCH_NORM_BIAS},
    {MATRIX("output.weight", ROLE_OUTPUT, EXTENT_EMBD, EXTENT_VOCAB), .need = NEED_NEVER},
    {VECTOR("output.bias", ROLE_OUTPUT_BIAS, EXTENT_VOCAB), .need = NEED_NEVER},
    {VECTOR("rope_freqs.weight", ROLE_ROPE_FREQS, EXTENT_ROPE_HALF), .need = NEED_NEVER},
    {VECTOR("rope_factors_long.weight", ROLE_ROPE_LONG, EXTENT_ROPE_HALF), .need = NEED_NEVER},
    {VECTOR("rope_factors_short.weight", ROLE_ROPE_SHORT, EXTENT_ROPE_HALF), .need = NEED_NEVER},
    /* attention */
    {VECTOR("blk.%u.attn_norm.weight", ROLE_ATTN_NORM, EXTENT_EMBD)},
    {VECTOR("blk.%u.attn_norm.bias", ROLE_ATTN_NORM_BIAS, EXTENT_EMBD), .with = ARCH_NORM_BIAS},
    {MATRIX("blk.%u.attn_q.weight", ROLE_ATTN_Q, EXTENT_EMBD, EXTENT_Q), .when = WHEN_Q_WHOLE},
    {MATRIX("blk.%u.attn_k.weight", ROLE_ATTN_K, EXTENT_EMBD, EXTENT_KV_HEADS), .when = WHEN_ATTENTION,
     .without = ARCH_MLA},
    {MATRIX("blk.%u.attn_v.weight", ROLE_ATTN_V, EXTENT_EMBD, EXTENT_V_HEADS), .when = WHEN_ATTENTION,
     .without = ARCH_MLA},
    {MATRIX("blk.%u.attn_q_a.weight", ROLE_Q_DOWN, EXTENT_EMBD, EXTENT_Q_RANK), .when = WHEN_Q_RANK},
    {VECTOR("blk.%u.attn_q_a_norm.weight", ROLE_Q_DOWN_NORM, EXTENT_Q_RANK), .when = WHEN_Q_RANK},
    {MATRIX("blk.%u.attn_q_b.weight", ROLE_Q_UP, EXTENT_Q_RANK, EXTENT_HEADS), .when = WHEN_Q_RANK},
    {MATRIX("blk.%u.attn_kv_a_mqa.weight", ROLE_KV_DOWN, EXTENT_EMBD, EXTENT_KV_DOWN), .when = WHEN_ATTENTION,
     .with = ARCH_MLA},
    {VECTOR("blk.%u.attn_kv_a_norm.weight", ROLE_KV_DOWN_NORM, EXTENT_KV_RANK), .when = WHEN_ATTENTION,
     .with = ARCH_MLA},
    {STACK("blk.%u.attn_k_b.weight", ROLE_K_UP, EXTENT_NOT_ROTATED, EXTENT_KV_RANK, EXTENT_HEAD_COUNT),
     .when = WHEN_ATTENTION, .with = ARCH_MLA},
    {STACK("blk.%u.attn_v_b.weight", ROLE_V_UP, EXTENT_KV_RANK, EXTENT_VALUE_DIM, EXTENT_HEAD_COUNT),
     .when = WHEN_ATTENTION, .with = ARCH_MLA},
    {VECTOR("blk.%u.indexer.k_norm.weight", ROLE_INDEX_K_NORM, EXTENT_INDEX_DIM), .when = WHEN_INDEXED},
    {VECTOR("blk.%u.indexer.k_norm.bias", ROLE_INDEX_K_NORM_BIAS, EXTENT_INDEX_DIM), .when = WHEN_INDEXED},
    {MATRIX("blk.%u.indexer.proj.weight", ROLE_INDEX_WEIGHTS, EXTENT_EMBD, EXTENT_INDEX_HEADS), .when = WHEN_INDEXED},
    {MATRIX("blk.%u.indexer.attn_k.weight", ROLE_INDEX_K, EXTENT_EMBD, EXTENT_INDEX_DIM), .when = WHEN_INDEXED},
    {MATRIX("blk.%u.indexer.attn_q_b.weight", ROLE_INDEX_Q, EXTENT_Q_RANK, EXTENT_INDEX_Q), .when = WHEN_INDEXED},
    {VECTOR("blk.%u.attn_q.bias", ROLE_ATTN_Q_BIAS, EXTENT_HEADS), .when = WHEN_ATTENTION, .with = ARCH_QKV_BIAS,
     .without = ARCH_MLA,
     .need = NEED_FLAGGED},
    {VECTOR("blk.%u.attn_k.bias", ROLE_ATTN_K_BIAS, EXTENT_KV_HEADS), .when = WHEN_ATTENTION, .with = ARCH_QKV_BIAS,
     .without = ARCH_MLA,
     .need = NEED_FLAGGED},
    {VECTOR("blk.%u.attn_v.bias", ROLE_ATTN_V_BIAS, EXTENT_V_HEADS), .when = WHEN_ATTENTION, .with = ARCH_QKV_BIAS,
     .without = ARCH_MLA,
     .need = NEED_FLAGGED},
    {VECTOR("blk.%u.attn_q_norm.weight", ROLE_ATTN_Q_NORM, EXTENT_HEAD_DIM), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM},
    {VECTOR("blk.%u.attn_k_norm.weight", ROLE_ATTN_K_NORM, EXTENT_HEAD_DIM), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM},
    {VECTOR("blk.%u.attn_q_norm.weight", ROLE_ATTN_Q_NORM, EXTENT_HEAD_DIM), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM_MAYBE,
     .need = NEED_NEVER},
    {VECTOR("blk.%u.attn_k_norm.weight", ROLE_ATTN_K_NORM, EXTENT_HEAD_DIM), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM_MAYBE,
     .need = NEED_NEVER},
    {VECTOR("blk.%u.attn_q_norm.weight", ROLE_ATTN_Q_NORM, EXTENT_HEADS), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM_WIDE},
    {VECTOR("blk.%u.attn_k_norm.weight", ROLE_ATTN_K_NORM, EXTENT_KV_HEADS), .when = WHEN_ATTENTION,
     .with = ARCH_QK_NORM_WIDE},
    {MATRIX("blk.%u.attn_qkv.weight", ROLE_DELTA_QKV, EXTENT_EMBD, EXTENT_DELTA_CHANNELS), .when = WHEN_DELTA},
    {MATRIX("blk.%u.attn_gate.weight", ROLE_DELTA_GATE, EXTENT_EMBD, EXTENT_DELTA_INNER), .when = WHEN_DELTA},
    {MATRIX("blk.%u.ssm_conv1d.weight", ROLE_DELTA_CONV, EXTENT_DELTA_KERNEL, EXTENT_DELTA_CHANNELS),
     .when = WHEN_DELTA},
    {VECTOR("blk.%u.ssm_dt.bias", ROLE_DELTA_DT, EXTENT_DELTA_HEADS), .when = WHEN_DELTA},
    {VECTOR("blk.%u.ssm_a", ROLE_DELTA_A, EXTENT_DELTA_HEADS), .when = WHEN_DELTA},
    {MATRIX("blk.%u.ssm_beta.weight", ROLE_DELTA_BETA, EXTENT_EMBD, EXTENT_DELTA_HEADS), .when = WHEN_DELTA,
     .without = ARCH_DELTA_BOTH},
    {MATRIX("blk.%u.ssm_alpha.weight", ROLE_DELTA_ALPHA, EXTENT_EMBD, EXTENT_DELTA_HEADS), .when = WHEN_DELTA,
     .without = ARCH_DELTA_BOTH},
    {MATRIX("blk.%u.ssm_ba.weight", ROLE_DELTA_BOTH, EXTENT_EMBD, EXTENT_DELTA_TWICE), .when = WHEN_DELTA,
     .with = ARCH_DELTA_BOTH},
    {VECTOR("blk.%u.ssm_norm.weight", ROLE_DELTA_NORM, EXTENT_DELTA_VALUE), .when = WHEN_DELTA},
    {MATRIX("blk.%u.ssm_out.weight", ROLE_DELTA_OUT, EXTENT_DELTA_INNER, EXTENT_EMBD), .when = WHEN_DELTA},
    {MATRIX("blk.%u.attn_q.weight", ROLE_ATTN_Q, EXTENT_EMBD, EXTENT_DELTA_KEYS), .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.attn_k.weight", ROLE_ATTN_K, EXTENT_EMBD, EXTENT_DELTA_KEYS), .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.attn_v.weight", ROLE_ATTN_V, EXTENT_EMBD, EXTENT_DELTA_INNER), .when = WHEN_DELTA_BY_CHANNEL},
    {STACK("blk.%u.ssm_conv1d_q.weight", ROLE_DELTA_CONV, EXTENT_DELTA_KERNEL, EXTENT_ONE, EXTENT_DELTA_KEYS),
     .when = WHEN_DELTA_BY_CHANNEL},
    {STACK("blk.%u.ssm_conv1d_k.weight", ROLE_DELTA_CONV_K, EXTENT_DELTA_KERNEL, EXTENT_ONE, EXTENT_DELTA_KEYS),
     .when = WHEN_DELTA_BY_CHANNEL},
    {STACK("blk.%u.ssm_conv1d_v.weight", ROLE_DELTA_CONV_V, EXTENT_DELTA_KERNEL, EXTENT_ONE, EXTENT_DELTA_INNER),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_f_a.weight", ROLE_DELTA_ALPHA_DOWN, EXTENT_EMBD, EXTENT_DELTA_VALUE),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_f_b.weight", ROLE_DELTA_ALPHA, EXTENT_DELTA_VALUE, EXTENT_DELTA_KEYS),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_g_a.weight", ROLE_DELTA_GATE_DOWN, EXTENT_EMBD, EXTENT_DELTA_VALUE),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_g_b.weight", ROLE_DELTA_GATE, EXTENT_DELTA_VALUE, EXTENT_DELTA_INNER),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_beta.weight", ROLE_DELTA_BETA, EXTENT_EMBD, EXTENT_DELTA_HEADS),
     .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.ssm_a", ROLE_DELTA_A, EXTENT_ONE, EXTENT_DELTA_HEADS), .when = WHEN_DELTA_BY_CHANNEL},
    {VECTOR("blk.%u.ssm_dt.bias", ROLE_DELTA_DT, EXTENT_DELTA_KEYS), .when = WHEN_DELTA_BY_CHANNEL},
    {VECTOR("blk.%u.ssm_norm.weight", ROLE_DELTA_NORM, EXTENT_DELTA_VALUE), .when = WHEN_DELTA_BY_CHANNEL},
    {MATRIX("blk.%u.attn_output.weight", ROLE_DELTA_OUT, EXTENT_DELTA_INNER, EXTENT_EMBD),
     .when = WHEN_DELTA_BY_CHANNEL},
    {VECTOR("blk.%u.attn_sinks.weight", ROLE_ATTN_SINKS, EXTENT_HEAD_COUNT), .with = ARCH_SINKS},
    {MATRIX("blk.%u.attn_output.weight", ROLE_ATTN_OUT, EXTENT_OUT_HEADS, EXTENT_EMBD), .when = WHEN_ATTENTION},
    {VECTOR("blk.%u.attn_output.bias", ROLE_ATTN_OUT_BIAS, EXTENT_EMBD), .need = NEED_NEVER},
    {VECTOR("blk.%u.post_attention_norm.weight", ROLE_ATTN_POST_NORM, EXTENT_EMBD), .with = ARCH_POST_NORMS},
    /* feed-forward */
    {VECTOR("blk.%u.ffn_norm.weight", ROLE_FFN_NORM, EXTENT_EMBD), .without = ARCH_ODD_FFN_NORM},
    {VECTOR("blk.%u.post_attention_norm.weight", ROLE_FFN_NORM, EXTENT_EMBD), .with = ARCH_ODD_FFN_NORM},
    {VECTOR("blk.%u.ffn_norm.bias", ROLE_FFN_NORM_BIAS, EXTENT_EMBD), .with = ARCH_NORM_BIAS},
    {MATRIX("blk.%u.ffn_gate.weight", ROLE_FFN_GATE, EXTENT_EMBD, EXTENT_FFN), .when = WHEN_DENSE},
    {MATRIX("blk.%u.ffn_up.weight", ROLE_FFN_UP, EXTENT_EMBD, EXTENT_FFN), .when = WHEN_DENSE},
    {MATRIX("blk.%u.ffn_down.weight", ROLE_FFN_DOWN, EXTENT_FFN, EXTENT_EMBD), .when = WHEN_DENSE},
    {VECTOR("blk.%u.post_ffw_norm.weight", ROLE_FFN_POST_NORM, EXTENT_EMBD), .with = ARCH_POST_NORMS},
    /* experts */
    {MATRIX("blk.%u.ffn_gate_inp.weight", ROLE_ROUTER, EXTENT_EMBD, EXTENT_EXPERTS), .when = WHEN_EXPERTS},
    {VECTOR("blk.%u.ffn_gate_inp.bias", ROLE_ROUTER_BIAS, EXTENT_EXPERTS), .when = WHEN_EXPERTS,
     .with = ARCH_EXPERT_BIAS},
    {MATRIX("blk.%u.ffn_gate_exps.bias", ROLE_GATE_EXPERTS_BIAS, EXTENT_EXPERT_FFN, EXTENT_EXPERTS),
     .when = WHEN_EXPERTS, .with = ARCH_EXPERT_BIAS},
    {MATRIX("blk.%u.ffn_up_exps.bias", ROLE_UP_EXPERTS_BIAS, EXTENT_EXPERT_FFN, EXTENT_EXPERTS),
     .when = WHEN_EXPERTS, .with = ARCH_EXPERT_BIAS},
    {MATRIX("blk.%u.ffn_down_exps.bias", ROLE_DOWN_EXPERTS_BIAS, EXTENT_EMBD, EXTENT_EXPERTS), .when = WHEN_EXPERTS,
     .with = ARCH_EXPERT_BIAS},
    {VECTOR("blk.%u.exp_probs_b.bias", ROLE_SELECT_BIAS, EXTENT_EXPERTS), .when = WHEN_EXPERTS,
     .with = ARCH_SELECT_BIAS, .need = NEED_NEVER},
    {STACK("blk.%u.ffn_gate_exps.weight", ROLE_GATE_EXPERTS, EXTENT_EMBD, EXTENT_EXPERT_FFN, EXTENT_EXPERTS),
     .when = WHEN_EXPERTS},
    {STACK("blk.%u.ffn_up_exps.weight", ROLE_UP_EXPERTS, EXTENT_EMBD, EXTENT_EXPERT_FFN, EXTENT_EXPERTS),
     .when = WHEN_EXPERTS},
    {STACK("blk.%u.ffn_down_exps.weight", ROLE_DOWN_EXPERTS, EXTENT_EXPERT_FFN, EXTENT_EMBD, EXTENT_EXPERTS),
     .when = WHEN_EXPERTS},
    {VECTOR("blk.%u.ffn_gate_inp_shexp.weight", ROLE_SHARED_ROUTER, EXTENT_EMBD), .when = WHEN_SHARED,
     .with = ARCH_SHARED_GATE},
    {MATRIX("blk.%u.ffn_gate_shexp.weight", ROLE_SHARED_GATE, EXTENT_EMBD, EXTENT_SHARED_FFN), .when = WHEN_SHARED},
    {MATRIX("blk.%u.ffn_up_shexp.weight", ROLE_SHARED_UP, EXTENT_EMBD, EXTENT_SHARED_FFN), .when = WHEN_SHARED},
    {MATRIX("blk.%u.ffn_down_shexp.weight", ROLE_SHARED_DOWN, EXTENT_SHARED_FFN, EXTENT_EMBD), .when = WHEN_SHARED},
};

static const struct fused_rule fused[] = {
    {"blk.%u.attn_qkv.weight", {ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V}, 3, 0},
    {"blk.%u.attn_qkv.bias", {ROLE_ATTN_Q_BIAS, ROLE_ATTN_K_BIAS, ROLE_ATTN_V_BIAS}, 3, 0},
    {"blk.%u.ffn_up.weight", {ROLE_FFN_GATE, ROLE_FFN_UP}, 2, ARCH_FUSED_UP},
    {"blk.%u.ffn_gate_up_exps.weight", {ROLE_GATE_EXPERTS, ROLE_UP_EXPERTS}, 2, 0},
};

size_t arch_rule_count(void)
{
    return COUNTOF(rules);
}

const struct tensor_rule *arch_rule_at(size_t i)
{
    return &rules[i];
}

size_t arch_fused_count(void)
{
    return COUNTOF(fused);
}

const struct fused_rule *arch_fused_at(size_t i)
{
    return &fused[i];
}

char *arch_tensor_name(const char *pattern, int32_t layer, char name[static GGUF_NAME_MAX + 1])
{
    const char *mark = strstr(pattern, "%u");
    if (mark)
        snprintf(name, GGUF_NAME_MAX + 1, "%.*s%d%s", (int)(mark - pattern), pattern, layer, mark + 2);
    else
        snprintf(name, GGUF_NAME_MAX + 1, "%s", pattern);
    return name;
}

static bool has_layer(const struct tensor_rule *rule, const struct hparams *h, int32_t layer)
{
    const struct layer_facts *facts = &h->layers[layer < 0 ? 0 : layer];
    switch (rule->when) {
    case WHEN_ALWAYS: return true;
    case WHEN_DENSE: return !facts->experts;
    case WHEN_EXPERTS: return facts->experts;
    case WHEN_SHARED: return facts->experts && h->n_shared_ffn > 0;
    case WHEN_ATTENTION: return !facts->delta;
    case WHEN_DELTA: return facts->delta && !h->arch->delta_by_channel;
    case WHEN_DELTA_BY_CHANNEL: return facts->delta && h->arch->delta_by_channel;
    case WHEN_Q_WHOLE: return h->q_rank == 0 && !facts->delta;
    case WHEN_Q_RANK: return h->q_rank > 0 && !facts->delta;
    case WHEN_INDEXED: return facts->indexed;
    }
    return false;
}

bool arch_rule_applies(const struct tensor_rule *rule, const struct hparams *h, int32_t layer, bool *required)
{
    uint32_t flags = h->arch->flags;
    bool flagged = rule->with == 0 || (flags & rule->with) != 0;
    *required = rule->need == NEED_ALWAYS || (rule->need == NEED_FLAGGED && flagged);
    if ((!flagged && rule->need != NEED_FLAGGED) || (flags & rule->without) != 0)
        return false;
    return has_layer(rule, h, layer);
}

bool arch_gates_heads(const struct arch *a)
{
    return (a->flags & ARCH_DELTA) != 0 && !a->delta_by_channel;
}

bool arch_is_plain(const struct tensor_rule *rule)
{
    return (rule->rows == EXTENT_ONE && rule->slices == EXTENT_ONE) || strstr(rule->name, ".bias") != NULL ||
           rule->role == ROLE_DELTA_CONV || rule->role == ROLE_DELTA_CONV_K || rule->role == ROLE_DELTA_CONV_V ||
           rule->role == ROLE_DELTA_A;
}

bool arch_ignores(const struct hparams *h, const char *tensor_name)
{
    static const char *const names[] = {"cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"};
    for (size_t i = 0; i < COUNTOF(names); i++)
        if (strcmp(names[i], tensor_name) == 0)
            return true;
    if (strncmp(tensor_name, "blk.", 4) != 0)
        return false;
    if ((h->arch->flags & ARCH_DELTA) && strstr(tensor_name, ".ssm_in.weight")) /* attn_qkv and attn_gate, as once */
        return true;
    char *end;
    unsigned long layer = strtoul(tensor_name + 4, &end, 10);
    if (*end != '.' || layer >= (unsigned long)h->n_layers + h->n_extra_layers)
        return false;
    return layer >= h->n_layers || (h->index.top > 0 && !h->layers[layer].indexed && !strncmp(end, ".indexer.", 9));
}

uint64_t arch_extent(const struct hparams *h, enum extent x)
{
    switch (x) {
    case EXTENT_ONE: return 1;
    case EXTENT_EMBD: return h->n_embd;
    case EXTENT_VOCAB: return h->n_vocab;
    case EXTENT_HEADS: return (uint64_t)h->n_heads * h->head_dim;
    case EXTENT_KV_HEADS: return (uint64_t)h->n_kv_heads * h->head_dim;
    case EXTENT_V_HEADS: return (uint64_t)h->n_kv_heads * h->value_dim;
    case EXTENT_OUT_HEADS: return (uint64_t)h->n_heads * h->value_dim;
    case EXTENT_HEAD_DIM: return h->head_dim;
    case EXTENT_VALUE_DIM: return h->value_dim;
    case EXTENT_HEAD_COUNT: return h->n_heads;
    case EXTENT_FFN: return h->n_ffn;
    case EXTENT_EXPERT_FFN: return h->n_expert_ffn;
    case EXTENT_SHARED_FFN: return h->n_shared_ffn;
    case EXTENT_EXPERTS: return h->n_experts;
    case EXTENT_ROPE_HALF: return h->n_rot / 2;
    case EXTENT_Q: return (uint64_t)h->n_heads * h->head_dim * (arch_gates_heads(h->arch) ? 2 : 1);
    case EXTENT_DELTA_CHANNELS: return h->delta.channels;
    case EXTENT_DELTA_KEYS: return (uint64_t)h->delta.k_heads * h->delta.k_dim;
    case EXTENT_DELTA_INNER: return h->delta.inner;
    case EXTENT_DELTA_HEADS: return h->delta.v_heads;
    case EXTENT_DELTA_TWICE: return 2 * (uint64_t)h->delta.v_heads;
    case EXTENT_DELTA_KERNEL: return h->delta.kernel;
    case EXTENT_DELTA_VALUE: return h->delta.v_dim;
    case EXTENT_Q_RANK: return h->q_rank;
    case EXTENT_KV_RANK: return h->kv_rank;
    case EXTENT_KV_DOWN: return h->kv_rank + h->n_rot;
    case EXTENT_INDEX_Q: return (uint64_t)h->index.heads * h->index.dim;
    case EXTENT_INDEX_DIM: return h->index.dim;
    case EXTENT_INDEX_HEADS: return h->index.heads;
    case EXTENT_NOT_ROTATED: return h->head_dim - h->n_rot;
    }
    return 0;
}
