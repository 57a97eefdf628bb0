/* isa_avx2_panel: eight rows of W at a time against many rows of x, for the common types.
 *
 * A panel's blocks are unpacked once into vectors whose lane r holds four values of row r, and meet every row
 * of x there.  The bits are those of one row at a time (isa_avx2.c): integer sums are exact in any order, and
 * the steps that round are the same in the same order, in a lane of its own for each row.
 *
 * Products of unsigned quants are added up in 16 bits while they fit: a quant q adds at most 2 * q * 127.   */
#include "kernels/cpu/avx2.h"

#if defined(__x86_64__)

#include <string.h>

#include "kernels/quant/blocks.h"

enum {
    ROWS = 8,
    X_SHARE = 64,    /* rows of x that share the unpacking of a panel */
    LANE_BLOCKS = 8, /* blocks of 32 go to as many sums in turn */
};

struct panel {
    const uint8_t *row[ROWS]; /* those past the end repeat the last */
    const uint8_t *end;       /* of the range of rows */
    size_t n, stride;
};

static void panel_open(struct panel *p, const struct matmul_job *job, size_t i, size_t last)
{
    p->end = job->w + last * job->w_stride;
    p->n = last - i < ROWS ? last - i : ROWS;
    p->stride = job->w_stride;
    for (size_t r = 0; r < ROWS; r++)
        p->row[r] = job->w + (i + (r < p->n ? r : p->n - 1)) * job->w_stride;
}

/* While block b of `bytes` bytes a row is unpacked, a like share of the next panel is asked for. */
FORCE_INLINE void prefetch_next(const struct panel *p, size_t b, size_t bytes)
{
    const uint8_t *at = p->row[0] + b * ROWS * bytes;
    prefetch_ahead(at, ROWS * bytes, ROWS * p->stride, p->end);
}

FORCE_INLINE void panel_store(const struct panel *p, float *y, __m256 sums)
{
    float part[ROWS];
    if (p->n == ROWS) {
        _mm256_storeu_ps(y, sums);
        return;
    }
    _mm256_storeu_ps(part, sums);
    memcpy(y, part, p->n * sizeof *y);
}

/* v[t], lane r = dword t of a[r]. */
FORCE_INLINE void transpose8(const __m256i a[ROWS], __m256i v[8])
{
    __m256i t[8], u[8];
    for (int k = 0; k < 8; k += 2) {
        t[k] = _mm256_unpacklo_epi32(a[k], a[k + 1]);
        t[k + 1] = _mm256_unpackhi_epi32(a[k], a[k + 1]);
    }
    for (int k = 0; k < 8; k += 4) {
        u[k] = _mm256_unpacklo_epi64(t[k], t[k + 2]);
        u[k + 1] = _mm256_unpackhi_epi64(t[k], t[k + 2]);
        u[k + 2] = _mm256_unpacklo_epi64(t[k + 1], t[k + 3]);
        u[k + 3] = _mm256_unpackhi_epi64(t[k + 1], t[k + 3]);
    }
    for (int k = 0; k < 4; k++) {
        v[k] = _mm256_permute2x128_si256(u[k], u[k + 4], 0x20);
        v[k + 4] = _mm256_permute2x128_si256(u[k], u[k + 4], 0x31);
    }
}

/* v[t], lane r = dword t of the 32 bytes at offset `at` of row r. */
FORCE_INLINE void dwords8(const struct panel *p, size_t at, __m256i v[8])
{
    __m256i a[ROWS];
    for (int r = 0; r < ROWS; r++)
        a[r] = _mm256_loadu_si256((const void *)(p->row[r] + at));
    transpose8(a, v);
}

/* The same of 16 bytes. */
FORCE_INLINE void dwords4(const struct panel *p, size_t at, __m256i v[4])
{
    __m256i a[4], t[4];
    for (int r = 0; r < 4; r++)
        a[r] = _mm256_set_m128i(_mm_loadu_si128((const void *)(p->row[r + 4] + at)),
                                _mm_loadu_si128((const void *)(p->row[r] + at)));
    for (int k = 0; k < 4; k += 2) {
        t[k] = _mm256_unpacklo_epi32(a[k], a[k + 1]);
        t[k + 1] = _mm256_unpackhi_epi32(a[k], a[k + 1]);
    }
    v[0] = _mm256_unpacklo_epi64(t[0], t[2]);
    v[1] = _mm256_unpackhi_epi64(t[0], t[2]);
    v[2] = _mm256_unpacklo_epi64(t[1], t[3]);
    v[3] = _mm256_unpackhi_epi64(t[1], t[3]);
}

