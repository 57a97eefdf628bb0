/* moe: what the expert layer and what adapters add to it share. Not for other folders. */
#ifndef KERNELS_CPU_MOE_H
#define KERNELS_CPU_MOE_H

#include "kernels/cpu/cpu.h"

/* Prepared inputs of a matrix of every expert. */
struct moe_input {
    const uint8_t *rows;
    size_t stride;
    bool by_entry; /* else one a row */
};

struct moe_run {
    struct cpu *c;
    const struct moe_args *a;
    uint32_t first, n; /* rows of this round */
    uint32_t n_active;
    const uint8_t *x[FORM_COUNT];
    size_t x_stride[FORM_COUNT];
    bool by_entry;         /* x is an entry's, not a row's */
    struct moe_input gate_in, up_in;
    const uint8_t *hidden; /* gate's entries in the form that `down` wants */
    size_t hidden_stride;
    struct tiles tiles;
};

enum moe_product { MOE_GATE, MOE_UP, MOE_DOWN };

/* moe_lora.c: A x of every entry whose row has an adapter, for gate and up, or for down; nothing without adapters. */
void moe_lora_inputs(struct moe_run *run, bool down);
/* Add values [first, last) of B A x to the outputs of n entries from `start` on. */
void moe_lora_add(const struct moe_run *run, enum moe_product product, uint32_t start, size_t n, float *y, size_t first,
                  size_t last);

#endif
