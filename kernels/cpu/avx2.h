/* avx2: what the AVX2 files share. */
#ifndef KERNELS_CPU_AVX2_H
#define KERNELS_CPU_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/isa.h"

#define FORCE_INLINE static inline __attribute__((always_inline))

enum { LANES = 8, AHEAD_BYTES = 4096 };

/* All bits set in the first n lanes. */
FORCE_INLINE __m256i first_lanes(size_t n)
{
    static const int32_t ones[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const void *)(ones + LANES - n));
}

/* Values i..i+n of a row as floats, n <= 8, zero in the other lanes. */
typedef __m256 (*load_fn)(const void *p, size_t i, size_t n);

FORCE_INLINE __m256 load_f32(const void *p, size_t i, size_t n)
{
    const float *at = (const float *)p + i;
    return n == LANES ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, first_lanes(n));
}

FORCE_INLINE __m128i load_half(const void *p, size_t i, size_t n)
{
    uint16_t part[LANES] = {0};
    const uint16_t *at = (const uint16_t *)p + i;
    if (n == LANES)
        return _mm_loadu_si128((const void *)at);
    memcpy(part, at, n * sizeof *at);
    return _mm_loadu_si128((const void *)part);
}

FORCE_INLINE __m256 load_f16(const void *p, size_t i, size_t n)
{
    return _mm256_cvtph_ps(load_half(p, i, n));
}

FORCE_INLINE void store(float *y, __m256 v, size_t n)
{
    if (n == LANES)
        _mm256_storeu_ps(y, v);
    else
        _mm256_maskstore_ps(y, first_lanes(n), v);
}

FORCE_INLINE size_t lanes_left(size_t i, size_t n)
{
    return n - i < LANES ? n - i : LANES;
}

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

void avx2_page_scores(const struct page_job *job);
void avx2_page_mix(const struct page_job *job);
void avx2_page_widen(const struct page_job *job, float *out);

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
