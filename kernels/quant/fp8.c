/* FP8_n: n values x = d * E4M3(q): a sign, four exponent bits, three of fraction.  A weight takes 9 bits in blocks of
 * 32, 8.25 in those of 128; checkpoints spend 8 and next to nothing, as their scales serve a square of 128 or a row. */
#include <string.h>

#include "kernels/quant/blocks.h"

float qtype_fp8_value(uint8_t code)
{
    return f16_to_f32(fp8_small_half(code)) * 256;
}

static void values(float d, const uint8_t *q, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = qtype_fp8_value(q[i]) * d;
}

static void to_f32_fp8_32(const void *blocks, float *out, size_t n)
{
    const struct fp8_32 *b = blocks;
    for (size_t i = 0; i < n / 32; i++)
        values(b[i].d, b[i].q, 32, out + 32 * i);
}

static void to_f32_fp8_128(const void *blocks, float *out, size_t n)
{
    const struct fp8_128 *b = blocks;
    for (size_t i = 0; i < n / 128; i++)
        values(b[i].d, b[i].q, 128, out + 128 * i);
}

void qtype_put_fp8(const struct qtype *t, const uint8_t *codes, float scale, void *block)
{
    memcpy(block, &scale, sizeof(scale));
    memcpy((uint8_t *)block + sizeof(scale), codes, t->block_len);
}

const struct qtype qtype_fp8_32 = {QTYPE_FP8_32, "FP8_32", 32, sizeof(struct fp8_32), to_f32_fp8_32, NULL, NULL};
const struct qtype qtype_fp8_128 = {QTYPE_FP8_128, "FP8_128", 128, sizeof(struct fp8_128), to_f32_fp8_128, NULL, NULL};
