/* mix: names of tensors to types, by the rules of llama-quantize. */
#include "shard/run/mix.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "shard/run/quantize.h"

static const struct mix mixes[] = {
    {"F16", 1, QTYPE_F16, QTYPE_F16, false, false},     {"BF16", 32, QTYPE_BF16, QTYPE_BF16, false, false},
    {"Q8_0", 7, QTYPE_Q8_0, QTYPE_Q8_0, false, false},  {"Q4_0", 2, QTYPE_Q4_0, QTYPE_Q6_K, false, false},
    {"Q4_K_M", 15, QTYPE_Q4_K, QTYPE_Q6_K, true, false}, {"Q5_K_M", 17, QTYPE_Q5_K, QTYPE_Q6_K, true, false},
    {"Q6_K", 18, QTYPE_Q6_K, QTYPE_Q6_K, false, false}, {"MXFP4", 38, QTYPE_MXFP4, QTYPE_Q8_0, false, true},
};

const char *quantize_list(void)
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

/* Matrices alone; not those that are small and matter much. */
static bool stays(const struct gguf_tensor *t)
{
    static const char *const parts[] = {"_norm.weight", "ffn_gate_inp.weight", "position_embd", "token_types",
                                        "ssm_conv1d", "shortconv", "altup", "laurel", "per_layer_model_proj",
                                        "indexer.k_proj", "indexer.q_proj", "time_mix_"};
    size_t n = strlen(t->name);
    if (t->ne[1] * t->ne[2] * t->ne[3] <= 1 || n < 6 || strcmp(t->name + n - 6, "weight") != 0)
        return true;
    for (size_t i = 0; i < COUNTOF(parts); i++)
        if (strstr(t->name, parts[i]))
            return true;
    return false;
}

/* A number of the file's architecture, 0 when it is not there. */
static uint64_t arch_number(const struct gguf *g, const char *what)
{
    struct gguf_string arch;
    char key[GGUF_KEY_MAX + 1];
    uint64_t v = 0;
    if (!gguf_get_string(g, "general.architecture", &arch) || arch.len > GGUF_KEY_MAX)
        return 0;
    int n = snprintf(key, sizeof(key), "%.*s.%s", (int)arch.len, arch.text, what);
    return n > 0 && (size_t)n < sizeof(key) && gguf_get_u64(g, key, &v) ? v : 0;
}

static bool better_layer(const struct gguf *g, const struct gguf_tensor *t)
{
    unsigned layer;
    uint64_t n = arch_number(g, "block_count"), eighth = n / 8;
    if (sscanf(t->name, "blk.%9u.", &layer) != 1)
        return false;
    return layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
}

static bool ends(const struct gguf_tensor *t, const char *end)
{
    size_t n = strlen(t->name), m = strlen(end);
    return n >= m && strcmp(t->name + n - m, end) == 0;
}

static enum qtype_id wanted(const struct mix *m, const struct gguf *g, const struct gguf_tensor *t)
{
    bool tied = !gguf_tensor_find(g, "output.weight");
    if (strcmp(t->name, "output.weight") == 0 || (tied && strcmp(t->name, "token_embd.weight") == 0))
        return m->head;
    uint64_t experts = arch_number(g, "expert_count");
    if (m->experts_only && experts > 0)
        return t->ne[2] > 1 && strstr(t->name, "_exps.") ? m->base : m->head;
    if (!m->some_better)
        return m->base;
    if (ends(t, ".attn_qkv.weight"))
        return m->base == QTYPE_Q4_K ? QTYPE_Q5_K : QTYPE_Q6_K;
    if (experts == 8 && (ends(t, ".attn_k.weight") || ends(t, ".attn_v.weight")))
        return QTYPE_Q8_0;
    if (experts == 8 && ends(t, ".attn_output.weight"))
        return QTYPE_Q5_K;
    bool may = ends(t, ".attn_v.weight") || strstr(t->name, ".ffn_down");
    return may && better_layer(g, t) ? QTYPE_Q6_K : m->base;
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

const struct qtype *mix_type(const struct mix *m, const struct gguf *g, const struct gguf_tensor *t)
{
    if (stays(t))
        return t->type;
    const struct qtype *to = qtype_find(wanted(m, g, t));
    while (qtype_row_bytes(to, t->ne[0]) == 0)
        to = qtype_find(substitute((enum qtype_id)to->id));
    bool smaller = (uint64_t)to->block_bytes * t->type->block_len < (uint64_t)t->type->block_bytes * to->block_len;
    return is_plain(to) || smaller ? to : t->type;
}
