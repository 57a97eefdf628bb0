/* Q5_0: 32 values x = d * (q - 16); low nibbles in the order of Q4_0, bit e of qh is the fifth of value e. */
#include <math.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q5_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d);
        for (int j = 0; j < 32; j++)
            out[j] = (float)(q5_value(b[i].qs, b[i].qh, j) - 16) * d;
    }
}

/* The value of largest magnitude is stored as -16 exactly: its sign chooses that of d. */
static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q5_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float extreme = 0;
        for (int j = 0; j < 32; j++)
            if (fabsf(in[j]) > fabsf(extreme))
                extreme = in[j];
        float d = extreme / -16, inverse = d != 0 ? 1 / d : 0;
        memset(&b[i], 0, sizeof(b[i]));
        b[i].d = f32_to_f16(d);
        for (int j = 0; j < 32; j++)
            q5_put(b[i].qs, b[i].qh, j, nearest_of(in[j] * inverse, -16, 15) + 16);
    }
}

const struct qtype qtype_q5_0 = {QTYPE_Q5_0, "Q5_0", 32, sizeof(struct q5_0), to_f32, from_f32, NULL};
