/* blocks: the byte layouts of the quantised types, as they lie in model files.
 *
 * Little-endian, packed, no padding.  16-bit fields named d, dmin are IEEE half
 * floats.  Each kernels/quant/<type>.c says what the bits mean.               */
#ifndef KERNELS_QUANT_BLOCKS_H
#define KERNELS_QUANT_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/qtype.h"

struct q4_0 {
    uint16_t d;
    uint8_t qs[16];
};

struct q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};

struct q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};

struct q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};

struct q8_0 {
    uint16_t d;
    int8_t qs[32];
};

struct q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};

struct q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};

struct q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};

struct q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

struct q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

struct iq1_s {
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8];
};

struct iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];
    uint16_t scales[4];
};

struct iq2_xxs {
    uint16_t d;
    uint16_t qs[32];
};

struct iq2_xs {
    uint16_t d;
    uint16_t qs[32];
    uint8_t scales[8];
};

struct iq2_s {
    uint16_t d;
    uint8_t qs[32];
    uint8_t signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
};

struct iq3_xxs {
    uint16_t d;
    uint8_t qs[64];
    uint16_t signs[16];
};

struct iq3_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
};

struct iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};

struct iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};

struct tq1_0 {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
};

struct tq2_0 {
    uint8_t qs[64];
    uint16_t d;
};

struct mxfp4 {
    uint8_t e;
    uint8_t qs[16];
};

struct nvfp4 {
    uint8_t d[4];
    uint8_t qs[32];
};

_Static_assert(sizeof(struct q4_0) == 18, "layout of Q4_0");
_Static_assert(sizeof(struct q4_1) == 20, "layout of Q4_1");
_Static_assert(sizeof(struct q5_0) == 22, "layout of Q5_0");
_Static_assert(sizeof(struct q5_1) == 24, "layout of Q5_1");
_Static_assert(sizeof(struct q8_0) == 34, "layout of Q8_0");
_Static_assert(sizeof(struct q2_k) == 84, "layout of Q2_K");
_Static_assert(sizeof(struct q3_k) == 110, "layout of Q3_K");
_Static_assert(sizeof(struct q4_k) == 144, "layout of Q4_K");
_Static_assert(sizeof(struct q5_k) == 176, "layout of Q5_K");
_Static_assert(sizeof(struct q6_k) == 210, "layout of Q6_K");
_Static_assert(sizeof(struct iq1_s) == 50, "layout of IQ1_S");
_Static_assert(sizeof(struct iq1_m) == 56, "layout of IQ1_M");
_Static_assert(sizeof(struct iq2_xxs) == 66, "layout of IQ2_XXS");
_Static_assert(sizeof(struct iq2_xs) == 74, "layout of IQ2_XS");
_Static_assert(sizeof(struct iq2_s) == 82, "layout of IQ2_S");
_Static_assert(sizeof(struct iq3_xxs) == 98, "layout of IQ3_XXS");
_Static_assert(sizeof(struct iq3_s) == 110, "layout of IQ3_S");
_Static_assert(sizeof(struct iq4_nl) == 18, "layout of IQ4_NL");
_Static_assert(sizeof(struct iq4_xs) == 136, "layout of IQ4_XS");
_Static_assert(sizeof(struct tq1_0) == 54, "layout of TQ1_0");
_Static_assert(sizeof(struct tq2_0) == 66, "layout of TQ2_0");
_Static_assert(sizeof(struct mxfp4) == 17, "layout of MXFP4");
_Static_assert(sizeof(struct nvfp4) == 36, "layout of NVFP4");

extern const struct qtype qtype_f32, qtype_f16, qtype_bf16, qtype_q4_0, qtype_q4_1, qtype_q5_0, qtype_q5_1, qtype_q8_0,
    qtype_q2_k, qtype_q3_k, qtype_q4_k, qtype_q5_k, qtype_q6_k, qtype_iq1_s, qtype_iq1_m, qtype_iq2_xxs, qtype_iq2_xs,
    qtype_iq2_s, qtype_iq3_xxs, qtype_iq3_s, qtype_iq4_nl, qtype_iq4_xs, qtype_tq1_0, qtype_tq2_0, qtype_mxfp4,
    qtype_nvfp4;

/* int.c, fp8.c: the house's own */
extern const struct qtype qtype_int2_32, qtype_int2_64, qtype_int2_128, qtype_int2f_32, qtype_int3_32, qtype_int3_64,
    qtype_int3_128, qtype_int3f_32, qtype_int4_32, qtype_int4_64, qtype_int4_128, qtype_int4f_32, qtype_int4b_32,
    qtype_int8_32, qtype_int8_64, qtype_int8_128, qtype_int8f_32, qtype_fp8_32, qtype_fp8_128;

/* to_f32 by way of unpack: quanta.c. */
void quanta_to_f32(const void *blocks, size_t block_bytes, void (*unpack)(const void *block, struct quanta *out),
                   float *out, size_t n);

/* The same scale for all of a block's values, and no mins. */
static inline void quanta_plain(struct quanta *u, float d, int16_t scale)
{
    u->d = d;
    u->dmin = 0;
    for (int g = 0; g < 16; g++) {
        u->scale[g] = scale;
        u->min[g] = 0;
    }
}

/* The values of IQ4_NL and IQ4_XS, and those of the FP4 types doubled. */
#define IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define FP4_DOUBLED 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

