/* isa_avx512: the float products, the forms of activations, and the vector loops of attention.
 *
 * Float rows: four accumulators of 16 lanes over strides of 64 values, a masked
 * rest, then one tree of sums: the order depends on the length alone.          */
#include <math.h>
#include <string.h>

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/forms.h"
#include "kernels/quant/blocks.h"

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/* ---- float rows ---- */

/* One row of w times up to four rows of x, each pair with its own accumulators.  Meanwhile the bytes at `ahead`, which
 * come later, are asked for: a value is value_bytes of them; 0: nothing is. */
FORCE_INLINE void dot_float(const void *w, const uint8_t *ahead, const float *const *x, float *out, size_t n,
                            const int n_x, const size_t value_bytes, load_fn load)
{
    __m512 acc[4][4];
    for (int j = 0; j < n_x; j++)
        for (int k = 0; k < 4; k++)
            acc[j][k] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        prefetch(ahead + i * value_bytes, 64 * value_bytes);
        for (int k = 0; k < 4; k++) {
            size_t at = i + 16 * (size_t)k;
            __m512 v = load(w, at, 0xffff);
            for (int j = 0; j < n_x; j++)
                acc[j][k] = _mm512_fmadd_ps(v, _mm512_loadu_ps(x[j] + at), acc[j][k]);
        }
    }
    for (; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m512 v = load(w, i, mask);
        for (int j = 0; j < n_x; j++)
            acc[j][0] = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(mask, x[j] + i), acc[j][0]);
    }
    for (int j = 0; j < n_x; j++)
        out[j] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(acc[j][0], acc[j][1]),
                                                    _mm512_add_ps(acc[j][2], acc[j][3])));
}

/* Pass `k` of a tile: what dot_float() adds up in accumulator k, for four rows of W and four of x. */
FORCE_INLINE void tile_pass(const struct matmul_job *job, const uint8_t *w, const float *const x[4], size_t k,
                            __m512 acc[4][4], load_fn load)
{
    size_t n = job->cols, i = 16 * k;
    for (int j = 0; j < 4; j++)
        for (int r = 0; r < 4; r++)
            acc[j][r] = _mm512_setzero_ps();
    for (; i + 64 <= n + 16 * k; i += 64) {
        __m512 v[4];
        for (size_t r = 0; r < 4; r++)
            v[r] = load(w + r * job->w_stride, i, 0xffff);
        for (int j = 0; j < 4; j++) {
            __m512 part = _mm512_loadu_ps(x[j] + i);
            for (int r = 0; r < 4; r++)
                acc[j][r] = _mm512_fmadd_ps(v[r], part, acc[j][r]);
        }
    }
    for (; k == 0 && i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        for (size_t r = 0; r < 4; r++)
            for (int j = 0; j < 4; j++)
                acc[j][r] = _mm512_fmadd_ps(load(w + r * job->w_stride, i, mask),
                                            _mm512_maskz_loadu_ps(mask, x[j] + i), acc[j][r]);
    }
}

/* Rows i to i + 3 of W times four rows of x: the sums of dot_float(), in the same order. */
FORCE_INLINE void tile_float(const struct matmul_job *job, const float *const x[4], size_t i, float *y, load_fn load)
{
    __m512 acc[4][4], first[4][4], rest[4][4], merged[4];
    const uint8_t *w = job->w + i * job->w_stride;
    tile_pass(job, w, x, 0, first, load);
    tile_pass(job, w, x, 1, acc, load);
    for (int j = 0; j < 4; j++)
        for (int r = 0; r < 4; r++)
            first[j][r] = _mm512_add_ps(first[j][r], acc[j][r]);
    tile_pass(job, w, x, 2, rest, load);
    tile_pass(job, w, x, 3, acc, load);
    for (int r = 0; r < 4; r++) {
        __m512 of_x[4];
        for (int j = 0; j < 4; j++)
            of_x[j] = _mm512_add_ps(first[j][r], _mm512_add_ps(rest[j][r], acc[j][r]));
        merged[r] = merge_the_lanes(of_x);
    }
    __m512 sums = merge_in_lanes(merged); /* lane j: of x[j], the four rows of W */
    _mm_storeu_ps(y + i, _mm512_castps512_ps128(sums));
    _mm_storeu_ps(y + job->y_stride + i, _mm512_extractf32x4_ps(sums, 1));
    _mm_storeu_ps(y + 2 * job->y_stride + i, _mm512_extractf32x4_ps(sums, 2));
    _mm_storeu_ps(y + 3 * job->y_stride + i, _mm512_extractf32x4_ps(sums, 3));
}

