/* Q4_0: 32 values x = d * (q - 8); value e < 16 is the low nibble of byte e, value e + 16 its high one. */
#include <math.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static void to_f32(const void *blocks, float *out, size_t n)
{
    const struct q4_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = f16_to_f32(b[i].d);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)((b[i].qs[j] & 15) - 8) * d;
            out[j + 16] = (float)((b[i].qs[j] >> 4) - 8) * d;
        }
    }
}

/* The value of largest magnitude is stored as -8 exactly: its sign chooses that of d. */
static void from_f32(const float *in, void *blocks, size_t n)
{
    struct q4_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float extreme = 0;
        for (int j = 0; j < 32; j++)
            if (fabsf(in[j]) > fabsf(extreme))
                extreme = in[j];
        float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
        b[i].d = f32_to_f16(d);
        for (int j = 0; j < 16; j++)
            b[i].qs[j] = (uint8_t)((nearest_of(in[j] * inverse, -8, 7) + 8) |
                                   (nearest_of(in[j + 16] * inverse, -8, 7) + 8) << 4);
    }
}

const struct qtype qtype_q4_0 = {QTYPE_Q4_0, "Q4_0", 32, sizeof(struct q4_0), to_f32, from_f32, NULL};