/* Lane r: the half float at offset `at` of row r. */
FORCE_INLINE __m256 halves8(const struct panel *p, size_t at)
{
    uint16_t d[ROWS];
    for (int r = 0; r < ROWS; r++)
        memcpy(&d[r], p->row[r] + at, sizeof d[r]);
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)d));
}

/* Four bytes in every lane. */
FORCE_INLINE __m256i four(const void *at)
{
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}

FORCE_INLINE __m256i low_nibbles(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

FORCE_INLINE __m256i high_nibbles(__m256i v)
{
    return low_nibbles(_mm256_srli_epi16(v, 4));
}

/* Products of `n` vectors of unsigned quants, added up in 16 bits. */
FORCE_INLINE __m256i products16(const __m256i *w, const int8_t *x, const int n)
{
    __m256i sum = _mm256_maddubs_epi16(w[0], four(x));
    for (int t = 1; t < n; t++)
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[t], four(x + 4 * t)));
    return sum;
}

FORCE_INLINE const void *x_row(const struct matmul_job *job, size_t j)
{
    return (const uint8_t *)job->x + j * job->x_stride;
}

/* ---- blocks of 32 ---- */

/* One block's values: signed, or for Q4_0 unsigned and 8 too large. */
typedef void (*open32_fn)(const struct panel *p, size_t at, __m256i w[8]);

FORCE_INLINE void open_q4_0(const struct panel *p, size_t at, __m256i w[8])
{
    __m256i v[4];
    dwords4(p, at, v);
    for (int t = 0; t < 4; t++) {
        w[t] = low_nibbles(v[t]);
        w[t + 4] = high_nibbles(v[t]);
    }
}

FORCE_INLINE __m256i sums_q4_0(const __m256i w[8], const struct q8_block *x)
{
    __m256i sum = _mm256_madd_epi16(products16(w, x->q, 8), _mm256_set1_epi16(1));
    return _mm256_sub_epi32(sum, _mm256_set1_epi32(8 * x->sum));
}

FORCE_INLINE void open_q8_0(const struct panel *p, size_t at, __m256i w[8])
{
    dwords8(p, at, w);
}

/* As in isa_avx2.c x takes w's sign; no two such products fit into 16 bits. */
FORCE_INLINE __m256i sums_q8_0(const __m256i w[8], const struct q8_block *x)
{
    __m256i sum = _mm256_setzero_si256();
    for (int t = 0; t < 8; t++) {
        __m256i signed_x = _mm256_sign_epi8(four(x->q + 4 * t), w[t]);
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[t]), signed_x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sum;
}

typedef __m256i (*sums32_fn)(const __m256i w[8], const struct q8_block *x);

/* A row's eight sums as sum_lanes() adds them; those that a short last round left out get a zero as there. */
FORCE_INLINE __m256 add_up(__m256 acc[LANE_BLOCKS], size_t n_blocks)
{
    for (size_t k = n_blocks % LANE_BLOCKS; k > 0 && k < LANE_BLOCKS; k++)
        acc[k] = _mm256_add_ps(acc[k], _mm256_setzero_ps());
    __m256 a = _mm256_add_ps(acc[0], acc[4]), b = _mm256_add_ps(acc[1], acc[5]);
    __m256 c = _mm256_add_ps(acc[2], acc[6]), d = _mm256_add_ps(acc[3], acc[7]);
    return _mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d));
}

FORCE_INLINE void panel32(const struct matmul_job *job, const struct panel *p, size_t j, size_t n_x, float *y,
                          size_t block_bytes, open32_fn open, sums32_fn sums)
{
    __m256 acc[X_SHARE][LANE_BLOCKS];
    size_t n = job->cols / 32;
    for (size_t k = 0; k < n_x; k++)
        for (int l = 0; l < LANE_BLOCKS; l++)
            acc[k][l] = _mm256_setzero_ps();
    for (size_t b = 0; b < n; b++) {
        __m256i w[8];
        __m256 d = halves8(p, b * block_bytes);
        prefetch_next(p, b, block_bytes);
        open(p, b * block_bytes + sizeof(uint16_t), w);
        for (size_t k = 0; k < n_x; k++) {
            const struct q8_block *x = (const struct q8_block *)x_row(job, j + k) + b;
            __m256 *a = &acc[k][b % LANE_BLOCKS];
            *a = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(x->scale)), _mm256_cvtepi32_ps(sums(w, x)), *a);
        }
    }
    for (size_t k = 0; k < n_x; k++)
        panel_store(p, y + k * job->y_stride, add_up(acc[k], n));
}

