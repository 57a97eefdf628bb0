/* MXFP4, NVFP4: nibbles are floats of a sign, two exponent bits and one of fraction: 0, .5, 1, 1.5, 2, 3, 4, 6.  MXFP4:
 * 32 of them in the order of Q4_0, times 2^(e - 127).  NVFP4: four groups of 16, each with an unsigned float of eight
 * bits; byte j of a group's eight holds values j and j + 8. */
#include <math.h>
#include <string.h>

#include "kernels/quant/blocks.h"

static const int8_t doubled[16] = {FP4_DOUBLED};

static void to_f32_mxfp4(const void *blocks, float *out, size_t n)
{
    const struct mxfp4 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, out += 32) {
        float d = e8m0_half(b[i].e);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)doubled[b[i].qs[j] & 15];
            out[j + 16] = d * (float)doubled[b[i].qs[j] >> 4];
        }
    }
}

static void to_f32_nvfp4(const void *blocks, float *out, size_t n)
{
    const struct nvfp4 *b = blocks;
    for (size_t i = 0; i < n / 64; i++)
        for (int g = 0; g < 4; g++, out += 16) {
            float d = ue4m3(b[i].d[g]) * 0.5F;
            for (int j = 0; j < 8; j++) {
                out[j] = d * (float)doubled[b[i].qs[8 * g + j] & 15];
                out[j + 8] = d * (float)doubled[b[i].qs[8 * g + j] >> 4];
            }
        }
}

/* The nearest code of a value in units of half the scale, by the middles between neighbours. */
static uint8_t nearest(float x)
{
    float a = fabsf(x);
    int code = (a > 0.5F) + (a > 1.5F) + (a > 2.5F) + (a > 3.5F) + (a > 5) + (a > 7) + (a > 10);
    return (uint8_t)(code | (x < 0 && code > 0) << 3);
}

/* The exponent under which the largest value lies between 4 and 8 of what the codes reach 6 of. */
static void from_f32_mxfp4(const float *in, void *blocks, size_t n)
{
    struct mxfp4 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, in += 32) {
        float top = 0;
        int exponent;
        for (int j = 0; j < 32; j++)
            top = fmaxf(top, fabsf(in[j]));
        (void)frexpf(top, &exponent);
        exponent += 127 - 3;
        b[i].e = (uint8_t)(top == 0 || exponent < 0 ? 0 : exponent);
        float inverse = 1 / e8m0_half(b[i].e);
        for (int j = 0; j < 16; j++)
            b[i].qs[j] = (uint8_t)(nearest(in[j] * inverse) | nearest(in[j + 16] * inverse) << 4);
    }
}

void qtype_put_mxfp4(const uint8_t *codes, uint8_t exponent, void *block)
{
    struct mxfp4 *b = block;
    b->e = exponent;
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(codes[j] | codes[j + 16] << 4);
}

const struct qtype qtype_mxfp4 = {
    QTYPE_MXFP4, "MXFP4", 32, sizeof(struct mxfp4), to_f32_mxfp4, from_f32_mxfp4, NULL};

const struct qtype qtype_nvfp4 = {QTYPE_NVFP4, "NVFP4", 64, sizeof(struct nvfp4), to_f32_nvfp4, NULL, NULL};
