/* isa_avx2_page: attention's work on one page: eight positions, or eight values, a register; two registers and four
 * queries at a time.  A score of turned keys has one accumulator, to which the dimensions are added in order, an output
 * value one, to which positions are added in order. */
#if defined(__x86_64__)

#include "kernels/cpu/asking.h"
#include "kernels/cpu/avx2.h"

enum { QUERIES = 4, TWO = 2 };

FORCE_INLINE __m256 load_scale(const uint8_t *at)
{
    uint16_t scale;
    memcpy(&scale, at, sizeof(scale));
    return _mm256_cvtph_ps(_mm_set1_epi16((int16_t)scale));
}

FORCE_INLINE __m256 floats_of(__m128i bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* Values i to i + n of blocks of a scale and KV_Q8_BLOCK values: all in one block. */
FORCE_INLINE __m256 load_q8(const void *p, size_t i, size_t n)
{
    const uint8_t *block = (const uint8_t *)p + i / KV_Q8_BLOCK * (sizeof(uint16_t) + KV_Q8_BLOCK);
    __m128i q = _mm_setzero_si128();
    memcpy(&q, block + sizeof(uint16_t) + i % KV_Q8_BLOCK, n);
    return _mm256_mul_ps(floats_of(q), load_scale(block));
}

/* ---- scores ---- */

/* Dimension k of positions [p, p + 8). */
typedef __m256 (*turned_fn)(const struct page_job *job, size_t k, size_t p);

FORCE_INLINE __m256 turned_f32(const struct page_job *job, size_t k, size_t p)
{
    return load_f32(job->kv, k * KV_PAGE_TOKENS + p, LANES);
}

FORCE_INLINE __m256 turned_f16(const struct page_job *job, size_t k, size_t p)
{
    return load_f16(job->kv, k * KV_PAGE_TOKENS + p, LANES);
}

FORCE_INLINE __m256 turned_q8(const struct page_job *job, size_t k, size_t p)
{
    const uint8_t *values = job->kv, *scales = values + job->dim * KV_PAGE_TOKENS;
    __m128i q = _mm_loadl_epi64((const void *)(values + k * KV_PAGE_TOKENS + p));
    return _mm256_mul_ps(floats_of(q), load_f16(scales, k / KV_Q8_BLOCK * KV_PAGE_TOKENS + p, LANES));
}

/* Queries [first, first + n_q) and positions [p, p + 16). */
FORCE_INLINE void turned_tile(const struct page_job *job, size_t first, size_t p, const size_t n_q,
                              struct asking *asking, turned_fn load)
{
    const float *q = job->q + first * job->dim;
    float *scores = job->scores + first * KV_PAGE_TOKENS + p;
    __m256 acc[QUERIES][TWO];
    for (size_t i = 0; i < n_q; i++)
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < job->dim; k++) {
        __m256 a = load(job, k, p), b = load(job, k, p + LANES);
        ask(asking);
        for (size_t i = 0; i < n_q; i++) {
            __m256 v = _mm256_broadcast_ss(q + i * job->dim + k);
            acc[i][0] = _mm256_fmadd_ps(v, a, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(v, b, acc[i][1]);
        }
    }
    for (size_t i = 0; i < n_q; i++) {
        _mm256_storeu_ps(scores + i * KV_PAGE_TOKENS, acc[i][0]);
        _mm256_storeu_ps(scores + i * KV_PAGE_TOKENS + LANES, acc[i][1]);
    }
}

FORCE_INLINE void turned_all(const struct page_job *job, turned_fn load)
{
    size_t first = job->from / (TWO * LANES) * (TWO * LANES);
    size_t tiles = (job->to - first + TWO * LANES - 1) / (TWO * LANES);
    struct asking asking = asking_of(job, job->dim * tiles);
    for (size_t p = first; p < job->to; p += TWO * LANES) {
        size_t i = 0;
        for (; i + QUERIES <= job->n_q; i += QUERIES)
            turned_tile(job, i, p, QUERIES, &asking, load);
        for (; i + 2 <= job->n_q; i += 2)
            turned_tile(job, i, p, 2, &asking, load);
        if (i < job->n_q)
            turned_tile(job, i, p, 1, &asking, load);
    }
}

void avx2_page_scores(const struct page_job *job)
{
    if (job->type == KV_F16)
        turned_all(job, turned_f16);
    else if (job->type == KV_Q8)
        turned_all(job, turned_q8);
    else
        turned_all(job, turned_f32);
}

/* ---- values ---- */

/* Values [k, k + 8 * n_k), of the last register `left`, of the outputs of n_q queries. */
FORCE_INLINE void mix_block(const struct page_job *job, size_t first, size_t k, const size_t n_q, const size_t n_k,
                            size_t left, struct asking *asking, load_fn load)
{
    const uint8_t *values = job->kv;
    const float *scores = job->scores + first * KV_PAGE_TOKENS;
    size_t bytes = kv_row_bytes(job->type, job->dim);
    float *out = job->out + first * job->out_stride + k;
    __m256 acc[QUERIES][TWO];
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            acc[i][b] = load_f32(out + i * job->out_stride, LANES * b, left);
    for (size_t p = job->from; p < job->to; p++) {
        __m256 v[TWO];
        ask(asking);
        for (size_t b = 0; b < n_k; b++)
            v[b] = load(values + p * bytes, k + LANES * b, left);
        for (size_t i = 0; i < n_q; i++) {
            __m256 score = _mm256_broadcast_ss(scores + i * KV_PAGE_TOKENS + p);
            for (size_t b = 0; b < n_k; b++)
                acc[i][b] = _mm256_fmadd_ps(score, v[b], acc[i][b]);
        }
    }
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            store(out + i * job->out_stride + LANES * b, acc[i][b], left);
}

FORCE_INLINE void mix_blocks(const struct page_job *job, size_t k, const size_t n_k, size_t left,
                             struct asking *asking, load_fn load)
{
    size_t i = 0;
    for (; i + QUERIES <= job->n_q; i += QUERIES)
        mix_block(job, i, k, QUERIES, n_k, left, asking, load);
    for (; i + 2 <= job->n_q; i += 2)
        mix_block(job, i, k, 2, n_k, left, asking, load);
    if (i < job->n_q)
        mix_block(job, i, k, 1, n_k, left, asking, load);
}

FORCE_INLINE void mix_all(const struct page_job *job, load_fn load)
{
    size_t k = 0;
    struct asking asking = asking_of(job, (job->to - job->from) * ((job->dim + TWO * LANES - 1) / (TWO * LANES)));
    for (; k + TWO * LANES <= job->dim; k += TWO * LANES)
        mix_blocks(job, k, TWO, LANES, &asking, load);
    for (; k < job->dim; k += LANES)
        mix_blocks(job, k, 1, lanes_left(k, job->dim), &asking, load);
}

void avx2_page_mix(const struct page_job *job)
{
    if (job->type == KV_F16)
        mix_all(job, load_f16);
    else if (job->type == KV_Q8)
        mix_all(job, load_q8);
    else
        mix_all(job, load_f32);
}

/* ---- to floats ---- */

FORCE_INLINE void widen_turned(const struct page_job *job, float *out, turned_fn load)
{
    for (size_t k = 0; k < job->dim; k++)
        for (size_t p = 0; p < KV_PAGE_TOKENS; p += LANES)
            _mm256_storeu_ps(out + k * KV_PAGE_TOKENS + p, load(job, k, p));
}

FORCE_INLINE void widen_rows(const struct page_job *job, float *out, load_fn load)
{
    size_t bytes = kv_row_bytes(job->type, job->dim);
    for (size_t p = job->from; p < job->to; p++)
        for (size_t k = 0; k < job->dim; k += LANES) {
            size_t left = lanes_left(k, job->dim);
            store(out + p * job->dim + k, load((const uint8_t *)job->kv + p * bytes, k, left), left);
        }
}

void avx2_page_widen(const struct page_job *job, float *out)
{
    if (job->turned && job->type == KV_F16)
        widen_turned(job, out, turned_f16);
    else if (job->turned)
        widen_turned(job, out, turned_q8);
    else if (job->type == KV_F16)
        widen_rows(job, out, load_f16);
    else
        widen_rows(job, out, load_q8);
}

#endif
