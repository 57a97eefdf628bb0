/* isa: the vector kernels of one instruction set, chosen once when a CPU device opens.
 *
 * Products of quantised weights work on quantised activations: `prepare` turns
 * a float row into the form that the weight type's kernel wants (made once an
 * input, shared by every matrix that reads it), `rows` multiplies.
 *
 * Contract of `rows`: y[j*y_stride + i] = dot(W row i, x_j) for first <= i < last
 * and 0 <= j < n_x.  The value of one (i, j) does not depend on first, last, n_x
 * or j: the order of summation inside a row is fixed, so a batch gives the same
 * bits as its rows alone.  Everything here is pure and thread-safe.
 *
 * The scalar set has every entry; another set may leave entries NULL, which are
 * then taken from the scalar set.  One file an instruction set, compiled with
 * its own flags.                                                             */
#ifndef KERNELS_CPU_ISA_H
#define KERNELS_CPU_ISA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/limits.h"
#include "kernels/qtype.h"

/* Forms of an activation row. */
enum form {
    FORM_F32,   /* floats as they are */
    FORM_Q8,    /* blocks of 32: struct q8_block */
    FORM_Q8K,   /* blocks of 256: struct q8k_block */
    FORM_COUNT
};

/* The rule of quantisation, the same bits in every set: amax = the largest |x|
 * of the block, scale = amax / 127, q = x * (127 / amax) rounded to nearest even.
 * A block with amax < Q8_TINY is all zero, scale 0.  A block that holds an
 * infinity or NaN has q = 0 and scale = NaN, so that every product is NaN.  */
#define Q8_TINY 0x1p-100f

struct q8_block {
    float scale;    /* amax / 127 */
    int32_t sum;    /* of q */
    int8_t q[32];
};

struct q8k_block {
    float scale;       /* amax / 127 */
    int16_t sums[16];  /* of q, each 16 values */
    int8_t q[256];
};

struct matmul_job {
    const struct qtype *type;
    const uint8_t *w;     /* row 0 of the matrix */
    size_t w_stride;      /* bytes a row */
    const void *x;        /* prepared rows */
    size_t x_stride;      /* bytes a prepared row */
    float *y;
    size_t y_stride;      /* floats */
    size_t cols;
    size_t n_x;
};

/* n_q queries meet positions [from, to) of a page of one KV head, dim values each. */
struct page_job {
    enum kv_type type;
    bool turned;        /* [dim][position], else [position][dim] */
    const void *kv;     /* keys or values of the whole page */
    size_t dim, from, to, n_q;
    const uint8_t *ahead; /* what is read after this page, to be asked for meanwhile, or NULL */
    size_t ahead_bytes;
    const float *q;     /* [n_q][dim] */
    float *scores;      /* [n_q][KV_PAGE_TOKENS] */
    float *out;         /* n_q rows of dim values, out_stride floats apart */
    size_t out_stride;
};

typedef void (*matmul_rows_fn)(const struct matmul_job *job, size_t first, size_t last);

struct matmul_kernel {
    uint32_t type; /* qtype id */
    enum form form;
    matmul_rows_fn rows;
};

/* The rows of the house's own types, from prefix_int2 ... prefix_fp8_128. */
#define ISA_INT_KERNELS(prefix, b)                                                                       \
    {QTYPE_INT##b##_32, FORM_Q8, prefix##_int##b}, {QTYPE_INT##b##_64, FORM_Q8, prefix##_int##b},        \
        {QTYPE_INT##b##_128, FORM_Q8, prefix##_int##b}, {QTYPE_INT##b##F_32, FORM_Q8, prefix##_int##b}
#define ISA_OWN_KERNELS(prefix)                                                                          \
    ISA_INT_KERNELS(prefix, 2), ISA_INT_KERNELS(prefix, 3), ISA_INT_KERNELS(prefix, 4),                  \
        ISA_INT_KERNELS(prefix, 8), {QTYPE_INT4B_32, FORM_Q8, prefix##_int4},                            \
        {QTYPE_FP8_32, FORM_F32, prefix##_fp8_32}, {QTYPE_FP8_128, FORM_F32, prefix##_fp8_128}

struct isa {
    const char *name;
    bool (*usable)(void);
    const struct matmul_kernel *kernels; /* ends with rows == NULL */
    struct matmul_kernel quanta;         /* for types that have qtype.unpack and no row above */
    void (*prepare[FORM_COUNT])(const float *x, void *out, size_t n); /* FORM_F32: NULL */
    /* scores = q . keys, turned or in rows;  out += scores * values, in order of position.  A value depends on its own
     * query and positions alone, not on the others or the type that the page lies in; scores of positions that are not
     * asked for may be overwritten.  NULL: pages.c does it with the dots and axpys that follow. */
    void (*page_scores)(const struct page_job *job);
    void (*page_scores_rows)(const struct page_job *job);
    void (*page_mix)(const struct page_job *job);
    void (*page_widen)(const struct page_job *job, float *out); /* where the job has it; NULL: it is not worth it */
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*dot_f16)(const float *a, const uint16_t *b, size_t n);               /* b: half floats */
    void (*axpy_f32)(float *y, float a, const float *x, size_t n);               /* y += a*x */
    void (*axpy_f16)(float *y, float a, const uint16_t *x, size_t n);
    void (*store_f16)(uint16_t *y, const float *x, size_t n);
    /* out = silu(gate) * up; exp accurate to 2 ulp or better */
    void (*silu_mul)(const float *gate, const float *up, float *out, size_t n);
    /* x[i] *= scale, returns the largest of max and all x[i]; what is not a number is not larger */
    float (*scale_top)(float *x, float scale, float max, size_t n);
    /* x[i] = exp(x[i] - max), returns the sum in a fixed order */
    float (*softmax_exp)(float *x, float max, size_t n);
};

extern const struct isa isa_scalar;
extern const struct isa isa_avx2;   /* x86: AVX2 + FMA + F16C */
extern const struct isa isa_avx512; /* x86: AVX-512 F/BW/VL/DQ + VNNI; BF16 products too where present */
extern const struct isa isa_neon;   /* AArch64, dot product extension */

/* Bytes of a prepared row of n values. */
size_t form_row_bytes(enum form form, size_t n);
/* The best usable set, or the one named; NULL when it is unknown or not usable here. */
const struct isa *isa_find(const char *name);
/* The set's kernel of a type, else its product of unpacked blocks, else the scalar set's; never NULL for a known
 * type. */
const struct matmul_kernel *isa_kernel(const struct isa *isa, uint32_t type);

#endif
