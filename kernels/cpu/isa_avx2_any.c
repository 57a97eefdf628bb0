/* isa_avx2_any: the less common types, one row of W at a time against all rows of x.
 *
 * A block is opened once into signed bytes with their scales; |w| is unsigned and x
 * takes w's sign, so no pair of products passes 2 * 127 * 127 < 2^15.  The eight
 * parts of a block's exact integer sum go to one accumulator of eight lanes, as in
 * isa_avx2.c.  A type is an `open` of one block.                                   */
#include "kernels/cpu/avx2.h"

#include <string.h>

#include "kernels/quant/blocks.h"

enum { X_SHARE = 64 /* rows of x that share the opening of a row of W */ };

FORCE_INLINE const uint8_t *x_row(const struct matmul_job *job, size_t j) {
    return (const uint8_t *)job->x + j * job->x_stride;
}

/* Bytes 0-15 from the low nibbles, 16-31 from the high ones. */
FORCE_INLINE __m256i nibbles32(const uint8_t *qs) {
    __m128i bytes = _mm_loadu_si128((const void *)qs);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

static const int8_t iq4_values[16] = {IQ4_VALUES}, fp4_doubled[16] = {FP4_DOUBLED};

FORCE_INLINE __m256i looked_up(const uint8_t *qs, const int8_t values[16]) {
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)values));
    return _mm256_shuffle_epi8(table, nibbles32(qs));
}

/* ---- groups of 32: x = d * (q - z) + m ---- */

struct group {
    __m256i q;
    __m256 d; /* in its lower half for values 0-15, in the upper for the rest */
    float m;
    int32_t z;
};

/* What has no zero point and what has no m leave them alone. */
typedef void (*open_group_fn)(const struct qtype *type, const uint8_t *row, size_t b, struct group *g);

FORCE_INLINE void group_scale(struct group *g, uint16_t d, uint16_t m) {
    g->d = _mm256_set1_ps(_cvtsh_ss(d));
    g->m = _cvtsh_ss(m);
}

/* `value` in every byte whose bit of qh is set. */
FORCE_INLINE __m256i bits_spread(const uint8_t *qh, char value) {
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201U);
    int32_t bits;
    memcpy(&bits, qh, sizeof bits);
    __m256i at = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(at, bit), _mm256_set1_epi8(value));
}

FORCE_INLINE void open_q4_1(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct q4_1 *w = (const struct q4_1 *)(const void *)row + b;
    group_scale(g, w->d, w->m);
    g->q = nibbles32(w->qs);
}

FORCE_INLINE void open_q5_0(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct q5_0 *w = (const struct q5_0 *)(const void *)row + b;
    group_scale(g, w->d, 0);
    g->q = _mm256_sub_epi8(_mm256_or_si256(nibbles32(w->qs), bits_spread(w->qh, 16)), _mm256_set1_epi8(16));
}

FORCE_INLINE void open_q5_1(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct q5_1 *w = (const struct q5_1 *)(const void *)row + b;
    group_scale(g, w->d, w->m);
    g->q = _mm256_or_si256(nibbles32(w->qs), bits_spread(w->qh, 16));
}

FORCE_INLINE void open_iq4_nl(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct iq4_nl *w = (const struct iq4_nl *)(const void *)row + b;
    group_scale(g, w->d, 0);
    g->q = looked_up(w->qs, iq4_values);
}

FORCE_INLINE void open_mxfp4(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct mxfp4 *w = (const struct mxfp4 *)(const void *)row + b;
    g->d = _mm256_set1_ps(e8m0_half(w->e));
    g->m = 0;
    g->q = looked_up(w->qs, fp4_doubled);
}

/* Half a block. The lookup gives quarters: low of group 0, low of 1, high of 0, high of 1. */
FORCE_INLINE void open_nvfp4(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    (void)type;
    const struct nvfp4 *w = (const struct nvfp4 *)(const void *)row + b / 2;
    size_t at = 2 * (b % 2);
    __m128 low = _mm_set1_ps(ue4m3(w->d[at]) * 0.5F), high = _mm_set1_ps(ue4m3(w->d[at + 1]) * 0.5F);
    g->d = _mm256_set_m128(high, low);
    g->m = 0;
    g->q = _mm256_permute4x64_epi64(looked_up(w->qs + 8 * at, fp4_doubled), 0xd8);
}

