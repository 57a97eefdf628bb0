/* isa_avx512_q8k: Q4_K, Q5_K and Q6_K rows times Q8K rows.  See avx512.h for the two ways.
 *
 * The float sum of (i, j) adds, block after block, d*scale * S and, for Q4_K and
 * Q5_K, then -dmin*scale * M.  S sums scale_g * (w . q) over the groups g of the
 * block, M sums min_g * (sum of q).  Q6_K's w is stored with 32 added: the integer
 * -32 * scale_g * (sum of q) is part of its S.  All integers are exact in 32 bits:
 * |S| <= 256 * 63 * 127 * 128 plus 256 * 32 * 127 * 128 < 2^29.              */
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/avx512.h"
#include "kernels/quant/blocks.h"

enum kind { Q4K, Q5K, Q6K };

enum {
    BLOCK = 256,
    FEW_X = 2,       /* rows of x that share one reading of W */
    FEW_BLOCKS = 32, /* a multiple of 4: blocks of a row that are summed before the next row */
};

FORCE_INLINE size_t block_bytes(enum kind kind) {
    return kind == Q4K ? sizeof(struct q4_k) : kind == Q5K ? sizeof(struct q5_k) : sizeof(struct q6_k);
}

/* --- What a column of 16 blocks says besides the quants, lane r for row r. --- */

struct heads {
    __m512 d, dmin;
    __m512i scale[2]; /* bytes: scales 0-3, 4-7 */
    __m512i min[2];
};

/* The first 16 bytes of Q4_K and Q5_K blocks: d, dmin and eight pairs of six bits. */
FORCE_INLINE void heads_open(struct heads *h, const struct panel *p, size_t at) {
    const __m512i six = _mm512_set1_epi32(0x3f3f3f3f), four = _mm512_set1_epi32(0x0f0f0f0f);
    const __m512i top = _mm512_set1_epi32(0x30303030);
    __m512i word[4];
    panel_words(p, at, word);
    h->d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(word[0]));
    h->dmin = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(word[0], 16)));
    h->scale[0] = _mm512_and_si512(word[1], six);
    h->min[0] = _mm512_and_si512(word[2], six);
    h->scale[1] = _mm512_or_si512(_mm512_and_si512(word[3], four),
                                  _mm512_and_si512(_mm512_srli_epi32(word[1], 2), top));
    h->min[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(word[3], 4), four),
                                _mm512_and_si512(_mm512_srli_epi32(word[2], 2), top));
}

/* out[g]: min g of every row, twice, as 16-bit values. */
FORCE_INLINE void heads_mins(const struct heads *h, __m512i out[8]) {
    const __m512i twice = _mm512_set4_epi32((int)0x800c800c, (int)0x80088008, (int)0x80048004, (int)0x80008000);
    for (int g = 0; g < 8; g++)
        out[g] = _mm512_shuffle_epi8(h->min[g / 4], _mm512_add_epi16(twice, _mm512_set1_epi16((short)(g % 4))));
}

/* Sums 2i and 2i+1 of a block of x, in every lane. */
FORCE_INLINE __m512i sums_pair(const struct q8k_block *x, int i) {
    int32_t pair;
    memcpy(&pair, x->sums + 2 * i, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* Lane r: the sum over pairs i of the 16-bit values pair[i] of row r times those of x->sums. */
FORCE_INLINE __m512i dot_sums(const __m512i pair[8], const struct q8k_block *x) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int i = 0; i < 8; i += 2) {
        even = _mm512_dpwssd_epi32(even, pair[i], sums_pair(x, i));
        odd = _mm512_dpwssd_epi32(odd, pair[i + 1], sums_pair(x, i + 1));
    }
    return _mm512_add_epi32(even, odd);
}

FORCE_INLINE __m512 add_block(__m512 acc, __m512i sum, __m512 d, float scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(scale)), acc);
}

