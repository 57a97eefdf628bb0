/* Q6_K: 256 values in 16 groups of 16: x = d*scale_g * (q - 32).  Each half of 128 values has 64 bytes of
 * low nibbles and 32 bytes of pairs of high bits: value 32k + l of a half is nibble k/2 of byte
 * 32*(k%2) + l, and bits 2k, 2k+1 of byte l. */
#include <math.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q6_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++) {
        float d = f16_to_f32(b[i].d);
        for (int e = 0; e < 256; e++) {
            int half = e / 128, k = e % 128 / 32, l = e % 32;
            int low = b[i].ql[64 * half + 32 * (k & 1) + l] >> 4 * (k >> 1) & 15;
            int high = b[i].qh[32 * half + l] >> 2 * k & 3;
            *out++ = d * (float)b[i].scales[e / 16] * (float)((low | high << 4) - 32);
        }
    }
}

static int nearest(float x, float s)
{
    float q = s != 0 ? rintf(x / s) : 0;
    return q < -32 ? -32 : q > 31 ? 31 : (int)q;
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q6_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, in += 256) {
        float scales[16], top = 0;
        for (int g = 0; g < 16; g++) {
            scales[g] = search_scale(in + 16 * g, 16, 32);
            if (fabsf(scales[g]) > fabsf(top))
                top = scales[g];
        }
        memset(&b[i], 0, sizeof(b[i]));
        b[i].d = f32_to_f16(top / -128);
        float d = f16_to_f32(b[i].d);
        for (int e = 0; e < 256; e++) {
            int half = e / 128, k = e % 128 / 32, l = e % 32;
            float s = d != 0 ? rintf(scales[e / 16] / d) : 0;
            b[i].scales[e / 16] = s > 127 ? 127 : s < -128 ? -128 : (int8_t)s;
            int q = nearest(in[e], d * b[i].scales[e / 16]) + 32;
            b[i].ql[64 * half + 32 * (k & 1) + l] |= (uint8_t)((q & 15) << 4 * (k >> 1));
            b[i].qh[32 * half + l] |= (uint8_t)(q >> 4 << 2 * k);
        }
    }
}

const struct qtype qtype_q6_k = {QTYPE_Q6_K, "Q6_K", 256, sizeof(struct q6_k), to_f32, from_f32};
