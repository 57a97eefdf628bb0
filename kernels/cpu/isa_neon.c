/* isa_neon: AArch64 with the dot product extension: one row of W against up to four rows of x.
 *
 * Quantised blocks: the integer sums of a block are exact, so they may be made
 * in any order; their four parts go, block after block, to one accumulator of
 * four float lanes, added at the end.  Float rows: accumulators over strides, a
 * rest of zero-filled lanes, the same sum.  Every step that rounds is written
 * as one intrinsic, so the bits of a pair do not depend on how many rows of x
 * there are.                                                                 */
#include "kernels/cpu/forms.h"
#include "kernels/cpu/isa.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include <sys/auxv.h>

#include "kernels/quant/blocks.h"

#define FORCE_INLINE static inline __attribute__((always_inline))

enum {
    LANES = 4,
    X_MAX = 4, /* rows of x that share the unpacking of a row of W */
};

static bool usable(void)
{
    unsigned long has = getauxval(AT_HWCAP);
    return (has & HWCAP_ASIMDHP) && (has & HWCAP_ASIMDDP);
}

/* ---- what everything shares ---- */

/* Values i..i+n of a row as floats, n <= 4, zero in the other lanes. */
typedef float32x4_t (*load_fn)(const void *p, size_t i, size_t n);

FORCE_INLINE float32x4_t load_f32(const void *p, size_t i, size_t n)
{
    float part[LANES] = {0};
    const float *at = (const float *)p + i;
    if (n == LANES)
        return vld1q_f32(at);
    memcpy(part, at, n * sizeof *at);
    return vld1q_f32(part);
}

FORCE_INLINE uint16x4_t load_half(const void *p, size_t i, size_t n)
{
    uint16_t part[LANES] = {0};
    const uint16_t *at = (const uint16_t *)p + i;
    if (n == LANES)
        return vld1_u16(at);
    memcpy(part, at, n * sizeof *at);
    return vld1_u16(part);
}

FORCE_INLINE float32x4_t load_f16(const void *p, size_t i, size_t n)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(load_half(p, i, n)));
}

FORCE_INLINE float32x4_t load_bf16(const void *p, size_t i, size_t n)
{
    return vreinterpretq_f32_u32(vshll_n_u16(load_half(p, i, n), 16));
}

FORCE_INLINE void store(float *y, float32x4_t v, size_t n)
{
    float part[LANES];
    if (n == LANES) {
        vst1q_f32(y, v);
        return;
    }
    vst1q_f32(part, v);
    memcpy(y, part, n * sizeof *y);
}

FORCE_INLINE size_t lanes_left(size_t i, size_t n)
{
    return n - i < LANES ? n - i : LANES;
}

FORCE_INLINE float half_to_float(uint16_t h)
{
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

/* ---- rows ---- */

/* out[j] = one row of w times x[j], 0 <= j < n_x. */
typedef void (*dot_fn)(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x);

FORCE_INLINE void rows_of(const struct matmul_job *job, size_t first, size_t last, dot_fn dot)
{
    for (size_t i = first; i < last; i++) {
        const uint8_t *w = job->w + i * job->w_stride;
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

/* Four accumulators a pair hide the latency of the sums. */
FORCE_INLINE void dot_float(const void *w, const void *const *x, float *out, size_t n, int n_x, load_fn load)
{
    float32x4_t acc[X_MAX][4];
    size_t i = 0;
    for (int j = 0; j < n_x; j++)
        for (int k = 0; k < 4; k++)
            acc[j][k] = vdupq_n_f32(0);
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t k = 0; k < 4; k++) {
            size_t at = i + k * LANES;
            float32x4_t v = load(w, at, LANES);
            for (int j = 0; j < n_x; j++)
                acc[j][k] = vfmaq_f32(acc[j][k], v, load_f32(x[j], at, LANES));
        }
    }
    for (; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        float32x4_t v = load(w, i, left);
        for (int j = 0; j < n_x; j++)
            acc[j][0] = vfmaq_f32(acc[j][0], v, load_f32(x[j], i, left));
    }
    for (int j = 0; j < n_x; j++)
        out[j] = vaddvq_f32(vaddq_f32(vaddq_f32(acc[j][0], acc[j][1]), vaddq_f32(acc[j][2], acc[j][3])));
}

FORCE_INLINE void dot_row_f32(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, load_f32);
}

FORCE_INLINE void dot_row_f16(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, load_f16);
}

FORCE_INLINE void dot_row_bf16(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_float(w, x, out, n, n_x, load_bf16);
}