FORCE_INLINE __m512 add_mins(__m512 acc, __m512i sum, __m512 dmin, float scale) {
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(dmin, _mm512_set1_ps(scale)), acc);
}

/* --- One block of one row. --- */

/* w[i] times x[i] in pairs of bytes, those times scale[i] in pairs. */
struct row_block {
    __m512i w[4];
    __m512i scale[4];
    __m512i all_scales; /* Q6_K: 0-15 twice, to go with x_block.offset */
};

/* One block of x in the order of a row_block; Q6_K: also -16 * sums, twice. */
struct x_block {
    __m512i q[4];
    __m512i offset;
};

FORCE_INLINE void x_open(struct x_block *x, const struct q8k_block *from, enum kind kind) {
    if (kind == Q6K) {
        for (int i = 0; i < 4; i++)
            x->q[i] = _mm512_loadu_si512(from->q + 64 * i);
        __m512i sums = load_2x256(from->sums, from->sums);
        x->offset = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_slli_epi16(sums, 4));
        return;
    }
    for (int i = 0; i < 4; i++) {
        const int8_t *q = from->q + 128 * (i / 2) + 32 * (i % 2);
        x->q[i] = load_2x256(q, q + 64);
    }
}

/* a in the low half, b in the high half, in every 64-bit lane. */
FORCE_INLINE __m512i halves(long long a, long long b) {
    return _mm512_set_epi64(b, b, b, b, a, a, a, a);
}

/* Constants of the unpacking. */
struct tools {
    __m512i low4, top;   /* masks of the low four bits and of those that are added */
    __m512i scale[4];    /* where the 16-bit values of row_block.scale[i] come from */
    __m512i turn[4];     /* how far the added bits of w[i] are rotated to the left */
};

/* Groups g (low half) and g + 2 (high half) belong together in Q4_K and Q5_K; Q6_K has a scale for 16 values. */
FORCE_INLINE void tools_open(struct tools *t, enum kind kind) {
    const long long byte = (long long)0x8000800080008000, one = 0x0001000100010001;
    t->low4 = keep(_mm512_set1_epi8(15));
    t->top = keep(_mm512_set1_epi8(kind == Q6K ? 0x30 : 0x10));
    for (int i = 0; i < 4; i++) {
        int g = 4 * (i / 2) + i % 2;
        long long s = 4 * i * one;
        if (kind == Q6K)
            t->scale[i] = keep(_mm512_set_epi64(s + 3 * one, s + 3 * one, s + 2 * one, s + 2 * one, s + one, s + one, s,
                                                s));
        else
            t->scale[i] = keep(halves(byte + g * one, byte + (g + 2) * one));
        t->turn[i] = keep(kind == Q6K ? (i % 2 ? halves(0, 62) : halves(4, 2)) : halves((68 - g) % 64, (66 - g) % 64));
    }
}

/* The eight scales of a Q4_K or Q5_K block, a byte each. */
FORCE_INLINE long long row_scales(const uint8_t *block) {
    uint32_t a, c;
    memcpy(&a, block + offsetof(struct q4_k, scales), sizeof a);
    memcpy(&c, block + offsetof(struct q4_k, scales) + 8, sizeof c);
    uint64_t high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    return (long long)(high << 32 | (a & 0x3f3f3f3f));
}

/* The low four bits of every value, and each group's scale. */
FORCE_INLINE void row_open_q4_k(struct row_block *w, const uint8_t *block, const struct tools *t, enum kind kind) {
    const uint8_t *qs = block + (kind == Q4K ? offsetof(struct q4_k, qs) : offsetof(struct q5_k, qs));
    __m512i scales = _mm512_set1_epi64(row_scales(block));
    for (int i = 0; i < 2; i++) {
        __m512i bytes = keep(_mm512_loadu_si512(qs + 64 * i));
        w->w[2 * i] = _mm512_and_si512(bytes, t->low4);
        w->w[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), t->low4);
    }
    for (int i = 0; i < 4; i++)
        w->scale[i] = _mm512_shuffle_epi8(scales, t->scale[i]);
}

