/* Q5_K: as Q4_K, with a fifth bit: bit g of qh[l] belongs to value l of group g. */
#include <math.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q5_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++) {
        float d = f16_to_f32(b[i].d), dmin = f16_to_f32(b[i].dmin);
        uint8_t scale[8], min[8];
        k_scales_unpack(b[i].scales, scale, min);
        for (int g = 0; g < 8; g++) {
            float s = d * scale[g], m = dmin * min[g];
            for (int l = 0; l < 32; l++) {
                int q = b[i].qs[32 * (g / 2) + l] >> 4 * (g % 2) & 15;
                q |= (b[i].qh[l] >> g & 1) << 4;
                *out++ = s * (float)q - m;
            }
        }
    }
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q5_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, in += 256) {
        float scales[8], mins[8], top_scale = 0, top_min = 0;
        uint8_t scale[8], min[8];
        for (int g = 0; g < 8; g++) {
            scales[g] = search_scale_min(in + 32 * g, 31, false, &mins[g]);
            top_scale = fmaxf(top_scale, scales[g]);
            top_min = fmaxf(top_min, mins[g]);
        }
        memset(&b[i], 0, sizeof(b[i]));
        b[i].d = f32_to_f16(top_scale / 63);
        b[i].dmin = f32_to_f16(top_min / 63);
        float d = f16_to_f32(b[i].d), dmin = f16_to_f32(b[i].dmin);
        for (int g = 0; g < 8; g++) {
            scale[g] = (uint8_t)nearest_of(63 * scales[g] / top_scale, 0, 63); /* 0 / 0 counts as 0 */
            min[g] = (uint8_t)nearest_of(63 * mins[g] / top_min, 0, 63);
            float s = d * scale[g], m = dmin * min[g], inverse = s > 0 ? 1 / s : 0;
            for (int l = 0; l < 32; l++) {
                int q = nearest_of((in[32 * g + l] + m) * inverse, 0, 31);
                b[i].qs[32 * (g / 2) + l] |= (uint8_t)((q & 15) << 4 * (g % 2));
                b[i].qh[l] |= (uint8_t)(q >> 4 << g);
            }
        }
        k_scales_pack(scale, min, b[i].scales);
    }
}

const struct qtype qtype_q5_k = {QTYPE_Q5_K, "Q5_K", 256, sizeof(struct q5_k), to_f32, from_f32, NULL};
