/* mix: names of tensors to types, by the rules of llama-quantize. */
#include "shard/arch/mix.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

static const struct mix mixes[] = {
    {"F16", 1, QTYPE_F16, QTYPE_F16, false, false},     {"BF16", 32, QTYPE_BF16, QTYPE_BF16, false, false},
    {"Q8_0", 7, QTYPE_Q8_0, QTYPE_Q8_0, false, false},  {"Q4_0", 2, QTYPE_Q4_0, QTYPE_Q6_K, false, false},
    {"Q4_K_M", 15, QTYPE_Q4_K, QTYPE_Q6_K, true, false}, {"Q5_K_M", 17, QTYPE_Q5_K, QTYPE_Q6_K, true, false},
    {"Q6_K", 18, QTYPE_Q6_K, QTYPE_Q6_K, false, false}, {"MXFP4", 38, QTYPE_MXFP4, QTYPE_Q8_0, false, true},
};

const char *mix_list(void)
{
    return "F16, BF16, Q8_0, Q4_0, Q4_K_M, Q5_K_M, Q6_K or MXFP4";
}

const struct mix *mix_find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(mixes); i++)
        if (strcasecmp(mixes[i].name, name) == 0)
            return &mixes[i];
    return NULL;
}

static bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Matrices alone; not those that are small and matter much. */
static bool stays(const char *name, const uint64_t *ne)
{
    static const char *const parts[] = {"_norm.weight", "ffn_gate_inp.weight", "position_embd", "token_types",
                                        "ssm_conv1d", "shortconv", "altup", "laurel", "per_layer_model_proj",
                                        "indexer.k_proj", "indexer.q_proj", "time_mix_"};
    if (ne[1] * ne[2] * ne[3] <= 1 || !ends(name, "weight"))
        return true;
    for (size_t i = 0; i < COUNTOF(parts); i++)
        if (strstr(name, parts[i]))
            return true;
    return false;
}

static bool better_layer(const struct mix_model *about, const char *name)
{
    unsigned layer;
    uint64_t n = about->n_layers, eighth = n / 8;
    if (sscanf(name, "blk.%9u.", &layer) != 1)
        return false;
    return layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
}

static enum qtype_id wanted(const struct mix *m, const struct mix_model *about, const char *name, const uint64_t *ne)
{
    if (strcmp(name, "output.weight") == 0 || (about->tied && strcmp(name, "token_embd.weight") == 0))
        return m->head;
    if (m->experts_only && about->n_experts > 0)
        return ne[2] > 1 && strstr(name, "_exps.") ? m->base : m->head;
    bool value = ends(name, ".attn_v.weight") || ends(name, ".attn_qkv.weight") || ends(name, ".attn_kv_b.weight");
    bool plain = qtype_find(m->base)->block_len == 1;
    if (about->n_experts == 8 && !plain && (value || ends(name, ".attn_k.weight")))
        return QTYPE_Q8_0;
    if (!m->some_better)
        return m->base;
    if (about->n_experts == 8 && ends(name, ".attn_output.weight"))
        return QTYPE_Q5_K;
    return (value || strstr(name, ".ffn_down")) && better_layer(about, name) ? QTYPE_Q6_K : m->base;
}

/* What takes the place of a type whose blocks do not fit the rows. */
static enum qtype_id substitute(enum qtype_id id)
{
    switch (id) {
    case QTYPE_Q4_K: return QTYPE_Q5_0;
    case QTYPE_Q5_K: return QTYPE_Q5_1;
    case QTYPE_Q6_K: return QTYPE_Q8_0;
    default: return QTYPE_F16;
    }
}

static bool is_plain(const struct qtype *t)
{
    return t->block_len == 1;
}

const struct qtype *mix_type(const struct mix *m, const struct mix_model *about, const char *name,
                             const struct qtype *from, const uint64_t *ne)
{
    if (stays(name, ne))
        return from;
    const struct qtype *to = qtype_find(wanted(m, about, name, ne));
    while (qtype_row_bytes(to, ne[0]) == 0)
        to = qtype_find(substitute((enum qtype_id)to->id));
    bool smaller = (uint64_t)to->block_bytes * from->block_len < (uint64_t)from->block_bytes * to->block_len;
    return is_plain(to) || smaller ? to : from;
}
