/* rope: inverse frequencies with the scaling applied.
 *
 * linear: all frequencies divided by the factor.  yarn: those below a ramp are
 * divided, those above are kept, between them a mix; cos and sin grow by
 * 0.1 ln(factor) + 1.  A rope_freqs tensor holds a divisor a frequency.
 *
 * longrope: divided by one of two lists of divisors, that for long contexts when
 * the model's context is longer than the one that it was made from: keys that are
 * kept cannot change lists when a sequence grows.                            */
#include <math.h>

#include "kernels/limits.h"
#include "shard/arch/arch.h"

/* The pair whose wave turns `turns` times within the original context. */
static double yarn_dim(const struct hparams *h, double turns)
{
    return h->n_rot * log(h->rope_context / (turns * 2 * M_PI)) / (2 * log(h->rope_base));
}

static double yarn_ramp(const struct hparams *h, uint32_t pair)
{
    double low = yarn_dim(h, h->rope_beta_fast), high = yarn_dim(h, h->rope_beta_slow);
    low = fmax(h->rope_truncate ? floor(low) : low, 0);
    high = fmin(h->rope_truncate ? ceil(high) : high, h->n_rot - 1);
    double ramp = (pair - low) / fmax(high - low, 0.001);
    return fmin(fmax(ramp, 0), 1);
}

static const struct model_tensor *find_divisors(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    if (h->rope_kind != ROPE_KIND_LONG)
        return model_tensor_find(m, ROLE_ROPE_FREQS, -1);
    return model_tensor_find(m, h->context > h->rope_context ? ROLE_ROPE_LONG : ROLE_ROPE_SHORT, -1);
}

void model_rope_local(const struct model *m, float *inv_freq)
{
    const struct hparams *h = model_hparams(m);
    for (uint32_t p = 0; p < h->n_rot / 2; p++)
        inv_freq[p] = (float)pow(h->local_rope_base, -2.0 * p / h->n_rot);
}

static bool in_section(const struct hparams *h, uint32_t pair)
{
    const uint32_t *s = h->rope_sections;
    return s[0] + s[1] + s[2] == 0 || pair < 3 * s[pair % 3];
}

void model_rope(const struct model *m, float *inv_freq, float *scale)
{
    const struct hparams *h = model_hparams(m);
    const struct model_tensor *freqs = find_divisors(m);
    float divisors[HEAD_DIM_MAX / 2];
    if (freqs && model_tensor_read(m, freqs, 0, 0, 1, divisors, NULL) != 0)
        freqs = NULL; /* their shape was checked at open: they can be read */
    for (uint32_t p = 0; p < h->n_rot / 2; p++) {
        double inv = pow(h->rope_base, -2.0 * p / h->n_rot);
        if (h->rope_kind == ROPE_KIND_LINEAR) {
            inv /= h->rope_factor;
        } else if (h->rope_kind == ROPE_KIND_YARN) {
            double ramp = yarn_ramp(h, p);
            inv = inv * (1 - ramp) + inv / h->rope_factor * ramp;
        }
        if (freqs)
            inv /= divisors[p];
        inv_freq[p] = in_section(h, p) ? (float)inv : 0;
    }
    *scale = h->rope_attn_factor;
    if (h->rope_kind == ROPE_KIND_YARN && h->rope_factor > 1)
        *scale *= (float)(0.1 * log(h->rope_factor) + 1);
}