/* Bit g of byte l belongs to value 32*g + l: a rotation brings it to bit 4. */
FORCE_INLINE void row_add_q5_k(struct row_block *w, const uint8_t *block, const struct tools *t) {
    __m512i bits = keep(load_2x256(block + offsetof(struct q5_k, qh), block + offsetof(struct q5_k, qh)));
    for (int i = 0; i < 4; i++) /* a | (b & c) */
        w->w[i] = _mm512_ternarylogic_epi64(w->w[i], _mm512_rolv_epi64(bits, t->turn[i]), t->top, 0xf8);
}

/* Two bits of four values lie in a byte of qh; they go to bits 4 and 5. Scale 4i + L is 128-bit lane L of scale[i]. */
FORCE_INLINE void row_open_q6_k(struct row_block *w, const uint8_t *block, const struct tools *t) {
    __m128i scales = _mm_loadu_si128((const void *)(block + offsetof(struct q6_k, scales)));
    w->all_scales = _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(scales));
    for (int i = 0; i < 4; i++) {
        const uint8_t *qh = block + offsetof(struct q6_k, qh) + 32 * (i / 2);
        __m512i bytes = keep(_mm512_loadu_si512(block + offsetof(struct q6_k, ql) + 64 * (i / 2)));
        __m512i tops = _mm512_rolv_epi64(load_2x256(qh, qh), t->turn[i]);
        __m512i low = _mm512_and_si512(i % 2 ? _mm512_srli_epi16(bytes, 4) : bytes, t->low4);
        w->w[i] = _mm512_ternarylogic_epi64(low, tops, t->top, 0xf8);
        w->scale[i] = _mm512_permutexvar_epi16(t->scale[i], w->all_scales);
    }
}

FORCE_INLINE void row_open(struct row_block *w, const uint8_t *block, const struct tools *t, enum kind kind) {
    if (kind == Q6K) {
        row_open_q6_k(w, block, t);
        return;
    }
    row_open_q4_k(w, block, t, kind);
    if (kind == Q5K)
        row_add_q5_k(w, block, t);
}

/* The integer sum of the block, in 16 parts. */
FORCE_INLINE __m512i block_sum(const struct row_block *w, const struct x_block *x, enum kind kind) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    if (kind == Q6K)
        odd = _mm512_dpwssd_epi32(odd, w->all_scales, x->offset);
    for (int i = 0; i < 4; i += 2) {
        even = _mm512_dpwssd_epi32(even, _mm512_maddubs_epi16(w->w[i], x->q[i]), w->scale[i]);
        odd = _mm512_dpwssd_epi32(odd, _mm512_maddubs_epi16(w->w[i + 1], x->q[i + 1]), w->scale[i + 1]);
    }
    return _mm512_add_epi32(even, odd);
}

/* --- Few rows of x: integer sums row by row, then the float sums of 16 rows together. --- */

/* A run of at most FEW_BLOCKS blocks of a panel and of n_x rows of x. */
struct run {
    struct x_block x[FEW_BLOCKS][FEW_X];
    int32_t sum[FEW_X][PANEL_ROWS][FEW_BLOCKS];
    float d[PANEL_ROWS][FEW_BLOCKS]; /* Q6_K, whose d lies behind its quants */
};

