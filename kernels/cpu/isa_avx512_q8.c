/* isa_avx512_q8: Q8_0 and Q4_0 rows times Q8 rows.  See avx512.h for the two ways.
 *
 * The float sum of (i, j) adds d*scale * S, block after block.  The products take
 * unsigned weights: Q8_0's with 128 added (the top bit turned), Q4_0's as stored,
 * with 8 added; so S = (stored w . q) - 128 or 8 times the sum of q, exact in 32
 * bits.                                                                      */
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/avx512.h"
#include "kernels/quant/blocks.h"

enum kind { Q8, Q4 };

enum {
    BLOCK = 32,
    GROUP = 8,        /* blocks that are unpacked together */
    FEW_X = 2,        /* rows of x that share one reading of W */
    FEW_BLOCKS = 128, /* a multiple of GROUP: blocks of a row that are summed before the next row */
    MANY_BLOCKS = 16, /* blocks of a panel that are unpacked together */
};

FORCE_INLINE size_t block_bytes(enum kind kind) {
    return kind == Q8 ? sizeof(struct q8_0) : sizeof(struct q4_0);
}

/* What the stored weights carry too much, times the block's sum of q. */
FORCE_INLINE __m512i surplus(const struct q8_block *x, enum kind kind) {
    return _mm512_set1_epi32(x->sum * (kind == Q8 ? 128 : 8));
}

FORCE_INLINE __m512 add_block(__m512 acc, __m512i sum, __m512 d, const struct q8_block *x, enum kind kind) {
    __m512i exact = _mm512_sub_epi32(sum, surplus(x, kind));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), _mm512_mul_ps(d, _mm512_set1_ps(x->scale)), acc);
}

/* The scales of eight blocks of a row. */
FORCE_INLINE __m256 group_d(const uint8_t *blocks, __m512i place, enum kind kind) {
    __m512i d = _mm512_permutexvar_epi16(place, _mm512_loadu_si512(blocks));
    if (kind == Q4) {
        d = _mm512_mask_permutexvar_epi16(d, 0xf0, place, _mm512_loadu_si512(blocks + 4 * sizeof(struct q4_0)));
    } else {
        const size_t pair = 2 * sizeof(struct q8_0);
        d = _mm512_mask_permutexvar_epi16(d, 0x0c, place, _mm512_loadu_si512(blocks + pair));
        d = _mm512_mask_permutexvar_epi16(d, 0x30, place, _mm512_loadu_si512(blocks + 2 * pair));
        d = _mm512_mask_permutexvar_epi16(d, 0xc0, place, _mm512_loadu_si512(blocks + 3 * pair));
    }
    return _mm256_cvtph_ps(_mm512_castsi512_si128(d));
}

/* Constants of the unpacking. */
struct tools {
    __m512i low4, top;
    __m512i place; /* of d in a group, for group_d */
    __m512i even;  /* the even 64-bit lanes */
};

FORCE_INLINE void tools_open(struct tools *t, enum kind kind) {
    const long long pair = 17 << 16, four = 27ll << 48 | 18ll << 32 | 9ll << 16;
    t->low4 = keep(_mm512_set1_epi8(15));
    t->top = keep(_mm512_set1_epi8((char)0x80));
    t->place = keep(kind == Q4 ? _mm512_set1_epi64(four) : _mm512_set1_epi64(pair << 32 | pair));
    t->even = keep(_mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0));
}

/* Eight blocks of x. Q8_0: q[i] holds blocks i and i + 4. Q4_0: q[2k] holds the first halves of blocks k, k + 2,
 * k + 4 and k + 6, q[2k + 1] their second halves. */
struct x_group {
    __m512i q[4];
};

FORCE_INLINE void x_open(struct x_group *g, const struct q8_block *x, enum kind kind) {
    for (int i = 0; i < 4; i++) {
        int k = i / 2, half = 16 * (i % 2);
        g->q[i] = kind == Q8 ? load_2x256(x[i].q, x[i + 4].q)
                             : load_4x128(x[k].q + half, x[k + 2].q + half, x[k + 4].q + half, x[k + 6].q + half);
    }
}