/* ---- blocks of 256 ---- */

/* One block of a panel. scale[g] and offset[g], lane r: two scales of 16 bits of row r; offset's meet the pair g of x's
 * sums. */
struct k_panel {
    __m256i w[64], scale[16], offset[8];
    __m256 d, dmin;
};

struct k_type {
    void (*open)(const struct panel *p, size_t at, struct k_panel *k);
    size_t block_bytes;
    int add_up;    /* so many vectors' products fit into 16 bits */
    int per_scale; /* vectors of one scale */
    bool has_mins; /* else every quant is 32 too large, and offset is the scales */
};

/* The eight scales of each row, each twice in a lane. */
FORCE_INLINE void spread_scales(const __m128i scales[ROWS], __m256i out[8])
{
    __m256i a[ROWS];
    for (int r = 0; r < ROWS; r++) {
        __m128i both = _mm_unpacklo_epi8(scales[r], scales[r]);
        a[r] = _mm256_set_m128i(_mm_unpackhi_epi8(both, _mm_setzero_si128()),
                                _mm_unpacklo_epi8(both, _mm_setzero_si128()));
    }
    transpose8(a, out);
}

FORCE_INLINE void open_head(const struct panel *p, size_t at, struct k_panel *k)
{
    __m128i scales[ROWS], mins[ROWS];
    for (int r = 0; r < ROWS; r++) {
        uint8_t scale[8], min[8];
        k_scales_unpack(p->row[r] + at + 2 * sizeof(uint16_t), scale, min);
        scales[r] = _mm_loadl_epi64((const void *)scale);
        mins[r] = _mm_loadl_epi64((const void *)min);
    }
    spread_scales(scales, k->scale);
    spread_scales(mins, k->offset);
    k->d = halves8(p, at);
    k->dmin = halves8(p, at + sizeof(uint16_t));
}

FORCE_INLINE void open_q4_k(const struct panel *p, size_t at, struct k_panel *k)
{
    open_head(p, at, k);
    for (int g = 0; g < 8; g += 2) {
        __m256i v[8];
        dwords8(p, at + offsetof(struct q4_k, qs) + 16 * (size_t)g, v);
        for (int t = 0; t < 8; t++) {
            k->w[8 * g + t] = low_nibbles(v[t]);
            k->w[8 * g + 8 + t] = high_nibbles(v[t]);
        }
    }
}

/* Bits from..from+n of every byte, moved to bits 4..4+n. */
FORCE_INLINE __m256i bits_to_4(__m256i v, int from, char mask)
{
    __m256i moved = from <= 4 ? _mm256_slli_epi16(v, 4 - from) : _mm256_srli_epi16(v, from - 4);
    return _mm256_and_si256(moved, _mm256_set1_epi8(mask));
}

FORCE_INLINE void open_q5_k(const struct panel *p, size_t at, struct k_panel *k)
{
    __m256i high[8];
    open_head(p, at, k);
    dwords8(p, at + offsetof(struct q5_k, qh), high);
    for (int g = 0; g < 8; g += 2) {
        __m256i v[8];
        dwords8(p, at + offsetof(struct q5_k, qs) + 16 * (size_t)g, v);
        for (int t = 0; t < 8; t++) {
            k->w[8 * g + t] = _mm256_or_si256(low_nibbles(v[t]), bits_to_4(high[t], g, 0x10));
            k->w[8 * g + 8 + t] = _mm256_or_si256(high_nibbles(v[t]), bits_to_4(high[t], g + 1, 0x10));
        }
    }
}

