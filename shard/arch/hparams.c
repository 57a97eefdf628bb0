/* hparams: a file's numbers, each read under its family's prefix and checked against what can be computed with. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/limits.h"
#include "shard/arch/arch.h"

enum {
    CHUNK = 8192,               /* of Llama 4, of which files do not say more than whether there are any */
    KIMI_INTERVAL = 4,          /* layers, of which the last attends */
    INDEX_SHARED_PERIOD = 4,    /* of GLM-5.2's layers, from the third on, so many in turn share an indexer */
    LLAMA4_PLAIN_EXPERTS = 128, /* Maverick, which has no norm of q and k */
    YARN_BETA_FAST = 32, YARN_BETA_SLOW = 1, /* unless the file says otherwise */
};

struct reader {
    const struct gguf *g;
    const struct arch *family;
    struct error *e;
    int status; /* the first failure */
};

/* A number, or an array that gives every layer the same one. */
static bool get_count(const struct gguf *g, const char *key, uint64_t *out)
{
    enum gguf_type type;
    uint64_t n, v;
    if (!gguf_array(g, key, &type, &n))
        return gguf_get_u64(g, key, out);
    if (n == 0 || n > ARCH_LAYERS_MAX || !gguf_array_u64(g, key, 0, out))
        return false;
    for (uint64_t i = 1; i < n; i++)
        if (!gguf_array_u64(g, key, i, &v) || v != *out)
            return false;
    return true;
}

/* An integer in [low, high]; `missing` when the key is not there; UINT64_MAX missing: required. */
static uint32_t read_count(struct reader *r, const char *name, uint64_t low, uint64_t high, uint64_t missing)
{
    char key[ARCH_KEY_BYTES];
    uint64_t v = missing;
    arch_key(r->family, name, key);
    if (r->status != 0)
        return 0;
    if (!gguf_has(r->g, key)) {
        if (missing == UINT64_MAX)
            r->status = error_set(r->e, ERR_CORRUPT, "%s: has no %s", gguf_path(r->g), key);
    } else if (!get_count(r->g, key, &v)) {
        r->status = error_set(r->e, ERR_UNSUPPORTED, "%s: %s is not one whole number; models whose layers differ in it "
                                                     "are not supported", gguf_path(r->g), key);
    }
    if (r->status == 0 && (v < low || v > high))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s is %llu; %llu to %llu can be", gguf_path(r->g), key,
                              (unsigned long long)v, (unsigned long long)low, (unsigned long long)high);
    return r->status == 0 ? (uint32_t)v : 0;
}

static float read_real(struct reader *r, const char *name, double low, double high, double missing)
{
    char key[ARCH_KEY_BYTES];
    double v = missing;
    arch_key(r->family, name, key);
    if (r->status != 0)
        return 0;
    if (gguf_has(r->g, key) && !gguf_get_f64(r->g, key, &v))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s is not a number", gguf_path(r->g), key);
    else if (isnan(v))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: has no %s", gguf_path(r->g), key);
    else if (v < low || v > high)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s is %g; %g to %g can be", gguf_path(r->g), key, v, low, high);
    return (float)v;
}

static bool read_bool(struct reader *r, const char *name, bool missing)
{
    char key[ARCH_KEY_BYTES];
    bool v = missing;
    arch_key(r->family, name, key);
    if (r->status == 0 && gguf_has(r->g, key) && !gguf_get_bool(r->g, key, &v))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s is neither true nor false", gguf_path(r->g), key);
    return v;
}