/* Two bits of eight bytes, four times. */
FORCE_INLINE __m256i pairs32(const uint8_t *codes) {
    int64_t bytes;
    memcpy(&bytes, codes, sizeof bytes);
    __m256i each = _mm256_srlv_epi64(_mm256_set1_epi64x(bytes), _mm256_setr_epi64x(0, 2, 4, 6));
    return _mm256_and_si256(each, _mm256_set1_epi8(3));
}

FORCE_INLINE const uint8_t *open_int(const struct qtype *type, unsigned bits, const uint8_t *row, size_t b,
                                     struct group *g) {
    struct int_head h;
    const uint8_t *codes = int_group(type, bits, row, b, &h);
    g->d = _mm256_set1_ps(h.d);
    g->z = h.z;
    return codes;
}

FORCE_INLINE void open_int2(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    g->q = pairs32(open_int(type, 2, row, b, g));
}

FORCE_INLINE void open_int3(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    const uint8_t *codes = open_int(type, 3, row, b, g);
    g->q = _mm256_or_si256(pairs32(codes), bits_spread(codes + 8, 4));
}

FORCE_INLINE void open_int4(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    g->q = nibbles32(open_int(type, 4, row, b, g));
}

/* 128 less, codes and zero point. */
FORCE_INLINE void open_int8(const struct qtype *type, const uint8_t *row, size_t b, struct group *g) {
    __m256i codes = _mm256_loadu_si256((const void *)open_int(type, 8, row, b, g));
    g->q = _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80));
    g->z -= 128;
}

enum parts { PLAIN, HAS_M, HAS_Z };

/* One row of W times rows j..j+n_x of x. */
FORCE_INLINE void row32(const struct matmul_job *job, const uint8_t *w, size_t j, size_t n_x, float *out,
                        open_group_fn open, enum parts parts) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 acc[X_SHARE];
    float extra[X_SHARE];
    for (size_t k = 0; k < n_x; k++) {
        acc[k] = _mm256_setzero_ps();
        extra[k] = 0;
    }
    for (size_t b = 0; b < job->cols / 32; b++) {
        struct group g;
        open(job->type, w, b, &g);
        __m256i magnitude = _mm256_abs_epi8(g.q);
        for (size_t k = 0; k < n_x; k++) {
            const struct q8_block *x = (const struct q8_block *)(const void *)x_row(job, j + k) + b;
            __m256i signed_x = _mm256_sign_epi8(_mm256_loadu_si256((const void *)x->q), g.q);
            __m256i sum = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_x), ones);
            if (parts == HAS_Z)
                sum = _mm256_sub_epi32(sum, _mm256_zextsi128_si256(_mm_cvtsi32_si128(g.z * x->sum)));
            acc[k] = _mm256_fmadd_ps(_mm256_mul_ps(g.d, _mm256_set1_ps(x->scale)), _mm256_cvtepi32_ps(sum), acc[k]);
            if (parts == HAS_M)
                extra[k] += g.m * (x->scale * (float)x->sum);
        }
    }
    for (size_t k = 0; k < n_x; k++)
        out[k * job->y_stride] = sum_lanes(acc[k]) + extra[k];
}

FORCE_INLINE void rows32(const struct matmul_job *job, size_t first, size_t last, open_group_fn open,
                         enum parts parts) {
    const uint8_t *end = job->w + last * job->w_stride;
    for (size_t i = first; i < last; i++) {
        const uint8_t *w = job->w + i * job->w_stride;
        prefetch_ahead(w, job->w_stride, AHEAD_BYTES, end);
        for (size_t j = 0; j < job->n_x; j += X_SHARE) {
            size_t n_x = job->n_x - j < X_SHARE ? job->n_x - j : X_SHARE;
            if (n_x == 1) /* a constant, so that the accumulators stay in registers */
                row32(job, w, j, 1, job->y + j * job->y_stride + i, open, parts);
            else
                row32(job, w, j, n_x, job->y + j * job->y_stride + i, open, parts);
        }
    }
}

#define ROWS32(type, parts)                                                              \
    void avx2_rows_##type(const struct matmul_job *job, size_t first, size_t last) {     \
        rows32(job, first, last, open_##type, parts);                                    \
    }
