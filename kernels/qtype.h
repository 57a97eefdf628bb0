/* qtype: the storage types of tensor values: one file and one line each.
 *
 * A type stores `block_len` consecutive values of a row in `block_bytes` bytes.
 * The ids are GGUF's; those from QTYPE_OWN on are the house's own, which no file
 * has: weights that a checkpoint stores quantised in another way are put into
 * them while they are loaded, value for value.  Sizes come from sizeof of the
 * block structs in kernels/quant/, which carry static asserts; nothing else
 * writes them down.  This header is all that shard/format sees of kernels/.
 *
 * Layouts: ../shared reference and the public GGUF description; each file in
 * kernels/quant/ states its own.                                             */
#ifndef KERNELS_QTYPE_H
#define KERNELS_QTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { QTYPE_BLOCK_LEN_MAX = 256 };

/* GGUF type ids of the types that the house knows, then its own: INTb_n, codes of b bits in blocks of n; F: with a
 * whole float as scale, B: with a brain float and no zero point; FP8_n. */
enum qtype_id {
    QTYPE_F32 = 0,
    QTYPE_F16 = 1,
    QTYPE_Q4_0 = 2,
    QTYPE_Q4_1 = 3,
    QTYPE_Q5_0 = 6,
    QTYPE_Q5_1 = 7,
    QTYPE_Q8_0 = 8,
    QTYPE_Q2_K = 10,
    QTYPE_Q3_K = 11,
    QTYPE_Q4_K = 12,
    QTYPE_Q5_K = 13,
    QTYPE_Q6_K = 14,
    QTYPE_IQ2_XXS = 16,
    QTYPE_IQ2_XS = 17,
    QTYPE_IQ3_XXS = 18,
    QTYPE_IQ1_S = 19,
    QTYPE_IQ4_NL = 20,
    QTYPE_IQ3_S = 21,
    QTYPE_IQ2_S = 22,
    QTYPE_IQ4_XS = 23,
    QTYPE_IQ1_M = 29,
    QTYPE_BF16 = 30,
    QTYPE_TQ1_0 = 34,
    QTYPE_TQ2_0 = 35,
    QTYPE_MXFP4 = 39,
    QTYPE_NVFP4 = 40,
    QTYPE_OWN = 1000,
    QTYPE_INT2_32 = 1020, QTYPE_INT2_64, QTYPE_INT2_128, QTYPE_INT2F_32,
    QTYPE_INT3_32 = 1030, QTYPE_INT3_64, QTYPE_INT3_128, QTYPE_INT3F_32,
    QTYPE_INT4_32 = 1040, QTYPE_INT4_64, QTYPE_INT4_128, QTYPE_INT4F_32, QTYPE_INT4B_32,
    QTYPE_INT8_32 = 1080, QTYPE_INT8_64, QTYPE_INT8_128, QTYPE_INT8F_32,
    QTYPE_FP8_32 = 1100, QTYPE_FP8_128,
};

/* 256 values as small integers: x = d * scale[g] * q - dmin * min[g], g = place / 16.  |q| <= 127, and every scale and
 * min fits a signed byte. */
struct quanta {
    float d, dmin;
    int16_t scale[16], min[16];
    int8_t q[256];
};

struct qtype {
    uint32_t id;         /* GGUF type id */
    const char *name;    /* upper case: "Q4_K" */
    uint32_t block_len;  /* values a block */
    uint32_t block_bytes;
    /* n values (a multiple of block_len) to floats: the reference that everything is tested against. */
    void (*to_f32)(const void *blocks, float *out, size_t n);
    /* floats to blocks; NULL where the house does not write the type. */
    void (*from_f32)(const float *in, void *blocks, size_t n);
    /* One block of 256 values; NULL for types that have products of their own in every instruction set. */
    void (*unpack)(const void *block, struct quanta *out);
};

/* NULL when the id or the name (any case) is not known. */
const struct qtype *qtype_find(uint32_t id);
const struct qtype *qtype_by_name(const char *name);
/* The i-th known type, NULL past the end; the house's own are the last. */
const struct qtype *qtype_at(size_t i);
/* Whether files have it: it is not the house's own. */
static inline bool qtype_in_files(const struct qtype *t)
{
    return t->id < QTYPE_OWN;
}

/* Bytes of a row of n values; 0 when n is not a multiple of block_len. */
size_t qtype_row_bytes(const struct qtype *t, uint64_t n);

/* Into one block of an INT type: x = scale * (code - zero), zero <= 256.  Types that are not F take a scale that is a
 * half or a brain float; INT4B_32 a brain float and zero 8; Q4_0 and Q8_0 a half and zero 8 or 128. */
void qtype_put_int(const struct qtype *t, const uint8_t *codes, float scale, uint32_t zero, void *block);
/* Into one block of an FP8 type: x = scale * E4M3(code). */
void qtype_put_fp8(const struct qtype *t, const uint8_t *codes, float scale, void *block);
float qtype_fp8_value(uint8_t code);
/* Into one block of MXFP4: 32 codes, x = E2M1(code) * 2^(exponent - 127). */
void qtype_put_mxfp4(const uint8_t *codes, uint8_t exponent, void *block);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f); /* round to nearest even, NaN stays NaN */

#endif
