/* arch: the families: rows only, and what is asked of a row. */
#include "shard/arch/arch.h"

#include <stdio.h>
#include <string.h>

static const struct arch families[] = {
    {.name = "llama", .words = "Llama, Mistral, Mixtral", .flags = ARCH_DENSE | ARCH_MOE | ARCH_NORM_EXPERTS},
    {.name = "qwen2", .words = "Qwen2", .rope_halves = true, .flags = ARCH_DENSE | ARCH_QKV_BIAS},
    {.name = "qwen2moe", .words = "Qwen2 MoE", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QKV_BIAS | ARCH_SHARED | ARCH_SHARED_GATE},
    {.name = "qwen3", .words = "Qwen3", .rope_halves = true, .flags = ARCH_DENSE | ARCH_QK_NORM},
    {.name = "qwen3moe", .words = "Qwen3 MoE", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_NORM_EXPERTS},
    {.name = "olmoe", .words = "OLMoE", .rope_halves = true, .flags = ARCH_MOE | ARCH_QK_NORM_WIDE},
    {.name = "granite", .words = "Granite 3", .flags = ARCH_DENSE | ARCH_SCALES},
    {.name = "granitemoe", .words = "Granite 3 MoE", .scores = SCORE_SOFTMAX_CHOSEN,
     .flags = ARCH_MOE | ARCH_SCALES | ARCH_SHARED},
    {.name = "phi3", .words = "Phi-3, Phi-4", .rope_halves = true, .fuses = true, .flags = ARCH_DENSE | ARCH_FUSED_UP},
    {.name = "phimoe", .words = "Phi-3.5 MoE", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QKV_BIAS | ARCH_NORM_BIAS | ARCH_NORM_EXPERTS},
    {.name = "gemma2", .words = "Gemma 2", .rope_halves = true, .ffn = FFN_GELU, .window_period = 2,
     .wide_scale_layers = 46, .flags = ARCH_DENSE | ARCH_POST_NORMS | ARCH_SOFTCAPS | ARCH_EMBED_ROOT},
    {.name = "gemma3", .words = "Gemma 3", .rope_halves = true, .ffn = FFN_GELU, .window_period = 6,
     .local_rope_base = 10000, .wide_scale_layers = 62,
     .flags = ARCH_DENSE | ARCH_QK_NORM | ARCH_POST_NORMS | ARCH_SOFTCAPS | ARCH_EMBED_ROOT},
    {.name = "ernie4_5-moe", .words = "Ernie 4.5 MoE",
     .flags = ARCH_MOE | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_MOE_STEP | ARCH_NORM_EXPERTS},
    {.name = "hunyuan-moe", .words = "Hunyuan MoE", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_QK_NORM_LATE | ARCH_SHARED | ARCH_NORM_EXPERTS},
    {.name = "dots1", .words = "dots.llm1", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS},
    {.name = "bailingmoe", .words = "Ling", .flags = ARCH_MOE | ARCH_SHARED | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS},
    {.name = "bailingmoe2", .words = "Ling 2, Ring 2", .rope_halves = true, .fuses = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS |
              ARCH_NEXTN},
    {.name = "glm4moe", .words = "GLM-4.5, GLM-4.6", .rope_halves = true, .scores = SCORE_SIGMOID,
     .flags = ARCH_MOE | ARCH_QKV_BIAS | ARCH_QK_NORM_MAYBE | ARCH_ODD_FFN_NORM | ARCH_SHARED | ARCH_SELECT_BIAS |
              ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS | ARCH_NEXTN},
    {.name = "gpt-oss", .words = "gpt-oss", .rope_halves = true, .ffn = FFN_CLAMPED, .window_period = 2,
     .scores = SCORE_SOFTMAX_CHOSEN,
     .flags = ARCH_MOE | ARCH_QKV_BIAS | ARCH_ODD_FFN_NORM | ARCH_SINKS | ARCH_EXPERT_BIAS},
    {.name = "llama4", .words = "Llama 4", .scores = SCORE_SIGMOID_INPUT, .window_period = 4,
     .flags = ARCH_MOE | ARCH_SHARED | ARCH_MOE_STEP | ARCH_CHUNKS},
    {.name = "mistral3", .words = "Mistral 3, Ministral 3", .yarn_log_unit = 1,
     .flags = ARCH_DENSE | ARCH_MOE | ARCH_NORM_EXPERTS | ARCH_TEMPER},
    {.name = "deepseek2", .words = "DeepSeek V2, V3, R1, Kimi K2", .yarn_log_unit = 0.1F,
     .flags = ARCH_MOE | ARCH_MLA | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS | ARCH_NEXTN |
              ARCH_TEMPER},
    {.name = "mistral4", .words = "Mistral 4", .yarn_log_unit = 0.1F,
     .flags = ARCH_MOE | ARCH_MLA | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS | ARCH_NEXTN |
              ARCH_TEMPER},
    {.name = "deepseek32", .words = "DeepSeek V3.2", .yarn_log_unit = 0.1F, .scores = SCORE_SIGMOID,
     .index = INDEX_HALVES,
     .flags = ARCH_MOE | ARCH_MLA | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS | ARCH_NEXTN},
    {.name = "glm-dsa", .words = "GLM-5", .yarn_log_unit = 0.1F, .scores = SCORE_SIGMOID, .index = INDEX_PAIRS,
     .index_shared_context = 1 << 20,
     .flags = ARCH_MOE | ARCH_MLA | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS | ARCH_NEXTN},
    {.name = "qwen3next", .words = "Qwen3 Next", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_ODD_FFN_NORM | ARCH_SHARED | ARCH_SHARED_GATE | ARCH_NORM_EXPERTS |
              ARCH_DELTA | ARCH_DELTA_BOTH | ARCH_NEXTN},
    {.name = "qwen35moe", .words = "Qwen3.5 MoE", .rope_halves = true,
     .flags = ARCH_MOE | ARCH_QK_NORM | ARCH_ODD_FFN_NORM | ARCH_SHARED | ARCH_SHARED_GATE | ARCH_NORM_EXPERTS |
              ARCH_DELTA | ARCH_DELTA_TILED | ARCH_SECTIONS | ARCH_NEXTN},
    {.name = "kimi-linear", .words = "Kimi Linear", .scores = SCORE_SIGMOID, .delta_by_channel = true, .no_rope = true,
     .flags = ARCH_MOE | ARCH_MLA | ARCH_SHARED | ARCH_SELECT_BIAS | ARCH_LEAD_DENSE | ARCH_ROUTER_KEYS |
              ARCH_NORM_EXPERTS | ARCH_DELTA},
    {.name = "minimax-m2", .words = "MiniMax M2", .rope_halves = true, .scores = SCORE_SIGMOID,
     .flags = ARCH_MOE | ARCH_QK_NORM_WIDE | ARCH_SELECT_BIAS | ARCH_ROUTER_KEYS | ARCH_NORM_EXPERTS},
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

void arch_sections(uint32_t n_rot, int32_t sections[static 4])
{
    for (uint32_t axis = 0; axis < 4; axis++)
        sections[axis] = axis < 3 ? (int32_t)((n_rot / 2 + 2 - axis) / 3) : 0;
}