ROWS32(q4_1, HAS_M)
ROWS32(q5_0, PLAIN)
ROWS32(q5_1, HAS_M)
ROWS32(iq4_nl, PLAIN)
ROWS32(mxfp4, PLAIN)
ROWS32(nvfp4, PLAIN)
ROWS32(int2, HAS_Z)
ROWS32(int3, HAS_Z)
ROWS32(int4, HAS_Z)
ROWS32(int8, HAS_Z)
#undef ROWS32

/* ---- blocks of 256 ---- */

struct block {
    __m256i q[8], magnitude[8];
    __m256i scale[8]; /* 16-bit: of values 0-15 of group g in the lower half, of 16-31 in the upper */
    __m256i min;
    float d, dmin;
};

typedef void (*open_block_fn)(const struct qtype *type, const uint8_t *bytes, struct block *b);

/* 16 scales of 16 bits to each group's two. */
FORCE_INLINE void put_scales(struct block *b, __m256i scales) {
    const __m256i even_odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    /* each half: its even scales, then its odd ones; then all even below, all odd above */
    __m256i sorted = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(scales, even_odd), 0xd8);
    for (int g = 0; g < 8; g++)
        b->scale[g] = _mm256_shuffle_epi8(sorted, _mm256_set1_epi16((short)(0x0100 + 0x0202 * g)));
}

FORCE_INLINE void put_group(struct block *b, int g, __m256i q) {
    b->q[g] = q;
    b->magnitude[g] = _mm256_abs_epi8(q);
}

FORCE_INLINE __m256i two_bits(const uint8_t *qs, int g) {
    __m256i bytes = _mm256_loadu_si256((const void *)(qs + 32 * (g / 4)));
    return _mm256_and_si256(_mm256_srli_epi16(bytes, 2 * (g % 4)), _mm256_set1_epi8(3));
}

FORCE_INLINE void open_q2_k(const struct qtype *type, const uint8_t *bytes, struct block *b) {
    const struct q2_k *w = (const void *)bytes;
    const __m128i low4 = _mm_set1_epi8(15);
    __m128i scales = _mm_loadu_si128((const void *)w->scales);
    (void)type;
    for (int g = 0; g < 8; g++)
        put_group(b, g, two_bits(w->qs, g));
    put_scales(b, _mm256_cvtepu8_epi16(_mm_and_si128(scales, low4)));
    b->min = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(scales, 4), low4));
    b->d = _cvtsh_ss(w->d);
    b->dmin = _cvtsh_ss(w->dmin);
}

/* The 16 scales of six bits, from 12 bytes. */
FORCE_INLINE __m128i q3_k_scales(const uint8_t s[12]) {
    const uint32_t low = 0x0f0f0f0f, pair = 0x03030303;
    uint32_t a[3];
    memcpy(a, s, sizeof a);
    uint32_t w0 = (a[0] & low) | (a[2] & pair) << 4, w1 = (a[1] & low) | (a[2] >> 2 & pair) << 4;
    uint32_t w2 = (a[0] >> 4 & low) | (a[2] >> 4 & pair) << 4, w3 = (a[1] >> 4 & low) | (a[2] >> 6 & pair) << 4;
    return _mm_sub_epi8(_mm_set_epi32((int)w3, (int)w2, (int)w1, (int)w0), _mm_set1_epi8(32));
}

FORCE_INLINE void open_q3_k(const struct qtype *type, const uint8_t *bytes, struct block *b) {
    const struct q3_k *w = (const void *)bytes;
    __m256i mask = _mm256_loadu_si256((const void *)w->hmask);
    (void)type;
    for (int g = 0; g < 8; g++) { /* four less where the bit of the mask is 0 */
        __m256i four = _mm256_and_si256(g < 2 ? _mm256_slli_epi16(mask, 2 - g) : _mm256_srli_epi16(mask, g - 2),
                                        _mm256_set1_epi8(4));
        put_group(b, g, _mm256_sub_epi8(_mm256_or_si256(two_bits(w->qs, g), four), _mm256_set1_epi8(4)));
    }
    put_scales(b, _mm256_cvtepi8_epi16(q3_k_scales(w->scales)));
    b->min = _mm256_setzero_si256();
    b->d = _cvtsh_ss(w->d);
    b->dmin = 0;
}