/* ---- blocks of 32 ---- */

/* A block's 32 values as signed bytes; returns its scale. */
typedef float (*block32_fn)(const uint8_t *block, int8x16_t q[2]);

FORCE_INLINE float block_q8_0(const uint8_t *block, int8x16_t q[2])
{
    const struct q8_0 *b = (const void *)block;
    q[0] = vld1q_s8(b->qs);
    q[1] = vld1q_s8(b->qs + 16);
    return half_to_float(b->d);
}

FORCE_INLINE float block_q4_0(const uint8_t *block, int8x16_t q[2])
{
    const struct q4_0 *b = (const void *)block;
    uint8x16_t bytes = vld1q_u8(b->qs);
    q[0] = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vdupq_n_s8(8));
    q[1] = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), vdupq_n_s8(8));
    return half_to_float(b->d);
}

/* Four parts of the sum of 32 products of bytes. */
FORCE_INLINE int32x4_t dot32(const int8x16_t q[2], const int8_t *x)
{
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), q[0], vld1q_s8(x)), q[1], vld1q_s8(x + 16));
}

FORCE_INLINE void dot_block32(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x,
                              size_t block_bytes, block32_fn open)
{
    float32x4_t acc[X_MAX];
    for (int j = 0; j < n_x; j++)
        acc[j] = vdupq_n_f32(0);
    for (size_t b = 0; b < n / 32; b++) {
        int8x16_t q[2];
        float d = open(w + b * block_bytes, q);
        for (int j = 0; j < n_x; j++) {
            const struct q8_block *xb = (const struct q8_block *)x[j] + b;
            acc[j] = vfmaq_n_f32(acc[j], vcvtq_f32_s32(dot32(q, xb->q)), d * xb->scale);
        }
    }
    for (int j = 0; j < n_x; j++)
        out[j] = vaddvq_f32(acc[j]);
}

FORCE_INLINE void dot_row_q8_0(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_block32(w, x, out, n, n_x, sizeof(struct q8_0), block_q8_0);
}

FORCE_INLINE void dot_row_q4_0(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x)
{
    dot_block32(w, x, out, n, n_x, sizeof(struct q4_0), block_q4_0);
}

/* ---- blocks of 256: eight groups of 32 ---- */

/* What a block holds beside its quants: a scale for each half of a group, and for Q4_K and Q5_K the
 * mins, one for each of the 16 sums of x. */
struct k_head {
    int16_t scale[16];
    int16_t min[16];
    float d, dmin;
};

typedef void (*k_head_fn)(const uint8_t *block, struct k_head *h);
typedef void (*k_group_fn)(const uint8_t *block, int g, int8x16_t q[2]);

struct k_type {
    k_head_fn head;
    k_group_fn group;   /* the 32 quants of group g */
    size_t block_bytes;
    bool has_mins;      /* then both halves of a group have one scale */
};

FORCE_INLINE void head_q4_k(const uint8_t *block, struct k_head *h)
{
    const struct q4_k *b = (const void *)block;
    uint8_t scale[8], min[8];
    k_scales_unpack(b->scales, scale, min);
    for (int i = 0; i < 16; i++) {
        h->scale[i] = scale[i / 2];
        h->min[i] = min[i / 2];
    }
    h->d = half_to_float(b->d);
    h->dmin = half_to_float(b->dmin);
}

FORCE_INLINE uint8x16_t nibbles(const uint8_t *at, bool high)
{
    uint8x16_t bytes = vld1q_u8(at);
    return high ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
}

FORCE_INLINE void group_q4_k(const uint8_t *block, int g, int8x16_t q[2])
{
    const uint8_t *qs = ((const struct q4_k *)(const void *)block)->qs + 32 * (g / 2);
    for (int i = 0; i < 2; i++)
        q[i] = vreinterpretq_s8_u8(nibbles(qs + 16 * i, g % 2));
}

/* Bits from..from+n of every byte, moved to bits 4..4+n. */
FORCE_INLINE uint8x16_t bits_to_4(const uint8_t *at, int from, uint8_t mask)
{
    return vandq_u8(vshlq_u8(vld1q_u8(at), vdupq_n_s8((int8_t)(4 - from))), vdupq_n_u8(mask));
}

FORCE_INLINE void group_q5_k(const uint8_t *block, int g, int8x16_t q[2])
{
    const struct q5_k *b = (const void *)block;
    for (int i = 0; i < 2; i++)
        q[i] = vreinterpretq_s8_u8(
            vorrq_u8(nibbles(b->qs + 32 * (g / 2) + 16 * i, g % 2), bits_to_4(b->qh + 16 * i, g, 0x10)));
}