/* Keys of mechanisms: a file that sets one that its family does not have would be answered wrongly. */
static void refuse_mechanisms(struct reader *r)
{
    static const struct {
        const char *name;
        double neutral; /* as good as absent; 0 always is */
        uint32_t flag;  /* who has it */
    } others[] = {
        {"nextn_predict_layers", 0, ARCH_NEXTN}, {"expert_shared_count", 0, ARCH_SHARED},
        {"expert_group_count", 1, ARCH_ROUTER_KEYS}, {"expert_gating_func", 1, ARCH_ROUTER_KEYS},
        {"leading_dense_block_count", 0, ARCH_LEAD_DENSE}, {"interleave_moe_layer_step", 1, ARCH_MOE_STEP},
        {"attention.scale", 0, ARCH_SCALES | ARCH_SOFTCAPS},
        {"attention.temperature_scale", 0, ARCH_TEMPER | ARCH_CHUNKS},
        {"attention.clamp_kqv", 0, 0},
        {"attn_logit_softcapping", 0, ARCH_SOFTCAPS}, {"final_logit_softcapping", 0, ARCH_SOFTCAPS},
        {"logit_scale", 1, ARCH_SCALES}, {"residual_scale", 1, ARCH_SCALES}, {"embedding_scale", 1, ARCH_SCALES},
    };
    char key[ARCH_KEY_BYTES];
    for (size_t i = 0; r->status == 0 && i < COUNTOF(others); i++) {
        double v = 0;
        arch_key(r->family, others[i].name, key);
        if (!(r->family->flags & others[i].flag) && gguf_has(r->g, key) &&
            (!gguf_get_f64(r->g, key, &v) || (v != 0 && v != others[i].neutral)))
            r->status = error_set(r->e, ERR_UNSUPPORTED, "%s: sets %s, which family %s does not have in this version",
                                  gguf_path(r->g), key, r->family->name);
    }
}

static int find_family(struct hparams *h, const struct gguf *g, struct error *e)
{
    struct gguf_string s;
    char name[64], list[ARCH_LIST_BYTES];
    if (gguf_get_string(g, "general.type", &s) && (s.len != 5 || memcmp(s.text, "model", 5) != 0))
        return error_set(e, ERR_INVALID, "%s: is no model but of type \"%.*s\"", gguf_path(g),
                         (int)(s.len < 40 ? s.len : 40), s.text);
    if (!gguf_get_string(g, "general.architecture", &s))
        return error_set(e, ERR_CORRUPT, "%s: has no general.architecture, so its family is unknown", gguf_path(g));
    snprintf(name, sizeof(name), "%.*s", (int)(s.len < 63 ? s.len : 63), s.text);
    h->arch = strlen(name) == s.len ? arch_find(name) : NULL; /* a NUL inside is no end */
    if (h->arch)
        return 0;
    return error_set(e, ERR_UNSUPPORTED, "%s: is of family \"%s\"; this version runs %s", gguf_path(g), name,
                     arch_list(list));
}

static void read_name(struct hparams *h, const struct gguf *g)
{
    struct gguf_string s;
    const char *path = gguf_path(g), *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (gguf_get_string(g, "general.name", &s) && s.len > 0)
        snprintf(h->name, sizeof(h->name), "%.*s", (int)(s.len < 127 ? s.len : 127), s.text);
    else
        snprintf(h->name, sizeof(h->name), "%s", base);
    error_printable(h->name);
}

static void read_vocab(struct hparams *h, struct reader *r)
{
    enum gguf_type type;
    uint64_t tokens = UINT64_MAX;
    if (!gguf_array(r->g, "tokenizer.ggml.tokens", &type, &tokens))
        tokens = UINT64_MAX;
    /* the embedding's own size decides: it may be padded past the vocabulary */
    const struct gguf_tensor *t = gguf_tensor_find(r->g, "token_embd.weight");
    if (!t) /* in a split that is not here */
        t = gguf_tensor_find(r->g, "output.weight");
    h->n_vocab = read_count(r, "vocab_size", 1, ARCH_VOCAB_MAX, t ? t->ne[1] : tokens);
    if (t && t->ne[1] <= ARCH_VOCAB_MAX)
        h->n_vocab = (uint32_t)t->ne[1];
    if (r->status == 0 && t && tokens != UINT64_MAX && tokens > t->ne[1])
        r->status = error_set(r->e, ERR_CORRUPT, "%s: its tokenizer has %llu tokens, its embedding only %u rows",
                              gguf_path(r->g), (unsigned long long)tokens, h->n_vocab);
}

