/* isa_avx512_any: the less common types, one way for all of them.  See avx512.h for panels.
 *
 * A panel's rows are opened, block after block, into a table of unsigned bytes, each
 * `surplus` too large; the table is turned into the order of the products; the sums
 * of a block are exact integers; a row's float sum has one accumulator, to which
 * blocks are added in order.  A type is an `open` of one row's block.             */
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/blocks32.h"
#include "kernels/quant/blocks.h"

/* ---- groups of 32: factors of their own ---- */

/* One group of 32 of a panel: x = d * (q - surplus) + m; NVFP4 has a d for each half, INT a z in the surplus' place. */
struct table32 {
    uint8_t q[PANEL_ROWS][32];
    float exact[PANEL_ROWS];                  /* d where a half float cannot hold it */
    int32_t z[PANEL_ROWS];
    uint16_t d[2][PANEL_ROWS], m[PANEL_ROWS]; /* half floats: 16 are converted at once */
};

_Static_assert(offsetof(struct table32, exact) % 64 == 0 && offsetof(struct table32, z) % 64 == 0 &&
                   offsetof(struct table32, d) % 32 == 0 &&
                   offsetof(struct table32, m) % 32 == 0, "vectors lie there");

struct kind32 {
    void (*open)(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r);
    size_t bytes;  /* a row's, for 32 values */
    int surplus;
    bool has_m, halves, has_z;
    float factor;  /* of d; 0: `exact` is */
};

FORCE_INLINE float half_of(uint16_t h) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* Bytes 0-15 from the low nibbles, 16-31 from the high ones. */
FORCE_INLINE __m256i nibbles32(const uint8_t *qs) {
    __m128i bytes = _mm_loadu_si128((const void *)qs);
    return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1),
                            _mm256_set1_epi8(15));
}

FORCE_INLINE void put32(struct table32 *t, size_t r, __m256i q) {
    _mm256_store_si256((void *)t->q[r], q);
}

/* `value` in every byte whose bit of qh is set. */
FORCE_INLINE __m256i bits_spread(const uint8_t *qh, char value) {
    uint32_t bits;
    memcpy(&bits, qh, sizeof bits);
    return _mm256_maskz_set1_epi8((__mmask32)bits, value);
}

FORCE_INLINE void open_q4_1(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct q4_1 *w = (const struct q4_1 *)(const void *)row + b;
    t->d[0][r] = w->d;
    t->m[r] = w->m;
    put32(t, r, nibbles32(w->qs));
}

FORCE_INLINE void open_q5_0(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct q5_0 *w = (const struct q5_0 *)(const void *)row + b;
    t->d[0][r] = w->d;
    put32(t, r, _mm256_or_si256(nibbles32(w->qs), bits_spread(w->qh, 16)));
}

FORCE_INLINE void open_q5_1(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct q5_1 *w = (const struct q5_1 *)(const void *)row + b;
    t->d[0][r] = w->d;
    t->m[r] = w->m;
    put32(t, r, _mm256_or_si256(nibbles32(w->qs), bits_spread(w->qh, 16)));
}

/* The signed values of 16 codes, 128 too large. */
FORCE_INLINE __m128i raised(const int8_t values[16]) {
    return _mm_xor_si128(_mm_loadu_si128((const void *)values), _mm_set1_epi8((char)0x80));
}

static const int8_t iq4_values[16] = {IQ4_VALUES}, fp4_doubled[16] = {FP4_DOUBLED};

FORCE_INLINE __m256i looked_up(const uint8_t *qs, const int8_t values[16]) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(raised(values)), nibbles32(qs));
}

FORCE_INLINE void open_iq4_nl(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct iq4_nl *w = (const struct iq4_nl *)(const void *)row + b;
    t->d[0][r] = w->d;
    put32(t, r, looked_up(w->qs, iq4_values));
}

FORCE_INLINE void open_mxfp4(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct mxfp4 *w = (const struct mxfp4 *)(const void *)row + b;
    t->exact[r] = e8m0_half(w->e);
    put32(t, r, looked_up(w->qs, fp4_doubled));
}

/* The bits of ue4m3(v) as those of a half float, which is 2^8 too small. */
FORCE_INLINE uint16_t small_float(uint8_t v) {
    return (v & 0x7f) == 0x7f ? 0 : (uint16_t)((v & 0x7f) << 7);
}

