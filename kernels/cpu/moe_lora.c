/* moe_lora: what adapters add to the experts' products, entry by entry: thin dots in a fixed order. */
#include "kernels/cpu/moe.h"

static const struct moe_thin *thin_of(const struct moe_run *run, enum moe_product product, const struct expert_entry *n)
{
    uint32_t of = run->a->lora_of[run->first + n->row];
    if (of == 0)
        return NULL;
    const struct moe_lora *l = &run->a->loras[of - 1];
    const struct moe_thin *t = product == MOE_GATE ? &l->gate : product == MOE_UP ? &l->up : &l->down;
    return t->a ? t : NULL;
}

/* The matrix of the entry's expert. */
static const float *slice_of(const struct moe_run *run, const struct weight *w, const struct expert_entry *n)
{
    uint32_t expert = run->c->scratch.chosen[n->row * run->a->n_used + n->rank];
    expert = w->desc.slices > 1 ? expert : 0;
    return (const float *)(const void *)((const uint8_t *)w->bytes + expert * w->slice_bytes);
}

/* Gate and down share one place: gate's is read before down's is written. */
static float *low_of(const struct moe_run *run, enum moe_product product, size_t entry)
{
    return run->c->scratch.low[product == MOE_UP] + entry * run->c->reserved.lora_rank;
}

static const float *input_of(const struct moe_run *run, enum moe_product product, size_t entry)
{
    const struct moe_args *a = run->a;
    const struct scratch *s = &run->c->scratch;
    if (product == MOE_DOWN)
        return s->gate + entry * a->ffn;
    if (run->by_entry)
        return (const float *)(const void *)s->gathered[FORM_F32] + entry * a->width;
    return span_floats(a->x) + (size_t)(run->first + s->entries[entry].row) * a->width;
}

static void make_low(const struct moe_run *run, enum moe_product product, size_t entry)
{
    const struct expert_entry *n = &run->c->scratch.entries[entry];
    const struct moe_thin *t = thin_of(run, product, n);
    if (!t)
        return;
    const float *matrix = slice_of(run, t->a, n), *x = input_of(run, product, entry);
    float *low = low_of(run, product, entry);
    for (uint32_t i = 0; i < t->a->desc.rows; i++)
        low[i] = run->c->isa->dot_f32(matrix + (size_t)i * t->a->desc.cols, x, t->a->desc.cols);
}

static void low_part(const struct moe_run *run, bool down, int part, int parts)
{
    size_t first, last;
    pool_slice((size_t)run->n * run->a->n_used, 1, part, parts, &first, &last);
    for (; first < last; first++) {
        make_low(run, down ? MOE_DOWN : MOE_GATE, first);
        if (!down)
            make_low(run, MOE_UP, first);
    }
}

static void in_part(void *arg, int part, int parts)
{
    low_part(arg, false, part, parts);
}

static void down_part(void *arg, int part, int parts)
{
    low_part(arg, true, part, parts);
}

void moe_lora_inputs(struct moe_run *run, bool down)
{
    if (run->a->loras)
        pool_run(run->c->pool, down ? down_part : in_part, run);
}

void moe_lora_add(const struct moe_run *run, enum moe_product product, uint32_t start, size_t n, float *y, size_t first,
                  size_t last)
{
    for (size_t j = 0; run->a->loras && j < n; j++) {
        const struct expert_entry *entry = &run->c->scratch.entries[start + j];
        const struct moe_thin *t = thin_of(run, product, entry);
        if (!t)
            continue;
        const float *matrix = slice_of(run, t->b, entry), *low = low_of(run, product, start + j);
        uint32_t rank = t->b->desc.cols, rows = t->b->desc.rows;
        for (size_t i = first; i < last; i++)
            y[j * rows + i] += run->c->isa->dot_f32(matrix + i * rank, low, rank);
    }
}