/* Four rows of x stay in the first cache while the rows of W pass by. */
FORCE_INLINE void rows_float(const struct matmul_job *job, size_t first, size_t last, const size_t value_bytes,
                             load_fn load)
{
    const float *x[4];
    float out[4];
    const uint8_t *end = job->w + last * job->w_stride;
    size_t j = 0;
    for (; j + 4 <= job->n_x; j += 4) {
        for (size_t k = 0; k < 4; k++)
            x[k] = job_x(job, j + k);
        size_t i = first;
        for (; i + 4 <= last; i += 4) {
            if (j == 0)
                prefetch(ahead_of(job->w + i * job->w_stride, end), 4 * job->w_stride);
            tile_float(job, x, i, job->y + j * job->y_stride, load);
        }
        for (; i < last; i++) {
            dot_float(job->w + i * job->w_stride, ahead_of(job->w + i * job->w_stride, end), x, out, job->cols, 4,
                      value_bytes, load);
            for (size_t k = 0; k < 4; k++)
                job->y[(j + k) * job->y_stride + i] = out[k];
        }
    }
    for (; j < job->n_x; j++) {
        x[0] = job_x(job, j);
        for (size_t i = first; i < last; i++) {
            dot_float(job->w + i * job->w_stride, ahead_of(job->w + i * job->w_stride, end), x, out, job->cols, 1,
                      value_bytes, load);
            job->y[j * job->y_stride + i] = out[0];
        }
    }
}

void avx512_rows_f32(const struct matmul_job *job, size_t first, size_t last)
{
    rows_float(job, first, last, sizeof(float), load_f32);
}

void avx512_rows_f16(const struct matmul_job *job, size_t first, size_t last)
{
    rows_float(job, first, last, sizeof(uint16_t), load_f16);
}

void avx512_rows_bf16(const struct matmul_job *job, size_t first, size_t last)
{
    rows_float(job, first, last, sizeof(uint16_t), load_bf16);
}

/* Sixteen values of an FP8 block at a time: by way of half floats that are 256 times too small. */
FORCE_INLINE __m512 load_fp8(const uint8_t *block, size_t i)
{
    float d;
    memcpy(&d, block, sizeof d);
    __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(block + sizeof d + i)));
    __m256i sign = _mm256_and_si256(_mm256_slli_epi16(v, 8), _mm256_set1_epi16((short)0x8000));
    __m256i half = _mm256_or_si256(sign, _mm256_and_si256(_mm256_slli_epi16(v, 7), _mm256_set1_epi16(0x3f80)));
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256)), _mm512_set1_ps(d));
}

/* Rows are whole blocks: there is no rest to mask. */
FORCE_INLINE __m512 load_fp8_32(const void *p, size_t i, __mmask16 mask)
{
    (void)mask;
    return load_fp8((const uint8_t *)p + i / 32 * sizeof(struct fp8_32), i % 32);
}

FORCE_INLINE __m512 load_fp8_128(const void *p, size_t i, __mmask16 mask)
{
    (void)mask;
    return load_fp8((const uint8_t *)p + i / 128 * sizeof(struct fp8_128), i % 128);
}

void avx512_rows_fp8_32(const struct matmul_job *job, size_t first, size_t last)
{
    rows_float(job, first, last, 1, load_fp8_32);
}

void avx512_rows_fp8_128(const struct matmul_job *job, size_t first, size_t last)
{
    rows_float(job, first, last, 1, load_fp8_128);
}

/* ---- activations ---- */

/* Quantise n values (a multiple of 32) by the rule of isa.h. */
static float quantise(const float *x, int8_t *q, size_t n)
{
    __m512 top = _mm512_setzero_ps();
    __mmask16 bad = 0;
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        bad |= _mm512_fpclass_ps_mask(v, 0x99); /* NaN of both kinds, infinity of both signs */
        top = _mm512_max_ps(top, _mm512_abs_ps(v));
    }
    float amax = _mm512_reduce_max_ps(top);
    if (bad || amax < Q8_TINY) {
        memset(q, 0, n);
        return bad ? NAN : 0;
    }
    __m512 inverse = _mm512_set1_ps(127.0F / amax);
    for (size_t i = 0; i < n; i += 16) {
        __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
        _mm_storeu_si128((void *)(q + i), _mm512_cvtepi32_epi8(rounded));
    }
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

/* ---- attention ---- */

static float dot_f32(const float *a, const float *b, size_t n)
{
    float out;
    const float *x[1] = {a};
    dot_float(b, NULL, x, &out, n, 1, 0, load_f32);
    return out;
}

static float dot_f16(const float *a, const uint16_t *b, size_t n)
{
    float out;
    const float *x[1] = {a};
    dot_float(b, NULL, x, &out, n, 1, 0, load_f16);
    return out;
}

