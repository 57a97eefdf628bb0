/* avx2: what the AVX2 files share. */
#ifndef KERNELS_CPU_AVX2_H
#define KERNELS_CPU_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/isa.h"

#define FORCE_INLINE static inline __attribute__((always_inline))

enum { LANES = 8, AHEAD_BYTES = 4096 };

FORCE_INLINE float sum_lanes(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Hardware stops reading ahead at the end of a page: who reads `bytes` at `at` asks for as many that come later. */
FORCE_INLINE void prefetch_ahead(const uint8_t *at, size_t bytes, size_t ahead, const uint8_t *end)
{
    if ((size_t)(end - at) < ahead + bytes)
        return;
    for (size_t b = 0; b < bytes; b += 64)
        _mm_prefetch((const char *)at + ahead + b, _MM_HINT_T0);
}

/* Many rows of x, eight rows of W at a time; the same bits as one at a time. */
void avx2_panels_q4_0(const struct matmul_job *job, size_t first, size_t last);
void avx2_panels_q8_0(const struct matmul_job *job, size_t first, size_t last);
void avx2_panels_q4_k(const struct matmul_job *job, size_t first, size_t last);
void avx2_panels_q5_k(const struct matmul_job *job, size_t first, size_t last);
void avx2_panels_q6_k(const struct matmul_job *job, size_t first, size_t last);

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
