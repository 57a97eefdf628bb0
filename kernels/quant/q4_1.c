/* Q4_1: 32 values x = d * q + m; nibbles in the order of Q4_0. */
#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q4_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d), m = f16_to_f32(b[i].m);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)(b[i].qs[j] & 15) * d + m;
            out[j + 16] = (float)(b[i].qs[j] >> 4) * d + m;
        }
    }
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q4_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float min, d = search_scale_min(in, 15, true, &min), inverse = d > 0 ? 1 / d : 0;
        b[i].d = f32_to_f16(d);
        b[i].m = f32_to_f16(-min);
        for (int j = 0; j < 16; j++)
            b[i].qs[j] = (uint8_t)(nearest_of((in[j] + min) * inverse, 0, 15) |
                                   nearest_of((in[j + 16] + min) * inverse, 0, 15) << 4);
    }
}

const struct qtype qtype_q4_1 = {QTYPE_Q4_1, "Q4_1", 32, sizeof(struct q4_1), to_f32, from_f32, NULL};
