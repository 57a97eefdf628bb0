/* forms: how quantised activation rows are laid out, for every set alike; a set brings its own quantise(), which
 * writes n values of one block and returns their scale. Not for other folders. */
#ifndef KERNELS_CPU_FORMS_H
#define KERNELS_CPU_FORMS_H

#include "kernels/cpu/isa.h"

typedef float (*quantise_fn)(const float *x, int8_t *q, size_t n);

__attribute__((always_inline)) static inline int32_t forms_sum(const int8_t *q, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

__attribute__((always_inline)) static inline void forms_q8(const float *x, void *out, size_t n, quantise_fn quantise)
{
    struct q8_block *b = out;
    for (size_t i = 0; i < n / 32; i++) {
        b[i].scale = quantise(x + 32 * i, b[i].q, 32);
        b[i].sum = forms_sum(b[i].q, 32);
    }
}

__attribute__((always_inline)) static inline void forms_q8k(const float *x, void *out, size_t n, quantise_fn quantise)
{
    struct q8k_block *b = out;
    for (size_t i = 0; i < n / 256; i++) {
        b[i].scale = quantise(x + 256 * i, b[i].q, 256);
        for (int g = 0; g < 16; g++)
            b[i].sums[g] = (int16_t)forms_sum(b[i].q + 16 * g, 16);
    }
}

#endif
