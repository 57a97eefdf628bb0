/* delta: layers that keep a state of fixed size (a gated delta net) in place of keys and values:
 *
 *     a = norm(x);  c, z = Wc a, Wz a;  o = delta(c, two gates of a);  x += Wo (norm(o) * silu(z))
 *
 * Where channels decay each by itself (Kimi's), queries, keys and values of c are products of their own, z and the
 * channels' gates are made by way of few values, and it is sigmoid(z).         */
#include "shard/run/layer.h"

static void project(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    static const enum role alone[] = {ROLE_DELTA_QKV, ROLE_DELTA_GATE, ROLE_DELTA_BETA, ROLE_DELTA_ALPHA};
    uint32_t n = b->n;
    struct weight *const *w = f->weights->layers[layer].at;
    bool both = w[ROLE_DELTA_BOTH] != NULL;
    struct matmul_args in = {
        .n_weights = both ? 3 : 4, .x = f->normed, .n_rows = n,
        .w = {w[ROLE_DELTA_QKV], w[ROLE_DELTA_GATE], both ? w[ROLE_DELTA_BOTH] : w[ROLE_DELTA_BETA],
              w[ROLE_DELTA_ALPHA]},
        .y = {f->channels, f->delta_gates, f->state_gates,
              forward_behind(f->state_gates, (size_t)f->rows_max * f->h->delta.v_heads)}};
    f->device->backend->matmul(f->device, &in);
    for (int i = 0; i < in.n_weights; i++)
        forward_lora(f, layer, both && i == 2 ? ROLE_DELTA_BOTH : alone[i], b->lora, f->normed, in.y[i]);
}

/* Some products of one input, and what adapters add to each. */
static void multiply(struct forward *f, uint32_t layer, const struct forward_batch *b, struct matmul_args *a,
                     const enum role *roles)
{
    for (int i = 0; i < a->n_weights; i++)
        a->w[i] = f->weights->layers[layer].at[roles[i]];
    a->n_rows = b->n;
    f->device->backend->matmul(f->device, a);
    for (int i = 0; i < a->n_weights; i++)
        forward_lora(f, layer, roles[i], b->lora, a->x, a->y[i]);
}

/* Three products side by side in `convolved`, then each row's behind one another in `channels`. */
static void project_by_channel(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    static const enum role inputs[] = {ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_DELTA_BETA};
    static const enum role downs[] = {ROLE_DELTA_ALPHA_DOWN, ROLE_DELTA_GATE_DOWN};
    static const enum role alphas[] = {ROLE_DELTA_ALPHA}, gates[] = {ROLE_DELTA_GATE};
    const struct delta_shape *d = &f->h->delta;
    size_t rows = f->rows_max, keys = (size_t)d->k_heads * d->k_dim;
    struct span low = forward_behind(f->delta_low, rows * d->v_dim), part = f->convolved;
    struct matmul_args in = {.n_weights = 4, .x = f->normed,
                             .y = {part, forward_behind(part, rows * keys), forward_behind(part, rows * 2 * keys),
                                   f->state_gates}};
    struct matmul_args down = {.n_weights = 2, .y = {f->delta_low, low}, .x = f->normed};
    struct matmul_args alpha = {.n_weights = 1, .y = {forward_behind(f->state_gates, rows * d->v_heads)},
                                .x = f->delta_low};
    struct matmul_args gate = {.n_weights = 1, .y = {f->delta_gates}, .x = low};
    multiply(f, layer, b, &in, inputs);
    multiply(f, layer, b, &down, downs);
    multiply(f, layer, b, &alpha, alphas);
    multiply(f, layer, b, &gate, gates);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t width = i < 2 ? (uint32_t)keys : d->inner;
        struct copy_args c = {.from = in.y[i], .to = forward_behind(f->channels, i * keys), .from_stride = width,
                              .to_stride = d->channels, .width = width, .count = b->n};
        f->device->backend->copy(f->device, &c);
    }
}

/* Of one tensor, a key head's betas are followed by its alphas; of two, all betas by all alphas. */
static void set_gates(const struct forward *f, struct delta_args *a, bool both)
{
    uint32_t heads = f->h->delta.v_heads, each = heads / f->h->delta.k_heads;
    a->beta = f->state_gates;
    a->alpha = forward_behind(f->state_gates, both ? each : (size_t)f->rows_max * heads);
    a->gate_row = both ? 2 * heads : heads;
    a->gate_group = both ? 2 * each : each;
}

void delta_attend(struct forward *f, uint32_t layer, const struct forward_batch *b)
{
    const struct delta_shape *shape = &f->h->delta;
    const struct backend *ops = f->device->backend;
    struct weight *const *w = f->weights->layers[layer].at;
    bool by_channel = f->h->arch->delta_by_channel;
    size_t states = (size_t)f->state_of[layer] * 2 * f->sequences_max * shape->state_values;
    struct delta_args a = {
        .k_heads = shape->k_heads, .v_heads = shape->v_heads, .k_dim = shape->k_dim, .v_dim = shape->v_dim,
        .kernel = shape->kernel, .tiled = (f->h->arch->flags & ARCH_DELTA_TILED) != 0, .eps = f->h->norm_eps,
        .by_channel = by_channel, .conv = {w[ROLE_DELTA_CONV], w[ROLE_DELTA_CONV_K], w[ROLE_DELTA_CONV_V]},
        .a = w[ROLE_DELTA_A], .dt = w[ROLE_DELTA_DT], .x = f->channels, .work = f->convolved,
        .states = forward_behind((struct span){f->state_mem, 0}, states),
        .state_values = shape->state_values, .runs = b->runs, .n_runs = b->n_runs, .out = f->mixed};
    struct norm_args norm = {.weight = w[ROLE_DELTA_NORM], .x = f->mixed, .y = f->mixed, .n_rows = b->n,
                             .width = shape->inner, .group = shape->v_dim, .eps = f->h->norm_eps};
    struct glu_args glu = {.act = by_channel ? ACT_SIGMOID : ACT_SILU, .gate = f->delta_gates, .up = f->mixed,
                           .out = f->mixed, .n_rows = b->n, .width = shape->inner};
    uint64_t t = forward_start(f);
    forward_norm(f, w[ROLE_ATTN_NORM], NULL, f->x, f->normed, b->n);
    forward_lap(f, &f->times.norm_ns, &t);
    if (by_channel)
        project_by_channel(f, layer, b);
    else
        project(f, layer, b);
    set_gates(f, &a, w[ROLE_DELTA_BOTH] != NULL);
    forward_lap(f, &f->times.matmul_ns, &t);
    ops->delta(f->device, &a);
    ops->norm(f->device, &norm);
    ops->glu(f->device, &glu);
    forward_lap(f, &f->times.attention_ns, &t);
}
