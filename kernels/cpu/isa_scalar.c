/* isa_scalar: the reference: every kernel in plain C, straight from the definitions.
 *
 * Quantised products: the sum over blocks, in order, of scale products times
 * exact integer sums; the fast sets add the same terms, some in another order. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/blocks32.h"
#include "kernels/cpu/forms.h"
#include "kernels/cpu/isa.h"
#include "kernels/quant/blocks.h"

static bool usable(void)
{
    return true;
}

/* ---- activations ---- */

/* Quantise n values by the rule of isa.h; returns the scale. */
static float quantise(const float *x, int8_t *q, size_t n)
{
    float amax = 0;
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    }
    memset(q, 0, n);
    if (!finite)
        return NAN;
    if (amax < Q8_TINY)
        return 0;
    float inverse = 127.0F / amax;
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)rintf(x[i] * inverse);
    return amax / 127.0F;
}

static void prepare_q8(const float *x, void *out, size_t n)
{
    forms_q8(x, out, n, quantise);
}

static void prepare_q8k(const float *x, void *out, size_t n)
{
    forms_q8k(x, out, n, quantise);
}

/* ---- products of one row ---- */

typedef float (*dot_fn)(const uint8_t *w, const void *x, size_t n);

static float dot_row_f32(const uint8_t *w, const void *x, size_t n)
{
    const float *a = (const float *)(const void *)w, *b = x;
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static float dot_row_f16(const uint8_t *w, const void *x, size_t n)
{
    const uint16_t *a = (const uint16_t *)(const void *)w;
    const float *b = x;
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += f16_to_f32(a[i]) * b[i];
    return sum;
}

static float dot_row_bf16(const uint8_t *w, const void *x, size_t n)
{
    const uint16_t *a = (const uint16_t *)(const void *)w;
    const float *b = x;
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bf16_to_f32(a[i]) * b[i];
    return sum;
}

static float dot_row_q8_0(const uint8_t *w, const void *x, size_t n)
{
    const struct q8_0 *a = (const void *)w;
    const struct q8_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 32; i++) {
        int s = 0;
        for (int j = 0; j < 32; j++)
            s += a[i].qs[j] * b[i].q[j];
        sum += f16_to_f32(a[i].d) * b[i].scale * (float)s;
    }
    return sum;
}

static float dot_row_q4_0(const uint8_t *w, const void *x, size_t n)
{
    const struct q4_0 *a = (const void *)w;
    const struct q8_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 32; i++) {
        int s = 0;
        for (int j = 0; j < 16; j++)
            s += ((a[i].qs[j] & 15) - 8) * b[i].q[j] + ((a[i].qs[j] >> 4) - 8) * b[i].q[j + 16];
        sum += f16_to_f32(a[i].d) * b[i].scale * (float)s;
    }
    return sum;
}

/* The two sums of a block of Q4_K or Q5_K (qh NULL: no fifth bit). */
static float dot_k(const uint8_t *qs, const uint8_t *qh, const uint8_t scales[12], float d, float dmin,
                   const struct q8k_block *x)
{
    uint8_t scale[8], min[8];
    int s = 0, m = 0;
    k_scales_unpack(scales, scale, min);
    for (int g = 0; g < 8; g++) {
        int group = 0;
        for (int l = 0; l < 32; l++) {
            int q = qs[32 * (g / 2) + l] >> 4 * (g % 2) & 15;
            if (qh)
                q |= (qh[l] >> g & 1) << 4;
            group += q * x->q[32 * g + l];
        }
        s += scale[g] * group;
        m += min[g] * (x->sums[2 * g] + x->sums[2 * g + 1]);
    }
    return d * x->scale * (float)s - dmin * x->scale * (float)m;
}

static float dot_row_q4_k(const uint8_t *w, const void *x, size_t n)
{
    const struct q4_k *a = (const void *)w;
    const struct q8k_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 256; i++)
        sum += dot_k(a[i].qs, NULL, a[i].scales, f16_to_f32(a[i].d), f16_to_f32(a[i].dmin), &b[i]);
    return sum;
}

static float dot_row_q5_k(const uint8_t *w, const void *x, size_t n)
{
    const struct q5_k *a = (const void *)w;
    const struct q8k_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 256; i++)
        sum += dot_k(a[i].qs, a[i].qh, a[i].scales, f16_to_f32(a[i].d), f16_to_f32(a[i].dmin), &b[i]);
    return sum;
}

