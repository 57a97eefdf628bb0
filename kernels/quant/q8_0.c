/* Q8_0: 32 values x = d * q. */
#include <math.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q8_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d);
        for (int j = 0; j < 32; j++)
            out[j] = (float)b[i].qs[j] * d;
    }
}

static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q8_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float amax = 0;
        for (int j = 0; j < 32; j++)
            amax = fmaxf(amax, fabsf(in[j]));
        float d = amax / 127, inverse = d > 0 ? 1 / d : 0;
        b[i].d = f32_to_f16(d);
        for (int j = 0; j < 32; j++)
            b[i].qs[j] = (int8_t)nearest_of(in[j] * inverse, -127, 127);
    }
}

const struct qtype qtype_q8_0 = {QTYPE_Q8_0, "Q8_0", 32, sizeof(struct q8_0), to_f32, from_f32, NULL};
