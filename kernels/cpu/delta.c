/* delta: the gated delta rule: rows are convolved each by itself, then every (run, value head) goes through its rows
 * in order, then the rows that the next convolution needs are kept. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

struct delta_job {
    struct cpu *c;
    const struct delta_args *a;
    uint32_t channels;
    struct tiles tiles; /* of (run, value head) */
};

static float *state_at(const struct delta_args *a, uint32_t i)
{
    return span_floats(a->states) + (size_t)i * a->state_values;
}

/* ---- the convolution ---- */

static const float *kept_rows(const struct delta_args *a, uint32_t state)
{
    return state_at(a, state) + (size_t)a->v_heads * a->k_dim * a->v_dim;
}

/* Row `at` of a run, which before its first is what the state kept; NULL: zeros. */
static const float *input_row(const struct delta_job *j, const struct delta_run *run, int64_t at)
{
    const struct delta_args *a = j->a;
    if (at >= 0)
        return span_floats(a->x) + ((size_t)run->first + (size_t)at) * j->channels;
    if (run->from == DELTA_NOTHING)
        return NULL;
    return kept_rows(a, run->from) + (size_t)(at + a->kernel - 1) * j->channels;
}

/* out += the weights of tap t times x. */
static void add_tap(const struct delta_job *j, const float *x, uint32_t t, float *out)
{
    const struct delta_args *a = j->a;
    uint32_t keys = a->k_heads * a->k_dim, ends[] = {a->conv[1] ? keys : j->channels, 2 * keys, j->channels}, i = 0;
    for (size_t part = 0; i < j->channels; part++) {
        const float *w = a->conv[part]->bytes;
        for (; i < ends[part]; i++, w += a->kernel)
            out[i] += x[i] * w[t];
    }
}

static void convolve(const struct delta_job *j, const struct delta_run *run, uint32_t row, float *out)
{
    const struct delta_args *a = j->a;
    memset(out, 0, j->channels * sizeof(float));
    for (uint32_t t = 0; t < a->kernel; t++) {
        const float *x = input_row(j, run, (int64_t)row + t - (a->kernel - 1));
        if (x)
            add_tap(j, x, t, out);
    }
    for (uint32_t i = 0; i < j->channels; i++)
        out[i] *= cpu_sigmoid(out[i]);
}

static void to_length(const struct isa *isa, float *x, uint32_t n, float eps, float scale)
{
    scale /= sqrtf(isa->dot_f32(x, x, n) + eps);
    for (uint32_t i = 0; i < n; i++)
        x[i] *= scale;
}

static void convolve_part(void *arg, int part, int parts)
{
    const struct delta_job *j = arg;
    const struct delta_args *a = j->a;
    float scale = 1 / sqrtf((float)a->k_dim);
    for (uint32_t r = 0; r < a->n_runs; r++) {
        const struct delta_run *run = &a->runs[r];
        size_t first, last;
        pool_slice(run->n, 1, part, parts, &first, &last);
        for (size_t row = first; row < last; row++) {
            float *out = span_floats(a->work) + (run->first + row) * j->channels;
            convolve(j, run, (uint32_t)row, out);
            for (uint32_t h = 0; h < 2 * a->k_heads; h++)
                to_length(j->c->isa, out + (size_t)h * a->k_dim, a->k_dim, a->eps, h < a->k_heads ? scale : 1);
        }
    }
}

/* ---- the rule ---- */

static float softplus(float x)
{
    return x > 20 ? x : log1pf(expf(x));
}

