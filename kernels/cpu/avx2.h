/* avx2: what the AVX2 files share. */
#ifndef KERNELS_CPU_AVX2_H
#define KERNELS_CPU_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/isa.h"

#define FORCE_INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };

FORCE_INLINE float sum_lanes(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

void avx2_rows_q4_1(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_q5_0(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_q5_1(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_iq4_nl(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_mxfp4(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_nvfp4(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_int2(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_int3(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_int4(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_int8(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_q2_k(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_q3_k(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_iq4_xs(const struct matmul_job *job, size_t first, size_t last);
void avx2_rows_quanta(const struct matmul_job *job, size_t first, size_t last);

#endif
