/* hf_config: config.json as the keys of a GGUF. What the keys may be is hparams.c's to check; here is checked what this
 * file alone can say wrongly, and what it asks for that no key stands for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/limits.h"
#include "shard/arch/hf_parts.h"

#define CONFIG "config.json"

/* ---- looking up ---- */

const json_t *hf_get(const struct hf_config *c, const char *key)
{
    json_t *const places[] = {c->text, c->root, c->defaults};
    for (size_t i = 0; i < COUNTOF(places); i++) {
        const json_t *v = json_object_get(places[i], key);
        if (v && !json_is_null(v))
            return v;
    }
    return NULL;
}

void hf_refuse(struct hf_config *c, const char *key, const char *words)
{
    if (c->status == 0)
        c->status = error_set(c->e, ERR_UNSUPPORTED, "%s/" CONFIG ": %s %s", c->h->path, key, words);
}

static void wrong(struct hf_config *c, const char *key, const char *words)
{
    if (c->status == 0)
        c->status = error_set(c->e, ERR_CORRUPT, "%s/" CONFIG ": %s %s", c->h->path, key, words);
}

/* A whole number, or a list that says the same one for every layer. */
uint32_t hf_count(struct hf_config *c, const char *key, uint32_t missing)
{
    const json_t *v = hf_get(c, key);
    if (!v) {
        if (missing == UINT32_MAX)
            wrong(c, key, "is missing");
        return missing;
    }
    for (size_t i = 1; i < json_array_size(v); i++)
        if (!json_equal(json_array_get(v, 0), json_array_get(v, i)))
            hf_refuse(c, key, "differs from layer to layer, which is not supported");
    v = json_is_array(v) ? json_array_get(v, 0) : v;
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || n >= UINT32_MAX)
        wrong(c, key, "is no whole number that can be");
    return c->status == 0 ? (uint32_t)n : 0;
}

double hf_real_in(struct hf_config *c, const json_t *object, const char *key, double missing)
{
    const json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v))
        return missing;
    if (!json_is_number(v))
        wrong(c, key, "is no number");
    return json_number_value(v);
}

double hf_real(struct hf_config *c, const char *key, double missing)
{
    const json_t *v = hf_get(c, key);
    if (v && !json_is_number(v))
        wrong(c, key, "is no number");
    return v ? json_number_value(v) : missing;
}

static uint32_t count_within(struct hf_config *c, const char *key, uint32_t missing, uint32_t low, uint32_t high)
{
    uint32_t n = hf_count(c, key, missing);
    if (c->status == 0 && (n < low || n > high))
        c->status = error_set(c->e, ERR_CORRUPT, "%s/" CONFIG ": %s is %u; %u to %u can be", c->h->path, key, n, low,
                              high);
    return n;
}

static bool is_true(const struct hf_config *c, const char *key)
{
    return json_is_true(hf_get(c, key));
}

static bool says(const struct hf_config *c, const char *key, const char *text)
{
    const char *v = json_string_value(hf_get(c, key));
    return v && strcmp(v, text) == 0;
}

/* ---- writing ---- */

void hf_put_u32(struct hf_config *c, const char *key, uint32_t v)
{
    char full[ARCH_KEY_BYTES];
    gguf_writer_u32(c->w, arch_key(c->arch, key, full), v);
}

void hf_put_f32(struct hf_config *c, const char *key, double v)
{
    char full[ARCH_KEY_BYTES];
    gguf_writer_f32(c->w, arch_key(c->arch, key, full), (float)v);
}

void hf_put_text(struct hf_config *c, const char *key, const char *v)
{
    char full[ARCH_KEY_BYTES];
    gguf_writer_string(c->w, arch_key(c->arch, key, full), v);
}

static void put_bool(struct hf_config *c, const char *key, bool v)
{
    char full[ARCH_KEY_BYTES];
    gguf_writer_bool(c->w, arch_key(c->arch, key, full), v);
}