FORCE_INLINE void open_nvfp4(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    (void)type;
    const struct nvfp4 *w = (const struct nvfp4 *)(const void *)row + b / 2;
    size_t g = 2 * (b % 2);
    __m256i q = looked_up(w->qs + 8 * g, fp4_doubled); /* quarters: low of group 0, low of 1, high of 0, high of 1 */
    t->d[0][r] = small_float(w->d[g]);
    t->d[1][r] = small_float(w->d[g + 1]);
    put32(t, r, _mm256_permute4x64_epi64(q, 0xd8));
}

/* Two bits of eight bytes, four times. */
FORCE_INLINE __m256i pairs32(const uint8_t *codes) {
    int64_t bytes;
    memcpy(&bytes, codes, sizeof bytes);
    __m256i each = _mm256_srlv_epi64(_mm256_set1_epi64x(bytes), _mm256_setr_epi64x(0, 2, 4, 6));
    return _mm256_and_si256(each, _mm256_set1_epi8(3));
}

FORCE_INLINE const uint8_t *open_int(const struct qtype *type, unsigned bits, const uint8_t *row, size_t b,
                                     struct table32 *t, size_t r) {
    struct int_head h;
    const uint8_t *codes = int_group(type, bits, row, b, &h);
    t->exact[r] = h.d;
    t->z[r] = h.z;
    return codes;
}

FORCE_INLINE void open_int2(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    put32(t, r, pairs32(open_int(type, 2, row, b, t, r)));
}

FORCE_INLINE void open_int3(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    const uint8_t *codes = open_int(type, 3, row, b, t, r);
    put32(t, r, _mm256_or_si256(pairs32(codes), bits_spread(codes + 8, 4)));
}

FORCE_INLINE void open_int4(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    put32(t, r, nibbles32(open_int(type, 4, row, b, t, r)));
}

FORCE_INLINE void open_int8(const struct qtype *type, const uint8_t *row, size_t b, struct table32 *t, size_t r) {
    put32(t, r, _mm256_loadu_si256((const void *)open_int(type, 8, row, b, t, r)));
}

FORCE_INLINE __m512 halves_of(const uint16_t h[PANEL_ROWS]) {
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)h));
}

/* What a panel holds of one group of 32, in the order of the products. */
struct words32 {
    __m512i w[PAIR][8], z;
    __m512 d[2], m;
};

FORCE_INLINE void words32_open(struct words32 *o, const struct panel *p, const struct qtype *type, size_t b,
                               const struct kind32 *k) {
    struct table32 t __attribute__((aligned(64)));
    for (size_t r = 0; r < PANEL_ROWS; r++)
        k->open(type, p->row[r], b, &t, r);
    table_words(t.q, 32, o->w[0]);
    table_words(t.q[0] + 16, 32, o->w[0] + 4);
    for (int h = 0; h < (k->halves ? 2 : 1); h++) {
        o->d[h] = k->factor != 0 ? halves_of(t.d[h]) : _mm512_load_ps(t.exact);
        if (k->factor != 0 && k->factor != 1)
            o->d[h] = _mm512_mul_ps(o->d[h], _mm512_set1_ps(k->factor));
    }
    if (k->has_m)
        o->m = halves_of(t.m);
    if (k->has_z)
        o->z = _mm512_load_si512(t.z);
}

/* acc += d * scale * sum, where the integers of both halves meet only if they have one d. */
FORCE_INLINE __m512 words32_add(__m512 acc, const struct words32 *o, const struct q8_block *x, const struct kind32 *k) {
    struct products s;
    __m512 scale = _mm512_set1_ps(x->scale);
    s.low[0][0] = s.high[0][0] = _mm512_setzero_si512();
    multiply(&s, o->w, x->q, 0, 1, 1);
    if (k->halves) {
        int first = 0;
        for (int i = 0; i < 16; i++)
            first += x->q[i];
        __m512i low = _mm512_sub_epi32(s.low[0][0], _mm512_set1_epi32(first * k->surplus));
        __m512i high = _mm512_sub_epi32(s.high[0][0], _mm512_set1_epi32((x->sum - first) * k->surplus));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), _mm512_mul_ps(o->d[0], scale), acc);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_mul_ps(o->d[1], scale), acc);
    }
    __m512i sum = _mm512_add_epi32(s.low[0][0], s.high[0][0]);
    if (k->has_z)
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(o->z, _mm512_set1_epi32(x->sum)));
    else
        sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(x->sum * k->surplus));
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(o->d[0], scale), acc);
    if (k->has_m)
        acc = _mm512_fmadd_ps(o->m, _mm512_set1_ps(x->scale * (float)x->sum), acc);
    return acc;
}