FORCE_INLINE void axpy(float *y, float a, const void *x, size_t n, load_fn load)
{
    __m512 factor = _mm512_set1_ps(a);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m512 sum = _mm512_fmadd_ps(factor, load(x, i, mask), _mm512_maskz_loadu_ps(mask, y + i));
        _mm512_mask_storeu_ps(y + i, mask, sum);
    }
}

static void axpy_f32(float *y, float a, const float *x, size_t n)
{
    axpy(y, a, x, n, load_f32);
}

static void axpy_f16(float *y, float a, const uint16_t *x, size_t n)
{
    axpy(y, a, x, n, load_f16);
}

static void store_f16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(y + i, mask, half);
    }
}

/* exp: 2^n * e^r with r = x - n ln 2 in two parts, |r| <= ln 2 / 2, and e^r by its Taylor series to
 * degree 7 (error below 1 ulp); scalef gives 0 and infinity at the ends. */
FORCE_INLINE __m512 exp_ps(__m512 x)
{
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-126)), _mm512_set1_ps(128));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1F), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20F), r);
    __m512 p = _mm512_set1_ps(1.0F / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
    const __m512 one = _mm512_set1_ps(1), zero = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m512 g = _mm512_maskz_loadu_ps(mask, gate + i), u = _mm512_maskz_loadu_ps(mask, up + i);
        __m512 s = _mm512_div_ps(g, _mm512_add_ps(one, exp_ps(_mm512_sub_ps(zero, g))));
        _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(s, u));
    }
}

static float scale_top(float *x, float scale, float max, size_t n)
{
    __m512 top = _mm512_set1_ps(max), factor = _mm512_set1_ps(scale);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
        _mm512_mask_storeu_ps(x + i, mask, v);
        top = _mm512_mask_max_ps(top, mask, v, top); /* of a NaN and top: top */
    }
    return _mm512_reduce_max_ps(top);
}

static float softmax_exp(float *x, float max, size_t n)
{
    __m512 sum = _mm512_setzero_ps(), top = _mm512_set1_ps(max);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        __m512 v = _mm512_maskz_mov_ps(mask, exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), top)));
        _mm512_mask_storeu_ps(x + i, mask, v);
        sum = _mm512_add_ps(sum, v);
    }
    return _mm512_reduce_add_ps(sum);
}

static const struct matmul_kernel kernels[] = {
    {QTYPE_F32, FORM_F32, avx512_rows_f32},   {QTYPE_F16, FORM_F32, avx512_rows_f16},
    {QTYPE_BF16, FORM_F32, avx512_rows_bf16}, {QTYPE_Q8_0, FORM_Q8, avx512_rows_q8_0},
    {QTYPE_Q4_0, FORM_Q8, avx512_rows_q4_0},  {QTYPE_Q4_K, FORM_Q8K, avx512_rows_q4_k},
    {QTYPE_Q5_K, FORM_Q8K, avx512_rows_q5_k}, {QTYPE_Q6_K, FORM_Q8K, avx512_rows_q6_k},
    {QTYPE_Q4_1, FORM_Q8, avx512_rows_q4_1},  {QTYPE_Q5_0, FORM_Q8, avx512_rows_q5_0},
    {QTYPE_Q5_1, FORM_Q8, avx512_rows_q5_1},  {QTYPE_IQ4_NL, FORM_Q8, avx512_rows_iq4_nl},
    {QTYPE_MXFP4, FORM_Q8, avx512_rows_mxfp4}, {QTYPE_NVFP4, FORM_Q8, avx512_rows_nvfp4},
    {QTYPE_Q2_K, FORM_Q8K, avx512_rows_q2_k}, {QTYPE_Q3_K, FORM_Q8K, avx512_rows_q3_k},
    {QTYPE_IQ4_XS, FORM_Q8K, avx512_rows_iq4_xs}, ISA_OWN_KERNELS(avx512_rows),
    {0, FORM_F32, NULL},
};

const struct isa isa_avx512 = {
    .name = "avx512",
    .usable = usable,
    .kernels = kernels,
    .quanta = {.form = FORM_Q8K, .rows = avx512_rows_quanta},
    .prepare = {[FORM_Q8] = prepare_q8, [FORM_Q8K] = prepare_q8k},
    .page_scores = avx512_page_scores,
    .page_scores_rows = avx512_page_scores_rows,
    .page_mix = avx512_page_mix,
    .page_widen = avx512_page_widen,
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .axpy_f32 = axpy_f32,
    .axpy_f16 = axpy_f16,
    .store_f16 = store_f16,
    .silu_mul = silu_mul,
    .scale_top = scale_top,
    .softmax_exp = softmax_exp,
};
