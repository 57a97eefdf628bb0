/* isa_avx2: one row of W at a time against up to four rows of x, which share its unpacking.
 *
 * Quantised blocks: integer sums are exact, so they may be made in any order.
 * Those of blocks of 32 go to eight float sums in turn, which one tree adds;
 * those of blocks of 256 to one.  Float rows: accumulators over strides, a
 * masked rest, the same tree.  Every step that rounds is written as one
 * intrinsic (never a product that a compiler may or may not fuse into a sum):
 * so the bits of a pair do not depend on how many rows of x there are.       */
#include "kernels/cpu/forms.h"
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/avx2.h"
#include "kernels/quant/blocks.h"

enum {
    X_MAX = 4,   /* rows of x that share the unpacking of a row of W */
    PANEL_X_MIN = 6,
    F16C_BIT = 1 << 29,
};

static bool usable(void)
{
    unsigned a, b, c = 0, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & F16C_BIT); /* clang 14 knows no name for it */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* ---- what everything shares ---- */

FORCE_INLINE __m256 load_bf16(const void *p, size_t i, size_t n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(p, i, n)), 16));
}

/* ---- rows ---- */

/* out[j] = one row of w times x[j], 0 <= j < n_x. */
typedef void (*dot_fn)(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x);

FORCE_INLINE void rows_of(const struct matmul_job *job, size_t first, size_t last, dot_fn dot)
{
    const uint8_t *end = job->w + last * job->w_stride;
    for (size_t i = first; i < last; i++) {
        const uint8_t *w = job->w + i * job->w_stride;
        prefetch_ahead(w, job->w_stride, AHEAD_BYTES, end);
        for (size_t j = 0; j < job->n_x; j += X_MAX) {
            size_t n_x = job->n_x - j < X_MAX ? job->n_x - j : X_MAX;
            const void *x[X_MAX];
            float out[X_MAX];
            for (size_t k = 0; k < n_x; k++)
                x[k] = (const uint8_t *)job->x + (j + k) * job->x_stride;
            switch (n_x) { /* the count is a constant inside each product */
            case 1: dot(w, x, out, job->cols, 1); break;
            case 2: dot(w, x, out, job->cols, 2); break;
            case 3: dot(w, x, out, job->cols, 3); break;
            default: dot(w, x, out, job->cols, X_MAX); break;
            }
            for (size_t k = 0; k < n_x; k++)
                job->y[(j + k) * job->y_stride + i] = out[k];
        }
    }
}

/* ---- float rows ---- */

/* n_acc accumulators a pair hide the latency of the sums. */
FORCE_INLINE void dot_float(const void *w, const void *const *x, float *out, size_t n, int n_x, int n_acc,
                            load_fn load)
{
    __m256 acc[X_MAX][4];
    size_t i = 0, stride = (size_t)n_acc * LANES;
    for (int j = 0; j < n_x; j++)
        for (int k = 0; k < n_acc; k++)
            acc[j][k] = _mm256_setzero_ps();
    for (; i + stride <= n; i += stride) {
        for (int k = 0; k < n_acc; k++) {
            size_t at = i + (size_t)k * LANES;
            __m256 v = load(w, at, LANES);
            for (int j = 0; j < n_x; j++)
                acc[j][k] = _mm256_fmadd_ps(v, load_f32(x[j], at, LANES), acc[j][k]);
        }
    }
    for (; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        __m256 v = load(w, i, left);
        for (int j = 0; j < n_x; j++)
            acc[j][0] = _mm256_fmadd_ps(v, load_f32(x[j], i, left), acc[j][0]);
    }
    for (int j = 0; j < n_x; j++) {
        for (int k = 1; k < n_acc; k++)
            acc[j][0] = _mm256_add_ps(acc[j][0], acc[j][k]);
        out[j] = sum_lanes(acc[j][0]);
    }
}

FORCE_INLINE void dot_row_f32(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, 2, load_f32);
}

FORCE_INLINE void dot_row_f16(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, 2, load_f16);
}

FORCE_INLINE void dot_row_bf16(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, 2, load_bf16);
}