FORCE_INLINE void run_row(struct run *run, const struct panel *p, size_t r, size_t at, size_t n,
                          const struct tools *t, const int n_x, const enum kind kind) {
    const uint8_t *row = p->row[r] + at, *ahead = panel_ahead(p, row);
    for (size_t b = 0; b < n; b += 4) {
        __m512i part[FEW_X][4];
        uint16_t d[8] = {0};
        for (size_t k = 0; k < 4; k++) {
            for (int j = 0; j < n_x; j++)
                part[j][k] = _mm512_setzero_si512();
            if (b + k >= n)
                continue;
            const uint8_t *block = row + (b + k) * block_bytes(kind);
            struct row_block w;
            prefetch(ahead + (b + k) * block_bytes(kind), block_bytes(kind));
            row_open(&w, block, t, kind);
            if (kind == Q6K)
                memcpy(&d[k], block + offsetof(struct q6_k, d), sizeof d[k]);
            for (int j = 0; j < n_x; j++)
                part[j][k] = block_sum(&w, &run->x[b + k][j], kind);
        }
        for (int j = 0; j < n_x; j++)
            _mm_storeu_si128((void *)&run->sum[j][r][b],
                             merge_lanes(merge_rows4(part[j][0], part[j][1], part[j][2], part[j][3])));
        if (kind == Q6K)
            _mm_storeu_ps(&run->d[r][b], _mm_cvtph_ps(_mm_loadu_si128((const void *)d)));
    }
}

/* Adds blocks b..b+3 of the run (n at most) to the float sums. x: the run's first block, a row each */
FORCE_INLINE void run_add(const struct run *run, const struct panel *p, size_t b, size_t n, size_t at,
                          const struct q8k_block *const *x, __m512 *acc, const int n_x, const enum kind kind) {
    __m512i sum[FEW_X][4], d[4], mins[8];
    struct heads h;
    for (int j = 0; j < n_x; j++)
        table_words(&run->sum[j][0][b], sizeof run->sum[j][0], sum[j]);
    if (kind == Q6K)
        table_words(&run->d[0][b], sizeof run->d[0], d);
    for (size_t k = 0; k < 4 && b + k < n; k++) {
        if (kind == Q6K) {
            h.d = _mm512_castsi512_ps(d[k]);
        } else {
            heads_open(&h, p, at + (b + k) * block_bytes(kind));
            heads_mins(&h, mins);
        }
        for (int j = 0; j < n_x; j++) {
            const struct q8k_block *xb = x[j] + b + k;
            acc[j] = add_block(acc[j], sum[j][k], h.d, xb->scale);
            if (kind != Q6K)
                acc[j] = add_mins(acc[j], dot_sums(mins, xb), h.dmin, xb->scale);
        }
    }
}

FORCE_INLINE void panel_few(const struct panel *p, const struct matmul_job *job, size_t j, __m512 *acc, const int n_x,
                            const enum kind kind) {
    size_t n_blocks = job->cols / BLOCK;
    struct run run;
    struct tools t;
    tools_open(&t, kind);
    for (int k = 0; k < n_x; k++)
        acc[k] = _mm512_setzero_ps();
    for (size_t first = 0; first < n_blocks; first += FEW_BLOCKS) {
        size_t n = n_blocks - first < FEW_BLOCKS ? n_blocks - first : FEW_BLOCKS;
        size_t at = first * block_bytes(kind);
        const struct q8k_block *x[FEW_X];
        for (int k = 0; k < n_x; k++) {
            x[k] = (const struct q8k_block *)job_x(job, j + (size_t)k) + first;
            for (size_t b = 0; b < n; b++)
                x_open(&run.x[b][k], x[k] + b, kind);
        }
        for (size_t r = 0; r < PANEL_ROWS; r++)
            run_row(&run, p, r, at, n, &t, n_x, kind);
        for (size_t b = 0; b < n; b += 4)
            run_add(&run, p, b, n, at, x, acc, n_x, kind);
    }
}

FORCE_INLINE void rows_few(const struct matmul_job *job, const struct panel *p, size_t i, size_t j, const int n_x,
                           const enum kind kind) {
    __m512 acc[FEW_X];
    panel_few(p, job, j, acc, n_x, kind);
    for (int k = 0; k < n_x; k++)
        panel_store(p, job->y + (j + (size_t)k) * job->y_stride + i, acc[k]);
}

