/* pages: positions of a KV head side by side: where they lie, how they are stored, and how queries meet them, with
 * what an instruction set has for it.
 *
 * Q8 has a scale, a half float, for every 32 values of a position.  In rows
 * scale and values are a block, as in Q8_0; turned, all values come first.   */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/qtype.h"

enum { Q8_MAX = 127 };

static uint8_t *page_of(const struct kv_layer *kv, struct span s, uint32_t dim, uint32_t page, uint32_t h)
{
    size_t at = (size_t)page * kv->n_kv_heads + h;
    return s.mem->bytes + s.offset + at * KV_PAGE_TOKENS * kv_row_bytes(kv->type, dim);
}

uint8_t *cpu_kv_keys(const struct kv_layer *kv, uint32_t page, uint32_t h)
{
    return page_of(kv, kv->keys, kv->key_dim, page, h);
}

uint8_t *cpu_kv_values(const struct kv_layer *kv, uint32_t page, uint32_t h)
{
    return kv->shared ? cpu_kv_keys(kv, page, h) : page_of(kv, kv->values, kv->value_dim, page, h);
}

/* ---- storing ---- */

/* n <= KV_Q8_BLOCK values; one that is not finite, or too large for the scale, makes all of them NaN. */
static uint16_t quantise(const float *x, size_t n, int8_t *q)
{
    float max = 0;
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        finite = finite && isfinite(size);
        max = size > max ? size : max;
    }
    uint16_t scale = f32_to_f16(finite ? max / Q8_MAX : NAN);
    float factor = f16_to_f32(scale);
    factor = factor > 0 && isfinite(factor) ? 1 / factor : 0;
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)(finite ? fminf(fmaxf(rintf(x[i] * factor), -Q8_MAX), Q8_MAX) : 1);
    return scale;
}

static size_t block_values(size_t i, size_t n)
{
    return n - i < KV_Q8_BLOCK ? n - i : KV_Q8_BLOCK;
}

static void store_row(const struct isa *isa, enum kv_type t, uint8_t *to, const float *x, size_t n)
{
    if (t == KV_F16) {
        isa->store_f16((uint16_t *)(void *)to, x, n);
    } else if (t == KV_F32) {
        memcpy(to, x, n * sizeof(float));
    } else {
        for (size_t i = 0; i < n; i += KV_Q8_BLOCK, to += sizeof(uint16_t) + KV_Q8_BLOCK) {
            uint16_t scale = quantise(x + i, block_values(i, n), (int8_t *)to + sizeof(scale));
            memcpy(to, &scale, sizeof(scale));
        }
    }
}

static void store_turned_q8(uint8_t *page, size_t p, const float *x, size_t n)
{
    uint8_t *scales = page + n * KV_PAGE_TOKENS;
    int8_t q[KV_Q8_BLOCK];
    for (size_t i = 0; i < n; i += KV_Q8_BLOCK) {
        uint16_t scale = quantise(x + i, block_values(i, n), q);
        memcpy(scales + (i / KV_Q8_BLOCK * KV_PAGE_TOKENS + p) * sizeof(scale), &scale, sizeof(scale));
        for (size_t k = 0; k < block_values(i, n); k++)
            page[(i + k) * KV_PAGE_TOKENS + p] = (uint8_t)q[k];
    }
}

/* Position p of a page whose keys lie turned. */
static void store_turned(const struct isa *isa, enum kv_type t, uint8_t *page, size_t p, const float *x, size_t n)
{
    uint16_t halves[HEAD_DIM_MAX];
    if (t == KV_Q8) {
        store_turned_q8(page, p, x, n);
    } else if (t == KV_F16) {
        isa->store_f16(halves, x, n);
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)(void *)page)[i * KV_PAGE_TOKENS + p] = halves[i];
    } else {
        for (size_t i = 0; i < n; i++)
            ((float *)(void *)page)[i * KV_PAGE_TOKENS + p] = x[i];
    }
}

void cpu_kv_store(const struct isa *isa, const struct kv_layer *kv, const struct attention_row *row, uint32_t h,
                  const float *key, const float *value)
{
    uint32_t page = row->pages[row->position / KV_PAGE_TOKENS], p = row->position % KV_PAGE_TOKENS;
    uint8_t *keys = cpu_kv_keys(kv, page, h);
    if (kv->shared) {
        store_row(isa, kv->type, keys + p * kv_row_bytes(kv->type, kv->key_dim), key, kv->key_dim);
        return;
    }
    store_turned(isa, kv->type, keys, p, key, kv->key_dim);
    store_row(isa, kv->type, cpu_kv_values(kv, page, h) + p * kv_row_bytes(kv->type, kv->value_dim), value,
              kv->value_dim);
}