/* Of compressed attention. Every head has a part that is not rotated; what is kept must be a key that kernels take. */
static void read_ranks(struct hparams *h, struct reader *r)
{
    h->q_rank = read_count(r, "attention.q_lora_rank", 0, ARCH_WIDTH_MAX, 0);
    h->kv_rank = read_count(r, "attention.kv_lora_rank", 1, HEAD_DIM_MAX, UINT64_MAX);
    if (r->status == 0 && (h->n_rot >= h->head_dim || h->kv_rank + h->n_rot > HEAD_DIM_MAX || h->n_kv_heads != 1))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: compressed keys of %u and %u values in %u KV heads for heads of "
                                                 "%u cannot be", gguf_path(r->g), h->kv_rank, h->n_rot, h->n_kv_heads,
                              h->head_dim);
}

/* Their keys say otherwise, too: without this, one of them would be called missing. */
static void refuse_whole_kv_up(const struct hparams *h, struct reader *r)
{
    char name[GGUF_NAME_MAX + 1];
    for (uint32_t i = 0; r->status == 0 && i < h->n_layers; i++)
        if (gguf_tensor_find(r->g, arch_tensor_name("blk.%u.attn_kv_b.weight", (int32_t)i, name)))
            r->status = error_set(r->e, ERR_UNSUPPORTED, "%s: keeps attn_kv_b in one, as files of early 2025 do, which "
                                                         "this version does not read; convert the model again",
                                  gguf_path(r->g));
}

static void read_attention(struct hparams *h, struct reader *r)
{
    if (h->arch->flags & ARCH_MLA)
        refuse_whole_kv_up(h, r);
    h->n_heads = read_count(r, "attention.head_count", 1, ARCH_HEADS_MAX, UINT64_MAX);
    h->n_kv_heads = h->arch->delta_by_channel /* of a layer that attends: find_attending() */
                        ? 1 : read_count(r, "attention.head_count_kv", 1, ARCH_HEADS_MAX, h->n_heads);
    uint32_t dim = h->n_heads ? h->n_embd / h->n_heads : 0;
    bool mla = (h->arch->flags & ARCH_MLA) != 0;
    h->head_dim = read_count(r, mla ? "attention.key_length_mla" : "attention.key_length", 2, HEAD_DIM_MAX,
                             mla ? UINT64_MAX : dim);
    h->value_dim = read_count(r, mla ? "attention.value_length_mla" : "attention.value_length", 1, HEAD_DIM_MAX,
                              mla ? UINT64_MAX : dim);
    h->n_rot = read_count(r, "rope.dimension_count", 2, HEAD_DIM_MAX, h->head_dim);
    h->norm_eps = read_real(r, "attention.layer_norm_rms_epsilon", 0, 1, NAN);
    if (h->arch->flags & ARCH_NORM_BIAS)
        h->centred_norms = read_bool(r, "attention.centred_norms", false);
    if (r->status != 0)
        return;
    if (h->n_heads % h->n_kv_heads != 0)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %u heads cannot share %u KV heads evenly", gguf_path(r->g),
                              h->n_heads, h->n_kv_heads);
    else if (h->n_rot > h->head_dim || h->n_rot % 2 != 0)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: rope.dimension_count %u does not fit heads of %u values",
                              gguf_path(r->g), h->n_rot, h->head_dim);
    else if (mla)
        read_ranks(h, r);
}

/* Which layers have a window: a flag for each, or how many there are to one that has none. */
static void read_pattern(struct hparams *h, struct reader *r)
{
    char key[ARCH_KEY_BYTES];
    enum gguf_type type;
    uint64_t n, v = 0;
    arch_key(r->family, "attention.sliding_window_pattern", key);
    if (r->status != 0 || !gguf_has(r->g, key))
        return;
    if (!gguf_array(r->g, key, &type, &n)) {
        h->window_period = read_count(r, "attention.sliding_window_pattern", 1, ARCH_LAYERS_MAX, 1);
        return;
    }
    h->has_pattern = true;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        if (!gguf_array_u64(r->g, key, i, &v)) {
            r->status = error_set(r->e, ERR_CORRUPT, "%s: %s has no flag for layer %u", gguf_path(r->g), key, i);
            return;
        }
        h->pattern[i] = v != 0;
    }
}