/* --- Many rows of x: a block of the panel is unpacked, then meets one row of x after the other. --- */

/* w[t], lane r: the stored values 4t..4t+3 of row r's block; they fall into groups of 32 (Q6_K: 16) values. */
struct many {
    __m512i w[BLOCK / 4];
    __m512i scale[16];           /* of each group */
    __m512i pair[8];             /* what goes with the sums of q: mins (Q6_K: scales) of neighbouring 16 values */
    __m512 d, dmin;
    __m512i sum[PANEL_X_MAX];    /* of this block */
    __m512 acc[PANEL_X_MAX];     /* the float sums */
};

FORCE_INLINE void unpack_q4_k(struct many *m, const struct panel *p, size_t at, enum kind kind) {
    const __m512i low4 = _mm512_set1_epi8(15), byte = _mm512_set1_epi32(255);
    const size_t qs = kind == Q4K ? offsetof(struct q4_k, qs) : offsetof(struct q5_k, qs);
    struct heads h;
    heads_open(&h, p, at);
    heads_mins(&h, m->pair);
    m->d = h.d;
    m->dmin = h.dmin;
    for (int g = 0; g < 8; g++)
        m->scale[g] = _mm512_and_si512(_mm512_srli_epi32(h.scale[g / 4], (unsigned)(8 * (g % 4))), byte);
    for (int i = 0; i < 8; i++) {
        __m512i word[4], *low = m->w + 16 * (i / 2) + 4 * (i % 2);
        panel_words(p, at + qs + 16 * (size_t)i, word);
        for (int t = 0; t < 4; t++) {
            low[t] = _mm512_and_si512(word[t], low4);
            low[t + 8] = _mm512_and_si512(_mm512_srli_epi16(word[t], 4), low4);
        }
    }
}

/* Bit g of byte l belongs to value 32*g + l. */
FORCE_INLINE void unpack_q5_k(struct many *m, const struct panel *p, size_t at) {
    const __m512i fifth = _mm512_set1_epi8(16);
    __m512i bits[8];
    unpack_q4_k(m, p, at, Q5K);
    panel_words(p, at + offsetof(struct q5_k, qh), bits);
    panel_words(p, at + offsetof(struct q5_k, qh) + 16, bits + 4);
    for (int g = 0; g < 8; g++)
        for (int t = 0; t < 8; t++) { /* a | (b & c) */
            __m512i turned = g < 4 ? _mm512_slli_epi16(bits[t], (unsigned)(4 - g))
                                   : _mm512_srli_epi16(bits[t], (unsigned)(g - 4));
            m->w[8 * g + t] = _mm512_ternarylogic_epi64(m->w[8 * g + t], turned, fifth, 0xf8);
        }
}

/* The high bits 2k, 2k + 1 of a byte, brought to bits 4 and 5 (and others beside them). */
FORCE_INLINE __m512i high_bits(__m512i bytes, int k) {
    return k < 2 ? _mm512_slli_epi16(bytes, (unsigned)(4 - 2 * k)) : _mm512_srli_epi16(bytes, (unsigned)(2 * k - 4));
}

FORCE_INLINE void unpack_q6_k_half(struct many *m, const struct panel *p, size_t at, int half) {
    const __m512i low4 = _mm512_set1_epi8(15), high2 = _mm512_set1_epi8(0x30);
    __m512i high[8];
    panel_words(p, at + offsetof(struct q6_k, qh) + 32 * (size_t)half, high);
    panel_words(p, at + offsetof(struct q6_k, qh) + 32 * (size_t)half + 16, high + 4);
    for (int i = 0; i < 4; i++) {
        __m512i word[4];
        panel_words(p, at + offsetof(struct q6_k, ql) + 64 * (size_t)half + 16 * (size_t)i, word);
        for (int n = 0; n < 2; n++) {
            int k = 2 * n + i / 2, part = 4 * (i % 2);
            for (int t = 0; t < 4; t++) {
                __m512i low = _mm512_and_si512(n ? _mm512_srli_epi16(word[t], 4) : word[t], low4);
                m->w[32 * half + 8 * k + part + t] =
                    _mm512_ternarylogic_epi64(low, high_bits(high[part + t], k), high2, 0xf8);
            }
        }
    }
}

