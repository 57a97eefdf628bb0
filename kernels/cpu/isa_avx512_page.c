/* isa_avx512_page: attention's work on one page: four positions or 64 values of four queries at a time.
 *
 * A score has one accumulator of 16 lanes, to which strides of 16 values are
 * added in order, then one tree of sums, the same whichever place of the four
 * times four it has.  An output value has one accumulator, to which positions
 * are added in order.                                                        */
#include "kernels/cpu/avx512.h"

enum { FOUR = 4 };

/* Inside each 128-bit lane: its sums of a, b, c and d. */
FORCE_INLINE __m512 merge_in_lanes(const __m512 v[FOUR]) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

/* 128-bit lane i: the sum of the lanes of v[i]. */
FORCE_INLINE __m512 merge_the_lanes(const __m512 v[FOUR]) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* Scores of n_q (at most four) queries and four positions; those past `last` repeat it and are not stored. */
FORCE_INLINE void scores_four(const struct page_job *job, const float *q, float *scores, size_t at, const size_t n_q,
                              size_t value_bytes, load_fn load) {
    const uint8_t *keys[FOUR];
    __m512 acc[FOUR][FOUR];
    size_t n = job->n - at < FOUR ? job->n - at : FOUR;
    for (size_t p = 0; p < FOUR; p++)
        keys[p] = (const uint8_t *)job->kv + (at + (p < n ? p : n - 1)) * job->dim * value_bytes;
    for (size_t i = 0; i < FOUR; i++)
        for (size_t p = 0; p < FOUR; p++)
            acc[i][p] = _mm512_setzero_ps();
    for (size_t k = 0; k < job->dim; k += 16) {
        __mmask16 mask = job->dim - k >= 16 ? 0xffff : rest_mask(job->dim - k);
        __m512 key[FOUR];
        for (size_t p = 0; p < FOUR; p++)
            key[p] = load(keys[p], k, mask);
        for (size_t i = 0; i < n_q; i++) {
            __m512 v = load_f32(q + i * job->dim, k, mask);
            for (size_t p = 0; p < FOUR; p++)
                acc[i][p] = _mm512_fmadd_ps(v, key[p], acc[i][p]);
        }
    }
    __m512 merged[FOUR], sums;
    for (size_t i = 0; i < FOUR; i++)
        merged[i] = merge_in_lanes(acc[i]);
    sums = merge_the_lanes(merged);
    __mmask16 stored = rest_mask(n);
    for (size_t i = 0; i < n_q; i++) {
        _mm512_mask_storeu_ps(scores + i * KV_PAGE_TOKENS + at, stored, sums);
        sums = _mm512_shuffle_f32x4(sums, sums, 0x39);
    }
}

/* Four positions stay in the cache while all queries meet them. */
FORCE_INLINE void scores_all(const struct page_job *job, size_t value_bytes, load_fn load) {
    for (size_t at = 0; at < job->n; at += FOUR) {
        const float *q = job->q;
        float *scores = job->scores;
        size_t left = job->n_q;
        for (; left >= FOUR; left -= FOUR, q += FOUR * job->dim, scores += FOUR * KV_PAGE_TOKENS)
            scores_four(job, q, scores, at, FOUR, value_bytes, load);
        if (left >= 2) {
            scores_four(job, q, scores, at, 2, value_bytes, load);
            left -= 2, q += 2 * job->dim, scores += 2 * KV_PAGE_TOKENS;
        }
        if (left == 1)
            scores_four(job, q, scores, at, 1, value_bytes, load);
    }
}

void avx512_page_scores(const struct page_job *job) {
    if (job->type == KV_F16)
        scores_all(job, sizeof(uint16_t), load_f16);
    else
        scores_all(job, sizeof(float), load_f32);
}

/* Values [k, k + 16 * n_k) of the outputs of n_q queries. */
FORCE_INLINE void mix_block(const struct page_job *job, size_t first, size_t k, const size_t n_q, const size_t n_k,
                            __mmask16 mask, size_t value_bytes, load_fn load) {
    const uint8_t *values = job->kv;
    const float *scores = job->scores + first * KV_PAGE_TOKENS;
    float *out = job->out + first * job->out_stride + k;
    __m512 acc[FOUR][FOUR];
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            acc[i][b] = load_f32(out + i * job->out_stride, 16 * b, mask);
    for (size_t p = 0; p < job->n; p++) {
        __m512 v[FOUR];
        for (size_t b = 0; b < n_k; b++)
            v[b] = load(values + p * job->dim * value_bytes, k + 16 * b, mask);
        for (size_t i = 0; i < n_q; i++) {
            __m512 score = _mm512_set1_ps(scores[i * KV_PAGE_TOKENS + p]);
            for (size_t b = 0; b < n_k; b++)
                acc[i][b] = _mm512_fmadd_ps(score, v[b], acc[i][b]);
        }
    }
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            _mm512_mask_storeu_ps(out + i * job->out_stride + 16 * b, mask, acc[i][b]);
}

/* The same for all queries: the values of 64 places stay in the cache meanwhile. */
FORCE_INLINE void mix_blocks(const struct page_job *job, size_t k, const size_t n_k, __mmask16 mask, size_t value_bytes,
                             load_fn load) {
    size_t i = 0;
    for (; i + FOUR <= job->n_q; i += FOUR)
        mix_block(job, i, k, FOUR, n_k, mask, value_bytes, load);
    for (; i + 2 <= job->n_q; i += 2)
        mix_block(job, i, k, 2, n_k, mask, value_bytes, load);
    if (i < job->n_q)
        mix_block(job, i, k, 1, n_k, mask, value_bytes, load);
}

FORCE_INLINE void mix_all(const struct page_job *job, size_t value_bytes, load_fn load) {
    size_t k = 0;
    for (; k + 64 <= job->dim; k += 64)
        mix_blocks(job, k, 4, 0xffff, value_bytes, load);
    for (; k < job->dim; k += 16)
        mix_blocks(job, k, 1, job->dim - k >= 16 ? 0xffff : rest_mask(job->dim - k), value_bytes, load);
}

void avx512_page_mix(const struct page_job *job) {
    if (job->type == KV_F16)
        mix_all(job, sizeof(uint16_t), load_f16);
    else
        mix_all(job, sizeof(float), load_f32);
}

void avx512_page_widen(const struct page_job *job, float *out) {
    const uint16_t *from = job->kv;
    size_t n = job->n * job->dim;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : rest_mask(n - i);
        _mm512_mask_storeu_ps(out + i, mask, load_f16(from, i, mask));
    }
}
