/* moe: the expert layer.
 *
 * Rows choose experts; (row, rank) pairs are sorted by expert into entries, so
 * that an expert's matrices are read once for all its rows.  Each entry's
 * output is kept, and every row adds its own in order of rank: the result of a
 * row does not depend on the others.  Experts whose columns are in an order of
 * their own have inputs that are prepared for each entry.                     */
#include <math.h>
#include <string.h>

#include "kernels/cpu/moe.h"

#define WEIGHT_SUM_MIN 6.103515625e-5F /* a sum below the smallest normal half counts as that */

/* ---- which experts ---- */

/* Whether score i comes before score j: the larger, the lower index among equals, what is not a number last. */
static bool before(const float *p, uint32_t i, uint32_t j)
{
    if (isnan(p[i]) || isnan(p[j]))
        return isnan(p[j]) && (!isnan(p[i]) || i < j);
    return p[i] > p[j] || (p[i] == p[j] && i < j);
}

/* The n_used first scores of a row in that order: each score is inserted into the list so far. */
static void choose(const float *p, uint32_t n, uint32_t n_used, uint32_t *chosen)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (count == n_used && !before(p, i, chosen[count - 1]))
            continue;
        uint32_t at = count < n_used ? count++ : count - 1;
        for (; at > 0 && before(p, i, chosen[at - 1]); at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = i;
    }
}

static void softmax(float *p, uint32_t n)
{
    float max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        max = p[i] > max ? p[i] : max;
    for (uint32_t i = 0; i < n; i++) {
        p[i] = expf(p[i] - max);
        sum += p[i];
    }
    for (uint32_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* The router's values -> scores, in place. */
static void make_scores(const struct moe_args *a, float *p, uint32_t n)
{
    const float *bias = a->router_bias ? a->router_bias->bytes : NULL;
    for (uint32_t i = 0; bias && i < n; i++)
        p[i] += bias[i];
    if (a->scores == ROUTER_SOFTMAX)
        softmax(p, n);
    for (uint32_t i = 0; a->scores == ROUTER_SIGMOID && i < n; i++)
        p[i] = cpu_sigmoid(p[i]);
}

static float group_score(const struct moe_args *a, const float *s, uint32_t n)
{
    float best = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (s[i] > best) {
            second = best;
            best = s[i];
        } else if (s[i] > second) {
            second = s[i];
        }
    }
    return a->select_bias && n > 1 ? best + second : best;
}

/* Groups that are not among the best lose their experts. */
static void limit_groups(const struct moe_args *a, float *s, uint32_t n_experts)
{
    float scores[EXPERTS_MAX] = {0};
    uint32_t kept[EXPERTS_MAX], each = n_experts / a->n_groups;
    for (uint32_t g = 0; g < a->n_groups; g++)
        scores[g] = group_score(a, s + g * each, each);
    choose(scores, a->n_groups, a->n_groups_used, kept);
    for (uint32_t g = 0; g < a->n_groups; g++) {
        bool keep = false;
        for (uint32_t k = 0; k < a->n_groups_used; k++)
            keep = keep || kept[k] == g;
        for (uint32_t i = 0; !keep && i < each; i++)
            s[g * each + i] = -INFINITY;
    }
}

/* What the choice goes by: the scores themselves where nothing is added and nothing left out. */
static const float *selection(const struct moe_args *a, const float *p, float *s, uint32_t n)
{
    const float *bias = a->select_bias ? a->select_bias->bytes : NULL;
    if (!bias && a->n_groups < 2)
        return p;
    for (uint32_t i = 0; i < n; i++)
        s[i] = p[i] + (bias ? bias[i] : 0);
    if (a->n_groups > 1)
        limit_groups(a, s, n);
    return s;
}

/* Among the n values p, of the k-th chosen. */
static float near_part(const struct moe_args *a, const float *p, uint32_t n, const uint32_t *chosen, uint32_t k)
{
    float own = p[chosen[k]], sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool before = false;
        for (uint32_t j = 0; j < k; j++)
            before = before || chosen[j] == i;
        if (!before && !((own - p[i]) / fmaxf(fabsf(p[i]), own) > a->near))
            sum += expf(p[i] - own);
    }
    return 1 / sum;
}

