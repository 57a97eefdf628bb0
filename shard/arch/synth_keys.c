/* synth_keys: the metadata of a synthetic model: its numbers, and a tokenizer that was borrowed. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "shard/arch/synth_parts.h"

enum { GATING_SOFTMAX = 1, GATING_SIGMOID = 2 }; /* as files spell them */

/* general.file_type of models of one type. */
static const struct {
    enum qtype_id id;
    uint32_t file_type;
} file_types[] = {
    {QTYPE_F32, 0}, {QTYPE_F16, 1}, {QTYPE_Q4_0, 2}, {QTYPE_Q4_1, 3}, {QTYPE_Q8_0, 7}, {QTYPE_Q5_0, 8},
    {QTYPE_Q5_1, 9}, {QTYPE_Q2_K, 10}, {QTYPE_Q3_K, 12}, {QTYPE_Q4_K, 14}, {QTYPE_Q5_K, 16}, {QTYPE_Q6_K, 18},
    {QTYPE_IQ2_XXS, 19}, {QTYPE_IQ2_XS, 20}, {QTYPE_IQ3_XXS, 23}, {QTYPE_IQ1_S, 24}, {QTYPE_IQ4_NL, 25},
    {QTYPE_IQ3_S, 26}, {QTYPE_IQ2_S, 28}, {QTYPE_IQ4_XS, 30}, {QTYPE_IQ1_M, 31}, {QTYPE_BF16, 32}, {QTYPE_TQ1_0, 36},
    {QTYPE_TQ2_0, 37}, {QTYPE_MXFP4, 38}, {QTYPE_NVFP4, 39},
};

static uint32_t file_type(const struct synth *s)
{
    for (size_t i = 0; !s->mix && i < COUNTOF(file_types); i++)
        if (file_types[i].id == s->type->id)
            return file_types[i].file_type;
    return s->mix ? s->mix->file_type : 0;
}

bool synth_is_sigmoid(const struct synth *s)
{
    return s->o->sigmoid || s->h.arch->scores == SCORE_SIGMOID;
}

/* Keys that readers want of a family, with the values of a published model. */
static void write_family_keys(struct synth *s)
{
    static const struct {
        const char *name;
        float value;
        uint32_t with, without;
    } reals[] = {
        {"attention.scale", 0.015625F, ARCH_SCALES, 0},
        {"embedding_scale", 12, ARCH_SCALES, 0},
        {"residual_scale", 0.22F, ARCH_SCALES, 0},
        {"logit_scale", 6, ARCH_SCALES, 0},
        {"attn_logit_softcapping", 50, ARCH_SOFTCAPS, ARCH_QK_NORM},
        {"final_logit_softcapping", 30, ARCH_SOFTCAPS, ARCH_QK_NORM},
    };
    char key[ARCH_KEY_BYTES];
    const struct hparams *h = &s->h;
    for (size_t i = 0; i < COUNTOF(reals); i++)
        if (h->arch->flags & reals[i].with && !(h->arch->flags & reals[i].without))
            gguf_writer_f32(s->w, arch_key(h->arch, reals[i].name, key), reals[i].value);
    if (h->arch->flags & ARCH_SECTIONS) {
        int32_t sections[4];
        arch_sections(h->n_rot, sections);
        gguf_writer_i32s(s->w, arch_key(h->arch, "rope.dimension_sections", key), sections, COUNTOF(sections));
    }
}

/* Which layers have a KV head. */
static void write_attending(struct synth *s)
{
    char key[ARCH_KEY_BYTES];
    int32_t heads[ARCH_LAYERS_MAX];
    for (uint32_t i = 0; i < s->h.n_layers; i++)
        heads[i] = !s->h.layers[i].delta;
    gguf_writer_i32s(s->w, arch_key(s->h.arch, "attention.head_count_kv", key), heads, s->h.n_layers);
}

/* The lists that have an entry a token, with unused tokens for the rows of the embedding that have none. */
static void copy_padded(struct synth *s, uint64_t n)
{
    enum { TYPE_NORMAL = 1, TYPE_UNUSED = 5, PAD_BYTES = 24 };
    struct gguf_string *texts = mem_array(s->h.n_vocab, sizeof(*texts));
    int32_t *types = mem_array(s->h.n_vocab, sizeof(*types));
    float *scores = mem_array(s->h.n_vocab, sizeof(*scores));
    char *pads = mem_array(s->h.n_vocab, PAD_BYTES);
    for (uint64_t i = 0; i < s->h.n_vocab; i++) {
        char *pad = pads + i * PAD_BYTES;
        int64_t type = i < n ? TYPE_NORMAL : TYPE_UNUSED;
        double score = 0;
        snprintf(pad, PAD_BYTES, "[PAD%llu]", (unsigned long long)i);
        texts[i] = (struct gguf_string){pad, strlen(pad)};
        (void)gguf_array_string(s->tokenizer, "tokenizer.ggml.tokens", i, &texts[i]);
        (void)gguf_array_i64(s->tokenizer, "tokenizer.ggml.token_type", i, &type);
        (void)gguf_array_f64(s->tokenizer, "tokenizer.ggml.scores", i, &score);
        types[i] = (int32_t)type;
        scores[i] = (float)score;
    }
    gguf_writer_strings(s->w, "tokenizer.ggml.tokens", texts, s->h.n_vocab);
    gguf_writer_i32s(s->w, "tokenizer.ggml.token_type", types, s->h.n_vocab);
    if (gguf_has(s->tokenizer, "tokenizer.ggml.scores"))
        gguf_writer_f32s(s->w, "tokenizer.ggml.scores", scores, s->h.n_vocab);
    mem_free(texts);
    mem_free(types);
    mem_free(scores);
    mem_free(pads);
}

