/* attention: softmax(q K) V over paged KV, one (row, KV head) at a time, page after page; chosen positions are
 * gathered into pages first.
 *
 * A page's scores are taken, the running maximum is raised, what was summed is
 * scaled down to it, the page's values are added: memory is read once and no
 * score outlives its page.  The order of pages is fixed, so the result of a row
 * depends on nothing else.                                                   */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    TOPS = 8, /* running maxima side by side */
};

struct attention_run {
    struct cpu *c;
    const struct attention_args *a;
    struct tiles tiles;
};

size_t cpu_kv_value_bytes(enum kv_type t)
{
    return t == KV_F16 ? sizeof(uint16_t) : sizeof(float);
}

uint8_t *cpu_kv_at(const struct kv_layer *kv, struct span s, uint32_t dim, const uint32_t *pages, uint32_t p,
                   uint32_t h)
{
    size_t row = (size_t)pages[p / KV_PAGE_TOKENS] * kv->n_kv_heads * KV_PAGE_TOKENS +
                 (size_t)h * KV_PAGE_TOKENS + p % KV_PAGE_TOKENS;
    return s.mem->bytes + s.offset + row * dim * cpu_kv_value_bytes(kv->type);
}

/* Values that lie in the keys are summed up whole: what is behind them is left out at the end. */
static uint32_t mixed_dim(const struct kv_layer *kv)
{
    return kv->shared ? kv->key_dim : kv->value_dim;
}

void cpu_kv_store(const struct isa *isa, enum kv_type t, void *to, const float *from, size_t n)
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
        cpu_kv_store(run->c->isa, kv->type, cpu_kv_at(kv, kv->keys, kv->key_dim, row->pages, row->position, h),
              span_floats(a->k) + i * kv->key_dim, kv->key_dim);
        if (!kv->shared)
            cpu_kv_store(run->c->isa, kv->type, cpu_kv_at(kv, kv->values, kv->value_dim, row->pages, row->position, h),
                  span_floats(a->v) + i * kv->value_dim, kv->value_dim);
    }
}

/* What query heads that read one KV head have summed up. */
struct head_sums {
    float max[GROUP_MAX], sum[GROUP_MAX];
    float out[GROUP_MAX][HEAD_DIM_MAX];
    float scores[GROUP_MAX][KV_PAGE_TOKENS];
};

void cpu_page_scores(const struct isa *isa, const struct page_job *job)
{
    if (isa->page_scores) {
        isa->page_scores(job);
        return;
    }
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
    cpu_page_scores(isa, &job);
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

/* Query heads [first, first + n) of a row, which read one KV head. */
struct piece {
    const struct attention_row *row;
    const float *q;
    uint32_t head, n;
};

static void add_pages(const struct attention_run *run, struct head_sums *s, const struct piece *x)
{
    const struct kv_layer *kv = &run->a->kv;
    uint32_t end = x->row->position + 1;
    for (uint32_t p = first_position(run->a, x->row->position), count; p < end; p += count) {
        uint32_t in_page = KV_PAGE_TOKENS - p % KV_PAGE_TOKENS;
        const uint8_t *keys = cpu_kv_at(kv, kv->keys, kv->key_dim, x->row->pages, p, x->head);
        count = end - p < in_page ? end - p : in_page;
        add_page(run, s, x->q, x->n, keys,
                 kv->shared ? keys : cpu_kv_at(kv, kv->values, kv->value_dim, x->row->pages, p, x->head), count);
    }
}

/* The positions of a list, side by side in `room`, which holds TILE_FLOATS. */
static void add_chosen(const struct attention_run *run, struct head_sums *s, const struct piece *x,
                       const uint32_t *list, uint8_t *room)
{
    const struct kv_layer *kv = &run->a->kv;
    size_t key = kv->key_dim * cpu_kv_value_bytes(kv->type), n = run->a->n_chosen, count;
    size_t value = kv->shared ? 0 : kv->value_dim * cpu_kv_value_bytes(kv->type);
    size_t most = TILE_FLOATS * sizeof(float) / (key + value);
    uint8_t *values = room + (most < KV_PAGE_TOKENS ? most : KV_PAGE_TOKENS) * key;
    for (size_t i = 0; i < n; i += count) {
        count = most < KV_PAGE_TOKENS ? most : KV_PAGE_TOKENS;
        count = n - i < count ? n - i : count;
        for (size_t p = 0; p < count; p++) {
            memcpy(room + p * key, cpu_kv_at(kv, kv->keys, kv->key_dim, x->row->pages, list[i + p], x->head), key);
            if (value > 0)
                memcpy(values + p * value,
                       cpu_kv_at(kv, kv->values, kv->value_dim, x->row->pages, list[i + p], x->head), value);
        }
        add_page(run, s, x->q, x->n, room, value > 0 ? values : room, count);
    }
}

/* Up to GROUP_MAX query heads from `first` on of row r, which read KV head h, with the thread's room. */
static void attend(const struct attention_run *run, uint32_t r, uint32_t h, uint32_t first, uint8_t *room)
{
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    uint32_t last = (h + 1) * (a->n_heads / kv->n_kv_heads), n = last - first < GROUP_MAX ? last - first : GROUP_MAX;
    struct piece x = {&a->rows[r], span_floats(a->q) + ((size_t)r * a->n_heads + first) * kv->key_dim, h, n};
    struct head_sums s;
    open_sums(&s, a, first, n);
    if (a->chosen.mem && x.row->position >= a->n_chosen)
        add_chosen(run, &s, &x, (const uint32_t *)(void *)span_floats(a->chosen) + (size_t)r * a->n_chosen, room);
    else
        add_pages(run, &s, &x);
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
    uint8_t *room = a->chosen.mem ? (uint8_t *)(run->c->scratch.tiles + (size_t)part * TILE_FLOATS) : NULL;
    (void)parts;
    while (tiles_take(&run->tiles, &first, &last)) {
        for (size_t i = first; i < last; i++) {
            uint32_t r = (uint32_t)(i / a->kv.n_kv_heads), h = (uint32_t)(i % a->kv.n_kv_heads);
            for (uint32_t g = 0; g < group; g += GROUP_MAX)
                attend(run, r, h, h * group + g, room);
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
