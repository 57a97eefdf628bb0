/* blocks: the byte layouts of the quantised types, as they lie in model files.
 *
 * Little-endian, packed, no padding.  16-bit fields named d, dmin are IEEE half
 * floats.  Each kernels/quant/<type>.c says what the bits mean.               */
#ifndef KERNELS_QUANT_BLOCKS_H
#define KERNELS_QUANT_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/qtype.h"

struct q4_0 {
    uint16_t d;
    uint8_t qs[16];
};

struct q8_0 {
    uint16_t d;
    int8_t qs[32];
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

_Static_assert(sizeof(struct q4_0) == 18, "layout of Q4_0");
_Static_assert(sizeof(struct q8_0) == 34, "layout of Q8_0");
_Static_assert(sizeof(struct q4_k) == 144, "layout of Q4_K");
_Static_assert(sizeof(struct q5_k) == 176, "layout of Q5_K");
_Static_assert(sizeof(struct q6_k) == 210, "layout of Q6_K");

extern const struct qtype qtype_f32, qtype_f16, qtype_bf16, qtype_q4_0, qtype_q8_0, qtype_q4_k, qtype_q5_k, qtype_q6_k;

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

/* search.c: the best small integers for n floats.
 * q in 0..q_max, x ~ scale * q - min, min >= 0; returns the scale. `bias`: how much large values weigh. */
float search_scale_min(const float *x, int n, int q_max, float *min);
/* q in -half..half-1, x ~ scale * q, weighted by x*x; returns the scale. */
float search_scale(const float *x, int n, int half);

#endif
