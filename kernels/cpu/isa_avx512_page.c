/* isa_avx512_page: attention's work on one page: 16 positions, or 16 values, a register; four registers and four
 * queries at a time.
 *
 * Of turned keys a score has one accumulator, to which the dimensions are added
 * in order; in rows it has 16, to which strides of 16 values are added in order,
 * then one tree of sums.  An output value has one accumulator, to which
 * positions are added in order.                                              */
#include "kernels/cpu/asking.h"
#include "kernels/cpu/avx512.h"

enum { FOUR = 4, WIDTH = 16 };

/* A scale, then KV_Q8_BLOCK values: the one block that holds values i and on. */
FORCE_INLINE __m512 load_q8(const void *p, size_t i, __mmask16 mask) {
    const uint8_t *block = (const uint8_t *)p + i / KV_Q8_BLOCK * (sizeof(uint16_t) + KV_Q8_BLOCK);
    uint16_t scale;
    memcpy(&scale, block, sizeof(scale));
    __m128i q = _mm_maskz_loadu_epi8(mask, block + sizeof(scale) + i % KV_Q8_BLOCK);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)),
                         _mm512_cvtph_ps(_mm256_set1_epi16((int16_t)scale)));
}

/* ---- scores of turned keys ---- */

/* Dimension k of positions [p, p + 16). */
typedef __m512 (*turned_fn)(const struct page_job *job, size_t k, size_t p);

FORCE_INLINE __m512 turned_f32(const struct page_job *job, size_t k, size_t p) {
    return _mm512_loadu_ps((const float *)job->kv + k * KV_PAGE_TOKENS + p);
}

FORCE_INLINE __m512 turned_f16(const struct page_job *job, size_t k, size_t p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const uint16_t *)job->kv + k * KV_PAGE_TOKENS + p)));
}

FORCE_INLINE __m512 turned_q8(const struct page_job *job, size_t k, size_t p) {
    const uint8_t *values = job->kv, *scales = values + job->dim * KV_PAGE_TOKENS;
    __m128i q = _mm_loadu_si128((const void *)(values + k * KV_PAGE_TOKENS + p));
    size_t at = (k / KV_Q8_BLOCK * KV_PAGE_TOKENS + p) * sizeof(uint16_t);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)),
                         _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(scales + at))));
}

/* Queries [first, first + n_q) and positions [p, p + 16 * n_p). */
FORCE_INLINE void turned_tile(const struct page_job *job, size_t first, size_t p, const size_t n_q, const size_t n_p,
                              struct asking *asking, turned_fn load) {
    const float *q = job->q + first * job->dim;
    float *scores = job->scores + first * KV_PAGE_TOKENS + p;
    __m512 acc[FOUR][FOUR];
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_p; b++)
            acc[i][b] = _mm512_setzero_ps();
    for (size_t k = 0; k < job->dim; k++) {
        __m512 key[FOUR];
        ask(asking);
        for (size_t b = 0; b < n_p; b++)
            key[b] = load(job, k, p + WIDTH * b);
        for (size_t i = 0; i < n_q; i++) {
            __m512 v = _mm512_set1_ps(q[i * job->dim + k]);
            for (size_t b = 0; b < n_p; b++)
                acc[i][b] = _mm512_fmadd_ps(v, key[b], acc[i][b]);
        }
    }
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_p; b++)
            _mm512_storeu_ps(scores + i * KV_PAGE_TOKENS + WIDTH * b, acc[i][b]);
}

FORCE_INLINE void turned_tiles(const struct page_job *job, size_t p, const size_t n_p, struct asking *asking,
                               turned_fn load) {
    size_t i = 0;
    for (; i + FOUR <= job->n_q; i += FOUR)
        turned_tile(job, i, p, FOUR, n_p, asking, load);
    for (; i + 2 <= job->n_q; i += 2)
        turned_tile(job, i, p, 2, n_p, asking, load);
    if (i < job->n_q)
        turned_tile(job, i, p, 1, n_p, asking, load);
}

FORCE_INLINE void turned_all(const struct page_job *job, turned_fn load) {
    size_t p = job->from / WIDTH * WIDTH;
    struct asking asking = asking_of(job, job->dim);
    if (p == 0 && job->to > 3 * WIDTH) {
        turned_tiles(job, p, FOUR, &asking, load);
        return;
    }
    for (; p < job->to; p += WIDTH)
        turned_tiles(job, p, 1, &asking, load);
}

void avx512_page_scores(const struct page_job *job) {
    if (job->type == KV_F16)
        turned_all(job, turned_f16);
    else if (job->type == KV_Q8)
        turned_all(job, turned_q8);
    else
        turned_all(job, turned_f32);
}

/* ---- scores of keys in rows ---- */

