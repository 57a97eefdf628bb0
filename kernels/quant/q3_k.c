/* Q3_K: 256 values in 16 groups of 16: x = d*(scale_g - 32) * q, q in -4..3.  Two bits of q lie as in Q2_K; the third,
 * bit k of hmask[l] for value 32k + l, takes 4 away where it is 0.  Of the 16 scales the low nibbles fill 8 bytes, the
 * high pairs of bits 4 more. */
#include "kernels/quant/blocks.h"

static void unpack_q3_k(const void *block, struct quanta *u)
{
    const struct q3_k *b = block;
    quanta_plain(u, f16_to_f32(b->d), 0);
    for (int g = 0; g < 16; g++) {
        int low = b->scales[g % 8] >> 4 * (g / 8) & 15, high = b->scales[8 + g % 4] >> 2 * (g / 4) & 3;
        u->scale[g] = (int16_t)((low | high << 4) - 32);
    }
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++)
            u->q[32 * k + l] = (int8_t)((b->qs[32 * (k / 4) + l] >> 2 * (k % 4) & 3) + 4 * (b->hmask[l] >> k & 1) - 4);
}

static void to_f32_q3_k(const void *blocks, float *out, size_t n)
{
    quanta_to_f32(blocks, sizeof(struct q3_k), unpack_q3_k, out, n);
}

const struct qtype qtype_q3_k = {
    QTYPE_Q3_K, "Q3_K", 256, sizeof(struct q3_k), to_f32_q3_k, NULL, unpack_q3_k};