FORCE_INLINE void rows32(const struct matmul_job *job, size_t first, size_t last, const struct kind32 *k) {
    for (size_t i = first; i < last; i += PANEL_ROWS) {
        for (size_t j = 0; j < job->n_x; j += PANEL_X_MAX) {
            size_t n_x = job->n_x - j < PANEL_X_MAX ? job->n_x - j : PANEL_X_MAX;
            __m512 acc[PANEL_X_MAX];
            struct panel p;
            panel_open(&p, job, i, last);
            clear_sums(acc, n_x);
            for (size_t b = 0; b < job->cols / 32; b++) {
                struct words32 o;
                panel_prefetch_next(&p, job->w_stride, b, k->bytes, 1);
                words32_open(&o, &p, job->type, b, k);
                for (size_t x = 0; x < n_x; x++)
                    acc[x] = words32_add(acc[x], &o, (const struct q8_block *)job_x(job, j + x) + b, k);
            }
            for (size_t x = 0; x < n_x; x++)
                panel_store(&p, job->y + (j + x) * job->y_stride + i, acc[x]);
        }
    }
}

#define ROWS32(type, surplus, has_m, halves, factor)                                                            \
    void avx512_rows_##type(const struct matmul_job *job, size_t first, size_t last) {                          \
        const struct kind32 k = {open_##type, sizeof(struct type) / ((halves) ? 2 : 1), surplus, has_m, halves, \
                                 false, factor};                                                                \
        rows32(job, first, last, &k);                                                                           \
    }
ROWS32(q4_1, 0, true, false, 1)
ROWS32(q5_0, 16, false, false, 1)
ROWS32(q5_1, 0, true, false, 1)
ROWS32(iq4_nl, 128, false, false, 1)
ROWS32(mxfp4, 128, false, false, 0)
ROWS32(nvfp4, 128, false, true, 128) /* values are doubled */
#undef ROWS32

#define ROWS_INT(name)                                                                               \
    void avx512_rows_##name(const struct matmul_job *job, size_t first, size_t last) {               \
        const struct kind32 k = {open_##name, job->type->block_bytes * 32 / job->type->block_len, 0, \
                                 false, false, true, 0};                                             \
        rows32(job, first, last, &k);                                                                \
    }
ROWS_INT(int2)
ROWS_INT(int3)
ROWS_INT(int4)
ROWS_INT(int8)
#undef ROWS_INT

/* ---- blocks of 256: integer scales, and mins, of 16 values ---- */

struct table256 {
    uint8_t q[PANEL_ROWS][256];
    int16_t scale[PANEL_ROWS][16], min[PANEL_ROWS][16];
    float d[PANEL_ROWS], dmin[PANEL_ROWS];
};

_Static_assert(offsetof(struct table256, d) % 64 == 0 && offsetof(struct table256, dmin) % 64 == 0 &&
                   offsetof(struct table256, scale) % 32 == 0, "vectors lie there");

struct kind256 {
    void (*open)(const struct qtype *type, const uint8_t *block, struct table256 *t, size_t r);
    int surplus;
    bool has_min;
};

FORCE_INLINE void put_scales(int16_t to[16], __m128i bytes) {
    _mm256_store_si256((void *)to, _mm256_cvtepi8_epi16(bytes));
}

/* Two bits of each of 64 bytes at a time, in the order of the values: vector k of four. */
FORCE_INLINE __m512i two_bits(__m512i bytes, int k) {
    const __m512i shift = k % 2 ? _mm512_set_epi64(6, 6, 6, 6, 4, 4, 4, 4) : _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    __m512i half = k / 2 ? _mm512_shuffle_i64x2(bytes, bytes, 0xee) : _mm512_shuffle_i64x2(bytes, bytes, 0x44);
    return _mm512_and_si512(_mm512_srlv_epi64(half, shift), _mm512_set1_epi8(3));
}