/* Eight values of an FP8 block at a time: by way of half floats that are 256 times too small. */
FORCE_INLINE __m256 load_fp8(const uint8_t *block, size_t i)
{
    float d;
    memcpy(&d, block, sizeof d);
    __m128i v = _mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)(block + sizeof d + i)));
    __m128i sign = _mm_and_si128(_mm_slli_epi16(v, 8), _mm_set1_epi16((short)0x8000));
    __m128i half = _mm_or_si128(sign, _mm_and_si128(_mm_slli_epi16(v, 7), _mm_set1_epi16(0x3f80)));
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256)), _mm256_set1_ps(d));
}

FORCE_INLINE __m256 load_fp8_32(const void *p, size_t i, size_t n)
{
    (void)n; /* rows are whole blocks */
    return load_fp8((const uint8_t *)p + i / 32 * sizeof(struct fp8_32), i % 32);
}

FORCE_INLINE __m256 load_fp8_128(const void *p, size_t i, size_t n)
{
    (void)n;
    return load_fp8((const uint8_t *)p + i / 128 * sizeof(struct fp8_128), i % 128);
}

FORCE_INLINE void dot_row_fp8_32(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, 2, load_fp8_32);
}

FORCE_INLINE void dot_row_fp8_128(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, 2, load_fp8_128);
}

/* ---- blocks of 32: signed bytes times signed bytes ---- */

/* A block of 32: where its values are, and what they are. */
struct block32 {
    __m256i (*open)(const uint8_t *block);
    size_t bytes;   /* the scale, a half float, comes first */
    int32_t bias;   /* 0: values are signed, else unsigned and so much too large */
};

FORCE_INLINE __m256i block_q8_0(const uint8_t *block)
{
    return _mm256_loadu_si256((const void *)((const struct q8_0 *)(const void *)block)->qs);
}

