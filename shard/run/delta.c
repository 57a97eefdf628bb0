/* delta: layers that keep a state of fixed size (a gated delta net) in place of keys and values:
 *
 *     a = norm(x);  c, z = Wc a, Wz a;  o = delta(c, two gates of a);  x += Wo (norm(o) * silu(z))
 */
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
    uint64_t t = forward_start(f);
    forward_norm(f, w[ROLE_ATTN_NORM], NULL, f->x, f->normed, n);
    forward_lap(f, &f->times.norm_ns, &t);
    f->device->backend->matmul(f->device, &in);
    for (int i = 0; i < in.n_weights; i++)
        forward_lora(f, layer, both && i == 2 ? ROLE_DELTA_BOTH : alone[i], b->lora, f->normed, in.y[i]);
    forward_lap(f, &f->times.matmul_ns, &t);
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
    size_t states = (size_t)f->state_of[layer] * 2 * f->sequences_max * shape->state_values;
    struct delta_args a = {
        .k_heads = shape->k_heads, .v_heads = shape->v_heads, .k_dim = shape->k_dim, .v_dim = shape->v_dim,
        .kernel = shape->kernel, .tiled = (f->h->arch->flags & ARCH_DELTA_TILED) != 0, .eps = f->h->norm_eps,
        .conv = w[ROLE_DELTA_CONV], .a = w[ROLE_DELTA_A], .dt = w[ROLE_DELTA_DT], .x = f->channels,
        .work = f->convolved, .states = forward_behind((struct span){f->state_mem, 0}, states),
        .state_values = shape->state_values, .runs = b->runs, .n_runs = b->n_runs, .out = f->mixed};
    struct norm_args norm = {.weight = w[ROLE_DELTA_NORM], .x = f->mixed, .y = f->mixed, .n_rows = b->n,
                             .width = shape->inner, .group = shape->v_dim, .eps = f->h->norm_eps};
    struct glu_args glu = {.act = ACT_SILU, .gate = f->delta_gates, .up = f->mixed, .out = f->mixed, .n_rows = b->n,
                           .width = shape->inner};
    project(f, layer, b);
    set_gates(f, &a, w[ROLE_DELTA_BOTH] != NULL);
    uint64_t t = forward_start(f);
    ops->delta(f->device, &a);
    ops->norm(f->device, &norm);
    ops->glu(f->device, &glu);
    forward_lap(f, &f->times.attention_ns, &t);
}
