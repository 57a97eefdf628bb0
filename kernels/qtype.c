/* qtype: the table of storage types, and the half-float conversions that they share. */
#include "kernels/qtype.h"

#include <string.h>
#include <strings.h>

#include "kernels/quant/blocks.h"

static const struct qtype *const types[] = {
    &qtype_f32,     &qtype_f16,    &qtype_bf16,  &qtype_q8_0,  &qtype_q4_0,  &qtype_q4_k,   &qtype_q5_k,
    &qtype_q6_k,    &qtype_q4_1,   &qtype_q5_0,  &qtype_q5_1,  &qtype_q2_k,  &qtype_q3_k,   &qtype_iq4_nl,
    &qtype_iq4_xs,  &qtype_mxfp4,  &qtype_nvfp4, &qtype_iq1_s, &qtype_iq1_m, &qtype_iq2_xxs, &qtype_iq2_xs,
    &qtype_iq2_s,   &qtype_iq3_xxs, &qtype_iq3_s, &qtype_tq1_0, &qtype_tq2_0,
    &qtype_int2_32, &qtype_int2_64, &qtype_int2_128, &qtype_int2f_32,
    &qtype_int3_32, &qtype_int3_64, &qtype_int3_128, &qtype_int3f_32,
    &qtype_int4_32, &qtype_int4_64, &qtype_int4_128, &qtype_int4f_32, &qtype_int4b_32,
    &qtype_int8_32, &qtype_int8_64, &qtype_int8_128, &qtype_int8f_32, &qtype_fp8_32, &qtype_fp8_128,
};

const struct qtype *qtype_at(size_t i)
{
    return i < COUNTOF(types) ? types[i] : NULL;
}

const struct qtype *qtype_find(uint32_t id)
{
    for (size_t i = 0; i < COUNTOF(types); i++)
        if (types[i]->id == id)
            return types[i];
    return NULL;
}

const struct qtype *qtype_by_name(const char *name)
{
    for (size_t i = 0; i < COUNTOF(types); i++)
        if (strcasecmp(types[i]->name, name) == 0)
            return types[i];
    return NULL;
}

size_t qtype_row_bytes(const struct qtype *t, uint64_t n)
{
    uint64_t blocks = n / t->block_len;
    if (n % t->block_len != 0 || blocks > SIZE_MAX / t->block_bytes)
        return 0;
    return (size_t)blocks * t->block_bytes;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* Shift the fields into place; subnormals by an exact subtraction. */
float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) /* infinity, NaN */
        return float_of(sign | 0x7f800000 | rest << 13);
    if (rest >= 0x0400)
        return float_of(sign | ((rest << 13) + (112U << 23)));
    return float_of(bits_of((float)rest * 0x1p-24F) | sign);
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000) /* subnormal: adding 0.5 leaves the rounded fraction in the low bits */
        return (uint16_t)(sign | (bits_of(float_of(rest) + 0.5F) - 0x3f000000));
    rest += 0xfff + (rest >> 13 & 1);
    return (uint16_t)(sign | ((rest - (112U << 23)) >> 13));
}

float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
