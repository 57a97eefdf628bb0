/* limits: the sizes that kernels accept, and what a KV cache is made of: plain numbers that those who plan
 * for a shard need without the kernels themselves. */
#ifndef KERNELS_LIMITS_H
#define KERNELS_LIMITS_H

#include <stddef.h>

enum {
    MATMUL_WEIGHTS_MAX = 4, /* matrices that share one input in a call */
    KV_PAGE_TOKENS = 64,    /* positions a KV page */
    LOGITS_ROWS_MAX = 64,   /* rows whose logits are held at once */
    EXPERTS_USED_MAX = 64,
    EXPERTS_MAX = 1024,
    HEAD_DIM_MAX = 576,
    MOE_ROWS_MAX = 512, /* rows that an expert layer takes at a time */
    DELTA_KERNEL_MAX = 8,   /* positions that a layer with a state convolves */
    DELTA_HEADS_MAX = 256,  /* value heads of such a layer */
    LORA_ROWS_MAX = 64,  /* rows that a thin pair takes at a time */
    LORA_RANK_MAX = 1024,
    MLA_ROWS_MAX = 64, /* rows that attention over compressed keys takes at a time */
    INDEX_ROWS_MAX = 16, /* rows whose positions are scored at a time */
};

enum kv_type { KV_F32, KV_F16 };

/* Bytes of n values of one position of one KV head. */
static inline size_t kv_row_bytes(enum kv_type t, size_t n)
{
    return n * (t == KV_F16 ? 2 : 4);
}

#endif
