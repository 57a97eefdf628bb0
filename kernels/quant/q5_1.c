/* Q5_1: 32 values x = d * q + m; the bits of q lie as in Q5_0. */
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q5_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d), m = f16_to_f32(b[i].m);
        for (int j = 0; j < 32; j++)
            out[j] = (float)q5_value(b[i].qs, b[i].qh, j) * d + m;
    }
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q5_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float min, d = search_scale_min(in, 31, true, &min), inverse = d > 0 ? 1 / d : 0;
        memset(&b[i], 0, sizeof(b[i]));
        b[i].d = f32_to_f16(d);
        b[i].m = f32_to_f16(-min);
        for (int j = 0; j < 32; j++)
            q5_put(b[i].qs, b[i].qh, j, nearest_of((in[j] + min) * inverse, 0, 31));
    }
}

const struct qtype qtype_q5_1 = {QTYPE_Q5_1, "Q5_1", 32, sizeof(struct q5_1), to_f32, from_f32, NULL};
