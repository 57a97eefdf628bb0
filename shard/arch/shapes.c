/* shapes: published models as rows of options for synth_write(). */
#include <string.h>

#include "shard/arch/synth.h"

static const struct synth_shape shapes[] = {
    {"mixtral-8x7b",
     {.family = "llama", .layers = 32, .hidden = 4096, .heads = 32, .kv_heads = 8, .head_dim = 128, .experts = 8,
      .experts_used = 2, .expert_ffn = 14336, .vocab = 32000, .context = 32768, .norm_eps = 1e-5F}},
    {"qwen3-30b-a3b",
     {.family = "qwen3moe", .layers = 48, .hidden = 2048, .heads = 32, .kv_heads = 4, .head_dim = 128, .experts = 128,
      .experts_used = 8, .expert_ffn = 768, .ffn = 6144, .vocab = 151936, .context = 40960}},
    {"qwen3-235b-a22b",
     {.family = "qwen3moe", .layers = 94, .hidden = 4096, .heads = 64, .kv_heads = 4, .head_dim = 128, .experts = 128,
      .experts_used = 8, .expert_ffn = 1536, .ffn = 12288, .vocab = 151936, .context = 40960}},
    {"deepseek-v3", /* a head is of 128 values and 64 turned ones */
     {.family = "deepseek2", .layers = 61, .hidden = 7168, .heads = 128, .head_dim = 128, .q_rank = 1536,
      .experts = 256, .experts_used = 8, .expert_ffn = 2048, .ffn = 18432, .lead_dense = 3, .groups = 8,
      .groups_used = 4, .sigmoid = true, .experts_scale = 2.5F, .vocab = 129280, .context = 163840,
      .rope_base = 1e4F}},
    {"deepseek-v3.2", /* its indexers are as the family's always are */
     {.family = "deepseek32", .layers = 61, .hidden = 7168, .heads = 128, .head_dim = 128, .q_rank = 1536,
      .experts = 256, .experts_used = 8, .expert_ffn = 2048, .ffn = 18432, .lead_dense = 3, .groups = 8,
      .groups_used = 4, .sigmoid = true, .experts_scale = 2.5F, .vocab = 129280, .context = 163840,
      .rope_base = 1e4F}},
    {"glm-5",
     {.family = "glm-dsa", .layers = 78, .hidden = 6144, .heads = 64, .head_dim = 192, .n_rot = 64, .value_dim = 256,
      .q_rank = 2048, .experts = 256, .experts_used = 8, .expert_ffn = 2048, .ffn = 12288, .lead_dense = 3,
      .sigmoid = true, .experts_scale = 2.5F, .vocab = 154880, .context = 202752, .norm_eps = 1e-5F}},
    {"kimi-k2",
     {.family = "deepseek2", .layers = 61, .hidden = 7168, .heads = 64, .head_dim = 128, .q_rank = 1536,
      .experts = 384, .experts_used = 8, .expert_ffn = 2048, .ffn = 18432, .lead_dense = 1, .sigmoid = true,
      .experts_scale = 2.827F, .vocab = 163840, .context = 131072, .rope_base = 5e4F}},
    {"kimi-linear-48b-a3b",
     {.family = "kimi-linear", .layers = 27, .hidden = 2304, .heads = 32, .head_dim = 128, .experts = 256,
      .experts_used = 8, .expert_ffn = 1024, .ffn = 9216, .lead_dense = 1, .sigmoid = true, .experts_scale = 2.446F,
      .vocab = 163840, .context = 1048576, .rope_base = 1e4F, .norm_eps = 1e-5F}},
    {"gpt-oss-120b",
     {.family = "gpt-oss", .layers = 36, .hidden = 2880, .heads = 64, .kv_heads = 8, .head_dim = 64, .experts = 128,
      .experts_used = 4, .expert_ffn = 2880, .window = 128, .vocab = 201088, .context = 131072, .rope_base = 1.5e5F,
      .norm_eps = 1e-5F}},
    {"llama4-maverick",
     {.family = "llama4", .layers = 48, .hidden = 5120, .heads = 40, .kv_heads = 8, .head_dim = 128, .experts = 128,
      .experts_used = 1, .expert_ffn = 8192, .ffn = 16384, .moe_step = 2, .vocab = 202048, .context = 1048576,
      .rope_base = 5e5F, .norm_eps = 1e-5F}},
    {"glm-4.5",
     {.family = "glm4moe", .layers = 92, .hidden = 5120, .heads = 96, .kv_heads = 8, .head_dim = 128, .n_rot = 64,
      .experts = 160, .experts_used = 8, .expert_ffn = 1536, .ffn = 12288, .lead_dense = 3, .experts_scale = 2.5F,
      .vocab = 151552, .context = 131072, .norm_eps = 1e-5F}},
};

size_t synth_shape_count(void)
{
    return COUNTOF(shapes);
}

const struct synth_shape *synth_shape_at(size_t i)
{
    return &shapes[i];
}

const struct synth_shape *synth_shape_find(const char *name)
{
    for (size_t i = 0; i < COUNTOF(shapes); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}