FORCE_INLINE void open_iq4_xs(const struct qtype *type, const uint8_t *bytes, struct block *b) {
    const struct iq4_xs *w = (const void *)bytes;
    int16_t scale[16];
    (void)type;
    for (int g = 0; g < 8; g++) {
        int low = w->scales_l[g / 2] >> 4 * (g % 2) & 15, high = w->scales_h >> 2 * g & 3;
        scale[2 * g] = scale[2 * g + 1] = (int16_t)((low | high << 4) - 32);
        put_group(b, g, looked_up(w->qs + 16 * g, iq4_values));
    }
    put_scales(b, _mm256_loadu_si256((const void *)scale));
    b->min = _mm256_setzero_si256();
    b->d = _cvtsh_ss(w->d);
    b->dmin = 0;
}

/* Any other type, by its own unpacking. */
FORCE_INLINE void open_quanta(const struct qtype *type, const uint8_t *bytes, struct block *b) {
    struct quanta u;
    type->unpack(bytes, &u);
    for (int g = 0; g < 8; g++)
        put_group(b, g, _mm256_loadu_si256((const void *)(u.q + 32 * g)));
    put_scales(b, _mm256_loadu_si256((const void *)u.scale));
    b->min = _mm256_loadu_si256((const void *)u.min);
    b->d = u.d;
    b->dmin = u.dmin;
}

FORCE_INLINE __m256 block_add(__m256 acc, const struct block *b, const struct q8k_block *x, bool has_min) {
    __m256i sum = _mm256_setzero_si256();
    for (int g = 0; g < 8; g++) {
        __m256i signed_x = _mm256_sign_epi8(_mm256_loadu_si256((const void *)(x->q + 32 * g)), b->q[g]);
        __m256i pairs = _mm256_maddubs_epi16(b->magnitude[g], signed_x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, b->scale[g]));
    }
    acc = _mm256_fmadd_ps(_mm256_set1_ps(b->d * x->scale), _mm256_cvtepi32_ps(sum), acc);
    if (has_min) {
        __m256i mins = _mm256_madd_epi16(b->min, _mm256_loadu_si256((const void *)x->sums));
        acc = _mm256_fnmadd_ps(_mm256_set1_ps(b->dmin * x->scale), _mm256_cvtepi32_ps(mins), acc);
    }
    return acc;
}

FORCE_INLINE void row256(const struct matmul_job *job, const uint8_t *w, size_t j, size_t n_x, float *out,
                         open_block_fn open, bool has_min) {
    __m256 acc[X_SHARE];
    for (size_t k = 0; k < n_x; k++)
        acc[k] = _mm256_setzero_ps();
    for (size_t i = 0; i < job->cols / 256; i++) {
        struct block b;
        open(job->type, w + i * job->type->block_bytes, &b);
        for (size_t k = 0; k < n_x; k++) {
            const struct q8k_block *x = (const struct q8k_block *)(const void *)x_row(job, j + k) + i;
            acc[k] = block_add(acc[k], &b, x, has_min);
        }
    }
    for (size_t k = 0; k < n_x; k++)
        out[k * job->y_stride] = sum_lanes(acc[k]);
}

FORCE_INLINE void rows256(const struct matmul_job *job, size_t first, size_t last, open_block_fn open, bool has_min) {
    const uint8_t *end = job->w + last * job->w_stride;
    for (size_t i = first; i < last; i++) {
        const uint8_t *w = job->w + i * job->w_stride;
        prefetch_ahead(w, job->w_stride, AHEAD_BYTES, end);
        for (size_t j = 0; j < job->n_x; j += X_SHARE) {
            size_t n_x = job->n_x - j < X_SHARE ? job->n_x - j : X_SHARE;
            if (n_x == 1)
                row256(job, w, j, 1, job->y + j * job->y_stride + i, open, has_min);
            else
                row256(job, w, j, n_x, job->y + j * job->y_stride + i, open, has_min);
        }
    }
}

#define ROWS256(type, has_min)                                                       \
    void avx2_rows_##type(const struct matmul_job *job, size_t first, size_t last) { \
        rows256(job, first, last, open_##type, has_min);                             \
    }
ROWS256(q2_k, true)
ROWS256(q3_k, false)
ROWS256(iq4_xs, false)
ROWS256(quanta, true)
#undef ROWS256