FORCE_INLINE void open_q2_k(const struct qtype *type, const uint8_t *block, struct table256 *t, size_t r) {
    const struct q2_k *b = (const void *)block;
    const __m128i low4 = _mm_set1_epi8(15);
    __m128i scales = _mm_loadu_si128((const void *)b->scales);
    __m512i bytes = _mm512_loadu_si512(b->qs);
    (void)type;
    for (int k = 0; k < 4; k++)
        _mm512_store_si512(t->q[r] + 64 * k, two_bits(bytes, k));
    put_scales(t->scale[r], _mm_and_si128(scales, low4));
    put_scales(t->min[r], _mm_and_si128(_mm_srli_epi16(scales, 4), low4));
    t->d[r] = half_of(b->d);
    t->dmin[r] = half_of(b->dmin);
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

FORCE_INLINE void open_q3_k(const struct qtype *type, const uint8_t *block, struct table256 *t, size_t r) {
    const struct q3_k *b = (const void *)block;
    __m512i bytes = _mm512_loadu_si512(b->qs);
    __m512i mask = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)b->hmask));
    (void)type;
    for (int k = 0; k < 4; k++) { /* bits 2k and 2k + 1 of the mask to place 2 */
        const long long first = 62 + 2 * k, second = 63 + 2 * k;
        const __m512i turn = _mm512_set_epi64(second, second, second, second, first, first, first, first);
        __m512i third = _mm512_rorv_epi64(mask, turn); /* modulo 64 */
        _mm512_store_si512(t->q[r] + 64 * k,
                           _mm512_ternarylogic_epi64(two_bits(bytes, k), third, _mm512_set1_epi8(4), 0xf8));
    }
    put_scales(t->scale[r], q3_k_scales(b->scales));
    t->d[r] = half_of(b->d);
}

FORCE_INLINE void iq4_xs_scales(int16_t to[16], const struct iq4_xs *b) {
    const __m128i low4 = _mm_set1_epi8(15);
    uint32_t l;
    memcpy(&l, b->scales_l, sizeof l);
    __m128i v = _mm_cvtsi32_si128((int)l);
    __m128i low = _mm_unpacklo_epi8(_mm_and_si128(v, low4), _mm_and_si128(_mm_srli_epi16(v, 4), low4));
    __m128i high = _mm_srlv_epi16(_mm_set1_epi16((short)b->scales_h), _mm_set_epi16(14, 12, 10, 8, 6, 4, 2, 0));
    high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi16(3)), 4);
    __m128i s = _mm_sub_epi16(_mm_or_si128(_mm_cvtepu8_epi16(low), high), _mm_set1_epi16(32));
    _mm_store_si128((void *)to, _mm_unpacklo_epi16(s, s));
    _mm_store_si128((void *)(to + 8), _mm_unpackhi_epi16(s, s));
}

FORCE_INLINE void open_iq4_xs(const struct qtype *type, const uint8_t *block, struct table256 *t, size_t r) {
    const struct iq4_xs *b = (const void *)block;
    (void)type;
    for (int g = 0; g < 8; g++)
        _mm256_store_si256((void *)(t->q[r] + 32 * g), looked_up(b->qs + 16 * g, iq4_values));
    iq4_xs_scales(t->scale[r], b);
    t->d[r] = half_of(b->d);
}

/* Any other type, by its own unpacking. */
FORCE_INLINE void open_quanta(const struct qtype *type, const uint8_t *block, struct table256 *t, size_t r) {
    struct quanta u;
    type->unpack(block, &u);
    for (int k = 0; k < 4; k++) {
        __m512i q = _mm512_xor_si512(_mm512_loadu_si512(u.q + 64 * k), _mm512_set1_epi8((char)0x80));
        _mm512_store_si512(t->q[r] + 64 * k, q);
    }
    memcpy(t->scale[r], u.scale, sizeof u.scale);
    memcpy(t->min[r], u.min, sizeof u.min);
    t->d[r] = u.d;
    t->dmin[r] = u.dmin;
}

/* The same block of a panel's rows, and its sums with every row of x. */
struct panel256 {
    struct table256 t;
    __m512i scale[8], min[8];  /* a row's scales of groups 2g and 2g + 1, as 16-bit halves of its lane */
    __m512i sum[PANEL_X_MAX];
    __m512 acc[PANEL_X_MAX];
};

/* The scales of all 16 groups times the sums of x. */
FORCE_INLINE __m512i dot_sums(const __m512i pairs[8], const struct q8k_block *x) {
    __m512i a = _mm512_setzero_si512(), b = a;
    for (int i = 0; i < 8; i += 2) {
        int32_t two[2];
        memcpy(two, x->sums + 2 * i, sizeof two);
        a = _mm512_add_epi32(a, _mm512_madd_epi16(pairs[i], _mm512_set1_epi32(two[0])));
        b = _mm512_add_epi32(b, _mm512_madd_epi16(pairs[i + 1], _mm512_set1_epi32(two[1])));
    }
    return _mm512_add_epi32(a, b);
}