FORCE_INLINE __m256i block_q4_0(const uint8_t *block)
{
    __m128i bytes = _mm_loadu_si128((const void *)((const struct q4_0 *)(const void *)block)->qs);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

FORCE_INLINE short half_bits(const uint8_t *at)
{
    short bits;
    memcpy(&bits, at, sizeof bits);
    return bits;
}

/* The scales of eight blocks. */
FORCE_INLINE __m256 scales_of(const uint8_t *w, size_t bytes)
{
    return _mm256_cvtph_ps(_mm_setr_epi16(half_bits(w), half_bits(w + bytes), half_bits(w + 2 * bytes),
                                          half_bits(w + 3 * bytes), half_bits(w + 4 * bytes),
                                          half_bits(w + 5 * bytes), half_bits(w + 6 * bytes),
                                          half_bits(w + 7 * bytes)));
}

/* Lane b: the eight parts of sums[b] added up. */
FORCE_INLINE __m256i add_parts(const __m256i sums[LANES])
{
    __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

/* Of signed values |w| is unsigned (128 at most) and x takes w's sign: no pair of products passes
 * 2 * 128 * 127 < 2^15. */
FORCE_INLINE __m256i parts_of(__m256i q, const struct q8_block *x, int32_t bias)
{
    __m256i xq = _mm256_loadu_si256((const void *)x->q);
    __m256i pairs = bias ? _mm256_maddubs_epi16(q, xq)
                         : _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(xq, q));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Eight blocks, a lane each. */
FORCE_INLINE void dot_eight(const uint8_t *w, const struct q8_block *const *x, __m256 *acc, int n_x,
                            const struct block32 *t)
{
    __m256i q[LANES];
    __m256 d = scales_of(w, t->bytes);
    for (int b = 0; b < LANES; b++)
        q[b] = t->open(w + (size_t)b * t->bytes);
    for (int j = 0; j < n_x; j++) {
        const struct q8_block *b = x[j];
        __m256i parts[LANES];
        for (int k = 0; k < LANES; k++)
            parts[k] = parts_of(q[k], b + k, t->bias);
        __m256i sums = add_parts(parts);
        if (t->bias) {
            __m256i all = _mm256_setr_epi32(b[0].sum, b[1].sum, b[2].sum, b[3].sum, b[4].sum, b[5].sum, b[6].sum,
                                            b[7].sum);
            sums = _mm256_sub_epi32(sums, _mm256_mullo_epi32(all, _mm256_set1_epi32(t->bias)));
        }
        __m256 scale = _mm256_setr_ps(b[0].scale, b[1].scale, b[2].scale, b[3].scale, b[4].scale, b[5].scale,
                                      b[6].scale, b[7].scale);
        acc[j] = _mm256_fmadd_ps(_mm256_mul_ps(d, scale), _mm256_cvtepi32_ps(sums), acc[j]);
    }
}

/* The last blocks of a row, fewer than eight: zeros follow them. */
FORCE_INLINE void dot_rest(const uint8_t *w, const struct q8_block *const *x, __m256 *acc, size_t n, int n_x,
                           const struct block32 *t)
{
    uint8_t w_part[LANES * sizeof(struct q8_0)] = {0};
    struct q8_block x_part[X_MAX][LANES];
    const struct q8_block *parts[X_MAX];
    memset(x_part, 0, sizeof x_part);
    memcpy(w_part, w, n * t->bytes);
    for (int j = 0; j < n_x; j++) {
        memcpy(x_part[j], x[j], n * sizeof x_part[j][0]);
        parts[j] = x_part[j];
    }
    dot_eight(w_part, parts, acc, n_x, t);
}

FORCE_INLINE void dot_block32(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x,
                              const struct block32 *t)
{
    const struct q8_block *at[X_MAX];
    __m256 acc[X_MAX];
    size_t b = 0, n_blocks = n / 32;
    for (int j = 0; j < n_x; j++) {
        acc[j] = _mm256_setzero_ps();
        at[j] = x[j];
    }
    for (; b + LANES <= n_blocks; b += LANES) {
        dot_eight(w + b * t->bytes, at, acc, n_x, t);
        for (int j = 0; j < n_x; j++)
            at[j] += LANES;
    }
    if (b < n_blocks)
        dot_rest(w + b * t->bytes, at, acc, n_blocks - b, n_x, t);
    for (int j = 0; j < n_x; j++)
        out[j] = sum_lanes(acc[j]);
}

FORCE_INLINE void dot_row_q8_0(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    const struct block32 t = {block_q8_0, sizeof(struct q8_0), 0};
    dot_block32(w, x, out, n, n_x, &t);
}

FORCE_INLINE void dot_row_q4_0(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    const struct block32 t = {block_q4_0, sizeof(struct q4_0), 8};
    dot_block32(w, x, out, n, n_x, &t);
}

/* ---- blocks of 256: unsigned quants in eight groups of 32, scales of 16 bits ---- */

/* What a block holds beside its quants. Lane L of `scale` (128 bits) holds at place g the scale of the L-th
 * half of group g. `offset` multiplies the 16 sums of x: mins of Q4_K and Q5_K, scales of Q6_K. */
struct k_head {
    __m256i scale, offset;
    float d, dmin;
};

typedef void (*k_head_fn)(const uint8_t *block, struct k_head *h);
typedef __m256i (*k_group_fn)(const uint8_t *block, int g);

struct k_type {
    k_head_fn head;
    k_group_fn group;    /* the 32 unsigned quants of group g, 63 at most */
    size_t block_bytes;
    bool has_mins;       /* else every quant is 32 too large */
};

FORCE_INLINE void head_q4_k(const uint8_t *block, struct k_head *h)
{
    const struct q4_k *b = (const void *)block;
    uint8_t scale[8], min[8];
    k_scales_unpack(b->scales, scale, min);
    __m128i mins = _mm_loadl_epi64((const void *)min);
    h->scale = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)scale)));
    h->offset = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins));
    h->d = _cvtsh_ss(b->d);
    h->dmin = _cvtsh_ss(b->dmin);
}

FORCE_INLINE __m256i nibbles(const uint8_t *at, bool high)
{
    __m256i bytes = _mm256_loadu_si256((const void *)at);
    return _mm256_and_si256(high ? _mm256_srli_epi16(bytes, 4) : bytes, _mm256_set1_epi8(15));
}

FORCE_INLINE __m256i group_q4_k(const uint8_t *block, int g)
{
    return nibbles(((const struct q4_k *)(const void *)block)->qs + 32 * (g / 2), g % 2);
}

/* Bits from..from+n of every byte, moved to bits 4..4+n; what crosses into a neighbour byte is masked off. */
FORCE_INLINE __m256i bits_to_4(const uint8_t *at, int from, char mask)
{
    __m256i bytes = _mm256_loadu_si256((const void *)at);
    __m256i moved = from <= 4 ? _mm256_slli_epi16(bytes, 4 - from) : _mm256_srli_epi16(bytes, from - 4);
    return _mm256_and_si256(moved, _mm256_set1_epi8(mask));
}

