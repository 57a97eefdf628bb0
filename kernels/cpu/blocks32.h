/* blocks32: groups of 32 weights of the less common types, as signed bytes with their factors.
 *
 * What the plain products work on.  The value at place e of a group is
 * d[e / 16] * q[e] + m.  Not for other folders.                              */
#ifndef KERNELS_CPU_BLOCKS32_H
#define KERNELS_CPU_BLOCKS32_H

#include "kernels/cpu/isa.h"
#include "kernels/quant/blocks.h"

struct group32 {
    float d[2], m;
    int8_t q[32];
};

/* Group b of a row. */
typedef void (*group32_fn)(const uint8_t *row, size_t b, struct group32 *out);

static inline void group_d(struct group32 *g, float d, float m)
{
    g->d[0] = g->d[1] = d;
    g->m = m;
}

static inline void group_q4_1(const uint8_t *row, size_t i, struct group32 *out)
{
    const struct q4_1 *b = (const struct q4_1 *)(const void *)row + i;
    group_d(out, f16_to_f32(b->d), f16_to_f32(b->m));
    for (int j = 0; j < 32; j++)
        out->q[j] = (int8_t)(b->qs[j % 16] >> 4 * (j / 16) & 15);
}

static inline void group_q5_0(const uint8_t *row, size_t i, struct group32 *out)
{
    const struct q5_0 *b = (const struct q5_0 *)(const void *)row + i;
    group_d(out, f16_to_f32(b->d), 0);
    for (int j = 0; j < 32; j++)
        out->q[j] = (int8_t)(q5_value(b->qs, b->qh, j) - 16);
}

static inline void group_q5_1(const uint8_t *row, size_t i, struct group32 *out)
{
    const struct q5_1 *b = (const struct q5_1 *)(const void *)row + i;
    group_d(out, f16_to_f32(b->d), f16_to_f32(b->m));
    for (int j = 0; j < 32; j++)
        out->q[j] = (int8_t)q5_value(b->qs, b->qh, j);
}

static inline void group_iq4_nl(const uint8_t *row, size_t i, struct group32 *out)
{
    static const int8_t values[16] = {IQ4_VALUES};
    const struct iq4_nl *b = (const struct iq4_nl *)(const void *)row + i;
    group_d(out, f16_to_f32(b->d), 0);
    for (int j = 0; j < 32; j++)
        out->q[j] = values[b->qs[j % 16] >> 4 * (j / 16) & 15];
}

static inline void group_mxfp4(const uint8_t *row, size_t i, struct group32 *out)
{
    static const int8_t doubled[16] = {FP4_DOUBLED};
    const struct mxfp4 *b = (const struct mxfp4 *)(const void *)row + i;
    group_d(out, e8m0_half(b->e), 0);
    for (int j = 0; j < 32; j++)
        out->q[j] = doubled[b->qs[j % 16] >> 4 * (j / 16) & 15];
}

/* Half a block. */
static inline void group_nvfp4(const uint8_t *row, size_t i, struct group32 *out)
{
    static const int8_t doubled[16] = {FP4_DOUBLED};
    const struct nvfp4 *b = (const struct nvfp4 *)(const void *)row + i / 2;
    out->m = 0;
    for (int h = 0; h < 2; h++) {
        int g = 2 * (int)(i % 2) + h;
        out->d[h] = ue4m3(b->d[g]) * 0.5F;
        for (int j = 0; j < 16; j++)
            out->q[16 * h + j] = doubled[b->qs[8 * g + j % 8] >> 4 * (j / 8) & 15];
    }
}

#endif