static void weigh(const struct moe_args *a, const float *p, uint32_t n, const uint32_t *chosen, float *w)
{
    float sum = 0;
    for (uint32_t k = 0; k < a->n_used; k++)
        w[k] = a->scores == ROUTER_NEAR ? near_part(a, p, n, chosen, k) : p[chosen[k]];
    if (a->scores == ROUTER_SOFTMAX_CHOSEN)
        softmax(w, a->n_used);
    for (uint32_t k = 0; k < a->n_used; k++) {
        w[k] = a->scores == ROUTER_SIGMOID_INPUT ? cpu_sigmoid(w[k]) : w[k];
        sum += w[k];
    }
    sum = sum < WEIGHT_SUM_MIN ? WEIGHT_SUM_MIN : sum;
    for (uint32_t k = 0; k < a->n_used; k++) {
        w[k] = a->normalise ? w[k] / sum : w[k];
        w[k] = a->scale != 0 ? w[k] * a->scale : w[k];
    }
}

static void choose_part(void *arg, int part, int parts)
{
    const struct moe_run *run = arg;
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    uint32_t n_experts = a->router->desc.rows;
    size_t first, last;
    pool_slice(run->n, 1, part, parts, &first, &last);
    for (size_t r = first; r < last; r++) {
        float *p = s->scores + r * n_experts;
        uint32_t *chosen = s->chosen + r * a->n_used;
        make_scores(a, p, n_experts);
        choose(selection(a, p, s->selection + r * n_experts, n_experts), n_experts, a->n_used, chosen);
        weigh(a, p, n_experts, chosen, s->weights + r * a->n_used);
    }
}

