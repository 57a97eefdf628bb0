/* attention: softmax(q K) V over paged KV, one (row, KV head) at a time, page after page.
 *
 * A page's scores are taken, the running maximum is raised, what was summed is
 * scaled down to it, the page's values are added: memory is read once and no
 * score outlives its page.  The order of pages is fixed, so the result of a row
 * depends on nothing else.                                                   */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    GROUP_MAX = 8, /* query heads that share one reading of a KV head */
    TOPS = 8,      /* running maxima side by side */
};

struct attention_run {
    struct cpu *c;
    const struct attention_args *a;
    struct tiles tiles;
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

/* Values that lie in the keys are summed up whole: what is behind them is left out at the end. */
static uint32_t mixed_dim(const struct kv_layer *kv)
{
    return kv->shared ? kv->key_dim : kv->value_dim;
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
        if (!kv->shared)
            store(run->c->isa, kv->type, kv_at(kv, kv->values, kv->value_dim, row->pages, row->position, h),
                  span_floats(a->v) + i * kv->value_dim, kv->value_dim);
    }
}

/* What query heads that read one KV head have summed up. */
struct head_sums {
    float max[GROUP_MAX], sum[GROUP_MAX];
    float out[GROUP_MAX][HEAD_DIM_MAX];
    float scores[GROUP_MAX][KV_PAGE_TOKENS];
};

static void scores_by_dots(const struct isa *isa, const struct page_job *job)
{
    for (size_t i = 0; i < job->n_q; i++) {
        const float *q = job->q + i * job->dim;
        for (size_t p = 0; p < job->n; p++)
            job->scores[i * KV_PAGE_TOKENS + p] =
                job->type == KV_F16 ? isa->dot_f16(q, (const uint16_t *)job->kv + p * job->dim, job->dim)
                                    : isa->dot_f32(q, (const float *)job->kv + p * job->dim, job->dim);
    }
}

static void mix_by_axpys(const struct isa *isa, const struct page_job *job)
{
    for (size_t i = 0; i < job->n_q; i++) {
        float *out = job->out + i * job->out_stride;
        for (size_t p = 0; p < job->n; p++) {
            float score = job->scores[i * KV_PAGE_TOKENS + p];
            if (job->type == KV_F16)
                isa->axpy_f16(out, score, (const uint16_t *)job->kv + p * job->dim, job->dim);
            else
                isa->axpy_f32(out, score, (const float *)job->kv + p * job->dim, job->dim);
        }
    }
}

/* Scores of a page -> their exponentials; what was summed is scaled down to the new maximum. */
static void raise_head(const struct attention_run *run, struct head_sums *s, size_t i, size_t n)
{
    float *scores = s->scores[i], max = s->max[i], cap = run->a->cap, tops[TOPS];
    for (size_t p = 0; p < KV_PAGE_TOKENS; p++)
        scores[p] = p < n ? scores[p] * run->a->scale : -INFINITY;
    for (size_t p = 0; cap != 0 && p < n; p++)
        scores[p] = cap * tanhf(scores[p] / cap);
    for (size_t k = 0; k < TOPS; k++)
        tops[k] = max;
    for (size_t p = 0; p < KV_PAGE_TOKENS; p += TOPS)
        for (size_t k = 0; k < TOPS; k++)
            tops[k] = scores[p + k] > tops[k] ? scores[p + k] : tops[k];
    for (size_t k = 0; k < TOPS; k++)
        max = tops[k] > max ? tops[k] : max;
    if (max > s->max[i]) {
        float shrink = expf(s->max[i] - max);
        s->sum[i] *= shrink;
        for (uint32_t k = 0; k < mixed_dim(&run->a->kv); k++)
            s->out[i][k] *= shrink;
        s->max[i] = max;
    }
    s->sum[i] += run->c->isa->softmax_exp(scores, s->max[i], n);
}