FORCE_INLINE void head_q6_k(const uint8_t *block, struct k_head *h)
{
    const struct q6_k *b = (const void *)block;
    for (int i = 0; i < 16; i++)
        h->scale[i] = b->scales[i];
    h->d = half_to_float(b->d);
    h->dmin = 0;
}

FORCE_INLINE void group_q6_k(const uint8_t *block, int g, int8x16_t q[2])
{
    const struct q6_k *b = (const void *)block;
    int half = g / 4, k = g % 4;
    for (int i = 0; i < 2; i++) {
        uint8x16_t low = nibbles(b->ql + 64 * half + 32 * (k & 1) + 16 * i, k >> 1);
        uint8x16_t high = bits_to_4(b->qh + 32 * half + 16 * i, 2 * k, 0x30);
        q[i] = vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(low, high)), vdupq_n_s8(32));
    }
}

/* The integer sums of one block for every x, in four parts each. */
FORCE_INLINE void k_sums(const uint8_t *block, const struct q8k_block *const *x, const struct k_head *h,
                         int32x4_t *sum, int n_x, const struct k_type *t)
{
    for (int j = 0; j < n_x; j++)
        sum[j] = vdupq_n_s32(0);
    for (int g = 0; g < 8; g++) {
        int8x16_t q[2];
        t->group(block, g, q);
        for (int j = 0; j < n_x; j++) {
            const int8_t *xq = x[j]->q + 32 * g;
            if (t->has_mins) {
                sum[j] = vmlaq_n_s32(sum[j], dot32(q, xq), h->scale[2 * g]);
                continue;
            }
            for (int i = 0; i < 2; i++)
                sum[j] = vmlaq_n_s32(sum[j], vdotq_s32(vdupq_n_s32(0), q[i], vld1q_s8(xq + 16 * i)),
                                     h->scale[2 * g + i]);
        }
    }
}

/* Four parts of the sum of mins times the sums of x. */
FORCE_INLINE int32x4_t k_mins(const struct k_head *h, const struct q8k_block *x)
{
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < 16; i += 4)
        sum = vmlal_s16(sum, vld1_s16(h->min + i), vld1_s16(x->sums + i));
    return sum;
}

FORCE_INLINE void dot_k(const uint8_t *w, const void *const *x, float *out, size_t n, int n_x,
                        const struct k_type *t)
{
    float32x4_t acc[X_MAX];
    for (int j = 0; j < n_x; j++)
        acc[j] = vdupq_n_f32(0);
    for (size_t b = 0; b < n / 256; b++) {
        const struct q8k_block *xb[X_MAX];
        struct k_head h;
        int32x4_t sum[X_MAX];
        for (int j = 0; j < n_x; j++)
            xb[j] = (const struct q8k_block *)x[j] + b;
        t->head(w + b * t->block_bytes, &h);
        k_sums(w + b * t->block_bytes, xb, &h, sum, n_x, t);
        for (int j = 0; j < n_x; j++) {
            acc[j] = vfmaq_n_f32(acc[j], vcvtq_f32_s32(sum[j]), h.d * xb[j]->scale);
            if (t->has_mins)
                acc[j] = vfmsq_n_f32(acc[j], vcvtq_f32_s32(k_mins(&h, xb[j])), h.dmin * xb[j]->scale);
        }
    }
    for (int j = 0; j < n_x; j++)
        out[j] = vaddvq_f32(acc[j]);
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
ROWS(q8_0)
ROWS(q4_0)
ROWS(q4_k)
ROWS(q5_k)
ROWS(q6_k)
#undef ROWS

/* ---- activations ---- */

/* Quantise n values (a multiple of 32) by the rule of isa.h; returns the scale. */
FORCE_INLINE float quantise(const float *x, int8_t *q, size_t n)
{
    float32x4_t largest = vdupq_n_f32(0);
    uint32x4_t good = vdupq_n_u32(UINT32_MAX);
    for (size_t i = 0; i < n; i += LANES) {
        float32x4_t v = vabsq_f32(vld1q_f32(x + i));
        good = vandq_u32(good, vcleq_f32(v, vdupq_n_f32(FLT_MAX))); /* neither infinite nor not a number */
        largest = vmaxq_f32(largest, v);
    }
    bool finite = vminvq_u32(good) != 0;
    float amax = finite ? vmaxvq_f32(largest) : 0;
    if (amax < Q8_TINY) {
        memset(q, 0, n);
        return finite ? 0 : NAN;
    }
    float inverse = 127.0F / amax;
    for (size_t i = 0; i < n; i += 8) {
        int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
        int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + LANES), inverse));
        vst1_s8(q + i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
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
    const void *x[1] = {a};
    float out;
    dot_float(b, x, &out, n, 1, load_f32);
    return out;
}

