/* search: alternate between rounding with a trial scale and solving the weighted least squares for
 * the scale (and min) that fits those integers best; keep the best of a range of trial scales. */
#include <math.h>

#include "kernels/quant/blocks.h"

enum { TRIALS = 30, VALUES_MAX = 32 };

static int clamp_round(float v, int low, int high)
{
    int q = (int)lrintf(v);
    return q < low ? low : q > high ? high : q;
}

struct fit {
    float scale, min; /* x ~ scale*q - min */
    double loss;
};

/* The weighted least squares of scale and min for the given integers; min is kept >= 0. */
static void solve(const float *x, const float *w, const int *q, int n, struct fit *f)
{
    double sw = 0, sq = 0, sqq = 0, sx = 0, sqx = 0;
    for (int i = 0; i < n; i++) {
        sw += w[i];
        sq += (double)w[i] * q[i];
        sqq += (double)w[i] * q[i] * q[i];
        sx += (double)w[i] * x[i];
        sqx += (double)w[i] * q[i] * x[i];
    }
    double det = sw * sqq - sq * sq;
    if (det > 0) {
        f->scale = (float)((sw * sqx - sq * sx) / det);
        f->min = (float)-((sqq * sx - sq * sqx) / det);
    }
    if (det <= 0 || f->min < 0) {
        f->min = 0;
        f->scale = sqq > 0 ? (float)(sqx / sqq) : 0;
    }
    f->loss = 0;
    for (int i = 0; i < n; i++) {
        double err = (double)f->scale * q[i] - f->min - x[i];
        f->loss += w[i] * err * err;
    }
}

float search_scale_min(const float *x, int n, int q_max, float *min_out)
{
    float low = x[0], high = x[0], square = 0, w[VALUES_MAX];
    for (int i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        square += x[i] * x[i];
    }
    float rms = sqrtf(square / (float)n);
    for (int i = 0; i < n; i++)
        w[i] = rms + fabsf(x[i]);
    low = fminf(low, 0);
    *min_out = -low;
    if (high <= low)
        return 0;
    struct fit best = {(high - low) / (float)q_max, -low, INFINITY};
    for (int t = 0; t <= TRIALS; t++) {
        float inverse = ((float)q_max - 1 + 0.1F * (float)t * 2 / 3) / (high - low);
        int q[VALUES_MAX];
        struct fit f = {1 / inverse, -low, 0};
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < n; i++)
                q[i] = f.scale > 0 ? clamp_round((x[i] + f.min) / f.scale, 0, q_max) : 0;
            solve(x, w, q, n, &f);
            if (f.scale > 0 && f.loss < best.loss)
                best = f;
        }
    }
    *min_out = best.min;
    return best.scale;
}

float search_scale(const float *x, int n, int half)
{
    float extreme = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (extreme == 0)
        return 0;
    double best_gain = -1;
    float best = extreme / (float)-half;
    for (int t = -9; t <= 9; t++) {
        float inverse = -((float)half + 0.1F * (float)t) / extreme;
        double sqx = 0, sqq = 0;
        for (int i = 0; i < n; i++) {
            int q = clamp_round(x[i] * inverse, -half, half - 1);
            double w = (double)x[i] * x[i];
            sqx += w * q * x[i];
            sqq += w * q * q;
        }
        if (sqq > 0 && sqx * sqx / sqq > best_gain) {
            best_gain = sqx * sqx / sqq;
            best = (float)(sqx / sqq);
        }
    }
    return best;
}