/* 2^(e - 128): the factor of MXFP4's doubled values. */
static inline float e8m0_half(uint8_t e)
{
    union {
        uint32_t bits;
        float value;
    } f = {e < 2 ? 0x00200000U << e : (uint32_t)(e - 1) << 23};
    return f.value;
}

/* An unsigned float of 4 exponent and 3 fraction bits; NaN's code counts as 0. */
static inline float ue4m3(uint8_t v)
{
    int exponent = v >> 3 & 15, fraction = v & 7;
    if (v == 0x7f || v == 0xff)
        return 0;
    return exponent == 0 ? (float)fraction * 0x1p-9F : (float)(8 + fraction) * (float)(1 << exponent) * 0x1p-10F;
}

/* The eight six-bit scales and mins of Q4_K and Q5_K, packed in 12 bytes. */
static inline void k_scales_unpack(const uint8_t s[12], uint8_t scale[8], uint8_t min[8])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = s[j] & 63;
        min[j] = s[j + 4] & 63;
        scale[j + 4] = (uint8_t)((s[j + 8] & 15) | (s[j] >> 6) << 4);
        min[j + 4] = (uint8_t)(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
    }
}

static inline void k_scales_pack(const uint8_t scale[8], const uint8_t min[8], uint8_t s[12])
{
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        s[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
        s[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* The integer nearest to v in low..high (within 2^22); what is not a number counts as low. */
static inline int nearest_of(float v, float low, float high)
{
    v = v > low ? v : low;
    v = v < high ? v : high;
    return (int)(v + 0x1.8p23F - 0x1.8p23F); /* the addition drops the fraction, to nearest even */
}

/* The value of five bits at place e of Q5_0 and Q5_1. */
static inline int q5_value(const uint8_t qs[16], const uint8_t qh[4], int e)
{
    return (qs[e % 16] >> 4 * (e / 16) & 15) | (qh[e / 8] >> e % 8 & 1) << 4;
}

/* Into blocks that were zero. */
static inline void q5_put(uint8_t qs[16], uint8_t qh[4], int e, int q)
{
    qs[e % 16] |= (uint8_t)((q & 15) << 4 * (e / 16));
    qh[e / 8] |= (uint8_t)(q >> 4 << e % 8);
}

/* The scale and the zero point of a block of an INT type, of which there are three kinds, told by their bytes.  2: a
 * brain float, and zero is in the middle; 4: a float whose last 13 bits are the zero point, for halves and brain floats
 * have none there; 6: a float, then the zero point. */
struct int_head {
    float d;
    int32_t z;
};

enum { INT_ZERO_BITS = 0x1fff };

static inline struct int_head int_head_of(const uint8_t *block, size_t bytes, unsigned bits)
{
    union {
        uint32_t bits;
        float value;
    } d;
    uint16_t half;
    int32_t z;
    if (bytes == 2) {
        memcpy(&half, block, sizeof(half));
        d.bits = (uint32_t)half << 16;
        return (struct int_head){d.value, 1 << (bits - 1)};
    }
    memcpy(&d.bits, block, sizeof(d.bits));
    if (bytes == 6) {
        memcpy(&half, block + sizeof(d.bits), sizeof(half));
        return (struct int_head){d.value, half};
    }
    z = (int32_t)(d.bits & INT_ZERO_BITS);
    d.bits &= ~(uint32_t)INT_ZERO_BITS;
    return (struct int_head){d.value, z};
}

/* The 4 * bits bytes of group b of 32 codes of a row of an INT type, and the head of its block. */
static inline const uint8_t *int_group(const struct qtype *t, unsigned bits, const uint8_t *row, size_t b,
                                       struct int_head *h)
{
    unsigned shift = t->block_len == 128 ? 2 : t->block_len == 64;
    size_t head = t->block_bytes - t->block_len / 8 * bits;
    const uint8_t *block = row + (b >> shift) * t->block_bytes;
    *h = int_head_of(block, head, bits);
    return block + head + (b & ((1U << shift) - 1)) * 4 * bits;
}

/* Code e of a group. 8 bits: byte e.  4: byte e % 16, low nibbles first.  2: byte e % 8, at bit 2 * (e / 8).  3: its
 * low two bits so, then a word of which bit e is its third. */
static inline unsigned int_code(const uint8_t *codes, unsigned bits, unsigned e)
{
    if (bits == 8)
        return codes[e];
    if (bits == 4)
        return codes[e % 16] >> 4 * (e / 16) & 15;
    unsigned low = codes[e % 8] >> 2 * (e / 8) & 3;
    return bits == 2 ? low : low | (codes[8 + e / 8] >> e % 8 & 1U) << 2;
}

/* The bits of a half float that is 1/256 of an E4M3 value: the fields are the same, and the exponents of a half count
 * from 8 less.  NaN's codes count as 480: who loads refuses them. */
static inline uint16_t fp8_small_half(uint8_t v)
{
    return (uint16_t)((v & 0x80) << 8 | (v & 0x7f) << 7);
}

struct fp8_32 {
    float d;
    uint8_t q[32];
};

struct fp8_128 {
    float d;
    uint8_t q[128];
};

/* search.c: the best small integers for a group of floats.
 * 32 values, q in 0..q_max, x ~ scale * q - min, min >= 0 unless any_min; returns the scale. */
float search_scale_min(const float *x, int q_max, bool any_min, float *min);
/* n values (a multiple of 8, 32 at most), q in -half..half-1, x ~ scale * q, weighted by x*x; returns the scale. */
float search_scale(const float *x, int n, int half);

#endif