FORCE_INLINE __m256i group_q5_k(const uint8_t *block, int g)
{
    const struct q5_k *b = (const void *)block;
    return _mm256_or_si256(nibbles(b->qs + 32 * (g / 2), g % 2), bits_to_4(b->qh, g, 0x10));
}

FORCE_INLINE void head_q6_k(const uint8_t *block, struct k_head *h)
{
    const struct q6_k *b = (const void *)block;
    const __m128i even_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m128i scales = _mm_loadu_si128((const void *)b->scales);
    h->scale = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_odd));
    h->offset = _mm256_cvtepi8_epi16(scales);
    h->d = _cvtsh_ss(b->d);
    h->dmin = 0;
}

FORCE_INLINE __m256i group_q6_k(const uint8_t *block, int g)
{
    const struct q6_k *b = (const void *)block;
    int half = g / 4, k = g % 4;
    __m256i low = nibbles(b->ql + 64 * half + 32 * (k & 1), k >> 1);
    return _mm256_or_si256(low, bits_to_4(b->qh + 32 * half, 2 * k, 0x30));
}

/* The integer sums of one block for every x, in eight parts each. */
FORCE_INLINE void k_sums(const uint8_t *block, const struct q8k_block *const *x, const struct k_head *h,
                         __m256i *sum, int n_x, const struct k_type *t)
{
    for (int j = 0; j < n_x; j++)
        sum[j] = _mm256_setzero_si256();
    for (int g = 0; g < 8; g++) {
        __m256i q = t->group(block, g);
        __m256i scale = _mm256_shuffle_epi8(h->scale, _mm256_set1_epi16((short)(0x0100 + 0x0202 * g)));
        for (int j = 0; j < n_x; j++) {
            __m256i xq = _mm256_loadu_si256((const void *)(x[j]->q + 32 * g));
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(_mm256_maddubs_epi16(q, xq), scale));
        }
    }
}

FORCE_INLINE int32_t sum_parts(__m256i v)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* acc += the block's product: the sum by d, less the offset, for Q6_K an integer of the same scale. */
FORCE_INLINE float k_add(float acc, __m256i sum, const struct q8k_block *x, const struct k_head *h, bool has_mins)
{
    __m256i offset = _mm256_madd_epi16(h->offset, _mm256_loadu_si256((const void *)x->sums));
    if (!has_mins)
        sum = _mm256_sub_epi32(sum, _mm256_slli_epi32(offset, 5));
    acc = fmaf(h->d * x->scale, (float)sum_parts(sum), acc);
    return has_mins ? fmaf(-(h->dmin * x->scale), (float)sum_parts(offset), acc) : acc;
}

FORCE_INLINE void dot_k(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x,
                        const struct k_type *t)
{
    for (int j = 0; j < n_x; j++)
        out[j] = 0;
    for (size_t b = 0; b < n / 256; b++) {
        const struct q8k_block *xb[X_MAX];
        struct k_head h;
        __m256i sum[X_MAX];
        for (int j = 0; j < n_x; j++)
            xb[j] = (const struct q8k_block *)x[j] + b;
        t->head(w + b * t->block_bytes, &h);
        k_sums(w + b * t->block_bytes, xb, &h, sum, n_x, t);
        for (int j = 0; j < n_x; j++)
            out[j] = k_add(out[j], sum[j], xb[j], &h, t->has_mins);
    }
}

FORCE_INLINE void dot_row_q4_k(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    const struct k_type t = {head_q4_k, group_q4_k, sizeof(struct q4_k), true};
    dot_k(w, x, out, n, n_x, &t);
}

/* Q5_K begins as Q4_K does. */
FORCE_INLINE void dot_row_q5_k(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    const struct k_type t = {head_q4_k, group_q5_k, sizeof(struct q5_k), true};
    dot_k(w, x, out, n, n_x, &t);
}

FORCE_INLINE void dot_row_q6_k(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    const struct k_type t = {head_q6_k, group_q6_k, sizeof(struct q6_k), false};
    dot_k(w, x, out, n, n_x, &t);
}

