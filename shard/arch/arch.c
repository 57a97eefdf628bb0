/* arch: the families and the tensors they are made of: rows only. */
#include "shard/arch/arch.h"

#include <stdio.h>
#include <string.h>

static const struct arch families[] = {
    {"llama", "Llama, Mistral, Mixtral", false, ARCH_DENSE | ARCH_MOE},
    {"qwen2", "Qwen2", true, ARCH_DENSE | ARCH_QKV_BIAS},
    {"qwen3", "Qwen3", true, ARCH_DENSE | ARCH_QK_NORM},
    {"qwen3moe", "Qwen3 MoE", true, ARCH_MOE | ARCH_QK_NORM},
};

static const struct tensor_rule rules[] = {
    {"token_embd.weight", ROLE_EMBEDDING, EXTENT_EMBD, EXTENT_VOCAB, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"output_norm.weight", ROLE_OUTPUT_NORM, EXTENT_EMBD, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"output.weight", ROLE_OUTPUT, EXTENT_EMBD, EXTENT_VOCAB, EXTENT_ONE, WHEN_ALWAYS, 0, true},
    {"output.bias", ROLE_OUTPUT_BIAS, EXTENT_VOCAB, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, true},
    {"rope_freqs.weight", ROLE_ROPE_FREQS, EXTENT_ROPE_HALF, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, true},
    {"blk.%u.attn_norm.weight", ROLE_ATTN_NORM, EXTENT_EMBD, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.attn_q.weight", ROLE_ATTN_Q, EXTENT_EMBD, EXTENT_HEADS, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.attn_k.weight", ROLE_ATTN_K, EXTENT_EMBD, EXTENT_KV_HEADS, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.attn_v.weight", ROLE_ATTN_V, EXTENT_EMBD, EXTENT_V_HEADS, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.attn_q.bias", ROLE_ATTN_Q_BIAS, EXTENT_HEADS, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, ARCH_QKV_BIAS, true},
    {"blk.%u.attn_k.bias", ROLE_ATTN_K_BIAS, EXTENT_KV_HEADS, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, ARCH_QKV_BIAS,
     true},
    {"blk.%u.attn_v.bias", ROLE_ATTN_V_BIAS, EXTENT_V_HEADS, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, ARCH_QKV_BIAS, true},
    {"blk.%u.attn_q_norm.weight", ROLE_ATTN_Q_NORM, EXTENT_HEAD_DIM, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, ARCH_QK_NORM,
     false},
    {"blk.%u.attn_k_norm.weight", ROLE_ATTN_K_NORM, EXTENT_HEAD_DIM, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, ARCH_QK_NORM,
     false},
    {"blk.%u.attn_output.weight", ROLE_ATTN_OUT, EXTENT_OUT_HEADS, EXTENT_EMBD, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.attn_output.bias", ROLE_ATTN_OUT_BIAS, EXTENT_EMBD, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, true},
    {"blk.%u.ffn_norm.weight", ROLE_FFN_NORM, EXTENT_EMBD, EXTENT_ONE, EXTENT_ONE, WHEN_ALWAYS, 0, false},
    {"blk.%u.ffn_gate.weight", ROLE_FFN_GATE, EXTENT_EMBD, EXTENT_FFN, EXTENT_ONE, WHEN_DENSE, 0, false},
    {"blk.%u.ffn_up.weight", ROLE_FFN_UP, EXTENT_EMBD, EXTENT_FFN, EXTENT_ONE, WHEN_DENSE, 0, false},
    {"blk.%u.ffn_down.weight", ROLE_FFN_DOWN, EXTENT_FFN, EXTENT_EMBD, EXTENT_ONE, WHEN_DENSE, 0, false},
    {"blk.%u.ffn_gate_inp.weight", ROLE_ROUTER, EXTENT_EMBD, EXTENT_EXPERTS, EXTENT_ONE, WHEN_EXPERTS, 0, false},
    {"blk.%u.ffn_gate_exps.weight", ROLE_GATE_EXPERTS, EXTENT_EMBD, EXTENT_EXPERT_FFN, EXTENT_EXPERTS, WHEN_EXPERTS, 0,
     false},
    {"blk.%u.ffn_up_exps.weight", ROLE_UP_EXPERTS, EXTENT_EMBD, EXTENT_EXPERT_FFN, EXTENT_EXPERTS, WHEN_EXPERTS, 0,
     false},
    {"blk.%u.ffn_down_exps.weight", ROLE_DOWN_EXPERTS, EXTENT_EXPERT_FFN, EXTENT_EMBD, EXTENT_EXPERTS, WHEN_EXPERTS, 0,
     false},
};

size_t arch_count(void)
{
    return COUNTOF(families);
}

const struct arch *arch_at(size_t i)
{
    return &families[i];
}

const struct arch *arch_find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(families); i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

char *arch_list(char text[static ARCH_LIST_BYTES])
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < COUNTOF(families) && n < ARCH_LIST_BYTES; i++)
        n += (size_t)snprintf(text + n, ARCH_LIST_BYTES - n, "%s%s", i ? ", " : "", families[i].name);
    return text;
}

char *arch_key(const struct arch *a, const char *name, char key[static ARCH_KEY_BYTES])
{
    snprintf(key, ARCH_KEY_BYTES, "%s.%s", a->name, name);
    return key;
}

char *arch_tensor_name(const struct tensor_rule *rule, int32_t layer, char name[static GGUF_NAME_MAX + 1])
{
    const char *mark = strstr(rule->name, "%u");
    if (mark)
        snprintf(name, GGUF_NAME_MAX + 1, "%.*s%d%s", (int)(mark - rule->name), rule->name, layer, mark + 2);
    else
        snprintf(name, GGUF_NAME_MAX + 1, "%s", rule->name);
    return name;
}

size_t arch_rule_count(void)
{
    return COUNTOF(rules);
}

const struct tensor_rule *arch_rule_at(size_t i)
{
    return &rules[i];
}

bool arch_rule_applies(const struct tensor_rule *rule, const struct hparams *h, bool *required)
{
    bool flagged = rule->flag != 0 && (h->arch->flags & rule->flag) != 0;
    *required = flagged || (rule->flag == 0 && !rule->optional);
    if (rule->flag != 0 && !flagged && !rule->optional)
        return false;
    if (rule->when == WHEN_DENSE)
        return h->n_experts == 0;
    return rule->when == WHEN_ALWAYS || h->n_experts > 0;
}

bool arch_ignores(const char *tensor_name)
{
    static const char *const names[] = {"cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"};
    for (size_t i = 0; i < COUNTOF(names); i++)
        if (strcmp(names[i], tensor_name) == 0)
            return true;
    return false;
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
    case EXTENT_FFN: return h->n_ffn;
    case EXTENT_EXPERT_FFN: return h->n_expert_ffn;
    case EXTENT_EXPERTS: return h->n_experts;
    case EXTENT_ROPE_HALF: return h->n_rot / 2;
    }
    return 0;
}