FORCE_INLINE void open_q6_k(const struct panel *p, size_t at, struct k_panel *k)
{
    __m256i pairs[ROWS], low[ROWS], high[ROWS];
    for (int r = 0; r < ROWS; r++) {
        __m128i bytes = _mm_loadu_si128((const void *)(p->row[r] + at + offsetof(struct q6_k, scales)));
        pairs[r] = _mm256_cvtepi8_epi16(bytes);
        low[r] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bytes, bytes));
        high[r] = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(bytes, bytes));
    }
    transpose8(pairs, k->offset);
    transpose8(low, k->scale);
    transpose8(high, k->scale + 8);
    k->d = halves8(p, at + offsetof(struct q6_k, d));
    k->dmin = _mm256_setzero_ps();
    for (int half = 0; half < 2; half++) {
        __m256i a[8], b[8], h[8], *w = k->w + 32 * half;
        dwords8(p, at + 64 * (size_t)half, a);
        dwords8(p, at + 64 * (size_t)half + 32, b);
        dwords8(p, at + offsetof(struct q6_k, qh) + 32 * (size_t)half, h);
        for (int t = 0; t < 8; t++) {
            w[t] = _mm256_or_si256(low_nibbles(a[t]), bits_to_4(h[t], 0, 0x30));
            w[8 + t] = _mm256_or_si256(low_nibbles(b[t]), bits_to_4(h[t], 2, 0x30));
            w[16 + t] = _mm256_or_si256(high_nibbles(a[t]), bits_to_4(h[t], 4, 0x30));
            w[24 + t] = _mm256_or_si256(high_nibbles(b[t]), bits_to_4(h[t], 6, 0x30));
        }
    }
}

FORCE_INLINE __m256 k_add(__m256 acc, const struct k_panel *k, const struct q8k_block *x, const struct k_type *type)
{
    __m256i sum = _mm256_setzero_si256(), offset = _mm256_setzero_si256();
    for (int t = 0; t < 64; t += type->add_up) {
        __m256i part = products16(k->w + t, x->q + 4 * t, type->add_up);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(part, k->scale[t / type->per_scale]));
    }
    for (int g = 0; g < 8; g++)
        offset = _mm256_add_epi32(offset, _mm256_madd_epi16(k->offset[g], four(x->sums + 2 * g)));
    if (!type->has_mins)
        sum = _mm256_sub_epi32(sum, _mm256_slli_epi32(offset, 5));
    __m256 scale = _mm256_set1_ps(x->scale);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(k->d, scale), _mm256_cvtepi32_ps(sum), acc);
    if (type->has_mins)
        acc = _mm256_fnmadd_ps(_mm256_mul_ps(k->dmin, scale), _mm256_cvtepi32_ps(offset), acc);
    return acc;
}

FORCE_INLINE void panel_k(const struct matmul_job *job, const struct panel *p, size_t j, size_t n_x, float *y,
                          const struct k_type *type)
{
    __m256 acc[X_SHARE];
    for (size_t k = 0; k < n_x; k++)
        acc[k] = _mm256_setzero_ps();
    for (size_t b = 0; b < job->cols / 256; b++) {
        struct k_panel block;
        prefetch_next(p, b, type->block_bytes);
        type->open(p, b * type->block_bytes, &block);
        for (size_t k = 0; k < n_x; k++)
            acc[k] = k_add(acc[k], &block, (const struct q8k_block *)x_row(job, j + k) + b, type);
    }
    for (size_t k = 0; k < n_x; k++)
        panel_store(p, y + k * job->y_stride, acc[k]);
}

/* ---- the types ---- */

#define PANELS(type, ...)                                                                 \
    void avx2_panels_##type(const struct matmul_job *job, size_t first, size_t last)      \
    {                                                                                     \
        for (size_t i = first; i < last; i += ROWS) {                                     \
            struct panel p;                                                               \
            panel_open(&p, job, i, last);                                                 \
            for (size_t j = 0; j < job->n_x; j += X_SHARE) {                              \
                size_t n_x = job->n_x - j < X_SHARE ? job->n_x - j : X_SHARE;             \
                __VA_ARGS__;                                                              \
            }                                                                             \
        }                                                                                 \
    }
#define PANELS32(type) \
    PANELS(type, panel32(job, &p, j, n_x, job->y + j * job->y_stride + i, sizeof(struct type), open_##type, \
                         sums_##type))
#define PANELS_K(type, vectors, per_scale, mins)                                                          \
    PANELS(type, const struct k_type t = {open_##type, sizeof(struct type), vectors, per_scale, mins};    \
           panel_k(job, &p, j, n_x, job->y + j * job->y_stride + i, &t))
PANELS32(q4_0)
PANELS32(q8_0)
PANELS_K(q4_k, 8, 8, true)
PANELS_K(q5_k, 4, 8, true)
PANELS_K(q6_k, 2, 4, false)

#endif
