/* avx512: what the AVX-512 files share: panels of 16 rows and the sums across them.
 *
 * The matrix products of quantised types work on a panel: 16 rows of W at once,
 * one row a lane of every sum.  A row's integer sum of a block is exact, so it
 * may be made in any order; its float sum has one accumulator, to which the
 * blocks are added in order.  Two ways lead to that same accumulator: for few
 * rows of x, straight from the rows of W (sum inside a row, then merge 16 rows);
 * for many, by unpacking the panel once into the order [k/4][row][k%4].      */
#ifndef KERNELS_CPU_AVX512_H
#define KERNELS_CPU_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/isa.h"

#define FORCE_INLINE static inline __attribute__((always_inline))

enum {
    PANEL_ROWS = 16,
    PANEL_X_MAX = 64, /* rows of x that share one unpacking of a panel */
    MANY_X = 3,       /* from so many rows of x on unpacking pays */
    PAIR = 2,         /* panels, and rows of x, that meet together */
    AHEAD_BYTES = 8192,
};

/* The rows of one panel; those past the end of the range repeat its last row and are not stored. */
struct panel {
    const uint8_t *row[PANEL_ROWS];
    const uint8_t *end; /* of the range of rows */
    size_t n;           /* rows that count */
};

FORCE_INLINE void panel_open(struct panel *p, const struct matmul_job *job, size_t i, size_t last) {
    p->end = job->w + last * job->w_stride;
    p->n = last - i < PANEL_ROWS ? last - i : PANEL_ROWS;
    for (size_t r = 0; r < PANEL_ROWS; r++)
        p->row[r] = job->w + (i + (r < p->n ? r : p->n - 1)) * job->w_stride;
}

FORCE_INLINE void panel_store(const struct panel *p, float *y, __m512 sums) {
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << p->n) - 1), sums);
}

FORCE_INLINE void prefetch(const uint8_t *at, size_t bytes) {
    for (size_t b = 0; b < bytes; b += 64)
        _mm_prefetch((const char *)at + b, _MM_HINT_T0);
}

/* Memory is read fastest as one long stream that is asked for well ahead: a panel's rows are read one
 * after the other, each from its start to its end, and meanwhile the bytes that lie AHEAD_BYTES further. */
FORCE_INLINE const uint8_t *ahead_of(const uint8_t *at, const uint8_t *end) {
    return (size_t)(end - at) > AHEAD_BYTES ? at + AHEAD_BYTES : at;
}

FORCE_INLINE const uint8_t *panel_ahead(const struct panel *p, const uint8_t *at) {
    return ahead_of(at, p->end);
}

/* Unpacking column block `b` of `bytes` bytes a row: ask for a like share of the panel n_p panels further. */
FORCE_INLINE void panel_prefetch_next(const struct panel *p, size_t stride, size_t b, size_t bytes, int n_p) {
    size_t at = (size_t)n_p * PANEL_ROWS * stride + b * PANEL_ROWS * bytes;
    if ((size_t)(p->end - p->row[0]) >= at + PANEL_ROWS * bytes)
        prefetch(p->row[0] + at, PANEL_ROWS * bytes);
}

/* Hides where a value comes from, so that the compiler keeps it in a register: it would else load it
 * twice, or rebuild a constant inside the loop. */
FORCE_INLINE __m512i keep(__m512i v) {
    __asm__("" : "+v"(v));
    return v;
}

FORCE_INLINE const void *job_x(const struct matmul_job *job, size_t j) {
    return (const uint8_t *)job->x + j * job->x_stride;
}

FORCE_INLINE __m512i load_4x128(const void *a, const void *b, const void *c, const void *d) {
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(a)), _mm_loadu_si128(b), 1);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(c)), _mm_loadu_si128(d), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

FORCE_INLINE __m512i load_2x256(const void *a, const void *b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)), _mm256_loadu_si256(b), 1);
}

/* (a, b, c, d), each four 128-bit lanes of four words: out[t] lane L = word t of lane L of a, b, c, d. */
FORCE_INLINE void transpose_words(__m512i a, __m512i b, __m512i c, __m512i d, __m512i out[4]) {
    __m512i ab01 = _mm512_unpacklo_epi32(a, b), ab23 = _mm512_unpackhi_epi32(a, b);
    __m512i cd01 = _mm512_unpacklo_epi32(c, d), cd23 = _mm512_unpackhi_epi32(c, d);
    out[0] = _mm512_unpacklo_epi64(ab01, cd01);
    out[1] = _mm512_unpackhi_epi64(ab01, cd01);
    out[2] = _mm512_unpacklo_epi64(ab23, cd23);
    out[3] = _mm512_unpackhi_epi64(ab23, cd23);
}