/* Group g of 32 values with every row of x. */
FORCE_INLINE void panel256_group(struct panel256 *m, int g, const uint8_t *x, size_t stride, size_t n_x) {
    __m512i w[PAIR][8];
    table_words(m->t.q[0] + 32 * g, 256, w[0]);
    table_words(m->t.q[0] + 32 * g + 16, 256, w[0] + 4);
    __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(m->scale[g], 16), 16), high = _mm512_srai_epi32(m->scale[g], 16);
    for (size_t j = 0; j < n_x; j++) {
        struct products s;
        s.low[0][0] = s.high[0][0] = _mm512_setzero_si512();
        multiply(&s, w, ((const struct q8k_block *)(const void *)(x + j * stride))->q + 32 * g, 0, 1, 1);
        __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(s.low[0][0], low), _mm512_mullo_epi32(s.high[0][0], high));
        m->sum[j] = g == 0 ? sum : _mm512_add_epi32(m->sum[j], sum);
    }
}

/* The rows' block at `at`. */
FORCE_INLINE void panel256_open(struct panel256 *m, const struct panel *p, const struct qtype *type, size_t at,
                                const struct kind256 *k) {
    for (size_t r = 0; r < PANEL_ROWS; r++)
        k->open(type, p->row[r] + at, &m->t, r);
    table_words(m->t.scale, 32, m->scale);
    table_words(m->t.scale[0] + 8, 32, m->scale + 4);
    if (k->has_min) {
        table_words(m->t.min, 32, m->min);
        table_words(m->t.min[0] + 8, 32, m->min + 4);
    }
}

FORCE_INLINE void panel256_add(struct panel256 *m, const uint8_t *x, size_t stride, size_t n_x,
                               const struct kind256 *k) {
    for (int g = 0; g < 8; g++)
        panel256_group(m, g, x, stride, n_x);
    for (size_t j = 0; j < n_x; j++) {
        const struct q8k_block *xb = (const void *)(x + j * stride);
        __m512 scale = _mm512_set1_ps(xb->scale);
        __m512i sum = m->sum[j];
        if (k->surplus)
            sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(dot_sums(m->scale, xb), _mm512_set1_epi32(k->surplus)));
        m->acc[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_load_ps(m->t.d), scale), m->acc[j]);
        if (k->has_min)
            m->acc[j] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(dot_sums(m->min, xb)),
                                         _mm512_mul_ps(_mm512_load_ps(m->t.dmin), scale), m->acc[j]);
    }
}

FORCE_INLINE void rows256(const struct matmul_job *job, size_t first, size_t last, const struct kind256 *k) {
    struct panel256 m __attribute__((aligned(64)));
    for (size_t i = first; i < last; i += PANEL_ROWS) {
        for (size_t j = 0; j < job->n_x; j += PANEL_X_MAX) {
            size_t n_x = job->n_x - j < PANEL_X_MAX ? job->n_x - j : PANEL_X_MAX;
            struct panel p;
            panel_open(&p, job, i, last);
            clear_sums(m.acc, n_x);
            for (size_t b = 0; b < job->cols / 256; b++) {
                panel_prefetch_next(&p, job->w_stride, b, job->type->block_bytes, 1);
                panel256_open(&m, &p, job->type, b * job->type->block_bytes, k);
                const struct q8k_block *x = (const struct q8k_block *)job_x(job, j) + b;
                panel256_add(&m, (const uint8_t *)x, job->x_stride, n_x, k);
            }
            for (size_t x = 0; x < n_x; x++)
                panel_store(&p, job->y + (j + x) * job->y_stride + i, m.acc[x]);
        }
    }
}

#define ROWS256(type, surplus, has_min)                                                \
    void avx512_rows_##type(const struct matmul_job *job, size_t first, size_t last) { \
        const struct kind256 k = {open_##type, surplus, has_min};                      \
        rows256(job, first, last, &k);                                                 \
    }
ROWS256(q2_k, 0, true)
ROWS256(q3_k, 4, false)
ROWS256(iq4_xs, 128, false)
ROWS256(quanta, 128, true)
#undef ROWS256