static void copy_tokenizer(struct synth *s)
{
    static const char prefix[] = "tokenizer.";
    enum gguf_type type;
    uint64_t n = 0;
    if (!gguf_array(s->tokenizer, "tokenizer.ggml.tokens", &type, &n) || n == s->h.n_vocab) {
        gguf_writer_copy_keys(s->w, s->tokenizer, prefix);
        return;
    }
    for (size_t i = 0; i < gguf_key_count(s->tokenizer); i++) {
        struct gguf_string key = gguf_key_at(s->tokenizer, i);
        if (key.len > strlen(prefix) && memcmp(key.text, prefix, strlen(prefix)) == 0 &&
            !gguf_string_is(key, "tokenizer.ggml.tokens") && !gguf_string_is(key, "tokenizer.ggml.token_type") &&
            !gguf_string_is(key, "tokenizer.ggml.scores"))
            gguf_writer_copy_key(s->w, s->tokenizer, i);
    }
    copy_padded(s, n);
}

void synth_write_keys(struct synth *s)
{
    const struct hparams *h = &s->h;
    bool by_head = h->delta.interval > 0 && !h->arch->delta_by_channel;
    const struct {
        const char *name;
        uint32_t value;
        bool absent;
    } counts[] = {
        {"block_count", h->n_layers, false},
        {"context_length", h->context, false},
        {"embedding_length", h->n_embd, false},
        {"feed_forward_length", h->n_ffn, false},
        {"attention.head_count", h->n_heads, false},
        {"attention.head_count_kv", h->n_kv_heads, h->arch->delta_by_channel},
        {"attention.key_length", h->kv_rank ? h->kv_rank + h->n_rot : h->head_dim, false},
        {"attention.value_length", h->kv_rank ? h->kv_rank : h->value_dim, false},
        {"attention.key_length_mla", h->head_dim, h->kv_rank == 0},
        {"attention.value_length_mla", h->value_dim, h->kv_rank == 0},
        {"attention.q_lora_rank", h->q_rank, h->q_rank == 0},
        {"attention.kv_lora_rank", h->kv_rank, h->kv_rank == 0},
        {"rope.dimension_count", h->n_rot, false},
        {"attention.indexer.head_count", h->index.heads, h->index.top == 0},
        {"attention.indexer.key_length", h->index.dim, h->index.top == 0},
        {"attention.indexer.top_k", h->index.top, h->index.top == 0},
        {"vocab_size", h->n_vocab, false},
        {"kda.head_dim", h->delta.k_dim, !h->arch->delta_by_channel},
        {"ssm.conv_kernel", h->delta.kernel, h->delta.interval == 0},
        {"full_attention_interval", h->delta.interval, !by_head},
        {"ssm.state_size", h->delta.k_dim, !by_head},
        {"ssm.group_count", h->delta.k_heads, !by_head},
        {"ssm.time_step_rank", h->delta.v_heads, !by_head},
        {"ssm.inner_size", h->delta.inner, !by_head},
        {"expert_count", h->n_experts, h->n_experts == 0},
        {"expert_used_count", h->n_experts_used, h->n_experts == 0},
        {"expert_feed_forward_length", h->n_expert_ffn, h->n_experts == 0},
        {"expert_shared_count", 1, h->n_shared_ffn == 0},
        {"expert_shared_feed_forward_length", h->n_shared_ffn, h->n_shared_ffn == 0},
        {"attention.sliding_window", h->window, h->window == 0},
        {"leading_dense_block_count", h->lead_dense, h->lead_dense == 0},
        {"interleave_moe_layer_step", h->moe_step, !(h->arch->flags & ARCH_MOE_STEP)},
        {"expert_group_count", h->n_groups, h->n_groups == 0},
        {"expert_group_used_count", h->n_groups_used, h->n_groups == 0},
        {"expert_gating_func", synth_is_sigmoid(s) ? GATING_SIGMOID : GATING_SOFTMAX,
         !(h->arch->flags & ARCH_ROUTER_KEYS)},
    };
    char key[ARCH_KEY_BYTES];
    gguf_writer_string(s->w, "general.architecture", h->arch->name);
    gguf_writer_string(s->w, "general.name", h->name);
    gguf_writer_u32(s->w, "general.file_type", file_type(s));
    gguf_writer_u32(s->w, "general.quantization_version", 2);
    for (size_t i = 0; i < COUNTOF(counts); i++)
        if (!counts[i].absent)
            gguf_writer_u32(s->w, arch_key(h->arch, counts[i].name, key), counts[i].value);
    gguf_writer_f32(s->w, arch_key(h->arch, "attention.layer_norm_rms_epsilon", key), h->norm_eps);
    gguf_writer_f32(s->w, arch_key(h->arch, "rope.freq_base", key), h->rope_base);
    if (h->arch->delta_by_channel)
        write_attending(s);
    if (h->experts_scale > 0) {
        gguf_writer_f32(s->w, arch_key(h->arch, "expert_weights_scale", key), h->experts_scale);
        gguf_writer_bool(s->w, arch_key(h->arch, "expert_weights_norm", key), true);
    }
    write_family_keys(s);
    if (s->tokenizer)
        copy_tokenizer(s);
    else
        gguf_writer_string(s->w, "tokenizer.ggml.model", "no_vocab");
}