/* ---- reading ---- */

bool cpu_page_may_widen(const struct isa *isa, enum kv_type t)
{
    return isa->page_widen && t != KV_F32;
}

void cpu_page_widen(const struct isa *isa, struct page_job *job, float *room)
{
    isa->page_widen(job, room);
    job->type = KV_F32;
    job->kv = room;
}

/* Q8 values as floats: dimension `at` of all positions where they are turned, else position `at`. */
static const float *floats_of(const struct page_job *job, size_t at, float *room)
{
    const uint8_t *bytes = job->kv;
    uint16_t scale;
    if (job->turned) {
        const uint8_t *scales = bytes + job->dim * KV_PAGE_TOKENS;
        scales += at / KV_Q8_BLOCK * KV_PAGE_TOKENS * sizeof(scale);
        for (size_t p = job->from; p < job->to; p++) {
            memcpy(&scale, scales + p * sizeof(scale), sizeof(scale));
            room[p] = f16_to_f32(scale) * (float)(int8_t)bytes[at * KV_PAGE_TOKENS + p];
        }
        return room;
    }
    bytes += at * kv_row_bytes(KV_Q8, job->dim);
    for (size_t i = 0; i < job->dim; i++) {
        const uint8_t *from = bytes + i / KV_Q8_BLOCK * (sizeof(scale) + KV_Q8_BLOCK);
        memcpy(&scale, from, sizeof(scale));
        room[i] = f16_to_f32(scale) * (float)(int8_t)from[sizeof(scale) + i % KV_Q8_BLOCK];
    }
    return room;
}

/* y += factor * what line `at` has from value `first` on, n values. */
static void add_line(const struct isa *isa, const struct page_job *job, size_t at, size_t first, size_t n,
                     const float *q8, float factor, float *y)
{
    size_t line = job->turned ? KV_PAGE_TOKENS : job->dim;
    if (job->type == KV_F16)
        isa->axpy_f16(y, factor, (const uint16_t *)job->kv + at * line + first, n);
    else
        isa->axpy_f32(y, factor, (job->type == KV_F32 ? (const float *)job->kv + at * line : q8) + first, n);
}

static void scores_turned(const struct isa *isa, const struct page_job *job)
{
    size_t n = job->to - job->from;
    float room[KV_PAGE_TOKENS];
    for (size_t i = 0; i < job->n_q; i++)
        memset(job->scores + i * KV_PAGE_TOKENS + job->from, 0, n * sizeof(float));
    for (size_t k = 0; k < job->dim; k++) {
        const float *q8 = job->type == KV_Q8 ? floats_of(job, k, room) : NULL;
        for (size_t i = 0; i < job->n_q; i++)
            add_line(isa, job, k, job->from, n, q8, job->q[i * job->dim + k],
                     job->scores + i * KV_PAGE_TOKENS + job->from);
    }
}

void cpu_page_scores(const struct isa *isa, const struct page_job *job)
{
    float room[HEAD_DIM_MAX];
    if (isa->page_scores && (job->turned || isa->page_scores_rows)) {
        (job->turned ? isa->page_scores : isa->page_scores_rows)(job);
        return;
    }
    if (job->turned) {
        scores_turned(isa, job);
        return;
    }
    for (size_t p = job->from; p < job->to; p++) {
        const float *key = job->type == KV_Q8 ? floats_of(job, p, room) : (const float *)job->kv + p * job->dim;
        for (size_t i = 0; i < job->n_q; i++)
            job->scores[i * KV_PAGE_TOKENS + p] =
                job->type == KV_F16
                    ? isa->dot_f16(job->q + i * job->dim, (const uint16_t *)job->kv + p * job->dim, job->dim)
                    : isa->dot_f32(job->q + i * job->dim, key, job->dim);
    }
}

void cpu_page_mix(const struct isa *isa, const struct page_job *job)
{
    float room[HEAD_DIM_MAX];
    if (isa->page_mix) {
        isa->page_mix(job);
        return;
    }
    for (size_t p = job->from; p < job->to; p++) {
        const float *q8 = job->type == KV_Q8 ? floats_of(job, p, room) : NULL;
        for (size_t i = 0; i < job->n_q; i++)
            add_line(isa, job, p, 0, job->dim, q8, job->scores[i * KV_PAGE_TOKENS + p],
                     job->out + i * job->out_stride);
    }
}