/* Scores of n_q (at most four) queries and four positions; those past the last repeat it and are not stored. */
FORCE_INLINE void scores_four(const struct page_job *job, const float *q, float *scores, size_t at, const size_t n_q,
                              load_fn load) {
    const uint8_t *keys[FOUR];
    __m512 acc[FOUR][FOUR];
    size_t n = job->to - at < FOUR ? job->to - at : FOUR;
    for (size_t p = 0; p < FOUR; p++)
        keys[p] = (const uint8_t *)job->kv + (at + (p < n ? p : n - 1)) * kv_row_bytes(job->type, job->dim);
    for (size_t i = 0; i < FOUR; i++)
        for (size_t p = 0; p < FOUR; p++)
            acc[i][p] = _mm512_setzero_ps();
    for (size_t k = 0; k < job->dim; k += WIDTH) {
        __mmask16 mask = job->dim - k >= WIDTH ? 0xffff : rest_mask(job->dim - k);
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
FORCE_INLINE void scores_all(const struct page_job *job, load_fn load) {
    for (size_t at = job->from; at < job->to; at += FOUR) {
        const float *q = job->q;
        float *scores = job->scores;
        size_t left = job->n_q;
        for (; left >= FOUR; left -= FOUR, q += FOUR * job->dim, scores += FOUR * KV_PAGE_TOKENS)
            scores_four(job, q, scores, at, FOUR, load);
        if (left >= 2) {
            scores_four(job, q, scores, at, 2, load);
            left -= 2, q += 2 * job->dim, scores += 2 * KV_PAGE_TOKENS;
        }
        if (left == 1)
            scores_four(job, q, scores, at, 1, load);
    }
}

void avx512_page_scores_rows(const struct page_job *job) {
    if (job->type == KV_F16)
        scores_all(job, load_f16);
    else if (job->type == KV_Q8)
        scores_all(job, load_q8);
    else
        scores_all(job, load_f32);
}

/* ---- values ---- */

/* Values [k, k + 16 * n_k) of the outputs of n_q queries. */
FORCE_INLINE void mix_block(const struct page_job *job, size_t first, size_t k, const size_t n_q, const size_t n_k,
                            __mmask16 mask, struct asking *asking, load_fn load) {
    const uint8_t *values = job->kv;
    const float *scores = job->scores + first * KV_PAGE_TOKENS;
    size_t bytes = kv_row_bytes(job->type, job->dim);
    float *out = job->out + first * job->out_stride + k;
    __m512 acc[FOUR][FOUR];
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            acc[i][b] = load_f32(out + i * job->out_stride, WIDTH * b, mask);
    for (size_t p = job->from; p < job->to; p++) {
        __m512 v[FOUR];
        ask(asking);
        for (size_t b = 0; b < n_k; b++)
            v[b] = load(values + p * bytes, k + WIDTH * b, mask);
        for (size_t i = 0; i < n_q; i++) {
            __m512 score = _mm512_set1_ps(scores[i * KV_PAGE_TOKENS + p]);
            for (size_t b = 0; b < n_k; b++)
                acc[i][b] = _mm512_fmadd_ps(score, v[b], acc[i][b]);
        }
    }
    for (size_t i = 0; i < n_q; i++)
        for (size_t b = 0; b < n_k; b++)
            _mm512_mask_storeu_ps(out + i * job->out_stride + WIDTH * b, mask, acc[i][b]);
}

/* The same for all queries: these values of the page stay in the cache meanwhile. */
FORCE_INLINE void mix_blocks(const struct page_job *job, size_t k, const size_t n_k, __mmask16 mask,
                             struct asking *asking, load_fn load) {
    size_t i = 0;
    for (; i + FOUR <= job->n_q; i += FOUR)
        mix_block(job, i, k, FOUR, n_k, mask, asking, load);
    for (; i + 2 <= job->n_q; i += 2)
        mix_block(job, i, k, 2, n_k, mask, asking, load);
    if (i < job->n_q)
        mix_block(job, i, k, 1, n_k, mask, asking, load);
}

FORCE_INLINE void mix_all(const struct page_job *job, load_fn load) {
    size_t k = 0;
    struct asking asking = asking_of(job, (job->to - job->from) * ((job->dim + 63) / 64));
    for (; k + FOUR * WIDTH <= job->dim; k += FOUR * WIDTH)
        mix_blocks(job, k, FOUR, 0xffff, &asking, load);
    for (; k < job->dim; k += WIDTH)
        mix_blocks(job, k, 1, job->dim - k >= WIDTH ? 0xffff : rest_mask(job->dim - k), &asking, load);
}

void avx512_page_mix(const struct page_job *job) {
    if (job->type == KV_F16)
        mix_all(job, load_f16);
    else if (job->type == KV_Q8)
        mix_all(job, load_q8);
    else
        mix_all(job, load_f32);
}

/* ---- to floats ---- */

FORCE_INLINE void widen_turned(const struct page_job *job, float *out, turned_fn load) {
    for (size_t k = 0; k < job->dim; k++)
        for (size_t p = 0; p < KV_PAGE_TOKENS; p += WIDTH)
            _mm512_storeu_ps(out + k * KV_PAGE_TOKENS + p, load(job, k, p));
}

FORCE_INLINE void widen_rows(const struct page_job *job, float *out, load_fn load) {
    size_t bytes = kv_row_bytes(job->type, job->dim);
    for (size_t p = job->from; p < job->to; p++)
        for (size_t k = 0; k < job->dim; k += WIDTH) {
            __mmask16 mask = job->dim - k >= WIDTH ? 0xffff : rest_mask(job->dim - k);
            _mm512_mask_storeu_ps(out + p * job->dim + k, mask,
                                  load((const uint8_t *)job->kv + p * bytes, k, mask));
        }
}

void avx512_page_widen(const struct page_job *job, float *out) {
    if (job->turned && job->type == KV_F16)
        widen_turned(job, out, turned_f16);
    else if (job->turned)
        widen_turned(job, out, turned_q8);
    else if (job->type == KV_F16)
        widen_rows(job, out, load_f16);
    else
        widen_rows(job, out, load_q8);
}
