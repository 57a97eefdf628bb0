/* Q2_K: 256 values in 16 groups of 16: x = d*scale_g * q - dmin*min_g; a byte of scales holds the scale below, the min
 * above.  q is two bits: value 32j + l of a half of 128 is bits 2j, 2j+1 of its byte l. */
#include "kernels/quant/blocks.h"

static void unpack_q2_k(const void *block, struct quanta *u)
{
    const struct q2_k *b = block;
    u->d = f16_to_f32(b->d);
    u->dmin = f16_to_f32(b->dmin);
    for (int g = 0; g < 16; g++) {
        u->scale[g] = b->scales[g] & 15;
        u->min[g] = b->scales[g] >> 4;
    }
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++)
            u->q[32 * k + l] = (int8_t)(b->qs[32 * (k / 4) + l] >> 2 * (k % 4) & 3);
}

static void to_f32_q2_k(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct q2_k), unpack_q2_k, out, n);
}

const struct qtype qtype_q2_k = {
    QTYPE_Q2_K, "Q2_K", 256, sizeof(struct q2_k), to_f32_q2_k, NULL, unpack_q2_k};