/* Add one page of n positions to the sums of n_q query heads. */
static void add_page(const struct attention_run *run, struct head_sums *s, const float *q, size_t n_q,
                     const uint8_t *keys, const uint8_t *values, size_t n)
{
    const struct isa *isa = run->c->isa;
    const struct kv_layer *kv = &run->a->kv;
    struct page_job job = {.type = kv->type, .kv = keys, .dim = kv->key_dim, .n = n, .n_q = n_q, .q = q,
                           .scores = s->scores[0], .out = s->out[0], .out_stride = HEAD_DIM_MAX};
    if (isa->page_scores)
        isa->page_scores(&job);
    else
        scores_by_dots(isa, &job);
    for (size_t i = 0; i < n_q; i++)
        raise_head(run, s, i, n);
    job.kv = values;
    job.dim = mixed_dim(kv);
    if (isa->page_mix)
        isa->page_mix(&job);
    else
        mix_by_axpys(isa, &job);
}

static void open_sums(struct head_sums *s, const struct attention_args *a, uint32_t first, uint32_t n)
{
    const float *sinks = a->sinks ? (const float *)a->sinks->bytes + first : NULL;
    for (uint32_t i = 0; i < n; i++) {
        s->max[i] = sinks ? sinks[i] : -INFINITY;
        s->sum[i] = sinks ? 1 : 0;
        memset(s->out[i], 0, mixed_dim(&a->kv) * sizeof(float));
    }
}

/* The first position that a row at `position` attends to. */
static uint32_t first_position(const struct attention_args *a, uint32_t position)
{
    uint32_t first = a->chunk ? position / a->chunk * a->chunk : 0;
    uint32_t start = a->window && position >= a->window ? position - a->window + 1 : 0;
    return start > first ? start : first;
}

/* Query heads [first, first + n) of a row, which read KV head h. */
static void attend(const struct attention_run *run, uint32_t r, uint32_t h, uint32_t first, uint32_t n)
{
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    const struct attention_row *row = &a->rows[r];
    const float *q = span_floats(a->q) + ((size_t)r * a->n_heads + first) * kv->key_dim;
    struct head_sums s;
    open_sums(&s, a, first, n);
    for (uint32_t p = first_position(a, row->position), count; p <= row->position; p += count) {
        uint32_t in_page = KV_PAGE_TOKENS - p % KV_PAGE_TOKENS;
        const uint8_t *keys = kv_at(kv, kv->keys, kv->key_dim, row->pages, p, h);
        count = row->position + 1 - p < in_page ? row->position + 1 - p : in_page;
        add_page(run, &s, q, n, keys,
                 kv->shared ? keys : kv_at(kv, kv->values, kv->value_dim, row->pages, p, h), count);
    }
    for (uint32_t i = 0; i < n; i++) {
        float *out = span_floats(a->out) + ((size_t)r * a->n_heads + first + i) * kv->value_dim;
        float scale = 1 / s.sum[i];
        for (uint32_t j = 0; j < kv->value_dim; j++)
            out[j] = s.out[i][j] * scale;
    }
}

/* Later rows of a prompt read more than earlier ones: threads take (row, KV head) pairs in turn. */
static void attend_part(void *arg, int part, int parts)
{
    struct attention_run *run = arg;
    const struct attention_args *a = run->a;
    uint32_t group = a->n_heads / a->kv.n_kv_heads;
    size_t first, last;
    (void)part;
    (void)parts;
    while (tiles_take(&run->tiles, &first, &last)) {
        for (size_t i = first; i < last; i++) {
            uint32_t r = (uint32_t)(i / a->kv.n_kv_heads), h = (uint32_t)(i % a->kv.n_kv_heads);
            for (uint32_t g = 0; g < group; g += GROUP_MAX)
                attend(run, r, h, h * group + g, group - g < GROUP_MAX ? group - g : GROUP_MAX);
        }
    }
}

void cpu_attention(struct device *d, const struct attention_args *a)
{
    struct attention_run run = {.c = cpu_of(d), .a = a,
                                .tiles = {.total = (size_t)a->n_rows * a->kv.n_kv_heads, .tile = 1}};
    if (a->n_rows < 8)
        store_part(&run, 0, 1);
    else
        pool_run(run.c->pool, store_part, &run);
    pool_run(run.c->pool, attend_part, &run);
}