FORCE_INLINE void unpack_q6_k(struct many *m, const struct panel *p, size_t at) {
    const __m512i first = _mm512_set4_epi32((int)0x0d800c80, (int)0x09800880, (int)0x05800480, (int)0x01800080);
    __m512i scales[4], tail[4];
    panel_words(p, at + offsetof(struct q6_k, scales), scales);
    panel_words(p, at + sizeof(struct q6_k) - 16, tail); /* d is its last two bytes */
    m->d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(tail[3], 16)));
    for (int g = 0; g < 16; g++)
        m->scale[g] = _mm512_srai_epi32(_mm512_slli_epi32(scales[g / 4], (unsigned)(24 - 8 * (g % 4))), 24);
    for (int i = 0; i < 8; i++) {
        __m512i place = _mm512_add_epi32(first, _mm512_set1_epi32(i % 2 ? 0x02000200 : 0));
        m->pair[i] = _mm512_srai_epi16(_mm512_shuffle_epi8(scales[i / 2], place), 8);
    }
    unpack_q6_k_half(m, p, at, 0);
    unpack_q6_k_half(m, p, at, 1);
}

/* Adds group g of 32 values to the block's sums of n_x (at most PAIR) rows of x, from row j on. Q6_K has a scale for
 * each half of them. */
FORCE_INLINE void many_meet(struct many *m, const __m512i w[PAIR][8], int g, const uint8_t *x, size_t stride, size_t j,
                            const int n_x, const int n_p, enum kind kind) {
    struct products s;
    for (int k = 0; k < n_x; k++)
        for (int i = 0; i < n_p; i++)
            s.low[k][i] = s.high[k][i] = _mm512_setzero_si512();
    multiply(&s, w, ((const struct q8k_block *)(const void *)x)->q + 32 * g, stride, n_x, n_p);
    for (int k = 0; k < n_x; k++) {
        for (int i = 0; i < n_p; i++) {
            __m512i sum, *to = &m[i].sum[j + (size_t)k];
            if (kind == Q6K)
                sum = _mm512_add_epi32(_mm512_mullo_epi32(s.low[k][i], m[i].scale[2 * g]),
                                       _mm512_mullo_epi32(s.high[k][i], m[i].scale[2 * g + 1]));
            else
                sum = _mm512_mullo_epi32(_mm512_add_epi32(s.low[k][i], s.high[k][i]), m[i].scale[g]);
            *to = g == 0 ? sum : _mm512_add_epi32(*to, sum);
        }
    }
}

/* Adds the unpacked block to the sums of every row of x. x: that block of row 0; stride: bytes to the next row */
FORCE_INLINE void many_add(struct many *m, const uint8_t *x, size_t stride, size_t n_x, const int n_p,
                           enum kind kind) {
    for (int g = 0; g < 8; g++) {
        __m512i w[PAIR][8];
        size_t j = 0;
        for (int i = 0; i < n_p; i++)
            for (int t = 0; t < 8; t++)
                w[i][t] = keep(m[i].w[8 * g + t]);
        for (; j + PAIR <= n_x; j += PAIR)
            many_meet(m, w, g, x + j * stride, stride, j, PAIR, n_p, kind);
        if (j < n_x)
            many_meet(m, w, g, x + j * stride, stride, j, 1, n_p, kind);
    }
    for (int i = 0; i < n_p; i++) {
        for (size_t j = 0; j < n_x; j++) {
            const struct q8k_block *xb = (const void *)(x + j * stride);
            __m512i pairs = dot_sums(m[i].pair, xb), sum = m[i].sum[j];
            if (kind == Q6K)
                sum = _mm512_sub_epi32(sum, _mm512_slli_epi32(pairs, 5));
            m[i].acc[j] = add_block(m[i].acc[j], sum, m[i].d, xb->scale);
            if (kind != Q6K)
                m[i].acc[j] = add_mins(m[i].acc[j], pairs, m[i].dmin, xb->scale);
        }
    }
}