static float dot_f16(const float *a, const uint16_t *b, size_t n)
{
    const void *x[1] = {a};
    float out;
    dot_float(b, x, &out, n, 1, load_f16);
    return out;
}

FORCE_INLINE void axpy(float *y, float a, const void *x, size_t n, load_fn load)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, vfmaq_n_f32(load_f32(y, i, LANES), load(x, i, LANES), a), LANES);
    if (i < n)
        store(y + i, vfmaq_n_f32(load_f32(y, i, n - i), load(x, i, n - i), a), n - i);
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
        vst1_u16(half, vreinterpret_u16_f16(vcvt_f16_f32(load_f32(x, i, left))));
        memcpy(y + i, half, left * sizeof *y);
    }
}

/* exp: 2^n * e^r with r = x - n ln 2 in two parts, |r| <= ln 2 / 2, and e^r by its Taylor series to degree 7.
 * The ends give 0 and infinity. 2^n is applied in two halves: n may lie outside the exponents. */
FORCE_INLINE float32x4_t exp_ps(float32x4_t x)
{
    x = vmaxq_f32(vdupq_n_f32(-104), vminq_f32(vdupq_n_f32(89), x)); /* a NaN passes through */
    int32x4_t n = vcvtnq_s32_f32(vmulq_n_f32(x, 1.44269504F));
    float32x4_t whole = vcvtq_f32_s32(n), p = vdupq_n_f32(1.0F / 5040);
    float32x4_t r = vfmsq_n_f32(x, whole, 0x1.62e4p-1F);
    r = vfmsq_n_f32(r, whole, 0x1.7f7d1cp-20F);
    p = vfmaq_f32(vdupq_n_f32(1.0F / 720), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0F / 120), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0F / 24), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0F / 6), p, r);
    p = vfmaq_f32(vdupq_n_f32(0.5F), p, r);
    p = vfmaq_f32(vdupq_n_f32(1), p, r);
    p = vfmaq_f32(vdupq_n_f32(1), p, r);
    int32x4_t half = vshrq_n_s32(n, 1), rest = vsubq_s32(n, half), bias = vdupq_n_s32(127);
    p = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        float32x4_t g = load_f32(gate, i, left), e = exp_ps(vnegq_f32(g));
        float32x4_t s = vdivq_f32(g, vaddq_f32(vdupq_n_f32(1), e));
        store(out + i, vmulq_f32(s, load_f32(up, i, left)), left);
    }
}

static float scale_top(float *x, float scale, float max, size_t n)
{
    float32x4_t top = vdupq_n_f32(max);
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        float32x4_t v = vmulq_n_f32(load_f32(x, i, left), scale);
        store(x + i, v, left);
        if (left == LANES) {
            top = vmaxnmq_f32(top, v); /* of a NaN and top: top */
            continue;
        }
        for (; i < n; i++)
            max = x[i] > max ? x[i] : max;
    }
    float most = vmaxnmvq_f32(top);
    return most > max ? most : max;
}

static float softmax_exp(float *x, float max, size_t n)
{
    float32x4_t sum = vdupq_n_f32(0);
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = lanes_left(i, n);
        store(x + i, exp_ps(vsubq_f32(load_f32(x, i, left), vdupq_n_f32(max))), left);
        sum = vaddq_f32(sum, load_f32(x, i, left));
    }
    return vaddvq_f32(sum);
}

static const struct matmul_kernel kernels[] = {
    {QTYPE_F32, FORM_F32, rows_f32},   {QTYPE_F16, FORM_F32, rows_f16},   {QTYPE_BF16, FORM_F32, rows_bf16},
    {QTYPE_Q8_0, FORM_Q8, rows_q8_0},  {QTYPE_Q4_0, FORM_Q8, rows_q4_0},  {QTYPE_Q4_K, FORM_Q8K, rows_q4_k},
    {QTYPE_Q5_K, FORM_Q8K, rows_q5_k}, {QTYPE_Q6_K, FORM_Q8K, rows_q6_k}, {0, FORM_F32, NULL},
};

const struct isa isa_neon = {
    .name = "neon",
    .usable = usable,
    .kernels = kernels,
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

#endif
