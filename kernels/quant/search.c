/* search: round with a range of trial scales, solve the weighted least squares for the scale (and min) that fits
 * each trial's integers best, once more from there, and keep the best of all.
 *
 * Four trials stand side by side in the lanes of a vector, which compilers lower to what the machine has; what is
 * summed in which order is the same everywhere, and so is the result.                                            */
#include <math.h>

#include "kernels/quant/blocks.h"

enum { LANES = 4, PARTS = 2, TRIALS = LANES * PARTS, ROUNDS = 2, GROUP = 32 };

/* Adding and taking it away rounds a float below 2^22 to the nearest even integer. */
static const float ROUNDER = 0x1.8p23F;
/* Of a scale alone: how far from -half the trials put the extreme. */
static const float FIRST = 0.9F, STEP = 0.26F;

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lane_masks __attribute__((vector_size(4 * LANES)));

static inline lanes choose(lane_masks mask, lanes yes, lanes no)
{
    return (lanes)(((lane_masks)yes & mask) | ((lane_masks)no & ~mask));
}

/* A lane a trial: x ~ scale * q - min, q = (x + min) * inverse, rounded, in low..high. */
struct trials {
    lanes scale, min, inverse;
    lanes gain; /* how much of the sum of x*x it explains */
};

/* Weighted sums over a group. */
struct sums {
    lanes q, qq, qx;
};

static inline void add_value(struct sums *s, const struct trials *t, float x, float w, lanes low, lanes high)
{
    lanes v = (x + t->min) * t->inverse;
    v = choose(v > low, v, low);
    v = choose(v < high, v, high);
    lanes q = v + ROUNDER - ROUNDER, wq = w * q;
    s->q += wq;
    s->qq += wq * q;
    s->qx += wq * x;
}

/* What does not depend on q. */
struct group {
    float w[GROUP], sw, sx;
    float low, high;
};

static void group_open(struct group *g, const float *x)
{
    float square = 0;
    *g = (struct group){.low = x[0], .high = x[0]};
    for (int i = 0; i < GROUP; i++) {
        square += x[i] * x[i];
        g->low = x[i] < g->low ? x[i] : g->low;
        g->high = x[i] > g->high ? x[i] : g->high;
    }
    float rms = sqrtf(square / GROUP);
    for (int i = 0; i < GROUP; i++) {
        g->w[i] = rms + fabsf(x[i]);
        g->sw += g->w[i];
        g->sx += g->w[i] * x[i];
    }
}

/* The weighted least squares of scale and min for the integers of each trial; one that fails gains nothing. */
static void solve(struct trials *t, const struct group *g, const struct sums *s, bool any_min)
{
    const lanes zero = {0}, one = zero + 1;
    lanes det = g->sw * s->qq - s->q * s->q;
    lane_masks two = det > zero;
    lanes unit = one / choose(two, det, one);
    lanes scale = (g->sw * s->qx - s->q * g->sx) * unit, min = (s->q * s->qx - s->qq * g->sx) * unit;
    if (!any_min)
        two &= min >= zero;
    scale = choose(two, scale, s->qx / choose(s->qq > zero, s->qq, one));
    t->min = choose(two, min, zero);
    lane_masks good = scale > zero;
    t->scale = scale;
    t->inverse = choose(good, one / scale, zero);
    t->gain = choose(good, scale * s->qx - t->min * g->sx, zero - INFINITY);
}

/* The trials' rounds; returns the best of their gains that is above `gain`, with its scale and min. */
static float try_part(struct trials t, const float *x, const struct group *g, int q_max, bool any_min, float gain,
                      float *scale, float *min)
{
    const lanes zero = {0}, top = zero + (float)q_max;
    for (int round = 0; round < ROUNDS; round++) {
        struct sums s = {.q = zero};
        for (int i = 0; i < GROUP; i++)
            add_value(&s, &t, x[i], g->w[i], zero, top);
        solve(&t, g, &s, any_min);
        for (int l = 0; l < LANES; l++) {
            if (t.gain[l] > gain) {
                gain = t.gain[l];
                *scale = t.scale[l];
                *min = t.min[l];
            }
        }
    }
    return gain;
}

float search_scale_min(const float *x, int q_max, bool any_min, float *min)
{
    const lanes zero = {0};
    lanes number = {0, 1, 2, 3};
    struct group g;
    group_open(&g, x);
    if (!any_min && g.low > 0)
        g.low = 0;
    *min = -g.low;
    float range = g.high - g.low, scale = range / (float)q_max, gain = -INFINITY;
    if (!(range > 0))
        return 0;
    for (int part = 0; part < PARTS; part++, number += LANES) {
        struct trials t = {.inverse = ((float)q_max - 1 + number * (2.0F / (TRIALS - 1))) / range,
                           .min = zero - g.low};
        gain = try_part(t, x, &g, q_max, any_min, gain, &scale, min);
    }
    return scale;
}

float search_scale(const float *x, int n, int half)
{
    const lanes zero = {0}, bottom = zero - (float)half;
    lanes number = {0, 1, 2, 3};
    float extreme = 0, gain = 0;
    for (int i = 0; i < n; i++)
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    float unit = 1 / extreme, best = extreme / (float)-half;
    if (!(fabsf(unit) < 0x1p100F))
        return 0;
    for (int part = 0; part < PARTS; part++, number += LANES) {
        struct trials t = {.inverse = (bottom + FIRST - STEP * number) * unit, .min = zero};
        struct sums s = {.q = zero};
        for (int i = 0; i < n; i++) /* the weight is at most 1, whatever the size of x */
            add_value(&s, &t, x[i], x[i] * unit * (x[i] * unit), bottom, -bottom - 1);
        for (int l = 0; l < LANES; l++) {
            float qx = s.qx[l] * unit, got = s.qq[l] > 0 ? qx * qx / s.qq[l] : 0;
            if (got > gain) {
                gain = got;
                best = s.qx[l] / s.qq[l];
            }
        }
    }
    return best;
}