static float dot_row_q6_k(const uint8_t *w, const void *x, size_t n)
{
    const struct q6_k *a = (const void *)w;
    const struct q8k_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 256; i++) {
        int s = 0;
        for (int e = 0; e < 256; e++) {
            int half = e / 128, k = e % 128 / 32, l = e % 32;
            int low = a[i].ql[64 * half + 32 * (k & 1) + l] >> 4 * (k >> 1) & 15;
            int high = a[i].qh[32 * half + l] >> 2 * k & 3;
            s += a[i].scales[e / 16] * ((low | high << 4) - 32) * b[i].q[e];
        }
        sum += f16_to_f32(a[i].d) * b[i].scale * (float)s;
    }
    return sum;
}

static float dot_groups(const uint8_t *w, const void *x, size_t n, group32_fn open)
{
    const struct q8_block *b = x;
    float sum = 0;
    for (size_t i = 0; i < n / 32; i++) {
        struct group32 g;
        int s[2] = {0};
        open(w, i, &g);
        for (int j = 0; j < 16; j++) {
            s[0] += g.q[j] * b[i].q[j];
            s[1] += g.q[j + 16] * b[i].q[j + 16];
        }
        sum += (g.d[0] * (float)s[0] + g.d[1] * (float)s[1] + g.m * (float)b[i].sum) * b[i].scale;
    }
    return sum;
}