FORCE_INLINE void unpack(struct many *m, const struct panel *p, size_t at, enum kind kind) {
    if (kind == Q6K)
        unpack_q6_k(m, p, at);
    else if (kind == Q5K)
        unpack_q5_k(m, p, at);
    else
        unpack_q4_k(m, p, at, Q4K);
}

FORCE_INLINE void rows_many(const struct matmul_job *job, size_t i, size_t last, size_t j, size_t n_x, const int n_p,
                            const enum kind kind) {
    struct panel p[PAIR];
    struct many m[PAIR];
    for (int k = 0; k < n_p; k++) {
        panel_open(&p[k], job, i + (size_t)k * PANEL_ROWS, last);
        clear_sums(m[k].acc, n_x);
    }
    for (size_t b = 0; b < job->cols / BLOCK; b++) {
        for (int k = 0; k < n_p; k++) {
            panel_prefetch_next(&p[k], job->w_stride, b, block_bytes(kind), n_p);
            unpack(&m[k], &p[k], b * block_bytes(kind), kind);
        }
        const struct q8k_block *x = (const struct q8k_block *)job_x(job, j) + b;
        many_add(m, (const uint8_t *)x, job->x_stride, n_x, n_p, kind);
    }
    for (int k = 0; k < n_p; k++)
        for (size_t x = 0; x < n_x; x++)
            panel_store(&p[k], job->y + (j + x) * job->y_stride + i + (size_t)k * PANEL_ROWS, m[k].acc[x]);
}

/* Rows i and on, a panel or a pair of them. */
FORCE_INLINE void rows_panels(const struct matmul_job *job, size_t i, size_t last, const int n_p,
                              const enum kind kind) {
    size_t j = 0;
    while (job->n_x - j >= MANY_X) {
        size_t n_x = job->n_x - j < PANEL_X_MAX ? job->n_x - j : PANEL_X_MAX;
        rows_many(job, i, last, j, n_x, n_p, kind);
        j += n_x;
    }
    for (int k = 0; k < n_p && j < job->n_x; k++) {
        size_t at = i + (size_t)k * PANEL_ROWS;
        struct panel p;
        panel_open(&p, job, at, last);
        if (job->n_x - j == FEW_X)
            rows_few(job, &p, at, j, FEW_X, kind);
        else
            rows_few(job, &p, at, j, 1, kind);
    }
}

_Static_assert(MANY_X == FEW_X + 1, "what is left over is one call of rows_few");

FORCE_INLINE void rows_k(const struct matmul_job *job, size_t first, size_t last, const enum kind kind) {
    size_t step;
    for (size_t i = first; i < last; i += step) {
        bool pair = job->n_x >= MANY_X && last - i > PANEL_ROWS;
        step = last - i < (pair ? PAIR : 1) * PANEL_ROWS ? last - i : (pair ? PAIR : 1) * PANEL_ROWS;
        if (pair)
            rows_panels(job, i, last, PAIR, kind);
        else
            rows_panels(job, i, last, 1, kind);
    }
}

void avx512_rows_q4_k(const struct matmul_job *job, size_t first, size_t last) {
    rows_k(job, first, last, Q4K);
}

void avx512_rows_q5_k(const struct matmul_job *job, size_t first, size_t last) {
    rows_k(job, first, last, Q5K);
}

void avx512_rows_q6_k(const struct matmul_job *job, size_t first, size_t last) {
    rows_k(job, first, last, Q6K);
}