/* As Llama 4: chunks, in whose place a file may say that there are none. */
static void read_chunks(struct hparams *h, struct reader *r)
{
    if (h->window == 0)
        return;
    h->window = 0;
    h->chunk = read_count(r, "attention.chunk_size", 1, ARCH_CONTEXT_MAX, CHUNK);
    h->temper_scale = read_real(r, "attention.temperature_scale", 0, 1e3, 0.1F);
    h->temper_length = read_count(r, "attention.temperature_length", 1, ARCH_CONTEXT_MAX, CHUNK);
    h->temper_offset = 1;
    h->late_norm = read_bool(r, "attention.qk_norm", h->n_experts != LLAMA4_PLAIN_EXPERTS);
}

/* The layers that do not see everything. */
static void read_windows(struct hparams *h, struct reader *r)
{
    bool chunks = (h->arch->flags & ARCH_CHUNKS) != 0;
    h->window_period = h->arch->window_period;
    read_pattern(h, r);
    if (h->window_period > 0 || h->has_pattern)
        h->window = read_count(r, "attention.sliding_window", 0, ARCH_CONTEXT_MAX, chunks ? CHUNK : 0);
    h->local_rope_base = h->arch->local_rope_base;
    if (h->local_rope_base > 0)
        h->local_rope_base = read_real(r, "rope.freq_base_swa", 1, 1e12, h->local_rope_base);
    if (chunks)
        read_chunks(h, r);
}

/* What scores count. */
static void read_scores(struct hparams *h, struct reader *r)
{
    uint32_t flags = h->arch->flags, wide = h->arch->wide_scale_layers;
    if (r->status != 0)
        return;
    h->attention_scale = 1 / sqrtf((float)(wide == h->n_layers ? h->n_embd / h->n_heads : h->head_dim));
    h->no_rope = h->arch->no_rope;
    h->embedding_scale = flags & ARCH_EMBED_ROOT ? sqrtf((float)h->n_embd) : 1;
    h->residual_scale = h->logit_scale = 1;
    if (flags & (ARCH_SCALES | ARCH_SOFTCAPS)) {
        float scale = read_real(r, "attention.scale", 0, 1e3, 0);
        h->attention_scale = scale != 0 ? scale : h->attention_scale;
    }
    if (flags & ARCH_SCALES) {
        float logits = read_real(r, "logit_scale", 0, 1e6, 0);
        h->logit_scale = logits != 0 ? 1 / logits : 1;
        h->embedding_scale = read_real(r, "embedding_scale", 1e-6, 1e6, 1);
        h->residual_scale = read_real(r, "residual_scale", 1e-6, 1e6, 1);
        h->no_rope = !read_bool(r, "rope.scaling.finetuned", true); /* so these files say it */
    }
    if (flags & ARCH_SOFTCAPS) {
        h->attention_cap = read_real(r, "attn_logit_softcapping", 0, 1e6, 0);
        h->logit_cap = read_real(r, "final_logit_softcapping", 0, 1e6, 0);
    }
}

/* As many heads as those that attend, of the same width for keys and values. */
static void read_delta_by_channel(struct hparams *h, struct reader *r)
{
    struct delta_shape *d = &h->delta;
    d->interval = KIMI_INTERVAL;
    d->kernel = read_count(r, "ssm.conv_kernel", 2, DELTA_KERNEL_MAX, UINT64_MAX);
    d->k_dim = d->v_dim = read_count(r, "kda.head_dim", 1, HEAD_DIM_MAX, UINT64_MAX);
    d->k_heads = d->v_heads = h->n_heads;
    if (r->status == 0 && h->n_heads > DELTA_HEADS_MAX)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %u heads are too many for layers that keep a state",
                              gguf_path(r->g), h->n_heads);
}