/* The stored weights of eight blocks of a row in the order of x_group. */
FORCE_INLINE void row_open(__m512i w[4], const uint8_t *blocks, const struct tools *t, enum kind kind) {
    if (kind == Q8) {
        for (int i = 0; i < 4; i++) {
            const uint8_t *qs = blocks + (size_t)i * sizeof(struct q8_0) + offsetof(struct q8_0, qs);
            w[i] = _mm512_xor_si512(load_2x256(qs, qs + 4 * sizeof(struct q8_0)), t->top);
        }
        return;
    }
    for (int k = 0; k < 2; k++) {
        const uint8_t *qs = blocks + (size_t)k * sizeof(struct q4_0) + offsetof(struct q4_0, qs);
        const size_t two = 2 * sizeof(struct q4_0);
        __m512i bytes = load_4x128(qs, qs + two, qs + 2 * two, qs + 3 * two);
        w[2 * k] = _mm512_and_si512(bytes, t->low4);
        w[2 * k + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), t->low4);
    }
}

/* The eight integer sums. */
FORCE_INLINE void group_sums(const __m512i w[4], const struct x_group *x, const struct tools *t, int32_t *out,
                             enum kind kind) {
    const __m512i zero = _mm512_setzero_si512();
    if (kind == Q8) {
        __m512i s[4];
        for (int i = 0; i < 4; i++)
            s[i] = _mm512_dpbusd_epi32(zero, w[i], x->q[i]);
        __m512i merged = merge_rows4(s[0], s[1], s[2], s[3]); /* lanes: 0-3, 0-3, 4-7, 4-7 */
        merged = _mm512_add_epi32(merged, _mm512_shuffle_i32x4(merged, merged, 0xb1));
        merged = _mm512_shuffle_i32x4(merged, merged, 0x08);
        _mm256_storeu_si256((void *)out, _mm512_castsi512_si256(merged));
        return;
    }
    __m512i a = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[0], x->q[0]), w[1], x->q[1]);
    __m512i b = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, w[2], x->q[2]), w[3], x->q[3]);
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    ab = _mm512_add_epi32(ab, _mm512_unpackhi_epi64(ab, ab)); /* each lane: its two blocks, and leavings */
    _mm256_storeu_si256((void *)out, _mm512_castsi512_si256(_mm512_permutexvar_epi64(t->even, ab)));
}

/* --- Few rows of x: integer sums row by row, then the float sums of 16 rows together. --- */

/* A run of at most FEW_BLOCKS blocks of a panel and of n_x rows of x. */
struct run {
    struct x_group x[FEW_BLOCKS / GROUP][FEW_X];
    int32_t sum[FEW_X][PANEL_ROWS][FEW_BLOCKS];
    float d[PANEL_ROWS][FEW_BLOCKS];
};

/* The row's last group may be short: it is padded with zeros. */
FORCE_INLINE const uint8_t *whole_group(const uint8_t *blocks, size_t n, uint8_t *spare, enum kind kind) {
    if (n >= GROUP)
        return blocks;
    memset(spare, 0, GROUP * block_bytes(kind));
    memcpy(spare, blocks, n * block_bytes(kind));
    return spare;
}

FORCE_INLINE void run_row(struct run *run, const struct panel *p, size_t r, size_t at, size_t n,
                          const struct tools *t, const int n_x, const enum kind kind) {
    const uint8_t *row = p->row[r] + at, *ahead = panel_ahead(p, row);
    uint8_t spare[GROUP * sizeof(struct q8_0)];
    for (size_t b = 0; b < n; b += GROUP) {
        const uint8_t *blocks = whole_group(row + b * block_bytes(kind), n - b, spare, kind);
        __m512i w[4];
        prefetch(ahead + b * block_bytes(kind), GROUP * block_bytes(kind));
        row_open(w, blocks, t, kind);
        for (int j = 0; j < n_x; j++)
            group_sums(w, &run->x[b / GROUP][j], t, &run->sum[j][r][b], kind);
        _mm256_storeu_ps(&run->d[r][b], group_d(blocks, t->place, kind));
    }
}

