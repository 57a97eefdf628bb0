/* hf_families: what config.json calls a family, and what it leaves unsaid: rows only. */
#include <string.h>

#include "shard/arch/hf_parts.h"

static const struct hf_family families[] = {
    {.model_type = "llama", .arch = "llama", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4}"},
    {.model_type = "mistral", .arch = "llama", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":131072,\"rope_theta\":1e4}"},
    {.model_type = "mixtral", .arch = "llama", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":1e6}"},
    {.model_type = "ministral3", .arch = "mistral3", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":262144,\"rope_theta\":1e6}"},
    {.model_type = "mistral4", .arch = "mistral4",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":1048576,\"rope_theta\":1e4,"
                 "\"norm_topk_prob\":true}"},
    {.model_type = "llama4_text", .arch = "llama4",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":5e5,\"use_qk_norm\":true,"
                 "\"attn_temperature_tuning\":true,\"attn_scale\":0.1,\"floor_scale\":8192,"
                 "\"no_rope_layer_interval\":4,\"interleave_moe_layer_step\":1,\"num_experts_per_tok\":1}"},
    {.model_type = "qwen2", .arch = "qwen2", .flags = HF_CHOICE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,"
                 "\"max_window_layers\":28}"},
    {.model_type = "qwen2_moe", .arch = "qwen2moe", .flags = HF_CHOICE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,"
                 "\"max_window_layers\":28,\"norm_topk_prob\":false}"},
    {.model_type = "qwen3", .arch = "qwen3", .flags = HF_CHOICE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,"
                 "\"max_window_layers\":28,\"head_dim\":128}"},
    {.model_type = "qwen3_moe", .arch = "qwen3moe", .flags = HF_CHOICE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,"
                 "\"max_window_layers\":28,\"norm_topk_prob\":false}"},
    {.model_type = "qwen3_next", .arch = "qwen3next", .flags = HF_PLUS_ONE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,\"head_dim\":256,"
                 "\"partial_rotary_factor\":0.25,\"norm_topk_prob\":true,\"full_attention_interval\":4,"
                 "\"linear_conv_kernel_dim\":4}"},
    {.model_type = "qwen3_5_moe_text", .arch = "qwen35moe", .flags = HF_PLUS_ONE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":1e4,\"head_dim\":256,"
                 "\"partial_rotary_factor\":0.25,\"norm_topk_prob\":true,\"full_attention_interval\":4,"
                 "\"linear_conv_kernel_dim\":4}"},
    {.model_type = "deepseek_v2", .arch = "deepseek2",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4,"
                 "\"topk_method\":\"greedy\",\"scoring_func\":\"softmax\",\"norm_topk_prob\":false,"
                 "\"first_k_dense_replace\":0}"},
    {.model_type = "deepseek_v3", .arch = "deepseek2",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":4096,\"rope_theta\":1e4,"
                 "\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"first_k_dense_replace\":3,"
                 "\"routed_scaling_factor\":2.5}"},
    {.model_type = "deepseek_v32", .arch = "deepseek32",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":163840,\"rope_theta\":1e4,"
                 "\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"first_k_dense_replace\":3,"
                 "\"routed_scaling_factor\":2.5}"},
    {.model_type = "glm_moe_dsa", .arch = "glm-dsa",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":202752,\"rope_theta\":1e6,"
                 "\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"first_k_dense_replace\":3,"
                 "\"routed_scaling_factor\":2.5}"},
    {.model_type = "kimi_k2", .arch = "deepseek2",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":131072,\"rope_theta\":5e4,"
                 "\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"first_k_dense_replace\":1}"},
    {.model_type = "gpt_oss", .arch = "gpt-oss",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":1.5e5,\"head_dim\":64,"
                 "\"sliding_window\":128}"},
    {.model_type = "glm4_moe", .arch = "glm4moe",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":1e4,"
                 "\"partial_rotary_factor\":0.5,\"norm_topk_prob\":true,\"first_k_dense_replace\":1}"},
    {.model_type = "minimax_m2", .arch = "minimax-m2",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":196608,\"rope_theta\":5e6}"},
    {.model_type = "gemma2", .arch = "gemma2", .flags = HF_PLUS_ONE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":8192,\"rope_theta\":1e4,\"head_dim\":256,"
                 "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"sliding_window\":4096,"
                 "\"query_pre_attn_scalar\":256}"},
    {.model_type = "gemma3_text", .arch = "gemma3", .flags = HF_PLUS_ONE,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":131072,\"rope_theta\":1e6,\"head_dim\":256,"
                 "\"num_attention_heads\":8,\"num_key_value_heads\":4,\"sliding_window\":4096,"
                 "\"query_pre_attn_scalar\":256,\"rope_local_base_freq\":1e4}"},
    {.model_type = "phi3", .arch = "phi3",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":4096,\"rope_theta\":1e4}"},
    {.model_type = "phimoe", .arch = "phimoe",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":1e6,"
                 "\"router_jitter_noise\":0.01,\"norm_topk_prob\":false}"},
    {.model_type = "olmoe", .arch = "olmoe",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":4096,\"rope_theta\":1e4,"
                 "\"norm_topk_prob\":false}"},
    {.model_type = "granite", .arch = "granite", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4,"
                 "\"attention_multiplier\":1,\"embedding_multiplier\":1,\"residual_multiplier\":1,"
                 "\"logits_scaling\":1}"},
    {.model_type = "granitemoe", .arch = "granitemoe", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4,"
                 "\"attention_multiplier\":1,\"embedding_multiplier\":1,\"residual_multiplier\":1,"
                 "\"logits_scaling\":1}"},
    {.model_type = "granitemoeshared", .arch = "granitemoe", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4,"
                 "\"attention_multiplier\":1,\"embedding_multiplier\":1,\"residual_multiplier\":1,"
                 "\"logits_scaling\":1}"},
    {.model_type = "ernie4_5_moe", .arch = "ernie4_5-moe",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_theta\":5e5,"
                 "\"moe_layer_start_index\":1,\"moe_layer_interval\":1}"},
    {.model_type = "hunyuan_v1_moe", .arch = "hunyuan-moe",
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":2048,\"rope_theta\":1e4}"},
    {.model_type = "dots1", .arch = "dots1",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":2048,\"rope_theta\":1e4,"
                 "\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":false,\"first_k_dense_replace\":0}"},
    {.model_type = "bailing_moe", .arch = "bailingmoe", .flags = HF_HALVES,
     .defaults = "{\"rms_norm_eps\":1e-5,\"max_position_embeddings\":16384,\"rope_theta\":1e4,"
                 "\"score_function\":\"softmax\",\"norm_topk_prob\":true,\"first_k_dense_replace\":0}"},
    {.model_type = "bailing_moe_v2", .arch = "bailingmoe2",
     .defaults = "{\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768,\"rope_theta\":6e5,"
                 "\"score_function\":\"sigmoid\",\"norm_topk_prob\":true,\"first_k_dense_replace\":0,"
                 "\"partial_rotary_factor\":0.5}"},
};

size_t hf_family_count(void)
{
    return COUNTOF(families);
}

const struct hf_family *hf_family_at(size_t i)
{
    return &families[i];
}

const struct hf_family *hf_family_find(const char *model_type)
{
    for (size_t i = 0; i < COUNTOF(families); i++)
        if (strcmp(families[i].model_type, model_type) == 0)
            return &families[i];
    return NULL;
}