static void read_delta(struct hparams *h, struct reader *r)
{
    struct delta_shape *d = &h->delta;
    if (!(h->arch->flags & ARCH_DELTA))
        return;
    if (h->arch->delta_by_channel) {
        read_delta_by_channel(h, r);
        return;
    }
    d->interval = read_count(r, "full_attention_interval", 1, ARCH_LAYERS_MAX, 4);
    d->kernel = read_count(r, "ssm.conv_kernel", 2, DELTA_KERNEL_MAX, UINT64_MAX);
    d->k_dim = read_count(r, "ssm.state_size", 1, HEAD_DIM_MAX, UINT64_MAX);
    d->k_heads = read_count(r, "ssm.group_count", 1, DELTA_HEADS_MAX, UINT64_MAX);
    d->v_heads = read_count(r, "ssm.time_step_rank", 1, DELTA_HEADS_MAX, UINT64_MAX);
    uint32_t inner = read_count(r, "ssm.inner_size", 1, ARCH_WIDTH_MAX, UINT64_MAX);
    if (r->status != 0)
        return;
    d->v_dim = inner / d->v_heads;
    if (inner % d->v_heads != 0 || d->v_heads % d->k_heads != 0 || d->v_dim > HEAD_DIM_MAX)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %u values cannot be of %u heads that share %u", gguf_path(r->g),
                              inner, d->v_heads, d->k_heads);
}

/* Positions past the context cannot be chosen. */
static void read_index(struct hparams *h, struct reader *r)
{
    if (h->arch->index == INDEX_NONE)
        return;
    h->index.heads = read_count(r, "attention.indexer.head_count", 1, ARCH_HEADS_MAX, UINT64_MAX);
    h->index.dim = read_count(r, "attention.indexer.key_length", h->n_rot, HEAD_DIM_MAX, UINT64_MAX);
    h->index.top = read_count(r, "attention.indexer.top_k", 1, ARCH_CONTEXT_MAX, UINT64_MAX);
    h->index.shared = h->arch->index_shared_context > 0 && h->context >= h->arch->index_shared_context;
    if (h->index.top > h->context)
        h->index.top = h->context;
    if (r->status == 0 && h->q_rank == 0)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: has an indexer, and no q_lora_rank of what it reads",
                              gguf_path(r->g));
}

static void read_temper(struct hparams *h, struct reader *r)
{
    if (!(h->arch->flags & ARCH_TEMPER))
        return;
    h->temper_scale = read_real(r, "attention.temperature_scale", 0, 1e3, 0);
    h->temper_length = read_count(r, "attention.temperature_length", 1, ARCH_CONTEXT_MAX,
                                  h->rope_context ? h->rope_context : 1);
}

/* What a tensor of the first layer that has it says: more than a few files carry keys that say otherwise. */
static uint64_t tensor_width(const struct hparams *h, const struct gguf *g, const char *pattern, uint64_t otherwise)
{
    char name[GGUF_NAME_MAX + 1];
    for (uint32_t i = 0; i < h->n_layers; i++) {
        const struct gguf_tensor *t = gguf_tensor_find(g, arch_tensor_name(pattern, (int32_t)i, name));
        if (t)
            return t->ne[0];
    }
    return otherwise;
}

static uint32_t checked_width(struct reader *r, uint64_t n, const char *what)
{
    if (r->status == 0 && (n < 1 || n > ARCH_FFN_MAX))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s is of width %llu; 1 to %d can be", gguf_path(r->g), what,
                              (unsigned long long)n, ARCH_FFN_MAX);
    return (uint32_t)n;
}

static void read_router(struct hparams *h, struct reader *r)
{
    static const enum score_kind kinds[] = {SCORE_SOFTMAX, SCORE_SIGMOID, SCORE_SOFTMAX_CHOSEN};
    h->scores = h->arch->scores;
    h->experts_norm = read_bool(r, "expert_weights_norm", (h->arch->flags & ARCH_NORM_EXPERTS) != 0);
    h->experts_scale = read_real(r, "expert_weights_scale", 0, 1e3, 0);
    if (h->arch->flags & ARCH_NORM_BIAS) /* as Phi-3.5 MoE was made; what llama.cpp makes of its files is simpler */
        h->near_scores = read_real(r, "expert_near_scores", 0, 1, 0);
    h->scores = h->near_scores > 0 ? SCORE_NEAR : h->scores;
    if (!(h->arch->flags & ARCH_ROUTER_KEYS))
        return;
    uint32_t kind = read_count(r, "expert_gating_func", 0, COUNTOF(kinds), 0);
    h->scores = kind ? kinds[kind - 1] : h->scores;
    h->n_groups = read_count(r, "expert_group_count", 0, EXPERTS_MAX, 0);
    if (h->n_groups < 2 || r->status != 0) {
        h->n_groups = 0;
        return;
    }
    h->n_groups_used = read_count(r, "expert_group_used_count", 1, h->n_groups, UINT64_MAX);
    if (r->status == 0 && (h->n_experts % h->n_groups != 0 ||
                           h->n_experts_used > h->n_experts / h->n_groups * h->n_groups_used))
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %u of %u experts cannot come from %u of %u groups",
                              gguf_path(r->g), h->n_experts_used, h->n_experts, h->n_groups_used, h->n_groups);
}