FORCE_INLINE void run_open_x(struct run *run, int j, const struct q8_block *x, size_t n, enum kind kind) {
    for (size_t b = 0; b < n; b += GROUP) {
        struct q8_block spare[GROUP];
        const struct q8_block *blocks = x + b;
        if (n - b < GROUP) {
            memset(spare, 0, sizeof spare);
            memcpy(spare, blocks, (n - b) * sizeof spare[0]);
            blocks = spare;
        }
        x_open(&run->x[b / GROUP][j], blocks, kind);
    }
}

/* Adds the run's n blocks to the float sums. x: the run's first block, a row each */
FORCE_INLINE void run_add(const struct run *run, size_t n, const struct q8_block *const *x, __m512 *acc, const int n_x,
                          const enum kind kind) {
    for (size_t b = 0; b < n; b += 4) {
        __m512i sum[FEW_X][4], d[4];
        table_words(&run->d[0][b], sizeof run->d[0], d);
        for (int j = 0; j < n_x; j++)
            table_words(&run->sum[j][0][b], sizeof run->sum[j][0], sum[j]);
        for (size_t k = 0; k < 4 && b + k < n; k++)
            for (int j = 0; j < n_x; j++)
                acc[j] = add_block(acc[j], sum[j][k], _mm512_castsi512_ps(d[k]), x[j] + b + k, kind);
    }
}

FORCE_INLINE void rows_few(const struct matmul_job *job, const struct panel *p, size_t i, size_t j, const int n_x,
                           const enum kind kind) {
    size_t n_blocks = job->cols / BLOCK;
    __m512 acc[FEW_X];
    struct run run;
    struct tools t;
    tools_open(&t, kind);
    for (int k = 0; k < n_x; k++)
        acc[k] = _mm512_setzero_ps();
    for (size_t first = 0; first < n_blocks; first += FEW_BLOCKS) {
        size_t n = n_blocks - first < FEW_BLOCKS ? n_blocks - first : FEW_BLOCKS;
        const struct q8_block *x[FEW_X];
        for (int k = 0; k < n_x; k++) {
            x[k] = (const struct q8_block *)job_x(job, j + (size_t)k) + first;
            run_open_x(&run, k, x[k], n, kind);
        }
        for (size_t r = 0; r < PANEL_ROWS; r++)
            run_row(&run, p, r, first * block_bytes(kind), n, &t, n_x, kind);
        run_add(&run, n, x, acc, n_x, kind);
    }
    for (int k = 0; k < n_x; k++)
        panel_store(p, job->y + (j + (size_t)k) * job->y_stride + i, acc[k]);
}

/* --- Many rows of x: a run of blocks of the panel is unpacked, then meets one row of x after the other. --- */

/* w[b][t], lane r: the stored values 4t..4t+3 of block b of row r. */
struct many {
    __m512i w[MANY_BLOCKS][BLOCK / 4];
    __m512 d[MANY_BLOCKS];
    __m512 acc[PANEL_X_MAX]; /* the float sums */
};

FORCE_INLINE void many_unpack(struct many *m, const struct panel *p, size_t b, size_t at, enum kind kind) {
    const __m512i low4 = _mm512_set1_epi8(15), top = _mm512_set1_epi8((char)0x80);
    const size_t qs = kind == Q8 ? offsetof(struct q8_0, qs) : offsetof(struct q4_0, qs);
    __m512i head[4], word[8];
    panel_words(p, at, head);
    m->d[b] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(head[0]));
    panel_words(p, at + qs, word);
    if (kind == Q8)
        panel_words(p, at + qs + 16, word + 4);
    for (int t = 0; t < 4; t++) {
        if (kind == Q8) {
            m->w[b][t] = _mm512_xor_si512(word[t], top);
            m->w[b][t + 4] = _mm512_xor_si512(word[t + 4], top);
        } else {
            m->w[b][t] = _mm512_and_si512(word[t], low4);
            m->w[b][t + 4] = _mm512_and_si512(_mm512_srli_epi16(word[t], 4), low4);
        }
    }
}

