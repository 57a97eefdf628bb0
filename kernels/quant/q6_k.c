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
        for (int k = 0; k < 8; k++) {
            const uint8_t *low = b[i].ql + 64 * (k / 4) + 32 * (k & 1), *high = b[i].qh + 32 * (k / 4);
            float s[2] = {d * (float)b[i].scales[2 * k], d * (float)b[i].scales[2 * k + 1]};
            for (int l = 0; l < 32; l++) {
                int q = (low[l] >> 4 * (k >> 1 & 1) & 15) | (high[l] >> 2 * (k & 3) & 3) << 4;
                *out++ = s[l / 16] * (float)(q - 32);
            }
        }
    }
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
        float inverse = d != 0 ? 1 / d : 0, unit = 0;
        for (int e = 0; e < 256; e++) {
            int half = e / 128, k = e % 128 / 32, l = e % 32;
            if (e % 16 == 0) {
                b[i].scales[e / 16] = (int8_t)nearest_of(scales[e / 16] * inverse, -128, 127);
                float s = d * b[i].scales[e / 16];
                unit = s != 0 ? 1 / s : 0;
            }
            int q = nearest_of(in[e] * unit, -32, 31) + 32;
            b[i].ql[64 * half + 32 * (k & 1) + l] |= (uint8_t)((q & 15) << 4 * (k >> 1));
            b[i].qh[32 * half + l] |= (uint8_t)(q >> 4 << 2 * k);
        }
    }
}

const struct qtype qtype_q6_k = {QTYPE_Q6_K, "Q6_K", 256, sizeof(struct q6_k), to_f32, from_f32, NULL};