static void read_shared(struct hparams *h, struct reader *r)
{
    uint64_t n = read_count(r, "expert_shared_feed_forward_length", 0, ARCH_FFN_MAX, 0);
    uint64_t count = read_count(r, "expert_shared_count", 0, EXPERTS_MAX, 0);
    n = tensor_width(h, r->g, "blk.%u.ffn_down_shexp.weight", n ? n : count * h->n_expert_ffn);
    h->n_shared_ffn = n ? checked_width(r, n, "the shared expert") : 0;
}

static void read_experts(struct hparams *h, struct reader *r)
{
    h->n_experts = read_count(r, "expert_count", 0, EXPERTS_MAX, 0);
    h->n_ffn = read_count(r, "feed_forward_length", 0, ARCH_FFN_MAX, h->n_experts ? 0 : UINT64_MAX);
    if (r->status != 0)
        return;
    uint32_t need = h->n_experts ? ARCH_MOE : ARCH_DENSE;
    if (!(h->arch->flags & need)) {
        r->status = error_set(r->e, ERR_CORRUPT, "%s: family %s %s experts, and this file says expert_count %u",
                              gguf_path(r->g), h->arch->name, need == ARCH_MOE ? "has no" : "always has", h->n_experts);
        return;
    }
    if (h->n_experts == 0)
        return;
    h->n_experts_used = read_count(r, "expert_used_count", 1, EXPERTS_USED_MAX, UINT64_MAX);
    uint64_t n = read_count(r, "expert_feed_forward_length", 1, ARCH_FFN_MAX, h->n_ffn ? h->n_ffn : 1);
    n = tensor_width(h, r->g, "blk.%u.ffn_down_exps.weight", n);
    h->n_expert_ffn = checked_width(r, n, "an expert");
    h->lead_dense = h->arch->flags & ARCH_LEAD_DENSE
                        ? read_count(r, "leading_dense_block_count", 0, ARCH_LAYERS_MAX, 0) : 0;
    h->moe_step = h->arch->flags & ARCH_MOE_STEP
                      ? read_count(r, "interleave_moe_layer_step", 1, ARCH_LAYERS_MAX, 1) : 1;
    if (h->arch->flags & ARCH_SHARED)
        read_shared(h, r);
    if (r->status == 0 && h->n_experts_used > h->n_experts)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: uses %u of %u experts", gguf_path(r->g), h->n_experts_used,
                              h->n_experts);
    read_router(h, r);
}

static void set_cache(struct hparams *h)
{
    struct delta_shape *d = &h->delta;
    d->channels = 2 * d->k_heads * d->k_dim + d->v_heads * d->v_dim;
    d->inner = d->v_heads * d->v_dim;
    d->state_values = d->v_heads * d->k_dim * d->v_dim + (d->interval ? d->kernel - 1 : 0) * d->channels;
    h->cache_heads = h->n_kv_heads;
    h->cache_key_dim = h->kv_rank > 0 ? h->kv_rank + h->n_rot : h->head_dim;
    h->cache_value_dim = h->kv_rank > 0 ? 0 : h->value_dim;
}