/* Count, then place: a stable sort of the pairs by expert. */
static void sort_entries(struct moe_run *run)
{
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    uint32_t n_experts = a->router->desc.rows, n = run->n * a->n_used;
    memset(s->starts, 0, (n_experts + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        s->starts[s->chosen[i] + 1]++;
    run->n_active = 0;
    for (uint32_t x = 0; x < n_experts; x++) {
        if (s->starts[x + 1] > 0)
            s->active[run->n_active++] = x;
        s->starts[x + 1] += s->starts[x];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = s->starts[s->chosen[i]]++;
        s->entries[at] = (struct expert_entry){i / a->n_used, i % a->n_used};
        s->place[i] = at;
    }
    memmove(s->starts + 1, s->starts, n_experts * sizeof(uint32_t));
    s->starts[0] = 0;
}

/* ---- inputs ---- */

static void gather_part(void *arg, int part, int parts)
{
    const struct moe_run *run = arg;
    struct scratch *s = &run->c->scratch;
    size_t first, last;
    pool_slice((size_t)run->n * run->a->n_used, 1, part, parts, &first, &last);
    for (int f = 0; f < FORM_COUNT; f++)
        for (size_t i = first; run->x[f] && i < last; i++)
            memcpy(s->gathered[f] + i * run->x_stride[f], run->x[f] + s->entries[i].row * run->x_stride[f],
                   run->x_stride[f]);
}

/* Every entry's own input: its row times its weight, which the output then has no more. */
static void weigh_inputs(struct moe_run *run)
{
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    uint32_t n = run->n * a->n_used;
    float *to = (float *)(void *)s->gathered[FORM_F32];
    for (uint32_t i = 0; i < n; i++) {
        const float *x = span_floats(a->x) + (size_t)(run->first + s->entries[i].row) * a->width;
        float *weight = &s->weights[s->entries[i].row * a->n_used + s->entries[i].rank];
        for (uint32_t k = 0; k < a->width; k++)
            to[(size_t)i * a->width + k] = x[k] * *weight;
        *weight = 1;
    }
    run->by_entry = true;
}

/* Entries' values for a matrix whose slices have orders of their own. */
struct ordered_job {
    const struct moe_run *run;
    const struct weight *w;
    const float *x;
    bool by_entry; /* x is */
    uint8_t *out;
    size_t stride;
};

static void ordered_part(void *arg, int part, int parts)
{
    const struct ordered_job *j = arg;
    const struct moe_run *run = j->run;
    const struct scratch *s = &run->c->scratch;
    size_t first, last;
    pool_slice((size_t)run->n * run->a->n_used, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const struct expert_entry *x = &s->entries[i];
        uint32_t expert = s->chosen[x->row * run->a->n_used + x->rank];
        cpu_prepare_row(run->c, j->w, expert, j->x + (j->by_entry ? i : x->row) * j->w->desc.cols,
                        j->out + i * j->stride);
    }
}

/* They lie in one of the two places for the form, whichever those of the other matrix, if any, leave. */
static struct moe_input prepare_ordered(struct moe_run *run, const struct weight *w, const float *x, bool by_entry,
                                        const struct moe_input *other)
{
    const struct scratch *s = &run->c->scratch;
    enum form form = w->kernel->form;
    uint8_t *out = other->rows == s->prepared[form] ? s->gathered[form] : s->prepared[form];
    struct ordered_job j = {.run = run, .w = w, .x = x, .by_entry = by_entry, .out = out,
                            .stride = form_row_bytes(form, w->desc.cols)};
    pool_run(run->c->pool, ordered_part, &j);
    return (struct moe_input){out, j.stride, true};
}

/* Where all experts see the same values: prepared once a form and row, then put side by side for each expert. */
static void prepare_shared(struct moe_run *run, const float *x)
{
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    const struct weight *w[] = {a->gate, a->up};
    uint32_t n = run->by_entry ? run->n * a->n_used : run->n;
    for (int i = 0; i < 2; i++) {
        enum form f = w[i]->kernel->form;
        if (!w[i]->order && !run->x[f])
            run->x[f] = cpu_prepare(run->c, f, x, n, a->width, &run->x_stride[f]);
    }
    bool gathered = run->n > 1 && !run->by_entry; /* a single row of x needs it not */
    if (gathered)
        pool_run(run->c->pool, gather_part, run);
    for (int i = 0; i < 2; i++) {
        enum form f = w[i]->kernel->form;
        if (!w[i]->order)
            *(i ? &run->up_in : &run->gate_in) =
                (struct moe_input){gathered ? s->gathered[f] : run->x[f], run->x_stride[f], run->by_entry || gathered};
    }
}

static void prepare_inputs(struct moe_run *run)
{
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    const float *x = span_floats(a->x) + (size_t)run->first * a->width;
    if (a->scores == ROUTER_SIGMOID_INPUT) {
        weigh_inputs(run);
        x = (const float *)(const void *)s->gathered[FORM_F32];
    }
    prepare_shared(run, x);
    if (a->gate->order)
        run->gate_in = prepare_ordered(run, a->gate, x, run->by_entry, &run->up_in);
    if (a->up->order)
        run->up_in = prepare_ordered(run, a->up, x, run->by_entry, &run->gate_in);
}

/* ---- products ---- */

/* Rows [first, last) of expert x's slice of w for the expert's entries, into y[entry][rows of w]. */
static void expert_rows(const struct weight *w, uint32_t expert, const uint8_t *x, size_t x_stride, float *y,
                        size_t first, size_t last, size_t n_x)
{
    const uint8_t *slice = (const uint8_t *)w->bytes + expert * w->slice_bytes;
    for (size_t j = 0; j < n_x; j += X_TILE) {
        struct matmul_job job = {
            .type = w->desc.type, .w = slice + first * w->row_bytes, .w_stride = w->row_bytes,
            .x = x + j * x_stride, .x_stride = x_stride, .y = y + j * w->desc.rows + first,
            .y_stride = w->desc.rows, .cols = w->desc.cols, .n_x = n_x - j < X_TILE ? n_x - j : X_TILE};
        w->kernel->rows(&job, 0, last - first);
    }
}

/* The prepared input of an expert's entries. */
static const uint8_t *expert_input(const struct moe_input *in, uint32_t start)
{
    return in->rows + (in->by_entry ? start * in->stride : 0);
}

/* Add values [first, last) of the expert's bias to its entries' outputs, `rows` values each. */
static void add_bias(const struct weight *bias, uint32_t expert, float *y, size_t rows, size_t first, size_t last,
                     size_t n_x)
{
    const float *b = bias ? (const float *)bias->bytes + expert * rows : NULL;
    for (size_t j = 0; b && j < n_x; j++)
        for (size_t i = first; i < last; i++)
            y[j * rows + i] += b[i];
}

/* A range of the rows of all active experts, `rows` each, cut at the experts' borders. */
struct expert_range {
    uint32_t expert, start, count;
    size_t first, last;
};

static bool next_range(const struct moe_run *run, size_t rows, size_t *at, size_t end, struct expert_range *out)
{
    const struct scratch *s = &run->c->scratch;
    if (*at >= end)
        return false;
    size_t i = *at / rows, stop = (i + 1) * rows < end ? (i + 1) * rows : end;
    out->expert = s->active[i];
    out->start = s->starts[out->expert];
    out->count = s->starts[out->expert + 1] - out->start;
    out->first = *at - i * rows;
    out->last = stop - i * rows;
    *at = stop;
    return true;
}

static void gate_up_part(void *arg, int part, int parts)
{
    struct moe_run *run = arg;
    const struct moe_args *a = run->a;
    struct scratch *s = &run->c->scratch;
    size_t at, end;
    (void)part;
    (void)parts;
    while (tiles_take(&run->tiles, &at, &end)) {
        struct expert_range x;
        while (next_range(run, a->ffn, &at, end, &x)) {
            float *gate = s->gate + (size_t)x.start * a->ffn, *up = s->up + (size_t)x.start * a->ffn;
            expert_rows(a->gate, x.expert, expert_input(&run->gate_in, x.start), run->gate_in.stride, gate, x.first,
                        x.last, x.count);
            expert_rows(a->up, x.expert, expert_input(&run->up_in, x.start), run->up_in.stride, up, x.first, x.last,
                        x.count);
            add_bias(a->gate_bias, x.expert, gate, a->ffn, x.first, x.last, x.count);
            add_bias(a->up_bias, x.expert, up, a->ffn, x.first, x.last, x.count);
            moe_lora_add(run, MOE_GATE, x.start, x.count, gate, x.first, x.last);
            moe_lora_add(run, MOE_UP, x.start, x.count, up, x.first, x.last);
            for (uint32_t j = 0; j < x.count; j++) {
                size_t o = (size_t)j * a->ffn + x.first;
                cpu_activate(run->c->isa, a->act, gate + o, up + o, gate + o, x.last - x.first);
            }
        }
    }
}

static void down_part(void *arg, int part, int parts)
{
    struct moe_run *run = arg;
    const struct moe_args *a = run->a;
    size_t at, end;
    (void)part;
    (void)parts;
    while (tiles_take(&run->tiles, &at, &end)) {
        struct expert_range x;
        while (next_range(run, a->width, &at, end, &x)) {
            float *down = run->c->scratch.down + (size_t)x.start * a->width;
            expert_rows(a->down, x.expert, run->hidden + x.start * run->hidden_stride, run->hidden_stride, down,
                        x.first, x.last, x.count);
            add_bias(a->down_bias, x.expert, down, a->width, x.first, x.last, x.count);
            moe_lora_add(run, MOE_DOWN, x.start, x.count, down, x.first, x.last);
        }
    }
}

static void combine_part(void *arg, int part, int parts)
{
    const struct moe_run *run = arg;
    const struct moe_args *a = run->a;
    const struct scratch *s = &run->c->scratch;
    size_t first, last;
    pool_slice(run->n, 1, part, parts, &first, &last);
    for (size_t r = first; r < last; r++)
        for (uint32_t k = 0; k < a->n_used; k++)
            run->c->isa->axpy_f32(span_floats(a->out) + (run->first + r) * a->width, s->weights[r * a->n_used + k],
                                  s->down + (size_t)s->place[r * a->n_used + k] * a->width, a->width);
}

static void prepare_hidden(struct moe_run *run)
{
    const struct weight *down = run->a->down;
    const struct scratch *s = &run->c->scratch;
    enum form form = down->kernel->form;
    if (down->order) {
        struct moe_input in = prepare_ordered(run, down, s->gate, true, &(struct moe_input){0});
        run->hidden = in.rows;
        run->hidden_stride = in.stride;
        return;
    }
    run->hidden = cpu_prepare(run->c, form, s->gate, run->n * run->a->n_used, run->a->ffn, &run->hidden_stride);
}

static void moe_round(struct moe_run *run)
{
    const struct moe_args *a = run->a;
    struct cpu *c = run->c;
    int threads = pool_threads(c->pool);
    cpu_product(c, a->router, span_floats(a->x) + (size_t)run->first * a->width, run->n, c->scratch.scores);
    if (run->n < 8)
        choose_part(run, 0, 1);
    else
        pool_run(c->pool, choose_part, run);
    sort_entries(run);
    prepare_inputs(run);
    moe_lora_inputs(run, false);
    tiles_open(&run->tiles, (size_t)run->n_active * a->ffn, run->n, threads);
    pool_run(c->pool, gate_up_part, run);
    moe_lora_inputs(run, true);
    prepare_hidden(run);
    tiles_open(&run->tiles, (size_t)run->n_active * a->width, run->n, threads);
    pool_run(c->pool, down_part, run);
    if (run->n < 8)
        combine_part(run, 0, 1);
    else
        pool_run(c->pool, combine_part, run);
}

void cpu_moe(struct device *d, const struct moe_args *a)
{
    for (uint32_t first = 0; first < a->n_rows; first += MOE_ROWS_MAX) {
        struct moe_run run = {.c = cpu_of(d), .a = a, .first = first};
        run.n = a->n_rows - first < MOE_ROWS_MAX ? a->n_rows - first : MOE_ROWS_MAX;
        moe_round(&run);
    }
}