/* One row of one head: S, k and q of it, v; decays are of rows of S; out gets S^T q. */
static void step(const struct delta_job *j, float *s, const float *q, const float *k, const float *v,
                 const float *decays, float beta, float *out)
{
    const struct isa *isa = j->c->isa;
    uint32_t n = j->a->v_dim;
    float change[HEAD_DIM_MAX] = {0};
    for (uint32_t i = 0; i < j->a->k_dim; i++) {
        float *row = s + (size_t)i * n;
        for (uint32_t c = 0; c < n; c++)
            row[c] *= decays[i];
        isa->axpy_f32(change, k[i], row, n);
    }
    for (uint32_t c = 0; c < n; c++) {
        change[c] = (v[c] - change[c]) * beta;
        out[c] = 0;
    }
    for (uint32_t i = 0; i < j->a->k_dim; i++) {
        isa->axpy_f32(s + (size_t)i * n, k[i], change, n);
        isa->axpy_f32(out, q[i], s + (size_t)i * n, n);
    }
}

static void set_decays(const struct delta_job *j, size_t row, uint32_t h, size_t gate, float *decays)
{
    const struct delta_args *a = j->a;
    const float *dt = a->dt->bytes, *alpha = span_floats(a->alpha);
    float speed = ((const float *)a->a->bytes)[h], one = 0;
    if (!a->by_channel)
        one = expf(speed * softplus(alpha[row * a->gate_row + gate] + dt[h]));
    for (size_t i = 0, at = (size_t)h * a->k_dim; i < a->k_dim; i++, at++)
        decays[i] = a->by_channel ? expf(speed * softplus(alpha[row * a->v_heads * a->k_dim + at] + dt[at])) : one;
}

static void run_head(const struct delta_job *j, const struct delta_run *run, uint32_t h)
{
    const struct delta_args *a = j->a;
    uint32_t each = a->v_heads / a->k_heads, key = a->tiled ? h % a->k_heads : h / each;
    size_t values = (size_t)a->k_dim * a->v_dim, gate = h / each * a->gate_group + h % each;
    float *s = state_at(a, run->to) + h * values, decays[HEAD_DIM_MAX];
    if (run->from == DELTA_NOTHING)
        memset(s, 0, values * sizeof(float));
    else
        memcpy(s, state_at(a, run->from) + h * values, values * sizeof(float));
    for (size_t r = run->first; r < (size_t)run->first + run->n; r++) {
        const float *x = span_floats(a->work) + r * j->channels;
        set_decays(j, r, h, gate, decays);
        step(j, s, x + (size_t)key * a->k_dim, x + (size_t)(a->k_heads + key) * a->k_dim,
             x + (size_t)2 * a->k_heads * a->k_dim + (size_t)h * a->v_dim, decays,
             cpu_sigmoid(span_floats(a->beta)[r * a->gate_row + gate]),
             span_floats(a->out) + (r * a->v_heads + h) * a->v_dim);
    }
}

static void heads_part(void *arg, int part, int parts)
{
    struct delta_job *j = arg;
    size_t first, last;
    (void)part;
    (void)parts;
    while (tiles_take(&j->tiles, &first, &last))
        for (; first < last; first++)
            run_head(j, &j->a->runs[first / j->a->v_heads], (uint32_t)(first % j->a->v_heads));
}

static void keep_rows(const struct delta_job *j, const struct delta_run *run)
{
    const struct delta_args *a = j->a;
    float *to = state_at(a, run->to) + (size_t)a->v_heads * a->k_dim * a->v_dim;
    for (uint32_t t = 0; t + 1 < a->kernel; t++, to += j->channels) {
        const float *x = input_row(j, run, (int64_t)run->n + t - (a->kernel - 1));
        if (x)
            memcpy(to, x, j->channels * sizeof(float));
        else
            memset(to, 0, j->channels * sizeof(float));
    }
}

void cpu_delta(struct device *d, const struct delta_args *a)
{
    struct delta_job j = {.c = cpu_of(d), .a = a, .channels = 2 * a->k_heads * a->k_dim + a->v_heads * a->v_dim,
                          .tiles = {.total = (size_t)a->n_runs * a->v_heads, .tile = 1}};
    pool_run(j.c->pool, convolve_part, &j);
    pool_run(j.c->pool, heads_part, &j);
    for (uint32_t r = 0; r < a->n_runs; r++)
        keep_rows(&j, &a->runs[r]);
}