void hparams_layers(struct hparams *h)
{
    set_cache(h);
    for (uint32_t i = 0; i < h->n_layers; i++) {
        struct layer_facts *f = &h->layers[i];
        bool last = h->has_pattern ? !h->pattern[i]
                                   : h->window_period > 0 && i % h->window_period == h->window_period - 1;
        bool windowed = h->window > 0 && (h->window_period > 0 || h->has_pattern) && !last, chunks = h->chunk > 0;
        *f = (struct layer_facts){
            .delta = h->delta.interval > 0 && (i + 1) % h->delta.interval != 0 &&
                     !(h->arch->delta_by_channel && i + 1 == h->n_layers),
            .indexed = h->index.top > 0 && (!h->index.shared || i < 2 || (i - 2) % INDEX_SHARED_PERIOD == 0),
            .experts = h->n_experts > 0 && i >= h->lead_dense && (i + 1) % h->moe_step == 0,
            .window = windowed ? h->window : 0, .local_rope = windowed && h->local_rope_base > 0,
            .chunk = last ? 0 : h->chunk, .no_rope = h->no_rope || (chunks && last),
            .tempered = h->temper_scale != 0 && (!chunks || last),
            .late_norm = chunks && !last && h->late_norm};
    }
}

/* Some files call layers dense that have a router all the same. */
static void find_routers(struct hparams *h, const struct gguf *g)
{
    char name[GGUF_NAME_MAX + 1];
    for (uint32_t i = 0; h->n_experts > 0 && i < h->lead_dense && i < h->n_layers; i++)
        h->layers[i].experts = gguf_tensor_find(g, arch_tensor_name("blk.%u.ffn_gate_inp.weight", (int32_t)i, name));
}

/* Layers without KV heads keep a state. */
static void find_attending(struct hparams *h, struct reader *r)
{
    char key[ARCH_KEY_BYTES];
    uint64_t heads = 0;
    arch_key(r->family, "attention.head_count_kv", key);
    for (uint32_t i = 0; r->status == 0 && h->arch->delta_by_channel && i < h->n_layers; i++) {
        if (!gguf_array_u64(r->g, key, i, &heads) || heads > 1)
            r->status = error_set(r->e, ERR_CORRUPT, "%s: %s does not say 0 or 1 of layer %u", gguf_path(r->g), key, i);
        h->layers[i].delta = heads == 0;
    }
}

/* A file may say of every layer whether it has an indexer of its own. */
static void find_indexers(struct hparams *h, struct reader *r)
{
    char key[ARCH_KEY_BYTES];
    enum gguf_type type;
    uint64_t n, own = 1;
    arch_key(r->family, "attention.indexer.types", key);
    if (h->index.top == 0 || r->status != 0 || !gguf_has(r->g, key))
        return;
    bool array = gguf_array(r->g, key, &type, &n);
    for (uint32_t i = 0; i < h->n_layers; i++) {
        if (array ? !gguf_array_u64(r->g, key, i, &own) : !gguf_get_u64(r->g, key, &own)) {
            r->status = error_set(r->e, ERR_CORRUPT, "%s: %s does not say of layer %u whether it has an indexer",
                                  gguf_path(r->g), key, i);
            return;
        }
        h->layers[i].indexed = own != 0;
    }
    if (!h->layers[0].indexed)
        r->status = error_set(r->e, ERR_CORRUPT, "%s: %s leaves the first layer without an indexer", gguf_path(r->g),
                              key);
}

/* YaRN whose growth of cos and sin is divided by that of a multiple m, or (compressed attention) left out altogether:
 * there all scores grow by (0.1 m ln(factor) + 1) twice. */
static void read_yarn(struct hparams *h, struct reader *r)
{
    float unit = h->arch->yarn_log_unit;
    bool mla = (h->arch->flags & ARCH_MLA) != 0;
    if (unit <= 0 || h->rope_kind != ROPE_KIND_YARN || h->rope_factor <= 1)
        return;
    float m = read_real(r, "rope.scaling.yarn_log_multiplier", 0, 1e3, mla ? unit : 0) / unit;
    float step = 0.1F * logf(h->rope_factor), grown = 1 + m * step;
    h->rope_attn_factor /= mla ? 1 + step : grown;
    h->attention_scale *= mla ? grown * grown : 1;
}