/* out[t], lane r: the t-th 32-bit word of the 16 bytes at offset `at` of row r. */
FORCE_INLINE void panel_words(const struct panel *p, size_t at, __m512i out[4]) {
    const uint8_t *const *row = p->row;
    __m512i a = load_4x128(row[0] + at, row[4] + at, row[8] + at, row[12] + at);
    __m512i b = load_4x128(row[1] + at, row[5] + at, row[9] + at, row[13] + at);
    __m512i c = load_4x128(row[2] + at, row[6] + at, row[10] + at, row[14] + at);
    __m512i d = load_4x128(row[3] + at, row[7] + at, row[11] + at, row[15] + at);
    transpose_words(a, b, c, d, out);
}

/* The same of a table of our own: row r starts r * stride bytes after `table`. */
FORCE_INLINE void table_words(const void *table, size_t stride, __m512i out[4]) {
    const uint8_t *t = table;
    __m512i v[4];
    for (size_t i = 0; i < 4; i++)
        v[i] = load_4x128(t + i * stride, t + (4 + i) * stride, t + (8 + i) * stride, t + (12 + i) * stride);
    transpose_words(v[0], v[1], v[2], v[3], out);
}

/* Sums of four rows inside each 128-bit lane: (a, b, c, d) there. */
FORCE_INLINE __m512i merge_rows4(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* Hides that they are zero, for the compiler would call memset for the few. */
FORCE_INLINE void clear_sums(__m512 *acc, size_t n) {
    __m512 zero = _mm512_setzero_ps();
    __asm__("" : "+v"(zero));
    for (size_t i = 0; i < n; i++)
        acc[i] = zero;
}

/* Four values of x, in every lane. */
FORCE_INLINE __m512i four(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

/* Eight vectors of w (32 values of k) of n_p panels times n_x rows of x: q of the first, `stride` bytes to the
 * next.  A sum is cut in two, for each product waits for the one before it: eight such chains side by side keep
 * the units busy. */
struct products {
    __m512i low[PAIR][PAIR], high[PAIR][PAIR]; /* [row of x][panel]: of values 0-15 and 16-31 */
};

FORCE_INLINE void multiply(struct products *s, const __m512i w[PAIR][8], const int8_t *q, size_t stride,
                           const int n_x, const int n_p) {
    for (int t = 0; t < 4; t++) {
        for (int j = 0; j < n_x; j++) {
            const int8_t *at = q + (size_t)j * stride + 4 * t;
            __m512i low = four(at), high = four(at + 16);
            for (int i = 0; i < n_p; i++) {
                s->low[j][i] = _mm512_dpbusd_epi32(s->low[j][i], w[i][t], low);
                s->high[j][i] = _mm512_dpbusd_epi32(s->high[j][i], w[i][t + 4], high);
            }
        }
    }
}

/* The sums of the 128-bit lanes. */
FORCE_INLINE __m128i merge_lanes(__m512i a) {
    __m256i b = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}

/* --- Float values of three types, the first 16 or fewer of what follows. --- */

FORCE_INLINE __mmask16 rest_mask(size_t n) {
    return (__mmask16)((1u << n) - 1);
}

FORCE_INLINE __m512 load_f32(const void *p, size_t i, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
}

FORCE_INLINE __m512 load_f16(const void *p, size_t i, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i));
}

FORCE_INLINE __m512 load_bf16(const void *p, size_t i, __mmask16 mask) {
    __m256i half = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Inside each 128-bit lane: its sums of a, b, c and d. */
FORCE_INLINE __m512 merge_in_lanes(const __m512 v[4]) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

/* 128-bit lane i: the sum of the lanes of v[i]. */
FORCE_INLINE __m512 merge_the_lanes(const __m512 v[4]) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

typedef __m512 (*load_fn)(const void *p, size_t i, __mmask16 mask);

void avx512_page_scores(const struct page_job *job);
void avx512_page_scores_rows(const struct page_job *job);
void avx512_page_mix(const struct page_job *job);
void avx512_page_widen(const struct page_job *job, float *out);
void avx512_rows_f32(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_f16(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_bf16(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q8_0(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q4_0(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q4_k(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q5_k(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q6_k(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q4_1(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q5_0(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q5_1(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_iq4_nl(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_mxfp4(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_nvfp4(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_fp8_32(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_fp8_128(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_int2(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_int3(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_int4(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_int8(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q2_k(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_q3_k(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_iq4_xs(const struct matmul_job *job, size_t first, size_t last);
void avx512_rows_quanta(const struct matmul_job *job, size_t first, size_t last);

#endif
