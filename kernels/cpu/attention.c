/* attention: softmax(q K) V over paged KV, one (row, KV head) at a time, page after page.
 *
 * A page's scores are taken, the running maximum is raised, what was summed is
 * scaled down to it, the page's values are added: memory is read once and no
 * score outlives its page.  The order of pages is fixed, so the result of a row
 * depends on nothing else.                                                   */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { GROUP_MAX = 8 }; /* query heads that share one reading of a KV head */

struct attention_run {
    struct cpu *c;
    const struct attention_args *a;
};

static size_t value_bytes(enum kv_type t)
{
    return t == KV_F16 ? sizeof(uint16_t) : sizeof(float);
}

/* Where position `p` of head `h` lies, dim values each. */
static uint8_t *kv_at(const struct kv_layer *kv, struct span s, uint32_t dim, const uint32_t *pages, uint32_t p,
                      uint32_t h)
{
    size_t row = (size_t)pages[p / KV_PAGE_TOKENS] * kv->n_kv_heads * KV_PAGE_TOKENS +
                 (size_t)h * KV_PAGE_TOKENS + p % KV_PAGE_TOKENS;
    return s.mem->bytes + s.offset + row * dim * value_bytes(kv->type);
}

static void store(const struct isa *isa, enum kv_type t, void *to, const float *from, size_t n)
{
    if (t == KV_F16)
        isa->store_f16(to, from, n);
    else
        memcpy(to, from, n * sizeof(float));
}

static void store_part(void *arg, int part, int parts)
{
    const struct attention_run *run = arg;
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    size_t first, last, heads = kv->n_kv_heads;
    pool_slice(a->n_rows * heads, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const struct attention_row *row = &a->rows[i / heads];
        uint32_t h = (uint32_t)(i % heads);
        store(run->c->isa, kv->type, kv_at(kv, kv->keys, kv->key_dim, row->pages, row->position, h),
              span_floats(a->k) + i * kv->key_dim, kv->key_dim);
        store(run->c->isa, kv->type, kv_at(kv, kv->values, kv->value_dim, row->pages, row->position, h),
              span_floats(a->v) + i * kv->value_dim, kv->value_dim);
    }
}

struct head_sum {
    float max, sum;
    float out[HEAD_DIM_MAX];
};

/* Add one page of n positions to one query head's sums. */
static void add_page(const struct attention_run *run, struct head_sum *s, const float *q, const uint8_t *keys,
                     const uint8_t *values, uint32_t n)
{
    const struct isa *isa = run->c->isa;
    const struct kv_layer *kv = &run->a->kv;
    float scores[KV_PAGE_TOKENS], max = s->max;
    size_t key_bytes = kv->key_dim * value_bytes(kv->type), row_bytes = kv->value_dim * value_bytes(kv->type);
    for (uint32_t p = 0; p < n; p++) {
        const void *k = keys + p * key_bytes;
        float dot = kv->type == KV_F16 ? isa->dot_f16(q, k, kv->key_dim) : isa->dot_f32(q, k, kv->key_dim);
        scores[p] = dot * run->a->scale;
        max = scores[p] > max ? scores[p] : max;
    }
    if (max > s->max) {
        float shrink = expf(s->max - max);
        s->sum *= shrink;
        for (uint32_t i = 0; i < kv->value_dim; i++)
            s->out[i] *= shrink;
        s->max = max;
    }
    s->sum += isa->softmax_exp(scores, s->max, n);
    for (uint32_t p = 0; p < n; p++) {
        const void *v = values + p * row_bytes;
        if (kv->type == KV_F16)
            isa->axpy_f16(s->out, scores[p], v, kv->value_dim);
        else
            isa->axpy_f32(s->out, scores[p], v, kv->value_dim);
    }
}

/* Query heads [first, first + n) of a row, which read KV head h. */
static void attend(const struct attention_run *run, uint32_t r, uint32_t h, uint32_t first, uint32_t n)
{
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    const struct attention_row *row = &a->rows[r];
    struct head_sum sums[GROUP_MAX];
    for (uint32_t i = 0; i < n; i++) {
        sums[i].max = -INFINITY;
        sums[i].sum = 0;
        memset(sums[i].out, 0, kv->value_dim * sizeof(float));
    }
    for (uint32_t p = 0; p <= row->position; p += KV_PAGE_TOKENS) {
        uint32_t count = row->position + 1 - p < KV_PAGE_TOKENS ? row->position + 1 - p : KV_PAGE_TOKENS;
        const uint8_t *keys = kv_at(kv, kv->keys, kv->key_dim, row->pages, p, h);
        const uint8_t *values = kv_at(kv, kv->values, kv->value_dim, row->pages, p, h);
        for (uint32_t i = 0; i < n; i++)
            add_page(run, &sums[i], span_floats(a->q) + ((size_t)r * a->n_heads + first + i) * kv->key_dim, keys,
                     values, count);
    }
    for (uint32_t i = 0; i < n; i++) {
        float *out = span_floats(a->out) + ((size_t)r * a->n_heads + first + i) * kv->value_dim;
        float scale = 1 / sums[i].sum;
        for (uint32_t j = 0; j < kv->value_dim; j++)
            out[j] = sums[i].out[j] * scale;
    }
}

static void attend_part(void *arg, int part, int parts)
{
    const struct attention_run *run = arg;
    const struct attention_args *a = run->a;
    uint32_t group = a->n_heads / a->kv.n_kv_heads;
    size_t first, last;
    pool_slice((size_t)a->n_rows * a->kv.n_kv_heads, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        uint32_t r = (uint32_t)(i / a->kv.n_kv_heads), h = (uint32_t)(i % a->kv.n_kv_heads);
        for (uint32_t g = 0; g < group; g += GROUP_MAX)
            attend(run, r, h, h * group + g, group - g < GROUP_MAX ? group - g : GROUP_MAX);
    }
}

void cpu_attention(struct device *d, const struct attention_args *a)
{
    struct attention_run run = {cpu_of(d), a};
    if (a->n_rows < 8)
        store_part(&run, 0, 1);
    else
        pool_run(run.c->pool, store_part, &run);
    pool_run(run.c->pool, attend_part, &run);
}