/* Keys that mean the same; of several names of theirs the first that is there counts. */
enum key_kind { COUNT, REAL, FLAG };
enum { NAMES_MAX = 5 };
static const struct {
    const char *ours;
    enum key_kind kind;
    const char *theirs[NAMES_MAX];
} keys[] = {
    {"expert_feed_forward_length", COUNT, {"moe_intermediate_size"}},
    {"expert_count", COUNT, {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"}},
    {"expert_used_count", COUNT, {"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k",
                                  "moe_topk"}},
    {"expert_shared_count", COUNT, {"n_shared_experts", "num_shared_experts", "moe_num_shared_experts",
                                    "num_shared_expert"}},
    {"expert_shared_feed_forward_length", COUNT, {"shared_expert_intermediate_size", "shared_intermediate_size",
                                                  "moe_shared_expert_intermediate_size"}},
    {"expert_weights_scale", REAL, {"routed_scaling_factor"}},
    {"expert_weights_norm", FLAG, {"norm_topk_prob"}},
    {"leading_dense_block_count", COUNT, {"first_k_dense_replace", "moe_layer_start_index"}},
    {"interleave_moe_layer_step", COUNT, {"interleave_moe_layer_step", "moe_layer_interval"}},
    {"attention.layer_norm_rms_epsilon", REAL, {"rms_norm_eps", "norm_eps"}},
    {"attn_logit_softcapping", REAL, {"attn_logit_softcapping"}},
    {"final_logit_softcapping", REAL, {"final_logit_softcapping"}},
    {"attention.clamp_kqv", REAL, {"clip_qkv"}},
    {"attention.scale", REAL, {"attention_multiplier"}},
    {"embedding_scale", REAL, {"embedding_multiplier"}},
    {"residual_scale", REAL, {"residual_multiplier"}},
    {"logit_scale", REAL, {"logits_scaling"}},
    {"attention.q_lora_rank", COUNT, {"q_lora_rank"}},
    {"attention.kv_lora_rank", COUNT, {"kv_lora_rank"}},
    {"attention.indexer.head_count", COUNT, {"index_n_heads"}},
    {"attention.indexer.key_length", COUNT, {"index_head_dim"}},
    {"attention.indexer.top_k", COUNT, {"index_topk"}},
    {"ssm.conv_kernel", COUNT, {"linear_conv_kernel_dim"}},
};

static void write_keys(struct hf_config *c)
{
    for (size_t i = 0; i < COUNTOF(keys); i++)
        for (size_t k = 0; k < NAMES_MAX && keys[i].theirs[k]; k++) {
            const char *name = keys[i].theirs[k];
            if (!hf_get(c, name))
                continue;
            if (keys[i].kind == COUNT)
                hf_put_u32(c, keys[i].ours, hf_count(c, name, 0));
            else if (keys[i].kind == REAL)
                hf_put_f32(c, keys[i].ours, hf_real(c, name, 0));
            else
                put_bool(c, keys[i].ours, is_true(c, name));
            break;
        }
}

static void write_sizes(struct hf_config *c)
{
    const char *wide = hf_get(c, "intermediate_size_mlp") ? "intermediate_size_mlp" : "intermediate_size";
    hf_put_u32(c, "block_count", c->n_layers);
    hf_put_u32(c, "context_length", c->context);
    hf_put_u32(c, "embedding_length", c->n_embd);
    if (hf_get(c, wide))
        hf_put_u32(c, "feed_forward_length", hf_count(c, wide, 0));
    if (hf_get(c, "intermediate_size_mlp"))
        hf_put_u32(c, "expert_feed_forward_length", hf_count(c, "intermediate_size", UINT32_MAX));
    hf_put_u32(c, "attention.head_count", c->n_heads);
    if (c->arch->flags & ARCH_MLA) {
        hf_put_u32(c, "attention.head_count_kv", 1);
        hf_put_u32(c, "attention.key_length_mla", c->head_dim);
        hf_put_u32(c, "attention.value_length_mla", c->value_dim);
        hf_put_u32(c, "attention.key_length", hf_count(c, "kv_lora_rank", UINT32_MAX) + c->n_rot);
        hf_put_u32(c, "attention.value_length", hf_count(c, "kv_lora_rank", UINT32_MAX));
    } else {
        hf_put_u32(c, "attention.head_count_kv", c->n_kv_heads);
        hf_put_u32(c, "attention.key_length", c->head_dim);
        hf_put_u32(c, "attention.value_length", c->head_dim);
    }
    if ((c->arch->flags & ARCH_SOFTCAPS) && hf_get(c, "query_pre_attn_scalar"))
        hf_put_f32(c, "attention.scale", 1 / sqrt(hf_real(c, "query_pre_attn_scalar", 1)));
}

/* ---- experts ---- */

static void write_router(struct hf_config *c)
{
    static const char *const names[] = {"scoring_func", "score_function"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        if (!(c->arch->flags & ARCH_ROUTER_KEYS) || !hf_get(c, names[i]))
            continue;
        if (says(c, names[i], "softmax"))
            hf_put_u32(c, "expert_gating_func", 1);
        else if (says(c, names[i], "sigmoid"))
            hf_put_u32(c, "expert_gating_func", 2);
        else
            hf_refuse(c, names[i], "is neither softmax nor sigmoid");
    }
    if (c->arch->flags & ARCH_NORM_BIAS) {
        hf_put_f32(c, "expert_near_scores", 2 * hf_real(c, "router_jitter_noise", 0));
        put_bool(c, "attention.centred_norms", true);
    }
    if (hf_get(c, "n_group") && !says(c, "topk_method", "greedy")) {
        hf_put_u32(c, "expert_group_count", hf_count(c, "n_group", 0));
        hf_put_u32(c, "expert_group_used_count", hf_count(c, "topk_group", UINT32_MAX));
    }
}

/* Which layers have experts must be what the two keys of the rules can say. */
static void check_expert_layers(struct hf_config *c)
{
    const json_t *list = hf_get(c, "moe_layers");
    uint32_t step = hf_count(c, "interleave_moe_layer_step", 1);
    if (json_array_size(hf_get(c, "mlp_only_layers")) > 0)
        hf_refuse(c, "mlp_only_layers", "names dense layers, which this family does not have in this version");
    if (hf_count(c, "decoder_sparse_step", 1) != 1)
        hf_refuse(c, "decoder_sparse_step", "is not 1, which is not supported");
    if (hf_get(c, "moe_layer_freq") && hf_count(c, "moe_layer_freq", 1) != 1)
        hf_refuse(c, "moe_layer_freq", "is not 1, which is not supported");
    if (hf_get(c, "moe_layer_end_index") && json_integer_value(hf_get(c, "moe_layer_end_index")) != -1 &&
        hf_count(c, "moe_layer_end_index", 0) + 1 < c->n_layers)
        hf_refuse(c, "moe_layer_end_index", "is not the last layer, which is not supported");
    for (size_t i = 0, n = 0; list && step > 0 && i < c->n_layers; i++) {
        bool experts = (i + 1) % step == 0;
        n += experts;
        if (experts && json_integer_value(json_array_get(list, n - 1)) != (json_int_t)i)
            hf_refuse(c, "moe_layers", "does not name every layer of interleave_moe_layer_step");
        if (i + 1 == c->n_layers && json_array_size(list) != n)
            hf_refuse(c, "moe_layers", "names other layers than interleave_moe_layer_step");
    }
}

/* ---- which layers see what ---- */

static void put_pattern(struct hf_config *c, const int32_t *flags)
{
    char full[ARCH_KEY_BYTES];
    gguf_writer_i32s(c->w, arch_key(c->arch, "attention.sliding_window_pattern", full), flags, c->n_layers);
}

/* flags[i]: layer i is of the type. False: the config does not say. */
static bool list_types(struct hf_config *c, const char *type, int32_t *flags)
{
    const json_t *types = hf_get(c, "layer_types");
    if (!types)
        return false;
    if (json_array_size(types) != c->n_layers)
        wrong(c, "layer_types", "is no list of a type for every layer");
    for (uint32_t i = 0; c->status == 0 && i < c->n_layers; i++) {
        const char *text = json_string_value(json_array_get(types, i));
        flags[i] = text && strcmp(text, type) == 0;
        if (!text || (!flags[i] && strcmp(text, "full_attention") != 0))
            hf_refuse(c, "layer_types", "has a type that this family does not have in this version");
    }
    return true;
}

static void write_windows(struct hf_config *c, int32_t *flags)
{
    const char *period_key = hf_get(c, "sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    uint32_t window = hf_get(c, "sliding_window") ? hf_count(c, "sliding_window", 0) : 0, first = 0, any = 0;
    if (window == 0 || ((c->family->flags & HF_CHOICE) && !is_true(c, "use_sliding_window"))) {
        if (c->arch->window_period > 0)
            hf_put_u32(c, "attention.sliding_window", 0);
        return;
    }
    uint32_t period = hf_get(c, period_key) ? hf_count(c, period_key, 0) : c->arch->window_period;
    if (c->family->flags & HF_CHOICE)
        first = hf_count(c, "max_window_layers", 0);
    if (!list_types(c, "sliding_attention", flags))
        for (uint32_t i = 0; i < c->n_layers; i++)
            flags[i] = i >= first && (period == 0 || i % period != period - 1);
    for (uint32_t i = 0; i < c->n_layers; i++)
        any += flags[i] != 0;
    if (any == 0 && c->arch->window_period == 0)
        return;
    hf_put_u32(c, "attention.sliding_window", window);
    put_pattern(c, flags);
}

/* Which layers have an indexer of their own: all, where the config says nothing. */
static void write_indexers(struct hf_config *c, int32_t *flags)
{
    const json_t *types = hf_get(c, "indexer_types");
    char full[ARCH_KEY_BYTES];
    if (!types && (hf_get(c, "index_topk_pattern") || hf_count(c, "index_topk_freq", 1) > 1))
        hf_refuse(c, "indexer_types", "is not there, and layers that share indexers are not told otherwise");
    if (types && json_array_size(types) != c->n_layers)
        wrong(c, "indexer_types", "is no list of a type for every layer");
    for (uint32_t i = 0; c->status == 0 && i < c->n_layers; i++) {
        const char *text = types ? json_string_value(json_array_get(types, i)) : "full";
        flags[i] = text && strcmp(text, "full") == 0;
        if (!text || (!flags[i] && strcmp(text, "shared") != 0))
            hf_refuse(c, "indexer_types", "has a type that is not known");
    }
    gguf_writer_i32s(c->w, arch_key(c->arch, "attention.indexer.types", full), flags, c->n_layers);
}

/* As Llama 4: layers with RoPE see their chunk, the others all. */
static void write_chunks(struct hf_config *c, int32_t *flags)
{
    const json_t *list = hf_get(c, "no_rope_layers");
    uint32_t period = count_within(c, "no_rope_layer_interval", 4, 1, ARCH_LAYERS_MAX);
    int32_t *types = mem_array(c->n_layers, sizeof(*types));
    if (json_array_size(list) > 0 && json_array_size(list) != c->n_layers)
        wrong(c, "no_rope_layers", "is no list of a flag for every layer");
    for (uint32_t i = 0; c->status == 0 && i < c->n_layers; i++)
        flags[i] = json_array_size(list) > 0 ? json_integer_value(json_array_get(list, i)) != 0 : (i + 1) % period != 0;
    if (list_types(c, "chunked_attention", types) && memcmp(types, flags, c->n_layers * sizeof(*flags)) != 0)
        hf_refuse(c, "layer_types", "has chunks in other layers than those with RoPE");
    mem_free(types);
    put_pattern(c, flags);
    hf_put_u32(c, "attention.sliding_window", 1); /* that there are chunks */
    hf_put_u32(c, "attention.chunk_size", hf_get(c, "attention_chunk_size") ? hf_count(c, "attention_chunk_size", 0)
                                                                           : ARCH_CONTEXT_MAX);
    hf_put_f32(c, "attention.temperature_scale",
               is_true(c, "attn_temperature_tuning") ? hf_real(c, "attn_scale", 0.1) : 0);
    hf_put_u32(c, "attention.temperature_length", (uint32_t)fmin(fmax(hf_real(c, "floor_scale", 8192), 0), 1e9));
    put_bool(c, "attention.qk_norm", is_true(c, "use_qk_norm"));
}

/* Layers that keep a state: all but every n-th. */
static void write_delta(struct hf_config *c, int32_t *flags)
{
    uint32_t interval = count_within(c, "full_attention_interval", 4, 1, ARCH_LAYERS_MAX);
    if (list_types(c, "linear_attention", flags)) {
        for (interval = 1; interval < c->n_layers && flags[interval - 1]; interval++) {
        }
        for (uint32_t i = 0; i < c->n_layers; i++)
            if ((flags[i] != 0) != ((i + 1) % interval != 0))
                hf_refuse(c, "layer_types", "has no full attention in every n-th layer and nowhere else");
    }
    c->k_heads = count_within(c, "linear_num_key_heads", UINT32_MAX, 1, ARCH_HEADS_MAX);
    c->v_heads = count_within(c, "linear_num_value_heads", UINT32_MAX, 1, ARCH_HEADS_MAX);
    c->k_dim = count_within(c, "linear_key_head_dim", UINT32_MAX, 1, HEAD_DIM_MAX);
    c->v_dim = count_within(c, "linear_value_head_dim", UINT32_MAX, 1, HEAD_DIM_MAX);
    if (c->status == 0 && c->v_heads % c->k_heads != 0)
        wrong(c, "linear_num_value_heads", "is no multiple of linear_num_key_heads");
    hf_put_u32(c, "full_attention_interval", interval);
    hf_put_u32(c, "ssm.state_size", c->k_dim);
    hf_put_u32(c, "ssm.group_count", c->k_heads);
    hf_put_u32(c, "ssm.time_step_rank", c->v_heads);
    hf_put_u32(c, "ssm.inner_size", c->v_heads * c->v_dim);
}

static void write_layers(struct hf_config *c)
{
    int32_t *flags = mem_array(c->n_layers, sizeof(*flags));
    if (c->arch->flags & ARCH_CHUNKS)
        write_chunks(c, flags);
    else if (c->arch->flags & ARCH_DELTA)
        write_delta(c, flags);
    else if (c->arch->index != INDEX_NONE)
        write_indexers(c, flags);
    else
        write_windows(c, flags);
    mem_free(flags);
}

/* ---- what no key stands for ---- */

static void check_fixed(struct hf_config *c)
{
    const char *act = json_string_value(hf_get(c, hf_get(c, "hidden_activation") ? "hidden_activation" : "hidden_act"));
    bool gelu = c->arch->ffn == FFN_GELU;
    if (act && strcmp(act, "silu") != 0 && strncmp(act, "gelu", 4) != 0 && strcmp(act, "swish") != 0)
        hf_refuse(c, "hidden_act", "is an activation that is not supported");
    else if (act && gelu != (strncmp(act, "gelu", 4) == 0))
        hf_refuse(c, "hidden_act", "is another activation than this family has");
    if (c->arch->ffn == FFN_CLAMPED &&
        (hf_real(c, "swiglu_limit", 7) != 7 || hf_real(c, "swiglu_alpha", 1.702) != 1.702))
        hf_refuse(c, "swiglu_limit", "and swiglu_alpha are not 7 and 1.702, which is not supported");
    if (json_is_false(hf_get(c, "rope_interleave")))
        hf_refuse(c, "rope_interleave", "is false, which is not supported");
    if ((c->family->flags & HF_HALVES) && is_true(c, "use_qkv_bias"))
        hf_refuse(c, "use_qkv_bias", "is true, which is not supported for this family");
    if (is_true(c, "norm_head"))
        hf_refuse(c, "norm_head", "is true, which is not supported");
    if (is_true(c, "use_bidirectional_attention"))
        hf_refuse(c, "use_bidirectional_attention", "is true: it is no model that writes");
}

/* ---- opening ---- */

static int refuse_type(const struct hf_config *c, const char *type, struct error *e)
{
    char list[ARCH_LIST_BYTES] = "";
    size_t n = 0;
    for (size_t i = 0; i < hf_family_count() && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", hf_family_at(i)->model_type);
    return error_set(e, ERR_UNSUPPORTED, "%s: is of type \"%.60s\"; this version runs %s", c->h->path, type, list);
}

/* The text model's own part where there is one: what is around it sees or hears. */
static int find_family(struct hf_config *c, struct error *e)
{
    char inner[64];
    json_t *part = json_object_get(c->root, "text_config");
    const char *type = json_string_value(json_object_get(c->root, "model_type"));
    if (json_is_object(part)) {
        const char *own = json_string_value(json_object_get(part, "model_type"));
        snprintf(inner, sizeof(inner), "%.40s_text", type ? type : "");
        c->text = part;
        type = own ? own : inner;
    }
    if (!type)
        return error_set(e, ERR_CORRUPT, "%s/" CONFIG ": has no model_type, so the family is unknown", c->h->path);
    c->family = hf_family_find(type);
    if (!c->family)
        return refuse_type(c, type, e);
    c->arch = arch_find(c->family->arch);
    c->defaults = json_loads(c->family->defaults, 0, NULL);
    return 0;
}

/* The numbers that layouts are made of. */
static void read_numbers(struct hf_config *c)
{
    c->n_layers = count_within(c, "num_hidden_layers", UINT32_MAX, 1, ARCH_LAYERS_MAX);
    c->n_embd = count_within(c, "hidden_size", UINT32_MAX, 1, ARCH_WIDTH_MAX);
    c->n_heads = count_within(c, "num_attention_heads", UINT32_MAX, 1, ARCH_HEADS_MAX);
    c->n_kv_heads = count_within(c, "num_key_value_heads", c->n_heads, 1, ARCH_HEADS_MAX);
    c->context = count_within(c, "max_position_embeddings", UINT32_MAX, 1, ARCH_CONTEXT_MAX);
    if (c->status != 0)
        return;
    if (c->arch->flags & ARCH_MLA) {
        c->nope_dim = count_within(c, "qk_nope_head_dim", UINT32_MAX, 1, HEAD_DIM_MAX);
        c->n_rot = count_within(c, "qk_rope_head_dim", UINT32_MAX, 2, HEAD_DIM_MAX);
        c->value_dim = count_within(c, "v_head_dim", UINT32_MAX, 1, HEAD_DIM_MAX);
        c->head_dim = c->nope_dim + c->n_rot;
    } else {
        uint32_t dim = c->n_embd / c->n_heads;
        c->head_dim = count_within(c, "head_dim", dim ? dim : 1, 2, HEAD_DIM_MAX);
    }
    for (size_t i = 0; i < COUNTOF(keys); i++)
        for (size_t k = 0; strcmp(keys[i].ours, "expert_count") == 0 && k < NAMES_MAX && keys[i].theirs[k]; k++)
            if (c->n_experts == 0 && hf_get(c, keys[i].theirs[k]))
                c->n_experts = count_within(c, keys[i].theirs[k], 0, 0, EXPERTS_MAX);
}

int hf_config_open(struct hf_config *c, const struct hf *h, struct gguf_writer *w, struct error *e)
{
    *c = (struct hf_config){.h = h, .w = w, .e = e};
    int r = hf_load_json(h, CONFIG, HF_CONFIG_BYTES_MAX, &c->root, e);
    if (r == 0)
        r = find_family(c, e);
    if (r != 0)
        return r;
    read_numbers(c);
    return c->status;
}

static void write_name(struct hf_config *c)
{
    char *real = realpath(c->h->path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    gguf_writer_string(c->w, "general.name", slash && slash[1] ? slash + 1 : c->h->path);
    free(real);
}

/* How an embedding model of Sentence Transformers makes one vector of a text's rows. Others have no such file. */
static void write_pooling(struct hf_config *c)
{
    static const struct {
        const char *key;
        uint32_t pooling; /* as GGUF counts */
    } ways[] = {{"pooling_mode_mean_tokens", 1}, {"pooling_mode_cls_token", 2}, {"pooling_mode_lasttoken", 3}};
    json_t *j = NULL;
    if (hf_load_json(c->h, "1_Pooling/config.json", HF_CONFIG_BYTES_MAX, &j, NULL) != 0)
        return;
    for (size_t i = 0; i < COUNTOF(ways); i++) {
        if (json_is_true(json_object_get(j, ways[i].key)))
            hf_put_u32(c, "pooling_type", ways[i].pooling);
    }
    json_decref(j);
}

int hf_config_write(struct hf_config *c)
{
    gguf_writer_string(c->w, "general.architecture", c->arch->name);
    write_name(c);
    check_fixed(c);
    check_expert_layers(c);
    hf_write_rope(c);
    if (c->status != 0)
        return c->status;
    write_sizes(c);
    write_keys(c);
    write_router(c);
    write_layers(c);
    write_pooling(c);
    return c->status;
}

void hf_config_close(struct hf_config *c)
{
    json_decref(c->root);
    json_decref(c->defaults);
    for (size_t i = 0; i < COUNTOF(c->divisors); i++)
        mem_free(c->divisors[i]);
}