/* Block b of the run times n_x (at most PAIR) rows of x, from row j on: x. */
FORCE_INLINE void many_meet(struct many *m, const __m512i w[PAIR][8], size_t b, const uint8_t *x, size_t stride,
                            size_t j, const int n_x, const int n_p, enum kind kind) {
    /* the sum of q lies in 16 bits: a product of pairs makes minus the surplus of it */
    const __m512i surplus_of_one = _mm512_set1_epi32(kind == Q8 ? 0xff80 : 0xfff8), zero = _mm512_setzero_si512();
    struct products s;
    for (int k = 0; k < n_x; k++) {
        const struct q8_block *xb = (const void *)(x + (size_t)k * stride);
        __m512i start = _mm512_dpwssd_epi32(zero, surplus_of_one, _mm512_set1_epi32(xb->sum));
        for (int i = 0; i < n_p; i++) {
            s.low[k][i] = start;
            s.high[k][i] = zero;
        }
    }
    multiply(&s, w, ((const struct q8_block *)(const void *)x)->q, stride, n_x, n_p);
    for (int k = 0; k < n_x; k++) {
        const struct q8_block *xb = (const void *)(x + (size_t)k * stride);
        for (int i = 0; i < n_p; i++) {
            __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(s.low[k][i], s.high[k][i]));
            __m512 *acc = &m[i].acc[j + (size_t)k];
            *acc = _mm512_fmadd_ps(sum, _mm512_mul_ps(m[i].d[b], _mm512_set1_ps(xb->scale)), *acc);
        }
    }
}

/* Adds block b of the run to the sums of every row of x. x: that block of row 0; stride: bytes to the next row */
FORCE_INLINE void many_add(struct many *m, size_t b, const uint8_t *x, size_t stride, size_t n_x, const int n_p,
                           enum kind kind) {
    __m512i w[PAIR][8];
    size_t j = 0;
    for (int i = 0; i < n_p; i++)
        for (int t = 0; t < 8; t++)
            w[i][t] = keep(m[i].w[b][t]);
    for (; j + PAIR <= n_x; j += PAIR)
        many_meet(m, w, b, x + j * stride, stride, j, PAIR, n_p, kind);
    if (j < n_x)
        many_meet(m, w, b, x + j * stride, stride, j, 1, n_p, kind);
}

FORCE_INLINE void rows_many(const struct matmul_job *job, size_t i, size_t last, size_t j, size_t n_x, const int n_p,
                            const enum kind kind) {
    size_t n_blocks = job->cols / BLOCK;
    struct panel p[PAIR];
    struct many m[PAIR];
    for (int k = 0; k < n_p; k++) {
        panel_open(&p[k], job, i + (size_t)k * PANEL_ROWS, last);
        clear_sums(m[k].acc, n_x);
    }
    for (size_t first = 0; first < n_blocks; first += MANY_BLOCKS) {
        size_t n = n_blocks - first < MANY_BLOCKS ? n_blocks - first : MANY_BLOCKS;
        for (size_t b = 0; b < n; b++) {
            for (int k = 0; k < n_p; k++) {
                panel_prefetch_next(&p[k], job->w_stride, first + b, block_bytes(kind), n_p);
                many_unpack(&m[k], &p[k], b, (first + b) * block_bytes(kind), kind);
            }
        }
        const struct q8_block *x = (const struct q8_block *)job_x(job, j) + first;
        for (size_t b = 0; b < n; b++)
            many_add(m, b, (const uint8_t *)(x + b), job->x_stride, n_x, n_p, kind);
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

FORCE_INLINE void rows_q(const struct matmul_job *job, size_t first, size_t last, const enum kind kind) {
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

void avx512_rows_q8_0(const struct matmul_job *job, size_t first, size_t last) {
    rows_q(job, first, last, Q8);
}

void avx512_rows_q4_0(const struct matmul_job *job, size_t first, size_t last) {
    rows_q(job, first, last, Q4);
}