#define DOT_GROUPS(type)                                                \
    static float dot_row_##type(const uint8_t *w, const void *x, size_t n) \
    {                                                                   \
        return dot_groups(w, x, n, group_##type);                       \
    }
DOT_GROUPS(q4_1)
DOT_GROUPS(q5_0)
DOT_GROUPS(q5_1)
DOT_GROUPS(iq4_nl)
DOT_GROUPS(mxfp4)
DOT_GROUPS(nvfp4)
#undef DOT_GROUPS

static void rows_of(const struct matmul_job *job, size_t first, size_t last, dot_fn dot)
{
    for (size_t i = first; i < last; i++)
        for (size_t j = 0; j < job->n_x; j++)
            job->y[j * job->y_stride + i] =
                dot(job->w + i * job->w_stride, (const uint8_t *)job->x + j * job->x_stride, job->cols);
}

#define ROWS(type)                                                                 \
    static void rows_##type(const struct matmul_job *job, size_t first, size_t last) \
    {                                                                              \
        rows_of(job, first, last, dot_row_##type);                                 \
    }
ROWS(f32)
ROWS(f16)
ROWS(bf16)
ROWS(q8_0)
ROWS(q4_0)
ROWS(q4_k)
ROWS(q5_k)
ROWS(q6_k)
ROWS(q4_1)
ROWS(q5_0)
ROWS(q5_1)
ROWS(iq4_nl)
ROWS(mxfp4)
ROWS(nvfp4)
#undef ROWS

/* ---- the house's own types: a block of W is opened once for all rows of x ---- */

static void rows_int(const struct matmul_job *job, size_t first, size_t last, unsigned bits)
{
    for (size_t i = first; i < last; i++) {
        for (size_t j = 0; j < job->n_x; j++)
            job->y[j * job->y_stride + i] = 0;
        for (size_t b = 0; b < job->cols / 32; b++) {
            struct int_head h;
            uint8_t q[32];
            const uint8_t *codes = int_group(job->type, bits, job->w + i * job->w_stride, b, &h);
            for (unsigned e = 0; e < 32; e++)
                q[e] = (uint8_t)int_code(codes, bits, e);
            for (size_t j = 0; j < job->n_x; j++) {
                const void *row = (const uint8_t *)job->x + j * job->x_stride;
                const struct q8_block *x = (const struct q8_block *)row + b;
                int32_t s = 0;
                for (int e = 0; e < 32; e++)
                    s += q[e] * x->q[e];
                job->y[j * job->y_stride + i] += h.d * x->scale * (float)(s - h.z * x->sum);
            }
        }
    }
}

#define ROWS_INT(bits)                                                                \
    static void rows_int##bits(const struct matmul_job *job, size_t first, size_t last) \
    {                                                                                 \
        rows_int(job, first, last, bits);                                             \
    }
ROWS_INT(2)
ROWS_INT(3)
ROWS_INT(4)
ROWS_INT(8)
#undef ROWS_INT

static void rows_fp8(const struct matmul_job *job, size_t first, size_t last, size_t len)
{
    for (size_t i = first; i < last; i++) {
        for (size_t j = 0; j < job->n_x; j++)
            job->y[j * job->y_stride + i] = 0;
        for (size_t b = 0; b < job->cols / len; b++) {
            float w[QTYPE_BLOCK_LEN_MAX];
            job->type->to_f32(job->w + i * job->w_stride + b * job->type->block_bytes, w, len);
            for (size_t j = 0; j < job->n_x; j++) {
                const void *row = (const uint8_t *)job->x + j * job->x_stride;
                const float *x = (const float *)row + b * len;
                float sum = job->y[j * job->y_stride + i];
                for (size_t e = 0; e < len; e++)
                    sum += w[e] * x[e];
                job->y[j * job->y_stride + i] = sum;
            }
        }
    }
}

static void rows_fp8_32(const struct matmul_job *job, size_t first, size_t last)
{
    rows_fp8(job, first, last, 32);
}

static void rows_fp8_128(const struct matmul_job *job, size_t first, size_t last)
{
    rows_fp8(job, first, last, 128);
}

/* ---- blocks of 256 of every other type, unpacked once for all rows of x ---- */

static float dot_quanta(const struct quanta *w, const struct q8k_block *x)
{
    int s = 0, m = 0;
    for (int g = 0; g < 16; g++) {
        int group = 0;
        for (int l = 0; l < 16; l++)
            group += w->q[16 * g + l] * x->q[16 * g + l];
        s += w->scale[g] * group;
        m += w->min[g] * x->sums[g];
    }
    return w->d * x->scale * (float)s - w->dmin * x->scale * (float)m;
}

static void rows_quanta(const struct matmul_job *job, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++) {
        for (size_t j = 0; j < job->n_x; j++)
            job->y[j * job->y_stride + i] = 0;
        for (size_t b = 0; b < job->cols / 256; b++) {
            struct quanta w;
            job->type->unpack(job->w + i * job->w_stride + b * job->type->block_bytes, &w);
            for (size_t j = 0; j < job->n_x; j++) {
                const void *x = (const uint8_t *)job->x + j * job->x_stride;
                job->y[j * job->y_stride + i] += dot_quanta(&w, (const struct q8k_block *)x + b);
            }
        }
    }
}

/* ---- attention and activations ---- */

static float dot_f32(const float *a, const float *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static float dot_f16(const float *a, const uint16_t *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * f16_to_f32(b[i]);
    return sum;
}

static void axpy_f32(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void axpy_f16(float *y, float a, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * f16_to_f32(x[i]);
}

static void store_f16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = f32_to_f16(x[i]);
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static float scale_top(float *x, float scale, float max, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

static float softmax_exp(float *x, float max, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    return sum;
}

static const struct matmul_kernel kernels[] = {
    {QTYPE_F32, FORM_F32, rows_f32},   {QTYPE_F16, FORM_F32, rows_f16},   {QTYPE_BF16, FORM_F32, rows_bf16},
    {QTYPE_Q8_0, FORM_Q8, rows_q8_0},  {QTYPE_Q4_0, FORM_Q8, rows_q4_0},  {QTYPE_Q4_K, FORM_Q8K, rows_q4_k},
    {QTYPE_Q5_K, FORM_Q8K, rows_q5_k}, {QTYPE_Q6_K, FORM_Q8K, rows_q6_k}, {QTYPE_Q4_1, FORM_Q8, rows_q4_1},
    {QTYPE_Q5_0, FORM_Q8, rows_q5_0},  {QTYPE_Q5_1, FORM_Q8, rows_q5_1},  {QTYPE_IQ4_NL, FORM_Q8, rows_iq4_nl},
    {QTYPE_MXFP4, FORM_Q8, rows_mxfp4}, {QTYPE_NVFP4, FORM_Q8, rows_nvfp4}, ISA_OWN_KERNELS(rows),
    {0, FORM_F32, NULL},
};

const struct isa isa_scalar = {
    .name = "scalar",
    .usable = usable,
    .kernels = kernels,
    .quanta = {.form = FORM_Q8K, .rows = rows_quanta},
    .prepare = {[FORM_Q8] = prepare_q8, [FORM_Q8K] = prepare_q8k},
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .axpy_f32 = axpy_f32,
    .axpy_f16 = axpy_f16,
    .store_f16 = store_f16,
    .silu_mul = silu_mul,
    .scale_top = scale_top,
    .softmax_exp = softmax_exp,
};
