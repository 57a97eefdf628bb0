/* limits: the sizes that kernels accept, and what a KV cache is made of: plain numbers that those who plan
 * for a shard need without the kernels themselves. */
#ifndef KERNELS_LIMITS_H
#define KERNELS_LIMITS_H

#include <stddef.h>

enum {
    MATMUL_WEIGHTS_MAX = 4, /* matrices that share one input in a call */
    KV_PAGE_TOKENS = 64,    /* positions a KV page */
    ATTENTION_QUERIES = 32, /* that read a page together */
    KV_Q8_BLOCK = 32,       /* values of a position with one scale */
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

enum kv_type { KV_F32, KV_F16, KV_Q8, KV_TYPES };

/* Bytes of n values of one position of one KV head. */
static inline size_t kv_row_bytes(enum kv_type t, size_t n)
{
    return t == KV_Q8 ? (n + KV_Q8_BLOCK - 1) / KV_Q8_BLOCK * (2 + KV_Q8_BLOCK) : n * (t == KV_F16 ? 2 : 4);
}

/* Floats that a thread needs for attention: a page of keys and of values, what queries ask and sum up, and scores. */
static inline size_t attention_floats(size_t key_dim, size_t out_dim)
{
    return (KV_PAGE_TOKENS + ATTENTION_QUERIES) * (key_dim + out_dim) + ATTENTION_QUERIES * KV_PAGE_TOKENS;
}

#endif