#define ROWS(type)                                                                   \
    static void rows_##type(const struct matmul_job *job, size_t first, size_t last) \
    {                                                                                \
        rows_of(job, first, last, dot_row_##type);                                   \
    }
ROWS(f32)
ROWS(f16)
ROWS(bf16)
#undef ROWS

/* Many rows of x are worth unpacking eight rows of W at a time for. */
#define ROWS_OR_PANELS(type)                                                         \
    static void rows_##type(const struct matmul_job *job, size_t first, size_t last) \
    {                                                                                \
        if (job->n_x >= PANEL_X_MIN)                                                 \
            avx2_panels_##type(job, first, last);                                    \
        else                                                                         \
            rows_of(job, first, last, dot_row_##type);                               \
    }
ROWS_OR_PANELS(q8_0)
ROWS_OR_PANELS(q4_0)
ROWS_OR_PANELS(q4_k)
ROWS_OR_PANELS(q5_k)
ROWS_OR_PANELS(q6_k)
#undef ROWS_OR_PANELS

static void avx2_rows_fp8_32(const struct matmul_job *job, size_t first, size_t last)
{
    rows_of(job, first, last, dot_row_fp8_32);
}

static void avx2_rows_fp8_128(const struct matmul_job *job, size_t first, size_t last)
{
    rows_of(job, first, last, dot_row_fp8_128);
}

/* ---- activations ---- */

/* Rounds 32 products to signed bytes; the packs work inside 128-bit lanes, the permutation undoes that. */
FORCE_INLINE void quantise32(const float *x, int8_t *q, __m256 inverse)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i v[4];
    for (size_t k = 0; k < 4; k++)
        v[k] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + k * LANES), inverse));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    _mm256_storeu_si256((void *)q, _mm256_permutevar8x32_epi32(bytes, order));
}

/* Quantise n values (a multiple of 32) by the rule of isa.h; returns the scale. */
FORCE_INLINE float quantise(const float *x, int8_t *q, size_t n)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MAX)), top = _mm256_set1_ps(FLT_MAX);
    __m256 largest = _mm256_setzero_ps(), bad = largest;
    for (size_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_and_ps(_mm256_loadu_ps(x + i), magnitude);
        bad = _mm256_or_ps(bad, _mm256_cmp_ps(v, top, _CMP_NLE_UQ)); /* infinite or not a number */
        largest = _mm256_max_ps(largest, v);
    }
    float lanes[LANES], amax = 0;
    _mm256_storeu_ps(lanes, largest);
    for (size_t i = 0; i < LANES; i++)
        amax = lanes[i] > amax ? lanes[i] : amax;
    bool finite = _mm256_movemask_ps(bad) == 0;
    if (!finite || amax < Q8_TINY) {
        memset(q, 0, n);
        return finite ? 0 : NAN;
    }
    for (size_t i = 0; i < n; i += 32)
        quantise32(x + i, q + i, _mm256_set1_ps(127.0F / amax));
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
    const void *x[1] = {a};
    float out;
    dot_float(b, x, &out, n, 1, 4, load_f32);
    return out;
}

static float dot_f16(const float *a, const uint16_t *b, size_t n)
{
    const void *x[1] = {a};
    float out;
    dot_float(b, x, &out, n, 1, 4, load_f16);
    return out;
}

FORCE_INLINE void axpy(float *y, float a, const void *x, size_t n, load_fn load)
{
    const __m256 factor = _mm256_set1_ps(a);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, _mm256_fmadd_ps(factor, load(x, i, LANES), load_f32(y, i, LANES)), LANES);
    if (i < n)
        store(y + i, _mm256_fmadd_ps(factor, load(x, i, n - i), load_f32(y, i, n - i)), n - i);
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
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        uint16_t half[LANES];
        _mm_storeu_si128((void *)half, _mm256_cvtps_ph(load_f32(x, i, left), _MM_FROUND_TO_NEAREST_INT));
        memcpy(y + i, half, left * sizeof *y);
    }
}

/* exp: 2^n * e^r with r = x - n ln 2 in two parts, |r| <= ln 2 / 2, and e^r by its Taylor series to degree 7.
 * The ends give 0 and infinity. 2^n is applied in two halves: n may lie outside the exponents. */