static void read_sections(struct hparams *h, struct reader *r)
{
    char key[ARCH_KEY_BYTES];
    uint64_t v = 0;
    arch_key(r->family, "rope.dimension_sections", key);
    for (uint32_t i = 0; i < 3 && (h->arch->flags & ARCH_SECTIONS); i++)
        if (gguf_array_u64(r->g, key, i, &v) && v <= HEAD_DIM_MAX)
            h->rope_sections[i] = (uint32_t)v;
}

static void read_rope(struct hparams *h, struct reader *r)
{
    char key[ARCH_KEY_BYTES];
    struct gguf_string kind = {"none", 4};
    bool is_long = gguf_tensor_find(r->g, "rope_factors_long.weight") != NULL;
    h->rope_base = read_real(r, "rope.freq_base", 1, 1e12, 10000);
    h->rope_factor = read_real(r, "rope.scale_linear", 0, 1e6, 1);
    h->rope_factor = read_real(r, "rope.scaling.factor", 0, 1e6, h->rope_factor);
    if (h->rope_factor == 0) /* so some converters say that there is none */
        h->rope_factor = 1;
    h->rope_attn_factor = read_real(r, "rope.scaling.attn_factor", 1e-3, 1e3, 1);
    h->rope_context = read_count(r, "rope.scaling.original_context_length", 1, ARCH_CONTEXT_MAX, h->context);
    arch_key(r->family, "rope.scaling.type", key);
    if (!gguf_get_string(r->g, key, &kind) && h->rope_factor != 1)
        kind = (struct gguf_string){"linear", 6};
    h->rope_beta_fast = read_real(r, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, YARN_BETA_FAST);
    h->rope_beta_slow = read_real(r, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, YARN_BETA_SLOW);
    h->rope_truncate = read_bool(r, "rope.scaling.yarn_truncate", true);
    h->rope_kind = ROPE_KIND_NONE;
    if (is_long)
        h->rope_kind = ROPE_KIND_LONG;
    else if (gguf_string_is(kind, "linear"))
        h->rope_kind = ROPE_KIND_LINEAR;
    else if (gguf_string_is(kind, "yarn"))
        h->rope_kind = ROPE_KIND_YARN;
    else if (r->status == 0 && !gguf_string_is(kind, "none"))
        r->status = error_set(r->e, ERR_UNSUPPORTED, "%s: %s is \"%.*s\"; none, linear, yarn and longrope with its "
                                                     "tensors are supported",
                              gguf_path(r->g), key, (int)(kind.len < 40 ? kind.len : 40), kind.text);
    read_yarn(h, r);
    read_sections(h, r);
}

static void read_layers(struct hparams *h, struct reader *r)
{
    h->n_layers = read_count(r, "block_count", 1, ARCH_LAYERS_MAX, UINT64_MAX);
    if (r->status == 0 && (h->arch->flags & ARCH_NEXTN))
        h->n_extra_layers = read_count(r, "nextn_predict_layers", 0, h->n_layers - 1, 0);
    h->n_layers -= h->n_extra_layers;
}

int hparams_read(struct hparams *h, const struct gguf *g, struct error *e)
{
    memset(h, 0, sizeof(*h));
    int status = find_family(h, g, e);
    if (status != 0)
        return status;
    struct reader r = {g, h->arch, e, 0};
    read_name(h, g);
    read_layers(h, &r);
    h->n_embd = read_count(&r, "embedding_length", 1, ARCH_WIDTH_MAX, UINT64_MAX);
    h->context = read_count(&r, "context_length", 1, ARCH_CONTEXT_MAX, UINT64_MAX);
    read_vocab(h, &r);
    read_attention(h, &r);
    read_scores(h, &r);
    read_experts(h, &r);
    read_windows(h, &r);
    read_rope(h, &r);
    read_temper(h, &r);
    read_delta(h, &r);
    read_index(h, &r);
    refuse_mechanisms(&r);
    if (r.status == 0) {
        hparams_layers(h);
        find_routers(h, g);
        find_indexers(h, &r);
        find_attending(h, &r);
    }
    return r.status;
}
