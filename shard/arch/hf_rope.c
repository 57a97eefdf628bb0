/* hf_rope: rope_scaling of old and rope_parameters of new configs.
 *
 * What a GGUF says with a key becomes that key; lists of divisors, and llama3's
 * rule, which yields one, become the tensors that GGUF has for them.          */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/limits.h"
#include "shard/arch/hf_parts.h"

struct rope {
    struct hf_config *c;
    const json_t *p; /* the parameters; NULL: none */
    double theta, factor, original;
};

static const char *kind_of(const json_t *p)
{
    const char *kind = json_string_value(json_object_get(p, "rope_type"));
    kind = kind ? kind : json_string_value(json_object_get(p, "type"));
    return kind ? kind : "default";
}

/* 0.1 m ln f + 1: how much longer cos and sin become. */
static double growth(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static void write_yarn(const struct rope *r)
{
    struct hf_config *c = r->c;
    bool mla = (c->arch->flags & ARCH_MLA) != 0;
    double m = hf_real_in(c, r->p, "mscale", 0), all = hf_real_in(c, r->p, "mscale_all_dim", 0);
    double grown = m != 0 && all != 0 ? growth(r->factor, m) / growth(r->factor, all) : growth(r->factor, 1);
    double fast = hf_real_in(c, r->p, "beta_fast", 0), slow = hf_real_in(c, r->p, "beta_slow", 0);
    char key[ARCH_KEY_BYTES];
    grown = hf_real_in(c, r->p, "attention_factor", grown);
    hf_put_text(c, "rope.scaling.type", "yarn");
    hf_put_f32(c, "rope.scaling.factor", r->factor);
    if (fast > 0)
        hf_put_f32(c, "rope.scaling.yarn_beta_fast", fast);
    if (slow > 0)
        hf_put_f32(c, "rope.scaling.yarn_beta_slow", slow);
    if (json_is_false(json_object_get(r->p, "truncate")))
        gguf_writer_bool(c->w, arch_key(c->arch, "rope.scaling.yarn_truncate", key), false);
    /* the forward pass lets cos and sin grow by itself, but not where keys are compressed: there scores do */
    grown /= mla ? 1 : growth(r->factor, 1);
    if (fabs(grown - 1) > 1e-6)
        hf_put_f32(c, "rope.scaling.attn_factor", grown);
    if (mla)
        hf_put_f32(c, "rope.scaling.yarn_log_multiplier", c->arch->yarn_log_unit * all);
}

static float *new_divisors(struct hf_config *c, int which)
{
    c->divisors[which] = mem_array(c->n_rot / 2 + 1, sizeof(float));
    return c->divisors[which];
}

static void write_llama3(const struct rope *r)
{
    struct hf_config *c = r->c;
    double low = hf_real_in(c, r->p, "low_freq_factor", 1), high = hf_real_in(c, r->p, "high_freq_factor", 4);
    float *divisors = new_divisors(c, 0);
    for (uint32_t i = 0; i < c->n_rot / 2; i++) {
        double wave = 2 * M_PI * pow(r->theta, 2.0 * i / c->n_rot);
        double smooth = high > low ? (r->original / wave - low) / (high - low) : 0;
        if (wave < r->original / high)
            divisors[i] = 1;
        else if (wave > r->original / low || high <= low)
            divisors[i] = (float)r->factor;
        else
            divisors[i] = (float)(1 / ((1 - smooth) / r->factor + smooth));
    }
}

static void read_list(struct hf_config *c, const json_t *list, int which, const char *key)
{
    float *divisors = new_divisors(c, which);
    if (json_array_size(list) != c->n_rot / 2)
        hf_refuse(c, key, "is no list of a divisor for every pair");
    for (uint32_t i = 0; i < c->n_rot / 2; i++) {
        divisors[i] = (float)json_number_value(json_array_get(list, i));
        if (!(divisors[i] > 0))
            hf_refuse(c, key, "has a divisor that is not above 0");
    }
}

static void write_longrope(const struct rope *r)
{
    struct hf_config *c = r->c;
    bool is_long = c->context > r->original;
    double grown = r->factor > 1 && r->original > 1 ? sqrt(1 + log(r->factor) / log(r->original)) : 1;
    grown = hf_real_in(c, r->p, is_long ? "long_mscale" : "short_mscale", grown);
    read_list(c, json_object_get(r->p, "long_factor"), 1, "long_factor");
    read_list(c, json_object_get(r->p, "short_factor"), 2, "short_factor");
    hf_put_text(c, "rope.scaling.type", "longrope");
    hf_put_f32(c, "rope.scaling.attn_factor", hf_real_in(c, r->p, "attention_factor", grown));
}

/* NTK: its alpha is a larger base; its factor changes nothing within the model's own context. */
static void write_dynamic(struct rope *r)
{
    double alpha = hf_real_in(r->c, r->p, "alpha", 1), n = r->c->n_rot;
    if (n > 2 && alpha > 0)
        r->theta *= pow(alpha, n / (n - 2));
}

static void write_kind(struct rope *r)
{
    struct hf_config *c = r->c;
    const char *kind = kind_of(r->p);
    bool phi = strcmp(c->family->model_type, "phi3") == 0; /* whose longrope had other names once */
    bool is_long = strcmp(kind, "longrope") == 0 || strcmp(kind, "su") == 0 || (phi && strcmp(kind, "yarn") == 0);
    if (strcmp(kind, "default") == 0 || strcmp(kind, "mrope") == 0)
        return;
    if (r->original > 0 && r->original < ARCH_CONTEXT_MAX)
        hf_put_u32(c, "rope.scaling.original_context_length", (uint32_t)r->original);
    if (is_long) {
        write_longrope(r);
    } else if (strcmp(kind, "linear") == 0) {
        hf_put_text(c, "rope.scaling.type", "linear");
        hf_put_f32(c, "rope.scaling.factor", r->factor);
    } else if (strcmp(kind, "llama3") == 0) {
        write_llama3(r);
    } else if (strcmp(kind, "yarn") == 0) {
        write_yarn(r);
    } else if (strcmp(kind, "dynamic") == 0) {
        write_dynamic(r);
    } else {
        hf_refuse(c, "rope_scaling", "is of a kind that is not supported (linear, dynamic, yarn, llama3 and longrope "
                                     "are)");
    }
}

/* Layers with a window may have a base of their own. */
static void write_local(struct hf_config *c, const json_t *local)
{
    if (c->arch->local_rope_base <= 0)
        return;
    if (strcmp(kind_of(local), "default") != 0)
        hf_refuse(c, "rope_parameters", "scales RoPE of layers with a window, which is not supported");
    double base = hf_real(c, "rope_local_base_freq", c->arch->local_rope_base);
    hf_put_f32(c, "rope.freq_base_swa", hf_real_in(c, local, "rope_theta", base));
}

static void read_rotated(struct hf_config *c, const json_t *p)
{
    if (c->arch->flags & ARCH_MLA)
        return;
    double share = hf_real_in(c, p, "partial_rotary_factor", hf_real(c, "partial_rotary_factor", 1));
    double n = hf_get(c, "rotary_dim") ? hf_real(c, "rotary_dim", 0) : floor(c->head_dim * share);
    if (c->status == 0 && !(n >= 2 && n <= HEAD_DIM_MAX))
        hf_refuse(c, "partial_rotary_factor", "leaves nothing to rotate, or more than there is");
    if (c->status == 0 && (c->family->flags & HF_HALVES) && (uint32_t)n != c->head_dim)
        hf_refuse(c, "partial_rotary_factor", "rotates a part of every head, which this family does not have here");
    c->n_rot = c->status == 0 ? (uint32_t)n : 2;
}

void hf_write_rope(struct hf_config *c)
{
    const json_t *p = hf_get(c, "rope_parameters"), *local = NULL;
    p = p ? p : hf_get(c, "rope_scaling");
    if (json_is_object(json_object_get(p, "full_attention"))) {
        local = json_object_get(p, "sliding_attention");
        p = json_object_get(p, "full_attention");
    }
    struct rope r = {.c = c, .p = p, .theta = hf_real_in(c, p, "rope_theta", hf_real(c, "rope_theta", 10000))};
    read_rotated(c, p);
    r.original = hf_real_in(c, p, "original_max_position_embeddings", c->context);
    r.original = hf_real(c, "original_max_position_embeddings", r.original);
    r.factor = hf_real_in(c, p, "factor", r.original > 0 ? c->context / r.original : 1);
    if (c->status == 0 && (!(r.theta > 1) || !(r.factor > 0) || !(r.original >= 1)))
        hf_refuse(c, "rope_scaling", "or rope_theta is of numbers that cannot be");
    if (c->status != 0)
        return;
    write_kind(&r);
    hf_put_f32(c, "rope.freq_base", r.theta);
    hf_put_u32(c, "rope.dimension_count", c->n_rot);
    write_local(c, local);
    double temper = hf_real_in(c, p, "llama_4_scaling_beta", 0);
    if (temper != 0) {
        hf_put_f32(c, "attention.temperature_scale", temper);
        hf_put_u32(c, "attention.temperature_length", (uint32_t)fmin(r.original, ARCH_CONTEXT_MAX));
    }
}