FORCE_INLINE __m256 exp_ps(__m256 x)
{
    /* With the constant first a NaN passes through. */
    x = _mm256_max_ps(_mm256_set1_ps(-104), _mm256_min_ps(_mm256_set1_ps(89), x));
    __m256i n = _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504F)));
    __m256 whole = _mm256_cvtepi32_ps(n);
    __m256 r = _mm256_fnmadd_ps(whole, _mm256_set1_ps(0x1.62e4p-1F), x);
    r = _mm256_fnmadd_ps(whole, _mm256_set1_ps(0x1.7f7d1cp-20F), r);
    __m256 p = _mm256_set1_ps(1.0F / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5F));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
    __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half), bias = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0F);
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        __m256 g = load_f32(gate, i, left), e = exp_ps(_mm256_xor_ps(g, sign));
        __m256 s = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1), e));
        store(out + i, _mm256_mul_ps(s, load_f32(up, i, left)), left);
    }
}

static float scale_top(float *x, float scale, float max, size_t n)
{
    __m256 top = _mm256_set1_ps(max);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 v = _mm256_mul_ps(load_f32(x, i, LANES), _mm256_set1_ps(scale));
        store(x + i, v, LANES);
        top = _mm256_max_ps(v, top); /* of a NaN and top: top */
    }
    for (; i < n; i++) {
        x[i] *= scale;
        max = x[i] > max ? x[i] : max;
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, top);
    for (i = 0; i < LANES; i++)
        max = lanes[i] > max ? lanes[i] : max;
    return max;
}

static float softmax_exp(float *x, float max, size_t n)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        __m256 e = exp_ps(_mm256_sub_ps(load_f32(x, i, left), _mm256_set1_ps(max)));
        store(x + i, e, left);
        sum = _mm256_add_ps(sum, _mm256_and_ps(e, _mm256_castsi256_ps(first_lanes(left))));
    }
    return sum_lanes(sum);
}

static const struct matmul_kernel kernels[] = {
    {QTYPE_F32, FORM_F32, rows_f32},   {QTYPE_F16, FORM_F32, rows_f16},   {QTYPE_BF16, FORM_F32, rows_bf16},
    {QTYPE_Q8_0, FORM_Q8, rows_q8_0},  {QTYPE_Q4_0, FORM_Q8, rows_q4_0},  {QTYPE_Q4_K, FORM_Q8K, rows_q4_k},
    {QTYPE_Q5_K, FORM_Q8K, rows_q5_k}, {QTYPE_Q6_K, FORM_Q8K, rows_q6_k}, {QTYPE_Q4_1, FORM_Q8, avx2_rows_q4_1},
    {QTYPE_Q5_0, FORM_Q8, avx2_rows_q5_0},   {QTYPE_Q5_1, FORM_Q8, avx2_rows_q5_1},
    {QTYPE_IQ4_NL, FORM_Q8, avx2_rows_iq4_nl}, {QTYPE_MXFP4, FORM_Q8, avx2_rows_mxfp4},
    {QTYPE_NVFP4, FORM_Q8, avx2_rows_nvfp4}, {QTYPE_Q2_K, FORM_Q8K, avx2_rows_q2_k},
    {QTYPE_Q3_K, FORM_Q8K, avx2_rows_q3_k},  {QTYPE_IQ4_XS, FORM_Q8K, avx2_rows_iq4_xs},
    ISA_OWN_KERNELS(avx2_rows), {0, FORM_F32, NULL},
};

const struct isa isa_avx2 = {
    .name = "avx2",
    .usable = usable,
    .kernels = kernels,
    .quanta = {.form = FORM_Q8K, .rows = avx2_rows_quanta},
    .prepare = {[FORM_Q8] = prepare_q8, [FORM_Q8K] = prepare_q8k},
    .page_scores = avx2_page_scores,
    .page_mix = avx2_page_mix,
    .page_widen = avx2_page_widen,
    .dot_f32 = dot_f32,
    .dot_f16 = dot_f16,
    .axpy_f32 = axpy_f32,
    .axpy_f16 = axpy_f16,
    .store_f16 = store_f16,
    .silu_mul = silu_mul,
    .scale_top = scale_top,
    .softmax_exp = softmax_exp,
};

#endif
